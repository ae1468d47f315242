// What stands in real start files: whatever is in front of a server, it
// is asked once and finishes its requests; a filter lives as long as what it reads; who depends on
// whom decides the order; and a first exit. A new kind is one more row of a table.
// ENTRYPOINT_TEST_SHAPES=all tries each row with each shell and each server, which takes about five
// minutes; otherwise they take turns.

import { expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  type Box,
  bun,
  compiled,
  eventually,
  freePort,
  type It,
  isRoot,
  node,
  python,
  type Run,
  root,
  SYSTEM,
  section,
  shellIn,
  temporaryPaths,
  untilGo,
} from "./harness.ts";

const all = process.env.ENTRYPOINT_TEST_SHAPES === "all";
const REQUEST = all ? 1200 : 700; // milliseconds that each takes that is under way at a stop
const support = (name: string) => path.join(root, "test/shapes", name);

// ---- Rows, and where they can be tried

const shells = ["dash", "busybox", "bash"] as const;
type Shell = (typeof shells)[number];

/** A line around X, a command. */
type Row = [name: string, line: string, more?: More];

interface More {
  /** The program that it needs, where that is not there everywhere. */
  needs?: string;
  /** Only root can do it. */
  root?: true;
  /** It passes on SIGTERM and is asked alone, for it might start the server again: nginx would drop its requests. */
  only?: "node";
  /** The grace, where the server is asked in its last second only. */
  grace?: number;
  env?: Record<string, string>;
}

/** A test of a row, or the row by its name where something is missing for it. */
function rowTest(
  it: It,
  title: string,
  shell: Shell,
  more: More,
  body: (box: Box) => Promise<void>,
) {
  const programs = [shell, ...(more.needs ? [more.needs] : [])];
  const missing = programs.find((program) => !Bun.which(program));
  const lacks = missing ?? (more.root && !isRoot && "root");
  if (lacks) test.skip(`${title} (skipped: there is no ${lacks})`, () => {});
  else it(title, body);
}

/** The environment in which `sh` is this one, for scripts too. */
function useShell(box: Box, shell: Shell): Record<string, string> {
  const bin = shellIn(path.join(box.dir, "bin"), shell);
  return { PATH: `${bin}:${path.dirname(python)}:${process.env.PATH}:${SYSTEM}` };
}

/** All of them, or the one whose turn it is. */
function turns<T>(of: T[], turn: number): T[] {
  return all ? of : of.slice(turn % of.length).slice(0, 1);
}

// ---- Wrappers

