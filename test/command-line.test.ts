// The command line, the table, the environment, and what is wrong there.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import manifest from "../package.json";
import {
  type Box,
  busyboxIn,
  forever,
  freePort,
  type Run,
  root,
  section,
  shellIn,
} from "./harness.ts";

/** Runs it to the end, and gives what it said there. */
async function ended(box: Box, args: string[], env: Record<string, string> = {}) {
  const run = box.start(args, { env });
  const { code } = await run.exit();
  const { text: stderr, lines } = run.stderr;
  return { code, stdout: run.stdout.text, stderr, errors: lines };
}

/** What the app wrote, in one line. */
async function printed(run: Run): Promise<string | undefined> {
  await run.exit();
  return run.stdout.lines.find((line) => line.startsWith("app"))?.replace(/^app *\| /, "");
}

section("command line", (it) => {
  it("--help says how to call it and names every variable, on stdout", async (box) => {
    const { code, stdout, stderr } = await ended(box, ["--help"]);
    expect(await ended(box, ["-h"])).toMatchObject({ code, stdout });
    expect(code).toBe(0);
    expect(stderr).toBe("");
    for (const word of ["-f FILE", "--check", "COMMAND", "PORT", "APP_PORT", "release:"])
      expect(stdout).toContain(word);
    for (const name of ["GRACE", "READY", "LOG", "NGINX", "STATIC"])
      expect(stdout).toContain(`ENTRYPOINT_${name}`);
  });

  it("--version is the version of package.json", async (box) => {
    const { code, stdout } = await ended(box, ["--version"]);
    expect(await ended(box, ["-V"])).toMatchObject({ code, stdout });
    expect(code).toBe(0);
    expect(stdout).toContain(manifest.version);
  });

  const misuse: [string, string[], RegExp][] = [
    ["an option that is none", ["--frobnicate"], /--frobnicate.*entrypoint --help/],
    ["-f without a FILE", ["-f"], /-f.*entrypoint --help/],
    ["neither COMMAND nor Procfile", [], /Procfile.*entrypoint --help/],
    ["only --check and no Procfile", ["--check"], /Procfile.*entrypoint --help/],
    ["only --", ["--"], /Procfile.*entrypoint --help/],
    ["FILE and a COMMAND", ["-f", "Other", "true"], /-f.*entrypoint --help/],
    ["a FILE that is not there", ["-f", "nowhere/Procfile"], /nowhere\/Procfile/],
    ["a FILE that is a directory", ["-f", "."], /\..*EISDIR|directory/],
  ];
  for (const [what, args, message] of misuse) {
    it(`${what} is an error with code 2`, async (box) => {
      const { code, stdout, errors } = await ended(box, args);
      expect(errors.join("\n")).toMatch(message);
      for (const line of errors) expect(line).toStartWith("entrypoint | ");
      expect(stdout).toBe("");
      expect(code).toBe(2);
    });
  }

  it("options end at the first word that is not one, and at --", async (box) => {
    for (const args of [[], ["--"]]) {
      const words = [...args, "sh", "-c", 'echo "$@" >words', "sh", "--help", "-f", "--check"];
      expect((await ended(box, words)).code).toBe(0);
      expect(box.read("words")).toBe("--help -f --check\n");
      box.remove("words");
    }
    const dashed = box.write("-dashed", "#!/bin/sh\necho here >dashed\n");
    fs.chmodSync(dashed, 0o755);
    const ownDashes = box.runtime.name === "bun" ? ["--"] : []; // bun takes the first for itself
    const { code } = await ended(box, [...ownDashes, "--", "-dashed"], {
      PATH: `${box.dir}:${process.env.PATH}`,
    });
    expect([code, box.read("dashed")]).toEqual([0, "here\n"]);
  });

  it("a COMMAND reaches the app byte for byte", async (box) => {
    const words = [
      ...["", " ", "two words", "it's", '"quoted"', "$HOME", "`id`", "$(id)", "a\\b", "\\", "'"],
      ...["new\nline", "\n", "tab\t", "*", "~", "#", "!", ";", "&&", "|", "A=b", "{a,b}", "[a]"],
      ...["größe", "日本語", "🚀", "\u0001\u001b[0m", "--", "-f", "%s", "", "$'x'", "\r\n", ""],
    ];
    const { code } = await ended(box, ["sh", "-c", 'printf "%s\\0" "$@" >words', "sh", ...words]);
    expect(code).toBe(0);
    expect(box.read("words").split("\0")).toEqual([...words, ""]);
  });

  it("a COMMAND is a program, whatever it is called", async (box) => {
    for (const name of ["if", "A=b", "two words", "exit", "test"]) {
      const program = box.write(name, '#!/bin/sh\necho "$0" >called\n');
      fs.chmodSync(program, 0o755);
      const { code } = await ended(box, [`./${name}`]);
      expect([code, box.read("called")]).toEqual([0, `./${name}\n`]);
    }
    const env = { PATH: `${box.dir}:${process.env.PATH}` };
    const { code } = await ended(box, ["exit", "5"], env);
    expect([code, path.basename(box.read("called").trim())]).toEqual([0, "exit"]);
  });

  it("a program that is not there is 127, one that may not run is 126, and both are named", async (box) => {
    box.write("not-executable", "#!/bin/sh\n");
    const cases: [string, number][] = [
      ["no-such-program", 127],
      ["./no-such-program", 127],
      ["./not-executable", 126],
    ];
    for (const [program, expected] of cases) {
      const byCommand = await ended(box, [program, "argument"]);
      expect([program, byCommand.code]).toEqual([program, expected]);
      expect(byCommand.stderr).toContain(program);
      box.write("Procfile", `web: ${program} argument\n`);
      const byProcfile = await ended(box, []);
      expect([program, byProcfile.code]).toEqual([program, expected]);
      expect(byProcfile.stderr).toContain(program);
    }
  });

  it("126 and 127 are explained only where the cause can be told", async (box) => {
    fs.chmodSync(box.write("calls", "#!/bin/sh\nno-such-thing\n"), 0o755);
    fs.chmodSync(box.write("orphan", "#!/no/such/interpreter\n"), 0o755);
    box.write("server", "");
    const cases: [string, RegExp][] = [
      ["./calls", /exit code 127 after/],
      [
        "./orphan",
        /exit code 127 \(\/no\/such\/interpreter, which runs \.\/orphan, not found\) after/,
      ],
      ["server", /exit code 127 \(server not found\) after/], // not on PATH, and here without ./
      ['sh -c "exit 127"', /exit code 127 after/],
      ['sh -c "exit 126"', /exit code 126 after/],
      ["env no-such-program", /exit code 127 \(no-such-program not found\) after/],
    ];
    for (const [command, message] of cases) {
      box.write("Procfile", `web: ${command}\n`);
      const { stderr } = await ended(box, []);
      expect(stderr).toMatch(message);
    }
  });
});

