/** Wallet addresses: which blockchain one belongs to, and whether it was typed right. As `dms/domain/wallet.py`. */
import { decodeBech32 } from "./bech32";
import { keccak256 } from "./keccak";

export type Blockchain = "Cardano" | "Ethereum";
export type CheckedAddress = { blockchain: Blockchain; wrong?: never } | { wrong: string; blockchain?: never };

const CARDANO_NETWORKS: Record<string, number> = { addr: 1, addr_test: 0 };
const KEY_HASH_BYTES = 28;

/** `wrong` says what is expected. */
export function checkAddress(text: string): CheckedAddress {
  if (/^0x/i.test(text)) {
    if (isEthereum(text)) return { blockchain: "Ethereum" };
    return { wrong: "This is no Ethereum address: 0x and 40 hex digits are expected, with a right checksum (EIP-55)." };
  }
  if (/^(addr|stake)/i.test(text)) {
    if (isCardanoPayment(text)) return { blockchain: "Cardano" };
    return { wrong: "This is no Cardano payment address: addr1… or addr_test1… is expected. A letter may be mistyped." };
  }
  return { wrong: "A Cardano (addr1…) or Ethereum (0x…) address is expected." };
}

function isEthereum(address: string): boolean {
  const digits = address.slice(2);
  if (!address.startsWith("0x") || !/^[0-9a-fA-F]{40}$/.test(digits)) return false;
  return digits === digits.toLowerCase() || digits === digits.toUpperCase() || digits === checksummed(digits);
}

/** The case of each letter carries a bit of the address's hash. Source: EIP-55. */
function checksummed(digits: string): string {
  const lower = digits.toLowerCase();
  const digest = keccak256(new TextEncoder().encode(lower));
  const half = (index: number): number => ((digest[index >> 1] ?? 0) >> (index % 2 ? 0 : 4)) & 15;
  return [...lower].map((sign, index) => (half(index) >= 8 ? sign.toUpperCase() : sign)).join("");
}

/** Source: CIP-19. The header's high half is the kind (0 to 7 can be paid to), the low half the network. */
function isCardanoPayment(address: string): boolean {
  const decoded = decodeBech32(address);
  const [header, ...rest] = decoded?.payload ?? [];
  if (!decoded || header === undefined || CARDANO_NETWORKS[decoded.prefix] !== (header & 15)) return false;
  const kind = header >> 4;
  if (kind <= 3) return rest.length === 2 * KEY_HASH_BYTES;
  if (kind <= 5) return isPointer(rest.slice(KEY_HASH_BYTES));
  return kind <= 7 && rest.length === KEY_HASH_BYTES;
}

/** Three variable-length numbers, and nothing behind them. */
function isPointer(data: readonly number[]): boolean {
  return data.filter((byte) => byte < 0x80).length === 3 && (data.at(-1) ?? 0x80) < 0x80;
}
