/**
 * The output of a job, of any length: windows of it are fetched by line number and few rows are in the document. New lines
 * come by the live stream. `#L123` in the address shows that line; `?stream=` and `?find=` are kept there, too.
 */
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useKeys } from "../../app/keys";
import { place, queryValue, setQuery } from "../../app/router";
import type { OutputLine } from "../../live/protocol";
import { Empty, OnlyNow, Trouble } from "../parts";
import { VirtualList, type ListHandle } from "../virtual_list";
import { finder } from "./highlight";
import { OutputRow } from "./line_row";
import { outputOf, type OutputJob, type StreamFilter } from "./output_api";
import { OutputSearch } from "./search";
import { remembered } from "./settings";
import { OutputTools } from "./tools";
import { OutputViewer } from "./viewer";
import { WholeLine } from "./whole_line";
import "../../styles/output.css";

const ROW_PX = 20;

/** job: of which this node is the requester or the provider. A job with another id needs another `key`. */
export function Output({ job }: { job: OutputJob }) {
  const api = useMemo(() => outputOf(job), [job.job_id, job.log_url]);
  const viewer = useMemo(() => new OutputViewer(api), [api]);
  const search = useMemo(() => new OutputSearch(api.search, () => viewer.stream.peek(), (seq) => void viewer.goTo(seq)), [viewer]);
  const [wraps, times] = [useSignal(remembered("wrap")), useSignal(remembered("times"))];
  const whole = useSignal<OutputLine | null>(null);
  const list = useRef<ListHandle>(null);
  const marked = useComputed(() => lineOf(place.value.hash));
  const wanted = useComputed(() => finder(search.wanted.value, search.matchCase.value));

  useEffect(() => {
    search.wanted.value = queryValue("find");
    void viewer.open(streamOf(queryValue("stream")), lineOf(location.hash.slice(1)));
    if (search.wanted.value) void search.run();
    return () => {
      viewer.close();
      search.close();
    };
  }, [viewer]);
  useSignalEffect(() => {
    const line = marked.value;
    if (line > 0 && viewer.facts.peek()) void viewer.goTo(line);
  });
  useMoves(viewer, list);
  useKeys([
    { key: "f", does: "follow the output, or pause it", act: () => viewer.toggle() },
    { key: "/", does: "search in the output", act: () => document.getElementById("output-search")?.focus() },
    { key: "n", does: "next hit of the search", act: () => void search.step(1) },
    { key: "N", does: "previous hit of the search", act: () => void search.step(-1) },
    { key: "w", does: "wrap long lines, or not", act: () => (wraps.value = !wraps.value) },
  ]);

  const choose = (stream: StreamFilter) => {
    setQuery({ stream });
    void viewer.setStream(stream).then(() => search.run());
  };
  return (
    <section class="output" aria-label="Output">
      <OutputTools viewer={viewer} search={search} wraps={wraps} times={times} marked={marked.value} choose={choose} download={api.downloadUrl(viewer.stream.value)} />
      <Trouble text={viewer.error.value} retry={() => void viewer.toEnd()} />
      <OnlyNow>Output lines are no events: this is all that is here of them now, also what was printed after the moment that you look at.</OnlyNow>
      <Damage text={viewer.facts.value?.damage ?? ""} />
      <Lines viewer={viewer} job={job} list={list} wraps={wraps.value} row={(index) => (
        <OutputRow key={keyOf(viewer, index)} shown={viewer.at(index)} of={viewer.count} position={index}
          options={{ wanted: wanted.value, marked: [marked.value, search.line.value], times: times.value, showWhole: (line) => (whole.value = line) }} />
      )} />
      {whole.value && <WholeLine line={whole.value} wanted={wanted.value} fetch={api.wholeLine} close={() => (whole.value = null)} />}
    </section>
  );
}

interface LinesProps {
  viewer: OutputViewer;
  job: OutputJob;
  list: { current: ListHandle | null };
  wraps: boolean;
  row: (index: number) => ComponentChildren;
}

function Lines({ viewer, job, list, wraps, row }: LinesProps) {
  void viewer.version.value;
  const facts = viewer.facts.value;
  if (!facts) return viewer.error.value ? null : <p class="faint" aria-busy="true">Loading the output…</p>;
  if (viewer.isLooking) return <p class="faint" aria-busy="true">Looking for lines of {viewer.stream.value}…</p>;
  if (viewer.count === 0) return <Nothing viewer={viewer} job={job} />;
  const up = (event: WheelEvent) => event.deltaY < 0 && (list.current?.top().index ?? 0) > 0 && viewer.hold();
  return (
    <div onWheel={up}>
      <VirtualList count={viewer.count} rowPx={ROW_PX} label="Lines of the output" row={row} wraps={wraps} handle={list} class="lines"
        sticky={viewer.following.value} seen={(first, last) => viewer.seen(first, last)} scrolled={(atEnd) => viewer.scrolled(atEnd)} />
    </div>
  );
}

/** Scrolls once what is to be seen is drawn. */
function useMoves(viewer: OutputViewer, list: { current: ListHandle | null }): void {
  void viewer.version.value;
  const stood = list.current?.top();
  useLayoutEffect(() => {
    const move = viewer.move.peek();
    viewer.move.value = null;
    if (move?.to === "end") list.current?.toEnd();
    if (move?.to === "line") list.current?.toRow(viewer.rows.indexOf(move.seq));
    if (move?.to === "stay" && move.added !== 0 && stood) list.current?.restore(stood.index + move.added, stood.abovePx);
  });
}

/** Why there are no lines. */
function Nothing({ viewer, job }: { viewer: OutputViewer; job: OutputJob }) {
  const facts = viewer.facts.value;
  if (viewer.stream.value !== "" && facts && facts.total > 0) return <Empty title={`Nothing of ${facts.total.toLocaleString("en")} lines was printed to ${viewer.stream.value}`} />;
  if (facts?.sealed) return <Empty title="The job printed nothing" />;
  if (job.status === "running") return <Empty title="Nothing printed yet"><p>Lines appear here as soon as the job prints them.</p></Empty>;
  return <Empty title="Not started"><p>The job is {job.status}. Its output appears here once it runs.</p></Empty>;
}

function Damage({ text }: { text: string }) {
  return text ? <p class="notice" role="status">This is not what was sealed when the job ended: {text}</p> : null;
}

function keyOf(viewer: OutputViewer, index: number): string {
  const shown = viewer.at(index);
  return shown.kind === "line" ? String(shown.seq) : shown.kind === "growing" ? shown.growing.stream : `${shown.kind}${index}`;
}

/** "L123" -> 123; else 0. */
export const lineOf = (hash: string): number => Number(/^L([1-9]\d{0,14})$/.exec(hash)?.[1] ?? 0);

const streamOf = (text: string): StreamFilter => (text === "stdout" || text === "stderr" ? text : "");
