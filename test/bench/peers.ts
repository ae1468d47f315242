// What people use to run two processes in a container, each as its own documentation says for a
// first exit that ends the whole.

import fs from "node:fs";
import path from "node:path";
import { executable } from "../../build.ts";

const root = path.resolve(import.meta.dir, "../..");
const self = path.join(root, "dist/entrypoint");
const cache = path.join(root, "node_modules/.cache/bench");

/** A process that is to be run: words without spaces or quotes in them. */
export interface Job {
  name: string;
  command: string;
}

/** A call that runs the jobs. */
export interface Call {
  command: string[];
  files?: Record<string, string>;
  env?: Record<string, string>;
}

export interface Peer {
  name: string;
  /** Whether a line of a job's output gets the job's name in front. */
  prefixes: boolean;
  /** What it is written in, where that is a language with a runtime. */
  runtime?: "JavaScript" | "Python" | "Ruby";
  /** Asks it to stop; SIGTERM where it isn't said. */
  stopSignal?: NodeJS.Signals;
  /** What it has to be installed for: Debian's package:program, or a package of npm's with its version. */
  debian?: string;
  npm?: string;
  program: string;
  call: (jobs: Job[], directory: string, program: string) => Call;
}

const lines = (...all: string[]) => all.map((line) => `${line}\n`).join("");
const script = (...all: string[]) => lines("#!/bin/sh", ...all);
const background = (jobs: Job[], after = "") =>
  lines(...jobs.map(({ command }) => `${command}${after} &`), "wait -n");

export const entrypoint: Peer = {
  name: "entrypoint",
  prefixes: true,
  program: self,
  call: (jobs, _, program) => ({
    files: { Procfile: lines(...jobs.map(({ name, command }) => `${name}: ${command}`)) },
    command: [program],
  }),
};

/** The article's script, on which all ratios are based. */
export const bash: Peer = {
  name: "bash",
  prefixes: false,
  program: "bash",
  call: (jobs, _, program) => ({
    files: { script: background(jobs) },
    command: [program, "script"],
  }),
};

/** Starts its job with a pipe as stdout; `chunks` are what comes out of it. */
const PIPE = `import { dlopen } from "bun:ffi";
import { closeSync } from "node:fs";
const { pipe2 } = dlopen("libc.so.6", { pipe2: { args: ["ptr", "i32"], returns: "i32" } }).symbols;
const fds = new Int32Array(2);
pipe2(fds, 0o2000000); // O_CLOEXEC
Bun.spawn(["sh", "-c", process.argv[2]], { stdio: ["ignore", fds[1], "inherit"] });
closeSync(fds[1]);
const chunks = Bun.file(fds[0]).stream();
const writer = Bun.file(1).writer();
`;

/** The least that a program of Bun's takes: to start its jobs and wait, or to copy what one of them writes. */
const FLOORS = {
  "Bun.spawn": `const stdio = ["inherit", "inherit", "inherit"];
for (const line of process.argv.slice(2)) Bun.spawn(["sh", "-c", line], { stdio });
`,
  spawn: `import { spawn } from "node:child_process";
for (const line of process.argv.slice(2)) spawn("sh", ["-c", line], { stdio: "inherit" });
`,
  zx: `import { $ } from "zx/core";
const options = { shell: "sh", prefix: "", quote: (line) => line, stdio: "inherit" };
await Promise.all(process.argv.slice(2).map((line) => $(options)\`\${line}\`));
`,
  loop: `${PIPE}
for await (const chunk of chunks) {
  writer.write(chunk);
  await writer.flush();
}
`,
  "loop with names": String.raw`${PIPE}
const name = "a | ";
let rest = "";
for await (const chunk of chunks) {
  const text = rest + Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString("latin1");
  const end = text.lastIndexOf("\n") + 1;
  rest = text.slice(end);
  const named = (name + text.slice(0, end)).replaceAll("\n", "\n" + name).slice(0, -name.length);
  writer.write(Buffer.from(named, "latin1"));
  await writer.flush();
}
`,
};
export type Floor = keyof typeof FLOORS;
export const floorName = (floor: Floor) => `floor: ${floor}`;

