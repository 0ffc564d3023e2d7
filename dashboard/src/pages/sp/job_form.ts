/** The job form's state: the draft, what is wrong with it, and what asking for it would be answered with just now. */
import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";
import { ApiError, askProviders, failure, get } from "../../api/client";
import { store, stored } from "../../app/stored";
import { forStorage, fromRequest, ofDraft, restored, toRequest, type Draft } from "../../domain/job_draft";
import { findings, type Finding, type Schema } from "../../domain/json_schema";
import type { DryRun, Quote, RequestAgain } from "../../api/answers";

const STORED = "dms.job-draft";
/** Providers themselves are asked, so not with each key. */
const SETTLE_MS = 500;

export type Offer =
  | { state: "none" }
  | { state: "asking"; last: DryRun | null }
  | { state: "found"; answer: DryRun }
  | { state: "nobody"; text: string; refused: Readonly<Record<string, string>> }
  | { state: "failed"; text: string };

export class JobForm {
  readonly draft = signal<Draft>(kept());
  readonly schema = signal<Schema | null>(null);
  readonly offer = signal<Offer>({ state: "none" });
  readonly error = signal("");
  readonly busy = signal(false);
  /** Fields that were left, by pointer; all once the job was asked for. */
  readonly touched = signal<ReadonlySet<string> | "all">(new Set());
  /** Where the form was filled from. */
  readonly origin = signal("");
  private readonly ofServer = signal<readonly Finding[]>([]);
  private asked: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  private readonly own = computed<readonly Finding[]>(() => {
    const schema = this.schema.value;
    return schema ? [...findings(schema, toRequest(this.draft.value)), ...ofDraft(this.draft.value)] : [];
  });
  readonly problems: ReadonlySignal<readonly Finding[]> = computed(() => {
    const own = this.own.value;
    return [...own, ...this.ofServer.value.filter(({ pointer }) => !own.some((one) => one.pointer === pointer))];
  });

  /** Returns what ends it. */
  start(): () => void {
    void this.readSchema();
    const ends = [
      effect(() => store("sessionStorage", STORED, JSON.stringify(forStorage(this.draft.value)))),
      effect(() => this.changed(this.draft.value, this.schema.value)),
    ];
    return () => {
      for (const end of ends) end();
      clearTimeout(this.timer);
      this.asked?.abort();
    };
  }

  set(change: Partial<Draft>): void {
    this.draft.value = { ...this.draft.peek(), ...change };
  }

  touch(pointer: string): void {
    const known = this.touched.peek();
    if (known !== "all" && !known.has(pointer)) this.touched.value = new Set([...known, pointer]);
  }

  clear(): void {
    this.draft.value = restored(null);
    this.touched.value = new Set();
    this.origin.value = "";
  }

  /** With what a job was asked with; change: over it. */
  async fillFrom(jobId: string, change: Partial<Draft>): Promise<void> {
    try {
      const { body } = await get<RequestAgain>(`/jobs/${encodeURIComponent(jobId)}/request`, { personal: true });
      const secrets = body.secrets.map((name) => ({ name, value: "" }));
      this.draft.value = { ...fromRequest(body.request), secrets, ...change };
      this.origin.value = jobId;
      this.error.value = "";
    } catch (problem) {
      this.error.value = `Job ${jobId} can't be asked for again: ${failure(problem)}`;
    }
  }

  /** Asks for it: from then on a provider keeps a place, and it waits for its payment. Null when it is refused. */
  async request(): Promise<Quote | null> {
    this.touched.value = "all";
    if (this.own.value.length > 0) return null;
    this.busy.value = true;
    try {
      const quote = await askProviders<Quote>("/run/request-service", toRequest(this.draft.value));
      this.error.value = "";
      return quote;
    } catch (problem) {
      this.refused(problem);
      this.error.value = failure(problem);
      return null;
    } finally {
      this.busy.value = false;
    }
  }

  private async readSchema(): Promise<void> {
    try {
      this.schema.value = (await get<Schema>("/schemas/job.json")).body;
    } catch (problem) {
      this.error.value = failure(problem);
    }
  }

  private changed(draft: Draft, schema: Schema | null): void {
    clearTimeout(this.timer);
    this.asked?.abort();
    this.ofServer.value = [];
    if (!schema || this.own.peek().length > 0) {
      this.offer.value = { state: "none" };
      return;
    }
    const shown = this.offer.peek();
    this.offer.value = { state: "asking", last: shown.state === "found" ? shown.answer : shown.state === "asking" ? shown.last : null };
    this.timer = setTimeout(() => void this.ask(draft), SETTLE_MS);
  }

  /** The latest one wins: a change aborts what was asked before it. */
  private async ask(draft: Draft): Promise<void> {
    const asked = (this.asked = new AbortController());
    try {
      const answer = await askProviders<DryRun>("/run/request-service/dry-run", toRequest(draft), asked.signal);
      if (!asked.signal.aborted) this.offer.value = { state: "found", answer };
    } catch (problem) {
      if (!asked.signal.aborted) this.refused(problem);
    }
  }

  private refused(problem: unknown): void {
    if (!(problem instanceof ApiError)) {
      this.offer.value = { state: "failed", text: failure(problem) };
      return;
    }
    if (problem.errors.length > 0) this.ofServer.value = problem.errors;
    if (problem.problem.status === 404) this.offer.value = { state: "nobody", text: problem.message, refused: problem.refused };
    else this.offer.value = { state: "failed", text: problem.message };
  }
}

function kept(): Draft {
  try {
    return restored(JSON.parse(stored("sessionStorage", STORED) ?? "null"));
  } catch {
    return restored(null);
  }
}

