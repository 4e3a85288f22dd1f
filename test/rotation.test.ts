/** What happens to a log between two runs: every line once, in order, never again. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { line, lines, Scene, systemError, testWith } from "./harness.ts";
import { addSlack } from "./slack.ts";

setDefaultTimeout(60_000);

// ── Histories, word by word ─────────────────────────────────────────────────────────────────────

/**
 * Five lines were posted; `new`: nothing was. Numbers are lines; `6<` and `6>` are parts of one, `6<<` and
 * `6>>` such that are cut in its time, `6!` is another one in its place. A file is named by what it has behind the log's name, or by `/` and its own.
 *   +6-8 .1+6        lines are written to the log, to another file
 *   =6-8 = gap5=6-8  a run posts these, none, these behind a notice after line 5; the next run none
 *   rotate move      numbers go up, and the log is made anew or not; `rotate-20261122`: by that name
 *   truncate         copied to .1 and emptied; `hole`: and as long as it was, with NULs
 *   keep=6-8 cut=50 tail=50 empty   rewritten in place: these lines, the first or last bytes, nothing
 *   copy.1 link.1 back.1 rm.1 gz.1 zst.1   the log copied, linked, replaced by a file; removed, packed
 *   nul=9 bom junk.1 bytes that are no text: NULs, a byte order mark, something that is not packed
 *   mtime.1=9 chmod=600 dev inode timeless  what proves nothing: times, modes, numbers of devices and inodes
 *   longer equal     how long the log is now, beside what it was at the last run
 */
class Story extends Scene {
  #size = 0;
  #sizeAtRun = 0;
  #inodeAtRun = 0;
  #lastPosted = "";

