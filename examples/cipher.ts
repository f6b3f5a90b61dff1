// The layer cipher alone: a blob, its options, and a range of it.
import { Readable } from "node:stream";
import { collect, compose } from "ociseal/bytes";
import { newDecryption, newEncryption } from "ociseal/cipher";

const plaintext = Buffer.alloc(100_000, "layer ");
const mediaType = "application/vnd.oci.image.layer.v1.tar";
const encryption = newEncryption({ cipher: "AES_256_GCM_C2SP_CHUNKED_V1", mediaType, plaintextSize: plaintext.length });
const limit = { maxBytes: 1 << 20, subject: "example" };
const blob = await collect(compose(Readable.from([plaintext]), encryption.stage), limit);
const { privateOptions } = encryption;
const publicOptions = encryption.publicOptions();

const decryption = newDecryption({ publicOptions, privateOptions, ciphertextSize: blob.length, mediaType });
const open = async (range?: { start: number; end: number }) => Readable.from([blob.subarray(range?.start, range?.end)]);
const part = await collect(await decryption.openRange(open, { start: 50_000, end: 50_010 }), limit);
console.log(blob.length - plaintext.length, "bytes more;", part.equals(plaintext.subarray(50_000, 50_010)));
