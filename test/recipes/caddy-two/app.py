"""Two apps in place of yours: its word is the answer. /slow/N and /api/slow/N take N seconds."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.removeprefix("/api")
        if path.startswith("/slow/"):
            print("slow\n", end="", flush=True)
            time.sleep(float(path.removeprefix("/slow/")))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{sys.argv[1]}\n".encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
