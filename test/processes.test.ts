/** The program as real processes, under Bun, under Deno and compiled: signals, crowds, bad pipes. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fencedLines } from "./discord.ts";
import { DONE, compiled, line, lines, testWith, until } from "./harness.ts";
import { judgeRepeats, judgeTrace, Machine, peakMemory, STARTERS, testOn } from "./machine.ts";
import type { Starter } from "./machine.ts";

setDefaultTimeout(180_000);
beforeAll(() => void compiled());

/** One more pass sends nothing and leaves the state as it is. */
async function expectIdle(machine: Machine): Promise<void> {
  const before = machine.discord.requests.length;
  const state = fs.readFileSync(machine.stateFile());
  expect(await machine.go()).toEqual(DONE);
  expect(machine.discord.requests.length).toBe(before);
  expect(fs.readFileSync(machine.stateFile())).toEqual(state);
}

// ── Signals ─────────────────────────────────────────────────────────────────────────────────────

describe("SIGTERM and SIGINT", () => {
  for (const [how, signal] of [
    ["bun", "SIGTERM"],
    ["bun", "SIGINT"],
    ["deno", "SIGTERM"],
    ["binary", "SIGTERM"],
  ] as const) {
    testOn(how)(`${how}, ${signal}: what is in flight is saved`, async () => {
      using machine = new Machine();
      machine.append(...lines(1, 60));
      machine.discord.fail({ kind: "slow", ms: 60 });
      const { child, ended } = machine.start(how);
      await machine.requests(1);
      child.kill(signal);
      expect(await ended).toMatchObject({ code: 75, out: "" });
      expect(machine.discord.messages.length).toBe(1);
      expect((await machine.go(how)).code).toBe(0);
      machine.expectPosted(...lines(1, 60));
      expect(machine.notices()).toEqual([]);
      await expectIdle(machine);
    });
  }

  test("a run that waits for its turn, or as long as Discord said, leaves at once", async () => {
    using machine = new Machine({ fast: false });
    machine.append(...lines(1, 200));
    const paced = machine.start();
    await machine.requests(5);
    paced.child.kill("SIGTERM");
    expect((await paced.ended).code).toBe(75);
    expect(machine.discord.messages.length).toBe(5);
    machine.discord.fail({ kind: "rate-limit", retryAfterS: 3_600 });
    const limited = machine.start();
    await machine.requests(6);
    limited.child.kill("SIGTERM");
    expect((await limited.ended).code).toBe(75);
    expect(machine.discord.requests.length).toBe(6);
  });
});

// ── Several runs at once ────────────────────────────────────────────────────────────────────────

describe("several runs at once", () => {
  const pairs = STARTERS.flatMap((a) => STARTERS.map((b) => [a, b] as const));
  for (const [holder, other] of pairs.filter(([a, b]) => a !== b)) {
    testOn(holder, other)(`${holder} is stopped: ${other} leaves; killed: it goes on`, async () => {
      using machine = new Machine();
      machine.append(line(1));
      machine.discord.fail({ kind: "hang", save: true });
      const { child, ended } = machine.start(holder);
      await machine.requests(1);
      child.kill("SIGSTOP");
      machine.append(line(2));
      expect(await machine.go(other)).toEqual(DONE);
      expect(machine.discord.requests.length).toBe(1);
      child.kill("SIGKILL");
      expect((await ended).code).toBe(137);
      expect(await machine.go(other)).toEqual(DONE);
      const { faults, repeats, missing } = judgeRepeats(machine.discord, lines(1, 2));
      expect({ faults, repeats, missing }).toEqual({ faults: [], repeats: 1, missing: 0 });
      expect(machine.discord.violations).toEqual([]);
    });
  }

  test("a holder that was stopped goes on where it was, and sends what came meanwhile", async () => {
    using machine = new Machine();
    machine.append(...lines(1, 30));
    machine.discord.fail({ kind: "slow", ms: 50 });
    const holder = machine.start();
    await machine.requests(1);
    holder.child.kill("SIGSTOP");
    machine.append(...lines(31, 40));
    expect(await Promise.all([machine.go(), machine.go("bun")])).toEqual([DONE, DONE]);
    expect(machine.discord.requests.length).toBe(1);
    holder.child.kill("SIGCONT");
    expect(await holder.ended).toEqual(DONE);
    machine.expectPosted(...lines(1, 40));
  });

  testOn(...STARTERS)("each goes on where another stopped, across rotations", async () => {
    using machine = new Machine();
    machine.append(line(1));
    expect(await machine.go("bun")).toEqual(DONE);
    machine.expectPosted(line(1));
    let count = 1;
    for (const how of ["bun", "deno", "binary", "deno", "bun", "binary"] as const) {
      machine.append(...lines(count + 1, count + 10));
      machine.rotate();
      machine.compress(".1");
      machine.append(...lines(count + 11, count + 30));
      expect(await machine.go(how)).toEqual(DONE);
      machine.expectPosted(...lines(count + 1, count + 30));
      await expectIdle(machine);
      count += 30;
    }
    expect(machine.notices()).toEqual([]);
  });
});

// ── Standard output ─────────────────────────────────────────────────────────────────────────────

