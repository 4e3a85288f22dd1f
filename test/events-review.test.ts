/** What events and floods must not say, and must not do, whatever the log and the moment. */
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { SLACK } from "../f2b-watch.ts";
import {
  ban,
  contents,
  EVENTS,
  fixture,
  footer,
  found,
  info,
  restore,
  says,
  slackIn,
  told,
  unban,
  view,
} from "./events.ts";
import { lines, Scene } from "./harness.ts";

const MINUTE = 60_000;

const failed = (doing: string, jail: string, details: string, why = "no") =>
  says(
    `Failed to execute ${doing} jail '${jail}' action 'act' info 'ActionInfo({${details}})': ${why}`,
    "ERROR",
  );

/** Addresses, many enough for a list of several messages. */
function addresses(count: number, net = "10.0"): string[] {
  return Array.from({ length: count }, (_, index) => `${net}.${index >> 8}.${index & 255}`);
}

// ── The server ──────────────────────────────────────────────────────────────────────────────────

describe("the server, wherever passes come between its lines,", () => {
  const log = fixture("restart-restore.log");

  test("ended after a crash when it was killed, and at no other time", () => {
    const killedAt = log.findLastIndex((line) => line.includes("Starting Fail2ban"));
    for (let split = 1; split < log.length; split++) {
      const crashes = told(log, { splits: [split] }).filter((line) =>
        line.includes("after a crash"),
      );
      expect({ split, crashes: crashes.length }).toEqual({ split, crashes: 1 });
    }
    const beforeIt = told(log.slice(0, killedAt), { splits: [1, 157, 159] });
    expect(beforeIt.join("\n")).not.toContain("after a crash");
  });

  test("lets nobody in by a restart", () => {
    for (let split = 1; split < log.length; split++) {
      const unbans = told(log, { splits: [split] }).filter((line) => line.includes("UNBANNED"));
      expect(unbans.map((line) => line.replace(" web-1", ""))).toEqual([
        "🔓 **[sshd]** **UNBANNED** 203.0.113.3",
      ]);
    }
  });

  test("tells of its way down in a line, also where the pass before has told that it stops", () => {
    const from = log.findIndex((line) => line.includes("Shutdown in progress"));
    const to = log.findIndex((line) => line.includes("Exiting Fail2ban")) + 1;
    for (let split = from + 1; split < to; split++) {
      const lines = told(log.slice(0, to), { splits: [from, split] }).filter((line) =>
        /⛔|♻️/.test(line),
      );
      expect(lines.length).toBeLessThanOrEqual(2);
      for (const line of lines) expect(line).toStartWith("⛔ web-1 fail2ban stopped");
    }
  });

  test("whose jails are all restarted goes on: unbans after that are unbans", () => {
    // As fail2ban 1.0.2 writes it for `fail2ban-client reload --restart`.
    const lines = [
      info("Reload all jails"),
      info("Stopping all jails"),
      unban("203.0.113.7"),
      unban("203.0.113.8"),
      info("Jail 'sshd' stopped"),
      info("Creating new jail 'sshd'"),
      info("Jail 'sshd' started"),
      info("Reload finished."),
      restore("203.0.113.7"),
      restore("203.0.113.8"),
      unban("203.0.113.7"),
    ];
    const events = [
      "🔄 web-1 fail2ban restarted: 1 jail, 2 bans restored",
      "🔓 **[sshd]** **UNBANNED** 203.0.113.7",
    ];
    expect(told(lines)).toEqual(events);
    expect(told(lines, { splits: [10] }).at(-1)).toBe(
      "🔓 web-1 **[sshd]** **UNBANNED** 203.0.113.7",
    );
  });

  test("what has no room is counted as all numbers are written", async () => {
    using scene = new Scene();
    scene.append(
      ...Array.from({ length: 2_000 }, (_, index) => ban("203.0.113.1", `jail-${index}`)),
    );
    await scene.pass(...EVENTS);
    expect(contents(scene)[0]).toMatch(/2,000 bans\*\* in 2,000 jails.*\n.* and 1,9\d\d more\n/);
  });

  test("stops with more bans than fit into a glance: in no pass they are unbans", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 3), info("Shutdown in progress..."), info("Stopping all jails"));
    for (let pass = 0; pass < 3; pass++) {
      scene.append(...addresses(900, `10.${pass}`).map((id) => unban(id)));
      await scene.pass(...EVENTS);
      scene.wait(MINUTE);
    }
    expect(contents(scene).join("\n")).not.toContain("UNBANNED");
    expect(contents(scene)).toHaveLength(3);
  });
});

