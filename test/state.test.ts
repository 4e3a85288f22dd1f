/** What is remembered: two copies, damage, full and unfit disks, links, modes, several destinations. */
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { parseState, sealState, stateFileName } from "../f2b-watch.ts";
import {
  DONE,
  type FsCall,
  line,
  lines,
  repository,
  Scene,
  type State,
  systemError,
} from "./harness.ts";

const MINUTE = 60_000;

/** A scene where lines 1 to 5 were posted, and where lines 6 to 8 are new. */
async function goingScene(): Promise<Scene> {
  const scene = await Scene.after(1, 5);
  scene.wait(5 * MINUTE);
  scene.append(...lines(6, 8));
  return scene;
}

/** Names in the state directory without what they have in common. */
function stateNames(scene: Scene): string[] {
  const base = stateFileName(scene.log);
  return fs
    .readdirSync(scene.state)
    .map((name) => name.replace(base, "state"))
    .toSorted();
}

function modeOf(path: string): number {
  return fs.lstatSync(path).mode & 0o777;
}

/** A run that fails so, in one line and a hint, and posts nothing. */
async function expectFault(scene: Scene, code: number, names: RegExp, ...flags: string[]) {
  const result = await scene.run(...flags);
  expect(result.err).toMatch(/^f2b-watch: [^\n]+\n(hint: [^\n]+\n)?$/);
  expect(result.err).toMatch(names);
  expect(result).toMatchObject({ code, out: "" });
}

/** Nothing of `scene` was posted since line 5, and everything is as soon as all is well. */
async function expectNothingThenAll(scene: Scene): Promise<void> {
  expect(scene.newlyPosted()).toEqual([]);
  scene.wait(MINUTE);
  delete scene.overrides.fs;
  await scene.pass();
  scene.expectPosted(...lines(6, 8));
  await scene.expectQuiet();
}

/** Both copies of the state. */
function copies(scene: Scene): [string, string] {
  const path = scene.stateFile();
  return [path, `${path}.bak`];
}

/** Puts this in the place of both copies, as it is or as it is made of each. */
function spoilCopies(scene: Scene, text: string | ((path: string) => string | Uint8Array)): void {
  for (const path of copies(scene))
    fs.writeFileSync(path, typeof text === "string" ? text : text(path));
}

/** The run that finds both copies damaged posts these behind a notice. */
async function passTellsGap(scene: Scene, ...expected: string[]): Promise<void> {
  await scene.pass();
  scene.expectPosted(...expected);
  expect(scene.notices()).toEqual([expect.stringContaining("may be missing")]);
}

function readJson(path: string): Record<string, any> {
  return JSON.parse(fs.readFileSync(path, "utf8"));
}

/** A copy's text with something changed in it, under a checksum that is right. */
function resealed(path: string, change: (state: any) => void): string {
  const { checksum, ...state } = readJson(path);
  expect(checksum).toBeString();
  change(state);
  return sealState(state as State);
}

// ── What is kept ────────────────────────────────────────────────────────────────────────────────

