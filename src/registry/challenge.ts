/** One challenge of a WWW-Authenticate header; scheme and parameter names in lower case. Source: RFC 9110 section 11.6.1. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const maxChallenges = 16;
const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const schemeGrammar = new RegExp(`^(${token})(?:[ \\t]+|(?=,)|$)`);
const parameterGrammar = new RegExp(`^(${token})[ \\t]*=[ \\t]*(?:"((?:[^"\\\\]|\\\\.)*)"|(${token}))[ \\t]*(?:,[ \\t]*|$)`);
const token68Grammar = /^[A-Za-z0-9._~+/-]+=*[ \t]*(?:,[ \t]*|$)/;

/**
 * Parses all challenges of all WWW-Authenticate headers of an answer.
 *
 * What does not follow the grammar ends the parsing of that header; challenges already read count. Repeated parameters:
 * the first counts, so a proxy that appends cannot change where credentials go.
 */
export function parseChallenges(headers: readonly string[]): readonly Challenge[] {
  const challenges: Challenge[] = [];
  for (const header of headers) {
    let rest = header.slice(0, 8192).replace(/^[ \t,]+/, "");
    while (rest !== "" && challenges.length < maxChallenges) {
      const scheme = schemeGrammar.exec(rest);
      if (scheme === null) break;
      rest = rest.slice(scheme[0].length);
      const parameters = new Map<string, string>();
      rest = takeParameters(rest, parameters);
      challenges.push({ scheme: (scheme[1] ?? "").toLowerCase(), parameters });
    }
  }
  return challenges;
}

function takeParameters(text: string, parameters: Map<string, string>): string {
  let rest = text;
  for (let parameter = parameterGrammar.exec(rest); parameter !== null; parameter = parameterGrammar.exec(rest)) {
    const name = (parameter[1] ?? "").toLowerCase();
    const value = parameter[2]?.replaceAll(/\\(.)/g, "$1") ?? parameter[3] ?? "";
    if (!parameters.has(name)) parameters.set(name, value);
    rest = rest.slice(parameter[0].length).replace(/^[ \t,]+/, "");
  }
  // "Negotiate dG9rZW4=": credentials instead of parameters. A bare word followed by a blank is the next scheme.
  const token68 = parameters.size === 0 ? token68Grammar.exec(rest) : null;
  return (token68 === null ? rest : rest.slice(token68[0].length)).replace(/^[ \t,]+/, "");
}
