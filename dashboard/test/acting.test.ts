import { describe, expect, it, vi } from "vitest";

vi.stubGlobal("location", { pathname: "/dashboard/sp", search: "", hash: "" });
vi.stubGlobal("addEventListener", () => undefined);
const { whyNoActions } = await import("../src/app/acting");
const { link } = await import("../src/live/live");

describe("what a page may change", () => {
  it("is off once no connection was had, also at the very first", () => {
    link.value = { state: "connecting", position: 0, lastHeard: 0, reason: "" };
    expect(whyNoActions.value).toBe("");
    link.value = { state: "connecting", position: 0, lastHeard: 0, reason: "the DMS can't be reached" };
    expect(whyNoActions.value).toContain("no connection");
    link.value = { state: "live", position: 1, lastHeard: 1, reason: "" };
    expect(whyNoActions.value).toBe("");
    link.value = { state: "reconnecting", position: 1, lastHeard: 1, reason: "the DMS says nothing" };
    expect(whyNoActions.value).toContain("no connection");
  });
});