describe("the state", () => {
  test("is one file per log, named by its path and eight hex digits of it, as any disk takes it", () => {
    const name = stateFileName("/var/log/fail2ban.log");
    expect(name).toMatch(/^var-log-fail2ban\.log-[0-9a-f]{8}\.json$/);
    expect(stateFileName("/var-log/fail2ban.log")).not.toBe(name);
    expect(stateFileName("/var/log/fail2ban.log.1")).not.toBe(name);
    for (const log of [
      `/${"long/".repeat(200)}log`,
      "/ü/日本.log",
      "/a b/'\"`$(x)\n.log",
      "/../..",
    ]) {
      expect(Buffer.byteLength(`${stateFileName(log)}.rejected`)).toBeLessThan(256);
      expect(stateFileName(log)).toMatch(/^[\w.-]+-[0-9a-f]{8}\.json$/);
    }
  });

  test("holds the line count and the last line's hash", async () => {
    using scene = await goingScene();
    const { version, log, destinations } = readJson(scene.stateFile());
    expect({ version, log }).toEqual({ version: 1, log: scene.log });
    expect(destinations.discord.cursor).toMatchObject({
      lines: 5,
      offset: Buffer.byteLength(`${lines(1, 5).join("\n")}\n`),
      lastLineHash: expect.stringMatching(/^[0-9a-f]+$/),
    });
    await scene.pass();
    expect(readJson(scene.stateFile()).destinations.discord.cursor.lines).toBe(8);
  });

  test("is two copies, a lock, and nothing else once a pass is over; read back as it was written", async () => {
    using scene = await goingScene();
    await scene.pass();
    expect(stateNames(scene)).toEqual(["state", "state.bak", "state.lock"]);
    const text = fs.readFileSync(scene.stateFile(), "utf8");
    const state = parseState(text) as State;
    expect(parseState(sealState(state))).toEqual(state);
  });

  test("of two logs share a directory and do not meddle with each other", async () => {
    using scene = await goingScene();
    await scene.pass();
    const other = join(scene.directory, "second.log");
    fs.writeFileSync(other, `${line(100)}\n`);
    const second = ["--log", other];
    expect(await scene.f2bWatch(...second)).toEqual(DONE);
    scene.expectPosted(...lines(6, 8), line(100));
    expect(fs.readdirSync(scene.state).filter((name) => name.endsWith(".json")).length).toBe(2);
    expect(await scene.f2bWatch(...second)).toEqual(DONE);
    await scene.expectQuiet();
  });

  test("is neither read by names nor believed by times: a copied directory goes on", async () => {
    using scene = await goingScene();
    const other = join(scene.directory, "moved");
    fs.cpSync(scene.state, other, { recursive: true });
    fs.chmodSync(other, 0o700);
    for (const name of fs.readdirSync(other)) fs.utimesSync(join(other, name), 0, 0);
    await scene.pass("--state", other);
    scene.expectPosted(...lines(6, 8));
  });

  test("of the first version, which knew fewer siblings, goes on where it was", async () => {
    using scene = await goingScene();
    fs.writeFileSync(
      scene.path("-202610"),
      "2026-10-21 10:00:00,000 of a name that it did not know\n",
    );
    const first = (state: any) => {
      const { cursor, finished, gap, total } = state.destinations.discord;
      for (const name of ["began", "trail"]) delete cursor[name];
      state.destinations.discord = { cursor, finished, gap, total, inDoubt: false };
    };
    spoilCopies(scene, (path) => resealed(path, first));
    scene.rotate();
    scene.append(...lines(6, 8));
    await scene.pass();
    scene.expectPosted(...lines(6, 8));
    expect(scene.notices()).toEqual([]);
  });
});

// ── Damage ──────────────────────────────────────────────────────────────────────────────────────

/** The copy's text with something else in its cursor. */
const withCursor = (changes: object) => (path: string) =>
  resealed(path, (state) => Object.assign(state.destinations.discord.cursor, changes));

/** Ways in which one copy can be unusable, each made from the good one. */
// prettier-ignore
const DAMAGES: [string, (path: string) => string | Uint8Array][] = [
  ["80: empty", () => ""],
  ["81: filled with NUL", (path) => new Uint8Array(fs.statSync(path).size)],
  ["82: cut off", (path) => fs.readFileSync(path, "utf8").slice(0, 100)],
  ["82: cut off by one character", (path) => fs.readFileSync(path, "utf8").trimEnd().slice(0, -1)],
  ["83: without its checksum", (path) => JSON.stringify({ ...readJson(path), checksum: undefined })],
  ["83: under a wrong checksum", (path) => JSON.stringify({ ...readJson(path), checksum: "0" })],
  ["83: changed under its old checksum",
    (path) => fs.readFileSync(path, "utf8").replace(/"offset": \d+/, '"offset": 0')],
  ["83: no object", () => "[]"],
  ["83: null", () => "null"],
  ["83: no JSON", () => "<html>"],
  ["83: not UTF-8", () => new Uint8Array([0xff, 0xfe, 0x7b, 0x00])],
  ["83: a count that is text", withCursor({ lines: "5" })],
  ["83: a negative offset", withCursor({ offset: -1 })],
  ["83: an offset between bytes", withCursor({ offset: 0.5 })],
  ["83: an offset that no file has", withCursor({ offset: 1e300 })],
  ["83: no destinations", (path) => resealed(path, (state) => delete state.destinations)],
  ["83: of an older version", (path) => resealed(path, (state) => (state.version = 0))],
  ["83: of no version", (path) => resealed(path, (state) => delete state.version)],
];

