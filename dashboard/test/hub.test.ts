import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { SocketLike } from "../src/live/connection";
import { Hub } from "../src/live/hub";
import type { FromServer, LogEvent, News, ToPage, ToServer } from "../src/live/protocol";

class FakeSocket implements SocketLike {
  readyState: number = WebSocket.CONNECTING;
  sent: ToServer[] = [];
  onopen: SocketLike["onopen"] = null;
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  send(data: string): void { this.sent.push(JSON.parse(data) as ToServer); }
  close(): void { this.readyState = WebSocket.CLOSED; }
  opened(): void { this.readyState = WebSocket.OPEN; this.onopen?.(new Event("open")); }
  says(message: FromServer): void { this.onmessage?.({ data: JSON.stringify(message) } as MessageEvent); }
  lost(): void { this.readyState = WebSocket.CLOSED; this.onclose?.({ reason: "" } as CloseEvent); }
}

const event = (position: number, type = "job.submitted", job = "j1"): LogEvent =>
  ({ position, type: `io.nunet.dms.${type}.v1`, subject: `job-${job}`, correlationid: job }) as LogEvent;

let sockets: FakeSocket[];
let hub: Hub;
const page = () => {
  const got: News[] = [];
  const port = { post: (news: ToPage) => got.push(...news) };
  hub.join(port);
  const positions = () => {
    vi.advanceTimersByTime(100);
    return got.flatMap((message) => ("event" in message && message.event ? [message.event.position] : []));
  };
  return { port, got, positions };
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", { CONNECTING: 0, OPEN: 1, CLOSED: 3 });
  sockets = [];
  hub = new Hub(() => {
    const socket = new FakeSocket();
    sockets.push(socket);
    return socket;
  });
});
afterEach(() => vi.useRealTimers());

