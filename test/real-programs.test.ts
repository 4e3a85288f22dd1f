/** Real logrotate, real fail2ban, and logs that real fail2ban wrote. */
import { Database } from "bun:sqlite";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { contents, fixture, FIXTURES, LOGS } from "./events.ts";
import { Fail2ban, machine } from "./fail2ban.ts";
import { line, lines, said, Scene, testWith, type Ran, type Row } from "./harness.ts";
import { Logrotate, succeed } from "./logrotate.ts";

setDefaultTimeout(180_000);

/** The lines of a file, also of one that is packed. */
function linesOf(path: string): string[] {
  const bytes = fs.readFileSync(path);
  const text = (path.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
  return text.split("\n").slice(0, -1);
}

// ── logrotate ───────────────────────────────────────────────────────────────────────────────────

describe("logrotate with Debian's configuration", () => {
  const it = testWith("logrotate");
  /** What the configuration loses. */
  const packing = {
    delaycompress: "",
    "compress at once": "delaycompress",
    "no compression": /(?:delay)?compress/g,
  };
  const names = ["numbers", "dateext"].flatMap((naming) =>
    ["create", "copytruncate"].map((way) => [naming, way] as const),
  );
  for (const [naming, way] of names) {
    for (const [packs, lost] of Object.entries(packing)) {
      // Now and then the writer is told late of a rotation.
      it(`${way}, ${naming}, ${packs}: every line once, in order`, async () => {
        using scene = new Scene();
        const options = `missingok\n${naming}\n${way}`.replace(/^(?:numbers|create)$/gm, "");
        const change = (text: string) => text.replace(lost, "").replace("missingok", options);
        const logrotate = new Logrotate(scene, { change });
        const isLate = way === "create" && packs !== "compress at once";
        let count = 0;
        const write = (number: number, suffix = "") => {
          for (; number > 0; number--) scene.write(`${line(++count)}\n`, suffix);
        };
        write(3);
        await scene.pass();
        for (let round = 0; round < 12; round++) {
          write((round * 7) % 30);
          if (round % 3 === 0) await scene.pass();
          write((round * 5) % 20);
          await logrotate.rotate();
          const rotated = fs
            .readdirSync(scene.directory)
            .filter((name) => /\.1$|-\d{8}$/.test(name));
          const youngest = rotated.sort().at(-1)?.replace("fail2ban.log", "");
          if (isLate && youngest && round % 2 === 0) {
            write(4, youngest);
            if (round % 4 === 0) await scene.pass();
            write(2, youngest);
          }
        }
        write(5);
        await scene.passPosts(...lines(1, count));
        expect(fs.readdirSync(scene.directory).length).toBeGreaterThan(10);
      });
    }
  }

  it("a second rotation is not taken for a fail2ban that still writes to the rotated file", async () => {
    using scene = new Scene();
    const logrotate = new Logrotate(scene);
    scene.append(...lines(1, 3));
    await scene.pass();
    await logrotate.rotate();
    await scene.pass();
    scene.wait(600_000);
    scene.append(...lines(4, 6));
    await logrotate.rotate();
    await scene.passPosts(...lines(1, 6));
  });
});

// ── Any program ─────────────────────────────────────────────────────────────────────────────────

describe("another program", () => {
  const runs: [string, string[], Ran][] = [
    ["ends well", ["sh", "-c", "echo out; echo err >&2"], said("out\n", 0, "err\n")],
    ["ends badly", ["sh", "-c", "echo why; exit 3"], said("why\n", 3)],
    ["is killed", ["sh", "-c", "kill -9 $$"], said("", -1)],
    ["is no program", ["/etc/passwd"], said("", -1)],
    ["is not there", ["no-such-program"], { kind: "missing" }],
  ];
  test.each(runs)("that %s", async (_, [program = "", ...words], ran) => {
    expect(await machine().runProgram(program, words)).toEqual(ran);
  });

  test("gets none of our secrets, and finds what cron's PATH has not", async () => {
    const secrets = { DISCORD_WEBHOOK: "x", SLACK_TOKEN: "x", F2B_LOG: "x" };
    Object.assign(process.env, secrets);
    try {
      const ran = await machine().runProgram("env", []);
      const out = ran.kind === "ended" ? ran.out : "";
      expect(out).toMatch(/^PATH=.*\/usr\/sbin/m);
      expect(out).not.toMatch(/^(?:DISCORD|SLACK|F2B)_/m);
    } finally {
      for (const name of Object.keys(secrets)) delete process.env[name];
    }
  });
});

// ── fail2ban ────────────────────────────────────────────────────────────────────────────────────

describe("fail2ban", () => {
  /** The log and its rotated files, oldest first, as one. */
  function wholeLog(scene: Scene): string[] {
    const age = (name: string) => Number(/\.(\d+)/.exec(name)?.[1] ?? 0);
    const all = fs.readdirSync(scene.directory);
    const names = all.filter((name) => /^fail2ban\.log(\.|$)/.test(name));
    const oldestFirst = names.sort((a, b) => age(b) - age(a));
    return oldestFirst.flatMap((name) => linesOf(join(scene.directory, name)));
  }

  testWith("fail2ban-server", "logrotate")("that is rotated: all its lines, in order", async () => {
    using scene = new Scene();
    using fail2ban = await Fail2ban.started(scene);
    const logrotate = new Logrotate(scene, { flush: fail2ban.flushCommand });
    await scene.pass();
    for (let round = 1; round <= 6; round++) {
      const addresses = Array.from({ length: 20 }, (_, index) => `198.18.${round}.${index}`);
      fail2ban.attackFrom(...addresses.map((address) => address.replace("198.18", "198.19")));
      const banning = fail2ban.ban(...addresses);
      const rotating = logrotate.rotate();
      if (round % 2) await scene.pass();
      await Promise.all([banning, rotating]);
      if (round % 3) await scene.pass();
    }
    await fail2ban.stop();
    await scene.pass();
    const written = wholeLog(scene);
    const bans = written.filter((text) => /\[sshd\] Ban 198\.1[89]\./.test(text));
    expect(bans.length).toBeGreaterThan(100);
    expect(written.filter((text) => text.includes("rollover performed")).length).toBe(6);
    await scene.expectOnlyPosted(...written);
  });

  testWith("fail2ban-server", "curl")("whose curl action fails shows no secret of it", async () => {
    using scene = new Scene();
    const secrets = {
      "Bearer kept-by-nobody": "[redacted]",
      "anna:correct-horse": "[redacted]",
      "webhooks/123456789012345678/not-a-token_at-all": "webhooks/[redacted]",
      "token=battery-staple": "token=[redacted]",
    };
    const command = `curl -sS -H "Authorization: Bearer kept-by-nobody" -u anna:correct-horse
          -d 'ip=<ip>&token=battery-staple'
          "http://127.0.0.1:9/api/webhooks/123456789012345678/not-a-token_at-all"`;
    using fail2ban = await Fail2ban.started(scene, command.replace(/\s+/g, " "));
    await fail2ban.ban("203.0.113.7");
    while (!scene.read().includes("Error banning")) await Bun.sleep(20);
    await fail2ban.stop();
    await scene.pass();
    const written = wholeLog(scene);
    const clean = (text: string) => {
      for (const [secret, shape] of Object.entries(secrets)) text = text.replaceAll(secret, shape);
      return text;
    };
    const dirty = written.filter((text) => text !== clean(text));
    expect(dirty.length).toBeGreaterThanOrEqual(2);
    scene.expectPosted(...written.map(clean));
  });
});

describe("fail2ban, told in words", () => {
  const it = testWith("fail2ban-server");

  it("failures before a ban: what fail2ban's own database says, at least nine times of ten", async () => {
    using scene = new Scene();
    scene.env["F2B_FORMAT"] = "events";
    using fail2ban = await Fail2ban.started(scene, "/bin/true", { maxRetry: 4, database: true });
    // Four attempts each, some a fifth before the ban stops them.
    const attempts = Array.from({ length: 60 }, (_, number) =>
      Array.from({ length: number % 20 === 0 ? 5 : 4 }, (__, nth) => ({
        tick: Math.floor(number + Math.random() * 4 + nth * 9),
        address: `198.51.100.${number}`,
      })),
    ).flat();
    for (let tick = 0; tick < 110; tick++) {
      const now = attempts.filter((attempt) => attempt.tick === tick);
      fail2ban.attackFrom(...now.map(({ address }) => address));
      await Bun.sleep(100);
      if (tick % 3 === 0) await scene.pass();
    }
    await Bun.sleep(1_500);
    await scene.pass();
    await fail2ban.stop();
    const said = contents(scene)
      .join("\n")
      .matchAll(/BANNED\*\* (\S+) after (\d+) failed attempt/g);
    const told = new Map(Array.from(said, ([, address = "", count]) => [address, Number(count)]));
    const database = new Database(join(scene.directory, "bans.sqlite3"), { readonly: true });
    const bans = database
      .query("SELECT ip, json_extract(CAST(data AS TEXT), '$.failures') AS failures FROM bans")
      .all() as { ip: string; failures: number }[];
    database.close();
    const counted = bans.filter(({ ip }) => told.has(ip));
    expect(bans.length).toBeGreaterThan(40);
    expect(counted.length).toBeGreaterThan(0.5 * bans.length);
    const equal = counted.filter(({ ip, failures }) => failures === told.get(ip));
    expect(equal.length).toBeGreaterThanOrEqual(0.9 * counted.length);
  });

  it("a restart with bans is one line", async () => {
    using scene = new Scene();
    scene.env["F2B_FORMAT"] = "events";
    using fail2ban = await Fail2ban.started(scene, "/bin/true", { database: true });
    await fail2ban.ban(...Array.from({ length: 12 }, (_, index) => `198.51.100.${index}`));
    while (!scene.read().includes("Ban 198.51.100.11")) await Bun.sleep(20);
    await scene.pass();
    const before = scene.discord.messages.length;
    await fail2ban.stop();
    await fail2ban.start();
    while (scene.read().split("Restore Ban ").length <= 12) await Bun.sleep(20);
    await scene.pass();
    const [message, ...more] = scene.discord.messages.slice(before);
    expect(more).toEqual([]);
    const [line = "", ...rest] = message?.content.split("\n") ?? [];
    expect(line).toMatch(/^🔄 web-1 fail2ban \S+ restarted: 1 jail, 12 bans restored$/);
    expect(rest).toEqual([expect.stringMatching(/^-# /)]);
  });

  it("a failing action stands in its ban's own line", async () => {
    using scene = new Scene();
    scene.env["F2B_FORMAT"] = "events";
    using fail2ban = await Fail2ban.started(scene, "echo no such rule >&2; exit 3");
    await fail2ban.ban("203.0.113.7");
    while (!scene.read().includes("Failed to execute ban")) await Bun.sleep(20);
    await scene.pass();
    await fail2ban.stop();
    const [line] = /^.*BANNED.*$/m.exec(contents(scene).join("\n")) ?? [];
    expect(line).toContain("7 for 1 h · ⚠️ **action `lab` failed**: `no such rule (returned 3)`");
    expect(contents(scene).join("\n")).not.toContain("NOT blocked");
  });
});

describe("fail2ban-client", () => {
  const it = testWith("fail2ban-server");
  const status = (scene: Scene, ...words: string[]) =>
    scene.f2bWatch("status", "--log", scene.log, ...words);

  it("check asks fail2ban for its version, its log and its level, and fail2ban logs no line of it", async () => {
    using scene = new Scene();
    using fail2ban = await Fail2ban.started(scene);
    scene.overrides.runProgram = fail2ban.client;
    const set = (...words: string[]) => fail2ban.client("fail2ban-client", ["set", ...words]);
    /** The rows that it asks fail2ban for, after it said nothing in the log. */
    const rows = async () => {
      const before = scene.read();
      const { rows } = JSON.parse((await scene.run("check", "--json")).out) as { rows: Row[] };
      expect(scene.read()).toBe(before);
      const wanted = rows.filter(({ name }) => /^fail2ban|^log /.test(name));
      return wanted.map(({ name, state, text }) => `${name} ${state}: ${text}`);
    };
    const version = /v(\S+)/.exec(await succeed("fail2ban-client", "--version"))?.[1];
    const [answers, where] = [`fail2ban ok: ${version}, answers`, `log target ok: ${scene.log}`];
    expect(await rows()).toEqual([answers, where, "log level ok: INFO"]);
    await set("loglevel", "DEBUG");
    expect(await rows()).toEqual([answers, where, "log level ok: DEBUG"]);
    await set("loglevel", "ERROR");
    const other = scene.path(".other");
    await set("logtarget", other);
    const [, elsewhere, level] = await rows();
    expect(elsewhere).toContain(`log target failed: fail2ban writes to ${other}, not to `);
    expect(level).toStartWith("log level failed: ERROR");
    await set("logtarget", "STDOUT");
    expect(await rows()).toContain("log target failed: fail2ban logs to STDOUT, not to a file");
    await fail2ban.stop();
    expect(await rows()).toEqual([expect.stringMatching(/^fail2ban failed: .* cannot be reached/)]);
  });

  it("status shows every jail and every banned address, and leaves no line in fail2ban's log", async () => {
    using scene = new Scene();
    const jails = ["it's-a-jail", "my jail", "sshd"];
    using fail2ban = await Fail2ban.started(scene, "/bin/true", { jails });
    scene.overrides.runProgram = fail2ban.client;
    await fail2ban.ban("203.0.113.7", "2001:db8::7", "```x");
    const before = scene.read();
    const { code, out, err } = await status(scene);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^it's-a-jail +0\/0 +0\/0/m);
    expect(out).toMatch(/^my jail +0\/0 +0\/0/m);
    expect(out).toMatch(/^sshd +0\/0 +3\/3/m);
    expect(out).toContain("203.0.113.7 2001:db8::7 `\u200b`\u200b`x\n");
    expect(out).toContain(join(scene.directory, "auth.log"));
    const named = await status(scene, "my jail", "--json");
    expect(JSON.parse(named.out).jails).toMatchObject([{ jail: "my jail", banned: [] }]);
    expect(await status(scene, "nojail")).toMatchObject({ code: 64, out: "" });
    expect((await status(scene, "--send")).code).toBe(0);
    expect(scene.discord.messages).toHaveLength(1);
    expect(scene.discord.violations).toEqual([]);
    expect(scene.read()).toBe(before);
    await fail2ban.stop();
    const down = await status(scene);
    expect(down).toMatchObject({ code: 66, out: "" });
    expect(down.err).toContain("cannot be reached");
  });

  it("a server that was stopped or killed is told once, and once that it is back", async () => {
    using scene = new Scene();
    using fail2ban = await Fail2ban.started(scene);
    scene.overrides.runProgram = fail2ban.client;
    const told = async () => {
      const before = scene.notices().length;
      for (let pass = 0; pass < 3; pass++) {
        await scene.pass("--ping");
        scene.wait(60_000);
      }
      const notices = scene.notices().slice(before).join();
      return notices.replace(/^.*fail2ban /, "");
    };
    expect(await told()).toBe("");
    for (const end of ["stop", "kill"] as const) {
      await fail2ban[end]();
      expect(await told()).toStartWith("has not answered for 1 min");
      await fail2ban.start();
      expect(await told()).toBe("answers again, after 3 min");
    }
    await fail2ban.stop();
    await scene.pass("--ping");
    await fail2ban.start();
    expect(await told()).toBe("");
    expect(scene.read()).not.toContain("fail2ban.transmitter");
    expect(scene.discord.violations).toEqual([]);
  });
});

// ── Logs of real servers ────────────────────────────────────────────────────────────────────────

describe("a log of a real server", () => {
  test.each(LOGS)(
    "%s: every line arrives once, in order, within Discord's limits",
    async (name) => {
      using scene = new Scene(...fixture(name));
      await scene.pass("--max-time", "86400");
      // No webhook, no key, no two backticks side by side.
      const shown = fixture(name).map((text) =>
        text
          .replace('"Key: SeCrEtKeY123"', '"Key: [redacted]"')
          .replace(/webhooks\/\d+\/[\w-]+/, "webhooks/[redacted]")
          .replace(/`(?=`)/g, "`\u200b"),
      );
      await scene.expectOnlyPosted(...shown);
    },
  );

  test("attack-burst.log, minute by minute as it was written: cron catches up, never a 429", async () => {
    using scene = new Scene();
    const burst = fixture("attack-burst.log");
    const minutes = Map.groupBy(burst, (text) => text.slice(0, 16));
    expect(minutes.size).toBeGreaterThan(5);
    for (const written of minutes.values()) {
      scene.append(...written);
      expect([0, 75]).toContain((await scene.run("--max-time", "55")).code);
      scene.wait(60_000);
    }
    let passes = 0;
    while ((await scene.run("--max-time", "55")).code !== 0) {
      expect(passes++).toBeLessThan(60);
      scene.wait(60_000);
    }
    scene.expectPosted(...burst);
    await scene.expectQuiet();
  });

  test("logrotate/: whichever of the four rotations had a pass, every line arrives once", async () => {
    const suffixes = [".4.gz", ".3.gz", ".2.gz", ".1", ""];
    const parts = suffixes.map((end) => linesOf(join(FIXTURES, `logrotate/fail2ban.log${end}`)));
    for (let passes = 0; passes < 2 ** 3; passes++) {
      using scene = new Scene();
      for (const [generation, part] of parts.entries()) {
        if (generation > 0) scene.rotate();
        if (generation > 2) scene.compress(".2");
        scene.append(...part);
        if (generation === 0 || generation === 4 || passes & (1 << (generation - 1)))
          await scene.pass();
      }
      scene.expectPosted(...parts.flat());
      expect(scene.notices()).toEqual([]);
    }
  });
});
