// Design section 6: the stop, drained bottom-up, and the signals that are passed on.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  type Box,
  bun,
  compiled,
  demoApp,
  eventually,
  forever,
  freePort,
  onKeyboard,
  onSignal,
  onTerminal,
  type Run,
  section,
  within,
} from "./harness.ts";

const log = (box: Box) => box.read("log").split("\n").slice(0, -1);

async function allUp(run: Run, ...names: string[]): Promise<void> {
  await Promise.all(names.map((name) => run.line(new RegExp(`^${name} +\\| up`))));
}

/** The demo app behind nginx. */
async function startDemo(box: Box, env: Record<string, string> = {}) {
  const [port, appPort] = [await freePort(), await freePort()];
  const run = box.start([bun, demoApp], {
    env: { PORT: `${port}`, APP_PORT: `${appPort}`, ...env },
  });
  await run.line(/ready in/);
  return { run, url: `http://127.0.0.1:${port}` };
}

section("stop", (it) => {
  it("drains bottom-up, each process empty before the next is asked", async (box) => {
    const slow = (name: string) =>
      `${name}: ${onSignal("TERM", name, `sleep 0.2; echo ${name} ends >>log; exit 0`)}; ${forever}`;
    for (const signal of ["SIGTERM", "SIGINT", "SIGQUIT"] as const) {
      const run = box.procfile(["one", "two", "three"].map(slow));
      await allUp(run, "one", "two", "three");
      run.signal(signal);
      const { code, stopMs } = await run.exit();
      const order = ["three TERM", "three ends", "two TERM", "two ends", "one TERM", "one ends"];
      expect(log(box)).toEqual(order);
      expect(code).toBe(0);
      expect(stopMs).toBeLessThan(5000);
      expect(run.stderr.text).toMatch(new RegExp(`^entrypoint \\| .*${signal}`, "m"));
      expect(run.stderr.text).toMatch(/^entrypoint \| stopped in .*exit code 0$/m);
      fs.rmSync(path.join(box.dir, "log"));
    }
  });

  it("asks with STOPSIGNAL", async (box) => {
    const one = `trap 'echo one TERM >>log' TERM; ${onSignal("INT", "one")}`;
    const two = `trap 'echo two TERM >>log' TERM; ${onSignal("USR2", "two")}`;
    const run = box.procfile([
      `one: STOPSIGNAL=SIGINT sh -c "${one}; ${forever}"`,
      `two: env STOPSIGNAL=SIGUSR2 sh -c "${two}; ${forever}"`,
    ]);
    await allUp(run, "one", "two");
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(log(box)).toEqual(["two USR2", "one INT"]);
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
    run.signal("SIGTERM");
    const { code, stopMs } = await run.exit();
    const statuses = await Promise.all(answers);
    expect(statuses).toEqual(Array.from({ length: 20 }, () => "200 slow, but here\n"));
    expect(code).toBe(0);
    expect(stopMs).toBeLessThan(2500);
    expect(run.stdout.lines.filter((line) => /^nginx +\| .*" 200 /.test(line))).toHaveLength(20);
  });

  it("kills after ENTRYPOINT_GRACE seconds, and asks the rest 1 s before", async (box) => {
    const run = box.procfile(
      [
        `polite: ${onSignal("TERM", "polite")}; ${forever}`,
        `deaf: trap 'echo deaf >>log' TERM; ${forever}`,
      ],
      { env: { ENTRYPOINT_GRACE: "2" } },
    );
    await allUp(run, "polite", "deaf");
    run.signal("SIGTERM");
    const sent = performance.now();
    await eventually("a word of the polite one", () => log(box).includes("polite TERM"));
    const askedAfter = performance.now() - sent;
    expect(run.isAlive).toBe(true);
    const { code, stopMs } = await run.exit();
    expect(askedAfter).toBeGreaterThan(990);
    expect(stopMs).toBeGreaterThan(1990);
    expect(stopMs).toBeLessThan(4000);
    expect(log(box)).toEqual(["deaf", "polite TERM"]);
    expect(code).toBe(137);
  });

  for (const second of ["SIGINT", "SIGTERM"] as const) {
    it(`kills everything at once at a second signal, ${second}`, async (box) => {
      const run = box.procfile([
        `one: trap '' TERM; ${forever}`,
        `two: trap 'echo asked' TERM; ${forever}`,
      ]);
      await allUp(run, "one", "two");
      run.signal("SIGTERM");
      run.signal("SIGTERM"); // at once: the same, as timeout(1) sends it
      await run.line(/^two \| asked/);
      if (second === "SIGTERM") await Bun.sleep(20); // no longer the same
      run.signal(second);
      const { code, stopMs } = await run.exit();
      expect(code).toBe(137);
      expect(stopMs).toBeLessThan(2000); // the grace is 9 s
      const why = new RegExp(`^entrypoint \\| one: killed at a second signal, ${second}$`, "m");
      expect(run.stderr.text).toMatch(why);
    });
  }

  it("during the start stops what has started and starts nothing more", async (box) => {
    const port = await freePort();
    const run = box.procfile([
      `one: ${onSignal("TERM", "one")}; ${forever}`,
      `app: PORT=${port} sh -c "${onSignal("TERM", "app")}; ${forever}"`,
      "web: touch started",
    ]);
    await allUp(run, "one", "app");
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(log(box)).toEqual(["app TERM", "one TERM"]);
    expect(fs.existsSync(path.join(box.dir, "started"))).toBe(false);
  });

  it("during the release job stops it and starts nothing", async (box) => {
    const run = box.procfile([
      "web: touch started",
      `release: ${onSignal("TERM", "release")}; ${forever}`,
    ]);
    await allUp(run, "release");
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(log(box)).toEqual(["release TERM"]);
    expect(fs.existsSync(path.join(box.dir, "started"))).toBe(false);
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

  const ends: [string, string, string, number][] = [
    ["0 for who exits with 0", "exit 0", "exit 0", 0],
    ["0 for who dies of the signal", "trap - TERM; kill $$", "exit 0", 0],
    ["0 for 128+n", "exit 143", "exit 0", 0],
    ["the other code of one", "exit 5", "exit 0", 5],
    ["the first other code in time", "exit 5", "exit 4", 4],
    ["128+n of another signal", "kill -KILL $$", "exit 0", 137],
  ];
  for (const [title, first, last, expected] of ends) {
    it(`ends with ${title}`, async (box) => {
      const run = box.procfile([
        `first: ${onSignal("TERM", "first", first)}; ${forever}`,
        `last: ${onSignal("TERM", "last", last)}; ${forever}`,
      ]);
      await allUp(run, "first", "last");
      run.signal("SIGTERM");
      expect((await run.exit()).code).toBe(expected);
      expect(log(box)).toEqual(["last TERM", "first TERM"]);
    });
  }

  it("asks the leader alone, then who is left of its group", async (box) => {
    const worker = `${onSignal("TERM", "worker")}; echo ready; ${forever}`;
    const run = box.procfile([
      `master: sh -c "${worker}" & ${onSignal("TERM", "master", "sleep 0.3; echo master ends >>log; exit 0")}; ${forever}`,
    ]);
    await run.line(/ready/);
    await allUp(run, "master");
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(log(box)).toEqual(["master TERM", "master ends", "worker TERM"]);
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
      await allUp(run, "web");
      run.signal("SIGTERM");
      const { code, stopMs } = await run.exit();
      expect([command, code, log(box)]).toEqual([command, 0, ["asked"]]);
      expect(stopMs).toBeLessThan(5000);
      fs.rmSync(path.join(box.dir, "log"));
    }
  });

  it("leaves the process that ended by itself during the stop its code", async (box) => {
    const run = box.procfile([
      "one: while ! [ -e go ]; do sleep 0.01; done; exit 8",
      `two: ${onSignal("TERM", "two", "touch go; sleep 0.3; exit 0")}; ${forever}`,
    ]);
    await allUp(run, "two");
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(8);
  });
});

section("signals", (it) => {
  it("HUP, USR1 and USR2 go to the last process alone, SIGWINCH to none", async (box) => {
    const traps = ["HUP", "USR1", "USR2", "WINCH"].map((name) => `trap 'echo got ${name}' ${name}`);
    const run = box.procfile(
      ["one", "two"].map((name) => `${name}: ${traps.join("; ")}; ${forever}`),
    );
    await allUp(run, "one", "two");
    for (const name of ["WINCH", "HUP", "WINCH", "USR1", "USR2"] as const) {
      run.signal(`SIG${name}`);
      if (name !== "WINCH") await run.line(new RegExp(`^two \\| got ${name}`));
    }
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    const got = run.stdout.lines.filter((line) => line.includes("got"));
    expect(got).toEqual(["two | got HUP", "two | got USR1", "two | got USR2"]);
  });

  it("before the last process is there they end nothing", async (box) => {
    const port = await freePort();
    const run = box.procfile([
      `app: PORT=${port} sh -c "${onSignal("TERM", "app")}; ${forever}"`,
      "web: true",
    ]);
    await allUp(run, "app");
    for (const name of ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const) run.signal(name);
    await Bun.sleep(100);
    expect(run.isAlive).toBe(true);
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(log(box)).toEqual(["app TERM"]);
  });

  it("HUP reloads nginx, and its workers are new", async (box) => {
    const { run, url } = await startDemo(box);
    const worker = async () => await run.descendant(/^nginx: worker process$/);
    const before = await worker();
    run.signal("SIGHUP");
    await eventually("another worker", async () => (await worker()) !== before);
    expect((await fetch(url)).status).toBe(200);
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
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
      expect(log(box)).toEqual(["two TERM", "one TERM"]);
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
    expect(log(box)).toEqual(["two TERM", "one TERM"]);
  });
});

section(
  "stop under load",
  (it) => {
    it("drops no request that was accepted", async (box) => {
      const { run, url } = await startDemo(box);
      const wrk = Bun.spawn(["wrk", "-t1", "-c16", "-d4s", "--latency", url], { stdout: "pipe" });
      await eventually("1000 requests", () => run.stdout.lines.length > 1000);
      run.signal("SIGTERM");
      const { code, stopMs } = await run.exit();
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
