/** The API's answers that these pages show. */
import type { components } from "../../api/generated/openapi";

type Schemas = components["schemas"];

export type JobRow = Schemas["JobSummary"] & { paid: boolean; cost: string; checkpoints: number };
export interface JobsSummary { position: number; total: number; by_status: Record<string, number>; failed_in_24_hours: number; spent_ntx: string; earned_ntx: string }
export interface StopOutcome { job_id: string; status: string; outcome: "stopping" | "would_stop" | "stopping_already" | "over" | "unknown" | "failed"; message: string }
export type Provider = Schemas["ProviderCapacity"];
export type DryRun = Schemas["DryRun"];
export type Quote = Schemas["QuoteAnswer"];
export type JobEvent = Omit<Schemas["JobEvent"], "data"> & { data: Record<string, unknown> };
export type Results = Schemas["ResultsAnswer"];
export type Checkpoint = Schemas["CheckpointAnswer"];
export type Metrics = Schemas["MetricsAnswer"];
