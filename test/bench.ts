// Measures `entrypoint` beside what people would use instead:
// bun test/bench.ts [SECTION…] [--runs N] [--markdown]
// All that is compared runs in turn (A B C A B C…). A figure is the median with its spread, and
// its ratio to bash in the same round. --markdown writes the tables of the README.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { bash, entrypoint } from "./bench/peers.ts";
import {
  type Contestant,
  call,
  everyone,
  executable,
  found,
  freePort,
  missing,
  type Place,
  processes,
  progress,
  spawn,
  start,
  tmp,
  within,
  write,
} from "./bench/run.ts";

const self = entrypoint.program;

/** A row of the benchmark: a table on the terminal. */
interface Figure {
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
  measure: (place: Place) => Promise<number[]>;
}

const figures: Figure[] = [
  {
    section: "start",
    title: "from exec to both children running",
    columns: ["ms"],
    rounds: 15,
    measure: async (place) => [(await start(place)).milliseconds],
  },
  {
    section: "death",
    title: "from a child's death (SIGKILL) to the exit",
    columns: ["ms", "exit code", "children left"],
    rounds: 9,
    measure: async (place) => {
      const { process: whole, children } = await start(place);
      await Bun.sleep(100);
      const since = performance.now();
      process.kill(children[0] ?? 0, "SIGKILL");
      const code = await whole.exited;
      return [performance.now() - since, code, left(place, children)];
    },
  },
  {
    section: "stop",
    title: "from SIGTERM (runsvdir: SIGHUP) to the exit, children that obey at once",
    columns: ["ms", "exit code", "children left"],
    rounds: 9,
    measure: async (place) => {
      const { process: whole, children } = await start(place);
      await Bun.sleep(100);
      const since = performance.now();
      whole.kill(place.contestant.peer.stopSignal ?? "SIGTERM");
      const code = await whole.exited;
      return [performance.now() - since, code, left(place, children)];
    },
  },
  {
    section: "cold",
    title: "cold start through nginx to the first 200, the app needs 600 ms",
    columns: ["ms", "5xx before it"],
    rounds: 5,
    measure: firstAnswer,
  },
  {
    section: "logs",
    title: "5 million lines of 100 bytes from one process",
    columns: ["s per GB"],
    rounds: 2,
    limit: 120_000,
    contestants: copiers,
    measure: secondsPerGB,
  },
  {
    section: "logs",
    title: "how many of these lines came",
    columns: ["%"],
    rounds: 1,
    limit: 120_000,
    contestants: copiers,
    measure: percentThatCame,
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
    measure: secondsFromOneOrTwo,
  },
  {
    section: "logs",
    title: "a line every 10 ms for 5 s, until the reader has it",
    columns: ["ms, median", "ms, worst", "% of a CPU"],
    rounds: 1,
    limit: 60_000,
    contestants: () => [{ name: bash.name, peer: bash }, ...entrypoints()],
    measure: latency,
  },
  {
    section: "idle",
    title: "all but the children at rest, 8 s after the start",
    columns: ["anonymous, MiB", "resident, MiB", "wake-ups a second", "after 37 s", "% of a CPU"],
    rounds: 2,
    limit: 90_000,
    together: true,
    measure: atRest,
  },
  {
    section: "hundred",
    title: "100 processes: start time of each",
    columns: ["ms each of 100", "ms each of 2"],
    rounds: 3,
    limit: 60_000,
    measure: async (place) => {
      const hundred = await start(place, 100);
      const two = await within(20_000, place.contestant, start);
      return [hundred.milliseconds / 100, (two?.milliseconds ?? NaN) / 2];
    },
  },
  {
    section: "cache",
    title: "from exec to both children running, with a cold page cache",
    columns: ["ms", "MB read"],
    rounds: 4,
    measure: async (place) => {
      Bun.spawnSync(["sync"]);
      fs.writeFileSync("/proc/sys/vm/drop_caches", "3");
      const before = megabytesRead();
      const { milliseconds } = await start(place);
      return [milliseconds, megabytesRead() - before];
    },
  },
];

function left({ mark }: Place, children: number[]): number {
  const running = processes(mark);
  return children.filter((pid) => running.includes(pid)).length;
}

// ---- cold

