/** `/cp/settings`: what is offered, to whom, and the end of it. */
import "../../styles/provider.css";
import { useSignal } from "@preact/signals";
import { send } from "../../api/client";
import { cpu, decimal, memory } from "../../app/format";
import { href, moment } from "../../app/router";
import { usePageTitle } from "../../app/title";
import { hasCome, useView, type View } from "../../app/view";
import { Action, useDoing } from "../../components/action";
import { Empty, Trouble } from "../../components/parts";
import { onboarded } from "./capacity";
import { GpusOffered } from "./gpus_offered";
import { useMachine } from "./machine";
import { Offboarding } from "./offboarding";
import { AmountFields } from "./offer_form";
import { wrongOffer, type Offer } from "./offer_rules";
import { PolicyLists } from "./policy_lists";
import { RefusedLately } from "./refused_lately";
import type { Hardware, Policy, Provider } from "../../api/answers";

const UNITS = { cpu, memory };

export function ComputeProviderSettings() {
  usePageTitle("Settings of this machine");
  const machine = useMachine();
  const row = machine.row.value;
  const ready = onboarded(row);
  const hardware = useView<Hardware>("/onboarding/provisioned", { types: ["deployment.*", "device.*"], presentOnly: true });
  const policy = useView<Policy>("/device/policy", { types: ["device.*"] });
  const offerHasCome = hasCome(machine.capacity) && (!ready || hasCome(hardware));
  return (
    <section>
      <h1>Settings of this machine</h1>
      <Trouble text={machine.capacity.error.value} retry={machine.capacity.reload} />
      {machine.known.value && !ready && (
        <Empty title={moment.value ? "This machine was not onboarded then" : "This machine is not onboarded"}>
          {!moment.value && <p><a class="button primary" href={href("/cp")}>Offer this machine</a></p>}
        </Empty>
      )}
      {row && ready && <OfferChange key={`${row.onboarded.cpu_mhz} ${row.onboarded.memory_mb} ${row.ntx_price}`} row={row} hardware={hardware} />}
      {offerHasCome && <PolicyLists policy={policy} />}
      {offerHasCome && hasCome(policy) && row && ready && <Offboarding />}
      {offerHasCome && hasCome(policy) && !moment.value && <RefusedLately /> /* grows by itself, so nothing is below it */}
    </section>
  );
}

/** Begins anew when the offer changes, here or elsewhere. */
function OfferChange({ row, hardware }: { row: Provider; hardware: View<Hardware> }) {
  const given = { cpu: row.onboarded.cpu_mhz, memory: row.onboarded.memory_mb, price: decimal(row.ntx_price) };
  const change = useSignal<Partial<Offer>>({});
  const { busy, trouble, run } = useDoing();
  const found = hardware.answer.value?.body;
  if (!found) return <Trouble text={hardware.error.value} retry={hardware.reload} />;
  const offer: Offer = { address: "-", channel: row.channel, cardano: false, ...given, ...change.value };
  const { address: _, ...wrong } = wrongOffer(offer, found, UNITS);
  const first = Object.values(wrong)[0] ?? "";
  const same = offer.cpu === given.cpu && offer.memory === given.memory && Number(offer.price) === Number(given.price);
  const save = () => run(async () => void (await send("POST", "/onboarding/resource-config", { cpu: offer.cpu, memory: offer.memory, ntx_price: Number(offer.price) })));
  return (
    <div class="card" data-testid="offer">
      <h2>What is offered</h2>
      <form onSubmit={(event) => event.preventDefault()}>
        <AmountFields offer={offer} hardware={found} wrong={wrong} onChange={(part) => (change.value = { ...change.value, ...part })} />
        <GpusOffered gpus={found.gpus} onboarded />
        <Trouble text={trouble.value} />
        <p class="row">
          <Action need="steer the provider" kind="primary" busy={busy.value} hindrance={first || (same ? "Nothing is changed." : "")} onClick={() => void save()}>Save</Action>
          {!same && <button type="button" onClick={() => (change.value = {})}>Undo</button>}
          {first && <span class="wrong">{first}</span>}
          <span class="faint">Running jobs keep what they hold. Another payment address: onboard anew with it, by <code>nunet onboard</code>.</span>
        </p>
      </form>
    </div>
  );
}
