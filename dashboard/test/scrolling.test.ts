import { describe, expect, it } from "vitest";
import { lookAt, scrollFor, type Geometry } from "../src/components/scrolling";
import { randomOf } from "./random";

describe("a long list", () => {
  it("begins with its first row at the upper edge, and ends with its last one at the lower edge", () => {
    const geometry = { count: 1_000_000, rowPx: 20, heightPx: 600, spareRows: 0 };
    expect(lookAt(geometry, 0)).toMatchObject({ position: 0, anchorPx: 0, first: 0, inSightFirst: 0 });
    const { tallPx } = lookAt(geometry, 0);
    expect(lookAt(geometry, tallPx - 600)).toMatchObject({ position: 1_000_000, anchorPx: 600, last: 1_000_000, inSightLast: 1_000_000 });
  });

  it("draws every row that is in sight, and few others, wherever it is scrolled to", () => {
    for (let seed = 0; seed < 500; seed++) {
      const random = randomOf(seed);
      const geometry: Geometry = { count: random(3_000_000), rowPx: 10 + random(40), heightPx: 1 + random(1500), spareRows: 0 };
      const { tallPx } = lookAt(geometry, 0);
      const look = lookAt(geometry, random(Math.max(1, tallPx - geometry.heightPx + 1)));
      const topRow = look.position - look.anchorPx / geometry.rowPx;
      const bottomRow = topRow + geometry.heightPx / geometry.rowPx;
      expect(look.first).toBeLessThanOrEqual(Math.max(0, Math.floor(topRow + 1e-6)));
      expect(look.last).toBeGreaterThanOrEqual(Math.min(geometry.count, Math.ceil(bottomRow - 1e-6)));
      expect(look.last - look.first).toBeLessThanOrEqual(geometry.heightPx / geometry.rowPx + 17);
    }
  });

  it("is scrolled to where a row stands at a height", () => {
    for (let seed = 0; seed < 300; seed++) {
      const random = randomOf(seed);
      const geometry: Geometry = { count: 2000 + random(2_000_000), rowPx: 20, heightPx: 600, spareRows: 0 };
      const index = 100 + random(geometry.count - 200);
      const at = random(600);
      const { position, anchorPx } = lookAt(geometry, scrollFor(geometry, index, at));
      expect(anchorPx + (index - position) * 20).toBeCloseTo(at, 3);
    }
  });

  it("that fits into its box stays", () => {
    expect(scrollFor({ count: 3, rowPx: 20, heightPx: 600, spareRows: 0 }, 2, 0)).toBe(0);
    expect(lookAt({ count: 3, rowPx: 20, heightPx: 600, spareRows: 0 }, 0)).toMatchObject({ first: 0, last: 3, position: 0 });
    expect(lookAt({ count: 0, rowPx: 20, heightPx: 600, spareRows: 0 }, 0)).toMatchObject({ first: 0, last: 0, tallPx: 0 });
  });
});