describe.each([
  [0, "a damaged first copy: the second is used, nothing is sent again, nothing is lost"],
  [1, "a damaged second copy does not matter"],
])("%d: %s", (index) => {
  test.each(DAMAGES)("%s", async (_, damage) => {
    using scene = await goingScene();
    const path = copies(scene)[index] as string;
    fs.writeFileSync(path, damage(path));
    await scene.passPosts(...lines(6, 8));
    for (const path of copies(scene)) {
      expect(parseState(fs.readFileSync(path, "utf8"))).toBeDefined();
    }
  });

  test("with nothing new: it is mended, missing or not, and nothing is sent", async () => {
    using scene = await goingScene();
    await scene.passPosts(...lines(6, 8));
    for (const spoil of [(path: string) => fs.writeFileSync(path, ""), fs.rmSync]) {
      spoil(copies(scene)[index] as string);
      await scene.passPosts();
    }
  });
});

test("89: a state of another log is a conflict: 73, and left as it is", async () => {
  using scene = await goingScene();
  const other = (path: string) => resealed(path, (state) => (state.log = "/another.log"));
  spoilCopies(scene, other);
  const before = fs.readFileSync(scene.stateFile(), "utf8");
  const { code, err } = await scene.run();
  expect([code, err.split("\n")[0]]).toEqual([73, expect.stringContaining("/another.log")]);
  expect(fs.readFileSync(scene.stateFile(), "utf8")).toBe(before);
  scene.expectPosted();
});

describe("84: both copies damaged: a notice, then all that is still there, never silence", () => {
  test.each(DAMAGES)("%s", async (_, damage) => {
    using scene = await goingScene();
    spoilCopies(scene, damage);
    await passTellsGap(scene, ...lines(1, 8));
    expect(scene.discord.messages[1]?.content).toContain("may be missing");
    await scene.expectQuiet();
    scene.append(line(9));
    await scene.passPosts(line(9));
  });

  test("while the log is empty: the notice comes with the first lines at the latest", async () => {
    using scene = await goingScene();
    fs.writeFileSync(scene.log, "");
    spoilCopies(scene, "");
    await scene.run();
    scene.append(...lines(20, 21));
    await passTellsGap(scene, ...lines(20, 21));
  });

  test("an offset beyond the log, under a right checksum, is a gap, too", async () => {
    using scene = await goingScene();
    spoilCopies(scene, withCursor({ offset: 2 ** 40, trail: [], lastLineHash: "0" }));
    await passTellsGap(scene, ...lines(6, 8));
  });
});

describe("85: a state of a newer version is refused before anything is sent, and left as it is", () => {
  const newer = (path: string) => resealed(path, (state) => (state.version = 2));
  const unknown = () => '{"version":7,"everything":["is","different"]}';

  test.each([
    ["both copies", newer, newer],
    ["both copies, in another form", unknown, unknown],
    ["the first copy", newer, undefined],
    ["the first copy, in another form", unknown, undefined],
    ["the second copy, beside a damaged first", () => "", newer],
    ["the second copy, beside a missing first", "missing", unknown],
  ] as const)("%s", async (_, first, second) => {
    using scene = await goingScene();
    const [one, two] = copies(scene);
    const newTwo = second?.(two);
    if (first === "missing") fs.rmSync(one);
    else fs.writeFileSync(one, first(one));
    if (newTwo !== undefined) fs.writeFileSync(two, newTwo);
    const texts = () =>
      copies(scene).map((path) => (fs.existsSync(path) ? fs.readFileSync(path, "utf8") : ""));
    const before = texts();
    for (let run = 0; run < 3; run++) {
      await expectFault(scene, 73, /newer f2b-watch \(state version \d\)/);
      scene.wait(MINUTE);
    }
    await expectFault(scene, 73, /newer/, "--dry-run");
    scene.expectPosted();
    expect(texts()).toEqual(before);
  });
});

// ── Disks ───────────────────────────────────────────────────────────────────────────────────────

const FULL = "ENOSPC: no space left on device";
const STEPS = ["openSync", "writeFileSync", "fsyncSync", "renameSync"] as const;

type Failing = { from?: number; path?: RegExp; message?: string };

