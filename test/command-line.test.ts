/** What people type and read: options, variables, the env file, messages, exit codes. */
import { describe, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { main, type World } from "../f2b-watch.ts";
import manifest from "../package.json";
import { DONE, line, lines, repository, type RunResult, Scene, systemError } from "./harness.ts";

const SCRIPT = join(repository, "f2b-watch.ts");
const TOKEN = "tok-en_".repeat(9);
const WEBHOOK = `https://discord.com/api/webhooks/1234567890123456789/${TOKEN}`;
const NAMES =
  "log state env-file format only jail color host from inline ping max-time dry-run verbose " +
  "hello send since json link geo database user-names";
const OPTIONS = NAMES.split(" ");
const VARIABLES = OPTIONS.map((name) => `F2B_${name.replaceAll("-", "_").toUpperCase()}`);

/** A scene whose log has two lines. */
const smallScene = () => new Scene(...lines(1, 2));

/** Writes an env file that nobody else can touch. */
function envFile(scene: Scene, text: string, mode = 0o600): string {
  const path = join(scene.directory, "watch.env");
  fs.writeFileSync(path, text);
  fs.chmodSync(path, mode);
  return path;
}

/** Puts a file of ours where `/etc/f2b-watch.env` is looked for. */
function defaultEnvFile(scene: Scene, text: string): void {
  const path = envFile(scene, text);
  const openSync: typeof fs.openSync = (name, ...rest) =>
    fs.openSync(name === "/etc/f2b-watch.env" ? path : name, ...rest);
  scene.withFs({ openSync });
}

/** One line that names the trouble, perhaps a hint, nothing on stdout, no secret, nothing posted. */
function expectFault(scene: Scene, result: RunResult, code: number, names: RegExp | string): void {
  expect(result.err).toMatch(/^f2b-watch: [^\n]+\n(hint: [^\n]+\n)?$/);
  expect(result.err).toMatch(names);
  expect(result.err).not.toContain("tok-en_");
  expect(result.err).not.toMatch(/\n\s+at |Error:|\[object|undefined/);
  expect(result).toMatchObject({ code, out: "" });
  expect(scene.discord.requests).toEqual([]);
}

/** Opening one of these paths fails. */
function failOpening(scene: Scene, applies: (path: string) => boolean, message: string): void {
  scene.beforeCalls("openSync", (path) => {
    if (applies(String(path))) throw systemError(message);
  });
}

function usernames(scene: Scene): string[] {
  return scene.discord.messages.map(({ username }) => username);
}

// ── Options ─────────────────────────────────────────────────────────────────────────────────────

/** A name, a value, and what is true when the option has it, and false by default. */
type Sample = [
  name: string,
  value: (scene: Scene) => string,
  holds: (scene: Scene, result: RunResult) => boolean,
];

// prettier-ignore
const SAMPLES: Sample[] = [
  ["log", (scene) => scene.path(".other"),
    (scene) => scene.discord.lines().includes("from the other log")],
  ["state", (scene) => join(scene.directory, "elsewhere"),
    (scene) => fs.existsSync(join(scene.directory, "elsewhere"))],
  ["host", () => "007", (scene) => usernames(scene).includes("Fail2Ban · 007")],
  ["from", () => "end", (scene) => scene.discord.messages.length === 0],
  ["max-time", () => "007", (_, { code, err }) => code === 75 && err.includes("time is up")],
  ["dry-run", () => "1",
    (scene, { out }) => scene.discord.messages.length === 0 && out.includes(line(1))],
  ["verbose", () => "true", (_, { err }) => err !== ""],
];

/** Forty messages' worth of log, which takes longer than a minute, and a second log. */
function optionScene(name: string): Scene {
  const scene = new Scene();
  const filler = "x".repeat(1_500);
  scene.append(line(1), ...Array.from({ length: 40 }, (_, index) => line(index + 2, filler)));
  scene.write("from the other log\n", ".other");
  if (name !== "log") scene.env["F2B_LOG"] = scene.log;
  return scene;
}

test.each(SAMPLES)("--%s: by flag, variable and env file", async (name, valueIn, holds) => {
  const variable = `F2B_${name.replaceAll("-", "_").toUpperCase()}`;
  for (const way of ["nowhere", "flag", "variable", "file", "empty"]) {
    using scene = optionScene(name);
    const value = valueIn(scene);
    const flags = /dry-run|verbose/.test(name) ? [`--${name}`] : [`--${name}`, value];
    const file = envFile(scene, `${variable}=${way === "file" ? value : ""}\n`);
    if (way === "variable") scene.env[variable] = value;
    const isSet = /flag|variable|file/.test(way);
    if (!isSet) scene.env["F2B_LOG"] ??= scene.log;
    if (way === "empty") scene.env[variable] ??= "";
    const result = await scene.f2bWatch("--env-file", file, ...(way === "flag" ? flags : []));
    expect([way, holds(scene, result)]).toEqual([way, isSet]);
    if (!isSet) expect(result).toEqual(DONE);
  }
});

test.each([
  ...["007", "0x10", "1e3", "12345678901234567890", "0", "true"].map((host) => `--host ${host}`),
  "--host=a=b",
  "--host=--log=x",
])("a value stays as it was typed, also behind an equals sign: %s", async (flags) => {
  using scene = smallScene();
  expect(await scene.f2bWatch(`--log=${scene.log}`, ...flags.split(" "))).toEqual(DONE);
  expect(usernames(scene)).toEqual([`Fail2Ban · ${flags.slice("--host ".length)}`]);
});

test("a flag wins over the environment, the environment over the env file, which both name", async () => {
  using scene = smallScene();
  scene.env["F2B_ENV_FILE"] = envFile(scene, "F2B_HOST=from-file\n");
  await scene.pass();
  scene.append(line(3));
  scene.env["F2B_HOST"] = "from-environment";
  await scene.pass();
  scene.append(line(4));
  await scene.pass("--host", "from-flag");
  const hosts = ["from-file", "from-environment", "from-flag"];
  expect(usernames(scene)).toEqual(hosts.map((host) => `Fail2Ban · ${host}`));
  const result = await scene.run("--env-file", join(scene.directory, "missing.env"));
  expect(result).toMatchObject({ code: 78, out: "" });
});

// ── Bad usage ───────────────────────────────────────────────────────────────────────────────────

test.each([
  ...["--dry-run", "--dry-run=1", "--dry-run=true", "--dry-run=0", "--dry-run=false"],
  ...["F2B_DRY_RUN=1", "F2B_DRY_RUN=true", "F2B_DRY_RUN=0", "F2B_DRY_RUN=false"],
])("a switch is on or off: %s", async (given) => {
  using scene = smallScene();
  const dry = !/=0|false/.test(given);
  const [, value = ""] = given.split("=");
  if (given.startsWith("F2B_")) scene.env["F2B_DRY_RUN"] = value;
  const { code, out } = await scene.run(...(given.startsWith("--") ? [given] : []));
  expect([code, out !== "", scene.discord.messages.length]).toEqual([0, dry, dry ? 0 : 1]);
});

const BAD_LINKS = [
  ...["db-ip.com/{ip}", "https://db-ip.com/", "https://{ip}/", "https://{ip}.example.org/"],
  ...["javascript://x/{ip}", "https://db-ip.com/{ip}|x", "https://db-ip.com/{ip}>"],
  ...["https://db-ip.com/a b/{ip}", `https://db-ip.com/${"x".repeat(300)}/{ip}`],
];
const BAD_PERIODS =
  "2026-11-22 12:01|2026-11-23|2026-02-30|2999-01-01|tomorrow|1h 30m|0h|h|99999w99999w".split("|");

// prettier-ignore
const BAD_USAGE: [argv: string | string[], told: RegExp | string][] = [
  ...["--bogus", "-x", "-log /x", "--host.x=1", "--host.x 1", "--log.x 1", "--constructor 1", "--__proto__ 1",
    "--maxTime 1", "-x --version", "--formt raw", "--webhook x"].map((words): [string, string] =>
      [words, `unknown option: "${words.split(/[ =]/)[0]}"`]),
  ...["--host=", "--bogus --help", "--host a --host.x 1", "--dryRun", "--no-dry-run", "--no-host"].map(
    (words): [string, string] => [words, words.split(/[ =]/)[0] ?? ""]),
  ...["-- word", "-- --verbose"].map((words): [string, string] => [words, "unexpected words after --"]),
  ...["--host", "--host --verbose", "--host -h"].map((words): [string, string] =>
    [words, "--host <name>: the value is missing"]),
  ...["--dry-run foo", "--dry-run=1 foo", "--dry-run 0", "chek", "nonsense"].map((words): [string, string] =>
    [words, `unknown command: "${words.split(" ").at(-1)}"`]),
  [["--host", " "], /--host/], [["--state", "a\0b"], /--state/],
  [["--log", ""], /--log.*missing/], [["--state", ""], /--state.*missing/],
  ["--env-file=", /--env-file.*missing/], ["--from middle", /--from.*start or end.*middle/],
  ["--inline -1", /--inline: expected .*"-1"/],
  ...["-1", "0", "1e3", "0x10", "1.5", "5m", "99999999999999999999", " 12 "].map((time): [string[], RegExp] =>
    [["--max-time", time], new RegExp(`--max-time: expected whole seconds.*"${time}"`)]),
  ["--max-time=-1", /--max-time: expected .*"-1"/], ["--jail a,,b", /--jail: expected/],
  ["--dry-run=foo", /--dry-run.*foo/], ["--verbose=foo", /--verbose.*foo/], [["--bo\ngus"], /--bo/],
  [[""], /unknown command: ""/], [["--verbose", ""], /unknown command: ""/],
  ...["--log a --log b", "--host a --host b", "--host=a --host=a", "--verbose --verbose",
    "--dry-run --dry-run", "--dry-run --dry-run=1"].map((words): [string, string] =>
      [words, `${words.split(/[ =]/)[0]}: given twice`]),
  ...["WEBHOOK", "--webhook WEBHOOK", "--webhook=WEBHOOK", "--WEBHOOK", "-- WEBHOOK", "--from WEBHOOK",
    "--max-time WEBHOOK", "--dry-run=WEBHOOK", "--verbose=WEBHOOK"].map((words): [string, string] =>
      [words.replace("WEBHOOK", WEBHOOK), "f2b-watch"]),
  // What was meant is named.
  ...Object.entries({ chek: "check", statsu: "status", dig: "digest", "help chekc": "check",
    "--formt raw": "--format", "--maxtime 3": "--max-time", "--jails sshd": "--jail", "--only bans": "ban", "--only ban,bann": "ban",
    "--format event": "events" }).map(([words, meant]): [string, string] =>
      [words, `\nhint: did you mean ${meant}?\n`]),
  ["check nonsense", /unexpected word after check: "nonsense"\nhint: f2b-watch help check/],
  ["--webhook x", /\nhint: f2b-watch help lists/], ["nonsense", /\nhint: f2b-watch help lists/],
  ["--send", /--send is an option of status and digest\nhint: f2b-watch help status shows/],
  ["--json", /--json is an option of check, status and digest\n/],
  ["check --since 7d", /--since is an option of digest\n/], ["status --hello", /--hello is an option of check\n/],
  ["--format event", /--format: expected raw, compact or events, found "event"/],
  ["status sshd --jail nginx", /--jail: jails are already named after status/],
  ...BAD_LINKS.map((link): [string[], RegExp] => [["--link", link], /--link: expected .+\nhint: /]),
  ...BAD_PERIODS.map((since): [string[], RegExp] =>
    [["digest", "--since", since], /--since: expected .*not in the future.*\nhint: /]),
];
test.each(BAD_USAGE)("%j is refused with 64, before anything is sent", async (given, told) => {
  using scene = smallScene();
  const argv = typeof given === "string" ? given.split(" ") : given;
  expectFault(scene, await scene.f2bWatch(...argv), 64, told);
  expect(fs.existsSync(scene.state)).toBe(false);
});

// ── Help and version ────────────────────────────────────────────────────────────────────────────

test("--help names every option, every variable's form, the destination and every exit status", async () => {
  using scene = smallScene();
  const { code, out, err } = await scene.f2bWatch("--help");
  expect({ code, err }).toEqual({ code: 0, err: "" });
  for (const name of [...OPTIONS, "help", "version"])
    expect(out).toMatch(new RegExp(`--${name}[ )]`));
  for (const text of ["-h", "-V", "F2B_", "DISCORD_WEBHOOK"]) expect(out).toContain(text);
  for (const status of [0, 64, 66, 69, 70, 73, 75, 78])
    expect(out).toMatch(new RegExp(`\\b${status} `));
  expect(await scene.f2bWatch("-h")).toEqual({ code, out, err });
});

test("quotes around a value in the environment are taken off; a webhook of blanks is none", async () => {
  using scene = smallScene();
  for (const webhook of ["", "  ", "\n", '" "']) {
    scene.env = { DISCORD_WEBHOOK: webhook };
    expect((await scene.run("--dry-run")).out).toContain(line(1));
  }
  scene.env = { DISCORD_WEBHOOK: `"${scene.discord.webhook}"`, F2B_HOST: "'quoted'" };
  await scene.pass();
  expect(usernames(scene)).toEqual(["Fail2Ban · quoted"]);
});

test("proxies of the env file reach whoever connects; the environment wins", async () => {
  using scene = smallScene();
  const world = scene.world();
  world.env["NO_PROXY"] = "ours";
  const path = envFile(scene, "HTTPS_PROXY=http://127.0.0.1:1\nNO_PROXY=theirs\n");
  await main(["--log", scene.log, "--env-file", path], world);
  expect(world.env).toMatchObject({ HTTPS_PROXY: "http://127.0.0.1:1", NO_PROXY: "ours" });
});

test.each([
  ...["--help --bogus", "--help --help", "-h -h --bogus", "-h --help", "--version --version"],
  ...["-V -V", "--help --version", "--version --help"],
])("who asks %s is told something, and nothing is sent", async (words) => {
  using scene = smallScene();
  const { code, out, err } = await scene.run(...words.split(" "));
  expect([0, 64]).toContain(code);
  expect(out + err).toContain("f2b-watch");
  expect(scene.discord.requests).toEqual([]);
  expect(fs.existsSync(scene.state)).toBe(false);
});

test("help, and the version of package.json, work where the configuration is broken", async () => {
  using scene = smallScene();
  scene.env = { DISCORD_WEBHOOK: "nonsense", F2B_FORMT: "1" };
  for (const words of ["--help", "help", "help check", "digest --help"])
    expect(await scene.f2bWatch(...words.split(" "))).toMatchObject({ code: 0, err: "" });
  const out = `f2b-watch ${manifest.version}\n`;
  for (const words of ["--version", "-V", "version"])
    expect(await scene.f2bWatch(words)).toEqual({ ...DONE, out });
});

describe("help", () => {
  const OWN: [string, string[], string[]][] = [
    ["check", ["log", "format", "hello", "ping", "json"], ["since", "send"]],
    ["status", ["log", "jail", "send", "json"], ["since", "hello", "format", "from"]],
    ["digest", ["log", "since", "geo", "send"], ["hello", "ping", "inline", "from"]],
  ];
  test.each(OWN)("%s: that command alone, with examples", async (name, own, others) => {
    using scene = smallScene();
    const { out } = await scene.f2bWatch("help", name);
    expect(out).toStartWith(`f2b-watch ${name} `);
    for (const option of own) expect(out).toContain(`\n  --${option} `);
    for (const option of others) expect(out).not.toContain(`--${option} `);
    const examples = out.match(new RegExp(`^  f2b-watch ${name}.*`, "gm")) ?? [];
    expect(examples.length).toBeWithin(2, 4);
    for (const words of [`${name} --help`, `-h ${name}`, `${name} -h --log x`])
      expect((await scene.f2bWatch(...words.split(" "))).out).toBe(out);
    for (const example of examples) {
      const argv = example.trim().split(" ").slice(1);
      const { code } = await scene.f2bWatch(...argv, "--log", scene.log);
      expect([example, code]).not.toEqual([example, 64]);
    }
  });

  test("all of it fits into 80 columns", async () => {
    using scene = smallScene();
    for (const words of [[], ["check"], ["status"], ["digest"], ["help"], ["version"]]) {
      const { out } = await scene.f2bWatch("help", ...words);
      expect(out.split("\n").filter((text) => [...text].length > 80)).toEqual([]);
      expect(out).not.toMatch(/undefined|\[object| $/m);
    }
  });
});

test("a crontab's options of a run may be given to every command, and -- without words", async () => {
  using scene = smallScene();
  const { code } = await scene.run("digest", "--format", "events", "--inline", "5", "--ping", "--");
  expect(code).toBe(0);
});

// ── Configuration ───────────────────────────────────────────────────────────────────────────────

const HOOK = `https://discord.com/api/webhooks/12345/${TOKEN}`;
/** What is nearly the name of a setting, by that name. */
const NEARLY = {
  DISCORD_WEBHOOK:
    "DISCORD_WEBHOK discord_webhook DISCORD_WEBHOOK_URL F2B_DISCORD_WEBHOOK DICSORD_WEBHOOK DISCORD_WEBHOOK2",
  SLACK_WEBHOOK: "SLACK_WEBHOOK_URL",
  SLACK_CHANNEL: "SLACK_CHANEL",
  F2B_FORMAT: "F2B_FORMT F2B_FROMAT",
  F2B_DRY_RUN: "F2B_DRYRUN",
  F2B_JAIL: "f2b_jail",
};

/** Refused in the env file and, where it is one setting, in the environment. */
// prettier-ignore
const BAD_SETTINGS: [written: string, told: RegExp | string, where?: "file"][] = [
  ...Object.entries(NEARLY).flatMap(([meant, names]) =>
    names.split(" ").flatMap((name) => ["1", "", WEBHOOK].map((value): [string, string] =>
      [`${name}=${value}`, `${name}: unknown setting\nhint: did you mean ${meant}?\n`]))),
  ["F2B_FROM=middle", /F2B_FROM.*start or end.*middle/],
  ["F2B_MAX_TIME=1e3", /F2B_MAX_TIME.*1e3/], ["F2B_MAX_TIME=-1", /F2B_MAX_TIME.*-1/],
  ["F2B_DRY_RUN=yes", /F2B_DRY_RUN.*yes/], ["F2B_VERBOSE=2", /F2B_VERBOSE.*2/],
  ['F2B_HOST=" "', /F2B_HOST/], [`F2B_FROM=${WEBHOOK}`, /F2B_FROM/],
  // With the expected one whole.
  [`SLACK_WEBHOOK=${WEBHOOK}`,
    /SLACK_WEBHOOK: expected https:\/\/hooks\.slack\.com\/<path>, found a Discord URL/],
  ...[
    TOKEN,
    HOOK.replace("https", "http"),
    // What only looks like loopback.
    `http://127.0.0.1.nip.io/api/webhooks/1/${TOKEN}`,
    `http://localhost.example.org/api/webhooks/1/${TOKEN}`,
    `http://localhost@example.org/api/webhooks/1/${TOKEN}`,
    HOOK.replace("https", "ftp"),
    `file:///api/webhooks/12345/${TOKEN}`,
    "https://discord.com/api/webhooks/12345",
    "https://discord.com/api/webhooks/12345/",
    `https://discord.com/channels/12345/${TOKEN}`,
    `${HOOK}/messages/1`,
    HOOK.replace("/api", "/x/api"),
    // The forms for Slack and for GitHub.
    `${HOOK}/slack`,
    `${HOOK}/github?wait=true`,
    `https://hooks.slack.com/services/T0/B0/${TOKEN}`,
    HOOK.replace(TOKEN, ` ${TOKEN}`),
    HOOK.replace(TOKEN, `"${TOKEN}`),
    `${HOOK}?thread_id=abc`,
    `see ${HOOK}`,
  ].map((url): [string, RegExp] => [`DISCORD_WEBHOOK=${url}`, /DISCORD_WEBHOOK/]),
  ...BAD_LINKS.map((link): [string, RegExp] => [`F2B_LINK=${link}`, /F2B_LINK: expected /]),
  ...BAD_PERIODS.map((since): [string, RegExp] => [`F2B_SINCE=${since}`, /F2B_SINCE: expected /]),
  ["SLACK_TOKEN=x\nSLACK_WEBHOOK=https://hooks.slack.com/x", /both set/, "file"],
  ["SLACK_TOKEN=x", /SLACK_CHANNEL is missing/],
  ["SLACK_TOKEN=xapp-1\nSLACK_CHANNEL=a", /SLACK_TOKEN: expected xoxb-/, "file"],
  ["SLACK_CHANNEL=#a", /SLACK_TOKEN is missing/],
  ["SLACK_WEBHOOK=https://hooks.slack.com/", /SLACK_WEBHOOK: expected .*, found a different path/],
  ["SLACK_WEBHOOK=hooks", /SLACK_WEBHOOK: expected .*, found something else/],
  ["SLACK_WEBHOOK=https://x.webhook.office.com/y", /SLACK_WEBHOOK: .* another service/],
  ["SLACK_WEBHOOK=http://x.example/y", /SLACK_WEBHOOK: expected /],
  ...["nonsense", "http://x.example/"].map((url): [string, RegExp] =>
    [`SLACK_API_URL=${url}`, /SLACK_API_URL: expected /]),
  ["SLACK_ICON=bank", /SLACK_ICON: .* between colons/],
  ["PATH_TO_X=1", /PATH_TO_X: unknown setting/, "file"],
  ["HTTPS_PROXI=1", "HTTPS_PROXI: unknown setting\nhint: did you mean HTTPS_PROXY?\n", "file"],
  // The runtime reads them at its start.
  ...["NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "BUN_OPTIONS", "SSL_CERT_FILE", "TZ", "F2B_ENV_FILE"].map(
    (name): [string, RegExp, "file"] =>
      [`${name}=/x`, new RegExp(`${name} .*\nhint: set it where .*crontab`), "file"]),
  ...["word", "export A=1", "A", "=1", "1A=1", "A-B=1", "A = 1"].map(
    (text): [string, RegExp, "file"] =>
      [`# first\n${text} ${TOKEN}`, /line 2[^]*\nhint: write NAME=/, "file"]),
  // Which one counts is anybody's guess.
  ...["F2B_HOST", "DISCORD_WEBHOOK"].map((name): [string, string, "file"] =>
    [`${name}=${TOKEN}\n\n${name}=`, `line 3: ${name} is set twice`, "file"]),
];
test.each(BAD_SETTINGS)("%j is refused with 78, and not echoed", async (written, told, where) => {
  for (const isInFile of where ? [true] : [true, false]) {
    using scene = smallScene();
    delete scene.env["DISCORD_WEBHOOK"];
    const [name = "", ...value] = written.split("=");
    if (!isInFile) scene.env[name] = value.join("=");
    const flags = isInFile ? ["--env-file", envFile(scene, `${written}\n`)] : [];
    expectFault(scene, await scene.run(...flags), 78, told);
    expect(fs.existsSync(scene.state)).toBe(false);
  }
});

test("the names that are known are those of the options in --help", async () => {
  using scene = smallScene();
  const { err } = await scene.run("--env-file", envFile(scene, "UNLIKE_ANYTHING=1\n"));
  expect(err.match(/F2B_[A-Z_]+/g)?.toSorted()).toEqual(VARIABLES.toSorted());
});

test("in the environment foreign names are none of our business", async () => {
  using scene = smallScene();
  const images =
    "F2B_LOG_TARGET F2B_LOG_LEVEL F2B_DB_PURGE_AGE F2B_MAX_RETRY F2B_DEST_EMAIL F2B_SENDER " +
    "F2B_ACTION F2B_IPTABLES_CHAIN F2B_NONSENSE SLACK_BOT_TOKEN SLACK_SIGNING_SECRET DISCORD_TOKEN " +
    "CI_SLACK_WEBHOOK FORMAT STATE NODE_EXTRA_CA_CERTS WEBHOOK_URL TZ";
  for (const name of images.split(" ")) scene.env[name] = "1";
  await scene.passPosts(...lines(1, 2));
});

describe("the env file", () => {
  // prettier-ignore
  const LINES: [written: string, host: string][] = [
    ["F2B_HOST=value", "value"], ["F2B_HOST=  a b  ", "a b"], ["  F2B_HOST=1", "1"],
    ['F2B_HOST="a b "', "a b "], ["F2B_HOST='a b'", "a b"], [`F2B_HOST="'a'"`, "'a'"],
    ['F2B_HOST="a"b"', 'a"b'], [`F2B_HOST="a`, '"a'], [`F2B_HOST="a'`, `"a'`], ['F2B_HOST="', '"'],
    ["F2B_HOST=", "web-1"], ['F2B_HOST=""', "web-1"], ["F2B_HOST=a=b==", "a=b=="],
    ["F2B_HOST=#alerts", "#alerts"], ["F2B_HOST=a #b", "a #b"],
    ["F2B_HOST=$HOME${X}`x`", "$HOME${X}`x`"], ["F2B_HOST=a\\nb", "a\\nb"],
    ["# F2B_HOST=comment\n   # indented\n\n   \nF2B_HOST=x\n", "x"],
    ['\ufeffF2B_HOST="x y"\r\n\r\n# b\r\n', "x y"],
  ];
  test.each(LINES)("%j is the host %j", async (written, host) => {
    using scene = smallScene();
    const { out } = await scene.run("check", "--env-file", envFile(scene, written));
    expect(out).toContain(`; host ${host}; format `);
  });

  test("is /etc/f2b-watch.env where nobody names another, and holds the webhook", async () => {
    using scene = smallScene();
    defaultEnvFile(scene, `F2B_HOST=from-etc\nDISCORD_WEBHOOK="${scene.discord.webhook}"\n`);
    scene.env = {};
    await scene.passPosts(...lines(1, 2));
    expect(usernames(scene)).toEqual(["Fail2Ban · from-etc"]);
    defaultEnvFile(scene, "nonsense\n");
    const path = join(scene.directory, "other.env");
    fs.writeFileSync(path, `DISCORD_WEBHOOK=${scene.discord.webhook}\n`, { mode: 0o600 });
    await scene.pass("--env-file", path);
    const { out } = await scene.run("check", "--env-file", "/dev/null");
    expect(out).toMatch(/^✓ env file/m);
  });

  const breaking = (scene: Scene) => {
    scene.beforeCalls("readFileSync", () => {
      throw systemError("EIO: i/o error");
    });
    return ["--env-file", envFile(scene, "")];
  };
  const unreadable = (name: string) => (scene: Scene) => {
    failOpening(scene, (path) => path.endsWith(name), "EACCES: permission denied");
    return name.startsWith("/") ? [] : ["--env-file", join(scene.directory, name)];
  };
  // prettier-ignore
  const UNREADABLE: [string, (scene: Scene) => string[], RegExp][] = [
    ["is named and missing", (scene) => ["--env-file", join(scene.directory, "missing.env")], /missing\.env/],
    ["is a directory", (scene) => ["--env-file", scene.directory], /env file/],
    ["is the default one and may not be read", unreadable("/etc/f2b-watch.env"), /permission denied/],
    ["is named and may not be read", unreadable("named.env"), /permission denied/],
    ["breaks while it is read", breaking, /env file .*i\/o/],
  ];
  test.each(UNREADABLE)("that %s is refused", async (_, prepare, told) => {
    using scene = smallScene();
    expectFault(scene, await scene.run(...prepare(scene)), 78, told);
  });

  // prettier-ignore
  const OWNERS: [string, { mode?: number; uid?: number; gid?: number }, RegExp | undefined][] = [
    ["writable by others", { mode: 0o602 }, /writable by others/],
    ["writable by all", { mode: 0o777 }, /writable by others/],
    ["writable by another group", { mode: 0o660, gid: 4711 }, /writable by others/],
    ["of somebody else", { uid: 4711 }, /env file .*(owner|belongs)/],
    ["writable by our own group", { mode: 0o660 }, undefined], ["of root", { uid: 0 }, undefined],
    ["readable by others", { mode: 0o644 }, undefined], ["of ourselves", { uid: 4712 }, undefined],
  ];
  test.each(OWNERS)("%s", async (_, { mode = 0o600, uid = 0, gid = 4712 }, refused) => {
    using scene = smallScene();
    const path = envFile(scene, "F2B_FROM=nowhere\n", mode);
    const fstatSync = ((descriptor: number) =>
      Object.assign(fs.fstatSync(descriptor), { uid, gid })) as typeof fs.fstatSync;
    scene.withFs({ fstatSync });
    Object.assign(scene.overrides, { uid: () => 4712, gid: () => 4712 });
    // One that is good is read: it has a bad value.
    expectFault(scene, await scene.run("--env-file", path), 78, refused ?? /F2B_FROM/);
  });
});

test("the state directory is systemd's where nobody names another, also through its link", async () => {
  using scene = smallScene();
  const real = join(scene.directory, "private");
  const link = join(scene.directory, "link");
  fs.mkdirSync(real, { mode: 0o700 });
  fs.symlinkSync(real, link);
  scene.env["STATE_DIRECTORY"] = `${link}:/nonexistent`;
  await scene.pass();
  expect(fs.readdirSync(real).some((name) => name.endsWith(".json"))).toBe(true);
  expect(fs.existsSync(scene.state)).toBe(false);
  scene.env["F2B_STATE"] = scene.state;
  await scene.pass();
  expect(fs.existsSync(scene.stateFile())).toBe(true);
});

// ── The webhook ─────────────────────────────────────────────────────────────────────────────────

const POSTED = HOOK.replace("/api/", "/api/v10/");
// prettier-ignore
const WEBHOOKS: [about: string, written: string, posted?: string][] = [
  ["as Discord's client copies it", HOOK], ["of version 6", HOOK.replace("/api/", "/api/v6/")],
  ["of version 10", POSTED], ["on the old host", HOOK.replace("discord", "discordapp")],
  ["in capitals", HOOK.replace("https://discord.com", "HTTPS://Discord.COM")],
  ["with the default port", HOOK.replace(".com", ".com:443")],
  ["with a slash at its end", `${HOOK}/`], ["that does not wait", `${HOOK}?wait=false`],
  ["with a fragment", `${HOOK}#x`], ["with blanks around it", ` ${HOOK} `],
  ["with a thread and more", `${HOOK}?x=1&thread_id=99&wait=0`, `${POSTED}?wait=true&thread_id=99`],
  ...["https://ptb.discord.com", "https://canary.discord.com", "http://127.0.0.1:8080", "http://localhost",
    "http://[::1]:99", "http://127.9.9.9"].map((origin): [string, string, string] =>
    [`of ${origin}`, HOOK.replace("https://discord.com", origin),
      `${POSTED.replace("https://discord.com", origin)}?wait=true`]),
];
test.each(WEBHOOKS)("a webhook's URL %s is posted to as version 10, waiting", async (...row) => {
  const [, written, posted = `${POSTED}?wait=true`] = row;
  using scene = smallScene();
  const called: string[] = [];
  scene.env = { DISCORD_WEBHOOK: written };
  scene.overrides.fetch = async (url) => {
    called.push(url);
    return Response.json({ id: "1" });
  };
  await scene.pass();
  expect(called).toEqual([posted]);
});

// ── Exit codes and output ───────────────────────────────────────────────────────────────────────

describe("exit codes", () => {
  test("0: done, or nothing to do, and silent; --verbose says which", async () => {
    using scene = smallScene();
    await scene.passPosts(...lines(1, 2));
    const { code, err } = await scene.run("--verbose");
    expect({ code, err }).toEqual({ code: 0, err: `f2b-watch: nothing new in ${scene.log}\n` });
  });

  test("0: another run is in progress; a dry run does not mind", async () => {
    using scene = smallScene();
    await scene.pass();
    scene.append(line(3));
    using other = new DatabaseSync(scene.stateFile().replace(/json$/, "json.lock"));
    other.exec("BEGIN IMMEDIATE");
    expect(await scene.run()).toEqual(DONE);
    expect(scene.discord.messages.length).toBe(1);
    expect((await scene.run("--dry-run")).out).toContain(line(3));
    other.exec("ROLLBACK");
    await scene.passPosts(...lines(1, 3));
  });

  // prettier-ignore
  const FAILURES: [number, string, (scene: Scene) => unknown, RegExp][] = [
    [66, "the log is not there, nor a sibling", (scene) => scene.remove(), /\.log: no such file.*\nhint: /],
    [66, "the log may not be read",
      (scene) => failOpening(scene, (path) => path === scene.log, "EACCES: permission denied"),
      /permission denied\nhint: .*(root|group)/],
    [70, "a bug is one line, without the secrets that its error carries",
      (scene) => Object.assign(scene.overrides, { hostName: () => { throw new Error(`boom at ${WEBHOOK}\n    at f2b-watch.ts:1`); } }),
      /a bug in f2b-watch.*\nhint: report it: github\.com\/\S+\/issues\n/],
    [70, "a call of ours that the runtime refuses is no error of the system's",
      (scene) => scene.beforeCalls("fstatSync", () => Buffer.alloc(-1)),
      /a bug in f2b-watch/],
    [73, "the state directory cannot be made",
      (scene) => (scene.env["F2B_STATE"] = join(scene.log, "state")), /not a directory/],
  ];
  test.each(FAILURES)("%d: %s", async (code, _, spoil, told) => {
    using scene = smallScene();
    spoil(scene);
    // A dry run says so however often.
    for (const flags of [["--dry-run"], [], ["--dry-run"]])
      expectFault(scene, await scene.run(...flags), code, told);
  });
});

describe("without a destination", () => {
  test("messages go to stdout as a channel would show them, and stderr says so once", async () => {
    using scene = new Scene();
    scene.env = {};
    scene.append(...lines(1, 500));
    const { code, out, err } = await scene.run();
    expect(code).toBe(0);
    expect(out.match(/^```$/gm)?.length).toBeGreaterThan(20);
    const told = "f2b-watch: no destination is set, messages go to stdout";
    expect(err.match(/^f2b-watch: .*/gm)).toEqual([told]);
    expect(await scene.run()).toEqual(DONE);
    scene.append(...lines(501, 502));
    const shown = `Fail2Ban · web-1\n\`\`\`\n${line(501)}\n${line(502)}\n\`\`\`\n`;
    expect(await scene.run()).toMatchObject({ code: 0, out: shown });
  });

  test("no line of the log can write to the terminal, or pass on a secret", async () => {
    using scene = new Scene();
    scene.env = {};
    scene.append(`\x1b[2J\u202egnp ${WEBHOOK} \`\`\` \u009b31m`, "ok");
    const { out } = await scene.run();
    expect(out).toContain("\\x1b[2J\\u202egnp https://discord.com/api/webhooks/[redacted]");
    expect(out).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]|tok-en_/);
    expect(out.match(/```/g)?.length).toBe(2);
  });

  test("a stdout that is closed is 75, and nothing is lost", async () => {
    using scene = smallScene();
    scene.env = {};
    scene.overrides.writeOut = () => Promise.reject(systemError("EPIPE: broken pipe"));
    const { code, err } = await scene.run();
    expect(code).toBe(75);
    expect(err).toContain("f2b-watch: cannot write to stdout: broken pipe; 2 lines wait\n");
    // What was asked for may be read in part.
    for (const words of ["--dry-run", "digest", "help"])
      expect((await scene.run(words)).code).toBe(0);
    delete (scene.overrides as Partial<Record<keyof World, unknown>>).writeOut;
    const { out } = await scene.run();
    expect(out).toContain(`${line(1)}\n${line(2)}\n`);
  });
});

// ── Dry run ─────────────────────────────────────────────────────────────────────────────────────

/** Names and modes of everything in the scene's directory, contents and times of files. */
function snapshot(scene: Scene): string[] {
  return fs.readdirSync(scene.directory, { recursive: true, encoding: "utf8" }).map((name) => {
    const path = join(scene.directory, name);
    const stat = fs.lstatSync(path);
    if (!stat.isFile()) return `${name} ${stat.mode}`;
    return `${name} ${stat.mode} ${stat.mtimeMs} ${fs.readFileSync(path, "base64")}`;
  });
}

/** What a dry run printed must be what the next real run posts; the dry run leaves no trace. */
async function expectForetold(scene: Scene, ...flags: string[]): Promise<void> {
  const before = [scene.clockMs, ...snapshot(scene)];
  const start = scene.discord.messages.length;
  const { code, out, err } = await scene.run("--dry-run", ...flags);
  expect([scene.clockMs, ...snapshot(scene)]).toEqual(before);
  expect(scene.discord.requests.length).toBe(start);
  await scene.pass(...flags);
  const posted = scene.discord.messages.slice(start);
  const expected = posted.map(({ username, body }) => `${username}\n${body["content"]}\n`);
  expect(out).toBe(expected.join(""));
  expect(code).toBe(0);
  const messages = posted.length === 1 ? "1 message" : `${posted.length} messages`;
  expect(err).toBe(`f2b-watch: dry run: ${messages} for Discord, none sent\n`);
}

describe("--dry-run prints exactly what would be sent and leaves no trace", () => {
  const pass = (scene: Scene) => scene.pass();
  // prettier-ignore
  const STORIES: [string, ((scene: Scene) => unknown)[], string[]?][] = [
    ["on a first run", [(scene) => scene.append(...lines(3, 50))]],
    ["on a first run that begins at the end", [], ["--from", "end"]],
    ["on a first run beside files that were rotated before",
      [(scene) => scene.rotate(), (scene) => scene.append(...lines(3, 4))]],
    ["when there is something new", [pass, (scene) => scene.append(...lines(3, 60))]],
    ["when there is nothing new", [pass]],
    ["at once, however much it is", [(scene) => scene.append(...lines(3, 1_500))]],
    ["across a rotation, also into a compressed file",
      [pass, (scene) => scene.append(line(3)), (scene) => scene.rotate(),
        (scene) => scene.compress(".1"), (scene) => scene.append(line(4))]],
    ["after a gap", [pass, (scene) => fs.writeFileSync(scene.log, `${line(7)}\n${line(8)}\n`)]],
  ];
  test.each(STORIES)("%s", async (_, steps, flags = []) => {
    using scene = smallScene();
    for (const step of steps) await step(scene);
    await expectForetold(scene, ...flags);
    expect(scene.discord.violations).toEqual([]);
  });

  test("where the state directory does not exist, and does not make it", async () => {
    using scene = smallScene();
    const state = join(scene.directory, "none", "state");
    const { code, out } = await scene.run("--dry-run", "--state", state);
    expect(code).toBe(0);
    expect(out).toContain(line(2));
    expect(fs.existsSync(join(scene.directory, "none"))).toBe(false);
  });

  test("without a destination too", async () => {
    using scene = smallScene();
    scene.env = {};
    const { code, out, err } = await scene.run("--dry-run");
    expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining("dry run: 1 message") });
    expect(err).not.toContain("no destination");
    expect((await scene.run()).out).toBe(out);
  });

  test("and never says that a failing destination works again", async () => {
    using scene = smallScene();
    scene.discord.failAlways({ kind: "refused" });
    await scene.run();
    const { err } = await scene.run("--dry-run");
    expect(err).not.toContain("works again");
    expect((await scene.run()).err).toBe("");
    scene.discord.failAlways(undefined);
    expect((await scene.run()).err).toContain("works again");
  });
});

// ── Terminal ────────────────────────────────────────────────────────────────────────────────────

describe("on a terminal", () => {
  function terminalScene(count: number): Scene {
    const scene = new Scene();
    scene.overrides.terminal = true;
    scene.append(...lines(1, count));
    return scene;
  }

  test("a first run says where it starts, and each run what it sent", async () => {
    using scene = terminalScene(2);
    const { code, out, err } = await scene.run();
    expect({ code, out }).toEqual({ code: 0, out: "" });
    expect(err).toContain(`f2b-watch: first run: reads ${scene.log} from the start\n`);
    expect(err).toEndWith("f2b-watch: 1 message sent to Discord\n");
    scene.append(...lines(3, 60));
    const later = await scene.run();
    expect(later.err).not.toContain("first run");
    expect(later.err).toEndWith("f2b-watch: 3 messages sent to Discord\n");
    expect((await scene.run()).err).toBe(`f2b-watch: nothing new in ${scene.log}\n`);
  });

  test("a first run from the end says so; without a destination only messages are to be seen", async () => {
    using scene = terminalScene(2);
    const { err } = await scene.run("--from", "end");
    expect(err).toContain("from the end");
    expect(err).toEndWith("f2b-watch: nothing new for Discord\n");
    scene.env = {};
    expect((await scene.run()).err).not.toMatch(/sent|nothing new/);
  });

  test("a progress line is shown while it sends and waits, on stderr, and is gone at the end", async () => {
    using scene = terminalScene(200);
    scene.discord.refuseContent((content) => content.includes(line(190)));
    const { out, err } = await scene.run();
    expect(out).toBe("");
    expect(err).toMatch(/\r\x1b\[KDiscord: \d+ sent, next in \d+ s/);
    expect(err).toMatch(/\r\x1b\[KDiscord: 1 sent\r/);
    expect(err).toMatch(/\r\x1b\[Kf2b-watch: \d+ messages sent to Discord\n$/);
    // An error stands on a line of its own.
    expect(err).toMatch(/(\n|\r\x1b\[K)f2b-watch: Discord refused/);
  });
});

// ── The program itself ──────────────────────────────────────────────────────────────────────────

test("the script, started, ends with the status it means", () => {
  using scene = smallScene();
  const start = (...argv: string[]) => {
    const env = { PATH: process.env["PATH"] ?? "" };
    const places = { cwd: scene.directory, encoding: "utf8" as const, env };
    return spawnSync(process.execPath, [SCRIPT, "--state", scene.state, ...argv], places);
  };
  expect(start("--bogus")).toMatchObject({ status: 64, stdout: "" });
  expect(start("--log", scene.path(".none"))).toMatchObject({ status: 66, stdout: "" });
  const version = { status: 0, stdout: `f2b-watch ${manifest.version}\n`, stderr: "" };
  expect(start("--version")).toMatchObject(version);
});

test("what is wrong with the settings is found in an idle run, too", async () => {
  using scene = new Scene();
  const url = scene.env["DISCORD_WEBHOOK"];
  scene.append(line(1));
  await scene.run("--format", "compact");
  expect(await scene.run("--format", "compact")).toMatchObject({ code: 0, err: "" });
  expect((await scene.run("--format", "compcat")).code).toBe(64);
  scene.env["DISCORD_WEBHOK"] = url ?? "";
  expect((await scene.run("--format", "compact")).code).toBe(78);
  delete scene.env["DISCORD_WEBHOK"];
  scene.env["DISCORD_WEBHOOK"] = "https://example.com/hook";
  const { code, err } = await scene.run("--format", "compact");
  expect(code).toBe(78);
  expect(err).toContain("/webhooks/<id>/<token>, found a different path");
});

test("what a flag overruled is found when it no longer does", async () => {
  using scene = new Scene(line(1));
  scene.env["F2B_PING"] = "1";
  expect((await scene.run("--ping=0")).code).toBe(0);
  expect((await scene.run("--ping=0")).code).toBe(0);
  expect((await scene.run()).err).toContain("fail2ban-client");
  delete scene.env["F2B_PING"];
  scene.env["F2B_FORMAT"] = "foo";
  expect((await scene.run("--format", "raw")).code).toBe(78);
});
