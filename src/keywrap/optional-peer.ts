import { KeywrapError } from "./errors.ts";

/** Loads a package that only a minority needs, and says what to install when it is not there. Throws `ERR_KEYWRAP_PEER_MISSING`. */
export async function loadPeer<Module>(name: string, scheme: string, load: () => Promise<Module>): Promise<Module> {
  try {
    return await load();
  } catch (cause) {
    throw new KeywrapError("ERR_KEYWRAP_PEER_MISSING", {
      message: `${scheme} needs the package ${name}, which is not installed`,
      hint: `install it beside ociseal: npm install ${name}`,
      details: { package: name },
      cause,
    });
  }
}
