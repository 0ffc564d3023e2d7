/** What was shown stays until the first answer to another question is here. */
import { effect, useSignal, type ReadonlySignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";

/** What asks for something, and follows it until it is closed. */
export interface Follower {
  readonly ready: ReadonlySignal<boolean>;
  /** Empty: nothing is wrong. */
  readonly error: ReadonlySignal<string>;
  close: () => void;
}

/** Puts `made` there once it has something to show. Returns what closes it. */
export function replace<T extends Follower>(shown: Signal<T | null>, made: T): () => void {
  const unwatch = effect(() => {
    if (made.ready.value || made.error.value || shown.peek() === null) shown.value = made;
  });
  return () => {
    unwatch();
    made.close();
  };
}

/** question: of what `make` asks; another one makes another. */
export function useShown<T extends Follower>(make: () => T, question: string): Signal<T | null> {
  const shown = useSignal<T | null>(null);
  useEffect(() => replace(shown, make()), [question]);
  return shown;
}
