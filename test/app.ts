// The demo app: a small HTTP server with everything in it that a proxy in front could break.

const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Hello</title>
    <link rel="stylesheet" href="/static/style.css">
  </head>
  <body>
    <h1>Hello from the app</h1>
    <p>This page is from the app, the picture and the style sheet are from nginx.</p>
    <img src="/static/picture.svg" alt="Two boxes behind one door" width="240">
  </body>
</html>
`;

const subscribers = new Set<ReadableStreamDefaultController<Uint8Array>>();
let events = 0;

function tell(subscriber: ReadableStreamDefaultController<Uint8Array>): void {
  subscriber.enqueue(Buffer.from(`data: ${events}\n\n`));
}

function serverSentEvents(): Response {
  let subscriber: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      subscriber = controller;
      subscribers.add(subscriber);
      tell(subscriber);
    },
    cancel() {
      subscribers.delete(subscriber);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

function nextEvent(): Response {
  events++;
  for (const subscriber of subscribers) tell(subscriber);
  return new Response(`${events}\n`);
}

let uploaded = 0;

/** Counts the bytes as they come: GET /upload tells how many there are so far. */
async function count(body: ReadableStream<Uint8Array> | null): Promise<void> {
  uploaded = 0;
  for await (const chunk of body ?? []) uploaded += chunk.length;
}

await Bun.sleep(Number(process.env.BOOT_MS ?? 0));

const server = Bun.serve({
  port: process.env.PORT ?? 8081,
  idleTimeout: 0,
  async fetch(request, server) {
    const { pathname, searchParams } = new URL(request.url);
    console.log(`${request.method} ${pathname}`);
    switch (pathname) {
      case "/":
        return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
      case "/slow":
        await Bun.sleep(Number(searchParams.get("ms")));
        return new Response("slow, but here\n");
      case "/upload":
        if (request.method === "POST") await count(request.body);
        return new Response(`${uploaded}\n`);
      case "/events":
        return serverSentEvents();
      case "/events/next":
        return nextEvent();
      case "/ws":
        if (server.upgrade(request)) return undefined;
        return new Response("this is for WebSockets\n", { status: 426 });
      case "/headers":
        return Response.json([...request.headers]);
      case "/big-headers":
        return new Response("big\n", { headers: { "x-big": "b".repeat(12_000) } });
      case "/env":
        return Response.json(process.env);
      case "/exit":
        process.exit(Number(searchParams.get("code")));
    }
    return new Response("no such page\n", { status: 404 });
  },
  websocket: {
    message(socket, message) {
      socket.send(message);
    },
  },
});

process.once("SIGTERM", async () => {
  for (const subscriber of subscribers) subscriber.close();
  await server.stop();
  process.exit(0);
});

console.log(`listening on port ${server.port}`);
