/** What a test container found of what jobs are kept in. */
import { counted, plain } from "../../app/format";
import { moment } from "../../app/router";
import { useView } from "../../app/view";
import type { Examination } from "../../api/answers";

export function Sandbox() {
  const examined = useView<Examination>("/device/doctor", { types: ["device.sandbox_tested"], presentOnly: true });
  const found = examined.answer.value?.body;
  if (moment.value || (found && !found.sandbox.length)) return null;
  if (!found) return <p class="faint">Sandbox of jobs: {examined.error.value ? plain(examined.error.value) : "asking how it was tested…"}</p>; // keeps its place
  const rest = found.sandbox.filter((row) => row.state !== "passed");
  return (
    <div data-testid="sandbox">
      <p class="faint">
        Sandbox of jobs: {found.sandbox.length - rest.length} of {counted(found.sandbox.length, "test")} passed, {plain(found.engine)}.
      </p>
      {rest.length > 0 && (
        <ul class="reasons" aria-label="What the sandbox's test found">
          {rest.map((row) => <li key={row.name}>{row.name}, {row.state}: {plain(row.found)}{row.advice && <span class="faint"> ({plain(row.advice)})</span>}</li>)}
        </ul>
      )}
    </div>
  );
}