/** One operation fails that would write, from its `from`th call on. */
function failing(scene: Scene, step: FsCall, which: Failing = {}): void {
  const { from = 1, path = /\.tmp$|state/, message = FULL } = which;
  let calls = 0;
  scene.beforeCalls(step, (target, flags) => {
    const elsewhere = typeof target === "string" && !path.test(target);
    const reads = step === "openSync" && !(Number(flags) & fs.constants.O_CREAT);
    if (!elsewhere && !reads && ++calls >= from) throw systemError(message);
  });
}

describe("90: a full disk is noticed before anything is sent, and with space back all is sent once", () => {
  const DIRECTORY: Failing = { from: 2 };
  test.each<[string, FsCall, Failing]>([
    ["the temporary file cannot be made", "openSync", { path: /\.tmp$/ }],
    ["the lock file cannot be made", "openSync", { path: /\.lock$/ }],
    ["the mark cannot be made", "openSync", { path: /\.mark$/ }],
    ["nothing can be written", "writeFileSync", {}],
    ["nothing reaches the disk", "fsyncSync", {}],
    ["the first copy cannot be renamed", "renameSync", {}],
    ["the fresh copy cannot be renamed", "renameSync", { from: 2 }],
    ["the directory does not reach the disk", "fsyncSync", DIRECTORY],
    ...["EROFS: read-only file system", "EACCES: permission denied"].flatMap((message) =>
      (["openSync", "renameSync"] as const).map((step): [string, FsCall, Failing] => {
        return [`${step}, ${message}`, step, { message }];
      }),
    ),
  ])("%s", async (_, step, which) => {
    using scene = await goingScene();
    failing(scene, step, which);
    const why = new RegExp((which.message ?? FULL).replace(/^\w+: /, ""));
    await expectFault(scene, 73, why);
    await expectFault(scene, 73, why);
    expect(scene.discord.requests.length).toBe(1);
    await expectNothingThenAll(scene);
    // That it may have been sent was written down, but perhaps not for good.
    expect(scene.notices()).toEqual(which === DIRECTORY ? ["(resent)"] : []);
  });

  test("on a first run", async () => {
    using scene = new Scene(...lines(1, 2));
    for (const step of ["mkdirSync", ...STEPS] as const) {
      failing(scene, step);
      await expectFault(scene, 73, /no space left on device/);
      expect(scene.discord.requests).toEqual([]);
    }
    delete scene.overrides.fs;
    await scene.passPosts(...lines(1, 2));
  });

  test("no temporary file stays behind to fill it further", async () => {
    using scene = await goingScene();
    failing(scene, "writeFileSync");
    for (let run = 0; run < 5; run++) await scene.run();
    const left = stateNames(scene).filter((name) => name.startsWith("state.tmp"));
    expect(left.length).toBeLessThanOrEqual(1);
  });

  test("a compressed sibling that cannot be unpacked for want of space is not skipped", async () => {
    for (const step of ["openSync", "writeFileSync"] as const) {
      using scene = await goingScene();
      scene.rotate();
      scene.compress(".1");
      scene.append(line(9));
      const path = step === "openSync" ? /\.unpacked$/ : /./;
      failing(scene, step, { path });
      await expectFault(scene, 73, /no space left on device/);
      scene.expectPosted();
      delete scene.overrides.fs;
      scene.wait(MINUTE);
      await scene.passPosts(...lines(6, 9));
    }
  });
});

test("91: the disk fills while it sends: one line, and at most one message is repeated, marked", async () => {
  for (const step of STEPS) {
    using scene = await goingScene();
    const long = lines(9, 12).map((text) => text.padEnd(1_900, "."));
    scene.append(...long);
    scene.beforeCalls(step, (_, flags) => {
      const reads = step === "openSync" && !(Number(flags) & fs.constants.O_CREAT);
      if (!reads && scene.discord.messages.length === 3) throw systemError(FULL);
    });
    await expectFault(scene, 73, /no space left on device/);
    expect(scene.discord.messages.length).toBe(3);
    delete scene.overrides.fs;
    scene.wait(MINUTE);
    expect((await scene.run()).code).toBe(0);
    const all = [...lines(6, 8), ...long];
    const posted = scene.newlyPosted();
    expect([...new Set(posted)]).toEqual(all);
    expect(posted.length - all.length).toBeLessThanOrEqual(1);
    const contents = scene.discord.messages.map(({ content }) => content);
    const repeated = contents
      .slice(3)
      .filter((each) => contents.slice(0, 3).some((old) => each.includes(old)));
    expect(repeated.length).toBe(posted.length - all.length);
    for (const content of repeated) expect(content).toStartWith("(resent)");
  }
});

