// The servers that people run: no 502 at a start, and at a stop what is under
// way has its answer, or its end.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  ask,
  asUser,
  type Box,
  compiled,
  eventually,
  freePort,
  isRoot,
  type Run,
  root,
  section,
  temporaryPaths,
} from "./harness.ts";

const programs = path.join(root, "test/servers");
// Python takes long to end where the machine is busy; the harness waits for 30 s.
const common = { ENTRYPOINT_GRACE: "18", PYTHONDONTWRITEBYTECODE: "1" };

// ---- The table

/** What a row's files and lines need to know. */
interface Place {
  port: number;
  app: number;
  dir: string;
}

interface Server {
  name: string;
  /** The lines of a Procfile, or the words of a COMMAND. */
  lines: (at: Place) => string[];
  command?: boolean;
  files?: (at: Place) => Record<string, string>;
  env?: (at: Place) => Record<string, string>;
  /** Whose death is tried, by its command line; none where another row has tried the like. */
  victim?: RegExp;
}

const nginx = "nginx: nginx -c $NGINX_CONF -e stderr";
const nginxConf = ({ dir, port }: Place, location: string) =>
  `daemon off; ${isRoot ? "user root; " : ""}pid ${dir}/nginx.pid; events {}
   http { access_log /dev/stdout; ${temporaryPaths(dir)}
     server { listen 127.0.0.1:${port}; location / { ${location} } } }`;
/** Four at once, by processes or by threads. Its application writes into the box. */
const gunicorn = (socket: string, four = "--workers 4") =>
  `gunicorn ${four} --pythonpath ${programs} --bind ${socket} app:app`;
const behind = ({ app }: Place) =>
  `app: PORT=${app} ${gunicorn(`127.0.0.1:${app}`, "--threads 4")}`;
const uwsgi = `uwsgi --master --processes 4 --plugin python3 --wsgi-file ${programs}/app.py`;
const apache =
  (mpm: string, cgi: string) =>
  ({ port, dir }: Place) => ({
    "apache.conf": `ServerRoot ${dir}
ServerName localhost
PidFile ${dir}/apache.pid
Listen 127.0.0.1:${port}
ErrorLog /dev/stderr
User www-data
Group www-data
LoadModule mpm_${mpm}_module /usr/lib/apache2/modules/mod_mpm_${mpm}.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ${cgi}_module /usr/lib/apache2/modules/mod_${cgi}.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
SetEnv ARRIVED ${dir}/arrived
ScriptAlias / ${programs}/app.cgi/
<Directory ${programs}>
  Require all granted
  Options +ExecCGI
</Directory>
${cgi === "cgid" ? `ScriptSock ${dir}/cgid.sock` : ""}
`,
  });
const unicornFiles = { "unicorn.rb": "worker_processes 4\n" };
const phpFpm = fs.readdirSync("/usr/sbin").find((name) => /^php-fpm\d/.test(name));
const php = (dir: string) =>
  `${phpFpm} --nodaemonize --allow-to-run-as-root --fpm-config ${dir}/fpm.conf`;
const phpFiles = (more: string) => (at: Place) => ({
  "fpm.conf": `[global]
error_log = /dev/stderr
${more}
[www]
listen = ${at.dir}/php.sock
user = root
group = root
pm = static
pm.max_children = 4
chdir = ${at.dir}
`,
  "template.conf": nginxConf(
    at,
    `include /etc/nginx/fastcgi_params; fastcgi_pass unix:${at.dir}/php.sock;
     fastcgi_param ARRIVED ${at.dir}/arrived; fastcgi_param SCRIPT_FILENAME ${programs}/index.php;`,
  ),
});
const template = ({ dir }: Place) => ({ ENTRYPOINT_NGINX: `${dir}/template.conf` });