  /** Lines as they are written, or as they are posted. */
  #texts(ranges: string, isPosted: boolean): string[] {
    return ranges.split(",").flatMap((range) => {
      const [, from, to = from, mark] = /^(\d+)(?:-(\d+))?(<<?|>>?|!)?$/.exec(range) ?? [];
      const all = from ? lines(Number(from), Number(to)) : [];
      const [first = ""] = all;
      if (mark === "<") return `${first.slice(0, 40)}${isPosted ? "…" : ""}`;
      if (mark === "<<") return first.slice(0, 14);
      if (mark === ">>") return `${first.slice(14)}\n`;
      if (mark === ">") return `${first.slice(40)}\n`;
      const whole = mark === "!" ? [`${first} edited`] : all;
      return isPosted ? whole : whole.map((each) => `${each}\n`);
    });
  }

  #pathOf(suffix: string): string {
    return suffix.startsWith("/") ? join(this.directory, suffix) : this.path(suffix);
  }

  /** From now on every file looks like this. */
  #pretend(changes: Partial<fs.Stats>): void {
    const alike = (stat: fs.Stats | undefined) => stat && Object.assign(stat, changes);
    const options = { throwIfNoEntry: false } as const;
    this.withFs({
      fstatSync: ((descriptor: number) => alike(fs.fstatSync(descriptor))) as typeof fs.fstatSync,
      statSync: ((path: string) => alike(fs.statSync(path, options))) as typeof fs.statSync,
      lstatSync: ((path: string) => alike(fs.lstatSync(path, options))) as typeof fs.lstatSync,
    });
  }

  async act(word: string): Promise<void> {
    const [, verb = "", count, suffix = "", , value = ""] =
      /^([a-z]*)(\d*)([./_~-][^+=]*)?(?:([+=])(.*))?$/.exec(word) ?? [];
    const [path, log] = [this.#pathOf(suffix), this.log];
    const number = Number(value);
    const posts = () => this.#texts(value, true);
    const size = () => fs.statSync(log).size;
    const verbs: Record<string, () => unknown> = {
      new: () => undefined,
      gap: async () => {
        await this.passPostsAfterGap(Number(count), ...posts());
        expect(this.notices().at(-1)).toContain(this.#lastPosted.slice(0, 19));
      },
      move: () => this.rotate({ create: false }),
      rotate: () => {
        if (suffix === "") return this.rotate({ keep: number || 9 });
        fs.mkdirSync(dirname(path), { recursive: true });
        fs.renameSync(log, path);
        this.append();
      },
      truncate: () => ((this.#size = size()), this.copytruncate()),
      hole: () => fs.truncateSync(log, this.#size),
      keep: () => fs.writeFileSync(log, this.#texts(value, false).join("")),
      cut: () => fs.truncateSync(log, number),
      tail: () => fs.writeFileSync(log, this.read().slice(-number)),
      empty: () => fs.truncateSync(log, 0),
      copy: () => fs.copyFileSync(log, path),
      link: () => fs.linkSync(log, path),
      back: () => fs.renameSync(path, log),
      rm: () => fs.rmSync(path),
      gz: () => this.compress(suffix, "gz"),
      zst: () => this.compress(suffix, "zst"),
      nul: () => this.write(new Uint8Array(number)),
      bom: () => this.write("\ufeff"),
      junk: () => fs.writeFileSync(path, "this is not packed\n"),
      mtime: () => fs.utimesSync(path, number, number),
      chmod: () => fs.chmodSync(path, parseInt(value, 8)),
      dev: () => this.#pretend({ dev: 4711 }),
      inode: () => this.#pretend({ ino: this.#inodeAtRun }),
      timeless: () => this.#pretend({ birthtimeMs: 0, mtimeMs: 0, ctimeMs: 0, atimeMs: 0 }),
      longer: () => expect(size()).toBeGreaterThan(this.#sizeAtRun),
      equal: () => expect(size()).toBe(this.#sizeAtRun),
    };
    const act = verbs[verb];
    if (act) await act();
    else if (word.includes("+"))
      fs.appendFileSync(path, this.#texts(value, false).join(""), { mode: 0o640 });
    else if (word.startsWith("=")) await this.passPosts(...posts());
    else throw new Error(`no word: ${word}`);
    if (!/^(?:gap|=)/.test(word)) return;
    const stat = fs.statSync(log, { throwIfNoEntry: false });
    [this.#sizeAtRun, this.#inodeAtRun] = [stat?.size ?? 0, stat?.ino ?? 0];
    this.#lastPosted = posts().at(-1) ?? this.#lastPosted;
  }

  static async play(history: string): Promise<void> {
    using story = new Story();
    const before = history.startsWith("new ") ? "" : "+1-5 =1-5 ";
    for (const word of `${before}${history}`.split(" ")) await story.act(word);
  }
}

const HEAD = "1-30,200-235";
/** Numbers are those of the scenarios of a study of log readers. */
const HISTORIES: Record<string, string> = {
  "1. rotated files from before": "new .2+101-105 gz.2 .1+106-109 +1-3 =1-3 +4 rotate +5 =4-5",
  "3. 5 lines, 3 more, none": "+6-8 =6-8 =",
  "4. empty at the first run, then 3 lines": "new + = +1-3 =1-3",
  "5. empty at the first run, grows, rotates": "new .1+101-105 + = +1-3 rotate +4-5 =1-5",
  "7. touched, other modes": "mtime=2208988800 = mtime=0 = chmod=600 = +6 =6",
  "9. unread tail in .1, new file shorter": "+6-8 rotate +9-10 =6-10",
  "10. unread tail in .1, new file longer": "+6-8 rotate +9-37 longer =6-37",
  "11. unread tail in .1, new file empty": "+6 rotate =6 +7 =7",
  "12. the flushlogs window: the old file still grows": "+6 rotate =6 .1+7-8 +9-10 =7-10",
  "12. the same, all was sent": "rotate = .1+6-7 +8-9 =6-9",
  "12. a line is completed in the old file": "rotate .1+6< = .1+6> =6",
  "14. two rotations": "+6-8 rotate +9-12 rotate +13-14 =6-14",
  "14. two rotations, the newer log empty": "+6 rotate +7 rotate =6-7 +8 =8",
  "15. four rotations, the older files compressed":
    "+6 rotate +7 rotate gz.2 +8 rotate gz.2 +9 rotate gz.2 +10 =6-10",
  "16. more rotations than are kept":
    "+6 rotate=2 +7 rotate=2 +8 rotate=2 +9 rotate=2 +10 gap5=8-10",
  "16. what was read in full is not posted again": "rotate +6-8 =6-8 rm +9-10 gap3=9-10",
  "17. log missing at one run, back later": "+6 move =6 = +7 =7",
  "21. a partial line is completed and rotated": "+6< = +6> rotate +7-8 =6-8",
  "22. .1 ends without a line end for good": "+6< rotate = +7-8 =6<,7-8 rotate gz.2 +9 =9",
  "22. the same, compressed before it is left": "+6 +7< rotate =6 gz.1 +8 =7<,8",
  "23. rotated into another folder": "+6-7 rotate/old/fail2ban.log.1 +8-9 gap5=8-9",
  "25. rotated, then moved back": "rotate +6-7 =6-7 back.1 gap2= +8 =8",
  "25. rotated, then moved back before anything new": "+6 rotate =6 back.1 = +7 =7",
  "26. other files are renamed over it": ".x+6-7 back.x gap5=6-7 .x+8-12 rm back.x gap2=8-12",
  "27. dateext": "+6-8 rotate-20261122 +9-10 =6-10",
  "27. dateext, two files": "+6 rotate-20261121 +7 rotate-20261122 +8 =6-8",
  "27. days before months": "+6-7 rotate-30112026 +8-9 rotate-07122026 +10-11 =6-11",
  "28. dateext beside a stale .1": "new .1+1-4 +11-15 =11-15 +16 rotate-20261122 +17 =16-17",
  "28. a stale .1 that comes later": "new +11-15 =11-15 .1+1-4 +16 rotate-20261122 +17 =16-17",
  "28. numbers give way to dates": "+6 rotate +7 rotate-20261122 +8 =6-8",
  "28. dates give way to numbers": "+6 rotate-20261122 +7 rotate +8 =6-8",
  "31. .1 is a copy of the live log": "copy.1 = +6 =6 rotate +7 =7",
  "31. a hard link counts once": "link.1 +6 =6",
  "31. a copy, then the log is edited": "new +1-10 =1-10 copy.bak keep=1!,2-12 =11-12",
  "31. a copy, then the log is trimmed": "new +1-10 =1-10 copy.bak keep=6-12 =11-12",
  "31. lines that stand only in a copy": "new +1-10 =1-10 +11-12 copy.1 keep=1-10,13 =11-13",
  "32. compressed at once": "+6-8 rotate gz.1 +9-10 =6-10",
  "32. compressed at once, the new log empty": "+6 rotate gz.1 =6 +7 =7",
  "33. .2.gz tail, whole .1, new": "+6-8 rotate +9-12 rotate gz.2 +13-14 =6-14",
  "35. what should be packed is not": "+6 rotate rm.1 junk.1.gz +7 gap5=7",
  "37. a plain file that is named as if packed": "+6 rotate.1.xz +7 =6-7",
  "39. copytruncate, new shorter": "+6-8 truncate +9-10 =6-10",
  "39. copytruncate, new still empty": "+6 truncate =6 +7 =7",
  "40. copytruncate, new longer": "+6 truncate +7-27 longer =6-27",
  "41. copytruncate, new exactly as long": "new +11-15 =11-15 +16 truncate +17-21 equal =16-21",
  "42. copytruncate, all was sent, new longer": "truncate +6-15 longer =6-15",
  "42. copytruncate, all was sent, as long": "new +11-15 =11-15 truncate +16-20 equal =16-20",
  "43. copytruncate twice": "+6 truncate +7 truncate +8 =6-8",
  "44. sent to its end and emptied, each hour": "empty +6-7 =6-7 empty +8 =8 empty +9 =9",
  "45. cut, and the first piece of a new line": "keep=1-4,6<< gap5= +6>> =6",
  "46. head trimmed": "new +1-2000 =1-2000 keep=1001-2000 = +2001-2002 =2001-2002",
  "46. head trimmed down to the last line": "new +1-20 =1-20 keep=20-22 =21-22",
  "46. head trimmed in mid-line": "new +1-20 =1-20 tail=1000 +21 =21",
  "46. head trimmed, then rotated": "new +1-20 =1-20 keep=16-21 rotate +22 =21-22",
  "47. copied back by sed -i": "copy.new back.new = +6-7 =6-7",
  "48. the same first line, rotated": "rotate +1,6-15 =1,6-15",
  "48. the same first line, copytruncate": "truncate +1,6-26 =1,6-26",
  "50. other, longer content in the same inode": "keep=6-26 =6-26",
  "51. copytruncate under a writer that leaves a hole": "+6-7 truncate hole +8-9 =6-9",
  "52. a block of NULs": "+6 nul=4096 +7 =6-7 nul=100 = +8 =8 rotate +9 =9",
  "54. made anew with the same inode, longer": "new +11-15 =11-15 rm +16-36 inode gap5=16-36",
  "55. made anew with the same inode, as long":
    "new +11-15 =11-15 rm +16-20 inode equal gap5=16-20",
  "57. another device number after a remount": "dev = +6 =6",
  "57. another device number while a rotated file is held": "rotate = dev = .1+6 +7 =6-7",
  "58. no times": "timeless +6 rotate +7 =6-7 truncate +8 =8",
  "56. rotate 1": "+6 rotate=1 +7 =6-7 +8 rotate=1 +9 =8-9 +10 rotate=1 +11 =10-11",
  "59. a partial last line waits": "+6< = +6> =6",
  "60. the first line of a new file is partial": "+6 rotate +7< =6 +7> =7",
  "60. the first line of the first run is partial": "new +1< = +1> =1",
  "63. byte order marks": "new bom +1-3 =1-3 +4 rotate bom +5 =4-5",
  "104. times of the rotated files are shuffled":
    "+6 rotate +7 rotate +8 rotate +9 rotate +10 mtime.1=1e9 mtime.2=2e9 mtime.3=5e8 mtime.4=15e8 =6-10",
  "the log is back at its first 40 lines": "new +1-60 =1-60 keep=1-40,61-65 gap60=61-65",
  "the last 3 lines are lost": "new +1-30 =1-30 keep=1-27,61-70 gap30=61-70",
  "the last line is deleted": "new +1-10 =1-10 keep=1-9,61-63 gap10=61-63",
  "the last line is edited": "new +1-10 =1-10 keep=1-9,10!,61-63 gap10=61-63",
  "the last two lines are edited": "new +1-10 =1-10 keep=1-8,9!,10!,61 gap10=61",
};
for (const bytes of [50, 94, 188, 192, 197, 205, 300])
  HISTORIES[`45. cut to ${bytes}`] = `cut=${bytes} gap5= +6 =6`;
for (const how of ["rotate", "truncate"]) {
  HISTORIES[`49. 2 KiB the same, ${how}, shorter`] =
    `new +1-60 =1-60 +61 ${how} +${HEAD} =61,${HEAD}`;
  HISTORIES[`49. 2 KiB the same, ${how}, longer`] =
    `new +1-60 =1-60 +61 ${how} +${HEAD},236-290 longer =61,${HEAD},236-290`;
}
for (const name of [
  ...["log-202611", "log-2026-11", "log_20261122", "1.log", "log.old", "log.1.1"],
  "-20261122.log",
])
  HISTORIES[`an unread tail in ${name}`] =
    `+6-7 rotate/fail2ban${name.startsWith("-") ? "" : "."}${name} +8-9 =6-9`;
for (const [older, younger] of [
  ["-2026112209", "-2026112210"],
  ["-1795338000", "-1795341600"],
  [".2026-11-21", ".2026-11-22"],
  ["-20261122-090000", "-20261122-100000"],
  ["-20261122", "-20261122-1"],
  [".10", ".9"],
])
  HISTORIES[`29. ${older} is older than ${younger}`] = `+6 rotate${older} ${younger}+7 +8 =6-8`;

test.each(Object.entries(HISTORIES))("%s", (_, history) => Story.play(history));

test.each(Object.entries(HISTORIES).filter(([, history]) => history.includes("gz.")))(
  "%s, by zstd",
  (_, history) => Story.play(history.replaceAll("gz.", "zst.")),
);

test("53. 50 truncations, growing content, the inode constant", async () => {
  const rounds = Array.from({ length: 50 }, (_, round) => {
    const first = 6 + (round * (round + 3)) / 2;
    return `empty +${first}-${first + round + 1} =${first}-${first + round + 1}`;
  });
  await Story.play(rounds.join(" "));
});

// ── What the words do not say ───────────────────────────────────────────────────────────────────

test("a log of 20,000 lines is back at 12,345 of them", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 20_000));
  expect((await scene.run("--max-time", "86400")).code).toBe(0);
  scene.newlyPosted();
  fs.writeFileSync(scene.log, "");
  scene.append(...lines(1, 12_345), ...lines(20_001, 20_005));
  await scene.passPostsAfterGap(20_000, ...lines(20_001, 20_005));
});

test("another log beside it, fail2ban-other.log, is no rotated form of it", async () => {
  using scene = await Scene.after(1, 5);
  const other = join(scene.directory, "fail2ban-other.log");
  fs.writeFileSync(other, `${line(2, "other")}\n${line(4, "other")}\n`);
  scene.append(...lines(6, 7));
  await scene.passPosts(...lines(6, 7));
  fs.appendFileSync(other, `${line(9, "other")}\n`);
  scene.append(line(10));
  await scene.passPosts(line(10));
});

for (const [program, ending] of Object.entries({ xz: "xz", bzip2: "bz2" })) {
  testWith(program)(`three rotations, each compressed at once by ${program}`, async () => {
    using scene = await Scene.after(1, 5);
    for (let number = 6; number <= 8; number++) {
      scene.append(line(number));
      scene.rotateByDate(`2026112${number}`);
      expect(spawnSync(program, [scene.path(`-2026112${number}`)]).status).toBe(0);
      expect(fs.existsSync(scene.path(`-2026112${number}.${ending}`))).toBe(true);
    }
    scene.append(line(9));
    await scene.passPosts(...lines(6, 9));
  });
}

test("a log that packs 300 to 1 is unpacked as far as it goes", async () => {
  using scene = new Scene();
  scene.append(...Array.from({ length: 80_000 }, () => line(1)));
  expect((await scene.run("--from", "end")).code).toBe(0);
  scene.append(line(2));
  scene.rotate();
  scene.compress(".1", "zst");
  scene.append(line(3));
  await scene.passPosts(...lines(2, 3));
});

test("a damaged .1.gz beside an empty log is told once", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 400));
  scene.rotate();
  scene.compress(".1");
  fs.truncateSync(scene.path(".1.gz"), fs.statSync(scene.path(".1.gz")).size >> 1);
  for (let runs = 0; runs < 4; runs++) expect((await scene.run()).code).toBe(0);
  expect(scene.notices().filter((each) => each.includes("damaged"))).toHaveLength(1);
});

test("the destination is down from the first run on, and the log is rotated away: told", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 5));
  scene.discord.failAlways({ kind: "refused" });
  expect((await scene.run()).code).toBe(75);
  scene.discord.failAlways(undefined);
  scene.remove();
  scene.append(...lines(6, 7));
  scene.wait(3_600_000);
  expect((await scene.run()).code).toBe(0);
  scene.expectPosted(...lines(6, 7));
  expect(scene.notices()).toEqual([expect.stringContaining("may be missing after line 0")]);
});