describe("92: a state directory that is of no use is refused before anything is sent", () => {
  test("a missing one is made, with what is above it", async () => {
    using scene = new Scene(line(1));
    const state = join(scene.directory, "a", "b", "state");
    await scene.pass("--state", state);
    expect(modeOf(state)).toBe(0o700);
    scene.expectPosted(line(1));
  });

  test("one that cannot be made", async () => {
    using scene = new Scene(line(1));
    const state = join(scene.log, "state");
    await expectFault(scene, 73, /cannot write to .*state/, "--state", state);
    scene.expectPosted();
  });

  test("a state that is there and cannot be read is not a first run", async () => {
    using scene = await goingScene();
    for (const file of copies(scene)) {
      scene.beforeCalls("openSync", (path, flags) => {
        const reads = path === file && !(Number(flags) & fs.constants.O_CREAT);
        if (reads) throw systemError("EACCES: permission denied");
      });
      await expectFault(scene, 73, /cannot read state .*permission denied/);
    }
    await expectNothingThenAll(scene);
  });

  test("a state that breaks while it is read is not a first run", async () => {
    using scene = await goingScene();
    scene.beforeCalls("readFileSync", () => {
      throw systemError("EIO: i/o error");
    });
    await expectFault(scene, 73, /cannot read state .*i\/o/);
    await expectNothingThenAll(scene);
  });
});

// ── Links, modes, temporary files ───────────────────────────────────────────────────────────────

