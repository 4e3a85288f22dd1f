/**
 * A pass that is killed, or refused by the kernel, at one system call after another: the next pass
 * delivers the rest. `CRASHES=all` tries every call, by default it is every kill and some of the errors.
 */
import { beforeAll, describe, expect, setDefaultTimeout } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { parseState, stateFileName } from "../f2b-watch.ts";
import { DONE, compiled, lines, testWith } from "./harness.ts";
import { judgeRepeats, Machine } from "./machine.ts";
import { Slack } from "./slack.ts";

setDefaultTimeout(30 * 60_000);
beforeAll(() => void compiled());

const ALL = process.env["CRASHES"] === "all";
const AT_ONCE = 2;

// ── Before the pass ─────────────────────────────────────────────────────────────────────────────

interface Scenario {
  readonly name: string;
  readonly lineCount: number;
  readonly rotated?: true;
  readonly twoDestinations?: true;
  prepare(machine: Machine): Promise<void>;
}

/** Lines 1 to 20 are known, and where they are. */
async function begin(machine: Machine): Promise<void> {
  machine.append(...lines(1, 20));
  machine.clockMs = machine.now();
  await machine.pass();
}

const backlog = async (machine: Machine) => {
  await begin(machine);
  machine.append(...lines(21, 90));
};

const SCENARIOS: readonly Scenario[] = [
  { name: "a backlog", lineCount: 90, prepare: backlog },
  {
    name: "the middle of a rotation chain",
    rotated: true,
    lineCount: 120,
    async prepare(machine) {
      await begin(machine);
      machine.append(...lines(21, 40));
      machine.rotate();
      machine.append(...lines(41, 80));
      machine.rotate();
      machine.compress(".2");
      machine.append(...lines(81, 120));
    },
  },
  {
    name: "a backlog for two destinations",
    lineCount: 90,
    twoDestinations: true,
    prepare: backlog,
  },
  {
    name: "a first run",
    lineCount: 40,
    prepare: async (machine) => machine.append(...lines(1, 40)),
  },
];

// ── Faults ──────────────────────────────────────────────────────────────────────────────────────

const CHANGES = "openat open mkdir write pwrite64 fsync rename link unlink".split(" ");
const READS = "read pread64 fstat lstat stat statx access getdents64 readlink fcntl".split(" ");
const SOCKETS = "socket connect sendto recvfrom".split(" ");
/** Also what one thread of the program tells another: between an answer and what is made of it. */
const WIRE = [...SOCKETS, "write", "epoll_pwait2"];
const ERRORS = ["ENOSPC", "EIO", "EACCES", "EINTR"];

/** What befalls a pass. */
interface Fault {
  readonly call: string;
  /** Calls on the log and the state; else all, which are the network's where there is no file. */
  readonly onFiles: boolean;
  /** As strace has it. */
  readonly does: string;
  /** Not at one call only, but at each one behind it, too. */
  readonly lasts: boolean;
}

const KILLS: readonly Fault[] = [
  ...CHANGES.map((call) => ({ call, onFiles: true, does: "signal=SIGKILL", lasts: false })),
  ...WIRE.map((call) => ({ call, onFiles: false, does: "signal=SIGKILL", lasts: false })),
];

const REFUSALS: readonly Fault[] = ERRORS.flatMap((error) => {
  const does = `error=${error}`;
  const calls = ALL ? [...CHANGES, ...READS] : CHANGES;
  const once = calls.map((call) => ({ call, onFiles: true, does, lasts: false }));
  const sockets = SOCKETS.map((call) => ({ call, onFiles: false, does, lasts: false }));
  // What was interrupted is tried again: for ever, if it always is.
  const always = error === "EINTR" ? [] : once.map((fault) => ({ ...fault, lasts: true }));
  return [...once, ...always, ...sockets];
});

/** Everything that the program has to do with, so that strace looks at nothing else. */
function pathsOf({ log, state }: Machine): string[] {
  const file = join(state, stateFileName(log));
  const beside = ["", ".bak", ".tmp", ".lock", ".mark", ".unpacked"].map((end) => file + end);
  const logs = ["", ".1", ".2", ".2.gz"].map((suffix) => log + suffix);
  return [state, ...beside, ...logs];
}

/** Runs a pass whose Nth call fails; tells its exit status, and whether it came to that call at all. */
async function passWithFault(machine: Machine, fault: Fault, nth: number) {
  const { call, onFiles, does, lasts } = fault;
  const trace = join(machine.directory, "trace");
  const inject = `inject=${call}:${does}:when=${nth}${lasts ? "+" : ""}`;
  const paths = onFiles ? pathsOf(machine).flatMap((path) => ["-P", path]) : [];
  // Stops at no other call, which is faster; but then it cannot kill.
  const quick = does.startsWith("error") ? ["--seccomp-bpf"] : [];
  const what = ["-e", `trace=${call}`, "-e", inject];
  const before = ["strace", "-f", ...quick, "-o", trace, ...paths, ...what];
  const { code, err } = await machine.go("binary", { before });
  const happened = code === 137 || fs.readFileSync(trace, "utf8").includes("(INJECTED)");
  return { code, err, happened };
}

