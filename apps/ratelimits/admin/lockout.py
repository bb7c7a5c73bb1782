"""Whether an edit would keep the person who makes it out of the admin, or stop health checks.

Each request that must keep working is asked as the middleware asks it, with the limit as it
would be saved: the pages on which the edit is undone, for this user from this address; the log-in
page, signed out; and the site's health checks, from the load balancer's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, cast

from django.contrib.auth.models import AbstractUser, Group
from django.db.models import Q
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, resolve, reverse

from .. import conf, ruleset
from ..engine import get_engine
from ..exempt_paths import ExemptPaths
from ..models import Override, RateLimit
from ..planning import Plan
from ..policy.client_ip import client_address
from ..policy.errors import PolicyError
from ..policy.facts import ANONYMOUS, UserFacts
from ..policy.matching import Index, compile_ruleset
from ..policy.rules import (
    BLOCKING,
    Algorithm,
    Audience,
    CountedBy,
    FailurePolicy,
    Mode,
    Rule,
    Ruleset,
)
from ..request_facts import request_facts, user_facts

HOUR_US = 3_600_000_000
PROBE_EVERY_S = 5
PROBED_SERVERS = 4
"""A load balancer asks each server of the site, and all its questions count as one client's."""
MOST_NAMED = 3


class _Use(NamedTuple):
    """What a client needs: of requests in a row, in an hour and at the same time."""

    in_a_row: int
    per_hour: int
    at_once: int
    answers: tuple[int, ...]
    needed_in_a_row: str
    needed_per_hour: str


# A person at work in the admin, generously: a page is one to three requests.
WORK = _Use(20, 60, 3, (200, 302), "where a few pages need", "where work needs")


class _Visit(NamedTuple):
    """A request that must keep working."""

    method: str
    path: str
    address: str | None
    """None: the editor's own."""
    user: UserFacts


