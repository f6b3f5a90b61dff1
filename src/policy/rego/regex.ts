import { charactersOf, type Budget } from "./values.ts";

/** A compiled expression; matching takes time linear in the text, whatever the expression. */
export interface Regex {
  /** Instructions that it was compiled to. */
  readonly size: number;
  /** Whether it matches anywhere in the text. */
  matches(text: string, budget: Budget): boolean;
}

type Test = (codePoint: number) => boolean;
type Anchor = "begin" | "end" | "word" | "no-word";
type Instruction =
  | { readonly kind: "test"; readonly test: Test }
  | { readonly kind: "anchor"; readonly anchor: Anchor }
  | { readonly kind: "fork"; readonly to: readonly number[] }
  | { readonly kind: "match" };

type Node =
  | { readonly kind: "test"; readonly test: Test }
  | { readonly kind: "anchor"; readonly anchor: Anchor }
  | { readonly kind: "sequence" | "either"; readonly parts: readonly Node[] }
  | { readonly kind: "repeat"; readonly node: Node; readonly least: number; readonly most: number | undefined };

const maxPattern = 1000;
const maxInstructions = 5000;
const maxNesting = 30;
/** As RE2 has it. */
const maxRepeat = 1000;
const maxText = 65_536;

const isDigit: Test = (c) => c >= 48 && c <= 57;
const isWord: Test = (c) => isDigit(c) || c === 95 || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
const isSpace: Test = (c) => c === 32 || c === 9 || c === 10 || c === 12 || c === 13;
const not =
  (test: Test): Test =>
  (c) =>
    !test(c);

const classes: Readonly<Record<string, Test>> = {
  d: isDigit,
  D: not(isDigit),
  w: isWord,
  W: not(isWord),
  s: isSpace,
  S: not(isSpace),
};
const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, f: 12, v: 11, a: 7 };
const anchors: Readonly<Record<string, Anchor>> = { A: "begin", z: "end", b: "word", B: "no-word" };

/**
 * Compiles a subset of RE2: literals, classes, groups, alternation, repetition, anchors. No back references, look-around,
 * flags, Unicode or POSIX classes: `refuse` makes the error for whatever is not understood.
 * Source: RE2, "Syntax"; the simulation is Thompson's.
 */
export function compileRegex(pattern: string, refuse: (message: string) => Error): Regex {
  if (pattern.length > maxPattern) throw refuse(`a regular expression has at most ${maxPattern} characters`);
  const program = assemble(parse(Array.from(pattern), refuse), refuse);
  return {
    size: program.length,
    matches: (text, budget) => {
      if (text.length > maxText) throw refuse(`regex.match looks at texts of at most ${maxText} characters`);
      return simulate(
        program,
        charactersOf(text, budget).map((character) => character.codePointAt(0) ?? 0),
        budget,
      );
    },
  };
}

