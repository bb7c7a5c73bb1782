"""Work in the background steps back, and nothing of it is lost."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from apps.ratelimits.storage.background import LOWEST, in_background

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_it_has_the_lowest_priority_and_the_caller_keeps_its_own():
    before = priority()
    assert in_background(priority, lambda: None) == LOWEST
    assert priority() == before


def test_what_it_raises_is_raised_here_after_the_end():
    ended = []

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_background(fail, lambda: ended.append(threading.current_thread()))
    assert ended
    assert ended[0] is not threading.current_thread()
