// What the logs guarantee, under load. logs.test.ts has the rest.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import {
  type Box,
  bun,
  compiled,
  eventually,
  inShell,
  type Options,
  onSignal,
  type Run,
  residentKilobytes,
  runtimes,
  section,
  unlessGone,
  untilGo,
  withoutDeno,
} from "./harness.ts";
import { lines, noise } from "./writer.ts";

/** ENTRYPOINT_TEST_SEED repeats a run, ENTRYPOINT_TEST_MB is the volume of the longest one. */
const seed = Number(process.env.ENTRYPOINT_TEST_SEED ?? Math.floor(Math.random() * 1e6));
const volume = Number(process.env.ENTRYPOINT_TEST_MB ?? 200) * 1e6;
console.log(`ENTRYPOINT_TEST_SEED=${seed}`);

const heavy = runtimes.filter((runtime) => runtime === compiled);
const writer = path.join(import.meta.dir, "writer.ts");

type Take = (chunk: Uint8Array) => void | Promise<void>;
const streams = ["stdout", "stderr"] as const;

/** Its two streams go into two FIFOs, from which the test takes at its own pace and keeps nothing. */
function startInto(box: Box, procfile: string[], take: [Take, Take], options: Options = {}) {
  const ends = streams.map((stream) => {
    const file = path.join(box.dir, stream);
    if (Bun.spawnSync(["mkfifo", file]).exitCode !== 0) throw new Error("mkfifo failed");
    const { O_RDONLY, O_WRONLY, O_NONBLOCK } = fs.constants;
    const read = fs.openSync(file, O_RDONLY | O_NONBLOCK);
    return { read, write: fs.openSync(file, O_WRONLY) }; // which keeps it from ending too early
  });
  const run = box.procfile(procfile, { wrap: inShell("exec >stdout 2>stderr"), ...options });
  const pumps = ends.map(async ({ read }, i) => {
    for await (const chunk of Bun.file(read).stream()) await take[i]?.(chunk);
    fs.closeSync(read);
  });
  const end = async (ms?: number) => {
    const end = await run.exit(ms);
    for (const { write } of ends) fs.closeSync(write);
    await Promise.all(pumps);
    return end;
  };
  return { run, end };
}

/** Sees each line as it comes: that it is the next one of its process, whole and unchanged. */
class Checker {
  private rest = "";
  readonly wrong: string[] = [];
  readonly own: string[] = [];
  private readonly expected: Map<string, Iterator<string, undefined>>;

  constructor(expected: [string, Iterator<string, undefined>][]) {
    this.expected = new Map(expected);
  }

  readonly take = (chunk: Uint8Array) => {
    const found = (this.rest + Buffer.from(chunk).toString("latin1")).split("\n");
    this.rest = found.pop() ?? "";
    for (const line of found) {
      const name = line.slice(0, line.indexOf(" "));
      const next = this.expected.get(name)?.next().value;
      if (name === "entrypoint") this.own.push(line);
      else if (line.replace(/^\S+ *\| /, "") !== next) this.complain(line, next);
    }
  };

  private complain(line: string, instead: string | undefined): void {
    if (this.wrong.length < 5) this.wrong.push(`${line.slice(0, 60)} for ${instead?.slice(0, 60)}`);
  }

  /** What is wrong, once all has been read. */
  end(): string[] {
    if (this.rest) this.complain(this.rest, "a newline");
    for (const [name, rest] of this.expected) {
      const next = rest.next().value;
      if (next !== undefined) this.complain(`${name} ends`, next);
    }
    return this.wrong;
  }
}

/** A reader that takes as many bytes a second. */
function atMost(rate: number, take: Take): Take {
  const since = performance.now();
  let taken = 0;
  return async (chunk) => {
    await take(chunk);
    taken += chunk.length;
    await Bun.sleep(Math.max(0, (taken / rate) * 1000 - (performance.now() - since)));
  };
}

