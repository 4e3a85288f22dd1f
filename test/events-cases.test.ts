/** What went wrong elsewhere, line by line as it was reported, and what people must be told instead. */
import { describe, expect, test } from "bun:test";
import { DISCORD, SLACK } from "../f2b-watch.ts";
import { dice } from "./histories.ts";
import {
  ban,
  clock,
  contents,
  EVENTS,
  fixture,
  found,
  info,
  restore,
  says,
  told,
  unban,
  view,
} from "./events.ts";
import { Scene } from "./harness.ts";

const command = (process: string, text: string, ...ends: string[]) =>
  [`exec: ${text}`, ...ends].map((end) => says(`${process} -- ${end}`, "ERROR", "utils"));
const failed = (jail: string, action: string, id: string, why = `Error banning ${id}`) =>
  says(
    `Failed to execute ban jail '${jail}' action '${action}' info 'ActionInfo({'ip': '${id}', 'family': 'inet4'})': ${why}`,
    "ERROR",
  );
const again = (id: string, level: string, jail = "sshd") =>
  says(`[${jail}] ${id} already banned`, level);
const later = (seconds: number) => void (clock.seconds += seconds);

describe("why an action failed", () => {
  test("stands with its own ban, although two jails fail within a second", () => {
    const [sshd, web, ...more] = told(fixture("cases/interleaved-failures.log"));
    expect(more).toEqual([]);
    expect(sshd).toContain(
      "[sshd]** **BANNED** 203.0.113.7 · ⚠️ **action `notify` failed**: `curl: (6) Could not resolve",
    );
    expect(web).toContain(
      "[web]** **BANNED** 203.0.113.8 · ⚠️ **action `nftables` failed**: `Error: Could not process",
    );
  });

  test("is left out where commands for one address may be either jail's", () => {
    const log = [
      ...[ban("203.0.113.7"), ban("203.0.113.7", "web")],
      ...command("7f01", "curl https://notify.example/203.0.113.7", "returned 6"),
      ...command("7f02", "nft add element 203.0.113.7", "returned 1"),
      ...[failed("sshd", "notify", "203.0.113.7"), failed("web", "nft", "203.0.113.7")],
    ];
    const lines = told(log);
    expect(lines[0]).toContain("**action `notify` failed** · ");
    expect(lines[1]).toContain("**action `nft` failed** · ");
    expect(lines.slice(2)).toEqual([
      "⚠️ `curl https://notify.example/203.0.113.7 returned 6`",
      "⚠️ `nft add element 203.0.113.7 returned 1`",
    ]);
  });

  test("is found where the command has the jail in its chain's or set's name", () => {
    const log = [
      ...[ban("203.0.113.7"), ban("203.0.113.7", "web")],
      ...command("7f01", "iptables -I f2b-web 1 -s 203.0.113.7", "returned 4"),
      ...command("7f02", "nft add element addr-set-sshd { 203.0.113.7 }", "returned 1"),
      ...[failed("sshd", "nft", "203.0.113.7"), failed("web", "iptables", "203.0.113.7")],
    ];
    const lines = told(log);
    expect(lines).toHaveLength(2);
    expect(lines[0]).toContain("**action `nft` failed**: `returned 1`");
    expect(lines[1]).toContain("**action `iptables` failed**: `returned 4`");
  });

  test.each([
    ["203.0.113.7", "curl https://notify.example/?ip=203.0.113.77"],
    ["203.0.113.7", "curl https://notify.example/?ip=1.203.0.113.7"],
    ["2001:db8::7", "curl https://notify.example/?ip=2001:db8::7:1"],
    ["2001:db8::7", "curl https://notify.example/?ip=a:2001:db8::7"],
  ])("of %s is not that of `%s`", (id, text) => {
    const log = [ban(id), ban("198.51.100.1", "web"), ...command("7f01", text, "returned 1")];
    const lines = told([...log, failed("sshd", "act", id)]);
    expect(lines[0]).toContain("**action `act` failed** · ");
    expect(lines.at(-1)).toContain("returned 1");
  });

  test("needs no name where no other jail can have run a command", () => {
    const log = (pause: number) => {
      const other = ban("198.51.100.1", "web");
      later(pause);
      const ran = command("7f01", "/bin/false", "returned 1");
      return told([other, ban("203.0.113.7"), ...ran, failed("sshd", "act", "203.0.113.7")]);
    };
    expect(log(600)[1]).toContain("**action `act` failed**: `returned 1`");
    expect(log(10)[1]).toContain("**action `act` failed** · ");
  });

  test("goes with the line that 0.10 logs at level 39, and with a command of many lines", () => {
    const lines = [
      ban("203.0.113.7"),
      ...command("7f01", "nft -f - <<EOT", "returned 1").flatMap((line, index) =>
        index === 0 ? [line, "add element { 203.0.113.7 }", "EOT"] : [line],
      ),
      failed("sshd", "nft", "203.0.113.7"),
    ];
    expect(told(lines)[0]).toContain("**action `nft` failed**: `returned 1`");
  });

  test("is found where 0.9 repeats the command, of one line or of many, and names no process", () => {
    const repeated = (text: string, error: string, returned: number) =>
      [`stdout: b''`, `stderr: b"${error}"`, `returned ${returned}`].flatMap((end) =>
        says(`${text} -- ${end}`, "ERROR", "action").split("\n"),
      );
    const ofBan = (id: string) =>
      repeated(`iptables -w -I f2b-sshd 1 -s ${id} -j DROP`, "no chain", 1);
    const info = "CallingMap({'failures': 3})";
    const start = "iptables -w -N f2b-web\niptables -w -I INPUT -p all --dports http -j f2b-web";
    const lines = told([
      ...repeated(start, "multiport needs -p tcp\\nTry --help\\n", 2),
      says(
        "Failed to start jail 'web' action 'iptables-multiport': Error starting action",
        "ERROR",
      ),
      ban("203.0.113.7"),
      ...ofBan("203.0.113.7"),
      says(
        `Failed to execute ban jail 'sshd' action 'iptables' info '${info}': Error banning`,
        "ERROR",
      ),
      unban("203.0.113.7"),
      ban("203.0.113.7"),
      ...ofBan("203.0.113.7"),
      says(
        `Failed to execute ban jail 'sshd' action 'iptables' info '${info}': Error banning`,
        "ERROR",
      ),
    ]);
    expect(lines).toEqual([
      expect.stringContaining(
        "failed** at start: `multiport needs -p tcp\\nTry --help\\n (returned 2)`",
      ),
      expect.stringContaining("**action `iptables` failed**: `no chain (returned 1)`"),
      expect.stringContaining("UNBANNED"),
      expect.stringContaining("**action `iptables` failed**: `no chain (returned 1)`"),
    ]);
  });

  test("is said of a group of bans that failed alike, and no address is left out", () => {
    const ids = Array.from({ length: 30 }, (_, index) => `198.51.100.${index}`);
    const log = ids.flatMap((id) => [
      ban(id),
      ...command("7f01", `curl https://notify.example/${id}`, "returned 6"),
      failed("sshd", "notify", id),
    ]);
    const lines = told(log);
    expect(lines[0]).toStartWith(
      "🔔 web-1 **[sshd]** 30 bans · ⚠️ **action `notify` failed**: `returned 6`: 198.51.100.0, ",
    );
    const list = lines.slice(1).join(" ");
    for (const id of ids) expect(list).toMatch(new RegExp(`\\b${RegExp.escape(id)}[,)]`));
  });
});

