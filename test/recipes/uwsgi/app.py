"""A Flask app in place of yours. /slow takes half a second."""

import time

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return "hello\n"


@app.route("/slow")
def slow():
    print("slow\n", end="", flush=True)
    time.sleep(0.5)
    return "hello\n"
