/** A server's log, its rotation, a clock and a channel, with verbs that make each test a story. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { main, type parseState, realWorld, type World } from "../f2b-watch.ts";
import { Discord } from "./discord.ts";
import type { Slack } from "./slack.ts";

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** What another program said. */
export type Ran = Awaited<ReturnType<World["runProgram"]>>;
/** That of one that ended. */
export const said = (out: string, code = 0, err = ""): Ran => ({ kind: "ended", code, out, err });
/** What is saved for a log. */
export type State = NonNullable<ReturnType<typeof parseState>>;
/** A row of `check --json`. */
export interface Row {
  name: string;
  state: "ok" | "failed" | "unknown";
  text: string;
  hint: string;
  exitCode: number;
}

/** Where the script lies, wherever the tests are started. */
export const repository = resolve(import.meta.dirname, "..");

let known: World | undefined;
/** The machine as f2b-watch knows it, made when it is first needed. */
export const machine = () => (known ??= realWorld());

/** The compiled program, built anew where it is older than the script. */
export function compiled(): string {
  const binary = join(repository, "dist/f2b-watch");
  const changedMs = (path: string) => fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (changedMs(binary) < changedMs(join(repository, "f2b-watch.ts"))) {
    const build = spawnSync(process.execPath, ["run", "build"], { cwd: repository });
    if (build.status !== 0) throw new Error(`the build failed: ${build.stderr}`);
  }
  return binary;
}

/** `test` where these programs are installed, and always in CI; else one that is skipped and says why. */
export function testWith(...programs: string[]) {
  const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;
  const missing = programs.filter((program) => !Bun.which(program, { PATH }));
  if (missing.length === 0 || process.env["CI"]) return test;
  return (name: string, body: () => Promise<void>) =>
    test.skipIf(true)(`${name} (needs ${missing.join(", ")})`, body);
}

/** The real disk, without the waits for it. */
export const QUICK_FS: typeof fs = { ...fs, fsyncSync: () => undefined };

/** A call into the file system. */
export type FsCall = Extract<keyof typeof fs, `${string}Sync`>;

/** An error as the system throws it: `EIO: i/o error`. */
export function systemError(message: string): Error {
  return Object.assign(new Error(`${message}, open '/x'`), { code: message.split(":")[0] });
}

/** Waits until it holds. */
export async function until(holds: () => boolean | Promise<boolean>, seconds = 90): Promise<void> {
  const givenUpAt = Date.now() + seconds * 1_000;
  while (!(await holds())) {
    if (Date.now() > givenUpAt) throw new Error(`waited for ${seconds} s in vain`);
    await Bun.sleep(1);
  }
}

/** What one run left behind. */
export interface RunResult {
  code: number;
  out: string;
  err: string;
}

/** What a run leaves behind that did all it should. */
export const DONE: RunResult = { code: 0, out: "", err: "" };

/** A line as fail2ban writes it, different for each number. */
export function line(
  number: number,
  text = `[sshd] Found 203.0.113.${number % 250} - ${number}`,
): string {
  const at = new Date(Date.UTC(2026, 10, 22, 8) + number * 1_007).toISOString();
  const stamp = `${at.slice(0, 10)} ${at.slice(11, 19)},${at.slice(20, 23)}`;
  return `${stamp} fail2ban.filter         [18191]: INFO    ${text}`;
}

/** Lines `from` to `to`, both included. */
export function lines(from: number, to: number): string[] {
  return Array.from({ length: to - from + 1 }, (_, index) => line(from + index));
}

/** A folder with a log and a state directory, run in process against a strict Discord on one clock. */
export class Scene {
  readonly directory = fs.mkdtempSync(join(tmpdir(), "f2b-watch-"));
  readonly log = join(this.directory, "fail2ban.log");
  readonly state = join(this.directory, "state");
  clockMs = Date.UTC(2026, 10, 22, 12);
  readonly discord = new Discord({
    now: () => this.clockMs,
    sleep: async (ms) => void (this.clockMs += ms),
  });
  /** Environment of the next runs; what takes many messages is sent as such unless a test says otherwise. */
  env: Record<string, string> = { DISCORD_WEBHOOK: this.discord.webhook };
  /** Replaces parts of the world, for faults and for races. */
  readonly overrides: { -readonly [Name in keyof World]?: World[Name] } = {};
  readonly stop = new AbortController();
  #seen = 0;

  constructor(...texts: string[]) {
    if (texts.length > 0) this.append(...texts);
  }

