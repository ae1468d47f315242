// nginx in front, transparent. And the article's own case.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  ask,
  asUser,
  type Box,
  commandLine,
  eventually,
  freePort,
  hasIPv6,
  isRoot,
  launchDemo,
  Raw,
  type Runtime,
  runtimes,
  section,
  startDemo,
  staticFiles,
  within,
} from "./harness.ts";

/** The configuration that $NGINX_CONF names. */
function confOf(box: Box): string {
  const [directory = ""] = fs.readdirSync(box.tmp);
  const [conf = ""] = fs
    .globSync("**/*.conf", { cwd: path.join(box.tmp, directory) })
    .map((name) => fs.readFileSync(path.join(box.tmp, directory, name), "utf8"));
  return conf;
}

async function openWebSocket(port: number): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`);
  await within("the socket", new Promise((resolve) => socket.addEventListener("open", resolve)));
  return socket;
}

/** Asks for /headers with exactly these header lines, and gives what the app got. */
async function headersWith(port: number, lines: string[]): Promise<Record<string, string>> {
  const raw = new Raw(port);
  const answer = await raw
    .send(`GET /headers HTTP/1.1\r\n${[...lines, "Connection: close"].join("\r\n")}\r\n\r\n`)
    .everything();
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  const [json = "{}"] = /\[\[.*\]\]/s.exec(answer) ?? [];
  return Object.fromEntries(JSON.parse(json));
}

// First, so that it waits beside the others.
section(
  "a long answer",
  (it) => {
    it("takes longer than the minute that nginx waits by itself", async (box) => {
      const takesLong = async (runtime: Runtime) => {
        const { run, port } = await startDemo(box, { runtime });
        const raw = new Raw(port);
        raw.send("GET /slow?ms=65000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        await raw.received(/slow, but here/, 90_000);
        expect(raw.text).toMatch(/^HTTP\/1\.1 200 /);
        await run.stopsWell();
      };
      await Promise.all(runtimes.map(takesLong)); // at the same time, for the time it takes
    }, 120_000);
  },
  runtimes.slice(0, 1),
);

section("the article's own case", (it) => {
  it("its nginx.conf and a Python app in a two-line Procfile", async (box) => {
    const [port, appPort] = [await freePort(), await freePort()];
    fs.cpSync(path.join(import.meta.dir, "article"), box.dir, { recursive: true });
    fs.cpSync(path.join(import.meta.dir, "app.py"), path.join(box.dir, "app.py"));
    fs.cpSync(staticFiles, path.join(box.dir, "static"), { recursive: true });
    fs.chmodSync(box.base, 0o755);
    for (const name of ["nginx.conf", "Procfile"]) {
      const text = box.read(name).replaceAll("8080", `${port}`).replaceAll("8081", `${appPort}`);
      box.write(name, text.replace("/tmp/", `${box.dir}/`).replace("root .;", `root ${box.dir};`));
    }
    expect(box.read("Procfile").trim().split("\n")).toHaveLength(2);
    expect(box.read("nginx.conf")).toMatch(/access_log \/dev\/stdout;/);
    expect(box.read("nginx.conf")).toMatch(/error_log \/dev\/stdout;/);

    const run = box.start([], { env: { PORT: `${port}`, HOME: process.env.HOME ?? "/" } });
    await run.line(/ready in/);
    const url = `http://127.0.0.1:${port}`;
    expect(await ask(url)).toBe("200 Hello from Python\n");
    const picture = fs.readFileSync(path.join(staticFiles, "picture.svg"), "utf8");
    expect(await ask(`${url}/static/picture.svg`)).toBe(`200 ${picture}`);
    await run.line(/^nginx \| 127\.0\.0\.1 .*"GET \/ HTTP\/1\.1" 200 /);
    await run.line(/^nginx \| 127\.0\.0\.1 .*"GET \/static\/picture\.svg HTTP\/1\.1" 200 /);
    await run.line(/^app {3}\| .*GET \/ HTTP/);
    expect(await ask(`${url}/static/missing`)).toStartWith("404 ");
    await run.line(/^nginx \| .*\[error\].*\/static\/missing/); // error_log /dev/stdout
    expect(run.stdout.text).toContain("[error]");
    await run.stopsWell();
  });

  it("gives no 502 at a cold start", async (box) => {
    const { run, url } = await launchDemo(box, { env: { BOOT_MS: "600" } });
    const statuses: number[] = [];
    let refused = 0;
    while (statuses.length < 20) {
      // One connection each, every 5 ms. What is refused is not an answer, what is accepted is.
      await fetch(url, { keepalive: false }).then(
        (response) => statuses.push(response.status),
        (error) => {
          if (!/^(ConnectionRefused|ECONNREFUSED)$/.test(error.code)) throw error;
          refused++;
        },
      );
      await Bun.sleep(5);
      if (refused > 4000) throw new Error("never accepted");
    }
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    expect(refused).toBeGreaterThan(0); // else the app was up before the client
    await run.stopsWell();
    expect(run.stdout.text).not.toMatch(/" 502 /);
  });
});

