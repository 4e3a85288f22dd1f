import { afterEach, describe, expect, test } from "bun:test";
import { Discord, type DiscordFault, type DiscordOptions, type WireFault } from "./discord.ts";

const HEADERS = {
  "content-type": "application/json",
  "user-agent": "f2b-watch/1.0.0 (+https://x)",
};
const GOOD = { content: "```log\none\ntwo\n```", allowed_mentions: { parse: [] }, flags: 4 };
const MIB = 1024 * 1024;

let stop: (() => void) | undefined;
afterEach(() => stop?.());

/** A stand-in with a clock that only `clock.ms` moves. */
function virtual(options: DiscordOptions = {}) {
  const clock = { ms: 1_800_000_000_000 };
  const sleep = async (ms: number) => void (clock.ms += ms);
  return { clock, discord: new Discord({ now: () => clock.ms, sleep, ...options }) };
}

function served(options: DiscordOptions = {}): Discord {
  const discord = new Discord(options);
  ({ stop } = discord.serve());
  return discord;
}

interface Call extends RequestInit {
  version?: string;
  query?: string;
  real?: boolean;
}

/** Posts to the webhook as f2b-watch should, save for what `call` changes. */
function post(discord: Discord, body: unknown = GOOD, call: Call = {}): Promise<Response> {
  const { version = "/v10", query = "?wait=true", real = false, ...init } = call;
  const url = discord.webhook.replace("/api", `/api${version}`) + query;
  const text = typeof body === "string" || body instanceof FormData ? body : JSON.stringify(body);
  const all: RequestInit = { method: "POST", headers: HEADERS, redirect: "error", ...init };
  if (!/GET|HEAD/.test(all.method ?? "")) all.body = text;
  return real ? fetch(url, all) : discord.fetch(url, all);
}

async function answer(promise: Promise<Response>): Promise<[number, unknown]> {
  const response = await promise;
  const text = await response.text();
  return [response.status, text.startsWith("{") ? JSON.parse(text) : text];
}

const failed = (promise: Promise<unknown>) =>
  promise.then(
    () => "no error",
    (error) => (error.name === "TypeError" ? error.code : error.name),
  );

const content = (text: string) => ({ ...GOOD, content: text });

function upload(...sizes: number[]): FormData {
  const form = new FormData();
  form.set("payload_json", JSON.stringify({ ...GOOD, content: "see file" }));
  for (const [index, size] of sizes.entries()) {
    form.set(`files[${index}]`, new File(["x".repeat(size)], `${index}.log`));
  }
  return form;
}

const multipart = { headers: { "user-agent": "f2b-watch/1.0.0" } };

describe("saving", () => {
  test("a good message is saved, confirmed with an id, and no violation", async () => {
    const { discord, clock } = virtual();
    const [status, reply] = await answer(post(discord));
    const id = expect.stringMatching(/^\d{18,}$/);
    expect([status, reply]).toEqual([200, expect.objectContaining({ id, content: GOOD.content })]);
    expect(discord.messages).toEqual([
      {
        id,
        at: clock.ms,
        content: GOOD.content,
        username: "Spidey Bot",
        body: GOOD,
        files: [],
        query: { wait: "true" },
      },
    ]);
    expect(discord.lines()).toEqual(["one", "two"]);
    expect(discord.requests).toMatchObject([{ at: clock.ms, method: "POST", status: 200 }]);
    expect(discord.violations).toEqual([]);
  });

  test("without wait: 204, or lost without a word", async () => {
    const { discord } = virtual();
    expect(await answer(post(discord, GOOD, { query: "" }))).toEqual([204, ""]);
    expect(discord.messages).toHaveLength(1);
    expect(discord.violations).toEqual(["wait=true is missing from the query"]);
    const lossy = virtual({ dropUnconfirmed: true }).discord;
    expect(await answer(post(lossy, { ...GOOD, wait: true }, { query: "" }))).toEqual([204, ""]);
    expect(lossy.messages).toEqual([]);
  });

  test("GET shows the webhook and posts nothing; other methods are 405", async () => {
    const { discord } = virtual();
    const [status, reply] = await answer(post(discord, "", { method: "GET", query: "" }));
    expect([status, reply]).toEqual([200, expect.objectContaining({ type: 1 })]);
    expect((await post(discord, "", { method: "DELETE" })).status).toBe(405);
    expect(discord.messages).toEqual([]);
  });

  test("files", async () => {
    const { discord } = virtual({ rateLimits: false });
    const send = (...sizes: number[]) => answer(post(discord, upload(...sizes), multipart));
    const [status, reply] = await send(3, 10 * MIB);
    expect([status, reply]).toMatchObject([200, { attachments: [{ filename: "0.log" }, {}] }]);
    expect(discord.messages[0]?.files[0]).toEqual({
      field: "files[0]",
      name: "0.log",
      text: "xxx",
      byteCount: 3,
    });
    expect(await send(10 * MIB + 1)).toMatchObject([413, { code: 40005 }]);
    expect(await send(9 * MIB, 9 * MIB, 9 * MIB)).toMatchObject([413, { code: 40005 }]);
    expect(await send(...Array<number>(11).fill(1))).toMatchObject([400, { code: 30015 }]);
    expect(discord.violations).toEqual([]);
  });
});

