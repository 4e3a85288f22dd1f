import { describe, expect, test } from "bun:test";
import { readReply, SLACK } from "../f2b-watch.ts";
import { line, lines, Scene, type RunResult } from "./harness.ts";
import { addSlack, Slack, type SlackOptions } from "./slack.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A scene whose messages go to Slack by token, by webhook, or to Discord as well. */
class SlackScene extends Scene {
  readonly slack: Slack;

  constructor(way: "token" | "webhook" | "both" = "token", options: SlackOptions = {}) {
    super();
    this.slack = addSlack(this, options);
    if (way !== "both") delete this.env["DISCORD_WEBHOOK"];
    if (way === "webhook") this.env = { SLACK_WEBHOOK: this.slack.webhook };
  }

  expectInSlack(...expected: string[]): void {
    expect(this.slack.lines()).toEqual(expected);
    expect(this.slack.violations).toEqual([]);
    expect(this.slack.count429).toBe(0);
  }
}

function expectNoSecret(scene: SlackScene, { err, out }: RunResult): void {
  for (const text of [err, out]) {
    expect(text).not.toContain(scene.slack.token);
    expect(text).not.toContain("XXXXXXXX");
    expect(text).not.toContain("http");
  }
}

describe("messages to Slack", () => {
  for (const way of ["token", "webhook"] as const) {
    test(`by ${way}: every line once, in order, one message a second`, async () => {
      using scene = new SlackScene(way);
      scene.append(...lines(1, 100));
      await scene.pass();
      scene.expectInSlack(...lines(1, 100));
      expect(scene.slack.messages.length).toBeGreaterThan(3);
      scene.append(line(101));
      await scene.pass();
      scene.expectInSlack(...lines(1, 101));
      await scene.expectQuiet();
    });
  }

  test("carry name, icon and host, and unfurl nothing", async () => {
    using scene = new SlackScene();
    scene.env = { ...scene.env, SLACK_ICON: ":lock:" };
    scene.append(line(1));
    await scene.pass("--host", "web <1>");
    const [message] = scene.slack.messages;
    expect(message?.content).toStartWith("*web &lt;1&gt;*\n```\n");
    expect(message?.body).toMatchObject({
      username: "Fail2Ban · web <1>",
      icon_emoji: ":lock:",
      unfurl_links: false,
      unfurl_media: false,
    });
  });

  test("a webhook is not asked for another name, icon or channel", async () => {
    using scene = new SlackScene("webhook");
    scene.append(line(1));
    await scene.pass();
    const body = Object.keys(scene.slack.messages[0]?.body ?? {}).sort();
    expect(body).toEqual(["mrkdwn", "text", "unfurl_links", "unfurl_media"]);
  });

  test("stay under 2000 characters after escaping, no escape is cut", async () => {
    using scene = new SlackScene();
    const hostile = `${line(1)} ${"<!channel>&".repeat(700)}`;
    scene.append(hostile, line(2));
    await scene.pass();
    for (const { content } of scene.slack.messages) {
      expect(content.length).toBeLessThan(2_000);
      expect(content).not.toMatch(/&(?!amp;|lt;|gt;)/);
    }
    expect(scene.slack.violations).toEqual([]);
    const whole = scene.slack.lines().join("").replaceAll("…", "");
    expect(whole).toContain(hostile);
  });

  test("a long line is gone on with by the next run", async () => {
    using scene = new SlackScene();
    const long = `${line(1)} ${"&".repeat(3_000)}`;
    scene.append(long, line(2));
    scene.slack.fail({ kind: "slow", ms: 10 });
    expect((await scene.run("--max-time", "2")).code).toBe(75);
    expect((await scene.run()).code).toBe(0);
    const whole = scene.slack.lines().join("").replaceAll("…", "");
    expect(whole).toBe(long + line(2));
  });
});

