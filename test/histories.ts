/**
 * Random histories of a log, its rotation, its readers' accidents, and an oracle that knows of every
 * line ever written whether it may be missing and how often it may come again.
 *
 * What the oracle excuses, and the sentence of the promises that allows it:
 * - what is lost unseen from a log that had been sent to its end and was then emptied, or trimmed down to
 *   lines that came later, in place: "What was sent to its end and then emptied is no gap."
 * - what copytruncate, a truncation or a trimmed head destroyed before a run: "What copytruncate itself
 *   destroys cannot be delivered"; told by a gap notice where the last line is gone with it
 * - lines of siblings that lay there at the first run: "No state is a first run (`--from`)."
 * - what comes again behind a gap notice: "Nothing matches → one gap notice …, then every sibling that is
 *   not known to be finished", and "State damaged → its older copy; both damaged → the gap rule."
 * - one message that comes twice after a kill or a lost answer: "at most one message repeated"
 */
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { fingerprint, main, parseState, type World } from "../f2b-watch.ts";
import { machine, type State } from "./harness.ts";

// ── Histories ───────────────────────────────────────────────────────────────────────────────────

const WEIGHTS = {
  write: 22,
  part: 4,
  rotate: 9,
  flush: 5,
  copytruncate: 4,
  compress: 4,
  startCompressing: 2,
  removeOldest: 4,
  trimHead: 4,
  copyBack: 2,
  swapInode: 1,
  truncate: 2,
  backUp: 3,
  moveBack: 1,
  damageOneCopy: 2,
  damageState: 1,
  dropState: 1,
  wait: 2,
  run: 26,
  failingRun: 7,
  kill: 9,
};
type Kind = keyof typeof WEIGHTS;
const KINDS = Object.keys(WEIGHTS) as Kind[];

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
  /** Kinds are chosen, all that there are: each line is looked at, and all are shown. */
  readonly chosen?: boolean;
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
  return { scheme, stale, chosen: seed % 4 === 0, steps };
}

// ── The disk ────────────────────────────────────────────────────────────────────────────────────
// Real files, and beside them what they hold as text, so that the oracle need not unpack anything.

const NAME = "fail2ban.log";

/** Every line is dated, unique, and told by its last characters. */
function lineText(id: number, length: number): string {
  const at = new Date(Date.UTC(2026, 10, 22, 8) + id * 1_007).toISOString();
  const stamp = `${at.slice(0, 10)} ${at.slice(11, 19)},${at.slice(20, 23)}`;
  let text = `${stamp} fail2ban.filter [18191]: INFO [sshd] Found`;
  for (let word = 0; text.length < length; word++) text += ` #${id}.${word}`;
  return `${text} #${id}~`;
}

class Disk {
  readonly log: string;
  readonly state: string;
  readonly files = new Map<string, string>();
  /** The file that fail2ban has open: `""` is the live log. */
  writer = "";
  /** What is still to come of a line that was written in part. */
  pending = "";
  compressing: { suffix: string; ending: string } | undefined;
  #days = 0;
  #ids = new Map<string, number[]>();
  /** Every line ever begun, by number. */
  readonly texts: string[] = [];

  constructor(
    directory: string,
    readonly scheme: "number" | "date",
    readonly chosen: boolean,
  ) {
    this.log = join(directory, NAME);
    this.state = join(directory, "state");
  }

  path(suffix: string): string {
    return this.log + suffix;
  }

  put(suffix: string, text: string): void {
    const bytes = suffix.endsWith(".gz")
      ? gzipSync(text, { level: 1 })
      : suffix.endsWith(".zst")
        ? zstdCompressSync(text)
        : text;
    fs.writeFileSync(this.path(suffix), bytes, { mode: 0o640 });
    this.files.set(suffix, text);
  }

  append(suffix: string, text: string): void {
    fs.appendFileSync(this.path(suffix), text, { mode: 0o640 });
    this.files.set(suffix, (this.files.get(suffix) ?? "") + text);
  }

