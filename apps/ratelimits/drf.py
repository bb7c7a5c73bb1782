"""Throttles of Django REST framework by staff's limits. Importing this needs that framework.

::

    class Exports(APIView):
        throttle_classes = [RateLimitThrottle]
        throttle_limits = ["exports"]

Or for all views, in ``REST_FRAMEWORK["DEFAULT_THROTTLE_CLASSES"]``: a view that names no limits is
not asked about. Who is counted as a user is whom the framework has authenticated.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.exceptions import APIException
from rest_framework.throttling import BaseThrottle

from .answering import Release, marked_denied, release_at_end, status_of, with_fields
from .engine import Engine, get_engine
from .named import Identity, ask
from .policy import headers
from .policy.decision import Decision
from .raised import watched
from .signals import request_denied


class CannotBeCounted(APIException):  # type: ignore[misc]
    """Redis is away, and a limit's policy is to deny."""

    status_code = 503
    default_detail = "Requests cannot be counted right now."
    default_code = "unavailable"

    def __init__(self, wait_s: int) -> None:
        super().__init__()
        self.wait = wait_s


class RateLimitThrottle(BaseThrottle):  # type: ignore[misc]
    """Asks the limits that the view names in ``throttle_limits`` (a name or several), or else in
    ``throttle_scope``; all in one trip. ``throttle_cost`` of the view is what a request costs: a
    number, or a method of the request. Subclasses may say whom to count, and more, by methods."""

    limits: tuple[str, ...] = ()
    """Names, of a subclass for certain limits."""

    _decision: Decision | None = None

    @classmethod
    def limits_of_view(cls, view: Any) -> tuple[str, ...]:
        """Also of a view's class."""
        named = cls.limits or getattr(view, "throttle_limits", None)
        named = named or getattr(view, "throttle_scope", None) or ()
        return (named,) if isinstance(named, str) else tuple(named)

    def get_cost(self, request: Any, view: Any) -> int | None:
        """Units; None: as the limit says."""
        cost = getattr(view, "throttle_cost", None)
        return cost(request) if callable(cost) else cost

    def get_identity(self, request: Any, view: Any) -> Identity | None:
        """Whom to count; None: as the limit says."""
        return None

    def allow_request(self, request: Any, view: Any) -> bool:
        names = self.limits_of_view(view)
        if not names:
            return True
        decision = self._decision = ask(
            names,
            request=request,
            cost=self.get_cost(request, view),
            identity=self.get_identity(request, view),
        )
        _Ending.of(view).decided(decision)
        if not decision.allowed:
            plain = getattr(request, "_request", request)
            request_denied.send_robust(sender=None, request=plain, decision=decision)
        if decision.unavailable:
            raise CannotBeCounted(headers.retry_after_s(decision))
        return decision.allowed

    def wait(self) -> float | None:
        """Whole seconds, rounded up: the framework would cut them off."""
        return float(headers.retry_after_s(self._decision)) if self._decision else None


class _Ending:
    """What is left to do at the end of a view: a view object serves one request."""

    def __init__(self, view: Any) -> None:
        self._engine: Engine = get_engine()
        self._decisions: list[Decision] = []
        self._finalize, self._handle = view.finalize_response, view.handle_exception
        self._watching = ExitStack()
        self._raised = self._watching.enter_context(watched())
        view.finalize_response, view.handle_exception = self.finalize, self.handle

    @classmethod
    def of(cls, view: Any) -> _Ending:
        found: _Ending | None = getattr(view, "_rate_limit_ending", None)
        if found is None:
            found = view._rate_limit_ending = cls(view)
        return found

    def decided(self, decision: Decision) -> None:
        self._decisions.append(decision)

    def handle(self, error: Exception) -> Any:
        """An exception that the framework does not answer leaves the view."""
        try:
            return self._handle(error)
        except BaseException:
            self._watching.close()
            for decision in self._decisions:
                self._engine.settle(decision, status_of(error), self._raised)
                self._engine.limiter.release(decision.held)
            raise

    def finalize(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self._watching.close()
        final: HttpResponseBase = self._finalize(request, response, *args, **kwargs)
        for decision in self._decisions:
            settled = self._engine.settle(decision, final.status_code, self._raised)
            if decision.held:
                release_at_end(final, Release(self._engine, decision.held))
            wait = final.headers.get("Retry-After")
            with_fields(final, settled, inner=True)
            if not decision.allowed and wait is not None:
                marked_denied(final)
                final["Retry-After"] = wait
        return final
