/** The stand-ins for Discord and Slack are as strict as the services, and have the faults of both. */
import { afterEach, describe, expect, test } from "bun:test";
import { Discord, type DiscordFault, type DiscordOptions, type WireFault } from "./discord.ts";
import { HOUR } from "./harness.ts";
import { Slack, type SlackFault, type SlackOptions } from "./slack.ts";

const MIB = 1024 * 1024;

let stop: (() => void) | undefined;
afterEach(() => stop?.());

interface Call extends RequestInit {
  /** Of Discord's API, as in a path; what follows the webhook's path. */
  version?: string;
  query?: string;
  /** A method of Slack's API, or `hook` and a path beside the incoming webhook. */
  api?: string;
  hook?: string;
}

/** A stand-in on a clock that only `clock.ms` moves, or served. */
function standIn<Service extends Discord | Slack>(
  Service: new (options: DiscordOptions & SlackOptions) => Service,
  options: DiscordOptions & SlackOptions,
  real: boolean,
) {
  const clock = { ms: 1_800_000_000_000 };
  const sleep = async (ms: number) => void (clock.ms += ms);
  const service = new Service(real ? options : { now: () => clock.ms, sleep, ...options });
  if (real) ({ stop } = service.serve());
  return { service, clock };
}

const GOOD = { content: "```log\none\ntwo\n```", allowed_mentions: { parse: [] }, flags: 4 };
const AGENT = { "user-agent": "f2b-watch/1.0.0 (+https://x)" };
const HEADERS = { "content-type": "application/json", ...AGENT };

/** Discord, posted to as f2b-watch should, save for what a call changes. */
function discord(options: DiscordOptions = {}, real = false) {
  const { service, clock } = standIn(Discord, options, real);
  const post = (body: unknown = GOOD, call: Call = {}) => {
    const { version = "/v10", query = "?wait=true", ...init } = call;
    const url = service.webhook.replace("/api", `/api${version}`) + query;
    const text = typeof body === "string" || body instanceof FormData ? body : JSON.stringify(body);
    const all: RequestInit = { method: "POST", headers: HEADERS, redirect: "error", ...init };
    if (!/GET|HEAD/.test(all.method ?? "")) all.body = text;
    return (real ? fetch : service.fetch)(url, all);
  };
  return { service, clock, post, good: GOOD as object };
}

const JSON_TYPE = "application/json; charset=utf-8";
const GOOD_TEXT = "host\n```\none\na &lt;b&gt; &amp;\n```";

function slack(options: SlackOptions = {}, real = false) {
  const { service, clock } = standIn(Slack, options, real);
  const good: object = { text: GOOD_TEXT, unfurl_links: false, unfurl_media: false };
  const post = (body: unknown = good, call: Call = {}) => {
    const { api = "chat.postMessage", hook, ...init } = call;
    const isHook = hook !== undefined;
    const url = isHook ? new URL(hook, service.webhook).href : service.api + api;
    const authorization = isHook ? {} : { authorization: `Bearer ${service.token}` };
    const headers = { "content-type": JSON_TYPE, ...authorization } as Record<string, string>;
    const message = { ...(isHook ? {} : { channel: service.channel }), ...Object(body) };
    const text = typeof body === "string" ? body : JSON.stringify(message);
    const all: RequestInit = { headers, redirect: "error", ...init, method: "POST", body: text };
    return (real ? fetch : service.fetch)(url, all);
  };
  return { service, clock, post, good };
}

async function answer(promise: Promise<Response>): Promise<[number, unknown]> {
  const response = await promise;
  const text = await response.text();
  return [response.status, text.startsWith("{") ? JSON.parse(text) : text];
}

/** What a caller sees: an answer, or the name of what was thrown. */
const seen = (promise: Promise<Response>): Promise<unknown> =>
  answer(promise).catch((error) => (error.name === "TypeError" ? error.code : error.name));

const content = (text: string) => ({ ...GOOD, content: text });

function upload(...sizes: number[]): FormData {
  const form = new FormData();
  form.set("payload_json", JSON.stringify(content("see file")));
  for (const [index, size] of sizes.entries())
    form.set(`files[${index}]`, new File(["x".repeat(size)], `${index}.log`));
  return form;
}

const multipart = { headers: AGENT };

// ── Rules ───────────────────────────────────────────────────────────────────────────────────────

