"""Keeps a record of recent requests, on which staff try a limit before they save it.

A request only appends what it has at hand; what of it may be kept is worked out by the engine's
poller, which sends a batch a second. Nothing is looked up for the record's sake, and no name leaves
the process: policy/traffic.py says what does.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.urls import Resolver404, resolve

from . import conf
from .policy.client_ip import UNKNOWN
from .policy.decision import Decision
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.identity import Digests
from .policy.masking import mask, masked_path
from .policy.matching import CompiledRule
from .policy.traffic import ALL_KNOWN, TOOK_UNKNOWN, Batch, Outcome, What, Who, coarse_network
from .storage.forks import BeginsAnew
from .storage.traffic import MOST_IN_BATCH, TrafficStore
from .validators import METHODS

FLUSH_S = 0.8
MOST_WAITING = 50_000
MOST_RESOLVED = 500
"""Of a flush: paths of requests that no view was looked up for, as they were denied."""
TOO_OLD_NS = 3_600 * 10**9
"""A request that took longer is left out."""
MOST_REMEMBERED = 10_000
MASK_CHARS = 10
"""Of a digest that stands for a part of a path: among 100,000 values hardly two are alike."""


NO_ARGUMENTS: dict[str, Any] = {}


class Seen(NamedTuple):
    """A request as the middleware has it, held for a second at most. ``route``, ``view`` and
    ``arguments`` are what Django found, None where it did not look, as ``user`` is; ``session``: a
    cookie names one."""

    at_ns: int
    ended_ns: int
    method: str
    path: str
    address: str
    asked: UserFacts
    candidates: list[CompiledRule]
    host: str
    route: str | None
    view: str
    arguments: dict[str, Any]
    user: Any
    session: bool
    status: int
    denied: Decision | None


FIELDS = len(Seen._fields)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was looked up for a request's limits."""

    user: bool
    groups: bool
    session: bool
    headers: tuple[str, ...]