test("a jail's last word is the last that is read", () => {
  const [started, stopped] = ["started", "stopped"].map((did) => `Jail 'sshd' ${did}`);
  const upAgain = [info(`${started}`), info(`${stopped}`), info(`${started}`)];
  expect(told(upAgain).at(-1)).toBe("✅ **[sshd]** jail started ×2");
  const downAgain = [info(`${stopped}`), info(`${started}`), info(`${stopped}`)];
  expect(told(downAgain).at(-1)).toBe("⛔ **[sshd]** jail stopped ×2");
});

// ── Failed actions ──────────────────────────────────────────────────────────────────────────────

describe("a failed action", () => {
  test("is said of the address that it failed for, not of the jail's last ban", () => {
    const log = [ban("203.0.113.7"), ban("203.0.113.8"), unban("203.0.113.7")];
    const lines = told([...log, failed("unban", "sshd", "'fid': 1")]);
    expect(lines.at(-1)).toContain("failed** at unban of 203.0.113.7");
  });

  test("of a ban that is restored does not stand in the line of the ban before", () => {
    for (const details of ["'ip': '203.0.113.7'", "'fid': 1"]) {
      const log = [ban("203.0.113.7"), info("Starting Fail2ban v1.1.0"), restore("203.0.113.7")];
      const lines = told([...log, failed("ban", "sshd", details)]);
      expect(lines[0]).not.toContain("failed");
      expect(lines.at(-1)).toContain("failed** at ban of 203.0.113.7");
    }
  });

  test("is not said of an address that an attacker wrote", () => {
    const log = [ban("203.0.113.8"), ban("203.0.113.7")];
    const attack = `'fid': 1, 'matches': "user 'ip': '203.0.113.8'"`;
    const lines = told([...log, failed("ban", "sshd", attack)]);
    expect(lines.filter((line) => line.includes("failed"))).toEqual([
      expect.stringContaining("**BANNED** 203.0.113.7"),
    ]);
  });

  test("is no failed ban where the firewall was repaired and another action failed after it", () => {
    // As fail2ban 1.0.2 writes it: what fails is tried again once the firewall's rules are back.
    const command = (text: string) => [
      says(`7f8d04404bd0 -- exec: ${text}`, "ERROR", "utils"),
      says("7f8d04404bd0 -- returned 1", "ERROR", "utils"),
    ];
    const log = (retried: string) => [
      ban("203.0.113.7"),
      ...command("nft add element 203.0.113.7"),
      ...command("nft list chain"),
      says(
        "Invariant check failed. Trying to restore a sane environment",
        "ERROR",
        "CommandAction",
      ),
      ...command(retried),
      failed("ban", "sshd", "'ip': '203.0.113.7'", "Error banning 203.0.113.7"),
    ];
    const repaired = told(log("curl https://example.org"));
    // Which of the commands failed for it the log does not say.
    expect(repaired[0]).toContain("**action `act` failed** · ");
    expect(repaired.join("\n")).not.toContain("NOT blocked");
    expect(repaired.join("\n")).toContain("Invariant check failed");
    expect(told(log("nft add element 203.0.113.7"))[0]).toContain("NOT blocked");
  });

  test("is no failed ban where another jail's ban stands between, whatever is shown", () => {
    const log = [
      ban("203.0.113.7"),
      says("Unable to restore environment", "CRITICAL", "CommandAction"),
      ban("203.0.113.8", "web"),
      failed("ban", "sshd", "'ip': '203.0.113.7'", "Error banning 203.0.113.7"),
    ];
    for (const shows of [view(), view("alert")]) {
      expect(told(log, { shows }).join("\n")).toContain("failed");
      expect(told(log, { shows }).join("\n")).not.toContain("NOT blocked");
    }
  });

  test("stands in its ban's line although alerts are not asked for, alone", () => {
    for (const name of ["failing-action.log", "failing-invariant.log"]) {
      const log = fixture(name);
      const all = told(log).filter((line) => line.startsWith("🔔"));
      for (let split = log.length; split > 1; split -= 7) {
        const only = told(log, { splits: [split], shows: view("ban") });
        for (const line of only) expect(line).toStartWith("🔔");
      }
      const only = told(log, { shows: view("ban") });
      expect(only.map((line) => line.replace(" web-1", ""))).toEqual(all);
    }
  });
});

