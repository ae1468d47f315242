# A Celery worker's task of 1.2 s.
import os
import time

from celery import Celery

redis = "redis://127.0.0.1:" + os.environ["REDIS"]
tasks = Celery("tasks", broker=redis, backend=redis)


@tasks.task
def work():
    with open("arrived", "a") as arrived:
        arrived.write(".")
    time.sleep(1.2)
    with open("finished", "a") as finished:
        finished.write(".")
