#!/usr/bin/env bun
// entrypoint: the program that a container starts when it has to run more than one.
// A table of processes in, an exit code out. It supervises nothing and restarts nothing.
// SPDX-License-Identifier: Apache-2.0
import type { SpawnOptions, StdioOptions, spawn as spawnOfNode } from "node:child_process";
import fs from "node:fs";
import { availableParallelism, constants, networkInterfaces, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { $, type ProcessOutput, which } from "zx/core";

/** The bash script: start each in turn, `wait -n`, end the others, exit with the first one's code. */
async function main(argv: string[]): Promise<number> {
  avoidThreads();
  process.on("exit", leaveNothing);
  readEnvironment();
  await openOutput();
  let end = await readCommandLine(argv); // --help, --version, --check and errors start nothing
  end ??= openRun();
  for (const row of table) {
    if (end) break;
    end = await Promise.race([firstEnd(), checkPlace(row)]);
    end ??= await Promise.race([startProcess(row), firstEnd()]); // PORT=8081 ./server & nginx &
  }
  if (!end) tellWhenReady();
  end ??= await firstEnd(); //                               wait -n
  return stopAll(end);
}

/** A row of the table: one line of a Procfile. */
type Row = {
  name: string;
  where: string; // its file and line, for messages
  command: string;
  script: string; // what `sh -c` gets: the command without what is ours of it
  environment: NodeJS.ProcessEnv; // what its line gives to all of it
  program: string | undefined; // where it can be told
  place: Place | undefined; // the public port, unless its line has another; none: nobody needs it
  stopSignal: number | undefined; // where its line has one
  release: boolean; // runs to completion before the others start
};

/** Where a process listens: a port, or the path of a UNIX socket. */
type Place = number | string;

/** A process that was started. It leads a session and a process group, whose number is its pid. */
type Child = {
  row: Row;
  pid: number;
  startedAt: number; // milliseconds, as performance.now() has them
  exit: Promise<End>;
  end: End | undefined; // once it has ended
  sent: Set<number>; // the stop signals that it, or a process below it, was sent
  logs: Promise<unknown>; // settles when both its pipes have been copied to their ends
  upAfter: number | undefined; // milliseconds from its start until it listened
  tree: Process[]; // its session and who descends from that, when they were last looked at
  zombies: boolean; // whether some of these had ended then, and nobody had reaped them
  gone: boolean; // nothing is left of it: its number may be another's by now
};

/** What ends the container. An answer is `--help` and the like: nothing was started. */
type End = {
  kind: "exit" | "stop" | "failure" | "answer";
  why: string;
  code: number;
  child?: Child; // of an exit
  after?: number; // milliseconds from its start
};

// All that changes during a run. Here are the defaults; nothing happens before main.
const settings = {
  port: 8080,
  appPort: 8081 as Place,
  grace: 9, // seconds from a stop signal to SIGKILL
  ready: 240, // seconds a process may take to listen
  log: "text" as "text" | "json" | "raw",
  template: undefined as string | undefined, // of nginx's configuration
  static: "static",
};
const problems: string[] = []; // with the environment, the command line and the Procfile
const table: Row[] = [];
const children: Child[] = []; // in the order of their start
const ends: End[] = []; // of processes, in the order in which they came
const stopAsked = Promise.withResolvers<End>();
const signalled = { first: "", handledAt: Number.POSITIVE_INFINITY, second: "", killing: "" };
let ending = false; // what ends the container is known
let graceEnds = Number.POSITIVE_INFINITY; // milliseconds, as performance.now() has them
let directory = ""; // of this run, private
let childEnv: NodeJS.ProcessEnv = {};
let appAddress = "127.0.0.1"; // where the app answers, for nginx
const oomKillsBefore = lazily(oomKills); // asked for soon after the first start
let placesToldOf = false; // of those who listen without a word of it in their line
const askedBefore = new Map<string, Asked>(); // at the stop, by id of a process
let onTerminal = false; // it has a controlling terminal, or had one at the start
let bytesRead = 0; // of what the processes wrote
const lastRead = { at: 0, bytes: 0 }; // milliseconds, and bytes that were read by then
const openPipes = new Set<Pipe>(); // of which the end has not come yet
let descriptorFlags: number[] = []; // of stdout and stderr, as they were
let libc: Awaited<ReturnType<typeof openLibc>>; // on Bun
let net: NodeNet | undefined; // elsewhere
const stdout = outputTo(1);
let stderr = outputTo(2);

const { env } = process;
const { signals } = constants;
const { SIGTERM, SIGINT, SIGKILL, SIGCONT } = signals;

// ---- the table: a Procfile's lines, or the two lines that a COMMAND stands for. sh runs the lines.
// Of a line only what opens it is read here; all else is asked of the processes that run.

function commandTable(words: string[]): Row[] {
  const command = words.map(quoted).join(" ");
  if (/\s/.test(tmpdir()))
    problems.push(`TMPDIR=${tmpdir()}: must be without blanks, for nginx -c $NGINX_CONF`);
  const app = readRow("", "app", `PORT=$APP_PORT ${command}`);
  // `exec` here whatever the first word is: a COMMAND is a program, never a word of the shell's.
  const script = `exec ${carried()}${command}`;
  const environment = { PORT: `${settings.appPort}` };
  return [
    { ...app, script, environment, place: settings.appPort, program: words[0] || "''" },
    // -e: without it nginx, started by any user but root, complains of its compiled-in log file.
    readRow("", "nginx", "nginx -c $NGINX_CONF -e stderr"),
  ];
}

function readProcfile(path: string): Row[] {
  const rows: Row[] = [];
  const holders: Holders = new Map();
  let above = "";
  for (const [i, text] of readFile("", path).split(/\r?\n/).entries()) {
    const line = text.trimStart();
    if (!line || line.startsWith("#")) continue;
    const where = `${path}:${i + 1}: `;
    const [, name, command = ""] = /^([\w-]+):\s*(.*)$/.exec(line) ?? [];
    if (!name)
      problems.push(
        `${where}must be \`name: command\`, name of letters, digits, _ and -${cureFor(line, above)}`,
      );
    else if (!command) problems.push(`${where}${name}: has no command${cureFor(line, above)}`);
    else if (command.includes("\0")) problems.push(`${where}${name}: has a NUL byte`);
    else if (name !== "release" && rows.some((other) => other.name === name))
      problems.push(
        `${where}${name}: a process has this name already: join the two with &&, or rename it`,
      );
    else rows.push(readRow(where, name, command, holders));
    above = line;
  }
  if (!rows.length && !problems.length) problems.push(`${path}: names no process`);
  return inOrderOfStart(rows);
}

/** Jobs first. A front that stands above its app would answer 502: it starts directly behind that. */
function inOrderOfStart(rows: Row[]): Row[] {
  const jobs = rows.filter(({ release }) => release);
  const [app, ...more] = rows.filter((row) => row.place && !row.release && !isFront(row));
  // APP_PORT is where the front finds the app. Where there is one line for it, that may say so.
  if (rows.some(isFront) && app?.place && hasOwnPlace(app) && !more.length && !given("APP_PORT"))
    settings.appPort = app.place;
  const backend = rows.findLastIndex(isBackend);
  const early = rows.filter((row, i) => isFront(row) && i < backend);
  const late = rows.filter((row) => !row.release && !early.includes(row));
  return [...jobs, ...late.flatMap((row) => (row === rows[backend] ? [row, ...early] : row))];
}

function isFront({ command, release }: Row): boolean {
  return USES_NGINX_CONF.test(command) && !release;
}

/** The app: the front sends requests there. */
function isBackend(row: Row): boolean {
  return row.place === settings.appPort && !row.release && !isFront(row);
}

/** Whether the next one starts only when it listens: one on the public port is nobody's backend. */
function isWaitedFor(row: Row): boolean {
  return hasOwnPlace(row) && row !== table.at(-1) && settings.ready > 0;
}

function hasOwnPlace({ place, release }: Row): boolean {
  return place !== undefined && place !== settings.port && !release;
}

// ---- start: in the order of the table. Each process leads a session and a process group of its own,
// setsid(2), its stdin is /dev/null, and its output goes into pipes: nginx can open those, not sockets.

/** What all of them share: signal handlers, a directory, an environment. */
function openRun(): End | undefined {
  handleSignals();
  const failure = makeDirectory();
  if (!failure && process.pid === 1) {
    const cure = "put tini in front of it, or use docker run --init";
    say(`runs as PID 1, so zombies are not reaped: ${cure}`, "WARNING");
  }
  return failure;
}

function makeDirectory(): End | undefined {
  try {
    directory = fs.mkdtempSync(join(resolve(tmpdir()), "entrypoint-"));
    const NGINX_CONF = join(directory, "nginx.conf");
    const { port, appPort } = settings;
    childEnv = { ...env, PORT: `${port}`, APP_PORT: `${appPort}`, NGINX_CONF };
    if (stdout.colours && settings.log !== "raw") childEnv.FORCE_COLOR ??= "1";
    writeNginxConf();
  } catch (error) {
    const cure = "mount a tmpfs on /tmp or let TMPDIR name a directory to write in";
    const why = `${tmpdir()}: cannot be written in (${codeOf(error)}): ${cure}`;
    return { kind: "failure", why, code: 2 };
  }
  return undefined;
}

/** On every way out. */
function leaveNothing(code: number): void {
  for (const child of children) if (!child.gone) send(-child.pid, SIGKILL);
  fs.closeSync(0); // a descriptor for rmSync, where none is left
  if (directory) fs.rmSync(directory, { recursive: true, force: true });
  giveBackOutput(code);
}

/** Starts it. Settles once the next one may start, or with what ends the container. */
async function startProcess(row: Row): Promise<End | undefined> {
  try {
    return await waitUntilUp(launch(row));
  } catch (error) {
    return { kind: "failure", why: notStarted(`${row.name}:`, codeOf(error)), code: 126 };
  }
}

// zx as it comes, whatever ZX_ variables there are; a command is a line for sh, with no quotes added.
const ZX: Partial<typeof $> = {
  shell: "sh",
  prefix: "",
  postfix: "",
  quote: (line) => line,
  cwd: "",
  timeout: 0,
  quiet: true,
  verbose: false,
  preferLocal: false,
  nothrow: true,
};

/** Runs lines of sh, each in a session of its own. */
function sh(environment: NodeJS.ProcessEnv, stdio: StdioOptions) {
  return $({ ...ZX, ...bunsOwn, detached: true, env: environment, stdio });
}

function launch(row: Row): Child {
  const pipes = settings.log === "raw" ? undefined : { out: makePipe(), err: makePipe() };
  const startedAt = performance.now();
  const stdio: StdioOptions = ["ignore", pipes?.out.writeEnd ?? 1, pipes?.err.writeEnd ?? 2];
  const leader = sh({ ...childEnv, ...row.environment }, stdio)`${row.script}`;
  for (const { writeEnd } of Object.values(pipes ?? {})) fs.closeSync(writeEnd);
  const child: Child = {
    row,
    pid: leader.pid ?? 0,
    startedAt,
    exit: Promise.resolve(leader).then((output) => ended(child, output)), // races of zx's own promises are slow
    end: undefined,
    sent: new Set(),
    logs: Promise.all(
      pipes ? [follow(pipes.out, stdout, row), follow(withCure(pipes.err, row), stderr, row)] : [],
    ),
    upAfter: undefined,
    tree: [],
    zombies: false,
    gone: !leader.pid, // it could not be started
  };
  children.push(child);
  nextTurn().then(oomKillsBefore);
  return child;
}

// ---- readiness: a process with a place of its own is up when something accepts a connection there.
// The next one starts then, which keeps nginx from answering 502. Until the last one has started, the
// public port refuses connections, and the probes of Cloud Run and Kubernetes wait.

/** Undefined once the next process may start. */
async function waitUntilUp(child: Child): Promise<End | undefined> {
  if (child.row.release) {
    const end = await child.exit;
    lookAtTrees();
    isGone(child); // asked now, for a later process may get its pid
    return end.code === 0 && child.row !== table.at(-1) ? undefined : end;
  }
  if (!isWaitedFor(child.row) || (await waitUntilListens(child, settings.ready))) return undefined;
  const where = placeName(probedPlace(child.row));
  const what = `did not listen on ${where} within ${duration(settings.ready * 1000)}`;
  return { kind: "failure", why: `${child.row.name}: ${what}${hintForPlace(child)}`, code: 1 };
}

/** Whether it listened, or ended, within `limit` seconds. Tells of it after 2 s, 10 s and each 30 s. */
async function waitUntilListens(child: Child, limit: number): Promise<boolean> {
  const since = performance.now();
  const most = limit * 1000;
  // Those behind it wait for 1 % longer at most; for the last nobody waits.
  const isNeeded = isWaitedFor(child.row);
  const [share, longest] = isNeeded ? [0.01, 250] : [0.1, 1000];
  let tellAt = isNeeded ? 2000 : Number.POSITIVE_INFINITY;
  for (let waited = 0; waited < most && !ending; waited = performance.now() - since) {
    if (waited >= tellAt) {
      tellOfWaiting(child, waited);
      tellAt = tellAt < 10_000 ? 10_000 : tellAt + 30_000;
    }
    await sleep(Math.min(Math.max(waited * share, 2), longest, most - waited));
    const address = child.end ? undefined : await answersAt(probedPlace(child.row));
    if (address) isUpAt(child, address);
    if (child.end || address) return true;
  }
  return Boolean(child.end);
}

function isUpAt(child: Child, address: string): void {
  child.upAfter = performance.now() - child.startedAt;
  if (address !== appAddress && child.row.place === settings.appPort) writeNginxConf(address);
}

/** What ends the container before it starts: another program at its place. */
async function checkPlace({ name, place, release }: Row): Promise<End | undefined> {
  const isShared = children.some(({ row }) => !row.release && row.place === place);
  if (release || isShared || place === undefined) return undefined;
  const isTaken = async () => Boolean(await answersAt(place)) && !holderOf(place, children);
  // Asked twice: a server of ours may be handing its socket to a worker that it has just started.
  if ((await isTaken()) && (await sleep(PATIENCE).then(isTaken))) {
    const why = `${name}: another program listens on ${placeName(place)} already`;
    return { kind: "failure", why: `${why}: end it or choose another place`, code: 2 };
  }
  // Left over from an earlier run: many programs do not start where a socket's file is.
  if (typeof place === "string" && fs.lstatSync(place, { throwIfNoEntry: false })?.isSocket())
    fs.rmSync(place);
  return undefined;
}

/** One line when all are up. The last one is looked at for the time it takes, 10 s at most. */
async function tellWhenReady(): Promise<void> {
  const last = children.at(-1);
  if (!last || last.row.release) return;
  const startedAt = performance.now();
  warnOfDaemons(children);
  await waitUntilListens(last, Math.min(settings.ready, 10));
  if (ending) return;
  const total = duration(last.upAfter ? performance.now() : startedAt);
  const place = probedPlace(last.row);
  const sharing = children.filter(({ row }) => probedPlace(row) === place && !row.release);
  // One that shares its place with nobody has not to be looked for in /proc.
  const front = (last.upAfter && sharing.length > 1 && holderOf(place, sharing)) || last;
  if (front !== last) {
    last.upAfter = undefined;
    front.upAfter = performance.now() - front.startedAt;
  }
  const times = children.map(({ row, upAfter }) => upAfter && `${row.name} ${duration(upAfter)}`);
  if (settings.ready && !front.upAfter) times.push(`nobody answers on ${placeName(place)} yet`);
  say(`ready in ${total}: ${times.filter(Boolean).join(", ") || "waited for none"}`);
  freeMemory(); // a megabyte that only the start needed
  warnOfDaemons([front]);
  await sleep(Math.max(0, startedAt + 10_000 - performance.now()));
  if (ending) return;
  lookAtTrees();
  warnOfPlaces();
  freeMemory();
}

// ---- the race: as `wait -n` of bash(1) does, the first to end decides, whatever its code is.

function firstEnd(): Promise<End> {
  const servers = children.filter((child) => !child.row.release);
  return Promise.race([stopAsked.promise, ...servers.map((child) => child.exit)]);
}

// ---- stop: who serves others is asked last, all others at once. A signal asks for it, or the first
// exit. Cloud Run and `docker stop` kill after 10 s, so it takes ENTRYPOINT_GRACE, 9 s, at most. The
// exit code is 0 when all ended as they were asked to.

/** The front holds the public port. One that is only seen to listen may be a worker with metrics. */
type Role = "front" | "serves" | "seems to serve";

const PATIENCE = 100; // milliseconds for what ends by itself once another has
const LOOK = 4; // milliseconds until one looks at those that were asked

/** Ends them all, whatever it is that ends the container. Gives the exit code. */
async function stopAll(end: End): Promise<number> {
  if (end.kind === "answer") return end.code;
  ending = true;
  const since = performance.now();
  const isCrash = end.kind !== "stop" && end.code !== 0;
  graceEnds = Math.min(graceEnds, since + settings.grace * (isCrash ? 500 : 1000));
  if (end.kind !== "stop") {
    await Promise.all([tellOfEnd(end), drain(end)]); // what lives on is told before it is asked
    return end.code;
  }
  const killed = await drain(end);
  const wrong = ends.find((other) => !isAsAsked(other));
  if (wrong && !killed) say(wrong.why, "ERROR");
  const code = killed ? 137 : wrong?.code || end.code;
  say(`stopped in ${duration(performance.now() - since)}, exit code ${code}`);
  return code;
}

async function tellOfEnd(end: End): Promise<void> {
  await lastWords(end.child);
  say(end.why + hintFor(end), end.code === 0 ? "WARNING" : "ERROR");
}

/** Its last words come before ours. What it leaves in its group may be a `tee` that still writes. */
async function lastWords(child: Child | undefined): Promise<void> {
  await within(PATIENCE, child?.logs);
}

/** 0, or a stop signal; a shell or a JVM reports that as 128+n. A script may do `kill 0` at its end. */
function isAsAsked({ code, child }: End): boolean {
  return code === 0 || code === 128 + SIGTERM || Boolean(child?.sent.has(code - 128));
}

/** Asks each when its turn comes, until none is left or the time is up. Whether it had to kill. */
async function drain(end: End): Promise<boolean> {
  const plan = planOfStop();
  if (end.kind === "stop") {
    warnOfPlaces(plan.sockets);
    say(`${end.why}: stopping ${inOrder(plan) || "before anything has started"}`);
  }
  let busy = end.child; // the first to end: what it leaves in its group may still write
  (settings.log === "raw" ? sleep(PATIENCE) : lastWords(busy)).then(() => {
    busy = undefined;
  });
  // An end is told at once; what it left in its group is looked for, which takes 1 ms or more.
  for (let wait = LOOK; plan.left.length > 0; wait = Math.min(wait * 1.5, 20)) {
    const now = performance.now();
    if (now >= graceEnds) return killTrees(plan.left);
    plan.sockets = lazily(openSockets);
    for (const child of plan.left)
      if (isNext(child, plan, now) && child !== busy) askTree(child, plan);
    const exits = plan.left.filter((child) => !child.end).map((child) => child.exit);
    const anEnd = await within(wait, Promise.race(exits));
    if (anEnd) await nextTurn(); // many may end at once
    // What was more than its leader may have started another since it was looked at.
    if (!anEnd || plan.left.some((child) => child.end && child.tree.length > 1)) lookAtTrees();
    const before = plan.left.length;
    plan.left = plan.left.filter((child) => !isGone(child));
    if (plan.left.length < before) wait = LOOK;
  }
  return false;
}

/** What is known when the stop begins. Times are milliseconds, as performance.now() has them. */
function planOfStop() {
  const since = performance.now();
  const total = graceEnds - since;
  const sockets = lazily(openSockets);
  lookAtTrees();
  const inTable = table.flatMap((row) => children.filter((child) => child.row === row));
  const left = inTable.filter((child) => !isGone(child));
  return {
    left, // in the order of the table
    present: new Set(left.flatMap(({ tree }) => tree.map(({ id }) => id))), // who began no later
    roles: rolesOf(left, sockets),
    filters: new Set(left.flatMap(({ tree }) => filtersOf(tree, sockets))), // ids of processes
    sockets, // as they are at this look
    halfway: since + total / 2, // who only seems to be needed, or stands below the front, waits no longer
    hurry: graceEnds - Math.min(1500, total / 2), // some are told again, to whom SIGTERM means "now"
    lastCall: graceEnds - Math.min(1000, total / 5), // all are asked who were not
  };
}

type Stop = ReturnType<typeof planOfStop>;

/** What /proc shows when the stop begins. Who is not in it serves nobody. */
function rolesOf(left: Child[], sockets: () => Sockets): Map<Child, Role> {
  const roles = new Map<Child, Role>();
  const listening: Child[] = []; // with no word of it in its line
  const fronts: Child[] = [];
  for (const child of left) {
    const it = whereListens(child, sockets);
    const isWritten = hasOwnPlace(child.row);
    if (it?.places.includes(settings.port)) fronts.push(child);
    if (it?.places.length && child.row.place === settings.port) listening.push(child);
    if (isWritten || (!it && child !== left.at(-1))) roles.set(child, "serves");
    else if (child.row.place !== undefined && (it?.places.length || it?.carries))
      roles.set(child, "seems to serve");
  }
  // Where nobody is at the public port: a web server on a fixed one.
  for (const child of fronts.length ? fronts : listening.slice(-1)) roles.set(child, "front");
  return roles;
}

/** Whether nobody is left for whom it has to wait, or it has waited long enough. */
function isNext(child: Child, { left, roles, halfway, lastCall }: Stop, now: number): boolean {
  const role = roles.get(child);
  if (!role || role === "front") return true;
  const isLowest = child === left.at(-1);
  if (role === "seems to serve") return isLowest || now >= halfway;
  const hasFront = left.some((other) => roles.get(other) === "front");
  return (isLowest || now >= lastCall) && (!hasFront || now >= halfway);
}

/** As in "nginx, worker, then app, then redis". */
function inOrder(plan: Stop): string {
  const isAtOnce = (child: Child) => isNext(child, plan, 0);
  const names = (some: Child[]) => some.map(({ row }) => row.name).reverse();
  const later = names(plan.left.filter((child) => !isAtOnce(child)));
  return [names(plan.left.filter(isAtOnce)).join(", "), ...later].join(", then ");
}

/** Kills what is left, and says so. Returns when it is gone, or in a second. */
async function killTrees(left: Child[]): Promise<true> {
  const { killing } = signalled;
  const why = killing ? `killed at a second signal, ${killing}` : "did not stop in time: killed";
  const gives = performance.now() + 1000;
  for (const child of left) {
    killTree(child);
    const denied = child.tree.filter(({ pid }) => send(pid, 0).denied);
    for (const p of denied) say(`${child.row.name}: ${anothers(p)} and cannot be killed`, "ERROR");
    if (!denied.length) say(`${child.row.name}: ${why}`, "ERROR");
  }
  while (performance.now() < gives && left.some((child) => !isGone(child))) {
    await sleep(2);
    lookAtTrees();
    left.forEach(killTree);
  }
  return true;
}

function killTree({ pid, gone, tree }: Child): void {
  if (!gone) send(-pid, SIGKILL);
  for (const p of tree) send(p.pid, SIGKILL);
}

// ======== Here the story ends. Its details follow, each section by itself.

// ---- who is asked to stop: from the leader of a tree down, the first that handles its signal, and it
// alone, for it tells its own. What would only pass the signal on is left alone, and ends when the
// server has.

// What makes a program finish its requests, where SIGTERM drops them; by comm, see proc(5). Each was
// tried with the real program. SIGTERM reloads uwsgi, and so does SIGQUIT with its option die-on-term.
const OWN_SIGNALS: [signal: number, programs: RegExp][] = [
  [signals.SIGQUIT, /^(nginx|openresty|php-fpm|unicorn)$/],
  [signals.SIGUSR1, /^haproxy$/],
  [signals.SIGWINCH, /^(apache2|httpd)$/],
  [signals.SIGINT, /^(lighttpd|postgres|uwsgi)$/],
];
const HURRIED = /^(nginx|openresty|php-fpm|haproxy)$/; // SIGTERM is "now" to them, and they end with 0
// These pass SIGTERM on to the server, or kill it soon after. They end when it has.
const RELAYS =
  /^(su|runuser|sudo|timeout|unshare|script|tini(-static)?|(docker|dumb)-init|catatonit)$/;
const SHELLS = /^-?(a|da|ba|z|k|mk)?sh$|^busybox$/;

/** How a process was when it was sent a signal, or without one was left alone for a while. */
type Asked = {
  name: string;
  signal: number;
  notBefore: number; // milliseconds, as performance.now() has them
  tellsItsOwn: boolean;
  listened: boolean;
};

function askTree(child: Child, plan: Stop): void {
  for (const p of rootsOf(child.tree)) askFrom(p, child, plan);
  for (const { pid, state } of child.tree) if (state === "T") send(pid, SIGCONT); // or it sees no signal
}

/** Asks this process, or those below it. A relay above it ends by itself, but not before the server. */
function askFrom(p: Process, child: Child, plan: Stop, relayAbove?: Process): void {
  if (isStillFilter(p, child, plan)) return;
  const before = toldBefore(p, plan);
  if (before) {
    askBelowTold(p, before, child, plan);
    return;
  }
  const signal = child.row.stopSignal ?? ownSignal(p) ?? SIGTERM;
  const leads = tellsItsOwn(p, signal);
  const isTrap = leads && isShell(p); // it would pass SIGTERM on to a known server
  const relay = RELAYS.test(p.name) || (isTrap && allBelow(p).some(ownSignal)) ? p : relayAbove;
  if (leads && relay !== p) {
    leaveAlone(allBelow(p), plan.lastCall, plan);
    sendOnce(p, signal, child, plan);
    return;
  }
  // A loop would start the server again, so its shell is told first; below a relay, once it does.
  if (relay && allBelow(p).some(({ id }) => plan.present.has(id))) leaveAlone([p], graceEnds, plan);
  else sendOnce(p, handles(p, signal) ? signal : SIGTERM, child, plan);
  for (const q of p.below) askFrom(q, child, plan, relay);
}

/** For half of the time one that was a filter may end by itself; then by what it reads now. */
function isStillFilter({ id }: Process, { tree }: Child, plan: Stop): boolean {
  const mayEnd = performance.now() < plan.halfway;
  return plan.filters.has(id) && (mayEnd || filtersOf(tree, plan.sockets).includes(id));
}

/** If it was asked, by us or by another that was: it handles SIGTERM no longer, or has closed. */
function toldBefore(p: Process, { lastCall, sockets }: Stop): Asked | undefined {
  const before = askedBefore.get(p.id);
  if (!before) return undefined;
  // A program that has taken the place of one that was asked may clean up, but not for ever.
  if (before.name !== p.name)
    return before.signal && performance.now() < lastCall ? before : undefined;
  const isTold =
    before.signal ||
    (before.tellsItsOwn && !handles(p, SIGTERM)) ||
    (before.listened && !isListening(p, sockets));
  return isTold ? before : undefined;
}

/** It tells its own, if it handles signals. In the last second a shell has not. */
function askBelowTold(p: Process, before: Asked, child: Child, plan: Stop): void {
  const now = performance.now();
  const { signal, tellsItsOwn: leads } = before;
  if (leads) leaveAlone(allBelow(p), plan.lastCall, plan);
  if (now >= plan.hurry && HURRIED.test(p.name) && signal === ownSignal(p))
    sendOnce(p, SIGTERM, child, plan);
  if (!leads || (now >= plan.lastCall && isShell(p)))
    for (const q of p.below) askFrom(q, child, plan);
}

/** These may end by themselves, once another has: for a moment, and at the latest until then. */
function leaveAlone(some: Process[], until: number, plan: Stop): void {
  const notBefore = Math.min(performance.now() + PATIENCE, until);
  for (const p of some) {
    const before = askedBefore.get(p.id);
    if (before?.name === p.name) before.notBefore = notBefore;
    else askedBefore.set(p.id, { ...noteOf(p, 0, plan), notBefore });
  }
}

function noteOf(p: Process, signal: number, { sockets }: Stop): Asked {
  const [handler, listened] = [tellsItsOwn(p, signal || SIGTERM), isListening(p, sockets)];
  return { name: p.name, signal, notBefore: 0, tellsItsOwn: handler, listened };
}

/** No one twice: to many a second signal means "at once", in the middle of their work. */
function sendOnce(p: Process, signal: number, { row, sent }: Child, plan: Stop): void {
  if (performance.now() < (askedBefore.get(p.id)?.notBefore ?? 0)) return;
  askedBefore.set(p.id, noteOf(p, signal, plan));
  sent.add(signal);
  if (send(p.pid, signal).denied)
    say(`${row.name}: ${anothers(p)} and cannot be asked to stop`, "WARNING");
}

/** Of a server that has one. BusyBox's httpd has the name of another, and not its signal. */
function ownSignal(p: Process): number | undefined {
  const [signal] = OWN_SIGNALS.find(([, programs]) => programs.test(p.name)) ?? [];
  return signal && handles(p, signal) ? signal : undefined;
}

/** Every shell catches SIGINT while it waits, trap or not. */
function tellsItsOwn(p: Process, signal: number): boolean {
  return handles(p, signal) && !(signal === SIGINT && isShell(p) && !handles(p, SIGTERM));
}

/** Those that only read what another writes, as `tee` does, until that ends. */
function filtersOf(tree: Process[], sockets: () => Sockets): string[] {
  const file = (p: Process, fd: number) => linkTarget(`/proc/${p.pid}/fd/${fd}`);
  const outputs = tree.flatMap((p) => [1, 2].map((fd) => ({ p, output: file(p, fd) })));
  const isFilter = (p: Process) =>
    isFifo(`/proc/${p.pid}/fd/0`) &&
    outputs.some((other) => other.p !== p && other.output === file(p, 0)) &&
    !isListening(p, sockets);
  return tree.filter(isFilter).map(({ id }) => id);
}

// ---- signals: some ask to stop, some are for the last process, signal(7). Those that would end us
// without a word ask to stop, too; faults (SIGSEGV and the like) are left to the runtime.

const STOPS = ["SIGTERM", "SIGINT", "SIGQUIT"] as const;
const PASSED_ON = ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const; // to the last process
const FATAL = `SIGALRM SIGVTALRM SIGPROF SIGXCPU SIGXFSZ SIGIO SIGSYS SIGABRT`.split(" ");

function handleSignals(): void {
  onTerminal = hasTerminal();
  for (const signal of STOPS) process.on(signal, () => askToStop(signal, 0));
  for (const signal of FATAL as NodeJS.Signals[])
    process.on(signal, () => askToStop(signal, 128 + signals[signal]));
  // The STOPSIGNAL of the images of Apache and PHP. On a terminal it means another size.
  process.on("SIGWINCH", () => onTerminal || askToStop("SIGWINCH", 0));
  const ignored = signalMask("self", ["SigIgn"]) ?? 0n;
  for (const signal of PASSED_ON) {
    if (isIn(ignored, signals[signal])) continue; // nohup(1) ignores SIGHUP for us
    process.on(signal, () => {
      if (signal === "SIGHUP" && onTerminal) askToStop(signal, 0);
      else if (!ending) passOn(signal);
    });
  }
  // As dumb-init does: a signal that our parent had blocked would reach neither us nor the children.
  libc?.sigprocmask(SIG_SETMASK, new Uint8Array(128), null);
}

/** SIGHUP and the like are for the last line: for a server that is known, else who handles it. */
function passOn(name: NodeJS.Signals): void {
  const signal = signals[name];
  const row = table.at(-1);
  const last = children.findLast((child) => child.row === row);
  if (!last) {
    say(`${name}: ${row?.name} has not started yet, so nobody gets it`, "WARNING");
    return;
  }
  if (name === "SIGHUP") renewNginxConf();
  lookAtTrees();
  const topDown = rootsOf(last.tree);
  for (const p of topDown) topDown.push(...p.below);
  const handlers = topDown.filter((p) => handles(p, signal));
  const inTurn = [...handlers.filter(ownSignal), ...handlers];
  if (inTurn.some((p) => send(p.pid, signal).there)) return; // some may have gone meanwhile
  say(`${name}: ${row?.name} does not handle it, so nobody gets it`, "WARNING");
}

/** Whether there is a controlling terminal, tty(4). */
function hasTerminal(): boolean {
  const terminal = attempt(() => fs.openSync("/dev/tty", "r"));
  if (terminal === undefined) return false;
  fs.closeSync(terminal);
  return true;
}

function askToStop(signal: NodeJS.Signals, code: number): void {
  stopAsked.resolve({ kind: "stop", why: signal, code });
  if (!signalled.first)
    nextTurn().then(() => {
      signalled.handledAt = performance.now(); // what a stop does first may take a while
    });
  signalled.first ||= signal;
  // timeout(1) sends its signal twice within 0.1 ms, npm a Ctrl-C within 1 ms.
  if (signal === signalled.first && performance.now() < signalled.handledAt + 20) return;
  if (signal === "SIGINT" || (onTerminal && STOPS.some((other) => other === signal))) {
    signalled.killing = signal;
    graceEnds = performance.now();
  } else if (!signalled.second) {
    // A platform's: a preStop hook's, then the kubelet's, which has SIGKILL to end us.
    signalled.second = signal;
    const names = children.filter(({ gone }) => !gone).map(({ row }) => row.name);
    const left = duration(Math.max(0, graceEnds - performance.now()));
    say(`${signal}: stopping already; ${names.join(", ")} may take ${left} more`);
  }
}

// ---- places: where a process answers is found out by connecting, as a client would; where it listens
// by /proc/net.

/** The address at which something accepts a connection: of this host, or the place itself. */
async function answersAt(place: Place): Promise<string | undefined> {
  if (typeof place === "string") return (await takesConnection(place, "")) ? place : undefined;
  const at = async (host: string) => ((await takesConnection(place, host)) ? host : undefined);
  const first = async () => {
    const [ipv4, ipv6] = [at("127.0.0.1"), at("::1")];
    return (await ipv4) ?? (await ipv6) ?? atOwn(at);
  };
  // It may have begun to listen between two questions: then the first place that answers is another.
  const all = first().then((host) => (host && host !== "127.0.0.1" ? first() : host));
  return within(1000, all);
}

/** Next.js, for one, listens at $HOSTNAME alone. */
async function atOwn(at: (hostname: string) => Promise<string | undefined>) {
  const outer = ownAddresses().filter((own) => !own.internal && !own.address.startsWith("fe80"));
  const answers = await Promise.all(outer.map(({ address }) => at(address)));
  return answers.find((address) => address);
}

const ownAddresses = lazily(() => Object.values(networkInterfaces()).flatMap((some) => some ?? []));

/** Where one asks for it: at its own place, or at the public port. */
function probedPlace({ place }: Row): Place {
  return place ?? settings.port;
}

function placeName(place: Place): string {
  return typeof place === "number" ? `port ${place}` : place;
}

/** Undefined if nobody tells. */
function whereListensNow(child: Child) {
  lookAtTrees();
  return whereListens(child, openSockets);
}

/** Which of these listens there now. */
function holderOf(place: Place, some: Child[]): Child | undefined {
  const sockets = lazily(openSockets);
  lookAtTrees();
  return some.find((child) => whereListens(child, sockets)?.places.includes(place));
}

function tellOfWaiting(child: Child, waited: number): void {
  const { name } = child.row;
  const place = probedPlace(child.row);
  const where = placeName(place);
  if (waited >= 10_000) {
    const what = `does not answer on ${where} after ${duration(waited)}, waiting`;
    say(`${name}: ${what}${hintForPlace(child)}`);
    return;
  }
  const there = whereListensNow(child)?.places ?? [];
  const others = there.map(placeName).join(" and ");
  if (others && !there.includes(place))
    say(`${name}: does not listen on ${where} yet; it listens on ${others}`); // a debugger's, maybe
}

/** What to do about it, in the words of its line: where it listens instead, if that is one place. */
function hintForPlace(child: Child): string {
  const { command } = child.row;
  const place = probedPlace(child.row);
  const it = whereListensNow(child);
  if (!it) return ": it must listen on $PORT";
  const { places: there, carries } = it;
  const [instead, ...more] = there;
  if (!instead)
    return carries
      ? ": it takes packets only, which cannot be waited for: write PORT="
      : ": it listens nowhere yet, and must listen on $PORT";
  if (there.includes(place))
    return ": it listens, but no connection gets there: let it listen on 127.0.0.1 (is lo up?)";
  const where = `: it listens on ${there.map(placeName).join(" and ")}`;
  if (more.length) return where;
  if (instead !== settings.port) {
    const variable = /\$\{?APP_PORT\b/.test(command) ? "set APP_PORT" : "write PORT";
    return `${where}: ${variable}=${instead}, or let it listen on $PORT`;
  }
  if (command.includes(`${instead}`)) return `${where}: write ${place} in place of ${instead}`;
  if (/\$\{?PORT\b/.test(command)) return `${where}, as sh fills in $PORT: write ${place} there`;
  return `${where}: it must listen on $PORT`;
}

/** What listens without a word of it in its line was not waited for, or nobody finds it. */
function warnOfPlaces(sockets = lazily(openSockets)): void {
  if (placesToldOf) return;
  placesToldOf = true;
  const where = new Map(
    children.map((child) => [child, whereListens(child, sockets)?.places ?? []]),
  );
  const unwritten = children.filter(({ row }) => row.place === settings.port && !row.release);
  const listening = unwritten.filter((child) => where.get(child)?.length);
  const hasFront = [...where.values()].some((places) => places.includes(settings.port));
  for (const child of listening) {
    const { name } = child.row;
    const places = where.get(child) ?? [];
    const listens = `listens on ${places.map(placeName).join(" and ")}`;
    const app = table.slice(table.indexOf(child.row)).find(hasOwnPlace)?.name;
    if (places.includes(settings.port)) {
      const cure = `move the line of ${name} below that of ${app}`;
      if (app) say(`${name}: ${listens} and was up before ${app}: ${cure}`, "WARNING");
    } else if (!hasFront && child === listening.at(-1)) {
      const cure = `let ${name} listen on $PORT, or publish ${places.join(" and ")} (EXPOSE, -p)`;
      if (!ending)
        say(`nobody listens on port ${settings.port}; ${name} ${listens}: ${cure}`, "WARNING");
    } else if (child.row !== table.at(-1)) {
      const written = places.map((place) => `PORT=${place}`).join(" or ");
      const cure = `write ${written} in front of its command, or PORT= if nobody needs it`;
      say(`${name}: ${listens}, and those below did not wait for it: ${cure}`, "WARNING");
    }
  }
}

/** No stop reaches who has gone into the background, out of the tree of its line. */
async function warnOfDaemons(some: Child[]): Promise<void> {
  const up = some.filter(({ upAfter }) => upAfter);
  if (!up.length) return;
  await sleep(PATIENCE); // its parent may not have ended yet
  if (ending) return;
  const sockets = lazily(openSockets);
  const outside = lazily(listenersOutside);
  lookAtTrees();
  for (const child of up) {
    const { name } = child.row;
    const place = probedPlace(child.row);
    const p = whereListens(child, sockets)?.places.includes(place)
      ? undefined
      : outside().get(place);
    const where = `listens on ${placeName(place)} in the background, where no stop reaches it`;
    if (p) say(`${name}: ${p.name} (pid ${p.pid}) ${where}: ${FOREGROUND}`, "WARNING");
  }
}

const FOREGROUND =
  "keep it in the foreground (nginx with `daemon off;`, redis with `--daemonize no`)";

// ---- how a process ended, in words for 3 a.m.: what sh(1p) means by 126 and 127, what errno(3) says
// of a process that could not be started.

/** Its exit code is that of the shell: 128+n for signal n, 126 or 127 where nothing could be started. */
function ended(child: Child, { exitCode, signal, cause }: ProcessOutput): End {
  const { row } = child;
  const after = performance.now() - child.startedAt;
  const unstarted = cause && (codeOf(cause) === "ENOENT" ? 127 : 126);
  const killedBy = Number(signals[signal as NodeJS.Signals] ?? signal ?? 0);
  const code = unstarted ?? exitCode ?? 128 + killedBy;
  const early =
    isWaitedFor(row) && !child.upAfter
      ? `, before it listened on ${placeName(probedPlace(row))}`
      : "";
  const why = unstarted
    ? notStarted("sh", codeOf(cause))
    : `${howEnded(row, code, signal, after)} after ${duration(after)}${early}`;
  child.end = { kind: "exit", child, code, after, why: `${row.name}: ${why}` };
  ends.push(child.end);
  return child.end;
}

function howEnded(row: Row, code: number, signal: string | null, after: number): string {
  if (signal) return `killed by ${Number(signal) ? `signal ${signal}` : signal}`;
  const hint = after < 1000 ? hintForShell(code, row.program) : ""; // later the code is its own
  return `exit code ${code}${hint}`;
}

/** What the shell means by 126 and 127, where that can be told. */
function hintForShell(code: number, program: string | undefined): string {
  if (!program || (code !== 126 && code !== 127)) return "";
  const path = which.sync(program, { nothrow: true });
  if (!path) return ` (${program} not ${code === 126 ? "executable" : "found"})`;
  const [, interpreter = "/"] = /^#!\s*(\S+)/.exec(contents(path)) ?? [];
  return fs.existsSync(interpreter) ? "" : ` (${interpreter}, which runs ${program}, not found)`;
}

function hintFor(end: End): string {
  const { child, code } = end;
  if (child && code === 0) return hintForDone(child, end);
  if (code !== 137 || oomKills() <= oomKillsBefore()) return "";
  const limit = Number(cgroup("memory", "memory.limit_in_bytes", "memory.max")) / 2 ** 20;
  return `: out of memory, the limit is ${Math.round(limit)} MiB; raise it or use less`;
}

/** What may be meant by one that has ended with 0. One that is alone may be meant as it is. */
function hintForDone(child: Child, { after = 0 }: End): string {
  const { command } = child.row;
  const atOnce = after < 1000;
  if (/[^&]&\s*$/.test(command))
    return ": the & at the end of its line puts it into the background: leave that out";
  if (livesOn(child))
    return command.includes("&>")
      ? ": &> is bash's, and to sh an & that puts it into the background: write >FILE 2>&1"
      : `: it lives on in the background; ${FOREGROUND}`;
  if (atOnce && /\bnginx\b|\bservice\b|daemon/.test(command)) return `: ${FOREGROUND}`;
  if (!table.some((row) => row !== child.row && !row.release)) return "";
  return atOnce
    ? ": it was done at once; make a one-off command a `release:` line, and leave out a line for a build, a shell or a watcher: there is no stdin"
    : ", and so the container ends; it may end alone as `release:`, or with `; exec sleep infinity` behind it";
}

/** Whether it has daemonized: its group is still there, or its place still answers. */
function livesOn(child: Child): boolean {
  lookAtTrees();
  return !isGone(child) || listenersOutside().has(probedPlace(child.row));
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

function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const s = milliseconds / 1000;
  if (s < 120) return `${Number(s.toFixed(1))} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

// ---- options: the environment and the command line. What is wrong with them is told all at once, so
// that it can be mended at once.

const VERSION = "3.0.0"; // package.json has npm's copy, which a test holds to it
const HELP = `usage: entrypoint [-f FILE] [--check]            the processes of a Procfile (default ./Procfile)
       entrypoint [--check] [--] COMMAND [ARG...]  COMMAND as the app, behind nginx
       entrypoint --help | --version               also -h, -V

Starts processes in order, each once the one before it listens at its place, waits for the
first to end, ends the others and exits with its code. SIGTERM drains them: those that serve
others are asked last, each server with the signal that lets it finish its requests.

  -f FILE   lines of \`name: command\`; PORT=8081 before a command is where it listens and is
            waited for, a port or the path of a UNIX socket, and PORT= says that nobody needs it;
            STOPSIGNAL=SIGQUIT is what asks it to stop; \`release:\` runs to its end before all
  --check   validate everything, print the plan, start nothing

  PORT=8080              public port
  APP_PORT=8081          port, or path of the UNIX socket, of the app behind nginx
  ENTRYPOINT_GRACE=9     seconds from a stop signal to SIGKILL
  ENTRYPOINT_READY=240   seconds a process may take to listen; 0: wait for none
  ENTRYPOINT_LOG=text    text, json (the default on Cloud Run), or raw: as each process writes it
  ENTRYPOINT_NGINX=FILE  nginx configuration template: whole, a server block, or locations
  ENTRYPOINT_STATIC=DIR  directory served at /static/ (default ./static)

exit code: that of the first to end, or 128+n if signal n killed it; 0 a clean stop;
           2 usage or configuration; 1 not ready in time; 137 a stop that had to kill
`;

const SECONDS = "a number of seconds, 0 to 86400";
const PLACE = "a port, 1 to 65535, or the path of a UNIX socket, /…, of at most 107 bytes";

/** Fills the settings. Where a value makes no sense the default stays, and it is a problem. */
function readEnvironment(): void {
  settings.port = setting("PORT", asPort, "a port, 1 to 65535") ?? settings.port;
  settings.appPort = setting("APP_PORT", asPlace, PLACE) ?? settings.appPort;
  settings.grace = setting("ENTRYPOINT_GRACE", asSeconds, SECONDS) ?? settings.grace;
  settings.ready = setting("ENTRYPOINT_READY", asSeconds, SECONDS) ?? settings.ready;
  // Knative sets K_SERVICE as well; Cloud Run is no Kubernetes.
  const isCloudRun = (env.K_SERVICE || env.CLOUD_RUN_JOB) && !env.KUBERNETES_SERVICE_HOST;
  const usual = isCloudRun ? "json" : settings.log;
  settings.log = setting("ENTRYPOINT_LOG", asLog, "text, json or raw") ?? usual;
  const files = setting("ENTRYPOINT_STATIC", asDirectory, "a directory") ?? settings.static;
  settings.static = resolve(files);
  readTemplate();
}

// A variable that is set to nothing counts as unset, as in ${PORT:-8080}. And a Kubernetes service
// with the name "app" puts APP_PORT=tcp://10.0.0.1:80 into every pod.
function given(name: string): string | undefined {
  const text = env[name] || undefined;
  return name === "APP_PORT" && text?.startsWith("tcp:") ? undefined : text;
}

function setting<T>(name: string, read: Reader<T>, what: string, text = given(name)) {
  const value = text ? read(text) : undefined;
  if (text && value === undefined) problems.push(`${name}=${text}: must be ${what}`);
  return value;
}

/** What a text stands for, where it makes sense. */
type Reader<T> = (text: string) => T | undefined;

const asPort: Reader<number> = (text) => numberIn(text, /^\d+$/, 1, 65_535);
const asSeconds: Reader<number> = (text) => numberIn(text, /^\d+(\.\d+)?$/, 0, 86_400);
const asLog: Reader<typeof settings.log> = (text) =>
  (["text", "json", "raw"] as const).find((log) => log === text);
const asDirectory: Reader<string> = (text) => (isDirectory(text) ? text : undefined);
const asPlace: Reader<Place> = (text) =>
  text.startsWith("/") && Buffer.byteLength(text) <= 107 ? text : asPort(text); // unix(7)

function numberIn(text: string, form: RegExp, least: number, most: number): number | undefined {
  const number = Number(text);
  return form.test(text) && number >= least && number <= most ? number : undefined;
}

function asSignal(text: string): number | undefined {
  const name = text.toUpperCase();
  const known = Object.entries(signals).find(([it]) => it === name || it === `SIG${name}`);
  return known?.[1] ?? numberIn(text, /^\d+$/, 1, 64);
}

function readFile(what: string, path: string): string {
  try {
    return fs.readFileSync(path, "utf8");
  } catch (error) {
    problems.push(`${what}${path}: must be a readable file (${codeOf(error)})`);
    return "";
  }
}

/** Fills the table, or answers a call that starts nothing. */
async function readCommandLine(argv: string[]): Promise<End | undefined> {
  const words = [...argv];
  let path: string | undefined;
  let check = false;
  while (words[0]?.startsWith("-")) {
    const option = words.shift();
    if (option === "--") break;
    else if (option === "--help" || option === "-h") return answerWith(HELP);
    else if (option === "--version" || option === "-V")
      return answerWith(`entrypoint ${VERSION}\n`);
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
  if (check) await tryOut();
  for (const problem of problems) say(problem, "ERROR");
  if (problems.length) return answerWith("", 2);
  warnOfNoBackend();
  return check ? answerWith(tableAsText()) : undefined;
}

function answerWith(text: string, code = 0): End {
  if (text) write(stdout, Buffer.from(text));
  return { kind: "answer", why: "", code };
}

function checkSettings(): void {
  const { port, appPort } = settings;
  const reads = (variables: RegExp) => table.some(({ command }) => variables.test(command));
  if (port === appPort && reads(/\$\{?(APP_PORT|NGINX_CONF)\b/))
    problems.push(`PORT=${port}: must differ from APP_PORT=${appPort}: set that to another port`);
  for (const name of Object.keys(env))
    if (name.startsWith("ENTRYPOINT_") && !HELP.includes(`  ${name}=`))
      say(`${name}: there is no such variable; see entrypoint --help`, "WARNING");
}

/** The built-in configuration sends requests to APP_PORT, and so does one that names it. */
function warnOfNoBackend(): void {
  const { appPort, template } = settings;
  const front = table.find(isFront);
  if (!front || table.some(isBackend) || (template && !/\bapp\b|APP_PORT/.test(template))) return;
  const where = `nginx finds nobody at APP_PORT=${appPort} and answers 502`;
  say(`${front.name}: ${where}: write PORT=$APP_PORT at the start of the app's line`, "WARNING");
}

/** What can be told of the lines before anything of the user's runs. */
async function tryOut(): Promise<void> {
  for (const signal of STOPS) process.on(signal, () => process.exit(128 + signals[signal]));
  table.forEach(lookFor);
  const failure = makeDirectory();
  if (failure) problems.push(failure.why);
  else await Promise.all([checkLines(), ...table.map(checkNginx)]);
}

/** A program that is not there may still be made by a release job. */
function lookFor({ name, command, program, release }: Row): void {
  const mayBeMissing = command.includes("||"); // what stands behind it is for that
  if (!program || mayBeMissing || !env.PATH || which.sync(program, { nothrow: true })) return;
  const missing = `${name}: ${program}: not found or not executable`;
  if (release || !table.some((row) => row.release)) problems.push(missing);
  else say(`${missing} yet: release must make it`, "WARNING");
}

/** As one sh reads them all, without running them, set(1p): in its own words. */
async function checkLines(): Promise<void> {
  const lines = table.map(({ script }) => quoted(`set -n\n${script}`));
  putFile("lines", lines.map((line) => `(eval ${line}); printf '\\0%s\\n' $?\n`).join(""));
  const said = (await outcome(`. ${quoted(join(directory, "lines"))}`, 60_000)) ?? "";
  for (const [i, [, words = "", code]] of [...said.matchAll(/([^\0]*)\0(\d+)\n/g)].entries()) {
    const { where = "", name = "", command = "" } = table[i] ?? {};
    const [, mistake = ""] = /^.*?eval: (?:\S+ \d+: )?(.*)/.exec(words) ?? [];
    const [ofSupervisord = ""] = /%\(\w+\)/.exec(command) ?? [];
    if (code !== "0") problems.push(`${where}${name}: ${mistake}${cureFor(ofSupervisord, "")}`);
  }
}

// What nginx does not find may be there when it runs: a host, a certificate, a file, a user. All else
// is a mistake in its language; a regular expression that it cannot compile is one as well.
const NOT_THERE = /not found|cannot load|(?<!compile\(\)) failed/;

const TAKES_NGINX_CONF = /\s-c\s*"?\$\{?NGINX_CONF\}?"?(?!\S)/;

/** nginx reads all, and comes to a last directive that there is not. So it opens and makes no file. */
async function checkNginx({ name, command, script, program = "" }: Row): Promise<void> {
  // Of such a line, two more words make nginx read its configuration, and nothing else runs.
  const isPlain = PLAIN.test(command) && TAKES_NGINX_CONF.test(command);
  if (!isPlain || basename(program) !== "nginx") return;
  fs.appendFileSync(`${childEnv.NGINX_CONF}`, "\nend_of_check;\n");
  const said = await outcome(`${script} -t -e stderr`, 5000); // it looks names up
  if (said === undefined) say(`${name}: does not read its configuration within 5 s`, "WARNING");
  const [, what = "", file = "", line] =
    /\[emerg\] (?:\d+#\d+: )?(.*?)(?: in (\S+):(\d+))?$/m.exec(said ?? "") ?? [];
  if (!what || what.includes("end_of_check")) return;
  const theirs = `ENTRYPOINT_NGINX=${env.ENTRYPOINT_NGINX}`;
  const where = file.replace(`${directory}/`, "").replace(/^\w+\/ENTRYPOINT_NGINX$/, () => theirs);
  const mistake = `${name}: ${file && `${where}:${line}: `}${what.replace(`${directory}/`, "")}`;
  if (!NOT_THERE.test(what)) problems.push(mistake);
  else say(`${mistake}; it must be there when it runs`, "WARNING");
}

/** All that a command of our own says, or nothing where it takes longer. */
async function outcome(command: string, milliseconds: number): Promise<string | undefined> {
  const pipe = makePipe();
  const run = sh(childEnv, ["ignore", pipe.writeEnd, pipe.writeEnd])`${command}`;
  fs.closeSync(pipe.writeEnd);
  const said = await within(milliseconds, Array.fromAsync(pipe.source));
  if (!said && run.pid) send(-run.pid, SIGKILL);
  return said && Buffer.concat(said).toString();
}

function tableAsText(): string {
  const rows = table.map((row) => [
    row.name,
    row.release ? "-" : `${row.place ?? "-"}`,
    row.release ? "to its end" : isWaitedFor(row) ? "until it listens" : "no",
    row.stopSignal ? nameOf(row.stopSignal) : "by program",
    row.command.replaceAll("\n", "\\n"),
  ]);
  rows.unshift(["NAME", "PORT", "WAITED FOR", "STOP SIGNAL", "COMMAND"]);
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const line = (row: string[]) => row.map((cell, i) => cell.padEnd(widths?.[i] ?? 0)).join("  ");
  return rows.map((row) => `${line(row).trimEnd()}\n`).join("");
}

/** Real-time signals have no name. */
function nameOf(signal: number): string {
  return Object.entries(signals).find(([, number]) => number === signal)?.[0] ?? `${signal}`;
}

// ---- a line of the table: the assignments that open it, and whether it is one plain command, which
// takes the place of its shell. The grammar is that of sh(1p), for dash, BusyBox and bash alike.

const VALUE =
  /(?:'[^']*'|"(?:\$\([^)]*\)|[^"\\]|\\.)*"|`[^`]*`|\$\((?:[^()]|\([^()]*\))*\)|\$\{[^}]*\}|\\.|[^\s;&|()<>'"`\\])*/;
const ASSIGNMENT = String.raw`([A-Za-z_]\w*)=(${VALUE.source})(?:\s+|(?=[;&|])|$)`;
const ASSIGNMENTS = new RegExp(ASSIGNMENT, "g");
const OPENING = new RegExp(
  `^(?<assignments>(?:${ASSIGNMENT})*)(?<env>(?:(?:exec|(?:\\S*/)?env|-i?|-u\\s*\\w+)\\s+|${ASSIGNMENT})*)`,
);
const QUOTED = /'[^']*'|"(?:[^"\\]|\\.)*"|\\./g;
const LONE_AMPERSAND = /(?<![&<>|])&(?![&>])/;
const VARIABLE = String.raw`\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})`;
const REFERENCE = /\$\{(\w+)(?::?[-=?]([^}]*))?\}/g; // ${NAME}, ${NAME:-default}, ${NAME:?message}
const PLAIN = new RegExp(
  String.raw`^(?:[\w\s./:@%+,=^*?[\]~-]|${VARIABLE}|'[^']*'|"(?:[^"$\`\\]|${VARIABLE})*")+$`,
);
// No programs: the reserved words of sh, and built-ins that act on the shell or differ from a
// program of the same name.
const BUILT_IN = new Set(
  `. : [ ! { alias bg case cd chdir command echo eval exec exit export false fg for function getopts
  hash if jobs kill let local printf pwd read readonly return set shift source test time times trap
  true type ulimit umask unalias unset until wait while`.split(/\s+/),
);
const USES_NGINX_CONF = /\$\{?NGINX_CONF\b/;

function readRow(where: string, name: string, command: string, holders: Holders = new Map()): Row {
  const { assignments = "", env: inEnv = "" } = OPENING.exec(command)?.groups ?? {};
  const words = command.slice(assignments.length + inEnv.length);
  const assigned = assignmentsOf(assignments + inEnv);
  const signal = assigned.get("STOPSIGNAL") ?? "";
  const word = /^(["']?)([\w./@%+][\w./@%+-]*)\1(?!\S)/.exec(words)?.[2];
  const program = word && !BUILT_IN.has(word) ? word : undefined;
  const who = `${where}${name}`;
  const place = readPlace(who, name, assigned.get("PORT"), holders);
  // `PORT=8081 && x` and `PORT=8081 x & y` are for a part of the line: there they stay.
  const isForPart = /^[;&|]/.test(words) || LONE_AMPERSAND.test(words.replaceAll(QUOTED, ""));
  const kept = isForPart ? assignments : without(/^(PORT|STOPSIGNAL)$/, assignments);
  const line = (isForPart ? inEnv : without(/^STOPSIGNAL$/, inEnv)) + words;
  const isPlain = program && PLAIN.test(line);
  return {
    name,
    where,
    command,
    // As bash does by itself. In another sh the shell would stay, in front of the server.
    script: kept + (isPlain ? `exec ${carried()}${line.replace(/^exec\s+/, "")}` : line),
    environment: kept === assignments ? {} : { PORT: place?.toString() },
    program: assigned.has("PATH") ? undefined : program,
    place,
    stopSignal: setting(`${who}: STOPSIGNAL`, asSignal, "a signal: SIGINT, or 1 to 64", signal),
    release: name === "release",
  };
}

function assignmentsOf(opening: string): Map<string, string> {
  const all = opening.matchAll(ASSIGNMENTS);
  const unquoted = (value: string) => value.replace(/^(["'])(.*)\1$/, "$2");
  return new Map([...all].map(([, variable = "", value = ""]) => [variable, unquoted(value)]));
}

function without(ours: RegExp, opening: string): string {
  return opening.replace(ASSIGNMENTS, (text, variable) => (ours.test(variable) ? "" : text));
}

/** Of a place that a line has, by name. */
type Holders = Map<Place, string>;

/** With nothing behind PORT= there is no place that anybody needs. */
function readPlace(who: string, name: string, value = "$PORT", holders: Holders) {
  if (/^\$(PORT$|\{PORT\W)/.test(value)) return settings.port;
  const braced = value.replace(/\$(\w+)/g, "$${$1}");
  const read: Reader<Place> = () => asPlace(fillIn(braced, REFERENCE));
  const what = `${PLACE}, or a variable that has one`;
  const place = setting(`${who}: PORT`, read, what, value);
  const holder = place && holders.get(place);
  if (holder) problems.push(`${who}: ${holder} has port ${place} already`);
  else if (place && name !== "release") holders.set(place, name);
  return place;
}

/** What dash and BusyBox would drop: the variables that they could not name, as spring.datasource.url. */
function carried(): string {
  const unnameable = Object.entries(env)
    .filter(([name]) => !/^[A-Za-z_]\w*$/.test(name))
    .map(([name, value]) => quoted(`${name}=${value}`));
  return unnameable.length ? `env ${unnameable.join(" ")} ` : "";
}

function quoted(word: string): string {
  return /^[\w./:@%+,=-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

// What a file seems to be that has such a line. coming-from.md shows the Procfile for each.
const OTHER_FILES: [RegExp, string][] = [
  [/^\[\w+:?.*\]$|^\w+ *=|%\(\w+\)/, "supervisord's or systemd's file"],
  [/^(FROM|RUN|CMD|COPY|ENTRYPOINT|ENV)\s/, "a Dockerfile"],
  [/^(- |[\w.-]+:\s*$|---$)/, "YAML, as compose's"],
  [/^(#!|set -|export |exec |trap |wait\b|.* &$)/, "a shell's script"],
];

function cureFor(line: string, above: string): string {
  if (above.endsWith("\\") || /<<-?\s*["']?\w/.test(above))
    return ": a process has one line: write it as one, or as a script";
  const [, kind] = OTHER_FILES.find(([pattern]) => pattern.test(line)) ?? [];
  return kind ? `: this seems to be ${kind}, see coming-from.md` : "";
}

// ---- nginx: the configuration that $NGINX_CONF names. The user's part is read as nginx reads it: what
// stands there wins over what ours has at that level. Its lines keep their numbers in nginx's messages.

/** `address` is where the app answers: of this host, or its UNIX socket. */
function writeNginxConf(address = appAddress): void {
  appAddress = address;
  const text = fillIn(settings.template ?? "");
  const part = readNginx(text);
  const isWhole = hasDirective(part, "events");
  const isPart = !isWhole && tokensOf(text).length > 0;
  if (isPart || isWhole) putFile("listen", listenDirectives());
  if (isPart) putFile(PARAMS, PROXY_PARAMS);
  if (isPart) putFile("modules-of-the-image", nginxModules().join("\n"));
  bringFiles(part);
  const saysDaemon = table.some(({ command }) => /\bdaemon\b/.test(command));
  const daemon = saysDaemon || hasDirective(part, "daemon") ? "" : "daemon off;";
  const ours = isWhole ? "include main/ENTRYPOINT_NGINX;" : nginxConf(hasDirective(part, "server"));
  if (isWhole) putFile("main/ENTRYPOINT_NGINX", text);
  const doubles = isPart ? writePart(part, text, ours) : [];
  putFile("nginx.conf", `${daemon}\n${withEdits(ours, doubles)}\n`);
}

/** Writes each directive of the part where it may stand. Gives those of ours whose place they take. */
function writePart(part: Directive[], text: string, conf: string): Directive[] {
  const hasServer = hasDirective(part, "server");
  const isForHttp = (it: Directive) => withIncluded([it]).every(({ name }) => FOR_HTTP.test(name));
  const levelOf = (it: Directive) => (hasServer || isForHttp(it) ? "http" : "server");
  const isForAll = ({ name }: Directive) => name === "internal" || BUFFERS.test(name);
  const anywhere = everyDirective(part).filter(isForAll);
  let ours = readNginx(conf);
  return ["http", "server"].flatMap((level) => {
    const here = part.filter((it) => levelOf(it) === level);
    const others = part.filter((it) => levelOf(it) !== level);
    const edits = [...others, ...withProxy(here, level), ...withBuffering(here)];
    putFile(`${level}/ENTRYPOINT_NGINX`, withEdits(text, edits));
    ours = ours.find(({ name }) => name === level)?.block ?? [];
    return doublesOf(ours, [...here, ...anywhere]);
  });
}

/** The user's part, and what is wrong with it. Its comments may name any variable. */
function readTemplate(): void {
  const { ENTRYPOINT_NGINX: path } = env;
  if (!path) return;
  settings.template = readFile("ENTRYPOINT_NGINX=", path);
  for (const token of tokensOf(fillIn(settings.template)))
    for (const [variable] of token.matchAll(PLACEHOLDER))
      problems.push(`ENTRYPOINT_NGINX=${path}: ${variable} is not set`);
}

/** At SIGHUP: a mounted file may be another by now. Without one, what was written stays as it is. */
function renewNginxConf(): void {
  const { template } = settings;
  if (template === undefined) return;
  try {
    readTemplate();
    if (!problems.length && !tokensOf(settings.template ?? "").length)
      problems.push(`ENTRYPOINT_NGINX=${env.ENTRYPOINT_NGINX}: is empty`);
    if (!problems.length) writeNginxConf();
  } catch (error) {
    problems.push(`${directory}: cannot be written in (${codeOf(error)})`);
  }
  if (problems.length) settings.template = template;
  for (const problem of problems.splice(0)) say(`${problem}: nginx keeps what it has`, "WARNING");
}

/** By rename, for nginx may be reading. */
function putFile(name: string, text: string): void {
  const [path, unfinished] = [join(directory, name), join(directory, "unfinished")];
  fs.mkdirSync(dirname(path), { recursive: true });
  fs.writeFileSync(unfinished, text);
  fs.renameSync(unfinished, path);
}

/** A directive of nginx's language, where it stands in the text, and its block. */
type Directive = { name: string; args: string[]; from: number; to: number; block: Directive[] };

const NGINX_TOKEN = /#[^\n]*|[;{}]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|\$\{|[^\s;{\\])+/gs;
const LUA_TOKEN =
  /--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{}]/gs;

/** As nginx does, a "}" in a word and the "{" of "${" are nothing but text. */
function readNginx(text: string): Directive[] {
  const all: Directive[] = [];
  const blocks: Directive[] = []; // blocks, the innermost last
  let words: string[] = [];
  let from = 0; // where the first of them stands
  let to = 0;
  for (;;) {
    const isLua = blocks.some(({ name }) => name.endsWith("_by_lua_block"));
    const tokens = isLua ? LUA_TOKEN : NGINX_TOKEN;
    tokens.lastIndex = to;
    const found = tokens.exec(text);
    if (!found) return all;
    const [token] = found;
    to = tokens.lastIndex;
    if (!words.length) from = found.index;
    if (token === "{" || token === ";") {
      const [name = "", ...args] = words;
      const directive = { name, args, from, to: text.length, block: [] };
      (blocks.at(-1)?.block ?? all).push(directive);
      blocks.push(directive);
    }
    const closed = token === "}" || token === ";" ? blocks.pop() : undefined;
    if (closed) closed.to = to;
    if (/^[{};]$/.test(token)) words = [];
    else if (!token.startsWith("#")) words.push(token.replace(/^(["'])(.*)\1$/s, "$2"));
  }
}

/** All but comments. Where they make no whole directive, nginx tells what is wrong. */
function tokensOf(text: string): string[] {
  return (text.match(NGINX_TOKEN) ?? []).filter((token) => !token.startsWith("#"));
}

/** What stands at a level, also by way of files that it includes. */
function withIncluded(level: Directive[]): Directive[] {
  return level.flatMap((it) =>
    it.name === "include" && it.block[0] ? withIncluded(it.block) : it,
  );
}

/** With those in blocks and in files that are included. */
function everyDirective(level: Directive[]): Directive[] {
  return level.flatMap((it) => [it, ...everyDirective(it.block)]);
}

function hasDirective(level: Directive[], name: string): boolean {
  return withIncluded(level).some((directive) => directive.name === name);
}

/** What nginx allows in http alone may stand beside locations. */
const FOR_HTTP =
  /^(map|geo|geoip2|split_clients|upstream|limit_(req|conn)_zone|log_format|\w+_cache_path|lua_shared_dict)$/;

const ADDED = /^(include|types|map|set|if)$/; // one more takes no other's place
const BUFFERS = /^(\w+?)_(?:busy_)?buffers?(?:_size)?$/; // nginx wants all of a protocol's to agree
const KEYED = /^(proxy_(set|pass)_header|upstream|log_format|listen)$/;

/** Those of ours that the user's part has at this level in its own way. */
function doublesOf(ours: Directive[], theirs: Directive[]): Directive[] {
  const keyOf = ({ name, args }: Directive) => {
    if (BUFFERS.test(name)) return name.replace(BUFFERS, "$1 buffers");
    if (name === "internal") return "proxy_ignore_headers"; // X-Accel-Redirect leads there
    if (name === "location") return `${name} ${args.join(" ").replace(/^\^~ ?|\/$/g, "")}`;
    return KEYED.test(name) ? `${name} ${args[0]?.toLowerCase()}` : name;
  };
  const keys = new Set(withIncluded(theirs).map(keyOf));
  if (keys.has("location ") && !isDirectory(settings.static)) keys.add("location /static");
  return ours.filter((directive) => !ADDED.test(directive.name) && keys.has(keyOf(directive)));
}

/** Other words in a place of the text. */
type Edit = { from: number; to: number; by?: string };

/** The text with other words in these places. Its lines keep their numbers. */
function withEdits(text: string, edits: Edit[]): string {
  const lastFirst = edits.toSorted((a, b) => b.from - a.from);
  return lastFirst.reduce((result, { from, to, by = "" }) => {
    const newlines = result.slice(from, to).replace(/[^\n]+/g, "");
    return result.slice(0, from) + by + newlines + result.slice(to);
  }, text);
}

/** What proxy_params has, but what stands beside it: where it is included, and in a server that has
 * headers, for nginx takes those of http only where there are none. */
function withProxy(level: Directive[], parent: string): Edit[] {
  const inner = level.flatMap((it) => (it.name === "include" ? [] : withProxy(it.block, it.name)));
  const params = level.find(({ name, args: [file] }) => name === "include" && file === PARAMS);
  const header = level.find((it) => hasDirective([it], "proxy_set_header"));
  const at = params ?? (parent === "server" ? header : undefined);
  if (!at) return inner;
  const text = contents(join(directory, PARAMS));
  const beside = level.filter((it) => it !== params);
  const by = `${withEdits(text, doublesOf(readNginx(text), beside))} `.replace(/\s+/g, " ");
  return [...inner, { from: at.from, to: params ? at.to : at.from, by }];
}

/** nginx caches only what it buffers, and ours buffers nothing. */
function withBuffering(level: Directive[]): Edit[] {
  const inner = level.flatMap((it) => (it.name === "include" ? [] : withBuffering(it.block)));
  const cache = level.find(({ name }) => name === "proxy_cache");
  if (!cache || hasDirective(level, "proxy_buffering")) return inner;
  return [...inner, { from: cache.from, to: cache.from, by: "proxy_buffering on; " }];
}

const PARAMS = "proxy_params";
const NGINX_FILES = ["/etc/nginx", "/usr/local/openresty/nginx/conf"]; // where its own are
const NAMES_FILE = /^(include|auth_basic_user_file|\w*ssl_(\w*certificate\w*|dhparam|crl))$/;

/** A relative name is that of a file beside the user's, else of ours, else of nginx's own. nginx gets a
 * copy of it, as Deno may make links only with -A. */
function bringFiles(level: Directive[]): void {
  const places = [dirname(resolve(`${env.ENTRYPOINT_NGINX}`)), directory, ...NGINX_FILES];
  for (const { name, args, block } of level) {
    const [pattern = ""] = args;
    const cwd = NAMES_FILE.test(name) && places.find((it) => fs.globSync(pattern, { cwd: it })[0]);
    for (const file of cwd ? fs.globSync(pattern, { cwd }) : []) {
      const text = fillIn(contents(resolve(`${cwd}`, file)));
      if (text && !/^\/|\.\./.test(file)) putFile(file, text);
      if (name === "include") block.push(...readNginx(text));
    }
    bringFiles(block);
  }
}

/** The modules that the image's own configuration loads. */
function nginxModules(file = "/etc/nginx/nginx.conf"): string[] {
  return readNginx(contents(file)).flatMap(({ name, args: [value = ""] }) => {
    if (name === "load_module") return `load_module "${value}";`;
    const included = name === "include" ? fs.globSync(resolve("/etc/nginx", value)) : [];
    return included.sort().flatMap((path) => nginxModules(path));
  });
}

const PLACEHOLDER = /\$\{([A-Z_][A-Z_0-9]*)(?::-([^}]*))?\}/g; // ${host} is nginx's own

/** The environment's variables, filled in where a text names them: \${PORT}, \${NAME:-default}. */
function fillIn(text: string, names = PLACEHOLDER): string {
  const { port, appPort, static: ENTRYPOINT_STATIC } = settings;
  const ports = { PORT: `${port}`, APP_PORT: `${appPort}` };
  const NGINX_CONF = join(directory, "nginx.conf");
  const known: NodeJS.ProcessEnv = { ...env, ...ports, NGINX_CONF, ENTRYPOINT_STATIC };
  const valueFor = (whole: string, name: string, other?: string) =>
    (known[name] || other) ?? known[name] ?? whole;
  return text.replace(/^\ufeff/, "").replace(names, valueFor);
}

const TOO_MANY = /worker_connections are not enough|Too many open files/;

/** The pipe of nginx's errors. What to do about this one is said behind it, once. */
function withCure(pipe: Pipe, { name, command }: Row): Pipe {
  async function* source() {
    let isTold = false;
    for await (const chunk of pipe.source) {
      yield chunk;
      if (isTold || !TOO_MANY.test(`${Buffer.from(chunk)}`)) continue;
      isTold = true;
      const cure = "raise the limit of descriptors (docker run --ulimit nofile=65536), or add CPUs";
      say(`${name}: ${cure}`, "WARNING");
    }
  }
  return command.includes("NGINX_CONF") ? { ...pipe, source: source() } : pipe;
}

/** What nginx keeps from the client by itself; of the app's X-Accel headers it would do as they say. */
const ACCEL = ["Redirect", "Expires", "Limit-Rate", "Buffering", "Charset"].map(
  (name) => `X-Accel-${name}`,
);
const PASSED = ["Server", "Date", "X-Pad", ...ACCEL].map((name) => `proxy_pass_header ${name};`);

/** The file proxy_params. */
const PROXY_PARAMS = `
  proxy_set_header Host $app_host;
  proxy_set_header Connection $app_connection;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header X-Forwarded-For $app_forwarded_for;
  proxy_set_header X-Forwarded-Proto $app_forwarded_proto;
  ${PASSED.join("\n  ")}`;

/** The variables of proxy_params for the user's servers. The built-in one starts sooner without `map`. */
const PROXY_VARIABLES = `map $http_connection $app_connection { ~*upgrade upgrade; default ""; }
  map $http_host $app_host { "" $host; default $http_host; }
  map $http_x_forwarded_for $app_forwarded_for { "" $remote_addr; default $http_x_forwarded_for; }
  map $http_x_forwarded_proto $app_forwarded_proto { "" $scheme; default $http_x_forwarded_proto; }`;

/** Transparent: what works without nginx in front works with it, from nginx 1.22 on. */
function nginxConf(hasServers: boolean): string {
  const [, files = ""] = /^Max open files +\S+ +(\d+)/m.exec(contents("/proc/self/limits")) ?? [];
  const { appPort, log } = settings;
  const host = appAddress.includes(":") ? `[${appAddress}]` : appAddress;
  const app = typeof appPort === "string" ? `"unix:${appPort}"` : `${host}:${appPort}`;
  const isTraced = log === "json" && env.GOOGLE_CLOUD_PROJECT;
  // Behind a tab each, which no value can hold: nginx writes it as \x09.
  const traceHeaders = isTraced ? "\\t$http_traceparent\\t$http_x_cloud_trace_context" : "";
  return `# Written by entrypoint for this run.
include modules-of-the-image*; # a pattern may match nothing
${process.getuid?.() === 0 ? "user root; # what the app can read, nginx can" : ""}
pid "${directory}/nginx.pid";
error_log stderr warn;
worker_processes ${cpus()};
${files && `worker_rlimit_nofile ${files};`}
events { worker_connections ${Math.min(Number(files || 10_000), 10_000)}; } # two for each request
http {
  log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent" "$http_x_forwarded_for"${traceHeaders}';
  include http/ENTRYPOINT_NGINX*;
  access_log /dev/stdout main;
  ${httpSettings()}
  upstream app {
    server ${app};
    keepalive 64;
    keepalive_timeout 1s; # less than any app's, so that none closes a connection just taken
  }
  ${hasServers ? PROXY_VARIABLES : builtInServer()}
}`;
}

function httpSettings(): string {
  return `${NGINX_FILES.map((path) => `include ${path}/mime[.]types;`).join("\n  ")}
  types { text/javascript mjs; } # which it lacks
  types_hash_max_size 4096;
  default_type application/octet-stream;
  client_body_temp_path "${directory}/client_body";
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
  ${["proxy", "fastcgi", "uwsgi", "scgi"].map(protocolSettings).join("")}
${PROXY_PARAMS}
  # Streamed. Of fastcgi and uwsgi nginx must know the length of a request first, and unbuffered it
  # would keep connections that php-fpm closes.
  proxy_http_version 1.1;
  proxy_request_buffering off;
  proxy_buffering off;
  proxy_redirect off;
  uwsgi_buffering off;
`;
}

/** Whatever the app speaks: an hour, and big headers. */
function protocolSettings(name: string): string {
  return `
  ${name}_temp_path "${directory}/${name}";
  ${name}_read_timeout 3600s;
  ${name}_send_timeout 3600s;
  ${name}_buffer_size 64k;
  ${name}_buffers 8 64k;`; // of which two may be busy
}

/** IPv4 and, where there is one, IPv6. The file listen has the same. */
function listenDirectives(): string {
  const { port } = settings;
  const hasIPv6 = ownAddresses().some(({ family }) => family === "IPv6");
  return `listen ${port};${hasIPv6 ? ` listen [::]:${port};` : ""}`;
}

function builtInServer(): string {
  const path = settings.static.replace(/["\\]/g, "\\$&").replaceAll("$", () => `\${dollar}`);
  const { mtime } = fs.statSync(settings.static, { throwIfNoEntry: false }) ?? {};
  // Reproducible builds date all files alike, long ago: a changed one would look unchanged.
  const isUndated = mtime && mtime.getFullYear() < 1990;
  return `${path.includes("$") ? 'geo $dollar { default "$"; }' : ""}
  server {
    ${listenDirectives()}
    server_name localhost;
    set $app_connection "";
    set $app_host $http_host;
    set $app_forwarded_for $http_x_forwarded_for;
    set $app_forwarded_proto $http_x_forwarded_proto;
    if ($http_connection ~* upgrade) { set $app_connection upgrade; }
    if ($app_host = "") { set $app_host $host; }
    if ($app_forwarded_for = "") { set $app_forwarded_for $remote_addr; }
    if ($app_forwarded_proto = "") { set $app_forwarded_proto $scheme; }
    include server/ENTRYPOINT_NGINX*;
    proxy_ignore_headers ${ACCEL.join(" ")};
    try_files "" @app; # what no location takes
    location @app { proxy_pass http://app; }
    location ^~ /static/ {
      alias "${path}/";
      try_files $uri @app;
      error_page 403 404 405 = @app;
      expires epoch; # Cache-Control: no-cache
      charset utf-8;
      charset_types text/css text/javascript application/javascript text/plain text/xml text/csv text/markdown;
      gzip on;
      gzip_vary on;
      gzip_proxied any;
      gzip_types text/css text/javascript application/javascript application/json image/svg+xml
        text/plain text/xml application/xml text/csv text/markdown application/manifest+json;
      ${isUndated ? 'etag off; if_modified_since off; add_header Last-Modified "";' : ""}
    }
  }`;
}

// ---- logs: whole lines with the process's name in front. Nothing is lost, nothing is reordered within
// a stream. A reader that stalls makes the processes wait for their pipes, pipe(7), and nothing else.

const NEWLINE = 10;
const LINE = 65536; // bytes of a line at most; a longer one is cut into pieces
const TURN = 10; // milliseconds at most that one pipe keeps all else waiting
const NEIGHBOURS = 8; // milliseconds within which the next lines come, where many come
const GATHERING = 5; // milliseconds for them to come together
const FLOOD = 8192; // bytes in a millisecond
const COLOURS = ["cyan", "yellow", "green", "magenta", "blue"] as const;
const SELF = "entrypoint";
const NOTHING: Buffer = Buffer.alloc(0);

/** What whole lines are shown as; of nothing, what is held back. */
type Show = (lines: Buffer) => Buffer;

/** Where lines are written. */
type Output = {
  fd: 1 | 2;
  put: Put;
  colours: Colours | undefined;
  pending: number; // writes that the reader has not taken yet
  written: Promise<unknown>; // settles when it has taken all
  midLine: boolean; // what came last was a line without its newline
  closed: boolean;
};

type Colours = ReturnType<typeof import("picocolors").createColors>;
type Colour = (typeof COLOURS)[number] | "bold" | "red";

function outputTo(fd: 1 | 2): Output {
  const put: Put = (bytes) => writeByThread(fd, bytes); // until openOutput knows better
  const written = Promise.resolve();
  return { fd, put, colours: undefined, pending: 0, written, midLine: false, closed: false };
}

/** Both may be one file, where lines must not be torn: then one is the other. */
async function openOutput(): Promise<void> {
  await openSystem();
  if (isSameFile(1, 2)) stderr = stdout;
  const forced = !["0", "false"].includes(env.FORCE_COLOR ?? "");
  for (const output of new Set([stdout, stderr])) {
    const { fd } = output;
    output.put = putterTo(fd);
    const wanted = env.FORCE_COLOR ? forced : env.TERM !== "dumb" && (await isTerminal(fd));
    if (wanted && !env.NO_COLOR && settings.log !== "json")
      output.colours = (await import("picocolors")).default.createColors(true);
  }
}

/** Settles when the reader has taken it, or never will. */
function write(to: Output, text: Buffer): Promise<unknown> {
  if (to.closed || !text.length) return to.written;
  const whole = to.midLine ? Buffer.concat([Buffer.from("\n"), text]) : text;
  to.midLine = text.at(-1) !== NEWLINE;
  to.pending++;
  to.written = Promise.try(to.put, whole)
    .catch((error) => lostReader(to, codeOf(error)))
    .finally(() => to.pending--);
  return to.written;
}

function lostReader(to: Output, code: string): void {
  to.closed = true;
  const name = to.fd === 1 ? "stdout" : "stderr";
  const what = code === "EPIPE" ? "has lost its reader" : `cannot be written to (${code})`;
  stopAsked.resolve({ kind: "stop", why: `${name} ${what}`, code: code === "EPIPE" ? 0 : 1 });
}

/** A line of our own. The severities are Cloud Logging's. */
function say(message: string, severity: "INFO" | "WARNING" | "ERROR" = "INFO"): void {
  const colour = ({ INFO: "bold", WARNING: "yellow", ERROR: "red" } as const)[severity];
  const text =
    settings.log === "json"
      ? JSON.stringify({ severity, message, [LABELS]: { process: SELF } })
      : `${painted(stderr, colour, SELF)} | ${message.replaceAll("\n", "\\n")}`;
  write(stderr, Buffer.from(`${text}\n`));
}

function painted({ colours }: Output, colour: Colour, text: string): string {
  return colours ? colours[colour](text) : text;
}

/** Copies lines until the pipe ends: each with the name in front, or as an entry. */
async function follow(pipe: Pipe, to: Output, row: Row): Promise<void> {
  openPipes.add(pipe);
  const trace = noTrace();
  const [shown, most] =
    settings.log === "json" ? [asEntries(row, trace), ENTRY] : [named(row, to), LINE];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const show = (lines: Buffer): Promise<unknown> => {
    clearTimeout(timer);
    const written = write(to, shown(lines));
    const left = trace.heldUntil - performance.now();
    if (trace.lines.length) timer = setTimeout(show, Math.max(0, left), NOTHING);
    return written;
  };
  let unfinished = NOTHING; // a line without its newline
  let busy = 0; // milliseconds
  for await (const chunk of pipe.source) {
    const since = performance.now();
    bytesRead += chunk.length;
    const bytes = withLongLinesCut(Buffer.concat([unfinished, chunk]), most);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    unfinished = bytes.subarray(end);
    if (end) await show(bytes.subarray(0, end));
    if (onBun && manyCome(since)) Bun.sleepSync(GATHERING);
    busy += performance.now() - since;
    if (busy < TURN) continue;
    await nextTurn(); // Bun gives a flood the next read at once: signals and all others would wait
    busy = 0;
  }
  if (unfinished.length) await show(unfinished);
  await show(NOTHING);
  openPipes.delete(pipe);
}

/**
 * Where many lines come, those of some milliseconds are one read and one write: either costs more than
 * twenty lines do. What was read is written first. A line by itself does not wait, nor does a flood.
 */
function manyCome(now: number): boolean {
  const passed = now - lastRead.at;
  if (passed < NEIGHBOURS && bytesRead - lastRead.bytes > FLOOD * passed) return false;
  Object.assign(lastRead, { at: now, bytes: bytesRead });
  return passed < NEIGHBOURS;
}

/** Puts a name in front of each line, into one room for all: what is in it is taken before the next. */
function named(row: Row, to: Output): Show {
  const width = Math.max(...table.map(({ name }) => name.length));
  const colour = COLOURS[table.indexOf(row) % COLOURS.length] ?? "cyan";
  const prefix = Buffer.from(`${painted(to, colour, row.name.padEnd(width))} | `);
  let room = NOTHING;
  return (lines) => {
    const most = lines.length * (1 + prefix.length); // if each byte is a line
    if (room.length < most) room = Buffer.allocUnsafe(most);
    let length = 0;
    for (let start = 0; start < lines.length; ) {
      const end = lines.indexOf(NEWLINE, start) + 1 || lines.length;
      for (let i = 0; i < prefix.length; i++) room[length++] = prefix[i] ?? 0;
      length += lines.copy(room, length, start, end);
      start = end;
    }
    return room.subarray(0, length);
  };
}

/** A line of more bytes than this is as many lines as it takes, cut between characters of UTF-8. */
function withLongLinesCut(bytes: Buffer, most: number): Buffer {
  const pieces: Buffer[] = [];
  let done = 0; // up to here it is in pieces
  for (let start = longLine(bytes, most); start >= 0; start = longLine(bytes, most, done)) {
    let end = start + most;
    while (end > start + most - 3 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
    pieces.push(bytes.subarray(done, end), Buffer.from("\n"));
    done = end;
  }
  return done ? Buffer.concat([...pieces, bytes.subarray(done)]) : bytes;
}

/** Where the first line begins that has more bytes than this, or -1. */
function longLine(bytes: Buffer, most: number, from = 0): number {
  let start = from;
  while (bytes.length - start > most) {
    const end = bytes.lastIndexOf(NEWLINE, start + most) + 1;
    if (end <= start) return start;
    start = end;
  }
  return -1;
}

const SILENCE = 80; // milliseconds in which nothing was left to read or to write
const STALLED = 300; // milliseconds behind the grace period that a reader has

/**
 * Waits until the readers have taken all that was in the pipes, and for one that stalls until the
 * grace period is over. A process that left its group may hold a pipe open, and write on.
 */
async function flushed(): Promise<void> {
  const all = Promise.all(children.map((child) => child.logs))
    .then(() => Promise.all([stdout.written, stderr.written]))
    .then(() => true);
  const last = bytesRead + [...openPipes].reduce((sum, pipe) => sum + unread(pipe), 0);
  const look = SILENCE / 4;
  for (let silence = 0; silence < SILENCE && performance.now() < graceEnds + STALLED; ) {
    if (await within(look, all)) return;
    if (bytesRead >= last && stdout.pending + stderr.pending === 0) silence += look;
  }
}

/** What it gives, or nothing when the time is up. No timer is left behind: each wakes us. */
function within<T>(milliseconds: number, what: T | Promise<T>): Promise<T | undefined> {
  const { promise: over, resolve: expire } = Promise.withResolvers<undefined>();
  const timer = setTimeout(expire, milliseconds);
  return Promise.race([what, over]).finally(() => clearTimeout(timer));
}

// ---- JSON: a line, an app's own object or a stack trace is one entry of Cloud Logging, in the form
// of https://cloud.google.com/logging/docs/structured-logging

const LABELS = "logging.googleapis.com/labels";
const TRACE_ID = "logging.googleapis.com/trace";
const ENTRY = 256 * 1024; // bytes of an entry at most
const OBJECT = /^[ \t\r]*\{/;
const OWN_LABELS = // as Cloud Logging takes them: strings, one level
  /(?<=(?<!\\)"logging\.googleapis\.com\\?\/labels"\s*:\s*)\{(?:"(?:\\.|[^"\\])*"|[^"{}])*\}/g;
const ESCAPED = /"|(?!\n)\p{Cc}/u; // in JSON, beside the backslash and the newline

/** What the entries of a process have in common. */
type Form = { name: string; label: string; isNginx: boolean };

/** Makes entries. What may be a trace is held until something else comes. */
function asEntries({ name, command }: Row, trace: Trace): Show {
  const label = `"${LABELS}":{"process":"${name}"}`;
  const form = { name, label, isNginx: /NGINX_CONF|nginx/.test(command) };
  return (lines) => {
    const text = lines.toString("utf8", 0, lines.length - Number(lines.at(-1) === NEWLINE));
    if (lines.length && !trace.lines.length && !isSpecial(lines, text, form))
      return Buffer.from(textEntries(text, form));
    const messages = lines.length ? joinLines(text, trace) : releaseHeld(trace);
    return Buffer.from(messages.map((message) => entry(message, form)).join(""));
  };
}

/** Whether one of these lines may be more than text. To ask it of all at once costs a fifth. */
function isSpecial(lines: Buffer, text: string, { isNginx }: Form): boolean {
  if (isNginx || lines.includes("\\") || lines.includes("\x1b")) return true;
  if (longLine(lines, TELLING) >= 0) return true;
  if (WORDS.some((word) => lines.includes(word)) || LEVEL.test(text)) return true;
  return SPECIAL.test(`\n${text}`);
}

/** Of lines that are not special: each newline is where an entry ends and the next begins. */
function textEntries(lines: string, { label }: Form): string {
  const between = `",${label}}\n{"message":"`;
  const message = ESCAPED.test(lines)
    ? JSON.stringify(lines).replaceAll("\\n", between)
    : `"${lines.replaceAll("\n", between)}"`;
  return `{"message":${message},${label}}\n`;
}

function entry(message: string, form: Form): string {
  const object = OBJECT.test(message) && attempt(() => labelled(message, form));
  if (object) return `${object}\n`; // else it is text after all, or too deep to be read
  const isShort = message.length <= LINE / 3; // of UTF-8, a character here has 3 bytes at most
  if (isShort || message.includes("\n")) return textEntry(message, form);
  const pieces = withLongLinesCut(Buffer.from(message), LINE).toString().split("\n");
  return pieces.map((piece) => textEntry(piece, form)).join("");
}

// nginx's own lines have a level: https://nginx.org/en/docs/ngx_core_module.html#error_log
const NGINX_ERROR =
  /^(?:\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d|nginx:) \[(emerg|alert|crit|error|warn|notice|info|debug)\] /;
const SEVERITIES = "EMERGENCY ALERT CRITICAL ERROR WARNING NOTICE INFO DEBUG".split(" ");
// An access line of the built-in configuration: no value has a quote or a tab, nginx escapes them.
const NGINX_ACCESS =
  /^([^"]* "[^"]*" (\d)\d\d \d+ "[^"]*" "[^"]*" "[^"]*")(?:\t([^\t]*\t[^\t]*))?$/;
// https://www.w3.org/TR/trace-context/, and Google's own header in front of that standard
const PARENT = /(?:^[0-9a-f]{2}-|^|\t)(?!0{32})([0-9a-f]{32})\b/;

function textEntry(line: string, { label, isNginx }: Form): string {
  const access = isNginx && NGINX_ACCESS.exec(line);
  const error = NGINX_ERROR.exec(line);
  if (!access && !error) return `{"message":${JSON.stringify(line)},${label}}\n`;
  const [, shown = line, status = "", headers = ""] = access || [];
  const { GOOGLE_CLOUD_PROJECT: project } = env;
  const level = error?.[1] ?? { 4: "warn", 5: "error" }[status] ?? "info";
  const id = PARENT.exec(headers)?.[1];
  const fields = {
    severity: SEVERITIES.find((severity) => severity.startsWith(level.toUpperCase())),
    message: project ? shown : line,
    ...(project && id && { [TRACE_ID]: `projects/${project}/traces/${id}` }),
  };
  return `${JSON.stringify(fields).slice(0, -1)},${label}}\n`;
}

/** An app's own object keeps its text, and so its numbers: the label is put into that. */
function labelled(object: string, { name, label }: Form): string {
  const fields = JSON.parse(object);
  const labels = fields[LABELS];
  if (labels !== undefined) {
    const own = JSON.stringify(labels); // other objects with this key are nested
    const merged = JSON.stringify({ ...labels, process: name });
    return object.replace(OWN_LABELS, (text) =>
      JSON.stringify(JSON.parse(text)) === own ? merged : text,
    );
  }
  const comma = Object.keys(fields).length ? "," : "";
  return `${object.slice(0, object.lastIndexOf("}"))}${comma}${label}}`;
}

// ---- stack traces: one entry each, since Error Reporting finds an exception only if it is whole.
// A head or a frame opens one; frames, indented lines and what is listed go on with it, and what else
// its message has, if it came in one read. A logger's own stamp ends it. Without a frame it is lines.

const HELD = 50; // milliseconds in which the next line of a trace must come
const TELLING = 2000; // characters of a line that are looked at

const FRAMES = [
  // Java, JavaScript and .NET; Python; Go; PHP
  /^[ \t]+at (?:async |\S+ @ )?(?:\S+\(.*\)|\S+:\d+|.+ \((?:.*:\d+|<anonymous>|native|index \d+)\))/,
  /^[ \t|>]*File ".+", line \d/,
  /^goroutine \d.*:$|^runtime stack:$|^[ \t]+\S+\.(?:go|s):\d+(?: |$)/,
  /^(?:PHP +)?(?:#\d{1,5}|\d{1,5}\.) (?:\S+\(\d+\): |\{main\}|\[internal|\S.* \S+:\d+$)/,
  /^[ \t]+(?:\d{1,5}: )?from \S+:\d/,
];
const FRAME = anyOf([...FRAMES, /^[ \t]*\S+:\d+:in [`'][^']*'$/]); // Ruby
const CARET = /^\s*[~^]*\^[~^]*$/; // below the source that it points at
const EXCERPT = /^ *\d+ \| /; // the source, as Bun shows it; Node has its place above it
const SOURCE = /^(?:[^|\n]*: )? *\d+ \| /; // where it begins, behind words of the program's
const TRACEBACK = /(?:^|[\s|])Traceback \(most recent call last\):$/;
const RUBY_HEAD = /^\S+:\d+:in [`'].*: /;
// To look for words in all that came costs less than a pattern for each line.
const WORDS = ["Error", "Exception", "Throwable", "Rejection", "call last):", ":in ", " panic "];
const LEVEL = /\b(?:ERR(?:OR)?|WARN(?:ING)?|CRIT(?:ICAL)?|FATAL|SEVERE)\b|\[(?:error|critical) *\]/;
const WORDED = anyOf([
  /(?:Error|Exception|Throwable|Rejection)[\])]?(?::| - | \[\w+\]: | \(.*:$|$)|\bException (?:in|ign)/,
  /^\S+:\d+:in [`']|\(most recent call last\):$| panic (?:serving|recovered)/,
  LEVEL,
]);
const BEGINNING = anyOf([
  /^(?:error|fail|crit|panic|fatal error|runtime|PHP [\w ]+|\(node:\d+\) \w+): |^--- Logging error/,
  /^(?:[a-z]\w*\.)+[A-Z][\w$]*(?:: |$)|^Trace(?::|$)|^Unhandled exc|^thread '.*' panicked at/,
  /^(?:\/|node:|file:)[^\s:]*:\d+$/,
  SOURCE,
]);
const HEAD = anyOf([WORDED, BEGINNING]);
const BARE = anyOf([...FRAMES, BEGINNING]); // what opens one without a word
const INDENTED = /^(?:\t| {2})(?!\s*\+ Exception Group )/; // programs list things behind one blank
const BEHIND_MESSAGE = /^(?:During handling of |The above exc|\[SQL: |Did you mean)/; // below an error's words
const LISTED = anyOf([
  BEHIND_MESSAGE,
  /^(?: --->|Caused by: |Suppressed: |Wrapped by: |--- End of |[}\])>]+[,;]?$|\} \{$|Emitted ')/,
  /^(?:Call stack:$|Message: |Arguments: |future: <|"""$)/,
  /^(?:\[parameters: |\(Background on |\[signal |\.\.\.|created by |exit status |runtime: sp)/,
  /^(?:(?:PHP)? +thrown in |(?:PHP )?Stack trace:$|\[stacktrace|\[previous exc|Next |"\}|Did you )/,
  /^(?:Node\.js v|Bun v|\(Use `node |Require stack:|- \/|[Ss]tack backtrace:$|note: (?:run|Some) )/,
  /^(?:DETAIL|HINT|CONTEXT|LINE \d+|Reason|Help|Call log|Stacktrace|HTTP response [a-z]+):(?: |$)/,
  EXCERPT,
]);
/** Below lines that end like the first, what looks like the second goes on. */
const PAIRS: [RegExp, RegExp][] = [
  [/^(?:\/|node:|file:)[^\s:]*:\d+(?:\n.*){0,2}\n?$|\d \| .*\n *\^$/, /./], // Node's, Bun's
  [/(?:^|\n)(?:(?:During handl|The above exc|Exception ign|--- Log).*|""")\n*$/, TRACEBACK],
  [/\n[ \t]+(?:(?:\d{1,5}: )?from \S+:\d.*|\.\.\. \d+ levels\S*)$/, RUBY_HEAD], // a cause
  [
    /(?:\.(?:go|s):\d|\ngoroutine |^goroutine |\nruntime st).*$/,
    /^\S+\(.*\)$|^[\w-]+[./][\w./*()-]+$/, // with parentheses, or a package in front
  ],
  [/(?:^|\n)runtime: .*$/, /^fatal error: /],
];
/** How loggers begin a line: with a time, a level, an address, fields or an object. */
const STAMP = anyOf([
  /^\W{0,2}(?:[A-Z], \[)?\d{2,4}[-/:.]\w{2,3}[-/:.]\d|^[A-Z][a-z]{2} [ \d]\d[ ,]/,
  /^\W{0,2}(?:TRACE|DEBUG|INFO|NOTICE|WARN|ERROR|CRITICAL|FATAL|SEVERE|PANIC|ALERT)/,
  /^(?:info|warn|error|debug|http|verbose|fail|crit|dbug|trce): |^\[(?!stacktrace)\w+ *\]/,
  /^\d+(?:\.\d+){3}\b|^\w+=\S+ .*\w=|^\s*\{"/,
]);
const BELOW_MESSAGE = anyOf([FRAME, CARET]);
const TELLS = anyOf([STAMP, BELOW_MESSAGE, HEAD, BEHIND_MESSAGE]);
// What may be more than text among many lines, where a blank must not be a newline.
const SPECIAL = new RegExp(`\\n(?:${anyOf([BARE, OBJECT, NGINX_ERROR]).source})`, "m");

function anyOf(patterns: RegExp[]): RegExp {
  return new RegExp(patterns.map(({ source }) => source).join("|"));
}

/** The lines that are held. */
type Trace = {
  lines: string[];
  bytes: number; // of them as JSON
  proven: boolean; // there is a frame
  heldUntil: number; // milliseconds, as performance.now() has them
};

const noTrace = (): Trace => ({ lines: [], bytes: 0, proven: false, heldUntil: 0 });

/** Of the lines of one read, those that are over: each a message, or joined to one. */
function joinLines(text: string, trace: Trace): string[] {
  const messages: string[] = [];
  const read = text.split("\n");
  for (const [i, line] of read.entries()) {
    const says = beginningOf(line);
    if (trace.lines.length && !goesOn(trace, read, i)) messages.push(...releaseHeld(trace));
    const opens = !trace.lines.length;
    if (opens && (says.startsWith("{") || !(HEAD.test(says) || FRAME.test(says)))) {
      messages.push(line);
      continue;
    }
    if (opens) trace.lines.push(...headAbove(messages, says));
    const bytes = Buffer.byteLength(JSON.stringify(line));
    if (trace.bytes + bytes > ENTRY - 1000) messages.push(...releaseHeld(trace));
    trace.lines.push(line);
    trace.bytes += bytes;
    trace.proven ||= BELOW_MESSAGE.test(says) || /^(?:Bun|Node\.js) v\d/.test(says);
    if (opens || (trace.proven && says)) trace.heldUntil = performance.now() + HELD;
  }
  return messages;
}

/** The beginning of a line, without colours. */
function beginningOf(line = ""): string {
  const says = line.length > TELLING ? line.slice(0, TELLING) : line;
  return says.includes("\x1b") ? says.replaceAll(/\p{Cc}\[[\d;]*m/gu, "") : says;
}

/** What came directly above a head that it announces, or above frames that have no head. */
function headAbove(messages: string[], says: string): string[] {
  const above = messages.at(-1) || "\n";
  const announces = TRACEBACK.test(says) ? /error|exc|fail|:$/i : /:$/;
  const isHead = HEAD.test(says)
    ? announces.test(above) && !STAMP.test(says)
    : /^\s+(?!\s*File )|^#0/.test(says);
  return isHead && !above.includes("\n") && !OBJECT.test(above) ? messages.splice(-1) : [];
}

/** Whether the i-th line that was read belongs to what is held. */
function goesOn({ lines: held, proven }: Trace, read: string[], i: number): boolean {
  const says = beginningOf(read[i]);
  const above = held.slice(-4).map(beginningOf).join("\n");
  const said = beginningOf(held.findLast((line) => line !== ""));
  const isDue =
    endsTraceback(held, says) || PAIRS.some(([one, next]) => one.test(above) && next.test(says));
  if (STAMP.test(says)) return isDue && /^[\w.]+(?:: |:?$)/.test(says);
  if (isDue || says === "" || FRAME.test(says) || LISTED.test(says)) return true;
  if (INDENTED.test(says) && (held.at(-1) !== "" || !FRAME.test(said))) return true;
  if (FRAME.test(said)) return false;
  if (!HEAD.test(says)) return isOfMessage(read.slice(i, i + 20).map(beginningOf));
  return !proven && held.length <= i && STAMP.test(beginningOf(held[0])); // of the same read
}

/** Whether it is the error that stands below the frames of Python's traceback. */
function endsTraceback(held: string[], says: string): boolean {
  if (/^\s|^$/.test(says) || (held.at(-1) === "" && !WORDED.test(says))) return false;
  const outermost = beginningOf(
    held.findLast((line) => /^[^\s>]/.test(beginningOf(line))) ?? held[0],
  );
  return /^(?!\s*[|+]).*Traceback \(most recent call last\):$|^\s+File /.test(outermost);
}

/** Whether the first of these is a further line of a message: by the next that tells. */
function isOfMessage([line = "", ...below]: string[]): boolean {
  const [next = ""] = below;
  if (/^[\w.]+$/.test(line) && INDENTED.test(next) && !FRAME.test(next)) return true; // a bad field
  const telling = below.find((other) => TELLS.test(other)) ?? "";
  const isAboveFrames = BELOW_MESSAGE.test(telling) && !/^\s*File /.test(telling);
  return isAboveFrames || BEHIND_MESSAGE.test(telling);
}

/** What was held: the trace, and the empty lines behind it. What was none is as many lines as before. */
function releaseHeld(trace: Trace): string[] {
  const { lines, proven } = trace;
  const end = proven ? lines.findLastIndex((line) => line !== "") + 1 : 0;
  Object.assign(trace, noTrace());
  return end ? [lines.slice(0, end).join("\n"), ...lines.slice(end)] : lines;
}

// ---- the runtime: what Bun does in a fraction of the time stands here, and beside it the portable way
// for Node and Deno. On macOS there is no pipe2 in a libc.so.6, so Bun goes the portable way, too.

const onBun = typeof Bun !== "undefined";
const onDeno = "Deno" in globalThis;
const [F_GETFL, F_SETFL, F_SETPIPE_SZ] = [3, 4, 1031] as const; // fcntl(2)
const SIG_SETMASK = 2; // sigprocmask(2)
const O_CLOEXEC = 0o2000000; // open(2)
const FIONREAD = 0x541b; // ioctl(2)

/** The C library on Bun for Linux, node:net elsewhere. */
async function openSystem(): Promise<void> {
  if (!onBun) net = await import("node:net");
  else libc = await openLibc();
  descriptorFlags = [1, 2].map((fd) => libc?.fcntl(fd, F_GETFL, 0) ?? 0);
  // What a child's full pipe holds, with names in front, goes into ours at once.
  if (settings.log !== "raw") libc?.fcntl(1, F_SETPIPE_SZ, 4 * LINE);
}

/** Nothing on macOS, nor without executable memory. */
async function openLibc() {
  const { dlopen } = await import("bun:ffi");
  const functions = {
    pipe2: { args: ["ptr", "i32"], returns: "i32" },
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    sigprocmask: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    ioctl: { args: ["i32", "u64", "ptr"], returns: "i32" },
    isatty: { args: ["i32"], returns: "i32" },
    _exit: { args: ["i32"], returns: "void" },
  } as const;
  return attempt(() => dlopen("libc.so.6", functions).symbols);
}

/**
 * JavaScriptCore aborts where it cannot make a thread, so where processes are limited it makes none. It
 * takes that from the environment as it starts: it is started anew in its place, execve(2).
 */
function avoidThreads(): void {
  const before = env[BEFORE];
  if (before) {
    for (const name of [BEFORE, ...Object.keys(THREADLESS)]) delete env[name];
    Object.assign(env, JSON.parse(before));
  } else if (onBun && hasProcessLimit()) {
    const words = contents("/proc/self/cmdline").split("\0").slice(0, -1);
    const own = Object.keys(THREADLESS).map((name) => [name, env[name]]);
    const saved = { [BEFORE]: JSON.stringify(Object.fromEntries(own)) };
    process.execve?.(linkTarget("/proc/self/exe"), words, { ...env, ...THREADLESS, ...saved });
  }
}

const THREADLESS = {
  BUN_JSC_useConcurrentJIT: "0",
  BUN_JSC_useConcurrentGC: "0",
  BUN_JSC_numberOfGCMarkers: "1",
  BUN_JSC_useWarmUpMarkedBlocks: "0",
};
const BEFORE = "ENTRYPOINT_BEFORE"; // what children get in place of these

function freeMemory(): void {
  if (onBun) Bun.shrink();
}

/** Bun makes what it writes to non-blocking for all who share it: at the exit it is as it was. */
function giveBackOutput(code: number): void {
  for (const [i, value] of descriptorFlags.entries()) libc?.fcntl(i + 1, F_SETFL, value);
  libc?._exit(code); // Bun's own exit takes longer, and waits for a reader that stalls
}

/** zx's `spawn` on Bun: that of node:child_process cannot tell the death by a real-time signal. */
function spawnByBun(command: string, _: readonly string[], options: SpawnOptions) {
  const stdio = options.stdio as ["ignore", number, number];
  const child = Bun.spawn(["sh", "-c", command], { env: options.env ?? {}, stdio, detached: true });
  const listen = (event: string, listener: (code: number | null, signal: unknown) => void) => {
    if (event === "close") child.exited.then(() => listener(child.exitCode, child.signalCode));
    return { once: listen };
  };
  return { pid: child.pid, once: listen };
}

/** Options of zx. */
const bunsOwn = onBun ? { spawn: spawnByBun as unknown as typeof spawnOfNode } : {};

/** Writes all of it, behind what came before. Settles when the reader has taken it. */
type Put = (bytes: Uint8Array) => Promise<unknown>;

function putterTo(fd: 1 | 2): Put {
  const stat = fs.fstatSync(fd);
  // Both make a pipe non-blocking, which processes that write there themselves (raw) do not expect.
  if (settings.log !== "raw" && (stat.isFIFO() || stat.isSocket()))
    return onBun ? byBun(fd) : byStream(fd);
  // By threads: a write to a terminal that stalls (Ctrl-S) blocks who writes.
  let last: Promise<unknown> = nextTurn();
  return (bytes) => {
    last = last.then(() => writeByThread(fd, bytes));
    return last;
  };
}

function byBun(fd: number): Put {
  const writer = Bun.file(fd).writer();
  return (bytes) => Promise.all([writer.write(bytes), writer.flush()]); // either may fail
}

function byStream(fd: 1 | 2): Put {
  const stream = fd === 1 ? process.stdout : process.stderr;
  stream.on("error", () => {}); // the write has it as well
  return (bytes) =>
    new Promise((taken, failed) => {
      stream.write(bytes, (error) => (error ? failed(error) : taken(undefined)));
    });
}

async function writeByThread(fd: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += await new Promise<number>((taken, failed) => {
      fs.write(fd, bytes, done, bytes.length - done, null, (error, count) => {
        if (!error) taken(count);
        else if (error.code === "EAGAIN")
          setTimeout(taken, 5, 0); // somebody made it non-blocking
        else failed(error);
      });
    });
}

type Pipe = { source: AsyncIterable<Uint8Array>; readEnd: number; writeEnd: number };

/** Bytes in a pipe. With a tenth of a CPU what a dead process wrote may wait there for a while. */
function unread({ readEnd }: Pipe): number {
  const waiting = new Int32Array(1);
  libc?.ioctl(readEnd, FIONREAD, waiting);
  return waiting[0] ?? 0;
}

/** child_process's own "pipe" is a socket, and nginx cannot open /dev/stdout on one. */
function makePipe(): Pipe {
  const [readEnd, writeEnd] = libc ? pipeByLibc() : pipeByFifo();
  // Who runs as another user opens /dev/stdout as well. gVisor allows it to nobody.
  attempt(() => fs.fchmodSync(writeEnd, 0o622));
  return { source: readable(readEnd), readEnd, writeEnd };
}

function pipeByLibc(): [readEnd: number, writeEnd: number] {
  const fds = new Int32Array(2);
  if (libc?.pipe2(fds, O_CLOEXEC) !== 0) throw Object.assign(new Error(), { code: "EMFILE" });
  const [readEnd = 0, writeEnd = 0] = fds;
  return [readEnd, writeEnd];
}

function pipeByFifo(): [readEnd: number, writeEnd: number] {
  const path = join(directory, "fifo");
  if (onBun) Bun.spawnSync(["mkfifo", path]);
  else $({ ...ZX, sync: true })`${`mkfifo ${quoted(path)}`}`;
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
  const nonBlocking = fs.openSync(path, O_RDONLY | O_NONBLOCK); // or it would wait for a writer
  const writeEnd = fs.openSync(path, O_WRONLY);
  const readEnd = onDeno ? fs.openSync(path, O_RDONLY) : nonBlocking;
  if (onDeno) fs.closeSync(nonBlocking);
  fs.rmSync(path);
  return [readEnd, writeEnd];
}

/** Deno cannot wait for a descriptor to be readable: there each read blocks a thread. */
function readable(fd: number): AsyncIterable<Uint8Array> {
  if (!net) return Bun.file(fd).stream();
  return onDeno
    ? fs.createReadStream("", { fd })
    : new net.Socket({ fd, readable: true, writable: false });
}

/** Whether something takes a connection, even to reset it. An ephemeral port can meet itself. */
async function takesConnection(place: Place, host: string): Promise<boolean> {
  try {
    const ownPort = await (net ? connectByNode(net, place, host) : connectByBun(place, host));
    return ownPort !== place;
  } catch (error) {
    return codeOf(error) === "ECONNRESET";
  }
}

async function connectByBun(place: Place, hostname: string): Promise<number> {
  const socket = { data() {}, error() {}, connectError() {} };
  const connection = await (typeof place === "string"
    ? Bun.connect({ unix: place, socket })
    : Bun.connect({ hostname, port: place, socket }));
  const { localPort } = connection;
  connection.end();
  return localPort;
}

function connectByNode({ connect }: NodeNet, place: Place, host: string) {
  return new Promise<number | undefined>((taken, failed) => {
    const to = typeof place === "string" ? { path: place } : { host, port: place };
    const socket = connect(to, () => {
      taken(socket.localPort);
      socket.destroy();
    });
    socket.on("error", failed);
  });
}

type NodeNet = typeof import("node:net");

/** As isatty(3) has it: node:tty takes 2 ms to load. */
async function isTerminal(fd: number): Promise<boolean> {
  return libc ? libc.isatty(fd) === 1 : (await import("node:tty")).isatty(fd);
}

function isSameFile(a: number, b: number): boolean {
  const [one, other] = [fs.fstatSync(a), fs.fstatSync(b)];
  return one.dev === other.dev && one.ino === other.ino;
}

// ---- the system: what the kernel tells of the processes that run, proc(5), and of the container's
// limits, cgroups(7). Where it tells nothing (Deno without -A, another user's), the answer is undefined.

/** A process, or a zombie: PID 1 reaps it late, or never if that is us. */
type Process = {
  pid: number;
  id: string; // tells it from a later one with the same pid
  name: string; // comm: the file's name, of 15 bytes at most
  state: string;
  parent: number;
  below: Process[]; // its children, of the same tree
  session: number; // a wrapper may make a group of its own, as timeout(1) does
};

// pid (comm) state ppid pgrp session …, and when it started: proc(5)
const STAT = /^(\d+) \((.*)\) (\S) (\d+) \d+ (\d+) (?:\S+ ){15}(\d+)/s;

/** Undefined where nothing is told: Deno lets nobody read /proc. */
function processes(): Process[] | undefined {
  if (!contents("/proc/self/stat")) return undefined;
  return fs.readdirSync("/proc").flatMap((file) => {
    const stat = /^\d+$/.test(file) && STAT.exec(contents(`/proc/${file}/stat`));
    if (!stat) return []; // it has gone meanwhile
    const [, pid, name = "", state = "", parent, session, ticks] = stat;
    return {
      pid: Number(pid),
      id: `${pid} ${ticks}`,
      name: name.replace(/^(php-fpm).*/, "$1"), // Debian's has its version behind
      state,
      parent: Number(parent),
      below: [],
      session: Number(session),
    };
  });
}

/** Looks at the processes of each child: its session, who descends from that, who was asked before. */
function lookAtTrees(): void {
  const all = processes() ?? children.flatMap(inTheDark);
  const leaders = new Map(children.filter(({ gone }) => !gone).map((child) => [child.pid, child]));
  const byPid = new Map(all.map((p) => [p.pid, p]));
  const before = new Map(children.flatMap((child) => child.tree.map(({ id }) => [id, child])));
  const ownerOf = (p: Process | undefined): Child | undefined =>
    p && (before.get(p.id) ?? leaders.get(p.session) ?? ownerOf(byPid.get(p.parent)));
  for (const child of children) Object.assign(child, { tree: [], zombies: false });
  for (const p of all) {
    const owner = ownerOf(p);
    const parent = byPid.get(p.parent);
    const isZombie = p.state === "Z";
    if (owner && isZombie) owner.zombies = true;
    else owner?.tree.push(p);
    if (owner && !isZombie && ownerOf(parent) === owner) parent?.below.push(p);
  }
}

/** What can be told without /proc: whether the leader lives, or the rest of its group. */
function inTheDark({ row, pid, end, gone }: Child): Process[] {
  if (gone || (end && !send(-pid, 0).there)) return [];
  const name = basename(row.program ?? "");
  const id = end ? -pid : pid; // kill(2) takes -pid for the group
  return [{ pid: id, id: `${id}`, name, state: "T", parent: 0, below: [], session: pid }];
}

/** Whether nothing is left of it. Zombies keep a group in being until PID 1 reaps them, or for ever. */
function isGone(child: Child): boolean {
  const { pid, end, tree, zombies } = child;
  const isThere = (id: number) => send(id, 0).there;
  if (child.gone || !end) return child.gone;
  const group = isThere(-pid);
  const missed = group && !zombies; // they fork and end faster than /proc is read
  child.gone = !(tree.length ? group || tree.some((p) => isThere(p.pid)) : missed);
  if (child.gone && group) send(-pid, SIGKILL); // whom no look has found
  return child.gone;
}

function allBelow(p: Process): Process[] {
  return p.below.flatMap((q) => [q, ...allBelow(q)]);
}

/** Those whose parent is none of them. */
function rootsOf(tree: Process[]): Process[] {
  const pids = new Set(tree.map(({ pid }) => pid));
  return tree.filter(({ parent }) => !pids.has(parent));
}

/**
 * Whether it catches or blocks it. A shell blocks all signals for the moment in which it forks: that
 * does not count. Where the masks cannot be read, a shell does not handle it, and any other does.
 */
function handles(p: Process, signal: number): boolean {
  if (signal === SIGKILL) return true; // as far as it can be
  const ofShell = isShell(p);
  const mask = signalMask(p.pid, ofShell ? ["SigCgt"] : ["SigCgt", "SigBlk"]);
  return mask === undefined ? !ofShell : isIn(mask, signal);
}

/** By its first word, for a script bears its own name. */
function isShell({ pid }: Process): boolean {
  const [word = ""] = contents(`/proc/${pid}/cmdline`).split("\0");
  return SHELLS.test(basename(word));
}

/** Of these masks of its status together: bit n - 1 for signal n. gVisor does not tell. */
function signalMask(pid: number | "self", fields: string[]): bigint | undefined {
  const rows = new RegExp(`^(?:${fields.join("|")}):\\s+(\\w+)`, "gm");
  const masks = [...contents(`/proc/${pid}/status`).matchAll(rows)];
  return masks.length ? masks.reduce((all, [, mask]) => all | BigInt(`0x${mask}`), 0n) : undefined;
}

function isIn(mask: bigint, signal: number): boolean {
  return ((mask >> BigInt(signal - 1)) & 1n) === 1n;
}

/** What its descriptors are: paths, `socket:[INODE]`, `pipe:[INODE]`. Undefined for another user's. */
function openFiles({ pid }: Process): string[] | undefined {
  const fds = attempt(() => fs.readdirSync(`/proc/${pid}/fd`));
  return fds?.map((fd) => linkTarget(`/proc/${pid}/fd/${fd}`));
}

function linkTarget(path: string): string {
  return attempt(() => fs.readlinkSync(path)) ?? "";
}

// Of TCP what listens (0A), of UDP what has no peer (07): sl local_address rem_address st … inode
const INTERNET_ROW = /:(\w{4}) \w+:\w+ (0A|07)(?: +\S+){5} +(\d+)/g;
// What accepts connections: Num RefCount Protocol Flags Type St Inode Path
const UNIX_ROW = / 00010000 \w+ \w+ +(\d+)(?: (.*))?$/gm;

/** The sockets at which something may arrive, by `socket:[INODE]`: tcp(7), udp(7), unix(7). */
function openSockets(): Map<string, Place> {
  const sockets = new Map<string, Place>();
  for (const name of ["tcp", "tcp6", "udp", "udp6"])
    for (const [, port = "", state, inode] of contents(`/proc/net/${name}`).matchAll(INTERNET_ROW))
      sockets.set(`socket:[${inode}]`, state === "0A" ? Number.parseInt(port, 16) : "udp");
  for (const [, inode, path = ""] of contents("/proc/net/unix").matchAll(UNIX_ROW))
    sockets.set(`socket:[${inode}]`, path);
  return sockets;
}

type Sockets = ReturnType<typeof openSockets>;

/** Where it listens, ports first, and whether it carries packets or files. Undefined if nobody tells. */
function whereListens({ tree }: Child, sockets: () => Sockets) {
  const files = new Set(tree.flatMap((p) => openFiles(p) ?? []));
  if (!files.size) return undefined;
  const all = [...files].some(isSocket) ? [...sockets()] : []; // to read them takes a while
  const open = all.flatMap(([socket, place]) => (files.has(socket) ? place : []));
  const carries = open.includes("udp") || files.has("/dev/fuse") || files.has("/dev/net/tun");
  return { places: [...new Set(open)].filter((place) => place !== "udp"), carries };
}

function isFifo(path: string): boolean {
  return attempt(() => fs.statSync(path).isFIFO()) ?? false;
}

function lazily<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function isListening(p: Process, sockets: () => Sockets): boolean {
  return placesOf(p, sockets).length > 0;
}

function placesOf(p: Process, sockets: () => Sockets): Place[] {
  const files = openFiles(p) ?? [];
  return files.filter(isSocket).flatMap((file) => sockets().get(file) ?? []);
}

function isSocket(file: string): boolean {
  return file.startsWith("socket:");
}

/** By place, whom /proc shows to listen there and to be in no row's tree, where no row's does. */
function listenersOutside(): Map<Place, Process> {
  const sockets = lazily(openSockets);
  const ours = children.flatMap(({ tree }) => tree);
  const ids = new Set(ours.map(({ id }) => id));
  const others = (processes() ?? []).filter(({ id }) => !ids.has(id));
  const taken = new Set(ours.flatMap((p) => placesOf(p, sockets)));
  const pairs = others.flatMap((p) => placesOf(p, sockets).map((place) => [place, p] as const));
  return new Map(pairs.filter(([place]) => !taken.has(place)));
}

function anothers({ name, pid }: Process): string {
  return `${name} (pid ${pid}) is another user's`;
}

/** kill(2), and what it found. */
function send(pid: number, signal: number): { there: boolean; denied: boolean } {
  try {
    process.kill(pid, signal);
    return { there: true, denied: false };
  } catch (error) {
    const denied = codeOf(error) === "EPERM"; // there, but another user's
    return { there: denied, denied };
  }
}

/** The kernel's count of processes that it killed for want of memory. */
function oomKills(): number {
  const events = cgroup("memory", "memory.oom_control", "memory.events");
  return Number(/^oom_kill (\d+)/m.exec(events)?.[1] ?? 0);
}

/** Whether somebody has set one: the kernel's own is half of the threads that it can count. */
function hasProcessLimit(): boolean {
  const [, most] = /^Max processes +(\d+)/m.exec(contents("/proc/self/limits")) ?? [];
  const usual = Math.floor(Number(contents("/proc/sys/kernel/threads-max")) / 2);
  return Number(most) < usual || /^\d/.test(cgroup("pids", "pids.max"));
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

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? `${error.code}` : `${error}`;
}

function contents(path: string): string {
  return attempt(() => fs.readFileSync(path, "utf8")) ?? "";
}

/** What it gives, or undefined where it may not be had. */
function attempt<T>(what: () => T): T | undefined {
  try {
    return what();
  } catch {
    return undefined;
  }
}

function isDirectory(path: string): boolean {
  return fs.existsSync(`${path}/.`);
}

/** The CPUs that the container may use: those of its set, and no more than its quota pays for. */
function cpus(): number {
  const max = cgroup("cpu", "cpu.max", "cpu.cfs_quota_us"); // "50000 100000", "max 100000"; "-1"
  const quota = /^(\d+)\s+(\d+)/.exec(`${max} ${cgroup("cpu", "cpu.cfs_period_us")}`);
  const paid = quota ? Math.ceil(Number(quota[1]) / Number(quota[2])) : Number.POSITIVE_INFINITY;
  return Math.min(availableParallelism(), paid);
}

const ownExitCode = await main(process.argv.slice(2)).catch((error) => {
  say(`${error.message}: cannot go on`, "ERROR");
  return 1;
});
await flushed();
process.exit(ownExitCode);
