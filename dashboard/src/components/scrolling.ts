/** Which rows of a long list are in sight. Pure: pixels in, rows out. */

/**
 * rowPx: of a row that does not wrap. heightPx: of the box. spareRows: as many rows longer the scrollbar is made, so that
 * few rows which are tall can be scrolled as well.
 */
export interface Geometry {
  count: number;
  rowPx: number;
  heightPx: number;
  spareRows: number;
}

export interface Look {
  /** Of the element that makes the scrollbar. */
  tallPx: number;
  /** How far it is scrolled: from 0 to 1. */
  part: number;
  /** In rows, with a fraction: what stands `anchorPx` below the upper edge. */
  position: number;
  anchorPx: number;
  /** Rows to draw: from `first` until before `last`. */
  first: number;
  last: number;
  inSightFirst: number;
  inSightLast: number;
}

/** Browsers can't make an element taller than some 17 to 33 million pixels. */
const TALLEST_PX = 15_000_000;
const OVERSCAN = 6;

const tallPx = ({ count, rowPx, spareRows }: Geometry): number => Math.min((count + spareRows) * rowPx, TALLEST_PX);

export function lookAt(geometry: Geometry, topPx: number): Look {
  const { count, rowPx, heightPx } = geometry;
  const tall = tallPx(geometry);
  const way = tall - heightPx;
  const part = way > 0 ? Math.min(1, Math.max(0, topPx / way)) : 0;
  const [position, anchorPx] = [part * count, part * heightPx];
  const before = Math.ceil(anchorPx / rowPx);
  const after = Math.ceil((heightPx - anchorPx) / rowPx) + 1;
  const within = (row: number) => Math.min(count, Math.max(0, row));
  const [inSightFirst, inSightLast] = [within(Math.floor(position) - before), within(Math.floor(position) + after)];
  return { tallPx: tall, part, position, anchorPx, inSightFirst, inSightLast, first: within(inSightFirst - OVERSCAN), last: within(inSightLast + OVERSCAN) };
}

/** How far to scroll so that the row begins `atPx` below the upper edge. */
export function scrollFor(geometry: Geometry, index: number, atPx: number): number {
  const { count, rowPx, heightPx } = geometry;
  const way = tallPx(geometry) - heightPx;
  const rowsWay = count * rowPx - heightPx;
  if (way <= 0 || rowsWay <= 0) return 0;
  return Math.min(1, Math.max(0, (index * rowPx - atPx) / rowsWay)) * way;
}
