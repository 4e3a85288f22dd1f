/**
 * How fast it is, beside others, as ratios of programs that run in turn: a ratio holds on any machine.
 * Usage: bun run bench [idle, message, dry, events or digest]; BENCH_ROUNDS=60 for steadier numbers.
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compiled, repository, Scene } from "./harness.ts";
import { dice } from "./histories.ts";
import { judgeTrace } from "./machine.ts";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 30);
const MB = 1_000_000;
const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;
/** Discord, whatever it answers: nothing is sent in what is timed here. The log is searched for the token, as for a real one. */
const NOWHERE = { DISCORD_WEBHOOK: `http://127.0.0.1:9/api/webhooks/1/${"Ab1-c_D2".repeat(8)}` };

/** The program before it was built anew, which nothing may be slower or larger than. */
const FORMER = "f3be2f2";
const NOT_WORSE = 1.05;

/** Seven thousand lines of a real server. */
const BURST = fs
  .readFileSync(join(import.meta.dirname, "fixtures/attack-burst.log"), "utf8")
  .trimEnd()
  .split("\n");

// ── Machinery ───────────────────────────────────────────────────────────────────────────────────

/** Prints a row of the table; without a value, where a program is not here that it takes. */
function row(
  what: string,
  value: number | string | undefined,
  unit = "",
  { most = Infinity, least = -Infinity } = {},
): void {
  const target = most < Infinity ? `≤ ${most}${unit}` : least > 0 ? `≥ ${least}${unit}` : "";
  const digits = Number(value) >= 100 ? 0 : Number(value) >= 10 ? 1 : 2;
  const told = typeof value === "number" ? value.toFixed(digits) + unit : value;
  const measured = told ?? "left out: not installed";
  const holds = typeof value !== "number" || (value <= most && value >= least);
  const mark = !target || !told ? "" : holds ? "✓" : "✗";
  console.log(`${what.padEnd(58)} ${measured.padStart(24)}   ${target.padEnd(12)} ${mark}`);
  if (!holds) process.exitCode = 1;
}

interface Program {
  readonly name: string;
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Milliseconds of one run, which must go well. */
function timeOf({ name, command, env = {} }: Program): number {
  const begun = Bun.nanoseconds();
  const { exitCode } = Bun.spawnSync([...command], {
    env: { PATH, HOME: "/root", LC_ALL: "C", ...env },
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  const elapsed = Bun.nanoseconds() - begun;
  if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}`);
  return elapsed / 1e6;
}

/** Times of programs that run in turn, in another order each round. */
function race(programs: readonly Program[], rounds = ROUNDS): number[][] {
  const roll = dice(rounds);
  const times = programs.map((): number[] => []);
  for (const program of programs) timeOf(program);
  for (let round = 0; round < rounds; round++) {
    const order = [...programs.keys()].sort(() => roll() - 0.5);
    for (const index of order) times[index]?.push(timeOf(programs[index] as Program));
  }
  return times;
}

/** How many times as long the first takes as the second: the middle of the rounds' ratios. */
function ratio(times: readonly number[], others: readonly number[]): number {
  return median(times.map((time, round) => time / (others[round] ?? Number.NaN)));
}

/** The most memory that a program had, in MB; absent where nobody can measure it. */
function peakMemory({ command, env = {} }: Program): number | undefined {
  const time = Bun.which("time", { PATH });
  if (!time) return undefined;
  const { stderr } = spawnSync(time, ["-f", "peak %M", ...command], {
    env: { PATH, HOME: "/root", ...env },
    stdio: ["ignore", "ignore", "pipe"],
    encoding: "utf8",
  });
  return (Number(/peak (\d+)$/m.exec(stderr)?.[1]) * 1_024) / MB;
}

// ── What is measured ────────────────────────────────────────────────────────────────────────────

/** A folder with logs, states and programs, gone at the end. */
class Bench {
  readonly directory = fs.mkdtempSync(join(tmpdir(), "f2b-watch-bench-"));

  [Symbol.dispose](): void {
    fs.rmSync(this.directory, { recursive: true });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** A log of so many bytes, of a real server's lines; now and then one to be looked at closely. */
  log(name: string, bytes: number, suspiciousEvery = Infinity): string {
    const block = BURST.map((text, index) =>
      (index + 1) % suspiciousEvery === 0 ? `${text} \`\`\` token=abc \u202e` : text,
    );
    const text = Buffer.from(`${block.join("\n")}\n`);
    const descriptor = fs.openSync(this.path(name), "w");
    for (let size = 0; size < bytes; size += text.length) fs.writeSync(descriptor, text);
    fs.closeSync(descriptor);
    return this.path(name);
  }

