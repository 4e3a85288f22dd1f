#!/usr/bin/env -S bun
/**
 * f2b-watch tells Discord what fail2ban did: every line of its log once, in order, across rotations.
 *
 * One run is one pass: read what is new since the saved cursor, pack it into code-fenced messages
 * under 2000 characters, post them one by one, save the cursor after each, leave. Cron does the rest.
 *
 *   bun f2b-watch.ts --log /var/log/fail2ban.log          (no destination set: messages go to stdout)
 *   DISCORD_WEBHOOK=https://discord.com/api/webhooks/… bun f2b-watch.ts
 *
 * Read it top to bottom:
 *   Constants              limits of others and of ours, each with its source
 *   Types and schemas      what is saved, what is planned, what a server may answer
 *   Core: text             secrets out, control characters visible, lines into messages
 *   Core: where to read    names of rotated files, anchors, the plan of a pass
 *   Core: how to send      pace, verdicts, what to do after each, when to report
 *   World: files           the log, its siblings, anchors in them, the state and its lock
 *   World: network         Discord and stdout
 *   The pass               deciding and doing, one destination at a time
 *   Command line           settings, help, main
 */
import { Buffer, isAscii } from "node:buffer";
import * as fs from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { cac } from "cac";
import * as z from "zod/mini";

// ── Constants ───────────────────────────────────────────────────────────────────────────────────
// Limits that others set, with their source, and the few that are ours.

export const VERSION = "1.0.0";

/** Discord takes 2000 characters a message; ours are under that (the design card). */
const MESSAGE_LIMIT = 1_999;
/** Discord: 5 requests in 2 s a webhook (headers), 30 in 60 s a channel (in no header); one is left as slack. */
const DISCORD_PACE: readonly Pace[] = [
  { posts: 5, windowMs: 2_000 },
  { posts: 29, windowMs: 60_000 },
];
/** https://docs.discord.com/developers/topics/opcodes-and-status-codes */
const DISCORD_DEAD_CODES: readonly number[] = [10003, 10015, 50001, 50013, 50027];
const DISCORD_CONTENT_CODES: readonly number[] = [40005, 50006, 200000, 240000];
/** Discord: no embeds made of links (1 << 2). */
const SUPPRESS_EMBEDS = 4;

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const POST_TIMEOUT_MS = 20 * SECOND;
const REPLY_LIMIT_BYTES = 64 * 1024;
/** How often a message that may have arrived is tried in one run. */
const UNCLEAR_TRIES = 3;
/** How often a message that provably never left is tried in one run: about a minute. */
const UNSENT_TRIES = 7;
const REFUSED_LINES_LIMIT = 10;

/** Fastest of 64 KiB to 16 MiB when the page cache is warm. */
const WINDOW_BYTES = 256 * 1024;
/** A longer line is read in pieces of this size, so that memory stays bounded. */
const LINE_LIMIT_BYTES = 8 * 1024 * 1024;
/** How much of a long line proves where a cursor stands. */
const ANCHOR_LINE_BYTES = 4 * 1024;
/** How far back the lines before the last one are looked at. */
const ANCHOR_TAIL_BYTES = 32 * 1024;
const ANCHOR_TAIL_LINES = 7;
/** The head is hashed at several lengths, so that a file cut short is still known by its beginning. */
const HEAD_LENGTHS: readonly number[] = [32, 128, 512];
const FINISHED_LIMIT = 100;
/** A compressed log that unpacks to more than this is a bomb, not a log (logs reach about 30). */
const UNPACK_RATIO_LIMIT = 200;
const UNPACK_FREE_BYTES = 64 * 1024 * 1024;

const STATE_VERSION = 1;
const CUT_MARK = "…";
const RESENT_MARK = "(resent)\n";
const NEWLINE = 10;

// ── Types and schemas ───────────────────────────────────────────────────────────────────────────
// A schema and its type share one name. Everything that comes from outside passes one of these.

const Count = z.int().check(z.minimum(0));

/** Proves where a reader stood: the bytes before `offset` are the proof, names and inodes are not. */
export const Anchor = z.object({
  offset: Count,
  lastLineHash: z.string(),
  lastLineBytes: Count,
  headHash: z.array(z.string()),
});
export type Anchor = z.infer<typeof Anchor>;

/** An anchor that can also be searched for, with the line count in its file. */
export const Cursor = z.extend(Anchor, {
  lines: Count,
  tail: z.array(z.string()),
  lastTime: z.optional(z.string()),
});
export type Cursor = z.infer<typeof Cursor>;

/** A rotated file that the cursor still stands in, as it was last seen. */
const Held = z.object({ name: z.string(), inode: z.string(), size: Count, since: z.number() });
type Held = z.infer<typeof Held>;

/** A time of quiet that a destination asked for, or that failures earned. */
export const Pause = z.object({
  setAt: z.number(),
  until: z.number(),
  stepMs: z.number(),
  exitCode: z.number(),
  why: z.string(),
});
export type Pause = z.infer<typeof Pause>;

const Dead = z.object({ settings: z.string(), triedAt: z.number(), why: z.string() });

export const Progress = z.object({
  cursor: z.optional(Cursor),
  /** Characters of the next line that earlier messages carried. */
  part: Count,
  /** Lines ever consumed: tells which destination stands furthest. */
  total: Count,
  finished: z.array(Anchor),
  held: z.optional(Held),
  /** The next message may have arrived already: a run died or an answer got lost. */
  inDoubt: z.boolean(),
  posts: z.array(z.number()),
  pause: z.optional(Pause),
  dead: z.optional(Dead),
});
export type Progress = z.infer<typeof Progress>;

const Failure = z.object({ since: z.number(), told: z.number() });
type Failure = z.infer<typeof Failure>;

export const State = z.object({
  version: z.literal(STATE_VERSION),
  log: z.string(),
  destinations: z.record(z.string(), Progress),
  failures: z.record(z.string(), Failure),
});
export type State = z.infer<typeof State>;

type SavedState =
  { kind: "none" } | { kind: "damaged" } | { kind: "known"; state: State; fromCopy: boolean };

/** What the plan needs to know of one file on disk. */
export interface FileFacts {
  readonly name: string;
  readonly family: "live" | "number" | "date";
  readonly size: number;
  readonly hasLine: boolean;
  /** The cursor's proof is found at its offset. */
  readonly matches: boolean;
  /** Bytes that were delivered before the cursor left this file; 0 when it is not known. */
  readonly finishedAt: number;
  /** Shorter than what was read, and begins like it. */
  readonly beginsLikeRead: boolean;
  /** A younger file holds all of it: a backup copy. */
  readonly copy: boolean;
  /** Where the cursor's last lines end in it, -1 when they are not there; absent until searched. */
  readonly found?: number;
}

/** `leave`: the file is done, so that its last line counts even without a line end. */
export interface Segment {
  readonly name: string;
  readonly from: number;
  readonly leave: boolean;
}

export type Plan =
  | { kind: "search" }
  | { kind: "read"; segments: readonly Segment[] }
  | { kind: "gap"; segments: readonly Segment[] }
  | { kind: "shrunk"; segments: readonly Segment[] };

export interface RotatedName {
  readonly name: string;
  readonly family: "number" | "date";
  /** Sorts by age, the youngest last. */
  readonly age: string;
  readonly compression: "none" | "gz" | "zst" | "foreign";
}

/** One message's worth of text. `next` is where the following message begins. */
export interface Cut {
  readonly body: string;
  readonly next: number;
  readonly partOfLine: boolean;
}

export interface Pace {
  readonly posts: number;
  readonly windowMs: number;
}

/** What an answer, or its absence, says about one message. */
export type Verdict =
  | { kind: "confirmed"; unverified?: true }
  | { kind: "limited"; waitMs?: number }
  | { kind: "unsent"; why: string }
  | { kind: "unclear"; why: string }
  | { kind: "refused"; why: string }
  | { kind: "badName"; why: string }
  | { kind: "dead"; why: string }
  | { kind: "locked"; why: string }
  | { kind: "misconfigured"; why: string };

/** What has been tried for the message at hand. */
export interface Attempt {
  readonly unclear: number;
  readonly unsent: number;
  /** Lines among which one is refused; 0 when none is known to be. */
  readonly suspects: number;
  /** Characters from here on that may have arrived already. */
  readonly doubtful: number;
}

export type Step =
  | { kind: "save" }
  | { kind: "again"; afterMs: number; attempt: Attempt }
  | { kind: "split"; attempt: Attempt }
  | { kind: "setAside"; why: string }
  | { kind: "dropName" }
  | { kind: "stop"; exitCode: number; why: string; pause?: Pause; dead?: true };

/** How a destination's part of the pass ended. */
type Outcome = { kind: "done" } | { kind: "stopped" } | { kind: "failed"; fault: Fault };

const DiscordMessage = z.object({ id: z.string().check(z.minLength(1)) });
const DiscordRateLimit = z.object({ retry_after: z.number().check(z.minimum(0)) });
const DiscordError = z.object({
  code: z.optional(z.number()),
  message: z.optional(z.string()),
  errors: z.optional(z.record(z.string(), z.unknown())),
});

/** An answer as it came: the body is text of any kind. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** A failure that a person can act on, told in one line, with a hint where one helps. */
export class Fault extends Error {
  readonly exitCode: number;
  readonly hint: string | undefined;
  constructor(exitCode: number, message: string, hint?: string) {
    super(message);
    this.exitCode = exitCode;
    this.hint = hint;
  }
}

/** Everything outside the program: tests hand in their own. */
export interface World {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly fs: typeof fs;
  /** Where progress is kept when nobody says otherwise. */
  readonly stateHome: string;
  readonly terminal: boolean;
  readonly stopping: AbortSignal;
  now(): number;
  uid(): number;
  gid(): number;
  timeout(ms: number): AbortSignal;
  random(): number;
  /** Ends early when the run is asked to stop. */
  sleep(ms: number): Promise<void>;
  fetch(url: string, init: RequestInit): Promise<Response>;
  hostName(): string;
  writeOut(text: string): Promise<void>;
  writeError(text: string): void;
}

// ── Core: text ──────────────────────────────────────────────────────────────────────────────────
// Pure. Log text goes in, text that can neither leak a secret nor break a message comes out; lines
// keep their number and order. Linear in the text's length whatever it holds.

