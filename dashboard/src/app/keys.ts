/**
 * Keys of the pages. A page says which it has while it is open; `?` lists them all. None works while one types, with Ctrl,
 * Alt or Meta, or in a dialog, and all can be switched off.
 */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { store, stored } from "./stored";

/** key: as `KeyboardEvent.key` names it, or two of them one after the other ("g j"). does: for the help. */
export interface Key {
  key: string;
  does: string;
  act: () => void;
}

const STORED = "dms.keys";
const SECOND_KEY_MS = 1_500;

/** Those of what is open; the last ones win. */
export const registered = signal<readonly (readonly Key[])[]>([]);
export const keysOn = signal(stored("localStorage", STORED) !== "off");
let [first, firstAt] = ["", 0];

export function switchKeys(on: boolean): void {
  store("localStorage", STORED, on ? "on" : "off");
  keysOn.value = on;
}

/** While the component is there. What a key does may change with each render; which keys there are may not. */
export function useKeys(keys: readonly Key[]): void {
  const newest = useRef(keys);
  newest.current = keys;
  useEffect(() => {
    const mine = keys.map(({ key, does }) => ({ key, does, act: () => newest.current.find((one) => one.key === key)?.act() }));
    registered.value = [...registered.peek(), mine];
    return () => void (registered.value = registered.peek().filter((one) => one !== mine));
  }, []);
}

/** What a key means now. before: the key pressed just before, which may begin one of two. */
export function meaning(all: readonly (readonly Key[])[], before: string, key: string): Key | undefined {
  const newestFirst = [...all].reverse().flat();
  return newestFirst.find((one) => one.key === `${before} ${key}`) ?? newestFirst.find((one) => one.key === key);
}

export function takeKey(event: KeyboardEvent): void {
  if (!keysOn.peek() || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || isTaken(event.target, event.key)) return;
  const now = performance.now();
  const found = meaning(registered.peek(), now - firstAt < SECOND_KEY_MS ? first : "", event.key);
  [first, firstAt] = [found ? "" : event.key, now];
  if (!found) return;
  event.preventDefault();
  found.act();
}

/** Where keys are text, or mean something else: in fields, in dialogs, and Enter on what can be pressed. */
function isTaken(target: EventTarget | null, key: string): boolean {
  if (document.querySelector("dialog[open]")) return true;
  const element = target instanceof Element ? target : null;
  if (element?.closest("textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])")) return true;
  return key === "Enter" && element?.closest("a, button, summary, input") != null;
}
