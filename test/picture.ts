/** README's picture, four messages about real logs: `bun run picture` draws it, picture.test.ts compares. */
import * as fs from "node:fs";
import { join } from "node:path";
import type { DiscordMessage } from "./discord.ts";
import { fixture } from "./events.ts";
import { repository, Scene } from "./harness.ts";

export const picture = join(repository, ".github/messages.svg");

// ── The messages ────────────────────────────────────────────────────────────────────────────────

/** Lines of a fixture: those before `from` are already known, `from` to `to` are new. */
interface Happening {
  readonly log: string;
  readonly from: number;
  readonly to?: number;
  readonly format?: string;
  readonly rewritten?: readonly [from: string, to: string];
}

const HAPPENINGS: readonly Happening[] = [
  {
    log: "bantime-increment.log",
    from: 50,
    to: 58,
    // A log of minutes has bans of seconds.
    rewritten: ["8s -> 2026-11-22 10:35:22", "2h -> 2026-11-22 12:35:14"],
  },
  { log: "restart-restore.log", from: 122, to: 205 },
  { log: "failing-invariant.log", from: 26, to: 39 },
  { log: "attack-burst.log", from: 1, format: "raw" },
];

/** What the program posts about it, and when. */
async function posted(happening: Happening): Promise<{ messages: DiscordMessage[]; at: string }> {
  const { log, from, to, format = "events", rewritten = ["", ""] } = happening;
  using scene = new Scene();
  scene.env = { DISCORD_WEBHOOK: scene.discord.webhook, F2B_INLINE: "20" };
  const all = fixture(log).map((line) => line.replace(...rewritten));
  const fresh = all.slice(from - 1, to);
  scene.append(...all.slice(0, from - 1));
  await scene.pass("--from", "end");
  scene.append(...fresh);
  await scene.pass("--format", format);
  return { messages: scene.discord.messages, at: fresh.at(-1)?.slice(11, 16) ?? "" };
}

// ── Text as Discord sets it ─────────────────────────────────────────────────────────────────────

/** Text of one look; `href` only shows in its colour. */
interface Run {
  readonly text: string;
  readonly bold: boolean;
  readonly look: "plain" | "code" | "link" | "small";
}

const MARKUP = /\*\*|`([^`]+)`|\[([^\]]+)\]\(<?[^)>]*>?\)|\\(.)|[^*`[\\]+|./gu;

/** The parts of one line of Discord's markup. */
function runsOf(line: string): Run[] {
  const small = line.startsWith("-# ");
  let bold = false;
  return [...line.slice(small ? 3 : 0).matchAll(MARKUP)].flatMap(
    ([all, code, link, escaped]): Run[] => {
      if (all === "**") bold = !bold;
      if (all === "**") return [];
      const look = code ? "code" : link ? "link" : small ? "small" : "plain";
      return [{ text: code ?? link ?? escaped ?? all, bold, look }];
    },
  );
}

