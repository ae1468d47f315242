// The user's part of nginx's configuration: it is read as nginx reads it, wins over ours by directive and
// key, and is read anew at SIGHUP. And the parts of the page nginx.md.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  ask,
  type Box,
  bun,
  demoApp,
  eventually,
  fences,
  freePort,
  hasNamespaces,
  inShell,
  type Launched,
  launchApp,
  Raw,
  runtimes,
  section,
  startApp,
} from "./harness.ts";

const first = runtimes.slice(0, 1); // nginx is the same whatever starts it
const some = runtimes.filter(({ name }) => !["bun", "node"].includes(name));

/** Tells what it is asked, and by whom: its port. */
const ECHO = `require("node:http").createServer((request, answer) => {
  request.resume().on("end", () =>
    answer.end(JSON.stringify([request.method, request.url, request.headers, process.env.PORT])));
}).listen(process.env.PORT)`;
const echo = ["node", "-e", ECHO];

async function start(box: Box, part: string, files: Record<string, string> = {}, command = echo) {
  for (const [name, text] of Object.entries(files)) box.write(name, text);
  const ENTRYPOINT_NGINX = box.write("my.conf", part);
  return await startApp(box, command, {
    env: { ENTRYPOINT_NGINX, API_PORT: `${await freePort()}` },
  });
}

async function headersAt(url: string, headers: Record<string, string> = {}) {
  const answer = await fetch(url, { headers: { Host: "shop.example:81", ...headers } });
  return JSON.parse(await answer.text())[2];
}

/** What the app gets of a proxy that is transparent. */
const PASSED = {
  host: "shop.example:81",
  "x-forwarded-for": "127.0.0.1",
  "x-forwarded-proto": "http",
};

// ---- What a part may be, and what is got at a path: a text, or what the app was asked

