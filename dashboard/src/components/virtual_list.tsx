/**
 * A list of any length that keeps only the rows in sight in the document.
 *
 * How far it is scrolled says which row stands at which height: at the top the first row at the upper edge, at the end
 * the last one at the lower edge, in between in proportion. So it makes no difference how tall a row really is (rows may
 * wrap), or that browsers can't make an element as tall as a million rows. What is drawn sticks to the box, so scrolling
 * never shows an empty one.
 */
import { useEffect, useImperativeHandle, useLayoutEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import type { ComponentChildren, Ref } from "preact";
import { lookAt, scrollFor, type Geometry, type Look } from "./scrolling";

/** What a list can be told to do. */
export interface ListHandle {
  toEnd: () => void;
  /** where: of the box, from 0 (upper edge) to 1. */
  toRow: (index: number, where?: number) => void;
  /** The row at the upper edge, and how far above it that row begins, in pixels. */
  top: () => { index: number; abovePx: number };
  /** Puts that row there again, for when rows were added before it. */
  restore: (index: number, abovePx: number) => void;
  focus: () => void;
}

interface Props {
  count: number;
  rowPx: number;
  label: string;
  row: (index: number) => ComponentChildren;
  /** Told which rows are in sight, so that they can be fetched. */
  seen?: (first: number, last: number) => void;
  /** The row that is to be in sight whenever this changes; none: wherever one scrolled to. */
  inSight?: number;
  /** Told after the user scrolled, whether the end is in sight. */
  scrolled?: (atEnd: boolean) => void;
  /** The end stays in sight while rows are added. */
  sticky?: boolean;
  /** Rows may be taller than rowPx. */
  wraps?: boolean;
  handle?: Ref<ListHandle>;
  class?: string;
}

export function VirtualList({ count, rowPx, label, row, seen, inSight, scrolled, sticky = false, wraps = false, handle, class: name = "" }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const drawn = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(600);
  const geometry: Geometry = { count, rowPx, heightPx: height.value, spareRows: wraps ? Math.ceil(height.value / rowPx) : 0 };
  const look = lookAt(geometry, top.value);
  const latest = useRef({ geometry, sticky, scrolled });
  latest.current = { geometry, sticky, scrolled };

  const widest = useRef(0); // so that the scrollbar below does not come and go with the rows
  const own = useRef(0); // how far we scrolled it
  const scrollTo = (to: number) => {
    if (!box.current) return;
    box.current.scrollTop = to;
    own.current = top.value = box.current.scrollTop;
  };
  const current = () => lookAt(latest.current.geometry, box.current?.scrollTop ?? 0);
  useImperativeHandle(handle ?? null, () => ({
    toEnd: () => scrollTo(Number.MAX_SAFE_INTEGER),
    toRow: (index, where = 0.4) => scrollTo(placeOf(latest.current.geometry, index, where)),
    top: () => {
      const { position, anchorPx } = current();
      const atTop = Math.max(0, position - anchorPx / rowPx);
      return { index: Math.floor(atTop), abovePx: (atTop - Math.floor(atTop)) * rowPx };
    },
    restore: (index, abovePx) => scrollTo(scrollFor(latest.current.geometry, index, -abovePx)),
    focus: () => box.current?.focus({ preventScroll: true }),
  }), []);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => {
      height.value = element.clientHeight;
      if (latest.current.sticky) scrollTo(Number.MAX_SAFE_INTEGER);
    };
    const moved = () => {
      top.value = element.scrollTop;
      if (Math.abs(element.scrollTop - own.current) < 1) return;
      own.current = -1;
      latest.current.scrolled?.(element.scrollHeight - element.clientHeight - element.scrollTop <= 2);
    };
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    element.addEventListener("scroll", moved, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", moved);
    };
  }, []);
  useLayoutEffect(() => {
    if (sticky) scrollTo(Number.MAX_SAFE_INTEGER);
  }, [sticky, count]);
  useLayoutEffect(() => {
    if (inSight === undefined || inSight < 0) return;
    const { position, anchorPx } = current();
    const atPx = anchorPx + (inSight - position) * rowPx;
    if (atPx < 0) scrollTo(scrollFor(geometry, inSight, 0));
    else if (atPx + rowPx > geometry.heightPx) scrollTo(scrollFor(geometry, inSight, geometry.heightPx - rowPx));
  }, [inSight]);
  useLayoutEffect(() => {
    if (!drawn.current) return;
    drawn.current.style.transform = `translateY(${offsetOf(drawn.current, look, geometry)}px)`;
    if (!wraps) widest.current = Math.max(widest.current, drawn.current.scrollWidth);
    drawn.current.style.minWidth = wraps ? "" : `${widest.current}px`;
  });
  useEffect(() => seen?.(look.inSightFirst, look.inSightLast), [look.inSightFirst, look.inSightLast, count]);

  const rows = Array.from({ length: Math.max(0, look.last - look.first) }, (_, index) => row(look.first + index));
  return (
    <div class={`virtual ${wraps ? "wraps" : ""} ${name}`} ref={box} role="list" aria-label={label} tabIndex={0}>
      <div class="whole" style={{ height: `${look.tallPx}px` }}>
        <div class="glass" style={{ height: `${Math.min(height.value, look.tallPx)}px` }}>
          <div class="rows" ref={drawn}>{rows}</div>
        </div>
      </div>
    </div>
  );
}

/** How far to scroll to a row. Among rows of unknown heights it can only be had in sight: it is the one that is anchored. */
function placeOf(geometry: Geometry, index: number, where: number): number {
  const { count, heightPx, spareRows } = geometry;
  return spareRows > 0 ? ((index + 0.5) / count) * (lookAt(geometry, 0).tallPx - heightPx) : scrollFor(geometry, index, where * heightPx);
}

/** How far down to move the rows that are drawn, so that each stands where it has to. */
function offsetOf(drawn: HTMLElement, look: Look, { count, heightPx }: Geometry): number {
  if (look.first === 0 && look.last === count) {
    const tooTall = drawn.offsetHeight - heightPx; // all are drawn, so how tall they are is known
    return tooTall > 0 ? -tooTall * look.part : 0;
  }
  const index = Math.min(Math.floor(look.position), count - 1);
  const anchor = drawn.children[index - look.first];
  if (!(anchor instanceof HTMLElement)) return 0;
  return look.anchorPx - anchor.offsetTop - (look.position - index) * anchor.offsetHeight;
}
