/** Files of countries and networks, as MaxMind and DB-IP make them. */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const VERSION = "0.2.7";
const HOME = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const FOLDER = join(HOME, `f2b-watch-mmdb-writer-${VERSION}`);

const WRITER = `
import json, sys
from mmdb_writer import MMDBWriter
from netaddr import IPSet
made = json.load(sys.stdin)
writer = MMDBWriter(made["version"], made["type"], ipv4_compatible=made["version"] == 6)
for network, record in made["records"].items():
    writer.insert_network(IPSet([network]), record)
writer.to_db_file(sys.argv[1])
`;

function run(program: string, args: readonly string[], input = ""): void {
  const { status, stderr, error } = spawnSync(program, args, { input });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error ?? stderr}`);
}

/** What tests of an .mmdb need. */
export const MMDB_PROGRAMS = [
  "mmdblookup",
  spawnSync("python3", ["-c", "import ensurepip"]).status === 0 ? "python3" : "python3-venv",
];

/** Writes an .mmdb by PyPI's mmdb-writer, which is installed once into the user's cache. */
export function writeMmdb(
  path: string,
  type: string,
  records: Readonly<Record<string, object>>,
  version: 4 | 6 = 6,
): string {
  const python = join(FOLDER, "bin/python");
  if (!fs.existsSync(join(FOLDER, "done"))) {
    run("python3", ["-m", "venv", FOLDER]);
    run(python, ["-m", "pip", "install", "-q", `mmdb-writer==${VERSION}`]);
    fs.writeFileSync(join(FOLDER, "done"), "");
  }
  run(python, ["-c", WRITER, path], JSON.stringify({ version, type, records }));
  return path;
}
