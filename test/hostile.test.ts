/**
 * What nobody should send us: random and mutated bytes as log, state, env file and answers; a server that
 * lies; 500 passes at once. `HOSTILE_SEED` begins elsewhere, `HOSTILE_ROUNDS` multiplies the rounds.
 */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { sealState, stateFileName } from "../f2b-watch.ts";
import { FIXTURES, LOGS } from "./events.ts";
import { DONE, compiled, HOUR, line, lines, Scene } from "./harness.ts";
import type { RunResult, State } from "./harness.ts";
import { dice } from "./histories.ts";
import { Machine } from "./machine.ts";
import { addSlack } from "./slack.ts";

setDefaultTimeout(10 * 60_000);
beforeAll(() => void compiled());

const firstSeed = Number(process.env["HOSTILE_SEED"] ?? 1);
const factor = Number(process.env["HOSTILE_ROUNDS"] ?? 1);
const KEPT = '{"id":"1234567890123456789","type":0,"content":"x","channel_id":"2"}';
const FORMATS = ["raw", "compact", "events"];

/** One test of many rounds, each with dice of its own; what fails names the round's seed. */
function fuzz(name: string, rounds: number, round: (random: Random) => Promise<void>): void {
  test(`${name} (HOSTILE_SEED=${firstSeed}, ${rounds * factor} rounds)`, async () => {
    for (let seed = firstSeed; seed < firstSeed + rounds * factor; seed++) {
      try {
        await round(new Random(seed));
      } catch (error) {
        throw new Error(`HOSTILE_SEED=${seed}: ${error instanceof Error ? error.message : error}`);
      }
    }
  });
}

// ── Random bytes ────────────────────────────────────────────────────────────────────────────────

const REAL_LINES = LOGS.flatMap((name) =>
  fs.readFileSync(join(FIXTURES, name), "latin1").split("\n").slice(0, 400),
);

/** What has a meaning somewhere: to a fence, a terminal, a regex, JSON, UTF-8, Slack, Discord. */
const PIECES = [
  "` `` ``` ```` \n \r \r\n \0 \t \x1b[31m \x7f \x85 \xff \xc3 \xe2\x80\xae \xf0\x9f\x98\x80",
  '@everyone <@1> <!channel> <http://x|y> &amp; & < > \\ \\n \\" \' " { } [ ] : , = - | / ; …',
  "key= token= secret= password= Authorization: -u webhooks/ xoxb- /bot1: user:pass@ ]: [x] Ban",
  "null true 1e999 -1 0 9007199254740993 \\ud800 __proto__ constructor (resent) ~~~ ansi",
].flatMap((texts) => texts.split(" "));

class Random {
  readonly roll: () => number;

  constructor(seed: number) {
    this.roll = dice(seed);
  }

