/** What happened to a job here, event by event, with the time between. */
import { duration, plain } from "../../app/format";
import { Time } from "../../components/parts";
import type { JobEvent } from "../../api/answers";
import { timeline } from "./deployments";

export function JobTimeline({ events }: { events: readonly JobEvent[] }) {
  return (
    <ol class="steps card" data-testid="timeline">
      {timeline(events).map((row) => (
        <li key={row.position}>
          <Time at={row.time} exact />
          <a href={`#E${row.position}`} title={row.topic}>{plain(row.words)}</a>
          <span class="faint">{row.seconds === null ? "" : `+${duration(row.seconds)}`}</span>
          {row.note && <span class="note">{plain(row.note)}</span>}
        </li>
      ))}
    </ol>
  );
}
