/** Public reports of logs that were rotated, rolled back, edited, emptied or copied, as stories. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { line, lines, Scene, testWith } from "./harness.ts";

setDefaultTimeout(60_000);

const text = (...all: string[]) => all.map((each) => `${each}\n`).join("");
const rewrite = (scene: Scene, ...all: string[]) => fs.writeFileSync(scene.log, text(...all));

describe("the last line is gone, lines before it are there: a notice, and what is new", () => {
  test.each<[string, number, string[]]>([
    ["the log is back at its first 40 lines (log2ram)", 60, [...lines(1, 40), ...lines(61, 65)]],
    ["the last 3 lines are lost (power cut)", 30, [...lines(1, 27), ...lines(61, 70)]],
    ["the last line is deleted", 10, [...lines(1, 9), ...lines(61, 63)]],
    ["the last line is edited", 10, [...lines(1, 9), `${line(10)} edited`, ...lines(61, 63)]],
    [
      "the last two lines are edited",
      10,
      [...lines(1, 8), `${line(9)}x`, `${line(10)}x`, line(61)],
    ],
  ])("%s", async (_, sent, now) => {
    using scene = await Scene.after(1, sent);
    rewrite(scene, ...now);
    await scene.passPostsAfterGap(sent, ...now.filter((each) => each >= line(61)));
  });

  test("a log of 20,000 lines is back at 12,345 of them", async () => {
    using scene = new Scene();
    scene.append(...lines(1, 20_000));
    expect((await scene.run("--max-time", "86400")).code).toBe(0);
    scene.newlyPosted();
    rewrite(scene, ...lines(1, 12_345), ...lines(20_001, 20_005));
    await scene.passPostsAfterGap(20_000, ...lines(20_001, 20_005));
  });
});

test("two rotations to -30112026 and -07122026: all in order", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 7));
  scene.rotateByDate("30112026");
  scene.append(...lines(8, 9));
  scene.rotateByDate("07122026");
  scene.append(...lines(10, 11));
  await scene.passPosts(...lines(6, 11));
});

test.each([
  "fail2ban.log-202611",
  "fail2ban.log-2026-11",
  "fail2ban.log_20261122",
  "fail2ban.1.log",
  "fail2ban-20261122.log",
  "fail2ban.log.old",
  "fail2ban.log.1.1",
])("an unread tail in %s is found", async (name) => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 7));
  fs.renameSync(scene.log, join(scene.directory, name));
  scene.append(...lines(8, 9));
  await scene.passPosts(...lines(6, 9));
});

test("another log beside it, fail2ban-other.log, is no rotated form of it", async () => {
  using scene = await Scene.after(1, 5);
  const other = join(scene.directory, "fail2ban-other.log");
  fs.writeFileSync(other, text(line(2, "other"), line(4, "other")));
  scene.append(...lines(6, 7));
  await scene.passPosts(...lines(6, 7));
  fs.appendFileSync(other, text(line(9, "other")));
  scene.append(line(10));
  await scene.passPosts(line(10));
});

for (const [program, ending] of [
  ["xz", "xz"],
  ["bzip2", "bz2"],
] as const) {
  testWith(program)(`three rotations, each compressed at once by ${program}`, async () => {
    using scene = await Scene.after(1, 5);
    for (let number = 6; number <= 8; number++) {
      scene.append(line(number));
      const name = `-2026112${number}`;
      scene.rotateByDate(name.slice(1));
      expect(spawnSync(program, [scene.path(name)]).status).toBe(0);
      expect(fs.existsSync(scene.path(`${name}.${ending}`))).toBe(true);
    }
    scene.append(line(9));
    await scene.passPosts(...lines(6, 9));
  });
}

test("everything sent, then emptied each hour: no notice", async () => {
  using scene = await Scene.after(1, 5);
  for (let number = 6; number <= 10; number++) {
    fs.truncateSync(scene.log, 0);
    scene.append(line(number));
    await scene.passPosts(line(number));
  }
});

test("a log that packs 300 to 1 is unpacked as far as it goes", async () => {
  using scene = new Scene();
  const same = Array.from({ length: 80_000 }, () => line(1));
  scene.append(...same);
  expect((await scene.run("--from", "end")).code).toBe(0);
  scene.append(line(2, "[sshd] Ban 203.0.113.9"));
  scene.rotate();
  scene.compress(".1", "zst");
  scene.append(line(3));
  await scene.passPosts(line(2, "[sshd] Ban 203.0.113.9"), line(3));
});

test("a folder that calls itself * hides no other", async () => {
  using scene = new Scene();
  for (const [index, host] of ["*", "web-1"].entries()) {
    fs.mkdirSync(join(scene.directory, "hosts", host), { recursive: true });
    fs.writeFileSync(join(scene.directory, "hosts", host, "fail2ban.log"), text(line(index)));
  }
  expect((await scene.f2bWatch("--log", join(scene.directory, "hosts/*/fail2ban.log"))).code).toBe(
    0,
  );
  scene.expectPosted(...lines(0, 1));
});

