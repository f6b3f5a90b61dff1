/** A fenced block of a page. */
export interface Block {
  readonly language: string;
  readonly text: string;
}

/** A command line of the program as a page shows it. */
export interface ShownCommand {
  readonly source: string;
  /** The words behind `ociseal`, quotes taken off. */
  readonly words: readonly string[];
}

export function pageBlocks(page: string): readonly Block[] {
  return [...page.matchAll(/^```([a-z]*)\n([\s\S]*?)^```/gm)].map((match) => ({ language: match[1] ?? "", text: match[2] ?? "" }));
}

/** Every command line in shell blocks, and in code spans that begin with the program's name and more than one word. */
export function commandLines(page: string): readonly ShownCommand[] {
  const blocks = pageBlocks(page).filter(({ language }) => language === "sh");
  const inBlocks = blocks.flatMap(({ text }) => text.replaceAll(/\\\n\s*/g, " ").split("\n"));
  const prose = page.replaceAll(/^```[\s\S]*?^```/gm, "");
  const spans = [...prose.matchAll(/`(ociseal (?:[^`]+))`/g)].map((match) => (match[1] ?? "").replaceAll(/\s+/g, " "));
  // A span may name a family of commands, "ociseal kbs resource|policy", or cut a line short.
  const whole = spans.filter(
    (span) => !/[|…]|\bA\b/.test(span) && span.split(" ").length > 2 && /[./:=-]/.test(span.slice("ociseal ".length)),
  );
  return [...inBlocks, ...whole].flatMap(commandsOf);
}

/** The program's own commands in one line of shell: around pipes, lists, assignments and redirections. */
function commandsOf(line: string): readonly ShownCommand[] {
  const commands: ShownCommand[] = [];
  let words: string[] = [];
  const end = (): void => {
    while (words[0] !== undefined && /^[A-Z_]+=/.test(words[0])) words.shift();
    if (words[0] === "ociseal") commands.push({ source: line, words: words.slice(1) });
    words = [];
  };
  let redirect = false;
  for (const [token] of line.matchAll(/'[^']*'|"[^"]*"|&&|\|\||[|;&<>]|(?:[^\s'"|;&<>]|(?<=\S)["'](?=\S))+/g)) {
    if (token === "#" || token.startsWith("#")) break;
    if (/^(&&|\|\||[|;&])$/.test(token)) end();
    else if (token === "<" || token === ">") redirect = true;
    else if (redirect) redirect = false;
    else words.push(token.replace(/^(['"])(.*)\1$/, "$2"));
  }
  end();
  return commands;
}
