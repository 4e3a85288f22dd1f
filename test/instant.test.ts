/** README's action, installed in a real fail2ban. */
import { expect, setDefaultTimeout } from "bun:test";
import { until } from "./harness.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

/** Stands in for `flock`, and counts how often the action starts something. */
const COUNTING_FLOCK = '#!/bin/sh\necho >> /triggers\nexec /usr/bin/flock "$@"\n';

/** A server as README sets it up, with fail2ban's own trigger. */
async function withTrigger(): Promise<Server> {
  const server = await Server.start();
  await server.startFail2ban();
  await server.install();
  server.write("/usr/local/sbin/flock", COUNTING_FLOCK);
  await server.paste("chmod 755 /usr/local/sbin/flock");
  server.put("action", "jails");
  const before = server.log().length;
  await server.pasteBlock("reload");
  await until(() => server.discord.lines().length >= server.log().length - before);
  return server;
}

const addresses = (net: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${net}.${index + 1}`);

/** Bans these, and waits until all are banned. */
async function ban(server: Server, ...ips: string[]): Promise<void> {
  await server.run(["fail2ban-client", "set", "sshd", "banip", ...ips]);
  await until(() => ips.every((ip) => server.banned().includes(ip)));
}

const testTrigger = testOnServer("fail2ban-server", "flock");

testTrigger("a ban is told by itself, and 200 at once: each line once, in order", async () => {
  await using server = await withTrigger();
  const first = server.log().length - server.discord.lines().length;
  await server.attackFrom("203.0.113.7");
  await until(() => server.discord.lines().some((text) => text.endsWith("Ban 203.0.113.7")));
  await ban(server, ...addresses("198.51.100", 200));
  await server.run(["fail2ban-client", "set", "sshd", "unbanip", "203.0.113.7"]);
  await until(() => server.discord.lines().some((text) => text.endsWith("Unban 203.0.113.7")));
  expect(server.discord.lines()).toEqual(server.log().slice(first));
  expect(server.log().filter((text) => text.includes("NOTICE  [sshd] Ban"))).toHaveLength(201);
  expect(server.log().filter((text) => text.includes("ERROR"))).toEqual([]);
  expect(server.discord.violations).toEqual([]);
});

testTrigger("bans wait for nothing while Discord hangs", async () => {
  await using server = await withTrigger();
  await ban(server, ...addresses("198.51.100", 50));
  await until(() => server.discord.lines().some((text) => text.endsWith("198.51.100.50")));
  server.discord.failAlways({ kind: "hang", save: false });
  await ban(server, "203.0.113.7");
  const hung = () => server.discord.requests.filter(({ status }) => status === 0).length;
  await until(() => hung() > 0);
  const sent = server.discord.messages.length;
  // Waiting would take fail2ban's own minute for the first of them, and a pass for each.
  await ban(server, ...addresses("192.0.2", 50));
  expect(server.discord.messages.length).toBe(sent);
  expect(hung()).toBeLessThanOrEqual(3);
});

testTrigger("a restart with 60 bans starts a handful of passes, and tells all once", async () => {
  await using server = await withTrigger();
  const first = server.log().length - server.discord.lines().length;
  await ban(server, ...addresses("198.51.100", 60));
  const before = server.lines("/triggers").length;
  expect(before).toBeGreaterThanOrEqual(60);
  await server.run(["fail2ban-client", "restart"]);
  const restored = () => server.log().filter((text) => text.includes("Restore Ban")).length;
  await until(() => restored() === 60 && server.banned().length === 120);
  // What fail2ban restores after the one pass is left to cron.
  await server.paste("f2b-watch");
  await until(() => server.discord.lines().length === server.log().length - first);
  expect(server.lines("/triggers").length - before).toBeLessThanOrEqual(5);
  expect(server.discord.lines()).toEqual(server.log().slice(first));
});
