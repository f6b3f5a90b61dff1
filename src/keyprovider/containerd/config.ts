import { encryptedMediaType } from "../../layer/index.ts";

export interface ContainerdConfigRequest {
  /** The program that containerd starts, absolute, and the arguments before `ctd-decoder`. */
  readonly command: readonly [string, ...string[]];
  /** Arguments after `ctd-decoder`. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** The configuration's own version: 2 for containerd 1.x, 3 for containerd 2.x. */
  readonly version: 2 | 3;
}

const tar = "application/vnd.oci.image.layer.v1.tar";

/** Where the CRI plugin's settings stand in each version. Source: containerd `docs/cri/config.md`. */
const imageDecryption = {
  2: `plugins."io.containerd.grpc.v1.cri".image_decryption`,
  3: `plugins."io.containerd.cri.v1.images".image_decryption`,
} as const;

/**
 * What has to stand in containerd's configuration so that it decrypts with us, as TOML.
 *
 * zstd layers are listed under the processor for gzip: containerd hands the layer's description only to the two ids of
 * imgcrypt's Go code, so the processor `….tar.zstd` that its documentation shows gets none and every pull fails
 * (measured with containerd 1.6.20). What comes out is recognised by its first bytes, not by its media type.
 */
export function containerdConfig(request: ContainerdConfigRequest): string {
  const { version } = request;
  return [
    "# Written by ociseal: put it into /etc/containerd/config.toml and restart containerd.",
    `version = ${version}`,
    "",
    `[${imageDecryption[version]}]`,
    '  key_model = "node"',
    "",
    "# zstd stands here on purpose: containerd describes layers to these two processor ids only.",
    ...processor(request, "io.containerd.ocicrypt.decoder.v1.tar.gzip", [`${tar}+gzip`, `${tar}+zstd`], `${tar}+gzip`),
    "",
    ...processor(request, "io.containerd.ocicrypt.decoder.v1.tar", [tar], tar),
    "",
  ].join("\n");
}

function processor(request: ContainerdConfigRequest, id: string, accepts: readonly string[], returns: string): readonly string[] {
  const [program, ...before] = request.command;
  const env = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
  return [
    `[stream_processors.${text(id)}]`,
    `  accepts = ${list(accepts.map(encryptedMediaType))}`,
    `  returns = ${text(returns)}`,
    `  path = ${text(program)}`,
    `  args = ${list([...before, "ctd-decoder", ...request.args])}`,
    ...(env.length === 0 ? [] : [`  env = ${list(env)}`]),
  ];
}

/** A basic string of TOML; JSON's escapes are among TOML's, but for DEL, which JSON leaves bare. Source: TOML 1.0, "String". */
function text(value: string): string {
  return JSON.stringify(value).replaceAll("\u007f", "\\u007F");
}

function list(values: readonly string[]): string {
  return `[${values.map(text).join(", ")}]`;
}
