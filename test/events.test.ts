/** What people are told of a log: what happened, in words. */
import { describe, expect, test } from "bun:test";
import { DISCORD, SLACK } from "../f2b-watch.ts";
import { casesOf, clock, failed, fixture, log, read, says, short, told, view } from "./events.ts";
import { dice } from "./histories.ts";

test.each(casesOf("events.txt"))("%s", (_, { entries, behind }) => {
  const set = (name: string) => behind(`@ ${name} `)[0] ?? "";
  clock.seconds = 0;
  const lines = set("log") ? fixture(set("log")) : log(...entries);
  const splits = set("runs").split(",").filter(Boolean).map(Number);
  const reading = { splits, shows: view(set("only"), set("jail")) };
  expect(short(lines, reading)).toEqual(behind("> "));
  for (const last of behind("@ last ")) expect(String(read(lines, reading).at(-1))).toBe(last);
});

const markup = SLACK.markup;
const BANNED = "🔔 [sshd] BANNED .7";

test("a ban has bell, host, jail, address, failures, a link without preview and the way back", () => {
  const lines = log("found .7", "found .7", "ban .7");
  const text = "203.0.113.7 after 2 failed attempts logged";
  expect(told(lines)).toEqual([
    `🔔 web-1 **[sshd]** **BANNED** ${text} · ` +
      "[db-ip.com](<https://db-ip.com/203.0.113.7>) · `fail2ban-client unban 203.0.113.7`",
  ]);
  expect(told(lines, { style: { markup } })).toEqual([
    `🔔 web-1 *[sshd]* *BANNED* ${text} · ` +
      "<https://db-ip.com/203.0.113.7|db-ip.com> · `fail2ban-client unban 203.0.113.7`",
  ]);
});

