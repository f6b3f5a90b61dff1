import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compileRegoAppraisal, compileRegoRelease, PolicyError } from "../../src/policy/index.ts";

const now = new Date("2026-06-01T12:00:00Z");
const input = {
  name: "app",
  none: null,
  level: 7,
  list: ["a", "b", "c"],
  map: { one: 1, two: 2 },
  deep: [{ tags: ["x", "y"] }, { tags: ["z"] }],
};

/** The value of the last rule `result`, by way of an extension. */
function valueOf(rules: string): unknown {
  const text = `package policy\n${rules}\ntrust_claims := {"hardware": 2}\nextensions := [{"name": "r", "key": 1, "value": v} | v := result]`;
  const { extensions } = compileRegoAppraisal(text).appraise({
    input,
    now,
    referenceValue: (name) => (name === "levels" ? [7, 8] : undefined),
  });
  return extensions["r"];
}

function value(term: string): unknown {
  return valueOf(`result := ${term}`);
}

function holds(condition: string): boolean {
  return valueOf(`result if {\n${condition}\n}`) === true;
}

function codeOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error instanceof PolicyError ? error.code : error;
  }
  return "nothing thrown";
}

function refusal(text: string): string {
  try {
    compileRegoRelease(text);
  } catch (error) {
    if (error instanceof PolicyError && error.code === "ERR_POLICY_NOT_UNDERSTOOD") return error.message;
    throw error;
  }
  return "accepted";
}

describe("terms", () => {
  it.each([
    ["1 + 2 * 3 - 4", 3],
    ["7 / 2", 3.5],
    ["-7 % 4", -3],
    ["(1 + 2) * 3", 9],
    ["9007199254740993 - 9007199254740992", 1],
    ["0.5 + 0.25", 0.75],
    ['"a\\u00e9\\n"', "aé\n"],
    ["`raw\\n`", "raw\\n"],
    ["input.list[1]", "b"],
    ['input["map"].two', 2],
    ["input.deep[1].tags[0]", "z"],
    ["input.none", null],
    ["[1, [2], {}]", [1, [2], {}]],
    ['{"b": 1, "a": {"c": null}}', { a: { c: null }, b: 1 }],
    ["{3, 1, 2, 1}", [1, 2, 3]],
    ["set()", []],
    ["{1, 2} | {3}", [1, 2, 3]],
    ["{1, 2} & {2, 3}", [2]],
    ["{1, 2} - {2}", [1]],
    ['[x | x := input.list[_]; x != "b"]', ["a", "c"]],
    ["[t | t := input.deep[_].tags[_]]", ["x", "y", "z"]],
    ["{v | some v in input.map}", [1, 2]],
    ["{v: k | some k, v in input.list}", { a: 0, b: 1, c: 2 }],
    ['count(input.list) + count(input.map) + count({1}) + count("héllo")', 11],
    ['startswith("abc", "ab")', true],
    ['endswith("abc", "ab")', false],
    ['contains("abc", "b")', true],
    ['concat("/", ["a", "b"])', "a/b"],
    ['concat(",", {"b", "a"})', "a,b"],
    ['split("a.b.c", ".")', ["a", "b", "c"]],
    ['lower("ÀB")', "àb"],
    ['upper("straße")', "STRAßE"],
    ['sprintf("%s=%d %v%% %v", ["a", 3, true, ["x", {"k": 1}]])', 'a=3 true% ["x", {"k": 1}]'],
    ['object.get(input, "name", "?")', "app"],
    ['object.get(input, "missing", "?")', "?"],
    ['object.get(input, "none", "?")', null],
    ['object.get(input, ["deep", 0, "tags", 1], "?")', "y"],
    ['object.union({"a": {"b": 1}, "c": 1}, {"a": {"d": 2}, "c": {}})', { a: { b: 1, d: 2 }, c: {} }],
    ['object.union_n([{"a": 1}, {"a": 2}, {"b": 3}])', { a: 2, b: 3 }],
    ['time.parse_rfc3339_ns("1970-01-01T00:00:01.000000002Z")', 1_000_000_002],
    ['time.parse_rfc3339_ns("2026-06-01T14:00:00+02:00") == time.now_ns()', true],
    ['time.now_ns() - time.parse_rfc3339_ns("2026-06-01T11:59:59.999999999Z")', 1],
    ['query_reference_value("levels")', [7, 8]],
    ['query_reference_value("missing")', null],
    ["1 == 1.0", true],
    ["[1, 2] < [1, 3]", true],
    ['"Z" < "a"', true],
    ["true < 0", true],
  ])("%s", (term, expected) => expect(value(term)).toEqual(expected));
});

