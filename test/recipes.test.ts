// The recipes of the README: its own text, with the real programs.

import { expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { devDependencies } from "../package.json";
import {
  type Box,
  bun,
  compiled,
  demoApp,
  eventually,
  freePort,
  type Run,
  root,
  section,
  staticFiles,
} from "./harness.ts";
import { Greeter } from "./recipes/grpc-web/greet_pb.ts";

// ---- The README's text

const readme = fs.readFileSync(path.join(root, "README.md"), "utf8");
const recipes = readme.slice(readme.indexOf("\n## Recipes\n"), readme.indexOf("\n## Fork it\n"));

/** The fenced blocks of a text, with the language that they are said to be in. */
function blocks(text: string): { language: string; block: string }[] {
  const fences = [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)];
  return fences.map(([, language = "", block = ""]) => ({ language, block }));
}

/** The files of a recipe: blocks that open with `# NAME`. */
function filesOf(title: string): Map<string, string> {
  const text = recipes.split("\n### ").find((part) => part.startsWith(`${title}\n`)) ?? "";
  const files = new Map<string, string>();
  for (const { block } of blocks(text)) {
    const name = /^# (\S+)\n/.exec(block)?.[1];
    if (name) files.set(name, block);
  }
  if (!files.has("Procfile")) throw new Error(`no recipe with a Procfile: ${title}`);
  return files;
}

function replaced(text: string, words: Record<string, string | number>): string {
  const any = new RegExp(Object.keys(words).map(RegExp.escape).join("|"), "g");
  return text.replace(any, (word) => `${words[word]}`);
}

// ---- A recipe in a box

interface Recipe {
  run: Run;
  url: string;
}

interface Ingredients {
  /** The folder of test/recipes/ with the recipe's app. */
  app?: string;
  /** What stands in place of a word of the recipe, beside the ports and /tmp/. */
  words?: Record<string, string>;
  env?: Record<string, string>;
}

/** Lays the files out as an image would have them. */
async function prepare(box: Box, title: string, { app, words }: Ingredients) {
  const [port, appPort] = [await freePort(), await freePort()];
  const ports: Record<string, number> = { 8080: port, 8081: appPort };
  for (const other of [8082, 50051, 8888, 11211, 6379]) ports[other] = await freePort();
  const instead = { ...words, ...ports, "/tmp/": `${box.dir}/` };

  if (app) fs.cpSync(path.join(import.meta.dir, "recipes", app), box.dir, { recursive: true });
  else box.write("server", `#!/bin/sh\nexec bun ${demoApp}\n`);
  if (!app) fs.chmodSync(path.join(box.dir, "server"), 0o755);
  for (const [name, text] of filesOf(title)) box.write(name, replaced(text, instead));
  fs.symlinkSync(path.join(root, "node_modules"), path.join(box.dir, "node_modules"));

  const bin = path.join(box.base, "bin");
  fs.mkdirSync(bin);
  fs.symlinkSync(bun, path.join(bin, "bun"));
  fs.symlinkSync(path.join(root, "node_modules/.bin/node"), path.join(bin, "node"));
  const PATH = `${bin}:/usr/sbin:/usr/bin:/sbin:/bin`; // Debian's python3, not one of this machine
  return { instead, env: { PATH, PORT: `${port}`, APP_PORT: `${appPort}` }, port };
}

/** Starts a recipe, once `RUN entrypoint --check` has found nothing wrong. */
async function cook(box: Box, title: string, ingredients: Ingredients = {}): Promise<Recipe> {
  const prepared = await prepare(box, title, ingredients);
  const env = { ...prepared.env, ...ingredients.env };
  const check = box.start(["--check"], { env });
  expect((await check.exit()).code).toBe(0);
  expect(check.stderr.text).toBe("");
  const run = box.start([], { env });
  await run.line(/ready in .* m?s: (?!.*does not listen)/);
  return { run, url: `http://127.0.0.1:${prepared.port}` };
}

async function stop({ run }: Recipe): Promise<void> {
  run.signal("SIGTERM");
  expect((await run.exit()).code).toBe(0);
}

