// What can go wrong, one fault a test: the exit code, a message that names the process and the cause,
// nothing left behind (the box looks), and an end in time. What has a test elsewhere is not here again.

import { expect } from "bun:test";
import fs from "node:fs";
import { connect } from "node:net";
import os from "node:os";
import path from "node:path";
import {
  ask,
  asUser,
  type Box,
  binaries,
  busyboxIn,
  eventually,
  forever,
  freePort,
  hasIPv6,
  hasNamespaces,
  inShell,
  isAlive,
  isRoot,
  type Options,
  occupy,
  onBun,
  onSignal,
  onTerminal,
  type Run,
  residentKilobytes,
  section,
  serve,
  untilGo,
  within,
} from "./harness.ts";

const up = "echo up; exit 3";

interface Fault extends Options {
  what: string;
  args?: string[];
  /** The lines of the Procfile, or all of it. */
  procfile?: string[] | string | Uint8Array;
  before?: (box: Box) => void;
  code: number;
  /** What stderr says, each on a line. */
  says?: RegExp[];
  /** All of stdout. */
  prints?: string;
}

/** Runs it to its end, which is soon, and leaves nothing of the runtime's own on stderr. */
async function suffer(box: Box, { args = [], procfile, before, ...fault }: Fault): Promise<Run> {
  if (procfile !== undefined)
    box.write("Procfile", Array.isArray(procfile) ? `${procfile.join("\n")}\n` : procfile);
  before?.(box);
  const run = box.start(args, fault);
  const { code, ms } = await run.exit();
  for (const message of fault.says ?? []) expect(run.stderr.text).toMatch(message);
  for (const line of run.stderr.lines) expect(line).toMatch(/^[\w-]+ *\| /);
  expect(run.stderr.text).not.toMatch(/^[^|]*\|\s+at .*:\d+/m); // a stack
  if (fault.prints !== undefined) expect(run.stdout.text).toBe(fault.prints);
  expect(code).toBe(fault.code);
  expect(ms).toBeLessThan(20_000);
  return run;
}

// ---- Start

function writeProgram(box: Box, name: string, text: string): void {
  fs.chmodSync(box.write(name, text), 0o755);
}

function openTo(box: Box, ...directories: string[]): void {
  for (const directory of directories) fs.chmodSync(directory, 0o777);
  box.write("seen", "");
}

const cannotWrite = (code: string) => [
  new RegExp(`^entrypoint \\| \\S+: cannot be written in \\(${code}\\): .*TMPDIR`, "m"),
];

