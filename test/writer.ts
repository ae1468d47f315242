// Writes what a test can tell in advance from a seed, to stdout and stderr:
// bun writer.ts lines SEED COUNT NAME ALL [kill]
//   numbered lines, then waits until ALL writers have come that far, writes one last line to
//   each stream and ends at once
// bun writer.ts noise SEED
//   bytes that are hard to pass on, in writes of random length

import fs from "node:fs";

/** Mulberry32: numbers from 0 to 1, always the same ones for a seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), bits | 61)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

const letters = Array.from({ length: 5000 }, (_, i) => "abcdefghijklmnopqrstuvwxyz {}"[i % 29]);
const filler = letters.join("");

/** Numbered lines of 0 to 2,000 bytes after the number. */
export function* lines(seed: number, count: number): Generator<string, undefined> {
  const next = random(seed);
  for (let i = 1; i <= count; i++) {
    const start = Math.floor(next() * 2000);
    yield `${i} ${filler.slice(start, start + Math.floor(next() * 2001))}`;
  }
}

/** Bytes with newlines, CR, NUL and no regard for UTF-8, mostly without a newline at the end. */
export function noise(seed: number): Buffer {
  const next = random(seed);
  const pick = (...choices: number[]) => choices[Math.floor(next() * choices.length)] ?? 0;
  const bytes = Buffer.alloc(pick(0, 1, 10, 1000, 70_000, 400_000) + Math.floor(next() * 1000));
  const newlines = pick(0.5, 0.1, 0.01, 0.001, 0);
  const special = pick(0.5, 0.05, 0);
  for (let i = 0; i < bytes.length; i++) {
    if (next() < newlines) bytes[i] = 10;
    else if (next() < special) bytes[i] = pick(13, 0, 0x1b, 0x7c, 0x20, 0xff, 0xc3, 0xe2, 0x80);
    else bytes[i] = Math.floor(next() * 256);
  }
  return bytes;
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at);
}

/** Writes what is there but for what would make the write shorter than it wants it. */
class Stream {
  private waiting = "";
  private size = 1;
  private readonly fd: number;
  private readonly next: () => number;

  constructor(fd: number, seed: number) {
    this.fd = fd;
    this.next = random(seed);
  }

  write(text: string): void {
    this.waiting += text;
    while (this.waiting.length >= this.size) {
      writeAll(this.fd, Buffer.from(this.waiting.slice(0, this.size), "latin1"));
      this.waiting = this.waiting.slice(this.size);
      this.size = 1 + Math.floor(this.next() ** 2 * 20_000);
    }
  }

  flush(): void {
    writeAll(this.fd, Buffer.from(this.waiting, "latin1"));
    this.waiting = "";
  }
}

function writeLines(seed: number, count: number, name: string, all: number, last: string): void {
  process.on("SIGTERM", () => {}); // the first of them to exit ends the others
  const [out, err] = [new Stream(1, seed), new Stream(2, seed + 1)];
  const [outLines, errLines] = [lines(seed, count), lines(seed + 1, count)];
  for (let i = 1; i < count; i++) {
    out.write(`${outLines.next().value}\n`);
    err.write(`${errLines.next().value}\n`);
  }
  out.flush();
  err.flush();
  fs.writeFileSync(`${name}.met`, "");
  while (fs.readdirSync(".").filter((file) => file.endsWith(".met")).length < all) Bun.sleepSync(2);
  out.write(`${outLines.next().value}\n`);
  err.write(`${errLines.next().value}\n`);
  out.flush();
  err.flush();
  if (last === "kill") process.kill(process.pid, "SIGKILL");
  process.exit(0);
}

function writeNoise(seed: number): void {
  const next = random(seed);
  const left = [noise(seed), noise(seed + 1)].map((bytes, i) => ({ fd: i + 1, bytes }));
  while (left.some(({ bytes }) => bytes.length > 0)) {
    const longest = next() < 0.1 ? 200_000 : 5000;
    for (const stream of left) {
      const size = Math.ceil(next() * longest);
      writeAll(stream.fd, stream.bytes.subarray(0, size));
      stream.bytes = stream.bytes.subarray(size);
    }
    if (next() < 0.05) Bun.sleepSync(1);
  }
}

if (import.meta.main) {
  const [what, seed, count, name = "", all, last = ""] = process.argv.slice(2);
  if (what === "lines") writeLines(Number(seed), Number(count), name, Number(all), last);
  else writeNoise(Number(seed));
}
