/** Runs a freshly built binary: the compiler exits 0 on one that is dead. Usage: bun test/smoke.ts <binary> */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import manifest from "../package.json";

function expectOutput(binary: string, args: string[], expected: string): void {
  const run = spawnSync(binary, args, { encoding: "utf8", cwd: "/", env: {} });
  if (run.status === 0 && run.stdout.includes(expected)) return;
  throw new Error(
    `${binary} ${args.join(" ")} exited ${run.status} without ${JSON.stringify(expected)}\n${run.stderr}`,
  );
}

/** The settings of the machine that builds do not count. */
const folder = fs.mkdtempSync(join(tmpdir(), "f2b-watch-smoke-"));
const noSettings = join(folder, "env");
fs.writeFileSync(noSettings, "", { mode: 0o600 });
process.on("exit", () => fs.rmSync(folder, { recursive: true }));

const [, , binary = "dist/f2b-watch"] = process.argv;
const path = resolve(binary);
const sample = resolve(import.meta.dirname, "fixtures/single-jail.log");
expectOutput(path, ["--version"], `f2b-watch ${manifest.version}`);
const flags = ["--dry-run", "--env-file", noSettings, "--log", sample, "--state", "/nonexistent"];
expectOutput(path, flags, "[sshd] Ban 203.0.113.7\n");