  /** As cron starts it: what is set stands in the environment. */
  f2bWatch(name: string, log: string, flags: readonly string[] = [], binary = compiled()): Program {
    const F2B_ENV_FILE = this.path("empty");
    fs.writeFileSync(F2B_ENV_FILE, "", { mode: 0o600 });
    const env = { ...NOWHERE, F2B_LOG: log, F2B_STATE: this.statePath(name), F2B_ENV_FILE };
    return { name, command: [binary, ...flags], env };
  }

  statePath(name: string): string {
    return this.path(`${name}.state`);
  }

  /** A run with nothing new over a log that is known. */
  idle(name: string, log: string, binary = compiled()): Program {
    timeOf(this.f2bWatch(name, log, ["--from", "end"], binary));
    return this.f2bWatch(name, log, [], binary);
  }

  /** The former program, built as ours is; absent where the history is not there. */
  former(): string | undefined {
    const binary = this.path("former/f2b-watch");
    if (fs.existsSync(binary)) return binary;
    fs.mkdirSync(this.path("former"));
    for (const file of ["f2b-watch.ts", "package.json", "bunfig.toml"]) {
      const words = ["show", `${FORMER}:${file}`];
      const { status, stdout } = spawnSync("git", words, { cwd: repository });
      if (status !== 0) return undefined;
      fs.writeFileSync(this.path(`former/${file}`), stdout);
    }
    fs.symlinkSync(join(repository, "node_modules"), this.path("former/node_modules"));
    const compile = ["run", "compile", "--outfile", binary];
    spawnSync(process.execPath, compile, { cwd: this.path("former") });
    return binary;
  }

  /** A binary that does nothing, built as ours is. */
  emptyBinary(): Program {
    const [source, binary] = [this.path("nothing.ts"), this.path("nothing")];
    fs.writeFileSync(source, "export {};\n");
    const flags = ["--compile", "--minify", "--bytecode", "--format=esm", "--outfile", binary];
    spawnSync(process.execPath, ["build", ...flags, source], { cwd: this.directory });
    return { name: "an empty Bun binary", command: [binary] };
  }
}

function isHere({ name, command: [program = ""] }: Program): boolean {
  if (!Bun.which(program, { PATH })) return false;
  return !name.includes("requests") || spawnSync(program, ["-c", "import requests"]).status === 0;
}

function idleRows(bench: Bench): void {
  const [small, large] = [bench.log("1 MB", MB), bench.log("1 GB", 1_000 * MB)];
  const ours = bench.idle("idle on 1 GB", large);
  const former = bench.former();
  const others: (Program & { most?: number })[] = [
    { ...bench.idle("idle on 1 MB", small), most: 1.05 },
    ...(former ? [{ ...bench.idle("the former program", large, former), most: NOT_WORSE }] : []),
    { name: "curl --version", command: ["curl", "--version"], most: 1.1 },
    { name: "logtail2", command: ["logtail2", "-f", large, "-o", bench.path("logtail.offset")] },
    bench.emptyBinary(),
    { name: "python3, import requests", command: ["/usr/bin/python3", "-c", "import requests"] },
  ];
  const here = others.filter(isHere);
  const [own = [], ...times] = race([ours, ...here], Math.max(ROUNDS, 60));
  row("idle pass on 1 GB", median(own), " ms");
  for (const other of others) {
    const theirs = times[here.indexOf(other)];
    row(`idle pass on 1 GB ÷ ${other.name}`, theirs && ratio(own, theirs), "", other);
  }
  row("writes and sockets of an idle pass", tracedWrites(bench, ours, large), "", { most: 0 });
  row("peak memory, idle on 1 GB", peakMemory(ours), " MB", { most: 40 });
}

function tracedWrites(bench: Bench, ours: Program, log: string): number | undefined {
  if (!Bun.which("strace", { PATH })) return undefined;
  const trace = bench.path("trace");
  const command = ["strace", "-f", "-y", "-s", "16", "-o", trace, ...ours.command];
  timeOf({ ...ours, command });
  const state = bench.statePath(ours.name);
  const { writes, sockets } = judgeTrace(fs.readFileSync(trace, "utf8"), state, log);
  return writes.length + sockets.length;
}

/** How fast a command is, and how much of the former program's time and memory it takes. */
function besideFormer(bench: Bench, what: string, log: string, flags: readonly string[]): void {
  const ours = bench.f2bWatch(what, log, flags);
  const former = bench.former();
  const theirs = former && bench.f2bWatch("former", log, flags, former);
  const programs = theirs ? [ours, theirs] : [ours];
  const [ourMs = [], theirMs] = race(programs, Math.min(ROUNDS, 10));
  row(what, fs.statSync(log).size / MB / (median(ourMs) / 1_000), " MB/s");
  const worse = { most: NOT_WORSE };
  row(`${what}: time ÷ the former program`, theirMs && ratio(ourMs, theirMs), "", worse);
  const [memory = NaN, theirMemory] = programs.map(peakMemory);
  row(`${what}: memory ÷ the former program`, theirMemory && memory / theirMemory, "", worse);
}

