import type { CommandPage } from "./command-reference.ts";

/** A manual page and the name of its file. */
export interface ManPage {
  /** `ociseal-encrypt.1`. */
  readonly file: string;
  readonly text: string;
}

/** One page for the program and one for each command below it, which holds its own subcommands. Source: man-pages(7), groff_man(7). */
export function manPages(pages: readonly CommandPage[], version: string): readonly ManPage[] {
  const top = pages.filter(({ name }) => name.split(" ").length === 2);
  return [
    { file: "ociseal.1", text: programPage(pages[0], top, version) },
    ...top.map((page) => ({
      file: `${page.name.replace(" ", "-")}.1`,
      text: commandPage(
        page,
        pages.filter(({ name, kind }) => name.startsWith(`${page.name} `) && kind === "command"),
        version,
      ),
    })),
  ];
}

function programPage(program: CommandPage | undefined, top: readonly CommandPage[], version: string): string {
  const description = program?.description ?? "";
  return [
    ...head("ociseal", "seal container images, and unlock them only inside an attested guest", version),
    ".SH SYNOPSIS",
    ".B ociseal",
    roff("COMMAND [OPTIONS]"),
    ".SH DESCRIPTION",
    roff(description),
    ".SH COMMANDS",
    ...top.flatMap((page) => [".TP", `.BR ${page.name.replace(" ", "\\-")} (1)`, roff(page.description)]),
    ".SH EXIT STATUS",
    roff(
      "0 done, 1 defect in ociseal, 2 usage, 3 not found, 4 unavailable, 5 denied, 6 integrity, 7 no usable key, 8 attestation refused, 9 local input or output, 130 interrupted.",
    ),
    ".SH ENVIRONMENT",
    ...[
      ["OCISEAL_KBS_URL", "the Key Broker Service, unless --kbs names one"],
      ["REGISTRY_AUTH_FILE, DOCKER_CONFIG", "where registry credentials are"],
      ["DOCKER_AUTH_CONFIG", "registry credentials themselves, as the text of a config.json"],
      ["COSIGN_PASSWORD", "password of cosign keys"],
      ["OCICRYPT_KEYPROVIDER_CONFIG", "configuration of ocicrypt key providers"],
      ["SOURCE_DATE_EPOCH", "the time that results are dated with"],
      ["HTTPS_PROXY, HTTP_PROXY, NO_PROXY", "proxies for registries"],
      ["NO_COLOR", "no colours"],
    ].flatMap(([name = "", text = ""]) => [".TP", `.B ${roff(name)}`, roff(text)]),
    "",
  ].join("\n");
}

function commandPage(page: CommandPage, children: readonly CommandPage[], version: string): string {
  const described = page.kind === "command" ? [page, ...children] : children;
  return [
    ...head(page.name.replace(" ", "-"), page.description, version),
    ".SH SYNOPSIS",
    ...described.flatMap(({ usage }) => [".PP", `.B ${roff(usage)}`]),
    ".SH DESCRIPTION",
    sentence(page.description),
    ...(page.kind === "command" ? [".SH OPTIONS", ...options(page), ...epilogue(page)] : []),
    ...(children.length > 0 ? [".SH COMMANDS", ...children.flatMap(childSection)] : []),
    ".SH SEE ALSO",
    ".BR ociseal (1)",
    "",
  ].join("\n");
}

function childSection(page: CommandPage): readonly string[] {
  return [`.SS ${roff(page.usage)}`, sentence(page.description), ...options(page), ...epilogue(page)];
}

function head(name: string, description: string, version: string): readonly string[] {
  return [
    String.raw`.\" Made by make docs from the code; do not edit.`,
    `.TH ${name.toUpperCase().replaceAll("-", "\\-")} 1 "" "ociseal ${version}" "ociseal"`,
    ".SH NAME",
    `${roff(name)} \\- ${roff(description)}`,
  ];
}

function options(page: CommandPage): readonly string[] {
  return page.options.flatMap(({ flags, description, defaultValue }) => [
    ".TP",
    `.B ${roff(flags)}`,
    roff(defaultValue === undefined ? description : `${description} (default: ${defaultValue})`),
  ]);
}

function epilogue({ epilogue: text }: CommandPage): readonly string[] {
  return text === "" ? [] : [".PP", ".nf", ...text.split("\n").map(roff), ".fi"];
}

function sentence(text: string): string {
  return roff(`${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
}

/** Text that roff takes as text: backslashes and hyphens escaped, no line that begins as a request. Source: groff_char(7). */
function roff(text: string): string {
  const escaped = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("…", "...").replaceAll("→", "\\->");
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
