/** A line that is too long for its row, whole and wrapped. */
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { failure } from "../../api/client";
import { whole } from "../../app/format";
import type { OutputLine } from "../../live/protocol";
import { Trouble } from "../parts";
import { Text } from "./line_row";

interface Props {
  line: OutputLine;
  wanted: RegExp | null;
  fetch: (seq: number) => Promise<OutputLine | undefined>;
  close: () => void;
}

export function WholeLine({ line, wanted, fetch, close }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const found = useSignal<OutputLine>(line);
  const error = useSignal("");
  useEffect(() => {
    dialog.current?.showModal();
    fetch(line.seq).then((all) => (found.value = all ?? line), (failed: unknown) => (error.value = failure(failed)));
  }, []);
  const copy = () => void navigator.clipboard.writeText(found.value.text).catch((failed: unknown) => (error.value = failure(failed)));
  return (
    <dialog class="whole-line" ref={dialog} aria-label={`Line ${line.seq}`} onClose={close}>
      <div class="row">
        <h2>Line {whole(line.seq)}</h2>
        <button class="push" disabled={found.value.cut} onClick={copy}>Copy</button>
        <button onClick={close}>Close</button>
      </div>
      <Trouble text={error.value} />
      <div class="line wrapped" tabIndex={0} role="group" aria-label="Its text"><Text line={found.value} options={{ wanted }} /></div>
    </dialog>
  );
}
