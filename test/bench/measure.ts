// What a run of each section does, and the numbers that it gives.

import fs from "node:fs";
import path from "node:path";
import { entrypoint } from "./peers.ts";
import {
  type Contestant,
  call,
  everyone,
  executable,
  freePort,
  makePipe,
  median,
  type Place,
  processes,
  type Started,
  spawn,
  start,
  tmp,
  within,
  write,
} from "./run.ts";

const self = entrypoint.program;

// ---- start, death, stop

export async function startAndKill(place: Place): Promise<number[]> {
  return untilItEnds(place, ({ children }) => process.kill(children[0] ?? 0, "SIGKILL"));
}

export async function startAndStop(place: Place): Promise<number[]> {
  const signal = place.contestant.peer.stopSignal ?? "SIGTERM";
  return untilItEnds(place, ({ process: whole }) => whole.kill(signal));
}

/** Milliseconds, its exit code, and how many of its children live on. */
async function untilItEnds(place: Place, end: (started: Started) => void): Promise<number[]> {
  const started = await start(place);
  await Bun.sleep(100);
  const since = performance.now();
  end(started);
  const code = await started.process.exited;
  const milliseconds = performance.now() - since;
  const running = processes(place);
  return [milliseconds, code, started.children.filter((pid) => running.includes(pid)).length];
}

