"""When a server is left alone, and how it is found to be well again."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import threading
import time

import pytest
import redis

from apps.ratelimits.storage import breaker as module
from apps.ratelimits.storage.breaker import Breaker
from apps.ratelimits.storage.errors import BreakerOpen

from .connecting import eventually


class Server:
    """What a probe asks: well or not, and how often it was asked."""

    def __init__(self) -> None:
        self.well = False
        self.asked_s: list[float] = []

    def __call__(self) -> None:
        self.asked_s.append(time.monotonic())
        if not self.well:
            raise redis.ConnectionError("not yet")


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def make(server):
    made = []

    def make(failures=3, open_s=0.02, probe=server):
        made.append(Breaker("server", failures, open_s, probe))
        return made[-1]

    yield make
    for breaker in made:
        breaker.stop()


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def test_it_opens_after_so_many_failures_in_a_row(make):
    breaker = make()
    fail(breaker, 2)
    breaker.before_call()
    breaker.succeeded()
    fail(breaker, 2)
    breaker.before_call()
    breaker.failed()
    with pytest.raises(BreakerOpen):
        breaker.before_call()
    assert breaker.failed_total == 5


def test_no_call_is_let_through_until_a_probe_has_succeeded(make, server):
    breaker = make()
    fail(breaker, 3)
    eventually(lambda: len(server.asked_s) > 3)
    with pytest.raises(BreakerOpen):
        breaker.before_call()
    server.well = True
    eventually(lambda: not breaker.is_open)
    breaker.before_call()
    assert breaker.in_a_row == 0
    asked = len(server.asked_s)
    time.sleep(0.1)
    assert len(server.asked_s) == asked


def test_a_late_reply_to_an_earlier_call_does_not_close_it(make):
    breaker = make()
    fail(breaker, 3)
    breaker.succeeded()
    with pytest.raises(BreakerOpen):
        breaker.before_call()


def test_failures_while_it_is_open_start_no_second_thread(make):
    breaker = make()
    fail(breaker, 50)
    probing = [t for t in threading.enumerate() if t.name == "ratelimits-probe-server"]
    assert len(probing) == 1


def test_the_waits_between_probes_differ(make, server):
    breaker = make(open_s=0.1)
    fail(breaker, 3)
    eventually(lambda: len(server.asked_s) >= 6)
    waits = [b - a for a, b in zip(server.asked_s, server.asked_s[1:], strict=False)]
    assert min(waits) >= 0.1 * module.LEAST_WAIT
    assert max(waits) - min(waits) > 0.001


def test_it_can_be_opened_at_once(make, server):
    breaker = make(failures=100)
    breaker.trip()
    with pytest.raises(BreakerOpen):
        breaker.before_call()
    server.well = True
    eventually(lambda: not breaker.is_open)


def test_a_probe_that_is_wrong_itself_is_reported_and_made_again(make, caplog):
    asked = []

    def wrong_at_first():
        asked.append(1)
        if len(asked) == 1:
            raise TypeError("a mistake of ours")

    breaker = make(probe=wrong_at_first)
    fail(breaker, 3)
    eventually(lambda: not breaker.is_open)
    assert "a mistake of ours" in caplog.text


def test_a_breaker_that_nobody_holds_ends_its_thread(server):
    breaker = Breaker("nobody", 1, 0.02, server)
    breaker.failed()
    del breaker
    gc.collect()
    eventually(lambda: "ratelimits-probe-nobody" not in {t.name for t in threading.enumerate()})


def test_one_that_was_stopped_is_never_open(make):
    """Nobody would close it."""
    breaker = make(open_s=60)
    fail(breaker, 3)
    breaker.stop()
    breaker.before_call()
    fail(breaker, 10)
    breaker.trip()
    breaker.before_call()


def no_threads(monkeypatch):
    """None can be started: the process has too many, or the interpreter is at its end."""

    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_where_no_thread_can_be_started_the_next_request_starts_the_probes(
    make, server, monkeypatch
):
    breaker = make()
    with monkeypatch.context() as patched:
        no_threads(patched)
        fail(breaker, 3)
        with pytest.raises(BreakerOpen):
            breaker.before_call()
    server.well = True
    with pytest.raises(BreakerOpen):
        breaker.before_call()
    eventually(lambda: not breaker.is_open)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_the_probes_thread_has_died_the_next_request_starts_another(make):
    asked = []

    def deadly_at_first():
        asked.append(1)
        if len(asked) == 1:
            raise SystemExit

    breaker = make(probe=deadly_at_first)
    fail(breaker, 3)

    def closed():
        with contextlib.suppress(BreakerOpen):
            breaker.before_call()
        return not breaker.is_open

    eventually(closed)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_begins_with_a_closed_one(make):
    """It has no thread that would ever close it."""
    breaker = make(open_s=60)
    fail(breaker, 3)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(int(breaker.is_open))
    )
    child.start()
    child.join(10)
    assert child.exitcode == 0
    assert breaker.is_open
