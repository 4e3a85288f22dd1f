/** What is read from a log and its rotated files: every line once, in order, never again. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { fencedLines } from "./discord.ts";
import {
  line,
  lines,
  QUICK_FS,
  type RunResult,
  repository,
  Scene,
  testWith,
  systemError,
  until,
} from "./harness.ts";
import { addSlack } from "./slack.ts";

setDefaultTimeout(180_000);

const SCRIPT = join(repository, "f2b-watch.ts");
const DAY = "86400";
const MIB = 1024 * 1024;
/** Only root can give a file to somebody else. */
const isRoot = process.getuid?.() === 0;

// ── Histories, word by word ─────────────────────────────────────────────────────────────────────

/** What was cut with marks at both ends is put together again. */
function rejoined(posted: string[]): string[] {
  return posted.length > 0 ? posted.join("\n").replaceAll("…\n…", "").split("\n") : [];
}

/**
 * Five lines were posted; `new`: nothing was. Numbers are lines; `6<` and `6>` are parts of one, `6<<`
 * and `6>>` such that are cut in its time, `6!` is another one in its place, `6L` is longer than a
 * message and `6L<` a part of that; `6*9` comes nine times; `same` and `blank` are what they say. A file
 * is named by what it has behind the log's name, or by `/` and its own.
 *   +6-8 .1+6        lines are written to the log, to another file
 *   =6-8 = gap5=6-8  a run posts these, none, these behind a notice after line 5; the next run none
 *   run=6 run stop2 try  a run posts these; one is done, is stopped after 2 messages, or cannot read on
 *   lost=6 stdout=6  behind a notice that names no line; these lines are printed where no channel is set
 *   damage drop down up exit75   both copies of the state are damaged, or gone; Discord refuses, a run fails
 *   has=6 told=6 warned=why   these are among what came; a run may warn, which all of them did once
 *   end= unread=why  a first run begins at the end; the log cannot be read, which is told once, and when it can
 *   some=9 says=gone once=gone   so many lines came; the last notice says this; and one notice of all does
 *   @p2:rotate       this comes in the next run behind its second post, `c` call, `l` listing, `r` big read
 *   rotate move      numbers go up, and the log is made anew or not; `rotate-20261122`: by that name
 *   truncate         copied to .1 and emptied; `hole`: and as long as it was, with NULs
 *   keep=6-8 cut=50 tail=50 empty   rewritten in place: these lines, the first or last bytes, nothing
 *   copy.1 link.1 back.1 rm.1 gz.1 zst.1 xz.1   the log copied, linked, replaced by a file; removed, packed
 *   spoil.1=short spoil.1=wrong   the second half of the file is gone, or other bytes
 *   members.1=9 half.1 skip.1   packed in two members, cut there; half of it lies beside it; a frame to skip
 *   symlink/a ln.1   the log is a link to this, this one to `/outside`
 *   fifo zero.1 mkdir.1 nul=9 bom junk.1 zip.1   what is no file, or no text, or not packed
 *   forbid.1 forbid.1=1 eio.1 nolist broken=9 broken.1 allow   no right to open this, or once, no good disk,
 *   noxz             no listing, no reading behind this byte, of that file; all is well again; no `xz`
 *   mtime.1=9 chmod=600 chown.1=9 dev inode timeless wait=9 zone=UTC   what proves nothing
 *   longer equal     how long the log is now, beside what it was at the last run
 */
class Story extends Scene {
  /** Calls into the file system in the last run. */
  calls = 0;
  #counts: Record<string, number> = {};
  #events: { at: string; does: () => unknown }[] = [];
  #refusals: ((call: string, args: any[]) => string | false)[] = [];
  #looks: Partial<fs.Stats> = {};
  #size = 0;
  #sizeAtRun = 0;
  #inodeAtRun = 0;
  #lastPosted = "";
  #told = 0;
  #wasUnread = false;
  #warnings = "";

  constructor() {
    super();
    this.env["F2B_MAX_TIME"] = "86400";
    const real = { ...QUICK_FS } as Record<string, any>;
    for (const name of ["fstatSync", "statSync", "lstatSync"] as const)
      real[name] = (...args: [never]) => {
        const found = (fs[name] as (...args: any[]) => fs.Stats | undefined)(...args);
        return found && Object.assign(found, this.#looks);
      };
    for (const name of "openSync readSync fstatSync lstatSync readdirSync fsyncSync".split(" "))
      real[name] = this.#watched(name, real[name]);
    this.overrides.fs = real as typeof fs;
    this.overrides.fetch = async (url, init) => {
      const response = await this.discord.fetch(url, init);
      this.#happens("p");
      return response;
    };
  }

  #watched(name: string, real: (...args: any[]) => unknown) {
    return (...args: any[]) => {
      this.#happens("c");
      if (name === "readdirSync") this.#happens("l");
      if (name === "readSync" && args[3] >= 50_000) this.#happens("r");
      for (const refusal of this.#refusals) {
        const message = refusal(name, args);
        if (message) throw systemError(message);
      }
      return real(...args);
    };
  }

  #happens(cause: string): void {
    const count = (this.#counts[cause] = (this.#counts[cause] ?? 0) + 1);
    const due = this.#events.filter(({ at }) => at === cause + count);
    this.#events = this.#events.filter((event) => !due.includes(event));
    for (const { does } of due) does();
  }

  /** A run in which all happens that is due. */
  async #runs() {
    this.#counts = {};
    const result = await this.run();
    expect(this.#events).toEqual([]);
    this.calls = this.#counts["c"] ?? 0;
    return result;
  }

