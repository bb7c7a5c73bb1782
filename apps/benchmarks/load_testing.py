"""A load test from its row to its verdict: locust as a process of its own, watched, and stopped.

    QUEUED -> RUNNING -> DONE      judged: ``verdict`` and ``lines`` say what came of it
                      -> FAILED    locust did not come to a verdict; ``note`` says why
                      -> STOPPED   asked for by staff
                      -> LOST      its worker gave no sign of life (``mark_lost``)

One is RUNNING at a time, and none beside a benchmark, which it would measure.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from apps.ratelimits.engine import get_engine

from . import exchange, foreign, promised, revision
from .described import described
from .fingerprint import of_this_machine
from .load_test import LoadTest
from .models import BenchmarkRun
from .recording import LOST_AFTER_S, NEVER_STARTED_AFTER, Busy, told
from .servers import dying_with_us, stop

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
LOCUSTFILE = ROOT / "loadtests" / "locustfile.py"
POLL_S = 1.0
LATE_S = 60.0
"""So long after its time locust is ended."""
MAX_NOTE_CHARS = 2_000
VERDICTS = {0: LoadTest.Verdict.MET, 1: LoadTest.Verdict.MISSED, 3: LoadTest.Verdict.INVALID}
"""By locust's exit code: loadtests/criteria.py."""
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of the worker's environment: it has secrets of the site, which locust needs none of."""

State = LoadTest.State


def refusal(target: str, users: int, seconds: int) -> str:
    """Why there must be no such load test, or an empty text."""
    if target not in settings.IOTA_LOADTEST_TARGETS:
        return f"{target[:100]!r} is not in IOTA_LOADTEST_TARGETS."
    if not 1 <= users <= settings.IOTA_LOADTEST_MAX_USERS:
        return f"{users:,} users: use 1 to {settings.IOTA_LOADTEST_MAX_USERS:,}."
    if not 1 <= seconds <= settings.IOTA_LOADTEST_MAX_SECONDS:
        return f"{seconds:,} s: use 1 to {settings.IOTA_LOADTEST_MAX_SECONDS:,}."
    return ""


def perform(test: LoadTest) -> None:
    """One that is QUEUED, to its end; one that is not is left alone.

    Raises Busy, with the row as it was, where another one or a benchmark is RUNNING.
    """
    if not _claim(test):
        return
    try:
        # Asked again: the setting may have changed since the page was sent.
        why = refusal(test.target, test.users, test.seconds)
        if not why and importlib.util.find_spec("locust") is None:
            why = "The worker has no locust: install the version that requirements.txt names."
        if why:
            _end(test, State.FAILED, note=why)
            return
        with tempfile.TemporaryDirectory(prefix="iota-load-") as folder:
            _load(test, Path(folder))
    except Exception as error:
        # Whatever it was, none may stay RUNNING: it would keep all others waiting.
        logger.exception("%s failed", test)
        _end(test, State.FAILED, note=told(error))
    except BaseException:
        _end(test, State.STOPPED, note="Interrupted.")
        raise


def mark_lost() -> int:
    """Those whose worker is no more, and those that nobody ever took. How many they were."""
    now = timezone.now()
    silent = now - timedelta(seconds=LOST_AFTER_S)
    dead = LoadTest.objects.filter(state=State.RUNNING, seen_at__lt=silent)
    lost = dead.update(state=State.LOST, ended_at=now)
    old = LoadTest.objects.filter(state=State.QUEUED, queued_at__lt=now - NEVER_STARTED_AFTER)
    return lost + old.update(state=State.LOST, ended_at=now)


def _claim(test: LoadTest) -> bool:
    """Raises Busy."""
    now = timezone.now()
    try:
        with transaction.atomic():
            waiting = LoadTest.objects.filter(pk=test.pk, state=State.QUEUED)
            claimed = waiting.update(state=State.RUNNING, started_at=now, seen_at=now)
            if BenchmarkRun.objects.filter(state=BenchmarkRun.State.RUNNING).exists():
                raise Busy("a benchmark is being measured")
            return bool(claimed)
    except IntegrityError:
        raise Busy("another load test is running") from None


