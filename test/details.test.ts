// What details.md says of log files, secrets, users and the like: each Procfile of it, checked and run.

import { expect, test } from "bun:test";
import fs from "node:fs";
import { type Box, compiled, fences, freePort, isRoot, onSignal, section } from "./harness.ts";

const [secret = "", user = "", metrics = "", desktop = ""] = fences("test/details.md", "procfile");

test("each Procfile of the page is looked at here", () => {
  expect(fences("test/details.md", "procfile")).toHaveLength(4);
});

function script(box: Box, name: string, text: string): void {
  fs.chmodSync(box.write(name, `#!/bin/sh\n${text}\n`), 0o755);
}

section(
  "what people ask for",
  (it) => {
    const start = async (box: Box, text: string) => {
      box.write("Procfile", text);
      return box.start([], { env: { PORT: `${await freePort()}` } });
    };

    it("a secret from a file is in that process alone", async (box) => {
      box.write("secrets/db", "open sesame\n");
      script(box, "app", 'echo "<$DB_PASSWORD>"; while :; do sleep 0.02; done');
      const run = await start(box, `${secret}other: echo "<$DB_PASSWORD>"; exec sleep 1000\n`);
      await run.line(/^app {3}\| <open sesame>$/);
      await run.line(/^other \| <>$/);
      await run.stopsWell();
    });

    if (isRoot)
      it("another user, and its HOME", async (box) => {
        script(box, "app", 'echo "$(id -un) $HOME"; exec sleep 1000');
        const run = await start(box, user);
        await run.line(/^app \| nobody \/tmp$/);
        await run.stopsWell();
      });

    it("a worker with a port for metrics is asked at once, and not waited for", async (box) => {
      script(
        box,
        "worker",
        `${onSignal("TERM", "worker")}; busybox httpd -f -p 127.0.0.1:$METRICS_PORT & echo up; wait`,
      );
      const port = `${await freePort()}`;
      const front = `web: ${onSignal("TERM", "web", "sleep 0.3; exit 0")}; echo up; while :; do sleep 0.02; done`;
      const run = await start(box, `${metrics.replace("9100", port)}${front}\n`);
      await run.up("worker", "web");
      await run.stopsWell();
      expect(box.lines("log").sort()).toEqual(["web TERM", "worker TERM"]);
      expect(run.stderr.text).toMatch(/stopping worker, web|stopping web, worker/);
    });

    it("a desktop has no mistake", async (box) => {
      for (const name of ["Xvfb", "x11vnc", "websockify"]) script(box, `bin/${name}`, "");
      box.write("Procfile", desktop);
      const run = box.start(["--check"], { env: { PATH: `${box.dir}/bin:/usr/bin:/bin` } });
      expect([(await run.exit()).code, run.stderr.text]).toEqual([0, ""]);
      expect(run.stdout.text).toMatch(/^display +\/tmp\/\.X11-unix\/X97 +until it listens /m);
    });
  },
  [compiled],
);

section(
  "a log file",
  (it) => {
    const logged = {
      "a link to /dev/stdout": "app: ln -sf /dev/stdout app.log; exec ./app app.log",
      "a FIFO and a cat": "app: mkfifo app.log; cat app.log & exec ./app app.log",
    };
    for (const [what, line] of Object.entries(logged))
      it(`${what} loses no line, the last one included`, async (box) => {
        script(
          box,
          "app",
          'exec >>"$1"; trap "echo last; exit 0" TERM; echo first; while :; do sleep 0.02; done',
        );
        const run = box.procfile([line], { env: { PORT: `${await freePort()}` } });
        await run.line(/^app \| first$/);
        await run.stopsWell();
        expect(run.stdout.lines).toEqual(["app | first", "app | last"]);
      });
  },
  [compiled],
);
