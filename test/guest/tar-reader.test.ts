import { array, assert, boolean, integer, property } from "fast-check";
import { describe, expect, it } from "vitest";
import { readTar, ruleOf } from "./reading.ts";
import { base256, endMarker, entry, header, pax, tar, type RawEntry } from "./tar-bytes.ts";

const mebibyte = 1024 ** 2;

function only(bytes: Buffer) {
  const [first, ...others] = readTar(bytes);
  expect(others).toEqual([]);
  if (first === undefined) throw new Error("no entry");
  return first;
}

describe("the tar reader", () => {
  it("reads ustar names with a prefix, and star's shorter prefix", () => {
    expect(only(tar({ name: "b", prefix: "a" })).entry.path).toBe("a/b");
    const star = tar({ name: "b", prefix: "a", patch: { [345 + 131]: "00000000000\0", 508: "tar\0" } });
    expect(only(star).entry.path).toBe("a/b");
  });

  it("keeps names that are not UTF-8 byte for byte", () => {
    expect(Buffer.from(only(tar({ name: Buffer.from([0x66, 0xff, 0xfe]) })).entry.path, "latin1")).toEqual(Buffer.from([0x66, 0xff, 0xfe]));
  });

  it("reads V7 headers, where a slash marks a directory", () => {
    expect(
      readTar(tar({ name: "d/", type: "\0", magic: "v7" }, { name: "f", type: "\0", magic: "v7" })).map(({ entry: { kind } }) => kind),
    ).toEqual(["directory", "file"]);
  });

  it("takes PAX values over the header's, for one entry only", () => {
    const records = [
      ["path", "long/ünï"],
      ["uid", "3000000000"],
      ["gid", "7"],
      ["mtime", "12.5"],
      ["atime", "13.25"],
      ["comment", "x"],
    ] as const;
    const [first, second] = readTar(tar(pax(records), { name: "a", mtime: 1 }, { name: "b", uid: 1 }));
    expect(first?.entry).toMatchObject({
      path: Buffer.from("long/ünï").toString("latin1"),
      uid: 3_000_000_000,
      gid: 7,
      mtime: 12.5,
      atime: 13.25,
    });
    expect(second?.entry).toMatchObject({ path: "b", uid: 1 });
  });

  it("keeps raw bytes of extended attributes", () => {
    const value = Buffer.from([1, 0, 0, 2, 0xff, 0x80, 0x0a, 0x00]);
    const { entry: read } = only(tar(pax([["SCHILY.xattr.security.capability", value]]), { name: "a" }));
    expect(read.xattrs).toEqual(new Map([["security.capability", value]]));
  });

  it("reads GNU long names and long link targets", () => {
    const long = "d/".repeat(200) + "f";
    const bytes = tar(
      entry({ name: "././@LongLink", type: "L", data: `${long}\0`, magic: "gnu" }),
      entry({ name: "././@LongLink", type: "K", data: `${long}x\0`, magic: "gnu" }),
      { name: "cut", type: "2", link: "cut", magic: "gnu" },
    );
    expect(only(bytes).entry).toMatchObject({ path: long, linkTarget: `${long}x`, kind: "symlink" });
  });

  it("reads base-256 numbers", () => {
    const { entry: read } = only(tar({ name: "a", uid: base256(4_000_000_000n, 8), mtime: base256(-5n, 12) }));
    expect(read).toMatchObject({ uid: 4_000_000_000, mtime: -5 });
  });

  it("ignores global headers, as Go does, and never applies them", () => {
    expect(
      only(
        tar(
          pax(
            [
              ["path", "evil"],
              ["uid", "0"],
            ],
            "g",
          ),
          { name: "a", uid: 5 },
        ),
      ).entry,
    ).toMatchObject({ path: "a", uid: 5 });
  });

  it("stops at the end marker, whatever follows", () => {
    expect(readTar(Buffer.concat([tar({ name: "a" }), tar({ name: "hidden" })])).map(({ entry: { path } }) => path)).toEqual(["a"]);
    expect(ruleOf(() => readTar(Buffer.concat([tar({ name: "a" }), Buffer.from("garbage")])))).toBe("accepted");
  });

  it("accepts a stream that ends at an entry's border, or after one zero block", () => {
    expect(readTar(entry({ name: "a", data: "x" }))).toHaveLength(1);
    expect(readTar(Buffer.concat([entry({ name: "a" }), Buffer.alloc(512)]))).toHaveLength(1);
    expect(readTar(Buffer.alloc(0))).toEqual([]);
  });

  it("expands every sparse format", () => {
    const data = Buffer.alloc(512, 0x41);
    const map = Buffer.concat([Buffer.from("1\n1024\n512\n"), Buffer.alloc(512 - 11)]);
    const gnu = (pairs: string, realSize: string) => ({ 386: pairs, 483: realSize });
    const octal = (value: number) => `${value.toString(8).padStart(11, "0")}\0`;
    const formats: Readonly<Record<string, Buffer>> = {
      "old GNU": tar({
        name: "s",
        type: "S",
        magic: "gnu",
        data,
        patch: gnu(octal(1024) + octal(512) + octal(4096) + octal(0), octal(4096)),
      }),
      "PAX 0.0": tar(
        pax([
          ["GNU.sparse.size", "4096"],
          ["GNU.sparse.numblocks", "2"],
          ["GNU.sparse.offset", "1024"],
          ["GNU.sparse.numbytes", "512"],
          ["GNU.sparse.offset", "4096"],
          ["GNU.sparse.numbytes", "0"],
        ]),
        { name: "s", data },
      ),
      "PAX 0.1": tar(
        pax([
          ["GNU.sparse.size", "4096"],
          ["GNU.sparse.map", "1024,512,4096,0"],
          ["GNU.sparse.name", "s"],
        ]),
        { name: "x", data },
      ),
      "PAX 1.0": tar(
        pax([
          ["GNU.sparse.major", "1"],
          ["GNU.sparse.minor", "0"],
          ["GNU.sparse.name", "s"],
          ["GNU.sparse.realsize", "4096"],
        ]),
        {
          name: "x",
          data: Buffer.concat([map, data]),
        },
      ),
    };
    for (const [format, bytes] of Object.entries(formats)) {
      const read = only(bytes);
      expect([format, read.entry.path, read.entry.size]).toEqual([format, "s", 4096]);
      expect(read.content).toEqual(Buffer.concat([Buffer.alloc(1024), data, Buffer.alloc(2560)]));
    }
  });

  it("reads GNU sparse maps that need extension blocks", () => {
    const octal = (value: number) => `${value.toString(8).padStart(11, "0")}\0`;
    const pairs = Array.from({ length: 30 }, (_, i) => octal(i * 1024) + octal(512));
    const extension = (list: readonly string[], more: string) => {
      const block = Buffer.alloc(512);
      block.write(list.join(""), "latin1");
      block.write(more, 504, "latin1");
      return block;
    };
    const data = Buffer.alloc(30 * 512, 0x42);
    const bytes = Buffer.concat([
      header({
        name: "s",
        type: "S",
        magic: "gnu",
        size: data.length,
        patch: { 386: pairs.slice(0, 4).join(""), 482: "\x01", 483: octal(30 * 1024) },
      }),
      extension(pairs.slice(4, 25), "\x01"),
      extension(pairs.slice(25), "\0"),
      data,
      endMarker,
    ]);
    const { content } = only(bytes);
    expect(content.subarray(29 * 1024, 29 * 1024 + 512)).toEqual(Buffer.alloc(512, 0x42));
    expect(content.subarray(29 * 1024 + 512)).toEqual(Buffer.alloc(512));
  });

  it("sees the same whatever the pieces", () => {
    const bytes = tar(
      pax([["path", "p".repeat(300)]]),
      { name: "a", data: "x".repeat(1500) },
      { name: "d/", type: "5" },
      { name: "b", data: "" },
      { name: "c", data: "c".repeat(512) },
    );
    const whole = readTar(bytes);
    expect(whole).toHaveLength(4);
    assert(
      property(array(integer({ min: 1, max: 1400 }), { minLength: 1, maxLength: 8 }), (pieces) => {
        expect(readTar(bytes, pieces)).toEqual(whole);
      }),
      { numRuns: 60 },
    );
    expect(readTar(bytes, [1])).toEqual(whole);
  });
});