const servers: Server[] = [
  {
    name: "gunicorn on a port",
    command: true,
    lines: ({ app }) => gunicorn(`127.0.0.1:${app}`).split(" "),
    victim: /^nginx: master/,
  },
  {
    name: "gunicorn on a socket",
    command: true,
    lines: ({ dir }) => gunicorn(`unix:${dir}/app.sock`).split(" "),
    env: ({ dir }) => ({ APP_PORT: `${dir}/app.sock` }),
    victim: /gunicorn/,
  },
  {
    // Without process_control_timeout it drops requests at any signal: nginx must have drained by then.
    name: "php-fpm on a socket",
    lines: ({ dir }) => [`php: PORT=${dir}/php.sock ${php(dir)}`, nginx],
    files: phpFiles(""),
    env: template,
    victim: /^php-fpm: master/,
  },
  {
    // The last line serves nobody, so both are asked at once, and it must finish requests itself.
    name: "php-fpm below nginx",
    lines: ({ dir }) => [
      `nginx: until [ -S ${dir}/php.sock ]; do sleep 0.02; done; exec nginx -c $NGINX_CONF -e stderr`,
      `php: ${php(dir)}`,
    ],
    files: phpFiles("process_control_timeout = 5s"),
    env: template,
  },
  {
    name: "uwsgi",
    lines: ({ app }) => [`app: PORT=${app} ${uwsgi} --http-socket 127.0.0.1:${app}`, nginx],
    victim: /^uwsgi/,
  },
  {
    // Which makes SIGQUIT what SIGTERM was: it starts anew and never ends.
    name: "uwsgi with die-on-term, by its own protocol",
    lines: ({ app }) => [
      `app: PORT=${app} ${uwsgi} --socket 127.0.0.1:${app} --die-on-term`,
      nginx,
    ],
    files: (at) => ({
      "template.conf": nginxConf(
        at,
        `include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:${at.app};`,
      ),
    }),
    env: template,
  },
  {
    // So it finishes requests itself. At SIGINT, which is what it gets otherwise, it drops them.
    name: "uwsgi told to drain, with nothing in front",
    lines: ({ port }) => [
      `web: STOPSIGNAL=SIGTERM ${uwsgi} --http-socket 127.0.0.1:${port} --hook-master-start 'unix_signal:15 gracefully_kill_them_all'`,
    ],
  },
  {
    name: "unicorn",
    lines: ({ port, dir }) => [
      `web: unicorn -c ${dir}/unicorn.rb -l 127.0.0.1:${port} ${programs}/app.ru`,
    ],
    files: () => unicornFiles,
    victim: /^unicorn master/,
  },
  {
    name: "unicorn by bundle exec, behind a shell",
    lines: ({ port, dir }) => [
      `web: cd . && bundle exec unicorn -c ${dir}/unicorn.rb -l 127.0.0.1:${port} ${programs}/app.ru; true`,
    ],
    files: () => ({ ...unicornFiles, Gemfile: 'gem "unicorn"\ngem "rack"\n' }),
    victim: /^sh -c/,
  },
  {
    name: "apache2 by apache2ctl",
    lines: ({ dir }) => [`web: apache2ctl -DFOREGROUND -f ${dir}/apache.conf`],
    files: apache("prefork", "cgi"),
    victim: /apache2 .*-DFOREGROUND/,
  },
  {
    // Debian's own kind, threads; its workers block the signal, and one more process runs the CGI programs.
    name: "apache2 with threads",
    lines: ({ dir }) => [`web: apache2 -DFOREGROUND -f ${dir}/apache.conf`],
    files: apache("event", "cgid"),
  },
  {
    name: "lighttpd",
    lines: ({ dir }) => [`web: lighttpd -D -f ${dir}/lighttpd.conf`],
    files: ({ port, dir }) => ({
      "lighttpd.conf": `server.modules = ( "mod_rewrite", "mod_cgi", "mod_setenv" )
server.document-root = "${programs}"
server.bind = "127.0.0.1"
server.port = ${port}
setenv.add-environment = ( "ARRIVED" => "${dir}/arrived" )
url.rewrite-once = ( "" => "/app.cgi" )
cgi.assign = ( ".cgi" => "" )
`,
    }),
    victim: /^lighttpd/,
  },
  {
    // Its master tells its workers and is gone before them.
    name: "lighttpd with four workers before gunicorn",
    lines: (at) => [behind(at), `web: lighttpd -D -f ${at.dir}/lighttpd.conf`],
    files: ({ port, app, dir }) => ({
      "lighttpd.conf": `server.modules = ( "mod_proxy" )
server.document-root = "${dir}"
server.bind = "127.0.0.1"
server.port = ${port}
server.max-worker = 4
proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => ${app} )) )
`,
    }),
  },
  {
    // Without -W: a master of HAProxy 2.6 loses a SIGUSR1 in its first 20 ms.
    name: "haproxy before gunicorn",
    lines: (at) => [behind(at), `haproxy: haproxy -db -f ${at.dir}/haproxy.cfg`],
    files: ({ port, app }) => ({
      "haproxy.cfg": `defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen web
  bind 127.0.0.1:${port}
  server app 127.0.0.1:${app}
`,
    }),
    victim: /^haproxy/,
  },
  {
    name: "nginx behind a docker-entrypoint.sh",
    lines: (at) => [
      behind(at),
      `nginx: sh ./docker-entrypoint.sh nginx -e stderr -c ${at.dir}/my.conf`,
    ],
    files: (at) => ({
      "docker-entrypoint.sh": 'set -e\nfor f in 1 2; do true; done\nexec "$@"\n',
      "my.conf": nginxConf(at, `proxy_pass http://127.0.0.1:${at.app};`),
    }),
    victim: /gunicorn/,
  },
  {
    name: "caddy before gunicorn",
    lines: (at) => [
      behind(at),
      `caddy: caddy run --config ${at.dir}/Caddyfile --adapter caddyfile`,
    ],
    files: ({ port, app }) => ({
      Caddyfile: `{
  admin off
  auto_https off
}
http://127.0.0.1:${port} {
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:${app}
}
`,
    }),
    victim: /^caddy/,
  },
];

