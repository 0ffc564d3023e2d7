/** Keccak-256 as Ethereum uses it (not SHA3-256, whose padding differs). Source: the Keccak reference, version 3.0. */

const MASK = (1n << 64n) - 1n;
const RATE_BYTES = 136;

/** Rotations of rho, and round constants of iota, made as the reference defines them. */
const [ROTATIONS, CONSTANTS] = tables();

export function keccak256(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.floor(data.length / RATE_BYTES + 1) * RATE_BYTES);
  padded.set(data);
  padded[data.length] = 0x01;
  padded[padded.length - 1] = (padded[padded.length - 1] ?? 0) | 0x80;
  const lanes = new BigUint64Array(25);
  const words = new DataView(padded.buffer);
  for (let at = 0; at < padded.length; at += RATE_BYTES) {
    for (let lane = 0; lane < RATE_BYTES / 8; lane++) lanes[lane] = (lanes[lane] ?? 0n) ^ words.getBigUint64(at + lane * 8, true);
    permute(lanes);
  }
  const digest = new Uint8Array(32);
  const out = new DataView(digest.buffer);
  for (let lane = 0; lane < 4; lane++) out.setBigUint64(lane * 8, lanes[lane] ?? 0n, true);
  return digest;
}

function permute(lanes: BigUint64Array): void {
  const of = (x: number, y: number): bigint => lanes[(x % 5) + 5 * (y % 5)] ?? 0n;
  for (const constant of CONSTANTS) {
    const columns = [0, 1, 2, 3, 4].map((x) => of(x, 0) ^ of(x, 1) ^ of(x, 2) ^ of(x, 3) ^ of(x, 4));
    const column = (x: number): bigint => columns[x % 5] ?? 0n;
    for (let lane = 0; lane < 25; lane++) lanes[lane] = (lanes[lane] ?? 0n) ^ column((lane % 5) + 4) ^ rotated(column((lane % 5) + 1), 1);
    const moved = new BigUint64Array(25);
    for (let x = 0; x < 5; x++)
      for (let y = 0; y < 5; y++) moved[y + 5 * ((2 * x + 3 * y) % 5)] = rotated(of(x, y), ROTATIONS[x + 5 * y] ?? 0);
    lanes.set(moved);
    for (let y = 0; y < 5; y++)
      for (let x = 0; x < 5; x++) {
        const at = (step: number): bigint => moved[((x + step) % 5) + 5 * y] ?? 0n;
        lanes[x + 5 * y] = at(0) ^ (~at(1) & MASK & at(2));
      }
    lanes[0] = (lanes[0] ?? 0n) ^ constant;
  }
}

const rotated = (lane: bigint, by: number): bigint => ((lane << BigInt(by)) | (lane >> BigInt(64 - by))) & MASK;

function tables(): [number[], bigint[]] {
  const rotations = new Array<number>(25).fill(0);
  let [x, y] = [1, 0];
  for (let step = 0; step < 24; step++) {
    rotations[x + 5 * y] = (((step + 1) * (step + 2)) / 2) % 64;
    [x, y] = [y, (2 * x + 3 * y) % 5];
  }
  const constants: bigint[] = [];
  let register = 1;
  for (let round = 0; round < 24; round++) {
    let constant = 0n;
    for (let bit = 0; bit < 7; bit++) {
      if (register & 1) constant |= 1n << BigInt((1 << bit) - 1);
      register = register & 0x80 ? ((register << 1) ^ 0x171) & 0xff : register << 1;
    }
    constants.push(constant);
  }
  return [rotations, constants];
}