describe("conditions", () => {
  it.each([
    ["input.level > 5; input.level <= 7", true],
    ["input.missing", false],
    ["input.none", true],
    ["not input.missing", true],
    ["not input.none", false],
    ["not input.level == 7", false],
    ["input.missing.deeper != 1", false],
    ['"a" in input.list', true],
    ['"q" in input.list', false],
    ["1 in input.map", true],
    ["1 in null", false],
    ["(1 in null) == false", false],
    ['input.level in query_reference_value("levels")', true],
    ['input.level in query_reference_value("missing")', false],
    ['some x in input.list; x == "c"', true],
    ['some i, x in input.list; i == 2; x == "c"', true],
    ['some i; input.list[i] == "b"; i == 1', true],
    ['some k, 2 in input.map; k == "two"', true],
    ["every x in input.list { count(x) == 1 }", true],
    ['every i, x in input.list { i < 2; x != "q" }', false],
    ["every x in [] { x == 1 }", true],
    ["every x in input.missing { x == 1 }", false],
    ["[a, b] := [1, 2]; a < b", true],
    ["[a, _] = [1, 2]; a = 1", true],
    ['{"one": a, "two": 2} = input.map; a == 1', true],
    ['{"one": a} = input.map', false],
    ["[1, x] = [2, 3]", false],
    ['input.deep[i].tags[j] == "z"; i == 1; j == 0', true],
    ['x = input.list[_]; x = "b"', true],
    ["regex.match(`^a[a-z]{2}$`, input.name)", true],
    ["regex.match(`^(?:b|c)`, input.name)", false],
  ])("%s", (condition, expected) => expect(holds(condition)).toBe(expected));
});

describe("rules", () => {
  it("take the default when nothing holds, and a value that is null is a value", () => {
    expect(valueOf("default result := 5\nresult := 6 if input.missing")).toBe(5);
    expect(valueOf("default result := 5\nresult := null if input.name")).toBeNull();
  });

  it("try else in order", () => {
    const rules = (level: number) =>
      `result := "high" if input.level > ${level} else := "equal" if { input.level == ${level} }\nelse := "low"`;
    expect([6, 7, 8].map((level) => valueOf(rules(level)))).toEqual(["high", "equal", "low"]);
  });

  it("may agree, and fail when they contradict each other", () => {
    expect(valueOf("result := 1 if input.name\nresult := 1 if input.level")).toBe(1);
    expect(codeOf(() => valueOf("result := 1 if input.name\nresult := 2 if input.level"))).toBe("ERR_POLICY_FAILED");
    expect(codeOf(() => valueOf("result := x if some x in input.list"))).toBe("ERR_POLICY_FAILED");
    expect(codeOf(() => valueOf("result := 1 if input.name\nresult := null if input.level"))).toBe("ERR_POLICY_FAILED");
  });

  it("collect partial sets and objects, in both generations of syntax", () => {
    expect(valueOf('found contains x if some x in input.list\nfound contains "d"\nresult := found')).toEqual(["a", "b", "c", "d"]);
    expect(valueOf("found[x] { x := input.list[_] }\nresult = found { found.a }")).toEqual(["a", "b", "c"]);
    expect(valueOf("found[k] := i if some i, k in input.list\nresult := found")).toEqual({ a: 0, b: 1, c: 2 });
    expect(codeOf(() => valueOf('found["k"] := i if some i, _ in input.list\nresult := found'))).toBe("ERR_POLICY_FAILED");
    expect(valueOf("found contains 1 if input.missing\nresult := count(found)")).toBe(0);
  });

  it("can be functions, with patterns as parameters", () => {
    expect(valueOf("f(x) := x * 2\nf2(x, y) := data.policy.f(x) + f(y)\nresult := f2(1, 2)")).toBe(6);
    expect(valueOf('f("a") := 1\nf("b") := 2\nresult := [f("a"), f("b")]')).toEqual([1, 2]);
    expect(valueOf("f([x, _]) := x\nresult := [y | y := f(input.list)]")).toEqual([]);
    expect(valueOf("f(x) if x > 5\nresult := f(input.level)")).toBe(true);
    expect(codeOf(() => valueOf("f(x) := 1 if x\nf(x) := 2 if x\nresult := f(1)"))).toBe("ERR_POLICY_FAILED");
  });

  it("see the request under data, and their own package", () => {
    const text = `package policy
      import future.keywords.if
      default allow := false
      allow if { data["resource-path"][0] == "default"; data.query.v == "1"; data.policy.ok }
      ok if count(data["resource-path"]) == 3`;
    const ask = (query: Readonly<Record<string, string>>) =>
      compileRegoRelease(text).evaluate({ plugin: "resource", resourcePath: ["default", "a", "b"], query, claims: {}, now });
    expect(ask({ v: "1" }).allow).toBe(true);
    expect(ask({})).toEqual({
      allow: false,
      reasons: ["the policy's rule allow is false", "the condition at line 4, column 57 does not hold"],
    });
  });
});

