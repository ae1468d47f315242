// Measures `entrypoint` beside what people would use instead:
// bun test/bench.ts [SECTION…] [--runs N] [--markdown]
// All that is compared runs in turn (A B C A B C…). A figure is the median with its spread, and
// its ratio to bash in the same round. --markdown writes the tables of the README.

import fs from "node:fs";
import os from "node:os";
import * as measure from "./bench/measure.ts";
import { bash, entrypoint, floors } from "./bench/peers.ts";
import {
  column,
  type Figure,
  markdown,
  ratio,
  results,
  rowsOf,
  run,
  SUMMARIES,
  short,
  summary,
  text,
  value,
} from "./bench/report.ts";
import { everyone, found, missing, start } from "./bench/run.ts";

const figures: Figure[] = [
  {
    section: "start",
    title: "from exec to both children running",
    columns: ["ms"],
    rounds: 11,
    contestants: () => [...everyone(), ...floor],
    measure: async (place) => [(await start(place)).milliseconds],
  },
  {
    section: "death",
    title: "from a child's death (SIGKILL) to the exit",
    columns: ["ms", "exit code", "children left"],
    rounds: 7,
    measure: measure.startAndKill,
  },
  {
    section: "stop",
    title: "from SIGTERM (runsvdir: SIGHUP) to the exit, children that obey at once",
    columns: ["ms", "exit code", "children left"],
    rounds: 7,
    measure: measure.startAndStop,
  },
  {
    section: "cold",
    title: "cold start through nginx to the first 200, the app needs 600 ms",
    columns: ["ms", "5xx before it"],
    rounds: 4,
    measure: measure.firstAnswer,
  },
  {
    section: "logs",
    title: "5 million lines of 100 bytes from one process",
    columns: ["s per GB"],
    rounds: 2,
    limit: 60_000,
    contestants: measure.copiers,
    measure: measure.secondsPerGB,
  },
  {
    section: "logs",
    title: "how many of these lines came",
    columns: ["%"],
    rounds: 1,
    limit: 60_000,
    contestants: measure.copiers,
    measure: measure.percentThatCame,
  },
  {
    section: "logs",
    title: "the same bytes from one process and from two",
    columns: ["s per GB"],
    rounds: 3,
    limit: 60_000,
    contestants: () => [
      { name: "one process", peer: entrypoint },
      { name: "two at once", peer: entrypoint },
    ],
    measure: measure.secondsFromOneOrTwo,
  },
  {
    section: "logs",
    title: "a line every 10 ms for 5 s, until the reader has it",
    columns: ["ms, median", "ms, worst", "% of a CPU"],
    rounds: 1,
    limit: 60_000,
    contestants: () => [{ name: bash.name, peer: bash }, ...measure.entrypoints()],
    measure: measure.latency,
  },
  {
    section: "hundred",
    title: "100 processes: start time of each",
    columns: ["ms each of 100", "ms each of 2"],
    rounds: 3,
    limit: 60_000,
    measure: measure.hundred,
  },
  {
    section: "cache",
    title: "from exec to both children running, with a cold page cache",
    columns: ["ms", "MB read"],
    rounds: 4,
    measure: measure.coldCache,
  },
  {
    // After "cache": what is resident of a file is less when it was read than when it was just written.
    section: "idle",
    title: "all but the children at rest, 8 s after the start",
    columns: ["anonymous, MiB", "resident, MiB", "wake-ups a second", "after 37 s"],
    rounds: 2,
    limit: 90_000,
    together: true,
    measure: measure.atRest,
  },
];

// ---- The goals