const startFaults: Fault[] = [
  {
    what: "a program that is a directory",
    procfile: ["web: ./directory --option"],
    before: (box) => fs.mkdirSync(path.join(box.dir, "directory")),
    code: 126,
    says: [/^entrypoint \| web: exit code 126 \(\.\/directory not executable\)/m],
  },
  {
    what: "a script whose interpreter is missing",
    args: ["./script"],
    before: (box) => writeProgram(box, "script", "#!/no/such/interpreter\n"),
    code: 127,
    says: [/^entrypoint \| app: exit code 127 \(.*\.\/script.* not found\)/m],
  },
  {
    what: "nginx that is missing",
    args: ["sh", "-c", "exec busybox httpd -f -p 127.0.0.1:$PORT"],
    before: ({ dir }) => busyboxIn(path.join(dir, "bin"), "sh", "busybox"),
    env: { PATH: "bin" },
    code: 127,
    says: [/^entrypoint \| nginx: exit code 127 \(nginx not found\)/m],
  },
  {
    what: "an nginx configuration that is invalid",
    args: ["sh", "-c", "exec busybox httpd -f -p 127.0.0.1:$PORT"],
    before: (box) => box.write("my.conf", "pid $" + "{NGINX_CONF}.pid; events {} htp {}\n"),
    env: { ENTRYPOINT_NGINX: "my.conf" },
    code: 1,
    says: [/^nginx \| .*unknown directive "htp"/m, /^entrypoint \| nginx: exit code 1 after/m],
  },
  {
    what: "a template with an unknown variable",
    args: ["touch", "started"],
    before: (box) => box.write("my.conf", "daemon off; listen $" + "{NO_SUCH_VARIABLE};\n"),
    env: { ENTRYPOINT_NGINX: "my.conf" },
    code: 2,
    says: [/^entrypoint \| ENTRYPOINT_NGINX=my\.conf: \$\{NO_SUCH_VARIABLE\} is not set$/m],
  },
  {
    what: "a Procfile that is binary",
    procfile: Buffer.from("7f454c4602010100ff0a00fe3a200a8081ff0a", "hex"),
    code: 2,
    says: [1, 2, 3].map((line) => new RegExp(`^entrypoint \\| Procfile:${line}: must be`, "m")),
    prints: "",
  },
  {
    what: "a Procfile that is empty",
    procfile: "",
    code: 2,
    says: [/^entrypoint \| Procfile: names no process$/m],
    prints: "",
  },
  {
    what: "a Procfile with a BOM",
    procfile: `\ufeffweb: ${up}\r\n`,
    code: 3,
    prints: "web | up\n",
  },
  {
    what: "a Procfile of 10,000 lines, all but one comments",
    procfile: [...Array.from({ length: 9999 }, (_, i) => `# ${i}`), `web: ${up}`],
    code: 3,
    prints: "web | up\n",
  },
  {
    what: "a Procfile that comes through a pipe",
    args: ["-f", "/dev/stdin"],
    wrap: (command) => ["sh", "-c", `echo "web: ${up}" | "$@"`, "sh", ...command],
    code: 3,
    prints: "web | up\n",
  },
  {
    what: "a TMPDIR that is not there",
    procfile: [`web: ${up}`],
    env: { TMPDIR: "/no/such/directory" },
    code: 2,
    says: cannotWrite("ENOENT"),
    prints: "",
  },
  {
    what: "a TMPDIR that is a file",
    procfile: [`web: ${up}`],
    env: { TMPDIR: "/dev/null" },
    code: 2,
    says: cannotWrite("ENOTDIR"),
    prints: "",
  },
  {
    what: "a TMPDIR that is not set, nor HOME",
    procfile: [`web: ${up}`],
    wrap: (command) => ["env", "-u", "TMPDIR", "-u", "HOME", ...command],
    code: 3,
    prints: "web | up\n",
  },
  {
    what: "an empty environment",
    procfile: ['web: echo "$NGINX_CONF" >conf; exit 3'],
    wrap: (command) => ["env", "-i", ...command],
    code: 3,
  },
  {
    what: "an environment of 1 MB",
    procfile: ["web: wc -c </proc/self/environ; exit 3"],
    env: Object.fromEntries(
      Array.from({ length: 10 }, (_, i) => [`BIG_${i}`, "x".repeat(100_000)]),
    ),
    code: 3,
  },
  ...["exec 0<&-", "exec 1>&-", "exec 2>&-", "exec 0<&- 1>&- 2>&-"].map((closed) => ({
    what: `closed streams: ${closed}`,
    procfile: ["web: echo up; echo up >&2; echo up >seen; exit 3"],
    wrap: inShell(closed),
    code: 3,
    prints: closed.includes("1>") ? "" : "web | up\n",
    says: closed.includes("2>") ? [] : [/^web \| up$/m, /^entrypoint \| web: exit code 3 after/m],
  })),
  ...["--ignore-signal", "--block-signal"].map((how) => ({
    what: `signals that the parent left us with ${how}`,
    procfile: ["web: grep -E '^Sig(Blk|Ign):' /proc/self/status; yes | head -n 1; exit 3"],
    wrap: (command: string[]) => ["env", ...signalsOf(how), ...command],
    code: 3,
    prints: "web | SigBlk:\t0000000000000000\nweb | SigIgn:\t0000000000000000\nweb | y\n",
  })),
  {
    what: "blocked signals and a plain command, for which no shell clears the mask",
    procfile: ["web: grep ^SigBlk: /proc/self/status"],
    wrap: (command: string[]) => ["env", ...signalsOf("--block-signal"), ...command],
    code: 0,
    prints: "web | SigBlk:\t0000000000000000\n",
  },
];

