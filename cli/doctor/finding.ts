import type { Shell } from "../shell.ts";

/** What one check found. */
export interface Finding {
  readonly topic: DoctorTopic;
  readonly check: string;
  /** `not-checked`: nothing was configured that could be wrong. */
  readonly verdict: "ok" | "warn" | "fail" | "not-checked";
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string;
}

export const doctorTopics = ["runtime", "credentials", "registry", "kbs", "keyprovider", "guest", "containerd", "crio"] as const;
export type DoctorTopic = (typeof doctorTopics)[number];

export interface DoctorOptions {
  readonly kbs?: string;
  readonly tlsCa?: string;
  readonly tsmPath?: string;
  readonly credsFile?: string;
  readonly registry?: string;
  readonly plainHttp?: readonly string[];
}

/** What checks look at. */
export interface Patient {
  readonly shell: Shell;
  readonly options: DoctorOptions;
  /** Root of the file system, so that a test can offer its own. */
  readonly root: string;
  readonly nodeVersion: string;
  readonly now: () => Date;
  /** Whether the topic was asked for by name: then what is absent is a failure. */
  readonly asked: boolean;
}

/** One topic's checks. They throw only what interrupts. */
export type Examination = (patient: Patient) => Promise<readonly Finding[]>;

/** Makes findings of one topic. */
export function findingsOf(topic: DoctorTopic): {
  readonly list: readonly Finding[];
  readonly add: (verdict: Finding["verdict"], check: string, message: string, fix?: string) => void;
} {
  const list: Finding[] = [];
  return {
    list,
    add: (verdict, check, message, fix) => void list.push({ topic, check, verdict, message, ...(fix === undefined ? {} : { fix }) }),
  };
}

export type Add = ReturnType<typeof findingsOf>["add"];

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
