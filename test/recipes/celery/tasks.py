"""A task, and when it is due."""

import os
import time

from celery import Celery

tasks = Celery("tasks", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
tasks.conf.beat_schedule = {"work": {"task": "tasks.work", "schedule": 1}}  # each second


@tasks.task
def work():
    print("slow", flush=True)
    time.sleep(0.5)