const app = executable(
  "app",
  `#!/usr/bin/perl
use IO::Socket::INET;
select undef, undef, undef, 0.6;
$SIG{PIPE} = "IGNORE";
my $port = $ARGV[0] // $ENV{PORT};
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 64);
while (my $client = $server->accept) {
  sysread $client, my $request, 65536;
  print $client "HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\nConnection: close\\r\\n\\r\\nok\\n";
}
`,
);

function nginxConf(directory: string, port: number, appPort: number): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `${name}_temp_path ${directory}/${name};`,
  );
  return `daemon off;
pid ${directory}/nginx.pid;
events {}
http {
  access_log off;
  ${temporary.join("\n  ")}
  server {
    listen ${port};
    location / { proxy_pass http://127.0.0.1:${appPort}; }
  }
}
`;
}

/** Asks until the answer is 200, and counts what was worse than no answer. */
async function firstAnswer(place: Place): Promise<number[]> {
  const { contestant, directory } = place;
  const [port, appPort] = [await freePort(), await freePort()];
  write(directory, { "nginx.conf": nginxConf(directory, port, appPort) });
  const jobs = [
    { name: "nginx", command: `nginx -e stderr -c ${directory}/nginx.conf` },
    { name: "app", command: `${app} ${appPort}` },
  ];
  const env = { PORT: `${port}`, APP_PORT: `${appPort}` };
  const made = contestant.peer === entrypoint ? { command: [self, app], env } : call(place, jobs);
  const since = performance.now();
  const whole = spawn(place, made);
  let errors = 0;
  while (whole.exitCode === null && whole.signalCode === null) {
    const status = await fetch(`http://127.0.0.1:${port}/`, { keepalive: false }).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return [performance.now() - since, errors];
    if (status >= 500) errors++;
    await Bun.sleep(2);
  }
  throw new Error("it ended before it answered");
}

// ---- logs

const MB = 500; // 5 million lines of 100 bytes

/** Made once: lines of 100 bytes. */
function lines(megabytes: number): string {
  const file = path.join(tmp, `lines-${megabytes}`);
  if (fs.existsSync(file)) return file;
  const block = `${"0123456789".repeat(10).slice(1)}\n`.repeat(10_000);
  const fd = fs.openSync(file, "w");
  for (let written = 0; written < megabytes; written++) fs.writeSync(fd, block);
  fs.closeSync(fd);
  return file;
}

function entrypoints(): Contestant[] {
  const json = { ENTRYPOINT_LOG: "json" };
  return [
    { name: entrypoint.name, peer: entrypoint },
    { name: `${entrypoint.name}, json`, peer: entrypoint, env: json },
  ];
}

/** Of those that would take minutes a part is measured, and scaled up. */
const SHARES: Record<string, number> = { supervisord: 0.2, foreman: 0.04 };

function copiers(): Contestant[] {
  return everyone().flatMap((contestant) => {
    if (contestant.peer === entrypoint) return entrypoints();
    const share = SHARES[contestant.name];
    return share
      ? { ...contestant, name: `${contestant.name} (${MB * share} MB)`, share }
      : contestant;
  });
}

/** The whole command, timed by hyperfine, with its output in a pipe to a reader. */
async function throughPipe(place: Place, command: string[], reader: string): Promise<number> {
  const quoted = command.map((word) => `'${word}'`).join(" ");
  write(place.directory, { pipe: `${quoted} 2>/dev/null | ${reader}\n` });
  const time = ["--runs", "1", "-N", "-i", "--export-json", "times", "bash pipe"];
  await spawn(place, { command: ["hyperfine", ...time] }).exited;
  const { results } = JSON.parse(fs.readFileSync(path.join(place.directory, "times"), "utf8"));
  return results[0].times[0];
}

function copy(place: Place): string[] {
  const { env, share = 1 } = place.contestant;
  const made = call(place, [{ name: "a", command: `cat ${lines(MB * share)}` }]);
  const all = Object.entries({ ...env, ...made.env });
  return ["env", ...all.map(([name, value]) => `${name}=${value}`), ...made.command];
}

async function secondsPerGB(place: Place): Promise<number[]> {
  const { share = 1 } = place.contestant;
  const seconds = await throughPipe(place, copy(place), "cat >/dev/null");
  return [seconds / ((MB / 1000) * share)];
}

