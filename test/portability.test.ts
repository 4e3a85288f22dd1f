/** The same file under Bun, under Deno with the least permissions, alone in a folder, and compiled. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import { Discord } from "./discord.ts";
import { compiled, DONE, lines, repository, Scene, testWith, type Row } from "./harness.ts";

setDefaultTimeout(180_000);
beforeAll(() => void compiled());

const bun = process.execPath;
const script = join(repository, "f2b-watch.ts");

/** A folder with a log, and programs that start in it, with an env file of its own. */
class Folder extends Scene {
  constructor() {
    super();
    this.write("", ".env-file");
    fs.chmodSync(this.path(".env-file"), 0o600);
  }

  /** Runs a program to its end; `env` is all of its environment, but for what finds programs. */
  async start(command: readonly string[], env: Record<string, string> = {}, cwd = this.directory) {
    const { PATH = "", HOME = "" } = process.env;
    const F2B_ENV_FILE = this.path(".env-file");
    const all = { PATH, HOME, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", F2B_ENV_FILE, ...env };
    const child = Bun.spawn([...command], { cwd, env: all, stdin: "ignore", stderr: "pipe" });
    const { exited, stdout, stderr } = child;
    const [code, out, err] = await Promise.all([exited, stdout.text(), stderr.text()]);
    return { code, out, err };
  }

  /** Runs it over three lines, which must be printed. */
  async expectPrinted(command: readonly string[], env: Record<string, string> = {}) {
    this.append(...lines(1, 3));
    const { code, out } = await this.start([...command, "--log", this.log], env);
    expect(code).toBe(0);
    expect(out).toContain(lines(1, 3).join("\n"));
    return out;
  }
}

/** A stand-in on a loopback socket. */
function served() {
  const discord = new Discord({ rateLimits: false });
  const { url, stop } = discord.serve();
  return { discord, host: new URL(url).host, [Symbol.dispose]: stop };
}

// ── The repository ──────────────────────────────────────────────────────────────────────────────

describe("the repository", () => {
  const source = fs.readFileSync(script, "utf8");

  test("the script uses no Bun API, and never ends the process by force", () => {
    expect(source.match(/\b(?:Bun|Deno)\.\w|["']bun:|\bprocess\.exit\(/g)).toBeNull();
  });

  test("the script imports node: modules, zod and cac, nothing else", () => {
    const imported = [...source.matchAll(/\b(?:from "|(?:import|require)\("?)([^"]*)/g)];
    const names = imported.map(([text, name]) => name?.replace(/^node:.*/, "node:") ?? text);
    expect([...new Set(names)].sort()).toEqual(["cac", "node:", "zod/mini"]);
  });

  test("nothing waits at the top level: what never settles would hang a run for ever", () => {
    expect(source.match(/^(?:const .*= )?await |^for await/gm)).toBeNull();
  });

  test("zod and cac are the only packages it runs on, each at one exact version", () => {
    expect(Object.keys(packageJson.dependencies).sort()).toEqual(["cac", "zod"]);
    const all = { ...packageJson.dependencies, ...packageJson.devDependencies };
    for (const version of Object.values(all)) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
  });

  test("Bun has one version, wherever it is named", () => {
    const places = "README.md .github/RECIPES.md .github/workflows/release.yml .ci/run".split(" ");
    const texts = places.map((path) => fs.readFileSync(join(repository, path), "utf8"));
    const versions = new Set(texts.flatMap((text) => text.match(/\bbun@[\d.]+/g) ?? []));
    expect([...versions]).toEqual([`bun@${packageJson.devDependencies["bun-types"]}`]);
  });

  test("only the agreed files lie on the top level", () => {
    const ignored = fs.readFileSync(join(repository, ".gitignore"), "utf8").split(/\/?\n/);
    const top = fs.readdirSync(repository).filter((name) => !ignored.includes(name));
    const agreed = "f2b-watch.ts state test bunfig.toml package.json README.md".split(" ");
    const usual = "bun.lock LICENSE .gitignore .editorconfig .ci .git .github".split(" ");
    expect(top).toEqual(expect.arrayContaining(agreed));
    expect(top.filter((name) => ![...agreed, ...usual].includes(name))).toEqual([]);
  });
});

// ── Deno ────────────────────────────────────────────────────────────────────────────────────────

describe("deno", () => {
  const it = testWith("deno");

  // Control characters are what some of our patterns are there to find.
  for (const words of ["check --no-lock", "lint --rules-exclude=no-control-regex"]) {
    it(`${words}: has nothing to say`, async () => {
      using folder = new Folder();
      const command = ["deno", ...words.split(" "), script];
      const { code, err } = await folder.start(command, {}, repository);
      expect({ code, err }).toMatchObject({ code: 0 });
    });
  }

  /** What the program may do: read the log's folder, keep its state, post to one host. */
  const allowed = ({ directory: read, state: write }: Folder, net: string) => {
    return { read, write, net, env: "", sys: "hostname,uid" };
  };

  function denoRun(folder: Folder, permissions: Record<string, string>): string[] {
    const flagOf = ([name, to]: [string, string]) => `--allow-${name}${to && `=${to}`}`;
    const flags = Object.entries(permissions).map(flagOf);
    const options = ["--log", folder.log, "--state", folder.state, "--max-time", "1"];
    return ["deno", "run", "--no-lock", "--no-prompt", ...flags, script, ...options];
  }

  it("five permissions are enough for a pass over a rotated log", async () => {
    using folder = new Folder();
    using service = served();
    const { discord, host } = service;
    const command = denoRun(folder, allowed(folder, host));
    const env = { DISCORD_WEBHOOK: discord.webhook };
    folder.append(...lines(1, 3));
    expect(await folder.start(command, env)).toEqual(DONE);
    folder.append(...lines(4, 6));
    folder.rotate();
    folder.compress(".1");
    folder.append(...lines(7, 9));
    expect(await folder.start(command, env)).toEqual(DONE);
    expect(discord.lines()).toEqual(lines(1, 9));
    expect(discord.violations).toEqual([]);
    expect(fs.existsSync(join(repository, "deno.lock"))).toBe(false);
  });

  for (const missing of ["read", "write", "net", "env", "sys"] as const) {
    it(`without --allow-${missing} nothing is sent, and one line says why`, async () => {
      using folder = new Folder();
      using service = served();
      const { discord, host } = service;
      folder.append(...lines(1, 3));
      const { [missing]: _, ...permissions } = allowed(folder, host);
      const env = { DISCORD_WEBHOOK: discord.webhook };
      const { code, err } = await folder.start(denoRun(folder, permissions), env);
      expect(code).not.toBe(0);
      expect(err).toMatch(/^f2b-watch: .*\n(hint: .*\n)?$/);
      expect(err).not.toContain("a bug in f2b-watch");
      expect(discord.requests).toEqual([]);
      // Where it can be remembered, it is not said each minute.
      if (missing === "net")
        expect((await folder.start(denoRun(folder, permissions), env)).err).toBe("");
    });
  }

  it("a stdout that is closed is 75, as under Bun; one to nowhere is not", async () => {
    using folder = new Folder();
    for (const runtime of [bun, "deno run --no-lock -A"]) {
      const codeOf = async (to: string) =>
        (await folder.start(["sh", "-c", `${runtime} "$0" help ${to}`, script])).code;
      expect([await codeOf(">&-"), await codeOf(">/dev/null")]).toEqual([75, 0]);
    }
  });
});

describe("check under deno", () => {
  async function check(folder: Folder, webhook: string, permissions: readonly string[]) {
    const options = ["--no-lock", "--no-prompt", "--allow-env", "--allow-sys=hostname,uid,gid"];
    const flags = [`--allow-read=${folder.directory}`, ...permissions.map((to) => `--allow-${to}`)];
    const check = [script, "check", "--json", "--log", folder.log, "--state", folder.state];
    const env = { DISCORD_WEBHOOK: webhook };
    fs.mkdirSync(folder.state, { recursive: true, mode: 0o700 });
    const ran = await folder.start(["deno", "run", ...options, ...flags, ...check], env);
    expect(ran.err).toBe("");
    const { rows } = JSON.parse(ran.out) as { rows: Row[] };
    return Object.fromEntries(rows.map((row) => [row.name, row]));
  }

  const it = testWith("deno", "fail2ban-client");
  it("every permission that a run misses is a ✗ with the flag that gives it; fail2ban has its own", async () => {
    using folder = new Folder();
    using service = served();
    folder.append(...lines(1, 3));
    const missing = { state: "failed", exitCode: 78 };
    expect(await check(folder, service.discord.webhook, [])).toMatchObject({
      log: { state: "ok" },
      fail2ban: { state: "unknown", exitCode: 0 },
      state: { ...missing, hint: `deno run … --allow-write=${folder.state}` },
      Discord: { ...missing, hint: `deno run … --allow-net=${service.host}` },
    });
    const given = [`write=${folder.state}`, `net=${service.host}`];
    for (const more of [[], ["run=fail2ban-client"]]) {
      const rows = await check(folder, service.discord.webhook, [...given, ...more]);
      const { fail2ban, "log target": target, "log level": level, ...others } = rows;
      expect(fail2ban?.state === "unknown").toBe(more.length === 0);
      expect(fail2ban?.exitCode).not.toBe(78);
      for (const row of Object.values(others)) expect(row).toMatchObject({ exitCode: 0, hint: "" });
    }
    expect(service.discord.violations).toEqual([]);
  });
});

// ── Alone ───────────────────────────────────────────────────────────────────────────────────────

describe("alone", () => {
  const question = ["info", `zod@${packageJson.dependencies.zod}`, "version"];
  const online = spawnSync(bun, question, { timeout: 10_000 });
  const note = online.status === 0 ? "" : " (needs the package registry)";

  test.skipIf(note !== "")(`the lone file runs where nothing lies beside it${note}`, async () => {
    using folder = new Folder();
    fs.mkdirSync(join(folder.directory, "lone"));
    const copy = join(folder.directory, "lone/f2b-watch.ts");
    fs.copyFileSync(script, copy);
    const BUN_INSTALL_CACHE_DIR = join(folder.directory, "cache");
    await folder.expectPrinted([bun, copy], { BUN_INSTALL_CACHE_DIR });
    const left = fs.readdirSync(join(folder.directory, "lone")).sort();
    expect(left).toEqual(["f2b-watch.ts", "state"]);
  });

  test("the binary runs from a folder without anything, by any name, without HOME", async () => {
    using folder = new Folder();
    const copy = join(folder.directory, "watch");
    fs.copyFileSync(compiled(), copy);
    await folder.expectPrinted(["env", "-i", copy, "--state", folder.state]);
    const left = ["fail2ban.log", "fail2ban.log.env-file", "state", "watch"];
    expect(fs.readdirSync(folder.directory).sort()).toEqual(left);
  });
});

// ── A hostile folder ────────────────────────────────────────────────────────────────────────────

describe("a working directory that somebody else may write to", () => {
  /** Leaves in the folder what Bun would run, read and obey. */
  function setTraps(folder: Folder, webhook: string): string {
    const trace = join(folder.directory, "trapped");
    const put = (name: string, text: string) =>
      fs.writeFileSync(join(folder.directory, name), text);
    put("evil.js", `require("node:fs").writeFileSync(${JSON.stringify(trace)}, "");`);
    put("bunfig.toml", 'preload = ["./evil.js"]\n[run]\npreload = ["./evil.js"]\n');
    put("package.json", '{"imports": {"zod": "./evil.js"}, "dependencies": {"zod": "0.0.1"}}');
    put("tsconfig.json", '{"compilerOptions": {"paths": {"cac": ["./evil.js"]}}}');
    put(".env", `DISCORD_WEBHOOK=${webhook}\nF2B_HOST=evil\nNODE_TLS_REJECT_UNAUTHORIZED=0\n`);
    return trace;
  }

  test("the binary runs none of its code and reads none of its settings", async () => {
    using folder = new Folder();
    using service = served();
    const { discord } = service;
    const trace = setTraps(folder, discord.webhook);
    const out = await folder.expectPrinted([compiled(), "--state", folder.state]);
    expect(out).not.toContain("evil");
    expect(fs.existsSync(trace)).toBe(false);
    expect(discord.requests).toEqual([]);
  });

  test("the traps are real: bun itself falls into them", async () => {
    using folder = new Folder();
    const trace = setTraps(folder, "http://127.0.0.1:9/");
    const print = join(folder.directory, "print.js");
    fs.writeFileSync(print, "console.log(process.env.F2B_HOST)");
    expect(await folder.start([bun, print])).toEqual({ code: 0, out: "evil\n", err: "" });
    expect(fs.existsSync(trace)).toBe(true);
  });

  testWith("strace")("the binary opens no file of it but those it was told of", async () => {
    using folder = new Folder();
    setTraps(folder, "http://127.0.0.1:9/");
    folder.append(...lines(1, 3));
    const trace = join(folder.directory, "trace");
    const strace = ["strace", "-f", "-e", "trace=open,openat", "-o", trace];
    const options = ["--log", "fail2ban.log", "--state", "state"];
    await folder.start([...strace, compiled(), ...options]);
    const calls = fs.readFileSync(trace, "utf8").matchAll(/"([^"]*)"[^"]*$/gm);
    const opened = Array.from(calls, ([, path = ""]) => path);
    const here = opened.filter((path) => !/^\//.test(path) || path.startsWith(folder.directory));
    const told = (path: string) =>
      path === folder.directory || path.startsWith(folder.log) || path.startsWith(folder.state);
    expect(here.some((path) => path === folder.log)).toBe(true);
    expect(here.filter((path) => !told(path))).toEqual([]);
  });
});