/** Goal, what was measured, and whether it was reached. */
function goals(): string[][] {
  const rows: string[][] = [];
  const goal = (what: string, measured: string, reached: boolean) =>
    rows.push([what, measured, reached ? "reached" : "not reached"]);
  const figure = (section: string) =>
    figures.find((one) => one.section === section && results.has(one));
  const name = entrypoint.name;
  const heavy = [...found.keys()].filter(({ runtime }) => runtime);

  const started = figure("start");
  if (started) {
    const times = ratio(started, name);
    const beside = floor
      .map((one) => `${one.name} ${short(ratio(started, one.name))} ×`)
      .join(", ");
    goal("exec to both running: at most 4 × bash", `${short(times)} × (${beside})`, times <= 4);
    const prefixing = [...found.keys()].filter((peer) => peer.prefixes && peer !== entrypoint);
    const next = prefixing
      .map((peer) => ({ peer, times: value(started, peer.name) / value(started, name) }))
      .sort((a, b) => a.times - b.times);
    const shown = next.map(({ peer, times }) => `${peer.name} ${short(times)} ×`).join(", ");
    const all = next.every(({ times }) => times >= 10);
    goal("10 times faster than any peer with prefixes", shown, all);
  }
  for (const section of ["death", "stop"]) {
    const shown = figure(section);
    if (!shown) continue;
    const own = value(shown, name);
    goal(`${section} to exit: at most 10 ms`, `${short(own)} ms`, own <= 10);
    // One that leaves its children behind has not stopped them.
    const ended = heavy.filter((peer) => value(shown, peer.name, 2) === 0);
    const times = ended.map((peer) => value(shown, peer.name) / own);
    const least = Math.min(...times);
    const what = "4 times ahead of JavaScript, Python and Ruby";
    goal(`${section}: ${what}`, `${short(least)} × or more`, least >= 4);
  }
  const cold = figure("cold");
  if (cold) {
    const later = value(cold, name) - value(cold, bash.name);
    const errors = Math.max(...column(cold, name, 1));
    const measured = `${later.toFixed(0)} ms, ${errors} 5xx`;
    goal("first 200: at most bash + 30 ms, no 5xx", measured, later <= 30 && errors === 0);
  }
  const logs = figure("logs");
  if (logs) {
    const times = ratio(logs, name);
    goal("logs: at most 1.6 × bash", `${short(times)} ×`, times <= 1.6);
  }
  const idle = figure("idle");
  if (idle) {
    const anonymous = value(idle, name, 0);
    goal("idle: at most 6 MB anonymous", `${short(anonymous)} MiB`, anonymous <= 6);
    const resident = value(idle, name, 1);
    goal("idle: at most 42 MB resident", `${short(resident)} MiB`, resident <= 42);
    const wakes = [2, 3].map((at) => value(idle, name, at));
    const shown = wakes.map(short).join(", after half a minute ");
    goal(
      "idle: 0 wake-ups a second",
      shown,
      wakes.every((number) => number === 0),
    );
  }
  const many = figure("hundred");
  if (many) {
    const [of100, of2] = [value(many, name, 0), value(many, name, 1)];
    const measured = `${short(of100)} ms each, of 2 ${short(of2)}`;
    goal("100 processes: each no slower to start than of 2", measured, of100 <= of2);
  }
  if (measure.sizes) {
    const more = (measure.sizes.own - measure.sizes.empty) / 1e6;
    goal("executable: Bun's own size + 2 MB", `+ ${short(more)} MB`, more <= 2);
  }
  return rows;
}

// ---- The command line

const words = process.argv.slice(2);
const runsAt = words.indexOf("--runs");
const runs = runsAt < 0 ? undefined : Number(words[runsAt + 1]);
const wanted = words.filter((word, i) => !word.startsWith("-") && (runsAt < 0 || i !== runsAt + 1));
const sections = [...new Set(figures.map(({ section }) => section)), "size"];
const unknown = wanted.filter((name) => !sections.includes(name));
if (unknown.length) throw new Error(`no section ${unknown}; there are ${sections}`);
if (!fs.existsSync(entrypoint.program))
  throw new Error(`${entrypoint.program} is missing: run npm run build`);
const starts = !wanted.length || wanted.includes("start");
const floor = (starts ? await floors() : []).map((peer) => ({ name: peer.name, peer }));

const asMarkdown = words.includes("--markdown");
const show = (table: string) => (asMarkdown ? console.error(table) : console.log(table));
const machine = `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} CPUs, Linux ${os.release()}`;
console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}\n`);
for (const figure of figures) {
  if (wanted.length && !wanted.includes(figure.section)) continue;
  if (figure.section === "cache" && !measure.canDropCaches()) {
    console.log("cache: not measured, only root can drop the page cache\n");
    continue;
  }
  await run(figure, runs ?? figure.rounds);
  show(`${figure.section}: ${figure.title}\n${text(rowsOf(figure))}`);
}
if (!wanted.length || wanted.includes("size")) {
  show(`size\n${text(await measure.measureSize())}`);
}
const reached = [["goal", "measured", ""], ...goals()];
if (asMarkdown)
  for (const columns of SUMMARIES) {
    const rows = summary(figures, columns);
    if ((rows[0]?.length ?? 0) > 1) console.log(markdown(rows));
  }
console.log(asMarkdown ? markdown(reached) : text(reached));
if (missing.length) console.log(`not here, so not measured: ${missing.join(", ")}`);
process.exit();
