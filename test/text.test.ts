/** What becomes of the log's text: no secret, nothing invisible, no open fence, nothing lost in cutting. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { cleanText, cutText } from "../f2b-watch.ts";
import { fixture } from "./events.ts";
import { Scene } from "./harness.ts";
import { dice } from "./histories.ts";

setDefaultTimeout(180_000);

const bytes = (text: string) => new TextEncoder().encode(text);
const fenced = (body: string) => `\`\`\`\n${body}\n\`\`\``;

/** A text of `count` parts, each chosen from `parts`. */
function chosen(number: () => number, parts: readonly string[], count: number): string {
  const pick = () => parts[Math.floor(number() * parts.length)] ?? "";
  return Array.from({ length: count }, pick).join("");
}

describe("secrets", () => {
  const rows = fixture("secrets/shapes.txt").flatMap((row) => {
    const [line = "", stays = ""] = row.trim().split("  -> ");
    return row.startsWith("  ") ? [{ line, stays: stays.split(" | ") }] : [];
  });

  test.each(rows)("are taken out of $line", ({ line, stays }) => {
    const result = cleanText(line, []);
    expect(result).not.toContain("S3CR3T");
    expect(result).toContain("[redacted]");
    for (const part of stays) expect(result).toContain(part);
    for (const before of ["one\n", "äone\n"]) {
      const around = cleanText(`${before}two ${line}\nthree\n`, []);
      expect(around).toBe(`${before}${cleanText(`two ${line}`, [])}\nthree\n`);
    }
  });

  test("several in one line are all taken out", () => {
    expect(cleanText(rows.map(({ line }) => line).join(" "), [])).not.toContain("S3CR3T");
  });

  test("our own are taken out wherever they stand, as often as they do, and nothing is left of them", () => {
    const own = ["tok.en+(1)$&", "another-secret"];
    const line = "a tok.en+(1)$& b <tok.en+(1)$&> xanother-secretx";
    const cleaned = "tokXen+(1)$&\na [redacted] b <[redacted]> x[redacted]x\n";
    expect(cleanText(`tokXen+(1)$&\n${line}\n`, own)).toBe(cleaned);
    const alike = ["abcdefgh", "abcdefgh-12345"];
    for (const both of [alike, alike.toReversed()])
      expect(cleanText("x abcdefgh-12345 y", both)).toBe("x [redacted] y");
  });
});

