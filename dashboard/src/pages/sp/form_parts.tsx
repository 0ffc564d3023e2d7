/** Fields of the job form: each with its label, what the schema says of it, and what is wrong with it. */
import type { ComponentChildren } from "preact";
import { afterClick } from "../../app/pointer";
import type { Draft, InputDraft, Variable } from "../../domain/job_draft";
import { fieldOf, nameOf } from "../../domain/job_fields";
import { partAt } from "../../domain/json_schema";
import type { JobForm } from "./job_form";

type Texts = { [K in keyof Draft]: Draft[K] extends string ? K : never }[keyof Draft];

interface FieldProps {
  form: JobForm;
  /** JSON pointer into the request. */
  at: string;
  name: Texts;
}

export const idOf = (pointer: string): string => `f${pointer.replace(/[^\w]+/g, "-")}`;

/** What is wrong is told below the field, which moves what follows: not while that is being clicked. */
const leave = (form: JobForm, at: string): void => afterClick(() => form.touch(at));

/** Of a field or in it, once it was touched. */
function shownProblems(form: JobForm, at: string): string[] {
  const touched = form.touched.value;
  if (touched !== "all" && !touched.has(at)) return [];
  return form.problems.value.filter(({ pointer }) => fieldOf(pointer) === at).map(({ pointer, detail }) => (pointer === at ? detail : `${nameOf(pointer)} ${detail}`));
}

export function Labelled({ form, at, hint, children }: { form: JobForm; at: string; hint?: string | undefined; children: ComponentChildren }) {
  const problems = shownProblems(form, at);
  return (
    <div class="field">
      <label for={idOf(at)}>{nameOf(at)}</label>
      {children}
      {hint && <small class="faint" id={`${idOf(at)}-hint`}>{hint}</small>}
      {problems.length > 0 && <span class="wrong" id={`${idOf(at)}-wrong`} role="status">{problems.map((problem) => <span key={problem}>{problem}</span>)}</span>}
    </div>
  );
}

function ariaOf(form: JobForm, at: string) {
  const wrong = shownProblems(form, at).length > 0;
  return { id: idOf(at), "aria-invalid": wrong ? ("true" as const) : undefined, "aria-describedby": wrong ? `${idOf(at)}-wrong` : `${idOf(at)}-hint` };
}

export function TextField({ form, at, name, lines = 1, placeholder = "", hint, unit }: FieldProps & { lines?: number; placeholder?: string; hint?: string; unit?: string }) {
  const common = {
    ...ariaOf(form, at), value: form.draft.value[name], placeholder, spellcheck: false, autocomplete: "off", onBlur: () => leave(form, at),
  };
  const take = (value: string) => form.set({ [name]: value });
  return (
    <Labelled form={form} at={at} hint={hint ?? (form.schema.value ? partAt(form.schema.value, at)?.description : undefined)}>
      {lines > 1
        ? <textarea {...common} rows={lines} onInput={({ currentTarget }) => take(currentTarget.value)} />
        : <span class="with-unit"><input {...common} inputMode={unit ? "decimal" : undefined} onInput={({ currentTarget }) => { take(currentTarget.value); if (unit) form.touch(at); }} />{unit && <span class="faint">{unit}</span>}</span>}
    </Labelled>
  );
}

export function ChoiceField({ form, at, name, options, hint }: FieldProps & { options: readonly (readonly [string, string])[]; hint?: string }) {
  const value = form.draft.value[name];
  return (
    <Labelled form={form} at={at} hint={hint}>
      <select {...ariaOf(form, at)} value={value} onChange={({ currentTarget }) => form.set({ [name]: currentTarget.value })}>
        {options.map(([one, text]) => <option key={one} value={one} selected={one === value}>{text}</option>)}
      </select>
    </Labelled>
  );
}

/** Names and values; the values of secrets are hidden, and kept nowhere. */
export function Variables({ form, at, name }: { form: JobForm; at: string; name: "env" | "secrets" }) {
  const rows = form.draft.value[name];
  const put = (index: number, change: Partial<Variable>) => form.set({ [name]: rows.map((row, at) => (at === index ? { ...row, ...change } : row)) });
  const kind = name === "secrets" ? "Secret" : "Variable";
  return (
    <fieldset class="entries" id={idOf(at)} onFocusOut={() => leave(form, at)}>
      <legend>{kind}s of the container{name === "secrets" && <small class="faint"> – sealed before anything is recorded; not kept in this form</small>}</legend>
      {rows.map((row, index) => (
        <div class="row" key={index}>
          <input aria-label={`${kind} ${index + 1}, name`} placeholder="NAME" value={row.name} spellcheck={false} autocomplete="off" onInput={({ currentTarget }) => put(index, { name: currentTarget.value })} />
          <input aria-label={`${kind} ${index + 1}, value`} placeholder="value" {...(name === "secrets" ? { type: "password" as const } : { type: "text" as const })} value={row.value} autocomplete="off" spellcheck={false} onInput={({ currentTarget }) => put(index, { value: currentTarget.value })} />
          <button type="button" class="quiet" aria-label={`Remove ${kind.toLowerCase()} ${index + 1}`} onClick={() => form.set({ [name]: rows.filter((_, at) => at !== index) })}>✕</button>
        </div>
      ))}
      <button type="button" onClick={() => form.set({ [name]: [...rows, { name: "", value: "" }] })}>Add a {kind.toLowerCase()}</button>
      <Wrong form={form} at={at} />
    </fieldset>
  );
}

const ARCHIVES = ["", "tar", "tar.gz", "zip"];

export function Inputs({ form }: { form: JobForm }) {
  const at = "/params/inputs";
  const rows = form.draft.value.inputs;
  const put = (index: number, change: Partial<InputDraft>) => form.set({ inputs: rows.map((row, one) => (one === index ? { ...row, ...change } : row)) });
  const text = (index: number, row: InputDraft, field: "url" | "sha256" | "path", placeholder: string) => (
    <input aria-label={`Input ${index + 1}, ${field}`} class={field} placeholder={placeholder} value={row[field]} spellcheck={false} autocomplete="off" onInput={({ currentTarget }) => put(index, { [field]: currentTarget.value })} />
  );
  return (
    <fieldset class="entries" id={idOf(at)} onFocusOut={() => leave(form, at)}>
      <legend>Inputs<small class="faint"> – are in /workspace before it starts; with its digest a provider may have a file already</small></legend>
      {rows.map((row, index) => (
        <div class="row" key={index}>
          {text(index, row, "url", "https://…")}
          {text(index, row, "path", "where, below /workspace")}
          {text(index, row, "sha256", "SHA-256")}
          <select aria-label={`Input ${index + 1}, unpack`} value={row.unpack} onChange={({ currentTarget }) => put(index, { unpack: currentTarget.value })}>
            {ARCHIVES.map((archive) => <option key={archive} value={archive} selected={archive === row.unpack}>{archive || "as it is"}</option>)}
          </select>
          <button type="button" class="quiet" aria-label={`Remove input ${index + 1}`} onClick={() => form.set({ inputs: rows.filter((_, one) => one !== index) })}>✕</button>
        </div>
      ))}
      <button type="button" onClick={() => form.set({ inputs: [...rows, { url: "", sha256: "", path: "", unpack: "" }] })}>Add an input</button>
      <Wrong form={form} at={at} />
    </fieldset>
  );
}

function Wrong({ form, at }: { form: JobForm; at: string }) {
  const problems = shownProblems(form, at);
  return problems.length > 0 ? <span class="wrong" role="status">{problems.map((problem) => <span key={problem}>{problem}</span>)}</span> : null;
}
