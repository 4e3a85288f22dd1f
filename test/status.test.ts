/** What fail2ban-client says: as a table, as an object, as a message; and whether fail2ban answers. */
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { DONE, HOUR, line, lines, MINUTE, type Ran, said, Scene, SECOND } from "./harness.ts";
import type { RunResult } from "./harness.ts";
import { addSlack } from "./slack.ts";

/** What a real fail2ban-client printed. */
function real(name: string): string {
  return fs.readFileSync(join(import.meta.dirname, "fixtures/status", `${name}.txt`), "utf8");
}

const failed = (err: string) => said("", 255, err);

const UP = said(real("single-jail-ping"));
const DOWN = failed(real("single-jail-status-down").replace("rc=255\n", ""));
const DENIED = failed(real("attack-burst-status-not-root"));
const AT = "2026-11-22 16:23:56,834 fail2ban  [26006]: ERROR   ";
const REFUSED = failed(`${AT}[Errno 111] Connection refused\n`);
const NO_SERVER = "[[Errno 111] Connection refused] Unable to contact server. Is it running?";
const UNREACHABLE = failed(`${AT}${NO_SERVER}\n`);

/** A jail as fail2ban-client prints it. */
interface Jail {
  failed?: [current: number, total: number];
  watches?: string;
  banned?: readonly string[];
}

function printed(name: string, { failed: [now, total] = [0, 0], watches, banned = [] }: Jail) {
  return `Status for the jail: ${name}
|- Filter
|  |- Currently failed:\t${now}
|  |- Total failed:\t${total}
|  \`- File list:\t${watches ?? "/var/log/auth.log"}
\`- Actions
   |- Currently banned:\t${banned.length}
   |- Total banned:\t${banned.length}
   \`- Banned IP list:\t${banned.join(" ")}
`;
}

function printedList(names: readonly string[]): string {
  return `Status\n|- Number of jail:\t${names.length}\n\`- Jail list:\t${names.join(", ")}\n`;
}

/** A fail2ban-client whose answers a test sets, and which knows what it was asked; it answers a ping. */
class Client {
  readonly asked: string[][] = [];
  answer: (words: readonly string[]) => Ran;

  constructor(scene: Scene, answer = UP) {
    this.answer = () => answer;
    scene.overrides.runProgram = async (program, words) => {
      expect(program).toBe("fail2ban-client");
      this.asked.push([...words]);
      return this.answer(words);
    };
  }

  /** From now on this is said. */
  says(answer: Ran): void {
    this.answer = () => answer;
  }

  /** From now on this is printed of all and of each jail. */
  prints(list: string, jails: Record<string, string>): this {
    this.answer = ([, name]) => {
      if (name === undefined) return said(list);
      return name in jails ? said(jails[name] ?? "") : failed(`ERROR   NOK: ('${name}',)\n`);
    };
    return this;
  }

  /** From now on the server has these jails. */
  has(jails: Record<string, Jail>): this {
    const texts = Object.entries(jails).map(([name, jail]) => [name, printed(name, jail)]);
    return this.prints(printedList(Object.keys(jails)), Object.fromEntries(texts));
  }
}

/** The real server of `attack-burst.log`. */
function attacked(scene: Scene): Client {
  const jails = ["sshd", "recidive", "nginx-http-auth"];
  const texts = jails.map((name) => [name, real(`attack-burst-status-${name}`)]);
  return new Client(scene).prints(real("attack-burst-status"), Object.fromEntries(texts));
}

function status(scene: Scene, ...words: string[]): Promise<RunResult> {
  return scene.f2bWatch("status", "--log", scene.log, ...words);
}

/** Slack takes nothing before the state has this text, which Discord's message brings. */
function onceKnown(scene: Scene, text: string, slack: ReturnType<typeof addSlack>): void {
  scene.overrides.fetch = async (url, init) => {
    if (!new URL(url).host.includes("slack")) return scene.discord.fetch(url, init);
    while (!fs.readFileSync(scene.stateFile(), "utf8").includes(text)) await Bun.sleep(1);
    return slack.fetch(url, init);
  };
}

