/** How messages reach a channel: in order, confirmed, paced, and what happens when they do not. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { basename, join } from "node:path";
import { DISCORD, readFetchError, readReply, sealState, SLACK } from "../f2b-watch.ts";
import type { Verdict, World } from "../f2b-watch.ts";
import { type Discord, type DiscordFault, fencedLines, type WireFault } from "./discord.ts";
import { DAY, HOUR, line, lines, MINUTE, type RunResult, Scene, SECOND } from "./harness.ts";
import { addSlack, type Slack, type SlackFault } from "./slack.ts";

setDefaultTimeout(180_000);

type Fault = DiscordFault | SlackFault | WireFault;

/** A fault by its words: `503`, `404 10015`, `reset after saving`, `is_archived`, `410 no_team`. */
function faultOf(words: string): Fault {
  const [first = "", second = ""] = words.split(" ");
  const [status, code] = [Number(first), Number(second)];
  const save = words.endsWith(" after saving");
  if (first === "hang") return { kind: "hang", save, afterMs: 20_000 };
  if (first === "trickle") return { kind: "trickle", afterMs: 20_000 };
  if (first === "html") return { kind: "html", status: code };
  if (first === "refused") return { kind: "refused", code: second || "ECONNREFUSED" };
  if (first === "cut") return { kind: "cut", clean: second === "cleanly" };
  if (save && !status) return { kind: "reset-after-saving" };
  if (save) return { kind: "status-after-saving", status };
  if (/^(reset|cloudflare|cloudflare-json|no-id|no-ts|empty-204)$/.test(words))
    return { kind: words } as Fault;
  if (!status) return { kind: "error", error: words };
  if (!second) return { kind: "status", status };
  return code >= 0 ? { kind: "code", status, code } : { kind: "error", error: second, status };
}

const RESENT = "(resent)";

/** Lines so long that each fills a message of its own. */
function longLines(from: number, to: number): string[] {
  return lines(from, to).map((text) => text.padEnd(1_900, "."));
}

type Way = "Discord" | "Slack" | "Slack's webhook" | "both";
const WAYS = ["Discord", "Slack"] as const;

/** A row for each word, with the way before it. */
function rowsOf(table: Partial<Record<Way, string>>): [Way, string][] {
  const rows = Object.entries(table) as [Way, string][];
  return rows.flatMap(([way, words]) =>
    words.split(", ").map((each): [Way, string] => [way, each]),
  );
}

/** A scene that sends this way; questions about the channel go to the service that it names. */
class SendingScene extends Scene {
  readonly slack = addSlack(this);
  readonly way: Way;
  readonly #service: "discord" | "slack";
  #asked = 0;

  constructor(way: Way, ...texts: string[]) {
    super();
    this.way = way;
    this.#service = way.startsWith("Slack") ? "slack" : "discord";
    const { DISCORD_WEBHOOK = "", ...forSlack } = this.env;
    if (way === "Discord") this.env = { DISCORD_WEBHOOK };
    if (way === "Slack") this.env = forSlack;
    if (way === "Slack's webhook") this.env = { SLACK_WEBHOOK: this.slack.webhook };
    if (texts.length > 0) this.append(...texts);
  }

  /** One where lines 1 and 2 were posted already. */
  static async going(way: Way = "Discord"): Promise<SendingScene> {
    const scene = new SendingScene(way, ...lines(1, 2));
    await scene.passPosts(...lines(1, 2));
    scene.wait(5 * MINUTE);
    scene.newRequests();
    return scene;
  }

  /** And one where line 3 waits, because of this fault. */
  static async waiting(way: Way = "Discord", fault?: Fault | string): Promise<SendingScene> {
    const scene = await SendingScene.going(way);
    scene.append(line(3));
    scene.failAlways(fault);
    return scene;
  }

  override get channel(): Discord | Slack {
    return this[this.#service];
  }

  /** Faults of any kind, which the test knows to be of this service. */
  fail(...faults: (Fault | string)[]): void {
    const all = faults.map((each) => (typeof each === "string" ? faultOf(each) : each));
    this.channel.fail(...(all as WireFault[]));
  }

  failAlways(fault: Fault | string | undefined): void {
    const known = typeof fault === "string" ? faultOf(fault) : fault;
    this.channel.failAlways(known as WireFault | undefined);
  }

  refusePoison(): void {
    this.channel.refuseContent((content) => content.includes("poison"));
  }

  /** A run that keeps this aside and posts the rest. */
  async setsAside(kept: string, ...posted: string[]): Promise<RunResult> {
    const result = await this.expectCode(0);
    this.expectPosted(...posted);
    expect(this.kept()).toBe(kept);
    return result;
  }

  /** What the network does from now on; `wire` is what the stand-ins do. */
  onFetch(act: (wire: World["fetch"], ...call: Parameters<World["fetch"]>) => Promise<Response>) {
    this.overrides.fetch = (...call) => act(this.wire, ...call);
  }

  readonly wire: World["fetch"] = (url, init) =>
    (new URL(url).host.includes("slack") ? this.slack : this.discord).fetch(url, init);

  /** Answers by hand: what `answer` returns nothing for goes to the stand-in. */
  answerWith(answer: (content: string) => Response | undefined): void {
    this.onFetch(async (wire, url, init) => {
      const copy = { ...init, body: await new Response(init.body).arrayBuffer() };
      return answer(await textOf(copy)) ?? (await wire(url, copy));
    });
  }

  async expectCode(code: number, ...flags: string[]): Promise<RunResult> {
    const result = await this.run(...flags);
    expect(result.code).toBe(code);
    return result;
  }

  /** As `expectPosted`, where a 429 is part of the story. */
  expectArrived(...expected: string[]): void {
    expect(this.newlyPosted()).toEqual(expected);
    expect(this.channel.violations).toEqual([]);
  }

  /** Nothing is wrong any more; so much later everything arrives. */
  async recovers(afterMs: number, ...expected: string[]): Promise<void> {
    this.failAlways(undefined);
    this.wait(afterMs);
    await this.expectCode(0);
    this.expectArrived(...expected);
  }

  /** The same, where some of it may come twice. */
  async repeats(afterMs: number, expected: readonly string[]): Promise<void> {
    this.failAlways(undefined);
    this.wait(afterMs);
    await this.expectCode(0);
    this.expectAllOnce(expected);
  }

  contents(): string[] {
    return this.channel.messages.map(({ content }) => content);
  }

  /** Whether what was sent was marked, also what never arrived. */
  marks(): boolean[] {
    const bodies = this.channel.requests.map(({ body }) => JSON.parse(body));
    return bodies.map(({ content, text }) => (content ?? text).includes(RESENT));
  }

  /** How many requests there were since the last question. */
  newRequests(): number {
    const fresh = this.channel.requests.length - this.#asked;
    this.#asked += fresh;
    return fresh;
  }

  /** The times of all requests, in milliseconds after the first. */
  times(): number[] {
    const [first] = this.channel.requests;
    return this.channel.requests.map(({ at }) => at - (first?.at ?? 0));
  }

  rejected(): string {
    return `${this.stateFile()}.rejected`;
  }

  kept(): string {
    return fs.readFileSync(this.rejected(), "utf8");
  }

  /** Every line once and in order; what is there twice is one message, and says so. */
  expectAllOnce(expected: readonly string[]): void {
    const seen = new Set<string>();
    const order: string[] = [];
    for (const text of this.contents()) {
      for (const one of fencedLines([text])) {
        if (seen.has(one)) expect(text).toContain(RESENT);
        else order.push(one);
        seen.add(one);
      }
    }
    expect(order).toEqual([...expected]);
    expect(this.channel.violations).toEqual([]);
  }

  /** What each run told on stderr, with the hours since the first, for runs that told something. */
  async reports(everyMs: number, forMs: number): Promise<string[]> {
    const start = this.clockMs;
    const told: string[] = [];
    for (let at = 0; at <= forMs; at += everyMs) {
      this.clockMs = Math.max(this.clockMs, start + at);
      const { err } = await this.run();
      if (err !== "") told.push(`${Math.floor(at / HOUR)} h: ${err}`);
    }
    return told;
  }
}

/** The most of `times` in any window of this length. */
function mostWithin(times: readonly number[], windowMs: number): number {
  const counts = times.map((at) => times.filter((t) => t >= at && t < at + windowMs).length);
  return Math.max(0, ...counts);
}

/** Minutes after the first at which a destination was asked, with a run every so many minutes. */
async function askedAt(scene: SendingScene, code: number, everyMs: number, forMs: number) {
  const asked: number[] = [];
  const begin = scene.clockMs;
  for (; scene.clockMs - begin < forMs; scene.wait(everyMs)) {
    await scene.expectCode(code);
    if (scene.newRequests() > 0) asked.push((scene.clockMs - begin) / MINUTE);
  }
  return asked;
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

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers });
}

