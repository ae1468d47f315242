// The image, in a real Docker engine. test/engine.sh makes one ready where there is none.

import { afterAll, beforeAll, describe, expect } from "bun:test";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { Answer, Load } from "./docker/client.ts";
import {
  build,
  buildDemo,
  Container,
  command,
  docker,
  env,
  image,
  inContainer,
  inEngine,
  MINUTES,
  mark,
  output,
  removeAll,
  type Start,
  testWith,
  works,
} from "./docker/engine.ts";
import { compiled, demoApp, eventually, fences, root, staticFiles, within } from "./harness.ts";
import { Greeter } from "./recipes/grpc-web/greet_pb.ts";

const work = fs.mkdtempSync(path.join(os.tmpdir(), "entrypoint-docker-"));
const LONGEST = Number(process.env.ENTRYPOINT_TEST_SECONDS ?? 15);
const node = fs.realpathSync(path.join(root, "node_modules/node/bin/node"));

beforeAll(buildDemo, 10 * MINUTES);

afterAll(async () => {
  fs.rmSync(work, { recursive: true });
  await removeAll();
}, MINUTES);

// ---- The image

describe("the image", () => {
  inEngine("says what one expects of it", async () => {
    const [{ Config }] = JSON.parse(await docker("inspect", image));
    expect(Config).toMatchObject({
      Entrypoint: ["tini", "--", "entrypoint"],
      User: "10001:10001",
      ExposedPorts: { "8080/tcp": {} },
      StopSignal: "SIGTERM",
    });
    const version = await docker("run", "--rm", image, "--version");
    expect(version).toMatch(/^entrypoint \d+\.\d+\.\d+$/);
  });

  inEngine("is what it is built on, the binary, and less than 5 MB", async () => {
    const history = await docker("history", "--human=false", "--format", "{{.Size}}", image);
    const [, ...layers] = history.split("\n").map(Number).filter(Boolean).reverse();
    layers.sort((a, b) => b - a);
    const [binary = 0, ...others] = layers;
    expect(binary).toBeLessThan(120e6);
    expect(others.reduce((sum, size) => sum + size)).toBeLessThan(5e6);
    const lists = "find /var/lib/apt/lists /var/cache/apt -type f | wc -l";
    expect(await docker("run", "--rm", "--entrypoint", "sh", image, "-c", lists)).toBe("0");
  });

  inEngine("is built anew in one layer when entrypoint.ts changes", async () => {
    const context = path.join(work, "context");
    const others = /\/(node_modules|dist|\.git)$/;
    fs.cpSync(root, context, { recursive: true, filter: (name) => !others.test(name) });
    fs.appendFileSync(path.join(context, "entrypoint.ts"), "console.log('changed');\n");
    const layers = async (tag: string, of: string): Promise<string[]> => {
      await build(`${mark}:${tag}`, "--target", "entrypoint", of);
      const format = ["--format", "{{json .RootFS.Layers}}"];
      return JSON.parse(await docker("inspect", ...format, `${mark}:${tag}`));
    };
    const before = await layers("base", ".");
    const after = await layers("changed", context);
    expect(after).toHaveLength(before.length);
    expect(after.filter((layer) => !before.includes(layer))).toHaveLength(1);
  });
});

// e_machine of an ELF header, and what loads it: glibc's, or musl's.
const binaries = [
  { target: "binary", arch: "amd64", machine: 62, loader: "/lib64/ld-linux-x86-64.so.2" },
  { target: "binary", arch: "arm64", machine: 183, loader: "/lib/ld-linux-aarch64.so.1" },
  { target: "binary-musl", arch: "amd64", machine: 62, loader: "/lib/ld-musl-x86_64.so.1" },
  { target: "binary-musl", arch: "arm64", machine: 183, loader: "/lib/ld-musl-aarch64.so.1" },
];

