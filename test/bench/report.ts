// Runs what is to be compared in turn, and makes tables of the numbers.

import { compile, type Floor } from "./peers.ts";
import { type Contestant, everyone, median, type Place, progress, within } from "./run.ts";

/** A row of the benchmark: a table on the terminal. */
export interface Figure {
  section: string;
  title: string;
  /** The first is what is measured; a ratio is shown of it. */
  columns: string[];
  rounds: number;
  /** Milliseconds until a run counts as hanging. */
  limit?: number;
  /** All at the same time, because it only waits. */
  together?: true;
  contestants?: () => Contestant[];
  /** Those that are measured beside them. */
  floors?: Floor[];
  measure: (place: Place) => Promise<number[]>;
}

// ---- What came out of it

type Results = Map<string, number[][]>;
export const results = new Map<Figure, Results>();

/** Runs it all, interleaved. One that hangs is not tried again. */
export async function run(figure: Figure, rounds: number): Promise<void> {
  const contestants = figure.contestants?.() ?? everyone();
  for (const floor of figure.floors ?? []) {
    const peer = await compile(floor);
    contestants.push({ name: peer.name, peer });
  }
  const all: Results = new Map(contestants.map(({ name }) => [name, []]));
  results.set(figure, all);
  const one = async (contestant: Contestant) => {
    const numbers = await within(figure.limit ?? 10_000, contestant, figure.measure).catch(
      (error) => void progress(`${contestant.name}: ${error.message}\n`),
    );
    all.get(contestant.name)?.push(numbers ?? []);
  };
  const hangs = ({ name }: Contestant) => all.get(name)?.some((numbers) => !numbers.length);
  for (let round = 1; round <= rounds; round++) {
    if (figure.together) progress(`${figure.section}: round ${round} of ${rounds}`);
    if (figure.together) await Promise.all(contestants.map(one));
    else
      for (const contestant of contestants.filter((one) => !hangs(one))) {
        progress(`${figure.section}: round ${round} of ${rounds}: ${contestant.name}`);
        await one(contestant);
      }
  }
  progress("");
}

/** The numbers of a column, round by round; NaN where it hung. */
export function column(figure: Figure, name: string, at = 0): number[] {
  return (results.get(figure)?.get(name) ?? []).map((numbers) => numbers[at] ?? NaN);
}

export const value = (figure: Figure, name: string, at = 0) => median(column(figure, name, at));

/** To another, or to bash, in the same round: what slows one down slows down the other. */
export function ratio(figure: Figure, name: string, to?: string): number {
  const first = results.get(figure)?.keys().next().value ?? "";
  const base = column(figure, to ?? first);
  return median(column(figure, name).map((one, round) => one / (base[round] ?? NaN)));
}

export function short(number: number): string {
  if (Number.isInteger(number)) return `${number}`;
  return number >= 100 ? number.toFixed(0) : number.toPrecision(number < 1 ? 2 : 3);
}

const times = (number: number) => (Number.isFinite(number) ? `${short(number)} ×` : "");

function spread(values: number[]): string {
  const ended = values.filter(Number.isFinite);
  return `${short(Math.min(...ended))}–${short(Math.max(...ended))}`;
}

/** "hangs" if it never ended, nothing if it always did. */
function hangs(values: number[]): string {
  const count = values.filter(Number.isNaN).length;
  if (count === values.length) return "hangs";
  return count ? ` (${count} of ${values.length} hung)` : "";
}

export function rowsOf(figure: Figure): string[][] {
  const [first = "", ...others] = figure.columns;
  const rows = [...(results.get(figure)?.keys() ?? [])].map((name) => {
    const values = column(figure, name);
    const hung = hangs(values);
    if (hung === "hangs") return [name, hung];
    const also = others.map((_, i) => short(value(figure, name, i + 1)));
    return [
      name,
      short(median(values)) + hung,
      spread(values),
      times(ratio(figure, name)),
      ...also,
    ];
  });
  return [["", first, "spread", "ratio", ...others], ...rows];
}

export function text(rows: string[][]): string {
  const width = (at: number) => Math.max(...rows.map((row) => row[at]?.length ?? 0));
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(width(i))).join("   ");
  return rows.map((row) => `  ${line(row).trimEnd()}\n`).join("");
}

export function markdown([head = [], ...body]: string[][]): string {
  const rows = [head, head.map(() => "---"), ...body];
  return rows.map((row) => `| ${head.map((_, i) => row[i] ?? "").join(" | ")} |\n`).join("");
}

/** The tables of test/bench/README.md: a row for each contestant, a column for each of these. */
export const SUMMARIES: [string, number, string][][] = [
  [
    ["start", 0, "exec to both running, ms"],
    ["cache", 0, "the same, cold page cache, ms"],
    ["cache", 1, "MB read"],
    ["cold", 0, "first 200 through nginx, ms"],
    ["cold", 1, "5xx before it"],
  ],
  [
    ["death", 0, "a child's death to the exit, ms"],
    ["death", 1, "exit code (137 is true)"],
    ["stop", 0, "SIGTERM to the exit, ms"],
    ["stop", 2, "children left"],
  ],
  [
    ["logs", 0, "logs, s per GB"],
    ["idle", 0, "anonymous 1 s after the start, MB"],
    ["idle", 1, "at rest, MB"],
    ["idle", 2, "resident, MB"],
    ["idle", 3, "wake-ups a second"],
    ["idle", 4, "after 37 s"],
  ],
];

export function summary(figures: Figure[], columns: [string, number, string][]): string[][] {
  const shown = columns.flatMap(([section, at, head]) => {
    const figure = figures.find((one) => one.section === section);
    return figure && results.has(figure) ? [{ figure, at, head }] : [];
  });
  const namesOf = (figure: Figure) => [...(results.get(figure)?.keys() ?? [])];
  const withoutShare = (name: string) => name.replace(/ \(.*/, "");
  const all = new Set(shown.flatMap(({ figure }) => namesOf(figure).map(withoutShare)));
  const rows = [...all].map((row) => [
    row,
    ...shown.map(({ figure, at }) => {
      const name = namesOf(figure).find((key) => withoutShare(key) === row);
      if (!name) return "";
      const values = column(figure, name, at);
      const hung = hangs(values);
      if (hung === "hangs") return at ? "" : "never";
      if (at) return short(median(values));
      return `${short(median(values))} (${spread(values)}, ${times(ratio(figure, name))})${hung}`;
    }),
  ]);
  return [["", ...shown.map(({ head }) => head)], ...rows];
}
