import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Hub } from "../../src/live/hub";
import { fits, type EventsWanted, type FromPage, type Link, type ToPage } from "../../src/live/protocol";
import { Subscriber } from "../../src/live/subscriber";
import type { Port } from "../../src/live/tab";
import { randomOf } from "../random";
import { FakeServer, TOPICS } from "./fake_server";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", { CONNECTING: 0, OPEN: 1, CLOSED: 3 });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A page whose messages to and from the worker take their time, as real ports' do. */
class FakePage {
  readonly subscriber: Subscriber;
  link: Link | null = null;
  broken: (() => void) | null = null;
  private queue: (() => void)[] = [];
  isFrozen = false;

  constructor(hubOf: () => Hub) {
    this.subscriber = new Subscriber((receive, broken) => {
      const hub = hubOf();
      const port: Port = { post: (message: ToPage) => void this.queue.push(() => receive(structuredClone(message))) };
      hub.join(port);
      this.broken = broken;
      return { post: (message: FromPage) => void this.queue.push(() => hub.take(port, message)), close: () => undefined };
    }, (link) => (this.link = link));
  }

  /** Some of what is on its way arrives. */
  arrive(count = Infinity): void {
    for (let left = Math.min(count, 10_000); left > 0 && this.queue.length > 0 && !this.isFrozen; left--) this.queue.shift()?.();
  }
}

interface Reading {
  wanted: EventsWanted;
  got: number[];
  failed: number;
  end: () => void;
}

function read(page: FakePage, wanted: EventsWanted): Reading {
  const reading: Reading = { wanted, got: [], failed: 0, end: () => undefined };
  reading.end = page.subscriber.subscribe(wanted, (message) => {
    if (message.event) reading.got.push(message.event.position);
    if (message.error) reading.failed = message.error.status;
  });
  return reading;
}

const expected = (server: FakeServer, { wanted }: Reading) => server.log.filter((event) => event.position > wanted.after && fits(event, wanted)).map(({ position }) => position);

/** Everything that is on its way arrives, until nothing is. */
function settle(server: FakeServer, pages: FakePage[]): void {
  for (const page of pages) page.isFrozen = false;
  server.isUp = true;
  for (let round = 0; round < 30; round++) {
    vi.advanceTimersByTime(3000);
    for (const socket of server.sockets) socket.decided();
    for (const page of pages) page.arrive();
    for (const socket of server.living) for (const name of socket.names) socket.serve(name, Infinity);
    for (const socket of server.living) socket.beat();
    for (const page of pages) page.arrive();
  }
}

