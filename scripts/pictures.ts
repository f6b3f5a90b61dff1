/** The pictures of README and docs as SVG, from the boxes and arrows below; legible on light and on dark ground. */

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly title: string;
  readonly lines: readonly string[];
  /** Who may be trusted there. */
  readonly ground: "trusted" | "hostile" | "step" | "outline";
}

interface Arrow {
  /** SVG path data. */
  readonly path: string;
  readonly label?: string;
  readonly at?: readonly [number, number];
}

interface Picture {
  readonly width: number;
  readonly height: number;
  readonly title: string;
  readonly description: string;
  readonly boxes: readonly Box[];
  readonly arrows: readonly Arrow[];
  readonly notes?: readonly { readonly x: number; readonly y: number; readonly text: string; readonly strong?: true }[];
}

const architecture: Picture = {
  width: 940,
  height: 420,
  title: "Architecture",
  description:
    "A build machine seals: it encrypts layers, registers keys at the Key Broker Service, signs and pushes. The registry holds ciphertext. A guest pulls: it verifies the signature, attests, gets the key, decrypts and unpacks. Tools that exist read the same images.",
  boxes: [
    {
      x: 20,
      y: 50,
      width: 230,
      height: 150,
      title: "CI: ociseal encrypt",
      lines: ["encrypts every layer", "makes the key, proves it is kept", "signs, pushes; the tag moves last"],
      ground: "trusted",
    },
    {
      x: 370,
      y: 50,
      width: 200,
      height: 150,
      title: "Registry",
      lines: ["ciphertext, wrapped keys,", "signatures, SBOMs", "is believed nothing"],
      ground: "hostile",
    },
    {
      x: 690,
      y: 50,
      width: 230,
      height: 190,
      title: "Guest: ociseal pull",
      lines: [
        "1  signature and policy",
        "2  attestation (TDX, SEV-SNP)",
        "3  key, sealed to this guest",
        "4  decrypt, verified",
        "5  unpack: whole or not at all",
      ],
      ground: "trusted",
    },
    {
      x: 370,
      y: 270,
      width: 200,
      height: 130,
      title: "ociseal kbs serve",
      lines: ["keys under a root key", "policies: who, measured how", "audit chain"],
      ground: "trusted",
    },
    {
      x: 20,
      y: 270,
      width: 230,
      height: 130,
      title: "Operator",
      lines: ["policies, reference values,", "rotation, audit", "never sees a key"],
      ground: "trusted",
    },
    {
      x: 690,
      y: 290,
      width: 230,
      height: 110,
      title: "Tools that exist",
      lines: ["skopeo, podman, containerd,", "CRI-O, cosign, CoCo guests:", "the same images and signatures"],
      ground: "outline",
    },
  ],
  arrows: [
    { path: "M250 125H364", label: "sealed image", at: [260, 116] },
    { path: "M570 125H684", label: "pull", at: [608, 116] },
    { path: "M190 200V235H430V264", label: "new key, read back", at: [225, 228] },
    { path: "M690 215H672V310H576", label: "evidence, key", at: [584, 302] },
    { path: "M250 335H364", label: "administers", at: [266, 326] },
  ],
};

const step = (x: number, y: number, title: string, ...lines: readonly string[]): Box => ({
  x,
  y,
  width: 140,
  height: 88,
  title,
  lines,
  ground: "step",
});

const dataPath: Picture = {
  width: 940,
  height: 330,
  title: "The way of a layer",
  description:
    "Sealing: a layer is fetched, its digest verified, encrypted chunk by chunk, hashed while it is uploaded, and the manifest, the signature and the tag follow. Opening: the signature is verified, the key obtained by attestation, each chunk verified and decrypted, inflated, compared with its diffID, unpacked in a private folder, and put in place by one rename.",
  notes: [
    { x: 20, y: 30, text: "seal", strong: true },
    { x: 20, y: 182, text: "open", strong: true },
    {
      x: 20,
      y: 318,
      text: "Memory stays the same for layers of any size: every step is a stage of one stream, and nothing is used before it is verified.",
    },
  ],
  boxes: [
    step(20, 44, "fetch", "any registry", "or archive"),
    step(172, 44, "verify", "digest, size"),
    step(324, 44, "encrypt", "AES-256-GCM,", "16 KiB chunks"),
    step(476, 44, "hash, push", "resumes", "where it broke"),
    step(628, 44, "sign", "manifest,", "plaintext digests"),
    step(780, 44, "tag", "last, after it was", "read back"),
    step(20, 196, "verify", "signature, policy", "before any key"),
    step(172, 196, "attest", "nonce and key", "bound"),
    step(324, 196, "decrypt", "chunk by chunk,", "verified first"),
    step(476, 196, "inflate", "limits on size,", "ratio, entries"),
    step(628, 196, "diffID", "is it the layer", "of the config?"),
    step(780, 196, "rename", "the tree appears", "whole, or never"),
  ],
  arrows: [88, 240].flatMap((y) => [160, 312, 464, 616, 768].map((x) => ({ path: `M${x} ${y}H${x + 9}` }))),
};

const style = `<style>
    text { fill: #0f172a; font: 14px system-ui, sans-serif; }
    .t { font-weight: 700; }
    .l { fill: #475569; font-size: 12.5px; }
    .trusted { fill: #dcfce7; stroke: #15803d; }
    .hostile { fill: #fee2e2; stroke: #b91c1c; stroke-dasharray: 6 4; }
    .step { fill: #e0f2fe; stroke: #0369a1; }
    .outline { fill: none; stroke: #64748b; }
    .a { fill: none; stroke: #475569; stroke-width: 2; marker-end: url(#m); }
    .m { fill: #475569; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f1f5f9; }
      .l { fill: #cbd5e1; }
      .trusted { fill: #14532d; stroke: #4ade80; }
      .hostile { fill: #7f1d1d; stroke: #f87171; }
      .step { fill: #0c4a6e; stroke: #38bdf8; }
      .outline { stroke: #94a3b8; }
      .a { stroke: #94a3b8; }
      .m { fill: #94a3b8; }
    }
  </style>`;

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function draw({ width, height, title, description, boxes, arrows, notes = [] }: Picture): string {
  const parts = [
    `<title id="t">${escape(title)}</title>`,
    `<desc id="d">${escape(description)}</desc>`,
    style,
    `<defs><marker id="m" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="m" d="M0 0 8 4 0 8z"/></marker></defs>`,
    ...boxes.flatMap((box) => [
      `<rect class="${box.ground}" x="${box.x}" y="${box.y}" width="${box.width}" height="${box.height}" rx="8" stroke-width="2"/>`,
      `<text class="t" x="${box.x + 14}" y="${box.y + 26}">${escape(box.title)}</text>`,
      ...box.lines.map((line, i) => `<text class="l" x="${box.x + 14}" y="${box.y + 50 + i * 22}">${escape(line)}</text>`),
    ]),
    ...arrows.flatMap(({ path, label, at: [x, y] = [0, 0] }) => [
      `<path class="a" d="${path}"/>`,
      ...(label === undefined ? [] : [`<text class="l" x="${x}" y="${y}">${escape(label)}</text>`]),
    ]),
    ...notes.map(({ x, y, text, strong }) => `<text class="${strong === true ? "t" : "l"}" x="${x}" y="${y}">${escape(text)}</text>`),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="t d">\n  ${parts.join("\n  ")}\n</svg>\n`;
}

/** Every picture that is made, by its file. */
export function pictures(): Readonly<Record<string, string>> {
  return { "docs/architecture.svg": draw(architecture), "docs/data-path.svg": draw(dataPath) };
}