describe("Discord", () => {
  test("saves a good message, confirms it with an id, and shows what it saw", async () => {
    const { service, clock, post, good } = discord();
    const id = expect.stringMatching(/^\d{18,}$/);
    expect(await answer(post())).toMatchObject([200, { id, content: GOOD.content }]);
    const saved = { at: clock.ms, username: "Spidey Bot", body: good, query: { wait: "true" } };
    expect(service.messages).toMatchObject([{ ...saved, id, files: [] }]);
    expect(service.lines()).toEqual(["one", "two"]);
    expect(service.requests).toMatchObject([{ at: clock.ms, method: "POST", status: 200 }]);
    expect(service.violations).toEqual([]);
  });

  test("takes files of 10 MiB each and 25 together", async () => {
    const { service, post } = discord({ rateLimits: false });
    const send = (...sizes: number[]) => answer(post(upload(...sizes), multipart));
    expect(await send(3, 10 * MIB)).toMatchObject([200, {}]);
    const file = { field: "files[0]", name: "0.log", text: "xxx", byteCount: 3 };
    expect(service.messages[0]?.files[0]).toEqual(file);
    expect(await send(10 * MIB + 1)).toMatchObject([413, { code: 40005 }]);
    expect(await send(9 * MIB, 9 * MIB, 9 * MIB)).toMatchObject([413, { code: 40005 }]);
    expect(service.violations).toEqual([]);
  });

  const nested = (field: string) => ({ code: 50035, errors: { [field]: { _errors: [{}] } } });
  const named = (changes: object) => ({ ...GOOD, ...changes });
  const thread = { query: "?wait=true&thread_id=5" };
  const agents = ["", "Bun/1.4.5", "Deno/2.9.6", "node"];
  // prettier-ignore
  const ANSWERS: [string, unknown, Call, number, unknown, DiscordOptions?][] = [
    ["2000 code points", content(` ${"😀".repeat(2000)}\n`), {}, 200, {}],
    ["2001 code points", content("a".repeat(2001)), {}, 400, nested("content")],
    ["blank", content(" \n"), {}, 400, { code: 50006 }], ["no content", { flags: 4 }, {}, 400, { code: 50006 }],
    ["a lone surrogate", content("\ud83d"), {}, 400, nested("content")],
    ["a number", { content: 5 }, {}, 400, nested("content")], ["broken JSON", "{", {}, 400, { code: 50109 }],
    ["username of 80", named({ username: "u".repeat(80) }), {}, 200, {}],
    ["username of 81", named({ username: "u".repeat(81) }), {}, 400, nested("username")],
    ["username blank", named({ username: " " }), {}, 400, nested("username")],
    ["username disCord", named({ username: "my disCord" }), {}, 400, nested("username")],
    ["bad thread", undefined, { query: "?wait=true&thread_id=x" }, 400, nested("thread_id")],
    ["thread", undefined, thread, 200, {}], ["a forum with one", undefined, thread, 200, {}, { forum: true }],
    ["a forum without a thread", undefined, {}, 400, { code: 220001 }, { forum: true }],
    ["a post that does not wait", undefined, { query: "" }, 204, ""],
    ["GET, which shows the webhook", "", { method: "GET", query: "" }, 200, { type: 1 }],
    ["/slack", undefined, { query: "/slack" }, 404, { code: 0 }],
    ...agents.map((agent): [string, undefined, Call, number, string] =>
      [`agent ${agent}`, undefined, { headers: { ...HEADERS, "user-agent": agent } }, 403, "error code: 1010"]),
  ];
  test.each(ANSWERS)("answers %s", async (...[_, body, call, status, reply, options]) => {
    const { service, post } = discord(options);
    const [got, said] = await answer(post(body, call));
    expect(got).toBe(status);
    if (typeof reply === "string") expect(said).toBe(reply);
    else expect(said).toMatchObject(reply as object);
    const isSaved = status < 300 && call.method === undefined;
    expect(service.messages).toHaveLength(isSaved ? 1 : 0);
    if (status === 204) expect(service.violations).toEqual(["wait=true is missing from the query"]);
  });

  test("knows a wrong id, a wrong token, and a webhook that was deleted and is back", async () => {
    const { service, post } = discord();
    const url = new URL(service.webhook.replace("/api", "/api/v10"));
    const get = (path: string) => answer(service.fetch(new URL(path, url), { headers: HEADERS }));
    expect(await get("../1/x")).toMatchObject([404, { code: 10015 }]);
    expect(await get("x")).toMatchObject([401, { code: 50027 }]);
    service.delete();
    expect(await answer(post())).toMatchObject([404, { code: 10015 }]);
    await post();
    expect(service.violations).toEqual(["posted after a 404 10015"]);
    service.restore();
    expect(await get(url.href)).toMatchObject([200, {}]);
    expect(await answer(post())).toMatchObject([200, {}]);
    expect(service.violations).toHaveLength(1);
  });
});