describe("an image with nothing but the binary", () => {
  for (const { target, arch, machine, loader } of binaries)
    inEngine(`--target ${target} --platform linux/${arch}`, async () => {
      const dir = path.join(work, `${target}-${arch}`);
      const options = ["--target", target, "--platform", `linux/${arch}`, "--output", dir];
      await docker("build", "--quiet", "--network", "host", ...options, ".");
      const files = fs.readdirSync(dir, { recursive: true, withFileTypes: true });
      const names = files.filter((file) => !file.isDirectory()).map(({ name }) => name);
      expect(names).toEqual(["entrypoint"]);
      const file = path.join(dir, "usr/local/bin/entrypoint");
      const header = fs.readFileSync(file).subarray(0, 4096);
      expect(header.readUInt16LE(18)).toBe(machine);
      expect(header.toString("latin1")).toContain(`${loader}\0`);
      expect(fs.statSync(file).mode & 0o777).toBe(0o755);
      fs.rmSync(dir, { recursive: true });
    });
});

// ---- Ways to run it

interface Way extends Start {
  way: string;
  /** What `inspection` finds in the container. */
  inside: RegExp[];
}

const lockedDown = [
  ...["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--user", "12345:12345"],
  ...["--security-opt", "no-new-privileges", "--pids-limit", "64", "--memory", "192m"],
  ...["--network", "none"],
];

const ways: Way[] = [
  { way: "docker run -p", options: ["-p", "127.0.0.1::8080"], inside: [/^Uid:\s10001\s/m] },
  {
    way: "docker run -e PORT=9000",
    options: ["-e", "PORT=9000", "-p", "127.0.0.1::9000"],
    port: 9000,
    inside: [/^Uid:\s10001\s/m],
  },
  {
    way: "docker run, locked down",
    options: lockedDown,
    inside: [
      /^Uid:\s12345\s12345\s12345\s12345$/m,
      /^CapBnd:\s0+$/m,
      /^NoNewPrivs:\s1$/m,
      /Read-only file system/,
      /^networks: lo$/m,
      /^memory: 201326592$/m,
      /^pids: 64$/m,
    ],
  },
  {
    way: "docker run as root",
    options: ["--user", "0:0", "-p", "127.0.0.1::8080"],
    inside: [/^Uid:\s0\s0\s0\s0$/m],
  },
  {
    way: "docker run --stop-signal SIGWINCH, as PID 1, the app behind a shell",
    options: [
      ...["--stop-signal", "SIGWINCH", "--entrypoint", "entrypoint", "--cap-drop", "ALL"],
      ...["-p", "127.0.0.1::8080"],
    ],
    words: ["sh", "-c", "cd . && env BUN_BE_BUN=1 entrypoint app.ts; exit $?"],
    inside: [],
  },
];

// cgroup v1, or else v2
const inspection = `
  entrypoint=$(grep -l '^PPid:.1$' /proc/[0-9]*/status)
  cat $entrypoint
  touch /file 2>&1
  echo networks: $(ls /sys/class/net)
  cd /sys/fs/cgroup
  echo memory: $(cat memory/memory.limit_in_bytes || cat memory.max)
  echo pids: $(cat pids/pids.max || cat pids.max)`;

for (const { way, inside, ...start } of ways) {
  describe(way, () => {
    const withContainer = (name: string, body: (container: Container) => Promise<void>) =>
      inEngine(name, () =>
        inContainer(start, async (container) => {
          await container.line(/ready in/);
          await body(container);
        }),
      );

    withContainer("serves / and /static/", async (container) => {
      const [page, picture] = await container.client<Answer[]>("get", "/", "/static/picture.svg");
      expect(page).toMatchObject({ status: 200, body: expect.stringContaining("Hello") });
      expect(picture).toMatchObject({ status: 200, headers: { "content-type": "image/svg+xml" } });
      const found = await container.exec(inspection);
      for (const pattern of inside) expect(found).toMatch(pattern);
    });

    withContainer("docker stop under load loses no request", async (container) => {
      const load = container.client<Load>("load");
      await eventually("load", async () => {
        const lines = (await container.logs()).split("\n");
        return lines.filter((line) => line.startsWith("nginx | ")).length > 100;
      });
      const asked = Date.now();
      const { code, ms } = await container.stop();
      expect(code).toBe(0);
      expect(ms).toBeLessThan(5000);
      const { answered, failures } = await load;
      expect(answered).toBeGreaterThan(100);
      const lost = failures.filter(({ begun, refused }) => begun < asked || !refused);
      expect(lost).toEqual([]);
    });

    withContainer("docker kill -s HUP reloads a changed configuration", async (container) => {
      await container.exec(
        "sed -i '/^http {/a add_header X-Changed yes;' /tmp/entrypoint-*/*.conf",
      );
      const changed = async () => {
        const [page] = await container.client<Answer[]>("get", "/");
        return page?.headers["x-changed"] === "yes";
      };
      expect(await changed()).toBe(false);
      await docker("kill", "--signal", "HUP", container.name);
      await eventually("the new configuration", changed);
      expect(await container.stop()).toMatchObject({ code: 0 });
    });

    withContainer("a crash of the app gives its code", async (container) => {
      await container.client("get", "/exit?code=7").catch(() => {}); // nginx has no time to answer
      expect((await container.exit()).code).toBe(7);
      await container.line(/app: exit code 7 after/);
    });
  });
}

