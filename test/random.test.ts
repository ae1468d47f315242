// Random processes, wrappers, delays, deaths and signals, and what must be true whatever they are: the
// first exit decides the code, nothing is left, it ends in time, no line is lost, nobody is asked twice,
// who serves is asked when those below have ended, all others at once.
// ENTRYPOINT_TEST_SECONDS is how long it goes on, ENTRYPOINT_TEST_SEED repeats a round.

import { expect, test } from "bun:test";
import os from "node:os";
import path from "node:path";
import { Box, compiled, eventually, freePort, type Run, runtimes } from "./harness.ts";
import { random } from "./writer.ts";

const seconds = Number(process.env.ENTRYPOINT_TEST_SECONDS ?? 8);
const firstSeed = Number(process.env.ENTRYPOINT_TEST_SEED ?? Math.floor(Math.random() * 1e6));
const actor = path.join(import.meta.dir, "actor.sh");
const signals = ["KILL", "SEGV", "ABRT", "INT", "TERM", "ALRM", "PIPE", "BUS"] as const;

interface Actor {
  name: string;
  lines: number;
  /** What its own end is, and its end when it is asked: a code, a signal or deaf. */
  end: string;
  asked: string;
  drain: number;
  heirs: number;
  /** Whether it listens, and whether its line says so. */
  listens: "no" | "in secret" | "by its line" | "for nobody";
  wrapper: Wrapper;
  filtered: boolean;
  line: string;
}

/** What stands in front of it, and whether its exit code comes through when all are stopped. */
const wrappers = [
  { line: "ACTOR", passes: true },
  { line: "nice ACTOR", passes: true },
  { line: "timeout 1h ACTOR", passes: true },
  { line: "cd . && ACTOR", passes: false },
  { line: "(ACTOR)", passes: false },
  { line: "sh -c 'ACTOR; exit $?'", passes: false },
  { line: "trap true EXIT; ACTOR", passes: false },
] as const;
type Wrapper = (typeof wrappers)[number];

type Dice = ReturnType<typeof dice>;

function dice(seed: number) {
  const next = random(seed);
  const below = (n: number) => Math.floor(next() * n);
  const pick = <T>(choices: readonly T[]): T => {
    const choice = choices[below(choices.length)];
    if (choice === undefined) throw new Error("nothing to pick from");
    return choice;
  };
  return { below, pick, chance: (of: number) => next() < of };
}

const codeOf = (end: string) =>
  /^\d/.test(end) ? Number(end) : 128 + (os.constants.signals[`SIG${end}` as NodeJS.Signals] ?? 0);

async function draw({ below, pick, chance }: Dice): Promise<Actor[]> {
  const count = 1 + below(5);
  const mayBeDeaf = chance(0.15);
  const actors: Actor[] = [];
  for (let i = 0; i < count; i++) {
    const name = `${"p".repeat(1 + below(4))}${i}`;
    const lines = pick([0, 1, 10, 300]);
    const end = chance(0.5) ? `${below(256)}` : pick(signals);
    const asked =
      mayBeDeaf && chance(0.4) ? "deaf" : pick(["0", "0", "0", "TERM", "143", "5", "77"]);
    const drain = pick([0, 0, 0.1, 0.3]);
    const heirs = pick([0, 0, 1, 3]);
    const listens =
      i < count - 1 ? pick(["no", "no", "in secret", "by its line", "for nobody"] as const) : "no";
    const port = listens === "no" ? "" : await freePort();
    const words = [name, lines, end, asked, drain, heirs, port].join(" ");
    const wrapper = pick(wrappers);
    const filtered = chance(0.2);
    const command = wrapper.line.replace("ACTOR", `sh ${actor} ${words}`);
    const places = {
      no: pick(["", "PORT=$PORT ", "PORT=$" + "{PORT:-3000} "]),
      "in secret": "",
      "by its line": `PORT=${port} ${pick(["", "true; "])}`,
      "for nobody": "PORT= ",
    };
    const line = `${name}: ${places[listens]}${command}${filtered ? " | cat" : ""}`;
    actors.push({ name, lines, end, asked, drain, heirs, listens, wrapper, filtered, line });
  }
  return actors;
}

/** Each line of a stream of its own, in their order. */
function linesOf(run: Run, stream: "stdout" | "stderr", name: string): string[] {
  const prefix = new RegExp(`^${name} *\\| (.*)`);
  return run[stream].lines.flatMap((line) => prefix.exec(line)?.[1] ?? []);
}

/** What one that ended by itself wrote is all there; what one that was killed wrote has no gap. */
function checkLines(box: Box, run: Run, { name, filtered }: Actor): void {
  // A filter that was asked in the last second, or killed, has taken lines with it.
  const drained = /: stopping .*\n(.*\n)*entrypoint \| stopped in .*exit code/.test(
    run.stderr.text,
  );
  const cut =
    filtered && (!drained || /: (did not stop in time|killed at a)/.test(run.stderr.text));
  const written = cut ? "" : box.read(`${name}.count`);
  for (const stream of ["stdout", "stderr"] as const) {
    const got = linesOf(run, stream, name).filter((line) => /^\d+$/.test(line));
    const count = written ? Number(written) : got.length;
    expect([name, stream, got]).toEqual([name, stream, numbers(count)]);
  }
}

/** The invariants of section 6, where all were up and none had to be killed. */
function checkOrder(box: Box, actors: Actor[]): void {
  const order = box.read("order").split("\n");
  // Nobody is at the public port: the last that listens in secret is the front.
  const front = actors.findLast(({ listens }) => listens === "in secret");
  for (const [i, actor] of actors.entries()) {
    const asked = order.indexOf(`${actor.name} asked`);
    const serves =
      actor.listens === "by its line" || (actor.listens === "in secret" && actor !== front);
    for (const other of serves && asked >= 0 ? actors.slice(i + 1) : [])
      expect([actor.name, other.name, order.indexOf(`${other.name} ended`) < asked, order]).toEqual(
        [actor.name, other.name, true, order],
      );
  }
}

