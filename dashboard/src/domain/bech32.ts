/** Bech32, the spelling of Cardano's addresses. Source: BIP-173, without its length limit. */

const ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATORS = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
const LONGEST = 256;

/** null when the checksum or the form is wrong. */
export function decodeBech32(text: string): { prefix: string; payload: Uint8Array } | null {
  if (text.length > LONGEST || (text !== text.toLowerCase() && text !== text.toUpperCase())) return null;
  const lower = text.toLowerCase();
  const separator = lower.lastIndexOf("1");
  const [prefix, data] = [lower.slice(0, Math.max(separator, 0)), lower.slice(separator + 1)];
  const values = [...data].map((sign) => ALPHABET.indexOf(sign));
  if (separator < 0 || values.length < 6 || values.includes(-1)) return null;
  if (checksum([...expanded(prefix), ...values]) !== 1) return null;
  const payload = toBytes(values.slice(0, -6));
  return payload && { prefix, payload };
}

function expanded(prefix: string): number[] {
  const codes = [...prefix].map((sign) => sign.charCodeAt(0));
  return [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31)];
}

function checksum(values: readonly number[]): number {
  let sum = 1;
  for (const value of values) {
    const top = sum >>> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ value;
    for (const [bit, generator] of GENERATORS.entries()) if ((top >> bit) & 1) sum ^= generator;
  }
  return sum;
}

/** From groups of 5 bits; the padding must be less than a group, and zero. */
function toBytes(values: readonly number[]): Uint8Array | null {
  const found: number[] = [];
  let [held, bits] = [0, 0];
  for (const value of values) {
    [held, bits] = [((held << 5) | value) & 0xfff, bits + 5];
    if (bits >= 8) {
      bits -= 8;
      found.push((held >> bits) & 0xff);
    }
  }
  return bits >= 5 || (held & ((1 << bits) - 1)) !== 0 ? null : Uint8Array.from(found);
}
