/** Looks at what no event tells of, now and then while the page is in sight. */
import { useEffect, useRef } from "preact/hooks";

export function useRegularly(look: () => void, everyMs: number): void {
  const latest = useRef(look);
  latest.current = look;
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") latest.current();
    }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
