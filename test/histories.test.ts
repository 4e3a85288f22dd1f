import { expect, test } from "bun:test";
import { playAll, playHistory, shrink, type History } from "./histories.ts";

const count = Number(process.env["HISTORIES"] ?? 3_000);
const firstSeed = Number(process.env["HISTORIES_SEED"] ?? 1);

/** Twelve lines in four writes, a run after each. */
const plain: History = {
  scheme: "number",
  stale: false,
  steps: [0, 1, 2, 3].flatMap(() => [
    { kind: "write", a: 0.4, b: 0.3 },
    { kind: "run", a: 0, b: 0 },
  ]),
};

test("a plain history is as promised", async () => {
  expect(await playHistory(plain)).toBeUndefined();
});

test("the oracle notices a channel that forgets what it took", async () => {
  const failure = await playHistory(plain, "forgetful");
  expect(failure?.what).toContain("were not delivered");
});

test("the oracle notices a message that comes twice", async () => {
  const failure = await playHistory(plain, "doubling");
  expect(failure?.what).toContain("came again");
});

test("a failing history shrinks to the steps that matter", async () => {
  const small = await shrink(plain, "line 0 came again", "doubling");
  expect(small.steps).toEqual([{ kind: "write", a: 0.4, b: 0.3 }]);
});

test(`random histories: every line once and in order (HISTORIES_SEED=${firstSeed} HISTORIES=${count})`, async () => {
  expect(await playAll(firstSeed, count)).toBe("");
}, 86_400_000);
