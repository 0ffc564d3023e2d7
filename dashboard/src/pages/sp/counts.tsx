/** How many jobs are in which state at present, and what they cost; each count filters the list. */
import type { JobsSummary } from "../../api/answers";
import { ntx, whole } from "../../app/format";
import { queryValue, setQuery } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { hour } from "../../app/clock";
import { useView } from "../../app/view";
import { Trouble } from "../../components/parts";
import { Status } from "../../components/status";
import { all, clock, GROUPS, wantedOfAnyStatus } from "./filters";


const TYPES = ["job"];

export function Counts() {
  const query = wantedOfAnyStatus(clock());
  const { answer, error, reload } = useView<JobsSummary>("/jobs/summary", { query, types: TYPES, anewWith: hour.value }); // "failed in 24 h" grows less by itself
  const summary = answer.value?.body;
  const chosen = queryValue("status");
  const running = summary?.by_status["running"] ?? 0;
  usePageTitle("Jobs", running > 0 ? `▶ ${whole(running)} running` : "");
  return (
    <>
      <div class="row counts" role="group" aria-label="Jobs by state">
        {GROUPS.map(({ name, statuses, shown }) => {
          const count = statuses.reduce((sum, status) => sum + (summary?.by_status[status] ?? 0), 0);
          const value = statuses.join(",");
          const pressed = chosen === value;
          if (count === 0 && !pressed && name === "expired") return null;
          return (
            <button key={name} class="count" aria-pressed={pressed} onClick={() => setQuery({ status: pressed ? "" : value }, false)}>
              <Status status={shown} word={name} /> <b>{summary ? whole(count) : "–"}</b>
              {name === "failed" && count > 0 && <small class="faint">{whole(summary?.failed_in_24_hours ?? 0)} in 24 h</small>}
            </button>
          );
        })}
        <span class="push spent">{summary && summary.open_ntx !== "0" && <span title="what the jobs that are not over cost, if all complete">open: at most <b>{ntx(summary.open_ntx)}</b> · </span>}spent <b>{summary ? ntx(summary.spent_ntx) : "–"}</b></span>
      </div>
      <Trouble text={error.value && `The counts may be old: ${error.value}`} retry={reload} />
    </>
  );
}

/** "0 of 9,000 match": of all jobs, however few the filters leave. */
export function OfAll({ shown }: { shown: number }) {
  const summary = useView<JobsSummary>("/jobs/summary", { query: all, types: TYPES }).answer.value?.body;
  return <span>{whole(shown)}{summary && ` of ${whole(summary.total)}`} match</span>;
}
