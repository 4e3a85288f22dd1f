/** What happened in a period: counted as the log says it, told in one message. */
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { casesOf, clock, FIXTURES, fixture, log } from "./events.ts";
import { Scene, systemError } from "./harness.ts";
import { dice } from "./histories.ts";
import { addSlack } from "./slack.ts";

const NOW = "2026-11-22 11:00:00";

const at = (stamp: string, text: string, logger = "filter", level = "INFO") =>
  `${stamp},123 fail2ban.${logger.padEnd(15)} [18191]: ${level.padEnd(7)} ${text}`;
const found = (stamp = NOW, id = "203.0.113.7", jail = "sshd") =>
  at(stamp, `[${jail}] Found ${id} - ${stamp}`);
const ban = (stamp = NOW, id = "203.0.113.7", jail = "sshd") =>
  at(stamp, `[${jail}] Ban ${id}`, "actions", "NOTICE");
const unban = (stamp = NOW, id = "203.0.113.7", jail = "sshd") =>
  at(stamp, `[${jail}] Unban ${id}`, "actions", "NOTICE");

/** What `digest --json` says. */
async function json(scene: Scene, ...flags: string[]) {
  const { code, out, err } = await scene.run("digest", "--json", ...flags);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return JSON.parse(out);
}

/** The same of a log of its own, at noon of 2026-11-22. */
async function tallied(log: readonly string[], since = "2000-01-01", ...flags: string[]) {
  using scene = new Scene(...log);
  return await json(scene, "--since", since, ...flags);
}