describe("Slack", () => {
  test("saves a good message, and confirms it with a ts", async () => {
    const { service, clock, post, good } = slack();
    const reply = await answer(post({ ...good, username: "Fail2Ban" }));
    const ts = expect.stringMatching(/^\d{10}\.\d{6}$/);
    expect(reply).toMatchObject([200, { ok: true, ts, channel: service.channel }]);
    expect(reply[1]).not.toHaveProperty("warning");
    const saved = { id: ts, at: clock.ms, username: "Fail2Ban", via: "api" };
    expect(service.messages).toMatchObject([saved]);
    expect(service.lines()).toEqual(["one", "a <b> &"]);
    expect(service.violations).toEqual([]);
  });

  test("the webhook answers ok; a channel goes by its name", async () => {
    const { service, post, good } = slack();
    expect(await answer(post(good, { hook: "" }))).toEqual([200, "ok"]);
    await post({ ...good, channel: "alerts", username: "x" });
    const byName = { channel: "alerts", username: "x", via: "api" };
    expect(service.messages).toMatchObject([{ via: "webhook" }, byName]);
    expect(service.violations).toEqual([]);
  });

  test("auth.test posts nothing, and tells the scopes in a header", async () => {
    const { service, post } = slack({ scopes: ["users:read"] });
    const response = await post("", { api: "auth.test" });
    expect(response.headers.get("x-oauth-scopes")).toBe("users:read");
    expect(await response.json()).toMatchObject({ ok: true, team: "Example" });
    expect([service.messages, service.violations]).toEqual([[], []]);
  });

  const stranger = { headers: { authorization: "Bearer x", "content-type": JSON_TYPE } };
  test.each<[number, string, unknown, Call, SlackOptions?]>([
    [200, "invalid_auth", {}, stranger],
    [200, "invalid_auth", "", { ...stranger, api: "auth.test" }],
    [200, "invalid_json", '{"text":"x",}', {}],
    [200, "channel_not_found", { channel: "#nowhere" }, {}],
    [200, "no_text", { text: " " }, {}],
    [200, "unknown_method", {}, { api: "chat.post" }],
    [200, "missing_scope", {}, {}, { scopes: ["users:read"] }],
    [200, "not_in_channel", {}, {}, { outside: ["C0123456789"] }],
    [400, "invalid_payload", '{"text":"x",}', { hook: "" }],
    [400, "no_text", { text: "" }, { hook: "" }],
    [404, "no_service", {}, { hook: "../B1/x" }],
  ])("%d: refuses with %s", async (status, error, body, call, options = {}) => {
    const { service, post, good } = slack(options);
    const sent = typeof body === "string" ? body : { ...good, ...(body as object) };
    const reply = call.hook === undefined ? { ok: false, error } : error;
    expect(await answer(post(sent, call))).toEqual([status, reply]);
    expect(service.messages).toEqual([]);
  });

  test("knows links that are meant, and a webhook that chooses its channel", async () => {
    const links = /<https:\/\/db-ip\.com\/[\d.]+\|[\d.]+>/;
    const { service, post, good } = slack({ links });
    const text = "<https://db-ip.com/192.0.2.1|192.0.2.1>";
    await post({ ...good, text });
    expect(service.violations).toEqual([]);
    await post({ ...good, text: `${text} <b>`, channel: "x" }, { hook: "" });
    expect(service.violations).toEqual(["unescaped <", "a webhook cannot choose its channel"]);
  });
});

const CASES = { Discord: discord, Slack: slack };
type Name = keyof typeof CASES;
const NAMES = Object.keys(CASES) as Name[];

