/** What every page has around it: where one can go, and how fresh what is shown is. */
import type { ComponentChildren } from "preact";
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { History, PastFrame, useHistoryKeys } from "../components/history/history";
import { KeysHelp } from "../components/keys_help";
import { Toasts } from "../components/toasts";
import "../styles/shell.css";
import { ErrorBoundary } from "./error_boundary";
import { Freshness } from "./freshness";
import { JobNotices } from "./job_notices";
import { useKeys } from "./keys";
import { LogOut } from "./log_out";
import { go, href, moment, place, setQuery } from "./router";
import { checkSession } from "./session";
import { ClockNotice } from "./clock_notice";
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
  useEffect(() => void checkSession(), []);
  const history = useSignal(moment.peek() !== "");
  const toggleHistory = () => {
    if (history.peek()) setQuery({ at: "" }, false);
    history.value = !history.peek();
  };
  useHistoryKeys(toggleHistory);
  useSignalEffect(() => {
    document.documentElement.classList.toggle("is-past", moment.value !== "");
    if (moment.value) history.value = true;
  });
  const shownPath = useRef(path);
  useEffect(() => {
    if (shownPath.current !== path) document.getElementById("main")?.focus({ preventScroll: true });
    shownPath.current = path;
  }, [path]); // what was pressed went with the page before: who uses keys, or hears the page, begins at the new one
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
        <button class="quiet" aria-expanded={history.value} onClick={toggleHistory}>History</button>
        <JobNotices />
        <KeysHelp />
        <ThemeSwitch />
        <LogOut />
      </header>
      {role && (
        <nav class="pages" aria-label={role.name}>
          {role.pages.map(([at, name]) => (
            <a href={href(at)} aria-current={path === at ? "page" : undefined}>{name}</a>
          ))}
        </nav>
      )}
      {history.value && <History close={() => (history.value = false)} />}
      <StaleNotice />
      <ClockNotice />
      <PastFrame />
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