// ---- What people type

describe("by hand", () => {
  inEngine("docker exec kill -HUP 1 reloads nginx, and nginx -s reload says why it cannot", () =>
    inContainer({ options: ["-p", "127.0.0.1::8080"] }, async (container) => {
      await container.line(/ready in/);
      const workers = () => container.exec("grep -l '^Name:.nginx' /proc/[0-9]*/status");
      const before = await workers();
      await container.exec("kill -HUP 1");
      await eventually(
        "other workers",
        async () => (await workers().catch(() => before)) !== before,
      );
      const { code, err } = await command(
        "docker",
        "exec",
        container.name,
        "nginx",
        "-s",
        "reload",
      );
      expect([code, err]).toEqual([1, expect.stringContaining('"/run/nginx.pid" failed')]);
    }),
  );

  inEngine("--entrypoint gives a shell with its stdin, without it bash is the app", async () => {
    const run = ["docker", "run", "--rm", "--interactive", "--label", mark];
    const shell = Bun.spawn([...run, "--entrypoint", "bash", image], {
      env,
      stdin: Buffer.from("echo hello; exit 3\n"),
      stdout: "pipe",
    });
    expect(await new Response(shell.stdout).text()).toBe("hello\n");
    expect(await shell.exited).toBe(3);
    const { code, err } = await command(...run, image, "bash");
    expect([code, err]).toEqual([0, expect.stringContaining("app: exit code 0 after")]);
  });

  inEngine("gRPC passes the server block of test/nginx.md", async () => {
    const conf = path.join(work, "grpc.conf");
    const blocks = fences("test/nginx.md", "nginx");
    fs.writeFileSync(conf, blocks.find((block) => block.includes("grpc_pass")) ?? "");
    const { outputs } = await Bun.build({
      entrypoints: [path.join(import.meta.dir, "recipes/grpc-web/server.ts")],
      target: "node",
    });
    const server = path.join(work, "server.mjs");
    await Bun.write(server, (await outputs[0]?.text()) ?? "");
    const volumes = { [conf]: "/my.conf", [server]: "/server.mjs", [node]: "/usr/local/bin/node" };
    const mounted = Object.entries(volumes).flatMap(([from, to]) => ["-v", `${from}:${to}:ro`]);
    const options = [...mounted, "-e", "ENTRYPOINT_NGINX=/my.conf", "-p", "127.0.0.1::8080"];
    await inContainer({ options, words: ["node", "/server.mjs"] }, async (container) => {
      await container.line(/ready in/);
      const [, port] = /:(\d+)$/m.exec(await docker("port", container.name)) ?? [];
      const greeter = createClient(
        Greeter,
        createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` }),
      );
      expect((await greeter.hello({ name: "you" })).text).toBe("Hello, you");
      const numbers: number[] = [];
      for await (const { number } of greeter.count({ to: 3 })) numbers.push(number);
      expect(numbers).toEqual([1, 2, 3]);
      await container.line(/"POST \/greet\.Greeter\/Count HTTP\/2\.0" 200/);
    });
  });
});

// ---- PID 1

const serve = ["env", "BUN_BE_BUN=1", "entrypoint", "app.ts"];
const orphans = (count: number) =>
  `for i in $(seq ${count}); do (true &); done; (sleep 0.1 &); exec ${serve.join(" ")}`;

describe("zombies", () => {
  const inits = [
    { pid1: "under tini", options: [], warned: false },
    { pid1: "without an init", options: ["--entrypoint", "entrypoint"], warned: true },
    { pid1: "with --init", options: ["--init", "--entrypoint", "entrypoint"], warned: false },
  ];
  for (const { pid1, options, warned } of inits) {
    const what = warned ? "are warned of" : "of 200 orphans: none";
    const words = ["sh", "-c", orphans(warned ? 20 : 200)];
    inEngine(`${what}, ${pid1}`, () =>
      inContainer({ options, words }, async (container) => {
        await container.line(/ready in/);
        expect(/runs as PID 1/.test(await container.logs())).toBe(warned);
        await Bun.sleep(500);
        const zombies = "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
        if (!warned) expect(await container.exec(zombies)).toBe("0");
        const { code, ms } = await container.stop();
        expect(code).toBe(0);
        expect(ms).toBeLessThan(9000);
      }),
    );
  }
});

describe("a pids limit", () => {
  const starter =
    'echo "p: sleep 1000" >/tmp/P; i=0; while [ $i -lt 60 ]; do i=$((i + 1)); echo "p$i: sleep 1000"; done >>/tmp/P; exec entrypoint -f /tmp/P';
  inEngine("that is too low for the processes ends it, and all of them", () => {
    const options = ["--pids-limit", "40", "--tmpfs", "/tmp", "--entrypoint", "tini"];
    return inContainer({ options, words: ["--", "sh", "-c", starter] }, async (container) => {
      // 126 and its own line, or 134 where it is Bun that wants a thread and cannot have it.
      const { code, ms } = await container.exit();
      expect([126, 134]).toContain(code);
      if (code === 126) await container.line(/p\d*: .*could not be started .*--pids-limit/);
      expect(ms).toBeLessThan(10_000);
    });
  });
});

describe("a violent end", () => {
  inEngine("SIGKILL of entrypoint alone ends the container at once", () =>
    inContainer({}, async (container) => {
      await container.line(/ready in/);
      const asked = performance.now();
      await container.exec("kill -9 $(grep -l '^PPid:.1$' /proc/[0-9]*/status | cut -d/ -f3)");
      const { code, ms } = await container.exit(asked);
      expect(code).toBe(137);
      expect(ms).toBeLessThan(3000);
    }),
  );

  inEngine("an app that passes the memory limit ends it with 137, and it says why", () => {
    const hog = "for (const all = [];;) all.push(Buffer.alloc(1e6, 1))";
    const words = ["env", "BUN_BE_BUN=1", "entrypoint", "-e", hog];
    const options = ["--memory", "128m", "--memory-swap", "128m"];
    return inContainer({ options, words }, async (container) => {
      expect((await container.exit()).code).toBe(137);
      await container.line(/app: killed by SIGKILL .*: out of memory, the limit is 128 MiB/);
    });
  });
});

// ---- A terminal

describe("docker run -it", () => {
  inEngine("is coloured, outlives a resize of the terminal, and drains at Ctrl-C", async () => {
    let screen = "";
    const name = `${mark}-tty`;
    const run = Bun.spawn(
      ["docker", "run", "-it", "--rm", "--name", name, "--label", mark, image],
      {
        env,
        terminal: {
          cols: 80,
          rows: 24,
          data: (_, bytes) => {
            screen += Buffer.from(bytes).toString();
          },
        },
      },
    );
    const line = (pattern: RegExp) =>
      eventually(`a line like ${pattern}`, () => pattern.test(screen)).catch((error) => {
        throw new Error(`${error}\n${screen}`);
      });
    const size = "stty size </proc/1/fd/0";
    await line(/ready in/);
    expect(screen).toContain("\x1b[36mapp  \x1b[39m | listening");
    const container = new Container(name);
    run.terminal?.resize(100, 50);
    await eventually("the new size", async () => (await container.exec(size)) === "50 100");
    await Bun.sleep(300);
    const [page] = await container.client<Answer[]>("get", "/");
    expect(page?.status).toBe(200);
    run.terminal?.write("\x03");
    expect(await within("the end", run.exited)).toBe(0);
    await line(/SIGINT: stopping nginx, then app/);
    expect(screen).not.toContain("nginx: exit code");
  });
});

// ---- Other images, other systems

describe("elsewhere", () => {
  describe("an image in Alpine's layout", () => {
    const alpine = `${mark}:alpine`;
    const app = `${mark}:alpine-app`;
    const context = path.join(work, "alpine");

    /** Tests run at the same time: who comes first builds. */
    let built: Promise<void> | undefined;
    const ready = () => {
      built ??= buildBoth();
      return built;
    };
    const buildBoth = async () => {
      fs.mkdirSync(context);
      fs.copyFileSync(demoApp, path.join(context, "app.ts"));
      const lines = ["app: BUN_BE_BUN=1 entrypoint app.ts", "beat: while :; do sleep 1; done"];
      fs.writeFileSync(path.join(context, "Procfile"), `${lines.reverse().join("\n")}\n`);
      fs.copyFileSync(
        path.join(root, "dist/musl/libstdc++.so.6"),
        path.join(context, "libstdc++.so.6"),
      );
      await build(`${mark}:binary-musl`, "--target", "binary-musl", ".");
      await build(alpine, "--file", "test/docker/alpine.Dockerfile", context);
      const text = fs.readFileSync(path.join(import.meta.dir, "docker/app.Dockerfile"), "utf8");
      expect(fences("README.md", "dockerfile")).toContain(text);
      fs.writeFileSync(
        path.join(context, "Dockerfile"),
        text
          .replace("FROM alpine", `FROM ${alpine}`)
          .replace("=entrypoint:binary-musl", `=${mark}:binary-musl`),
      );
      await build(app, context);
    };

    const users: [who: string, ...options: string[]][] = [
      ["root", "--user", "0:0"],
      ["another user", "--user", "12345:12345"],
      ["another user, locked down", ...lockedDown],
    ];
    for (const [who, ...options] of users)
      inEngine(`starts, serves and drains as ${who}`, async () => {
        await ready();
        const published = options.includes("none") ? [] : ["-p", "127.0.0.1::8080"];
        await inContainer({ of: app, options: [...options, ...published] }, async (container) => {
          await container.line(/ready in/);
          const slow = container.client<Answer[]>("get", "/slow?ms=1500");
          await container.line(/app +\| GET \/slow/);
          expect(await container.stop()).toMatchObject({ code: 0 });
          const [answer] = await slow;
          expect(answer).toMatchObject({ status: 200, body: "slow, but here\n" });
        });
      });

    inEngine("says what is missing: the right binary, or libstdc++", async () => {
      await ready();
      const run = async (of: string, ...options: string[]) => {
        const { code, err } = await command(
          "docker",
          "run",
          "--rm",
          "--label",
          mark,
          ...options,
          of,
        );
        return [code, err];
      };
      const glibc = ["--volume", `${compiled.command[0]}:/usr/local/bin/entrypoint:ro`];
      expect(await run(app, ...glibc)).toEqual([
        127,
        expect.stringContaining("exec entrypoint failed: No such file or directory"),
      ]);
      const without = ["--volume", "/dev/null:/usr/lib/libstdc++.so.6:ro"];
      expect(await run(app, ...without)).toEqual([
        127,
        expect.stringContaining("Error loading shared library libstdc++.so.6: "),
      ]);
    });
  });

  for (const userland of ["debian:bookworm-slim", "debian:trixie-slim"])
    inEngine(`the binary needs nothing but ${userland}`, async () => {
      const app = "BUN_BE_BUN=1 entrypoint -e 'Bun.serve({ fetch: () => new Response() })'";
      const procfile = path.join(work, "Procfile");
      fs.writeFileSync(procfile, `app: PORT=8081 ${app}\nlast: sleep 0.2; exit 3\n`);
      const { code, out, err } = await command(
        ...["docker", "run", "--rm", "--init", "--label", mark],
        ...["--volume", `${compiled.command[0]}:/usr/local/bin/entrypoint:ro`],
        ...["--volume", `${procfile}:/Procfile:ro`, userland, "entrypoint", "-f", "/Procfile"],
      );
      expect(out + err).toContain("last: exit code 3 after");
      expect(code).toBe(3);
    });
});

describe("a pids limit that is used up", () => {
  for (const idle of [1, 15, 60].filter((seconds) => seconds <= LONGEST))
    inEngine(`after ${idle} s: lines come, and a stop drains`, async () => {
      // Perl forks until nothing more can be, and nothing when it is asked.
      const forks = "while (defined(my $p = fork)) { $p or sleep 1000 } $| = 1; print qq(full\\n)";
      const later = `$SIG{TERM} = sub { print qq(bye\\n); exit }; sleep ${idle}; print qq(line\\n)`;
      const app = `exec perl -e '${forks}; ${later}; sleep 1 while 1'`;
      const { command: binary } = compiled;
      const options = ["--init", "--pids-limit", "60", "--entrypoint", "entrypoint"];
      const volumes = ["--volume", `${binary[0]}:/usr/local/bin/entrypoint:ro`];
      const procfile = path.join(work, `forks-${idle}`);
      fs.writeFileSync(procfile, `app: ${app}\n`);
      const start = {
        options: [...options, ...volumes, "--volume", `${procfile}:/Procfile:ro`],
        of: "debian:trixie-slim",
        words: ["-f", "/Procfile"],
      };
      await inContainer(start, async (container) => {
        await container.line(/app \| full/);
        await Bun.sleep(idle * 1000);
        await container.line(/app \| line/);
        expect(await container.stop()).toMatchObject({ code: 0 });
        expect(await container.logs()).toMatch(/app \| full\napp \| line\napp \| bye\n/);
      });
    });
});

testWith(Bun.which("objdump") !== null, "objdump")("glibc 2.28 is enough", async () => {
  const symbols = await output("objdump", "-T", compiled.command[0] ?? "");
  const minors = [...symbols.matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
  expect(Math.max(...minors)).toBeLessThanOrEqual(28);
});

const gvisor = ["runsc", "--platform=ptrace", "--network=none", "do"];
const inGvisor = testWith(await works(...gvisor, "true"), "runsc");

describe("gVisor", () => {
  inGvisor("starts, serves, stops, crashes as outside", async () => {
    const [entrypoint = ""] = compiled.command;
    const script = path.join(work, "gvisor.sh");
    fs.writeFileSync(
      script,
      `export ENTRYPOINT_STATIC=${staticFiles}
      ${entrypoint} env BUN_BE_BUN=1 ${entrypoint} ${demoApp} &
      BUN_BE_BUN=1 ${entrypoint} -e '
        const get = (path) => fetch("http://127.0.0.1:8080" + path).then(({ status }) => status);
        while (!(await get("/").catch(() => false))) await Bun.sleep(50);
        console.log(await get("/"), await get("/static/picture.svg"));'
      kill -TERM $!
      wait $!
      echo "stop: $?"
      ${entrypoint} sh -c "exit 7"
      echo "crash: $?"
      cd /tmp
      echo 'store: PORT=9001 trap "echo store ends; exit 0" TERM; while :; do sleep 0.1; done' >Procfile
      echo 'app: BUN_BE_BUN=1 ${entrypoint} ${demoApp}; exit $?' >>Procfile
      echo 'worker: sleep 1000 | cat' >>Procfile
      ENTRYPOINT_READY=0 ${entrypoint} &
      BUN_BE_BUN=1 ${entrypoint} -e '
        while (!(await fetch("http://127.0.0.1:8080/").catch(() => false))) await Bun.sleep(50);'
      kill -TERM $!
      wait $!
      echo "shells: $?"`,
    );
    const { out, err } = await command(...gvisor, "sh", script);
    expect(out).toContain("200 200\n");
    expect(out).toContain("stop: 0\n");
    expect(out).toContain("crash: 7\n");
    expect(err).toContain("SIGTERM: stopping nginx, then app");
    // There no mask is told: a shell gets SIGTERM, and so does who is behind it.
    expect(out).toContain("store  | store ends\n");
    expect(out).toContain("shells: 0\n");
    expect(err).toContain("SIGTERM: stopping worker, app, then store");
  });
});