describe("pages that share one line", () => {
  it.each(Array.from({ length: 100 }, (_, seed) => seed))("get each event and line once and in order, whatever breaks (seed %i)", (seed) => {
    const random = randomOf(seed);
    const server = new FakeServer();
    for (let count = random(30); count > 0; count--) server.commit(TOPICS[random(3)] ?? "", `j${random(3)}`);
    const newHub = () => new Hub(server.open, seed % 2 ? 3 : 2000);
    let hub = newHub();
    const pages = Array.from({ length: 3 }, () => new FakePage(() => hub));
    const readings: Reading[] = [];
    const lines: number[] = [];
    pages[0]?.subscriber.subscribe({ subscribe: "output", job_id: "j1", after: 0 }, (message) => lines.push(...(message.lines ?? []).map(({ seq }) => seq)));
    const steps: (() => void)[] = [
      () => server.commit(TOPICS[random(3)] ?? "", `j${random(3)}`),
      () => server.print(),
      () => server.sockets.at(-1)?.decided(),
      () => server.living.forEach((socket) => socket.names.forEach((name) => socket.serve(name, 1 + random(3)))),
      () => server.living.forEach((socket) => socket.beat()),
      () => pages[random(3)]?.arrive(1 + random(5)),
      () => pages[random(3)]?.arrive(),
      () => vi.advanceTimersByTime(random(6000)),
      () => random(4) === 0 && server.living.forEach((socket) => socket.cut()),
      () => (server.isUp = random(4) !== 0),
      () => random(4) === 0 && pages[random(3)]?.subscriber.rejoin(),
      () => random(3) === 0 && ((page) => page && (page.isFrozen = !page.isFrozen))(pages[random(3)]),
      () => random(8) === 0 && vi.advanceTimersByTime(100_000),
      () => random(10) === 0 && ((hub = newHub()), pages.forEach((page) => page.broken?.())), // the worker died
      () => hub.tick(),
      () => pages.forEach((page) => page.isFrozen || page.subscriber.tick()),
      () => pages[random(3)]?.subscriber.awake(),
      () => {
        const page = pages[random(3)];
        const wanted: EventsWanted = { subscribe: "events", after: random(server.head + 1), ...(random(2) && { types: [["job"], ["job.*"], ["job.completed", "device"]][random(3)] ?? [] }), ...(random(3) === 0 && { job_id: `j${random(3)}` }) };
        if (page && readings.length < 12) readings.push(read(page, wanted));
      },
    ];
    for (let step = 0; step < 400; step++) steps[random(steps.length)]?.();
    settle(server, pages);
    expect(readings.length).toBeGreaterThan(0);
    for (const reading of readings) expect(reading.got, JSON.stringify(reading.wanted)).toEqual(expected(server, reading));
    expect(lines).toEqual(server.lines.map(({ seq }) => seq));
  });

  const started = () => {
    const server = new FakeServer();
    for (let count = 0; count < 10; count++) server.commit("job.submitted", "j1");
    const hub = new Hub(server.open);
    const page = new FakePage(() => hub);
    return { server, hub, page };
  };

  it("are told when the log does not lead on from where they stand, and begin anew", () => {
    const { server, page } = started();
    const reading = read(page, { subscribe: "events", after: 10 });
    settle(server, [page]);
    server.living.forEach((socket) => socket.cut());
    for (let count = 0; count < 10; count++) server.commit("job.submitted", "j1");
    server.archived = 15;
    settle(server, [page]);
    expect([reading.got, reading.failed]).toEqual([[], 410]);
    const again = read(page, { subscribe: "events", after: 20 });
    server.commit("job.submitted", "j1");
    settle(server, [page]);
    expect([again.got, again.failed]).toEqual([[21], 0]);
  });

  it("begin anew where the log has become another, shorter one", () => {
    const { server, page } = started();
    const reading = read(page, { subscribe: "events", after: 10 });
    settle(server, [page]);
    server.log.length = 4;
    server.living.forEach((socket) => socket.cut());
    settle(server, [page]);
    expect(reading.failed).toBe(400);
    expect(page.link?.position).toBe(4);
    const again = read(page, { subscribe: "events", after: 4 });
    server.commit("job.submitted", "j1");
    settle(server, [page]);
    expect(again.got).toEqual([5]);
  });

  it("do not fall behind while nothing comes that they want", () => {
    const { server, page } = started();
    const reading = read(page, { subscribe: "events", after: 10, types: ["device"] });
    settle(server, [page]);
    for (let count = 0; count < 10; count++) server.commit("job.submitted", "j1");
    settle(server, [page]);
    server.archived = 18;
    server.living.forEach((socket) => socket.cut());
    page.subscriber.rejoin();
    server.commit("device.onboarded", "");
    settle(server, [page]);
    expect([reading.got, reading.failed]).toEqual([[21], 0]);
  });

  it("that crashed are forgotten", () => {
    const { server, hub, page } = started();
    read(page, { subscribe: "events", after: 0, job_id: "j1" });
    page.subscriber.subscribe({ subscribe: "usage" }, () => undefined);
    settle(server, [page]);
    expect(server.living[0]?.names).toEqual(["shared", "usage"]);
    page.isFrozen = true;
    for (let tick = 0; tick < 20; tick++) hub.tick();
    expect(server.living[0]?.names).toEqual(["shared"]);
  });

  it("are told all that is new at most ten times a second, whatever they subscribe to", () => {
    const { server, page } = started();
    read(page, { subscribe: "events", after: 10 });
    settle(server, [page]);
    let told = 0;
    const port: Port = { post: () => void told++ };
    const hub = new Hub(server.open);
    hub.join(port);
    server.sockets.at(-1)?.decided();
    for (const id of ["a", "b", "c"]) hub.take(port, { id, subscribe: "events", after: 10 });
    vi.advanceTimersByTime(1000);
    told = 0;
    for (let count = 0; count < 100; count++) {
      server.commit("job.submitted", "j1");
      server.living.forEach((socket) => socket.names.forEach((name) => socket.serve(name, Infinity)));
      vi.advanceTimersByTime(10);
    }
    expect(told).toBeGreaterThan(2);
    expect(told).toBeLessThan(12);
  });

  it("are told of an event, of its position and for all their subscriptions, by one message", () => {
    const { server, hub } = started();
    const got: ToPage[] = [];
    const port: Port = { post: (news) => got.push(news) };
    hub.join(port);
    server.sockets.at(-1)?.decided();
    for (const id of ["a", "b", "c"]) hub.take(port, { id, subscribe: "events", after: 10 });
    server.living.forEach((socket) => socket.names.forEach((name) => socket.serve(name, Infinity)));
    vi.advanceTimersByTime(1000);
    got.length = 0;
    server.commit("job.submitted", "j1");
    server.living.forEach((socket) => socket.names.forEach((name) => socket.serve(name, Infinity)));
    vi.advanceTimersByTime(1);
    expect(got).toHaveLength(1);
    expect(got[0]).toMatchObject([{ id: "a", event: { position: 11 } }, { id: "b" }, { id: "c" }, { link: { position: 11 } }]);
  });

  it("are told of an event's position with the event, not with the next one", () => {
    const { server, page } = started();
    read(page, { subscribe: "events", after: 10 });
    settle(server, [page]);
    const positions: number[] = [];
    const hub = new Hub(server.open);
    hub.join({ post: (all) => all.forEach((news) => "link" in news && positions.push(news.link.position)) });
    server.sockets.at(-1)?.decided();
    for (const position of [11, 12, 13]) {
      vi.advanceTimersByTime(1000);
      server.commit("job.submitted", "j1");
      server.living.forEach((socket) => socket.names.forEach((name) => socket.serve(name, Infinity)));
      vi.advanceTimersByTime(1);
      expect(positions.at(-1)).toBe(position);
    }
  });
});