function signalsOf(how: string): string[] {
  return ["TERM", "INT", "QUIT", "PIPE"].map((name) => `${how}=${name}`);
}

section(
  "a start with",
  (it) => {
    for (const fault of startFaults)
      it(fault.what, async (box) => {
        const ports = { PORT: `${await freePort()}`, APP_PORT: `${await freePort()}` };
        const run = await suffer(box, { ...fault, env: { ...ports, ...fault.env } });
        expect(box.read("started")).toBe("");
        if (fault.what === "an empty environment")
          expect(fs.existsSync(path.dirname(box.read("conf").trim()))).toBe(false);
        if (fault.what === "an environment of 1 MB")
          expect(Number(/\d{7}/.exec(run.stdout.text)?.[0])).toBeGreaterThan(1_000_000);
        if (fault.what.startsWith("closed")) expect(box.read("seen")).toBe("up\n");
      });

    it("an app on the public port in place of its own", async (box) => {
      const [port, own] = [await freePort(), await freePort()];
      const run = await suffer(box, {
        what: "",
        procfile: [`app: PORT=${own} ${serve(port)}`, "web: touch started"],
        env: { PORT: `${port}`, ENTRYPOINT_READY: "1" },
        code: 1,
        says: [
          new RegExp(
            `^entrypoint \\| app: did not listen on port ${own} .*write ${own} in place of ${port}$`,
            "m",
          ),
        ],
      });
      expect(run.stdout.text).toBe("");
      expect(box.read("started")).toBe("");
    });

    it("a port that is taken between the look at it and the start", async (box) => {
      const port = await freePort();
      const app = `touch looked; while ! [ -e taken ]; do sleep 0.01; done; exec ${serve(port)}`;
      const run = box.procfile([`app: PORT=${port} sh -c '${app}'`, `web: ${forever}`]);
      await eventually("the app", () => box.has("looked"));
      const thief = occupy("127.0.0.1", port);
      box.write("taken", "");
      const { code } = await run.exit().finally(thief.stop);
      expect(code).toBe(1); // the app's own
      expect(run.stderr.text).toMatch(/^app \| .*in use/m);
      expect(run.stderr.text).toMatch(/^entrypoint \| app: exit code 1 after/m);
    });

    it("an app on ::1 alone behind nginx", async (box) => {
      if (!hasIPv6) return;
      const [port, app] = [await freePort(), await freePort()];
      box.write("page", "from ::1\n");
      const run = box.start(serve(app, "[::1]").split(" "), {
        env: { PORT: `${port}`, APP_PORT: `${app}` },
      });
      await run.line(/ready in/);
      expect(await ask(`http://127.0.0.1:${port}/page`)).toBe("200 from ::1\n");
      await run.stopsWell();
    });

    it("a Procfile that is a FIFO to which nobody writes: a signal ends it", async (box) => {
      Bun.spawnSync(["mkfifo", "fifo"], { cwd: box.dir });
      const run = box.start(["-f", "fifo"]);
      await eventually("the open", () => opensFifo(run.pid));
      run.signal("SIGTERM");
      expect([0, 143]).toContain((await run.exit()).code);
    });
  },
  onBun,
);

/** Whether it sleeps in open(2), on a FIFO that nobody has opened for writing. */
function opensFifo(pid: number): boolean {
  const tasks = fs.readdirSync(`/proc/${pid}/task`);
  const calls = tasks.map((task) => {
    try {
      return fs.readFileSync(`/proc/${pid}/task/${task}/wchan`, "utf8");
    } catch {
      return "";
    }
  });
  return calls.some((call) => /wait_for_partner|fifo/.test(call));
}

