// A server in place of yours: it says which of the two it is. /slow takes half a second.
const { createServer } = require("node:http");

const server = createServer((request, response) => {
  const answer = () => response.end(`hello from ${process.pid}\n`);
  if (request.url !== "/slow") return answer();
  console.log("slow");
  setTimeout(answer, 500);
});
server.listen(process.env.PORT, "127.0.0.1");
// pm2 asks with SIGINT, and kills after 1.6 s.
process.once("SIGINT", () => server.close(() => process.exit(0)));
