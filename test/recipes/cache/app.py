"""An app that keeps what it has worked out in memcached."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pymemcache.client.base import PooledClient

cache = PooledClient(os.environ["MEMCACHED"])
cache.set("started", "yes")  # before it listens: the cache must be there by now


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        """/KEY gives a value, and tells whether it was in the cache."""
        key = self.path[1:] or "nothing"
        value = cache.get(key)
        found = value is not None
        if not found:
            value = key.upper().encode()
            cache.set(key, value)
        self.send_response(200)
        self.send_header("X-Cache", "hit" if found else "miss")
        self.end_headers()
        self.wfile.write(value)


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
