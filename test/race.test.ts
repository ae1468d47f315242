// The first exit ends the container.

import { expect } from "bun:test";
import os from "node:os";
import path from "node:path";
import { forever, onBun, onSignal, section, untilGo } from "./harness.ts";

section("the race", (it) => {
  it("is won by the first exit, whatever its code, and the others get SIGTERM", async (box) => {
    for (const code of [3, 0, 1, 77, 255]) {
      const run = box.procfile([
        `one: ${onSignal("TERM", "one")}; ${forever}`,
        `two: ${untilGo}; exit ${code}`,
        `three: ${onSignal("TERM", "three", "exit 9")}; ${forever}`,
      ]);
      await run.up("one", "three");
      box.write("go", "");
      expect((await run.exit()).code).toBe(code);
      expect(run.stderr.text).not.toContain("killed");
      expect(box.lines("log").sort()).toEqual(["one TERM", "three TERM"]);
      expect(run.stderr.text).toMatch(
        new RegExp(`^entrypoint \\| two: exit code ${code} after [\\d.]+ m?s`, "m"),
      );
      box.remove("go", "log");
    }
  });

  it("has 128+n for who was killed by signal n", async (box) => {
    for (const name of ["KILL", "TERM", "SEGV", "HUP", "ABRT", "INT", "USR1", "PIPE"] as const) {
      const run = box.procfile([
        `up: ${forever}`,
        `dead: ulimit -c 0; kill -${name} $$; ${forever}`,
      ]);
      const { code } = await run.exit();
      expect([name, code]).toEqual([name, 128 + os.constants.signals[`SIG${name}`]]);
      expect(run.stderr.text).toMatch(
        new RegExp(`^entrypoint \\| dead: killed by SIG${name} after`, "m"),
      );
    }
  });

  it("with 0 gives the others the whole grace, and says how to end alone", async (box) => {
    const run = box.procfile([
      `one: ${onSignal("TERM", "one", "sleep 1.5; echo finished; exit 0")}; ${forever}`,
      `two: sleep 1; ${untilGo}; exit 0`,
    ]);
    await run.up("one");
    box.write("go", "");
    expect((await run.exit()).code).toBe(0);
    expect(run.stdout.lines).toContain("one | finished");
    expect(run.stderr.text).toMatch(
      /^entrypoint \| two: exit code 0 .*`release:`.*sleep infinity/m,
    );
  });

  it("asks with STOPSIGNAL when another has crashed", async (box) => {
    const run = box.procfile([
      `one: STOPSIGNAL=INT sh -c "${onSignal("INT", "one")}; ${forever}"`,
      `two: ${untilGo}; exit 3`,
    ]);
    await run.up("one");
    box.write("go", "");
    expect((await run.exit()).code).toBe(3);
    expect(box.read("log")).toBe("one INT\n");
  });

  it("does not call a slow reader a daemon", async (box) => {
    const run = box.procfile(["job: seq 30000"], { unread: "stdout" });
    const line = run.line(/^entrypoint \| job: exit code 0/);
    await Bun.sleep(300); // the reader's
    run.read();
    await line;
    expect((await run.exit()).code).toBe(0);
    expect(run.stderr.text).not.toContain("background");
    expect(run.stdout.lines).toHaveLength(30_000);
  });

  it("waits half the grace for a sibling that ignores SIGTERM, and no more", async (box) => {
    const run = box.procfile([`deaf: trap '' TERM; ${forever}`, `dead: ${untilGo}; exit 3`], {
      env: { ENTRYPOINT_GRACE: "6" },
    });
    await run.up("deaf");
    const before = performance.now();
    box.write("go", "");
    expect((await run.exit()).code).toBe(3);
    const delay = performance.now() - before;
    expect(delay).toBeGreaterThan(2990);
    expect(delay).toBeLessThan(5900);
  });

  it("lets a web server answer that stands beside a worker that crashes", async (box) => {
    const run = box.procfile([
      `web: ${onSignal("TERM", "web", "sleep 1.5; echo web ends >>log; exit 0")}; ${forever}`,
      `worker: ${untilGo}; exit 3`,
    ]);
    await run.up("web");
    box.write("go", "");
    expect((await run.exit()).code).toBe(3);
    expect(box.lines("log")).toEqual(["web TERM", "web ends"]);
  });

  it("leaves no grandchild, not even one that ignores SIGTERM", async (box) => {
    // The box complains of what is left; here we make sure that there was something to leave.
    const run = box.procfile([
      "deaf: trap '' TERM; sleep 1001 & sh -c 'sleep 1002 & wait' & echo up; wait",
      "heir: sleep 1003 & echo up; wait",
      `dead: sleep 1004 & ${untilGo}; exit 5`,
    ]);
    await run.up("deaf", "heir");
    for (const seconds of [1001, 1002, 1003, 1004])
      await run.descendant(new RegExp(`^sleep ${seconds}$`));
    box.write("go", "");
    expect((await run.exit()).code).toBe(5);
    expect(run.stderr.text).not.toContain("daemon off");
  });

  it("tells who has daemonized, with the cure for nginx", async (box) => {
    const run = box.procfile(["web: sleep 1000 & exit 0"]);
    expect((await run.exit()).code).toBe(0);
    expect(run.stderr.text).toMatch(/^entrypoint \| web: .*`?daemon off;/m);
    const plain = box.procfile(["web: exit 0"]);
    await plain.exit();
    expect(plain.stderr.text).not.toContain("lives on");
  });

  // What a line that ends at once is likely to be.
  const atOnce: [line: string, cure: RegExp, daemon?: RegExp][] = [
    ["console: echo console", /`release:` line, .*build/],
    ["assets: true && true", /`release:` line, .*build/],
    ["web: sleep 1000 &", /the & at the end of its line/],
    ["web: (sleep 1000) & ", /the & at the end of its line/],
    ["web: sh -c 'sleep 1000 &'", /lives on in the background/],
    ["web: setsid sh -c 'exec sleep 1' & exit 0", /lives on|done at once/, /^sleep/],
    ["web: echo /usr/sbin/nginx", /foreground .*`daemon off;`/],
    ["cache: true service redis start", /foreground/],
  ];
  for (const [line, cure, daemon] of atOnce)
    it(`names what has ended at once: ${line}`, async (box) => {
      box.mayEscape = daemon;
      const run = box.procfile(["other: exec sleep 1000", line]);
      expect((await run.exit()).code).toBe(0);
      expect(run.stderr.text).toMatch(cure);
      expect(run.stderr.text).not.toContain("sleep infinity");
    });

  it("names bash's &>, which is an & to dash", async (box) => {
    if (box.runtime.path) return; // BusyBox's sh has it, too
    const run = box.procfile(["other: exec sleep 1000", "web: sleep 1000 &>log"]);
    expect((await run.exit()).code).toBe(0);
    expect(run.stderr.text).toMatch(/^entrypoint \| web: .*&> is bash's.*write >FILE 2>&1$/m);
  });

  it("tells it of a real nginx, which leaves its group", async (box) => {
    box.mayEscape = /nginx/;
    for (const [log, access] of [
      ["stderr", "/dev/stdout"],
      [`${box.dir}/errors`, "off"],
    ] as const) {
      const conf = box.write(
        "nginx.conf",
        `pid ${box.dir}/pid-${path.basename(log)}; error_log ${log}; events {} http { access_log ${access}; }`,
      );
      const run = box.procfile([`web: nginx -c ${conf} -e ${log}`]);
      expect((await run.exit()).code).toBe(0);
      expect(run.stderr.text).toMatch(/^entrypoint \| web: .*`?daemon off;/m);
    }
  });

  it("is decided once: later exits change nothing", async (box) => {
    const run = box.procfile([
      `one: ${onSignal("TERM", "one", "kill -SEGV $$")}; ulimit -c 0; ${forever}`,
      `two: ${onSignal("TERM", "two", "exit 44")}; ${forever}`,
      `dead: ${untilGo}; exit 6`,
    ]);
    await run.up("one", "two");
    box.write("go", "");
    expect((await run.exit()).code).toBe(6);
    expect(run.stderr.lines.filter((line) => /exit code|killed by/.test(line))).toHaveLength(1);
  });

  it("goes to one of two that end at the same time", async (box) => {
    const run = box.procfile(["a: exit 3", "b: exit 4"]);
    expect([3, 4]).toContain((await run.exit()).code);
  });
});

section(
  "the race",
  (it) => {
    // Node and Deno cannot tell such an end from an exit with 0.
    it("has 128+n for who was killed by a real-time signal", async (box) => {
      for (const signal of [34, 35, 50, 64]) {
        const run = box.procfile([`up: ${forever}`, `dead: kill -${signal} $$`]);
        expect((await run.exit()).code).toBe(128 + signal);
        expect(run.stderr.text).toMatch(
          new RegExp(`^entrypoint \\| dead: killed by signal ${signal} after`, "m"),
        );
      }
    });
  },
  onBun,
);