class LockOut:
    """Of the edits that one request asks for."""

    def __init__(self, request: HttpRequest) -> None:
        config = conf.current()
        self._exempt = ExemptPaths(config)
        self._seen = request_facts(request, config)
        self._editor = user_facts(cast(AbstractUser, request.user))
        self._probes = list(_probes(request, config))
        self._matches: dict[str, ResolverMatch | None] = {}

    def reasons(self, rule: Rule) -> tuple[str, ...]:
        """What to tell whoever saves this limit, a text per reason; empty where it leaves the
        admin usable to them and health checks alone. Overrides count."""
        if rule.mode not in BLOCKING:
            return ()
        # Whenever it is active: a limit that begins tomorrow locks out tomorrow. And for whomever:
        # who is in a canary depends on the address that staff have today.
        always = replace(rule, mode=Mode.ENFORCE, active_from_us=None, active_until_us=None)
        index = compile_ruleset(Ruleset(version=0, rules=(always,)))
        said: dict[str, str] = {}
        for visit, plan in self._covered(index, _work(rule, self._editor)):
            # Of each kind of reason the first: the same holds of many pages.
            said = {**_against_work(visit, plan), **said}
        return (*said.values(), *_against_probes(list(self._covered(index, self._probes))))

    def reasons_of_limit(
        self,
        limit: RateLimit,
        overrides: Iterable[Override] | None = None,
        groups: Iterable[Group] | None = None,
    ) -> tuple[str, ...]:
        """``reasons`` of a limit as it is, or with other overrides or groups. Raises PolicyError
        where it cannot be enforced."""
        if overrides is None:
            overrides = Override.objects.filter(Q(limit=None) | Q(limit=limit.pk))
        return self.reasons(ruleset.with_overrides(limit, overrides, groups))

    def reasons_of_override(
        self, *, saved: Override | None = None, removed: Iterable[Override] = ()
    ) -> tuple[str, ...]:
        """What an override does that is saved so, or overrides do that are removed, and the
        limits would not do without the edit; with their names."""
        before = list(Override.objects.all())
        gone = {override.pk for override in (saved, *removed) if override is not None}
        after = [override for override in before if override.pk not in gone]
        after += [saved] if saved is not None else []
        edited = [override for override in (*before, saved) if override and override.pk in gone]
        return self.reasons_of_overrides(before, after, edited)

    def reasons_of_overrides(
        self, before: Iterable[Override], after: Iterable[Override], edited: Iterable[Override]
    ) -> tuple[str, ...]:
        """What the limits do with the overrides ``after``, and not with those ``before``; with
        their names. ``edited`` are those that make the difference."""
        about = {override.limit_id for override in edited}
        named: dict[str, list[str]] = {}
        enforced = RateLimit.objects.filter(mode__in=BLOCKING)
        for limit in enforced.prefetch_related("groups"):
            if about.isdisjoint((None, limit.pk)):
                continue
            try:
                was = self.reasons_of_limit(limit, before)
                new = self.reasons_of_limit(limit, after)
            except PolicyError:
                continue  # It is not enforced, whatever its overrides are.
            for text in new:
                if text not in was:
                    named.setdefault(text, []).append(limit.name)
        return _told(named)

    def reasons_of_limits(self, limits: Iterable[RateLimit]) -> tuple[str, ...]:
        """``reasons`` of several as they are, with their names."""
        named: dict[str, list[str]] = {}
        overrides = list(Override.objects.all())
        for limit in limits:
            try:
                said = self.reasons_of_limit(limit, overrides)
            except PolicyError:
                continue  # It is not enforced.
            for text in said:
                named.setdefault(text, []).append(limit.name)
        return _told(named)

    def _covered(self, index: Index, visits: Iterable[_Visit]) -> Iterator[tuple[_Visit, Plan]]:
        """The visits that the limit is about, each with what would be asked for it."""
        for visit in visits:
            if visit.path in self._exempt:
                continue
            match = self._resolved(visit.path)
            facts = replace(
                self._seen,
                method=visit.method,
                path=visit.path,
                address=visit.address or self._seen.address,
                route=match.view_name if match else "",
                arguments=tuple((k, str(v)) for k, v in match.kwargs.items()) if match else (),
            )
            plan = get_engine().plan(index.candidates(facts, 0), facts, visit.user)
            if plan.blocked or plan.rules:
                yield visit, plan

    def _resolved(self, path: str) -> ResolverMatch | None:
        """Of many limits, most visits are to the same paths."""
        if path not in self._matches:
            try:
                self._matches[path] = resolve(path)
            except Resolver404:
                self._matches[path] = None
        return self._matches[path]


def _work(rule: Rule, editor: UserFacts) -> Iterator[_Visit]:
    """The pages of the admin on which a limit is found, mended and switched off."""
    limits = "admin:ratelimits_ratelimit"
    pages = [
        (reverse("admin:index"), editor),
        (reverse("admin:login"), ANONYMOUS),
        (reverse(f"{limits}_changelist"), editor),
    ]
    if rule.id:  # A new one has no number yet.
        pages.append((reverse(f"{limits}_change", args=(rule.id,)), editor))
        pages.append((reverse(f"{limits}_history", args=(rule.id,)), editor))
    for page, user in pages:
        for method in ("GET", "POST"):
            yield _Visit(method, page, None, user)


def _probes(request: HttpRequest, config: conf.RateLimitConfig) -> Iterator[_Visit]:
    """From the address that the site's requests come from, and from this machine."""
    peer = client_address(request.META.get("REMOTE_ADDR", ""), "", (), config.ipv6_prefix)
    for path in config.health_paths:
        for address in dict.fromkeys((peer, "127.0.0.1")):
            for method in ("GET", "HEAD"):
                yield _Visit(method, path, address, ANONYMOUS)


