// Does the jobs one by one. At a stop it finishes the one that it has.

import { Database } from "bun:sqlite";
import { RedisClient } from "bun";

const db = new Database(process.env.DATABASE);
const redis = new RedisClient(process.env.REDIS_URL);
let stopping = false;
process.once("SIGTERM", () => {
  stopping = true;
});

while (!stopping) {
  const [, id = ""] = (await redis.send("BRPOP", ["jobs", "0.5"])) ?? [];
  if (id === "") continue;
  db.run("update jobs set result = upper(text) where id = ?", [id]);
  console.log(`did job ${id}`);
}
process.exit();