// ── Order and form ──────────────────────────────────────────────────────────────────────────────

describe.each(["Discord", "Slack", "Slack's webhook"] as const)("messages to %s", (way) => {
  test("are posted in the log's order, one in flight, as full as they can be", async () => {
    using scene = new SendingScene(way, ...lines(1, 300));
    await scene.passPosts(...lines(1, 300));
    const sizes = scene.contents().map((text) => text.length);
    for (const size of sizes.slice(0, -1)) expect(size).toBeGreaterThan(1_999 - 120);
    expect(Math.max(...sizes)).toBeLessThan(2_000);
    scene.append(line(301));
    await scene.passPosts(line(301));
  });

  test("are remembered one by one, JSON by the program's name, redirects refused, in 20 s each", async () => {
    using scene = new SendingScene(way, ...longLines(1, 4));
    const [limits, known, inits]: [number[], number[], RequestInit[]] = [[], [], []];
    scene.overrides.timeout = (ms) => {
      limits.push(ms);
      return AbortSignal.timeout(500);
    };
    scene.onFetch((wire, url, init) => {
      const { destinations } = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
      known.push((destinations.discord ?? destinations.slack).cursor.lines);
      inits.push(init);
      return wire(url, init);
    });
    await scene.pass();
    expect(known).toEqual([0, 1, 2, 3]);
    expect(limits).toEqual(Array(4).fill(20 * SECOND));
    for (const { redirect, signal } of inits)
      expect([redirect, signal]).toEqual(["error", expect.any(AbortSignal)]);
    for (const { method, headers } of scene.channel.requests) {
      expect(method).toBe("POST");
      expect(headers["content-type"]).toStartWith("application/json");
      expect(headers["user-agent"]).toMatch(/f2b-watch.*\d+\.\d+\.\d+/);
    }
  });
});

describe("a message to Discord", () => {
  test("pings nobody, has no previews, and carries the host in its sender's name", async () => {
    using scene = new SendingScene("Discord", "@everyone <@1> https://example.org/");
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
  ])("has a legal sender's name whatever the host is called: %j", async (host, shown) => {
    using scene = new SendingScene("Discord", line(1));
    scene.overrides.hostName = () => host;
    await scene.passPosts(line(1));
    const name = String(scene.discord.messages[0]?.body["username"]);
    expect(name).toMatch(shown);
    expect(name).toStartWith("Fail2Ban · ");
    expect(name).not.toMatch(/discord|clyde|[\p{Cc}\p{Cf}]{2}|[\x00-\x1f\u202e]/iu);
    expect([...name].length).toBeLessThanOrEqual(80);
    expect(name.isWellFormed()).toBe(true);
  });

  test("is posted without a username where that is refused; where it is refused all the same: 78", async () => {
    using scene = new SendingScene("Discord", ...longLines(1, 3));
    const errors = { username: { _errors: [{ code: "USERNAME_INVALID", message: "no" }] } };
    const fault = { kind: "code", status: 400, code: 50035, errors } as const;
    scene.onFetch(async (wire, url, init) => {
      const body = await new Response(init.body).text();
      if (body.includes('"username"')) scene.fail(fault);
      return wire(url, { ...init, body });
    });
    await scene.passPosts(...longLines(1, 3));
    for (const { body } of scene.discord.messages) expect(body["username"]).toBeUndefined();
    expect(scene.newRequests()).toBe(4);
    scene.append(line(4));
    scene.wait(HOUR);
    scene.failAlways(fault);
    await scene.expectCode(78);
    expect(scene.newRequests()).toBe(2);
  });
});

describe("a message to Slack", () => {
  test("carries name, icon and host, and unfurls nothing", async () => {
    using scene = new SendingScene("Slack", line(1));
    const { SLACK_TOKEN } = scene.env;
    const file = join(scene.directory, "env");
    const text = `SLACK_TOKEN=${SLACK_TOKEN}\nSLACK_CHANNEL=#alerts\nSLACK_ICON=:lock:\n`;
    fs.writeFileSync(file, text, { mode: 0o600 });
    scene.env = {};
    await scene.pass("--host", "web <1>", "--env-file", file);
    const [message] = scene.slack.messages;
    expect(message?.content).toStartWith("*web &lt;1&gt;*\n```\n");
    expect(message?.body).toMatchObject({
      username: "Fail2Ban · web <1>",
      icon_emoji: ":lock:",
      channel: "#alerts",
      unfurl_links: false,
      unfurl_media: false,
    });
  });

  test("by a webhook asks for no other name, icon or channel", async () => {
    using scene = new SendingScene("Slack's webhook", line(1));
    await scene.pass();
    const body = Object.keys(scene.slack.messages[0]?.body ?? {}).sort();
    expect(body).toEqual(["mrkdwn", "text", "unfurl_links", "unfurl_media"]);
  });

  test("stays under 2000 characters after escaping, no escape is cut, by several runs too", async () => {
    const hostile = `${line(1)} ${"<!channel>&".repeat(700)}`;
    using scene = new SendingScene("Slack", hostile, line(2));
    scene.fail({ kind: "slow", ms: 10 });
    await scene.expectCode(75, "--max-time", "2");
    await scene.expectCode(0);
    for (const { content } of scene.slack.messages) {
      expect(content.length).toBeLessThan(2_000);
      expect(content).not.toMatch(/&(?!amp;|lt;|gt;)/);
    }
    expect(scene.slack.violations).toEqual([]);
    expect(scene.slack.lines().join("").replaceAll("…", "")).toBe(hostile + line(2));
  });
});

describe("Discord and Slack", () => {
  test("each gets every line; one being down neither stops nor repeats the other", async () => {
    using scene = new SendingScene("both", ...lines(1, 30));
    scene.failAlways("refused");
    const { err } = await scene.expectCode(75);
    expect(err).toStartWith("f2b-watch: Discord: cannot connect");
    expect(scene.slack.lines()).toEqual(lines(1, 30));
    scene.rotate();
    scene.append(...lines(31, 40));
    await scene.run();
    await scene.recovers(HOUR, ...lines(1, 40));
    expect(scene.slack.lines()).toEqual(lines(1, 40));
    expect([scene.slack.violations, scene.slack.count429]).toEqual([[], 0]);
  });

  test("a dry run shows both, and sends nothing", async () => {
    using scene = new SendingScene("both", `${line(1)} <x>`);
    const { code, out, err } = await scene.run("--dry-run");
    expect(code).toBe(0);
    for (const text of ["<x>", "&lt;x&gt;"]) expect(out).toContain(text);
    for (const name of ["Discord", "Slack"]) expect(err).toContain(`1 message for ${name}`);
    expect([...scene.discord.requests, ...scene.slack.requests]).toEqual([]);
  });
});

// ── Pace ────────────────────────────────────────────────────────────────────────────────────────