section(
  "a start of the binary with",
  (it) => {
    it("a Procfile of 300 processes, or 10,000 mistakes", async (box) => {
      const lines = (length: number, make: (i: number) => string) =>
        Array.from({ length }, (_, i) => make(i)).join("\n");
      box.write(
        "many",
        lines(300, (i) => `p${i}: PORT=${i + 10_000} true`),
      );
      const many = await suffer(box, { what: "", args: ["--check", "-f", "many"], code: 0 });
      expect(many.stdout.lines).toHaveLength(301);
      box.write(
        "wrong",
        lines(10_000, (i) => `p${i} without a colon`),
      );
      const wrong = await suffer(box, { what: "", args: ["-f", "wrong"], code: 2 });
      expect(wrong.stderr.lines).toHaveLength(10_000);
    });

    it("a working directory that is gone", async (box) => {
      const wrap = inShell("mkdir gone; cd gone; rmdir ../gone");
      for (const args of [["true"], ["-f", path.join(box.dir, "Procfile")]]) {
        box.write("Procfile", `web: ${up}\n`);
        const run = box.start(args, { wrap });
        expect((await run.exit()).code).toBe(1);
        // Bun's own words, for it does not come as far as to ours.
        expect(run.stderr.lines).toEqual([expect.stringMatching(/working directory was deleted/)]);
        expect(run.stdout.text).toBe("");
      }
    });

    it("a TMPDIR that is not writable, or full", async (box) => {
      if (!isRoot) return;
      const procfile = [`web: ${up}`];
      fs.chmodSync(box.dir, 0o555);
      const user = (command: string[]) => [...asUser(54_301), ...command];
      await suffer(box, { what: "", procfile, wrap: user, code: 2, says: cannotWrite("EACCES") });
      fs.chmodSync(box.dir, 0o755);
      if (!hasNamespaces) return;
      fs.mkdirSync(path.join(box.dir, "full"));
      const mount =
        "mount -t tmpfs -o size=8k none full; head -c 8k /dev/zero >full/file; TMPDIR=$PWD/full";
      const wrap = (command: string[]) => [
        ...["unshare", "--mount", "sh", "-c", `${mount} "$@"; code=$?; ls full; exit $code`, "sh"],
        ...command,
      ];
      const says = cannotWrite("ENOSPC");
      await suffer(box, { what: "", procfile, wrap, code: 2, says, prints: "file\n" });
    });

    it("too few descriptors, however few", async (box) => {
      const ends: number[] = [];
      const procfile = [...["a", "b", "c"].map((name) => `${name}: ${forever}`), `web: ${up}`];
      for (const most of [10, 12, 14, 16, 18, 20, 22, 24, 64]) {
        box.write("Procfile", `${procfile.join("\n")}\n`);
        const run = box.start([], { wrap: inShell(`ulimit -n ${most}`) });
        const { code, ms } = await run.exit();
        const own = run.stderr.lines.filter((line) => line.startsWith("entrypoint"));
        for (const line of run.stderr.lines)
          expect([most, line]).toEqual([most, expect.stringMatching(/^\w+ *\| /)]);
        if (code !== 3) expect([most, own]).toEqual([most, [expect.stringMatching(/ulimit -n/)]]);
        expect(ms).toBeLessThan(20_000);
        expect([3, 126]).toContain(code);
        ends.push(code);
      }
      expect(ends).toContain(126);
      expect(ends.at(-1)).toBe(3);
    });

    it("a limit of processes that is reached on the way", async (box) => {
      if (!isRoot) return;
      openTo(box, box.dir, box.tmp);
      const user = asUser(54_302);
      const port = await freePort();
      const one = `echo up; while ! [ -e go ]; do :; done; exec ${serve(port)}`; // forks nothing
      const run = box.procfile([`one: PORT=${port} sh -c '${one}'`, "web: touch started"], {
        wrap: (command) => [...user, ...command],
        env: withoutThreads,
      });
      await run.up("one");
      const limit = ["prlimit", "--pid", `${run.pid}`, "--nproc=1:1"];
      expect(Bun.spawnSync([...user, ...limit]).exitCode).toBe(0);
      box.write("go", "");
      const { code, ms } = await run.exit();
      expect(run.stderr.text).toMatch(/^entrypoint \| web: sh could not be started .*ulimit -u/m);
      expect([code, box.read("started")]).toEqual([126, ""]);
      expect(ms).toBeLessThan(20_000);
    });

    it("SIGTERM, SIGINT or SIGQUIT ignored or blocked: they stop all the same", async (box) => {
      for (const how of ["--ignore-signal", "--block-signal"]) {
        for (const name of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
          const run = box.procfile([`web: ${forever}`], {
            wrap: (command) => ["env", ...signalsOf(how), ...command],
          });
          await run.up("web");
          run.signal(name);
          expect([how, name, (await run.exit()).code]).toEqual([how, name, 0]);
          expect(run.stderr.text).toContain(`${name}: stopping web`);
        }
      }
    });

    it("SIGHUP ignored, as by nohup: the end of its terminal is not its end", async (box) => {
      const run = box.procfile([`web: ${onSignal("TERM", "web")}; ${forever}`], {
        wrap: onTerminal('echo $$ >pid; exec env --ignore-signal=HUP "$@"'),
      });
      await run.line(/web.* up/);
      const pid = Number(box.read("pid"));
      process.kill(pid, "SIGHUP");
      await Bun.sleep(200);
      expect(isAlive(pid)).toBe(true);
      expect(box.read("log")).toBe("");
      run.remember();
      process.kill(pid, "SIGTERM");
      expect((await run.exit()).code).toBe(0);
      expect(run.stdout.text).toContain("SIGTERM: stopping web");
    });
  },
  binaries,
);

