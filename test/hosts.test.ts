// Hosts that give less than usual: no executable memory, no thread more, no /proc, no network. It
// starts, drains and ends there, or a line says what is missing.

import { expect } from "bun:test";
import fs from "node:fs";
import {
  asUser,
  type Box,
  binaries,
  eventually,
  forever,
  freePort,
  hasNamespaces,
  inShell,
  isRoot,
  listener,
  onSignal,
  python,
  type Run,
  section,
  untilGo,
} from "./harness.ts";

const seconds = Number(process.env.ENTRYPOINT_TEST_SECONDS ?? 15);

/** Writes lines, and forks nothing, for there no fork would succeed. */
const APP = `import os, signal, sys, time
def say(text):
    os.write(1, (text + "\\n").encode())
def end(*_):
    say("bye")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say("up " + " ".join(sorted(name for name in os.environ if name.startswith(("BUN_JSC_", "ENTRYPOINT_")))))
while not os.path.exists("go"):
    time.sleep(0.05)
for i in range(100):
    say("line")
while True:
    time.sleep(0.05)
`;
const app = `exec ${python} app.py`;

/** A later program has no executable memory any more, prctl(2). */
const MDWE = `import ctypes, os, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
code = ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:]) if code == 0 else sys.exit(99)
`;

async function linesCome(box: Box, run: Run): Promise<void> {
  box.write("go", "");
  const count = (lines: string[], text: string) => lines.filter((line) => line === text).length;
  await eventually("a hundred lines", () => count(run.stdout.lines, "app | line") === 100);
  await eventually("a hundred lines", () => count(run.stderr.lines, "two | line") === 100);
}

section(
  "without executable memory",
  (it) => {
    it("lines are whole, a stop is clean, a crash is told", async (box) => {
      box.write("app.py", APP);
      box.write("mdwe.py", MDWE);
      const wrap = (command: string[]) => [python, "mdwe.py", ...command];
      const run = box.procfile([`app: ${app}`, `two: ${app} >&2`], { wrap });
      await run.line(/^app \| up/);
      await run.line(/^two \| up/);
      await linesCome(box, run);
      await run.stopsWell();
      const crash = box.procfile([`web: seq 5; exit 3`], { wrap });
      expect((await crash.exit()).code).toBe(3);
      expect(crash.stdout.text).toBe("web | 1\nweb | 2\nweb | 3\nweb | 4\nweb | 5\n");
    });
  },
  binaries,
);

/** Its processes are limited from the start, as those of a service or a container are. */
const limited = (command: string[]) => ["prlimit", "--nproc=1000:1000", ...command];

interface Limited {
  run: Run;
  fill: () => void;
}

/** As a user whom nobody else is, since the limit counts all processes of a user. */
async function startLimited(box: Box, number: number): Promise<Limited> {
  for (const directory of [box.dir, box.tmp]) fs.chmodSync(directory, 0o777);
  box.write("app.py", APP);
  const user = asUser(54_310 + number + binaries.indexOf(box.runtime));
  const run = box.procfile([`app: ${app}`, `two: ${app} >&2`], {
    wrap: (command) => limited([...user, ...command]),
  });
  await run.line(/^app \| up/);
  await run.line(/^two \| up/);
  const fill = () => {
    const limit = ["prlimit", "--pid", `${run.pid}`, "--nproc=1:1"];
    expect(Bun.spawnSync([...user, ...limit]).exitCode).toBe(0);
  };
  return { run, fill };
}

section(
  "where processes are limited",
  (it) => {
    for (const idle of [1, 15, 60])
      if (isRoot && idle <= seconds)
        it(`and none is left for ${idle} s: lines come, and a stop drains`, async (box) => {
          const { run, fill } = await startLimited(box, 2 * idle);
          fill();
          await Bun.sleep(idle * 1000);
          await linesCome(box, run);
          await run.stopsWell();
          expect(run.stdout.lines.at(-1)).toBe("app | bye");
        });

    it("a crash is told, where none is left", async (box) => {
      if (!isRoot) return;
      const { run, fill } = await startLimited(box, 0);
      fill();
      process.kill(await run.descendant(/^\S*python\S* app.py/), "SIGKILL");
      expect((await run.exit()).code).toBe(137);
      expect(run.stderr.text).toMatch(/^entrypoint \| (app|two): killed by SIGKILL after/m);
    });

    it("its variables, arguments, signals and standard streams are as they were", async (box) => {
      const says = 'printf "[%s]" "$@"; echo; env | grep -E "^(BUN_JSC|ENTRYPOINT)_"; exit 3';
      const args = ["", "two words", "ü\n$x", "--help"];
      const own = { BUN_JSC_useConcurrentGC: "1", BUN_JSC_useFTLJIT: "0", ENTRYPOINT_GRACE: "3" };
      const run = box.start(["sh", "-c", says, "sh", ...args], { wrap: limited, env: own });
      expect((await run.exit()).code).toBe(3);
      const [first, second, ...variables] = run.stdout.lines;
      expect([first, second]).toEqual(["app   | [][two words][ü", "app   | $x][--help]"]);
      const named = Object.entries(own).map(([name, value]) => `app   | ${name}=${value}`);
      expect(variables.sort()).toEqual(named.sort());
      const masks = box.procfile(["web: grep -E '^Sig(Blk|Ign):' /proc/self/status; exit 3"], {
        wrap: (command) =>
          limited(["env", "--block-signal=TERM", "--ignore-signal=QUIT", ...command]),
      });
      await masks.exit();
      expect(masks.stdout.text).toMatch(/SigBlk:\t0{16}\nweb \| SigIgn:\t0{16}\n/);
    });
  },
  binaries,
);