describe("what cannot be evaluated denies", () => {
  it.each([
    ["contradicting rules", "allow := true if input\nallow := false if input"],
    ["a value of the wrong type", 'allow if not startswith(input.level, "a")'],
    ["a missing minimum under a comparison", "allow if input.level >= input.none"],
    ["division by zero", "allow if not 1 / (input.level - 7) == 1"],
    ["every over no collection", "allow if every x in input.level { x }"],
    ["a value that is no boolean", 'allow := "yes"'],
    ["a bad dynamic regular expression", 'allow if not regex.match(concat("", ["(", "?=x)"]), "x")'],
    ["a moment that is none", 'allow if not time.parse_rfc3339_ns("2026-02-30T00:00:00Z") > 0'],
  ])("%s", (_name, rule) => {
    const outcome = compileRegoRelease(`package policy\n${rule}`).evaluate({
      plugin: "resource",
      resourcePath: ["a"],
      query: {},
      claims: input,
      now,
    });
    expect(outcome.allow).toBe(false);
    expect(outcome.reasons.length).toBeGreaterThan(0);
  });

  it.each([
    ["a claim out of range", 'trust_claims := {"hardware": 200}'],
    ["an unknown claim", 'trust_claims := {"hardwear": 2}'],
    ["a fraction", 'trust_claims := {"hardware": 2.5}'],
    ["no claim", "trust_claims := {}"],
    ["nothing", "trust_claims := {} if input.missing"],
    ["no object", "trust_claims := [1]"],
    ["an extension without a key", 'trust_claims := {"hardware": 2}\nextensions := [{"name": "x", "value": 1}]'],
  ])("an appraisal with %s is none", (_name, rules) => {
    const policy = compileRegoAppraisal(`package policy\n${rules}`);
    expect(codeOf(() => policy.appraise({ input, now, referenceValue: () => undefined }))).toBe("ERR_POLICY_FAILED");
  });
});

describe("what is outside the subset is refused at upload, with line and column", () => {
  it.each([
    ["", 'line 1, column 1: expected "package"'],
    ["package policy", "line 1, column 1: the policy has no rule allow"],
    ["package policy.deeper\nallow := true", "line 1, column 9"],
    ["package authz\nallow := true", "line 1, column 9: the package is authz"],
    ["package policy\nimport data.lib\nallow := true", "line 2, column 8: the import data.lib"],
    ["package policy\nimport rego.v1\nallow { true }", "line 3, column 7"],
    ["package policy\nallow if {\n  http.send({}).ok\n}", "line 3, column 3: the function http.send"],
    ["package policy\nallow if {\n  input.x with input as {}\n}", "line 3, column 11: `with`"],
    ["package policy\nallow if x", "line 2, column 10: x is no rule"],
    ["package policy\nallow if { input.x == y; y := 1 }", "line 2, column 23: y is used before"],
    ["package policy\nallow if { y := 1; y := 2 }", "line 2, column 20: y is declared twice"],
    ["package policy\nallow if not input.list[_] == 1", "line 2, column 25"],
    ["package policy\nallow if { count([y | y = input[x]]) > 0; x = 1 }", "line 2, column 43: x means something else"],
    ["package policy\nallow if { some x; count([y | y = input[x]]) > 0; x = 1 }", "line 2, column 41: x is declared in a body further out"],
    ["package policy\nf(x) := x\nallow if { f := 1; f(1) == 1 }", "line 3, column 20: the function f"],
    ["package policy\nallow if allow", "line 2, column 10: allow uses itself"],
    ["package policy\nallow if f(1)\nf(x) if g(x)\ng(x) if f(x)", "uses itself"],
    ["package policy\nallow if count(1, 2)", "line 2, column 10: count takes 1"],
    ["package policy\nf(x) := 1\nf(x, y) := 1\nallow := true", "line 3, column 1: f takes 1"],
    ["package policy\nallow := true\nallow contains 1", "line 3, column 1: allow is a complete rule"],
    ["package policy\nallow contains 1", "line 2, column 1: allow is a partial-set rule"],
    ["package policy\ndefault allow := false\ndefault allow := true", "line 3, column 1: allow has two defaults"],
    ["package policy\ndefault allow := input.x", "line 2, column 18"],
    ["package policy\na.b := 1\nallow := true", "line 2, column 2"],
    ["package policy\nallow if data", "line 2, column 10"],
    ["package policy\nallow if data[input.x]", "line 2, column 10"],
    ['package policy\nallow if query_reference_value("x") == 1', "line 2, column 10: reference values"],
    ['package policy\nallow if regex.match(`(?=a)`, "a")', "line 2, column 10: the regular expression"],
    ['package policy\nallow if regex.match(`(a)\\1`, "a")', "line 2, column 10: the regular expression"],
    ['package policy\nallow if sprintf("%x", [1]) == "1"', "line 2, column 10: sprintf"],
    ['package policy\nallow if "open', "line 2, column 10: a string that does not end"],
    ["package policy\nallow if 1 $ 2", "line 2, column 12"],
    ["package policy\nallow if { }", "line 2, column 12: a body has at least one"],
    ["package policy\nallow if { true true }", "line 2, column 17"],
    ["package policy\ncount(x) := 1\nallow := true", "line 2, column 1: a rule cannot be named count"],
    ["package policy\nallow := true if { input := 1 }", "line 2, column 20"],
    ["package policy\nallow if set(1)", "the function set is not known"],
  ])("%s", (text, expected) => expect(refusal(text)).toContain(expected));
});