describe.each(WAYS)("the pace of %s", (way) => {
  function expectPaced(scene: SendingScene): void {
    const windows = { Discord: [5, 2 * SECOND, 29, MINUTE], Slack: [1, SECOND, 60, MINUTE] }[way];
    const [few = 0, shortMs = 0, many = 0, longMs = 0] = windows;
    expect(mostWithin(scene.times(), shortMs)).toBeLessThanOrEqual(few);
    expect(mostWithin(scene.times(), longMs)).toBeLessThanOrEqual(many);
    expect([scene.channel.count429, scene.channel.violations]).toEqual([0, []]);
  }

  test("is kept within a run, and is no slower than that", async () => {
    using scene = new SendingScene(way, ...longLines(1, 100));
    await scene.passPosts(...longLines(1, 100));
    expectPaced(scene);
    expect(scene.times()[28]).toBeLessThan(30 * SECOND);
  });

  const tenOf = (run: number) => longLines(10 * run + 1, 10 * run + 10);
  test.each<[string, number, number, (scene: SendingScene, run: number) => unknown, string?]>([
    ["follow at once", 0, 10, (scene, run) => scene.append(...tenOf(run))],
    ["are out of time", 60, 60, (scene) => scene.wait(3 * SECOND), "5"],
    ["fail", 60, 8, (scene) => scene.fail("502", "502", "502")],
  ])("holds across runs that %s", async (name, before, runs, act, maxTime = "300") => {
    using scene = new SendingScene(way, ...(before ? longLines(1, before) : []));
    for (let run = 0; run < runs; run++) {
      await act(scene, run);
      await scene.run("--max-time", maxTime);
      if (name === "fail") scene.wait(11 * MINUTE);
    }
    await scene.run();
    scene.expectAllOnce(longLines(1, before || 100));
    expectPaced(scene);
  });

  test("is not disturbed by a clock that was put back", async () => {
    using scene = new SendingScene(way, ...longLines(1, 29));
    await scene.pass();
    scene.append(...longLines(30, 31));
    scene.wait(MINUTE);
    scene.overrides.now = () => scene.clockMs - DAY;
    const before = scene.clockMs;
    await scene.pass();
    expect(scene.clockMs - before).toBeLessThan(MINUTE);
    scene.expectPosted(...longLines(1, 31));
  });
});

test.each([
  ["0", "7.5", 7_500],
  ["0", "90", 90 * SECOND],
  ["0", "1e9", DAY],
  ["0", "x", 0],
  ["0", "-1", 0],
  ["1", "90", 0],
])("Discord's headers are heeded: %s left, reset after %s s", async (left, reset, waitMs) => {
  using scene = new SendingScene("Discord", line(1));
  const headers = { "x-ratelimit-remaining": left, "x-ratelimit-reset-after": reset };
  scene.answerWith(() => json(200, { id: "1" }, headers));
  await scene.pass();
  scene.overrides.fetch = scene.wire;
  scene.append(line(2));
  const before = scene.clockMs;
  if (waitMs > MINUTE) await scene.expectCode(75, "--max-time", "60");
  scene.wait(Math.max(0, waitMs - MINUTE + SECOND));
  await scene.expectCode(0, "--max-time", "60");
  expect(scene.clockMs - before).toBeWithin(waitMs, waitMs + 2 * MINUTE);
  scene.expectPosted(line(2));
});

// ── 429 ─────────────────────────────────────────────────────────────────────────────────────────

describe("a 429", () => {
  const BLOCKED = ["cloudflare", "cloudflare-json"];
  const limit = { kind: "rate-limit", retryAfterS: 5 } as const;
  const with429 = (retryAfter: string, body: string, status = 429) =>
    ({ kind: "status", status, headers: { "retry-after": retryAfter }, body }) as const;
  const byName = '{"ok":false,"error":"ratelimited"}';
  test.each<[string, Way, Fault, number]>([
    ["with header and body", "Discord", { ...limit, retryAfterS: 3.2 }, 3_200],
    ["with a body only", "Discord", { ...limit, header: false }, 5_000],
    ["that is global", "Discord", { ...limit, global: true }, 5_000],
    ["that is shared", "Discord", { ...limit, scope: "shared" }, 5_000],
    ["whose header is longer", "Discord", with429("9", '{"retry_after":1}'), 9_000],
    ["whose body is longer", "Discord", with429("1", '{"retry_after":9}'), 9_000],
    ["of the API", "Slack", { ...limit, retryAfterS: 30 }, 30_000],
    ["of a webhook", "Slack's webhook", limit, 5_000],
    ["by its name", "Slack", with429("9", byName, 200), 9_000],
  ])("%s is waited out within the run", async (_, way, fault, waitMs) => {
    using scene = new SendingScene(way, ...longLines(1, 3));
    scene.fail(fault);
    await scene.pass();
    scene.expectArrived(...longLines(1, 3));
    expect(scene.notices()).toEqual([]);
    expect(scene.times()[1]).toBeWithin(waitMs, waitMs + 5_000);
  });

  test.each(WAYS)("of %s may come as often as it likes within the run", async (way) => {
    using scene = new SendingScene(way, line(1));
    scene.fail(...Array.from({ length: 20 }, () => limit));
    await scene.pass();
    scene.expectArrived(line(1));
  });

  test.each(WAYS)("of %s that is too long is remembered: nobody asks again", async (way) => {
    using scene = new SendingScene(way, line(1));
    scene.fail({ kind: "rate-limit", retryAfterS: 1_000 });
    expect(await scene.run()).toMatchObject({ code: 75, out: "" });
    scene.wait(999 * SECOND);
    expect(await scene.run()).toEqual({ code: 75, out: "", err: "" });
    expect(scene.newRequests()).toBe(1);
    await scene.recovers(MINUTE, line(1));
  });

  test.each(["stopped", "killed"])("that a run is %s in still holds, no mark", async (end) => {
    using scene = new SendingScene("Discord", line(1));
    scene.fail({ kind: "rate-limit", retryAfterS: 30 });
    let kept = "";
    scene.overrides.sleep = async () => {
      kept = fs.readFileSync(scene.stateFile(), "utf8");
      scene.stop.abort();
    };
    expect(await stoppedRun(scene)).toEqual({ code: 75, out: "", err: "" });
    if (end === "killed") fs.writeFileSync(scene.stateFile(), kept);
    scene.wait(29 * SECOND);
    expect((await scene.expectCode(75)).err).toContain("rate limited");
    expect(scene.newRequests()).toBe(1);
    await scene.recovers(2 * SECOND, line(1));
    expect(scene.notices()).toEqual([]);
  });

  test.each(BLOCKED)("by %s is quiet for 15 minutes, doubling", async (fault) => {
    using scene = new SendingScene("Discord", line(1));
    scene.failAlways(fault);
    const asked = await askedAt(scene, 75, 5 * MINUTE, 5 * HOUR);
    expect(asked).toEqual([0, 15, 45, 105, 165, 225, 285]);
    await scene.recovers(HOUR, line(1));
    // And anew after a success.
    scene.append(line(2));
    scene.fail(fault);
    await scene.expectCode(75);
    await scene.recovers(15 * MINUTE + 1, line(2));
  });

  test("without retry_after is at least a quarter of an hour also after other failures", async () => {
    using scene = new SendingScene("Discord", line(1));
    scene.fail("503", "503", "503", "cloudflare");
    for (const waitMs of [MINUTE + 1, 14 * MINUTE, 0]) {
      await scene.expectCode(75);
      scene.wait(waitMs);
    }
    expect(scene.newRequests()).toBe(4);
    expect(scene.channel.violations).toEqual([]);
  });

  test.each([
    // As version 6 has it: in milliseconds.
    ['{"retry_after":64570}', "64570", 64_570 * SECOND],
    ...["86400", "1e9", "1e300"].map((s) => [`{"retry_after":${s}}`, "", DAY - SECOND] as const),
    ...['{"retry_after":-5}', '{"retry_after":"soon"}', "", "<html>429</html>"].map(
      (body) => [body, "", 15 * MINUTE - 1] as const,
    ),
    ["", "soon", 15 * MINUTE - 1],
    ["", "-1", 15 * MINUTE - 1],
  ])("of %j and header %j is quiet for so long", async (body, header, ms) => {
    using scene = new SendingScene("Discord", line(1));
    const headers: Record<string, string> = header ? { "retry-after": header } : {};
    scene.fail({ kind: "status", status: 429, body, headers });
    await scene.expectCode(75);
    await scene.expectCode(75);
    scene.wait(ms);
    await scene.expectCode(75);
    expect(scene.newRequests()).toBe(1);
    await scene.recovers(MINUTE, line(1));
  });

  test("whose end lies ahead because the clock was put back is ignored", async () => {
    using scene = new SendingScene("Discord", line(1));
    scene.fail("cloudflare");
    await scene.expectCode(75);
    scene.wait(-3 * HOUR);
    await scene.expectCode(0);
    expect(scene.newlyPosted()).toEqual([line(1)]);
  });
});

