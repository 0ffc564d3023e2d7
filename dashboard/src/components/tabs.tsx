/** Tabs whose choice is in the address. A link to an event (`#E12`) opens the record, one to a line (`#L12`) the output. */
import type { ComponentChildren } from "preact";
import "../styles/tabs.css";
import { place, queryValue, setQuery } from "../app/router";

export interface Tab {
  id: string;
  name: string;
  count?: string;
}

interface Props {
  label: string;
  tabs: readonly Tab[];
  /** Shown where the address says nothing. */
  first: string;
  children: (tab: string) => ComponentChildren;
}

function shownTab(tabs: readonly Tab[], otherwise: string): string {
  const { hash } = place.value;
  const linked = /^E\d+$/.test(hash) ? "record" : /^L\d+$/.test(hash) ? "output" : queryValue("tab");
  return tabs.find(({ id }) => id === linked)?.id ?? otherwise;
}

function choose(tab: string): void {
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  setQuery({ tab }, false);
}

export function Tabs({ label, tabs, first, children }: Props) {
  const shown = shownTab(tabs, first);
  const keys = (event: KeyboardEvent): void => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? tabs.length - 1 : 0;
    const next = tabs[(tabs.findIndex(({ id }) => id === shown) + by) % tabs.length];
    if (!by || !next) return;
    choose(next.id);
    document.getElementById(`tab-${next.id}`)?.focus();
  };
  return (
    <>
      <div class="tabs" role="tablist" aria-label={label} onKeyDown={keys}>
        {tabs.map(({ id, name, count }) => (
          <button key={id} role="tab" id={`tab-${id}`} aria-selected={id === shown} aria-controls="tab-panel" tabIndex={id === shown ? 0 : -1} onClick={() => choose(id)}>{name}{count && <span class="faint"> {count}</span>}</button>
        ))}
      </div>
      <div role="tabpanel" id="tab-panel" aria-labelledby={`tab-${shown}`}>{children(shown)}</div>
    </>
  );
}
