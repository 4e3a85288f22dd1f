/** What is read from a log and its rotated files, scenario by scenario, and the functions that decide. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { planRead } from "../f2b-watch.ts";
import { fencedLines } from "./discord.ts";
import {
  line,
  lines,
  QUICK_FS,
  repository,
  Scene,
  systemError,
  type RunResult,
  until,
} from "./harness.ts";

setDefaultTimeout(180_000);

const SCRIPT = join(repository, "f2b-watch.ts");
const DAY = "86400";
const MIB = 1024 * 1024;
/** Only root can give a file to somebody else. */
const isRoot = process.getuid?.() === 0;

const text = (...all: string[]) => all.map((each) => `${each}\n`).join("");
const bytesOf = (scene: Scene, suffix = "") => fs.statSync(scene.path(suffix)).size;

/** Runs the program and says on stderr how much memory it needed (the usual counter knows the parent's). */
const MEASURED = `
  const { readFileSync } = await import("node:fs");
  const { main, realWorld } = await import(${JSON.stringify(SCRIPT)});
  process.exitCode = await main(process.argv.slice(1), realWorld());
  console.error(/VmHWM:.*/.exec(readFileSync("/proc/self/status", "utf8"))[0]);`;

/** A run in a process of its own, which is killed when it takes too long or hangs. */
function runAlone(scene: Scene, ...flags: string[]): RunResult & { peakMiB: number } {
  const argv = ["-e", MEASURED, "--", "--log", scene.log, "--state", scene.state, ...flags];
  const child = Bun.spawnSync([process.execPath, ...argv], {
    env: { PATH: process.env["PATH"] ?? "" },
    timeout: 50_000,
    killSignal: "SIGKILL",
  });
  const [err = "", peakKiB] = child.stderr.toString().split(/VmHWM:\s+(\d+) kB\n$/);
  return {
    code: child.exitCode ?? -1,
    out: child.stdout.toString(),
    err,
    peakMiB: Number(peakKiB) / 1024,
  };
}

/** Refuses to open the paths that end in `ending`, as for a user without the right to. */
function forbid(scene: Scene, ending: string): void {
  scene.beforeCalls("openSync", (path) => {
    if (String(path).endsWith(ending)) throw systemError("EACCES: permission denied");
  });
}

/** Calls `event` once, just before the n-th call into the file system; says how many there were. */
function strikeAtCall(scene: Scene, number: number, event: () => void): { calls: number } {
  const seen = { calls: 0 };
  scene.beforeCalls(
    ["openSync", "readSync", "fstatSync", "lstatSync", "readdirSync", "fsyncSync"],
    () => ++seen.calls === number && event(),
    QUICK_FS,
  );
  return seen;
}

/** Calls `event` before anything is read from any file. */
function beforeEachRead(
  scene: Scene,
  event: (read: { length: number; position: number }) => void,
): void {
  const told = (_file: number, _into: Uint8Array, _at = 0, length = 0, position = 0) =>
    event({ length, position });
  scene.beforeCalls("readSync", told, QUICK_FS);
}

/** Calls `event` after each message that was posted. */
function afterEachPost(scene: Scene, event: (posts: number) => void): void {
  let posts = 0;
  scene.overrides.fetch = async (url, init) => {
    const response = await scene.discord.fetch(url, init);
    event(++posts);
    return response;
  };
}

/** A run that is asked to stop when so many messages were posted. */
async function stopAfter(scene: Scene, messages: number): Promise<void> {
  const stop = new AbortController();
  const before = scene.discord.messages.length;
  scene.overrides.stopping = stop.signal;
  afterEachPost(scene, (posts) => posts === messages && stop.abort());
  await scene.run();
  expect(scene.discord.messages).toHaveLength(before + messages);
  delete scene.overrides.stopping;
  delete scene.overrides.fetch;
}

/** The lines of a whole story were posted, each once, whatever the runs were. */
async function expectInTheEnd(scene: Scene, ...expected: string[]): Promise<void> {
  delete scene.overrides.fs;
  delete scene.overrides.fetch;
  await scene.passPosts(...expected);
}

/** The log cannot be read: 66, said once; when it is mended that is said too, and all of it is posted. */
async function expectUnreadUntil(
  scene: Scene,
  why: RegExp,
  mend: () => void,
  ...expected: string[]
): Promise<void> {
  const { code, out, err } = await scene.run();
  expect({ code, out }).toEqual({ code: 66, out: "" });
  expect(err).toMatch(why);
  for (let minute = 1; minute <= 5; minute++) {
    scene.wait(60_000);
    expect(await scene.run()).toEqual({ code: 66, out: "", err: "" });
  }
  scene.expectPosted();
  mend();
  const over = await scene.run();
  expect(over.code).toBe(0);
  expect(over.err).toMatch(/^f2b-watch: .*\n$/);
  await scene.expectOnlyPosted(...expected);
}

/** Puts what was cut with marks at both ends together again. */
function rejoined(posted: string[]): string[] {
  return posted.join("\n").replaceAll("…\n…", "").split("\n");
}

