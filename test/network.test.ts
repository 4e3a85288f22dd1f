/** What real runtimes do on real sockets: proxies, certificates, connections that die, answers that lie. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer, request } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect, createServer as createSocketServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DONE, line, lines, testWith } from "./harness.ts";
import { Machine, type Starter, STARTERS } from "./machine.ts";

setDefaultTimeout(60_000);

const directory = fs.mkdtempSync(join(tmpdir(), "f2b-watch-network-"));
const closing: (() => void)[] = [];
afterAll(() => {
  for (const close of closing) close();
  fs.rmSync(directory, { recursive: true });
});

type Listening = Pick<ReturnType<typeof createSocketServer>, "listen" | "address" | "close">;

/** The port of a server that listens on loopback until the tests end. */
async function portOf(server: Listening): Promise<number> {
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** An authority of our own, and a certificate of it for this machine. */
function certificates(): { ca: string; key: Buffer; cert: Buffer } {
  const path = (name: string) => join(directory, name);
  const openssl = (command: string) =>
    execFileSync("openssl", command.split(" "), { stdio: "pipe" });
  fs.writeFileSync(path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  const pair = (name: string) =>
    `-newkey rsa:2048 -nodes -keyout ${path(`${name}.key`)} -subj /CN=${name}`;
  openssl(`req -x509 ${pair("ca")} -out ${path("ca.pem")} -days 9`);
  openssl(`req ${pair("here")} -out ${path("here.csr")}`);
  const signer = `-CA ${path("ca.pem")} -CAkey ${path("ca.key")} -CAcreateserial`;
  const signed = `-in ${path("here.csr")} -out ${path("here.pem")}`;
  openssl(`x509 -req ${signed} ${signer} -days 9 -extfile ${path("names")}`);
  const read = (name: string) => fs.readFileSync(path(name));
  return { ca: path("ca.pem"), key: read("here.key"), cert: read("here.pem") };
}

/** A proxy that counts whom it was asked to reach, and says this to it. */
async function proxy(status = 200) {
  const asked: string[] = [];
  const server = createServer();
  server.on("connect", ({ url = "" }, socket) => {
    asked.push(url);
    socket.on("error", () => undefined);
    if (status !== 200)
      return void socket.end(`HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`);
    const [host = "", port] = url.split(":");
    const far = connect(Number(port), host, () => socket.write("HTTP/1.1 200 OK\r\n\r\n"));
    far.on("error", () => socket.destroy());
    far.pipe(socket).pipe(far);
  });
  return { asked, url: `http://127.0.0.1:${await portOf(server)}` };
}

/** A machine whose Discord stands behind TLS, known to those who know the authority. */
async function machineBehindTls(): Promise<Machine> {
  const { ca, key, cert } = certificates();
  const machine = new Machine({ rateLimits: false });
  const plain = new URL(machine.discord.webhook);
  const server = createTlsServer({ key, cert }, (seen, answer) => {
    const { method = "", url = "", headers } = seen;
    const far = request(new URL(url, plain), { method, headers }, (reply) => {
      answer.writeHead(reply.statusCode ?? 0, reply.headers);
      reply.pipe(answer);
    });
    seen.pipe(far);
  });
  machine.env = {
    DISCORD_WEBHOOK: `https://localhost:${await portOf(server)}${plain.pathname}`,
    NODE_EXTRA_CA_CERTS: ca,
    DENO_CERT: ca,
  };
  return machine;
}

/** `test` under each runtime. */
function testEach(name: string, body: (how: Starter) => Promise<void>): void {
  for (const how of STARTERS)
    testWith("openssl", ...(how === "deno" ? [how] : []))(`${how}: ${name}`, () => body(how));
}

describe("a proxy", () => {
  for (const place of ["environment", "env file"]) {
    testEach(`of the ${place} is used, with an authority of one's own`, async (how) => {
      using machine = await machineBehindTls();
      const { asked, url } = await proxy();
      if (place === "environment") machine.env["HTTPS_PROXY"] = url;
      else fs.writeFileSync(join(machine.directory, "env"), `HTTPS_PROXY=${url}\n`);
      machine.append(...lines(1, 3));
      expect(await machine.go(how)).toEqual(DONE);
      machine.expectPosted(...lines(1, 3));
      expect(asked).toEqual([new URL(machine.env["DISCORD_WEBHOOK"] ?? "").host]);
    });
  }

  testEach("is left aside for what NO_PROXY names", async (how) => {
    using machine = await machineBehindTls();
    const { asked, url } = await proxy();
    fs.writeFileSync(join(machine.directory, "env"), `HTTPS_PROXY=${url}\nNO_PROXY=localhost\n`);
    machine.append(line(1));
    expect(await machine.go(how)).toEqual(DONE);
    expect(asked).toEqual([]);
  });

  for (const status of [407, 503]) {
    testEach(`that refuses with ${status}: provably unsent, no mark`, async (how) => {
      using machine = await machineBehindTls();
      const { url } = await proxy(status);
      machine.append(line(1));
      Object.assign(machine.env, { HTTPS_PROXY: url, F2B_MAX_TIME: "4000" });
      const { code, err } = await machine.go(how);
      expect(code).toBe(75);
      expect(err).toContain("Discord: cannot connect");
      delete machine.env["HTTPS_PROXY"];
      delete machine.env["F2B_MAX_TIME"];
      expect((await machine.go(how)).code).toBe(0);
      machine.expectPosted(line(1));
      expect(machine.notices()).toEqual([]);
    });
  }

  test.each([
    ["used", ["", "localhost:2", "ocalhost", ".ocalhost", "local", "a.localhost"]],
    ["left aside", ["localhost", ".localhost", "LocalHost", "*.localhost", "localhost:1", "x, *"]],
  ])("is named by an error where it is used: %s", async (how, names) => {
    for (const NO_PROXY of names) {
      using machine = new Machine({ fast: false });
      const { asked, url } = await proxy(407);
      const env = { DISCORD_WEBHOOK: "https://localhost:1/api/webhooks/1/tok", F2B_MAX_TIME: "1" };
      machine.env = { ...env, HTTPS_PROXY: url, NO_PROXY };
      machine.append(line(1));
      const { err } = await machine.go("binary");
      const isUsed = [asked.length > 0, err.includes(" through the proxy in HTTPS_PROXY;")];
      expect([NO_PROXY, ...isUsed]).toEqual([NO_PROXY, how === "used", how === "used"]);
    }
  });

  testEach("that is none is named", async (how) => {
    using machine = await machineBehindTls();
    machine.append(line(1));
    Object.assign(machine.env, { HTTPS_PROXY: "nonsense", F2B_MAX_TIME: "4000" });
    const { code, err } = await machine.go(how);
    expect(code).toBe(78);
    expect(err).toMatch(/^f2b-watch: HTTPS_PROXY: expected http:/);
  });
});

/** A Discord that keeps what it reads, answers the first message of each connection, and then dies. */
async function dyingDiscord() {
  const kept: string[] = [];
  const server = createServer((seen, answer) => {
    let body = "";
    seen.on("data", (chunk) => (body += chunk));
    seen.on("end", () => {
      kept.push((JSON.parse(body) as { content: string }).content);
      const count = messages.get(seen.socket) ?? 0;
      messages.set(seen.socket, count + 1);
      if (count > 0) seen.socket.destroy();
      else answer.writeHead(200, { "content-type": "application/json" }).end('{"id":"1"}');
    });
  });
  const messages = new WeakMap<object, number>();
  return { kept, url: `http://127.0.0.1:${await portOf(server)}/api/webhooks/1/tok-en_12345678` };
}

testEach("a connection that dies under its second message: marked", async (how) => {
  using machine = new Machine();
  const { kept, url } = await dyingDiscord();
  machine.env["DISCORD_WEBHOOK"] = url;
  machine.append(...lines(1, 4).map((text) => text.padEnd(1_900, ".")));
  expect((await machine.go(how)).code).toBe(0);
  const seen = new Set<string>();
  for (const content of kept) {
    const body = content.replace("(resent)\n", "");
    expect(content.startsWith("(resent)")).toBe(seen.has(body));
    seen.add(body);
  }
  expect(seen.size).toBe(4);
});

testEach("an answer that says it is gzip and is not is read as it is", async (how) => {
  using machine = new Machine();
  const server = createServer((seen, answer) => {
    expect(seen.headers["accept-encoding"]).toBe("identity");
    expect(seen.headers["user-agent"]).toMatch(/^DiscordBot \(https:\/\/\S+, \d+\.\d+\.\d+\)$/);
    seen.resume().on("end", () => {
      answer.writeHead(200, { "content-encoding": "gzip" }).end('{"id":"1"}');
    });
  });
  machine.env["DISCORD_WEBHOOK"] = `http://127.0.0.1:${await portOf(server)}/api/webhooks/1/tok`;
  machine.append(line(1));
  expect(await machine.go(how)).toEqual(DONE);
});

test("--max-time bounds a post that hangs", async () => {
  using machine = new Machine({ fast: false });
  machine.discord.failAlways({ kind: "hang", save: false });
  machine.append(line(1));
  const begun = Date.now();
  const { code } = await machine.go("binary", { flags: ["--max-time", "3"] });
  expect(code).toBe(75);
  expect(Date.now() - begun).toBeWithin(2_000, 5_000);
});

test.each([
  ["/dev/null", 'exec "$@" 2>/dev/null', 69],
  ["a full device", 'exec "$@" 2>/dev/full', 69],
  ["nobody", '"$@" 2>&1 | true', 0],
])("a report to %s does not count: the next run reports again", async (_, how, status) => {
  using machine = new Machine();
  machine.discord.failAlways({ kind: "code", status: 404, code: 10015 });
  machine.append(...lines(1, 3));
  const silent = { before: ["sh", "-c", how, "sh"] };
  expect(await machine.go("binary", silent)).toEqual({ code: status, out: "", err: "" });
  const says =
    "f2b-watch: Discord: the webhook was deleted (404, code 10015); 3 lines wait\n" +
    "hint: Discord, channel settings, Integrations, Webhooks: copy or create one, and set DISCORD_WEBHOOK\n";
  expect((await machine.go()).err).toBe(says);
  expect((await machine.go()).err).toBe("");
  machine.discord.failAlways(undefined);
  machine.env["DISCORD_WEBHOOK"] += "?thread_id=1";
  expect(await machine.go("binary", silent)).toEqual({ code: 0, out: "", err: "" });
  expect(machine.newlyPosted()).toEqual(lines(1, 3));
  machine.append(line(4));
  expect((await machine.go()).err).toBe("f2b-watch: Discord works again\n");
});
