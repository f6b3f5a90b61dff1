import { parseJson } from "../bytes/index.ts";

/**
 * Members of an image configuration that tell how the image was built and that nobody needs to run it: the steps; what
 * docker's classic builder ran last; sources, arguments and cache records of BuildKit. Source: OCI image-spec, config.md,
 * "history"; Docker image specification v1.2; BuildKit `docs/build-repro.md` and its inline cache exporter.
 */
const members = ["history", "container_config", "container", "moby.buildkit.buildinfo.v1", "moby.buildkit.cache.v0"] as const;

/** The configuration without them; anything else stays as it is. */
export function withoutBuildHistory(config: Buffer): Buffer {
  const kept = Object.entries(documentOf(config)).filter(([name]) => !(members as readonly string[]).includes(name));
  return Buffer.from(JSON.stringify(Object.fromEntries(kept)));
}

/** Which of them a configuration has, empty ones aside. */
export function buildHistoryOf(config: Buffer): readonly string[] {
  const document = documentOf(config);
  return members.filter((name) => {
    const value = Object.hasOwn(document, name) ? document[name] : undefined;
    return value !== undefined && value !== null && value !== "" && !(Array.isArray(value) && value.length === 0);
  });
}

function documentOf(config: Buffer): Readonly<Record<string, unknown>> {
  return parseJson(config, { maxBytes: config.length }) as Record<string, unknown>;
}
