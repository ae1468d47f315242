// The stop: who serves others is asked last, and the signals that are passed on.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  asUser,
  bun,
  compiled,
  eventually,
  forever,
  freePort,
  hasNamespaces,
  isAlive,
  isRoot,
  onKeyboard,
  onSignal,
  onTerminal,
  python,
  section,
  startDemo,
  tellsProc,
  untilGo,
  within,
} from "./harness.ts";

const exactly = (command: string[]) => new RegExp(`^${RegExp.escape(command.join(" "))}$`);

section("stop", (it) => {
  it("asks who serves others when those below are gone, and all others at once", async (box) => {
    const slow = (name: string) =>
      `${onSignal("TERM", name, `sleep 0.2; echo ${name} ends >>log; exit 0`)}; ${forever}`;
    const tells = tellsProc.includes(box.runtime);
    const names = ["store", "app", "worker", "beat", "web"];
    const lines = names.map((name) => `${name}: ${slow(name)}`);
    for (const i of [0, 1])
      lines[i] = `${names[i]}: PORT=${9001 + i} sh -c "${slow(`${names[i]}`)}"`;
    for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
      const run = box.procfile(lines, { env: { ENTRYPOINT_READY: "0" } });
      await run.up(...names);
      run.signal(signal);
      const { code, stopMs } = await run.exit();
      const order = box.lines("log");
      if (tells) {
        expect(order.slice(0, 3).sort()).toEqual(["beat TERM", "web TERM", "worker TERM"]);
        expect(order.slice(3, 6).sort()).toEqual(["beat ends", "web ends", "worker ends"]);
        expect(order.slice(6)).toEqual(["app TERM", "app ends", "store TERM", "store ends"]);
      } else
        expect(order).toEqual(
          names.toReversed().flatMap((name) => [`${name} TERM`, `${name} ends`]),
        );
      expect(code).toBe(0);
      expect(stopMs).toBeLessThan(7500);
      const plan = tells
        ? "stopping web, beat, worker, then app, then store"
        : "stopping web, then beat, then worker, then app, then store"; // bottom-up
      expect(run.stderr.text).toContain(`entrypoint | ${signal}: ${plan}\n`);
      expect(run.stderr.text).toMatch(/^entrypoint \| stopped in .*exit code 0$/m);
      box.remove("log");
    }
  });

  it("asks with STOPSIGNAL", async (box) => {
    const one = `trap 'echo one TERM >>log' TERM; ${onSignal("INT", "one")}`;
    const two = `trap 'echo two TERM >>log' TERM; ${onSignal("USR2", "two")}`;
    const run = box.procfile([
      `one: STOPSIGNAL=SIGINT sh -c "${one}; ${forever}"`,
      `two: env STOPSIGNAL=SIGUSR2 sh -c "${two}; ${forever}"`,
    ]);
    await run.up("one", "two");
    await run.stopsWell();
    expect(box.lines("log").sort()).toEqual(["one INT", "two USR2"]);
  });

  it("lets the requests that are under way have their answers", async (box) => {
    const { run, url } = await startDemo(box);
    const answers = Array.from({ length: 20 }, async () => {
      const response = await fetch(`${url}/slow?ms=1500`);
      return `${response.status} ${await response.text()}`;
    });
    await eventually("20 requests in the app", () => {
      const lines = run.stdout.lines.filter((line) => /^app +\| GET \/slow/.test(line));
      return lines.length === 20;
    });
    const { code, stopMs } = await run.stop();
    const statuses = await Promise.all(answers);
    expect(statuses).toEqual(Array.from({ length: 20 }, () => "200 slow, but here\n"));
    expect(code).toBe(0);
    expect(stopMs).toBeLessThan(6000); // nginx closes what is left at 7.5 s
    expect(run.stdout.lines.filter((line) => /^nginx +\| .*" 200 /.test(line))).toHaveLength(20);
  });

  it("kills after ENTRYPOINT_GRACE seconds, and asks the rest in its last fifth", async (box) => {
    const run = box.procfile(
      [
        `polite: PORT=9001 sh -c "${onSignal("TERM", "polite")}; ${forever}"`,
        `deaf: trap 'echo deaf >>log' TERM; ${forever}`,
      ],
      { env: { ENTRYPOINT_GRACE: "2", ENTRYPOINT_READY: "0" } },
    );
    await run.up("polite", "deaf");
    const sent = performance.now();
    run.signal("SIGTERM");
    await eventually("a word of the polite one", () => box.lines("log").includes("polite TERM"));
    const askedAfter = performance.now() - sent;
    expect(run.isAlive).toBe(true);
    const { code, stopMs } = await run.exit();
    expect(askedAfter).toBeGreaterThan(1590); // its last fifth, and no sooner
    expect(stopMs).toBeGreaterThan(1990);
    expect(stopMs).toBeLessThan(8000); // the usual grace is 9 s
    expect(box.lines("log")).toEqual(["deaf", "polite TERM"]);
    expect(code).toBe(137);
  });

  for (const first of ["SIGINT", "SIGTERM", "SIGQUIT"] as const)
    it(`kills everything at once at SIGINT behind ${first}`, async (box) => {
      const run = box.procfile([
        `one: trap '' TERM; ${forever}`,
        `two: trap 'echo asked' TERM; ${forever}`,
      ]);
      await run.up("one", "two");
      run.signal(first);
      await run.line(/^two \| asked/);
      if (first === "SIGINT") await Bun.sleep(25); // else it is the same
      run.signal("SIGINT");
      const { code, stopMs } = await run.exit();
      expect(code).toBe(137);
      expect(stopMs).toBeLessThan(7000); // the last fifth of the grace begins at 8 s
      expect(run.stderr.text).toMatch(/^entrypoint \| one: killed at a second signal, SIGINT$/m);
    });

  // A platform's: a preStop hook's, then the kubelet's.
  for (const [first, second] of [
    ["SIGQUIT", "SIGTERM"],
    ["SIGTERM", "SIGTERM"],
    ["SIGTERM", "SIGQUIT"],
    ["SIGINT", "SIGTERM"],
  ] as const)
    it(`goes on at ${second} behind ${first}, where no terminal is`, async (box) => {
      const run = box.procfile(
        [`one: ${onSignal("TERM", "one", `${untilGo}; exit 0`)}; ${forever}`],
        { wrap: (command) => ["setsid", "-w", ...command] },
      );
      await run.up("one");
      const pid = await run.descendant(exactly(box.runtime.command));
      process.kill(pid, first);
      await eventually("its signal", () => box.lines("log").length === 1);
      await Bun.sleep(25); // else it is the same
      process.kill(pid, second);
      const [line] = await run.line(/^entrypoint \| .*already.*/);
      expect(line).toMatch(new RegExp(`\\| ${second}: .*; one may take [789](\\.\\d)? s more$`));
      box.write("go", "");
      expect((await run.exit()).code).toBe(0);
      expect(box.lines("log")).toEqual(["one TERM"]);
    });

  it("takes a signal that comes twice at once for one, as timeout(1) sends it", async (box) => {
    // A busy machine may put 20 ms between the two, and then they are two, but not each time.
    const codes: number[] = [];
    for (let tries = 0; tries < 10 && !codes.includes(0); tries++) {
      const run = box.procfile([
        `one: ${onSignal("TERM", "one", "sleep 0.1; exit 0")}; ${forever}`,
      ]);
      await run.up("one");
      run.signal("SIGINT");
      await eventually("the first", () => run.stderr.text.includes("SIGINT: stopping one"));
      await Bun.sleep(8); // npm sends a Ctrl-C once more within some milliseconds
      process.kill(run.pid, "SIGINT");
      codes.push((await run.exit()).code);
    }
    expect(codes).toContain(0);
  });

  it("during the start stops what has started and starts nothing more", async (box) => {
    const port = await freePort();
    const run = box.procfile([
      `one: ${onSignal("TERM", "one")}; ${forever}`,
      `app: PORT=${port} sh -c "${onSignal("TERM", "app")}; ${forever}"`,
      "web: touch started",
    ]);
    await run.up("one", "app");
    await run.stopsWell();
    expect(box.lines("log").sort()).toEqual(["app TERM", "one TERM"]);
    expect(box.has("started")).toBe(false);
  });

  it("during the release job stops it and starts nothing", async (box) => {
    const run = box.procfile([
      "web: touch started",
      `release: ${onSignal("TERM", "release")}; ${forever}`,
    ]);
    await run.up("release");
    await run.stopsWell();
    expect(box.lines("log")).toEqual(["release TERM"]);
    expect(box.has("started")).toBe(false);
  });

  it("is obeyed however early it comes", async (box) => {
    // The start of a runtime cannot be helped: until it has run, the signal kills it, as any program.
    box.write("Procfile", `one: ${forever}\ntwo: ${forever}\n`);
    for (let delay = 0; delay < 100; delay += 5) {
      const run = box.start([]);
      await Bun.sleep(delay);
      run.signal("SIGTERM");
      expect([0, 143]).toContain((await run.exit()).code);
    }
  });

  const lastGone = "while kill -0 $(cat last) 2>/dev/null; do sleep 0.01; done";
  const ends: [string, string, string, number][] = [
    ["0 for who exits with 0", "exit 0", "exit 0", 0],
    ["0 for who dies of the signal", "trap - TERM; kill $$", "exit 0", 0],
    ["0 for 128+n", "exit 143", "exit 0", 0],
    ["the other code of one", "exit 5", "exit 0", 5],
    ["the first other code in time", `${lastGone}; exit 5`, "exit 4", 4],
    ["128+n of another signal", "kill -KILL $$", "exit 0", 137],
  ];
  for (const [title, first, last, expected] of ends) {
    it(`ends with ${title}`, async (box) => {
      const run = box.procfile([
        `first: ${onSignal("TERM", "first", first)}; ${forever}`,
        `last: echo $$ >last; ${onSignal("TERM", "last", last)}; ${forever}`,
      ]);
      await run.up("first", "last");
      expect((await run.stop()).code).toBe(expected);
      expect(box.lines("log").sort()).toEqual(["first TERM", "last TERM"]);
    });
  }

  it("asks the leader alone, then who is left of its group", async (box) => {
    const worker = `${onSignal("TERM", "worker")}; echo ready; ${forever}`;
    const run = box.procfile([
      `master: sh -c "${worker}" & ${onSignal("TERM", "master", "sleep 0.3; echo master ends >>log; exit 0")}; ${forever}`,
    ]);
    await run.line(/ready/);
    await run.up("master");
    await run.stopsWell();
    expect(box.lines("log")).toEqual(["master TERM", "master ends", "worker TERM"]);
  });

  it("reaches the program behind a shell", async (box) => {
    // dash leads the group in all of these but the first two
    const trap = `trap 'echo asked >>log; exit 0' TERM; echo up; while :; do sleep 0.02; done`;
    box.write("server", `${trap}\n`);
    for (const command of [
      "sh server",
      "exec sh server",
      "A=1 env B=2 sh server",
      "cd . && sh server",
      "sh server; exit $?",
      "sh server | cat",
    ]) {
      const run = box.procfile([`web: ${command}`]);
      await run.up("web");
      const { code, stopMs } = await run.stop();
      expect([command, code, box.lines("log")]).toEqual([command, 0, ["asked"]]);
      expect(stopMs).toBeLessThan(7500);
      box.remove("log");
    }
  });

  it("leaves the process that ended by itself during the stop its code", async (box) => {
    const run = box.procfile(
      [
        `one: PORT=9001 sh -c '${untilGo}; exit 8'`,
        `two: ${onSignal("TERM", "two", "touch go; sleep 0.3; exit 0")}; ${forever}`,
      ],
      { env: { ENTRYPOINT_READY: "0" } },
    );
    await run.up("two");
    expect((await run.stop()).code).toBe(8);
  });
});

/** A process that listens as these calls of Bun say, then says that it is up. */
const listening = (...calls: string[]) =>
  `${bun} -e '${calls.map((call) => `await Bun.${call};`).join(" ")} console.log("up")'`;
const tcp = (port: number) =>
  `listen({ hostname: "127.0.0.1", port: ${port}, socket: { data() {} } })`;
const udp = (port: number) => `udpSocket({ hostname: "127.0.0.1", port: ${port} })`;
const unix = 'listen({ unix: "there.sock", socket: { data() {} } })';

// Who stands above a worker and a web server, with no word of a place in its line; P is the public port,
// Q another.
const seen: [string, (P: number, Q: number) => [name: string, calls: string[]][], string][] = [
  [
    "a port for metrics",
    (P, Q) => [
      ["app", [tcp(Q)]],
      ["web", [tcp(P)]],
    ],
    "web, then app",
  ],
  [
    "a UNIX socket",
    (P) => [
      ["app", [unix]],
      ["web", [tcp(P)]],
    ],
    "web, then app",
  ],
  [
    "a UDP socket",
    (P, Q) => [
      ["app", [udp(Q)]],
      ["web", [tcp(P)]],
    ],
    "web, then app",
  ],
  [
    "a debugger's port beside the public one",
    (P, Q) => [
      ["web", [tcp(P), tcp(Q)]],
      ["idle", []],
    ],
    "idle, web",
  ],
  [
    "a port of its own choice, nobody on the public one",
    (_, Q) => [
      ["web", [tcp(Q)]],
      ["idle", []],
    ],
    "idle, web",
  ],
  [
    "nowhere",
    (P) => [
      ["idle", []],
      ["web", [tcp(P)]],
    ],
    "web, idle",
  ],
];

/** What takes a look at the processes. */
section(
  "a stop",
  (it) => {
    for (const [what, processes, plan] of seen)
      it(`has its order by who is seen to listen: ${what}`, async (box) => {
        const [port, other] = [await freePort(), await freePort()];
        const rows = processes(port, other);
        const run = box.procfile(
          rows.map(([name, calls]) => `${name}: ${calls.length ? listening(...calls) : forever}`),
          { env: { PORT: `${port}` } },
        );
        await run.up(...rows.map(([name]) => name));
        await run.stopsWell();
        expect(run.stderr.text).toContain(`entrypoint | SIGTERM: stopping ${plan}\n`);
      });

    // The app is asked after 1.5 s at the soonest, and after 2.4 s at the latest.
    for (const [what, place, seconds, order] of [
      ["for half the grace if it is only seen to serve", "", 2.2, ["app TERM", "web ends"]],
      ["if its line says so, for as long as it takes", "PORT=9001 ", 1.8, ["web ends", "app TERM"]],
    ] as const)
      it(`lets a server wait for those below: ${what}`, async (box) => {
        const port = await freePort();
        const server = `${bun} -e 'Bun.${tcp(port)}; console.log("up")'`;
        const run = box.procfile(
          [
            `app: ${place}sh -c "${server.replaceAll('"', '\\"')} & ${onSignal("TERM", "app", "kill $!; exit 0")}; wait"`,
            `web: ${onSignal("TERM", "web", `sleep ${seconds}; echo web ends >>log; exit 0`)}; ${forever}`,
          ],
          { env: { ENTRYPOINT_GRACE: "3", ENTRYPOINT_READY: "0", PORT: `${await freePort()}` } },
        );
        await run.up("app", "web");
        await run.stop();
        expect(box.lines("log").filter((line) => line !== "web TERM")).toEqual([...order]);
      });

    it("tells those again for whom others wait and to whom SIGTERM means now", async (box) => {
      const [port, app, db] = [await freePort(), await freePort(), await freePort()];
      box.write(
        "app.cjs",
        `const server = require("node:http").createServer((_, answer) => answer.write("data: 1\\n\\n"));
         server.listen(${app});
         process.once("SIGTERM", () => require("node:net").connect(${db}, "127.0.0.1", () => {
           require("node:fs").appendFileSync("log", "saved\\n");
           process.exit(0);
         }));`,
      );
      const run = box.procfile(
        [
          `db: PORT=${db} python3 ${path.join(import.meta.dir, "shapes/fake.py")} db tcp=${db}`,
          `app: PORT=${app} node app.cjs`,
          "nginx: nginx -c $NGINX_CONF -e stderr",
        ],
        { env: { PORT: `${port}`, APP_PORT: `${app}`, ENTRYPOINT_GRACE: "4" } },
      );
      await run.line(/ready in/);
      const stream = await fetch(`http://127.0.0.1:${port}/`);
      await stream.body?.getReader().read();
      const { code, stopMs } = await run.stop();
      expect([code, box.lines("log")]).toEqual([0, ["saved", "asked db", "ended db"]]);
      expect(stopMs).toBeGreaterThan(2400); // 1.5 s before the end
    });

    // To Node's `once` a second signal means death.
    const once = "node once.cjs";
    for (const [what, line] of [
      ["as it is", once],
      ["behind su", `su root -c '${once}'`],
      ["behind a trap that passes it on and ends", `trap 'kill $!; exit 0' TERM; ${once} & wait`],
      ["behind a trap that passes it on and waits", `trap 'kill $!' TERM; ${once} & wait; wait`],
      ["behind timeout and a shell", `timeout 1h sh -c '${once}; true'`],
    ] as const)
      it(`leaves who was asked its time, ${what}`, async (box) => {
        if (what === "behind su" && !isRoot) return;
        box.write(
          "once.cjs",
          `process.once("SIGTERM", () => setTimeout(() => {
             require("node:fs").writeFileSync("done", "");
             process.exit(0);
           }, 2600));
           setInterval(() => {}, 1000);
           console.log("up");`,
        );
        const run = box.procfile([`app: ${line}`], { env: { ENTRYPOINT_GRACE: "3" } });
        await run.up("app");
        const { code } = await run.stop();
        expect([code, box.has("done"), run.stderr.text]).toEqual([
          0,
          true,
          expect.not.stringContaining("killed"),
        ]);
      });

    it("leaves a relay alone that ends a while behind its server, in the last second too", async (box) => {
      fs.chmodSync(
        box.write(
          "tini",
          `#!${python}
import os, signal, subprocess, time
signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told\\n"))
server = subprocess.Popen(["node", "server.cjs"])
server.wait()
time.sleep(0.02)
`,
        ),
        0o755,
      );
      box.write(
        "server.cjs",
        `process.once("SIGTERM", () => setTimeout(() => process.exit(0), 2600));
         setInterval(() => {}, 1000);
         console.log("up");`,
      );
      const run = box.procfile(["app: ./tini"], { env: { ENTRYPOINT_GRACE: "3" } });
      await run.up("app");
      const { code } = await run.stop();
      expect([code, run.stdout.text]).toEqual([0, "app | up\n"]);
    });

    it("takes nobody for a filter whose input has ended", async (box) => {
      const worker = `(cat >/dev/null; ${onSignal("TERM", "worker")}; ${forever})`;
      for (const line of [`echo go | ${worker}`, `echo go | (${worker}; true)`, `${worker} <in`]) {
        box.write("in", "");
        const run = box.procfile([`app: ${line}`]);
        await run.up("app");
        const { code, stopMs } = await run.stop();
        expect([line, code, box.lines("log")]).toEqual([line, 0, ["worker TERM"]]);
        expect(stopMs).toBeLessThan(3000);
        box.remove("log");
      }
    });

    it("asks a filter that does not end with its input when half of the grace is over", async (box) => {
      const worker = `${onSignal("TERM", "worker")}; ${forever}`;
      for (const line of [`yes | (${worker})`, `sleep 1000 | (${worker}; true)`]) {
        const run = box.procfile([`app: ${line}`], { env: { ENTRYPOINT_GRACE: "3" } });
        await run.up("app");
        const { code, stopMs } = await run.stop();
        expect([line, code, box.lines("log")]).toEqual([line, 0, ["worker TERM"]]);
        expect(stopMs).toBeGreaterThan(1400);
        box.remove("log");
      }
    });

    it("asks with a real-time signal", async (box) => {
      const run = box.procfile([`one: STOPSIGNAL=37 sh -c "${onSignal("37", "one")}; ${forever}"`]);
      await run.up("one");
      await run.stopsWell();
      expect(box.read("log")).toBe("one 37\n");
    });

    it("does not touch a process that has the number of a release job by then", async (box) => {
      if (!hasNamespaces) return;
      // In a PID namespace of its own the next number can be chosen.
      const script = box.write(
        "namespace.sh",
        `"$@" & entrypoint=$!
        until [ -s number ]; do sleep 0.01; done
        read number <number
        sleep 0.1
        echo $((number - 1)) >/proc/sys/kernel/ns_last_pid
        setsid sh -c 'echo $$ >other; trap "echo hit >>log" TERM; while :; do sleep 0.02; done' &
        wait $entrypoint
        echo "ended $?" >>log
        kill -KILL $(cat other)`,
      );
      const run = box.procfile(["release: echo $$ >number", `web: ${forever}`], {
        wrap: (command) => [
          ...["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"],
          ...["sh", script, ...command],
        ],
      });
      await eventually("the other process", () => box.read("other") !== "");
      await run.up("web");
      expect(box.read("other")).toBe(box.read("number"));
      process.kill(await run.descendant(exactly(box.runtime.command)), "SIGTERM");
      await run.exit();
      expect(box.read("log")).toBe("ended 0\n");
    });

    it("says whom it may not signal, and does not say that it killed it", async (box) => {
      if (!isRoot) return;
      const other = asUser(54_321).join(" ");
      const run = box.procfile([`a: ${other} sleep 3`], {
        env: { ENTRYPOINT_GRACE: "1" },
        wrap: (command) => ["setpriv", "--bounding-set=-kill", "--", ...command],
      });
      const sleep = await run.descendant(/^sleep 3$/);
      expect((await run.stop()).code).toBe(137);
      const its = run.stderr.lines.filter((line) => line.startsWith("entrypoint | a: "));
      expect(its).toEqual([
        expect.stringMatching(/sleep \(pid \d+\) is another user's and cannot be asked to stop/),
        expect.stringMatching(/sleep \(pid \d+\) is another user's and cannot be killed/),
      ]);
      await eventually("its own end", () => !isAlive(sleep));
    });

    it("asks in its last fifth a program that has taken the place of one that was told", async (box) => {
      const handler = `$SIG{TERM} = sub {}; print "up\\n";`;
      const until = "select undef, undef, undef, 0.01 until -e 'go';";
      box.write("becomes.pl", `$| = 1; ${handler} ${until} exec 'sleep', '1000';`);
      for (const web of [
        // In the foreground: the shell's trap waits for its end.
        "trap 'exit 0' TERM; perl becomes.pl; true",
        "exec perl becomes.pl",
        `trap : TERM; echo up; ${untilGo}; exec sleep 1000`,
        `trap 'exec sleep 1000' TERM; echo up; ${untilGo}`,
      ]) {
        const run = box.procfile([`web: ${web}`], {
          env: { ENTRYPOINT_GRACE: "2", ENTRYPOINT_READY: "0" },
        });
        await run.up("web");
        run.signal("SIGTERM");
        await run.line(/stopping web/);
        box.write("go", "");
        const { code } = await run.exit();
        expect([web, code, run.stderr.text]).toEqual([
          web,
          0,
          expect.not.stringContaining("killed"),
        ]);
        box.remove("go");
      }
    });

    it("lets a program finish that a trap runs in its shell's place", async (box) => {
      box.write("cleanup.pl", "sleep 1; open F, '>', 'done';");
      const run = box.procfile([`web: trap 'exec perl cleanup.pl' TERM; ${forever}`]);
      await run.up("web");
      await run.stopsWell();
      expect(box.has("done")).toBe(true);
    });

    it("passes no signal on that nobody handles, and says so", async (box) => {
      const forks = "echo up; while :; do /bin/true; done"; // and blocks all signals each time
      const run = box.procfile([`one: ${forks}`]);
      await run.up("one");
      run.signal("SIGUSR1");
      await run.line(/^entrypoint \| SIGUSR1: one does not handle it/);
      await run.stopsWell();
    });

    it("leaves nobody of a chain that forks faster than one can look", async (box) => {
      const link = "open F, '>>', 'links'; print F 'x'; close F";
      const next = "if (fork) { select undef, undef, undef, 0.02; exit }";
      box.write("chain.pl", `$SIG{TERM} = 'IGNORE'; while (1) { ${link}; ${next} }`);
      for (const web of ["exec perl chain.pl", "perl chain.pl; sleep 1000"]) {
        const run = box.procfile([`other: exec sleep 1000`, `web: ${web}`], {
          env: { ENTRYPOINT_GRACE: "1", ENTRYPOINT_READY: "0" },
        });
        await eventually("some links", () => box.read("links").length > 5);
        run.signal("SIGTERM");
        await run.exit();
        const before = box.read("links").length;
        await Bun.sleep(200); // for nothing to happen
        expect([web, box.read("links").length]).toEqual([web, before]);
        box.remove("links");
      }
    });

    it("ends a loop that starts a job again, whatever stands in front of it", async (box) => {
      for (const wrapper of ["timeout 1h", "setsid -w", "script -qec", "tini --"]) {
        const loop = "'while true; do echo up; sleep 1000; done'";
        const shell = wrapper.startsWith("script") ? `${loop} /dev/null` : `sh -c ${loop}`;
        const run = box.procfile([`web: ${wrapper} ${shell}`]);
        await run.up("web");
        const { code, stopMs } = await run.stop();
        expect([wrapper, code]).toEqual([wrapper, 0]);
        expect(stopMs).toBeLessThan(5000);
      }
    });

    it("is one of who went into a group of its own, too", async (box) => {
      const run = box.procfile([
        `one: timeout 1h sh -c '${forever} & sleep 1005 & exec sleep 1006'; exit $?`,
        `two: ${untilGo}; exit 3`,
      ]);
      process.kill(await run.descendant(/^\S*timeout 1h/), "SIGKILL");
      expect((await run.exit()).code).toBe(137);
    });
  },
  tellsProc,
);

section("signals", (it) => {
  it("HUP, USR1 and USR2 go to the last process alone", async (box) => {
    const traps = ["HUP", "USR1", "USR2"].map((name) => `trap 'echo got ${name}' ${name}`);
    const run = box.procfile(
      ["one", "two"].map((name) => `${name}: ${traps.join("; ")}; ${forever}`),
    );
    await run.up("one", "two");
    for (const name of ["HUP", "USR1", "USR2"] as const) {
      run.signal(`SIG${name}`);
      await run.line(new RegExp(`^two \\| got ${name}`));
    }
    await run.stopsWell();
    const got = run.stdout.lines.filter((line) => line.includes("got"));
    expect(got).toEqual(["two | got HUP", "two | got USR1", "two | got USR2"]);
  });

  it("before the last process is there they end nothing", async (box) => {
    const port = await freePort();
    const run = box.procfile([
      `app: PORT=${port} sh -c "${onSignal("TERM", "app")}; ${forever}"`,
      "web: true",
    ]);
    await run.up("app");
    for (const name of ["SIGHUP", "SIGUSR1", "SIGUSR2"] as const) {
      run.signal(name);
      await run.line(new RegExp(`^entrypoint \\| ${name}: web has not started yet`));
    }
    await run.stopsWell();
    expect(box.lines("log")).toEqual(["app TERM"]);
  });

  // With its exit code.
  const stops = { SIGWINCH: 0, SIGALRM: 142, SIGXCPU: 152, SIGVTALRM: 154 } as const;
  for (const [name, code] of Object.entries(stops) as [NodeJS.Signals, number][]) {
    it(`${name} where no terminal is means stop`, async (box) => {
      const run = box.procfile(
        ["one", "two"].map((name) => `${name}: ${onSignal("TERM", name)}; ${forever}`),
        { wrap: (command) => ["setsid", "-w", ...command] },
      );
      await run.up("one", "two");
      run.remember();
      process.kill(await run.descendant(exactly(box.runtime.command)), name);
      expect((await run.exit()).code).toBe(code);
      expect(box.lines("log").sort()).toEqual(["one TERM", "two TERM"]);
      expect(run.stderr.text).toMatch(
        new RegExp(`^entrypoint \\| ${name}: stopping two, (then )?one$`, "m"),
      );
    });
  }

  it("HUP reloads nginx, and its workers are new", async (box) => {
    const { run, url } = await startDemo(box);
    const worker = async () => await run.descendant(/^nginx: worker process$/);
    const before = await worker();
    run.signal("SIGHUP");
    await eventually("another worker", async () => (await worker()) !== before);
    expect((await fetch(url)).status).toBe(200);
    await run.stopsWell();
  });

  for (const name of ["SIGINT", "SIGHUP", "SIGTERM"] as const) {
    it(`${name} on a terminal means stop`, async (box) => {
      const run = box.procfile(
        ["one", "two"].map(
          (name) => `${name}: trap 'echo HUP >>log' HUP; ${onSignal("TERM", name)}; ${forever}`,
        ),
        { wrap: onTerminal() },
      );
      await run.line(/two.* up/);
      run.remember();
      process.kill(Number(box.read("pid")), name);
      expect((await run.exit()).code).toBe(0);
      expect(box.lines("log").sort()).toEqual(["one TERM", "two TERM"]);
    });
  }

  it("Ctrl-C typed on a terminal drains", async (box) => {
    const run = box.procfile(
      ["one", "two"].map((name) => `${name}: ${onSignal("TERM", name)}; ${forever}`),
      { wrap: onKeyboard() },
    );
    await run.line(/two.* up/);
    run.remember();
    fs.writeFileSync(path.join(box.dir, "keys"), "\x03");
    expect((await run.exit()).code).toBe(0);
    expect(box.lines("log").sort()).toEqual(["one TERM", "two TERM"]);
  });
});

section(
  "stop under load",
  (it) => {
    it("drops no request that was accepted", async (box) => {
      const { run, url } = await startDemo(box);
      const wrk = Bun.spawn(["wrk", "-t1", "-c16", "-d3s", "--latency", url], { stdout: "pipe" });
      await eventually("the first requests", () => run.stdout.lines.length > 300);
      const { code, stopMs } = await run.stop();
      const report = await within("wrk", new Response(wrk.stdout).text());
      expect(code).toBe(0);
      expect(stopMs).toBeLessThan(8000);
      expect(report).toMatch(/\d+ requests in/);
      expect(report).not.toContain("Non-2xx");
      const access = run.stdout.lines.filter((line) => line.startsWith("nginx"));
      expect(access.filter((line) => !/" 200 \d+ /.test(line))).toEqual([]);
      // What reached the app was answered, and the answers arrived. Connections that nginx has not
      // accepted, or that were idle when it quit, are reset: wrk has read errors, but no request.
      const requests = run.stdout.lines.filter((line) => /^app +\| GET \/$/.test(line));
      expect(access.length).toBe(requests.length);
      expect(Number(/(\d+) requests in/.exec(report)?.[1])).toBe(access.length);
    });
  },
  [compiled],
);
