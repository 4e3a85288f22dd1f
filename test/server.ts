/**
 * A private copy of this machine: its files copied on write, its own processes, /dev, /run and /tmp,
 * the same network. What README says can be done in it to the letter, and is gone when the test is.
 */
import { afterAll, expect } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Discord } from "./discord.ts";
import { compiled, repository, type RunResult, testWith, until } from "./harness.ts";
import { block, file } from "./readme.ts";

const NAMESPACES = ["--mount", "--uts", "--pid", "--cgroup", "--fork", "--kill-child"];
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** As a root shell has it; npm and python may lie elsewhere. */
const { NODE_EXTRA_CA_CERTS } = process.env;
const ENVIRONMENT = {
  PATH: `${PATH}:${process.env["PATH"]}`,
  HOME: "/root",
  LANG: "C.UTF-8",
  NODE_EXTRA_CA_CERTS,
};

const BASH = ["bash", "-o", "pipefail"];
/** The webhook as README has it. */
const PLACEHOLDER = "https://discord.com/api/webhooks/…";

/** There as soon as the copy is, and in no other machine. */
const READY = `/run/f2b-watch-copy-${process.pid}`;

const LOG = "/var/log/fail2ban.log";
/** A jail that reads a log of sshd's, and bans by writing the address down. */
const JAIL = `[DEFAULT]
banaction = written-down
usedns = no
[sshd]
enabled = true
backend = polling
maxretry = 1
`;
const BANACTION = `[Definition]
actionban = echo <ip> >> /banned
actionunban =
`;

/** Makes the copy under `$1`, with the repository `$2` in /opt/f2b-watch; then becomes its first process. */
const SET_UP = `
set -e
base=$1 repository=$2
shift 2
hostname web-1
mount -t tmpfs tmpfs "$base"
copy() {
  mkdir -p "$2" "$base/$3/upper" "$base/$3/work"
  mount -t overlay overlay "$2" -o "lowerdir=$1,upperdir=$base/$3/upper,workdir=$base/$3/work"
}
copy / "$base/root" machine
cd "$base/root"
copy "$repository" opt/f2b-watch checkout
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  touch dev/$node
  mount --bind /dev/$node dev/$node
done
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t devpts -o newinstance devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs tmp
rm -rf var/log/fail2ban.log* var/lib/fail2ban/* var/lib/f2b-watch etc/f2b-watch.env
rm -rf usr/local/bin/f2b-watch etc/fail2ban/*.local etc/fail2ban/jail.d/*
rm -rf etc/cron.d/* etc/cron.*ly/* var/spool/cron/crontabs/* etc/systemd/system/*
mount -t tmpfs -o mode=755 tmpfs run
mkdir run/fail2ban run/lock old
pivot_root . old
umount -l old
rmdir old
touch ${READY}
exec "$@"
`;

/** `testWith` for tests that need such a copy. */
export function testOnServer(...programs: string[]) {
  const able =
    process.getuid?.() === 0 && spawnSync("unshare", [...NAMESPACES, "true"]).status === 0;
  return testWith(...programs, ...(able ? [] : ["root and namespaces"]));
}

/** Those of tests that have not ended: a test that takes too long is given up, its machine is not. */
const running = new Set<Server>();
afterAll(async () => {
  for (const server of running) await server[Symbol.asyncDispose]();
});

/** The copy, and a stand-in for Discord that it can reach. */
export class Server {
  readonly discord = new Discord({ rateLimits: false });
  readonly #base = fs.mkdtempSync(join(tmpdir(), "f2b-watch-server-"));
  readonly #served = this.discord.serve();
  readonly #first: Bun.Subprocess;

