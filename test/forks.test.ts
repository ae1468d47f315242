// Forks: each patch of test/forks is applied to entrypoint.ts, and the result does what it says.
import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {
  bun,
  demoApp,
  eventually,
  forever,
  freePort,
  isAlive,
  onSignal,
  type Runtime,
  root,
  section,
} from "./harness.ts";

const patches = path.join(root, "test/forks");
// Beside node_modules, which a fork needs as well.
const directory = path.join(root, "dist/forks");
fs.mkdirSync(directory, { recursive: true });
afterAll(() => fs.rmSync(directory, { recursive: true }));

/** A patched copy of the program. */
function fork(name: string): Runtime {
  const file = path.join(directory, `${name}.ts`);
  fs.copyFileSync(path.join(root, "entrypoint.ts"), file);
  const input = fs.readFileSync(path.join(patches, `${name}.diff`));
  const { status, stdout } = spawnSync("patch", ["--fuzz=0", file], { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`${name}.diff does not apply: ${stdout}`);
  return { name, command: [bun, file] };
}

test("a fork is a few lines", () => {
  const names = fs.readdirSync(patches);
  expect(names).toHaveLength(4);
  for (const name of names) {
    const diff = fs.readFileSync(path.join(patches, name), "utf8");
    expect(diff.match(/^[-+](?![-+])/gm)?.length ?? 99).toBeLessThanOrEqual(8);
  }
});

section(
  "a fork",
  (it) => {
    it("has another front", async (box) => {
      const [port, appPort] = [await freePort(), await freePort()];
      const run = box.start([bun, demoApp], { env: { PORT: `${port}`, APP_PORT: `${appPort}` } });
      await run.line(/ready in .*caddy/);
      const answer = await fetch(`http://127.0.0.1:${port}/`);
      expect([answer.status, answer.headers.get("server")]).toEqual([200, "Caddy"]);
      run.signal("SIGTERM");
      expect((await run.exit()).code).toBe(0);
    });
  },
  [fork("caddy")],
);

section(
  "a fork",
  (it) => {
    it("has a process that is allowed to end", async (box) => {
      const web = `web: ${onSignal("TERM", "web")}; ${forever}`;
      const run = box.procfile(["warm-up: exec sleep 0.3", web]);
      const warmUp = await run.descendant(/^sleep 0.3/);
      await run.line(/^web +\| up/);
      await eventually("the end of the warm-up", () => !isAlive(warmUp));
      await Bun.sleep(200); // for nothing to happen
      run.signal("SIGTERM");
      expect((await run.exit()).code).toBe(0);
      expect(run.stderr.text).not.toContain("warm-up: exit code");
      expect(box.read("log")).toBe("web TERM\n");
      const failing = box.procfile(["warm-up: exit 4", web]);
      expect((await failing.exit()).code).toBe(4);
    });
  },
  [fork("warm-up")],
);

section(
  "a fork",
  (it) => {
    it("starts a helper again", async (box) => {
      const helper = "echo start >>starts; [ $(wc -l <starts) -gt 2 ] || exit 9; sleep 1000";
      const run = box.procfile([
        `helper: ${helper}`,
        `web: trap 'echo got HUP' HUP; ${onSignal("TERM", "web")}; ${forever}`,
      ]);
      await run.line(/helper: exit code 9 .*: starting it again in 1 s/);
      await eventually("the third start", () => box.read("starts") === "start\n".repeat(3));
      run.signal("SIGHUP");
      await run.line(/^web +\| got HUP/);
      run.signal("SIGTERM");
      expect((await run.exit()).code).toBe(0);
      expect(box.read("log")).toBe("web TERM\n");
    });
  },
  [fork("helper")],
);

section(
  "a fork",
  (it) => {
    it("has the time in front of each line", async (box) => {
      const run = box.procfile(["a: echo one; echo two; sleep 0.1; printf three; exit 3"]);
      expect((await run.exit()).code).toBe(3);
      const lines = run.stdout.text.split("\n");
      for (const [i, word] of ["one", "two", "three"].entries())
        expect(lines[i]).toMatch(new RegExp(`^[\\d-]{10}T[\\d:.]{12}Z a \\| ${word}$`));
      expect(lines).toHaveLength(3);
    });
  },
  [fork("time")],
);