section(
  "ten writers that end at once",
  (it) => {
    const names = Array.from({ length: 10 }, (_, i) => `${"w".repeat((i % 4) + 1)}${i}`);

    async function check(box: Box, count: number, last: string, rate: number): Promise<void> {
      const of = (stream: number) =>
        new Checker(names.map((name, i) => [name, lines(seed + 2 * i + stream, count)]));
      const [out, err] = [of(0), of(1)];
      const { end } = startInto(
        box,
        names.map((name, i) => {
          const options = `${seed + 2 * i} ${count} ${name} ${names.length} ${last}`;
          return `${name}: ${bun} ${writer} lines ${options}`;
        }),
        [atMost(rate, out.take), atMost(rate, err.take)],
      );
      const { code } = await end(150_000);
      expect(code).toBe(last === "kill" ? 137 : 0);
      expect([...out.end(), ...err.end()]).toEqual([]);
      expect(out.own).toEqual([]);
      expect(err.own.filter((line) => /exit code|killed by/.test(line))).toHaveLength(1);
    }

    it("lose nothing: 5,000 lines each on both streams", async (box) => {
      await check(box, 5000, "", Number.POSITIVE_INFINITY);
    }, 180_000);

    it("lose nothing with a reader that takes 10 MB/s", async (box) => {
      await check(box, 2000, "", 10e6);
    }, 180_000);

    it("lose nothing when they are killed right after their last write", async (box) => {
      await check(box, 2000, "kill", Number.POSITIVE_INFINITY);
    }, 180_000);

    it("lose nothing when they are killed and the reader takes 10 MB/s", async (box) => {
      await check(box, 2000, "kill", 10e6);
    }, 180_000);
  },
  heavy,
);

/** What one process wrote: its lines without their prefix. */
function withoutPrefix(bytes: Buffer, prefix: string): string {
  const all = bytes.toString("latin1").split(/(?<=\n)/);
  const own = all.filter((line) => line.startsWith(prefix));
  return own.map((line) => line.slice(prefix.length)).join("");
}

/** The newlines that there should be more than were written: where a line was too long. */
function cut(bytes: Buffer): string {
  const pieces = (line: string) => line.match(/.{1,65536}/gs)?.join("\n") ?? "";
  return bytes.toString("latin1").split("\n").map(pieces).join("\n");
}

section(
  "random bytes",
  (it) => {
    const rounds = 6;
    it(`of two processes at once pass unchanged, ${rounds} times`, async (box) => {
      for (let round = 0; round < rounds; round++) {
        const seeds = { a: seed + 100 * round, bc: seed + 100 * round + 10 };
        const writers = Object.entries(seeds).map(
          ([name, seed]) =>
            `${name}: ${bun} ${writer} noise ${seed}; touch ${name}; exec sleep 1000 >&- 2>&-`,
        );
        const end = "x: while ! [ -e a -a -e bc ]; do sleep 0.01; done; exit 7";
        const run = box.procfile([...writers, end]);
        expect((await run.exit()).code).toBe(7);
        for (const [name, first] of Object.entries(seeds)) {
          for (const [i, stream] of streams.entries()) {
            const wanted = cut(noise(first + i));
            const bytes = run[stream].bytes;
            const got = withoutPrefix(bytes, `${name.padEnd(2)} | `);
            // One that ends without a newline gets one as soon as something follows.
            const same = got === wanted || (!wanted.endsWith("\n") && got === `${wanted}\n`);
            expect([round, name, stream, same]).toEqual([round, name, stream, true]);
          }
        }
        box.remove(...Object.keys(seeds));
      }
    });
  },
  withoutDeno,
);

/** The resident memory of a run in MB, and the most that it was in a time. */
const megabytes = (run: Run) => residentKilobytes(run.pid) / 1024;

/** What a runtime took for its start has been given back, or is kept: two readings agree. */
async function settledMegabytes(run: Run): Promise<number> {
  let last = Number.NaN;
  return await eventually("a heap at rest", async () => {
    const before = last;
    await Bun.sleep(200);
    last = megabytes(run);
    return Math.abs(last - before) < 0.5 && last;
  });
}

async function peak(run: Run, until: () => boolean): Promise<number> {
  let most = 0;
  await eventually(
    "the end of a load",
    () => {
      most = Math.max(most, megabytes(run));
      return until();
    },
    300_000,
  );
  return most;
}

