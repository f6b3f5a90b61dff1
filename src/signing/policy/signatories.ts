import { InternalError } from "../../errors/index.ts";
import type { SignatoryRequirement } from "../requirement.ts";
import { readAuthorities, readKeys, readLocalMaterial, readLogKeys } from "./material.ts";
import type { SigstoreSigned } from "./model.ts";
import type { MaterialReader, PolicyRequirement } from "./requirement.ts";
import { chooseRequirements } from "./scopes.ts";

/** Whom each `sigstoreSigned` requirement of the image's scope names; none when the scope accepts anything. Throws `ERR_POLICY_MATERIAL`. */
export async function signatoriesOf({ policy, subject, readMaterial }: PolicyRequirement): Promise<readonly SignatoryRequirement[]> {
  const { requirements } = chooseRequirements(policy, subject);
  const items = requirements.filter((item) => item.kind === "sigstoreSigned");
  return await Promise.all(items.map(async (item) => await signatoryOf(item, readMaterial ?? readLocalMaterial)));
}

/** Reads the keys or authorities of one requirement. Throws `ERR_POLICY_MATERIAL`. */
export async function signatoryOf({ trust, rekorKeys }: SigstoreSigned, read: MaterialReader): Promise<SignatoryRequirement> {
  const logKeys = await readLogKeys(rekorKeys, read);
  const logAnchors = { kind: "rekor-keys", keys: logKeys } as const;
  const isLogged = logKeys.length > 0;
  switch (trust.kind) {
    case "keys": {
      const [first, ...more] = await readKeys(trust.keys, read);
      if (first === undefined) throw new InternalError({ message: "a policy requirement without keys passed the parser" });
      // Without a log key a log entry is not looked at, as in skopeo.
      return { kind: "keys", keys: [first, ...more], ...(isLogged ? { log: "required", logAnchors } : { log: "ignore" }) };
    }
    case "fulcio":
      return {
        kind: "certificate",
        identity: { kind: "email", email: trust.subjectEmail, issuer: trust.oidcIssuer },
        anchors: { kind: "authorities", authorities: await readAuthorities(trust, read) },
        log: "required",
        logAnchors,
      };
    case "pki":
      return {
        kind: "certificate",
        identity: { kind: "pki", email: trust.subjectEmail, hostname: trust.subjectHostname },
        anchors: { kind: "authorities", authorities: await readAuthorities(trust, read) },
        log: "ignore",
      };
  }
}
