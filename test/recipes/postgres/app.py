"""Counts its requests in postgres. /slow takes half a second there."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2


def ask(statement):
    with psycopg2.connect(os.environ["DATABASE_URL"]) as db, db.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            print("slow\n", end="", flush=True)
            ask("select 1 from pg_sleep(0.5)")
        number = ask("update requests set number = number + 1 returning number")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"request {number}\n".encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