// ── Unclear ─────────────────────────────────────────────────────────────────────────────────────

/** Answers that leave it open whether the message arrived. */
const FOR_BOTH =
  "500, 503, 504, html 502, html 522, 500 after saving, hang, " +
  "hang after saving, reset, reset after saving, cut, trickle";
const UNCLEAR = rowsOf({
  Discord: `${FOR_BOTH}, cut cleanly, html 200, no-id`,
  Slack: `${FOR_BOTH}, internal_error`,
});

describe("an unclear answer", () => {
  test.each(UNCLEAR)("%s %s: tried again and marked", async (way, fault) => {
    using scene = new SendingScene(way, ...longLines(1, 3));
    scene.fail(fault);
    await scene.pass();
    scene.expectAllOnce(longLines(1, 3));
    const marks = scene.contents().map((text) => text.includes(`${RESENT}\n\`\`\`\n`));
    const isSaved = / after saving|cut|trickle|no-id/.test(fault);
    expect(marks).toEqual(isSaved ? [false, true, false, false] : [true, false, false]);
  });

  test.each(UNCLEAR)("%s %s: three tries a run, two marked, then 75", async (way, fault) => {
    using scene = new SendingScene(way, ...longLines(1, 2));
    scene.failAlways(fault);
    expect(await scene.run()).toMatchObject({ code: 75, out: "" });
    expect(scene.marks()).toEqual([false, true, true]);
    scene.failAlways(undefined);
    scene.wait(2 * MINUTE);
    await scene.expectCode(0);
    expect(scene.marks()).toEqual([false, true, true, true, false]);
    scene.expectAllOnce(longLines(1, 2));
  });

  test.each(WAYS)("of %s pauses for a minute, doubling to ten", async (way) => {
    using scene = new SendingScene(way, line(1));
    scene.failAlways("reset");
    const asked = await askedAt(scene, 75, 10 * SECOND, HOUR);
    const gaps = asked.slice(1).map((at, index) => at - (asked[index] ?? 0));
    for (const [index, minutes] of [1, 2, 4, 8, 10].entries())
      expect(gaps[index]).toBeWithin(minutes, minutes + 0.5);
  });

  test("what comes again is the same lines, marked, whatever stands behind them", async () => {
    using scene = new SendingScene("Discord", ...lines(1, 60));
    scene.fail("reset after saving");
    await scene.pass();
    scene.expectAllOnce(lines(1, 60));
    const [first, again, ...rest] = scene.contents();
    expect(again).toBe(`${RESENT}\n${first}`);
    for (const content of rest) expect(content).not.toContain(RESENT);
  });

  test("on a notice that stands alone is marked as well", async () => {
    using scene = new SendingScene("Discord", ...lines(1, 5));
    await scene.pass();
    fs.truncateSync(scene.log, Buffer.byteLength(`${lines(1, 2).join("\n")}\n`));
    scene.fail("reset after saving");
    await scene.pass();
    const notices = scene.contents().slice(1);
    expect(notices.map((text) => text.includes("may be missing"))).toEqual([true, true]);
    expect(notices.map((text) => text.includes(RESENT))).toEqual([false, true]);
  });

  test("that never ends is cut off, and no more than a reply's worth of it is read", async () => {
    using scene = new SendingScene("Discord", line(1));
    let pulled = 0;
    scene.answerWith(() => {
      const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
        pulled++;
        controller.enqueue(new Uint8Array(16 * 1024).fill(32));
      };
      return new Response(new ReadableStream({ pull }));
    });
    await scene.expectCode(75);
    expect(pulled).toBeLessThan(100);
  });
});

test.each<[string, object, string[]]>([
  ["in another format", {}, ["--format", "compact", "--jail", "sshd"]],
  ["behind a notice that takes some of its room", { notice: `⚠️ ${"n".repeat(900)}\n` }, []],
])("what was in doubt comes again marked: %s", async (_, changes, flags) => {
  const numberOf = (text: string) => text.replace(/.* /, "");
  using scene = await SendingScene.going();
  scene.append(...lines(3, 60));
  scene.failAlways("502 after saving");
  await scene.expectCode(75);
  scene.failAlways(undefined);
  scene.wait(HOUR);
  const { checksum: _sum, ...state } = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
  Object.assign(state.destinations.discord, changes);
  fs.writeFileSync(scene.stateFile(), sealState(state));
  const seen = new Set(scene.discord.lines().map(numberOf));
  const before = scene.contents().length;
  await scene.expectCode(0, ...flags);
  const fresh = scene.contents().slice(before);
  for (const content of fresh) {
    const isSeen = fencedLines([content]).some((text) => seen.has(numberOf(text)));
    expect(content.includes(RESENT)).toBe(isSeen);
  }
  expect(fresh.length).toBeGreaterThan(1);
  expect(numberOf(scene.discord.lines().at(-1) ?? "")).toBe("60");
});

describe("a message that provably was not sent", () => {
  const codes = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "ENETUNREACH", "CERT_HAS_EXPIRED"];

  test.each(codes)("%s is tried again without a mark", async (code) => {
    using scene = new SendingScene("Discord", ...longLines(1, 2));
    scene.fail(...Array(5).fill(`refused ${code}`));
    await scene.pass();
    scene.expectArrived(...longLines(1, 2));
    expect(scene.notices()).toEqual([]);
  });

  test.each(WAYS)("to %s: seven tries, ever slower; the next run at once", async (way) => {
    using scene = new SendingScene(way, line(1));
    scene.failAlways("refused");
    await scene.expectCode(75);
    const times = scene.times();
    expect(times).toHaveLength(7);
    expect(times.at(-1)).toBeWithin(MINUTE / 2, 3 * MINUTE);
    const gaps = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    expect(gaps).toEqual(gaps.toSorted((a, b) => a - b));
    await scene.recovers(0, line(1));
    expect(scene.notices()).toEqual([]);
  });

  test("stays within --max-time", async () => {
    using scene = new SendingScene("Discord", line(1));
    scene.failAlways("refused");
    const before = scene.clockMs;
    await scene.expectCode(75, "--max-time", "5");
    expect(scene.clockMs - before).toBeLessThanOrEqual(5 * SECOND);
  });

  test("after one that may have been is still marked", async () => {
    using scene = new SendingScene("Discord", line(1));
    scene.fail("reset after saving");
    scene.failAlways("refused");
    await scene.expectCode(75);
    await scene.repeats(0, [line(1)]);
    expect(scene.contents().length).toBe(2);
  });
});

// ── Dead, locked, misconfigured ─────────────────────────────────────────────────────────────────

const DEAD = rowsOf({
  Discord: "404 10003, 404 10015, 403 50001, 403 50013, 401 50027",
  Slack: "channel_not_found, not_in_channel, invalid_auth, is_archived, missing_scope",
  "Slack's webhook": "404 no_service, 410 channel_is_archived",
});
test.each(DEAD)("a known refusal is 69, asked again after a day: %s %s", async (way, fault) => {
  using scene = await SendingScene.waiting(way, fault);
  const first = await scene.expectCode(69);
  const says = `^f2b-watch: (Discord|Slack): [^\n]*\\([^\n]*${fault.replace(/.* /, "")}\\); 1 line waits\nhint: .+\n$`;
  expect(first.err).toMatch(new RegExp(says));
  expect(first.err).not.toMatch(/http|XXXX|xoxb-\d|tok-en_/);
  expect(scene.newRequests()).toBe(1);
  // Other settings than where it posts to change nothing.
  if (way === "Slack") scene.env["SLACK_ICON"] = ":x:";
  expect(await askedAt(scene, 69, 20 * MINUTE, 2 * DAY)).toEqual([24 * 60]);
  scene.failAlways(undefined);
  scene.wait(DAY);
  const { err } = await scene.expectCode(0);
  expect(err).toMatch(/^f2b-watch: (Discord|Slack) works again\n$/);
  scene.expectPosted(line(3));
});