section("the Procfile", (it) => {
  it("may have comments, blank lines, CRLF, and no newline at its end", async (box) => {
    box.write(
      "Other",
      "# a comment\r\n\r\n one: echo 1 >>log\r\n   \n#two: false\n \t# three: x\nA_b-9:echo 2 >>log",
    );
    const { code, stdout } = await ended(box, ["--check", "-f", "Other"]);
    expect(code).toBe(0);
    const names = stdout.split("\n").map((row) => row.split(" ")[0]);
    expect(names.slice(1)).toEqual(["one", "A_b-9", ""]);
    expect(stdout).not.toContain("\r");
  });

  it("is given to sh as it stands", async (box) => {
    const run = box.procfile([
      "job: A='x  y' env B=\"$HOME\" sh -c 'echo \"$A|$B\"' && echo 'it''s' \\\"ok\\\" | cat; exit 3",
    ]);
    expect((await run.exit()).code).toBe(3);
    expect(run.stdout.lines).toEqual([`job | x  y|${box.base}`, 'job | its "ok"']);
  });

  it("runs where sh is BusyBox", async (box) => {
    const bin = path.join(box.base, "bin");
    busyboxIn(bin, "sh", "sleep", "cat", "mkfifo");
    const run = box.procfile([`up: ${forever}`, "job: readlink /proc/$$/exe; exit 4"], {
      env: { PATH: `${bin}:${process.env.PATH}` },
    });
    expect((await run.exit()).code).toBe(4);
    expect(run.stdout.text).toContain("busybox");
    const command = await ended(box, ["sh", "-c", "exit $1", "sh", "6"], { PATH: bin });
    expect(command.code).toBe(6);
  });

  const mistakes: [string, string, RegExp][] = [
    ["no colon", "just words", /^entrypoint \| Procfile:1: .*name: command/],
    ["a name with a dot", "a.b: true", /^entrypoint \| Procfile:1: .*name/],
    ["no name", ": true", /^entrypoint \| Procfile:1: .*name/],
    [
      "a line that a backslash goes on with",
      "a: x \\\n  --y",
      /^entrypoint \| Procfile:2: .*script/,
    ],
    ["no command", "a:", /^entrypoint \| Procfile:1: a: has no command/],
    ["a NUL byte", "a: true \0 x", /^entrypoint \| Procfile:1: a: has a NUL byte/],
    ["a name twice", "a: true\na: false", /^entrypoint \| Procfile:2: a: .*already/],
    ["a port twice", "a: PORT=9001 x\nb: PORT=9001 x", /^entrypoint \| Procfile:2: b: .*9001/],
    [
      "the public port twice",
      "a: PORT=8080 x\nb: PORT=8080 x",
      /^entrypoint \| Procfile:2: b: .*8080/,
    ],
    ["a port that is a word", "a: PORT=http x", /^entrypoint \| Procfile:1: a: PORT=http.*65535/],
    ["port 0", "a: PORT=0 x", /^entrypoint \| Procfile:1: a: PORT=0.*65535/],
    ["port 70000", "a: env PORT=70000 x", /^entrypoint \| Procfile:1: a: PORT=70000.*65535/],
    ["no such signal", "a: STOPSIGNAL=SIGFOO x", /^entrypoint \| Procfile:1: a: .*SIGFOO/],
    ["nothing in it", "# nothing", /^entrypoint \| Procfile: /],
  ];
  for (const [what, text, message] of mistakes) {
    it(`with ${what} is an error with code 2`, async (box) => {
      box.write("Procfile", `${text}\n`);
      const { code, stdout, errors } = await ended(box, []);
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatch(message);
      expect([code, stdout]).toEqual([2, ""]);
    });
  }

  it("with five mistakes reports five, with all that is wrong in the environment", async (box) => {
    const lines = [
      "fine: touch started",
      "no colon here",
      "bad.name: true",
      "fine: touch started",
      "a: PORT=http true",
      "b: STOPSIGNAL=NONE true",
    ];
    box.write("Procfile", lines.join("\n"));
    const { code, errors } = await ended(box, []);
    const where = errors.map((line) => /^entrypoint \| Procfile:(\d+): /.exec(line)?.[1]);
    expect(where).toEqual(["2", "3", "4", "5", "6"]);
    expect([code, box.read("started")]).toEqual([2, ""]);

    const more = await ended(box, [], { PORT: "http", ENTRYPOINT_GRACE: "-1" });
    expect(more.errors).toHaveLength(7);
    expect(more.code).toBe(2);
    expect(box.has("started")).toBe(false);
  });
});