def _against_work(visit: _Visit, plan: Plan) -> dict[str, str]:
    where = f"{visit.method} {visit.path}"
    if plan.blocked:
        return {"blocked": f"It blocks you at {visit.path} ({visit.method}), by an override."}
    said = {}
    for rule in plan.rules:
        covers = f"It covers the admin ({where}) and"
        if _shared(rule):
            said["shared"] = (
                f"{covers} counts everyone together, {_rate(rule)}: once visitors have used that "
                "up, you wait too. Leave the admin's paths out, or count by address."
            )
        if too_few := _too_few(rule, WORK):
            said["few"] = (
                f"{covers} {too_few}: you could lock yourself out. Narrow its paths, raise it, or "
                "try it in shadow first."
            )
        if rule.on_failure is FailurePolicy.DENY:
            said["deny"] = (
                f"{covers} answers 503 to every request while Redis is away: nobody could sign in "
                "to change that. Choose another answer for when Redis fails, or leave the admin's "
                "paths out."
            )
    return said


def _against_probes(found: list[tuple[_Visit, Plan]]) -> Iterator[str]:
    paths = list(dict.fromkeys(visit.path for visit, _ in found))
    named = " and ".join(paths)
    out = "the load balancer then takes this server out of service"
    mend = "Name the path in IOTA_EXEMPT_PATHS, or narrow this limit's paths."
    each_per_hour = PROBED_SERVERS * 3_600 // PROBE_EVERY_S
    asked = f"where checks of {PROBED_SERVERS} servers every {PROBE_EVERY_S} s come to"
    probing = _Use(len(paths), len(paths) * each_per_hour, len(paths), (200,), asked, asked)
    said: dict[str, str] = {}
    for _, plan in found:
        if plan.blocked:
            said["blocked"] = f"It blocks the health check {named}, by an override: {out}."
        for rule in plan.rules:
            covers = f"It covers the health check {named} and"
            if _shared(rule):
                said["shared"] = (
                    f"{covers} counts everyone together, {_rate(rule)}: once visitors have used "
                    f"that up, {out}. {mend}"
                )
            elif too_few := _too_few(rule, probing):
                said["few"] = f"{covers} {too_few}: {out}. {mend}"
            if rule.on_failure is FailurePolicy.DENY:
                said["deny"] = (
                    f"{covers} answers 503 to every request while Redis is away: {out}. {mend}"
                )
    yield from said.values()


def _shared(rule: Rule) -> bool:
    """Whether others than staff can use up what staff need."""
    return CountedBy.EVERYONE in rule.counted_by and rule.audience is not Audience.STAFF


def _rate(rule: Rule) -> str:
    if rule.rate.algorithm is Algorithm.CONCURRENCY:
        return f"{rule.rate.quota:,} at once"
    return f"{rule.rate.quota:,} in {rule.rate.window_us // 1_000_000:,} s"


def _too_few(rule: Rule, use: _Use) -> str | None:
    """What such a client would soon run into."""
    rate = rule.rate
    if rate.algorithm is Algorithm.CONCURRENCY:
        return f"lets {rate.quota:,} in at once" if rate.quota < use.at_once else None
    in_a_row = rate.burst if rate.algorithm is Algorithm.TOKEN_BUCKET else rate.quota
    in_a_row //= rate.cost
    if not any(rule.counts_response(status, {"user_logged_in"}) for status in use.answers):
        # Work is given back: only what is under way at the same time can run into it.
        return f"lets {in_a_row:,} in at once" if in_a_row < use.at_once else None
    if in_a_row < use.in_a_row:
        return f"takes {_requests(in_a_row)} in a row, {use.needed_in_a_row} {use.in_a_row:,}"
    per_hour = rate.quota * HOUR_US // (rate.window_us * rate.cost)
    if per_hour < use.per_hour:
        return f"takes {_requests(per_hour)} an hour, {use.needed_per_hour} {use.per_hour:,}"
    return None


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{number:,} requests"


def _told(named: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(f"{_listed(names)}: {text}" for text, names in named.items())


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
