import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  BytesError,
  decodeBase64,
  decodeBase64Url,
  decodeHex,
  encodeBase64,
  encodeBase64Url,
  equalBytes,
  foreignText,
  isDigest,
  parseDigest,
  parseJson,
  withoutOaepRemark,
} from "../../src/bytes/index.ts";

function codeOf(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error instanceof BytesError ? error.code : error;
  }
}

describe("base64", () => {
  it("gives back every byte string, and nothing but its canonical text", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(decodeBase64(encodeBase64(bytes))).toEqual(Buffer.from(bytes));
        expect(decodeBase64Url(encodeBase64Url(bytes))).toEqual(Buffer.from(bytes));
      }),
    );
  });

  it.each(["QQ", "QQ=", "QR==", "QQ==\n", " QQ==", "Q_==", "QQ==QQ==", "="])("refuses %j as standard base64", (text) => {
    expect(codeOf(() => decodeBase64(text))).toBe("ERR_ENCODING_MALFORMED");
  });

  it.each(["QQ==", "QR", "Q+", "Q"])("refuses %j as base64url", (text) => {
    expect(codeOf(() => decodeBase64Url(text))).toBe("ERR_ENCODING_MALFORMED");
  });

  it("refuses odd and foreign hex", () => {
    expect(codeOf(() => decodeHex("abc"))).toBe("ERR_ENCODING_MALFORMED");
    expect(codeOf(() => decodeHex("0x"))).toBe("ERR_ENCODING_MALFORMED");
    expect(decodeHex("00FF")).toEqual(Buffer.from([0, 255]));
  });
});

describe("digests", () => {
  it.each([`sha256:${"a".repeat(64)}`, `sha512:${"0".repeat(128)}`])("accepts %s", (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  it.each([
    "",
    "sha256:",
    `sha256:${"a".repeat(63)}`,
    `sha256:${"A".repeat(64)}`,
    `md5:${"a".repeat(32)}`,
    `sha256:../${"a".repeat(61)}`,
    `__proto__:${"a".repeat(64)}`,
  ])("refuses %j", (text) => {
    expect(isDigest(text)).toBe(false);
    expect(codeOf(() => parseDigest(text))).toBe("ERR_DIGEST_MALFORMED");
  });
});

describe("parseJson", () => {
  const limits = { maxBytes: 1000, maxDepth: 5 };

  it("agrees with JSON.parse on what it accepts", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), (text) => {
        fc.pre(Buffer.byteLength(text) <= 1000);
        expect(parseJson(text, limits)).toEqual(JSON.parse(text));
      }),
    );
  });

  it.each([
    ["a member twice", '{"a":1,"a":2}'],
    ["a member twice under another spelling", '{"a":1,"\\u0061":2}'],
    ["a member twice, deep", '[{"x":{"a":1,"b":"}","a":2}}]'],
    ["too much depth", "[[[[[[1]]]]]]"],
    ["too many bytes", JSON.stringify("x".repeat(1000))],
    ["what follows", "{} {}"],
    ["nothing", ""],
  ])("refuses %s", (_what, text) => {
    expect(codeOf(() => parseJson(text, limits))).toBe("ERR_JSON_MALFORMED");
  });

  it("refuses bytes that are not UTF-8, and repeats nothing of a secret", () => {
    expect(codeOf(() => parseJson(Buffer.from([0x22, 0xff, 0x22]), limits))).toBe("ERR_JSON_MALFORMED");
    expect(() => parseJson('{"password":"hunter2",', limits)).toThrow(/^JSON document is not valid JSON$/);
  });
});

describe("equalBytes", () => {
  it("tells equal from unequal, and lengths apart", () => {
    expect(equalBytes(Buffer.from("a"), Buffer.from("a"))).toBe(true);
    expect(equalBytes(Buffer.from("a"), Buffer.from("b"))).toBe(false);
    expect(equalBytes(Buffer.from("a"), Buffer.from("ab"))).toBe(false);
  });
});

describe("foreign text in a message", () => {
  it("is one line with an end, and holds no credentials, whoever repeats them", () => {
    const jwt = `eyJhbGciOiJFUzI1NiJ9.${"a".repeat(40)}.${"b".repeat(40)}`;
    const text = foreignText(
      `you sent\r\n\u001b[31mBearer abcdefgh12345678 and basic dXNlcjpwYXNz, ${jwt}, https://u:p@h/x?sig=1 ${"x".repeat(400)}`,
      200,
    );
    expect(text).toContain("you sent  [31mBearer … and basic …, eyJ…, https://h/x?… xxx".replace("  ", " "));
    expect(text).toHaveLength(201);
    expect(foreignText("KBS Client Protocol Version Mismatch: expect =0.2.0", 200)).toBe(
      "KBS Client Protocol Version Mismatch: expect =0.2.0",
    );
  });
});

describe("the output of pkcs11-tool", () => {
  const remark = "OAEP parameters: hashAlg=SHA-1, mgf=MGF1-SHA1, source_type=1, source_ptr=(nil), source_len=0\n";

  it("is the plaintext, whatever it is, without the remark behind it", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (plaintext) => {
        expect(withoutOaepRemark(Buffer.from(plaintext))).toEqual(Buffer.from(plaintext));
        const output = Buffer.concat([plaintext, Buffer.from(remark)]);
        expect(withoutOaepRemark(output)).toEqual(Buffer.from(plaintext));
      }),
    );
  });

  it.each([`${remark}x`, remark.trimEnd(), remark.replace("SHA-1", "SHA 1"), "OAEP parameters: hashAlg="])(
    "keeps other words: %j",
    (text) => {
      expect(withoutOaepRemark(Buffer.from(text)).toString()).toBe(text);
    },
  );
});
