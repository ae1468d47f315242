// A short run of the soak, which a person runs for ten minutes: bun test/soak.ts

import { expect, test } from "bun:test";
import path from "node:path";
import { bun, compiled, runtimes } from "./harness.ts";

const seconds = Number(process.env.ENTRYPOINT_TEST_SECONDS ?? 8);

test.if(runtimes.includes(compiled))(
  `a soak of ${seconds} s`,
  async () => {
    const soak = Bun.spawn([bun, path.join(import.meta.dir, "soak.ts"), `${seconds}`], {
      stdout: "pipe",
    });
    const report = await new Response(soak.stdout).text();
    console.log(report);
    expect(report.trim().split("\n").at(-1)).toStartWith("flat: ");
    expect(await soak.exited).toBe(0);
  },
  seconds * 1000 + 90_000,
);
