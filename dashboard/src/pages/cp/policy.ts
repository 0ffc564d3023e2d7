/** Lists of images and peers whose jobs are taken or refused, as text with an entry a line. */

import type { Policy, PolicyLists } from "../../api/answers";

export const MOST_ENTRIES = 1000;
export type ListName = `${keyof Policy}.${keyof PolicyLists}`;
export type Texts = Record<ListName, string>;

export const LIST_NAMES: readonly ListName[] = ["images.deny", "images.allow", "peers.deny", "peers.allow"];

export function textsOf(policy: Policy): Texts {
  const text = (entries: readonly string[]): string => entries.join("\n");
  return { "images.allow": text(policy.images.allow), "images.deny": text(policy.images.deny), "peers.allow": text(policy.peers.allow), "peers.deny": text(policy.peers.deny) };
}

export const entriesOf = (text: string): string[] => text.split(/[\n,]/).map((line) => line.trim()).filter((line) => line !== "");

export function policyOf(texts: Texts): Policy {
  const of = (kind: keyof Policy): PolicyLists => ({ allow: entriesOf(texts[`${kind}.allow`]), deny: entriesOf(texts[`${kind}.deny`]) });
  return { images: of("images"), peers: of("peers") };
}

/** Why the list would be refused, or "". */
export function wrongList(name: ListName, text: string): string {
  const entries = entriesOf(text);
  if (entries.length > MOST_ENTRIES) return `${entries.length} entries; at most ${MOST_ENTRIES} are kept.`;
  const twice = entries.find((entry, index) => entries.indexOf(entry) !== index);
  if (twice !== undefined) return `${twice} is there twice.`;
  if (!name.startsWith("peers")) return entries.filter((entry) => /\s/.test(entry)).map((entry) => `${entry} has a space in it: one image a line.`)[0] ?? "";
  const wrong = entries.find((entry) => !/^[1-9A-HJ-NP-Za-km-z]{46,64}$/.test(entry));
  return wrong === undefined ? "" : `${wrong} is no peer id: 12D3KooW… or Qm… is expected.`;
}

export const samePolicy = (one: Policy, other: Policy): boolean => JSON.stringify(one) === JSON.stringify(other);

/** What an allow list does to everything that is not on it. */
export function effect(name: ListName, count: number): string {
  const what = name.startsWith("images") ? "image" : "peer";
  if (name.endsWith("deny")) return count === 0 ? `No ${what} is refused.` : `Jobs ${what === "image" ? "with these images" : "of these peers"} are refused, whatever is allowed.`;
  return count === 0 ? `Empty: every ${what} is taken that is not refused.` : `Only these are taken: every other ${what} is refused.`;
}
