// nginx is transparent. The same bytes go straight to an app and through nginx to it, and
// what both ends get is compared. A difference is in the table, with its reason, or a failure.

import { expect } from "bun:test";
import { connect } from "node:net";
import { freePort, runtimes, section } from "./harness.ts";
import { App, isFinal, type Message, Wire } from "./raw-app.ts";

interface Talk {
  client: Wire;
  app: App;
  /** Notes what a comparison of the bytes would not show. */
  note: (what: string, is: boolean) => void;
}

interface Case {
  name: string;
  request?: string;
  answer?: string;
  /** The app closes the connection after its answer. */
  closes?: boolean;
  /** What both ends do, where that is more than a request and its answer. */
  steps?: (talk: Talk) => Promise<unknown>;
  /** What nginx changes, and why it has to. */
  differs?: { why: string; lines: string[] };
}

// ---- The bytes

const DATE = "Thu, 01 Jan 2026 00:00:00 GMT";
const CHUNKED = "Transfer-Encoding: chunked";
const chunks = (...all: string[]) =>
  all.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("");

function ask(line = "GET /", headers: string[] = [], body = "", version = "1.1"): string {
  return [`${line} HTTP/${version}`, "Host: x", ...headers, "", body].join("\r\n");
}

function put(line: string, body: string): string {
  return ask(line, [`Content-Length: ${body.length}`], body);
}

function reply(status = "200 OK", headers = ["Content-Length: 2"], body = "ok"): string {
  return [`HTTP/1.1 ${status}`, "Server: raw", ...headers, "", body].join("\r\n");
}

const bare = (status: string, ...headers: string[]) =>
  reply(status, ["Content-Length: 0", ...headers], "");
const streamed = (body: string, ...headers: string[]) =>
  reply("200 OK", [CHUNKED, ...headers], body);

// ---- The comparison

/** What belongs to one connection, or is added by design. */
const NOT_COMPARED = /^(connection|x-forwarded-for|x-forwarded-proto):/i;

function short(text: string): string {
  const hash = Bun.hash(text).toString(36);
  return text.length > 70 ? `${text.slice(0, 30)}… (${text.length} bytes, ${hash})` : text;
}

/** Without a header's case, its blanks and its place, but with all its values in their order. */
function headerLines(headers: string[]): string[] {
  const values = new Map<string, string[]>();
  for (const line of headers.filter((header) => !NOT_COMPARED.test(header))) {
    const [name = "", ...rest] = line.split(":");
    const key = name.toLowerCase();
    values.set(key, [...(values.get(key) ?? []), rest.join(":").trim()]);
  }
  return [...values].map(([name, all]) => `${name}: ${short(all.join(" | "))}`).sort();
}

function describe(end: string, message: Message): string[] {
  const { start, headers, framing, body, trailers, whole } = message;
  const lines = [short(start), ...headerLines(headers)];
  if (framing) lines.push(`body (${framing}) ${short(body)}`);
  lines.push(...trailers.map((trailer) => `trailer ${trailer}`));
  if (!whole) lines.push("cut off");
  return lines.map((line) => `${end}: ${line}`);
}

/** What both ends get, line by line. */
async function observe(port: number, app: App, row: Case): Promise<string[]> {
  app.drop();
  app.react = (wire) => {
    if (row.steps) return;
    wire.send(row.answer ?? reply());
    if (row.closes) wire.leave("finish");
  };
  const client = new Wire(connect({ port, host: "127.0.0.1", allowHalfOpen: true }));
  const notes: string[] = [];
  const note = (what: string, is: boolean) => void notes.push(`${what}: ${is}`);
  if (row.steps) await row.steps({ client, app, note });
  else client.send(row.request ?? ask());
  const answers = client.left ? [] : await client.answers();
  const { requests } = app;
  const then = await whatThen(client, app, answers);
  client.leave("close");
  const page = answers.find(({ body }) => body.includes("<center>nginx</center>"));
  if (page) return [`nginx answers ${page.start}; the app got ${requests.length}`];
  return [
    ...notes,
    ...requests.flatMap((request) => describe("app", request)),
    ...answers.flatMap((answer) => describe("client", answer)),
    `then ${then}`,
  ];
}