const compiled = new Map<Floor, Peer>();

/** Compiled as entrypoint is, once a run. */
export async function compile(floor: Floor): Promise<Peer> {
  const made = compiled.get(floor);
  if (made) return made;
  const program = path.join(cache, `floor-${floor.replace(/\W+/g, "-")}`);
  fs.mkdirSync(cache, { recursive: true });
  fs.writeFileSync(`${program}.ts`, FLOORS[floor]);
  await executable(`${program}.ts`, program, undefined, []);
  const call: Peer["call"] = (jobs) => ({
    command: [program, ...jobs.map(({ command }) => `exec ${command}`)],
  });
  const peer = { name: floorName(floor), prefixes: false, program, call };
  compiled.set(floor, peer);
  return peer;
}

export const all: Peer[] = [
  bash,
  {
    name: "bash, sed prefix",
    prefixes: true,
    program: "bash",
    call: (jobs, _, program) => ({
      files: {
        script: lines(
          ...jobs.map(({ name, command }) => `${command} 2>&1 | sed 's/^/${name} | /' &`),
          "wait -n",
        ),
      },
      command: [program, "script"],
    }),
  },
  {
    name: "tini, bash",
    prefixes: false,
    debian: "tini",
    program: "tini",
    call: (jobs, _, program) => ({
      files: { script: background(jobs) },
      command: [program, "--", "bash", "script"],
    }),
  },
  {
    name: "tini, sh", // tini starts one, and knows of that one alone: here sh, which becomes the last
    prefixes: false,
    debian: "tini",
    program: "tini",
    call: (jobs, _, program) => {
      const all = jobs.map(({ command }, i) =>
        i < jobs.length - 1 ? `${command} &` : `exec ${command}`,
      );
      return { command: [program, "--", "sh", "-c", all.join(" ")] };
    },
  },
  entrypoint,
  {
    name: "s6-svscan",
    prefixes: false,
    debian: "s6:s6-svscan",
    program: "s6-svscan",
    call: (jobs, directory, program) => ({
      files: services(jobs, "s6-svscanctl -t .."),
      command: [program, `${directory}/services`],
    }),
  },
  {
    name: "runsvdir",
    prefixes: false,
    debian: "runit:runsvdir",
    program: "runsvdir",
    stopSignal: "SIGHUP", // SIGTERM ends runsvdir alone
    call: (jobs, directory, program) => ({
      files: services(jobs, "kill -HUP $RUNSVDIR"),
      command: ["sh", "-c", `RUNSVDIR=$$ exec ${program} ${directory}/services`],
    }),
  },
  {
    name: "supervisord",
    prefixes: false,
    runtime: "Python",
    debian: "supervisor:supervisord",
    program: "supervisord",
    call: (jobs, directory, program) => ({
      files: {
        "supervisord.conf": supervisord(jobs, directory),
        listener: script("echo READY", "read -r event", "kill $PPID"),
      },
      command: [program, "-n", "-c", "supervisord.conf"],
    }),
  },
  {
    name: "foreman",
    prefixes: true,
    runtime: "Ruby",
    debian: "ruby-foreman:foreman",
    program: "foreman",
    call: (jobs, _, program) => ({
      files: { Procfile: lines(...jobs.map(({ name, command }) => `${name}: ${command}`)) },
      command: [program, "start"],
    }),
  },
  {
    name: "concurrently",
    prefixes: true,
    runtime: "JavaScript",
    npm: "concurrently@10.0.7",
    program: "concurrently",
    call: (jobs, _, program) => {
      const names = jobs.map(({ name }) => name).join();
      return {
        command: [program, "--kill-others", "-n", names, ...jobs.map(({ command }) => command)],
      };
    },
  },
  {
    name: "run-p",
    prefixes: true,
    runtime: "JavaScript",
    npm: "npm-run-all2@9.0.4",
    program: "run-p",
    call: (jobs, _, program) => {
      const scripts = Object.fromEntries(jobs.map(({ name, command }) => [name, command]));
      return {
        files: { "package.json": JSON.stringify({ scripts }) },
        command: [program, "--race", "--print-label", ...Object.keys(scripts)],
      };
    },
  },
  {
    name: "pm2-runtime", // it has no way to end with the first: it stays until all have ended
    prefixes: true,
    runtime: "JavaScript",
    npm: "pm2@7.0.4",
    program: "pm2-runtime",
    call: (jobs, directory, program) => ({
      env: { PM2_HOME: `${directory}/.pm2` },
      files: { "ecosystem.config.js": ecosystem(jobs) },
      command: [program, "start", "ecosystem.config.js"],
    }),
  },
  {
    name: "multirun", // Debian has none: where it is on PATH
    prefixes: false,
    program: "multirun",
    call: (jobs, _, program) => ({ command: [program, ...jobs.map(({ command }) => command)] }),
  },
];

