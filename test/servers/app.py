# A WSGI application: each answer takes 1.2 s. The file `arrived` has a dot for each request.
import time


def app(environ, start):
    if environ["PATH_INFO"] == "/slow":
        with open("arrived", "a") as arrived:
            arrived.write(".")
        time.sleep(1.2)
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


application = app