/** Whether the client can go on with its connection. */
async function whatThen(client: Wire, app: App, before: Message[]): Promise<string> {
  if (client.left) return "left";
  if (client.end !== "open") return client.end;
  if (!before.every(({ whole }) => whole)) return "unfinished";
  app.react = (wire) => wire.send(bare("204 No Content"));
  const after = await client.send(ask()).answers();
  if (after.filter(isFinal).length > before.filter(isFinal).length) return "usable";
  return client.end === "open" ? "stuck" : "closed"; // a RST is the reply to what we just sent
}

function difference(direct: string[], proxied: string[]): string[] {
  if (proxied[0]?.startsWith("nginx answers")) return proxied;
  const without = (lines: string[], others: string[]) => {
    const left = [...others];
    return lines.filter((line) => !left.includes(line) || !left.splice(left.indexOf(line), 1));
  };
  return [
    ...without(direct, proxied).map((line) => `- ${line}`),
    ...without(proxied, direct).map((line) => `+ ${line}`),
  ];
}

// ---- The cases

/** One a line; of headers, an empty line stands between those of two requests. */
const split = (text: string) => text.replace(/^\n/, "").split(/(?<!\r)\n/);
const targets = (text: string): Case[] =>
  split(text).map((line) => ({ name: short(line), request: ask(line) }));
const asked = (text: string): Case[] =>
  text.split("\n\n").map((block) => ({
    name: `request with ${short(block.trim())}`,
    request: ask("GET /", split(block)),
  }));
const answered = (text: string): Case[] =>
  text.split("\n\n").map((block) => ({
    name: `answer with ${short(block.trim())}`,
    answer: reply("200 OK", ["Content-Length: 2", ...split(block)]),
  }));
const statuses = (text: string): Case[] =>
  split(text).map((status) => ({
    name: `status ${status}`,
    answer: bare(status, "Retry-After: 1", 'ETag: "e"', "Allow: GET", "X-A: 1"),
  }));
const differ = (why: string, changes: string[], cases: Case[]): Case[] =>
  cases.map((row) => ({ ...row, differs: { why, lines: changes } }));
const refused = (status: string, why: string, cases: Case[], got = 0): Case[] =>
  differ(why, [`nginx answers HTTP/1.1 ${status}; the app got ${got}`], cases);

const many = Array.from({ length: 90 }, (_, i) => `X-${i}: ${i}`).join("\n");
const big = (size: number) => `X-Big: ${"b".repeat(size)}`;

