/** The service provider's jobs: what they do now, what they cost, and what can be done with them. */
import { useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { counted } from "../../app/format";
import { useKeys } from "../../app/keys";
import { narrow } from "../../app/narrow";
import { go, href, moment, queryValue, setQuery } from "../../app/router";
import { Announced, Empty, Trouble } from "../../components/parts";
import { VirtualList, type ListHandle } from "../../components/virtual_list";
import { AgainDialog } from "./again_dialog";
import { Counts, OfAll } from "./counts";
import { FilterBar } from "./filter_bar";
import { moved, NOWHERE, placeOf } from "./cursor";
import { areFiltered, CLEARED, clock, stoppable, wanted, wantedOfAnyStatus } from "./filters";
import { JobListRow, MissingRow } from "./job_row";
import { REQUESTED, useJobRows } from "../../app/job_rows";
import { useSelection } from "./selection";
import { SelectionBar } from "./selection_bar";
import { StopDialog } from "./stop_dialog";
import "../../styles/sp.css";

const [ROW_PX, NARROW_ROW_PX] = [46, 74];

export function ServiceProviderJobs() {
  const shown = useJobRows(wanted(clock()), moment.value, REQUESTED);
  const rows = shown.value;
  void rows?.version.value;
  const selection = useSelection(() => shown.peek());
  const cursor = useSignal(NOWHERE);
  const stopping = useSignal<readonly string[] | null>(null);
  const again = useSignal<readonly string[] | null>(null);
  const search = useRef<HTMLInputElement>(null);
  const list = useRef<ListHandle>(null);
  const sight = useRef<[first: number, last: number]>([0, 0]);
  const total = rows?.list.total ?? 0;
  const rowPx = narrow.value ? NARROW_ROW_PX : ROW_PX;
  const at = rows ? placeOf(cursor.value, rows.list) : -1;
  const current = rows?.list.get(at);
  const move = (by: number) => {
    if (!rows) return;
    cursor.value = moved(cursor.peek(), by, rows.list);
    const { index } = cursor.peek();
    if (index < sight.current[0] || index >= sight.current[1] - 1) list.current?.toRow(index);
  };
  useKeys([
    { key: "/", does: "search", act: () => search.current?.focus() },
    { key: "j", does: "next job", act: () => move(1) },
    { key: "k", does: "job before", act: () => move(-1) },
    { key: "Enter", does: "open the job", act: () => current && go(`/sp/jobs/${current.job_id}`) },
    { key: "x", does: "select the job", act: () => current && selection.toggle(current.job_id, false) },
    { key: "n", does: "new job", act: () => go("/sp/new") },
  ]);
  const filtered = areFiltered();
  const known = new Map(selection.ids.value);
  const nameOf = (jobId: string) => known.get(jobId) ?? rows?.list.get(rows.list.indexOf(jobId))?.image ?? "";
  const closed = (changed: boolean) => {
    [stopping.value, again.value] = [null, null];
    if (changed) selection.clear();
  };
  return (
    <section class="sp-jobs">
      <div class="row title"><h1>Jobs</h1><a class="button primary push" href={href("/sp/new")}>New job</a></div>
      <Counts />
      <FilterBar search={search} />
      <Trouble text={rows?.error.value ?? ""} retry={() => rows?.reload()} />
      <Announced of={rows} text={rows?.ready.value ? counted(total, "job") : ""} />
      <p class="row found">
        {rows?.ready.value && filtered && <OfAll shown={total} />}
        {rows?.ready.value && filtered && total === 0 && <>· <button class="link" onClick={() => setQuery(CLEARED, false)}>clear</button></>}
        {rows?.ready.value && !filtered && total > 0 && counted(total, "job")}
      </p>
      <SelectionBar selection={selection} stop={(ids) => (stopping.value = ids)} again={(ids) => (again.value = ids)} openOnes={{ ...wantedOfAnyStatus(clock()), status: stoppable(queryValue("status")) }} />
      {rows?.ready.value && total === 0 && !filtered && (
        <Empty title="No jobs yet">
          <p>Say what is to be run; then you see who would run it, and for how much, before anything is paid.</p>
          <p><a class="button primary" href={href("/sp/new")}>New job</a></p>
        </Empty>
      )}
      {total > 0 && rows && (
        <div style={{ "--rows": `${total * rowPx + 2}px` }}><VirtualList
          class="jobs" label="Jobs" count={total} rowPx={rowPx} handle={list}
          seen={(first, last) => {
            sight.current = [first, last];
            rows.seen(first, last);
          }}
          row={(index) => {
            const job = rows.list.get(index);
            if (!job) return <MissingRow key={rows.keyOf(index)} />;
            return (
              <JobListRow
                key={rows.keyOf(index)} job={job} current={index === at} selected={selection.ids.value.has(job.job_id)}
                select={(range) => selection.toggle(job.job_id, range)} stop={() => (stopping.value = [job.job_id])}
              />
            );
          }}
        /></div>
      )}
      {stopping.value && <StopDialog jobIds={stopping.value} nameOf={nameOf} close={closed} />}
      {again.value && <AgainDialog jobIds={again.value} nameOf={nameOf} close={closed} />}
    </section>
  );
}
