"""An app that reaches another server, by the proxy that http_proxy names, from its start on."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import urlopen


def ask(url):
    try:
        with urlopen(url) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.reason.encode()


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        """/?URL gives what is there."""
        status, body = ask(self.path[2:])
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


status, body = ask(os.environ["API"])  # before it listens: the proxy must be there by now
print(f"{status} {body.decode()}", flush=True)
if status != 200:
    raise SystemExit(1)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), App).serve_forever()
