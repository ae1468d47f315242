# Listens, and is asked to stop: python3 fake.py NAME [tcp=PORT] [udp=PORT] [unix=PATH] [job=SECONDS] …
# When it is asked it closes, finishes its job, and ends with 0. It says so on stdout and in the file `log`.
import os, signal, socket, sys, time

name = sys.argv[1]
job = 0
sockets = []
for what, value in (word.split("=") for word in sys.argv[2:]):
    if what == "job":
        job = float(value)
        continue
    s = socket.socket(
        socket.AF_UNIX if what == "unix" else socket.AF_INET,
        socket.SOCK_DGRAM if what == "udp" else socket.SOCK_STREAM,
    )
    s.bind(value if what == "unix" else ("127.0.0.1", int(value)))
    if what != "udp":
        s.listen()
    sockets.append(s)


def say(word, signal=""):
    os.write(1, f"{word}\n".encode())  # print would not be reentrant
    with open("log", "a") as log:
        log.write(f"{word} {name}{signal}\n")


def stop(number, _):
    say("asked", "" if number == signal.SIGTERM else f" by {signal.Signals(number).name}")
    for s in sockets:
        s.close()
    time.sleep(job)
    say("ended")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
os.write(1, b"up\n")
while True:
    signal.pause()
