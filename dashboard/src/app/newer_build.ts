/** After the DMS was away it may be another version, with another dashboard: then the page offers to load it. */
import { effect } from "@preact/signals";
import { toast } from "../components/toasts";
import { link } from "../live/live";

const own = buildOf(document.documentElement.outerHTML);

export function watchForNewerBuild(): void {
  let wasAway = false;
  effect(() => {
    const { state } = link.value;
    if (state === "live" && wasAway) void compare();
    wasAway = state === "reconnecting";
  });
}

async function compare(): Promise<void> {
  try {
    const answer = await fetch("/dashboard/", { cache: "no-cache" });
    const served = answer.ok ? buildOf(await answer.text()) : "";
    if (served !== "" && served !== own) toast("The DMS has a newer dashboard.", { text: "Load it", run: () => location.reload() });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it is away again; the next time tells
  }
}

/** The names of its files, which hold their digests. */
export function buildOf(page: string): string {
  return [...page.matchAll(/\/dashboard\/assets\/[\w.-]+/g)].map(([name]) => name).sort().join(" ");
}
