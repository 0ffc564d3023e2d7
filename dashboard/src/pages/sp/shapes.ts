/** The API's answers that these pages show. */
import type { components } from "../../api/generated/openapi";

type Schemas = components["schemas"];

export type JobRow = Schemas["JobSummary"];
export type JobsSummary = Schemas["JobsSummary"];
export type StopOutcome = Schemas["StopOutcome"];
export type Provider = Schemas["ProviderCapacity"];
export type DryRun = Schemas["DryRun"];
export type Quote = Schemas["QuoteAnswer"];
export type JobEvent = Omit<Schemas["JobEvent"], "data"> & { data: Record<string, unknown> };
export type Results = Schemas["ResultsAnswer"];
export type Checkpoint = Schemas["CheckpointAnswer"];
export type Metrics = Schemas["MetricsAnswer"];
/** secrets: variables whose values are not kept. */
export interface RequestAgain { request: Record<string, unknown>; secrets: string[] }
export type CheckResult = "verified" | "open" | string;
export interface Verification { result: CheckResult; position: number; events: number; checked_at: string | null; checks: { name: string; result: CheckResult; detail: string }[] }