describe("first runs and plain growth", () => {
  test("1. no state, --from end: only what comes later is posted", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 500));
    await scene.pass("--from", "end");
    scene.expectPosted();
    scene.append(...lines(501, 502));
    await scene.passPosts(...lines(501, 502));
  });

  test("2. no state, log missing: 66, said once; its lines follow when it is there", async () => {
    using scene = new Scene();
    const write = () => scene.append(...lines(1, 3));
    await expectUnreadUntil(scene, /^f2b-watch: .*no such file.*\n/, write, ...lines(1, 3));
  });

  test("6. 4000 lines, stopped after some messages: the next run posts only the rest", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 4000));
    await stopAfter(scene, 7);
    scene.overrides.fs = QUICK_FS;
    await scene.run("--max-time", DAY);
    await scene.expectOnlyPosted(...lines(1, 4000));
  });

  test("8. lines written during the run wait for the next: it ends where it began to read", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 100));
    let last = 100;
    afterEachPost(scene, () => {
      scene.append(...lines(last + 1, last + 100));
      last += 100;
    });
    await scene.pass();
    scene.expectPosted(...lines(1, 100));
    delete scene.overrides.fetch;
    await scene.passPosts(...lines(101, last));
  });
});

describe("rotation by renaming", () => {
  test.each([
    ["a minute apart", 60_000],
    ["one after the other", 0],
  ])(
    "13. flushlogs fails: the old file is read for as long as it grows, with one warning (%s)",
    async (_, apartMs) => {
      using scene = await Scene.after(1, 5);
      scene.rotate();
      const warnings: string[] = [];
      for (let number = 6; number <= 15; number++) {
        scene.write(text(line(number)), ".1");
        const { code, err } = await scene.run();
        expect(code).toBe(0);
        scene.expectPosted(line(number));
        if (err !== "") warnings.push(err);
        scene.wait(apartMs);
      }
      expect(warnings).toHaveLength(1);
      expect(warnings[0]).toContain(`fail2ban still writes to ${scene.path(".1")}`);
      scene.append(...lines(16, 17));
      const { code, err } = await scene.run();
      expect(code).toBe(0);
      expect(err).toMatch(/^f2b-watch: .*\n$/);
      scene.expectPosted(...lines(16, 17));
      await scene.expectQuiet();
    },
  );

  test("18. log and .1 both missing: 66, the state is kept; the old log back goes on", async () => {
    using scene = await Scene.after(1, 5);
    const kept = scene.read();
    scene.remove();
    const putBack = () => scene.write(kept + text(...lines(6, 7)));
    await expectUnreadUntil(scene, /^f2b-watch: .*no such file.*\n/, putBack, ...lines(6, 7));
  });

  test("18. log and .1 both missing: another log later comes after a notice", async () => {
    using scene = await Scene.after(1, 5);
    scene.remove();
    expect((await scene.run()).code).toBe(66);
    scene.append(...lines(6, 7));
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(...lines(6, 7));
    expect(scene.notices()).toHaveLength(1);
    expect(scene.notices()[0]).toContain("after line 5 ");
    await scene.expectQuiet();
  });

  test("22. a fragment longer than a message: cut, and gone on with by the next run", async () => {
    using scene = await Scene.after(1, 5);
    const fragment = "0123456789".repeat(500);
    scene.write(fragment);
    scene.rotate();
    scene.append(line(6));
    await stopAfter(scene, 2);
    await scene.pass();
    expect(rejoined(scene.newlyPosted())).toEqual([`${fragment}…`, line(6)]);
    expect(scene.notices()).toEqual([]);
    await scene.expectQuiet();
  });

  test("28. the cursor lost, numbers and dates unread, the run stopped between: both are read", async () => {
    using scene = await Scene.after(1, 5);
    scene.remove();
    scene.write(text(...lines(6, 40)), ".1");
    scene.write(text(...lines(41, 42)), "-20261122");
    scene.append(line(43));
    await stopAfter(scene, 1);
    await scene.passPosts(...lines(6, 43));
    expect(scene.notices()).toHaveLength(1);
    await scene.expectQuiet();
  });

  test("30. bogus siblings are never read, not even when the log's own are lost", async () => {
    using scene = await Scene.after(1, 5);
    const names = [".bak2", ".swp", ".offset", ".1.tmp", ".1~", ".1.bak", "-old", ".0x1", ".gz"];
    for (const [index, name] of names.entries()) scene.write(text(line(101 + index)), name);
    fs.writeFileSync(join(scene.directory, "fail2ban-old.log"), text(line(201)));
    fs.writeFileSync(join(scene.directory, "xfail2ban.log.1"), text(line(202)));
    fs.mkdirSync(scene.path(".3"));
    scene.append(line(6));
    scene.rotate();
    scene.append(line(7));
    await scene.passPosts(...lines(6, 7));
    scene.remove();
    scene.append(line(8));
    await scene.passPostsAfterGap(1, line(8));
  });
});