// The files that some name stand below. NODE, BUN: those programs.
const wrappers: Row[] = [
  // of the shell
  ["nothing", "X"],
  ["exec", "exec X"],
  ["assignments and env", "A=1 env B=2 X"],
  ["cd", "cd . && X"],
  ["a subshell", "(X)"],
  ["braces", "{ X; }"],
  ["a command behind", "X; true"],
  ["a command in front", "true; X"],
  ["an exit", "X; exit $?"],
  ["a condition", "if X; then true; else exit 1; fi"],
  ["a function", "run() { X; }; run"],
  ["an eval", "eval 'X'"],
  ["a loop", "while :; do X; sleep 0.1; done"],
  ["until it ends well", "until X; do sleep 0.1; done"],
  ["a variable for a path", "D=.; $D/docker-entrypoint.sh X"],
  ["a redirection", "X </dev/null >>out.log"],
  ["a job", "X & wait"],
  ["a job by its pid", "X & wait $!"],
  ["a job of a job", "sh -c 'X & wait' & wait"],
  ["a sidecar", "sleep 1000 & X"],
  ["a sidecar, then exec", "sleep 1000 & exec X"],

  // more shells
  ["sh -c", "sh -c 'X'"],
  ["sh -c with arguments", `sh -c 'exec "$0" "$@"' X`],
  ["nested shells", `sh -c "sh -c 'X; :'; :"`],
  ["bash, then exec", "bash -c 'sleep 0.1; exec X'", { needs: "bash" }],
  ["bash's time", "bash -c 'time X'", { needs: "bash" }],
  ["bash's wait -n", "bash -c 'sleep 1000 & X & wait -n'", { needs: "bash" }],
  ["bash's job control", "bash -c 'set -m; X & fg'", { needs: "bash" }],
  ["bash's coproc", "bash -c 'coproc X; wait'", { needs: "bash" }],
  ["a docker-entrypoint.sh", "sh ./docker-entrypoint.sh X"],
  ["a docker-entrypoint.sh by its name", "./docker-entrypoint.sh X"],
  ["a script's last line but one", "sh ./behind.sh X"],
  ["a script that waits", "sh ./waits.sh X"],

  // traps
  ["a trap for EXIT", "trap 'rm -f x' EXIT; X"],
  ["a trap for EXIT that ends the job", "trap 'kill $!; wait' EXIT; X & wait"],
  ["a trap that kills the group", "trap 'trap - TERM; kill 0; wait' TERM; X & wait; wait"],
  ["a trap that kills the jobs", "trap 'kill $(jobs -p)' TERM; X & wait; wait", { grace: 5 }], // dash sees none
  ["a trap that kills and ends", "trap 'kill $pid; exit 0' TERM; X & pid=$!; wait"],
  ["a trap that only ends, in front", "trap 'echo bye; exit 0' TERM; X", { grace: 5 }],
  ["a trap that only ends, beside", "trap 'echo bye; exit 0' TERM; X & wait"],
  ["a trap that does nothing", "trap : TERM; X & wait"],
  ["a trap that passes it on and ends", "trap 'kill $!; exit 0' TERM; X & wait"],
  ["a trap with a pipe", "trap 'echo bye' TERM; X | cat", { grace: 5 }],
  ["a shell that ignores SIGTERM", "trap '' TERM; X"],
  ["a script that passes SIGTERM on", "sh ./forwards.sh X"],
  ["a script by its name that does", "./forwards.sh X"],
  ["a script that does, behind a shell", "sh ./forwards.sh X; true"],

  // pipes
  ["a pipe into cat", "X | cat"],
  ["a pipe into tee", "X | tee -a tee.log"],
  ["a pipe for both streams", "X 2>&1 | cat"],
  ["two filters", "X | cat | sed s/a/b/"],
  ["a filter in bash", "bash -c 'exec > >(tee -a tee.log); exec X'", { needs: "bash" }],
  ["a filter in bash, then a shell", "bash -c 'exec > >(cat) 2>&1; X; true'", { needs: "bash" }],
  ["a pipe that ends at once", "cat /dev/null | X"],
  ["a pipe that never ends", "tail -f /dev/null | X"],
  [
    "a pipe that is nobody's output",
    `python3 -c 'import subprocess; subprocess.Popen("X", shell=True, stdin=subprocess.PIPE).wait()'`,
  ],
  ["a pipe from a descriptor of its own", "mkfifo in; exec 5<>in; X <&5"],

  // inits
  ["timeout", "timeout 1h X"],
  ["timeout before a shell", "timeout 1h sh -c 'X; true'"],
  ["timeout in the foreground", "timeout --foreground 1h X"],
  ["tini", "tini -- X", { needs: "tini" }],
  ["tini -s -g", "tini -s -g -- X", { needs: "tini" }],
  ["tini before a shell", "tini -- sh -c 'X; true'", { needs: "tini" }],
  ["tini -g before a shell", "tini -s -g -- sh -c 'X; true'", { needs: "tini" }],
  ["tini before a pipe", "tini -- sh -c 'X | cat; true'", { needs: "tini" }],
  ["tini before a script", "tini -- ./forwards.sh X", { needs: "tini" }],
  ["tini before timeout", "tini -- timeout 1h sh -c 'X; true'", { needs: "tini" }],
  ["dumb-init", "dumb-init X", { needs: "dumb-init" }],
  ["dumb-init -c", "dumb-init -c X", { needs: "dumb-init" }],
  ["dumb-init before a shell", "dumb-init sh -c 'X; true'", { needs: "dumb-init" }],
  ["dumb-init before a pipe", "dumb-init sh -c 'X | cat'", { needs: "dumb-init" }],
  ["dumb-init before a script", "dumb-init ./forwards.sh X", { needs: "dumb-init" }],
  ["dumb-init before a loop", "dumb-init sh -c 'until X; do :; done'", { needs: "dumb-init" }],
  ["catatonit", "catatonit -- X", { needs: "catatonit" }],
  ["catatonit before a shell", "catatonit -- sh -c 'X; true'", { needs: "catatonit" }],

  // users
  ["setpriv", "setpriv --no-new-privs X"],
  ["setpriv to a user", `setpriv --reuid nobody --regid nogroup --clear-groups X`, { root: true }],
  ["gosu", "gosu nobody X", { needs: "gosu", root: true }],
  ["su", "su root -s /bin/sh -c 'X'", { root: true }],
  ["su before a shell", "su root -c 'X; true'", { root: true }],
  ["su before a loop", "su root -c 'until X; do :; done'", { root: true }],
  ["su to another user", "su nobody -s /bin/sh -c 'X'", { root: true }],
  ["a login by su", "su - root -c 'X'", { root: true }],
  ["runuser", "runuser -u nobody -- X", { needs: "runuser", root: true }],
  ["sudo", "sudo -E X", { needs: "sudo", root: true }],
  ["sudo before a shell", "sudo sh -c 'X; true'", { needs: "sudo", root: true }],
  ["sudo to another user", "sudo -u nobody X", { needs: "sudo", root: true }],

  // programs that become X, or start it
  ["setsid -w", "setsid -w X"],
  ["setsid before a shell", "setsid -w sh -c 'X; true'"],
  ["setsid without -w", "setsid X & wait"],
  ["script", "script -qec 'X' /dev/null"],
  ["script before a shell", "script -qec 'X; true' /dev/null"],
  ["nice and nohup", "nice nohup X"],
  ["stdbuf", "stdbuf -oL X"],
  ["ionice and chrt", "ionice -c 3 chrt --other 0 X"],
  ["flock", "flock lock X"],
  ["flock -c", "flock lock -c 'X'"],
  ["xargs", "echo X | xargs env"],
  ["find", "find . -maxdepth 0 -exec X ';'"],
  ["perl", `perl -e 'system("X")'`, { needs: "perl" }],
  ["python", `python3 -c 'import subprocess; subprocess.run("X", shell=True)'`],
  ["a parent in Node", "NODE spawns.cjs"],
  ["a parent in Node, another session", "NODE spawns.cjs detached"],
  ["make", "make -s run", { needs: "make", only: "node" }],
  ["npm", "npm start", { only: "node", env: { npm_config_update_notifier: "false" } }],
  ["bun run", "BUN run start", { only: "node" }],
  ["supervisord", "supervisord -c supervisord.conf", { needs: "supervisord" }],
];

