// nginx in front with real software behind it: what /static/ serves, and configurations of one's own
// that are less than a whole file.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  asUser,
  type Box,
  fences,
  hasNamespaces,
  isRoot,
  launchApp,
  type Options,
  runtimes,
  section,
  startApp,
} from "./harness.ts";

// nginx is the same whatever starts it; its files are copied by each in its own way.
const some = runtimes.filter(({ name }) => !["bun", "node"].includes(name));
const phpFpm = fs.readdirSync("/usr/sbin").find((name) => /^php-fpm\d/.test(name));

/** Sees what it is asked: the method, the target, the body's length, the headers. */
const ECHO = `require("node:http").createServer((request, answer) => {
  let length = 0;
  request.on("data", (chunk) => { length += chunk.length; });
  request.on("end", () => {
    for (const name of request.headers["x-answer"]?.split(",") ?? []) answer.setHeader(name, "/sent");
    answer.end(JSON.stringify([request.method, request.url, length, request.headers]));
  });
}).listen(process.env.PORT)`;
const echo = ["node", "-e", ECHO];

/** Starts it as a user that is not root, on a root that is read-only but for /tmp. */
function readOnly(box: Box): NonNullable<Options["wrap"]> {
  fs.chmodSync(box.tmp, 0o777);
  const mounts = 'mount --bind /tmp /tmp && mount -o remount,bind,ro / && exec "$@"';
  const inNamespace = ["unshare", "--mount", "sh", "-c", mounts, "sh"];
  return (command) => [
    ...(isRoot && hasNamespaces ? inNamespace : []),
    ...(isRoot ? asUser(65_534) : []),
    ...command,
  ];
}

/** What the app behind it was asked. */
async function asked(url: string, init: RequestInit = {}) {
  const answer = await fetch(url, init);
  const [method, target, length, headers] = JSON.parse(await answer.text());
  return { status: answer.status, seen: [method, target, length], headers, answer };
}

