/** Holds an offer of this machine against the rules that the DMS told, so that they are shown before it refuses. */
import { checkAddress } from "../../domain/wallet";
import type { Hardware, OfferLimits } from "../../api/answers";

/** Why the amount would be refused, or "". */
export function wrongAmount(name: string, value: number, { least, most, reserved }: OfferLimits, unit: (value: number) => string): string {
  if (!Number.isInteger(value)) return `${name}: a whole number is expected.`;
  if (value < least) return `${name}: at least ${unit(least)}, 10 % of what the machine has.`;
  if (value > most) return `${name}: at most ${unit(most)}, 90 % of what the machine has; the rest is for the machine itself.`;
  if (value < reserved) return `${name}: running jobs hold ${unit(reserved)}. Offer as much, or wait for them to end.`;
  return "";
}

/** Why the price a minute would be refused, or "". */
export function wrongPrice(text: string, mostNtx: number): string {
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text.trim())) return "Price: an amount of NTX a minute is expected, such as 0.002. With 0 a job pays what the network estimates for it.";
  return Number(text) > mostNtx ? `Price: at most ${mostNtx.toLocaleString("en")} NTX a minute.` : "";
}

export interface Offer {
  cpu: number;
  memory: number;
  price: string;
  address: string;
  channel: string;
  cardano: boolean;
}

export type OfferField = keyof Offer;

export interface Units {
  cpu: (mhz: number) => string;
  memory: (mb: number) => string;
}

/** Field -> why it would be refused. */
export function wrongOffer(offer: Offer, hardware: Hardware, units: Units): Partial<Record<OfferField, string>> {
  const found: [OfferField, string][] = [
    ["cpu", wrongAmount("CPU", offer.cpu, hardware.cpu_limits, units.cpu)],
    ["memory", wrongAmount("Memory", offer.memory, hardware.memory_limits, units.memory)],
    ["price", wrongPrice(offer.price, hardware.most_ntx_price)],
    ["address", offer.address === "" ? "Payment address: needed, since what jobs earn is paid to it." : (checkAddress(offer.address).wrong ?? "")],
    ["channel", hardware.channels.includes(offer.channel) ? "" : "Channel: choose one of those that there are."],
    ["cardano", offer.cardano ? wrongForCardano(offer, hardware, units) : ""],
  ];
  return Object.fromEntries(found.filter(([, wrong]) => wrong !== ""));
}

function wrongForCardano({ cpu, memory }: Offer, { cardano_needs }: Hardware, units: Units): string {
  return cpu >= cardano_needs.cpu && memory >= cardano_needs.memory ? "" : `A Cardano node: ${cardanoWords(cardano_needs, units)}`;
}

export const cardanoWords = (needs: Hardware["cardano_needs"], units: Units): string =>
  `needs ${units.cpu(needs.cpu)} and ${units.memory(needs.memory)} of what is offered.`;
