import { afterEach, describe, expect, test } from "bun:test";
import type { WireFault } from "./discord.ts";
import { Slack, type SlackFault, type SlackOptions } from "./slack.ts";

const JSON_TYPE = "application/json; charset=utf-8";
const GOOD = {
  text: "host\n```\none\na &lt;b&gt; &amp;\n```",
  unfurl_links: false,
  unfurl_media: false,
};

let stop: (() => void) | undefined;
afterEach(() => stop?.());

/** A stand-in with a clock that only `clock.ms` moves. */
function virtual(options: SlackOptions = {}) {
  const clock = { ms: 1_800_000_000_000 };
  const sleep = async (ms: number) => void (clock.ms += ms);
  return { clock, slack: new Slack({ now: () => clock.ms, sleep, ...options }) };
}

function served(): Slack {
  const slack = new Slack();
  ({ stop } = slack.serve());
  return slack;
}

interface Call extends RequestInit {
  method?: string;
  real?: boolean;
}

/** Calls the Web API as f2b-watch should, save for what `call` changes. */
function post(slack: Slack, body: unknown = GOOD, call: Call = {}): Promise<Response> {
  const { method = "chat.postMessage", real = false, ...init } = call;
  const headers = { "content-type": JSON_TYPE, authorization: `Bearer ${slack.token}` };
  const message = typeof body === "object" ? { channel: slack.channel, ...body } : body;
  const text = typeof body === "string" ? body : JSON.stringify(message);
  const all: RequestInit = { headers, redirect: "error", ...init, method: "POST", body: text };
  return (real ? fetch : slack.fetch)(slack.api + method, all);
}

