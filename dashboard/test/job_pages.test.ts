import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { outcomeOf, reportPayment, type Told } from "../src/pages/sp/pay";

vi.hoisted(() => {
  globalThis.location = { pathname: "/dashboard/sp", search: "", hash: "" } as Location; // looked at when a page is loaded
  globalThis.addEventListener = () => undefined;
});

describe("a payment's report", () => {
  class FakeSocket {
    sent: string[] = [];
    closed = false;
    onopen: (() => void) | null = null;
    onmessage: ((event: { data: string }) => void) | null = null;
    onclose: (() => void) | null = null;
    send(text: string): void { this.sent.push(text); }
    close(): void { this.closed = true; this.onclose?.(); }
  }
  let socket: FakeSocket;
  let told: Told[];
  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("location", { protocol: "https:", host: "dms.example" });
    [socket, told] = [new FakeSocket(), []];
  });
  afterEach(() => vi.useRealTimers());
  const report = () => {
    let address = "";
    const end = reportPayment("j1", "0xab", (one) => told.push(one), (url) => { address = url; return socket as unknown as WebSocket; });
    return { end, address };
  };
  const says = (action: string, message: unknown = "") => socket.onmessage?.({ data: JSON.stringify({ action, message }) });

  it("names the job and the hash, and ends with the first word that is final", () => {
    expect(report().address).toBe("wss://dms.example/api/v1/run/deploy?actions=all");
    socket.onopen?.();
    expect(JSON.parse(socket.sent[0] ?? "")).toEqual({ action: "send-status", message: { transaction_type: "fund", transaction_status: "success", tx_hash: "0xab", job_id: "j1" } });
    says("connected");
    says("log-stream-response");
    says("funding-pending", "2 of 12 confirmations");
    says("job-submitted");
    says("job-completed");
    expect(told.map(({ text }) => text)).toEqual([
      "The payment is reported; it is being checked.", "The payment is not confirmed yet: 2 of 12 confirmations", "The payment is good, and the provider has the job.",
    ]);
    expect(socket.closed).toBe(true);
  });

  it("says whether it was sent when nothing comes back", () => {
    report();
    vi.advanceTimersByTime(30_000);
    expect(told.at(-1)?.text).toContain("was not reported");
    told = [];
    report();
    socket.onopen?.();
    socket.onclose?.();
    expect(told.at(-1)).toMatchObject({ good: false, final: true });
    expect(told.at(-1)?.text).toContain("report the same hash again: it is counted once");
  });

  it.each([
    ["away", () => Promise.reject(new TypeError("no network")), "can't be reached"],
    ["full", () => Promise.resolve(new Response('{"role": "spd"}')), "took no connection for the report just now"],
    ["strict", () => Promise.resolve(new Response('{"role": "read"}')), "To ask for jobs takes a token of the role admin or spd; yours is read."],
    ["busy", () => Promise.resolve(new Response('{"detail": "more than 1200 requests a minute"}', { status: 429 })), "more than 1200 requests"],
  ])("says why it could not be sent to a DMS that is %s", async (_how, answers, words) => {
    vi.stubGlobal("fetch", answers);
    report();
    socket.onclose?.();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(told).toMatchObject([{ good: false, final: true }]);
    expect(told[0]?.text).toContain(words);
  });

  it("asks for a token where the DMS does not know the browser any more", async () => {
    const replace = vi.fn();
    vi.stubGlobal("location", { protocol: "https:", host: "dms.example", pathname: "/dashboard/sp", search: "", hash: "", replace });
    vi.stubGlobal("fetch", () => Promise.resolve(new Response('{"role": null}')));
    report();
    socket.onclose?.();
    await vi.advanceTimersByTimeAsync(100);
    expect(replace).toHaveBeenCalledWith("/login?next=%2Fdashboard%2Fsp");
  });

  it("says nothing more once the page has left", () => {
    report().end();
    says("job-submitted");
    expect(told).toEqual([]);
  });

  it.each([["error", "The report was refused: no"], ["job-failed", "The job failed: no"]])("%s is told in words", (action, text) => expect(outcomeOf({ action, message: "no" })).toEqual({ good: false, final: true, text }));
});

describe("offers while one types", () => {
  const schema = { type: "object", required: ["max_ntx"], properties: { max_ntx: { type: "number", minimum: 0 } } };
  const answers: { body: { max_ntx: number }; aborted: () => boolean; answer: (price: number) => void }[] = [];
  beforeEach(() => {
    vi.useFakeTimers();
    answers.length = 0;
    const kept = new Map<string, string>();
    vi.stubGlobal("sessionStorage", { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value) });
    vi.stubGlobal("fetch", (url: string, options: RequestInit) => {
      if (url.endsWith("/schemas/job.json")) return Promise.resolve(new Response(JSON.stringify(schema)));
      return new Promise<Response>((resolve) => answers.push({
        body: JSON.parse(String(options.body)) as { max_ntx: number }, aborted: () => options.signal?.aborted ?? false,
        answer: (price) => resolve(new Response(JSON.stringify({ estimated_price: price, candidates: [], refused: [], warnings: [] }))),
      }));
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("are asked for once typing rests, and the latest question wins", async () => {
    const { JobForm } = await import("../src/pages/sp/job_form");
    const form = new JobForm();
    const end = form.start();
    await vi.advanceTimersByTimeAsync(600);
    for (const maxNtx of ["1", "12", "123"]) form.set({ maxNtx });
    await vi.advanceTimersByTimeAsync(600);
    expect(answers.map(({ body }) => body.max_ntx)).toEqual([10, 123]);
    expect(answers.map(({ aborted }) => aborted())).toEqual([true, false]);
    answers[1]?.answer(0.5);
    answers[0]?.answer(9);
    await vi.advanceTimersByTimeAsync(0);
    expect(form.offer.value).toMatchObject({ state: "found", answer: { estimated_price: 0.5 } });
    form.set({ maxNtx: "-1" });
    expect(form.offer.value).toEqual({ state: "none" });
    expect(form.problems.value).toEqual([{ pointer: "/max_ntx", detail: "at least 0 is expected" }]);
    end();
  });
});
