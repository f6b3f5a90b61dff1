import { login as registryLogin, logout as registryLogout } from "../../src/registry/index.ts";
import type { Action } from "../command.ts";
import { usage } from "../errors.ts";
import { readSmallFile } from "../files.ts";
import { withImages, type RegistryFlags } from "../images.ts";
import { askPassword } from "../password.ts";
import { credentialFiles, loginFile } from "../registry-config.ts";

interface LoginOptions extends RegistryFlags {
  readonly username?: string;
  readonly passwordStdin?: boolean;
  readonly passwordFile?: string;
  readonly authfile?: string;
}

export const login: Action<LoginOptions> = async (shell, [host = ""], options) => {
  const { username } = options;
  if (username === undefined || username === "") throw usage("no user name was given", "give --username");
  // Everything before the first colon is the name for whoever reads it back. Source: RFC 7617, section 2.
  if (username.includes(":")) throw usage("a user name cannot have a colon", "the password is read from stdin, a file or the terminal");
  const file = loginFile(shell.env, options.authfile);
  if (file === undefined) throw usage("nothing says where to keep the credentials", "give --authfile, or set HOME");
  const password = await passwordOf();
  const place = await withImages(shell, options, async (images) =>
    registryLogin({
      host,
      credential: { kind: "basic", username, password },
      file: { path: file },
      transport: (await images.registries()).transport,
      signal: shell.signal,
    }),
  );
  await shell.result(`logged in to ${host} as ${username}; kept in ${place.place}`, { host, username, ...place });

  async function passwordOf(): Promise<string> {
    if (options.passwordFile !== undefined)
      return (await readSmallFile(options.passwordFile, "password", 64 * 1024)).toString("utf8").replace(/\r?\n$/, "");
    if (options.passwordStdin !== true) return askPassword(shell, `${username} at ${host}`);
    const chunks: Buffer[] = [];
    for await (const chunk of shell.stdin) chunks.push(Buffer.from(chunk as Uint8Array));
    return Buffer.concat(chunks)
      .toString("utf8")
      .replace(/\r?\n$/, "");
  }
};

export const logout: Action<LoginOptions> = async (shell, [host = ""], options) => {
  const files = credentialFiles(shell.env, options.authfile).filter(({ style, content }) => style !== "dockercfg" && content === undefined);
  const outcome = await registryLogout({ host, files });
  await shell.result(outcome === "removed" ? `logged out of ${host}` : `there were no credentials for ${host}`, { host, outcome });
};