describe("refusals", () => {
  const nested = (field: string) => ({ code: 50035, errors: { [field]: { _errors: [{}] } } });
  const cases: [string, unknown, Call, number, unknown][] = [
    ["2000 code points", content(` ${"😀".repeat(2000)}\n`), {}, 200, {}],
    ["2001 code points", content("a".repeat(2001)), {}, 400, nested("content")],
    ["blank", content(" \n"), {}, 400, { code: 50006 }],
    ["no content", { flags: 4 }, {}, 400, { code: 50006 }],
    ["a lone surrogate", content("\ud83d"), {}, 400, nested("content")],
    ["a number", { content: 5 }, {}, 400, nested("content")],
    ["username of 80", { ...GOOD, username: "u".repeat(80) }, {}, 200, {}],
    ["username of 81", { ...GOOD, username: "u".repeat(81) }, {}, 400, nested("username")],
    ["username blank", { ...GOOD, username: " " }, {}, 400, nested("username")],
    ["username disCord", { ...GOOD, username: "my disCord" }, {}, 400, nested("username")],
    ["flags", { ...GOOD, flags: "4" }, {}, 400, nested("flags")],
    [
      "mentions",
      { ...GOOD, allowed_mentions: { parse: ["all"] } },
      {},
      400,
      nested("allowed_mentions"),
    ],
    ["broken JSON", "{", {}, 400, { code: 50109 }],
    ["no content type", GOOD, multipart, 400, nested("_misc")],
    ["bad thread", GOOD, { query: "?wait=1&thread_id=x" }, 400, nested("thread_id")],
    ["thread", GOOD, { query: "?wait=1&thread_id=5" }, 200, {}],
    ["thread_name", { ...GOOD, thread_name: "x" }, {}, 400, { code: 220003 }],
    [
      "v6 shape",
      content("a".repeat(2001)),
      { version: "" },
      400,
      { content: [expect.any(String)] },
    ],
    ["v8 shape", content("a".repeat(2001)), { version: "/v8" }, 400, nested("content")],
    ["v11", GOOD, { version: "/v11" }, 400, { code: 50041 }],
    ["/slack", GOOD, { query: "/slack" }, 404, { code: 0 }],
  ];
  test.each(cases)("%s", async (_name, body, call, status, reply) => {
    const { discord } = virtual();
    expect(await answer(post(discord, body, call))).toMatchObject([status, reply as object]);
    expect(discord.messages).toHaveLength(status === 200 ? 1 : 0);
  });

  test.each(["", "Bun/1.4.5", "Deno/2.9.6", "node"])("user agent %p", async (agent) => {
    const headers = { ...HEADERS, "user-agent": agent };
    const reply = await answer(post(virtual().discord, GOOD, { headers }));
    expect(reply).toEqual([403, "error code: 1010"]);
  });

  test("wrong id, wrong token, deleted, restored", async () => {
    const { discord } = virtual();
    const url = new URL(discord.webhook.replace("/api", "/api/v10"));
    const get = (path: string) => answer(discord.fetch(new URL(path, url), { headers: HEADERS }));
    expect(await get(`../1/x`)).toMatchObject([404, { code: 10015 }]);
    expect(await get(`x`)).toMatchObject([401, { code: 50027 }]);
    discord.delete();
    expect(await answer(post(discord))).toMatchObject([404, { code: 10015 }]);
    await post(discord);
    expect(discord.violations).toEqual(["posted after a 404 10015"]);
    discord.restore();
    expect(await get(url.href)).toMatchObject([200, {}]);
    expect(await answer(post(discord))).toMatchObject([200, {}]);
    expect(discord.violations).toHaveLength(1);
  });

  test("a forum asks for exactly one of thread_id and thread_name", async () => {
    const { discord } = virtual({ forum: true });
    const named = { ...GOOD, thread_name: "bans" };
    expect(await answer(post(discord))).toMatchObject([400, { code: 220001 }]);
    expect(await answer(post(discord, named))).toMatchObject([200, {}]);
    const both = post(discord, named, { query: "?wait=true&thread_id=5" });
    expect(await answer(both)).toMatchObject([400, { code: 220002 }]);
  });

  test("content that a test does not want", async () => {
    const { discord } = virtual();
    discord.refuseContent((text) => text.includes("two"));
    expect(await answer(post(discord))).toMatchObject([400, nested("content")]);
    expect(await answer(post(discord, content("one")))).toMatchObject([200, {}]);
  });
});