async function percentThatCame(place: Place): Promise<number[]> {
  await throughPipe(place, copy(place), "grep -c 0123456789 >count");
  const count = Number(fs.readFileSync(path.join(place.directory, "count"), "utf8"));
  return [count / (MB * 100 * (place.contestant.share ?? 1))];
}

/** Each ends when both have: the first exit would cut off the other's words. */
async function secondsFromOneOrTwo(place: Place): Promise<number[]> {
  const writer = (name: string, megabytes: number, other: string) =>
    `cat ${lines(megabytes)}; touch ${name}; while ! [ -e ${other} ]; do sleep 0.005; done`;
  const two = [
    { name: "a", command: writer("a", MB / 2, "b") },
    { name: "b", command: writer("b", MB / 2, "a") },
  ];
  const one = [{ name: "a", command: writer("a", MB, "a") }];
  const made = call(place, place.contestant.name.startsWith("two") ? two : one);
  return [(await throughPipe(place, made.command, "cat >/dev/null")) / (MB / 1000)];
}

/** A line every 10 ms, each the time at which it was written. */
const ticker = executable(
  "ticker.ts",
  `for (let i = 0; i < 500; i++) {
  require("fs").writeSync(1, (performance.timeOrigin + performance.now()) + "\\n");
  await Bun.sleep(10);
}
require("fs").writeSync(1, "end\\n");
await Bun.sleep(1000);
`,
);

async function latency(place: Place): Promise<number[]> {
  const made = call(place, [{ name: "a", command: `${process.execPath} ${ticker}` }]);
  const env = { ...made.env, ENTRYPOINT_READY: "0" }; // nothing listens: it would ask for 10 s
  const child = spawn(place, { ...made, env }, "pipe");
  const latencies: number[] = [];
  let [rest, cpuBefore, since, share] = ["", 0, 0, 0];
  for await (const chunk of child.stdout ?? []) {
    const now = performance.timeOrigin + performance.now();
    const whole = (rest + Buffer.from(chunk).toString()).split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) {
      const [written] = /\d{13}(\.\d+)?/.exec(line) ?? [];
      if (written) latencies.push(now - Number(written));
      if (latencies.length === 50) [cpuBefore, since] = [cpuTime(child.pid), performance.now()];
      if (/\bend\b/.test(line))
        share = (cpuTime(child.pid) - cpuBefore) / 1e4 / (performance.now() - since);
    }
  }
  await child.exited;
  const steady = latencies.slice(50); // without the start
  return [median(steady), Math.max(...steady), share];
}

// ---- idle

function ofThreads(pid: number, file: string, find: (text: string) => number): number {
  const tasks = fs.readdirSync(`/proc/${pid}/task`);
  return sum(
    tasks.map((task) => find(fs.readFileSync(`/proc/${pid}/task/${task}/${file}`, "utf8"))),
  );
}

const sum = (values: number[]) => values.reduce((all, value) => all + value, 0);

/** Nanoseconds of CPU that a process has had. */
const cpuTime = (pid: number) => ofThreads(pid, "schedstat", (text) => Number(text.split(" ")[0]));

/** How often its threads have gone to sleep, and so been woken. */
const sleeps = (pid: number) =>
  ofThreads(pid, "status", (text) => Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(text)?.[1]));

function kilobytes(pid: number, field: string): number {
  const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(new RegExp(`^${field}:\\s*(\\d+)`, "m").exec(text)?.[1]);
}

/** Of these processes since that state: how often a thread of theirs was woken, and their CPU, each second. */
async function during(seconds: number, own: number[]): Promise<[number, number]> {
  const [wakesBefore, cpuBefore] = [own.map(sleeps), sum(own.map(cpuTime))];
  await Bun.sleep(seconds * 1000);
  // Threads that have ended by now are not counted.
  const wakes = own.map((pid, i) => Math.max(0, sleeps(pid) - (wakesBefore[i] ?? 0)));
  return [sum(wakes) / seconds, (sum(own.map(cpuTime)) - cpuBefore) / 1e7 / seconds];
}