describe("93: what could be somebody else's doing is refused before anything is sent", () => {
  /** Spoils something of the state's, and says how to mend it. */
  type Spoil = (scene: Scene) => () => void;
  type PathOf = (scene: Scene) => string;

  /** Puts something in the place of a file or a directory. */
  const inPlaceOf =
    (pathOf: PathOf, put: (path: string, kept: string) => void): Spoil =>
    (scene) => {
      const [path, kept] = [pathOf(scene), join(scene.directory, "kept")];
      fs.renameSync(path, kept);
      put(path, kept);
      return () => {
        fs.rmSync(path, { recursive: true });
        fs.renameSync(kept, path);
      };
    };
  const withMode =
    (pathOf: PathOf, mode: number): Spoil =>
    (scene) => {
      const [path, before] = [pathOf(scene), modeOf(pathOf(scene))];
      fs.chmodSync(path, mode);
      return () => fs.chmodSync(path, before);
    };
  const ofOtherGroup: Spoil = (scene) => {
    const mend = withMode(directory, 0o770)(scene);
    scene.overrides.gid = () => fs.statSync(scene.state).gid + 1;
    return () => (mend(), delete scene.overrides.gid);
  };
  const ofOtherOwner =
    (pathOf: PathOf): Spoil =>
    (scene) => {
      fs.chownSync(pathOf(scene), 4711, 4711);
      return () => fs.chownSync(pathOf(scene), 0, 0);
    };
  const directory = (scene: Scene) => scene.state;
  const parent = (scene: Scene) => scene.directory;
  const first = (scene: Scene) => copies(scene)[0];
  const second = (scene: Scene) => copies(scene)[1];
  const link = (path: string, kept: string) => fs.symlinkSync(kept, path);
  const folder = (path: string) => fs.mkdirSync(path);
  const byOthers = /writable by others/;

  async function expectRefused(spoil: Spoil, why: RegExp): Promise<void> {
    using scene = await goingScene();
    const mend = spoil(scene);
    await expectFault(scene, 73, why);
    await expectFault(scene, 73, why, "--dry-run");
    mend();
    await expectNothingThenAll(scene);
  }

  test.each<[string, Spoil, RegExp]>([
    ["a directory that is a link", inPlaceOf(directory, link), /is a link/],
    ["a directory of mode 0702", withMode(directory, 0o702), byOthers],
    ["a directory of mode 0777", withMode(directory, 0o777), byOthers],
    ["a directory of mode 1777", withMode(directory, 0o1777), byOthers],
    ["a directory of mode 0722", withMode(directory, 0o722), byOthers],
    ["a directory that another group may write to", ofOtherGroup, byOthers],
    ["a directory that others may move away", withMode(parent, 0o777), /lies in .* is writable/],
    ["a first copy that is a link", inPlaceOf(first, link), /state/],
    ["a second copy that is a link", inPlaceOf(second, link), /state/],
    ["a first copy that is a directory", inPlaceOf(first, folder), /state .*regular file/],
    ["a second copy that is a directory", inPlaceOf(second, folder), /state .*regular file/],
    ["a first copy that others may write to", withMode(first, 0o606), byOthers],
    ["a second copy that others may write to", withMode(second, 0o606), byOthers],
  ])("%s", (_, spoil, why) => expectRefused(spoil, why));

  // Only root can give a file to somebody else.
  test.skipIf(process.getuid?.() !== 0).each<[string, PathOf, RegExp]>([
    ["a first copy", first, /state .* it belongs to another user/],
    ["a second copy", second, /state .* it belongs to another user/],
    ["a directory", directory, /state belongs to another user/],
    ["a directory's parent", parent, /lies in .*, which belongs to another user/],
  ])("%s of another owner", (_, pathOf, why) => expectRefused(ofOtherOwner(pathOf), why));

  test.each<[string, (path: string) => void]>([
    ["a link to nothing", (path) => fs.symlinkSync(`${path}-nothing`, path)],
    ["a file", (path) => fs.writeFileSync(path, "")],
  ])("a state directory that is %s, at the first run", async (_, put) => {
    using scene = new Scene(line(1));
    put(scene.state);
    await expectFault(scene, 73, /state/);
    expect(fs.existsSync(`${scene.state}-nothing`)).toBe(false);
    scene.expectPosted();
  });

  test.each([".lock", ".mark", ".rejected"])("a link in place of %s", async (name) => {
    using scene = await goingScene();
    const victim = join(scene.directory, "victim");
    const path = `${scene.stateFile()}${name}`;
    fs.rmSync(path, { force: true });
    fs.symlinkSync(victim, path);
    scene.discord.refuseContent((content) => name === ".rejected" && content.includes(line(7)));
    await expectFault(scene, 73, /state/);
    expect(fs.existsSync(victim)).toBe(false);
    fs.writeFileSync(victim, "precious");
    scene.wait(MINUTE);
    await expectFault(scene, 73, /state/);
    expect(fs.readFileSync(victim, "utf8")).toBe("precious");
    fs.rmSync(path);
    scene.discord.refuseContent(() => false);
    scene.wait(MINUTE);
    await scene.pass();
    scene.expectPosted(...lines(6, 8));
  });

  test.each([".tmp", ".unpacked"])("a link in place of %s is put away", async (name) => {
    using scene = await goingScene();
    scene.rotate();
    scene.compress(".1");
    const path = `${scene.stateFile()}${name}`;
    const [victim, nobody] = [join(scene.directory, "victim"), join(scene.directory, "nobody")];
    fs.writeFileSync(victim, "precious", { mode: 0o644 });
    fs.symlinkSync(victim, path);
    await scene.passPosts(...lines(6, 8));
    expect(fs.readFileSync(victim, "utf8")).toBe("precious");
    expect(modeOf(victim)).toBe(0o644);
    scene.append(line(9));
    fs.rmSync(path, { force: true });
    fs.symlinkSync(nobody, path);
    await scene.passPosts(line(9));
    expect(fs.existsSync(nobody)).toBe(false);
    for (const copy of copies(scene)) expect(fs.lstatSync(copy).isFile()).toBe(true);
  });
});

test.each([
  ["whole", (path: string) => fs.readFileSync(path, "utf8")],
  ["half", (path: string) => fs.readFileSync(path, "utf8").slice(0, 50)],
  ["empty", () => ""],
  ["of a newer version", () => '{"version":9}'],
  ["that says all was done", withCursor({ offset: 9e9 })],
])("87: a temporary file left behind, %s, is not used", async (_, text) => {
  using scene = await goingScene();
  const path = `${scene.stateFile()}.tmp`;
  fs.writeFileSync(path, text(scene.stateFile()), { mode: 0o666 });
  fs.chmodSync(path, 0o666);
  await scene.passPosts(...lines(6, 8));
  expect(fs.existsSync(path)).toBe(false);
  expect(modeOf(scene.stateFile())).toBe(0o600);
});

