/**
 * Keys of the pages. A page says which it has while it is open; `?` lists them all. None works while one types, with Ctrl,
 * Alt or Meta, or in a dialog, and all can be switched off.
 */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

/** Key, or two of them one after the other ("g j"), as `KeyboardEvent.key` names them -> what it does, in words, and doing it. */
export type Keys = Readonly<Record<string, readonly [text: string, run: () => void]>>;

const OFF = "dms.keys";
const SECOND_KEY_MS = 1_500;

/** Those of the pages that are open; the last ones win. */
export const registered = signal<readonly Keys[]>([]);
export const keysAreOn = signal(localStorage.getItem(OFF) !== "off");
let [first, firstAt] = ["", 0];

export function switchKeys(on: boolean): void {
  localStorage.setItem(OFF, on ? "on" : "off");
  keysAreOn.value = on;
}

/** While the component is there. What `run` does may change with each render; which keys there are may not. */
export function useKeys(keys: Keys): void {
  const newest = useRef(keys);
  newest.current = keys;
  useEffect(() => {
    const mine: Keys = Object.fromEntries(Object.entries(keys).map(([key, [text]]) => [key, [text, () => newest.current[key]?.[1]()] as const]));
    registered.value = [...registered.peek(), mine];
    return () => void (registered.value = registered.peek().filter((one) => one !== mine));
  }, []);
}

/** What a key means now; null: nothing. before: the key pressed just before, which may begin one of two. */
export function meaning(all: readonly Keys[], before: string, key: string): (() => void) | null {
  for (const wanted of [`${before} ${key}`, key])
    for (const keys of [...all].reverse()) if (keys[wanted]) return keys[wanted][1];
  return null;
}

export function takeKey(event: KeyboardEvent): void {
  if (!keysAreOn.peek() || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target) || isPressed(event)) return;
  if (document.querySelector("dialog[open]")) return;
  const now = performance.now();
  const run = meaning(registered.peek(), now - firstAt < SECOND_KEY_MS ? first : "", event.key);
  [first, firstAt] = [run ? "" : event.key, now];
  if (!run) return;
  event.preventDefault();
  run();
}

/** Enter on what can be pressed presses it. */
const isPressed = ({ key, target }: KeyboardEvent): boolean => key === "Enter" && target instanceof Element && target.closest("a, button, summary, input, label") !== null;

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && !NOT_TYPED.has(target.type));
}

const NOT_TYPED = new Set(["checkbox", "radio", "button", "submit", "reset"]);