async function atRest(place: Place): Promise<number[]> {
  place.contestant.env = { ENTRYPOINT_READY: "0" }; // nothing listens: it would ask for 10 s
  const { children } = await start(place);
  await Bun.sleep(2000);
  const own = processes(place.mark).filter((pid) => !children.includes(pid));
  const [wakesAtFirst] = await during(6, own);
  const memory = (field: string) => sum(own.map((pid) => kilobytes(pid, field))) / 1024;
  const [anonymous, resident] = [memory("Anonymous"), memory("Rss")];
  await Bun.sleep(29_000); // Bun looks once a second whether to collect garbage, for half a minute
  const [wakes, cpu] = await during(8, own);
  return [anonymous, resident, wakesAtFirst, wakes, cpu];
}

// ---- cache

function megabytesRead(): number {
  const text = fs.readFileSync("/proc/vmstat", "utf8");
  return (Number(/^pgpgin (\d+)/m.exec(text)?.[1]) * 1024) / 1e6;
}

function canDropCaches(): boolean {
  try {
    fs.accessSync("/proc/sys/vm/drop_caches", fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

// ---- What came out of it

type Results = Map<string, number[][]>;
const results = new Map<Figure, Results>();

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle) - 1] ?? NaN)) / 2;
}

/** Runs it all, interleaved. One that hangs is not tried again. */
async function run(figure: Figure, rounds: number): Promise<void> {
  const contestants = figure.contestants?.() ?? everyone();
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

/** The numbers of a column, round by round; none where it hung. */
function column(figure: Figure, name: string, at = 0): number[] {
  const rounds = results.get(figure)?.get(name) ?? [];
  return rounds.every((numbers) => numbers.length) ? rounds.map((all) => all[at] ?? NaN) : [];
}

const value = (figure: Figure, name: string, at = 0) => median(column(figure, name, at));

/** To bash in the same round: what slows one down slows down the other. */
function ratio(figure: Figure, name: string, at = 0): number {
  const first = results.get(figure)?.keys().next().value ?? "";
  const base = column(figure, first, at);
  return median(column(figure, name, at).map((one, round) => one / (base[round] ?? NaN)));
}

function short(number: number): string {
  if (number === 0) return "0";
  return number >= 100 ? number.toFixed(0) : number.toPrecision(number < 1 ? 2 : 3);
}

const times = (number: number) => (Number.isFinite(number) ? `${short(number)} ×` : "");

function spread(values: number[]): string {
  return `${short(Math.min(...values))} – ${short(Math.max(...values))}`;
}

function rowsOf(figure: Figure): string[][] {
  const [first = "", ...others] = figure.columns;
  const rows = [...(results.get(figure)?.keys() ?? [])].map((name) => {
    const values = column(figure, name);
    if (!values.length) return [name, "hangs"];
    const also = others.map((_, i) => short(value(figure, name, i + 1)));
    return [name, short(median(values)), spread(values), times(ratio(figure, name)), ...also];
  });
  return [["", first, "spread", "ratio", ...others], ...rows];
}

function text(rows: string[][]): string {
  const width = (at: number) => Math.max(...rows.map((row) => row[at]?.length ?? 0));
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(width(i))).join("   ");
  return rows.map((row) => `  ${line(row).trimEnd()}\n`).join("");
}

function markdown([head = [], ...body]: string[][]): string {
  const rows = [head, head.map(() => "---"), ...body];
  return rows.map((row) => `| ${head.map((_, i) => row[i] ?? "").join(" | ")} |\n`).join("");
}

/** The README's tables: a row for each contestant, a column for each of these. */
const SUMMARIES: [string, number][][] = [
  [
    ["start", 0],
    ["death", 0],
    ["stop", 0],
    ["cold", 0],
    ["cold", 1],
  ],
  [
    ["logs", 0],
    ["idle", 0],
    ["idle", 1],
    ["idle", 2],
    ["idle", 3],
    ["cache", 0],
  ],
];

const HEADS: Record<string, string[]> = {
  start: ["exec to both running, ms"],
  death: ["death to exit, ms"],
  stop: ["stop to exit, ms"],
  cold: ["first 200, ms", "5xx before it"],
  logs: ["logs, s per GB"],
  idle: ["idle, MiB anonymous", "idle, MiB resident", "wake-ups a second", "after 37 s"],
  cache: ["start, cold page cache, ms"],
};

