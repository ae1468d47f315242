// The start: top-down, each process ready before the next one starts.

import { expect } from "bun:test";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  ask,
  asUser,
  bun,
  forever,
  freePort,
  hasIPv6,
  hasNamespaces,
  isRoot,
  launchApp,
  listener,
  occupy,
  onSignal,
  type Runtime,
  runtimes,
  section,
  serve,
  tellsProc,
} from "./harness.ts";

// First, so that it waits beside the others.
section(
  "a long start",
  (it) => {
    it("says where one listens if nobody does at the public port", async (box) => {
      const [port, other] = [await freePort(), await freePort()];
      const run = box.procfile([`web: ${serve(other)}`, `idle: ${forever}`], {
        env: { PORT: `${port}` },
      });
      const [line] = await run.line(/^entrypoint \| nobody listens on .*/);
      expect(line).toBe(
        `entrypoint | nobody listens on port ${port}; web listens on port ${other}: let web listen on $PORT, or publish ${other} (EXPOSE, -p)`,
      );
      await run.stopsWell();
    });

    it("says so of one that listens at two ports", async (box) => {
      const [port, one, two] = [await freePort(), await freePort(), await freePort()];
      const run = box.procfile([`web: ${serve(one)} & ${serve(two)} & wait`, `idle: ${forever}`], {
        env: { PORT: `${port}` },
      });
      const [line = ""] = await run.line(/^entrypoint \| nobody listens on .*/);
      expect(line).toContain("let web listen on $PORT, or publish ");
      expect(line).toMatch(/publish \d+ and \d+ \(EXPOSE, -p\)$/);
      await run.stopsWell();
    });

    it("says that a front above its app was up before it", async (box) => {
      const [port, other] = [await freePort(), await freePort()];
      const run = box.procfile([`web: ${serve(port)}`, `app: ${listener(other)}`], {
        env: { PORT: `${port}` },
      });
      await run.line(/ready in/);
      await run.stopsWell();
      expect(run.stderr.text).toContain(
        `web: listens on port ${port} and was up before app: move the line of web below that of app\n`,
      );
      expect(run.stderr.text).toContain("stopping web, then app\n");
    });

    it("says after 10 s what is being waited for", async (box) => {
      const port = await freePort();
      box.write("Procfile", `app: PORT=${port} sleep 1000\nweb: true\n`);
      const waits = async (runtime: Runtime) => {
        const run = box.start([], { runtime, env: { ENTRYPOINT_READY: "11" } });
        const [line] = await run.line(/^entrypoint \| app: .*waiting.*/);
        expect(line).toMatch(new RegExp(`port ${port} .*1[01](\\.\\d)? s`));
        expect((await run.exit()).code).toBe(1);
      };
      await Promise.all(runtimes.map(waits)); // at the same time, for the time it takes
    });
  },
  runtimes.slice(0, 1),
);

