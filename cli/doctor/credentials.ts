import { stat } from "node:fs/promises";
import { credentialProblems } from "../../src/registry/index.ts";
import { credentialFiles } from "../registry-config.ts";
import { programPath, textOf } from "./files.ts";
import { codeOf, findingsOf, reasonOf, type Examination } from "./finding.ts";

/** The files with registry credentials that would be read: there, readable by us alone, JSON, helpers installed. */
export const examineCredentials: Examination = async ({ shell, options }) => {
  const { list, add } = findingsOf("credentials");
  const files = credentialFiles(shell.env, options.credsFile);
  let found = 0;
  for (const { path, presence, content } of files) {
    try {
      const text = content ?? (await textOf(path));
      if (text === undefined) {
        if (presence === "required")
          add("fail", path, "is not there, and nothing else is read", "correct --creds-file or REGISTRY_AUTH_FILE");
        continue;
      }
      found += 1;
      const others = content === undefined && ((await stat(path)).mode & 0o077) !== 0;
      const document: unknown = JSON.parse(text);
      const helpers = helpersOf(document);
      if (others) add("warn", path, "can be read by other users", `chmod 600 ${path}`);
      else add("ok", path, content === undefined ? "is readable, by its owner only" : "is set");
      for (const { message, hint } of credentialProblems(text, path)) add("fail", path, message, hint);
      for (const helper of helpers) {
        if ((await programPath(`docker-credential-${helper}`, shell.env)) !== undefined) add("ok", path, `helper ${helper} is installed`);
        else
          add("fail", path, `names helper ${helper}, which is not installed`, `install docker-credential-${helper}, or remove the entry`);
      }
    } catch (error) {
      // A message of JSON.parse quotes the text, and the text is a secret.
      const what = error instanceof SyntaxError ? "is not JSON" : reasonOf(error);
      const mend = codeOf(error) === "EACCES" ? "run as the owner of the file" : "write it again with: ociseal login REGISTRY";
      add("fail", path, what, content === undefined ? mend : `correct or unset ${path}`);
    }
  }
  if (list.length === 0 && found === 0)
    add("not-checked", "files", "no credentials are kept; public images need none", "ociseal login REGISTRY");
  return list;
};

/** Names of helpers that a file mentions, each once. */
function helpersOf(document: unknown): readonly string[] {
  if (typeof document !== "object" || document === null) return [];
  const store = "credsStore" in document && typeof document.credsStore === "string" ? [document.credsStore] : [];
  const each = "credHelpers" in document && typeof document.credHelpers === "object" ? Object.values(document.credHelpers ?? {}) : [];
  const names = [...store, ...each].filter((name): name is string => typeof name === "string" && name !== "");
  return [...new Set(names)];
}
