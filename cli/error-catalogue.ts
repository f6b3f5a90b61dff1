import type { ErrorCategory, ErrorTable } from "../src/errors/index.ts";
import { attestationErrors } from "../src/attestation/index.ts";
import { bytesErrors } from "../src/bytes/index.ts";
import { cipherErrors } from "../src/cipher/index.ts";
import { guestErrors } from "../src/guest/index.ts";
import { kbsErrors } from "../src/kbs/index.ts";
import { keyproviderErrors } from "../src/keyprovider/index.ts";
import { keywrapErrors } from "../src/keywrap/index.ts";
import { layerErrors } from "../src/layer/index.ts";
import { ociErrors } from "../src/oci/index.ts";
import { pipelineErrors } from "../src/pipeline/index.ts";
import { policyErrors } from "../src/policy/index.ts";
import { registryErrors } from "../src/registry/index.ts";
import { registryServerErrors } from "../src/registry-server/index.ts";
import { signingErrors } from "../src/signing/index.ts";
import { storeErrors } from "../src/store/index.ts";
import { transportErrors } from "../src/transport/index.ts";
import { cliErrors } from "./errors.ts";

/** One line of the catalogue. */
export interface CatalogueEntry {
  readonly code: string;
  readonly room: string;
  readonly category: ErrorCategory;
  readonly summary: string;
}

const tables: Readonly<Record<string, ErrorTable>> = {
  attestation: attestationErrors,
  bytes: bytesErrors,
  cipher: cipherErrors,
  cli: cliErrors,
  guest: guestErrors,
  kbs: kbsErrors,
  keyprovider: keyproviderErrors,
  keywrap: keywrapErrors,
  layer: layerErrors,
  oci: ociErrors,
  pipeline: pipelineErrors,
  policy: policyErrors,
  registry: registryErrors,
  "registry-server": registryServerErrors,
  signing: signingErrors,
  store: storeErrors,
  transport: transportErrors,
  errors: { ERR_INTERNAL: { category: "internal", summary: "A defect in ociseal: an invariant of its own broke." } },
};

/** Every code that this package can throw, sorted. */
export function errorCatalogue(): readonly CatalogueEntry[] {
  return Object.entries(tables)
    .flatMap(([room, table]) => Object.entries(table).map(([code, row]) => ({ code, room, ...row })))
    .toSorted((a, b) => (a.code < b.code ? -1 : 1));
}