describe("a malformed tar stream", () => {
  const file: RawEntry = { name: "a", data: "x" };
  const cases: Readonly<Record<string, readonly [rule: string, bytes: Buffer]>> = {
    "with a wrong checksum": ["checksum", tar({ name: "a", checksumError: 1 })],
    "with an unknown magic": ["magic", tar({ name: "a", magic: Buffer.from("cpio!!!!") })],
    "with a size that is no number": ["number", tar({ name: "a", size: "0000000009 " })],
    "with garbage after the digits of a size": ["number", tar({ name: "a", size: "1\0garbage" })],
    "with a negative base-256 size": ["number", tar({ name: "a", size: base256(-1n, 12) })],
    "with a size beyond 2^53": ["number", tar({ name: "a", size: base256(2n ** 60n, 12) })],
    "with a uid of 2^33, which others take for root": ["id-range", tar({ name: "a", uid: base256(2n ** 33n, 8) })],
    "with a PAX uid of 2^32": ["id-range", tar(pax([["uid", "4294967296"]]), file)],
    "with a uid of 2^32-1, which chown takes for no change": ["id-range", tar(pax([["uid", "4294967295"]]), file)],
    "with a negative gid": ["id-range", tar({ name: "a", gid: base256(-1n, 8) })],
    "with an unknown type": ["type", tar({ name: "a", type: "Z" })],
    "with a Solaris header": ["type", tar({ name: "a", type: "X" })],
    "with a multi-volume part": ["type", tar({ name: "a", type: "M" })],
    "with data after a symlink": ["size-of-header-only", tar({ name: "a", type: "2", link: "b", data: "x" })],
    "with data after a hard link": ["size-of-header-only", tar({ name: "a", type: "1", link: "b", data: "x" })],
    "with data after a directory": ["size-of-header-only", tar({ name: "a/", type: "5", data: "x" })],
    "with a size but no data after a device": ["size-of-header-only", tar({ name: "a", type: "3", size: 5 })],
    "with a PAX size after a fifo": ["size-of-header-only", tar(pax([["size", "5"]]), { name: "a", type: "6" })],
    "with a file whose name ends in a slash": ["trailing-slash", tar({ name: "a/", type: "0" })],
    "with one zero block in the middle": ["lone-zero-block", Buffer.concat([entry(file), Buffer.alloc(512), entry(file), endMarker])],
    "with a PAX size of -5": ["pax-value", tar(pax([["size", "-5"]]), file)],
    "with a PAX size of abc": ["pax-value", tar(pax([["size", "abc"]]), file)],
    "with a PAX size with a leading zero": ["pax-value", tar(pax([["size", "01"]]), file)],
    "with a PAX size that is empty": ["pax-value", tar(pax([["size", ""]]), file)],
    "with a PAX size beyond 2^53": ["pax-value", tar(pax([["size", "99999999999999999999"]]), file)],
    "with a PAX size that contradicts the header (TARmageddon)": [
      "pax-size",
      tar(pax([["size", "0"]]), { name: "a", data: "x".repeat(1024) }),
    ],
    "with a PAX time that is no number": ["pax-value", tar(pax([["mtime", "NaN"]]), file)],
    "with an empty PAX path": ["pax-value", tar(pax([["path", ""]]), file)],
    "with a NUL in a PAX path": ["pax-value", tar(pax([["path", "a\0b"]]), file)],
    "with a NUL in a PAX link path": ["pax-value", tar(pax([["linkpath", "a\0b"]]), { name: "l", type: "2", link: "x" })],
    "with a PAX path twice": [
      "pax-duplicate",
      tar(
        pax([
          ["path", "x"],
          ["path", "y"],
        ]),
        file,
      ),
    ],
    "with an extended attribute twice": [
      "pax-duplicate",
      tar(
        pax([
          ["SCHILY.xattr.user.a", "x"],
          ["SCHILY.xattr.user.a", "y"],
        ]),
        file,
      ),
    ],
    "with a PAX record that is too long": ["pax-syntax", tar(pax([Buffer.from("99 path=x\n")]), file)],
    "with a PAX record that is too short": ["pax-syntax", tar(pax([Buffer.from("5 path=x\n")]), file)],
    "with a PAX record without a length": ["pax-syntax", tar(pax([Buffer.from("path=x\n")]), file)],
    "with a PAX record without a line end": ["pax-syntax", tar(pax([Buffer.from("10 path=xy")]), file)],
    "with a PAX record without an equals sign": ["pax-syntax", tar(pax([Buffer.from("7 pathx\n"), Buffer.from("")]), file)],
    "with a PAX record without a key": ["pax-syntax", tar(pax([Buffer.from("5 =x\n")]), file)],
    "with a PAX record of length zero": ["pax-syntax", tar(pax([Buffer.from("0 path=x\n")]), file)],
    "with a malformed global header": ["pax-syntax", tar(pax([Buffer.from("garbage")], "g"), file)],
    "with two PAX headers for one entry": ["meta-twice", tar(pax([["path", "x"]]), pax([["path", "y"]]), file)],
    "with two long names for one entry": [
      "meta-twice",
      tar({ name: "L", type: "L", data: "x\0" }, { name: "L", type: "L", data: "y\0" }, file),
    ],
    "with a name from both a GNU and a PAX header": [
      "pax-conflict",
      tar(pax([["path", "x"]]), { name: "L", type: "L", data: "y\0" }, file),
    ],
    "with a NUL inside a long name": ["gnu-long-name", tar({ name: "L", type: "L", data: "x\0y\0" }, file)],
    "with an empty long name": ["gnu-long-name", tar({ name: "L", type: "L", data: "" }, file)],
    "with a PAX header before the end": ["meta-without-entry", tar(pax([["path", "x"]]))],
    "with a PAX header at the very end": ["meta-without-entry", pax([["path", "x"]])],
    "with an extended header beyond the limit": ["pax-size", tar({ name: "p", type: "x", size: 2 * mebibyte })],
    "with a sparse map that goes back": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "4096"],
          ["GNU.sparse.map", "1024,1,0,1"],
        ]),
        { name: "a", data: "xy" },
      ),
    ],
    "with a sparse map that leaves the file": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "1024,1"],
        ]),
        file,
      ),
    ],
    "with a sparse map of odd length": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "1"],
        ]),
        file,
      ),
    ],
    "with a sparse map of other data": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "0,5"],
        ]),
        file,
      ),
    ],
    "with two sparse maps": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.map", "0,1"],
          ["GNU.sparse.offset", "0"],
          ["GNU.sparse.numbytes", "1"],
        ]),
        file,
      ),
    ],
    "with sparse offsets out of turn": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.size", "10"],
          ["GNU.sparse.numbytes", "1"],
        ]),
        file,
      ),
    ],
    "with a sparse format of the future": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.major", "2"],
          ["GNU.sparse.minor", "0"],
          ["GNU.sparse.realsize", "1"],
        ]),
        file,
      ),
    ],
    "with a sparse map that never ends": [
      "sparse",
      tar(
        pax([
          ["GNU.sparse.major", "1"],
          ["GNU.sparse.minor", "0"],
          ["GNU.sparse.realsize", "1"],
        ]),
        { name: "a", data: "999999999\n".repeat(300) },
      ),
    ],
    "with a sparse directory": [
      "size-of-header-only",
      tar(
        pax([
          ["GNU.sparse.size", "0"],
          ["GNU.sparse.map", "0,0"],
        ]),
        { name: "a/", type: "5" },
      ),
    ],
    "with a device number that is none": ["number", tar({ name: "a", type: "3", patch: { 329: "xxxxxxxx" } })],
  };

  it.each(Object.entries(cases))("%s is refused", (_, [rule, bytes]) => {
    expect(ruleOf(() => readTar(bytes))).toBe(rule);
    expect(ruleOf(() => readTar(bytes, [7, 512, 100]))).toBe(rule);
  });

  it("is refused wherever it is cut, except behind the last byte of an entry", () => {
    const parts = [
      pax([["path", "p"]]),
      entry({ name: "a", data: "x".repeat(1500) }),
      entry({ name: "d/", type: "5" }),
      entry({ name: "b", data: "y" }),
    ];
    const bytes = Buffer.concat([...parts, endMarker]);
    const borders = new Set([1024 + 2048, 1024 + 2048 + 512, 1024 + 2048 + 512 + 1024]);
    const padded = new Set([1024 + 2048, 1024 + 2048 + 512 + 1024]);
    for (let cut = 512; cut < bytes.length - 1024; cut += 512) {
      const rule = ruleOf(() => readTar(bytes.subarray(0, cut)));
      const other = cut === 1024 ? "meta-without-entry" : "truncated";
      expect([cut, rule]).toEqual([cut, borders.has(cut) ? "accepted" : other]);
      expect([cut, ruleOf(() => readTar(bytes.subarray(0, cut - 1)))]).toEqual([cut, padded.has(cut) ? "accepted" : other]);
    }
  });

  it("never makes the reader loop, overflow or return something unlike a stream", () => {
    const good = tar(
      pax([
        ["path", "p"],
        ["size", "5"],
      ]),
      { name: "a", data: "hello" },
      { name: "l", type: "2", link: "a" },
    );
    assert(
      property(integer({ min: 0, max: good.length - 1 }), integer({ min: 1, max: 255 }), boolean(), (at, flip, fix) => {
        const bytes = Buffer.from(good);
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        // With the checksum made right again the change reaches what lies behind it.
        if (fix) for (let block = 0; block < bytes.length; block += 512) fixChecksum(bytes, block);
        expect(["string"]).toContain(typeof ruleOf(() => readTar(bytes)));
      }),
      { numRuns: 500 },
    );
  });
});

function fixChecksum(bytes: Buffer, block: number): void {
  if (bytes.toString("latin1", block + 257, block + 262) !== "ustar") return;
  bytes.fill(0x20, block + 148, block + 156);
  const sum = bytes.subarray(block, block + 512).reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, block + 148, "latin1");
}
