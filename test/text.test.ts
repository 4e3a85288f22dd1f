/** What becomes of the log's text: no secret, nothing invisible, no open fence, nothing lost in cutting. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import {
  cleanBytes,
  cleanText,
  cutText,
  discordName,
  fence,
  neutralise,
  redact,
  type Cut,
} from "../f2b-watch.ts";

setDefaultTimeout(180_000);

const FIXTURES = join(import.meta.dirname, "fixtures");
const bytes = (text: string) => new TextEncoder().encode(text);

/** Every real log among the fixtures, by name, but those of the debug levels, which hold regexes. */
function realLogs(): [string, string][] {
  return ["", "formats"].flatMap((folder) => {
    const all = fs.readdirSync(join(FIXTURES, folder));
    const names = all.filter((name) => name.endsWith(".log") && !/debug|verbose/.test(name));
    return names.map((name): [string, string] => {
      return [name, fs.readFileSync(join(FIXTURES, folder, name), "utf8")];
    });
  });
}

/** Numbers that look random and are the same in each run. */
function* random(seed: number): Generator<number, never> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state / 2 ** 32;
  }
}

/** A text of `count` parts, each chosen from `parts`. */
function chosen(
  numbers: Generator<number, never>,
  parts: readonly string[],
  count: number,
): string {
  const pick = () => parts[Math.floor(numbers.next().value * parts.length)] ?? "";
  return Array.from({ length: count }, pick).join("");
}

