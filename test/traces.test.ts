// ENTRYPOINT_LOG=json: a stack trace is one entry, and every other line is one of its own.
//
// The texts are blocks of lines, each behind a line `== name`. A block is one trace. The name says
// what else it is: `logged` if a logger's own line is in front of the trace, which is in the same
// entry if it came in the same write; `loose` if the message has lines that nothing tells from
// other text, or the program pauses in it: then only the frames must be together.
//
// Python, Node, Ruby and PHP write theirs for these tests. Java and Go are recorded, for their
// compilers are large. In test/traces, with Debian 12's openjdk-17-jdk-headless and golang-1.19-go:
//   java -XX:TieredStopAtLevel=1 -Xss256k Trace.java 2>recorded/java.txt
//   go build trace.go; for each KIND of its table:
//   echo "== KIND"; GOTRACEBACK=single ./trace KIND 2>&1 || echo "exit status 2"
//   (all for `all` and `goroutine`; `== logged: KIND` for `handled` and `log`)
// recorded/written.txt is written by hand: there is no .NET in Debian. It has Rails and Spring too, and
// none.txt has no trace at all. recorded/among.txt has traces of frameworks and loggers, and what Bun
// and Deno die of, among other lines: there the entries of a block have a line `--` between them.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { entriesOf, LABELS } from "./entries.ts";
import { type Box, node, python, type Run, runtimes, section, untilGo } from "./harness.ts";

const MOST = 262144; // bytes of an entry that Cloud Logging takes
const folder = path.join(import.meta.dir, "traces");
const forever = "exec sleep 1000";

// ---- The texts

/** Where a text comes from: a program, or a file. */
type Source = { program: string[] } | { file: string };

const phpTo = (where: string) => ["php", "-n", "-d", "html_errors=0", ...where.split(" ")];
const sources: Record<string, Source> = {
  python: { program: [python, "trace.py"] },
  node: { program: [node, "trace.cjs"] },
  properties: { program: [node, "trace.cjs", "properties"] },
  event: { program: [node, "trace.cjs", "event"] },
  rejection: { program: [node, "trace.cjs", "rejection"] },
  reason: { program: [node, "trace.cjs", "reason"] },
  module: { program: [node, "trace.mjs"] },
  ruby: { program: ["ruby", "trace.rb"] },
  limited: { program: ["ruby", "--backtrace-limit=1", "trace.rb"] },
  php: { program: [...phpTo("-d display_errors=stderr -d log_errors=0"), "trace.php"] },
  phplog: { program: [...phpTo("-d display_errors=0 -d log_errors=1"), "trace.php"] },
  java: { file: "recorded/java.txt" },
  go: { file: "recorded/go.txt" },
  written: { file: "recorded/written.txt" },
};

interface Block {
  marker: string;
  trace: string;
}

/** What a source has to say, as it comes without our program. */
const texts = new Map<string, string>();
function textOf(name: string): string {
  const text = texts.get(name) ?? written(sources[name]);
  texts.set(name, text);
  return text;
}

function written(source: Source | undefined): string {
  if (!source) return "";
  if ("file" in source) return fs.readFileSync(path.join(folder, source.file), "utf8");
  const { stderr } = Bun.spawnSync(source.program, { cwd: folder, stdin: "ignore" });
  return stderr.toString();
}

function blocksOf(text: string): Block[] {
  const parts = text.replace(/\n$/, "").split(/^(== .*)\n/m);
  expect(parts[0]).toBe("");
  return parts.slice(1).flatMap((marker, i, all) => {
    const trace = all[i + 1] ?? "";
    return i % 2 ? [] : { marker, trace: trace.replace(/\n$/, "") };
  });
}

function textOfBlocks(blocks: Block[]): string {
  return blocks.map(({ marker, trace }) => `${marker}\n${trace}\n`).join("");
}

/** One trace of each language, in which others are nested where the language can. */
const samples: [source: string, marker: string][] = [
  ["python", "== thrice"],
  ["python", "== group"],
  ["node", "== thrice"],
  ["rejection", "== dies"],
  ["java", "== suppressed"],
  ["go", "== all"],
  ["ruby", "== top thrice"],
  ["ruby", "== bottom thrice"],
  ["php", "== thrice"],
  ["written", "== .NET with causes"],
];

