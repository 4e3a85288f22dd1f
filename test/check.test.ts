/** `check`: what is configured and whether it works, row by row; and the test message of --hello. */
import { describe, expect, test } from "bun:test";
import { DatabaseSync } from "node:sqlite";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import manifest from "../package.json";
import { Discord, type DiscordOptions } from "./discord.ts";
import { DAY, HOUR, line, lines, MINUTE, said, Scene, systemError } from "./harness.ts";
import type { FsCall, Ran, Row, RunResult } from "./harness.ts";
import { addSlack, type Slack, type SlackOptions } from "./slack.ts";

const TOKEN = new Discord().webhook.replace(/.*\//, "");

type Services = { discord?: DiscordOptions; slack?: SlackOptions };

/** A server where all is well: fail2ban answers, Discord is set, Slack is there to be set. */
class CheckScene extends Scene {
  override readonly discord: Discord;
  readonly slack: Slack;
  /** What `check` is given; what ends with the scene. */
  flags: string[] = [];
  watched = this.log;
  readonly resources = new DisposableStack();
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
    this.slack = addSlack(this, services.slack);
    this.env = { DISCORD_WEBHOOK: this.discord.webhook, F2B_ENV_FILE: this.path(".env") };
    fs.writeFileSync(this.path(".env"), "", { mode: 0o600 });
    this.append(...lines(1, 5));
    this.setLogTime();
    this.overrides.runProgram = async (program, args) => {
      expect(program).toBe("fail2ban-client");
      return this.fail2ban[args.join(" ")] ?? refused("NOK");
    };
  }

  override [Symbol.dispose](): void {
    this.resources.dispose();
    super[Symbol.dispose]();
  }

  /** The log was written just now. */
  setLogTime(): void {
    fs.utimesSync(this.log, this.clockMs / 1_000, this.clockMs / 1_000);
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
    const words = ["check", "--log", this.watched, "--json", ...this.flags, ...flags];
    const { code, out, err } = await this.f2bWatch(...words);
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

  /** That row and no other fails with this status, or none fails and that row is ✓ or ?, or is not there. */
  async expectRow(name: string, sign: Sign, text: RegExp | string, hint = /^$/): Promise<void> {
    const { rows, exitCode } = await this.check();
    const failed = rows.filter(({ state }) => state === "failed");
    expect(failed.map((row) => row.name)).toEqual(typeof sign === "number" ? [name] : []);
    expect(exitCode).toBe(typeof sign === "number" ? sign : 0);
    const [row, ...more] = rows.filter((each) => each.name === name);
    expect(more).toEqual([]);
    if (sign === "no") return expect(row).toBeUndefined();
    expect(row?.state).toBe(sign === "✓" ? "ok" : sign === "?" ? "unknown" : "failed");
    if (typeof text === "string") expect(row?.text).toBe(text);
    else expect(row?.text).toMatch(text);
    expect(row?.hint).toMatch(hint);
  }

  expectNoSecret(text: string): void {
    for (const secret of [this.discord.webhook, this.slack.webhook, this.slack.token]) {
      expect(text).not.toContain(secret.replace(/.*\//, ""));
    }
    expect(text).not.toContain("://");
  }

  /** Every file of the state directory with its contents and times; reading a lock would free it. */
  stateFiles(): string[] {
    const names = fs.existsSync(this.state) ? fs.readdirSync(this.state) : [];
    return names.map((name) => {
      const path = join(this.state, name);
      const { mtimeMs, size } = fs.statSync(path);
      return `${name} ${mtimeMs} ${size && fs.readFileSync(path, "base64")}`;
    });
  }

  /** A file beside the state file. */
  stateFileWith(end: string): string {
    return this.stateFile().replace(/\.json$/, end);
  }

  /** The lock of the run that is at work, as another process would hold it. */
  holdLock(): void {
    const database = this.resources.use(new DatabaseSync(this.stateFileWith(".json.lock")));
    database.exec("BEGIN IMMEDIATE");
  }

  static override async after(from: number, to: number, services?: Services): Promise<CheckScene> {
    const scene = new CheckScene(services);
    expect([from, to]).toEqual([1, 5]);
    await scene.passPosts(...lines(1, 5));
    return scene;
  }
}

const refused = (err: string) => said("", 255, err);

/** A file system in which one call fails on one path. */
function failing(
  scene: CheckScene,
  call: FsCall,
  code: string,
  applies: (path: string, flags: number) => boolean = () => true,
): void {
  const words = { EACCES: "permission denied", ENOSPC: "no space left on device" }[code] ?? code;
  scene.beforeCalls(call, (path, flags) => {
    if (applies(path, flags)) throw systemError(`${code}: ${words}`);
  });
}

// ── Rows ────────────────────────────────────────────────────────────────────────────────────────

/** The exit status of a row that fails alone; else that of a row where none fails, or that it is not there. */
type Sign = number | "✓" | "?" | "no";

/** What a row says after something was done to a server where all is well. */
type Case = [
  about: string,
  prepare: (scene: CheckScene) => unknown,
  row: string,
  sign: Sign,
  text: RegExp | string,
  hint?: RegExp,
  services?: Services,
];

const nothing = () => undefined;
const hears = (question: string, answer: Ran) => (scene: CheckScene) =>
  (scene.fail2ban[question] = answer);
/** The first rotated file becomes something else. */
const rotated = (spoil: (path: string) => unknown) => (scene: CheckScene) => {
  scene.rotate();
  spoil(scene.path(".1"));
  scene.append(line(6));
};
const envMode = (mode: number) => (scene: CheckScene) => fs.chmodSync(scene.path(".env"), mode);
const asUser = (scene: CheckScene) => {
  scene.overrides.uid = () => 65_534;
  fs.chownSync(scene.path(".env"), 65_534, 65_534);
};
/** The logs of many hosts. */
const many = (scene: CheckScene) => (scene.watched = `${scene.directory}/fail2ban.lo[g]`);
const target = (where: string) => said(`Current logging target is:\n\`- ${where}\n`);
const level = (name: string) => said(`Current logging level is '${name}'\n`);
const jails = (...names: string[]) =>
  said(`Status\n|- Number of jail:\t${names.length}\n\`- Jail list:\t${names.join(", ")}\n`);
const down =
  "2026-11-22 10:32:46,534 fail2ban                [18642]: ERROR   Failed to access socket path: /var/run/fail2ban/fail2ban.sock. Is fail2ban running?\n";
const closed =
  "2026-11-22 11:03:08,180 fail2ban                [19300]: ERROR   Permission denied to socket: /var/run/fail2ban/fail2ban.sock, (you must be root)\n";
const deniedByDeno = (scene: CheckScene) => {
  scene.overrides.runProgram = async () => {
    const message = 'Requires run access to "fail2ban-client", run again with --allow-run';
    throw Object.assign(new Error(message), { name: "NotCapable" });
  };
};
/** Before the first run. */
// prettier-ignore
const FRESH: Case[] = [
  ["the settings",
    (scene) => (
      scene.flags = "--format compact --only ban,alert --jail sshd --from end".split(" "),
      scene.fail2ban["status"] = jails("sshd")),
    "settings", "✓",
    `f2b-watch ${manifest.version}; host web-1; format compact; new logs from the end; only ban, alert; jails sshd`],
  ["an env file that only we can read", nothing, "env file", "✓", /\.env, 600 root:root$/],
  ["an env file that our own group can read", envMode(0o640), "env file", "✓", /\.env, 640 root:root$/],
  ["no env file", ({ env }) => delete env["F2B_ENV_FILE"], "env file", "✓",
    "none (/etc/f2b-watch.env does not exist)"],
  ...[0o644, 0o604, 0o640].map((mode): Case => [`an env file of another group, mode ${mode}`,
    (scene) => (envMode(mode)(scene), fs.chownSync(scene.path(".env"), 0, 4)), "env file", 78,
    /others can read it/, /in a file that only this user can access, mode 600$/]),
  ["an env file of root that others can read, for somebody else",
    (scene) => (envMode(0o644)(scene), scene.overrides.uid = () => 65_534), "env file", 78,
    /others can read it/, /mode 600$/],
  ["a log with size, age and who may read it",
    (scene) => (fs.chmodSync(scene.log, 0o640), scene.wait(3 * HOUR)), "log", "✓",
    /^\/\S+\/fail2ban\.log, 470 B, last written 3 h ago, 640 root:root$/],
  ["an empty log", ({ log }) => fs.truncateSync(log), "log", "✓", /, empty, /],
  ["no log", (scene) => scene.remove(), "log", 66, /\.log: no such file/, /get logtarget.*--log/],
  ["a log that only others may read",
    (scene) => (asUser(scene), failing(scene, "openSync", "EACCES", (path) => path === scene.log)),
    "log", 66, /permission denied/, /^run as root, or as a member of the log's group$/],
  ["logs of many hosts that are not there", (scene) => (scene.watched = `${scene.directory}/no*.log`),
    "log", 66, /^no log matches \S+$/, /--log/],
  ["a directory for a log", (scene) => (scene.remove(), fs.mkdirSync(scene.log)), "log", 66,
    /not a regular file/, /--log/],
  ["the log of another program",
    (scene) => fs.writeFileSync(scene.log, "Nov 22 10:00:06 web nginx: started\n".repeat(50)), "log",
    66, /; these lines are not fail2ban's, or in an unknown format$/, /get logtarget/],
  ["a log that no longer grows, though fail2ban answers", (scene) => scene.wait(DAY + MINUTE), "log",
    66, / has not grown for 1 day 1 min, though fail2ban answers$/, /get logtarget/],
  ["a log of many hosts that no longer grows", (scene) => (many(scene), scene.wait(3 * DAY)), "log",
    "✓", /last written 3 days ago/],
  ["a log that no longer grows where fail2ban is down",
    (scene) => (scene.fail2ban["ping"] = refused(down), scene.wait(3 * DAY)), "fail2ban", 66,
    /its socket cannot be reached/, /systemctl.*journalctl/],
  ["no rotated files", nothing, "rotated files", "✓", "none found"],
  ["rotated files that a run would read",
    (scene) => (scene.rotate(), scene.rotate(), scene.compress(".2")), "rotated files", "✓",
    "2 found, youngest fail2ban.log.1"],
  ["a rotated file that is a link",
    rotated((path) => (fs.renameSync(path, `${path}-moved`), fs.symlinkSync(`${path}-moved`, path))),
    "rotated files", 66, /fail2ban\.log\.1 \(a link\)/, /^move it away: .* no links/],
  ["a rotated file of another owner", rotated((path) => fs.chownSync(path, 65_534, 0)),
    "rotated files", 66, /another user/, /root or the log's owner/],
  ["a rotated file that is damaged",
    rotated((path) => (fs.rmSync(path), fs.writeFileSync(`${path}.gz`, "\x1f\x8b".repeat(9), "latin1"))),
    "rotated files", 66, /none found; left out: fail2ban\.log\.1\.gz \(damaged\)$/, /only intact files/],
  ["a rotated file whose program is missing",
    (scene) => {
      scene.overrides.streamProgram = async function* () { throw systemError("ENOENT: none"); };
      fs.writeFileSync(scene.path(".1.xz"), Buffer.from("fd377a585a00", "hex"));
    },
    "rotated files", 66, /none found; left out: .*\.xz \(xz is not installed\)$/, /^install xz/],
  ["a directory named like a rotated file", rotated((path) => (fs.rmSync(path), fs.mkdirSync(path))),
    "rotated files", 66, /not a regular file/, /^move it/],
  ["many rotated files that are left out, not all of them named",
    (scene) => lines(1, 30).forEach((_, index) => fs.mkdirSync(scene.path(`.${index + 1}`))),
    "rotated files", 66, /\.1 .* and 25 more$/, /move/],
  ["rotated files that may not be listed", (scene) => failing(scene, "readdirSync", "EACCES"),
    "rotated files", 66, /permission denied/, /root/],
  ["fail2ban's version", nothing, "fail2ban", "✓", "1.0.2, answers"],
  ["words of fail2ban's that are made harmless",
    hears("version", said("1.0\u202e``` @everyone\x1b[31m\nnext")), "fail2ban", "✓",
    "1.0\\u202e`\u200b`\u200b` @everyone\\x1b[31m next, answers"],
  ["fail2ban is not installed", hears("ping", { kind: "missing" }), "fail2ban", 66,
    /client is not installed/, /install/],
  ["fail2ban hangs", hears("ping", { kind: "timedOut" }), "fail2ban", 66, /does not answer in time/,
    /systemctl restart fail2ban/],
  ["fail2ban says something else", hears("ping", refused("?")), "fail2ban", 66,
    /unexpected output/, /-client status/],
  ["only root may ask fail2ban, and --ping is set",
    (scene) => (scene.env["F2B_PING"] = "1", scene.fail2ban["ping"] = refused(closed)), "fail2ban", 66,
    /only root/, /run as root/],
  // A run does without.
  ["only root may ask fail2ban", hears("ping", refused(closed)), "fail2ban", "?", /only root/],
  ["only root may ask fail2ban", hears("ping", refused(closed)), "log target", "no", ""],
  ["Deno may not run fail2ban-client", deniedByDeno, "fail2ban", "?", /Deno denies run access/],
  ["Deno may not run fail2ban-client", deniedByDeno, "log target", "no", ""],
  ...[{ kind: "timedOut" } as const, said("what?"), refused("")].flatMap((answer) =>
    ["fail2ban", "log target", "log level"].map((row): Case =>
      [`fail2ban answers a ping and nothing else: ${answer.kind}`,
        ({ fail2ban }) =>
          Object.assign(fail2ban, { version: answer, "get loglevel": answer, "get logtarget": answer }),
        row, row === "fail2ban" ? "✓" : "no", /answers$/])),
  ...["SYSLOG", "STDOUT", "STDERR", "SYSOUT", "SYSTEMD-JOURNAL"].map((name): Case =>
    [`fail2ban logs to ${name}`, hears("get logtarget", target(name)), "log target", 66,
      `fail2ban logs to ${name}, not to a file`, /set logtarget \S+\.log; .*fail2ban\.local/]),
  ["fail2ban writes to another file", hears("get logtarget", target("/var/log/other.log")),
    "log target", 66, /to \/var\/log\/other\.log, not/, /^use --log \/var\/log\/other\.log$/],
  ["fail2ban writes elsewhere, and the logs of many hosts are watched",
    (scene) => (many(scene), hears("get logtarget", target("/var/log/fail2ban.log"))(scene)),
    "log target", "✓", "/var/log/fail2ban.log"],
  ["fail2ban writes to the same file by another name",
    (scene) => (
      fs.symlinkSync(scene.log, scene.path(".by-another-name")),
      hears("get logtarget", target(scene.path(".by-another-name")))(scene)),
    "log target", "✓", /\.by-another-name$/],
  ...["WARNING", "ERROR", "CRITICAL"].map((name): Case =>
    [`fail2ban logs from ${name} on`, hears("get loglevel", level(name)), "log level", 66,
      `${name}: fail2ban does not log its bans`, /set loglevel INFO/]),
  ["fail2ban logs all", hears("get loglevel", level("DEBUG")), "log level", "✓", "DEBUG"],
  ["fail2ban logs little", hears("get loglevel", level("NOTICE")), "log level", "✓",
    "NOTICE: bans, but neither failed attempts nor restarts"],
  ...([
    ["sshd", "✓", "sshd"],
    ["sshd,ngnix", 64, '--jail: fail2ban has no jail "ngnix"', /^did you mean nginx\?$/],
    ["mail", 64, '--jail: fail2ban has no jail "mail"', /^fail2ban has: nginx, sshd$/],
  ] as const).map(([names, sign, text, hint]): Case => [`the jails ${names}`,
    (scene) => (scene.env["F2B_JAIL"] = names, scene.fail2ban["status"] = jails("nginx", "sshd")),
    "jails", sign, text, hint]),
  ["a list of jails that cannot be read",
    (scene) => (scene.env["F2B_JAIL"] = "sshd", scene.fail2ban["status"] = said("what?")), "jails", 66,
    /unexpected output/, /no comma/],
  ["no state directory", nothing, "state", "✓", /does not exist yet: the first run creates it$/],
  ["a state directory that is not there and cannot be made",
    (scene) => failing(scene, "accessSync", "EACCES", (path) => path === dirname(scene.state)),
    "state", 73, /permission denied/, /--state/],
  ["no destination", ({ env }) => delete env["DISCORD_WEBHOOK"], "destination", "✓",
    /^none: messages go to stdout \(set DISCORD_WEBHOOK/],
  ["a webhook's name and channel", nothing, "Discord", "✓", 'webhook "Spidey Bot" of channel 2'],
  ["a webhook's name that would break the table, or holds our own token", nothing, "Discord", "✓",
    /^webhook "`\u200b`\u200b` \\u202e.{1,130}$/, undefined,
    { discord: { name: `\`\`\`\n\u202e${TOKEN}${"x".repeat(500)}` } }],
  ["a thread", ({ env }) => (env["DISCORD_WEBHOOK"] += "?thread_id=42"), "Discord", "?",
    /only check --hello can tell whether thread 42 is there/],
  ["a bot", (scene) => scene.useSlack(), "Slack", "?",
    "@f2b of Example; only check --hello can tell whether it may post to C0123456789"],
  ["an incoming webhook", (scene) => scene.useSlack("webhook"), "Slack", "?",
    "an incoming webhook; only check --hello can tell whether it works"],
  ["a token that is not valid",
    (scene) => (scene.useSlack().env["SLACK_TOKEN"] = "xoxb-of-somebody-else"), "Slack", 69,
    /invalid \(invalid_auth\)/, /set SLACK_TOKEN/],
  ["a token without the scope to post", (scene) => scene.useSlack(), "Slack", 69,
    /lacks the scope chat:write$/, /add chat:write/,
    { slack: { scopes: ["users:read", "chat:write.public"] } }],
  ["a token without the scope for its own name and icon", (scene) => scene.useSlack(), "Slack", "?",
    /without chat:write\.customize/, undefined, { slack: { scopes: ["chat:write"] } }],
  ["a server that says nothing of scopes",
    (scene) => scene.useSlack().slack.failAlways({ kind: "status", status: 200, body: '{"ok":true}' }),
    "Slack", "?", /^@bot of a team without a name; only/],
  ["no server on this machine",
    ({ discord, env }) => (
      discord.failAlways({ kind: "refused" }), env["DISCORD_WEBHOOK"] = "http://127.0.0.1:9/api/webhooks/1/x"),
    "Discord", 75, /^cannot connect/, /curl -sSI [\d.:]+$/],
  ["no way to Slack", (scene) => scene.useSlack().slack.failAlways({ kind: "refused" }), "Slack", 75,
    /cannot connect/, /curl -sSI slack\.com$/],
];

/** A run left its message to a destination that wants quiet. */
const quietFor =
  (waitMs: number, ...flags: string[]) =>
  async (scene: CheckScene) => {
    scene.discord.fail({ kind: "cloudflare" });
    scene.append(line(6));
    expect((await scene.run()).code).toBe(75);
    scene.wait(waitMs);
    scene.setLogTime();
    scene.flags = flags;
  };
/** A run works and hangs, or was killed. */
const marked = (waitMs: number, isHeld: boolean) => (scene: CheckScene) => {
  if (isHeld) scene.holdLock();
  const mark = scene.stateFileWith(".json.mark");
  fs.writeFileSync(mark, "");
  fs.utimesSync(mark, scene.clockMs / 1_000, scene.clockMs / 1_000);
  scene.wait(waitMs);
};
const discordFails =
  (fault: Parameters<Discord["failAlways"]>[0]) =>
  ({ discord }: CheckScene) =>
    discord.failAlways(fault);

/** Once a run has posted five lines. */
// prettier-ignore
const LATER: Case[] = [
  ["a state directory and file with their modes", nothing, "state", "✓",
    /^\S+\/state, 700 root:root; \S+\.json, 600 root:root$/],
  ["a state directory that is a link",
    ({ state }) => (fs.renameSync(state, `${state}-moved`), fs.symlinkSync(`${state}-moved`, state)),
    "state", 73, /is a link/, /--state/],
  ["a state directory that others may write to", ({ state }) => fs.chmodSync(state, 0o777),
    "state", 73, /by others/, /./],
  ["a state directory of another", ({ state }) => fs.chownSync(state, 1, 1), "state", 73,
    /somebody else|another/, /./],
  ["a state directory that cannot be written to",
    (scene) => failing(scene, "openSync", "EROFS", (_, flags) => (flags & fs.constants.O_CREAT) !== 0),
    "state", 73, /^cannot write to .*: EROFS$/, /./],
  ["a full disk", (scene) => failing(scene, "writeFileSync", "ENOSPC"), "state", 73, /no space left/,
    /--state/],
  ["a state of a newer version",
    (scene) => fs.writeFileSync(scene.stateFile(), '{"version": 99}'), "progress", 73,
    /newer f2b-watch \(state version 99\)/, /upgrade/],
  ["a state of which one copy is damaged", (scene) => fs.writeFileSync(scene.stateFile(), "{"),
    "progress", "✓", /the newer one is damaged/],
  ["a state of which both copies are damaged",
    (scene) => ["", ".bak"].map((end) => fs.writeFileSync(scene.stateFile() + end, "{")),
    "progress", 73, /damaged, and so is its older copy/, /df -h/],
  ["a state that others may write", (scene) => fs.chmodSync(scene.stateFile(), 0o666),
    "progress", 73, /writable by others/, /mode 600|--state/],
  ["the positions of two destinations",
    (scene) => (scene.env["SLACK_WEBHOOK"] = scene.slack.webhook, scene.append(line(6)), scene.run()),
    "progress", "✓", /^discord after line 6 .*; slack after line 6 .*, up to date$/],
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
    "progress", 66, /writing to fail2ban\.log\.1 for 1 h 2 min/, /flushlogs/],
  ["a lock that is free", nothing, "lock", "✓", "works, free"],
  ["a lock that a run holds", (scene) => scene.holdLock(), "lock", "✓",
    `works; process ${process.pid} is running now`],
  ["a lock where the kernel's list cannot be read",
    (scene) => (
      scene.holdLock(), failing(scene, "readFileSync", "ENOENT", (path) => path === "/proc/locks")),
    "lock", "✓", "works"],
  ["a lock that a run has held for long", marked(5 * MINUTE, true), "lock", "✓", /running now$/],
  ["a lock that a run has held for too long", marked(65 * MINUTE, true), "lock", 75,
    /another run has been in progress for 1 h 5 min/, new RegExp(`^ps -fp ${process.pid}$`)],
  ["a lock whose mark a killed run left", marked(23 * HOUR, false), "lock", "✓", "works, free"],
  ["a lock that is no lock file",
    (scene) => fs.writeFileSync(scene.stateFileWith(".json.lock"), "garbage"), "lock", 73,
    /is not an empty file/, /rm \S+\.lock$/],
  ["a lock that somebody else made", (scene) => failing(scene, "accessSync", "EACCES"), "lock",
    73, /permission denied/, /root/],
  ["a webhook that was deleted", ({ discord }) => discord.delete(), "Discord", 69, /\(?10015\)/,
    /Webhooks/],
  ["a wrong token", ({ env }) => (env["DISCORD_WEBHOOK"] += "x"), "Discord", 69, /50027\)/,
    /DISCORD_WEBHOOK/],
  ["no network", discordFails({ kind: "refused", code: "ENOTFOUND" }), "Discord", 75,
    /^cannot connect \(ENOTFOUND\)$/, /curl -sSI discord\.com$/],
  ["no answer", discordFails({ kind: "hang", save: false }), "Discord", 75, /in time/, /curl/],
  ["503", discordFails({ kind: "html", status: 503 }), "Discord", 75, /503/, /no line is lost/],
  ["a proxy's page", discordFails({ kind: "html", status: 200 }), "Discord", 75,
    /^the reply \(200\) is not from Discord$/, /proxy or firewall/],
  ["a redirect", discordFails({ kind: "redirect", location: "https://elsewhere/" }), "Discord", 78,
    /redirect/, /curl/],
  ["a rate limit", discordFails({ kind: "cloudflare" }), "Discord", 75, /rate limited/, /next run/],
  ["403 without a code", discordFails({ kind: "html", status: 403 }), "Discord", 69, /403/,
    /settings/],
  ...[[], ["--hello"]].map((flags): Case => ["a destination that wants quiet",
    quietFor(5 * MINUTE, ...flags), "Discord", 75,
    /^quiet for another 10 min: rate limited; runs have failed for 5 min$/, /./]),
  ["a destination that wanted quiet no longer than it may", quietFor(HOUR), "Discord", "✓",
    /; runs have failed for 1 h$/],
  ["a destination that does not say that it keeps messages",
    (scene) => (scene.discord.fail({ kind: "empty-204" }), scene.append(line(6)), scene.run()),
    "Discord", "✓", /does not confirm messages/],
];

test.each(FRESH)("%s", async (...[_, prepare, row, sign, text, hint, services]) => {
  using scene = new CheckScene(services);
  await prepare(scene);
  await scene.expectRow(row, sign, text, hint);
  expect(fs.existsSync(scene.state)).toBe(false);
  expect([...scene.discord.violations, ...scene.slack.violations]).toEqual([]);
  for (const { method, body, path } of [...scene.discord.requests, ...scene.slack.requests])
    expect(path === "/api/auth.test" || (method === "GET" && body === "")).toBe(true);
});

test.each(LATER)("after a run: %s", async (...[_, prepare, row, sign, text, hint]) => {
  using scene = await CheckScene.after(1, 5);
  await prepare(scene);
  const [before, requests] = [scene.stateFiles(), scene.discord.requests.length];
  await scene.expectRow(row, sign, text, hint);
  expect(scene.stateFiles()).toEqual(before);
  const later = scene.discord.requests.slice(requests);
  expect(later.filter(({ method }) => method !== "GET")).toEqual([]);
  if (String(text).includes("quiet for")) expect(later).toEqual([]);
});

// ── All of it ───────────────────────────────────────────────────────────────────────────────────

describe("check", () => {
  test("where all is well: one ✓ per row, before the first run and after it", async () => {
    using scene = new CheckScene();
    const names = ["settings", "env file", "log", "rotated files", "fail2ban", "log target"];
    names.push("log level", "database", "state", "progress", "lock", "Discord");
    for (const progress of [/^none: the first run starts at the log's start$/, /^discord after/]) {
      const { exitCode, rows } = await scene.check();
      expect(exitCode).toBe(0);
      expect(rows.map(({ name }) => name)).toEqual(names);
      expect(rows.filter(({ state }) => state !== "ok")).toEqual([]);
      expect(rows.find(({ name }) => name === "progress")?.text).toMatch(progress);
      const request = scene.discord.requests.at(-1);
      expect(request).toMatchObject({ method: "GET", query: {}, body: "", status: 200 });
      expect(request?.path).toStartWith("/api/v10/webhooks/");
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
    const mayBeLong = (text: string) => text.startsWith("  →") || text.includes(scene.directory);
    expect(printed.filter((text) => [...text].length > 80 && !mayBeLong(text))).toEqual([]);
    expect(printed.filter((text) => !/^(?:[✓✗?] \S| {2}→ \S| {4,}\S)/.test(text))).toEqual([]);
    const at = printed.findIndex((text) => text.startsWith("✗ fail2ban       fail2ban-client is"));
    expect(printed[at + 1]).toMatch(/^ {2}→ install fail2ban/);
    expect(out).toContain("✓ log            ");
    scene.expectNoSecret(out);
  });

  test("wraps long text at blanks on a terminal, but no path, and no hint", async () => {
    using scene = new CheckScene();
    scene.overrides.terminal = true;
    const path = `/${"long-path".repeat(12)}`;
    scene.fail2ban["version"] = said(`${"word ".repeat(20)}${path}\n`);
    scene.fail2ban["get logtarget"] = target(path);
    const { out } = await scene.f2bWatch("check", "--log", scene.log);
    const printed = out.split("\n");
    expect(printed.filter((text) => text.includes("word"))).toHaveLength(2);
    expect(printed).toContain(`${" ".repeat(17)}${path},`);
    expect(printed).toContain(`  → use --log ${path}`);
    scene.overrides.terminal = false;
    const { out: mailed } = await scene.f2bWatch("check", "--log", scene.log);
    expect(mailed).toContain(`word ${path}, answers\n`);
  });

  test("a bad setting stays one line and 78, and --hello needs a destination", async () => {
    using scene = new CheckScene();
    scene.env["DISCORD_WEBHOOK"] = "not-a-webhook";
    const { code, out, err } = await scene.f2bWatch("check");
    expect({ code, out }).toEqual({ code: 78, out: "" });
    expect(err).toMatch(/^f2b-watch: DISCORD_WEBHOOK: [^\n]+\nhint: [^\n]+\n$/);
    delete scene.env["DISCORD_WEBHOOK"];
    const hello = await scene.f2bWatch("check", "--hello", "--log", scene.log);
    expect(hello.code).toBe(78);
    expect(hello.err).toStartWith("f2b-watch: --hello: no destination is set\nhint: set ");
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

  test("a missing folder is said in words, not by the system's code", async () => {
    using scene = new CheckScene();
    const { out } = await scene.f2bWatch("check", "--log", scene.path("none/fail2ban.log"));
    const words = /✗ rotated files .* no such file or directory\n +→ make sure that it exists/;
    expect(out).toMatch(words);
    expect(out).not.toContain("ENOENT");
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

  test("shows the position: line, time, and what is unread behind it", async () => {
    using scene = await CheckScene.after(1, 5);
    const place = "discord after line 5 (2026-11-22 08:00:05,035)";
    for (const [act, behind] of [
      [nothing, ", up to date"],
      [() => scene.append(...lines(6, 40)), ", 3.3 KB unread"],
      [() => scene.rotate(), " of a log that was rotated or overwritten"],
      [() => scene.remove(), ""],
    ] as const) {
      act();
      expect((await scene.row("progress")).text).toBe(place + behind);
    }
  });

  test("shows a message that waits as ✗, until it is sent", async () => {
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

  test("beside runs: no run finds the lock taken, no line is left behind", async () => {
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

describe("a run reports once, and does its work all the same", () => {
  test("a jail that fail2ban does not have", async () => {
    using scene = new CheckScene();
    scene.fail2ban["status"] = jails("nginx", "sshd");
    const told = 'f2b-watch: --jail: fail2ban has no jail "ssdh"\nhint: did you mean sshd?\n';
    expect((await scene.run("--jail", "ssdh", "--dry-run")).err).toStartWith(told);
    // Said once, to somebody who may read it.
    for (const heard of [false, true]) {
      scene.overrides.heard = heard;
      expect(await scene.run("--jail", "ssdh")).toEqual({ code: 0, out: "", err: told });
      scene.wait(DAY);
      scene.append(line(6));
    }
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
    ["the same file", "has not grown for 1 day 1 min, though fail2ban answers"],
    ["what it does not say", "has not grown for 1 day 1 min, though fail2ban answers"],
  ])("a log that no longer grows while fail2ban logs to %s", async (where, words) => {
    using scene = await CheckScene.after(1, 5);
    if (where.startsWith("what")) scene.fail2ban["get logtarget"] = said("what?");
    else if (where !== "the same file") scene.fail2ban["get logtarget"] = target(where);
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
    scene.setLogTime();
    await scene.pass();
    scene.wait(DAY + MINUTE);
    expect((await scene.run()).err).toContain(words);
  });

  test("nothing where fail2ban cannot be asked, or the logs are many hosts'", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.wait(2 * DAY);
    expect(await scene.f2bWatch("--log", many(scene))).toEqual({ code: 0, out: "", err: "" });
    scene.fail2ban["ping"] = refused(closed);
    await scene.pass("--jail", "ssdh");
    await scene.pass();
  });
});

// ── A destination that refused ──────────────────────────────────────────────────────────────────

describe("a destination that refused", () => {
  test("and is alive again is called by the next run, and only then is anything written", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.delete();
    scene.append(line(6));
    expect((await scene.run()).code).toBe(69);
    scene.wait(3 * HOUR);
    const dead = scene.stateFiles();
    await scene.expectRow("Discord", 69, /10015\); runs have failed for 3 h$/, /Webhooks/);
    scene.discord.restore();
    await scene.check("--dry-run");
    expect(scene.stateFiles()).toEqual(dead);
    expect((await scene.run()).code).toBe(69);
    const revived = "refused before (the webhook was deleted (404, code 10015)), is tried again";
    const { state, text } = await scene.row("Discord");
    expect(state).toBe("ok");
    expect(text).toContain(revived);
    expect((await scene.row("Discord")).text).not.toContain("refused before");
    const told = { code: 0, out: "", err: "f2b-watch: Discord works again\n" };
    expect(await scene.run()).toEqual(told);
    scene.expectPosted(line(6));
    expect((await scene.row("Discord")).text).toBe('webhook "Spidey Bot" of channel 2');
  });

  test("a run that comes while it is set free is made up for", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.fail({ kind: "code", status: 404, code: 10015 });
    scene.append(line(6));
    await scene.run();
    // At the moment when the state is written, under the lock, a run begins and finds the lock taken.
    let late: Promise<RunResult> | undefined;
    scene.beforeCalls("fsyncSync", (descriptor) => {
      if (late || !fs.readFileSync(`/proc/self/fd/${descriptor}`, "utf8").startsWith("{")) return;
      scene.append(line(7));
      late = scene.run();
    });
    await scene.f2bWatch("check", "--log", scene.log);
    expect((await late)?.code).toBe(0);
    expect(scene.newlyPosted()).toEqual(lines(6, 7));
  });

  // prettier-ignore
  const UNTIL_HELLO: ["token" | "webhook", string, RegExp, RegExp][] = [
    ["webhook", "no_service", /deleted \(404, no_service\); runs.* 2 h$/, /SLACK_WEBHOOK.*--hello$/],
    ["webhook", "channel_not_found", /no such channel \(404, c.*\); runs.* 2 h$/, /SLACK_WEBHOOK.*--hello$/],
    // The token does not tell.
    ["token", "not_in_channel",
      /^@f2b of Example; the bot is not in the channel \(not_in_channel\); runs have failed for 2 h$/,
      /\/invite @f2b; .*; then: check --hello$/],
  ];
  test.each(UNTIL_HELLO)("by a Slack %s with %s: until --hello", async (way, error, text, hint) => {
    using scene = new CheckScene().useSlack(way);
    scene.slack.fail({ kind: "error", error });
    await scene.run();
    scene.wait(2 * HOUR);
    await scene.expectRow("Slack", 69, text, hint);
    expect((await scene.run()).code).toBe(69);
    expect((await scene.row("Slack", "--hello")).state).toBe("ok");
    expect((await scene.run()).code).toBe(0);
    expect(scene.slack.lines()).toEqual(lines(1, 5));
  });

  test("for its token is called again when the token works", async () => {
    using scene = new CheckScene().useSlack();
    scene.slack.fail({ kind: "error", error: "token_revoked" });
    await scene.run();
    await scene.expectRow("Slack", "?", /\(token_revoked\)\), is tried again/);
    expect((await scene.run()).code).toBe(0);
    expect(scene.slack.lines()).toEqual(lines(1, 5));
  });
});

// ── --hello ─────────────────────────────────────────────────────────────────────────────────────

/** Slack takes its own question, and refuses the message. */
const refusesMessage = (error: string) => (scene: CheckScene) => {
  const { fetch } = scene.useSlack().overrides;
  scene.flags = ["--max-time", "2"];
  scene.overrides.fetch = (url, init) => {
    if (url.endsWith("chat.postMessage")) scene.slack.fail({ kind: "error", error });
    return fetch?.(url, init) ?? Promise.reject(new Error("no fetch"));
  };
};

// prettier-ignore
const HELLO: Case[] = [
  ...([
    ["not_in_channel", 69, /^in Slack, in that channel: \/invite @f2b; or set SLACK_CHANNEL/],
    ["channel_not_found", 69, /\/invite @f2b/],
    ["is_archived", 69, /unarchive/],
    ["restricted_action", 69, /settings/],
    ["service_unavailable", 75, /./],
    ["invalid_blocks", 78, /settings/],
  ] as const).map(([error, exitCode, hint]): Case =>
    [error, refusesMessage(error), "Slack", exitCode, new RegExp(error), hint]),
  ["a bot that is not in the channel", (scene) => scene.useSlack(), "Slack", 69,
    "@f2b of Example; but the bot is not in the channel (not_in_channel)", /invite/,
    { slack: { outside: ["C0123456789"] } }],
  ["a forum without a thread", nothing, "Discord", 78, /\(400, code 220001\)/,
    /\?thread_id=<id>/, { discord: { forum: true } }],
];

describe("--hello", () => {
  test.each(HELLO)("%s", async (...[_, prepare, row, sign, text, hint, services]) => {
    using scene = new CheckScene(services);
    await prepare(scene);
    scene.flags.push("--hello");
    await scene.expectRow(row, sign, text, hint);
  });

  test("posts one line to every destination, and turns ? into ✓", async () => {
    using scene = new CheckScene();
    const { token, channel } = scene.slack;
    Object.assign(scene.env, { SLACK_TOKEN: token, SLACK_CHANNEL: channel });
    const { rows, exitCode } = await scene.check("--hello");
    expect(exitCode).toBe(0);
    const text = expect.stringContaining("; the test message was posted");
    expect(rows.slice(-2)).toMatchObject([
      { name: "Discord", state: "ok", text },
      { name: "Slack", state: "ok", text: "@f2b of Example; the test message was posted" },
    ]);
    const hello = `👋 web-1: f2b-watch ${manifest.version} can post here and watches \`${scene.log}\``;
    expect(scene.discord.messages.map(({ content }) => content)).toEqual([hello]);
    expect(scene.slack.messages.map(({ content }) => content)).toEqual([`*web-1*\n${hello}`]);
    expect([...scene.discord.violations, ...scene.slack.violations]).toEqual([]);
    scene.env["DISCORD_WEBHOOK"] += "?thread_id=42";
    expect((await scene.row("Discord", "--hello")).state).toBe("ok");
  });

  test("moves no cursor: the first run is still the first, a later one posts what it would have", async () => {
    using scene = new CheckScene();
    await scene.check("--hello");
    expect((await scene.row("progress")).text).toContain("none: the first run");
    await scene.passPosts(...lines(1, 5));
    scene.append(line(6));
    await scene.check("--hello");
    expect(scene.newlyPosted()).toEqual([]);
    await scene.passPosts(line(6));
  });

  test("counts for the pace: no 429, however often", async () => {
    using scene = new CheckScene();
    for (let round = 0; round < 8; round++) await scene.check("--hello");
    const { messages, count429, violations } = scene.discord;
    expect([messages.length, count429, violations]).toEqual([8, 0, []]);
  });

  test("that fails is not taken for a failure of a run", async () => {
    using scene = await CheckScene.after(1, 5);
    scene.discord.refuseContent((content) => content.includes("👋"));
    expect((await scene.row("Discord", "--hello")).exitCode).toBe(69);
    scene.discord.refuseContent(() => false);
    scene.append(line(6));
    await scene.passPosts(line(6));
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
    scene.holdLock();
    scene.flags = ["--hello", "--max-time", "10"];
    await scene.expectRow("Discord", 75, /another run/, /try again/);
    expect(scene.discord.messages).toHaveLength(1);
  });

  test("where the state directory is unfit: nothing is posted, and the row says why", async () => {
    using scene = new CheckScene();
    fs.symlinkSync(scene.directory, scene.state);
    const { rows } = await scene.check("--hello");
    const failed = rows.filter(({ state }) => state === "failed");
    const seen = failed.map(({ name, exitCode }) => `${name} ${exitCode}`);
    expect(seen).toEqual(["state 73", "Discord 73"]);
    expect(scene.discord.messages).toEqual([]);
  });

  test("with --dry-run prints the message, posts nothing and proves nothing", async () => {
    using scene = new CheckScene().useSlack();
    const { code, out } = await scene.f2bWatch("check", "--hello", "--dry-run", "--log", scene.log);
    expect(code).toBe(0);
    expect(out).toContain(`👋 web-1: f2b-watch ${manifest.version}`);
    expect(out).toContain("? Slack");
    expect((await scene.row("Slack", "--hello", "--dry-run")).state).toBe("unknown");
    expect(scene.slack.messages).toEqual([]);
    expect(fs.existsSync(scene.state)).toBe(false);
  });

  test("makes host and path harmless, and leaves no progress line beside the table", async () => {
    using scene = new CheckScene();
    const log = join(scene.directory, "a`b\u202e.log");
    fs.copyFileSync(scene.log, log);
    scene.overrides.terminal = true;
    const { err } = await scene.f2bWatch("check", "--hello", "--log", log, "--host", "```\u202e");
    expect(err.endsWith("\r\x1b[K")).toBe(true);
    const [message] = scene.discord.messages;
    expect(message?.content).toStartWith("👋 `\u200b`\u200b`\\u202e: f2b-watch");
    expect(message?.content).toEndWith("/a'b\\u202e.log`");
    expect(scene.discord.violations).toEqual([]);
  });
});
