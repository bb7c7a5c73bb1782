"""Joins ruleset and storage: holds the version in force, and checks requests against it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from django.db import DatabaseError, connections

from . import conf, ruleset
from .models import RulesetVersion
from .policy.algorithms import Standing
from .policy.client_ip import in_networks
from .policy.decision import ALLOWED, Decision, Verdict, decide_all
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.identity import identity_parts
from .policy.matching import CompiledOverride, CompiledRule, Index, applies_to, compile_ruleset
from .policy.rules import Mode, OverrideAction, Rule, Ruleset
from .storage.cardinality import IdentityBudgets, IdentityCount
from .storage.connection import make_client
from .storage.errors import Unavailable
from .storage.limiter import RateLimiter
from .storage.packing import PackedLimits
from .storage.ruleset_store import FIRST_LOOK, RulesetStore

logger = logging.getLogger(__name__)

EMPTY_INDEX = compile_ruleset(Ruleset(version=-1))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked for one request, of which identities. ``blocked`` names the limit that
    an override closes, and for how long, us."""

    limits: PackedLimits | None = None
    whom: tuple[str, ...] = ()
    blocked: tuple[Rule, int] | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self.limits.rules if self.limits else ()


class Engine:
    """One per process. ``start`` must have been called before ``candidates``."""

    def __init__(self, config: conf.RateLimitConfig) -> None:
        client = make_client(
            config.redis_url,
            timeout_ms=config.redis_timeout_ms,
            max_connections=config.redis_max_connections,
        )
        self.config = config
        self.limiter = RateLimiter(config, client)
        self.store = RulesetStore(client, self.limiter.keys)
        self.identities = IdentityBudgets(
            client, self.limiter.keys, self.limiter.digests.of, config.identity_budget
        )
        self._index = EMPTY_INDEX
        self._last_look = FIRST_LOOK
        self._starting = threading.Lock()
        self._poller_pid: int | None = None
        self._poller: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def version(self) -> int:
        """Of the ruleset in force here; -1 before the first was loaded."""
        return self._index.version

    @property
    def index(self) -> Index:
        return self._index

    @property
    def started(self) -> bool:
        """In this very process: a fork takes the ruleset along, but not the poller."""
        return self._poller_pid == os.getpid()

    def start(self) -> None:
        """Load the ruleset and begin to poll its version; again after a fork. Cheap when done."""
        if self.started:
            return
        with self._starting:
            if self.started:
                return
            try:
                self.refresh()
            except Exception:
                # Published by another version of this code, say: no request must fail for that.
                logger.exception("The published ruleset cannot be used: reading the database")
                self._install(self._from_database())
            self._stop = threading.Event()
            self._poller = threading.Thread(
                target=self._poll, name="ratelimits-ruleset", daemon=True
            )
            self._poller.start()
            self._poller_pid = os.getpid()

    def stop(self) -> None:
        """End the polling; ``start`` begins it again."""
        self._stop.set()
        if self._poller is not None and self.started:
            self._poller.join()
        self._poller_pid = None

    def _poll(self) -> None:
        stop, interval_s = self._stop, self.config.ruleset_poll_ms / 1000
        while not stop.wait(interval_s):
            try:
                self.refresh()
            except Exception:
                logger.exception("Refreshing the ruleset failed; version %s stays", self.version)
            try:
                self.count_identities()
            except Exception:
                logger.exception("Counting identities failed; what was known of them stays")
            finally:
                connections.close_all()

    def refresh(self) -> None:
        """Bring the newest ruleset into force: from Redis, or else from the database."""
        try:
            version = self._look()
            if version == self._index.version:
                return
            newest = self.store.fetch() if version is not None else self._rebuild()
        except Unavailable as error:
            if self._index is not EMPTY_INDEX:
                return
            logger.warning("Redis is away (%s): reading the limits from the database", error)
            newest = self._from_database()
        self._install(newest)

    def count_identities(self) -> None:
        """Tell Redis who is new to limits with an identity budget, and learn who is over it."""
        with suppress(Unavailable):  # They wait, and what was known last holds for its period.
            self.identities.flush(time.time())

    def identity_count(self, rule: Rule) -> IdentityCount | None:
        """Of a limit's identity budget; None where it has none. Raises Unavailable."""
        return self.identities.count(rule, time.time())

    def _install(self, newest: Ruleset | None) -> None:
        if newest is not None and newest.version != self._index.version:
            index = compile_ruleset(newest)
            self.identities.install(newest.rules)
            self._index = index
            self.limiter.forget_rules()
            logger.info("Ruleset %d in force: %d limits", newest.version, len(newest.rules))

    def _look(self) -> int | None:
        """The version in Redis. Who was reset meanwhile is forgotten here too: all, where Redis
        has lost what it knew."""
        look = self._last_look = self.store.look(self._last_look)
        if look.reset is None or look.reset:
            self.limiter.forget(look.reset)
        if look.reset is None:
            self.identities.forget()
        return look.version

    def _rebuild(self) -> Ruleset | None:
        """Redis has lost the ruleset: one process publishes it again, the others wait."""
        if not self.store.try_lock() and self.started:
            return None
        newest = self._from_database()
        if newest is not None:
            self.store.publish(newest)
        return newest

    def _from_database(self) -> Ruleset | None:
        try:
            return ruleset.load()
        except DatabaseError as error:
            # Before the first `migrate` the site runs without limits.
            logger.warning("The limits cannot be read from the database: %s", error)
            return None

    def publish(self) -> int:
        """Publish the database's limits. Returns their version. Raises Unavailable."""
        newest = ruleset.load()
        self.store.publish(newest)
        return newest.version

    def reconcile(self) -> bool:
        """Publish where Redis is behind the database; whether it was. Raises Unavailable."""
        published = self.store.version()
        if published is not None and published >= RulesetVersion.current():
            return False
        self.publish()
        return True

    def candidates(self, facts: RequestFacts) -> list[CompiledRule]:
        """The limits that match by all that is known without the user."""
        return self._index.candidates(facts, time.time_ns() // 1000)

    def plan(
        self, candidates: list[CompiledRule], facts: RequestFacts, user: UserFacts = ANONYMOUS
    ) -> Plan:
        """Whom each limit counts, overrides applied."""
        now_us = time.time_ns() // 1000
        rules: list[Rule] = []
        places: list[int] = []
        # Most limits count the same few identities: how they count -> place among the digests.
        known: dict[str, int] = {}
        whom: dict[str, int] = {}
        for compiled in candidates:
            rule = compiled.rule
            if compiled.particular and not applies_to(rule, user):
                continue
            if compiled.overrides:
                outcome = _override(compiled, facts, user, now_us)
                if outcome is None:
                    continue
                rule, blocked_us = outcome
                if blocked_us:
                    if rule.mode is not Mode.ENFORCE:
                        continue  # A limit that blocks nobody does not block these either.
                    return Plan(blocked=(rule, blocked_us))
            place = known.get(compiled.counted)
            if place is None:
                who = self.limiter.digests.of(identity_parts(rule, facts, user))
                place = known[compiled.counted] = whom.setdefault(who, len(whom))
            rules.append(rule)
            places.append(place)
        if not rules:
            return Plan()
        asked = self.limiter.limits(rules, places), tuple(whom)
        if asked not in self.identities.settled:
            return self._within_budget(asked, rules, places)
        return Plan(*asked)

    def _within_budget(
        self, asked: tuple[PackedLimits, tuple[str, ...]], rules: list[Rule], places: list[int]
    ) -> Plan:
        """Who is new to a limit that is over its identity budget is counted with all such."""
        places, whom = self.identities.admit(rules, places, asked[1])
        if whom != asked[1]:
            return Plan(self.limiter.limits(rules, places), whom)
        self.identities.settle(asked)
        return Plan(*asked)

    def check(self, plan: Plan, *, charge: bool = True) -> Decision:
        if plan.blocked:
            return _blocked(*plan.blocked)
        if plan.limits is None:
            return ALLOWED
        return self.limiter.check_limits(plan.limits, plan.whom, charge=charge)

    async def acheck(self, plan: Plan) -> Decision:
        if plan.blocked:
            return _blocked(*plan.blocked)
        if plan.limits is None:
            return ALLOWED
        return await self.limiter.acheck_limits(plan.limits, plan.whom)

    def reset(self, digests: Sequence[str], rules: Sequence[Rule] = ()) -> int:
        """``RateLimiter.reset``, in force in every process when it next looks at the ruleset."""
        try:
            return self.limiter.reset(digests, rules)
        finally:  # Where no reply came, it may have been done.
            self.store.tell_reset(digests)

    def settle(self, decision: Decision, status: int, raised: AbstractSet[str]) -> Decision:
        """Give back what turned out not to count, now that the response is known.

        Where Redis does not answer, the charge stays until its window ends.
        """
        charges = decision.uncounted(status, raised)
        if not charges:
            return decision
        try:
            self.limiter.refund(charges)
        except Unavailable:
            return decision
        return decision.refunded(charges)

    async def asettle(self, decision: Decision, status: int, raised: AbstractSet[str]) -> Decision:
        charges = decision.uncounted(status, raised)
        if not charges:
            return decision
        try:
            await self.limiter.arefund(charges)
        except Unavailable:
            return decision
        return decision.refunded(charges)


BLOCKED_RETRY_US = 3_600_000_000
"""What a client hears that is blocked without an end."""


def _blocked(rule: Rule, wait_us: int) -> Decision:
    return decide_all([Verdict(rule, False, Standing(0, wait_us, wait_us, wait_us))], blocked=True)


_PARTICULARITY = {"user": 4, "key": 3, "network": 2, "group": 1}


def _override(
    compiled: CompiledRule, facts: RequestFacts, user: UserFacts, now_us: int
) -> tuple[Rule, int] | None:
    """The rule for this client and, where it is blocked, for how long (us); None: unlimited.

    The most particular override wins: user, then key, network and group.
    """
    found = None
    rank = 0
    for candidate in compiled.overrides:
        own = candidate.override
        if own.until_us is not None and own.until_us <= now_us:
            continue
        if _PARTICULARITY[own.target] > rank and _is_about(candidate, facts, user):
            found, rank = candidate, _PARTICULARITY[own.target]
    if found is None:
        return compiled.rule, 0
    match found.override.action:
        case OverrideAction.UNLIMITED:
            return None
        case OverrideAction.BLOCKED:
            until_us = found.override.until_us
            return found.rule, BLOCKED_RETRY_US if until_us is None else until_us - now_us
        case OverrideAction.QUOTA:
            return found.rule, 0


def _is_about(compiled: CompiledOverride, facts: RequestFacts, user: UserFacts) -> bool:
    override = compiled.override
    match override.target:
        case "user":
            return override.value == user.pk
        case "key":
            return tuple(override.value.split(":", 1)) in user.keys
        case "group":
            return override.value in user.groups
        case _:
            return in_networks(facts.address, compiled.networks)


@cache
def get_engine() -> Engine:
    """This process's engine."""
    return Engine(conf.current())
