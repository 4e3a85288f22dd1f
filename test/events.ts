/** Lines of a log as fail2ban writes them one after the other, and what people read about them. */
import * as fs from "node:fs";
import { join } from "node:path";
import { Batch, DISCORD, Facts, renderBatch } from "../f2b-watch.ts";
import type { Scene } from "./harness.ts";
import { addSlack, type Slack } from "./slack.ts";

export const EVENTS = ["--format", "events"];
export const FIXTURES = join(import.meta.dirname, "fixtures");

/** The lines of a real server's log. */
export function fixture(name: string): string[] {
  return fs.readFileSync(join(FIXTURES, name), "utf8").split("\n").slice(0, -1);
}

/** When the next line is written, in seconds from ten o'clock on. */
export const clock = { seconds: 0 };

/** A line of the log, a second after the one before. */
export function says(text: string, level = "NOTICE", logger = "actions"): string {
  const at = new Date(Date.UTC(2026, 10, 22, 10) + clock.seconds++ * 1000).toISOString();
  const stamp = `${at.slice(0, 10)} ${at.slice(11, 19)},123`;
  return `${stamp} ${`fail2ban.${logger}`.padEnd(24)}[18191]: ${level.padEnd(7)} ${text}`;
}
export const found = (id: string, jail = "sshd") => says(`[${jail}] Found ${id}`, "INFO", "filter");
export const ban = (id: string, jail = "sshd") => says(`[${jail}] Ban ${id}`);
export const unban = (id: string, jail = "sshd") => says(`[${jail}] Unban ${id}`);
export const restore = (id: string, jail = "sshd") => says(`[${jail}] Restore Ban ${id}`);
export const info = (text: string) => says(text, "INFO", "server");

export const view = (only = "", jails = "") => ({
  format: "events" as const,
  only: new Set(only ? only.split(",") : []),
  jails: new Set(jails ? jails.split(",") : []),
  color: false,
  lastDay: "2026-12-31",
});

type Style = Parameters<typeof renderBatch>[1];

/** What the database knows of each ban. */
type Known = Facts["bans"] extends Map<unknown, infer Known> ? Known : never;

interface Reading {
  /** A run came at each of these lines. */
  readonly splits?: readonly number[];
  readonly shows?: ReturnType<typeof view>;
  readonly markup?: Style["markup"];
  /** What is known of the bans written at such a time, and of 203.0.113.7's country. */
  readonly known?: (time: string) => Partial<Known> | undefined;
  readonly style?: Partial<Style>;
}

/** How people read it who said nothing else. */
export const STYLE: Style = {
  host: "web-1",
  markup: DISCORD.markup,
  link: "https://db-ip.com/{ip}",
  overflow: "none",
  room: 1_999,
};

/** What people read about these lines, the lines of counts among it; `before`: of runs before it. */
function read(
  log: readonly string[],
  { splits = [], shows = view(), markup = DISCORD.markup, known, style }: Reading,
): string[] {
  const ends = [...splits, log.length];
  return ends.flatMap((end, index) => {
    const start = ends[index - 1] ?? 0;
    const { seen } = new Batch(view()).read(log.slice(0, start)).finish();
    const batch = new Batch(shows, seen).read(log.slice(start, end)).finish();
    const facts = new Facts();
    if (known) facts.countries.set("203.0.113.7", "NL");
    for (const each of batch.happenings) {
      const some = each.event === "ban" && known?.(each.time);
      if (some) facts.bans.set(each, { failures: 5, count: 1, seconds: 600, users: [], ...some });
    }
    const { text } = renderBatch(batch, { ...STYLE, markup, ...style }, facts);
    return text.split("\n").slice(0, -1);
  });
}

const COUNTS = /^(?:-# .*|_.*_)$/;

/** What people read about these lines, without the lines of counts. */
export function told(log: readonly string[], reading: Reading = {}): string[] {
  return read(log, reading).filter((line) => !COUNTS.test(line));
}

/** The last line that people read about these. */
export function footer(log: readonly string[], shows = view()): string | undefined {
  return read(log, { shows }).at(-1);
}

export function contents(scene: Scene): string[] {
  return scene.discord.messages.map(({ content }) => content);
}

/** Slack in Discord's place. */
export function slackIn(scene: Scene): Slack {
  const slack = addSlack(scene, { links: /<https:\/\/db-ip\.com\/[^|>]*\|db-ip\.com>/ });
  scene.env = { SLACK_TOKEN: slack.token, SLACK_CHANNEL: slack.channel };
  return slack;
}
