/** Where one is: the path below /dashboard, and the state of the page in its query, so that a link or a reload brings both. */
import { computed, signal } from "@preact/signals";

const BASE = "/dashboard";

interface Place {
  path: string;
  query: URLSearchParams;
  hash: string;
}

function here(): Place {
  const path = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : location.pathname;
  return { path: path.replace(/\/+$/, "") || "/", query: new URLSearchParams(location.search), hash: location.hash.slice(1) };
}

export const place = signal<Place>(here());
addEventListener("popstate", () => (place.value = here()));
addEventListener("hashchange", () => (place.value = here()));

export function href(path: string, query: Record<string, string> = {}): string {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `${BASE}${path}${search && `?${search}`}`;
}

/** Who looks at the past goes on doing so on the next page. */
export function go(path: string, query: Record<string, string> = {}): void {
  history.pushState(null, "", href(path, { at: moment.peek(), ...query }));
  place.value = here();
  scrollTo(0, 0);
}

/** Changes the page's state in the address; empty values leave it. replace: without a step for the Back button. */
export function setQuery(change: Record<string, string>, replace = true): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(change)) value === "" ? query.delete(name) : query.set(name, value);
  const search = query.toString();
  history[replace ? "replaceState" : "pushState"](null, "", `${location.pathname}${search && `?${search}`}${location.hash}`);
  place.value = here();
}

export const queryValue = (name: string): string => place.value.query.get(name) ?? "";

/** What is searched for: blanks around it came with what was pasted. */
export const searched = (): string => queryValue("q").trim();

/** The moment that is looked at, as the API's `as_of`; empty: now. */
export const moment = computed(() => queryValue("at"));

/** Follows links of ours without loading the page again. */
export function followLinks(event: MouseEvent): void {
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const to = new URL(link.href, location.href);
  if (to.origin !== location.origin || !to.pathname.startsWith(`${BASE}/`) || link.target || link.download) return;
  if (to.pathname === location.pathname && to.hash) return;
  event.preventDefault();
  if (moment.peek() && !to.searchParams.has("at")) to.searchParams.set("at", moment.peek());
  history.pushState(null, "", to.pathname + to.search + to.hash);
  place.value = here();
  if (!to.hash) scrollTo(0, 0);
}
