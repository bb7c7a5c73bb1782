"""Who asks: user, session and API keys, each looked up only where a matching limit needs it.

A limit counts by what the site has validated. A session is asked for in the site's store; a key
is shown to the function that ``IOTA_KEY_VALIDATOR`` names::

    def whose_key(header: str, value: str) -> str | None: ...

It returns a stable name of the key's owner, or None where the site does not know the key. It may
be async; a sync one runs in a thread under ASGI, so that it may use the ORM.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends import signed_cookies
from django.http import HttpRequest
from django.utils.module_loading import import_string

from .policy.facts import ANONYMOUS, UserFacts
from .policy.matching import CompiledRule
from .policy.rules import Audience

GROUPS_TTL_S = 60
MAX_GROUPS_REMEMBERED = 10_000
MAX_KEY_CHARS = 512
"""A longer value is no key: it is not shown to the validator, and counts by address."""

WhoseKey = Callable[[str, str], str | None]
AsyncWhoseKey = Callable[[str, str], Awaitable[str | None]]


class Callers:
    """``validator`` is the dotted path of the function; empty: no key is known."""

    def __init__(self, validator: str) -> None:
        self._groups = _GroupMemory()
        whose = import_string(validator) if validator else None
        self._whose: WhoseKey | None = whose
        self._awhose: AsyncWhoseKey | None = whose
        if whose is not None and iscoroutinefunction(whose):
            self._whose = async_to_sync(whose)
        elif whose is not None:
            self._awhose = sync_to_async(whose)

    def identify(self, request: HttpRequest, candidates: list[CompiledRule]) -> UserFacts:
        """What ``candidates`` need to know; nothing else is looked up."""
        if not _anyone_asks(candidates):
            return ANONYMOUS
        pk, is_staff, groups, session = None, False, frozenset[str](), ""
        with _unseen_session(request):
            if _has_session(request):
                if _wants_user(request, candidates):
                    user = request.user
                    if user.is_authenticated:
                        pk, is_staff = str(user.pk), user.is_staff
                if pk is not None and any(compiled.needs_groups for compiled in candidates):
                    known = self._groups.get(pk)
                    if known is None:
                        found = user.groups.values_list("pk", flat=True)
                        known = self._groups.put(pk, found)
                    groups = known
                if any(compiled.needs_session for compiled in candidates):
                    request.session.get(SESSION_KEY)
                    session = _known_session(request)
        return UserFacts(pk, is_staff, groups, session, self.keys(request, candidates))

    def keys(
        self, request: HttpRequest, candidates: Sequence[CompiledRule]
    ) -> tuple[tuple[str, str], ...]:
        """Whose API keys the request shows, by header; those that the site knows."""
        if self._whose is None:
            return ()
        shown = _shown_keys(request, candidates)
        asked = [(header, self._whose(header, value)) for header, value in shown]
        return tuple((header, whose) for header, whose in asked if whose)

    def owner(self, header: str, value: str) -> str | None:
        """Whose API key this is; None where the site does not know it."""
        if self._whose is None or not 0 < len(value) <= MAX_KEY_CHARS:
            return None
        return self._whose(header.lower(), value)

    async def aidentify(self, request: HttpRequest, candidates: list[CompiledRule]) -> UserFacts:
        """``identify`` on the running event loop."""
        if not _anyone_asks(candidates):
            return ANONYMOUS
        pk, is_staff, groups, session = None, False, frozenset[str](), ""
        with _unseen_session(request):
            if _has_session(request):
                if _wants_user(request, candidates):
                    user = await request.auser()
                    if user.is_authenticated:
                        pk, is_staff = str(user.pk), user.is_staff
                if pk is not None and any(compiled.needs_groups for compiled in candidates):
                    known = self._groups.get(pk)
                    if known is None:
                        found = [group async for group in user.groups.values_list("pk", flat=True)]
                        known = self._groups.put(pk, found)
                    groups = known
                if any(compiled.needs_session for compiled in candidates):
                    await request.session.aget(SESSION_KEY)
                    session = _known_session(request)
        keys = []
        if self._awhose is not None:
            for header, value in _shown_keys(request, candidates):
                if whose := await self._awhose(header, value):
                    keys.append((header, whose))
        return UserFacts(pk, is_staff, groups, session, tuple(keys))

    def with_user(
        self, facts: UserFacts, user: Any, candidates: Sequence[CompiledRule]
    ) -> UserFacts:
        """``facts`` of another user than the session's: an object, or a primary key, of which the
        database is asked only where a limit is about staff or groups."""
        pk = getattr(user, "pk", user)
        if pk is None or not getattr(user, "is_authenticated", True):
            return replace(facts, pk=None, is_staff=False, groups=frozenset())
        groups = frozenset[str]()
        if _asks_database(user, candidates):
            user = get_user_model()._default_manager.filter(pk=pk).first() or user
            if any(compiled.needs_groups for compiled in candidates) and hasattr(user, "groups"):
                found = self._groups.get(str(pk))
                if found is None:
                    found = self._groups.put(str(pk), user.groups.values_list("pk", flat=True))
                groups = found
        is_staff = bool(getattr(user, "is_staff", False))
        return replace(facts, pk=str(pk), is_staff=is_staff, groups=groups)

    async def awith_user(
        self, facts: UserFacts, user: Any, candidates: Sequence[CompiledRule]
    ) -> UserFacts:
        """``with_user`` on the running event loop."""
        if not _asks_database(user, candidates):
            return self.with_user(facts, user, candidates)
        return await sync_to_async(self.with_user)(facts, user, candidates)


def _asks_database(user: Any, candidates: Sequence[CompiledRule]) -> bool:
    is_object = hasattr(user, "is_staff")
    return any(
        compiled.needs_groups or (compiled.rule.audience is Audience.STAFF and not is_object)
        for compiled in candidates
    )


def _anyone_asks(candidates: list[CompiledRule]) -> bool:
    return any(c.needs_user or c.needs_session or c.headers for c in candidates)


def _has_session(request: HttpRequest) -> bool:
    """No cookie means anonymous, without a look at the session. One with a NUL (a quoted cookie can
    spell it) is nobody's, and PostgreSQL would refuse the question."""
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    return cookie is not None and "\0" not in cookie and hasattr(request, "session")


