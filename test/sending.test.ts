/** How messages reach Discord: in order, confirmed, paced, and what happens when they do not. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import {
  DISCORD,
  readFetchError,
  readReply,
  sealState,
  type Verdict,
  type World,
} from "../f2b-watch.ts";
import { type DiscordFault, fencedLines, type WireFault } from "./discord.ts";
import { line, lines, type RunResult, Scene } from "./harness.ts";

setDefaultTimeout(180_000);

type AnyFault = DiscordFault | WireFault;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RESENT = "(resent)";

/** Lines so long that each fills a message of its own. */
function longLines(from: number, to: number): string[] {
  return lines(from, to).map((text) => text.padEnd(1_900, "."));
}

/** The real disk, without the waits for it: these tests make thousands of runs. */
const QUICK_FS: typeof fs = { ...fs, fsyncSync: () => undefined };

function sceneWith(...texts: string[]): Scene {
  const scene = new Scene();
  Object.assign(scene.overrides, { fs: QUICK_FS });
  if (texts.length > 0) scene.append(...texts);
  return scene;
}

/** A scene where lines 1 and 2 were posted already. */
async function goingScene(): Promise<Scene> {
  const scene = sceneWith(...lines(1, 2));
  await scene.pass();
  scene.expectPosted(...lines(1, 2));
  scene.wait(5 * MINUTE);
  return scene;
}

/** The times of all requests, in milliseconds after the first. */
function requestTimes(scene: Scene): number[] {
  const times = scene.discord.requests.map(({ at }) => at);
  return times.map((at) => at - (times[0] ?? 0));
}

/** The most of `times` in any window of this length. */
function mostWithin(times: readonly number[], windowMs: number): number {
  return Math.max(
    0,
    ...times.map((at) => times.filter((t) => t >= at && t < at + windowMs).length),
  );
}

function contents(scene: Scene): string[] {
  return scene.discord.messages.map(({ content }) => content);
}

/** The contents that were sent, also those that never arrived. */
function attempts(scene: Scene): string[] {
  return scene.discord.requests.map(({ body }) => JSON.parse(body).content as string);
}

/** How many requests there were since the last question. */
function newRequests(scene: Scene, seen: { count: number }): number {
  const fresh = scene.discord.requests.length - seen.count;
  seen.count = scene.discord.requests.length;
  return fresh;
}

/** Every line once and in order; what is there twice is one message, and says so. */
function expectAllOnce(scene: Scene, expected: readonly string[]): void {
  const texts = contents(scene);
  const inside = (text: string) => (/```\n([^]*)\n```/.exec(text)?.[1] ?? "").split("\n");
  const seen = new Set<string>();
  const order: string[] = [];
  for (const text of texts) {
    for (const one of inside(text)) {
      if (seen.has(one)) expect(text).toStartWith(RESENT);
      else order.push(one);
      seen.add(one);
    }
  }
  expect(order).toEqual([...expected]);
  expect(scene.discord.violations).toEqual([]);
}

/** The text of a message, of its files too. */
async function textOf(init: RequestInit): Promise<string> {
  const sent = new Request("https://discord.com", init);
  if (sent.headers.get("content-type")?.startsWith("application/json")) {
    return ((await sent.json()) as { content: string }).content;
  }
  const form = await sent.formData();
  const file = form.get("files[0]") as File | null;
  return [String(form.get("payload_json")), await file?.text()].join("\n");
}

/** Answers by hand: what `answer` returns nothing for goes to the stand-in. */
function answerWith(scene: Scene, answer: (content: string) => Response | undefined): void {
  const handle: World["fetch"] = async (url, init) => {
    const body = await new Response(init.body).arrayBuffer();
    const copy = { ...init, body };
    return answer(await textOf(copy)) ?? (await scene.discord.fetch(url, copy));
  };
  Object.assign(scene.overrides, { fetch: handle });
}

/** What each run told on stderr, with the hours since the first, for runs that told something. */
async function reports(scene: Scene, everyMs: number, forMs: number): Promise<string[]> {
  const start = scene.clockMs;
  const told: string[] = [];
  for (let at = 0; at <= forMs; at += everyMs) {
    scene.clockMs = Math.max(scene.clockMs, start + at);
    const { err } = await scene.run();
    if (err !== "") told.push(`${Math.floor(at / HOUR)} h: ${err}`);
  }
  return told;
}

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

// ── Order and form ──────────────────────────────────────────────────────────────────────────────

