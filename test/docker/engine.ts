// What the tests of images need: a Docker engine, commands, and containers of which none stays.

import { test } from "bun:test";
import path from "node:path";
import { bun, root, within } from "../harness.ts";

export const MINUTES = 60_000;
const client = path.join(import.meta.dir, "client.ts");

// ---- Commands

export interface Outcome {
  code: number;
  out: string;
  err: string;
}

// Debian's own docker first: it has BuildKit in it, a bare newer client has not.
export const env = { ...process.env, PATH: `/usr/bin:${process.env.PATH}`, DOCKER_BUILDKIT: "1" };

export async function command(...words: string[]): Promise<Outcome> {
  const process = Bun.spawn(words, { cwd: root, env, stdout: "pipe", stderr: "pipe" });
  const texts = [process.stdout, process.stderr].map((stream) => new Response(stream).text());
  const [out = "", err = ""] = await Promise.all(texts);
  return { code: await process.exited, out, err };
}

/** What the command writes. Its failure is the test's. */
export async function output(...words: string[]): Promise<string> {
  const { code, out, err } = await command(...words);
  if (code !== 0) throw new Error(`${words.join(" ")}: exit code ${code}\n${out}${err}`);
  return out.trim();
}

export const docker = (...words: string[]) => output("docker", ...words);

// ---- What is tested where: without an engine tests are skipped by name, with CI=true they fail

export async function works(...words: string[]): Promise<boolean> {
  return await command(...words).then(
    ({ code }) => code === 0,
    () => false,
  );
}

export const engine = await works("docker", "version");

export function testWith(there: boolean, what: string) {
  return (name: string, body: () => Promise<void>): void => {
    if (there) test(name, body, 2 * MINUTES);
    else if (process.env.CI !== "true") test.skip(`${name} (skipped: there is no ${what})`, body);
    else
      test(name, () => {
        throw new Error(`there is no ${what}, and with CI=true there must be one`);
      });
  };
}

export const inEngine = testWith(engine, "Docker engine");

// ---- Images and containers; whatever the outcome, none of them stays

export const mark = `entrypoint-test-${process.pid}`;
export const image = `${mark}:demo`;
const images = new Set<string>();

export async function build(tag: string, ...options: string[]): Promise<void> {
  await docker("build", "--quiet", "--network", "host", "--tag", tag, ...options);
  ours(tag);
}

/** An image that is removed at the end. */
export function ours(tag: string): void {
  images.add(tag);
}

export class Container {
  readonly name: string;
  private readonly port: number;

  constructor(name: string, port = 8080) {
    this.name = name;
    this.port = port;
  }

  async logs(): Promise<string> {
    const { out, err } = await command("docker", "logs", this.name);
    return out + err;
  }

  async line(pattern: RegExp): Promise<void> {
    const follow = 'exec docker logs --follow "$0" 2>&1';
    const logs = Bun.spawn(["sh", "-c", follow, this.name], { env, stdout: "pipe" });
    const reading = async () => {
      let text = "";
      for await (const chunk of logs.stdout.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        if (pattern.test(text)) return;
      }
      throw new Error(`the container has ended without a line like ${pattern}`);
    };
    await within(`a line like ${pattern}`, reading()).finally(() => logs.kill());
  }

  exec(script: string): Promise<string> {
    return docker("exec", this.name, "sh", "-c", script);
  }

  /** Runs test/docker/client.ts here against a published port, or else in its network. */
  async client<T>(...words: string[]): Promise<T> {
    const published = await docker("port", this.name);
    const [, port] = /:(\d+)$/m.exec(published) ?? [];
    const beside = [
      ...["docker", "run", "--rm", "--label", mark, "--network", `container:${this.name}`],
      ...["--volume", `${client}:/client.ts:ro`, "--env", "BUN_BE_BUN=1"],
      ...["--entrypoint", "entrypoint", image, "/client.ts"],
    ];
    const start = port ? [bun, client] : beside;
    return JSON.parse(await output(...start, `http://127.0.0.1:${port ?? this.port}`, ...words));
  }

  /** The exit code, and how long it took to come. */
  async exit(asked = performance.now()): Promise<{ code: number; ms: number }> {
    const code = await within("the container's end", docker("wait", this.name), 30_000);
    return { code: Number(code), ms: performance.now() - asked };
  }

  async stop(): Promise<{ code: number; ms: number }> {
    const asked = performance.now();
    await docker("stop", this.name);
    return await this.exit(asked);
  }
}

let count = 0;

export interface Start {
  options?: string[];
  of?: string;
  /** In place of the image's CMD. */
  words?: string[];
  port?: number;
}

export async function inContainer(
  { options = [], of = image, words = [], port }: Start,
  body: (container: Container) => Promise<void>,
): Promise<void> {
  const container = new Container(`${mark}-${++count}`, port);
  try {
    const labels = ["--name", container.name, "--label", mark];
    await docker("run", "--detach", ...labels, ...options, of, ...words);
    await body(container);
  } catch (error) {
    throw new Error(`${error}\n${await container.logs()}`, { cause: error });
  } finally {
    await command("docker", "rm", "--force", container.name);
  }
}

/** Makes the demo's image. */
export async function buildDemo(): Promise<void> {
  if (engine) await build(image, ".");
}

/** Removes all containers and images of these tests. */
export async function removeAll(): Promise<void> {
  if (!engine) return;
  const left = await docker("ps", "--all", "--quiet", "--filter", `label=${mark}`);
  if (left) await docker("rm", "--force", ...left.split("\n"));
  if (images.size) await docker("rmi", ...images);
  images.clear();
}