// ── Form ────────────────────────────────────────────────────────────────────────────────────────

test("an address of which a part is an emoji's name stands in code", () => {
  expect(told([ban("2001:db8:100::1")])[0]).toContain("**BANNED** `2001:db8:100::1` · ");
  expect(told([unban("2001:db8:a:b::1")])[0]).toContain(" `2001:db8:a:b::1`");
});

describe("the last line", () => {
  test("is left out where there is nothing to say", () => {
    const log = ["fail2ban.actions [1]: NOTICE [sshd] Ban 203.0.113.7"];
    expect(footer(log)).toStartWith("🔔");
  });

  test("names the days where there are two", () => {
    const [early, late] = [ban("203.0.113.7"), ban("203.0.113.8")].map((line, day) =>
      line.replace(/^\S+ \S+/, `2026-11-2${day} 10:00:0${day},000`),
    );
    expect(footer([`${early}`, `${late}`])).toBe("-# 2026-11-20 10:00:00 to 2026-11-21 10:00:01");
    const undated = "Nov 20 10:00:00 web-1 fail2ban.actions[1]: NOTICE [sshd] Ban 203.0.113.1";
    expect(footer([undated, `${late}`])).toBe("-# 2026-11-20 10:00:00 to 2026-11-21 10:00:01");
  });
});

describe("on Slack", () => {
  test("every message names the host, also one that goes on with a list", async () => {
    using scene = new Scene();
    const slack = slackIn(scene);
    scene.append(...addresses(200).map((id) => says(`no rule for ${id}`, "ERROR")));
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
      scene.append(ban(`203.0.113.${length}`, jail));
      const details = `'ip': '203.0.113.${length}'`;
      const line = failed("ban", jail, details, "<&>".repeat(100));
      scene.append(line.replace("'act'", `'${"&".repeat(150)}'`));
    }
    await scene.pass(...EVENTS);
    for (const { content } of slack.messages) {
      for (const line of content.split("\n")) expect(line.split("`").length % 2).toBe(1);
    }
    expect(slack.violations).toEqual([]);
  });

  test("code is cut at its length after escaping, and not inside of a sign", () => {
    for (const sign of ["&", "<", "x"]) {
      const code = SLACK.markup.code(sign.repeat(400), 300);
      expect(code.length).toBeLessThanOrEqual(302);
      expect(code).toMatch(/^`(?:&amp;|&lt;|x)*…`$/);
    }
  });
});

// ── Notices ─────────────────────────────────────────────────────────────────────────────────────

describe("that lines may be missing", () => {
  test.each([EVENTS, ["--only", "ban"]])(
    "is told at once, also where what follows is not shown (%s %s)",
    async (...flags) => {
      using scene = new Scene();
      scene.append(...lines(1, 20));
      await scene.pass(...flags);
      scene.rotate();
      fs.rmSync(scene.path(".1"));
      scene.append(...lines(100, 200));
      await scene.pass(...flags);
      expect(contents(scene)).toEqual([expect.stringContaining("may be missing after line 20")]);
      scene.append(...lines(201, 202));
      await scene.pass(...flags);
      expect(contents(scene)).toHaveLength(1);
    },
  );

  test("is told once, also while words of an earlier pass are on their way", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 50));
    await scene.pass(...EVENTS);
    scene.append(...addresses(400).map((id) => says(`no rule for ${id}`, "ERROR")));
    scene.overrides.fetch = (url, init) => {
      if (scene.discord.messages.length === 1) scene.stop.abort();
      return scene.discord.fetch(url, init);
    };
    expect((await scene.run(...EVENTS)).code).toBe(75);
    Object.assign(scene.overrides, { stopping: new AbortController().signal });
    fs.truncateSync(scene.log, 2_000);
    for (let pass = 0; pass < 3; pass++) {
      scene.wait(MINUTE);
      await scene.pass(...EVENTS);
    }
    expect(contents(scene).filter((text) => text.includes("may be missing"))).toHaveLength(1);
  });
});

