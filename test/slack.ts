/** A strict, stateful stand-in for Slack: chat.postMessage, auth.test and an incoming webhook. */
import type { Scene } from "./harness.ts";
import {
  fencedLines,
  replyOf,
  StandIn,
  type Arrival,
  type Reply,
  type SeenRequest,
  type StandInOptions,
} from "./discord.ts";

/** A message that Slack saved; `content` is its text as sent, escapes included. */
export interface SlackMessage {
  id: string;
  at: number;
  channel: string;
  content: string;
  username: string;
  body: Record<string, unknown>;
  via: "api" | "webhook";
}

/** Faults that only Slack has; `error` is one of Slack's error strings. */
export type SlackFault =
  | { kind: "rate-limit"; retryAfterS?: number; header?: boolean }
  | { kind: "error"; error: string; status?: number }
  | { kind: "no-ts" };

/** `outside`: channels without the bot; `scopes`: what the token may; `links`: the `<…>` meant as links. */
export interface SlackOptions extends StandInOptions {
  outside?: string[];
  scopes?: string[];
  links?: RegExp;
}

/** The ids and names that exist; the first is the webhook's. */
const CHANNELS = ["C0123456789", "#alerts"];
const HOOK_PATH = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX";
const SPLIT_AT = 4_000;
const BURST = { messages: 3, windowMs: 1_000 };
const PACE = { spare: 1, refillMs: 1_000 };
const KNOWN_KEYS = "channel icon_emoji mrkdwn text unfurl_links unfurl_media username".split(" ");
const WEBHOOK_STATUSES: Record<string, number> = {
  invalid_token: 403,
  channel_not_found: 404,
  no_service: 404,
  channel_is_archived: 410,
  rollup_error: 500,
};

/** The stand-in for Slack: one workspace with one bot token and one incoming webhook. */
export class Slack extends StandIn<SlackFault> {
  readonly messages: SlackMessage[] = [];
  readonly token = "xoxb-0123456789-test";
  readonly channel: string = CHANNELS[0] ?? "";
  readonly #options: SlackOptions;
  readonly #scopes: string[];
  readonly #sentAt = new Map<string, number[]>();
  readonly #allowance = new Map<string, { left: number; at: number }>();
  #refusesContent: (content: string) => boolean = () => false;

  constructor(options: SlackOptions = {}) {
    super(options);
    this.#options = options;
    this.#scopes = options.scopes ?? ["chat:write", "chat:write.customize"];
  }

  /** The base URL of the Web API, with the slash at its end. */
  get api(): string {
    return `${this.servedAt ?? "https://slack.com"}/api/`;
  }

  /** The URL of the incoming webhook. */
  get webhook(): string {
    return (this.servedAt ?? "https://hooks.slack.com") + HOOK_PATH;
  }

  /** Refuses every message whose text matches. */
  refuseContent(predicate: (content: string) => boolean): void {
    this.#refusesContent = predicate;
  }

  /** The lines inside the code fences of all saved messages, in order and unescaped. */
  lines(): string[] {
    const entities: Record<string, string> = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
    return fencedLines(this.messages.map(({ content }) => content)).map((line) =>
      line.replace(/&(?:lt|gt|amp);/g, (entity) => entities[entity] ?? entity),
    );
  }

  protected override posts(seen: SeenRequest): boolean {
    return seen.method === "POST" && !seen.path.endsWith("/auth.test");
  }

