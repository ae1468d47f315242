// Compiles entrypoint.ts.
//   bun build.ts             dist/entrypoint, for this machine, and dist/entrypoint.mjs
//   bun build.ts TARGET...   dist/entrypoint-linux-arm64 and the like: bun-linux-arm64, bun-linux-x64-musl
import fs from "node:fs";

// What zx takes from these modules of Node. It loads them whole, for a third of our start, and uses
// none of this: what a process writes goes past it, and entrypoint.ts has its own `spawn`.
const standIns: Record<string, Record<string, string>> = {
  async_hooks: {
    AsyncLocalStorage: `class {
      getStore() { return this.store; }
      run(store, task) {
        const before = this.store;
        this.store = store;
        try { return task(); } finally { this.store = before; }
      }
    }`,
    createHook: "undefined",
  },
  buffer: { Buffer: "Buffer" },
  child_process: { exec: "undefined", spawn: "undefined", spawnSync: "undefined" },
  stream: { Readable: "class {}", Transform: "class {}" },
  tty: { isatty: "() => false" },
  util: { inspect: 'Object.assign(String, { custom: Symbol.for("nodejs.util.inspect.custom") })' },
};
const IMPORT = /var (\w+) = (?:__toESM\()?require\("(\w+)"\)(?:, 1\))?;/g;

/** What zx imports of Node, as an object that is made at once: 4 ms less than a copy, which zx makes. */
function imports(code: string, light: boolean): string {
  return code.replace(IMPORT, (_, variable, module) => {
    const standIn = light && standIns[module];
    if (!standIn)
      return `var ${variable} = { __proto__: require("${module}"), default: require("${module}") };`;
    for (const [, name = ""] of code.matchAll(
      RegExp(`\\b${variable}(?:\\.default)?\\.(\\w+)`, "g"),
    ))
      if (!standIn[name])
        throw new Error(`zx takes ${name} from ${module} now: build.ts must have it`);
    replaced.add(module);
    const members = Object.entries(standIn).map(([name, text]) => `${name}: ${text}`);
    return `var ${variable} = { ${members.join(", ")} }; ${variable}.default = ${variable};`;
  });
}
const replaced = new Set<string>();

function without(text: string, code: string): string {
  if (!code.includes(text))
    throw new Error(`zx has no ${text} any more: look what build.ts does with it`);
  return code.replace(text, "");
}

const zx = (light: boolean): Bun.BunPlugin => ({
  name: "zx",
  setup({ onResolve, onLoad }) {
    // Under Deno zx/core would look for its core.cjs at run time.
    onResolve({ filter: /^zx\/core$/ }, () => ({
      path: `${import.meta.dir}/node_modules/zx/build/core.cjs`,
    }));
    onLoad({ filter: /\/zx\/build\/.*\.cjs$/ }, async ({ path }) => {
      const code = imports(await Bun.file(path).text(), light);
      // It looks for a bash, of which we have no use.
      return {
        contents: path.endsWith("/core.cjs") ? without("\n  useBash();", code) : code,
        loader: "js",
      };
    });
  },
});

// An image with a Bun app sets these for the app. Bun asks the environment for each by a name that
// stands once in the executable: with another first byte in it, it finds none.
const others = ["BUN_OPTIONS", "BUN_INSPECT", "BUN_INSPECT_PRELOAD", "BUN_INSPECT_CONNECT_TO"];

function leaveToOthers(outfile: string): void {
  const bytes = fs.readFileSync(outfile);
  for (const name of others) {
    const pattern = `\0${name}\0`;
    const at = bytes.indexOf(pattern);
    if (at < 0 || bytes.includes(pattern, at + 1)) {
      fs.rmSync(outfile);
      throw new Error(`${outfile}: ${name} is not there once. Look where Bun reads it now.`);
    }
    bytes[at + 1] = 1;
  }
  fs.writeFileSync(outfile, bytes);
}

export async function executable(
  source: string,
  outfile: string,
  target?: Bun.Build.CompileTarget,
  light = true, // false: with zx as it is, or without zx
): Promise<void> {
  await Bun.build({
    entrypoints: [source],
    minify: true,
    bytecode: true,
    plugins: light ? [zx(true)] : [],
    format: "esm", // with bytecode it is CommonJS otherwise, which has no top-level await
    compile: {
      outfile,
      ...(target && { target }),
      jitPolicy: 100, // the start is over before compiled code pays; then entrypoint.ts sets it to 1
      // What lies in the working directory is not the program's.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadPackageJson: false,
      autoloadTsconfig: false,
    },
  });
  for (const module of light ? Object.keys(standIns) : [])
    if (!replaced.has(module))
      throw new Error(`zx does not use ${module} any more: build.ts need not`);
  leaveToOthers(outfile);
}

/** The program and its two dependencies in one file, for an image that has Node, Deno or Bun. */
async function module(outfile: string): Promise<void> {
  const { outputs } = await Bun.build({
    entrypoints: ["entrypoint.ts"],
    target: "node",
    external: ["bun:ffi"],
    minify: true,
    plugins: [zx(false)],
  });
  const text = await outputs[0]?.text();
  await Bun.write(outfile, `${text?.replace(/^#!.*\n(\/\/ @bun\n)?/, "#!/usr/bin/env node\n")}`);
}

function tell(outfile: string): void {
  console.log(`${outfile}: ${(Bun.file(outfile).size / 1e6).toFixed(2)} MB`);
}

async function main(targets: Bun.Build.CompileTarget[]): Promise<void> {
  for (const target of targets) {
    const outfile = target.replace("bun-", "dist/entrypoint-");
    await executable("entrypoint.ts", outfile, target);
    tell(outfile);
  }
  if (targets.length) return;
  await executable("entrypoint.ts", "dist/entrypoint");
  tell("dist/entrypoint");
  await module("dist/entrypoint.mjs");
  tell("dist/entrypoint.mjs");
}

if (import.meta.main) await main(process.argv.slice(2) as Bun.Build.CompileTarget[]);