describe("messages", () => {
  test("are posted in the log's order, one in flight, none left out", async () => {
    using scene = sceneWith(...lines(1, 700));
    await scene.pass();
    scene.expectPosted(...lines(1, 700));
  });

  test("are as full as they can be", async () => {
    using scene = sceneWith(...lines(1, 300));
    await scene.pass();
    const sizes = contents(scene).map((text) => text.length);
    for (const size of sizes.slice(0, -1)) expect(size).toBeGreaterThan(1_999 - 110);
    expect(Math.max(...sizes)).toBeLessThan(2_000);
  });

  test("are JSON with the program's own User-Agent, redirects refused, a time limit of 20 s", async () => {
    using scene = sceneWith(...lines(1, 2));
    const limits: number[] = [];
    const inits: RequestInit[] = [];
    const timeout = (ms: number) => {
      limits.push(ms);
      return AbortSignal.timeout(500);
    };
    const spy: World["fetch"] = (url, init) => {
      inits.push(init);
      return scene.discord.fetch(url, init);
    };
    Object.assign(scene.overrides, { timeout, fetch: spy });
    await scene.pass();
    const [request] = scene.discord.requests;
    expect(request?.method).toBe("POST");
    expect(request?.path).toStartWith("/api/v10/webhooks/");
    expect(request?.query).toEqual({ wait: "true" });
    expect(request?.headers["content-type"]).toStartWith("application/json");
    expect(request?.headers["user-agent"]).toMatch(/f2b-watch.*\d+\.\d+\.\d+/);
    expect(inits.map(({ redirect }) => redirect)).toEqual(["error"]);
    expect(inits[0]?.signal).toBeInstanceOf(AbortSignal);
    expect(limits).toEqual([20 * SECOND]);
  });

  test("ping nobody, have no previews, and carry the host in their sender's name", async () => {
    using scene = sceneWith("@everyone <@1> https://example.org/");
    await scene.pass("--host", "mail.example.org");
    const [message] = scene.discord.messages;
    expect(message?.body).toMatchObject({ allowed_mentions: { parse: [] }, flags: 4 });
    expect(message?.username).toBe("Fail2Ban · mail.example.org");
    scene.expectPosted("@everyone <@1> https://example.org/");
  });

  test.each([
    ["discord-bot", /dis.?cord/i],
    ["DISCORD", /dis.?cord/i],
    ["clyde", /cly.?de/i],
    ["disdiscordcord clyclydede", /dis/],
    ["h".repeat(300), /h{50}/],
    ["🐧".repeat(60), /🐧/u],
    ["a\nb\tc\0d\x1b[0m", /a.*b/],
    ["x```y", /x`/],
    ["\u202eevil", /evil/],
  ])("have a legal sender's name whatever the host is called: %j", async (host, shown) => {
    using scene = sceneWith(line(1));
    Object.assign(scene.overrides, { hostName: () => host });
    await scene.pass();
    scene.expectPosted(line(1));
    const name = String(scene.discord.messages[0]?.body["username"]);
    expect(name).toMatch(shown);
    expect(name).toStartWith("Fail2Ban · ");
    expect(name).not.toMatch(/discord|clyde|[\p{Cc}\p{Cf}]{2}|[\x00-\x1f\u202e]/iu);
    expect([...name].length).toBeLessThanOrEqual(80);
    expect(name.isWellFormed()).toBe(true);
  });

  test("go to the thread that the webhook's URL names", async () => {
    using scene = sceneWith(line(1));
    scene.env["DISCORD_WEBHOOK"] += "?thread_id=4242";
    await scene.pass();
    expect(scene.discord.requests[0]?.query).toEqual({ wait: "true", thread_id: "4242" });
    scene.expectPosted(line(1));
  });

  test("of a webhook in version 6's form are posted to version 10", async () => {
    using scene = sceneWith(line(1));
    scene.env["DISCORD_WEBHOOK"] = scene.discord.webhook.replace("/api/", "/api/v6/");
    await scene.pass();
    scene.expectPosted(line(1));
  });

  test("are remembered one by one: the state on disk knows each before the next is sent", async () => {
    using scene = sceneWith(...longLines(1, 4));
    const known: (number | undefined)[] = [];
    const spy: World["fetch"] = (url, init) => {
      const state = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
      known.push(state.destinations.discord.cursor?.lines);
      return scene.discord.fetch(url, init);
    };
    Object.assign(scene.overrides, { fetch: spy });
    await scene.pass();
    expect(known).toEqual([0, 1, 2, 3]);
  });
});

// ── Pace ────────────────────────────────────────────────────────────────────────────────────────

describe("the pace", () => {
  function expectPaced(scene: Scene): void {
    const times = requestTimes(scene);
    expect(mostWithin(times, 2 * SECOND)).toBeLessThanOrEqual(5);
    expect(mostWithin(times, MINUTE)).toBeLessThanOrEqual(29);
    expect(scene.discord.count429).toBe(0);
  }

  test("is at most 5 in 2 s and 29 in a minute within a run", async () => {
    using scene = sceneWith(...longLines(1, 100));
    await scene.pass();
    scene.expectPosted(...longLines(1, 100));
    expectPaced(scene);
  });

  test("is no slower than that", async () => {
    using scene = sceneWith(...longLines(1, 29));
    await scene.pass();
    expect(requestTimes(scene).at(-1)).toBeLessThan(20 * SECOND);
  });

  test("holds across runs that follow at once, since the state remembers", async () => {
    using scene = sceneWith();
    for (let from = 1; from <= 91; from += 10) {
      scene.append(...longLines(from, from + 9));
      await scene.pass();
    }
    scene.expectPosted(...longLines(1, 100));
    expectPaced(scene);
  });

  test("holds across runs that are out of time", async () => {
    using scene = sceneWith(...longLines(1, 70));
    for (let run = 0; run < 60; run++) {
      await scene.run("--max-time", "5");
      scene.wait(3 * SECOND);
    }
    scene.expectPosted(...longLines(1, 70));
    expectPaced(scene);
  });

  test("counts requests that fail, too", async () => {
    using scene = sceneWith(...longLines(1, 60));
    const broken = { kind: "status", status: 502 } as const;
    for (let run = 0; run < 8; run++) {
      scene.discord.fail(broken, broken, broken);
      await scene.run();
      scene.wait(11 * MINUTE);
    }
    await scene.run();
    expectAllOnce(scene, longLines(1, 60));
    expectPaced(scene);
  });

  test("also heeds what Discord's headers say", async () => {
    using scene = sceneWith(...longLines(1, 2));
    const times: number[] = [];
    answerWith(scene, () => {
      times.push(scene.clockMs);
      const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "7.5" };
      return json(200, { id: "1" }, headers);
    });
    await scene.pass();
    const [first = 0, second = 0] = times;
    expect(second - first).toBeGreaterThanOrEqual(7_500);
  });

  test("heeds the headers across runs, but not for longer than a day", async () => {
    for (const [asked, waitMs] of [
      [90, 90 * SECOND],
      [1e9, DAY],
    ] as const) {
      using scene = sceneWith(line(1));
      answerWith(scene, () => {
        const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset-after": String(asked) };
        return json(200, { id: "1" }, headers);
      });
      await scene.pass();
      Object.assign(scene.overrides, { fetch: scene.discord.fetch });
      scene.append(line(2));
      expect((await scene.run("--max-time", "60")).code).toBe(75);
      scene.wait(waitMs + SECOND);
      expect((await scene.run("--max-time", "60")).code).toBe(0);
      scene.expectPosted(line(2));
    }
  });

  test("is not disturbed by a clock that was put back", async () => {
    using scene = sceneWith(...longLines(1, 29));
    await scene.pass();
    scene.append(...longLines(30, 31));
    scene.wait(MINUTE);
    Object.assign(scene.overrides, { now: () => scene.clockMs - DAY });
    const before = scene.clockMs;
    await scene.pass();
    expect(scene.clockMs - before).toBeLessThan(MINUTE);
    scene.expectPosted(...longLines(1, 31));
  });
});

// ── 429 ─────────────────────────────────────────────────────────────────────────────────────────

describe("a 429", () => {
  test.each([
    ["with header and body", { kind: "rate-limit", retryAfterS: 3.2 }],
    ["with a body only", { kind: "rate-limit", retryAfterS: 3.2, header: false }],
    ["that is global", { kind: "rate-limit", retryAfterS: 3.2, global: true }],
    ["that is shared", { kind: "rate-limit", retryAfterS: 3.2, scope: "shared" }],
  ] as [string, AnyFault][])("%s is waited out within the run", async (_, fault) => {
    using scene = sceneWith(...longLines(1, 3));
    scene.discord.fail(fault);
    await scene.pass();
    expect(scene.newlyPosted()).toEqual(longLines(1, 3));
    expect(scene.notices()).toEqual([]);
    expect(scene.discord.violations).toEqual([]);
    expect(requestTimes(scene)[1]).toBeGreaterThan(3_200);
    expect(requestTimes(scene)[1]).toBeLessThan(10_000);
  });

  test.each([
    ["the header", "9", 1],
    ["the body", "1", 9],
  ])("that says two times is waited out by the longer, %s", async (_, header, body) => {
    using scene = sceneWith(line(1));
    scene.discord.fail({
      kind: "status",
      status: 429,
      headers: { "retry-after": header },
      body: JSON.stringify({ retry_after: body, global: false }),
    });
    await scene.pass();
    expect(requestTimes(scene)[1]).toBeGreaterThan(9_000);
  });

  test("may come as often as it likes within the run", async () => {
    using scene = sceneWith(line(1));
    const limit = { kind: "rate-limit", retryAfterS: 5 } as const;
    scene.discord.fail(...Array.from({ length: 20 }, () => limit));
    await scene.pass();
    expect(scene.newlyPosted()).toEqual([line(1)]);
    expect(scene.discord.violations).toEqual([]);
  });

  test("longer than the run has left is remembered: 75, and nobody asks before it is over", async () => {
    using scene = sceneWith(line(1));
    scene.discord.fail({ kind: "rate-limit", retryAfterS: 1_000 });
    expect(await scene.run()).toMatchObject({ code: 75, out: "" });
    scene.wait(999 * SECOND);
    expect(await scene.run()).toEqual({ code: 75, out: "", err: "" });
    expect(scene.discord.requests.length).toBe(1);
    scene.wait(3 * SECOND);
    expect(await scene.run()).toMatchObject({ code: 0 });
    expect(scene.newlyPosted()).toEqual([line(1)]);
    expect(scene.discord.violations).toEqual([]);
  });

  test.each([
    ["Cloudflare's text", { kind: "cloudflare" }],
    ["Cloudflare's JSON", { kind: "cloudflare-json" }],
  ] as [string, AnyFault][])(
    "without retry_after, %s, is a quarter of an hour of quiet, doubling to an hour",
    async (_, fault) => {
      using scene = sceneWith(line(1));
      scene.discord.failAlways(fault);
      for (let minute = 0; minute < 5 * 60; minute += 5) {
        expect((await scene.run()).code).toBe(75);
        scene.wait(5 * MINUTE);
      }
      expect(requestTimes(scene).map((ms) => ms / MINUTE)).toEqual([0, 15, 45, 105, 165, 225, 285]);
      expect(scene.discord.violations).toEqual([]);
      scene.discord.failAlways(undefined);
      scene.wait(HOUR);
      expect((await scene.run()).code).toBe(0);
      expect(scene.newlyPosted()).toEqual([line(1)]);
    },
  );

  test("without retry_after begins with a quarter of an hour again after a success", async () => {
    using scene = await goingScene();
    for (let round = 0; round < 2; round++) {
      scene.append(line(3 + round));
      scene.discord.fail({ kind: "cloudflare" });
      expect((await scene.run()).code).toBe(75);
      scene.wait(15 * MINUTE + 1);
      expect((await scene.run()).code).toBe(0);
    }
    expect(scene.newlyPosted()).toEqual(lines(3, 4));
    expect(scene.discord.violations).toEqual([]);
  });

  test("without retry_after is at least a quarter of an hour also after other failures", async () => {
    using scene = sceneWith(line(1));
    const broken = { kind: "status", status: 503 } as const;
    scene.discord.fail(broken, broken, broken, { kind: "cloudflare" });
    expect((await scene.run()).code).toBe(75);
    scene.wait(MINUTE + 1);
    expect((await scene.run()).code).toBe(75);
    scene.wait(14 * MINUTE);
    expect((await scene.run()).code).toBe(75);
    expect(scene.discord.requests.length).toBe(4);
    expect(scene.discord.violations).toEqual([]);
  });

  test("in milliseconds, as version 6 has it, never makes it ask earlier than it says", async () => {
    using scene = sceneWith(line(1));
    const body = JSON.stringify({ message: "slow", retry_after: 64_570, global: false });
    scene.discord.fail({ kind: "status", status: 429, body, headers: { "retry-after": "64570" } });
    expect((await scene.run()).code).toBe(75);
    scene.wait(64_570 * SECOND);
    expect((await scene.run()).code).toBe(75);
    expect(scene.discord.requests.length).toBe(1);
    scene.wait(MINUTE);
    expect((await scene.run()).code).toBe(0);
  });

  test.each([86_400, 1e9, 1e300])(
    "of %d s is quiet at once, and for a day at most",
    async (wait) => {
      using scene = sceneWith(line(1));
      scene.discord.fail({ kind: "status", status: 429, body: `{"retry_after":${wait}}` });
      expect((await scene.run()).code).toBe(75);
      expect((await scene.run()).code).toBe(75);
      expect(scene.discord.requests.length).toBe(1);
      scene.wait(DAY + MINUTE);
      expect((await scene.run()).code).toBe(0);
      expect(scene.newlyPosted()).toEqual([line(1)]);
    },
  );

  test.each([
    ["a negative time", '{"retry_after":-5}', {}],
    ["a time that is text", '{"retry_after":"soon"}', {}],
    ["no body", "", {}],
    ["HTML", "<html>429</html>", {}],
    ["a header that is no number", "", { "retry-after": "soon" }],
    ["a negative header", "", { "retry-after": "-1" }],
  ])("with %s counts as one without retry_after", async (_, body, headers) => {
    using scene = sceneWith(line(1));
    scene.discord.fail({ kind: "status", status: 429, body, headers });
    expect((await scene.run()).code).toBe(75);
    scene.wait(15 * MINUTE - 1);
    expect((await scene.run()).code).toBe(75);
    expect(scene.discord.requests.length).toBe(1);
    scene.wait(2);
    expect((await scene.run()).code).toBe(0);
  });

  test("whose end lies ahead because the clock was put back is ignored", async () => {
    using scene = sceneWith(line(1));
    scene.discord.fail({ kind: "status", status: 429, body: "error code: 1015" });
    expect((await scene.run()).code).toBe(75);
    scene.wait(-3 * HOUR);
    expect((await scene.run()).code).toBe(0);
    expect(scene.newlyPosted()).toEqual([line(1)]);
  });
});

// ── Unclear ─────────────────────────────────────────────────────────────────────────────────────

/** Answers that leave it open whether the message arrived; `saved`: it did. */
const UNCLEAR: [string, AnyFault, boolean][] = [
  ["500", { kind: "status", status: 500 }, false],
  ["502 in HTML", { kind: "html", status: 502 }, false],
  ["503", { kind: "status", status: 503 }, false],
  ["504", { kind: "status", status: 504 }, false],
  ["522", { kind: "html", status: 522 }, false],
  ["500 after saving", { kind: "status-after-saving", status: 500 }, true],
  ["a timeout", { kind: "hang", save: false, afterMs: 20_000 }, false],
  ["a timeout after saving", { kind: "hang", save: true, afterMs: 20_000 }, true],
  ["a reset", { kind: "reset" }, false],
  ["a reset after saving", { kind: "reset-after-saving" }, true],
  ["a body that is cut off", { kind: "cut" }, true],
  ["a body that ends early", { kind: "cut", clean: true }, true],
  ["a body that trickles", { kind: "trickle", afterMs: 20_000 }, true],
  ["200 in HTML", { kind: "html", status: 200 }, false],
  ["200 without an id", { kind: "no-id" }, true],
];

describe("an unclear answer", () => {
  test("what comes again is the same lines, marked, whatever stands behind them", async () => {
    using scene = sceneWith(...lines(1, 60));
    scene.discord.fail({ kind: "status-after-saving", status: 500 });
    await scene.run();
    const [first, again, ...rest] = scene.discord.messages.map(({ content }) => content);
    expect(again).toBe(`${RESENT}\n${first}`);
    for (const content of rest) expect(content).not.toContain(RESENT);
  });

  test.each(UNCLEAR)("%s: tried again and marked, then all is well", async (_, fault, saved) => {
    using scene = sceneWith(...longLines(1, 3));
    scene.discord.fail(fault);
    await scene.pass();
    const [first, second, third] = longLines(1, 3);
    const fenced = (text = "") => `\`\`\`\n${text}\n\`\`\``;
    expect(contents(scene)).toEqual([
      ...(saved ? [fenced(first)] : []),
      `${RESENT}\n${fenced(first)}`,
      fenced(second),
      fenced(third),
    ]);
    expect(scene.discord.violations).toEqual([]);
  });

  test.each(UNCLEAR)("%s: three tries a run, the later two marked, then 75", async (_, fault) => {
    using scene = sceneWith(...longLines(1, 2));
    scene.discord.failAlways(fault);
    expect(await scene.run()).toMatchObject({ code: 75, out: "" });
    const marked = attempts(scene).map((text) => text.startsWith(RESENT));
    expect(marked).toEqual([false, true, true]);
    scene.discord.failAlways(undefined);
    scene.wait(2 * MINUTE);
    expect(await scene.run()).toMatchObject({ code: 0 });
    const afterwards = attempts(scene).map((text) => text.startsWith(RESENT));
    expect(afterwards).toEqual([false, true, true, true, false]);
    expectAllOnce(scene, longLines(1, 2));
  });

  test("pauses for a minute, doubling to ten", async () => {
    using scene = sceneWith(line(1));
    scene.discord.failAlways({ kind: "reset" });
    const seen = { count: 0 };
    const starts: number[] = [];
    const begin = scene.clockMs;
    for (let second = 0; second < 60 * 60; second += 10) {
      scene.clockMs = Math.max(scene.clockMs, begin + second * SECOND);
      const at = scene.clockMs;
      expect((await scene.run()).code).toBe(75);
      const fresh = newRequests(scene, seen);
      expect([0, 3]).toContain(fresh);
      if (fresh > 0) starts.push(at - begin);
    }
    const gaps = starts.slice(1).map((at, index) => (at - (starts[index] ?? 0)) / MINUTE);
    for (const [index, minutes] of [1, 2, 4, 8, 10, 10].entries()) {
      expect(gaps[index]).toBeGreaterThanOrEqual(minutes);
      expect(gaps[index]).toBeLessThan(minutes + 0.5);
    }
  });

  test("pauses for a minute again after a success", async () => {
    using scene = await goingScene();
    const reset = { kind: "reset" } as const;
    for (let number = 3; number <= 6; number++) {
      scene.append(line(number));
      scene.discord.fail(reset, reset, reset);
      expect((await scene.run()).code).toBe(75);
      scene.wait(MINUTE + 1);
      expect((await scene.run()).code).toBe(0);
    }
    expect(scene.newlyPosted()).toEqual(lines(3, 6));
  });

  test("marks every message that holds a line which may have arrived", async () => {
    using scene = sceneWith(...lines(1, 60));
    scene.discord.fail({ kind: "reset-after-saving" });
    await scene.pass();
    expectAllOnce(scene, lines(1, 60));
    const marks = contents(scene).map((text) => text.startsWith(RESENT));
    expect(marks[0]).toBe(false);
    expect(marks[1]).toBe(true);
    expect(marks.at(-1)).toBe(false);
  });

  test("marks what a later run repeats although the log has grown and rotated", async () => {
    using scene = sceneWith(...lines(1, 5));
    scene.discord.failAlways({ kind: "reset-after-saving" });
    await scene.run();
    scene.discord.failAlways(undefined);
    scene.append(...lines(6, 7));
    scene.rotate();
    scene.append(...lines(8, 50));
    scene.wait(10 * MINUTE);
    expect((await scene.run()).code).toBe(0);
    expectAllOnce(scene, lines(1, 50));
  });

  test("on a notice that stands alone is marked as well", async () => {
    using scene = sceneWith(...lines(1, 5));
    await scene.pass();
    const two = Buffer.byteLength(`${lines(1, 2).join("\n")}\n`);
    fs.truncateSync(scene.log, two);
    scene.discord.fail({ kind: "reset-after-saving" });
    await scene.pass();
    const [, first, second] = contents(scene);
    expect(first).toContain("may be missing");
    expect(second).toContain("may be missing");
    expect([first?.includes(RESENT), second?.includes(RESENT)]).toEqual([false, true]);
  });

  test("that never ends is cut off, and no more than a reply's worth of it is read", async () => {
    using scene = sceneWith(line(1));
    let pulled = 0;
    answerWith(scene, () => {
      const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
        pulled++;
        controller.enqueue(new Uint8Array(16 * 1024).fill(32));
      };
      return new Response(new ReadableStream({ pull }));
    });
    expect((await scene.run()).code).toBe(75);
    expect(pulled).toBeLessThan(100);
  });
});

