"""How many keys there are, of which limits, and which of them nobody needs: from a sample."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.packing import limits_in
from apps.ratelimits.storage.server_findings import Finding, Level

from ..amounts import in_bytes
from ..look import Budget, Look, Node, NotSaid, each_node, said_by
from ..registry import Topic, finding

PAGE = 1_000
SCAN_S, SCAN_ALL_S = 0.7, 2.8
"""At most, of each server and of all nodes of a cluster."""
SAMPLE = 400
WEIGHED = 100
READ_BYTES = 4_096
"""Of a bucket: 500 limits."""
TOP = 5
MANY_ORPHANS = 0.1
CONFIDENCE = 1.96
"""Standard errors on either side: 95 times in 100 the truth lies between."""
KINDS = {b"b": "buckets", b"l": "logs", b"c": "slots", b"i": "identities"}
SWEEP = "`manage.py sweep` removes them."


@dataclass
class Sampled:
    """Of one server. ``seen`` of its ``total`` keys were looked at, ``ours`` of them are counters
    of the limiter; of those, ``sample`` holds some, drawn evenly."""

    total: int
    seen: int = 0
    whole: bool = False
    kinds: Counter[str] = field(default_factory=Counter)
    sample: list[bytes] = field(default_factory=list)
    read: int = 0
    """Of the sample, how many were still there when they were read."""
    forever: int = 0
    """Of those read, how many have no time to live."""
    limits: Counter[int] = field(default_factory=Counter)
    """How many of those read hold something of a limit, by its id."""
    orphans: int = 0
    """How many of those read hold something of limits only that are not published."""
    sizes: dict[str, list[int]] = field(default_factory=dict)
    """By kind, bytes of some."""
    unsaid: list[str] = field(default_factory=list)

    @property
    def ours(self) -> int:
        return self.kinds.total()

    @property
    def counters(self) -> float:
        """The estimate for the whole server."""
        return self.ours if self.whole else self.total * self.ours / max(1, self.seen)

    @property
    def error(self) -> float:
        """Of ``counters``, on either side."""
        if self.whole or not self.seen:
            return 0.0
        share = self.ours / self.seen
        left = max(0.0, 1 - self.seen / max(1, self.total))
        return CONFIDENCE * self.total * math.sqrt(share * (1 - share) / self.seen * left)

    @property
    def weight(self) -> float:
        """Of all counters of the kinds that were weighed, bytes: an estimate."""
        whole = sum(_mean(sizes) * self.kinds[kind] for kind, sizes in self.sizes.items())
        return whole * self.counters / max(1, self.ours)

    def estimate(self, number: int) -> str:
        """Of so many among those read: how many on the whole server."""
        if not self.read:
            return "0"
        share = number / self.read
        left = max(0.0, 1 - self.read / max(1.0, self.counters))
        error = CONFIDENCE * math.sqrt(share * (1 - share) / self.read * left)
        spread = f" ± {error * self.counters:,.0f}" if round(error * self.counters) else ""
        return f"{share * self.counters:,.0f}{spread}"


def _mean(numbers: list[int]) -> float:
    return sum(numbers) / len(numbers)


@finding("keys", Topic.LIMITER, "Keys by limit", limit_s=5)
def keys(look: Look) -> Iterator[Finding]:
    names = _names(look)

    def of_node(node: Node) -> Iterator[Finding]:
        if look.info(node).get("role") == "slave":
            return
        yield from judge(take(look, node, names), names, node.address)

    yield from each_node(look, "how many keys there are, and whose", of_node)


def _names(look: Look) -> Mapping[int, str] | None:
    """Of the limits that are published; None where that is not known."""
    try:
        published = look.engine.store.fetch()
    except Unavailable:
        return None
    return None if published is None else {rule.id: rule.name for rule in published.rules}


def take(look: Look, node: Node, names: Mapping[int, str] | None) -> Sampled:
    """Raises NotSaid where keys may not be looked through."""
    found = Sampled(int(look.ask(node, "DBSIZE")))
    prefix = look.config.key_prefix.encode()
    budget, cursor = Budget(min(SCAN_S, SCAN_ALL_S / len(look.nodes))), 0
    while True:
        cursor, page = look.ask(node, "SCAN", cursor, "COUNT", PAGE)
        found.seen += len(page)
        for name in page:
            if name.startswith(prefix) and (kind := _kind(name, prefix)):
                found.kinds[kind] += 1
                _draw(found, name)
        if not cursor:
            found.whole = True
            break
        if budget.spent:
            break
    _read(node, found, prefix, names)
    _weigh(node, found, prefix)
    return found


def _kind(name: bytes, prefix: bytes) -> str:
    return KINDS.get(name[len(prefix) : len(prefix) + 1], "") if b":{" in name else ""


def _draw(found: Sampled, name: bytes) -> None:
    """Each key of the limiter's stays in the sample with the same chance."""
    if len(found.sample) < SAMPLE:
        found.sample.append(name)
    elif (place := random.randrange(found.ours)) < SAMPLE:
        found.sample[place] = name


