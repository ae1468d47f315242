// A server that dies of a second signal: node server.cjs PORT DIR. GET /500 takes 500 ms.
// Writes into files of DIR: each start, each request that arrives, each signal.
const fs = require("node:fs");

const [port, dir] = process.argv.slice(2);
const note = (file, text) => fs.appendFileSync(`${dir}/${file}`, `${text}\n`);

const server = require("node:http").createServer((request, response) => {
  note("arrived", request.url);
  const done = () => response.setHeader("Connection", "close").end("done");
  setTimeout(done, Number(request.url.slice(1)));
});
process.once("SIGTERM", () => {
  note("asked", "SIGTERM");
  server.close();
  process.once("SIGTERM", () => {
    note("asked", "SIGTERM");
    process.exit(143);
  });
});
server.listen(port, "127.0.0.1", () => note("started", process.pid));