const requests: Case[] = [
  ...targets(`
GET /
POST /
PUT /
DELETE /
PATCH /
OPTIONS /
PROPFIND /
M-SEARCH /
BREW /
GET /a%2Fb%5C?
GET //double//x/
GET /a/../b/./c
GET /%2e/x
GET /?only
GET /caf%C3%A9?%zz&$host=\${x}
GET /caf\xc3\xa9?\xff
GET /a%20b;p=1;q,r+s
GET /a\\b|c^d\`{}"<>'~
GET /$host$
GET /a#b
GET /${"p".repeat(30_000)}`),
  { name: "HEAD", request: ask("HEAD /"), answer: reply("200 OK", ["Content-Length: 9"], "") },
  ...refused("405 Not Allowed", "nginx answers TRACE itself", targets("TRACE /")),
  ...refused(
    "400 Bad Request",
    "nginx takes methods in capitals, and as a target a path or a URL",
    targets("get /\nCONNECT x:443\nOPTIONS *\nGET /a b"),
  ),
  ...refused(
    "400 Bad Request",
    "nginx decodes a path to choose a location: it must be possible, and not lead above the root",
    targets("GET /%zz\nGET /%\nGET /a%00b\nGET /../x\nGET /%2e%2e/x"),
  ),
  ...refused(
    "414 Request-URI Too Large",
    "there has to be a limit (large_client_header_buffers)",
    targets(`GET /${"p".repeat(70_000)}`),
  ),
  ...differ(
    "the app is an origin to nginx, which is sent a path",
    ["- app: GET http://x/abs?q HTTP/1.1", "+ app: GET /abs?q HTTP/1.1"],
    targets("GET http://x/abs?q"),
  ),

  ...asked(`
Range: bytes=0-0
If-Range: "e"
If-None-Match: "e"
If-Modified-Since: ${DATE}
If-Match: "f"

Cookie: a=1
Cookie: b=2
X-A: 1
Accept: a
X-A: 2
x-a: 3
Accept: b

${big(60_000)}

${many}

X_under_score: 1
x.dot: 2
lower: 3
UPPER: 4
X-Empty:
X-Blanks: \t a  b\t
X-Obs: \xe9\xff
X!#$%&'*+^\`|~: 1

Connection: X-Foo
X-Foo: 1
Proxy-Connection: keep-alive

Upgrade: h2c
Connection: Upgrade, HTTP2-Settings
HTTP2-Settings: AAMAAABk

Forwarded: for=1.2.3.4
X-Forwarded-Host: y
X-Real-IP: 1.2.3.4
Via: 1.1 v
Accept-Encoding: br
Authorization: Basic eDp5
X-Accel-Redirect: /x
Content-Type: a/b
Date: x
Server: y

X-${"n".repeat(3000)}: 1`),
  ...differ(
    "it is said to the next hop alone (RFC 9110, 7.6.1)",
    ["- app: keep-alive: timeout=5", "- app: te: trailers"],
    asked("Connection: TE\nKeep-Alive: timeout=5\nTE: trailers"),
  ),
  ...refused(
    "400 Bad Request",
    "RFC 9112 wants it refused (2.2, 3.2, 5.1, 5.2, 6.3)",
    asked(
      "X-Fold: a\r\n b\n\nNo colon\n\nBlank : x\n\nHost: y\n\nContent-Length: 0\nContent-Length: 0",
    ),
  ),
  ...refused(
    "400 Bad Request",
    "there has to be a limit (large_client_header_buffers)",
    asked(big(70_000)),
  ),

  ...split("x:8080\n[::1]:80\nEXAMPLE.com\na_b\nx.\nx:http\ncaf\xc3\xa9").map((host) => ({
    name: `Host: ${host}`,
    request: `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
  })),
  ...refused(
    "400 Bad Request",
    "RFC 9112 wants a valid Host (3.2)",
    ["", "Host:\r\n", "Host: x y\r\n", "Host: x/y\r\n"].map((host) => ({
      name: `for a host ${host.trim()}`,
      request: `GET / HTTP/1.1\r\n${host}\r\n`,
    })),
  ),
  ...differ(
    "nginx speaks HTTP/1.1 to the app, where a Host is a must",
    ["- app: GET / HTTP/1.0", "+ app: GET / HTTP/1.1", "+ app: host: localhost"],
    [{ name: "HTTP/1.0 without Host", request: "GET / HTTP/1.0\r\n\r\n", closes: true }],
  ),
  ...differ(
    "nginx speaks HTTP/1.1 to the app",
    ["- app: GET / HTTP/1.0", "+ app: GET / HTTP/1.1"],
    [[], ["Connection: keep-alive"]].map((headers) => ({
      name: `HTTP/1.0 ${headers}`,
      request: ask("GET /", headers, "", "1.0"),
      answer: reply("200 OK", [...headers, "Content-Length: 2"]),
      closes: headers.length === 0,
    })),
  ),
  ...differ(
    "HTTP/1.0 has no chunks (RFC 9112, 6.1)",
    [
      "- app: GET / HTTP/1.0",
      "- client: transfer-encoding: chunked",
      "- client: body (chunked) ab",
      "+ app: GET / HTTP/1.1",
      "+ client: body (to the end) ab",
    ],
    [
      {
        name: "chunks for HTTP/1.0",
        request: ask("GET /", [], "", "1.0"),
        answer: streamed(chunks("a", "b", "")),
        closes: true,
      },
    ],
  ),
  {
    name: "Connection: close",
    request: ask("GET /", ["Connection: close"]),
    answer: reply("200 OK", ["Connection: close", "Content-Length: 2"]),
    closes: true,
  },

  { name: "pipelined requests", request: ask("GET /1") + put("POST /2", "two") + ask("GET /3") },
  { name: "an empty body", request: put("POST /", "") },
  { name: "GET with a body", request: put("GET /", "hello") },
  { name: "a body of 300 KB", request: put("POST /", "m".repeat(300_000)) },
  {
    name: "a chunked body that comes chunk by chunk",
    steps: async ({ client, app }) => {
      client.send(ask("POST /", [CHUNKED], chunks("first")));
      await app.got(/first/);
      client.send(chunks("second", ""));
      (await app.got(/second\r\n0\r\n\r\n$/)).send(reply());
    },
  },
  ...differ(
    "nginx tells the length of a chunked body that it has as a whole, and drops the rest",
    [
      "- app: transfer-encoding: chunked",
      "- app: body (chunked;ext=1) abc",
      "- app: trailer X-T: 1",
      "+ app: content-length: 3",
      "+ app: body (length) abc",
    ],
    ["GET", "POST"].map((method) => ({
      name: `${method} with chunks, an extension and trailers`,
      request: ask(`${method} /`, [CHUNKED], "3;ext=1\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
    })),
  ),
  ...refused("400 Bad Request", "that is how requests are smuggled (RFC 9112, 6.3)", [
    {
      name: "two kinds of length",
      request: ask("POST /", [CHUNKED, "Content-Length: 5"], "0\r\n\r\n"),
    },
  ]),
  ...refused("501 Not Implemented", "nginx knows chunks alone", [
    {
      name: "gzip, chunked",
      request: ask("POST /", ["Transfer-Encoding: gzip, chunked"], "0\r\n\r\n"),
    },
  ]),
];

const answers: Case[] = [
  ...statuses(`
200
201 Created
202 Accepted
205 Reset Content
206 Partial Content
299 Odd
300 Choices
400 Bad Request
401 Unauthorized
404 Not Found
408 Timeout
413 Too Large
416 Range
421 Misdirected
426 Upgrade
429 Slower
431 Big
444 None
494 Own
497 Own
499 Gone
500 Error
501 None
502 Bad Gateway
503 Busy
504 Late
507 Full
599 A  Strange: Reason
600 Beyond`),
  ...["204 No Content", "304 Not Modified"].map((status) => ({
    name: `status ${status}`,
    answer: reply(status, ['ETag: "e"', "Vary: a", "X-A: 1"], ""),
  })),
  {
    name: "conditions, which are the app's business",
    request: ask("GET /", ["Range: bytes=0-0", 'If-None-Match: "e"', `If-Modified-Since: ${DATE}`]),
    answer: reply("200 OK", ["Content-Length: 2", 'ETag: "e"', `Last-Modified: ${DATE}`]),
  },
  { name: "304 with a length", answer: reply("304 Same", ["Content-Length: 9"], "") },
  ...["/a?b#c", "a/b", "http://127.0.0.1:81/a", "http://app/a", "http://x/", ""].map((to) => ({
    name: `Location: ${to}`,
    answer: bare("301 Moved", `Location: ${to}`, `Refresh: 1; url=${to}`),
  })),
  ...answered(`
Set-Cookie: a=1
Set-Cookie: b=2
Set-Cookie: c=3
Vary: a
Vary: b
Link: <a>
Link: <b>
WWW-Authenticate: Basic
WWW-Authenticate: Digest

Expires: 0
Cache-Control: no-store
Cache-Control: max-age=3
Pragma: no-cache
Age: 3
Date: ${DATE}
Last-Modified: ${DATE}
ETag: W/"e"
Accept-Ranges: bytes

${big(60_000)}

${many}

X_under: 1
x.dot: 2
lower: 3
UPPER: 4
X-Empty:
X-Obs: \xe9\xff
X-Blanks: \t a\t

Connection: X-Foo
X-Foo: 1
Proxy-Connection: x
Upgrade: h2c
Trailer: x

Content-Type: text/html
Content-Encoding: gzip
Content-Language: de
Content-Disposition: inline
Status: 404 x
X-Sendfile: /x
Alt-Svc: h3

X-Pad: 1

X-Accel-Redirect: /x

X-Accel-Expires: 0

X-Accel-Buffering: yes

X-Accel-Limit-Rate: 1000000

X-Accel-Charset: utf-8
Content-Type: text/html`),
  ...differ(
    "it is said to the next hop alone (RFC 9110, 7.6.1)",
    ["- client: keep-alive: timeout=5"],
    answered("Keep-Alive: timeout=5"),
  ),
  ...differ(
    "nginx takes the last of a header that must be one",
    ["- client: content-type: a/b | c/d", "+ client: content-type: c/d"],
    answered("Content-Type: a/b\nContent-Type: c/d"),
  ),
  ...refused(
    "502 Bad Gateway",
    "nginx takes no invalid header from an app",
    answered("X-Fold: a\r\n b\n\nNo colon\n\nBlank : x"),
    1,
  ),
  ...refused(
    "502 Bad Gateway",
    "there has to be a limit (proxy_buffer_size)",
    answered(big(70_000)),
    1,
  ),
  {
    name: "an answer without Server and Date",
    answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  },
  { name: "a chunked answer", answer: streamed(chunks("a", "bc", "")) },
  { name: "300 KB", answer: reply("200 OK", ["Content-Length: 300000"], "m".repeat(300_000)) },
  { name: "300 KB in a chunk", answer: streamed(chunks("m".repeat(300_000), "")) },
  ...differ(
    "the answer to HEAD has no chunks",
    ["- client: transfer-encoding: chunked"],
    [{ name: "HEAD, chunked", request: ask("HEAD /"), answer: streamed("") }],
  ),
  ...differ(
    "nginx 1.22 drops trailers and what else is said with chunks",
    ["- client: body (chunked;ext=1) a", "- client: trailer X-T: 1", "+ client: body (chunked) a"],
    [{ name: "trailers", answer: streamed("1;ext=1\r\na\r\n0\r\nX-T: 1\r\n\r\n", "Trailer: X-T") }],
  ),
  ...differ(
    "the client's connection is another",
    ["- then closed", "+ then usable"],
    [
      {
        name: "closed by the app",
        answer: reply("200 OK", ["Connection: close", "Content-Length: 2"]),
        closes: true,
      },
    ],
  ),
  ...differ(
    "the client's connection is another, and has chunks",
    [
      "- client: body (to the end) ok",
      "- then closed",
      "+ client: transfer-encoding: chunked",
      "+ client: body (chunked) ok",
      "+ then usable",
    ],
    [{ name: "an answer to the end", answer: reply("200 OK", []), closes: true }],
  ),
  ...differ(
    "nginx speaks HTTP/1.1 to the client",
    ["- client: HTTP/1.0 200 OK", "- then closed", "+ client: HTTP/1.1 200 OK", "+ then usable"],
    [{ name: "HTTP/1.0", answer: "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", closes: true }],
  ),
  ...differ(
    "nginx 1.22 takes it for the answer, and what follows for a body without an end",
    ["- then usable", "+ then stuck"],
    ["100 Continue", "103 Early Hints"].map((status) => ({
      name: `${status} before the answer`,
      answer: `HTTP/1.1 ${status}\r\nLink: <a>\r\n\r\n${reply()}`,
    })),
  ),
];

// ---- The cases in which it matters who does what when

const UPLOAD = ask("POST /", ["Content-Length: 10"], "first");
const EXPECTING = ask("POST /", ["Content-Length: 5", "Expect: 100-continue"]);
const WEBSOCKET = ask("GET /ws", ["Connection: keep-alive, Upgrade", "Upgrade: websocket"]);
const SWITCHED = reply("101 Switching", ["Connection: upgrade", "Upgrade: websocket"], "");

/** The client sends this, and the app's end of the connection got that of it. */
async function start({ client, app }: Talk, bytes = ask(), what?: RegExp): Promise<Wire> {
  client.send(bytes);
  return await app.got(what);
}

const clientLeaves = (name: string, bytes: string, what: RegExp, answer: string): Case => ({
  name: `the client leaves ${name}`,
  steps: async (talk) => {
    const wire = (await start(talk, bytes, what)).send(answer);
    if (answer) talk.note("it is answered", await talk.client.gets(/\r\n\r\n/));
    talk.client.leave("close");
    talk.note("the app is left", await wire.isLeft());
  },
});

const early = (name: string, how?: "finish" | "close"): Case => ({
  name,
  steps: async (talk) => {
    const wire = await start(talk, UPLOAD, /first/);
    wire.send(bare("413 Too Large"));
    if (how) wire.leave(how);
    talk.note("answered", await talk.client.gets(/ 413 /));
    talk.client.send("12345");
  },
});

const appLeaves = (how: "close" | "reset", answers: string[]): Case[] =>
  answers.map((answer) => ({
    name: `${how} after ${answer.slice(-25)}`,
    steps: async (talk) => {
      const wire = (await start(talk)).send(answer);
      if (answer.includes("half")) talk.note("half comes", await talk.client.gets(/half/));
      wire.leave(how);
    },
  }));
const HEADLESS = ["", "HTTP/1.1 200 O"];
const HALVES = [reply("200 OK", ["Content-Length: 9"], "half"), streamed("9\r\nhalf")];

const talks: Case[] = [
  ...differ(
    "nginx answers Expect itself",
    ["- app: expect: 100-continue"],
    [
      {
        name: "a body that is asked for",
        steps: async (talk) => {
          const wire = await start(talk, EXPECTING);
          if (/^expect:/im.test(wire.text)) wire.send("HTTP/1.1 100 Continue\r\n\r\n");
          talk.note("asked for", await talk.client.gets(/ 100 Continue/));
          (await start(talk, "12345", /12345/)).send(reply());
        },
      },
    ],
  ),
  ...differ(
    "nginx answers Expect itself, and keeps no connection with a body that it has not read",
    [
      "- app: expect: 100-continue",
      "- then usable",
      "+ client: HTTP/1.1 100 Continue",
      "+ then closed",
    ],
    [
      {
        name: "a body that is refused before it comes",
        steps: async (talk) => {
          (await start(talk, EXPECTING)).send(bare("417 Expectation Failed"));
          talk.note("refused", await talk.client.gets(/ 417 /));
          talk.client.send("12345");
        },
      },
    ],
  ),
  early("413, and close", "close"),
  early("413, and read on", "finish"),
  ...differ(
    "nginx keeps no connection with a body that it has not read",
    ["- then usable", "+ then closed"],
    [early("413, and keep the connection")],
  ),
  {
    name: "an answer while the body comes",
    steps: async (talk) => {
      const wire = await start(talk, ask("POST /", [CHUNKED], chunks("first")), /first/);
      wire.send(streamed(chunks("one")));
      talk.note("answered", await talk.client.gets(/one/));
      (await start(talk, chunks("second", ""), /second\r\n0\r\n/)).send(chunks("two", ""));
    },
  },
  {
    name: "an event that comes before the next is sent",
    steps: async (talk) => {
      const wire = (await start(talk)).send(streamed("", "Content-Type: text/event-stream"));
      talk.note("head", await talk.client.gets(/\r\n\r\n/));
      for (const event of ["one", "two"]) {
        wire.send(chunks(event));
        talk.note(event, await talk.client.gets(new RegExp(event)));
      }
      wire.send(chunks(""));
    },
  },
  {
    name: "a WebSocket, left by the app",
    steps: async (talk) => {
      const wire = (await start(talk, WEBSOCKET)).send(SWITCHED);
      talk.note("switched", await talk.client.gets(/ 101 /));
      talk.client.send("\x00ping\xff");
      talk.note("to the app", await wire.gets(/ping\xff$/));
      wire.send("\x00pong\xff");
      talk.note("to the client", await talk.client.gets(/pong\xff$/));
      wire.leave("close");
    },
  },
  clientLeaves("its WebSocket", WEBSOCKET, /websocket/, SWITCHED),
  clientLeaves("in the middle of its body", UPLOAD, /first/, ""),
  clientLeaves("before the answer", ask(), /GET/, ""),
  clientLeaves("in the middle of the answer", ask(), /GET/, streamed(chunks("half"))),
  { name: "an upgrade refused", request: WEBSOCKET, answer: bare("426 Upgrade", "Upgrade: x") },
  { name: "an upgrade ignored", request: WEBSOCKET },
  ...differ(
    "nginx takes a half-closed client for one that left (unless proxy_ignore_client_abort)",
    ["- answered: true", "+ answered: false"],
    [
      {
        name: "a half-closed client",
        steps: async (talk) => {
          const wire = await start(talk);
          talk.client.leave("finish");
          await wire.isLeft();
          wire.send(reply());
          talk.note("answered", await talk.client.gets(/ok/));
        },
      },
    ],
  ),
  ...appLeaves("close", HALVES),
  ...differ(
    "nginx closes without a RST",
    ["- then reset", "+ then closed"],
    appLeaves("reset", HALVES),
  ),
  ...refused(
    "502 Bad Gateway",
    "nginx answers where the app does not",
    [...appLeaves("close", HEADLESS), ...appLeaves("reset", HEADLESS)],
    1,
  ),
  // The app got 2 with the request that made nginx keep the connection, 3 if one was sent again.
  ...refused("502 Bad Gateway", "nginx answers where the app does not", [onKept("POST")], 2),
  ...refused(
    "502 Bad Gateway",
    "nginx asks once more what RFC 9110, 9.2.2, lets a proxy ask twice, else requests would be lost",
    ["GET", "PUT", "DELETE"].map(onKept),
    3,
  ),
];

function onKept(method: string): Case {
  return {
    name: `${method} on a kept connection that the app closes`,
    steps: async ({ client, app }) => {
      app.react = (wire) => wire.send(reply());
      await client.send(ask()).answers();
      app.react = (wire) => wire.leave("close");
      client.send(put(`${method} /`, "x"));
    },
  };
}

const cases = [...requests, ...answers, ...talks];

section(
  "transparent",
  (it) => {
    it("nginx changes nothing but what is in the table", async (box) => {
      const [port, appPort] = [await freePort(), await freePort()];
      // The app's process holds its place in the table: who listens for it is the test.
      const run = box.start(["sh", "-c", "echo up; exec sleep 1000"], {
        env: { PORT: `${port}`, APP_PORT: `${appPort}` },
        wrap: (command) => ["taskset", "-c", "0", ...command], // one worker: it keeps connections
      });
      await run.line(/^app {3}\| up/);
      const app = new App(appPort);
      await run.line(/ready in/);
      const found: Record<string, string[]> = {};
      const expected: Record<string, string[]> = {};
      for (const row of cases) {
        const direct = await observe(appPort, app, row);
        const lines = difference(direct, await observe(port, app, row));
        if (lines.length > 0) found[row.name] = lines;
        if (row.differs) expected[row.name] = row.differs.lines;
      }
      app.close();
      await run.stopsWell();
      expect(found).toEqual(expected);
    });
  },
  runtimes.slice(0, 1), // nginx is the same whatever starts it
);
