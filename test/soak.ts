/**
 * A writer of 200 numbered lines a second, a real logrotate, a pass every 100 ms by one starter or
 * another, and a Discord that fails at random: no line is missing, none comes again without a reason.
 * Usage: SOAK_SECONDS=600 SOAK_SEED=7 bun test/soak.ts
 */
import * as fs from "node:fs";
import { compiled, line, lines } from "./harness.ts";
import { dice } from "./histories.ts";
import { Logrotate } from "./logrotate.ts";
import { judgeRepeats, Machine, type Starter } from "./machine.ts";

const LINES_PER_SECOND = 200;
const TICK_MS = 10;
const PASS_EVERY_MS = 100;
const FAULT_EVERY_MS = 300;
const ROTATE_EVERY_MS = 1_500;
/** logrotate deletes the 51st: what is not delivered by then is lost by right. */
const MOST_WAITING_FILES = 30;

/** Faults of the server; of the second kind it keeps the message and does not say so. */
const FAULTS = {
  clean: [
    { kind: "reset" },
    { kind: "status", status: 500 },
    { kind: "html", status: 502 },
    { kind: "rate-limit", retryAfterS: 2 },
    { kind: "cloudflare" },
    { kind: "slow", ms: 40 },
  ],
  repeating: [
    { kind: "reset-after-saving" },
    { kind: "status-after-saving", status: 503 },
    { kind: "cut" },
  ],
} as const;

class Soak {
  readonly #machine = new Machine({ rateLimits: false });
  readonly #logrotate = new Logrotate(this.#machine);
  readonly #roll: () => number;
  readonly #exits: Record<string, number> = {};
  readonly #wrong: string[] = [];
  #descriptor = -1;
  /** What is still to be written of a line. */
  #rest = "";
  #written = 0;
  /** How much was written when the log was rotated. */
  readonly #rotatedAt: number[] = [];
  #faults = 0;
  #mayRepeat = 0;

  constructor(seed: number) {
    this.#roll = dice(seed);
    this.#open();
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.#descriptor);
    this.#machine[Symbol.dispose]();
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#roll() * from.length)] as T;
  }

  #finishLine(): void {
    fs.writeSync(this.#descriptor, this.#rest);
    this.#rest = "";
  }

  /** As fail2ban does at its start and when it is told of a rotation: between two lines. */
  #open(): void {
    if (this.#descriptor >= 0) {
      this.#finishLine();
      fs.closeSync(this.#descriptor);
    }
    this.#descriptor = fs.openSync(this.#machine.log, "a", 0o640);
  }

  async run(seconds: number) {
    // What was rotated away before a first run is not for it to send.
    await this.#pass("binary");
    const endsAt = performance.now() + seconds * 1_000;
    const loop = async (everyMs: number, step: () => unknown) => {
      for (; performance.now() < endsAt; await Bun.sleep(everyMs)) await step();
    };
    const passes: Promise<void>[] = [];
    await Promise.all([
      this.#write(endsAt - seconds * 1_000, endsAt),
      loop(ROTATE_EVERY_MS, () => this.#rotate()),
      loop(FAULT_EVERY_MS, () => this.#fail()),
      loop(PASS_EVERY_MS, () => void passes.push(this.#pass())),
    ]);
    await Promise.all(passes);
    return this.#settle();
  }

  /** Writes what is due; now and then a line's end comes later than its beginning. */
  async #write(begun: number, endsAt: number): Promise<void> {
    while (performance.now() < endsAt) {
      const due = Math.floor(((performance.now() - begun) / 1_000) * LINES_PER_SECOND);
      const fresh = due > this.#written ? lines(this.#written + 1, due) : [];
      this.#written = Math.max(due, this.#written);
      const text = fresh.map((each) => `${each}\n`).join("");
      const cut = this.#roll() < 0.1 ? Math.max(0, text.length - 20) : text.length;
      fs.writeSync(this.#descriptor, text.slice(0, cut));
      this.#rest = text.slice(cut);
      await Bun.sleep(TICK_MS);
      this.#finishLine();
    }
  }

  /** logrotate renames the log; fail2ban writes on into the renamed file until it is told. */
  async #rotate(): Promise<void> {
    const delivered = this.#delivered();
    if (this.#rotatedAt.filter((at) => at > delivered).length > MOST_WAITING_FILES) return;
    await this.#logrotate.rotate();
    this.#rotatedAt.push(this.#written);
    await Bun.sleep(this.#roll() * 300);
    this.#open();
  }

  /** The number of the last line that arrived. */
  #delivered(): number {
    const last = this.#machine.discord.messages.at(-1)?.content ?? "";
    return Number(/ (\d+)\n```$/.exec(last)?.[1] ?? 0);
  }

  #fail(): void {
    const { discord } = this.#machine;
    // On a busy machine there are fewer requests than faults.
    if (discord.faults.length > 5) return;
    const repeating = this.#roll() < 0.2;
    this.#faults++;
    if (repeating) this.#mayRepeat++;
    discord.fail(repeating ? this.#pick(FAULTS.repeating) : this.#pick(FAULTS.clean));
  }

  async #pass(how: Starter = this.#roll() < 0.05 ? "bun" : "binary"): Promise<void> {
    const { code, err } = await this.#machine.go(how, { flags: ["--inline", "0"] });
    this.#exits[code] = (this.#exits[code] ?? 0) + 1;
    if (code !== 0 && code !== 75) this.#wrong.push(`a pass ended with ${code}: ${err}`);
  }

  /** Passes until everything has arrived, or nothing moves any more. */
  async #settle() {
    const { discord } = this.#machine;
    for (let tries = 0; tries < 200; tries++) {
      await this.#pass("binary");
      if (discord.messages.at(-1)?.content.includes(line(this.#written))) break;
      await Bun.sleep(50);
    }
    const { faults, repeats, missing } = judgeRepeats(discord, lines(1, this.#written));
    const wrong = [...this.#wrong, ...faults, ...discord.violations];
    if (missing > 0) wrong.push(`${missing} lines are missing`);
    const notices = discord.messages.filter(({ content }) => content.includes("⚠️"));
    wrong.push(...notices.map(({ content }) => content.slice(0, 300)));
    if (repeats > this.#mayRepeat) wrong.push(`${repeats} messages came again`);
    const counts = { rotations: this.#rotatedAt.length, messages: discord.messages.length };
    const [faulty, mayRepeat, exits] = [this.#faults, this.#mayRepeat, this.#exits];
    return { written: this.#written, ...counts, exits, faulty, repeats, mayRepeat, wrong };
  }
}

export async function soak(seconds: number, seed: number) {
  compiled();
  using all = new Soak(seed);
  return await all.run(seconds);
}

if (import.meta.main) {
  const { SOAK_SECONDS = 60, SOAK_SEED = 1 } = process.env;
  const report = await soak(Number(SOAK_SECONDS), Number(SOAK_SEED));
  console.log(report);
  process.exitCode = report.wrong.length > 0 ? 1 : 0;
}
