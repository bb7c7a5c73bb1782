"""A task that takes its time, for a worker that is asked to end meanwhile."""

import time
from pathlib import Path

from celery import shared_task


@shared_task(name="tests.slow")
def slow(folder: str, number: int, seconds: float) -> None:
    (Path(folder) / f"{number}.begun").touch()
    time.sleep(seconds)
    (Path(folder) / f"{number}.done").touch()
