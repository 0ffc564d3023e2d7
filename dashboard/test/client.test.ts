import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ApiError, askProviders, get, logOut, replace, send } from "../src/api/client";
import { checkSession, session, whyNoExport } from "../src/app/session";

const gaveUp = () => Promise.reject(new TypeError("Failed to fetch"));
const answer = () => Promise.resolve(new Response("[1]", { headers: { "x-position": "7" } }));
const fetched = vi.fn<typeof fetch>();

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", fetched);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  fetched.mockReset();
});

async function settled<T>(asked: Promise<T>): Promise<T | unknown> {
  const end = asked.catch((error: unknown) => error);
  await vi.runAllTimersAsync();
  return end;
}

describe("a connection that the browser gives up", () => {
  test("is made again for what only reads", async () => {
    fetched.mockImplementationOnce(gaveUp).mockImplementationOnce(gaveUp).mockImplementationOnce(answer);
    expect(await settled(get("/jobs"))).toEqual({ body: [1], position: 7, total: 0, tag: "" });
  });

  test("is told when it is given up each time", async () => {
    fetched.mockImplementation(gaveUp);
    const error = await settled(get("/jobs"));
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).message).toContain("does not answer");
    expect(fetched).toHaveBeenCalledTimes(3);
  });

  test.each(["POST", "PUT", "DELETE"] as const)("is told at once for %s, which may have been done", async (method) => {
    fetched.mockImplementation(gaveUp);
    expect(await settled(send(method, "/jobs"))).toBeInstanceOf(ApiError);
    expect(fetched).toHaveBeenCalledTimes(1);
  });

  test("ends with the page that asked", async () => {
    const ended = new DOMException("The page was left", "AbortError");
    fetched.mockRejectedValue(ended);
    expect(await settled(get("/jobs"))).toBe(ended);
    expect(fetched).toHaveBeenCalledTimes(1);
  });
});

test("providers are waited for longer than for other answers, and are named where none has come", async () => {
  const timeout = vi.spyOn(AbortSignal, "timeout");
  fetched.mockRejectedValue(new DOMException("late", "TimeoutError"));
  const [asked, other] = [await settled(askProviders("/run/request-service", {})), await settled(send("POST", "/jobs/stop", {}))];
  expect(timeout.mock.calls.flat()).toEqual([300_000, 30_000]);
  expect(String(asked)).toContain("Providers are still being asked");
  expect(String(other)).toContain("does not answer");
  expect(fetched).toHaveBeenCalledTimes(2);
});

describe("an answer that can't be used", () => {
  const broken = () => new Response(new ReadableStream({ start: (body) => body.error(new TypeError("network error")) }));
  test.each([["breaks off", broken, "does not answer"], ["is no JSON", () => new Response("<html>"), "not the DMS"]])("since it %s is told in words", async (_how, made, words) => {
    fetched.mockImplementation(() => Promise.resolve(made()));
    const error = await settled(get("/jobs"));
    expect(error).toBeInstanceOf(ApiError);
    expect((error as ApiError).message).toContain(words);
  });
});

test("what is replaced is named by the tag that it had when it was read", async () => {
  fetched.mockImplementationOnce(() => Promise.resolve(new Response("{}", { headers: { etag: '"new"' } })));
  expect(await settled(replace("/device/policy", {}, '"read"'))).toMatchObject({ tag: '"new"' });
  expect(fetched.mock.calls[0]?.[1]?.headers).toMatchObject({ "if-match": '"read"' });
});

describe("a session that is over", () => {
  const page = { pathname: "/dashboard/sp", search: "", hash: "", replace: vi.fn(), assign: vi.fn() };
  let hide = () => {};
  const refused = () => new Response('{"title": "Unauthorized"}', { status: 401 });
  beforeEach(() => {
    vi.stubGlobal("location", page);
    vi.stubGlobal("addEventListener", (_: string, hidden: () => void) => (hide = hidden));
    page.replace.mockReset();
    page.assign.mockReset();
  });

  test("asks for a token, and comes back here", async () => {
    fetched.mockResolvedValue(refused());
    await settled(get("/jobs"));
    expect(page.replace).toHaveBeenCalledWith("/login?next=%2Fdashboard%2Fsp");
  });

  test("comes back to the same state of the page, written as the log-in takes it", async () => {
    vi.stubGlobal("location", { ...page, search: "?q=a b&at=2026-01-31T12:00:00Z&find='~/\\", hash: "#L12" });
    fetched.mockResolvedValue(refused());
    await settled(get("/jobs"));
    const next = new URL(String(page.replace.mock.calls[0]?.[0]), "http://dms.example").searchParams.get("next");
    expect(next).toBe("/dashboard/sp?q=a+b&at=2026-01-31T12%3A00%3A00Z&find=%27%7E%2F%5C#L12");
  });

  test.each([["nobody", null, 1], ["the operator of the machine, who needs none", "admin", 0]])("is found out while the line is refused: the DMS knows %s", async (_who, role, times) => {
    fetched.mockResolvedValue(new Response(JSON.stringify({ role, client: "", by: "nothing" })));
    await settled(checkSession());
    expect(page.replace).toHaveBeenCalledTimes(times);
  });

  test.each([["away", gaveUp], ["an older one", () => Promise.resolve(new Response("{}", { status: 404 }))]])("is not taken for granted where the DMS is %s", async (_how, answers) => {
    fetched.mockImplementation(answers);
    await settled(checkSession());
    expect(page.replace).not.toHaveBeenCalled();
  });

  test("asks for a token after a log-out that failed, as the session goes on", async () => {
    fetched.mockResolvedValueOnce(new Response("{}", { status: 503 })).mockResolvedValueOnce(refused());
    expect(await settled(logOut())).toBeInstanceOf(ApiError);
    await settled(get("/jobs"));
    expect(page.assign).not.toHaveBeenCalled();
    expect(page.replace).toHaveBeenCalledOnce();
  });

  test("does not come back here when it was ended by hand, whatever is refused meanwhile", async () => {
    let ended = (_: Response) => {};
    fetched.mockImplementation((_, options) =>
      options?.method === "DELETE" ? new Promise((answer) => (ended = answer)) : Promise.resolve(refused()),
    );
    const out = settled(logOut());
    await settled(get("/jobs"));
    ended(new Response("{}"));
    await out;
    await settled(get("/jobs"));
    expect(page.assign).toHaveBeenCalledWith("/login");
    expect(page.replace).not.toHaveBeenCalled();
    hide(); // and shown again by "back"
    await settled(get("/jobs"));
    expect(page.replace).toHaveBeenCalledOnce();
  });
});

test.each([["admin", true], ["read", true], ["spd", false], ["cpd", false], [null, false]] as const)("an export is for who may see the whole history: %s", (role, may) => {
  session.value = { role, client: "", by: "session" };
  expect(whyNoExport.value === "").toBe(may);
  session.value = null; // of an older DMS
  expect(whyNoExport.value).toBe("");
});
