/** What README says of the program is what the program says, and its links lead somewhere. */
import { describe, expect, test } from "bun:test";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { repository, Scene } from "./harness.ts";
import { block, quoted, README, RECIPES } from "./readme.ts";

const readme = fs.readFileSync(README, "utf8");

/** The lines of a quotation come one after the other in the text; `…` alone leaves lines out. */
function missingPart(quotation: string, text: string): string | undefined {
  let rest = `\n${text}`;
  for (const part of `\n${quotation}`.split(/(?<=\n)…\n/)) {
    const at = rest.indexOf(`\n${part.replace(/^\n/, "")}`);
    if (at < 0) return part;
    rest = rest.slice(at + part.length);
  }
  return undefined;
}

describe("README", () => {
  for (const { argv, text } of quoted()) {
    test(`quotes what f2b-watch ${argv.join(" ")} prints`, async () => {
      using scene = new Scene();
      scene.env = {};
      const words = argv.map((word) => word.replace(/^test\//, `${repository}/test/`));
      const { out } = await scene.f2bWatch(...words, "--state", scene.state);
      expect({ missing: missingPart(text, out), out }).toMatchObject({ missing: undefined });
    });
  }

  test("has each option as the program has it", async () => {
    using scene = new Scene();
    const { out } = await scene.f2bWatch("--help");
    const options = out.match(/^  --[\w-]+(?: <[^>]*>)?/gm) ?? [];
    expect(options.length).toBeGreaterThan(15);
    const rows = readme.matchAll(/^\| `(--[^`]*)` /gm);
    const listed = Array.from(rows, ([, option = ""]) => option.replace("\\|", "|"));
    expect(listed.sort()).toEqual(options.map((option) => option.trim()).sort());
  });

  test("shows rows that check has", async () => {
    using scene = new Scene("a line");
    const { out } = await scene.run("check", "--json");
    const rows: { name: string }[] = JSON.parse(out).rows;
    const shown = Array.from(block("check").matchAll(/^[✓✗?] (.{14})/gm), ([, name]) =>
      name?.trim(),
    );
    expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining(shown));
  });

  test("is short, and no cell of a table is long", () => {
    expect(readme.split("\n").length).toBeLessThanOrEqual(701);
    const cells = readme.match(/(?<=^\|.*)[^|\n]+(?=\|)/gm) ?? [];
    expect(cells.filter((cell) => cell.trim().length > 120)).toEqual([]);
  });

  test("leads to what is there", () => {
    for (const page of [README, RECIPES]) {
      const text = fs.readFileSync(page, "utf8");
      for (const [, target = ""] of text.matchAll(/\]\((?!https:)([^)]+)\)/g)) {
        const [path = "", anchor] = target.split("#");
        const linked = path === "" ? page : join(dirname(page), path);
        expect({ target, exists: fs.existsSync(linked) }).toEqual({ target, exists: true });
        if (anchor === undefined) continue;
        const headings = [...fs.readFileSync(linked, "utf8").matchAll(/^#+ (.*)$/gm)];
        const slug = (text: string) => text.replaceAll(/[^\w -]/g, "").replaceAll(" ", "-");
        const anchors = headings.map(([, heading = ""]) => slug(heading.toLowerCase()));
        expect(anchors).toContain(anchor);
      }
    }
  });
});
