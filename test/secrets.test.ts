/** Secrets that failing actions put into the log are hidden; what is none stays readable. */
import { describe, expect, test } from "bun:test";
import { cleanText } from "../f2b-watch.ts";
import { fixture } from "./events.ts";

/** Lines of a fixture, whose letters are turned by 13: what scans repositories for keys finds none. */
function linesOf(name: string): string[] {
  const text = fixture(`secrets/${name}`)
    .join("\n")
    .replace(/[a-z]/gi, (letter) => {
      const base = letter < "a" ? 65 : 97;
      return String.fromCharCode(((letter.charCodeAt(0) - base + 13) % 26) + base);
    });
  return text.split("\n").filter(Boolean);
}

/** A piece of a secret, as long as one needs to go on from, that a text still holds. */
function leftOf(secret: string, text: string): string | undefined {
  const length = Math.min(8, secret.length);
  const pieces = Array.from({ length: secret.length - length + 1 }, (_, at) =>
    secret.slice(at, at + length),
  );
  return pieces.find((piece) => text.includes(piece));
}

describe("the corpus, written by a real fail2ban whose actions failed", () => {
  /** What may survive of each verdict; `hidden` and `MUST` are the contract's own shapes. */
  const ALLOWED = { hidden: 0, MUST: 0, SHOULD: 0, low: 2 };
  const rows = linesOf("corpus.rot13.tsv").map((row) => row.split("\t"));

  for (const [verdict, allowed] of Object.entries(ALLOWED)) {
    test(`at most ${allowed} secrets of the verdict ${verdict} survive`, () => {
      const chosen = rows.filter(([of]) => of === verdict);
      expect(chosen.length).toBeGreaterThan(10);
      const survivors = chosen.flatMap(([, id = "", secret = "", ...line]) => {
        const text = line.join("\t").replaceAll("␤", "\n");
        const cleaned = cleanText(`${text}\n`, []);
        expect(cleaned.split("\n")).toHaveLength(text.split("\n").length + 1);
        return leftOf(secret, cleaned) ? [id] : [];
      });
      expect(survivors.length, survivors.join(" ")).toBeLessThanOrEqual(allowed);
    });
  }

  test("the lines do not depend on their neighbours", () => {
    const text = rows.map(([, , , ...line]) => `${line.join("\t").replaceAll("␤", "\n")}\n`);
    expect(cleanText(text.join(""), [])).toBe(text.map((line) => cleanText(line, [])).join(""));
  });
});

describe("commands and messages as they are written by hand", () => {
  const UTILS = "2026-11-22 10:00:00,123 fail2ban.utils          [14182]: ERROR   7f53506d6c10 -- ";
  const OTHER = "2026-11-22 10:00:00,123 fail2ban.transmitter    [14182]: ERROR   ";
  /** `E:` goes to stderr, `C:` is fail2ban's own message, `T:` stands alone, the rest is run. */
  function logged(line: string): string {
    const [, kind, rest = ""] = /^(?:([ECTL]):)?(.*)$/.exec(line) ?? [];
    const quote = rest.includes("'") ? '"' : "'";
    if (kind === "E") return `${UTILS}stderr: ${quote}${rest}${quote}`;
    if (kind === "C") return `${OTHER}${rest}`;
    return kind === "T" ? rest : `${UTILS}exec: ${rest}`;
  }

  test("what stands in « » is hidden, in all but 12 of 591 lines", () => {
    const survivors = linesOf("more.rot13.txt").filter((line) => {
      const secrets = Array.from(line.matchAll(/«([^»]*)»/g), ([, secret = ""]) => secret);
      expect(secrets.length, line).toBeGreaterThan(/[«]/.test(line) ? 0 : -1);
      const text = logged(line).replace(/[«»]/g, "").replaceAll("␤", "\n");
      const cleaned = cleanText(`${text}\n`, []);
      return secrets.some((secret) => leftOf(secret, cleaned));
    });
    expect(survivors.length, survivors.join("\n")).toBeLessThanOrEqual(12);
  });

  test("of 279 innocent lines none is changed", () => {
    const byHand = linesOf("more-innocent.rot13.txt").map(logged);
    const lines = [...linesOf("innocent.rot13.txt"), ...byHand].map((line) => `${line}\n`);
    expect(lines.filter((line) => cleanText(line, []) !== line)).toEqual([]);
  });

  test("nothing beside the secret is hidden", () => {
    const rows = ["--header=Private-Token:abcde12345 --user 'bob:fghij67890' https://x.example"];
    rows.push("'--token='abcde12345 https://x.example");
    for (const option of ["-u ", "--user=", "--proxy-user "])
      for (const quote of [`"`, "'"])
        rows.push(`${option}${quote}John Doe:abcde12345${quote} https://x.example`);
    const hidden = (row: string) => row.replace(/abcde12345|John.*5|bob:\w+/g, "[redacted]");
    for (const row of rows)
      expect(cleanText(`${logged(`curl ${row}`)}\n`, [])).toEndWith(`curl ${hidden(row)}\n`);
  });
});

describe("a jail's lines keep their ids, and no command passes as one", () => {
  const JAIL = "2026-11-22 10:00:00,123 fail2ban.actions        [1]: NOTICE  [sshd]";
  const prefixes = [
    JAIL,
    "Nov 22 10:00:00 web-1 fail2ban.actions[1]: NOTICE [sshd]",
    `fail2ban  | ${JAIL}`,
    " 2026-11-22 10:00:00,123 7F48409C0B80 NOTICE  [sshd]",
  ];

  test("ids stay whole, behind every prefix", () => {
    const all = "sip:1001@198.51.100.2 a:b@c bob:Secret1@host key=value1 token=S3cretValue";
    const ids = all.split(" ");
    for (const id of ids)
      for (const prefix of prefixes)
        for (const text of [
          ...[`Ban ${id}`, `Unban ${id}`, `Restore Ban ${id}`, `${id} already banned`],
          `Found ${id} - 2026-11-22 10:00:00`,
          `Increase Ban ${id} (2 # 0:20:00 -> 2026-11-22 10:30:00)`,
        ])
          expect(cleanText(`${prefix} ${text}\n`, [])).toBe(`${prefix} ${text}\n`);
  });

  test("channels' URLs and our own secrets are hidden there too", () => {
    const webhook = "https://discord.com/api/webhooks/123456789012345678/abcdefgh";
    expect(cleanText(`${JAIL} Ban ${webhook}\n`, [])).not.toContain("abcdefgh");
    expect(cleanText(`${JAIL} Ban deadbeef\n`, ["deadbeef"])).toBe(`${JAIL} Ban [redacted]\n`);
    const named = `${JAIL.replace("sshd", "mytoken1")} Ban x\n`;
    expect(cleanText(named, ["mytoken1"])).not.toContain("mytoken1");
  });

  test("a command that holds a jail's line is read closely", () => {
    for (const line of [
      `${JAIL} Ban 203.0.113.7" -H "X-Api-Key: S3CR3T1"`,
      `${JAIL} Ban 203.0.113.7 -u bob:S3CR3T1`,
      `2026-11-22 10:00:00,123 fail2ban.utils [1]: ERROR   7f11 -- exec: sshpass -p S3CR3T1 x NOTICE  [sshd] Ban x`,
      `curl -H 'Key: S3CR3T1' -d '${JAIL} Ban 203.0.113.7`,
      `TOKEN=S3CR3T1 run ${JAIL} Ban 203.0.113.7`,
    ])
      expect(cleanText(`${line}\n`, []), line).not.toContain("S3CR3T1");
  });
});