/** Bun aborts where it cannot make a thread of its own. So that this is not what is looked at. */
const withoutThreads = {
  BUN_JSC_useConcurrentJIT: "0",
  BUN_JSC_useConcurrentGC: "0",
  BUN_JSC_numberOfGCMarkers: "1",
};

// ---- While running

const fatal = Object.entries(os.constants.signals).filter(
  ([name, number]) =>
    number < 32 && !/^SIG(CHLD|CONT|STOP|TSTP|TTIN|TTOU|URG|WINCH|IOT|POLL|UNUSED)$/.test(name),
);

section(
  "while it runs,",
  (it) => {
    it("a process dies of any signal from 1 to 31", async (box) => {
      expect(fatal).toHaveLength(23);
      for (const [name, number] of fatal) {
        // By dash, since BusyBox's shell and bash ignore SIGQUIT.
        const dead = `ulimit -c 0; exec dash -c 'kill -${number} $$'`;
        const run = box.procfile(["up: sleep 1000", `dead: ${dead}`]);
        const { code, ms } = await run.exit();
        expect([name, code]).toEqual([name, 128 + number]);
        expect(run.stderr.text).toMatch(
          new RegExp(`^entrypoint \\| dead: killed by ${name} after`, "m"),
        );
        expect(ms).toBeLessThan(20_000);
      }
    });

    it("a process gets a signal that kills nobody: nothing ends", async (box) => {
      const harmless = ["CHLD", "CONT", "URG", "WINCH"].map((name) => `kill -${name} $$`);
      const run = box.procfile([`up: ${forever}`, `web: ${harmless.join("; ")}; ${up}`]);
      expect((await run.exit()).code).toBe(3);
      expect(run.stdout.lines).toContain("web | up");
    });

    it("all processes die at once", async (box) => {
      const names = Array.from({ length: 20 }, (_, i) => `p${i}`);
      const lines = names.map((name, i) => `${name}: echo up; ${untilGo}; exit ${i + 100}`);
      const run = box.procfile(lines);
      await allUp(run, names.length);
      box.write("go", "");
      const { code } = await run.exit();
      const first = run.stderr.lines.filter((line) => line.includes("exit code"));
      expect(first).toHaveLength(1);
      expect(first[0]).toMatch(
        new RegExp(`^entrypoint \\| p${code - 100}: exit code ${code} after`),
      );
    });

    it("all processes are killed at once", async (box) => {
      const names = ["a", "b", "c", "d", "e"];
      const run = box.procfile(names.map((name) => `${name}: echo up $$; sleep 1000`));
      const pids = await Promise.all(
        names.map(async (name) =>
          Number((await run.line(new RegExp(`^${name} \\| up (\\d+)`)))[1]),
        ),
      );
      for (const pid of pids) process.kill(-pid, "SIGKILL");
      expect((await run.exit()).code).toBe(137);
      expect(
        run.stderr.lines.filter((line) => /: killed by SIGKILL after/.test(line)),
      ).toHaveLength(1);
    });

    it("a process stops itself: the others run on, and all stop in time", async (box) => {
      const run = box.procfile([
        `one: ${onSignal("TERM", "one")}; ${forever}`,
        `stopped: ${onSignal("TERM", "stopped")}; echo up $$; kill -STOP $$; ${forever}`,
      ]);
      await run.up("one");
      await stoppedProcess(run, "stopped");
      const { code, stopMs } = await run.stop();
      expect([code, box.lines("log").sort()]).toEqual([0, ["one TERM", "stopped TERM"]]);
      expect(stopMs).toBeLessThan(7500); // the last fifth of the grace begins at 8 s
    });

    it("another one ends beside a process that is stopped", async (box) => {
      const run = box.procfile([
        `stopped: ${onSignal("TERM", "stopped")}; echo up $$; kill -STOP $$; ${forever}`,
        `web: ${untilGo}; exit 3`,
      ]);
      await stoppedProcess(run, "stopped");
      box.write("go", "");
      expect((await run.exit()).code).toBe(3);
      expect(box.read("log")).toBe("stopped TERM\n");
    });

    it("a process that is stopped and deaf is killed at the end of the grace", async (box) => {
      const run = box.procfile(["deaf: trap '' TERM; echo up $$; kill -STOP $$; sleep 1000"], {
        env: { ENTRYPOINT_GRACE: "1.5" },
      });
      await stoppedProcess(run, "deaf");
      const { code, stopMs } = await run.stop();
      expect(code).toBe(137);
      expect(stopMs).toBeGreaterThan(1490);
      expect(stopMs).toBeLessThan(9000);
      expect(run.stderr.text).toContain("entrypoint | deaf: did not stop in time: killed");
    });
  },
  binaries,
);