/** Succeeds without a word. */
async function sends(scene: Scene, ...words: string[]): Promise<void> {
  expect(await status(scene, "--send", ...words)).toEqual(DONE);
}

const contents = (scene: Scene) => scene.discord.messages.map(({ content }) => content);

// ── status ──────────────────────────────────────────────────────────────────────────────────────

describe("status prints", () => {
  test("a row for each jail, and below it every address that is banned", async () => {
    using scene = new Scene();
    attacked(scene);
    const { code, out, err } = await status(scene);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const rows = out.split("\n").filter((row) => !row.startsWith("  "));
    expect(rows).toEqual([
      "jail               failed   banned  watches",
      "nginx-http-auth   104/857    91/91  /var/log/web.log",
      "recidive          312/367      0/0  /var/log/fail2ban.log",
      "sshd             344/4469  276/276  /var/log/auth.log",
      "",
    ]);
    const banned = out.split("\nsshd ")[1]?.split("\n").slice(1).join(" ").trim().split(/ +/);
    expect(banned).toHaveLength(276);
    expect(Math.max(...out.split("\n").map((row) => row.length))).toBeLessThanOrEqual(80);
    expect(fs.existsSync(scene.state)).toBe(false);
  });

  test.each<[argv: string, asked: string[]]>([
    ["", ["nginx-http-auth", "recidive", "sshd"]],
    ["sshd recidive sshd", ["recidive", "sshd"]],
    ["--jail recidive,gone", ["recidive"]],
  ])("%j only, and asks for no other", async (argv, jails) => {
    using scene = new Scene();
    const client = attacked(scene);
    const { code, out } = await status(scene, ...argv.split(" ").filter(Boolean));
    expect(code).toBe(0);
    expect(out.match(/^[\w-]+/gm)).toEqual(["jail", ...jails]);
    expect(client.asked).toEqual([["status"], ...jails.map((jail) => ["status", jail])]);
  });

  test("that there are no jails", async () => {
    using scene = new Scene();
    new Client(scene).has({});
    expect(await status(scene)).toEqual({ code: 0, out: "no jails\n", err: "" });
    expect(JSON.parse((await status(scene, "--json")).out)).toEqual({ host: "web-1", jails: [] });
  });

  test("what a jail watches under its row where a row has no room for it, in a message shortened", async () => {
    using scene = new Scene();
    const sites = Array.from({ length: 25 }, (_, site) => `/var/log/site-${site}/access.log`);
    const watches = [`/srv/${"x".repeat(90)}.log`, ...sites].join(" ");
    new Client(scene).has({ web: { watches, banned: ["203.0.113.7"] } });
    const { out } = await status(scene);
    const row = "web      0/0     1/1\n  /srv/";
    expect(out).toStartWith(`jail  failed  banned\n${row}${"x".repeat(90)}.log\n`);
    expect(out).toEndWith("/var/log/site-24/access.log\n  203.0.113.7\n");
    await sends(scene);
    expect(contents(scene)[0]).toContain(`${row}${"x".repeat(74)}…\n  /var/log/site-0`);
    expect(contents(scene)[0]).toContain("/site-18/access.log and 6 more\n  203.0.113.7\n");
  });

  test("all that it knows of an answer, and no more", async () => {
    using scene = new Scene();
    const odd = "eve\n`- Total banned:\t0\nmore";
    const answers: Record<string, string> = {
      cymru: real("single-jail-status-sshd-cymru"),
      lines: printed("lines", { banned: ["::1", "line\nend\ttab", "::2"] }),
      odd: printed("odd", { banned: ["::1", odd, "::2"] }),
    };
    for (const [index, piece] of ["|", "` ", "\n|- a", "x\n", "\t:"].entries())
      answers[`long-${index}`] = printed("", { banned: [piece.repeat(200_000 / piece.length)] });
    new Client(scene).prints(printedList(Object.keys(answers)), answers);
    const { jails } = JSON.parse((await status(scene, "--json")).out);
    const [cymru, lines, withLabel, ...long] = jails;
    expect(cymru).toMatchObject({ totalFailed: 11, totalBanned: 6 });
    expect(cymru.banned).toEqual(["2001:db8:85a3::8a2e:370:7334", "2001:db8::bad:1"]);
    expect(lines.banned).toEqual(["::1", "line", "end", "tab", "::2"]);
    expect(withLabel.totalBanned).toBe(3);
    expect(long).toHaveLength(5);
    for (const { totalBanned } of long) expect(totalBanned).toBe(1);
  });

  test("no secret and nothing that moves the cursor, also as an object", async () => {
    using scene = new Scene();
    const banned = ["authorization:abc", "token=abc", "\x1b[2J", "\u202e7.113.0.302", "a\u2028b"];
    banned.push("203.0.113.9");
    new Client(scene).has({ sshd: { banned, watches: "/var/log/\x07.log" } });
    for (const flag of ["--json", "--verbose"]) {
      const { out } = await status(scene, flag);
      expect(out).not.toContain("abc");
      expect(out).toContain("203.0.113.9");
      expect(out).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\p{Zl}]/u);
    }
  });
});

