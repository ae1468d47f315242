// The core of what it does, with the executable for arm64: what it starts is this machine's own.

import { describe, expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { LABELS } from "./entries.ts";
import {
  forever,
  freePort,
  launchApp,
  onSignal,
  onTerminal,
  type Runtime,
  root,
  section,
  serve,
  startDemo,
  untilGo,
} from "./harness.ts";

const libraries = "/usr/aarch64-linux-gnu";
const arm64: Runtime = {
  name: "arm64",
  command: ["qemu-aarch64", "-L", libraries, path.join(root, "dist/entrypoint-linux-arm64")],
};

/** An exit code, and what is said of it. */
const ends: [what: string, line: string, code: number, says: RegExp][] = [
  ["a code", "exit 3", 3, /^entrypoint \| web: exit code 3 after/m],
  ["a signal", "kill -KILL $$", 137, /^entrypoint \| web: killed by SIGKILL after/m],
];

function tests(): void {
  section(
    "the core",
    (it) => {
      it("starts top-down, each process once the one above listens", async (box) => {
        const port = await freePort();
        const run = box.procfile([
          "release: echo release >>log",
          `app: PORT=${port} sh -c 'sleep 0.3; echo app >>log; exec ${serve(port)}'`,
          `web: echo web >>log; ${forever}`,
        ]);
        await run.up("web");
        await run.stopsWell();
        expect(box.lines("log")).toEqual(["release", "app", "web"]);
        expect(run.stderr.text).toContain("SIGTERM: stopping web, then app");
      });

      it("puts COMMAND behind nginx, and a stop drains both", async (box) => {
        const { run, url } = await startDemo(box);
        expect(await (await fetch(url)).text()).toContain("Hello from the app");
        const picture = await fetch(`${url}/static/picture.svg`);
        expect(picture.headers.get("content-type")).toBe("image/svg+xml");
        const slow = fetch(`${url}/slow?ms=1500`);
        await run.line(/^app +\| GET \/slow/);
        run.signal("SIGTERM");
        expect(await (await slow).text()).toBe("slow, but here\n");
        expect((await run.exit()).code).toBe(0);
        expect(run.stderr.text).toContain("SIGTERM: stopping nginx, then app");
      });

      for (const [what, line, code, says] of ends)
        it(`fails fast with ${what}: ${code}`, async (box) => {
          const run = box.procfile([
            `other: ${onSignal("TERM", "other")}; ${forever}`,
            `web: ${untilGo}; ${line}`,
          ]);
          await run.up("other");
          box.write("go", "");
          expect((await run.exit()).code).toBe(code);
          expect(box.lines("log")).toEqual(["other TERM"]);
          expect(run.stderr.text).toMatch(says);
        });

      it("gives up on who does not listen in time: 1", async (box) => {
        const run = box.procfile([`app: PORT=${await freePort()} sleep 1000`, "web: true"], {
          env: { ENTRYPOINT_READY: "0.5" },
        });
        expect((await run.exit()).code).toBe(1);
        expect(run.stderr.text).toMatch(/^entrypoint \| app: did not listen on port/m);
      });

      it("names the program that is missing: 127", async (box) => {
        const { run } = await launchApp(box, ["./missing"]);
        expect((await run.exit()).code).toBe(127);
        expect(run.stderr.text).toMatch(/^entrypoint \| app: .*\(\.\/missing not found\)/m);
      });

      it("says where the Procfile is wrong: 2", async (box) => {
        const run = box.procfile(["web: true", "nonsense"]);
        expect((await run.exit()).code).toBe(2);
        expect(run.stderr.text).toMatch(/^entrypoint \| Procfile:2: /m);
      });

      it("kills at the end of the grace: 137", async (box) => {
        const run = box.procfile([`deaf: trap '' TERM; ${forever}`], {
          env: { ENTRYPOINT_GRACE: "1" },
        });
        await run.up("deaf");
        expect((await run.stop()).code).toBe(137);
        expect(run.stderr.text).toContain("entrypoint | deaf: did not stop in time: killed");
      });

      it("writes each line with its name, and loses none", async (box) => {
        const last = 200_000;
        const run = box.procfile(["err: printf 'é\\n\\nno newline' >&2", `release: seq ${last}`]);
        await run.exit();
        const numbers = Array.from({ length: last }, (_, i) => `release | ${i + 1}`);
        expect(run.stdout.lines).toEqual(numbers);
        const own = run.stderr.lines.filter((line) => line.startsWith("err"));
        expect(own).toEqual(["err     | é", "err     | ", "err     | no newline"]);
      });

      it("writes JSON", async (box) => {
        const object = '{"message": "m", "n": 12345678901234567890}';
        const run = box.procfile([`app: echo '${object}'; echo plain; exit 3`], {
          env: { ENTRYPOINT_LOG: "json" },
        });
        expect((await run.exit()).code).toBe(3);
        const labels = { [LABELS]: { process: "app" } };
        const [own = "", plain = ""] = run.stdout.lines;
        expect(own).toContain("12345678901234567890");
        expect(JSON.parse(own)).toMatchObject({ message: "m", ...labels });
        expect(JSON.parse(plain)).toMatchObject({ message: "plain", ...labels });
        const said = run.stderr.lines.map((line) => JSON.parse(line));
        expect(said).toContainEqual(expect.objectContaining({ severity: "ERROR" }));
      });

      it("is coloured on a terminal, and stops at Ctrl-C's signal", async (box) => {
        const run = box.procfile([`web: ${onSignal("TERM", "web")}; ${forever}`], {
          wrap: onTerminal(),
        });
        await run.line(/\[36mweb\S* \| up/);
        run.remember();
        process.kill(Number(box.read("pid")), "SIGINT");
        expect((await run.exit()).code).toBe(0);
        expect(box.lines("log")).toEqual(["web TERM"]);
      });
    },
    [arm64],
  );
}

const there = Bun.which("qemu-aarch64") !== null && fs.existsSync(libraries);

describe("arm64", () => {
  if (process.arch === "arm64") test.skip("the core (skipped: all tests run on it here)", () => {});
  else if (there) tests();
  else if (process.env.CI !== "true")
    test.skip("the core (skipped: there is no qemu-aarch64)", () => {});
  else
    test("the core", () => {
      throw new Error("there is no qemu-aarch64, and with CI=true there must be one");
    });
});
