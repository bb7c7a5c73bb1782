"""How many clients a limit has counted something of, by looking at a part of the keys.

Identities are digests, and a server keeps its keys in the order of a hash of their names: the first
keys that SCAN gives are as good a sample as any. Bounded in keys and in time, a page at a time, and
nothing is written. Where all keys were looked at, the numbers are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from ..policy.kept import Kept
from ..policy.rules import Algorithm, Rule
from .failures import as_unavailable
from .keys import KeyKind, Keys, Parsed
from .packing import records
from .sweep import primaries
from .topology import Client

MOST_KEYS = 5_000
MOST_S = 0.15
PAGE = 250
MOST_ENTRIES = 50_000
"""Of logs, whose entries have to be read one by one."""

_KINDS = {Algorithm.SLIDING_LOG: KeyKind.LOG, Algorithm.CONCURRENCY: KeyKind.SLOTS}

Test = Callable[[Kept, int], bool]
"""Of what is stored of a client, and of the time, us."""


@dataclass(frozen=True, slots=True)
class _Found:
    """On one server. ``keys``: all that it holds, whoever's; ``walked``: those looked at."""

    kept: tuple[Kept, ...]
    now_us: int
    walked: int
    keys: int
    is_whole: bool

    @property
    def weight(self) -> float:
        """So many clients each of those found stands for."""
        return 1.0 if self.is_whole else max(1.0, self.keys / max(1, self.walked))


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one limit, on all servers."""

    servers: tuple[_Found, ...] = field(default=())

    @property
    def is_whole(self) -> bool:
        return all(server.is_whole for server in self.servers)

    @property
    def walked(self) -> int:
        return sum(server.walked for server in self.servers)

    @property
    def keys(self) -> int:
        return sum(max(server.keys, server.walked) for server in self.servers)

    def found(self, test: Test) -> int:
        """Of how many that were looked at this is true."""
        return sum(1 for _ in self._passing(test))

    def number(self, test: Test) -> int:
        """Of how many clients it is true: exact where ``is_whole``, else estimated."""
        return round(sum(server.weight for server in self._passing(test)))

    def _passing(self, test: Test) -> Iterator[_Found]:
        for server in self.servers:
            for kept in server.kept:
                if test(kept, server.now_us):
                    yield server


def sample(
    client: Client, keys: Keys, rule: Rule, *, most_keys: int = MOST_KEYS, most_s: float = MOST_S
) -> Sample:
    """Look at so many keys at most, spread over the servers. Raises Unavailable."""
    nodes = list(primaries(client).values())
    ends_s = time.monotonic() + most_s
    try:
        share = -(-most_keys // len(nodes))
        return Sample(tuple(_look(node, keys, rule, share, ends_s) for node in nodes))
    except (redis.RedisError, OSError) as error:
        raise as_unavailable(error) or error from error


def _look(node: redis.Redis, keys: Keys, rule: Rule, most_keys: int, ends_s: float) -> _Found:
    now, held = _ask(node, [("TIME",), ("DBSIZE",)])
    now_us = int(now[0]) * 1_000_000 + int(now[1])
    kept: list[Kept] = []
    cursor, walked, entries = 0, 0, 0
    while True:
        ((cursor, names),) = _ask(node, [("SCAN", cursor, "COUNT", PAGE)])
        wanted = [parsed for name in names if (parsed := _wanted(keys, rule, name)) is not None]
        for found in _read(node, keys, rule, wanted, now_us):
            kept.append(found)
            entries += len(found.entries)
        walked += len(names)
        if not int(cursor):
            return _Found(tuple(kept), now_us, walked, int(held), True)
        if walked >= most_keys or entries >= MOST_ENTRIES or time.monotonic() >= ends_s:
            return _Found(tuple(kept), now_us, walked, int(held), False)


def _wanted(keys: Keys, rule: Rule, name: bytes) -> Parsed | None:
    parsed = keys.parse(name)
    if parsed is None or parsed.kind is not _KINDS.get(rule.rate.algorithm, KeyKind.BUCKET):
        return None
    own = parsed.kind is KeyKind.BUCKET or (parsed.limit, parsed.epoch) == (rule.id, rule.epoch)
    return parsed if own else None


def _read(
    node: redis.Redis, keys: Keys, rule: Rule, wanted: Sequence[Parsed], now_us: int
) -> Iterator[Kept]:
    """What each of them holds of the limit; nothing of those that hold nothing."""
    commands: list[tuple[Any, ...]] = [("GET", keys.bucket(parsed.digest)) for parsed in wanted]
    for parsed in wanted:
        beside = keys.sidecar(rule, parsed.digest)
        if parsed.kind is KeyKind.LOG:
            # No more than the quota can matter: each is a unit at least.
            commands.append(("LRANGE", beside, -rule.rate.quota, -1))
        elif parsed.kind is KeyKind.SLOTS:
            commands.append(("ZCOUNT", beside, f"({now_us}", "+inf"))
    replies = _ask(node, commands)
    buckets, besides = replies[: len(wanted)], replies[len(wanted) :]
    for number, raw in enumerate(buckets):
        found = _of_bucket(rule, raw)
        if besides and isinstance(besides[number], int):
            found = found._replace(n1=besides[number])
        elif besides:
            found = found._replace(entries=_entries(besides[number]))
        if found != NOTHING:
            yield found._replace(digest=wanted[number].digest)


NOTHING = Kept()


def _of_bucket(rule: Rule, raw: Any) -> Kept:
    held = records(raw) if isinstance(raw, bytes) else {}
    tag, epoch = rule.id * 4, rule.epoch % 65536
    ends_us, n1, n2, known = held.get(tag, (0, 0, 0, epoch))
    blocked_until_us, _, _, blocked = held.get(tag + 1, (0, 0, 0, epoch))
    found = Kept(ends_us, n1, n2) if known == epoch else NOTHING
    return found._replace(blocked_until_us=blocked_until_us if blocked == epoch else 0)


def _entries(log: Sequence[bytes]) -> tuple[tuple[int, int | str], ...]:
    return tuple((int(at), int(units)) for at, units in (entry.split(b":") for entry in log))


def _ask(node: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """All at once."""
    if not commands:
        return []
    pipeline = node.pipeline(transaction=False)
    for words in commands:
        pipeline.execute_command(*words)
    return list(pipeline.execute())
