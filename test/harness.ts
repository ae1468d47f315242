// Starts `entrypoint` as a user does, in each of its forms, and watches it from outside: what it
// writes, when it ends, and that it leaves nothing behind.

import { dlopen, ptr } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import os from "node:os";
import path from "node:path";
import { scripts } from "../package.json";

export interface Runtime {
  name: string;
  command: string[];
  /** A folder in front of PATH. */
  path?: string;
  env?: Record<string, string>;
  /** Whether a section is tried on it; without this, each is. */
  isFor?: (section: string) => boolean;
}

export const root = path.resolve(import.meta.dir, "..");
export const bun = process.execPath;
export const demoApp = path.join(import.meta.dir, "app.ts");
export const staticFiles = path.join(import.meta.dir, "static");
export const node = path.join(root, "node_modules/.bin/node");
export const isRoot = process.getuid?.() === 0;

/** Where Debian's programs are: its python3, not one of this machine. */
export const SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin";
export const python = Bun.which("python3", { PATH: SYSTEM }) ?? "python3";

export const compiled: Runtime = {
  name: "compiled",
  command: [path.join(root, "dist/entrypoint")],
};

const busybox = path.join(root, "dist/busybox"); // its sh is BusyBox's

const [arch, machine] = process.arch === "arm64" ? ["arm64", "aarch64"] : ["x64", "x86_64"];

/** Where a runtime makes a difference: how it starts processes, hears signals, reads and writes. */
const core = ["the environment", "start", "the race", "signals", "raw", "a pipe"];

/** Where both executables do the same: the one script, by the one engine, and the one nginx. */
const scriptOnly = [
  ...["command line", "colour", "json", "random bytes", "big objects", "scale", "while it runs,"],
  ...["a configuration of one's own", "/static/", "what the app answers", "nginx's access lines"],
  ...["nginx's error lines", "three hundred lines", "the Procfile", "nginx", "traces"],
];

function among(...sections: string[]): (section: string) => boolean {
  return (section) => sections.includes(section);
}

/** For Alpine, with what Alpine has. test/musl.sh makes it; only this loader looks there. */
const musl: Runtime = {
  name: "musl",
  command: [
    ...[`/lib/ld-musl-${machine}.so.1`, "--library-path", path.join(root, "dist/musl")],
    path.join(root, `dist/entrypoint-linux-${arch}-musl`),
  ],
  path: busybox,
  isFor: (section) => !scriptOnly.includes(section),
};

const source = path.join(root, "entrypoint.ts");
const bundle = path.join(root, "dist/entrypoint.mjs");

/** What the program runs as. ENTRYPOINT_TEST_RUNTIME names one of them to try only that. */
export const runtimes: Runtime[] = [
  compiled,
  {
    ...compiled, // where memory is never executable, as SELinux or a seccomp profile may have it
    name: "compiled, without JIT",
    env: { BUN_JSC_useJIT: "0" },
    isFor: among("start", "signals", "logs", "a pipe"), // without a C library to call
  },
  musl,
  { name: "bun", command: [bun, source], isFor: among("start", "signals") }, // compiled is the same
  { name: "node", command: [node, source], isFor: among("start") }, // the one file is the same
  {
    name: "deno",
    command: [
      path.join(root, "node_modules/.bin/deno"),
      ...scripts.deno.split(" ").slice(1, -1),
      source,
    ],
    isFor: among(...core, "the Procfile", "stop", "nginx"), // it sees nothing of /proc
  },
  {
    name: "node, one file",
    command: [node, bundle],
    // V8 has regular expressions of its own
    isFor: among(...core, "a flood", "logs", "a reader", "colour", "json", "traces"),
  },
].filter(({ name }) => name === (process.env.ENTRYPOINT_TEST_RUNTIME ?? name));

export const binaries = runtimes.filter(({ name }) => name === "compiled" || name === "musl");

/** Deno's stdout blocks while its reader stalls, and its children hold their pipes twice. */
export const withoutDeno = runtimes.filter(({ name }) => name !== "deno");

/** Deno lets nobody read /proc without -A, nor connect to what is not allowed by name. */
export const tellsProc = withoutDeno;

