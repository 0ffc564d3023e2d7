/** What the provider's pages follow: this machine's row, the jobs that run on it, and what they use. */
import { useEffect } from "preact/hooks";
import { signal, useComputed, useSignal, useSignalEffect, type ReadonlySignal } from "@preact/signals";
import { get } from "../../api/client";
import { moment } from "../../app/router";
import { useView, type View } from "../../app/view";
import { link, onUsage } from "../../live/live";
import type { LogEvent } from "../../live/protocol";
import { CAPACITY_EVENTS, moved, remembered, seenBefore } from "./capacity";
import { OPEN_STATUSES } from "./deployments";
import type { Deployment, DeviceUsage, Provider, UsageNews } from "../../api/answers";
import { NO_USAGE, usageOf, withSample, type Usage } from "./usage";

const MOST_RUNNING = 200;

export interface FollowedMachine {
  /** null until it is known, and of a machine that was never onboarded. */
  row: ReadonlySignal<Provider | null>;
  known: ReadonlySignal<boolean>;
  running: ReadonlySignal<readonly Deployment[]>;
  capacity: View<{ items: Provider[] }>;
  deployments: View<{ items: Deployment[] }>;
}

/** The row moves with each event, and is confirmed by the answer that follows. */
export function useMachine(): FollowedMachine {
  const events = useSignal<readonly LogEvent[]>([]);
  const capacity = useView<{ items: Provider[] }>("/providers", {
    query: { own: true },
    types: CAPACITY_EVENTS,
    event: (event) => (events.value = remembered(events.value, event)),
    lost: () => (events.value = []),
  });
  const deployments = useView<{ items: Deployment[] }>("/jobs", {
    query: { role: "compute provider", status: OPEN_STATUSES, limit: MOST_RUNNING },
    types: ["deployment.*"],
  });
  const running = useComputed(() => deployments.answer.value?.body.items ?? []);
  const seen = useSignal<readonly Deployment[]>([]);
  useSignalEffect(() => void (seen.value = seenBefore(seen.peek(), running.value)));
  const row = useComputed(() => {
    const answer = capacity.answer.value;
    const found = answer?.body.items.find(({ own }) => own);
    if (!answer || !found) return null;
    return moment.value ? found : moved(found, answer.position, seen.value, events.value);
  });
  const known = useComputed(() => capacity.answer.value !== null);
  return { row, known, running, capacity, deployments };
}

export interface FollowedUsage {
  usage: ReadonlySignal<Usage>;
  error: ReadonlySignal<string>;
  /** It was answered or refused. */
  come: ReadonlySignal<boolean>;
}

/** Of the present alone: it is in no log. Asked anew when the connection comes back, since what came meanwhile is missed. */
export function useUsage(): FollowedUsage {
  const [usage, error] = [useSignal<Usage>(NO_USAGE), useSignal("")];
  const come = useSignal(false);
  const live = useComputed(() => link.value.state === "live");
  const off = moment.value !== "";
  useEffect(() => {
    if (off) return;
    return onUsage((news) => (usage.value = withSample(usage.value, news as UsageNews)));
  }, [off]);
  useEffect(() => {
    if (off) return;
    const asked = new AbortController();
    get<DeviceUsage>("/device/usage", {}, asked.signal).then(
      ({ body }) => ((usage.value = usageOf(body, usage.value)), (error.value = ""), (come.value = true)),
      (found: unknown) => {
        if (asked.signal.aborted) return;
        error.value = found instanceof Error ? found.message : String(found);
        come.value = true;
      },
    );
    return () => asked.abort();
  }, [off, live.value]);
  return { usage, error, come };
}

/** The next end that is asked about; one dialog for all rows of a page. */
export const endingJob = signal<Deployment | null>(null);
