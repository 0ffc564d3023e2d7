/** What the provider's pages read of the API. */

/** CPU in MHz, memory in MB. */
export interface Resources {
  cpu_mhz: number;
  memory_mb: number;
  vram_mb: number;
}

/** free_vram_mb: what jobs leave of it. */
export interface Gpu {
  name: string;
  uuid: string;
  total_vram_mb: number;
  free_vram_mb: number;
  taken: boolean;
  shared: boolean;
}

/** A compute provider as `/providers` and `/capacity` show it. */
export interface Provider {
  provider: string;
  own: boolean;
  available: boolean;
  hindrance: string;
  online: boolean;
  channel: string;
  total: Resources;
  onboarded: Resources;
  reserved: Resources;
  on_hold: Resources;
  free: Resources;
  gpus: Gpu[];
  ntx_price: string;
  network: string;
  network_trouble: string;
  position: number;
}

/** A job that this machine runs or ran for another node, as `/jobs` has it. */
export interface Deployment {
  job_id: string;
  role: string;
  status: string;
  peer: string;
  price: string;
  image: string;
  service_type: string;
  cpu_mhz: number;
  memory_mb: number;
  vram_mb: number;
  minutes: number;
  requested_at: string | null;
  started_at: string | null;
  ended_at: string | null;
  unreachable: boolean;
  exit_code: number | null;
  reason: string;
  fault: string;
  duration_seconds: number;
  log_lines: number | null;
  log_sha256: string;
  log_truncated: boolean;
  attempt: number;
  position: number;
  log_url: string;
  /** Whether it was paid for, as far as this machine knows. */
  paid: boolean;
  /** What it earned, NTX; empty until a paid job is over. */
  cost: string;
  claimed: boolean;
  settled: boolean;
}

/** A paid job of `/transactions`: what is earned by it, and whether that was claimed or paid out. */
export interface Transaction {
  tx_hash: string;
  transaction_type: string;
  paid_at: string | null;
  ended_at: string | null;
  job_id: string;
  role: string;
  price: string;
  minutes: number;
  payee: string;
  payer: string;
  reward_type: string;
  to_provider: string;
  to_requester: string;
  claimed: boolean;
  settled_by: string;
}

/** cpu_cores: on average since the sample before; null for the first. */
export interface Sample {
  time: string;
  cpu_cores: number | null;
  memory_mb: number;
  gpus: { uuid: string; utilization_percent: number | null; memory_mb: number }[];
}

export interface DeviceUsage {
  every_seconds: number;
  cores: number;
  memory_mb: number;
  machine: Sample[];
  jobs: { job_id: string; samples: Sample[] }[];
}

/** job_id: null for the whole machine's. */
export interface UsageNews {
  job_id: string | null;
  sample: Sample;
}

/** What of CPU (MHz) or memory (MB) may be offered. reserved: what running jobs hold. */
export interface OfferLimits {
  least: number;
  most: number;
  offered: number;
  reserved: number;
}

/** What the hardware has, cpu in MHz over all cores, memory in MB, and the rules that an offer of it must keep. */
export interface Hardware {
  cpu: number;
  memory: number;
  total_cores: number;
  cpu_limits: OfferLimits;
  memory_limits: OfferLimits;
  gpus: { name: string; uuid: string; total_vram_mb: number; free_vram_mb: number }[];
  cardano_needs: { cpu: number; memory: number };
  channels: string[];
  most_ntx_price: number;
}
