/** The fields of an offer of this machine, each with its rule, for onboarding and for its later change. */
import { useId } from "preact/hooks";
import { cpu, memory, whole } from "../../app/format";
import { AmountSlider } from "../../components/slider";
import { checkAddress } from "../../domain/wallet";
import type { Offer, OfferField } from "./offer_rules";
import type { Hardware } from "../../api/answers";

interface Props {
  offer: Offer;
  hardware: Hardware;
  wrong: Partial<Record<OfferField, string>>;
  onChange: (change: Partial<Offer>) => void;
}

export function AmountFields({ offer, hardware, wrong, onChange }: Props) {
  return (
    <>
      <AmountSlider name="CPU" unit="MHz" value={offer.cpu} total={Math.floor(hardware.cpu)} {...limits(hardware.cpu_limits)} text={cpu} wrong={wrong.cpu ?? ""} onChange={(value) => onChange({ cpu: value })} />
      <AmountSlider name="Memory" unit="MB" value={offer.memory} total={hardware.memory} {...limits(hardware.memory_limits)} text={memory} wrong={wrong.memory ?? ""} onChange={(value) => onChange({ memory: value })} />
      <PriceField value={offer.price} most={hardware.most_ntx_price} wrong={wrong.price ?? ""} onChange={(price) => onChange({ price })} />
    </>
  );
}

const limits = ({ least, most, reserved }: Hardware["cpu_limits"]) => ({ least, most, reserved });

function PriceField({ value, most, wrong, onChange }: { value: string; most: number; wrong: string; onChange: (text: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Price, NTX a minute</label>
      <input id={id} inputMode="decimal" size={12} value={value} aria-invalid={wrong !== ""} aria-describedby={`${id}-rule`} onInput={(event) => onChange(event.currentTarget.value)} />
      <span id={`${id}-rule`} class={wrong ? "wrong" : "faint"}>
        {wrong || `The least that a job pays: 0 to ${whole(most)}. A job pays the network’s estimate where that is more.`}
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

export function ChannelField({ value, channels, onChange }: { value: string; channels: readonly string[]; onChange: (channel: string) => void }) {
  return (
    <label class="field">
      <span>Channel: the network on which this machine is offered</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {channels.map((channel) => <option value={channel}>{channel}</option>)}
      </select>
    </label>
  );
}
