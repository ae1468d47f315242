# Writes one stack trace of each kind, each behind a line `== name`, and dies of the last one.
# `logged`: a logger's own line is in front. `loose`: the message has lines that nothing tells.
import json
import logging
import sys
import threading
import traceback


def inner():
    raise ValueError("the cause")


def again():
    try:
        inner()
    except ValueError:
        return {}["missing"]


def caused():
    try:
        inner()
    except ValueError as error:
        raise RuntimeError("the effect") from error


def thrice():
    try:
        caused()
    except RuntimeError:
        json.loads("{")


def deep(n):
    return deep(n - 1) if n else inner()


def endless(n):
    return endless(n + 1)


def lines(text):
    raise ValueError(text)


def interrupted():
    raise KeyboardInterrupt


class OwnError(Exception):
    pass


def own():
    raise OwnError


def group():
    errors = []
    for call in (inner, caused, again):
        try:
            call()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", [*errors, ExceptionGroup("more", [TypeError(1)])])


def syntax():
    compile("x = 1\nif x\n  y = (", "<config>", "exec")


def indentation():
    compile("if x:\ny = 1", "<config>", "exec")


def mark(name):
    print(f"== {name}", file=sys.stderr)


def shown(name, call, *args):
    mark(name)
    try:
        call(*args)
    except BaseException:
        traceback.print_exc()


def logged(name, call):
    mark(name)
    try:
        call()
    except Exception as error:
        logging.exception("request failed: %s", error)


def in_thread():
    threading.excepthook = lambda args: traceback.print_exception(args.exc_value)
    thread = threading.Thread(target=again)
    thread.start()
    thread.join()


shown("one", inner)
shown("again", again)
shown("caused", caused)
shown("thrice", thrice)
shown("deep", deep, 30)
shown("endless, loose", endless, 0)  # it takes long between its first line and the next
shown("group", group)
shown("syntax", syntax)
shown("indentation", indentation)
shown("own class", own)
shown("assertion", lambda: exec("assert False"))
shown("stop", sys.exit, 3)
shown("keys", interrupted)
shown("indented message", lines, "2 fields are wrong\n  name: missing\n\tage: no number")
shown("loose message", lines, "first\nsecond\n\nlast")
shown("in a message: Traceback (most recent call last)", inner)
mark("thread")
in_thread()
logged("logged by the root", caused)
logging.basicConfig(format="%(asctime)s %(levelname)s [%(name)s] %(message)s", force=True)
logged("logged with a time", again)
logging.basicConfig(format="[%(asctime)s: %(levelname)s/Main] %(message)s", force=True)
logged("logged in brackets", group)
mark("stack")
sys.stderr.write("Stack (most recent call last):\n" + "".join(traceback.format_stack()))
mark("dies")
thrice()