  /** A run that does all it should; that a log can be read again is said. */
  async #isDone(): Promise<void> {
    const says = expect.stringMatching(this.#wasUnread ? /^f2b-watch: .*\n$/ : /^$/);
    this.#wasUnread = false;
    expect(await this.#runs()).toEqual({ code: 0, out: "", err: says });
  }

  async #posts(expected: string[], gap?: string): Promise<void> {
    await this.#isDone();
    this.expectPosted(...expected);
    const notices = this.notices().slice(this.#told);
    this.#told += notices.length;
    expect(notices).toHaveLength(gap === undefined ? 0 : 1);
    const where = new RegExp(`may be missing.*${gap && ` after line ${gap}\\b`}`);
    if (gap !== undefined) expect(notices[0]).toMatch(where);
    if (gap) expect(notices[0]).toContain(this.#lastPosted.slice(0, 19));
    await this.expectQuiet();
  }

  async #cannotRead(why: string): Promise<void> {
    const err = expect.stringMatching(new RegExp(`^f2b-watch: .*${why}.*\n(hint: .*\n)?$`));
    expect(await this.#runs()).toEqual({ code: 66, out: "", err });
    for (let minute = 1; minute <= 5; minute++) {
      this.wait(60_000);
      expect(await this.#runs()).toEqual({ code: 66, out: "", err: "" });
    }
    this.#wasUnread = true;
  }

  #stateCopies(act: (path: string) => void): void {
    const path = this.stateFile();
    for (const copy of [path, `${path}.bak`]) act(copy);
  }

  /** Lines as they are written, or as they are posted. */
  #texts(ranges: string, isPosted: boolean): string[] {
    return ranges.split(",").flatMap((range) => {
      if (range === "same" || range === "blank")
        return (range === "same" ? range : "") + (isPosted ? "" : "\n");
      const [, twin, times] = /^(\d+)\*(\d+)$/.exec(range) ?? [];
      if (twin) return Array<string>(Number(times)).fill(`${line(Number(twin))}\n`);
      const [, from, to = from, mark = ""] = /^(\d+)(?:-(\d+))?(<<?|>>?|!|L<?)?$/.exec(range) ?? [];
      const all = from ? lines(Number(from), Number(to)) : [];
      const [first = ""] = all;
      const longer = (each: string) => `${each} ${each.slice(-9).repeat(800)}`;
      const end = isPosted ? "" : "\n";
      const parts: Record<string, string> = {
        "<": first.slice(0, 40) + (isPosted ? "…" : ""),
        "<<": first.slice(0, 14),
        ">>": `${first.slice(14)}\n`,
        ">": `${first.slice(40)}\n`,
        "!": `${first} edited${end}`,
        "L<": longer(first).slice(0, 5_000) + (isPosted ? "…" : ""),
      };
      if (mark === "L") return all.map((each) => longer(each) + end);
      return parts[mark] ?? all.map((each) => each + end);
    });
  }

  override newlyPosted(): string[] {
    return rejoined(super.newlyPosted());
  }

  async act(word: string): Promise<void> {
    const [, at = "", event = ""] = /^@([a-z]\d+):(.*)$/.exec(word) ?? [];
    if (at) return void this.#events.push({ at, does: () => this.act(event) });
    const [, verb = "", count = "", suffix = "", sign, value = ""] =
      /^([a-z]*)(\d*)([./_~-][^+=]*)?(?:([+=])(.*))?$/.exec(word) ?? [];
    const path = suffix.startsWith("/") ? join(this.directory, suffix) : this.path(suffix);
    const [log, number] = [this.log, Number(value)];
    const size = () => fs.statSync(log).size;
    const refuse = (call: string, message: string, holds: (args: any[]) => boolean) =>
      this.#refusals.push((name, args) => name === call && holds(args) && message);
    let times = number || Infinity;
    const opens = ([name]: any[]) => name === path && times-- > 0;
    const texts = this.#texts(value, sign === "=" && verb !== "keep");
    const verbs: Record<string, () => unknown> = {
      new: () => undefined,
      gap: () => this.#posts(texts, count),
      lost: () => this.#posts(texts, ""),
      stdout: async () => {
        const { env } = this;
        this.env = {};
        const { code, out } = await this.run();
        this.env = env;
        expect([code, out.split("\n").filter((each) => / fail2ban\./.test(each))]).toEqual([
          0,
          texts,
        ]);
      },
      damage: () => this.#stateCopies((copy) => fs.writeFileSync(copy, "")),
      drop: () => this.#stateCopies((copy) => fs.rmSync(copy)),
      down: () => this.discord.failAlways({ kind: "refused" }),
      up: () => this.discord.failAlways(undefined),
      exit: async () => {
        expect((await this.#runs()).code).toBe(Number(count));
        this.#wasUnread = true;
      },
      run: async () => {
        await this.#isDone();
        if (sign) this.expectPosted(...texts);
      },
      stop: async () => {
        const stop = new AbortController();
        this.overrides.stopping = stop.signal;
        this.#events.push({ at: `p${count}`, does: () => stop.abort() });
        await this.#runs();
        delete this.overrides.stopping;
      },
      try: async () => {
        const { code } = await this.#runs();
        expect(code).toBeOneOf([0, 66]);
        this.#wasUnread = code === 66;
      },
      end: () => this.pass("--from", "end"),
      unread: () => this.#cannotRead(value),
      has: () => {
        expect(this.newlyPosted()).toEqual(expect.arrayContaining(texts));
        this.#told = this.notices().length;
      },
      told: async () => {
        const { code, err } = await this.#runs();
        expect(code).toBe(0);
        this.expectPosted(...texts);
        this.#warnings += err;
      },
      warned: () => {
        expect(this.#warnings).toMatch(new RegExp(`^f2b-watch: .*${value}.*\n(hint: .*\n)?$`));
        this.#wasUnread = true;
      },
      some: () => expect(this.discord.lines().length).toBeGreaterThan(number),
      says: () => expect(this.notices().at(-1)).toMatch(new RegExp(value)),
      once: () => expect(this.notices().filter((each) => each.includes(value))).toHaveLength(1),
      move: () => this.rotate({ create: false }),
      rotate: () => {
        if (suffix === "") return this.rotate({ keep: number || 9 });
        fs.mkdirSync(dirname(path), { recursive: true });
        fs.renameSync(fs.realpathSync(log), path);
        this.append();
      },
      truncate: () => ((this.#size = size()), this.copytruncate()),
      hole: () => fs.truncateSync(log, this.#size),
      keep: () => fs.writeFileSync(path, texts.join("")),
      cut: () => fs.truncateSync(path, number),
      tail: () => fs.writeFileSync(log, this.read().slice(-number)),
      empty: () => fs.truncateSync(log, 0),
      copy: () => fs.copyFileSync(log, path),
      link: () => fs.linkSync(log, path),
      back: () => fs.renameSync(path, log),
      rm: () => fs.rmSync(path),
      gz: () => this.compress(suffix, "gz"),
      zst: () => this.compress(suffix, "zst"),
      xz: () => expect(spawnSync("xz", [path]).status).toBe(0),
      bzip: () => expect(spawnSync("bzip2", [path]).status).toBe(0),
      members: () => {
        const old = fs.readFileSync(path);
        const parts = [old.subarray(0, number), old.subarray(number)];
        fs.writeFileSync(`${path}.gz`, Buffer.concat(parts.map((part) => gzipSync(part))));
        this.remove(suffix);
      },
      skip: () => {
        const frame = Buffer.from("502a4d180400000000000000", "hex");
        fs.writeFileSync(path, Buffer.concat([frame, fs.readFileSync(path)]));
      },
      spoil: () => {
        const packed = fs.readFileSync(path);
        const half = packed.length >> 1;
        fs.writeFileSync(
          path,
          value === "short" ? packed.subarray(0, half) : packed.fill(0xff, half),
        );
      },
      half: () => fs.writeFileSync(`${path}.gz`, gzipSync(this.read(suffix)).subarray(0, 400)),
      symlink: () => {
        fs.rmSync(log, { force: true });
        fs.symlinkSync(path, log);
      },
      ln: () => fs.symlinkSync(join(this.directory, "outside"), path),
      fifo: () => spawnSync("mkfifo", [path]),
      zero: () => fs.symlinkSync("/dev/zero", path),
      mkdir: () => fs.mkdirSync(path),
      nul: () => this.write(new Uint8Array(number)),
      bom: () => this.write("\ufeff"),
      junk: () => fs.writeFileSync(path, "this is not packed\n"),
      zip: () => fs.writeFileSync(path, `PK\x03\x04${"\x05\n".repeat(99)}`),
      forbid: () => refuse("openSync", "EACCES: permission denied", opens),
      eio: () => refuse("openSync", "EIO: i/o error", opens),
      nolist: () => refuse("readdirSync", "EACCES: permission denied", () => true),
      broken: () => {
        const whole = suffix && fs.statSync(path).size;
        const holds = (args: any[]) => (whole ? args[3] === whole : args[4] >= number);
        refuse("readSync", "EIO: i/o error", holds);
      },
      noxz: () => {
        this.overrides.streamProgram = async function* () {
          throw systemError("ENOENT: none");
        };
      },
      allow: () => (this.#refusals = []),
      mtime: () => fs.utimesSync(path, number, number),
      chmod: () => fs.chmodSync(path, parseInt(value, 8)),
      chown: () => fs.chownSync(path, number, number),
      dev: () => (this.#looks = { dev: 4711 }),
      inode: () => (this.#looks = { ino: this.#inodeAtRun }),
      timeless: () => (this.#looks = { birthtimeMs: 0, mtimeMs: 0, ctimeMs: 0, atimeMs: 0 }),
      wait: () => this.wait(number * 1_000),
      zone: () => (process.env["TZ"] = value),
      longer: () => expect(size()).toBeGreaterThan(this.#sizeAtRun),
      equal: () => expect(size()).toBe(this.#sizeAtRun),
    };
    const act = verbs[verb];
    if (act) await act();
    else if (word.startsWith("=")) await this.#posts(texts);
    else if (verb === "" && sign === "+") {
      fs.mkdirSync(dirname(path), { recursive: true });
      fs.appendFileSync(path, texts.join(""), { mode: 0o640 });
    } else throw new Error(`no word: ${word}`);
    if (!/^(?:gap|=)/.test(word)) return;
    const stat = fs.statSync(log, { throwIfNoEntry: false });
    [this.#sizeAtRun, this.#inodeAtRun] = [stat?.size ?? 0, stat?.ino ?? 0];
    this.#lastPosted = texts.at(-1) ?? this.#lastPosted;
  }

  /** Plays a story; says how many calls into the file system its last run made. */
  static async play(history: string): Promise<number> {
    const zone = process.env["TZ"];
    using story = new Story();
    const before = history.startsWith("new ") ? "" : "+1-5 =1-5 ";
    try {
      for (const word of `${before}${history}`.split(" ")) await story.act(word);
    } finally {
      if (zone === undefined) delete process.env["TZ"];
      else process.env["TZ"] = zone;
    }
    return story.calls;
  }
}

const HEAD = "1-30,200-235";
/** Numbers are those of the scenarios of a study of log readers. */
const HISTORIES: Record<string, string> = {
  "1. no state, --from end: only what comes later": "new +1-500 end= +501-502 =501-502",
  "1. rotated files from before": "new .2+101-105 gz.2 .1+106-109 +1-3 =1-3 +4 rotate +5 =4-5",
  "2. no state, log missing": "new unread=no.such.file +1-3 =1-3",
  "3. 5 lines, 3 more, none": "+6-8 =6-8 =",
  "4. empty at the first run, then 3 lines": "new + = +1-3 =1-3",
  "5. empty at the first run, grows, rotates": "new .1+101-105 + = +1-3 rotate +4-5 =1-5",
  "6. 4000 lines, stopped after some messages": "new +1-4000 stop7 =1-4000",
  "7. touched, other modes": "mtime=2208988800 = mtime=0 = chmod=600 = +6 =6",
  "8. what is written meanwhile waits": "new +1-100 @p1:+101-200 @p2:+201-300 run=1-100 =101-300",
  "9. unread tail in .1, new file shorter": "+6-8 rotate +9-10 =6-10",
  "10. unread tail in .1, new file longer": "+6-8 rotate +9-37 longer =6-37",
  "11. unread tail in .1, new file empty": "+6 rotate =6 +7 =7",
  "12. the flushlogs window: the old file still grows": "+6 rotate =6 .1+7-8 +9-10 =7-10",
  "12. the same, all was sent": "rotate = .1+6-7 +8-9 =6-9",
  "12. a line is completed in the old file": "rotate .1+6< = .1+6> =6",
  "13. a run is stopped in the new log": "rotate = wait=70 +6-200 stop1 =6-200",
  "14. two rotations": "+6-8 rotate +9-12 rotate +13-14 =6-14",
  "14. two rotations, the newer log empty": "+6 rotate +7 rotate =6-7 +8 =8",
  "15. four, the older compressed":
    "+6 rotate +7 rotate gz.2 +8 rotate gz.2 +9 rotate gz.2 +10 =6-10",
  "16. more rotations than kept": "+6 rotate=2 +7 rotate=2 +8 rotate=2 +9 rotate=2 +10 gap5=8-10",
  "16. what was read in full is not posted again": "rotate +6-8 =6-8 rm +9-10 gap3=9-10",
  "17. log missing at one run, back later": "+6 move =6 = +7 =7",
  "18. log and .1 missing, the log is back": "copy/kept rm unread=no.such.file back/kept +6-7 =6-7",
  "18. log and .1 missing, another log comes": "rm unread=no.such.file +6-7 gap5=6-7",
  "20. rotated between two reads": "new +1-8000 @r3:rotate @r3:+8001-8002 run =1-8002",
  "21. a partial line is completed and rotated": "+6< = +6> rotate +7-8 =6-8",
  "22. .1 ends without a line end for good": "+6< rotate = +7-8 =6<,7-8 rotate gz.2 +9 =9",
  "22. the same, compressed before it is left": "+6 +7< rotate =6 gz.1 +8 =7<,8",
  "22. a fragment longer than a message": "+6L< rotate +7 stop2 =6L<,7",
  "23. rotated into another folder": "+6-7 rotate/old/fail2ban.log.1 +8-9 gap5=8-9",
  "25. rotated, then moved back": "rotate +6-7 =6-7 back.1 gap2= +8 =8",
  "25. rotated, then moved back before anything new": "+6 rotate =6 back.1 = +7 =7",
  "25. rotated before the first run, moved back, trimmed": "new +1-4 rotate = back.1 = keep=2-4 =",
  "26. other files are renamed over it": ".x+6-7 back.x gap5=6-7 .x+8-12 rm back.x gap2=8-12",
  "27. dateext": "+6-8 rotate-20261122 +9-10 =6-10",
  "27. dateext, two files": "+6 rotate-20261121 +7 rotate-20261122 +8 =6-8",
  "27. days before months": "+6-7 rotate-30112026 +8-9 rotate-07122026 +10-11 =6-11",
  "28. dateext beside a stale .1": "new .1+1-4 +11-15 =11-15 +16 rotate-20261122 +17 =16-17",
  "28. a stale .1 that comes later": "new +11-15 =11-15 .1+1-4 +16 rotate-20261122 +17 =16-17",
  "28. numbers give way to dates": "+6 rotate +7 rotate-20261122 +8 =6-8",
  "28. dates give way to numbers": "+6 rotate-20261122 +7 rotate +8 =6-8",
  "28. both, the position lost, stopped between": "rm .1+6-40 -20261122+41-42 +43 stop1 gap5=6-43",
  "30. what is no sibling is never read, also when the position is lost":
    ".bak2+101 .swp+102 .offset+103 .1.tmp+104 .1~+105 .1.bak+106 -old+107 .0x1+108 .gz+109 " +
    "/fail2ban-10.0.0.5.log+201 /fail2ban-vps123456.log+201 /fail2ban-web-2026-11.log+201 " +
    "/fail2ban-old.log+201 /xfail2ban.log.1+202 mkdir.3 +6 rotate +7 =6-7 rm +8 gap1=8",
  "31. .1 is a copy of the live log": "copy.1 = +6 =6 rotate +7 =7",
  "31. a hard link counts once": "link.1 +6 =6",
  "31. a copy, then the log is edited": "new +1-10 =1-10 copy.bak keep=1!,2-12 =11-12",
  "31. a copy, then the log is trimmed": "new +1-10 =1-10 copy.bak keep=6-12 =11-12",
  "31. a copy, then the log is cut far back": "new +1-900 =1-900 copy.bak keep=1-10 = +901 =901",
  "31. a copy from before, then trimmed": "new +1-3 copy.1 +4-12 =1-12 keep=11-12 =",
  "31. a copy of more from before": "new +1-20 copy.1 keep=1-15 down exit75 up =1-15",
  "31. two copies, the position lost": "rm .1+6-8 .2+6-8 +9 gap5=6-9",
  "31. a copy and what came behind it": "rm .1+6-8 .2+6-7 +9 gap5=6-9",
  "31. a copy and what came behind it, the other way round": "rm .1+6-7 .2+6-8 +9 gap5=6-9",
  "31. two that begin alike": "new +1 =1 empty -20261101+2-6 -20261102+2,4-6 =2-6",
  "31. two copies, trimmed":
    "new +1-9 =1-9 copy-20261101 +10-12 copy-20261102 keep=10-12 run=10-12 =",
  "31. a copy, then the log is trimmed behind its first date and rotated":
    "new +1 =1 empty +blank,blank,2-4 copy-20261101 keep=blank,2-4 rotate-20261102 gap1=blank,blank,2-4",
  "31. a line is taken out of each file":
    "new +1-40 =1-40 rotate +41-80 =41-80 keep.1=1-19,21-37 keep=41-55,57-80 = +81 =81",
  "31. a rotated file loses its last lines":
    "new +1-40 =1-40 rotate +41-80 =41-80 keep.1=1-37 = rotate +81 =81 keep.1=51-80 +82 =82",
  "31. all logs in one file, the newest first":
    "new +1-40 =1-40 rotate +41-80 =41-80 keep.all=41-80,1-40 = +81 =81",
  "31. a dated file is edited while a younger one holds the position":
    "new +1-30 =1-30 rotate-20261101 +31-60 =31-60 rotate-20261108 +61-90 =61-90 rotate-20261115 " +
    "keep-20261101=1!,2-30 +91 =91",
  "31. the last line of each file is edited":
    "new +1-30 =1-30 rotate +31-60 =31-60 rotate +61-90 =61-90 " +
    "keep.2=1-29,30! keep.1=31-59,60! keep=61-89,90!,91 gap30=91",
  "31. the log lacks a line and its end, which its copy has":
    "new + = +1-5 copy-20261101 keep=1,3 rotate-20261102 =1,3,1-5",
  "31. lines that stand only in a copy": "new +1-10 =1-10 +11-12 copy.1 keep=1-10,13 =11-13",
  "31. copied, edited, nothing sent": "new +1-4 down exit75 copy.1 keep=1-3,4! exit75 up =1-4,4!",
  "31. put back beside its packed copy": "new + = +1-5 rotate gz.1 +6-60 rotate keep=4-5 =1-60",
  "31. put back beside its unread copy": "new +1-4 rotate run .1+5 +6-60 rotate keep=1-3 =5-60 =",
  "31. put back in the middle of a long line of its copy, then rotated":
    "new +1-2 =1-2 keep=2,3-4L copy-20261101 keep=1-2 stop1 +5 rotate-20261102 run=3-4L,5",
  "31. older lines behind the same undated ones":
    "new +same,same,5-6 /kept+same,same,3-4 =same,same,5-6 rotate back/kept =same,same,3-4",
  "30. what is no text": "zip-20261128.zip = +6 rotate +7 =6-7 zip-20261129 = +8 =8",
  "32. compressed at once": "+6-8 rotate gz.1 +9-10 =6-10",
  "32. compressed at once, the new log empty": "+6 rotate gz.1 =6 +7 =7",
  "33. .2.gz tail, whole .1, new": "+6-8 rotate +9-12 rotate gz.2 +13-14 =6-14",
  "34. .1 and half of .1.gz": "+6-105 rotate half.1 +106 =6-106 rm.1.gz gz.1 =",
  "32. compressed at once by a program that is not here":
    "noxz rotate xz.1 +6 =6 rotate bzip.1 +7 =7",
  "32. the same, one line was unread": "noxz +6 rotate xz.1 +7 gap5=7 says=xz.is.not.installed",
  "32. packed by pzstd": "+6 rotate zst.1 skip.1.zst +7 =6-7",
  "34. .1 beside an older .1.gz": "+6 rotate gz.1 mtime.1.gz=17e8 +7 rotate.1 +8 =6-8",
  "35. what should be packed is not": "+6 rotate rm.1 junk.1.gz +7 gap5=7",
  "35. half of .1.gz, told once": "+6-400 rotate half.1 rm.1 run run run run once=damaged",
  "36. a log that packs 300 to 1": "new +1*80000 end= +2 rotate zst.1 +3 =2-3",
  "36. gzip of two members": "+6 rotate members.1=250 +7 =6-7",
  "37. unreadable old files": "junk.7.xz junk-20240101.bz2 rotate +6 =6 rotate +7 =7 rotate +8 =8",
  "37. a plain file that is named as if packed": "+6 rotate.1.xz +7 =6-7",
  "39. copytruncate, new shorter": "+6-8 truncate +9-10 =6-10",
  "39. copytruncate, new still empty": "+6 truncate =6 +7 =7",
  "40. copytruncate, new longer": "+6 truncate +7-27 longer =6-27",
  "41. copytruncate, new exactly as long": "new +11-15 =11-15 +16 truncate +17-21 equal =16-21",
  "42. copytruncate, all was sent, new longer": "truncate +6-15 longer =6-15",
  "42. copytruncate, all was sent, as long": "new +11-15 =11-15 truncate +16-20 equal =16-20",
  "43. copytruncate twice": "+6 truncate +7 truncate +8 =6-8",
  "44. sent to its end and emptied, each hour": "empty +6-7 =6-7 empty +8 =8 empty +9 =9",
  "44. the same, beside a copy of its first lines": "copy.1 +6-8 =6-8 empty +9 =9",
  "44. the same, beside one that was not left": "+6 rotate =6 keep=1-9 =7-9 empty = +10 =10",
  "44. emptied before a line was sent that a run had seen": "+6 down exit75 empty +7 up gap5=7",
  "44. not emptied but put back": "new +1-6 =1-6 +7-10 keep=9-10 copy.1 keep=1-4 gap6=9-10",
  "44. sent to its end, cut, emptied by copytruncate": "new +1-60 =1-60 keep=5 truncate gap60=5",
  "45. cut, and the first piece of a new line": "keep=1-4,6<< gap5= +6>> =6",
  "45. the same, right behind what the cut left": "cut=300 +6<< gap5= +6>> =6",
  "46. the last line repeats":
    "new +1,same,2,same =1,same,2,same keep=2,same,same,4,same =same,4,same",
  "46. of two equal lines the first was sent": "+5,6 keep=5,5,6 =5,6",
  "46. head trimmed": "new +1-2000 =1-2000 keep=1001-2000 = +2001-2002 =2001-2002",
  "46. head trimmed down to the last line": "new +1-20 =1-20 keep=20-22 =21-22",
  "46. head trimmed in mid-line": "new +1-20 =1-20 tail=1000 +21 =21",
  "46. head trimmed, then rotated": "new +1-20 =1-20 keep=16-21 rotate +22 =21-22",
  "47. copied back by sed -i": "copy.new back.new = +6-7 =6-7",
  "50. other, longer content in the same inode": "keep=6-26 =6-26",
  "51. copytruncate under a writer that leaves a hole": "+6-7 truncate hole +8-9 =6-9",
  "52. a block of NULs": "+6 nul=4096 +7 =6-7 nul=100 = +8 =8 rotate +9 =9",
  "54. made anew with the same inode, longer": "new +11-15 =11-15 rm +16-36 inode gap5=16-36",
  "55. anew with the same inode, as long": "new +11-15 =11-15 rm +16-20 inode equal gap5=16-20",
  "57. another device number after a remount": "dev = +6 =6",
  "57. another device number while a rotated file is held": "rotate = dev = .1+6 +7 =6-7",
  "58. no times": "timeless +6 rotate +7 =6-7 truncate +8 =8",
  "56. rotate 1": "+6 rotate=1 +7 =6-7 +8 rotate=1 +9 =8-9 +10 rotate=1 +11 =10-11",
  "59. a partial last line waits": "+6< = +6> =6",
  "60. the first line of a new file is partial": "+6 rotate +7< =6 +7> =7",
  "60. the first line of the first run is partial": "new +1< = +1> =1",
  "60. a long first line half posted, a partial last one":
    "new +1L,2 stop2 rotate .1+3< =1L,2 .1+3> =3",
  "61. empty lines count": "+blank run +blank,6 =blank,blank,6",
  "63. byte order marks": "new bom +1-3 =1-3 +4 rotate bom +5 =4-5",
  "68. an offset beyond 2^32": "cut=4294967306 +6-8 =6-8 +9 =9",
  "79. EIO in mid-file": "new +1-8000 broken=400000 unread=i/o.error some=1000 allow =1-8000",
  "79. EIO in a compressed file": "+6 rotate gz.1 +7 broken.1.gz unread=i/o.error allow =6-7",
  "98. no right to read the log": "+6-8 forbid unread=permission.denied allow =6-8",
  "99. no right to read .1": "+6 rotate +7 forbid.1 gap5=7 says=log.1.\\(permission.denied",
  "99. a younger file stays closed":
    "+6 rotate +7 rotate +8 eio.1 gap5=6,8 says=not.read:.fail2ban.log.1.\\(",
  "99. the same, a moment later it can": "+6-8 rotate +9-12 rotate +13-14 forbid.1=1 =6-14",
  "99. a file that was closed is opened when more was sent":
    "+6 rotate +7-20 forbid.1 gap5=7-20 +21-30 =21-30 allow chmod.1=600 =6",
  "99. a younger file that was closed is opened":
    "+6 rotate +7 rotate +8 forbid.1 gap5=6,8 allow chmod.1=600 =7 +9 =9",
  "100. the folder cannot be listed at the first run":
    "new nolist +1-5 =1-5 allow +6 rotate +7 =6-7 +8 rotate +9 =8-9",
  "100. the folder cannot be listed while the log rotates":
    "+6 nolist rotate +7-20 gap5=7-20 +21 =21 allow =6 rotate +22 =22",
  "100. the folder cannot be listed": "nolist +6 =6 rotate +7 gap6=7 says=cannot.be.listed",
  "101. the log is a link, which is followed, switched, lost and found":
    "new /a+1-3 symlink/a =1-3 /a+4 =4 /b+5-6 symlink/b gap4=5-6 " +
    "symlink/nowhere unread=. symlink/b /b+7 =7",
  "101. the log is a link of one name for ever":
    "new /fail2ban-20261128.log+1-3 symlink/fail2ban-20261128.log =1-3 /fail2ban-20261128.log+4 " +
    "/fail2ban-20261129.log+5 symlink/fail2ban-20261129.log =4-5",
  "101. its target rotates": "new /d/a.log+1-5 symlink/d/a.log =1-5 +6 rotate/d/a.log.1 +7 =6-7",
  "102. the log becomes a FIFO": "copy/kept rm fifo unread=. back/kept +6 =6",
  "102. siblings by name": "new fifo.1 fifo.2.gz zero.3 mkdir.4.gz junk.5.gz +1-3 =1-3",
  "103. the clock jumps": "wait=-3600 +6 =6 wait=378432000 +7 rotate +8 =7-8 wait=-378432000 +9 =9",
  "103. another time zone":
    "zone=Pacific/Kiritimati +6 rotate-20261120 +7 =6-7 zone=America/Los_Angeles +8 rotate-20261121 +9 =8-9",
  "104. shuffled times":
    "+6 rotate +7 rotate +8 rotate +9 mtime.1=2e9 mtime.2=5e8 mtime.3=15e8 =6-9",
  "the log is back at its first 40 lines": "new +1-60 =1-60 keep=1-40,61-65 gap60=61-65",
  "the last 3 lines are lost": "new +1-30 =1-30 keep=1-27,61-70 gap30=61-70",
  "the last 3 lines are lost, the clock is behind":
    "new +11-40 =11-40 keep=11-37,1-5 gap30=1-5 +6 =6",
  "the last line is deleted": "new +1-10 =1-10 keep=1-9,61-63 gap10=61-63",
  "the last line is edited": "new +1-10 =1-10 keep=1-9,10!,61-63 gap10=61-63",
  "the last two lines are edited": "new +1-10 =1-10 keep=1-8,9!,10!,61 gap10=61",
  "84. state damaged: rotated files first": "+6-8 rotate +9-10 rotate gz.2 +11-12 damage lost=1-12",
  "84. the state damaged while Discord is down": "+6-8 damage down exit75 up lost=1-8",
  "88. the state deleted: a first run": "+6-8 drop =1-8 +9 =9",
  "88. the state deleted: a first run from the end": "+6-8 drop end= +9 =9",
  "positions of their own":
    "+6-8 =6-8 stdout= +9 rotate +10 =9-10 +11 rotate gz.2 +12 stdout=9-12 =11-12",
  "one added later begins where the furthest stands": "+6 =6 +7 rotate stdout=7 +8 stdout=8",
  "one that is added behind a first run from the end": "new +1-5 end= stdout= +6 stdout=6 =6",
  "down from the first run, the log goes": "new +1-5 down exit75 up rm +6-7 wait=3600 gap0=6-7",
  "20,000 lines, back at 12,345":
    "new +1-20000 =1-20000 keep=1-12345,20001-20005 gap20000=20001-20005",
  "another log beside it, rotated at the same time":
    "new +1-2 =1-2 rotate + /fail2ban-web.log+3! /fail2ban-web.log.old+4! /fail2ban-web.log.1+4! = +5 =5",
  "another log beside it": "/fail2ban-other.log+2!,4! +6-7 =6-7 /fail2ban-other.log+9! +10 =10",
  "any name of the log's stem": "+6 rotate/fail2ban-archived.log +7 =6-7",
  "a name that tells nothing, younger than the log": "empty +6-9 rotate.old keep=1-5 = +10 =6-10",
  "two of them, beside another log":
    "/fail2ban-other.log+2!,9! +6 rotate/fail2ban-a.log +7 rotate/fail2ban_b.log +8 =6-8",
  "one grows meanwhile": "+6-60 rotate +61-80 rotate gz.2 @l1:.1+81 @l2:.1+82 @l3:.1+83 run =6-83",
  "of lines longer than what proves a line one is deleted, later the log is cut":
    "new +1-6L =1-6L keep=1-2L,4-6L,7 =7 keep=1L,2< +8-9L run has=9L",
  "sent to its end behind a rotation, then emptied": "rotate +6-7 =6-7 empty +8 =8",
  "emptied by copytruncate, and its copy removed": "truncate = rm.1 +6 =6",
  "a dated name, an older log put back":
    "copy/kept empty +6-8 rotate/fail2ban-20261122.log back/kept =6-8",
};
for (const apart of ["", "wait=60 "])
  HISTORIES[`13. no flushlogs: the old file is read while it grows, with one warning ${apart}`] =
    `rotate ${[6, 7, 8, 9, 10, 11, 12].map((each) => `.1+${each} told=${each} ${apart}`).join("")}` +
    "warned=still.writes.to.*log\\.1 +16-17 =16-17";
for (const bytes of [50, 94, 188, 192, 197, 205, 300])
  HISTORIES[`45. cut to ${bytes}`] = `cut=${bytes} gap5= +6 =6`;
for (const how of ["short", "wrong"])
  for (const form of ["gz", "zst"])
    HISTORIES[
      `35. only a .${form} is left, ${how}: a notice, what can be unpacked, the new lines`
    ] =
      `+6-4000 rotate ${form}.1 spoil.1.${form}=${how} +4001-4002 run says=fail2ban.log.1.${form} ` +
      "has=6-505,4001-4002 =";
/** A new one each hour, for weeks; after the first 70 the runs stop for a while. */
const HOURLY = Array.from(
  { length: 460 },
  (_, at) => `+${at + 2} rotate-${2026110100 + at}${at < 70 ? ` =${at + 2}` : ""}`,
);
HISTORIES["29. 460 rotated files"] =
  `new +1 =1 ${HOURLY.join(" ")} =72-461 +462 rotate-2026120100 +463 rotate-2026120101 +464 =462-464`;
for (const how of ["rotate", "truncate"]) {
  HISTORIES[`48. the same first line, ${how}`] = `${how} +1,6-26 =1,6-26`;
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
for (const program of ["rotate", "rotate gz.1", "truncate"])
  for (let post = 1; post <= 5; post++)
    HISTORIES[`77. ${program} behind post ${post}: old lines once, then the new`] =
      `new +1-100 ${program.replace(/\S+/g, `@p${post}:$&`)} @p${post}:+101-102 run =1-102`;
HISTORIES["77. truncate behind a post, the new log longer"] =
  "new +1-100 @p2:truncate @p2:+101-300 run =1-300";
for (const rotation of ["", " rotate", " truncate", " rotate gz.1"]) {
  HISTORIES[`65. the first line is long and half posted, then${rotation}`] =
    `new +1L,2 stop2${rotation} +3 =1L,2,3`;
  HISTORIES[`65. line 6 is long and half posted, then${rotation}`] =
    `+6L,7 stop2${rotation} +8 =6L,7,8`;
}
for (let post = 1; post <= 4; post++)
  HISTORIES[`what was sent stays so when nothing can be read behind post ${post} of a chain`] =
    `+6-40 rotate +41-80 rotate gz.2 +81-120 @p${post}:broken=0 try allow =6-120`;
for (let rotations = 1; rotations <= 3; rotations++)
  for (let listing = 1; listing <= 4; listing++) {
    const strikes = lines(8, 7 + rotations).map(
      (_, at) => `@l${listing}:rotate @l${listing}:+${8 + at}`,
    );
    HISTORIES[`${rotations} rotations before listing ${listing}`] =
      `+6 rotate +7 ${strikes.join(" ")} run =6-${7 + rotations}`;
  }
const OTHERS = ["rm ln", "rm fifo", "rm mkdir", "rm zero", ...(isRoot ? ["rotate@ chown"] : [])];
for (const suffix of [".1", "-20261122", ".2.gz"])
  for (const put of OTHERS)
    HISTORIES[`what somebody else put there is not read: ${put} ${suffix}`] =
      `+6 copy/outside ${put.replace("@", suffix)}${suffix}=1234 +7 gap5=7 says=fail2ban.log${suffix}.\\(`;
for (const owner of isRoot ? [1234, 0] : [])
  HISTORIES[`files of the log's owner and of root are read: ${owner}`] =
    `+6 rotate +7 chown=1234 chown.1=${owner} =6-7`;
HISTORIES["37. a year of files that cannot be unpacked: the notice still fits"] =
  `rm ${Array.from({ length: 60 }, (_, week) => `junk.${week + 1}.xz`).join(" ")} +6-7 gap5=6-7`;
const rounds = Array.from({ length: 50 }, (_, round) => {
  const first = 6 + (round * (round + 3)) / 2;
  return `empty +${first}-${first + round + 1} =${first}-${first + round + 1}`;
});
HISTORIES["53. 50 truncations, the inode constant"] = rounds.join(" ");

test.each(Object.entries(HISTORIES))("%s", async (_, history) => void (await Story.play(history)));

test.each(
  Object.entries(HISTORIES).filter(([, history]) => / gz\./.test(history) && !/\.gz/.test(history)),
)(
  "%s, by zstd",
  async (_, history) => void (await Story.play(history.replaceAll(" gz.", " zst."))),
);

for (const [word, program] of Object.entries({ xz: "xz", bzip: "bzip2" }))
  testWith(program)(`three rotations, each compressed at once by ${program}`, async () => {
    const days = [6, 7, 8].map((day) => `+${day} rotate-2026112${day} ${word}-2026112${day}`);
    await Story.play(`${days.join(" ")} +9 =6-9`);
  });

for (const rotation of ["rotate", "rotate gz.1", "truncate"])
  test.each(["", "rotate "])(`19. ${rotation} at any call, %sbefore`, async (before) => {
    const strike = rotation.replace(/\S+/g, "@cN:$&");
    const calls = await Story.play(`+6-7 ${before}+8 run`);
    expect(calls).toBeGreaterThan(30);
    for (let call = 1; call <= calls; call++)
      await Story.play(`+6-7 ${before}+8 ${strike} @cN:+9 run =6-9`.replaceAll("N", String(call)));
  });

// ── What the words do not say ───────────────────────────────────────────────────────────────────

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
  scene.beforeCalls("openSync", (path) => {
    if (path === scene.path(".1")) throw systemError("EIO: i/o error");
  });
  for (let runs = 0; runs < 4; runs++) {
    expect((await scene.run()).code).toBe(75);
    scene.wait(20 * 60_000);
  }
  expect(scene.notices()).toHaveLength(1);
});

// ── Text ────────────────────────────────────────────────────────────────────────────────────────

test("61. CRLF ends a line; lone CR, U+2028 and blanks stay in it, visible; empty lines count", async () => {
  using scene = new Scene();
  scene.write("one\r\ntwo\rstill two\nthree\u2028still three\n\n   \n\n\nend\n");
  const shown = "one|two\\x0dstill two|three\\u2028still three||   |||end";
  await scene.passPosts(...shown.split("|"));
});

test("62. invalid UTF-8 and characters of several bytes, cut by reads and messages", async () => {
  using scene = new Scene();
  const wide = "ä€😀".repeat(1_500);
  const tall = Array.from({ length: 4_000 }, (_, at) => `${at} 😀ä€ 日本語 ${"é".repeat(20)}`);
  scene.append(wide, ...tall);
  scene.write(new Uint8Array([0xf0, 0x9f, 0x0a, 0xed, 0xa0, 0x80, 0x0a]));
  expect(fs.statSync(scene.log).size).toBeGreaterThan(256 * 1024);
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

test("65. one line of 5 MB among too many lines is counted once", async () => {
  using scene = new Scene("x".repeat(5e6), line(1));
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

test("66. messages of up to 1990 characters, so that their mark has room when they come again", async () => {
  for (let first = 975; first <= 1_000; first++) {
    const two = ["a".repeat(first), "b".repeat(1_000)];
    using scene = new Scene(...two);
    await scene.passPosts(...two);
    const lengths = scene.discord.messages.map(({ content }) => content.length);
    const together = first + 1 + 1_000 + 8;
    expect(lengths).toEqual(together <= 1_990 ? [together] : [first + 8, 1_008]);
  }
});

test("66. a line that just fits, and one that is a character too long", async () => {
  using scene = new Scene("a".repeat(1_991), "b".repeat(1_992), "c");
  await scene.pass();
  expect(rejoined(scene.newlyPosted())).toEqual(["a".repeat(1_991), "b".repeat(1_992), "c"]);
  const lengths = scene.discord.messages.map(({ content }) => content.length);
  expect(lengths.slice(0, 2)).toEqual([1_999, 1_990]);
  expect(scene.discord.violations).toEqual([]);
});

test("66. long lines whose last piece just fits, across the windows that are read", async () => {
  for (const length of [5_944, 5_945, 5_947, 5_950]) {
    const all = lines(1, 46).map((text) => text.padEnd(length, "x"));
    using scene = new Scene(...all);
    await scene.pass("--max-time", DAY);
    expect(rejoined(scene.newlyPosted())).toEqual(all);
    await scene.expectQuiet();
  }
});

// ── In bounded memory ───────────────────────────────────────────────────────────────────────────

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

test("38. a gzip bomb of 5 GB: a notice, in bounded memory and time", async () => {
  using scene = new Scene(...lines(1, 5));
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

test("51. a hole of 500 MB is skipped in bounded memory", async () => {
  using scene = new Scene(...lines(1, 5));
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
  using scene = new Scene(line(1));
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

test("67. 200 000 lines, and a line longer than what is read at once", () => {
  using scene = new Scene();
  const long = "0123456789".repeat(9e5);
  scene.append(...lines(1, 200_000), long, line(200_001));
  const { code, out, peakMiB } = runAlone(scene, "--dry-run");
  expect(code).toBe(0);
  const all = [...lines(1, 200_000), long, line(200_001)];
  expect(fencedLines([out]).join("").replaceAll("…", "") === all.join("")).toBe(true);
  expect(peakMiB).toBeLessThan(200);
}, 60_000);

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
    expect(err).toMatch(/^f2b-watch: cannot read .*\nhint: .*--log\n$/);
    fs.rmSync(scene.log, { recursive: true });
    fs.rmSync(scene.state, { recursive: true });
  }
  listener.close();
});