describe("races", () => {
  test.each([1, 2, 3, 4])(
    "what was sent stays so when no file can be read any more: after %d posts of a chain",
    async (most) => {
      using scene = new Scene();
      scene.append(...lines(1, 20));
      await scene.pass();
      for (const [from, to] of [
        [21, 40],
        [41, 80],
      ] as const) {
        scene.append(...lines(from, to));
        scene.rotate();
      }
      scene.compress(".2");
      scene.append(...lines(81, 120));
      let isBroken = false;
      afterEachPost(scene, (posts) => (isBroken = posts === most));
      beforeEachRead(scene, () => {
        if (isBroken) throw systemError("EIO: i/o error");
      });
      expect([0, 66]).toContain((await scene.run()).code);
      isBroken = false;
      await expectInTheEnd(scene, ...lines(1, 120));
    },
  );

  const rename = (scene: Scene) => scene.rotate();
  const renameAndPack = (scene: Scene) => {
    scene.rotate();
    scene.compress(".1");
  };
  const copytruncate = (scene: Scene) => scene.copytruncate();

  /** One story with a rotation before the n-th call of its second run; says how many calls that made. */
  async function strike(
    rotation: (scene: Scene) => void,
    rotatedBefore: boolean,
    number: number,
  ): Promise<number> {
    using scene = new Scene();
    scene.append(...lines(1, 5));
    await scene.pass();
    scene.append(...lines(6, 7));
    if (rotatedBefore) scene.rotate();
    scene.append(line(8));
    const seen = strikeAtCall(scene, number, () => {
      rotation(scene);
      scene.append(line(9));
    });
    await scene.pass();
    await expectInTheEnd(scene, ...lines(1, number > seen.calls ? 8 : 9));
    return seen.calls;
  }

  for (const rotation of [rename, renameAndPack, copytruncate]) {
    for (const rotatedBefore of [false, true]) {
      const name = `${rotation.name} at any call${rotatedBefore ? ", the second since the last run" : ""}`;
      test(`19. rotation between listing and opening: ${name}`, async () => {
        const calls = await strike(rotation, rotatedBefore, Infinity);
        expect(calls).toBeGreaterThan(30);
        for (let number = 1; number <= calls; number++) {
          await strike(rotation, rotatedBefore, number);
        }
      }, 30_000);
    }
  }

  test("20. rotation between two reads: the open file is read on", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 8_000));
    expect(bytesOf(scene)).toBeGreaterThan(2 * 256 * 1024);
    let reads = 0;
    beforeEachRead(scene, ({ length }) => {
      if (length < 100_000 || ++reads !== 3) return;
      scene.rotate();
      scene.append(...lines(8_001, 8_002));
    });
    await scene.pass("--max-time", DAY);
    expect(reads).toBeGreaterThan(2);
    await expectInTheEnd(scene, ...lines(1, 8_002));
  });

  for (const rotation of [rename, renameAndPack, copytruncate]) {
    test(`77. ${rotation.name} while a post is under way: old lines once, then the new`, async () => {
      for (let message = 1; message <= 5; message++) {
        using scene = new Scene();
        scene.append(...lines(1, 100));
        afterEachPost(scene, (posts) => {
          if (posts !== message) return;
          rotation(scene);
          scene.append(...lines(101, 102));
        });
        await scene.pass();
        await expectInTheEnd(scene, ...lines(1, 102));
      }
    });
  }

  test("77. copytruncate while a post is under way, the new file longer than the old", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 100));
    afterEachPost(scene, (posts) => {
      if (posts !== 2) return;
      scene.copytruncate();
      scene.append(...lines(101, 300));
    });
    await scene.pass();
    await expectInTheEnd(scene, ...lines(1, 300));
  });

  test("79. EIO in mid-file: what was posted is saved, the rest is tried again", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 8_000));
    beforeEachRead(scene, ({ position }) => {
      if (position > 400_000) throw systemError("EIO: i/o error");
    });
    const { code, err } = await scene.run("--max-time", DAY);
    expect(err).toMatch(/^f2b-watch: cannot read [^\n]+: i\/o error\n/);
    expect(code).toBe(66);
    const posted = scene.discord.lines().length;
    expect(posted).toBeGreaterThan(1_000);
    delete scene.overrides.fs;
    expect((await scene.run("--max-time", DAY)).code).toBe(0);
    await scene.expectOnlyPosted(...lines(1, 8_000));
  });
});

