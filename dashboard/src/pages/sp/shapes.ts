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
