/** What no log says: fail2ban's database, countries; and the options of both. */
import { describe, expect, test } from "bun:test";
import { line, Scene } from "./harness.ts";

describe("values that are refused: 64 from a flag, 78 from a variable", () => {
  test.each<[option: string, value: string, ...command: string[]]>([
    ["--link", "db-ip.com/{ip}"],
    ["--link", "https://db-ip.com/"],
    ["--link", "https://{ip}/"],
    ["--link", "https://{ip}.example.org/"],
    ["--link", "javascript://x/{ip}"],
    ["--link", "https://db-ip.com/{ip}|x"],
    ["--link", "https://db-ip.com/{ip}>"],
    ["--link", "https://db-ip.com/a b/{ip}"],
    ["--link", `https://db-ip.com/${"x".repeat(300)}/{ip}`],
    ["--since", "2026-11-22 12:01", "digest"],
    ["--since", "2026-11-23", "digest"],
    ["--since", "2026-02-30", "digest"],
    ["--since", "tomorrow", "digest"],
    ["--since", "1h 30m", "digest"],
    ["--since", "0h", "digest"],
    ["--since", "h", "digest"],
    ["--since", "99999w99999w", "digest"],
  ])("%s %s", async (option, value, ...command) => {
    using scene = new Scene();
    scene.append(line(1));
    const byFlag = await scene.run(option, value, ...command);
    expect(byFlag).toMatchObject({ code: 64, out: "" });
    expect(byFlag.err).toMatch(new RegExp(`^f2b-watch: ${option}: expected .+\nhint: .+\n$`));
    scene.env[`F2B_${option.slice(2).toUpperCase()}`] = value;
    const byVariable = await scene.run(...command);
    expect(byVariable).toMatchObject({ code: 78, out: "" });
    expect(byVariable.err).toMatch(/^f2b-watch: F2B_(LINK|SINCE): expected .+\n$/);
  });
});