describe("Discord and Slack", () => {
  test("each gets every line; one being down neither stops nor repeats the other", async () => {
    using scene = new SlackScene("both");
    scene.append(...lines(1, 30));
    scene.discord.failAlways({ kind: "refused" });
    const { code, err } = await scene.run();
    expect(code).toBe(75);
    expect(err).toStartWith("f2b-watch: Discord: cannot connect");
    expect(scene.slack.lines()).toEqual(lines(1, 30));
    scene.rotate();
    scene.append(...lines(31, 40));
    await scene.run();
    scene.expectInSlack(...lines(1, 40));
    scene.discord.failAlways(undefined);
    scene.wait(HOUR);
    await scene.run();
    scene.expectPosted(...lines(1, 40));
    scene.expectInSlack(...lines(1, 40));
  });

  test("one that is added later begins where the other stands", async () => {
    using scene = new SlackScene("both");
    const { DISCORD_WEBHOOK = "", ...onlySlack } = scene.env;
    scene.env = { DISCORD_WEBHOOK };
    scene.append(...lines(1, 3));
    await scene.pass();
    scene.env = { DISCORD_WEBHOOK, ...onlySlack };
    scene.append(line(4));
    await scene.pass();
    scene.expectPosted(...lines(1, 4));
    scene.expectInSlack(line(4));
  });

  test("a dry run shows both, and sends nothing", async () => {
    using scene = new SlackScene("both");
    scene.append(`${line(1)} <x>`);
    const { code, out, err } = await scene.run("--dry-run");
    expect(code).toBe(0);
    expect(out).toContain("<x>");
    expect(out).toContain("&lt;x&gt;");
    expect(err).toContain("1 message for Discord");
    expect(err).toContain("1 message for Slack");
    expect([...scene.discord.requests, ...scene.slack.requests]).toEqual([]);
  });
});

describe("trouble with Slack", () => {
  for (const error of ["channel_not_found", "not_in_channel", "invalid_auth", "is_archived"]) {
    test(`${error}: 69, kept, not asked again until the settings change`, async () => {
      using scene = new SlackScene();
      scene.append(...lines(1, 3));
      scene.slack.failAlways({ kind: "error", error });
      const first = await scene.run();
      expect(first.code).toBe(69);
      expect(first.err).toMatch(
        new RegExp(`^f2b-watch: Slack: .* \\(${error}\\); 3 lines wait\nhint: .+\n$`),
      );
      expectNoSecret(scene, first);
      const asked = scene.slack.requests.length;
      scene.wait(MINUTE);
      expect((await scene.run()).code).toBe(69);
      expect(scene.slack.requests.length).toBe(asked);
      scene.slack.failAlways(undefined);
      scene.env = { ...scene.env, SLACK_ICON: ":x:", SLACK_API_URL: "https://slack.com/api" };
      expect((await scene.run()).code).toBe(69);
      scene.wait(25 * HOUR);
      expect((await scene.run()).code).toBe(0);
      scene.expectInSlack(...lines(1, 3));
    });
  }

  test("ok: false is no delivery, even of an error that nobody knows", async () => {
    using scene = new SlackScene();
    scene.append(line(1));
    scene.slack.fail({ kind: "error", error: "brand_new_trouble" });
    const { code, err } = await scene.run();
    expect(code).toBe(69);
    expect(err).toStartWith("f2b-watch: Slack: access refused (brand_new_trouble); 1 line waits\n");
    scene.wait(61 * MINUTE);
    expect((await scene.run()).code).toBe(0);
    scene.expectInSlack(line(1));
  });

  test("a rate limit is waited for as long as it says", async () => {
    using scene = new SlackScene();
    scene.append(line(1));
    scene.slack.fail({ kind: "rate-limit", retryAfterS: 30 });
    const before = scene.clockMs;
    await scene.pass();
    expect(scene.clockMs - before).toBeGreaterThanOrEqual(30_000);
    expect(scene.slack.lines()).toEqual([line(1)]);
    expect(scene.slack.violations).toEqual([]);
  });

  test("internal errors are unclear: tried again, marked", async () => {
    using scene = new SlackScene();
    scene.append(line(1));
    scene.slack.fail({ kind: "error", error: "internal_error" });
    await scene.pass();
    expect(scene.slack.messages[0]?.content).toContain("(resent)");
  });

  test("an answer without ts counts, and is reported once", async () => {
    using scene = new SlackScene();
    scene.append(line(1));
    scene.slack.failAlways({ kind: "no-ts" });
    const says = "f2b-watch: Slack takes messages without saying that it kept them\n";
    expect(await scene.run()).toEqual({ code: 0, out: "", err: says });
    scene.append(line(2));
    await scene.pass();
    scene.expectInSlack(line(1), line(2));
  });

  test("a line that is too long for Slack is set aside, the others arrive", async () => {
    using scene = new SlackScene();
    scene.append(line(1), `${line(2)} poison`, line(3));
    scene.slack.refuseContent((text) => text.includes("poison"));
    const { code, err } = await scene.run();
    expect(code).toBe(0);
    expect(err).toContain("Slack refuses a line: its content is refused (msg_too_long)");
    scene.expectInSlack(line(1), line(3));
  });
});