  below(limit: number): number {
    return Math.floor(this.roll() * limit);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  /** Text of which each character is a byte. */
  bytes(length: number): string {
    return Array.from({ length }, () => String.fromCharCode(this.below(256))).join("");
  }

  /** The text with a few places changed: cut out, doubled, overwritten, or something put in. */
  mutate(text: string, changes = 1 + this.below(6)): string {
    let result = text;
    for (let change = 0; change < changes; change++) {
      const at = this.below(result.length + 1);
      const end = at + this.below(20);
      const put = [
        "",
        result.slice(at, end).repeat(1 + this.below(3)),
        this.bytes(1 + this.below(8)),
        this.pick(PIECES),
        this.pick(PIECES).repeat(this.below(60)),
      ];
      result = result.slice(0, at) + this.pick(put) + result.slice(this.roll() < 0.5 ? at : end);
    }
    return result;
  }
}

// ── The log ─────────────────────────────────────────────────────────────────────────────────────

/** Wild lines with secrets in some of them. */
function hostileLines(random: Random, count: number, secrets: readonly string[]): string[] {
  return Array.from({ length: count }, () => {
    const base = random.roll() < 0.1 ? random.bytes(random.below(300)) : random.pick(REAL_LINES);
    const secret = random.roll() < 0.2 ? random.pick(secrets) : "";
    const long = random.roll() < 0.02 ? random.pick(PIECES).repeat(random.below(3_000)) : "";
    return `${random.mutate(base)}${secret}${long}\n`;
  });
}

const INVISIBLE = /(?![\t\n\u200b])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/** What is wrong with a text that is shown, whatever else it is. */
function wrongText(text: string): string[] {
  return [
    ...(text.length >= 2_000 ? [`${text.length} characters`] : []),
    ...(INVISIBLE.test(text) ? ["something invisible"] : []),
    ...(text.isWellFormed() ? [] : ["half a character"]),
    ...(text.includes("S3CR3T") ? ["a secret"] : []),
  ];
}

/** The same, and that the log's lines stand in one fence. */
function wrongFence(content: string): string[] {
  const [, body] = /^[^`]*```(?:ansi)?\n([^]*)\n```$/.exec(content) ?? [];
  const open = body === undefined || body.includes("```");
  return [...wrongText(content), ...(open ? ["it is not one fence"] : [])];
}

describe("a log of random and mutated bytes", () => {
  const SHAPES = [
    " https://discord.com/api/webhooks/123/S3CR3T ",
    " https://hooks.slack.com/services/T0/B0/S3CR3T ",
    " xoxb-1-S3CR3T ",
    " token=S3CR3T ",
    " -u bob:S3CR3T ",
    " https://bob:S3CR3T@x.example/ ",
    " /bot1:S3CR3T/getMe ",
  ];

  fuzz("every line once, in well-formed messages, no secret, no ping", 20, async (random) => {
    using scene = new Scene();
    const slack = addSlack(scene);
    scene.env = { DISCORD_WEBHOOK: scene.discord.webhook, SLACK_WEBHOOK: slack.webhook };
    const own = [scene.discord.webhook, slack.webhook].map((url) => url.replace(/.*\//, ""));
    const wild = hostileLines(random, 10 + random.below(200), [...SHAPES, ...own]);
    const log = Buffer.from(wild.map((text, number) => `~${number} ${text}`).join(""), "latin1");
    const middle = random.below(log.length);
    for (const part of [log.subarray(0, middle), log.subarray(middle)]) {
      scene.write(part);
      expect(await scene.run("--inline", "0", "--max-time", "86400")).toEqual(DONE);
    }
    for (const channel of [scene.discord, slack]) {
      const text = channel.messages.map(({ content }) => content).join("\n");
      const numbers = Array.from(text.matchAll(/^~(\d+) /gm), ([, number]) => Number(number));
      expect(numbers).toEqual([...wild.keys()]);
      expect(channel.violations).toEqual([]);
      for (const { content } of channel.messages) {
        expect(wrongFence(content.replace("*web-1*\n", ""))).toEqual([]);
        for (const secret of own) expect(content).not.toContain(secret);
      }
    }
  });

  fuzz("in any view of it: well-formed messages, no secret, then quiet", 40, async (random) => {
    using scene = new Scene();
    scene.write(Buffer.from(hostileLines(random, 200, SHAPES).join(""), "latin1"));
    const kinds = ["alert", "ban", "unban", "restore", "found", "life", "other"];
    const [format, inline] = [random.pick(FORMATS), random.pick(["0", "1"])];
    const flags = ["--format", format, "--inline", inline, "--max-time", "86400"];
    if (random.roll() < 0.5) flags.push("--only", kinds.slice(random.below(7)).join());
    if (random.roll() < 0.5) flags.push("--jail", "sshd");
    if (random.roll() < 0.5) flags.push("--color");
    expect(await scene.run(...flags)).toEqual(DONE);
    expect(scene.discord.violations).toEqual([]);
    for (const { content, files } of scene.discord.messages) {
      const plain = content.replace(/\x1b\[[\d;]+m/g, "");
      const inWords = format === "events" || files.length > 0;
      expect((inWords ? wrongText : wrongFence)(plain)).toEqual([]);
      for (const { text } of files) expect(text).not.toMatch(INVISIBLE);
      for (const { text } of files) expect(text).not.toContain("S3CR3T");
    }
    await scene.expectQuiet();
  });

  test("takes time as its length: eight times as much in less than thirty times the time", async () => {
    const wild = hostileLines(new Random(firstSeed), 1_500, SHAPES).join("");
    const timed = async (log: string) => {
      using scene = new Scene();
      scene.write(Buffer.from(log, "latin1"));
      const begun = performance.now();
      for (const format of FORMATS)
        expect((await scene.run("--dry-run", "--format", format)).code).toBe(0);
      return performance.now() - begun;
    };
    await timed(wild);
    const once = Math.min(await timed(wild), await timed(wild), await timed(wild));
    expect(await timed(wild.repeat(8))).toBeLessThan(30 * once + 500);
  });
});

// ── The state ───────────────────────────────────────────────────────────────────────────────────

describe("a state of mutated bytes", () => {
  /** A scene with lines 1 to 40 known and 41 to 60 new, across a rotation. */
  async function goingScene(): Promise<Scene> {
    const scene = new Scene(...lines(1, 30));
    await scene.pass();
    scene.append(...lines(31, 40));
    scene.rotate();
    scene.append(...lines(41, 50));
    await scene.pass();
    scene.newlyPosted();
    scene.wait(HOUR);
    scene.append(...lines(51, 60));
    return scene;
  }

  fuzz("with a checksum that is right: no crash, and no end of it", 150, async (random) => {
    using scene = await goingScene();
    const { checksum, ...state } = JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"));
    expect(checksum).toBeString();
    const at = scene.clockMs;
    Object.assign(state.destinations.discord, {
      notice: "lines may be missing\n",
      part: { sent: 5, line: state.destinations.discord.cursor.lastLineHash },
      held: { name: "fail2ban.log.1", since: at },
    });
    Object.assign(state.channels.discord, {
      asked: { at, delayMs: 500 },
      pause: { setAt: at, until: at + 500, stepMs: 500, exitCode: 75, why: "a test" },
    });
    for (let change = 0; change < 3; change++) replaceSomething(state, random);
    for (const copy of [scene.stateFile(), `${scene.stateFile()}.bak`])
      fs.writeFileSync(copy, sealState(state as State), { mode: 0o600 });
    expect((await scene.run()).code).not.toBe(70);
    expect(scene.discord.violations).toEqual([]);
  });

  /** Puts another value somewhere into a tree. */
  function replaceSomething(tree: Record<string, unknown>, random: Random): void {
    const key = random.pick(Object.keys(tree));
    const child = tree[key];
    const deeper = typeof child === "object" && child && Object.keys(child).length > 0;
    if (deeper && random.roll() < 0.9) {
      return replaceSomething(child as Record<string, unknown>, random);
    }
    const long = random.pick(PIECES).repeat(random.below(50));
    const numbers = [random.below(10), -1, 2 ** random.below(53), Date.now(), 0.5];
    tree[key] = random.pick([...numbers, "", long, true, null, [], {}, [random.below(100)]]);
  }
});

// ── The env file ────────────────────────────────────────────────────────────────────────────────

const GOOD = `# where fail2ban's news go
DISCORD_WEBHOOK="https://discord.com/api/webhooks/1234567890/S3CR3T-S3CR3T"
SLACK_TOKEN=xoxb-S3CR3T-1
SLACK_CHANNEL=#alerts
SLACK_ICON=:bank:
F2B_FORMAT=compact
F2B_ONLY=ban,unban
F2B_MAX_TIME=55
F2B_HOST='web 1'
F2B_COLOR=true
`;

fuzz("a mutated env file is taken or refused in one line, no secret", 300, async (random) => {
  using scene = new Scene(...lines(1, 3));
  const path = join(scene.directory, "env");
  fs.writeFileSync(path, Buffer.from(random.mutate(GOOD), "latin1"), { mode: 0o600 });
  scene.env = {};
  const { code, out, err } = await scene.run("--env-file", path, "--state", scene.state);
  expect([0, 69, 75, 78]).toContain(code);
  expect(out + err).not.toContain("S3CR3T");
  if (code === 78) expect(err).toMatch(/^(f2b-watch: [^\n]+\n(hint: [^\n]+\n)?)+$/);
});

// ── The server's answers ────────────────────────────────────────────────────────────────────────

const BODIES = [
  KEPT,
  '{"message":"You are being rate limited.","retry_after":0.5,"global":false}',
  '{"message":"Unknown Webhook","code":10015}',
  '{"message":"Invalid Form Body","code":50035,"errors":{"content":{"_errors":[{"code":"X"}]}}}',
  '{"ok":true,"channel":"C1","ts":"1503435956.000247","message":{"text":"x"}}',
  '{"ok":false,"error":"ratelimited"}',
  "<html><body>502 S3CR3T</body></html>",
  "error code: 1015",
  "ok",
  "",
];
const STATUSES = [200, 200, 201, 204, 400, 401, 403, 404, 410, 413, 429, 500, 502, 503];

function wildAnswer(random: Random): Response {
  const status = random.roll() < 0.8 ? random.pick(STATUSES) : 200 + random.below(400);
  const body = random.roll() < 0.5 ? random.pick(BODIES) : random.mutate(random.pick(BODIES));
  const header = () => random.pick(["0", "1", "0.001", "-5", "1e9", "nan", "", "99999999"]);
  const headers = new Headers({ "content-type": random.pick(["application/json", "x/y"]) });
  for (const name of ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset-after"])
    if (random.roll() < 0.3) headers.set(name, header());
  const empty = [101, 204, 205, 304].includes(status);
  return new Response(empty ? null : Buffer.from(body, "latin1"), { status, headers });
}

/** Whether a server that answers so has said that it keeps the message. */
async function keeps(answer: Pick<Response, "status" | "ok" | "text">): Promise<boolean> {
  if (answer.status === 204) return true;
  try {
    // Half a character at the very end is no word of it.
    const { id } = JSON.parse((await answer.text()).replace(/\ufffd$/, ""));
    return answer.ok && typeof id === "string" && id !== "";
  } catch {
    return false;
  }
}

fuzz("mutated answers: no crash, no end, no word of them, no line is lost", 80, async (random) => {
  using scene = new Scene(...lines(1, 100));
  const kept: string[] = [];
  let requests = 0;
  scene.overrides.fetch = async (_, init) => {
    requests++;
    const answer = wildAnswer(random);
    const { content } = (await new Response(init.body).json()) as { content: string };
    if (await keeps(answer.clone())) kept.push(content);
    return answer;
  };
  for (let run = 0; run < 3; run++) {
    const begun = scene.clockMs;
    const { code, out, err } = await scene.run("--inline", "0");
    expect([0, 69, 75, 78]).toContain(code);
    expect(out + err).not.toContain("S3CR3T");
    expect(scene.clockMs - begun).toBeLessThan(400_000);
    scene.wait(25 * HOUR);
  }
  expect(requests).toBeLessThan(300);
  delete scene.overrides.fetch;
  expect((await scene.run("--inline", "0")).code).toBe(0);
  kept.push(...scene.discord.messages.map(({ content }) => content));
  const rejected = join(scene.state, `${stateFileName(scene.log)}.rejected`);
  if (fs.existsSync(rejected)) kept.push(fs.readFileSync(rejected, "utf8"));
  const all = kept.join("\n");
  expect(lines(1, 100).filter((text) => !all.includes(text))).toEqual([]);
});

const OK = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const LIES: Record<string, string | Buffer | ((socket: Socket) => void)> = {
  "a body longer than its length": `${OK}content-length: 5\r\n\r\n${KEPT}`,
  "a body shorter than its length": `${OK}content-length: 5000\r\n\r\n${KEPT.slice(0, 9)}`,
  "a length below nothing": `${OK}content-length: -1\r\n\r\n${KEPT.slice(0, 9)}`,
  "a length that is no number": `${OK}content-length: many\r\n\r\n${KEPT.slice(0, 9)}`,
  "two lengths": `${OK}content-length: 3\r\ncontent-length: 9\r\n\r\n${KEPT}`,
  "chunks of no size": `${OK}transfer-encoding: chunked\r\n\r\nzz\r\n${KEPT}\r\n`,
  "a chunk that is not all there": `${OK}transfer-encoding: chunked\r\n\r\nfff\r\n${KEPT}`,
  "a bomb": Buffer.concat([
    Buffer.from(`${OK}content-encoding: gzip\r\nconnection: close\r\n\r\n`),
    gzipSync(Buffer.alloc(50_000_000, " ")),
  ]),
  "no HTTP": "220 smtp.example ESMTP\r\n",
  "a status that is none": "HTTP/1.1 abc\r\n\r\n",
  "nothing but 100 Continue": "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000),
  "headers without end": `${OK}${"x: y\r\n".repeat(200_000)}`,
  "one header of 1 MB": `${OK}x: ${"y".repeat(1_000_000)}\r\n\r\n`,
  "a NUL in a header": `${OK}x\0y: z\r\ncontent-length: 0\r\n\r\n`,
  "random bytes": new Random(firstSeed).bytes(5_000),
  "a byte now and then": (socket) => {
    const timer = setInterval(() => socket.write(" "), 20);
    socket.on("close", () => clearInterval(timer));
  },
  "a body without end": (socket) => {
    socket.write(`${OK}\r\n`);
    const more = () => socket.write(" ".repeat(65_536), (error) => error ?? setTimeout(more, 1));
    more();
  },
  "an end at once": (socket) => void socket.destroy(),
};

test.each(Object.entries(LIES))("a server lies with %s: 75, then every line", async (_, lie) => {
  using scene = new Scene(...lines(1, 30));
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => (typeof lie === "function" ? lie(socket) : socket.write(lie)));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  const { env } = scene;
  scene.env = { DISCORD_WEBHOOK: `http://127.0.0.1:${port}/api/webhooks/1/tok-en_12345678` };
  scene.overrides.fetch = (url, init) => fetch(url, init);
  const { code, err } = await scene.run();
  server.close();
  expect(code).toBe(75);
  expect(err).not.toMatch(/https?:|tok-en/);
  delete scene.overrides.fetch;
  scene.env = env;
  scene.wait(HOUR);
  expect((await scene.run()).code).toBe(0);
  scene.expectPosted(...lines(1, 30));
  expect(scene.notices()).toEqual(["(resent)"]);
});

// ── A crowd ─────────────────────────────────────────────────────────────────────────────────────

test("500 passes at once, while lines are written: each line once, all leave with 0", async () => {
  using machine = new Machine({ rateLimits: false });
  machine.append(...lines(1, 50));
  const runs: Promise<RunResult>[] = [];
  for (let index = 0; index < 500; index++) {
    if (index % 10 === 0) machine.append(line(51 + index / 10));
    runs.push(machine.go());
    // Discord has a turn.
    await Bun.sleep(0);
  }
  expect(await Promise.all(runs)).toEqual(runs.map(() => DONE));
  machine.expectPosted(...lines(1, 100));
});
