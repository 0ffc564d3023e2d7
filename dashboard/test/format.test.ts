import { describe, expect, it } from "vitest";
import { bytes, decimal, duration, exactTime, lineTime, localTime, memory, ntx, plain, short } from "../src/app/format";

describe("figures as people read them", () => {
  it.each([[0.25, "0.3 s"], [59, "59 s"], [61, "1 min 1 s"], [3725, "1 h 2 min"], [90_000, "1 d 1 h"], [Number.NaN, "–"]])("%d s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
  it.each([[512, "512 MB"], [1536, "1.5 GB"], [20_480, "20 GB"]])("%d MB", (mb, text) => expect(memory(mb)).toBe(text));
  it.each([[999, "999 B"], [1500, "1.5 kB"], [123_456_789, "123 MB"]])("%d B", (count, text) => expect(bytes(count)).toBe(text));
  it.each([["1E-7", "0.0000001"], ["2.0", "2"], ["0.50", "0.5"], ["100", "100"], ["0", "0"], ["0.0", "0"]])("%s in a form", (amount, text) => expect(decimal(amount)).toBe(text));
  it.each([["0.4", "0.40 NTX"], ["12", "12 NTX"], ["1234.56780", "1,234.5678 NTX"], ["1E-7", "0.0000001 NTX"]])("%s NTX", (amount, text) => expect(ntx(amount)).toBe(text));
});

describe("times in the viewer's own zone", () => {
  const now = new Date(2026, 5, 30, 18);
  const [today, earlier, lastYear] = [new Date(2026, 5, 30, 14, 3, 5, 7), new Date(2026, 0, 12, 14, 3, 5, 123), new Date(2025, 0, 12, 14, 3, 5, 0)];

  it.each([
    ["at a glance", localTime, ["14:03:05", "12 Jan, 14:03", "12 Jan 2025, 14:03"]],
    ["of an event", exactTime, ["14:03:05", "12 Jan, 14:03:05", "12 Jan 2025, 14:03:05"]],
    ["of a line of output", lineTime, ["14:03:05.007", "12 Jan, 14:03:05.123", "12 Jan 2025, 14:03:05.000"]],
  ] as const)("%s", (_of, written, expected) => {
    expect([today, earlier, lastYear].map((time) => written(time, now))).toEqual(expected);
    expect(written("never", now)).toBe("–");
  });
});

describe("names of strangers", () => {
  it("keeps a short one whole", () => expect(short("12D3Koo")).toBe("12D3Koo"));
  it("shows what could steer the text as a sign", () => expect(plain("a\u202eb\u001b[31m")).toBe("a\ufffdb\ufffd[31m"));
});