/** What is got at a path: a text, or what the app was asked. */
const APP = /^200 \["GET"/;
const SERVER = `server { include listen; location / { proxy_pass http://app; } }`;

/** A first line, and the others. */
const firstLine = (text: string) => /^([^\n]*)\n(.*)/s.exec(text)?.slice(1) ?? [];

/** The cases of parts.conf, in its notation. */
const parts = fs
  .readFileSync(path.join(import.meta.dir, "parts.conf"), "utf8")
  .replaceAll("\\r", "\r")
  .replaceAll("\\ufeff", "\ufeff")
  .split(/^== /m)
  .slice(1)
  .map((text) => {
    const [own = "", ...gets] = text.split(/^-> /m);
    const [part = "", ...files] = own.split(/^-- /m);
    const wanted = gets.map((line) => /^(\S+) (?:(the app)|\/(.*)\/|(.*))$/m.exec(line) ?? []);
    return {
      part: firstLine(part),
      files: Object.fromEntries(files.map(firstLine)),
      gets: wanted.map(([, target = "", app, pattern, answer = ""]) => ({
        target,
        got: app ? APP : new RegExp(pattern ?? `^200 ${RegExp.escape(answer)}$`),
      })),
    };
  });

section(
  "the user's part",
  (it) => {
    for (const {
      part: [what, part = ""],
      files,
      gets,
    } of parts)
      it(`may have ${what}`, async (box) => {
        box.write("static/a.css", "css");
        const { run, url } = await start(box, part.replaceAll("DIR", box.dir), files);
        for (const { target, got } of gets)
          expect([target, await ask(url + target)]).toEqual([target, expect.stringMatching(got)]);
        await run.stopsWell();
      });

    it("wins by the name of a header, and the proxy's others stay", async (box) => {
      const here =
        "location / { include proxy_params; LINE proxy_read_timeout 9s; proxy_pass http://app; }";
      for (const part of [
        "LINE",
        here,
        `LINE ${SERVER}`,
        "server { include listen; LINE location / { proxy_pass http://app; } }",
        `server { include listen; ${here} }`,
        "include x.inc;",
      ]) {
        for (const [lines, wanted] of [
          ["proxy_set_header X-Real-IP $remote_addr;", { "x-real-ip": "127.0.0.1" }],
          [
            'proxy_set_header host api.example; proxy_set_header "X-Forwarded-Proto" https;',
            { host: "api.example", "x-forwarded-proto": "https" },
          ],
        ] as const) {
          const files = { "x.inc": lines };
          const { run, url } = await start(box, part.replace("LINE", lines), files);
          const all = expect.objectContaining({ ...PASSED, ...wanted });
          expect([part, await headersAt(url)]).toEqual([part, all]);
          await run.stopsWell();
        }
      }
    }, 240_000);

    it("is named by nginx, with the line of its file", async (box) => {
      for (const part of [
        "map $uri $v { default v; }\n# a {\n\nlocatoin / { }",
        "upstream a { server 127.0.0.1; }\nlocation /v { return 200 v; }\n\nupstream b { }",
        "\nproxy_set_header X-A 1;\nlocation / {\n  include proxy_params; proxy_set_header Host a; prox_pass x; }",
        "\n\nserver { include listen;\n  lisen 1; }",
        "events { }\n\n\nhtpt { }",
      ]) {
        const env = { ENTRYPOINT_NGINX: box.write("my.conf", part) };
        const { run } = await launchApp(box, echo, { env });
        expect((await run.exit()).code).toBe(1);
        expect(run.stderr.text).toMatch(/\[emerg\] .*\/ENTRYPOINT_NGINX:4\b/);
      }
    });

    it("means the same with comments and blanks anywhere", async (box) => {
      const words =
        `map $arg_a $v { ~^\\d "{"; default 'v;' ; } limit_req_zone $uri zone=a:1m rate=99r/s ;
        proxy_set_header X-Mine "a # b" ; if ( $arg_b = 1 ) { return 200 "b }" ; }
        location ~ "^/w{2}$" { return 200 $v ; } location = /n { limit_req zone=a ; proxy_pass http://app ; }
        location /static/ { return 200 mine ; } location /round { return 200 ROUND ; }`.match(
          /"[^"]*"|'[^']*'|\S+/g,
        ) ?? [];
      const any = (...all: string[]) => all[Math.floor(Math.random() * all.length)] ?? "";
      const between = () =>
        any(
          " ",
          " ",
          "\n",
          "\t",
          "\r\n",
          " # location @app { }\n",
          "\n#' }\n",
          ' # "{;\n',
          "  \n\n",
        );
      let part = words.join(" ");
      const { run, url } = await start(box, part.replace("ROUND", "0"));
      for (let round = 1; round <= 30; round++) {
        part = words
          .map((word) => word + between())
          .join("")
          .replace("ROUND", `${round}`);
        box.write("my.conf", part);
        run.signal("SIGHUP");
        await eventually(
          `round ${round} of ${part}`,
          async () => (await ask(`${url}/round`)) === `200 ${round}`,
        );
        const got = await Promise.all(
          ["/ww", "/ww?a=1", "/?b=1", "/static/x"].map((target) => ask(url + target)),
        );
        expect([part, ...got]).toEqual([part, "200 v;", "200 {", "200 b }", "200 mine"]);
        expect(await headersAt(`${url}/n`)).toMatchObject({ ...PASSED, "x-mine": "a # b" });
      }
      await run.stopsWell();
    });

    it("may have Lua, whose braces nginx does not count", async (box) => {
      // Debian's nginx has no Lua: what is read is seen by what is put into http.
      const lua = `location /l { content_by_lua_block { local t = { "}", '}' } -- it's a }
        local s = [==[ } ]] " ]==] --[[ } ' ]] } }
        map $uri $v { default v; }`;
      const env = { ENTRYPOINT_NGINX: box.write("my.conf", lua) };
      const { run } = await launchApp(box, echo, { env });
      await run.exit();
      expect(run.stderr.text).toMatch(
        /unknown directive "content_by_lua_block" in .*\/server\/ENTRYPOINT_NGINX:1/,
      );
      expect(run.stderr.text).not.toContain("map");
    });

    it("needs no `daemon off`, and has it where nobody says `daemon`", async (box) => {
      const whole = `EXTRA pid ${box.dir}/pid; events {} http { access_log off; server { include listen; return 200 v; } }`;
      for (const [extra, options] of [
        ["", ""],
        ["daemon off;", ""],
        ["", "-g 'daemon off;'"],
      ]) {
        const part = whole.replace("EXTRA", `${extra}`);
        const port = await freePort();
        const env = { PORT: `${port}`, ENTRYPOINT_NGINX: box.write("my.conf", part) };
        const run = box.procfile([`nginx: nginx -c $NGINX_CONF -e stderr ${options}`], { env });
        await run.line(/ready in/);
        expect(await ask(`http://127.0.0.1:${port}/`)).toBe("200 v");
        await run.stopsWell();
        expect(run.stderr.text).toContain("SIGTERM: stopping nginx"); // it had not ended itself
      }
    });
  },
  first,
);