test.each(NAMES)("%s refuses content that a test does not want", async (name) => {
  const { service, post, good } = CASES[name]();
  service.refuseContent((text) => text.includes("one"));
  const error = name === "Slack" ? { error: "msg_too_long" } : { errors: { content: {} } };
  expect((await answer(post()))[1]).toMatchObject(error);
  await post({ ...good, content: "two", text: "two" });
  expect(service.messages).toHaveLength(1);
});

describe("what a service would let pass, and we call a bug", () => {
  test.each<[Name, string, object | undefined, Call, RegExp]>([
    ["Discord", "unknown key", { allow_mentions: {} }, {}, /additional.*allow_mentions/],
    ["Discord", "wait in the body", { wait: true }, {}, /additional.*wait/],
    ["Discord", "version", {}, { version: "" }, /^not \/api\/v10\//],
    ["Discord", "no mentions", { allowed_mentions: undefined }, {}, /allowed_mentions/],
    ["Discord", "mentions", { allowed_mentions: { parse: ["users"] } }, {}, /allowed_mentions/],
    ["Discord", "length", { content: "😀".repeat(1000) }, {}, /2000 UTF-16 units/],
    ["Discord", "flags", { flags: 8 }, {}, /flags 8/],
    ["Discord", "flags that are no number", { flags: "4" }, {}, /flags must be integer/],
    ["Discord", "bidi", { content: "a\u202eb" }, {}, /drops/],
    ["Discord", "fence", { content: "```\na" }, {}, /fence/],
    ["Slack", "unescaped <", { text: "a <!channel&gt;" }, {}, /^unescaped <$/],
    ["Slack", "unescaped &", { text: "a & b" }, {}, /^unescaped &$/],
    ["Slack", "length", { text: "x".repeat(4001) }, {}, /4001 characters is split/],
    ["Slack", "unfurling", { unfurl_links: true }, {}, /^unfurl_links is not false$/],
    ["Slack", "unknown key", { allowed_mentions: {} }, {}, /^unknown key allowed_mentions$/],
    ["Slack", "language tag", { text: "```ansi\nx\n```" }, {}, /language tag/],
    ["Slack", "open fence", { text: "```\nx" }, {}, /left open/],
  ])("%s: %s", async (name, _, change, call, violation) => {
    const { service, post, good } = CASES[name]();
    expect((await post({ ...good, ...change }, call)).status).toBe(200);
    expect(service.messages).toHaveLength(1);
    expect(service.violations).toEqual([expect.stringMatching(violation)]);
  });

  test.each([false, true])("two requests at once; served: %p", async (real) => {
    const { service, post } = discord({}, real);
    if (real) service.failAlways({ kind: "slow", ms: 30 });
    await Promise.all([post(), post()]);
    expect(service.violations).toEqual(["2 requests in flight at once"]);
  });
});

// ── Rate limits ─────────────────────────────────────────────────────────────────────────────────

describe("rate limits", () => {
  test("Discord's 5 in 2 s: headers on every answer, then 429", async () => {
    const { service, clock, post } = discord();
    for (const left of ["4", "3", "2", "1", "0"]) {
      const { status, headers } = await post();
      expect([status, headers.get("x-ratelimit-remaining")]).toEqual([200, left]);
      clock.ms += 100;
    }
    const response = await post();
    expect(await response.json()).toMatchObject({ retry_after: 1.5, global: false });
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "retry-after": "2",
      "x-ratelimit-limit": "5",
      "x-ratelimit-remaining": "0",
      "x-ratelimit-reset": "1800000002.000",
      "x-ratelimit-reset-after": "1.500",
      "x-ratelimit-scope": "user",
    });
    expect(service.count429).toBe(1);
    clock.ms += 1499;
    await post();
    expect(service.violations).toEqual(["posted 1 ms too early"]);
    clock.ms += 1;
    expect((await post()).status).toBe(200);
  });

  test("Discord's 30 in 60 s, which no header foretells", async () => {
    const { service, clock, post } = discord();
    for (let sent = 0; sent < 30; sent++, clock.ms += 1000)
      expect((await post()).headers.get("x-ratelimit-remaining")).not.toBe("0");
    const response = await post();
    expect(response.headers.get("x-ratelimit-remaining")).not.toBe("0");
    expect(await answer(Promise.resolve(response))).toMatchObject([429, { retry_after: 30 }]);
    clock.ms += 30_000;
    expect((await post()).status).toBe(200);
    expect(service.violations).toEqual([]);
  });

  test("Slack's one a second with one to spare, and 429 over three at once", async () => {
    const { service, clock, post, good } = slack();
    for (let sent = 0; sent < 100; sent++, clock.ms += 1000) await post();
    await post();
    await post(good, { hook: "" });
    expect(service.violations).toEqual([]);
    await post();
    expect(service.violations).toEqual(["more than one message a second"]);
    const response = await post();
    expect(response.headers.get("retry-after")).toBe("1");
    const limited = { ok: false, error: "ratelimited" };
    expect(await answer(Promise.resolve(response))).toEqual([429, limited]);
    expect(await answer(post(good, { hook: "" }))).toEqual([429, "rate_limited"]);
    expect(service.violations.at(-1)).toBe("posted 1000 ms too early");
    expect(service.count429).toBe(2);
    clock.ms += 1000;
    expect((await post()).status).toBe(200);
  });

  test.each(NAMES)("of %s can be off", async (name) => {
    const { service, post } = CASES[name]({ rateLimits: false });
    for (let sent = 0; sent < 100; sent++) await post();
    expect([service.messages.length, service.count429, service.violations]).toEqual([100, 0, []]);
  });
});

