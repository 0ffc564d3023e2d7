/** Who looks at the page, as the DMS knows them. */
import { computed, signal } from "@preact/signals";
import type { Session } from "../api/answers";
import { get, toLogin } from "../api/client";

export const CHECK_MS = 10_000;

/** null: not known, as of an older DMS. */
export const session = signal<Session | null>(null);

const AUDITORS: readonly (string | null)[] = ["admin", "read"];

/** An export carries the links to others' events, so not every role gets one. Empty when this one does. */
export const whyNoExport = computed((): string =>
  !session.value || AUDITORS.includes(session.value.role) ? "" : `Exports are for tokens of the roles ${AUDITORS.join(" and ")}. Whoever runs this DMS has one, and can export this job for you.`,
);

/** Whom the DMS does not know is asked for a token. It ends all sessions when it is restarted, and then refuses the line:
 *  to the page that looks as if the DMS was away. */
export async function checkSession(): Promise<void> {
  try {
    session.value = (await get<Session>("/session", {}, AbortSignal.timeout(CHECK_MS))).body;
    if (session.value.role === null) toLogin();
  } catch {
    // What the page itself asks for tells what is wrong.
  }
}
