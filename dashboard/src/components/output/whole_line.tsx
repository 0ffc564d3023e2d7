/** A line that is too long for its row, whole and wrapped. */
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { failure } from "../../api/client";
import { whole } from "../../app/format";
import type { OutputLine } from "../../live/protocol";
import { Modal } from "../dialog";
import { Trouble } from "../parts";
import { Press } from "../press";
import { Text } from "./line_row";

interface Props {
  line: OutputLine;
  wanted: RegExp | null;
  fetch: (seq: number) => Promise<OutputLine | undefined>;
  close: () => void;
}

export function WholeLine({ line, wanted, fetch, close }: Props) {
  const found = useSignal<OutputLine>(line);
  const error = useSignal("");
  useEffect(() => {
    fetch(line.seq).then((all) => (found.value = all ?? line), (failed: unknown) => (error.value = failure(failed)));
  }, []);
  const copy = () => void navigator.clipboard.writeText(found.value.text).catch((failed: unknown) => (error.value = failure(failed)));
  return (
    <Modal class="whole-line" title={`Line ${line.seq}`} close={close}>
      <div class="row">
        <h2>Line {whole(line.seq)}</h2>
        <Press class="push" why={found.value.cut ? "Its end is not here." : ""} onPress={copy}>Copy</Press>
        <button onClick={close}>Close</button>
      </div>
      <Trouble text={error.value} />
      <div class="line wrapped" tabIndex={0} role="group" aria-label="Its text"><Text line={found.value} options={{ wanted }} /></div>
    </Modal>
  );
}