/** Node and Deno block while a terminal stalls that they write to. */
export const onBun = runtimes.filter(({ name }) => !/^(node|deno)/.test(name));

/** Whether we may make namespaces: root can, but not in a container. */
export const hasNamespaces =
  Bun.spawnSync(["unshare", "--pid", "--mount", "--fork", "true"]).exitCode === 0;

export const hasIPv6 = Object.values(os.networkInterfaces())
  .flat()
  .some((address) => address?.family === "IPv6");

/** No event that a test waits for takes this long, however busy the machine is. */
const PATIENCE = 60_000;

const libc = dlopen("libc.so.6", { pipe2: { args: ["ptr", "i32"], returns: "i32" } });

/** A real pipe, as Docker gives one to a container: what the runtimes call "pipe" is a socket. */
export function pipe(): { read: number; write: number } {
  const fds = new Int32Array(2);
  const O_CLOEXEC = 0o2000000;
  if (libc.symbols.pipe2(ptr(fds), O_CLOEXEC) !== 0) throw new Error("pipe2 failed");
  const [read = -1, write = -1] = fds;
  return { read, write };
}

export async function within<T>(what: string, promise: Promise<T>, ms = PATIENCE): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until the answer is neither undefined nor false. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  ms = PATIENCE,
): Promise<T> {
  const end = performance.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`);
    await Bun.sleep(5);
  }
}

/** Ports that are free now, below the range from which the kernel takes those of clients. */
let nextPort = 10_000 + Math.floor(Math.random() * 20_000);
export async function freePort(): Promise<number> {
  for (;;) {
    const port = nextPort++;
    if (nextPort > 32_000) nextPort = 10_000;
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

/** Listens as a stranger would, on a port that is free, and hangs up on who connects. */
export function occupy(hostname: string, wanted = 0): { port: number; stop: () => void } {
  const open = (client: Bun.Socket) => client.terminate();
  const socket = { open, data() {}, error() {} };
  const server = Bun.listen({ hostname, port: wanted, socket });
  return { port: server.port, stop: () => server.stop(true) };
}

/** The fenced blocks of a page, of one language. */
export function fences(page: string, language: string): string[] {
  const text = fs.readFileSync(path.join(root, page), "utf8");
  const blocks = text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"));
  return [...blocks].map(([, block = ""]) => block);
}

// ---- Processes, as /proc shows them

interface Process {
  pid: number;
  ppid: number;
  pgrp: number;
  state: string;
  started: string;
}

function readProcess(pid: number): Process | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state = "", ppid, pgrp] = fields;
    return { pid, state, ppid: Number(ppid), pgrp: Number(pgrp), started: fields[19] ?? "" };
  } catch {
    return undefined;
  }
}

/** All processes that live: zombies are their parent's business. */
function livingProcesses(): Process[] {
  return fs
    .readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(Number(name)) ?? [])
    .filter(({ state }) => state !== "Z" && state !== "X");
}

export function unlessGone<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

export function isAlive(pid: number): boolean {
  const process = readProcess(pid);
  return process !== undefined && process.state !== "Z" && process.state !== "X";
}

export function commandLine(pid: number): string {
  const words = unlessGone(() => fs.readFileSync(`/proc/${pid}/cmdline`, "utf8"), "");
  return words.replaceAll("\0", " ").trim();
}

export function residentKilobytes(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
}

// ---- What a program writes

/** The bytes of one stream, in chunks as they arrive, and its lines. */
class Output {
  private chunks: Uint8Array[] = [];
  private rest = "";
  private decoder = new TextDecoder();
  readonly lines: string[] = [];
  ended: Promise<void> = Promise.resolve();

  private readonly changed: () => void;

  constructor(changed: () => void) {
    this.changed = changed;
  }

  read(fd: number): void {
    this.ended = this.pump(fd);
  }

  private async pump(fd: number): Promise<void> {
    for await (const chunk of Bun.file(fd).stream()) {
      this.chunks.push(chunk);
      const lines = (this.rest + this.decoder.decode(chunk, { stream: true })).split("\n");
      this.rest = lines.pop() ?? "";
      this.lines.push(...lines);
      this.changed();
    }
    fs.closeSync(fd);
    if (this.rest !== "") this.lines.push(this.rest);
    this.rest = "";
    this.changed();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  get size(): number {
    return this.chunks.reduce((sum, { length }) => sum + length, 0);
  }

  get text(): string {
    return this.bytes.toString();
  }
}

// ---- One run of the program

export interface Options {
  runtime?: Runtime;
  env?: Record<string, string>;
  /** A command that runs the program: `setpriv …`, `script …`. */
  wrap?: (command: string[]) => string[];
  /** What is not to be read is left in its pipe until `read()` or `hangUp()`. */
  unread?: "stdout" | "stderr";
}

export interface End {
  /** As the shell has it: 128+n if signal n killed it. */
  code: number;
  /** Milliseconds from the start to the end, and from the last signal sent to the end. */
  ms: number;
  stopMs: number;
}

export class Run {
  private waiters = new Set<() => void>();
  private readonly changed = () => {
    for (const waiter of this.waiters) waiter();
  };
  readonly stdout = new Output(this.changed);
  readonly stderr = new Output(this.changed);
  private readonly process: Bun.Subprocess;
  private readonly started = performance.now();
  private signalled = this.started;
  private readonly ended: Promise<End>;
  private readonly unread: Options["unread"];
  private unreadFd: number | undefined;
  readonly descendants = new Map<number, Process>();

  constructor(command: string[], cwd: string, env: NodeJS.ProcessEnv, unread?: Options["unread"]) {
    this.unread = unread;
    const out = pipe();
    const err = pipe();
    this.process = Bun.spawn(command, {
      cwd,
      env,
      stdin: "ignore",
      stdout: out.write,
      stderr: err.write,
      detached: true,
    });
    fs.closeSync(out.write);
    fs.closeSync(err.write);
    for (const [name, fd] of [
      ["stdout", out.read],
      ["stderr", err.read],
    ] as const) {
      if (unread === name) this.unreadFd = fd;
      else this[name].read(fd);
    }
    this.ended = this.end();
  }

  private async end(): Promise<End> {
    await this.process.exited;
    const now = performance.now();
    const { exitCode, signalCode } = this.process;
    const numbers: Record<string, number> = os.constants.signals;
    const code = exitCode ?? 128 + (numbers[signalCode ?? ""] ?? 0);
    return { code, ms: now - this.started, stopMs: now - this.signalled };
  }

  get pid(): number {
    return this.process.pid;
  }

  /** Reads the stream that was left unread. */
  read(): void {
    if (this.unread !== undefined && this.unreadFd !== undefined) {
      this[this.unread].read(this.unreadFd);
    }
    this.unreadFd = undefined;
  }

  /** Closes the stream that was left unread: who writes to it gets EPIPE. */
  hangUp(): void {
    if (this.unreadFd !== undefined) fs.closeSync(this.unreadFd);
    this.unreadFd = undefined;
  }

  /** The first line of either stream that matches, as soon as it is there. */
  async line(pattern: RegExp, ms = PATIENCE): Promise<RegExpExecArray> {
    const find = () => {
      for (const line of [...this.stdout.lines, ...this.stderr.lines]) {
        const match = pattern.exec(line);
        if (match) return match;
      }
      return undefined;
    };
    const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
    const look = () => {
      const match = find();
      if (match) resolve(match);
    };
    this.waiters.add(look);
    look();
    const giveUp = async () => {
      await this.ended;
      await this.drained();
      look();
      reject(new Error(`the program ended without a line like ${pattern}`));
    };
    giveUp().catch(reject);
    const match = await within(`a line like ${pattern}`, promise, ms).finally(() =>
      this.waiters.delete(look),
    );
    this.remember();
    return match;
  }

  signal(name: NodeJS.Signals): void {
    this.remember();
    this.signalled = performance.now();
    process.kill(this.pid, name);
  }

  /** Asks it to stop, and waits for its end. */
  async stop(name: NodeJS.Signals = "SIGTERM"): Promise<End> {
    this.signal(name);
    return await this.exit();
  }

  /** Asks it to stop, which it does with 0: what every test wants that is about something else. */
  async stopsWell(): Promise<void> {
    expect((await this.stop()).code).toBe(0);
  }

  /** Waits until each of these processes has said that it is up, as `forever` does. */
  async up(...names: string[]): Promise<void> {
    await Promise.all(names.map((name) => this.line(new RegExp(`^${name} *\\| up`))));
  }

  /** Waits until the program has ended and all that it wrote has been read. */
  async exit(ms = PATIENCE): Promise<End> {
    const end = await within("the program's end", this.ended, ms);
    await this.drained();
    return end;
  }

  private async drained(): Promise<void> {
    const both = Promise.all([this.stdout.ended, this.stderr.ended]);
    await within("the end of the program's output", both);
  }

  get isAlive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** Remembers who descends from the program now, to see later that they are gone. */
  remember(): void {
    const known = new Set([this.pid]);
    let size: number;
    const processes = livingProcesses();
    do {
      size = known.size;
      for (const process of processes) {
        if (!known.has(process.ppid) || known.has(process.pid)) continue;
        known.add(process.pid);
        this.descendants.set(process.pid, process);
      }
    } while (known.size > size);
  }

  /** The pid of the descendant whose command line matches. */
  async descendant(pattern: RegExp): Promise<number> {
    return await eventually(`a process like ${pattern}`, () => {
      this.remember();
      return [...this.descendants.keys()].find(
        (pid) => isAlive(pid) && pattern.test(commandLine(pid)),
      );
    });
  }

  describe(): string {
    const tail = (output: Output) => {
      const text = output.text;
      return text.length > 3000 ? `…${text.slice(-3000)}` : text;
    };
    return `--- stdout\n${tail(this.stdout)}\n--- stderr\n${tail(this.stderr)}`;
  }
}

// ---- One test: a fresh directory, the runs in it, and what they must not leave behind

export class Box {
  readonly base = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-test-"));
  readonly dir = this.makeDirectory("work");
  readonly tmp = this.makeDirectory("tmp");
  private readonly mark = randomUUID();
  private readonly runs: Run[] = [];
  /** For the tests in which a process escapes on purpose. */
  mayEscape: RegExp | undefined;

  readonly runtime: Runtime;

  constructor(runtime: Runtime) {
    this.runtime = runtime;
    fs.chmodSync(this.base, 0o755);
  }

  private makeDirectory(name: string): string {
    const directory = path.join(this.base, name);
    fs.mkdirSync(directory);
    return directory;
  }

  /** Writes a file in the working directory. */
  write(name: string, content: string | Uint8Array): string {
    const file = path.join(this.dir, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
    return file;
  }

  /** What a process of the test wrote in the working directory; empty if it wrote nothing. */
  read(name: string): string {
    return unlessGone(() => fs.readFileSync(path.join(this.dir, name), "utf8"), "");
  }

  /** The lines of such a file. */
  lines(name: string): string[] {
    return this.read(name).split("\n").slice(0, -1);
  }

  has(name: string): boolean {
    return fs.existsSync(path.join(this.dir, name));
  }

  /** Removes what is there of these, for another run in the same box. */
  remove(...names: string[]): void {
    for (const name of names)
      fs.rmSync(path.join(this.dir, name), { recursive: true, force: true });
  }

  /** The environment of a run: as good as none, and a mark by which its processes are known. */
  env(more: Record<string, string> = {}, runtime = this.runtime): Record<string, string> {
    const paths = [runtime.path, process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin"];
    return {
      PATH: paths.filter(Boolean).join(":"),
      HOME: this.base,
      TMPDIR: this.tmp,
      TEST_MARK: this.mark,
      ...runtime.env,
      ...more,
    };
  }

  start(args: string[], options: Options = {}): Run {
    const { runtime = this.runtime, env, wrap = (words) => words, unread } = options;
    const command = wrap([...runtime.command, ...args]);
    const run = new Run(command, this.dir, this.env(env, runtime), unread);
    this.runs.push(run);
    return run;
  }

  /** Starts the program with these lines as its Procfile. */
  procfile(lines: string[], options: Options = {}): Run {
    this.write("Procfile", lines.map((line) => `${byPath(line)}\n`).join(""));
    return this.start([], options);
  }

  /** A process belongs to the test by its mark, its working directory or its parents. */
  private leftProcesses(): Process[] {
    const remembered = this.runs.flatMap((run) => [...run.descendants.values()]);
    return livingProcesses().filter(({ pid, started }) => {
      if (remembered.some((other) => other.pid === pid && other.started === started)) return true;
      const cwd = unlessGone(() => fs.readlinkSync(`/proc/${pid}/cwd`), "");
      if (cwd === this.dir || cwd.startsWith(`${this.base}/`)) return true;
      return unlessGone(() => fs.readFileSync(`/proc/${pid}/environ`, "latin1"), "").includes(
        this.mark,
      );
    });
  }

  /** Kills what is left, and says what should not have been. */
  async close(): Promise<string[]> {
    const complaints: string[] = [];
    const left = this.leftProcesses();
    for (const run of this.runs) {
      run.hangUp();
      if (run.isAlive) complaints.push(`the program still runs, pid ${run.pid}`);
    }
    for (const { pid, pgrp } of left) {
      const command = commandLine(pid);
      if (command === "") continue; // it has ended, and is not yet a zombie
      if (this.mayEscape?.test(command)) continue;
      complaints.push(`left behind: process ${pid} of group ${pgrp}: ${command}`);
    }
    const files = fs.readdirSync(this.tmp);
    if (files.length > 0) complaints.push(`left behind in TMPDIR: ${files.join(", ")}`);

    for (let victims = left; victims.length > 0; victims = this.leftProcesses()) {
      for (const { pid } of victims) unlessGone(() => process.kill(pid, "SIGKILL"), true);
      await Bun.sleep(2);
    }
    fs.rmSync(this.base, { recursive: true, force: true });
    return complaints;
  }

  describe(): string {
    return this.runs.map((run) => run.describe()).join("\n");
  }
}

export type It = (title: string, body: (box: Box) => Promise<void>, ms?: number) => void;

/** A section of the design: its tests run on each runtime, each in a box of its own. */
export function section(name: string, define: (it: It) => void, on: Runtime[] = runtimes): void {
  for (const runtime of on) {
    if (runtime.isFor?.(name) === false) continue;
    describe(`${name} (${runtime.name})`, () => {
      define((title, body, ms = 120_000) => {
        test(
          title,
          async () => {
            const box = new Box(runtime);
            try {
              await body(box);
            } catch (error) {
              const complaints = await box.close();
              throw new Error([String(error), ...complaints, box.describe()].join("\n"), {
                cause: error,
              });
            }
            const complaints = await box.close();
            if (complaints.length > 0) {
              throw new Error([...complaints, box.describe()].join("\n"));
            }
          },
          ms,
        );
      });
    });
  }
}

// ---- What the program is started by

type Wrap = (command: string[]) => string[];

/** A shell does `first`, and becomes the program: `exec 0<&-`, `ulimit -n 20`. */
export function inShell(first: string, shell: "sh" | "bash" = "sh"): Wrap {
  return (command) => [shell, "-c", `${first}; exec "$@"`, shell, ...command];
}

/** Debian's busybox-static has a sh that runs its own applets, whatever PATH has: these lack options. */
function byPath(line: string): string {
  const NAMES = /(?<![\w./-])(?:date|sed|setpriv|setsid|timeout)(?= )/g;
  return line.replace(NAMES, (name) => Bun.which(name, { PATH: SYSTEM }) ?? name);
}

/** A directory for PATH in which these names are BusyBox's. */
export function busyboxIn(directory: string, ...names: string[]): void {
  fs.mkdirSync(directory);
  for (const name of names) fs.symlinkSync(Bun.which("busybox") ?? "", path.join(directory, name));
}

/** A directory for PATH in which `sh` is this one. */
export function shellIn(directory: string, shell: string): string {
  fs.mkdirSync(directory);
  fs.symlinkSync(Bun.which(shell) ?? "", path.join(directory, "sh"));
  return directory;
}

/** Another user, to whom the box's directories must be open: a number that nobody has, or a name. */
export function asUser(user: number | string, group = user): string[] {
  return ["setpriv", "--reuid", `${user}`, "--regid", `${group}`, "--clear-groups", "--"];
}

/** On a terminal of its own, by script(1), where it leaves its pid in the file `pid`. */
export function onTerminal(line = 'echo $$ >pid; exec "$@"'): Wrap {
  const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(" ");
  return (command) => ["script", "-qefc", `set -- ${quoted(command)}; ${line}`, "/dev/null"];
}

/** The same; what is written to the FIFO `keys` is typed there. */
export function onKeyboard(): Wrap {
  return (command) => ["sh", "-c", 'mkfifo keys; exec "$@" <>keys', "sh", ...onTerminal()(command)];
}

// ---- Processes for a Procfile, as shell one-liners

/** Listens on a port, and that is all. */
export function serve(port: number | "$APP_PORT", address = "127.0.0.1"): string {
  return `busybox httpd -f -p ${address}:${port}`;
}

/** The same as a process that is waited for. */
export function listener(port: number, address?: string): string {
  return `PORT=${port} ${serve(port, address)}`;
}

/** Writes its name and the signal to the file `log`, then does `then`. */
export function onSignal(signal: string, name: string, then = "exit 0"): string {
  return `trap 'echo ${name} ${signal} >>log; ${then}' ${signal}`;
}

/** Waits until the test writes the file `go`. */
export const untilGo = "while ! [ -e go ]; do sleep 0.01; done";

/** Says that it is up, then lives for ever, in steps short enough for a trap to run at once. */
export const forever = "echo up; while :; do sleep 0.02; done";

/** Where an nginx of the test's own keeps its files. */
export function temporaryPaths(dir: string): string {
  const names = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return names.map((name) => `${name}_temp_path ${dir}/${name};`).join(" ");
}

// ---- An app behind nginx, the demo for one, and clients

export interface Launched {
  run: Run;
  port: number;
  appPort: number;
  url: string;
}

/** A COMMAND on ports of its own. Not yet ready: `startApp` waits for that. */
export async function launchApp(
  box: Box,
  command: string[],
  { env, ...options }: Options = {},
): Promise<Launched> {
  const [port, appPort] = [await freePort(), await freePort()];
  const ports = { PORT: `${port}`, APP_PORT: `${appPort}` };
  const run = box.start(command, { ...options, env: { ...ports, ...env } });
  return { run, port, appPort, url: `http://127.0.0.1:${port}` };
}

