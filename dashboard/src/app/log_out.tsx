/** Ends the session of who logged in with a token; nothing for who needs none. */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { failure, get, logOut } from "../api/client";
import { toast } from "../components/toasts";

interface Session {
  client: string;
  by: string;
}

export function LogOut() {
  const session = useSignal<Session | null>(null);
  useEffect(() => {
    get<Session>("/session").then(({ body }) => (session.value = body), () => undefined); // an older DMS has none
  }, []);
  if (session.value?.by !== "session") return null;
  const end = async () => {
    try {
      await logOut();
    } catch (error) {
      toast(failure(error));
    }
  };
  return <button class="quiet" onClick={() => void end()} title={`Logged in as ${session.value.client}`}>Log out</button>;
}
