/** What no log says: fail2ban's database, and countries. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Facts, lookUpFacts, type World } from "../f2b-watch.ts";
import { Fail2ban, machine } from "./fail2ban.ts";
import { DONE, line, said, Scene, systemError, testWith, type Ran } from "./harness.ts";
import { Machine, STARTERS } from "./machine.ts";
import { MMDB_PROGRAMS, writeMmdb } from "./mmdb.ts";
import { addSlack } from "./slack.ts";

setDefaultTimeout(120_000);

type Settings = Parameters<typeof lookUpFacts>[1];
type Ban = Record<"event" | "jail" | "id" | "time", string>;

/** Looks facts up as a run of `scene` does, with `bans.sqlite3` as its database. */
function runOf(scene: Scene, settings: Partial<Settings> = {}, world: Partial<World> = {}) {
  const facts = new Facts();
  const database = join(scene.directory, "bans.sqlite3");
  const usual = { database, databaseNamed: true, userNames: false, ownSecrets: [], facts };
  const look = async (...all: { id: string }[]) =>
    await lookUpFacts(scene.world(world), { ...usual, ...settings } as Settings, all);
  return {
    news: facts.news,
    bans: async (...bans: Ban[]) => (await look(...bans)).bans,
    countries: async (...ids: string[]) => {
      const { countries } = await look(...ids.map((id) => ({ id })));
      return Object.fromEntries([...countries].filter(([, country]) => country));
    },
    /** What is wrong with a source. */
    fault: (source: "database" | "geo") => facts.news.get(source)?.message ?? "",
  };
}

/** What `check` says of a source. */
async function rowOf(scene: Scene, row: string, ...flags: string[]) {
  const { out } = await scene.run("check", "--json", ...flags);
  const rows = JSON.parse(out).rows as { name: string; state: string; text: string }[];
  const { state, text } = rows.find(({ name }) => name === row) ?? {};
  return { state, text };
}

// ── fail2ban's database ─────────────────────────────────────────────────────────────────────────

const TABLES = {
  "0.11": `CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL,
    bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON)`,
  "0.9": "CREATE TABLE bans(jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON)",
};

type StoredBan = Partial<
  typeof BAN & { at: string; seconds: number; count: number; data: unknown }
>;

/** A database as fail2ban writes it: `data` is JSON in bytes. */
function store(scene: Scene, ...bans: readonly StoredBan[]): string {
  const path = join(scene.directory, "bans.sqlite3");
  const database = new DatabaseSync(path);
  database.exec(TABLES["0.11"].replace("TABLE", "TABLE IF NOT EXISTS"));
  database.exec("BEGIN");
  const insert = database.prepare("INSERT INTO bans VALUES (?, ?, ?, ?, ?, ?)");
  for (const { jail = "sshd", id = "203.0.113.7", at = AT, ...ban } of bans) {
    const { seconds = 600, count = 1, data = { failures: 5 } } = ban;
    const json = typeof data === "string" ? data : Buffer.from(JSON.stringify(data));
    insert.run(jail, id, Date.parse(`${at}Z`) / 1000, seconds, count, json);
  }
  database.exec("COMMIT");
  database.close();
  return path;
}

const AT = "2026-11-22 10:32:26";
const BAN = { event: "ban", jail: "sshd", id: "203.0.113.7", time: AT };
const KNOWN = { failures: 5, count: 1, seconds: 600, users: [] };

