import { expect, test } from "bun:test";
import { line, lines, Scene } from "./harness.ts";

test("append: new lines are posted once", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 5));
  await scene.pass();
  scene.expectPosted(...lines(1, 5));
  scene.append(...lines(6, 8));
  await scene.pass();
  scene.expectPosted(...lines(6, 8));
  await scene.expectQuiet();
});

test("rename, unread tail in .1", async () => {
  using scene = new Scene();
  scene.append(...lines(1, 5));
  await scene.pass();
  scene.append(...lines(6, 8));
  scene.rotate();
  scene.append(...lines(9, 10));
  await scene.pass();
  scene.expectPosted(...lines(1, 10));
  expect(scene.notices()).toEqual([]);
  await scene.expectQuiet();
});
