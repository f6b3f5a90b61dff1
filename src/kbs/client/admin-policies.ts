import { encodeBase64, encodeBase64Url } from "../../bytes/index.ts";
import { KbsError } from "../errors.ts";
import type { PolicyLanguage } from "../policies/policy-store.ts";
import { protocolPrefix } from "../protocol/messages.ts";
import { isObject, memberAt } from "../protocol/shape.ts";
import { expectOk, isOurs, malformedAnswer, type AdminCall } from "./admin-call.ts";
import { jsonOf, problemOf, type CallOptions } from "./transport.ts";

/** A policy as its service shows it. */
export interface PolicyView {
  readonly id: string;
  readonly language: string;
  readonly resources: string;
  /** `sha256:` of its text. */
  readonly digest: string;
  readonly version: number;
  readonly createdAt: string;
  readonly createdBy: string;
}

export interface PolicyUploadRequest extends CallOptions {
  /** `resource-policy` is the one that Trustee knows; appraisal policies are `default_cpu`, `default_gpu`. */
  readonly id: string;
  readonly language: PolicyLanguage;
  /** For `wasm`, the base64 of a bundle that OPA compiled. */
  readonly text: string;
  /** A path pattern; everything unless told. For release policies. */
  readonly resources?: string | undefined;
}

/** What a guest would get, and why. */
export interface PolicyTrial {
  readonly allow: boolean;
  readonly reasons: readonly string[];
  readonly policy: string;
  readonly digest: string;
  readonly resourceExists: boolean;
}

/** Policies for one purpose. */
export interface KbsAdminPolicies {
  /** Compiled at the service before it is stored. Rego goes to Trustee as well. Throws `ERR_KBS_REQUEST_REFUSED` with the place of the error. */
  put(request: PolicyUploadRequest): Promise<void>;
  get(id: string, options?: CallOptions): Promise<PolicyView & { readonly text: string }>;
  list(options?: CallOptions): Promise<readonly PolicyView[]>;
  delete(id: string, options?: CallOptions): Promise<void>;
}

export interface KbsAdminReleasePolicies extends KbsAdminPolicies {
  /** A dry run with claims, or with the token of a guest; nothing is released. */
  evaluate(
    request: { readonly resource: string; readonly claims?: unknown; readonly token?: string | undefined } & CallOptions,
  ): Promise<PolicyTrial>;
}

export interface ReferenceValueView {
  readonly name: string;
  readonly value: unknown;
  readonly expiresAt: string;
  readonly expired: boolean;
  readonly createdBy: string;
}

export interface KbsAdminReferences {
  /** Registers values; with an expiry, at our service only. */
  set(values: Readonly<Record<string, unknown>>, request?: { readonly expiresAt?: Date | undefined } & CallOptions): Promise<void>;
  list(options?: CallOptions): Promise<readonly ReferenceValueView[]>;
  /** The value, or `undefined` when there is none or it has expired. */
  get(name: string, options?: CallOptions): Promise<unknown>;
  delete(name: string, options?: CallOptions): Promise<void>;
}

const releaseBase = "/api/v1/policies";
const appraisalBase = "/api/v1/attestation-policies";
const trusteeReleaseId = "resource-policy";
/** Trustee's 401 for a name that it does not know; older ones answer `null`, as ours does. Seen at Trustee 0.21. */
const noSuchReference = /No reference value found for the given id/;

/** Release policies over a connection. */
export function adminReleasePolicies(call: AdminCall): KbsAdminReleasePolicies {
  return {
    ...policiesAt(call, releaseBase, (request) => {
      if (request.id !== trusteeReleaseId) throw onlyTrusteeId(`the id ${trusteeReleaseId}`);
      return { path: `${protocolPrefix}/resource-policy`, json: { policy: encodeBase64Url(Buffer.from(request.text, "utf8")) } };
    }),
    evaluate: async ({ resource, claims, token, ...options }) => {
      const json = { resource, ...(token === undefined ? { claims } : { token }) };
      const answer = await call.json({ method: "POST", path: `${releaseBase}/evaluate`, json, ...options }, "evaluate the policy");
      const { allow, reasons, policy, digest, resource_exists: resourceExists } = isObject(answer) ? answer : {};
      if (typeof allow !== "boolean" || !Array.isArray(reasons) || typeof policy !== "string" || typeof digest !== "string")
        throw malformedAnswer("decision");
      return { allow, reasons: reasons.map(String), policy, digest, resourceExists: resourceExists === true };
    },
  };
}

