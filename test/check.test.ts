/** `check`: what is configured and whether it works, row by row; and the test message of --hello. */
import { describe, expect, test } from "bun:test";
import { DatabaseSync } from "node:sqlite";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { VERSION, type Ran, type Row } from "../f2b-watch.ts";
import { Discord, type DiscordOptions } from "./discord.ts";
import { line, lines, Scene, type RunResult } from "./harness.ts";
import { Slack, type SlackOptions } from "./slack.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const FIRST_HOOK = new Discord().webhook;

interface Services {
  discord?: DiscordOptions;
  slack?: SlackOptions;
}

/** A server where all is well: fail2ban answers, Discord is set, Slack is there to be set. */
class CheckScene extends Scene {
  override readonly discord: Discord;
  readonly slack: Slack;
  /** What fail2ban-client says, by its arguments. */
  readonly fail2ban: Record<string, Ran> = {
    ping: said("Server replied: pong\n"),
    version: said("1.0.2\n"),
    "get loglevel": said("Current logging level is 'INFO'\n"),
    "get logtarget": said(`Current logging target is:\n\`- ${this.log}\n`),
  };

  constructor(services: Services = {}) {
    super();
    const clock = { now: () => this.clockMs, sleep: async (ms: number) => this.wait(ms) };
    this.discord = new Discord({ ...clock, ...services.discord });
    this.slack = new Slack({ ...clock, ...services.slack });
    this.env = { DISCORD_WEBHOOK: this.discord.webhook, F2B_ENV_FILE: this.path(".env") };
    fs.writeFileSync(this.path(".env"), "", { mode: 0o600 });
    this.append(...lines(1, 5));
    fs.utimesSync(this.log, this.clockMs / 1_000, this.clockMs / 1_000);
    this.overrides.runProgram = async (program, args) => {
      expect(program).toBe("fail2ban-client");
      return this.fail2ban[args.join(" ")] ?? { kind: "ended", code: 255, out: "", err: "NOK" };
    };
    this.overrides.fetch = (url, init) =>
      new URL(url).host.includes("slack")
        ? this.slack.fetch(url, init)
        : this.discord.fetch(url, init);
  }

  /** Messages go to Slack instead. */
  useSlack(way: "token" | "webhook" = "token"): this {
    const { token, channel, webhook } = this.slack;
    this.env = { F2B_ENV_FILE: this.path(".env") };
    if (way === "webhook") this.env["SLACK_WEBHOOK"] = webhook;
    else Object.assign(this.env, { SLACK_TOKEN: token, SLACK_CHANNEL: channel });
    return this;
  }

  /** `check` as JSON: it says nothing on stderr, and its status is that of the report. */
  async check(...flags: string[]): Promise<{ exitCode: number; rows: Row[] }> {
    const { code, out, err } = await this.f2bWatch("check", "--log", this.log, "--json", ...flags);
    expect(err).toBe("");
    this.expectNoSecret(out);
    const report = JSON.parse(out);
    expect(report.exitCode).toBe(code);
    for (const row of report.rows as Row[]) {
      expect(row.hint !== "").toBe(row.state === "failed");
      expect(row.exitCode > 0).toBe(row.state === "failed");
      expect(row.exitCode).not.toBe(70);
    }
    return report;
  }

  /** The row of that name. */
  async row(name: string, ...flags: string[]): Promise<Row> {
    const { rows } = await this.check(...flags);
    const found = rows.filter((row) => row.name === name);
    expect(found).toHaveLength(1);
    return found[0] as Row;
  }

  /** That row and no other fails, with this status, and says and hints this. */
  async expectFailure(name: string, exitCode: number, text: RegExp, hint: RegExp): Promise<void> {
    const { rows, exitCode: worst } = await this.check();
    const failed = rows.filter(({ state }) => state === "failed");
    expect(failed).toMatchObject([{ name, exitCode }]);
    expect(failed[0]?.text).toMatch(text);
    expect(failed[0]?.hint).toMatch(hint);
    expect(worst).toBe(exitCode);
  }