describe("a message that provably was not sent", () => {
  test.each([
    "ECONNREFUSED",
    "ENOTFOUND",
    "EAI_AGAIN",
    "ENETUNREACH",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
  ])("%s is tried again without a mark", async (code) => {
    using scene = sceneWith(...longLines(1, 2));
    const refused = { kind: "refused", code } as const;
    scene.discord.fail(refused, refused, refused, refused, refused);
    await scene.pass();
    expect(scene.newlyPosted()).toEqual(longLines(1, 2));
    expect(scene.notices()).toEqual([]);
    expect(scene.discord.violations).toEqual([]);
  });

  test("ends the run with 75 in a minute or two, and the next run tries at once", async () => {
    using scene = sceneWith(line(1));
    scene.discord.failAlways({ kind: "refused" });
    const before = scene.clockMs;
    expect((await scene.run()).code).toBe(75);
    expect(scene.clockMs - before).toBeLessThan(3 * MINUTE);
    const tries = scene.discord.requests.length;
    expect(tries).toBeGreaterThan(3);
    scene.discord.failAlways(undefined);
    expect((await scene.run()).code).toBe(0);
    expect(scene.newlyPosted()).toEqual([line(1)]);
    expect(scene.notices()).toEqual([]);
  });

  test("waits longer from try to try", async () => {
    using scene = sceneWith(line(1));
    scene.discord.failAlways({ kind: "refused" });
    await scene.run();
    const times = requestTimes(scene);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    expect(gaps).toEqual(gaps.toSorted((a, b) => a - b));
    expect(gaps.at(-1)).toBeGreaterThan(10 * SECOND);
  });

  test("stays within --max-time", async () => {
    using scene = sceneWith(line(1));
    scene.discord.failAlways({ kind: "refused" });
    const before = scene.clockMs;
    expect((await scene.run("--max-time", "5")).code).toBe(75);
    expect(scene.clockMs - before).toBeLessThanOrEqual(5 * SECOND);
  });

  test("after one that may have been is still marked", async () => {
    using scene = sceneWith(line(1));
    scene.discord.fail({ kind: "reset-after-saving" });
    scene.discord.failAlways({ kind: "refused" });
    expect((await scene.run()).code).toBe(75);
    scene.discord.failAlways(undefined);
    expect((await scene.run()).code).toBe(0);
    expectAllOnce(scene, [line(1)]);
    expect(contents(scene).length).toBe(2);
  });
});

// ── Dead, locked, misconfigured ─────────────────────────────────────────────────────────────────