function sample([source, marker]: [string, string]): string {
  const block = blocksOf(textOf(source)).find((other) => other.marker === marker);
  if (!block) throw new Error(`${source} has no ${marker}`);
  return block.trace;
}

// ---- What came out

/** The messages of one process, each in an entry that has nothing else. */
function messagesOf(run: Run, process: string, stream: "stdout" | "stderr" = "stdout"): string[] {
  expect(run[stream].lines.filter((line) => Buffer.byteLength(line) >= MOST)).toEqual([]);
  return entriesOf(run, process, stream).map((entry) => {
    const { message = "" } = entry;
    expect(entry).toEqual({ message, [LABELS]: { process } });
    return message;
  });
}

/** The entries of each block. */
function entriesByBlock(messages: string[]): { marker: string; entries: string[] }[] {
  const all: { marker: string; entries: string[] }[] = [];
  for (const message of messages) {
    if (/^== .*$/.test(message)) all.push({ marker: message, entries: [] });
    else all.at(-1)?.entries.push(message);
  }
  return all;
}

const FRAME =
  /^\s+at \S+.*[\d)]$|^[\s|]+File ".*", line|^\s+(\d+: )?from \S+:\d+|^\S+:\d+:in .*'$|^#\d|^\t\S+\.go:\d/;

function framesAreTogether(entries: string[]): boolean {
  return entries.filter((entry) => entry.split("\n").some((line) => FRAME.test(line))).length === 1;
}

/** Where it is right that there are several entries, they are shown as one. */
function settled({ marker, trace }: Block, entries: string[], inOneWrite: boolean): string[] {
  const free = marker.includes("loose") || (!inOneWrite && marker.includes("logged"));
  return free && entries.join("\n") === trace && framesAreTogether(entries) ? [trace] : entries;
}

/** The blocks of a text with whose entries something is wrong. */
function wrongIn(name: string, text: string, messages: string[], inOneWrite: boolean): Wrong[] {
  const blocks = blocksOf(text);
  const found = entriesByBlock(messages);
  const markers = found.map(({ marker }) => marker);
  // After a pause in it, the rest of a trace may take what is behind it for its end.
  if (markers.join() !== blocks.map(({ marker }) => marker).join())
    return [{ name, marker: "the markers", entries: markers }];
  return blocks.flatMap((block, i) => {
    const entries = settled(block, found[i]?.entries ?? [], inOneWrite);
    const { marker, trace } = block;
    return Bun.deepEquals(entries, [trace]) ? [] : { name, marker, entries };
  });
}

// ---- How it is written

const END = "== end";

/** Writes a file's lines with 5 ms between them, or its bytes in parts of any length at any pace. */
const byLine = `perl -e '$| = 1; while (<>) { print; select(undef, undef, undef, 0.005) }'`;
const anyhow = `perl -e '$| = 1; srand shift; undef $/; $_ = <>;
  while (length) {
    print substr($_, 0, int rand 2 ** int rand 12, "");
    select(undef, undef, undef, rand() < 0.03 ? 0.06 : rand 0.003) if rand() < 0.5;
  }'`.replaceAll("\n", " ");

/** Runs each command until it has said that it is at its end, all at a time. */
async function runAll(
  box: Box,
  commands: Record<string, string>,
  log: "json" | "text" = "json",
): Promise<Run> {
  const lines = Object.entries(commands).map(
    ([name, command]) => `${name}: ${command}; echo '${END}' >&2; ${forever}`,
  );
  const run = box.procfile(lines, { env: { ENTRYPOINT_LOG: log } });
  for (const name of Object.keys(commands)) await run.line(endOf(name));
  await run.stop();
  return run;
}

function endOf(name: string): RegExp {
  return new RegExp(`^\\{"message":"${END}",.*"process":"${name}"|^${name} +\\| ${END}`);
}

type Wrong = { name: string; marker: string; entries: string[] };

