/** What every page has around it: where one can go, and how fresh what is shown is. */
import type { ComponentChildren } from "preact";
import { useSignal } from "@preact/signals";
import { KeysHelp } from "../components/keys_help";
import { Toasts } from "../components/toasts";
import "../styles/shell.css";
import { ErrorBoundary } from "./error_boundary";
import { Freshness } from "./freshness";
import { JobNotices } from "./job_notices";
import { useKeys } from "./keys";
import { go, href, place } from "./router";
import { StaleNotice } from "./stale_notice";
import { storedTheme, storeTheme, type Theme } from "./theme_choice";

const ROLES = [
  { at: "/sp", name: "Service provider", pages: [["/sp", "Jobs"], ["/sp/new", "New job"]] },
  { at: "/cp", name: "Compute provider", pages: [["/cp", "Machine"], ["/cp/jobs", "Jobs"], ["/cp/earnings", "Earnings"], ["/cp/settings", "Settings"]] },
] as const;

export function Shell({ children }: { children: ComponentChildren }) {
  const { path } = place.value;
  useKeys([
    { key: "g j", does: "go to the jobs that you asked for", act: () => go("/sp") },
    { key: "g c", does: "go to this machine", act: () => go("/cp") },
    { key: "g p", does: "go to the peers", act: () => go("/peers") },
  ]);
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
        <JobNotices />
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
      <StaleNotice />
      <main id="main" tabIndex={-1}><ErrorBoundary at={path}>{children}</ErrorBoundary></main>
      <Toasts />
    </>
  );
}

function ThemeSwitch() {
  const theme = useSignal(storedTheme());
  const next: Record<Theme, Theme> = { system: "dark", dark: "light", light: "system" };
  const change = () => storeTheme((theme.value = next[theme.value]));
  return <button class="quiet" onClick={change} title={`Theme: ${theme.value}`} aria-label={`Theme: ${theme.value}; change it`}>◐</button>;
}
