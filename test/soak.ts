// Ten minutes of load: bun test/soak.ts [SECONDS]
// wrk goes through nginx to the demo app, and one of the five processes logs heavily. A line a minute;
// at the end a verdict: memory, descriptors and CPU flat, no failed request, no line lost. 0, or 1.

import fs from "node:fs";
import {
  Box,
  bun,
  compiled,
  demoApp,
  freePort,
  pipe,
  residentKilobytes,
  within,
} from "./harness.ts";

const seconds = Number(process.argv[2] ?? 600);
const REPORTS = Math.max(6, Math.round(seconds / 60));
const CONNECTIONS = 8;
const HZ = 100; // the kernel's unit of CPU time in /proc

interface Sample {
  megabytes: number;
  descriptors: number;
  /** Seconds of CPU, and lines of all logs, since the last sample. */
  cpu: number;
  lines: number;
}

/** Counts lines as they pass, and sees that those of `noisy` are the next ones. */
function counter() {
  const counts = { all: 0, nginx: 0, cut: 0, bad: 0, wrong: "" };
  let rest = "";
  let expected = 1;
  const look = (line: string): void => {
    counts.all++;
    if (line.startsWith("noisy ")) {
      const number = Number(/(\d+)$/.exec(line)?.[1]);
      if (number !== expected) counts.wrong ||= `${line} for ${expected}`;
      expected = number + 1;
    } else if (line.startsWith("nginx ")) {
      counts.nginx++;
      if (line.includes('" 499 ')) counts.cut++;
      else if (!line.includes('" 200 ')) counts.bad++;
    }
  };
  const take = (chunk: Uint8Array): void => {
    const lines = (rest + Buffer.from(chunk).toString("latin1")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) look(line);
  };
  return { counts, take };
}

function cpuSeconds(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / HZ;
}

async function soak(box: Box): Promise<string[]> {
  const [port, appPort] = [await freePort(), await freePort()];
  const batch = 2000; // lines, twenty times a second
  const noise = `i=1; while :; do seq -f 'a line of a log that is neither long nor short, number %.0f' $i $((i + ${batch - 1})); i=$((i + ${batch})); sleep 0.05; done`;
  box.write(
    "Procfile",
    `app: PORT=${appPort} ${bun} ${demoApp}
noisy: ${noise}
idle: exec sleep 100000
quiet: while :; do echo tick; sleep 1; done
nginx: nginx -c $NGINX_CONF -e stderr
`,
  );
  const [out, err] = [pipe(), pipe()];
  const entrypoint = Bun.spawn(compiled.command, {
    cwd: box.dir,
    env: box.env({ PORT: `${port}`, APP_PORT: `${appPort}` }),
    stdout: out.write,
    stderr: err.write,
  });
  for (const { write } of [out, err]) fs.closeSync(write);
  const { counts, take } = counter();
  let own = "";
  let ready = () => {};
  const isReady = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const read = [
    (async () => {
      for await (const chunk of Bun.file(out.read).stream()) take(chunk);
    })(),
    (async () => {
      for await (const chunk of Bun.file(err.read).stream()) {
        own += Buffer.from(chunk).toString();
        if (own.includes("ready in")) ready();
      }
    })(),
  ];
  const { pid } = entrypoint;
  try {
    await within("ready", isReady);
    const url = `http://127.0.0.1:${port}/`;
    const wrk = Bun.spawn(
      ["wrk", "-t1", `-c${CONNECTIONS}`, `-d${seconds}s`, "--timeout", "30s", url],
      { stdout: "pipe" },
    );
    const samples = await sample(pid, counts);
    const report = await within("wrk", new Response(wrk.stdout).text(), 30_000);
    entrypoint.kill("SIGTERM");
    const code = await within("the stop", entrypoint.exited);
    await Promise.all(read);
    return [
      ...complaints(samples),
      ...ofLoad(report, counts),
      ...(code ? [`exit code ${code}`] : []),
    ];
  } finally {
    entrypoint.kill("SIGKILL");
  }
}

async function sample(pid: number, counts: { all: number }): Promise<Sample[]> {
  const samples: Sample[] = [];
  let [cpu, lines] = [cpuSeconds(pid), counts.all];
  const since = performance.now();
  for (let i = 1; i <= REPORTS; i++) {
    await Bun.sleep((i * seconds * 1000) / REPORTS - (performance.now() - since));
    const [cpuNow, linesNow] = [cpuSeconds(pid), counts.all];
    const now: Sample = {
      megabytes: residentKilobytes(pid) / 1024,
      descriptors: fs.readdirSync(`/proc/${pid}/fd`).length,
      cpu: cpuNow - cpu,
      lines: linesNow - lines,
    };
    [cpu, lines] = [cpuNow, linesNow];
    samples.push(now);
    const time = `${((performance.now() - since) / 1000).toFixed(0)} s`;
    console.log(
      `${time.padStart(6)}: ${now.megabytes.toFixed(1)} MB, ${now.descriptors} descriptors, ` +
        `${now.lines} lines, ${perLine(now).toFixed(2)} s of CPU a million lines`,
    );
  }
  return samples;
}

function perLine({ cpu, lines }: Sample): number {
  return (cpu / Math.max(lines, 1)) * 1e6;
}

/** What is not flat: the last third against the second, for in the first all of it warms up. */
function complaints(samples: Sample[]): string[] {
  const third = Math.floor(samples.length / 3);
  const [middle, last] = [samples.slice(third, 2 * third), samples.slice(2 * third)];
  const most = (of: Sample[], value: (sample: Sample) => number) => Math.max(...of.map(value));
  const grew = (
    what: string,
    value: (sample: Sample) => number,
    allowed: (before: number) => number,
  ) => {
    const [before, after] = [most(middle, value), most(last, value)];
    return after > allowed(before) ? [`${what} grew from ${before} to ${after}`] : [];
  };
  return [
    ...grew(
      "memory in MB",
      ({ megabytes }) => megabytes,
      (before) => before + 25,
    ),
    ...grew(
      "descriptors",
      ({ descriptors }) => descriptors,
      (before) => before,
    ),
    ...grew("CPU for a million lines", perLine, (before) => before * 2 + 5),
    ...(samples.some(({ lines }) => lines === 0) ? ["there were no lines"] : []),
  ];
}

function ofLoad(report: string, counts: ReturnType<typeof counter>["counts"]): string[] {
  const requests = Number(/(\d+) requests in/.exec(report)?.[1] ?? 0);
  console.log(`${requests} requests, ${counts.all} lines`);
  const errors = /Socket errors:.*/.exec(report)?.[0] ?? "";
  const failed = Number(/Non-2xx or 3xx responses: (\d+)/.exec(report)?.[1] ?? 0) + counts.bad;
  return [
    ...(requests ? [] : [`no requests: ${report}`]),
    ...(/[1-9]/.test(errors) ? [errors] : []),
    // Those that wrk does not wait for when its time is over.
    ...(counts.cut > CONNECTIONS ? [`${counts.cut} requests were cut off`] : []),
    ...(failed ? [`${failed} requests failed`] : []),
    ...(counts.wrong ? [`a line is missing: ${counts.wrong}`] : []),
    ...(counts.nginx < requests ? [`${requests} requests, ${counts.nginx} access lines`] : []),
  ];
}

const box = new Box(compiled);
const wrong = await soak(box).catch((error) => [String(error)]);
wrong.push(...(await box.close()));
for (const complaint of wrong) console.log(complaint);
console.log(
  wrong.length ? "NOT FLAT" : "flat: memory, descriptors and CPU; no request failed, no line lost",
);
process.exit(wrong.length ? 1 : 0);
