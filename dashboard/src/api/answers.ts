/** The API's answers as the pages read them: made from its description, so that a change of it breaks the build. */
import type { components } from "./generated/openapi";

type Schemas = components["schemas"];

/** A field that the description knows as an object only. */
export type Loose = Record<string, unknown>;

/** CPU in MHz, memory in MB. */
export type Resources = Schemas["Resources"];
export type Gpu = Schemas["Gpu"];
export type GpuStatus = Schemas["GpuStatus"];
export type Provider = Schemas["ProviderCapacity"];
export type Hardware = Schemas["Provisioned"];
export type OfferLimits = Schemas["OfferLimits"];
export type DeviceStatus = Schemas["DeviceStatus"];
/** What the DMS finds about its own machine. */
export type Examination = Schemas["ExaminationAnswer"];
export type DeviceUsage = Schemas["DeviceUsage"];
export type Sample = Schemas["UsageSample"];
/** job_id: null for the whole machine's. */
export type UsageNews = Schemas["UsageNews"];
export type Policy = Schemas["Policy"];
export type PolicyLists = Schemas["PolicyLists"];
export type RefusedPeer = Schemas["RefusedPeer"];
export type OffboardForecast = Schemas["OffboardForecast"];

export type JobRow = Schemas["JobSummary"];
/** The same as its provider has it. */
export type Deployment = JobRow;
export type JobsSummary = Schemas["JobsSummary"];
export type JobEvent = Omit<Schemas["JobEvent"], "data"> & { data: Loose };
export type StopOutcome = Schemas["StopOutcome"];
export type DryRun = Schemas["DryRun"];
export type Quote = Schemas["QuoteAnswer"];
export type Results = Schemas["ResultsAnswer"];
export type Checkpoint = Schemas["CheckpointAnswer"];
export type Metrics = Schemas["MetricsAnswer"];
/** secrets: variables whose values are not kept. */
export type RequestAgain = Omit<Schemas["RequestAnswer"], "request"> & { request: Loose };
export type Verification = Schemas["VerificationAnswer"];

export type Transaction = Schemas["Transaction"];
export type Reward = Schemas["Reward"];
/** Amounts: NTX, decimal text. group: a day (UTC), a peer id or a job id. */
export type Earned = Schemas["Earnings"];
export type Earnings = Schemas["EarningsAnswer"];

/** role: null for somebody unknown, who needs a token. */
export type Session = Schemas["SessionAnswer"];
export type ConnectedPeer = Schemas["Peer"];
export type Density = Schemas["DensityAnswer"];
export type Difference = Schemas["DiffAnswer"];
export type OutputWindow = Schemas["OutputWindow"];
export type OutputSearch = Schemas["OutputSearch"];
export type OutputGap = Schemas["GapAnswer"];