test.each([".7.xz", "-20240101.xz", "-20240101.bz2"])(
  "an old %s that cannot be read is nobody's business: no rotation is a gap",
  async (stale) => {
    using scene = await Scene.after(1, 5);
    fs.writeFileSync(scene.path(stale), "not for us\n");
    for (let number = 6; number <= 8; number++) {
      scene.rotate();
      scene.append(line(number));
      await scene.passPosts(line(number));
    }
  },
);

// ── While it is looked at ───────────────────────────────────────────────────────────────────────

/** Before each listing of the log's folder. */
function beforeListings(scene: Scene, event: (listing: number) => void): void {
  let listings = 0;
  scene.beforeCalls("readdirSync", () => event(++listings));
}

test.each([1, 2, 3])("rotations before one of the listings of siblings: %d", async (rotations) => {
  for (let struck = 1; struck <= 5; struck++) {
    using scene = await Scene.after(1, 5);
    scene.append(line(6));
    scene.rotate();
    scene.append(line(7));
    let last = 7;
    beforeListings(scene, (listing) => {
      if (listing !== struck) return;
      for (let rotation = 0; rotation < rotations; rotation++) {
        scene.rotate();
        scene.append(line(++last));
      }
    });
    await scene.pass();
    delete scene.overrides.fs;
    await scene.expectOnlyPosted(...lines(6, last));
  }
});