describe("compressed files", () => {
  test("34. .1 and a half written .1.gz: the plain one is used, once", async () => {
    using scene = await Scene.after(1, 5);
    scene.append(...lines(6, 105));
    scene.rotate();
    scene.write(gzipSync(scene.read(".1")).subarray(0, 400), ".1.gz");
    scene.append(line(106));
    await scene.passPosts(...lines(6, 106));
    scene.remove(".1.gz");
    scene.compress(".1");
    await scene.passPosts();
  });

  for (const [name, spoil] of [
    ["cut short", (packed: Buffer) => packed.subarray(0, packed.length / 2)],
    ["with a wrong byte", (packed: Buffer) => packed.fill(0xff, packed.length / 2)],
  ] as const) {
    test(`35. only a .gz is left, ${name}: a notice, what can be unpacked, then the new lines`, async () => {
      using scene = await Scene.after(1, 5);
      scene.append(...lines(6, 2_000));
      scene.rotate();
      scene.compress(".1");
      const packed = fs.readFileSync(scene.path(".1.gz"));
      fs.writeFileSync(scene.path(".1.gz"), spoil(packed));
      scene.append(...lines(2_001, 2_002));
      await scene.pass("--max-time", DAY);
      const posted = scene.newlyPosted();
      expect(posted.slice(-2)).toEqual(lines(2_001, 2_002));
      expect(posted.slice(0, 500)).toEqual(lines(6, 505));
      expect(scene.notices()).toHaveLength(1);
      expect(scene.notices()[0]).toContain("fail2ban.log.1.gz");
      await scene.expectQuiet();
    });
  }

  test("36. gzip of several members: all of them", async () => {
    using scene = await Scene.after(1, 5);
    scene.append(line(6));
    const old = Buffer.from(scene.read());
    scene.remove();
    const parts = [old.subarray(0, 250), old.subarray(250), Buffer.from(text(line(7)))];
    scene.write(Buffer.concat(parts.map((part) => gzipSync(part))), ".1.gz");
    scene.append(line(8));
    await scene.passPosts(...lines(6, 8));
  });

  test("37. a year of files that cannot be unpacked: the notice still fits into a message", async () => {
    using scene = await Scene.after(1, 5);
    scene.remove();
    for (let week = 1; week <= 60; week++) scene.write("?", `.${week}.xz`);
    scene.append(...lines(6, 7));
    await scene.passPostsAfterGap(5, ...lines(6, 7));
  });

  test("38. a gzip bomb of 5 GB: a notice, in bounded memory and time", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 5));
    expect(runAlone(scene).code).toBe(0);
    scene.remove();
    const member = gzipSync(Buffer.alloc(50 * MIB));
    scene.write(Buffer.concat(Array.from({ length: 100 }, () => member)), ".1.gz");
    scene.append(line(6));
    const { code, out, peakMiB } = runAlone(scene);
    expect(code).toBe(0);
    expect(fencedLines([out])).toEqual([line(6)]);
    expect(out).toContain("fail2ban.log.1.gz");
    expect(peakMiB).toBeLessThan(200);
    expect(runAlone(scene).out).toBe("");
  }, 60_000);

  test("79. EIO in a compressed file: an error, no crash; the next run goes on", async () => {
    using scene = await Scene.after(1, 5);
    scene.append(line(6));
    scene.rotate();
    scene.compress(".1");
    scene.append(line(7));
    const packed = bytesOf(scene, ".1.gz");
    beforeEachRead(scene, ({ length }) => {
      if (length === packed) throw systemError("EIO: i/o error");
    });
    const { code, err } = await scene.run();
    expect([code, err]).toEqual([66, expect.stringMatching(/^f2b-watch: .*i\/o error.*\n/)]);
    delete scene.overrides.fs;
    expect((await scene.run()).code).toBe(0);
    await scene.expectOnlyPosted(...lines(6, 7));
  });
});

describe("truncation and rewriting", () => {
  test("46. head trimmed where the last line repeats: the lines before it decide", async () => {
    using scene = new Scene();
    const all = [line(1), "same", line(2), "same", line(3), "same"];
    scene.append(...all);
    await scene.passPosts(...all);
    fs.writeFileSync(scene.log, text(...all.slice(2), "same", line(4), "same"));
    await scene.passPosts("same", line(4), "same");
  });

  test("51. a hole of 500 MB is skipped in bounded memory", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 5));
    await scene.passPosts(...lines(1, 5));
    scene.append(line(6));
    scene.copytruncate();
    fs.truncateSync(scene.log, 500 * MIB);
    scene.append(line(7));
    const { code, out, peakMiB } = runAlone(scene, "--dry-run");
    expect([code, fencedLines([out])]).toEqual([0, lines(6, 7)]);
    expect(peakMiB).toBeLessThan(200);
    await scene.passPosts(...lines(6, 7));
    scene.append(line(8));
    await scene.passPosts(line(8));
  });

  test("51. a hole of 500 MB in mid-line: both halves are there, in bounded memory", async () => {
    using scene = new Scene();
    scene.append(line(1));
    scene.write(line(2));
    fs.truncateSync(scene.log, 500 * MIB);
    scene.append(line(3));
    const { out, peakMiB } = runAlone(scene);
    expect(
      rejoined(fencedLines([out]))
        .join("\n")
        .replaceAll("…", ""),
    ).toContain(line(3));
    expect(out).toContain(line(2));
    expect(peakMiB).toBeLessThan(200);
    expect(runAlone(scene).out).toBe("");
  });
});

