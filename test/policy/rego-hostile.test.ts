import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compileRegoAppraisal, compileRegoRelease, PolicyError } from "../../src/policy/index.ts";

const now = new Date("2026-06-01T12:00:00Z");
type Json = Readonly<Record<string, unknown>>;

/** What came of a text: its outcome, or the code of the error of ours. Anything else fails the test. */
function outcomeOf(text: string, claims: Json = {}): string {
  try {
    const { allow } = compileRegoRelease(text).evaluate({ plugin: "resource", resourcePath: ["a"], query: {}, claims, now });
    return allow ? "allow" : "deny";
  } catch (error) {
    if (error instanceof PolicyError) return error.code;
    throw error;
  }
}

function reasonsOf(text: string, claims: Json): string {
  const { allow, reasons } = compileRegoRelease(text).evaluate({ plugin: "resource", resourcePath: ["a"], query: {}, claims, now });
  return allow ? "allow" : reasons.join("; ");
}

const words = [
  "package",
  "policy",
  "import",
  "rego.v1",
  "default",
  "allow",
  "allow",
  "if",
  "else",
  "not",
  "some",
  "every",
  "in",
  "contains",
  "x",
  "y",
  "_",
  "f",
  "input",
  "data",
  "input.a",
  "data.plugin",
  ":=",
  "=",
  "==",
  "!=",
  "<",
  ">=",
  "+",
  "-",
  "*",
  "/",
  "%",
  "|",
  "&",
  "{",
  "}",
  "[",
  "]",
  "(",
  ")",
  ",",
  ";",
  ":",
  ".",
  "\n",
  "1",
  "0",
  '"s"',
  "`r`",
  "true",
  "false",
  "null",
  "count(",
  "object.get(",
  "set()",
  "#c\n",
  "with",
  "as",
];

describe("whatever is uploaded", () => {
  it("no text makes anything throw but the policy's own error", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" })), (text) => {
        outcomeOf(text);
        outcomeOf(`package policy\nallow if ${text}`);
      }),
      { numRuns: 300 },
    );
  });

  it("no order of words does", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...words), { maxLength: 30 }), fc.jsonValue(), (parts, a) => {
        outcomeOf(`package policy\nallow if {\n${parts.join(" ")}\n}`, { a });
        outcomeOf(`package policy\n${parts.join(" ")}\nallow := true`, { a });
      }),
      { numRuns: 1500 },
    );
  });

  it("a cut policy is refused or decides, wherever it is cut", () => {
    const text =
      'package policy\nimport rego.v1\ndefault allow := false\nallow if {\n  some k, v in input.a\n  v > 3\n  not bad[k]\n}\nbad contains "x" if true\n';
    for (let end = 0; end < text.length; end += 1)
      expect(outcomeOf(text.slice(0, end), { a: { y: 4 } })).toMatch(/^(?:allow|deny|ERR_POLICY_NOT_UNDERSTOOD)$/);
    expect(outcomeOf(text, { a: { y: 4 } })).toBe("allow");
  });

  it.each([
    ["brackets", `package policy\nallow if ${"[".repeat(100_000)}`],
    ["parentheses", `package policy\nallow if ${"(".repeat(5000)}1${")".repeat(5000)}`],
    ["operators", `package policy\nallow if ${"1 + ".repeat(5000)}1 > 0`],
    ["a reference", `package policy\nallow if input${".a".repeat(5000)}`],
    ["not", `package policy\nallow if ${"not ".repeat(5000)} true`],
    [
      "a pattern",
      `package policy\nallow if [${"x".padEnd(10, ",")}${Array.from({ length: 5000 }, (_, i) => `x${i}`).join(",")}] = input.a`,
    ],
    ["parameters", `package policy\nf(${Array.from({ length: 500 }, (_, i) => `x${i}`).join(",")}) := 1\nallow := true`],
    [
      "rules that use rules",
      `package policy\nallow if r0\n${Array.from({ length: 100 }, (_, i) => `r${i} if r${i + 1}`).join("\n")}\nr100 := true`,
    ],
    ["a number", `package policy\nallow if 1${"0".repeat(200)} > 0`],
    ["size", `package policy\nallow := true\n${"# filler\n".repeat(40_000)}`],
    ["tokens", `package policy\nallow if [${"1,".repeat(60_000)}] == 1`],
  ])("too much of %s is refused", (_name, text) => expect(outcomeOf(text)).toBe("ERR_POLICY_NOT_UNDERSTOOD"));

  it("what is as deep as the checker allows can be evaluated", () => {
    const comprehensions = (depth: number, inner: string): string =>
      depth === 0 ? inner : `[y${depth} | y${depth} := ${comprehensions(depth - 1, inner)}]`;
    const everies = (depth: number, inner: string): string =>
      depth === 0 ? inner : `every y${depth} in [1] { ${everies(depth - 1, inner)} }`;
    const chain = (rule: (i: number) => string): string => `package policy\n${Array.from({ length: 5 }, (_, i) => rule(i)).join("\n")}`;
    expect(outcomeOf(`${chain((i) => `r${i} := ${comprehensions(25, `r${i + 1}`)}`)}\nr5 := 1\nallow if r0 == r0`)).toBe("allow");
    expect(outcomeOf(`${chain((i) => `r${i} if { ${everies(36, `r${i + 1}`)} }`)}\nr5 := 1\nallow if r0`)).toBe("allow");
    expect(
      outcomeOf(`${chain((i) => `f${i}(x) := ${"(1 + ".repeat(36)}f${i + 1}(x)${")".repeat(36)}`)}\nf5(x) := x\nallow if f0(1) > 0`),
    ).toBe("allow");
  });
});

