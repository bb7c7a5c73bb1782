"""Every signal of ours, with the string that stands below it in its module."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise

from django.dispatch import Signal

from .markdown import prose, table

MODULES = ("apps.ratelimits.signals",)

HEAD = """\
# Signals

Connect to them as to any signal of Django. From the wheel the module is `iota_ratelimits.signals`.
The other way round, a limit may count what your own signals tell:
[what counts](../guides/what-counts.md).
"""


def signals() -> Iterator[tuple[str, str]]:
    """(dotted path, what it says)."""
    for name in MODULES:
        module = import_module(name)
        body = ast.parse(inspect.getsource(module)).body
        for made, said in pairwise(body):
            if not isinstance(made, ast.Assign) or not isinstance(made.targets[0], ast.Name):
                continue
            word = made.targets[0].id
            if isinstance(getattr(module, word), Signal):
                text = said.value if isinstance(said, ast.Expr) else None
                if not isinstance(text, ast.Constant):
                    raise ValueError(f"{name}.{word}: no string below says what it is")
                yield f"{name}.{word}", str(text.value)


def page() -> str:
    return "\n".join(
        [
            HEAD,
            table(("signal", "when, and with what"), [(f"`{p}`", prose(s)) for p, s in signals()]),
        ]
    )
