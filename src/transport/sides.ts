import { ToolError } from "../errors/index.ts";
import type { ImageName } from "../oci/index.ts";
import { CopyError, type CopySide } from "../store/index.ts";

/**
 * Runs work that reads one image and writes another. A failure that names the place of one of them and not of the other
 * says which side it was, under its own code and hint; where both are the same place there is nothing to tell.
 */
export async function onSides<Result>(names: Readonly<Record<CopySide, ImageName>>, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ToolError) || error.details["side"] !== undefined) throw error;
    const source = placeOf(names.source);
    const destination = placeOf(names.destination);
    const [read, written] = [isNamed(source, error.message), isNamed(destination, error.message)];
    if (read === written) throw error;
    throw read ? new CopyError("source", source, "image", error) : new CopyError("destination", destination, "image", error);
  }
}

/** As the store there calls itself. */
function placeOf(name: ImageName): string {
  return name.transport === "docker" ? `docker://${name.host}/${name.repository}` : `${name.transport}:${name.path}`;
}

/** Whole: `docker://h/app` does not stand in `docker://h/app-sealed`. */
function isNamed(place: string, message: string): boolean {
  for (let at = message.indexOf(place); at >= 0; at = message.indexOf(place, at + 1)) {
    if (!/[\w./-]/.test(message.charAt(at + place.length))) return true;
  }
  return false;
}