section("the environment", (it) => {
  const mistakes: [string, string, RegExp?][] = [
    ["PORT", "http"],
    ["PORT", "0"],
    ["PORT", "70000"],
    ["PORT", "-1"],
    ["PORT", "80.5"],
    ["PORT", "1e3"],
    ["PORT", "0x50"],
    ["PORT", " 80"],
    ["PORT", "tcp://10.0.0.1:80"],
    ["APP_PORT", "app"],
    ["APP_PORT", "65536"],
    ["APP_PORT", "8080", /APP_PORT.*8080|8080.*APP_PORT/],
    ["ENTRYPOINT_GRACE", "-1"],
    ["ENTRYPOINT_GRACE", "soon"],
    ["ENTRYPOINT_GRACE", "9s"],
    ["ENTRYPOINT_READY", "-0.5"],
    ["ENTRYPOINT_READY", "Infinity"],
    ["ENTRYPOINT_READY", "NaN"],
    ["ENTRYPOINT_LOG", "xml", /ENTRYPOINT_LOG=xml.*text.*json/],
    ["ENTRYPOINT_NGINX", "nowhere.conf"],
    ["ENTRYPOINT_NGINX", "."],
    ["ENTRYPOINT_STATIC", "nowhere"],
  ];
  for (const [name, value, message = new RegExp(`${name}=${value}: `)] of mistakes) {
    it(`${name}=${value} is an error with code 2`, async (box) => {
      const { code, errors } = await ended(box, ["touch", "started"], { [name]: value });
      expect(errors).toHaveLength(1);
      expect(errors[0]).toMatch(message);
      expect([code, box.has("started")]).toEqual([2, false]);
    });
  }

  it("with a variable that is none gets a warning", async (box) => {
    const env = { ENTRYPOINT_GRACEE: "5", ENTRYPOINT_GRACE: "5" };
    const { code, stderr } = await ended(box, ["--check", "cat"], env);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^entrypoint \| ENTRYPOINT_GRACEE: there is no such variable.*\n$/);
  });

  it("is reported with all its mistakes at once", async (box) => {
    const { code, errors } = await ended(box, ["true"], {
      PORT: "http",
      APP_PORT: "0",
      ENTRYPOINT_GRACE: "-1",
      ENTRYPOINT_READY: "x",
      ENTRYPOINT_LOG: "yaml",
      ENTRYPOINT_NGINX: "nowhere",
    });
    expect(errors).toHaveLength(6);
    expect(code).toBe(2);
  });

  it("has no TMPDIR with a blank where nginx is to find its configuration", async (box) => {
    const { code, errors } = await ended(box, ["true"], { TMPDIR: "/tmp/a b" });
    expect(errors.join()).toMatch(/^entrypoint \| TMPDIR=\/tmp\/a b: /);
    expect(code).toBe(2);
  });

  it("has variables that dash could not name, and they reach a process", async (box) => {
    const env = { "spring.datasource.url": "jdbc:x?a=b c", "my-var": "it's\n2", GRÖSSE: "1" };
    const print = `process.stdout.write(JSON.stringify(process.env))`;
    const words = [process.execPath, "-e", print];
    expect(JSON.parse((await printed(box.start(words, { env }))) ?? "")).toMatchObject(env);
    for (const line of [`${words[0]} -e '${print}'`, `A=b exec env C=d ${words[0]} -e '${print}'`])
      expect(
        JSON.parse((await printed(box.procfile([`app: ${line}`], { env }))) ?? ""),
      ).toMatchObject(env);
  });

  it("of a process is the one that was given, and PORT, APP_PORT and NGINX_CONF", async (box) => {
    const given = { ODD: "a\nb 'c' $d", EMPTY: "", PORT: "8123", ZX_VERBOSE: "true" };
    const run = box.procfile(["web: cat /proc/self/environ >web; exit 0"], { env: given });
    expect((await run.exit()).code).toBe(0);
    const got = Object.fromEntries(
      box
        .read("web")
        .split("\0")
        .slice(0, -1)
        .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
    );
    const { NGINX_CONF, ...rest } = got;
    expect(NGINX_CONF).toStartWith(`${box.tmp}/`);
    for (const ofTheShell of ["PWD", "OLDPWD", "SHLVL", "_"]) delete rest[ofTheShell];
    expect(rest).toEqual({ ...box.env(given), APP_PORT: "8081" });
  });

  it("gives each process its port", async (box) => {
    const port = await freePort();
    const run = box.procfile(
      [
        `a: PORT=9001 sh -c "echo a $PORT $APP_PORT"; touch a; ${forever}`,
        `b: PORT=$APP_PORT sh -c 'echo b $PORT'; touch b; ${forever}`,
        'c: while ! [ -e a -a -e b ]; do sleep 0.01; done; echo "c $PORT"; exit 1',
      ],
      { env: { PORT: `${port}`, APP_PORT: "9002", ENTRYPOINT_READY: "0" } },
    );
    await run.exit();
    expect(run.stdout.lines).toContain("b | b 9002");
    expect(run.stdout.lines).toContain(`c | c ${port}`);
    expect(run.stdout.lines).toContain("a | a 9001 9002");
  });

  it("may have the APP_PORT that Kubernetes sets for a service named app", async (box) => {
    const run = box.procfile(["a: echo $APP_PORT"], { env: { APP_PORT: "tcp://10.96.0.7:80" } });
    expect((await run.exit()).code).toBe(0);
    expect(run.stdout.text).toBe("a | 8081\n");
  });

  it("may be full of ZX_ variables", async (box) => {
    const run = box.procfile(["web: echo fine; exit 3"], {
      env: {
        ZX_PREFIX: "exit 9;",
        ZX_POSTFIX: "; exit 8",
        ZX_SHELL: "/bin/false",
        ZX_CWD: "/nowhere",
        ZX_TIMEOUT: "1ms",
        ZX_VERBOSE: "true",
        ZX_QUIET: "true",
        ZX_DETACHED: "false",
        ZX_KILL_SIGNAL: "SIGUSR1",
        ZX_NOTHROW: "false",
      },
    });
    expect((await run.exit()).code).toBe(3);
    expect(run.stdout.lines).toEqual(["web | fine"]);
    for (const line of run.stderr.lines) expect(line).toStartWith("entrypoint | ");
  });
});

