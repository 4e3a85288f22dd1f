/** What people are told: events in words, and floods in one message. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { SLACK } from "../f2b-watch.ts";
import {
  ban,
  clock,
  contents,
  EVENTS,
  FIXTURES,
  fixture,
  footer,
  found,
  info,
  says,
  slackIn,
  told,
  unban,
  view,
} from "./events.ts";
import { Scene } from "./harness.ts";

setDefaultTimeout(180_000);

describe("a ban", () => {
  test("has bell, host, jail, address, failures, a link without preview and the way back", () => {
    const line = told([found("203.0.113.7"), found("203.0.113.7"), ban("203.0.113.7")])[0];
    expect(line).toBe(
      "🔔 web-1 **[sshd]** **BANNED** 203.0.113.7 after 2 failed attempts logged · " +
        "[db-ip.com](<https://db-ip.com/203.0.113.7>) · `fail2ban-client unban 203.0.113.7`",
    );
  });

  test("on Slack in Slack's own marks", () => {
    expect(told([found("203.0.113.7"), ban("203.0.113.7")], { markup: SLACK.markup })).toEqual([
      "🔔 web-1 *[sshd]* *BANNED* 203.0.113.7 after 1 failed attempt logged · " +
        "<https://db-ip.com/203.0.113.7|db-ip.com> · `fail2ban-client unban 203.0.113.7`",
    ]);
  });

  test("says nothing of failures where none is known", () => {
    expect(told([ban("203.0.113.7")])[0]).toContain("203.0.113.7 · ");
  });

  test("counts the failures of its own jail and address since the last ban", () => {
    const lines = [
      ...[found("203.0.113.7"), found("203.0.113.7"), ban("203.0.113.7"), unban("203.0.113.7")],
      ...[found("203.0.113.7"), found("203.0.113.8"), found("203.0.113.7", "web")],
      ban("203.0.113.7"),
    ];
    expect(told(lines).at(-1)).toContain("after 1 failed attempt logged");
  });

  test("counts within the jail's own findtime, ten minutes where the log names none", () => {
    const settings = [
      info("Creating new jail 'slow'"),
      says("  findtime: 60", "INFO", "filter"),
      info("Creating new jail 'sshd'"),
    ];
    const minutesAgo = [found("203.0.113.7", "slow"), found("203.0.113.7")];
    clock.seconds += 120;
    const now = [found("203.0.113.7", "slow"), found("203.0.113.7")];
    const bans = [ban("203.0.113.7", "slow"), ban("203.0.113.7")];
    const lines = told([...settings, ...minutesAgo, ...now, ...bans]);
    expect(lines[0]).toContain("after 1 failed attempt logged");
    expect(lines[1]).toContain("after 2 failed attempts logged");
  });

  test("does not count the observer's second line for a failure", () => {
    const bad = says(
      "[sshd] Found 203.0.113.7, bad - 2026-11-22 10:32:25, 1 # -> 2.0, Ban",
      "INFO",
    );
    expect(told([found("203.0.113.7"), bad, ban("203.0.113.7")])[0]).toContain(
      "after 1 failed attempt logged",
    );
  });

  test("carries how often and how long where the log says so", () => {
    const increase = says("[sshd] Increase Ban 203.0.113.7 (2 # 1h 30m -> 2026-11-22 11:32:26)");
    expect(told([ban("203.0.113.7"), increase])).toEqual([
      expect.stringContaining("203.0.113.7, 2nd ban, for 1 h 30 min · "),
    ]);
    // The observer works beside the jail, and may be faster.
    expect(told([increase, ban("203.0.113.7")])).toEqual(told([ban("203.0.113.7"), increase]));
    expect(told([increase])).toEqual([
      expect.stringContaining("**BANNED** 203.0.113.7 for longer, 2nd ban, for 1 h 30 min · "),
    ]);
    const later = told([increase, unban("203.0.113.7"), ban("203.0.113.7")]);
    expect(later).toHaveLength(3);
    expect(later[2]).not.toContain("2nd ban");
    const forGood = says("[sshd] Increase Ban 203.0.113.7 (11 # permanent -> infinite)");
    expect(told([ban("203.0.113.7"), forGood])[0]).toContain("11th ban, permanently");
  });

  test("of an id that is no address has neither link nor command", () => {
    for (const id of [
      ...["localhost", "not an ip", "1.2.3.4.5", "fe80::1%eth0", "203.0.113.0/33", "203.0.113"],
      ...["2001:db8::/129", "203.0.113.7 ", "abc", "1/2"],
    ]) {
      const line = told([ban(id)])[0];
      expect(line).toContain(`**BANNED** \`${id}\``);
      expect(line).not.toMatch(/db-ip|unban/);
    }
    expect(told([ban("2001:db8::/48")])[0]).toContain("https://db-ip.com/2001:db8::>");
    expect(told([ban("192.0.2.0/24")])[0]).toContain("`fail2ban-client unban 192.0.2.0/24`");
    expect(told([ban("2001:db8::7")])[0]).toContain("https://db-ip.com/2001:db8::7");
  });

  test.each([
    "**bold**",
    "`code`",
    "``` @everyone",
    "<@123> [x](https://evil.example)",
    "_i_ ~~s~~",
  ])("of the id %s cannot leave its inline code", (id) => {
    const line = told([ban(id)])[0] ?? "";
    expect(line.match(/`/g)?.length).toBe(2);
    expect(line.replace(/`[^`]*`/, "")).toBe("🔔 web-1 **[sshd]** **BANNED** ");
  });

  test("of a jail with a strange name has that in inline code too", () => {
    expect(told([ban("203.0.113.7", "my jail")])[0]).toContain("**[my jail]**");
    expect(told([ban("203.0.113.7", "it's**a")])[0]).toContain("**[`it's**a`]**");
    expect(told([ban("203.0.113.7", "<!here>")], { markup: SLACK.markup })[0]).toContain(
      "`&lt;!here&gt;`",
    );
  });
});

describe("many", () => {
  const ids = Array.from({ length: 40 }, (_, index) => `203.0.113.${index}`);

  test("bans are a list by jail, with every address", () => {
    const lines = told([
      ...ids.map((id) => ban(id)),
      ban("203.0.113.1"),
      ban("198.51.100.1", "web"),
    ]);
    expect(lines[0]).toBe("🔔 web-1 **42 bans** in 2 jails");
    expect(lines[1]).toStartWith(
      "**[sshd]** 41: 203.0.113.0/24 ×40 (203.0.113.1 ×2, 203.0.113.0, 203.0.113.2,",
    );
    const text = lines.join("\n");
    for (const id of ids)
      expect(text).toMatch(new RegExp(`\\b${RegExp.escape(id)}(,| |\\)|$)`, "m"));
    expect(lines.at(-1)).toBe("**[web]** 1: 198.51.100.1");
    for (const line of lines) expect(line.length).toBeLessThan(400);
  });

  test("unbans are one line with counts by jail, three are a line each", () => {
    const few = ids.slice(0, 3).map((id) => unban(id));
    expect(told(few)).toHaveLength(3);
    expect(told(few)[0]).toBe("🔓 web-1 **[sshd]** **UNBANNED** 203.0.113.0");
    expect(told([...few, unban("203.0.113.9", "web")])).toEqual([
      "🔓 web-1 **4 unbanned**: **[sshd]** 3, **[web]** 1",
    ]);
  });

  test("restores without a start are one line with counts by jail", () => {
    const lines = ids.map((id) => says(`[sshd] Restore Ban ${id}`));
    expect(told(lines)).toEqual(["♻️ web-1 **40 restored**: **[sshd]** 40"]);
  });
});

describe("the server", () => {
  test("restarted is one line, whatever it lifts and restores", () => {
    const stop = fixture("restart-restore.log");
    const from = stop.findIndex((line) => line.includes("Shutdown in progress"));
    const restores = stop.findLastIndex(
      (line, at) => line.includes("Restore Ban") && at < from + 120,
    );
    const lines = told(stop.slice(from, restores + 1)).filter((line) => line.includes("fail2ban"));
    expect(lines[0]).toBe("🔄 web-1 fail2ban 1.0.2 restarted: 2 jails, 24 bans restored");
    expect(told(stop).filter((line) => line.includes("♻️"))).toEqual([]);
  });

  test("that ended without a word says so when it starts again", () => {
    const start = [info("Starting Fail2ban v1.1.1"), info("Jail 'sshd' started")];
    const line = "✅ web-1 fail2ban 1.1.1 started";
    expect(told(start)).toEqual([`${line}: 1 jail`]);
    expect(told([...start, ...start])[1]).toBe(
      `${line.replace("web-1 ", "")} after a crash: 1 jail`,
    );
  });

  test("stopped says how many bans it lifts, also as 1.1.1 words it", () => {
    const lifted = ["203.0.113.7", "203.0.113.8"].map((id) => says(`[sshd] Repeal Ban ${id}`));
    const lines = [info("Shutdown in progress..."), ...lifted, info("Jail 'sshd' stopped")];
    expect(told([...lines, info("Exiting Fail2ban")])).toEqual([
      "⛔ web-1 fail2ban stopped: 1 jail, 2 bans lifted",
    ]);
  });

  test("with a change of its log's place did not restart", () => {
    const lines = [
      info("Start Fail2ban v1.0.2"),
      info("Changed logging target to x for Fail2ban v1.0.2"),
    ];
    expect(told(lines)).toEqual([]);
  });

  test("jails started, stopped and reloaded alone are a line each", () => {
    const lines = ["started", "stopped", "reloaded"].map((did) => info(`Jail 'sshd' ${did}`));
    expect(told(lines)).toEqual([
      "✅ web-1 **[sshd]** jail started",
      "⛔ **[sshd]** jail stopped",
      "🔄 **[sshd]** jail reloaded",
    ]);
  });
});

describe("a failed action", () => {
  test("stands in its ban's own line, with why", () => {
    const lines = told(fixture("failing-action.log"));
    const line = lines.find((text) => text.includes("**[webhook]** **BANNED** 203.0.113.7"));
    expect(line).toContain("**action `lab-webhook` failed**: `curl: (7) Failed to connect");
    expect(lines.find((text) => text.includes("**[pyaction]** **BANNED**"))).toContain(
      "**action `lab-py` failed**: `first line of the exception`",
    );
    // `sleep 30` says neither for whom nor for which jail it ran: it stands alone.
    const slow = lines.find((text) => text.includes("**[slow]** **BANNED**"));
    expect(slow).toContain("**action `lab-slow` failed** · ");
    expect(lines.at(-1)).toBe("⚠️ `sleep 30 timed out after 3 seconds` ×4");
  });

  test("stands there beside the other actions that failed for that ban", () => {
    const failed = (action: string, why: string) =>
      says(
        `Failed to execute ban jail 'sshd' action '${action}' info 'ActionInfo({'ip': '203.0.113.7'})': ${why}`,
        "ERROR",
      );
    const lines = told([ban("203.0.113.7"), failed("mail", "no relay"), failed("nft", "no table")]);
    expect(lines.filter((line) => line.includes("failed"))).toHaveLength(1);
    expect(lines[0]).toContain(
      "`mail` failed**: `no relay` · ⚠️ **action `nft` failed**: `no table`",
    );
  });

  test("whose ban came in an earlier pass has a line of its own", () => {
    const lines = fixture("failing-action.log");
    const [failed] = told(
      lines.filter((line) => line.includes("Failed to execute ban jail 'sshd'")),
    );
    expect(failed).toStartWith(
      "⚠️ web-1 **[sshd]** **action `lab-fail` failed** at ban of 203.0.113.7",
    );
  });

  test("says NOT blocked only where a firewall check failed", () => {
    expect(told(fixture("failing-action.log")).join("\n")).not.toContain("NOT blocked");
    const lines = told(fixture("failing-invariant.log"));
    const blocked = (ban: string) =>
      lines.find((line) => line.includes(ban))?.includes("NOT blocked");
    expect(blocked("**[invariant]** **BANNED** 203.0.113.7")).toBe(true);
    expect(blocked("**[invariant]** **BANNED** 203.0.113.8")).toBe(true);
    expect(blocked("**[repaired]** **BANNED** 203.0.113.7")).toBe(false);
    expect(blocked("**[repaired]** **BANNED** 203.0.113.8")).toBe(true);
    expect(lines.join("\n")).not.toContain("Invariant");
  });

  test("of another jail beside a failed check is no false alarm", () => {
    const action = (jail: string, name: string) =>
      `Failed to execute ban jail '${jail}' action '${name}' info 'ActionInfo({'ip': '203.0.113.7'})': Error banning 203.0.113.7`;
    const lines = [
      ban("203.0.113.7", "web"),
      ban("203.0.113.7", "sshd"),
      says("Invariant check failed. Trying to restore a sane environment", "ERROR"),
      says("7f15e5f574b0 -- exec: curl https://example.org/?ip=203.0.113.7", "ERROR", "utils"),
      says("7f15e5f574b0 -- returned 7", "ERROR", "utils"),
      says(action("web", "notify"), "ERROR"),
    ];
    const text = told(lines).join("\n");
    expect(text).not.toContain("NOT blocked");
    expect(text).toContain("**action `notify` failed**: `returned 7`");
    expect(text).toContain("Invariant check failed");
  });
});

describe("what is only counted", () => {
  test("stands in the last line, with the time", () => {
    clock.seconds = 0;
    const lines = [
      found("203.0.113.7"),
      found("203.0.113.7"),
      info("rollover"),
      ban("203.0.113.7"),
    ];
    expect(footer(lines)).toBe("-# 10:00:00 to 10:00:03 · 2 failed attempts · 1 other line");
  });

  test("is not worth a message, unless it was asked for by name", () => {
    const lines = [found("203.0.113.7"), info("rollover performed")];
    expect(footer(lines)).toBeUndefined();
    expect(footer(lines, view("ban,found"))).toContain("1 failed attempt");
  });

  test("--only and --jail leave out what they leave out, failures are counted all the same", () => {
    const lines = [
      found("203.0.113.7"),
      ban("203.0.113.7"),
      unban("203.0.113.7"),
      ban("203.0.113.8", "web"),
    ];
    const shown = told(lines, { shows: view("ban", "sshd") });
    expect(shown).toEqual([expect.stringContaining("203.0.113.7 after 1 failed attempt logged")]);
  });
});

describe("a pass with --format events", () => {
  test("tells several events in one message, without a fence, and nothing twice", async () => {
    using scene = new Scene();
    scene.append(found("203.0.113.7"), ban("203.0.113.7"), unban("203.0.113.7"));
    await scene.pass(...EVENTS);
    await scene.pass(...EVENTS);
    expect(contents(scene)).toHaveLength(1);
    expect(contents(scene)[0]).toMatch(
      /^🔔 web-1 .*after 1 failed attempt logged.*\n🔓 \*.*\n-# [^\n]*1 failed attempt$/,
    );
    expect(contents(scene)[0]).not.toContain("```");
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("counts failures that earlier passes have seen, also in the rotated file", async () => {
    using scene = new Scene();
    scene.append(found("203.0.113.7"), found("203.0.113.8"));
    await scene.pass(...EVENTS);
    expect(contents(scene)).toEqual([]);
    scene.append(found("203.0.113.7"));
    await scene.pass(...EVENTS);
    scene.rotate();
    scene.append(found("203.0.113.7"));
    await scene.pass(...EVENTS);
    scene.append(ban("203.0.113.7"));
    await scene.pass(...EVENTS);
    expect(contents(scene)).toEqual([expect.stringContaining("after 3 failed attempts logged")]);
  });

  test("goes on in the middle of what it had to say, whatever happened to the log", async () => {
    using scene = new Scene();
    const ids = Array.from({ length: 400 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
    scene.append(...ids.map((id) => says(`no rule for ${id}`, "ERROR")));
    scene.discord.fail({ kind: "slow", ms: 0 }, { kind: "status", status: 500 });
    scene.discord.failAlways({ kind: "status", status: 500 });
    scene.discord.failAlways(undefined);
    let posts = 0;
    scene.overrides.fetch = (url, init) => {
      if (++posts === 3) scene.stop.abort();
      return scene.discord.fetch(url, init);
    };
    expect((await scene.run(...EVENTS)).code).toBe(75);
    const first = contents(scene).length;
    expect(first).toBeGreaterThan(0);
    scene.rotate();
    scene.append(unban("10.0.0.1"));
    Object.assign(scene.overrides, { stopping: new AbortController().signal });
    expect((await scene.run(...EVENTS)).code).toBe(0);
    const text = contents(scene).join("\n");
    for (const id of ids) {
      const times = text.split(new RegExp(`\\b${RegExp.escape(id)}(?=[\\x60\\n]|$)`)).length - 1;
      expect(times).toBe(id === "10.0.0.1" ? 2 : 1);
    }
    expect(contents(scene).every((content) => content.length < 2000)).toBe(true);
    await scene.expectQuiet();
  });

  test("real logs of every kind: never a violation, never a secret, no open mark", async () => {
    for (const name of fs.readdirSync(FIXTURES).filter((entry) => entry.endsWith(".log"))) {
      using scene = new Scene();
      scene.append(...fixture(name));
      scene.env["F2B_INLINE"] = "20";
      await scene.pass(...EVENTS);
      expect(scene.discord.violations).toEqual([]);
      const text = contents(scene).join("\n");
      expect(text.length).toBeGreaterThan(100);
      expect(text).not.toMatch(/FAKE-not-a-real-token/);
      for (const line of text.split("\n")) {
        expect(line.match(/`/g)?.length ?? 0).toSatisfy((count: number) => count % 2 === 0);
        expect(line.match(/\*\*/g)?.length ?? 0).toSatisfy((count: number) => count % 2 === 0);
      }
    }
  });
});

