/**
 * Bytes held as text, one character per byte (latin1).
 *
 * File names in a tar and on Linux are bytes, not text: decoding them as UTF-8 would merge distinct names into U+FFFD.
 * Strings of this kind are cheap map keys and are never shown or passed to the file system without conversion.
 */
export type ByteString = string;

const beyondAscii = /[\u0080-\u00ff]/;

/** The argument for a `node:fs` call. Node encodes text as UTF-8, so only ASCII may go through as text. */
export function fsPath(path: ByteString): string | Buffer {
  return beyondAscii.test(path) ? Buffer.from(path, "latin1") : path;
}

const shownLength = 200;

/** A name for a message: decoded as UTF-8, quoted, control characters escaped, cut at 200 characters. */
export function printable(name: ByteString): string {
  const text = Buffer.from(name.slice(0, 4 * shownLength), "latin1").toString("utf8");
  const cut = text.length > shownLength ? `${text.slice(0, shownLength)}…` : text;
  // JSON leaves DEL, C1 controls and bidirectional overrides alone, and terminals act on them.
  return JSON.stringify(cut).replaceAll(
    /[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