describe("a ban in fail2ban's database", () => {
  // prettier-ignore
  const cases: [name: string, bans: StoredBan[], expected: Partial<typeof KNOWN> | undefined][] = [
    ["of the same second", [{}], {}],
    ["2 s before the log's line", [{ at: "2026-11-22 10:32:24" }], {}],
    ["2 s after it", [{ at: "2026-11-22 10:32:28" }], {}],
    ["3 s before it", [{ at: "2026-11-22 10:32:23" }], undefined],
    ["3 s after it", [{ at: "2026-11-22 10:32:29" }], undefined],
    ["of another jail", [{ jail: "nginx" }], undefined],
    ["of another address", [{ id: "203.0.113.70" }], undefined],
    ["for ever", [{ seconds: -1 }], { seconds: -1 }],
    ["the third", [{ count: 3 }], { count: 3 }],
    ["by hand", [{ data: { failures: 0 } }], { failures: 0 }],
    ["with data as text", [{ data: '{"failures": 5, "matches": ["x"]}' }], {}],
    ["without failures", [{ data: {} }], undefined],
    ["with data that is no JSON", [{ data: "{" }], undefined],
    ["with a length that is none", [{ seconds: -2 }], undefined],
    ["the second that is kept, though fail2ban counts none",
      [{ at: "2026-11-22 08:00:00" }, {}, { at: "2026-11-22 12:00:00" }], { count: 2 }],
    ["beside one that is no ban", [{ data: "{" }, {}, { data: "[1]" }], {}],
  ];
  test.each(cases)("%s", async (_, bans, expected) => {
    using scene = new Scene();
    store(scene, ...bans);
    const run = runOf(scene);
    const found = [...(await run.bans(BAN))];
    expect(found).toEqual(expected ? [[BAN, { ...KNOWN, ...expected }]] : []);
    expect(run.news).toEqual(new Map([["database", undefined]]));
  });

  test("in a database that is reached by a link", async () => {
    using scene = new Scene();
    const link = join(scene.directory, "link.sqlite3");
    fs.symlinkSync(store(scene, {}), link);
    expect((await runOf(scene, { database: link }).bans(BAN)).size).toBe(1);
  });

  test.each<[jail: string, id: string]>([
    ["it's a jail", "192.0.2.0/24"],
    ["zürich", "2001:db8::7"],
    ['"; DROP TABLE bans', `not "an' ip`],
  ])("of jail %s and id %s", async (jail, id) => {
    using scene = new Scene();
    store(scene, { jail, id });
    const bans = await runOf(scene).bans({ ...BAN, jail, id });
    expect([...bans.values()]).toEqual([KNOWN]);
  });

  // prettier-ignore
  const USERS: [name: string, data: object, expected: string[]][] = [
    ["one", { user: "root" }, ["root"]],
    ["none", {}, []],
    ["a set, as Python writes it",
      { user: "root", users: `['admin', 'bob mc', "o'neil", 'x"y', 'a\\\\b\\x1b', 'c\\n\\u202e', 'root']` },
      ["root", "admin", "bob mc", "o'neil", 'x"y', "a\\b\\x1b", "c \\u202e"]],
    ["a list", { user: 'x"y\u202e', users: ["admin", 'x"y\u202e'] }, ['x"y\\u202e', "admin"]],
    ["something else", { user: 7, users: { a: 1 } }, ["a"]],
    ["a secret", { user: "https://hooks.slack.com/services/T0/B0/x1y2z3x1y2z3" },
      ["https://hooks.slack.com/[redacted]"]],
    ["characters that cannot be seen", { user: "a\u202eb\n`" }, ["a\\u202eb `"]],
  ];
  test.each(USERS)("user names are known only when asked for: %s", async (_, data, expected) => {
    using scene = new Scene();
    store(scene, { data: { failures: 5, ...data } });
    const users = async (userNames: boolean) =>
      (await runOf(scene, { userNames }).bans(BAN)).get(BAN)?.users;
    expect(await users(false)).toEqual([]);
    expect(await users(true)).toEqual(expected);
  });

  test("the hour that comes twice, and wall clocks all over the world", async () => {
    const zones = { "Europe/Berlin": "02:30:00", "Pacific/Kiritimati": "" };
    for (const hour of [0, 1]) {
      using scene = new Scene();
      store(scene, { at: `2026-10-25 0${hour}:30:00` });
      for (const [zone, time] of Object.entries(zones)) {
        process.env["TZ"] = zone;
        const ban = { ...BAN, time: `2026-10-25 ${time || `${14 + hour}:30:00`}` };
        try {
          expect((await runOf(scene).bans(ban)).size).toBe(1);
        } finally {
          delete process.env["TZ"];
        }
      }
    }
  });

  test("that is stored a moment after it was logged is waited for, once", async () => {
    using scene = new Scene();
    const path = store(scene);
    scene.clockMs = Date.parse(`${AT}Z`) + 1_000;
    const sleeps: number[] = [];
    const sleep = async (ms: number) => void (sleeps.push(ms), store(scene, {}));
    const run = runOf(scene, { database: path }, { sleep });
    expect((await run.bans(BAN)).size).toBe(1);
    const old = { ...BAN, id: "203.0.113.8", time: "2026-11-22 10:32:20" };
    expect((await run.bans(old)).size).toBe(0);
    expect(sleeps).toEqual([200]);
  });
});

