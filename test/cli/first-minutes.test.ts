import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ociseal } from "./run.ts";

let cwd: string;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), "ociseal-minutes-"));
});

afterAll(async () => rm(cwd, { recursive: true, force: true }));

describe("somebody who does not know the program yet", () => {
  it.concurrent.each([
    ["", "Commands:"],
    ["kbs", "Commands:"],
    ["kbs key", "rotate"],
  ])("is shown what there is when %j is not enough", async (line, shown) => {
    const outcome = await ociseal(line === "" ? [] : line.split(" "), { cwd });
    expect(outcome).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining(shown) });
    expect(outcome.stderr).not.toContain("error:");
  });

  it.concurrent.each([
    ["encrpt a b", "Did you mean encrypt?"],
    ["encrypt --recepient x a b", "Did you mean --recipient?"],
    ["kbs resurce list", "Did you mean resource?"],
    ["pull x", "see ociseal pull --help"],
    ["kbs key show", "see ociseal kbs key show --help"],
    ["kbs key list", "--admin-token"],
    ["key generate foo --out a", "cosign, rsa, ec, ed25519, kek"],
    ["encrypt oci:a oci:b", "-r jwe:team.pub"],
    ["decrypt oci:a oci:b", "-k team.key"],
    ["verify oci:a", "--key FILE"],
    ["pull oci:a dir", "--verify-key"],
    ["copy oci:a oci:b", "relative to the current folder"],
  ])("is told after %j: %s", async (line, advice) => {
    const { status, stderr } = await ociseal(line.split(" "), { cwd });
    expect(status, stderr).toBeGreaterThan(1);
    expect(stderr).toMatch(/^error: .+ \[ERR_/m);
    expect(stderr).toContain(advice);
  });

  it("hears about a recipient that is none before anything goes over the network, and of a file by its name", async () => {
    const outcome = await ociseal(["encrypt", "no-such-host.invalid/a:1", "oci:b", "-r", "jwe:no-such.pub"], { cwd });
    expect(outcome).toMatchObject({ status: 9, stderr: expect.stringMatching(/^error: no-such\.pub does not exist/) });
    expect(outcome.stderr).not.toContain("no-such-host");
  });

  it.each([
    ["registry serve", "127.0.0.1"],
    ["kbs serve --dev", "127.0.0.1"],
    ["keyprovider serve", "127.0.0.1"],
  ])("is told by %s that the address is taken", async (line, host) => {
    const other = createServer().listen(0, host);
    await once(other, "listening");
    try {
      const { port } = other.address() as AddressInfo;
      const outcome = await ociseal([...line.split(" "), "--listen", `${host}:${port}`], { cwd });
      expect(outcome).toMatchObject({ status: 9, stderr: expect.stringMatching(/EADDRINUSE.*\nhint: .*choose another (address|port)/) });
    } finally {
      other.close();
      await once(other, "close");
    }
  });
});
