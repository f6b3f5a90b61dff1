import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { encodeBase64 } from "../../src/bytes/index.ts";
import { brokerUnwrapper, keksAtHand, parsePrivateKey, privateKeyUnwrapper, type KeyUnwrapper } from "../../src/keywrap/index.ts";
import { openLayer } from "../../src/layer/index.ts";
import type { Descriptor } from "../../src/oci/index.ts";
import { read } from "../cipher/bytes.ts";
import { knownAnswers, knownPlaintext, knownPrivateKeys } from "./known-answers.ts";

const unwrappers: readonly KeyUnwrapper[] = [
  privateKeyUnwrapper([parsePrivateKey(Buffer.from(knownPrivateKeys.ec))]),
  privateKeyUnwrapper([parsePrivateKey(Buffer.from(knownPrivateKeys.rsa))]),
  brokerUnwrapper({
    name: "the KEK at hand",
    reach: "local",
    broker: keksAtHand([{ uri: "kbs:///default/image-kek/kat", kek: Buffer.from(Array.from({ length: 32 }, (_, i) => i)) }]),
  }),
];

describe("layers made by skopeo 1.22", () => {
  for (const answer of knownAnswers) {
    const blob = Buffer.from(answer.ciphertext, "hex");
    const layer: Descriptor = {
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
      digest: answer.digest,
      size: blob.length,
      annotations: {
        "org.opencontainers.image.enc.pubopts": encodeBase64(Buffer.from(answer.pubopts)),
        [`org.opencontainers.image.enc.keys.${answer.scheme}`]: encodeBase64(Buffer.from(answer.packet)),
      },
    };
    for (const index of answer.openedBy) {
      it(`opens ${answer.name} with ${["the EC key", "the RSA key", "the KEK"][index]}`, async () => {
        const opened = await openLayer({ layer, unwrappers: unwrappers.slice(index, index + 1) });
        const plaintext = await read(await opened.open(async () => Readable.from([blob])));
        expect(plaintext.toString("hex")).toBe(knownPlaintext);
        expect(opened.hintedDigest).toBe("sha256:187aa02661195a664ba17abff9b32cbe541ffddc7fe721a45020265257af1565");
      });
    }
  }
});