section("start", (it) => {
  it("is top-down, each process once the one above listens, release first", async (box) => {
    const [one, two, web] = [await freePort(), await freePort(), await freePort()];
    const job = (name: string, seconds: number, port: number) =>
      `sh -c 'echo ${name} >>log; sleep ${seconds}; echo ${name} listens >>log; exec ${serve(port)}'`;
    const run = box.procfile(
      [
        `one: PORT=${one} ${job("one", 0.3, one)}`,
        `two: PORT=${two} ${job("two", 0.2, two)}`,
        `web: echo web >>log; exec ${serve(web)}`,
        "release: echo release >>log; sleep 0.2; echo released >>log",
      ],
      { env: { PORT: `${web}` } },
    );
    const [line] = await run.line(/^entrypoint \| ready in .*/);
    expect(line).toMatch(/ready in .*: .*one [\d.]+ m?s, two [\d.]+ m?s, web [\d.]+ m?s/);
    const time = (name: string) => {
      const [, number, unit] = new RegExp(`${name} ([\\d.]+) (m?s)`).exec(line) ?? [];
      return Number(number) * (unit === "s" ? 1000 : 1);
    };
    expect(time("one")).toBeGreaterThanOrEqual(290); // it slept 300 ms before it listened
    expect(time("two")).toBeGreaterThanOrEqual(190);
    const order = ["release", "released", "one", "one listens", "two", "two listens", "web"];
    expect(box.lines("log")).toEqual(order);
    await run.stopsWell();
    expect(run.stderr.lines.filter((text) => text.includes("ready in"))).toHaveLength(1);
  });

  it("accepts a process that listens on ::1 alone", async (box) => {
    if (!hasIPv6) return;
    const port = await freePort();
    const run = box.procfile([`six: ${listener(port, "[::1]")}`, "web: echo up; exit 3"], {
      env: { ENTRYPOINT_READY: "10" },
    });
    expect((await run.exit()).code).toBe(3);
    expect(run.stdout.lines).toEqual(["web | up"]);
  });

  it("gives each process its group, pipes, /dev/null, default signals and nothing more", async (box) => {
    const script = box.write(
      "look.sh",
      `read -r stat </proc/$$/stat; set -- \${stat##*) }
echo "group $(( $3 == $$ ))"
echo "0 $(readlink /proc/$$/fd/0)"
for fd in 1 2; do echo "$fd $(stat -Lc '%F %i' /proc/$$/fd/$fd)"; done
ls /proc/$$/fd
grep -E '^Sig(Ign|Blk)' /proc/self/status # not those of sh: BusyBox's ignores SIGQUIT itself
`,
    );
    // sh itself keeps its script open as 10
    const run = box.procfile([`web: exec sh ${script}`]);
    expect((await run.exit()).code).toBe(0);
    const lines = run.stdout.lines.map((line) => line.replace(/^web \| /, "").replace(/\t0+/, " "));
    expect(lines).toContain("group 1");
    expect(lines).toContain("0 /dev/null");
    const pipes = lines.filter((line) => /^[12] fifo \d+$/.test(line)).map((line) => line.slice(2));
    expect([pipes.length, new Set(pipes).size]).toEqual([2, 2]);
    const open = lines.filter((line) => /^\d+$/.test(line));
    // Deno hands a child copies of its pipes' descriptors under other numbers as well.
    if (box.runtime.name !== "deno") expect(open).toEqual(["0", "1", "10", "2"]);
    expect(lines.filter((line) => /^Sig(Ign|Blk): 0?$/.test(line))).toHaveLength(2);
  });

  it("refuses a port that something else listens on", async (box) => {
    for (const address of ["127.0.0.1", "0.0.0.0", "::1"]) {
      if (address === "::1" && !hasIPv6) continue;
      const { port, stop } = occupy(address);
      const run = box.procfile([
        `first: ${onSignal("TERM", "first")}; ${forever}`,
        `app: PORT=${port} touch started; ${forever}`,
        "web: touch started",
      ]);
      const { code } = await run.exit().finally(stop);
      expect(run.stderr.text).toMatch(new RegExp(`^entrypoint \\| .*port ${port} .*already`, "m"));
      expect([code, box.has("started")]).toEqual([2, false]);
    }
  });

  it("refuses the public port when something else listens on it", async (box) => {
    const app = await freePort();
    const { port, stop } = occupy("127.0.0.1");
    const run = box.start(["sh", "-c", `exec ${serve(app)}`], {
      env: { PORT: `${port}`, APP_PORT: `${app}` },
    });
    const { code } = await run.exit().finally(stop);
    expect(run.stderr.text).toMatch(new RegExp(`port ${port} .*already`));
    expect(code).toBe(2);
  });

  it("takes a port that something else is just leaving", async (box) => {
    const open = (): void => stranger.stop(true);
    const socket = { open, data() {}, error() {} };
    const stranger = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
    const run = box.procfile([`app: PORT=${stranger.port} ${serve(stranger.port)}`, "web: exit 7"]);
    expect((await run.exit()).code).toBe(7);
  });

  it("refuses it behind a release job, too", async (box) => {
    const { port, stop } = occupy("127.0.0.1");
    const run = box.procfile(["release: true", "web: touch started"], { env: { PORT: `${port}` } });
    const { code } = await run.exit().finally(stop);
    expect([code, box.has("started")]).toEqual([2, false]);
  });

  it("gives up after ENTRYPOINT_READY seconds, with who, where and a hint", async (box) => {
    const port = await freePort();
    const run = box.procfile(
      [
        `first: ${onSignal("TERM", "first")}; ${forever}`,
        `app: PORT=${port} sh -c "${onSignal("TERM", "app")}; ${forever}"`,
        "web: touch started",
      ],
      { env: { ENTRYPOINT_READY: "1" } },
    );
    const { code, ms } = await run.exit();
    expect(run.stderr.text).toMatch(
      new RegExp(`^entrypoint \\| app.* did not listen on port ${port} .*\\$PORT`, "m"),
    );
    expect(ms).toBeGreaterThan(990);
    expect(code).toBe(1);
    expect(box.lines("log").sort()).toEqual(["app TERM", "first TERM"]);
    expect(box.has("started")).toBe(false);
  });

  it("waits for none with ENTRYPOINT_READY=0", async (box) => {
    const [port, other] = [await freePort(), await freePort()];
    const run = box.procfile(
      [`app: PORT=${port} sleep 1000`, `other: PORT=${other} sleep 1000`, "web: exit 3"],
      { env: { ENTRYPOINT_READY: "0" } },
    );
    expect((await run.exit()).code).toBe(3);
  });

  it("is over when a process ends before it listens: that is the first exit", async (box) => {
    const port = await freePort();
    for (const code of [0, 3]) {
      const run = box.procfile([
        `first: ${onSignal("TERM", "first")}; ${forever}`,
        `app: PORT=${port} sh -c 'sleep 0.1; exit ${code}'`,
        "web: touch started",
      ]);
      expect((await run.exit()).code).toBe(code);
      expect(run.stderr.text).toMatch(new RegExp(`^entrypoint \\| app: exit code ${code} `, "m"));
      expect(box.has("started")).toBe(false);
    }
    expect(box.lines("log")).toEqual(["first TERM", "first TERM"]);
  });

  it("is over when an earlier process ends while a later one is waited for", async (box) => {
    const [one, two] = [await freePort(), await freePort()];
    const run = box.procfile([
      `one: ${listener(one)}`,
      `two: PORT=${two} sh -c 'echo waiting; sleep 1000'`,
      "web: touch started",
    ]);
    await run.line(/^two +\| waiting/);
    process.kill(await run.descendant(new RegExp(`httpd.*:${one}`)), "SIGKILL");
    expect((await run.exit()).code).toBe(137);
    expect(box.has("started")).toBe(false);
  });

  it("is over with the code of a release job that fails", async (box) => {
    const run = box.procfile(["web: touch started", "release: echo no; exit 7"]);
    expect((await run.exit()).code).toBe(7);
    expect(run.stdout.lines).toEqual(["release | no"]);
    expect(run.stderr.text).toMatch(/^entrypoint \| release: exit code 7 /m);
    expect(box.has("started")).toBe(false);
  });

  it("does not take the end of a release job for the first exit", async (box) => {
    const run = box.procfile(["web: sleep 0.3; exit 4", "release: true"]);
    expect((await run.exit()).code).toBe(4);
  });

  it("as PID 1 says that nobody reaps zombies, and how to add tini", async (box) => {
    if (!hasNamespaces) return;
    const run = box.procfile(["web: sh -c 'sleep 0.05 & exec sleep 0.2'; exit 3"], {
      wrap: (command) => ["unshare", "--pid", "--fork", "--mount-proc", "--", ...command],
    });
    expect((await run.exit()).code).toBe(3);
    expect(run.stderr.lines.filter((line) => /zombie/.test(line))).toHaveLength(1);
    expect(run.stderr.text).toMatch(/^entrypoint \| .*zombie.*(tini|--init)/m);
    const notFirst = box.procfile(["web: exit 3"]);
    await notFirst.exit();
    expect(notFirst.stderr.text).not.toContain("zombie");
  });
});