describe("status refuses", () => {
  // prettier-ignore
  const REFUSALS: [what: string, argv: string, code: number, err: RegExp, jails?: string[]][] = [
    ["a jail that fail2ban does not have", "sshd no\x1bjail", 64,
      /^f2b-watch: fail2ban has no jail "no\\u001bjail"\nhint: fail2ban has: recidive, sshd\n$/],
    ["a filter that no jail passes: it must not look like a server without jails", "--jail gone --send",
      64, /^f2b-watch: --jail: fail2ban has no jail "gone"\nhint: fail2ban has: recidive, sshd\n$/],
    ["a jail that is nearly one", "sshdd", 64, / "sshdd"\nhint: did you mean sshd\?\n$/],
    ["any jail where there are none", "sshd", 64, / "sshd"\nhint: fail2ban has: no jails\n$/, []],
    ["names that cannot be told apart", "", 66,
      /^f2b-watch: .*unexpected output .*\nhint: .*comma.*\n$/, ["a, b", "sshd"]],
    ["to send where no destination is set", "--send", 78,
      /^f2b-watch: --send: no destination is set\nhint: set DISCORD_WEBHOOK/],
  ];
  const some = ["recidive", "sshd"];
  test.each(REFUSALS)("%s: it asks about none", async (_, argv, code, err, jails = some) => {
    using scene = new Scene();
    if (code === 78) scene.env = {};
    const client = new Client(scene, said(printedList(jails)));
    const result = await status(scene, ...argv.split(" ").filter(Boolean));
    expect(result).toMatchObject({ code, out: "" });
    expect(result.err).toMatch(err);
    expect(client.asked).toEqual(code === 78 ? [] : [["status"]]);
  });

  // prettier-ignore
  const troubles: [string, Ran, RegExp, RegExp][] = [
    ["no client", { kind: "missing" }, /fail2ban-client is not installed/, /install/],
    ["a client that hangs", { kind: "timedOut" }, /not answer in time/, /restart fail2ban/],
    ["no socket", DOWN, /socket cannot be reached/, /journalctl/],
    ["a socket that nobody serves", UNREACHABLE, /socket cannot be reached/, /journalctl/],
    ["a socket of root", DENIED, /only root/, /run as root/],
    ["an unknown failure", failed("Traceback (most recent call last): see /root/x\n"), /unexpected output/,
      /fail2ban-client status/],
    ["garbage", said("{}"), /unexpected output of fail2ban-client status/, /fail2ban-client status/],
  ];
  test.each(troubles)("with 66 and its own hint: %s", async (_, answer, message, hint) => {
    using scene = new Scene();
    new Client(scene, answer);
    const { code, out, err } = await status(scene);
    expect({ code, out }).toEqual({ code: 66, out: "" });
    expect(err).toMatch(/^f2b-watch: .+\nhint: .+\n$/);
    expect(err.split("\n")[0]).toMatch(message);
    expect(err.split("\n")[1]).toMatch(hint);
    expect(err).not.toMatch(/Errno|Traceback|\.sock|ERROR/);
  });

  test.each([
    ["nothing", ""],
    ["half of it", printed("sshd", {}).slice(0, 90)],
    ["a number that is none", printed("sshd", {}).replace("failed:\t0", "failed:\tmany")],
    ["the list of jails", real("attack-burst-status")],
  ])("with 66 an answer about a jail that is %s", async (_, out) => {
    using scene = new Scene();
    new Client(scene).prints(printedList(["sshd"]), { sshd: out });
    expect(await status(scene)).toMatchObject({ code: 66, out: "" });
  });
});