describe("a destination that refuses for good", () => {
  const codes = [
    [404, 10003],
    [404, 10015],
    [403, 50001],
    [403, 50013],
    [401, 50027],
  ] as const;

  test.each(codes)("%d with %d: 69, and not called again for a day", async (status, code) => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.failAlways({ kind: "code", status, code });
    const first = await scene.run();
    expect(first).toMatchObject({ code: 69, out: "" });
    expect(first.err).toMatch(new RegExp(`^f2b-watch: Discord: .*${code}.*\n`));
    const seen = { count: scene.discord.requests.length };
    for (let minutes = 0; minutes < 23 * 60; minutes += 20) {
      scene.wait(20 * MINUTE);
      expect((await scene.run()).code).toBe(69);
    }
    expect(newRequests(scene, seen)).toBe(0);
    scene.wait(61 * MINUTE);
    expect((await scene.run()).code).toBe(69);
    expect(newRequests(scene, seen)).toBe(1);
    scene.wait(HOUR);
    expect((await scene.run()).code).toBe(69);
    expect(newRequests(scene, seen)).toBe(0);
    scene.discord.failAlways(undefined);
    scene.wait(DAY);
    const last = await scene.run();
    expect(last).toMatchObject({ code: 0, err: "f2b-watch: Discord works again\n" });
    scene.expectPosted(line(3));
  });

  test("is called at once when its URL changes, and goes on at the old cursor", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    const good = scene.discord.webhook;
    scene.env["DISCORD_WEBHOOK"] = good.replace("1234567890123456789", "999");
    expect((await scene.run()).code).toBe(69);
    scene.wait(MINUTE);
    scene.env["DISCORD_WEBHOOK"] = good;
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(3));
  });

  test("is called at once when only its thread changes", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.fail({ kind: "code", status: 404, code: 10003 });
    expect((await scene.run()).code).toBe(69);
    scene.env["DISCORD_WEBHOOK"] += "?thread_id=77";
    scene.wait(MINUTE);
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(3));
  });

  test("is called once when its URL changes to another dead one", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    const seen = { count: scene.discord.requests.length };
    for (const id of ["999", "998", "998", "998"]) {
      scene.env["DISCORD_WEBHOOK"] = scene.discord.webhook.replace("1234567890123456789", id);
      expect((await scene.run()).code).toBe(69);
      scene.wait(MINUTE);
    }
    expect(newRequests(scene, seen)).toBe(2);
  });

  test("76: for days, across rotations: afterwards all that still exists, in order", async () => {
    using scene = await goingScene();
    scene.discord.delete();
    for (let day = 0; day < 4; day++) {
      scene.append(...lines(3 + day * 10, 12 + day * 10));
      expect((await scene.run()).code).toBe(69);
      scene.rotate();
      scene.wait(DAY);
    }
    scene.compress(".3");
    scene.discord.restore();
    expect((await scene.run()).code).toBe(0);
    expect(scene.newlyPosted()).toEqual(lines(3, 42));
    expect(scene.notices()).toEqual([]);
  });
});

describe("401, 403, 404 and 410 without a code that we know", () => {
  test.each([
    [401, "{}"],
    [403, "error code: 1010"],
    [403, '{"message":"Access denied","code":40333}'],
    [404, "<html>not here</html>"],
    [410, ""],
  ])("%d %s: 69, called once an hour", async (status, body) => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.failAlways({ kind: "status", status, body });
    const seen = { count: scene.discord.requests.length };
    const calls: number[] = [];
    for (let minute = 0; minute < 181; minute += 5) {
      expect((await scene.run()).code).toBe(69);
      if (newRequests(scene, seen) > 0) calls.push(minute);
      scene.wait(5 * MINUTE);
    }
    expect(calls).toEqual([0, 60, 120, 180]);
    scene.discord.failAlways(undefined);
    scene.wait(HOUR);
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(3));
  });

  test("is called at once when its URL changes", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.fail({ kind: "status", status: 404, body: "" });
    expect((await scene.run()).code).toBe(69);
    scene.env["DISCORD_WEBHOOK"] += "?thread_id=77";
    scene.wait(MINUTE);
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(3));
  });
});

describe("a 400 that is about neither content nor name", () => {
  test.each([
    [400, 50035, { thread_id: { _errors: [{ code: "NUMBER_TYPE_COERCE", message: "no" }] } }],
    [400, 50041, undefined],
    [400, 50083, undefined],
    [400, 160005, undefined],
    [400, 220001, undefined],
    [405, 0, undefined],
  ])(
    "%d %d is configuration: 78, reported and asked ever more rarely, nothing skipped",
    async (status, code, errors) => {
      using scene = await goingScene();
      scene.append(line(3));
      const before = scene.discord.requests.length;
      scene.discord.failAlways({ kind: "code", status, code, errors });
      expect((await scene.run()).code).toBe(78);
      const told = await reports(scene, 30 * MINUTE, 3 * DAY);
      expect(told.map((text) => text.split(":")[0])).toEqual(["1 h", "25 h", "49 h"]);
      const asked = requestTimes(scene).slice(before);
      expect(asked.map((at) => Math.floor((at - asked[0]!) / HOUR))).toEqual([
        0, 1, 3, 7, 15, 31, 55,
      ]);
      scene.discord.failAlways(undefined);
      scene.env["DISCORD_WEBHOOK"] += "?thread_id=99";
      expect((await scene.run()).code).toBe(0);
      scene.expectPosted(line(3));
    },
  );
});

test.each([301, 302, 303, 307, 308])(
  "a redirect, %d, is not followed, and nothing is skipped",
  async (status) => {
    using scene = await goingScene();
    scene.append(line(3));
    const headers = { location: "https://discord.com/elsewhere" };
    scene.discord.failAlways({ kind: "status", status, headers, body: "" });
    const { code, err } = await scene.run();
    expect(code).not.toBe(0);
    expect(err).toMatch(/^f2b-watch: Discord: .*redirect/);
    scene.discord.failAlways(undefined);
    scene.wait(DAY);
    await scene.run();
    scene.expectPosted(line(3));
  },
);

test("a username that is refused is left out, and the message posted without it", async () => {
  using scene = sceneWith(...longLines(1, 3));
  const errors = { username: { _errors: [{ code: "USERNAME_INVALID", message: "no" }] } };
  const fetch: World["fetch"] = async (url, init) => {
    const body = await new Response(init.body).text();
    if (body.includes('"username"')) {
      scene.discord.fail({ kind: "code", status: 400, code: 50035, errors });
    }
    return scene.discord.fetch(url, { ...init, body });
  };
  Object.assign(scene.overrides, { fetch });
  await scene.pass();
  scene.expectPosted(...longLines(1, 3));
  const names = scene.discord.messages.map(({ body }) => body["username"]);
  expect(names).toEqual([undefined, undefined, undefined]);
  expect(scene.discord.requests.length).toBe(4);
});

test("a name that is refused although there is none is configuration, not an endless loop", async () => {
  using scene = sceneWith(line(1));
  const errors = { username: { _errors: [{ code: "USERNAME_INVALID", message: "no" }] } };
  scene.discord.failAlways({ kind: "code", status: 400, code: 50035, errors });
  expect((await scene.run()).code).toBe(78);
  expect(scene.discord.requests.length).toBe(2);
});

test("204 counts, and is reported once, also across runs", async () => {
  using scene = sceneWith(...longLines(1, 3));
  scene.discord.failAlways({ kind: "empty-204" });
  const first = await scene.run();
  expect(first).toMatchObject({ code: 0, out: "" });
  expect(first.err).toMatch(/^f2b-watch: Discord [^\n]+\n(hint: [^\n]+\n)?$/);
  for (let number = 4; number < 8; number++) {
    scene.append(line(number));
    scene.wait(HOUR);
    await scene.pass();
  }
  scene.expectPosted(...longLines(1, 3), ...lines(4, 7));
});

// ── Refused content ─────────────────────────────────────────────────────────────────────────────

