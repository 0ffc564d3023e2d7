/** A page that fails says so, with what to do, and the rest goes on. */
import { Component, type ComponentChildren } from "preact";
import { plain } from "./format";

interface Props {
  /** Another place is another try. */
  at: string;
  children: ComponentChildren;
}

export class ErrorBoundary extends Component<Props, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  override componentDidCatch(error: unknown): void {
    this.setState({ error });
  }

  override componentDidUpdate(before: Props): void {
    if (before.at !== this.props.at && this.state.error !== null) this.setState({ error: null });
  }

  render() {
    return this.state.error === null ? this.props.children : <Failed error={this.state.error} retry={() => this.setState({ error: null })} />;
  }
}

function Failed({ error, retry }: { error: unknown; retry: () => void }) {
  const details = error instanceof Error ? `${error.message}\n\n${error.stack ?? ""}` : String(error);
  return (
    <section class="trouble" role="alert">
      <h1>This page does not work</h1>
      <p>It is a fault of the dashboard's. Your jobs are not touched by it, and <code>nunet</code> shows the same on the command line.</p>
      <div class="row"><button class="primary" onClick={retry}>Try again</button><button onClick={() => location.reload()}>Load the dashboard again</button></div>
      <details><summary>Details, for a report of the fault</summary><pre class="scroll">{details.split("\n").map(plain).join("\n")}</pre></details>
    </section>
  );
}
