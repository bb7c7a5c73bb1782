"""IOTA's Celery application with a slower check: what a careless commit would have done.

``celery --app tests.slower``, for test_benchmark_watch. Each fourth check is asked a second time,
which makes all that a check costs, here and in the server, a quarter more.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from apps.ratelimits.storage.limiter import RateLimiter
from iota.celery import app

__all__ = ["app"]

EACH = 4

check_limits = RateLimiter.check_limits
asked = count(1)


def check_limits_slowly(self: RateLimiter, *arguments: Any, **options: Any) -> Any:
    if next(asked) % EACH == 0:
        check_limits(self, *arguments, **options)
    return check_limits(self, *arguments, **options)


RateLimiter.check_limits = check_limits_slowly  # type: ignore[method-assign]