  expectNoSecret(text: string): void {
    for (const secret of [this.discord.webhook, this.slack.webhook, this.slack.token]) {
      expect(text).not.toContain(secret.replace(/.*\//, ""));
    }
    expect(text).not.toContain("://");
  }

  /** Every file of the state directory with its contents and times. */
  stateFiles(): string[] {
    const names = fs.existsSync(this.state) ? fs.readdirSync(this.state) : [];
    return names.map((name) => {
      const path = join(this.state, name);
      return `${name} ${fs.statSync(path).mtimeMs} ${fs.readFileSync(path, "base64")}`;
    });
  }

  /** The lock of the run that is at work, as another process would hold it. */
  holdLock(): Disposable {
    const database = new DatabaseSync(this.stateFile().replace(/json$/, "json.lock"));
    database.exec("BEGIN IMMEDIATE");
    return { [Symbol.dispose]: () => database.close() };
  }

  static override async after(from: number, to: number): Promise<CheckScene> {
    const scene = new CheckScene();
    expect([from, to]).toEqual([1, 5]);
    await scene.passPosts(...lines(1, 5));
    return scene;
  }
}

function said(out: string): Ran {
  return { kind: "ended", code: 0, out, err: "" };
}

function refused(err: string): Ran {
  return { kind: "ended", code: 255, out: "", err };
}

function systemError(code: string, words: string): Error {
  return Object.assign(new Error(`${code}: ${words}, open '/some/where'`), { code });
}

// ── The table ───────────────────────────────────────────────────────────────────────────────────

describe("check", () => {
  test("where all is well: one ✓ per row, status 0, before the first pass and after it", async () => {
    using scene = new CheckScene();
    const names = ["settings", "env file", "log", "rotated files", "fail2ban", "log target"];
    names.push("log level", "database", "state", "progress", "lock", "Discord");
    for (const progress of [/^none: the first run starts at the log's start$/, /^discord after/]) {
      const { exitCode, rows } = await scene.check();
      expect(exitCode).toBe(0);
      expect(rows.map(({ name }) => name)).toEqual(names);
      expect(rows.filter(({ state }) => state !== "ok")).toEqual([]);
      expect(rows.find(({ name }) => name === "progress")?.text).toMatch(progress);
      await scene.pass();
    }
    scene.expectPosted(...lines(1, 5));
  });

  test("prints a table, on a terminal of 80 columns, signs first, hints below", async () => {
    using scene = new CheckScene();
    scene.overrides.terminal = true;
    scene.fail2ban["ping"] = { kind: "missing" };
    const { code, out, err } = await scene.f2bWatch("check", "--log", scene.log);
    expect({ code, err }).toEqual({ code: 66, err: "" });
    const printed = out.split("\n").slice(0, -1);
    const broken = printed.filter(
      (text) => !text.startsWith("  →") && !text.includes(scene.directory),
    );
    expect(broken.filter((text) => [...text].length > 80)).toEqual([]);
    expect(printed.filter((text) => !/^(?:[✓✗?] \S| {2}→ \S| {4,}\S)/.test(text))).toEqual([]);
    const at = printed.findIndex((text) => text.startsWith("✗ fail2ban       fail2ban-client is"));
    expect(printed[at + 1]).toMatch(/^ {2}→ install fail2ban/);
    expect(out).toContain("✓ log            ");
    scene.expectNoSecret(out);
  });

  test("posts nothing, and leaves the state directory as it is", async () => {
    using scene = await CheckScene.after(1, 5);
    const before = scene.stateFiles();
    scene.append(line(6));
    await scene.check();
    expect(scene.stateFiles()).toEqual(before);
    expect(scene.discord.requests.at(-1)).toMatchObject({ method: "GET", status: 200 });
    await scene.pass();
    scene.expectPosted(line(6));
  });

  test("makes nothing where there is no state directory", async () => {
    using scene = new CheckScene();
    expect((await scene.row("state")).text).toContain(
      "does not exist yet: the first run creates it",
    );
    expect(fs.existsSync(scene.state)).toBe(false);
  });

  test("shows the settings", async () => {
    using scene = new CheckScene();
    const flags = ["--format", "compact", "--only", "ban,alert", "--jail", "sshd", "--from", "end"];
    const { text } = await scene.row("settings", ...flags);
    expect(text).toBe(
      `f2b-watch ${VERSION}; host web-1; format compact; new logs from the end; only ban, alert; jails sshd`,
    );
  });

  test("a bad setting stays one line and 78, as everywhere", async () => {
    using scene = new CheckScene();
    scene.env["DISCORD_WEBHOOK"] = "not-a-webhook";
    const { code, out, err } = await scene.f2bWatch("check");
    expect({ code, out }).toEqual({ code: 78, out: "" });
    expect(err).toMatch(/^f2b-watch: DISCORD_WEBHOOK: [^\n]+\nhint: [^\n]+\n$/);
  });

  test("however much fails, every row is there, and the worst decides the status", async () => {
    using scene = new CheckScene();
    scene.remove();
    fs.symlinkSync(scene.directory, scene.state);
    fs.chmodSync(scene.path(".env"), 0o644);
    scene.fail2ban["ping"] = { kind: "timedOut" };
    scene.discord.delete();
    const { rows, exitCode } = await scene.check();
    const failed = rows.filter(({ state }) => state === "failed").map((row) => row.exitCode);
    expect(failed).toEqual([78, 66, 66, 73, 69]);
    expect(exitCode).toBe(73);
  });

  test("a bug in one row hides no other", async () => {
    using scene = new CheckScene();
    scene.overrides.runProgram = async () => {
      throw new TypeError("undefined is not a function");
    };
    const { code, out } = await scene.f2bWatch("check", "--log", scene.log, "--json");
    expect(code).toBe(70);
    const { rows } = JSON.parse(out) as { rows: Row[] };
    const states = rows.map(({ name, state }) => `${name} ${state}`);
    expect(states).toContain("fail2ban failed");
    expect(states).toContain("Discord ok");
  });
});

test("on a terminal only, long text wraps at blanks, but no path, and no hint", async () => {
  using scene = new CheckScene();
  scene.overrides.terminal = true;
  const path = `/${"long-path".repeat(12)}`;
  scene.fail2ban["version"] = said(`${"word ".repeat(20)}${path}\n`);
  scene.fail2ban["get logtarget"] = target(path);
  const { out } = await scene.f2bWatch("check", "--log", scene.log);
  const printed = out.split("\n");
  expect(printed.filter((text) => text.includes("word"))).toHaveLength(2);
  expect(printed).toContain(`${" ".repeat(17)}${path},`);
  expect(printed).toContain(`  → --log ${path}`);
  scene.overrides.terminal = false;
  const { out: mailed } = await scene.f2bWatch("check", "--log", scene.log);
  expect(mailed).toContain(`word ${path}, answers\n`);
});

// ── What fails ──────────────────────────────────────────────────────────────────────────────────

/** A file system in which one call fails on one path. */
function failing(
  scene: CheckScene,
  call: "openSync" | "accessSync" | "readdirSync" | "writeSync",
  code: string,
  applies: (path: string, flags: number) => boolean = () => true,
): void {
  const words = { EACCES: "permission denied", ENOSPC: "no space left on device" }[code] ?? code;
  const real = fs[call] as (...args: unknown[]) => unknown;
  const fake = (path: string, flags: number, ...rest: unknown[]) => {
    if (applies(path, flags)) throw systemError(code, words);
    return real(path, flags, ...rest);
  };
  scene.withFs({ [call]: fake } as Partial<typeof fs>);
}

/** The row that fails and no other, after what was done to a server where all is well. */
type Failure = [
  about: string,
  spoil: (scene: CheckScene) => unknown,
  row: string,
  exitCode: number,
  text: RegExp,
  hint: RegExp,
];

/** The first rotated file becomes something else. */
const rotated = (spoil: (path: string) => unknown) => (scene: CheckScene) => {
  scene.rotate();
  spoil(scene.path(".1"));
  scene.append(line(6));
};
const asUser = (scene: CheckScene) => {
  scene.overrides.uid = () => 65_534;
  fs.chownSync(scene.path(".env"), 65_534, 65_534);
};
const target = (where: string) => said(`Current logging target is:\n\`- ${where}\n`);
const level = (name: string) => said(`Current logging level is '${name}'\n`);
const jails = (...names: string[]) =>
  said(`Status\n|- Number of jail:\t${names.length}\n\`- Jail list:\t${names.join(", ")}\n`);
const down =
  "2026-11-22 10:32:46,534 fail2ban                [18642]: ERROR   Failed to access socket path: /var/run/fail2ban/fail2ban.sock. Is fail2ban running?\n";
const closed =
  "2026-11-22 11:03:08,180 fail2ban                [19300]: ERROR   Permission denied to socket: /var/run/fail2ban/fail2ban.sock, (you must be root)\n";
const writesTo = (name: string): Failure => [
  `fail2ban logs to ${name}`,
  ({ fail2ban }) => (fail2ban["get logtarget"] = target(name)),
  "log target",
  66,
  new RegExp(`^fail2ban logs to ${name}, not to a file$`),
  /set logtarget \S+\.log; .*fail2ban\.local/,
];
const logsFrom = (name: string): Failure => [
  `fail2ban logs from ${name} on`,
  ({ fail2ban }) => (fail2ban["get loglevel"] = level(name)),
  "log level",
  66,
  new RegExp(`^${name}: fail2ban does not log its bans$`),
  /set loglevel INFO/,
];
const pings = (about: string, ran: Ran, text: RegExp, hint: RegExp): Failure => [
  `fail2ban ${about}`,
  ({ fail2ban }) => (fail2ban["ping"] = ran),
  "fail2ban",
  66,
  text,
  hint,
];
const openEnv = (mode: number): Failure => [
  `an env file of mode ${mode.toString(8)}, of another group`,
  (scene) => {
    fs.chmodSync(scene.path(".env"), mode);
    fs.chownSync(scene.path(".env"), 0, 4);
  },
  "env file",
  78,
  /others can read it/,
  /file of their own that only this user can access, mode 600$/,
];

test("where the log's folder is missing, that is said and not the system's code", async () => {
  using scene = new Scene();
  const { out } = await scene.f2bWatch("check", "--log", scene.path("none/fail2ban.log"));
  expect(out).toMatch(/✗ rotated files .* no such file or directory\n +→ make sure that it exists/);
  expect(out).not.toContain("ENOENT");
});

// prettier-ignore
const FAILURES: Failure[] = [
  ["no log", (scene) => scene.remove(), "log", 66, /\.log: no such file/, /get logtarget.*--log/],
  ["a log that only others may read",
    (scene) => {
      asUser(scene);
      failing(scene, "openSync", "EACCES", (path) => path === scene.log);
    },
    "log", 66, /permission denied/, /^run as root, or as a member of the log's group$/],
  ["a directory for a log", (scene) => (scene.remove(), fs.mkdirSync(scene.log)), "log", 66,
    /not a regular file/, /--log/],
  ["the log of another program",
    (scene) => fs.writeFileSync(scene.log, "Nov 22 10:00:06 web nginx: started\n".repeat(50)),
    "log", 66, /; these lines are not fail2ban's, or in a format that is not known$/, /get logtarget/],
  ["a log that no longer grows, though fail2ban answers",
    (scene) => {
      fs.utimesSync(scene.log, scene.clockMs / 1_000, scene.clockMs / 1_000);
      scene.wait(DAY + MINUTE);
    },
    "log", 66, /, last written 24 h ago, .*, though fail2ban answers$/, /get logtarget/],
  ["a rotated file that is a link",
    rotated(
      (path) => (fs.renameSync(path, `${path}-moved`), fs.symlinkSync(`${path}-moved`, path)),
    ),
    "rotated files", 66, /fail2ban\.log\.1 \(a link\)/, /^links are not followed there/],
  ["a rotated file of another owner", rotated((path) => fs.chownSync(path, 65_534, 0)),
    "rotated files", 66, /another owner/, /^only files of root and of the log's owner/],
  ["a rotated file that is damaged",
    rotated((path) => (fs.rmSync(path), fs.writeFileSync(`${path}.gz`, "\x1f\x8b".repeat(9), "latin1"))),
    "rotated files", 66, /none found; left out: fail2ban\.log\.1\.gz \(damaged\)$/, /cannot be unpacked/],
  ["a rotated file whose program is missing",
    (scene) => {
      scene.overrides.streamProgram = async function* () {
        throw Object.assign(new Error("no such program"), { code: "ENOENT" });
      };
      fs.writeFileSync(scene.path(".1.xz"), Buffer.from("fd377a585a00", "hex"));
    },
    "rotated files", 66, /none found; left out: .*\.xz \(xz is not installed\)$/, /^install xz/],
  ["a directory named like a rotated file",
    rotated((path) => (fs.rmSync(path), fs.mkdirSync(path))), "rotated files", 66,
    /not a regular file/, /^move it/],
  ["rotated files that may not be listed", (scene) => failing(scene, "readdirSync", "EACCES"),
    "rotated files", 66, /permission denied/, /root/],
  pings("is not installed", { kind: "missing" }, /client is not installed/, /install/),
  pings("hangs", { kind: "timedOut" }, /does not answer in time/, /systemctl restart fail2ban/),
  pings("is down", refused(down), /its socket cannot be reached/, /systemctl.*journalctl/),
  ["only root may ask fail2ban, and --ping is set",
    (scene) => {
      scene.env["F2B_PING"] = "1";
      scene.fail2ban["ping"] = refused(closed);
    },
    "fail2ban", 66, /only root/, /run as root/],
  pings("says something else", refused("?"), /no answer that can be read/, /-client status/),
  ...["SYSLOG", "STDOUT", "STDERR", "SYSOUT", "SYSTEMD-JOURNAL"].map(writesTo),
  ["fail2ban writes to another file",
    ({ fail2ban }) => (fail2ban["get logtarget"] = target("/var/log/other.log")), "log target",
    66, /to \/var\/log\/other\.log, not/, /^--log \/var\/log\/other\.log$/],
  ...["WARNING", "ERROR", "CRITICAL"].map(logsFrom),
  ["a misspelt jail",
    (scene) => {
      scene.env["F2B_JAIL"] = "sshd,ngnix";
      scene.fail2ban["status"] = jails("nginx", "sshd");
    },
    "jails", 64, /^--jail: fail2ban has no jail "ngnix"$/, /^did you mean nginx\?$/],
  ["a jail that is unlike any",
    (scene) => {
      scene.env["F2B_JAIL"] = "mail";
      scene.fail2ban["status"] = jails("nginx", "sshd");
    },
    "jails", 64, /no jail "mail"$/, /^fail2ban has: nginx, sshd$/],
  ...[0o644, 0o604, 0o640].map(openEnv),
  ["an env file of root that others can read, for somebody else",
    (scene) => {
      fs.chmodSync(scene.path(".env"), 0o644);
      scene.overrides.uid = () => 65_534;
    },
    "env file", 78, /others can read it/, /mode 600$/],
  ["a state directory that is not there and cannot be made",
    (scene) => failing(scene, "accessSync", "EACCES", (path) => path === dirname(scene.state)),
    "state", 73, /permission denied/, /--state/],
];

/** The same, once a run has posted five lines. */
// prettier-ignore
const LATER: Failure[] = [
  ["a state directory that is a link",
    ({ state }) => (
      fs.renameSync(state, `${state}-moved`),
      fs.symlinkSync(`${state}-moved`, state)
    ),
    "state", 73, /is a link/, /--state/],
  ["a state directory that others may write to", ({ state }) => fs.chmodSync(state, 0o777),
    "state", 73, /by others/, /./],
  ["a state directory of another", ({ state }) => fs.chownSync(state, 1, 1), "state", 73,
    /somebody else|another/, /./],
  ["a full disk", (scene) => failing(scene, "writeSync", "ENOSPC"), "state", 73, /no space left/,
    /--state/],
  ["a state of a newer version",
    (scene) => fs.writeFileSync(scene.stateFile(), '{"version": 99}'), "progress", 73,
    /newer f2b-watch \(version 99\)/, /install/],
  ["a state of which both copies are damaged",
    (scene) => ["", ".bak"].map((end) => fs.writeFileSync(scene.stateFile() + end, "{")),
    "progress", 73, /damaged, and so is its older copy/, /df -h/],
  ["a state that others may write", (scene) => fs.chmodSync(scene.stateFile(), 0o666),
    "progress", 73, /writable by others/, /mode 600|--state/],
  ["a lock that is no lock file",
    (scene) => fs.writeFileSync(scene.stateFile().replace(/json$/, "json.lock"), "garbage"),
    "lock", 73, /is not an empty file/, /rm \S+\.lock$/],
  ["a lock that somebody else made", (scene) => failing(scene, "accessSync", "EACCES"), "lock",
    73, /permission denied/, /root/],
  ["fail2ban stays on the rotated file",
    async (scene) => {
      scene.rotate();
      scene.write(`${line(6)}\n`, ".1");
      await scene.run();
      scene.wait(2 * MINUTE);
      scene.write(`${line(7)}\n`, ".1");
      await scene.run();
      scene.wait(HOUR);
    },
    "progress", 66, /writing to fail2ban\.log\.1 for 62 min/, /flushlogs/],
  ["a webhook that was deleted", ({ discord }) => discord.delete(), "Discord", 69, /\(?10015\)/,
    /Webhooks/],
  ["a wrong token", ({ env }) => (env["DISCORD_WEBHOOK"] += "x"), "Discord", 69, /50027\)/,
    /DISCORD_WEBHOOK/],
  ["no network", ({ discord }) => discord.failAlways({ kind: "refused", code: "ENOTFOUND" }),
    "Discord", 75, /^cannot connect \(ENOTFOUND\)$/, /curl -sSI discord\.com$/],
  ["no answer", ({ discord }) => discord.failAlways({ kind: "hang", save: false }), "Discord",
    75, /in time/, /curl/],
  ["503", ({ discord }) => discord.failAlways({ kind: "html", status: 503 }), "Discord", 75,
    /503/, /curl/],
  ["a proxy's page", ({ discord }) => discord.failAlways({ kind: "html", status: 200 }),
    "Discord", 75, /^answers 200, but not as Discord does$/, /stands between/],
  ["a redirect",
    ({ discord }) => discord.failAlways({ kind: "redirect", location: "https://elsewhere/" }),
    "Discord", 78, /redirect/, /curl/],
  ["a rate limit", ({ discord }) => discord.failAlways({ kind: "cloudflare" }), "Discord", 75,
    /rate limited/, /later run/],
  ["403 without a code", ({ discord }) => discord.failAlways({ kind: "html", status: 403 }),
    "Discord", 69, /403/, /settings/],
];

test.each(FAILURES)("✗: %s", async (_, spoil, row, exitCode, text, hint) => {
  using scene = new CheckScene();
  await spoil(scene);
  await scene.expectFailure(row, exitCode, text, hint);
});

test.each(LATER)("✗, after a run: %s", async (_, spoil, row, exitCode, text, hint) => {
  using scene = await CheckScene.after(1, 5);
  await spoil(scene);
  const before = scene.stateFiles();
  await scene.expectFailure(row, exitCode, text, hint);
  expect(scene.stateFiles()).toEqual(before);
});

test("no hint changes the owner or the mode of what f2b-watch has not made", async () => {
  using scene = new CheckScene();
  for (const state of ["/tmp", "/dev/null", "/etc/hostname"]) {
    for (const argv of [["check"], []]) {
      const { out, err } = await scene.f2bWatch(...argv, "--log", scene.log, "--state", state);
      expect(out + err).toMatch(/--state/);
      expect(out + err).not.toMatch(/\bch(?:own|mod|grp)\b/);
    }
  }
});

// ── What is well ────────────────────────────────────────────────────────────────────────────────

describe("?", () => {
  test.each([
    ["only root may ask fail2ban", refused(closed)],
    ["Deno may not run it", undefined],
  ])("%s: that is no failure, as a run does without", async (_, ran) => {
    using scene = new CheckScene();
    if (ran) scene.fail2ban["ping"] = ran;
    else {
      scene.overrides.runProgram = async () => {
        const message = 'Requires run access to "fail2ban-client", run again with --allow-run';
        throw Object.assign(new Error(message), { name: "NotCapable" });
      };
    }
    const { rows, exitCode } = await scene.check();
    expect(exitCode).toBe(0);
    expect(rows.filter(({ state }) => state !== "ok")).toMatchObject([
      { name: "fail2ban", state: "unknown", hint: "", exitCode: 0 },
    ]);
    expect(rows.map(({ name }) => name)).not.toContain("log target");
  });
});

describe("the log", () => {
  test("with size, age and who may read it", async () => {
    using scene = new CheckScene();
    fs.chmodSync(scene.log, 0o640);
    scene.wait(3 * HOUR);
    const { text } = await scene.row("log");
    expect(text).toBe(`${scene.log}, 470 B, last written 3 h ago, 640 root:root`);
    fs.truncateSync(scene.log);
    expect((await scene.row("log")).text).toContain(", empty, ");
  });

  test("that does not grow is all right where fail2ban is down, or is many hosts'", async () => {
    using scene = new CheckScene();
    scene.wait(3 * DAY);
    const glob = await scene.f2bWatch("check", "--log", `${scene.directory}/fail2ban.lo[g]`);
    expect(glob.out).toContain("✓ log ");
    scene.fail2ban["ping"] = refused(down);
    expect((await scene.row("log")).state).toBe("ok");
  });

  test("its rotated files that a run would read are counted", async () => {
    using scene = new CheckScene();
    expect((await scene.row("rotated files")).text).toBe("none found");
    scene.rotate();
    scene.rotate();
    scene.compress(".2");
    expect((await scene.row("rotated files")).text).toBe("2 found, youngest fail2ban.log.1");
  });

  test("many rotated files that are left out are not all named", async () => {
    using scene = new CheckScene();
    for (let number = 1; number <= 30; number++) fs.mkdirSync(scene.path(`.${number}`));
    await scene.expectFailure("rotated files", 66, /\.1 .* and 25 more$/, /move/);
  });
});

describe("fail2ban", () => {
  test.each([
    { kind: "timedOut" },
    said("what?"),
    { kind: "ended", code: 255, out: "", err: "" },
  ] as const)("that answers a ping and nothing else is all right: %j", async (answer) => {
    using scene = new CheckScene();
    for (const words of ["version", "get loglevel", "get logtarget"])
      scene.fail2ban[words] = answer;
    const { code, out } = await scene.f2bWatch("check", "--log", scene.log);
    expect(code).toBe(0);
    expect(out).toMatch(/^✓ fail2ban .*answers$/m);
    expect(out).not.toMatch(/log (?:target|level)/);
  });

  test("that writes elsewhere is no trouble where the logs of many hosts are watched", async () => {
    using scene = new CheckScene();
    scene.fail2ban["get logtarget"] = target("/var/log/fail2ban.log");
    const glob = `${scene.directory}/fail2ban.lo[g]`;
    const { code, out } = await scene.f2bWatch("check", "--log", glob);
    expect(code).toBe(0);
    expect(out).toContain("✓ log target     /var/log/fail2ban.log\n");
  });

  test("that writes to the same file by another name", async () => {
    using scene = new CheckScene();
    fs.symlinkSync(scene.log, scene.path(".by-another-name"));
    scene.fail2ban["get logtarget"] = target(scene.path(".by-another-name"));
    expect((await scene.row("log target")).state).toBe("ok");
  });

  const fine: [string, string, string, (scene: CheckScene) => unknown][] = [
    ["its version", "fail2ban", "1.0.2, answers", () => undefined],
    ["DEBUG", "log level", "DEBUG", (scene) => (scene.fail2ban["get loglevel"] = level("DEBUG"))],
    [
      "NOTICE",
      "log level",
      "NOTICE: bans, but neither failed attempts nor restarts",
      (scene) => (scene.fail2ban["get loglevel"] = level("NOTICE")),
    ],
    [
      "jails that it has",
      "jails",
      "sshd",
      (scene) => {
        scene.env["F2B_JAIL"] = "sshd";
        scene.fail2ban["status"] = jails("nginx", "sshd");
      },
    ],
    [
      "words that are made harmless",
      "fail2ban",
      "1.0\\u202e`\u200b`\u200b` @everyone\\x1b[31m next, answers",
      (scene) => (scene.fail2ban["version"] = said("1.0\u202e``` @everyone\x1b[31m\nnext")),
    ],
  ];
  test.each(fine)("%s", async (_, name, text, prepare) => {
    using scene = new CheckScene();
    prepare(scene);
    expect(await scene.row(name)).toMatchObject({ state: "ok", text });
  });
});

describe("a run reports once, and does its work all the same", () => {
  test("a jail that fail2ban does not have", async () => {
    using scene = new CheckScene();
    scene.fail2ban["status"] = jails("nginx", "sshd");
    const told = 'f2b-watch: --jail: fail2ban has no jail "ssdh"\nhint: did you mean sshd?\n';
    expect((await scene.run("--jail", "ssdh", "--dry-run")).err).toStartWith(told);
    expect(await scene.run("--jail", "ssdh")).toEqual({ code: 0, out: "", err: told });
    scene.append(line(6));
    await scene.pass("--jail", "ssdh");
    scene.wait(2 * DAY);
    scene.append(line(7));
    await scene.pass("--jail", "ssdh");
    scene.append(line(8));
    await scene.pass("--jail", "sshd");
    scene.expectPosted(line(8));
  });

  test.each([
    ["SYSLOG", "fail2ban logs to SYSLOG, not to a file"],
    ["/var/log/other.log", "fail2ban writes to /var/log/other.log, not to "],
    ["", "has not grown for a day, though fail2ban answers"],
  ])("a log that no longer grows while fail2ban logs to %j", async (where, words) => {
    using scene = await CheckScene.after(1, 5);
    scene.fail2ban["get logtarget"] = target(where || scene.log);
    scene.wait(DAY - MINUTE);
    await scene.pass();
    scene.wait(2 * MINUTE);
    const { code, err } = await scene.run();
    expect({ code, told: err.split("\n").length }).toEqual({ code: 0, told: 3 });
    expect(err).toContain(words);
    for (const day of [0, 1, 2]) {
      scene.wait(day * DAY);
      await scene.pass();
      await scene.expectQuiet();
    }
    scene.append(line(6));
    fs.utimesSync(scene.log, scene.clockMs / 1_000, scene.clockMs / 1_000);
    await scene.pass();
    scene.wait(DAY + MINUTE);
    expect((await scene.run()).err).toContain(words);
  });

  test("nothing where fail2ban cannot be asked, or the logs are many hosts'", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.wait(2 * DAY);
    const many = `${scene.directory}/fail2ban.lo[g]`;
    expect(await scene.f2bWatch("--log", many)).toEqual({ code: 0, out: "", err: "" });
    scene.fail2ban["ping"] = refused(closed);
    await scene.pass("--jail", "ssdh");
    await scene.pass();
  });
});

test("the env file: only we can read it, our own group can, it is not there", async () => {
  using scene = new CheckScene();
  expect((await scene.row("env file")).text).toBe(`${scene.path(".env")}, 600 root:root`);
  fs.chmodSync(scene.path(".env"), 0o640);
  expect((await scene.row("env file")).state).toBe("ok");
  delete scene.env["F2B_ENV_FILE"];
  expect((await scene.row("env file")).text).toBe("none (/etc/f2b-watch.env does not exist)");
});

// ── The state ───────────────────────────────────────────────────────────────────────────────────

describe("the state", () => {
  test("directory and file with their modes", async () => {
    using scene = await CheckScene.after(1, 5);
    const { text } = await scene.row("state");
    expect(text).toMatch(/^\S+\/state, 700 root:root; \S+\.json, 600 root:root$/);
  });

  test("directory that cannot be written to", async () => {
    using scene = await CheckScene.after(1, 5);
    failing(scene, "openSync", "EROFS", (_, flags) => (flags & fs.constants.O_CREAT) !== 0);
    const { rows } = await scene.check();
    const failed = rows.filter(({ state }) => state === "failed");
    const text = expect.stringMatching(/^cannot write to .*: EROFS$/);
    expect(failed).toMatchObject([{ name: "state", exitCode: 73, text }]);
    expect(fs.readdirSync(scene.state).filter((name) => name.includes("try"))).toEqual([]);
  });

  test("of which one copy is damaged is used all the same", async () => {
    using scene = await CheckScene.after(1, 5);
    fs.writeFileSync(scene.stateFile(), "{");
    const { state, text } = await scene.row("progress");
    expect(state).toBe("ok");
    expect(text).toContain("the newer one is damaged");
  });
});

describe("progress", () => {
  test("line, time, and what is unread behind it", async () => {
    using scene = await CheckScene.after(1, 5);
    const place = "discord after line 5 (2026-11-22 08:00:05,035)";
    expect((await scene.row("progress")).text).toBe(`${place}, up to date`);
    scene.append(...lines(6, 40));
    expect((await scene.row("progress")).text).toBe(`${place}, 3.3 KB unread`);
    scene.rotate();
    expect((await scene.row("progress")).text).toBe(`${place} of a rotated file`);
    scene.remove();
    expect((await scene.row("progress")).text).toBe(place);
  });

  test("of every destination", async () => {
    using scene = await CheckScene.after(1, 5);
    Object.assign(scene.env, { SLACK_WEBHOOK: scene.slack.webhook });
    scene.append(line(6));
    await scene.run();
    const { text } = await scene.row("progress");
    expect(text).toMatch(/^discord after line 6 .*; slack after line 6 .*, up to date$/);
  });

  test("a message that waits is ✗, until it is sent", async () => {
    using scene = new CheckScene();
    const ban = "NOTICE  [sshd] Ban 203.0.113.7";
    scene.append(`2026-11-22 09:00:00,000 fail2ban.actions        [18191]: ${ban}`);
    scene.discord.failAlways({ kind: "refused" });
    expect((await scene.run("--format", "events")).code).toBe(75);
    const { state, exitCode, text, hint } = await scene.row("progress");
    expect({ state, exitCode }).toEqual({ state: "failed", exitCode: 75 });
    expect(text).toContain(", 1 message waiting");
    expect(hint).toContain("the next run sends it");
    scene.discord.failAlways(undefined);
    await scene.run("--format", "events");
    expect((await scene.row("progress")).state).toBe("ok");
  });
});

// ── The lock ────────────────────────────────────────────────────────────────────────────────────

describe("the lock", () => {
  test("that is free, and one that a run holds, are told apart without a touch", async () => {
    using scene = await CheckScene.after(1, 5);
    expect((await scene.row("lock")).text).toBe("works, free");
    using _ = scene.holdLock();
    expect((await scene.row("lock")).text).toBe(`works; process ${process.pid} is running now`);
  });

  test("where the kernel's list cannot be read, nothing is said of who holds it", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.withFs({
      readFileSync: ((path: string, ...rest: [BufferEncoding]) => {
        if (path === "/proc/locks") throw systemError("ENOENT", "no such file or directory");
        return fs.readFileSync(path, ...rest);
      }) as typeof fs.readFileSync,
    });
    using _ = scene.holdLock();
    expect((await scene.row("lock")).text).toBe("works");
  });

  test("that a run has held for too long", async () => {
    using scene = await CheckScene.after(1, 5);
    using _ = scene.holdLock();
    const mark = scene.stateFile().replace(/json$/, "json.mark");
    fs.writeFileSync(mark, "");
    fs.utimesSync(mark, scene.clockMs / 1_000, scene.clockMs / 1_000);
    scene.wait(5 * MINUTE);
    expect((await scene.row("lock")).state).toBe("ok");
    scene.wait(HOUR);
    const hint = new RegExp(`^ps -fp ${process.pid}$`);
    await scene.expectFailure("lock", 75, /another run has been in progress for 65 min/, hint);
  });

  test("whose mark a killed run left is free", async () => {
    using scene = await CheckScene.after(1, 5);
    fs.writeFileSync(scene.stateFile().replace(/json$/, "json.mark"), "");
    scene.wait(HOUR * 23);
    expect((await scene.row("lock")).text).toBe("works, free");
  });

  test("checks beside runs: no run finds the lock taken, no line is left behind", async () => {
    using scene = await CheckScene.after(1, 5);
    let number = 5;
    for (let round = 0; round < 20; round++) {
      scene.append(line(++number));
      const [{ code }] = await Promise.all([scene.run(), scene.check()]);
      expect(code).toBe(0);
    }
    expect(scene.newlyPosted()).toEqual(lines(6, number));
  });
});

// ── Destinations ────────────────────────────────────────────────────────────────────────────────

describe("no destination", () => {
  test("messages go to stdout; --hello is refused", async () => {
    using scene = new CheckScene();
    delete scene.env["DISCORD_WEBHOOK"];
    const { state, text } = await scene.row("destination");
    expect(state).toBe("ok");
    expect(text).toMatch(/^none: messages go to stdout \(set DISCORD_WEBHOOK/);
    const { code, err } = await scene.f2bWatch("check", "--hello", "--log", scene.log);
    expect(code).toBe(78);
    expect(err).toStartWith("f2b-watch: --hello: no destination is set\nhint: set ");
  });
});

describe("Discord", () => {
  test("the webhook's name and channel, asked for as Discord wants it", async () => {
    using scene = new CheckScene();
    expect((await scene.row("Discord")).text).toBe('webhook "Spidey Bot" of channel 2');
    const [request, ...more] = scene.discord.requests;
    expect(more).toEqual([]);
    expect(request).toMatchObject({ method: "GET", body: "" });
    expect(request?.query).toEqual({});
    expect(request?.path).toStartWith("/api/v10/webhooks/");
    expect(scene.discord.violations).toEqual([]);
  });

  test("a name that would break the table, or holds our own token", async () => {
    const token = FIRST_HOOK.replace(/.*\//, "");
    using scene = new CheckScene({ discord: { name: `\`\`\`\n\u202e${token}${"x".repeat(500)}` } });
    const { text } = await scene.row("Discord");
    expect(text).toStartWith('webhook "`\u200b`\u200b` \\u202e');
    expect(text.length).toBeLessThan(150);
  });

  test("a thread: only --hello can tell whether it is there", async () => {
    using scene = new CheckScene();
    scene.env["DISCORD_WEBHOOK"] += "?thread_id=42";
    const { state, text, exitCode } = await scene.row("Discord");
    expect({ state, exitCode }).toEqual({ state: "unknown", exitCode: 0 });
    expect(text).toContain("whether thread 42 is there only check --hello can tell");
    expect((await scene.row("Discord", "--hello")).state).toBe("ok");
  });
});

describe("Slack", () => {
  test("by token: who we are; whether it may post only --hello can tell", async () => {
    using scene = new CheckScene().useSlack();
    const { rows, exitCode } = await scene.check();
    expect(exitCode).toBe(0);
    expect(rows.at(-1)).toMatchObject({
      name: "Slack",
      state: "unknown",
      text: "@f2b of Example; whether it may post to C0123456789 only check --hello can tell",
    });
    expect(scene.slack.requests.map(({ path }) => path)).toEqual(["/api/auth.test"]);
    expect(scene.slack.violations).toEqual([]);
  });

  test("by webhook: nothing is called, only --hello can tell", async () => {
    using scene = new CheckScene().useSlack("webhook");
    const { state, text } = await scene.row("Slack");
    expect({ state, text }).toEqual({
      state: "unknown",
      text: "an incoming webhook; whether it works only check --hello can tell",
    });
    expect(scene.slack.requests).toEqual([]);
  });

  test("a token that is not valid", async () => {
    using scene = new CheckScene().useSlack();
    scene.env["SLACK_TOKEN"] = "xoxb-of-somebody-else";
    await scene.expectFailure("Slack", 69, /not valid \(invalid_auth\)/, /set SLACK_TOKEN/);
  });

  test("a token without the scope to post", async () => {
    using scene = new CheckScene({ slack: { scopes: ["users:read", "chat:write.public"] } });
    scene.useSlack();
    await scene.expectFailure("Slack", 69, /lacks the scope chat:write$/, /add chat:write/);
  });

  test("a token without the scope for its own name and icon works, and that is noted", async () => {
    using scene = new CheckScene({ slack: { scopes: ["chat:write"] } });
    const { state, text } = await scene.useSlack().row("Slack");
    expect(state).toBe("unknown");
    expect(text).toContain("without chat:write.customize");
  });

  test("a server that says nothing of scopes", async () => {
    using scene = new CheckScene().useSlack();
    scene.slack.failAlways({ kind: "status", status: 200, body: '{"ok":true}' });
    expect((await scene.row("Slack")).text).toStartWith("@bot of a team without a name; whether");
  });

  test("no network", async () => {
    using scene = new CheckScene().useSlack();
    scene.slack.failAlways({ kind: "refused" });
    await scene.expectFailure("Slack", 75, /cannot connect/, /curl -sSI slack\.com$/);
  });
});

// ── Pauses and lasting failures ─────────────────────────────────────────────────────────────────

describe("a destination that refused", () => {
  test("and is alive again is called by the next run, and only then is anything written", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.delete();
    scene.append(line(6));
    expect((await scene.run()).code).toBe(69);
    scene.wait(3 * HOUR);
    const dead = scene.stateFiles();
    await scene.expectFailure("Discord", 69, /10015\); runs have failed for 3 h$/, /Webhooks/);
    expect(scene.stateFiles()).toEqual(dead);
    scene.discord.restore();
    expect((await scene.run()).code).toBe(69);
    const { state, text } = await scene.row("Discord");
    expect(state).toBe("ok");
    expect(text).toContain(
      "refused before (the webhook was deleted (404, code 10015)), is called again",
    );
    expect((await scene.row("Discord")).text).not.toContain("refused before");
    expect(await scene.run()).toEqual({
      code: 0,
      out: "",
      err: "f2b-watch: Discord works again\n",
    });
    scene.expectPosted(line(6));
    expect((await scene.row("Discord")).text).toBe('webhook "Spidey Bot" of channel 2');
  });

  test("a dry run leaves it alone", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.fail({ kind: "code", status: 404, code: 10015 });
    scene.append(line(6));
    await scene.run();
    const before = scene.stateFiles();
    await scene.check("--dry-run");
    expect(scene.stateFiles()).toEqual(before);
  });

  test("a pass that comes while it is set free is made up for", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.fail({ kind: "code", status: 404, code: 10015 });
    scene.append(line(6));
    await scene.run();
    // At the moment when the state is written, under the lock, a run begins and finds the lock taken.
    let late: Promise<RunResult> | undefined;
    scene.withFs({
      fsyncSync: (descriptor) => {
        if (!late && fs.readFileSync(`/proc/self/fd/${descriptor}`, "utf8").startsWith("{")) {
          scene.append(line(7));
          late = scene.run();
        }
        fs.fsyncSync(descriptor);
      },
    });
    await scene.f2bWatch("check", "--log", scene.log);
    expect((await late)?.code).toBe(0);
    expect(scene.newlyPosted()).toEqual(lines(6, 7));
  });

  test("by a Slack webhook stays refused until --hello", async () => {
    using scene = new CheckScene().useSlack("webhook");
    scene.slack.fail({ kind: "error", error: "no_service" });
    await scene.run();
    scene.wait(2 * HOUR);
    await scene.expectFailure(
      "Slack",
      69,
      /deleted \(404, no_service\); runs.* 2 h$/,
      /SLACK_WEBHOOK.*--hello$/,
    );
    expect((await scene.row("Slack", "--hello")).state).toBe("ok");
    expect((await scene.run()).code).toBe(0);
    expect(scene.slack.lines()).toEqual(lines(1, 5));
  });

  test("for its channel stays refused until --hello: the token does not tell", async () => {
    using scene = new CheckScene().useSlack();
    scene.slack.fail({ kind: "error", error: "not_in_channel" });
    await scene.run();
    const text =
      /^@f2b of Example; the bot is not in the channel \(not_in_channel\); runs have failed for 0 s$/;
    await scene.expectFailure("Slack", 69, text, /\/invite @f2b; .*; then: check --hello$/);
    expect((await scene.run()).code).toBe(69);
    expect((await scene.row("Slack", "--hello")).state).toBe("ok");
    expect((await scene.run()).code).toBe(0);
  });

  test("for its token is called again when the token works", async () => {
    using scene = new CheckScene().useSlack();
    scene.slack.fail({ kind: "error", error: "token_revoked" });
    await scene.run();
    const { state, text } = await scene.row("Slack");
    expect(state).toBe("unknown");
    expect(text).toContain("(token_revoked)), is called again");
    expect((await scene.run()).code).toBe(0);
    expect(scene.slack.lines()).toEqual(lines(1, 5));
  });
});

describe("a destination that wants quiet", () => {
  test("is not asked, and it is said for how long", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.fail({ kind: "cloudflare" });
    scene.append(line(6));
    expect((await scene.run()).code).toBe(75);
    scene.wait(5 * MINUTE);
    const before = scene.discord.requests.length;
    for (const flags of [[], ["--hello"]]) {
      const { state, exitCode, text } = await scene.row("Discord", ...flags);
      expect({ state, exitCode }).toEqual({ state: "failed", exitCode: 75 });
      expect(text).toMatch(/^quiet for another 10 min: rate limited; runs have failed for 5 min$/);
    }
    expect(scene.discord.requests.length).toBe(before);
  });

  test("no longer than it may", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.fail({ kind: "cloudflare" });
    scene.append(line(6));
    await scene.run();
    scene.wait(HOUR);
    const { state, text } = await scene.row("Discord");
    expect(state).toBe("ok");
    expect(text).toContain("; runs have failed for 60 min");
  });
});