describe("NOT blocked", () => {
  test("is a ban whose command never ran, because the rules could not be restored (0.10)", () => {
    const lines = told(fixture("cases/not-blocked-0.10.log"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain("203.0.113.9 after 1 failed attempt logged, but 🚨 **NOT blocked**");
    expect(lines[0]).toContain(
      "**action `iptables-allports` failed**: `iptables: No chain/target/match by that name.",
    );
  });

  test("is one whose action could not be stopped as 0.9 words it", () => {
    const info = "CallingMap({'failures': 3, 'ip': '203.0.113.7'})";
    const log = [
      ban("203.0.113.7"),
      says("Invariant check failed. Trying to restore a sane environment", "ERROR"),
      says(
        `Failed to execute ban jail 'sshd' action 'iptables' info '${info}': Error stopping action`,
        "ERROR",
      ),
    ];
    const [line, ...more] = told(log);
    expect(line).toContain("203.0.113.7, but 🚨 **NOT blocked** · ⚠️ **action `iptables` failed**");
    expect(more).toEqual([]);
  });

  test("is none whose action could not be stopped where no check had failed", () => {
    const why = "Error stopping action Jail('sshd')/act: 'Script error'";
    const lines = told([ban("203.0.113.7"), failed("sshd", "act", "203.0.113.7", why)]);
    expect(lines.join("\n")).not.toContain("NOT blocked");
    expect(lines[0]).toContain(`\`${why}\``);
  });

  test("is none whose jail's chain the failed check did not look at", () => {
    const log = [
      ...[ban("203.0.113.7"), ban("203.0.113.8", "web")],
      ...command("7f01", "iptables -n -L | grep -q 'f2b-web[ \\t]'", "returned 1"),
      says("Invariant check failed. Trying to restore a sane environment", "ERROR"),
      says("Unable to restore environment", "CRITICAL"),
      failed("sshd", "notify", "203.0.113.7"),
    ];
    expect(told(log).join("\n")).not.toContain("NOT blocked");
  });
});

test("an exception says what was raised", () => {
  const raised = "InterfaceError: Error binding parameter 3 - probably unsupported type.";
  expect(told(fixture("cases/traceback.log"))).toEqual([
    `⚠️ web-1 \`CRITICAL Unhandled exception in Fail2Ban: ${raised}\``,
  ]);
  const long = says(`[sshd] unhandled error in actions thread: ${"x".repeat(500)}`, "ERROR");
  const traceback = ["Traceback (most recent call last):", "  File ...", "KeyError: 'ip'", "more"];
  expect(told([long, ...traceback])[0]).toEndWith("x… KeyError: 'ip'`");
});

describe("a ban that does not work", () => {
  const line = "the ban does not work: 203.0.113.9 is banned in **[hass]** and still gets through";

  test("is told once, with how often the address came again", () => {
    const lines = told(fixture("cases/already-banned.log"));
    expect(lines.slice(1)).toEqual([`⚠️ ${line} (2 more attempts)`]);
    const alerts = told(fixture("cases/already-banned.log"), { shows: view("alert") });
    expect(alerts).toEqual([`⚠️ web-1 ${line} (2 more attempts)`]);
    expect(told(fixture("cases/already-banned.log"), { shows: view("ban") })).toHaveLength(1);
  });

  test("is told where the ban was in a run before, or where only fail2ban's level says so", () => {
    const log = fixture("cases/already-banned.log");
    expect(told(log, { splits: [2] })[1]).toBe(`⚠️ web-1 ${line} (2 more attempts)`);
    expect(told(log.slice(3))).toEqual([`⚠️ web-1 ${line} (2 more attempts)`]);
  });

  test("is none within the first minute, or after a restore: fail2ban's queue says it then, too", () => {
    expect(told([ban("203.0.113.9"), again("203.0.113.9", "NOTICE")])).toHaveLength(1);
    expect(told([restore("203.0.113.9"), again("203.0.113.9", "WARNING")])).toHaveLength(1);
    expect(told([again("203.0.113.9", "NOTICE")])).toEqual([]);
    const banned = ban("203.0.113.9");
    later(58);
    const soon = again("203.0.113.9", "NOTICE");
    expect(told([banned, soon])).toHaveLength(1);
    expect(told([banned, soon, again("203.0.113.9", "NOTICE")])).toHaveLength(2);
  });

  test("of many addresses is a line a jail, the busiest first", () => {
    const ids = Array.from({ length: 20 }, (_, index) => `198.51.100.${index}`);
    const bans = ids.map((id) => ban(id));
    later(60);
    const lines = told(
      [...bans, ...ids, "198.51.100.9"].map((id) => (id.length < 20 ? again(id, "WARNING") : id)),
    );
    expect(lines.at(-1)).toStartWith(
      "⚠️ the ban does not work: 20 addresses are banned in **[sshd]** and still get through (21 more attempts): 198.51.100.9 ×2, 198.51.100.0, ",
    );
  });
});

describe("what fail2ban's database and the map of countries know", () => {
  const known = (line: string, facts: object) => ({
    known: (time: string) => (line.startsWith(time) ? facts : undefined),
  });

  test("stands in the ban's line, instead of what the log has", () => {
    const line = ban("203.0.113.7");
    const log = [found("203.0.113.7"), line];
    const [text] = told(log, known(line, { count: 3 }));
    expect(text).toStartWith(
      "🔔 web-1 **[sshd]** **BANNED** 203.0.113.7 🇳🇱 NL after 5 failed attempts, 3rd ban, for 10 min · ",
    );
  });

  test("is not said of another ban of that address", () => {
    const line = ban("203.0.113.7");
    const [text] = told([ban("203.0.113.7")], known(line, {}));
    expect(text).toContain("203.0.113.7 🇳🇱 NL · ");
  });

  test("the user names stand in code, cut, and no more than a few", () => {
    const line = ban("203.0.113.7");
    const users = [
      "root",
      "`@everyone`",
      "x".repeat(500),
      ...Array.from({ length: 14 }, (_, index) => `${index}`),
    ];
    const [text = ""] = told([line], known(line, { users }));
    expect(text).toContain(
      ` · tried \`root\`, \`ˋ@everyoneˋ\`, \`${"x".repeat(31)}…\`, \`0\`, \`1\` and 12 more · `,
    );
    const [slack = ""] = told([line], {
      ...known(line, { users: ["<!here>"] }),
      markup: SLACK.markup,
    });
    expect(slack).toContain("tried `&lt;!here&gt;` · ");
  });
});

describe("a ban's length", () => {
  test.each([
    ["banTime: 600", "for 10 min"],
    ["banTime: 604800", "for 1 week"],
    ["banTime: 5400", "for 1 h 30 min"],
    ["banTime: 172800", "for 2 days"],
    ["banTime: -1", "permanently"],
  ])("is known from the jail's settings: %s", (setting, text) => {
    const settings = [
      info("Creating new jail 'sshd'"),
      info(setting),
      info("Creating new jail 'x'"),
    ];
    expect(told([...settings, ban("203.0.113.7")])[0]).toContain(`203.0.113.7 ${text} · `);
    // Also where they were written before an earlier run.
    const bans = [ban("203.0.113.7"), ban("203.0.113.8")];
    const lines = told([...settings, ...bans], { splits: [4] });
    expect(lines[1]).toContain(`203.0.113.8 ${text} · `);
  });

  test.each([
    ["24s", "for 24 s"],
    ["0:00:24", "for 24 s"],
    ["1 day, 0:00:00", "for 1 day"],
    ["2w 3d", "for 2 weeks 3 days"],
    ["1y", "for 1 year"],
    ["permanent", "permanently"],
  ])("is people's words for fail2ban's %s", (length, text) => {
    const increase = says(
      `[sshd] Increase Ban 203.0.113.7 (12 # ${length} -> 2026-11-22 10:32:26)`,
    );
    expect(told([ban("203.0.113.7"), increase])[0]).toContain(`, 12th ban, ${text} · `);
  });
});

test("where --link leads, and that none leads nowhere", () => {
  const link = "https://example.org/whois/{ip}?full";
  expect(told([ban("2001:db8::7")], { style: { link } })[0]).toContain(
    " · [example.org](<https://example.org/whois/2001:db8::7?full>) · `fail2ban-client",
  );
  const [none] = told([ban("2001:db8::7")], { style: { link: "" } });
  expect(none).toContain("**BANNED** 2001:db8::7 · `fail2ban-client unban 2001:db8::7`");
});

describe("more bans than fit a message", () => {
  const ids = Array.from(
    { length: 900 },
    (_, index) => `10.${index % 7}.${index >> 8}.${index & 255}`,
  );
  const log = [
    ...ids.map((id) => ban(id)),
    ban(`${ids[3]}`),
    ban("2001:db8::1"),
    ban("2001:db8::2"),
  ];

  test.each(["file", "summary"] as const)(
    "are counts, the busiest, and a number (%s)",
    (overflow) => {
      const lines = told(log, { style: { overflow } });
      const file = overflow === "file" ? ", all of them in the file" : "";
      expect(lines[0]).toBe(`🔔 web-1 **903 bans** in 1 jail${file}`);
      expect(lines[1]).toBe("**[sshd]** 903");
      expect(lines[2]).toMatch(/^busiest networks: 10\.\d\.\d\.0\/24 ×\d+, .*2001:db8::\/64 ×2/);
      expect(lines[3]).toMatch(/^addresses: 10\.3\.0\.3 ×2, 10\.0\.0\.0, .* and 8\d\d more$/);
      expect(lines.join("\n").length).toBeLessThan(1_900);
    },
  );

  test("are told apart from those that failed", () => {
    const bad = [ban("203.0.113.7"), failed("sshd", "nft", "203.0.113.7", "no such table")];
    const lines = told([...log, ...bad], { style: { overflow: "summary" } });
    expect(lines.at(-1)).toContain("**BANNED** 203.0.113.7 · ⚠️ **action `nft` failed**: `no such");
  });
});

test("unbans, restores and what a jail's stop lifts are said in people's words", () => {
  const stop = [unban("203.0.113.7"), info("Jail 'sshd' stopped")];
  expect(told(stop)[0]).toBe("♻️ web-1 **[sshd]** unbanned (jail stopped): 203.0.113.7");
  expect(told([restore("203.0.113.7")])).toEqual(["♻️ web-1 **[sshd]** ban restored: 203.0.113.7"]);
  const many = Array.from({ length: 5 }, (_, index) => unban(`203.0.113.${index}`));
  expect(told([...many, info("Jail 'sshd' stopped")])[0]).toBe(
    "♻️ web-1 **5 unbanned (jail stopped)**: **[sshd]** 5",
  );
  expect(told(many, { shows: view("unban") })[0]).toBe("🔓 web-1 **5 unbanned**: **[sshd]** 5");
});

test("whatever an attacker writes, a line fits a message and nothing in it is left open", () => {
  const nasty = ["`", "```", "@everyone", "<!here>", "&".repeat(400), "x".repeat(3_000), "[a](b)"];
  const random = dice(7);
  const roll = (sides: number) => Math.floor(random() * sides);
  const text = () => Array.from({ length: 1 + roll(3) }, () => nasty[roll(nasty.length)]).join("");
  const writers = [
    () => ban(text(), text().replaceAll("]", "")),
    () => unban(text()),
    () => restore(text(), text().replaceAll("]", "")),
    () => again(text(), "WARNING"),
    () => says(text(), "ERROR"),
    () => says(`Jail '${text()}' started`, "INFO"),
    () => info(`Starting Fail2ban v${text()}`),
    () => failed("sshd", text().replaceAll("'", ""), "203.0.113.7", text()),
    () => ban("203.0.113.7"),
    () => says(`[sshd] Increase Ban ${text()} (2 # ${text()} -> x)`),
  ];
  for (let round = 0; round < 150; round++) {
    const log = Array.from({ length: 1 + roll(60) }, () => writers[roll(writers.length)]?.() ?? "");
    const users = Array.from({ length: 9 }, text);
    const known = () => ({ users });
    const link = `https://example.org/${"x".repeat(250)}/{ip}`;
    for (const markup of [DISCORD.markup, SLACK.markup])
      for (const overflow of ["file", "summary", "none"] as const)
        for (const line of told(log, { markup, known, style: { link, overflow } })) {
          expect(line.length).toBeLessThan(1_900);
          expect(line.split("`").length % 2).toBe(1);
        }
  }
});

test("lines of 5 MB, thousands of jails and thousands of failed actions take no long time", () => {
  const long = "x".repeat(5_000_000);
  const ids = Array.from({ length: 3_000 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
  const log = [
    ...[ban(long), ban("203.0.113.7", "j".repeat(190)), again(long, "WARNING")],
    ...command("7f01", long, "returned 1"),
    ...ids.flatMap((id, index) => [
      ban(id, `jail-${index}`),
      ...command(`7f${index}`, `nft add ${id}`, "returned 1"),
      says("Invariant check failed. Trying to restore a sane environment", "ERROR"),
      failed(`jail-${index}`, "nft", id),
    ]),
  ];
  const before = performance.now();
  const lines = told(log, { style: { overflow: "file" } });
  expect(performance.now() - before).toBeLessThan(10_000);
  for (const line of lines) expect(line.length).toBeLessThan(1_900);
});

describe("over several runs", () => {
  const run = (scene: Scene) => scene.pass(...EVENTS);
  const warnings = (scene: Scene) =>
    contents(scene)
      .join("\n")
      .split("\n")
      .filter((line) => line.includes("the ban does not work"));

  test("a ban that does not work is told once an hour, for each address", async () => {
    using scene = new Scene();
    scene.append(ban("203.0.113.9"), ban("203.0.113.10"));
    later(300);
    scene.append(again("203.0.113.9", "WARNING"));
    await run(scene);
    for (let minute = 5; minute <= 70; minute += 5) {
      scene.wait(5 * 60_000);
      scene.append(again("203.0.113.9", "WARNING"));
      if (minute === 30) scene.append(again("203.0.113.10", "WARNING"));
      await run(scene);
    }
    expect(warnings(scene)).toEqual([
      expect.stringContaining("203.0.113.9 is banned"),
      expect.stringContaining("203.0.113.10 is banned"),
      expect.stringContaining("203.0.113.9 is banned"),
    ]);
    await scene.expectQuiet();
  });

  test("more bans than a message holds go as one file, once, and without it where it is refused", async () => {
    const ids = Array.from({ length: 900 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
    for (const refuses of [false, true]) {
      using scene = new Scene();
      scene.append(...ids.map((id) => ban(id)));
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
    }
  });
});
