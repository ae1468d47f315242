// POST / takes a job and gives its number; GET /NUMBER gives its result.

import { Database } from "bun:sqlite";
import { RedisClient } from "bun";

const db = new Database(process.env.DATABASE);
const redis = new RedisClient(process.env.REDIS_URL);
const insert = db.query<{ id: number }, string>("insert into jobs (text) values (?) returning id");
const select = db.query<{ result: string | null }, string>("select result from jobs where id = ?");

async function take(text: string): Promise<Response> {
  const id = insert.get(text)?.id;
  await redis.send("LPUSH", ["jobs", `${id}`]);
  return new Response(`${id}`, { status: 202 });
}

function give(id: string): Response {
  const result = select.get(id)?.result;
  return result ? new Response(result) : new Response("not yet", { status: 404 });
}

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: process.env.PORT ?? 8081,
  fetch: async (request) =>
    request.method === "POST"
      ? take(await request.text())
      : give(new URL(request.url).pathname.slice(1)),
});

process.once("SIGTERM", async () => {
  await server.stop();
  process.exit();
});
