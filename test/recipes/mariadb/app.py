"""Counts its requests in MariaDB. /slow takes half a second there."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pymysql


def ask(*statements):
    with pymysql.connect(unix_socket="/tmp/db.sock", user="root", autocommit=True) as db:
        with db.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchone()


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            print("slow\n", end="", flush=True)
            ask("select sleep(0.5)")
        ask("insert into app.requests values ()", "select 1")
        [number] = ask("select count(*) from app.requests")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"request {number}\n".encode())


# A migration that needs the database of its own container.
ask("create database if not exists app", "select 1")
ask("create table if not exists app.requests (id int auto_increment primary key)", "select 1")
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