section("nginx", (it) => {
  it("serves the app, and static files with their types", async (box) => {
    const demo = await startDemo(box);
    const page = await fetch(demo.url);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('src="/static/picture.svg"');
    for (const [name, type] of [
      ["picture.svg", "image/svg+xml"],
      ["style.css", "text/css; charset=utf-8"],
    ] as const) {
      const file = await fetch(`${demo.url}/static/${name}`);
      expect([file.status, file.headers.get("content-type")]).toEqual([200, type]);
      expect(await file.text()).toBe(fs.readFileSync(path.join(staticFiles, name), "utf8"));
    }
    for (const name of ["missing.css", "../app.ts", "%2e%2e/app.ts", "..%2fapp.ts"]) {
      const answer = await new Raw(demo.port)
        .send(`GET /static/${name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
        .everything();
      expect([name, answer.slice(0, 12)]).not.toEqual([name, "HTTP/1.1 200"]);
    }
    await demo.run.line(/^app {3}\| GET \//);
    await demo.run.line(/^nginx \| .*"GET \/ HTTP\/1\.1" 200 /);
    expect(await (await fetch(`${demo.url}/env`)).json()).toMatchObject({
      PORT: `${demo.appPort}`,
      APP_PORT: `${demo.appPort}`,
    });
    await demo.run.stopsWell();
  });

  it("listens on IPv6 too, where there is one", async (box) => {
    if (!hasIPv6) return;
    const demo = await startDemo(box);
    // nginx opens its sockets one after the other.
    const answer = await eventually("an answer", () =>
      fetch(`http://[::1]:${demo.port}/`).catch(() => undefined),
    );
    expect(answer.status).toBe(200);
    await demo.run.stopsWell();
  });

  it("streams an upload, and takes one of 50 MB", async (box) => {
    const demo = await startDemo(box);
    const size = 50_000_000;
    const raw = new Raw(demo.port);
    const head = ["POST /upload HTTP/1.1", "Host: x", `Content-Length: ${size}`, "", ""];
    raw.send(head.join("\r\n")).send("x".repeat(1000));
    await eventually("the first 1000 bytes in the app", async () => {
      const soFar = await fetch(`${demo.url}/upload`);
      return (await soFar.text()) === "1000\n"; // and we have not sent the rest yet
    });
    raw.send("x".repeat(size - 1000));
    await raw.received(new RegExp(`\r\n${size}\n`));
    raw.close();
    const answer = await fetch(`${demo.url}/upload`, { method: "POST", body: Buffer.alloc(size) });
    expect(await answer.text()).toBe(`${size}\n`);
    await demo.run.stopsWell();
  });

  it("passes on a server-sent event before the next one is sent", async (box) => {
    const demo = await startDemo(box);
    const raw = new Raw(demo.port).send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
    await raw.received(/data: 0\n/);
    for (const event of [1, 2, 3]) {
      expect(raw.text).not.toContain(`data: ${event}\n`);
      await fetch(`${demo.url}/events/next`, { method: "POST" });
      await raw.received(new RegExp(`data: ${event}\n`));
    }
    expect(raw.text).toMatch(/content-type: text\/event-stream/i);
    raw.close();
    await demo.run.stopsWell();
  });

  it("passes on a WebSocket", async (box) => {
    const demo = await startDemo(box);
    const socket = await openWebSocket(demo.port);
    const messages: string[] = [];
    socket.onmessage = (event) => messages.push(String(event.data));
    const texts = ["hello", "größe", "x".repeat(100_000)];
    for (const text of texts) {
      socket.send(text);
      await eventually("the echo", () => messages.at(-1) === text);
    }
    expect(messages).toEqual(texts);
    socket.close();
    await demo.run.stopsWell();
  });

  it("upgrades only who asks for it", async (box) => {
    const demo = await startDemo(box);
    const app = (lines: string[]) => headersWith(demo.port, ["Host: x", ...lines]);
    expect(await app(["Upgrade: h2c"])).not.toHaveProperty("connection", "upgrade");
    await demo.run.stopsWell();
  });

  it("takes any grace that the program takes", async (box) => {
    for (const grace of ["1.6", "2.3", "4.1", "86400"]) {
      const { run } = await startDemo(box, { env: { ENTRYPOINT_GRACE: grace } });
      await run.stopsWell();
    }
  });

  it("ends with connections that never end before the grace is over", async (box) => {
    const demo = await startDemo(box, { env: { ENTRYPOINT_GRACE: "3" } });
    const socket = await openWebSocket(demo.port);
    const raw = new Raw(demo.port).send("GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n");
    await demo.run.line(/^app {3}\| GET \/slow/);
    const { code, stopMs } = await demo.run.stop();
    expect(code).toBe(0); // they had to be cut off, but nothing had to be killed
    expect(stopMs).toBeLessThan(6000);
    await raw.everything();
    socket.close();
    raw.close();
  });

  it("passes on Host and X-Forwarded-* as they came", async (box) => {
    const demo = await startDemo(box);
    const behindProxy = await headersWith(demo.port, [
      "Host: shop.example:8443",
      "X-Forwarded-For: 203.0.113.9, 10.0.0.1",
      "X-Forwarded-Proto: https",
      "X-Forwarded-Host: outer.example",
      "Forwarded: for=203.0.113.9;proto=https",
      "X_Under_Score: kept",
      "X-Two: 1",
      "X-Two: 2",
      "Authorization: Bearer abc",
      "Accept-Encoding: br",
    ]);
    expect(behindProxy).toMatchObject({
      host: "shop.example:8443",
      "x-forwarded-proto": "https",
      "x-forwarded-host": "outer.example",
      forwarded: "for=203.0.113.9;proto=https",
      x_under_score: "kept",
      "x-two": "1, 2",
      authorization: "Bearer abc",
      "accept-encoding": "br",
    });
    expect(behindProxy["x-forwarded-for"]).toStartWith("203.0.113.9, 10.0.0.1");

    const direct = await headersWith(demo.port, [`Host: localhost:${demo.port}`]);
    expect(direct).toMatchObject({
      host: `localhost:${demo.port}`,
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-proto": "http",
    });
    await demo.run.stopsWell();
  });

  it("passes on big headers, both ways", async (box) => {
    const demo = await startDemo(box);
    const big = "c".repeat(12_000); // over nginx's own 8 KB, below Bun's own 16 KB
    expect(await headersWith(demo.port, ["Host: x", `X-Big: ${big}`])).toMatchObject({
      "x-big": big,
    });
    const answer = await fetch(`${demo.url}/big-headers`);
    expect([answer.status, answer.headers.get("x-big")?.length]).toEqual([200, 12_000]);
    await demo.run.stopsWell();
  });

  it("keeps connections to the app, and to the client", async (box) => {
    const demo = await startDemo(box);
    const raw = new Raw(demo.port);
    for (let i = 1; i <= 3; i++) {
      raw.send("GET /slow?ms=0 HTTP/1.1\r\nHost: x\r\n\r\n");
      await raw.received(new RegExp(`(slow, but here[\\s\\S]*){${i}}`));
    }
    raw.close();
    expect(confOf(box)).toMatch(/keepalive \d+;/);
    expect((await headersWith(demo.port, ["Host: x"])).connection ?? "keep-alive").not.toBe(
      "close",
    );
    await demo.run.stopsWell();
  });

  it("is told to wait an hour, whatever it waits for", async (box) => {
    const demo = await startDemo(box);
    const directives = ["proxy_read_timeout", "proxy_send_timeout", "client_body_timeout"];
    for (const directive of [...directives, "send_timeout"])
      expect(confOf(box)).toMatch(new RegExp(`^ +${directive} +(3600s?|1h|60m);`, "m"));
    await demo.run.stopsWell();
  });

  it("runs as a user who may write nowhere but in TMPDIR", async (box) => {
    fs.chmodSync(box.tmp, 0o777);
    fs.chmodSync(box.dir, 0o555);
    const demo = await startDemo(box, {
      wrap: (command) => (isRoot ? [...asUser(65_534), ...command] : command),
    });
    expect((await fetch(demo.url)).status).toBe(200);
    expect((await fetch(`${demo.url}/static/style.css`)).status).toBe(200);
    const body = Buffer.alloc(5_000_000);
    const answer = await fetch(`${demo.url}/upload`, { method: "POST", body });
    expect(await answer.text()).toBe("5000000\n");
    for (const line of demo.run.stderr.lines) expect(line).not.toMatch(/\[(warn|alert|emerg)\]/);
    for (const name of ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
      expect(confOf(box)).toContain(`${name}_temp_path "${box.tmp}/`);
    expect(confOf(box)).toContain(`pid "${box.tmp}/`);
    await demo.run.stopsWell();
  });

  it("says nothing that nobody asked for when it runs as root", async (box) => {
    const demo = await startDemo(box);
    await demo.run.stopsWell();
    for (const line of demo.run.stderr.lines) expect(line).toStartWith("entrypoint | ");
  });

  it("has a worker for each CPU that it may use", async (box) => {
    const [cpu = "0"] =
      /\d+/.exec(
        /Cpus_allowed_list:\s+(\S+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1] ?? "",
      ) ?? [];
    const demo = await startDemo(box, { wrap: (command) => ["taskset", "-c", cpu, ...command] });
    expect((await fetch(demo.url)).status).toBe(200);
    demo.run.remember();
    const processes = [...demo.run.descendants.keys()].map(commandLine);
    expect(processes.filter((line) => line.startsWith("nginx: "))).toHaveLength(2); // and a master
    await demo.run.stopsWell();
  });

  it("takes a template from ENTRYPOINT_NGINX", async (box) => {
    const template = box.write(
      "my.conf.template",
      `daemon off; pid ${box.dir}/pid; error_log stderr;
events {}
http {
  access_log /dev/stdout;
  server {
    listen 127.0.0.1:\${PORT};
    location / { return 200 "\${APP_PORT} \${GREETING} \${ENTRYPOINT_STATIC} $request_method $arg_x $$\n"; }
    location /\${GREETING} { proxy_pass http://127.0.0.1:\${APP_PORT}/; }
  }
}
`.replace(" $$", ""),
    );
    const demo = await startDemo(box, {
      env: { ENTRYPOINT_NGINX: template, GREETING: "hello", UNUSED: "x" },
    });
    const answer = await fetch(`${demo.url}/?x=1`);
    expect(await answer.text()).toBe(`${demo.appPort} hello ${staticFiles} GET 1\n`);
    expect(await (await fetch(`${demo.url}/hello`)).text()).toContain("Hello from the app");
    expect(confOf(box)).not.toContain("$" + "{PORT}");
    await demo.run.stopsWell();
  });

  it("serves a module as JavaScript", async (box) => {
    box.write("static/module.mjs", "export {};\n");
    const demo = await startDemo(box, { env: { ENTRYPOINT_STATIC: "" } });
    const { headers } = await fetch(`${demo.url}/static/module.mjs`);
    expect(headers.get("content-type")).toBe("text/javascript; charset=utf-8");
    await demo.run.stopsWell();
  });

  it("has static files from ./static, and does without", async (box) => {
    box.write("static/words.txt", "words\n");
    const first = await startDemo(box, { env: { ENTRYPOINT_STATIC: "" } });
    const file = await fetch(`${first.url}/static/words.txt`);
    expect([await file.text(), file.headers.get("content-type")]).toEqual([
      "words\n",
      "text/plain; charset=utf-8",
    ]);
    await first.run.stopsWell();
    box.remove("static");
    const second = await startDemo(box, { env: { ENTRYPOINT_STATIC: "" } });
    expect((await fetch(`${second.url}/static/words.txt`)).status).toBe(404);
    expect((await fetch(second.url)).status).toBe(200);
    await second.run.stopsWell();
  });

  it("ends the container with the app's code when the app ends", async (box) => {
    const demo = await startDemo(box);
    await fetch(`${demo.url}/exit?code=3`).catch(() => undefined);
    expect((await demo.run.exit()).code).toBe(3);
  });
});
