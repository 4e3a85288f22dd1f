import { expect, test } from "bun:test";
import { playAll, playHistory, randomHistory, shrink, type History } from "./histories.ts";

const count = Number(process.env["HISTORIES"] ?? 2_000);
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

test.each([
  ["honest", undefined],
  ["forgetful", "were not delivered"],
  ["doubling", "came again"],
] as const)("the oracle tells a channel that is %s", async (channel, what) => {
  expect((await playHistory(plain, channel))?.what).toEqual(what && expect.stringContaining(what));
});

// Each went wrong once, most of them in a way of its own.
const KEPT = `530 9179 504982 7000373 7002005 7003238 7014296 7015040 7018807 8010241 20013884 20017472 20019356
  31000320 31001585 32000245 32000757 33004937 38000216 38000313 8014849 38004395 38005701 50014300 50016837 50082859 971840 50069088
  61008228 61009835 61000742 50065523 71019113 71019500 71039545 73011202 73099635 78033083`;
test.each(KEPT.split(/\s+/))("history %s is as promised", async (seed) => {
  expect(await playHistory(randomHistory(Number(seed)))).toBeUndefined();
});

test("a failing history shrinks to the steps that matter", async () => {
  const small = await shrink(plain, "line 0 came again", "doubling");
  expect(small.steps).toEqual([{ kind: "write", a: 0.4, b: 0.3 }]);
});

test(`random histories: every line once and in order (HISTORIES_SEED=${firstSeed} HISTORIES=${count})`, async () => {
  expect(await playAll(firstSeed, count)).toBe("");
}, 86_400_000);
