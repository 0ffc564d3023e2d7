import { describe, expect, test } from "vitest";
import { keccak256 } from "../src/domain/keccak";
import { checkAddress } from "../src/domain/wallet";

const hex = (bytes: Uint8Array): string => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

describe("Keccak-256", () => {
  test.each([
    ["", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"],
    ["abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"],
    ["a".repeat(135), "34367dc248bbd832f4e3e69dfaac2f92638bd0bbd18f2912ba4ef454919cf446"],
    ["a".repeat(136), "a6c4d403279fe3e0af03729caada8374b5ca54d8065329a3ebcaeb4b60aa386e"],
  ])("of %j is as the reference's", (text, digest) => {
    expect(hex(keccak256(new TextEncoder().encode(text)))).toBe(digest);
  });
});

const CARDANO = [
  "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgse35a3x",
  "addr1gx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer5pnz75xxcrzqf96k",
  "addr1vx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzers66hrl8",
  "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae",
  "addr_test1vz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzerspjrlsz",
];

describe("a wallet address", () => {
  test.each(CARDANO)("of Cardano is taken: %s", (address) => expect(checkAddress(address).blockchain).toBe("Cardano"));

  test.each([
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
  ])("of Ethereum is taken: %s", (address) => expect(checkAddress(address).blockchain).toBe("Ethereum"));

  test.each(CARDANO)("of Cardano shows each single typing error: %s", (address) => {
    for (let at = address.indexOf("1") + 1; at < address.length; at++) {
      const other = address[at] === "q" ? "p" : "q";
      expect(checkAddress(address.slice(0, at) + other + address.slice(at + 1)).wrong).toContain("no Cardano");
    }
  });

  test.each([
    "stake1uyehkck0lajq8gr28t9uxnuvgcqrc6070x3k9r8048z8y5gh6ffgw", // a right one, but nothing can be paid to it
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", // one letter in the other case
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeA",
    "addr1",
    "",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
  ])("that nothing can be paid to is refused: %j", (address) => expect(checkAddress(address).wrong).toBeTruthy());
});
