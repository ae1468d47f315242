// The logs, as text.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  type Box,
  commandLine,
  eventually,
  forever,
  inShell,
  onBun,
  onKeyboard,
  onSignal,
  onTerminal,
  type Run,
  residentKilobytes,
  runtimes,
  section,
  untilGo,
  withoutDeno,
} from "./harness.ts";

/** What one process wrote, byte for byte: its lines without their prefix. */
function unprefixed(run: Run, name: string, stream: "stdout" | "stderr" = "stdout"): string {
  const text = run[stream].bytes.toString("latin1");
  const own = text.split(/(?<=\n)/).filter((line) => line.startsWith(`${name} | `));
  return own.map((line) => line.slice(name.length + 3)).join("");
}

section("logs", (it) => {
  it("have the name in front, padded, each stream on its own", async (box) => {
    const run = box.procfile([
      "a: echo out; echo err >&2; sleep 1000",
      "longer: echo out; echo err >&2; sleep 1000",
      `mid: ${untilGo}`,
    ]);
    await Promise.all([
      run.line(/^a +\| out/),
      run.line(/^longer \| out/),
      run.line(/^a +\| err/),
      run.line(/^longer \| err/),
    ]);
    box.write("go", "");
    await run.exit();
    expect(run.stdout.lines.sort()).toEqual(["a      | out", "longer | out"]);
    const ofChildren = run.stderr.lines.filter((line) => / \| err$/.test(line)).sort();
    expect(ofChildren).toEqual(["a      | err", "longer | err"]);
    for (const line of run.stderr.lines)
      expect(line).toMatch(/^(entrypoint \| |(a {5}|longer|mid {3}) \| (err|Terminated)$)/);
    expect(run.stderr.text).not.toContain("\x1b");
  });

  it("pass on a line when it is whole, at once", async (box) => {
    const run = box.procfile(["a: printf one; sleep 0.2; printf ' line\\nnext\\n'; sleep 1000"]);
    await run.line(/next/);
    expect(run.stdout.lines).toEqual(["a | one line", "a | next"]);
    await run.stop();
  });

  it("keep empty lines, blanks, CR, NUL, and what is not UTF-8", async (box) => {
    const bytes = Buffer.concat([
      Buffer.from(
        "\n\n  two blanks  \ntab\t\r\n\rCR\r\nnul\0nul\n\x1b[31mred\x1b[0m\nentrypoint | ?\n",
      ),
      Buffer.from([0xff, 0xfe, 0x80, 0xc3, 0x28, 0xe2, 0x82, 0x0a, 0xf0, 0x9f, 0x9a, 0x80, 0x0a]),
      Buffer.from("größe 日本語 \u2028 \u0085\n"),
      Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
      Buffer.from("\n"),
    ]);
    box.write("bytes", bytes);
    const run = box.procfile(["raw: cat bytes; cat bytes >&2"]);
    expect((await run.exit()).code).toBe(0);
    expect(unprefixed(run, "raw")).toBe(bytes.toString("latin1"));
    expect(unprefixed(run, "raw", "stderr")).toBe(bytes.toString("latin1"));
  });

  it("keep characters whole that arrive in parts", async (box) => {
    const run = box.procfile([
      "a: printf '\\303'; sleep 0.05; printf '\\244 \\360\\237'; sleep 0.05; printf '\\232\\200\\n'",
    ]);
    await run.exit();
    expect(run.stdout.text).toBe("a | ä 🚀\n");
  });

  it("end without a newline where the last line has none", async (box) => {
    const run = box.procfile(["a: printf 'one\\nlast'; printf 'error' >&2"]);
    await run.exit();
    expect(run.stdout.text).toBe("a | one\na | last");
    expect(unprefixed(run, "a", "stderr").trimEnd()).toBe("error");
    for (const line of run.stderr.lines) expect(line).toMatch(/^(a|entrypoint) \| /);
  });

  it("have the last words of who is killed, all of them", async (box) => {
    const run = box.procfile([
      "web: i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; echo last >&2; kill -9 $$",
    ]);
    expect((await run.exit()).code).toBe(137);
    const lines = Array.from({ length: 5000 }, (_, i) => `web | line ${i + 1}`);
    expect(run.stdout.lines).toEqual(lines);
    expect(run.stderr.lines).toContain("web | last");
  });

  it("have the last words of those who are stopped", async (box) => {
    const words = "seq 1 20000; printf bye";
    const run = box.procfile([
      `one: ${onSignal("TERM", "one", `${words}; exit 0`)}; ${forever}`,
      `two: ${onSignal("TERM", "two", `${words}; exit 0`)}; ${forever}`,
    ]);
    await run.up("one", "two");
    await run.stopsWell();
    const numbers = Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join("");
    for (const name of ["one", "two"])
      expect(unprefixed(run, name).trimEnd() === `up\n${numbers}bye`).toBe(true);
  });

  it("cut a line of over 64 KiB into pieces of that size", async (box) => {
    const mixed = [65_535, 10, 65_536, 1, 65_537, 131_072, 20, 131_073, 70_000, 1_000_000, 0];
    const sizes = [...mixed, ...Array.from({ length: 300 }, () => [1, 66_000]).flat()];
    const line = (size: number) => "abcdefghij".repeat(size / 10 + 1).slice(0, size);
    box.write("lines", sizes.map((size) => `${line(size)}\n`).join(""));
    const run = box.procfile(["a: cat lines; printf end"]);
    await run.exit();
    const expected = sizes.flatMap((size) => {
      const pieces = line(size).match(/.{1,65536}/g) ?? [""];
      return pieces.map((piece) => `a | ${piece}`);
    });
    expect(run.stdout.lines.map((text) => text.length)).toEqual(
      [...expected, "a | end"].map((text) => text.length),
    );
    expect(run.stdout.lines.join("\n") === [...expected, "a | end"].join("\n")).toBe(true);
  });

  it("cut it wherever it stands in what a child with a larger pipe writes at once", async (box) => {
    const F_SETPIPE_SZ = 1031;
    const lines = 'b"x\\n" + b"y" * 250000 + b"\\n"';
    box.write(
      "app.py",
      `import fcntl, os\nfcntl.fcntl(1, ${F_SETPIPE_SZ}, 1 << 20)\nos.write(1, ${lines})\n`,
    );
    const run = box.procfile(["a: python3 app.py"]);
    await run.exit();
    const sizes = run.stdout.lines.map((line) => line.length - "a | ".length);
    expect(sizes).toEqual([1, 65_536, 65_536, 65_536, 250_000 - 3 * 65_536]);
  });

  it("lose and mix up nothing when several write as much as they can", async (box) => {
    const count = 300_000;
    const writers = ["a", "bb", "c-c"].map(
      (name) => `${name}: seq 1 ${count}; touch ${name}; sleep 1000`,
    );
    const end = "end: while ! [ -e a -a -e bb -a -e c-c ]; do sleep 0.02; done";
    const run = box.procfile([...writers, end]);
    expect((await run.exit()).code).toBe(0);
    const next = new Map([
      ["a  ", 1],
      ["bb ", 1],
      ["c-c", 1],
    ]);
    const wrong: string[] = [];
    for (const line of run.stdout.lines) {
      const [name = "", number] = line.split(" | ");
      const expected = next.get(name);
      if (`${expected}` !== number) wrong.push(line);
      next.set(name, Number(number) + 1);
    }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect([...next.values()]).toEqual([count + 1, count + 1, count + 1]);
  }, 120_000);

  it("work where a process opens /dev/stdout and /dev/stderr itself", async (box) => {
    const run = box.procfile([
      "a: echo out >/dev/stdout; echo err >/dev/stderr; echo fd >/proc/self/fd/1",
    ]);
    expect((await run.exit()).code).toBe(0);
    expect(run.stdout.lines).toEqual(["a | out", "a | fd"]);
    expect(run.stderr.lines).toContain("a | err");
  });

  it("and the exit are not held up by a grandchild that holds the pipe", async (box) => {
    box.mayEscape = /^sleep 1005$/;
    const run = box.procfile(["a: setsid sleep 1005 & echo last words; exit 3"]);
    const { code, ms } = await run.exit();
    expect(code).toBe(3);
    expect(ms).toBeLessThan(8000);
    expect(run.stdout.lines).toEqual(["a | last words"]);
  });

  it("say nothing more after a line of its own that one process ended", async (box) => {
    const run = box.procfile(["a: exit 0"]);
    await run.exit();
    expect(run.stdout.text).toBe("");
    expect(run.stderr.lines).toHaveLength(1);
    expect(run.stderr.text).toMatch(/^entrypoint \| a: exit code 0 after [\d.]+ m?s\n$/);
  });
});