const saying = (status: number, body: string) => ({ kind: "status", status, body }) as const;
test.each<[Way, Fault | string]>([
  ["Discord", saying(403, "error code: 1010")],
  ["Discord", saying(404, "<html>not here</html>")],
  ...rowsOf({ Discord: "401, 403 40333, 410", Slack: "brand_new_trouble" }),
])("a refusal of no known code is 69, for an hour: %s %j", async (way, fault) => {
  using scene = await SendingScene.waiting(way, fault);
  expect(await askedAt(scene, 69, 5 * MINUTE, 181 * MINUTE)).toEqual([0, 60, 120, 180]);
  await scene.recovers(HOUR, line(3));
});

describe("a refusal that is configuration: 78, reported and asked ever more rarely", () => {
  const thread = { thread_id: { _errors: [{ code: "NUMBER_TYPE_COERCE", message: "no" }] } };
  test.each<[Way, Fault | string]>([
    ["Discord", { kind: "code", status: 400, code: 50035, errors: thread }],
    ...rowsOf({
      Discord: "400 50041, 400 50083, 400 160005, 400 220001, 405 0",
      Slack: "invalid_blocks",
    }),
  ])("%s %j", async (way, fault) => {
    using scene = await SendingScene.waiting(way, fault);
    await scene.expectCode(78);
    const told = await scene.reports(30 * MINUTE, 3 * DAY);
    expect(told.map((text) => text.split(":")[0])).toEqual(["1 h", "25 h", "49 h"]);
    const asked = scene.times().slice(-scene.newRequests());
    const hours = asked.map((at) => Math.floor((at - (asked[0] ?? 0)) / HOUR));
    expect(hours).toEqual([0, 1, 3, 7, 15, 31, 55]);
    scene.failAlways(undefined);
    if (way === "Discord") scene.env["DISCORD_WEBHOOK"] += "?thread_id=99";
    else scene.wait(DAY);
    await scene.expectCode(0);
    scene.expectPosted(line(3));
  });

  test.each([301, 302, 303, 307, 308])("a redirect, %d, is not followed", async (status) => {
    using scene = await SendingScene.waiting();
    const headers = { location: "https://discord.com/elsewhere" };
    scene.failAlways({ kind: "status", status, headers, body: "" });
    const { err } = await scene.expectCode(78);
    expect(err).toMatch(/^f2b-watch: Discord: .*redirect/);
    await scene.recovers(DAY, line(3));
  });
});

test.each([40006, 130000])("%d is for the moment: 75, asked more and more rarely", async (code) => {
  using scene = await SendingScene.waiting("Discord", `400 ${code}`);
  await scene.expectCode(75);
  const told = await scene.reports(MINUTE, DAY);
  expect(told.map((text) => text.split(":")[0])).toEqual(["1 h"]);
  expect(scene.newRequests()).toBeWithin(24, 36);
});

describe("a destination that refused is called at once when its settings change", () => {
  const onPtb = (url: string) =>
    url.replace("/api/", "/api/v10/").replace("discord", "ptb.discord");
  test.each<[string, string, (url: string) => string]>([
    ["thread", "404 10003", (url) => `${url}?thread_id=77`],
    ["thread, without a code,", "404", (url) => `${url}?thread_id=77`],
    ["URL", "404 10003", onPtb],
  ])("%s", async (_, fault, change) => {
    using scene = await SendingScene.waiting();
    scene.fail(fault);
    await scene.expectCode(69);
    scene.wait(MINUTE);
    await scene.expectCode(69);
    expect(scene.newRequests()).toBe(1);
    scene.env["DISCORD_WEBHOOK"] = change(scene.discord.webhook);
    await scene.recovers(0, line(3));
  });

  test("once for each that is dead, too", async () => {
    using scene = await SendingScene.waiting();
    const good = scene.discord.webhook;
    for (const id of ["999", "998", "998", "998"]) {
      scene.env["DISCORD_WEBHOOK"] = good.replace("1234567890123456789", id);
      await scene.expectCode(69);
      scene.wait(MINUTE);
    }
    expect(scene.newRequests()).toBe(2);
    scene.env["DISCORD_WEBHOOK"] = good;
    await scene.recovers(0, line(3));
  });
});

test("76: dead for days, across rotations: afterwards all that still exists, in order", async () => {
  using scene = await SendingScene.going();
  scene.discord.delete();
  for (let day = 0; day < 4; day++) {
    scene.append(...lines(3 + day * 10, 12 + day * 10));
    await scene.expectCode(69);
    scene.rotate();
    scene.wait(DAY);
  }
  scene.compress(".3");
  scene.discord.restore();
  await scene.recovers(0, ...lines(3, 42));
  expect(scene.notices()).toEqual([]);
});

