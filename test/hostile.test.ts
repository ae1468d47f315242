// Whatever lies in the working directory changes nothing, in the compiled binary.

import { expect } from "bun:test";
import fs from "node:fs";
import path from "node:path";
import { type Box, binaries, section } from "./harness.ts";

const harmless = ["one: echo $SECRET.$PORT; echo err >&2; exit 3"];

function layTraps(box: Box, directory = ""): void {
  const trap = `require("node:fs").writeFileSync(${JSON.stringify(path.join(box.base, "trapped"))}, "x");`;
  const files: Record<string, string> = {
    ".env": "SECRET=leaked\nPORT=1\nENTRYPOINT_GRACE=nonsense\nFORCE_COLOR=1\n",
    ".env.local": "SECRET=leaked\n",
    ".env.production": "SECRET=leaked\n",
    ".env.development": "SECRET=leaked\n",
    ".env.test": "SECRET=leaked\n",
    "bunfig.toml": 'preload = ["./trap.js"]\n[run]\nshell = "bun"\n[log]\nlevel = "debug"\n',
    ".bunfig.toml": 'preload = ["./trap.js"]\n',
    "trap.js": trap,
    "package.json":
      '{ "name": "trap", "type": "commonjs", "imports": { "#x": "./trap.js" }, "main": "trap.js", ',
    "tsconfig.json":
      '{ "extends": "./nowhere.json", "compilerOptions": { "paths": { "*": ["./trap.js"] } }, ',
    "jsconfig.json": "not json",
    "node_modules/zx/package.json": '{ "name": "zx", "exports": { "./core": "./core.js" } }',
    "node_modules/zx/core.js": trap,
    "node_modules/picocolors/package.json": '{ "name": "picocolors", "main": "index.js" }',
    "node_modules/picocolors/index.js": trap,
    "entrypoint.ts": trap,
    "index.ts": trap,
    "bun.lock": "not a lock file",
    ".npmrc": "shell-emulator=true\n",
  };
  for (const [name, text] of Object.entries(files)) box.write(path.join(directory, name), text);
}

section(
  "a hostile working directory",
  (it) => {
    for (const env of [{}, { NODE_ENV: "production" }, { NODE_ENV: "test" }]) {
      it(`changes nothing ${JSON.stringify(env)}`, async (box) => {
        const before = box.procfile(harmless, { env });
        expect((await before.exit()).code).toBe(3);
        expect(before.stdout.text).toBe("one | .8080\n");

        layTraps(box);
        const after = box.procfile(harmless, { env });
        expect((await after.exit()).code).toBe(3);
        expect(after.stdout.text).toBe(before.stdout.text);
        const lines = (text: string) =>
          text
            .replace(/after .*/, "")
            .split("\n")
            .sort();
        expect(lines(after.stderr.text)).toEqual(lines(before.stderr.text));
        expect(fs.existsSync(path.join(box.base, "trapped"))).toBe(false);
      });
    }

    it("may lie beside the binary, too", async (box) => {
      layTraps(box, "bin");
      const copy = path.join(box.dir, "bin", "entrypoint");
      fs.copyFileSync(box.runtime.command.at(-1) ?? "", copy);
      const run = box.procfile(harmless, { wrap: (command) => [...command.slice(0, -1), copy] });
      expect((await run.exit()).code).toBe(3);
      expect(run.stdout.text).toBe("one | .8080\n");
      expect(fs.existsSync(path.join(box.base, "trapped"))).toBe(false);
    });

    it("may have a name that is hard to write", async (box) => {
      const directory = path.join(box.dir, `it's "a" $HOME; né\n${"x".repeat(50)}`);
      fs.mkdirSync(directory);
      fs.writeFileSync(path.join(directory, "Procfile"), "one: pwd >&2; exit 3\n");
      const run = box.start([], {
        wrap: (command) => ["env", "-C", directory, ...command],
      });
      expect((await run.exit()).code).toBe(3);
    });
  },
  binaries,
);

const elsewhere = "/no/such/file";
const forTheApp: Record<string, string>[] = [
  { BUN_OPTIONS: "--preload ./ends.js" },
  { BUN_OPTIONS: "--version" },
  { BUN_OPTIONS: "--cwd=/" },
  { BUN_OPTIONS: `--config=${elsewhere}` },
  { BUN_INSPECT: "ws://127.0.0.1:0/x?wait=1" },
  { BUN_INSPECT: "ws://127.0.0.1:0/x", BUN_INSPECT_PRELOAD: elsewhere },
  { BUN_INSPECT_CONNECT_TO: elsewhere },
];

section(
  "what an image sets for its Bun app",
  (it) => {
    for (const env of forTheApp)
      it(`is the app's alone: ${JSON.stringify(env)}`, async (box) => {
        box.write("ends.js", "process.exit(77);\n");
        const run = box.procfile(["one: env | grep ^BUN_ | sort; pwd; exit 3"], { env });
        expect((await run.exit()).code).toBe(3);
        const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
        const expected = [...variables, box.dir].map((line) => `one | ${line}`);
        expect(run.stdout.lines).toEqual(expected);
        expect(run.stderr.text).toMatch(/^entrypoint \| one: exit code 3 after .*\n$/);
      });
  },
  binaries,
);
