/** README from zero: built, installed, seen at work, moved to, upgraded, and gone again. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import { repository, Scene, testWith, until } from "./harness.ts";
import { block } from "./readme.ts";
import { Server, testOnServer } from "./server.ts";

setDefaultTimeout(180_000);

// README's test command is npx's, which hands on its own --allow-scripts; npm install refuses that.
delete process.env["npm_config_allow_scripts"];

const question = ["info", `zod@${packageJson.dependencies.zod}`];
const online = spawnSync(process.execPath, question, { timeout: 10_000 });
const note = online.status === 0 ? "" : " (needs the package registry)";
const it = note === "" ? testWith("npm") : test.skipIf(true);

/** A Node for npm 12, which wants a newer one than many distributions have. */
const NODE = `node-linux-${process.arch}@22`;
const NODE_BIN = `node_modules/node-linux-${process.arch}/bin`;

const CHECKOUT = "/opt/f2b-watch";
const LOG = "/var/log/fail2ban.log";

/** What lies on the server by our name, or has it in its text where fail2ban and cron look. */
async function traces(server: Server): Promise<string[]> {
  const script = `find /etc /usr /var /run -newer /installed -name '*f2b-watch*'
    grep -rl f2b-watch /etc/fail2ban /etc/cron* /var/spool/cron`;
  const { out } = await server.run(["sh", "-c", script]);
  return out.split("\n").filter((path) => path !== "");
}

/** A home without Bun, whose npm is of this version: runs a command in a folder, and returns what it prints. */
function npmHome({ directory }: Scene, version: number) {
  fs.mkdirSync(join(directory, "global/lib"), { recursive: true });
  for (const name of ["sh", "env"]) fs.symlinkSync(Bun.which(name) ?? "", join(directory, name));
  const run = (command: string, { cwd = directory, PATH = process.env["PATH"] } = {}) => {
    const places = { HOME: directory, TMPDIR: directory, npm_config_prefix: `${directory}/global` };
    const env = { ...process.env, ...places, PATH };
    return String(spawnSync("/bin/sh", ["-c", command], { cwd, env }).stdout);
  };
  expect(run(`npm install --silent --prefix . npm@${version} ${NODE}; echo $?`)).toBe("0\n");
  return { run, PATH: `${directory}/${NODE_BIN}:${directory}/node_modules/.bin:${directory}` };
}

describe("from zero", () => {
  for (const version of [9, 12]) {
    it(`tried with npm ${version} and no Bun: each command prints messages${note}`, async () => {
      using scene = new Scene();
      const { run, PATH } = npmHome(scene, version);
      const commands = block("try").trim().split("\n");
      expect(commands.map((command) => run(command, { cwd: repository, PATH }))).toEqual([
        expect.stringContaining("NOTICE  [sshd] Ban 203.0.113.7\n"),
        expect.stringContaining("BANNED 203.0.113.7"),
      ]);
    });
  }

  testOnServer("npx", "fail2ban-server")(
    "built, installed and seen at work: hello, the ban and the unban are in the channel",
    async () => {
      await using server = await Server.start();
      await server.startFail2ban();
      await server.paste("rm -rf dist node_modules", CHECKOUT);
      await server.pasteBlock("build", CHECKOUT);
      await server.install({ events: true });
      const checked = await server.pasteBlock("see", CHECKOUT);
      expect(checked).not.toContain("✗");
      expect(server.discord.messages.map(({ content }) => content)).toEqual([
        expect.stringContaining("👋"),
        expect.stringMatching(/BANNED\S* 192\.0\.2\.1[^]*UNBANNED\S* 192\.0\.2\.1/),
      ]);
      expect(server.discord.violations).toEqual([]);
    },
  );

  testOnServer("fail2ban-server")("uninstalled, nothing of it is left", async () => {
    await using server = await Server.start();
    await server.startFail2ban();
    await server.paste("touch /installed; sleep 0.1");
    await server.install();
    server.put("action", "jails");
    await server.pasteBlock("reload");
    server.put("service", "timer", "path");
    await until(() => server.discord.messages.length > 0);
    expect((await traces(server)).length).toBeGreaterThan(8);
    await server.pasteBlock("uninstall");
    expect(await traces(server)).toEqual([]);
    await server.attackFrom("203.0.113.7");
  });
});

/** A log that an older f2b-watch has told to the third line. */
async function installed(): Promise<Server> {
  const server = await Server.start();
  server.write(LOG, "1\n2\n3\n");
  await server.install();
  return server;
}

