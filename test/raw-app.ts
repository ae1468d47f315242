// A raw TCP app and its raw client: both ends of a connection, with every byte that came. They use
// no HTTP library, which would hide differences. The app listens in the test's own process, so that
// a case can say what each end does, and in which order.

import { EventEmitter, once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";

/** What comes at all comes in some milliseconds; this long is waited for what may never come. */
const SOON = 2500;

const wires = new EventEmitter();

/** Whether it comes true soon. It is asked whenever something happens on a connection. */
async function soon(what: () => boolean): Promise<boolean> {
  const signal = AbortSignal.timeout(SOON);
  while (!what()) {
    const happens = once(wires, "event", { signal });
    if (!(await happens.catch(() => false))) return what();
  }
  return true;
}

/** One end of a connection. */
export class Wire {
  text = ""; // what came, a character for each byte
  sent = "";
  end: "open" | "closed" | "reset" = "open"; // as the other end left it
  left = false; // by this end
  private readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket.setEncoding("latin1").setNoDelay();
    const ends = (how: "closed" | "reset") => () => {
      if (this.end === "open") this.end = how;
      wires.emit("event");
    };
    socket.on("data", (chunk) => {
      this.text += chunk;
      wires.emit("event");
    });
    socket.on("end", ends("closed")).on("error", ends("reset")).on("close", ends("closed"));
  }

  send(text: string): this {
    this.sent += text;
    if (this.socket.writable) this.socket.write(text, "latin1");
    return this;
  }

  /** `finish` sends no more but still reads, `close` does neither, `reset` sends a RST too. */
  leave(how: "finish" | "close" | "reset"): void {
    this.left = true;
    if (how === "finish") this.socket.end();
    else if (how === "close") this.socket.destroy();
    else this.socket.resetAndDestroy();
  }

  async gets(what: RegExp): Promise<boolean> {
    await soon(() => what.test(this.text) || this.end !== "open");
    return what.test(this.text);
  }

  async isLeft(): Promise<boolean> {
    return await soon(() => this.end !== "open");
  }

  /** What a client got: it waits for an answer to all that it sent, or for the end. */
  async answers(): Promise<Message[]> {
    const requests = messages(this.sent);
    const methods = requests.map(({ start }) => start.split(" ")[0] ?? "");
    const answers = () => messages(this.text, { methods, ended: this.end !== "open" });
    const finals = () => answers().filter(isFinal).length;
    await soon(() => this.end !== "open" || finals() >= Math.max(1, requests.length));
    return answers();
  }
}

export class App {
  /** What it does about each request that is whole. */
  react: (wire: Wire) => void = () => {};
  private wires: Wire[] = [];
  private readonly server: Server;

  constructor(port: number) {
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.accept(socket));
    this.server.listen(port, "127.0.0.1");
  }

  private accept(socket: Socket): void {
    const wire = new Wire(socket);
    this.wires.push(wire);
    let seen = 0;
    socket.on("data", () => {
      const whole = messages(wire.text).filter((request) => request.whole).length;
      for (; seen < whole; seen++) this.react(wire);
    });
  }

  get requests(): Message[] {
    return this.wires.flatMap(({ text }) => messages(text));
  }

  /** The connection on which this came: by default the head of a request. */
  async got(what = /\r\n\r\n/): Promise<Wire> {
    const find = () => this.wires.find(({ text }) => what.test(text));
    await soon(() => find() !== undefined);
    const wire = find();
    if (!wire) throw new Error(`the app got no ${what}`);
    return wire;
  }

  /** Closes and forgets its connections: so nginx keeps none either. */
  drop(): void {
    for (const wire of this.wires) wire.leave("close");
    this.wires = [];
  }

  close(): void {
    this.drop();
    this.server.close();
  }
}

export interface Message {
  start: string;
  headers: string[];
  /** How the end of the body is told. */
  framing: string;
  body: string;
  trailers: string[];
  whole: boolean;
}

/** What an answer's body depends on: the methods asked with, and whether the connection ended. */
interface Asked {
  methods: string[];
  ended: boolean;
}

export const isFinal = ({ start, whole }: Message) => whole && !/^\S+ 1(?!01)/.test(start);

/** The requests in these bytes, or the answers to what was asked. The last may lack its end. */
export function messages(text: string, asked?: Asked): Message[] {
  const all: Message[] = [];
  for (let rest = text; rest !== ""; ) {
    const methods = asked?.methods.slice(all.filter(isFinal).length) ?? [];
    const next = read(rest, asked && { ...asked, methods });
    all.push(next);
    rest = next.rest;
  }
  return all;
}

type Read = Message & { rest: string };

function read(text: string, asked?: Asked): Read {
  const end = text.indexOf("\r\n\r\n");
  const [start = "", ...headers] = text.slice(0, end < 0 ? undefined : end).split("\r\n");
  const message = { start, headers, framing: "", body: "", trailers: [], whole: end >= 0 };
  const rest = end < 0 ? "" : text.slice(end + 4);
  const value = (name: string) =>
    headers.find((line) => line.toLowerCase().startsWith(`${name}:`))?.slice(name.length + 1);
  const bare = asked && (asked.methods[0] === "HEAD" || /^\S+ (1(?!01)|204|304)/.test(start));
  if (end < 0 || bare) return { ...message, rest };
  if (value("transfer-encoding")?.endsWith("chunked")) return { ...message, ...readChunks(rest) };
  const length = value("content-length");
  if (length !== undefined) {
    const body = rest.slice(0, Number(length));
    const whole = body.length === Number(length);
    return { ...message, framing: "length", body, whole, rest: rest.slice(body.length) };
  }
  if (!asked) return { ...message, rest };
  const whole = asked.ended || start.includes(" 101 ");
  return { ...message, framing: "to the end", body: rest, whole, rest: "" };
}

function readChunks(text: string): Omit<Read, "start" | "headers"> {
  let rest = text;
  const read = { framing: "chunked", body: "", trailers: [], whole: false, rest: "" };
  for (;;) {
    const [line = "", hex = "", extension = ""] = /^([\da-f]+)(.*)\r\n/i.exec(rest) ?? [];
    const size = Number.parseInt(hex, 16);
    read.framing += extension;
    const last = rest.indexOf("\r\n\r\n", line.length - 2);
    if (size === 0 && last >= 0) {
      const trailers = rest.slice(line.length, last).split("\r\n").filter(Boolean);
      return { ...read, trailers, whole: true, rest: rest.slice(last + 4) };
    }
    if (!size) return read;
    read.body += rest.slice(line.length, line.length + size);
    rest = rest.slice(line.length + size + 2);
  }
}