describe("secrets", () => {
  /** A line with `S3CR3T` in the secret's place, and what must stay readable of it. */
  const SHAPES: Record<string, [line: string, ...stays: string[]][]> = {
    "Discord webhook": [
      [
        'curl -X POST "https://discord.com/api/webhooks/123456789012345678/S3CR3T" -d x',
        "curl",
        "discord.com",
        "-d x",
      ],
      ["https://discord.com/api/v10/webhooks/123456789012345678/S3CR3T?wait=true", "discord.com"],
      ["https://discordapp.com/api/webhooks/1/S3CR3T/slack and more", "and more"],
      ["<https://ptb.discord.com/api/webhooks/1/a-b_S3CR3T-c> and more", "and more"],
      [String.raw`{"url":"https:\/\/discord.com\/api\/webhooks\/123\/S3CR3T","x":1}`, '"x":1'],
      ["HTTPS://DISCORD.COM/API/WEBHOOKS/1/S3CR3T"],
      ["POST /api/webhooks/123456789012345678/S3CR3T HTTP/1.1", "POST", "HTTP/1.1"],
    ],
    "Slack webhook or token": [
      [
        "curl 'https://hooks.slack.com/services/T0/B0/S3CR3T' -d x",
        "curl",
        "hooks.slack.com",
        "-d x",
      ],
      ["https://hooks.slack.com/workflows/T0/A0/1/S3CR3T", "hooks.slack.com"],
      ["https://hooks.slack.com/triggers/T0/1/S3CR3T", "hooks.slack.com"],
      ["https://hooks.slack-gov.com/services/T0/B0/S3CR3T", "hooks.slack-gov.com"],
      [String.raw`"https:\/\/hooks.slack.com\/services\/T0\/B0\/S3CR3T"`],
      ["using xoxb-123-456-S3CR3T for it", "using", "for it"],
      ["XOXP-1-S3CR3T"],
    ],
    "Telegram bot": [
      [
        "https://api.telegram.org/bot123456789:AA-S3CR3T_x/sendMessage?chat_id=5",
        "api.telegram.org",
        "/sendMessage?chat_id=5",
      ],
      ["curl -s https://api.telegram.org/bot1:S3CR3T/getMe -d text=hi", "curl", "text=hi"],
      ["https://api.telegram.org/file/bot1:S3CR3T/x.jpg", "x.jpg"],
    ],
    Authorization: [
      [
        'curl -H "Authorization: Bearer S3CR3T.S3CR3T-S3CR3T" https://x.example/',
        "curl",
        "https://x.example/",
      ],
      ["curl -H 'Authorization: Basic S3CR3T==' https://x.example/", "https://x.example/"],
      ["curl -H 'authorization:S3CR3T' https://x.example/", "https://x.example/"],
      ["Proxy-Authorization: Basic S3CR3T"],
      ["Authorization: Bot S3CR3T"],
      ['{"Authorization": "Bearer S3CR3T", "x": 1}', '"x": 1'],
      ["{'Authorization': 'Bearer S3CR3T', 'x': 1}", "'x': 1"],
      [String.raw`-d "{\"Authorization\": \"Bearer S3CR3T\", \"x\": 1}"`],
      [String.raw`curl -H Authorization:\ Bearer\ S3CR3T https://x.example/`, "curl"],
      [`curl -H 'Authorization: Token token="S3CR3T"' https://x.example/`, "curl"],
    ],
    "header Key, *-Key, *-Token": [
      [
        'curl --header "Key: S3CR3T" https://api.abuseipdb.com/api/v2/report',
        "Key:",
        "abuseipdb.com/api/v2/report",
      ],
      ["curl -H 'X-Api-Key:S3CR3T' https://x.example/", "X-Api-Key", "https://x.example/"],
      ['-H "X-Auth-Email: me@example.com" -H "X-Auth-Key: S3CR3T" -d x', "me@example.com", "-d x"],
      ['-H "PRIVATE-TOKEN: glpat-S3CR3T" -d x', "-d x"],
      ["X-Auth-Token: S3CR3T"],
      ["x-gotify-key:  S3CR3T"],
      ['{"X-Api-Key": "S3CR3T and S3CR3T", "x": 1}', '"x": 1'],
      ["{'Key': 'S3CR3T', 'x': 1}", "'x': 1"],
      [`curl -H 'Key: S3C"S3CR3T' https://x.example/`, "https://x.example/"],
      [String.raw`"{\"X-Api-Key\": \"S3CR3T\", \"x\": 1}"`],
    ],
    "*key=, *token=, *secret=, *password=": [
      ["https://x.example/?key=S3CR3T&x=1", "https://x.example/?key=", "&x=1"],
      ["curl -F 'token=S3CR3T S3CR3T' -d x", "curl", "'token=", "-d x"],
      ['curl --data-urlencode "my.password=two S3CR3T" -d x', "curl", "-d x"],
      ["https://x.example/?x=1&api_key=S3CR3T", "?x=1&api_key="],
      ["run --api-key=S3CR3T --verbose", "run --api-key=", "--verbose"],
      ["ACCESS_TOKEN=S3CR3T run", "ACCESS_TOKEN=", "run"],
      ["bot_token='S3CR3T and S3CR3T' run", "run"],
      ['client_secret="S3CR3T and S3CR3T" run', "run"],
      [String.raw`sh -c "client_secret=\"S3CR3T and S3CR3T\" run"`, "run"],
      ["--smtp-password=S3CR3T --port 25", "--port 25"],
      ["Password=S3CR3T"],
      ["--password=S3CR3T,S3CR3T --port 25", "--port 25"],
      ["--password=S3CR3T;", "--password="],
      ["a token=S3CR3T, a key=S3CR3T, a secret=S3CR3T"],
      ["db://x?user=bob&password=S3CR3T#top", "user=bob"],
    ],
    "-u user:pass": [
      ["curl -u bob:S3CR3T https://x.example/", "curl", "https://x.example/"],
      ["curl -ubob:S3CR3T https://x.example/", "https://x.example/"],
      ['curl -u "bob:S3CR3T" https://x.example/', "https://x.example/"],
      ["curl -u 'bob:S3CR3T and S3CR3T' https://x.example/", "https://x.example/"],
      ["curl --user bob:S3CR3T https://x.example/", "https://x.example/"],
      ["curl --user=bob:S3CR3T https://x.example/", "https://x.example/"],
      ["curl --proxy-user 'bob:S3CR3T' https://x.example/", "https://x.example/"],
      ["curl -u bob:S3CR3T:S3CR3T/S3CR3T@S3CR3T https://x.example/", "https://x.example/"],
    ],
    "user:pass@": [
      ["https://bob:S3CR3T@x.example/path", "https://", "@x.example/path"],
      ["postgres://fail2ban:S3CR3T@db:5432/x and more", "postgres://", "@db:5432/x and more"],
      ["smtp bob:S3CR3T@mail.example", "smtp", "@mail.example"],
      ["url='ftp://bob:S3CR3T@x.example'", "@x.example'"],
      ["proxy=http://bob:S3CR3T@x.example:3128", "proxy=", "@x.example:3128"],
    ],
  };

  for (const [name, cases] of Object.entries(SHAPES)) {
    test(`redact() takes out: ${name}`, () => {
      for (const [line, ...stays] of cases) {
        const result = redact(line, []);
        expect(result, line).not.toContain("S3CR3T");
        expect(result, line).toContain("[redacted]");
        for (const part of stays) expect(result, line).toContain(part);
      }
    });
  }

  test("cleanText() looks closely at every line that redact() would change", () => {
    for (const [line] of Object.values(SHAPES).flat()) {
      const text = `one\ntwo ${line}\nthree\n`;
      const expected = `one\n${neutralise(redact(`two ${line}`, []))}\nthree\n`;
      expect(cleanText(text, [])).toBe(expected);
      expect(cleanText(`ä${text}`, [])).toBe(`ä${expected}`);
    }
  });

  test("several secrets in one line are all taken out", () => {
    const line = Object.values(SHAPES)
      .flat()
      .map(([each]) => each)
      .join(" ");
    expect(redact(line, [])).not.toContain("S3CR3T");
  });

  test("our own secrets are taken out wherever they stand, as often as they do", () => {
    const own = ["tok.en+(1)$&", "another-secret"];
    const line = "a tok.en+(1)$& b <tok.en+(1)$&> xanother-secretx";
    expect(redact(line, own)).toBe("a [redacted] b <[redacted]> x[redacted]x");
    expect(cleanText(`tokXen+(1)$&\n${line}\n`, own)).toBe(
      "tokXen+(1)$&\na [redacted] b <[redacted]> x[redacted]x\n",
    );
  });

  test("nothing is left of an own secret that begins like another", () => {
    for (const own of [
      ["abcdefgh", "abcdefgh-12345"],
      ["abcdefgh-12345", "abcdefgh"],
    ]) {
      expect(redact("x abcdefgh-12345 y", own)).toBe("x [redacted] y");
    }
  });

  test("a real log of failing actions loses its webhook and nothing else", () => {
    const text = fs.readFileSync(join(FIXTURES, "failing-action.log"), "utf8");
    expect(text).toContain("FAKE-not-a-real-token");
    const cleaned = cleanText(text, []);
    expect(cleaned).not.toContain("FAKE");
    expect(cleaned).toContain(
      'http://127.0.0.1:9/api/webhooks/[redacted]" -H "Content-Type: application/json"',
    );
    expect(cleaned).toContain('-d \'{"username": "Fail2Ban", "content":"**[webhook]** banned IP: ');
    const [before, after] = [text.split("\n"), cleaned.split("\n")];
    expect(after).toHaveLength(before.length);
    for (const [index, line] of before.entries()) {
      if (!line.includes("FAKE")) expect(after[index]).toBe(neutralise(line));
    }
  });

  test("the other real logs hold no secret, and stay as they are", () => {
    const logs = realLogs().filter(([name]) => name !== "failing-action.log");
    expect(logs.length).toBeGreaterThan(10);
    for (const [name, text] of logs) {
      const changed = text.split("\n").filter((line) => redact(line, []) !== line);
      expect([name, ...changed]).toEqual([name]);
    }
  });

  test("what is no secret stays readable", () => {
    const readable = [
      "2026-11-22 10:32:01,123 fail2ban.actions [1]: NOTICE  [sshd] Ban 203.0.113.7",
      "2026-11-22 10:32:01,123 fail2ban.actions [1]: NOTICE  [sshd] Ban 2001:db8::7",
      "Failed password for root from 203.0.113.7 port 22 ssh2",
      "Accepted publickey for git from 2001:db8::1 port 22",
      "mail from bob@example.com to <root@example.com>, ok",
      "to=<bob@example.com>, relay=mx[203.0.113.1]:25",
      "Creating new jail 'key', jail 'token', jail 'password'",
      "monkey: banana, keyboard: de, tokens 5, secrets kept, passwords: 2",
      "https://example.com/webhooks and http://127.0.0.1:9/robots.txt?x=1&y=2",
      "https://db-ip.com/203.0.113.7",
      "unban by: fail2ban-client -u 5 set sshd unbanip 2001:db8::7",
      "Added logfile: '/var/log/auth.log' (pos = 0, hash = )",
      "cron: (root) CMD (test -x /usr/sbin/anacron || run-parts)",
      "time 10:32:01 @everyone a:b c@d",
    ];
    for (const line of readable) expect(redact(line, [])).toBe(line);
  });
});