const files: Record<string, string> = {
  "docker-entrypoint.sh": '#!SH\nset -e\ntrue\nexec "$@"\n',
  "behind.sh": '"$@"\ntrue\n',
  "waits.sh": '"$@" & wait $!\n',
  "forwards.sh": `#!SH\n"$@" & pid=$!; trap 'kill -TERM $pid' TERM; wait $pid; wait $pid; exit 0\n`,
  "spawns.cjs": `const options = { shell: true, stdio: "inherit", detached: process.argv[2] === "detached" };
require("node:child_process").spawn("X", options).on("exit", (code) => process.exit(code));`,
  Makefile: "run:\n\tX\n",
  "package.json": '{ "scripts": { "start": "X" } }',
  "supervisord.conf": `[supervisord]
nodaemon=true
user=root
logfile=/dev/null
logfile_maxbytes=0
pidfile=supervisord.pid
[program:web]
command=X
stopsignal=SIGNAL
stdout_logfile=/dev/null
stderr_logfile=/dev/null
`,
};

/** A server at a port. GET /500 takes 500 ms. */
interface Server {
  command: string;
  /** What lets it finish its requests. */
  signal: string;
  /** How many requests have arrived in it, how often it was started, the signals that it got. */
  arrived: () => number;
  started: () => number;
  asked: () => string[];
  close: () => void;
}

