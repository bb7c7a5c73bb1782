"""Makes limits as staff do, each in force at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apps.ratelimits.engine import Engine
from apps.ratelimits.models import RateLimit


def maker(engine: Engine, **usual: Any) -> Callable[..., RateLimit]:
    """What makes a limit with these values, but for those that it is given: an hour's fixed window
    where nobody says otherwise."""

    def make(**changes: Any) -> RateLimit:
        made = RateLimit(**{"algorithm": "fixed_window", "window_unit": 3600, **usual, **changes})
        made.full_clean()
        made.save()
        engine.refresh()
        return made

    return make
