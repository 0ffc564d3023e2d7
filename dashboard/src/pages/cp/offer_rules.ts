/** The rules by which the DMS takes an offer of this machine, to be told before it refuses. As `dms/domain/device.py`. */
import { checkAddress } from "../../domain/wallet";
import type { Hardware, Resources } from "./types";

export const CHANNELS = ["nunet-test", "nunet-edge", "nunet-team", "nunet-staging"] as const;
export const CARDANO_NEEDS = { cpu: 6000, memory: 10_000 };
export const HIGHEST_PRICE_NTX = 1_000_000;

/** Between a tenth and nine tenths of what the machine has, both inclusive. needed: what running jobs hold. */
export interface Limits {
  total: number;
  low: number;
  high: number;
  needed: number;
}

export function limits(total: number, needed = 0): Limits {
  const whole = Math.floor(total);
  return { total: whole, low: Math.floor(whole / 10), high: Math.floor((whole * 9) / 10), needed };
}

/** Why the amount would be refused, or "". */
export function wrongAmount(name: string, value: number, { low, high, needed }: Limits, unit: (value: number) => string): string {
  if (!Number.isInteger(value)) return `${name}: a whole number is expected.`;
  if (value < low) return `${name}: at least ${unit(low)}, 10 % of what the machine has.`;
  if (value > high) return `${name}: at most ${unit(high)}, 90 % of what the machine has; the rest is for the machine itself.`;
  if (value < needed) return `${name}: running jobs hold ${unit(needed)}. Offer as much, or wait for them to end.`;
  return "";
}

/** Why the price a minute would be refused, or "". */
export function wrongPrice(text: string): string {
  if (!/^[0-9]+(\.[0-9]+)?$/.test(text.trim())) return "Price: an amount of NTX a minute is expected, such as 0.002. With 0 a job pays what the network estimates for it.";
  if (Number(text) > HIGHEST_PRICE_NTX) return "Price: at most 1,000,000 NTX a minute.";
  return "";
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

/** Field -> why it would be refused. reserved: what running jobs hold. */
export function wrongOffer(offer: Offer, hardware: Hardware, reserved: Resources, units: Units): Partial<Record<OfferField, string>> {
  const found: [OfferField, string][] = [
    ["cpu", wrongAmount("CPU", offer.cpu, limits(hardware.cpu, reserved.cpu_mhz), units.cpu)],
    ["memory", wrongAmount("Memory", offer.memory, limits(hardware.memory, reserved.memory_mb), units.memory)],
    ["price", wrongPrice(offer.price)],
    ["address", offer.address === "" ? "Payment address: needed, since what jobs earn is paid to it." : (checkAddress(offer.address).wrong ?? "")],
    ["cardano", offer.cardano ? wrongForCardano(offer, units) : ""],
  ];
  return Object.fromEntries(found.filter(([, wrong]) => wrong !== ""));
}

export interface Units {
  cpu: (mhz: number) => string;
  memory: (mb: number) => string;
}

export function wrongForCardano({ cpu, memory }: Pick<Offer, "cpu" | "memory">, units: Units): string {
  if (cpu >= CARDANO_NEEDS.cpu && memory >= CARDANO_NEEDS.memory) return "";
  return `A Cardano node needs ${units.cpu(CARDANO_NEEDS.cpu)} and ${units.memory(CARDANO_NEEDS.memory)} of what is offered.`;
}
