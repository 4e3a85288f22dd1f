/** Runs a freshly built binary: the compiler exits 0 on one that is dead. Usage: bun test/smoke.ts <binary> */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { VERSION } from "../f2b-watch.ts";

function expectOutput(binary: string, args: string[], expected: string): void {
  const run = spawnSync(binary, args, { encoding: "utf8", cwd: "/" });
  if (run.status === 0 && run.stdout.includes(expected)) return;
  throw new Error(
    `${binary} ${args.join(" ")} exited ${run.status} without ${JSON.stringify(expected)}\n${run.stderr}`,
  );
}

const [, , binary = "dist/f2b-watch"] = process.argv;
const path = resolve(binary);
const sample = resolve(import.meta.dirname, "fixtures/single-jail.log");
expectOutput(path, ["--version"], `f2b-watch ${VERSION}`);
expectOutput(
  path,
  ["--dry-run", "--log", sample, "--state", "/nonexistent"],
  "[sshd] Ban 203.0.113.7\n",
);