/** Cheap tests on whole windows, one kind each: only the lines they hit are looked at closely. */
const SUSPICIOUS: readonly RegExp[] = [
  /[\x00-\x08\x0b-\x1f\x7f]/g,
  // Every shape of a secret has one of these, or one of the words and flags behind it.
  /[=@"'`/\\]/g,
  /xox|token|key|authoriz/gi,
  /-u/g,
];
const INVISIBLE = /(?![\t\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{DI}]/gu;

const SECRET_VALUE = `(?:\\\\*"[^"]*"|\\\\*'[^']*'|[^\\s"'&,;]+)`;
/** Shapes of secrets, each with what stays readable of it (contract: "Secrets in the log"). */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/(webhooks\\?\/)\d+\\?\/[^\s"'<>]+/gi, "$1[redacted]"],
  [/(hooks\.slack(?:-gov)?\.com\\?\/)[^\s"'<>]+/gi, "$1[redacted]"],
  [/(\/bot)\d+:[^\s"'<>/\\]+/gi, "$1[redacted]"],
  [/\bxox[a-z]-[\w-]+/gi, "[redacted]"],
  [/(authorization\\*["']?\s{0,8}[:=]\s{0,8}\\*["']?)[^"'\n]+/gi, "$1[redacted]"],
  [
    new RegExp(
      `((?<![\\w-])(?:(?:[\\w-]*-)?key|[\\w-]*-token)\\\\*["']?\\s{0,8}:\\s{0,8})${SECRET_VALUE}`,
      "gi",
    ),
    "$1[redacted]",
  ],
  [new RegExp(`((?:key|token|secret|passw(?:or)?d|pass)=)${SECRET_VALUE}`, "gi"), "$1[redacted]"],
  [
    new RegExp(
      `((?:key|token|secret|passw(?:or)?d)\\\\*["']\\s{0,8}:\\s{0,8})${SECRET_VALUE}`,
      "gi",
    ),
    "$1[redacted]",
  ],
  [/((?<!\S)(?:-u|--user|--proxy-user)[ =]?\\*["']?)[^\s:"']+:[^\s"']+/gi, "$1[redacted]"],
  [/(?<![^\s/"'=@,;(<])[^\s:/"'=@,;(<]+:[^\s/"'@]+@/g, "[redacted]@"],
];

/** Replaces known shapes of secrets, and our own secrets, by `[redacted]`. */
export function redact(line: string, ownSecrets: readonly string[]): string {
  let text = line;
  for (const secret of ownSecrets) text = text.replaceAll(secret, "[redacted]");
  for (const [shape, replacement] of SECRETS) text = text.replace(shape, replacement);
  return text;
}

/** Writes a character that cannot be seen as its escape, `\x1b` or `\u202e`. */
function visible(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
  return `\\u{${code.toString(16)}}`;
}

/** Makes text harmless: nothing invisible, no run of backticks that could close a fence. */
export function neutralise(text: string): string {
  return text.replace(INVISIBLE, visible).replace(/`(?=`)/g, "`\u200b");
}

function cleanLine(line: string, ownSecrets: readonly string[]): string {
  const text = line.replaceAll("\0", "").replace(/\r+$/, "");
  return neutralise(redact(text, ownSecrets));
}

/** Starts of the lines in `text` that one of the patterns hits, in order, each once. */
function suspiciousLines(text: string, patterns: readonly RegExp[]): number[] {
  const starts = new Set<number>();
  for (const pattern of patterns) {
    pattern.lastIndex = 0;
    while (pattern.test(text)) {
      starts.add(text.lastIndexOf("\n", pattern.lastIndex - 1) + 1);
      const lineEnd = text.indexOf("\n", pattern.lastIndex);
      if (lineEnd < 0) break;
      pattern.lastIndex = lineEnd + 1;
    }
  }
  return [...starts].sort((a, b) => a - b);
}

/** A pattern for strings that must not be passed on; absent when there are none. */
export function literalPattern(strings: readonly string[]): RegExp | undefined {
  if (strings.length === 0) return undefined;
  return new RegExp(strings.map((text) => RegExp.escape(text)).join("|"), "g");
}

/** Redacts and neutralises whole lines; line N of the result is line N of `text`. */
export function cleanText(text: string, ascii: boolean, ownSecrets: readonly string[]): string {
  const own = literalPattern(ownSecrets);
  const patterns = [...SUSPICIOUS];
  if (!ascii) patterns.push(INVISIBLE);
  if (own) patterns.push(own);
  const starts = suspiciousLines(text, patterns);
  if (starts.length === 0) return text;
  const pieces: string[] = [];
  let done = 0;
  for (const start of starts) {
    const end = text.indexOf("\n", start);
    const lineEnd = end < 0 ? text.length : end;
    pieces.push(text.slice(done, start), cleanLine(text.slice(start, lineEnd), ownSecrets));
    done = lineEnd;
  }
  pieces.push(text.slice(done));
  return pieces.join("");
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes of the log as harmless text: UTF-8 with U+FFFD for what is not. */
export function cleanBytes(bytes: Uint8Array, ownSecrets: readonly string[]): string {
  const ascii = isAscii(bytes);
  const text = ascii
    ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")
    : utf8.decode(bytes);
  return cleanText(text, ascii, ownSecrets);
}

/** The index after the `count`th line end at or after `start`, or of the last one. */
function afterLines(text: string, start: number, count: number): number {
  let at = start;
  for (let line = 0; line < count; line++) {
    const end = text.indexOf("\n", at);
    if (end < 0) break;
    at = end + 1;
  }
  return at;
}

/** Not between the two halves of a surrogate pair. */
function characterBoundary(text: string, at: number): number {
  const code = text.charCodeAt(at - 1);
  return code >= 0xd800 && code <= 0xdbff ? at - 1 : at;
}

/**
 * Takes as many whole lines as fit into `room` UTF-16 units, at most `maxLines`; a line that is
 * longer than a message is cut, and both ends of the cut are marked. `text` ends in a line end;
 * `start` may be inside a line.
 */
export function cutMessage(text: string, start: number, room: number, maxLines = Infinity): Cut {
  const inside = start > 0 && text.charCodeAt(start - 1) !== NEWLINE;
  const mark = inside ? CUT_MARK : "";
  const space = room - mark.length;
  let end =
    text.length - 1 - start <= space ? text.length - 1 : text.lastIndexOf("\n", start + space);
  if (end >= start) {
    if (maxLines !== Infinity) end = Math.min(end, afterLines(text, start, maxLines) - 1);
    return { body: mark + text.slice(start, end), next: end + 1, partOfLine: false };
  }
  const next = characterBoundary(text, start + space - CUT_MARK.length);
  return { body: mark + text.slice(start, next) + CUT_MARK, next, partOfLine: true };
}

export function fence(body: string): string {
  return `\`\`\`\n${body}\n\`\`\``;
}

const FENCE_LENGTH = fence("").length;

/** Discord refuses some names: 1 to 80 characters, without `discord` and `clyde`. */
export function discordName(host: string): string {
  const name = neutralise(`Fail2Ban · ${host}`)
    .replace(/(dis)(cord)/gi, "$1-$2")
    .replace(/(cly)(de)/gi, "$1-$2");
  return name.slice(0, characterBoundary(name, Math.min(name.length, 80))).trim();
}

// ── Core: where to read ─────────────────────────────────────────────────────────────────────────
// Pure. Given what was saved and what is on disk, says which bytes to read, oldest first. Content
// proves which file is which; inode, size and times never do.

/**
 * 64 bits that tell contents apart, as 16 hex digits. Not for secrets: loading a real digest costs
 * every idle run a millisecond, and nobody gains by forging one line's hash.
 */
export function fingerprint(bytes: Uint8Array): string {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] ?? 0;
    a = Math.imul(a ^ byte, 0x9e3779b1);
    b = Math.imul(b ^ byte, 0x5f356495);
  }
  a = Math.imul(a ^ (a >>> 16), 0x85ebca6b) ^ Math.imul(b ^ (b >>> 13), 0xc2b2ae35);
  b = Math.imul(b ^ (b >>> 16), 0x85ebca6b) ^ Math.imul(a ^ (a >>> 13), 0xc2b2ae35);
  return hex(a) + hex(b);
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}

export function fingerprintText(text: string): string {
  return fingerprint(new TextEncoder().encode(text));
}

/** The last line of `before`, with its line end, at most 4 KiB of it. */
function lastLine(before: Uint8Array): Uint8Array {
  const start = before.length < 2 ? 0 : before.lastIndexOf(NEWLINE, before.length - 2) + 1;
  return before.subarray(Math.max(start, before.length - ANCHOR_LINE_BYTES));
}

/** What proves that a reader stood at `offset`, from the file's head and the bytes before it. */
export function anchorFrom(head: Uint8Array, before: Uint8Array, offset: number): Anchor {
  const line = lastLine(before);
  const lengths = HEAD_LENGTHS.filter((length) => length < offset);
  const longest = Math.min(offset, HEAD_LENGTHS.at(-1) ?? 0);
  return {
    offset,
    lastLineHash: fingerprint(line),
    lastLineBytes: line.length,
    headHash: [...lengths, longest].map((length) => fingerprint(head.subarray(0, length))),
  };
}

export function sameAnchor(a: Anchor, b: Anchor): boolean {
  return (
    a.offset === b.offset &&
    a.lastLineHash === b.lastLineHash &&
    a.headHash.join() === b.headHash.join()
  );
}

/** Whether a file of `size` bytes with this head is a shortened form of what the anchor stood in. */
export function beginsLike(anchor: Anchor, head: Uint8Array, size: number): boolean {
  const rung = HEAD_LENGTHS.findLastIndex((length) => length <= size && length < anchor.offset);
  return rung >= 0 && fingerprint(head.subarray(0, HEAD_LENGTHS[rung])) === anchor.headHash[rung];
}

/** Hashes of the lines before the last one in `before`, the nearest first. `atTop`: nothing precedes it. */
export function tailHashes(before: Uint8Array, atTop: boolean): string[] {
  const hashes: string[] = [];
  let rest = before.subarray(0, before.length - lastLine(before).length);
  while (hashes.length < ANCHOR_TAIL_LINES && rest.length > 0) {
    const line = lastLine(rest);
    if (line.length === rest.length && !atTop && line.length < ANCHOR_LINE_BYTES) break;
    hashes.push(fingerprint(line));
    rest = rest.subarray(0, rest.lastIndexOf(NEWLINE, rest.length - 2) + 1);
  }
  return hashes;
}

const ROTATED =
  /^(?:\.(\d{1,3})|[-.](\d{4})-?(\d\d)-?(\d\d)[-_.T]?(\d{1,10})?)(?:\.(gz|zst|xz|bz2|lz4))?$/;

/** Reads `fail2ban.log.2.gz` or `fail2ban.log-20261122` as a rotated form of `fail2ban.log`. */
export function rotatedName(log: string, name: string): RotatedName | undefined {
  if (!name.startsWith(log)) return undefined;
  const match = ROTATED.exec(name.slice(log.length));
  if (!match) return undefined;
  const [, number, year, month, day, time, ending] = match;
  const compression =
    ending === undefined ? "none" : ending === "gz" || ending === "zst" ? ending : "foreign";
  if (number !== undefined) {
    const age = String(9_999 - Number(number));
    return { name, family: "number", age, compression };
  }
  const age = `${year}${month}${day}${(time ?? "").padStart(10, "0")}`;
  return { name, family: "date", age, compression };
}

/** The rotated files among `names`, youngest first; `X` stands for `X.gz` where both are there. */
export function rotatedFiles(log: string, names: readonly string[]): RotatedName[] {
  const present = new Set(names);
  return names
    .flatMap((name) => rotatedName(log, name) ?? [])
    .filter((file) => file.compression === "none" || !present.has(file.name.replace(/\.\w+$/, "")))
    .sort((a, b) =>
      a.family === b.family ? (a.age < b.age ? 1 : -1) : a.family === "date" ? -1 : 1,
    );
}

/** Siblings first, each to its end; they are left only when the live file has a whole line. */
function withLive(
  siblings: readonly Segment[],
  live: FileFacts | undefined,
  from: number,
): Segment[] {
  if (live?.hasLine) return [...siblings, { name: live.name, from, leave: false }];
  return siblings.map((segment, index) =>
    index === siblings.length - 1 ? { ...segment, leave: false } : segment,
  );
}

/** The rest of `first`, every younger file of its family whole, then the live file. */
function chainFrom(first: FileFacts, from: number, files: readonly FileFacts[]): Segment[] {
  const live = files.find((file) => file.family === "live");
  if (first === live) return [{ name: first.name, from, leave: false }];
  const younger = files
    .slice(0, files.indexOf(first))
    .filter((file) => file.family === first.family && !file.copy && file.finishedAt < file.size)
    .toReversed()
    .map((file) => ({ name: file.name, from: file.finishedAt, leave: true }));
  return withLive(
    [{ name: first.name, from, leave: true }, ...younger],
    live,
    live?.finishedAt ?? 0,
  );
}

/** Everything that is not known to be done, oldest first. */
function unreadFiles(files: readonly FileFacts[]): Segment[] {
  const siblings = files
    .filter((file) => file.family !== "live" && !file.copy && !file.beginsLikeRead)
    .filter((file) => file.finishedAt < file.size)
    .toReversed()
    .map((file) => ({ name: file.name, from: file.finishedAt, leave: true }));
  return withLive(
    siblings,
    files.find((file) => file.family === "live"),
    0,
  );
}

/**
 * Decides which bytes to read. `files` stand youngest first, the live file before all. The order of
 * the questions matters: each later one may only be asked when all before it said no.
 */
export function planRead(cursor: Cursor | undefined, files: readonly FileFacts[]): Plan {
  if (!cursor) return { kind: "read", segments: unreadFiles(files) };
  const holder = files.find((file) => file.matches);
  if (holder) return { kind: "read", segments: chainFrom(holder, cursor.offset, files) };
  const live = files.find((file) => file.family === "live");
  if (live && live.finishedAt > 0) {
    return { kind: "read", segments: chainFrom(live, live.finishedAt, files) };
  }
  if (live?.beginsLikeRead) {
    return { kind: "shrunk", segments: [{ name: live.name, from: live.size, leave: false }] };
  }
  if (files.some((file) => file.found === undefined)) return { kind: "search" };
  const edited = files.find((file) => (file.found ?? -1) >= 0);
  if (edited) return { kind: "read", segments: chainFrom(edited, edited.found ?? 0, files) };
  return { kind: "gap", segments: unreadFiles(files) };
}

// ── Core: how to send ───────────────────────────────────────────────────────────────────────────
// Pure. Reads a server's answers, keeps its limits, and says what comes next.

/** How long to wait so that no window of `pace` holds more posts than it may. */
export function paceDelayMs(posts: readonly number[], pace: readonly Pace[], now: number): number {
  let waitMs = 0;
  for (const limit of pace) {
    const oldest = posts.at(-limit.posts);
    if (oldest !== undefined && oldest <= now) {
      waitMs = Math.max(waitMs, oldest + limit.windowMs - now + 1);
    }
  }
  return waitMs;
}

/** The posts that still count for a later wait; stamps from the future mean that the clock was put back. */
export function recentPosts(posts: readonly number[], now: number): number[] {
  return posts.filter((at) => at <= now && now - at < MINUTE).slice(-60);
}

/** Seconds from a header, as milliseconds; absent when it is not a number. */
function headerMs(reply: Reply, name: string): number | undefined {
  const seconds = Number.parseFloat(reply.headers[name] ?? "");
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * SECOND : undefined;
}

function parsed<T>(schema: z.ZodMiniType<T>, body: string): T | undefined {
  try {
    const result = z.safeParse(schema, JSON.parse(body));
    return result.success ? result.data : undefined;
  } catch {
    return undefined;
  }
}

/** What the bucket's headers ask for before the next post, in milliseconds. */
export function headerDelayMs(reply: Reply): number {
  if (reply.headers["x-ratelimit-remaining"] !== "0") return 0;
  return headerMs(reply, "x-ratelimit-reset-after") ?? 0;
}

/** Reads Discord's answer to a posted message (API v10). */
export function readDiscord(reply: Reply): Verdict {
  const { status, body } = reply;
  if (status >= 200 && status < 300) return readDiscordSuccess(status, body);
  const error = parsed(DiscordError, body) ?? {};
  const why = `${status}${error.code ? ` (${error.code})` : ""}`;
  if (status === 429) {
    const told = parsed(DiscordRateLimit, body)?.retry_after;
    const waits = [told === undefined ? undefined : told * SECOND, headerMs(reply, "retry-after")];
    const known = waits.filter((ms) => ms !== undefined);
    return known.length > 0 ? { kind: "limited", waitMs: Math.max(...known) } : { kind: "limited" };
  }
  if (status >= 500 || status === 408) return { kind: "unclear", why };
  if (error.code && DISCORD_DEAD_CODES.includes(error.code)) return { kind: "dead", why };
  if (error.errors?.["username"]) return { kind: "badName", why };
  const atContent = error.code === 50035 && error.errors?.["content"] !== undefined;
  if (atContent || status === 413 || DISCORD_CONTENT_CODES.includes(error.code ?? 0)) {
    return { kind: "refused", why };
  }
  if ([401, 403, 404, 410].includes(status)) return { kind: "locked", why };
  return { kind: "misconfigured", why };
}

function readDiscordSuccess(status: number, body: string): Verdict {
  if (parsed(DiscordMessage, body)) return { kind: "confirmed" };
  if (status === 204) return { kind: "confirmed", unverified: true };
  return { kind: "unclear", why: `${status} without a message id` };
}

/** Error codes and texts of failures that happen before a request leaves, on Bun and on Deno. */
const UNSENT =
  /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_TLS|CERT|SELF_SIGNED|UNABLE_TO|connection refused|dns error|failed to lookup|invalid peer certificate|unreachable/i;

const FetchError = z.object({
  name: z.optional(z.string()),
  code: z.optional(z.string()),
  message: z.optional(z.string()),
  cause: z.optional(z.object({ message: z.optional(z.string()) })),
});

/** Sorts a failed fetch. Its texts may hold the URL, so that only words of ours come out. */
export function readFetchError(error: unknown): Verdict {
  const { data = {} } = z.safeParse(FetchError, error);
  const text = `${data.code ?? ""} ${data.message ?? ""} ${data.cause?.message ?? ""}`;
  if (data.name === "TimeoutError" || data.name === "AbortError") {
    return { kind: "unclear", why: "no answer in time" };
  }
  if (/redirect/i.test(text)) return { kind: "misconfigured", why: "it answers with a redirect" };
  const code = /^[A-Z_]+$/.test(data.code ?? "") ? ` (${data.code})` : "";
  if (UNSENT.test(text)) return { kind: "unsent", why: `cannot connect${code}` };
  return { kind: "unclear", why: `connection lost${code}` };
}

export const FIRST_ATTEMPT: Attempt = { unclear: 0, unsent: 0, suspects: 0, doubtful: 0 };

/** The next time of quiet: as long as `firstMs`, doubled after each one before it, to `mostMs`. */
export function nextPause(
  last: Pause | undefined,
  now: number,
  [firstMs, mostMs]: readonly [number, number],
  why: string,
): Pause {
  const stepMs = last && last.stepMs > 0 ? Math.min(last.stepMs * 2, mostMs) : firstMs;
  return { setAt: now, until: now + stepMs, stepMs, exitCode: 75, why };
}

/** Whether a pause still holds. One from the future or further ahead than a day was never ours. */
export function pausedUntil(pause: Pause | undefined, now: number): number {
  if (!pause || pause.setAt > now || pause.until - now > DAY) return 0;
  return pause.until > now ? pause.until : 0;
}

export interface Situation {
  readonly attempt: Attempt;
  readonly lines: number;
  readonly length: number;
  readonly pause: Pause | undefined;
  readonly now: number;
  readonly deadline: number;
  readonly jitterMs: number;
}

/** What to do after a verdict on one message. */
export function nextStep(verdict: Verdict, situation: Situation): Step {
  const { attempt, now } = situation;
  switch (verdict.kind) {
    case "confirmed":
      return { kind: "save" };
    case "limited":
      return afterLimit(verdict.waitMs, situation);
    case "unsent":
      return afterUnsent(verdict.why, situation);
    case "unclear":
      return afterUnclear(verdict.why, situation);
    case "refused":
      if (situation.lines > 1)
        return { kind: "split", attempt: { ...attempt, suspects: situation.lines } };
      return { kind: "setAside", why: verdict.why };
    case "badName":
      return { kind: "dropName" };
    case "dead":
      return { kind: "stop", exitCode: 69, why: `refuses for good: ${verdict.why}`, dead: true };
    case "locked": {
      const why = `refuses: ${verdict.why}`;
      const pause = { setAt: now, until: now + HOUR, stepMs: 0, exitCode: 69, why };
      return { kind: "stop", exitCode: 69, why, pause };
    }
    case "misconfigured":
      return { kind: "stop", exitCode: 78, why: `does not take our messages: ${verdict.why}` };
  }
}

/** Discord says how long; Cloudflare does not, and then a quarter of an hour is the least. */
function afterLimit(toldMs: number | undefined, situation: Situation): Step {
  const { attempt, now, deadline, jitterMs, pause } = situation;
  const why = "rate limited";
  if (toldMs === undefined) {
    const quiet = nextPause(pause, now, [15 * MINUTE, HOUR], why);
    return { kind: "stop", exitCode: 75, why, pause: quiet };
  }
  const afterMs = Math.min(toldMs, DAY) + jitterMs;
  if (now + afterMs < deadline) return { kind: "again", afterMs, attempt };
  const told = { setAt: now, until: now + afterMs, stepMs: 0, exitCode: 75, why };
  return { kind: "stop", exitCode: 75, why, pause: told };
}

function afterUnsent(why: string, situation: Situation): Step {
  const { attempt, now, deadline, jitterMs } = situation;
  const unsent = attempt.unsent + 1;
  const afterMs = Math.min(2 ** (unsent - 1), 30) * SECOND + jitterMs;
  if (unsent >= UNSENT_TRIES || now + afterMs >= deadline)
    return { kind: "stop", exitCode: 75, why };
  return { kind: "again", afterMs, attempt: { ...attempt, unsent } };
}

/** The message may have arrived: what is tried again is marked, and not for long. */
function afterUnclear(why: string, situation: Situation): Step {
  const { attempt, now, deadline, jitterMs } = situation;
  const unclear = attempt.unclear + 1;
  const afterMs = 3 ** (unclear - 1) * SECOND + jitterMs;
  if (unclear >= UNCLEAR_TRIES || now + afterMs >= deadline) {
    const pause = nextPause(situation.pause, now, [MINUTE, 10 * MINUTE], why);
    return { kind: "stop", exitCode: 75, why, pause };
  }
  const doubtful = Math.max(attempt.doubtful, situation.length);
  return { kind: "again", afterMs, attempt: { ...attempt, unclear, doubtful } };
}

/** The attempt that follows a message that is done with. */
export function afterDone(
  attempt: Attempt,
  lines: number,
  length: number,
  setAside: boolean,
): Attempt {
  const suspects = setAside ? 0 : Math.max(0, attempt.suspects - lines);
  return { ...FIRST_ATTEMPT, suspects, doubtful: Math.max(0, attempt.doubtful - length) };
}

/** A lasting failure is told when it begins, after an hour, then daily. */
export function reportDue(failure: Failure | undefined, now: number): boolean {
  if (!failure || failure.told > now) return true;
  if (failure.told - failure.since < HOUR) return now - failure.since >= HOUR;
  return now - failure.told >= DAY;
}

/** Of several exit codes the one that a person must act on. */
export function worstExit(codes: readonly number[]): number {
  return [70, 73, 78, 69, 66, 75].find((code) => codes.includes(code)) ?? 0;
}

// ── World: files ────────────────────────────────────────────────────────────────────────────────
// Every file is opened once and read by its descriptor, so that a rotation between two steps moves
// names and never contents. Siblings are opened without following links.

interface OpenFile {
  readonly name: string;
  readonly family: "live" | "number" | "date";
  readonly descriptor: number;
  /** As it was when opened: what is written later belongs to the next run. */
  readonly size: number;
  readonly inode: string;
  readonly owner: number;
  /** The size of the file on disk: not `size` when it is compressed. */
  readonly diskSize: number;
  /** Why a compressed file could not be unpacked to its end. */
  readonly damage?: string;
}

interface LogFiles {
  /** Youngest first, the live log before all where it exists. */
  readonly open: readonly OpenFile[];
  /** Siblings that could not be used, as `name (reason)`. */
  readonly leftOut: readonly string[];
}

const SystemError = z.object({ code: z.optional(z.string()), message: z.string() });

function errorCode(error: unknown): string | undefined {
  return z.safeParse(SystemError, error).data?.code;
}

/** `permission denied` out of `EACCES: permission denied, open '…'`. */
function reason(error: unknown): string {
  const message = z.safeParse(SystemError, error).data?.message ?? "unknown error";
  return /^[A-Z0-9]+: ([^,]+)/.exec(message)?.[1] ?? message;
}

/** Reads until `length` bytes or the end of the file. */
function readAt(world: World, file: OpenFile, position: number, length: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, file.size - position)));
  let filled = 0;
  while (filled < bytes.length) {
    const count = world.fs.readSync(
      file.descriptor,
      bytes,
      filled,
      bytes.length - filled,
      position + filled,
    );
    if (count === 0) break;
    filled += count;
  }
  return bytes.subarray(0, filled);
}

/** Opens the log itself, which may be a link; absent when it is not there. */
function openLive(world: World, path: string): OpenFile | undefined {
  const { O_RDONLY, O_NONBLOCK } = world.fs.constants;
  let descriptor: number;
  try {
    descriptor = world.fs.openSync(path, O_RDONLY | O_NONBLOCK);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    const hint =
      errorCode(error) === "EACCES" ? "run as root or as a member of the log's group" : undefined;
    throw new Fault(66, `cannot read ${path}: ${reason(error)}`, hint);
  }
  const stat = world.fs.fstatSync(descriptor);
  if (stat.isFile()) {
    const { size, uid: owner } = stat;
    const inode = inodeOf(stat);
    return { name: basename(path), family: "live", descriptor, size, inode, owner, diskSize: size };
  }
  world.fs.closeSync(descriptor);
  throw new Fault(66, `cannot read ${path}: it is not a regular file`);
}

function inodeOf(stat: fs.Stats): string {
  return `${stat.dev}:${stat.ino}`;
}

/** Names beside the log with their inodes: equal listings mean that nothing was rotated in between. */
function listRotated(world: World, path: string): { files: RotatedName[]; snapshot: string } {
  const files = rotatedFiles(basename(path), world.fs.readdirSync(dirname(path)));
  const inodes = files.map((file) => {
    const stat = world.fs.lstatSync(resolve(dirname(path), file.name), { throwIfNoEntry: false });
    return stat ? `${file.name} ${stat.ino}` : "";
  });
  return { files, snapshot: inodes.join("\n") };
}

type Opened = { kind: "open"; file: OpenFile } | { kind: "leftOut"; why: string };

/** Opens one sibling; it must be a regular file of root or of the log's owner. */
function openSibling(world: World, path: string, rotated: RotatedName, owner: number): Opened {
  if (rotated.compression === "foreign") return { kind: "leftOut", why: "unknown compression" };
  const { O_RDONLY, O_NONBLOCK, O_NOFOLLOW } = world.fs.constants;
  let descriptor: number;
  try {
    descriptor = world.fs.openSync(
      resolve(dirname(path), rotated.name),
      O_RDONLY | O_NONBLOCK | O_NOFOLLOW,
    );
  } catch (error) {
    return { kind: "leftOut", why: errorCode(error) === "ELOOP" ? "a link" : reason(error) };
  }
  const stat = world.fs.fstatSync(descriptor);
  const { name, family } = rotated;
  const inode = inodeOf(stat);
  if (stat.isFile() && (stat.uid === 0 || stat.uid === owner)) {
    const { size, uid: owner } = stat;
    return { kind: "open", file: { name, family, descriptor, size, inode, owner, diskSize: size } };
  }
  world.fs.closeSync(descriptor);
  return { kind: "leftOut", why: stat.isFile() ? "of another owner" : "not a regular file" };
}

function* blocks(world: World, file: OpenFile): Generator<Uint8Array> {
  for (let position = 0; position < file.size; position += WINDOW_BYTES) {
    yield readAt(world, file, position, WINDOW_BYTES);
  }
}

/** A file without a name in the state directory, for contents that are needed once. */
function openScratch(world: World, path: string): number {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = world.fs.constants;
  world.fs.rmSync(path, { force: true });
  const descriptor = world.fs.openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  world.fs.unlinkSync(path);
  return descriptor;
}

/** Unpacks a compressed sibling, as far as it can be, into a scratch file; closes the packed one. */
async function unpack(world: World, packed: OpenFile, scratchPath: string): Promise<OpenFile> {
  const zlib = process.getBuiltinModule("node:zlib");
  const { Readable, pipeline } = process.getBuiltinModule("node:stream");
  const decoder = packed.name.endsWith(".gz") ? zlib.createGunzip() : zlib.createZstdDecompress();
  const descriptor = openScratch(world, scratchPath);
  const most = Math.max(UNPACK_FREE_BYTES, packed.size * UNPACK_RATIO_LIMIT);
  let size = 0;
  let damage: string | undefined;
  pipeline(Readable.from(blocks(world, packed)), decoder, () => undefined);
  try {
    for await (const chunk of decoder) {
      size += writeAll(world, descriptor, chunk);
      if (size > most) damage = "too large unpacked";
      if (damage) break;
    }
  } catch (error) {
    if (/^E[A-Z]+$/.test(errorCode(error) ?? "")) throw cannotWrite(dirname(scratchPath), error);
    damage = "damaged";
  } finally {
    world.fs.closeSync(packed.descriptor);
  }
  return damage ? { ...packed, descriptor, size, damage } : { ...packed, descriptor, size };
}

/**
 * Opens the siblings of the log, youngest first. Listed anew until two listings agree: a rotation in
 * the middle would show one file twice, or hide one.
 */
async function openSiblings(
  world: World,
  path: string,
  live: OpenFile | undefined,
  scratchPath: string,
): Promise<LogFiles> {
  for (let tries = 1; ; tries++) {
    const open: OpenFile[] = [];
    const leftOut: string[] = [];
    let before = "";
    try {
      const listing = listRotated(world, path);
      before = listing.snapshot;
      for (const rotated of listing.files) {
        const opened = openSibling(world, path, rotated, live?.owner ?? world.uid());
        if (opened.kind === "leftOut") leftOut.push(`${rotated.name} (${opened.why})`);
        else if (opened.file.inode === live?.inode) world.fs.closeSync(opened.file.descriptor);
        else if (rotated.compression === "none") open.push(opened.file);
        else open.push(await unpack(world, opened.file, scratchPath));
      }
    } catch (error) {
      if (error instanceof Fault) throw error;
      leftOut.push(`${dirname(path)} (${reason(error)})`);
      return { open, leftOut };
    }
    if (tries >= 5 || listRotated(world, path).snapshot === before) return { open, leftOut };
    for (const file of open) world.fs.closeSync(file.descriptor);
  }
}

/** What proves that a reader stood at `offset` of this file. */
function anchorAt(world: World, file: OpenFile, offset: number): Anchor {
  const start = Math.max(0, offset - ANCHOR_LINE_BYTES - 1);
  const before = readAt(world, file, start, offset - start);
  return anchorFrom(readAt(world, file, 0, HEAD_LENGTHS.at(-1) ?? 0), before, offset);
}

function standsIn(world: World, file: OpenFile, anchor: Anchor): boolean {
  return anchor.offset <= file.size && sameAnchor(anchorAt(world, file, anchor.offset), anchor);
}

function cursorAt(world: World, file: OpenFile, offset: number, lines: number): Cursor {
  const start = Math.max(0, offset - ANCHOR_TAIL_BYTES);
  const before = readAt(world, file, start, offset - start);
  const anchor = anchorAt(world, file, offset);
  const time = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?/.exec(utf8.decode(lastLine(before)));
  const tail = tailHashes(before, start === 0);
  return time ? { ...anchor, lines, tail, lastTime: time[0] } : { ...anchor, lines, tail };
}

/** The offset after the last whole line at or after `from`, `from` when there is none. */
function lastLineEnd(world: World, file: OpenFile, from: number): number {
  for (let end = file.size; end > from; end -= WINDOW_BYTES) {
    const start = Math.max(from, end - WINDOW_BYTES);
    const found = readAt(world, file, start, end - start).lastIndexOf(NEWLINE);
    if (found >= 0) return start + found + 1;
  }
  return from;
}

function countLines(world: World, file: OpenFile, to: number): number {
  let lines = 0;
  for (let position = 0; position < to; position += WINDOW_BYTES) {
    const block = readAt(world, file, position, Math.min(WINDOW_BYTES, to - position));
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) lines++;
  }
  return lines;
}

function hasLine(world: World, file: OpenFile): boolean {
  for (const block of blocks(world, file)) if (block.includes(NEWLINE)) return true;
  return false;
}

/** Looks for the cursor's last lines anywhere in the file; the offset after them, or -1. */
function findCursor(world: World, file: OpenFile, cursor: Cursor): number {
  let found = -1;
  let lineStart = 0;
  let position = 0;
  for (const block of blocks(world, file)) {
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) {
      const end = position + at + 1;
      const bytes = Math.min(end - lineStart, ANCHOR_LINE_BYTES);
      if (bytes === cursor.lastLineBytes && endsCursorAt(world, file, end, cursor)) found = end;
      lineStart = end;
    }
    position += block.length;
  }
  return found;
}

function endsCursorAt(world: World, file: OpenFile, end: number, cursor: Cursor): boolean {
  if (anchorAt(world, file, end).lastLineHash !== cursor.lastLineHash) return false;
  const { tail } = cursorAt(world, file, end, 0);
  return tail.every((hash, index) => (cursor.tail[index] ?? hash) === hash);
}

/** Gathers what the plan asks about each file; `search` looks through all of them for the last lines. */
function surveyFiles(
  world: World,
  files: readonly OpenFile[],
  progress: Progress,
  search: boolean,
): FileFacts[] {
  const { cursor, finished } = progress;
  return files.map((file, index) => {
    const ends = finished.filter((anchor) => standsIn(world, file, anchor));
    const end =
      file.family === "live" || file.size === 0 ? undefined : anchorAt(world, file, file.size);
    const head = readAt(world, file, 0, HEAD_LENGTHS.at(-1) ?? 0);
    const facts = {
      name: file.name,
      family: file.family,
      size: file.size,
      hasLine: file.family === "live" && hasLine(world, file),
      matches: cursor !== undefined && standsIn(world, file, cursor),
      finishedAt: Math.max(0, ...ends.map((anchor) => anchor.offset)),
      beginsLikeRead:
        cursor !== undefined && file.size < cursor.offset && beginsLike(cursor, head, file.size),
      copy:
        end !== undefined && files.slice(0, index).some((younger) => standsIn(world, younger, end)),
    };
    return search && cursor ? { ...facts, found: findCursor(world, file, cursor) } : facts;
  });
}

// The state: two copies, each replaced whole, never written in place.

/** `var-log-fail2ban.log-1a2b3c4d.json` */
export function stateFileName(log: string): string {
  const readable = log.replace(/^\/+/, "").replace(/[^\w.-]+/g, "-");
  return `${readable.slice(-150)}-${fingerprintText(log).slice(0, 8)}.json`;
}

function cannotWrite(path: string, error: unknown): Fault {
  return new Fault(
    73,
    `cannot write to ${path}: ${reason(error)}`,
    "progress must be saved before anything is sent",
  );
}

/** Whether somebody else than the owner, or than our own group, may write. */
function othersMayWrite(world: World, stat: fs.Stats): boolean {
  return (stat.mode & 0o002) !== 0 || ((stat.mode & 0o020) !== 0 && stat.gid !== world.gid());
}

/** What is wrong with who may write to something that we must trust; absent when nothing is. */
function ownershipProblem(world: World, stat: fs.Stats): string | undefined {
  if (othersMayWrite(world, stat)) return "is writable by others";
  return stat.uid === world.uid() || stat.uid === 0 ? undefined : "belongs to somebody else";
}

/** Makes sure that nobody else can put files or links under our names. */
function checkStateDirectory(world: World, path: string): void {
  const stat = world.fs.lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  const wrong = stat.isSymbolicLink()
    ? "is a link"
    : !stat.isDirectory()
      ? "is not a directory"
      : ownershipProblem(world, stat);
  if (wrong)
    throw new Fault(73, `state directory ${path} ${wrong}`, "give it to this user alone, mode 700");
}

function makeStateDirectory(world: World, path: string): void {
  try {
    world.fs.mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw cannotWrite(path, error);
  }
  checkStateDirectory(world, path);
}

/** The text of one copy; absent when there is none. A copy that is there but closed to us is a fault. */
function readCopy(world: World, path: string): string | undefined {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = world.fs.constants;
  let descriptor: number | undefined;
  try {
    descriptor = world.fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const stat = world.fs.fstatSync(descriptor);
    if (!stat.isFile()) throw new Fault(73, `state ${path} is not a regular file`);
    if (othersMayWrite(world, stat)) throw new Fault(73, `state ${path} is writable by others`);
    return world.fs.readFileSync(descriptor, "utf8");
  } catch (error) {
    if (error instanceof Fault) throw error;
    if (errorCode(error) === "ENOENT") return undefined;
    throw new Fault(73, `cannot read state ${path}: ${reason(error)}`);
  } finally {
    if (descriptor !== undefined) world.fs.closeSync(descriptor);
  }
}

const Versioned = z.looseObject({ version: Count });
const Sealed = z.looseObject({ checksum: z.string() });

/** Reads one copy's text; absent when it is damaged. */
export function parseState(text: string, log: string): State | undefined {
  const version = parsed(Versioned, text)?.version ?? 0;
  if (version > STATE_VERSION) {
    throw new Fault(
      73,
      `the state is of a newer f2b-watch (version ${version})`,
      "install that one here too",
    );
  }
  const sealed = parsed(Sealed, text);
  if (!sealed) return undefined;
  const { checksum, ...rest } = sealed;
  const state = z.safeParse(State, rest);
  const intact = checksum === fingerprintText(JSON.stringify(rest));
  return intact && state.success && state.data.log === log ? state.data : undefined;
}

export function sealState(state: State): string {
  const checksum = fingerprintText(JSON.stringify(state));
  return `${JSON.stringify({ ...state, checksum }, undefined, 1)}\n`;
}

function readState(world: World, path: string, log: string): SavedState {
  const texts = [path, `${path}.bak`].map((copy) => readCopy(world, copy));
  if (texts.every((text) => text === undefined)) return { kind: "none" };
  const [state, older] = texts.map((text) => (text === undefined ? text : parseState(text, log)));
  if (state) return { kind: "known", state, fromCopy: false };
  return older ? { kind: "known", state: older, fromCopy: true } : { kind: "damaged" };
}

function writeAll(world: World, descriptor: number, bytes: Uint8Array): number {
  let written = 0;
  while (written < bytes.length) written += world.fs.writeSync(descriptor, bytes, written);
  return written;
}

function syncDirectory(world: World, path: string): void {
  const descriptor = world.fs.openSync(path, world.fs.constants.O_RDONLY);
  world.fs.fsyncSync(descriptor);
  world.fs.closeSync(descriptor);
}

/** Replaces the state; the one before it becomes the second copy, unless it is `damaged`. */
function saveState(world: World, path: string, state: State, damaged: boolean): void {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = world.fs.constants;
  const fresh = `${path}.tmp`;
  let descriptor: number | undefined;
  try {
    world.fs.rmSync(fresh, { force: true });
    descriptor = world.fs.openSync(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    writeAll(world, descriptor, Buffer.from(sealState(state)));
    world.fs.fsyncSync(descriptor);
    world.fs.closeSync(descriptor);
    descriptor = undefined;
    if (!damaged && world.fs.existsSync(path)) world.fs.renameSync(path, `${path}.bak`);
    world.fs.renameSync(fresh, path);
    syncDirectory(world, dirname(path));
  } catch (error) {
    throw cannotWrite(path, error);
  } finally {
    if (descriptor !== undefined) world.fs.closeSync(descriptor);
  }
}

// The lock is the kernel's (one byte of the file, by SQLite): any death frees it, nothing is judged
// stale. The lock file is never deleted, and never opened by us while held: closing it would unlock.

type Lock = { release(): void };

/** Creates an empty file for our eyes only, unless it is there; another user could else block it. */
function touch(world: World, path: string): void {
  const { O_WRONLY, O_CREAT, O_NOFOLLOW } = world.fs.constants;
  try {
    world.fs.closeSync(world.fs.openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600));
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

/** Takes the lock, or says by its absence that another run holds it. */
function acquireLock(path: string): Lock | undefined {
  const sqlite = process.getBuiltinModule("node:sqlite");
  if (!sqlite)
    throw new Fault(73, "this runtime has no node:sqlite", "use Bun 1.4 or Deno 2.2 at least");
  let database: InstanceType<typeof sqlite.DatabaseSync> | undefined;
  try {
    database = new sqlite.DatabaseSync(path);
    database.exec("PRAGMA journal_mode=MEMORY; BEGIN IMMEDIATE");
    const held = database;
    return { release: () => held.close() };
  } catch (error) {
    database?.close();
    if (reason(error).includes("is locked")) return undefined;
    throw new Fault(
      73,
      `cannot lock ${path}: ${reason(error)}`,
      "it must be an empty file on a disk that can lock",
    );
  }
}

// ── World: network ──────────────────────────────────────────────────────────────────────────────
// One message in, one verdict out. No URL, token or error object leaves this section.

interface Posted {
  readonly verdict: Verdict;
  /** What the service's headers ask for before the next message. */
  readonly delayMs: number;
}

interface Destination {
  readonly name: "discord" | "stdout";
  readonly title: string;
  /** Tells changed settings from unchanged ones, for a destination that refused for good. */
  readonly settings: string;
  readonly pace: readonly Pace[];
  post(content: string): Promise<Posted>;
  /** Posts under the webhook's own name from now on. */
  dropName(): void;
}

/** The body as text, cut at 64 KiB: a server may lie about its length or never end. */
async function readBody(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > REPLY_LIMIT_BYTES) break;
  }
  return text;
}

async function send(world: World, url: string, init: RequestInit): Promise<Reply | Verdict> {
  try {
    const signal = world.timeout(POST_TIMEOUT_MS);
    const response = await world.fetch(url, { ...init, redirect: "error", signal });
    const headers = Object.fromEntries(response.headers);
    return { status: response.status, headers, body: await readBody(response) };
  } catch (error) {
    return readFetchError(error);
  }
}

function discord(world: World, url: string, host: string): Destination {
  let username: string | undefined = discordName(host);
  return {
    name: "discord",
    title: "Discord",
    settings: fingerprintText(url),
    pace: DISCORD_PACE,
    dropName: () => (username = undefined),
    async post(content) {
      const payload = {
        content,
        allowed_mentions: { parse: [] },
        flags: SUPPRESS_EMBEDS,
        ...(username && { username }),
      };
      const reply = await send(world, url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "user-agent": `DiscordBot (f2b-watch, ${VERSION})`,
        },
        body: JSON.stringify(payload),
      });
      if ("kind" in reply) return { verdict: reply, delayMs: 0 };
      return { verdict: readDiscord(reply), delayMs: headerDelayMs(reply) };
    },
  };
}