async function get(url: string): Promise<string> {
  try {
    const answer = await fetch(url, { keepalive: false });
    return `${answer.status} ${await answer.text()}`;
  } catch (error) {
    return `${error}`;
  }
}

section(
  "a reverse proxy",
  (it) => {
    for (const title of ["HAProxy", "Caddy", "Varnish"])
      it(`${title} answers what is under way at a stop`, async (box) => {
        const { run, url } = await cook(box, title);
        expect(await get(url)).toStartWith("200 <!doctype html>");
        const requests = Array.from({ length: 20 }, (_, i) => get(`${url}/slow?ms=1500&i=${i}`));
        const inApp = () => run.stdout.lines.filter((line) => line.endsWith("| GET /slow"));
        await eventually("20 requests in the app", () => inApp().length === 20);
        run.signal("SIGTERM");
        expect(await Promise.all(requests)).toEqual(Array(20).fill("200 slow, but here\n"));
        const { code } = await run.exit();
        expect([code, await get(url)]).toEqual([0, expect.stringContaining("Unable to connect")]);
      });

    for (const title of ["HAProxy", "Caddy"])
      it(`${title} gives up what takes too long, before it is killed`, async (box) => {
        const ingredients = { words: { "7s": "1s" }, env: { ENTRYPOINT_GRACE: "4" } };
        const { run, url } = await cook(box, title, ingredients);
        const request = get(`${url}/slow?ms=60000`);
        await run.line(/\| GET \/slow/);
        run.signal("SIGTERM");
        expect((await run.exit()).code).toBe(0);
        expect(await request).not.toStartWith("200");
      });
  },
  [compiled],
);

section(
  "a server that is not HTTP",
  (it) => {
    it("speaks gRPC-Web with a client of it", async (box) => {
      const recipe = await cook(box, "gRPC-Web", { app: "grpc-web" });
      const greeter = createClient(Greeter, createGrpcWebTransport({ baseUrl: recipe.url }));
      expect((await greeter.hello({ name: "you" })).text).toBe("Hello, you");
      const numbers: number[] = [];
      for await (const { number } of greeter.count({ to: 3 })) numbers.push(number);
      expect(numbers).toEqual([1, 2, 3]);
      await recipe.run.line(/^grpc {2}\| Hello you$/);
      await recipe.run.line(/^nginx \| .*"POST \/greet\.Greeter\/Count HTTP\/1\.1" 200 /);

      // One that goes on and on: what arrives has not waited for its end.
      const leaving = new AbortController();
      const stream = greeter.count({ to: 1_000_000 }, { signal: leaving.signal });
      const first = await stream[Symbol.asyncIterator]().next();
      expect(first.value?.number).toBe(1);
      leaving.abort();
      await stop(recipe);
    });
  },
  [compiled],
);

section(
  "a local proxy for outbound traffic",
  (it) => {
    it("is what an app reaches a server through, from its start on", async (box) => {
      const server = Bun.serve({
        hostname: "127.0.0.1",
        port: 0,
        fetch: ({ headers }) =>
          /tinyproxy/.test(headers.get("via") ?? "")
            ? new Response("hello")
            : new Response("only through the proxy", { status: 401 }),
      });
      try {
        const api = `http://127.0.0.1:${server.port}/`;
        expect(await get(api)).toBe("401 only through the proxy");
        const recipe = await cook(box, "A proxy for outbound requests", {
          app: "outbound",
          words: { "api[.]example[.]com": "127[.]0[.]0[.]1" },
          env: { API: api },
        });
        expect(recipe.run.stdout.lines).toContain("app   | 200 hello");
        expect(await get(`${recipe.url}/?${api}`)).toBe("200 hello");
        const notAllowed = api.replace("127.0.0.1", "localhost");
        expect(await get(`${recipe.url}/?${notAllowed}`)).toBe("403 Filtered");
        await recipe.run.line(/^proxy \| .*GET http:\/\/127\.0\.0\.1/);
        await stop(recipe);
      } finally {
        await server.stop(true);
      }
    });
  },
  [compiled],
);

