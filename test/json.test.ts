// ENTRYPOINT_LOG=json: what Cloud Logging reads.

import { expect } from "bun:test";
import path from "node:path";
import { type Entry, entriesOf, LABELS, TRACE } from "./entries.ts";
import {
  type Box,
  bun,
  forever,
  type Options,
  onSignal,
  type Run,
  section,
  startApp,
} from "./harness.ts";

const pinoApp = path.join(import.meta.dir, "pino.ts");

/** The same value with its numbers as they were written. */
function exact(text: string): Entry {
  type Reviver = (key: string, value: unknown, context: { source: string }) => unknown;
  const parse = JSON.parse as (text: string, reviver: Reviver) => Entry;
  return parse(text, (_key, value, { source }) =>
    typeof value === "number" ? { number: source } : value,
  );
}

/** What comes out of one process that writes these bytes. */
async function through(box: Box, bytes: string | Uint8Array, options: Options = {}): Promise<Run> {
  box.write("bytes", bytes);
  const run = box.procfile(["app: cat bytes; cat bytes >&2"], {
    env: { ENTRYPOINT_LOG: "json" },
    ...options,
  });
  expect((await run.exit()).code).toBe(0);
  return run;
}

section("json", (it) => {
  it("has nginx's access lines and an app's own entries in one stream", async (box) => {
    const env = { ENTRYPOINT_LOG: "json" };
    const { run, appPort, url } = await startApp(box, [bun, pinoApp], { env });
    for (let i = 0; i < 3; i++)
      expect(await (await fetch(`${url}/page?${i}`)).text()).toBe("hello\n");
    await run.line(/GET \/page\?2 /);
    await run.stopsWell();

    const nginx = entriesOf(run, "nginx");
    expect(nginx.map((entry) => Object.keys(entry))).toEqual(
      Array.from({ length: 3 }, () => ["severity", "message", LABELS]),
    );
    for (const [i, { message }] of nginx.entries())
      expect(message).toMatch(
        new RegExp(
          `^127\\.0\\.0\\.1 - - \\[.*\\] "GET /page\\?${i} HTTP/1\\.1" 200 6 "-" "Bun[^"]*" "-"$`,
        ),
      );

    const app = run.stdout.lines.filter((line) => JSON.parse(line)[LABELS].process === "app");
    expect(app).toHaveLength(1 + 3 * 3);
    const [listening, plain = "", labelled = "", error] = app;
    for (const line of app) {
      const { severity, level, time, pid, hostname, message } = JSON.parse(line);
      expect(severity).toBeString();
      for (const number of [level, time, pid]) expect(number).toBeNumber();
      for (const text of [hostname, message]) expect(text).toBeString();
    }
    expect(JSON.parse(listening ?? "").message).toBe(`listening on ${appPort}`);
    const wanted = {
      httpRequest: {
        requestMethod: "GET",
        requestUrl: "/page",
        status: { number: "200" },
        latency: "0.012s",
      },
      [TRACE]: "projects/p/traces/06796866738c859f2f19b7cfb3214824",
      numbers: ["0", "-0.5", "1e+21", "1.5e-9", "9007199254740993"].map((number) => ({ number })),
      nothing: null,
      yes: true,
      text: 'größe "quoted" \\ \u2028 \x1b[31m\n\0 🚀',
      deep: { er: [{}, [], ""] },
    };
    expect(exact(plain)).toMatchObject({ ...wanted, severity: "INFO", message: "no label yet" });
    expect(exact(plain)[LABELS]).toEqual({ process: "app" });
    expect(exact(labelled)).toMatchObject({ ...wanted, severity: "WARNING" });
    expect(exact(labelled)[LABELS]).toEqual({ team: "a", process: "app" });
    expect(JSON.parse(error ?? "")).toMatchObject({
      severity: "ERROR",
      message: "broken",
      err: { type: "Error", stack: expect.stringContaining("pino.ts:") },
    });

    const own = entriesOf(run, "entrypoint", "stderr");
    expect(own.map(({ severity }) => severity)).toEqual(["INFO", "INFO", "INFO"]);
    expect(own[0]?.message).toMatch(/^ready in /);
    expect(run.stderr.lines).toHaveLength(3);
  });

  it("is the default on Cloud Run, and only there", async (box) => {
    const cases: [Record<string, string>, boolean][] = [
      [{ K_SERVICE: "hello" }, true],
      [{ CLOUD_RUN_JOB: "hello" }, true],
      [{ K_SERVICE: "hello", KUBERNETES_SERVICE_HOST: "10.0.0.1" }, false], // Knative
      [{ CLOUD_RUN_JOB: "hello", KUBERNETES_SERVICE_HOST: "10.0.0.1" }, false],
      [{ KUBERNETES_SERVICE_HOST: "10.0.0.1" }, false],
      [{ K_SERVICE: "hello", KUBERNETES_SERVICE_HOST: "" }, true],
      [{ ENTRYPOINT_LOG: "json", KUBERNETES_SERVICE_HOST: "10.0.0.1" }, true],
      [{ K_SERVICE: "hello", ENTRYPOINT_LOG: "text" }, false],
      [{ K_SERVICE: "", CLOUD_RUN_JOB: "" }, false],
      [{ K_SERVICE: "hello", ENTRYPOINT_LOG: "" }, true],
      [{}, false],
    ];
    for (const [env, json] of cases) {
      const run = await through(box, "hello\n", { env });
      const entry = JSON.stringify({ message: "hello", [LABELS]: { process: "app" } });
      expect([env, run.stdout.text]).toEqual([env, `${json ? entry : "app | hello"}\n`]);
    }
  });

  it("keeps an object as it is, and adds the label", async (box) => {
    const objects = [
      "{}",
      " { } ",
      '{"message":"m","severity":"NOTICE"}',
      '\t{ "a" : 1 , "b" : [ ] }\t',
      '{"n":[12345678901234567890,0.1000,1E5,-0,1.0,1e400,0.30000000000000000001]}',
      `{"n":12345678901234567890.10,"${LABELS}":{"n":"1"}}`,
      `{"${LABELS}":{"process":"other","a":"b"},"z":"after"}`,
      `{"logging.googleapis.com\\/labels":{"a":"b"},"é\\u00e9":"\\ud83d\\ude80\\u0000\\/"}`,
      `{"nested":{"${LABELS}":{"not":"mine"}}}`,
      '{"__proto__":{"a":1},"constructor":2,"toString":"3"}',
      `{"__proto__":{"a":1},"constructor":2,"${LABELS}":{"__proto__":"x"}}`,
      `{"text":"}{\\"}","${LABELS}":{}}`,
      `{"${LABELS}":{"constructor":"c","toString":"t"}}`,
      '{"brace":"}"}\r',
      `{"big":"${"é".repeat(20_000)}","end":true}`,
    ];
    const run = await through(box, objects.map((line) => `${line}\n`).join(""));
    for (const stream of ["stdout", "stderr"] as const) {
      const lines = run[stream].lines.filter((line) => !line.includes("exit code"));
      expect(lines).toHaveLength(objects.length);
      for (const [i, line] of lines.entries()) {
        const { [LABELS]: labels, ...fields } = exact(line);
        const { [LABELS]: before = {}, ...fieldsBefore } = exact(objects[i] ?? "");
        expect(fields).toEqual(fieldsBefore);
        expect(labels).toEqual({ ...before, process: "app" });
      }
    }
  });

  it("has its label among those of the object, and not among nested ones", async (box) => {
    const nested = `"a":{"${LABELS}":{"b":"c"},"d":1.50}`;
    for (const line of [
      `{${nested},"${LABELS}":{"x":"y"}}`,
      `{"${LABELS}":{"x":"y"},${nested}}`,
      `{"text":"\\"${LABELS}\\":{}",${nested},"${LABELS}":{"x":"y"}}`,
    ]) {
      const wanted = line.replace('{"x":"y"}', '{"x":"y","process":"app"}');
      expect((await through(box, `${line}\n`)).stdout.text).toBe(`${wanted}\n`);
    }
  });

  it("leaves an object as it is whose labels are none", async (box) => {
    for (const labels of ['"text"', "null", "7", "[1,2]", "true"]) {
      const line = `{"a":1,"${LABELS}":${labels},"b":2}`;
      expect((await through(box, `${line}\n`)).stdout.lines).toEqual([line]);
    }
  });

  it("makes a message of every other line", async (box) => {
    const lines = [
      "plain text",
      "",
      "   leading and trailing blanks   ",
      "\ttab",
      "{",
      "}",
      "{}}",
      "{not json}",
      '{"a":1} and more',
      '{"a":1}{"b":2}',
      "{'a':1}",
      '{"a":1,}',
      '{"a":NaN}',
      '{"a":"tab\tin a string"}',
      '{"unfinished":"',
      "[1,2,3]",
      '[{"a":1}]',
      '"a string"',
      "42",
      "null",
      "true",
      "carriage\rreturn\r",
      "\x1b[31mred\x1b[0m",
      Array.from({ length: 32 }, (_, i) => (i === 10 ? "" : String.fromCharCode(i))).join(""),
      "\x7f\u0080\u009f\u2028\u2029\ufeff\ufffd\uffff",
      'quote " backslash \\ slash /',
      "größe 日本語 🚀 👩‍👩‍👧",
      "\u00a0{}",
      "__proto__",
    ];
    // Where all that comes at once is only text, it is made into entries at once.
    const text = lines.filter((line) => !/[{\\]/.test(line));
    const bare = text.filter((line) => !/["\p{Cc}]/u.test(line));
    for (const some of [lines, text, bare]) {
      const run = await through(box, some.map((line) => `${line}\n`).join(""));
      for (const stream of ["stdout", "stderr"] as const) {
        const app = entriesOf(run, "app", stream);
        expect(app).toEqual(some.map((message) => ({ message, [LABELS]: { process: "app" } })));
      }
    }
  });

  it("looks at each of many empty lines once", async (box) => {
    const run = await through(box, "\n".repeat(300_000));
    expect(entriesOf(run, "app").length).toBe(300_000);
  });

  it("shows what is no UTF-8, and keeps what is around it", async (box) => {
    const bytes = Buffer.from(
      "before \xff\xfe \xc3( \xe2\x82 \xf0\x9f\x9a \xed\xa0\x80 after\n",
      "latin1",
    );
    const run = await through(box, Buffer.concat([bytes, Buffer.from('{"a":"\xe4"}\n', "latin1")]));
    const [text, object] = entriesOf(run, "app");
    expect(text?.message).toMatch(/^before \ufffd+ \ufffd\( \ufffd+ \ufffd+ \ufffd+ after$/);
    expect(object).toEqual({ a: "\ufffd", [LABELS]: { process: "app" } });
  });

  it("ends each entry with a newline, and joins a character that comes in parts", async (box) => {
    const run = box.procfile(
      ["a: printf '\\303'; sleep 0.05; printf '\\244\\n{\"a\"'; sleep 0.05; printf ':1}'; exit 3"],
      { env: { ENTRYPOINT_LOG: "json" } },
    );
    expect((await run.exit()).code).toBe(3);
    const labels = `"${LABELS}":{"process":"a"}`;
    expect(run.stdout.text).toBe(`{"message":"ä",${labels}}\n{"a":1,${labels}}\n`);
  });

  it("makes pieces of a line of 1 MB, and loses nothing of it", async (box) => {
    // Characters of 1 to 4 bytes, so that every cut would fall into one sooner or later.
    const text = "aé日🚀".repeat(100_000);
    for (const line of [JSON.stringify({ text }), text, `x${text}`, `xy${text}`]) {
      const run = await through(box, `${line}\nnext\n`);
      const pieces = entriesOf(run, "app").map((entry) => entry.message ?? JSON.stringify(entry));
      expect(pieces.pop()).toBe("next");
      expect(pieces.length).toBeGreaterThan(1);
      expect(pieces.join("") === line).toBe(true);
    }
  });

  it("survives an object as deep as a line can hold", async (box) => {
    for (const depth of [100, 5000, 9000]) {
      const deep = `${'{"a":'.repeat(depth)}{"${LABELS}":{}}${"}".repeat(depth)}`;
      const top = `{"${LABELS}":{"x":"y"},"deep":${deep}}`;
      const run = await through(box, `${deep}\n${top}\nnext\n`);
      expect(run.stdout.lines).toHaveLength(3);
      for (const line of run.stdout.lines) expect(line).toContain('"process":"app"');
      expect(run.stdout.lines.at(-1)).toContain('"next"');
    }
  });

  it("gives entrypoint's own lines their severity", async (box) => {
    const env = { ENTRYPOINT_LOG: "json" };
    const severities = (run: Run) =>
      entriesOf(run, "entrypoint", "stderr").map(({ severity, message }) => [severity, message]);

    const broken = box.procfile(["a: exit 3", `b: ${forever}`], { env });
    await broken.exit();
    expect(severities(broken)[0]).toEqual([
      "ERROR",
      expect.stringMatching(/^a: exit code 3 after/),
    ]);

    const ended = box.procfile(["a: exit 0"], { env });
    await ended.exit();
    expect(severities(ended)).toEqual([["WARNING", expect.stringContaining("exit code 0")]]);

    const stopped = box.procfile([`a: ${onSignal("TERM", "a")}; ${forever}`], { env });
    await stopped.line(/up/);
    await stopped.stop();
    expect(severities(stopped).slice(-2)).toEqual([
      ["INFO", "SIGTERM: stopping a"],
      ["INFO", expect.stringMatching(/^stopped in .*exit code 0/)],
    ]);

    const wrong = box.procfile(["a: true"], { env: { ...env, PORT: "http" } });
    expect((await wrong.exit()).code).toBe(2);
    expect(severities(wrong)).toEqual([["ERROR", expect.stringContaining("PORT=http")]]);
  });
});
