/** Real fail2ban servers, each with its own folder, socket and database. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import type { World } from "../f2b-watch.ts";
import { machine, type Scene } from "./harness.ts";
import { PATH, succeed } from "./logrotate.ts";

export { machine };

type Options = { maxRetry?: number; database?: boolean; jails?: string[]; settings?: string };

/** A fail2ban server with its own folder and its own socket. */
export class Fail2ban {
  readonly #scene: Scene;
  readonly #places: string[];
  #server: Bun.Subprocess | undefined;

  /** One that is at work; its bans are this command. */
  static async started(scene: Scene, actionBan = "/bin/true", options: Options = {}) {
    const server = new Fail2ban(scene, actionBan, options);
    await server.start();
    return server;
  }

  private constructor(
    scene: Scene,
    actionBan: string,
    { maxRetry = 1, database = false, jails = ["sshd"], settings = "" }: Options,
  ) {
    this.#scene = scene;
    const at = (name: string) => join(scene.directory, name);
    const put = (name: string, text: string) => {
      fs.mkdirSync(join(at(name), ".."), { recursive: true });
      fs.writeFileSync(at(name), text);
    };
    this.#places = ["-c", at("f2b"), "-s", at("sock"), "-p", at("pid")];
    fs.writeFileSync(at("auth.log"), "");
    const main = [`logtarget = ${scene.log}`, `socket = ${at("sock")}`, `pidfile = ${at("pid")}`];
    main.push("loglevel = INFO", "syslogsocket = auto", "allowipv6 = auto");
    main.push(`dbfile = ${database ? at("bans.sqlite3") : "None"}`);
    put("f2b/fail2ban.conf", `[Definition]\n${main.join("\n")}\n`);
    const jail = ["enabled = true", "backend = polling", "findtime = 10m"];
    jail.push(
      `maxretry = ${maxRetry}`,
      settings,
      "bantime = 1h",
      "usedns = no",
      "filter = lab",
      "action = lab",
    );
    jail.push(`logpath = ${at("auth.log")}`, ...jails.map((name) => `[${name}]`));
    put("f2b/jail.conf", `[DEFAULT]\n${jail.join("\n")}\n`);
    const failure = "^ Failed password for <F-USER>.*</F-USER> from <HOST>$";
    put("f2b/filter.d/lab.conf", `[Definition]\nfailregex = ${failure}\ndatepattern = ^Epoch\n`);
    put("f2b/action.d/lab.conf", `[Definition]\nactionban = ${actionBan}\nactionunban =\n`);
  }

  async start(): Promise<void> {
    const command = ["fail2ban-server", "-f", "-x", ...this.#places, "start"];
    this.#server = Bun.spawn(command, {
      env: { ...process.env, PATH },
      stdout: "ignore",
      stderr: "ignore",
    });
    for (let tries = 0; tries < 200; tries++) {
      if (spawnSync("fail2ban-client", [...this.#places, "ping"]).status === 0) return;
      await Bun.sleep(20);
    }
    throw new Error("fail2ban does not start");
  }

  /** What a shell must run to make it open its log anew. */
  get flushCommand(): string {
    return `fail2ban-client ${this.#places.join(" ")} flushlogs`;
  }

  /** Somebody tries to log in from these addresses. */
  attackFrom(...addresses: string[]): void {
    this.attackAs("root", ...addresses);
  }

  attackAs(user: string, ...addresses: string[]): void {
    const now = Math.floor(Date.now() / 1000);
    const attempts = addresses.map((each) => `${now} Failed password for ${user} from ${each}\n`);
    fs.appendFileSync(join(this.#scene.directory, "auth.log"), attempts.join(""));
  }

  async ban(...addresses: string[]): Promise<void> {
    await succeed("fail2ban-client", ...this.#places, "set", "sshd", "banip", ...addresses);
  }

  /** Takes the place of the machine's own fail2ban-client. */
  readonly client: World["runProgram"] = (program, words) =>
    machine().runProgram(program, [...this.#places, ...words]);

  async stop(): Promise<void> {
    await succeed("fail2ban-client", ...this.#places, "stop");
    await this.#server?.exited;
  }

  /** As the kernel does when memory is short: the socket stays behind. */
  async kill(): Promise<void> {
    this.#server?.kill("SIGKILL");
    await this.#server?.exited;
  }

  [Symbol.dispose](): void {
    this.#server?.kill("SIGKILL");
  }
}
