/** What is typed into the job form, and the request that it makes. */
import { escaped, type Finding } from "./json_schema";
import { join, split, UnfinishedQuote } from "./words";

export interface Variable {
  name: string;
  value: string;
}

export interface InputDraft {
  url: string;
  sha256: string;
  path: string;
  unpack: string;
}

/** Texts as they were typed. how: what the container is given: `command` is params.arguments, `model` is model_url and packages. */
export interface Draft {
  image: string;
  how: "command" | "model";
  command: string;
  modelUrl: string;
  packages: string;
  complexity: string;
  cpu: string;
  ram: string;
  power: string;
  minutes: string;
  network: string;
  gpu: boolean;
  gpus: string;
  vram: string;
  shareGpu: boolean;
  maxNtx: string;
  address: string;
  blockchain: string;
  provider: string;
  attempts: string;
  resumeFrom: string;
  results: string;
  inputs: InputDraft[];
  env: Variable[];
  secrets: Variable[];
}

export const EMPTY: Readonly<Draft> = {
  image: "", how: "command", command: "", modelUrl: "", packages: "", complexity: "Low", cpu: "1000", ram: "1000", power: "0", minutes: "10",
  network: "", gpu: false, gpus: "", vram: "", shareGpu: false, maxNtx: "10", address: "", blockchain: "", provider: "", attempts: "1",
  resumeFrom: "", results: "", inputs: [], env: [], secrets: [],
};

export interface Preset {
  name: string;
  cpu: number;
  ram: number;
  vram: number;
  power: number;
}

/** As the original's clients have them: MHz, MB, MB, W. They leave the minutes as they are. */
export const PRESETS: readonly Preset[] = [
  { name: "Low", cpu: 500, ram: 2000, vram: 2000, power: 170 },
  { name: "Moderate", cpu: 1500, ram: 8000, vram: 8000, power: 220 },
  { name: "High", cpu: 2500, ram: 16_000, vram: 24_000, power: 350 },
];

export const withPreset = (draft: Draft, { name, cpu, ram, vram, power }: Preset): Draft =>
  ({ ...draft, complexity: name, cpu: String(cpu), ram: String(ram), vram: String(vram), power: String(power) });

export const hasPreset = (draft: Draft, { name, cpu, ram, power }: Preset): boolean =>
  draft.complexity === name && draft.cpu === String(cpu) && draft.ram === String(ram) && draft.power === String(power);

export type Request = Record<string, unknown> & { params: Record<string, unknown>; constraints: Record<string, unknown> };

/** The body of request-service; a text that is no number stays one, so that the check can name the field. */
export function toRequest(draft: Draft): Request {
  const attempts = number(draft.attempts);
  return {
    service_type: draft.gpu ? "ml-training-gpu" : "ml-training-cpu",
    params: {
      image_id: draft.image.trim(),
      machine_type: draft.gpu ? "gpu" : "cpu",
      ...given(draft),
      ...filled("node_id", draft.provider.trim()),
      ...(draft.resumeFrom && { resume_job: { resume: true, progress_file: draft.resumeFrom } }),
      ...filled("inputs", draft.inputs.map(input)),
      ...filled("results", lines(draft.results)),
      ...filled("env", variables(draft.env)),
      ...filled("secret_env", variables(draft.secrets)),
    },
    constraints: {
      complexity: draft.complexity,
      cpu: number(draft.cpu),
      ram: number(draft.ram),
      time: number(draft.minutes),
      power: number(draft.power) ?? 0,
      ...(draft.gpu && { gpus: number(draft.gpus) ?? 1, vram: number(draft.vram) ?? 0, share_gpu: draft.shareGpu }),
      ...filled("network", draft.network),
    },
    max_ntx: number(draft.maxNtx),
    ...filled("address_user", draft.address.trim()),
    ...filled("blockchain", draft.blockchain),
    ...(attempts !== undefined && attempts !== 1 && { retry: { max_attempts: attempts } }),
  };
}

/** What the schema can't say, since it never sees it. */
export function ofDraft(draft: Draft): Finding[] {
  const [env, secrets] = [named(draft.env), named(draft.secrets)];
  const found = [...twice("/params/env", env), ...twice("/params/secret_env", secrets)];
  const both = secrets.filter(({ name }) => name && env.some((one) => one.name === name));
  for (const { name } of both) found.push({ pointer: `/params/secret_env/${escaped(name)}`, detail: "is a plain variable as well; leave out one of them" });
  for (const { name, value } of secrets) {
    if (name && !value) found.push({ pointer: `/params/secret_env/${escaped(name)}`, detail: "has no value: secret values are not kept, type it again" });
  }
  try {
    if (draft.how === "command") split(draft.command);
  } catch (error) {
    if (!(error instanceof UnfinishedQuote)) throw error;
    found.push({ pointer: "/params/arguments", detail: error.message });
  }
  return found;
}

