/** Many logs in one pass, and many hosts on one webhook. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { main, type World } from "../f2b-watch.ts";
import { Discord } from "./discord.ts";
import { DONE, line, lines, Scene } from "./harness.ts";

setDefaultTimeout(180_000);

/** A folder with a folder for each host, as a central log host has it. */
class Hosts extends Scene {
  at(host: string, suffix = ""): string {
    return join(this.directory, "hosts", host, `fail2ban.log${suffix}`);
  }

  appendAt(host: string, ...texts: string[]): void {
    fs.mkdirSync(join(this.directory, "hosts", host), { recursive: true });
    fs.appendFileSync(this.at(host), texts.map((text) => `${text}\n`).join(""));
  }

  override run(...flags: string[]) {
    const glob = join(this.directory, "hosts/*/fail2ban.log");
    return this.f2bWatch("--log", glob, "--host", "{dir}", ...flags);
  }

  /** What each host told, by the name that it told it under. */
  told(): Record<string, string[]> {
    const byName = Object.groupBy(this.discord.messages, ({ username }) => username);
    return Object.fromEntries(
      Object.entries(byName).map(([name, messages = []]) => [
        name,
        messages.flatMap(({ content }) => content.split("\n").slice(1, -1)),
      ]),
    );
  }
}

describe("--log with a glob", () => {
  test("watches every log that matches, each under its own name and with its own state", async () => {
    using scene = new Hosts();
    scene.appendAt("web-1", ...lines(1, 3));
    scene.appendAt("db-1", ...lines(4, 5));
    await scene.pass();
    scene.appendAt("web-1", line(6));
    await scene.pass();
    expect(scene.told()).toEqual({
      "Fail2Ban · db-1": lines(4, 5),
      "Fail2Ban · web-1": [...lines(1, 3), line(6)],
    });
    expect(fs.readdirSync(scene.state).filter((name) => name.endsWith(".json"))).toHaveLength(2);
    expect(scene.discord.violations).toEqual([]);
    await scene.expectQuiet();
  });

  test("a pass that comes while check posts tells its log under the log's own name", async () => {
    using scene = new Hosts();
    scene.appendAt("db-1", line(1));
    const watch = (...argv: string[]) =>
      scene.f2bWatch(...argv, "--log", scene.at("db-1"), "--host", "{dir}");
    expect(await watch()).toEqual(DONE);
    let late: ReturnType<typeof watch> | undefined;
    scene.overrides.fetch = async (url, init) => {
      if (!late && init.method === "POST") {
        scene.appendAt("db-1", line(2));
        late = watch();
        await late;
      }
      return scene.discord.fetch(url, init);
    };
    await watch("check", "--hello");
    expect(await late).toEqual(DONE);
    expect(scene.told()["Fail2Ban · db-1"]).toEqual(lines(1, 2));
  });

  test.each([".1", "-20261122"])("finds a new host, goes on in one rotated to %s", async (to) => {
    using scene = new Hosts();
    scene.appendAt("web-1", ...lines(1, 3));
    await scene.run();
    scene.appendAt("web-1", line(4));
    fs.renameSync(scene.at("web-1"), scene.at("web-1", to));
    // Of a host that was gone before the first run.
    scene.appendAt("web-0", line(0));
    fs.renameSync(scene.at("web-0"), scene.at("web-0", "-20251122"));
    scene.appendAt("web-2", line(5));
    await scene.pass();
    scene.appendAt("web-1", line(6));
    await scene.pass();
    expect(scene.told()).toEqual({
      "Fail2Ban · web-1": [...lines(1, 4), line(6)],
      "Fail2Ban · web-2": [line(5)],
    });
  });

  test("keeps one rate limit for all of them, across passes too", async () => {
    using scene = new Hosts();
    for (let host = 0; host < 40; host++) scene.appendAt(`web-${host}`, line(host));
    await scene.pass();
    expect(scene.discord.messages).toHaveLength(40);
    for (let host = 0; host < 10; host++) scene.appendAt(`web-${host}`, line(100 + host));
    await scene.pass();
    const { messages, count429, violations } = scene.discord;
    expect([messages.length, count429, violations]).toEqual([50, 0, []]);
  });

  test("says once what ends it for all of them, and once that it is over", async () => {
    using scene = new Hosts();
    for (let host = 0; host < 3; host++) scene.appendAt(`web-${host}`, line(host));
    scene.discord.delete();
    expect((await scene.run()).err.match(/Discord: /g)).toHaveLength(1);
    scene.discord.restore();
    scene.wait(25 * 60 * 60_000);
    expect((await scene.run()).err.match(/works again/g)).toHaveLength(1);
    const { out } = await scene.run("check");
    expect(out.match(/^✓ progress .*web-\d\/fail2ban\.log: discord after /gm)).toHaveLength(3);
  });

  test("one log that cannot be read keeps none of the others back", async () => {
    using scene = new Hosts();
    scene.appendAt("web-1", line(1));
    fs.mkdirSync(scene.at("web-0"), { recursive: true });
    scene.appendAt("web-2", line(2));
    const { code, err } = await scene.run();
    expect(code).toBe(66);
    expect(err).toContain("web-0/fail2ban.log: it is not a regular file");
    expect(Object.keys(scene.told())).toEqual(["Fail2Ban · web-1", "Fail2Ban · web-2"]);
  });

  test("stops when the time is up, wherever it is, and goes on in the next run", async () => {
    using scene = new Hosts();
    for (let host = 0; host < 60; host++) scene.appendAt(`web-${host}`, line(host));
    let runs = 1;
    for (; (await scene.run("--max-time", "30")).code === 75; runs++) scene.wait(60_000);
    expect(runs).toBeGreaterThan(1);
    expect(scene.discord.lines().toSorted()).toEqual(lines(0, 59).toSorted());
    expect(scene.discord.count429).toBe(0);
  });

  test("that matches nothing is 66, and a name with brackets that is there is just a name", async () => {
    using scene = new Hosts();
    expect(await scene.run()).toMatchObject({ code: 66, err: expect.stringContaining("no log") });
    const odd = join(scene.directory, "odd[1].log");
    fs.writeFileSync(odd, `${line(1)}\n`);
    expect(await scene.f2bWatch("--log", odd)).toEqual(DONE);
    scene.expectPosted(line(1));
  });

  test("serves a quiet log beside noisy ones that sort before it: a run begins where the last one ended", async () => {
    using scene = new Hosts();
    scene.appendAt("z-quiet", line(1));
    await scene.run();
    const quiet = () => scene.told()["Fail2Ban · z-quiet"];
    scene.appendAt("z-quiet", line(2));
    for (let run = 0; run < 6 && quiet()?.length !== 2; run++) {
      for (const host of ["a", "b", "c"])
        scene.appendAt(host, ...lines(1_000 * run, 1_000 * run + 999));
      expect((await scene.run("--max-time", "30")).code).toBe(75);
      scene.wait(60_000);
    }
    expect(quiet()).toEqual(lines(1, 2));
    expect(scene.discord.violations).toEqual([]);
  });

  test("follows no link that it found", async () => {
    using scene = new Hosts();
    scene.appendAt("b", line(1));
    fs.mkdirSync(dirname(scene.at("a")));
    fs.writeFileSync(join(scene.directory, "secret"), "root:x:0:0\n");
    fs.symlinkSync(join(scene.directory, "secret"), scene.at("a"));
    const { code, err } = await scene.run();
    expect(code).toBe(66);
    expect(err).toContain("it is a link");
    scene.expectPosted(line(1));
  });

  test.each(["*", "a\nb", "&".repeat(200), "$&"])("is not fooled by a folder %j", async (name) => {
    using scene = new Hosts();
    scene.appendAt(name, line(1));
    scene.appendAt("web-1", line(2));
    await scene.pass();
    expect(scene.newlyPosted().toSorted()).toEqual(lines(1, 2));
    expect(scene.discord.violations).toEqual([]);
  });
});