/**
 * A slow machine makes pauses in what has none: only what is wrong each time is wrong. A process that had
 * something wrong is tried again by itself.
 */
async function atLast(names: string[], find: (names: string[]) => Promise<Wrong[]>): Promise<void> {
  let wrong = await find(names);
  for (let tries = 1; tries < 6 && wrong.length > 0; tries++) {
    const again: Wrong[] = [];
    for (const name of new Set(wrong.map(({ name }) => name))) again.push(...(await find([name])));
    wrong = again.filter((one) =>
      wrong.some(({ name, marker }) => name === one.name && marker === one.marker),
    );
  }
  expect(wrong.slice(0, 3)).toEqual([]);
}

/** Those of these names. */
function these(named: Record<string, string>, names: string[]): Record<string, string> {
  return Object.fromEntries(Object.entries(named).filter(([name]) => names.includes(name)));
}

/** A command for each text, which stands in a file of the text's name. */
function commandsFor(box: Box, named: Record<string, string>, command: (file: string) => string) {
  return Object.fromEntries(
    Object.entries(named).map(([name, text]) => {
      box.write(`${name}.txt`, text);
      return [name, command(`${name}.txt`)];
    }),
  );
}

function startAsJson(box: Box, commands: Record<string, string>): Run {
  const lines = Object.entries(commands).map(([name, command]) => `${name}: ${command}`);
  return box.procfile(lines, { env: { ENTRYPOINT_LOG: "json" } });
}

/** Waits for an entry of this process that ends with the last line of a text. */
async function entryEnds(run: Run, name: string, text: string): Promise<void> {
  const last = JSON.stringify(text.split("\n").at(-1)).slice(1);
  await run.line(new RegExp(`${RegExp.escape(last)},"${LABELS}":.*"process":"${name}"`));
}

const allTexts = () =>
  Object.fromEntries(Object.keys(sources).map((name) => [name, textOf(name)] as const));

/** Without the longest, which would take long to write slowly. */
const shortBlocks = (name: string) =>
  blocksOf(textOf(name)).filter(({ trace }) => trace.split("\n").length < 120);

/** The same in all runs of a program. */
const masked = (text: string) => text.replaceAll(/0x[0-9a-f]+|\d+/g, "0");

/** The rule is the same in all of them: once by Bun's engine, once by V8. */
const engines = runtimes.filter(({ name }) => ["compiled", "node, one file"].includes(name));

