import { X509Certificate } from "node:crypto";
import { tees } from "../protocol/tee-names.ts";
import type { WireErrorCode } from "../protocol/wire-errors.ts";
import { MetricsRegistry } from "./registry.ts";

const sizeBuckets = [32, 128, 512, 2048, 8192, 65_536, 1_048_576];
const durationBuckets = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.5, 1];
const attestationBuckets = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5];

/** Why guests and administrators are refused, as alerts count it. */
const guestReasons: readonly WireErrorCode[] = ["token-missing", "token-invalid", "policy-denied", "key-disabled", "resource-not-found"];
const adminReasons: readonly WireErrorCode[] = ["admin-token-missing", "admin-token-invalid", "admin-forbidden"];

/**
 * The metrics of a service. Names that begin with `kbs_` are Trustee's, so that its dashboards work; the others are ours.
 *
 * No label holds what a stranger chose: resources are counted by route, not by path.
 */
export class ServiceMetrics {
  readonly #registry = new MetricsRegistry();
  readonly buildInfo = this.#registry.gauge("kbs_build_info", "Version of the service");
  readonly httpRequests = this.#registry.counter("kbs_http_requests_total", "Requests answered");
  readonly httpDuration = this.#registry.histogram("kbs_http_request_duration_seconds", "Time to answer a request", durationBuckets);
  readonly httpRequestSize = this.#registry.histogram("kbs_http_request_size_bytes", "Size of request bodies", sizeBuckets);
  readonly httpResponseSize = this.#registry.histogram("kbs_http_response_size_bytes", "Size of response bodies", sizeBuckets);
  readonly activeConnections = this.#registry.gauge("kbs_http_active_connections", "Open connections");
  readonly resourceReads = this.#registry.counter("kbs_resource_reads_total", "Resources released to guests");
  readonly resourceWrites = this.#registry.counter("kbs_resource_writes_total", "Resources written by administrators");
  readonly resourceDeletes = this.#registry.counter("kbs_resource_deletes_total", "Resources deleted by administrators");
  readonly policyEvaluations = this.#registry.counter("kbs_policy_evaluations_total", "Release policies evaluated");
  readonly policyApprovals = this.#registry.counter("kbs_policy_approvals_total", "Releases that a policy allowed");
  readonly policyViolations = this.#registry.counter("kbs_policy_violations_total", "Releases that a policy denied");
  readonly policyErrors = this.#registry.counter("kbs_policy_errors_total", "Policies that failed to evaluate, which denies");
  readonly attestationRequests = this.#registry.counter("kbs_attestation_requests_total", "Evidence received");
  readonly attestationSuccesses = this.#registry.counter("kbs_attestation_successes_total", "Evidence that verified");
  readonly attestationFailures = this.#registry.counter("kbs_attestation_failures_total", "Evidence that was refused");
  readonly attestationErrors = this.#registry.counter("kbs_attestation_errors_total", "Evidence that could not be judged");
  readonly authRequests = this.#registry.counter("kbs_auth_requests_total", "Handshakes begun");
  readonly authSuccesses = this.#registry.counter("kbs_auth_successes_total", "Challenges given");
  readonly authErrors = this.#registry.counter("kbs_auth_errors_total", "Handshakes refused");
  readonly attestationDuration = this.#registry.histogram("tee_attestation_duration_seconds", "Time to judge evidence", attestationBuckets);
  readonly keyAccessRefused = this.#registry.counter("ociseal_key_access_refused_total", "Resources refused to guests, by reason");
  readonly adminRefused = this.#registry.counter("ociseal_admin_refused_total", "Administration requests refused, by reason");
  readonly integrityFailures = this.#registry.counter("ociseal_integrity_failures_total", "Records or audit lines that do not verify");
  readonly rateLimited = this.#registry.counter("ociseal_rate_limited_total", "Requests over a rate limit");
  readonly auditRecords = this.#registry.counter("ociseal_audit_records_total", "Audit records written");
  readonly auditFailures = this.#registry.counter("ociseal_audit_failures_total", "Audit records that could not be written");
  readonly auditHead = this.#registry.gauge("ociseal_audit_head_sequence", "Sequence number of the last audit record");
  readonly keysDue = this.#registry.gauge("ociseal_keys_rotation_due", "Keys whose rotation is due");
  readonly certificateExpiry = this.#registry.gauge(
    "ociseal_certificate_expiry_timestamp_seconds",
    "When a certificate of the service expires",
  );

  /**
   * Series that alerts watch are there from the start, at nought: of a series that begins at eight, Prometheus sees no
   * increase, and the first burst of refusals would go unnoticed.
   */
  constructor() {
    for (const tee of Object.keys(tees)) {
      this.attestationSuccesses({ tee_type: tee }, 0);
      this.attestationFailures({ tee_type: tee }, 0);
    }
    for (const reason of guestReasons) this.keyAccessRefused({ reason }, 0);
    for (const reason of adminReasons) this.adminRefused({ reason }, 0);
  }

  /** Says until when the certificate of the service holds: the first one of its PEM. */
  certificate(pem: string): void {
    const expires = new X509Certificate(pem).validToDate.getTime();
    this.certificateExpiry({ certificate: "tls" }, Math.floor(expires / 1000));
  }

  /** The text for Prometheus. */
  text(): string {
    return this.#registry.text();
  }
}
