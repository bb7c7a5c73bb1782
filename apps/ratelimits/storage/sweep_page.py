"""What of a page of keys no longer matters, and the commands that remove it.

Each command says what it found: where a key has changed since it was read, it does nothing, so
that no charge that was made meanwhile is lost. Without commands sent, it is a dry run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from . import scripts
from .cardinality import MOST_KEPT_S
from .denied import KEPT_S
from .keys import KeyKind, Keys, Parsed
from .living import EPOCHS, Living
from .packing import Stored, command, stored

NO_TTL, NO_KEY = -1, -2
MOST_LIMITS = 10_000
MOST_ENTRIES = 1_000
"""Of one log so many leave in one call: a call stops Redis for others."""
SLOT_BYTES = 32
"""Of a member and its score."""
PASSED_ON = redis.exceptions.MovedError, redis.exceptions.AskError, redis.exceptions.TryAgainError
"""Slots that move: their keys are another node's, which is swept too."""


@dataclass(slots=True)
class Swept:
    """``removed``: keys by kind. ``records`` were cut out of buckets that stay, ``entries`` left
    logs, ``abandoned`` slots were past their lease. ``bounded``: keys that would have stayed for
    ever, and got a time to live. ``left``: not read or not removed, since they changed, moved or
    are of another form. ``freed_bytes``: of names and contents; Redis' own overhead comes on top.
    ``identities``: how many a limit counts, by its id.
    """

    seen: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    records: int = 0
    entries: int = 0
    abandoned: int = 0
    bounded: int = 0
    left: int = 0
    freed_bytes: int = 0
    identities: Counter[int] = field(default_factory=Counter)

    @property
    def keys_removed(self) -> int:
        return sum(self.removed.values())


class Read(NamedTuple):
    """A key and what was asked of it: as many replies as ``questions`` has commands."""

    key: bytes
    parsed: Parsed
    replies: Sequence[Any]


class Act(NamedTuple):
    """``what``: a number of Swept, or the kind of key that goes. ``number``: how many, and of an
    act that is ``each`` at least: its reply says. ``freed_bytes`` by all, or by each."""

    sent: bytes
    what: str
    freed_bytes: int = 0
    number: int = 1
    each: bool = False


def questions(key: bytes, parsed: Parsed, now_us: int) -> list[bytes]:
    ttl = command("PTTL", key)
    match parsed.kind:
        case KeyKind.BUCKET:
            return [ttl, command("GET", key)]
        case KeyKind.LOG:
            ends = command("LINDEX", key, 0), command("LINDEX", key, -1)
            return [ttl, command("LLEN", key), *ends]
        case KeyKind.SLOTS:
            newest = command("ZRANGE", key, -1, -1)
            return [ttl, command("ZCARD", key), newest, command("ZCOUNT", key, "-inf", now_us)]
        case KeyKind.IDENTITIES | KeyKind.DENIED:
            return [ttl]