section(
  "memory",
  (it) => {
    for (const format of ["text", "json"]) {
      const options = { env: { ENTRYPOINT_LOG: format } };

      it(`stays flat in a line of 40 MB (${format})`, async (box) => {
        let taken = 0;
        let pieces = 0;
        const take: Take = (chunk) => {
          taken += chunk.length;
          for (const byte of chunk) if (byte === 10) pieces++;
        };
        const size = 40e6;
        const line = `head -c ${size} /dev/zero | tr '\\0' x`;
        const { run, end } = startInto(
          box,
          [`a: echo up; ${untilGo}; ${line}; touch all; sleep 1000`],
          [take, () => {}],
          options,
        );
        await eventually("the start", () => taken > 0);
        const before = megabytes(run);
        box.write("go", "");
        const most = await peak(run, () => box.has("all"));
        run.signal("SIGTERM");
        expect((await end()).code).toBe(0);
        expect(pieces).toBeGreaterThan(size / 65536);
        expect(taken).toBeGreaterThan(size);
        expect(most - before).toBeLessThan(60);
      }, 120_000);

      it(`ends where it was after 10 MB: ${volume / 1e6} MB of lines (${format})`, async (box) => {
        let taken = 0;
        let early = 0;
        const line = "0123456789".repeat(10).slice(1);
        const { run, end } = startInto(
          box,
          [`a: yes ${line} | head -c ${volume}; touch all; sleep 1000`],
          [
            (chunk) => {
              taken += chunk.length;
              if (taken > 10e6) early ||= megabytes(run);
            },
            () => {},
          ],
          options,
        );
        const most = await peak(run, () => box.has("all") && taken > volume);
        // What the flood left to collect goes within a second or two; what is kept stays.
        const late = await eventually(
          "less memory",
          () => megabytes(run) < early + 20 && megabytes(run),
          5000,
        );
        run.signal("SIGTERM");
        expect((await end()).code).toBe(0);
        expect([most < early + 60, late < early + 20]).toEqual([true, true]);
      }, 400_000);
    }
  },
  heavy,
);

section(
  "a reader",
  (it) => {
    const flood = (name: string) => `${name}: yes ${name} & yes ${name} >&2 & touch ${name}; wait`;

    it("of both streams that stalls for good: a stop in time, 137 if it had to kill", async (box) => {
      for (const [polite, code] of [
        [true, 0],
        [false, 137],
      ] as const) {
        const last = polite ? "exit 0" : "echo last words, which nobody takes; exit 0";
        // It notices the signal, and then waits for a reader that does not come.
        const wordy = `wordy: ${onSignal("TERM", "wordy", last)}; yes & while :; do sleep 0.02; done`;
        const stall = () => new Promise<void>(() => {});
        const { run } = startInto(box, [wordy, flood("a"), flood("b")], [stall, stall], {
          env: { ENTRYPOINT_GRACE: "1.5" },
        });
        await eventually("the floods", () => box.has("b"));
        const before = await settledMegabytes(run);
        await Bun.sleep(500);
        expect(megabytes(run) - before).toBeLessThan(5); // what is kept would be hundreds
        run.signal("SIGTERM");
        const end = await run.exit();
        expect([polite, end.code]).toEqual([polite, code]);
        expect(end.stopMs).toBeLessThan(6000); // who asked kills it soon after
        expect(box.read("log")).toBe("wordy TERM\n");
        box.remove("log", "a", "b", "stdout", "stderr");
      }
    });

    it("that goes away in the middle of a flood: a clean stop", async (box) => {
      for (const format of ["text", "json"]) {
        const run = box.procfile(
          [`web: ${onSignal("TERM", "web")}; yes & wait`, "b: yes; exit 9"],
          {
            env: { ENTRYPOINT_LOG: format },
            wrap: inShell("exec > >(head -c 10000000)", "bash"),
          },
        );
        const { code, ms } = await run.exit();
        expect([format, code]).toEqual([format, 0]);
        expect(ms).toBeLessThan(8000); // from the start; the grace is 9 s
        expect(run.stdout.bytes).toHaveLength(10e6);
        expect(run.stderr.text).toContain("stdout has lost its reader: stopping b, web");
        expect(box.read("log")).toBe("web TERM\n");
        box.remove("log");
      }
    });
  },
  withoutDeno,
);

