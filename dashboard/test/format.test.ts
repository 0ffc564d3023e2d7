import { describe, expect, it } from "vitest";
import { bytes, duration, memory, ntx, plain, short } from "../src/app/format";

describe("figures as people read them", () => {
  it.each([[0.25, "0.3 s"], [59, "59 s"], [61, "1 min 1 s"], [3725, "1 h 2 min"], [90_000, "1 d 1 h"], [Number.NaN, "–"]])("%d s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
  it.each([[512, "512 MB"], [1536, "1.5 GB"], [20_480, "20 GB"]])("%d MB", (mb, text) => expect(memory(mb)).toBe(text));
  it.each([[999, "999 B"], [1500, "1.5 kB"], [123_456_789, "123 MB"]])("%d B", (count, text) => expect(bytes(count)).toBe(text));
  it.each([["0.4", "0.40 NTX"], ["12", "12 NTX"], ["1234.56780", "1,234.5678 NTX"], ["1E-7", "0.0000001 NTX"]])("%s NTX", (amount, text) => expect(ntx(amount)).toBe(text));
});

describe("names of strangers", () => {
  it("keeps a short one whole", () => expect(short("12D3Koo")).toBe("12D3Koo"));
  it("shows what could steer the text as a sign", () => expect(plain("a\u202eb\u001b[31m")).toBe("a\ufffdb\ufffd[31m"));
});