test("a file that grows while it is looked at hides none behind it: no gap, each line once", async () => {
  using scene = await Scene.after(1, 30);
  scene.append(...lines(31, 60));
  scene.rotate();
  scene.append(...lines(61, 80));
  scene.rotate();
  scene.compress(".2");
  beforeListings(scene, (listing) => {
    if (listing <= 3) scene.write(`${line(80 + listing)}\n`, ".1");
  });
  await scene.pass();
  await scene.passPosts(...lines(31, 83));
});

/** The kernel opens no file with this ending, so many times. */
function refuseToOpen(scene: Scene, suffix: string, message: string, times = Infinity): void {
  let left = times;
  scene.beforeCalls("openSync", (path) => {
    if (String(path).endsWith(suffix) && left-- > 0) throw systemError(message);
  });
}

/** Lines 6 to 8 are in `.2`, 9 to 12 in `.1`, 13 and 14 in the log. */
async function rotatedTwice(): Promise<Scene> {
  const scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 12));
  scene.rotate();
  scene.append(...lines(13, 14));
  return scene;
}

test("a younger rotated file that cannot be opened is told, not passed over", async () => {
  using scene = await rotatedTwice();
  refuseToOpen(scene, ".1", "EIO: i/o error");
  await scene.passPostsAfterGap(5, ...lines(6, 8), ...lines(13, 14));
  expect(scene.notices()[0]).toContain("not read: fail2ban.log.1 (");
});