function services(jobs: Job[], finish: string): Record<string, string> {
  const files: Record<string, string> = {};
  for (const { name, command } of jobs) {
    files[`services/${name}/run`] = script(`exec ${command}`);
    files[`services/${name}/finish`] = script(finish);
  }
  return files;
}

function supervisord(jobs: Job[], directory: string): string {
  const output = ["stdout_logfile=/dev/stdout", "stdout_logfile_maxbytes=0"];
  return lines(
    "[supervisord]",
    "nodaemon=true",
    "logfile=/dev/null",
    "logfile_maxbytes=0",
    `pidfile=${directory}/pid`,
    ...jobs.flatMap(({ name, command }) => [
      `[program:${name}]`,
      `command=${command}`,
      "startsecs=0",
      "autorestart=false",
      ...output,
    ]),
    "[eventlistener:exit]",
    `command=${directory}/listener`,
    "events=PROCESS_STATE_EXITED,PROCESS_STATE_FATAL",
  );
}

function ecosystem(jobs: Job[]): string {
  const nowhere = { out_file: "/dev/null", error_file: "/dev/null" };
  const apps = jobs.map(({ name, command }) => {
    const [script, ...args] = command.split(" ");
    return { name, script, args, interpreter: "none", autorestart: false, ...nowhere };
  });
  return `module.exports = ${JSON.stringify({ apps })};\n`;
}

/** The path of each one that is there. What isn't is installed; what cannot be is named. */
export function install(say: (text: string) => void) {
  const setup = path.join(root, "test/setup.sh");
  const packages = all.flatMap(({ debian }) => debian ?? []);
  const result = Bun.spawnSync(["sh", setup, "hyperfine", "nginx", "wrk", ...packages]);
  if (!result.success) say(result.stderr.toString());
  const modules = all.flatMap(({ npm }) => npm ?? []);
  fs.mkdirSync(cache, { recursive: true });
  const list = path.join(cache, "installed");
  if (!fs.existsSync(list) || fs.readFileSync(list, "utf8") !== modules.join()) {
    say(`npm install ${modules.join(" ")}`);
    const npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--save-exact"];
    const { success, stderr } = Bun.spawnSync([...npm, "--prefix", cache, ...modules]);
    if (success) fs.writeFileSync(list, modules.join());
    else say(stderr.toString());
  }
  const PATH = [`${cache}/node_modules/.bin`, process.env.PATH, "/usr/sbin"].join(":");
  const found = new Map<Peer, string>();
  for (const peer of all) {
    const program = Bun.which(peer.program, { PATH });
    if (program) found.set(peer, program);
  }
  return { found, missing: all.filter((peer) => !found.has(peer)).map(({ name }) => name), PATH };
}
