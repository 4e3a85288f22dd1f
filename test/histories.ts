/**
 * Random histories of a log, its rotation, its readers' accidents, and an oracle that knows of every
 * line ever written whether it may be missing and how often it may come again.
 *
 * What the oracle excuses, each with the sentence of the promises that allows it:
 * - lines of siblings that lay there at the first run: "No state is a first run (`--from`)."
 * - lines that vanished before they were sent, with a gap notice where the last line sent vanished too:
 *   "What copytruncate itself destroys cannot be delivered", "Nothing matches → one gap notice". Without
 *   a notice where that line is still there: nobody can know of them.
 * - no notice for what was lost from a log that was sent to its end and holds, in the same file, only
 *   younger lines since: "What was sent to its end and then emptied is no gap." Behind the beginning of
 *   a line that a run left in it, a notice fits.
 * - a notice while the last line stands where it stood only if it has no date of its own, or stands behind
 *   what a cut left of another: "Content proves identity". Behind an older state, until the next message
 *   from the log, or behind a message in doubt: "State damaged → its older copy".
 * - what comes again behind a notice, until a run has done all, or what was not there when it came:
 *   "Nothing matches → …, then every sibling that is not known to be finished", and "State damaged → its
 *   older copy; both damaged → the gap rule."
 * - what comes again of a log that was put back, cut or edited while a rotated file still holds the last
 *   line sent: it is another file ("New file with the same first line, longer → all of it", in the
 *   scenarios of the promises).
 * - lines that came back to the log behind the position: "The state of a destination is a cursor", "go on
 *   behind the last line that is known, by the hashes of earlier lines, else by the time of the last line".
 *   They count as sent, also when they vanish again. So a line of which an edited one stands in its place;
 *   of a long one the first pieces come again, and lines without a date behind one that is taken out.
 * - the order of lines that came back, that stand in two files, in a file that does not begin earlier, or
 *   in the log itself: "numbers give their own order, all others are ordered by the first date in them",
 *   "every younger sibling whole, then the live file".
 * - a file named by a word alone while all of it is younger than the log: "Content proves identity".
 * - one message that comes twice after a kill or a lost answer: "at most one message repeated".
 * - lines that a view does not show; those that a run did not get to may be shown by the next view.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import { fingerprint, main, parseState, type World } from "../f2b-watch.ts";
import { machine, type State } from "./harness.ts";

// ── Histories ───────────────────────────────────────────────────────────────────────────────────

// prettier-ignore
const WEIGHTS = {
  write: 24, part: 4, rotate: 9, flush: 5, copytruncate: 4, compress: 4, startCompressing: 2,
  removeOldest: 4, trimHead: 4, copyBack: 2, swapInode: 1, truncate: 2, empty: 2, rollBack: 2, edit: 2,
  renameSibling: 2, backUp: 3, moveBack: 1, refilter: 3, damageOneCopy: 2, damageState: 1, dropState: 1,
  wait: 2, run: 26, failingRun: 7, kill: 9,
};
type Kind = keyof typeof WEIGHTS;
const KINDS = Object.keys(WEIGHTS) as Kind[];

/** They are of a log that fail2ban writes to; else nothing happens. */
const OF_LIVE_LOG =
  /^(rotate|copytruncate|trimHead|copyBack|swapInode|truncate|empty|rollBack|edit|backUp|moveBack)$/;

/** `a` and `b` in [0, 1) settle all details, so that a step means the same without its neighbours. */
export interface Step {
  readonly kind: Kind;
  readonly a: number;
  readonly b: number;
}

export interface History {
  /** How the log is rotated: `.1`, `.2`, … or `-20261101`, `-20261102`, … */
  readonly scheme: "number" | "date";
  /** A rotated file of the other scheme lies there from before. */
  readonly stale: boolean;
  /** What the first runs show, by its place in `VIEWS`; absent where the view never changes. */
  readonly view?: number;
  /** Lines without a date, lines that are equal, and logs with equal heads. */
  readonly alike?: boolean;
  /** Real programs compress to `.xz` and `.bz2`. */
  readonly programs?: boolean;
  readonly steps: readonly Step[];
}

export interface Failure {
  readonly what: string;
  readonly story: readonly string[];
}

/** How the stand-in for Discord behaves, to prove that the oracle notices. */
export type Channel = "honest" | "forgetful" | "doubling";

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function pickKind(at: number): Kind {
  let left = at * Object.values(WEIGHTS).reduce((sum, weight) => sum + weight, 0);
  return KINDS.find((kind) => (left -= WEIGHTS[kind]) < 0) ?? "run";
}

export function randomHistory(seed: number, length = 24): History {
  const roll = dice(seed);
  const scheme = roll() < 0.65 ? "number" : "date";
  const stale = roll() < 0.1;
  const steps = Array.from({ length }, () => ({ kind: pickKind(roll()), a: roll(), b: roll() }));
  const view = seed % 2 === 0 ? { view: Math.floor(seed / 4) % 2 } : {};
  const alike = Math.floor(seed / 2) % 2 === 0;
  return { scheme, stale, ...view, alike, programs: seed % 1_000 === 7, steps };
}

// ── The disk ────────────────────────────────────────────────────────────────────────────────────
// Real files, and beside them what they hold as text, so that the oracle need not unpack anything.

const NAME = "fail2ban.log";

/** What a run may be told to show; the first shows all by looking at each line. */
const VIEWS: readonly (readonly string[])[] = [
  ["--only", "found,ban,other"],
  [],
  ["--only", "found"],
  ["--only", "ban"],
  ["--jail", "sshd"],
  ["--jail", "nginx", "--only", "found,other"],
  ["--format", "compact"],
  ["--format", "compact", "--only", "ban,other"],
  ["--format", "events"],
];

/** What the lines are about. */
const TOPICS = [
  { kind: "found", jail: "sshd", words: "fail2ban.filter [18191]: INFO [sshd] Found" },
  { kind: "found", jail: "nginx", words: "fail2ban.filter [18191]: INFO [nginx] Found" },
  { kind: "ban", jail: "nginx", words: "fail2ban.actions [18191]: NOTICE [nginx] Ban" },
  { kind: "other", jail: "", words: "fail2ban.server [18191]: INFO rollover performed on" },
] as const;

const topicOf = (id: number) => TOPICS[[0, 0, 0, 1, 0, 2, 0, 3, 2][id % 9] ?? 0]!;

/** A dated line is told by its last characters. */
function lineText(id: number, length: number): string {
  const at = new Date(Date.UTC(2026, 10, 22, 8) + id * 1_007).toISOString();
  const stamp = `${at.slice(0, 10)} ${at.slice(11, 19)},${at.slice(20, 23)}`;
  let text = `${stamp} ${topicOf(id).words}`;
  for (let word = 0; text.length < length; word++) text += ` #${id}.${word}`;
  return `${text} #${id}~`;
}

