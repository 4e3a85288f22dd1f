/** The rotations that a log goes through between two runs: every line once, in order, never again. */
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { line, lines, Scene } from "./harness.ts";
import { addSlack } from "./slack.ts";

/** The kernel opens no file with this ending, so many times. */
function refuseToOpen(scene: Scene, suffix: string, message: string, times = Infinity): void {
  let left = times;
  scene.withFs({
    openSync: (path, ...rest) => {
      if (String(path).endsWith(suffix) && left-- > 0)
        throw Object.assign(new Error(message), { code: message.split(":")[0] });
      return fs.openSync(path, ...rest);
    },
  });
}

/** Deletes the log and writes another that is given the same inode again, as ext4 does. */
function recreate(scene: Scene, ...texts: string[]): void {
  const { ino } = fs.statSync(scene.log);
  scene.remove();
  scene.append(...texts);
  const fresh = fs.statSync(scene.log).ino;
  const alike = (stat: fs.Stats | undefined) => {
    if (stat?.ino === fresh) stat.ino = ino;
    return stat;
  };
  scene.withFs({
    fstatSync: ((descriptor: number) => alike(fs.fstatSync(descriptor))) as typeof fs.fstatSync,
    statSync: ((path: string) =>
      alike(fs.statSync(path, { throwIfNoEntry: false }))) as typeof fs.statSync,
  });
}

const size = (scene: Scene, suffix = "") => fs.statSync(scene.path(suffix)).size;

test("append", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  await scene.passPosts(...lines(6, 8));
});

test("partial last line, later completed", async () => {
  using scene = await Scene.after(1, 3);
  const [start, end] = [line(4).slice(0, 40), line(4).slice(40)];
  scene.write(start);
  await scene.passPosts();
  scene.write(`${end}\n`);
  scene.append(line(5));
  await scene.passPosts(line(4), line(5));
});

test("rename, unread tail in .1", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(6, 10));
});

test("rename, unread tail in .1, new file longer than old offset", async () => {
  using scene = await Scene.after(1, 5);
  const offset = size(scene);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 18));
  expect(size(scene)).toBeGreaterThan(offset);
  await scene.passPosts(...lines(6, 18));
});

test("rename, unread tail in .1, new file still empty at the run", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  await scene.passPosts(...lines(6, 8));
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(9, 10));
});

test("run lands inside the flushlogs window", async () => {
  using scene = await Scene.after(1, 5);
  scene.rotate();
  await scene.passPosts();
  scene.write(`${line(6)}\n${line(7)}\n`, ".1");
  scene.append(...lines(8, 9));
  await scene.passPosts(...lines(6, 9));
});

test("two rotations between runs", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 12));
  scene.rotate();
  scene.append(...lines(13, 14));
  await scene.passPosts(...lines(6, 14));
});

test("two rotations, older one .2.gz", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 12));
  scene.rotate();
  scene.compress(".2");
  scene.append(...lines(13, 14));
  await scene.passPosts(...lines(6, 14));
});

test("compress at once (.1.gz)", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.compress(".1");
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(6, 10));
});

test("dateext", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotateByDate("20261122");
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(6, 10));
});

test("dateext with a stale .1 lying there", async () => {
  using scene = new Scene();
  scene.write(lines(101, 104).join("\n") + "\n", ".1");
  scene.append(...lines(1, 5));
  await scene.passPosts(...lines(1, 5));
  scene.append(...lines(6, 8));
  scene.rotateByDate("20261122");
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(6, 10));
});

test("copytruncate, new shorter, tail unread", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.copytruncate();
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(6, 10));
});

test("copytruncate, new longer, tail unread", async () => {
  using scene = await Scene.after(1, 5);
  const offset = size(scene);
  scene.append(...lines(6, 8));
  scene.copytruncate();
  scene.append(...lines(9, 18));
  expect(size(scene)).toBeGreaterThan(offset);
  await scene.passPosts(...lines(6, 18));
});

test("copytruncate, new longer, old drained", async () => {
  using scene = await Scene.after(1, 5);
  const offset = size(scene);
  scene.copytruncate();
  scene.append(...lines(6, 15));
  expect(size(scene)).toBeGreaterThan(offset);
  await scene.passPosts(...lines(6, 15));
});

test("copytruncate, new exactly as long", async () => {
  using scene = await Scene.after(11, 15);
  const offset = size(scene);
  scene.copytruncate();
  scene.append(...lines(16, 20));
  expect(size(scene)).toBe(offset);
  await scene.passPosts(...lines(16, 20));
});

test("delete + recreate, inode reused, longer", async () => {
  using scene = await Scene.after(1, 5);
  recreate(scene, ...lines(6, 15));
  await scene.passPostsAfterGap(5, ...lines(6, 15));
});

test("delete + recreate, inode reused, same size", async () => {
  using scene = await Scene.after(11, 15);
  const offset = size(scene);
  recreate(scene, ...lines(16, 20));
  expect(size(scene)).toBe(offset);
  await scene.passPostsAfterGap(5, ...lines(16, 20));
});

test("new file begins with the same first line", async () => {
  using scene = await Scene.after(1, 5);
  scene.rotate();
  scene.append(line(1), ...lines(6, 15));
  await scene.passPosts(line(1), ...lines(6, 15));
});

