/** A list of any length that keeps only the rows in sight in the document. Rows have one fixed height. */
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

const OVERSCAN = 8;
/** Browsers can't make an element taller than some 33 million pixels. */
const TALLEST_PX = 8_000_000;

interface Props {
  count: number;
  rowPx: number;
  label: string;
  row: (index: number) => ComponentChildren;
  /** Told which rows are in sight, so that they can be fetched. */
  seen?: (first: number, last: number) => void;
  /** The row that is to be in sight whenever this changes; none: wherever one scrolled to. */
  inSight?: number;
  class?: string;
}

export function VirtualList({ count, rowPx, label, row, seen, inSight, class: name = "" }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(600);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => ([top.value, height.value] = [element.scrollTop, element.clientHeight]);
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, []);
  useEffect(() => {
    const element = box.current;
    if (!element || inSight === undefined || inSight < 0) return;
    const [full, tall] = [count * rowPx, Math.min(count * rowPx, TALLEST_PX)];
    const scale = tall > element.clientHeight ? (full - element.clientHeight) / (tall - element.clientHeight) : 1;
    const [above, below] = [inSight * rowPx, (inSight + 1) * rowPx - element.clientHeight];
    if (element.scrollTop * scale > above) element.scrollTop = above / scale;
    else if (element.scrollTop * scale < below) element.scrollTop = below / scale;
  }, [inSight]);
  const full = count * rowPx;
  const tall = Math.min(full, TALLEST_PX);
  const scale = tall > height.value ? (full - height.value) / (tall - height.value) : 1;
  const virtualTop = top.value * scale;
  const first = Math.max(0, Math.floor(virtualTop / rowPx) - OVERSCAN);
  const last = Math.min(count, Math.ceil((virtualTop + height.value) / rowPx) + OVERSCAN);
  useEffect(() => seen?.(first, last), [first, last, count]);
  const offset = top.value + (first * rowPx - virtualTop);
  const rows = Array.from({ length: Math.max(0, last - first) }, (_, index) => row(first + index));
  return (
    <div class={`virtual ${name}`} ref={box} role="list" aria-label={label} tabIndex={0}>
      <div class="whole" style={{ height: `${tall}px` }}>
        <div class="rows" style={{ transform: `translateY(${Math.max(0, offset)}px)` }}>{rows}</div>
      </div>
    </div>
  );
}