function summary(columns: [string, number][]): string[][] {
  const shown = columns.flatMap(([section, at]) => {
    const figure = figures.find((one) => one.section === section);
    return figure && results.has(figure) ? [{ figure, at }] : [];
  });
  const head = shown.map(({ figure, at }) => HEADS[figure.section]?.[at] ?? "");
  const rows = everyone().map(({ name }) => [
    name,
    ...shown.map(({ figure, at }) => {
      const full = [...(results.get(figure)?.keys() ?? [])].find(
        (key) => key === name || key.startsWith(`${name} (`),
      );
      const values = column(figure, full ?? name, at);
      if (!values.length) return "never";
      const after = at === 0 ? `, ${times(ratio(figure, full ?? name))}` : "";
      return `${short(median(values))}${at === 0 ? ` (${spread(values).replaceAll(" ", "")}${after})` : ""}`;
    }),
  ]);
  return [["", ...head], ...rows];
}

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
    goal("exec to both running: at most 4 × bash", `${short(times)} ×`, times <= 4);
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
  const hundred = figure("hundred");
  if (hundred) {
    const [of100, of2] = [value(hundred, name, 0), value(hundred, name, 1)];
    const measured = `${short(of100)} ms each, of 2 ${short(of2)}`;
    goal("100 processes: each no slower to start than of 2", measured, of100 <= of2);
  }
  if (sizes) {
    const more = (sizes.own - sizes.empty) / 1e6;
    goal("executable: Bun's own size + 2 MB", `+ ${short(more)} MB`, more <= 2);
  }
  return rows;
}

// ---- size

let sizes: { own: number; empty: number } | undefined;

async function measureSize(): Promise<string> {
  const empty = path.join(tmp, "empty");
  const source = executable("empty.ts", "");
  await Bun.build({ entrypoints: [source], compile: { outfile: empty } });
  sizes = { own: fs.statSync(self).size, empty: fs.statSync(empty).size };
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  const rows = [
    ["dist/entrypoint", megabytes(sizes.own)],
    ["an empty program, compiled", megabytes(sizes.empty)],
    ...imageParts(),
  ];
  return text(rows);
}

/** The layers of the image, if Docker answers and the image was built. */
function imageParts(): string[][] {
  const format = ["--format", "{{.Size}}\t{{.CreatedBy}}"];
  const docker = Bun.which("docker");
  const history = docker ? Bun.spawnSync([docker, "history", ...format, "entrypoint"]) : undefined;
  if (!history?.success) return [["the image", "not measured: no Docker, or not built"]];
  return history.stdout
    .toString()
    .split("\n")
    .filter((line) => line && !line.startsWith("0B"))
    .map((line) => line.split("\t").toReversed())
    .map(([what = "", size = ""]) => [`layer: ${what.slice(0, 60)}`, size]);
}

// ---- The command line

const words = process.argv.slice(2);
const runsAt = words.indexOf("--runs");
const runs = runsAt < 0 ? undefined : Number(words[runsAt + 1]);
const wanted = words.filter((word, i) => !word.startsWith("-") && (runsAt < 0 || i !== runsAt + 1));
const sections = [...new Set(figures.map(({ section }) => section)), "size"];
const unknown = wanted.filter((name) => !sections.includes(name));
if (unknown.length) throw new Error(`no section ${unknown}; there are ${sections}`);
if (!fs.existsSync(self)) throw new Error(`${self} is missing: run npm run build`);

const asMarkdown = words.includes("--markdown");
const show = (table: string) => (asMarkdown ? console.error(table) : console.log(table));
const machine = `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} CPUs, Linux ${os.release()}`;
console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}\n`);
for (const figure of figures) {
  if (wanted.length && !wanted.includes(figure.section)) continue;
  if (figure.section === "cache" && !canDropCaches()) {
    console.log("cache: not measured, only root can drop the page cache\n");
    continue;
  }
  await run(figure, runs ?? figure.rounds);
  show(`${figure.section}: ${figure.title}\n${text(rowsOf(figure))}`);
}
if (!wanted.length || wanted.includes("size")) {
  show(`size\n${await measureSize()}`);
}
const reached = [["goal", "measured", ""], ...goals()];
if (asMarkdown)
  for (const columns of SUMMARIES) {
    const rows = summary(columns);
    if ((rows[0]?.length ?? 0) > 1) console.log(markdown(rows));
  }
console.log(asMarkdown ? markdown(reached) : text(reached));
if (missing.length) console.log(`not here, so not measured: ${missing.join(", ")}`);
process.exit();
