"""Which named signals a request raised, for the limits that count by them.

A failed login of the admin answers 200: that it failed is told by Django's own signal alone.
Besides those of ``django.contrib.auth``, a site names its own in ``IOTA_COUNTED_SIGNALS``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.dispatch import Signal
from django.utils.module_loading import import_string

from . import conf

BUILT_IN = {
    name: f"django.contrib.auth.signals.{name}"
    for name in ("user_login_failed", "user_logged_in", "user_logged_out")
}

# One set per request, shared with the threads and tasks that work on it.
_raised: ContextVar[set[str] | None] = ContextVar("ratelimits_raised", default=None)


def known() -> Mapping[str, str]:
    """Name of each signal that can be counted -> its dotted path."""
    return {**BUILT_IN, **{path: path for path in conf.current().counted_signals}}


def load(path: str) -> Signal:
    """Raises ImportError where there is no such signal."""
    signal = import_string(path)
    if not isinstance(signal, Signal):
        raise ImportError(f"{path} is no django.dispatch.Signal")
    return signal


def connect() -> None:
    """Listen to every known signal; of those that cannot be imported a system check tells."""
    for name, path in known().items():
        try:
            signal = load(path)
        except ImportError:
            continue
        signal.connect(partial(_note, name), weak=False, dispatch_uid=f"ratelimits.{name}")


def _note(name: str, /, **kwargs: Any) -> None:
    raised = _raised.get()
    if raised is not None:
        raised.add(name)


@contextmanager
def watched() -> Iterator[set[str]]:
    """The names of the signals that are raised within, also by its threads and tasks."""
    raised: set[str] = set()
    outer = _raised.get()
    token = _raised.set(raised)
    try:
        yield raised
    finally:
        _raised.reset(token)
        if outer is not None:
            outer |= raised