  /** A scene whose log has the lines `from` to `to`, all of them posted. */
  static async after(from: number, to: number): Promise<Scene> {
    const scene = new Scene(...lines(from, to));
    await scene.passPosts(...lines(from, to));
    return scene;
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** The service that questions are about. */
  get channel(): Discord | Slack {
    return this.discord;
  }

  path(suffix: string): string {
    return `${this.log}${suffix}`;
  }

  append(...texts: string[]): void {
    this.write(texts.map((text) => `${text}\n`).join(""));
  }

  /** Appends bytes as they are: part of a line, or what is not text. */
  write(bytes: string | Uint8Array, suffix = ""): void {
    fs.appendFileSync(this.path(suffix), bytes, { mode: 0o640 });
  }

  /** Renames the log to `.1`, older ones upwards; the new log is there and empty. */
  rotate({ create = true, keep = 9 } = {}): void {
    this.shiftNumbers(keep);
    fs.renameSync(this.log, this.path(".1"));
    if (create) fs.writeFileSync(this.log, "", { mode: 0o640 });
  }

  /** Moves `.1` to `.2`, `.2.gz` to `.3.gz` and so on, and drops what is older than `keep`. */
  shiftNumbers(keep = 9): void {
    for (let number = keep; number >= 1; number--) {
      for (const ending of ["", ".gz", ".zst"]) {
        const from = this.path(`.${number}${ending}`);
        if (!fs.existsSync(from)) continue;
        if (number === keep) fs.rmSync(from);
        else fs.renameSync(from, this.path(`.${number + 1}${ending}`));
      }
    }
  }

  copytruncate(): void {
    this.shiftNumbers();
    fs.copyFileSync(this.log, this.path(".1"));
    fs.truncateSync(this.log, 0);
  }

  compress(suffix: string, kind: "gz" | "zst" = "gz"): void {
    const bytes = fs.readFileSync(this.path(suffix));
    const packed = kind === "gz" ? gzipSync(bytes) : zstdCompressSync(bytes);
    fs.writeFileSync(this.path(`${suffix}.${kind}`), packed);
    fs.rmSync(this.path(suffix));
  }

  remove(suffix = ""): void {
    fs.rmSync(this.path(suffix));
  }

  read(suffix = ""): string {
    return fs.readFileSync(this.path(suffix), "utf8");
  }

  /** Path of the state file, once there is one. */
  stateFile(): string {
    const name = fs.readdirSync(this.state).find((entry) => entry.endsWith(".json"));
    return resolve(this.state, name ?? "no state file");
  }

  wait(ms: number): void {
    this.clockMs += ms;
  }

  world(overrides: Partial<World> = {}): World & { result: RunResult } {
    const result: RunResult = { code: -1, out: "", err: "" };
    return {
      result,
      env: { F2B_INLINE: "0", ...this.env },
      fs: QUICK_FS,
      stateHome: this.state,
      terminal: false,
      heard: true,
      stopping: this.stop.signal,
      now: () => this.clockMs,
      random: () => 0.5,
      uid: () => process.getuid?.() ?? 0,
      gid: () => process.getgid?.() ?? 0,
      timeout: () => AbortSignal.timeout(200),
      fetch: (url, init) => this.discord.fetch(url, init),
      hostName: () => "web-1",
      runProgram: async () => ({ kind: "missing" }),
      streamProgram: (...call) => machine().streamProgram(...call),
      writeOut: async (text) => void (result.out += Buffer.from(text).toString()),
      writeError: (text) => void (result.err += text),
      sleep: async (ms) => void (this.clockMs += ms),
      ...this.overrides,
      ...overrides,
    };
  }

  /** One pass; flags are added to `--log`. */
  run(...flags: string[]): Promise<RunResult> {
    return this.f2bWatch("--log", this.log, ...flags);
  }

  /** The program with exactly these arguments. */
  async f2bWatch(...argv: string[]): Promise<RunResult> {
    const world = this.world();
    const code = await main(argv, world);
    return { ...world.result, code };
  }

  /** A pass that must succeed, quietly. */
  async pass(...flags: string[]): Promise<void> {
    expect(await this.run(...flags)).toEqual({ code: 0, out: "", err: "" });
  }

  /** The lines posted since the last question, in order. */
  newlyPosted(): string[] {
    const all = this.channel.lines();
    const fresh = all.slice(this.#seen);
    this.#seen = all.length;
    return fresh;
  }

  /** Exactly these lines were posted since the last question, and nothing about it was wrong. */
  expectPosted(...expected: string[]): void {
    expect(this.newlyPosted()).toEqual(expected);
    expect(this.channel.violations).toEqual([]);
    expect(this.channel.count429).toBe(0);
  }

  /** The same, in a story without any notice or mark; a further pass finds nothing. */
  async expectOnlyPosted(...expected: string[]): Promise<void> {
    this.expectPosted(...expected);
    expect(this.notices()).toEqual([]);
    await this.expectQuiet();
  }

  /** Text outside of the fences, but for the host that Slack is told: notices, marks. */
  notices(): string[] {
    const texts = this.channel.messages.map(({ content }) =>
      content.replace(/```\n[^]*\n```/, "").replace(/^\*web-1\*\n/, ""),
    );
    return texts.filter((text) => text !== "").map((text) => text.trim());
  }

  /** One pass posts exactly these lines and no other word; the pass after it nothing. */
  async passPosts(...expected: string[]): Promise<void> {
    const before = this.notices().length;
    await this.pass();
    this.expectPosted(...expected);
    expect(this.notices().slice(before)).toEqual([]);
    await this.expectQuiet();
  }

  /** From now on the file system is the real one, save for what `changes` replaces. */
  withFs(changes: Partial<typeof fs>): void {
    this.overrides.fs = { ...fs, ...changes };
  }

  /** From now on `event` comes before these calls into the file system; what it throws fails them. */
  beforeCalls(names: FsCall | FsCall[], event: (...args: any[]) => unknown, real = fs): void {
    const told = [names].flat().map((name) => {
      const act = real[name] as (...args: unknown[]) => unknown;
      return [name, (...args: unknown[]) => (event(...args), act(...args))];
    });
    this.overrides.fs = { ...real, ...Object.fromEntries(told) };
  }

  /** A further pass finds nothing, says nothing and writes nothing. */
  async expectQuiet(): Promise<void> {
    const before = this.channel.requests.length;
    const written = () =>
      fs.readdirSync(this.state).map((name) => fs.statSync(join(this.state, name)).mtimeMs + name);
    const files = written();
    await this.pass();
    expect(this.channel.requests.length).toBe(before);
    expect(written()).toEqual(files);
  }
}

// Loads zod, for tests of what validates without a run before it.
{
  using scene = new Scene();
  await scene.f2bWatch("version");
}
