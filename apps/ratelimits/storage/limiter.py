"""RateLimiter: decides and charges all limits of a request in one call to Redis.

A check goes three ways. What this process knows answers at once: a lease that has something
left, a denial that still holds. Else Redis is asked, in one call. Where it does not answer, each
limit's failure policy does. What to send and what a reply means are worked out without I/O, so
that the sync and the async path differ in the lines that wait.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import redis
import redis.asyncio

from ..policy import algorithms
from ..policy.decision import ALLOWED, Charge, Decision, Held, Verdict, decide_all
from ..policy.identity import Digests
from ..policy.rules import Algorithm, Counts, FailurePolicy, Mode, Rate, Rule
from . import packing, scripts
from .connection import Breaker, as_unavailable, make_async_client
from .connections import Connections
from .errors import Unavailable
from .failures import Failures, node_name
from .keys import Keys
from .leases import Leases
from .local import LocalLimiter
from .memory import Denials
from .packing import PackedLimits
from .pipelining import Pipeline

DEFAULT_RULE = Rule(
    id=0, name="default", rate=Rate(Algorithm.TOKEN_BUCKET, 100, 60_000_000, burst=100)
)
"""What ``check_rate_limit`` enforces where nobody says otherwise: 100 per minute."""

UNAVAILABLE_RETRY_US = 1_000_000
MOST_PACKED = 4_096


class Config(Protocol):
    """The part of the site's RateLimitConfig that a limiter reads."""

    @property
    def redis_url(self) -> str: ...
    @property
    def key_prefix(self) -> str: ...
    @property
    def identity_key(self) -> bytes: ...
    @property
    def redis_timeout_ms(self) -> int: ...
    @property
    def redis_max_connections(self) -> int: ...
    @property
    def breaker_failures(self) -> int: ...
    @property
    def breaker_open_ms(self) -> int: ...
    @property
    def local_processes(self) -> int: ...


class Target(NamedTuple):
    """One limit and the digest of whom it counts."""

    rule: Rule
    digest: str


_Asked = tuple[bytes, float, int, bool, int, str]
"""A check on its way: its command, when it was sent, how often identities had been forgotten by
then, whether it charges, the lease that it takes, and its member in sets of slots."""