/** Appraisal policies over a connection. */
export function adminAppraisalPolicies(call: AdminCall): KbsAdminPolicies {
  return policiesAt(call, appraisalBase, (request) => ({
    path: `${protocolPrefix}/attestation-policy`,
    json: { type: "rego", policy_id: request.id, policy: encodeBase64Url(Buffer.from(request.text, "utf8")) },
  }));
}

/** Reference values over a connection. */
export function adminReferences(call: AdminCall): KbsAdminReferences {
  const base = "/api/v1/reference-values";
  return {
    set: async (values, { expiresAt, ...options } = {}) => {
      if (expiresAt === undefined) {
        const payload = encodeBase64(Buffer.from(JSON.stringify(values), "utf8"));
        const json = { version: "0.1.0", type: "sample", payload };
        await call.ok({ method: "POST", path: `${protocolPrefix}/reference-value`, json, ...options }, "register reference values");
        return;
      }
      for (const [name, value] of Object.entries(values)) {
        const json = { value, expires_at: expiresAt.toISOString() };
        await call.ok(
          { method: "PUT", path: `${base}/${encodeURIComponent(name)}`, json, ...options },
          `register the reference value ${name}`,
        );
      }
    },
    list: async (options = {}) => {
      const answer = memberAt(await call.json({ method: "GET", path: base, ...options }, "list reference values"), "reference_values");
      if (!Array.isArray(answer)) throw malformedAnswer("reference_values");
      return answer.map((entry: unknown) => {
        const { name, value, expires_at: expiresAt, expired, created_by: createdBy } = isObject(entry) ? entry : {};
        if (typeof name !== "string" || typeof expiresAt !== "string" || typeof createdBy !== "string")
          throw malformedAnswer("reference value");
        return { name, value, expiresAt, expired: expired === true, createdBy };
      });
    },
    get: async (name, options = {}) => {
      const what = `read the reference value ${name}`;
      const response = await call.send({
        method: "GET",
        path: `${protocolPrefix}/reference-value/${encodeURIComponent(name)}`,
        ...options,
      });
      if (!isOurs(response) && noSuchReference.test(problemOf(response).detail)) return undefined;
      return jsonOf(expectOk(response, what), `the answer to "${what}"`) ?? undefined;
    },
    delete: async (name, options = {}) => {
      await call.ok(
        { method: "DELETE", path: `${protocolPrefix}/reference-value/${encodeURIComponent(name)}`, ...options },
        `delete the reference value ${name}`,
      );
    },
  };
}

type TrusteeForm = (request: PolicyUploadRequest) => { readonly path: string; readonly json: unknown };

function policiesAt(call: AdminCall, base: string, trusteeForm: TrusteeForm): KbsAdminPolicies {
  const at = (id: string) => `${base}/${encodeURIComponent(id)}`;
  return {
    put: async (request) => {
      const { id, language, text, resources, ...options } = request;
      const json = { language, policy: text, ...(resources === undefined ? {} : { resources }) };
      const what = `store the policy ${id}`;
      const response = await call.send({ method: "PUT", path: at(id), json, ...options });
      if (response.status === 200 || isOurs(response)) return void expectOk(response, what);
      if (language !== "rego" || resources !== undefined) throw onlyTrusteeId("Rego without a pattern of resources");
      await call.ok({ method: "POST", ...trusteeForm(request), ...options }, what);
    },
    get: async (id, options = {}) => {
      const answer = await call.json({ method: "GET", path: at(id), ...options }, `read the policy ${id}`);
      const text = memberAt(answer, "policy");
      if (typeof text !== "string") throw malformedAnswer("policy");
      return { ...parsePolicy(answer), text };
    },
    list: async (options = {}) => {
      const policies = memberAt(await call.json({ method: "GET", path: base, ...options }, "list policies"), "policies");
      if (!Array.isArray(policies)) throw malformedAnswer("policies");
      return policies.map(parsePolicy);
    },
    delete: async (id, options = {}) => {
      await call.ok({ method: "DELETE", path: at(id), ...options }, `delete the policy ${id}`);
    },
  };
}

function parsePolicy(value: unknown): PolicyView {
  const { id, language, resources, digest, version, created_at: createdAt, created_by: createdBy } = isObject(value) ? value : {};
  if (typeof id !== "string" || typeof language !== "string" || typeof resources !== "string" || typeof digest !== "string")
    throw malformedAnswer("policy");
  if (typeof version !== "number" || typeof createdAt !== "string" || typeof createdBy !== "string") throw malformedAnswer("policy");
  return { id, language, resources, digest, version, createdAt, createdBy };
}

function onlyTrusteeId(what: string): KbsError {
  return new KbsError("ERR_KBS_REQUEST_REFUSED", {
    message: `this service is a Trustee server, which takes only ${what}`,
    hint: "several policies need ociseal kbs",
  });
}