function parse(source: readonly string[], refuse: (message: string) => Error): Node {
  let at = 0;
  let nesting = 0;
  const broken = (why: string): Error => refuse(`the regular expression is not understood at character ${at + 1}: ${why}`);

  const either = (): Node => {
    const parts = [sequence()];
    while (source[at] === "|") {
      at += 1;
      parts.push(sequence());
    }
    return { kind: "either", parts };
  };

  const sequence = (): Node => {
    const parts: Node[] = [];
    while (at < source.length && source[at] !== "|" && source[at] !== ")") parts.push(repeated(atom()));
    return { kind: "sequence", parts };
  };

  const repeated = (node: Node): Node => {
    const count = counted();
    if (count === undefined) return node;
    if (source[at] === "?") at += 1;
    if (counted() !== undefined) throw broken("a repetition of a repetition");
    return { kind: "repeat", node, ...count };
  };

  const counted = (): { readonly least: number; readonly most: number | undefined } | undefined => {
    const mark = source[at];
    if (mark === "*" || mark === "+" || mark === "?") {
      at += 1;
      return { least: mark === "+" ? 1 : 0, most: mark === "?" ? 1 : undefined };
    }
    if (mark !== "{") return undefined;
    const [whole, low, comma, high] = /^\{(\d{1,4})(,(\d{1,4})?)?\}/.exec(source.slice(at, at + 12).join("")) ?? [];
    if (whole === undefined) throw broken("a brace that counts nothing; write \\{ for a brace");
    at += whole.length;
    const least = Number(low);
    const most = comma === undefined ? least : high === undefined ? undefined : Number(high);
    if (least > maxRepeat || (most ?? 0) > maxRepeat || (most !== undefined && most < least)) throw broken("a count out of range");
    return { least, most };
  };

  const atom = (): Node => {
    const character = source[at] ?? "";
    at += 1;
    switch (character) {
      case "(":
        return group();
      case "[":
        return { kind: "test", test: bracket() };
      case ".":
        return { kind: "test", test: (c) => c !== 10 };
      case "^":
        return { kind: "anchor", anchor: "begin" };
      case "$":
        return { kind: "anchor", anchor: "end" };
      case "\\":
        return escape();
      case "*":
      case "+":
      case "?":
      case "{":
        at -= 1;
        throw broken("nothing to repeat");
      default:
        return literal(character);
    }
  };

  const group = (): Node => {
    if (source[at] === "?") {
      if (source[at + 1] !== ":") throw broken("look-around, flags and names of groups are not interpreted");
      at += 2;
    }
    if (nesting >= maxNesting) throw broken("groups nest too deep");
    nesting += 1;
    const node = either();
    nesting -= 1;
    if (source[at] !== ")") throw broken("a group does not end");
    at += 1;
    return node;
  };

  const escape = (): Node => {
    const character = source[at] ?? "";
    const anchor = Object.hasOwn(anchors, character) ? anchors[character] : undefined;
    if (anchor === undefined) return { kind: "test", test: escapedTest() };
    at += 1;
    return { kind: "anchor", anchor };
  };

  /** After a backslash: a class, or a single character. */
  const escapedTest = (): Test => {
    const character = source[at] ?? "";
    const test = Object.hasOwn(classes, character) ? classes[character] : undefined;
    if (test === undefined) return equals(escapedCharacter());
    at += 1;
    return test;
  };

  const escapedCharacter = (): number => {
    const character = source[at] ?? "";
    at += 1;
    const control = Object.hasOwn(controls, character) ? controls[character] : undefined;
    if (control !== undefined) return control;
    if (/^[!-/:-@[-`{-~]$/.test(character)) return character.codePointAt(0) ?? 0;
    at -= 1;
    throw broken("an escape that is not interpreted (back references never are)");
  };

  const bracket = (): Test => {
    const negated = source[at] === "^";
    if (negated) at += 1;
    const tests: Test[] = [];
    for (let first = true; first || source[at] !== "]"; first = false) {
      if (at >= source.length) throw broken("a class does not end");
      if (source[at] === "[" && source[at + 1] === ":") throw broken("POSIX classes are not interpreted");
      tests.push(classMember());
    }
    at += 1;
    const any: Test = (c) => tests.some((test) => test(c));
    return negated ? not(any) : any;
  };

  const classMember = (): Test => {
    if (source[at] === "\\" && Object.hasOwn(classes, source[at + 1] ?? "")) {
      at += 1;
      return escapedTest();
    }
    const low = classCharacter();
    if (source[at] !== "-" || source[at + 1] === "]" || source[at + 1] === undefined) return equals(low);
    at += 1;
    const high = classCharacter();
    if (high < low) throw broken("a range that ends before it begins");
    return (c) => c >= low && c <= high;
  };

  const classCharacter = (): number => {
    const character = source[at] ?? "";
    at += 1;
    return character === "\\" ? escapedCharacter() : (character.codePointAt(0) ?? 0);
  };

  const node = either();
  if (at < source.length) throw broken("a group ends that did not begin");
  return node;
}

function equals(wanted: number): Test {
  return (c) => c === wanted;
}

function literal(character: string): Node {
  return { kind: "test", test: equals(character.codePointAt(0) ?? 0) };
}

function assemble(root: Node, refuse: (message: string) => Error): readonly Instruction[] {
  const program: Instruction[] = [];
  const emit = (instruction: Instruction): number => {
    if (program.length >= maxInstructions) throw refuse("the regular expression is too large");
    return program.push(instruction) - 1;
  };
  const write = (node: Node): void => {
    switch (node.kind) {
      case "test":
      case "anchor":
        emit(node);
        return;
      case "sequence":
        for (const part of node.parts) write(part);
        return;
      case "either":
        writeEither(node.parts);
        return;
      case "repeat":
        writeRepeat(node.node, node.least, node.most);
    }
  };
  // Where it leads is known when what follows is written.
  const forkToCome = (): number => emit({ kind: "fork", to: [] });
  const writeEither = (parts: readonly Node[]): void => {
    if (parts.length === 1) {
      for (const part of parts) write(part);
      return;
    }
    const fork = forkToCome();
    const starts: number[] = [];
    const ends: number[] = [];
    for (const part of parts) {
      starts.push(program.length);
      write(part);
      ends.push(forkToCome());
    }
    program[fork] = { kind: "fork", to: starts };
    for (const end of ends) program[end] = { kind: "fork", to: [program.length] };
  };
  const writeRepeat = (node: Node, least: number, most: number | undefined): void => {
    for (let i = 0; i < least; i += 1) write(node);
    if (most === undefined) {
      const fork = forkToCome();
      write(node);
      emit({ kind: "fork", to: [fork] });
      program[fork] = { kind: "fork", to: [fork + 1, program.length] };
      return;
    }
    const forks: number[] = [];
    for (let i = least; i < most; i += 1) {
      forks.push(forkToCome());
      write(node);
    }
    for (const fork of forks) program[fork] = { kind: "fork", to: [fork + 1, program.length] };
  };
  write(root);
  emit({ kind: "match" });
  return program;
}

function simulate(program: readonly Instruction[], text: readonly number[], budget: Budget): boolean {
  let states = new Set<number>();
  for (let at = 0; at <= text.length; at += 1) {
    const reached = closure(program, [...states, 0], text, at);
    budget.spend(1 + (reached.size >> 2));
    const next = new Set<number>();
    for (const state of reached) {
      const instruction = program[state];
      if (instruction?.kind === "match") return true;
      const character = text[at];
      if (instruction?.kind === "test" && character !== undefined && instruction.test(character)) next.add(state + 1);
    }
    states = next;
  }
  return false;
}

/** Every state that is reached without reading a character. */
function closure(program: readonly Instruction[], from: readonly number[], text: readonly number[], at: number): ReadonlySet<number> {
  const reached = new Set<number>();
  const pending = [...from];
  for (let state = pending.pop(); state !== undefined; state = pending.pop()) {
    if (reached.has(state)) continue;
    reached.add(state);
    const instruction = program[state];
    if (instruction?.kind === "fork") pending.push(...instruction.to);
    if (instruction?.kind === "anchor" && holds(instruction.anchor, text, at)) pending.push(state + 1);
  }
  return reached;
}

function holds(anchor: Anchor, text: readonly number[], at: number): boolean {
  if (anchor === "begin") return at === 0;
  if (anchor === "end") return at === text.length;
  const boundary = isWord(text[at - 1] ?? 0) !== isWord(text[at] ?? 0);
  return anchor === "word" ? boundary : !boundary;
}