class RateLimiter:
    """Checks identities against limits.

    ``client`` must not retry by itself: ``storage.connection.make_client`` makes such a one.
    Redis errors never surface from ``check``: each limit's failure policy decides instead, and
    ``failures`` counts them. Errors in our own scripts do surface.

    What it remembers of denials and leases ends with a reset in this process; of a reset in
    another ``forget`` tells it.
    """

    def __init__(
        self, config: Config, client: redis.Redis, *, rules: Sequence[Rule] = (DEFAULT_RULE,)
    ) -> None:
        self.keys = Keys(config.key_prefix)
        self.client = client
        self.breaker = Breaker(config.breaker_failures, config.breaker_open_ms / 1000)
        self.failures = Failures(node_name(config.redis_url))
        self.digests = Digests(config.identity_key)
        self.denials = Denials()
        self.leases = Leases()
        self.forgotten = 0
        self._config = config
        self._timeout_s = config.redis_timeout_ms / 1000
        self._connections = Connections(
            client.connection_pool, config.redis_max_connections, self._timeout_s
        )
        self._pipelines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pipeline] = (
            weakref.WeakKeyDictionary()
        )
        self._last_pipeline: tuple[Callable[[], Any], Pipeline | None] = (lambda: None), None
        self._giving_back: set[asyncio.Task[None]] = set()
        # Of what is free, a process takes this part at most.
        self._share = 2 * config.local_processes
        self._packed: dict[tuple[Any, ...], PackedLimits] = {}
        self._own = PackedLimits(self.keys, tuple(rules), (0,) * len(rules))
        self._local = LocalLimiter(config.local_processes)

    def check_rate_limit(self, identity: str) -> Decision:
        """Charge one request of ``identity`` to the rules this limiter was made with."""
        if not self._own.rules:
            return ALLOWED
        return self.check_limits(self._own, (self.digests.of(("name", identity)),))

    def limits(self, rules: Sequence[Rule], places: Sequence[int]) -> PackedLimits:
        """Rules that are checked together, packed once for all checks of these same objects.

        ``places``: which of the check's identities each of them counts, from 0.
        """
        key = (*map(id, rules), *places)
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) >= MOST_PACKED:
                self._packed.clear()
            # It holds its rules, so that none of these ids can be another's while it is here.
            packed = self._packed[key] = PackedLimits(self.keys, rules, places)
        return packed

    def check_limits(
        self, limits: PackedLimits, whom: tuple[str, ...], *, charge: bool = True
    ) -> Decision:
        """Decide every limit at once for the identities ``whom``, different digests each: all
        enforcing limits are charged, or none."""
        if charge and (limits.leased or self.denials.known):
            known = self._known(limits, whom)
            if known is not None:
                return known
        asked = self._asked(limits, whom, charge)
        try:
            reply = self._ask(asked[0], "check")
        except Unavailable:
            return self._without_redis(limits, whom, charge)
        if reply.__class__ is bytes:
            return Decision.from_reply(True, limits, reply)
        return self._answered(limits, whom, asked, reply)

    async def acheck_limits(self, limits: PackedLimits, whom: tuple[str, ...]) -> Decision:
        """``check_limits`` on the running event loop."""
        if self.denials.known or not limits.plain:
            known = self._known(limits, whom)
            if known is not None:
                return known
            if limits.slots or limits.leased:
                return await self._acheck_to_the_end(limits, whom)
        asked = self._asked(limits, whom, True)
        try:
            # As _ask_async does: a coroutine of its own costs a thirtieth of a check.
            if self.breaker.in_a_row:
                self.breaker.before_call()
            try:
                reply = await self._pipeline().ask(asked[0])
            except (redis.RedisError, OSError) as error:
                reply = await self._after_all(error, asked[0], "check")
            if self.breaker.in_a_row:
                self.breaker.succeeded()
        except Unavailable:
            return self._without_redis(limits, whom, True)
        if reply.__class__ is bytes:
            return Decision.from_reply(True, limits, reply)
        return self._answered(limits, whom, asked, reply)

    async def _acheck_to_the_end(self, limits: PackedLimits, whom: tuple[str, ...]) -> Decision:
        """Also where whoever asks is cancelled: a block is kept, and a slot given back."""

        async def check() -> Decision:
            asked = self._asked(limits, whom, True)
            try:
                reply = await self._ask_async(asked[0], "check")
            except Unavailable:
                return self._without_redis(limits, whom, True)
            return self._answered(limits, whom, asked, reply)

        async def give_back() -> None:
            await self.arelease((await checking).held)

        checking = asyncio.create_task(check())
        try:
            return await asyncio.shield(checking)
        except asyncio.CancelledError:
            task = asyncio.create_task(give_back())
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise

    def check(self, targets: Sequence[Target], *, charge: bool = True) -> Decision:
        """``check_limits``, for limits that are named with whom they count."""
        return self.check_limits(*self._pack(targets), charge=charge) if targets else ALLOWED

    async def acheck(self, targets: Sequence[Target]) -> Decision:
        """``check`` on the running event loop."""
        return await self.acheck_limits(*self._pack(targets)) if targets else ALLOWED

    def peek(self, targets: Sequence[Target]) -> Decision:
        """What ``check`` would say now, charging nobody."""
        return self.check(targets, charge=False)

    def traced_check(self, targets: Sequence[Target]) -> tuple[list[int], Decision]:
        """``check`` with the script's raw reply, for replay against the oracle: always asked, in
        one call, whatever this process remembers."""
        limits, whom = self._pack(targets)
        asked = self._asked(limits, whom, True)
        reply = self._ask(asked[0], "check")
        return list(limits.read(reply)), self._answered(limits, whom, asked, reply)

    def reset(self, digests: Sequence[str], rules: Sequence[Rule] = ()) -> int:
        """Forget all that is counted of identities; their logs and slots too, for ``rules``.

        Returns the number of keys removed. Raises Unavailable. What other processes remember of
        them they forget when the engine tells them (``Engine.reset``).
        """
        if not digests:
            return 0
        names = [self.keys.bucket(who) for who in digests]
        names += [key for who in digests for r in rules if (key := self.keys.sidecar(r, who))]
        try:
            return int(self._ask(packing.command("UNLINK", *names)))
        finally:  # Where no reply came, the keys may be gone.
            self.forget(digests)

    def forget(self, digests: Collection[str] | None) -> None:
        """These identities were reset, or (None) all: what is remembered of them holds no longer,
        nor does the answer to a check that is on its way."""
        self.forgotten += 1
        self.denials.forget(digests)
        self.leases.forget(digests)

    def forget_rules(self) -> None:
        """Another ruleset is in force: what was packed and remembered for the last one is not
        asked for again. A lease stays, for the limit that is as it was."""
        self.denials.forget(None)
        self._packed.clear()

    def refund(self, charges: Sequence[Charge]) -> int:
        """Give back what ``charges`` name, in one call. Returns how many were given back: not
        those that have expired. Raises Unavailable: nobody may assume that they were."""
        in_redis = self._charged_in_redis(charges)
        given = len(charges) - len(in_redis)
        return given + (self._ask(self._refund_command(in_redis), "refund") if in_redis else 0)

    async def arefund(self, charges: Sequence[Charge]) -> int:
        """``refund`` on the running event loop."""
        in_redis = self._charged_in_redis(charges)
        given = len(charges) - len(in_redis)
        if not in_redis:
            return given
        return given + int(await self._ask_async(self._refund_command(in_redis), "refund"))

    def acquire(self, target: Target) -> Decision:
        """Take a slot of a concurrency limit; the decision's ``held`` is what to release."""
        if target.rule.rate.algorithm is not Algorithm.CONCURRENCY:
            raise ValueError(f"{target.rule.name} is no concurrency limit")
        return self.check([target])

    def release(self, held: Sequence[Held]) -> None:
        """Free slots. Where Redis does not answer, their lease ends them."""
        for key, member in self._held_in_redis(held):
            try:
                self._ask(packing.command("ZREM", key, member))
            except Unavailable:
                return

    async def arelease(self, held: Sequence[Held]) -> None:
        """``release`` on the running event loop."""
        for key, member in self._held_in_redis(held):
            try:
                await self._ask_async(packing.command("ZREM", key, member))
            except Unavailable:
                return

    def count_processes(self, alive: int) -> None:
        """So many serve the site by now: the fallback divides quotas by them, or by the number
        that the configuration names where that is more."""
        self._local.processes = max(self._config.local_processes, alive)

    def close(self) -> None:
        """Close the sync connections."""
        self._connections.close()
        self.client.close()

    async def aclose(self) -> None:
        """Close the connection of the running event loop."""
        pipeline = self._pipelines.pop(asyncio.get_running_loop(), None)
        self._last_pipeline = (lambda: None), None
        if pipeline is not None:
            await pipeline.close()

    def _pack(self, targets: Sequence[Target]) -> tuple[PackedLimits, tuple[str, ...]]:
        whom: dict[str, int] = {}
        places = [whom.setdefault(target.digest, len(whom)) for target in targets]
        return self.limits([target.rule for target in targets], places), tuple(whom)

    def _known(self, packed: PackedLimits, whom: tuple[str, ...]) -> Decision | None:
        """What need not be asked."""
        if packed.leased and (served := self.leases.serve(packed, whom)) is not None:
            return served
        return self.denials.recall((packed, whom)) if packed.remembered else None

    def _asked(self, limits: PackedLimits, whom: tuple[str, ...], charge: bool) -> _Asked:
        """What is to be sent."""
        if limits.plain and charge:
            return limits.quick(whom), time.monotonic(), self.forgotten, True, 0, ""
        lease = self.leases.next_size(limits, whom) if limits.leased and charge else 0
        member = _member() if limits.slots else ""
        command = limits.check(whom, charge=charge, lease=lease, share=self._share, member=member)
        return command, time.monotonic(), self.forgotten, charge, lease, member

    def _answered(
        self, limits: PackedLimits, whom: tuple[str, ...], asked: _Asked, reply: Any
    ) -> Decision:
        """What the reply means, and what of it is remembered."""
        _, asked_s, forgotten, charge, lease, member = asked
        quick = isinstance(reply, bytes) or isinstance(reply[0], bytes)
        decision = Decision.from_reply(quick or reply[0] == 1, limits, reply)
        if quick or not charge:
            return decision
        if limits.slots or limits.by_response:
            if decision.allowed:
                given_back = self._given_back_later(limits, whom, member, reply)
                decision.held, decision.charges = given_back
        elif forgotten == self.forgotten:
            if not decision.allowed:
                if limits.remembered:
                    wait_us = decision.retry_after_us
                    self.denials.keep((limits, whom), reply, wait_us, asked_s)
            elif lease:
                decision = self.leases.keep(limits, whom, reply, lease, asked_s)
            if forgotten != self.forgotten:  # Meanwhile, by another thread.
                self.denials.forget(whom)
                self.leases.forget(whom)
        return decision

    def _given_back_later(
        self, limits: PackedLimits, whom: tuple[str, ...], member: str, reply: list[int]
    ) -> tuple[tuple[Held, ...], tuple[Charge, ...]]:
        """The slots that an allowed request holds, and its charges that wait for the response."""
        held, charges, now_us = [], [], reply[1]
        for at, rule, place in zip(
            range(2, len(reply), 4), limits.rules, limits.places, strict=True
        ):
            ok, a, b, c = reply[at : at + 4]
            if ok != 1:
                continue
            if rule.rate.algorithm is Algorithm.CONCURRENCY:
                held.append(Held(self.keys.sidecar(rule, whom[place]) or "", member))
            if rule.counts is not Counts.EVERY:
                state = algorithms.State(a, b, c, ((now_us, rule.rate.cost),))
                charges.append(Charge(rule, whom[place], state, now_us))
        return tuple(held), tuple(charges)

    def _charged_in_redis(self, charges: Sequence[Charge]) -> list[Charge]:
        """Those to give back in Redis; those of the fallback are given back on the way."""
        for charge in charges:
            if charge.degraded:
                self._local.refund(charge)
        return [charge for charge in charges if not charge.degraded]

    def _refund_command(self, charges: Sequence[Charge]) -> bytes:
        words = packing.refund(self.keys, charges)
        return packing.command("EVALSHA", scripts.load("refund").sha, *words)

    def _held_in_redis(self, held: Sequence[Held]) -> Iterator[tuple[str, str]]:
        """The slots to free in Redis; those of the fallback are freed on the way."""
        for slot in held:
            if slot.key:
                yield slot.key, slot.member
            else:
                self._local.release(slot.member)

    def _ask(self, command: bytes, script: str = "") -> Any:
        """The reply. ``script``: which one the command calls, for a server that has lost it."""
        breaker = self.breaker
        if breaker.in_a_row:
            breaker.before_call()
        try:
            try:
                reply = self._connections.ask(command)
            except redis.exceptions.NoScriptError:
                reply = self._connections.ask(packing.with_source(script, command))
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error
        if breaker.in_a_row:
            breaker.succeeded()
        return reply

    async def _ask_async(self, command: bytes, script: str = "") -> Any:
        """``_ask`` on the running event loop."""
        if self.breaker.in_a_row:
            self.breaker.before_call()
        try:
            reply = await self._pipeline().ask(command)
        except (redis.RedisError, OSError) as error:
            reply = await self._after_all(error, command, script)
        if self.breaker.in_a_row:
            self.breaker.succeeded()
        return reply

    async def _after_all(self, error: Exception, command: bytes, script: str) -> Any:
        """The reply, where the server had only lost the script. Raises what the error is."""
        if not isinstance(error, redis.exceptions.NoScriptError):
            raise self._failure(error) from error
        try:
            return await self._pipeline().ask(packing.with_source(script, command))
        except (redis.RedisError, OSError) as again:
            raise self._failure(again) from again

    def _failure(self, error: Exception) -> Exception:
        unavailable = as_unavailable(error)
        if unavailable is None:
            return error
        if self.failures.note(error).of_server:
            self.breaker.failed()
        return unavailable

    def _pipeline(self) -> Pipeline:
        loop = asyncio.get_running_loop()
        last_loop, pipeline = self._last_pipeline
        if pipeline is not None and last_loop() is loop:
            return pipeline
        pipeline = self._pipelines.get(loop)
        if pipeline is None:
            client = make_async_client(
                self._config.redis_url,
                timeout_ms=self._config.redis_timeout_ms,
                max_connections=self._config.redis_max_connections,
            )
            pipeline = self._pipelines[loop] = Pipeline(client.connection_pool, self._timeout_s)
        # Nearly always the next one's too, and quicker to ask than the dictionary.
        self._last_pipeline = weakref.ref(loop), pipeline
        return pipeline

    def _without_redis(self, packed: PackedLimits, whom: tuple[str, ...], charge: bool) -> Decision:
        """The failure policies: deny before local before allow; shadow limits say nothing."""
        enforcing = [
            Target(rule, whom[place])
            for rule, place in zip(packed.rules, packed.places, strict=True)
            if rule.mode is Mode.ENFORCE
        ]
        denying = [t for t in enforcing if t.rule.on_failure is FailurePolicy.DENY]
        local = [(t.rule, t.digest) for t in enforcing if t.rule.on_failure is FailurePolicy.LOCAL]
        if charge:
            decides = FailurePolicy.LOCAL if local else FailurePolicy.ALLOW
            self.failures.decided(FailurePolicy.DENY if denying else decides)
        if denying:
            standing = algorithms.Standing(0, UNAVAILABLE_RETRY_US, 0, 0)
            return decide_all(
                [Verdict(t.rule, False, standing, degraded=True) for t in denying],
                unavailable=True,
            )
        if not local or not charge:
            return ALLOWED
        member = _member()
        verdicts, charges = self._local.decide(local, member)
        return decide_all(verdicts, held=(Held("", member),), charges=charges)


def _member() -> str:
    """Stands for one request in a set of slots; of ``packing.MEMBER_BYTES``."""
    return os.urandom(packing.MEMBER_BYTES // 2).hex()