/** Prints messages as a channel would show them: the sender's name, then the text. */
function stdout(world: World, host: string): Destination {
  const name = discordName(host);
  return {
    name: "stdout",
    title: "stdout",
    settings: "",
    pace: [],
    dropName: () => undefined,
    async post(content) {
      try {
        await world.writeOut(`${name}\n${content}\n`);
      } catch (error) {
        throw new Fault(75, `cannot write to stdout: ${reason(error)}`);
      }
      return { verdict: { kind: "confirmed" }, delayMs: 0 };
    },
  };
}

/** Says once, before the first message, why it is printed. */
function announced(world: World, destination: Destination): Destination {
  let told = false;
  return {
    ...destination,
    post(content) {
      if (!told)
        complain(world, "no destination is set, messages go to stdout", "set DISCORD_WEBHOOK");
      told = true;
      return destination.post(content);
    },
  };
}

// ── The pass ────────────────────────────────────────────────────────────────────────────────────
// Reads by plan, posts by verdict, saves after each confirmed message. One run at a time does this;
// all others leave a mark and go, and the one at work looks for it before it leaves.

interface Settings {
  readonly log: string;
  readonly state: string;
  readonly host: string;
  readonly from: "start" | "end";
  readonly maxTimeMs: number;
  readonly dryRun: boolean;
  readonly verbose: boolean;
  readonly webhook: string | undefined;
  readonly ownSecrets: readonly string[];
}