const servers: Record<string, (box: Box, port: number) => Server> = {
  nginx: (box, port) => {
    let arrived = 0;
    const upstream = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: async ({ url }) => {
        arrived++;
        await Bun.sleep(Number(new URL(url).pathname.slice(1)));
        return new Response("done");
      },
    });
    const conf = box.write(
      "nginx.conf",
      `daemon off; pid ${box.dir}/nginx.pid; error_log ${box.dir}/errors notice; worker_processes 1; events {}
       http { access_log /dev/stdout; ${temporaryPaths(box.dir)}
         server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${upstream.port}; } } }`,
    );
    const notices = (pattern: RegExp) => [...box.read("errors").matchAll(pattern)];
    return {
      command: `nginx -e stderr -c ${conf}`,
      signal: "SIGQUIT",
      arrived: () => arrived,
      started: () => notices(/start worker processes$/gm).length,
      // SIGCHLD and SIGIO are its own, of its workers.
      asked: () =>
        notices(/signal \d+ \((?!SIGCHLD|SIGIO)(\w+)\) received/g).map(([, name]) => `${name}`),
      close: () => upstream.stop(true),
    };
  },
  node: (box, port) => ({
    command: `${node} ${support("server.cjs")} ${port} ${box.dir}`,
    signal: "SIGTERM",
    arrived: () => box.lines("arrived").length,
    started: () => box.lines("started").length,
    asked: () => box.lines("asked"),
    close: () => {},
  }),
};

async function accepts(port: number): Promise<boolean> {
  try {
    const socket = { data() {}, error() {} };
    (await Bun.connect({ hostname: "127.0.0.1", port, socket })).terminate();
    return true;
  } catch {
    return false;
  }
}

/** Five requests of so many milliseconds, and what becomes of each: its status, or 0. */
function requests(port: number, ms: number): Promise<number[]> {
  const one = async () => {
    try {
      return (await fetch(`http://127.0.0.1:${port}/${ms}`)).status;
    } catch {
      return 0;
    }
  };
  return Promise.all(Array.from({ length: 5 }, one));
}

async function drains(run: Run, server: Server, port: number): Promise<void> {
  await run.line(/ready in/);
  await eventually("the server", () => accepts(port));
  const answers = requests(port, REQUEST);
  await eventually("5 requests", () => server.arrived() === 5);
  const { code, stopMs } = await run.stop();
  const [statuses, asked, started] = [await answers, server.asked(), server.started()];
  expect({ statuses, code, asked, started }).toEqual({
    statuses: [200, 200, 200, 200, 200],
    code: 0,
    asked: [server.signal],
    started: 1,
  });
  expect(stopMs).toBeLessThan(7500); // the last fifth of the grace begins at 8 s
}