/** Posts to the incoming webhook, or to `path` beside it. */
function hook(slack: Slack, body: unknown = GOOD, path = "", init: RequestInit = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const headers = { "content-type": JSON_TYPE };
  const url = new URL(path, slack.webhook);
  return slack.fetch(url, { method: "POST", headers, body: text, redirect: "error", ...init });
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

describe("saving", () => {
  test("a good message is saved, confirmed with a ts, and no violation", async () => {
    const { slack, clock } = virtual();
    const reply = await answer(post(slack, { ...GOOD, username: "Fail2Ban" }));
    const ts = expect.stringMatching(/^\d{10}\.\d{6}$/);
    expect(reply).toMatchObject([200, { ok: true, ts, channel: slack.channel }]);
    expect(reply[1]).not.toHaveProperty("warning");
    const saved = { id: ts, at: clock.ms, content: GOOD.text, username: "Fail2Ban", via: "api" };
    expect(slack.messages).toMatchObject([saved as object]);
    expect(slack.lines()).toEqual(["one", "a <b> &"]);
    expect(slack.violations).toEqual([]);
  });

  test("the webhook answers ok", async () => {
    const { slack } = virtual();
    expect(await answer(hook(slack))).toEqual([200, "ok"]);
    expect(slack.messages).toMatchObject([{ via: "webhook", content: GOOD.text }]);
    expect(slack.violations).toEqual([]);
  });

  test("auth.test posts nothing", async () => {
    const { slack } = virtual();
    const call = { method: "auth.test", headers: { authorization: `Bearer ${slack.token}` } };
    expect(await answer(post(slack, "", call))).toMatchObject([200, { ok: true, team: "Example" }]);
    const refused = post(slack, "", {
      method: "auth.test",
      headers: { authorization: "Bearer x" },
    });
    expect(await answer(refused)).toEqual([200, { ok: false, error: "invalid_auth" }]);
    expect([slack.messages, slack.violations]).toEqual([[], []]);
  });

  test("a channel by name, the app's own name", async () => {
    const { slack } = virtual({ ignoreName: true });
    await post(slack, { ...GOOD, channel: "alerts", username: "x" });
    expect(slack.messages).toMatchObject([{ channel: "alerts", username: "f2b" }]);
  });
});

describe("refusals", () => {
  const bearer = (token: string, type?: string) => ({
    headers: { authorization: `Bearer ${token}`, ...(type && { "content-type": type }) },
  });
  const token = new Slack().token;
  const cases: [string, unknown, Call][] = [
    ["not_authed", GOOD, { headers: { "content-type": JSON_TYPE } }],
    ["invalid_auth", GOOD, bearer("xoxb-other", JSON_TYPE)],
    ["invalid_post_type", GOOD, bearer(token, "text/plain")],
    ["invalid_json", '{"text":"x",}', {}],
    ["json_not_object", "[]", {}],
    ["channel_not_found", { ...GOOD, channel: "#nowhere" }, {}],
    ["no_text", { ...GOOD, text: " " }, {}],
    ["unknown_method", GOOD, { method: "chat.post" }],
  ];
  test.each(cases)("%s, with status 200", async (error, body, call) => {
    const { slack } = virtual();
    expect(await answer(post(slack, body, call))).toEqual([200, { ok: false, error }]);
    expect(slack.messages).toEqual([]);
  });

  test("a token without the scope, a channel that the bot is not in; scopes are in a header", async () => {
    const silent = virtual({ scopes: ["users:read"] }).slack;
    expect(await answer(post(silent))).toEqual([200, { ok: false, error: "missing_scope" }]);
    const outsider = virtual({ outside: [silent.channel] }).slack;
    expect(await answer(post(outsider))).toEqual([200, { ok: false, error: "not_in_channel" }]);
    const { headers } = await post(silent, GOOD, { method: "auth.test" });
    expect(headers.get("x-oauth-scopes")).toBe("users:read");
  });

  const hooks: [number, string, unknown, string][] = [
    [400, "invalid_payload", '{"text":"x",}', ""],
    [400, "no_text", {}, ""],
    [403, "invalid_token", GOOD, "wrong"],
    [404, "no_service", GOOD, "../B1/x"],
    [404, "no_team", GOOD, "../../T1/B1/x"],
  ];
  test.each(hooks)("webhook: %d %s", async (status, error, body, path) => {
    const { slack } = virtual();
    expect(await answer(hook(slack, body, path))).toEqual([status, error]);
    expect(slack.messages).toEqual([]);
  });

  test("content that a test does not want", async () => {
    const { slack } = virtual();
    slack.refuseContent((text) => text.includes("one"));
    expect(await answer(post(slack))).toEqual([200, { ok: false, error: "msg_too_long" }]);
    expect(await answer(hook(slack))).toEqual([400, "msg_too_long"]);
    expect((await answer(post(slack, { ...GOOD, text: "two" })))[1]).toMatchObject({ ok: true });
  });
});

describe("violations", () => {
  const cases: [string, object, RegExp][] = [
    ["unescaped <", { text: "a <!channel&gt;" }, /^unescaped <$/],
    ["unescaped &", { text: "a & b" }, /^unescaped &$/],
    ["unfurling", { unfurl_links: true }, /^unfurl_links is not false$/],
    ["link_names", { link_names: true }, /^link_names/],
    ["unknown key", { allowed_mentions: {} }, /^unknown key allowed_mentions$/],
    ["language tag", { text: "```ansi\nx\n```" }, /language tag/],
    ["open fence", { text: "```\nx" }, /left open/],
  ];
  test.each(cases)("%s", async (_name, change, violation) => {
    const { slack } = virtual();
    expect((await answer(post(slack, { ...GOOD, ...change })))[1]).toMatchObject({ ok: true });
    expect(slack.violations).toEqual([expect.stringMatching(violation)]);
  });

  test("links that are meant", async () => {
    const { slack } = virtual({ links: /<https:\/\/db-ip\.com\/[\d.]+\|[\d.]+>/ });
    const text = "<https://db-ip.com/192.0.2.1|192.0.2.1>";
    await post(slack, { ...GOOD, text });
    expect(slack.violations).toEqual([]);
    await hook(slack, { ...GOOD, text: `${text} <b>`, channel: "x" });
    const channel = "a webhook cannot choose its channel";
    expect(slack.violations).toEqual(["unescaped <", channel]);
  });

  test("no charset is warned of", async () => {
    const { slack } = virtual();
    const headers = { authorization: `Bearer ${slack.token}`, "content-type": "application/json" };
    const [, reply] = await answer(post(slack, GOOD, { headers }));
    expect(reply).toMatchObject({
      ok: true,
      warning: "missing_charset",
      response_metadata: { warnings: ["missing_charset"] },
    });
    expect(slack.violations).toEqual(["no charset=utf-8 in the content type"]);
  });

  test("a text over 4,000 is split, one over 40,000 truncated", async () => {
    const { slack } = virtual();
    await post(slack, { ...GOOD, text: "x".repeat(4000) });
    expect(slack.violations).toEqual([]);
    const [, split] = await answer(post(slack, { ...GOOD, text: "x".repeat(4001) }));
    expect(split).toMatchObject({ ok: true, message: { is_auto_split: true } });
    expect(slack.messages.map(({ content }) => content.length)).toEqual([4000, 4000, 1]);
    const { slack: other } = virtual();
    const [, cut] = await answer(post(other, { ...GOOD, text: "x".repeat(40_001) }));
    expect(cut).toMatchObject({ ok: true, warning: "message_truncated" });
    expect(other.messages).toHaveLength(10);
    expect([...slack.violations, ...other.violations]).toEqual([
      "text of 4001 characters is split",
      "text of 40001 characters is truncated",
    ]);
  });
});

describe("rate limits", () => {
  test("one a second with one to spare, and 429 over three at once", async () => {
    const { slack, clock } = virtual();
    for (let sent = 0; sent < 100; sent++, clock.ms += 1000) await post(slack);
    await post(slack);
    await hook(slack);
    expect(slack.violations).toEqual([]);
    await post(slack);
    expect(slack.violations).toEqual(["more than one message a second"]);
    const response = await post(slack);
    expect([response.status, response.headers.get("retry-after")]).toEqual([429, "1"]);
    expect(await response.json()).toEqual({ ok: false, error: "ratelimited" });
    expect(await answer(hook(slack))).toEqual([429, "rate_limited"]);
    expect(slack.violations.at(-1)).toBe("posted 1000 ms too early");
    expect(slack.count429).toBe(2);
    clock.ms += 1000;
    expect((await post(slack)).status).toBe(200);
  });

  test("can be off", async () => {
    const { slack } = virtual({ rateLimits: false });
    for (let sent = 0; sent < 100; sent++) await post(slack);
    expect([slack.messages.length, slack.violations]).toEqual([100, []]);
  });
});

/** What a caller sees of each fault, and whether the message was saved. */
const FAULTS: [SlackFault | WireFault, unknown, boolean][] = [
  [{ kind: "status", status: 503, body: "busy" }, [503, "busy"], false],
  [{ kind: "status-after-saving", status: 500 }, [500, expect.anything()], true],
  [{ kind: "reset" }, "ECONNRESET", false],
  [{ kind: "reset-after-saving" }, "ECONNRESET", true],
  [{ kind: "hang", save: true }, "TimeoutError", true],
  [{ kind: "trickle" }, "TimeoutError", true],
  [{ kind: "cut" }, "ECONNRESET", true],
  [{ kind: "redirect", location: "/x" }, "UnexpectedRedirect", false],
  [{ kind: "rate-limit", retryAfterS: 30 }, [429, { ok: false, error: "ratelimited" }], false],
  [{ kind: "error", error: "is_archived" }, [200, { ok: false, error: "is_archived" }], false],
  [{ kind: "no-ts" }, [200, expect.not.objectContaining({ ts: expect.anything() })], true],
  [
    { kind: "warning", warning: "message_truncated" },
    [200, expect.objectContaining({ ok: true, warning: "message_truncated" })],
    true,
  ],
];

describe.each(["in process", "served"])("faults, %s", (mode) => {
  test.each(FAULTS)("%j", async (fault, seen, saved) => {
    const real = mode === "served";
    const slack = real ? served() : new Slack();
    slack.fail(fault);
    const call = post(slack, GOOD, { real, signal: AbortSignal.timeout(150) });
    const result = typeof seen === "string" ? await failed(answer(call)) : await answer(call);
    expect(result).toEqual(seen);
    expect(slack.messages).toHaveLength(saved ? 1 : 0);
    expect(slack.violations).toEqual([]);
  });
});

describe("faults of the webhook", () => {
  const cases: [SlackFault, unknown][] = [
    [{ kind: "error", error: "channel_is_archived" }, [410, "channel_is_archived"]],
    [{ kind: "error", error: "no_service", status: 410 }, [410, "no_service"]],
    [{ kind: "rate-limit", header: false }, [429, "rate_limited"]],
    [{ kind: "no-ts" }, [200, ""]],
  ];
  test.each(cases)("%j", async (fault, reply) => {
    const { slack } = virtual();
    slack.fail(fault);
    expect(await answer(hook(slack))).toEqual(reply as [number, unknown]);
    expect(await answer(hook(slack))).toEqual([200, "ok"]);
  });
});
