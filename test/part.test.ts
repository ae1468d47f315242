// The user's part of nginx's configuration: it is read as nginx reads it, wins over ours by directive and
// key, and is read anew at SIGHUP. And the parts of the page nginx.md.

import { expect } from "bun:test";
import {
  ask,
  type Box,
  bun,
  demoApp,
  eventually,
  freePort,
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

type Part = [what: string, part: string, gets: Record<string, string | RegExp>, files?: object];

const APP = /^200 \["GET"/;
const SERVER = `server { include listen; location / { proxy_pass http://app; } }`;

const parts: Part[] = [
  [
    "map",
    "map $arg_a $v { 1 one; default none; }\nlocation /v { return 200 $v; }",
    { "/v?a=1": "200 one", "/x": APP },
  ],
  [
    "geo",
    'geo $v { default out; 127.0.0.0/8 "in"; }\nlocation /v { return 200 $v; }',
    { "/v": "200 in", "/x": APP },
  ],
  [
    "split_clients",
    "split_clients $uri $v { 100% all; }\nlocation /v { return 200 $v; }",
    { "/v": "200 all" },
  ],
  [
    "limit_req_zone",
    "limit_req_zone $uri zone=a:1m rate=1r/m; location /v { limit_req zone=a; proxy_pass http://app; }",
    { "/v": APP, "/v?": /^503/ },
  ],
  ["limit_conn_zone", "limit_conn_zone $uri zone=a:1m;\nlimit_conn a 9;", { "/x": APP }],
  [
    "upstream",
    "location /v { proxy_pass http://other; }\nupstream other { server 127.0.0.1:${APP_PORT}; }",
    { "/v": APP },
  ],
  [
    "proxy_cache_path",
    "proxy_cache_path ${NGINX_CONF}.c keys_zone=c:1m;\nproxy_cache c;",
    { "/x": APP },
  ],
  ["scgi_cache_path", "scgi_cache_path ${NGINX_CONF}.c keys_zone=c:1m;", { "/x": APP }],
  [
    "an upstream app",
    "upstream app { server unix:${NGINX_CONF}.no backup; server 127.0.0.1:${APP_PORT}; }",
    { "/x": APP },
  ],
  [
    "a comment with @app",
    "# location @app { }\nadd_header X-A 1;",
    { "/x": APP, "/static/a.css": "200 css" },
  ],
  [
    "a comment with /static/",
    "location /v { # location /static/ { }\n return 200 v; }",
    { "/v": "200 v", "/static/a.css": "200 css" },
  ],
  [
    "a comment with server",
    "# server { }; events { }\nlocation /v { return 200 v; }",
    { "/v": "200 v", "/x": APP },
  ],
  [
    "a string with places",
    `location /v { return 200 "location @app { } location /static/ {"; }`,
    { "/v": "200 location @app { } location /static/ {", "/x": APP, "/static/a.css": "200 css" },
  ],
  [
    "a static of one's own",
    `location "/static/" { return 200 mine; }`,
    { "/static/a.css": "200 mine" },
  ],
  [
    "a static without its slash",
    "location ^~ /static { return 200 mine; }",
    { "/static/a.css": "200 mine" },
  ],
  [
    "one static file",
    "location = /static/v { return 200 mine; }",
    { "/static/v": "200 mine", "/static/a.css": "200 css" },
  ],
  [
    "a pattern for files",
    "location ~* \\.(css|js)$ { return 200 mine; }",
    { "/static/a.css": "200 css", "/a.css": "200 mine" },
  ],
  [
    "an @app of one's own",
    "location @app { return 200 mine; }",
    { "/x": "200 mine", "/static/no": "200 mine" },
  ],
  ["try_files", "root ${DIR}; try_files $uri /static/a.css;", { "/v": "200 css" }],
  ["server_tokens and a size", "server_tokens on; client_max_body_size 1m;", { "/x": APP }],
  [
    "http lines above a server",
    `client_max_body_size 1m;\nserver_tokens on;\nkeepalive_timeout 5s;\n${SERVER}`,
    { "/x": APP },
  ],
  [
    "several servers",
    `${SERVER}\nserver { include listen; server_name other; return 404; }`,
    { "/x": APP },
  ],
  [
    "a log format of our name",
    `log_format main "$uri";\naccess_log /dev/stdout main;\n${SERVER}`,
    { "/x": APP },
  ],
  [
    "our log format",
    `server { include listen; access_log /dev/stdout main; return 200 v; }`,
    { "/x": "200 v" },
  ],
  [
    "a brace in a pattern",
    'location ~ "^/v{2}$" { return 200 v; }\nlocation /w { return 200 w; }',
    { "/vv": "200 v", "/w": "200 w" },
  ],
  [
    "braces in quotes",
    `location /v { return 200 '{ "}'; }\nlocation /w { return 200 "} \\" {"; }`,
    { "/v": '200 { "}', "/w": '200 } " {' },
  ],
  [
    "a brace in a word",
    "location /v { return 200 a}b; }\nmap $uri $u { default u; }",
    { "/v": "200 a}b" },
  ],
  [
    "variables in braces",
    "location /v { return 200 ${uri}${arg_a}; }\nmap $uri $u { default u; }",
    { "/v?a=1": "200 /v1" },
  ],
  [
    "if",
    `if ($arg_a ~ "^{") { return 200 if; }\nlocation /v { if ($arg_b) { return 200 b; } return 200 v; }`,
    { "/?a={": "200 if", "/v": "200 v", "/v?b=1": "200 b" },
  ],
  [
    "blocks in blocks",
    "location /a { location /a/b { location /a/b/c { return 200 c; } return 200 b; } return 200 a; }",
    { "/a": "200 a", "/a/b": "200 b", "/a/b/c": "200 c" },
  ],
  [
    "CRLF and a BOM",
    "\ufeffmap $arg_a $v {\r\n  default v;\r\n}\r\n# {\r\nlocation /v {\r\n  return 200 $v;\r\n}\r\n",
    { "/v": "200 v" },
  ],
  [
    "one line",
    "map $uri $v{default v;}location /v{return 200 $v;}location /w{return 200 w;}",
    { "/v": "200 v", "/w": "200 w" },
  ],
  ["nothing but comments", "# nothing\n", { "/x": APP }],
  [
    "an include",
    "include x.inc;",
    { "/v": /^200 \d+$/ },
    { "x.inc": "location /v { return 200 ${APP_PORT}; }" },
  ],
  [
    "an include of an include",
    "include inc/x.inc;",
    { "/v": "200 v", "/w": "200 w" },
    {
      "inc/x.inc": "location /v { return 200 v; }\ninclude y.inc;",
      "y.inc": "location /w { include fastcgi_params; return 200 w; }",
    },
  ],
  [
    "an include with a pattern",
    "include d/*.conf; include none/*.conf;",
    { "/v": "200 v", "/w": "200 w" },
    { "d/1.conf": "location /v { return 200 v; }", "d/2.conf": "location /w { return 200 w; }" },
  ],
  [
    "an include of http's",
    "include maps.inc;\nlocation /v { return 200 $v; }",
    { "/v": "200 v", "/x": APP },
    { "maps.inc": "map $uri $v { default v; }" },
  ],
  [
    "an include of a server",
    "include s.inc;",
    { "/v": "200 v" },
    { "s.inc": "server { include listen; return 200 v; }" },
  ],
  [
    "a proxy_params beside it",
    "location / { include proxy_params; proxy_pass http://app; }",
    { "/x": /"x-mine":"1"/ },
    { proxy_params: "proxy_set_header X-Mine 1;" },
  ],
  [
    "a default",
    'location /v { return 200 "${NO_SUCH:-a b} ${NO_SUCH:-} ${HOME:-x}"; } # ${NO_SUCH}',
    { "/v": /^200 a b {2}\/\S+$/ },
  ],
  [
    "a whole file",
    "pid ${NGINX_CONF}.pid; events {}\nhttp { access_log off; server { include listen; return 200 v; } }",
    { "/x": "200 v" },
  ],
];

section(
  "the user's part",
  (it) => {
    for (const [what, part, gets, files = {}] of parts)
      it(`may have ${what}`, async (box) => {
        box.write("static/a.css", "css");
        const all = { ...(files as Record<string, string>) };
        const { run, url } = await start(box, part.replaceAll("${DIR}", box.dir), all);
        for (const [target, wanted] of Object.entries(gets)) {
          const got = await ask(url + target);
          expect([target, got]).toEqual([
            target,
            typeof wanted === "string" ? wanted : expect.stringMatching(wanted),
          ]);
        }
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
        for (const [line, wanted] of [
          ["proxy_set_header X-Real-IP $remote_addr;", { ...PASSED, "x-real-ip": "127.0.0.1" }],
          ["proxy_set_header host api.example;", { ...PASSED, host: "api.example" }],
          [
            'proxy_set_header "X-Forwarded-Proto" https;',
            { ...PASSED, "x-forwarded-proto": "https" },
          ],
        ] as const) {
          const files = { "x.inc": line };
          const { run, url } = await start(box, part.replace("LINE", line), files);
          expect([part, await headersAt(url)]).toEqual([part, expect.objectContaining(wanted)]);
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
      }
    });
  },
  first,
);

section(
  "a part and its files",
  (it) => {
    it("are copied, or read where they are", async (box) => {
      const files = { "x.inc": "location /v { return 200 ${APP_PORT}; }" };
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
      expect(await ask(`${demo.url}/env`)).toStartWith("200 {");
      await demo.run.stopsWell();
    });

    it("leaves what nginx has where the file is of no use", async (box) => {
      const demo = await listening(box);
      for (const [part, said] of [
        ["", /WARNING|my\.conf: is empty: nginx keeps what it has/],
        [" \n", /my\.conf: is empty: nginx keeps/],
        ["location /v { return 200 ${NO_SUCH}; }", /\$\{NO_SUCH\} is not set: nginx keeps/],
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
