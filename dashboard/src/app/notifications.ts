/** Notifications of the browser, for what ends while one looks elsewhere. Nothing is asked for but on a click. */
import { signal } from "@preact/signals";
import { plain } from "./format";
import { store, stored } from "./stored";

const STORED = "dms.notifications";

export type Notices = "on" | "off" | "refused" | "impossible";

export const notices = signal<Notices>(now());

function now(): Notices {
  if (!("Notification" in globalThis) || !isSecureContext) return "impossible";
  if (Notification.permission === "denied") return "refused";
  return Notification.permission === "granted" && stored("localStorage", STORED) === "on" ? "on" : "off";
}

/** On a click only: browsers refuse to ask otherwise. */
export async function switchNotices(on: boolean): Promise<void> {
  store("localStorage", STORED, on ? "on" : "off");
  if (on && notices.peek() === "off") await Notification.requestPermission();
  notices.value = now();
}

/** tag: one notification for all open pages of the browser. A click on it goes to the address. */
export function notify(title: string, text: string, tag: string, address: string): void {
  if (notices.peek() !== "on") return;
  const shown = new Notification(plain(title), { body: plain(text), tag, icon: "/dashboard/icon.svg" });
  shown.onclick = () => {
    focus();
    location.assign(address);
    shown.close();
  };
}
