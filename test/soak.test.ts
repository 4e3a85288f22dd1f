import { expect, setDefaultTimeout } from "bun:test";
import { testWith } from "./harness.ts";
import { soak } from "./soak.ts";

const seconds = Number(process.env["SOAK_SECONDS"] ?? 12);
const seed = Number(process.env["SOAK_SEED"] ?? Date.now() % 100_000);

setDefaultTimeout((seconds + 600) * 1_000);

testWith("logrotate")(
  `${seconds} s of a writer, rotations, passes and a failing server (SOAK_SEED=${seed})`,
  async () => {
    const { wrong, written, rotations, messages, exits } = await soak(seconds, seed);
    expect(wrong).toEqual([]);
    expect(written).toBeGreaterThan(seconds * 100);
    expect(rotations).toBeGreaterThan(seconds / 4);
    expect(messages).toBeGreaterThan(written / 30);
    expect(exits["0"]).toBeGreaterThan(0);
  },
);
