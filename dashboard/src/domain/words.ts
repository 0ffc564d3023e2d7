/** A command line as a list of arguments, and back, with the quotes of a shell and none of its other meanings. */

export class UnfinishedQuote extends Error {}

/** `python -c 'print(1)'` -> three words. Line breaks outside quotes part words as blanks do. */
export function split(text: string): string[] {
  const words: string[] = [];
  let word = "";
  let [inside, begun] = ["", false];
  for (let index = 0; index < text.length; index++) {
    const sign = text.charAt(index);
    if (inside === "'" ? sign === "'" : inside === '"' && sign === '"') inside = "";
    else if (sign === "\\" && inside !== "'" && index + 1 < text.length) {
      const next = text.charAt(++index);
      word += inside === '"' && !'"\\$`'.includes(next) ? `\\${next}` : next;
      begun = true;
    } else if (inside) word += sign;
    else if (sign === "'" || sign === '"') [inside, begun] = [sign, true];
    else if (/\s/.test(sign)) {
      if (begun) words.push(word);
      [word, begun] = ["", false];
    } else [word, begun] = [word + sign, true];
  }
  if (inside) throw new UnfinishedQuote(`a ${inside === "'" ? "single" : "double"} quote is not closed`);
  return begun ? [...words, word] : words;
}

export const join = (words: readonly string[]): string => words.map(quoted).join(" ");

function quoted(word: string): string {
  if (word !== "" && /^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}