const answerOn = (where: string) => `Bun.serve({ ${where}, fetch: () => new Response("here") })`;
const server = (where: string) => [bun, "-e", answerOn(where)];

section(
  "a place to listen",
  (it) => {
    for (const left of ["nothing", "a socket that was left over"])
      it(`may be a UNIX socket, with ${left} there before`, async (box) => {
        const place = path.join(box.tmp, "..", "app.sock");
        if (left !== "nothing") {
          const old = Bun.listen({ unix: place, socket: { data() {} } });
          fs.renameSync(place, `${place}.old`); // it outlives its listener
          old.stop(true);
          fs.renameSync(`${place}.old`, place);
        }
        const env = { APP_PORT: place };
        const { run, url } = await launchApp(box, server("unix: process.env.PORT"), { env });
        await run.line(/ready in .*app [\d.]+ m?s, nginx/);
        expect(await ask(url)).toBe("200 here");
        await run.stopsWell();
      });

    it("that is another program's UNIX socket is refused, and another kind of file stays", async (box) => {
      const place = path.join(box.dir, "place");
      const other = Bun.listen({ unix: place, socket: { data() {} } });
      const procfile = [`app: PORT=${place} touch started`, "web: touch started"];
      const taken = box.procfile(procfile);
      expect((await taken.exit()).code).toBe(2);
      other.stop(true);
      fs.rmSync(place, { force: true });
      expect(taken.stderr.text).toContain(`listens on ${place} already`);
      box.write("place", "precious");
      await box.procfile(procfile, { env: { ENTRYPOINT_READY: "0.1" } }).exit();
      expect(box.read("place")).toBe("precious");
    });

    it("that is not $PORT is told, then with its cure", async (box) => {
      const real = await freePort();
      const env = { ENTRYPOINT_READY: "3" };
      const { run, appPort: app } = await launchApp(box, serve(real).split(" "), { env });
      await run.line(
        new RegExp(
          `^entrypoint \\| app: does not listen on port ${app} yet; it listens on port ${real}$`,
        ),
      );
      expect((await run.exit()).code).toBe(1);
      expect(run.stderr.text).toMatch(
        new RegExp(
          `^entrypoint \\| app: did not listen on port ${app} .*set APP_PORT=${real}, or `,
          "m",
        ),
      );
    });

    // Out of the tree of its line, where no stop reaches it.
    const daemon = "redis-server --daemonize yes --save '' --port";
    for (const [what, line] of [
      ["plainly", (port: number) => `${daemon} ${port}; exec sleep 1000`],
      ["behind sh -c", (port: number) => `sh -c "${daemon} ${port}"; exec sleep 1000`],
      ["by setsid", (port: number) => `setsid -f ${serve(port)}; exec sleep 1000`],
      ["by a script", (port: number) => `./service start ${port}; tail -f /dev/null`],
    ] as const)
      it(`of a daemon that a line starts ${what} is told`, async (box) => {
        box.mayEscape = /redis|httpd/;
        const port = await freePort();
        fs.chmodSync(box.write("service", `#!/bin/sh\n${daemon} $2\n`), 0o755);
        const run = box.procfile([`cache: PORT=${port} ${line(port)}`, `web: ${forever}`], {
          env: { PORT: `${await freePort()}` },
        });
        const [told] = await run.line(/^entrypoint \| cache: .*background.*/);
        expect(told).toMatch(/\(pid \d+\) listens on port \d+ in the background, .*foreground/);
        await run.stopsWell();
      });

    // The line is right, or it has the public port where its own belongs.
    type Line = (own: number, shared: number, third: number) => string;
    const hints: [what: string, line: Line, cure: RegExp][] = [
      ["a line that is right", (own) => `PORT=${own} sleep 1000`, /listens nowhere yet/],
      [
        "the public port",
        (own, shared) => `PORT=${own} ${serve(shared)}`,
        /write \d+ in place of \d+$/,
      ],
      [
        "$PORT behind env",
        (own) => `env PORT=${own} busybox httpd -f -p 127.0.0.1:$PORT`,
        /as sh fills in \$PORT: write \d+ there$/,
      ],
      [
        "UDP",
        (own) => `PORT=${own} ${bun} -e "await Bun.udpSocket({ port: ${own} })"`,
        /packets only.*: write PORT=$/,
      ],
      [
        "another address of lo",
        (own) => `PORT=${own} busybox httpd -f -p 127.0.1.1:${own}`,
        /no connection gets there: let it listen on 127\.0\.0\.1/,
      ],
      ["another port", (own, _, third) => `PORT=${own} ${serve(third)}`, /: write PORT=\d+, or/],
    ];
    for (const [what, line, cure] of hints)
      it(`that nobody listens at has its cure: ${what}`, async (box) => {
        const [own, shared, third] = [await freePort(), await freePort(), await freePort()];
        const run = box.procfile([`app: ${line(own, shared, third)}`, "web: true"], {
          env: { PORT: `${shared}`, ENTRYPOINT_READY: "0.5" },
        });
        expect((await run.exit()).code).toBe(1);
        const failure = run.stderr.lines.find((text) => text.includes("did not listen"));
        expect(failure).toMatch(cure);
      });

    it("of a process of this run is no stranger's", async (box) => {
      const [port, other] = [await freePort(), await freePort()];
      const listen = (n: number) => `Bun.serve({ port: ${n}, fetch: () => new Response() });`;
      const run = box.procfile(
        [`front: PORT=${other} ${bun} -e '${listen(port)} ${listen(other)}'`, `worker: ${forever}`],
        { env: { PORT: `${port}` } },
      );
      await run.line(/ready in/);
      await run.up("worker");
      await run.stopsWell();
    });

    it("may be at this host's own address alone, and nginx is sent there", async (box) => {
      const own = Object.values(os.networkInterfaces()).flatMap((all) => all ?? []);
      const hostname = own.find(({ internal, family }) => !internal && family === "IPv4")?.address;
      if (!hostname) return;
      const there = server(`hostname: "${hostname}", port: process.env.PORT`);
      const { run, url } = await launchApp(box, there);
      await run.line(/ready in .*app [\d.]+ m?s, nginx/);
      expect(await ask(url)).toBe("200 here");
      await run.stopsWell();
    });

    it("that nobody wrote in the line of one above others is warned of at a stop", async (box) => {
      const [port, unknown] = [await freePort(), await freePort()];
      const run = box.procfile(
        [`app: ${serve(unknown)}`, `quiet: ${forever}`, `web: ${serve(port)}`],
        {
          env: { PORT: `${port}` },
        },
      );
      await run.line(/ready in/);
      await run.stopsWell();
      const warnings = run.stderr.lines.filter((line) => line.includes("did not wait"));
      expect(warnings).toEqual([
        `entrypoint | app: listens on port ${unknown}, and those below did not wait for it: write PORT=${unknown} in front of its command, or PORT= if nobody needs it`,
      ]);
    });

    it("on the public port is named for who listens there", async (box) => {
      const port = await freePort();
      const run = box.procfile([`web: ${serve(port)}`, `worker: ${forever}`], {
        env: { PORT: `${port}` },
      });
      const [line] = await run.line(/^entrypoint \| ready in .*/);
      expect(line).toMatch(/: web [\d.]+ m?s$/);
      await run.stopsWell();
    });
  },
  tellsProc,
);

section("a pipe", (it) => {
  it("can be opened as /dev/stdout by another user of the container", async (box) => {
    if (!isRoot) return;
    fs.chmodSync(box.dir, 0o755);
    const other = asUser(54_321).join(" ");
    const run = box.procfile([
      `a: ${other} sh -c 'echo out >/dev/stdout; echo err >/dev/stderr; exit 3'`,
    ]);
    expect((await run.exit()).code).toBe(3);
    expect([run.stdout.text, run.stderr.lines[0]]).toEqual(["a | out\n", "a | err"]);
  });
});