/** What an app asks for its data, until it has ended. */
interface Store {
  name: string;
  lines: (port: number, dir: string) => string[];
  /** Shell commands of the app: one at its start, one while it ends, and what that one says. */
  put: (port: number) => string;
  get: (port: number) => string;
  got: RegExp;
  victim: RegExp;
  /** A client from elsewhere that stays connected. */
  stays?: (port: number) => string[];
  needsRoot?: boolean;
}

const itsUser = isRoot ? `${asUser("postgres").join(" ")} ` : "";
const postgres = `${itsUser}/usr/lib/postgresql/${fs.readdirSync("/usr/lib/postgresql").at(-1)}/bin`;
const psql = (port: number) => `psql -XtAq -h 127.0.0.1 -p ${port} -U me postgres`;

const stores: Store[] = [
  {
    name: "redis",
    lines: (port) => [`store: PORT=${port} redis-server --port ${port} --save ''`],
    put: (port) => `redis-cli -p ${port} set a 42`,
    get: (port) => `redis-cli -p ${port} get a`,
    got: /42/,
    victim: /^redis-server/,
  },
  {
    name: "memcached",
    lines: (port) => [
      `store: PORT=${port} memcached -p ${port} -l 127.0.0.1${isRoot ? " -u root" : ""}`,
    ],
    put: (port) => `printf 'set a 0 0 2\\r\\n42\\r\\nquit\\r\\n' | busybox nc 127.0.0.1 ${port}`,
    get: (port) => `printf 'get a\\r\\nquit\\r\\n' | busybox nc 127.0.0.1 ${port}`,
    got: /42/,
    victim: /^memcached/,
  },
  ...["", "su postgres -s /bin/sh -c 'X'", "su postgres -s /bin/sh -c 'X; true'"].map((around) => ({
    name: `postgres${around && `, by ${around}`}`,
    needsRoot: around !== "",
    lines: (port: number, dir: string) => {
      const server = `${postgres}/postgres -D ${dir}/data -p ${port} -h 127.0.0.1 -k ${dir} -F`;
      const started = around ? around.replace("X", server.replace(itsUser, "")) : server;
      return [
        `release: ${postgres}/initdb -D ${dir}/data -U me -N -A trust >/dev/null`,
        `store: PORT=${port} ${started}`,
      ];
    },
    put: (port: number) => `${psql(port)} -c 'create table a as select 42'`,
    get: (port: number) => `${psql(port)} -c 'select a.* from a, pg_sleep(1.2)'`,
    got: /42/,
    victim: /postgresql/,
    stays: (port: number) => psql(port).split(" "),
  })),
];