test("a log that rotates while nothing is worth a message is not said to be stuck", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 5));
  await scene.pass(...EVENTS);
  for (let day = 0; day < 3; day++) {
    scene.append(...lines(day * 10 + 10, day * 10 + 15));
    scene.rotate();
    await scene.pass(...EVENTS);
    scene.wait(24 * 60 * MINUTE);
  }
  expect(contents(scene)).toEqual([]);
});

test("a rotated file is not unpacked for lines without a ban", async () => {
  using scene = new Scene();
  scene.append(found("203.0.113.7"));
  scene.rotate();
  scene.compress(".1");
  scene.append(found("203.0.113.8"));
  await scene.pass(...EVENTS);
  const opened: string[] = [];
  const openSync: typeof fs.openSync = (path, ...rest) => {
    opened.push(String(path));
    return fs.openSync(path, ...rest);
  };
  scene.withFs({ openSync });
  scene.append(found("203.0.113.7"));
  await scene.pass(...EVENTS);
  expect(opened.join()).not.toContain("unpacked");
  scene.append(ban("203.0.113.7"));
  await scene.pass(...EVENTS);
  expect(opened.join()).toContain("unpacked");
  expect(contents(scene)[0]).toContain("after 2 failed attempts logged");
});

// ── Floods ──────────────────────────────────────────────────────────────────────────────────────

describe("a flood", () => {
  const burst = fixture("attack-burst.log");

  test("counts what is shown, and nothing else", async () => {
    using scene = new Scene();
    scene.append(...burst);
    await scene.pass("--only", "ban", "--jail", "nginx-http-auth", "--inline", "2");
    const [{ content = "", files: [file] = [] } = {}] = scene.discord.messages;
    expect(content).toContain("**91 lines**");
    expect(content).toMatch(/^\*\*\[nginx-http-auth\]\*\* 91 bans$/m);
    expect(content).not.toContain("sshd");
    expect(file?.text.split("\n")).toHaveLength(92);
  });

  test("with a refused line in it is halved down to that line, whatever is not shown", async () => {
    using scene = new Scene();
    scene.append(...burst);
    const bans = burst.filter((line) => line.includes("] Ban "));
    const poison = bans[100] ?? "";
    scene.discord.refuseContent((content) => content.includes(poison));
    expect((await scene.run("--only", "ban", "--inline", "3")).code).toBe(0);
    const sent = scene.discord.messages.flatMap(({ files }) => files.map(({ text }) => text));
    expect(sent.join("").split("\n").slice(0, -1)).toEqual(bans.filter((line) => line !== poison));
    expect(scene.discord.requests.length).toBeLessThan(30);
    await scene.pass("--only", "ban", "--inline", "3");
  });

  test("that may have arrived is marked when it comes again, and nothing behind it", async () => {
    using scene = new Scene();
    scene.append(...burst);
    scene.overrides.fetch = async (url, init) => {
      await scene.discord.fetch(url, init);
      scene.stop.abort();
      throw new DOMException("", "TimeoutError");
    };
    expect((await scene.run("--inline", "20")).code).toBe(75);
    delete scene.overrides.fetch;
    Object.assign(scene.overrides, { stopping: new AbortController().signal });
    const seen = contents(scene).length;
    for (let pass = 0; pass < 2; pass++) {
      scene.wait(20 * MINUTE);
      expect((await scene.run("--inline", "20")).code).toBe(0);
      scene.append(found("203.0.113.7"));
    }
    const marks = contents(scene).map((text) => text.startsWith("(resent)"));
    expect(marks.slice(seen)).toEqual([true, false]);
  });
});