// ── Faults ──────────────────────────────────────────────────────────────────────────────────────

/** What a caller sees of each fault, and whether the message was saved. */
// prettier-ignore
const WIRE: [WireFault, unknown, boolean][] = [
  [{ kind: "status", status: 503, body: "busy" }, [503, "busy"], false],
  [{ kind: "status-after-saving", status: 500 }, [500, expect.anything()], true],
  [{ kind: "reset" }, "ECONNRESET", false], [{ kind: "reset-after-saving" }, "ECONNRESET", true],
  [{ kind: "hang", save: false }, "TimeoutError", false], [{ kind: "hang", save: true }, "TimeoutError", true],
  [{ kind: "slow", ms: 20 }, [200, expect.any(Object)], true], [{ kind: "slow", ms: 60_000 }, "TimeoutError", true],
  [{ kind: "trickle" }, "TimeoutError", true], [{ kind: "cut" }, "ECONNRESET", true],
  [{ kind: "cut", clean: true }, "SyntaxError", true],
  [{ kind: "html", status: 502 }, [502, expect.stringContaining("<html>")], false],
  [{ kind: "redirect", location: "/elsewhere" }, "UnexpectedRedirect", false],
];
// prettier-ignore
const OF_DISCORD: [DiscordFault, unknown, boolean][] = [
  [{ kind: "rate-limit", retryAfterS: 2.5 }, [429, expect.objectContaining({ retry_after: 2.5 })], false],
  [{ kind: "cloudflare" }, [429, "error code: 1015"], false],
  [{ kind: "cloudflare-json" }, [429, { code: 0, message: expect.any(String) }], false],
  [{ kind: "no-id" }, [200, {}], true], [{ kind: "empty-204" }, [204, ""], true],
  [{ kind: "code", status: 403, code: 50013 }, [403, { code: 50013, message: "an error" }], false],
];
const OF_SLACK: [SlackFault, unknown, boolean][] = [
  [{ kind: "rate-limit", retryAfterS: 30 }, [429, { ok: false, error: "ratelimited" }], false],
  [{ kind: "error", error: "is_archived" }, [200, { ok: false, error: "is_archived" }], false],
  [{ kind: "no-ts" }, [200, expect.not.objectContaining({ ts: expect.anything() })], true],
];
type Fault = [DiscordFault | SlackFault | WireFault, unknown, boolean];
const FAULTS = ["in process", "served"].flatMap((mode) => [
  ...[...WIRE, ...OF_DISCORD].map((row: Fault) => ["Discord" as Name, mode, ...row] as const),
  ...[...WIRE, ...OF_SLACK].map((row: Fault) => ["Slack" as Name, mode, ...row] as const),
]);

test.each(FAULTS)("%s %s: %j", async (name, mode, fault, expected, isSaved) => {
  const real = mode === "served";
  const { service, post } = CASES[name]({ now: Date.now, sleep: Bun.sleep }, real);
  service.fail(fault as WireFault);
  const call = () => post(undefined, { signal: AbortSignal.timeout(150) });
  expect(await seen(call())).toEqual(expected);
  expect(service.messages).toHaveLength(isSaved ? 1 : 0);
  expect(service.violations).toEqual([]);
  if (real) await Bun.sleep(5);
  await call();
  const early = service.count429 > 0 ? [expect.stringContaining("too early")] : [];
  expect(service.violations).toEqual(early);
  expect(service.messages).toHaveLength(isSaved ? 2 : 1);
});

