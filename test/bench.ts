// Measures `entrypoint` beside what people would use instead:
// bun test/bench.ts [SECTION…] [--runs N] [--markdown]
// All that is compared runs in turn (A B C A B C…). A figure is the median with its spread, and
// its ratio to bash in the same round. --markdown writes the tables of test/bench/README.md.

import fs from "node:fs";
import os from "node:os";
import { goalRows } from "./bench/goals.ts";
import * as measure from "./bench/measure.ts";
import { bash, entrypoint } from "./bench/peers.ts";
import { type Figure, markdown, rowsOf, run, SUMMARIES, summary, text } from "./bench/report.ts";
import { missing, start } from "./bench/run.ts";

const figures: Figure[] = [
  {
    section: "start",
    title: "from exec to both children running",
    columns: ["ms"],
    rounds: 11,
    floors: ["Bun.spawn", "spawn", "zx"],
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
    rounds: 3,
    limit: 60_000,
    contestants: measure.copiers,
    floors: ["loop", "loop with names"],
    measure: measure.secondsPerGB,
  },
  {
    section: "logs",
    title: "how many of these lines came",
    columns: ["%"],
    rounds: 1,
    limit: 60_000,
    contestants: measure.copiers,
    floors: ["loop", "loop with names"],
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
    rounds: 3,
    limit: 60_000,
    contestants: () => [{ name: bash.name, peer: bash }, ...measure.entrypoints()],
    floors: ["loop", "loop with names"],
    measure: measure.latency,
  },
  {
    section: "access",
    title: "access lines of the built-in nginx in front of Node.js, wrk -t1 -c16",
    columns: ["requests a second", "µs of our CPU for each"],
    rounds: 7,
    limit: 30_000,
    contestants: measure.entrypoints,
    measure: measure.accessLines,
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
    floors: ["Bun.spawn"],
    measure: measure.coldCache,
  },
  {
    // After "cache": what is resident of a file is less when it was read than when it was just written.
    section: "idle",
    title: "all but the children, at rest 37 s after the start",
    columns: [
      "anonymous after 1 s, MB",
      "at rest, MB",
      "resident, MB",
      "wake-ups a second",
      "after 37 s",
    ],
    rounds: 2,
    limit: 90_000,
    together: true,
    measure: measure.atRest,
  },
];

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
const reached = goalRows(figures);
if (asMarkdown)
  for (const columns of SUMMARIES) {
    const rows = summary(figures, columns);
    if ((rows[0]?.length ?? 0) > 1) console.log(markdown(rows));
  }
console.log(asMarkdown ? markdown(reached) : text(reached));
if (missing.length) console.log(`not here, so not measured: ${missing.join(", ")}`);
process.exit();
