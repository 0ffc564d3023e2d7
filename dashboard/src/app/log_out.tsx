/** Ends the session of who logged in with a token; nothing for who needs none. */
import { failure, logOut } from "../api/client";
import { toast } from "../components/toasts";
import { session } from "./session";

export function LogOut() {
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
