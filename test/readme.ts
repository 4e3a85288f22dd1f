/** README's own blocks, so that a test runs what a reader copies. */
import * as fs from "node:fs";
import { join } from "node:path";
import { repository } from "./harness.ts";

const README = fs.readFileSync(join(repository, "README.md"), "utf8");

/** The text of the fence that follows the comment `<!-- name -->`, indented or not. */
export function block(name: string): string {
  const fence = new RegExp(
    `^( *)<!-- ${RegExp.escape(name)} -->\\n+\\1(\`{3,})\\w*\\n([^]*?)^\\1\\2$`,
    "m",
  );
  const [, indent = "", , text] = fence.exec(README) ?? [];
  if (text === undefined) throw new Error(`README has no block <!-- ${name} -->`);
  return text.replaceAll(new RegExp(`^${indent}`, "gm"), "");
}

/** A block that is a file, with the path that its first line gives: `# /etc/…`. */
export function file(name: string): { path: string; text: string } {
  const text = block(name);
  const [, path] = /^# (\/\S+)\n/.exec(text) ?? [];
  if (path === undefined) throw new Error(`<!-- ${name} --> does not say where it goes`);
  return { path, text };
}