  remove(suffix: string): void {
    fs.rmSync(this.path(suffix), { force: true });
    this.files.delete(suffix);
  }

  move(from: string, to: string): void {
    fs.renameSync(this.path(from), this.path(to));
    this.files.set(to, this.files.get(from) ?? "");
    this.files.delete(from);
    if (this.writer === from) this.writer = to;
  }

  /** A new line's text; `length` only says about how long. */
  newLine(length: number): string {
    const text = lineText(this.texts.length, length);
    this.texts.push(text);
    return text;
  }

  /** Whole lines in a text, by number; what a cut left of a line is none. */
  wholeLines(text: string): number[] {
    const known = this.#ids.get(text);
    if (known) return known;
    const ids = text
      .split("\n")
      .slice(0, -1)
      .flatMap((line) => this.wholeLine(line) ?? []);
    this.#ids.set(text, ids);
    return ids;
  }

  wholeLine(line: string): number | undefined {
    const id = Number(/#(\d+)~$/.exec(line)?.[1] ?? -1);
    const text = this.texts[id];
    if (text === undefined || !line.endsWith(text)) return undefined;
    // Behind what a truncation left of another line: of no kind that is known; a long one would be cut anywhere.
    const glued = line.length !== text.length;
    return glued && (this.chosen || line.length >= 1_900) ? undefined : id;
  }

  existing(): Set<number> {
    return new Set([...this.files.values()].flatMap((text) => this.wholeLines(text)));
  }

  /** Whether a line is anywhere, also behind what a truncation left of another one. */
  holds(id: number): boolean {
    return [...this.files.values()].some((text) => text.includes(`${this.texts[id]}\n`));
  }

  siblings(): string[] {
    return [...this.files.keys()].filter((suffix) => suffix !== "").sort();
  }

  twoSchemes(): boolean {
    return new Set(this.siblings().map((suffix) => suffix[0])).size > 1;
  }

  /** Oldest first. */
  rotated(): string[] {
    const own = this.siblings().filter(
      (suffix) => suffix.startsWith(".") === (this.scheme === "number"),
    );
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
  #older = false;
  #damaged = false;
  /** A gap was told, and not everything that follows from it was sent yet. */
  #gapTold = false;
  #gapEver = false;
  #noticeDue = false;
  #noticeFits = false;
  /** The last notice may not have been confirmed: it may come again. */
  #noticeOpen = false;
  #lastHadNotice = false;
  /** What came since both copies of the state knew all of it. */
  #runIds: number[] = [];
  #lastIds: number[] = [];
  #died = false;

  constructor(readonly disk: Disk) {}

  #fail(what: string): void {
    this.failure ??= what;
  }

  /** Called around every step that may destroy lines. */
  vanished(before: ReadonlySet<number>): void {
    const now = this.disk.existing();
    for (const id of before) {
      if (!now.has(id) && !this.delivered.has(id) && !this.#exempt.has(id)) this.#lost.add(id);
    }
  }

  /** An older copy of the state may know less than was sent by the last run. */
  stateChanged(condition: StateCondition): void {
    if (condition === "older") {
      this.#older = true;
      this.#allow(this.#runIds);
    }
    if (condition === "damaged") this.#damaged = true;
  }

  #allow(ids: Iterable<number>): void {
    for (const id of ids) this.#mayRepeat.set(id, (this.#mayRepeat.get(id) ?? 0) + 1);
  }

  /** `anchor`: the line that the cursor stands behind, where that is a whole one. */
  beginRun(
    condition: StateCondition,
    anchor: number | "unknown" | undefined,
    isDrained: boolean,
  ): void {
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
      this.#furthest = -1;
      this.#damaged = false;
    }
    const anchorLost = typeof anchor === "number" && !this.disk.holds(anchor);
    if (anchorLost && isDrained) {
      for (const id of this.#lost) this.#exempt.add(id);
      this.#lost.clear();
    }
    this.#noticeDue = this.#damaged || (this.#lost.size > 0 && anchorLost);
    this.#noticeFits ||=
      this.#damaged || this.#older || anchorLost || anchor === "unknown" || this.#noticeOpen;
    if (!this.#died) this.#runIds = [];
    this.#died = false;
    this.#lastIds = [];
    this.#lastHadNotice = false;
  }

  /** A message that the channel keeps; `confirmed` when its sender is told so. */
  receive(content: string, confirmed: boolean): void {
    if (content.length >= 2_000) this.#fail(`a message of ${content.length} characters`);
    const [, prefix = "", body] = /^([^`]*)(?:```\n([^]*)\n```)?$/.exec(content) ?? [];
    const notice = prefix.includes("may be missing");
    if (notice && !this.#noticeFits) this.#fail(`a gap was told where none is: ${prefix.trim()}`);
    if (this.#noticeDue && !notice) {
      this.#fail(
        this.#damaged
          ? "the state was damaged, and nothing said so"
          : `lost in silence: ${[...this.#lost].join()}`,
      );
    }
    this.#noticeDue = false;
    this.#lastHadNotice = notice;
    if (notice) {
      this.#noticeOpen = !confirmed;
      this.#gapEver = this.#gapTold = true;
      this.#lost.clear();
      this.#damaged = false;
    }
    this.#lastIds = [];
    for (const line of body?.split("\n") ?? []) {
      if (line.startsWith("…") || line.endsWith("…")) this.#takePiece(line);
      else this.#takeLine(this.disk.wholeLine(line));
    }
    this.#runIds.push(...this.#lastIds);
    if (!confirmed) this.#allow(this.#lastIds);
  }

  #takeLine(id: number | undefined): void {
    if (id === undefined) return;
    this.#lastIds.push(id);
    if (this.delivered.has(id)) this.#again(id);
    else this.#first(id);
  }

  #first(id: number): void {
    this.delivered.add(id);
    // Between files named by number and files named by date there is no order.
    const ordered = !this.#exempt.has(id) && !this.disk.twoSchemes();
    if (id < this.#furthest && ordered && this.disk.existing().has(id)) {
      this.#fail(`line ${id} came after line ${this.#furthest}`);
    }
    this.#furthest = Math.max(this.#furthest, id);
  }

  #again(id: number): void {
    const left = this.#mayRepeat.get(id) ?? 0;
    if (left > 0) this.#mayRepeat.set(id, left - 1);
    else if (!this.#gapTold) this.#fail(`line ${id} came again`);
  }

  /** Part of a line longer than a message; its words tell which part. */
  #takePiece(marked: string): void {
    const piece = marked.replace(/^…|…$/g, "");
    // A cut in mid-line lets the next line begin behind the rest of the one before.
    const starts = [...piece.matchAll(/2026-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} fail2ban\./g)];
    const words = piece.slice(starts.at(-1)?.index ?? 0);
    // A short last piece may hold no whole word.
    const id = Number(
      / #(\d+)[.~]/.exec(words)?.[1] ?? (marked.startsWith("…") ? this.#pieceOf : -1),
    );
    const text = this.disk.texts[id];
    const at = text?.lastIndexOf(words) ?? -1;
    this.#pieceOf = id;
    if (text === undefined || at < 0) return;
    const end = at + words.length;
    this.#lastIds.push(id, id);
    const cameTo = this.#cameTo.get(id) ?? 0;
    if (at > cameTo && (this.#exempt.has(id) || !this.disk.existing().has(id))) return;
    if (at > cameTo) return this.#fail(`characters ${cameTo} to ${at} of line ${id} are missing`);
    this.#cameTo.set(id, Math.max(cameTo, end));
    // What a file ends with is sent when it is left, which may be long after the gap was told.
    const endsFile = end < text.length || (marked.endsWith("…") && this.delivered.has(id));
    if (endsFile && this.#gapEver) return;
    if (end <= cameTo || (end >= text.length && this.delivered.has(id))) this.#again(id);
    else if (end >= text.length) this.#first(id);
  }

  /** Nobody can know that there were such lines. */
  excuse(ids: readonly number[]): void {
    for (const id of ids) this.#exempt.add(id);
  }

  /** What is left of a line whose end was cut off is another line. */
  cut(id: number): void {
    if (this.#cameTo.delete(id)) this.#allow([id]);
  }

  killed(): void {
    this.#died = true;
    this.#noticeOpen ||= this.#lastHadNotice;
    this.#allow(this.#lastIds);
    this.#allow(this.#lastIds);
  }

  /** After a run that says that all is done. */
  done(condition: StateCondition): void {
    if (condition !== "good") this.#fail(`the state is ${condition} after a run`);
    for (const [suffix, text] of this.disk.files) {
      const missing = this.disk
        .wholeLines(text)
        .filter((id) => !this.delivered.has(id) && !this.#exempt.has(id));
      if (missing.length > 0) {
        this.#fail(`lines ${missing.join()} of ${NAME}${suffix} were not delivered`);
      }
    }
    this.#gapTold = false;
    this.#noticeFits = false;
    this.#older = false;
    if (!this.#noticeDue) this.#lost.clear();
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
  gated["writeSync"] = (descriptor: number, bytes: Uint8Array, from = 0) => {
    try {
      gate();
    } catch (error) {
      // What a killed process writes may be half of it.
      if (!dead()) throw error;
      fs.writeSync(descriptor, bytes, from, (bytes.length - from) >> 1);
      throw error;
    }
    return fs.writeSync(descriptor, bytes, from);
  };
  return gated as typeof fs;
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
  #saved: State | "none" | "damaged" | undefined;
  #copies = new Set<string>();
  readonly #hashes: string[] = [];
  readonly #open = new Set<number>();
  readonly #fs: typeof fs;

  constructor(
    directory: string,
    readonly history: History,
    readonly channel: Channel,
  ) {
    this.disk = new Disk(directory, history.scheme, history.chosen === true);
    this.oracle = new Oracle(this.disk);
    this.#fs = gatedFs(
      () => this.#gate(),
      () => this.#dead,
      this.#open,
    );
    if (history.chosen) this.#tell("all runs are given --only found");
    if (history.stale) {
      this.disk.put(this.#foreignName(), `${this.disk.newLine(90)}\n${this.disk.newLine(90)}\n`);
      this.story.push(`an old ${this.#foreignName()} lies there: lines 0, 1`);
    }
    this.disk.put("", "");
  }

  #stateWasDamaged = false;

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
    if (kind === "run") return this.#run();
    if (kind === "failingRun") return this.#failingRun(a, b);
    if (kind === "kill") return this.#killedRun(a);
    if (kind === "wait") this.#clockMs += Math.floor(a * 2 * HOUR_MS);
    else if (kind === "damageOneCopy") this.#damageOneCopy(a, b);
    else if (kind === "damageState") this.#damageState(a, b);
    else if (kind === "dropState") this.#dropState();
    else {
      const before = this.disk.existing();
      this[`_${kind}`](a, b);
      this.oracle.vanished(before);
    }
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
    const lines = Array.from({ length: count }, () => `${disk.newLine(length)}\n`);
    disk.append(disk.writer, lines.join(""));
    this.#tell(
      `fail2ban writes lines ${first} to ${disk.texts.length - 1} (${length} characters) into ${NAME}${disk.writer}`,
    );
  }

  _part(a: number, b: number): void {
    const { disk } = this;
    if (!disk.files.has(disk.writer)) return;
    this.#complete();
    const text = disk.newLine(b < 0.1 ? 3_000 : 120);
    const cut = 1 + Math.floor(a * text.length);
    disk.append(disk.writer, text.slice(0, cut));
    disk.pending = `${text.slice(cut)}\n`;
    this.#tell(`${cut} characters of line ${disk.texts.length - 1} are written`);
  }

  _rotate(a: number, b: number): void {
    const { disk } = this;
    if (!this.#writerIsLive()) return;
    disk.finishCompressing();
    const create = a < 0.7;
    const waits = b < 0.4;
    if (!waits && b < 0.7) this.#complete();
    const suffix = disk.nextRotated();
    disk.move("", suffix);
    if (create) disk.put("", "");
    this.#tell(
      `the log is renamed to ${suffix}${create ? ", a new one is created" : ""}${waits ? ", fail2ban stays in it" : ""}`,
    );
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
    if (!this.#writerIsLive()) return;
    disk.finishCompressing();
    const suffix = disk.nextRotated();
    disk.put(suffix, disk.files.get("") ?? "");
    disk.put("", "");
    this.#tell(`copytruncate to ${suffix}`);
  }

  #compressible(a: number): string | undefined {
    const { disk } = this;
    const plain = disk.siblings().filter((suffix) => /\d$/.test(suffix) && suffix !== disk.writer);
    return plain[Math.floor(a * plain.length)];
  }

  _compress(a: number, b: number): void {
    const { disk } = this;
    disk.finishCompressing();
    const suffix = this.#compressible(a);
    if (suffix === undefined) return;
    disk.compressing = { suffix, ending: b < 0.6 ? ".gz" : ".zst" };
    disk.finishCompressing();
    this.#renameCopy(suffix, suffix + (b < 0.6 ? ".gz" : ".zst"));
    this.#tell(`${suffix} is compressed${b < 0.6 ? "" : " (.zst)"}`);
  }

  _startCompressing(a: number): void {
    const { disk } = this;
    const suffix = this.#compressible(a);
    if (suffix === undefined || disk.compressing) return;
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

  /** A copy of the live log may lie under any name, compressed or not. */
  #untrimmedCopy(): boolean {
    return this.#copies.size > 0;
  }

  #renameCopy(from: string, to: string): void {
    if (this.#copies.delete(from)) this.#copies.add(to);
  }

  _trimHead(a: number, b: number): void {
    // An untrimmed copy beside a trimmed live log is a better match than the log itself: every line
    // of the live log looks new then, and nothing in either file tells that it is not.
    if (!this.#writerIsLive() || this.#untrimmedCopy()) return;
    const { disk } = this;
    const lines = (disk.files.get("") ?? "").split(/(?<=\n)/);
    const kept = lines.slice(lines.length - Math.floor(a * lines.length));
    // What is trimmed off a file that no run has begun to read leaves no trace anywhere.
    const begun = disk.wholeLines(lines.join("")).some((id) => this.oracle.delivered.has(id));
    if (!begun) return;
    if (b < 0.5) fs.rmSync(disk.log);
    disk.put("", kept.join(""));
    this.#tell(
      `the log is trimmed to its last ${kept.length} lines${b < 0.5 ? ", as a new file" : ""}`,
    );
  }

  _copyBack(): void {
    const { disk } = this;
    if (!this.#writerIsLive()) return;
    fs.copyFileSync(disk.log, `${disk.log}.tmp`);
    fs.renameSync(`${disk.log}.tmp`, disk.log);
    this.#tell("the log is copied back, as a new file");
  }

  _swapInode(): void {
    const { disk } = this;
    if (!this.#writerIsLive()) return;
    disk.remove("");
    disk.pending = "";
    disk.put("", "");
    this.#tell("the log is deleted and created anew");
  }

  _truncate(a: number, b: number): void {
    const { disk } = this;
    if (!this.#writerIsLive() || this.#untrimmedCopy()) return;
    const text = disk.files.get("") ?? "";
    let keep = Math.floor(a * text.length);
    if (b < 0.3) keep = 0;
    else if (b < 0.6) keep = text.lastIndexOf("\n", keep) + 1;
    fs.truncateSync(disk.log, keep);
    disk.files.set("", text.slice(0, keep));
    const left = disk.wholeLines(text.slice(0, keep));
    const gone = disk.wholeLines(text).filter((id) => !left.includes(id));
    if (gone[0] !== undefined) this.oracle.cut(gone[0]);
    // What is cut off a file that no run has begun to read leaves no trace anywhere.
    const begun = disk.wholeLines(text).some((id) => this.oracle.delivered.has(id));
    if (!begun) this.oracle.excuse(gone);
    disk.pending = "";
    this.#tell(`the log is truncated from ${text.length} to ${keep} bytes`);
  }

  _backUp(): void {
    const { disk } = this;
    if (!this.#writerIsLive() || disk.files.get("") === "") return;
    disk.finishCompressing();
    // Not as `-20261031` beside numbers, nor as `.1` beside dates: which of two families is the younger
    // is told by no content, only by the rule that dated files are.
    const suffix = disk.nextRotated();
    for (const ending of ["", ".gz", ".zst"]) disk.remove(suffix + ending);
    disk.put(suffix, disk.files.get("") ?? "");
    this.#copies.add(suffix);
    this.#tell(`the log is copied to ${suffix}`);
  }

  _moveBack(): void {
    const { disk } = this;
    const youngest = disk.rotated().at(-1);
    if (!this.#writerIsLive() || disk.compressing || !/\d$/.test(youngest ?? "")) return;
    // A log that goes on where the cursor stands is read on without a look at its siblings, so that
    // what only a backup copy still holds of the log that was overwritten is not found.
    if (youngest === undefined || this.#untrimmedCopy()) return;
    // With the state lost, a stale file of the other family is where the cursor may stand by now.
    if (this.#stateWasDamaged && this.history.stale) return;
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
  #savedState(): State | "none" | "damaged" {
    let found: State | "none" | "damaged" = "none";
    for (const name of this.#stateCopies()) {
      const text = fs.readFileSync(join(this.disk.state, name), "utf8");
      found = parseState(text, this.disk.log) ?? "damaged";
      if (typeof found !== "string") break;
    }
    return found;
  }

  #stateCondition(saved: State | "none" | "damaged"): StateCondition {
    if (typeof saved === "string") return saved;
    return JSON.stringify(saved.destinations["discord"]) === this.#newest ? "good" : "older";
  }

  /** The line that the cursor stands behind, by its hash; unknown where that is no whole line. */
  #anchorLine(saved: State | "none" | "damaged"): number | "unknown" | undefined {
    const cursor = typeof saved === "string" ? undefined : saved.destinations["discord"]?.cursor;
    if (!cursor) return undefined;
    const { texts } = this.disk;
    for (let id = texts.length - 1; id >= 0; id--) {
      if (this.#lineHash(id) === cursor.lastLineHash) return id;
    }
    return "unknown";
  }

  /** The log was sent to its end, and is the same file since: whether it was emptied is not to be seen. */
  #isDrained(saved: State | "none" | "damaged"): boolean {
    const drained = typeof saved === "string" ? undefined : saved.destinations["discord"]?.drained;
    const stat = fs.statSync(this.disk.log, { throwIfNoEntry: false });
    return (
      stat !== undefined &&
      drained?.file === `${stat.dev}:${stat.ino}:${Math.floor(stat.birthtimeMs)}`
    );
  }

  #lineHash(id: number): string {
    return (this.#hashes[id] ??= fingerprint(
      Buffer.from(`${this.disk.texts[id]}\n`).subarray(-4096),
    ));
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

  #damageOneCopy(a: number, b: number): void {
    const names = this.#stateCopies();
    const name = names[Math.floor(a * names.length)];
    if (name === undefined) return;
    this.#damage(name, b);
    const left = this.#stateCondition(this.#savedState());
    this.oracle.stateChanged(left);
    this.#tell(
      `${name.endsWith(".bak") ? "the older" : "the newer"} copy of the state is damaged, what is left is ${left}`,
    );
  }

  #damageState(a: number, b: number): void {
    this.#stateWasDamaged = true;
    const names = this.#stateCopies();
    if (names.length === 0) return;
    for (const [index, name] of names.entries()) this.#damage(name, 0.25 + 0.7 * (index ? a : b));
    this.oracle.stateChanged("damaged");
    this.#tell("all copies of the state are damaged");
  }

  #dropState(): void {
    this.#saved = undefined;
    for (const name of this.#stateCopies()) fs.rmSync(join(this.disk.state, name));
    this.#tell("the state is removed");
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
      streamProgram: (...call) => machine().streamProgram(...call),
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
    const { content } = JSON.parse(body) as { content: string };
    if (this.channel !== "forgetful") this.oracle.receive(content, failure === undefined);
    if (this.channel === "doubling") this.oracle.receive(content, true);
    this.#gate();
    if (failure) return new Response("", { status: 500 });
    return new Response(`{"id":"${this.requests}"}`);
  }

  async #runOnce(): Promise<number> {
    const saved = (this.#saved ??= this.#savedState());
    this.oracle.beginRun(
      this.#stateCondition(saved),
      this.#anchorLine(saved),
      this.#isDrained(saved),
    );
    this.#calls = 0;
    this.#dead = false;
    const before = this.requests;
    const flags = this.history.chosen ? ["--only", "found"] : [];
    const code = await main(["--log", this.disk.log, ...flags], this.#world());
    const forgotten = [...this.#open];
    for (const descriptor of forgotten) fs.closeSync(descriptor);
    this.#open.clear();
    const left = this.#savedState();
    this.#saved = left;
    this.#newest = typeof left === "string" ? "" : JSON.stringify(left.destinations["discord"]);
    const posts = this.requests - before;
    this.#tell(
      `run${this.#describeTrouble()}: ${posts} posts, exit ${this.#dead ? "by kill" : code}`,
    );
    if (this.#dead) {
      this.oracle.killed();
      return -1;
    }
    if (forgotten.length > 0) this.oracle.failure ??= `${forgotten.length} files were left open`;
    if (![0, 66, 75].includes(code)) this.oracle.failure ??= `exit ${code}: ${this.lastError}`;
    if (code === 66 && this.disk.files.has("")) this.oracle.failure ??= `exit 66 with a log`;
    if (code !== 75) this.oracle.done(this.#stateCondition(left));
    return code;
  }

  #describeTrouble(): string {
    if (this.#killAt !== Infinity) return ` (killed at call ${this.#killAt})`;
    return this.#failure ? ` (${this.#failure} after ${Math.max(0, this.#failAfter)} posts)` : "";
  }

  async #run(): Promise<void> {
    await this.#runOnce();
  }

  async #failingRun(a: number, b: number): Promise<void> {
    this.#failure = FAILURES[Math.floor(a * FAILURES.length)];
    this.#failAfter = Math.floor(b * b * 5);
    await this.#runOnce();
    this.#failure = undefined;
  }

  async #killedRun(a: number): Promise<void> {
    this.#killAt = 1 + Math.floor(a * 160);
    await this.#runOnce();
    this.#killAt = Infinity;
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
export function failureClass(what: string): string {
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
  for (const plain of [{ stale: false }, { chosen: false }]) {
    if (await failsAlike({ ...small, ...plain })) small = { ...small, ...plain };
  }
  return small;
}

/** A failed history as a story of a few sentences. */
export async function tellFailure(seed: number, history: History): Promise<string> {
  const failure = await playHistory(history);
  if (!failure) return "";
  const small = await shrink(history, failure.what);
  const shrunk = (await playHistory(small)) ?? failure;
  return [
    `HISTORIES_SEED=${seed}: ${shrunk.what}`,
    ...shrunk.story.map((each) => `  ${each}`),
  ].join("\n");
}

/** Plays the histories of these seeds; the stories of those that fail, three at most. */
async function playSeeds(first: number, count: number): Promise<string[]> {
  const stories: string[] = [];
  for (let seed = first; seed < first + count && stories.length < 3; seed++) {
    const history = randomHistory(seed);
    if (await playHistory(history)) stories.push(await tellFailure(seed, history));
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