class Page:
    """Judges what was read; ``tally`` is added to."""

    def __init__(self, keys: Keys, living: Living, tally: Swept) -> None:
        self._keys = keys
        self._living = living
        self._tally = tally

    def judge(self, found: Sequence[Read], now_us: int) -> list[Act]:
        """Changes nothing, and may be asked again once more is known of the limits."""
        known: dict[tuple[int, int], bool] = {}
        acts: list[Act] = []
        for read in found:
            if any(isinstance(reply, Exception) for reply in read.replies):
                continue
            match read.parsed.kind:
                case KeyKind.BUCKET:
                    acts += self._bucket(read, now_us, known)
                case KeyKind.LOG:
                    acts += self._log(read, now_us)
                case KeyKind.SLOTS:
                    acts += self._slots(read, now_us)
                case KeyKind.IDENTITIES:
                    acts += self._identities(read)
                case KeyKind.DENIED:
                    acts += self._denied(read)
        return acts

    def count(self, found: Sequence[Read], now_us: int) -> None:
        """What was read, whatever becomes of it. Raises what is wrong with more than one key."""
        counted = self._tally.identities
        for read in found:
            self._tally.seen += 1
            if self._is_strange(read.replies):
                self._tally.left += 1
                continue
            limits = []
            if read.parsed.kind is KeyKind.SLOTS:
                limits = [read.parsed.limit]
            elif read.parsed.kind is KeyKind.BUCKET and read.replies[1] is not None:
                records = stored(read.replies[1])
                if records is None:
                    self._tally.left += 1
                    continue
                limits = [r.tag // 4 for r in records[1] if r.tag % 4 == 0 and r.ends_us >= now_us]
            for limit in limits:
                if limit in counted or len(counted) < MOST_LIMITS:
                    counted[limit] += 1

    def note(self, act: Act, reply: Any = 1) -> None:
        """What an act came to; of a dry run, what it would. Raises what is wrong with more than one
        key."""
        tally = self._tally
        if self._is_strange([reply]) or not reply:
            tally.left += 1
        elif act.what in set(KeyKind):
            tally.removed[act.what] += 1
            tally.freed_bytes += act.freed_bytes
        else:
            number = max(act.number, int(reply)) if act.each else act.number
            setattr(tally, act.what, getattr(tally, act.what) + number)
            tally.freed_bytes += act.freed_bytes * (number if act.each else 1)

    def _is_strange(self, replies: Sequence[Any]) -> bool:
        for reply in replies:
            if isinstance(reply, PASSED_ON):
                return True
            if isinstance(reply, Exception):
                if "WRONGTYPE" not in str(reply):
                    raise reply
                return True
        return False

    def _bucket(self, read: Read, now_us: int, known: dict[tuple[int, int], bool]) -> Iterator[Act]:
        ttl, raw = read.replies
        found = None if raw is None else stored(raw)
        if found is None:
            return
        seen_us, records = found
        now_us = max(now_us, seen_us)
        stays: list[Stored] = []
        gone = 0
        for record in records:
            if record.ends_us < now_us:
                continue
            whose = record.tag // 4, record.epoch
            if (is_gone := known.get(whose)) is None:
                is_gone = known[whose] = self._living.is_record_gone(*whose)
            if is_gone:
                gone += 1
            else:
                stays.append(record)
        if not gone and ttl != NO_TTL:
            return
        if not stays:
            sent = _run("sweep_bucket", read.key, raw, b"", 0)
            yield Act(sent, KeyKind.BUCKET, len(read.key) + len(raw))
            return
        kept = raw[:8] + b"".join(raw[r.start : r.after] for r in stays)
        until_ms = max(record.ends_us for record in stays) // 1000 + 1
        sent = _run("sweep_bucket", read.key, raw, kept, until_ms)
        if gone:
            yield Act(sent, "records", len(raw) - len(kept), gone)
        else:
            yield Act(sent, "bounded")

    def _log(self, read: Read, now_us: int) -> Iterator[Act]:
        ttl, held, first, newest = read.replies
        if not held or newest is None:
            return
        limit, epoch = read.parsed.limit, read.parsed.epoch
        if self._living.is_gone(limit, epoch):
            sent = _run("sweep_beside", read.key, "log", held, newest)
            yield Act(sent, KeyKind.LOG, len(read.key) + held * len(newest))
            return
        window_us = self._living.window_us(limit)
        if window_us is None or self._living.epoch(limit) != epoch:
            return
        began = first.partition(b":")[0]
        if began.isdigit() and int(began) <= now_us - window_us:
            bucket = self._keys.bucket(read.parsed.digest).encode()
            words = limit * 4, epoch % EPOCHS, window_us, MOST_ENTRIES
            sent = _run("sweep_log", read.key, *words, beside=bucket)
            yield Act(sent, "entries", len(first), each=True)
        if ttl == NO_TTL:
            yield self._bounded(read.key, window_us)

    def _slots(self, read: Read, now_us: int) -> Iterator[Act]:
        ttl, held, newest, abandoned = read.replies
        if not held or not newest:
            return
        limit, epoch = read.parsed.limit, read.parsed.epoch
        if self._living.is_gone(limit, epoch):
            sent = _run("sweep_beside", read.key, "slots", held, newest[0])
            yield Act(sent, KeyKind.SLOTS, len(read.key) + held * SLOT_BYTES)
            return
        if abandoned:
            # By this server's clock as it was: no lease that a check would still count.
            sent = command("ZREMRANGEBYSCORE", read.key, "-inf", now_us)
            yield Act(sent, "abandoned", SLOT_BYTES, abandoned, each=True)
        window_us = self._living.window_us(limit)
        if ttl == NO_TTL and window_us is not None and held > abandoned:
            yield self._bounded(read.key, window_us)

    def _identities(self, read: Read) -> Iterator[Act]:
        (ttl,) = read.replies
        if ttl == NO_KEY:
            return
        if self._living.is_gone(read.parsed.limit, read.parsed.epoch):
            yield Act(command("UNLINK", read.key), KeyKind.IDENTITIES, len(read.key))
        elif ttl == NO_TTL:
            yield self._bounded(read.key, MOST_KEPT_S * 1_000_000)

    def _denied(self, read: Read) -> Iterator[Act]:
        (ttl,) = read.replies
        if ttl == NO_KEY:
            return
        if self._living.deleted([read.parsed.limit]):
            yield Act(command("UNLINK", read.key), KeyKind.DENIED, len(read.key))
        elif ttl == NO_TTL:
            yield self._bounded(read.key, KEPT_S * 1_000_000)

    def _bounded(self, key: bytes, most_us: int) -> Act:
        return Act(_run("sweep_forever", key, most_us // 1000 + 1), "bounded")


def _run(name: str, key: bytes, *words: bytes | str | int, beside: bytes | None = None) -> bytes:
    """As EVAL: a sweeper need not be allowed to load scripts."""
    keys = (key,) if beside is None else (key, beside)
    return command("EVAL", scripts.load(name).source, len(keys), *keys, *words)