const UNCONFIRMED = rowsOf({ Discord: "empty-204", Slack: "no-ts" });
test.each(UNCONFIRMED)("what %s does not confirm counts, told once: %s", async (way, fault) => {
  using scene = new SendingScene(way, ...longLines(1, 3));
  scene.failAlways(fault);
  const err = `f2b-watch: ${way} accepts messages without confirming them\n`;
  expect(await scene.run()).toEqual({ code: 0, out: "", err });
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
    using scene = new SendingScene("Discord", ...lines(1, 49), "poison", ...lines(51, 100));
    scene.discord.refuseContent((content) => content.includes("poison"), { inFiles: false });
    await scene.pass();
    const withFile = scene.discord.messages.filter(({ files }) => files.length > 0);
    expect(withFile).toMatchObject([{ files: [{ name: "fail2ban.log", text: "poison\n" }] }]);
    expect(withFile[0]?.content).toContain("web-1");
    scene.expectPosted(...lines(1, 49), ...lines(51, 100));
    expect(fs.existsSync(scene.rejected())).toBe(false);
    await scene.expectQuiet();
  });

  test("goes as a file once, wherever the run is killed: marked when it may be a repeat", async () => {
    using scene = new SendingScene("Discord", line(1), "poison", line(3));
    scene.discord.refuseContent((content) => content.includes("poison"), { inFiles: false });
    scene.answerWith((text) => {
      if (text.includes('"content"')) scene.fail("reset after saving");
      return undefined;
    });
    expect((await scene.run()).code).not.toBe(70);
    const withFile = scene.discord.messages.filter(({ files }) => files.length > 0);
    const marks = withFile.map(({ content }) => content.includes(RESENT));
    expect(marks).toEqual(marks.map((_, index) => index > 0));
  });

  test.each(WAYS)("by %s is found by halving, kept in private, told once", async (way) => {
    using scene = new SendingScene(way, ...lines(1, 49), "poison", ...lines(51, 100));
    scene.refusePoison();
    const { err } = await scene.setsAside("poison\n", ...lines(1, 49), ...lines(51, 100));
    const says = `^f2b-watch: ${way} refused a line: [^\n]*\nhint: [^\n]*\\.rejected\n$`;
    expect(err).toMatch(new RegExp(says));
    expect(fs.statSync(scene.rejected()).mode & 0o777).toBe(0o600);
    expect(scene.notices()).toEqual([expect.stringContaining(basename(scene.rejected()))]);
    expect(scene.notices()[0]).toContain("web-1");
    expect(scene.newRequests()).toBeLessThan(30);
    await scene.expectQuiet();
  });

  test("is found although no run has time for more than four tries", async () => {
    using scene = new SendingScene("Slack", "poison", ...lines(2, 22));
    scene.refusePoison();
    for (let run = 0; run < 4; run++) await scene.run("--max-time", "4");
    expect(scene.kept()).toBe("poison\n");
    scene.expectPosted(...lines(2, 22));
    await scene.expectQuiet();
  });

  test.each([
    ["first", ["poison", ...lines(2, 30)]],
    ["last", [...lines(1, 29), "poison"]],
    ["the only one", ["poison"]],
    ["beside another", [...lines(1, 9), "poison", "poison", ...lines(10, 30)]],
    ["far from another", ["poison", ...lines(1, 60), "poison", ...lines(61, 90), "poison"]],
  ])("may be the %s of its message", async (_, texts) => {
    using scene = new SendingScene("Discord", ...texts);
    scene.refusePoison();
    const good = texts.filter((text) => text !== "poison");
    await scene.setsAside("poison\n".repeat(texts.length - good.length), ...good);
    await scene.expectQuiet();
    scene.append(line(99));
    await scene.run();
    for (const notice of scene.notices()) expect(notice).toContain(".rejected");
    expect(scene.notices()).not.toEqual([]);
    scene.expectPosted(line(99));
  });

  test("has its notice in the channel also when the run ends right behind it", async () => {
    using scene = new SendingScene("Discord", "poison", line(2));
    scene.discord.refuseContent((content) => {
      if (content === "poison\n") scene.stop.abort();
      return content.includes("poison");
    });
    await scene.run();
    scene.overrides.stopping = new AbortController().signal;
    scene.discord.refuseContent(() => false);
    await scene.run();
    expect(scene.kept()).toBe("poison\n");
    expect(scene.notices()).toEqual([expect.stringContaining(".rejected")]);
    scene.expectPosted(line(2));
  });

  test.each([
    ["and the first", lines(20, 40)],
    ["and the only one", []],
  ])("%s after a gap does not take the gap's notice with it", async (_, behind) => {
    using scene = await SendingScene.going();
    scene.remove();
    scene.append("poison", ...behind);
    scene.refusePoison();
    await scene.setsAside("poison\n", ...behind);
    const notices = scene.notices().join("\n");
    for (const word of ["may be missing", ".rejected"]) expect(notices.split(word)).toHaveLength(2);
    await scene.expectQuiet();
  });

  test("that is longer than a message is kept whole, piece by piece", async () => {
    const poison = `poison ${"p".repeat(5_000)} end`;
    using scene = new SendingScene("Discord", line(1), poison, line(3));
    scene.discord.refuseContent((content) => /poison|ppp/.test(content));
    await scene.expectCode(0);
    scene.expectPosted(line(1), line(3));
    expect(scene.kept().replaceAll(/…?\n…?/g, "")).toBe(poison);
  });

  test("is kept without the secrets in it", async () => {
    using scene = new SendingScene("Discord");
    scene.append(`poison ${scene.discord.webhook} token=abcdef`);
    scene.refusePoison();
    await scene.run();
    expect(scene.kept()).toContain("poison");
    expect(scene.kept()).not.toMatch(/tok-en_|abcdef/);
  });

  const codes = "400 50006, 400 50035, 400 200000, 403 200000, 403 240000, 413 40005, 413 0";
  test.each(codes.split(", "))("may be refused with %s", async (answer) => {
    using scene = new SendingScene("Discord", ...lines(1, 9), "poison", ...lines(11, 20));
    const [status = 0, code] = answer.split(" ").map(Number);
    const errors = code === 50035 ? { content: { _errors: [] } } : undefined;
    scene.answerWith((content) =>
      content.includes("poison") ? json(status, { code, message: "no", errors }) : undefined,
    );
    await scene.setsAside("poison\n", ...lines(1, 9), ...lines(11, 20));
  });

  test("that is refused only together with its neighbours is not set aside", async () => {
    using scene = new SendingScene("Discord", ...lines(1, 30));
    scene.discord.refuseContent((content) => content.split("\n").length > 5);
    await scene.passPosts(...lines(1, 30));
    expect(fs.existsSync(scene.rejected())).toBe(false);
  });

  test("ten in a pass are set aside, with more the destination is stopped: 69", async () => {
    const poison = Array.from({ length: 25 }, (_, index) => `poison ${index}`);
    using scene = new SendingScene("Discord", ...poison, line(1));
    scene.refusePoison();
    const { err } = await scene.expectCode(69);
    expect(err.match(/refused a line/g)).toHaveLength(1);
    expect(err).toMatch(/f2b-watch: Discord: [^\n]*too many[^\n]*\n/);
    await scene.expectCode(69);
    expect(scene.kept()).toBe(`${poison.slice(0, 10).join("\n")}\n`);
    scene.discord.refuseContent(() => false);
    await scene.recovers(DAY + HOUR, ...poison.slice(10), line(1));
  });

  test("after an unclear answer keeps its marks right", async () => {
    using scene = new SendingScene("Discord", ...lines(1, 5), "poison", ...lines(7, 30));
    scene.refusePoison();
    scene.fail("reset after saving");
    await scene.expectCode(0);
    scene.expectAllOnce([...lines(1, 5), ...lines(7, 30)]);
  });
});

test("files of 1 MiB at most: 7 MB go in about eight posts, halved once and for all", async () => {
  using scene = new SendingScene("Discord");
  scene.write(Array.from({ length: 75_000 }, (_, index) => `${line(index)}\n`).join(""));
  expect(fs.statSync(scene.log).size).toBeWithin(6_500_000, 8_000_000);
  scene.onFetch(async (wire, url, init) => {
    const body = await new Response(init.body).arrayBuffer();
    if (body.byteLength > 1024 * 1024) scene.fail({ kind: "status", status: 413 });
    return wire(url, { ...init, body });
  });
  await scene.expectCode(0, "--inline", "20");
  expect(scene.newRequests()).toBeWithin(8, 12);
  const files = scene.discord.messages.flatMap(({ files }) => files.map(({ text }) => text));
  expect(files.join("") === scene.read()).toBe(true);
});

test.each([25, 1_000])("where no file is taken, %d lines are one summary", async (count) => {
  using scene = new SendingScene("Discord", ...lines(1, count));
  const isForm = (text: string) => text.startsWith('{"content"');
  scene.answerWith((text) => (isForm(text) ? json(413, { code: 40005 }) : undefined));
  await scene.pass("--inline", "1");
  expect(scene.contents()).toEqual([expect.stringMatching(/too many to show.*first: .*last: /s)]);
  expect(scene.contents()[0]).toContain(`**${count.toLocaleString("en")} lines**`);
  await scene.expectQuiet();
});

// ── Secrets ─────────────────────────────────────────────────────────────────────────────────────

describe("no secret is told", () => {
  /** Neither the URL nor parts of it, nowhere but on the wire. */
  function expectNoSecret(scene: SendingScene, { out, err }: RunResult): void {
    const secret = /tok-en_|123456789012345|https?:|webhooks|xoxb-0|XXXX|verbose: true/;
    const read = (name: string) => fs.readFileSync(join(scene.state, name), "utf8");
    for (const text of [out, err, ...fs.readdirSync(scene.state).map(read)])
      expect(text).not.toMatch(secret);
  }

  const faults: [Way, Fault | string][] = [
    ...UNCLEAR,
    ...rowsOf({
      Discord:
        "refused, refused ENOTFOUND, refused Malformed_HTTP_Response, " +
        "cloudflare, empty-204, 404 10015, 403 0, 400 50006",
      Slack: "invalid_auth",
      "Slack's webhook": "404 no_service, refused",
    }),
    ["Discord", { kind: "redirect", location: "https://discord.com/elsewhere" }],
    ["Discord", { kind: "rate-limit", retryAfterS: 1_000 }],
    ["Discord", { kind: "code", status: 400, code: 50041, message: "https://discord.com" }],
    ["Discord", { kind: "code", status: 400, code: 50035, errors: { username: {} } }],
    ["Slack", { kind: "error", error: "x\n https://hooks.slack.com/T" }],
  ];
  test.each(faults)("when the answer of %s is %j", async (way, fault) => {
    using scene = new SendingScene(way, ...lines(1, 2));
    scene.overrides.terminal = true;
    scene.failAlways(fault);
    const result = await scene.run("--verbose");
    expect(result.err).not.toBe("");
    expectNoSecret(scene, result);
  });

  test.each([true, false])("when fetch throws them; as an error: %p", async (isError) => {
    using scene = new SendingScene("Discord", line(1));
    const thrown = (url: string) => (isError ? new Error(`of ${url}`, { cause: url }) : url);
    scene.onFetch((_, url) => Promise.reject(thrown(url)));
    expectNoSecret(scene, await scene.expectCode(75, "--verbose"));
  });

  test("when all is well", async () => {
    using scene = new SendingScene("both", ...lines(1, 200));
    scene.overrides.terminal = true;
    expectNoSecret(scene, await scene.run("--verbose"));
  });
});

