/** A question before something that can't be taken back, in the browser's own modal dialog. */
import { useEffect, useId, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { plain } from "../app/format";

interface ModalProps {
  title: string;
  class?: string;
  /** Told by Escape. Whoever does not take it away then is shown again. */
  close: () => void;
  children: ComponentChildren;
}

/** While it is there, nothing else can be reached; then the focus is where it was before. */
export function Modal({ title, class: name, close, children }: ModalProps) {
  const element = useRef<HTMLDialogElement>(null);
  const closings = useSignal(0);
  useEffect(() => {
    const before = document.activeElement;
    return () => {
      if (before instanceof HTMLElement) before.focus({ preventScroll: true }); // a dialog that is removed takes the focus with it
    };
  }, []);
  useEffect(() => element.current?.showModal(), [closings.value]);
  const closed = (): void => {
    if (!element.current) return; // it was removed
    close();
    closings.value++;
  };
  return <dialog ref={element} class={name} aria-label={title} onClose={closed}>{children}</dialog>;
}

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
  const id = useId();
  return (
    <Modal title={title} close={onCancel}>
      <h2>{title}</h2>
      {children}
      <p id={id} class="faint why">{plain(hindrance)}</p>
      <div class="actions">
        <button onClick={onCancel}>Not now</button>
        <button class={danger ? "danger" : "primary"} aria-disabled={hindrance ? "true" : undefined} aria-describedby={id} onClick={() => hindrance || onConfirm()}>{confirm}</button>
      </div>
    </Modal>
  );
}
