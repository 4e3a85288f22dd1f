/** A strict, stateful stand-in for Discord's webhooks, in process or on a loopback socket. */
import Ajv from "ajv/dist/2020";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import schema from "./fixtures/discord-webhook.schema.json";

// ── Transport: one handler behind fetch and behind a socket ─────────────────────────────────────

/** One file of a multipart request. */
export type UploadedFile = { field: string; name: string; text: string; byteCount: number };

/** A request as the stand-in saw it; `status` stays 0 when no answer was given. */
export interface SeenRequest {
  at: number;
  method: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>;
  status: number;
  body: string;
}

/** A request with its body taken apart; `json` is undefined when there was none to read. */
export interface Arrival {
  seen: SeenRequest;
  byteCount: number;
  json: unknown;
  files: UploadedFile[];
}

/** What a service answers. */
export type Reply = { status: number; headers: Record<string, string>; body: string };

/**
 * Faults that any service can have; one that is served cannot refuse a connection. `afterMs` makes an
 * in-process call time out by itself after that much of the stand-in's time, for callers whose own
 * time-out runs on a virtual clock.
 */
export type WireFault =
  | { kind: "status"; status: number; body?: string; headers?: Record<string, string> }
  | { kind: "status-after-saving"; status: number }
  | { kind: "reset" | "reset-after-saving" }
  | { kind: "refused"; code?: string }
  | { kind: "hang"; save: boolean; afterMs?: number }
  | { kind: "slow"; ms: number }
  | { kind: "trickle"; afterMs?: number }
  | { kind: "cut"; clean?: boolean }
  | { kind: "html"; status: number }
  | { kind: "redirect"; location: string };

/** Settings of any stand-in; `now` and `sleep` are the service's clock, real by default. */
export interface StandInOptions {
  now?: () => number;
  sleep?: (ms: number) => Promise<unknown>;
  rateLimits?: boolean;
}

const DRIP_MS = 10;
const AN_ERROR = '{"message":"an error","code":0}';
const BAD_GATEWAY = "<html><h1>Bad gateway</h1></html>";

/** The part of a stand-in that is the same for every service: transport, faults and records. */
export abstract class StandIn<Fault extends { kind: string }> {
  readonly requests: SeenRequest[] = [];
  readonly violations: string[] = [];
  count429 = 0;
  protected readonly now: () => number;
  protected readonly rateLimits: boolean;
  protected servedAt: string | undefined;
  readonly #sleep: (ms: number) => Promise<unknown>;
  readonly faults: (Fault | WireFault)[] = [];
  #lastingFault: Fault | WireFault | undefined;
  #inFlight = 0;
  #quietUntil = -Infinity;

  constructor(options: StandInOptions) {
    this.now = options.now ?? Date.now;
    this.#sleep = options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.rateLimits = options.rateLimits ?? true;
  }

  /** Records what the service itself would silently put up with. */
  protected abstract inspect(arrival: Arrival): void;
  /** Answers by the service's rules, and saves what it accepts. */
  protected abstract answer(arrival: Arrival): Reply;
  /** Says whether an answer means success, so that a fault which comes after saving applies. */
  protected abstract succeeded(reply: Reply): boolean;
  /** Answers in place of the rules, for faults of this service that come before saving. */
  protected abstract refuse(fault: Fault, arrival: Arrival): Reply | undefined;
  /** Changes a good answer, for faults of this service that come after saving. */
  protected abstract spoil(fault: Fault, reply: Reply): Reply;

  /** Queues faults; each applies to one of the next requests, in order. */
  fail(...faults: (Fault | WireFault)[]): void {
    this.faults.push(...faults);
  }

  /** Applies a fault to every request for which none is queued; undefined ends it. */
  failAlways(fault: Fault | WireFault | undefined): void {
    this.#lastingFault = fault;
  }

