/**
 * What `pkcs11-tool --decrypt` wrote to stdout, without its remark on the parameters of RSA-OAEP.
 *
 * OpenSC 0.26 prints that to stdout too, behind the plaintext, whose end is then unknown; 0.23 and 0.27 print it to stderr
 * (measured). A remark has the very words of the tool and ends the output, and no key or JSON of options ends so.
 */
export function withoutOaepRemark(output: Buffer): Buffer {
  const at = output.lastIndexOf(opening);
  // Only the remark becomes text, never the plaintext.
  return at !== -1 && remark.test(output.toString("latin1", at)) ? output.subarray(0, at) : output;
}

const opening = "OAEP parameters: hashAlg=";
const remark =
  /^OAEP parameters: hashAlg=[\w-]{1,40}, mgf=[\w-]{1,40}, source_type=\d{1,20}, source_ptr=[\w()]{1,20}, source_len=\d{1,20}\n$/;
