/** The program's words on all fixtures: `bun run golden` writes fixtures/golden/, golden.test.ts compares. */
import * as fs from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { FIXTURES, LOGS } from "./events.ts";
import { said, Scene, type Ran } from "./harness.ts";

process.env["TZ"] = "UTC";

export const golden = join(FIXTURES, "golden");
/** A larger output is kept compressed. */
const PLAIN_LIMIT = 64 * 1024;

const VIEWS = { raw: "", compact: "--format compact", events: "--format events", color: "--color" };
const FILTERS = { all: "", "ban-alert": "--only ban,alert", sshd: "--jail sshd" };

function clientSays(words: readonly string[]): Ran {
  const [command, jail] = words;
  const texts = fs
    .readFileSync(join(FIXTURES, "status/multi-jail-status-all-jails.txt"), "utf8")
    .split(/(?=^Status for the jail: )/m);
  const out =
    jail === undefined
      ? fs.readFileSync(join(FIXTURES, "status/multi-jail-status.txt"), "utf8")
      : texts.find((text) => text.startsWith(`Status for the jail: ${jail}\n`));
  return command === "status" && out !== undefined ? said(out) : said("", 255);
}

/** What one call prints, on stdout and stderr, on a machine that is always the same. */
async function outputOf(argv: readonly string[], env: Record<string, string>): Promise<string> {
  using scene = new Scene();
  scene.env = { F2B_INLINE: "20", ...env };
  scene.overrides.runProgram = async (_, words) => clientSays(words);
  const { code, out, err } = await scene.f2bWatch("--state", scene.state, ...argv);
  const errors = err === "" ? "" : `stderr:\n${err}`;
  return `${out}${errors}exit ${code}\n`.replaceAll(FIXTURES, "");
}

/** Every output by the name of its file. */
export async function outputs(): Promise<Map<string, string>> {
  const all = new Map<string, string>();
  const discord = { DISCORD_WEBHOOK: "https://discord.com/api/webhooks/1/golden-token" };
  const slack = { SLACK_WEBHOOK: "https://hooks.slack.com/services/T0/B0/golden-token" };
  for (const file of LOGS.filter((name) => !name.startsWith("cases/"))) {
    const name = file.replace("/", "-").slice(0, -".log".length);
    const log = join(FIXTURES, file);
    for (const [view, how] of Object.entries(VIEWS)) {
      for (const [filter, which] of Object.entries(FILTERS)) {
        const flags = `${how} ${which}`.split(" ").filter(Boolean);
        const argv = ["--dry-run", "--log", log, ...flags];
        all.set(`${name}/${view}.${filter}`, await outputOf(argv, discord));
      }
    }
    const events = ["--log", log, "--format", "events"];
    all.set(`${name}/events.slack`, await outputOf(["--dry-run", ...events], slack));
    all.set(`${name}/events.printed`, await outputOf(events, {}));
    const digest = ["digest", "--log", log, "--since", "2000-01-01"];
    all.set(`${name}/digest`, await outputOf(digest, {}));
    all.set(`${name}/digest.json`, await outputOf([...digest, "--json"], {}));
  }
  all.set("status", await outputOf(["status"], {}));
  all.set("status.json", await outputOf(["status", "--json"], {}));
  all.set("status.sent", await outputOf(["status", "--send", "--dry-run"], discord));
  return all;
}

/** What an output was when it was last written; absent where it never was. */
export function kept(name: string): string | undefined {
  const path = join(golden, `${name}.txt`);
  if (fs.existsSync(path)) return fs.readFileSync(path, "utf8");
  return fs.existsSync(`${path}.gz`)
    ? gunzipSync(fs.readFileSync(`${path}.gz`)).toString()
    : undefined;
}

if (import.meta.main) {
  const fresh = await outputs();
  for (const entry of fs.existsSync(golden) ? fs.readdirSync(golden, { recursive: true }) : []) {
    const name = String(entry).replace(/\.txt(?:\.gz)?$/, "");
    if (name !== String(entry) && !fresh.has(name)) fs.rmSync(join(golden, String(entry)));
  }
  for (const [name, text] of fresh) {
    if (kept(name) === text) continue;
    const path = join(golden, `${name}.txt`);
    fs.mkdirSync(join(path, ".."), { recursive: true });
    fs.rmSync(path, { force: true });
    if (text.length > PLAIN_LIMIT) fs.writeFileSync(`${path}.gz`, gzipSync(text));
    else {
      fs.rmSync(`${path}.gz`, { force: true });
      fs.writeFileSync(path, text);
    }
    console.log(`written: ${name}`);
  }
}