describe("rate limits", () => {
  test("5 in 2 s: headers on every answer, then 429", async () => {
    const { discord, clock } = virtual();
    for (const left of ["4", "3", "2", "1", "0"]) {
      const { status, headers } = await post(discord);
      expect([status, headers.get("x-ratelimit-remaining")]).toEqual([200, left]);
      clock.ms += 100;
    }
    const response = await post(discord);
    expect(await response.json()).toMatchObject({ retry_after: 1.5, global: false });
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "retry-after": "2",
      "x-ratelimit-limit": "5",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": "1800000002.000",
      "x-ratelimit-reset-after": "1.500",
      "x-ratelimit-scope": "user",
    });
    expect(discord.count429).toBe(1);
    clock.ms += 1499;
    await post(discord);
    expect(discord.violations).toEqual(["posted 1 ms too early"]);
    clock.ms += 1;
    expect((await post(discord)).status).toBe(200);
  });

  test("30 in 60 s, which no header foretells", async () => {
    const { discord, clock } = virtual();
    for (let sent = 0; sent < 30; sent++, clock.ms += 1000) {
      expect((await post(discord)).headers.get("x-ratelimit-remaining")).not.toBe("0");
    }
    const response = await post(discord);
    expect(response.headers.get("x-ratelimit-remaining")).not.toBe("0");
    expect([response.status, await response.json()]).toMatchObject([429, { retry_after: 30 }]);
    clock.ms += 30_000;
    expect((await post(discord)).status).toBe(200);
    expect(discord.violations).toEqual([]);
  });

  test("without a version retry_after is in milliseconds", async () => {
    const { discord } = virtual();
    const old = { version: "" };
    for (let sent = 0; sent < 5; sent++) await post(discord, GOOD, old);
    const response = await post(discord, GOOD, old);
    expect(await response.json()).toMatchObject({ retry_after: 2000 });
    expect(response.headers.get("retry-after")).toBe("2000");
  });

  test("can be off", async () => {
    const { discord } = virtual({ rateLimits: false });
    for (let sent = 0; sent < 100; sent++) await post(discord);
    expect([discord.messages.length, discord.count429]).toEqual([100, 0]);
  });
});

