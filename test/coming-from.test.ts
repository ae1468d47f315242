// The page coming-from.md: a file of each other program and the Procfile beside it, both run. The apps
// are stand-ins that listen, wait or end.

import { expect, test } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { ask, type Box, compiled, eventually, freePort, root, SYSTEM, section } from "./harness.ts";

const page = fs.readFileSync(path.join(root, "test/coming-from.md"), "utf8");

interface Other {
  /** The heading of its section, and the language of its file on the left. */
  heading: string;
  language: string;
  /** What starts that file, as `theirs` in the working directory. */
  command?: string[];
}

const others: Other[] = [
  {
    heading: "Heroku",
    language: "yaml",
    command: ["sh", "-c", "exec bash -c \"$(sed -n 's/^web: //p' theirs)\""],
  },
  { heading: "Docker Compose", language: "yaml" },
  { heading: "supervisord", language: "ini", command: ["supervisord", "-c", "theirs"] },
  {
    heading: "foreman, overmind, honcho",
    language: "yaml",
    command: ["foreman", "start", "-f", "theirs"],
  },
  {
    heading: "A bash script with `wait -n`, `trap`, `tail -f`",
    language: "bash",
    command: ["bash", "theirs"],
  },
  {
    heading: "The page of Docker on several processes",
    language: "bash",
    command: ["bash", "theirs"],
  },
  { heading: "s6-overlay", language: "sh" },
];

const sectionOf = (heading: string) =>
  page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? "";

function block(heading: string, language: string): string {
  const fence = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "ms");
  return fence.exec(sectionOf(heading))?.[1] ?? "";
}

/** Listens at the port that one of its words ends with, else at PORT; a worker waits. */
const STAND_IN = `#!/bin/sh
case "$*" in *sidekiq*|*worker*) exec sleep 1000 ;; esac
for word; do case $word in *[0-9][0-9][0-9][0-9]) port=\${word##*:} ;; esac; done
exec busybox httpd -f -p "127.0.0.1:\${port:-$PORT}" -h "$SITE"
`;

/** nginx itself with our configuration; with its own it would listen on port 80. */
const NGINX = `#!/bin/sh
if [ "$1" = -c ]; then exec /usr/sbin/nginx "$@"; fi
exec busybox httpd -f -p "127.0.0.1:$PORT" -h "$SITE"
`;

const standIns: Record<string, string> = {
  nginx: NGINX,
  "start-nginx": '#!/bin/sh\n"$@" & exec nginx\n',
  pg_isready: "#!/bin/sh\n",
};

/** The working directory of the page: programs on PATH, scripts, a file to answer with. */
async function layOut(box: Box) {
  const servers = ["gunicorn", "bundle", "python", "celery", "redis-server", "postgres"];
  for (const name of [...servers, ...Object.keys(standIns)])
    fs.chmodSync(box.write(`bin/${name}`, standIns[name] ?? STAND_IN), 0o755);
  for (const name of ["migrate.sh", "assets.sh"])
    fs.chmodSync(box.write(name, `#!/bin/sh\necho did ${name}\n`), 0o755);
  const answer = box.write("site/index.html", "hello");
  const env = {
    PATH: `${box.dir}/bin:${SYSTEM}`,
    PORT: `${await freePort()}`,
    SITE: path.dirname(answer),
  };
  const ports: Record<string, number> = {};
  for (const port of ["8081", "6379", "5432"]) ports[port] = await freePort();
  const place = (text: string) => text.replace(/\b(8081|6379|5432)\b/g, (port) => `${ports[port]}`);
  return {
    env: { ...env, APP_PORT: `${ports[8081]}` },
    place,
    url: `http://127.0.0.1:${env.PORT}`,
  };
}

test("each section has its two files, and is run here or said not to be", () => {
  const headings = [...page.matchAll(/^## (.*)$/gm)].map(([, heading = ""]) => heading);
  expect(headings.slice(1)).toEqual(others.map(({ heading }) => heading));
  for (const { heading, language } of others) {
    expect(block(heading, language)).not.toBe("");
    expect(block(heading, "procfile")).not.toBe("");
  }
  const notRun = others.filter(({ command }) => !command).map(({ heading }) => heading);
  expect(notRun).toEqual(["Docker Compose", "s6-overlay"]);
  expect(page).toContain("Two files on the left were not run");
});

section(
  "coming from",
  (it) => {
    for (const { heading, language, command } of others) {
      if (command)
        it(`${heading}: the file on the left runs`, async (box) => {
          const { env, place, url } = await layOut(box);
          box.write("theirs", place(block(heading, language)));
          const logs = { TMPDIR: box.dir }; // supervisord writes some there
          const run = box.start([], { env: { ...env, ...logs }, wrap: () => command });
          await eventually("an answer", async () => (await ask(url)) === "200 hello");
          process.kill(-run.pid, "SIGTERM"); // some of them pass no signal on
          await run.exit();
        });

      it(`${heading}: the Procfile on the right has no mistake, runs and stops`, async (box) => {
        const { env, place, url } = await layOut(box);
        const procfile = place(block(heading, "procfile"));
        box.write("Procfile", procfile);
        const check = box.start(["--check"], { env });
        expect([(await check.exit()).code, check.stderr.text]).toEqual([0, ""]);
        expect(check.stdout.lines).toHaveLength(procfile.trim().split("\n").length + 1);
        const run = box.start([], { env });
        await run.line(/entrypoint \| ready in/);
        expect(await ask(url)).toBe("200 hello");
        for (const [script] of procfile.matchAll(/(?<=\.\/)\w+\.sh/g))
          await run.line(new RegExp(`\\| did ${script}$`));
        await run.stopsWell();
        expect(run.stderr.text).not.toContain("WARNING");
      });
    }

    it("what the page says of a process that may end, or is started again", async (box) => {
      const run = box.procfile(
        [
          "warm-up: echo warm; exec sleep infinity",
          "again: while echo again && sleep 0.1 && ! [ -e done ]; do :; done; exit 1",
        ],
        { env: { PORT: `${await freePort()}` } },
      );
      await eventually("a second start", () => {
        return run.stdout.lines.filter((line) => line === "again   | again").length > 1;
      });
      expect(run.stdout.lines).toContain("warm-up | warm");
      box.write("done", "");
      expect((await run.exit()).code).toBe(1);
    });
  },
  [compiled],
);
