/** A change that is not meant to change what people see changes none of these. */
import { expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kept, outputs } from "./golden.ts";

/** The lines in which two texts differ, as `diff -u` shows them. */
function difference(before: string, after: string): string {
  const directory = fs.mkdtempSync(join(tmpdir(), "golden-"));
  fs.writeFileSync(join(directory, "kept"), before);
  fs.writeFileSync(join(directory, "now"), after);
  const { stdout } = spawnSync("diff", ["-u", "kept", "now"], { cwd: directory, encoding: "utf8" });
  fs.rmSync(directory, { recursive: true });
  return stdout.slice(0, 4_000);
}

test("what is shown of the fixtures is as it was (bun run golden, where a change is meant)", async () => {
  const changed: Record<string, string> = {};
  for (const [name, text] of await outputs()) {
    const before = kept(name) ?? "";
    if (text !== before) changed[name] = difference(before, text);
  }
  expect(changed).toEqual({});
});