describe("violations", () => {
  const cases: [string, unknown, Call, RegExp][] = [
    ["unknown key", { ...GOOD, allow_mentions: {} }, {}, /additional.*allow_mentions/],
    ["wait in the body", { ...GOOD, wait: true }, {}, /additional.*wait/],
    ["version", GOOD, { version: "" }, /^not \/api\/v10\//],
    ["mentions", { content: "x" }, {}, /allowed_mentions/],
    ["mentions", { content: "x", allowed_mentions: { parse: ["users"] } }, {}, /allowed_mentions/],
    ["length", content("😀".repeat(1000)), {}, /2000 UTF-16 units/],
    ["flags", { ...GOOD, flags: 8 }, {}, /flags 8/],
    ["bidi", content("a\u202eb"), {}, /drops/],
    ["fence", content("```\na"), {}, /fence/],
  ];
  test.each(cases)("%s", async (_name, body, call, violation) => {
    const { discord } = virtual();
    expect((await post(discord, body, call)).status).toBe(200);
    expect(discord.violations).toEqual([expect.stringMatching(violation)]);
  });

  test("two requests at once", async () => {
    const { discord } = virtual();
    await Promise.all([post(discord), post(discord)]);
    expect(discord.violations).toEqual(["2 requests in flight at once"]);
  });
});

/** What a caller sees of each fault, and whether the message was saved. */
const FAULTS: [DiscordFault | WireFault, unknown, boolean][] = [
  [
    { kind: "status", status: 503, body: "busy", headers: { "retry-after": "9" } },
    [503, "busy"],
    false,
  ],
  [{ kind: "status-after-saving", status: 500 }, [500, expect.anything()], true],
  [{ kind: "reset" }, "ECONNRESET", false],
  [{ kind: "reset-after-saving" }, "ECONNRESET", true],
  [{ kind: "hang", save: false }, "TimeoutError", false],
  [{ kind: "hang", save: true }, "TimeoutError", true],
  [{ kind: "slow", ms: 20 }, [200, expect.objectContaining({ type: 0 })], true],
  [{ kind: "slow", ms: 60_000 }, "TimeoutError", true],
  [{ kind: "trickle" }, "TimeoutError", true],
  [{ kind: "cut" }, "ECONNRESET", true],
  [{ kind: "cut", clean: true }, "SyntaxError", true],
  [{ kind: "html", status: 502 }, [502, expect.stringContaining("<html>")], false],
  [{ kind: "redirect", location: "/elsewhere" }, "UnexpectedRedirect", false],
  [
    { kind: "rate-limit", retryAfterS: 2.5 },
    [429, expect.objectContaining({ retry_after: 2.5 })],
    false,
  ],
  [{ kind: "cloudflare" }, [429, "error code: 1015"], false],
  [{ kind: "cloudflare-json" }, [429, { code: 0, message: expect.any(String) }], false],
  [{ kind: "no-id" }, [200, {}], true],
  [{ kind: "empty-204" }, [204, ""], true],
  [{ kind: "code", status: 403, code: 50013 }, [403, { code: 50013, message: "an error" }], false],
];

describe.each(["in process", "served"])("faults, %s", (mode) => {
  test.each(FAULTS)("%j", async (fault, seen, saved) => {
    const real = mode === "served";
    const discord = real ? served() : new Discord();
    discord.fail(fault);
    const call = () => post(discord, GOOD, { real, signal: AbortSignal.timeout(150) });
    const result = typeof seen === "string" ? await failed(answer(call())) : await answer(call());
    expect(result).toEqual(seen);
    expect(discord.messages).toHaveLength(saved ? 1 : 0);
    expect(discord.violations).toEqual([]);
    if (real) await Bun.sleep(5);
    await call();
    const early = discord.count429 > 0 ? [expect.stringContaining("too early")] : [];
    expect(discord.violations).toEqual(early);
    expect(discord.messages).toHaveLength(saved ? 2 : 1);
  });
});

describe("faults", () => {
  test("are applied in order, and a late one waits for a message that is saved", async () => {
    const { discord } = virtual();
    discord.fail({ kind: "html", status: 500 }, { kind: "no-id" });
    discord.failAlways({ kind: "status", status: 504 });
    expect((await post(discord)).status).toBe(500);
    expect((await post(discord, content(""))).status).toBe(400);
    expect(await answer(post(discord))).toEqual([200, {}]);
    expect((await post(discord)).status).toBe(504);
    expect((await post(discord)).status).toBe(504);
    discord.failAlways(undefined);
    expect((await post(discord)).status).toBe(200);
  });

  test("a refused connection has the code and the URL that Bun's has", async () => {
    const { discord } = virtual();
    discord.fail({ kind: "refused" }, { kind: "refused", code: "ENOTFOUND" });
    const error = await post(discord).catch((caught) => caught);
    const real = await fetch("http://127.0.0.1:1/x").catch((caught) => caught);
    expect([error.name, error.code]).toEqual([real.name, real.code]);
    expect(real.path).toBe("http://127.0.0.1:1/x");
    expect(error.path).toStartWith(discord.webhook.replace("/api", "/api/v10"));
    expect(await failed(post(discord))).toBe("ENOTFOUND");
    expect(discord.messages).toEqual([]);
  });

  test("a refused connection cannot be served", () => {
    const discord = served();
    expect(() => discord.fail({ kind: "refused" })).toThrow("stop() it");
    const { discord: other } = virtual();
    other.failAlways({ kind: "refused" });
    expect(() => other.serve()).toThrow("stop() it");
  });

  test("a redirect that is refused names the URL, one that is followed posts nothing", async () => {
    const { discord } = virtual();
    discord.failAlways({ kind: "redirect", location: discord.webhook });
    const error = await post(discord).catch((caught) => caught);
    expect(error.message).toContain(discord.webhook.slice(-20));
    expect((await post(discord, GOOD, { redirect: "manual" })).status).toBe(302);
    discord.failAlways(undefined);
    discord.fail({ kind: "redirect", location: discord.webhook });
    expect((await post(discord, GOOD, { redirect: "follow" })).status).toBe(200);
    expect(discord.messages).toEqual([]);
    expect(discord.violations).toEqual([expect.stringContaining("redirect was followed")]);
  });

  test("time out by themselves on the stand-in's clock", async () => {
    const { discord, clock } = virtual();
    const start = clock.ms;
    const { signal } = new AbortController();
    discord.fail({ kind: "hang", save: true, afterMs: 20_000 }, { kind: "trickle", afterMs: 5 });
    expect(await failed(post(discord, GOOD, { signal }))).toBe("TimeoutError");
    expect(clock.ms - start).toBe(20_000);
    expect(await failed(answer(post(discord, GOOD, { signal })))).toBe("TimeoutError");
    expect(discord.messages).toHaveLength(2);
  });

  test("rate-limit without a header, global", async () => {
    const { discord } = virtual();
    discord.fail({ kind: "rate-limit", header: false, global: true });
    const response = await post(discord);
    expect(response.headers.get("retry-after")).toBeNull();
    expect(response.headers.get("x-ratelimit-scope")).toBe("global");
    expect(response.headers.get("x-ratelimit-global")).toBe("true");
    expect(await response.json()).toMatchObject({ global: true, retry_after: 1 });
  });

  test("Cloudflare's 429 has no header of Discord's, and asks for 15 minutes", async () => {
    const { discord, clock } = virtual();
    discord.fail({ kind: "cloudflare" });
    const { headers } = await post(discord);
    expect([...headers.keys()]).toEqual(["content-type"]);
    clock.ms += 15 * 60_000 - 1;
    await post(discord);
    expect(discord.violations).toEqual(["posted 1 ms too early"]);
  });
});

describe("served", () => {
  test("the same rules hold, files included", async () => {
    const discord = served();
    expect(discord.webhook).toStartWith("http://127.0.0.1:");
    expect((await post(discord, GOOD, { real: true })).status).toBe(200);
    expect((await post(discord, upload(2 * MIB), { ...multipart, real: true })).status).toBe(200);
    expect((await post(discord, GOOD, { real: true, headers: {} })).status).toBe(403);
    expect(discord.messages[1]?.files[0]?.byteCount).toBe(2 * MIB);
    expect(discord.violations).toEqual([]);
    stop?.();
    expect(discord.webhook).toStartWith("https://discord.com/api/webhooks/");
  });

  test("requests at the same time are seen as such", async () => {
    const discord = served();
    discord.failAlways({ kind: "slow", ms: 30 });
    await Promise.all([post(discord, GOOD, { real: true }), post(discord, GOOD, { real: true })]);
    expect(discord.violations).toEqual(["2 requests in flight at once"]);
  });
});
