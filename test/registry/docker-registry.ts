import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { peer } from "../peers.ts";
import { freePort } from "../free-port.ts";

export interface DockerRegistry {
  readonly host: string;
  close(): Promise<void>;
}

/** Starts a real docker-registry on a free loopback port, its storage in a temporary folder; deleting is switched on. */
export async function startDockerRegistry(extra = ""): Promise<DockerRegistry> {
  const program = peer("docker-registry");
  if (program === undefined) throw new Error("docker-registry is not installed");
  const folder = mkdtempSync(join(tmpdir(), "ociseal-registry-"));
  const port = await freePort();
  const config = join(folder, "config.yml");
  writeFileSync(
    config,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: ${join(folder, "storage")}}
  delete: {enabled: true}
http: {addr: "127.0.0.1:${port}"}
${extra}`,
  );
  const child = spawn(program, ["serve", config], { stdio: "ignore" });
  const exited = once(child, "exit");
  await untilListening(port, child.pid);
  return {
    host: `127.0.0.1:${port}`,
    close: async () => {
      child.kill("SIGKILL");
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Polls, because docker-registry does not say when it is ready. */
async function untilListening(port: number, pid: number | undefined): Promise<void> {
  for (let i = 0; i < 400; i += 1) {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/v2/`);
      await answer.arrayBuffer();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
  throw new Error(`docker-registry (pid ${pid}) does not answer on port ${port}`);
}