def _read(node: Node, found: Sampled, prefix: bytes, names: Mapping[int, str] | None) -> None:
    """As the site, who alone may read them."""
    pipeline = node.site.pipeline(transaction=False)
    buckets = [name for name in found.sample if name[len(prefix) :].startswith(b"b:")]
    for name in found.sample:
        pipeline.pttl(name)
    for name in buckets:
        pipeline.getrange(name, 0, READ_BYTES - 1)
    replies = _answers(pipeline, found, len(found.sample) + len(buckets))
    holds = dict(zip(buckets, replies[len(found.sample) :], strict=True))
    for name, ttl in zip(found.sample, replies, strict=False):
        if not isinstance(ttl, int) or ttl == -2:
            continue  # It has ended meanwhile.
        found.read += 1
        found.forever += ttl == -1
        limits = _limits(name, holds.get(name), prefix)
        found.limits.update(limits)
        found.orphans += bool(limits) and names is not None and limits.isdisjoint(names)


def _answers(pipeline: Any, found: Sampled, number: int) -> list[Any]:
    try:
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    except (redis.RedisError, OSError) as error:
        found.unsaid.append(said_by(error))
        return [None] * number
    refused = next((one for one in replies if isinstance(one, Exception)), None)
    if refused is not None:
        found.unsaid.append(said_by(refused))
    return replies


def _limits(name: bytes, held: Any, prefix: bytes) -> frozenset[int]:
    """``l:{digest}:7:0`` and ``i:{7:0}:came:1`` name theirs; a bucket holds records."""
    rest = name[len(prefix) :]
    try:
        if rest.startswith(b"b:"):
            return limits_in(held)
        text = rest.split(b"{", 1)[1]
        if rest.startswith(b"i:"):
            return frozenset({int(text.split(b":")[0])})
        return frozenset({int(text.split(b"}:", 1)[1].split(b":")[0])})
    except (ValueError, IndexError, TypeError):
        return frozenset()


def _weigh(node: Node, found: Sampled, prefix: bytes) -> None:
    pipeline = node.operator.pipeline(transaction=False)
    some = random.sample(found.sample, min(WEIGHED, len(found.sample)))
    for name in some:
        pipeline.memory_usage(name)
    for name, size in zip(some, _answers(pipeline, found, len(some)), strict=True):
        if isinstance(size, int):
            found.sizes.setdefault(_kind(name, prefix), []).append(size)


def judge(found: Sampled, names: Mapping[int, str] | None, where: str) -> Iterator[Finding]:
    spread = f" ± {found.error:,.0f}" if round(found.error) else ""
    said = [f"{found.counters:,.0f}{spread} of {found.total:,} keys are counters"]
    said.append("all were looked at" if found.whole else f"{found.seen:,} were looked at")
    for kind, number in found.kinds.most_common():
        sizes = found.sizes.get(kind)
        said.append(f"{kind} {number:,}" + (f" of {in_bytes(_mean(sizes))}" if sizes else ""))
    if found.sizes:
        said.append(f"{in_bytes(found.weight)} together")
    top = [
        f"{_name(number, names)} {found.estimate(count)}"
        for number, count in found.limits.most_common(TOP)
    ]
    if top:
        said.append(f"by limit: {', '.join(top)}")
    yield Finding(Level.INFO, "keys", where, "Keys of the limiter.", "; ".join(said))
    if found.unsaid:
        yield Finding(
            Level.UNKNOWN,
            "keys-unknown",
            where,
            "Not all that is to be known of the keys may be asked.",
            "; ".join(dict.fromkeys(found.unsaid)),
            NotSaid("").to_do,
        )
    if found.forever:
        yield Finding(
            Level.WARNING,
            "keys-without-ttl",
            where,
            "Counters without a time to live stay for ever: no limiter of ours made them so.",
            f"keys: {found.estimate(found.forever)}; of {found.read:,} read: {found.forever:,}",
            f"Find what calls PERSIST or restores dumps; {SWEEP}",
        )
    if found.orphans:
        many = found.orphans > MANY_ORPHANS * found.read
        yield Finding(
            Level.WARNING if many else Level.INFO,
            "keys-of-deleted-limits",
            where,
            "Some keys count for limits only that were deleted or are off.",
            f"keys: {found.estimate(found.orphans)}; of {found.read:,} read: {found.orphans:,}",
            f"They end by themselves; {SWEEP}" if not many else SWEEP,
        )


def _name(number: int, names: Mapping[int, str] | None) -> str:
    return (names or {}).get(number) or f"limit {number} (not published)"