describe("a line whose content is refused", () => {
  test("goes as a file where it is taken as one, alone, and is not kept", async () => {
    using scene = sceneWith(...lines(1, 49), "poison", ...lines(51, 100));
    scene.discord.refuseContent((content) => content.includes("poison"), { inFiles: false });
    expect(await scene.run()).toEqual({ code: 0, out: "", err: "" });
    const withFile = scene.discord.messages.filter(({ files }) => files.length > 0);
    expect(withFile.map(({ files }) => files.map(({ name, text }) => [name, text]))).toEqual([
      [["fail2ban.log", "poison\n"]],
    ]);
    expect(withFile[0]?.content).toContain("web-1");
    scene.expectPosted(...lines(1, 49), ...lines(51, 100));
    expect(fs.existsSync(rejected(scene))).toBe(false);
    await scene.expectQuiet();
  });

  test("goes as a file once, wherever the run is killed: marked when it may be a repeat", async () => {
    using scene = sceneWith(line(1), "poison", line(3));
    scene.discord.refuseContent((content) => content.includes("poison"), { inFiles: false });
    answerWith(scene, (text) => {
      if (text.includes('"content"')) scene.discord.fail({ kind: "reset-after-saving" });
      return undefined;
    });
    expect((await scene.run()).code).not.toBe(70);
    const marks = scene.discord.messages
      .filter(({ files }) => files.length > 0)
      .map(({ content }) => content.includes("(resent)"));
    expect(marks[0]).toBe(false);
    expect(marks.slice(1).every(Boolean)).toBe(true);
  });

  const rejected = (scene: Scene) => `${scene.stateFile()}.rejected`;

  test("is found by halving, kept in a private file, told once here and once there", async () => {
    using scene = sceneWith(...lines(1, 49), "poison", ...lines(51, 100));
    scene.discord.refuseContent((content) => content.includes("poison"));
    const { code, out, err } = await scene.run();
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toMatch(/^f2b-watch: Discord refuses a line[^\n]*\nhint: [^\n]*\.rejected\n$/);
    scene.expectPosted(...lines(1, 49), ...lines(51, 100));
    expect(fs.readFileSync(rejected(scene), "utf8")).toBe("poison\n");
    expect(fs.statSync(rejected(scene)).mode & 0o777).toBe(0o600);
    const [notice, ...others] = scene.notices();
    expect(others).toEqual([]);
    expect(notice).toContain("web-1");
    expect(notice).toContain(basename(rejected(scene)));
    expect(scene.discord.requests.length).toBeLessThan(30);
    await scene.expectQuiet();
  });

  test.each([
    ["first", ["poison", ...lines(2, 30)]],
    ["last", [...lines(1, 29), "poison"]],
    ["the only one", ["poison"]],
    ["beside another", [...lines(1, 9), "poison", "poison", ...lines(10, 30)]],
    ["far from another", ["poison", ...lines(1, 60), "poison", ...lines(61, 90), "poison"]],
  ])("may be the %s of its message", async (_, texts) => {
    using scene = sceneWith(...texts);
    scene.discord.refuseContent((content) => content.includes("poison"));
    expect((await scene.run()).code).toBe(0);
    const poison = texts.filter((text) => text === "poison");
    scene.expectPosted(...texts.filter((text) => text !== "poison"));
    expect(fs.readFileSync(rejected(scene), "utf8")).toBe(
      poison.map((text) => `${text}\n`).join(""),
    );
    await scene.expectQuiet();
  });

  test("has its notice in the channel also when no line follows it", async () => {
    using scene = sceneWith(...lines(1, 5), "poison");
    scene.discord.refuseContent((content) => content.includes("poison"));
    expect((await scene.run()).code).toBe(0);
    scene.append(line(7));
    await scene.run();
    expect(scene.notices()).toEqual([expect.stringContaining(".rejected")]);
    scene.expectPosted(...lines(1, 5), line(7));
  });

  test("has its notice in the channel also when the run ends right behind it", async () => {
    using scene = sceneWith("poison", line(2));
    scene.discord.refuseContent((content) => {
      if (content === "poison\n") scene.stop.abort();
      return content.includes("poison");
    });
    await scene.run();
    Object.assign(scene.overrides, { stopping: new AbortController().signal });
    scene.discord.refuseContent(() => false);
    await scene.run();
    expect(fs.readFileSync(rejected(scene), "utf8")).toBe("poison\n");
    expect(scene.notices()).toEqual([expect.stringContaining(".rejected")]);
    scene.expectPosted(line(2));
  });

  test("that is the first after a gap does not take the gap's notice with it", async () => {
    using scene = await goingScene();
    scene.remove();
    scene.append("poison", ...lines(20, 40));
    scene.discord.refuseContent((content) => content.includes("poison"));
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(...lines(20, 40));
    const notices = scene.notices().join("\n");
    expect(notices.match(/may be missing/g)?.length).toBe(1);
    expect(notices.match(/\.rejected/g)?.length).toBe(1);
  });

  test("that is longer than a message is kept whole, piece by piece", async () => {
    const poison = `poison ${"p".repeat(5_000)} end`;
    using scene = sceneWith(line(1), poison, line(3));
    scene.discord.refuseContent((content) => /poison|ppp/.test(content));
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(1), line(3));
    const kept = fs.readFileSync(rejected(scene), "utf8").replaceAll(/…?\n…?/g, "");
    expect(kept).toBe(poison);
  });

  test("is kept without the secrets in it", async () => {
    using scene = sceneWith();
    scene.append(`poison ${scene.discord.webhook} token=abcdef`);
    scene.discord.refuseContent((content) => content.includes("poison"));
    await scene.run();
    const kept = fs.readFileSync(rejected(scene), "utf8");
    expect(kept).toContain("poison");
    expect(kept).not.toMatch(/tok-en_|abcdef/);
  });

  test.each([
    [400, 50006],
    [400, 50035],
    [400, 200000],
    [403, 200000],
    [403, 240000],
    [413, 40005],
    [413, 0],
  ])("may be refused with %d %d", async (status, code) => {
    using scene = sceneWith(...lines(1, 9), "poison", ...lines(11, 20));
    const errors = code === 50035 ? { content: { _errors: [] } } : undefined;
    answerWith(scene, (content) =>
      content.includes("poison") ? json(status, { code, message: "no", errors }) : undefined,
    );
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(...lines(1, 9), ...lines(11, 20));
    expect(fs.readFileSync(rejected(scene), "utf8")).toBe("poison\n");
  });

  test("that is refused only together with its neighbours is not set aside", async () => {
    using scene = sceneWith(...lines(1, 30));
    scene.discord.refuseContent((content) => content.split("\n").length > 5);
    expect(await scene.run()).toEqual({ code: 0, out: "", err: "" });
    scene.expectPosted(...lines(1, 30));
    expect(fs.existsSync(rejected(scene))).toBe(false);
  });

  test("ten in a pass are set aside, with more the destination is stopped: 69", async () => {
    using scene = sceneWith(
      ...Array.from({ length: 25 }, (_, index) => `poison ${index}`),
      line(1),
    );
    scene.discord.refuseContent((content) => content.includes("poison"));
    const { code, err } = await scene.run();
    expect(code).toBe(69);
    expect(err.match(/refuses a line/g)).toHaveLength(1);
    expect(err).toMatch(/f2b-watch: Discord: [^\n]*too many[^\n]*\n/);
    const kept = () => fs.readFileSync(rejected(scene), "utf8").split("\n").slice(0, -1);
    expect(kept()).toEqual(Array.from({ length: 10 }, (_, index) => `poison ${index}`));
    scene.discord.refuseContent(() => false);
    scene.wait(DAY + HOUR);
    expect((await scene.run()).code).toBe(0);
    const rest = Array.from({ length: 15 }, (_, index) => `poison ${index + 10}`);
    scene.expectPosted(...rest, line(1));
  });

  test("after an unclear answer keeps its marks right", async () => {
    using scene = sceneWith(...lines(1, 5), "poison", ...lines(7, 30));
    let lost = true;
    answerWith(scene, (content) => {
      if (content.includes("poison")) return undefined;
      if (lost) scene.discord.fail({ kind: "reset-after-saving" });
      lost = false;
      return undefined;
    });
    scene.discord.refuseContent((content) => content.includes("poison"));
    expect((await scene.run()).code).toBe(0);
    expectAllOnce(scene, [...lines(1, 5), ...lines(7, 30)]);
  });
});

// ── Secrets ─────────────────────────────────────────────────────────────────────────────────────

describe("no secret is told", () => {
  const wire: AnyFault[] = [
    ...UNCLEAR.map(([, fault]) => fault),
    { kind: "refused" },
    { kind: "refused", code: "ENOTFOUND" },
    { kind: "refused", code: "Malformed_HTTP_Response" },
    { kind: "redirect", location: "https://discord.com/elsewhere" },
    { kind: "rate-limit", retryAfterS: 1_000 },
    { kind: "cloudflare" },
    { kind: "empty-204" },
    { kind: "code", status: 404, code: 10015 },
    { kind: "code", status: 403, code: 0 },
    { kind: "code", status: 400, code: 50041 },
    { kind: "code", status: 400, code: 50006 },
    { kind: "code", status: 400, code: 50035, errors: { username: {} } },
  ];

  /** Neither the URL nor parts of it, nowhere but on the wire. */
  function expectNoSecret(scene: Scene, { out, err }: RunResult): void {
    const kept = fs.readdirSync(scene.state).map((name) => {
      return fs.readFileSync(join(scene.state, name), "utf8");
    });
    for (const text of [out, err, ...kept]) {
      expect(text).not.toMatch(/tok-en_|123456789012345|https?:|webhooks|verbose: true/);
    }
  }

  test.each(wire.map((fault) => [JSON.stringify(fault), fault] as const))(
    "when the answer is %s",
    async (_, fault) => {
      using scene = sceneWith(...lines(1, 2));
      Object.assign(scene.overrides, { terminal: true });
      scene.discord.failAlways(fault);
      const result = await scene.run("--verbose");
      expect(result.err).not.toBe("");
      expectNoSecret(scene, result);
    },
  );

  test.each([
    ["text", (url: string) => url],
    ["nothing", () => undefined],
    ["an error with the URL in its message", (url: string) => new Error(`failed: ${url}`)],
    [
      "an error with the URL as its code",
      (url: string) => Object.assign(new Error(), { code: url }),
    ],
    [
      "an error with the URL as its name",
      (url: string) => Object.assign(new Error(), { name: url }),
    ],
    ["a cause with the URL", (url: string) => new Error("x", { cause: new Error(url) })],
    ["a cause that is the URL", (url: string) => new Error("x", { cause: url })],
    ["a certificate's trouble with the URL", (url: string) => new Error(`CERT_HAS_EXPIRED ${url}`)],
  ])("when fetch throws %s", async (_, thrown) => {
    using scene = sceneWith(line(1));
    const fetch: World["fetch"] = async (url) => {
      throw thrown(url);
    };
    Object.assign(scene.overrides, { fetch });
    const result = await scene.run("--verbose");
    expect(result.code).toBe(75);
    expectNoSecret(scene, result);
  });

  test("when the server says it", async () => {
    using scene = sceneWith(line(1));
    const body = JSON.stringify({ message: scene.discord.webhook, code: 50041 });
    scene.discord.failAlways({ kind: "status", status: 400, body, headers: { via: "https://x" } });
    expectNoSecret(scene, await scene.run("--verbose"));
  });

  test("when all is well", async () => {
    using scene = sceneWith(...lines(1, 200));
    Object.assign(scene.overrides, { terminal: true });
    expectNoSecret(scene, await scene.run("--verbose"));
  });
});

// ── Reports ─────────────────────────────────────────────────────────────────────────────────────

