// Compiles entrypoint.ts.
//   bun build.ts             dist/entrypoint, for this machine, and dist/entrypoint.mjs
//   bun build.ts TARGET...   dist/entrypoint-linux-arm64 and the like: bun-linux-arm64, bun-linux-x64-musl
import fs from "node:fs";

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

function tell(outfile: string): void {
  console.log(`${outfile}: ${(Bun.file(outfile).size / 1e6).toFixed(2)} MB`);
}

/** Bun and the program in one file. `light` is for entrypoint.ts, not for what uses all of zx or none. */
export async function executable(
  source: string,
  outfile: string,
  target?: Bun.Build.CompileTarget,
  light = true,
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
      jitPolicy: 5, // start and stop are over before compiled code pays; and it takes memory
      // What lies in the working directory is not the program's.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadPackageJson: false,
      autoloadTsconfig: false,
    },
  });
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
      throw new Error(`${outfile}: ${name} is not there once: look where Bun reads it now`);
    }
    bytes[at + 1] = 1;
  }
  fs.writeFileSync(outfile, bytes);
}

/** zx without what a start pays for and does not need. */
function zx(light: boolean): Bun.BunPlugin {
  return {
    name: "zx",
    setup({ onResolve, onLoad, onEnd }) {
      const unused = new Set(light ? Object.keys(standIns) : []);
      // Under Deno zx/core would look for its core.cjs at run time.
      onResolve({ filter: /^zx\/core$/ }, () => ({
        path: `${import.meta.dir}/node_modules/zx/build/core.cjs`,
      }));
      onLoad({ filter: /\/zx\/build\/.*\.cjs$/ }, async ({ path }) => {
        const code = withImports(await Bun.file(path).text(), light, unused);
        const isCore = path.endsWith("/core.cjs");
        return { contents: isCore ? without("useBash();\n", code) : code, loader: "js" };
      });
      onEnd(() => {
        if (unused.size) throw new Error(`zx imports ${[...unused]} in another way now: look here`);
      });
    },
  };
}

// What zx takes from these modules of Node. It loads them whole, for a third of our start, and uses
// none of this: what a process writes goes past it, and entrypoint.ts has a `spawn` of its own.
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

/** Its imports of Node, each an object that is made at once. zx copies each: 4 ms. */
function withImports(code: string, light: boolean, unused: Set<string>): string {
  const IMPORT = /var (\w+) = (?:__toESM\()?require\("(\w+)"\)(?:, 1\))?;/g;
  return code.replace(IMPORT, (_, variable: string, module: string) => {
    const standIn = light && standIns[module];
    const node = `require("${module}")`;
    if (!standIn) return `var ${variable} = { __proto__: ${node}, default: ${node} };`;
    check(code, variable, module, standIn);
    unused.delete(module);
    const members = Object.entries(standIn).map(([name, text]) => `${name}: ${text}`);
    return `var ${variable} = { ${members.join(", ")} }; ${variable}.default = ${variable};`;
  });
}

/** A later zx may take more from a module than its stand-in has. */
function check(code: string, variable: string, module: string, standIn: object): void {
  for (const [, name = ""] of code.matchAll(RegExp(`\\b${variable}(?:\\.default)?\\.(\\w+)`, "g")))
    if (!(name in standIn)) throw new Error(`zx takes ${name} from ${module} now: write it here`);
}

function without(text: string, code: string): string {
  if (!code.includes(text))
    throw new Error(`zx has no ${text.trim()} now: look whether this is needed`);
  return code.replace(text, ""); // it looks for a bash, of which we have no use
}

if (import.meta.main) await main(process.argv.slice(2) as Bun.Build.CompileTarget[]);