section(
  "nginx",
  (it) => {
    it("gets copies of what a part includes, or reads it where it is", async (box) => {
      const files = { "x.inc": `location /v { return 200 \${APP_PORT}; }` };
      const { run, url, appPort } = await start(box, `include x.inc; include ${box.dir}/y.inc;`, {
        ...files,
        "y.inc": "location /w { return 200 w; }",
      });
      expect([await ask(`${url}/v`), await ask(`${url}/w`)]).toEqual([`200 ${appPort}`, "200 w"]);
      await run.stopsWell();
    });
  },
  some,
);

// ---- Modules, as the image's own nginx.conf loads them

/** Where /etc/nginx is a directory of the test's own. */
function withEtc(box: Box): (command: string[]) => string[] {
  const mount = `mount --bind ${box.dir}/etc /etc/nginx && exec "$@"`;
  return (command) => ["unshare", "--mount", "sh", "-c", mount, "sh", ...command];
}

section(
  "a module",
  (it) => {
    it("that Debian's package brings is loaded", async (box) => {
      const { run, url } = await start(box, "location /v { echo -n v; }");
      expect(await ask(`${url}/v`)).toBe("200 v");
      await run.stopsWell();
    });

    it("that nginx refuses is named, and that it is the image's", async (box) => {
      if (!hasNamespaces) return;
      box.write("etc/mime.types", "types { text/css css; }");
      box.write(
        "etc/nginx.conf",
        "# load_module a;\ninclude enabled/*.conf;\nevents { load_module b; }",
      );
      box.write("etc/enabled/1.conf", "user nobody;\nload_module /no/such.so;");
      const env = { ENTRYPOINT_NGINX: box.write("my.conf", "location /v { return 200 v; }") };
      const { run } = await launchApp(box, echo, { env, wrap: withEtc(box) });
      expect((await run.exit()).code).toBe(1);
      const said = /\[emerg\] .*\/no\/such\.so.* in \S+\/modules-of-the-image:1/;
      expect(run.stderr.text).toMatch(said);
    });
  },
  first,
);

// ---- SIGHUP

const listening = (box: Box) => start(box, "location /v { return 200 1; }", {}, [bun, demoApp]);

async function reloaded({ run, url }: Launched, wanted: string): Promise<void> {
  run.signal("SIGHUP");
  await eventually(wanted, async () => (await ask(`${url}/v`)) === `200 ${wanted}`);
}

section(
  "a reload",
  (it) => {
    it("takes the file as it is by then, and what it includes", async (box) => {
      const demo = await listening(box);
      box.write("my.conf", "location /v { return 200 2; }");
      await reloaded(demo, "2");
      box.write("x.inc", "location /v { return 200 3; }");
      box.write("my.conf", "map $uri $v { default 3; }\ninclude x.inc;");
      await reloaded(demo, "3");
      box.write("my.conf", `server { include listen; location /v { return 200 4; } }`);
      await reloaded(demo, "4");
      box.write("my.conf", `location /v { return 200 5; }`);
      await reloaded(demo, "5");
      const app = async () => (await ask(`${demo.url}/env`)).startsWith("200 {");
      await eventually("the app, of the new workers", app);
      await demo.run.stopsWell();
    });

    it("leaves what nginx has where the file is of no use", async (box) => {
      const demo = await listening(box);
      for (const [part, said] of [
        ["", /WARNING|my\.conf: is empty: nginx keeps what it has/],
        [" \n# nothing\n", /my\.conf: is empty: nginx keeps/],
        [`location /v { return 200 \${NO_SUCH}; }`, /\$\{NO_SUCH\} is not set: nginx keeps/],
        ["location /v { retrun 200 2; }", /\[emerg\].*"retrun" in .*ENTRYPOINT_NGINX:1/],
        [undefined, /my\.conf: must be a readable file \(ENOENT\): nginx keeps/],
      ] as const) {
        if (part === undefined) box.remove("my.conf");
        else box.write("my.conf", part);
        demo.run.signal("SIGHUP");
        await demo.run.line(said);
        expect([part, await ask(`${demo.url}/v`)]).toEqual([part, "200 1"]);
      }
      box.write("my.conf", "location /v { return 200 2; }");
      await reloaded(demo, "2");
      await demo.run.stopsWell();
    });

    it("cuts no WebSocket and no event stream", async (box) => {
      const demo = await listening(box);
      const socket = new WebSocket(`ws://127.0.0.1:${demo.port}/ws`);
      const got: string[] = [];
      socket.onmessage = ({ data }) => got.push(`${data}`);
      await new Promise((resolve) => socket.addEventListener("open", resolve));
      const events = new Raw(demo.port).send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n");
      await events.received(/data: 0\n/);
      box.write("my.conf", "location /v { return 200 2; }");
      await reloaded(demo, "2");
      await Bun.sleep(9000); // 7.5 s was when they were cut
      socket.send("still there");
      await eventually("the echo", () => got.includes("still there"));
      await fetch(`${demo.url}/events/next`, { method: "POST" });
      await events.received(/data: 1\n/);
      socket.close();
      events.close();
      await demo.run.stopsWell();
    });
  },
  first,
);

