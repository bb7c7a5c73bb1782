"""RateLimiter: decides and charges all limits of a request in one call to Redis.

What to send and what a reply means are worked out without I/O (``_Call``), so that the sync
and the async path differ in the one line that waits.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import redis
import redis.asyncio

from ..policy import algorithms
from ..policy.decision import ALLOWED, Charge, Decision, Held, Verdict, decide_all
from ..policy.identity import digest
from ..policy.rules import Algorithm, Counts, FailurePolicy, Mode, Rate, Rule
from . import scripts
from .connection import Breaker, as_unavailable, make_async_client
from .errors import Unavailable
from .keys import Keys
from .local import LocalLimiter

DEFAULT_RULE = Rule(
    id=0, name="default", rate=Rate(Algorithm.TOKEN_BUCKET, 100, 60_000_000, burst=100)
)
"""What ``check_rate_limit`` enforces where nobody says otherwise: 100 per minute."""

UNAVAILABLE_RETRY_US = 1_000_000


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


class _Call:
    """The keys and arguments of one check, and the reading of its reply."""

    __slots__ = ("args", "charge", "held", "keys", "member", "targets")

    def __init__(self, keys: Keys, targets: Sequence[Target], *, charge: bool) -> None:
        self.targets = targets
        self.charge = charge
        places: dict[str, int] = {}
        for target in targets:
            places.setdefault(target.digest, len(places) + 1)
        names = [keys.bucket(who) for who in places]
        plan: list[bytes] = []
        held: list[Held] = []
        self.member = os.urandom(12).hex()
        for rule, who in targets:
            sidecar = keys.sidecar(rule, who)
            if sidecar is not None:
                names.append(sidecar)
                if rule.rate.algorithm is Algorithm.CONCURRENCY:
                    held.append(Held(sidecar, self.member))
            place = len(names) if sidecar else 0
            plan.append(scripts.pack_limit(rule, places[who], place, rule.rate.cost))
        self.keys = names
        self.args: list[Any] = [
            len(places),
            b"1" if charge else b"0",
            b"".join(plan),
            self.member,
        ]
        self.held = tuple(held) if charge else ()

    def read(self, reply: list[int]) -> tuple[Decision, int]:
        """The decision and the server's time of it, us."""
        now_us = reply[1]
        verdicts = []
        charges = []
        at = 2
        for rule, who in self.targets:
            ok, a, b, c = reply[at : at + 4]
            at += 4
            standing = algorithms.standing(rule.rate, ok, a, b, c, now_us)
            verdicts.append(Verdict(rule, ok == 1, standing))
            if ok == 1 and reply[0] and self.charge and rule.counts is not Counts.EVERY:
                state = algorithms.State(a, b, c, ((now_us, rule.rate.cost),))
                charges.append(Charge(rule, who, state, now_us))
        held = self.held if reply[0] else ()
        return decide_all(verdicts, held=held, charges=tuple(charges)), now_us


