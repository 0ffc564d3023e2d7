/** Short news at the edge of the page, read out by screen readers. They go by themselves; what is lasting belongs into the page. */
import { signal } from "@preact/signals";
import { plain } from "../app/format";

interface Toast {
  id: number;
  text: string;
  action?: { text: string; run: () => void };
}

const SHOWN_MS = 8_000;
const MOST = 4;
const shown = signal<readonly Toast[]>([]);
let next = 0;

/** action: what can be done about it; such a toast stays until it is closed. */
export function toast(text: string, action?: { text: string; run: () => void }): void {
  const made: Toast = { id: next++, text, ...(action && { action }) };
  shown.value = [...shown.peek().filter((one) => one.text !== text), made].slice(-MOST);
  if (!action) setTimeout(() => close(made.id), SHOWN_MS);
}

function close(id: number): void {
  shown.value = shown.peek().filter((one) => one.id !== id);
}

export function Toasts() {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map(({ id, text, action }) => (
        <div class="toast" key={id}>
          <span>{plain(text)}</span>
          {action && <button onClick={() => { close(id); action.run(); }}>{action.text}</button>}
          <button class="quiet" aria-label="Close" onClick={() => close(id)}>✕</button>
        </div>
      ))}
    </div>
  );
}
