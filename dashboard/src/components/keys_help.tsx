/** The list of keys that work now. */
import { useSignal } from "@preact/signals";
import { Modal } from "./dialog";
import { keysOn, registered, switchKeys, useKeys } from "../app/keys";

export function KeysHelp() {
  const open = useSignal(false);
  useKeys([{ key: "?", does: "this list", act: () => (open.value = true) }]);
  return (
    <>
      <button class="quiet" onClick={() => (open.value = true)} aria-label="Keys" title="Keys (?)">?</button>
      {open.value && <List close={() => (open.value = false)} />}
    </>
  );
}

function List({ close }: { close: () => void }) {
  return (
    <Modal title="Keys" close={close}>
      <h2>Keys</h2>
      <table class="keys">
        <tbody>
          {registered.value.flat().map(({ key, does }) => (
            <tr key={key}><th scope="row">{key.split(" ").map((one) => <kbd>{one}</kbd>)}</th><td>{does}</td></tr>
          ))}
        </tbody>
      </table>
      <label><input type="checkbox" checked={keysOn.value} onChange={(event) => switchKeys(event.currentTarget.checked)} /> Pages of this browser take single keys</label>
      <div class="actions"><button onClick={close}>Close</button></div>
    </Modal>
  );
}
