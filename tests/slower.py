"""IOTA's Celery application with a check that takes a quarter longer: a careless commit.

``celery --app tests.slower``, for test_benchmark_watch. A line is put into the check's own source,
since a function around it would cost a good part of the microsecond that a leased check takes.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from itertools import cycle

from apps.ratelimits.storage import limiter
from iota.celery import app

__all__ = ["app"]

LINE = "if next(asked_twice): as_quick_as_ever(self, limits, whom, charge=charge)"
TWICE = (False, False, False, True)
"""With the line's own time this is 25 % of a leased check, to which more belongs than what is made
twice; the test looks that it is."""


def slow_down() -> None:
    quick = limiter.RateLimiter.check_limits
    tree = ast.parse(textwrap.dedent(inspect.getsource(quick)))
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    function.body[1:1] = ast.parse(LINE).body  # After the docstring.
    flags = __future__.annotations.compiler_flag
    code = compile(ast.fix_missing_locations(tree), limiter.__file__, "exec", flags)
    names = vars(limiter)
    names["asked_twice"] = cycle(TWICE)
    names["as_quick_as_ever"] = quick
    exec(code, names)  # noqa: S102
    limiter.RateLimiter.check_limits = names.pop("check_limits")  # type: ignore[method-assign]


slow_down()