  /** Stands in for the global fetch; redirects are to be refused. */
  readonly fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = new Request(input as string, init);
    const response = await this.#call(request, init?.signal ?? undefined);
    if (!response.headers.has("location")) return response;
    if (init?.redirect !== "error") this.violations.push("a redirect is not refused");
    throw networkError("UnexpectedRedirect", request.url);
  };

  /** Serves on a free loopback port. */
  serve(): { url: string; stop: () => void } {
    const server = createServer((request, response) => void this.#handle(request, response));
    server.listen(0, "127.0.0.1");
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.servedAt = url;
    const stop = () => {
      this.servedAt = undefined;
      server.closeAllConnections();
      server.close();
    };
    return { url, stop };
  }

  /** Says whether a request is meant to post a message. */
  protected posts(seen: SeenRequest): boolean {
    return seen.method === "POST";
  }

  /** Holds the caller to the wait that a 429 asks for. */
  protected limited(reply: Reply, waitMs: number): Reply {
    this.#quietUntil = Math.max(this.#quietUntil, this.now() + waitMs);
    return reply;
  }

  async #call(request: Request, signal: AbortSignal | undefined): Promise<Response> {
    signal?.throwIfAborted();
    const { pathname: path, searchParams } = new URL(request.url);
    const query = Object.fromEntries(searchParams);
    const headers = Object.fromEntries(request.headers);
    const { method } = request;
    const seen = { at: this.now(), method, path, query, headers, status: 0, body: "" };
    this.requests.push(seen);
    if (++this.#inFlight > 1) this.violations.push(`${this.#inFlight} requests in flight at once`);
    const earlyMs = this.#quietUntil - seen.at;
    if (this.posts(seen) && earlyMs > 0) this.violations.push(`posted ${earlyMs} ms too early`);
    try {
      const bytes = new Uint8Array(await request.arrayBuffer());
      seen.body = new TextDecoder().decode(bytes);
      const arrival = await takeApart(seen, bytes);
      this.inspect(arrival);
      return await this.#respond(arrival, request.url, signal);
    } finally {
      this.#inFlight--;
    }
  }

  /** The service's reply, or what a fault makes of it. */
  async #respond(arrival: Arrival, url: string, signal?: AbortSignal): Promise<Response> {
    const queued = this.faults.shift();
    const fault = queued ?? this.#lastingFault;
    const wire = (fault ?? { kind: "none" }) as WireFault | { kind: "none" };
    const give = (reply: Reply, body: ReadableStream | string = reply.body) => {
      arrival.seen.status = reply.status;
      if (reply.status === 429) this.count429++;
      return new Response(reply.status === 204 ? null : body, reply);
    };
    const hang = () => {
      if (!signal) this.violations.push("a request without a signal hangs for ever");
      return this.#timeout(signal, "afterMs" in wire ? wire.afterMs : undefined);
    };
    // Before it is carried out.
    const { kind } = wire;
    if (kind === "refused") throw networkError(wire.code ?? "ECONNREFUSED", url);
    if (kind === "reset") throw networkError("ECONNRESET", url);
    if (kind === "hang" && !wire.save) return hang();
    if (kind === "status") return give(replyOf(wire.status, wire.body ?? AN_ERROR, wire.headers));
    if (kind === "redirect") return give(replyOf(302, "", { location: wire.location }));
    if (kind === "html") return give(replyOf(wire.status, BAD_GATEWAY, {}, "text/html"));
    const refusal = fault && this.refuse(fault as Fault, arrival);
    if (refusal) return give(refusal);
    const reply = this.answer(arrival);
    if (queued && !this.succeeded(reply)) this.faults.unshift(queued);
    if (!fault || !this.succeeded(reply)) return give(reply);
    // Afterwards.
    if (kind === "status-after-saving") return give(replyOf(wire.status, AN_ERROR));
    if (kind === "reset-after-saving") throw networkError("ECONNRESET", url);
    if (kind === "hang") return hang();
    if (kind === "slow") await Promise.race([this.#sleep(wire.ms), this.#timeout(signal)]);
    if (kind === "slow") return give(reply);
    if (kind === "trickle") return give(reply, drip("", this.#timeout(signal, wire.afterMs)));
    if (kind !== "cut") return give(this.spoil(fault as Fault, reply));
    const left = reply.body.slice(0, Math.ceil(reply.body.length / 2));
    const dead = async () => {
      await Bun.sleep(DRIP_MS);
      throw networkError("ECONNRESET", url);
    };
    return give(reply, wire.clean ? left : drip(left, dead()));
  }

  /** Never resolves; rejects when the signal says so, or after so much of the service's time. */
  async #timeout(signal?: AbortSignal, afterMs?: number): Promise<never> {
    signal?.throwIfAborted();
    const aborted = new Promise((resolve) => signal?.addEventListener("abort", resolve));
    await (afterMs === undefined ? aborted : Promise.race([aborted, this.#sleep(afterMs)]));
    throw signal?.reason ?? new DOMException("The operation timed out.", "TimeoutError");
  }

  /** Answers on a socket as a call in process is answered; what throws there ends the connection here. */
  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    try {
      const body = Buffer.concat(await Array.fromAsync(incoming));
      const { method = "", headers } = incoming;
      const url = new URL(incoming.url ?? "/", this.servedAt);
      const init = { method, headers: headers as Record<string, string> };
      const request = new Request(url.href, { ...init, body: body.length > 0 ? body : null });
      const reply = await this.#call(request, gone.signal);
      response.writeHead(reply.status, Object.fromEntries(reply.headers));
      response.flushHeaders();
      for await (const part of reply.body ?? []) response.write(part);
      response.end();
    } catch {
      response.socket?.destroy();
    }
  }
}

/** A body that gives its text, then a blank now and then, until `end` rejects. */
function drip(text: string, end: Promise<never>): ReadableStream {
  let timer: ReturnType<typeof setInterval>;
  const start = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const send = (part: string) => controller.enqueue(new TextEncoder().encode(part));
    send(text);
    timer = setInterval(() => send(" "), DRIP_MS);
    end.catch((error: unknown) => {
      clearInterval(timer);
      controller.error(error);
    });
  };
  return new ReadableStream({ start, cancel: () => clearInterval(timer) });
}

/** An error as Bun's fetch throws it: a code, and the complete URL in `path`. */
function networkError(code: string, url: string): TypeError {
  const redirect = `${code} fetching "${url}". For more information, pass \`verbose: true\``;
  const message = code === "UnexpectedRedirect" ? redirect : `${code}: Unable to connect.`;
  return Object.assign(new TypeError(message), { code, path: url, errno: 0 });
}

/** The lines inside the code fences of texts, in order. */
export function fencedLines(texts: string[]): string[] {
  const fences = texts.flatMap((text) => [...text.matchAll(/```[a-z]*\n([^]*?)\n```/g)]);
  return fences.flatMap(([, inside = ""]) => inside.split("\n"));
}

/** Builds a reply; the type is JSON unless told otherwise. */
export function replyOf(status: number, body: unknown, headers = {}, type = "application/json") {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const reply: Reply = { status, headers: { "content-type": type, ...headers }, body: text };
  return reply;
}

/** Reads a JSON or multipart body. */
async function takeApart(seen: SeenRequest, bytes: Uint8Array): Promise<Arrival> {
  const type = seen.headers["content-type"] ?? "";
  const arrival: Arrival = { seen, byteCount: bytes.length, json: undefined, files: [] };
  try {
    if (type.startsWith("application/json")) {
      arrival.json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } else if (type.startsWith("multipart/form-data")) {
      const form = await new Response(bytes, { headers: { "content-type": type } }).formData();
      arrival.files = (await Promise.all([...form].map(uploadedFile))).flat();
      arrival.json = JSON.parse(String(form.get("payload_json") ?? "{}"));
    }
  } catch {
    arrival.json = undefined;
  }
  return arrival;
}

async function uploadedFile([field, value]: [string, string | File]): Promise<UploadedFile[]> {
  if (typeof value === "string") return [];
  return [{ field, name: value.name, text: await value.text(), byteCount: value.size }];
}

// ── Discord ─────────────────────────────────────────────────────────────────────────────────────

/** A message that Discord saved; `content` is what it kept of the text. */
export interface DiscordMessage {
  id: string;
  at: number;
  content: string;
  username: string;
  body: Record<string, unknown>;
  files: UploadedFile[];
  query: Record<string, string>;
}

/** Faults that only Discord has. */
export type DiscordFault =
  | { kind: "rate-limit"; retryAfterS?: number; scope?: string; header?: boolean; global?: boolean }
  | { kind: "cloudflare" | "cloudflare-json" | "no-id" | "empty-204" }
  | { kind: "code"; status: number; code: number; message?: string; errors?: unknown };

/** Settings: `forum` asks for a thread, `name` is what people called the webhook. */
export interface DiscordOptions extends StandInOptions {
  forum?: boolean;
  name?: string;
}

type Wait = { waitMs: number; scope: string };

const ID = "1234567890123456789";
const TOKEN = "tok-en_".repeat(9);
const MIB = 1024 * 1024;
const BUCKET = { requests: 5, windowMs: 2_000 };
const CHANNEL = { messages: 30, windowMs: 60_000 };
const CLOUDFLARE_QUIET_MS = 15 * 60_000;
const GONE_QUIET_MS = 23 * 3_600_000;
const SETTABLE_FLAGS = (1 << 2) | (1 << 12) | (1 << 15);
const DISCORD_EPOCH_MS = 1_420_070_400_000n;
const NO_USER_AGENT = /^$|^(Bun|Deno|curl|Python-urllib)\/|^(node|undici)$/;
const ROUTE = /^\/api(?:\/v\d+)?\/webhooks\/(\d+)\/([\w-]+)$/;
const DROPPED_CHARACTERS = /[\u202a-\u202e\u2066-\u2069]/g;
const validate = new Ajv({ strict: false }).compile(schema);

/** The stand-in for Discord: the webhook `id`/`token` of one channel. */
export class Discord extends StandIn<DiscordFault> {
  readonly messages: DiscordMessage[] = [];
  readonly #options: DiscordOptions;
  #refusesContent: (content: string) => boolean = () => false;
  #refusesFiles = true;
  #bucket = { endsAt: -Infinity, used: 0 };
  #channelTimes: number[] = [];
  #deleted = false;
  readonly #goneSince = new Map<string, number>();

  constructor(options: DiscordOptions = {}) {
    super(options);
    this.#options = options;
  }

  /** The URL as people copy it from Discord: without a version. */
  get webhook(): string {
    return `${this.servedAt ?? "https://discord.com"}/api/webhooks/${ID}/${TOKEN}`;
  }

  /** Makes the webhook answer 404 10015 from now on. */
  delete(): void {
    this.#deleted = true;
  }

  /** Brings a deleted webhook back. */
  restore(): void {
    this.#deleted = false;
  }

  /** Answers 400 50035 at `content` to every message whose content matches, or a file in it. */
  refuseContent(predicate: (content: string) => boolean, { inFiles = true } = {}): void {
    this.#refusesContent = predicate;
    this.#refusesFiles = inFiles;
  }

  /** The lines inside the code fences of all saved messages, in order. */
  lines(): string[] {
    return fencedLines(this.messages.map(({ content }) => content));
  }

  protected inspect({ seen, json }: Arrival): void {
    if (seen.method === "GET" && seen.body !== "") this.violations.push("a GET with a body");
    if (seen.method !== "POST") return;
    const complain = (text: string) => this.violations.push(text);
    if (!seen.path.startsWith("/api/v10/")) complain(`not /api/v10/: ${seen.path}`);
    if (seen.query["wait"] !== "true") complain("wait=true is missing from the query");
    const goneSince = this.#goneSince.get(seen.path) ?? -Infinity;
    if (seen.at - goneSince < GONE_QUIET_MS) complain("posted after a 404 10015");
    for (const text of json === undefined ? [] : bodyViolations(json)) complain(text);
  }

  protected answer(arrival: Arrival): Reply {
    const { method, path, headers } = arrival.seen;
    const route = ROUTE.exec(path);
    if (NO_USER_AGENT.test(headers["user-agent"] ?? "")) return blocked(403, 1010);
    if (!route) return errorReply(404, 0, "404: Not Found");
    const wait = method === "POST" ? this.#spend(arrival.seen.at) : undefined;
    const reply = wait ? this.#tooMany(wait) : (this.#knows(route) ?? this.#carryOut(arrival));
    if (method === "POST") Object.assign(reply.headers, this.#bucketHeaders());
    return reply;
  }

  protected succeeded(reply: Reply): boolean {
    return reply.status < 300;
  }

  protected refuse(fault: DiscordFault, { seen }: Arrival): Reply | undefined {
    switch (fault.kind) {
      case "rate-limit":
        return this.#injectedLimit(fault);
      case "cloudflare":
        return this.limited(blocked(429, 1015), CLOUDFLARE_QUIET_MS);
      case "cloudflare-json":
        return this.limited(errorReply(429, 0, "You are being blocked"), CLOUDFLARE_QUIET_MS);
      case "code":
        if (fault.code === 10015) this.#goneSince.set(seen.path, seen.at);
        return errorReply(fault.status, fault.code, fault.message ?? "an error", fault.errors);
      default:
        return undefined;
    }
  }

  protected spoil(fault: DiscordFault, reply: Reply): Reply {
    if (fault.kind === "empty-204") return { ...reply, status: 204, body: "" };
    return { ...reply, body: "{}" };
  }

  /** Says who is wrong in the URL; a GET that finds the webhook allows posting again. */
  #knows([path, id, token]: RegExpExecArray): Reply | undefined {
    if (id !== ID || this.#deleted) {
      this.#goneSince.set(path, this.now());
      return errorReply(404, 10015, "Unknown Webhook");
    }
    if (token !== TOKEN) return errorReply(401, 50027, "Invalid Webhook Token");
    this.#goneSince.delete(path);
    return undefined;
  }

  #carryOut(arrival: Arrival): Reply {
    if (arrival.seen.method === "GET") {
      const name = this.#options.name ?? "Spidey Bot";
      const webhook = { id: ID, token: TOKEN, type: 1, name, channel_id: "2", guild_id: "3" };
      return replyOf(200, { ...webhook, url: this.webhook });
    }
    const refusal = this.#refusal(arrival);
    if (refusal) return refusal;
    const { id, content, username } = this.#save(arrival);
    const isConfirmed = arrival.seen.query["wait"] === "true" || arrival.files.length > 0;
    if (!isConfirmed) return replyOf(204, "");
    return replyOf(200, { id, type: 0, content, author: { username } });
  }

  #refusal({ json, files, byteCount, seen }: Arrival): Reply | undefined {
    if (files.some((file) => file.byteCount > 10 * MIB) || byteCount > 25 * MIB) {
      return errorReply(413, 40005, "Request entity too large");
    }
    const body = json as Record<string, unknown> | undefined;
    if (typeof body !== "object" || body === null) return errorReply(400, 50109, "invalid JSON");
    const wrong = wrongFields(body);
    const content = String(body["content"] ?? "").trim();
    const texts = [content, ...(this.#refusesFiles ? files.map(({ text }) => text) : [])];
    if (texts.some((text) => text !== "" && this.#refusesContent(text))) wrong.push("content");
    if (wrong.length > 0) return formError(wrong);
    if (content === "" && files.length === 0) return errorReply(400, 50006, "an empty message");
    const { thread_id: id } = seen.query;
    if (id !== undefined && !/^\d+$/.test(id)) return formError(["thread_id"]);
    if (id !== undefined || !this.#options.forum) return undefined;
    return errorReply(400, 220001, "Forum needs thread_name or thread_id");
  }

  #save({ seen, json, files }: Arrival): DiscordMessage {
    const body = json as Record<string, unknown>;
    const sinceEpochMs = BigInt(Math.trunc(seen.at)) - DISCORD_EPOCH_MS;
    const id = String((sinceEpochMs << 22n) + BigInt(this.messages.length));
    const content = String(body["content"] ?? "")
      .replace(DROPPED_CHARACTERS, "")
      .trim();
    const username = String(body["username"] ?? "Spidey Bot").trim();
    const message = { id, at: seen.at, content, username, body, files, query: seen.query };
    this.messages.push(message);
    return message;
  }

  /** Spends one request of the bucket and the channel, or says how long there is none. */
  #spend(now: number): Wait | undefined {
    if (!this.rateLimits) return undefined;
    if (now >= this.#bucket.endsAt) this.#bucket = { endsAt: now + BUCKET.windowMs, used: 0 };
    this.#channelTimes = this.#channelTimes.filter((at) => at > now - CHANNEL.windowMs);
    if (this.#bucket.used >= BUCKET.requests) {
      return { waitMs: this.#bucket.endsAt - now, scope: "user" };
    }
    const [oldest = now] = this.#channelTimes;
    if (this.#channelTimes.length >= CHANNEL.messages) {
      return { waitMs: oldest + CHANNEL.windowMs - now, scope: "shared" };
    }
    this.#bucket.used++;
    this.#channelTimes.push(now);
    return undefined;
  }

  #bucketHeaders(): Record<string, string> {
    if (!this.rateLimits) return {};
    const leftMs = Math.max(0, this.#bucket.endsAt - this.now());
    return {
      "x-ratelimit-limit": String(BUCKET.requests),
      "x-ratelimit-remaining": String(BUCKET.requests - this.#bucket.used),
      "x-ratelimit-reset": (this.#bucket.endsAt / 1000).toFixed(3),
      "x-ratelimit-reset-after": (leftMs / 1000).toFixed(3),
    };
  }

  #tooMany({ waitMs, scope }: Wait, global = false): Reply {
    const seconds = waitMs / 1000;
    const headers = {
      "retry-after": String(Math.ceil(seconds)),
      "x-ratelimit-scope": scope,
      ...(global && { "x-ratelimit-global": "true" }),
    };
    const body = { message: "You are being rate limited.", retry_after: seconds, global };
    return this.limited(replyOf(429, body, headers), waitMs);
  }

  #injectedLimit(fault: DiscordFault & { kind: "rate-limit" }): Reply {
    const { retryAfterS = 1, global = false, scope = global ? "global" : "user" } = fault;
    const reply = this.#tooMany({ waitMs: retryAfterS * 1000, scope }, global);
    if (fault.header === false) delete reply.headers["retry-after"];
    return reply;
  }
}

/** What Discord would let pass, and we call a bug. */
function bodyViolations(json: unknown): string[] {
  const found = validate(json) ? [] : (validate.errors ?? []);
  const texts = found.map(({ instancePath, message, params }) => {
    return `body${instancePath} ${message} ${JSON.stringify(params)}`;
  });
  const body = (json ?? {}) as { content?: unknown; flags?: unknown; allowed_mentions?: unknown };
  const { content, flags } = body;
  if (JSON.stringify(body.allowed_mentions) !== '{"parse":[]}') {
    texts.push('allowed_mentions is not {"parse":[]}');
  }
  if (typeof flags === "number" && flags & ~SETTABLE_FLAGS) texts.push(`unsettable flags ${flags}`);
  if (typeof content !== "string") return texts;
  if (content.length >= 2000) texts.push(`content of ${content.length} UTF-16 units`);
  if (content.search(DROPPED_CHARACTERS) >= 0) texts.push("content that Discord drops parts of");
  if (content.split("```").length % 2 === 0) texts.push("a code fence is left open");
  return texts;
}

/** The fields of a body that Discord refuses; it counts code points, without the white space around. */
function wrongFields({ content = "", username = "-" }: Record<string, unknown>): string[] {
  const isText = (text: unknown, least: number, most: number): text is string => {
    if (typeof text !== "string" || !text.isWellFormed()) return false;
    const { length } = [...text.trim()];
    return length >= least && length <= most;
  };
  const isName = isText(username, 1, 80) && !/discord|clyde/i.test(username);
  return [...(isText(content, 0, 2000) ? [] : ["content"]), ...(isName ? [] : ["username"])];
}

/** The error of an invalid form, as API version 8 and later have it. */
function formError(fields: string[]): Reply {
  const errors = fields.map((field) => [field, { _errors: [{ code: "INVALID", message: "no" }] }]);
  return errorReply(400, 50035, "Invalid Form Body", Object.fromEntries(errors));
}

function errorReply(status: number, code: number, message: string, errors?: unknown): Reply {
  return replyOf(status, { message, code, ...(errors !== undefined && { errors }) });
}

/** Cloudflare's own refusal, which is no JSON. */
function blocked(status: number, code: number): Reply {
  return replyOf(status, `error code: ${code}`, {}, "text/plain; charset=UTF-8");
}
