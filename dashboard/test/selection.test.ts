import { describe, expect, it } from "vitest";
import type { JobRow } from "../src/api/answers";
import { SparseRows } from "../src/domain/sparse_rows";
import { moved, NOWHERE, placeOf } from "../src/pages/sp/cursor";
import { MOST_SELECTED, toggled } from "../src/pages/sp/selection";

const rowsOf = (...jobs: string[]) => {
  const rows = new SparseRows<JobRow>(50);
  for (let at = 0; at < jobs.length; at += 50) rows.put(at / 50, jobs.slice(at, at + 50).map((job_id) => ({ job_id, image: `image of ${job_id}` }) as JobRow), jobs.length);
  return rows;
};
const none = new Map<string, string>();

describe("a range of jobs", () => {
  it("is between the same two jobs, though a new one moved them", () => {
    const first = toggled(none, rowsOf("d", "c", "b", "a"), "c", "");
    expect([...toggled(first, rowsOf("new", "d", "c", "b", "a"), "a", "c").keys()]).toEqual(["c", "b", "a"]);
    expect([...toggled(first, rowsOf("new", "d", "c", "b", "a"), "d", "c").keys()]).toEqual(["c", "d"]);
  });

  it("is one job where that at its beginning is not there any more", () => {
    expect([...toggled(none, rowsOf("c", "b", "a"), "a", "gone").keys()]).toEqual(["a"]);
  });

  it("is taken off again, and has a bound", () => {
    const many = Array.from({ length: MOST_SELECTED + 50 }, (_, index) => `j${index}`);
    const all = toggled(none, rowsOf(...many), many.at(-1) ?? "", "j0");
    expect(all.size).toBe(MOST_SELECTED);
    expect(toggled(all, rowsOf(...many), "j0", "j1").has("j1")).toBe(false);
  });

  it("has no job that is not in the list", () => expect(toggled(none, rowsOf("a"), "gone", "a").size).toBe(0));
});

describe("the row that keys act on", () => {
  it("stays with its job, and moves on from there", () => {
    const at = moved(moved(NOWHERE, 1, rowsOf("b", "a")), 1, rowsOf("b", "a"));
    const grown = rowsOf("new", "b", "a", "older");
    expect([at.jobId, placeOf(at, grown)]).toEqual(["a", 2]);
    expect(moved(at, 1, grown)).toEqual({ jobId: "older", index: 3 });
  });

  it("stays where it was when its job is not in the list any more", () => {
    const at = moved(NOWHERE, 1, rowsOf("c", "b", "a"));
    expect(placeOf(at, rowsOf("b", "a"))).toBe(0);
  });

  it("goes to rows that are not loaded, and not over the ends", () => {
    const rows = new SparseRows<JobRow>(50);
    rows.put(0, [{ job_id: "a" } as JobRow], 200);
    expect(moved({ jobId: "a", index: 0 }, 60, rows)).toEqual({ jobId: "", index: 60 });
    expect(moved({ jobId: "", index: 199 }, 1, rows).index).toBe(199);
    expect(moved(NOWHERE, -1, rows).index).toBe(0);
  });
});
