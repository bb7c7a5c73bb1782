"""RateLimiter: decides and charges all limits of a request in one call to Redis.

A check goes three ways. What this process knows answers at once: a lease that has something
left, a denial that still holds. Else Redis is asked, in one call. Where it does not answer, each
limit's failure policy does. What to send and what a reply means are worked out without I/O, so
that the sync and the async path differ in the lines that wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import redis

from ..policy.decision import ALLOWED, Charge, Decision, Held, together
from ..policy.identity import Digests
from ..policy.rules import Algorithm, Rate, Rule
from . import charges, packing, topology, transport
from .cluster import Cluster
from .errors import Unavailable
from .failures import Failures
from .fallback import Fallback
from .keys import Keys
from .leases import Leases
from .local import LocalLimiter
from .memory import Denials
from .node import Ask
from .packing import PackedLimits
from .returns import Returns

DEFAULT_RULE = Rule(
    id=0, name="default", rate=Rate(Algorithm.TOKEN_BUCKET, 100, 60_000_000, burst=100)
)
"""What ``check_rate_limit`` enforces where nobody says otherwise: 100 per minute."""

MOST_PACKED = 4_096
MOST_GIVEN_BACK = 200
"""Charges in one call, which others wait for."""


class Config(transport.Config, Protocol):
    """The part of the site's RateLimitConfig that a limiter reads."""

    @property
    def identity_key(self) -> bytes: ...
    @property
    def local_processes(self) -> int: ...


_Asked = tuple[bytes, float, int, bool, int, str]
"""A check on its way: its command, when it was sent, how often identities had been forgotten by
then, whether it charges, the lease that it takes, and its member in sets of slots."""


@dataclass(slots=True)
class _Part:
    """The limits of a check that count the same identity."""

    limits: PackedLimits
    whom: tuple[str]
    asked: _Asked = (b"", 0.0, 0, True, 0, "")

    @property
    def ask(self) -> Ask:
        return Ask(self.asked[0], "check", self.whom[0])


class Target(NamedTuple):
    """One limit and the digest of whom it counts."""

    rule: Rule
    digest: str


