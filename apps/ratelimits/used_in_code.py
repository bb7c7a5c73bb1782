"""Which limits code asks for by name, as far as this process knows.

A view says so when it is imported, ``check`` and ``concurrency`` when they are first called, and
throttles when somebody looks through the site's addresses. Other processes, such as Celery's
workers, import other modules: what only they ask for is not known here.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from django.urls import URLPattern, URLResolver, get_resolver

MOST_NAMES = 1_000
"""Code may make names up as it runs."""
MOST_PLACES = 500
_NOT_OURS = ("django.utils.decorators",)


class Use(NamedTuple):
    """``shop.views.checkout``, ``rate_limit``, and the addresses that lead there, if any."""

    where: str
    how: str
    routes: tuple[str, ...] = ()

    def __str__(self) -> str:
        at = f" at /{', /'.join(self.routes)}" if self.routes else ""
        return f"{self.where} ({self.how}){at}"


_used: defaultdict[str, dict[tuple[str, str], None]] = defaultdict(dict)
_unknown: set[str] = set()


def note(names: Iterable[str], where: str, how: str) -> None:
    """Code at ``where`` asks for these limits."""
    if where.startswith(_NOT_OURS):
        return  # method_decorator tries its decorators on a function of its own.
    for name in names:
        if name in _used or len(_used) < MOST_NAMES:
            places = _used[name]
            if len(places) < MOST_PLACES:
                places[where, how] = None


def note_caller(names: Iterable[str], how: str, depth: int) -> None:
    """The code that called our caller's caller asks; looked at once for each name."""
    for name in names:
        if not any(known == how for _, known in _used.get(name, ())):
            frame = sys._getframe(depth + 1)
            module = frame.f_globals.get("__name__", "")
            note([name], f"{module}.{frame.f_code.co_qualname}", how)


def note_unknown(name: str) -> bool:
    """Whether it is news that code asks for a limit which nobody has made."""
    if name in _unknown or len(_unknown) >= MOST_NAMES:
        return False
    _unknown.add(name)
    return True


def of_view(view: Any) -> str:
    """``shop.views.checkout``."""
    view = getattr(view, "func", view)
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return f"{getattr(view, '__module__', '')}.{name}"


def uses() -> dict[str, list[Use]]:
    """By the name of the limit. Loads the site's addresses."""
    routes: defaultdict[str, list[str]] = defaultdict(list)
    for route, view in views():
        kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
        routes[of_view(kind or view)].append(route)
        note(getattr(view, "rate_limits", ()), of_view(view), "rate_limit")
        if kind is not None:
            _look_at(kind)
    return {
        name: [Use(where, how, _routes(routes, where)) for where, how in sorted(places)]
        for name, places in sorted(_used.items())
    }


def views() -> Iterator[tuple[str, Any]]:
    """Every view of the site with its route. Loads the site's addresses."""
    return _views(get_resolver().url_patterns)


def _look_at(kind: type) -> None:
    """A class of views: what its methods and its throttles ask for."""
    for name, member in list(vars(kind).items()):
        note(getattr(member, "rate_limits", ()), f"{of_view(kind)}.{name}", "rate_limit")
    for throttle in getattr(kind, "throttle_classes", ()):
        names = getattr(throttle, "limits_of_view", None)
        if names is not None:
            note(names(kind), of_view(kind), throttle.__name__)


def _routes(routes: dict[str, list[str]], where: str) -> tuple[str, ...]:
    """Of a view, or of the class that a method belongs to."""
    return tuple(routes.get(where) or routes.get(where.rpartition(".")[0]) or ())


def _views(patterns: Sequence[Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback
