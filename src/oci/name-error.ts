import { OciError } from "./errors.ts";

/** A part of the text that the user typed, which still knows where it came from. */
export interface Part {
  readonly text: string;
  /** Index of the part's first character in the whole. */
  readonly at: number;
  /** All that was typed, for messages. */
  readonly whole: string;
}

/** `part` from `start` to `end` (default: its end), with the position kept. */
export function slicePart(part: Part, start: number, end?: number): Part {
  return { text: part.text.slice(start, end), at: part.at + start, whole: part.whole };
}

const maxShown = 200;

/**
 * `ERR_IMAGE_NAME_MALFORMED` at character `offset` of a part. The position in message and `details` counts from 1 in
 * what was typed, so that it can be pointed at.
 */
export function nameError(part: Part, offset: number, reason: string, hint?: string): OciError {
  const position = part.at + offset + 1;
  const shown = part.whole.length > maxShown ? `${part.whole.slice(0, maxShown)}…` : part.whole;
  return new OciError("ERR_IMAGE_NAME_MALFORMED", {
    message: `image name ${JSON.stringify(shown)} is malformed at character ${position}: ${reason}`,
    hint:
      hint ?? "write docker://HOST/NAME[:TAG][@DIGEST], oci:DIR[:REF], oci-archive:FILE[:REF], docker-archive:FILE[:NAME:TAG] or dir:DIR",
    details: { position, reason },
  });
}
