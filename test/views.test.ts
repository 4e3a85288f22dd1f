import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { KINDS, readRecord } from "../f2b-watch.ts";
import { contents, fixture, LOGS } from "./events.ts";
import { line, lines, Scene } from "./harness.ts";

setDefaultTimeout(180_000);

/** What real servers logged. */
const REAL_LINES = [...LOGS, "logrotate/fail2ban.log.1"].map(fixture);

const stamp = (text: string, level = "NOTICE") =>
  `2026-11-22 10:32:26,867 fail2ban.actions        [18191]: ${level.padEnd(7)} ${text}`;
const kindOf = (text: string, level?: string) => String(readRecord(stamp(text, level))?.kind);
describe("readRecord()", () => {
  /** The rows of a part of the fixture, each split at the first `: `. */
  const rowsOf = (part: string) => {
    const [, text = ""] = fixture("records.txt").join("\n").split(`== ${part}`);
    const rows = text.split("\n==")[0]?.split("\n").slice(1).filter(Boolean) ?? [];
    if (rows.length < 20) throw new Error(`the fixture has no ${part}`);
    return rows.map((row) => row.split(/: (.*)/) as [string, string]);
  };

  test.each(rowsOf("Kinds"))("knows the kind %s of %s", (kind, row) => {
    const [, level, text = ""] = /^([A-Z]+ )?(.*)$/.exec(row) ?? [];
    expect(kindOf(text, level?.trim())).toBe(kind);
  });

  const quoted = `[recidive] Line with odd timestamp: ${stamp("[sshd] Ban 8.8.8.8")}`;
  const json = 'fail2ban.actions   [1]: NOTICE  [web] Ban "\u001b[2J\u202e"\n';
  // prettier-ignore
  const RECORDS: [line: string, record: object][] = [
    // Anchored: what an attacker writes into an id is an id.
    [stamp("[web] Found eve [sshd] Ban 8.8.8.8 - 2026-11-22 10:00:00"),
      { kind: "found", jail: "web", id: "eve [sshd] Ban 8.8.8.8" }],
    [stamp("[sshd] Ban x] Unban y"), { kind: "ban", jail: "sshd", id: "x] Unban y" }],
    [stamp("[sshd] Unban x] Ban y"), { kind: "unban", id: "x] Ban y" }],
    [stamp("[sshd] Ban x] Found y"), { kind: "ban", id: "x] Found y" }],
    [stamp("[sshd] Ban eve already banned"), { kind: "ban", id: "eve already banned" }],
    [stamp(quoted, "WARNING"), { kind: "alert", jail: "recidive" }],
    [stamp("[sshd] Reban 203.0.113.7, action 'x'"), { event: "reban", id: "203.0.113.7" }],
    ...["my jail", "it's-a-jail", "web_app.v2", "zürich"].flatMap((jail): [string, object][] => [
      [stamp(`[${jail}] Ban 203.0.113.7`), { jail }],
      [stamp(`Jail ${jail.includes("'") ? `"${jail}"` : `'${jail}'`} started`), { jail }]]),
    // Docker's json is harmless text.
    [JSON.stringify({ log: json, stream: "stdout" }), { id: '"\\x1b[2J\\u202e"' }],
    [stamp("7583fa70 -- exec: printf %b", "Level 39"),
      { kind: "alert", event: "command", level: "Level 39" }],
    [stamp("iptables -I x -s 203.0.113.7 -- stderr: b'no'", "ERROR"),
      { kind: "alert", event: "output", process: "iptables -I x -s 203.0.113.7", error: "'no'" }],
  ];
  test.each(RECORDS)("takes %s apart", (line, record) => {
    expect(readRecord(line)).toMatchObject(record);
  });

  test("understands every line of the real logs but for what is no record", () => {
    let records = 0;
    const rest: string[] = [];
    for (const text of REAL_LINES.flat()) {
      if (readRecord(text)) records++;
      else rest.push(text);
    }
    expect(records).toBeGreaterThan(9_000);
    expect(rest.length).toBeLessThan(50);
    expect(rest.filter((text) => /fail2ban\.|\[\d+\]: /.test(text))).toEqual([]);
  });

  const NAMED: Record<string, string> = {
    own: "2017-08-27 04:22:42,625 fail2ban.actions        [1]: NOTICE  [sshd] Ban 203.0.113.9",
    rfc: "2026-11-22T10:00:06.625113+02:00",
    host: `${`${"a".repeat(63)}.`.repeat(3)}${"b".repeat(61)}`,
  };
  test.each(rowsOf("Prefixes"))("the date and time are %s: %s", (at, row) => {
    const record = readRecord(row.replace(/\{(own|rfc|host)\}/g, (_, name) => NAMED[name] ?? ""));
    if (at === "foreign") return expect(record?.event ?? "foreign").toBe("foreign");
    const [date, time] = at === "nothing" ? ["", ""] : at.split(" ");
    expect(record).toMatchObject({ event: "ban", jail: "sshd", id: "203.0.113.9", date, time });
  });

  test("the one look at usual lines says what the grammar says, with and without what others add", () => {
    const odd = [
      ...["[sshd] Ban 203.0.113.7 already banned", "[sshd] Ban 203.0.113.7 - 2026-11-22 10:00:00"],
      ...["[sshd] Found 203.0.113.7", "[a] Found b - c", "[a] x] Ban 1.2.3.4", "[] Ban 1.2.3.4"],
      ...["[sshd] Found 1.2.3.4 - 2026-11-22 10:00:00 ", "[sshd] 1.2.3.4  already banned"],
    ].map((text) => stamp(text));
    for (const text of [...REAL_LINES.flat(), ...odd]) {
      // Wrapped lines are read by the grammar alone.
      if (/^\d{4}-/.test(text))
        expect({ ...readRecord(`fail2ban  | ${text}`) }, text).toEqual({ ...readRecord(text) });
    }
  });

  test("is linear in the line's length", () => {
    const parts =
      "[|x] | - 1|: |<1>|a | (1 # |, bad - 1|' action '|': |0f| -- exec|\"|é|{|Z |\\".split("|");
    const heads = [
      ...["", "[sshd] ", "[sshd] Found ", "[sshd] Increase Ban ", "Jail '", "Failed to ban jail '"],
      ...["Failed to execute ban jail 'a' action 'b' info 'ActionInfo({'ip': '", "0f -- stderr: "],
      ...["Changed logging target to ", "[sshd] Attempt ", "[sshd] Reban ", "Reload jail '"],
    ];
    const prefixes = [
      ...["", "2026-11-22 10:00:06", "Nov 22 10:00:06 ", "Nov 22 10:00:06 web fail2ban: "],
      ...["2026-11-22T10:00:06Z ", "fail2ban | ", " + 1 0F0F0F0F", '{"log":"', stamp("")],
    ];
    const beginnings = [...prefixes, ...heads.map((head) => stamp(head))];
    for (const beginning of beginnings) {
      for (const part of [...parts, " ", "\t", "1"]) {
        const line = beginning + part.repeat(1_000_000 / part.length);
        const start = performance.now();
        readRecord(line);
        expect(performance.now() - start, `${beginning}${part}`).toBeLessThan(1_000);
      }
    }
  });
});

