"""For a site's own code: staff's limits, by name. docs/guides/in-code.md shows each of them.

``@rate_limit("exports")`` on a view, ``check("exports", identity)`` anywhere else,
``with concurrency("exports", identity)`` around what must not run too often at the same time.
``RateLimitThrottle`` for Django REST framework is in ``drf``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from functools import partial, wraps
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.views import View

from . import conf, used_in_code
from .answering import aanswered, answered, is_preflight
from .engine import get_engine
from .errors import RateLimited, RateLimitError, UnknownLimit
from .named import Identity, aask, ask, django_request
from .policy.decision import Decision, Held
from .validators import validate_name

__all__ = [
    "Decision",
    "Identity",
    "RateLimitError",
    "RateLimited",
    "UnknownLimit",
    "acheck",
    "check",
    "concurrency",
    "peek",
    "rate_limit",
]

Names = str | Sequence[str]
Cost = int | Callable[[Any], int] | None
WhoOf = Callable[[Any], Identity | None] | None
_V = TypeVar("_V")


def rate_limit(*names: str, cost: Cost = None, identity: WhoOf = None) -> Callable[[_V], _V]:
    """A decorator for views: functions and methods, sync and async, and classes.

    Several names are one trip: all of them are charged, or none. A denied request gets the answer
    that the middleware gives. ``cost`` is a number of units, or a function of the request, in
    place of what staff wrote; ``identity`` a function of the request that says whom to count,
    None for whom the limit counts by itself. Raises TypeError or ValueError for what is no name.
    """
    _check_names(names, "@rate_limit('exports')")

    def decorate(view: Any) -> Any:
        if isinstance(view, type):
            kind: Any = view
            if not hasattr(kind, "dispatch"):
                raise TypeError(f"{kind!r} has no dispatch: @rate_limit is for views")
            kind.dispatch = _limited(kind.dispatch, kind, names, cost, identity)
            return kind
        return _limited(view, None, names, cost, identity)

    return decorate


def check(name: Names, identity: Identity | None = None, *, cost: int | None = None) -> Decision:
    """Charge ``identity`` to a limit, or to several at once: all of them or none.

    ``identity`` is a text or a number of your own, or a mapping with some of ``user``, ``address``,
    ``session``, ``key`` and ``argument``, which shares its count with requests. None: all calls are
    one. A decision that holds slots of a concurrency limit leaves them to their lease; take them by
    ``concurrency``. Raises UnknownLimit where IOTA_UNKNOWN_LIMIT says so.
    """
    return ask(_names(name, "check"), cost=cost, identity=identity)


async def acheck(
    name: Names, identity: Identity | None = None, *, cost: int | None = None
) -> Decision:
    """``check`` on the running event loop."""
    return await aask(_names(name, "check"), cost=cost, identity=identity)


def peek(name: Names, identity: Identity | None = None, *, cost: int | None = None) -> Decision:
    """What ``check`` would say now, charging nobody."""
    return ask(_names(name, "peek"), cost=cost, identity=identity, charge=False)


class concurrency:
    """A slot of a concurrency limit for as long as a ``with`` or ``async with`` block lasts.

    Raises RateLimited where there is none; the block's value is the decision. The slot is free
    again at the end of the block, and after the limit's window whatever happens: let that be longer
    than the work. Of a limit that is none of concurrency, each block is charged as one request.
    """

    def __init__(self, name: Names, identity: Identity | None = None) -> None:
        self._names = _names(name, "concurrency")
        self._identity = identity
        self._held: list[tuple[Held, ...]] = []

    def __enter__(self) -> Decision:
        return self._taken(ask(self._names, identity=self._identity))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if held := self._held.pop():
            get_engine().limiter.release(held)

    async def __aenter__(self) -> Decision:
        return self._taken(await aask(self._names, identity=self._identity))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if held := self._held.pop():
            await asyncio.shield(get_engine().limiter.arelease(held))

    def _taken(self, decision: Decision) -> Decision:
        if not decision.allowed:
            raise RateLimited(decision)
        self._held.append(decision.held)
        return decision


def _limited(view: Any, kind: type | None, names: Sequence[str], cost: Cost, who: WhoOf) -> Any:
    """``kind``: the class whose ``dispatch`` the view is."""
    used_in_code.note(names, used_in_code.of_view(kind or view), "rate_limit")
    if _is_async(view, kind):

        @wraps(view)
        async def alimited(*args: Any, **kwargs: Any) -> Any:
            request = _request_in(view, args, kwargs)
            plain = django_request(request)
            answer = partial(view, *args, **kwargs)
            if conf.current().disabled or is_preflight(plain, conf.current()):
                return await answer()
            units, identity = _asked_for(request, cost, who)
            decision = await aask(names, request=request, cost=units, identity=identity)
            return await aanswered(plain, get_engine(), decision, answer, inner=True)

        limited: Any = alimited
    else:

        @wraps(view)
        def slimited(*args: Any, **kwargs: Any) -> Any:
            request = _request_in(view, args, kwargs)
            plain = django_request(request)
            answer = partial(view, *args, **kwargs)
            if conf.current().disabled or is_preflight(plain, conf.current()):
                return answer()
            units, identity = _asked_for(request, cost, who)
            decision = ask(names, request=request, cost=units, identity=identity)
            return answered(plain, get_engine(), decision, answer, inner=True)

        limited = slimited
    limited.rate_limits = (*names, *getattr(view, "rate_limits", ()))
    return limited


def _is_async(view: Any, kind: type | None) -> bool:
    """``dispatch`` of a class with async methods is sync itself, and returns what is to be
    awaited."""
    if iscoroutinefunction(view) or inspect.iscoroutinefunction(view):
        return True
    if kind is None:
        # method_decorator gives a bound method, in a partial.
        bound = getattr(view, "func", view)
        owner = getattr(bound, "__self__", None)
        if getattr(bound, "__name__", "") == "dispatch" and isinstance(owner, View):
            kind = type(owner)
    return kind is not None and bool(getattr(kind, "view_is_async", False))


def _request_in(view: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The first of a function's arguments, the second of a method's."""
    for one in (*args[:2], kwargs.get("request")):
        if isinstance(django_request(one), HttpRequest):
            return one
    raise TypeError(f"{used_in_code.of_view(view)} was called without a request: it is no view")


def _asked_for(request: Any, cost: Cost, who: WhoOf) -> tuple[int | None, Identity | None]:
    return cost(request) if callable(cost) else cost, who(request) if who is not None else None


def _names(name: Names, how: str) -> Sequence[str]:
    names = (name,) if isinstance(name, str) else tuple(name)
    used_in_code.note_caller(names, how, depth=2)
    return names


def _check_names(names: Sequence[Any], example: str) -> None:
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"name the limits: {example}")
    for name in names:
        try:
            validate_name(name)
        except ValidationError as error:
            raise ValueError(f"{name!r} is no name of a limit. {error.messages[0]}") from error