/** The escape character, so that it can be seen and named in a regular expression. */
const visible = (text: string) => text.replaceAll("\x1b", "ESC");

section("a stdout that others have too", (it) => {
  it("stderr being the same pipe, no line is torn, however slow the reader", async (box) => {
    const writer = (letter: string, to: number) =>
      `line=$(head -c 3000 /dev/zero | tr '\\0' ${letter}); ` +
      `for i in $(seq 300); do echo $line >&${to}; echo >>count; done; echo end >&${to}`;
    const run = box.procfile(
      [`a: (${writer("o", 1)}) & (${writer("e", 2)}) & wait; sleep 1000`, "b: sleep 1000"],
      { wrap: inShell("exec 2>&1"), unread: "stdout" },
    );
    await stalled(box, "count");
    run.read();
    const ends = () => run.stdout.lines.filter((line) => line === "a | end").length;
    await eventually("both ends", () => ends() === 2);
    await run.stop();
    const whole = /^(a \| (o{3000}|e{3000}|end)|entrypoint \| .*)$/;
    expect(run.stdout.lines.filter((line) => !whole.test(line))).toEqual([]);
  });
});

section(
  "a stdout for which someone waits",
  (it) => {
    it("is blocking again for who writes there next", async (box) => {
      const script = `{ "$@" 2>&1; echo >ended; seq 100000; echo $? >status; } |
        { until [ -e ended ]; do sleep 0.01; done; sleep 0.2; cat; }`;
      box.write("Procfile", "a: echo first\n");
      for (const words of [[], ["--check"], ["--help"], ["--version"], ["-f", "missing"]]) {
        const run = box.start(words, { wrap: (command) => ["sh", "-c", script, "sh", ...command] });
        await run.exit();
        expect([words, box.read("status")]).toEqual([words, "0\n"]);
        expect(run.stdout.lines.filter((line) => /^\d+$/.test(line))).toHaveLength(100_000);
        for (const file of ["ended", "status"]) fs.rmSync(path.join(box.dir, file));
      }
    });
  },
  runtimes.filter(({ name }) => name !== "bun"), // which changes it before the program runs
);