function dryRows(bench: Bench): void {
  const dry = ["--dry-run", "--inline", "0"];
  const [clean, dirty] = [bench.log("clean", 300 * MB), bench.log("dirty", 300 * MB, 1_000)];
  besideFormer(bench, "dry run of 300 MB, clean", clean, dry);
  besideFormer(bench, "dry run, a suspicious line in 1,000", dirty, dry);
  const wordCount = { name: "wc -l", command: ["wc", "-l", clean] };
  const [ours = [], wc = []] = race([bench.f2bWatch("dry", clean, dry), wordCount], 10);
  row("dry run of 300 MB ÷ wc -l", ratio(ours, wc));
  const memory = peakMemory(bench.f2bWatch("memory", bench.log("1 GB", 1_000 * MB), dry));
  row("memory, dry run of 1 GB", memory, " MB", { most: 100 });
}

function eventsRows(bench: Bench): void {
  const flags = ["--dry-run", "--format", "events"];
  const program = bench.f2bWatch("events", bench.log("events", 300 * MB), flags);
  const [times = []] = race([program], 3);
  row("events of 300 MB", 300 / (median(times) / 1_000), " MB/s", { least: 100 });
  row("memory, events of 300 MB", peakMemory(program), " MB", { most: 100 });
  besideFormer(bench, "events of 30 MB", bench.log("30 MB", 30 * MB), flags);
}

/** Counts a log by jail and event. */
const AWK = "$6 ~ /^\\[/ { n[$6 $7]++ } END { for (key in n) print key, n[key] }";

function digestRows(bench: Bench): void {
  const flags = ["digest", "--since", "2026-01-01"];
  const log = bench.log("digest", 300 * MB);
  const ours = bench.f2bWatch("digest", log, flags);
  const env = { PATH, ...ours.env };
  const { stdout } = spawnSync(ours.command[0] ?? "", flags, { env, encoding: "utf8" });
  if (!stdout.includes("sshd")) throw new Error("the digest says nothing of sshd");
  const [ourMs = [], awkMs = []] = race([ours, { name: "awk", command: ["awk", AWK, log] }], 10);
  row("digest of 300 MB: speed ÷ awk by jail and event", ratio(awkMs, ourMs), "", { least: 0.6 });
  besideFormer(bench, "digest of 300 MB", log, flags);
}

// ── Messages ────────────────────────────────────────────────────────────────────────────────────

/** The fewest messages that whole lines need: each as full as it goes, with 8 characters of fence. */
function fewest(texts: readonly string[]): number {
  let [messages, room] = [0, -1];
  for (const { length } of texts) {
    if (length + 1 > room) [messages, room] = [messages + 1, 1_999 - 8 + 1];
    room -= length + 1;
  }
  return messages;
}

/** The least time that 5 in 2 s and 29 a minute allow for messages. */
function leastSeconds(messages: number): number {
  const last = messages - 1;
  return Math.floor(last / 29) * 60 + Math.floor((last % 29) / 5) * 2;
}

/** What Discord gets of an attack, and after how long; the clock is the stand-in's, nobody waits. */
async function messageRows(): Promise<void> {
  for (const inline of ["0", "20"]) {
    using scene = new Scene();
    scene.append(...BURST);
    const { code } = await scene.run("--max-time", "86400", "--inline", inline);
    const { messages, violations, count429 } = scene.discord;
    const count = messages.length;
    const seconds = ((messages.at(-1)?.at ?? 0) - (messages[0]?.at ?? 0)) / 1_000;
    row(`7,086 lines with --inline ${inline}: messages`, `${count} in ${seconds.toFixed(0)} s`);
    row("… 429s and other breaches", violations.length + count429 + code, "", { most: 0 });
    if (inline !== "0") continue;
    row("… ÷ the fewest that hold whole lines", count / fewest(BURST), "", { most: 1.02 });
    row("… seconds ÷ what the limits allow", seconds / leastSeconds(count), "", { most: 1.05 });
  }
}

if (import.meta.main) {
  using bench = new Bench();
  const [wanted = ""] = process.argv.slice(2);
  for (const rows of [idleRows, messageRows, dryRows, eventsRows, digestRows])
    if (rows.name.includes(wanted)) await rows(bench);
}
