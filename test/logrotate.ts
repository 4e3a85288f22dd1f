/** Real logrotate with Debian's own configuration for fail2ban. */
import { expect } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import type { Scene } from "./harness.ts";

const FIXTURES = join(import.meta.dirname, "fixtures");
/** Where programs of the administrator are, too. */
export const PATH = `${process.env["PATH"]}:/usr/sbin:/sbin`;

/** Runs a program that must succeed. */
export async function succeed(...command: string[]): Promise<string> {
  const env = { ...process.env, PATH };
  const child = Bun.spawn(command, { env, stdout: "pipe", stderr: "pipe" });
  const texts = Promise.all([child.stdout.text(), child.stderr.text()]);
  const [code, [out, err]] = await Promise.all([child.exited, texts]);
  expect({ command, out, err, code }).toMatchObject({ code: 0 });
  return out;
}

/** Debian's own configuration for fail2ban's log, for another log. */
export class Logrotate {
  readonly #log: string;
  readonly #config: string;

  /** `change` edits the text; `flush` takes the place of Debian's call of fail2ban-client. */
  constructor(scene: Scene, { flush = "true", change = (text: string) => text } = {}) {
    const debian = fs.readFileSync(join(FIXTURES, "logrotate/debian-logrotate.d-fail2ban"), "utf8");
    expect(debian).toContain("delaycompress");
    const owner = process.getuid?.() === 0 ? "root adm" : "";
    const text = debian
      .replace("/var/log/fail2ban.log", scene.log)
      .replace("fail2ban-client flushlogs", flush)
      .replace(/^( +create 640).*/m, `$1 ${owner}`)
      .replace("rotate 4", "rotate 50");
    this.#log = scene.log;
    this.#config = join(scene.directory, "logrotate.conf");
    fs.writeFileSync(this.#config, change(text), { mode: 0o600 });
  }

  /** Rotates now. Where names carry the day, a day goes by first. */
  async rotate(): Promise<void> {
    this.#aDayGoesBy();
    await succeed("logrotate", "--force", "--state", `${this.#config}.state`, this.#config);
  }

  #aDayGoesBy(): void {
    const directory = join(this.#log, "..");
    const dated = /^(fail2ban\.log-)(\d{8})(.*)$/;
    for (const name of fs.readdirSync(directory).sort()) {
      const [, start = "", day = "", ending = ""] = dated.exec(name) ?? [];
      if (day === "") continue;
      const at = Date.parse(`${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}`) - 86_400_000;
      const before = new Date(at).toISOString().slice(0, 10).replaceAll("-", "");
      fs.renameSync(join(directory, name), join(directory, start + before + ending));
    }
  }
}