describe("regular expressions", () => {
  const match = (pattern: string, text: string) => value(`regex.match(\`${pattern}\`, ${JSON.stringify(text)})`);
  it("match as JavaScript's do, for what both know", () => {
    const patterns = [
      "a*b",
      "^a+$",
      "(?:ab|a)(?:c|bcd)",
      "[^a-c]x?",
      "a{2,3}b",
      "a{2}",
      "\\d+\\.\\d",
      "[\\w-]+$",
      "^$",
      "x|y|",
      "\\bfoo\\b",
      "(a*)*c",
      "a??b",
      "[]a]",
      "é.",
      "a{0}b{1,}",
      "[a\\]]+z",
    ];
    const texts = [
      "",
      "a",
      "b",
      "aab",
      "aaab",
      "abcd",
      "abc",
      "ax",
      "foo",
      "a foo b",
      "foobar",
      "1.2",
      "12",
      "a-b",
      "y",
      "aaaaac",
      "éa",
      "]a",
      "a]z",
      "b\n",
    ];
    for (const pattern of patterns) {
      // A class that begins with a bracket is spelled differently there.
      const theirs = new RegExp(pattern.replace("[]a]", "[\\]a]"), "u");
      for (const text of texts) expect([pattern, text, match(pattern, text)]).toEqual([pattern, text, theirs.test(text)]);
    }
  });

  it("match as JavaScript's do, whatever the expression", () => {
    const { pattern } = fc.letrec<{ pattern: string; piece: string }>((tie) => ({
      pattern: fc.array(tie("piece"), { maxLength: 4 }).map((pieces) => pieces.join("")),
      piece: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "\\w", "\\B", "^", "$", "a*", "b?", "a{1,2}", "(?:a|)"),
        fc.tuple(tie("pattern"), fc.constantFrom("", "*", "+", "?", "{2}", "{0,2}", "*?")).map(([inner, count]) => `(${inner})${count}`),
        fc.tuple(tie("pattern"), tie("pattern")).map(([left, right]) => `(?:${left}|${right})`),
      ),
    }));
    const texts = fc.array(fc.constantFrom("a", "b", "c", " ", "\n", "é"), { maxLength: 8 }).map((characters) => characters.join(""));
    fc.assert(
      fc.property(pattern, texts, (expression, text) => {
        expect(match(expression, text)).toBe(new RegExp(expression, "u").test(text));
      }),
      { numRuns: 300 },
    );
  });

  it.each([
    "(",
    "a)",
    "[a",
    "*a",
    "a**",
    "a{3,2}",
    "a{2000}",
    "(?i)a",
    "(?<n>a)",
    "\\pL",
    "[[:alpha:]]",
    "[b-a]",
    "a{,3}",
    "((((a{50}){50}){50}){50})",
  ])("%s is refused", (pattern) => expect(codeOf(() => match(pattern, "a"))).toBe("ERR_POLICY_NOT_UNDERSTOOD"));
});