/** Whatever happens, nobody is asked twice. */
function checkAsked(box: Box, actors: Actor[]): void {
  const order = box.read("order").split("\n");
  for (const { name } of actors) {
    const asked = order.filter((line) => line === `${name} asked`);
    expect([name, asked.length]).toEqual([name, Math.min(asked.length, 1)]);
  }
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i + 1}`);

async function play(box: Box, seed: number): Promise<string> {
  const chances = dice(seed);
  const { below, pick, chance } = chances;
  const actors = await draw(chances);
  const grace = 1.5;
  const run = box.procfile(
    actors.map(({ line }) => line),
    { env: { ENTRYPOINT_GRACE: `${grace}`, PORT: `${await freePort()}` } },
  );
  const scene = pick(["end", "end", "stop", "stop", "early stop", "kill"]);
  if (scene === "early stop") await Bun.sleep(below(150));
  else await eventually("all processes", () => actors.every(({ name }) => box.has(`${name}.up`)));
  const isUp = /ready in/.test(run.stderr.text);
  const noise = scene !== "early stop" && isUp;
  for (let i = noise ? below(4) : 0; i > 0; i--)
    run.signal(pick(["SIGHUP", "SIGUSR1", "SIGWINCH"] as const));

  const victims = actors.filter(() => chance(0.4));
  if (victims.length === 0) victims.push(pick(actors));
  if (scene === "end") for (const { name } of victims) box.write(`${name}.go`, "");
  else if (scene === "kill") {
    run.remember();
    const leaders = [...run.descendants.values()].filter(
      ({ ppid, pid, pgrp }) => ppid === run.pid && pid === pgrp,
    );
    expect(leaders).toHaveLength(actors.length);
    process.kill(pick(leaders).pid, "SIGKILL");
  } else {
    run.signal("SIGTERM");
    if (chance(0.2)) {
      await Bun.sleep(below(300));
      if (run.isAlive) process.kill(run.pid, "SIGTERM");
    }
  }
  const { code, stopMs } = await run.exit();

  const first = run.stderr.lines.filter((line) => /^entrypoint \| .* after [\d.]+ m?s/.test(line));
  if (scene === "end" || scene === "kill") {
    const decisive =
      /^entrypoint \| (\w+): (?:exit code (\d+)(?: \(.*\))?|killed by SIG(\w+)) after/.exec(
        first[0] ?? "",
      );
    const [, name = "", exitCode, signal] = decisive ?? [];
    const expected = exitCode ? Number(exitCode) : codeOf(signal ?? "");
    expect([first.length, code]).toEqual([1, expected]);
    if (scene === "kill") expect(code).toBe(137);
    else
      expect(
        victims.map(({ name, end, filtered }) => [name, filtered ? 0 : codeOf(end)]),
      ).toContainEqual([name, code]);
  } else {
    const own = ({ asked }: Actor) => (asked === "TERM" || asked === "143" ? 0 : codeOf(asked));
    const codes = actors.map((actor) => (actor.filtered ? 0 : own(actor)));
    const lost = actors.some(
      ({ wrapper, listens }) => !wrapper.passes || listens === "by its line",
    );
    const killed = /: did not stop in time: killed|: killed at a second signal/.test(
      run.stderr.text,
    );
    const wrong = codes.filter((code) => code !== 0);
    if (killed) expect(code).toBe(137);
    else if (scene === "early stop") expect([0, 143, ...wrong]).toContain(code);
    else expect(wrong.length && !lost ? wrong : [0, ...wrong]).toContain(code);
    if (scene === "stop" && !killed && stopMs < grace * 600) checkOrder(box, actors);
    if (scene === "stop" && actors.some(({ asked }) => asked === "deaf")) expect(killed).toBe(true);
    if (!killed && code !== 143)
      expect(run.stderr.text).toMatch(/^entrypoint \| stopped in .*exit code/m);
  }
  // The grace, or half of it, and what a busy machine adds to it.
  expect(stopMs).toBeLessThan(grace * 1000 + 6000);
  for (const actor of actors) checkLines(box, run, actor);
  checkAsked(box, actors);
  return scene;
}

async function round(seed: number): Promise<string> {
  const box = new Box(compiled);
  let scene = "";
  let complaints: string[] = [];
  try {
    scene = await play(box, seed);
  } catch (error) {
    complaints.push(String(error));
  }
  const story = `${box.read("Procfile")}${box.describe()}`;
  complaints = [...complaints, ...(await box.close())];
  if (complaints.length > 0)
    throw new Error([`ENTRYPOINT_TEST_SEED=${seed}`, ...complaints, story].join("\n"));
  return scene;
}

const there = runtimes.includes(compiled) && process.platform === "linux";

test.if(there)(
  `random processes for ${seconds} s`,
  async () => {
    console.log(`ENTRYPOINT_TEST_SEED=${firstSeed}`);
    const end = performance.now() + seconds * 1000;
    const scenes = new Map<string, number>();
    let seed = firstSeed;
    do {
      const scene = await round(seed++);
      scenes.set(scene, (scenes.get(scene) ?? 0) + 1);
    } while (performance.now() < end);
    console.log(
      `random: ${seed - firstSeed} rounds, ${[...scenes].map((s) => s.join(" ")).join(", ")}`,
    );
  },
  seconds * 1000 + 60_000,
);
