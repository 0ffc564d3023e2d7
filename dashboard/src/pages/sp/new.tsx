/** A new job: described, checked and priced as it is typed; then asked for, and paid on its own page. */
import { useEffect, useMemo } from "preact/hooks";
import { plain } from "../../app/format";
import { go, href, queryValue, setQuery } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { Action } from "../../components/action";
import { Trouble } from "../../components/parts";
import { hasPreset, PRESETS, withPreset } from "../../domain/job_draft";
import { fieldOf, nameOf } from "../../domain/job_fields";
import { ChoiceField, idOf, Inputs, TextField, Variables } from "./form_parts";
import { JobForm } from "./job_form";
import { Offers } from "./offers";
import { keepQuote } from "./quotes";
import "../../styles/job_form.css";

export function NewJob() {
  const form = useMemo(() => new JobForm(), []);
  useEffect(() => form.start(), []);
  usePageTitle("New job");
  useEffect(() => {
    const [from, resume] = [queryValue("from"), queryValue("resume")];
    if (!from) return;
    setQuery({ from: "", resume: "" }); // a reload goes on with the draft, and does not fill it anew
    void form.fillFrom(from, resume ? { resumeFrom: resume } : {});
  }, []);
  const ask = async (event: Event) => {
    event.preventDefault();
    const quote = await form.request();
    if (!quote) return document.getElementById("problems")?.focus();
    keepQuote(quote);
    go(`/sp/jobs/${quote.job_id}`);
  };
  return (
    <form class="new-job wide" onSubmit={(event) => void ask(event)} noValidate>
      <div>
        <div class="row title"><h1>New job</h1>
          {form.origin.value && <span class="faint">as <a href={href(`/sp/jobs/${form.origin.value}`)}>{form.origin.value.slice(0, 8)}…</a> was asked for</span>}
          <button type="button" class="push" onClick={() => form.clear()}>Start anew</button></div>
        <Trouble text={form.error.value} />
        <What form={form} />
        <Needs form={form} />
        <More form={form} />
      </div>
      <div class="beside">
        <Offers form={form} />
        <Action need="ask for jobs" kind="primary ask" submits busy={form.busy.value}>{form.busy.value ? "Providers are asked…" : "Ask for it"}</Action>
        <p class="faint">The provider then keeps a place for a while, and you see the terms. Only what you pay yourself is paid.</p>
        <Problems form={form} />
      </div>
    </form>
  );
}

function What({ form }: { form: JobForm }) {
  const { how, resumeFrom } = form.draft.value;
  return (
    <fieldset class="card"><legend>1 · What</legend>
      <TextField form={form} at="/params/image_id" name="image" placeholder="registry.example.org/me/train:1" hint="The container image, with its tag or digest." />
      <div class="row" role="radiogroup" aria-label="What the container is given">
        <label><input type="radio" name="how" checked={how === "command"} onChange={() => form.set({ how: "command" })} /> Command</label>
        <label><input type="radio" name="how" checked={how === "model"} onChange={() => form.set({ how: "model" })} /> Model URL and packages</label>
      </div>
      {how === "command"
        ? <TextField form={form} at="/params/arguments" name="command" lines={3} placeholder="python train.py --epochs 10" hint="As on a command line; quotes keep words together. Empty: the image's own." />
        : <>
            <TextField form={form} at="/params/model_url" name="modelUrl" placeholder="https://example.org/model.py" hint="The container's first argument, as in the original." />
            <TextField form={form} at="/params/packages" name="packages" placeholder="numpy torch" hint="Its second argument, with blanks between." />
          </>}
      {resumeFrom && <p class="notice">It goes on from the checkpoint <code>{plain(resumeFrom)}</code>. <button type="button" class="link" onClick={() => form.set({ resumeFrom: "" })}>Begin anew</button></p>}
    </fieldset>
  );
}