section(
  "a terminal that stalls",
  (it) => {
    it("holds up no signal", async (box) => {
      const polite = `${onSignal("TERM", "polite")}; ${forever.replace("echo up; ", "")}`;
      const run = box.procfile([`polite: ${polite}`, "writer: while :; do echo tick; done"], {
        env: { ENTRYPOINT_GRACE: "1" },
        wrap: onKeyboard(),
      });
      await run.line(/tick/);
      fs.writeFileSync(path.join(box.dir, "keys"), "\x13"); // Ctrl-S
      let seen = -1;
      await eventually("the stall", async () => {
        const before = seen;
        await Bun.sleep(200);
        seen = run.stdout.size;
        return seen === before;
      });
      process.kill(Number(box.read("pid")), "SIGTERM");
      await run.exit();
      expect(box.read("log")).toBe("polite TERM\n");
    });
  },
  onBun,
);

section("colour", (it) => {
  const lines = [
    "one: echo FORCE_COLOR is $FORCE_COLOR.; echo err >&2; echo >said; sleep 1000",
    "two: while ! [ -e said ]; do sleep 0.01; done; rm said; exit 3",
  ];

  it("is on where the stream is a terminal, and children are told", async (box) => {
    const run = box.procfile(lines, { wrap: onTerminal(), env: { TERM: "xterm-256color" } });
    expect((await run.exit()).code).toBe(3);
    expect(visible(run.stdout.text)).toMatch(/ESC\[\d+moneESC\[39m \| FORCE_COLOR is \d\./);
    expect(visible(run.stdout.text)).toMatch(/ESC\[[\d;]+mentrypointESC\[[\d;]+m \| /);
  });

  const plain: [string, Record<string, string>][] = [
    ["with NO_COLOR", { TERM: "xterm-256color", NO_COLOR: "1" }],
    ["on a dumb terminal", { TERM: "dumb" }],
    ["with FORCE_COLOR=0", { TERM: "xterm-256color", FORCE_COLOR: "0" }],
    ["with FORCE_COLOR=false", { TERM: "xterm-256color", FORCE_COLOR: "false" }],
  ];
  for (const [title, env] of plain) {
    it(`is off ${title}`, async (box) => {
      const run = box.procfile(lines, { wrap: onTerminal(), env });
      expect((await run.exit()).code).toBe(3);
      expect(run.stdout.text).toMatch(/^one \| FORCE_COLOR is (0|false)?\.\r$/m);
      expect(run.stdout.text).not.toContain("\x1b");
    });
  }

  it("is off in JSON, and children are not told of any", async (box) => {
    const env = { TERM: "xterm-256color", ENTRYPOINT_LOG: "json" };
    const run = box.procfile(lines, { wrap: onTerminal(), env });
    expect((await run.exit()).code).toBe(3);
    expect(run.stdout.text).toContain('"message":"FORCE_COLOR is ."');
  });

  it("is off in a pipe, and on there with FORCE_COLOR", async (box) => {
    const off = box.procfile(lines, { env: { TERM: "xterm-256color" } });
    await off.exit();
    expect(off.stdout.text).toBe("one | FORCE_COLOR is .\n");
    expect(off.stderr.text).not.toContain("\x1b");
    const on = box.procfile(lines, { env: { FORCE_COLOR: "1" } });
    await on.exit();
    expect(visible(on.stdout.text)).toMatch(/^ESC\[\d+moneESC\[39m \| FORCE_COLOR is 1\.\n$/);
    expect(visible(on.stderr.text)).toMatch(/ESC\[\d+moneESC\[39m \| err/);
  });

  it("is each stream's own matter", async (box) => {
    // stdout is a terminal, stderr a file
    const run = box.procfile(lines, {
      env: { TERM: "xterm-256color" },
      wrap: onTerminal('exec "$@" 2>errors'),
    });
    await run.exit();
    expect(run.stdout.text).toContain("\x1b[");
    expect(box.read("errors")).toMatch(/^one \| err$/m);
    expect(box.read("errors")).not.toContain("\x1b");
  });
});

/** Waits until a process has stopped making progress with what it writes. */
async function stalled(box: Box, file: string): Promise<void> {
  const size = () => fs.statSync(path.join(box.dir, file), { throwIfNoEntry: false })?.size ?? 0;
  let last = 0;
  let since = performance.now();
  await eventually("the stall", () => {
    const now = size();
    if (now !== last) since = performance.now();
    last = now;
    return now > 0 && performance.now() - since > 500;
  });
}

section(
  "a child that closes its stdout",
  (it) => {
    it("has its last line at once, which ends when another follows", async (box) => {
      const run = box.procfile([
        "a: printf 'no newline'; exec >&- sleep 1000",
        `b: ${untilGo}; echo b`,
      ]);
      await eventually("the line of a", () => run.stdout.text === "a | no newline");
      box.write("go", "");
      await run.exit();
      expect(run.stdout.text).toBe("a | no newline\nb | b\n");
    });
  },
  withoutDeno,
);

section(
  "a reader",
  (it) => {
    // It writes a line to stdout and counts it in a file.
    const writer = `line=$(head -c 1000 /dev/zero | tr '\\0' x); while :; do echo $line; echo >>count; done`;

    it("that stalls blocks the children, and nothing else", async (box) => {
      for (const stream of ["stdout", "stderr"] as const) {
        const redirect = stream === "stderr" ? "exec >&2; " : "";
        const run = box.procfile(
          [
            `polite: ${onSignal("TERM", "polite")}; ${forever.replace("echo up; ", "")}`,
            `writer: ${redirect}${writer}`,
          ],
          { unread: stream, env: { ENTRYPOINT_GRACE: "2" } },
        );
        await stalled(box, "count");
        // Some pipes and buffers are full, and no more than that.
        expect(box.read("count").length).toBeLessThan(5000);
        const memory = residentKilobytes(run.pid);
        expect(memory).toBeLessThan(200_000);
        const { code, stopMs } = await run.stop();
        expect(code).toBe(0);
        expect(stopMs).toBeLessThan(9000);
        expect(box.read("log")).toBe("polite TERM\n");
        box.remove("count", "log");
      }
    });

    it("that stalls does not hold up the first exit", async (box) => {
      const run = box.procfile([`writer: ${writer}`, `web: ${untilGo}; exit 3`], {
        unread: "stdout",
        env: { ENTRYPOINT_GRACE: "1" },
      });
      await stalled(box, "count");
      box.write("go", "");
      const { code, ms } = await run.exit();
      expect(code).toBe(3);
      expect(ms).toBeLessThan(20_000);
    });

    it("that goes on after a stall gets everything", async (box) => {
      const run = box.procfile(["a: seq 1 400000; touch all; exit 3"], { unread: "stdout" });
      await Bun.sleep(300);
      expect(box.has("all")).toBe(false);
      run.read();
      expect((await run.exit()).code).toBe(3);
      expect(run.stdout.lines).toHaveLength(400_000);
      expect(run.stdout.lines.at(-1)).toBe("a | 400000");
    });

    it("that has gone means stop", async (box) => {
      for (const stream of ["stdout", "stderr"] as const) {
        const redirect = stream === "stderr" ? "exec >&2; " : "";
        const run = box.procfile(
          [
            `one: ${onSignal("TERM", "one")}; ${forever.replace("echo up; ", "")}`,
            `two: ${redirect}${onSignal("TERM", "two")}; while :; do echo line; sleep 0.02; done`,
          ],
          { unread: stream },
        );
        run.hangUp();
        const { code } = await run.exit();
        expect([stream, code]).toEqual([stream, 0]);
        expect(box.lines("log").sort()).toEqual(["one TERM", "two TERM"]);
        box.remove("log");
      }
    });

    it("never makes the program keep what it has written", async (box) => {
      const line = "a line of a log, ".repeat(8);
      const run = box.procfile([`a: yes ${line}; exit 1`]);
      await eventually("a heap at work", () => run.stdout.size > 40e6, 100_000);
      const before = residentKilobytes(run.pid);
      await eventually("100 MB more", () => run.stdout.size > 140e6, 100_000);
      expect(commandLine(run.pid)).not.toBe("");
      expect(residentKilobytes(run.pid) - before).toBeLessThan(60_000);
      await run.stopsWell();
    });
  },
  withoutDeno,
);
