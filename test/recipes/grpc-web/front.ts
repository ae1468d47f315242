// Takes gRPC-Web (and Connect, and gRPC) over HTTP/1.1 and passes it on as gRPC.

import { createServer } from "node:http";
import { createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import { Greeter } from "./greet_pb.ts";

const greeter = createClient(
  Greeter,
  createGrpcTransport({ baseUrl: `http://${process.env.GRPC_SERVER}` }),
);
const adapter = connectNodeAdapter({
  routes: (router) =>
    router.service(Greeter, {
      hello: (request, { signal }) => greeter.hello(request, { signal }),
      count: (request, { signal }) => greeter.count(request, { signal }),
    }),
});
const server = createServer(adapter).listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit()));
