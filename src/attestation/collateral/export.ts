import type { Quote } from "../intel/quote.ts";
import { AttestationError } from "../errors.ts";
import type { CollateralBundle } from "./bundle.ts";
import { selectIntelCollateral } from "./select.ts";

/** One quote's collateral in dcap-qvl's form (`QuoteCollateralV3`), with the signed bytes as they were served. */
export function exportDcapQvl(bundle: CollateralBundle, quote: Quote): string {
  const { rootCaCrl, pckCrl, tcbInfo, qeIdentity, pckChain } = selectIntelCollateral(bundle, quote);
  if (rootCaCrl === undefined || pckCrl === undefined || tcbInfo === undefined || qeIdentity === undefined) {
    throw new AttestationError("ERR_COLLATERAL_NOT_FOUND", {
      message: "the bundle lacks parts of this quote's collateral",
      hint: "fetch them: ociseal attest collateral fetch",
    });
  }
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const text = (bytes: Uint8Array | string) => (typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("utf8"));
  const crl = bundle.pckCrls.find(({ der }) => der === pckCrl);
  return `${JSON.stringify(
    {
      pck_crl_issuer_chain: crl?.issuerChain ?? "",
      root_ca_crl: hex(rootCaCrl),
      pck_crl: hex(pckCrl),
      tcb_info_issuer_chain: text(tcbInfo.issuerChain),
      tcb_info: text(tcbInfo.bytes),
      tcb_info_signature: hex(tcbInfo.signature),
      qe_identity_issuer_chain: text(qeIdentity.issuerChain),
      qe_identity: text(qeIdentity.bytes),
      qe_identity_signature: hex(qeIdentity.signature),
      ...(pckChain === undefined ? {} : { pck_certificate_chain: text(pckChain) }),
    },
    undefined,
    1,
  )}\n`;
}
