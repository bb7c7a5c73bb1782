"""The sync transport where who asks is interrupted, wherever that is: nothing is mixed up."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from apps.ratelimits.storage import connections
from apps.ratelimits.storage.packing import command

from .connecting import (
    PING,
    blocked,
    clients,
    echo,
    eventually,
    make,
    observer,
    opened,
    said,
    server,
    talk,
)

__all__ = ["make", "observer", "opened", "server"]


def test_who_is_interrupted_while_waiting_takes_no_place(make, observer):
    made = make(1)
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(made.ask, command("BLPOP", "go", 0))
        eventually(lambda: blocked(observer) == 1)
        with interrupted(0.1), pytest.raises(Interrupted):
            made.ask(PING)
        assert not made._waiting
        one_more = pool.submit(made.ask, PING)
        eventually(lambda: made._waiting)
        observer.rpush("go", "now")
        busy.result(5)
        assert one_more.result(5) == b"PONG"


class Interrupted(BaseException):
    """As KeyboardInterrupt, or a worker's timeout that a signal brings."""


@contextlib.contextmanager
def interrupted(after_s):
    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interruption_in_the_middle_closes_the_connection(observer, make, opened):
    made = make(1)
    with interrupted(0.05), pytest.raises(Interrupted):
        made.ask(command("BLPOP", "late", 0))
    eventually(lambda: clients(observer) == 0)
    observer.rpush("late", "reply")
    assert talk(made, "next", 20)
    assert opened() == 2
    assert observer.lrange("late", 0, -1) == [b"reply"]


@contextlib.contextmanager
def interrupted_at(number):
    """At the ``number``-th place of connections.py where a signal's handler can run: behind a
    call, or at the start of a function. Yields a list that is empty where it has no such place."""
    at, places = [], itertools.count()

    def step(frame, event, _):
        mine = frame.f_code.co_filename == connections.__file__
        if mine and event in ("call", "c_return") and next(places) == number:
            sys.setprofile(None)
            at.append(frame.f_lineno)
            raise Interrupted

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        yield at
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("way", ["free", "looked at", "new", "in two steps"])
def test_an_interruption_anywhere_takes_no_place_for_ever_and_mixes_nothing_up(make, way):
    made = make(1, timeout_s=2)
    asks = {
        "looked at": lambda text: made.ask(echo(text), 1.0),
        "in two steps": lambda text: made.receive(made.send(echo(text), time.monotonic() + 2)),
    }
    ask = asks.get(way, lambda text: made.ask(echo(text)))
    for number in itertools.count():
        if way == "new":
            made.close()
        with contextlib.suppress(Interrupted), interrupted_at(number) as at:
            assert ask("mine") == b"mine"
        if not at:
            break
        # What was lost on its way goes with it.
        gc.collect()
        began_s = time.monotonic()
        assert made.ask(echo(number)) == said(number), at
        assert time.monotonic() - began_s < 1, at
        assert not made._waiting, at
    assert number > 3