describe("status --send", () => {
  const ban = (...banned: string[]): Record<string, Jail> => ({ sshd: { failed: [1, 5], banned } });

  test("posts again when a jail or an address comes or goes, and for nothing else", async () => {
    using scene = new Scene();
    const client = new Client(scene).has(ban("203.0.113.7", "203.0.113.8"));
    const stories: [Record<string, Jail>, boolean][] = [
      [ban("203.0.113.7", "203.0.113.8"), true],
      [ban("203.0.113.8", "203.0.113.7"), false],
      [{ sshd: { failed: [9, 99], banned: ["203.0.113.7", "203.0.113.8"], watches: "/x" } }, false],
      [ban("203.0.113.7"), true],
      [{ ...ban("203.0.113.7"), web: {} }, true],
      [{ web: {}, ...ban("203.0.113.7") }, false],
      [{ sshd: {}, web: { banned: ["203.0.113.7"] } }, true],
      [{}, true],
      [{}, false],
    ];
    for (const [jails, posts] of stories) {
      client.has(jails);
      const before = contents(scene).length;
      await sends(scene);
      expect([jails, contents(scene).length - before]).toEqual([jails, posts ? 1 : 0]);
    }
    expect(contents(scene).at(-1)).toBe("web-1: no jails");
  });

  test("says of many addresses how many more there are", async () => {
    using scene = new Scene();
    attacked(scene);
    await sends(scene);
    expect(contents(scene)).toHaveLength(1);
    expect(contents(scene)[0]).toContain("web-1: 3 jails, 367 banned\n");
    expect(contents(scene)[0]).toContain("and 256 more\n");
    const widths = scene.discord.lines().map((row) => row.length);
    expect(Math.max(...widths)).toBeLessThanOrEqual(40);
  });

  test("no id can leave the fence, ping anyone, or fill the channel", async () => {
    using scene = new Scene();
    const slack = addSlack(scene);
    const banned = ["```", "<!channel>", "@here", "x".repeat(100_000), "\x1b[31m", "a\nb"];
    new Client(scene).has({ lab: { banned } });
    await sends(scene);
    expect(contents(scene)).toHaveLength(1);
    expect([...scene.discord.violations, ...slack.violations]).toEqual([]);
    for (const { content } of [...scene.discord.messages, ...slack.messages])
      expect(content.match(/```/g)).toHaveLength(2);
    for (const { content } of slack.messages) expect(content).not.toMatch(/<[!@#]/);
  });

  test("what was not confirmed is sent next time, the whole of it", async () => {
    using scene = new Scene();
    const names = Array.from({ length: 60 }, (_, number) => `jail-number-${number}`);
    new Client(scene).has(Object.fromEntries(names.map((name) => [name, {}])));
    scene.discord.refuseContent((content) => content.includes("jail-number-59"));
    expect(await status(scene, "--send")).toMatchObject({ code: 69, out: "" });
    const sent = contents(scene).length;
    expect(sent).toBeGreaterThan(0);
    scene.discord.refuseContent(() => false);
    scene.wait(HOUR);
    expect((await status(scene, "--send")).code).toBe(0);
    expect(contents(scene).slice(sent).join("")).toContain(contents(scene)[0] ?? "none");
    expect(contents(scene).at(-1)).toContain("jail-number-59");
    const all = contents(scene).length;
    await sends(scene);
    expect(contents(scene)).toHaveLength(all);
  });

  test("each destination has what it was told last", async () => {
    using scene = new Scene();
    const client = new Client(scene).has(ban("203.0.113.7"));
    await sends(scene);
    const slack = addSlack(scene);
    await sends(scene);
    expect([scene.discord.messages.length, slack.messages.length]).toEqual([1, 1]);
    slack.failAlways({ kind: "status", status: 503 });
    client.has(ban("203.0.113.8"));
    expect((await status(scene, "--send")).code).toBe(75);
    slack.failAlways(undefined);
    scene.wait(HOUR);
    expect((await status(scene, "--send")).code).toBe(0);
    expect([scene.discord.messages.length, slack.messages.length]).toEqual([2, 2]);
    // Where nothing is news nobody is called, nor said to work again.
    scene.discord.failAlways({ kind: "status", status: 503 });
    client.has(ban());
    expect((await status(scene, "--send")).code).toBe(75);
    client.has(ban("203.0.113.8"));
    const before = scene.discord.requests.length;
    await sends(scene);
    expect(scene.discord.requests).toHaveLength(before);
  });

  test("with --json it prints the object and nothing else, and posts unless messages are printed", async () => {
    using scene = new Scene();
    new Client(scene).has(ban("203.0.113.7"));
    for (const posts of [0, 1]) {
      const flags = posts ? [] : ["--dry-run"];
      const { out, err } = await status(scene, "--send", "--json", ...flags);
      expect(JSON.parse(out).jails[0].banned).toEqual(["203.0.113.7"]);
      expect(err).toBe("");
      expect(contents(scene)).toHaveLength(posts);
    }
  });

  test("--dry-run prints what would be sent and remembers nothing", async () => {
    using scene = new Scene();
    new Client(scene).has(ban("203.0.113.7"));
    const dry = await status(scene, "--send", "--dry-run");
    expect(fs.existsSync(scene.state)).toBe(false);
    expect(dry.err).toBe("f2b-watch: dry run: 1 message for Discord, none sent\n");
    await sends(scene);
    expect(dry.out).toBe(`Fail2Ban · web-1\n${contents(scene)[0]}\n`);
    const again = await status(scene, "--dry-run", "--send", "sshd");
    const err = "f2b-watch: dry run: 0 messages for Discord, none sent\n";
    expect(again).toMatchObject({ code: 0, out: "", err });
    expect(contents(scene)).toHaveLength(1);
  });

  test("a client that cannot be used is told when it begins, after an hour, and when it is over", async () => {
    using scene = new Scene();
    addSlack(scene);
    const client = new Client(scene, DOWN);
    const told = async () => {
      const { code, err } = await status(scene, "--send");
      expect(code).toBe(66);
      return err.split("\n").filter((text) => text.startsWith("f2b-watch:")).length;
    };
    const counts = [await told(), await told()];
    scene.wait(HOUR);
    counts.push(await told(), await told());
    expect(counts).toEqual([1, 0, 1, 0]);
    client.has(ban());
    const over = { code: 0, out: "", err: "f2b-watch: status works again\n" };
    expect(await status(scene, "--send")).toEqual(over);
    expect(scene.discord.messages).toHaveLength(1);
    scene.overrides.terminal = true;
    new Client(scene, DOWN);
    for (let run = 0; run < 2; run++)
      expect((await status(scene, "--send")).err.match(/f2b-watch:/g)).toHaveLength(1);
  });

  test("what one destination has is remembered before the other is done", async () => {
    using scene = new Scene();
    const slack = addSlack(scene);
    new Client(scene).has(ban("203.0.113.7"));
    onceKnown(scene, '"status"', slack);
    await sends(scene);
    expect(slack.messages).toHaveLength(1);
  });

  test("moves no cursor: the pass sends every line as ever", async () => {
    using scene = await Scene.after(1, 3);
    new Client(scene).has(ban("203.0.113.7"));
    scene.append(line(4));
    await sends(scene);
    scene.newlyPosted();
    await scene.passPosts(line(4));
  });
});

const SENDING = ["status --send", "digest --send", "--ping"];
test.each(SENDING)("what may have arrived comes again marked, no other: %s", async (argv) => {
  using scene = await Scene.after(1, 2);
  const client = new Client(scene).has({ sshd: { banned: ["203.0.113.7"] } });
  const run = async () => {
    scene.wait(2 * MINUTE);
    return (await scene.f2bWatch(...argv.split(" "), "--log", scene.log)).code;
  };
  if (argv === "--ping") client.says(DOWN);
  if (argv === "--ping") expect(await run()).toBe(0);
  scene.discord.failAlways({ kind: "refused" });
  expect(await run()).toBe(75);
  scene.discord.failAlways({ kind: "status-after-saving", status: 502 });
  expect(await run()).toBe(75);
  scene.discord.failAlways(undefined);
  expect(await run()).toBe(0);
  expect(await run()).toBe(0);
  const marks = contents(scene).map((text) => text.startsWith("(resent)\n"));
  const again = argv === "digest --send" ? [false] : [];
  expect(marks).toEqual([false, false, true, true, true, ...again]);
});

// ── --ping ──────────────────────────────────────────────────────────────────────────────────────

describe("--ping", () => {
  const DOWN_FOR_2 = "⚠️ web-1: fail2ban has not answered for 2 min: its socket cannot be reached";
  const DOWN_FOR_4 = DOWN_FOR_2.replace("2 min", "4 min");

  /** Pings again after two minutes; returns what was said outside of fences since the last time. */
  async function later(scene: Scene, ms = 2 * MINUTE): Promise<string[]> {
    scene.wait(ms);
    const before = scene.notices().length;
    await scene.pass("--ping");
    expect(scene.discord.violations).toEqual([]);
    return scene.notices().slice(before);
  }

  /** A ping finds that fail2ban does not answer. */
  async function goesDown(scene: Scene): Promise<Client> {
    const client = new Client(scene, DOWN);
    await later(scene);
    return client;
  }

  /** A pass that writes nothing and takes no lock. */
  async function expectNoTrace(scene: Scene): Promise<void> {
    scene.beforeCalls(["writeFileSync", "renameSync", "rmSync", "fsyncSync"], () => {
      throw new Error("written");
    });
    await scene.pass("--ping");
    delete scene.overrides.fs;
  }

  const OVER = "✅ web-1: fail2ban answers again, after 8 min";
  /** What a ping says, so many minutes after the one before, and what is told of it. */
  // prettier-ignore
  const OUTAGES: [name: string, steps: [answer: Ran, minutes: number, told?: string][]][] = [
    ["a dead socket of a killed server is down", [[REFUSED, 1], [REFUSED, 2, DOWN_FOR_2]]],
    ["a hiccup is no outage, however often there is one",
      [[DOWN, 2], [UP, 2], [DOWN, 2], [UP, 2], [DOWN, 2], [UP, 2]]],
    ["a clock that is put back delays it by no more than that",
      [[DOWN, 1], [DOWN, -300], [DOWN, 2, DOWN_FOR_2]]],
    ["what is unclear neither begins nor ends an outage",
      [[DOWN, 1], [DENIED, 2], [DOWN, 2, DOWN_FOR_4], [DENIED, 2], [UP, 2, OVER]]],
  ];
  test.each(OUTAGES)("%s", async (_, steps) => {
    using scene = await Scene.after(1, 2);
    const client = new Client(scene);
    for (const [answer, minutes, told] of steps) {
      client.says(answer);
      scene.wait(minutes * MINUTE);
      const before = scene.notices().length;
      expect((await scene.run("--ping")).code).toBe(answer === DENIED ? 66 : 0);
      expect(scene.notices().slice(before)).toEqual(told === undefined ? [] : [told]);
    }
  });

  test("down in two passes a minute apart is told once, back is told once", async () => {
    using scene = await Scene.after(1, 2);
    const client = new Client(scene);
    await scene.pass();
    expect(client.asked).toEqual([]);
    await expectNoTrace(scene);
    expect(client.asked).toEqual([["ping"]]);
    scene.append(line(3));
    await scene.pass("--ping");
    await expectNoTrace(scene);
    client.says(DOWN);
    expect(await later(scene)).toEqual([]);
    expect(await later(scene, 59 * SECOND)).toEqual([]);
    await expectNoTrace(scene);
    expect(await later(scene, 61 * SECOND)).toEqual([DOWN_FOR_2]);
    await expectNoTrace(scene);
    expect(await later(scene, 5 * HOUR)).toEqual([]);
    client.says(UP);
    expect(await later(scene)).toEqual(["✅ web-1: fail2ban answers again, after 5 h 4 min"]);
    await expectNoTrace(scene);
    expect(await later(scene)).toEqual([]);
    expect(JSON.parse(fs.readFileSync(scene.stateFile(), "utf8"))).not.toHaveProperty("outage");
  });

  test("is told beside new lines, and where the log cannot be read", async () => {
    using scene = await Scene.after(1, 2);
    const client = await goesDown(scene);
    scene.append(line(3));
    expect(await later(scene)).toEqual([DOWN_FOR_2]);
    scene.expectPosted(line(3));
    scene.remove();
    client.says(UP);
    const { code } = await scene.run("--ping");
    expect(code).toBe(66);
    expect(scene.notices().at(-1)).toContain("answers again");
  });

  test("a notice that does not arrive does not make a lost log look found", async () => {
    using scene = await Scene.after(1, 2);
    await goesDown(scene);
    scene.remove();
    expect((await scene.run("--ping")).err).toContain("no such file");
    scene.discord.failAlways({ kind: "status", status: 503 });
    scene.wait(2 * MINUTE);
    const { code, err } = await scene.run("--ping");
    expect(code).toBe(66);
    expect(err).toMatch(/^f2b-watch: Discord: server error \(503\)\nhint: [^\n]+\n$/);
  });

  test("many logs are one fail2ban: told once", async () => {
    using scene = new Scene();
    const logs = ["a", "b", "c"].map((name) => join(scene.directory, name, "fail2ban.log"));
    for (const log of logs) {
      fs.mkdirSync(join(log, ".."));
      fs.writeFileSync(log, `${line(1)}\n`);
    }
    const client = new Client(scene);
    const pass = async () => {
      scene.wait(2 * MINUTE);
      const log = join(scene.directory, "*/fail2ban.log");
      expect(await scene.f2bWatch("--log", log, "--ping")).toMatchObject({ code: 0, err: "" });
    };
    await pass();
    expect(client.asked).toEqual([["ping"]]);
    client.says(DOWN);
    for (let passes = 0; passes < 4; passes++) await pass();
    client.says(UP);
    for (let passes = 0; passes < 3; passes++) await pass();
    expect(scene.notices()).toEqual([DOWN_FOR_2, OVER]);
  });

  test("leaves it to a later run while another one is at work", async () => {
    using scene = await Scene.after(1, 2);
    await goesDown(scene);
    scene.wait(2 * MINUTE);
    const lock = new DatabaseSync(scene.stateFile().replace(/$/, ".lock"));
    lock.exec("BEGIN IMMEDIATE");
    await scene.pass("--ping");
    lock.close();
    expect(scene.notices()).toEqual([]);
    expect(await later(scene, 0)).toEqual([DOWN_FOR_2]);
  });

  test("is told where there never was a log", async () => {
    using scene = new Scene();
    const client = new Client(scene);
    client.says(DOWN);
    for (let run = 0; run < 3; run++) {
      expect((await scene.run("--ping")).code).toBe(66);
      scene.wait(2 * MINUTE);
    }
    expect(scene.notices()).toEqual([DOWN_FOR_2]);
  });

  test("each destination is told once, also when it could not be told at once", async () => {
    using scene = await Scene.after(1, 2);
    const slack = addSlack(scene);
    const client = new Client(scene);
    await scene.pass();
    client.says(DOWN);
    await later(scene);
    slack.failAlways({ kind: "status", status: 503 });
    scene.wait(2 * MINUTE);
    expect((await scene.run("--ping")).code).toBe(75);
    expect(scene.notices()).toEqual([DOWN_FOR_2]);
    slack.failAlways(undefined);
    scene.wait(HOUR);
    await scene.run("--ping");
    await later(scene);
    expect(slack.messages.map(({ content }) => content)).toEqual([
      "*web-1*\n⚠️ web-1: fail2ban has not answered for 1 h 2 min: its socket cannot be reached",
    ]);
    client.says(UP);
    await later(scene);
    await later(scene);
    expect(scene.notices()).toHaveLength(2);
    expect(slack.messages).toHaveLength(2);
    expect(slack.violations).toEqual([]);
  });

  test("that one was told is remembered before the other is", async () => {
    using scene = await Scene.after(1, 2);
    const slack = addSlack(scene);
    await goesDown(scene);
    onceKnown(scene, '"told": true', slack);
    expect(await later(scene)).toEqual([DOWN_FOR_2]);
    expect(slack.messages).toHaveLength(1);
  });

  test("who never heard that it was down does not hear that it is back", async () => {
    using scene = await Scene.after(1, 2);
    const client = await goesDown(scene);
    scene.discord.failAlways({ kind: "status", status: 503 });
    scene.wait(2 * MINUTE);
    expect((await scene.run("--ping")).code).toBe(75);
    scene.discord.failAlways(undefined);
    client.says(UP);
    scene.wait(HOUR);
    await scene.run("--ping");
    expect(scene.notices()).toEqual([]);
  });

  test("a run that dies before it could remember repeats one message at most", async () => {
    using scene = await Scene.after(1, 2);
    await goesDown(scene);
    let alive = true;
    scene.overrides.fetch = (url, init) => {
      alive = false;
      return scene.discord.fetch(url, init);
    };
    scene.beforeCalls("renameSync", () => {
      if (!alive) throw new Error("the power went out");
    });
    scene.wait(2 * MINUTE);
    expect((await scene.run("--ping")).code).toBe(73);
    delete scene.overrides.fs;
    delete scene.overrides.fetch;
    await later(scene);
    await later(scene);
    expect(scene.notices()).toEqual([DOWN_FOR_2, `(resent)\n${DOWN_FOR_4}`]);
  });

  test("--dry-run prints what would be told, and changes nothing", async () => {
    using scene = await Scene.after(1, 2);
    await goesDown(scene);
    scene.wait(2 * MINUTE);
    const { out, err } = await scene.run("--ping", "--dry-run");
    expect(out).toBe(`Fail2Ban · web-1\n${DOWN_FOR_2}\n`);
    expect(err).toContain("1 message for");
    expect(await later(scene, 0)).toEqual([DOWN_FOR_2]);
  });

  const unusable: [string, Ran, RegExp][] = [
    ["no client", { kind: "missing" }, /fail2ban-client is not installed/],
    ["no permission", DENIED, /only root/],
    ["a client that hangs", { kind: "timedOut" }, /not answer in time/],
  ];
  test.each(unusable)("%s: 66, a line now and then, no message", async (_, answer, message) => {
    using scene = await Scene.after(1, 2);
    const client = new Client(scene);
    client.says(answer);
    scene.append(line(3));
    const first = await scene.run("--ping");
    expect(first).toMatchObject({ code: 66, out: "" });
    expect(first.err).toMatch(/^f2b-watch: .*\nhint: .*\n$/);
    expect(first.err).toMatch(message);
    scene.expectPosted(line(3));
    scene.wait(2 * MINUTE);
    expect(await scene.run("--ping")).toEqual({ code: 66, out: "", err: "" });
    scene.wait(HOUR);
    expect((await scene.run("--ping")).err).toMatch(message);
    expect(await scene.run("--ping")).toEqual({ code: 66, out: "", err: "" });
    expect(scene.notices()).toEqual([]);
    client.says(UP);
    const over = { code: 0, out: "", err: "f2b-watch: ping works again\n" };
    expect(await scene.run("--ping")).toEqual(over);
    await expectNoTrace(scene);
    client.says(answer);
    scene.overrides.terminal = true;
    for (let run = 0; run < 2; run++) expect((await scene.run("--ping")).err).toMatch(message);
  });

  test("what is worse than a client that cannot be used keeps its exit status", async () => {
    using scene = await Scene.after(1, 2);
    scene.append(...lines(3, 4));
    scene.discord.delete();
    expect((await scene.run("--ping")).code).toBe(69);
  });
});