  private constructor(init: readonly string[]) {
    running.add(this);
    const die = ["setpriv", "--pdeathsig=KILL", "unshare", ...NAMESPACES];
    const command = [...die, "sh", "-c", SET_UP, "sh", this.#base, repository, ...init];
    const env = { ...ENVIRONMENT, container: "test" };
    this.#first = Bun.spawn(command, { env, stdio: ["ignore", "ignore", "inherit"] });
  }

  /** Starts one; `init` becomes its first process. */
  static async start(...init: string[]): Promise<Server> {
    compiled();
    const server = new Server(init.length > 0 ? init : ["bash", "-c", "sleep infinity; :"]);
    await until(() => server.has(READY));
    return server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!running.delete(this)) return;
    this.#first.kill("SIGKILL");
    await this.#first.exited;
    this.#served.stop();
    fs.rmSync(this.#base, { recursive: true });
  }

  /** One of its files, as it is seen from outside. */
  path(path: string): string {
    return `/proc/${this.#first.pid}/root${path}`;
  }

  has(path: string): boolean {
    return fs.existsSync(this.path(path));
  }

  read(path: string): string {
    return fs.readFileSync(this.path(path), "utf8");
  }

  write(path: string, text: string): void {
    fs.mkdirSync(join(this.path(path), ".."), { recursive: true });
    fs.writeFileSync(this.path(path), text);
  }

  /** Adds lines to fail2ban's log. */
  append(...texts: string[]): void {
    fs.appendFileSync(this.path(LOG), texts.map((text) => `${text}\n`).join(""));
  }

  /** Starts a program in it. */
  start(command: readonly string[], env: Record<string, string> = {}, cwd = "/root", input = "") {
    const { pid } = this.#first;
    const enter = ["nsenter", `--target=${pid}`, "--mount", "--uts", "--cgroup"];
    const place = [`--pid=/proc/${pid}/ns/pid_for_children`, `--wd=${this.path(cwd)}`];
    return Bun.spawn([...enter, ...place, ...command], {
      env: { ...ENVIRONMENT, ...env },
      stdin: new Blob([input]),
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  /** Runs a program in it to its end. */
  async run(...call: Parameters<Server["start"]>): Promise<RunResult> {
    const child = this.start(...call);
    const texts = Promise.all([child.stdout.text(), child.stderr.text()]);
    const [code, [out, err]] = await Promise.all([child.exited, texts]);
    return { code, out, err };
  }

  /** Pastes commands into a root shell, with a real webhook; each must succeed. */
  async paste(commands: string, cwd = "/root", shell = BASH, input = ""): Promise<string> {
    const script = this.#withWebhook(commands);
    const command = [...shell, "-e", "-c", script];
    const { code, out, err } = await this.run(command, {}, cwd, this.#withWebhook(input));
    expect({ script, code, out, err }).toMatchObject({ code: 0 });
    return out + err;
  }

  #withWebhook(text: string): string {
    return text.replaceAll(PLACEHOLDER, this.discord.webhook);
  }

  /** Pastes a block of README into the smallest shell there is; `input` is typed when it waits. */
  pasteBlock(name: string, cwd = "/root", input = ""): Promise<string> {
    return this.paste(block(name), cwd, ["dash"], input);
  }

  /** Installs as README says, in a checkout beside `dist/`; the format is the log's own unless a test wants events. */
  async install({ events = false } = {}): Promise<void> {
    const env = events ? block("env") : block("env").replace("F2B_FORMAT=events\n", "");
    await this.pasteBlock("install", "/opt/f2b-watch", env);
    await this.pasteBlock("cron");
  }

  /** Puts README's files where they say that they go. */
  put(...names: string[]): void {
    for (const name of names) {
      const { path, text } = file(name);
      this.write(path, text);
    }
  }

  /** Starts its fail2ban, as Debian's service does. */
  async startFail2ban(env: Record<string, string> = {}): Promise<void> {
    this.write("/etc/fail2ban/jail.d/sshd.conf", JAIL);
    this.write("/etc/fail2ban/action.d/written-down.conf", BANACTION);
    this.write("/var/log/auth.log", "");
    this.start(["fail2ban-server", "-xf", "start"], env);
    await until(async () => (await this.run(["fail2ban-client", "ping"])).code === 0);
    await until(() => this.log().some((line) => line.includes("Jail 'sshd' started")));
  }

  /** Somebody tries to log in from this address, and is banned. */
  async attackFrom(address: string): Promise<void> {
    const at = String(new Date())
      .slice(4, 24)
      .replace(/ \d{4}/, "");
    const attempt = `${at} web-1 sshd[99]: Failed password for root from ${address} port 22 ssh2\n`;
    fs.appendFileSync(this.path("/var/log/auth.log"), attempt);
    await until(() => this.banned().includes(address));
  }

  /** The addresses that are banned, whatever the log says. */
  readonly banned = () => this.lines("/banned");
  /** The lines of fail2ban's log. */
  readonly log = () => this.lines(LOG);

  /** The whole lines of a file; none where there is no file. */
  lines(path: string): string[] {
    return this.has(path) ? this.read(path).split("\n").slice(0, -1) : [];
  }
}
