/** One range of ids in the image and where it lies on this machine, as in /etc/subuid. */
export interface IdRange {
  readonly container: number;
  readonly host: number;
  readonly size: number;
}

/**
 * Whose the files become. `preserve`: the image's ids, needs root (or a user namespace). `rootless`: all belong to the
 * caller; device nodes become empty files of mode 0. `map`: the image's ids shifted into ranges; an id outside them is refused.
 */
export type Ownership =
  | { readonly kind: "preserve" }
  | { readonly kind: "rootless" }
  | { readonly kind: "map"; readonly uids: readonly IdRange[]; readonly gids: readonly IdRange[] };

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The owner to set, `undefined` for none. Throws nothing: an unmapped id is reported as `"unmapped"`. */
export function ownerOf(ownership: Ownership, uid: number, gid: number): Owner | undefined | "unmapped" {
  switch (ownership.kind) {
    case "preserve":
      return { uid, gid };
    case "rootless":
      return undefined;
    case "map": {
      const owner = { uid: mapId(ownership.uids, uid), gid: mapId(ownership.gids, gid) };
      return owner.uid === undefined || owner.gid === undefined ? "unmapped" : { uid: owner.uid, gid: owner.gid };
    }
  }
}

function mapId(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ container, size }) => id >= container && id < container + size);
  return range === undefined ? undefined : range.host + id - range.container;
}
