/** What this browser keeps for a person. Where it may keep nothing, or no more, it is known as long as the page is open. */
export type Place = "localStorage" | "sessionStorage";

const known = new Map<string, string>();

export function stored(place: Place, key: string): string | null {
  try {
    return known.get(key) ?? globalThis[place].getItem(key);
  } catch {
    return null;
  }
}

export function store(place: Place, key: string, value: string): void {
  try {
    globalThis[place].setItem(key, value);
    known.delete(key);
  } catch {
    known.set(key, value); // blocked by the person, or full
  }
}