def _wants_user(request: HttpRequest, candidates: list[CompiledRule]) -> bool:
    """A site may have sessions and no users."""
    return hasattr(request, "user") and any(compiled.needs_user for compiled in candidates)


def _known_session(request: HttpRequest) -> str:
    """The key of a session that was loaded, empty where the store does not have it: backends drop
    the key that a client made up. A signed cookie is its own key and changes at every write, so
    that it stands for nobody."""
    session = request.session
    if isinstance(session, signed_cookies.SessionStore):
        return ""
    return session.session_key or ""


def _shown_keys(
    request: HttpRequest, candidates: Sequence[CompiledRule]
) -> Iterator[tuple[str, str]]:
    headers = frozenset[str]().union(*(compiled.headers for compiled in candidates))
    for header in sorted(headers):
        value = request.headers.get(header, "")
        if 0 < len(value) <= MAX_KEY_CHARS:
            yield header, value


class _unseen_session:
    """Asking who the user is must not add ``Vary: Cookie`` to a response that does not vary."""

    def __init__(self, request: HttpRequest) -> None:
        self._session = getattr(request, "session", None)
        self._accessed = getattr(self._session, "accessed", False)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        if self._session is not None:
            self._session.accessed = self._accessed


class _GroupMemory:
    """The groups of recent users, for 60 s each."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[float, frozenset[str]]] = {}

    def get(self, pk: Any) -> frozenset[str] | None:
        found = self._known.get(pk)
        return found[1] if found and found[0] > time.monotonic() else None

    def put(self, pk: Any, groups: Any) -> frozenset[str]:
        if len(self._known) >= MAX_GROUPS_REMEMBERED:
            self._known.clear()
        known = frozenset(str(group) for group in groups)
        self._known[pk] = (time.monotonic() + GROUPS_TTL_S, known)
        return known
