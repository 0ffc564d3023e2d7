/** The API as the pages call it: JSON, errors with the server's own words, and the position that an answer shows. */
import type { Problem } from "../live/protocol";
import { replyOf, type Reply } from "./reply";

export const API = "/api/v1";

/** How long an answer is waited for, and what is said when none has come. */
interface Patience {
  ms: number;
  words: string;
}

const PATIENCE: Patience = { ms: 30_000, words: "The DMS does not answer. Is it running? What you see may be old." };
const OF_PROVIDERS: Patience = {
  ms: 300_000,
  words: "Providers are still being asked, or files of this machine are still being read. What was asked for may be among the jobs soon: look there before you ask again.",
};
const PAUSES_MS = [100, 500];

/** What the server said is wrong; `detail` says what to do. errors: JSON pointers into the body, or ?name, and what is wrong there. */
export class ApiError extends Error {
  constructor(
    readonly problem: Problem,
    readonly errors: readonly { pointer: string; detail: string }[] = [],
    /** Peer id of a provider -> why it can't take the job; some of them. */
    readonly refused: Readonly<Record<string, string>> = {},
    /** Not to be asked again before; 0: it does not say. */
    readonly retryAfterSeconds = 0,
  ) {
    super(problem.detail || problem.title);
  }
}

/** A reply that is understood. */
export interface Answer<T> extends Omit<Reply, "text"> {
  body: T;
}

type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

/** Empty values are left out. */
export function address(path: string, query: Query = {}): string {
  const given = Object.entries(query).flatMap(([name, value]) => {
    const text = Array.isArray(value) ? value.join(",") : String(value ?? "");
    return text === "" ? [] : [[name, text] as [string, string]];
  });
  const search = new URLSearchParams(given).toString();
  return `${API}${path}${search && `?${search}`}`;
}

export async function get<T>(path: string, query?: Query, signal?: AbortSignal, headers?: Record<string, string>): Promise<Answer<T>> {
  return ask<T>("GET", address(path, query), undefined, signal, headers);
}

export async function send<T>(method: "POST" | "PUT" | "DELETE", path: string, body?: unknown, query?: Query, signal?: AbortSignal): Promise<T> {
  return (await ask<T>(method, address(path, query), body, signal)).body;
}

/** A job is asked for, or tried out: providers are searched for and asked, and inputs of the DMS's machine are read whole. */
export async function askProviders<T>(path: string, request: unknown, signal?: AbortSignal): Promise<T> {
  return (await ask<T>("POST", address(path), request, signal, {}, OF_PROVIDERS)).body;
}

/** Replaces what was read with this tag, and nothing newer: a 412 where it was changed meanwhile. */
export async function replace<T>(path: string, body: unknown, tag: string): Promise<Answer<T>> {
  return ask<T>("PUT", address(path), body, undefined, { "if-match": tag || "*" });
}

async function ask<T>(method: string, url: string, body?: unknown, signal?: AbortSignal, headers?: Record<string, string>, patience = PATIENCE): Promise<Answer<T>> {
  const late = AbortSignal.timeout(patience.ms);
  const request = {
    method,
    headers: { accept: "application/json", ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    signal: signal ? AbortSignal.any([signal, late]) : late,
    cache: "no-store",
    credentials: "same-origin",
  } as const;
  const [response, text] = await readWhole(url, request).catch((error: unknown) => Promise.reject(unreachable(error, patience)));
  if (response.status === 401) toLogin();
  if (!response.ok) throw refusal(response, text);
  return answerOf<T>(replyOf(response, text));
}

/** Throws ApiError. */
export function answerOf<T>({ text, ...rest }: Reply): Answer<T> {
  return { ...rest, body: understood<T>(text) };
}

let loggingOut = false;

/** Ends the session, and leaves for the page where a token is given. */
export async function logOut(): Promise<void> {
  loggingOut = true; // before it is asked for: what this page still waits for may be refused first
  try {
    await send("DELETE", "/session");
  } catch (error) {
    loggingOut = false;
    throw error;
  }
  addEventListener("pagehide", () => (loggingOut = false), { once: true }); // "back" may show this page as it was
  location.assign("/login");
}

/** To the page where a token is given, and from there back to here; but not for who is about to log out. */
export function toLogin(): void {
  if (loggingOut) return;
  const query = new URLSearchParams(location.search).toString(); // written as the log-in takes it
  const next = `${location.pathname}${query && `?${query}`}${location.hash}`;
  location.replace(`/login?${new URLSearchParams({ next }).toString()}`);
}

/** Asks again for what may be asked twice. A browser gives up what it has just begun whenever a network of its machine
 *  changes, and on a provider's machine each job that starts or ends changes one. */
async function answered(url: string, options: RequestInit): Promise<Response> {
  for (const pause of options.method === "GET" ? PAUSES_MS : []) {
    try {
      return await fetch(url, options);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // ended by the page, or out of patience
      await new Promise((passed) => setTimeout(passed, pause));
    }
  }
  return fetch(url, options);
}

async function readWhole(url: string, options: RequestInit): Promise<[Response, string]> {
  const response = await answered(url, options);
  return [response, await response.text()];
}

function understood<T>(text: string): T {
  try {
    return (text === "" ? null : JSON.parse(text)) as T;
  } catch {
    throw new ApiError({ status: 0, title: "No answer", detail: "What answered is not the DMS, or of another version. Load the page again." });
  }
}

function unreachable(error: unknown, patience: Patience): unknown {
  if (error instanceof DOMException && error.name === "AbortError") return error;
  const isLate = error instanceof DOMException && error.name === "TimeoutError";
  const detail = (isLate ? patience : PATIENCE).words;
  return new ApiError({ status: 0, title: "No answer", detail });
}

function refusal({ status, headers }: Response, text: string): ApiError {
  const retryAfterSeconds = Number(headers.get("retry-after")) || 0;
  try {
    const found = JSON.parse(text) as Partial<Problem> & { error?: string; message?: string; errors?: []; refused?: Record<string, string> };
    const detail = found.detail ?? found.error ?? found.message ?? "";
    return new ApiError({ status, title: found.title ?? "Refused", detail }, found.errors ?? [], found.refused ?? {}, retryAfterSeconds);
  } catch {
    return new ApiError({ status, title: `The DMS answered ${status}`, detail: text.slice(0, 300) }, [], {}, retryAfterSeconds);
  }
}

/** What went wrong, in words for people. */
export function failure(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