section("--check", (it) => {
  it("prints the plan, a row a process, and starts nothing", async (box) => {
    const lines = [
      "early: touch started",
      "app: PORT=$APP_PORT touch started",
      "other: env A='b c' PORT=\"9001\" STOPSIGNAL=SIGINT touch started",
      "numbered: PORT=9003 STOPSIGNAL=10 touch started",
      "short: PORT=9004 STOPSIGNAL=QUIT touch started",
      "release: touch started",
      "last: PORT=9002 /usr/sbin/nginx -g 'daemon off;'",
    ];
    box.write("Procfile", lines.join("\n"));
    const { code, stdout } = await ended(box, ["--check"], { APP_PORT: "9009" });
    expect(code).toBe(0);
    const rows = new Map(stdout.split("\n").map((row) => [row.split(" ")[0], row]));
    const row = (name: string) => (rows.get(name) ?? "").replace(/ +/g, " ");
    expect(row("early")).toMatch(/^early 8080 no by program touch started$/);
    expect(row("app")).toMatch(/^app 9009 .*listens by program PORT=\$APP_PORT touch started$/);
    expect(row("other")).toMatch(/^other 9001 .*listen.* SIGINT env A='b c'/);
    expect(row("numbered")).toMatch(/^numbered 9003 .*listen.* SIGUSR1 /);
    expect(row("short")).toMatch(/^short 9004 .*listen.* SIGQUIT /);
    expect(row("release")).toMatch(/^release .* end by program touch started$/);
    expect(row("last")).toMatch(/^last 9002 no by program PORT=9002 \/usr\/sbin\/nginx/);
    expect(box.has("started")).toBe(false);
  });

  it("sees PORT and the program behind whatever may stand before them", async (box) => {
    const cases: [string, string, string][] = [
      ["S=$(cat /etc/hostname) PORT=9001 cat", "9001", "by program"],
      ['A="$(echo "x y")" B=`id -u` C=$((1+2)) PORT=9001 cat', "9001", "by program"],
      ["A=$" + "{X:-a b} PORT=9001 cat", "9001", "by program"],
      ["exec env PORT=9001 cat", "9001", "by program"],
      ["/usr/bin/env -i -u X PORT='9001' cat", "9001", "by program"],
      ["PORT=/run/app.sock cat", "/run/app.sock", "by program"],
      ["STOPSIGNAL=sigint cat", "8080", "SIGINT"],
      ["STOPSIGNAL=37 nginx -c x", "8080", "37"],
      ["cd / && PORT=9001 nginx -c x", "8080", "by program"],
    ];
    box.write(
      "Procfile",
      cases.map(([command], i) => `p${i}: ${command}\n`.replace("9001", `900${i}`)).join(""),
    );
    const { stdout } = await ended(box, ["--check"]);
    const rows = stdout.trim().split("\n").slice(1);
    const seen = rows.map((row) =>
      /^\S+ +(\S+) +(?:no|until it listens) +(by program|\S+)/.exec(row)?.slice(1),
    );
    expect(seen).toEqual(
      cases.map(([, port, signal], i) => [port.replace("9001", `900${i}`), signal]),
    );
  });

  it("knows what it cannot look for, and that it would wait for none", async (box) => {
    box.write("Procfile", "a: PATH=/opt/x:$PATH PORT=9001 program\nb: hash -r\nc: true\n");
    const { code, stdout } = await ended(box, ["--check"], { ENTRYPOINT_READY: "0" });
    expect([code, stdout.includes("until")]).toEqual([0, false]);
    const lines = await ended(box, ["--check", "cat", "two\nlines"]);
    expect(lines.stdout.trim().split("\n")).toHaveLength(3);
  });

  it("of a COMMAND prints the two rows that it stands for", async (box) => {
    const { code, stdout } = await ended(box, ["--check", "cat", "two words"]);
    expect(code).toBe(0);
    const rows = stdout.trim().replace(/ +/g, " ").split("\n");
    expect(rows).toHaveLength(3);
    expect(rows[1]).toMatch(/^app 8081 .*listens by program PORT=\$APP_PORT cat 'two words'$/);
    expect(rows[2]).toMatch(/^nginx 8080 no by program nginx -c \$NGINX_CONF/);
  });

  it("reports errors with code 2, and programs that are not there", async (box) => {
    box.write("Procfile", "a: no-such-program\nb: ./nor-this one\nc: PORT=x true\nd: true");
    const { code, stdout, errors } = await ended(box, ["--check"], { PORT: "http" });
    expect([code, stdout]).toEqual([2, ""]);
    expect(errors).toHaveLength(4);
    for (const word of ["no-such-program", "./nor-this", "PORT=x", "PORT=http"])
      expect(errors.filter((line) => line.includes(word))).toHaveLength(1);
    expect((await ended(box, ["--check", "no-such-program"])).code).toBe(2);
  });

  it("warns of what may still be well", async (box) => {
    const check = async (...lines: string[]) => {
      box.write("Procfile", lines.join("\n"));
      const { code, stderr } = await ended(box, ["--check"]);
      return [code, stderr];
    };
    const nginx = "nginx: nginx -c $NGINX_CONF";
    expect(await check("app: PORT=$APP_PORT cat", nginx)).toEqual([0, ""]);
    expect(await check("app: cat", nginx)).toEqual([0, expect.stringContaining("PORT=$APP_PORT")]);
    const made = await check("release: cat", "web: ./made-by-release");
    expect(made).toEqual([0, expect.stringMatching(/web: \.\/made-by-release: .*release/)]);
    expect((await check("release: ./no-such-program", "web: cat"))[0]).toBe(2);
  });

  it("does not guess about a command that only sh can read", async (box) => {
    const lines = [
      "a: for i in 1 2; do echo $i; done",
      'b: "$PROGRAM" x',
      "c: (cd x && y)",
      "d: exec cat",
      "e: [ -f x ] || exit 3",
      "e2: no-such-program || cat",
      "e3: ./no-such-program --x || exec cat",
      "f: . ./settings && cat",
      "g: A=b exec env C=d cat",
      'h: env -S "cat x"',
      "i: env -C /tmp cat",
      "j: $D/bin/server",
      "k: ~/bin/server",
    ];
    box.write("Procfile", lines.join("\n"));
    const { code, stderr } = await ended(box, ["--check"]);
    expect([code, stderr.includes("found")]).toEqual([0, false]);
  });

  // What sh cannot read, in its own words, and what no shell refuses.
  const unread: [line: string, words: RegExp][] = [
    ['echo "x', /Procfile:2: b: .*([Uu]nterminated|unexpected)/],
    ["echo `x", /Procfile:2: b: .*([Uu]nterminated|unexpected|EOF)/],
    ["if true; then x", /Procfile:2: b: /],
    ["while true; do x", /Procfile:2: b: /],
    ["(x", /Procfile:2: b: /],
    ["x)", /Procfile:2: b: /],
    ["cat &&", /Procfile:2: b: /],
    ["case a in", /Procfile:2: b: /],
    ["PORT=9001 {cat; }", /Procfile:2: b: /],
  ];
  for (const [line, words] of unread)
    it(`says what sh cannot read: ${line}`, async (box) => {
      box.write("Procfile", `a: cat\nb: ${line}\nc: cat`);
      const { code, stdout, errors } = await ended(box, ["--check"]);
      expect([code, stdout, errors.length]).toEqual([2, "", 1]);
      expect(errors[0]).toMatch(words);
    });

  const runs = [
    "for i in 1 2; do echo $i; done",
    "case x in x) true;; *) false;; esac",
    "f() { echo; }; f",
    "echo 'it''s' \\\"ok\\\" && (cd / && true) || true",
    "cat <<EOF",
    "x=$(case a in (a) echo b;; esac); echo $x",
    "trap 'kill $!' TERM; sleep 1 & wait",
    "echo $((1 + 2)) `id -u` $" + "{X:-a b} # comment '",
    "[ -f x ] || ! true; echo ~ {a,b} a[b] * ?",
    "echo x 2>&1 >/dev/null </dev/null 3<&0",
    "until false; do break; done; exec true",
    "PORT=9001 cd / && true",
    "echo größe 🚀 \\",
  ];
  for (const shell of ["dash", "bash", "busybox"])
    it(`refuses nothing that ${shell} runs`, async (box) => {
      const bin = shellIn(path.join(box.base, "bin"), shell);
      const env = { PATH: `${bin}:${process.env.PATH}` };
      box.write("Procfile", runs.map((line, i) => `p${i}: ${line}\n`).join(""));
      const { code, errors } = await ended(box, ["--check"], env);
      expect([code, errors]).toEqual([0, []]);
    });

  it("has nginx read its configuration, and makes no file", async (box) => {
    const parts: [part: string, says: RegExp | undefined, code: number][] = [
      ["", undefined, 0],
      ["location /a { return 204; }", undefined, 0],
      [
        "\nproxy_pas http://app;\n",
        /nginx: ENTRYPOINT_NGINX=part:2: unknown directive "proxy_pas"/,
        2,
      ],
      ["root /x\nindex y;", /nginx: ENTRYPOINT_NGINX=part:\d: .*number of arguments/, 2],
      ["server {\n listen 1;\n upstream x {}\n}", /ENTRYPOINT_NGINX=part:3: .*not allowed here/, 2],
      ["root /x;\nroot /y;", /ENTRYPOINT_NGINX=part:2: .*duplicate/, 2],
      ["location /a { return 204;", /ENTRYPOINT_NGINX=part:\d: unexpected end of file/, 2],
      ["location /a {\n proxy_pass http://no.invalid; }", /part:2: host not found/, 0],
      ["# none is whole\ndeny all", /part:2: unexpected end of file/, 2],
      ['"a', /part:1: unexpected end of file/, 2],
      ["}", /part:1: unexpected "\}"/, 2],
      ["server", /part:1: unexpected end of file/, 2],
      ["location / ;", /part:1: directive "location" has no opening "\{"\n/, 2],
      [
        "\nclient_max_body_size ten;",
        /part:2: "client_max_body_size" directive invalid value\n/,
        2,
      ],
      ["location ~ ( { return 200; }", /part:1: pcre.* failed: missing [^;]*\n/, 2],
      ["location / { return 200 $nope; }", /nginx: unknown "nope" variable\n/, 2],
      [
        "server { listen 1 ssl; ssl_certificate /no; ssl_certificate_key /no; }",
        /nginx: cannot load certificate "\/no".*; it must be there when it runs\n/,
        0,
      ],
      ["include nope.inc;", /part:1: open\(\) "nope.inc" failed.*; it must be there/, 0],
      ["include /no/x.conf;", /part:1: open\(\) "\/no\/x.conf" failed.*; it must be there/, 0],
      [`events {}\npid ${box.dir}/x.pid;\nhttp { access_log ${box.dir}/access; }`, undefined, 0],
    ];
    for (const [part, says, expected] of parts) {
      box.write("part", part);
      const { code, stderr } = await ended(
        box,
        ["--check", "cat"],
        part ? { ENTRYPOINT_NGINX: "part" } : {},
      );
      expect([part, code]).toEqual([part, expected]);
      if (says) expect(stderr).toMatch(says);
      else expect([part, stderr]).toEqual([part, ""]);
      expect(fs.readdirSync(box.dir)).toEqual(["part"]);
    }
  });

  it("names a file that the user's part includes", async (box) => {
    box.write("part", "include x.inc;");
    box.write("x.inc", "# one\nbogus on;");
    const { code, errors } = await ended(box, ["--check", "cat"], { ENTRYPOINT_NGINX: "part" });
    expect([code, ...errors]).toEqual([
      2,
      'entrypoint | nginx: x.inc:2: unknown directive "bogus"',
    ]);
  });

  it("runs nothing of a line that does more than start nginx", async (box) => {
    fs.chmodSync(box.write("server", '#!/bin/sh\necho "$@" >>started\n'), 0o755);
    const nginx = "exec nginx -c $NGINX_CONF -e stderr";
    const lines = [
      `${nginx} & exec ./server`,
      `${nginx} | ./server`,
      `${nginx} -g "$(./server)"`,
      `${nginx} >started`,
      "nginx -c ./other.conf -p $NGINX_CONF",
    ];
    for (const line of lines) {
      box.write("Procfile", `app: PORT=$APP_PORT cat\nnginx: ${line}`);
      expect([line, (await ended(box, ["--check"])).code]).toEqual([line, 0]);
      expect(fs.readdirSync(box.dir).sort()).toEqual(["Procfile", "server"]);
    }
  });

  it("reads lines of more than 128 KiB in all", async (box) => {
    const many = Array.from({ length: 300 }, (_, i) => `p${i}: true ${"x".repeat(500)}\n`);
    box.write("Procfile", `${many.join("")}bad: echo "x\n`);
    const { code, errors } = await ended(box, ["--check"]);
    expect([code, errors.length]).toEqual([2, 1]);
    expect(errors[0]).toMatch(/Procfile:301: bad: /);
  });

  const others: [what: string, text: string, says: RegExp][] = [
    ["supervisord, in a line", "a: cat --port=80%(process_num)d", /Procfile:1: a: .*supervisord/],
    ["supervisord", "[program:x]\ncommand=x --port=80%(process_num)d", /supervisord/],
    ["systemd", "[Service]\nExecStart=/bin/x", /systemd/],
    ["a Dockerfile", "FROM debian\nRUN x", /Dockerfile/],
    ["compose", "services:\n  web:\n    ports:", /YAML/],
    ["Kubernetes", "---\nspec:", /YAML/],
    ["a script", "#!/bin/bash\nnginx &\nwait -n", /script/],
    ["a heredoc", "a: cat <<EOF\nsome words\nEOF", /one line: write/],
  ];
  for (const [what, text, says] of others)
    it(`says that the file seems to be that of ${what}`, async (box) => {
      box.write("Procfile", text);
      const { code, errors } = await ended(box, ["--check"]);
      expect(code).toBe(2);
      expect(errors.join("\n")).toMatch(says);
    });

  it("accepts the repository's own Procfiles", async (box) => {
    const all = fs.globSync("test/**/Procfile*", { cwd: root });
    const files = all.filter((file) => !file.startsWith("test/recipes/")); // recipes.test.ts has these
    expect(files.length).toBeGreaterThan(0);
    for (const file of files) {
      const { code, errors } = await ended(box, ["--check", "-f", path.join(root, file)]);
      // A recipe's programs are in its image: recipes.test.ts checks it there.
      const isMissing = (line: string) => /: not found or not executable( yet:|$)/.test(line);
      const missing = file.startsWith("test/recipes/") ? errors.filter(isMissing) : [];
      expect([file, errors]).toEqual([file, missing]);
      expect(code).toBe(missing.some((line) => !line.includes(" yet:")) ? 2 : 0);
    }
  });
});