section(
  "a cache of the instance",
  (it) => {
    it("is there for the app's first request", async (box) => {
      const recipe = await cook(box, "A cache beside the app", { app: "cache" });
      const seen: string[] = [];
      for (const key of ["a", "b", "a"]) {
        const answer = await fetch(`${recipe.url}/${key}`);
        seen.push(`${await answer.text()} ${answer.headers.get("x-cache")}`);
      }
      expect(seen).toEqual(["A miss", "B miss", "A hit"]);
      await stop(recipe);
    });
  },
  [compiled],
);

section(
  "processes that work together",
  (it) => {
    it("a migration, Redis, a web app and its worker", async (box) => {
      const title = "A web app and its worker";
      const recipe = await cook(box, title, { app: "worker" });
      const { run, url } = recipe;
      expect(run.stdout.lines[0]).toBe("release | migrated, 0 jobs");
      const job = await fetch(url, { method: "POST", body: "shout" });
      expect([job.status, await job.text()]).toEqual([202, "1"]);
      await eventually("the job's result", async () => (await get(`${url}/1`)) === "200 SHOUT");
      await run.line(/^worker {2}\| did job 1$/);
      await stop(recipe);

      box.write("app.db", "this is no database");
      const broken = box.start([], { env: { PATH: `${box.base}/bin:/usr/sbin:/usr/bin:/bin` } });
      expect((await broken.exit()).code).toBe(1);
      expect(broken.stderr.text).toContain("file is not a database");
      expect(broken.stdout.text).not.toContain("redis");
    });
  },
  [compiled],
);

section(
  "the article's repository",
  (it) => {
    it("a Flask app, its nginx.conf and a picture", async (box) => {
      const title = "The article's own repository";
      fs.cpSync(staticFiles, path.join(box.dir, "static"), { recursive: true });
      const { env, instead, port } = await prepare(box, title, { app: "article" });
      const url = `http://127.0.0.1:${port}`;
      const conf = fs.readFileSync(path.join(import.meta.dir, "article/nginx.conf"), "utf8");
      const asThere = {
        "127.0.0.1:8081": `localhost:${env.APP_PORT}`,
        "root .;": `alias ${box.dir}/static/;`,
      };
      box.write("nginx.conf", replaced(conf, { ...asThere, ...instead }));

      const run = box.start([], { env });
      await run.line(/ready in/);
      expect(await get(url)).toBe("200 Hello from Flask\n");
      const picture = fs.readFileSync(path.join(staticFiles, "picture.svg"), "utf8");
      expect(await get(`${url}/static/picture.svg`)).toBe(`200 ${picture}`);
      await run.line(/^nginx \| .*"GET \/static\/picture\.svg HTTP\/1\.1" 200 /);
      await run.line(/^app {3}\| .*"GET \/ HTTP\/1\.[01]" 200 /);
      await stop({ run, url });
    });
  },
  [compiled],
);

test("the Dockerfile lines of the recipes install what the tests have", () => {
  const setup = fs.readFileSync(path.join(root, "test/setup.sh"), "utf8");
  const debian = /set -- (.*?)\nfi/s.exec(setup)?.[1]?.split(/[\s\\]+/) ?? [];
  const installed = debian.map((word) => word.replace(/:.*/, ""));
  const ofDebian: string[] = [];
  const ofNpm: string[] = [];
  for (const { language, block } of blocks(recipes)) {
    if (language !== "dockerfile") continue;
    for (const [, tool, words = ""] of block.matchAll(/(apt-get|pip|npm) install (.*)$/gm)) {
      const names = words.split(" ").filter((word) => !word.startsWith("-") && word !== "tini");
      if (tool === "npm") ofNpm.push(...names);
      else ofDebian.push(...names.map((name) => (tool === "pip" ? `python3-${name}` : name)));
    }
  }
  expect(ofDebian.length).toBeGreaterThan(10);
  expect(installed).toEqual(expect.arrayContaining(ofDebian));
  expect(ofNpm.length).toBeGreaterThan(3);
  expect(Object.keys(devDependencies)).toEqual(expect.arrayContaining(ofNpm));
});