/** Everything that is wrong after one fault and the passes that follow it; absent: it never happened. */
async function judge(scenario: Scenario, fault: Fault, nth: number): Promise<string[] | undefined> {
  using machine = new Machine({ rateLimits: false });
  const slack = new Slack({ now: machine.now, rateLimits: false });
  const served = slack.serve();
  if (scenario.twoDestinations) {
    machine.env["SLACK_WEBHOOK"] = slack.webhook;
    machine.overrides.fetch = (url, init) =>
      (url === slack.webhook ? slack : machine.discord).fetch(url, init);
  }
  try {
    await scenario.prepare(machine);
    const known = machine.discord.messages.length;
    const { code, err, happened } = await passWithFault(machine, fault, nth);
    if (!happened) return undefined;
    const wrong = ENDS.includes(code) ? [] : [`it ended with ${code}: ${err}`];
    const sent = machine.discord.messages.length - known;
    if (code === 73 && nth === 1 && fault.lasts && sent > 0)
      wrong.push("it sent what it could not remember");
    wrong.push(...damagedCopies(machine));
    const last = await passUntilDone(machine);
    if (last.code !== 0) wrong.push(`the next pass ended with ${last.code}: ${last.err}`);
    const mayTell = scenario.rotated === true && fault.does.startsWith("error");
    const channels = scenario.twoDestinations ? [machine.discord, slack] : [machine.discord];
    for (const channel of channels) wrong.push(...wrongIn(channel, scenario.lineCount, mayTell));
    return wrong;
  } finally {
    served.stop();
  }
}

const ENDS = [0, 66, 73, 75, 137];

/** Copies of the state that are there, and are none. */
function damagedCopies({ log, state }: Machine): string[] {
  const path = join(state, stateFileName(log));
  return [path, `${path}.bak`]
    .filter((copy) => fs.existsSync(copy) && !parseState(fs.readFileSync(copy, "utf8")))
    .map((copy) => `${copy} is damaged`);
}

/** The passes that cron would start; after an unclear answer the first of them may have to wait. */
async function passUntilDone(machine: Machine) {
  let last = await machine.go();
  for (let tries = 0; last.code === 75 && tries < 3; tries++) {
    await Bun.sleep(100);
    last = await machine.go();
  }
  return last;
}

/** A rotated file that cannot be opened is left out, and that is told. */
function wrongIn(channel: Machine["discord"] | Slack, lineCount: number, mayTell: boolean) {
  const { faults, repeats, told, missing } = judgeRepeats(channel, lines(1, lineCount));
  if (missing > 0) faults.push(`${missing} lines are missing`);
  if (repeats > 1) faults.push(`${repeats} messages came again`);
  if (told > (mayTell ? repeats + 1 : 0)) faults.push(`${told} notices`);
  return [...faults, ...channel.violations];
}

// ── At each call in turn ────────────────────────────────────────────────────────────────────────

/** All faults at the 1st, 2nd, 3rd … call, until the pass gets through; some at once. */
async function tryAll(scenario: Scenario, faults: readonly Fault[], step: number) {
  const used = await callsIn(scenario);
  const rest = faults.filter(({ call }) => used.has(call));
  const tried = { count: 0, wrong: [] as string[] };
  const work = async () => {
    for (let fault = rest.shift(); fault; fault = rest.shift())
      for (let nth = 1; ; nth += step) {
        const wrong = await judge(scenario, fault, nth);
        if (!wrong) break;
        tried.count++;
        const what = `${scenario.name}, ${fault.call} ${nth}${fault.lasts ? "+" : ""}, ${fault.does}`;
        tried.wrong.push(...wrong.map((text) => `${what}: ${text}`));
      }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return tried;
}

/** What the pass calls at all. */
async function callsIn(scenario: Scenario): Promise<Set<string>> {
  using machine = new Machine({ rateLimits: false });
  await scenario.prepare(machine);
  const trace = join(machine.directory, "trace");
  expect(await machine.go("binary", { before: ["strace", "-f", "-o", trace] })).toEqual(DONE);
  const calls = fs.readFileSync(trace, "utf8").matchAll(/^\d+ +(\w+)\(/gm);
  return new Set(Array.from(calls, ([, name = ""]) => name));
}

describe.each(ALL ? SCENARIOS : SCENARIOS.slice(0, 3))("$name", (scenario) => {
  testWith("strace")("killed at each call: the next pass delivers the rest", async () => {
    const { count, wrong } = await tryAll(scenario, KILLS, 1);
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(50);
  });

  testWith("strace")("refused by the kernel: nothing is lost or forgotten", async () => {
    const { count, wrong } = await tryAll(scenario, REFUSALS, ALL ? 1 : 8);
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(50);
  });
});
