// The README as a new user meets it: each command and each Dockerfile of it from a clean clone, each
// message of its table, each link of every page.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import {
  build,
  command,
  docker,
  engine,
  env,
  inEngine,
  MINUTES,
  mark,
  ours,
  output,
  removeAll,
} from "./docker/engine.ts";
import {
  type Box,
  busyboxIn,
  compiled,
  eventually,
  fences,
  forever,
  freePort,
  listener,
  occupy,
  Run,
  root,
  section,
  serve,
  staticFiles,
} from "./harness.ts";

const readme = fs.readFileSync(path.join(root, "README.md"), "utf8");
const work = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-readme-"));

const runs: Run[] = [];

afterAll(async () => {
  for (const run of runs) if (run.isAlive) process.kill(-run.pid, "SIGKILL"); // of a test that failed
  await removeAll();
  fs.rmSync(work, { recursive: true });
}, MINUTES);

// ---- The commands

/** What is run here, as it stands in the README. */
const typed = {
  clone: "git clone URL entrypoint && cd entrypoint",
  base: "docker build --target entrypoint -t entrypoint .",
  demo: "docker build -t entrypoint-demo . && docker run --rm -p 8080:8080 entrypoint-demo",
  install: "npm ci",
  start: "npm start",
  build: "docker build -t my-app .",
  run: "docker run --rm --name my-app -p 8080:8080 my-app",
  ask: "curl http://localhost:8080/",
  stop: "docker stop my-app",
  lockedDown:
    "docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges my-app",
};

const notRun = {
  "docker tag entrypoint REGISTRY/entrypoint": "there is no registry here",
  "docker push REGISTRY/entrypoint": "there is no registry here",
  "docker tag my-app REGISTRY/my-app && docker push REGISTRY/my-app": "there is no registry here",
  "gcloud run deploy my-app --image REGISTRY/my-app": "there is no Cloud Run here",
  "npm ci && npm test": "it would start itself",
};

test("each command is run here, or is named with the reason why not", () => {
  const lines = fences("README.md", "sh").flatMap((block) => block.trim().split("\n"));
  expect(lines.sort()).toEqual([...Object.values(typed), ...Object.keys(notRun)].sort());
});

/** As a new user has it, and what is not committed yet. */
async function makeClone(): Promise<string> {
  await output("sh", "-ec", `cd ${work} && ${typed.clone.replace("URL", root)}`);
  const directory = path.join(work, "entrypoint");
  const changed = ["ls-files", "-z", "--modified", "--others", "--exclude-standard"];
  for (const name of (await output("git", "-C", root, ...changed)).split("\0").filter(Boolean)) {
    const [from, to] = [path.join(root, name), path.join(directory, name)];
    const kind = fs.lstatSync(from, { throwIfNoEntry: false });
    if (!kind) fs.rmSync(to);
    else if (kind.isFile()) fs.cpSync(from, to); // not a link: node_modules may be one
  }
  return directory;
}

let made: Promise<string> | undefined;
function clone(): Promise<string> {
  made ??= makeClone();
  return made;
}

/** Types a line where a user would; it is a process group, as a terminal makes it. */
function type(line: string, cwd: string, more: NodeJS.ProcessEnv = {}): Run {
  const run = new Run(["sh", "-c", line], cwd, { ...env, ...more });
  runs.push(run);
  return run;
}

async function pressCtrlC(run: Run): Promise<void> {
  process.kill(-run.pid, "SIGINT");
  await run.exit();
}

/** Looks for each line of a block; times, dates and addresses are different in each run. */
function expectShown({ stdout, stderr }: Run, block = ""): void {
  const differs = /(\d[\d.]* m?s\b|\[[^\]]*\]|\d+\.\d+\.\d+\.\d+(?![\d:])|"curl[^"]*")/;
  const lines = [...stdout.lines, ...stderr.lines].map((line) => line.trimEnd());
  for (const shown of block.trim().split("\n")) {
    if (shown === "^C") continue;
    const parts = shown.split(differs).map((part, i) => (i % 2 ? ".+" : RegExp.escape(part)));
    const pattern = new RegExp(`^${parts.join("")}`);
    if (!lines.some((line) => pattern.test(line)))
      throw new Error(`nothing like this line: ${shown}\n${lines.join("\n")}`);
  }
}

