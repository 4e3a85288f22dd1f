/** What people are told of events over several runs; and floods in one message. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { contents, failed, fixture, LOGS, log, says } from "./events.ts";
import { lines, MINUTE, Scene } from "./harness.ts";
import { addSlack, type Slack } from "./slack.ts";

setDefaultTimeout(180_000);

const EVENTS = ["--format", "events"];

/** Slack in Discord's place. */
function slackIn(scene: Scene): Slack {
  const slack = addSlack(scene, { links: /<https:\/\/db-ip\.com\/[^|>]*\|db-ip\.com>/ });
  scene.env = { SLACK_TOKEN: slack.token, SLACK_CHANNEL: slack.channel };
  return slack;
}

/** Addresses, many enough for a list of several messages. */
const addresses = (count: number, net = "10.0") =>
  Array.from({ length: count }, (_, index) => `${net}.${index >> 8}.${index & 255}`);
const alerts = (count: number) => addresses(count).map((id) => says(`no rule for ${id}`, "ERROR"));

/** This is logged, in short, and a run tells of it. */
async function happens(scene: Scene, ...entries: string[]): Promise<void> {
  scene.append(...log(...entries));
  await scene.pass(...EVENTS);
}

/** Lets a run that was told to stop go on. */
const resume = (scene: Scene) =>
  void Object.assign(scene.overrides, { stopping: new AbortController().signal });

