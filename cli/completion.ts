import type { CommandPage, OptionPage } from "./command-reference.ts";

export const completionShells = ["bash", "zsh", "fish"] as const;
export type CompletionShell = (typeof completionShells)[number];

/** What a flag takes, as far as a shell can help with it. */
export type ValueKind = { readonly kind: "choices"; readonly choices: readonly string[] } | { readonly kind: "folder" | "file" | "text" };

const fileValues: ReadonlySet<string> = new Set(["file", "path", "list", "keyfile", "key", "prefix", "recipient"]);
const word = String.raw`[A-Za-z0-9][A-Za-z0-9_-]*(?: \([^()]*\))?`;
const choiceGrammar = new RegExp(`^((?:${word}, )*${word}) or (${word})(?=$|[:;,.])`);

/**
 * Reads from a flag's description what its value may be: those that take one of a few words begin with them,
 * "auto, tdx, snp or sample". `undefined` for a switch.
 */
export function valueKind({ value, description }: Pick<OptionPage, "value" | "description">): ValueKind | undefined {
  if (value === undefined) return undefined;
  const [, first, last] = choiceGrammar.exec(description) ?? [];
  if (first !== undefined && last !== undefined)
    return { kind: "choices", choices: [...first.split(", "), last].map((choice) => choice.replace(/ \(.*/, "")) };
  if (value === "dir") return { kind: "folder" };
  return { kind: fileValues.has(value) ? "file" : "text" };
}

/** The script that teaches a shell this command line. It runs nothing of ociseal's while completing. */
export function completionScript(shell: CompletionShell, pages: readonly CommandPage[]): string {
  switch (shell) {
    case "bash":
      return bash(pages);
    case "zsh":
      return zsh(pages);
    case "fish":
      return fish(pages);
  }
}

function childrenOf(page: CommandPage, pages: readonly CommandPage[]): readonly CommandPage[] {
  return pages.filter(({ name }) => name.startsWith(`${page.name} `) && !name.slice(page.name.length + 1).includes(" "));
}

function lastWord(name: string): string {
  return name.slice(name.lastIndexOf(" ") + 1);
}

/** Single-quoted for every one of the three shells; descriptions hold no backslash at their end. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'"'"'`)}'`;
}

/** Flags of one kind of value, as patterns of a `case`: `'ociseal pull --tee'|'ociseal encrypt --tee'`. */
function valueCases(pages: readonly CommandPage[], body: (kind: ValueKind) => string): readonly string[] {
  const patterns = new Map<string, string[]>();
  for (const page of pages)
    for (const option of page.options) {
      const kind = valueKind(option);
      if (kind === undefined) continue;
      const text = body(kind);
      patterns.set(text, [...(patterns.get(text) ?? []), ...option.names.map((name) => quote(`${page.name} ${name}`))]);
    }
  return [...patterns].map(([text, names]) => `    ${names.join("|")})\n      ${text}\n      return ;;`);
}

/** Finds the command among the words before the cursor: `at` becomes `ociseal kbs key`. */
function walk(pages: readonly CommandPage[], words: { readonly from: string; readonly until: string; readonly word: string }): string {
  const known = pages.slice(1).map(({ name }) => quote(name));
  return `  local at=ociseal i
  for ((i = ${words.from}; i < ${words.until}; i++)); do
    case "$at ${words.word}" in
      ${known.join("|")}) at="$at ${words.word}" ;;
    esac
  done`;
}

function bash(pages: readonly CommandPage[]): string {
  const values = valueCases(pages, (kind) => {
    switch (kind.kind) {
      case "choices":
        return `COMPREPLY=($(compgen -W ${quote(kind.choices.join(" "))} -- "$cur"))`;
      case "folder":
        return `compopt -o dirnames; COMPREPLY=($(compgen -d -- "$cur"))`;
      case "file":
        return `compopt -o filenames; COMPREPLY=($(compgen -f -- "$cur"))`;
      case "text":
        return "compopt +o default; COMPREPLY=()";
    }
  });
  const commands = pages.map((page) => {
    const children = childrenOf(page, pages).map(({ name }) => lastWord(name));
    return `    ${quote(page.name)}) children=${quote(children.join(" "))} flags=${quote([...page.options.flatMap(({ names }) => names), "--help"].join(" "))} ;;`;
  });
  return `# bash completion for ociseal; made by: ociseal completion bash
_ociseal() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} children= flags=
${walk(pages, { from: "1", until: "COMP_CWORD", word: "${COMP_WORDS[i]}" })}
  case "$at $prev" in
${values.join("\n")}
  esac
  case "$at" in
${commands.join("\n")}
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif [[ -n $children ]]; then
    COMPREPLY=($(compgen -W "$children" -- "$cur"))
  fi
}
complete -o default -F _ociseal ociseal
`;
}

function zsh(pages: readonly CommandPage[]): string {
  const values = valueCases(pages, (kind) => {
    switch (kind.kind) {
      case "choices":
        return `compadd -- ${kind.choices.join(" ")}`;
      case "folder":
        return "_files -/";
      case "file":
        return "_files";
      case "text":
        return `_message 'value'`;
    }
  });
  const described = (name: string, text: string): string => quote(`${name.replaceAll(":", "\\:")}:${text.replaceAll(":", "\\:")}`);
  const commands = pages.map((page) => {
    const children = childrenOf(page, pages).map(({ name, description }) => described(lastWord(name), description));
    const flags = page.options.flatMap(({ names, description }) => names.map((name) => described(name, description)));
    return `    ${quote(page.name)})\n      children=(${children.join(" ")})\n      flags=(${[...flags, described("--help", "display help for command")].join(" ")}) ;;`;
  });
  return `#compdef ociseal
# zsh completion for ociseal; made by: ociseal completion zsh
_ociseal() {
  local -a children flags
${walk(pages, { from: "2", until: "CURRENT", word: "${words[i]}" })}
  case "$at \${words[CURRENT-1]}" in
${values.join("\n")}
  esac
  case "$at" in
${commands.join("\n")}
  esac
  if [[ \${words[CURRENT]} == -* ]]; then
    _describe -o 'flag' flags
  elif (( \${#children} )); then
    _describe 'command' children
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_ociseal" ]; then
  _ociseal "$@"
else
  compdef _ociseal ociseal
fi
`;
}

function fish(pages: readonly CommandPage[]): string {
  const known = pages.slice(1).map(({ name }) => quote(name));
  const lines = pages.flatMap((page) => {
    const here = `complete -c ociseal -n ${quote(`__ociseal_at "${page.name}"`)}`;
    const children = childrenOf(page, pages).map(
      ({ name, description }) => `${here} -f -a ${quote(lastWord(name))} -d ${fishQuote(description)}`,
    );
    const flags = page.options.map((option) => {
      const names = option.names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(" ");
      return `${here} ${names} ${fishValue(valueKind(option))}-d ${fishQuote(option.description)}`;
    });
    return [...children, ...flags];
  });
  return `# fish completion for ociseal; made by: ociseal completion fish
function __ociseal_at
  set -l at ociseal
  for word in (commandline -opc)[2..-1]
    switch "$at $word"
      case ${known.join(" ")}
        set at "$at $word"
    end
  end
  test "$at" = "$argv[1]"
end
complete -c ociseal -s h -l help -d 'display help for command'
${lines.join("\n")}
`;
}

/** fish knows two escapes inside single quotes. */
function fishQuote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", String.raw`\'`)}'`;
}

function fishValue(kind: ValueKind | undefined): string {
  switch (kind?.kind) {
    case undefined:
      return "";
    case "choices":
      return `-x -a ${quote(kind.choices.join(" "))} `;
    case "folder":
      return "-x -a '(__fish_complete_directories)' ";
    case "file":
      return "-r -F ";
    case "text":
      return "-x ";
  }
}