const put = (text: string) => (path: string) => fs.writeFileSync(path, text);
const execute = (sql: string) => (path: string) => new DatabaseSync(path).exec(sql);
const many = Array<StoredBan>(2_000).fill({});

/** What stands where the database should be, by what is said of it. */
// prettier-ignore
const BAD: [says: string, name: string, make: (path: string, scene: Scene) => unknown][] = [
  ["no such table: bans", "empty", put("")],
  ["file is not a database", "text", put("text ".repeat(4_000))],
  ["it is not a regular file", "a FIFO", (path) => spawnSync("mkfifo", [path])],
  ["it is not a regular file", "a folder", (path) => fs.mkdirSync(path)],
  ["no such column: bantime", "of fail2ban 0.9", execute(TABLES["0.9"])],
  ["no such table: bans", "of another program", execute("CREATE TABLE t(a)")],
  ["malformed", "cut off", (path, scene) => fs.truncateSync(store(scene, ...many), 8_192)],
  ["malformed", "overwritten",
    (path, scene) => fs.writeFileSync(path, fs.readFileSync(store(scene, ...many)).fill(7, 100))],
  ["a write was cut off", "in the midst of a change when its server was killed",
    (path, scene) => {
      const writer = new DatabaseSync(store(scene, ...many));
      writer.exec("PRAGMA cache_size = 2; BEGIN; UPDATE bans SET bantime = 7");
      const copies = [path, `${path}-journal`].map((file) => [file, fs.readFileSync(file)] as const);
      writer.close();
      for (const [file, bytes] of copies) fs.writeFileSync(file, bytes);
    }],
  ["it belongs to another user", "of another owner",
    (_, scene) => fs.chownSync(store(scene, {}), 65534, 65534)],
  ["it is writable by others", "writable by others",
    (_, scene) => fs.chmodSync(store(scene, {}), 0o666)],
];