describe("Slack's replies", () => {
  const read = (status: number, body: string) => readReply(SLACK, { status, body, headers: {} });

  test("never repeat what the server says, unless it is an error's name", () => {
    const forged = JSON.stringify({ ok: false, error: "x\n https://hooks.slack.com/T" });
    expect(JSON.stringify(read(200, forged))).not.toContain("hooks");
    expect(JSON.stringify(read(404, "<html>secret</html>"))).not.toContain("html");
  });

  test.each([
    [200, "ok", "confirmed"],
    [200, '{"ok":true,"ts":"1.2"}', "confirmed"],
    [200, '{"ok":true}', "unproven"],
    [200, '{"success":true}', "unproven"],
    [200, "", "unproven"],
    [201, "", "unproven"],
    [202, "accepted", "unproven"],
    [204, "", "unproven"],
    [200, '{"ok":true,"ts":"1.2","warning":"message_truncated"}', "refused"],
    [200, '{"ok":false,"error":"channel_not_found"}', "dead"],
    [200, '{"ok":false,"error":"brand_new"}', "denied"],
    [200, '{"ok":false,"err', "denied"],
    [200, '{"success":false}', "denied"],
    [200, '{"ok":false,"error":"invalid_blocks"}', "misconfigured"],
    [200, "no_service", "dead"],
    [400, "invalid_payload", "misconfigured"],
    [400, "no_text", "refused"],
    [403, "invalid_token", "dead"],
    [404, "no_service", "dead"],
    [410, "channel_is_archived", "dead"],
    [403, "something", "denied"],
    [429, "", "limited"],
    [500, "rollup_error", "unclear"],
    [503, "", "unclear"],
    [503, "service_unavailable", "busy"],
  ] as const)("%i %s is %s", (status, body, kind) => {
    expect(read(status, body).kind).toBe(kind);
  });
});

describe("Slack's settings", () => {
  const access = (variables: Record<string, string>) => SLACK.connect((name) => variables[name]);
  const bad: [string, Record<string, string>, RegExp][] = [
    ["both ways", { SLACK_TOKEN: "xoxb-1", SLACK_WEBHOOK: "https://x/y" }, /both set/],
    ["a token without a channel", { SLACK_TOKEN: "xoxb-1" }, /SLACK_CHANNEL is missing/],
    ["a channel without a token", { SLACK_CHANNEL: "#a" }, /SLACK_TOKEN is missing/],
    [
      "a webhook that is no URL",
      { SLACK_WEBHOOK: "hooks" },
      /SLACK_WEBHOOK: expected https:\/\/hooks\.slack\.com\/<path>, found no such URL/,
    ],
    [
      "a webhook of Discord",
      { SLACK_WEBHOOK: "https://discord.com/api/webhooks/1/x" },
      /SLACK_WEBHOOK: expected .*, found a URL of Discord/,
    ],
    [
      "a webhook of Microsoft Teams",
      { SLACK_WEBHOOK: "https://example.webhook.office.com/webhookb2/x" },
      /found a URL of Microsoft Teams/,
    ],
    ["a webhook over http", { SLACK_WEBHOOK: "http://x.example/y" }, /SLACK_WEBHOOK: expected/],
    [
      "an address of Slack that nothing uses",
      { SLACK_API_URL: "nonsense" },
      /SLACK_API_URL: expected/,
    ],
    [
      "an API over http",
      { SLACK_TOKEN: "x", SLACK_CHANNEL: "a", SLACK_API_URL: "http://x.example/" },
      /SLACK_API_URL: expected/,
    ],
    ["a token with a line end", { SLACK_TOKEN: "x\ny", SLACK_CHANNEL: "a" }, /SLACK_TOKEN: exp/],
  ];

  test.each(bad)("%s is refused with 78", (_, variables, says) => {
    expect(() => access(variables)).toThrow(says);
  });

  test("an icon without colons is refused with 78, also where no Slack is set", async () => {
    using scene = new Scene();
    scene.env["SLACK_ICON"] = "bank";
    const { code, err } = await scene.run();
    expect(code).toBe(78);
    expect(err).toContain("SLACK_ICON: expected an emoji's name between colons");
  });

  test("# in a channel's name stands in the env file as it is", () => {
    const bot = access({ SLACK_TOKEN: "xoxb-1", SLACK_CHANNEL: "#alerts" });
    expect(bot?.post("x", undefined, undefined)).toMatchObject({
      url: "https://slack.com/api/chat.postMessage",
      headers: { authorization: "Bearer xoxb-1" },
      body: { channel: "#alerts", text: "x" },
    });
  });
});
