// Forks: each patch of test/forks is applied to entrypoint.ts, and the result does what it says.
import { afterAll, expect, test } from "bun:test";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import {
  ask,
  bun,
  demoApp,
  eventually,
  forever,
  freePort,
  isAlive,
  listener,
  onSignal,
  type Runtime,
  root,
  section,
  serve,
  startDemo,
  untilGo,
} from "./harness.ts";

const patches = path.join(root, "test/forks");
const names = fs.globSync("*.diff", { cwd: patches }).map((file) => path.basename(file, ".diff"));
// Beside node_modules, which a fork needs as well.
const directory = path.join(root, "dist/forks");
fs.mkdirSync(directory, { recursive: true });
for (const name of names) makeFork(name);
afterAll(() => fs.rmSync(directory, { recursive: true }));

/** A patched copy of the program. */
function makeFork(name: string): void {
  const file = sourceOf(name);
  fs.copyFileSync(path.join(root, "entrypoint.ts"), file);
  const input = fs.readFileSync(path.join(patches, `${name}.diff`));
  const { status, stdout } = spawnSync("patch", ["--fuzz=0", file], { input, encoding: "utf8" });
  if (status !== 0) throw new Error(`${name}.diff does not apply: ${stdout}`);
}

function sourceOf(name: string): string {
  return path.join(directory, `${name}.ts`);
}

function fork(name: string): Runtime {
  return { name, command: [bun, sourceOf(name)] };
}

test("a fork adds a few lines, and its page names it", () => {
  const page = fs.readFileSync(path.join(patches, "README.md"), "utf8");
  for (const name of names) {
    const diff = fs.readFileSync(path.join(patches, `${name}.diff`), "utf8");
    expect(diff.match(/^\+(?!\+)/gm)?.length ?? 99).toBeLessThanOrEqual(14);
    expect(page).toContain(`[${name}.diff](${name}.diff)`);
  }
});

test("a fork has the types of the program", () => {
  const include = names.map((name) => `${name}.ts`);
  const config = JSON.stringify({ extends: path.join(root, "tsconfig.json"), include });
  fs.writeFileSync(path.join(directory, "tsconfig.json"), config);
  const tsc = path.join(root, "node_modules/.bin/tsc");
  const { stdout } = spawnSync(tsc, ["-p", directory], { encoding: "utf8" });
  expect(stdout).toBe("");
}, 60_000);

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

section(
  "a fork",
  (it) => {
    it("tells at /healthz who is up", async (box) => {
      const [port, own, health] = [await freePort(), await freePort(), await freePort()];
      const web = `${serve(port)} & ${onSignal("TERM", "web", `${untilGo}; kill $!; exit 0`)}`;
      const lines = [
        `app: ${listener(own)}`,
        `web: until [ -e open ]; do sleep 0.01; done; ${web}; ${forever}`,
      ];
      const run = box.procfile(lines, { env: { PORT: `${port}`, HEALTH_PORT: `${health}` } });
      const healthz = () => ask(`http://127.0.0.1:${health}/healthz`);
      const becomes = (answer: string) =>
        eventually(answer, async () => (await healthz()) === answer);
      await becomes('503 {"app":true,"web":false}');
      box.write("open", "");
      await becomes('200 {"app":true,"web":true}');
      run.signal("SIGTERM");
      await becomes('503 {"app":true,"web":true}');
      box.write("go", "");
      expect((await run.exit()).code).toBe(0);
    });
  },
  [fork("health")],
);

section(
  "a fork",
  (it) => {
    it("stops one line after the other, from the last up", async (box) => {
      const slow = (name: string) =>
        `${name}: ${onSignal("TERM", name, `sleep 0.2; echo ${name} ends >>log; exit 0`)}; ${forever}`;
      const run = box.procfile(["a", "b", "c"].map(slow));
      await run.up("a", "b", "c");
      await run.stopsWell();
      expect(run.stderr.text).toContain("SIGTERM: stopping c, then b, then a");
      expect(box.lines("log")).toEqual(
        ["c", "b", "a"].flatMap((it) => [`${it} TERM`, `${it} ends`]),
      );
    });
  },
  [fork("one-by-one")],
);

section(
  "a fork",
  (it) => {
    it("has no JSON: each line is a line, also on Cloud Run", async (box) => {
      const { run, url } = await startDemo(box, { env: { K_SERVICE: "shop" } });
      expect(await ask(`${url}/no-such-page`)).toStartWith("404");
      await run.line(/^nginx \| .* "GET \/no-such-page HTTP\/1.1" 404 /);
      await run.stopsWell();
      const trace = box.procfile(["a: printf 'Error: x\\n    at f (a.js:1:2)\\nlast'; exit 3"]);
      expect((await trace.exit()).code).toBe(3);
      expect(trace.stdout.text).toBe("a | Error: x\na |     at f (a.js:1:2)\na | last");
      const json = box.procfile(["a: true"], { env: { ENTRYPOINT_LOG: "json" } });
      expect((await json.exit()).code).toBe(2);
      expect(json.stderr.text).toContain("ENTRYPOINT_LOG=json: must be text or raw");
    });
  },
  [fork("text")],
);