describe("what cannot be seen, and what could act", () => {
  const INVISIBLE =
    "01-08 0b-1f 7f-9f ad 34f 61c 115f-1160 180e 200b-200f 2028-202e 2060-206f 3164 fe00-fe0f " +
    "feff ffa0 fff9-fffb 1d173-1d17a e0001 e0020-e007f e0100-e01ef";

  test("is shown as its escape: controls, bidi, zero-width and the rest of the invisible", () => {
    for (const range of INVISIBLE.split(" ")) {
      const [from = 0, to = from] = range.split("-").map((code) => Number.parseInt(code, 16));
      for (let code = from; code <= to; code++) {
        const shown = cleanText(`a${String.fromCodePoint(code)}b`, []);
        expect(shown).toMatch(/^a\\(x[0-9a-f]{2}|u[0-9a-f]{4}|u\{[0-9a-f]{5}\})b$/);
        expect(Number.parseInt(shown.replace(/^a\\[xu]\{?|\}?b$/g, ""), 16)).toBe(code);
      }
    }
  });

  test("every character that can be seen stays", () => {
    for (const character of [..."\t\n ~éß日😀ﷺ\u0301\ufffd`\\"])
      expect(cleanText(`a${character}b`, [])).toBe(`a${character}b`);
    const ascii = String.fromCharCode(...Array.from({ length: 0x5f }, (_, code) => 0x20 + code));
    expect(cleanText(ascii, [])).toBe(ascii);
  });

  test("backticks are parted, so that no run of them is left", () => {
    for (let count = 1; count <= 12; count++) {
      const parted = cleanText(`a${"`".repeat(count)}b`, []);
      expect(parted).not.toContain("``");
      expect(parted.replaceAll("\u200b", "")).toBe(`a${"`".repeat(count)}b`);
    }
    expect(cleanText("a `b` c", [])).toBe("a `b` c");
  });

  test("no text can close its fence, whatever it holds and wherever it is cut", () => {
    const numbers = dice(1);
    const parts = "`|``|```|```\n|\n```|\u200b|\x1b[0m|a|\n|\\|~~~|😀".split("|");
    for (let round = 0; round < 300; round++) {
      const text = cleanText(`${chosen(numbers, parts, 40)}\n`, []);
      for (let at = 0; at < text.length;) {
        const cut = cutText(text, at, 25);
        expect(fenced(cut.body).match(/```/g)).toHaveLength(2);
        at += cut.taken;
      }
    }
  });

  test("long text is made harmless piece by piece, and no character is parted", () => {
    for (const before of [65_535, 65_536, 131_071]) {
      const text = `${"x".repeat(before)}\u{e0041}\x1b\`\`&amp;`;
      expect(cleanText(text, [])).toBe(`${"x".repeat(before)}\\u{e0041}\\x1b\`\u200b\`&amp;`);
    }
  });
});

describe("cleanText()", () => {
  const PARTS = [
    ...["a", " ", "\n", "\n", "\r\n", "\r", "\0", "\t", "`", "``", "😀", "é", "\u202e", "\u2028"],
    ...'key: v|-u a:b|--user=a:b|/bot1:x|webhooks/1/x|hooks.slack.com/x|password="x'.split("|"),
    ..."xoxb-1|token=x|my_secret='x y'|a:b@c|@|:|=|-|\\|'|\"|X-Api-Key: x|own-secret".split("|"),
    ..."Authorization: x|2026-11-22 10:32:01,123 |[sshd] Ban 203.0.113.7|2001:db8::7".split("|"),
  ];

  test("does to a text, or to its bytes, what it does to each of its lines", () => {
    const numbers = dice(2);
    for (let round = 0; round < 3_000; round++) {
      // A command goes on behind a backslash at a line's end.
      const text = chosen(numbers, PARTS, 30).replace(/\\+(?=[\r\0]*(?:\n|$))/g, "");
      const cleaned = cleanText(text, ["own-secret"]);
      const alone = (line: string) => cleanText(`${line}\n`, ["own-secret"]).slice(0, -1);
      expect(cleaned).toBe(text.split("\n").map(alone).join("\n"));
      expect(cleanText(bytes(text), ["own-secret"])).toBe(cleaned);
    }
  });

  // prettier-ignore
  const CLEANED: [string, string, string][] = [
    ["keeps the number and the order of lines", "one\n\n\r\ntoken=x\n   \nend",
      "one\n\n\ntoken=[redacted]\n   \nend"],
    ["keeps nothing", "", ""],
    ["keeps a line end", "\n", "\n"],
    ["drops NULs and the CR of a line end, shows a CR elsewhere", "\0\0a\0b\r\nc\rd\r\r\n", "ab\nc\\x0dd\n"],
    ["finds a secret behind a blank of several bytes", "curl\u3000-u bob:S3CR3T it\n",
      "curl\u3000-u [redacted] it\n"],
  ];
  test.each(CLEANED)("%s", (_, text, cleaned) => {
    expect(cleanText(text, [])).toBe(cleaned);
  });

  test("shows U+FFFD for what is not UTF-8", () => {
    const invalid = [0x61, 0xff, 0x62, 0xc3, 0x0a, 0xe2, 0x82, 0x0a, 0xc3, 0xa4, 0x0a];
    expect(cleanText(new Uint8Array(invalid), [])).toBe("a\ufffdb\ufffd\n\ufffd\nä\n");
    expect(cleanText(new Uint8Array([0xed, 0xa0, 0x80, 0x0a]), []).isWellFormed()).toBe(true);
  });

  test("reads no more than the view it is given", () => {
    expect(cleanText(bytes("before|äfter|behind").subarray(7, 13), [])).toBe("äfter");
    expect(cleanText(bytes("before|after|behind").subarray(7, 12), [])).toBe("after");
  });
});

describe("cutText()", () => {
  /** All messages of a text, and the text as its reader would put it together again. */
  function cutAll(text: string, room: number, maxLines?: number) {
    const cuts: (ReturnType<typeof cutText> & { next: number })[] = [];
    for (let at = 0; at < text.length; at = cuts.at(-1)?.next ?? Infinity) {
      const cut = cutText(text, at, room, maxLines);
      expect(cut.taken).toBeGreaterThan(0);
      cuts.push({ ...cut, next: at + cut.taken });
    }
    const joined = cuts.map(({ body, partOfLine }, index) => {
      const continues = cuts[index - 1]?.partOfLine ?? false;
      if (continues) expect(body).toStartWith("…");
      if (partOfLine) expect(body).toEndWith("…");
      return body.slice(continues ? 1 : 0, partOfLine ? -1 : undefined) + (partOfLine ? "" : "\n");
    });
    return { cuts, bodies: cuts.map(({ body }) => body), joined: joined.join("") };
  }

  const long = "a".repeat(1_991);
  const rows: [text: string, room: number, bodies: string[], maxLines?: number][] = [
    // Whole lines, as many as fit, and a line of exactly the room.
    ["aaa\nbbb\nccc\n", 7, ["aaa\nbbb", "ccc"]],
    ["aaa\nbbb\nccc\n", 6, ["aaa", "bbb", "ccc"]],
    ["aaa\nbbb\nccc\n", 11, ["aaa\nbbb\nccc"]],
    ["aaa\nbbb\nccc\n", 10, ["aaa\nbbb", "ccc"]],
    [`${long}\nb\n`, 1_991, [long, "b"]],
    // A longer line in pieces, and what follows behind it.
    [`${long}a\nb\n`, 1_991, [`${long.slice(1)}…`, "…aa\nb"]],
    [`${"a".repeat(25)}\nb\nc\n`, 10, ["aaaaaaaaa…", "…aaaaaaaa…", "…aaaaaaaa", "b\nc"]],
    // Empty lines, at both ends too.
    ["\n", 10, [""]],
    ["\n\n\n", 10, ["\n\n"]],
    ["\naaaa\n\nbbbb\n\n", 6, ["\naaaa\n", "bbbb\n"]],
    ["\n\n\n\n\n", 2, ["\n\n", "\n"]],
    // No more lines than it may.
    ["a\nb\nc\nd\ne\n", 100, ["a\nb", "c\nd", "e"], 2],
    ["a\n\nc\n", 100, ["a", "", "c"], 1],
    [`${"a".repeat(15)}\nb\n`, 10, ["aaaaaaaaa…", "…aaaaaa", "b"], 1],
  ];

  test("takes whole lines, cuts longer ones, and says so", () => {
    for (const [text, room, bodies, maxLines] of rows) {
      const { cuts, bodies: found } = cutAll(text, room, maxLines);
      expect(found).toEqual(bodies);
      for (const { body, partOfLine } of cuts) expect(partOfLine).toBe(body.endsWith("…"));
    }
  });

  test("drops nothing, repeats nothing, and leaves no room that a line would have fitted into", () => {
    const numbers = dice(3);
    const parts = [..."a|bc|😀|`|…| |\n|\n|\n\n".split("|"), "x".repeat(9), "y".repeat(30)];
    for (let round = 0; round < 1_000; round++) {
      const text = `${chosen(numbers, parts, 40)}\n`;
      const room = 10 + Math.floor(numbers() * 40);
      const { cuts, joined } = cutAll(text, room);
      expect(joined).toBe(text);
      for (const { body, next, partOfLine } of cuts) {
        expect(body.length).toBeLessThanOrEqual(room);
        expect(body.isWellFormed()).toBe(true);
        if (partOfLine || next >= text.length) continue;
        const [following = ""] = text.slice(next).split("\n");
        expect(body.length + 1 + following.length).toBeGreaterThan(room);
      }
    }
  });
});

test("Discord gets a name that it takes: no word of its own, nothing invisible, at most 80", async () => {
  using scene = new Scene();
  const words = ["discord", "DisCord", "clyde", "ClyDe", "xdiscordclydex"];
  const hosts = [
    ...["web-1.example.com", "a".repeat(200), "😀".repeat(100), `a${"😀".repeat(100)}`],
    ...["a   ", "-"],
    ...[`${"a".repeat(68)} b`, "a\u202e\x07```b", "discdiscordord"],
    ...words.flatMap((word) => [word, word + word, "a".repeat(60) + word]),
  ];
  scene.append("a line");
  for (const host of hosts) {
    const { out } = await scene.run("--dry-run", `--host=${host}`);
    const [name = ""] = out.split("\n");
    expect(name).toStartWith("Fail2Ban · ");
    expect(name).not.toMatch(/discord|clyde|[\u202e\x07]|```|\s$/i);
    expect(name.length).toBeLessThanOrEqual(80);
    expect(name.length).toBeGreaterThan(Math.min(11 + host.trim().length, 78) - 1);
    expect(name.isWellFormed()).toBe(true);
  }
});

describe("time grows no faster than the text", () => {
  /** What the fastest of some runs took of the processor: others that use it too change it least. */
  function fastest(count: number, text: string): number {
    const times = Array.from({ length: count }, () => {
      const begun = process.cpuUsage();
      const lines = cleanText(text, ["own-secret"]).split("\n").length;
      const { user, system } = process.cpuUsage(begun);
      expect(lines).toBe(text.split("\n").length);
      return (user + system) / 1_000;
    });
    return Math.min(...times);
  }

  // A blank in a part is written as _.
  const hostile = [
    "a: a:, a:= a:( a:; a:< : , a@ a:b@ @a: a- _ key key: key=' key=\" -key key\\ key_\t token- -token",
    "secret pass= password\\\" 'p= -u_ -u_\" -u_'a -u_a -ua --user= --user_a: xox xoxb- eyJ- -echo_",
    "webhooks/ webhooks/1 webhooks/1/ hooks. hooks.slack.com/ /bot1 /bot1: authorization",
    "authorization: authorization\\ authorization_\" 'authorization: \\ \" ' ` `` \u202e é 😀 \0 \r \x1b",
    "\n @\n `\n token=\n \u202e\n a:b@c\n",
  ].flatMap((row) => row.split(" ").map((part) => part.replaceAll("_", " ")));

  for (const part of hostile) {
    const hugeSize = part.endsWith("\n") ? 500_000 : 5_000_000;
    test(`cleanText() of ${hugeSize / 1e6} MB of ${JSON.stringify(part)}`, () => {
      const text = (size: number) => `x@ token= ${part.repeat(size / part.length)}\n`;
      const largeMs = Math.max(fastest(5, text(32_000)), 1);
      // What the engine does beside it is not the text's: quadratic time is off by far more than this.
      expect(fastest(2, text(hugeSize))).toBeLessThan((hugeSize / 32_000) * 4 * largeMs + 500);
    }, 60_000);
  }

  test("nor do 200 random texts take longer than they may", () => {
    const numbers = dice(7);
    const more = "x-key: |mysql |echo |<<< |http://|/hooks/|=|$(|<|&|éß".split("|");
    for (let round = 0; round < 200; round++) {
      const unit = chosen(numbers, [...hostile, ...more], 1 + (round % 6));
      const takenMs = fastest(1, `${unit.repeat(Math.ceil(100_000 / unit.length))}\n`);
      expect(takenMs, JSON.stringify(unit)).toBeLessThan(3_000);
    }
  });
});