class RateLimiter:
    """Checks identities against limits.

    ``client`` must not retry by itself: ``storage.connection.make_client`` makes such a one.
    Redis errors never surface from ``check``: each limit's failure policy decides instead, and
    ``breaker.failed_total`` counts them. Errors in our own scripts do surface.
    """

    def __init__(
        self, config: Config, client: redis.Redis, *, rules: Sequence[Rule] = (DEFAULT_RULE,)
    ) -> None:
        self.keys = Keys(config.key_prefix)
        self.client = client
        self.breaker = Breaker(config.breaker_failures, config.breaker_open_ms / 1000)
        self._config = config
        self._rules = tuple(rules)
        self._local = LocalLimiter(config.local_processes)
        self._async_clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, redis.asyncio.Redis
        ] = weakref.WeakKeyDictionary()

    def check_rate_limit(self, identity: str) -> Decision:
        """Charge one request of ``identity`` to the rules this limiter was made with."""
        who = digest(self._config.identity_key, "name", identity)
        return self.check([Target(rule, who) for rule in self._rules])

    def check(self, targets: Sequence[Target], *, charge: bool = True) -> Decision:
        """Decide every limit at once: all enforcing ones are charged, or none."""
        if not targets:
            return ALLOWED
        call = _Call(self.keys, targets, charge=charge)
        try:
            return call.read(self._run("check", call.keys, call.args))[0]
        except Unavailable:
            return self._without_redis(call, charge)

    async def acheck(self, targets: Sequence[Target], *, charge: bool = True) -> Decision:
        """``check`` on the running event loop."""
        if not targets:
            return ALLOWED
        call = _Call(self.keys, targets, charge=charge)
        try:
            return call.read(await self._arun("check", call.keys, call.args))[0]
        except Unavailable:
            return self._without_redis(call, charge)

    def peek(self, targets: Sequence[Target]) -> Decision:
        """What ``check`` would say now, charging nobody."""
        return self.check(targets, charge=False)

    def traced_check(self, targets: Sequence[Target]) -> tuple[list[int], Decision]:
        """``check`` with the script's raw reply, for replay against the oracle."""
        call = _Call(self.keys, targets, charge=True)
        reply = self._run("check", call.keys, call.args)
        return reply, call.read(reply)[0]

    def reset(self, digests: Sequence[str], rules: Sequence[Rule] = ()) -> int:
        """Forget all that is counted of identities; their logs and slots too, for ``rules``.

        Returns the number of keys removed. Raises Unavailable.
        """
        names = [self.keys.bucket(who) for who in digests]
        names += [key for who in digests for r in rules if (key := self.keys.sidecar(r, who))]
        return int(self._guarded(lambda: self.client.unlink(*names))) if names else 0

    def refund(self, charges: Sequence[Charge]) -> int:
        """Give back what ``charges`` name, in one call. Returns how many were given back: not
        those that have expired. Raises Unavailable: nobody may assume that they were."""
        in_redis = self._charged_in_redis(charges)
        given = len(charges) - len(in_redis)
        return given + (self._run("refund", *self._refund_call(in_redis)) if in_redis else 0)

    async def arefund(self, charges: Sequence[Charge]) -> int:
        """``refund`` on the running event loop."""
        in_redis = self._charged_in_redis(charges)
        given = len(charges) - len(in_redis)
        if not in_redis:
            return given
        return given + int(await self._arun("refund", *self._refund_call(in_redis)))

    def _charged_in_redis(self, charges: Sequence[Charge]) -> list[Charge]:
        """Those to give back in Redis; those of the fallback are given back on the way."""
        for charge in charges:
            if charge.degraded:
                self._local.refund(charge)
        return [charge for charge in charges if not charge.degraded]

    def _refund_call(self, charges: Sequence[Charge]) -> tuple[list[str], list[Any]]:
        places: dict[str, int] = {}
        for charge in charges:
            places.setdefault(charge.digest, len(places) + 1)
        names = [self.keys.bucket(who) for who in places]
        plan = []
        for charge in charges:
            sidecar = self.keys.sidecar(charge.rule, charge.digest)
            if sidecar is not None:
                names.append(sidecar)
            place = len(names) if sidecar else 0
            plan.append(scripts.pack_charge(charge, places[charge.digest], place))
        return names, [len(places), b"".join(plan)]

    def acquire(self, target: Target) -> Decision:
        """Take a slot of a concurrency limit; the decision's ``held`` is what to release."""
        if target.rule.rate.algorithm is not Algorithm.CONCURRENCY:
            raise ValueError(f"{target.rule.name} is no concurrency limit")
        return self.check([target])

    def release(self, held: Sequence[Held]) -> None:
        """Free slots. Where Redis does not answer, their lease ends them."""
        for key, member in self._held_in_redis(held):
            try:
                self._guarded(partial(self.client.zrem, key, member))
            except Unavailable:
                return

    async def arelease(self, held: Sequence[Held]) -> None:
        """``release`` on the running event loop."""
        for key, member in self._held_in_redis(held):
            try:
                self.breaker.before_call()
                await self._async_client().zrem(key, member)
            except (Unavailable, redis.RedisError, OSError):
                return

    def close(self) -> None:
        """Close the sync client's connections."""
        self.client.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _held_in_redis(self, held: Sequence[Held]) -> Iterator[tuple[str, str]]:
        """The slots to free in Redis; those of the fallback are freed on the way."""
        for slot in held:
            if slot.key:
                yield slot.key, slot.member
            else:
                self._local.release(slot.member)

    def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        script = scripts.load(name)

        def call() -> Any:
            try:
                return self.client.evalsha(script.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self.client.eval(script.source, len(keys), *keys, *args)

        return self._guarded(call)

    def _guarded(self, call: Any) -> Any:
        self.breaker.before_call()
        try:
            reply = call()
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error
        self.breaker.succeeded()
        return reply

    async def _arun(self, name: str, keys: list[str], args: list[Any]) -> Any:
        self.breaker.before_call()
        script = scripts.load(name)
        client = self._async_client()
        try:
            try:
                reply = await client.evalsha(script.sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                reply = await client.eval(script.source, len(keys), *keys, *args)
        except (redis.RedisError, OSError) as error:
            raise self._failure(error) from error
        self.breaker.succeeded()
        return reply

    def _failure(self, error: redis.RedisError | OSError) -> Exception:
        unavailable = as_unavailable(error)
        if unavailable is None:
            return error
        self.breaker.failed()
        return unavailable

    def _async_client(self) -> redis.asyncio.Redis:
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            client = self._async_clients[loop] = make_async_client(
                self._config.redis_url,
                timeout_ms=self._config.redis_timeout_ms,
                max_connections=self._config.redis_max_connections,
            )
        return client

    def _without_redis(self, call: _Call, charge: bool) -> Decision:
        """The failure policies: deny before local before allow; shadow limits say nothing."""
        enforcing = [t for t in call.targets if t.rule.mode is Mode.ENFORCE]
        denying = [t for t in enforcing if t.rule.on_failure is FailurePolicy.DENY]
        if denying:
            standing = algorithms.Standing(0, UNAVAILABLE_RETRY_US, 0, 0)
            return decide_all(
                [Verdict(t.rule, False, standing, degraded=True) for t in denying],
                unavailable=True,
            )
        local = [(t.rule, t.digest) for t in enforcing if t.rule.on_failure is FailurePolicy.LOCAL]
        if not local or not charge:
            return ALLOWED
        verdicts, charges = self._local.decide(local, call.member)
        return decide_all(verdicts, held=(Held("", call.member),), charges=charges)
