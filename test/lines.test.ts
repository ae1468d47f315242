// Lines as people write them, from Procfiles and scripts that somebody runs: PORT= says where a process
// listens, and all of its line has it.

import { expect } from "bun:test";
import path from "node:path";
import {
  type Box,
  compiled,
  eventually,
  freePort,
  launchApp,
  runtimes,
  section,
} from "./harness.ts";

const N = "nginx: nginx -c $NGINX_CONF -e stderr";
/** A server at $PORT, and at its argument where it has one. */
const SERVER = `require("node:http").createServer((_, answer) => answer.end("here " + (process.env.PORT ?? "none")))
  .listen(process.argv[2] || process.env.PORT)`;

/** Starts it with a server in `srv` and in the working directory, and what else a line needs. */
async function started(box: Box, lines: string[], env: Record<string, string> = {}) {
  box.write("server.cjs", SERVER);
  box.write("srv/server.cjs", SERVER);
  box.write("migrate", "echo migrated >>migrations\n");
  const port = await freePort();
  const run = box.procfile(lines, { env: { PORT: `${port}`, ...env } });
  return { run, port };
}

const ask = async (port: number | string) => (await fetch(`http://127.0.0.1:${port}`)).text();

// A is the port of the app.
const forms: [what: string, line: string][] = [
  ["a directory", "PORT=A cd srv && node server.cjs"],
  ["a job in front", "PORT=A sh ./migrate && node server.cjs"],
  ["a loop in front", "PORT=A until sh ./migrate; do sleep 0.1; done; exec node server.cjs"],
  ["its own $PORT", "PORT=A node server.cjs $PORT"],
  [`its own \${PORT}, in quotes`, `PORT="A" exec node server.cjs "\${PORT}"`],
  ["more assignments", "X=1 PORT=A Y=$(echo 2) node server.cjs"],
  ["a stop signal", "STOPSIGNAL=INT PORT=A node server.cjs"],
  ["a subshell", "PORT=A (cd srv; node server.cjs)"],
  ["a condition", "PORT=A if true; then node server.cjs; fi"],
  ["a pipe", "PORT=A node server.cjs 2>&1 | cat"],
  ["a function", "PORT=A run() { node server.cjs; }; run"],
  ["an empty environment", 'env -i PATH="$PATH" PORT=A node server.cjs'],
  ["env behind exec", "exec env PORT=A node server.cjs"],
  ["&& directly behind", "PORT=A && node server.cjs"],
  ["; directly behind", "PORT=A; node server.cjs"],
  ["two servers in one line", "PORT=A node server.cjs & exec node server.cjs OTHER"],
  ["an ampersand in quotes", "PORT=A sh -c 'true & exec node server.cjs'"],
  ["a name of the environment", "PORT=$PLACE node server.cjs"],
  ["a name with a default", `PORT=\${NOWHERE:-A} node server.cjs`],
  ["a name that must be there", `PORT=\${PLACE:?no place} node server.cjs`],
];

section(
  "a line",
  (it) => {
    for (const [what, form] of forms)
      it(`has its port everywhere, with ${what}`, async (box) => {
        const [app, other] = [`${await freePort()}`, `${await freePort()}`];
        const line = form.replace(/\bA\b/, app).replace("OTHER", other);
        const { run, port } = await started(box, [`app: ${line}`, N], { PLACE: app });
        await run.line(/ready in .*app [\d.]+ m?s, nginx/);
        expect(await ask(port)).toBe(`here ${app}`);
        await run.stopsWell();
      });

    const publicPorts = [
      "$PORT",
      '"$PORT"',
      `\${PORT}`,
      `"\${PORT}"`,
      `\${PORT:-3000}`,
      `\${PORT-3000}`,
    ];
    for (const value of publicPorts)
      it(`with PORT=${value} is one at the public port`, async (box) => {
        const { run, port } = await started(box, [`web: PORT=${value} node server.cjs`]);
        await run.line(/ready in .*web/);
        expect(await ask(port)).toBe(`here ${port}`);
        await run.stopsWell();
        const two = box.procfile([`web: PORT=${value} true`, `worker: PORT=${value} true`]);
        expect((await two.exit()).code).toBe(0);
      });

    for (const nothing of ["PORT= ", "PORT='' ", 'X=1 PORT="" '])
      it(`with ${nothing}has no port, and nobody waits for it`, async (box) => {
        const metrics = await freePort();
        const worker = `worker: ${nothing}exec node server.cjs ${metrics}`;
        const { run } = await started(box, [worker, "web: node server.cjs"]);
        await run.line(/ready in .*: web/);
        await eventually("the worker", () => ask(metrics).catch(() => undefined));
        expect(await ask(metrics)).toBe("here none");
        await run.stopsWell();
        expect(run.stderr.text).not.toContain("worker: listens on");
        expect(run.stderr.text).toContain("stopping web, worker\n");
      });

    it("that is blank in front counts, and so does an indented comment", async (box) => {
      const { run } = await started(box, ["  # a comment", "\t job: exit 3"]);
      expect((await run.exit()).code).toBe(3);
    });

    it("is release: more than once, one after the other", async (box) => {
      const lines = ["release: sleep 0.1; echo 1 >>log", "web: exit 3", "release: echo 2 >>log"];
      const { run } = await started(box, lines);
      expect([(await run.exit()).code, box.read("log")]).toEqual([3, "1\n2\n"]);
      const failing = box.procfile(["release: exit 4", "release: touch second", "web: true"]);
      expect([(await failing.exit()).code, box.has("second")]).toEqual([4, false]);
    });

    it("keeps the variables that sh cannot name where it is plain", async (box) => {
      box.write("target/app-1.cjs", 'console.log(process.env["spring.datasource.url"])');
      const env = { "spring.datasource.url": "jdbc:x", NODE_OPTS: "--no-warnings", T: "target" };
      for (const line of [
        "node $NODE_OPTS target/*.cjs",
        `node \${NODE_OPTS} target/app-?.cjs`,
        `node "\${T}/app-1.cjs"`,
        'PORT=9001 exec node $NODE_OPTS "$T/app-1.cjs" a[b]',
      ]) {
        const { run } = await started(box, [`web: ${line}`], env);
        expect([line, (await run.exit()).code, run.stdout.text]).toEqual([
          line,
          0,
          "web | jdbc:x\n",
        ]);
      }
    });
  },
  runtimes.filter(({ name }) => ["compiled", "musl"].includes(name)),
);

