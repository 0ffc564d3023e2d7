/** The list of keys that work now. */
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { keysAreOn, registered, switchKeys, useKeys } from "../app/keys";

export function KeysHelp() {
  const open = useSignal(false);
  useKeys({ "?": ["this list", () => (open.value = true)] });
  return (
    <>
      <button class="quiet" onClick={() => (open.value = true)} aria-label="Keys" title="Keys (?)">?</button>
      {open.value && <List close={() => (open.value = false)} />}
    </>
  );
}

function List({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const rows = registered.value.flatMap((keys) => Object.entries(keys));
  return (
    <dialog ref={dialog} aria-label="Keys" onClose={close}>
      <h2>Keys</h2>
      <table class="keys">
        <tbody>
          {rows.map(([key, [text]]) => (
            <tr><th scope="row">{key.split(" ").map((one) => <kbd>{one}</kbd>)}</th><td>{text}</td></tr>
          ))}
        </tbody>
      </table>
      <label><input type="checkbox" checked={keysAreOn.value} onChange={(event) => switchKeys(event.currentTarget.checked)} /> Keys work</label>
      <div class="actions"><button onClick={close}>Close</button></div>
    </dialog>
  );
}
