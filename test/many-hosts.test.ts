/** README's log host: real rsyslogs send a real fail2ban's log to it, and one cron line watches what arrives. */
import { expect, setDefaultTimeout } from "bun:test";
import { block } from "./readme.ts";
import { until } from "./harness.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

/** Starts Debian's rsyslog as it is configured, but for the kernel's log, which is not ours to take. */
async function startRsyslog(server: Server): Promise<void> {
  await server.paste("sed -i /imklog/d /etc/rsyslog.conf; mkdir -p /var/spool/rsyslog");
  const check = "rsyslogd -N1 2>&1 | grep -iv 'version\\|end of config' || true";
  expect(await server.paste(check)).toBe("");
  server.start(["rsyslogd", "-n"]);
  await until(() => server.has("/run/rsyslogd.pid"));
}

const testHosts = testOnServer("rsyslogd", "fail2ban-server", "logrotate");

testHosts(
  "a log host gets each host's log to the letter, and one line tells them all",
  async () => {
    await using logHost = await Server.start();
    await using web1 = await Server.start();
    await using web2 = await Server.start();
    const hosts = { "web-1": web1, "web-2": web2 };
    logHost.put("receiver", "rotate-hosts");
    await startRsyslog(logHost);
    await logHost.pasteBlock("install", "/opt/f2b-watch", block("env").split("\n")[0]);
    await logHost.paste(block("watch-hosts").replace("systemctl restart rsyslog\n", ""));
    const [, pass = ""] = /root (.*) 2>&1/.exec(logHost.read("/etc/cron.d/f2b-watch")) ?? [];
    const arrived = (name: string) => logHost.lines(`/var/log/hosts/${name}/fail2ban.log`);
    for (const [name, host] of Object.entries(hosts)) {
      await host.paste(
        `hostname ${name}; echo 127.0.0.1 loghost.example.com ${name} >> /etc/hosts`,
      );
      await host.startFail2ban();
      host.put("sender");
      await startRsyslog(host);
      await until(() => arrived(name).length >= host.log().length);
    }
    expect(await logHost.paste(pass)).toBe("");
    expect(logHost.discord.lines()).toEqual([]);
    const known = Object.values(hosts).flatMap((host) => host.log());
    for (const [name, host] of Object.entries(hosts)) {
      await host.attackFrom("203.0.113.7");
      const odd = "  a continued line with a\\ttab, `%s` and ü";
      host.append(odd);
      await until(() => arrived(name).length >= host.log().length);
      expect(arrived(name)).toEqual(host.log());
    }
    expect(await logHost.paste(pass)).toBe("");
    // Debian's script asks systemd, which is not here, to make rsyslog open its files anew.
    logHost.write("/usr/lib/rsyslog/rsyslog-rotate", "kill -HUP $(cat /run/rsyslogd.pid)\n");
    await logHost.paste("logrotate --force /etc/logrotate.d/f2b-watch-hosts");
    await web1.attackFrom("203.0.113.8");
    await until(() => arrived("web-1").some((text) => text.endsWith("Ban 203.0.113.8")));
    expect(await logHost.paste(pass)).toBe("");
    const lines = Object.values(hosts).flatMap((host) => host.log());
    expect([...known, ...logHost.discord.lines()].sort()).toEqual(lines.sort());
    const names = new Set(logHost.discord.messages.map(({ username }) => username));
    expect([...names].sort()).toEqual(["Fail2Ban · web-1", "Fail2Ban · web-2"]);
    expect(logHost.discord.violations).toEqual([]);
  },
);
