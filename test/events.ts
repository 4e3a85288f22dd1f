/** Lines of a log as fail2ban writes them one after the other, and what people read about them. */
import * as fs from "node:fs";
import { join } from "node:path";
import { Batch, DISCORD, Facts, Words } from "../f2b-watch.ts";
import type { Scene } from "./harness.ts";

export const FIXTURES = join(import.meta.dirname, "fixtures");
/** Every log of a real server. */
export const LOGS = fs
  .readdirSync(FIXTURES, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".log"));

/** The lines of a fixture. */
export function fixture(name: string): string[] {
  return fs.readFileSync(join(FIXTURES, name), "utf8").split("\n").slice(0, -1);
}

/** The texts of all messages. */
export const contents = ({ discord }: Scene) => discord.messages.map(({ content }) => content);

/**
 * The cases of a text among the fixtures, each below `# ` and its name, with the title behind `== ` in
 * front: its lines of a log in short, and what stands behind a mark.
 */
export function casesOf(name: string) {
  const parts = fs.readFileSync(join(FIXTURES, name), "utf8").split(/^== /m);
  return parts.flatMap((part) => {
    const [title = "", ...cases] = part.split(/\n# /);
    return cases.map((text) => {
      const [about, ...rest] = text.trimEnd().split("\n");
      const behind = (mark: string) =>
        rest.flatMap((line) => (line.startsWith(mark) ? line.slice(mark.length) : []));
      const entries = rest.filter((line) => !/^[>@]|^$/.test(line));
      return [`${title.split("\n")[0]}: ${about}`, { entries, behind }] as const;
    });
  });
}

/** When the next line is written, in seconds from ten o'clock on. */
export const clock = { seconds: 0 };

/** A line of the log, a second after the one before. */
export function says(text: string, level = "NOTICE", logger = "actions"): string {
  const at = new Date(Date.UTC(2026, 10, 22, 10) + clock.seconds++ * 1000).toISOString();
  const stamp = `${at.slice(0, 10)} ${at.slice(11, 19)},123`;
  return `${stamp} ${`fail2ban.${logger}`.padEnd(24)}[18191]: ${level.padEnd(7)} ${text}`;
}

const VERBS: Readonly<Record<string, (jail: string, id: string, rest: string) => string>> = {
  found: (jail, id) => says(`[${jail}] Found ${id}`, "INFO", "filter"),
  ban: (jail, id) => says(`[${jail}] Ban ${id}`),
  unban: (jail, id) => says(`[${jail}] Unban ${id}`),
  restore: (jail, id) => says(`[${jail}] Restore Ban ${id}`),
  again: (jail, id) => says(`[${jail}] ${id} already banned`),
  warned: (jail, id) => says(`[${jail}] ${id} already banned`, "WARNING"),
  longer: (jail, id, rest) => says(`[${jail}] Increase Ban ${id} (${rest} -> 2026-11-22 11:32:26)`),
  failed: (jail, id, rest) => failed("ban", jail, `'ip': '${id}', 'family': 'inet4'`, rest),
};

/** An action that failed; `rest` is its name, and why. */
export function failed(doing: string, jail: string, details: string, rest = "act: no"): string {
  const [action = "", why = ""] = rest.split(/: (.*)/);
  const info = `info 'ActionInfo({${details}})': ${why}`;
  return says(`Failed to execute ${doing} jail '${jail}' action '${action}' ${info}`, "ERROR");
}

/**
 * Lines in short, also several with `; ` between them: `ban .7`, `found .7 @web`, `longer .7 2 # 1h`, `failed .7 nft: no table`; `wait 60`;
 * `ERROR text`; `run command -- returned 1`, of which each end is a line; `| a line without a record`.
 */
export function log(...entries: readonly string[]): string[] {
  return entries
    .flatMap((some) => some.split("; "))
    .flatMap((entry) => {
      const [, verb = "", id = "", , jail = "sshd", rest = ""] =
        /^([a-z]+) (\S+)( @(\S+))?(?: (.*))?$/.exec(entry) ?? [];
      if (verb === "wait") clock.seconds += Number(id);
      if (verb === "wait") return [];
      const written = VERBS[verb]?.(jail, id.replace(/^\./, "203.0.113."), rest);
      if (written) return [written];
      if (entry.startsWith("| ")) return [entry.slice(2)];
      if (entry.startsWith("run ")) {
        const [command = "", ...ends] = entry
          .slice(4)
          .replaceAll(" .", " 203.0.113.")
          .split(" -- ");
        const process = `7f${clock.seconds.toString(16)}`;
        const all = [`exec: ${command}`, ...ends];
        return all.map((end) => says(`${process} -- ${end}`, "ERROR", "utils"));
      }
      const [, level, text = ""] = /^([A-Z]+) (.*)$/.exec(entry) ?? [];
      return [says(text, level, "server")];
    });
}

export const view = (only = "", jails = "") => ({
  format: "events" as const,
  only: new Set(only ? only.split(",") : []),
  jails: new Set(jails ? jails.split(",") : []),
  color: false,
  lastDay: () => "2026-11-23",
});

type Style = Words["style"];
/** What the database knows of a ban. */
type Known = Facts["bans"] extends Map<unknown, infer Known> ? Known : never;

export interface Reading {
  /** A run came at each of these lines. */
  readonly splits?: readonly number[];
  readonly shows?: ReturnType<typeof view>;
  readonly style?: Partial<Style>;
  /** What is known of the bans written at such a time, and of 203.0.113.7's country. */
  readonly known?: (time: string) => Partial<Known> | undefined;
}

/** What people read about these lines, the lines of counts among it; `before`: of runs before it. */
export function read(lines: readonly string[], reading: Reading = {}): string[] {
  const { splits = [], shows = view(), known, style } = reading;
  const ends = [...splits, lines.length];
  return ends.flatMap((end, index) => {
    const start = ends[index - 1] ?? 0;
    const { seen } = new Batch(view()).read(lines.slice(0, start)).finish();
    const batch = new Batch(shows, seen).read(lines.slice(start, end)).finish();
    const facts = new Facts();
    if (known) facts.countries.set("203.0.113.7", "NL");
    for (const each of batch.happenings) {
      const some = each.event === "ban" && known?.(each.time);
      if (some) facts.bans.set(each, { failures: 5, count: 1, seconds: 600, users: [], ...some });
    }
    const link = "https://db-ip.com/{ip}";
    const usual = { host: "web-1", markup: DISCORD.markup, link, overflow: "none", room: 1_999 };
    const { text } = new Words({ ...usual, ...style } as Style, facts).batch(batch);
    return text.split("\n").slice(0, -1);
  });
}

/** What people read about these lines, without the lines of counts. */
export function told(lines: readonly string[], reading: Reading = {}): string[] {
  return read(lines, reading).filter((line) => !/^(?:-# .*|_.*_)$/.test(line));
}

/** The same in short: without the host, bold and what stands behind each ban; `.7` is 203.0.113.7. */
export function short(lines: readonly string[], reading: Reading = {}): string[] {
  return told(lines, reading).map((line) =>
    line
      .replace(/ · \[db-ip\.com\].*/, "")
      .replace(" web-1 ", " ")
      .replaceAll("**", "")
      .replaceAll("203.0.113.", "."),
  );
}
