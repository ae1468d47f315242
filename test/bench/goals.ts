// The goals, and whether what was measured reaches them. Machines differ, so a goal for a time is a
// ratio to what stands beside it in the same run: a floor, or the peer that comes nearest.

import { sizes } from "./measure.ts";
import { entrypoint, floorName } from "./peers.ts";
import { column, type Figure, ratio, results, short, value } from "./report.ts";
import { found } from "./run.ts";

const own = entrypoint.name;
const peers = [...found.keys()];

/** What was measured of a figure, and whether that is enough. */
type Outcome = [measured: string, reached: boolean];

interface Goal {
  section: string;
  /** How the title of the figure begins, where it is not the first of its section. */
  title?: string;
  what: string;
  outcome: (figure: Figure) => Outcome;
}

const times = (number: number) => `${short(number)} ×`;

/** Ours as a multiple of each of these, in the same rounds. */
function timesOf(figure: Figure, ...others: string[]): string {
  return others.map((other) => `${times(ratio(figure, own, other))} ${other}`).join(", ");
}

/** Whether ours is at most this multiple of what `other` takes. */
function isWithin(most: number, figure: Figure, other: string): boolean {
  return ratio(figure, own, other) <= most;
}

const zx = floorName("zx");
const spawn = floorName("Bun.spawn");
const loop = floorName("loop");
const namedLoop = floorName("loop with names");

function withPrefixes(figure: Figure): Outcome {
  const others = peers
    .filter((peer) => peer.prefixes && peer !== entrypoint)
    .map(({ name }) => ({ name, ahead: value(figure, name) / value(figure, own) }))
    .sort((a, b) => a.ahead - b.ahead);
  const shown = others.map(({ name, ahead }) => `${name} ${times(ahead)}`).join(", ");
  return [shown, others.every(({ ahead }) => ahead >= 10)];
}

/** From those that stop their children: one that leaves them behind has not stopped them. */
function aheadOfRuntimes(figure: Figure): Outcome {
  const ended = peers.filter(({ name, runtime }) => runtime && value(figure, name, 2) === 0);
  const least = Math.min(...ended.map(({ name }) => value(figure, name) / value(figure, own)));
  return [`${times(least)} or more`, least >= 4];
}

function besideS6(figure: Figure): Outcome {
  return [timesOf(figure, "s6-svscan", "bash"), isWithin(1, figure, "s6-svscan")];
}

const goals: Goal[] = [
  {
    section: "start",
    what: "exec to both running: at most 1.1 × zx alone, 2 × the floor Bun.spawn",
    outcome: (figure) => [
      timesOf(figure, zx, spawn, "bash"),
      isWithin(1.1, figure, zx) && isWithin(2, figure, spawn),
    ],
  },
  {
    section: "start",
    what: "10 times faster than any peer with prefixes",
    outcome: withPrefixes,
  },
  { section: "death", what: "death to exit: no later than s6", outcome: besideS6 },
  {
    section: "death",
    what: "death: 4 times ahead of JavaScript, Python and Ruby",
    outcome: aheadOfRuntimes,
  },
  { section: "stop", what: "SIGTERM to exit: no later than s6", outcome: besideS6 },
  {
    section: "stop",
    what: "stop: 4 times ahead of JavaScript, Python and Ruby",
    outcome: aheadOfRuntimes,
  },
  {
    section: "cold",
    what: "first 200: at most 1.1 × bash, no 5xx",
    outcome: (figure) => {
      const errors = Math.max(...column(figure, own, 1));
      return [
        `${timesOf(figure, "bash")}, ${errors} 5xx`,
        isWithin(1.1, figure, "bash") && errors === 0,
      ];
    },
  },
  {
    section: "logs",
    what: "logs: at most 1.2 × a bare loop of Bun, and less than sed",
    outcome: (figure) => [
      timesOf(figure, loop, namedLoop, "bash, sed prefix", "bash"),
      isWithin(1.2, figure, loop) && isWithin(1, figure, "bash, sed prefix"),
    ],
  },
  {
    section: "logs",
    what: "logs as JSON: at most 2.5 × text",
    outcome: (figure) => {
      const toText = ratio(figure, `${own}, json`, own);
      return [times(toText), toText <= 2.5];
    },
  },
  {
    section: "logs",
    what: "logs, raw: the time of bash (1.1 ×, for the start is in it)",
    outcome: (figure) => {
      const toBash = ratio(figure, `${own}, raw`);
      return [times(toBash), toBash <= 1.1];
    },
  },
  {
    section: "logs",
    title: "a line every 10 ms",
    what: "a line every 10 ms: at most 1.2 × the CPU of a bare loop of Bun",
    outcome: (figure) => {
      const toLoop = value(figure, own, 2) / value(figure, loop, 2);
      return [`${times(toLoop)}, ${short(value(figure, own, 2))} %`, toLoop <= 1.2];
    },
  },
  {
    section: "access",
    what: "access lines: 0.95 × the requests of raw",
    outcome: (figure) => {
      const [cpu, toRaw] = [value(figure, own, 1), ratio(figure, own, `${own}, raw`)];
      return [`${times(toRaw)}, ${short(cpu)} µs of our CPU a line`, toRaw >= 0.95];
    },
  },
  {
    section: "idle",
    what: "idle: at most 6 MB anonymous after 1 s, 5 MB at rest",
    outcome: (figure) => {
      const [first, rest] = [value(figure, own), value(figure, own, 1)];
      return [`${short(first)} MB, ${short(rest)} MB`, first <= 6 && rest <= 5];
    },
  },
  {
    section: "idle",
    what: "idle: at most 42 MB resident",
    outcome: (figure) => {
      const resident = value(figure, own, 2);
      return [`${short(resident)} MB`, resident <= 42];
    },
  },
  {
    section: "idle",
    what: "idle: 0 wake-ups a second",
    outcome: (figure) => {
      const [first, later] = [value(figure, own, 3), value(figure, own, 4)];
      return [`${short(first)}, after half a minute ${short(later)}`, first === 0 && later === 0];
    },
  },
  {
    section: "hundred",
    what: "100 processes: each no slower to start than of 2",
    outcome: (figure) => {
      const [of100, of2] = [value(figure, own), value(figure, own, 1)];
      return [`${short(of100)} ms each, of 2 ${short(of2)}`, of100 <= of2];
    },
  },
  {
    // What the floor takes too is Bun's own size.
    section: "cache",
    what: "cold page cache: at most 1.2 × the floor Bun.spawn",
    outcome: (figure) => {
      const read = (name: string) => `${short(value(figure, name, 1))} MB`;
      const measured = `${timesOf(figure, spawn)}, ${read(own)} read of ${read(spawn)}`;
      return [measured, isWithin(1.2, figure, spawn)];
    },
  },
];

/** Goal, what was measured, and whether it was reached; of what was measured. */
export function goalRows(figures: Figure[]): string[][] {
  const row = (what: string, [measured, reached]: Outcome) => [
    what,
    measured,
    reached ? "reached" : "not reached",
  ];
  const rows = goals.flatMap(({ section, title = "", what, outcome }) => {
    const figure = figures.find((one) => one.section === section && one.title.startsWith(title));
    return figure && results.has(figure) ? [row(what, outcome(figure))] : [];
  });
  if (sizes) {
    const more = (sizes.own - sizes.empty) / 1e6;
    rows.push(row("executable: Bun's own size + 2 MB", [`+ ${short(more)} MB`, more <= 2]));
  }
  return [["goal", "measured", ""], ...rows];
}