describe("a log that is not fail2ban's", () => {
  const others = (count: number) =>
    Array.from({ length: count }, (_, index) => `Nov 22 10:00:06 web-1 nginx: GET /${index}`);
  const odd = Array.from({ length: 40 }, (_, index) => `10:00|sshd|ban|203.0.113.${index}`);

  const said = ({ discord }: Scene) =>
    discord.messages.filter(({ content }) =>
      content.includes("these lines are not fail2ban's, or in an unknown format"),
    );

  test("is one most of whose lines the grammar does not know", async () => {
    const bans = Array.from({ length: 30 }, () => stamp("[sshd] Ban 203.0.113.7"));
    const traceback = [
      stamp("Unhandled exception", "CRITICAL"),
      "Traceback (most recent call last):",
      ...Array.from({ length: 60 }, (_, index) => `  File "x.py", line ${index}`),
      "KeyError: 'ip'",
    ];
    const command = [stamp("7f -- exec: a", "ERROR"), ..."bcdefgh"];
    const rows: [lines: string[], foreign: boolean][] = [
      [odd, true],
      [others(3), true],
      [[stamp("[sshd] Ban 203.0.113.7"), ...odd], true],
      [[...bans, ...others(31)], true],
      [[...bans, ...others(29)], false],
      [traceback, false],
      [traceback.slice(1, 40), false],
      [command, false],
      [[], false],
    ];
    for (const log of REAL_LINES) rows.push([log, false]);
    for (const [lines, foreign] of rows) {
      using scene = new Scene(...lines, "");
      await scene.pass("--format", "events");
      expect(said(scene), lines[0]).toHaveLength(foreign ? 1 : 0);
    }
  });

  test.each(["--format events", "--format compact", "--only ban", "--jail web"])(
    "is reported once where lines are chosen or worded: %s",
    async (flags) => {
      using scene = new Scene();
      for (let run = 1; run <= 3; run++) {
        scene.append(...others(40));
        await scene.pass(...flags.split(" "));
        expect(said(scene)).toHaveLength(1);
      }
    },
  );

  test("is raw where it is asked for raw", async () => {
    using scene = new Scene(...odd);
    await scene.passPosts(...odd);
  });
});

