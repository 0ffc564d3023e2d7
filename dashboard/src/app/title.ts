/** The title of the page's tab: what goes on first, so that it is seen in a narrow tab. */
import { useEffect } from "preact/hooks";

/** usePageTitle("Jobs", "▶ 2 running") -> "▶ 2 running · Jobs · DMS" */
export function usePageTitle(name: string, state = ""): void {
  useEffect(() => {
    document.title = [state, name, "DMS"].filter(Boolean).join(" · ");
    return () => void (document.title = "DMS");
  }, [name, state]);
}
