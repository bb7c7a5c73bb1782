"""Buckets in the form that lua/records.lua describes, and a model of what scripts do to them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.algorithms import State
from apps.ratelimits.policy.rules import (
    MAX_QUOTA,
    MAX_RULE_ID,
    Algorithm,
    Mode,
    Rule,
)
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.packing import PackedLimits

PLAIN = [Algorithm.TOKEN_BUCKET, Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW]
LASTS = {Algorithm.TOKEN_BUCKET: 0, Algorithm.FIXED_WINDOW: 1, Algorithm.SLIDING_WINDOW: 2}
REFUNDED_US = 3_600_000_000
BLOCK, GIVEN = 1, 2
Record = tuple[int, int, int, int]
"""Epoch, end (us since 1970), n1 and n2."""


def pack_bucket(seen_us: int, records: dict[int, Record]) -> bytes:
    """The form that lua/records.lua describes, written down a second time."""

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    packed = b"\x02" + number(seen_us, 7)
    for tag, (epoch, ends_us, n1, n2) in sorted(records.items()):
        left = ends_us - seen_us
        left_s = ends_us // 1_000_000 - seen_us // 1_000_000
        if n2 or n1 >= 2**16 or epoch >= 64 or tag >= 2**16:
            form = 3
        elif n1 < 2**8 and left < 2**32:
            form = 0
        elif ends_us % 1_000_000 == 0 and left_s < 2**24:
            form, left = 1, left_s
        else:
            form = 2 if left < 2**40 else 3
        if form == 3:
            packed += b"\x03" + number(epoch, 2) + number(tag, 4)
            packed += number(left, 7) + number(n1, 7) + number(n2, 5)
        else:
            widths = [(4, 1), (3, 2), (5, 2)][form]
            packed += number(epoch * 4 + form, 1) + number(tag, 2)
            packed += number(left, widths[0]) + number(n1, widths[1])
    return packed


def clock_us(limiter: RateLimiter) -> int:
    seconds, micros = limiter.client.time()
    return seconds * 1_000_000 + micros


def costs_denials(limit: Rule) -> bool:
    return limit.rate.charge_denied or bool(limit.rate.block_us)


class Model:
    """Buckets by the arithmetic of policy/algorithms.py, given the server's times."""

    def __init__(self) -> None:
        self.buckets: dict[str, tuple[int, dict[int, Record]]] = {}

    def bucket(self, who: str) -> tuple[int, dict[int, Record]]:
        return self.buckets.get(who, (0, {}))

    def check(self, targets: list[Target], now_us: int, quick: bool) -> list[int]:
        """The reply, and the buckets after it."""
        outcomes = []
        for limit, who in targets:
            records = self.bucket(who)[1]
            outcomes.append(
                algorithms.decide(limit.rate, self.state(limit, records, now_us), now_us)
            )
        allowed = all(
            ok
            for (limit, _), (ok, _, _) in zip(targets, outcomes, strict=True)
            if limit.mode is Mode.ENFORCE
        )
        # quick.lua does those that all allow, and knows nothing of what was given back.
        quick = quick and all(ok for ok, _, _ in outcomes)
        reply = [int(allowed), now_us]
        written: dict[str, dict[int, Record]] = {}
        for (limit, who), (ok, idle, counted) in zip(targets, outcomes, strict=True):
            state = counted if allowed or not ok else idle
            reply += [int(ok) or state.blocked_until_us, state.a, state.b, 0 if quick else state.c]
            if quick and limit.rate.algorithm is Algorithm.SLIDING_WINDOW:
                reply[-1] = state.c
            if ok and not allowed:
                continue
            if not ok and (idle.blocked_until_us or not costs_denials(limit)):
                continue
            records = written.setdefault(who, dict(self.bucket(who)[1]))
            tag, epoch = limit.id * 4, limit.epoch % 65536
            if ok or limit.rate.charge_denied:
                records[tag] = self.record(limit, state)
            if state.blocked_until_us:
                records[tag + BLOCK] = (epoch, state.blocked_until_us, 0, 0)
            if limit.rate.algorithm is Algorithm.TOKEN_BUCKET and ok and state.c and not quick:
                since_s = records[tag + GIVEN][3]
                records[tag + GIVEN] = (epoch, now_us + REFUNDED_US, state.c, since_s)
        for who, records in written.items():
            self.write(who, now_us, records)
        return reply

    def write(self, who: str, now_us: int, records: dict[int, Record]) -> None:
        kept = {tag: record for tag, record in records.items() if record[1] >= now_us}
        self.buckets[who] = (now_us, kept)

    def state(self, limit: Rule, records: dict[int, Record], now_us: int) -> State:
        tag, rate = limit.id * 4, limit.rate

        def of_epoch(tag: int) -> Record | None:
            record = records.get(tag)
            return record if record and record[0] == limit.epoch % 65536 else None

        state, record = State(), of_epoch(tag)
        if record:
            _, ends_us, n1, n2 = record
            before = LASTS[rate.algorithm] * rate.window_us
            state = State(ends_us - before, n1, n2)
        given, block = of_epoch(tag + GIVEN), of_epoch(tag + BLOCK)
        if rate.algorithm is Algorithm.TOKEN_BUCKET:
            state = replace(state, c=given[2] if given and given[1] > now_us else 0)
        if block and block[1] > now_us:
            state = replace(state, blocked_until_us=block[1])
        return state

    def record(self, limit: Rule, state: State) -> Record:
        ends_us = state.a + LASTS[limit.rate.algorithm] * limit.rate.window_us
        sliding = limit.rate.algorithm is Algorithm.SLIDING_WINDOW
        return (limit.epoch % 65536, ends_us, state.b, state.c if sliding else 0)


