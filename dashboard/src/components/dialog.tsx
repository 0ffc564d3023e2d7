/** A question before something that can't be taken back, in the browser's own modal dialog. */
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren } from "preact";

interface Props {
  title: string;
  confirm: string;
  danger?: boolean;
  /** Why it can't be confirmed now; empty when it can. */
  hindrance?: string;
  onConfirm: () => void;
  onCancel: () => void;
  children?: ComponentChildren;
}

export function Dialog({ title, confirm, danger = false, hindrance = "", onConfirm, onCancel, children }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog ref={element} aria-label={title} onCancel={onCancel} onClose={onCancel}>
      <h2>{title}</h2>
      {children}
      <div class="actions">
        <button onClick={onCancel}>Not now</button>
        <button class={danger ? "danger" : "primary"} disabled={hindrance !== ""} title={hindrance} onClick={onConfirm}>{confirm}</button>
      </div>
    </dialog>
  );
}