section(
  "traces",
  (it) => {
    it("makes one entry of a trace that comes at once, on both streams", async (box) => {
      const all = allTexts();
      const commands = commandsFor(box, all, (file) => `cat ${file}; cat ${file} >&2`);
      await atLast(Object.keys(all), async (names) => {
        const run = await runAll(box, these(commands, names));
        return Object.entries(these(all, names)).flatMap(([name, text]) => {
          const stderr = messagesOf(run, name, "stderr");
          expect(stderr.pop()).toBe(END);
          return [messagesOf(run, name), stderr].flatMap((messages) => {
            expect(`${messages.join("\n")}\n`).toBe(text);
            return wrongIn(name, text, messages, true);
          });
        });
      });
    });

    it("makes one entry of a trace that comes line by line, from many processes", async (box) => {
      const short = Object.fromEntries(
        Object.keys(sources).map((name) => [name, textOfBlocks(shortBlocks(name))] as const),
      );
      const commands = commandsFor(box, short, (file) => `${byLine} ${file}`);
      await atLast(Object.keys(short), async (names) => {
        const run = await runAll(box, these(commands, names));
        return Object.entries(these(short, names)).flatMap(([name, text]) => {
          const messages = messagesOf(run, name);
          expect(`${messages.join("\n")}\n`).toBe(text);
          return wrongIn(name, text, messages, false);
        });
      });
    }, 120_000);

    it("makes one entry of what the programs themselves write", async (box) => {
      const programs = Object.entries(sources).flatMap(([name, source]) =>
        "program" in source ? [[name, source.program] as const] : [],
      );
      // Two at a time: more of them would make each other pause.
      for (let i = 0; i < programs.length; i += 2) {
        const pair = programs.slice(i, i + 2);
        const commands = Object.fromEntries(
          pair.map(([name, words]) => [name, `cd ${folder}; ${words.join(" ")}`]),
        );
        await atLast(Object.keys(commands), async (names) => {
          const run = await runAll(box, these(commands, names));
          return names.flatMap((name) => {
            const messages = messagesOf(run, name, "stderr");
            expect(messages.pop()).toBe(END);
            const text = `${messages.join("\n")}\n`;
            expect(masked(text)).toBe(masked(textOf(name)));
            return wrongIn(name, text, messages, false);
          });
        });
      }
    });

    it("has the whole trace of which a process dies", async (box) => {
      for (const [name, code] of [
        ["python", 1],
        ["node", 1],
        ["ruby", 1],
        ["php", 255],
      ] as const) {
        const source = sources[name];
        if (!source || !("program" in source)) throw new Error(`${name} is no program`);
        await atLast([name], async () => {
          const run = box.procfile([`${name}: cd ${folder}; exec ${source.program.join(" ")}`], {
            env: { ENTRYPOINT_LOG: "json" },
          });
          expect((await run.exit()).code).toBe(code);
          const messages = messagesOf(run, name, "stderr");
          const text = `${messages.join("\n")}\n`;
          expect(masked(text)).toBe(masked(textOf(name)));
          return wrongIn(name, text, messages, false);
        });
      }
    });

    it("tells a trace from the one directly behind it", async (box) => {
      const pairs = samples.flatMap((one) => samples.map((other) => [one, other] as const));
      const both = pairs.map(([one, other]) => ({
        marker: `== ${one[0]} ${one[1].slice(3)}, ${other[0]} ${other[1].slice(3)}`,
        traces: [sample(one), sample(other)],
      }));
      const text = both.map(({ marker, traces }) => [marker, ...traces, ""].join("\n")).join("");
      const commands = commandsFor(box, { app: text }, (file) => `cat ${file}`);
      await atLast(["app"], async () => {
        const run = await runAll(box, commands);
        const messages = messagesOf(run, "app");
        expect(`${messages.join("\n")}\n`).toBe(text);
        // Ruby writes the cause directly behind the effect, as if it were a trace of its own.
        return entriesByBlock(messages).flatMap(({ marker, entries }, i) => {
          const wanted = both[i]?.traces ?? [];
          const chained =
            marker.match(/ruby/g)?.length === 2 && entries.join("\n") === wanted.join("\n");
          const right = chained || Bun.deepEquals(entries, wanted);
          return right ? [] : { name: "app", marker, entries };
        });
      });
    });

    it("leaves lines as they are around a trace, and objects too", async (box) => {
      const object = '{"severity":"ERROR","message":"Error: x"}';
      const around: [before: string, after: string][] = [
        ["before", "after"],
        ["", "after"],
        [object, object],
        ["listening on 8080", "[1,2,3]"],
        ["{", "{"],
        ["a line: with a colon", "a line: with a colon"],
        ["before", "2026-01-01 00:00:00 INFO after"],
        ["before", '127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 6 "-" "-"'],
      ];
      const wanted = samples.flatMap((one) =>
        around.flatMap(([before, after]) => [before, sample(one), after, "between"]),
      );
      const text = `${wanted.join("\n")}\n`;
      const commands = commandsFor(box, { app: text }, (file) => `cat ${file}`);
      await atLast(["app"], async () => {
        const run = await runAll(box, commands);
        const entries = run.stdout.lines.map((line) => JSON.parse(line));
        for (const entry of entries) expect(entry[LABELS]).toEqual({ process: "app" });
        const shown = entries.map(({ severity, message }) =>
          severity ? JSON.stringify({ severity, message }) : message,
        );
        expect(`${shown.join("\n")}\n`).toBe(text);
        const [marker] = wanted.filter((one, i) => one !== shown[i]);
        return marker === undefined ? [] : [{ name: "app", marker, entries: shown }];
      });
    });

    it("joins more lines of a message to what came with them", async (box) => {
      const wanted = fs
        .readFileSync(path.join(folder, "recorded/together.txt"), "utf8")
        .trimEnd()
        .split(/^==.*\n/m)
        .slice(1)
        .flatMap((trace) => [trace.trimEnd(), "between"]);
      const run = await runAll(
        box,
        commandsFor(box, { app: `${wanted.join("\n")}\n` }, (file) => `cat ${file}`),
      );
      expect(messagesOf(run, "app")).toEqual(wanted);
    });

    it("tells a trace of any framework from the lines around it", async (box) => {
      const blocks = blocksOf(fs.readFileSync(path.join(folder, "recorded/among.txt"), "utf8"));
      const entriesOfBlock = (text: string) => text.split(/\n--\n/);
      const named = Object.fromEntries(
        blocks.map(({ trace }, i) => [`p${i}`, `${entriesOfBlock(trace).join("\n")}\n`] as const),
      );
      const commands = commandsFor(box, named, (file) => `cat ${file}`);
      await atLast(Object.keys(named), async (names) => {
        const run = await runAll(box, these(commands, names));
        return names.flatMap((name) => {
          const { marker = "", trace = "" } = blocks[Number(name.slice(1))] ?? {};
          const entries = messagesOf(run, name);
          const right = Bun.deepEquals(entries, entriesOfBlock(trace));
          return right ? [] : [{ name, marker, entries }];
        });
      });
    });

    it("ends a trace at a line as a logger begins it, also where an error is due", async (box) => {
      const trace = 'Traceback (most recent call last):\n  File "/app/a.py", line 1, in f\n    f()';
      const stamped = [
        "2026-01-02 10:00:00,123 INFO done",
        "INFO:root:done",
        "[info] done",
        "10.0.0.1 - - done",
        "level=info msg=done",
      ];
      const wanted = stamped.flatMap((line) => [trace, line]);
      box.write("text", `${wanted.join("\n")}\n`);
      const run = startAsJson(box, { app: "cat text" });
      await run.exit();
      expect(messagesOf(run, "app")).toEqual(wanted);
    });

    it("holds nothing for what may follow for ever", async (box) => {
      const beginnings: Record<string, string> = {
        yaml: 'ERROR ScannerError: x\n  in "a.yml"\n    a: b: c\n        ^',
        worker:
          "node:internal/event_target:1101\n  process.nextTick(() => { throw err; });\n  ^\na text",
        list: "Error: x",
        python: '  File "/app/bad.py", line 1\n    x = (\n        ^\nSyntaxError: x',
        blank: "Error: x\n    at a (b.js:1:1)",
      };
      const lines: Record<string, string> = { list: "  tick", blank: "" };
      const commands = Object.fromEntries(
        Object.entries(beginnings).map(([name, text]) => {
          const line = lines[name] ?? "tick";
          box.write(`${name}.txt`, `${text}\n`);
          return [name, `cat ${name}.txt; while sleep 0.02; do echo "${line}"; done`];
        }),
      );
      const run = startAsJson(box, commands);
      for (const [name, text] of Object.entries(beginnings)) {
        await entryEnds(run, name, text);
        const line = JSON.stringify(lines[name] ?? "tick");
        await run.line(new RegExp(`^{"message":${line},"${LABELS}":.*"process":"${name}"`));
      }
      await run.stop();
      for (const [name, text] of Object.entries(beginnings)) {
        const messages = messagesOf(run, name);
        const begun = messages.slice(0, messages.indexOf(lines[name] ?? "tick"));
        expect(begun.join("\n")).toBe(text);
      }
    });

    it("never joins a stranger, whatever comes and in whatever parts", async (box) => {
      const strangers = [
        "ready",
        "GET /a 200",
        "2026-01-02 10:00:00 INFO done",
        " ✓ built",
        "[1,2]",
      ];
      const streams = Array.from({ length: 6 }, (_, seed) => {
        const order = anyOf(
          samples.map((_, i) => `${i}`),
          40,
          seed + 1,
        );
        return order.flatMap((index, i) => [
          ...sample(samples[Number(index)] ?? ["python", "== thrice"]).split("\n"),
          ...strangers.slice(0, 1 + (i % strangers.length)),
        ]);
      });
      const named = Object.fromEntries(
        streams.map((lines, i) => [`stream-${i}`, `${lines.join("\n")}\n`] as const),
      );
      const commands = commandsFor(
        box,
        named,
        (file) => `${anyhow} ${file.replace(/\D/g, "")} ${file}`,
      );
      const run = await runAll(box, commands);
      for (const [name, text] of Object.entries(named)) {
        const messages = messagesOf(run, name);
        expect(`${messages.join("\n")}\n`).toBe(text);
        const joined = messages.filter((message) => message.includes("\n"));
        expect(joined.length).toBeGreaterThan(20);
        const glued = joined.filter((one) =>
          strangers.some((line) => one.split("\n").includes(line)),
        );
        expect(glued).toEqual([]);
      }
    });

    it("makes no entry of its own for the rest of a trace that comes late and is long", async (box) => {
      const [first, rest] = [
        "Error: x\n    at a (b.js:1:1)",
        `    at c (d.js:1:1) ${"\x01".repeat(60_000)}`,
      ];
      box.write("first.txt", `${first}\n`);
      box.write("rest.txt", `${rest}\n`);
      const run = box.procfile([`app: cat first.txt; ${untilGo}; cat rest.txt`], {
        env: { ENTRYPOINT_LOG: "json" },
      });
      await run.line(/at a /); // it is written, and no longer held
      box.write("go", "");
      await run.exit();
      expect(run.stdout.lines.map((line) => JSON.parse(line).message)).toEqual([first, rest]);
    });

    it("looks at a long line for no longer than at its beginning", async (box) => {
      const long = ["z", "(", "a.", ":1", "7", " ", "Error (", "'"].map((part) =>
        part.repeat(60_000 / part.length),
      );
      const heads = [
        "Error: x",
        "Traceback (most recent call last):",
        "panic: x",
        "    at a (b.js:1:1)",
      ];
      const lines = heads.flatMap((head) =>
        long.flatMap((line) => [head, line, `    ${line}`, "end"]),
      );
      const text = `${[...lines, ...lines, ...lines].join("\n")}\n`;
      const run = await runAll(
        box,
        commandsFor(box, { app: text }, (file) => `cat ${file}`),
      );
      expect(`${messagesOf(run, "app").join("\n")}\n`).toBe(text);
    });

    it("makes an entry of each line of what is no trace", async (box) => {
      const text = fs.readFileSync(path.join(folder, "none.txt"), "utf8");
      const file = box.write("none", text);
      const run = await runAll(box, { once: `cat ${file}`, lines: `${byLine} ${file}` });
      const wanted = text.replace(/\n$/, "").split("\n");
      for (const name of ["once", "lines"]) expect(messagesOf(run, name)).toEqual(wanted);
    });

    it("loses nothing of a trace in which the process ends", async (box) => {
      const parts = samples.flatMap((one, i) =>
        [0.1, 0.6].map((part) => {
          const trace = sample(one);
          return [
            `part-${i}-${part * 10}`,
            trace.slice(0, Math.ceil(trace.length * part)),
          ] as const;
        }),
      );
      const named = Object.fromEntries(parts);
      const commands = commandsFor(
        box,
        named,
        (file) =>
          `trap '' TERM; echo up; until [ -e go ]; do sleep 0.2; done; cat ${file}; cat ${file} >&2; exit 0`, // with 3 the others would have half the grace
      );
      const run = startAsJson(box, commands);
      for (const name of Object.keys(named)) await run.line(new RegExp(`"up",.*"${name}"`));
      box.write("go", "");
      expect((await run.exit()).code).toBe(0);
      for (const [name, text] of Object.entries(named)) {
        const [up, ...stdout] = messagesOf(run, name);
        expect(up).toBe("up");
        for (const messages of [stdout, messagesOf(run, name, "stderr")]) {
          expect(messages.join("\n")).toBe(text.replace(/\n$/, ""));
          if (name.endsWith("6")) expect(messages.length).toBeLessThanOrEqual(2);
        }
      }
    });

    it("loses and moves nothing, whatever comes in whatever parts", async (box) => {
      const lines = [
        ...Object.keys(sources).map(textOf),
        fs.readFileSync(`${folder}/none.txt`, "utf8"),
      ]
        .flatMap((text) => text.split("\n"))
        .concat([
          "",
          " ",
          "\r",
          "größe 🚀",
          "\u2028",
          "Traceback (most recent call last):\r",
          "\x1b[0m",
        ])
        .filter((line) => !/^\s*\{/.test(line));
      const seeds = Array.from({ length: 6 }, () => Math.floor(Math.random() * 2 ** 31));
      const named = Object.fromEntries(
        seeds.map((seed) => [`seed-${seed}`, `${anyOf(lines, 400, seed).join("\n")}\n`] as const),
      );
      const commands = commandsFor(
        box,
        named,
        (file) => `${anyhow} ${file.replace(/\D/g, "")} ${file}`,
      );
      const run = await runAll(box, commands);
      for (const [name, text] of Object.entries(named)) {
        expect(`${messagesOf(run, name).join("\n")}\n`).toBe(text);
      }
    });

    it("takes a few entries for 20000 frames", async (box) => {
      const many = (frame: string) => Array.from({ length: 20_000 }, (_, i) => frame + i);
      const python =
        '  File "/srv/app.py", line 3, in deep\n    return deep(n - 1) or "é" + "\\t" * ';
      const traces: Record<string, string[]> = {
        python: ["Traceback (most recent call last):", ...many(python), "RecursionError: too deep"],
        java: [
          "java.lang.StackOverflowError",
          ...many("\tat app.Main.deep(Main.java:").map((f) => `${f})`),
        ],
        node: ["RangeError: too deep", ...many("    at deep (/srv/app.js:3:").map((f) => `${f})`)],
        go: ["goroutine 1 [running]:", ...many("main.deep(0x1)\n\t/srv/main.go:3 +0x")],
      };
      const named = Object.fromEntries(
        Object.entries(traces).map(([name, lines]) => [name, `${lines.join("\n")}\n== after\n`]),
      );
      const run = await runAll(
        box,
        commandsFor(box, named, (file) => `cat ${file}`),
      );
      for (const [name, text] of Object.entries(named)) {
        const messages = messagesOf(run, name);
        expect(`${messages.join("\n")}\n`).toBe(text);
        expect(messages.at(-1)).toBe("== after");
        expect(messages.length).toBeLessThan(50); // 5 MB at most, and pauses of a slow machine
      }
    });

    it("holds nothing back for long, while the process is silent", async (box) => {
      const silent: Record<string, string> = {
        plain: "hello",
        head: "Error: alone",
        traceback: "Traceback (most recent call last):",
        panicking: "panic: at the start",
        blank: "ValueError: with an empty line behind\n",
        ...Object.fromEntries(samples.map((one, i) => [`sample-${i}`, sample(one)] as const)),
      };
      const named = Object.fromEntries(
        Object.entries(silent).map(([name, text]) => [name, `${text}\n`] as const),
      );
      const commands = commandsFor(box, named, (file) => `cat ${file}; ${forever}`);
      const run = startAsJson(box, commands);
      for (const [name, text] of Object.entries(silent)) {
        await entryEnds(run, name, text);
        expect(messagesOf(run, name).join("\n")).toBe(text);
      }
      await run.stop();
    });

    it("leaves a trace as it is in text", async (box) => {
      const trace = samples.map(sample).join("\n");
      const run = await runAll(
        box,
        commandsFor(box, { app: `${trace}\n` }, (file) => `cat ${file}`),
        "text",
      );
      expect(run.stdout.lines).toEqual(trace.split("\n").map((line) => `app | ${line}`));
    });
  },
  engines,
);

/** Some of the lines, now and then several that are next to each other. */
function anyOf(lines: string[], count: number, seed: number): string[] {
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const chosen: string[] = [];
  while (chosen.length < count) {
    const from = random(lines.length);
    chosen.push(...lines.slice(from, from + 1 + random(8)));
  }
  return chosen;
}