describe("a ban", () => {
  test("of an id that is no address has neither link nor command", () => {
    for (const id of [
      ...["localhost", "not an ip", "1.2.3.4.5", "fe80::1%eth0", "203.0.113.0/33", "203.0.113"],
      ...["2001:db8::/129", "203.0.113.7 ", "abc", "1/2"],
    ]) {
      const [line] = told([says(`[sshd] Ban ${id}`)]);
      expect(line).toBe(`🔔 web-1 **[sshd]** **BANNED** \`${id}\``);
    }
    for (const id of ["192.0.2.0/24", "2001:db8::/48", "2001:db8::7"]) {
      const [address] = id.split("/");
      const [line] = told(log(`ban ${id}`));
      expect(line).toEndWith(`(<https://db-ip.com/${address}>) · \`fail2ban-client unban ${id}\``);
    }
  });

  test.each([
    "**bold**",
    "`code`",
    "``` @everyone",
    "<@123> [x](https://evil.example)",
    "_i_ ~~s~~",
  ])("of the id %s cannot leave its inline code", (id) => {
    const [line = ""] = told([says(`[sshd] Ban ${id}`)]);
    expect(line.match(/`/g)?.length).toBe(2);
    expect(line.replace(/`[^`]*`/, "")).toBe("🔔 web-1 **[sshd]** **BANNED** ");
  });

  test("leads where --link says, and nowhere for none", () => {
    const ended = (link: string) => told(log("ban 2001:db8::7"), { style: { link } })[0];
    expect(ended("https://example.org/whois/{ip}?full")).toContain(
      " · [example.org](<https://example.org/whois/2001:db8::7?full>) · `fail2ban-client",
    );
    expect(ended("")).toEndWith("**BANNED** 2001:db8::7 · `fail2ban-client unban 2001:db8::7`");
  });

  test("is said with what fail2ban's database and the map of countries know of it alone", () => {
    const lines = log("found .7", "ban .7", "ban .7");
    const users = ["root", "`@everyone`", "x".repeat(500), ..."01".repeat(45)];
    const known = (time: string) => (lines[1]?.startsWith(time) ? { count: 3, users } : undefined);
    const tried =
      "`root`, `ˋ@everyoneˋ`, `" + "x".repeat(31) + "…`, `0`, `1`, `0`, `1`, `0`, `1` and 84 more";
    expect(short(lines, { known })).toEqual([
      `${BANNED} 🇳🇱 NL after 5 failed attempts, 3rd ban, for 10 min · tried ${tried}`,
      `${BANNED} 🇳🇱 NL`,
    ]);
    const [slack] = told(log("ban .7"), {
      known: () => ({ users: ["<!here>"] }),
      style: { markup },
    });
    expect(slack).toContain("tried `&lt;!here&gt;` · ");
  });
});

describe("many", () => {
  const ids = Array.from({ length: 40 }, (_, index) => `203.0.113.${index}`);
  const all = (verb: string, some: readonly string[]) => log(...some.map((id) => `${verb} ${id}`));

  test("bans are a list by jail, with every address", () => {
    const lines = told([...all("ban", [...ids, ".1"]), ...log("ban 198.51.100.1 @web")]);
    expect(lines[0]).toBe("🔔 web-1 **42 bans** in 2 jails");
    expect(lines[1]).toStartWith(
      "**[sshd]** 41: 203.0.113.0/24 ×41 (203.0.113.1 ×2, 203.0.113.0, 203.0.113.2,",
    );
    const text = lines.join("\n");
    for (const id of ids) expect(text).toMatch(new RegExp(`\\b${RegExp.escape(id)}[, )]`));
    expect(lines.at(-1)).toBe("**[web]** 1: 198.51.100.1");
    for (const line of lines) expect(line.length).toBeLessThan(400);
  });

  const hostOf = (index: number) => `10.${index % 7}.${index >> 8}.${index & 255}`;
  const hosts = Array.from({ length: 900 }, (_, index) => hostOf(index));
  const more = ["10.3.0.3", "2001:db8::1", "2001:db8::2"];

  test.each(["file", "summary"] as const)("bans beyond a message are counts (%s)", (overflow) => {
    const lines = told(all("ban", [...hosts, ...more]), { style: { overflow } });
    const file = overflow === "file" ? ", all of them in the file" : "";
    expect(lines[0]).toBe(`🔔 web-1 **903 bans** in 1 jail${file}`);
    expect(lines[1]).toBe("**[sshd]** 903");
    expect(lines[2]).toMatch(/^busiest networks: 10\.\d\.\d\.0\/24 ×\d+, .*2001:db8::\/64 ×2/);
    expect(lines[3]).toMatch(/^addresses: 10\.3\.0\.3 ×2, 10\.0\.0\.0, .* and 8\d\d more$/);
    expect(lines.join("\n").length).toBeLessThan(1_900);
  });

  test("bans that failed are told apart from those that do not fit", () => {
    const lines = [...all("ban", hosts), ...log("ban .7", "failed .7 nft: no such table")];
    expect(short(lines, { style: { overflow: "summary" } }).at(-1)).toBe(
      `${BANNED} · ⚠️ action \`nft\` failed: \`no such table\``,
    );
  });

  test("bans that failed alike are a group with its reason, and no address is left out", () => {
    const some = ids.slice(0, 30);
    const curl = (id: string) => `run curl https://notify.example/${id} -- returned 6`;
    const all = some.map((id) => `ban ${id}; ${curl(id)}; failed ${id} hook: Error banning ${id}`);
    const lines = told(log(...all));
    expect(lines[0]).toBe(
      "🔔 web-1 **30 bans** in 1 jail · ⚠️ **action `hook` failed**: `returned 6`",
    );
    const list = lines.slice(1).join(" ");
    for (const id of some) expect(list).toMatch(new RegExp(`\\b${RegExp.escape(id)}[,)]`));
  });
});

describe("the server", () => {
  const restarted = fixture("restart-restore.log");
  test("restarted is one line, whatever it lifts and restores", () => {
    const from = restarted.findIndex((line) => line.includes("Shutdown in progress"));
    const to = restarted.findLastIndex((line, at) => /Restore Ban/.test(line) && at < from + 120);
    const lines = short(restarted.slice(from, to + 1)).filter((line) => line.includes("fail2ban"));
    expect(lines[0]).toBe("🔄 fail2ban 1.0.2 restarted: 2 jails, 24 bans restored");
    expect(short(restarted).join("\n")).not.toContain("♻️");
  });

  test("wherever runs come: it crashed when it was killed alone, and nobody is let in", () => {
    for (let split = 1; split < restarted.length; split++) {
      const lines = short(restarted, { splits: [split] });
      const crashes = lines.filter((line) => line.includes("after a crash"));
      const unbans = lines.filter((line) => line.includes("UNBANNED"));
      expect({ split, crashes: crashes.length, unbans }).toEqual({
        ...{ split, crashes: 1 },
        unbans: ["🔓 [sshd] UNBANNED .3"],
      });
    }
    const killedAt = restarted.findLastIndex((line) => line.includes("Starting Fail2ban"));
    const before = short(restarted.slice(0, killedAt), { splits: [1, 157, 159] });
    expect(before.join("\n")).not.toContain("after a crash");
  });

  test("tells of its way down in a line, also where the run before has told that it stops", () => {
    const from = restarted.findIndex((line) => line.includes("Shutdown in progress"));
    const to = restarted.findIndex((line) => line.includes("Exiting Fail2ban")) + 1;
    for (let split = from + 1; split < to; split++) {
      const lines = told(restarted.slice(0, to), { splits: [from, split] });
      const down = lines.filter((line) => /⛔|♻️/.test(line));
      expect(down.length).toBeLessThanOrEqual(2);
      for (const line of down) expect(line).toStartWith("⛔ web-1 fail2ban stopped");
    }
  });
});

test("a failed action stands in its ban's line although alerts are not asked for, alone", () => {
  for (const name of ["failing-action.log", "failing-invariant.log"]) {
    const lines = fixture(name);
    for (let split = lines.length; split > 1; split -= 7) {
      const only = told(lines, { splits: [split], shows: view("ban") });
      for (const line of only) expect(line).toStartWith("🔔");
    }
    const bans = short(lines).filter((line) => line.startsWith("🔔"));
    expect(short(lines, { shows: view("ban") })).toEqual(bans);
  }
});

test("an exception says what was raised, whatever its message is cut to", () => {
  const lines = log(
    `ERROR [sshd] unhandled error in actions thread: ${"x".repeat(500)}`,
    ...["| Traceback (most recent call last):; |   File ...; | KeyError: 'ip'; | more"],
  );
  expect(told(lines)[0]).toEndWith("x… KeyError: 'ip'`");
});

test("on Slack code is cut at its length after escaping, and not inside of a sign", () => {
  for (const sign of ["&", "<", "x"]) {
    const code = markup.code(sign.repeat(400), 300);
    expect(code.length).toBeLessThanOrEqual(302);
    expect(code).toMatch(/^`(?:&amp;|&lt;|x)*…`$/);
  }
  expect(told(log("ban .7 @<!here>"), { style: { markup } })[0]).toContain("`&lt;!here&gt;`");
});

test("whatever an attacker writes, a line fits a message and nothing in it is left open", () => {
  const nasty = ["`", "```", "@everyone", "<!here>", "&".repeat(400), "x".repeat(3_000), "[a](b)"];
  const random = dice(7);
  const roll = (sides: number) => Math.floor(random() * sides);
  const text = () => Array.from({ length: 1 + roll(3) }, () => nasty[roll(nasty.length)]).join("");
  const jail = () => text().replaceAll("]", "");
  const writers = [
    () => says(`[${jail()}] Ban ${text()}`),
    () => says(`[sshd] Unban ${text()}`),
    () => says(`[${jail()}] Restore Ban ${text()}`),
    () => says(`[sshd] ${text()} already banned`, "WARNING"),
    () => says(text(), "ERROR"),
    () => says(`Jail '${text()}' started`, "INFO"),
    () => says(`Starting Fail2ban v${text()}`, "INFO"),
    () => failed("ban", "sshd", "'ip': '203.0.113.7'", `${text().replaceAll("'", "")}: ${text()}`),
    () => says("[sshd] Ban 203.0.113.7"),
    () => says(`[sshd] Increase Ban ${text()} (2 # ${text()} -> x)`),
  ];
  for (let round = 0; round < 150; round++) {
    const writeLine = () => writers[roll(writers.length)]?.() ?? "";
    const lines = Array.from({ length: 1 + roll(60) }, writeLine);
    const users = Array.from({ length: 9 }, text);
    const link = `https://example.org/${"x".repeat(250)}/{ip}`;
    for (const markup of [DISCORD.markup, SLACK.markup])
      for (const overflow of ["file", "summary", "none"] as const) {
        const reading = { known: () => ({ users }), style: { markup, link, overflow } };
        for (const line of told(lines, reading)) {
          expect(line.length).toBeLessThan(1_900);
          expect(line.split("`").length % 2).toBe(1);
        }
      }
  }
});

test("lines of 5 MB, thousands of jails and thousands of failed actions take no long time", () => {
  const long = "x".repeat(5_000_000);
  const lines = [
    ...log(`ban ${long}; ban .7 @${"j".repeat(190)}; warned ${long}; run ${long} -- returned 1`),
    ...Array.from({ length: 3_000 }, (_, index) => {
      const id = `10.1.${index >> 8}.${index & 255}`;
      return log(
        ...[`ban ${id} @jail-${index}; run nft add ${id} -- returned 1`],
        "ERROR Invariant check failed. Trying to restore a sane environment",
        `failed ${id} @jail-${index} nft: Error banning ${id}`,
      );
    }).flat(),
  ];
  const before = performance.now();
  const all = told(lines, { style: { overflow: "file" } });
  expect(performance.now() - before).toBeLessThan(10_000);
  for (const line of all) expect(line.length).toBeLessThan(1_900);
});