describe("counting", () => {
  test("what one look says of a usual line is what the grammar says, also of mutated ones", async () => {
    const number = dice(2_026);
    const below = (limit: number) => Math.floor(number() * limit);
    const signs = ["[", "]", ":", "-", " ", "0", "1", ".", "Found ", "] Ban ", ", bad", "é", "9:"];
    const mutated = (line: string, other: string) => {
      const place = below(line.length + 1);
      if (number() < 0.3) return line.slice(0, place) + other;
      return line.slice(0, place) + signs[below(signs.length)] + line.slice(place + below(3));
    };
    for (const name of fs.readdirSync(FIXTURES).filter((each) => each.endsWith(".log"))) {
      const all = fixture(name);
      const broken = all.map((line) =>
        number() < 0.2 ? mutated(line, all[below(all.length)] ?? "") : line,
      );
      for (const since of ["2000-01-01", "2026-11-22 10:00"]) {
        const { log: _, lines: __, ...usual } = await tallied(broken, since);
        // A wrapped line is read by the grammar alone.
        const wrapped = broken.map((line) => `fail2ban  | ${line}`);
        expect(await tallied(wrapped, since)).toMatchObject(usual);
      }
    }
  });

  test.each(casesOf("digest.txt"))("%s", async (_, { entries, behind }) => {
    clock.seconds = 0;
    const flags = behind("@ jail ").flatMap((jails) => ["--jail", jails]);
    const digest = await tallied(log(...entries), "2000-01-01", ...flags);
    expect(digest).toMatchObject(JSON.parse(behind("> ").join("")));
  });

  const numbered = (count: number, verb: string) =>
    Array.from({ length: count }, (_, index) => `${verb} 198.51.${index}`);
  // prettier-ignore
  const LOGS: [name: string, entries: string[], digest: object][] = [
    ["a log with another prefix", fixture("cases/verbose-vv.log").map((text) => `| ${text}`),
      { found: 6, banned: 1, unbanned: 0, failedActions: 1, otherAlerts: 0, serverStarts: 1,
        lines: { undated: 0 } }],
    ["of many unbans in a row a stop takes the last back", numbered(100, "unban"), { unbanned: 90 }],
    ["a stop of 5,000 bans, behind an unban half an hour before it",
      ["unban .7; wait 1800", ...numbered(5_000, "unban").flatMap((each) => [each, "wait -1"])],
      { unbanned: 1 }],
  ];
  test.each(LOGS)("%s", async (_, entries, digest) => {
    clock.seconds = 0;
    expect(await tallied(log(...entries, "INFO Jail 'sshd' stopped"))).toMatchObject(digest);
  });

  const many = (blocks: number, lineOf: (id: string, index: number) => string) =>
    Array.from({ length: blocks * 10_000 }, (_, index) =>
      lineOf(`10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, index),
    );

  test("more addresses than can be remembered: the frequent ones stay, the rest is a least number", async () => {
    using scene = new Scene();
    const twice = (line: string) => `${line}\n${line}`;
    const often = (id: string, index: number) => (index % 100 === 0 ? "203.0.113.7" : id);
    scene.append(...many(12, (id, index) => twice(found(NOW, often(id, index)))));
    const digest = await json(scene);
    expect(digest.addresses[0]).toEqual({ address: "203.0.113.7", found: 2_400, banned: 0 });
    expect(digest).toMatchObject({ found: 240_000, seenAddresses: 50_000 });
    expect(digest.atLeast).toEqual({ seenAddresses: true, bannedAddresses: false });
    expect((await scene.run("digest")).out).toContain("and at least 49994 more\n");
  });

  test("more banned addresses than can be remembered: their number is a least one", async () => {
    using scene = new Scene(...many(6, (id) => ban(NOW, id)));
    expect(await json(scene)).toMatchObject({ banned: 60_000, bannedAddresses: 50_000 });
    expect((await scene.run("digest")).out).toContain("60000 (≥50000)");
  });

  const SINCE = { "01:59:59": 10, "02:00:00": 8, "02:00:01": 6, "02:59:59": 4, "03:00:01": 0 };
  test.each(Object.entries(SINCE))(
    "each line by its own date, where the clock steps back too: since %s",
    async (time, count) => {
      const times = ["01:59:59", "02:59:59", "02:00:00", "02:30:00", "03:00:00"];
      const log = [...times, ...times].map((at) => found(`2026-10-25 ${at}`));
      expect((await tallied(log, `2026-10-25 ${time}`)).found).toBe(count);
    },
  );

  test("what is dated later than now is of now", async () => {
    using scene = new Scene();
    scene.clockMs = Date.UTC(2026, 9, 25, 2, 10);
    for (const time of ["01:30:00", "02:55:00", "04:55:00"])
      scene.append(found(`2026-10-25 ${time}`));
    const { chart, found: count } = await json(scene, "--since", "2026-10-25 01:00");
    expect(count).toBe(3);
    expect(chart.bars).toEqual([
      { from: "2026-10-25 01:00", count: 1 },
      { from: "2026-10-25 02:00", count: 2 },
    ]);
  });
});

describe("the period", () => {
  /** `digest --json` in a time zone. */
  async function digestOf(scene: Scene, zone: string, ...flags: string[]) {
    process.env["TZ"] = zone;
    try {
      return await json(scene, ...flags);
    } finally {
      delete process.env["TZ"];
    }
  }

  const NOON = "2026-11-22 12:00:00";
  test.each<[since: string, found: number, begins: string, ends?: string, zone?: string]>([
    ["24h", 5, "2026-11-21 12:00:00"],
    ["24h", 6, "2026-11-21 07:00:00", "2026-11-22 07:00:00", "America/New_York"],
    ["today", 3, "2026-11-22 00:00:00"],
    ["yesterday", 4, "2026-11-21 00:00:00", "2026-11-21 23:59:59"],
    ["90m", 1, "2026-11-22 10:30:00"],
    ["1h30m", 1, "2026-11-22 10:30:00"],
    ["1d12h1m", 7, "2026-11-20 23:59:00"],
    ["7d", 8, "2026-11-15 12:00:00"],
    ["2w", 8, "2026-11-08 12:00:00"],
    ["2026-11-22", 3, "2026-11-22 00:00:00"],
    ["2026-11-22 12:00", 1, NOON],
    ["2026-11-22 02:00:01", 1, "2026-11-22 02:00:01"],
  ])(
    "--since %s counts %d, from %s on",
    async (since, count, begins, ends = NOON, zone = "UTC") => {
      using scene = new Scene();
      const times = ["20 23:58:59", "21 00:00:00", "21 11:59:59", "21 12:00:00", "21 23:59:59"];
      times.push("22 00:00:00", "22 02:00:00", "22 12:00:00");
      scene.append(...times.map((time) => found(`2026-11-${time}`)));
      const expected = { since: begins, until: ends, found: count };
      expect(await digestOf(scene, zone, "--since", since)).toMatchObject(expected);
      if (since === "24h") expect(await digestOf(scene, zone)).toMatchObject(expected);
    },
  );

  test("a day is a day of the wall clock, also when the clock is put back", async () => {
    using scene = new Scene();
    scene.clockMs = Date.UTC(2026, 9, 25, 6);
    scene.append(found("2026-10-24 06:59:59"), found("2026-10-24 07:00:00"));
    scene.append(found("2026-10-25 02:59:59"), found("2026-10-25 02:00:00"));
    const digest = await digestOf(scene, "Europe/Berlin");
    expect(digest).toMatchObject({ since: "2026-10-24 07:00:00", until: "2026-10-25 07:00:00" });
    expect(digest.found).toBe(3);
  });
});

describe("the files", () => {
  /** A day of lines, `count` of them, the first at its beginning. */
  const day = (date: string, count: number, id = "203.0.113.7") =>
    Array.from({ length: count }, (_, index) => {
      const ms = Date.parse(`${date}T00:00:00Z`) + Math.floor((index * 86_400) / count) * 1_000;
      return found(new Date(ms).toISOString().slice(0, 19).replace("T", " "), id);
    });
  /** A log with a day in each of its files: .3.zst, .2.gz, .1 and itself. */
  function rotatedScene(): Scene {
    const scene = new Scene();
    const packings = { "2026-11-19": "zst", "2026-11-20": "gz", "2026-11-21": undefined } as const;
    for (const [date, packed] of Object.entries(packings)) {
      scene.append(...day(date, 100));
      scene.rotate();
      if (packed) scene.compress(".1", packed);
    }
    scene.append(...day("2026-11-22", 200).slice(0, 100));
    return scene;
  }

  test("rotated and compressed ones are read as far as the period needs them", async () => {
    using scene = rotatedScene();
    expect(await json(scene)).toMatchObject({ found: 150 });
    expect(await json(scene, "--since", "3d")).toMatchObject({ found: 350, notRead: [] });
    expect(await json(scene, "--since", "30d")).toMatchObject({ found: 400, notRead: [] });
    fs.writeFileSync(scene.path(".4"), `${found("2026-11-18 00:00:00")}\n`);
    const { err } = await scene.run("digest", "--verbose");
    expect(err).toMatch(/^.*\.4 from (\d+) to \1\n.*\.1 from 0 to \d+\n.*log from 0 to \d+\n$/);
    fs.writeFileSync(scene.path(".3.zst"), Buffer.from("\x28\xb5\x2f\xfdno such thing", "latin1"));
    expect(await json(scene)).toMatchObject({ found: 150, notRead: [] });
    const damaged = { found: 301, notRead: ["fail2ban.log.3.zst (damaged)"] };
    expect(await json(scene, "--since", "30d")).toMatchObject(damaged);
  });

  test("nothing is left behind, no lock is taken, no state is moved", async () => {
    using scene = rotatedScene();
    await scene.pass("--inline", "0");
    const read = (name: string) => fs.readFileSync(join(scene.state, name), "latin1");
    const files = () => fs.readdirSync(scene.state).map((name) => [name, read(name)]);
    const before = files();
    await json(scene, "--since", "30d");
    await scene.run("digest", "--dry-run");
    expect(files()).toEqual(before);
    expect(scene.discord.messages.some(({ content }) => content.includes("digest"))).toBe(false);
  });

  test("where the state directory is not there or not to be trusted, they are unpacked elsewhere", async () => {
    using scene = rotatedScene();
    const places: string[] = [];
    scene.beforeCalls("openSync", (path, flags) => {
      if (flags & fs.constants.O_CREAT) places.push(String(path));
    });
    expect(await json(scene, "--since", "30d")).toMatchObject({ found: 400 });
    fs.mkdirSync(scene.state, { mode: 0o777 });
    fs.chmodSync(scene.state, 0o777);
    expect(await json(scene, "--since", "30d")).toMatchObject({ found: 400 });
    expect(fs.readdirSync(scene.state)).toEqual([]);
    expect(places).toHaveLength(4);
    for (const place of places) {
      expect(dirname(place)).toBe(tmpdir());
      expect(fs.existsSync(place)).toBe(false);
    }
    expect(new Set(places).size).toBe(2);
    fs.chmodSync(scene.state, 0o700);
    await json(scene, "--since", "30d");
    expect(places.slice(4).every((place) => place.startsWith(scene.state))).toBe(true);
    expect(places.slice(4).every((place) => !place.endsWith(".unpacked"))).toBe(true);
  });

  test.each(["EROFS: read-only file system", "ENOSPC: no space left on device"])(
    "where nothing can be written, what is not compressed is read all the same: %s",
    async (text) => {
      using scene = rotatedScene();
      const call = text.startsWith("EROFS") ? "openSync" : "writeFileSync";
      scene.beforeCalls(call, (_, flags) => {
        if (call === "writeFileSync" || flags & fs.constants.O_CREAT) throw systemError(text);
      });
      expect(await json(scene)).toMatchObject({ found: 150 });
      const result = await scene.run("digest", "--since", "30d");
      expect(result).toMatchObject({ code: 73, out: "" });
      expect(result.err).toMatch(/^f2b-watch: cannot write to .*\nhint: .*TMPDIR/);
      expect(result.err).toContain(`${text.replace(/^\w+/, "")}\n`);
    },
  );

  test("a copy counts once, and so does what stands in two files", async () => {
    using scene = rotatedScene();
    fs.copyFileSync(scene.log, scene.path(".9"));
    fs.copyFileSync(scene.path(".1"), scene.path("-20261121"));
    const end = fs.readFileSync(scene.log, "utf8").split("\n").slice(-4).join("\n");
    fs.writeFileSync(scene.path("-20261122"), end);
    scene.append(...day("2026-11-22", 10).slice(5));
    expect(await json(scene, "--since", "30d")).toMatchObject({ found: 405 });
  });

  test("one that cannot be read is named", async () => {
    using scene = rotatedScene();
    fs.rmSync(scene.path(".1"));
    fs.symlinkSync("/etc/passwd", scene.path(".1"));
    scene.overrides.streamProgram = async function* () {
      throw systemError("ENOENT: no such program");
    };
    fs.writeFileSync(scene.path(".4.xz"), Buffer.from("fd377a585a00", "hex"));
    const { out } = await scene.run("digest", "--since", "30d");
    const notRead = "fail2ban.log.1 (a link), fail2ban.log.4.xz (xz is not installed)";
    expect(out).toEndWith(`\nnot read: ${notRead}\n`);
    expect((await scene.run("digest", "--since", "30d", "--json")).out).not.toContain("root:");
  });

  test("a log that is gone is told from its rotated files, no log at all is 66", async () => {
    using scene = rotatedScene();
    scene.remove();
    expect(await json(scene)).toMatchObject({ found: 50 });
    for (const suffix of [".1", ".2.gz", ".3.zst"]) scene.remove(suffix);
    const { code, out, err } = await scene.run("digest", "--send");
    expect({ code, out }).toEqual({ code: 66, out: "" });
    expect(err).toStartWith(`f2b-watch: cannot read ${scene.log}: no such file or directory\n`);
    expect(scene.discord.requests).toEqual([]);
  });

  test("a line that a big log is not read from the beginning of does not count", async () => {
    using scene = new Scene();
    const lookBack = 4 * 1024 * 1024;
    const old = `${found("2026-01-01 00:00:00")}\n`;
    const start = old.trimEnd();
    const quote = `${ban("2026-11-22 11:00:00")}\n`;
    const last = `${found("2026-11-22 11:59:59")}\n`;
    const rest = lookBack - quote.length - last.length;
    const filler = old.repeat(Math.floor(rest / old.length) - 1);
    const padding = `${start}${" ".repeat(rest - filler.length - old.length)}\n`;
    scene.write(start + quote + filler + padding + last);
    const { out, err } = await scene.run("digest", "--since", "1h", "--verbose", "--json");
    expect(err).toContain(` from ${start.length + quote.length} to `);
    expect(JSON.parse(out)).toMatchObject({ found: 1, banned: 0 });
  });

  test("a big log is read from a little before the period on", async () => {
    using scene = new Scene();
    const years = Array.from({ length: 5 }, (_, index) => day(`202${index}-05-05`, 30_000));
    scene.append(...years.flat());
    scene.append(...day("2026-11-20", 500), ...day("2026-11-22", 200).slice(0, 100));
    fs.writeFileSync(scene.path(".1.gz"), "no such thing");
    const size = fs.statSync(scene.log).size;
    const { out, err } = await scene.run("digest", "--json", "--verbose");
    const [, from = "0"] = /^f2b-watch: fail2ban\.log from (\d+) to \d+\n$/.exec(err) ?? [];
    expect(Number(from)).toBeGreaterThan(size - 5_000_000);
    expect(Number(from)).toBeLessThan(size - 60_000);
    expect(JSON.parse(out)).toMatchObject({ found: 100, notRead: [] });
    expect(await json(scene, "--since", "2020-01-01")).toMatchObject({ found: 150_600 });
  });

  test("an hour that comes twice is read whole, in whatever file it is", async () => {
    using scene = new Scene();
    scene.clockMs = Date.UTC(2026, 9, 25, 2);
    for (const time of ["00:30:00", "02:59:00", "00:59:00"])
      scene.append(found(`2026-10-25 ${time}`));
    scene.rotate();
    scene.append(found("2026-10-25 01:01:00"));
    const expected = { since: "2026-10-25 01:00:00", found: 2 };
    expect(await json(scene, "--since", "1h")).toMatchObject(expected);
  });

  test("no byte breaks a line: CRLF, NUL, invisible signs, a line of megabytes, a partial one", async () => {
    using scene = new Scene();
    const now = NOW;
    scene.write(`${"\0".repeat(5_000)}${ban(now, "192.0.2.1")}\r\r\n`);
    scene.append(ban(now, "eve\u2028mallory"), ban(now, "a\u202eb"), ban(now, "zürich"));
    scene.append(ban(now, `long ${"x".repeat(2_000_000)} already banned`));
    scene.write(Buffer.concat([Buffer.from(ban(now, "bad ")), Buffer.from([0xff, 0x0a])]));
    scene.append(ban(now, "192.0.2.2"));
    scene.write(ban(now, "192.0.2.3"));
    const { addresses, banned } = await json(scene);
    expect(banned).toBe(7);
    expect(addresses.map(({ address }: { address: string }) => address)).toEqual([
      "192.0.2.1",
      "eve\\u2028mallory",
      "a\\u202eb",
      "zürich",
      expect.stringMatching(/^long x{194}…$/),
      "bad \ufffd",
      "192.0.2.2",
    ]);
    scene.rotate();
    expect(await json(scene)).toMatchObject({ banned: 8 });
  });

  test("a stop at the end of one file and the beginning of the next is one", async () => {
    using scene = new Scene(ban(), at(NOW, "Shutdown in progress...", "server"), unban());
    scene.rotate();
    scene.append(unban(), at(NOW, "Exiting Fail2ban", "server"), unban());
    expect(await json(scene)).toMatchObject({ banned: 1, unbanned: 1 });
  });
});

/** A scene whose messages go to Discord and to Slack. */
class BothScene extends Scene {
  readonly slack = addSlack(this);

  /** The one message that each of them has now. */
  theMessages(): { discord: string; slack: string } {
    expect([this.discord.messages.length, this.slack.messages.length]).toEqual([1, 1]);
    expect([...this.discord.violations, ...this.slack.violations]).toEqual([]);
    const messages = [...this.discord.messages, ...this.slack.messages];
    const [discord = "", slack = ""] = messages.map(({ content }) => content);
    for (const content of [discord, slack]) expect(content.length).toBeLessThan(2_000);
    return { discord, slack };
  }
}

describe("the message", () => {
  const TITLE = "web-1: digest of fail2ban.log, 2026-11-21 12:00 to 2026-11-22 12:00";

  test("has a row for each jail, a chart, the top addresses and networks", async () => {
    using scene = new Scene();
    scene.append(
      at("2026-11-21 12:30:00", "Starting Fail2ban v1.0.2", "server"),
      ...Array.from({ length: 8 }, () => found("2026-11-21 13:00:00")),
      ban("2026-11-21 13:00:01"),
      ban("2026-11-22 00:00:00", "2001:db8::7", "nginx-http-auth"),
      unban("2026-11-22 01:00:00"),
      found("2026-11-22 11:59:59", "203.0.113.8"),
      at("2026-11-22 11:59:59", "Unable to open /var/log/auth.log", "filter", "ERROR"),
    );
    expect(await scene.run("digest")).toEqual({
      code: 0,
      err: "",
      out: `${TITLE}
jail            found bans (IPs) unbans
sshd                9      1 (1)      1
nginx-http-auth     0      1 (1)      0
all jails           9      2 (2)      1

other alerts: 1
server starts: 1

failed attempts and bans per hour, █ = 9
      0     6     12    18
11-21             ·█··········
11-22 ▁··········▁·

top addresses found bans
203.0.113.7       8    1
2001:db8::7       0    1
203.0.113.8       1    0

top networks (IPs) found bans
203.0.113.0/24 (2)     9    1
`,
    });
  });

  test("days have a column each where the period is long, months a row", async () => {
    using scene = new Scene(found("2026-10-31 23:59:59"), found("2026-11-01 00:00:00"));
    scene.append(found("2026-11-22 12:00:00"), found("2026-11-22 12:00:00"));
    const { out } = await scene.run("digest", "--since", "2020-01-01");
    expect(out).toContain(`
failed attempts and bans per day, █ = 2
        1      8      15     22     29
2026-10 ······························▄
2026-11 ▄····················█
`);
  });

  test("goes to every destination, in one message each and without a word, as a dry run prints it", async () => {
    using scene = new BothScene();
    scene.append(found(NOW), ban(NOW));
    const { out } = await scene.run("digest");
    const text = out.slice(out.indexOf("\n") + 1).trimEnd();
    const dry = await scene.run("digest", "--send", "--dry-run");
    expect(await scene.run("digest", "--send")).toEqual({ code: 0, out: "", err: "" });
    const { discord, slack } = scene.theMessages();
    expect(discord).toBe(`${TITLE}\n\`\`\`\n${text}\n\`\`\``);
    expect(slack).toBe(`*web-1*\n${TITLE}\n\`\`\`\n${text}\n\`\`\``);
    const told = (title: string) => `f2b-watch: dry run: 1 message for ${title}, none sent\n`;
    const shown = `Fail2Ban · web-1\n${discord}\nFail2Ban · web-1\n${slack}\n`;
    expect(dry).toEqual({ code: 0, out: shown, err: told("Discord") + told("Slack") });
  });

  test("nothing happened: a line says so, and it is sent as a sign of life", async () => {
    using scene = new BothScene();
    scene.append(found("2026-11-20 11:00:00"), at(NOW, "[sshd] Restore Ban 192.0.2.1", "actions"));
    const { out } = await scene.run("digest");
    expect(out).toBe(`${TITLE}: nothing happened\n`);
    await scene.run("digest", "--send");
    const { discord, slack } = scene.theMessages();
    expect(discord).toBe(out.trimEnd());
    expect(slack).toBe(`*web-1*\n${out.trimEnd()}`);
    fs.writeFileSync(scene.log, "");
    expect((await scene.run("digest")).out).toBe(out);
  });

  test("lines without a date are not called nothing", async () => {
    const undated = found(NOW).replace(/^\S+ \S+ /, "");
    using scene = new Scene(undated, undated);
    const told = "2 lines have no date: they are not counted";
    expect((await scene.run("digest")).out).toBe(`${TITLE}\n${told}\n`);
    scene.append(found(NOW), found(NOW), found(NOW));
    expect((await scene.run("digest")).out).not.toContain("no date");
  });

  test.each<[now: string, line: string, counts: number, compact: string]>([
    ["2026-11-22T12:00", "Nov 22 11:00:00", 1, "2026-11-22\n11:00:00 sshd Ban"],
    ["2026-11-22T23:59", "Nov 23 00:00:10", 1, "2026-11-23\n00:00:10 sshd Ban"],
    ["2027-01-01T01:00", "Dec 31 23:59:59", 1, "2026-12-31\n23:59:59 sshd Ban"],
    ["2026-12-31T23:59", "Jan  1 00:00:10", 1, "2027-01-01\n00:00:10 sshd Ban"],
    ["2028-03-01T01:00", "Feb 29 23:00:00", 1, "2028-02-29\n23:00:00 sshd Ban"],
    ["2027-03-01T01:00", "Feb 29 23:00:00", 0, "23:00:00 sshd Ban"],
    ["2026-11-22T12:00", "2026-99-99 11:00:00,000", 0, "11:00:00 sshd Ban"],
    ["2026-11-22T12:00", "2026-11-22 31:00:00,000", 0, "31:00:00 sshd Ban"],
    ["2027-03-01T12:00", "2027-02-29 13:00:00,000", 0, "13:00:00 sshd Ban"],
  ])("at %s a line of %s counts %d times", async (now, stamp, counts, compact) => {
    using scene = new Scene();
    scene.clockMs = Date.parse(`${now}Z`);
    const host = stamp.includes("-") ? "" : "web-1 ";
    scene.append(`${stamp} ${host}fail2ban.actions[1]: NOTICE [sshd] Ban 203.0.113.9`);
    const { banned, lines } = JSON.parse((await scene.run("digest", "--json")).out);
    expect({ banned, ...lines }).toEqual({ banned: counts, dated: counts, undated: 1 - counts });
    expect((await scene.run("--dry-run", "--format", "compact")).out).toContain(`\n${compact} `);
  });

  test("10,000 jails with long names, hostile ids and a long host are one message", async () => {
    using scene = new BothScene();
    const names = Array.from({ length: 10_000 }, (_, index) => `${index}${"&".repeat(195)}`);
    const id = `${"<>&".repeat(40)}\`\`\`@everyone`;
    const log = names.map((jail, index) => ban(NOW, `${id} ${index}`, jail));
    for (let index = 0; index < 300; index++) log.push(found(NOW, `192.0.2.${index % 250}`));
    const path = join(scene.directory, "&".repeat(200));
    fs.writeFileSync(path, log.map((line) => `${line}\n`).join(""));
    for (let day = 1; day < 9; day++) fs.symlinkSync("/etc/passwd", `${path}-2026110${day}`);
    await scene.f2bWatch("digest", "--send", "--log", path, "--host", "&".repeat(80));
    const { discord, slack } = scene.theMessages();
    expect(discord).toMatch(/^and 99\d\d more$/m);
    expect(discord).toMatch(/^all jails +300 10000 \(10000\) +0$/m);
    expect(discord).toContain("\nnot read: and 8 more\n");
    expect(slack).toMatch(/^all jails +300 10000 \(10000\) +0$/m);
    expect(slack).toMatch(/^failed attempts and bans per hour/m);
    expect(slack.replace(/&(?:amp|lt|gt);/g, "")).not.toMatch(/[&<>]/);
  });

  test("ids of any text break nothing", async () => {
    using scene = new BothScene();
    const hostile = ["**bold** `x` ```", "@everyone <@1> <!here>", "a:b@c token=S3CR3T", "|| x ||"];
    scene.append(...hostile.map((id) => ban(NOW, id)), ...hostile.map((id) => found(NOW, id)));
    await scene.run("digest", "--send");
    const { discord, slack } = scene.theMessages();
    for (const text of [discord, slack, (await scene.run("digest", "--json")).out]) {
      expect(text).not.toContain("S3CR3T");
      expect(text.split("```").length).toBeLessThan(4);
      expect(text).toContain("token=[redacted]");
    }
  });

  test("a secret that a cut would hide from its pattern is taken out before", async () => {
    using scene = new Scene(ban(NOW, `${"x".repeat(180)} user:${"S3CR3T".repeat(10)}@host`));
    expect((await scene.run("digest", "--json")).out).not.toContain("S3CR3T");
  });

  test("--json lists the busiest hundred addresses, and every hour", async () => {
    const ids = Array.from({ length: 150 }, (_, index) => `192.0.2.${index}`);
    const log = [...ids.map((id) => found(NOW, id)), ban(NOW, "192.0.2.149"), unban(NOW)];
    const { addresses, chart, seenAddresses, lines } = await tallied(log, "1h");
    expect(seenAddresses).toBe(150);
    expect(lines).toEqual({ dated: 152, undated: 0 });
    expect(addresses).toHaveLength(100);
    expect(addresses[0]).toEqual({ address: "192.0.2.149", found: 1, banned: 1 });
    expect(chart).toEqual({
      unit: "hour",
      bars: [
        { from: "2026-11-22 11:00", count: 151 },
        { from: "2026-11-22 12:00", count: 0 },
      ],
    });
  });

  test("--json with --send prints the object, and posts where there is a destination", async () => {
    using scene = new Scene(found(NOW));
    const { out } = await scene.run("digest", "--json", "--send");
    expect(JSON.parse(out)).toMatchObject({ found: 1 });
    expect(scene.discord.messages).toHaveLength(1);
    expect((await scene.run("digest", "--json", "--send", "--dry-run")).out).toBe(out);
    scene.env = {};
    expect(await scene.run("digest", "--json", "--send")).toMatchObject({ code: 78, out: "" });
  });

  test("--jail limits it and is named, --only does not matter", async () => {
    using scene = new Scene(found(NOW), ban(NOW, "192.0.2.1", "web"));
    const { out } = await scene.run("digest", "--jail", "web", "--only", "life");
    expect(out).toStartWith("web-1: digest of fail2ban.log, web, 2026-11-21 12:00 to");
    expect(out).toContain("\nweb      0      1 (1)      0\n");
    expect(out).not.toContain("203.0.113.7");
  });

  test("of many logs each has its own", async () => {
    using scene = new Scene();
    for (const name of ["a", "b"]) {
      fs.mkdirSync(join(scene.directory, name));
      fs.writeFileSync(join(scene.directory, name, "fail2ban.log"), `${found(NOW)}\n`);
    }
    const flags = ["--log", join(scene.directory, "*/fail2ban.log"), "--host", "{dir}", "--json"];
    const { out } = await scene.f2bWatch("digest", ...flags);
    expect(out.match(/"host": "\w+"/g)).toEqual(['"host": "a"', '"host": "b"']);
  });

  test("what a destination refuses is told, with its status", async () => {
    using scene = new BothScene();
    scene.append(found(NOW));
    scene.discord.failAlways({ kind: "status", status: 404, body: '{"code": 10015}' });
    const { code, err } = await scene.run("digest", "--send");
    expect(code).toBe(69);
    expect(err).toStartWith("f2b-watch: Discord: the webhook was deleted (404");
    expect(scene.slack.messages).toHaveLength(1);
  });
});
