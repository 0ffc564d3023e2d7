import { effect, signal } from "@preact/signals";
import { beforeAll, describe, expect, it, vi } from "vitest";
import type { Link } from "../src/live/protocol";

const act = () => undefined;
let keys: typeof import("../src/app/keys");
let fresh: typeof import("../src/app/freshness");
let clock: typeof import("../src/app/clock_notice");
let build: typeof import("../src/app/newer_build");

beforeAll(async () => {
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined });
  vi.stubGlobal("location", { pathname: "/dashboard/", search: "", hash: "" });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("document", { documentElement: { outerHTML: "" }, querySelector: () => null });
  clock = await import("../src/app/clock_notice");
  [keys, fresh, build] = await Promise.all([import("../src/app/keys"), import("../src/app/freshness"), import("../src/app/newer_build")]);
});

describe("keys", () => {
  const all = [[{ key: "n", does: "new", act }, { key: "g j", does: "jobs", act }], [{ key: "n", does: "next hit", act }, { key: "j", does: "row", act }]];

  it("mean what was opened last", () => expect(keys.meaning(all, "", "n")?.does).toBe("next hit"));
  it("may be two, one after the other", () => expect(keys.meaning(all, "g", "j")?.does).toBe("jobs"));
  it("mean what they mean alone after another key", () => expect(keys.meaning(all, "x", "j")?.does).toBe("row"));
  it("mean nothing otherwise", () => expect(keys.meaning(all, "g", "z")).toBeUndefined());
});

describe("freshness", () => {
  it.each([
    ["live", 10_200, "live · position 1,234 · 0.2 s ago"],
    ["live", 9_000, "live · position 1,234 · 0.0 s ago"],
    ["reconnecting", 22_000, "reconnecting, last seen 12 s ago"],
  ] as const)("of a line that is %s says how old it is", (state, now, words) => {
    expect(fresh.freshness(state, 1234, 10_000, now)).toBe(words);
  });

  it("changes with the clock, with news and with the line, not with each beat", () => {
    const [line, now] = [signal<Link>({ state: "live", position: 1, lastHeard: 1000, aheadMs: 0, reason: "" }), signal(1200)];
    const words = fresh.wordsOf(line, now);
    const shown: string[] = [];
    const end = effect(() => void shown.push(words.value));
    line.value = { ...line.value, lastHeard: 2000 };
    now.value = 2400;
    line.value = { ...line.value, position: 2, lastHeard: 2500 };
    line.value = { ...line.value, state: "reconnecting" };
    end();
    expect(shown).toEqual([
      "live · position 1 · 0.2 s ago",
      "live · position 1 · 0.4 s ago",
      "live · position 2 · 0.0 s ago",
      "reconnecting, last seen 0.0 s ago",
    ]);
  });

  it("says how far off this machine's clock is, where that matters", () => {
    expect([0, 4_999, -4_999].map(clock.clockWords)).toEqual(["", "", ""]);
    expect(clock.clockWords(125_000)).toContain("2 min 5 s behind the DMS's");
    expect(clock.clockWords(-7_200_000)).toContain("2 h 0 min ahead of the DMS's");
  });

  it("of a line that never was says so", () => expect(fresh.freshness("connecting", 0, 0, 5)).toBe("connecting"));
});

describe("a build", () => {
  const page = (hash: string) => `<script src="/dashboard/assets/main-${hash}.js"></script><link href="/dashboard/assets/main-A.css">`;

  it("is another when one of its files is", () => {
    expect(build.buildOf(page("A"))).toBe("/dashboard/assets/main-A.css /dashboard/assets/main-A.js");
    expect(build.buildOf(page("A"))).not.toBe(build.buildOf(page("B")));
  });

  it("is the same in whatever order a browser writes its page", () => {
    expect(build.buildOf(`${page("A")}<div id="app">x</div>`)).toBe(build.buildOf(page("A")));
  });
});
