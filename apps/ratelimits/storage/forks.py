"""What a forked child must not take over from its parent: locks that its threads held, connections
that they use, and threads that it does not have."""

from __future__ import annotations

import os
import weakref


class BeginsAnew:
    """``_begin`` makes the parts that belong to one process: called by ``__init__`` of what
    inherits this, and again in each child that is forked."""

    def __init__(self) -> None:
        self._begin()
        _living.add(self)

    def _begin(self) -> None:
        raise NotImplementedError


_living: weakref.WeakSet[BeginsAnew] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_living):
        one._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