test("a rotated file that cannot be opened at once is opened a moment later", async () => {
  using scene = await rotatedTwice();
  refuseToOpen(scene, ".1", "EACCES: permission denied", 1);
  await scene.passPosts(...lines(6, 14));
});

test("a younger rotated file that stays closed is told once, however often another destination fails", async () => {
  using scene = new Scene();
  const slack = addSlack(scene);
  scene.append(...lines(1, 5));
  await scene.pass();
  slack.failAlways({ kind: "status", status: 500 });
  scene.append(line(6));
  scene.rotate();
  scene.append(line(7));
  scene.rotate();
  refuseToOpen(scene, ".1", "EIO: i/o error");
  for (let runs = 0; runs < 4; runs++) {
    expect((await scene.run()).code).toBe(75);
    scene.wait(20 * 60_000);
  }
  expect(scene.notices()).toHaveLength(1);
});

test("sent to its end behind a rotation, then emptied: no gap, though older lines are known in .1", async () => {
  using scene = await Scene.after(1, 5);
  scene.rotate();
  scene.append(...lines(6, 7));
  await scene.passPosts(...lines(6, 7));
  fs.truncateSync(scene.log, 0);
  scene.append(line(8));
  await scene.passPosts(line(8));
});

test("emptied by copytruncate, and its copy removed before the next line: no gap", async () => {
  using scene = await Scene.after(1, 5);
  scene.copytruncate();
  await scene.passPosts();
  scene.remove(".1");
  scene.append(line(6));
  await scene.passPosts(line(6));
});