describe("a failure that lasts is told when it begins, after an hour, then daily, and once when over", () => {
  test.each([
    ["a dead network", { kind: "refused" }, 75],
    ["an unclear answer", { kind: "status", status: 502 }, 75],
    ["Cloudflare", { kind: "cloudflare" }, 75],
    ["a deleted webhook", { kind: "code", status: 404, code: 10015 }, 69],
    ["an unknown refusal", { kind: "status", status: 403, body: "" }, 69],
  ] as [string, AnyFault, number][])("%s", async (_, fault) => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.failAlways(fault);
    const told = await reports(scene, 30 * MINUTE, 3 * DAY);
    expect(told.map((text) => text.split(":")[0])).toEqual(["0 h", "1 h", "25 h", "49 h"]);
    for (const text of told)
      expect(text).toMatch(/^\d+ h: f2b-watch: Discord: [^\n]+; 1 line waits\nhint: [^\n]+\n$/);
    scene.discord.failAlways(undefined);
    scene.wait(DAY);
    const after = await reports(scene, HOUR, 2 * DAY);
    expect(after).toEqual(["0 h: f2b-watch: Discord works again\n"]);
    expect(scene.newlyPosted()).toEqual([line(3)]);
    expect(scene.discord.violations).toEqual([]);
  });

  test("one that comes back is told anew", async () => {
    using scene = await goingScene();
    for (let number = 3; number <= 5; number++) {
      scene.append(line(number));
      scene.discord.failAlways({ kind: "refused" });
      expect((await scene.run()).err).toContain("cannot connect");
      scene.discord.failAlways(undefined);
      expect((await scene.run()).err).toBe("f2b-watch: Discord works again\n");
    }
    scene.expectPosted(...lines(3, 5));
  });

  test("another one in its place, which a person must act on, is told when it begins", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.failAlways({ kind: "refused" });
    await reports(scene, 10 * MINUTE, 3 * HOUR);
    scene.discord.failAlways(undefined);
    scene.discord.delete();
    scene.wait(10 * MINUTE);
    const { code, err } = await scene.run();
    expect(code).toBe(69);
    expect(err).toContain("10015");
    const told = await reports(scene, 10 * MINUTE, 3 * HOUR);
    expect(told.length).toBe(1);
    expect(told[0]).toStartWith("1 h: f2b-watch: Discord: ");
  });

  test("a log that cannot be read is told in the same way", async () => {
    using scene = await goingScene();
    fs.renameSync(scene.log, join(scene.directory, "aside"));
    const told = await reports(scene, 10 * MINUTE, 2 * DAY);
    expect(told.map((text) => text.split(":")[0])).toEqual(["0 h", "1 h", "25 h"]);
    fs.renameSync(join(scene.directory, "aside"), scene.log);
    expect(await reports(scene, 10 * MINUTE, DAY)).toEqual([
      `0 h: f2b-watch: ${scene.log} can be read again\n`,
    ]);
  });

  test("a clock that was put back does not silence it", async () => {
    using scene = await goingScene();
    scene.append(line(3));
    scene.discord.failAlways({ kind: "refused" });
    await reports(scene, 30 * MINUTE, 2 * HOUR);
    scene.wait(-30 * DAY);
    const told = await reports(scene, 30 * MINUTE, 3 * DAY);
    expect(told.length).toBeGreaterThanOrEqual(3);
    expect(told.length).toBeLessThanOrEqual(5);
  });

  test("time that is up is told like any other", async () => {
    using scene = sceneWith(...longLines(1, 60));
    const { code, err } = await scene.run("--max-time", "10");
    expect(code).toBe(75);
    expect(err).toMatch(/^f2b-watch: Discord: time is up[^\n]*\n$/);
  });
});

// ── Crash and delivery ──────────────────────────────────────────────────────────────────────────

/** A world that ends, as by SIGKILL, at the `step`th thing it does to disk or network. */
function killedAt(scene: Scene, step: number): { world: Partial<World>; killed: () => boolean } {
  let steps = 0;
  const alive = () => {
    if (++steps >= step) throw new Error("killed");
  };
  const mortal = <Args extends unknown[], Result>(act: (...args: Args) => Result) => {
    return (...args: Args): Result => {
      alive();
      return act(...args);
    };
  };
  const names = [
    "openSync",
    "writeSync",
    "fsyncSync",
    "renameSync",
    "rmSync",
    "mkdirSync",
  ] as const;
  const patched = Object.fromEntries(
    names.map((name) => [name, mortal(QUICK_FS[name] as (...args: unknown[]) => unknown)]),
  );
  const fetch: World["fetch"] = async (url, init) => {
    alive();
    const response = await scene.discord.fetch(url, init);
    alive();
    return response;
  };
  const world = { fs: { ...QUICK_FS, ...patched } as typeof fs, fetch };
  return { world, killed: () => steps >= step };
}

/** A run that is killed at this step; false when it was done before. */
async function killedRun(scene: Scene, step: number): Promise<boolean> {
  const { world, killed } = killedAt(scene, step);
  Object.assign(scene.overrides, world);
  await scene.run();
  Object.assign(scene.overrides, { fs: QUICK_FS, fetch: scene.discord.fetch });
  return killed();
}

describe("killed or stopped", () => {
  test("69, 70, 71: at any step: nothing is lost, one message at most comes twice and is marked", async () => {
    let step = 1;
    for (; ; step++) {
      using scene = await goingScene();
      scene.append(...longLines(3, 5));
      const killed = await killedRun(scene, step);
      scene.wait(MINUTE);
      await scene.pass();
      expectAllOnce(scene, [...lines(1, 2), ...longLines(3, 5)]);
      expect(scene.discord.messages.length).toBeLessThanOrEqual(5);
      await scene.expectQuiet();
      if (!killed) break;
    }
    expect(step).toBeGreaterThan(30);
  });

  test("at any step of a first run", async () => {
    let step = 1;
    for (; ; step++) {
      using scene = sceneWith(...longLines(1, 2));
      const killed = await killedRun(scene, step);
      scene.wait(MINUTE);
      await scene.pass();
      expectAllOnce(scene, longLines(1, 2));
      expect(scene.discord.messages.length).toBeLessThanOrEqual(3);
      await scene.expectQuiet();
      if (!killed) break;
    }
    expect(step).toBeGreaterThan(20);
  });

  test("at any step of a run that has a damaged first copy of the state", async () => {
    let step = 1;
    for (; ; step++) {
      using scene = await goingScene();
      fs.writeFileSync(scene.stateFile(), "");
      scene.append(...longLines(3, 4));
      const killed = await killedRun(scene, step);
      scene.wait(MINUTE);
      await scene.pass();
      expectAllOnce(scene, [...lines(1, 2), ...longLines(3, 4)]);
      expect(scene.discord.messages.length).toBeLessThanOrEqual(4);
      if (!killed) break;
    }
    expect(step).toBeGreaterThan(20);
  });

  test("again and again: two steps further each time, it gets through", async () => {
    using scene = sceneWith(...longLines(1, 3));
    for (let step = 1; await killedRun(scene, step); step += 2) scene.wait(MINUTE);
    const order = [...new Set(scene.newlyPosted())];
    expect(order).toEqual(longLines(1, 3));
  });

  test.each(["before", "after"])(
    "78: SIGTERM %s the answer: the message in flight is finished and saved, the rest waits",
    async (when) => {
      using scene = sceneWith(...longLines(1, 4));
      const fetch: World["fetch"] = async (url, init) => {
        const second = scene.discord.requests.length === 1;
        if (second && when === "before") scene.stop.abort();
        const response = await scene.discord.fetch(url, init);
        if (second && when === "after") scene.stop.abort();
        return response;
      };
      Object.assign(scene.overrides, { fetch });
      const { code } = await scene.run();
      expect(code).toBe(75);
      scene.expectPosted(...longLines(1, 2));
      Object.assign(scene.overrides, { stopping: new AbortController().signal });
      scene.wait(MINUTE);
      expect((await scene.run()).code).toBe(0);
      scene.expectPosted(...longLines(3, 4));
      expect(scene.notices()).toEqual([]);
    },
  );

  test("78: SIGTERM during the last message is success", async () => {
    using scene = sceneWith(line(1));
    const fetch: World["fetch"] = (url, init) => {
      scene.stop.abort();
      return scene.discord.fetch(url, init);
    };
    Object.assign(scene.overrides, { fetch });
    await scene.pass();
    scene.expectPosted(line(1));
  });

  test("78: SIGTERM while it waits for its turn or for a retry leaves at once", async () => {
    for (const fault of ["none", "refused"] as const) {
      using scene = sceneWith(...longLines(1, 40));
      if (fault === "refused") scene.discord.failAlways({ kind: "refused" });
      const sleep = async () => scene.stop.abort();
      Object.assign(scene.overrides, { sleep });
      const before = scene.clockMs;
      expect((await scene.run()).code).toBe(75);
      expect(scene.clockMs).toBe(before);
      const sent = scene.newlyPosted();
      expect(sent).toEqual(longLines(1, sent.length));
      Object.assign(scene.overrides, {
        stopping: new AbortController().signal,
        sleep: async (ms: number) => scene.wait(ms),
      });
      scene.discord.failAlways(undefined);
      expect((await scene.run()).code).toBe(0);
      scene.expectPosted(...longLines(sent.length + 1, 40));
      expect(scene.notices()).toEqual([]);
    }
  });

  test("73: 5xx for three runs while two rotations happen: afterwards everything, in order", async () => {
    using scene = await goingScene();
    scene.discord.failAlways({ kind: "status", status: 500 });
    for (let round = 0; round < 3; round++) {
      scene.append(...lines(3 + round * 5, 7 + round * 5));
      expect((await scene.run()).code).toBe(75);
      scene.wait(5 * MINUTE);
      if (round < 2) scene.rotate();
    }
    scene.discord.failAlways(undefined);
    scene.wait(10 * MINUTE);
    expect((await scene.run()).code).toBe(0);
    expectAllOnce(scene, lines(1, 17));
  });

  test("74: a 429 longer than cron's period: runs leave, nothing is lost", async () => {
    using scene = await goingScene();
    scene.discord.fail({ kind: "rate-limit", retryAfterS: 600 });
    for (let minute = 0; minute < 12; minute++) {
      scene.append(line(3 + minute));
      await scene.run();
      scene.wait(MINUTE);
    }
    expect(scene.newlyPosted()).toEqual(lines(3, 14));
    expect(scene.discord.violations).toEqual([]);
  });

  test("75: a connection that dies after the server accepted: one message twice, marked", async () => {
    using scene = await goingScene();
    scene.append(...longLines(3, 5));
    scene.discord.fail({ kind: "status", status: 500 }, { kind: "reset-after-saving" });
    await scene.pass();
    expectAllOnce(scene, [...lines(1, 2), ...longLines(3, 5)]);
    expect(scene.discord.messages.length).toBe(5);
  });

  /** More than is held in memory at once, so that the rest is read after what happens meanwhile. */
  async function expectUndisturbed(meanwhile: (scene: Scene) => void): Promise<void> {
    using scene = await goingScene();
    scene.append(...lines(3, 5_000));
    const fetch: World["fetch"] = (url, init) => {
      if (scene.discord.requests.length === 20) meanwhile(scene);
      return scene.discord.fetch(url, init);
    };
    Object.assign(scene.overrides, { fetch });
    await scene.run("--max-time", "3600");
    scene.wait(MINUTE);
    await scene.run("--max-time", "3600");
    scene.expectPosted(...lines(3, 5_010));
    expect(scene.notices()).toEqual([]);
    await scene.expectQuiet();
  }

  test("77: a rotation while it sends: old lines once, then new", async () => {
    await expectUndisturbed((scene) => {
      scene.rotate();
      scene.append(...lines(5_001, 5_010));
    });
  });

  test("77: a copytruncate while it sends: old lines once, then new", async () => {
    await expectUndisturbed((scene) => {
      scene.copytruncate();
      scene.append(...lines(5_001, 5_010));
    });
  });

  test("77: a copytruncate while a short log is sent: old lines once, then new", async () => {
    using scene = await goingScene();
    scene.append(...longLines(3, 6));
    let done = false;
    const fetch: World["fetch"] = (url, init) => {
      if (!done) {
        scene.copytruncate();
        scene.append(line(7));
      }
      done = true;
      return scene.discord.fetch(url, init);
    };
    Object.assign(scene.overrides, { fetch });
    await scene.run();
    scene.wait(MINUTE);
    await scene.run();
    scene.expectPosted(...longLines(3, 6), line(7));
    expect(scene.notices()).toEqual([]);
    await scene.expectQuiet();
  });

  test("79: EIO in mid-file: what was delivered stays so, 66, and it is tried again", async () => {
    using scene = await goingScene();
    scene.append(...lines(3, 9_000));
    const broken = fs.statSync(scene.log).size - 10_000;
    const readSync = ((
      descriptor: number,
      bytes: Uint8Array,
      offset: number,
      length: number,
      position: number,
    ) => {
      if (position + length > broken) {
        throw Object.assign(new Error("EIO: i/o error, read"), { code: "EIO" });
      }
      return fs.readSync(descriptor, bytes, offset, length, position);
    }) as typeof fs.readSync;
    Object.assign(scene.overrides, { fs: { ...QUICK_FS, readSync } });
    const { code, err } = await scene.run("--max-time", "3600");
    expect(code).toBe(66);
    expect(err).toMatch(/^f2b-watch: cannot read [^\n]+: i\/o error\n/);
    expect(scene.discord.messages.length).toBeGreaterThan(50);
    Object.assign(scene.overrides, { fs: QUICK_FS });
    scene.wait(MINUTE);
    expect((await scene.run("--max-time", "3600")).code).toBe(0);
    scene.expectPosted(...lines(3, 9_000));
  });
});