/** request: of a job that was asked for, or a job file. Values of secrets are never in it. */
export function fromRequest(request: Record<string, unknown>): Draft {
  const params = object(request["params"]);
  const needs = object(request["constraints"]);
  const words = Array.isArray(params["arguments"]) ? params["arguments"].map(String) : null;
  const resume = object(params["resume_job"]);
  const given = (value: unknown, otherwise: string) => (value === undefined || value === null ? otherwise : String(value));
  return {
    ...EMPTY,
    image: given(params["image_id"], ""),
    how: words || !(params["model_url"] || list(params["packages"]).length) ? "command" : "model",
    command: words ? join(words) : "",
    modelUrl: given(params["model_url"], ""),
    packages: list(params["packages"]).join(" "),
    complexity: given(needs["complexity"], EMPTY.complexity),
    cpu: given(needs["cpu"], EMPTY.cpu),
    ram: given(needs["ram"], EMPTY.ram),
    power: given(needs["power"], EMPTY.power),
    minutes: given(needs["time"], EMPTY.minutes),
    network: given(needs["network"], ""),
    gpu: String(params["machine_type"] ?? "").toLowerCase() === "gpu",
    gpus: needs["gpus"] ? String(needs["gpus"]) : "",
    vram: needs["vram"] ? String(needs["vram"]) : "",
    shareGpu: needs["share_gpu"] === true,
    maxNtx: given(request["max_ntx"], EMPTY.maxNtx),
    address: given(request["address_user"], ""),
    blockchain: given(request["blockchain"], ""),
    provider: given(params["node_id"], ""),
    attempts: given(object(request["retry"])["max_attempts"], "1"),
    resumeFrom: resume["resume"] === true ? given(resume["progress_file"], "") : "",
    results: list(params["results"]).join("\n"),
    inputs: list(params["inputs"]).map(inputDraft),
    env: pairs(params["env"]),
    secrets: pairs(params["secret_env"]).map(({ name }) => ({ name, value: "" })),
  };
}

/** For the browser's own store: never a secret's value. */
export const forStorage = (draft: Draft): Draft => ({ ...draft, secrets: draft.secrets.map(({ name }) => ({ name, value: "" })) });

/** What was stored, as far as it is still of this shape. */
export function restored(stored: unknown): Draft {
  const found = object(stored);
  const draft: Record<string, unknown> = { ...EMPTY };
  for (const [name, plain] of Object.entries(EMPTY)) {
    if (typeof found[name] === typeof plain && Array.isArray(found[name]) === Array.isArray(plain)) draft[name] = found[name];
  }
  return forStorage(draft as unknown as Draft);
}

// --- parts -------------------------------------------------------------------------------------------
function given({ how, command, modelUrl, packages }: Draft): Record<string, unknown> {
  if (how === "model") return { model_url: modelUrl.trim(), packages: packages.split(/[\s,]+/).filter(Boolean) };
  try {
    return { arguments: split(command) }; // an empty list too: without one the container gets the original's pair of two
  } catch {
    return {}; // `ofDraft` says what is wrong with it
  }
}

function number(text: string): number | string | undefined {
  const typed = text.trim();
  return typed === "" ? undefined : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(typed) ? Number(typed) : typed;
}

function filled(name: string, value: string | unknown[] | Record<string, unknown>): Record<string, unknown> {
  const empty = typeof value === "string" ? value === "" : Object.keys(value).length === 0;
  return empty ? {} : { [name]: value };
}

const input = ({ url, sha256, path, unpack }: InputDraft) =>
  ({ url: url.trim(), ...filled("sha256", sha256.trim().toLowerCase()), ...filled("path", path.trim()), ...filled("unpack", unpack) });

const inputDraft = (value: unknown): InputDraft => {
  const { url = "", sha256 = "", path = "", unpack = "" } = object(value);
  return { url: String(url), sha256: String(sha256), path: String(path), unpack: String(unpack) };
};

const lines = (text: string): string[] => text.split("\n").map((line) => line.trim()).filter(Boolean);
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const object = (value: unknown): Record<string, unknown> => (value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : {});
const pairs = (value: unknown): Variable[] =>
  Array.isArray(value) ? value.map((name) => ({ name: String(name), value: "" })) : Object.entries(object(value)).map(([name, text]) => ({ name, value: String(text) }));
/** As they are asked for: blanks around a name are none of it. */
const named = (all: readonly Variable[]): Variable[] => all.map(({ name, value }) => ({ name: name.trim(), value }));
const variables = (all: readonly Variable[]): Record<string, unknown> => Object.fromEntries(named(all).filter(({ name, value }) => name || value).map(({ name, value }) => [name, value]));

function twice(at: string, all: readonly Variable[]): Finding[] {
  const seen = new Set<string>();
  return all.flatMap(({ name }) => {
    const again = name !== "" && seen.has(name);
    seen.add(name);
    return again ? [{ pointer: `${at}/${escaped(name)}`, detail: "is there twice" }] : [];
  });
}
