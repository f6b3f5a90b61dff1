import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { goldenDigests } from "../registry-fixtures/golden.ts";

describe("golden images", () => {
  it("have the same bytes on every machine and every Node.js", async () => {
    const file = JSON.parse(readFileSync(join(import.meta.dirname, "../registry-fixtures/golden.json"), "utf8")) as { images: unknown };
    expect(await goldenDigests()).toEqual(file.images);
  });
});
