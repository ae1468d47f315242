// ENTRYPOINT_LOG=json: nginx's lines as Cloud Logging takes them, big objects; and ENTRYPOINT_LOG=raw.
// Names and values: https://cloud.google.com/logging/docs/structured-logging and
// https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity

import { expect } from "bun:test";
import fs from "node:fs";
import { type Entry, entriesOf, LABELS, TRACE } from "./entries.ts";
import {
  eventually,
  forever,
  freePort,
  onSignal,
  Raw,
  section,
  serve,
  startDemo,
} from "./harness.ts";

/** Sends a request as it is, and waits for the end of the answer. */
async function ask(port: number, lines: string[]): Promise<void> {
  const request = `${[...lines, "Connection: close"].join("\r\n")}\r\n\r\n`;
  await new Raw(port).send(request).everything();
}

/** Whether somebody has a connection to this port: its socket names the address of the other end. */
function isConnectedTo(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const ESTABLISHED = "01";
  return new RegExp(`^ *\\d+: \\S+ 0100007F:${hex} ${ESTABLISHED} `, "m").test(
    fs.readFileSync("/proc/net/tcp", "latin1"),
  );
}

section("nginx's access lines", (it) => {
  it("have a severity by status, and the request's trace", async (box) => {
    const env = { ENTRYPOINT_LOG: "json", GOOGLE_CLOUD_PROJECT: "my-project" };
    const { run, port } = await startDemo(box, { env });
    const [id, other] = ["06796866738c859f2f19b7cfb3214824", "105445aa7843bc8bf206b12000100000"];
    const parent = `00-${id}-00f067aa0ba902b7-01`;
    const context = `${other}/1;o=1`;
    const cases: [string, string[], string, string?][] = [
      ["/", [], "INFO"],
      ["/?1", [`traceparent: ${parent}`], "INFO", id],
      ["/?2", [`X-Cloud-Trace-Context: ${context}`], "INFO", other],
      ["/?3", [`X-Cloud-Trace-Context: ${context}`, `traceparent: ${parent}`], "INFO", id],
      ["/?4", [`X-Cloud-Trace-Context: ${other}`], "INFO", other],
      ["/none", [`traceparent: ${parent}`], "WARNING", id],
      ["/ws", [], "WARNING"],
      ["/?5", ["traceparent: 00-xyz-1-01"], "INFO"],
      ["/?6", [`traceparent: ${parent}", "severity":"ALERT`], "INFO", id],
      ["/?8", [`traceparent: 00-${"0".repeat(32)}-00f067aa0ba902b7-01`], "INFO"],
      ["/?7", [`traceparent: x${parent}`, "X-Cloud-Trace-Context: ../../x"], "INFO"],
      ["/exit?code=0", [`traceparent: ${parent}`], "ERROR", id],
    ];
    for (const [target, headers] of cases)
      await ask(port, [`GET ${target} HTTP/1.1`, "Host: x", ...headers]);
    await run.exit();
    const found = entriesOf(run, "nginx").map(
      ({ message = "", severity, [TRACE]: trace, ...rest }) => {
        expect(message).toMatch(
          /^127\.0\.0\.1 - - \[.*\] "GET \S+ HTTP\/1\.1" \d{3} \d+ "-" "-" "-"$/,
        );
        expect(rest).toEqual({ [LABELS]: { process: "nginx" } });
        return [/GET (\S+)/.exec(message)?.[1], severity, trace];
      },
    );
    expect(found).toEqual(
      cases.map(([target, , severity, id]) => [
        target,
        severity,
        id && `projects/my-project/traces/${id}`,
      ]),
    );
  });

  it("are one entry each, whatever a client sends", async (box) => {
    const env = { ENTRYPOINT_LOG: "json", GOOGLE_CLOUD_PROJECT: "p" };
    const { run, port } = await startDemo(box, { env });
    const hostile = [
      '", "severity": "EMERGENCY", "x": "',
      '\\", \\"severity\\": \\"ALERT',
      "\\u0022,\\u0022a\\u0022:1",
      "\t00-06796866738c859f2f19b7cfb3214824-1-1\t\x01\x1f\x7f",
      "\xff\xfe\xc3( \xe2\x82 \xed\xa0\x80",
      '" 500 1 "-" "-" "-',
      '{"severity":"ALERT","message":"mine"}',
      "Error: x",
      "Traceback (most recent call last):",
      "x".repeat(5_000),
    ];
    for (const text of hostile) {
      const path = encodeURIComponent(text.slice(0, 100));
      const names = [
        "User-Agent",
        "Referer",
        "X-Forwarded-For",
        "traceparent",
        "X-Cloud-Trace-Context",
      ];
      const headers = names.map((name) => `${name}: ${text}`);
      const user = `Authorization: Basic ${Buffer.from(`${text}:x`, "latin1").toString("base64")}`;
      await ask(port, [`GET /${path} HTTP/1.1`, "Host: x", user, ...headers]);
      await ask(port, [`GET /${text.replace(/[\s\x7f]/g, "")} HTTP/1.1`, "Host: x"]);
    }
    await run.stopsWell();
    const entries = entriesOf(run, "nginx");
    expect(entries).toHaveLength(2 * hostile.length);
    for (const { message, severity, ...rest } of entries) {
      expect(message).toStartWith("127.0.0.1 - ");
      expect(["INFO", "WARNING"]).toContain(`${severity}`); // 200, 400 and 404
      expect(rest).toEqual({ [LABELS]: { process: "nginx" } });
    }
  });

  it("are nginx's own: an app's lines stay as they are", async (box) => {
    const line =
      '1.2.3.4 - - [25/Nov/2026:00:00:00 +0000] "GET /x HTTP/1.1" 500 3 "-" "-" "-"\ta\tb';
    box.write("lines", `${line}\n`);
    const run = box.procfile(["app: cat lines"], { env: { ENTRYPOINT_LOG: "json" } });
    await run.exit();
    expect(entriesOf(run, "app")).toEqual([{ message: line, [LABELS]: { process: "app" } }]);
  });

  it("have no trace without GOOGLE_CLOUD_PROJECT: what looks like one stays text", async (box) => {
    const id = "0af7651916cd43dd8448eb211c80319c";
    const line = `1.2.3.4 - - [25/Nov/2026:00:00:00 +0000] "GET /x HTTP/1.1" 500 3 "-" "-" "-"\t00-${id}-b7ad6b7169203331-01\t-`;
    box.write("lines", `${line}\n`);
    const run = box.procfile(["web: : $NGINX_CONF; cat lines"], {
      env: { ENTRYPOINT_LOG: "json" },
    });
    await run.exit();
    expect(entriesOf(run, "web")).toEqual([
      { severity: "ERROR", message: line, [LABELS]: { process: "web" } },
    ]);
  });

  it("end with X-Forwarded-For as text, and with nothing new", async (box) => {
    const { run, port } = await startDemo(box, { env: { GOOGLE_CLOUD_PROJECT: "p" } });
    const trace = "traceparent: 00-06796866738c859f2f19b7cfb3214824-00f067aa0ba902b7-01";
    await ask(port, [
      "GET /x HTTP/1.1",
      "Host: x",
      trace,
      "X-Forwarded-For: 203.0.113.9, 10.0.0.1",
    ]);
    await run.stopsWell();
    expect(run.stdout.text).toMatch(
      /^nginx \| 127\.0\.0\.1 - - \[.*\] "GET \/x HTTP\/1\.1" 404 \d+ "-" "-" "203\.0\.113\.9, 10\.0\.0\.1"$/m,
    );
  });
});

