"""The app of the article's repository in kind: one page, by Flask."""

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return "Hello from Flask\n"