// ── Reports ─────────────────────────────────────────────────────────────────────────────────────

describe("a failure that lasts is told when it begins, after an hour, then daily, and once when over", () => {
  const lasting = rowsOf({
    Discord: "refused, 502, cloudflare, 404 10015, 403",
    Slack: "refused, not_in_channel",
  });
  test.each(lasting)("%s %s", async (way, fault) => {
    using scene = await SendingScene.waiting(way, fault);
    const told = await scene.reports(30 * MINUTE, 3 * DAY);
    expect(told.map((text) => text.split(":")[0])).toEqual(["0 h", "1 h", "25 h", "49 h"]);
    for (const text of told)
      expect(text).toMatch(/^\d+ h: f2b-watch: \w+: [^\n]+; 1 line waits\nhint: [^\n]+\n$/);
    scene.failAlways(undefined);
    scene.wait(DAY);
    const after = await scene.reports(HOUR, 2 * DAY);
    expect(after).toEqual([`0 h: f2b-watch: ${way} works again\n`]);
    scene.expectArrived(line(3));
  });

  test("one that comes back is told anew", async () => {
    using scene = await SendingScene.going();
    for (let number = 3; number <= 5; number++) {
      scene.append(line(number));
      scene.failAlways("refused");
      expect((await scene.run()).err).toContain("cannot connect");
      scene.failAlways(undefined);
      expect((await scene.run()).err).toBe("f2b-watch: Discord works again\n");
    }
    scene.expectPosted(...lines(3, 5));
  });

  test.each([
    ["75 then 69", "refused", "404 10015", ""],
    ["with another webhook", "404 10003", "404 10003", "?thread_id=7"],
    ["with another reason, asked about after a day", "404 10003", "403 50013", ""],
    ["with another webhook, not reached either", "503", "503", "?thread_id=7"],
  ])("another one in its place is told when it begins: %s", async (_, first, second, thread) => {
    using scene = await SendingScene.waiting("Discord", first);
    await scene.reports(10 * MINUTE, 23 * HOUR);
    scene.failAlways(second);
    scene.env["DISCORD_WEBHOOK"] += thread;
    scene.wait(thread ? 10 * MINUTE : HOUR);
    expect((await scene.run()).err).toContain(second.replace(/.* /, ""));
    const told = await scene.reports(10 * MINUTE, 3 * HOUR);
    expect(told).toEqual([expect.stringMatching(/^1 h: f2b-watch: Discord: /)]);
  });

  const varied = ["503, 502, 504, hang, refused, refused ENOTFOUND", "403, 401, 410, 404"];
  test.each(varied)("one that words itself anew each time is one: %s", async (faults) => {
    using scene = await SendingScene.waiting();
    const told: string[] = [];
    for (let hour = 0; hour < 12; hour++) {
      scene.failAlways(faults.split(", ")[hour % faults.split(", ").length]);
      scene.append(line(4 + hour));
      told.push(...(await scene.reports(20 * MINUTE, 40 * MINUTE)));
      scene.wait(20 * MINUTE);
    }
    expect(told).toHaveLength(2);
  });

  test("a log that cannot be read is told in the same way", async () => {
    using scene = await SendingScene.going();
    fs.renameSync(scene.log, join(scene.directory, "aside"));
    const told = await scene.reports(10 * MINUTE, 2 * DAY);
    expect(told.map((text) => text.split(":")[0])).toEqual(["0 h", "1 h", "25 h"]);
    fs.mkdirSync(scene.log);
    expect((await scene.run()).err).toContain("not a regular file");
    fs.rmdirSync(scene.log);
    fs.renameSync(join(scene.directory, "aside"), scene.log);
    const after = await scene.reports(10 * MINUTE, DAY);
    expect(after).toEqual([`0 h: f2b-watch: ${scene.log} can be read again\n`]);
  });

  test("a clock that was put back does not silence it", async () => {
    using scene = await SendingScene.waiting("Discord", "refused");
    await scene.reports(30 * MINUTE, 2 * HOUR);
    scene.wait(-30 * DAY);
    expect((await scene.reports(30 * MINUTE, 3 * DAY)).length).toBeWithin(3, 6);
  });

  test("time that is up is told like any other", async () => {
    using scene = new SendingScene("Discord", ...longLines(1, 60));
    const { err } = await scene.expectCode(75, "--max-time", "10");
    expect(err).toMatch(/^f2b-watch: Discord: time is up[^\n]*\n$/);
  });

  test.each([
    [400, 50041, 78],
    [404, 10015, 69],
  ])("of %d %d and a dead network it is %d", async (status, code, worse) => {
    using scene = new SendingScene("both", line(1));
    scene.fail({ kind: "code", status, code });
    scene.slack.failAlways({ kind: "refused" });
    await scene.expectCode(worse);
  });
});

// ── Crash and delivery ──────────────────────────────────────────────────────────────────────────

/** The run is asked to stop while it does this; what comes later is not. */
async function stoppedRun(scene: SendingScene): Promise<RunResult> {
  const result = await scene.run();
  Object.assign(scene.overrides, {
    stopping: new AbortController().signal,
    fetch: scene.wire,
    sleep: async (ms: number) => scene.wait(ms),
  });
  return result;
}

describe("stopped, or held up", () => {
  test.each(["before", "after"])("78: SIGTERM %s the answer: it is finished", async (when) => {
    using scene = new SendingScene("Discord", ...longLines(1, 4));
    scene.onFetch(async (wire, ...call) => {
      const isSecond = scene.discord.requests.length === 1;
      if (isSecond && when === "before") scene.stop.abort();
      const response = await wire(...call);
      if (isSecond && when === "after") scene.stop.abort();
      return response;
    });
    expect((await stoppedRun(scene)).code).toBe(75);
    scene.expectPosted(...longLines(1, 2));
    await scene.recovers(MINUTE, ...longLines(3, 4));
    expect(scene.notices()).toEqual([]);
  });

  test("78: SIGTERM during the last message is success", async () => {
    using scene = new SendingScene("Discord", line(1));
    scene.onFetch((wire, ...call) => {
      scene.stop.abort();
      return wire(...call);
    });
    await scene.passPosts(line(1));
  });

  test.each<[string, string | undefined]>([
    ["its turn", undefined],
    ["a retry", "refused"],
  ])("78: SIGTERM while it waits for %s leaves at once", async (_, fault) => {
    using scene = new SendingScene("Discord", ...longLines(1, 40));
    scene.failAlways(fault);
    scene.overrides.sleep = async () => scene.stop.abort();
    const before = scene.clockMs;
    expect((await stoppedRun(scene)).code).toBe(75);
    expect(scene.clockMs).toBe(before);
    const sent = scene.newlyPosted();
    expect(sent).toEqual(longLines(1, sent.length));
    await scene.recovers(0, ...longLines(sent.length + 1, 40));
    expect(scene.notices()).toEqual([]);
  });

  test("73: 5xx for three runs while two rotations happen: then everything, in order, repeats marked", async () => {
    using scene = await SendingScene.going();
    scene.failAlways("500 after saving");
    for (let round = 0; round < 3; round++) {
      scene.append(...lines(3 + round * 5, 7 + round * 5));
      await scene.expectCode(75);
      scene.wait(5 * MINUTE);
      if (round < 2) scene.rotate();
    }
    await scene.repeats(10 * MINUTE, lines(1, 17));
  });
});

test("a restart that is seen in its middle is one line", async () => {
  using scene = await SendingScene.going();
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
  expect(scene.contents().slice(1)).toEqual([expect.stringContaining("301 bans restored")]);
});