test("a link that wildcards found is not followed", async () => {
  using scene = new Scene();
  for (const host of ["a", "b"])
    fs.mkdirSync(join(scene.directory, "hosts", host), { recursive: true });
  fs.writeFileSync(join(scene.directory, "secret"), "root:x:0:0\n");
  fs.symlinkSync(join(scene.directory, "secret"), join(scene.directory, "hosts/a/fail2ban.log"));
  fs.writeFileSync(join(scene.directory, "hosts/b/fail2ban.log"), text(line(1)));
  const { code, err } = await scene.f2bWatch(
    "--log",
    join(scene.directory, "hosts/*/fail2ban.log"),
  );
  expect([code, err]).toEqual([66, expect.stringContaining("it is a link")]);
  scene.expectPosted(line(1));
});

test.each(["a\nb", "&".repeat(200), "$&"])(
  "a folder named %j is a host's name, made harmless",
  async (name) => {
    using scene = new Scene();
    const directory = join(scene.directory, "hosts", name);
    fs.mkdirSync(directory, { recursive: true });
    fs.writeFileSync(join(directory, "fail2ban.log"), text(line(1)));
    const log = join(scene.directory, "hosts/*/fail2ban.log");
    expect((await scene.f2bWatch("--log", log, "--host", "{dir}")).code).toBe(0);
    scene.expectPosted(line(1));
  },
);

describe("copies", () => {
  test.each(["edited", "trimmed"])(
    "a copy beside the log, which is then %s: nothing again",
    async (how) => {
      using scene = await Scene.after(1, 10);
      fs.copyFileSync(scene.log, scene.path(".bak"));
      const kept = how === "edited" ? [`${line(1)} edited`, ...lines(2, 10)] : lines(6, 10);
      rewrite(scene, ...kept, ...lines(11, 12));
      await scene.passPosts(...lines(11, 12));
    },
  );

  test("lines that stand only in a copy are delivered", async () => {
    using scene = await Scene.after(1, 10);
    scene.append(...lines(11, 12));
    fs.copyFileSync(scene.log, scene.path(".1"));
    rewrite(scene, ...lines(1, 10), line(13));
    await scene.passPosts(...lines(11, 13));
  });

  test("a hard link of the log counts once", async () => {
    using scene = await Scene.after(1, 5);
    fs.linkSync(scene.log, scene.path(".1"));
    scene.append(line(6));
    await scene.passPosts(line(6));
  });
});

test("numbers give way to dates, and a file of the other family was never read", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(line(6));
  scene.rotateByDate("20261122");
  scene.append(line(7));
  scene.rotate();
  scene.append(line(8));
  await scene.passPosts(...lines(6, 8));
});

test("the destination is down from the first run on, and the log is rotated away: told", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 5));
  scene.discord.failAlways({ kind: "refused" });
  expect((await scene.run()).code).toBe(75);
  scene.discord.failAlways(undefined);
  scene.remove();
  scene.append(...lines(6, 7));
  scene.wait(3_600_000);
  expect((await scene.run()).code).toBe(0);
  scene.expectPosted(...lines(6, 7));
  expect(scene.notices()).toEqual([expect.stringContaining("may be missing after line 0")]);
});

test("a damaged .1.gz beside an empty log is told once", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 400));
  scene.rotate();
  scene.compress(".1");
  fs.truncateSync(scene.path(".1.gz"), fs.statSync(scene.path(".1.gz")).size >> 1);
  for (let runs = 0; runs < 4; runs++) expect((await scene.run()).code).toBe(0);
  expect(scene.notices().filter((each) => each.includes("damaged"))).toHaveLength(1);
});
