/** Machines with real processes: the program under Bun, under Deno and compiled, and what a channel may show after kills. */
import * as fs from "node:fs";
import { join } from "node:path";
import { Discord } from "./discord.ts";
import { compiled, repository, type RunResult, Scene, testWith, until } from "./harness.ts";

export type Starter = "bun" | "deno" | "binary";
export const STARTERS: readonly Starter[] = ["bun", "deno", "binary"];

/** `test` for these starters: Deno may be missing. */
export function testOn(...starters: readonly Starter[]) {
  return testWith(...starters.filter((how) => how === "deno"));
}

const CLOCK_SPEED = 1_000;

/** A clock that runs a thousand times as fast from `zero` on, for the programs: a minute in 60 ms. */
const clockModule = (zero: number) => `
  const now = Date.now, sleep = setTimeout;
  Date.now = () => ${zero} + (now() - ${zero}) * ${CLOCK_SPEED};
  globalThis.setTimeout = (wake, ms, ...rest) => sleep(wake, ms / ${CLOCK_SPEED}, ...rest);
`;

export interface Started {
  readonly child: Bun.Subprocess;
  readonly ended: Promise<RunResult>;
}

export interface StartOptions {
  readonly before?: readonly string[];
  readonly flags?: readonly string[];
  readonly stdout?: number;
}

/** A folder with a log and a state directory, and a stand-in that is served on a loopback socket. */
export class Machine extends Scene {
  override readonly discord: Discord;
  readonly #served: { stop: () => void };
  readonly #started: Bun.Subprocess[] = [];
  readonly #clock = join(this.directory, "clock.mjs");

  // Its own beginning: files have real times, which a clock that runs for long leaves days behind.
  readonly #zero = Date.now();
  readonly now = () => this.#zero + (Date.now() - this.#zero) * CLOCK_SPEED;