test("a dated name of the stem is the log's, also beside a log that was put back", async () => {
  using scene = await Scene.after(1, 3);
  const before = scene.read();
  fs.truncateSync(scene.log, 0);
  scene.append(...lines(4, 6));
  fs.renameSync(scene.log, scene.log.replace(".log", "-20261122.log"));
  scene.write(before);
  await scene.passPosts(...lines(4, 6));
});

test("lines longer than what proves a line: those behind a cut are sent, and a line deleted before them is no gap", async () => {
  const long = (number: number) => `${line(number)} ${`${number} `.repeat(1_500)}`;
  using scene = new Scene();
  scene.append(...[1, 2, 3, 4, 5, 6].map(long));
  await scene.pass();
  const text = scene.read();
  fs.writeFileSync(scene.log, text.replace(`${long(3)}\n`, ""));
  scene.append(line(7));
  scene.newlyPosted();
  await scene.passPosts(line(7));
  fs.truncateSync(scene.log, text.indexOf(long(2)) + 50);
  scene.append(long(8), long(9));
  await scene.pass();
  expect(scene.newlyPosted().join(" ")).toContain(line(9));
});

test("of two equal lines, the first sent and the head trimmed since, the second is sent", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(line(5), line(6));
  fs.writeFileSync(scene.log, scene.read().split("\n").slice(4).join("\n"));
  await scene.passPosts(line(5), line(6));
});

test("two copies that begin alike, in one of them a line was deleted: that line is sent, too", async () => {
  using scene = new Scene();
  scene.append(line(1));
  await scene.passPosts(line(1));
  fs.truncateSync(scene.log, 0);
  fs.writeFileSync(
    scene.path("-20261101"),
    lines(2, 6)
      .map((each) => `${each}\n`)
      .join(""),
    { mode: 0o640 },
  );
  const others = lines(2, 6).filter((each) => each !== line(3));
  fs.writeFileSync(scene.path("-20261102"), others.map((each) => `${each}\n`).join(""), {
    mode: 0o640,
  });
  await scene.pass();
  expect(scene.newlyPosted()).toContain(line(3));
});
