import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ApiError, get, logOut, replace, send } from "../src/api/client";

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
  const page = { pathname: "/dashboard/sp", replace: vi.fn(), assign: vi.fn() };
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