  protected inspect({ seen, json }: Arrival): void {
    if (seen.method !== "POST") this.violations.push(`${seen.method} ${seen.path}`);
    if (!this.posts(seen)) return;
    const complain = (text: string) => void this.violations.push(text);
    if (!/^application\/json; ?charset=utf-8$/i.test(seen.headers["content-type"] ?? ""))
      complain("no charset=utf-8 in the content type");
    if (!isRecord(json)) return;
    for (const text of bodyViolations(json, this.#options.links)) complain(text);
    if (isHook(seen) && "channel" in json) complain("a webhook cannot choose its channel");
  }

  protected answer(arrival: Arrival): Reply {
    const { seen } = arrival;
    if (isHook(seen)) return this.#answerHook(arrival);
    const method = /^\/api\/([\w.]+)$/.exec(seen.path)?.[1];
    const error = this.#authError(seen);
    if (method !== "auth.test" && method !== "chat.postMessage") return apiError("unknown_method");
    if (error) return apiError(error);
    const identity = { ok: true, team: "Example", user: "f2b", bot_id: "B1" };
    const reply = method === "auth.test" ? replyOf(200, identity) : this.#answerPost(arrival);
    reply.headers["x-oauth-scopes"] = this.#scopes.join(",");
    return reply;
  }

  protected succeeded({ status, body }: Reply): boolean {
    return status === 200 && !body.includes('"ok":false');
  }

  protected refuse(fault: SlackFault, { seen }: Arrival): Reply | undefined {
    if (fault.kind === "error")
      return (isHook(seen) ? hookError : apiError)(fault.error, fault.status);
    if (fault.kind !== "rate-limit") return undefined;
    const reply = this.#tooMany(seen, fault.retryAfterS ?? 1);
    if (fault.header === false) delete reply.headers["retry-after"];
    return reply;
  }

  protected spoil(_: SlackFault, reply: Reply): Reply {
    if (!reply.body.startsWith("{")) return { ...reply, body: "" };
    const body = JSON.parse(reply.body);
    delete body.ts;
    return replyOf(200, body);
  }

  #authError({ headers }: SeenRequest): string | undefined {
    return headers["authorization"] === `Bearer ${this.token}` ? undefined : "invalid_auth";
  }

  #answerPost({ seen, json }: Arrival): Reply {
    if (!isRecord(json)) return apiError("invalid_json");
    const channel = String(json["channel"] ?? "");
    if (!this.#scopes.includes("chat:write")) return apiError("missing_scope");
    const exists = CHANNELS.includes(channel) || CHANNELS.includes(`#${channel}`);
    if (!exists) return apiError("channel_not_found");
    if (this.#options.outside?.includes(channel)) return apiError("not_in_channel");
    const error = this.#textError(json);
    if (error) return apiError(error);
    if (this.#isFlooded(channel, seen.at)) return this.#tooMany(seen, 1);
    const { id: ts, content: text, username } = this.#save(seen, json, channel);
    return replyOf(200, { ok: true, channel, ts, message: { text, username } });
  }

  #answerHook({ seen, json }: Arrival): Reply {
    if (seen.path !== HOOK_PATH) return hookError("no_service");
    if (seen.method !== "POST" || !isRecord(json)) return hookError("invalid_payload");
    const error = this.#textError(json);
    if (error) return hookError(error);
    if (this.#isFlooded(this.channel, seen.at)) return this.#tooMany(seen, 1);
    this.#save(seen, json, this.channel);
    return replyOf(200, "ok", {}, "text/html");
  }

  #textError({ text }: Record<string, unknown>): string | undefined {
    if (typeof text !== "string" || text.trim() === "") return "no_text";
    return this.#refusesContent(text) ? "msg_too_long" : undefined;
  }

  #save(seen: SeenRequest, body: Record<string, unknown>, channel: string): SlackMessage {
    const message: SlackMessage = {
      id: `${Math.trunc(seen.at / 1000)}.${String(this.messages.length).padStart(6, "0")}`,
      at: seen.at,
      channel,
      content: String(body["text"] ?? ""),
      username: String(body["username"] ?? "f2b"),
      body,
      via: isHook(seen) ? "webhook" : "api",
    };
    this.messages.push(message);
    return message;
  }

  /** Takes a message into account; true if the burst is more than Slack puts up with. */
  #isFlooded(channel: string, now: number): boolean {
    if (!this.rateLimits) return false;
    const recent = (this.#sentAt.get(channel) ?? []).filter((at) => at > now - BURST.windowMs);
    if (recent.length >= BURST.messages) return true;
    this.#sentAt.set(channel, [...recent, now]);
    const most = 1 + PACE.spare;
    const { left, at } = this.#allowance.get(channel) ?? { left: most, at: now };
    const refilled = Math.min(most, left + (now - at) / PACE.refillMs);
    if (refilled < 1) this.violations.push("more than one message a second");
    this.#allowance.set(channel, { left: Math.max(0, refilled - 1), at: now });
    return false;
  }

  #tooMany(seen: SeenRequest, retryAfterS: number): Reply {
    const headers = { "retry-after": String(Math.ceil(retryAfterS)) };
    const [body, type] = isHook(seen)
      ? ["rate_limited", "text/html"]
      : ['{"ok":false,"error":"ratelimited"}'];
    const reply = replyOf(429, body, headers, type);
    return this.limited(reply, retryAfterS * 1000);
  }
}

/** What Slack would let pass, and we call a bug. */
function bodyViolations(body: Record<string, unknown>, links?: RegExp): string[] {
  const unknown = Object.keys(body).filter((key) => !KNOWN_KEYS.includes(key));
  const texts = unknown.map((key) => `unknown key ${key}`);
  for (const key of ["unfurl_links", "unfurl_media"])
    if (body[key] !== false) texts.push(`${key} is not false`);
  const text = body["text"];
  if (typeof text !== "string") return texts;
  const plain = links ? text.replaceAll(new RegExp(links, "g"), "") : text;
  const unescaped = /[<>]|&(?!(?:amp|lt|gt);)/.exec(plain)?.[0];
  if (unescaped) texts.push(`unescaped ${unescaped}`);
  if (text.length > SPLIT_AT) texts.push(`text of ${text.length} characters is split`);
  const parts = text.split("```");
  if (parts.length % 2 === 0) texts.push("a code fence is left open");
  const tagged = parts.some((part, index) => index % 2 === 1 && /^[a-z]+\n/.test(part));
  if (tagged) texts.push("a code fence has a language tag, which shows as text");
  return texts;
}

function apiError(error: string, status = 200): Reply {
  return replyOf(status, { ok: false, error });
}

function hookError(error: string, status = WEBHOOK_STATUSES[error] ?? 400): Reply {
  return replyOf(status, error, {}, "text/html");
}

function isHook(seen: SeenRequest): boolean {
  return seen.path.startsWith("/services/");
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Has a scene send to Slack as well. */
export function addSlack(scene: Scene, options: SlackOptions = {}): Slack {
  const slack = new Slack({
    now: () => scene.clockMs,
    sleep: async (ms) => void (scene.clockMs += ms),
    ...options,
  });
  scene.env = { ...scene.env, SLACK_TOKEN: slack.token, SLACK_CHANNEL: slack.channel };
  scene.overrides.fetch = (url, init) =>
    (new URL(url).host.includes("slack") ? slack : scene.discord).fetch(url, init);
  return slack;
}
