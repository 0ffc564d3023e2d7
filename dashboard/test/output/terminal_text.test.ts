import { describe, expect, it } from "vitest";
import { INVISIBLE_RUN } from "../../src/components/output/characters";
import { finder, highlighted, MOST_HITS_A_LINE } from "../../src/components/output/highlight";
import { MOST_SPANS, spansOf, textOf } from "../../src/components/output/terminal_text";
import { randomOf } from "../random";

const shown = (line: string) => textOf(spansOf(line));
const styled = (line: string) => spansOf(line).map(({ text, style }) => [text, style]);

describe("a line of output", () => {
  it("keeps text as it is, HTML among it", () => {
    expect(spansOf("<b>x</b>&amp;\t1")).toEqual([{ text: "<b>x</b>&amp;\t1", style: {} }]);
  });

  it("has the colours of its escapes", () => {
    expect(styled("a\x1b[31mb\x1b[1;44mc\x1b[0md")).toEqual([
      ["a", {}], ["b", { foreground: 1 }], ["c", { foreground: 1, bold: true, background: 4 }], ["d", {}],
    ]);
    expect(styled("\x1b[95mx\x1b[39my\x1b[mz")).toEqual([["x", { foreground: 13 }], ["yz", {}]]);
  });

  it.each([
    ["\x1b[38;5;9mx", 9], ["\x1b[38;5;16mx", "rgb(0 0 0)"], ["\x1b[38;5;196mx", "rgb(255 0 0)"], ["\x1b[38;5;255mx", "rgb(238 238 238)"],
    ["\x1b[38;2;1;2;3mx", "rgb(1 2 3)"], ["\x1b[38:2::1:2:3mx", "rgb(1 2 3)"], ["\x1b[38:2:1:2:3mx", "rgb(1 2 3)"], ["\x1b[38:5:196mx", "rgb(255 0 0)"],
    ["\x1b[38;2;256;0;0mx", undefined], ["\x1b[38;5;300mx", undefined], ["\x1b[58;5;1mx", undefined],
  ])("knows the colours of %j", (line, foreground) => {
    expect(spansOf(line)).toEqual([{ text: "x", style: foreground === undefined ? {} : { foreground } }]);
  });

  it("goes on behind a colour of several numbers", () => {
    expect(styled("\x1b[38;5;9;1mx")).toEqual([["x", { foreground: 9, bold: true }]]);
    expect(styled("\x1b[48;2;1;2;3;4mx")).toEqual([["x", { background: "rgb(1 2 3)", underline: true }]]);
  });

  it.each([
    ["10%\r20%\rdone", "done"], ["done\r", "done"], ["done\r\r", "done"], ["longer text\rab", "ab"], ["x\r\x1b[K", ""], ["x\x1b[2Ky", "y"],
    ["1%\x1b[1G2%\x1b[G3%", "3%"], ["\rx", "x"], ["x\x1b[K", "x"],
  ])("is what it was last: %j", (line, text) => {
    expect(shown(line)).toBe(text);
  });

  it("keeps the colour over a rewrite, as a terminal does", () => {
    expect(styled("\x1b[32mx\ry")).toEqual([["y", { foreground: 2 }]]);
  });

  it.each([
    ["a\x1b[2Jb", "ab"], ["a\x1b[10;10Hb", "ab"], ["\x1b]0;title\x07x", "x"], ["\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"],
    ["\x1b(Bx", "x"], ["\x1bP1;2q...\x1b\\x", "x"], ["\x1b[?25lx\x1b[?25h", "x"], ["\u009b31mx", "x"], ["\x1bcx", "x"], ["\x1b[>4;2mx", "x"],
  ])("has no other escape left: %j", (line, text) => {
    expect(shown(line)).toBe(text);
  });

  it("shows an escape that never ends instead of hiding what follows", () => {
    expect(shown("\x1b]0;no end, rm -rf")).toBe("^[]0;no end, rm -rf");
    expect(shown("\x1b[12")).toBe("^[[12");
  });

  it("shows what can't be seen, or turns text round, as signs", () => {
    expect(spansOf("a\u202eb\u0000\u0007\ud800")).toEqual([
      { text: "a", style: {} }, { text: "[RLO]", style: {}, sign: true }, { text: "b", style: {} }, { text: "^@^G\ufffd", style: {}, sign: true },
    ]);
  });

  it("leaves what scripts and emoji need", () => {
    expect(spansOf("👩\u200d💻 نمی\u200cخواهم")).toEqual([{ text: "👩\u200d💻 نمی\u200cخواهم", style: {} }]);
  });

  it("never becomes anything but bounded, visible text", () => {
    const alphabet = ["\x1b", "[", "]", "m", "K", "G", ";", ":", "3", "8", "5", "2", "\r", "\x07", "\\", "a", "<", "\u202e", "\u009b", "\ud83d", "\udc69", "\u200b", "\0", "é", "("];
    for (let seed = 0; seed < 3000; seed++) {
      const random = randomOf(seed);
      const line = Array.from({ length: random(80) }, () => alphabet[random(alphabet.length)]).join("");
      const spans = spansOf(line);
      expect(spans.length).toBeLessThanOrEqual(MOST_SPANS);
      for (const { text, style } of spans) {
        expect(text).not.toBe("");
        expect(text.match(INVISIBLE_RUN), JSON.stringify(line)).toBeNull();
        for (const value of Object.values(style)) expect(value === true || /^(\d+|rgb\(\d+ \d+ \d+\))$/.test(String(value))).toBe(true);
      }
    }
  });

  it("has a bound of spans, and keeps all text", () => {
    const line = Array.from({ length: 5000 }, (_, index) => `\x1b[3${index % 7}mx\u0000`).join("");
    expect(spansOf(line)).toHaveLength(MOST_SPANS);
    expect(shown(line)).toBe("x^@".repeat(5000));
  });

  it("takes time in proportion to its length", () => {
    for (const part of ["\x1b", "\x1b]", "\x1b[", "\x1b[1;", "\x1bP", "\r", "\u202e", "\u009d"]) expect(() => spansOf(part.repeat(65_536))).not.toThrow();
  });
});