/** Where the kernel's count of processes that it killed stands, and the limit. */
const CGROUPS = [
  { version: "v2", kills: "memory.events", limit: "memory.max" },
  { version: "v1", kills: "memory/memory.oom_control", limit: "memory/memory.limit_in_bytes" },
];

section(
  "a host",
  (it) => {
    it("without lo: a line says that nobody gets to who listens", async (box) => {
      if (!hasNamespaces) return;
      const port = await freePort();
      const run = box.procfile([`app: ${listener(port)}`, "web: touch started"], {
        wrap: (command) => ["unshare", "--net", ...command],
        env: { ENTRYPOINT_READY: "3" },
      });
      expect((await run.exit()).code).toBe(1);
      expect(run.stderr.lines).toEqual([
        `entrypoint | app: did not listen on port ${port} within 3 s: it listens, but no connection gets there: let it listen on 127.0.0.1 (is lo up?)`,
      ]);
    });

    it("with few ports for clients: a connection that met itself is no answer", async (box) => {
      if (!hasNamespaces) return;
      const port = 9000; // in a network of its own, where a client gets this port first
      const range = `echo "${port} ${port + 1}" >/proc/sys/net/ipv4/ip_local_port_range`;
      const wrap = (command: string[]) => [
        ...["unshare", "--net"],
        ...inShell(`busybox ip link set lo up; ${range}`)(command),
      ];
      const app = `app: PORT=${port} sh -c "${forever}"`;
      const run = box.procfile([app, "web: touch started; exec sleep 1000"], { wrap });
      await run.up("app");
      await Bun.sleep(300); // for nothing to happen
      expect([run.isAlive, box.has("started")]).toEqual([true, false]);
      await run.stopsWell();
    });

    for (const { version, kills, limit } of CGROUPS)
      it(`that kills for want of memory: the limit is told, cgroup ${version}`, async (box) => {
        if (!hasNamespaces) return;
        box.write(`cgroup/${kills}`, "oom_kill 0\n");
        box.write(`cgroup/${limit}`, `${128 * 2 ** 20}\n`);
        const mount = "mount --bind cgroup /sys/fs/cgroup";
        const wrap = (command: string[]) => [...["unshare", "--mount"], ...inShell(mount)(command)];
        const oomKill = `echo "oom_kill 1" >cgroup/${kills}; kill -KILL $$`;
        const run = box.procfile([`app: echo up; ${untilGo}; ${oomKill}`], { wrap });
        await run.up("app");
        box.write("go", "");
        expect((await run.exit()).code).toBe(137);
        expect(run.stderr.lines.at(-1)).toMatch(
          /app: killed by SIGKILL after .*: out of memory, the limit is 128 MiB; raise it or use less$/,
        );
      });

    it("with little address space: it runs", async (box) => {
      const wrap = inShell(`ulimit -v ${600_000}`);
      expect((await box.procfile(["web: echo up; exit 3"], { wrap }).exit()).code).toBe(3);
    });

    it("without /proc: the executable for musl runs", async (box) => {
      if (!hasNamespaces || box.runtime.name !== "musl") return;
      const wrap = (command: string[]) => [
        "unshare",
        "--mount",
        ...inShell("mount -t tmpfs none /proc")(command),
      ];
      const run = box.procfile([`web: ${onSignal("TERM", "web")}; ${forever}`], { wrap });
      await run.up("web");
      await run.stopsWell();
      expect(box.read("log")).toBe("web TERM\n");
    });
  },
  binaries,
);

section(
  "three hundred lines",
  (it) => {
    it("stop in the time of a hundred, three times or so", async (box) => {
      const measure = async (count: number) => {
        const line = "trap 'exit 0' TERM; echo up; sleep 1000 & wait";
        const run = box.procfile(
          Array.from({ length: count }, (_, i) => `p${i}: ${line}`),
          {
            env: { ENTRYPOINT_GRACE: "30" },
          },
        );
        const isUp = () =>
          run.stdout.lines.filter((text) => text.endsWith("| up")).length === count;
        await eventually("all of them", isUp, 60_000);
        const { code, stopMs } = await run.stop();
        expect(code).toBe(0);
        return stopMs;
      };
      const [few, many] = [await measure(100), await measure(300)];
      console.log(`a stop of 100 lines takes ${few.toFixed(0)} ms, of 300 ${many.toFixed(0)} ms`);
      expect(many).toBeLessThan(few * 6 + 500); // in square it is 9 times
    });
  },
  binaries,
);
