// Starts what is compared, watches it from outside, and ends all of it.

import { randomUUID } from "node:crypto";
import fs from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { type Call, install, type Job, type Peer } from "./peers.ts";

export const tmp = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-bench-"));

export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
  else if (text) process.stderr.write(`${text}\n`);
}

export const { found, missing, PATH } = install(progress);

/** The children: each writes the clock that only goes forward (µs) and its pid, and then waits. */
const CLOCK_GETTIME = { x64: 228, arm64: 113 }[process.arch as "x64" | "arm64"];
const clock = executable(
  "clock",
  `#!/usr/bin/perl
my ($file, @command) = @ARGV;
my $time = "\\0" x 16;
syscall ${CLOCK_GETTIME}, 1, $time; # CLOCK_MONOTONIC
my ($seconds, $nanoseconds) = unpack "qq", $time;
open my $out, ">", $file;
printf $out "%d %d\\n", $seconds * 1e6 + $nanoseconds / 1e3, $$;
close $out;
@command ? exec @command : sleep;
`,
);

export function executable(name: string, text: string): string {
  const file = path.join(tmp, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  return file;
}

// Every process of a benchmark has this in its environment, and of a run its number.
const mark = `ENTRYPOINT_BENCH=${randomUUID()}`;
let runs = 0;

/**
 * What was started of a run, wherever it has gone: by its mark or, where it has written its title
 * over its environment as nginx does, by its working directory. Zombies have neither.
 */
export function processes({ mark, directory }: Pick<Place, "mark" | "directory">): number[] {
  const numbers = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return numbers.map(Number).filter((pid) => {
    try {
      const at = fs.readlinkSync(`/proc/${pid}/cwd`);
      if (at === directory || at.startsWith(`${directory}/`)) return true;
      return fs.readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark);
    } catch {
      return false;
    }
  });
}

function sweep(of: Pick<Place, "mark" | "directory">): void {
  const until = performance.now() + 5000;
  for (let left = processes(of); left.length && performance.now() < until; left = processes(of))
    for (const pid of left)
      try {
        process.kill(pid, "SIGKILL");
      } catch {} // it has gone by itself
}

process.on("exit", () => {
  sweep({ mark, directory: tmp });
  fs.rmSync(tmp, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => process.exit(1));

/** One of those that are compared. */
export interface Contestant {
  name: string;
  peer: Peer;
  env?: Record<string, string>;
  /** It gets only this share of the work, and its time is scaled up. */
  share?: number;
}

export function everyone(): Contestant[] {
  return [...found.keys()].map((peer) => ({ name: peer.name, peer }));
}

/** A contestant in a directory of its own. */
export interface Place {
  contestant: Contestant;
  directory: string;
  mark: string;
}

/** Measures it, and ends what that has left. NaN where it takes too long. */
export async function within<T>(
  limit: number,
  contestant: Contestant,
  measure: (place: Place) => Promise<T>,
): Promise<T | undefined> {
  const directory = fs.mkdtempSync(path.join(tmp, "run-"));
  const place = { contestant, directory, mark: `${mark}-${runs++}-` };
  let timer: Timer | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limit);
  });
  try {
    return await Promise.race([measure(place), late]);
  } finally {
    clearTimeout(timer);
    sweep(place);
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

export function call({ contestant, directory }: Place, jobs: Job[]): Call {
  const { peer } = contestant;
  const made = peer.call(jobs, directory, found.get(peer) ?? peer.program);
  write(directory, made.files);
  return made;
}

export function write(directory: string, files: Record<string, string> = {}): void {
  for (const [name, text] of Object.entries(files))
    executable(path.relative(tmp, path.join(directory, name)), text);
}

export function makePipe(file: string): string {
  Bun.spawnSync(["mkfifo", file]);
  return file;
}

/** What a container has as stdout and stderr: a pipe, and somebody who reads it. */
const output = makePipe(path.join(tmp, "output"));
Bun.spawn(["sh", "-c", `cat <>${output} >/dev/null`], { cwd: tmp });

export function spawn(place: Place, { command, env }: Call, stdout = output) {
  const { HOME = "" } = process.env;
  const [name = "", number = ""] = place.mark.split("=");
  const [out, err] = [fs.openSync(stdout, "w"), fs.openSync(output, "w")];
  const child = Bun.spawn(command, {
    cwd: place.directory,
    env: { PATH, HOME, TMPDIR: tmp, [name]: number, ...place.contestant.env, ...env },
    stdio: ["ignore", out, err],
  });
  fs.closeSync(out);
  fs.closeSync(err);
  return child;
}

export interface Started {
  process: Bun.Subprocess;
  milliseconds: number;
  children: number[];
}

/** Starts children that write the clock; from the exec until the last of them runs. */
export async function start(place: Place, count = 2): Promise<Started> {
  const names = Array.from({ length: count }, (_, i) => `p${i + 1}`);
  const file = (name: string) => path.join(place.directory, `clock.${name}`);
  const jobs = names.map((name) => ({ name, command: `${clock} ${file(name)}` }));
  const { command, env = {} } = call(place, jobs);
  const PORT = `${await freePort()}`;
  const child = spawn(place, { command: [clock, file("exec"), ...command], env: { PORT, ...env } });
  const written: [number, number][] = [];
  for (const name of ["exec", ...names]) written.push(await read(child, file(name)));
  const [[at] = [NaN], ...all] = written;
  const last = Math.max(...all.map(([time]) => time));
  return { process: child, milliseconds: (last - at) / 1000, children: all.map(([, pid]) => pid) };
}

async function read(child: Bun.Subprocess, file: string): Promise<[number, number]> {
  while (child.exitCode === null && child.signalCode === null) {
    const text = fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
    const [time = 0, pid = 0] = text.split(" ").map(Number);
    if (text.endsWith("\n")) return [time, pid];
    await Bun.sleep(2);
  }
  throw new Error(`it ended, ${child.exitCode ?? child.signalCode}, and ${file} is not there`);
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return typeof address === "object" && address ? address.port : 0;
}

/** Of those that are numbers. */
export function median(values: number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle) - 1] ?? NaN)) / 2;
}
