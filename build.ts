// Compiles entrypoint.ts.
//   bun build.ts             dist/entrypoint, for this machine, and dist/entrypoint.mjs
//   bun build.ts TARGET...   dist/entrypoint-linux-arm64 and the like: bun-linux-arm64, bun-linux-x64-musl
import fs from "node:fs";

async function main(targets: Bun.Build.CompileTarget[]): Promise<void> {
  for (const target of targets)
    await executable("entrypoint.ts", target.replace("bun-", "dist/entrypoint-"), target);
  if (targets.length) return;
  await executable("entrypoint.ts", "dist/entrypoint");
  await bundle("dist/entrypoint.mjs");
}

/** Bun and a program in one file. `plugins` are for what uses no more of zx than entrypoint.ts. */
export async function executable(
  source: string,
  outfile: string,
  target?: Bun.Build.CompileTarget,
  plugins = [zx(standIns)],
): Promise<void> {
  await Bun.build({
    entrypoints: [source],
    minify: true,
    bytecode: true,
    plugins,
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
  console.error(`${outfile}: ${(Bun.file(outfile).size / 1e6).toFixed(2)} MB`);
}

/** The program and its two dependencies in one file, for an image that has Node, Deno or Bun. */
async function bundle(outfile: string): Promise<void> {
  const { outputs } = await Bun.build({
    entrypoints: ["entrypoint.ts"],
    target: "node",
    external: ["bun:ffi"],
    minify: true,
    plugins: [zx({})],
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
function zx(without: typeof standIns): Bun.BunPlugin {
  return {
    name: "zx",
    setup({ onResolve, onLoad, onEnd }) {
      const unused = new Set(Object.keys(without));
      // Under Deno zx/core would look for its core.cjs at run time.
      onResolve({ filter: /^zx\/core$/ }, () => ({ path: require.resolve("zx/core") }));
      onLoad({ filter: /\/zx\/build\/.*\.cjs$/ }, async ({ path }) => ({
        contents: withImports(await Bun.file(path).text(), without, unused),
        loader: "js",
      }));
      onEnd(() => {
        if (unused.size) throw new Error(`zx imports ${[...unused]} in another way now: look here`);
      });
    },
  };
}

// What zx takes from these modules of Node, which load many others, and uses for nothing here: what a
// process writes goes past it. What each saves of a start of 45 ms: minimum and median of 99 pairs.
const standIns: Record<string, Record<string, string>> = {
  stream: { Readable: "class {}", Transform: "class {}" }, // 2.2 ms, 4.0
  tty: { isatty: "() => false" }, // 2.0 ms, 4.0, for it loads `stream`
  util: { inspect: "Object.assign(String, { custom: Symbol() })" }, // 1.3 ms, 2.7
};

/** Its imports of Node, each an object that is made at once. zx copies each: 7.5 ms, 10.7. */
function withImports(code: string, without: typeof standIns, unused: Set<string>): string {
  const IMPORT = /var (\w+) = (?:__toESM\()?require\("(\w+)"\)(?:, 1\))?;/g;
  return code.replace(IMPORT, (_, variable: string, module: string) => {
    const standIn = without[module];
    const node = `require("${module}")`;
    if (!standIn) return `var ${variable} = { __proto__: ${node}, default: ${node} };`;
    check(code, variable, module, standIn);
    unused.delete(module);
    const members = Object.entries(standIn).map(([name, text]) => `${name}: ${text}`);
    return `var ${variable} = { ${members} }; ${variable}.default = ${variable};`;
  });
}

/** A later zx may take more from a module than its stand-in has. */
function check(code: string, variable: string, module: string, standIn: object): void {
  for (const [, name = ""] of code.matchAll(RegExp(`\\b${variable}(?:\\.default)?\\.(\\w+)`, "g")))
    if (!(name in standIn)) throw new Error(`zx takes ${name} from ${module} now: write it here`);
}

if (import.meta.main) await main(process.argv.slice(2) as Bun.Build.CompileTarget[]);