// ── A real socket ───────────────────────────────────────────────────────────────────────────────

describe("over a real socket", () => {
  /** Runs once against a served stand-in with the runtime's own fetch, then once when all is well. */
  async function overSocket(fault: AnyFault, change = (url: string) => url) {
    using scene = sceneWith(...longLines(1, 2));
    const { stop } = scene.discord.serve();
    try {
      scene.env["DISCORD_WEBHOOK"] = change(scene.discord.webhook);
      const realFetch: World["fetch"] = (url, init) => fetch(url, init);
      const patience = ["hang", "trickle"].includes(fault.kind) ? 200 : 10_000;
      Object.assign(scene.overrides, {
        fetch: realFetch,
        timeout: () => AbortSignal.timeout(patience),
      });
      scene.discord.failAlways(fault);
      const result = await scene.run("--verbose");
      const tries = scene.discord.requests.length;
      expect(result.err).not.toMatch(/tok-en_|https?:|webhooks/);
      scene.discord.failAlways(undefined);
      Object.assign(scene.overrides, { timeout: () => AbortSignal.timeout(10_000) });
      scene.env["DISCORD_WEBHOOK"] = scene.discord.webhook;
      scene.wait(DAY);
      expect((await scene.run()).code).toBe(0);
      // No time passes between two tries here, so that the server sees the end of one too late.
      const { violations } = scene.discord;
      violations.splice(0, Infinity, ...violations.filter((text) => !text.includes("in flight")));
      expectAllOnce(scene, longLines(1, 2));
      return { ...result, tries, notices: scene.notices() };
    } finally {
      stop();
    }
  }

  test.each([
    ["a reset", { kind: "reset" }],
    ["a reset after saving", { kind: "reset-after-saving" }],
    ["a timeout", { kind: "hang", save: true }],
    ["a body that trickles", { kind: "trickle" }],
    ["a body that is cut off", { kind: "cut" }],
    ["502 in HTML", { kind: "html", status: 502 }],
  ] as [string, AnyFault][])("%s is unclear: three tries", async (_, fault) => {
    const { code, tries, notices } = await overSocket(fault);
    expect({ code, tries }).toEqual({ code: 75, tries: 3 });
    expect(notices.at(-1)).toBe(RESENT);
  });

  test("a redirect is not followed", async () => {
    const location = "http://127.0.0.1:1/elsewhere";
    const { code, tries, err } = await overSocket({ kind: "redirect", location });
    expect(code).not.toBe(0);
    expect(tries).toBe(1);
    expect(err).toContain("redirect");
  });

  test.each([
    ["a port where nobody listens", (url: string) => url.replace(/:\d+/, ":1")],
    ["a server without TLS", (url: string) => url.replace("http:", "https:")],
  ])("%s is provably unsent: nothing is marked", async (_, change) => {
    const { code, tries, notices } = await overSocket({ kind: "reset" }, change);
    expect({ code, tries }).toEqual({ code: 75, tries: 0 });
    expect(notices).toEqual([]);
  });
});

// ── As it was reported ──────────────────────────────────────────────────────────────────────────

describe("what was in doubt comes again marked", () => {
  /** A scene where a full message of lines 3 to … may have arrived. */
  async function doubtfulScene(): Promise<Scene> {
    const scene = await goingScene();
    scene.append(...lines(3, 60));
    scene.discord.failAlways({ kind: "status-after-saving", status: 502 });
    expect((await scene.run()).code).toBe(75);
    scene.discord.failAlways(undefined);
    scene.wait(HOUR);
    return scene;
  }

  const numberOf = (text: string) => text.replace(/.* /, "");

  /** What is sent from now on is marked where something in it was sent before, and only there. */
  async function expectMarked(scene: Scene, ...flags: string[]): Promise<void> {
    const seen = new Set(scene.discord.lines().map(numberOf));
    const before = contents(scene).length;
    expect((await scene.run(...flags)).code).toBe(0);
    const fresh = contents(scene).slice(before);
    for (const content of fresh) {
      const isSeen = fencedLines([content]).some((text) => seen.has(numberOf(text)));
      expect(content.includes(RESENT)).toBe(isSeen);
    }
    expect(fresh.length).toBeGreaterThan(1);
    expect(numberOf(scene.discord.lines().at(-1) ?? "")).toBe("60");
  }

  test("in another format", async () => {
    using scene = await doubtfulScene();
    await expectMarked(scene, "--format", "compact", "--jail", "sshd");
  });

  test("behind a notice that takes some of its room", async () => {
    using scene = await doubtfulScene();
    const { checksum, ...state } = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
    expect(checksum).toBeString();
    state.destinations.discord.notice = `⚠️ ${"n".repeat(900)}\n`;
    fs.writeFileSync(scene.stateFile(), sealState(state));
    await expectMarked(scene);
  });
});

test("a doubt of the first states, which did not say how much, marks one message", async () => {
  using scene = await goingScene();
  const { checksum, ...state } = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
  expect(checksum).toBeString();
  state.destinations.discord.inDoubt = true;
  fs.writeFileSync(scene.stateFile(), sealState(state));
  for (let number = 3; number <= 5; number++) {
    scene.append(line(number));
    await scene.pass();
  }
  scene.expectPosted(...lines(3, 5));
  expect(scene.notices()).toEqual([RESENT]);
});

test("after a gap a line that is refused and the only one does not keep the notices back", async () => {
  using scene = await goingScene();
  fs.writeFileSync(scene.log, "");
  scene.append("poison");
  scene.discord.refuseContent((content) => content.includes("poison"));
  expect((await scene.run()).code).toBe(0);
  expect(scene.notices().join("\n")).toContain("lines were refused here");
  await scene.expectQuiet();
});

test("files of 1 MiB at most: 7 MB go in about eight posts, halved once and for all", async () => {
  using scene = sceneWith();
  scene.write(Array.from({ length: 75_000 }, (_, index) => `${line(index)}\n`).join(""));
  expect(fs.statSync(scene.log).size).toBeWithin(6_500_000, 8_000_000);
  scene.overrides.fetch = async (url, init) => {
    const body = await new Response(init.body).arrayBuffer();
    if (body.byteLength > 1024 * 1024) scene.discord.fail({ kind: "status", status: 413 });
    return scene.discord.fetch(url, { ...init, body });
  };
  expect((await scene.run("--inline", "20")).code).toBe(0);
  expect(scene.discord.requests.length).toBeWithin(8, 12);
  const files = scene.discord.messages.flatMap(({ files }) => files.map(({ text }) => text));
  expect(files.join("") === scene.read()).toBe(true);
});

test.each([40006, 130000])("%d is for the moment: 75, asked more and more rarely", async (code) => {
  using scene = await goingScene();
  scene.append(line(3));
  scene.discord.failAlways({ kind: "code", status: 400, code });
  const before = scene.discord.requests.length;
  expect((await scene.run()).code).toBe(75);
  const told = await reports(scene, MINUTE, DAY);
  expect(told.map((text) => text.split(":")[0])).toEqual(["1 h"]);
  expect(scene.discord.requests.length - before).toBeWithin(24, 36);
});