describe("faults", () => {
  test.each<[SlackFault, unknown]>([
    [{ kind: "error", error: "channel_is_archived" }, [410, "channel_is_archived"]],
    [{ kind: "error", error: "no_service", status: 410 }, [410, "no_service"]],
    [{ kind: "rate-limit", header: false }, [429, "rate_limited"]],
    [{ kind: "no-ts" }, [200, ""]],
  ])("of Slack's webhook: %j", async (fault, reply) => {
    const { service, post, good } = slack();
    service.fail(fault);
    expect(await answer(post(good, { hook: "" }))).toEqual(reply as [number, unknown]);
    expect(await answer(post(good, { hook: "" }))).toEqual([200, "ok"]);
  });

  test("are applied in order, and a late one waits for a message that is saved", async () => {
    const { service, post } = discord();
    service.fail({ kind: "html", status: 500 }, { kind: "no-id" });
    service.failAlways({ kind: "status", status: 504 });
    expect((await post()).status).toBe(500);
    expect((await post(content(""))).status).toBe(400);
    expect(await answer(post())).toEqual([200, {}]);
    for (let count = 0; count < 2; count++) expect((await post()).status).toBe(504);
    service.failAlways(undefined);
    expect((await post()).status).toBe(200);
  });

  test("a refused connection and redirect have the name, code and URL that Bun's have", async () => {
    const { service, post } = discord();
    service.fail({ kind: "refused" }, { kind: "refused", code: "ENOTFOUND" });
    const error = await post().catch((caught) => caught);
    const real = await fetch("http://127.0.0.1:1/x").catch((caught) => caught);
    expect([error.name, error.code]).toEqual([real.name, real.code]);
    expect(real.path).toBe("http://127.0.0.1:1/x");
    expect(error.path).toStartWith(service.webhook.replace("/api", "/api/v10"));
    expect(await seen(post())).toBe("ENOTFOUND");
    service.failAlways({ kind: "redirect", location: service.webhook });
    expect((await post().catch((caught) => caught)).message).toContain(service.webhook.slice(-20));
    expect(service.violations).toEqual([]);
    await seen(post(undefined, { redirect: "follow" }));
    expect(service.messages).toEqual([]);
    expect(service.violations).toEqual(["a redirect is not refused"]);
  });

  test("time out by themselves on the stand-in's clock", async () => {
    const { service, clock, post } = discord();
    const start = clock.ms;
    const { signal } = new AbortController();
    service.fail({ kind: "hang", save: true, afterMs: 20_000 }, { kind: "trickle", afterMs: 5 });
    expect(await seen(post(undefined, { signal }))).toBe("TimeoutError");
    expect(clock.ms - start).toBe(20_000);
    expect(await seen(post(undefined, { signal }))).toBe("TimeoutError");
    expect(service.messages).toHaveLength(2);
  });

  test("a rate limit of Discord may have no header, and be global; Cloudflare's has none and lasts", async () => {
    const { service, clock, post } = discord();
    service.fail({ kind: "rate-limit", header: false, global: true }, { kind: "cloudflare" });
    const response = await post();
    expect(response.headers.get("retry-after")).toBeNull();
    expect(response.headers.get("x-ratelimit-scope")).toBe("global");
    expect(response.headers.get("x-ratelimit-global")).toBe("true");
    expect(await response.json()).toMatchObject({ global: true, retry_after: 1 });
    clock.ms += 1000;
    expect([...(await post()).headers.keys()]).toEqual(["content-type"]);
    clock.ms += HOUR / 4 - 1;
    await post();
    expect(service.violations).toEqual(["posted 1 ms too early"]);
  });
});

test("served, the same rules hold, files included", async () => {
  const { service, post } = discord({}, true);
  expect((await post(upload(2 * MIB), multipart)).status).toBe(200);
  expect((await post(undefined, { headers: {} })).status).toBe(403);
  expect(service.messages[0]?.files[0]?.byteCount).toBe(2 * MIB);
  expect(service.violations).toEqual([]);
});