/** Waits until the process is in the state T. */
async function stoppedProcess(run: Run, name: string): Promise<number> {
  const pid = Number((await run.line(new RegExp(`^${name} +\\| up (\\d+)`)))[1]);
  await eventually(`${name} in the state T`, () =>
    /\) T /.test(fs.readFileSync(`/proc/${pid}/stat`, "latin1")),
  );
  return pid;
}

/** Waits until as many processes have said that they are up. */
async function allUp(run: Run, count: number): Promise<void> {
  const up = () => run.stdout.lines.filter((line) => line.endsWith("| up")).length;
  await eventually(`${count} processes`, () => up() === count);
}

// ---- Stop

section(
  "a stop",
  (it) => {
    it("at every moment of the first 300 ms", async (box) => {
      // It falls into the start of the runtime, a release job, a wait, or what is up.
      const term = (name: string) => onSignal("TERM", name);
      const server = serve("$APP_PORT");
      box.write(
        "Procfile",
        [
          `release: ${term("release")}; sleep 0.05 & wait`,
          `app: PORT=$APP_PORT sh -c "${term("app")}; sleep 0.05 & wait; ${server} & wait"`,
          `web: ${term("web")}; sleep 1000 & wait`,
        ].join("\n"),
      );
      const stopAfter = async (delay: number) => {
        const env = { PORT: `${await freePort()}`, APP_PORT: `${await freePort()}` };
        const run = box.start([], { env });
        await Bun.sleep(delay);
        const { code, stopMs } = await run.stop();
        const said = code === 143 ? /^$/ : /^entrypoint \| stopped in .* exit code 0$/m;
        expect([delay, [0, 143].includes(code)]).toEqual([delay, true]);
        expect([delay, run.stderr.text]).toEqual([delay, expect.stringMatching(said)]);
        expect(stopMs).toBeLessThan(9000);
      };
      // Three at a time, for most of it is waiting.
      for (let delay = 0; delay < 300; delay += 18)
        await Promise.all([0, 6, 12].map((more) => stopAfter(delay + more)));
    });

    for (const [name, expected, lines] of [
      ["SIGINT", 137, 0], // of a person, who wants it to end now
      ["SIGTERM", 0, 1],
    ] as const)
      it(`asked for by ${name} a thousand times in a second ends with ${expected}`, async (box) => {
        const web = onSignal("TERM", "web", "sleep 3; exit 0");
        const run = box.procfile([`web: ${web}; ${forever}`]);
        await run.up("web");
        for (let i = 0; i < 1000 && run.isAlive; i++) {
          process.kill(run.pid, name);
          await Bun.sleep(1);
        }
        const { code, ms } = await run.exit();
        expect(code).toBe(expected);
        expect(ms).toBeLessThan(9000); // the grace
        expect(run.stderr.lines.filter((line) => line.includes("already"))).toHaveLength(lines);
      });

    it("of a process that needs most of the grace lets it have that", async (box) => {
      const last = "sleep 2.5; echo done; exit 0";
      const run = box.procfile([`slow: ${onSignal("TERM", "slow", last)}; ${forever}`], {
        env: { ENTRYPOINT_GRACE: "4" },
      });
      await run.up("slow");
      const { code, stopMs } = await run.stop();
      expect([code, run.stdout.lines.at(-1)]).toEqual([0, "slow | done"]);
      expect(stopMs).toBeGreaterThan(2490);
      expect(stopMs).toBeLessThan(9000);
    });

    it("waits for the child that drains when its shell has died", async (box) => {
      const server = `${onSignal("TERM", "server", "sleep 1; echo drained; exit 0")}; ${forever}`;
      const run = box.procfile([`web: sh -c "${server}" & wait`]);
      await run.up("web");
      const { code, stopMs } = await run.stop();
      expect([code, run.stdout.lines.at(-1)]).toEqual([0, "web | drained"]);
      expect(stopMs).toBeGreaterThan(990);
    });

    it("lets nginx finish a slow download, and close a connection that idles", async (box) => {
      const size = 20_000_000;
      box.write("big", Buffer.alloc(size));
      const [port, app] = [await freePort(), await freePort()];
      const run = box.start(serve(app).split(" "), {
        env: { PORT: `${port}`, APP_PORT: `${app}` },
      });
      await run.line(/ready in/);
      const download = async (page: string) => {
        const socket = connect({ port, host: "127.0.0.1" });
        const got = {
          socket,
          bytes: 0,
          closed: new Promise((resolve) => socket.on("close", resolve)),
        };
        socket.on("error", () => {}); // what has come by then is looked at
        socket.on("data", (chunk) => {
          got.bytes += chunk.length;
        });
        socket.write(`GET /${page} HTTP/1.1\r\nHost: x\r\n\r\n`);
        await eventually(`the first bytes of ${page}`, () => got.bytes > 0);
        return got;
      };
      const idle = await download("none");
      const slow = await download("big");
      slow.socket.pause();
      run.signal("SIGTERM");
      await within("the idle connection's end", idle.closed);
      await Bun.sleep(500);
      expect(slow.bytes).toBeLessThan(size);
      slow.socket.resume();
      await within("the download", slow.closed);
      expect(slow.bytes).toBeGreaterThan(size);
      expect((await run.exit()).code).toBe(0);
    });

    it("follows when its terminal goes away", async (box) => {
      const run = box.procfile(
        ["one", "two"].map((name) => `${name}: ${onSignal("TERM", name)}; ${forever}`),
        // The shell that leads the session dies of its SIGHUP; then the kernel sends one to us.
        { wrap: onTerminal('(trap : HUP; "$@"; echo $? >code); true') },
      );
      await run.line(/two.* up/);
      run.signal("SIGKILL"); // script(1), which holds the terminal
      expect((await run.exit()).code).toBe(137);
      await eventually("the exit code", () => box.read("code") !== "");
      expect(box.read("code")).toBe("0\n");
      expect(box.lines("log").sort()).toEqual(["one TERM", "two TERM"]);
    });

    it("by SIGKILL outside a container leaves those that write nothing", async (box) => {
      // No program can do anything at its SIGKILL. The kernel ends who writes to it; tini all.
      box.mayEscape = /sleep 1007/;
      const run = box.procfile([
        "silent: echo up $$; exec sleep 1007",
        "wordy: echo up $$; while :; do echo x; sleep 0.02; done",
      ]);
      const pids = await Promise.all(
        ["silent", "wordy"].map(async (name) =>
          Number((await run.line(new RegExp(`^${name} +\\| up (\\d+)`)))[1]),
        ),
      );
      run.signal("SIGKILL");
      expect((await run.exit()).code).toBe(137);
      const [silent = 0, wordy = 0] = pids;
      await eventually("the end of the one that writes", () => !isAlive(wordy));
      expect(isAlive(silent)).toBe(true);
      process.kill(silent, "SIGKILL");
      for (const name of fs.readdirSync(box.tmp))
        fs.rmSync(path.join(box.tmp, name), { recursive: true });
    });
  },
  binaries,
);