def checked(limiter: RateLimiter, targets: list[Target], *, general: bool = False) -> list[int]:
    """The reply as numbers; ``general``: by the second part of check.lua in any case."""
    limits, whom = limiter._pack(targets)
    if general:
        limits = PackedLimits(limiter.keys, limits.rules, limits.places)
        limits.plain = False
    asked = limits.check(whom)
    reply = limiter.redis.ask(asked, "check")
    numbers = list(limits.read(reply))
    if is_quick(reply):
        assert limits.plain
        assert all(ok == 1 for ok in numbers[2::4])
    return numbers


def is_quick(reply: Any) -> bool:
    """Whether it is what quick.lua replies: a bucket, or several."""
    return isinstance(reply, bytes) or isinstance(reply[0], bytes)


def store(limiter: RateLimiter, model: Model, who: str) -> None:
    seen_us, records = model.buckets[who]
    limiter.client.set(limiter.keys.bucket(who), pack_bucket(seen_us, records))


def agree(limiter: RateLimiter, model: Model, who: str) -> None:
    """What is stored is what the model says, and stays as long as its last record."""
    key = limiter.keys.bucket(who)
    raw = limiter.client.get(key)
    if raw is None:
        now_us = clock_us(limiter)
        assert all(record[1] < now_us for record in model.bucket(who)[1].values())
        model.buckets.pop(who, None)
        return
    seen_us, records = model.bucket(who)
    assert raw == pack_bucket(seen_us, records)


def lasts(limiter: RateLimiter, model: Model, who: str) -> None:
    seen_us, records = model.bucket(who)
    last_ms = (max(record[1] for record in records.values()) - seen_us) // 1000 + 1
    assert last_ms - 100 <= limiter.client.pttl(limiter.keys.bucket(who)) <= last_ms


def foreign(chance: random.Random, now_us: int, ids: range) -> dict[int, Record]:
    """Records of limits that no request of the test matches, of every width."""
    records = {}
    for number in [*chance.sample(ids, 6), 16_383, 16_384, MAX_RULE_ID]:
        tag = number * 4 + chance.choice([0, 0, BLOCK, GIVEN])
        ends = chance.choice([1, 30_000, 255, 10**8, 2**32, 10**7 << 20, 2**40, 10**14])
        n1 = chance.choice([0, 1, 255, 256, 65_535, 65_536, 2**40 - 1, 2**40, 2**52])
        n2 = chance.choice([0, 0, 0, 1, MAX_QUOTA])
        epoch = chance.choice([0, 1, 63, 64, 65_535])
        ends_us = now_us + ends
        if ends > 2**20 and chance.random() < 0.5:
            ends_us -= ends_us % 1_000_000
        records[tag] = (epoch, ends_us, n1, n2)
    return records