section("nginx's error lines", (it) => {
  it("have their level as severity", async (box) => {
    const all = {
      ...{ emerg: "EMERGENCY", alert: "ALERT", crit: "CRITICAL", error: "ERROR" },
      ...{ warn: "WARNING", notice: "NOTICE", info: "INFO", debug: "DEBUG" },
    };
    const lines = Object.keys(all).map((level) => `2026/11/25 10:00:00 [${level}] 1#1: *1 x "y"`);
    box.write("lines", `${lines.join("\n")}\nnginx: [emerg] x\n2026/11/25 10:00:00 [x y] z\n`);
    const run = box.procfile(["app: cat lines"], { env: { ENTRYPOINT_LOG: "json" } });
    await run.exit();
    const severities = entriesOf(run, "app").map(({ severity }) => severity);
    expect(severities).toEqual([...Object.values(all), "EMERGENCY", undefined]);
  });

  it("have it from a real nginx", async (box) => {
    const { run, port, appPort } = await startDemo(box, { env: { ENTRYPOINT_LOG: "json" } });
    const app = await run.descendant(/test\/app\.ts$/);
    process.kill(app, "SIGSTOP");
    const answer = fetch(`http://127.0.0.1:${port}/slow`).catch(() => undefined);
    await eventually("a request in nginx", () => isConnectedTo(appPort));
    process.kill(app, "SIGKILL");
    await answer;
    await run.exit();
    const [error] = entriesOf(run, "nginx", "stderr");
    expect(error).toMatchObject({
      severity: "ERROR",
      message: expect.stringMatching(/^\d{4}\/.* \[error\] .* upstream/),
    });
  });
});

