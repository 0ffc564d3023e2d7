import { signal } from "@preact/signals";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { replace, type Follower } from "../src/app/shown";
import { JobEvents } from "../src/pages/sp/job_events";

vi.mock("../src/live/live", () => ({ onEvents: () => () => undefined, onReturn: () => () => undefined, askTogether: () => Promise.resolve(null) }));

const asking = () => ({ ready: signal(false), error: signal(""), close: vi.fn() });

describe("what is shown", () => {
  it.each([["an answer", (one: ReturnType<typeof asking>) => (one.ready.value = true)], ["what is wrong", (one: ReturnType<typeof asking>) => (one.error.value = "gone")]])("stays until there is %s to the next question", (_what, answers) => {
    const shown = signal<Follower | null>(null);
    const [before, after] = [asking(), asking()];
    replace(shown, before)();
    expect([shown.value, before.close.mock.calls.length]).toEqual([before, 1]);
    replace(shown, after);
    expect(shown.value).toBe(before);
    answers(after);
    expect(shown.value).toBe(after);
  });

  it("is not replaced by what was given up", () => {
    const shown = signal<Follower | null>(null);
    const [before, after] = [asking(), asking()];
    replace(shown, before)();
    replace(shown, after)();
    after.ready.value = true;
    expect(shown.value).toBe(before);
  });
});

describe("a job at a moment", () => {
  let answer: (url: string, body: unknown) => void;
  beforeEach(() => {
    const open = new Map<string, (response: Response) => void>();
    vi.stubGlobal("fetch", (url: string) => new Promise<Response>((resolve) => open.set(url.replace(/\?.*/, "").split("/").slice(4).join("/"), resolve)));
    answer = (url, body) => open.get(url)?.(new Response(JSON.stringify(body), { headers: { "x-position": "7" } }));
  });
  afterEach(() => vi.unstubAllGlobals());

  it("is ready once its events are there, too", async () => {
    const events = new JobEvents("j1", "7");
    await vi.waitFor(() => (answer("j1", { job_id: "j1", position: 7 }), expect(events.job.value).not.toBeNull()));
    expect(events.ready.value).toBe(false);
    await vi.waitFor(() => (answer("j1/history", { items: [{ position: 6 }], next_token: "" }), expect(events.ready.value).toBe(true)));
    expect(events.events.value).toHaveLength(1);
    events.close();
  });
});