/** What every format shows of a line. */
const bodyOf = (text: string) => text.slice(Math.max(0, text.search(/(?:Found|Ban|on) #/)));
/** A line of the record before it, the same each time. */
const CONTINUED = "    the same again";
/** With what a log may begin: more than the head that proves which file it is. */
const BANNER = "--------------------------------------------------------------- no date here\n";
const PACKED = /\.(?:gz|zst|xz|bz2)$/;
const STAND_INS = { ".xz": "fd377a585a00", ".bz2": "425a6839" } as const;

/** What a sibling may be renamed to: any name with the log's stem, `@` where the name is not the log's. */
const OTHER_NAMES = [
  (n: number) => `.old${n}`,
  (n: number) => `-2025010${n}`,
  (n: number) => `-0${n}012025`,
  (n: number) => `-20250${n}`,
  (n: number) => `-2025-0${n}`,
  (n: number) => `_2025010${n}`,
  (n: number) => `.${n}.1`,
  (n: number) => `.bak-2025010${n}`,
  (n: number) => `@fail2ban.${n}.log`,
  (n: number) => `@fail2ban-2025010${n}.log`,
];

class Disk {
  readonly log: string;
  readonly state: string;
  readonly files = new Map<string, string>();
  /** The file that fail2ban has open: `""` is the live log. */
  writer = "";
  /** What is still to come of a line that was written in part. */
  pending = "";
  compressing: { suffix: string; ending: string } | undefined;
  /** The live log was empty at a time since it was sent to its end. */
  wasEmptied = false;
  /** Lines were cut or taken out of the live log since then, and others left. */
  wasCut = false;
  wasEverCut = false;
  /** Which file the live log is: changes with every new one under its name. */
  generation = 0;
  #newest = 0;
  #generations = new Map<string, number>();
  #days = 0;
  #ids = new Map<string, number[]>();
  /** Every line ever begun, by number. */
  readonly texts: string[] = [];
  /** Of each line the one that tells its topic: itself, or one before. */
  readonly owners: number[] = [];

  constructor(
    readonly directory: string,
    readonly scheme: "number" | "date",
    /** Each line is looked at: what a cut glued together is of no kind that is known. */
    readonly chosen: boolean,
    readonly programs: boolean,
  ) {
    this.log = join(directory, NAME);
    this.state = join(directory, "state");
  }

  path(suffix: string): string {
    return suffix.startsWith("@") ? join(this.directory, suffix.slice(1)) : this.log + suffix;
  }

  put(suffix: string, text: string): void {
    fs.writeFileSync(this.path(suffix), this.#packed(suffix, text), { mode: 0o640 });
    this.files.set(suffix, text);
    if (suffix === "" && text === "") this.wasEmptied = true;
  }

  replaced(): void {
    this.generation = ++this.#newest;
  }

  #packed(suffix: string, text: string): string | Buffer {
    const [ending] = PACKED.exec(suffix) ?? [];
    if (ending === ".gz") return gzipSync(text, { level: 1 });
    if (ending === ".zst") return zstdCompressSync(text);
    if (ending !== ".xz" && ending !== ".bz2") return text;
    if (this.programs) return execFileSync(ending === ".xz" ? "xz" : "bzip2", { input: text });
    return Buffer.concat([Buffer.from(STAND_INS[ending], "hex"), gzipSync(text, { level: 1 })]);
  }

  get live(): string {
    return this.files.get("") ?? "";
  }

  /** The live log's new text, in the same file or in one that takes its place. */
  replace(text: string, isNewFile: boolean): void {
    if (isNewFile) {
      fs.rmSync(this.log, { force: true });
      this.replaced();
    }
    this.put("", text);
    this.pending = "";
    if (text !== "") this.wasCut = true;
  }

  append(suffix: string, text: string): void {
    fs.appendFileSync(this.path(suffix), text, { mode: 0o640 });
    this.files.set(suffix, (this.files.get(suffix) ?? "") + text);
  }

  remove(suffix: string): void {
    fs.rmSync(this.path(suffix), { force: true });
    this.files.delete(suffix);
    this.#generations.delete(suffix);
  }

  move(from: string, to: string): void {
    fs.renameSync(this.path(from), this.path(to));
    this.files.set(to, this.files.get(from) ?? "");
    this.files.delete(from);
    if (this.writer === from) this.writer = to;
    const moved = this.#generationOf(from);
    this.#generations.delete(from);
    if (from === "") this.replaced();
    if (to === "") this.generation = moved;
    else this.#generations.set(to, moved);
  }

  #generationOf(suffix: string): number {
    if (suffix === "") return this.generation;
    return this.#generations.get(suffix) ?? ++this.#newest;
  }

  /** A new line's text; `length` only says about how long. */
  newLine(length: number): string {
    const id = this.texts.length;
    return this.#addLine(lineText(id, length), id);
  }

  /** A line that is the same as others: without a date, or a twin of the last one. */
  newAlike(isTwin: boolean): string {
    const last = this.texts.length - 1;
    return isTwin
      ? this.#addLine(this.texts[last] ?? "", this.owners[last] ?? 0)
      : this.#addLine(CONTINUED, this.owners[last] ?? 0);
  }

  #addLine(text: string, owner: number): string {
    this.texts.push(text);
    this.owners.push(owner);
    return text;
  }

  /** All that are equal to this line, and stand with it. */
  twins(id: number): number[] {
    const text = this.texts[id];
    if (text === CONTINUED) return [id];
    let [first, last] = [id, id];
    while (first > 0 && this.texts[first - 1] === text) first--;
    while (this.texts[last + 1] === text) last++;
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  }

  /** Whole lines in a text, by number; what a cut left of a line is none. */
  wholeLines(text: string): number[] {
    const known = this.#ids.get(text);
    if (known) return known;
    const ids: number[] = [];
    let before: number | undefined;
    for (const line of text.split("\n").slice(0, -1)) {
      before = this.wholeLine(line, before);
      if (before !== undefined) ids.push(before);
    }
    this.#ids.set(text, ids);
    return ids;
  }

  /** Which line this is, behind the line `before`; what no line before tells from others is not known. */
  wholeLine(line: string, before: number | undefined): number | undefined {
    if (before !== undefined && line === this.texts[before + 1]) return before + 1;
    const id = Number(/#(\d+)~$/.exec(line)?.[1] ?? -1);
    const text = this.texts[id];
    if (text === undefined || !line.endsWith(bodyOf(text))) return undefined;
    if (!line.endsWith(text)) {
      if (!line.startsWith(`${text.slice(11, 19)} `)) return undefined;
      // Shown without its date; a twin of the line before it may be its second.
      const isTwin = before === id || (before !== undefined && text === this.texts[before]);
      return isTwin && before !== undefined && this.texts[before + 1] === text ? before + 1 : id;
    }
    // Behind what a truncation left of another line: of no kind that is known; a long one would be cut anywhere.
    const glued = line.length !== text.length;
    return glued && (this.chosen || line.length >= 1_900) ? undefined : id;
  }

  existing(): Set<number> {
    return new Set([...this.files.values()].flatMap((text) => this.wholeLines(text)));
  }

  inSiblings(): Set<number> {
    const texts = this.siblings().map((suffix) => this.files.get(suffix) ?? "");
    return new Set(texts.flatMap((text) => this.wholeLines(text)));
  }

  /** Whether a line is anywhere, also behind what a truncation left of another one, or `alone`. */
  holds(id: number, alone = false): boolean {
    const line = `${alone ? "\n" : ""}${this.texts[id]}\n`;
    return [...this.files.values()].some((text) => `\n${text}`.includes(line));
  }

  /** Whether the first line is there once, and in the same file as the other one, or in one that begins earlier. */
  areOrdered(a: number, b: number): boolean {
    const holding = (id: number) =>
      [...this.files].filter(([, text]) => this.wholeLines(text).includes(id));
    const start = (text: string) => /2026-\S+ \S+/.exec(text)?.[0] ?? "";
    const [[inA, ...moreA], [inB, ...moreB]] = [holding(a), holding(b)];
    if (inA === undefined || moreA.length + moreB.length > 0) return false;
    if (inB === undefined || inA[0] === inB[0]) return true;
    if (inA[0] === "") return false;
    const numberOf = ([name]: [string, string]) => Number(/^\.(\d+)/.exec(name)?.[1]);
    if (numberOf(inA) < numberOf(inB)) return false;
    // A number that it was given says more than what it begins with.
    if ([inA[0], inB[0]].some((name) => /^@fail2ban\.\d|^\.\d\.1/.test(name))) return false;
    return start(inA[1]) < start(inB[1]);
  }

  siblings(): string[] {
    return [...this.files.keys()].filter((suffix) => suffix !== "").sort();
  }

  /** Oldest first. */
  rotated(): string[] {
    const name = this.scheme === "number" ? /^\.\d+(?:\.[a-z]\w+)?$/ : /^-2026\d{4}(?:\.\w+)?$/;
    const own = this.siblings().filter((suffix) => name.test(suffix));
    if (this.scheme === "number") own.sort((a, b) => parseInt(a.slice(1)) - parseInt(b.slice(1)));
    return this.scheme === "date" ? own : own.toReversed();
  }

  /** Makes room for a new rotated file and says its name. */
  nextRotated(): string {
    if (this.scheme === "date") return `-202611${String(++this.#days).padStart(2, "0")}`;
    for (const suffix of this.rotated()) {
      const [, number = "", ending = ""] = /^\.(\d+)(.*)$/.exec(suffix) ?? [];
      this.move(suffix, `.${Number(number) + 1}${ending}`);
    }
    return ".1";
  }

  finishCompressing(): void {
    if (!this.compressing) return;
    const { suffix, ending } = this.compressing;
    this.put(suffix + ending, this.files.get(suffix) ?? "");
    this.remove(suffix);
    this.compressing = undefined;
  }
}

// ── The oracle ──────────────────────────────────────────────────────────────────────────────────

type StateCondition = "none" | "damaged" | "older" | "good";
type Saved = State | "none" | "damaged";
type Anchor = number | "unknown" | undefined;

class Oracle {
  failure: string | undefined;
  readonly delivered = new Set<number>();
  /** Need not be delivered: they stood in rotated files when the log was seen for the first time. */
  readonly #exempt = new Set<number>();
  /** Vanished from the disk before they were delivered. */
  readonly #lost = new Set<number>();
  /** How often each line may still come again. */
  readonly #mayRepeat = new Map<number, number>();
  /** How much of each long line has come. */
  readonly #cameTo = new Map<number, number>();
  #pieceOf = -1;
  #furthest = -1;
  #damaged = false;
  /** A gap was told, and no run has done all since. */
  #gapTold = false;
  #noticeDue = false;
  /** A notice may come, until a run has done all and left none. */
  #noticeFits = false;
  /** What came since both copies of the state knew all of it. */
  #runIds: number[] = [];
  #lastIds: number[] = [];
  #died = false;
  /** The view of this run, and all since the last one that did all. */
  #view: readonly string[] = [];
  #views: (readonly string[])[] = [];
  /** Which live log was sent to its end, and the last line in it. */
  #sentToEnd = { generation: -1, last: -1, lasts: [] as readonly number[] };
  /** The last run did all, and so knows it. */
  #knowsEnd = false;
  /** The live log when the last message came: a run with nothing new writes nothing of another one. */
  #readIn = -1;
  /** Were not there when lines behind them were sent. */
  readonly #late = new Set<number>();
  /** Stand in a log that was put back. */
  #back: readonly number[] = [];
  /** Were passed over because no view showed them: the older copy of the state may not know it. */
  readonly #passed: number[] = [];
  #wasEdited = false;
  #wasBack = false;
  /** The line that was received last. */
  #before: number | undefined;

  constructor(readonly disk: Disk) {}

  #shows(id: number, view = this.#view): boolean {
    const { kind, jail } = topicOf(this.disk.owners[id] ?? id);
    const chosen = (flag: string, value: string) => {
      const at = view.indexOf(flag);
      return at < 0 || value === "" || view[at + 1]?.split(",").includes(value);
    };
    return view.includes("events") ? false : !!chosen("--only", kind) && !!chosen("--jail", jail);
  }

  /** Whether the log was sent to its end, and now looks as if it had been emptied since, in place. */
  #looksEmptied(anchor: Anchor): boolean {
    const { generation, last, lasts } = this.#sentToEnd;
    if (generation !== this.disk.generation || typeof anchor !== "number") return false;
    const isEnd = this.disk.twins(anchor).some((twin) => lasts.includes(twin));
    if (!isEnd && !this.#knowsEnd) return false;
    return this.disk.wholeLines(this.disk.live).every((id) => id > last);
  }

  #fail(what: string): void {
    this.failure ??= what;
  }

  /** Called around every step that may destroy lines, or bring back what later ones were sent without. */
  changed(before: ReadonlySet<number>): void {
    const now = this.disk.existing();
    const youngest = Math.max(this.#furthest, ...this.#passed, ...before);
    for (const id of now) if (!before.has(id) && id < youngest) this.#late.add(id);
    for (const id of before) {
      const isThere = this.disk.twins(id).some((twin) => now.has(twin));
      const isOwed = !this.delivered.has(id) && !this.#exempt.has(id) && !this.#late.has(id);
      if (isOwed && !isThere) this.#lost.add(id);
    }
  }

  /** An older copy of the state may know less than was sent by the last run. */
  stateChanged(condition: StateCondition): void {
    if (condition === "older") {
      this.#noticeFits = true;
      this.#allow([...this.#runIds, ...this.#passed]);
    }
    if (condition === "damaged") this.#damaged = true;
  }

  #allow(ids: Iterable<number>): void {
    for (const id of ids) this.#mayRepeat.set(id, (this.#mayRepeat.get(id) ?? 0) + 1);
  }

  /** `anchor`: the line that the cursor stands behind, where that is a whole one. */
  beginRun(condition: StateCondition, anchor: Anchor, view: readonly string[]): void {
    this.#view = view;
    this.#views.push(view);
    if (condition === "none") {
      for (const [suffix, text] of this.disk.files) {
        const ids = this.disk.wholeLines(text);
        if (suffix !== "") for (const id of ids) this.#exempt.add(id);
      }
      if (this.disk.writer !== "" && this.disk.pending !== "") {
        this.#exempt.add(this.disk.texts.length - 1);
      }
      this.#allow(this.delivered);
      for (const id of this.#cameTo.keys()) this.#cameTo.set(id, 0);
      this.#lost.clear();
      this.#passed.length = 0;
      this.#furthest = -1;
      this.#damaged = false;
    }
    const anchorLost = typeof anchor === "number" && !this.disk.holds(anchor);
    const isEmptied = anchorLost && this.#looksEmptied(anchor);
    const isKnown =
      condition === "good" &&
      this.#knowsEnd &&
      this.disk.wasEmptied &&
      !this.disk.wasCut &&
      this.#readIn === this.disk.generation;
    const isNoGap = isKnown && this.#lost.size === 0 && anchor === this.#sentToEnd.last;
    if (anchorLost && !isEmptied) this.#knowsEnd = false;
    if (isEmptied) {
      for (const id of this.#lost) this.#exempt.add(id);
      this.#lost.clear();
    }
    this.#noticeDue = this.#damaged || (this.#lost.size > 0 && anchorLost);
    const fits = anchorLost && !(isEmptied && isNoGap);
    const isGlued = typeof anchor === "number" && !anchorLost && !this.disk.holds(anchor, true);
    this.#noticeFits ||= this.#damaged || fits || isGlued || anchor === "unknown";
    this.#allow(this.#back.filter((id) => !anchorLost || !this.delivered.has(id)));
    if (!anchorLost) this.#back = [];
    if (!this.#died) this.#runIds = [];
    this.#died = false;
    this.#lastIds = [];
  }

  /** A message that the channel keeps; `confirmed` when its sender is told so. */
  receive(content: string, confirmed: boolean): void {
    if (content.length >= 2_000) this.#fail(`a message of ${content.length} characters`);
    const [prefix = ""] = content.split("```");
    const [, body] = /```\n([^]*)\n```$/.exec(content) ?? [];
    const notice = prefix.includes("may be missing");
    if (notice && !this.#noticeFits) this.#fail(`a gap was told where none is: ${prefix.trim()}`);
    const what = this.#damaged ? "the state was damaged" : "lost";
    if (this.#noticeDue && !notice) this.#fail(`${what} in silence: ${[...this.#lost].join()}`);
    this.#noticeDue = false;
    this.#readIn = this.disk.generation;
    if (notice) {
      this.#gapTold = true;
      // The position moves away from what is not there now: when it is back, it is in another file.
      const there = this.disk.existing();
      this.#allow(this.#pieces([...this.delivered].filter((id) => !there.has(id))));
      this.#lost.clear();
      this.#damaged = false;
    }
    this.#lastIds = [];
    const lines = body?.split("\n") ?? [];
    this.#before = this.#lineBefore(lines);
    for (const line of lines) {
      if (line.startsWith("…") || line.endsWith("…")) this.#takePiece(line);
      else this.#takeLine(this.disk.wholeLine(line, this.#before));
    }
    this.#runIds.push(...this.#lastIds);
    if (!confirmed) this.#allow(this.#lastIds);
  }

  /** Behind which line a message begins: the last one received, or what its first dated line shows. */
  #lineBefore(lines: readonly string[]): number | undefined {
    const dated = lines.findIndex((line) => line.endsWith("~"));
    const id = dated > 0 ? this.disk.wholeLine(lines[dated] ?? "", undefined) : undefined;
    if (id === undefined) return this.#before;
    const { texts } = this.disk;
    const fits = lines.slice(0, dated).every((line, at) => texts[id - dated + at] === line);
    return fits ? id - dated - 1 : this.#before;
  }

  #takeLine(id: number | undefined): void {
    this.#before = id;
    if (id === undefined) return;
    this.#lastIds.push(id);
    const fresh = this.disk.twins(id).find((twin) => !this.delivered.has(twin));
    this.#before = fresh ?? id;
    if (fresh === undefined) this.#again(id);
    else this.#first(fresh);
  }

  #first(id: number): void {
    this.delivered.add(id);
    // What a cut glued together is of the kind of its first part.
    const isSure = !this.disk.wasEverCut;
    if (isSure && !this.#views.some((view) => this.#shows(id, view))) {
      this.#fail(`line ${id} came though it was not chosen`);
    }
    const ordered = !this.#exempt.has(id) && !this.#late.has(id);
    if (id < this.#furthest && ordered && this.disk.areOrdered(id, this.#furthest)) {
      this.#fail(`line ${id} came after line ${this.#furthest}`);
    }
    this.#furthest = Math.max(this.#furthest, id);
  }

  #again(id: number): void {
    // Which one of them it is, in a log that was put back, its text does not tell.
    if (this.#gapTold || (this.#wasBack && this.disk.texts[id] === CONTINUED)) return;
    const allowed = this.disk.twins(id).find((twin) => this.#mayRepeat.get(twin)) ?? id;
    const left = this.#mayRepeat.get(allowed) ?? 0;
    if (left > 0) this.#mayRepeat.set(allowed, left - 1);
    else this.#fail(`line ${id} came again`);
  }

  /** Part of a line longer than a message; its words tell which part. */
  #takePiece(marked: string): void {
    const piece = marked.replace(/^…|…$/g, "");
    // A cut in mid-line lets the next line begin behind the rest of the one before.
    const starts = [...piece.matchAll(/(?:Found|Ban|on) #/g)];
    const words = piece.slice(starts.at(-1)?.index ?? 0);
    // A short last piece may hold no whole word.
    const known = marked.startsWith("…") ? this.#pieceOf : -1;
    const told = Number(/ #(\d+)[.~]/.exec(words)?.[1] ?? known);
    const whole = this.disk.texts[told];
    const text = whole === undefined ? undefined : bodyOf(whole);
    // What was cut off a line may be of its twin.
    const twins = whole === undefined ? [] : this.disk.twins(told);
    const id = twins.find((twin) => !this.delivered.has(twin)) ?? told;
    const at = text?.lastIndexOf(words) ?? -1;
    this.#pieceOf = this.#before = id;
    if (text === undefined || at < 0) return;
    const end = at + words.length;
    this.#lastIds.push(id, id);
    const cameTo = this.#cameTo.get(id) ?? 0;
    if (at > cameTo && (this.#exempt.has(id) || !this.disk.existing().has(id))) return;
    // Behind a cut in mid-line stands the position, also when the line is whole again.
    if (at > cameTo && !this.delivered.has(id))
      return this.#fail(`characters ${cameTo} to ${at} of line ${id} are missing`);
    this.#cameTo.set(id, Math.max(cameTo, end));
    // What a file ends with is sent when it is left, which may be long after the gap was told.
    const endsFile = end < text.length || (marked.endsWith("…") && this.delivered.has(id));
    if (endsFile && this.#gapTold) return;
    if (end <= cameTo || (end >= text.length && this.delivered.has(id))) this.#again(id);
    else if (end >= text.length) this.#first(id);
  }

  /** What begins like a file that is known elsewhere is another one. */
  broughtBack(ids: readonly number[]): void {
    this.#wasBack ||= ids.length > 0;
    // Of a line of which a part was sent it is not known where it is now.
    const parts = [...this.#cameTo.keys()].filter((id) => !this.delivered.has(id));
    this.#allow(this.#pieces(parts));
    this.#back = [...this.#back, ...this.#pieces(ids)];
  }

  /** A long line comes in pieces. */
  #pieces(ids: readonly number[]): number[] {
    const countOf = (id: number) => 1 + ((this.disk.texts[id]?.length ?? 0) >> 10);
    return ids.flatMap((id) => Array<number>(countOf(id)).fill(id));
  }

  /** Another line stands in its place. */
  edited(id: number, isDeleted: boolean): void {
    this.#wasEdited = true;
    if (this.#cameTo.delete(id)) this.#allow([id]);
    if (!isDeleted && !this.delivered.has(id)) this.#exempt.add(id);
    // A line without a date proves nothing by itself.
    for (let next = id + 1; this.disk.texts[next] === CONTINUED; next++) this.#allow([next]);
  }

  /** What is left of a line whose end was cut off is another line. */
  cut(id: number, isOnlyItsEnd: boolean): void {
    if (isOnlyItsEnd) this.#allow(this.disk.twins(id));
    this.edited(id, false);
  }

  /** What was not chosen may have been passed over, whatever came of the run. */
  ended(isDone: boolean): void {
    for (const id of this.disk.existing()) {
      if (!this.delivered.has(id) && !this.#shows(id)) this.#exempt.add(id);
    }
    this.#noteEnd();
    if (!isDone || /[^\n]$/.test(this.disk.live)) this.#knowsEnd = false;
  }

  #noteEnd(): boolean {
    const { files, generation, writer } = this.disk;
    const live = files.get("") ?? "";
    const isWhole = writer === "" && live.endsWith("\n");
    const isSent = (id: number) => this.delivered.has(id) || this.#exempt.has(id);
    const ids = this.disk.wholeLines(live);
    const last = ids.at(-1);
    if (last === undefined || !isWhole || !ids.every(isSent)) return false;
    const before = this.#sentToEnd.generation === generation ? this.#sentToEnd.lasts : [];
    this.#sentToEnd = { generation, last, lasts: [...before, last] };
    this.disk.wasEmptied = this.disk.wasCut = false;
    return true;
  }

  /** A line of which a part was shown is shown to its end in another view, or not at all. */
  viewChanged(): void {
    for (const id of this.#cameTo.keys()) {
      if (this.delivered.has(id)) continue;
      this.#exempt.add(id);
      this.#allow([id, id]);
    }
  }

  killed(): void {
    this.#died = true;
    this.#allow([...this.#lastIds, ...this.#lastIds]);
  }

  /** After a run that says that all is done. */
  done(condition: StateCondition, isNoticeLeft: boolean, isInLog: boolean): void {
    if (condition !== "good") this.#fail(`the state is ${condition} after a run`);
    const { live, files } = this.disk;
    const own = [...files].filter(([suffix]) => !/old/.test(suffix));
    const newest = Math.max(...own.flatMap(([, text]) => this.disk.wholeLines(text)));
    for (const [suffix, text] of files) {
      const ids = this.disk.wholeLines(text);
      if (/old/.test(suffix) && live.includes("~\n") && (ids[0] ?? 0) > newest) continue;
      const isOlder = Math.max(...ids) < Math.min(...this.delivered);
      const isKnown = ids.some((id) => this.delivered.has(id));
      const isBehind = (id: number) =>
        this.#late.has(id) && (this.#gapTold || this.#noticeFits || isOlder || isKnown);
      const isOwed = (id: number) => !this.delivered.has(id) && !this.#exempt.has(id);
      // Which of two equal lines it is cannot be told where the one before them was edited.
      const isTwin = (id: number) =>
        (this.#wasBack && this.disk.texts[id] === CONTINUED) ||
        ((this.#wasEdited || this.#wasBack) &&
          this.disk.twins(id).some((each) => this.delivered.has(each)));
      const missing = ids.filter((id) => isOwed(id) && !isBehind(id) && !isTwin(id));
      if (missing.length > 0) {
        this.#fail(`lines ${missing.join()} of ${NAME}${suffix} were not delivered`);
      }
      for (const id of ids) if (isOwed(id) && isBehind(id)) this.#exempt.add(id);
      // What was passed over is behind us, whatever is chosen next.
      const passed = ids.filter((id) => !this.#shows(id) && !this.delivered.has(id));
      for (const id of passed) this.delivered.add(id);
      this.#passed.push(...passed);
    }
    this.#gapTold = false;
    this.#back = [];
    // Behind an older state, or none, it is known by the next message from the log only where that
    // was sent to its end.
    if (this.#lastIds.length > 0 && isInLog) this.#noticeFits = isNoticeLeft;
    this.#views = [];
    // A run with nothing new writes nothing, also behind one that was killed before it wrote this.
    const isEnd = this.#noteEnd();
    this.#knowsEnd ||= isEnd && this.#lastIds.length > 0;
  }
}

// ── Playing a history ───────────────────────────────────────────────────────────────────────────

const FAILURES = ["refused", "500", "500 after saving", "429", "429 without a time"] as const;
type ServerFailure = (typeof FAILURES)[number];
const HOUR_MS = 3_600_000;
const NEVER = new AbortController().signal;

class Killed extends Error {}

/** `fs` whose every call passes a gate; remembers what is open. */
function gatedFs(gate: () => void, dead: () => boolean, open: Set<number>): typeof fs {
  const gated: Record<string, unknown> = { ...fs };
  for (const [name, call] of Object.entries(fs)) {
    if (typeof call !== "function" || !name.endsWith("Sync")) continue;
    gated[name] = (...args: unknown[]) => {
      gate();
      return (call as (...args: unknown[]) => unknown)(...args);
    };
  }
  gated["openSync"] = (...args: Parameters<typeof fs.openSync>) => {
    gate();
    const descriptor = fs.openSync(...args);
    open.add(descriptor);
    return descriptor;
  };
  gated["closeSync"] = (descriptor: number) => {
    fs.closeSync(descriptor);
    open.delete(descriptor);
    if (!dead()) gate();
  };
  gated["writeFileSync"] = (descriptor: number, content: string | Uint8Array) => {
    const bytes = Buffer.from(content);
    try {
      gate();
    } catch (error) {
      // What a killed process writes may be half of it.
      if (dead()) fs.writeSync(descriptor, bytes, 0, bytes.length >> 1);
      throw error;
    }
    fs.writeFileSync(descriptor, bytes);
  };
  return gated as typeof fs;
}

/** What the programs of that name would do, without the time that they take to start. */
async function* unpackStandIn(program: string, input: Iterable<Uint8Array>) {
  const magic = STAND_INS[program === "xz" ? ".xz" : ".bz2"];
  yield gunzipSync(Buffer.concat([...input]).subarray(magic.length / 2));
}

class Player {
  readonly disk: Disk;
  readonly oracle: Oracle;
  readonly story: string[] = [];
  requests = 0;
  #clockMs = Date.UTC(2026, 10, 22, 12);
  #calls = 0;
  #killAt = Infinity;
  #dead = false;
  #failure: ServerFailure | undefined;
  #failAfter = 0;
  #newest = "";
  /** What the last run left behind, unless something happened to it since. */
  #saved: Saved | undefined;
  /** What the log once was. */
  readonly #snapshots: string[] = [];
  #view: readonly string[];
  readonly #hashes: string[] = [];
  readonly #open = new Set<number>();
  readonly #fs: typeof fs;

  constructor(
    directory: string,
    readonly history: History,
    readonly channel: Channel,
  ) {
    const { scheme, view, programs = false } = history;
    this.disk = new Disk(directory, scheme, view !== undefined, programs);
    this.#view = view === undefined ? [] : (VIEWS[view] ?? []);
    this.oracle = new Oracle(this.disk);
    const gate = () => this.#gate();
    this.#fs = gatedFs(gate, () => this.#dead, this.#open);
    if (this.#view.length > 0) this.#tell(`runs are given ${this.#view.join(" ")}`);
    if (history.stale) {
      this.disk.put(this.#foreignName(), `${this.disk.newLine(90)}\n${this.disk.newLine(90)}\n`);
      this.story.push(`an old ${this.#foreignName()} lies there: lines 0, 1`);
    }
    this.disk.put("", "");
  }

  #foreignName(): string {
    return this.history.scheme === "number" ? "-20261031" : ".1";
  }

  #gate(): void {
    if (!this.#dead && ++this.#calls < this.#killAt) return;
    this.#dead = true;
    throw new Killed("killed");
  }

  async play(): Promise<void> {
    for (const step of this.history.steps) {
      await this.#perform(step);
      if (this.oracle.failure) return;
    }
    await this.#finish();
  }

  #tell(text: string): void {
    this.story.push(text);
  }

  async #perform({ kind, a, b }: Step): Promise<void> {
    this.#clockMs += 1_000 + Math.floor(b * 180_000);
    if (OF_LIVE_LOG.test(kind) && !this.#writerIsLive()) return;
    const before = this.disk.existing();
    await this[`_${kind}`](a, b);
    this.oracle.changed(before);
  }

  _wait(a: number): void {
    this.#clockMs += Math.floor(a * 2 * HOUR_MS);
  }

  // Steps of fail2ban and of logrotate.

  #complete(): void {
    const { disk } = this;
    if (disk.pending === "") return;
    disk.append(disk.writer, disk.pending);
    disk.pending = "";
    this.#tell("the line is completed");
  }

  #writerIsLive(): boolean {
    return this.disk.writer === "" && this.disk.files.has("");
  }

  _write(a: number, b: number): void {
    const { disk } = this;
    if (!disk.files.has(disk.writer)) return;
    this.#complete();
    const count = a < 0.1 ? 20 + Math.floor(a * 300) : 1 + Math.floor(a * 5);
    const length = b < 0.1 ? 2_000 + Math.floor(b * 40_000) : 90 + Math.floor(b * b * 700);
    const first = disk.texts.length;
    const lines = Array.from({ length: count }, (_, at) => {
      const mayBeAlike = this.history.alike && at > 0 && length < 1_000;
      const isAlike = mayBeAlike && (a * 7_919 + at * 0.618) % 1 < 0.3;
      const isTwin = (b * 104_729 + at * 0.382) % 1 < 0.5;
      return `${isAlike ? disk.newAlike(isTwin) : disk.newLine(length)}\n`;
    });
    const isBegun = disk.files.get(disk.writer) !== "";
    const banner = this.history.alike && !isBegun && b > 0.3 ? BANNER.repeat(1 + (count % 9)) : "";
    disk.append(disk.writer, banner + lines.join(""));
    if (a > 0.6) this.#snapshots.push(disk.live);
    const what = `lines ${first} to ${disk.texts.length - 1} (${length} characters)`;
    this.#tell(
      `fail2ban writes ${what}${banner && " behind undated lines"} into ${NAME}${disk.writer}`,
    );
  }

  _part(a: number, b: number): void {
    const { disk } = this;
    const { files, writer } = disk;
    if (!files.has(writer)) return;
    this.#complete();
    // Which of two rotated files is the one written to is told by the first date in them.
    const begins = (suffix: string) => /2026-\S+ \S+/.exec(files.get(suffix) ?? "")?.[0];
    const isAlike = (suffix: string) => suffix !== writer && begins(suffix) === begins(writer);
    if (writer !== "" && disk.siblings().some(isAlike)) return;
    const text = disk.newLine(b < 0.1 ? 3_000 : 120);
    const cut = 1 + Math.floor(a * text.length);
    disk.append(disk.writer, text.slice(0, cut));
    disk.pending = `${text.slice(cut)}\n`;
    this.#tell(`${cut} characters of line ${disk.texts.length - 1} are written`);
  }

  _rotate(a: number, b: number): void {
    const { disk } = this;
    disk.finishCompressing();
    // A file without a date has no place among others.
    if (disk.pending !== "" && !disk.live.includes("~\n")) return;
    const create = a < 0.7;
    const waits = b < 0.4;
    if (!waits && b < 0.7) this.#complete();
    const suffix = disk.nextRotated();
    disk.move("", suffix);
    if (create) disk.put("", "");
    const stays = waits ? ", fail2ban stays in it" : "";
    this.#tell(`the log is renamed to ${suffix}${create ? ", a new one is created" : ""}${stays}`);
    if (!waits) this.#reopen();
  }

  #reopen(): void {
    const { disk } = this;
    if (disk.pending !== "") this.#tell("the written part of the line stays behind for good");
    disk.pending = "";
    disk.writer = "";
    if (!disk.files.has("")) disk.put("", "");
  }

  _flush(a: number): void {
    if (this.#writerIsLive()) return;
    if (a < 0.7) this.#complete();
    this.#reopen();
    this.#tell("flushlogs: fail2ban opens the new log");
  }

  _copytruncate(): void {
    const { disk } = this;
    disk.finishCompressing();
    // A file without a date has no place among others.
    if (disk.pending !== "" && !disk.live.includes("~\n")) return;
    const suffix = disk.nextRotated();
    disk.put(suffix, disk.live);
    disk.put("", "");
    disk.wasEverCut ||= disk.pending !== "";
    this.#tell(`copytruncate to ${suffix}`);
  }

  #pick(suffixes: readonly string[], at: number): string | undefined {
    return suffixes[Math.floor(at * suffixes.length)];
  }

  #plainSiblings(): string[] {
    const { writer, compressing } = this.disk;
    const inUse = [writer, compressing?.suffix];
    return this.disk.siblings().filter((each) => !PACKED.test(each) && !inUse.includes(each));
  }

  _compress(a: number, b: number): void {
    const { disk } = this;
    disk.finishCompressing();
    const suffix = this.#pick(this.#plainSiblings(), a);
    if (suffix === undefined) return;
    const ending = b < 0.35 ? ".gz" : b < 0.6 ? ".zst" : b < 0.8 ? ".xz" : ".bz2";
    disk.compressing = { suffix, ending };
    disk.finishCompressing();
    this.#tell(`${suffix} is compressed to ${suffix}${ending}`);
  }

  _startCompressing(a: number): void {
    const { disk } = this;
    if (disk.compressing) return;
    const suffix = this.#pick(this.#plainSiblings(), a);
    if (suffix === undefined) return;
    const packed = gzipSync(disk.files.get(suffix) ?? "");
    fs.writeFileSync(disk.path(`${suffix}.gz`), packed.subarray(0, packed.length >> 1));
    disk.compressing = { suffix, ending: ".gz" };
    this.#tell(`${suffix} is being compressed, half of ${suffix}.gz is there`);
  }

  _removeOldest(): void {
    const { disk } = this;
    disk.finishCompressing();
    const oldest = disk.rotated().find((suffix) => suffix !== disk.writer);
    if (oldest === undefined) return;
    disk.remove(oldest);
    this.#tell(`${oldest} is removed`);
  }

  // Steps of an administrator.

  _trimHead(a: number, b: number): void {
    const { disk } = this;
    const lines = disk.live.split(/(?<=\n)/);
    const kept = lines.slice(lines.length - Math.floor(a * lines.length));
    // A line without a date proves nothing by itself.
    while (kept[0]?.startsWith(CONTINUED)) kept.shift();
    const { pending } = disk;
    disk.replace(kept.join(""), b < 0.5);
    if (kept.length > 0) disk.pending = pending;
    const known = disk.wholeLines(disk.live).filter((id) => this.oracle.delivered.has(id));
    const inSiblings = disk.inSiblings();
    this.oracle.broughtBack(known.length === 1 ? known.filter((id) => inSiblings.has(id)) : []);
    const how = b < 0.5 ? ", as a new file" : "";
    this.#tell(`the log is trimmed to its last ${kept.length} lines${how}`);
  }

  _copyBack(): void {
    const { disk } = this;
    fs.copyFileSync(disk.log, `${disk.log}.tmp`);
    fs.renameSync(`${disk.log}.tmp`, disk.log);
    disk.replaced();
    this.#tell("the log is copied back, as a new file");
  }

  _swapInode(): void {
    this.disk.replace("", true);
    this.#tell("the log is deleted and created anew");
  }

  _truncate(a: number, b: number): void {
    const { disk } = this;
    const text = disk.live;
    let keep = Math.floor(a * text.length);
    if (b < 0.5) keep = text.lastIndexOf("\n", keep) + 1;
    const left = disk.wholeLines(text.slice(0, keep));
    const [cut] = disk.wholeLines(text).filter((id) => !left.includes(id));
    fs.truncateSync(disk.log, keep);
    disk.files.set("", text.slice(0, keep));
    disk.wasCut = disk.wasEverCut = true;
    disk.pending = "";
    disk.files.set("", "");
    const elsewhere = disk.existing();
    if (cut !== undefined && !elsewhere.has(cut)) this.oracle.cut(cut, text[keep] === "\n");
    disk.files.set("", text.slice(0, keep));
    const kept = cut === undefined ? left : [...left, cut];
    const glued = this.#lineEnds(text.slice(0, keep)).filter((id) => !left.includes(id));
    this.oracle.broughtBack([...kept.filter((id) => elsewhere.has(id)), ...glued]);
    this.#tell(`the log is truncated from ${text.length} to ${keep} bytes`);
  }

  _empty(): void {
    this.disk.replace("", false);
    this.#tell("the log is emptied in place");
  }

  /** Lines also behind what a cut left of another one. */
  #lineEnds(text: string): number[] {
    return [...text.matchAll(/#(\d+)~$/gm)].map(([, id]) => Number(id));
  }

  /** As a disk in memory that is saved now and then, or a backup: the log is what it once was. */
  _rollBack(a: number, b: number): void {
    const text = this.#pick(this.#snapshots, a);
    if (text === undefined) return;
    this.disk.replace(text, b < 0.5);
    const ids = this.disk.wholeLines(text);
    this.oracle.broughtBack([...new Set([...ids, ...this.#lineEnds(text)])]);
    this.#tell(`the log is back at ${ids.length} lines${b < 0.5 ? ", as a new file" : ""}`);
  }

  _edit(a: number, b: number): void {
    const { disk } = this;
    const lines = disk.live.split(/(?<=\n)/);
    const at = b < 0.4 ? lines.length - 1 : Math.floor(a * lines.length);
    const line = lines[at] ?? "";
    const edited = disk.wholeLine(line.trimEnd(), undefined);
    if (edited === undefined || disk.twins(edited).length > 1) return;
    const isDeleted = b < 0.2 || b > 0.7;
    lines[at] = isDeleted ? "" : line.replace("~\n", a < 0.5 ? "!\n" : " was edited\n");
    const isNewFile = (b * 10) % 1 < 0.5;
    const { pending } = disk;
    disk.replace(lines.join(""), isNewFile);
    disk.pending = pending;
    this.oracle.edited(edited, isDeleted);
    const isSent = (id: number) => this.oracle.delivered.has(id);
    // One line that is known is no proof: "New file with the same first line".
    const isKnown = disk.wholeLines(lines.join("")).filter(isSent).length > 1;
    this.oracle.broughtBack([...disk.inSiblings()].filter((id) => !isKnown || !isSent(id)));
    const how = isNewFile ? ", as a new file" : "";
    this.#tell(`line ${edited} is ${isDeleted ? "deleted" : "edited"}${how}`);
  }

  _renameSibling(a: number, b: number): void {
    const { disk } = this;
    disk.finishCompressing();
    const from = this.#pick(disk.siblings(), a);
    const name = OTHER_NAMES[Math.floor(b * OTHER_NAMES.length)]?.(1 + (Math.floor(b * 1_000) % 9));
    if (from === undefined || name === undefined) return;
    const ending = b % 0.1 < 0.09 ? (PACKED.exec(from)?.[0] ?? "") : "";
    const to = name + ending;
    if (disk.siblings().some((each) => each.replace(PACKED, "") === name)) return;
    disk.move(from, to);
    this.#tell(`${NAME}${from} is renamed to ${to.startsWith("@") ? to.slice(1) : NAME + to}`);
  }

  _backUp(): void {
    const { disk } = this;
    // What a cut left of a line is sent from its copy, and where it goes on again as another line.
    if (!disk.live.endsWith("\n")) return;
    disk.finishCompressing();
    // Not as `-20261031` beside numbers, nor as `.1` beside dates: which of two families is the younger
    // is told by no content, only by the rule that dated files are.
    const suffix = disk.nextRotated();
    disk.put(suffix, disk.live);
    this.#tell(`the log is copied to ${suffix}`);
  }

  _moveBack(): void {
    const { disk } = this;
    const youngest = disk.rotated().at(-1);
    if (disk.compressing || youngest === undefined || PACKED.test(youngest)) return;
    disk.pending = "";
    disk.move(youngest, "");
    this.#tell(`${youngest} is moved back over the log`);
  }

  // Steps against the state.

  #stateCopies(): string[] {
    const names = fs.existsSync(this.disk.state) ? fs.readdirSync(this.disk.state) : [];
    return names.filter((name) => /\.json(\.bak)?$/.test(name)).sort();
  }

  /** The newest copy that can be read. */
  #savedState(): Saved {
    let found: Saved = "none";
    for (const name of this.#stateCopies()) {
      const text = fs.readFileSync(join(this.disk.state, name), "utf8");
      found = parseState(text) ?? "damaged";
      if (typeof found !== "string") break;
    }
    return found;
  }

  #stateCondition(saved: Saved): StateCondition {
    if (typeof saved === "string") return saved;
    return JSON.stringify(saved.destinations["discord"]) === this.#newest ? "good" : "older";
  }

  /** The line that the cursor stands behind, by its hash; unknown where that is no whole line. */
  #anchorLine(saved: Saved): Anchor {
    const cursor = typeof saved === "string" ? undefined : saved.destinations["discord"]?.cursor;
    if (!cursor) return undefined;
    const { lastLineHash } = cursor;
    // A line without a date proves nothing by itself.
    const id = this.disk.texts.findLastIndex((_, each) => this.#lineHash(each) === lastLineHash);
    return id < 0 || this.disk.texts[id] === CONTINUED ? "unknown" : id;
  }

  #lineHash(id: number): string {
    const bytes = () => Buffer.from(`${this.disk.texts[id]}\n`).subarray(-4096);
    return (this.#hashes[id] ??= fingerprint(bytes()));
  }

  #damage(name: string, how: number): void {
    this.#saved = undefined;
    const path = join(this.disk.state, name);
    const bytes = fs.readFileSync(path);
    if (how < 0.25) fs.rmSync(path);
    else if (how < 0.5) fs.writeFileSync(path, "");
    else if (how < 0.75) fs.writeFileSync(path, bytes.fill(0));
    else fs.writeFileSync(path, bytes.subarray(0, bytes.length >> 1));
  }

  _damageOneCopy(a: number, b: number): void {
    const names = this.#stateCopies();
    const name = names[Math.floor(a * names.length)];
    if (name === undefined) return;
    this.#damage(name, b);
    const left = this.#stateCondition(this.#savedState());
    this.oracle.stateChanged(left);
    const which = name.endsWith(".bak") ? "older" : "newer";
    this.#tell(`the ${which} copy of the state is damaged, what is left is ${left}`);
  }

  _damageState(a: number, b: number): void {
    const names = this.#stateCopies();
    if (names.length === 0) return;
    for (const [index, name] of names.entries()) this.#damage(name, 0.25 + 0.7 * (index ? a : b));
    this.oracle.stateChanged("damaged");
    this.#tell("all copies of the state are damaged");
  }

  _dropState(): void {
    this.#saved = undefined;
    for (const name of this.#stateCopies()) fs.rmSync(join(this.disk.state, name));
    this.#tell("the state is removed");
  }

  _refilter(a: number): void {
    if (this.history.view === undefined) return;
    this.#view = VIEWS[Math.floor(a * VIEWS.length)] ?? [];
    this.oracle.viewChanged();
    this.#tell(`runs are given ${this.#view.join(" ") || "no options"}`);
  }

  // Runs.

  #world(): World {
    return {
      env: {
        F2B_INLINE: "0",
        DISCORD_WEBHOOK: "https://discord.com/api/webhooks/1/averylongsecrettoken",
      },
      fs: this.#fs,
      stateHome: this.disk.state,
      terminal: false,
      heard: true,
      stopping: NEVER,
      now: () => this.#clockMs,
      uid: () => process.getuid?.() ?? 0,
      gid: () => process.getgid?.() ?? 0,
      timeout: () => NEVER,
      random: () => 0.5,
      sleep: async (ms) => {
        this.#gate();
        this.#clockMs += ms;
      },
      fetch: async (_url, init) => this.#answer(await new Response(init.body).text()),
      hostName: () => "web-1",
      runProgram: async () => ({ kind: "missing" }),
      streamProgram: this.disk.programs ? machine().streamProgram : unpackStandIn,
      writeOut: async () => undefined,
      writeError: (text) => {
        this.lastError = text.trim();
      },
    };
  }
  lastError = "";

  async #answer(body: string): Promise<Response> {
    this.#gate();
    this.requests++;
    const failure = this.#failAfter-- > 0 ? undefined : this.#failure;
    if (failure === "refused") {
      throw Object.assign(new Error("Unable to connect"), { code: "ECONNREFUSED" });
    }
    if (failure === "500") return new Response("", { status: 500 });
    if (failure === "429") return Response.json({ retry_after: 400 }, { status: 429 });
    if (failure === "429 without a time") return new Response("", { status: 429 });
    // With a file the message is one part of the body.
    const [payload = ""] = /^\{.*\}\r?$/m.exec(body) ?? [];
    const { content = "" } = JSON.parse(payload) as { content?: string };
    if (this.channel !== "forgetful") this.oracle.receive(content, failure === undefined);
    if (this.channel === "doubling") this.oracle.receive(content, true);
    this.#gate();
    if (failure) return new Response("", { status: 500 });
    return new Response(`{"id":"${this.requests}"}`);
  }

  async #runOnce(): Promise<number> {
    const saved = (this.#saved ??= this.#savedState());
    this.oracle.beginRun(this.#stateCondition(saved), this.#anchorLine(saved), this.#view);
    this.#calls = 0;
    this.#dead = false;
    const before = this.requests;
    const code = await main(["--log", this.disk.log, ...this.#view], this.#world());
    const forgotten = [...this.#open];
    for (const descriptor of forgotten) fs.closeSync(descriptor);
    this.#open.clear();
    const left = this.#savedState();
    this.#saved = left;
    this.#newest = typeof left === "string" ? "" : JSON.stringify(left.destinations["discord"]);
    const end = this.#dead ? "by kill" : code;
    this.#tell(`run${this.#describeTrouble()}: ${this.requests - before} posts, exit ${end}`);
    this.oracle.ended(!this.#dead && code === 0);
    if (this.#dead) {
      this.oracle.killed();
      return -1;
    }
    if (forgotten.length > 0) this.oracle.failure ??= `${forgotten.length} files were left open`;
    if (![0, 66, 75].includes(code)) this.oracle.failure ??= `exit ${code}: ${this.lastError}`;
    if (code === 66 && this.disk.files.has("")) this.oracle.failure ??= `exit 66 with a log`;
    if (code !== 75) {
      const { notice, held } = (typeof left !== "string" && left.destinations["discord"]) || {};
      this.oracle.done(this.#stateCondition(left), notice !== undefined, held === undefined);
    }
    return code;
  }

  #describeTrouble(): string {
    if (this.#killAt !== Infinity) return ` (killed at call ${this.#killAt})`;
    return this.#failure ? ` (${this.#failure} after ${Math.max(0, this.#failAfter)} posts)` : "";
  }

  async _failingRun(a: number, b: number): Promise<void> {
    this.#failure = FAILURES[Math.floor(a * FAILURES.length)];
    this.#failAfter = Math.floor(b * b * 5);
    await this.#runOnce();
    this.#failure = undefined;
  }

  async _kill(a: number): Promise<void> {
    this.#killAt = 1 + Math.floor(a * 160);
    await this.#runOnce();
    this.#killAt = Infinity;
  }

  async _run(): Promise<void> {
    await this.#runOnce();
  }

  /** In the end all is well for a while: everything comes, and then nothing more. */
  async #finish(): Promise<void> {
    let code = -1;
    for (let runs = 0; runs < 3 && code !== 0; runs++) {
      this.#clockMs += 2 * HOUR_MS;
      code = await this.#runOnce();
      if (this.oracle.failure) return;
    }
    if (code === 66) return;
    if (code !== 0) this.oracle.failure ??= `exit ${code} with nothing wrong: ${this.lastError}`;
    const before = this.requests;
    // A backup copy that ends in mid-line is known as done only after the pass that saw it first.
    for (let state = "none", runs = 0; state !== this.#newest; runs++) {
      if (runs > 2) return void (this.oracle.failure ??= "runs with nothing new change the state");
      state = this.#newest;
      this.#clockMs += 2 * HOUR_MS;
      await this.#runOnce();
    }
    if (this.requests > before) this.oracle.failure ??= "a run with nothing new posts something";
  }
}

const HOME = fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

/** Plays one history on real files; absent when all went as promised. */
export async function playHistory(
  history: History,
  channel: Channel = "honest",
): Promise<Failure | undefined> {
  const directory = fs.mkdtempSync(join(HOME, "f2b-histories-"));
  try {
    const player = new Player(directory, history, channel);
    await player.play();
    const what = player.oracle.failure;
    return what === undefined ? undefined : { what, story: player.story };
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** The kind of a failure, without its numbers. */
function failureClass(what: string): string {
  return what.replace(/\d[\d,.-]*/g, "N").slice(0, 40);
}

/** Leaves out steps as long as it still goes wrong in the same way. */
export async function shrink(
  history: History,
  what: string,
  channel: Channel = "honest",
): Promise<History> {
  const failsAlike = async (attempt: History) => {
    const failure = await playHistory(attempt, channel);
    return failure !== undefined && failureClass(failure.what) === failureClass(what);
  };
  let small = history;
  for (let size = small.steps.length >> 1; size >= 1;) {
    let shorter: History | undefined;
    for (let at = 0; at + size <= small.steps.length && !shorter; at++) {
      const steps = [...small.steps.slice(0, at), ...small.steps.slice(at + size)];
      if (await failsAlike({ ...small, steps })) shorter = { ...small, steps };
    }
    if (shorter) small = shorter;
    else size = size >> 1;
  }
  const { view, ...plain } = small;
  for (const plainer of [{ ...small, stale: false }, { ...small, alike: false }, plain]) {
    if (await failsAlike(plainer)) small = { ...plainer };
  }
  return small;
}

/** Plays the histories of these seeds; the stories of those that fail, shrunk, three at most. */
async function playSeeds(first: number, count: number): Promise<string[]> {
  const stories: string[] = [];
  for (let seed = first; seed < first + count && stories.length < 3; seed++) {
    const history = randomHistory(seed);
    const failure = await playHistory(history);
    if (!failure) continue;
    const { what, story } = (await playHistory(await shrink(history, failure.what))) ?? failure;
    stories.push([`HISTORIES_SEED=${seed}: ${what}`, ...story].join("\n  "));
  }
  return stories;
}

/** What a process says last. */
const DONE_WITH_ALL = "all were played\n";

/** The same, shared among processes, one a processor. */
export async function playAll(first: number, count: number): Promise<string> {
  const share = Math.ceil(count / navigator.hardwareConcurrency);
  const starts = Array.from({ length: Math.ceil(count / share) }, (_, at) => first + at * share);
  const stories = await Promise.all(
    starts.map(async (start) => {
      const seeds = [String(start), String(Math.min(share, first + count - start))];
      const child = Bun.spawn([process.execPath, import.meta.filename, ...seeds], {
        stdout: "pipe",
        stderr: "inherit",
      });
      const told = await child.stdout.text();
      const whole = told.endsWith(DONE_WITH_ALL);
      return whole ? told.replace(DONE_WITH_ALL, "") : `${told}\nended early: ${seeds.join(" ")}`;
    }),
  );
  return stories.join("");
}

if (import.meta.main) {
  const [first, count] = process.argv.slice(2).map(Number);
  const stories = await playSeeds(first ?? 1, count ?? 1);
  if (stories.length > 0) console.log(stories.join("\n\n"));
  process.stdout.write(DONE_WITH_ALL);
}
