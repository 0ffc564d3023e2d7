/** Which images and peers are taken or refused; it holds beside the configuration file. */
import { useEffect, useId } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { replace, type Answer } from "../../api/client";
import type { Policy } from "../../api/answers";
import type { View } from "../../app/view";
import { Action, useDoing } from "../../components/action";
import { Trouble } from "../../components/parts";
import { effect, entriesOf, LIST_NAMES, policyOf, samePolicy, textsOf, wrongList, type ListName, type Texts } from "./policy";

const TITLES: Record<ListName, string> = {
  "images.deny": "Images refused",
  "images.allow": "Images allowed",
  "peers.deny": "Peers refused",
  "peers.allow": "Peers allowed",
};

export function PolicyLists({ policy }: { policy: View<Policy> }) {
  const found = policy.answer.value;
  return (
    <div class="card" data-testid="policy">
      <h2>Whose jobs are taken</h2>
      <p class="faint">
        One entry a line. Images as <code>busybox</code>, <code>ghcr.io/nunet/*</code>, <code>name:tag</code> or <code>sha256:…</code>. The
        configuration’s <code>job.image_allow</code> and <code>job.image_deny</code> hold beside it: both must allow. Running jobs go on. Of a
        refused peer nothing is taken: no job, no file, no chat.
      </p>
      <Trouble text={policy.error.value} retry={policy.reload} />
      {found && <PolicyForm newest={found} />}
    </div>
  );
}

/** What one types stays while others change the lists, and is not saved over what they did. */
function PolicyForm({ newest }: { newest: Answer<Policy> }) {
  const read = useSignal(newest);
  const replaced = useSignal(""); // the tag of what this form replaced, until the view has seen it
  const texts = useSignal<Texts>(textsOf(newest.body));
  const { busy, trouble, run } = useDoing();
  const take = (answer: Answer<Policy>) => void ([read.value, texts.value] = [answer, textsOf(answer.body)]);
  const wrong = LIST_NAMES.map((name) => wrongList(name, texts.value[name])).find((one) => one !== "") ?? "";
  const same = samePolicy(policyOf(texts.value), read.value.body);
  const isOld = ![read.value.tag, replaced.value].includes(newest.tag);
  useEffect(() => {
    if (newest.tag === read.value.tag) replaced.value = "";
    else if (isOld && same) take(newest);
  }, [newest, isOld, same]);
  const save = () => run(async () => {
    const answer = await replace<Policy>("/device/policy", policyOf(texts.value), read.value.tag);
    replaced.value = read.value.tag;
    take(answer);
  });
  return (
    <form class="wide" onSubmit={(event) => event.preventDefault()}>
      <div class="lists">
        {LIST_NAMES.map((name) => <EntriesField key={name} name={name} text={texts.value[name]} onChange={(text) => (texts.value = { ...texts.value, [name]: text })} />)}
      </div>
      <Trouble text={trouble.value} />
      {isOld && !same && (
        <p class="trouble" role="alert">
          The lists were changed elsewhere meanwhile. <button type="button" onClick={() => take(newest)}>Show them instead of mine</button>
        </p>
      )}
      <p class="row">
        <Action need="steer the provider" kind="primary" busy={busy.value} hindrance={wrong || (same ? "Nothing is changed." : "")} onClick={() => void save()}>Save lists</Action>
        {!same && <button type="button" onClick={() => (texts.value = textsOf(read.value.body))}>Undo</button>}
      </p>
    </form>
  );
}

function EntriesField({ name, text, onChange }: { name: ListName; text: string; onChange: (text: string) => void }) {
  const id = useId();
  const wrong = wrongList(name, text);
  return (
    <div class="field">
      <label for={id}>{TITLES[name]}</label>
      <textarea id={id} class="entries" value={text} spellcheck={false} aria-invalid={wrong !== ""} aria-describedby={`${id}-rule`} onInput={(event) => onChange(event.currentTarget.value)} />
      <span id={`${id}-rule`} class={wrong ? "wrong" : "faint"}>{wrong || effect(name, entriesOf(text).length)}</span>
    </div>
  );
}
