// A gRPC server, which browsers cannot talk to.

import { setTimeout as sleep } from "node:timers/promises";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
} from "@grpc/grpc-js";
import {
  type CountReply,
  CountReplySchema,
  type CountRequest,
  Greeter,
  type HelloReply,
  HelloReplySchema,
  type HelloRequest,
} from "./greet_pb.ts";

const hello: handleUnaryCall<HelloRequest, HelloReply> = (call, answer) => {
  console.log(`Hello ${call.request.name}`);
  answer(null, create(HelloReplySchema, { text: `Hello, ${call.request.name}` }));
};

const count: handleServerStreamingCall<CountRequest, CountReply> = async (call) => {
  console.log(`Count to ${call.request.to}`);
  for (let number = 1; number <= call.request.to && !call.cancelled; number++) {
    call.write(create(CountReplySchema, { number }));
    await sleep(100);
  }
  call.end();
};

/** How grpc-js wants a method described. */
function method<I extends DescMessage, O extends DescMessage>(of: {
  name: string;
  methodKind: string;
  input: I;
  output: O;
}) {
  return {
    path: `/${Greeter.typeName}/${of.name}`,
    requestStream: false,
    responseStream: of.methodKind === "server_streaming",
    requestSerialize: (message: MessageShape<I>) => Buffer.from(toBinary(of.input, message)),
    requestDeserialize: (bytes: Buffer) => fromBinary(of.input, bytes),
    responseSerialize: (message: MessageShape<O>) => Buffer.from(toBinary(of.output, message)),
    responseDeserialize: (bytes: Buffer) => fromBinary(of.output, bytes),
  };
}

const server = new Server();
const methods = { hello: method(Greeter.method.hello), count: method(Greeter.method.count) };
server.addService(methods, { hello, count });
server.bindAsync(`127.0.0.1:${process.env.PORT}`, ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
process.on("SIGTERM", () => server.tryShutdown(() => process.exit()));