test("a restart that is seen in its middle is one line", async () => {
  using scene = await Scene.after(1, 2);
  const event = (text: string) => line(3).replace(/fail2ban\.filter .*/, `fail2ban.${text}`);
  const restore = (number: number) =>
    event(`actions         [1]: NOTICE  [sshd] Restore Ban 198.51.${number >> 8}.${number & 255}`);
  scene.append(
    event("server          [1]: INFO    Starting Fail2ban v1.0.2"),
    event("jail            [1]: INFO    Jail 'sshd' started"),
    restore(1),
  );
  let restored = 1;
  scene.overrides.sleep = async (ms) => {
    scene.clockMs += ms;
    if (ms < SECOND || restored > 300) return;
    for (let count = 0; count < 100; count++) scene.append(restore(++restored));
  };
  await scene.pass("--format", "events");
  expect(contents(scene).slice(1)).toEqual([expect.stringContaining("301 bans restored")]);
});

// ── Pure functions ──────────────────────────────────────────────────────────────────────────────

describe("Discord's replies", () => {
  const read = (status: number, body: unknown = "", headers: Record<string, string> = {}) =>
    readReply(DISCORD, {
      status,
      headers,
      body: typeof body === "string" ? body : JSON.stringify(body),
    });

  test("takes any 2xx with a message's id as confirmed", () => {
    for (const status of [200, 201, 202]) {
      expect(read(status, { id: "1" }).kind).toBe("confirmed");
    }
  });

  test("takes 204 as confirmed, but not as proven", () => {
    expect(read(204).kind).toBe("unproven");
  });

  test.each([
    "",
    "{}",
    '{"id":""}',
    '{"id":1}',
    "[]",
    "null",
    '"id"',
    "ok",
    "<html></html>",
    '{"id":"1"',
  ])("does not take 200 with %j as confirmed", (body) =>
    expect(read(200, body).kind).toBe("unclear"),
  );

  test("waits as long as the longer of header and body says", () => {
    const waits = (body: unknown, header?: string) =>
      read(429, body, header === undefined ? {} : { "retry-after": header }).waitMs;
    expect(waits({ retry_after: 1.5 })).toBe(1_500);
    expect(waits({ retry_after: 1.5 }, "2")).toBe(2_000);
    expect(waits({ retry_after: 3 }, "2")).toBe(3_000);
    expect(waits({ retry_after: 0 })).toBe(0);
    expect(waits({ code: 0 })).toBeUndefined();
    expect(waits("error code: 1015")).toBeUndefined();
    expect(waits({ retry_after: null }, "x")).toBeUndefined();
  });

  test.each([
    [500, "", "unclear"],
    [503, { code: 0 }, "unclear"],
    [503, { code: 130000 }, "busy"],
    [400, { code: 40006 }, "busy"],
    [400, { code: 50083 }, "misconfigured"],
    [400, { code: 160005 }, "misconfigured"],
    [400, { code: 220001 }, "misconfigured"],
    [408, "", "unclear"],
    [404, { code: 10015 }, "dead"],
    [404, { code: 10003 }, "dead"],
    [401, { code: 50027 }, "dead"],
    [403, { code: 50013 }, "dead"],
    [403, { code: 50001 }, "dead"],
    [404, { code: 0 }, "denied"],
    [401, "", "denied"],
    [403, "error code: 1010", "denied"],
    [410, "", "denied"],
    [400, { code: 50035, errors: { content: {} } }, "refused"],
    [400, { code: 50035, errors: { username: {} } }, "badName"],
    [400, { code: 50035, errors: { thread_id: {} } }, "misconfigured"],
    [400, { code: 50035 }, "misconfigured"],
    [400, { code: 50006 }, "refused"],
    [403, { code: 200000 }, "refused"],
    [403, { code: 240000 }, "refused"],
    [413, { code: 40005 }, "tooLarge"],
    [413, "<html>", "tooLarge"],
    [400, { code: 50041 }, "misconfigured"],
    [400, "", "misconfigured"],
    [405, "", "misconfigured"],
    [302, "", "misconfigured"],
  ] as [number, unknown, Verdict["kind"]][])("reads %d %j as %s", (status, body, kind) => {
    expect(read(status, body).kind).toBe(kind);
  });

  test("names status and code, and never the body's words", () => {
    const verdict = read(404, { code: 10015, message: "https://discord.com/api/webhooks/1/x" });
    expect(JSON.stringify(verdict)).toMatch(/404.*10015/);
    expect(JSON.stringify(verdict)).not.toContain("http");
  });
});

describe("readFetchError()", () => {
  const url = "https://discord.com/api/v10/webhooks/1/secret";
  const bun = (code: string, message: string) =>
    Object.assign(new TypeError(message), { code, path: url, errno: 0 });
  const deno = (cause: string) => new TypeError("fetch failed", { cause: new Error(cause) });
  const sending = `error sending request for url (${url}): `;

  test.each([
    ["Bun, refused", bun("ECONNREFUSED", "ECONNREFUSED: Unable to connect.")],
    ["Bun, no such name", bun("ENOTFOUND", "getaddrinfo ENOTFOUND discord.com")],
    ["Bun, no name server", bun("EAI_AGAIN", "getaddrinfo EAI_AGAIN discord.com")],
    ["Bun, no route", bun("EHOSTUNREACH", "EHOSTUNREACH: Unable to connect.")],
    ["Bun, no network", bun("ENETUNREACH", "ENETUNREACH: Was there a typo in the url or port?")],
    ["Bun, self-signed", bun("DEPTH_ZERO_SELF_SIGNED_CERT", "self signed certificate")],
    ["Bun, expired", bun("CERT_HAS_EXPIRED", "certificate has expired")],
    ["Bun, wrong name", bun("ERR_TLS_CERT_ALTNAME_INVALID", "Hostname does not match")],
    ["Bun, unknown issuer", bun("UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "unable to get issuer")],
    ["Bun, a proxy refuses", bun("ERR_PROXY_TUNNEL", "Proxy refused to open a tunnel: 407 No")],
    ["Deno, a proxy refuses", deno(`${sending}client error (Connect): unsuccessful tunnel`)],
    ["Bun, no TLS", bun("EPROTO", "EPROTO: The TLS handshake failed. Does the server speak TLS?")],
    [
      "Deno, refused",
      deno(
        `${sending}client error (Connect): tcp connect error: Connection refused (os error 111)`,
      ),
    ],
    [
      "Deno, no such name",
      deno(`${sending}client error (Connect): dns error: failed to lookup address information`),
    ],
    [
      "Deno, no network",
      deno(`${sending}client error (Connect): tcp connect error: Network is unreachable`),
    ],
    [
      "Deno, self-signed",
      deno(`${sending}client error (Connect): invalid peer certificate: Other(CaUsedAsEndEntity)`),
    ],
    [
      "Deno, no TLS",
      deno(`${sending}client error (Connect): received corrupt message of type InvalidContentType`),
    ],
    ["Deno, TLS cut off", deno(`${sending}client error (Connect): tls handshake eof`)],
  ])("takes as provably unsent: %s", (_, error) => {
    expect(readFetchError(error).kind).toBe("unsent");
  });

  test.each([
    ["Bun, reset", bun("ECONNRESET", "ECONNRESET: The socket connection was closed unexpectedly.")],
    ["Bun, no HTTP", bun("Malformed_HTTP_Response", `Malformed_HTTP_Response fetching "${url}".`)],
    ["Deno, reset", deno("Connection reset by peer (os error 104)")],
    [
      "Deno, closed",
      deno(`error sending request from 127.0.0.1:1 for ${url}: client error (SendRequest): closed`),
    ],
    ["Deno, a body cut off", new TypeError("error reading a body from connection")],
    ["a timeout", new DOMException("The operation timed out.", "TimeoutError")],
    ["an abort", new DOMException("The operation was aborted.", "AbortError")],
    ["text", "ECONNREFUSED"],
    ["nothing", undefined],
    ["null", null],
    ["an error without words", new Error("")],
  ])("takes as unclear: %s", (_, error) => {
    expect(readFetchError(error).kind).toBe("unclear");
  });

  test("says that there was no answer in time where that is so", () => {
    const timeout = new DOMException("The operation timed out.", "TimeoutError");
    expect(readFetchError(timeout)).toEqual({ kind: "unclear", why: "no answer in time" });
  });

  test.each([
    ["Bun", bun("UnexpectedRedirect", `UnexpectedRedirect fetching "${url}".`)],
    [
      "Deno",
      new TypeError("Fetch failed: Encountered redirect while redirect mode is set to 'error'"),
    ],
  ])("knows a redirect of %s", (_, error) => {
    expect(readFetchError(error)).toMatchObject({
      kind: "misconfigured",
      why: expect.stringContaining("redirect"),
    });
  });

  test.each(["cert", "redirect"])(
    "is not misled by a token like %s in an error that quotes the URL",
    (token) => {
      const there = `${url}${token}`;
      const closed = `error sending request from 127.0.0.1:1 for ${there} (1.2.3.4:443): client error (SendRequest): connection closed before message completed`;
      expect(readFetchError(deno(closed)).kind).toBe("unclear");
      const garbage = `Malformed_HTTP_Response fetching "${there}". For more information, pass x`;
      expect(readFetchError(bun("Malformed_HTTP_Response", garbage)).kind).toBe("unclear");
    },
  );

  test("says nothing of what the error says", () => {
    for (const error of [
      bun(url, url),
      deno(url),
      new Error(url),
      Object.assign(new Error(), { name: url }),
    ]) {
      expect(JSON.stringify(readFetchError(error))).not.toMatch(/secret|http/);
    }
  });
});
