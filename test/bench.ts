// Measures `entrypoint` beside what people would use instead:
// bun test/bench.ts [SECTION…] [--markdown]
// All that is compared runs in turn (A B C A B C…). A figure is the median with its spread, and
// its ratio to bash in the same run.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const root = path.resolve(import.meta.dir, "..");
const self = path.join(root, "dist/entrypoint");
const markdown = process.argv.includes("--markdown");
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const tmp = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-bench-"));
process.on("exit", () => fs.rmSync(tmp, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));

/** One of those that are compared: what it runs, in a fresh directory. */
interface Contestant {
  name: string;
  /** The files of its working directory, and what it needs in the environment. */
  files?: Record<string, string>;
  env?: Record<string, string>;
  command: string[];
  /** Of the rounds it takes part in so many; all of them if it isn't slow. */
  rounds?: number;
  /** It gets only this share of the work, and its time is scaled up. */
  share?: number;
}

/** A row of the benchmark. */
interface Figure {
  section: string;
  name: string;
  unit: string;
  goal: string;
  rounds: number;
  contestants: () => Contestant[];
  /** The numbers of one run; `also` names those after the first. */
  measure: (contestant: Contestant, directory: string) => Promise<number[]>;
  also?: string[];
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text) process.stderr.write(`${text}\n`);
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle) - 1] ?? NaN)) / 2;
}

const short = (value: number) => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));

/** Runs it all, interleaved, and gives the rows of its table: first is what ratios refer to. */
async function run(figure: Figure): Promise<string[][]> {
  const contestants = figure.contestants();
  const results = new Map<string, number[][]>();
  for (let round = 0; round < figure.rounds; round++) {
    for (const contestant of contestants) {
      if (round >= (contestant.rounds ?? figure.rounds)) continue;
      progress(`${figure.name}: round ${round + 1} of ${figure.rounds}: ${contestant.name}`);
      const directory = fs.mkdtempSync(path.join(tmp, "run-"));
      for (const [name, text] of Object.entries(contestant.files ?? {}))
        fs.writeFileSync(path.join(directory, name), text);
      const numbers = await figure.measure(contestant, directory);
      results.set(contestant.name, [...(results.get(contestant.name) ?? []), numbers]);
      fs.rmSync(directory, { recursive: true, force: true });
    }
  }
  progress("");
  const first = (name: string) => (results.get(name) ?? []).map(([number = NaN]) => number);
  const base = first(contestants[0]?.name ?? "");
  const rows = contestants.map(({ name }) => {
    const values = first(name);
    // To the base in the same round: what slows one down slows down the other.
    const ratio = median(values.map((value, round) => value / (base[round] ?? NaN)));
    const also = (figure.also ?? []).map((_, i) =>
      short(median((results.get(name) ?? []).map((numbers) => numbers[i + 1] ?? NaN))),
    );
    const spread = `${short(Math.min(...values))} – ${short(Math.max(...values))}`;
    return [name, short(median(values)), spread, `${ratio.toFixed(2)} ×`, ...also];
  });
  return [["", figure.unit, "spread", "ratio", ...(figure.also ?? [])], ...rows];
}

function table(rows: string[][]): string {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(width(i))).join(" | ");
  const ruler = (rows[0] ?? []).map((_, i) => "-".repeat(Math.max(3, width(i)))).join(" | ");
  const [head = [], ...body] = rows;
  if (markdown) return [line(head), ruler, ...body.map(line)].map((l) => `| ${l} |\n`).join("");
  return [head, ...body]
    .map((row) => `  ${line(row).replaceAll(" | ", "   ").trimEnd()}\n`)
    .join("");
}

// ---- What is there to compare with. What isn't is installed, or named as missing.

const missing: string[] = [];

function install(name: string, command: string[]): boolean {
  progress(`installing ${name}`);
  const { success, stderr } = Bun.spawnSync(command, { stdout: "ignore", stderr: "pipe" });
  if (!success) missing.push(`${name}: ${stderr.toString().trim().split("\n").at(-1)}`);
  return success;
}

