import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenShelf } from "../../src/kbs/server/token-shelf.ts";

describe("a shelf of tokens", () => {
  it("gives each token as it was put there or not at all, and always the last one", () => {
    const size = 64;
    const act = fc.record({ name: fc.constantFrom("a", "b", "c", "d"), token: fc.string({ unit: "binary", maxLength: 40 }) });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
        const shelf = new TokenShelf(size);
        const put = new Map<string, string>();
        for (const { name, token } of acts) {
          shelf.put(name, token);
          put.set(name, token);
          expect(shelf.get(name)).toBe(Buffer.byteLength(token) <= size ? token : undefined);
          for (const [other, kept] of put) expect([kept, undefined]).toContain(shelf.get(other));
        }
        shelf.drop("a");
        expect([shelf.get("a"), shelf.get("e")]).toEqual([undefined, undefined]);
      }),
    );
  });

  it("keeps as many as fit, the oldest of which make room first", () => {
    const shelf = new TokenShelf(30);
    for (const name of ["a", "b", "c"]) shelf.put(name, name.repeat(10));
    expect(["a", "b", "c"].map((name) => shelf.get(name)?.length)).toEqual([10, 10, 10]);
    shelf.put("d", "d".repeat(5));
    expect(["a", "b", "c", "d"].map((name) => shelf.get(name)?.length)).toEqual([undefined, 10, 10, 5]);
    // Eight do not fit behind it without reaching into the next one.
    shelf.put("e", "e".repeat(28));
    expect(["b", "c", "d", "e"].map((name) => shelf.get(name)?.length)).toEqual([undefined, undefined, undefined, 28]);
    shelf.put("e", "e".repeat(31));
    expect(shelf.get("e")).toBeUndefined();
  });
});
