// What the program writes with ENTRYPOINT_LOG=json, as Cloud Logging reads it.

import type { Run } from "./harness.ts";

export const LABELS = "logging.googleapis.com/labels";
export const TRACE = "logging.googleapis.com/trace";

export interface Entry extends Record<string, unknown> {
  message?: string;
  severity?: string;
  [LABELS]?: Record<string, unknown>;
}

function isEntry(value: unknown): value is Entry {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Each line is one valid entry, or this throws. */
export function parsed(lines: string[]): Entry[] {
  return lines.map((line) => {
    const entry: unknown = JSON.parse(line);
    if (!isEntry(entry)) throw new Error(`no entry: ${line}`);
    return entry;
  });
}

/** The entries of one process. */
export function entriesOf(
  run: Run,
  process: string,
  stream: "stdout" | "stderr" = "stdout",
): Entry[] {
  return parsed(run[stream].lines).filter((entry) => entry[LABELS]?.process === process);
}