it(`the package has four files, and runs by bunx, and by npx without a Bun${note}`, async () => {
  using scene = new Scene();
  const { run, PATH } = npmHome(scene, 12);
  const [packed] = JSON.parse(run(`npm pack --json --pack-destination . ${repository}`));
  const names = packed.files.map(({ path }: { path: string }) => path).sort();
  expect(names).toEqual(["LICENSE", "README.md", "f2b-watch.ts", "package.json"]);
  const version = `f2b-watch ${packageJson.version}\n`;
  const file = join(scene.directory, packed.filename);
  expect(run(`bunx --package ${file} f2b-watch --version`)).toBe(version);
  const bun = "--allow-scripts=bun --package bun@1.4.5";
  const npx = `npx --yes ${bun} --package ./${packed.filename} f2b-watch --version`;
  expect(run(npx, { PATH })).toBe(version);
});

testOnServer("deno")("Deno goes on where the binary stood, with these permissions", async () => {
  await using server = await installed();
  await server.paste("f2b-watch --state /opt/f2b-watch/state");
  server.append("4");
  const { host } = new URL(server.discord.webhook);
  const deno = block("deno").replace("=discord.com,", `=${host},`);
  expect(await server.paste(deno, CHECKOUT)).toBe("");
  expect(server.discord.lines()).toEqual(["1", "2", "3", "4"]);
});

describe("another binary", () => {
  const it = note === "" ? testOnServer("npx") : test.skipIf(true);

  /** The ELF machine, and the loader that must be there. */
  const expected = {
    "linux-x64": [0x3e, "/lib64/ld-linux-x86-64.so.2"],
    "linux-x64-baseline": [0x3e, "/lib64/ld-linux-x86-64.so.2"],
    "linux-arm64": [0xb7, "/lib/ld-linux-aarch64.so.1"],
    "linux-x64-musl": [0x3e, "/lib/ld-musl-x86_64.so.1"],
    "linux-arm64-musl": [0xb7, "/lib/ld-musl-aarch64.so.1"],
  } as const;

  it(`is built for every kind of server, and put in place once its sum is right${note}`, async () => {
    await using server = await installed();
    const dist = `${CHECKOUT}/dist`;
    await server.pasteBlock("release", CHECKOUT);
    for (const [name, [machine, loader]] of Object.entries(expected)) {
      const descriptor = fs.openSync(server.path(`${dist}/f2b-watch-${name}`), "r");
      const head = Buffer.alloc(4096);
      fs.readSync(descriptor, head);
      fs.closeSync(descriptor);
      expect(head.readUInt16LE(18)).toBe(machine);
      expect(head.toString("latin1")).toContain(`${loader}\0`);
    }
    const other = await server.run([`${dist}/f2b-watch-linux-x64-baseline`, "--version"]);
    expect(other).toEqual({ code: 0, out: `f2b-watch ${packageJson.version}\n`, err: "" });

    server.append("4");
    // A server that is set up may build, too.
    await server.paste("echo F2B_FORMAT=events >> /etc/f2b-watch.env; bun run build", CHECKOUT);
    await server.paste("sed -i /F2B_FORMAT/d /etc/f2b-watch.env");
    await server.pasteBlock("upgrade", dist);
    await server.paste("f2b-watch");
    expect(server.discord.lines()).toEqual(["4"]);

    await server.paste("echo broken >> f2b-watch-linux-x64", dist);
    const refused = await server.run(["dash", "-c", block("upgrade")], {}, dist);
    expect(refused.code).not.toBe(0);
    expect(refused.out).toContain("FAILED");
    await server.paste("! cmp -s /usr/local/bin/f2b-watch f2b-watch-linux-x64", dist);
  });
});

describe("moving over", () => {
  testOnServer("fail2ban-server")(
    "from a curl action: fail2ban starts passes instead",
    async () => {
      await using server = await Server.start();
      const action = "/etc/fail2ban/action.d/discord_notifications.conf";
      const jail =
        "[sshd]\nenabled = true\naction = discord_notifications\n         written-down\n";
      server.write("/etc/fail2ban/jail.local", jail);
      server.write(action, "[Definition]\nactionban = false\n");
      await server.startFail2ban();
      await server.install();
      server.put("action");
      await server.pasteBlock("from-curl");
      await server.attackFrom("203.0.113.7");
      await until(() =>
        server.discord.lines().some((text) => text.endsWith("[sshd] Ban 203.0.113.7")),
      );
      expect(server.log().filter((text) => text.includes("ERROR"))).toEqual([]);
      expect(server.has(action)).toBe(false);
    },
  );

  testOnServer()("from logwatch: its section goes, a digest is sent each morning", async () => {
    await using server = await installed();
    await server.paste("mkdir -p /etc/logwatch/conf");
    await server.pasteBlock("digest-cron");
    await server.pasteBlock("from-logwatch");
    expect(server.read("/etc/logwatch/conf/logwatch.conf")).toBe('Service = "-fail2ban"\n');
    const cron = server.read("/etc/cron.d/f2b-watch-digest");
    const [, digest = ""] = /root (.*) 2>&1/.exec(cron) ?? [];
    expect(await server.paste(digest)).toBe("");
    expect(server.discord.messages.map(({ content }) => content)).toEqual([
      expect.stringContaining("digest of fail2ban.log"),
    ]);
  });
});
