/** README's picture is what the program posts today. */
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { draw, picture } from "./picture.ts";

test("the picture shows today's messages (bun run picture, where a change is meant)", async () => {
  expect(await draw()).toBe(fs.readFileSync(picture, "utf8"));
});
