import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { LogEvent } from "../../src/live/protocol";
import { FakeServer } from "./fake_server";

let server: FakeServer;
let live: typeof import("../../src/live/live");
const connected = () => server.sockets.forEach((socket) => socket.decided());
const passes = (ms = 200) => {
  for (const socket of server.living) for (const name of socket.names) socket.serve(name, Infinity);
  vi.advanceTimersByTime(ms);
};
const subscriptions = () => server.sockets.flatMap(({ sent }) => sent).filter((message) => "subscribe" in message && message.subscribe === "events");

beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  vi.stubGlobal("location", { protocol: "http:", host: "dms.example" });
  vi.stubGlobal("WebSocket", Object.assign(function () { return server.open(); }, { CONNECTING: 0, OPEN: 1, CLOSED: 3 }));
  vi.resetModules();
  live = await import("../../src/live/live");
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("what follows from now on", () => {
  const got: number[] = [];
  const take = ({ position }: LogEvent) => void got.push(position);
  beforeEach(() => {
    got.length = 0;
    for (let job = 0; job < 5; job++) server.commit("job.completed", `j${job}`);
  });

  it.each([["for ever", () => live.onNews(["job.completed"], take)], ["until it fails", () => live.onEvents({ types: ["job.completed"] }, take)]])("%s hears nothing of what was, though it begins before the first word", (_how, begin) => {
    const end = begin();
    connected();
    passes();
    server.commit("job.completed", "new");
    passes();
    expect(got).toEqual([6]);
    expect(subscriptions().map((message) => "after" in message && message.after)).not.toContain(0);
    end();
    server.commit("job.completed", "newer");
    passes();
    expect(got).toEqual([6]);
  });

  it("hears nothing once it has ended before the first word", () => {
    live.onNews(["job.completed"], take)();
    connected();
    server.commit("job.completed", "new");
    passes();
    expect(got).toEqual([]);
  });

  it("goes on where the log was archived while the line was cut", () => {
    live.onNews(["job.completed"], take);
    connected();
    passes();
    server.sockets[0]?.cut();
    for (let job = 0; job < 5; job++) server.commit("job.completed", `missed${job}`);
    server.archived = 8;
    passes(1_000);
    connected();
    passes(10_000);
    server.commit("job.completed", "new");
    passes();
    expect(got).toEqual([11]);
  });

  it("is so with samples of usage as well", () => {
    const samples: unknown[] = [];
    live.onUsage((sample) => void samples.push(sample));
    connected();
    passes();
    const [socket] = server.sockets;
    const usage = () => String(socket?.sent.filter((message) => "subscribe" in message && message.subscribe === "usage").at(-1)?.id);
    socket?.says({ id: usage(), error: { status: 503, title: "", detail: "away" } });
    passes(10_000);
    socket?.says({ id: usage(), usage: { cpu: 1 } } as never);
    passes();
    expect(samples).toEqual([{ cpu: 1 }]);
  });
});

describe("the DMS's clock", () => {
  const beats = (...aheadMs: number[]) => {
    for (const ahead of aheadMs) {
      server.aheadMs = ahead;
      server.living.forEach((socket) => socket.beat());
      vi.advanceTimersByTime(200);
    }
    return live.link.peek().aheadMs;
  };
  beforeEach(() => {
    live.onNews([], () => undefined);
    connected();
    passes();
  });

  it("is told by the beat that was the fastest of the last ones", () => {
    expect(beats(58_000, 60_000, 51_000)).toBe(60_000);
    expect(beats(-3_000, -3_100, -3_050, -3_000, -9_000, -3_000)).toBe(-3_000);
  });

  it("is this machine's as long as they differ by little", () => expect(beats(-400, -20, 300)).toBe(0));
});
