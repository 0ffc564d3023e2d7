/** The payment step: the terms, where to pay, until when, and what happens to the money; then the report of the payment. */
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { duration, ntx, plain } from "../../app/format";
import { now } from "../../app/clock";
import { Action } from "../../components/action";
import { Peer, Time, Trouble } from "../../components/parts";
import { reportPayment, type Told } from "./pay";
import { quoteOf } from "./quotes";
import type { JobEvent, JobRow, Quote } from "../../api/answers";

interface Terms {
  payee: string;
  /** Of the funding window, Unix milliseconds. */
  expiresAt: number;
}

const termsOf = (asked: JobEvent | undefined): Terms => ({ payee: String(asked?.data["payee"] ?? ""), expiresAt: Number(asked?.data["expires_at"] ?? 0) / 1000 });

export function PayPanel({ job, asked }: { job: JobRow; asked: JobEvent | undefined }) {
  const quote = quoteOf(job.job_id);
  const terms = termsOf(asked);
  const address = quote?.compute_provider_addr ?? terms.payee;
  return (
    <section class="card pay" aria-label="Payment">
      <h2>Pay {ntx(job.price)}</h2>
      <dl class="facts">
        <div><dt>Amount</dt><dd><b>{ntx(job.price)}</b> <Copy text={job.price} what="amount" /></dd></div>
        <div><dt>To</dt><dd><code class="whole">{plain(address)}</code> <Copy text={address} what="address" /></dd></div>
        <div><dt>Provider</dt><dd><Peer id={job.peer} /></dd></div>
        <div><dt>Pay until</dt><dd>{terms.expiresAt > 0 ? <><Time at={new Date(terms.expiresAt).toISOString()} /> <Left until={terms.expiresAt} /></> : "–"}</dd></div>
        <div><dt>Place is kept</dt><dd>{quote ? (quote.held_until ? <>until <Time at={quote.held_until} /></> : "no: who pays first gets it") : "as the quote said"}</dd></div>
      </dl>
      {quote && <Warnings quote={quote} job={job} />}
      <Report jobId={job.job_id} />
      <MoneyRules job={job} />
      {quote && <Signed quote={quote} />}
    </section>
  );
}

function Left({ until }: { until: number }) {
  const seconds = (until - now.value) / 1000;
  return <span class="faint">{seconds > 0 ? `${duration(Math.round(seconds))} left` : "over: a payment now would pay for nothing here"}</span>;
}

function Warnings({ quote, job }: { quote: Quote; job: JobRow }) {
  const texts = quote.warnings.map(({ pointer, detail }) => (pointer ? `${pointer}: ${detail}` : detail));
  if (quote.attempts < job.attempts) texts.push(`it is tried ${quote.attempts} times at most: its payment can't be carried to another provider`);
  return texts.length > 0 ? <ul class="notice">{texts.map((text) => <li key={text}>{plain(text)}</li>)}</ul> : null;
}

function Report({ jobId }: { jobId: string }) {
  const hash = useSignal("");
  const told = useSignal<Told | null>(null);
  const error = useSignal("");
  const end = useRef<() => void>(() => undefined);
  useEffect(() => () => end.current(), []);
  const report = (event: Event) => {
    event.preventDefault();
    const txHash = hash.value.trim();
    error.value = txHash === "" ? "The transaction's hash is missing: pay first, then paste what your wallet shows." : "";
    if (error.value) return;
    end.current();
    end.current = reportPayment(jobId, txHash, (news) => (told.value = news));
  };
  const busy = told.value !== null && !told.value.final;
  return (
    <form onSubmit={report} class="report wide">
      <div class="field"><label for="tx-hash">Then paste the transaction's hash</label>
        <span class="with-unit"><input id="tx-hash" maxLength={512} spellcheck={false} autocomplete="off" value={hash.value} aria-invalid={error.value ? "true" : undefined} onInput={({ currentTarget }) => (hash.value = currentTarget.value)} />
          <Action need="ask for jobs" kind="primary" submits busy={busy}>Report the payment</Action></span></div>
      <Trouble text={error.value} />
      <p role="status" class={told.value ? (told.value.good ? "notice" : "trouble") : "none"}>{told.value ? plain(told.value.text) : "The hash is checked before anything runs; the same one is never counted twice."}</p>
    </form>
  );
}

function MoneyRules({ job }: { job: JobRow }) {
  return (
    <details><summary>What happens to the money</summary>
      <ul>
        <li>It completes with exit code 0: all {ntx(job.price)} are the provider's.</li>
        <li>The provider, its machine or its line fails: all of it is owed back to you.</li>
        <li>Anything else, such as an error of the job, a stop or the time limit: before half of the {job.minutes} min all is owed back, from half on 50 % are the provider's, from three quarters on 75 %.</li>
        <li>It is refused or never starts: all is owed back, or the payment pays for another job.</li>
        <li>You pay too late: that payment is unused, and can pay for a new request.</li>
      </ul>
      <p class="faint">The DMS never moves money: you pay with your wallet, and whoever owes a share pays it with one.</p>
    </details>
  );
}

function Signed({ quote }: { quote: Quote }) {
  const hashes = Object.entries(quote).filter(([name, value]) => name.endsWith("_hash") && typeof value === "string") as [string, string][];
  return (
    <details><summary>Hashes and signature of the terms</summary>
      <dl class="facts hashes">
        {hashes.map(([name, value]) => <div key={name}><dt>{name.replace(/_hash$/, "").replaceAll("_", " ")}</dt><dd><code class="whole">{value}</code></dd></div>)}
        <div><dt>terms</dt><dd><code class="whole">{plain(quote.oracle_message)}</code></dd></div>
        <div><dt>signature</dt><dd><code class="whole">{quote.signature}</code></dd></div>
      </dl>
    </details>
  );
}

/** navigator.clipboard is there only for safe origins, such as this machine's own. */
function Copy({ text, what }: { text: string; what: string }) {
  const copied = useSignal(false);
  if (!navigator.clipboard || !text) return null;
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    copied.value = true;
  };
  return <button type="button" class="quiet" onClick={() => void copy()} aria-label={`Copy the ${what}`}>{copied.value ? "copied" : "copy"}</button>;
}