export async function startApp(box: Box, command: string[], options?: Options): Promise<Launched> {
  const app = await launchApp(box, command, options);
  await app.run.line(/entrypoint \| ready in|"ready in/); // uwsgi says it too
  return app;
}

const withDemo = ({ env, ...options }: Options = {}) => ({
  ...options,
  env: { ENTRYPOINT_STATIC: staticFiles, ...env },
});

export async function launchDemo(box: Box, options?: Options): Promise<Launched> {
  return await launchApp(box, [bun, demoApp], withDemo(options));
}

export async function startDemo(box: Box, options?: Options): Promise<Launched> {
  return await startApp(box, [bun, demoApp], withDemo(options));
}

/** What comes of a request on a connection of its own: `200 text`, or why there is no answer. */
export async function ask(url: string, options: RequestInit = {}): Promise<string> {
  try {
    const answer = await fetch(url, { keepalive: false, ...options });
    return `${answer.status} ${await answer.text()}`;
  } catch (error) {
    return error instanceof Error && "code" in error ? `${error.code}` : `${error}`;
  }
}

/** A connection of which every byte is ours. */
export class Raw {
  text = "";
  closed = false;
  private readonly socket: Socket;

  constructor(port: number, host = "127.0.0.1") {
    this.socket = connect({ port, host });
    this.socket.setEncoding("latin1");
    this.socket.on("data", (chunk) => {
      this.text += chunk;
    });
    this.socket.on("error", () => {
      this.closed = true;
    });
    this.socket.on("close", () => {
      this.closed = true;
    });
  }

  send(text: string): this {
    this.socket.write(text, "latin1");
    return this;
  }

  async received(pattern: RegExp, ms?: number): Promise<void> {
    const look = () => {
      if (pattern.test(this.text)) return true;
      if (this.closed) throw new Error(`no ${pattern} in: ${this.text}`);
      return undefined;
    };
    await eventually(`${pattern} in an answer`, look, ms);
  }

  async everything(): Promise<string> {
    await eventually("the end of a connection", () => this.closed);
    return this.text;
  }

  close(): void {
    this.socket.destroy();
  }
}