describe("a database that cannot be used is reported, and is no reason to wait", () => {
  test.each(BAD)("%s: %s", async (says, _, make) => {
    using scene = new Scene(line(1));
    const path = join(scene.directory, "bans.sqlite3");
    make(path, scene);
    const before = fs.readdirSync(scene.directory);
    const run = runOf(scene);
    const startedAt = performance.now();
    expect((await run.bans(BAN)).size).toBe(0);
    expect(run.fault("database")).toStartWith(`cannot use fail2ban's database ${path}: `);
    expect(run.fault("database")).toEndWith(says);
    await run.bans(BAN);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(fs.readdirSync(scene.directory)).toEqual(before);
    const row = { state: "failed", text: run.fault("database") };
    expect(await rowOf(scene, "database", "--database", path)).toEqual(row);
    const exitCode = /not a regular file$/.test(says) ? 78 : 0;
    expect((await scene.run("--dry-run", "--database", path)).code).toBe(exitCode);
  });

  test("locked: half a second once a run, and the run after it knows", async () => {
    using scene = new Scene();
    const path = store(scene, {});
    const other = new DatabaseSync(path);
    other.exec("BEGIN EXCLUSIVE");
    const run = runOf(scene);
    const startedAt = performance.now();
    for (let batch = 0; batch < 5; batch++) await run.bans(BAN);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(run.fault("database")).toEndWith("database is locked");
    other.exec("ROLLBACK");
    expect((await runOf(scene).bans(BAN)).size).toBe(1);
  });

  test("the default one may be missing or closed, a named one may not", async () => {
    using scene = new Scene(line(1));
    const path = join(scene.directory, "bans.sqlite3");
    for (const code of ["ENOENT", "EACCES"]) {
      scene.beforeCalls(["openSync", "accessSync"], (name) => {
        if (/sqlite3$/.test(name)) throw systemError(`${code}: refused`);
      });
      const byDefault = runOf(scene, { databaseNamed: false });
      expect((await byDefault.bans(BAN)).size).toBe(0);
      expect(byDefault.fault("database")).toBe("");
      expect(await scene.run("--dry-run")).toMatchObject({ code: 0 });
      const { code: exitCode, err } = await scene.run("--database", path);
      expect(exitCode).toBe(78);
      expect(err).toMatch(
        /^f2b-watch: cannot use fail2ban's database .+: refused\nhint: (run as root, or )?go without: --database none\n$/,
      );
      expect(scene.discord.messages).toEqual([]);
      expect(await rowOf(scene, "database")).toEqual({
        state: "ok",
        text: expect.stringMatching(/^none \(.+ not readable\)$/),
      });
    }
  });

  test("check says when the last ban was", async () => {
    using scene = new Scene(line(1));
    const last = () => rowOf(scene, "database", "--database", store(scene));
    expect(await last()).toEqual({ state: "ok", text: expect.stringMatching(/, no bans$/) });
    store(scene, { at: "2026-11-22 11:50:00" }, { at: "2026-11-22 09:00:00" });
    const text = expect.stringMatching(/, last ban 10 min ago$/);
    expect(await last()).toEqual({ state: "ok", text });
  });

  test("none is never opened, and where one glob finds many logs the default is none", async () => {
    using scene = new Scene(line(1));
    const glob = scene.log.replace("fail2ban.log", "*.log");
    for (const flags of ["--database none", `--log ${glob}`]) {
      const { out } = await scene.f2bWatch("check", "--json", ...flags.split(" "));
      expect(out).toMatch(/\{\s*"name": *"database",\s*"state": *"ok",\s*"text": *"none"/);
    }
  });
});

// ── a real fail2ban ─────────────────────────────────────────────────────────────────────────────

/** So many bans of real fail2ban are compared; F2B_FACTS_BANS sets more. */
const BANS = Number(process.env["F2B_FACTS_BANS"] ?? 320);
const JAILS = ["sshd", "web"];

const it = testWith("fail2ban-server");
it(`${BANS} bans of a real fail2ban, each looked up as soon as it is logged: failures as its actions know them`, async () => {
  using scene = new Scene();
  const told = join(scene.directory, "told");
  const action = `echo "<name>,<ip>,<failures>" >> ${told}`;
  using server = await Fail2ban.started(scene, action, {
    maxRetry: 3,
    database: true,
    jails: JAILS,
  });
  await server.client("fail2ban-client", ["set", "web", "maxretry", "5"]);
  const known = new Map<string, number>();
  for (let round = 0; known.size < BANS; round++) {
    const addresses = Array.from({ length: 40 }, (_, index) => `203.0.${round}.${index}`);
    for (let tries = 0; tries < 5; tries++) server.attackAs(`user ${tries}`, ...addresses);
    await server.ban(`198.51.100.${round}`);
    for (const wanted = (round + 1) * 81; known.size < wanted; await Bun.sleep(5)) {
      const logged = scene.read().matchAll(/^(.{19}).*\[(\w+)\] Ban (\S+)$/gm);
      const bans = [...logged].map(([, time = "", jail = "", id = ""]) => {
        return { event: "ban", time, jail, id };
      });
      const fresh = bans.filter(({ jail, id }) => !known.has(`${jail},${id}`));
      const run = runOf(scene, { userNames: true }, { now: Date.now, sleep: Bun.sleep });
      const facts = await run.bans(...fresh);
      expect(run.fault("database")).toBe("");
      for (const ban of fresh) {
        const { failures = -1, users = [], ...rest } = facts.get(ban) ?? {};
        expect(rest).toEqual({ count: 1, seconds: 3_600 });
        expect(users.includes("user 0")).toBe(failures > 0);
        known.set(`${ban.jail},${ban.id}`, failures);
      }
    }
  }
  await server.stop();
  const text = [...known].map(([ban, failures]) => `${ban},${failures}\n`);
  expect(text.sort()).toEqual(fs.readFileSync(told, "utf8").match(/.+\n/g)?.sort() ?? []);
  expect([...new Set(known.values())].sort()).toEqual([0, 3, 5]);
  expect(scene.read()).not.toMatch(/locked| ERROR /);
});

// ── Countries ───────────────────────────────────────────────────────────────────────────────────

const names = { en: 'Iso "iso_code"', "zh-CN": "德国" };
const country = (iso_code: string) => ({ names, geoname_id: 2_921_044, iso_code });
/** Records in the shapes of GeoLite2 and DB-IP Lite, and what is known by them. */
// prettier-ignore
const RECORDS: Readonly<Record<string, [record: object, known: string | undefined]>> = {
  "203.0.113.0/26": [{ city: { names }, continent: { code: "EU", names },
    country: { is_in_european_union: true, ...country("DE") },
    location: { latitude: 51.2, time_zone: "Europe/Berlin" }, registered_country: country("FR"),
    subdivisions: [{ iso_code: "BY", names }] }, "DE"],
  "203.0.113.64/26": [{ continent: { code: "EU" }, registered_country: country("FR") }, "FR"],
  "203.0.113.128/26": [{ country: { iso_code: "US", names } }, "US"],
  "203.0.113.192/26":
    [{ continent: { code: "EU", iso_code: "EU" }, represented_country: country("GB") }, undefined],
  "2001:db8::/32": [{ country: country("NL") }, "NL"],
  "192.0.2.0/24":
    [{ autonomous_system_number: 64_500, autonomous_system_organization: "Example" }, "AS64500"],
};
const made = (version: 4 | 6) =>
  Object.fromEntries(
    Object.entries(RECORDS).flatMap(([network, [record]]) =>
      version === 4 && network.includes(":") ? [] : [[network, record]],
    ),
  );

/** A scene with an .mmdb, `mmdblookup` as it is installed. */
function geoScene(): Scene {
  const scene = new Scene();
  scene.overrides.runProgram = (...call) => machine().runProgram(...call);
  return scene;
}

describe("countries", () => {
  for (const version of [4, 6] as const) {
    testWith(...MMDB_PROGRAMS)(`out of a real .mmdb of IPv${version}`, async () => {
      using scene = geoScene();
      const path = join(scene.directory, "lite.mmdb");
      const geo = writeMmdb(path, "DBIP-Country-Lite", made(version), version);
      const known = Object.entries(RECORDS).map(([network, [, text]]) => {
        const address = network
          .replace(/::.*/, "::1")
          .replace(/\d+\/.*/, (end) => `${parseInt(end) + 1}`);
        return [address, text] as const;
      });
      const run = runOf(scene, { geo });
      const others = ["198.51.100.1", "127.0.0.1", "::1"];
      const found = await run.countries(...known.map(([address]) => address), ...others);
      const isIn = (address: string) => version === 6 || !address.includes(":");
      const expected = known.filter(([address, text]) => text && isIn(address));
      expect(found).toEqual(Object.fromEntries(expected));
      expect(run.fault("geo")).toBe("");
      scene.append(line(1));
      expect(await rowOf(scene, "countries", "--geo", geo)).toEqual({ state: "ok", text: geo });
    });
  }

  const wrong: [name: string, put: (path: string) => unknown, says: RegExp][] = [
    ["missing", () => undefined, /Error opening the specified MaxMind DB file$/],
    ["text", (path) => fs.writeFileSync(path, "text"), /invalid metadata$/],
    ["empty", (path) => fs.writeFileSync(path, ""), /cannot read/],
    ["a folder", (path) => fs.mkdirSync(path), /cannot read/],
    ["a FIFO", (path) => spawnSync("mkfifo", [path]), /mmdblookup does not answer$/],
  ];
  for (const [name, put, text] of wrong) {
    testWith("mmdblookup")(`of a file that is ${name} are reported, once`, async () => {
      using scene = geoScene();
      scene.append(line(1));
      const geo = join(scene.directory, "lite.mmdb");
      put(geo);
      const run = runOf(scene, { geo });
      expect(await run.countries("203.0.113.1")).toEqual({});
      expect(run.fault("geo")).toMatch(new RegExp(`^no countries: (?=.*${text.source})`));
      const row = { state: "failed", text: run.fault("geo") };
      expect(await rowOf(scene, "countries", "--geo", geo)).toEqual(row);
    });
  }

  test.each<[name: string, ran: Ran, text: string]>([
    ["is missing", { kind: "missing" }, "no countries: mmdblookup is not installed"],
    ["hangs", { kind: "timedOut" }, "no countries: mmdblookup does not answer"],
    ["crashes", said("", -1, ""), "no countries: cannot read /geo.mmdb: mmdblookup fails"],
  ])("a mmdblookup that %s is asked no more in this run", async (_, ran, text) => {
    using scene = new Scene();
    let calls = 0;
    scene.overrides.runProgram = async (program, words, timeoutMs) => {
      expect([program, ...words.slice(0, 3)].join(" ")).toBe("mmdblookup --file /geo.mmdb --ip");
      expect(timeoutMs).toBe(2_000);
      calls++;
      scene.wait(timeoutMs ?? 0);
      return ran;
    };
    const run = runOf(scene, { geo: "/geo.mmdb" });
    const addresses = Array.from({ length: 100 }, (_, index) => `203.0.113.${index}`);
    for (let message = 0; message < 5; message++) await run.countries(...addresses);
    expect(calls).toBe(10);
    expect(run.fault("geo")).toBe(text);
  });

  test("each address once a run, fifty a message, addresses only", async () => {
    using scene = new Scene();
    const asked: string[] = [];
    scene.overrides.runProgram = async (_, [, , , address = ""]) => {
      asked.push(address);
      return said("", 6, "Could not find an entry for this IP address");
    };
    const run = runOf(scene, { geo: "/geo.mmdb" });
    const block = (third: number) =>
      Array.from({ length: 80 }, (_, index) => `203.0.${third}.${index}`);
    await run.countries("--help", "203.0.113.0/24", "localhost", "", "1.2.3", "2001:db8::1");
    expect(asked).toEqual(["203.0.113.0", "2001:db8::1"]);
    await run.countries(...block(1), ...block(1));
    expect(asked).toEqual(["203.0.113.0", "2001:db8::1", ...block(1).slice(0, 50)]);
    await run.countries(...block(1));
    await run.countries(...block(1));
    expect(asked).toEqual(["203.0.113.0", "2001:db8::1", ...block(1)]);
    expect(run.fault("geo")).toBe("");
  });

  test("an answer that is none is no country", async () => {
    for (const out of ["", "{}", '    "country": \n      {', "x".repeat(1e6)]) {
      using scene = new Scene();
      scene.overrides.runProgram = async () => said(out);
      const run = runOf(scene, { geo: "/geo.mmdb" });
      expect([await run.countries("203.0.113.1"), run.fault("geo")]).toEqual([{}, ""]);
    }
  });
});

// ── In messages ─────────────────────────────────────────────────────────────────────────────────

/** A ban of `203.0.113.<last>`, written at line `number`'s time. */
const ban = (number: number, last = number) => line(number, `[sshd] Ban 203.0.113.${last}`);
const storedBan = (number: number, rest: StoredBan = {}): StoredBan => {
  return { at: line(number).slice(0, 19), id: `203.0.113.${number}`, ...rest };
};
const GERMAN =
  '\n  {\n    "country": \n      {\n        "iso_code": \n          "DE" <utf8_string>\n      }\n  }\n\n';

/** The lines of the last message, without the link and what stands behind it. */
function told({ discord }: Scene): string[] {
  const text = discord.messages.at(-1)?.content ?? "";
  return text.split("\n").map((each) => each.replace(/ · \[db-ip.*/, ""));
}

describe("events", () => {
  const events = (scene: Scene, ...flags: string[]) =>
    scene.run("--format", "events", "--database", join(scene.directory, "bans.sqlite3"), ...flags);

  test("say what the database and the .mmdb know, to each destination", async () => {
    using scene = new Scene();
    scene.overrides.runProgram = async () => said(GERMAN);
    const data = { failures: 7, user: "root", users: "['admin']" };
    store(scene, storedBan(1, { count: 3, seconds: -1, data }));
    store(scene, storedBan(2, { data: { failures: 0 } }));
    scene.append(ban(1), ban(2), ban(3));
    const slack = addSlack(scene);
    expect(await events(scene, "--user-names", "--geo", "/geo.mmdb")).toMatchObject(DONE);
    expect(slack.messages[0]?.content).toMatch(/\.1 .* after 7 .* 3rd ban, .*`admin`/);
    expect(told(scene)).toEqual([
      "🔔 web-1 **[sshd]** **BANNED** 203.0.113.1 🇩🇪 DE after 7 failed attempts, 3rd ban, permanently · tried `root`, `admin`",
      "🔔 **[sshd]** **BANNED** 203.0.113.2 🇩🇪 DE, 1st ban, for 10 min",
      "🔔 **[sshd]** **BANNED** 203.0.113.3 🇩🇪 DE",
      expect.stringMatching(/^-# /),
    ]);
  });

  test("go out without what fails; that is reported at once, after an hour, and when it is over", async () => {
    using scene = new Scene();
    const path = join(scene.directory, "bans.sqlite3");
    execute("CREATE TABLE t(a)")(path);
    scene.overrides.runProgram = async () => ({ kind: "missing" });
    const reports: (string | undefined)[] = [];
    for (const [number, waitMs] of [0, 60_000, 3_600_000, 60_000].entries()) {
      scene.wait(waitMs);
      scene.append(ban(number));
      if (number === 3) {
        fs.rmSync(path);
        store(scene, storedBan(3));
        scene.overrides.runProgram = async () => said(GERMAN);
      }
      const { code, out, err } = await events(scene, "--geo", "/geo.mmdb");
      expect({ code, out }).toEqual({ code: 0, out: "" });
      expect(told(scene)[0]).toContain(`**BANNED** 203.0.113.${number}`);
      reports.push(err);
    }
    const begins = `f2b-watch: cannot use fail2ban's database ${path}: no such table: bans
hint: fail2ban 0.11 or newer is needed, or go without: --database none
f2b-watch: no countries: mmdblookup is not installed
hint: apt install mmdb-bin
`;
    const over = "f2b-watch: database works again\nf2b-watch: geo works again\n";
    expect(reports).toEqual([begins, "", begins, over]);
  });

  test("floods have countries, too", async () => {
    using scene = new Scene();
    scene.env["F2B_INLINE"] = "1";
    scene.overrides.runProgram = async () => said(GERMAN);
    scene.append(...Array.from({ length: 200 }, (_, index) => ban(index)));
    const { code } = await scene.run("--geo", "/geo.mmdb");
    expect(code).toBe(0);
    expect(scene.notices()[0]).toContain("203.0.113.0 🇩🇪 DE");
  });

  test("the digest names the countries of its busiest addresses, and counts them", async () => {
    using scene = new Scene();
    const codes = ["", "DE", "FR", "DE"];
    scene.overrides.runProgram = async (_, [, , , address = ""]) => {
      const code = codes[Number(address.at(-1))];
      return code ? said(GERMAN.replace("DE", code)) : said("", 6, "");
    };
    scene.clockMs = Date.UTC(2026, 10, 22, 9);
    for (const [index, last] of [1, 1, 1, 2, 2, 3, 4].entries())
      scene.append(line(index, `[sshd] Found 203.0.113.${last}`));
    scene.append(ban(8, 2));
    const { out, err } = await scene.run("digest", "--geo", "/geo.mmdb");
    expect(err).toBe("");
    expect(out).toContain(`
top addresses     found bans
203.0.113.1 🇩🇪 DE     3    0
203.0.113.2 🇫🇷 FR     2    1
203.0.113.3 🇩🇪 DE     1    0
203.0.113.4           1    0
`);
    expect(out).toContain(`
countries (IPs) found bans
🇩🇪 DE (2)           4    0
🇫🇷 FR (1)           2    1
`);
    const json = await scene.run("digest", "--geo", "/geo.mmdb", "--json");
    const { addresses, countries } = JSON.parse(json.out);
    expect(addresses[0]).toEqual({ address: "203.0.113.1", country: "DE", found: 3, banned: 0 });
    expect(countries).toEqual([
      { country: "DE", addresses: 2, found: 4, banned: 0 },
      { country: "FR", addresses: 1, found: 2, banned: 1 },
    ]);
    scene.overrides.runProgram = async () => ({ kind: "missing" });
    const without = await scene.run("digest", "--geo", "/geo.mmdb");
    expect(without).toMatchObject({ code: 0, out: expect.not.stringContaining("countries") });
    expect(without.err).toMatch(/^f2b-watch: no countries: .+\nhint: .+\n$/);
  });

  test("other formats and idle runs open no database and ask for no country", async () => {
    using scene = new Scene(ban(1));
    scene.beforeCalls("openSync", (path) => {
      if (`${path}`.endsWith(".sqlite3")) throw new Error("opened");
    });
    scene.overrides.runProgram = () => Promise.reject(new Error("asked"));
    for (const format of ["raw", "compact", "events", "events"]) {
      if (format === "events") store(scene);
      else scene.append(ban(2));
      const flags = ["--format", format, "--geo", "/geo.mmdb"];
      expect(await scene.run(...flags)).toEqual({ code: 0, out: "", err: "" });
    }
  });
});

for (const how of STARTERS) {
  const it = testWith(...MMDB_PROGRAMS, ...(how === "deno" ? [how] : []));
  it(`${how}: the database and the .mmdb are read, nothing is written beside them`, async () => {
    using machine = new Machine({ fast: false });
    const folder = join(machine.directory, "facts");
    fs.mkdirSync(folder);
    const geo = writeMmdb(join(folder, "lite.mmdb"), "GeoLite2-City", made(6));
    const path = store(machine, storedBan(1, { data: { failures: 4, user: "root" } }));
    const database = join(folder, "bans.sqlite3");
    fs.renameSync(path, database);
    machine.append(ban(1));
    const flags = ["--format", "events", "--database", database, "--geo", geo, "--user-names"];
    expect(await machine.go(how, { flags })).toEqual(DONE);
    expect(told(machine)[0]).toContain(
      "203.0.113.1 🇩🇪 DE after 4 failed attempts, 1st ban, for 10 min · tried `root`",
    );
    expect(fs.readdirSync(folder).sort()).toEqual(["bans.sqlite3", "lite.mmdb"]);
    const other = new DatabaseSync(database);
    other.exec("BEGIN EXCLUSIVE");
    machine.append(ban(2));
    const startedAt = performance.now();
    const { code, err } = await machine.go(how, { flags });
    other.close();
    expect(performance.now() - startedAt).toBeLessThan(4_000);
    expect(code).toBe(0);
    expect(err).toContain("database is locked\n");
    expect(told(machine)[0]).toContain("203.0.113.2 🇩🇪 DE");
  });
}