section(
  "APP_PORT",
  (it) => {
    it("is where the only other line listens", async (box) => {
      const app = await freePort();
      const lines = ["release: true", `app: PORT=${app} node server.cjs`, N];
      const { run, port } = await started(box, lines);
      await run.line(/ready in .*app/);
      expect(await ask(port)).toBe(`here ${app}`);
      await run.stopsWell();
      const plan = box.start(["--check"]);
      await plan.exit();
      expect(plan.stdout.text).toMatch(new RegExp(`^app +${app} +until it listens`, "m"));
      expect(plan.stderr.text).toBe("");
    });

    it("is where the only other line listens, at a UNIX socket", async (box) => {
      const place = path.join(box.dir, "app.sock");
      const { run, port } = await started(box, [N, `app: PORT=${place} node server.cjs`]);
      await run.line(/ready in .*app/);
      expect(await ask(port)).toBe(`here ${place}`);
      await run.stopsWell();
    });

    it("may be written by the front first: it starts behind its app", async (box) => {
      const app = `${await freePort()}`;
      const lines = [N, "app: PORT=$APP_PORT node server.cjs", "beat: sleep 1000"];
      const { run, port } = await started(box, lines, { APP_PORT: app });
      await run.line(/ready in/);
      expect(await ask(port)).toBe(`here ${app}`);
      const plan = box.start(["--check"]);
      await plan.exit();
      const names = plan.stdout.lines.map((row) => row.split(" ")[0]);
      expect(names).toEqual(["NAME", "app", "nginx", "beat"]);
      await run.stopsWell();
      expect(run.stderr.text).toContain("stopping beat, nginx, then app\n");
    });

    const nobody: [what: string, lines: string[], told: boolean, env?: Record<string, string>][] = [
      ["nobody", ["app: cat", N], true],
      ["two others", ["one: PORT=9001 cat", "two: PORT=9002 cat", N], true],
      ["another than the environment says", ["app: PORT=9001 cat", N], true, { APP_PORT: "9002" }],
      ["one that nobody needs", ["app: PORT= cat", N], true],
      ["its app", ["app: PORT=$APP_PORT cat", "db: PORT=9001 cat", N], false],
      ["its app by number", ["app: PORT=8081 cat", "db: PORT=9001 cat", N], false],
      ["the only line", ["release: cat", "app: PORT=9001 cat", N], false],
      ["the only line that somebody needs", ["m: PORT= cat", "app: PORT=9001 cat", N], false],
    ];
    for (const [what, lines, told, env] of nobody)
      it(`where nginx finds ${what} is ${told ? "" : "not "}told of`, async (box) => {
        const { run } = await started(box, lines, env);
        await run.exit(); // cat has nothing to read
        const check = box.start(["--check"], env ? { env } : {});
        expect((await check.exit()).code).toBe(0);
        for (const { stderr } of [run, check])
          expect(stderr.text.includes("nginx: nginx finds nobody at APP_PORT=")).toBe(told);
        if (told) expect(check.stderr.text).toContain("write PORT=$APP_PORT");
      });

    it("may be the public port where nobody uses it", async (box) => {
      const port = `${await freePort()}`;
      const { run } = await started(box, ["web: node server.cjs"], { PORT: port, APP_PORT: port });
      await run.line(/ready in .*web/);
      await run.stopsWell();
      for (const lines of [
        ["app: PORT=$APP_PORT true", "web: true"],
        ["app: true", N],
      ]) {
        const used = box.procfile(lines, { env: { PORT: port, APP_PORT: port } });
        expect((await used.exit()).code).toBe(2);
      }
    });

    it("of a COMMAND is the one of the environment", async (box) => {
      box.write("server.cjs", SERVER);
      const { run, url, appPort } = await launchApp(box, ["node", "server.cjs"]);
      await run.line(/ready in .*app/);
      expect(await (await fetch(url)).text()).toBe(`here ${appPort}`);
      await run.stopsWell();
    });
  },
  [compiled],
);