// ── A real socket ───────────────────────────────────────────────────────────────────────────────

test.each<[string, number, (url: string) => string]>([
  ["a redirect", 78, (url) => url],
  ["no server", 75, (url) => url.replace(/:\d+/, ":1")],
  ["a server without TLS", 75, (url) => url.replace("http:", "https:")],
])("over a real socket: %s", async (_, code, change) => {
  using scene = new SendingScene("Discord", ...longLines(1, 2));
  const { stop } = scene.discord.serve();
  try {
    scene.env["DISCORD_WEBHOOK"] = change(scene.discord.webhook);
    scene.onFetch((_, url, init) => fetch(url, init));
    scene.overrides.timeout = () => AbortSignal.timeout(10_000);
    scene.failAlways({ kind: "redirect", location: "http://127.0.0.1:1/elsewhere" });
    const { err } = await scene.expectCode(code, "--verbose");
    expect(err).not.toMatch(/tok-en_|https?:|webhooks/);
    expect(scene.newRequests()).toBe(code === 78 ? 1 : 0);
    scene.env["DISCORD_WEBHOOK"] = scene.discord.webhook;
    await scene.recovers(DAY, ...longLines(1, 2));
    expect(scene.notices()).toEqual([]);
  } finally {
    stop();
  }
});

// ── What services answer ────────────────────────────────────────────────────────────────────────

describe("an answer", () => {
  const error = (code: number, field?: string) =>
    JSON.stringify({ code, ...(field && { errors: { [field]: {} } }) });
  /** Of each meaning the answers: a status, and the body behind it. */
  const meanings: Record<(typeof WAYS)[number], Partial<Record<Verdict["kind"], string>>> = {
    Discord: {
      confirmed: '200 {"id":"1"} | 201 {"id":"1"} | 202 {"id":"1"}',
      unproven: "204",
      unclear: `200 | 200 {} | 200 {"id":""} | 200 {"id":1} | 200 [] | 200 null | 200 "id" | 200 ok |
        200 <html> | 200 {"id":"1" | 500 | 503 ${error(0)} | 408`,
      busy: `503 ${error(130000)} | 400 ${error(40006)} | 400 ${error(20016)} | 403 ${error(40062)} |
        400 ${error(20028)}`,
      denied: `404 ${error(0)} | 403 error code: 1010 | 410`,
      dead: `404 ${error(10015)}`,
      refused: `400 ${error(50035, "content")}`,
      badName: `400 ${error(50035, "username")}`,
      misconfigured: `400 ${error(50035, "thread_id")} | 400 ${error(50035)} | 400 ${error(50083)} | 400 | 302`,
      tooLarge: `413 ${error(40005)} | 413 <html>`,
    },
    Slack: {
      confirmed: '200 ok | 200 {"ok":true,"ts":"1.2"}',
      unproven: '200 {"ok":true} | 200 {"success":true} | 200 | 201 | 202 accepted | 204',
      refused: '200 {"ok":true,"ts":"1.2","warning":"message_truncated"} | 400 no_text',
      dead:
        '200 {"ok":false,"error":"channel_not_found"} | 200 no_service | 403 invalid_token | ' +
        "404 no_service | 410 channel_is_archived",
      denied:
        '200 {"ok":false,"error":"brand_new"} | 200 {"ok":false,"err | 200 {"success":false} | 403 something',
      misconfigured: '200 {"ok":false,"error":"invalid_blocks"} | 400 invalid_payload',
      limited: "429",
      unclear:
        "500 rollup_error | 200 fatal_error | 200 internal_error | 408 request_timeout | 503",
      busy: "503 service_unavailable",
    },
  };
  const rows = WAYS.flatMap((way) =>
    Object.entries(meanings[way]).flatMap(([kind, answers]) =>
      answers.split(/\s*\|\s*/).map((answer) => [way, answer, kind] as const),
    ),
  );
  test.each(rows)("of %s, %s, is %s", (way, answer, kind) => {
    const service = way === "Slack" ? SLACK : DISCORD;
    const [, status = "", body = ""] = /^(\d+) ?(.*)$/.exec(answer) ?? [];
    const verdict = readReply(service, { status: Number(status), body, headers: {} });
    expect(verdict.kind).toBe(kind as Verdict["kind"]);
    if (/_error|_timeout|^5/.test(answer) && kind === "unclear")
      expect(verdict.hint).toStartWith("usually temporary");
  });

  test("names status and code, and never the body's words", () => {
    const body = '{"code":10015,"message":"https://discord.com/api/webhooks/1/x"}';
    const { why } = readReply(DISCORD, { status: 404, body, headers: {} });
    expect(why).toBe("the webhook was deleted (404, code 10015)");
    const html = { status: 404, body: "<html>secret</html>", headers: {} };
    expect(readReply(SLACK, html).why).toBe("access refused (404)");
  });
});

describe("an error of fetch", () => {
  const url = "https://discord.com/api/v10/webhooks/1/secret";
  /** As Bun has it: its code is the first word. */
  const bun = (message: string, at = url) => {
    const code = message.replace(/[ :].*/, "");
    return Object.assign(new TypeError(message), { code, path: at, errno: 0 });
  };
  const deno = (cause: string) => new TypeError("fetch failed", { cause: new Error(cause) });
  const connecting = (what: string) =>
    deno(`error sending request for url (${url}): client error (Connect): ${what}`);
  const redirect = "Fetch failed: Encountered redirect while redirect mode is set to 'error'";
  const closed = `${url}redirect (1.2.3.4:443): client error (SendRequest): connection closed`;
  const kinds: Partial<Record<Verdict["kind"], unknown[]>> = {
    unsent: [
      ...`ECONNREFUSED: Unable to connect.
        ENOTFOUND getaddrinfo ENOTFOUND discord.com
        EAI_AGAIN getaddrinfo EAI_AGAIN discord.com
        EHOSTUNREACH: Unable to connect.
        ENETUNREACH: Was there a typo in the url or port?
        DEPTH_ZERO_SELF_SIGNED_CERT self signed certificate
        CERT_HAS_EXPIRED certificate has expired
        ERR_TLS_CERT_ALTNAME_INVALID Hostname does not match
        UNABLE_TO_GET_ISSUER_CERT_LOCALLY unable to get issuer
        ERR_PROXY_TUNNEL Proxy refused to open a tunnel: 407 No
        UnsupportedProxyProtocol fetching "${url}".
        EPROTO: The TLS handshake failed. Does the server speak TLS?`
        .split(/\n\s*/)
        .map((each) => bun(each)),
      ...`unsuccessful tunnel
        tcp connect error: Connection refused (os error 111)
        dns error: failed to lookup address information
        tcp connect error: Network is unreachable
        invalid peer certificate: Other(CaUsedAsEndEntity)
        received corrupt message of type InvalidContentType
        tls handshake eof`
        .split(/\n\s*/)
        .map((each) => connecting(each)),
    ],
    unclear: [
      bun("ECONNRESET: The socket connection was closed unexpectedly."),
      bun(`Malformed_HTTP_Response fetching "${url}cert".`, `${url}cert`),
      deno("Connection reset by peer (os error 104)"),
      deno(`error sending request from 127.0.0.1:1 for ${closed}`),
      new TypeError("error reading a body from connection"),
      new DOMException("The operation timed out.", "TimeoutError"),
      new DOMException("The operation was aborted.", "AbortError"),
      ...["ECONNREFUSED", undefined, null, new Error(""), new Error(url), bun(url), deno(url)],
      Object.assign(new Error(), { name: url }),
    ],
    misconfigured: [bun(`UnexpectedRedirect fetching "${url}".`), new TypeError(redirect)],
  };
  for (const [kind, errors] of Object.entries(kinds)) {
    test.each(errors.map((each) => [String(each), each]))(`%s is ${kind}`, (_, each) => {
      const verdict = readFetchError(each);
      expect(verdict.kind).toBe(kind as Verdict["kind"]);
      expect(JSON.stringify(verdict)).not.toMatch(/secret|http/);
    });
  }
});