describe("whatever a guest claims", () => {
  const many = Array.from({ length: 3000 }, (_, i) => i);
  const long = "a".repeat(60_000);

  it.each([
    ["a product of collections", "allow if { some x in input.many; some y in input.many; x + y == -1 }"],
    ["a product in an array", "allow if count([1 | some x in input.many; some y in input.many]) == 0"],
    ["a function called often", "f(x) := count([y | some y in input.many; y > x])\nallow if { some x in input.many; f(x) == -1 }"],
    ["a text that grows", 'allow if { a := concat("", [input.long, input.long]); a == "" }'],
    [
      "a search in a text",
      'allow if contains(input.long, concat("", [substr, "b"]))\nsubstr := concat("", [x | some x in split(input.half, "")])',
    ],
    [
      "numbers that grow",
      `allow if { ${Array.from({ length: 14 }, (_, i) => `x${i} := ${i === 0 ? "1000000000000000000" : `x${i - 1} * x${i - 1}`}`).join("; ")}; x13 == 0 }`,
    ],
    ["a regular expression over much", "allow if { some x in input.many; regex.match(`(a|b|c|d|a*)*e$`, input.long); x == -1 }"],
  ])("%s ends at a limit, and denies", (_name, rule) => {
    const claims = { many, long, half: "a".repeat(30_000) };
    expect(reasonsOf(`package policy\n${rule}`, claims)).toMatch(/the policy failed: .*(?:steps|more than|too large)/);
  });

  it("an extension does not grow beyond what a token carries", () => {
    const policy = compileRegoAppraisal(
      'package policy\ntrust_claims := {"hardware": 2}\nextensions := [{"name": "x", "key": 1, "value": [input.long | input.many[_]]}]',
    );
    const appraise = (count: number) => () =>
      policy.appraise({ input: { long, many: many.slice(0, count) }, now, referenceValue: () => undefined });
    expect(appraise(1)).toThrow("extensions have at most");
    expect(appraise(3000)).toThrow("steps");
  });

  it("halves of surrogate pairs are one character, wherever they come from", () => {
    expect(
      outcomeOf('package policy\nallow if { input.a == input.b; {input.a: 1}[input.b]; input.a == "\\ud800" }', {
        a: "\ud800",
        b: "\udfff",
      }),
    ).toBe("allow");
  });

  it("claims that nest too deep deny", () => {
    let deep: unknown = 1;
    for (let i = 0; i < 5000; i += 1) deep = [deep];
    expect(reasonsOf("package policy\nallow := true", { deep })).toContain("nests deeper");
  });

  it("members named like those of every object are data", () => {
    const claims = JSON.parse('{"__proto__": {"polluted": 1}, "constructor": 2, "toString": 3}') as Json;
    expect(
      outcomeOf("package policy\nallow if { input.__proto__.polluted == 1; input.constructor == 2; not input.hasOwnProperty }", claims),
    ).toBe("allow");
    expect(outcomeOf("package policy\nallow if input.toString", {})).toBe("deny");
    const { extensions } = compileRegoAppraisal(
      'package policy\ntrust_claims := {"hardware": 2}\nextensions := [{"name": "__proto__", "key": 1, "value": input}]',
    ).appraise({ input: claims, now, referenceValue: () => undefined });
    expect(JSON.stringify(extensions)).toBe('{"__proto__":{"__proto__":{"polluted":1},"constructor":2,"toString":3}}');
  });

  it("equality, membership and keys agree for all values", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        const same = "package policy\nallow if { input.a == input.a; input.a in [input.a]; input.a in {input.a}; {input.a: 1}[input.a]; }";
        expect(outcomeOf(same, { a })).toBe("allow");
        const equal = outcomeOf("package policy\nallow if input.a == input.b", { a, b });
        expect(outcomeOf("package policy\nallow if count({input.a, input.b}) == 1", { a, b })).toBe(equal);
        expect(outcomeOf("package policy\nallow if { [x] = [input.a]; x = input.b }", { a, b })).toBe(equal);
      }),
      { numRuns: 200 },
    );
  });

  it("a policy with claims of any shape decides or denies", () => {
    const policy = compileRegoRelease(
      'package policy\ndefault allow := false\nallow if { some _, s in input.submods; s["ear.status"] == "affirming"; not bad }\nbad if { some v in input.submods; v.x > 1; count(v.y) > 2 }',
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom("submods", "cpu0", "x"), fc.jsonValue()), (claims) => {
        const { allow, reasons } = policy.evaluate({ plugin: "resource", resourcePath: [], query: {}, claims, now });
        expect(allow).toBe(false);
        expect(reasons.length).toBeGreaterThan(0);
      }),
      { numRuns: 300 },
    );
  });
});
