/**
 * Flags of skopeo and podman that ociseal spells otherwise, and what to write instead. Source: skopeo-copy(1), skopeo(1).
 */
const spellings: readonly { readonly flags: RegExp; readonly hint: string }[] = [
  {
    flags: /^--(src-|dest-)?tls-verify$/,
    hint: "give --plain-http HOST for plain HTTP, or --tls-ca FILE for an authority of your own; loopback needs no flag",
  },
  { flags: /^--(src-|dest-)?cert-dir$/, hint: "give --tls-ca FILE, or --tls-client-cert FILE and --tls-client-key FILE" },
  {
    flags: /^--(src-|dest-)?(creds|username|password|registry-token)$/,
    hint: "run ociseal login HOST before, or give --creds-file FILE; passwords are never taken from the command line",
  },
  { flags: /^--(src-|dest-)?authfile$/, hint: "give --creds-file FILE, or set REGISTRY_AUTH_FILE" },
  { flags: /^--(src-|dest-)?no-creds$/, hint: "give --creds-file with a file that holds {}" },
  { flags: /^--multi-arch$/, hint: "leave it away: every platform is taken; --platform OS/ARCH takes one" },
  { flags: /^--override-(os|arch|variant)$/, hint: "give --platform OS/ARCH[/VARIANT]" },
  { flags: /^--preserve-digests$/, hint: "leave it away: what is not encrypted or decrypted keeps its digest" },
  { flags: /^(--format|-f)$/, hint: "leave it away: manifests stay as they are; encrypted images are OCI images" },
  {
    flags: /^--(insecure-policy|policy|registries\.d)$/,
    hint: "leave it away: only pull asks for a policy; ociseal verify --policy FILE checks one",
  },
  {
    flags: /^--(retry-times|retry-delay|command-timeout|image-parallel-copies)$/,
    hint: "leave it away: requests are tried again by themselves",
  },
  { flags: /^--sign-by(-.+)?$/, hint: "sign afterwards with ociseal sign, or encrypt with --sign-key" },
  { flags: /^--(dest-)?(compress|decompress|force-compress)/, hint: "leave it away: layers are copied as they are" },
  { flags: /^--additional-tag$/, hint: "copy again to the other tag: what is there already is not moved twice" },
  { flags: /^--digestfile$/, hint: "--json prints the digest" },
  { flags: /^-q$/, hint: "write --quiet" },
  { flags: /^-a$/, hint: "leave it away: every platform is taken" },
  { flags: /^--remove-signatures$/, hint: "leave it away: signatures are only copied with --referrers" },
];

/** What to write instead of an unknown option such as `--src-tls-verify=false`; `undefined` where skopeo has none like it. */
export function skopeoHint(option: string): string | undefined {
  const [name = ""] = option.split("=");
  return spellings.find(({ flags }) => flags.test(name))?.hint;
}
