/** The blocks of README and of its further recipes, so that a test runs what a reader copies. */
import * as fs from "node:fs";
import { join } from "node:path";
import { repository } from "./harness.ts";

export const README = join(repository, "README.md");
export const RECIPES = join(repository, ".github/RECIPES.md");
const texts = [README, RECIPES].map((path) => fs.readFileSync(path, "utf8"));

/** A fence with the comment in front of it, indented or not. */
const fence = (name: string) =>
  new RegExp(
    `^(?<indent> *)<!-- ${name} -->\\n+\\k<indent>(?<ticks>\`{3,})\\w*\\n(?<text>[^]*?)^\\k<indent>\\k<ticks>$`,
    "gm",
  );

const fences = (name: string) =>
  texts.flatMap((text) => Array.from(text.matchAll(fence(name)), ({ groups = {} }) => groups));

/** The text of the fence that follows the comment `<!-- name -->`. */
export function block(name: string): string {
  const found = fences(RegExp.escape(name));
  const [{ indent = "", text } = {}] = found;
  if (text === undefined || found.length > 1)
    throw new Error(`README and its recipes have ${found.length} blocks <!-- ${name} -->`);
  return text.replaceAll(new RegExp(`^${indent}`, "gm"), "");
}

/** A block that is a file, with the path that its first line gives: `# /etc/…`. */
export function file(name: string): { path: string; text: string } {
  const text = block(name);
  const [, path] = /^# (\/\S+)\n/.exec(text) ?? [];
  if (path === undefined) throw new Error(`<!-- ${name} --> does not say where it goes`);
  return { path, text };
}

/** Output that README quotes: `<!-- output: arguments -->`; `…` alone in a line leaves lines out. */
export function quoted(): { argv: string[]; text: string }[] {
  return fences("output: (?<argv>.*)").map(({ argv = "", text = "" }) => ({
    argv: argv.split(" "),
    text,
  }));
}