describe("what cannot be seen, and what could act", () => {
  const ranges: [number, number][] = [
    [0x00, 0x08],
    [0x0b, 0x1f],
    [0x7f, 0x9f],
    [0xad, 0xad],
    [0x34f, 0x34f],
    [0x61c, 0x61c],
    [0x115f, 0x1160],
    [0x180e, 0x180e],
    [0x200b, 0x200f],
    [0x2028, 0x202e],
    [0x2060, 0x206f],
    [0x3164, 0x3164],
    [0xfe00, 0xfe0f],
    [0xfeff, 0xfeff],
    [0xffa0, 0xffa0],
    [0xfff9, 0xfffb],
    [0x1d173, 0x1d17a],
    [0xe0001, 0xe0001],
    [0xe0020, 0xe007f],
    [0xe0100, 0xe01ef],
  ];

  test("neutralise() shows controls, bidi, zero-width and the rest of the invisible as escapes", () => {
    for (const [from, to] of ranges) {
      for (let code = from; code <= to; code++) {
        const shown = neutralise(`a${String.fromCodePoint(code)}b`);
        expect(shown).toMatch(/^a\\(x[0-9a-f]{2}|u[0-9a-f]{4}|u\{[0-9a-f]{5}\})b$/);
        expect(Number.parseInt(shown.replace(/^a\\[xu]\{?|\}?b$/g, ""), 16)).toBe(code);
      }
    }
  });

  test("neutralise() leaves every character alone that can be seen", () => {
    const visible = [
      "\t",
      "\n",
      " ",
      "~",
      "é",
      "ß",
      "日",
      "😀",
      "ﷺ",
      "\u0301",
      "\ufffd",
      "`",
      "\\",
    ];
    for (const character of visible) expect(neutralise(`a${character}b`)).toBe(`a${character}b`);
    for (let code = 0x20; code < 0x7f; code++) {
      const character = String.fromCharCode(code);
      expect(neutralise(character)).toBe(character);
    }
  });

  test("neutralise() parts backticks, so that no run of them is left", () => {
    for (let count = 1; count <= 12; count++) {
      const parted = neutralise(`a${"`".repeat(count)}b`);
      expect(parted).not.toContain("``");
      expect(parted.replaceAll("\u200b", "")).toBe(`a${"`".repeat(count)}b`);
    }
    expect(neutralise("a `b` c")).toBe("a `b` c");
  });

  test("fence() puts a text between three backticks, each on a line of its own", () => {
    expect(fence("one\ntwo")).toBe("```\none\ntwo\n```");
    expect(fence("")).toBe("```\n\n```");
  });

  test("no text can close its fence, whatever it holds and wherever it is cut", () => {
    const numbers = random(1);
    const parts = [
      "`",
      "``",
      "```",
      "```\n",
      "\n```",
      "\u200b",
      "\x1b[0m",
      "a",
      "\n",
      "\\",
      "~~~",
      "😀",
    ];
    for (let round = 0; round < 300; round++) {
      const text = cleanText(`${chosen(numbers, parts, 40)}\n`, []);
      for (let at = 0; at < text.length;) {
        const cut = cutText(text, at, 25);
        expect(fence(cut.body).match(/```/g)).toHaveLength(2);
        at += cut.taken;
      }
    }
  });

  test("a mention, an escape sequence, a right-to-left override: shown, not done", () => {
    const text = "\x1b[31mred\x1b[0m \u202egnp.exe @everyone <@&1>\x07\x9b1m\n";
    expect(cleanText(text, [])).toBe(
      "\\x1b[31mred\\x1b[0m \\u202egnp.exe @everyone <@&1>\\x07\\x9b1m\n",
    );
  });
});

describe("cleanText() and cleanBytes()", () => {
  const PARTS = [
    ...["a", " ", "\n", "\n", "\r\n", "\r", "\0", "\t", "`", "``", "😀", "é", "\u202e", "\u2028"],
    ..."key: v|-u a:b|--user=a:b|xoxb-1|/bot1:x|webhooks/1/x|hooks.slack.com/x".split("|"),
    ..."token=x|my_secret='x y'|password=\"x|a:b@c|@|:|=|-|\\|'|\"|Authorization: x".split("|"),
    ..."X-Api-Key: x|own-secret|2026-11-22 10:32:01,123 |[sshd] Ban 203.0.113.7|2001:db8::7".split(
      "|",
    ),
  ];
  const own = ["own-secret"];
  const cleanLine = (line: string) =>
    neutralise(redact(line.replaceAll("\0", "").replace(/\r+$/, ""), own));

  test("do to a text what the rules do to each of its lines: the cheap tests miss none", () => {
    const numbers = random(2);
    for (let round = 0; round < 3_000; round++) {
      const text = chosen(numbers, PARTS, 30);
      const expected = text.split("\n").map(cleanLine).join("\n");
      expect(cleanText(text, own)).toBe(expected);
      expect(cleanBytes(bytes(text), own)).toBe(expected);
    }
  });

  test("keep the number and the order of lines", () => {
    const text = "one\n\n\r\ntoken=x\n   \n```\nend";
    expect(cleanText(text, []).split("\n")).toEqual([
      ..."one|||token=[redacted]|   ".split("|"),
      "`\u200b`\u200b`",
      "end",
    ]);
    expect(cleanText("", [])).toBe("");
    expect(cleanText("\n", [])).toBe("\n");
  });

  test("drop NULs and the CR of a line end, show a CR elsewhere", () => {
    expect(cleanText("\0\0a\0b\r\nc\rd\r\r\n", [])).toBe("ab\nc\\x0dd\n");
  });

  test("show U+FFFD for what is not UTF-8", () => {
    const invalid = [0x61, 0xff, 0x62, 0xc3, 0x0a, 0xe2, 0x82, 0x0a, 0xc3, 0xa4, 0x0a];
    expect(cleanBytes(new Uint8Array(invalid), [])).toBe("a\ufffdb\ufffd\n\ufffd\nä\n");
    expect(cleanBytes(new Uint8Array([0xed, 0xa0, 0x80, 0x0a]), []).isWellFormed()).toBe(true);
  });

  test("read no more than the view they are given", () => {
    const whole = bytes("before|äfter|behind");
    expect(cleanBytes(whole.subarray(7, 13), [])).toBe("äfter");
    expect(cleanBytes(bytes("before|after|behind").subarray(7, 12), [])).toBe("after");
  });

  test("change nothing in a real log but its runs of backticks and its webhooks", () => {
    for (const [name, text] of realLogs()) {
      const cleaned = cleanBytes(bytes(text), []).replaceAll("\u200b", "");
      const kept = text.split("\n").filter((line) => !/webhooks\/|[\x00-\x1f]/.test(line));
      const lines = new Set(cleaned.split("\n"));
      expect([name, ...kept.filter((line) => !lines.has(line))]).toEqual([name]);
    }
  });
});

test("cleanText() finds a secret behind a blank of several bytes", () => {
  expect(cleanText("curl\u3000-u bob:S3CR3T there\n", [])).not.toContain("S3CR3T");
});

describe("cutText()", () => {
  /** All messages of a text, and the text as its reader would put it together again. */
  function cutAll(text: string, room: number, maxLines?: number) {
    const cuts: (Cut & { next: number })[] = [];
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

  test("takes as many whole lines as fit", () => {
    expect(cutAll("aaa\nbbb\nccc\n", 7).bodies).toEqual(["aaa\nbbb", "ccc"]);
    expect(cutAll("aaa\nbbb\nccc\n", 6).bodies).toEqual(["aaa", "bbb", "ccc"]);
    expect(cutAll("aaa\nbbb\nccc\n", 11).bodies).toEqual(["aaa\nbbb\nccc"]);
    expect(cutAll("aaa\nbbb\nccc\n", 10).bodies).toEqual(["aaa\nbbb", "ccc"]);
  });

  test("takes a line of exactly the room whole, and cuts one that is a character longer", () => {
    const room = 1_991;
    expect(cutAll(`${"a".repeat(room)}\n`, room).bodies).toEqual(["a".repeat(room)]);
    expect(cutAll(`${"a".repeat(room)}\nb\n`, room).bodies).toEqual(["a".repeat(room), "b"]);
    const { bodies } = cutAll(`${"a".repeat(room + 1)}\nb\n`, room);
    expect(bodies).toEqual([`${"a".repeat(room - 1)}…`, "…aa\nb"]);
  });

  test("fills a fence to 1999 characters, never more", () => {
    for (let length = 1_980; length <= 2_010; length++) {
      for (const { length: size } of cutAll(`${"a".repeat(length)}\n`, 1_991).bodies.map((body) =>
        fence(body),
      )) {
        expect(size).toBeLessThanOrEqual(1_999);
      }
    }
    expect(fence(cutText(`${"a".repeat(5_000)}\n`, 0, 1_991).body)).toHaveLength(1_999);
    expect(fence(cutText(`${"a".repeat(1_991)}\n`, 0, 1_991).body)).toHaveLength(1_999);
  });

  test("keeps empty lines, at the beginning and the end of a message too", () => {
    expect(cutAll("\n", 10).bodies).toEqual([""]);
    expect(cutAll("\n\n\n", 10).bodies).toEqual(["\n\n"]);
    expect(cutAll("\naaaa\n\nbbbb\n\n", 6).bodies).toEqual(["\naaaa\n", "bbbb\n"]);
    expect(cutAll("\n\n\n\n\n", 2).bodies).toEqual(["\n\n", "\n"]);
  });

  test("never parts the two halves of a character", () => {
    for (let room = 10; room < 20; room++) {
      for (const text of ["😀".repeat(50), `a${"😀".repeat(50)}`, "a😀".repeat(30)]) {
        const { bodies, joined } = cutAll(`${text}\n`, room);
        expect(joined).toBe(`${text}\n`);
        for (const body of bodies) expect(body.isWellFormed()).toBe(true);
      }
    }
  });

  test("takes no more lines than it may", () => {
    expect(cutAll("a\nb\nc\nd\ne\n", 100, 2).bodies).toEqual(["a\nb", "c\nd", "e"]);
    expect(cutAll("a\n\nc\n", 100, 1).bodies).toEqual(["a", "", "c"]);
    expect(cutAll(`${"a".repeat(15)}\nb\n`, 10, 1).bodies).toEqual(["aaaaaaaaa…", "…aaaaaa", "b"]);
  });

  test("goes on inside a line with a mark, and packs what follows behind it", () => {
    const { cuts, bodies } = cutAll(`${"a".repeat(25)}\nb\nc\n`, 10);
    expect(bodies).toEqual(["aaaaaaaaa…", "…aaaaaaaa…", "…aaaaaaaa", "b\nc"]);
    expect(cuts.map(({ partOfLine }) => partOfLine)).toEqual([true, true, false, false]);
  });

  test("drops nothing, repeats nothing, and leaves no room that a line would have fitted into", () => {
    const numbers = random(3);
    const parts = [
      "a",
      "bc",
      "😀",
      "`",
      "…",
      " ",
      "\n",
      "\n",
      "\n\n",
      "x".repeat(9),
      "y".repeat(30),
    ];
    for (let round = 0; round < 1_000; round++) {
      const text = `${chosen(numbers, parts, 40)}\n`;
      const room = 10 + Math.floor(numbers.next().value * 40);
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

describe("discordName()", () => {
  test("is the program's name and the host's", () => {
    expect(discordName("web-1.example.com")).toBe("Fail2Ban · web-1.example.com");
  });

  test("is never longer than 80, nor cut inside a character", () => {
    for (const host of ["a".repeat(200), "😀".repeat(100), `a${"😀".repeat(100)}`]) {
      const name = discordName(host);
      expect(name.length).toBeLessThanOrEqual(80);
      expect(name.length).toBeGreaterThan(77);
      expect(name.isWellFormed()).toBe(true);
    }
    expect(discordName("a".repeat(69))).toHaveLength(80);
  });

  test("holds no word that Discord refuses, however it is written", () => {
    for (const word of ["discord", "DISCORD", "DisCord", "clyde", "ClyDe", "xdiscordclydex"]) {
      for (const host of [word, word + word, `disc${word}ord`, "a".repeat(60) + word]) {
        const name = discordName(host);
        expect(name).not.toMatch(/discord|clyde/i);
        expect(name).toStartWith("Fail2Ban · ");
      }
    }
    expect(discordName("discord")).toBe("Fail2Ban · dis-cord");
  });

  test("holds nothing invisible, no fence, and no blank at its end", () => {
    expect(discordName("a\u202e\x07```b")).not.toMatch(/[\u202e\x07]|```/);
    for (const host of ["", "   ", "a   ", `${"a".repeat(68)} b`]) {
      const name = discordName(host);
      expect(name).toBe(name.trim());
      expect(name).not.toBe("");
    }
  });
});

describe("time grows no faster than the text", () => {
  /** What the fastest of some runs took of the processor: others that use it too change it least. */
  function fastest(count: number, run: () => unknown): number {
    const times = Array.from({ length: count }, () => {
      const begun = process.cpuUsage();
      run();
      const { user, system } = process.cpuUsage(begun);
      return (user + system) / 1_000;
    });
    return Math.min(...times);
  }

  const hostile = [
    ["a:,", "a:=", "a:(", "a:;", "a:<", "a:", ":", ",", "a@", "a:b@", "@a:", "a-", " "],
    ["key", "key:", "key='", 'key="', "-key", "key\\", "key \t", "token-", "-token", "secret"],
    [
      "pass=",
      'password\\"',
      "-u ",
      '-u "',
      "-u 'a",
      "-u a",
      "-ua",
      "--user=",
      "--user a:",
      "xox",
      "xoxb-",
    ],
    ["webhooks/", "webhooks/1", "webhooks/1/", "hooks.", "hooks.slack.com/", "/bot1", "/bot1:"],
    ["authorization", "authorization:", "authorization\\", 'authorization "', "'authorization:"],
    ["\\", '"', "'", "`", "``", "\u202e", "é", "😀", "\0", "\r", "\x1b"],
  ].flat();
  const hostileLines = ["\n", "@\n", "`\n", "token=\n", "\u202e\n", "a:b@c\n"];

  for (const part of [...hostile, ...hostileLines]) {
    const hugeSize = part.endsWith("\n") ? 500_000 : 5_000_000;
    test(`cleanText() of ${hugeSize / 1e6} MB of ${JSON.stringify(part)}`, () => {
      const text = (size: number) => `x@ token= ${part.repeat(size / part.length)}\n`;
      const clean = (input: string) => cleanText(input, ["own-secret"]);
      const [small, large, huge] = [text(4_000), text(32_000), text(hugeSize)];
      clean(large);
      const [smallMs, largeMs] = [fastest(9, () => clean(small)), fastest(5, () => clean(large))];
      // What the engine does beside it is not the text's: quadratic time is off by far more than this.
      expect(largeMs).toBeLessThan(8 * 4 * smallMs + 50);
      const hugeMs = fastest(2, () => clean(huge));
      expect(hugeMs).toBeLessThan((hugeSize / 32_000) * 4 * largeMs + 500);
    }, 60_000);
  }
});

test("long text is made harmless piece by piece, and no character is parted", () => {
  for (const before of [65_535, 65_536, 131_071]) {
    const text = `${"x".repeat(before)}\u{e0041}\x1b\`\`&amp;`;
    expect(neutralise(text)).toBe(`${"x".repeat(before)}\\u{e0041}\\x1b\`\u200b\`&amp;`);
  }
});
