// The forks of the README: each patch is applied to entrypoint.ts, and the result does what it says.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { $ } from "bun";
import {
  Box,
  bun,
  demoApp,
  eventually,
  forever,
  freePort,
  isAlive,
  onSignal,
  root,
} from "./harness.ts";

const readme = fs.readFileSync(path.join(root, "README.md"), "utf8");
const section = readme.split("## Fork it")[1]?.split("\n## ")[0] ?? "";
const diffs = [...section.matchAll(/```diff\n(.*?)```/gs)].map(([, diff = ""]) => diff);
// Beside node_modules, which a fork needs as well.
const directory = path.join(root, "dist/forks");

/** Patches a copy and starts a test's program from it. */
async function fork(name: string, mark: string): Promise<Box> {
  const diff = diffs.find((text) => text.includes(mark));
  const file = path.join(directory, `${name}.ts`);
  fs.copyFileSync(path.join(root, "entrypoint.ts"), file);
  await $`patch --silent --fuzz=0 ${file} < ${Buffer.from(diff ?? "")}`;
  return new Box({ name, command: [bun, file] });
}

describe("a fork", () => {
  beforeAll(() => fs.mkdirSync(directory, { recursive: true }));
  afterAll(() => fs.rmSync(directory, { recursive: true }));

  test("is a few lines", () => {
    expect(diffs).toHaveLength(3);
    for (const diff of diffs) {
      expect(diff.match(/^[-+](?![-+])/gm)?.length ?? 99).toBeLessThanOrEqual(8);
    }
  });

  test("with another front", async () => {
    const box = await fork("front", "caddy");
    const [port, appPort] = [await freePort(), await freePort()];
    const run = box.start([bun, demoApp], { env: { PORT: `${port}`, APP_PORT: `${appPort}` } });
    await run.line(/ready in .*caddy/);
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    expect([answer.status, answer.headers.get("server")]).toEqual([200, "Caddy"]);
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(await box.close()).toEqual([]);
  }, 30_000);

  test("with a process that is allowed to end", async () => {
    const box = await fork("end", "warm-up");
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
    expect(await box.close()).toEqual([]);
  }, 30_000);

  test("that starts a helper again", async () => {
    const box = await fork("helper", "helper");
    const helper = "helper: echo start >>starts; [ $(wc -l <starts) -gt 2 ] || exit 9; sleep 1000";
    const run = box.procfile([helper, `web: ${onSignal("TERM", "web")}; ${forever}`]);
    await run.line(/helper: exit code 9 .*: starting it again in 1 s/);
    await eventually("the third start", () => box.read("starts") === "start\n".repeat(3));
    run.signal("SIGTERM");
    expect((await run.exit()).code).toBe(0);
    expect(box.read("log")).toBe("web TERM\n");
    expect(await box.close()).toEqual([]);
  }, 30_000);
});