// ---- The tests

async function start(box: Box, server: Server) {
  const at = { port: await freePort(), app: await freePort(), dir: box.dir };
  fs.chmodSync(box.dir, 0o777); // servers that change their user write into it
  for (const [name, text] of Object.entries(server.files?.(at) ?? {})) box.write(name, text);
  const env = {
    PORT: `${at.port}`,
    APP_PORT: `${at.app}`,
    ...common,
    ...server.env?.(at),
  };
  const url = `http://127.0.0.1:${at.port}`;
  const lines = server.lines(at);
  const run = server.command ? box.start(lines, { env }) : box.procfile(lines, { env });
  await hammer(run, url);
  return { run, url };
}

/** Asks from the first moment on. From the first connection on, all answers must be good ones. */
async function hammer(run: Run, url: string): Promise<void> {
  const outcomes: string[] = [];
  await eventually("ten answers", async () => {
    if (!run.isAlive) throw new Error("it has ended");
    const outcome = await ask(url);
    if (outcomes.length > 0 || outcome !== "ECONNREFUSED") outcomes.push(outcome);
    return outcomes.length === 10;
  });
  expect(outcomes).toEqual(Array(10).fill("200 done"));
  await run.line(/ready in/);
}

/** The program ends soon after the death of one of its processes. */
async function endsWith(run: Run, victim: RegExp): Promise<void> {
  const pid = await run.descendant(victim);
  const at = performance.now();
  process.kill(pid, "SIGKILL");
  const { code } = await run.exit();
  expect(code).toBe(137);
  expect(performance.now() - at).toBeLessThan(9000); // the grace is 18 s
}

const answered = (box: Box) => eventually("four under way", () => box.read("arrived") === "....");