describe("a flood", () => {
  const burst = fixture("attack-burst.log");

  test("of lines is one message on Discord: what is in them, and a file with all of them", async () => {
    for (const [format, inline] of [
      ["raw", "20"],
      ["compact", "20"],
      ["events", "1"],
    ] as const) {
      using scene = new Scene();
      scene.append(...burst);
      await scene.pass("--format", format, "--inline", inline);
      expect(scene.discord.messages).toHaveLength(1);
      const [message] = scene.discord.messages;
      expect(message?.files.map(({ name }) => name)).toEqual(["fail2ban.log"]);
      const text = message?.files[0]?.text;
      if (format === "compact")
        expect(text?.includes("\n12:00:14 sshd Ban 198.18.216.9\n")).toBe(true);
      else expect(text === `${burst.join("\n")}\n`).toBe(true);
      expect(message?.content).toContain("7,086 lines");
      expect(message?.content).toMatch(
        /\*\*\[sshd\]\*\* 276 ban, 1 restore|\*\*\[sshd\]\*\* 276 ban/,
      );
      expect(message?.content).toContain("2026-11-22");
      expect(scene.discord.violations).toEqual([]);
      await scene.expectQuiet();
    }
  });

  test("goes as one file where one of 4 MiB holds it, to the last lines", async () => {
    using scene = new Scene();
    const line = (id: number) =>
      `2026-11-22 10:00:00,000 fail2ban.actions [1]: NOTICE  [sshd] Ban ${"x".repeat(3_260)}${id}`;
    scene.append(...Array.from({ length: 1_255 }, (_, at) => line(1_000 + at)));
    expect(fs.statSync(scene.log).size).toBeGreaterThan(4 * 1024 * 1024 - 64 * 1024);
    await scene.pass("--inline", "1");
    expect(scene.discord.messages).toHaveLength(1);
  });

  test("is what needs more messages than --inline says, not one less; 0 is never", async () => {
    using scene = new Scene();
    const lines = Array.from({ length: 60 }, (_, index) => says(`${index} ${"x".repeat(900)}`));
    scene.append(...lines);
    await scene.pass("--inline", "30");
    expect(scene.discord.messages).toHaveLength(30);
    scene.append(...lines);
    await scene.pass("--inline", "29");
    expect(scene.discord.messages).toHaveLength(31);
    scene.append(...lines);
    await scene.pass("--inline", "0");
    expect(scene.discord.messages).toHaveLength(61);
  });

  test("leaves out what --only and --jail leave out, and is redacted", async () => {
    using scene = new Scene();
    scene.append(...burst, says("[sshd] x https://discord.com/api/webhooks/123/secret-token-abc"));
    await scene.pass("--only", "ban", "--inline", "3");
    const text = scene.discord.messages[0]?.files[0]?.text ?? "";
    expect(text.split("\n").slice(0, -1)).toEqual(burst.filter((line) => line.includes("] Ban ")));
    scene.append(...burst, says("[sshd] x https://discord.com/api/webhooks/123/secret-token-abc"));
    await scene.pass("--inline", "3");
    expect(scene.discord.messages[1]?.files[0]?.text).not.toContain("secret-token");
  });

  test("of more than a file holds is several files, whole lines, each once", async () => {
    using scene = new Scene();
    const lines = Array.from({ length: 26_000 }, (_, index) => says(`${index} ${"é".repeat(500)}`));
    scene.append(...lines);
    await scene.pass("--inline", "20");
    const files = scene.discord.messages.map(({ files: [file] }) => file);
    expect(files.length).toBeGreaterThan(1);
    for (const file of files) expect(file?.byteCount).toBeLessThanOrEqual(10 * 1024 * 1024);
    const sent = files.flatMap((file) => file?.text.split("\n").slice(0, -1) ?? []);
    expect(sent.length).toBe(lines.length);
    expect(sent).toEqual(lines);
    await scene.expectQuiet();
  });

  test("whose answer is lost comes again marked, the file too", async () => {
    using scene = new Scene();
    scene.append(...burst);
    scene.discord.fail({ kind: "reset-after-saving" });
    await scene.pass("--inline", "20");
    const marks = scene.discord.messages.map(({ content }) => content.startsWith("(resent)"));
    expect(marks).toEqual([false, true]);
    expect(scene.discord.messages[1]?.files).toHaveLength(1);
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
    expect(text).toContain("*7,086 lines*");
    expect(text).toContain(scene.log);
    expect(text).toContain(burst[0]?.slice(0, 80) ?? "");
    expect(text).toContain(burst.at(-1)?.slice(0, 80) ?? "");
    expect(text).toMatch(/banned: 198\.18\.25\.167, .* and \d+ more$/m);
    expect(slack.violations).toEqual([]);
  });

  test("with nothing set is printed line by line", async () => {
    using scene = new Scene();
    scene.env = { F2B_INLINE: "20" };
    scene.append(...burst);
    const { out } = await scene.run();
    expect(out.split("\n").filter((line) => line.startsWith("2026-"))).toEqual(burst);
  });

  test("as a dry run prints summary and file, and leaves no trace", async () => {
    using scene = new Scene();
    scene.append(...burst);
    const { out } = await scene.run("--dry-run", "--inline", "20");
    expect(out).toContain("7,086 lines");
    expect(out.endsWith(`[fail2ban.log]\n${burst.join("\n")}\n`)).toBe(true);
    expect(scene.discord.messages).toEqual([]);
  });

  test("on Slack keeps to its room, whatever the jails and ids are called", async () => {
    using scene = new Scene();
    const slack = slackIn(scene);
    scene.append(
      ...Array.from({ length: 3_000 }, (_, index) =>
        ban(`${"&<>".repeat(60)}${index}`, `${"<jail>".repeat(30)}${index}`),
      ),
    );
    await scene.pass("--inline", "1");
    expect(slack.messages[0]?.content).toContain("3,000 lines");
    expect(slack.violations).toEqual([]);
  });
});
