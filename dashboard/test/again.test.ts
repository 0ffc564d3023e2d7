import { afterEach, expect, test, vi } from "vitest";
import { askAll, type Outlook } from "../src/pages/sp/again";
import { quoteOf } from "../src/pages/sp/quotes";

afterEach(() => void vi.unstubAllGlobals());

test("once it is ended no further job is asked for, and what was asked for stays told", async () => {
  const kept = new Map<string, string>();
  vi.stubGlobal("sessionStorage", { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => kept.set(key, value) });
  const [ended, told, asked] = [new AbortController(), new Map<string, Outlook>(), [] as string[]];
  vi.stubGlobal("fetch", (_url: string, { body }: RequestInit) => {
    const { name } = JSON.parse(String(body)) as { name: string };
    asked.push(name);
    if (name === "b") ended.abort(); // while its answer is on its way
    return Promise.resolve(new Response(JSON.stringify({ job_id: `new-${name}` })));
  });
  await askAll(["a", "b", "c"].map((name) => [name, { name }] as const), ended.signal, (jobId, outlook) => told.set(jobId, outlook));
  expect(asked).toEqual(["a", "b"]);
  expect([...told].map(([jobId, { state }]) => [jobId, state])).toEqual([["a", "asked"], ["b", "asked"]]);
  expect(quoteOf("new-b")?.job_id).toBe("new-b");
});