describe("what was searched for", () => {
  const marks = (line: string, wanted: string, matchCase = false) =>
    highlighted(spansOf(line), finder(wanted, matchCase)).map(({ text, hit }) => (hit ? `[${text}]` : text)).join("");

  it.each([
    ["an Error, an error", "error", "an [Error], an [error]"], ["a.c abc", "a.c", "[a.c] abc"], ["x", "", "x"], ["aaa", "aa", "[aa]a"],
    ["\x1b[31mer\x1b[32mror", "error", "[er][ror]"], ["İx", "x", "İ[x]"], ["(a|b)", "(a|b)", "[(a|b)]"],
  ])("is marked in %j: %j", (line, wanted, expected) => {
    expect(marks(line, wanted)).toBe(expected);
  });

  it("is taken as it stands, whatever signs it has", () => {
    const signs = Array.from({ length: 0x7f - 0x20 }, (_, at) => String.fromCharCode(0x20 + at));
    for (const sign of signs) expect(marks(`a${sign}${sign}~b`, `${sign}${sign}`, true)).toContain(`[${sign}${sign}`);
    expect(marks(signs.join(""), signs.join(""), true)).toBe(`[${signs.join("")}]`);
  });

  it("is told by its case where that was asked for", () => {
    expect(marks("Error error", "error", true)).toBe("Error [error]");
  });

  it("keeps the text, and has a bound", () => {
    const spans = highlighted(spansOf("ab".repeat(500)), finder("a", false));
    expect(textOf(spans)).toBe("ab".repeat(500));
    expect(spans.filter(({ hit }) => hit)).toHaveLength(MOST_HITS_A_LINE);
  });
});
