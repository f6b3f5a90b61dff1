import { digestAlgorithmOf, encodedOf, parseJson, type Digest } from "../bytes/index.ts";
import { signatureLimits, signaturePredicate } from "./formats.ts";
import { aList, aText, anObject, malformedSignature, type JsonObject } from "./shape.ts";
import { sorted } from "./payload.ts";

/** One thing that a statement is about. */
export interface StatementSubject {
  readonly name?: string;
  /** Algorithm to lower-case hex. */
  readonly digest: Readonly<Record<string, string>>;
  readonly annotations: JsonObject;
}

/** An in-toto statement, v0.1 or v1. Source: in-toto/attestation spec/v1/statement.md. */
export interface Statement {
  readonly subject: readonly StatementSubject[];
  readonly predicateType: string;
  /** `undefined` in image signatures of cosign up to 3.0.4. */
  readonly predicate: unknown;
}

const statementTypes: ReadonlySet<string> = new Set(["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"]);

export interface StatementFacts {
  readonly digest: Digest;
  readonly predicateType: string;
  readonly predicate: JsonObject;
  readonly annotations: Readonly<Record<string, string>>;
}

/** The bytes of a statement about one manifest. Annotations go where cosign 3 puts those of `-a`. */
export function serializeStatement({ digest, predicateType, predicate, annotations }: StatementFacts): Buffer {
  const subject = {
    digest: { [digestAlgorithmOf(digest)]: encodedOf(digest) },
    ...(Object.keys(annotations).length === 0 ? {} : { annotations: sorted(annotations) }),
  };
  return Buffer.from(JSON.stringify({ _type: "https://in-toto.io/Statement/v1", subject: [subject], predicateType, predicate }), "utf8");
}

/** The statement of an image signature. */
export function serializeSignatureStatement(digest: Digest, annotations: Readonly<Record<string, string>>): Buffer {
  return serializeStatement({ digest, predicateType: signaturePredicate, predicate: {}, annotations });
}

/** Parses a statement whose signature was verified. Throws `ERR_SIGNATURE_MALFORMED` or `ERR_JSON_MALFORMED`. */
export function parseStatement(bytes: Uint8Array): Statement {
  const top = anObject(parseJson(bytes, { maxBytes: signatureLimits.maxBundleBytes, subject: "statement" }), "statement");
  const type = aText(top["_type"], "_type");
  if (!statementTypes.has(type)) throw malformedSignature(`statement has the unknown type ${JSON.stringify(type.slice(0, 120))}`);
  const subjects = aList(top["subject"], "subject");
  if (subjects.length === 0) throw malformedSignature("statement has no subject");
  return {
    subject: subjects.map((item, i) => parseSubject(item, `subject[${i}]`)),
    predicateType: aText(top["predicateType"], "predicateType"),
    predicate: top["predicate"],
  };
}

/** The subjects that name a manifest by the algorithm of its digest. */
export function subjectsNaming(statement: Statement, digest: Digest): readonly StatementSubject[] {
  const algorithm = digestAlgorithmOf(digest);
  return statement.subject.filter((subject) => Object.hasOwn(subject.digest, algorithm) && subject.digest[algorithm] === encodedOf(digest));
}

function parseSubject(value: unknown, where: string): StatementSubject {
  const subject = anObject(value, where);
  const digest = anObject(subject["digest"], `${where}.digest`);
  for (const [algorithm, hex] of Object.entries(digest)) aText(hex, `${where}.digest.${algorithm.slice(0, 40)}`);
  const name = subject["name"];
  return {
    ...(name === undefined ? {} : { name: aText(name, `${where}.name`) }),
    digest: digest as Readonly<Record<string, string>>,
    annotations:
      subject["annotations"] === undefined || subject["annotations"] === null
        ? {}
        : anObject(subject["annotations"], `${where}.annotations`),
  };
}