export async function hundred(place: Place): Promise<number[]> {
  const { milliseconds } = await start(place, 100);
  const two = await within(20_000, place.contestant, start);
  return [milliseconds / 100, (two?.milliseconds ?? NaN) / 2];
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
export async function firstAnswer(place: Place): Promise<number[]> {
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

export function entrypoints(): Contestant[] {
  const by = (log: string): Contestant => ({
    name: `${entrypoint.name}, ${log}`,
    peer: entrypoint,
    env: { ENTRYPOINT_LOG: log },
  });
  return [{ name: entrypoint.name, peer: entrypoint }, by("json"), by("raw")];
}

/** Of those that would take minutes a part is measured, and scaled up. */
const SHARES: Record<string, number> = { supervisord: 0.2, foreman: 0.04 };

export function copiers(): Contestant[] {
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

export async function secondsPerGB(place: Place): Promise<number[]> {
  const { share = 1 } = place.contestant;
  const seconds = await throughPipe(place, copy(place), "cat >/dev/null");
  return [seconds / ((MB / 1000) * share)];
}

export async function percentThatCame(place: Place): Promise<number[]> {
  await throughPipe(place, copy(place), "grep -c 0123456789 >count");
  const count = Number(fs.readFileSync(path.join(place.directory, "count"), "utf8"));
  return [count / (MB * 100 * (place.contestant.share ?? 1))];
}

/** Each ends when both have: the first exit would cut off the other's words. */
export async function secondsFromOneOrTwo(place: Place): Promise<number[]> {
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

export async function latency(place: Place): Promise<number[]> {
  const made = call(place, [{ name: "a", command: `${process.execPath} ${ticker}` }]);
  const env = { ...made.env, ENTRYPOINT_READY: "0" }; // nothing listens: it would ask for 10 s
  const pipe = makePipe(path.join(place.directory, "lines"));
  const { O_RDWR, O_NONBLOCK } = fs.constants;
  const lines = fs.openSync(pipe, O_RDWR | O_NONBLOCK);
  const child = spawn(place, { ...made, env }, pipe);
  const cpu = () => sum(cpuTimes(child.pid).values());
  const latencies: number[] = [];
  let [rest, cpuBefore, since, share] = ["", 0, 0, NaN];
  for await (const chunk of Bun.file(lines).stream()) {
    const now = performance.timeOrigin + performance.now();
    const whole = (rest + Buffer.from(chunk).toString()).split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) {
      const [written] = /\d{13}(\.\d+)?/.exec(line) ?? [];
      if (written) latencies.push(now - Number(written));
      if (latencies.length === 50) [cpuBefore, since] = [cpu(), performance.now()];
      if (/\bend\b/.test(line)) share = (cpu() - cpuBefore) / 1e4 / (performance.now() - since);
    }
    if (!Number.isNaN(share)) break;
  }
  fs.closeSync(lines);
  const steady = latencies.slice(50); // without the start
  return [median(steady), Math.max(...steady), share];
}

/** An app that answers at once, so that nginx writes as many lines as it can. */
const server = executable(
  "server.cjs",
  `require("http").createServer((_, answer) => answer.end("ok\\n")).listen(process.env.PORT);
`,
);

/** Requests a second through the built-in nginx, and microseconds of our CPU for each. */
export async function accessLines(place: Place): Promise<number[]> {
  const [port, appPort] = [await freePort(), await freePort()];
  const env = { PORT: `${port}`, APP_PORT: `${appPort}` };
  const whole = spawn(place, { command: [self, "node", server], env });
  const url = `http://127.0.0.1:${port}/`;
  while (!(await fetch(url).catch(() => undefined))?.ok) await Bun.sleep(5);
  const before = sum(cpuTimes(whole.pid).values());
  const wrk = Bun.spawn(["wrk", "-t1", "-c16", "-d4", url], { cwd: place.directory });
  const shown = await new Response(wrk.stdout).text();
  const cpu = sum(cpuTimes(whole.pid).values()) - before;
  const [, requests] = /(\d+) requests in/.exec(shown) ?? [];
  return [Number(requests) / 4, cpu / 1000 / Number(requests)];
}

// ---- idle

/** A number of each thread. */
function ofThreads(pid: number, file: string, find: (text: string) => number): Map<string, number> {
  const tasks = fs.readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
  return new Map(tasks.map((task) => [task, find(fs.readFileSync(`${task}/${file}`, "utf8"))]));
}

const sum = (values: Iterable<number>) => [...values].reduce((all, value) => all + value, 0);

/** Nanoseconds of CPU that each thread has had. */
const cpuTimes = (pid: number) => ofThreads(pid, "schedstat", (text) => Number(text.split(" ")[0]));

/** How often each thread has gone to sleep, and so been woken. */
const sleeps = (pid: number) =>
  ofThreads(pid, "status", (text) => Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(text)?.[1]));

function kilobytes(pid: number, field: string): number {
  const text = fs.readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(new RegExp(`^${field}:\\s*(\\d+)`, "m").exec(text)?.[1]);
}

/** How often a thread of these processes was woken, each second. One that ends meanwhile is not counted. */
async function wakeUps(seconds: number, own: number[]): Promise<number> {
  const before = own.map(sleeps);
  await Bun.sleep(seconds * 1000);
  const more = own.map((pid, i) =>
    sum([...sleeps(pid)].map(([task, count]) => count - (before[i]?.get(task) ?? 0))),
  );
  return sum(more) / seconds;
}

export async function atRest(place: Place): Promise<number[]> {
  place.contestant.env = { ENTRYPOINT_READY: "0" }; // nothing listens: it would ask for 10 s
  const { children } = await start(place);
  const others = () => processes(place).filter((pid) => !children.includes(pid));
  const megabytes = (field: string, of: number[]) =>
    (sum(of.map((pid) => kilobytes(pid, field))) * 1024) / 1e6;
  await Bun.sleep(1000);
  const atFirst = megabytes("Anonymous", others());
  await Bun.sleep(1000);
  const own = others();
  const wakesAtFirst = await wakeUps(6, own);
  await Bun.sleep(29_000); // Bun looks once a second whether to collect garbage, for half a minute
  const [anonymous, resident] = [megabytes("Anonymous", own), megabytes("Rss", own)];
  return [atFirst, anonymous, resident, wakesAtFirst, await wakeUps(8, own)];
}

// ---- cache

function megabytesRead(): number {
  const text = fs.readFileSync("/proc/vmstat", "utf8");
  return (Number(/^pgpgin (\d+)/m.exec(text)?.[1]) * 1024) / 1e6;
}

export function canDropCaches(): boolean {
  try {
    fs.accessSync("/proc/sys/vm/drop_caches", fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

export async function coldCache(place: Place): Promise<number[]> {
  Bun.spawnSync(["sync"]);
  fs.writeFileSync("/proc/sys/vm/drop_caches", "3");
  const before = megabytesRead();
  const { milliseconds } = await start(place);
  return [milliseconds, megabytesRead() - before];
}

// ---- size

export let sizes: { own: number; empty: number } | undefined;

export async function measureSize(): Promise<string[][]> {
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
  return rows;
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