  /** `fast`: the clock of programs and stand-in runs a thousand times as fast. */
  constructor({ fast = true, rateLimits = true } = {}) {
    super();
    this.discord = new Discord(fast ? { now: this.now, rateLimits } : { rateLimits });
    this.#served = this.discord.serve();
    fs.writeFileSync(this.#clock, fast ? clockModule(this.#zero) : "");
    fs.writeFileSync(join(this.directory, "env"), "", { mode: 0o600 });
    this.env = { DISCORD_WEBHOOK: this.discord.webhook };
  }

  override [Symbol.dispose](): void {
    for (const child of this.#started) if (child.exitCode === null) child.kill("SIGKILL");
    this.#served.stop();
    super[Symbol.dispose]();
  }

  command(how: Starter): string[] {
    const script = join(repository, "f2b-watch.ts");
    if (how === "binary") return [compiled()];
    if (how === "bun") return [process.execPath, "--preload", this.#clock, script];
    return ["deno", "run", "--no-lock", "--no-prompt", "-A", "--preload", this.#clock, script];
  }

  /** Starts one pass; `before` is a program that runs it, `stdout` a descriptor in place of a pipe. */
  start(how: Starter = "binary", options: StartOptions = {}): Started {
    const { before = [], flags = [], stdout = "pipe" } = options;
    const places = ["--log", this.log, "--state", this.state, "--host", "web-1"];
    const command = [...before, ...this.command(how), ...places, ...flags];
    const env = {
      PATH: process.env["PATH"],
      HOME: process.env["HOME"],
      BUN_OPTIONS: how === "binary" ? `--preload ${this.#clock}` : undefined,
      DENO_NO_UPDATE_CHECK: "1",
      F2B_ENV_FILE: join(this.directory, "env"),
      F2B_INLINE: "0",
      F2B_MAX_TIME: "86400",
      ...this.env,
    };
    const { directory: cwd } = this;
    const child = Bun.spawn(command, { cwd, env, stdin: "ignore", stdout, stderr: "pipe" });
    this.#started.push(child);
    const text = (stream: unknown) =>
      stream instanceof ReadableStream ? new Response(stream).text() : "";
    const all = Promise.all([child.exited, text(child.stdout), text(child.stderr)]);
    return { child, ended: all.then(([code, out, err]) => ({ code, out, err })) };
  }

  /** One pass to its end. */
  go(how: Starter = "binary", options: StartOptions = {}): Promise<RunResult> {
    return this.start(how, options).ended;
  }

  /** Waits until Discord has seen so many requests. */
  async requests(count: number): Promise<void> {
    await until(() => this.discord.requests.length >= count);
  }
}

/** Waits for a program's end; the most bytes that it had at once, as `maxRSS` may be its parent's. */
export async function peakMemory(child: Bun.Subprocess): Promise<number> {
  let peak = 0;
  for (; child.exitCode === null; await Bun.sleep(2)) {
    const status = fs.readFileSync(`/proc/${child.pid}/status`, "utf8");
    peak = Math.max(peak, Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024);
  }
  return peak;
}

/** A message of the log's lines: Slack has the host in front of them, and a notice may stand there. */
const MESSAGE =
  /^(?:\*web-1\*\n)?(⚠️ [^\n]* may be missing[^\n]*\n)?(\(resent\)\n)?```\n([^]*)\n```$/;

/**
 * What a channel may look like after kills: every line in order; where a message goes back, it goes
 * back to where the one before it began, no more often than there were kills; repeats are marked, and
 * a gap is told.
 */
export function judgeRepeats(
  { messages }: { messages: readonly { content: string }[] },
  expected: readonly string[],
) {
  const faults: string[] = [];
  const places = new Map(expected.map((text, index) => [text, index]));
  const arrived = new Set<string>();
  let [repeats, told, from, to, seen] = [0, 0, 0, 0, 0];
  for (const { content } of messages) {
    const [, notice, mark, body = ""] = MESSAGE.exec(content) ?? [];
    const shown = body.split("\n");
    const first = places.get(shown[0] ?? "") ?? -1;
    if (notice) told++;
    if (first < to) repeats++;
    if (first !== from && (first < to || (first > to && !notice)))
      faults.push(`line ${first} follows line ${to}`);
    if (first < seen && !mark) faults.push(`line ${first} comes again without a mark`);
    if (shown.some((text, index) => text !== expected[first + index])) faults.push(content);
    for (const text of shown) arrived.add(text);
    [from, to] = [first, first + shown.length];
    seen = Math.max(seen, to);
  }
  return { faults, repeats, told, missing: expected.filter((text) => !arrived.has(text)).length };
}

/** The calls of a trace that went well; one that another thread interrupted is put together again. */
function callsOf(trace: string): string[] {
  const begun = new Map<string, string>();
  const calls: string[] = [];
  for (const entry of trace.split("\n")) {
    const [, thread = "", call = ""] = /^(\d+) +(.*)$/.exec(entry) ?? [];
    if (call.endsWith("<unfinished ...>")) begun.set(thread, call.replace("<unfinished ...>", ""));
    else calls.push(call.replace(/^<\.\.\. \w+ resumed>/, () => begun.get(thread) ?? ""));
  }
  return calls.filter((call) => !/\) += -1 /.test(call));
}

/** What a traced program did to the state, to the log, and to the network. */
export function judgeTrace(trace: string, state: string, log: string) {
  const calls = callsOf(trace);
  const writing =
    /O_WRONLY|O_RDWR|O_CREAT|^(p?write|rename|unlink|mkdir|link|symlink|f?chmod|utime|f?truncate|f(data)?sync)/;
  const bytesOf = (path: string) => {
    const reads = calls.filter((call) => /^p?read/.test(call) && call.includes(`<${path}`));
    return reads.reduce((sum, call) => sum + Number(/ = (\d+)$/.exec(call)?.[1] ?? 0), 0);
  };
  return {
    writes: calls.filter((call) => call.includes(state) && writing.test(call)),
    sockets: calls.filter((call) => /^(socket|connect)\(/.test(call)),
    stateBytes: bytesOf(state),
    logBytes: bytesOf(log),
  };
}