describe("the line", () => {
  it("is live once the DMS has spoken, and tells how long ago it did", () => {
    const server = new FakeServer();
    const page = new FakePage(() => new Hub(server.open));
    const heard = () => {
      vi.advanceTimersByTime(100);
      page.arrive();
    };
    page.subscriber.join();
    heard();
    expect(page.link?.state).toBe("connecting");
    server.sockets[0]?.decided();
    heard();
    expect(page.link?.state).toBe("live");
    server.sockets[0]?.cut();
    heard();
    expect(page.link).toMatchObject({ state: "reconnecting", reason: "the DMS can't be reached" });
  });

  it("that is dead after a sleep is not waited for", () => {
    const server = new FakeServer();
    const hub = new Hub(server.open);
    server.sockets[0]?.decided();
    vi.setSystemTime(Date.now() + 3_600_000); // no timer ran meanwhile
    hub.check();
    expect(server.sockets[0]?.readyState).toBe(3);
    vi.advanceTimersByTime(1000);
    expect(server.sockets.length).toBe(2);
  });

  it("is tried ever more rarely while a proxy opens it and cuts it again", () => {
    const server = new FakeServer();
    new Hub(server.open);
    const began = Date.now();
    while (server.sockets.length < 8) {
      const socket = server.sockets.at(-1);
      if (socket && socket.readyState === 0) {
        socket.readyState = 1;
        socket.onopen?.(new Event("open"));
        socket.cut();
      }
      vi.advanceTimersByTime(50);
    }
    expect(Date.now() - began).toBeGreaterThan(20_000);
  });

  it("that says what is not understood is left", () => {
    const server = new FakeServer();
    new Hub(server.open);
    server.sockets[0]?.decided();
    server.sockets[0]?.onmessage?.({ data: "<html>" } as MessageEvent);
    vi.advanceTimersByTime(1000);
    expect(server.sockets.length).toBe(2);
  });
});