class Recorder(BeginsAnew):
    """One per process. ``on``: whether anything is recorded."""

    def __init__(
        self,
        config: conf.RateLimitConfig,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on = config.traffic_records > 0
        self._sample = config.traffic_sample
        self._validator = bool(config.key_validator)
        # Of its own: those whom requests count are not to be forgotten for paths.
        self._digests = Digests(config.identity_key)
        self._clock_s = clock_s
        self._cookie = settings.SESSION_COOKIE_NAME
        self._by_proxy = settings.USE_X_FORWARDED_HOST
        super().__init__()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        # Called at each request: bound once.
        self._extend = self._waiting.extend
        self._lost = 0
        self._flushed_s = float("-inf")
        # What was worked out for the last requests holds for the next ones.
        self._whats: dict[tuple[Any, ...], What] = {}
        self._whos: dict[tuple[Any, ...], Who] = {}
        self._lookups: dict[tuple[int, ...], tuple[list[CompiledRule], _Asked]] = {}

    def seen(
        self,
        request: HttpRequest,
        facts: RequestFacts,
        asked: UserFacts,
        candidates: list[CompiledRule],
        at_ns: int,
        status: int,
        denied: Decision | None = None,
        *,
        streams: bool = False,
    ) -> None:
        """At a request's end. ``at_ns``: when it was decided."""
        if len(self._waiting) >= FIELDS * MOST_WAITING:
            self._lost += 1
            return
        meta, match = request.META, request.resolver_match
        session, user = hasattr(request, "session") and self._cookie in request.COOKIES, None
        if session:
            user = getattr(request, "_cached_user", None) or getattr(request, "_acached_user", None)
        # Part by part: one step of the interpreter, and no record that every garbage collection
        # would look at.
        self._extend(
            (
                at_ns,
                0 if streams else time.time_ns(),
                facts.method,
                facts.path,
                facts.address,
                asked,
                candidates,
                (self._by_proxy and meta.get("HTTP_X_FORWARDED_HOST"))
                or meta.get("HTTP_HOST")
                or meta.get("SERVER_NAME", ""),
                None if match is None else match.route,
                "" if match is None else match.view_name,
                NO_ARGUMENTS if match is None else match.kwargs,
                user,
                session,
                status,
                denied,
            )
        )

    def flush(self, store: TrafficStore, *, now: bool = False) -> bool:
        """Send where a second has gone by, or ``now``: whether there was anything to send. Raises
        Unavailable; what was to be sent is lost then."""
        with self._lock:
            now_s = self._clock_s()
            if not now and now_s - self._flushed_s < FLUSH_S:
                return False
            self._flushed_s = now_s
            batch = self.take()
            # Within the lock: whoever flushes finds all of it sent.
            if len(batch) or batch.lost:
                store.add(batch)
                return True
            return False

    def take(self) -> Batch:
        """What has come since the last time, without names."""
        waiting = len(self._waiting) // FIELDS
        take, fields = self._waiting.popleft, range(FIELDS)
        batch = Batch(sample=self._sample)
        batch.lost, self._lost = self._lost, 0
        for memory in (self._whats, self._whos, self._lookups):
            if len(memory) > MOST_REMEMBERED:
                memory.clear()
        tables = _Tables()
        unresolved, newest_ns = MOST_RESOLVED, time.time_ns()
        for _ in range(waiting):
            seen = Seen._make([take() for _ in fields])
            asked, denied = seen.asked, seen.denied
            # Equal keys are equal records: one look each tells where that of the batch is.
            key: tuple[Any, ...] = (
                seen.address,
                None if asked is ANONYMOUS else asked,
                _key_of(seen.user),
                seen.session,
                *map(id, seen.candidates),
            )
            who = tables.whos.get(key)
            if who is None:
                who = tables.whos[key] = tables.place_of(self._who(seen))
            if who < 0:
                continue
            if newest_ns - seen.at_ns > TOO_OLD_NS:
                batch.lost += 1  # Times of a batch are told from its first one, in few bits.
                continue
            if len(tables.at_us) >= MOST_IN_BATCH:
                batch.lost += 1
                continue
            key = (seen.method, seen.path, seen.host, seen.route)
            what = tables.whats.get(key)
            if what is None:
                found, resolved, is_known = self._what(seen, unresolved > 0)
                unresolved -= resolved
                what = tables.place_of_what(found)
                if is_known:
                    tables.whats[key] = what
            key = (seen.status, _denied_by(denied) if denied is not None else ())
            outcome = tables.outcomes.setdefault(key, len(tables.outcomes))
            took_us = (seen.ended_ns - seen.at_ns) // 1000 if seen.ended_ns else TOOK_UNKNOWN
            tables.at_us.append(seen.at_ns // 1000)
            tables.took_us.append(min(max(took_us, 0), TOOK_UNKNOWN))
            tables.what.append(what)
            tables.who.append(who)
            tables.outcome.append(outcome)
        tables.fill(batch)
        return batch

    def _what(self, seen: Seen, may_resolve: bool) -> tuple[What, int, bool]:
        """And how many paths had to be resolved for it, and whether that holds for the next."""
        key = seen.method, seen.path, seen.host, seen.route
        known = self._whats.get(key)
        if known is not None:
            return known, 0, True
        route, view, arguments = seen.route, seen.view, seen.arguments
        resolved = route is None and may_resolve
        is_known = route is not None or resolved
        if resolved:  # It was denied, or answered before its view was looked for.
            try:
                match = resolve(seen.path)
            except Resolver404:
                view = ""
            else:
                route, view, arguments = match.route, match.view_name, match.kwargs
        found = What(
            seen.method if seen.method in METHODS else "OTHER",
            masked_path(seen.path, route, self._mask),
            self._host(seen.host),
            view if is_known else None,
            tuple(
                (name, self._digests.of(("argument", str(value))))
                for name, value in arguments.items()
            ),
        )
        # A path of a hundred kilobytes is not kept in memory; its record is short.
        if is_known and len(seen.path) + len(seen.host) <= 1_000:
            self._whats[key] = found
        return found, int(resolved), is_known

    def override_value(self, target: str, value: str) -> str:
        """Of a policy.Override, with digests instead of names."""
        match target:
            case "user":
                return self._digests.of(("user", value))
            case "key":
                header, whose = value.split(":", 1)
                return f"{header}:{self._digests.of((f'header {header}', whose))}"
            case _:
                return value

    def masked_host(self, host: str) -> str:
        """As a record has it, where a wildcard lets it through."""
        return mask(host.lower().removesuffix("."), self._mask)

    def masked(self, path: str) -> str:
        """As a record has it."""
        try:
            route = resolve(path).route
        except Resolver404:
            route = None
        return masked_path(path, route, self._mask)

    def _mask(self, value: str) -> str:
        return self._digests.of(("path", value))[:MASK_CHARS]

    def _host(self, raw: str) -> str:
        """Plain where the site's settings name it, a digest where a wildcard of theirs lets it
        through; empty where Django refuses it."""
        domain, _ = split_domain_port(raw)
        allowed = _allowed_hosts()
        if not domain or not validate_host(domain, allowed):
            return ""
        host: str = domain.lower()
        named = host in allowed or f".{host}" in allowed
        return host if named else self.masked_host(host)

    def _who(self, seen: Seen) -> Who | None:
        """None: of an address that is not in the sample."""
        looked = self._looked(seen.candidates)
        user, is_staff = seen.asked.pk or "", seen.asked.is_staff
        if not looked.user and seen.session:
            # Nobody has asked for a limit's sake. The view may have.
            known = seen.user
            if known is None:
                user = None  # type: ignore[assignment]
            elif known.is_authenticated:
                user, is_staff = str(known.pk), bool(known.is_staff)
        address = seen.address
        key = address, user, is_staff, seen.asked, looked, seen.session
        if key not in self._whos:
            self._whos[key] = self._digested(*key)
        found = self._whos[key]
        return found if self._is_sampled(found.address) else None

    def _digested(
        self,
        address: str,
        user: str | None,
        is_staff: bool,
        asked: UserFacts,
        looked: _Asked,
        has_session: bool,
    ) -> Who:
        of = self._digests.of
        groups: tuple[str, ...] | None = tuple(sorted(asked.groups))
        session: str | None = asked.session and of(("session", asked.session))
        if has_session and not (looked.groups and looked.user) and user != "":
            groups = None
        if has_session and not looked.session:
            session = None
        return Who(
            address=of(("address", address)),
            network=UNKNOWN if address == UNKNOWN else coarse_network(address),
            user=user and of(("user", user)),
            is_staff=is_staff,
            groups=groups,
            session=session,
            keys=tuple((name, of((f"header {name}", whose))) for name, whose in asked.keys),
            headers=looked.headers if self._validator else (ALL_KNOWN,),
        )

    def _is_sampled(self, digest: str) -> bool:
        return self._sample == 1 or _number(digest) % self._sample == 0

    def _looked(self, candidates: list[CompiledRule]) -> _Asked:
        key = tuple(map(id, candidates))
        found = self._lookups.get(key)
        if found is None:
            headers = frozenset[str]().union(*(compiled.headers for compiled in candidates))
            # With the rules themselves, so that none of these ids can be another's meanwhile.
            found = self._lookups[key] = (
                candidates,
                _Asked(
                    any(compiled.needs_user for compiled in candidates),
                    any(compiled.needs_groups for compiled in candidates),
                    any(compiled.needs_session for compiled in candidates),
                    tuple(sorted(headers)),
                ),
            )
        return found[1]


class _Tables:
    """A batch while it is made: places by what they were made of."""

    def __init__(self) -> None:
        self.whos: dict[tuple[Any, ...], int] = {}
        self.whats: dict[tuple[Any, ...], int] = {}
        self.outcomes: dict[tuple[Any, ...], int] = {}
        self._whos: dict[Who, int] = {}
        self._whats: dict[What, int] = {}
        self.at_us: list[int] = []
        self.took_us: list[int] = []
        self.what: list[int] = []
        self.who: list[int] = []
        self.outcome: list[int] = []

    def place_of(self, who: Who | None) -> int:
        """-1 of nobody."""
        return -1 if who is None else self._whos.setdefault(who, len(self._whos))

    def place_of_what(self, what: What) -> int:
        return self._whats.setdefault(what, len(self._whats))

    def fill(self, batch: Batch) -> None:
        batch.whats, batch.whos = list(self._whats), list(self._whos)
        batch.outcomes = [Outcome(*outcome) for outcome in self.outcomes]
        for name in ("at_us", "took_us", "what", "who", "outcome"):
            getattr(batch, name).extend(getattr(self, name))


def _allowed_hosts() -> list[str]:
    if settings.DEBUG and not settings.ALLOWED_HOSTS:
        return [".localhost", "127.0.0.1", "[::1]"]
    return [str(host).lower() for host in settings.ALLOWED_HOSTS]


@lru_cache(maxsize=10_000)
def _number(digest: str) -> int:
    return int.from_bytes(digest[:8].encode(), "big") * 2_654_435_761 >> 16


def _key_of(user: Any) -> tuple[Any, ...]:
    """What a record says of a user. One that the view has deleted has no hash."""
    if user is None:
        return ()
    return user.pk, user.is_authenticated, getattr(user, "is_staff", False)


def _denied_by(decision: Decision) -> tuple[int, ...]:
    return tuple(rule.id for rule in decision.violated)[:20] or (-1,)
