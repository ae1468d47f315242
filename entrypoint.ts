#!/usr/bin/env bun
// entrypoint: the program that a container starts when it has to run more than one.
// A table of processes in, an exit code out. It supervises nothing and restarts nothing.
// SPDX-License-Identifier: Apache-2.0
import type { StdioOptions } from "node:child_process";
import fs from "node:fs";
import { availableParallelism, networkInterfaces, constants as os, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { isatty } from "node:tty";
import { $, which } from "zx/core";

/** The bash script: start each in turn, `wait -n`, end the others, exit with the first one's code. */
async function main(argv: string[]): Promise<number> {
  const answer = readCommandLine(argv); // --help, --version, --check and errors start nothing
  if (answer !== undefined) return answer;

  let end = prepare();
  for (const row of table) {
    end ??= await Promise.race([firstEnd(), portTaken(row)]);
    end ??= await Promise.race([start(row), firstEnd()]); // PORT=8081 ./server & nginx &
  }
  if (!end) sayWhenReady();
  end ??= await firstEnd(); //                               wait -n
  over = true;
  graceEnds = Math.min(graceEnds, performance.now() + settings.grace * 1000);
  return end.stop ? drain(end.why) : failFast(end);
}

/** A row of the table: one line of a Procfile. */
type Row = {
  name: string;
  command: string;
  shell: string; // the command as `sh -c` gets it
  program: string | undefined; // where it can be told
  port: number; // the public one, unless its line has another
  stopSignal: NodeJS.Signals;
  release: boolean; // runs to completion before the others start
};

/** A process that was started. It leads a process group, whose number is its pid. */
type Child = {
  row: Row;
  pid: number;
  startedAt: number; // milliseconds, as performance.now() has them
  exit: Promise<End>;
  ended: boolean;
  asked?: NodeJS.Signals; // the stop signal that it was sent
  logs: Promise<unknown>; // settles when both its pipes have been copied to their ends
  upAfter?: number; // milliseconds from its start until it listened
  gone: boolean; // its group was seen empty: the number may be another's by now
};

/** What ends the container: the first exit, a stop that was asked for, or a failed start. */
type End = { why: string; code: number; child?: Child; after?: number; stop?: true };

/** The state of a run. What one section alone needs stands there. */
const table: Row[] = [];
const children: Child[] = []; // in the order of their start
const ends: End[] = []; // in the order in which they came
const stopAsked = Promise.withResolvers<End>();
const killAsked = Promise.withResolvers<void>();
let over = false; // what ends the container is known
let graceEnds = Number.POSITIVE_INFINITY; // milliseconds, as performance.now() has them

// ---- options: the environment and the command line; what is wrong with them is told all at once

const VERSION = "1.0.0";
const HELP = `usage: entrypoint [-f FILE] [--check]            the processes of a Procfile (default ./Procfile)
       entrypoint [--check] [--] COMMAND [ARG...]  COMMAND as the app, behind nginx
       entrypoint --help | --version

Starts processes in order, each once the one before it listens on its port, waits for the
first to end, ends the others and exits with its code. SIGTERM drains them bottom-up.

  -f FILE   lines of \`name: command\`; PORT=8081 before a command is the port it is waited for
            on, STOPSIGNAL=SIGQUIT what stops it; \`release:\` runs to its end before the others
  --check   validate everything, print the plan, start nothing

  PORT=8080              public port
  APP_PORT=8081          port of the app behind nginx
  ENTRYPOINT_GRACE=9     seconds from a stop signal to SIGKILL
  ENTRYPOINT_READY=240   seconds a process may take to listen; 0: wait for none
  ENTRYPOINT_LOG=text    text or json (on Cloud Run json)
  ENTRYPOINT_NGINX=FILE  nginx configuration template in place of the one built in
  ENTRYPOINT_STATIC=DIR  directory served at /static/ (default ./static)

exit code: that of the first to end, or 128+n if signal n killed it; 0 a clean stop;
           2 usage or configuration; 1 not ready in time; 137 a stop that had to kill
`;

const env = process.env;
const problems: string[] = [];
const settings = {
  port: number("PORT", 8080, isPort, "a port, 1 to 65535"),
  appPort: number("APP_PORT", 8081, isPort, "a port, 1 to 65535"),
  grace: number("ENTRYPOINT_GRACE", 9, isSeconds, "a number of seconds, 0 to 86400"),
  ready: number("ENTRYPOINT_READY", 240, isSeconds, "a number of seconds, 0 to 86400"),
  log: env.ENTRYPOINT_LOG || (env.K_SERVICE || env.CLOUD_RUN_JOB ? "json" : "text"),
  template: env.ENTRYPOINT_NGINX ? read("ENTRYPOINT_NGINX=", env.ENTRYPOINT_NGINX) : undefined,
  static: resolve(env.ENTRYPOINT_STATIC || "static"),
};

// A variable that is set to nothing counts as unset, as in ${PORT:-8080}. And a Kubernetes service
// with the name "app" puts APP_PORT=tcp://10.0.0.1:80 into every pod.
function number(name: string, byDefault: number, valid: (text: string) => boolean, what: string) {
  const byKubernetes = name === "APP_PORT" && env[name]?.startsWith("tcp:");
  const text = (!byKubernetes && env[name]) || `${byDefault}`;
  if (valid(text)) return Number(text);
  problems.push(`${name}=${text}: must be ${what}`);
  return byDefault;
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535;
}

function isSeconds(text: string): boolean {
  return /^\d+(\.\d+)?$/.test(text) && Number(text) <= 86400;
}

function read(what: string, path: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch (error) {
    problems.push(`${what}${path}: must be a readable file (${codeOf(error)})`);
    return "";
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? `${error.code}` : `${error}`;
}

/** Fills the table, or gives the exit code of a call that starts nothing. */
function readCommandLine(argv: string[]): number | undefined {
  const words = [...argv];
  let path: string | undefined;
  let check = false;
  while (words[0]?.startsWith("-")) {
    const option = words.shift();
    if (option === "--") break;
    else if (option === "--help") return print(HELP);
    else if (option === "--version") return print(`entrypoint ${VERSION}\n`);
    else if (option === "--check") check = true;
    else if (option !== "-f") problems.push(`${option}: no such option; see entrypoint --help`);
    else if (words[0]) path = words.shift();
    else problems.push("-f: needs a FILE; see entrypoint --help");
  }
  if (words.length && path) problems.push("-f FILE or a COMMAND, not both; see entrypoint --help");
  else if (words.length) table.push(...commandTable(words));
  else if (path || fs.existsSync("Procfile")) table.push(...readProcfile(path ?? "Procfile"));
  else if (!problems.length) problems.push("no COMMAND and no Procfile; see entrypoint --help");
  checkSettings();
  if (check) problems.push(...table.flatMap(notFound));
  for (const problem of problems) say(problem, "ERROR");
  if (problems.length) return 2;
  const tooEarly = `would serve the public port, ${settings.port}, before those below are ready`;
  for (const { name } of table.filter(isTooEarly))
    say(`${name}: ${tooEarly}: put it last`, "WARNING");
  return check ? print(plan()) : undefined;
}

function checkSettings(): void {
  const { port, appPort, log, template = "" } = settings;
  if (port === appPort)
    problems.push(`PORT=${port}: must differ from APP_PORT=${appPort}: set that to another port`);
  if (log !== "text" && log !== "json")
    problems.push(`ENTRYPOINT_LOG=${log}: must be text or json`);
  if (env.ENTRYPOINT_STATIC && !isDirectory(settings.static))
    problems.push(`ENTRYPOINT_STATIC=${env.ENTRYPOINT_STATIC}: must be a directory`);
  for (const [variable, name = ""] of template.matchAll(/\$\{([A-Z_][A-Z_0-9]*)\}/g))
    if (!(name in { ...env, PORT: 1, APP_PORT: 1, ENTRYPOINT_STATIC: 1, NGINX_CONF: 1 }))
      problems.push(`ENTRYPOINT_NGINX=${env.ENTRYPOINT_NGINX}: ${variable} is not set`);
}

function isDirectory(path: string): boolean {
  return fs.existsSync(`${path}/.`);
}

function notFound({ name, program }: Row): string[] {
  const found = !program || !env.PATH || which.sync(program, { nothrow: true });
  return found ? [] : [`${name}: ${program}: not found or not executable`];
}

function plan(): string {
  const rows = table.map((row) => [
    row.name,
    `${row.port}`,
    row.release ? "to its end" : isWaitedFor(row) ? "until it listens" : "no",
    row.stopSignal,
    row.command.replaceAll("\n", "\\n") + (isTooEarly(row) ? "   # put it last" : ""),
  ]);
  rows.unshift(["NAME", "PORT", "WAITED FOR", "STOP SIGNAL", "COMMAND"]);
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const widths = [width(0), width(1), width(2), width(3)];
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ");
  return rows.map((row) => `${line(row)}\n`).join("");
}

// ---- the table: a Procfile's lines, or the two lines that a COMMAND stands for

function commandTable(words: string[]): Row[] {
  const command = words.map(quoted).join(" ");
  const app = readRow("", "app", `PORT=$APP_PORT ${command}`);
  if (/\s/.test(tmpdir()))
    problems.push(`TMPDIR=${tmpdir()}: must be without blanks, for nginx -c $NGINX_CONF`);
  // `exec` here whatever the first word is: a COMMAND is a program, never a word of the shell's.
  const shell = `PORT=$APP_PORT exec ${CARRIED}${command}`;
  return [
    { ...app, shell, port: settings.appPort, program: words[0] || "''" },
    // -e: without it nginx, started by any user but root, complains of its compiled-in log file.
    readRow("", "nginx", "nginx -c $NGINX_CONF -e stderr"),
  ];
}

function quoted(word: string): string {
  return /^[\w./:@%+,=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

function readProcfile(path: string): Row[] {
  const rows: Row[] = [];
  const lines = read("", path)
    .replace(/^\ufeff/, "")
    .split(/\r?\n/);
  for (const [i, line] of lines.entries()) {
    if (!line.trim() || line.startsWith("#")) continue;
    const where = `${path}:${i + 1}: `;
    const [, name, command = ""] = /^([\w-]+):\s*(.*)$/.exec(line) ?? [];
    if (!name) problems.push(`${where}must be \`name: command\`, name of letters, digits, _ and -`);
    else if (!command) problems.push(`${where}${name}: has no command`);
    else if (command.includes("\0")) problems.push(`${where}${name}: has a NUL byte`);
    else {
      if (rows.some((other) => other.name === name))
        problems.push(`${where}${name}: there is a process of this name already`);
      rows.push(readRow(where, name, command));
    }
  }
  if (!rows.length && !problems.length) problems.push(`${path}: names no process`);
  return rows.sort((a, b) => Number(b.release) - Number(a.release));
}

// A part of a word of sh; a command of such words and redirections; what may open it.
const EXPANSION = String.raw`\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}]*\}|\$(?![({])|\x60[^\x60]*\x60`;
const QUOTED = String.raw`\\.|'[^']*'|"(?:${EXPANSION}|[^"\\$\x60]|\\.)*"`;
const PART = String.raw`(?:${EXPANSION}|${QUOTED}|[^\s;&|()<>'"\\$\x60])`;
const SIMPLE = String.raw`(?:${PART}|\s|[<>]&?)+`;
const ALONE = new RegExp(`^${SIMPLE}$`);
const COMMANDS = new RegExp(SIMPLE, "g");
const ASSIGNMENT = String.raw`([A-Za-z_]\w*)=(${PART}*)\s+`;
const ASSIGNMENTS = new RegExp(ASSIGNMENT, "g");
const ENV = String.raw`(?:\S*/)?env\s+(?:-u\s*\w+\s+|-i?\s+)*(?:${ASSIGNMENT})*`;
const OPENING = new RegExp(`^((?:${ASSIGNMENT})*)(?:exec\\s+)?((?:${ENV})?)`);
// No programs: the reserved words of sh, and built-ins that act on the shell or differ from a
// program of the same name.
const BUILT_IN = new Set(
  `. : [ ! { alias bg case cd chdir command echo eval exec exit export false fg for function getopts
  hash if jobs kill let local printf pwd read readonly return set shift source test time times trap
  true type ulimit umask unalias unset until wait while`.split(/\s+/),
);

// Programs that drop the requests under way at SIGTERM.
const DRAINS_AT = new Map<string, NodeJS.Signals>([
  ["nginx", "SIGQUIT"],
  ["haproxy", "SIGUSR1"],
  ["apache2", "SIGWINCH"],
  ["lighttpd", "SIGINT"],
]);

// What dash and BusyBox would drop: the variables that they could not name, as spring.datasource.url.
const UNNAMEABLE = Object.entries(env)
  .filter(([name]) => !/^[A-Za-z_]\w*$/.test(name))
  .map(([name, value]) => quoted(`${name}=${value}`));
const CARRIED = UNNAMEABLE.length ? `env ${UNNAMEABLE.join(" ")} ` : "";

function readRow(where: string, name: string, command: string): Row {
  const [opening = "", assignments = "", , , viaEnv = ""] = OPENING.exec(command) ?? [];
  const rest = command.slice(opening.length);
  const assigned = new Map<string, string>();
  for (const [, variable = "", value = ""] of opening.matchAll(ASSIGNMENTS))
    assigned.set(variable, value.replace(/^(["'])(.*)\1$/, "$2"));
  const first = programOf(command);
  // As bash does by itself. Without `exec` dash stays the leader of the group, and the stop
  // signal reaches it instead of the server.
  const alone = first && ALONE.test(rest);
  const server = command.match(COMMANDS)?.findLast((part) => part.trim()) ?? "";
  return {
    name,
    command,
    shell: alone ? `${assignments}exec ${CARRIED}${viaEnv}${rest}` : command,
    program: assigned.has("PATH") ? undefined : first,
    port: readPort(where, name, assigned.get("PORT")),
    stopSignal:
      readSignal(where, name, assigned.get("STOPSIGNAL")) ??
      DRAINS_AT.get(basename(programOf(server) ?? "")) ??
      "SIGTERM",
    release: name === "release",
  };
}

/** Of a command without operators, or of the first of several. */
function programOf(command: string): string | undefined {
  const rest = command.trim().replace(OPENING, "");
  const word = /^(["']?)([\w./@%+-]+)\1(?!\S)/.exec(rest)?.[2];
  return word && !BUILT_IN.has(word) ? word : undefined;
}

const holders = new Map<number, string>(); // of a port, by name

function readPort(where: string, name: string, asked?: string): number {
  const text = asked?.replace(/^\$(APP_PORT|\{APP_PORT\})$/, `${settings.appPort}`);
  if (text === undefined) return settings.port;
  const port = Number(text);
  const holder = holders.get(port);
  if (!isPort(text))
    problems.push(`${where}${name}: PORT=${text}: must be a port, 1 to 65535, or $APP_PORT`);
  else if (holder) problems.push(`${where}${name}: ${holder} has port ${port} already`);
  else if (name !== "release") holders.set(port, name);
  return port;
}

function readSignal(where: string, name: string, asked?: string): NodeJS.Signals | undefined {
  if (asked === undefined) return undefined;
  const wanted = asked.toUpperCase();
  const signals = Object.keys(os.signals) as NodeJS.Signals[];
  const signal = signals.find((s) => [s, s.slice(3), `${os.signals[s]}`].includes(wanted));
  if (!signal)
    problems.push(`${where}${name}: STOPSIGNAL=${asked}: must be a signal, such as SIGINT`);
  return signal;
}

/** Whether the next one starts only when it listens: one on the public port is nobody's backend. */
function isWaitedFor(row: Row): boolean {
  return hasOwnPort(row) && row !== table.at(-1) && settings.ready > 0;
}

function hasOwnPort({ port, release }: Row): boolean {
  return port !== settings.port && !release;
}

function isTooEarly(row: Row): boolean {
  const below = table.slice(table.indexOf(row) + 1);
  return !hasOwnPort(row) && !row.release && below.some(hasOwnPort);
}

// ---- start: in the order of the table, each in a process group of its own, its output on pipes

let directory = ""; // of this run, private
let childEnv: NodeJS.ProcessEnv = {};

const OTHERS = ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const; // than those that mean stop

/** What all of them share: signal handlers, a directory, an environment. */
function prepare(): End | undefined {
  for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const)
    process.on(signal, () => askToStop(signal));
  const onTerminal = [0, 1, 2].some(isatty); // no longer once that has hung up
  const nohup = /^SigIgn:.*[13579bdf]$/m.test(contents("/proc/self/status"));
  for (const signal of nohup ? OTHERS.slice(1) : OTHERS)
    process.on(signal, () => {
      if (signal === "SIGHUP" && onTerminal) askToStop(signal);
      else if (children.length === table.length) signalLeader(children.at(-1), signal);
    });
  // As dumb-init does: a signal that our parent had blocked would never reach us nor the children.
  const SIG_SETMASK = 2;
  libc?.sigprocmask(SIG_SETMASK, new Uint8Array(128), null);
  process.on("exit", () => {
    for (const child of children) signalGroup(child, "SIGKILL");
    // Not while a reader stalls: what Bun still has for it would block the exit.
    if (!batches) for (const [i, value] of flags.entries()) libc?.fcntl(i + 1, F_SETFL, value);
    fs.closeSync(0); // a descriptor for rmSync, where none is left
    fs.rmSync(directory, { recursive: true, force: true });
  });
  try {
    directory = fs.mkdtempSync(join(resolve(tmpdir()), "entrypoint-"));
    const NGINX_CONF = join(directory, "nginx.conf");
    const { port, appPort } = settings;
    childEnv = { ...env, PORT: `${port}`, APP_PORT: `${appPort}`, NGINX_CONF };
    if (stdout.colours.isColorSupported) childEnv.FORCE_COLOR ??= "1";
    fs.writeFileSync(NGINX_CONF, nginxConf("127.0.0.1"));
  } catch (error) {
    const cure = "mount a tmpfs on /tmp or let TMPDIR name a directory to write in";
    return { why: `${tmpdir()}: cannot be written in (${codeOf(error)}): ${cure}`, code: 2 };
  }
  if (process.pid === 1) {
    const cure = "put tini in front of it, or use docker run --init";
    say(`runs as PID 1, so zombies are not reaped: ${cure}`, "WARNING");
  }
  return undefined;
}

// zx as it comes, whatever ZX_ variables there are; a command is a line for sh, with no quotes added.
const plain = {
  ...{ shell: "sh", prefix: "", postfix: "", quote: (line: string) => line, cwd: "", timeout: 0 },
  ...{ quiet: true, verbose: false, preferLocal: false, detached: false },
};

/** Starts it. Settles once the next one may start, or with what ends the container. */
async function start(row: Row): Promise<End | undefined> {
  try {
    return await isUp(launch(row));
  } catch (error) {
    return { why: notStarted(`${row.name}:`, codeOf(error)), code: 126 };
  }
}

function launch(row: Row): Child {
  const [out, err] = [pipe(), pipe()];
  const startedAt = performance.now();
  const stdio: StdioOptions = ["ignore", out.writeEnd, err.writeEnd];
  const options = { ...plain, detached: true, nothrow: true, env: childEnv, stdio };
  const leader = $(options)`${row.shell}`;
  fs.closeSync(out.writeEnd);
  fs.closeSync(err.writeEnd);
  const exit: Promise<End> = leader.then(({ exitCode, signal, cause }) => {
    const after = performance.now() - startedAt;
    const unstarted = cause && (codeOf(cause) === "ENOENT" ? 127 : 126);
    const code = unstarted ?? exitCode ?? 128 + (signal ? os.signals[signal] : 0);
    const early = isWaitedFor(row) && !child.upAfter ? `, before it listened on ${row.port}` : "";
    const why = unstarted
      ? notStarted("sh", codeOf(cause))
      : `${howEnded(row, code, signal, after)} after ${time(after)}${early}`;
    const end: End = { child, code, after, why: `${row.name}: ${why}` };
    child.ended = true;
    ends.push(end);
    return end;
  });
  const logs = Promise.all([copy(out.source, stdout, row), copy(err.source, stderr, row)]);
  const pid = leader.pid ?? 0;
  const child: Child = { row, pid, startedAt, exit, logs, ended: false, gone: false };
  children.push(child);
  oomKillsBefore ??= oomKills();
  return child;
}

function howEnded(row: Row, code: number, signal: string | null, after: number): string {
  if (signal) return `killed by ${signal}`;
  const hint = after < 1000 ? hintForShell(code, row.program) : ""; // later the code is its own
  return `exit code ${code}${hint}`;
}

/** What the shell means by 126 and 127, where that can be told. */
function hintForShell(code: number, program: string | undefined): string {
  if (!program || (code !== 126 && code !== 127)) return "";
  const path = which.sync(program, { nothrow: true });
  if (!path) return ` (${program} not ${code === 126 ? "executable" : "found"})`;
  const [, interpreter = "/"] = /^#!\s*(\S+)/.exec(beginning(path)) ?? [];
  return fs.existsSync(interpreter) ? "" : ` (${interpreter}, which runs ${program}, not found)`;
}

function beginning(path: string): string {
  const bytes = Buffer.alloc(256);
  try {
    const fd = fs.openSync(path, "r");
    fs.readSync(fd, bytes, 0, bytes.length, 0);
    fs.closeSync(fd);
  } catch {} // it may be executed and not read
  return bytes.toString();
}

function notStarted(what: string, code: string): string {
  const cure = {
    EMFILE: ": no file descriptor is left: raise ulimit -n",
    EAGAIN: ": no more processes are allowed: raise ulimit -u or --pids-limit",
    EACCES: ": may this user enter the working directory?",
    E2BIG: ": its command or the environment is too long",
  }[code];
  return `${what} could not be started (${code})${cure ?? ""}`;
}

type Pipe = { source: AsyncIterable<Uint8Array>; writeEnd: number };

// What node:net does, Bun does in a fraction of the time. Node and Deno have nothing else.
const onBun = typeof Bun !== "undefined";
const net = onBun ? undefined : await import("node:net");

// A pipe, because child_process's own "pipe" is a socket, and nginx cannot open /dev/stdout on one.
const libc = onBun ? await openLibc() : undefined;

async function openLibc() {
  const { dlopen } = await import("bun:ffi");
  try {
    return dlopen("libc.so.6", {
      pipe2: { args: ["ptr", "i32"], returns: "i32" },
      fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
      sigprocmask: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    }).symbols;
  } catch {
    return undefined; // not glibc
  }
}

function pipe(): Pipe {
  const O_CLOEXEC = 0o2000000;
  const fds = new Int32Array(2);
  if (libc) {
    if (libc.pipe2(fds, O_CLOEXEC) !== 0) throw Object.assign(new Error(), { code: "EMFILE" });
    const [readEnd = 0, writeEnd = 0] = fds;
    return { source: Bun.file(readEnd).stream(), writeEnd };
  }
  const path = join(directory, "fifo");
  $({ ...plain, sync: true })`${`mkfifo ${quoted(path)}`}`;
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  const readEnd = fs.openSync(path, O_RDONLY | O_NONBLOCK); // without it, it waits for a writer
  const writeEnd = fs.openSync(path, O_WRONLY);
  // Deno cannot wait for a descriptor to be readable: there each read blocks a thread.
  const blocking = "Deno" in globalThis ? fs.openSync(path, O_RDONLY) : undefined;
  fs.rmSync(path);
  if (!net) return { source: Bun.file(readEnd).stream(), writeEnd };
  if (!blocking)
    return { source: new net.Socket({ fd: readEnd, readable: true, writable: false }), writeEnd };
  fs.closeSync(readEnd);
  return { source: fs.createReadStream("", { fd: blocking }), writeEnd };
}

// ---- readiness: a process with a port of its own is up when something accepts a connection on it

/** Undefined once the next process may start. */
async function isUp(child: Child): Promise<End | undefined> {
  if (child.row.release) {
    const end = await child.exit;
    return end.code === 0 && child.row !== table.at(-1) ? undefined : end;
  }
  if (!isWaitedFor(child.row) || (await listened(child, settings.ready))) return undefined;
  const { name, port } = child.row;
  const why = `${name}: did not listen on port ${port} within ${time(settings.ready * 1000)}`;
  return { why: why + (await hintForPort()), code: 1 };
}

async function hintForPort(): Promise<string> {
  const instead = (await listens(settings.port)) ? `; does it listen on ${settings.port}?` : "";
  return `: it must listen on $PORT${instead}`;
}

/** Whether `child` listened within `limit` seconds. Asks often at first, then after every 1 %. */
async function listened(child: Child, limit: number): Promise<boolean> {
  const { row } = child;
  const since = performance.now();
  const left = () => limit * 1000 - (performance.now() - since);
  for (let next = 10_000; left() > 0 && !child.ended; ) {
    const address = await listens(row.port);
    if (address) {
      child.upAfter = performance.now() - child.startedAt;
      if (address !== "127.0.0.1" && row.port === settings.appPort)
        fs.writeFileSync(`${childEnv.NGINX_CONF}`, nginxConf(`[${address}]`));
      return true;
    }
    const waited = performance.now() - since;
    if (waited > next) {
      const why = `${row.name}: does not listen on port ${row.port} after ${time(waited)}, waiting`;
      say(why + (await hintForPort()));
      next += 30_000;
    }
    await sleep(Math.min(Math.max(waited / 100, 2), 250, Math.max(left(), 1)));
  }
  return child.ended;
}

/** The address of this host at which something accepts a connection on the port. */
async function listens(port: number): Promise<string | undefined> {
  const at = async (host: string) => ((await accepts(host, port)) ? host : undefined);
  const [ipv4, ipv6] = [at("127.0.0.1"), at("::1")];
  return Promise.race([ipv4.then((host) => host ?? ipv6), sleep(1000, undefined)]);
}

/** Whether something takes a connection, even to reset it. An ephemeral port can meet itself. */
async function accepts(hostname: string, port: number): Promise<boolean> {
  const wasReset = (error: unknown) => codeOf(error) === "ECONNRESET";
  if (!net) {
    const socket = { data() {}, error() {}, connectError() {} };
    const made = await Bun.connect({ hostname, port, socket }).catch(wasReset);
    if (typeof made === "boolean") return made;
    const itself = made.localPort === port;
    made.end();
    return !itself;
  }
  return new Promise((answer) => {
    const socket = net.connect(port, hostname, () => {
      answer(socket.localPort !== port);
      socket.destroy();
    });
    socket.on("error", (error) => answer(wasReset(error)));
  });
}

async function portTaken({ name, port, release }: Row): Promise<End | undefined> {
  const shared = children.some((child) => !child.row.release && child.row.port === port);
  if (release || shared || !(await listens(port))) return undefined;
  const why = `${name}: another program listens on port ${port} already`;
  return { why: `${why}: end it or choose another port`, code: 2 };
}

/** One line when all are up. For nothing else the last one is waited for, and not for long. */
async function sayWhenReady(): Promise<void> {
  const last = children.at(-1);
  if (!last || last.row.release) return;
  if (onBun) Bun.unsafe.setJITPolicy(1); // see build.ts
  const startedAt = performance.now();
  await listened(last, Math.min(settings.ready, 10));
  if (over) return;
  const times = children.map(({ row, upAfter }) => upAfter && `${row.name} ${time(upAfter)}`);
  if (settings.ready && !last.upAfter)
    times.push(`${last.row.name} does not listen on port ${last.row.port} yet`);
  const total = time(last.upAfter ? performance.now() : startedAt);
  say(`ready in ${total}: ${times.filter(Boolean).join(", ") || "waited for none"}`);
  if (onBun) Bun.shrink(); // a megabyte that only the start needed
}

// ---- the race: as `wait -n` does, the first to end decides

function firstEnd(): Promise<End> {
  const servers = children.filter((child) => !child.row.release);
  return Promise.race([stopAsked.promise, ...servers.map((child) => child.exit)]);
}

/** Fail fast: SIGTERM to every group, SIGKILL a second later. Gives the exit code. */
async function failFast(end: End): Promise<number> {
  const inBackground = end.child && !isGone(end.child);
  for (const child of children) signalGroup(child, "SIGTERM");
  for (const child of children) signalGroup(child, "SIGCONT");
  // Its last words before ours. A daemon that left the group may hold the pipes still.
  const closed = await Promise.race([end.child?.logs.then(() => true) ?? true, sleep(50)]);
  const why = end.why + hintFor(end, inBackground || !closed);
  say(why, end.code === 0 ? "WARNING" : "ERROR");
  await Promise.race([allGone(), sleep(1000), killAsked.promise]);
  await killWhatIsLeft();
  return end.code;
}

function hintFor({ child, code, after = 0 }: End, livesOn: boolean): string {
  // As a daemon nginx leaves its group and may let go of its pipes.
  const isNginx = basename(child?.row.program ?? "") === "nginx";
  if (child && code === 0 && after < 1000 && (livesOn || isNginx))
    return ": it lives on in the background; keep it in the foreground, nginx with `daemon off;`";
  if (code !== 137 || oomKills() <= (oomKillsBefore ?? 0)) return "";
  const limit = Number(cgroup("memory", "memory.limit_in_bytes", "memory.max")) / 2 ** 20;
  return `: out of memory, the limit is ${Math.round(limit)} MiB; raise it or use less`;
}

let oomKillsBefore: number | undefined;

/** The kernel's count of processes that it killed for want of memory. */
function oomKills(): number {
  const events = cgroup("memory", "memory.oom_control", "memory.events");
  return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0);
}

/** The first of these files that this container's cgroup has: v1 or v2, own mount or the host's. */
function cgroup(controller: string, ...names: string[]): string {
  const own = contents("/proc/self/cgroup");
  const v1 = new RegExp(`:(?:.*,)?${controller}(?:,.*)?:(.*)`).exec(own)?.[1] ?? "";
  const v2 = /^0::(.*)/m.exec(own)?.[1] ?? "";
  for (const place of [`/${controller}${v1}`, `/${controller}`, v2, ""])
    for (const name of names) {
      const text = contents(`/sys/fs/cgroup${place}/${name}`);
      if (text) return text;
    }
  return "";
}

function contents(path: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

// ---- stop: bottom-up, each group empty before the next one is asked

let first: { signal: NodeJS.Signals; at: number } | undefined;
let second: NodeJS.Signals | undefined;

function askToStop(signal: NodeJS.Signals): void {
  const now = performance.now();
  first ??= { signal, at: now };
  stopAsked.resolve({ why: signal, code: 0, stop: true });
  // timeout(1) sends its signal twice within 0.1 ms, npm a Ctrl-C within 1 ms.
  if (signal === first.signal && now - first.at < 20) return;
  second = signal;
  graceEnds = now;
  killAsked.resolve();
}

/** Drains the table from its last line to its first. Gives the exit code. */
async function drain(why: string): Promise<number> {
  const since = performance.now();
  const left = (reserve: number) => sleep(Math.max(0, graceEnds - reserve - performance.now()));
  const running = children.filter((child) => !isGone(child)).reverse();
  const names = running.map((child) => child.row.name).join(", then ");
  say(`${why}: stopping ${names || "before anything has started"}`);
  const oneByOne = (async () => {
    for (const child of running) await stop(child);
  })();
  await Promise.race([oneByOne, left(1000), killAsked.promise]);
  for (const child of running) stop(child);
  await Promise.race([allGone(), left(0), killAsked.promise]);
  const killed = await killWhatIsLeft();
  const wrong = ends.find((end) => !isAsAsked(end));
  if (wrong && !killed) say(wrong.why, "ERROR");
  const code = killed ? 137 : (wrong?.code ?? 0);
  say(`stopped in ${time(performance.now() - since)}, exit code ${code}`);
  return code;
}

/** 0, or the signal that it was sent; a shell or a JVM reports that as 128+n. */
function isAsAsked({ code, child }: End): boolean {
  return code === 0 || (child?.asked !== undefined && code === 128 + os.signals[child.asked]);
}

/** Asks the leader alone, who tells its workers itself; then whom it left behind. */
async function stop(child: Child): Promise<void> {
  if (child.asked) return;
  child.asked = child.row.stopSignal;
  signalLeader(child, child.asked);
  signalGroup(child, "SIGCONT"); // a stopped process would not see it
  await child.exit;
  signalGroup(child, child.asked);
  await gone(child);
}

function signalLeader(child: Child | undefined, signal: NodeJS.Signals): void {
  if (child && !child.ended) send(child.pid, signal);
}

function signalGroup(child: Child, signal: NodeJS.Signals): void {
  if (!isGone(child)) send(-child.pid, signal);
}

/** Whether it was there to be signalled: kill(2). */
function send(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    return codeOf(error) === "EPERM"; // there, but another user's
  }
}

/** How many processes had to be killed. Returns when they are gone. */
async function killWhatIsLeft(): Promise<number> {
  const left = children.filter((child) => !isGone(child));
  for (const child of left) {
    const why = second ? `killed at a second signal, ${second}` : "did not stop in time: killed";
    say(`${child.row.name}: ${why}`, "ERROR");
    signalGroup(child, "SIGKILL");
  }
  await Promise.race([allGone(), sleep(1000)]);
  return left.length;
}

function isGone(child: Child): boolean {
  const { pid, ended } = child;
  child.gone ||= !pid || (ended && (!send(-pid, 0) || onlyZombies(pid)));
  return child.gone;
}

/**
 * Zombies keep their group in being until PID 1 reaps them: late, or never if that is us.
 * Deno does not let us see them.
 */
function onlyZombies(group: number): boolean {
  if (contents("/proc/self/stat") === "") return false;
  const processes = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const stats = processes.map((pid) => contents(`/proc/${pid}/stat`).replace(/^.*\) /s, ""));
  return !stats.some((stat) => !stat.startsWith("Z") && stat.split(" ")[2] === `${group}`);
}

async function gone(child: Child): Promise<void> {
  await child.exit;
  for (let wait = 1; !isGone(child); wait = Math.min(wait * 1.5, 20)) await sleep(wait);
}

function allGone(): Promise<unknown> {
  return Promise.all(children.map(gone));
}

// ---- logs: whole lines, the process's name in front, nothing lost and nothing held back

const NEWLINE = 10;
const LINE = 65536; // bytes of a line at most; a longer one is cut into pieces
const AHEAD = 4 * LINE; // bytes that are read before the reader has taken what came before
const MARGIN = 300; // milliseconds after the grace period in which a reader is given up
const COLOURS = ["cyan", "yellow", "green", "magenta", "blue"] as const;
const SELF = "entrypoint";
const LABELS = "logging.googleapis.com/labels";
const json = settings.log === "json";

/** What lines are written to, one batch after the other, so that none is torn. */
type Sink = {
  fd: 1 | 2;
  stream: NodeJS.WriteStream | undefined; // unless Bun's threads write
  colours: ReturnType<typeof pc.createColors>;
  waiting: Buffer[]; // for the next batch
  bytes: number; // of these
  begun: Promise<void>; // settles when that batch begins
  written: Promise<void>; // settles when the reader has taken all
  midLine: boolean; // what came last was a line without its newline
  closed: boolean;
};

// Bun makes what process.stdout writes to non-blocking for all who share it, and picocolors looks at
// it: at the end they get it back as it was.
const [F_GETFL, F_SETFL, F_SETPIPE_SZ] = [3, 4, 1031] as const; // fcntl(2)
const flags = [1, 2].map((fd) => libc?.fcntl(fd, F_GETFL, 0) ?? 0);
const { default: pc } = await import("picocolors");
const stdout = sink(1);
const stderr = sameFile(1, 2) ? stdout : sink(2);
libc?.fcntl(1, F_SETPIPE_SZ, AHEAD); // a batch is more than the 64 KiB of a pipe
let batches = 0; // that the readers have not taken yet
let moved = 0; // bytes read and written: it stands still when a reader stalls

function sink(fd: 1 | 2): Sink {
  const wanted = env.FORCE_COLOR ? env.FORCE_COLOR !== "0" : isatty(fd) && env.TERM !== "dumb";
  const colours = pc.createColors(wanted && !env.NO_COLOR && !json);
  // A stream's write to a terminal that stalls (Ctrl-S) would block all: Bun's threads do it.
  const stream = onBun && isatty(fd) ? undefined : fd === 1 ? process.stdout : process.stderr;
  stream?.on("error", () => {}); // the write has it as well
  const begun = Promise.resolve();
  const none = { waiting: [], bytes: 0, begun, written: begun };
  return { fd, stream, colours, ...none, midLine: false, closed: false };
}

function sameFile(a: number, b: number): boolean {
  const [one, other] = [fs.fstatSync(a), fs.fstatSync(b)];
  return one.dev === other.dev && one.ino === other.ino;
}

/** What comes while one batch is written is the next. Settles when there is room for more. */
async function write(to: Sink, text: Buffer): Promise<void> {
  if (to.closed) return turn(); // not at once: a flood would keep the signals waiting
  if (to.midLine) to.waiting.push(Buffer.from("\n"));
  to.midLine = text.at(-1) !== NEWLINE;
  to.waiting.push(text);
  if (to.bytes === 0) {
    batches++;
    to.begun = to.written;
    to.written = to.begun.then(() => writeBatch(to));
  }
  to.bytes += text.length;
  if (to.bytes > AHEAD) await to.begun;
}

async function writeBatch(to: Sink): Promise<void> {
  const batch = Buffer.concat(to.waiting.splice(0));
  to.bytes = 0;
  for (let done = 0; done < batch.length && !to.closed; ) {
    const count = await writeSome(to, batch.subarray(done));
    done += count;
    moved += count;
  }
  batches--;
}

/** How many bytes were taken. */
function writeSome(to: Sink, bytes: Buffer): Promise<number> {
  return new Promise((taken) => {
    const done = (error?: Error | null, count = bytes.length) => {
      const code = error && codeOf(error);
      if (code === "EAGAIN") return sleep(5, 0).then(taken); // somebody made it non-blocking
      if (code) lost(to, code);
      return taken(count);
    };
    if (to.stream) to.stream.write(bytes, done);
    else fs.write(to.fd, bytes, 0, bytes.length, null, done);
  });
}

function lost(to: Sink, code: string): void {
  to.closed = true;
  const name = to.fd === 1 ? "stdout" : "stderr";
  const what = code === "EPIPE" ? "has lost its reader" : `cannot be written to (${code})`;
  stopAsked.resolve({ why: `${name} ${what}`, code: 0, stop: true });
}

function print(text: string): number {
  write(stdout, Buffer.from(text));
  return 0;
}

/** A line of our own. The severities are Cloud Logging's. */
function say(message: string, severity: "INFO" | "WARNING" | "ERROR" = "INFO"): void {
  const { red, yellow, bold } = stderr.colours;
  const colour = { INFO: bold, WARNING: yellow, ERROR: red }[severity];
  const text = json
    ? JSON.stringify({ severity, message, [LABELS]: { process: SELF } })
    : `${colour(SELF)} | ${message.replaceAll("\n", "\\n")}`;
  write(stderr, Buffer.from(`${text}\n`));
}

/** Copies lines until the pipe ends. A line that is not whole yet is held back. */
async function copy(source: AsyncIterable<Uint8Array>, to: Sink, row: Row): Promise<void> {
  const width = Math.max(...table.map(({ name }) => name.length));
  const colour = to.colours[COLOURS[table.indexOf(row) % COLOURS.length] ?? "cyan"];
  const prefix = json ? "" : `${colour(row.name.padEnd(width))} | `;
  // Bytes as characters: one native call for each step, whatever they encode.
  const bytesOf = (text: string) =>
    json ? Buffer.from(entries(text, row.name)) : Buffer.from(text, "latin1");
  let rest = prefix; // what is held back
  for await (const chunk of source) {
    moved += chunk.length;
    rest += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString("latin1");
    rest = withLongLinesCut(rest, prefix.length);
    const end = rest.lastIndexOf("\n") + 1;
    if (!end) continue;
    const lines = rest.slice(0, end);
    // Each newline brings the prefix of the next line, the last one that of a line to come.
    const bytes = bytesOf(prefix ? lines.replaceAll("\n", `\n${prefix}`) : lines);
    rest = prefix + rest.slice(end);
    await write(to, bytes.subarray(0, bytes.length - prefix.length));
  }
  if (rest.length > prefix.length) write(to, bytesOf(rest));
  await to.written;
}

function withLongLinesCut(text: string, from: number): string {
  let cut = text;
  for (let start = from; cut.length - start > LINE; ) {
    const newline = cut.lastIndexOf("\n", start + LINE);
    const end = newline < start ? endOfCharacter(cut, start + LINE) : newline;
    if (newline < start) cut = `${cut.slice(0, end)}\n${cut.slice(end)}`;
    start = end + 1;
  }
  return cut;
}

/** Where to cut at the latest: as JSON a UTF-8 character must stay whole. */
function endOfCharacter(bytes: string, latest: number): number {
  let end = latest;
  while (json && end > latest - 3 && (bytes.charCodeAt(end) & 0xc0) === 0x80) end--;
  return end;
}

/** Cloud Logging's structured form: https://cloud.google.com/logging/docs/structured-logging */
function entries(lines: string, name: string): string {
  const text = Buffer.from(lines, "latin1").toString("utf8").replace(/\n$/, "");
  const label = `"${LABELS}":{"process":${JSON.stringify(name)}}`;
  let all = "";
  for (const line of text.split("\n")) all += `${entry(line, label, name)}\n`;
  return all;
}

function entry(line: string, label: string, name: string): string {
  try {
    if (/^\s*\{/.test(line)) return labelled(line, label, name);
  } catch {} // a line of text after all, or an object too deep to be read
  return `{"message":${JSON.stringify(line)},${label}}`;
}

/** An app's own object keeps its text, and so its numbers; only the label is put into it. */
function labelled(line: string, label: string, name: string): string {
  const fields = JSON.parse(line);
  const own = fields[LABELS];
  if (own === undefined) {
    const comma = Object.keys(fields).length ? "," : "";
    return `${line.slice(0, line.lastIndexOf("}"))}${comma}${label}}`;
  }
  const exact = JSON.parse(line, asWritten);
  const labels = typeof own === "object" && !Array.isArray(own) ? exact[LABELS] : {};
  return JSON.stringify({ ...exact, [LABELS]: { ...labels, process: name } });
}

function asWritten(_key: string, value: unknown, at?: { source: string }): unknown {
  return typeof value === "number" && at ? JSON.rawJSON(at.source) : value;
}

declare global {
  interface JSON {
    rawJSON(text: string): unknown; // "JSON.parse source text access": TypeScript lacks its types
  }
}

/**
 * Waits until the readers have taken everything, and for one that stalls until the grace period
 * is over: each pipe to its end or, where a process that left its group holds it open, until that
 * is quiet, or has written for a second or more than a pipe holds.
 */
async function flushed(): Promise<void> {
  const all = Promise.all(children.map((child) => child.logs))
    .then(() => Promise.all([stdout.written, stderr.written]))
    .then(() => true);
  const tick = 20;
  const most = moved + (children.length + 1) * 2 ** 20;
  let quiet = 0; // milliseconds in which nothing was left to write and nothing came
  let idle = 0; // milliseconds in which nothing was left to write
  while (quiet < 60 && idle < 1000 && moved < most && performance.now() < graceEnds + MARGIN) {
    const seen = moved;
    if (await Promise.race([all, sleep(tick)])) return;
    if (!batches) idle += tick;
    quiet = !batches && moved === seen ? quiet + tick : 0;
  }
}

function time(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const s = milliseconds / 1000;
  if (s < 120) return `${Number(s.toFixed(1))} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

// ---- nginx: the configuration that $NGINX_CONF names

function nginxConf(app: string): string {
  const known: NodeJS.ProcessEnv = { ...childEnv, ENTRYPOINT_STATIC: settings.static };
  return (settings.template ?? builtIn(app)).replace(
    /\$\{(\w+)\}/g,
    (whole, name) => known[name] ?? whole,
  );
}

/** The CPUs that the container may use: those of its set, and no more than its quota pays for. */
function cpus(): number {
  const max = cgroup("cpu", "cpu.max", "cpu.cfs_quota_us"); // "50000 100000", "max 100000"; "-1"
  const [quota = 0, period = 0] = `${max} ${cgroup("cpu", "cpu.cfs_period_us")}`
    .split(/\s+/)
    .map(Number);
  const paid = quota > 0 ? Math.ceil(quota / period) : Number.POSITIVE_INFINITY;
  return Math.min(availableParallelism(), paid);
}

/** Transparent: what works without nginx in front works with it, from nginx 1.22 on. */
function builtIn(app: string): string {
  const { port, appPort, grace } = settings;
  const files = settings.static.replace(/["\\]/g, "\\$&").replaceAll("$", () => `\${dollar}`);
  const root = process.getuid?.() === 0;
  const addresses = Object.values(networkInterfaces()).flat();
  const ipv6 = addresses.some((address) => address?.family === "IPv6");
  return `# Written by entrypoint ${VERSION} for this run.
daemon off;
${root ? "user root; # what the app can read, nginx can" : ""}
pid "${directory}/nginx.pid";
error_log stderr warn;
worker_processes ${cpus()};
worker_shutdown_timeout ${Math.max(100, Math.round((grace - 1.5) * 1000))}ms; # shortly before ENTRYPOINT_GRACE ends
events { worker_connections 4096; }
http {
  access_log /dev/stdout;
  include /etc/nginx/mime[.]types; # a pattern may match nothing
  types { text/javascript mjs; } # which it lacks
  types_hash_max_size 4096;
  default_type application/octet-stream;
  client_body_temp_path "${directory}/body";
  proxy_temp_path "${directory}/proxy";
  fastcgi_temp_path "${directory}/fastcgi";
  uwsgi_temp_path "${directory}/uwsgi";
  scgi_temp_path "${directory}/scgi";
  sendfile on;
  server_tokens off;
  absolute_redirect off;

  # Requests of any size, up to an hour long, with any headers.
  client_max_body_size 0;
  client_body_timeout 3600s;
  send_timeout 3600s;
  keepalive_timeout 620s; # longer than the 600 s of Google's load balancers
  ignore_invalid_headers off;
  large_client_header_buffers 8 64k;

  ${files.includes("$") ? 'geo $dollar { default "$"; }' : ""}
  upstream app {
    server ${app}:${appPort};
    keepalive 64;
    keepalive_timeout 1s; # less than any app's, so that none closes a connection just taken
  }
  server {
    listen ${port};
    ${ipv6 ? `listen [::]:${port};` : ""}
    server_name localhost;

    # What a proxy outside has set stays as it came. (Each \`map\` would cost the start a millisecond.)
    set $connection_header "";
    set $host_header $http_host;
    set $forwarded_for $http_x_forwarded_for;
    set $forwarded_proto $http_x_forwarded_proto;
    if ($http_connection ~* upgrade) { set $connection_header upgrade; }
    if ($host_header = "") { set $host_header $host; }
    if ($forwarded_for = "") { set $forwarded_for $remote_addr; }
    if ($forwarded_proto = "") { set $forwarded_proto $scheme; }

    ${isDirectory(settings.static) ? `location /static/ { alias "${files}/"; }` : ""}
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
      proxy_read_timeout 3600s;
      proxy_send_timeout 3600s;
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
      proxy_busy_buffers_size 128k;
      proxy_redirect off;
      proxy_pass_header Server;
      proxy_pass_header Date;
      proxy_set_header Host $host_header;
      proxy_set_header Connection $connection_header;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $forwarded_for;
      proxy_set_header X-Forwarded-Proto $forwarded_proto;
    }
  }
}
`;
}

const code = await main(process.argv.slice(2)).catch((error) => {
  say(`${error.message}: cannot go on`, "ERROR");
  return 1;
});
await flushed();
process.exit(code);