/** What one pass shares between its destinations: the state, and the log's files, each opened once. */
class Run {
  readonly world: World;
  readonly settings: Settings;
  readonly statePath: string;
  readonly deadline: number;
  readonly state: State;
  /** There was no state: nothing of this log was ever read. */
  readonly first: boolean;
  /** Both copies of the state were damaged: nothing is known to be done. */
  readonly lost: boolean;
  readonly live: OpenFile | undefined;
  readonly logFault: Fault | undefined;
  readonly #before: string;
  #damaged: boolean;
  #siblings: Promise<LogFiles> | undefined;

  constructor(world: World, settings: Settings, statePath: string, deadline: number) {
    this.world = world;
    this.settings = settings;
    this.statePath = statePath;
    this.deadline = deadline;
    const saved = readState(world, statePath, settings.log);
    const blank = {
      version: STATE_VERSION,
      log: settings.log,
      destinations: {},
      failures: {},
    } as const;
    this.state = saved.kind === "known" ? saved.state : blank;
    this.first = saved.kind === "none";
    this.lost = saved.kind === "damaged";
    this.#damaged = saved.kind === "damaged" || (saved.kind === "known" && saved.fromCopy);
    this.#before = JSON.stringify(this.state);
    try {
      this.live = openLive(world, settings.log);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.logFault = error;
    }
  }