describe("a view of the log", () => {
  const ban = (number: number) =>
    line(number, `[sshd] Ban 203.0.113.${number % 250}`).replace("INFO   ", "NOTICE ");

  const log = [
    stamp("[sshd] Found 203.0.113.7 - 2026-11-22 10:32:25", "INFO"),
    stamp("[sshd] Ban 203.0.113.7"),
    stamp("7f -- exec: echo", "ERROR"),
    "second line of the command",
    stamp("[web] Ban 203.0.113.8").replace("2026-11-22", "2026-11-23"),
    stamp("[web] Unban 203.0.113.9").replace("2026-11-22", "2026-11-23"),
    stamp("Exiting Fail2ban", "INFO").replace("2026-11-22", "2026-11-23"),
    stamp(`[sshd] Ban ${"x".repeat(1_600)}`).replace("2026-11-22", "2026-11-23"),
  ];
  const [first = "", second = "", third = "", fourth = "", ...rest] = log;
  const [fifth = "", sixth = "", seventh = "", long = ""] = rest;
  const red = (text: string, bold = "") => `\x1b[${bold}31m${text}\x1b[0m`;
  // prettier-ignore
  const SHOWN: [flags: string, shown: string[]][] = [
    ["--format compact",
      ["2026-11-22",
        "10:32:26 sshd Found 203.0.113.7 - 2026-11-22 10:32:25",
        "10:32:26 sshd Ban 203.0.113.7",
        "10:32:26 ERROR 7f -- exec: echo",
        "second line of the command",
        "2026-11-23",
        "10:32:26 web Ban 203.0.113.8",
        "10:32:26 web Unban 203.0.113.9",
        "10:32:26 Exiting Fail2ban",
        `10:32:26 sshd Ban ${"x".repeat(1_600)}`]],
    ["--only ban", [second, fifth, long]],
    ["--only alert", [third, fourth]],
    ["--only unban", [sixth]],
    ["--jail web", log.slice(2, -1)],
    ["--color",
      [`\x1b[33m${first}\x1b[0m`, red(second), red(third, "1;"), red(fourth, "1;"), red(fifth),
        `\x1b[32m${sixth}\x1b[0m`, `\x1b[34m${seventh}\x1b[0m`,
        // What may be cut has none.
        long]],
  ];
  test.each(SHOWN)("shows with %s what is asked for, in whole records", async (flags, shown) => {
    using scene = new Scene(...log);
    await scene.pass(...flags.split(" "));
    scene.expectPosted(...shown);
  });

  test("what is left out is done with: the next run is quiet", async () => {
    using scene = new Scene(...lines(1, 5), ban(6), ...lines(7, 9));
    await scene.pass("--only", "ban");
    scene.expectPosted(ban(6));
    const asked = scene.discord.requests.length;
    await scene.pass("--only", "ban");
    await scene.passPosts();
    expect(scene.discord.requests.length).toBe(asked);
    scene.append(...lines(10, 12));
    await scene.pass("--only", "ban");
    await scene.passPosts();
    scene.append(line(13));
    await scene.passPosts(line(13));
  });

  test("few lines among many come in full messages, across rotations", async () => {
    using scene = new Scene();
    const bans: string[] = [];
    for (let block = 0; block < 40; block++) {
      const from = block * 1_000;
      scene.append(...lines(from, from + 998), ban(from + 999));
      bans.push(ban(from + 999));
      if (block === 20) {
        await scene.pass("--only", "ban");
        scene.rotate();
      }
    }
    await scene.pass("--only", "ban");
    scene.expectPosted(...bans);
    expect(scene.discord.messages.length).toBeLessThanOrEqual(4);
  });

  test("what a run could not send, the next one does, once", async () => {
    using scene = new Scene();
    const log = lines(0, 179).map((found, index) => (index % 2 ? ban(index) : found));
    scene.append(...log);
    scene.discord.failAlways({ kind: "status", status: 500 });
    expect((await scene.run("--only", "ban")).code).toBe(75);
    scene.discord.failAlways(undefined);
    scene.wait(3_600_000);
    await scene.run("--only", "ban");
    expect(scene.newlyPosted()).toEqual(log.filter((each) => each.includes("] Ban ")));
  });

  test("a continuation line is filtered with the record of an earlier run", async () => {
    using scene = new Scene(stamp("7f -- exec: echo", "ERROR"));
    await scene.pass("--only", "ban");
    scene.append("the command's second line", ban(1));
    await scene.pass("--only", "ban");
    scene.expectPosted(ban(1));
  });

  test("is set by variables", async () => {
    using scene = new Scene();
    scene.env = { ...scene.env, F2B_FORMAT: "compact", F2B_ONLY: KINDS.join(", ") };
    scene.append(ban(1));
    await scene.passPosts("2026-11-22", "08:00:01 sshd Ban 203.0.113.1");
  });

  test("colours: in Discord's ansi fence only; the log's own are shown, not obeyed", async () => {
    using scene = new Scene(ban(1), line(2, "x \x1b[31m y"));
    await scene.pass("--color");
    const [message] = scene.discord.messages;
    expect(message?.content).toBe(
      `\`\`\`ansi\n\x1b[31m${ban(1)}\x1b[0m\n${line(2, "x \\x1b[31m y")}\n\`\`\``,
    );
    scene.env = {};
    expect((await scene.run("--color")).out).not.toContain("\x1b");
  });

  test("colours: full messages stay under 2000 characters, no line is lost", async () => {
    using scene = new Scene(...Array.from({ length: 120 }, (_, index) => ban(index)));
    await scene.pass("--color");
    for (const { content } of scene.discord.messages) expect(content.length).toBeLessThan(2_000);
    const plain = scene.discord.lines().map((each) => each.replace(/\x1b\[[\d;]*m/g, ""));
    expect(plain).toEqual(Array.from({ length: 120 }, (_, index) => ban(index)));
  });

  const traceback = (count: number) => [
    line(50, "[sshd] x").replace("INFO   ", "ERROR  "),
    "Traceback (most recent call last):",
    ...Array.from({ length: count }, (_, index) => `  File "x.py", line ${index}`),
  ];

  for (const flags of [[], ["--format", "compact"], ["--only", "alert,found"]]) {
    test(`${flags.join(" ") || "raw"}: a record and its continuation lines stand in one message where they fit`, async () => {
      for (let before = 1; before <= 45; before++) {
        using scene = new Scene(...lines(1, before), ...traceback(6), line(51));
        await scene.pass(...flags);
        const parts = contents(scene).filter((content) => content.includes("x.py"));
        expect(parts).toHaveLength(1);
        expect(parts[0]).toMatch(/sshd\]? x\nTraceback.*\n( *File "x.py", line \d\n){6}/);
      }
    });
  }

  test("compact: a long line before many that are not shown comes once, its date too", async () => {
    for (const length of [1_890, 1_950, 4_000]) {
      using scene = new Scene();
      const alert = line(1, `[sshd] ${"x".repeat(length)}`).replace("INFO   ", "ERROR  ");
      scene.append(alert, ...lines(2, 30_000), line(30_001, "[sshd] Ban 203.0.113.1"));
      await scene.pass("--format", "compact", "--only", "alert,ban");
      const texts = contents(scene).join("");
      expect(texts.match(/2026-11-22/g)).toHaveLength(1);
      expect(texts.match(/x/g)).toHaveLength(length);
      expect(texts).toContain("sshd Ban 203.0.113.1");
    }
  });

  test("a record that is longer than a message follows what is before it at once", async () => {
    using scene = new Scene(...lines(1, 3), ...traceback(200), line(51));
    await scene.passPosts(...lines(1, 3), ...traceback(200), line(51));
    expect(scene.discord.messages[0]?.content).toContain("Traceback");
  });

  const words = (text: string) => text.split(" ");
  test.each(["SIGTERM", "--max-time"])("%s: a run amid unwanted lines is resumed", async (how) => {
    for (const [format = "", limit] of "raw 0,events 0,raw 20,events 20".split(",").map(words)) {
      const inline = Number(limit);
      using scene = new Scene();
      const flags = ["--format", format, "--only", "ban", "--inline", String(inline)];
      const ban = (number: number) => line(number, `[sshd] Ban 203.0.113.${number % 250}`);
      scene.append(ban(1), ...lines(2, 200_000), ban(200_001));
      let windows = 0;
      const sleep = async () => {
        if (++windows < 2) return;
        if (how === "SIGTERM") scene.stop.abort();
        else scene.wait(300_000);
      };
      Object.assign(scene.overrides, { sleep });
      expect((await scene.run(...flags)).code).toBe(75);
      expect(windows).toBe(2);
      // Whether it is a flood is looked for before anything is sent.
      expect(scene.discord.messages).toHaveLength(inline === 0 ? 1 : 0);
      delete scene.overrides.sleep;
      Object.assign(scene.overrides, { stopping: new AbortController().signal });
      let read = 0;
      const { size } = fs.statSync(scene.log);
      scene.beforeCalls("readSync", (_file, _into, _at, most, at) => {
        read += Math.max(0, Math.min(most, size - at));
      });
      expect((await scene.run(...flags)).code).toBe(0);
      expect(scene.discord.messages.at(-1)?.content).toContain("203.0.113.1");
      const told = contents(scene).join("");
      expect(told.match(/203\.0\.113\.1(?!\d)/g)?.length).toBeGreaterThanOrEqual(2);
      if (inline === 0) expect(contents(scene)).toHaveLength(2);
      // Each window has a lead of a quarter.
      if (inline === 0) expect(read).toBeLessThan(1.2 * size);
    }
  });
});
