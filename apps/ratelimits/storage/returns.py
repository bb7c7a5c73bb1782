"""What is given back: charges, slots, and all that is counted of somebody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..policy.decision import Charge, Held
from ..policy.rules import Rule
from . import packing, scripts
from .errors import Unavailable
from .keys import Keys, tag_of
from .local import LocalLimiter
from .node import Ask
from .transport import Transport


class Returns:
    """In Redis, and in the fallback of this process, whichever was charged."""

    def __init__(self, redis: Transport, keys: Keys, local: LocalLimiter) -> None:
        self._redis = redis
        self._keys = keys
        self._local = local

    def refund(self, charges: Sequence[Charge]) -> int:
        """Give back what ``charges`` name, in one call. Returns how many were given back: not
        those that have expired. Raises Unavailable: nobody may assume that they were."""
        here, asks = self._refunds(charges)
        return here + _sum(self._ask(asks))

    async def arefund(self, charges: Sequence[Charge]) -> int:
        """``refund`` on the running event loop."""
        here, asks = self._refunds(charges)
        return here + _sum(await self._aask(asks))

    def release(self, held: Sequence[Held]) -> None:
        """Free slots. Where Redis does not answer, their lease ends them."""
        self._ask(list(self._releases(held)))

    async def arelease(self, held: Sequence[Held]) -> None:
        """``release`` on the running event loop."""
        await self._aask(list(self._releases(held)))

    def reset(self, digests: Sequence[str], rules: Sequence[Rule] = ()) -> int:
        """Forget all that is counted of identities; their logs and slots too, for ``rules``.

        Returns the number of keys removed. Raises Unavailable.
        """
        names = {
            who: [self._keys.bucket(who)]
            + [key for rule in rules if (key := self._keys.sidecar(rule, who))]
            for who in digests
        }
        if not self._redis.apart:
            names = {digests[0]: [name for each in names.values() for name in each]}
        return _sum(
            self._ask(
                [Ask(packing.command("UNLINK", *keys), "", who) for who, keys in names.items()]
            )
        )

    def _refunds(self, charges: Sequence[Charge]) -> tuple[int, list[Ask]]:
        """How many were given back here, and what to ask for the others."""
        here = 0
        by_slot: dict[str, list[Charge]] = {}
        for charge in charges:
            if charge.degraded:
                self._local.refund(charge)
                here += 1
            else:
                by_slot.setdefault(charge.digest if self._redis.apart else "", []).append(charge)
        sha = scripts.load("refund").sha
        return here, [
            Ask(packing.command("EVALSHA", sha, *packing.refund(self._keys, each)), "refund", who)
            for who, each in by_slot.items()
        ]

    def _releases(self, held: Sequence[Held]) -> Iterator[Ask]:
        """The slots to free in Redis; those of the fallback are freed on the way."""
        for slot in held:
            if slot.key:
                yield Ask(packing.command("ZREM", slot.key, slot.member), "", tag_of(slot.key))
            else:
                self._local.release(slot.member)

    def _ask(self, asks: Sequence[Ask]) -> list[Any]:
        """The reply to each, or Unavailable in its place."""
        if len(asks) > 1:
            return self._redis.ask_each(asks)
        try:
            return [self._redis.ask(*ask) for ask in asks]
        except Unavailable as error:
            return [error]

    async def _aask(self, asks: Sequence[Ask]) -> list[Any]:
        if len(asks) > 1:
            return await self._redis.aask_each(asks)
        try:
            return [await self._redis.aask(*ask) for ask in asks]
        except Unavailable as error:
            return [error]


def _sum(replies: Sequence[Any]) -> int:
    """Raises the first Unavailable, once all have been asked."""
    for reply in replies:
        if isinstance(reply, Unavailable):
            raise reply
    return sum(replies)