const [demoShown, crashShown, appShown, stopShown] = fences("README.md", "text");

test("there is no block that no test looks at", () => {
  const languages = [...readme.matchAll(/^ *```(\w+)$/gm)].map(([, language]) => language);
  expect(Object.groupBy(languages, (language) => language ?? "")).toMatchObject({
    diff: { length: 1 },
    sh: expect.anything(),
    text: { length: 4 },
    dockerfile: { length: 4 },
    procfile: { length: 2 },
    nginx: { length: 1 }, // test/front.test.ts
  });
  expect(new Set(languages).size).toBe(6);
});

test(
  "without Docker: npm ci, npm start, npm run build in a clean clone",
  async () => {
    const directory = await clone();
    await output("sh", "-ec", `cd ${directory} && ${typed.install}`);
    const ports = { PORT: `${await freePort()}`, APP_PORT: `${await freePort()}` };
    const demo = type(typed.start, directory, ports);
    await demo.line(/ready in/);
    const page = await fetch(`http://127.0.0.1:${ports.PORT}/`);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("Hello")]);
    await pressCtrlC(demo);
    expectShown(demo, "entrypoint | SIGINT: stopping nginx, then app");
    const [, build, size] = /`npm ci && (npm run build)` makes .* \((\d+) MB\)/.exec(readme) ?? [];
    await output("sh", "-ec", `cd ${directory} && ${build}`);
    const file = path.join(directory, "dist/entrypoint");
    expect(Math.abs(fs.statSync(file).size / 1e6 - Number(size))).toBeLessThan(5);
    expect(await output(file, "--version")).toStartWith("entrypoint ");
  },
  5 * MINUTES,
);

// ---- Images

/** An image of the README under a name of this test's own, and a port for it. */
class Image {
  private static count = 0;
  readonly name = `${mark}-readme-${++Image.count}`;
  readonly directory = path.join(work, `image-${Image.count}`);
  private port = 0;

  /** The files beside the Dockerfile. */
  constructor(dockerfile: string, files: Record<string, string> = {}) {
    for (const [name, text] of Object.entries({ ...files, Dockerfile: here(dockerfile) })) {
      const file = path.join(this.directory, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, text, { mode: 0o755 });
    }
  }

  line(text: string): string {
    return here(text)
      .replaceAll("my-app", this.name)
      .replace("8080:8080", `127.0.0.1:${this.port}:8080`);
  }

  async build(): Promise<void> {
    await readyImages();
    this.port = await freePort();
    await output("sh", "-ec", `cd ${this.directory} && ${this.line(typed.build)}`);
    ours(this.name);
  }

  run(line = typed.run): Run {
    return type(this.line(line), this.directory);
  }

  ask(target = ""): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.port}/${target}`);
  }

  async stop(run: Run): Promise<void> {
    await docker(...this.line(typed.stop).split(" ").slice(1));
    expect((await run.exit()).code).toBe(0);
  }
}

/** The names of images as they are here, and the network that a build has. */
function here(text: string): string {
  return text
    .replace(/(-t |--from=|FROM )entrypoint(-demo|:[\w-]+)?(?=\s|$)/g, (_, before, name = "") => {
      return `${before}${imageName(`entrypoint${name}`)}`;
    })
    .replace(/ entrypoint-demo$/, ` ${imageName("entrypoint-demo")}`)
    .replace("docker build", "docker build --quiet --network host")
    .replace("docker run", `docker run --label ${mark}`);
}

function imageName(name: string): string {
  return `${mark}:readme-${name.replace(":", "-")}`;
}

/** The rows of the table of images. */
const tags = [...readme.matchAll(/^\| `(entrypoint[\w:-]*)` \| .* \| `(.* -t \S+|-t \S+)` \|$/gm)];

let built: Promise<void> | undefined;
function readyImages(): Promise<void> {
  built ??= (async () => {
    const directory = await clone();
    for (const [, name = "", options = ""] of tags) {
      await output("sh", "-ec", `cd ${directory} && ${here(`docker build ${options} .`)}`);
      ours(imageName(name));
    }
  })();
  return built;
}

beforeAll(async () => {
  if (engine) await readyImages(); // the first time it takes minutes
}, 10 * MINUTES);

describe("images of the README", () => {
  inEngine("the table of images, each built as it says", async () => {
    expect(tags.map(([, name]) => name)).toEqual([
      "entrypoint",
      "entrypoint:binary",
      "entrypoint:binary-musl",
      "entrypoint-demo",
    ]);
    expect(typed.base).toBe(`docker build ${tags[0]?.[2]} .`);
    await readyImages();
  });

  inEngine("the demo: the lines that it shows, Ctrl-C, and a crash", async () => {
    const directory = await clone();
    const port = await freePort();
    const line = here(typed.demo).replace("8080:8080", `127.0.0.1:${port}:8080`);
    const demo = type(line, directory);
    await demo.line(/ready in/, MINUTES);
    ours(imageName("entrypoint-demo"));
    const page = await fetch(`http://127.0.0.1:${port}/`);
    expect(await page.text()).toContain("Hello");
    await demo.line(/^nginx \|/);
    await pressCtrlC(demo);
    expectShown(demo, demoShown?.replace(/"curl[^"]*"/, '"curl"'));

    const crashing = type(line, directory);
    await crashing.line(/ready in/, MINUTES);
    await fetch(`http://127.0.0.1:${port}/exit?code=7`).catch(() => {});
    expect((await crashing.exit()).code).toBe(7);
    expectShown(crashing, crashShown);
  });

  const [diff = ""] = fences("README.md", "diff");
  const threeLines = diff.replace(/^[+ ]/gm, "");
  const python = {
    "app.py": fs.readFileSync(path.join(import.meta.dir, "app.py"), "utf8"),
    "static/picture.svg": fs.readFileSync(path.join(staticFiles, "picture.svg"), "utf8"),
  };
  const blocks = fences("README.md", "dockerfile");
  const block = (word: string) => blocks.find((text) => text.includes(word)) ?? "";

  inEngine("three lines drop into a stock Python image", async () => {
    const stock = fs.readFileSync(path.join(import.meta.dir, "docker/python.Dockerfile"), "utf8");
    expect(diff.replace(/^\+.*\n/gm, "").replace(/^ /gm, "")).toBe(stock);

    const app = new Image(threeLines, python);
    await app.build();
    const run = app.run();
    await run.line(/ready in/);
    const page = await app.ask();
    expect([page.status, await page.text()]).toEqual([200, "Hello from Python\n"]);
    const picture = await app.ask("static/picture.svg");
    expect([picture.status, await picture.text()]).toEqual([200, python["static/picture.svg"]]);
    await app.stop(run);
    expectShown(run, `${appShown}${stopShown}`);

    const [, check = ""] = /`(docker run --rm my-app --check \w.*?)`/.exec(readme) ?? [];
    const plan = await output("sh", "-ec", app.line(check));
    expect(plan).toMatch(
      /^app +8081 +until it listens +by program +PORT=\$APP_PORT python app.py$/m,
    );
  });

  inEngine("an app that does not read PORT", async () => {
    const instead = block("ENV APP_PORT=");
    const app = new Image(threeLines.replace(/^CMD.*\n/m, instead), python);
    await app.build();
    const run = app.run();
    await run.line(/ready in/);
    expect(await (await app.ask("app.py")).text()).toBe(python["app.py"]);
    await app.stop(run);
  });

  inEngine("a user that is not root, with few rights", async () => {
    const [user = ""] =
      /`(USER \d+:\d+)` before the line `ENTRYPOINT`/.exec(readme)?.slice(1) ?? [];
    const app = new Image(threeLines.replace("ENTRYPOINT", `${user}\nENTRYPOINT`), python);
    await app.build();
    expect(await docker("run", "--rm", "--entrypoint", "id", app.name, "-u")).toBe("10001");
    const run = app.run(typed.lockedDown);
    await run.line(/ready in/);
    await pressCtrlC(run);
    expectShown(run, "entrypoint | SIGINT: stopping nginx, then app\nentrypoint | stopped in 1 ms");
  });

  inEngine("an image on top of entrypoint", async () => {
    const app = new Image(block("FROM entrypoint\n"), python);
    await app.build();
    const run = app.run();
    await run.line(/ready in/);
    expect(await (await app.ask()).text()).toBe("Hello from Python\n");
    await app.stop(run);
  });

  inEngine("an image with a Procfile, whose mistakes stop the build", async () => {
    const dockerfile = `FROM entrypoint\n${block("RUN entrypoint --check")}`;
    const [procfile = ""] = fences("README.md", "procfile");
    const programs = { "migrate.sh": "#!/bin/sh\n", server: "#!/bin/sh\n", worker: "#!/bin/sh\n" };
    await new Image(dockerfile, { ...programs, Procfile: procfile }).build();
    const mistaken = new Image(dockerfile, { ...programs, Procfile: "no line of a Procfile" });
    await expect(mistaken.build()).rejects.toThrow("Procfile:1: must be");
  });

  inEngine("a base image with CMD, ENTRYPOINT and STOPSIGNAL of its own", async () => {
    const script = { "docker-entrypoint.sh": '#!/bin/sh\necho prepared; exec "$@"\n', ...python };
    const base = new Image(
      [
        ...["FROM entrypoint", "COPY docker-entrypoint.sh /usr/bin/", "STOPSIGNAL SIGUSR1"],
        ...['ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["python", "app.py"]'],
      ].join("\n"),
      script,
    );
    await base.build();
    const entrypoint = `FROM ${base.name}\nENTRYPOINT ["tini", "--", "entrypoint"]\n`;
    const without = new Image(entrypoint);
    await without.build();
    const [{ Config }] = JSON.parse(await docker("inspect", without.name));
    expect(Config).toMatchObject({ Cmd: null, StopSignal: "SIGUSR1" });

    const [, cmd] = /`(CMD \["docker-entrypoint\.sh", .*?\])`/.exec(readme) ?? [];
    const [, signal] = /write `(STOPSIGNAL SIGTERM)`/.exec(readme) ?? [];
    const serving = cmd?.replace(
      '"python", "app.py"',
      '"env", "BUN_BE_BUN=1", "entrypoint", "x.ts"',
    );
    const app = new Image(`${entrypoint}COPY x.ts .\n${signal}\n${serving}\n`, {
      "x.ts": 'Bun.serve({ port: process.env.PORT, fetch: () => new Response("hello") });',
    });
    await app.build();
    const run = app.run();
    await run.line(/ready in/);
    expect(run.stdout.lines).toContain("app   | prepared");
    expect(await (await app.ask()).text()).toBe("hello");
    await app.stop(run);
  });
});

