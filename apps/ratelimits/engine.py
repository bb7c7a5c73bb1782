"""Joins ruleset and storage: holds the version in force, and checks requests against it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from multiprocessing.util import Finalize

from . import conf, ruleset
from .following import Follower
from .kept_path import kept_path
from .models import RulesetVersion
from .noting import noted
from .planning import Plan, as_overridden, blocked
from .policy.decision import ALLOWED, Decision
from .policy.facts import ANONYMOUS, RequestFacts, UserFacts
from .policy.identity import identity_parts
from .policy.matching import CompiledRule, Index, applies_to, compile_ruleset
from .policy.rules import Mode, Rule, Ruleset
from .recording import Recorder
from .storage.cardinality import IdentityBudgets, IdentityCount
from .storage.connections import Connections
from .storage.denied import DeniedStore
from .storage.denied_notes import DeniedNotes
from .storage.errors import Unavailable
from .storage.heartbeat import Heartbeat, Took
from .storage.limiter import RateLimiter
from .storage.packing import PackedLimits
from .storage.processes import Processes
from .storage.ruleset_store import RulesetStore
from .storage.tally import Tally
from .storage.traffic import TrafficStore
from .storage.transport import topology
from .storage.usage import UsageStore

logger = logging.getLogger(__name__)

EMPTY_INDEX = compile_ruleset(Ruleset(version=-1))
START_WAIT_S = 1.0
"""The first requests of a process wait so long for limits, where neither Redis nor the database
gives them."""
FIRST_POLL_S = 0.05
"""Until it has limits, or knows that there are none, a process looks so often."""


class Engine:
    """One per process. ``start`` must have been called before ``candidates``."""

    def __init__(self, config: conf.RateLimitConfig) -> None:
        client = topology(config).client()
        self.config = config
        self.limiter = RateLimiter(config, client)
        self.store = RulesetStore(client, self.limiter.keys)
        self.processes = Processes(client, self.limiter.keys)
        self.identities = IdentityBudgets(
            client, self.limiter.keys, self.limiter.digests.of, config.identity_budget
        )
        self.tally = Tally(self._connections)
        self.usage = UsageStore(client, self.limiter.keys)
        digests = self.limiter.digests
        self.denied_notes = DeniedNotes(digests, lambda path: kept_path(path, digests))
        self.denied = DeniedStore(client, self.limiter.keys)
        self.recorder = Recorder(config)
        self.traffic = TrafficStore(
            client, self.limiter.keys, config.traffic_records, 60 * config.traffic_minutes
        )
        self._took = Took(config_load_us=conf.load_us(config))
        self._index = EMPTY_INDEX
        self._follower = Follower(
            self.store,
            ruleset.load,
            self._install,
            self._forget,
            self.limiter.redis.leave_alone,
            self.limiter.failures,
        )
        self._heartbeat = Heartbeat(
            self.processes,
            self.limiter,
            lambda: self.version,
            host_key=config.identity_key,
            tally=self.tally,
            took=self._took,
        )
        self._starting = threading.Lock()
        self._started_pid: int | None = None
        self._poller_pid: int | None = None
        self._poller: threading.Thread | None = None
        self._started_by_s = 0.0
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._at_exit: Finalize | None = None

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
        return self._started_pid == os.getpid()

    def start(self) -> None:
        """Begin to follow the limits; again after a fork. Cheap when done.

        Waits for the first limits, START_WAIT_S at most: what they are when a request has waited
        so long, ``without_limits`` says.
        """
        if self.started:
            return
        with self._starting:
            if self._poller_pid != os.getpid():
                self._stop = threading.Event()
                self._follower.begin()
                self._started_by_s = time.monotonic() + START_WAIT_S
                self._poller_pid = os.getpid()
                self._poller = threading.Thread(
                    target=self._poll, name="ratelimits-ruleset", daemon=True
                )
                self._poller.start()
                self._stop_at_exit()
        settled = self._follower.settled
        waited = settled.wait(max(0.0, self._started_by_s - time.monotonic()))
        if not waited and not self.started:
            logger.warning("No limits after %s s: requests no longer wait for them", START_WAIT_S)
        self._started_pid = os.getpid()

    def stop(self) -> None:
        """End the polling, and say so to the other processes; ``start`` begins it again."""
        self._stop.set()
        if self._poller is not None and self._poller_pid == os.getpid():
            self._poller.join()
            self._in_turn(self._give_back_leases, "What was taken ahead is not given back")
            self._in_turn(self.flush_usage, "What was counted last is not in Redis")
            self._in_turn(self.flush_denied, "Who was denied last is not in Redis")
            self._in_turn(self.flush_traffic, "What was recorded last is not in Redis")
            self._heartbeat.leave()
        self._poller_pid = self._started_pid = None
        atexit.unregister(self.stop)
        if self._at_exit is not None:
            self._at_exit.cancel()

    def _give_back_leases(self) -> None:
        try:
            self.limiter.give_back_leases()
        except Unavailable as error:
            self.limiter.failures.note(error)

    def _stop_at_exit(self) -> None:
        """A worker that multiprocessing has started, as granian's are, runs no ``atexit``."""
        atexit.register(self.stop)
        self._at_exit = Finalize(None, self.stop, exitpriority=1)

    def _poll(self) -> None:
        stop, follower, interval_s = self._stop, self._follower, self.config.ruleset_poll_ms / 1000
        while True:
            follower.turn()
            self._in_turn(
                self._heartbeat.beat, "This process is not counted among those that serve"
            )
            self._in_turn(self.count_identities, "Counting identities failed: the last count stays")
            self._in_turn(self._flush_usage, "What the limiter does is not counted in Redis")
            self._in_turn(self._flush_denied, "Who is denied is not noted in Redis")
            self._in_turn(self._flush_traffic, "Requests are not recorded for previews")
            if stop.wait(interval_s if follower.settled.is_set() else FIRST_POLL_S):
                return

    def _in_turn(self, work: Callable[[], None], failed: str) -> None:
        """What fails by a mistake of ours keeps nothing else from being done; said once."""
        try:
            work()
            self._said.discard(failed)
        except Exception:
            if failed not in self._said:
                self._said.add(failed)
                logger.exception(failed)

    def refresh(self) -> None:
        """Bring the newest ruleset into force: from Redis, or else from the database."""
        self._follower.refresh()

    def count_identities(self) -> None:
        """Tell Redis who is new to limits with an identity budget, and learn who is over it."""
        try:
            self.identities.flush(time.time())
        except Unavailable as error:  # They wait, and what was known last holds for its period.
            self.limiter.failures.note(error)

    def flush_usage(self) -> None:
        """Send what this process has counted to Redis, now. Where Redis is away it waits."""
        self._flush_usage(now=True)

    def _flush_usage(self, *, now: bool = False) -> None:
        try:
            self.tally.flush(self.usage, now=now)
        except Unavailable as error:
            self.limiter.failures.note(error)

    def flush_denied(self) -> None:
        """Send whom this process denied to Redis, now. Where Redis is away it waits."""
        self._flush_denied(now=True)

    def _flush_denied(self, *, now: bool = False) -> None:
        try:
            self.denied_notes.flush(self.denied, now=now)
        except Unavailable as error:
            self.limiter.failures.note(error)

    def note_denied(
        self, plan: Plan, decision: Decision, facts: RequestFacts, user: UserFacts
    ) -> None:
        """For the lists of who was denied; never of a request that is allowed."""
        of, with_names = self.limiter.digests.of, self.config.denied_names
        self.denied_notes.note(noted(plan, decision, facts, user, of, with_names=with_names))

    def flush_traffic(self) -> None:
        """Send the requests that this process has seen to Redis, now. Where Redis is away they are
        lost: a preview can do without."""
        self._flush_traffic(now=True)

    def _flush_traffic(self, *, now: bool = False) -> None:
        if not self.recorder.on:
            return
        try:
            self.recorder.flush(self.traffic, now=now)
        except Unavailable as error:
            self.limiter.failures.note(error)

    def _connections(self) -> Iterable[Connections]:
        return [node.connections for node in self.limiter.redis.nodes]

    def identity_count(self, rule: Rule) -> IdentityCount | None:
        """Of a limit's identity budget; None where it has none. Raises Unavailable."""
        return self.identities.count(rule, time.time())

    def _forget(self, digests: frozenset[str] | None) -> None:
        """Who was reset in another process; None: Redis has lost what it knew."""
        self.limiter.forget(digests)
        if digests is None:
            self.identities.forget()

    def _install(self, newest: Ruleset) -> None:
        began_ns = time.perf_counter_ns()
        index = compile_ruleset(newest)
        self._took.ruleset_compile_us = (time.perf_counter_ns() - began_ns) // 1000
        self.identities.install(newest.rules)
        self._index = index
        self.limiter.forget_rules()

    def without_limits(self) -> Decision | None:
        """What a request is told where no limits could be had; None: it is let pass."""
        if self.version >= 0 or self.config.no_ruleset != "deny":
            return None
        return Decision(False, unavailable=True)

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
        """Whom each limit counts; overrides applied, and canaries as they are for this client."""
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
            if compiled.varies:
                if compiled.canary is not None:
                    who = self.limiter.digests.of(identity_parts(rule, facts, user))
                    compiled = compiled.canary.of(who)
                outcome = as_overridden(compiled, facts, user, now_us)
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
        own = tuple([asked[1][place] for place in places])
        places, whom = self.identities.admit(rules, places, asked[1])
        if whom != asked[1]:
            return Plan(self.limiter.limits(rules, places), whom, own=own)
        self.identities.settle(asked)
        return Plan(*asked)

    def decide(
        self, candidates: list[CompiledRule], facts: RequestFacts, user: UserFacts = ANONYMOUS
    ) -> tuple[Decision, Plan]:
        """``plan`` and ``check`` for a request, which is counted in ``usage``: what was decided, of
        whom."""
        began_ns = time.perf_counter_ns()
        plan = self.plan(candidates, facts, user)
        decision = self.check(plan)
        if decision is not ALLOWED:
            self.tally.checked(plan.limits, decision, time.perf_counter_ns() - began_ns)
            if not decision.allowed:
                self.note_denied(plan, decision, facts, user)
        return decision, plan

    async def adecide(
        self, candidates: list[CompiledRule], facts: RequestFacts, user: UserFacts = ANONYMOUS
    ) -> tuple[Decision, Plan]:
        """``decide`` on the running event loop."""
        began_ns = time.perf_counter_ns()
        plan = self.plan(candidates, facts, user)
        decision = await self.acheck(plan)
        if decision is not ALLOWED:
            self.tally.checked(plan.limits, decision, time.perf_counter_ns() - began_ns)
            if not decision.allowed:
                self.note_denied(plan, decision, facts, user)
        return decision, plan

    def check(self, plan: Plan, *, charge: bool = True) -> Decision:
        if plan.blocked:
            return blocked(*plan.blocked)
        if plan.limits is None:
            return ALLOWED
        return self.limiter.check_limits(plan.limits, plan.whom, charge=charge)

    async def acheck(self, plan: Plan) -> Decision:
        if plan.blocked:
            return blocked(*plan.blocked)
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


_engine: Engine | None = None
_making = threading.Lock()


def get_engine() -> Engine:
    """This process's engine: one, also where threads ask for the first time at once."""
    global _engine
    if _engine is None:
        with _making:
            if _engine is None:
                _engine = Engine(conf.current())
    return _engine


def forget_engine() -> None:
    """Another is made when it is next asked for; for tests, whose settings change."""
    global _engine
    _engine = None


def _after_fork() -> None:
    global _making
    # Another thread of the parent's may have held them.
    _making = threading.Lock()
    if _engine is not None:
        _engine._starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
