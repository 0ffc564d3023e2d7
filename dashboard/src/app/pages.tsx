/** Which page an address shows. `:name` matches one step. */
import type { FunctionComponent } from "preact";
import { href, place } from "./router";
import { ComputeProviderEarnings } from "../pages/cp/earnings";
import { DeploymentHistory } from "../pages/cp/history";
import { ComputeProviderHome } from "../pages/cp/home";
import { ComputeProviderJob } from "../pages/cp/job";
import { ComputeProviderSettings } from "../pages/cp/settings";
import { Peers } from "../pages/peers";
import { ServiceProviderJob } from "../pages/sp/job";
import { ServiceProviderJobs } from "../pages/sp/jobs";
import { NewJob } from "../pages/sp/new";

type Page = FunctionComponent<{ params: Record<string, string> }>;

const PAGES: readonly (readonly [string, Page])[] = [
  ["/", Start],
  ["/sp", ServiceProviderJobs],
  ["/sp/new", NewJob],
  ["/sp/jobs/:id", ServiceProviderJob],
  ["/cp", ComputeProviderHome],
  ["/cp/earnings", ComputeProviderEarnings],
  ["/cp/jobs", DeploymentHistory],
  ["/cp/jobs/:id", ComputeProviderJob],
  ["/cp/settings", ComputeProviderSettings],
  ["/peers", Peers],
];

export function CurrentPage() {
  const { path } = place.value;
  for (const [pattern, Page] of PAGES) {
    const params = matched(pattern, path);
    if (params) return <Page params={params} key={path} />;
  }
  return (
    <section class="empty">
      <h1>No such page</h1>
      <p>There is nothing at <code>{path}</code>. <a href={href("/")}>Go to the start</a>.</p>
    </section>
  );
}

export function matched(pattern: string, path: string): Record<string, string> | null {
  const [wanted, found] = [pattern.split("/"), path.split("/")];
  if (wanted.length !== found.length) return null;
  const params: Record<string, string> = {};
  for (const [index, step] of wanted.entries()) {
    const value = found[index] ?? "";
    if (step.startsWith(":")) params[step.slice(1)] = decoded(value);
    else if (step !== value) return null;
  }
  return params;
}

/** What is not encoded as it should be is taken as it is. */
function decoded(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}

function Start() {
  return (
    <section>
      <h1>Device Management Service</h1>
      <div class="choices">
        <a class="card" href={href("/sp")}><h2>Service provider</h2><p>Run jobs on other people's machines, and pay for them.</p></a>
        <a class="card" href={href("/cp")}><h2>Compute provider</h2><p>Offer this machine, and be paid for what it runs.</p></a>
      </div>
    </section>
  );
}
