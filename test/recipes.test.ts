// The recipes: the files of test/recipes/ as one copies them, with the real programs. Each folder is laid out
// as its Dockerfile says, started, asked, and stopped while requests are under way.

import { describe, expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { devDependencies } from "../package.json";
import {
  ask,
  asUser,
  type Box,
  bun,
  compiled,
  eventually,
  fences,
  freePort,
  hasNamespaces,
  isRoot,
  node,
  type Run,
  root,
  SYSTEM,
  section,
} from "./harness.ts";
import { Greeter } from "./recipes/grpc-web/greet_pb.ts";

const folder = path.join(root, "test/recipes");

// ---- A Dockerfile

interface Instruction {
  name: string;
  text: string;
}

function readDockerfile(recipe: string): Instruction[] {
  const text = fs.readFileSync(path.join(folder, recipe, "Dockerfile"), "utf8");
  const lines = text
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n");
  return lines.filter(Boolean).map((line) => {
    const [, name, rest] = /^([A-Z]+) (\S.*)$/.exec(line) ?? [];
    if (!name || !rest) throw new Error(`${recipe}/Dockerfile: no instruction: ${line}`);
    return { name, text: rest };
  });
}

interface Copy {
  from: string | undefined;
  sources: string[];
  to: string;
}

function readCopy(text: string): Copy {
  const [, from] = /^--from=(\S+) /.exec(text) ?? [];
  const words = text.replace(/^--from=\S+ /, "").split(" ");
  return { from, sources: words.slice(0, -1), to: words.at(-1) ?? "" };
}

/** What is copied from the folder, not from another image or stage. */
function copiesOf(recipe: string): Copy[] {
  return readDockerfile(recipe)
    .filter(({ name }) => name === "COPY")
    .map(({ text }) => readCopy(text))
    .filter(({ from }) => !from);
}

const installs = /^(?:.* )?(apt-get|pip|npm|gem|docker-php-ext-install) (?:install |run )?/;

// ---- A recipe laid out in a box, which stands for its container

/** The ports inside a container, where it is alone. Here each becomes one that is free. */
const innerPorts = [3306, 5432, 5900, 6379, 8082, 8888, 11211, 50051];

interface Image {
  env: Record<string, string>;
  user: string;
  port: number;
}

interface Cooked {
  run: Run;
  url: string;
}

interface Recipe {
  /** Why it cannot be run here. */
  lacks?: string | false;
  /** Words of the files that are others in the test. */
  words?: Record<string, string>;
  /** What is there beside the files: what installing or building would give. */
  prepare?: (box: Box) => void;
  /** What starts it, as a container does. */
  wrap?: (box: Box) => string[];
  /** What says that it is up, where nothing listens at PORT: `ready` takes 10 s then. */
  up?: RegExp;
  /** The line that others ask: it is waited for before they start, and so has its time in `ready`. */
  backend?: string;
  /** What has to be so once it is ready. */
  check: (cooked: Cooked) => Promise<void>;
  /** What is asked for just before the stop, and answered all the same. The app writes "slow" then. */
  slow?: string[];
  /** What has to have come of the stop. */
  after?: (cooked: Cooked) => void;
}

/** The programs of the images that Debian has under another name, or elsewhere. */
function programs(box: Box): string {
  const bin = path.join(box.base, "bin");
  const newest = (directory: string, pattern: RegExp) =>
    fs
      .readdirSync(directory)
      .filter((name) => pattern.test(name))
      .sort()
      .at(-1) ?? "none";
  const postgres = `/usr/lib/postgresql/${newest("/usr/lib/postgresql", /^\d+$/)}/bin`;
  fs.mkdirSync(bin);
  for (const [name, file] of Object.entries({
    bun,
    node,
    "pm2-runtime": path.join(root, "node_modules/.bin/pm2-runtime"),
    entrypoint: path.join(root, "dist/entrypoint"),
    "php-fpm": `/usr/sbin/${newest("/usr/sbin", /^php-fpm\d/)}`,
    ...Object.fromEntries(
      ["initdb", "postgres", "pg_isready", "psql"].map((name) => [name, `${postgres}/${name}`]),
    ),
  }))
    fs.symlinkSync(file, path.join(bin, name));
  return bin;
}

/** The command as another user; as ourselves where only root could. */
function as(user: string, command: string[]): string[] {
  if (!isRoot || user === "root") return command;
  const passwd = fs.readFileSync("/etc/passwd", "utf8");
  const [, ids = user] = new RegExp(`^${user}:[^:]*:(\\d+:\\d+):`, "m").exec(passwd) ?? [];
  const [uid = "", gid = ""] = ids.split(":");
  return [...asUser(uid, gid), ...command];
}

/** Tells what stands in a file where only a container has the places that it names. */
async function placing(box: Box, words: Recipe["words"], port: number, appPort: number) {
  const here: Record<string, string> = {
    "/app": box.dir,
    "/tmp": path.join(box.dir, "tmp"),
    "/run": path.join(box.dir, "run"),
    "8080": `${port}`,
    "8081": `${appPort}`,
    ...words,
  };
  for (const inner of innerPorts) here[inner] = `${await freePort()}`;
  const any = Object.keys(here).map(RegExp.escape).join("|");
  const place = new RegExp(`(?<![\\w/])(?:${any})(?!\\w)`, "g");
  return (text: string) => text.replace(place, (word) => here[word] ?? word);
}

/** COPY. What goes to /etc stays in the box, where `wrap` mounts it. All stages are one here. */
function copy(box: Box, name: string, text: string, placed: (text: string) => string): void {
  const { from, sources, to } = readCopy(text);
  if (from) return;
  const inBox = path.join(box.dir, to.replace(/^\/etc\//, ""));
  for (const source of sources) {
    const target = to.endsWith("/") ? path.join(inBox, source) : inBox;
    fs.cpSync(path.join(folder, name, source), target, { recursive: true });
    for (const file of filesIn(target))
      if (!file.endsWith(".svg")) fs.writeFileSync(file, placed(fs.readFileSync(file, "utf8")));
  }
}

function filesIn(target: string): string[] {
  if (fs.statSync(target).isFile()) return [target];
  const names = fs.readdirSync(target, { recursive: true, encoding: "utf8" });
  return names.map((name) => path.join(target, name)).filter((file) => fs.statSync(file).isFile());
}

/** RUN, but for the installing: that was test/setup.sh. */
async function runLine(box: Box, text: string, user: string, env: Image["env"]): Promise<void> {
  if (installs.test(text)) return;
  const child = Bun.spawn(as(user, ["sh", "-ec", text]), {
    cwd: box.dir,
    env: { ...env, TMPDIR: box.tmp },
    stdout: "ignore",
    stderr: "pipe",
  });
  const stderr = await new Response(child.stderr).text();
  const isCheck = text === "entrypoint --check"; // which has nothing to say
  if ((await child.exited) !== 0 || (isCheck && stderr)) throw new Error(`${text}: ${stderr}`);
}

/** Does what the Dockerfile says. */
async function layOut(box: Box, name: string, recipe: Recipe): Promise<Image> {
  const [port, appPort] = [await freePort(), await freePort()];
  const placed = await placing(box, recipe.words, port, appPort);
  for (const directory of ["/tmp", "/run"]) fs.mkdirSync(placed(directory));
  for (const directory of [placed("/tmp"), placed("/run"), box.tmp])
    fs.chmodSync(directory, 0o1777);
  const PATH = `${programs(box)}:${SYSTEM}`;
  const env: Image["env"] = { PATH, PORT: `${port}`, APP_PORT: `${appPort}` };
  let user = "root";
  for (const { name: instruction, text } of readDockerfile(name)) {
    if (instruction === "FROM" && text === "entrypoint") user = "10001:10001";
    if (instruction === "USER") user = text;
    if (instruction === "COPY") copy(box, name, text, placed);
    if (instruction === "ENV")
      for (const [, variable = "", value] of placed(text).matchAll(/(\S+?)=(\S*)/g))
        env[variable] = `${value}`;
    if (text === "entrypoint --check") recipe.prepare?.(box);
    if (instruction === "RUN") await runLine(box, text, user, env);
  }
  return { env, user, port };
}

async function cook(box: Box, name: string, recipe: Recipe): Promise<Cooked> {
  const { env, user, port } = await layOut(box, name, recipe);
  const run = box.start([], {
    env,
    wrap: (command) => [...(recipe.wrap?.(box) ?? []), ...as(user, command)],
  });
  const backend = recipe.backend ? `.*\\b${recipe.backend} \\d` : "";
  const ready = new RegExp(`entrypoint \\| ready in .* m?s: (?!.*does not listen)${backend}`);
  await run.line(recipe.up ?? ready);
  return { run, url: `http://127.0.0.1:${port}` };
}

const underWay = ({ stdout, stderr }: Run) =>
  [...stdout.lines, ...stderr.lines].filter((line) => /\bslow$/.test(line)).length;

/** Stops it while requests are under way. Each has its answer. */
async function stop({ run, url }: Cooked, slow: string[] = []): Promise<void> {
  const before = underWay(run);
  const answers = slow.map((path) => ask(url + path));
  const all = before + slow.length;
  await eventually("requests in the app", () => underWay(run) === all);
  run.signal("SIGTERM");
  for (const answer of await Promise.all(answers)) expect(answer).toStartWith("200 ");
  expect((await run.exit()).code).toBe(0);
}

// ---- The table

const says =
  (answer: string) =>
  async ({ url }: Cooked) =>
    expect(await ask(url)).toBe(answer);

/** A file that nginx has: the app would give another text, or another Cache-Control. */
const fromNginx = async ({ url }: Cooked, path: string, text: string, cache: string | null) => {
  const answer = await fetch(url + path);
  const control = answer.headers.get("cache-control");
  expect([answer.status, await answer.text(), control]).toEqual([200, text, cache]);
};

const few = ["/slow/0.5", "/slow/0.51", "/slow/0.52", "/slow/0.53"]; // Varnish joins equal ones
const two = ["/slow", "/slow"];
const css = "body {\n  color: #333;\n}\n";

/** Rails' shape: a migration, a file of public/, a page. */
const rails: Recipe = {
  check: async (cooked) => {
    expect(cooked.run.stdout.lines[0]).toBe("release | did db:prepare");
    await fromNginx(cooked, "/assets/site.css", css, null);
    await says("200 hello\n")(cooked);
  },
  slow: two,
};

/** Listens as Next's server of `output: "standalone"` does, which takes 340 MB to build. */
const NEXT = `const { createServer } = require("node:http");
const { HOSTNAME, PORT } = process.env;
createServer((request, response) => {
  if (request.url === "/") return response.end("<p>hello</p>");
  console.log("slow");
  setTimeout(() => response.end("hello"), 500);
}).listen(PORT, HOSTNAME || "0.0.0.0");
`;

/** What `read` makes of the first message of which it makes something. Then the socket is closed. */
async function received<T>(
  socket: WebSocket,
  read: (data: MessageEvent["data"]) => T | undefined,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  socket.onmessage = ({ data }) => {
    const message = read(data);
    if (message !== undefined) resolve(message);
  };
  socket.onerror = () => reject(new Error("no WebSocket"));
  const first = await promise;
  socket.close();
  return first;
}

/** What a kernel of Jupyter says that the code comes to. */
function computed(channels: string, code: string): Promise<string> {
  const socket = new WebSocket(channels);
  const header = { msg_id: "1", msg_type: "execute_request", session: "1", version: "5.3" };
  const content = { code, silent: false };
  socket.onopen = () => {
    const message = { header, parent_header: {}, metadata: {}, content, channel: "shell" };
    socket.send(JSON.stringify(message));
  };
  return received(socket, (data) => {
    const { msg_type, content: result } = JSON.parse(data);
    return msg_type === "execute_result" ? `${result.data["text/plain"]}` : undefined;
  });
}

const recipes: Record<string, Recipe> = {
  haproxy: { check: says("200 hello\n"), slow: few },
  caddy: { check: says("200 hello\n"), slow: few },
  "caddy-two": {
    check: async ({ url }) => {
      expect(await ask(url)).toBe("200 app\n");
      expect(await ask(`${url}/api/x`)).toBe("200 api\n");
    },
    slow: ["/slow/0.5", "/api/slow/0.5"],
  },
  spa: {
    check: async (cooked) => {
      const page = fs.readFileSync(path.join(folder, "spa/public/index.html"), "utf8");
      await fromNginx(cooked, "/", page, "no-cache");
      await fromNginx(cooked, "/a/path/of/the/app", page, "no-cache");
      const forever = "public, max-age=31536000, immutable";
      await fromNginx(cooked, "/assets/site-0123.css", css, forever);
      expect(await ask(`${cooked.url}/assets/gone.css`)).toStartWith("404 ");
      expect(await ask(`${cooked.url}/api/x`)).toBe("200 api\n");
    },
    slow: ["/api/slow/0.5", "/api/slow/0.5"],
  },
  mariadb: {
    backend: "db",
    check: async ({ url }) => {
      expect(await ask(url)).toBe("200 request 1\n");
      expect(await ask(url)).toBe("200 request 2\n");
    },
    slow: two,
  },
  desktop: {
    words: { 97: "397", 6097: "6397" },
    check: async ({ url }) => {
      expect(await ask(`${url}/vnc.html`)).toStartWith("200 ");
      const socket = new WebSocket(`${url.replace("http", "ws")}/websockify`, "binary");
      socket.binaryType = "arraybuffer";
      const first = await received(socket, (data) => new TextDecoder().decode(data));
      expect(first).toStartWith("RFB 003.");
    },
  },
  pm2: {
    check: async ({ url }) => {
      const both = new Set<string>();
      await eventually("answers of both", async () => {
        const answers = await Promise.all(two.map((path) => ask(url + path)));
        for (const answer of answers) both.add(answer);
        return both.size === 2;
      });
      for (const answer of both) expect(answer).toMatch(/^200 hello from \d+\n$/);
    },
    slow: two,
  },
  jupyter: {
    check: async ({ run, url }) => {
      const [, token] = await run.line(/\?token=(\w+)/);
      expect(await ask(`${url}/api/kernels`)).toStartWith("403 ");
      const headers = { Authorization: `token ${token}`, Host: "notes.example" };
      const made = await fetch(`${url}/api/kernels`, { method: "POST", headers });
      const { id } = (await made.json()) as { id: string };
      const channels = `${url.replace("http", "ws")}/api/kernels/${id}/channels?token=${token}`;
      expect(await computed(channels, "6 * 7")).toBe("42");
    },
  },
  varnish: {
    check: async ({ url }) => {
      expect(await ask(url)).toBe("200 hello\n");
      const again = await fetch(url);
      expect(again.headers.get("x-varnish")).toMatch(/^\d+ \d+$/); // two numbers: it had it
    },
    slow: few,
  },
  "grpc-web": {
    backend: "grpc",
    prepare: (box) =>
      fs.symlinkSync(path.join(root, "node_modules"), path.join(box.dir, "node_modules")),
    check: async ({ run, url }) => {
      const greeter = createClient(Greeter, createGrpcWebTransport({ baseUrl: url }));
      expect((await greeter.hello({ name: "you" })).text).toBe("Hello, you");
      const numbers: number[] = [];
      for await (const { number } of greeter.count({ to: 3 })) numbers.push(number);
      expect(numbers).toEqual([1, 2, 3]);
      await run.line(/^grpc {2}\| Hello you$/);
      await run.line(/^nginx \| .*"POST \/greet\.Greeter\/Count HTTP\/1\.1" 200 /);

      // One that goes on and on: what arrives has not waited for its end.
      const leaving = new AbortController();
      const stream = greeter.count({ to: 1_000_000 }, { signal: leaving.signal });
      const first = await stream[Symbol.asyncIterator]().next();
      expect(first.value?.number).toBe(1);
      leaving.abort();
    },
  },
  cache: {
    backend: "cache",
    check: async ({ url }) => {
      const seen: string[] = [];
      for (const key of ["a", "b", "a"]) {
        const answer = await fetch(`${url}/${key}`);
        seen.push(`${await answer.text()} ${answer.headers.get("x-cache")}`);
      }
      expect(seen).toEqual(["A miss", "B miss", "A hit"]);
    },
  },
  worker: {
    backend: "redis",
    check: async ({ run, url }) => {
      expect(run.stdout.lines[0]).toBe("release | migrated, 0 jobs");
      const job = await fetch(url, { method: "POST", body: "shout" });
      expect([job.status, await job.text()]).toEqual([202, "1"]);
      await eventually("the job's result", async () => (await ask(`${url}/1`)) === "200 SHOUT");
      await run.line(/^worker {2}\| did job 1$/);
    },
  },
  article: {
    check: async (cooked) => {
      expect(await ask(cooked.url)).toBe("200 Hello from Flask\n");
      const picture = fs.readFileSync(path.join(folder, "article/static/picture.svg"), "utf8");
      await fromNginx(cooked, "/static/picture.svg", picture, null);
      await cooked.run.line(/^app {3}\| .*"GET \/ HTTP\/1\.[01]" 200 /);
    },
  },
  "php-fpm": {
    check: async (cooked) => {
      const { run, url } = cooked;
      expect(run.stdout.lines[0]).toBe("release   | migrated");
      await fromNginx(cooked, "/site.css", css, null);
      expect(await ask(`${url}/a/page`)).toBe("200 hello\n");
      await run.line(/^scheduler \| scheduled$/);

      // The first worker ends, and the next one does the job that the stop finds under way.
      const [, worker] = await run.line(/^queue +\| worker (\d+)$/);
      process.kill(Number(worker), "SIGTERM");
      await run.line(new RegExp(`^queue +\\| worker (?!${worker}$)`));
      expect(await ask(url, { method: "POST", body: "the job" })).toBe("200 hello\n");
      await run.line(/^queue +\| does the job$/);
    },
    slow: two,
    after: ({ run }) => expect(run.stdout.lines).toContain("queue     | did the job"),
  },
  django: {
    check: async (cooked) => {
      const { run, url } = cooked;
      await run.line(/^release \| .*Applying auth\.0001_initial/);
      expect(await ask(url, { headers: { "X-Forwarded-Proto": "https" } })).toBe(
        "200 0 users, https\n",
      );
      await fromNginx(cooked, "/static/site.css", css, "no-cache");
      expect(await ask(`${url}/robots.txt`)).toBe("200 User-agent: *\nDisallow:\n");
      expect(await ask(`${url}/static/none.css`)).toStartWith("404 ");
    },
    slow: two,
  },
  uwsgi: { check: says("200 hello\n"), slow: two },
  fastapi: {
    check: async ({ url }) => {
      const headers = { "X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.1" };
      expect(await ask(url, { headers })).toBe('200 {"from":"192.0.2.1","scheme":"https"}');
      expect(await ask(`${url}/openapi.json`)).toContain('"/slow"');
      const reader = (await fetch(`${url}/slow`)).body?.getReader();
      const chunks = [await reader?.read(), await reader?.read()];
      const lines = chunks.map((chunk) => new TextDecoder().decode(chunk?.value));
      expect(lines).toEqual(["hello\n", "and goodbye\n"]);
    },
    slow: two,
  },
  puma: rails,
  unicorn: rails,
  nextjs: {
    prepare: (box) => {
      const built = process.env.ENTRYPOINT_TEST_NEXT;
      if (built) {
        fs.cpSync(path.join(built, "standalone"), box.dir, { recursive: true });
        fs.cpSync(path.join(built, "static"), path.join(box.dir, ".next/static"), {
          recursive: true,
        });
      } else box.write("server.js", NEXT);
      box.write(".next/static/site-0123.css", css);
    },
    check: async (cooked) => {
      expect(cooked.run.stdout.lines[0]).toBe("release | migrated");
      expect(await ask(cooked.url)).toMatch(/^200 .*<p>hello<\/p>/s);
      const forever = "public, max-age=31536000, immutable";
      await fromNginx(cooked, "/_next/static/site-0123.css", css, forever);
      await cooked.run.descendant(/^(\S*node server.js|next-server)/);
    },
    slow: ["/api/slow", "/api/slow"],
  },
  java: {
    lacks: !Bun.which("javac") && "JDK",
    check: says("200 jdbc:postgresql://db/app"),
    slow: two,
  },
  "apache-cron": {
    lacks: !(isRoot && hasNamespaces) && "right to mount",
    prepare: (box) => {
      // Its first minute lasts a second.
      const start = "env LD_PRELOAD=libfaketime.so.1 FAKETIME='@2026-01-01 00:00:59'";
      const faketime = `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu/faketime`;
      box.write(
        "../bin/cron",
        `#!/bin/sh\nLD_LIBRARY_PATH=${faketime} exec ${start} /usr/sbin/cron "$@"\n`,
      );
      fs.chmodSync(path.join(box.base, "bin/cron"), 0o755);
    },
    // So that cron finds this crontab and no other, and writes its pid here.
    wrap: (box) => {
      const bind = (from: string, to: string) => `mount --bind ${box.dir}/${from} ${to}`;
      const mounts = [
        bind("run", "/run"),
        bind("cron.d", "/etc/cron.d"),
        "mount -t tmpfs none /var/spool/cron",
      ];
      return ["unshare", "--mount", "sh", "-ec", `${mounts.join("; ")}; exec "$@"`, "sh"];
    },
    check: async ({ run, url }) => {
      expect(await ask(url)).toBe("200 hello\n");
      await run.line(/^cron \| did the job$/);
    },
    slow: ["/?slow", "/?slow"],
  },
  celery: {
    up: /celery@.* ready/,
    check: async ({ run }) => {
      await run.line(/Task tasks\.work\[.* succeeded in /);
      const before = underWay(run);
      await eventually("the next task", () => underWay(run) > before);
      await Bun.sleep(200); // celery 5.2 may hang if it is asked while it takes a task
    },
    after: ({ run }) => {
      const done = run.stderr.lines.filter((line) => / succeeded in /.test(line));
      expect(done).toHaveLength(underWay(run));
    },
  },
  postgres: {
    backend: "db",
    check: async ({ url }) => {
      expect(await ask(url)).toBe("200 request 1\n");
      expect(await ask(url)).toBe("200 request 2\n");
    },
    slow: two,
  },
  helper: {
    check: async ({ run, url }) => {
      await run.line(/^warm-up \| warm$/);
      const [, helper] = await run.line(/^helper +\| helper (\d+)$/);
      process.kill(Number(helper), "SIGKILL");
      await run.line(new RegExp(`^helper +\\| helper (?!${helper}$)`));
      expect(await ask(url)).toBe("200 hello\n");
    },
    slow: few,
  },
  setpriv: {
    lacks: !isRoot && "root",
    check: async ({ run, url }) => {
      expect(await ask(url)).toBe("200 hello\n");
      const app = await run.descendant(/^python3 app\.py/);
      const status = fs.readFileSync(`/proc/${app}/status`, "utf8");
      expect(status).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
    },
    slow: few,
  },
};

/** Started and asked in a test of its own. */
const outbound = (api: string): Recipe => ({
  backend: "proxy",
  words: { "api[.]example[.]com": "127[.]0[.]0[.]1", "https://api.example.com/": api },
  check: async ({ run, url }) => {
    expect(run.stdout.lines).toContain("app   | 200 hello");
    expect(await ask(`${url}/?${api}`)).toBe("200 hello");
    const notAllowed = api.replace("127.0.0.1", "localhost");
    expect(await ask(`${url}/?${notAllowed}`)).toBe("403 Filtered");
    await run.line(/^proxy \| .*GET http:\/\/127\.0\.0\.1/);
  },
});

const notRun = ["envoy", "esp"];
const names = [...Object.keys(recipes), "outbound", ...notRun];

section(
  "a recipe",
  (it) => {
    for (const [name, recipe] of Object.entries(recipes)) {
      const title = `${name} does what it says, and answers what is under way at a stop`;
      if (recipe.lacks) test.skip(`${title} (skipped: there is no ${recipe.lacks})`, () => {});
      else
        it(title, async (box) => {
          const cooked = await cook(box, name, recipe);
          await recipe.check(cooked);
          await stop(cooked, recipe.slow);
          recipe.after?.(cooked);
        });
    }

    it("outbound: what an app reaches a server through, from its start on", async (box) => {
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
        expect(await ask(api)).toBe("401 only through the proxy");
        const recipe = outbound(api);
        const cooked = await cook(box, "outbound", recipe);
        await recipe.check(cooked);
        await stop(cooked);
      } finally {
        await server.stop(true);
      }
    });

    for (const name of ["haproxy", "caddy"])
      it(`${name} gives up what takes too long, before it is killed`, async (box) => {
        const words = { "7s": "1s" };
        const { run, url } = await cook(box, name, { words, check: says("200 hello\n") });
        const request = ask(`${url}/slow/60`);
        await eventually("a request in the app", () => underWay(run) === 1);
        const { code, stopMs } = await run.stop();
        expect(code).toBe(0);
        expect(stopMs).toBeLessThan(7500); // before the last fifth of ENTRYPOINT_GRACE
        expect(await request).not.toStartWith("200");
      });

    it(
      "postgres: comes up after a kill -9 with a million rows not on the disk, two of two",
      async (box) => {
        const { env, user, port } = await layOut(box, "postgres", { check: says("") });
        const url = `http://127.0.0.1:${port}`;
        const wrap = (command: string[]) => as(user, command);
        const [, inner] = /postgres -p (\d+)/.exec(box.read("Procfile")) ?? [];
        const psql = [
          "psql",
          "-h",
          "127.0.0.1",
          "-p",
          `${inner}`,
          "-U",
          "app",
          "-d",
          "postgres",
          "-c",
        ];
        const rows =
          "create table if not exists big (n int); insert into big select generate_series(1, 1e6)";
        for (let round = 1; round <= 2; round++) {
          const run = box.start([], { env, wrap });
          await run.line(/entrypoint \| ready in .*\bapp \d/, 2 * 60_000);
          expect(await ask(url)).toBe(`200 request ${round}\n`);
          const filled = Bun.spawnSync(as(user, [...psql, rows]), { env });
          expect(filled.exitCode).toBe(0);
          process.kill(await run.descendant(/^postgres -p/), "SIGKILL");
          expect((await run.exit()).code).toBe(137);
        }
        const run = box.start([], { env, wrap });
        await run.line(/^db +\| .*redo done/, 2 * 60_000);
        await run.line(/entrypoint \| ready in/, 2 * 60_000);
        const count = Bun.spawnSync(as(user, [...psql, "select count(*) from big"]), { env });
        expect(`${count.stdout}`).toContain("2000000");
        await run.stopsWell();
      },
      10 * 60_000,
    );

    it("redis: an app that waits for a million keys", async (box) => {
      const [lines = ""] = fences("test/recipes/README.md", "procfile");
      const procfile = lines.replaceAll("6379", `${await freePort()}`);
      fs.chmodSync(box.write("app", "#!/bin/sh\nredis-cli -p $1 dbsize; exec sleep 1000\n"), 0o755);
      const [, port] = /PORT=(\d+)/.exec(procfile) ?? [];
      box.write("Procfile", procfile.replace("exec ./app", `exec ./app ${port}`));
      const env = { PORT: `${await freePort()}` };
      const first = box.start([], { env });
      await first.line(/^app +\| 0$/);
      const fill = [
        "redis-cli",
        "-p",
        `${port}`,
        "eval",
        "for i = 1, 1e6 do redis.call('set', i, i) end",
        "0",
      ];
      expect(Bun.spawnSync(fill).exitCode).toBe(0);
      await first.stopsWell(); // it saves them
      const second = box.start([], { env });
      await second.line(/^app +\| 1000000$/);
      await second.stopsWell();
    });

    it("worker: a migration that fails starts nothing", async (box) => {
      const recipe: Recipe = { prepare: (box) => box.write("tmp/app.db", "no"), check: says("") };
      const { env } = await layOut(box, "worker", recipe);
      const run = box.start([], { env });
      expect((await run.exit()).code).toBe(1);
      expect(run.stderr.text).toContain("file is not a database");
      expect(run.stdout.text).not.toContain("redis");
    });

    it("php-fpm: a worker that fails ends the container", async (box) => {
      const { run } = await cook(box, "php-fpm", { check: says("") });
      const [, worker] = await run.line(/^queue +\| worker (\d+)$/);
      process.kill(Number(worker), "SIGKILL");
      expect((await run.exit()).code).toBe(1);
    });
  },
  [compiled],
);

// ---- The files themselves

const directories = fs
  .readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)
  .sort();
const readme = fs.readFileSync(path.join(folder, "README.md"), "utf8");

test("each recipe is run or said not to be, with a row and a section of the README", () => {
  expect(directories).toEqual(names.toSorted());
  const rows = [...readme.matchAll(/^\| \[(.*?)\]\((.*?)\/\) \| .+ \| (.+) \|$/gm)];
  expect(rows.map(([, name, link]) => [name, link])).toEqual(rows.map(([, name]) => [name, name]));
  const run = (name = "") => !notRun.includes(name);
  expect(rows.map(([, name, , how]) => [name, !how?.startsWith("not run")]).sort()).toEqual(
    names.toSorted().map((name) => [name, run(name)]),
  );
  const sections = [...readme.matchAll(/^## (\S+)$/gm)].map(([, name = ""]) => name);
  expect(sections.sort()).toEqual(names.toSorted());
});

describe.each(directories)("the Dockerfile of %s", (name) => {
  const dockerfile = readDockerfile(name);
  const known = ["ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "WORKDIR"];
  const stages = dockerfile.flatMap(({ text }) => / AS (\S+)$/.exec(text)?.[1] ?? []);
  const last = dockerfile.slice(dockerfile.findLastIndex(({ name }) => name === "FROM"));

  test("has instructions that Docker knows, and copies from what there is", () => {
    for (const instruction of dockerfile) expect(known).toContain(instruction.name);
    for (const { text } of dockerfile.filter(({ name }) => name === "COPY")) {
      const { from, sources, to } = readCopy(text);
      expect([sources.length > 0, sources.length === 1 || to.endsWith("/")]).toEqual([true, true]);
      if (from)
        expect([...stages, "entrypoint:binary", "envoyproxy/envoy:v1.34-latest"]).toContain(from);
      else
        for (const source of sources)
          expect([source, fs.existsSync(path.join(folder, name, source))]).toEqual([source, true]);
    }
  });

  test("copies each file of its folder", () => {
    const copied = copiesOf(name).flatMap(({ sources }) => sources);
    const files = fs.readdirSync(path.join(folder, name)).filter((file) => file !== "Dockerfile");
    const source = name === "grpc-web" ? ["greet.proto"] : []; // what greet_pb.ts was made from
    expect([...copied, ...source].sort()).toEqual(files.sort());
  });

  test("installs what the Procfile wants, checks it, and starts it by tini", () => {
    const texts = last.map(({ text }) => text);
    const ours = texts[0] === "entrypoint"; // it has nginx and tini, and says the rest
    const debian = texts.flatMap((text) => (text.startsWith("apt-get") ? text.split(" ") : []));
    const procfile = fs.readFileSync(path.join(folder, name, "Procfile"), "utf8");
    const wants = [...(/^nginx: /m.test(procfile) ? ["nginx"] : []), "tini"];
    expect(debian).toEqual(
      ours ? expect.not.arrayContaining(wants) : expect.arrayContaining(wants),
    );
    expect(texts).toContain("entrypoint --check");
    expect(texts.includes('["tini", "--", "entrypoint"]')).toBe(!ours);
    expect(texts.some((text) => text.includes("entrypoint:binary "))).toBe(!ours);
  });
});

test("the Dockerfiles install what the tests have", () => {
  const setup = fs.readFileSync(path.join(root, "test/setup.sh"), "utf8");
  const debian = /set -- (.*?)\nfi/s.exec(setup)?.[1]?.split(/[\s\\]+/) ?? [];
  const installed = debian.map((word) => word.replace(/:.*/, ""));
  const prefixes: Record<string, string> = { pip: "python3-", gem: "ruby-" };
  const missing: string[] = [];
  let count = 0;
  for (const name of directories)
    for (const { text } of readDockerfile(name)) {
      const [, tool = "", words = ""] =
        /(apt-get|pip|npm|gem) install (.*?)(?: && |$)/.exec(text) ?? [];
      for (const word of words.split(" ").filter((word) => word && !word.startsWith("-"))) {
        count++;
        const has =
          tool === "npm"
            ? word in devDependencies
            : [word, `${prefixes[tool]}${word}`].some((known) => installed.includes(known));
        if (!has) missing.push(word);
      }
    }
  expect(count).toBeGreaterThan(60);
  // To compile gems of Ruby's own site: Debian has them compiled.
  expect([...new Set(missing)]).toEqual(["build-essential"]);
});