section(
  "a real server",
  (it) => {
    for (const server of servers) {
      const { name, victim } = server;
      it(`answers from its first connection to its last request: ${name}`, async (box) => {
        const { run, url } = await start(box, server);
        const answers = Array.from({ length: 4 }, () => ask(`${url}/slow`));
        await answered(box);
        const { code } = await run.stop();
        expect([await Promise.all(answers), code]).toEqual([Array(4).fill("200 done"), 0]);
      });

      if (victim)
        it(`killed, ends the container with 137: ${name}`, async (box) => {
          const { run } = await start(box, server);
          await endsWith(run, victim);
        });
    }

    for (const store of stores.filter(({ needsRoot }) => isRoot || !needsRoot)) {
      const startWithApp = async (box: Box) => {
        const port = await freePort();
        fs.chmodSync(box.dir, 0o777);
        box.write(
          "app.sh",
          `trap "sleep 0.3; ${store.get(port).replaceAll("\\", "\\\\")}; exit 0" TERM
           until ${store.put(port)}; do sleep 0.1; done # postgres listens before it serves
           echo up; while :; do sleep 0.02; done\n`,
        );
        const run = box.procfile([...store.lines(port, box.dir), "app: sh app.sh"], {
          env: { ...common, PORT: `${await freePort()}` },
        });
        await run.up("app");
        return { run, port };
      };

      it(`answers an app that ends: ${store.name}`, async (box) => {
        const { run, port } = await startWithApp(box);
        await using client =
          store.stays && Bun.spawn(store.stays(port), { stdin: "pipe", stdout: "pipe" });
        client?.stdin.write("begin; select 1;\n"); // postgres then has a transaction open
        client?.stdin.flush();
        await client?.stdout.getReader().read(); // it is connected
        const { code } = await run.stop();
        expect(code).toBe(0);
        expect(run.stdout.lines.filter((line) => line.startsWith("app"))).toContainEqual(
          expect.stringMatching(store.got),
        );
      });

      it(`killed, ends the container with 137: ${store.name}`, async (box) => {
        const { run } = await startWithApp(box);
        await endsWith(run, store.victim);
      });
    }

    it("has its data after a stop: redis behind a shell, with a trap and without", async (box) => {
      for (const line of ["X", "X; true", "trap 'kill $!; wait' TERM; X & wait"]) {
        const port = await freePort();
        const redis = `redis-server --port ${port} --save '3600 1' --dir ${box.dir}`;
        const run = box.procfile([`redis: PORT=${port} ${line.replace("X", redis)}`], {
          env: { PORT: `${await freePort()}` },
        });
        await run.line(/Ready to accept connections/);
        await Bun.$`redis-cli -p ${port} set a ${"value-of-a"}`.quiet();
        await run.stopsWell();
        expect([line, box.read("dump.rdb")]).toEqual([line, expect.stringContaining("value-of-a")]);
        box.remove("dump.rdb");
      }
    });

    it("lets haproxy with statistics finish, as the front", async (box) => {
      const [port, app, statistics] = [await freePort(), await freePort(), await freePort()];
      box.write(
        "haproxy.cfg",
        `defaults\n mode http\n timeout client 20s\n timeout server 20s\n timeout connect 2s
frontend web\n bind 127.0.0.1:${port}\n default_backend app
backend app\n server app 127.0.0.1:${app}
frontend statistics\n bind 127.0.0.1:${statistics}\n stats enable\n`,
      );
      const lines = [
        `app: PORT=${app} ${gunicorn(`127.0.0.1:${app}`)}`,
        `haproxy: PORT=${statistics} haproxy -W -db -f haproxy.cfg`,
        "worker: exec sleep 1000",
      ];
      const env = { ...common, PORT: `${port}` };
      const run = box.procfile(lines, { env });
      await run.line(/ready in/);
      const answers = Array.from({ length: 4 }, () => ask(`http://127.0.0.1:${port}/slow`));
      await answered(box);
      const { code } = await run.stop();
      expect([await Promise.all(answers), code]).toEqual([Array(4).fill("200 done"), 0]);
      expect(run.stderr.text).toContain("stopping worker, haproxy, then app\n");
    });

    it("finishes its task while its store still answers: celery with redis", async (box) => {
      const redis = await freePort();
      const env = { ...common, REDIS: `${redis}`, PYTHONPATH: programs };
      const celery = "/usr/bin/python3 -m celery --app tasks";
      const run = box.procfile(
        [
          `redis: PORT=${redis} redis-server --port ${redis} --save ''`,
          `worker: ${celery} worker --concurrency 4 --loglevel info --without-gossip --without-mingle`,
        ],
        { env: { ...env, C_FORCE_ROOT: "1", PORT: `${await freePort()}` } },
      );
      await run.line(/Ready to accept connections/);
      const send = "import tasks; [tasks.work.delay() for _ in range(4)]";
      const sent = Bun.spawn(["/usr/bin/python3", "-c", send], {
        env: { ...process.env, ...env },
        cwd: box.dir,
      });
      expect(await sent.exited).toBe(0);
      await run.line(/celery@.* ready/);
      await answered(box);
      await run.stopsWell();
      expect(box.read("finished")).toBe("....");
      // Which the worker says of a task when redis has its result.
      expect(run.stderr.lines.filter((line) => / succeeded in /.test(line))).toHaveLength(4);
      expect(run.stderr.text).toContain("stopping worker, then redis");
    });
  },
  [compiled],
);