/** Time that passes only when everybody waits. */
class VirtualTime {
  now = Date.UTC(2026, 10, 22, 12);
  readonly #sleepers: { at: number; wake: () => void }[] = [];

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => this.#sleepers.push({ at: this.now + Math.max(0, ms), wake }));
  }

  async runUntil(done: () => boolean): Promise<void> {
    while (!done()) {
      for (let turn = 0; turn < 12; turn++) await new Promise((next) => setImmediate(next));
      const next = this.#sleepers.toSorted((a, b) => a.at - b.at)[0];
      if (!next) continue;
      this.#sleepers.splice(this.#sleepers.indexOf(next), 1);
      this.now = Math.max(this.now, next.at);
      next.wake();
    }
  }
}

test("200 hosts with 20 lines each and one webhook: every line once, within 1.2 times what the limit allows", async () => {
  const time = new VirtualTime();
  const discord = new Discord({ now: () => time.now, sleep: (ms) => time.sleep(ms) });
  const scenes = Array.from({ length: 200 }, () => new Scene());
  const started = time.now;
  let left = scenes.length;
  let lastAt = 0;
  /** Cron on one host: each minute, until it had nothing left to send. */
  const host = async (scene: Scene, number: number) => {
    scene.append(...lines(number * 20, number * 20 + 19));
    for (;;) {
      const world: World = {
        ...scene.world(),
        env: { DISCORD_WEBHOOK: discord.webhook },
        now: () => time.now,
        sleep: (ms) => time.sleep(ms),
        random: Math.random,
        timeout: () => new AbortController().signal,
        fetch: (url, init) => discord.fetch(url, init),
        hostName: () => `host-${number}`,
      };
      if ((await main(["--log", scene.log], world)) === 0) break;
      await time.sleep(60_000 - (time.now % 60_000));
    }
    lastAt = Math.max(lastAt, time.now);
    left--;
  };
  for (const [number, scene] of scenes.entries()) void host(scene, number);
  await time.runUntil(() => left === 0);
  for (const scene of scenes) scene[Symbol.dispose]();
  expect(discord.lines().toSorted()).toEqual(lines(0, 3_999).toSorted());
  expect(discord.messages).toHaveLength(200);
  const leastMs = (200 / 30) * 60_000;
  expect((lastAt - started) / leastMs).toBeLessThanOrEqual(1.2);
});
