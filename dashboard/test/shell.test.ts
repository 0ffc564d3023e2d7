import { beforeAll, describe, expect, it, vi } from "vitest";

const act = () => undefined;
let keys: typeof import("../src/app/keys");
let fresh: typeof import("../src/app/freshness");
let build: typeof import("../src/app/newer_build");

beforeAll(async () => {
  vi.stubGlobal("localStorage", { getItem: () => null, setItem: () => undefined });
  vi.stubGlobal("location", { pathname: "/dashboard/", search: "", hash: "" });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("document", { documentElement: { outerHTML: "" }, querySelector: () => null });
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
  const link = { position: 1234, lastHeard: 10_000, reason: "" };

  it.each([
    ["live", 10_200, "live · position 1,234 · 0.2 s ago"],
    ["live", 9_000, "live · position 1,234 · 0.0 s ago"],
    ["reconnecting", 22_000, "reconnecting, last seen 12 s ago"],
  ] as const)("of a line that is %s says how old it is", (state, now, words) => {
    expect(fresh.freshness({ ...link, state }, now)).toBe(words);
  });

  it("of a line that never was says so", () => expect(fresh.freshness({ ...link, state: "connecting", lastHeard: 0 }, 5)).toBe("connecting"));
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
