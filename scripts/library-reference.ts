/** Pages of docs/reference/library, one for each subpath of the package: every export with its declaration and its doc comment. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseAst } from "rolldown/parseAst";

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [member: string]: unknown;
}

/** A module as far as a reference needs it. */
interface Module {
  readonly text: string;
  readonly body: readonly Node[];
}

/** An exported name with the text that declares it. */
interface Declared {
  readonly name: string;
  readonly signature: string;
  readonly comment: string;
}

export interface LibraryPage {
  /** `cipher` for `ociseal/cipher`. */
  readonly room: string;
  readonly text: string;
  /** How many exports it shows. */
  readonly size: number;
}

/** Reads the doors that the package's `exports` name, and what they lead to. */
export function libraryPages(root: string, rooms: readonly string[]): readonly LibraryPage[] {
  const modules = new Map<string, Module>();
  const load = (path: string): Module => {
    const known = modules.get(path);
    if (known !== undefined) return known;
    const text = readFileSync(path, "utf8");
    const module = { text, body: parseAst(text, { lang: "ts" }).body as unknown as readonly Node[] };
    modules.set(path, module);
    return module;
  };
  return rooms.map((room) => {
    const door = join(root, "src", room, "index.ts");
    const declared = exportsOf(load, door);
    const head = commentBefore(load(door).text, load(door).body[0]?.start ?? 0) || "";
    const sections = declared.map(
      ({ name, signature, comment }) => `## ${name}\n\n\`\`\`ts\n${signature}\n\`\`\`\n${comment === "" ? "" : `\n${comment}\n`}`,
    );
    return { room, text: `# ociseal/${room}\n\n${head === "" ? "" : `${head}\n\n`}${sections.join("\n")}`, size: declared.length };
  });
}

function exportsOf(load: (path: string) => Module, path: string, only?: ReadonlySet<string>): readonly Declared[] {
  const { text, body } = load(path);
  return body.flatMap((node) => {
    if (node.type === "ExportAllDeclaration") return exportsOf(load, join(dirname(path), stringOf(node["source"])), only);
    if (node.type !== "ExportNamedDeclaration") return [];
    const declaration = node["declaration"] as Node | null | undefined;
    if (declaration) {
      return namesOf(declaration)
        .filter((name) => only === undefined || only.has(name))
        .map((name) => ({ name, signature: signatureOf(text, declaration), comment: commentBefore(text, node.start) }));
    }
    const specifiers = (node["specifiers"] as readonly Node[])
      .map((specifier) => ({ local: nameOf(specifier["local"]), exported: nameOf(specifier["exported"]) }))
      .filter(({ exported }) => only === undefined || only.has(exported));
    if (!node["source"]) return [];
    const found = exportsOf(load, join(dirname(path), stringOf(node["source"])), new Set(specifiers.map(({ local }) => local)));
    return specifiers.flatMap(({ local, exported }) => {
      const declared = found.find(({ name }) => name === local);
      return declared === undefined ? [] : [{ ...declared, name: exported }];
    });
  });
}

function namesOf(declaration: Node): readonly string[] {
  const declarations = declaration["declarations"];
  if (Array.isArray(declarations)) return (declarations as readonly Node[]).map(({ id }) => nameOf(id));
  return [nameOf(declaration["id"])];
}

function nameOf(node: unknown): string {
  const { name, value } = node as { readonly name?: string; readonly value?: string };
  return name ?? value ?? "";
}

function stringOf(node: unknown): string {
  return (node as { readonly value: string }).value;
}

const maxConstant = 600;

/** The declaration without what it does: bodies of functions, private members of classes, long values. */
function signatureOf(text: string, declaration: Node): string {
  const cuts: { readonly start: number; readonly end: number; readonly put: string }[] = [];
  const body = declaration["body"] as Node | null | undefined;
  if (declaration.type === "FunctionDeclaration" && body) cuts.push({ start: body.start, end: body.end, put: "" });
  if (declaration.type === "ClassDeclaration" && body) {
    for (const member of body["body"] as readonly Node[]) {
      const value = member["value"] as Node | null | undefined;
      const isPrivate = (member["key"] as Node | undefined)?.type === "PrivateIdentifier" || member["accessibility"] === "private";
      if (isPrivate || member.type === "StaticBlock") cuts.push({ start: member.start, end: member.end, put: "" });
      else if (member.type === "MethodDefinition") {
        const inner = value?.["body"] as Node | null | undefined;
        if (inner) cuts.push({ start: inner.start, end: inner.end, put: ";" });
      }
    }
  }
  let signature = "";
  let at = declaration.start;
  for (const { start, end, put } of cuts) {
    signature += text.slice(at, start).trimEnd() + put;
    at = end;
  }
  signature += text.slice(at, declaration.end);
  const lines = signature.split("\n").filter((line) => line.trim() !== "");
  const whole = lines.join("\n").trim();
  return declaration.type === "VariableDeclaration" && whole.length > maxConstant ? `${whole.slice(0, maxConstant)}\n…` : whole;
}

/** The text of the doc comment that ends right before a place. */
function commentBefore(text: string, place: number): string {
  const match = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(text.slice(0, place));
  if (match === null) return "";
  const lines = (match[1] ?? "").split("\n").map((line) => line.replace(/^\s*\*? ?/, "").trimEnd());
  return lines
    .join("\n")
    .trim()
    .replaceAll(/^@param (\w+) - /gm, "- `$1`: ");
}