section("big objects", (it) => {
  it("stay whole up to 256 KiB, and are valid pieces beyond", async (box) => {
    const object = (bytes: number) => {
      const empty = JSON.stringify({ severity: "ERROR", message: "" }).length;
      return JSON.stringify({
        severity: "ERROR",
        message: "é".repeat(10).padEnd(bytes - empty - 10, "x"),
      });
    };
    const most = 256 * 1024;
    const whole = [70_000, 100_000, most - 1, most].map(object);
    const text = [object(most + 1), object(1_000_000), `{${"x".repeat(150_000)}`];
    const all = [...whole, ...text];
    expect(all.slice(0, 4).map((line) => Buffer.byteLength(line))).toEqual([
      70_000,
      100_000,
      most - 1,
      most,
    ]);
    for (const command of ["cat all", "dd if=all bs=1000 status=none"]) {
      box.write("all", all.map((line) => `${line}\nbetween\n`).join(""));
      const run = box.procfile([`app: ${command}`], { env: { ENTRYPOINT_LOG: "json" } });
      expect((await run.exit()).code).toBe(0);
      const parts: Entry[][] = [[]];
      for (const entry of entriesOf(run, "app"))
        if (entry.message === "between") parts.push([]);
        else parts.at(-1)?.push(entry);
      for (const [i, line] of whole.entries())
        expect(parts[i]).toEqual([{ ...JSON.parse(line), [LABELS]: { process: "app" } }]);
      for (const [i, line] of text.entries()) {
        const pieces = parts[whole.length + i] ?? [];
        expect(pieces.length).toBeGreaterThan(1);
        expect(pieces.map(({ message }) => message).join("") === line).toBe(true);
        for (const { message = "" } of pieces)
          expect(Buffer.byteLength(message)).toBeLessThanOrEqual(65536);
      }
    }
  });
});

section("raw", (it) => {
  const env = { ENTRYPOINT_LOG: "raw" };

  it("leaves every byte as it comes, and keeps what entrypoint says apart", async (box) => {
    const bytes = Buffer.from('no newline \xff\0\r\x1b[31m { "a": 1 }\n  indented\nlast', "latin1");
    box.write("bytes", bytes);
    const run = box.procfile(["app: cat bytes; cat bytes >&2; exit 3"], { env });
    expect((await run.exit()).code).toBe(3);
    expect(run.stdout.bytes.equals(bytes)).toBe(true);
    expect(run.stderr.bytes.subarray(0, bytes.length).equals(bytes)).toBe(true);
    expect(run.stderr.text.slice(-100)).toMatch(/entrypoint \| app: exit code 3 after .*\n$/);
  });

  it("gives the processes our own stdout and stderr", async (box) => {
    const run = box.procfile([`app: readlink /proc/$$/fd/1 /proc/$$/fd/2; ${forever}`], { env });
    await run.line(/up/);
    const own = (fd: number) => fs.readlinkSync(`/proc/${run.pid}/fd/${fd}`);
    expect(run.stdout.lines.slice(0, 2)).toEqual([own(1), own(2)]);
    await run.stopsWell();
  });

  it("keeps order, exit codes and the stop, with nginx in front", async (box) => {
    const { run, port } = await startDemo(box, { env });
    const slow = fetch(`http://127.0.0.1:${port}/slow?ms=700`);
    await run.line(/^GET \/slow/);
    await run.stopsWell();
    expect(await (await slow).text()).toBe("slow, but here\n");
    expect(run.stdout.text).toMatch(/^127\.0\.0\.1 .*"GET \/slow\?ms=700 HTTP\/1\.1" 200 /m);
    expect(run.stderr.text).toMatch(/^entrypoint \| ready in /m);

    const [one, two] = [await freePort(), await freePort()];
    const lines = [
      `app: PORT=${one} ${serve(one)}`,
      `side: PORT=${two} ${serve(two)}`,
      `web: ${onSignal("TERM", "web")}; ${forever}`,
    ];
    const other = box.procfile(lines, { env });
    await other.line(/^up$/);
    await other.stopsWell();
    expect(other.stderr.text).toContain("SIGTERM: stopping web, then side, then app");
  });

  it("does not cut off a filter that still writes", async (box) => {
    const line =
      "app: { echo one; sleep 0.05; exit 4; } | { while read -r l; do sleep 0.05; echo $l; done; }";
    const run = box.procfile([`${line}; exit 4`], { env });
    expect((await run.exit()).code).toBe(4);
    expect(run.stdout.text).toBe("one\n");
  });

  it("leaves a blocking stdout blocking", async (box) => {
    const flags = "sed -n s/^flags:.//p /proc/self/fdinfo/1";
    const run = box.procfile([`app: ${flags}; sleep 0.3; ${flags}; exit 1`], { env });
    await run.exit();
    const [before, after] = run.stdout.lines;
    expect(before).toBe(after ?? "");
    expect(Number.parseInt(before ?? "", 8) & 0o4000).toBe(0);
  });
});