test("log missing at one run, back at the next", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate({ create: false });
  await scene.passPosts(...lines(6, 8));
  scene.append(...lines(9, 10));
  await scene.passPosts(...lines(9, 10));
});

test("empty at first run, grows, rotates", async () => {
  using scene = new Scene();
  scene.append();
  await scene.passPosts();
  scene.append(...lines(1, 3));
  scene.rotate();
  scene.append(...lines(4, 5));
  await scene.passPosts(...lines(1, 5));
});

test("partial line, completed, then rotated", async () => {
  using scene = await Scene.after(1, 3);
  scene.write(line(4).slice(0, 40));
  await scene.passPosts();
  scene.write(`${line(4).slice(40)}\n`);
  scene.rotate();
  scene.append(...lines(5, 6));
  await scene.passPosts(...lines(4, 6));
});

test("file copied back (new inode, same content)", async () => {
  using scene = await Scene.after(1, 5);
  fs.copyFileSync(scene.log, scene.path(".restored"));
  fs.renameSync(scene.path(".restored"), scene.log);
  await scene.passPosts();
  scene.append(...lines(6, 7));
  await scene.passPosts(...lines(6, 7));
});

test("head trimmed in place", async () => {
  using scene = await Scene.after(1, 20);
  fs.writeFileSync(scene.log, lines(16, 20).join("\n") + "\n");
  scene.append(...lines(21, 23));
  await scene.passPosts(...lines(21, 23));
});

test("copytruncate under a non-append writer (NUL hole)", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 7));
  const hole = size(scene);
  scene.copytruncate();
  fs.truncateSync(scene.log, hole);
  scene.append(...lines(8, 9));
  expect(fs.readFileSync(scene.log).subarray(0, hole)).toEqual(Buffer.alloc(hole));
  await scene.passPosts(...lines(6, 9));
});

test("invalid UTF-8 bytes", async () => {
  using scene = await Scene.after(1, 3);
  scene.write(new Uint8Array([0x61, 0xff, 0xfe, 0x62, 0xc3, 0x0a]));
  scene.append(line(4));
  await scene.passPosts("a\ufffd\ufffdb\ufffd", line(4));
  scene.rotate();
  scene.append(line(5));
  await scene.passPosts(line(5));
});

test("mtime forward / back, no new data", async () => {
  using scene = await Scene.after(1, 5);
  for (const time of [new Date(2040, 0, 1), new Date(0)]) {
    fs.utimesSync(scene.log, time, time);
    await scene.passPosts();
  }
  scene.append(line(6));
  fs.utimesSync(scene.log, 0, 0);
  await scene.passPosts(line(6));
});

test("a file that grows while it is looked at hides none behind it: no gap, each line once", async () => {
  using scene = await Scene.after(1, 30);
  scene.append(...lines(31, 60));
  scene.rotate();
  scene.append(...lines(61, 80));
  scene.rotate();
  scene.compress(".2");
  let listings = 0;
  scene.withFs({
    readdirSync: ((...args: Parameters<typeof fs.readdirSync>) => {
      if (++listings <= 3) scene.write(`${line(80 + listings)}\n`, ".1");
      return fs.readdirSync(...args);
    }) as typeof fs.readdirSync,
  });
  await scene.pass();
  await scene.pass();
  scene.expectPosted(...lines(31, 83));
  expect(scene.notices()).toEqual([]);
});

test("a younger rotated file that cannot be opened is told, not passed over", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 12));
  scene.rotate();
  scene.append(...lines(13, 14));
  refuseToOpen(scene, ".1", "EIO: i/o error");
  await scene.passPostsAfterGap(5, ...lines(6, 8), ...lines(13, 14));
  expect(scene.notices()[0]).toContain("not read: fail2ban.log.1 (");
});

test("a rotated file that cannot be opened at once is opened a moment later", async () => {
  using scene = await Scene.after(1, 5);
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 12));
  refuseToOpen(scene, ".1", "EACCES: permission denied", 1);
  await scene.passPosts(...lines(6, 12));
});

test.each([".7.xz", "-20240101.xz", "-20240101.bz2"])(
  "an old %s that cannot be read is nobody's business: no rotation is a gap",
  async (stale) => {
    using scene = await Scene.after(1, 5);
    fs.writeFileSync(scene.path(stale), "not for us\n");
    for (let number = 6; number <= 8; number++) {
      scene.rotate();
      scene.append(line(number));
      await scene.passPosts(line(number));
    }
    expect(scene.notices()).toEqual([]);
  },
);

test("a younger rotated file that stays closed is told once, however often another destination fails", async () => {
  using scene = new Scene();
  const slack = addSlack(scene);
  scene.append(...lines(1, 5));
  await scene.pass();
  slack.failAlways({ kind: "status", status: 500 });
  scene.append(line(6));
  scene.rotate();
  scene.append(line(7));
  scene.rotate();
  refuseToOpen(scene, ".1", "EIO: i/o error");
  for (let runs = 0; runs < 4; runs++) {
    expect((await scene.run()).code).toBe(75);
    scene.wait(20 * 60_000);
  }
  expect(scene.notices()).toHaveLength(1);
});