def _load(test: LoadTest, folder: Path) -> None:
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            dying_with_us(_command(test, folder)),
            cwd=ROOT,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ}
            | {"LOAD_SHAPE": test.shape, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        stopped = _watch(test, process, folder)
    finally:
        if process.poll() is None:
            stop(process)
    _conclude(test, process.returncode, folder, stopped=stopped)


def _command(test: LoadTest, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    command += ["--only-summary", "--loglevel", "WARNING", "--host", test.target]
    command += ["--users", str(test.users), "--spawn-rate", str(test.per_s)]
    command += ["--run-time", f"{test.seconds}s", "--stop-timeout", "5", "--not-alone"]
    command += ["--json-file", str(folder / "stats"), "--verdict-file", str(folder / "verdict")]
    command += ["--progress-file", str(folder / "progress")]
    if test.same_limits:
        engine = get_engine()
        engine.refresh()
        limits = folder / "limits.json"
        limits.write_text(json.dumps(promised.rows(engine.index)), encoding="utf-8")
        command += ["--limits", str(limits)]
    if test.own_addresses:
        command.append("--own-addresses")
    return [*command, "Anonymous"]


def _watch(test: LoadTest, process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Until it ends, or is to: then it is asked to, and True returned."""
    deadline_s = time.monotonic() + test.seconds + LATE_S
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
        values: dict[str, Any] = {"seen_at": timezone.now()}
        if progress := _read(folder / "progress"):
            values["progress"] = progress
        mine = LoadTest.objects.filter(pk=test.pk, state=State.RUNNING)
        if not mine.filter(stop_asked=False).update(**values):
            stop(process)
            return True
        if time.monotonic() > deadline_s:
            stop(process)
            raise TimeoutError(f"locust did not end {LATE_S:.0f} s after its time")
    return False


def _conclude(test: LoadTest, code: int, folder: Path, *, stopped: bool) -> None:
    verdict = _read(folder / "verdict")
    if stopped:
        _end(test, State.STOPPED, lines=verdict.get("lines", []))
        return
    if code not in VERDICTS or not verdict:
        said = (folder / "said").read_text(errors="replace")[-MAX_NOTE_CHARS:]
        _end(test, State.FAILED, note=f"locust ended with exit code {code}.\n{said}".strip())
        return
    values: dict[str, Any] = {"verdict": VERDICTS[code]}
    values |= {"lines": verdict["lines"], "reasons": verdict["reasons"]}
    if code != 3:
        values["run"] = _recorded(test, folder, verdict)
    _end(test, State.DONE, **values)


def _recorded(test: LoadTest, folder: Path, verdict: dict[str, Any]) -> BenchmarkRun | None:
    """As a run of benchmarks, so that it has a trend; none where nothing was answered."""
    text = (folder / "stats.json").read_text(encoding="utf-8")
    machine = {**of_this_machine(), "measured by": "locust"}
    parameters = {"users": test.users, "target": urlsplit(test.target).netloc[:100]}
    if test.shape:
        parameters["shape"] = test.shape
    try:
        (found,) = foreign.read(text, "locust", machine, datetime.now(UTC))
    except exchange.Malformed:
        return None
    note = "\n".join([f"{test}: {verdict['verdict']}", *verdict["lines"]])
    one = described(
        found,
        parameters,
        note=note,
        code=revision.current(),
        requested_by_id=test.requested_by_id,
    )
    exchange.store([one])
    return BenchmarkRun.objects.get(uid=one.uid)


def _read(path: Path) -> dict[str, Any]:
    """Empty where it is not there, or half written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _end(test: LoadTest, state: str, **values: Any) -> None:
    LoadTest.objects.filter(pk=test.pk, state=State.RUNNING).update(
        state=state, ended_at=timezone.now(), **values
    )
