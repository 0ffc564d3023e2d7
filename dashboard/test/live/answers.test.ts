import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Reply } from "../../src/api/reply";
import { Answers } from "../../src/live/answers";
import { Hub } from "../../src/live/hub";
import type { FromPage, ToPage } from "../../src/live/protocol";
import { Subscriber } from "../../src/live/subscriber";

const URL = "/api/v1/device/status";
const fetched = vi.fn<typeof fetch>();
let position: number;
let tookMs: number;

/** A DMS that takes its time, and answers with what it knew when it was asked. */
const served = (status = 200) => () => {
  const [shown, body] = [String(position), `{"at": ${position}}`];
  return new Promise<Response>((answer) => setTimeout(() => answer(new Response(body, { status, headers: { "x-position": shown } })), tookMs));
};
const replies = (asked: Promise<Reply | null>[]) => Promise.all(asked).then((all) => all.map((reply) => reply?.position ?? null));
const passed = (ms: number) => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", { CONNECTING: 0, OPEN: 1, CLOSED: 3 });
  vi.stubGlobal("fetch", fetched);
  fetched.mockReset().mockImplementation(served());
  [position, tookMs] = [7, 20];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("answers that pages need at once", () => {
  it("are asked for once, also for who comes a little later", async () => {
    const answers = new Answers();
    const asked = [answers.of(URL, 7), answers.of(URL, 6)];
    await passed(100);
    asked.push(answers.of(URL, 7));
    expect(await replies(asked)).toEqual([7, 7, 7]);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it("are not kept for who comes much later", async () => {
    const answers = new Answers();
    void answers.of(URL, 7);
    await passed(1_000);
    void answers.of(URL, 7);
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it("show the event that each was asked for: who needs a newer one has it asked for again, once for all", async () => {
    const answers = new Answers();
    const asked = [answers.of(URL, 7)];
    position = 8;
    asked.push(answers.of(URL, 8), answers.of(URL, 8));
    await passed(100);
    expect(await replies(asked)).toEqual([7, 8, 8]);
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  it("are not invented: where none shows that event, or none comes, each page asks itself", async () => {
    const answers = new Answers();
    const tooOld = answers.of(URL, 9);
    await passed(100);
    expect(await tooOld).toBeNull();
    for (const failing of [served(401), served(503), () => Promise.reject(new TypeError("Failed to fetch"))]) {
      fetched.mockImplementation(failing);
      const refused = answers.of("/api/v1/providers", 1);
      await passed(100);
      expect(await refused).toBeNull();
    }
  });
});

describe("a page that asks by the worker", () => {
  const pageOf = (take: (message: FromPage, receive: (message: ToPage) => void) => void) => {
    let receive: (message: ToPage) => void = () => undefined;
    return new Subscriber((given) => {
      receive = given;
      return { post: (message) => take(message, receive), close: () => undefined };
    }, () => undefined);
  };

  it("gets the answer that others get", async () => {
    const hub = new Hub(() => ({ readyState: 0, send: () => undefined, close: () => undefined, onopen: null, onmessage: null, onclose: null }));
    const pages = [1, 2, 3].map(() => {
      const port = { post: (message: ToPage) => receive(message) };
      let receive: (message: ToPage) => void = () => undefined;
      return new Subscriber((given) => {
        receive = given;
        hub.join(port);
        return { post: (message) => hub.take(port, message), close: () => undefined };
      }, () => undefined);
    });
    const asked = pages.map((page) => page.askTogether(URL, 7));
    await passed(100);
    expect(await replies(asked)).toEqual([7, 7, 7]);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  it("asks itself where the worker is gone, silent, or another one by now", async () => {
    const silent = pageOf(() => undefined);
    const unheard = silent.askTogether(URL, 7);
    await passed(10_000);
    expect(await unheard).toBeNull();
    const left = silent.askTogether(URL, 7);
    silent.rejoin();
    expect(await left).toBeNull();
    const unknown = pageOf((message, receive) => "ask" in message && receive([{ rejoin: true }])).askTogether(URL, 7);
    expect(await unknown).toBeNull();
  });
});