/** Widths of Helvetica's characters in thousandths of the size; every viewer's font is fitted to them. */
// prettier-ignore
const WIDTHS: readonly [characters: RegExp, width: number][] = [
  [/[ijl'|]/, 222], [/[ .,:;!/\\ftI[\]()·]/, 278], [/[r-]/, 333], [/[ckszvxyJ]/, 500], [/[mM]/, 833],
  [/[w]/, 722], [/[W…]/, 944], [/[ABEKPSVXY&]/, 667], [/[CDHNRU]/, 722], [/[GOQ]/, 778], [/[FTZ]/, 611],
  [/\p{Emoji_Presentation}|⚠|♻/u, 1_350], [/\ufe0f/u, 0],
];

function widthOf({ text, bold, look }: Run): number {
  const size = look === "small" ? 13 : look === "code" ? 14 : 16;
  const widths = [...text].map((character) => {
    if (look === "code") return 602;
    const [, width = 556] = WIDTHS.find(([characters]) => characters.test(character)) ?? [];
    return width * (bold ? 1.06 : 1);
  });
  return (widths.reduce((sum, width) => sum + width, 0) * size) / 1_000;
}

/** Breaks a line at spaces into rows that fit; each row's runs have their place. */
function rowsOf(line: string, width: number): (Run & { x: number; width: number })[][] {
  const rows: (Run & { x: number; width: number })[][] = [[]];
  let x = 0;
  const words = runsOf(line).flatMap((run) =>
    run.look === "code" ? [run] : run.text.split(/(?<= )/).map((text) => ({ ...run, text })),
  );
  for (const word of words) {
    const padding = word.look === "code" ? 6 : 0;
    const wide = widthOf({ ...word, text: word.text.trimEnd() }) + padding;
    if (x > 0 && x + wide > width) {
      rows.push([]);
      x = 0;
    }
    const full = widthOf(word) + padding;
    rows.at(-1)?.push({ ...word, x, width: full });
    x += full;
  }
  return rows;
}

// ── The drawing ─────────────────────────────────────────────────────────────────────────────────

const [WIDTH, LEFT, ROW, TOP] = [800, 72, 22, 16];

const escape = (text: string) =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const textAt = (x: number, y: number, style: string, text: string, length = 0) =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${style}"` +
  (length > 0 ? ` textLength="${length.toFixed(1)}" lengthAdjust="spacingAndGlyphs"` : "") +
  `>${escape(text)}</text>`;

/** A message with its avatar, name and files, from `top` on; returns where it ends. */
function drawMessage(message: DiscordMessage, at: string, top: number): [string[], number] {
  const name = { text: message.username, bold: true, look: "plain" } as const;
  const named = LEFT + widthOf(name);
  const drawn = [
    `<circle cx="36" cy="${top + 20}" r="20" class="avatar"/>`,
    `<circle cx="36" cy="${top + 20}" r="9" class="sign"/>`,
    `<path d="M30 ${top + 14}l12 12" class="sign"/>`,
    textAt(LEFT, top + 13, "name", message.username, widthOf(name)),
    `<rect x="${(named + 8).toFixed(1)}" y="${top}" width="32" height="16" rx="4" class="badge"/>`,
    textAt(named + 13, top + 12, "app", "APP", 22),
    textAt(named + 48, top + 13, "time", at),
  ];
  let y = top + ROW + 13;
  for (const line of message.content.split("\n")) {
    for (const row of rowsOf(line, WIDTH - LEFT - 24)) {
      for (const { x, width, text, look, bold } of row) {
        const [left, words] = [LEFT + x, text.trimEnd()];
        if (words === "") continue;
        const fitted = look === "code" ? width - 6 : widthOf({ text: words, look, bold });
        const box = `x="${left.toFixed(1)}" y="${y - 15}" width="${width.toFixed(1)}" height="20"`;
        if (look === "code") drawn.push(`<rect ${box} rx="4" class="box"/>`);
        const start = look === "code" ? left + 3 : left;
        drawn.push(textAt(start, y, bold ? `${look} bold` : look, words, fitted));
      }
      y += ROW;
    }
  }
  for (const { name: file, byteCount } of message.files) {
    const size = `${(byteCount / 1_000).toFixed(0)} KB`;
    drawn.push(
      `<rect x="${LEFT}" y="${y - 12}" width="330" height="54" rx="8" class="file"/>`,
      `<path d="M86 ${y - 2}h14l8 8v24h-22z" class="page"/>`,
      textAt(120, y + 12, "link", file),
      textAt(120, y + 30, "small", size),
    );
    y += 62;
  }
  return [drawn, y + 4];
}

const STYLE = `
text { font-family: "gg sans", "Noto Sans", "Helvetica Neue", Helvetica, Arial, sans-serif; font-size: 16px; fill: #dbdee1 }
.ground { fill: #313338 } .avatar { fill: #da373c } .sign { fill: none; stroke: #fff; stroke-width: 3 }
.badge { fill: #5865f2 } .app { font-size: 11px; font-weight: 600; fill: #fff }
.name { font-weight: 600; fill: #f2f3f5 } .bold { font-weight: 700 } .link { fill: #00a8fc }
.time { font-size: 12px; fill: #949ba4 } .small { font-size: 13px; fill: #949ba4 }
.code { font-family: Consolas, Menlo, "Liberation Mono", "DejaVu Sans Mono", monospace; font-size: 14px }
.box { fill: #1e1f22 } .file { fill: #2b2d31; stroke: #3f4147 } .page { fill: #5865f2 }`;

/** The whole picture. */
export async function draw(): Promise<string> {
  const drawn: string[] = [];
  let top = TOP;
  for (const happening of HAPPENINGS) {
    const { messages, at } = await posted(happening);
    for (const message of messages) {
      const [parts, end] = drawMessage(message, `Today at ${at}`, top);
      drawn.push(...parts);
      top = end;
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${top}" viewBox="0 0 ${WIDTH} ${top}" role="img">`,
    `<title>A ban, a restart, a ban that was not enforced and an attack, as Discord shows them</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect width="${WIDTH}" height="${top}" rx="8" class="ground"/>`,
    ...drawn,
    "</svg>\n",
  ].join("\n");
}

if (import.meta.main) fs.writeFileSync(picture, await draw());