/** A program of Debian's, where it is. */
function debian(program: string, name = program): string | undefined {
  const get = ["apt-get", "install", "-y", "--no-install-recommends", name];
  return Bun.which(program) ?? (install(name, get) ? (Bun.which(program) ?? undefined) : undefined);
}

/** A program of npm's, in the newest version that this Node runs. */
function npm(name: string): string | undefined {
  const get = ["npm", "install", "--silent", "--no-save", "--prefix", tmp, name];
  return install(name, get) ? path.join(tmp, "node_modules/.bin", name) : undefined;
}

/** The processes of a Procfile under bash, which stays until the first has ended. */
const script = (...lines: string[]) => ["bash", "-c", [...lines, "wait -n"].join("\n")];

function entrypoint(name: string, lines: string[], env: Record<string, string> = {}): Contestant {
  return { name, env, files: { Procfile: `${lines.join("\n")}\n` }, command: [self] };
}

function spawn(contestant: Contestant, directory: string, command = contestant.command) {
  const { PATH = "", HOME = "" } = process.env;
  return Bun.spawn(command, {
    cwd: directory,
    env: { PATH, HOME, TMPDIR: tmp, ...contestant.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
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

/** Its output is piped into a command; after two minutes it is ended, with timeout's code, 124. */
function into(reader: string, { command }: Contestant): string[] {
  return [
    "bash",
    "-c",
    `set -o pipefail; timeout 120 "$@" 2>/dev/null | ${reader}`,
    "bash",
    ...command,
  ];
}

/** Seconds from its start until a reader that only reads has had all of it. */
async function secondsToRead(contestant: Contestant, directory: string): Promise<number[]> {
  const since = performance.now();
  const code = await spawn(contestant, directory, into("cat >/dev/null", contestant)).exited;
  if (code === 124) return [NaN];
  return [(performance.now() - since) / 1000 / (contestant.share ?? 1)];
}

/** The same, and in another run how many of the lines came, in percent. */
async function secondsAndLines(contestant: Contestant, directory: string): Promise<number[]> {
  const [seconds = NaN] = await secondsToRead(contestant, directory);
  const { stdout } = spawn(contestant, directory, into("grep -c 0123456789", contestant));
  const count = Number(await new Response(stdout).text());
  return [seconds, count / (MB * 100 * (contestant.share ?? 1))];
}

/** It would take minutes. */
function slow(name: string, program: string): Contestant {
  const files = { Procfile: `a: cat ${lines(MB / 10)}\n` };
  return {
    name: `${name}, a tenth × 10`,
    rounds: 2,
    share: 0.1,
    files,
    command: [program, "start"],
  };
}

function copiers(): Contestant[] {
  const cat = `cat ${lines(MB)}`;
  const concurrently = npm("concurrently");
  const foreman = debian("foreman", "ruby-foreman");
  return [
    { name: "bash, adds nothing", command: script(`${cat} &`) },
    { name: "bash, sed prefix", command: script(`${cat} | sed 's/^/a | /' &`) },
    entrypoint("entrypoint", [`a: ${cat}`]),
    entrypoint("entrypoint, json", [`a: ${cat}`], { ENTRYPOINT_LOG: "json" }),
    ...(concurrently
      ? [{ name: "concurrently", rounds: 2, command: [concurrently, "-n", "a", cat] }]
      : []),
    ...(foreman ? [slow("foreman", foreman)] : []),
  ];
}

/** Each ends when both have: the first exit would cut off the other's words. */
function oneOrTwo(): Contestant[] {
  const writer = (name: string, megabytes: number, other: string) =>
    `cat ${lines(megabytes)}; touch ${name}; while ! [ -e ${other} ]; do sleep 0.005; done`;
  const one = [`a: ${writer("a", MB, "a")}`];
  const two = [`a: ${writer("a", MB / 2, "b")}`, `b: ${writer("b", MB / 2, "a")}`];
  return [entrypoint("one process", one), entrypoint("two at once", two)];
}

// ---- a trickle

const TRICKLE = { every: 10, lines: 1000 };

/** A line every 10 ms, each the time at which it was written. */
const clock = `for (let i = 0; i < ${TRICKLE.lines}; i++) {
  require("fs").writeSync(1, (performance.timeOrigin + performance.now()) + "\\n");
  await Bun.sleep(${TRICKLE.every});
}
require("fs").writeSync(1, "end\\n");
await Bun.sleep(1000);
`;

/** Nanoseconds of CPU that a process has had, all its threads together. */
function cpuTime(pid: number): number {
  const tasks = fs.readdirSync(`/proc/${pid}/task`);
  const times = tasks.map((task) =>
    Number(fs.readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]),
  );
  return times.reduce((sum, time) => sum + time, 0);
}

async function latency(contestant: Contestant, directory: string): Promise<number[]> {
  const child = spawn(contestant, directory);
  const latencies: number[] = [];
  let [rest, cpuBefore, since, share] = ["", 0, 0, 0];
  for await (const chunk of child.stdout) {
    const now = performance.timeOrigin + performance.now();
    const found = (rest + Buffer.from(chunk).toString()).split("\n");
    rest = found.pop() ?? "";
    for (const line of found) {
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

function tricklers(): Contestant[] {
  const file = path.join(tmp, "clock.ts");
  fs.writeFileSync(file, clock);
  const command = `${process.execPath} ${file}`;
  const quiet = { ENTRYPOINT_READY: "0" }; // nothing listens: it would ask for 10 s
  return [
    { name: "bash, adds nothing", command: script(`${command} &`) },
    entrypoint("entrypoint", [`a: ${command}`], quiet),
    entrypoint("entrypoint, json", [`a: ${command}`], { ...quiet, ENTRYPOINT_LOG: "json" }),
  ];
}

// ---- The table of figures

const figures: Figure[] = [
  {
    section: "logs",
    name: "5 million lines of 100 bytes from one process",
    unit: "s",
    goal: "entrypoint at most 1.6 × bash, json at most 3 × text, the others at least 3 × entrypoint",
    rounds: 5,
    contestants: copiers,
    measure: secondsAndLines,
    also: ["lines that came, %"],
  },
  {
    section: "logs",
    name: "the same bytes from one process and from two",
    unit: "s",
    goal: "two no slower than one",
    rounds: 5,
    contestants: oneOrTwo,
    measure: secondsToRead,
  },
  {
    section: "logs",
    name: "a line every 10 ms for 10 s, until the reader has it",
    unit: "ms, median",
    goal: "milliseconds, and under 1% of a CPU",
    rounds: 3,
    contestants: tricklers,
    measure: latency,
    also: ["ms, worst", "% of a CPU"],
  },
];

if (!fs.existsSync(self)) throw new Error(`${self} is missing: run npm run build`);
const sections = [...new Set(figures.map(({ section }) => section))];
const unknown = wanted.filter((name) => !sections.includes(name));
if (unknown.length) throw new Error(`no section ${unknown}; there are ${sections}`);

const machine = `${os.cpus()[0]?.model.trim()}, ${os.availableParallelism()} CPUs, Linux ${os.release()}`;
console.log(`${new Date().toISOString().slice(0, 10)}, ${machine}\n`);
for (const figure of figures) {
  if (wanted.length && !wanted.includes(figure.section)) continue;
  const rows = await run(figure);
  const title = `${figure.section}: ${figure.name}`;
  console.log(
    markdown ? `**${title}** (goal: ${figure.goal})\n` : `${title}\n  goal: ${figure.goal}`,
  );
  console.log(table(rows));
}
for (const line of missing) console.log(`missing: ${line}`);