describe("text", () => {
  test("61. CRLF ends a line; lone CR, U+2028 and blanks stay in it, visible; empty lines count", async () => {
    using scene = new Scene();
    scene.write("one\r\ntwo\rstill two\nthree\u2028still three\n\n   \n\n\nend\n");
    await scene.passPosts(
      "one",
      "two\\x0dstill two",
      "three\\u2028still three",
      "",
      "   ",
      "",
      "",
      "end",
    );
  });

  test("61. nothing but empty lines", async () => {
    using scene = await Scene.after(1, 5);
    scene.append("");
    await scene.pass();
    scene.append("", line(6));
    await scene.passPosts("", "", line(6));
  });

  test("62. invalid UTF-8 and characters of several bytes, cut by reads and messages", async () => {
    using scene = new Scene();
    scene.overrides.fs = QUICK_FS;
    const wide = "ä€😀".repeat(1_500);
    const tall = Array.from(
      { length: 4_000 },
      (_, index) => `${index} 😀ä€ 日本語 ${"é".repeat(20)}`,
    );
    scene.append(wide, ...tall);
    scene.write(new Uint8Array([0xf0, 0x9f, 0x0a, 0xed, 0xa0, 0x80, 0x0a]));
    expect(bytesOf(scene)).toBeGreaterThan(256 * 1024);
    await scene.pass("--max-time", DAY);
    const posted = rejoined(scene.newlyPosted());
    expect(posted).toEqual([wide, ...tall, "\ufffd", "\ufffd\ufffd\ufffd"]);
    expect(scene.discord.messages.every(({ content }) => content.isWellFormed())).toBe(true);
    expect(scene.discord.violations).toEqual([]);
    scene.append("after");
    scene.rotate();
    scene.append("end");
    await scene.passPosts("after", "end");
  });

  test("64. fences, mentions, colours, blanks: the fence holds, nobody is called", async () => {
    using scene = new Scene();
    const nasty = ["```", "a```b", "````````", "@everyone <@1> <@&2> @here", "  ", "\x1b[31mred"];
    scene.append(...nasty, line(1));
    await scene.pass();
    const posted = scene.newlyPosted();
    expect(posted).toHaveLength(nasty.length + 1);
    expect(posted.map((each) => each.replaceAll("\u200b", "")).slice(0, 5)).toEqual(
      nasty.slice(0, 5),
    );
    expect(posted.slice(5)).toEqual(["\\x1b[31mred", line(1)]);
    expect(scene.discord.messages[0]?.content.match(/```/g)).toHaveLength(2);
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("65. one line of 5 MB: cut with marks, the next line whole, each once", async () => {
    using scene = await Scene.after(1, 1);
    const long = Array.from({ length: 500_000 }, (_, index) => `${index} abc`)
      .join(" ")
      .slice(0, 5e6);
    expect(long).toHaveLength(5e6);
    scene.append(long, line(2));
    scene.overrides.fs = QUICK_FS;
    expect((await scene.run()).code).toBe(75);
    expect((await scene.run("--max-time", DAY)).code).toBe(0);
    const posted = rejoined(scene.newlyPosted());
    expect(posted.map((each) => each.length)).toEqual([5e6, line(2).length]);
    expect(posted[0] === long && posted[1] === line(2)).toBe(true);
    expect(scene.notices()).toEqual([]);
    await scene.expectQuiet();
  }, 60_000);

  test("65. a line longer than what is read at once: in pieces, nothing lost, in bounded memory", () => {
    using scene = new Scene();
    const long = "0123456789".repeat(9e5);
    scene.append(line(1), long, line(2));
    const { code, out, peakMiB } = runAlone(scene, "--dry-run");
    expect(code).toBe(0);
    const posted = fencedLines([out]);
    expect([posted[0], posted.at(-1)]).toEqual([line(1), line(2)]);
    expect(posted.slice(1, -1).join("").replaceAll("…", "") === long).toBe(true);
    expect(peakMiB).toBeLessThan(200);
  }, 60_000);

  test("65. one line of 5 MB among too many lines is counted once", async () => {
    using scene = new Scene();
    scene.append("x".repeat(5e6), line(1));
    for (const [name, url] of [
      ["SLACK_WEBHOOK", "https://hooks.slack.com/services/T0/B0/tok-en"],
      ["DISCORD_WEBHOOK", "https://discord.com/api/webhooks/1/tok-en"],
    ] as const) {
      scene.env = { [name]: url };
      const { code, out } = await scene.run("--dry-run", "--inline", "20");
      expect(code).toBe(0);
      const counts = [...out.matchAll(/🌊 \S+ \*+(\d+) lines?\*+/g)].map(([, count]) => count);
      expect(counts).toEqual(["1", "1"]);
    }
  });

  for (const rotation of ["", "rotate", "copytruncate", "compress"] as const) {
    for (const first of [1, 6]) {
      test(`65. line ${first} is long and half posted${rotation && `, then ${rotation}`}: it goes on there`, async () => {
        using scene = first === 1 ? new Scene() : await Scene.after(1, 5);
        const long = `${line(first)} ${"0123456789".repeat(700)}`;
        scene.append(long, line(first + 1));
        await stopAfter(scene, 2);
        if (rotation === "copytruncate") scene.copytruncate();
        else if (rotation !== "") scene.rotate();
        if (rotation === "compress") scene.compress(".1");
        scene.append(line(first + 2));
        await scene.pass();
        expect(rejoined(scene.newlyPosted())).toEqual([long, line(first + 1), line(first + 2)]);
        expect(scene.notices()).toEqual([]);
        await scene.expectQuiet();
      });
    }
  }

  test("66. messages of up to 1990 characters, so that their mark has room when they come again", async () => {
    for (let first = 975; first <= 1_000; first++) {
      using scene = new Scene();
      scene.overrides.fs = QUICK_FS;
      const two = ["a".repeat(first), "b".repeat(1_000)];
      scene.append(...two);
      await scene.passPosts(...two);
      const lengths = scene.discord.messages.map(({ content }) => content.length);
      const together = first + 1 + 1_000 + 8;
      expect(lengths).toEqual(together <= 1_990 ? [together] : [first + 8, 1_008]);
    }
  });

  test("66. a line that just fits, and one that is a character too long", async () => {
    using scene = new Scene();
    scene.append("a".repeat(1_991), "b".repeat(1_992), "c");
    await scene.pass();
    expect(rejoined(scene.newlyPosted())).toEqual(["a".repeat(1_991), "b".repeat(1_992), "c"]);
    const lengths = scene.discord.messages.map(({ content }) => content.length);
    expect(lengths.slice(0, 2)).toEqual([1_999, 1_990]);
    expect(scene.discord.violations).toEqual([]);
  });

  test("66. long lines whose last piece just fits, across the windows that are read", async () => {
    for (const length of [5_944, 5_945, 5_947, 5_950]) {
      using scene = new Scene();
      scene.overrides.fs = QUICK_FS;
      const all = lines(1, 46).map((text) => text.padEnd(length, "x"));
      scene.append(...all);
      expect((await scene.run("--max-time", DAY)).code).toBe(0);
      expect(rejoined(scene.newlyPosted())).toEqual(all);
      await scene.expectQuiet();
    }
  });

  test("67. 200 000 lines: in order, over several runs", async () => {
    using scene = new Scene();
    const all = Array.from({ length: 200_000 }, (_, index) => `line ${index}`);
    scene.append(...all);
    scene.overrides.fs = QUICK_FS;
    expect((await scene.run()).code).toBe(75);
    expect((await scene.run("--max-time", DAY)).code).toBe(0);
    expect(scene.newlyPosted().join("\n") === all.join("\n")).toBe(true);
    expect(scene.discord.violations).toEqual([]);
    expect(scene.discord.count429).toBe(0);
    await scene.expectQuiet();
  }, 60_000);

  test("67. 200 000 lines: in bounded memory", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 200_000));
    const { code, out, peakMiB } = runAlone(scene, "--dry-run");
    expect(code).toBe(0);
    expect(fencedLines([out]).join("\n") === lines(1, 200_000).join("\n")).toBe(true);
    expect(peakMiB).toBeLessThan(200);
  }, 60_000);

  test("68. an offset beyond 2^32, behind a hole of 4 GB", async () => {
    using scene = await Scene.after(1, 5);
    fs.truncateSync(scene.log, 2 ** 32 + 10);
    scene.append(...lines(6, 8));
    await scene.passPosts(...lines(6, 8));
    scene.append(line(9));
    await scene.passPosts(line(9));
  }, 60_000);
});

describe("permissions and kinds of files", () => {
  test("98. no right to read the log: 66, said once an hour; all lines when it is back", async () => {
    using scene = await Scene.after(1, 5);
    scene.append(...lines(6, 8));
    forbid(scene, "fail2ban.log");
    const allow = () => delete scene.overrides.fs;
    const why = /^f2b-watch: .*permission denied.*\nhint: .*\n$/;
    await expectUnreadUntil(scene, why, allow, ...lines(6, 8));
  });

  test("99. no right to read .1 alone: a notice that names it, then the new file", async () => {
    using scene = await Scene.after(1, 5);
    scene.append(line(6));
    scene.rotate();
    scene.append(line(7));
    forbid(scene, "fail2ban.log.1");
    await scene.passPostsAfterGap(5, line(7));
    expect(scene.notices()[0]).toContain("fail2ban.log.1 (permission denied)");
  });

  test("100. the folder cannot be listed: the log is read, a rotation gives a notice", async () => {
    using scene = await Scene.after(1, 5);
    scene.beforeCalls("readdirSync", () => {
      throw systemError("EACCES: permission denied");
    });
    scene.append(line(6));
    await scene.passPosts(line(6));
    scene.rotate();
    scene.append(line(7));
    await scene.passPostsAfterGap(6, line(7));
    expect(scene.notices()[0]).toContain("permission denied");
  });

  test("101. the log is a link: its target is followed, switched, lost and found", async () => {
    using scene = new Scene();
    const target = (name: string) => join(scene.directory, name);
    const link = (name: string) => {
      fs.rmSync(scene.log, { force: true });
      fs.symlinkSync(target(name), scene.log);
    };
    fs.writeFileSync(target("a"), text(...lines(1, 3)));
    link("a");
    await scene.passPosts(...lines(1, 3));
    fs.appendFileSync(target("a"), text(line(4)));
    await scene.passPosts(line(4));
    fs.writeFileSync(target("b"), text(...lines(5, 6)));
    link("b");
    await scene.passPostsAfterGap(4, ...lines(5, 6));
    link("nowhere");
    expect((await scene.run()).code).toBe(66);
    link("b");
    fs.appendFileSync(target("b"), text(line(7)));
    expect((await scene.run()).code).toBe(0);
    scene.expectPosted(line(7));
    await scene.expectQuiet();
  });

  test("101. the log is a link whose target rotates where it lies: its tail, then the new", async () => {
    using scene = new Scene();
    const target = join(scene.directory, "data/f2b.log");
    fs.mkdirSync(join(scene.directory, "data"));
    fs.symlinkSync(target, scene.log);
    scene.append(...lines(1, 5));
    await scene.passPosts(...lines(1, 5));
    scene.append(line(6));
    fs.renameSync(target, `${target}.1`);
    scene.append(line(7));
    await scene.passPosts(...lines(6, 7));
  });

  test("102. the log is a FIFO, a folder, a socket or a device: 66 at once, one line", async () => {
    using scene = new Scene();
    const listener = createServer();
    const kinds: Record<string, () => unknown> = {
      fifo: () => void Bun.spawnSync(["mkfifo", scene.log]),
      folder: () => fs.mkdirSync(scene.log),
      zero: () => fs.symlinkSync("/dev/zero", scene.log),
      full: () => fs.symlinkSync("/dev/full", scene.log),
      loop: () => fs.symlinkSync(scene.log, scene.log),
      socket: () => listener.listen(scene.log),
    };
    for (const [name, make] of Object.entries(kinds)) {
      make();
      await until(() => fs.lstatSync(scene.log, { throwIfNoEntry: false }) !== undefined);
      const { code, out, err } = runAlone(scene);
      expect([name, code, out]).toEqual([name, 66, ""]);
      expect(err).toMatch(/^f2b-watch: cannot read .*\nhint: .*--log names it\n$/);
      fs.rmSync(scene.log, { recursive: true });
      fs.rmSync(scene.state, { recursive: true });
    }
    listener.close();
  });

  test("102. the log becomes a FIFO after a good run: 66, said once; the state is kept", async () => {
    using scene = await Scene.after(1, 5);
    fs.renameSync(scene.log, scene.path(".kept"));
    Bun.spawnSync(["mkfifo", scene.log]);
    const putBack = () => {
      fs.renameSync(scene.path(".kept"), scene.log);
      scene.append(line(6));
    };
    await expectUnreadUntil(scene, /^f2b-watch: .*\nhint: .*\n$/, putBack, line(6));
  });
});

describe("siblings that somebody else put there", () => {
  const SECRET = "root:$6$secret$hash:19000:0:99999:7:::";

  /** The log's own line 6 is lost; `place` puts something under the name that it would have. */
  async function expectLeftOut(suffix: string, place: (scene: Scene, path: string) => unknown) {
    using scene = await Scene.after(1, 5);
    scene.append(line(6));
    const old = scene.read();
    scene.remove();
    const outside = join(scene.directory, "outside");
    fs.writeFileSync(outside, old + text(SECRET), { mode: 0o600 });
    place(scene, scene.path(suffix));
    scene.append(line(7));
    await scene.passPostsAfterGap(5, line(7));
    expect(scene.notices()[0]).toContain(`fail2ban.log${suffix} (`);
    expect(JSON.stringify(scene.discord.messages)).not.toContain("secret");
  }

  const ofOtherOwner = (scene: Scene, path: string) => {
    fs.copyFileSync(join(scene.directory, "outside"), path);
    fs.chownSync(path, 1234, 1234);
  };
  const PUT: [what: string, (scene: Scene, path: string) => unknown][] = [
    ["a link", (scene, path) => fs.symlinkSync(join(scene.directory, "outside"), path)],
    ["a FIFO", (_, path) => Bun.spawnSync(["mkfifo", path])],
    ["a folder", (_, path) => fs.mkdirSync(path)],
    ["a file of another owner", ofOtherOwner],
  ];
  for (const suffix of [".1", "-20261122", ".2.gz"]) {
    for (const [what, put] of PUT) {
      const testIt = test.skipIf(put === ofOtherOwner && !isRoot);
      testIt(`${what} named ${suffix} is not read`, () => expectLeftOut(suffix, put));
    }
  }

  test("a device named .1 is not read", async () => {
    await expectLeftOut(".1", (_, path) => fs.symlinkSync("/dev/zero", path));
  });

  test.skipIf(!isRoot)("files of the log's owner, and of root, are read", async () => {
    for (const owner of [1234, 0]) {
      using scene = await Scene.after(1, 5);
      scene.append(line(6));
      scene.rotate();
      scene.append(line(7));
      fs.chownSync(scene.log, 1234, 1234);
      fs.chownSync(scene.path(".1"), owner, owner);
      await scene.passPosts(...lines(6, 7));
    }
  });

  test("what stands under the siblings' names does not keep a first run from its log", async () => {
    using scene = new Scene();
    Bun.spawnSync(["mkfifo", scene.path(".1"), scene.path(".2.gz")]);
    fs.symlinkSync("/dev/zero", scene.path(".3"));
    fs.mkdirSync(scene.path(".4.gz"));
    scene.write("not gzip", ".5.gz");
    scene.append(...lines(1, 3));
    await scene.passPosts(...lines(1, 3));
  });
});

describe("the clock proves nothing", () => {
  test("103. the clock goes back an hour, jumps to 2038, and back: no effect on what is posted", async () => {
    using scene = await Scene.after(1, 5);
    scene.wait(-3_600_000);
    scene.append(line(6));
    await scene.passPosts(line(6));
    scene.wait(12 * 365 * 86_400_000);
    scene.append(line(7));
    scene.rotate();
    scene.append(line(8));
    await scene.passPosts(...lines(7, 8));
    scene.wait(-12 * 365 * 86_400_000);
    scene.append(line(9));
    await scene.pass();
    expect(scene.newlyPosted()).toEqual([line(9)]);
    await scene.expectQuiet();
  });

  test("103. another time zone between runs: no effect on what is posted", async () => {
    using scene = await Scene.after(1, 5);
    const zone = process.env["TZ"];
    try {
      for (const [index, name] of ["Pacific/Kiritimati", "America/Los_Angeles"].entries()) {
        process.env["TZ"] = name;
        scene.append(line(6 + 2 * index));
        scene.rotateByDate(`2026112${index}`);
        scene.append(line(7 + 2 * index));
        await scene.passPosts(...lines(6 + 2 * index, 7 + 2 * index));
      }
    } finally {
      if (zone === undefined) delete process.env["TZ"];
      else process.env["TZ"] = zone;
    }
  });
});

/**
 * Files, the oldest first, and what is read of each, with `…` where it is not left. `at`, `last`, `lines` and
 * `guess` say what shows up to where a file was sent, `done` what is known of it, `size` is 1000.
 */
const PLANS: Record<string, string> = {
  "goes on in the live log": "log.1:done=1000 log:at=500 → read log 500…",
  "prefers the live log to a copy": "log.1:at=500,copy log:at=500 → read log 500…",
  "reads the rest of a rotated file, each younger one, then the live log":
    "log.3:at=500 log.2 log.1 log → read log.3 500, log.2 0, log.1 0, log 0…",
  "reads what lies beside it, whatever its name":
    "log-1 log.1:at=500 log → read log-1 0, log.1 500, log 0…",
  "stays on the old file until the new one has a line": "log.1:at=500 log:size=0 → read log.1 500…",
  "stays on the old file while there is no new one": "log.1:at=500 → read log.1 500…",
  "stays on the youngest": "log.2:at=500 log.1 log:size=0 → read log.2 500, log.1 0…",
  "skips copies and files that were read before, but for what was written to them since":
    "log.4:at=500 log.3:done=900 log.2:copy log.1:done=1000 log → read log.4 500, log.3 900, log 0…",
  "skips what ends before the oldest known line":
    "log.2:stale log.1:at=500 log → read log.1 500, log 0…",
  "finds the last line in a log that was trimmed": "log.1:done=1000 log:last=200 → read log 200…",
  "finds the last line in a rotated file that was trimmed":
    "log.1:last=200 log → read log.1 200, log 0…",
  "goes on behind an earlier line, with a notice": "log:lines=300 → gap goes on log 300…",
  "reads nothing again of an old log that was put back":
    "log.1:at=500 log:lines=300 → read log.1 500, log 300…",
  "does not believe one line that was written before":
    "log.1:at=500 log:guess=300 → read log.1 500, log 0…",
  "reads nothing again of a file that was moved back": "log:done=800 → gap log 800…",
  "reads what is not known to be done, oldest first, when the position is lost":
    "log.5:done=300 log.3:copy log.2:done=1000 log.1 log → gap log.5 300, log.1 0, log 0…",
  "reads what is not known to be done, without a position":
    "nowhere log.2:done=1000 log.1 log → read log.1 0, log 0…",
  "reads nothing of nothing": "nowhere → read ",
};

describe("planRead()", () => {
  const PROOFS = { at: "position", last: "last line", lines: "lines", guess: "guess" } as const;

  function fileOf(word: string) {
    const [name = "", facts = ""] = word.split(":");
    const said = new Map(
      facts.split(",").map((fact) => {
        const [key = "", value = ""] = fact.split("=");
        return [key, value];
      }),
    );
    const size = Number(said.get("size") ?? 1_000);
    const proof = (["at", "last", "lines", "guess"] as const).find((each) => said.has(each));
    return {
      ...{ name, isLive: name === "log", size, firstTime: "" },
      hasLine: () => name === "log" && size > 0,
      found: () => proof && { offset: Number(said.get(proof)), by: PROOFS[proof] },
      finishedAt: () => Number(said.get("done") ?? 0),
      isCopyIn: () => said.has("copy"),
      isStale: () => said.has("stale"),
      overlap: () => 0,
    };
  }

  test.each(Object.entries(PLANS))("%s", (_, history) => {
    const [given = "", expected] = history.split("→ ");
    const words = given.trim().split(" ");
    const isLost = words[0] === "nowhere" && words.shift();
    const progress = { total: 0, finished: [], gap: false, ...(isLost ? {} : { cursor: {} }) };
    const plan = planRead(
      ...([progress, words.map(fileOf)] as unknown as Parameters<typeof planRead>),
    );
    const read = plan.segments.map(
      ({ file, from, leave }) => `${file.name} ${from}${leave ? "" : "…"}`,
    );
    const kind = (plan.isGap ? "gap" : "read") + (plan.goesOn ? " goes on" : "");
    expect(`${kind} ${read.join(", ")}`).toBe(expected ?? "");
  });
});