section(
  "a flood",
  (it) => {
    const flood = "yes o & yes o >&2 & exec yes";
    const start = (box: Box, procfile: string[], format: string) => {
      box.mayEscape = /^(bash|head|cat|grep) /; // they read to the end, and end then
      // Each reader is faster than the copying, so there is always more to read and room to write.
      const out = "head -c 20M >/dev/null; touch flooded; exec cat - >/dev/null";
      const err = "exec grep --line-buffered -E 'entrypoint|number'";
      return box.procfile(procfile, {
        env: { ENTRYPOINT_LOG: format },
        wrap: inShell(`exec > >(${out}) 2> >(${err} >&2)`, "bash"),
      });
    };
    for (const format of ["text", "json"]) {
      it(`of short lines that is read at once keeps no signal waiting (${format})`, async (box) => {
        const run = start(box, [`a: ${flood}`, "b: exec yes"], format);
        await eventually("the flood", () => box.has("flooded"));
        run.signal("SIGTERM");
        const { code, stopMs } = await run.exit();
        expect(code).toBe(0);
        expect(stopMs).toBeLessThan(2500); // the grace is 9 s
      });

      it(`of short lines hides no death, and no other's lines (${format})`, async (box) => {
        const others = "for i in 1 2 3; do echo number $i >&2; sleep 0.3; done; exit 42";
        const run = start(box, [`a: ${flood}`, `b: ${others}`], format);
        const { code, ms } = await run.exit();
        expect([code, run.stderr.text.match(/number \d/g)]).toEqual([
          42,
          ["number 1", "number 2", "number 3"],
        ]);
        expect(ms).toBeLessThan(8000); // b takes one second
      });
    }
  },
  withoutDeno,
);

section(
  "a pipe",
  (it) => {
    it("that a grandchild holds, silent or not, is read up to the exit", async (box) => {
      box.mayEscape = /./; // all of it is killed below
      for (const heir of [
        "exec sleep 1006",
        "while sleep 0.01; do echo x; done",
        "exec yes it has much to say",
      ]) {
        const lastWords = "seq 20000; date +%s%N >end; exit 3";
        const run = box.procfile([
          `a: setsid sh -c 'echo heir; echo $$ >pid; ${heir}' >&2 & while ! [ -s pid ]; do sleep 0.01; done; sleep 0.1; ${lastWords}`,
        ]);
        const { code } = await run.exit(10_000).finally(() => {
          unlessGone(() => process.kill(-Number(box.read("pid")), "SIGKILL"), true);
        });
        const late = Date.now() - Number(box.read("end")) / 1e6;
        expect([heir, code]).toEqual([heir, 3]);
        expect(late).toBeLessThan(9000);
        expect(run.stdout.lines).toEqual(Array.from({ length: 20_000 }, (_, i) => `a | ${i + 1}`));
        expect(run.stderr.lines).toContain("a | heir");
        box.remove("pid", "end");
      }
    });

    it("that a child closes ends nothing: it lives on, and is waited for", async (box) => {
      const run = box.procfile([
        `one: echo last; exec >&-; echo still here >&2; ${untilGo}; exit 4`,
        "both: echo last; exec >&- 2>&-; while :; do sleep 0.02; done",
        "other: while :; do echo tick; sleep 0.02; done",
      ]);
      await run.line(/still here/);
      const ticks = () => run.stdout.lines.filter((line) => line === "other | tick").length;
      const before = ticks();
      await eventually("other lines", () => ticks() > before + 10);
      expect(run.isAlive).toBe(true);
      box.write("go", "");
      expect((await run.exit()).code).toBe(4);
      const others = run.stdout.lines.filter((line) => !line.startsWith("other"));
      expect(others.sort()).toEqual(["both  | last", "one   | last"]);
      expect(run.stderr.text).toContain("entrypoint | one: exit code 4");
    });

    it("can be opened again by name, as nginx does, and keeps the order", async (box) => {
      const run = box.procfile([
        "a: i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; echo $i.again >/dev/stdout; echo $i.fd >>/proc/self/fd/1; echo $i >/dev/stderr; done; exec >&-; echo end >/dev/stderr",
      ]);
      expect((await run.exit()).code).toBe(0);
      const numbers = Array.from({ length: 300 }, (_, i) => i + 1);
      const expected = numbers.flatMap((i) => [`a | ${i}`, `a | ${i}.again`, `a | ${i}.fd`]);
      expect(run.stdout.lines).toEqual(expected);
      const errors = [...numbers.map((i) => `a | ${i}`), "a | end"];
      expect(run.stderr.lines.filter((line) => line.startsWith("a"))).toEqual(errors);
    });
  },
  withoutDeno,
);
