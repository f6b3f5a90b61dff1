/**
 * What a caller can do about a failure; decides the exit code of the command line.
 *
 * Source: the product's contract, "Exit codes".
 */
export const categories = {
  internal: 1,
  usage: 2,
  "not-found": 3,
  unavailable: 4,
  denied: 5,
  integrity: 6,
  "no-key": 7,
  attestation: 8,
  io: 9,
  interrupted: 130,
} as const;

export type ErrorCategory = keyof typeof categories;

/** The process exit code for a category. */
export function exitCodeOf(category: ErrorCategory): number {
  return categories[category];
}