// ---- Many connections

/** Opens so many streams, a few at a time. */
async function open(port: number, count: number): Promise<Raw[]> {
  const streams: Raw[] = [];
  while (streams.length < count) {
    const some = Array.from({ length: 100 }, () =>
      new Raw(port).send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    await Promise.all(some.map((stream) => stream.received(/data: 0\n/).catch(() => undefined)));
    streams.push(...some);
  }
  return streams;
}

section(
  "open streams",
  (it) => {
    it("may be four thousand on one CPU", async (box) => {
      const wrap = (command: string[]) => ["taskset", "-c", "0", ...command];
      const { run, port } = await startApp(box, [bun, demoApp], { wrap });
      const streams = await open(port, 4000);
      expect(streams.filter(({ text }) => !text.includes("data: 0\n"))).toHaveLength(0);
      for (const stream of streams) stream.close();
      await run.stopsWell();
    });

    it("are more than it has room for: a line says what to do", async (box) => {
      const { run, port } = await startApp(box, [bun, demoApp], { wrap: inShell("ulimit -n 150") });
      const streams = await open(port, 300);
      await run.line(/^entrypoint \| nginx: .*raise the limit/);
      expect(run.stderr.lines.filter((line) => line.includes("raise the limit"))).toHaveLength(1);
      for (const stream of streams) stream.close();
      await run.stopsWell();
    });
  },
  first,
);

// ---- The page: each of its parts is run

const page = fences("test/nginx.md", "nginx");
const FPM = `[global]\nerror_log = /dev/stderr\n[www]\nlisten = \${PORT}\npm = static\npm.max_children = 1\n`;
const php = fs.readdirSync("/usr/sbin").find((name) => /^php-fpm\d/.test(name));

/** By what only one of them has: how it is seen to do what its heading says. */
const onPage: Record<string, (demo: Launched, box: Box) => Promise<unknown>> = {
  "/index.html": async ({ url }) => {
    expect(await ask(`${url}/deep/link`)).toBe("200 page\n");
    expect(await ask(`${url}/api/x`)).toMatch(APP);
  },
  "fastcgi_pass app": async ({ url }) => {
    expect(await ask(`${url}/a/route?x=1`)).toBe("200 php /a/route?x=1");
    expect(await ask(`${url}/style.css`)).toBe("200 css\n");
  },
  $cors: async ({ url }) => {
    const origin = async (Origin: string, method = "GET") => {
      const { status, headers } = await fetch(`${url}/api/x`, { method, headers: { Origin } });
      return [status, headers.get("access-control-allow-origin")];
    };
    expect(await origin("https://shop.example")).toEqual([200, "https://shop.example"]);
    expect(await origin("https://shop.example", "OPTIONS")).toEqual([204, "https://shop.example"]);
    expect(await origin("https://other.example")).toEqual([200, null]);
  },
  auth_basic: async ({ url }) => {
    expect(await ask(`${url}/admin/`)).toStartWith("401 ");
    const headers = { Authorization: `Basic ${btoa("me:secret")}` };
    expect(await ask(`${url}/admin/`, { headers })).toMatch(APP);
    expect(await ask(`${url}/x`)).toMatch(APP);
  },
  limit_req: async ({ url }) => {
    const all = await Promise.all(Array.from({ length: 9 }, () => ask(`${url}/login`)));
    expect(all.filter((answer) => answer.startsWith("429 ")).length).toBeGreaterThan(3);
    expect(all.filter((answer) => APP.test(answer)).length).toBeGreaterThan(2);
    const body = Buffer.alloc(2_000_000);
    expect(await ask(url, { method: "POST", body })).toStartWith("413 ");
  },
  "upstream api": async ({ url, appPort }) => {
    expect(await ask(`${url}/x`)).toEndWith(`"${appPort}"]`);
    expect(await ask(`${url}/api/x`)).toStartWith("502 "); // nobody is there
  },
  "log_format short": async ({ url, run }) => {
    await ask(`${url}/a`);
    await run.line(/^nginx \| 200 [\d.]+ GET \/a$/);
  },
  $moved: async ({ url }) => {
    const goes = async (target: string, headers = {}) => {
      const answer = await fetch(url + target, { headers, redirect: "manual" });
      return [answer.status, answer.headers.get("location")];
    };
    expect(await goes("/old")).toEqual([301, "/new"]);
    expect(await goes("/docs/a?b")).toEqual([302, "https://docs.example/docs/a?b"]);
    const plain = { Host: "shop.example", "X-Forwarded-Proto": "http" };
    expect(await goes("/a", plain)).toEqual([308, "https://shop.example/a"]);
    expect(await goes("/a")).toEqual([200, null]);
  },
  "location /ws": async ({ port, url }) => {
    expect(await headersAt(`${url}/ws`)).toMatchObject({ ...PASSED, "x-real-ip": "127.0.0.1" });
    const head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    const raw = new Raw(port).send(head);
    await raw.received(/"upgrade":"websocket"/);
    raw.close();
  },
  proxy_cache_path: async ({ url }) => {
    const cached = async () => (await fetch(`${url}/pages/a`)).headers.get("x-cache");
    expect([await cached(), await cached()]).toEqual(["MISS", "HIT"]);
  },
  "client_max_body_size 10m": async ({ url }) => {
    const body = Buffer.alloc(11_000_000);
    expect(await ask(url, { method: "POST", body })).toMatch(/^413 .*nginx\/\d/s);
  },
  ssl_certificate: async ({ port }) => {
    const tls = { rejectUnauthorized: false };
    expect(await ask(`https://127.0.0.1:${port}/x`, { tls } as RequestInit)).toMatch(APP);
  },
};

section(
  "the page",
  (it) => {
    for (const [what, check] of Object.entries(onPage))
      it(`its part with ${what}`, async (box) => {
        const [part = "", ...more] = page.filter((block) => block.includes(what));
        expect(more).toEqual([]);
        const { exitCode } = Bun.spawnSync(
          `openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -subj /CN=x`.split(
            " ",
          ),
          { cwd: box.dir },
        );
        expect(exitCode).toBe(0);
        const files = {
          "public/index.html": "page\n",
          "public/style.css": "css\n",
          "public/index.php": '<?php echo "php " . $_SERVER["REQUEST_URI"];',
          "fpm.conf": FPM,
          passwords: "me:{PLAIN}secret\n",
        };
        const fpm = [
          `/usr/sbin/${php}`,
          "--nodaemonize",
          "--fpm-config",
          "fpm.conf",
          "--allow-to-run-as-root",
        ];
        const command = part.includes("fastcgi") ? fpm : echo;
        const demo = await start(
          box,
          part.replace("/app/public", `${box.dir}/public`),
          files,
          command,
        );
        await check(demo, box);
        await demo.run.stopsWell();
      });

    it("has no other part, but for gRPC's, which docker.test.ts runs", () => {
      const others = page.filter(
        (part) => !Object.keys(onPage).some((what) => part.includes(what)),
      );
      expect(others).toEqual([expect.stringContaining("grpc_pass")]);
      return Promise.resolve();
    });
  },
  first,
);