describe("one stream for all pages", () => {
  it("feeds a page that joins now without asking the server again", () => {
    sockets[0]?.opened();
    sockets[0]?.says({ position: 10 });
    sockets[0]?.says({ id: "shared", event: event(11) });
    const { port, positions } = page();
    hub.take(port, { id: "a", subscribe: "events", after: 10 });
    sockets[0]?.says({ id: "shared", event: event(12) });
    expect(positions()).toEqual([11, 12]);
    expect(sockets[0]?.sent.length).toBe(1);
  });

  it("lets a page that is behind catch up, then goes on with the shared stream, each event once", () => {
    sockets[0]?.opened();
    sockets[0]?.says({ position: 10 });
    const { port, positions } = page();
    hub.take(port, { id: "a", subscribe: "events", after: 8 });
    const asked = sockets[0]?.sent.at(-1) as { id: string };
    sockets[0]?.says({ id: asked.id, event: event(9) });
    sockets[0]?.says({ id: "shared", event: event(11) });
    sockets[0]?.says({ id: asked.id, event: event(10) });
    sockets[0]?.says({ id: asked.id, event: event(11) });
    sockets[0]?.says({ id: asked.id, caught_up: 11 });
    sockets[0]?.says({ id: "shared", event: event(12) });
    expect(positions()).toEqual([9, 10, 11, 12]);
  });

  it("goes on after the last event when the line breaks", () => {
    sockets[0]?.opened();
    sockets[0]?.says({ position: 10 });
    const { port, positions } = page();
    hub.take(port, { id: "a", subscribe: "events", after: 10 });
    sockets[0]?.says({ id: "shared", event: event(11) });
    sockets[0]?.lost();
    vi.advanceTimersByTime(1000);
    sockets[1]?.opened();
    expect(sockets[1]?.sent).toContainEqual({ id: "shared", subscribe: "events", after: 11 });
    sockets[1]?.says({ id: "shared", event: event(12) });
    expect(positions()).toEqual([11, 12]);
  });

  it("gives each page only what it asked for", () => {
    sockets[0]?.opened();
    sockets[0]?.says({ position: 1 });
    const [one, other] = [page(), page()];
    hub.take(one.port, { id: "a", subscribe: "events", after: 1, types: ["device"] });
    hub.take(other.port, { id: "a", subscribe: "events", after: 1, job_id: "j2" });
    sockets[0]?.says({ id: "shared", event: event(2) });
    sockets[0]?.says({ id: "shared", event: event(3, "device.onboarded", "") });
    sockets[0]?.says({ id: "shared", event: event(4, "job.submitted", "j2") });
    expect([one.positions(), other.positions()]).toEqual([[3], [4]]);
  });

  it("tells all pages of an event by one task, and of a page that left in between nothing", () => {
    sockets[0]?.opened();
    sockets[0]?.says({ position: 10 });
    const pages = Array.from({ length: 50 }, page);
    for (const { port } of pages) hub.take(port, { id: "a", subscribe: "events", after: 10 });
    vi.advanceTimersByTime(1000);
    for (const { got } of pages) got.length = 0;
    const before = vi.getTimerCount();
    sockets[0]?.says({ id: "shared", event: event(11) });
    expect(vi.getTimerCount() - before).toBe(1);
    const [first, ...rest] = pages;
    if (first) hub.leave(first.port);
    expect(rest.map(({ positions }) => positions())).toEqual(rest.map(() => [11]));
    expect(first?.got).toEqual([]);
  });

  describe("what can wait", () => {
    const sampled = (cores: number): FromServer => ({ id: "usage", usage: { job_id: null, sample: { cpu_cores: cores } } });
    const followed = (count: number) => {
      sockets[0]?.opened();
      sockets[0]?.says({ position: 10 });
      const pages = Array.from({ length: count }, page);
      for (const { port } of pages) {
        hub.take(port, { id: "a", subscribe: "events", after: 10 });
        hub.take(port, { id: "u", subscribe: "usage" });
      }
      vi.advanceTimersByTime(5000);
      for (const { got } of pages) got.length = 0;
      return pages;
    };
    const samples = ({ got }: { got: News[] }) => got.filter((news) => "usage" in news && news.id === "u").length;

    it("is told to one of many pages after the other, to a single one at once, and asked for once", () => {
      const pages = followed(50);
      sockets[0]?.says(sampled(1));
      vi.advanceTimersByTime(1);
      expect(pages.filter(samples).length).toBe(1);
      vi.advanceTimersByTime(500);
      expect(pages.filter(samples).length).toBeLessThan(40);
      vi.advanceTimersByTime(2500);
      expect(pages.map(samples)).toEqual(pages.map(() => 1));
      expect(sockets[0]?.sent.filter((asked) => "subscribe" in asked && asked.subscribe === "usage")).toEqual([{ id: "usage", subscribe: "usage" }]);
    });

    it("holds no event up, and comes with it", () => {
      const pages = followed(50);
      sockets[0]?.says(sampled(1));
      sockets[0]?.says({ id: "shared", event: event(11) });
      vi.advanceTimersByTime(1);
      expect(pages.map(({ got }) => got.some((news) => "event" in news))).toEqual(pages.map(() => true));
      expect(pages.map(samples)).toEqual(pages.map(() => 1));
    });

    it("ends with the last page that follows it, and where the DMS refuses it", () => {
      const [one, other] = followed(2);
      if (!one || !other) throw new Error("two pages were opened");
      hub.leave(one.port);
      expect(sockets[0]?.sent.at(-1)).not.toEqual({ id: "usage", unsubscribe: true });
      hub.take(other.port, { id: "u", unsubscribe: true });
      expect(sockets[0]?.sent.at(-1)).toEqual({ id: "usage", unsubscribe: true });
      hub.take(other.port, { id: "u", subscribe: "usage" });
      sockets[0]?.says({ id: "usage", error: { status: 403, title: "Forbidden", detail: "" } });
      vi.advanceTimersByTime(100);
      expect(other.got.filter((news) => "error" in news)).toMatchObject([{ id: "u", error: { status: 403 } }]);
      hub.take(other.port, { id: "u", subscribe: "usage" });
      expect(sockets[0]?.sent.at(-1)).toEqual({ id: "usage", subscribe: "usage" });
    });

    it("is also the beat of a log that stands still; a newer position is told at once", () => {
      const pages = followed(50);
      sockets[0]?.says({ position: 10 });
      vi.advanceTimersByTime(1);
      expect(pages.filter(({ got }) => got.length > 0).length).toBe(1);
      sockets[0]?.says({ position: 11 });
      vi.advanceTimersByTime(100);
      expect(pages.map(({ got }) => got.at(-1))).toEqual(pages.map(() => expect.objectContaining({ link: expect.objectContaining({ position: 11 }) as unknown })));
    });
  });

  it("notices a line that says nothing", () => {
    sockets[0]?.opened();
    vi.advanceTimersByTime(20_000);
    expect(sockets.length).toBeGreaterThan(1);
  });
});
