/** README's units: judged by systemd's own tools, and run by a real systemd with all their restrictions. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import * as fs from "node:fs";
import { line, lines, until } from "./harness.ts";
import { file } from "./readme.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

const UNITS = ["service", "timer", "path"];
const LOG = "/var/log/fail2ban.log";

/** Becomes the first process of a server: systemd with nothing but a journal. */
const BOOT = `
rm -r /usr/lib/systemd/system/*.target.wants
printf '[Unit]\\nWants=systemd-journald.service\\n' > /etc/systemd/system/sysinit.target
mount --make-rshared /
exec /lib/systemd/systemd --system --unit=basic.target
`;

/** A server with a log of three lines that systemd runs, set up as README says at first. */
async function booted(): Promise<Server> {
  const server = await Server.start("sh", "-c", BOOT);
  const state = () => server.run(["systemctl", "is-system-running"]);
  await until(async () => (await state()).out === "running\n");
  server.append(...lines(1, 3));
  fs.chmodSync(server.path(LOG), 0o600);
  await server.install();
  server.put(...UNITS);
  return server;
}

/** The lines `from` to `to` arrive, and nothing but what came before them. */
async function expectPosted(server: Server, from: number, to: number): Promise<void> {
  await until(() => server.discord.lines().length >= to - from + 1);
  expect(server.discord.lines()).toEqual(lines(from, to));
  expect(server.discord.violations).toEqual([]);
}

const property = async (server: Server, unit: string, name: string) =>
  (await server.run(["systemctl", "show", "--value", "--property", name, unit])).out.trim();

describe("systemd", () => {
  testOnServer("systemd-analyze")("finds no fault with the units, and little exposed", async () => {
    await using server = await Server.start();
    await server.paste("install -m 755 dist/f2b-watch /usr/local/bin/", "/opt/f2b-watch");
    server.put(...UNITS);
    const paths = UNITS.map((name) => file(name).path).join(" ");
    expect(await server.paste(`systemd-analyze verify ${paths}`)).toBe("");
    await server.paste("systemd-analyze security --offline=true --threshold=20 f2b-watch.service");
  });

  const it = testOnServer("systemctl");
  it("the path unit tells each line within seconds, in a burst and after a rotation; the state goes on where cron stopped", async () => {
    await using server = await booted();
    await server.pasteBlock("enable");
    expect(server.has("/etc/cron.d/f2b-watch")).toBe(false);
    // Like fail2ban: the log stays open.
    const log = fs.openSync(server.path(LOG), "a");
    fs.writeSync(log, `${line(4)}\n`);
    await expectPosted(server, 4, 4);
    for (const text of lines(5, 104)) {
      fs.writeSync(log, `${text}\n`);
      await Bun.sleep(70);
    }
    expect(server.discord.messages.length).toBeGreaterThan(3);
    await server.run(["systemctl", "start", "f2b-watch.service"]);
    await expectPosted(server, 4, 104);
    fs.closeSync(log);
    // What is written while a pass ends is left to the timer.
    await until(async () => (await property(server, "f2b-watch.path", "SubState")) === "waiting");
    await server.paste(`mv ${LOG} ${LOG}.1; install -m 640 -g adm /dev/null ${LOG}`);
    server.append(line(105));
    await expectPosted(server, 4, 105);
    expect(await property(server, "f2b-watch.path", "ActiveState")).toBe("active");
    const state = fs.statSync(server.path("/var/lib/private/f2b-watch"));
    expect(state.mode & 0o777).toBe(0o700);
    expect(state.uid).not.toBe(0);
  });

  it("the timer alone does it too, a minute after the last pass; that Discord is away is no failure", async () => {
    await using server = await booted();
    server.append(line(4));
    server.discord.failAlways({ kind: "rate-limit", retryAfterS: 600 });
    await server.paste(`chgrp adm ${LOG}; chmod 640 ${LOG}; systemctl daemon-reload`);
    await server.paste("systemctl enable --now f2b-watch.timer");
    await until(() => server.discord.requests.length > 0);
    const status = () => property(server, "f2b-watch.service", "ExecMainStatus");
    await until(async () => (await status()) === "75");
    expect(await property(server, "f2b-watch.service", "ActiveState")).toBe("inactive");
    const left = await server.run(["systemctl", "list-timers", "f2b-watch.timer"]);
    expect(left.out).toMatch(/ (5\d|60?)s left| 1min left/);
  });

  testOnServer("systemctl", "fail2ban-server")(
    "root's commands work on the service's state, and revive what had refused; idle runs leave no word in the journal",
    async () => {
      await using server = await booted();
      await server.startFail2ban();
      await server.pasteBlock("enable");
      const run = () => server.run(["systemctl", "start", "f2b-watch.service"]);
      await run();
      await server.attackFrom("203.0.113.7");
      await until(() => server.discord.lines().some((text) => text.endsWith("Ban 203.0.113.7")));
      await server.paste("systemctl stop f2b-watch.timer f2b-watch.path");

      expect(await server.paste("f2b-watch check")).not.toContain("✗");
      await server.paste("f2b-watch status --send");
      await server.paste("f2b-watch digest --send");
      expect(server.discord.messages.at(-1)?.content).toContain("digest of fail2ban.log");
      server.append(line(4));
      expect(await server.paste("f2b-watch --dry-run")).toContain(line(4));
      server.discord.delete();
      await run();
      expect(await property(server, "f2b-watch.service", "ExecMainStatus")).toBe("69");
      server.discord.restore();
      await run();
      expect(server.discord.lines()).not.toContain(line(4));
      await server.paste("f2b-watch check");
      expect((await run()).code).toBe(0);
      expect(server.discord.lines().at(-1)).toBe(line(4));

      // A link is systemd's only if root made it.
      await server.paste("runuser -u nobody -- ln -s /var/lib/private/f2b-watch /tmp/link");
      expect((await server.run(["f2b-watch", "--state", "/tmp/link"])).code).toBe(73);

      const journal = () => server.run(["journalctl", "--quiet", "--unit", "f2b-watch.service"]);
      const reported = (await journal()).out;
      expect(reported).toContain("404");
      for (let times = 0; times < 3; times++) expect((await run()).code).toBe(0);
      expect((await journal()).out).toBe(reported);
    },
  );
});
