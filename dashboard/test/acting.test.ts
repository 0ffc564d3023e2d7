import { describe, expect, it, vi } from "vitest";
import type { Session } from "../src/api/answers";

vi.stubGlobal("location", { pathname: "/dashboard/sp", search: "", hash: "" });
vi.stubGlobal("addEventListener", () => undefined);
const { whyNot } = await import("../src/app/acting");
const { session } = await import("../src/app/session");
const { link } = await import("../src/live/live");

describe("what a page may change", () => {
  it("is off once no connection was had, also at the very first", () => {
    link.value = { state: "connecting", position: 0, lastHeard: 0, aheadMs: 0, reason: "" };
    expect(whyNot("steer jobs")).toBe("");
    link.value = { state: "connecting", position: 0, lastHeard: 0, aheadMs: 0, reason: "the DMS can't be reached" };
    expect(whyNot("steer jobs")).toContain("no connection");
    link.value = { state: "live", position: 1, lastHeard: 1, aheadMs: 0, reason: "" };
    expect(whyNot("steer jobs")).toBe("");
    link.value = { state: "reconnecting", position: 1, lastHeard: 1, aheadMs: 0, reason: "the DMS says nothing" };
    expect(whyNot("steer jobs")).toContain("no connection");
  });
  it("is off for a token of another role, which is named, and on where the role is not told", () => {
    link.value = { state: "live", position: 1, lastHeard: 1, aheadMs: 0, reason: "" };
    const whys = (role: Session["role"]) => {
      session.value = { role } as Session;
      return (["ask for jobs", "steer jobs", "steer the provider", "claim rewards and refunds", "administer"] as const).map((need) => whyNot(need) === "");
    };
    expect(whys("admin")).toEqual([true, true, true, true, true]);
    expect(whys("spd")).toEqual([true, true, false, false, false]);
    expect(whys("cpd")).toEqual([false, true, true, true, false]);
    expect(whys("read")).toEqual([false, false, false, false, false]);
    expect(whyNot("administer")).toBe("To administer takes a token of the role admin; yours is read.");
    session.value = null;
    expect(whyNot("administer")).toBe("");
  });
});
