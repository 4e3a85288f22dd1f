/** README's cron lines, run by Debian's own cron, whose minutes take two seconds here. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import * as fs from "node:fs";
import { lines, until } from "./harness.ts";
import { block } from "./readme.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

/** Only cron's clock is fast: it starts its jobs with an environment of their own. */
function startCron(server: Server): void {
  const [library = ""] = fs.globSync("/usr/lib/*/faketime/libfaketime.so.1");
  server.start(["cron", "-f"], { LD_PRELOAD: library, FAKETIME: "+0 x30" });
}

/** What is typed into the env file of a log that is posted as it is. */
const ENV = block("env").replace("F2B_FORMAT=events\n", "");
const LOG = "/var/log/fail2ban.log";
const texts = (from: number, to: number) => `${lines(from, to).join("\n")}\n`;

/** The first run starts at the end of the log's three lines; what is written after it arrives. */
async function expectNewLines(server: Server, state: string): Promise<void> {
  await until(() => fs.globSync("var-log-*.json", { cwd: server.path(state) }).length > 0);
  fs.appendFileSync(server.path(LOG), texts(4, 6));
  await until(() => server.discord.lines().length >= 3);
  expect(server.discord.lines()).toEqual(lines(4, 6));
}

describe("cron", () => {
  const testAsRoot = testOnServer("cron", "faketime", "fail2ban-server");
  testAsRoot("/etc/cron.d: a minute after a ban the channel has it, each line once", async () => {
    await using server = await Server.start();
    await server.startFail2ban();
    const before = server.log().length;
    await server.install();
    expect(fs.statSync(server.path("/etc/f2b-watch.env")).mode & 0o777).toBe(0o600);
    startCron(server);
    for (const address of ["203.0.113.7", "203.0.113.8"]) {
      await server.attackFrom(address);
      await until(() => server.discord.lines().some((text) => text.endsWith(`Ban ${address}`)));
    }
    await until(() => server.discord.lines().length === server.log().length - before);
    expect(server.discord.lines()).toEqual(server.log().slice(before));
    expect(server.discord.violations).toEqual([]);
  });

  testOnServer("cron", "faketime")("a member of the log's group needs no root", async () => {
    await using server = await Server.start();
    await server.paste("install -m 755 dist/f2b-watch /usr/local/bin/", "/opt/f2b-watch");
    await server.paste("useradd --create-home --groups adm anna");
    server.write(LOG, texts(1, 3));
    await server.paste(`chown root:adm ${LOG}; chmod 640 ${LOG}`);
    server.write("/home/anna/go", `install -m 600 /dev/stdin ~/.f2b-watch.env\n${block("user")}`);
    await server.paste("runuser --login anna --command 'dash ~/go'", "/", ["dash"], ENV);
    startCron(server);
    await expectNewLines(server, "/home/anna/.f2b-watch");
  });

  testOnServer("cron", "faketime")("a checkout runs by bun, which cron does not find", async () => {
    await using server = await Server.start();
    await server.paste(`ln -sf ${process.execPath} /usr/local/bin/bun`);
    server.write("/etc/f2b-watch.env", `DISCORD_WEBHOOK=${server.discord.webhook}\n`);
    server.write(LOG, texts(1, 3));
    server.put("checkout");
    startCron(server);
    await expectNewLines(server, "/opt/f2b-watch/state");
  });
});