function Needs({ form }: { form: JobForm }) {
  const draft = form.draft.value;
  return (
    <fieldset class="card"><legend>2 · Needs</legend>
      <div class="row presets" role="group" aria-label="Presets">
        {PRESETS.map((preset) => <button type="button" key={preset.name} aria-pressed={hasPreset(draft, preset)} onClick={() => form.set(withPreset(draft, preset))}>{preset.name}</button>)}
        <span class="faint">CPU, memory, GPU memory, power and complexity at once</span>
      </div>
      <div class="needs">
        <TextField form={form} at="/constraints/cpu" name="cpu" unit="MHz" hint="over all cores" />
        <TextField form={form} at="/constraints/ram" name="ram" unit="MB" hint="of memory" />
        <TextField form={form} at="/constraints/time" name="minutes" unit="min" hint="then it is stopped" />
        <TextField form={form} at="/constraints/power" name="power" unit="W" hint="a part of the price" />
        <ChoiceField form={form} at="/constraints/complexity" name="complexity" options={PRESETS.map(({ name }) => [name, name])} hint="decides on the price" />
        <ChoiceField form={form} at="/constraints/network" name="network" options={[["", "as it needs"], ["none", "none"], ["internet", "internet"]]} hint="what the job can reach" />
        <TextField form={form} at="/max_ntx" name="maxNtx" unit="NTX" hint="the most that it may cost" />
        <TextField form={form} at="/retry/max_attempts" name="attempts" unit="times" hint="at another provider where one fails" />
      </div>
      <label class="row"><input type="checkbox" checked={draft.gpu} onChange={({ currentTarget }) => form.set({ gpu: currentTarget.checked })} /> It needs GPUs</label>
      {draft.gpu && (
        <div class="needs">
          <TextField form={form} at="/constraints/gpus" name="gpus" unit="GPUs" hint="one when empty" />
          <TextField form={form} at="/constraints/vram" name="vram" unit="MB" hint="of each" />
          <label class="row"><input type="checkbox" checked={draft.shareGpu} onChange={({ currentTarget }) => form.set({ shareGpu: currentTarget.checked })} /> others may share them</label>
        </div>
      )}
    </fieldset>
  );
}

function More({ form }: { form: JobForm }) {
  const { inputs, env, secrets, results, address, provider } = form.draft.value;
  const used = inputs.length + env.length + secrets.length > 0 || [results, address, provider].some(Boolean);
  return (
    <details class="card" open={used || undefined}><summary>Inputs, variables, results, payment</summary>
      <Inputs form={form} />
      <Variables form={form} at="/params/env" name="env" />
      <Variables form={form} at="/params/secret_env" name="secrets" />
      <TextField form={form} at="/params/results" name="results" lines={2} placeholder="results/*" hint="Patterns of what comes back, one a line, below /workspace. None: /workspace/results, or all that is new." />
      <TextField form={form} at="/address_user" name="address" placeholder="addr1… or 0x…" hint="Your wallet, where a refund goes." />
      <ChoiceField form={form} at="/blockchain" name="blockchain" options={[["", "not said"], ["Cardano", "Cardano"], ["Ethereum", "Ethereum"]]} />
      <TextField form={form} at="/params/node_id" name="provider" placeholder="12D3…" hint="The only provider that may run it; any when empty." />
    </details>
  );
}

/** All that is wrong, with the fields' names. */
function Problems({ form }: { form: JobForm }) {
  const problems = form.problems.value;
  if (problems.length === 0) return null;
  return (
    <div class="notice" id="problems" tabIndex={-1}>
      <b>{problems.length === 1 ? "One thing is missing or wrong" : `${problems.length} things are missing or wrong`}</b>
      <ul>{problems.map(({ pointer, detail }) => <li key={pointer}><a href={`#${idOf(fieldOf(pointer))}`} onClick={(event) => focusField(event, pointer)}>{nameOf(pointer)}</a> {plain(detail)}</li>)}</ul>
    </div>
  );
}

function focusField(event: Event, pointer: string): void {
  event.preventDefault();
  const element = document.getElementById(idOf(fieldOf(pointer)));
  element?.closest("details")?.setAttribute("open", "");
  element?.scrollIntoView({ block: "center" });
  (element?.querySelector<HTMLElement>("input") ?? element)?.focus();
}
