/** Of a machine that is not onboarded: how it is, right here. */
import { useSignal } from "@preact/signals";
import { send } from "../../api/client";
import { cpu, memory } from "../../app/format";
import { useView } from "../../app/view";
import { Action, useDoing } from "../../components/action";
import { Trouble } from "../../components/parts";
import { GpusOffered } from "./gpus_offered";
import { AddressField, AmountFields, ChannelField } from "./offer_form";
import { cardanoWords, wrongOffer, type Offer } from "./offer_rules";
import type { Hardware } from "../../api/answers";

const USUAL_CHANNEL = "nunet-test";
const UNITS = { cpu, memory };

export function Onboarding() {
  const hardware = useView<Hardware>("/onboarding/provisioned", { presentOnly: true });
  const found = hardware.answer.value?.body;
  return (
    <div class="card" data-testid="onboarding">
      <h2>Offer this machine</h2>
      <p>It is not onboarded yet: nobody can run jobs on it. Choose what of it jobs may have, and where their payment goes.</p>
      <Trouble text={hardware.error.value} retry={hardware.reload} />
      {found && <OnboardingForm hardware={found} />}
    </div>
  );
}

function OnboardingForm({ hardware }: { hardware: Hardware }) {
  const offer = useSignal<Offer>({
    cpu: Math.floor(hardware.cpu / 2),
    memory: Math.floor(hardware.memory / 2),
    price: "0.0001",
    address: "",
    channel: hardware.channels.includes(USUAL_CHANNEL) ? USUAL_CHANNEL : (hardware.channels[0] ?? ""),
    cardano: false,
  });
  const { busy, trouble, run } = useDoing();
  const wrong = wrongOffer(offer.value, hardware, UNITS);
  const change = (part: Partial<Offer>) => (offer.value = { ...offer.value, ...part });
  const first = Object.values(wrong)[0] ?? "";
  const onboard = () => run(async () => void (await send("POST", "/onboarding/onboard", bodyOf(offer.value))));
  return (
    <form onSubmit={(event) => event.preventDefault()}>
      <AmountFields offer={offer.value} hardware={hardware} wrong={wrong} onChange={change} />
      <GpusOffered gpus={hardware.gpus} onboarded={false} />
      <AddressField value={offer.value.address} wrong={wrong.address ?? ""} onChange={(address) => change({ address })} />
      <ChannelField value={offer.value.channel} channels={hardware.channels} onChange={(channel) => change({ channel })} />
      <div class="field">
        <label><input type="checkbox" checked={offer.value.cardano} onChange={(event) => change({ cardano: event.currentTarget.checked })} /> Also for a Cardano node</label>
        <span class={wrong.cardano ? "wrong" : "faint"}>{wrong.cardano ?? `It ${cardanoWords(hardware.cardano_needs, UNITS)}`}</span>
      </div>
      <Trouble text={trouble.value} />
      <p class="row">
        <Action need="steer the provider" kind="primary" busy={busy.value} hindrance={first} onClick={() => void onboard()}>Onboard this machine</Action>
        {first && <span class="faint" data-testid="first-wrong">{first}</span>}
      </p>
    </form>
  );
}

function bodyOf({ cpu: mhz, memory: mb, price, address, channel, cardano }: Offer): Record<string, unknown> {
  return { cpu: mhz, memory: mb, ntx_price: Number(price), payment_addr: address, channel, cardano };
}
