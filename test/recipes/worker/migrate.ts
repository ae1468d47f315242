// Brings the database to the form that the web app and the worker expect.

import { Database } from "bun:sqlite";

const db = new Database(process.env.DATABASE, { create: true });
db.run("pragma journal_mode = wal"); // two processes use it
db.run("create table if not exists jobs (id integer primary key, text text, result text)");
console.log(`migrated, ${db.query("select * from jobs").all().length} jobs`);
