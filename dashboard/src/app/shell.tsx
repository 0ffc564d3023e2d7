/** What every page has around it: where one can go, and how fresh what is shown is. */
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { KeysHelp } from "../components/keys_help";
import { Toasts } from "../components/toasts";
import "../styles/shell.css";
import { link } from "../live/live";
import { href, moment, place } from "./router";
import { storedTheme, storeTheme, type Theme } from "./theme_choice";
import { duration, whole } from "./format";
import { now } from "./view";

const ROLES = [
  { at: "/sp", name: "Service provider", pages: [["/sp", "Jobs"], ["/sp/new", "New job"]] },
  { at: "/cp", name: "Compute provider", pages: [["/cp", "Machine"], ["/cp/jobs", "Jobs"], ["/cp/earnings", "Earnings"], ["/cp/settings", "Settings"]] },
] as const;

export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = place.value;
  const role = ROLES.find(({ at }) => path === at || path.startsWith(`${at}/`));
  return (
    <>
      <a class="skip" href="#main">Skip to the page</a>
      <header class="bar">
        <a class="brand" href={href("/")}>DMS</a>
        <nav aria-label="Dashboards">
          {ROLES.map(({ at, name }) => (
            <a href={href(at)} aria-current={role?.at === at ? "true" : undefined}>{name}</a>
          ))}
          <a href={href("/peers")} aria-current={path === "/peers" ? "page" : undefined}>Peers</a>
        </nav>
        <Freshness />
        <KeysHelp />
        <ThemeSwitch />
      </header>
      {role && (
        <nav class="pages" aria-label={role.name}>
          {role.pages.map(([at, name]) => (
            <a href={href(at)} aria-current={path === at ? "page" : undefined}>{name}</a>
          ))}
        </nav>
      )}
      <main id="main" tabIndex={-1} class={link.value.state === "live" ? undefined : "stale"}>{children}</main>
      <Toasts />
    </>
  );
}

/** "live · position 1,234 · 0.2 s ago", or how long nothing was heard. */
export function Freshness() {
  const { state, position, lastHeard, reason } = link.value;
  const seconds = Math.max(0, (Math.max(now.value, lastHeard) - lastHeard) / 1000);
  if (moment.value) return <span class="fresh past">the past</span>;
  if (state === "live")
    return <span class="fresh live" data-testid="freshness"><i aria-hidden="true" /> live · position {whole(position)} · {seconds.toFixed(1)} s ago</span>;
  const since = lastHeard ? `, last seen ${duration(seconds)} ago` : "";
  return <span class="fresh lost" data-testid="freshness" role="status" title={reason}><i aria-hidden="true" /> {state}{since}</span>;
}

function ThemeSwitch() {
  const theme = useSignal(storedTheme());
  const next: Record<Theme, Theme> = { system: "dark", dark: "light", light: "system" };
  const change = () => storeTheme((theme.value = next[theme.value]));
  return <button class="quiet" onClick={change} title={`Theme: ${theme.value}`} aria-label={`Theme: ${theme.value}; change it`}>◐</button>;
}