test.each([0o000, 0o022, 0o077])("umask %o: the folder is 0700, files 0600", async (mask) => {
  const before = process.umask(mask);
  try {
    using scene = await goingScene();
    scene.rotate();
    scene.compress(".1");
    const modes: Record<string, number> = {};
    const openSync: typeof fs.openSync = (path, ...rest) => {
      const descriptor = fs.openSync(path, ...rest);
      const [ending] = /\.(tmp|mark|unpacked|lock|rejected)$/.exec(String(path)) ?? [];
      if (ending) modes[ending] = fs.fstatSync(descriptor).mode & 0o777;
      return descriptor;
    };
    scene.withFs({ openSync });
    scene.discord.refuseContent((content) => content.includes(line(7)));
    const names = new Set<string>();
    scene.overrides.fetch = (...call) => {
      for (const name of stateNames(scene)) names.add(name);
      return scene.discord.fetch(...call);
    };
    expect((await scene.run()).code).toBe(0);
    // An unpacked log has no name while it is read.
    expect([...names]).toContain("state");
    expect([...names]).not.toContain("state.unpacked");
    const endings = [".lock", ".mark", ".rejected", ".tmp", ".unpacked"];
    expect(modes).toEqual(Object.fromEntries(endings.map((ending) => [ending, 0o600])));
    expect(modeOf(scene.state)).toBe(0o700);
    for (const name of fs.readdirSync(scene.state))
      expect([name, modeOf(join(scene.state, name))]).toEqual([name, 0o600]);
  } finally {
    process.umask(before);
  }
});

describe("the lock file", () => {
  test("that is no lock file is 73 with a hint, and is not mended by deleting it", async () => {
    using scene = await goingScene();
    const path = `${scene.stateFile()}.lock`;
    fs.writeFileSync(path, "garbage".repeat(100));
    await expectFault(scene, 73, /cannot lock[^\n]*\nhint: /);
    expect(fs.readFileSync(path, "utf8")).toBe("garbage".repeat(100));
    fs.writeFileSync(path, "");
    await expectNothingThenAll(scene);
  });

  test("that is a FIFO is 73, and is not waited for", async () => {
    using scene = await goingScene();
    const path = `${scene.stateFile()}.lock`;
    fs.rmSync(path);
    Bun.spawnSync(["mkfifo", path]);
    const script = join(repository, "f2b-watch.ts");
    const flags = ["--log", scene.log, "--state", dirname(path)];
    const env = { PATH: process.env["PATH"] };
    const limits = { timeout: 20_000, killSignal: "SIGKILL" } as const;
    const { exitCode } = Bun.spawnSync([process.execPath, script, ...flags], { env, ...limits });
    expect(exitCode).toBe(73);
  });

  test("that was deleted between two runs is made again", async () => {
    using scene = await goingScene();
    fs.rmSync(`${scene.stateFile()}.lock`);
    await scene.passPosts(...lines(6, 8));
  });

  test("that a hanging run holds is reported hourly", async () => {
    using scene = await goingScene();
    using lock = new DatabaseSync(`${scene.stateFile()}.lock`);
    lock.exec("BEGIN IMMEDIATE");
    const mark = `${scene.stateFile()}.mark`;
    fs.writeFileSync(mark, "", { mode: 0o600 });
    fs.utimesSync(mark, scene.clockMs / 1_000, scene.clockMs / 1_000);
    const report = expect.stringMatching(/^f2b-watch: another run has been in progress for /);
    for (const [minutes, err] of Object.entries({ 1: "", 6: report, 30: "", 31: report })) {
      scene.wait(Number(minutes) * MINUTE);
      expect((await scene.run()).err).toEqual(err);
    }
  });
});

test("a state as the first versions wrote it, posts beside the cursor, goes on where it stood", async () => {
  using scene = await Scene.after(1, 30);
  const rewrite = (path: string) => {
    const { checksum: _, channels, ...state } = JSON.parse(fs.readFileSync(path, "utf8"));
    Object.assign(state.destinations.discord, { posts: channels.discord.posts });
    fs.writeFileSync(path, sealState(state as State), { mode: 0o600 });
  };
  rewrite(scene.stateFile());
  rewrite(`${scene.stateFile()}.bak`);
  await scene.expectQuiet();
  scene.append(...lines(31, 40));
  await scene.passPosts(...lines(31, 40));
});