section(
  "a stop reaches the server behind",
  (it) => {
    for (const [turn, [what, line, more = {}]] of wrappers.entries()) {
      const names = Object.keys(servers).filter((name) => name === (more.only ?? name));
      const pairs = shells.flatMap((shell) => names.map((name) => ({ shell, name })));
      for (const { shell, name } of turns(pairs, turn))
        rowTest(it, `${what}: ${name}, where sh is ${shell}`, shell, more, async (box) => {
          const port = await freePort();
          const server = servers[name]?.(box, port);
          if (!server) throw new Error(`there is no server ${name}`);
          const fill = (text: string) =>
            text
              .replace(/\bX\b/, server.command)
              .replace(/^#!SH/, `#!${box.dir}/bin/sh`)
              .replace("SIGNAL", server.signal.slice(3))
              .replace("NODE", node)
              .replace("BUN", bun);
          for (const [file, text] of Object.entries(files))
            fs.chmodSync(box.write(file, fill(text)), 0o755);
          fs.chmodSync(box.dir, 0o777); // for another user
          const grace = `${more.grace ?? 9}`;
          const env = { PORT: `${port}`, ENTRYPOINT_GRACE: grace, ...more.env };
          const run = box.procfile([`web: ${fill(line)}`], {
            env: { ...env, ...useShell(box, shell) },
          });
          await drains(run, server, port).finally(server.close);
        });
    }
  },
  [compiled],
);

// ---- Filters: X says `asked` at SIGTERM, works for 0.3 s, says `ended`

const filters: Row[] = [
  ["tee", "X | tee -a web.log"],
  ["tee of both streams", "X 2>&1 | tee -a web.log"],
  ["two", "X | cat | tee -a web.log"],
  ["three, and shells", "(X; true) | sed -u s/^/x/ | cat | tee -a web.log; true"],
  ["a loop", "X | while read -r line; do echo $line; echo $line >>web.log; done"],
  ["one in Node, as pino-pretty", "X | NODE filter.cjs"],
  ["bash's exec", "bash -c 'exec > >(tee -a web.log); exec X'", { needs: "bash" }],
  ["bash's exec, a shell", "bash -c 'exec > >(tee -a web.log); X; true'", { needs: "bash" }],
  ["a named pipe", "rm -f fifo; mkfifo fifo; tee -a web.log <fifo & exec X >fifo"],
  ["dumb-init", "dumb-init sh -c 'X | tee -a web.log'", { needs: "dumb-init" }],
  ["none, a trap in front", "trap 'echo bye; exit 0' TERM; X", { grace: 5 }],
  ["tee, a trap in front", "trap 'echo bye; exit 0' TERM; X | tee -a web.log", { grace: 5 }],
];

section(
  "a filter lives as long as what it reads",
  (it) => {
    for (const [turn, [what, line, more = {}]] of filters.entries())
      for (const shell of turns([...shells], turn))
        rowTest(it, `${what}, where sh is ${shell}`, shell, more, async (box) => {
          box.write(
            "filter.cjs",
            `process.stdin.on("data", (data) => {
               process.stdout.write(data);
               require("node:fs").appendFileSync("web.log", data);
             });`,
          );
          const command = line
            .replace(/\bX\b/, `${python} ${support("fake.py")} app job=0.3`)
            .replace("NODE", node);
          const run = box.procfile([`app: ${command}`], {
            env: { ENTRYPOINT_GRACE: `${more.grace ?? 9}`, ...useShell(box, shell) },
          });
          await run.line(/up$/);
          const { code, stopMs } = await run.stop();
          expect([code, box.lines("log")]).toEqual([0, ["asked app", "ended app"]]);
          expect(run.stdout.text).toMatch(/up\n.*asked\n.*ended\n/s);
          if (line.includes("|")) expect(box.read("web.log")).toMatch(/up\n.*asked\n.*ended\n/s);
          expect(stopMs).toBeLessThan(7500);
        });

    it("and the last lines of one that crashed are not lost", async (box) => {
      const says = "for i in 1 2 3; do echo line $i; done; exit 3";
      for (let tries = 0; tries < 10; tries++) {
        const run = box.procfile([
          `a: bash -c 'exec > >(sed -u "s/^/x /"); ${says}'`,
          "b: sleep 1000",
        ]);
        const { code } = await run.exit();
        expect([code, ...run.stdout.lines]).toEqual([
          3,
          ...[1, 2, 3].map((i) => `a | x line ${i}`),
        ]);
      }
    });
  },
  [compiled],
);

// ---- The order of a stop: who serves others is asked when those below are gone

/**
 * Lines for fake.py, with names for ports, and PORT= where the line has it written; and what they do
 * then, those of one step in any order.
 */
type Order = [title: string, lines: string, steps: string, grace?: number];

const eight = Array.from({ length: 8 }, (_, i) => `w${i + 1}`);

const orders: Order[] = [
  [
    "a store, an app, a worker, a scheduler, a front",
    "redis PORT=:r tcp=:r, app PORT=:a tcp=:a job=0.2, worker job=0.4, beat job=0.4, nginx tcp=:public job=0.4",
    "asked worker beat nginx, ended worker beat nginx, asked app, ended app, asked redis, ended redis",
  ],
  [
    "eight workers, an app, a front: one after the other they would need 16 s",
    `${eight.map((name) => `${name} job=2`).join(", ")}, app PORT=:a tcp=:a, nginx tcp=:public job=0.7`,
    `asked nginx ${eight.join(" ")}, ended nginx, asked app, ended app, ended ${eight.join(" ")}`,
    6,
  ],
  [
    "a web above a worker",
    "web tcp=:public job=0.4, worker job=0.8",
    "asked web worker, ended web, ended worker",
  ],
  [
    "a worker with a port for metrics",
    "worker tcp=:metrics, web tcp=:public job=0.4",
    "asked web, ended web, asked worker, ended worker",
  ],
  [
    "it waits for half the grace",
    "worker tcp=:metrics, beat job=0.8, web tcp=:public job=2.2",
    "asked beat web, ended beat, asked worker, ended worker, ended web",
    3,
  ],
  [
    "who serves by its line waits longer",
    "app PORT=:a tcp=:a, web tcp=:public job=1.8",
    "asked web, ended web, asked app, ended app",
    3,
  ],
  [
    "a port for a debugger beside the public one",
    "web tcp=:public tcp=:debugger job=0.4, worker job=0.8",
    "asked web worker, ended web, ended worker",
  ],
  [
    "a port for a debugger beside one's own",
    "app PORT=:a tcp=:a tcp=:debugger, nginx tcp=:public job=0.4",
    "asked nginx, ended nginx, asked app, ended app",
  ],
  [
    "a web on a fixed port, above a worker",
    "web tcp=:fixed job=0.4, worker job=0.8",
    "asked web worker, ended web, ended worker",
  ],
  [
    "an app, and a web on a fixed port, above a worker",
    "app tcp=:a, web tcp=:fixed job=0.4, worker job=0.8",
    "asked web worker, ended web, ended worker, asked app, ended app",
  ],
  [
    "a UDP socket",
    "statsd udp=:u, worker job=0.4, web tcp=:public job=0.4",
    "asked worker web, ended worker web, asked statsd, ended statsd",
  ],
  [
    "a UNIX socket that is not written",
    "php unix=php.sock, web tcp=:public job=0.4",
    "asked web, ended web, asked php, ended php",
  ],
  [
    "a UNIX socket that is",
    "php PORT=$PWD/php.sock unix=$PWD/php.sock, web tcp=:public job=0.4",
    "asked web, ended web, asked php, ended php",
  ],
  [
    "those that listen nowhere",
    "one job=0.4, two job=0.4, three job=0.4",
    "asked one two three, ended one two three",
  ],
  [
    "a front above its app",
    "web tcp=:public job=0.4, app PORT=:a tcp=:a",
    "asked web, ended web, asked app, ended app",
  ],
  [
    "it waits for half the grace for a front above it",
    "web tcp=:public job=2.2, app PORT=:a tcp=:a",
    "asked web, asked app, ended app, ended web",
    3,
  ],
  [
    "a front above its app, and a worker between them",
    "web tcp=:public job=0.6, worker job=0.2, app PORT=:a tcp=:a, db PORT=:d tcp=:d",
    "asked web worker, ended worker, ended web, asked db, ended db, asked app, ended app",
  ],
  [
    "a front with a place for statistics",
    "app PORT=:a tcp=:a, front PORT=:s tcp=:s tcp=:public job=0.4, worker job=0.8",
    "asked front worker, ended front, ended worker, asked app, ended app",
  ],
  [
    "a worker with a port for metrics, and PORT=",
    "app PORT=:a tcp=:a, worker PORT= tcp=:metrics job=0.2, web tcp=:public job=0.6",
    "asked worker web, ended worker, ended web, asked app, ended app",
  ],
  [
    "PORT= below the web server, with a UNIX socket",
    "app PORT=:a tcp=:a, web tcp=:public job=0.6, worker PORT= unix=w.sock job=0.2",
    "asked worker web, ended worker, ended web, asked app, ended app",
  ],
  [
    "a written place below the web server",
    "web tcp=:public job=0.4, metrics PORT=:m tcp=:m job=0.1, worker job=0.7",
    "asked web worker, ended web, ended worker, asked metrics, ended metrics",
  ],
  [
    "a server that is the last",
    "worker job=0.8, app PORT=:a tcp=:a job=0.4",
    "asked worker app, ended app, ended worker",
  ],
];

const fake = (words: string) => `${python} ${support("fake.py")} ${words}`;

/** Starts such lines. Gives the public port. */
async function startFakes(
  box: Box,
  rows: string[],
  grace = 9,
): Promise<{ run: Run; port: number }> {
  const ports = new Map([["public", await freePort()]]);
  for (const [, name = ""] of rows.join().matchAll(/:(\w+)/g))
    if (!ports.has(name)) ports.set(name, await freePort());
  const procfile = rows.map((row) => {
    const filled = row
      .replaceAll(/:(\w+)/g, (_, name) => `${ports.get(name)}`)
      .replaceAll("$PWD", box.dir);
    const [, name, place = "", words] = /^(\S+)( PORT=\S*)?(.*)$/.exec(filled) ?? [];
    return `${name}:${place} ${fake(`${name}${words}`)}`;
  });
  const port = ports.get("public") ?? 0;
  const run = box.procfile(procfile, { env: { PORT: `${port}`, ENTRYPOINT_GRACE: `${grace}` } });
  await run.up(...rows.map((row) => row.replace(/ .*/, "")));
  return { run, port };
}

section(
  "the order of a stop",
  (it) => {
    for (const [title, rows, steps, grace = 9] of orders)
      it(title, async (box) => {
        const { run } = await startFakes(box, rows.split(", "), grace);
        const { code, stopMs } = await run.stop();
        const log = box.lines("log");
        const expected = steps.split(", ").map((step) => {
          const [word, ...names] = step.split(" ");
          return names.map((name) => `${word} ${name}`).sort();
        });
        const happened = expected.map((step) => log.splice(0, step.length).sort());
        expect([...happened, log, code]).toEqual([...expected, [], 0]);
        expect(stopMs).toBeLessThan(grace * 1000 + 3000); // what was killed has another code
      });

    it("a web above a worker stops accepting at once", async (box) => {
      const { run, port } = await startFakes(box, ["web tcp=:public", "worker job=1.5"]);
      expect(await accepts(port)).toBe(true);
      run.signal("SIGTERM");
      await eventually("a refusal", async () => !(await accepts(port)));
      expect(box.read("log")).not.toContain("ended worker");
      expect((await run.exit()).code).toBe(0);
      expect(box.read("log")).toContain("ended worker");
    });
  },
  [compiled],
);

// ---- The first exit: one with 0 is meant, and drains; a crash leaves the others half the grace

/** How a worker ends while requests are under way, how long they need, whether they are answered. */
interface Exit {
  title: string;
  end: string;
  ms: number;
  answered: boolean;
  code: number;
  says: RegExp;
  /** What stands around nginx. */
  front: string;
}

const exits: Exit[] = [
  {
    title: "with 0, and what needs more than a second",
    end: "sleep 1; exit 0",
    ms: 2500,
    answered: true,
    code: 0,
    says: /^entrypoint \| worker: exit code 0 after .*`release:`.*sleep infinity/m,
    front: "X",
  },
  {
    title: "with 3, and what needs less than half the grace",
    end: "exit 3",
    ms: 2000,
    answered: true,
    code: 3,
    says: /^entrypoint \| worker: exit code 3 after/m,
    front: "sh -c 'X; true'",
  },
  {
    title: "by a signal, and what needs less than half the grace",
    end: "kill -ABRT $$",
    ms: 2000,
    answered: true,
    code: 134,
    says: /^entrypoint \| worker: killed by SIGABRT after/m,
    front: "trap 'rm -f x' EXIT; X",
  },
  {
    title: "with 3, and what needs more than half the grace",
    end: "exit 3",
    ms: 10_000,
    answered: false,
    code: 3,
    says: /^entrypoint \| worker: exit code 3 after/m,
    front: "X | cat",
  },
];

const untilTold = `ulimit -c 0; ${untilGo}`;

section(
  "the first exit",
  (it) => {
    for (const { title, end, ms, answered, code, says, front } of exits)
      it(title, async (box) => {
        const [port, appPort] = [await freePort(), await freePort()];
        const run = box.procfile(
          [
            `app: PORT=$APP_PORT ${node} ${support("server.cjs")} ${appPort} ${box.dir}`,
            `worker: ${untilTold}; ${end}`,
            `nginx: ${front.replace(/\bX\b/, () => "nginx -c $NGINX_CONF -e stderr")}`,
          ],
          { env: { PORT: `${port}`, APP_PORT: `${appPort}` } },
        );
        await eventually("nginx", () => accepts(port));
        const answers = requests(port, ms);
        await eventually("5 requests", () => box.lines("arrived").length === 5);
        const since = performance.now();
        box.write("go", "");
        expect((await run.exit()).code).toBe(code);
        expect(performance.now() - since).toBeLessThan(9000); // less than the longest request
        const statuses = (await answers).map((status) => status === 200);
        expect(statuses).toEqual([answered, answered, answered, answered, answered]);
        expect(run.stderr.text).toMatch(says);
        expect(box.lines("asked")).toEqual(["SIGTERM"]);
      });

    it("asks with the signal that is written, behind a shell too", async (box) => {
      const run = box.procfile([
        `app: STOPSIGNAL=INT ${fake("app job=0.3")} | cat`,
        `worker: ${untilTold}; exit 3`,
        `beat: ${fake("beat")}`,
      ]);
      await run.up("app", "beat");
      box.write("go", "");
      expect((await run.exit()).code).toBe(3);
      const log = ["asked app by SIGINT", "asked beat", "ended app", "ended beat"];
      expect(box.lines("log").sort()).toEqual(log);
    });
  },
  [compiled],
);