describe("stdout", () => {
  /** Both ends of a pipe that never blocks. */
  function openPipe(machine: Machine): { reader: number; writer: number } {
    const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
    const path = join(machine.directory, "pipe");
    spawnSync("mkfifo", [path]);
    const reader = fs.openSync(path, O_RDONLY | O_NONBLOCK);
    return { reader, writer: fs.openSync(path, O_WRONLY | O_NONBLOCK) };
  }

  /** Reads, slowly, until nobody writes any more. */
  async function readPipe(reader: number): Promise<string> {
    const chunk = Buffer.alloc(20_000);
    let out = "";
    for (let open = true; open; await Bun.sleep(1)) {
      try {
        const size = fs.readSync(reader, chunk);
        out += chunk.toString("latin1", 0, size);
        open = size > 0;
      } catch (error) {
        expect(String(error)).toContain("EAGAIN");
      }
    }
    fs.closeSync(reader);
    return out;
  }

  function brokenPipe(machine: Machine): number {
    const { reader, writer } = openPipe(machine);
    fs.closeSync(reader);
    return writer;
  }

  const sinks = {
    "/dev/full": () => fs.openSync("/dev/full", "w"),
    "a pipe that nobody reads": brokenPipe,
  };
  for (const how of STARTERS) {
    for (const [name, open] of Object.entries(sinks)) {
      testOn(how)(`${how}: what ${name} did not take is printed by the next run`, async () => {
        using machine = new Machine();
        machine.env = {};
        machine.append(...lines(1, 60));
        const stdout = open(machine);
        const failed = await machine.go(how, { stdout });
        fs.closeSync(stdout);
        expect(failed.code).toBe(75);
        const { code, out } = await machine.go(how);
        expect({ code, lines: fencedLines([out]) }).toEqual({ code: 0, lines: lines(1, 60) });
        expect(await machine.go(how)).toEqual(DONE);
      });
    }

    const it = testWith("perl", ...(how === "deno" ? ["deno"] : []));
    it(`${how}: a slow reader of a pipe that never blocks gets all of it`, async () => {
      using machine = new Machine();
      machine.env = {};
      machine.append(...lines(1, 1_000));
      const { reader, writer } = openPipe(machine);
      fs.writeSync(writer, Buffer.alloc(1_000_000, "-"));
      const script = "fcntl(STDOUT, F_SETFL, O_NONBLOCK); exec @ARGV";
      const before = ["perl", "-MFcntl", "-e", script, "--"];
      const { ended } = machine.start(how, { stdout: writer, before });
      fs.closeSync(writer);
      await until(() => fs.existsSync(machine.state) && fs.existsSync(machine.stateFile()));
      await Bun.sleep(10);
      const out = await readPipe(reader);
      expect(await ended).toMatchObject({ code: 0 });
      expect(fencedLines([out])).toEqual(lines(1, 1_000));
    });
  }
});

// ── A big log ───────────────────────────────────────────────────────────────────────────────────

describe("a log of 300 MB", () => {
  const directory = fs.mkdtempSync(join(tmpdir(), "f2b-watch-big-"));
  const log = join(directory, "fail2ban.log");
  const BYTES = 300_000_000;

  beforeAll(() => {
    const block = Buffer.from(`${lines(1, 10_000).join("\n")}\n`);
    const descriptor = fs.openSync(log, "w");
    for (let size = 0; size < BYTES;) size += fs.writeSync(descriptor, block);
    fs.closeSync(descriptor);
  });
  afterAll(() => fs.rmSync(directory, { recursive: true }));

  /** What strace saw in one pass that went well and printed nothing. */
  async function traced(machine: Machine, how: Starter, ...flags: string[]) {
    const trace = join(machine.directory, "trace");
    const before = ["strace", "-f", "-y", "-s", "16", "-o", trace];
    expect(await machine.go(how, { before, flags })).toEqual(DONE);
    return judgeTrace(fs.readFileSync(trace, "utf8"), machine.state, machine.log);
  }

  function expectIdleTrace(seen: Awaited<ReturnType<typeof traced>>): void {
    expect(seen).toMatchObject({ writes: [], sockets: [] });
    expect(seen.stateBytes).toBeGreaterThan(0);
    expect(seen.logBytes).toBeLessThan(16 * 1024);
  }

  for (const how of ["binary", "bun"] as const) {
    testWith("strace")(`${how}: an idle run is quiet, also behind a rotation`, async () => {
      using machine = new Machine();
      fs.linkSync(log, machine.log);
      const first = await traced(machine, how, "--from", "end");
      expect(first.writes).not.toEqual([]);
      expect(first.logBytes).toBeGreaterThan(BYTES);
      const idle = await traced(machine, how);
      expectIdleTrace(idle);
      expect(idle.logBytes).toBeGreaterThan(0);
      machine.rotate();
      await traced(machine, how);
      expectIdleTrace(await traced(machine, how));
    });
  }

  test("a dry run of all of it stays under 150 MB", async () => {
    using machine = new Machine();
    machine.env = {};
    fs.linkSync(log, machine.log);
    const stdout = fs.openSync("/dev/null", "w");
    const { child, ended } = machine.start("binary", { stdout, flags: ["--dry-run"] });
    expect(await peakMemory(child)).toBeWithin(1, 150_000_000);
    fs.closeSync(stdout);
    expect((await ended).code).toBe(0);
  });

  test("a dry run of all of it leaves when it is told to", async () => {
    using machine = new Machine({ fast: false });
    fs.linkSync(log, machine.log);
    const path = join(machine.directory, "out");
    const stdout = fs.openSync(path, "w");
    const { child, ended } = machine.start("binary", { stdout, flags: ["--dry-run"] });
    fs.closeSync(stdout);
    await until(() => fs.statSync(path).size > 0);
    child.kill("SIGTERM");
    expect((await ended).code).toBe(75);
    expect(fs.statSync(path).size).toBeLessThan(BYTES / 2);
  });
});