class RateLimiter:
    """Checks identities against limits.

    ``client`` must not retry by itself: ``Topology.client`` makes such a one, and of one node its
    pool says how to connect. Redis errors never surface from ``check``: each limit's failure
    policy decides instead, and ``failures`` counts them. Errors in our own scripts do surface.

    What it remembers of denials and leases ends with a reset in this process; of a reset in
    another ``forget`` tells it.
    """

    def __init__(
        self,
        config: Config,
        client: topology.Client | None = None,
        *,
        rules: Sequence[Rule] = (DEFAULT_RULE,),
    ) -> None:
        self.keys = Keys(config.key_prefix)
        self.client = client if client is not None else transport.topology(config).client()
        self.failures = Failures()
        self.redis = transport.make_transport(config, self.client, self.failures)
        # Of one node there is no need to ask which, and each call less is a thirtieth of a check.
        self._node = None if isinstance(self.redis, Cluster) else self.redis
        self._config = config
        self.digests = Digests(config.identity_key)
        self.denials = Denials()
        self.leases = Leases()
        self.forgotten = 0
        self._giving_back: set[asyncio.Task[None]] = set()
        # Of what is free, a process takes this part at most.
        self._share = 2 * config.local_processes
        self._packed: dict[tuple[Any, ...], PackedLimits] = {}
        self._own = PackedLimits(self.keys, tuple(rules), (0,) * len(rules))
        self._local = LocalLimiter(config.local_processes)
        self._fallback = Fallback(self._local, self.failures)
        self._returns = Returns(self.redis, self.keys, self._local)

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
        if self.redis.apart and len(whom) > 1:
            return self._check_apart(limits, whom, charge)
        if charge and (limits.leased or self.denials.known):
            known = self._known(limits, whom)
            if known is not None:
                return known
        asked = self._asked(limits, whom, charge)
        try:
            reply = self.redis.ask(asked[0], "check", whom[0])
        except Unavailable:
            return self._fallback.decide(limits, whom, charge)
        if reply.__class__ is bytes:
            return Decision.from_reply(True, limits, reply)
        return self._answered(limits, whom, asked, reply)

    async def acheck_limits(self, limits: PackedLimits, whom: tuple[str, ...]) -> Decision:
        """``check_limits`` on the running event loop."""
        node = self._node
        if node is None and len(whom) > 1:
            return await self._to_the_end(self._acheck_apart(limits, whom))
        if self.denials.known or not limits.plain:
            known = self._known(limits, whom)
            if known is not None:
                return known
            if limits.slots or limits.leased:
                return await self._to_the_end(self._acheck_whole(limits, whom))
        if node is None:
            return await self._acheck_whole(limits, whom)
        asked = self._asked(limits, whom, True)
        try:
            # As Node.aask does: a coroutine of its own costs a thirtieth of a check.
            if node.breaker.in_a_row:
                node.breaker.before_call()
            try:
                reply = await node.pipeline().ask(asked[0])
            except (redis.RedisError, OSError) as error:
                reply = await node.after_all(error, asked[0], "check", asked[1])
            if node.breaker.in_a_row:
                node.breaker.succeeded()
        except Unavailable:
            return self._fallback.decide(limits, whom, True)
        if reply.__class__ is bytes:
            return Decision.from_reply(True, limits, reply)
        return self._answered(limits, whom, asked, reply)

    async def _acheck_whole(self, limits: PackedLimits, whom: tuple[str, ...]) -> Decision:
        asked = self._asked(limits, whom, True)
        try:
            reply = await self.redis.aask(asked[0], "check", whom[0])
        except Unavailable:
            return self._fallback.decide(limits, whom, True)
        return self._answered(limits, whom, asked, reply)

    async def _to_the_end(self, check: Coroutine[Any, Any, Decision]) -> Decision:
        """Also where whoever asks is cancelled: a block is kept, and a slot given back."""

        async def give_back() -> None:
            await self.arelease((await checking).held)

        checking = asyncio.create_task(check)
        try:
            return await asyncio.shield(checking)
        except asyncio.CancelledError:
            task = asyncio.create_task(give_back())
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)
            raise

    def _check_apart(
        self, limits: PackedLimits, whom: tuple[str, ...], charge: bool = True
    ) -> Decision:
        """On a cluster: one call for each identity, all of them at the same time. Where one
        denies, what the others charged is given back: until then they may deny what they could
        have allowed, and never the reverse."""
        parts = self._parts(limits, whom, charge)
        if isinstance(parts, Decision):
            return parts
        replies = self.redis.ask_each([part.ask for part in parts])
        decision, refunds, held = self._joined(parts, replies, charge)
        if refunds or held:
            with contextlib.suppress(Unavailable):
                self._returns.refund(refunds)
            self._returns.release(held)
        return decision

    async def _acheck_apart(self, limits: PackedLimits, whom: tuple[str, ...]) -> Decision:
        """``_check_apart`` on the running event loop."""
        parts = self._parts(limits, whom, True)
        if isinstance(parts, Decision):
            return parts
        replies = await self.redis.aask_each([part.ask for part in parts])
        decision, refunds, held = self._joined(parts, replies, True)
        if refunds or held:
            with contextlib.suppress(Unavailable):
                await self._returns.arefund(refunds)
            await self._returns.arelease(held)
        return decision

    def _parts(
        self, limits: PackedLimits, whom: tuple[str, ...], charge: bool
    ) -> list[_Part] | Decision:
        """What to ask of whom; the decision, where one of them is known to be denied."""
        parts = [_Part(part, (whom[place],)) for place, part in limits.parts]
        if charge and self.denials.known:
            for part in parts:
                known = self._known(part.limits, part.whom)
                if known is not None:
                    return known
        for part in parts:
            part.asked = self._asked(part.limits, part.whom, charge)
        return parts

    def _joined(
        self, parts: Sequence[_Part], replies: Sequence[Any], charge: bool
    ) -> tuple[Decision, list[Charge], list[Held]]:
        """One decision, and where it is no, what those that said yes have to give back."""
        decisions = [
            self._fallback.decide(part.limits, part.whom, charge)
            if isinstance(reply, Unavailable)
            else self._answered(part.limits, part.whom, part.asked, reply)
            for part, reply in zip(parts, replies, strict=True)
        ]
        if not charge or all(decision.allowed for decision in decisions):
            return together(decisions), [], []
        taken = [
            list(decision.charges)
            if isinstance(reply, Unavailable)
            else charges.charged(part.limits, part.whom, reply, every=True)
            for part, reply, decision in zip(parts, replies, decisions, strict=True)
        ]
        return charges.undone(decisions, taken)

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
        reply = self.redis.ask(asked[0], "check", whom[0])
        return list(limits.read(reply)), self._answered(limits, whom, asked, reply)

    def reset(self, digests: Sequence[str], rules: Sequence[Rule] = ()) -> int:
        """Forget all that is counted of identities; their logs and slots too, for ``rules``.

        Returns the number of keys removed. Raises Unavailable. What other processes remember of
        them they forget when the engine tells them (``Engine.reset``).
        """
        if not digests:
            return 0
        try:
            return self._returns.reset(digests, rules)
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

    def refund(self, taken: Sequence[Charge]) -> int:
        """``Returns.refund``."""
        return self._returns.refund(taken)

    async def arefund(self, taken: Sequence[Charge]) -> int:
        """``refund`` on the running event loop."""
        return await self._returns.arefund(taken)

    def acquire(self, target: Target) -> Decision:
        """Take a slot of a concurrency limit; the decision's ``held`` is what to release."""
        if target.rule.rate.algorithm is not Algorithm.CONCURRENCY:
            raise ValueError(f"{target.rule.name} is no concurrency limit")
        return self.check([target])

    def release(self, held: Sequence[Held]) -> None:
        """Free slots. Where Redis does not answer, their lease ends them."""
        self._returns.release(held)

    async def arelease(self, held: Sequence[Held]) -> None:
        """``release`` on the running event loop."""
        await self._returns.arelease(held)

    def give_back_leases(self) -> int:
        """What this process has taken ahead and will not use. Returns of how many blocks it was
        given back. Raises Unavailable: the rest is lost until its windows end."""
        unused = self.leases.give_up()
        return sum(
            self._returns.refund(unused[at : at + MOST_GIVEN_BACK])
            for at in range(0, len(unused), MOST_GIVEN_BACK)
        )

    def count_processes(self, alive: int) -> None:
        """So many serve the site by now: the fallback divides quotas by them, or by the number
        that the configuration names where that is more."""
        self._local.processes = max(self._config.local_processes, alive)

    def close(self) -> None:
        """Close the sync connections."""
        self.redis.close()
        self.client.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self.redis.aclose()

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
        member = packing.new_member() if limits.slots else ""
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
                decision.held = tuple(charges.held(self.keys, limits, whom, member, reply))
                decision.charges = tuple(charges.charged(limits, whom, reply))
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
