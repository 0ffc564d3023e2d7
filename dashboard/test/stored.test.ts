import { afterEach, expect, test, vi } from "vitest";
import { store, stored } from "../src/app/stored";

afterEach(() => vi.unstubAllGlobals());

function storage(): Pick<Storage, "getItem" | "setItem"> {
  const kept = new Map<string, string>();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) };
}

test("what is stored is found again", () => {
  vi.stubGlobal("localStorage", storage());
  expect(stored("localStorage", "theme")).toBeNull();
  store("localStorage", "theme", "dark");
  expect(stored("localStorage", "theme")).toBe("dark");
});

test("a browser that keeps nothing does not stop the page", () => {
  Object.defineProperty(globalThis, "sessionStorage", {
    configurable: true,
    get: () => {
      throw new DOMException("denied", "SecurityError");
    },
  });
  expect(stored("sessionStorage", "draft")).toBeNull();
  store("sessionStorage", "draft", "mine");
  expect(stored("sessionStorage", "draft")).toBe("mine");
});

test("what does not fit any more is known while the page is open", () => {
  const full = storage();
  full.setItem("keys", "on");
  vi.stubGlobal("localStorage", { ...full, setItem: () => { throw new DOMException("full", "QuotaExceededError"); } });
  store("localStorage", "keys", "off");
  expect(stored("localStorage", "keys")).toBe("off");
});
