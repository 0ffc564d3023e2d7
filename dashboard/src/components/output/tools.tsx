/** What can be done with the output: follow, filter, search, show otherwise, download. */
import type { Signal } from "@preact/signals";
import { whole } from "../../app/format";
import { setQuery } from "../../app/router";
import { Press } from "../press";
import { toast } from "../toasts";
import type { StreamFilter } from "./output_api";
import type { OutputSearch } from "./search";
import { remember } from "./settings";
import type { OutputViewer } from "./viewer";

const STREAMS: readonly (readonly [StreamFilter, string])[] = [["", "all"], ["stdout", "stdout"], ["stderr", "stderr"]];

interface Props {
  viewer: OutputViewer;
  search: OutputSearch;
  wraps: Signal<boolean>;
  times: Signal<boolean>;
  /** The line of the address; 0: none. */
  marked: number;
  choose: (stream: StreamFilter) => void;
  download: string;
}

export function OutputTools({ viewer, search, wraps, times, marked, choose, download }: Props) {
  return (
    <div class="tools row">
      <Follow viewer={viewer} />
      <fieldset class="streams">
        <legend class="hidden">Streams</legend>
        {STREAMS.map(([stream, name]) => (
          <label><input type="radio" name="output-stream" checked={viewer.stream.value === stream} onChange={() => choose(stream)} /> {name}</label>
        ))}
      </fieldset>
      <Search search={search} />
      <Option name="wrap" on={wraps} text="wrap" />
      <Option name="times" on={times} text="times" />
      {marked > 0 && <button onClick={() => copyLink(marked)}>Copy link to line {whole(marked)}</button>}
      <a class="button" href={download} download>Download</a>
      <Amount viewer={viewer} />
    </div>
  );
}

function Follow({ viewer }: { viewer: OutputViewer }) {
  const [mode, facts, unseen] = [viewer.mode.value, viewer.facts.value, viewer.unseen.value];
  if (facts?.sealed && unseen === 0) return <button onClick={() => void viewer.toEnd()}>↓ End</button>;
  if (mode === "follow") return <button aria-pressed="true" onClick={() => viewer.toggle()} title="New lines appear as they come. Pause: nothing moves">❚❚ Pause</button>;
  return <button class="primary" aria-pressed="false" onClick={() => viewer.toggle()} title="Show the newest lines, and go on with them">{unseen > 0 ? `↓ ${whole(unseen)} new` : "▶ Follow"}</button>;
}

function Search({ search }: { search: OutputSearch }) {
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Enter") void search.step(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") search.type("");
  };
  const typed = (text: string) => {
    search.type(text);
    setQuery({ find: text });
  };
  const cased = (matchCase: boolean) => {
    search.matchCase.value = matchCase;
    void search.run();
  };
  const noHit = search.count.value > 0 ? "" : search.wanted.value ? "Nothing was found." : "Type what to search for first.";
  return (
    <span class="search row" role="search">
      <input id="output-search" type="search" maxLength={256} placeholder="search" aria-label="Search in the output" value={search.wanted.value} onKeyDown={keys} onInput={(event) => typed(event.currentTarget.value)} />
      <label title="Tell upper and lower case apart"><input type="checkbox" checked={search.matchCase.value} onChange={(event) => cased(event.currentTarget.checked)} /> Aa</label>
      <Press label="Previous hit" why={noHit} onPress={() => void search.step(-1)}>↑</Press>
      <Press label="Next hit" why={noHit} onPress={() => void search.step(1)}>↓</Press>
      <span class="faint" role="status">{search.words}</span>
    </span>
  );
}

function Option({ name, on, text }: { name: "wrap" | "times"; on: Signal<boolean>; text: string }) {
  const change = (checked: boolean) => {
    on.value = checked;
    remember(name, checked);
  };
  return <label><input type="checkbox" checked={on.value} onChange={(event) => change(event.currentTarget.checked)} /> {text}</label>;
}

function Amount({ viewer }: { viewer: OutputViewer }) {
  const facts = viewer.facts.value;
  if (!facts) return null;
  return <span class="faint push">{whole(facts.total)} {facts.total === 1 ? "line" : "lines"}{facts.sealed ? " · complete" : ""}</span>;
}

function copyLink(line: number): void {
  const link = new URL(location.href);
  link.hash = `L${line}`;
  navigator.clipboard.writeText(link.href).then(
    () => toast(`The link to line ${line} is copied.`),
    () => toast("The browser did not allow copying; the address of this page is the link."),
  );
}