// ---- When it does not start: each message of the table

/** Those of the README's table, and those of a container that goes on. */
const messages = [
  ["README.md", "When it does not start"],
  ["test/faults.md", "Warnings"],
].flatMap(([page = "", heading]) => {
  const text = fs.readFileSync(path.join(root, page), "utf8");
  const [, after = ""] = text.split(`\n## ${heading}\n`);
  const rows = (after.split("\n## ")[0] ?? "").matchAll(/^\| `([^`]+)` \| /gm);
  return [...rows].map(([, message = ""]) => message);
});

/** A message as the program says it, where `…` and times may be anything, and ports are free ones. */
function saying(message: string, ports: Partial<Ports> = {}): RegExp {
  const { port = 8080, appPort = 8081, other = 8000 } = ports;
  const parts = message
    .replaceAll("8080", `${port}`)
    .replaceAll("8081", `${appPort}`)
    .replaceAll("8000", `${other}`)
    .split(/…|\d\.\d s/);
  return new RegExp(parts.map((part) => RegExp.escape(part)).join(".+"));
}

interface Ports {
  port: number;
  appPort: number;
  other: number;
}

interface Fault {
  args?: (ports: Ports) => string[];
  procfile?: (ports: Ports) => string[];
  env?: (ports: Ports) => Record<string, string>;
  before?: (box: Box, ports: Ports) => void;
  /** A signal that it gets when it has said this line. */
  signals?: [after: RegExp, signal: NodeJS.Signals][];
  /** A port that is open before the first of them. */
  open?: keyof Ports;
  escapes?: RegExp;
  code: number;
}

const server = (port: number) => ["sh", "-c", `exec ${serve(port)}`];

const faults: Record<string, Fault> = {
  "no COMMAND and no Procfile; see entrypoint --help": { code: 2 },
  "nginx: exit code 127 (nginx not found) after …": {
    args: ({ appPort }) => server(appPort),
    env: () => ({ PATH: "bin" }),
    before: ({ dir }) => busyboxIn(path.join(dir, "bin"), "sh", "busybox"),
    code: 127,
  },
  "app: exit code 127 (./server not found) after …": { args: () => ["./server"], code: 127 },
  "app: exit code 126 (./server not executable) after …": {
    args: () => ["./server"],
    before: (box) => box.write("server", "#!/bin/sh\n"),
    code: 126,
  },
  "app: does not listen on port 8081 yet; it listens on port …": {
    args: ({ other }) => server(other),
    signals: [[/it listens on port/, "SIGTERM"]],
    code: 0,
  },
  "app: did not listen on port 8081 within …": {
    args: () => ["sleep", "1000"],
    env: () => ({ ENTRYPOINT_READY: "0.2" }),
    code: 1,
  },
  "app: exit code 0 after …: it was done at once; …": { args: () => ["true"], code: 0 },
  "…: the & at the end of its line puts it into the background: …": {
    procfile: () => ["web: sleep 1000 &"],
    code: 0,
  },
  "…: it lives on in the background; …": { args: () => ["sh", "-c", "sleep 1000 &"], code: 0 },
  "PORT=8081: must differ from APP_PORT=8081: …": {
    args: () => ["true"],
    env: ({ appPort }) => ({ PORT: `${appPort}` }),
    code: 2,
  },
  "app: another program listens on port 8081 already: …": {
    args: () => ["true"],
    before: (_, { appPort }) => occupied.push(occupy("127.0.0.1", appPort).stop),
    code: 2,
  },
  "nobody listens on port 8080; web listens on port 8000: …": {
    procfile: ({ other }) => [`web: ${serve(other)}`],
    signals: [[/nobody listens on .*; web listens/, "SIGTERM"]],
    code: 0,
  },
  "Procfile:1: must be …": { procfile: () => ["app ./server"], code: 2 },
  'nginx: ENTRYPOINT_NGINX=my.conf:3: unknown directive "proxy_pas"': {
    args: () => ["--check", "cat"],
    env: () => ({ ENTRYPOINT_NGINX: "my.conf" }),
    before: (box) => box.write("my.conf", "root /x;\n\nproxy_pas http://app;\n"),
    code: 2,
  },
  "nginx: nginx finds nobody at APP_PORT=8081 and answers 502: …": {
    args: () => ["--check"],
    procfile: () => ["app: cat", "nginx: nginx -c $NGINX_CONF"],
    code: 0,
  },
  "app: listens on port …, and those below did not wait for it: …": {
    procfile: ({ port, other }) => [`app: ${serve(other)}`, `web: ${serve(port)}`],
    signals: [[/ready in/, "SIGTERM"]],
    open: "other",
    code: 0,
  },
  "web: listens on port 8080 and was up before app: …": {
    procfile: ({ port, other }) => [`web: ${serve(port)}`, `app: ${listener(other)}`],
    signals: [[/ready in/, "SIGTERM"]],
    open: "port",
    code: 0,
  },
  "SIGTERM: stopping already; web may take 6.3 s more": {
    procfile: () => [`web: trap "" TERM; ${forever}`],
    env: () => ({ ENTRYPOINT_GRACE: "1.5" }),
    signals: [
      [/^web \| up/, "SIGTERM"],
      [/SIGTERM: stopping web/, "SIGTERM"],
    ],
    code: 137,
  },
  "SIGHUP: web has not started yet, so nobody gets it": {
    procfile: ({ other }) => [`app: PORT=${other} ${forever}`, "web: sleep 1000"],
    signals: [
      [/^app \| up/, "SIGHUP"],
      [/has not started yet/, "SIGTERM"],
    ],
    code: 0,
  },
  "cache: redis-server (pid …) listens on port … in the background, …": {
    procfile: ({ other }) => [
      `cache: PORT=${other} redis-server --daemonize yes --save '' --port ${other}; exec sleep 1000`,
      "web: sleep 1000",
    ],
    signals: [[/in the background/, "SIGTERM"]],
    escapes: /redis/,
    code: 0,
  },
};

const occupied: (() => void)[] = [];
afterAll(() => {
  for (const stop of occupied) stop();
});

/** Of images, by the words after `docker run`. */
const imageFaults: Record<string, { words: string[]; code: number }> = {
  'exec: "tini": executable file not found in $PATH': {
    words: ["--entrypoint", "tini", "debian:trixie-slim", "--", "entrypoint"],
    code: 127,
  },
  "exec /usr/local/bin/entrypoint: no such file or directory": {
    words: [imageName("entrypoint:binary"), "/usr/local/bin/entrypoint"], // no loader of glibc's there
    code: 1,
  },
  "exec /usr/local/bin/entrypoint: exec format error": {
    words: [`${mark}:other`, "/usr/local/bin/entrypoint"],
    code: 1,
  },
  "/tmp: cannot be written in (EROFS): …": {
    words: ["--read-only", imageName("entrypoint"), "true"],
    code: 2,
  },
  "runs as PID 1, so zombies are not reaped: …": {
    words: ["--entrypoint", "entrypoint", imageName("entrypoint"), "true"],
    code: 0,
  },
  "app: killed by SIGKILL after …: out of memory, the limit is …": {
    words: [
      ...["--memory", "128m", "--memory-swap", "128m", "--env", "BUN_BE_BUN=1"],
      ...["--entrypoint", "sh", imageName("entrypoint"), "-c"],
      `echo 'for (const all = [];;) all.push(Buffer.alloc(1e6, 1))' >/tmp/hog.ts
      unset BUN_BE_BUN; exec tini -- entrypoint env BUN_BE_BUN=1 entrypoint /tmp/hog.ts`,
    ],
    code: 137,
  },
};

/** Of Alpine's image, which test/docker.test.ts makes. */
const elsewhere = [
  "exec entrypoint failed: No such file or directory",
  "Error loading shared library libstdc++.so.6",
];

test("each message of the table has a test", () => {
  const tested = [...elsewhere, ...Object.keys(imageFaults), ...Object.keys(faults)];
  expect(messages.toSorted()).toEqual(tested.sort());
  const text = fs.readFileSync(path.join(import.meta.dir, "docker.test.ts"), "utf8");
  for (const message of elsewhere) expect(text).toContain(message);
});

section(
  "a message of the README",
  (it) => {
    for (const [message, fault] of Object.entries(faults))
      it(message, async (box) => {
        const { args, procfile, env, before, signals = [], open, escapes, code } = fault;
        const [port, appPort, other] = [await freePort(), await freePort(), await freePort()];
        const ports = { port, appPort, other };
        before?.(box, ports);
        const lines = procfile?.(ports);
        if (lines) box.write("Procfile", `${lines.join("\n")}\n`);
        const run = box.start(args?.(ports) ?? [], {
          env: { PORT: `${port}`, APP_PORT: `${appPort}`, ...env?.(ports) },
        });
        box.mayEscape = escapes;
        for (const [after, signal] of signals) {
          await run.line(after);
          if (open) await eventually("the port", () => isOpen(ports[open]));
          await Bun.sleep(50); // within 20 ms it would be the same signal
          run.signal(signal);
        }
        expect((await run.exit()).code).toBe(code);
        expect(run.stdout.text + run.stderr.text).toMatch(saying(message, ports));
      });
  },
  [compiled],
);

async function isOpen(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  return answer !== undefined;
}

describe("a message of the README, from an image", () => {
  for (const [message, { words, code }] of Object.entries(imageFaults))
    inEngine(message, async () => {
      await readyImages();
      if (words[0]?.endsWith(":other")) {
        const other = process.arch === "arm64" ? "amd64" : "arm64";
        const options = ["--platform", `linux/${other}`, "--target", "binary"];
        await build(`${mark}:other`, ...options, await clone());
      }
      const {
        code: got,
        out,
        err,
      } = await command("docker", "run", "--rm", "--label", mark, ...words);
      expect(out + err).toMatch(saying(message));
      expect(got).toBe(code);
    });
});

// ---- The Procfile, the environment

section(
  "the README",
  (it) => {
    const [procfile = "", twoLines = ""] = fences("README.md", "procfile");
    const plan = async (box: Box, ...args: string[]) => {
      const run = box.start(["--check", ...args]);
      expect([(await run.exit()).code, run.stderr.text]).toEqual([0, ""]);
      return run.stdout.text;
    };

    it("has a Procfile without a mistake", async (box) => {
      box.write("Procfile", procfile);
      for (const [, program = ""] of procfile.matchAll(/\.\/(\S+)/g))
        fs.chmodSync(box.write(program, "#!/bin/sh\n"), 0o755);
      expect(await plan(box)).toMatch(/^worker +8080 +no +SIGINT /m);
    });

    it("says which two lines a COMMAND is", async (box) => {
      const byCommand = await plan(box, "cat");
      box.write("Procfile", twoLines.replace("COMMAND", "cat"));
      expect(await plan(box)).toBe(byCommand);
    });

    it("has the variables and the defaults of --help", async (box) => {
      const run = box.start(["--help"]);
      await run.exit();
      const helped = [...run.stdout.text.matchAll(/^ {2}([A-Z_]+)=(\S+)/gm)];
      const rows = [...readme.matchAll(/^\| ([A-Z]+(?:_[A-Z]+)*) \| (.*?) \|/gm)];
      expect(rows.map(([, name]) => name)).toEqual(helped.map(([, name]) => name));
      for (const [i, [, name, value = ""]] of helped.entries())
        if (!/^[A-Z]/.test(value))
          expect(`${name} ${rows[i]?.[2]}`).toStartWith(`${name} ${value}`);
    });
  },
  [compiled],
);

const surprises = [
  { what: "-f does not change the directory", procfile: "a: ls -d sub", prints: /^a \| sub$/m },
  { what: "stdin is at its end", procfile: "a: cat && echo end", prints: /^a \| end$/m },
  {
    what: "PORT is not counted up",
    procfile: "b: true; sleep 9\na: echo $PORT",
    prints: /^a \| 7777$/m,
  },
  {
    what: "all of a line has its port",
    procfile: "a: PORT=7778 echo $PORT",
    prints: /^a \| 7778$/m,
  },
  { what: "a file .env is not read", procfile: 'a: echo "<$OF_ENV>"', prints: /^a \| <>$/m },
];

section(
  "what surprises people",
  (it) => {
    for (const { what, procfile, prints } of surprises)
      it(what, async (box) => {
        box.write("sub/Procfile", `${procfile}\n`);
        box.write(".env", "OF_ENV=1\n");
        const env = { PORT: "7777", ENTRYPOINT_READY: "0" };
        const run = box.start(["-f", "sub/Procfile"], { env });
        expect((await run.exit()).code).toBe(0);
        expect(run.stdout.text).toMatch(prints);
      });
  },
  [compiled],
);

// ---- All pages

const pages = [".", "test"].flatMap((folder) =>
  fs
    .globSync(folder === "." ? "*.md" : "**/*.md", { cwd: path.join(root, folder) })
    .filter((name) => !/node_modules|dist\//.test(name))
    .map((name) => path.join(folder, name)),
);

/** As GitHub makes the anchor of a heading. */
function anchors(text: string): string[] {
  const headings = text.replace(/^```.*?^```$/gms, "").matchAll(/^#+ (.*)$/gm);
  return [...headings].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, "")
      .replaceAll(" ", "-"),
  );
}

describe("pages", () => {
  for (const page of pages)
    test(`${page}: each link leads to something`, () => {
      const text = fs.readFileSync(path.join(root, page), "utf8");
      const links = text.replace(/^```.*?^```$/gms, "").matchAll(/\]\(([^()\s]+)\)/g);
      const broken = [...links].filter(([, link = ""]) => {
        if (/^https?:/.test(link)) return false;
        const [file = "", anchor] = link.split("#");
        const target = file ? path.join(root, path.dirname(page), file) : path.join(root, page);
        if (!fs.existsSync(target)) return true;
        return anchor !== undefined && !anchors(fs.readFileSync(target, "utf8")).includes(anchor);
      });
      expect(broken.map(([, link]) => link)).toEqual([]);
    });

  test("the README's figures are the benchmark's", () => {
    const tables = (text: string) =>
      [...text.matchAll(/(?:^\|.*\|\n)+/gm)].map(([table]) => {
        const lines = table.trimEnd().split("\n");
        const [head = [], , ...body] = lines.map((line) => line.slice(2, -2).split(" | "));
        return { head, body };
      });
    const all = tables(fs.readFileSync(path.join(import.meta.dir, "bench/README.md"), "utf8"));
    const cell = (name: string, column: string) => {
      const { head = [], body = [] } = all.find((table) => table.head.includes(column)) ?? {};
      return body.find((row) => row[0] === name)?.[head.indexOf(column)]?.replace(/ \(.*/, "");
    };
    const columns: Record<string, string> = {
      "until both processes run, ms": "exec to both running, ms",
      "from a death to the exit, ms": "a child's death to the exit, ms",
      "exit code (137 is true)": "exit code (137 is true)",
      "5xx at a cold start": "5xx before it",
    };
    const [, compared = ""] = readme.split("\n## Compared\n");
    const { head: [, ...names] = [], body = [] } = tables(compared)[0] ?? {};
    expect(names.length).toBeGreaterThan(3);
    for (const [row, column] of Object.entries(columns)) {
      const figures = body.find(([name]) => name === row);
      expect(figures).toEqual([row, ...names.map((name) => `${cell(name, column)}`)]);
    }
  });

  test("the page of the tests has each file and each variable of them", () => {
    const text = fs.readFileSync(path.join(import.meta.dir, "README.md"), "utf8");
    const files = fs.globSync("*.test.ts", { cwd: import.meta.dir });
    const named = [...text.matchAll(/^\| ([a-z0-9, -]+) \| .* \|$/gm)].flatMap(([, names = ""]) =>
      names.split(", "),
    );
    const names = files.map((file) => file.replace(".test.ts", ""));
    expect(named).toEqual(expect.arrayContaining(names));
    for (const file of files) {
      const source = fs.readFileSync(path.join(import.meta.dir, file), "utf8");
      for (const [variable] of source.matchAll(/\bENTRYPOINT_TEST_[A-Z]+\b/g))
        expect(text).toContain(variable);
    }
  });

  test("are short enough to be read", () => {
    const lines = (page: string) =>
      fs.readFileSync(path.join(root, page), "utf8").trimEnd().split("\n").length;
    expect(lines("README.md")).toBeLessThanOrEqual(400);
    expect(lines("test/README.md")).toBeLessThanOrEqual(60);
  });
});
