/** The fields of an offer of this machine, each with its rule, for onboarding and for its later change. */
import { useId } from "preact/hooks";
import { cpu, memory } from "../../app/format";
import { AmountSlider } from "../../components/slider";
import { checkAddress } from "../../domain/wallet";
import { CHANNELS, limits, type Offer, type OfferField } from "./offer_rules";
import type { Hardware, Resources } from "./types";

interface Props {
  offer: Offer;
  hardware: Hardware;
  reserved: Resources;
  wrong: Partial<Record<OfferField, string>>;
  onChange: (change: Partial<Offer>) => void;
}

export function AmountFields({ offer, hardware, reserved, wrong, onChange }: Props) {
  return (
    <>
      <AmountSlider name="CPU" unit="MHz" value={offer.cpu} {...limits(hardware.cpu, reserved.cpu_mhz)} text={cpu} wrong={wrong.cpu ?? ""} onChange={(value) => onChange({ cpu: value })} />
      <AmountSlider name="Memory" unit="MB" value={offer.memory} {...limits(hardware.memory, reserved.memory_mb)} text={memory} wrong={wrong.memory ?? ""} onChange={(value) => onChange({ memory: value })} />
      <PriceField value={offer.price} wrong={wrong.price ?? ""} onChange={(price) => onChange({ price })} />
    </>
  );
}

function PriceField({ value, wrong, onChange }: { value: string; wrong: string; onChange: (text: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Price, NTX a minute</label>
      <input id={id} inputMode="decimal" size={12} value={value} aria-invalid={wrong !== ""} aria-describedby={`${id}-rule`} onInput={(event) => onChange(event.currentTarget.value)} />
      <span id={`${id}-rule`} class={wrong ? "wrong" : "faint"}>
        {wrong || "The least that a job pays: 0 to 1,000,000. A job pays the network’s estimate where that is more."}
      </span>
    </div>
  );
}

export function AddressField({ value, wrong, onChange }: { value: string; wrong: string; onChange: (text: string) => void }) {
  const id = useId();
  const checked = value === "" ? null : checkAddress(value);
  return (
    <div class="field">
      <label for={id}>Payment address of your wallet</label>
      <input id={id} value={value} spellcheck={false} autocomplete="off" placeholder="addr1… or 0x…" aria-invalid={value !== "" && wrong !== ""} aria-describedby={`${id}-rule`} onInput={(event) => onChange(event.currentTarget.value.trim())} />
      <span id={`${id}-rule`} class={value !== "" && wrong ? "wrong" : "faint"}>
        {value === "" ? <>What jobs earn is paid to it. No wallet yet? <code>nunet wallet new</code> makes one in your terminal.</> : wrong || `✔ an address of ${checked?.blockchain ?? ""}, typed without a mistake`}
      </span>
    </div>
  );
}

export function ChannelField({ value, onChange }: { value: string; onChange: (channel: string) => void }) {
  return (
    <label class="field">
      <span>Channel: the network on which this machine is offered</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {CHANNELS.map((channel) => <option value={channel}>{channel}</option>)}
      </select>
    </label>
  );
}