test("a destination that does not say that it keeps messages", async () => {
  using scene = new CheckScene();
  scene.discord.fail({ kind: "empty-204" });
  await scene.run();
  expect((await scene.row("Discord")).text).toContain("does not say that it keeps messages");
});

// ── --hello ─────────────────────────────────────────────────────────────────────────────────────

describe("--hello", () => {
  test("posts one line to every destination, and turns ? into ✓", async () => {
    using scene = new CheckScene();
    Object.assign(scene.env, {
      SLACK_TOKEN: scene.slack.token,
      SLACK_CHANNEL: scene.slack.channel,
    });
    const { rows, exitCode } = await scene.check("--hello");
    expect(exitCode).toBe(0);
    expect(rows.slice(-2)).toMatchObject([
      {
        name: "Discord",
        state: "ok",
        text: expect.stringContaining("; the test message is there"),
      },
      { name: "Slack", state: "ok", text: "@f2b of Example; the test message is there" },
    ]);
    const hello = `👋 web-1: f2b-watch ${VERSION} can post here, it watches \`${scene.log}\``;
    expect(scene.discord.messages.map(({ content }) => content)).toEqual([hello]);
    expect(scene.slack.messages.map(({ content }) => content)).toEqual([`*web-1*\n${hello}`]);
    expect([...scene.discord.violations, ...scene.slack.violations]).toEqual([]);
  });

  test("moves no cursor: the pass after it posts what it would have", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.append(line(6));
    await scene.check("--hello");
    expect(scene.newlyPosted()).toEqual([]);
    await scene.pass();
    scene.expectPosted(line(6));
  });

  test("before the first pass: that one is still the first", async () => {
    using scene = new CheckScene();
    await scene.check("--hello");
    expect((await scene.row("progress")).text).toContain("none: the first run");
    await scene.pass();
    scene.expectPosted(...lines(1, 5));
  });

  test("counts for the pace: no 429, however often", async () => {
    using scene = new CheckScene();
    for (let round = 0; round < 8; round++) await scene.check("--hello");
    expect(scene.discord.messages).toHaveLength(8);
    expect(scene.discord.count429).toBe(0);
    expect(scene.discord.violations).toEqual([]);
  });

  const refusals: [string, number, RegExp][] = [
    ["not_in_channel", 69, /^in Slack, in that channel: \/invite @f2b; or set SLACK_CHANNEL/],
    ["channel_not_found", 69, /\/invite @f2b/],
    ["is_archived", 69, /unarchive/],
    ["restricted_action", 69, /settings/],
    ["service_unavailable", 75, /./],
    ["invalid_blocks", 78, /settings/],
  ];
  test.each(refusals)("refused with %s is ✗ with what to do", async (error, exitCode, hint) => {
    using scene = new CheckScene().useSlack();
    scene.slack.failAlways(undefined);
    const failing = scene.overrides.fetch;
    scene.overrides.fetch = (url, init) => {
      if (url.endsWith("chat.postMessage")) scene.slack.fail({ kind: "error", error });
      return failing?.(url, init) ?? Promise.reject(new Error("no fetch"));
    };
    const row = await scene.row("Slack", "--hello", "--max-time", "2");
    expect(row).toMatchObject({ state: "failed", exitCode });
    expect(row.text).toContain(error);
    expect(row.hint).toMatch(hint);
  });

  test("a bot that is not in the channel", async () => {
    using scene = new CheckScene({ slack: { outside: ["C0123456789"] } }).useSlack();
    const { text, exitCode } = await scene.row("Slack", "--hello");
    expect({ text, exitCode }).toEqual({
      text: "@f2b of Example; but the bot is not in the channel (not_in_channel)",
      exitCode: 69,
    });
  });

  test("a forum without a thread", async () => {
    using scene = new CheckScene({ discord: { forum: true } });
    expect((await scene.row("Discord")).state).toBe("ok");
    const { text, exitCode, hint } = await scene.row("Discord", "--hello");
    expect(exitCode).toBe(78);
    expect(text).toContain("(400, code 220001)");
    expect(hint).toContain("?thread_id=<id>");
  });

  test("that fails is not taken for a failure of a pass", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.refuseContent((content) => content.includes("👋"));
    expect((await scene.row("Discord", "--hello")).exitCode).toBe(69);
    scene.discord.refuseContent(() => false);
    scene.append(line(6));
    await scene.pass();
    scene.expectPosted(line(6));
  });

  test("is not posted to what is known to be dead", async () => {
    using scene = new CheckScene();
    scene.discord.delete();
    expect((await scene.row("Discord", "--hello")).exitCode).toBe(69);
    expect(scene.discord.requests.map(({ method }) => method)).toEqual(["GET"]);
    expect(scene.discord.violations).toEqual([]);
  });

  test("waits for the run at work, until --max-time", async () => {
    using scene = await CheckScene.after(1, 5);
    using _ = scene.holdLock();
    const row = await scene.row("Discord", "--hello", "--max-time", "10");
    expect(row).toMatchObject({ exitCode: 75, text: expect.stringContaining("another run") });
    expect(row.hint).toContain("check again");
    expect(scene.discord.messages).toHaveLength(1);
  });

  test("where the state directory is unfit: nothing is posted, and the row says why", async () => {
    using scene = new CheckScene();
    fs.symlinkSync(scene.directory, scene.state);
    const { rows } = await scene.check("--hello");
    const failed = rows.filter(({ state }) => state === "failed");
    expect(failed.map(({ name, exitCode }) => `${name} ${exitCode}`)).toEqual([
      "state 73",
      "Discord 73",
    ]);
    expect(scene.discord.messages).toEqual([]);
  });

  test("with --dry-run prints the message, posts nothing and proves nothing", async () => {
    using scene = new CheckScene().useSlack();
    const { code, out } = await scene.f2bWatch("check", "--hello", "--dry-run", "--log", scene.log);
    expect(code).toBe(0);
    expect(out).toContain(`👋 web-1: f2b-watch ${VERSION}`);
    expect(out).toContain("? Slack");
    expect((await scene.row("Slack", "--hello", "--dry-run")).state).toBe("unknown");
    expect(scene.slack.messages).toEqual([]);
    expect(fs.existsSync(scene.state)).toBe(false);
  });

  test("host and path are made harmless", async () => {
    using scene = new CheckScene();
    const log = join(scene.directory, "a`b\u202e.log");
    fs.copyFileSync(scene.log, log);
    await scene.f2bWatch("check", "--hello", "--log", log, "--host", "```\u202e");
    const [message] = scene.discord.messages;
    expect(message?.content).toStartWith("👋 `\u200b`\u200b`\\u202e: f2b-watch");
    expect(message?.content).toEndWith("/a'b\\u202e.log`");
    expect(scene.discord.violations).toEqual([]);
  });

  test("on a terminal leaves no progress line beside the table", async () => {
    using scene = new CheckScene();
    scene.overrides.terminal = true;
    const { err } = await scene.f2bWatch("check", "--hello", "--log", scene.log);
    expect(err.endsWith("\r\x1b[K")).toBe(true);
  });
});