describe("a run with --format events", () => {
  test("tells several events in one message, without a fence, and nothing twice", async () => {
    using scene = new Scene();
    await happens(scene, "found .7", "ban .7", "unban .7");
    await scene.pass(...EVENTS);
    expect(contents(scene)).toEqual([
      expect.stringMatching(
        /^🔔 web-1 .*after 1 failed attempt logged.*\n🔓 \*.*\n-# [^\n]*1 failed attempt$/,
      ),
    ]);
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("counts failures that earlier runs have seen, also in the rotated file", async () => {
    using scene = new Scene();
    for (const [index, entry] of ["found .8", "found .7", "found .7", "found .7"].entries()) {
      if (index === 3) scene.rotate();
      await happens(scene, entry);
    }
    expect(contents(scene)).toEqual([]);
    await happens(scene, "ban .7");
    expect(contents(scene)).toEqual([expect.stringContaining("after 3 failed attempts logged")]);
  });

  test("unpacks a rotated file for a ban alone", async () => {
    using scene = new Scene(...log("found .7"));
    scene.rotate();
    scene.compress(".1");
    await happens(scene, "found .8");
    const opened: string[] = [];
    scene.beforeCalls("openSync", (path) => opened.push(String(path)));
    await happens(scene, "found .7");
    expect(opened.join()).not.toContain("unpacked");
    await happens(scene, "ban .7");
    expect(opened.join()).toContain("unpacked");
    expect(contents(scene)[0]).toContain("after 2 failed attempts logged");
  });

  test("goes on in the middle of what it had to say, whatever happened to the log", async () => {
    using scene = new Scene(...alerts(400));
    scene.discord.fail({ kind: "slow", ms: 0 }, { kind: "status", status: 500 });
    let posts = 0;
    scene.overrides.fetch = (url, init) => {
      if (++posts === 3) scene.stop.abort();
      return scene.discord.fetch(url, init);
    };
    expect((await scene.run(...EVENTS)).code).toBe(75);
    expect(contents(scene).length).toBeGreaterThan(0);
    scene.rotate();
    scene.append(...log("unban 10.0.0.1"));
    resume(scene);
    expect((await scene.run(...EVENTS)).code).toBe(0);
    const text = contents(scene).join("\n");
    for (const id of addresses(400)) {
      const times = text.split(new RegExp(`\\b${RegExp.escape(id)}(?=[\\x60\\n]|$)`)).length - 1;
      expect(times).toBe(id === "10.0.0.1" ? 2 : 1);
    }
    expect(contents(scene).every((content) => content.length < 2000)).toBe(true);
    await scene.expectQuiet();
  });

  test("real logs of every kind: never a violation, never a secret, no open mark", async () => {
    for (const name of LOGS.filter((entry) => !entry.includes("/"))) {
      using scene = new Scene(...fixture(name));
      scene.env["F2B_INLINE"] = "20";
      await scene.pass(...EVENTS);
      expect(scene.discord.violations).toEqual([]);
      const text = contents(scene).join("\n");
      expect(text.length).toBeGreaterThan(100);
      expect(text).not.toMatch(/FAKE-not-a-real-token/);
      for (const line of text.split("\n"))
        for (const mark of ["`", "**"]) expect(line.split(mark).length % 2).toBe(1);
    }
  });

  test("counts what has no room as all numbers are written", async () => {
    using scene = new Scene();
    await happens(scene, ...addresses(2_000).map((_, index) => `ban .1 @jail-${index}`));
    expect(contents(scene)[0]).toMatch(/2,000 bans\*\* in 2,000 jails.*\n.* and 1,9\d\d more\n/);
  });

  test("of a stop with more bans than fit into a glance calls none an unban", async () => {
    using scene = new Scene(...lines(1, 3));
    scene.append(...log("INFO Shutdown in progress...", "INFO Stopping all jails"));
    for (let run = 0; run < 3; run++) {
      await happens(scene, ...addresses(900, `10.${run}`).map((id) => `unban ${id}`));
      scene.wait(MINUTE);
    }
    expect(contents(scene).join("\n")).not.toContain("UNBANNED");
    expect(contents(scene)).toHaveLength(3);
  });

  test("tells of a ban that does not work once an hour, for each address", async () => {
    using scene = new Scene();
    await happens(scene, "ban .9", "ban .10", "wait 300", "warned .9");
    for (let minute = 5; minute <= 70; minute += 5) {
      scene.wait(5 * MINUTE);
      await happens(scene, "warned .9", ...(minute === 30 ? ["warned .10"] : []));
    }
    const told = contents(scene).flatMap((text) => /work: (\S+ is banned)/.exec(text)?.[1] ?? []);
    expect(told).toEqual([9, 10, 9].map((last) => `203.0.113.${last} is banned`));
    await scene.expectQuiet();
  });

  test.each([false, true])("sends many bans as one file, once; refused: %p", async (refuses) => {
    using scene = new Scene(...log(...addresses(900).map((id) => `ban ${id}`)));
    if (refuses) scene.discord.fail({ kind: "status", status: 413 });
    expect((await scene.run(...EVENTS)).code).toBe(0);
    const [message, ...more] = scene.discord.messages;
    expect(more).toEqual([]);
    const inFile = refuses ? "" : ", all of them in the file";
    expect(message?.content).toStartWith(`🔔 web-1 **900 bans** in 1 jail${inFile}\n`);
    const files = message?.files.map(({ name, text }) => [name, text.split("\n").length]);
    expect(files).toEqual(refuses ? [] : [["bans.txt", 901]]);
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("says nothing of a log that rotates while nothing is worth a message", async () => {
    using scene = new Scene(...lines(1, 5));
    await scene.pass(...EVENTS);
    for (let day = 0; day < 3; day++) {
      scene.append(...lines(day * 10 + 10, day * 10 + 15));
      scene.rotate();
      await scene.pass(...EVENTS);
      scene.wait(24 * 60 * MINUTE);
    }
    expect(contents(scene)).toEqual([]);
  });
});

describe("on Slack", () => {
  test("every message names the host, also one that goes on with a list", async () => {
    using scene = new Scene();
    const slack = slackIn(scene);
    scene.append(...alerts(200));
    await scene.pass(...EVENTS);
    expect(slack.messages.length).toBeGreaterThan(2);
    for (const { content } of slack.messages) expect(content).toMatch(/^(?:⚠️ web-1 |\*web-1\*\n)/);
    expect(slack.violations).toEqual([]);
  });

  test("nothing is left open where a line holds as much as it can", async () => {
    using scene = new Scene();
    const slack = slackIn(scene);
    for (let length = 0; length < 60; length++) {
      const jail = `${"j".repeat(130)}${"&".repeat(length)}`;
      const why = `${"&".repeat(150)}: ${"<&>".repeat(100)}`;
      scene.append(...log(`ban .${length} @${jail}`));
      scene.append(failed("ban", jail, `'ip': '203.0.113.${length}'`, why));
    }
    await scene.pass(...EVENTS);
    for (const { content } of slack.messages)
      for (const line of content.split("\n")) expect(line.split("`").length % 2).toBe(1);
    expect(slack.violations).toEqual([]);
  });
});

describe("that lines may be missing", () => {
  test.each([EVENTS, ["--only", "ban"]])("is told at once (%s %s)", async (...flags) => {
    // Also where what follows is not shown.
    using scene = new Scene(...lines(1, 20));
    await scene.pass(...flags);
    scene.rotate();
    fs.rmSync(scene.path(".1"));
    scene.append(...lines(100, 200));
    await scene.pass(...flags);
    scene.append(...lines(201, 202));
    await scene.pass(...flags);
    expect(contents(scene)).toEqual([expect.stringContaining("may be missing after line 20")]);
  });

  test("is told once, also while words of an earlier run are on their way", async () => {
    using scene = new Scene(...lines(1, 50));
    await scene.pass(...EVENTS);
    scene.append(...alerts(400));
    scene.overrides.fetch = (url, init) => {
      if (scene.discord.messages.length === 1) scene.stop.abort();
      return scene.discord.fetch(url, init);
    };
    expect((await scene.run(...EVENTS)).code).toBe(75);
    resume(scene);
    fs.truncateSync(scene.log, 2_000);
    for (let run = 0; run < 3; run++) {
      scene.wait(MINUTE);
      await scene.pass(...EVENTS);
    }
    expect(contents(scene).filter((text) => text.includes("may be missing"))).toHaveLength(1);
  });
});

describe("a flood", () => {
  const burst = fixture("attack-burst.log");
  const bans = burst.filter((line) => line.includes("] Ban "));
  const linesOf = (text = "") => text.split("\n").slice(0, -1);

  test.each([
    ["raw", "20"],
    ["compact", "20"],
    ["events", "1"],
  ])("is one message on Discord: what is in it, and a file (%s)", async (format, inline) => {
    using scene = new Scene(...burst);
    await scene.pass("--format", format, "--inline", inline);
    const [message, ...more] = scene.discord.messages;
    expect(more).toEqual([]);
    expect(message?.files.map(({ name }) => name)).toEqual(["fail2ban.log"]);
    const sent = linesOf(message?.files[0]?.text);
    if (format === "compact") expect(sent).toContain("12:00:14 sshd Ban 198.18.216.9");
    else expect(sent).toEqual(burst);
    expect(message?.content).toContain("7,086 lines");
    expect(message?.content).toContain("**[sshd]** 276 ban");
    expect(message?.content).toContain("2026-11-22");
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("goes as one file where one of 4 MiB holds it, to the last lines", async () => {
    const bans = addresses(1_255).map((id) => `ban ${"x".repeat(3_250)}${id}`);
    using scene = new Scene(...log(...bans));
    const { size } = fs.statSync(scene.log);
    expect(size).toBeGreaterThan(4 * 1024 * 1024 - 64 * 1024);
    expect(size).toBeLessThan(4 * 1024 * 1024);
    await scene.pass("--inline", "1");
    expect(scene.discord.messages).toHaveLength(1);
  });

  test("is what needs more messages than --inline says, not one less; 0 is never", async () => {
    using scene = new Scene();
    const long = Array.from({ length: 60 }, (_, index) => says(`${index} ${"x".repeat(900)}`));
    const sent: number[] = [];
    for (const inline of ["30", "29", "0"]) {
      scene.append(...long);
      await scene.pass("--inline", inline);
      sent.push(scene.discord.messages.length);
    }
    expect(sent).toEqual([30, 30 + 1, 30 + 1 + 30]);
  });

  test("of one address names it", async () => {
    using scene = new Scene(...log(...Array<string>(60).fill("found .7")));
    await scene.pass("--inline", "1");
    expect(scene.discord.messages[0]?.content).toContain("most seen: 203.0.113.7 ×60");
  });

  test("leaves out what is left out, and is redacted", async () => {
    using scene = new Scene();
    const secret = says("[sshd] x https://discord.com/api/webhooks/123/secret-token-abc");
    const flags = [["--only", "ban"], ["--only", "ban", "--jail", "nginx-http-auth"], []];
    for (const each of flags) {
      scene.append(...burst, secret);
      await scene.pass(...each, "--inline", "2");
    }
    const [some, few, all] = scene.discord.messages;
    expect(linesOf(some?.files[0]?.text)).toEqual(bans);
    expect(few?.content).toContain("**91 lines**");
    expect(few?.content).toMatch(/^\*\*\[nginx-http-auth\]\*\* 91 bans$/m);
    expect(few?.content).not.toContain("sshd");
    expect(linesOf(few?.files[0]?.text)).toHaveLength(91);
    expect(all?.files[0]?.text).not.toContain("secret-token");
  });

  test("of more than a file holds is several files, whole lines, each once", async () => {
    using scene = new Scene();
    const long = Array.from({ length: 26_000 }, (_, index) => says(`${index} ${"é".repeat(500)}`));
    scene.append(...long);
    await scene.pass("--inline", "20");
    const files = scene.discord.messages.flatMap(({ files: [file] }) => file ?? []);
    expect(files.length).toBeGreaterThan(1);
    for (const { byteCount } of files) expect(byteCount).toBeLessThanOrEqual(10 * 1024 * 1024);
    expect(files.flatMap(({ text }) => linesOf(text))).toEqual(long);
    await scene.expectQuiet();
  });

  test("whose answer is lost comes again marked, the file too, and nothing behind it", async () => {
    using scene = new Scene(...burst);
    scene.discord.fail({ kind: "reset-after-saving" });
    await scene.pass("--inline", "20");
    scene.append(...burst);
    await scene.pass("--inline", "20");
    const marks = contents(scene).map((text) => text.startsWith("(resent)"));
    expect(marks).toEqual([false, true, false]);
    expect(scene.discord.messages[1]?.files).toHaveLength(1);
  });

  test("that may have arrived is marked when a later run sends it again", async () => {
    using scene = new Scene(...burst);
    scene.overrides.fetch = async (url, init) => {
      await scene.discord.fetch(url, init);
      scene.stop.abort();
      throw new DOMException("", "TimeoutError");
    };
    expect((await scene.run("--inline", "20")).code).toBe(75);
    delete scene.overrides.fetch;
    resume(scene);
    const seen = contents(scene).length;
    for (let run = 0; run < 2; run++) {
      scene.wait(20 * MINUTE);
      expect((await scene.run("--inline", "20")).code).toBe(0);
      scene.append(...log("found .7"));
    }
    const marks = contents(scene).map((text) => text.startsWith("(resent)"));
    expect(marks.slice(seen)).toEqual([true, false]);
  });

  test("with a refused line in it is halved down to that line, whatever is not shown", async () => {
    using scene = new Scene(...burst);
    const poison = bans[100] ?? "";
    scene.discord.refuseContent((content) => content.includes(poison));
    expect((await scene.run("--only", "ban", "--inline", "3")).code).toBe(0);
    const sent = scene.discord.messages.flatMap(({ files }) =>
      files.flatMap(({ text }) => linesOf(text)),
    );
    expect(sent).toEqual(bans.filter((line) => line !== poison));
    expect(scene.discord.requests.length).toBeLessThan(30);
    await scene.pass("--only", "ban", "--inline", "3");
  });

  test("on Slack is the summary, every banned address that fits, the file, its first and last line", async () => {
    using scene = new Scene();
    const slack = slackIn(scene);
    scene.env["F2B_INLINE"] = "20";
    scene.append(...burst);
    await scene.pass();
    expect(slack.messages).toHaveLength(1);
    const text = slack.messages[0]?.content ?? "";
    expect(text.length).toBeLessThan(2000);
    for (const part of ["*7,086 lines*", scene.log, burst[0], burst.at(-1)])
      expect(text).toContain(part?.slice(0, 80) ?? "");
    expect(text).toMatch(/banned: 198\.18\.25\.167, .* and \d+ more$/m);
    // Whatever the jails and ids are called.
    const [jail, id] = ["<jail>".repeat(30), "&<>".repeat(60)];
    const strange = (_: unknown, index: number) => `ban ${id}${index} @${jail}${index}`;
    scene.append(...log(...Array.from({ length: 3_000 }, strange)));
    scene.wait(MINUTE);
    await scene.pass();
    expect(slack.messages[1]?.content).toContain("3,000 lines");
    expect(slack.violations).toEqual([]);
  });

  test("is printed line by line where nothing is set; a dry run prints summary and file", async () => {
    using scene = new Scene();
    const { env } = scene;
    scene.append(...burst);
    const dry = await scene.run("--dry-run", "--inline", "20");
    expect(dry.out).toContain("7,086 lines");
    expect(dry.out.endsWith(`[fail2ban.log]\n${burst.join("\n")}\n`)).toBe(true);
    expect(scene.discord.messages).toEqual([]);
    scene.env = { ...env, DISCORD_WEBHOOK: "", F2B_INLINE: "20" };
    const { out } = await scene.run();
    expect(out.split("\n").filter((line) => line.startsWith("2026-"))).toEqual(burst);
  });
});