  siblings(): Promise<LogFiles> {
    const { world, settings, live, statePath } = this;
    this.#siblings ??= openSiblings(world, settings.log, live, `${statePath}.unpacked`);
    return this.#siblings;
  }

  save(): void {
    if (this.settings.dryRun) return;
    saveState(this.world, this.statePath, this.state, this.#damaged);
    this.#damaged = false;
  }

  /** The last save of a pass; afterwards both copies know every message that was confirmed. */
  saveChanges(): void {
    if (JSON.stringify(this.state) === this.#before && !this.#damaged) return;
    this.save();
    if (this.first || this.lost) this.save();
  }

  async close(): Promise<void> {
    const siblings = (await this.#siblings?.catch(() => undefined))?.open ?? [];
    const files = this.live ? [this.live, ...siblings] : siblings;
    for (const file of files) this.world.fs.closeSync(file.descriptor);
  }
}

interface Span {
  readonly segment: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Some of the log in memory: raw bytes to count in, clean text to cut messages from. */
interface Window {
  readonly spans: readonly Span[];
  readonly text: string;
  /** There is more to read behind it. */
  readonly more: boolean;
  /** Where the next message begins in `text`, and the next line in `spans`. */
  at: number;
  span: number;
  byte: number;
}

/** Where the next message begins on disk. */
interface Position {
  segment: number;
  offset: number;
  lines: number;
}

/** The lines of a plan, as clean text cut into messages. Knows which bytes each message stands for. */
class Feed {
  readonly #world: World;
  readonly #segments: readonly Segment[];
  readonly #files: readonly OpenFile[];
  readonly #ownSecrets: readonly string[];
  #window: Window | undefined;
  #position: Position;
  #part: number;

  constructor(
    run: Run,
    files: readonly OpenFile[],
    segments: readonly Segment[],
    start: Position,
    part: number,
  ) {
    this.#world = run.world;
    this.#ownSecrets = run.settings.ownSecrets;
    this.#segments = segments;
    this.#files = segments.flatMap(({ name }) => files.find((file) => file.name === name) ?? []);
    this.#position = start;
    this.#part = part;
  }

  /** The next message that fits into `room`; absent when there are no more whole lines. */
  next(room: number, maxLines: number): Cut | undefined {
    const window = this.#window;
    if (!window || (window.more && window.text.length - window.at <= room))
      this.#window = this.#fill();
    const { text = "", at = 0 } = this.#window ?? {};
    return at < text.length ? cutMessage(text, at, room, maxLines) : undefined;
  }

  /** Moves behind a message; returns how many lines of the log it ended. */
  advance(cut: Cut): number {
    const window = this.#window;
    if (!window) return 0;
    let lines = 0;
    for (let at = window.text.indexOf("\n", window.at); at >= 0 && at < cut.next;) {
      this.#stepLine(window);
      lines++;
      at = window.text.indexOf("\n", at + 1);
    }
    window.at = cut.next;
    this.#part = cut.partOfLine ? cut.next - (window.text.lastIndexOf("\n", cut.next - 1) + 1) : 0;
    return lines;
  }

  #stepLine(window: Window): void {
    const span = window.spans[window.span];
    if (!span) return;
    const end = span.bytes.indexOf(NEWLINE, window.byte);
    window.byte = end < 0 ? span.bytes.length : end + 1;
    const before = this.#position;
    const lines = span.segment === before.segment ? before.lines + 1 : 1;
    this.#position = { segment: span.segment, offset: span.offset + window.byte, lines };
    if (window.byte < span.bytes.length) return;
    window.span++;
    window.byte = 0;
  }

  #fill(): Window {
    const spans: Span[] = [];
    let text = "";
    let budget = WINDOW_BYTES;
    let { segment, offset } = this.#position;
    while (budget > 0 && segment < this.#segments.length) {
      const span = this.#readSpan(segment, offset);
      if (span) {
        spans.push(span);
        text += this.#cleanSpan(span.bytes);
        budget -= span.bytes.length;
        offset = span.offset + span.bytes.length;
      } else {
        segment++;
        offset = this.#segments[segment]?.from ?? 0;
      }
    }
    const more = segment < this.#segments.length;
    const at = Math.min(this.#part, Math.max(0, text.indexOf("\n")));
    return { spans, text, more, at, span: 0, byte: 0 };
  }

  /** Bytes without a line end are a fragment of a dead file or a piece of an endless line: marked. */
  #cleanSpan(bytes: Uint8Array): string {
    const text = cleanBytes(bytes, this.#ownSecrets);
    return bytes.at(-1) === NEWLINE ? text : `${text}${CUT_MARK}\n`;
  }

  /** Whole lines from `offset` on, about a window of them; absent at the end of the segment. */
  #readSpan(segment: number, offset: number): Span | undefined {
    const file = this.#files[segment];
    if (!file) return undefined;
    const start = skipFiller(this.#world, file, offset);
    for (let length = WINDOW_BYTES; ; length *= 4) {
      const most = Math.min(length, LINE_LIMIT_BYTES);
      const bytes = readAt(this.#world, file, start, most);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end > 0) return { segment, offset: start, bytes: bytes.subarray(0, end) };
      if (bytes.length < most) {
        const fragment = this.#segments[segment]?.leave === true && bytes.length > 0;
        return fragment ? { segment, offset: start, bytes } : undefined;
      }
      if (most === LINE_LIMIT_BYTES) {
        return { segment, offset: start, bytes: wholeCharacters(bytes) };
      }
    }
  }

  get part(): number {
    return this.#part;
  }

  /** What proves where the next message begins; absent while nothing was read. */
  cursor(): Cursor | undefined {
    const { segment, offset, lines } = this.#position;
    const file = this.#files[segment];
    return file && offset > 0 ? cursorAt(this.#world, file, offset, lines) : undefined;
  }

  /** The ends of the files that were left behind. */
  finished(): Anchor[] {
    return this.#files
      .slice(0, this.#position.segment)
      .filter((file) => file.size > 0)
      .map((file) => anchorAt(this.#world, file, file.size));
  }

  /** The rotated file that the next run must look into first; absent when it is the live one. */
  held(): OpenFile | undefined {
    const file = this.#files.at(-1);
    return file?.family === "live" ? undefined : file;
  }
}

/** Skips what fills holes: NUL bytes, and the byte order mark of a file's first line. */
function skipFiller(world: World, file: OpenFile, offset: number): number {
  const [first, second, third] = readAt(world, file, offset, 3);
  if (offset === 0 && first === 0xef && second === 0xbb && third === 0xbf) return 3;
  if (first !== 0) return offset;
  const nothing = Buffer.alloc(WINDOW_BYTES);
  for (let start = offset; start < file.size; start += WINDOW_BYTES) {
    const block = readAt(world, file, start, WINDOW_BYTES);
    if (nothing.compare(block, 0, block.length, 0, block.length) === 0) continue;
    return start + block.findIndex((byte) => byte !== 0);
  }
  return file.size;
}

/** Without the first bytes of a character that ends behind them. */
function wholeCharacters(bytes: Uint8Array): Uint8Array {
  let end = bytes.length - 1;
  while (end > bytes.length - 4 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return ((bytes[end] ?? 0) & 0x80) === 0 ? bytes : bytes.subarray(0, end);
}

interface Message {
  readonly content: string;
  readonly cut: Cut | undefined;
  readonly lines: number;
}

/** One destination's part of a pass. */
class Delivery {
  readonly #run: Run;
  readonly #destination: Destination;
  readonly #progress: Progress;
  readonly #feed: Feed;
  readonly #shrunkTo: Cursor | undefined;
  #notice: string;
  #attempt: Attempt;
  #nextPostAt = 0;
  #claimed = false;
  #nameDropped = false;
  #refused = 0;
  sent = 0;

  constructor(run: Run, destination: Destination, progress: Progress, plan: ReadPlan) {
    this.#run = run;
    this.#destination = destination;
    this.#progress = progress;
    this.#feed = plan.feed;
    this.#notice = plan.notice;
    this.#shrunkTo = plan.shrunkTo;
    const first = progress.inDoubt
      ? this.#feed.next(MESSAGE_LIMIT - FENCE_LENGTH, Infinity)
      : undefined;
    this.#attempt = { ...FIRST_ATTEMPT, doubtful: first?.body.length ?? 0 };
  }

  async deliver(): Promise<Outcome> {
    for (;;) {
      const message = this.#compose();
      const outcome = message
        ? (this.#blocked() ?? (await this.#waitForTurn()) ?? (await this.#post(message)))
        : this.#finish();
      if (!outcome) continue;
      this.#progress.inDoubt = this.#attempt.doubtful > 0;
      return outcome;
    }
  }

  #compose(): Message | undefined {
    const { suspects, doubtful } = this.#attempt;
    const prefix = this.#notice + (doubtful > 0 ? RESENT_MARK : "");
    const maxLines = suspects > 0 ? Math.ceil(suspects / 2) : Infinity;
    const cut = this.#feed.next(MESSAGE_LIMIT - FENCE_LENGTH - prefix.length, maxLines);
    if (cut) {
      const lines = cut.body.split("\n").length;
      return { content: prefix + fence(cut.body), cut, lines };
    }
    return this.#shrunkTo && prefix
      ? { content: prefix.trimEnd(), cut: undefined, lines: 1 }
      : undefined;
  }

  /** A pause that still holds, or a destination that refused for good and was not changed since. */
  #blocked(): Outcome | undefined {
    const { pause, dead } = this.#progress;
    const now = this.#run.world.now();
    if (this.#run.world.stopping.aborted) return { kind: "stopped" };
    if (pause && pausedUntil(pause, now) > 0) return this.#failed(pause.exitCode, pause.why);
    const waits = dead && dead.triedAt <= now && now - dead.triedAt < DAY;
    if (waits && dead.settings === this.#destination.settings) return this.#failed(69, dead.why);
    return undefined;
  }

  async #waitForTurn(): Promise<Outcome | undefined> {
    const { world, deadline } = this.#run;
    const now = world.now();
    const paceMs = paceDelayMs(this.#progress.posts, this.#destination.pace, now);
    const waitMs = Math.max(paceMs, this.#nextPostAt - now);
    if (now + Math.max(0, waitMs) >= deadline)
      return this.#failed(75, "time is up, the rest follows in the next run");
    if (waitMs <= 0) return undefined;
    showProgress(
      this.#run,
      `${this.#destination.title}: ${this.sent} sent, next in ${seconds(waitMs)}`,
    );
    await world.sleep(waitMs);
    return this.#blocked();
  }

  async #post(message: Message): Promise<Outcome | undefined> {
    const { world, deadline } = this.#run;
    if (!this.#claimed) {
      // Saved before anything is sent: proves that it can be, and marks what a killed run repeats.
      this.#claimed = true;
      this.#progress.inDoubt = true;
      this.#run.save();
    }
    const { verdict, delayMs } = await this.#destination.post(message.content);
    const now = world.now();
    this.#nextPostAt = now + delayMs;
    if (this.#destination.pace.length > 0) {
      this.#progress.posts = recentPosts([...this.#progress.posts, now], now);
    }
    const step = nextStep(verdict, {
      attempt: this.#attempt,
      lines: message.lines,
      length: message.cut?.body.length ?? 0,
      pause: this.#progress.pause,
      now,
      deadline,
      jitterMs: 50 + Math.floor(world.random() * 200),
    });
    say(this.#run, `${this.#destination.title}: ${verdict.kind} → ${step.kind}`);
    if (verdict.kind === "confirmed" && verdict.unverified) this.#reportUnverified();
    return this.#carryOut(step, message, verdict);
  }

  async #carryOut(step: Step, message: Message, verdict: Verdict): Promise<Outcome | undefined> {
    switch (step.kind) {
      case "save":
        this.sent++;
        this.#moveBehind(message, false);
        return undefined;
      case "again":
        this.#attempt = step.attempt;
        showProgress(
          this.#run,
          `${this.#destination.title}: ${verdict.kind}, again in ${seconds(step.afterMs)}`,
        );
        await this.#run.world.sleep(step.afterMs);
        return undefined;
      case "split":
        this.#attempt = step.attempt;
        return undefined;
      case "setAside":
        return this.#setAside(message, step.why);
      case "dropName":
        this.#destination.dropName();
        if (this.#nameDropped) return this.#failed(78, "does not take our name");
        this.#nameDropped = true;
        return undefined;
      case "stop":
        return this.#stop(step, verdict);
    }
  }

  /** The message is done with: the cursor moves behind it, on disk before anything else is sent. */
  #moveBehind(message: Message, setAside: boolean): void {
    const progress = this.#progress;
    const cut = message.cut;
    progress.total += cut ? this.#feed.advance(cut) : 0;
    this.#notice = "";
    this.#attempt = afterDone(this.#attempt, message.lines, cut?.body.length ?? 0, setAside);
    if (this.#run.settings.dryRun) return;
    const cursor = cut ? this.#feed.cursor() : this.#shrunkTo;
    if (cursor) progress.cursor = cursor;
    progress.part = this.#feed.part;
    progress.finished = mergeFinished(progress.finished, this.#feed.finished());
    delete progress.pause;
    delete progress.dead;
    this.#run.save();
  }

  /** A single line that is refused whatever we do: kept on disk, told here and in the channel. */
  #setAside(message: Message, why: string): Outcome | undefined {
    const { world, settings, statePath } = this.#run;
    this.#refused++;
    if (this.#refused > REFUSED_LINES_LIMIT)
      return this.#failed(69, `refuses too many lines: ${why}`);
    const path = `${statePath}.rejected`;
    appendPrivately(world, path, `${message.cut?.body ?? ""}\n`);
    complain(world, `${this.#destination.title} refuses a line: ${why}`, `it is kept in ${path}`);
    this.#moveBehind(message, true);
    this.#notice = `⚠️ ${settings.host}: a line was refused here, it is kept in ${basename(path)}\n`;
    return undefined;
  }

  #stop(step: Step & { kind: "stop" }, verdict: Verdict): Outcome {
    const progress = this.#progress;
    if (step.pause) progress.pause = step.pause;
    if (step.dead) {
      const { settings } = this.#destination;
      progress.dead = { settings, triedAt: this.#run.world.now(), why: step.why };
    }
    if (verdict.kind === "unclear") this.#attempt = { ...this.#attempt, doubtful: 1 };
    return this.#failed(step.exitCode, step.why);
  }

  #failed(exitCode: number, why: string): Outcome {
    return { kind: "failed", fault: new Fault(exitCode, `${this.#destination.title}: ${why}`) };
  }

  #reportUnverified(): void {
    const { failures } = this.#run.state;
    const key = `${this.#destination.name} unverified`;
    if (failures[key]) return;
    const now = this.#run.world.now();
    failures[key] = { since: now, told: now };
    complain(
      this.#run.world,
      `${this.#destination.title} takes messages without saying that it kept them`,
    );
  }

  #finish(): Outcome {
    const progress = this.#progress;
    const file = this.#feed.held();
    const before = progress.held;
    delete progress.held;
    if (file) {
      const since = before?.inode === file.inode ? before.since : this.#run.world.now();
      progress.held = { name: file.name, inode: file.inode, size: file.diskSize, since };
    }
    return { kind: "done" };
  }
}

interface ReadPlan {
  readonly feed: Feed;
  readonly notice: string;
  /** Where the cursor goes when the log was cut short in place. */
  readonly shrunkTo: Cursor | undefined;
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / SECOND)} s`;
}

function complain(world: World, message: string, hint?: string): void {
  world.writeError(`f2b-watch: ${message}\n${hint ? `hint: ${hint}\n` : ""}`);
}

function say(run: Pick<Run, "world" | "settings">, message: string): void {
  if (run.settings.verbose) run.world.writeError(`f2b-watch: ${message}\n`);
}

/** One line on a terminal that each call replaces; nothing anywhere else. */
function showProgress(run: Run, text: string): void {
  if (run.world.terminal) run.world.writeError(`\r\x1b[K${text}`);
}

function appendPrivately(world: World, path: string, text: string): void {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW } = world.fs.constants;
  try {
    const descriptor = world.fs.openSync(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
    writeAll(world, descriptor, Buffer.from(text));
    world.fs.fsyncSync(descriptor);
    world.fs.closeSync(descriptor);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

function mergeFinished(known: readonly Anchor[], more: readonly Anchor[]): Anchor[] {
  const fresh = more.filter((anchor) => !known.some((other) => sameAnchor(anchor, other)));
  return [...known, ...fresh].slice(-FINISHED_LIMIT);
}

/** Plans what one destination reads. Siblings are opened only when the live log does not go on. */
async function planFor(run: Run, progress: Progress): Promise<ReadPlan> {
  const { world, live } = run;
  const { cursor } = progress;
  const goesOn = live && cursor && standsIn(world, live, cursor);
  const siblings = goesOn || run.first ? { open: [], leftOut: [] } : await run.siblings();
  const files = live ? [live, ...siblings.open] : siblings.open;
  let plan = planRead(cursor, surveyFiles(world, files, progress, false));
  if (plan.kind === "search") plan = planRead(cursor, surveyFiles(world, files, progress, true));
  if (plan.kind === "search") throw new Error("the plan asks for a search twice");
  const [first] = plan.segments;
  if (!live && !first)
    throw new Fault(66, `cannot read ${run.settings.log}: no such file or directory`);
  const file = files.find(({ name }) => name === first?.name);
  const from = first?.from ?? 0;
  const lines = !file ? 0 : goesOn ? cursor.lines : countLines(world, file, from);
  const part = plan.kind === "read" ? progress.part : 0;
  const feed = new Feed(run, files, plan.segments, { segment: 0, offset: from, lines }, part);
  const notice = noticeFor(run, plan, cursor, files, siblings.leftOut);
  say(
    run,
    `${plan.kind}: ${plan.segments.map(({ name, from: at }) => `${name} from ${at}`).join(", ")}`,
  );
  const shrunkTo = plan.kind === "shrunk" && file ? cursorAt(world, file, from, lines) : undefined;
  return { feed, notice, shrunkTo };
}

/** What must be said when lines may be missing; empty when nothing is. */
function noticeFor(
  run: Run,
  plan: Plan & { segments: readonly Segment[] },
  cursor: Cursor | undefined,
  files: readonly OpenFile[],
  leftOut: readonly string[],
): string {
  const damaged = plan.segments
    .flatMap(({ name }) => files.find((file) => file.name === name) ?? [])
    .flatMap(({ name, damage }) => (damage ? `${name} (${damage})` : []));
  if (plan.kind === "read" && !run.lost && damaged.length === 0) return "";
  const after = cursor
    ? `after line ${cursor.lines}${cursor.lastTime ? ` (${cursor.lastTime})` : ""}`
    : "or come again: where the last run stood is not known";
  const shrunk = plan.kind === "shrunk" ? "; the log was cut short in place" : "";
  const unread = [...damaged, ...(plan.kind === "read" ? [] : leftOut)];
  const names = unread.length > 0 ? `; not read: ${neutralise(unread.join(", "))}` : "";
  return `⚠️ ${run.settings.host}: lines of ${basename(run.settings.log)} may be missing ${after}${shrunk}${names}\n`;
}

/** A destination never seen: where the furthest other one stands, else at the log's start or end. */
async function startProgress(run: Run): Promise<Progress> {
  const { world, live, settings } = run;
  const others = Object.values(run.state.destinations);
  const furthest = others.reduce<Progress | undefined>(
    (best, other) => (best && best.total >= other.total ? best : other),
    undefined,
  );
  const blank = { part: 0, total: 0, finished: [], inDoubt: false, posts: [] };
  if (furthest) {
    const { cursor, total, finished, held } = structuredClone(furthest);
    return { ...blank, total, finished, ...(cursor && { cursor }), ...(held && { held }) };
  }
  if (run.lost || settings.dryRun) return blank;
  const siblings = (await run.siblings()).open.filter((file) => file.size > 0);
  const finished = siblings.map((file) => anchorAt(world, file, file.size));
  const end = live && settings.from === "end" ? lastLineEnd(world, live, 0) : 0;
  if (!live || end === 0) return { ...blank, finished };
  return { ...blank, finished, cursor: cursorAt(world, live, end, countLines(world, live, end)) };
}

/** Runs one destination; what goes wrong in it stays in it. */
async function deliverTo(run: Run, destination: Destination): Promise<Outcome> {
  try {
    if (run.logFault) throw run.logFault;
    const progress = run.state.destinations[destination.name] ?? (await startProgress(run));
    run.state.destinations[destination.name] = progress;
    const total = progress.total;
    const delivery = new Delivery(run, destination, progress, await planFor(run, progress));
    const outcome = await delivery.deliver();
    const { title } = destination;
    if (run.settings.dryRun)
      complain(run.world, `dry run: ${delivery.sent} messages for ${title}, none sent`);
    else reportStuck(run, progress, progress.total > total);
    return outcome;
  } catch (error) {
    if (error instanceof Fault) return { kind: "failed", fault: error };
    throw error;
  }
}

/** Says that something fails, as often as a person wants to hear it. */
function tellFailure(run: Run, key: string, fault: Fault): void {
  const { world, state } = run;
  const now = world.now();
  const failure = state.failures[key];
  const due = reportDue(failure, now);
  const everyTime = [73, 78].includes(fault.exitCode) || world.terminal;
  if (due || everyTime) complain(world, fault.message, fault.hint);
  if (due) state.failures[key] = { since: failure?.since ?? now, told: now };
}

/** Says once that it is over. */
function tellOver(run: Run, key: string, message: string): void {
  if (!run.state.failures[key]) return;
  delete run.state.failures[key];
  complain(run.world, message);
}

/** fail2ban that was not told of a rotation goes on in the rotated file for good. */
function reportStuck(run: Run, progress: Progress, grew: boolean): void {
  const { held } = progress;
  if (!held) return tellOver(run, "stuck", `fail2ban writes to ${run.settings.log} again`);
  if (!grew || run.world.now() - held.since < MINUTE) return;
  const path = resolve(dirname(run.settings.log), held.name);
  const message = `fail2ban still writes to ${path}`;
  tellFailure(run, "stuck", new Fault(0, message, "run: fail2ban-client flushlogs"));
}

function reportOutcomes(
  run: Run,
  destinations: readonly Destination[],
  outcomes: readonly Outcome[],
): void {
  const unread = outcomes.flatMap((each) => (exitCodeOf(each) === 66 ? each : []))[0];
  if (unread?.kind === "failed") tellFailure(run, "log", unread.fault);
  else tellOver(run, "log", `${run.settings.log} can be read again`);
  for (const [index, { name, title }] of destinations.entries()) {
    const outcome = outcomes[index];
    if (outcome?.kind === "done") tellOver(run, name, `${title} works again`);
    if (outcome?.kind !== "failed" || exitCodeOf(outcome) === 66) continue;
    tellFailure(run, name, outcome.fault);
  }
}

function exitCodeOf(outcome: Outcome): number {
  if (outcome.kind === "failed") return outcome.fault.exitCode;
  return outcome.kind === "stopped" ? 75 : 0;
}

/** One pass over the log for every destination; the exit status is the one a person must act on. */
async function passOnce(run: Run, destinations: readonly Destination[]): Promise<number> {
  const { world, settings } = run;
  if (run.first && world.terminal) {
    complain(world, `first run: begins at the ${settings.from} of ${settings.log}`);
  }
  try {
    const outcomes = await Promise.all(destinations.map((each) => deliverTo(run, each)));
    if (world.terminal) world.writeError("\r\x1b[K");
    reportOutcomes(run, destinations, outcomes);
    run.saveChanges();
    return worstExit(outcomes.map(exitCodeOf));
  } finally {
    await run.close();
  }
}

/** Whether a whole line, or more than a glance shows, stands behind `offset`. */
function lineBehind(world: World, file: OpenFile, offset: number): boolean {
  const glance = 64 * 1024;
  return file.size - offset > glance || readAt(world, file, offset, glance).includes(NEWLINE);
}

/** A rotated file that nothing was written to since: a hint only, and only ever to leave it for later. */
function heldUnchanged(world: World, log: string, held: Held): boolean {
  const path = resolve(dirname(log), held.name);
  const stat = world.fs.lstatSync(path, { throwIfNoEntry: false });
  return stat !== undefined && inodeOf(stat) === held.inode && stat.size === held.size;
}

function upToDate(
  world: World,
  log: string,
  live: OpenFile,
  progress: Progress | undefined,
): boolean {
  if (!progress?.cursor) return false;
  if (standsIn(world, live, progress.cursor))
    return !lineBehind(world, live, progress.cursor.offset);
  const { held } = progress;
  return held !== undefined && !lineBehind(world, live, 0) && heldUnchanged(world, log, held);
}

/** Whether nothing is new for anybody: seen without the lock, from a few KiB whatever the log's size. */
function nothingNew(
  world: World,
  { log }: Settings,
  statePath: string,
  destinations: readonly Destination[],
): boolean {
  const saved = readState(world, statePath, log);
  if (saved.kind !== "known" || saved.state.failures["log"]) return false;
  const { destinations: known } = saved.state;
  if (!destinations.every(({ name }) => known[name]?.cursor)) return false;
  const live = openLive(world, log);
  if (!live) return false;
  const done = destinations.every(({ name }) => upToDate(world, log, live, known[name]));
  world.fs.closeSync(live.descriptor);
  return done;
}

/** A mark that nobody takes down means that the run at work hangs; told each hour. */
function reportLongRun(world: World, settings: Settings, markPath: string): void {
  const stat = world.fs.statSync(markPath, { throwIfNoEntry: false });
  const now = world.now();
  if (!stat || now - stat.mtimeMs < settings.maxTimeMs + MINUTE) return;
  if (stat.atimeMs > stat.mtimeMs && now - stat.atimeMs < HOUR) return;
  complain(world, `another run has been at it since ${stat.mtime.toISOString()}`);
  world.fs.utimesSync(markPath, now / SECOND, stat.mtime);
}

/**
 * Takes turns with other runs. Whoever is refused has left a mark before it tried; the holder takes
 * the mark down before it looks at the log, and looks for a new one after it let go. So a line that
 * was there when a run started is delivered by that run or by one that is still at work.
 */
async function takeTurns(
  world: World,
  settings: Settings,
  statePath: string,
  destinations: readonly Destination[],
): Promise<number> {
  const deadline = world.now() + settings.maxTimeMs;
  const markPath = `${statePath}.mark`;
  touch(world, `${statePath}.lock`);
  touch(world, markPath);
  let exitCode = 0;
  do {
    const lock = acquireLock(`${statePath}.lock`);
    if (!lock) {
      reportLongRun(world, settings, markPath);
      return exitCode;
    }
    try {
      world.fs.rmSync(markPath, { force: true });
      exitCode = await passOnce(new Run(world, settings, statePath, deadline), destinations);
    } finally {
      lock.release();
    }
    if (!world.fs.existsSync(markPath)) return exitCode;
  } while (world.now() < deadline && !world.stopping.aborted);
  return worstExit([exitCode, 75]);
}

async function dryRun(
  world: World,
  settings: Settings,
  statePath: string,
  destinations: readonly Destination[],
): Promise<number> {
  let exitCode = 0;
  for (const { name, title } of destinations) {
    const run = new Run(world, settings, statePath, Infinity);
    const printed = { ...stdout(world, settings.host), name, title };
    exitCode = worstExit([exitCode, await passOnce(run, [printed])]);
  }
  return exitCode;
}

/** Sends what is new and leaves. */
async function pass(world: World, settings: Settings): Promise<number> {
  const { log, state, host, webhook } = settings;
  const destinations = webhook
    ? [discord(world, webhook, host)]
    : [announced(world, stdout(world, host))];
  const statePath = resolve(state, stateFileName(log));
  if (settings.dryRun) {
    checkStateDirectory(world, state);
    return dryRun(world, settings, statePath, destinations);
  }
  makeStateDirectory(world, state);
  if (nothingNew(world, settings, statePath, destinations)) return 0;
  return takeTurns(world, settings, statePath, destinations);
}

// ── Command line ────────────────────────────────────────────────────────────────────────────────
// Flags win over the environment, the environment over the env file. cac finds the flags, zod has
// the last word on every value. Secrets come from the environment or the env file only.

const USAGE = `f2b-watch ${VERSION}: tells Discord what fail2ban did, every line once, in order

usage: f2b-watch [options]          one pass: send what is new, exit

options (each also as a variable, F2B_LOG, F2B_MAX_TIME, …)
  --log <file>        the log                            (/var/log/fail2ban.log)
  --state <dir>       where progress is kept             (state/ beside the script;
                      compiled: /var/lib/f2b-watch; systemd's STATE_DIRECTORY)
  --env-file <file>   KEY=VALUE lines                    (/etc/f2b-watch.env if there)
  --host <name>       shown in every message             (the machine's name)
  --from <start|end>  where a log never seen begins      (start)
  --max-time <s>      stop cleanly after so long         (300)
  --dry-run           print what would be sent, send nothing, change nothing
  --verbose           say on stderr what it does
  -h, --help          this text
  -V, --version       the version

destination, from the environment or the env file, never a flag
  DISCORD_WEBHOOK     https://discord.com/api/webhooks/…[?thread_id=…]
  none set            messages go to stdout

exit status
  0 done, nothing to do, or another run is at it      70 a bug in f2b-watch
  64 bad usage                                        73 state cannot be written or read
  66 the log cannot be read                           75 try again later
  69 a destination refuses for good                   78 configuration
`;

const ENV_FILE = "/etc/f2b-watch.env";

const Path = z.string().check(z.regex(/^[^\0]+$/));
const Switch = z.pipe(
  z.enum(["1", "0", "true", "false"]),
  z.transform((text) => text === "1" || text === "true"),
);
const WholeSeconds = z.pipe(
  z.string().check(z.regex(/^\d{1,6}$/)),
  z.pipe(z.transform(Number), z.int().check(z.minimum(1), z.maximum(86_400))),
);

/** Every option: its flag, what a value must look like, and the schema that decides. */
const OPTIONS = {
  log: { flag: "--log <file>", expects: "a path", schema: Path },
  state: { flag: "--state <dir>", expects: "a path", schema: Path },
  envFile: { flag: "--env-file <file>", expects: "a path", schema: Path },
  host: { flag: "--host <name>", expects: "a name", schema: z.string().check(z.regex(/\S/)) },
  from: { flag: "--from <start|end>", expects: "start or end", schema: z.enum(["start", "end"]) },
  maxTime: {
    flag: "--max-time <s>",
    expects: "whole seconds from 1 to 86400",
    schema: WholeSeconds,
  },
  dryRun: { flag: "--dry-run", expects: "no value (or 1, 0, true, false)", schema: Switch },
  verbose: { flag: "--verbose", expects: "no value (or 1, 0, true, false)", schema: Switch },
} as const;
type OptionName = keyof typeof OPTIONS;
const OPTION_NAMES = Object.keys(OPTIONS) as OptionName[];

/** `--max-time` of `--max-time <s>` */
function flagOf(name: OptionName): string {
  return OPTIONS[name].flag.replace(/ .*/, "");
}

/** `F2B_MAX_TIME` */
function variableOf(name: OptionName): string {
  return `F2B_${flagOf(name).slice(2).replaceAll("-", "_").toUpperCase()}`;
}

/** A flag's value as typed: cac has made numbers of some (`--host 007`, `--log ""`). */
function typedValue(argv: readonly string[], flag: string): string {
  const inline = argv.find((word) => word.startsWith(`${flag}=`));
  return inline === undefined
    ? (argv[argv.indexOf(flag) + 1] ?? "")
    : inline.slice(flag.length + 1);
}

interface CommandLine {
  readonly help: boolean;
  readonly version: boolean;
  readonly values: Readonly<Partial<Record<OptionName, string>>>;
}

const CacError = z.object({ message: z.string() });
const CacOptions = z.record(z.string(), z.unknown());

/** Reads the flags; throws on unknown ones, missing values, and options given twice. */
function readCommandLine(argv: readonly string[]): CommandLine {
  const cli = cac("f2b-watch");
  const command = cli.command("", "").action(() => undefined);
  for (const name of OPTION_NAMES) command.option(OPTIONS[name].flag, "");
  command.option("-h, --help", "").option("-V, --version", "");
  let options: Record<string, unknown>;
  try {
    options = z.parse(CacOptions, cli.parse(["", "", ...argv], { run: false }).options);
    if (!options["help"]) cli.runMatchedCommand();
  } catch (error) {
    const message = z.safeParse(CacError, error).data?.message ?? "bad usage";
    throw usage(message.charAt(0).toLowerCase() + message.slice(1));
  }
  if (z.safeParse(z.array(z.string()).check(z.minLength(1)), options["--"]).success) {
    throw usage("unexpected words after --");
  }
  const values: Partial<Record<OptionName, string>> = {};
  for (const name of OPTION_NAMES) {
    const value = options[name];
    if (value === undefined) continue;
    if (Array.isArray(value)) throw usage(`${flagOf(name)}: given twice`);
    values[name] = typeof value === "boolean" ? String(value) : typedValue(argv, flagOf(name));
  }
  return { help: options["help"] === true, version: options["version"] === true, values };
}

function usage(message: string): Fault {
  return new Fault(64, message, "f2b-watch --help shows all options");
}

/** Reads `KEY=VALUE` lines: the value is the rest, trimmed, without one pair of quotes around it. */
export function parseEnvFile(text: string): Map<string, string> {
  const variables = new Map<string, string>();
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const match = /^\s*([A-Za-z_]\w*)=(.*)$/.exec(line);
    if (!match) throw new Fault(78, `env file, line ${index + 1}: expected KEY=VALUE`);
    const value = (match[2] ?? "").trim();
    variables.set(match[1] ?? "", value.replace(/^(["'])(.*)\1$/, "$2"));
  }
  return variables;
}

/** The env file's variables; the default one may be missing, a named one may not. */
function readEnvFile(world: World, named: string | undefined): Map<string, string> {
  const path = named ?? ENV_FILE;
  let descriptor: number;
  try {
    descriptor = world.fs.openSync(
      path,
      world.fs.constants.O_RDONLY | world.fs.constants.O_NONBLOCK,
    );
  } catch (error) {
    if (named === undefined && errorCode(error) === "ENOENT") return new Map();
    throw new Fault(78, `cannot read env file ${path}: ${reason(error)}`);
  }
  try {
    const stat = world.fs.fstatSync(descriptor);
    const wrong = stat.isFile() ? ownershipProblem(world, stat) : "is not a regular file";
    if (wrong)
      throw new Fault(78, `env file ${path} ${wrong}`, `chown root ${path}; chmod 600 ${path}`);
    return parseEnvFile(world.fs.readFileSync(descriptor, "utf8"));
  } finally {
    world.fs.closeSync(descriptor);
  }
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** Any form of a Discord webhook's URL as the one that is posted to; throws without echoing it. */
export function webhookUrl(text: string): string {
  const wrong = new Fault(
    78,
    "DISCORD_WEBHOOK: expected https://discord.com/api/webhooks/<id>/<token>, found something else",
    "copy it anew: channel settings, Integrations, Webhooks",
  );
  if (!URL.canParse(text)) throw wrong;
  const url = new URL(text);
  const match = /^\/api\/(?:v\d+\/)?webhooks\/([^/]+)\/([^/]+)(?:\/(?:slack|github)?)?$/.exec(
    url.pathname,
  );
  const secure =
    url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.test(url.hostname));
  if (!match || !secure) throw wrong;
  const host = url.host === "discordapp.com" ? "discord.com" : url.host;
  const thread = url.searchParams.get("thread_id");
  // Without a version Discord answers as v6, and without wait=true it does not say what it kept.
  return `${url.protocol}//${host}/api/v10/webhooks/${match[1]}/${match[2]}?wait=true${
    thread ? `&thread_id=${encodeURIComponent(thread)}` : ""
  }`;
}

/** The value of one option, checked; absent when neither flag nor variable sets it. */
function optionValue<Name extends OptionName>(
  name: Name,
  commandLine: CommandLine,
  variable: (name: string) => string | undefined,
): z.infer<(typeof OPTIONS)[Name]["schema"]> | undefined {
  const typed = commandLine.values[name];
  const value = typed ?? variable(variableOf(name));
  if (value === undefined) return undefined;
  const { schema, expects } = OPTIONS[name];
  const result = z.safeParse<z.ZodMiniType<unknown>>(schema, value);
  if (result.success) return result.data as z.infer<(typeof OPTIONS)[Name]["schema"]>;
  const found = neutralise(redact(JSON.stringify(value.slice(0, 100)), []));
  const label = typed === undefined ? variableOf(name) : flagOf(name);
  const message = `${label}: expected ${expects}, found ${found}`;
  throw typed === undefined ? new Fault(78, message) : usage(message);
}

function rejectUnknownVariables(names: Iterable<string>): void {
  const known = OPTION_NAMES.map(variableOf);
  for (const name of names) {
    if (name.startsWith("F2B_") && !known.includes(name)) {
      throw new Fault(78, `${name}: no such setting`, `known are ${known.join(", ")}`);
    }
  }
}

/** systemd's state directory; with DynamicUser it is a link that systemd made. */
function systemdState(world: World): string | undefined {
  const path = world.env["STATE_DIRECTORY"]?.split(":")[0];
  if (!path) return undefined;
  return world.fs.existsSync(path) ? world.fs.realpathSync(path) : path;
}

function readSettings(world: World, commandLine: CommandLine): Settings {
  const named = optionValue("envFile", commandLine, (name) => world.env[name] || undefined);
  const file = readEnvFile(world, named);
  rejectUnknownVariables([...Object.keys(world.env), ...file.keys()]);
  const variable = (name: string) => world.env[name] || file.get(name) || undefined;
  const option = <Name extends OptionName>(name: Name) => optionValue(name, commandLine, variable);
  const webhookText = variable("DISCORD_WEBHOOK");
  const webhook = webhookText === undefined ? undefined : webhookUrl(webhookText);
  const token = webhook?.replace(/.*\/([^/?]+)\?.*/, "$1") ?? "";
  return {
    log: resolve(option("log") ?? "/var/log/fail2ban.log"),
    state: resolve(option("state") ?? systemdState(world) ?? world.stateHome),
    host: option("host") ?? world.hostName(),
    from: option("from") ?? "start",
    maxTimeMs: (option("maxTime") ?? 300) * SECOND,
    dryRun: option("dryRun") ?? false,
    verbose: option("verbose") ?? false,
    webhook,
    ownSecrets: token.length >= 8 ? [token] : [],
  };
}

/** Runs the program: arguments without the program's name in, exit status out. */
export async function main(argv: readonly string[], world: World): Promise<number> {
  try {
    const commandLine = readCommandLine(argv);
    if (commandLine.help) await world.writeOut(USAGE);
    else if (commandLine.version) await world.writeOut(`f2b-watch ${VERSION}\n`);
    else return await pass(world, readSettings(world, commandLine));
    return 0;
  } catch (error) {
    if (error instanceof Fault) {
      complain(world, error.message, error.hint);
      return error.exitCode;
    }
    complain(world, `a bug in f2b-watch ${VERSION}: ${neutralise(redact(reason(error), []))}`);
    return 70;
  }
}

/** Writes all of it to stdout, also where the reader is slow. */
async function writeOut(text: string): Promise<void> {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length;) {
    try {
      done += fs.writeSync(1, bytes, done);
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") throw error;
      await new Promise((wake) => setTimeout(wake, 5));
    }
  }
}

/** The machine that the program runs on. */
export function realWorld(): World {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort());
  const compiled = process.argv[1]?.startsWith("/$bunfs/") === true;
  return {
    env: process.env,
    fs,
    stateHome: compiled ? "/var/lib/f2b-watch" : resolve(import.meta.dirname ?? ".", "state"),
    terminal: process.stderr.isTTY === true,
    stopping: stop.signal,
    now: Date.now,
    random: Math.random,
    uid: () => process.getuid?.() ?? 0,
    gid: () => process.getgid?.() ?? 0,
    timeout: (ms) => AbortSignal.timeout(ms),
    fetch: (url, init) => fetch(url, init),
    hostName: () => process.getBuiltinModule("node:os").hostname(),
    writeOut,
    writeError: (text) => void fs.writeSync(2, text),
    sleep: (ms) =>
      new Promise((wake) => {
        const timer = setTimeout(wake, ms);
        const wakeEarly = () => {
          clearTimeout(timer);
          wake();
        };
        if (stop.signal.aborted) wakeEarly();
        else stop.signal.addEventListener("abort", wakeEarly, { once: true });
      }),
  };
}

// A rejection that nobody caught, or a promise that never settles, must not look like success.
if (import.meta.main) {
  process.exitCode = 70;
  void main(process.argv.slice(2), realWorld()).then((code) => (process.exitCode = code));
}