// ---- Scale

section(
  "scale",
  (it) => {
    it("a hundred processes: all start, one dies, none is left, no line is lost", async (box) => {
      const measure = async (count: number) => {
        const names = Array.from({ length: count - 1 }, (_, i) => `p${i}`);
        const bye = (name: string) =>
          `trap 'seq 100; echo all >>${name}; exit 0' TERM; echo up; sleep 1000 & wait`;
        const run = box.procfile([
          ...names.map((name) => `${name}: ${bye(name)}`),
          "dead: echo up; while ! [ -e go ]; do sleep 0.02; done; seq 100; exit 5",
        ]);
        const started = performance.now();
        await allUp(run, count);
        const ms = performance.now() - started;
        const kilobytes = residentKilobytes(run.pid);
        box.write("go", "");
        expect((await run.exit()).code).toBe(5);
        expect(run.stderr.text).toMatch(/^entrypoint \| dead: exit code 5 after/m);
        // On a busy machine a second may be too short for all of them; who got to its end lost nothing.
        const whole = ["dead", ...names.filter((name) => box.read(name) === "all\n")];
        const lines = new Map<string, string[]>();
        for (const line of run.stdout.lines) {
          const [name = "", text = ""] = line.split(/ +\| /);
          lines.set(name, [...(lines.get(name) ?? []), text]);
        }
        const said = ["up", ...Array.from({ length: 100 }, (_, i) => `${i + 1}`)];
        for (const name of whole) expect([name, lines.get(name)]).toEqual([name, said]);
        expect(whole.length).toBeGreaterThan(count / 2);
        box.remove("go", ...names);
        return { ms, kilobytes };
      };
      const [few, many] = [await measure(25), await measure(100)];
      const each = (many.kilobytes - few.kilobytes) / 75;
      console.log(
        `a process costs ${each.toFixed(0)} kB and ${((many.ms - few.ms) / 75).toFixed(1)} ms` +
          ` (25: ${few.ms.toFixed(0)} ms, 100: ${many.ms.toFixed(0)} ms)`,
      );
      expect(each).toBeLessThan(1500);
      expect(many.ms).toBeLessThan(few.ms * 16 + 1000); // in proportion it is 4 times, in square 16
    });
  },
  binaries,
);