section(
  "/static/",
  (it) => {
    it("has the files that are there, and the app has all else", async (box) => {
      box.write("static/there.css", "body { color: red }\n");
      box.write("static/docs/index.html", "<p>ü</p>\n");
      const { run, url } = await startApp(box, echo);
      const file = await fetch(`${url}/static/there.css`);
      expect([file.status, await file.text()]).toEqual([200, "body { color: red }\n"]);
      expect((await fetch(`${url}/static/there.css`, { method: "HEAD" })).status).toBe(200);
      expect(await (await fetch(`${url}/static/docs/index.html`)).text()).toBe("<p>ü</p>\n");
      for (const name of [
        "",
        "/",
        "/docs",
        "/docs/",
        "/admin/css/base.css",
        "/app.b3fc41.css",
        "/there.css/more",
        `/${"x".repeat(300)}`,
        "ically",
      ]) {
        const { status, seen } = await asked(`${url}/static${name}?a=%2F`);
        expect([status, seen]).toEqual([200, ["GET", `/static${name}?a=%2F`, 0]]);
      }
      const body = Buffer.alloc(3_000_000, "x");
      for (const method of ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        for (const name of ["there.css", "upload", "docs/"]) {
          const { status, seen } = await asked(`${url}/static/${name}`, { method, body });
          expect([status, seen]).toEqual([200, [method, `/static/${name}`, body.length]]);
        }
      await run.stopsWell();
      const errors = /\[(warn|error|crit|alert|emerg)\]/;
      expect(run.stderr.lines.filter((line) => errors.test(line))).toEqual([]);
    });

    it("may have any name, and nothing beside it is served", async (box) => {
      for (const name of ['a "b" c \\d', "$HOME", "größe", "static"]) {
        box.write(`${name}/there.txt`, "there\n");
        box.write(`${name}-secret/key.txt`, "secret\n");
        const env = { ENTRYPOINT_STATIC: name };
        const { run, url } = await startApp(box, echo, { env });
        expect(await (await fetch(`${url}/static/there.txt`)).text()).toBe("there\n");
        for (const target of [
          "/static-secret/key.txt",
          "/static/../static-secret/key.txt",
          "/static",
        ])
          expect((await asked(url + target)).status).toBe(200); // from the app
        await run.stopsWell();
      }
    });

    it("may be made later, and may be absent", async (box) => {
      const { run, url } = await startApp(box, echo);
      expect((await asked(`${url}/static/late.txt`)).seen).toEqual(["GET", "/static/late.txt", 0]);
      box.write("static/late.txt", "late\n");
      expect(await (await fetch(`${url}/static/late.txt`)).text()).toBe("late\n");
      await run.stopsWell();
    });

    it("is asked again each time, and is compressed text in UTF-8", async (box) => {
      const text = "größe ".repeat(100);
      const types = { css: "text/css", js: "application/javascript", mjs: "text/javascript" };
      const all = { ...types, txt: "text/plain", html: "text/html", xml: "text/xml" };
      for (const name of Object.keys(all)) box.write(`static/a.${name}`, text);
      box.write("static/a.svg", text);
      box.write("static/a.json", text);
      box.write("static/a.png", text);
      const { run, url } = await startApp(box, echo);
      for (const [name, type] of Object.entries(all)) {
        const file = await fetch(`${url}/static/a.${name}`);
        const header = (header: string) => file.headers.get(header);
        expect(await file.text()).toBe(text);
        expect([name, header("content-type")]).toEqual([name, `${type}; charset=utf-8`]);
        expect([name, header("content-encoding")]).toEqual([name, "gzip"]);
        expect([name, header("vary")]).toEqual([name, "Accept-Encoding"]);
        expect([name, header("cache-control")]).toEqual([name, "no-cache"]);
        for (const [condition, value] of [
          ["If-None-Match", header("etag")],
          ["If-Modified-Since", header("last-modified")],
        ] as const) {
          const again = await fetch(`${url}/static/a.${name}`, {
            headers: { [condition]: value ?? "" },
          });
          expect([condition, again.status]).toEqual([condition, 304]);
        }
      }
      const encoding = async (name: string, headers: Record<string, string> = {}) =>
        (await fetch(`${url}/static/${name}`, { headers })).headers.get("content-encoding");
      expect(await encoding("a.svg", { Via: "1.1 google" })).toBe("gzip");
      expect(await encoding("a.json")).toBe("gzip");
      expect(await encoding("a.png")).toBeNull();
      expect(await encoding("a.css", { "Accept-Encoding": "identity" })).toBeNull();
      expect((await fetch(`${url}/static/a.png`)).headers.get("content-type")).toBe("image/png");
      await run.stopsWell();
    });

    it("has no dates where a reproducible build has set them", async (box) => {
      const write = (text: string, name: string) => {
        fs.utimesSync(box.write(`static/${name}`, text), 1, 1);
        fs.utimesSync(path.join(box.dir, "static"), 1, 1);
      };
      const first = ["one\n", "<p>1\n"] as const;
      for (const [i, name] of ["a.txt", "a.html"].entries()) write(first[i] ?? "", name);
      const { run, url } = await startApp(box, echo);
      for (const name of ["a.txt", "a.html"]) {
        const { headers } = await fetch(`${url}/static/${name}`);
        expect([name, headers.get("etag"), headers.get("last-modified")]).toEqual([
          name,
          null,
          null,
        ]);
        expect(headers.get("cache-control")).toBe("no-cache");
      }
      write("two\n", "a.txt");
      for (const headers of [
        { "If-None-Match": '"1-4"' },
        { "If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT" },
      ] as Record<string, string>[]) {
        const file = await fetch(`${url}/static/a.txt`, { headers });
        expect([headers, file.status, await file.text()]).toEqual([headers, 200, "two\n"]);
      }
      await run.stopsWell();
    });
  },
  some,
);

section(
  "what the app answers",
  (it) => {
    it("has its X-Accel headers", async (box) => {
      const { run, url } = await startApp(box, echo);
      const names = ["Redirect", "Expires", "Limit-Rate", "Buffering", "Charset"];
      const all = names.map((name) => `X-Accel-${name}`);
      const { status, answer } = await asked(`${url}/x`, { headers: { "X-Answer": all.join() } });
      expect(status).toBe(200);
      for (const name of all) expect([name, answer.headers.get(name)]).toEqual([name, "/sent"]);
      await run.stopsWell();
    });
  },
  some,
);

// ---- Less than a whole file

const PHP = `<?php echo json_encode([$_SERVER["REQUEST_METHOD"], $_SERVER["REQUEST_URI"],
  strlen(file_get_contents("php://input")), $_SERVER["SCRIPT_NAME"]]);`;
const FPM = `[global]
error_log = /dev/stderr
[www]
listen = \${PORT}
pm = static
pm.max_children = 2
`;
const WSGI = `import json
def application(environ, start):
    length = len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    start("200 OK", [("Content-Type", "application/json")])
    target = environ["REQUEST_URI"]
    return [json.dumps([environ["REQUEST_METHOD"], target, length]).encode()]
`;
const LARAVEL = `root \${DIR}/public;
location / { try_files $uri /index.php?$args; }
location ~ \\.php$ {
  include fastcgi_params;
  fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
  fastcgi_pass app;
}
`;
const SNIPPET = `server {
  listen \${PORT};
  root \${DIR}/public;
  index index.php;
  location / { try_files $uri $uri/ /index.php$is_args$args; }
  location ~ \\.php$ { include snippets/fastcgi-php.conf; fastcgi_pass app; }
}
`;
const SPA = `# A single-page app { with its API };
root "\${DIR}/public"; # "
location / { try_files $uri /index.html; }
location /api/ { include proxy_params; proxy_set_header X-Tenant a; proxy_pass http://app; }
`;

const here = (block = "") => block.replace("/app/public", `\${DIR}/public`);
const LOCATIONS = here(fences("README.md", "nginx")[0]);
const SERVER = here(fences("test/nginx.md", "nginx")[1]);

interface Part {
  name: string;
  conf: string;
  command?: string[];
  socket?: true;
  /** What is got at a path: the text itself, or what the app was asked. */
  gets: Record<string, string | RegExp>;
  /** Where a POST arrives at the app. */
  posts?: string;
}

const uwsgi =
  'exec uwsgi --plugin python3 --wsgi-file "$DIR/wsgi.py" --master --die-on-term --socket "127.0.0.1:$PORT"';
const php = [`/usr/sbin/${phpFpm}`, "--nodaemonize", "--fpm-config", "fpm.conf"];

const parts: Part[] = [
  {
    name: "php-fpm on a socket",
    conf: LARAVEL,
    command: php,
    socket: true,
    gets: { "/style.css": "css\n", "/a/route?x=1": /^\["GET","\\\/a\\\/route\?x=1",0/ },
    posts: "/form",
  },
  {
    name: "php-fpm on a port, by Debian's snippet",
    conf: SNIPPET,
    command: php,
    gets: { "/style.css": "css\n", "/": /^\["GET","\\\/",0,"\\\/index.php"\]/ },
    posts: "/index.php",
  },
  {
    name: "uwsgi",
    conf: "location / { include uwsgi_params; uwsgi_pass app; }\n",
    command: ["sh", "-c", uwsgi],
    gets: { "/a%20b?x": '["GET", "/a%20b?x", 0]', "/static/mine.txt": "mine\n" },
    posts: "/form",
  },
  {
    name: "uwsgi for all that is not a file",
    conf: "location @app { include uwsgi_params; uwsgi_pass app; }\n",
    command: ["sh", "-c", uwsgi],
    gets: {
      "/x": '["GET", "/x", 0]',
      "/static/none": '["GET", "/static/none", 0]',
      "/static/mine.txt": "mine\n",
    },
    posts: "/static/mine.txt",
  },
  {
    name: "a single-page app and its API",
    conf: SPA,
    gets: {
      "/": "page\n",
      "/deep/link": "page\n",
      "/style.css": "css\n",
      "/api/x": /^\["GET","\/api\/x",0,.*"x-tenant":"a"/,
      "/static/mine.txt": "mine\n",
    },
    posts: "/api/form",
  },
  {
    name: "a single-page app in two lines",
    conf: `root \${DIR}/public;
try_files $uri /index.html;
location /api/ { proxy_pass http://app; }`,
    gets: { "/deep/link": "page\n", "/style.css": "css\n", "/api/x": /^\["GET","\/api\/x",0,/ },
    posts: "/api/form",
  },
  {
    name: "the locations of the README",
    conf: LOCATIONS,
    gets: { "/deep/link": "page\n", "/style.css": "css\n", "/api/x": /^\["GET","\/api\/x",0,/ },
    posts: "/api/form",
  },
  {
    name: "the server block of nginx.md",
    conf: SERVER,
    command: php,
    socket: true,
    gets: { "/style.css": "css\n", "/a/route?x=1": /^\["GET","\\\/a\\\/route\?x=1",0/ },
    posts: "/form",
  },
  {
    name: "one more location and a header",
    conf: 'add_header X-Frame-Options DENY always;\nlocation = /healthz { return 200 "ok\\n"; }\n',
    gets: { "/healthz": "ok\n", "/x": /^\["GET","\/x",0,/, "/static/mine.txt": "mine\n" },
    posts: "/x",
  },
  {
    name: "the places of the built-in locations",
    conf: `location / { return 200 "mine\\n"; }
location /static { alias \${DIR}/public; }
location /api/ { proxy_pass http://app; }`,
    gets: { "/x": "mine\n", "/static/style.css": "css\n", "/stat": "mine\n" },
    posts: "/api/x",
  },
  {
    name: "a server block with the proxy's settings",
    conf: `limit_req_zone $binary_remote_addr zone=a:1m rate=1000r/s;
server { # mine
  listen 127.0.0.1:\${PORT};
  server_name _;
  location / { include proxy_params; proxy_pass http://app; limit_req zone=a burst=99; }
  location /host { return 200 "\${host} $host \${GREETING}\\n"; }
}`,
    gets: { "/x": /^\["GET","\/x",0,/, "/host": "127.0.0.1 127.0.0.1 hello\n" },
    posts: "/x",
  },
  {
    name: "a server block that inherits them",
    conf: `server { listen \${PORT} default_server; location / { proxy_pass http://app; } }`,
    gets: { "/x": /^\["GET","\/x",0,/ },
    posts: "/x",
  },
  {
    name: "a whole file",
    conf: `daemon off; pid \${NGINX_CONF}.pid; error_log stderr; events {}
http {
  access_log /dev/stdout;
  client_body_temp_path \${NGINX_CONF}.body; proxy_temp_path \${NGINX_CONF}.proxy;
  fastcgi_temp_path \${NGINX_CONF}.fcgi; uwsgi_temp_path \${NGINX_CONF}.uwsgi;
  scgi_temp_path \${NGINX_CONF}.scgi;
  include mime.types;
  server { listen \${PORT}; location / { proxy_pass http://127.0.0.1:\${APP_PORT}; } }
}`,
    gets: { "/x": /^\["GET","\/x",0,/ },
    posts: "/x",
  },
];

section(
  "a configuration of one's own",
  (it) => {
    for (const { name, conf, command = echo, socket, gets, posts } of parts)
      it(name, async (box) => {
        if (socket && box.runtime.name === "deno") return; // it must be allowed by its path
        box.write("public/index.php", PHP);
        box.write("public/index.html", "page\n");
        box.write("public/style.css", "css\n");
        box.write("static/mine.txt", "mine\n");
        box.write("fpm.conf", FPM);
        box.write("wsgi.py", WSGI);
        const more: Record<string, string> = socket ? { APP_PORT: `${box.tmp}/app.sock` } : {};
        const mine = box.write("mine.conf", conf);
        const own = { ENTRYPOINT_NGINX: mine, DIR: box.dir, GREETING: "hello", host: "build-7" };
        const { run, url } = await startApp(box, command, {
          env: { ...own, ...more },
          wrap: readOnly(box),
        });
        for (const [target, wanted] of Object.entries(gets)) {
          const answer = await fetch(url + target);
          const text = await answer.text();
          expect([target, answer.status, text]).toEqual([
            target,
            200,
            typeof wanted === "string" ? wanted : expect.stringMatching(wanted),
          ]);
          if (conf.includes("add_header"))
            expect(answer.headers.get("x-frame-options")).toBe("DENY");
        }
        const body = Buffer.alloc(100_000, "x");
        const posted = await fetch(url + posts, { method: "POST", body });
        expect([posted.status, JSON.parse(await posted.text())[2]]).toEqual([200, body.length]);
        await run.stopsWell();
      });

    it("has the proxy's headers wherever it proxies", async (box) => {
      const confs = [
        "location /api/ { include proxy_params; proxy_set_header X-More 1; proxy_pass http://app; }",
        "include proxy_params;\nproxy_set_header X-More 1;",
        `server { listen \${PORT}; location / { include proxy_params; proxy_set_header X-More 1; proxy_pass http://app; } }`,
      ];
      for (const conf of confs) {
        const env = { ENTRYPOINT_NGINX: box.write("mine.conf", conf) };
        const { run, url } = await startApp(box, echo, { env });
        const { headers } = await asked(`${url}/api/x`, { headers: { Host: "shop.example:81" } });
        expect(headers).toMatchObject({
          host: "shop.example:81",
          "x-forwarded-for": "127.0.0.1",
          "x-forwarded-proto": "http",
          "x-more": "1",
        });
        await run.stopsWell();
      }
    });

    it("is named by nginx where it is wrong", async (box) => {
      for (const conf of ["\nlocatoin / {}", "\nserver { lisen 1; }", "\n\tset $a;"]) {
        const env = { ENTRYPOINT_NGINX: box.write("mine.conf", conf) };
        const { run } = await launchApp(box, echo, { env });
        expect((await run.exit()).code).toBe(1);
        expect(run.stderr.text).toMatch(/\[emerg\] .*\/ENTRYPOINT_NGINX:2\b/);
      }
    });
  },
  some,
);
