/** A job's output as the API gives it. */
import type { OutputGap, OutputSearch, OutputWindow } from "../../api/answers";
import { address, get } from "../../api/client";
import { onOutput } from "../../live/live";
import type { GrowingLine, OutputLine, Problem } from "../../live/protocol";

export type StreamFilter = "" | "stdout" | "stderr";

/** What the viewer has to know of a job. log_url holds the token that is the right to read the output. */
export interface OutputJob {
  job_id: string;
  log_url: string;
  status: string;
}

/** Lines `first` to `last` are not here. */
export type Gap = OutputGap;

/**
 * next: where the next page goes on, in the direction that was read; null: nothing is there. total_lines: of both
 * streams, which is the number of the last one. sealed: there will be no more. damage: how it differs from what was sealed.
 */
export type OutputPage = Omit<OutputWindow, "lines"> & { lines: OutputLine[] };

/** Lines behind `after`, or the last ones before `before`, or the last ones of all. */
export interface PageWanted {
  after?: number;
  before?: number;
  from_end?: boolean;
  limit: number;
  stream: StreamFilter;
}

/** count: of the lines that were looked at. next: where to search on. */
export type SearchPage = OutputSearch;

export interface SearchWanted {
  q: string;
  stream: StreamFilter;
  match_case: boolean;
  after: number;
  limit: number;
}

/** What the viewer needs from outside. */
export interface OutputSource {
  page: (wanted: PageWanted, signal: AbortSignal) => Promise<OutputPage>;
  /** Tells all lines behind `after`, of both streams, as they come. Returns what ends it. */
  follow: (after: number, take: (told: { lines?: OutputLine[]; sealed?: boolean; growing?: GrowingLine[] }) => void, failed: (problem: Problem) => void) => () => void;
}

export function outputOf(job: OutputJob): OutputSource & {
  wholeLine: (seq: number) => Promise<OutputLine | undefined>;
  search: (wanted: SearchWanted, signal: AbortSignal) => Promise<SearchPage>;
  downloadUrl: (stream: StreamFilter) => string;
} {
  const path = `/jobs/${encodeURIComponent(job.job_id)}/output`;
  const token = tokenOf(job.log_url);
  const headers = { "x-log-token": token };
  const page = async (query: Record<string, string | number | boolean>, signal?: AbortSignal) => (await get<OutputPage>(path, query, signal, headers)).body;
  return {
    page: ({ from_end, limit, ...rest }, signal) => page(from_end ? { ...rest, from_end: limit } : { ...rest, limit }, signal),
    follow: (after, take, failed) => onOutput({ job_id: job.job_id, after, progress: true }, take, failed),
    wholeLine: async (seq) => (await page({ after: seq - 1, limit: 1, max_line_bytes: LONGEST_LINE_BYTES })).lines[0],
    search: async (wanted, signal) => (await get<SearchPage>(`${path}/search`, { ...wanted }, signal, headers)).body,
    downloadUrl: (stream) => address(`${path}/download`, { stream, token }),
  };
}

const LONGEST_LINE_BYTES = 1024 * 1024;

function tokenOf(logUrl: string): string {
  try {
    return new URL(logUrl, location.origin).searchParams.get("token") ?? "";
  } catch {
    return "";
  }
}
