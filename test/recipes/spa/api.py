"""An API in place of yours. /api/slow/N takes N seconds."""

import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/api/slow/"):
            print("slow\n", end="", flush=True)
            time.sleep(float(self.path.removeprefix("/api/slow/")))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"api\n")


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
