/** What runs in the guest: opens, verifies and unpacks images into directories. */
export { guestErrors, GuestError } from "./errors.ts";
export { defaultUnpackLimits, type GivenLimits, type UnpackLimits } from "./limits.ts";
export type { IdRange, Ownership } from "./ownership.ts";
export type { SpecialsPolicy } from "./specials.ts";
export type { Omissions } from "./apply-layer.ts";
export { admitImage, type AdmitRequest, type AdmittedImage, type Verification } from "./admit.ts";
export {
  pullImage,
  type KeySource,
  type LayerOpening,
  type PullEvent,
  type PullOptions,
  type PullOutput,
  type PullReport,
  type PullRequest,
} from "./pull-image.ts";
export { agentMeasurementSink, type MeasurementSink, type PullMeasurement } from "./measure.ts";
export { recordOf, type PullRecord } from "./record.ts";
export type { ReadAheadSettings } from "./read-ahead.ts";
export type { LayoutReport } from "./write-layout.ts";
export {
  unpackImage,
  type TreeRequest,
  type TreeOutput,
  type UnpackEvent,
  type UnpackOptions,
  type UnpackReport,
  type UnpackRequest,
} from "./unpack-image.ts";
