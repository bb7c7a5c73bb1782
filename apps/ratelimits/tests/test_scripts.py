"""Buckets as the scripts leave them: byte by byte what the arithmetic and records.lua say."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy import algorithms
from apps.ratelimits.policy.algorithms import State
from apps.ratelimits.policy.rules import (
    MAX_QUOTA,
    MAX_RULE_ID,
    MAX_WINDOW_US,
    Algorithm,
    Mode,
    Rate,
    Rule,
)
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import A, B, by_status, charges_of, in_order, make_limiter, rule

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


def clock_us(limiter) -> int:
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


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def checked(limiter, targets, *, general=False) -> list[int]:
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


def is_quick(reply) -> bool:
    """Whether it is what quick.lua replies: a bucket, or several."""
    return isinstance(reply, bytes) or isinstance(reply[0], bytes)


def store(limiter, model: Model, who: str) -> None:
    seen_us, records = model.buckets[who]
    limiter.client.set(limiter.keys.bucket(who), pack_bucket(seen_us, records))


def agree(limiter, model: Model, who: str) -> None:
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


def lasts(limiter, model: Model, who: str) -> None:
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


def some_limits(chance: random.Random, count: int, *, denials: bool) -> list[Rule]:
    limits = []
    for _ in range(count):
        algorithm = chance.choice(PLAIN)
        quota = chance.choice([2, 5, 7, 30, 300])
        rate = Rate(
            algorithm,
            quota,
            chance.choice([30_000, 90_000, 400_000, 86_400_000_000]),
            chance.choice([2, quota, 2 * quota]),
            chance.choice([1, 1, 2]),
            charge_denied=denials and chance.random() < 0.3,
            block_us=chance.choice([0, 20_000, 80_000]) if denials else 0,
        )
        mode = Mode.SHADOW if chance.random() < 0.15 else Mode.ENFORCE
        number = chance.choice([*range(1, 40), 16_380, 16_390, MAX_RULE_ID - 5])
        if all(number != limit.id for limit in limits):
            epoch = chance.choice([0, 0, 1, 63, 64, 65_535, 65_536, 65_600])
            limits.append(
                Rule(id=number, name=f"limit-{number}", rate=rate, mode=mode, epoch=epoch)
            )
    return limits


def edited(chance: random.Random, limit: Rule) -> Rule:
    """Whatever staff may change while records stand: not what a remainder is measured in."""
    rate = limit.rate
    match chance.choice(["epoch", "cost", "window", "quota", "mode"]):
        case "epoch":
            return replace(limit, epoch=limit.epoch + 1)
        case "cost":
            return replace(limit, rate=replace(rate, cost=3 - rate.cost))
        case "window":
            window_us = 90_000 if rate.window_us != 90_000 else 30_000
            new = replace(rate, window_us=window_us)
            return replace(limit, rate=new) if new.denominator == rate.denominator else limit
        case "quota" if rate.algorithm is not Algorithm.TOKEN_BUCKET:
            return replace(limit, rate=replace(rate, quota=max(2, rate.quota // 2)))
        case _:
            mode = Mode.ENFORCE if limit.mode is Mode.SHADOW else Mode.SHADOW
            return replace(limit, mode=mode)


@pytest.mark.parametrize("denials", [False, True], ids=["plain", "with blocks and charged denials"])
@pytest.mark.parametrize("seed", range(4))
def test_any_requests_leave_the_buckets_that_the_arithmetic_says(limiter, seed, denials):
    """Many limits per bucket, of which requests match different ones, edited in between."""
    chance = random.Random(f"{seed}{denials}")
    limits = some_limits(chance, 12, denials=denials)
    of_whom = {limit.id: chance.choice([A, B]) for limit in limits}
    model, now_us = Model(), clock_us(limiter)
    for who in (A, B):
        model.buckets[who] = (now_us, foreign(chance, now_us, range(50, 9_000)))
        store(limiter, model, who)
    quickly = 0
    for _ in range(250):
        if chance.random() < 0.1:
            number = chance.randrange(len(limits))
            limits[number] = edited(chance, limits[number])
        most = chance.choice([1, 2, 3, len(limits)])
        chosen = chance.sample(limits, chance.randint(1, min(most, len(limits))))
        targets = in_order(Target(limit, of_whom[limit.id]) for limit in chosen)
        general = chance.random() < 0.3
        quick = not general and not any(limit.rate.block_us for limit in chosen)
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], quick)
        quickly += quick and all(ok == 1 for ok in reply[2::4])
        for who in (A, B):
            agree(limiter, model, who)
        if chance.random() < 0.1:
            time.sleep(chance.random() * 0.02)
    assert denials or quickly > 20
    for who in (A, B):
        lasts(limiter, model, who)


@pytest.mark.parametrize("algorithm", PLAIN)
def test_the_last_that_fits_is_still_done_quickly(limiter, algorithm):
    limit = rule(algorithm, 7, 60_000_000, burst=3, cost=3 if algorithm is PLAIN[0] else 7)
    for whom in ([A], [B, "c" * len(A)]):
        packed, digests = limiter._pack([Target(limit, who) for who in whom])
        first, second = (limiter.redis.ask(packed.check(digests), "check") for _ in range(2))
        assert is_quick(first)
        assert not is_quick(second)
        assert second[0] == 0


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("algorithm", PLAIN)
def test_what_a_bucket_has_seen_is_the_least_that_its_time_is(limiter, algorithm, general):
    """As after the server's clock was set back: a bucket's time stands still, in all buckets of
    the request, and its key stays for as long as its records have to go from there."""
    limit = rule(algorithm, quota=3, window_us=1_000_000)
    other = rule(quota=50, number=2, window_us=1_000_000)
    model = Model()
    ahead_us = clock_us(limiter) + 5_000_000
    model.buckets[A] = (ahead_us, {999 * 4: (0, ahead_us + 400_000, 7, 0)})
    store(limiter, model, A)
    targets = [Target(limit, A), Target(other, B)]
    for _ in range(5):
        reply = checked(limiter, targets, general=general)
        assert reply[1] == ahead_us
        assert reply == model.check(targets, ahead_us, not general)
        agree(limiter, model, A)
        agree(limiter, model, B)
    assert not reply[0]
    lasts(limiter, model, A)


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_700_000_a_second_is_exactly_that(limiter, general):
    limits = [
        Rule(id=n, name=f"limit-{n}", rate=Rate(algorithm, 700_000, 1_000_000, 700_000, cost))
        for n, (algorithm, cost) in enumerate([(a, c) for a in PLAIN for c in (1, 3)], start=1)
    ]
    model = Model()
    targets = [Target(limit, A) for limit in limits]
    for _ in range(60):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
        agree(limiter, model, A)


LARGEST = {
    "sixty million at once": Rate(Algorithm.TOKEN_BUCKET, 94_906_249, 1_000_000, 94_906_249, 10**7),
    "burst and window": Rate(Algorithm.TOKEN_BUCKET, 71, MAX_WINDOW_US, 71 * 71 - 1, 71),
    "fixed": Rate(Algorithm.FIXED_WINDOW, MAX_QUOTA, MAX_WINDOW_US, MAX_QUOTA, MAX_QUOTA // 3),
    "sliding": Rate(Algorithm.SLIDING_WINDOW, MAX_QUOTA, 60_000_000, MAX_QUOTA, MAX_QUOTA // 3),
    "sliding for a year": Rate(
        Algorithm.SLIDING_WINDOW, 284_000_000, MAX_WINDOW_US, 1, 100_000_000
    ),
    "finest remainder": Rate(Algorithm.TOKEN_BUCKET, 99_999_999_977, MAX_WINDOW_US, 90_000, 29_999),
}


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("rate", LARGEST.values(), ids=LARGEST)
def test_the_largest_numbers_are_held_exactly(limiter, rate, general):
    model, targets = Model(), [Target(Rule(id=MAX_RULE_ID, name="large", rate=rate), A)]
    if rate.algorithm is Algorithm.SLIDING_WINDOW:
        now_us = clock_us(limiter)
        start_us = now_us - now_us % rate.window_us
        used = (0, start_us + rate.window_us, rate.quota, 0)  # In the window before this.
        model.buckets[A] = (now_us, {MAX_RULE_ID * 4: used})
        store(limiter, model, A)
    verdicts = set()
    for _ in range(90):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
        agree(limiter, model, A)
        verdicts.add(reply[0])
    assert 0 in verdicts


# What was given back.


def given_back(limiter, limit, sum_us: int, since_s: int = 0) -> None:
    """As if so much of a token bucket's had been given back before."""
    now_us = clock_us(limiter)
    records = {limit.id * 4 + GIVEN: (limit.epoch, now_us + REFUNDED_US, sum_us, since_s)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, records))


def sum_of(limiter, limit) -> tuple[int, int]:
    """What has been given back, us, and since which second."""
    packed = PackedLimits(limiter.keys, [limit], [0])
    packed.plain = False
    reply = limiter.redis.ask(packed.check((A,), charge=False), "check")
    raw = limiter.client.get(limiter.keys.bucket(A))
    *_, last = raw[:-26], raw[-26:]
    return reply[5], int.from_bytes(last[-5:], "little")


def test_what_was_given_back_is_known_to_a_charge_and_to_its_refund(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    target = Target(limit, A)
    given_back(limiter, limit, 2**45)
    (charge,) = charges_of(limiter, target)
    assert charge.state.c == 2**45
    assert limiter.refund([charge]) == 1
    # But what has refilled since.
    assert 2**45 + 900_000 < sum_of(limiter, limit)[0] <= 2**45 + 1_000_000
    assert limiter.peek([target]).remaining == 10


def test_a_charge_keeps_from_when_on_charges_are_given_back(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    given_back(limiter, limit, 1_000, since_s=12_345)
    charges_of(limiter, Target(limit, A))
    assert sum_of(limiter, limit) == (1_000, 12_345)


def test_a_sum_that_grows_too_large_begins_anew_and_gives_back_no_charge_of_before(limiter):
    limit = by_status(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=10_000_000))
    target = Target(limit, A)
    given_back(limiter, limit, 2**52 - 1)
    first = charges_of(limiter, target)
    second = charges_of(limiter, target)
    assert limiter.refund(first) == 1
    assert limiter.peek([target]).remaining == 9
    assert limiter.refund(second) == 0
    assert limiter.peek([target]).remaining == 9
    # Nor one of the second in which it began; later ones are given back as ever.
    within = charges_of(limiter, target)
    assert limiter.refund(within) == 0
    later = [replace(charge, at_us=charge.at_us + 2_000_000) for charge in within]
    assert limiter.refund(later) == 1


def test_a_refund_leaves_the_records_of_other_limits_as_they_are(limiter):
    chance = random.Random(5)
    model, now_us = Model(), clock_us(limiter)
    others = {
        tag: record
        for tag, record in foreign(chance, now_us, range(50, 9_000)).items()
        if record[1] > now_us + 1_000_000
    }
    model.buckets[A] = (now_us, others)
    store(limiter, model, A)
    limits = [
        by_status(rule(algorithm, number=n, quota=10, window_us=MAX_WINDOW_US // 60))
        for n, algorithm in enumerate(PLAIN, 1)
    ]
    charges = charges_of(limiter, *(Target(limit, A) for limit in limits))
    assert limiter.refund(charges) == 3
    raw = limiter.client.get(limiter.keys.bucket(A))
    seen_us = int.from_bytes(raw[1:8], "little")
    assert raw.endswith(pack_bucket(seen_us, others)[8:])


def test_a_window_that_has_turned_gives_back_to_the_one_before(limiter):
    limit = by_status(rule(Algorithm.SLIDING_WINDOW, quota=100, window_us=60_000_000))
    target = Target(limit, A)
    (charge,) = charges_of(limiter, target)
    now_us = clock_us(limiter)
    next_us = charge.state.a + 120_000_000
    records = {limit.id * 4: (0, next_us + 60_000_000, 5, 7)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, records))
    assert limiter.refund([charge]) == 1
    raw = limiter.client.get(limiter.keys.bucket(A))
    seen_us = int.from_bytes(raw[1:8], "little")
    assert raw == pack_bucket(seen_us, {4: (0, next_us + 60_000_000, 5, 6)})


# Buckets that nobody here wrote.

GARBAGE = {
    "empty": b"",
    "one byte": b"\x02",
    "half a head": b"\x02\x01\x02",
    "another version": b"\x01" + b"\x07" * 30,
    "a later version": b"\x03" + b"\xff" * 30,
}


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_bucket_counts_as_none(limiter, raw, general):
    limiter.client.set(limiter.keys.bucket(A), raw)
    targets = [Target(rule(quota=1), A)]
    model = Model()
    for _ in range(2):
        reply = checked(limiter, targets, general=general)
        assert reply == model.check(targets, reply[1], not general)
    agree(limiter, model, A)


def cut_buckets(limiter):
    """A head and a record of each form, cut short at each byte."""
    now_us = clock_us(limiter)
    for record in [
        (4, (0, now_us + 10**6, 1, 0)),
        (4, (0, now_us // 10**6 * 10**6 + 10**7, 300, 0)),
        (4, (0, now_us + 10**6 | 1, 300, 0)),
        (4, (99, now_us + 10**6, 300, 9)),
    ]:
        whole = pack_bucket(now_us, dict([record]))
        for size in range(9, len(whole)):
            yield whole[:size]


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_a_record_that_is_cut_short_fails_no_check(limiter, general):
    key = limiter.keys.bucket(A)
    for raw in cut_buckets(limiter):
        limiter.client.set(key, raw)
        for _ in range(2):
            assert checked(limiter, [Target(rule(quota=5), A)], general=general)[0] == 1
        limiter.client.set(key, raw)
        assert limiter.peek([Target(rule(quota=5), A)]).allowed


@pytest.mark.parametrize("seed", range(3))
def test_noise_behind_a_head_fails_no_check_and_passes(limiter, seed):
    chance = random.Random(seed)
    targets = [Target(rule(algorithm, number=n), A) for n, algorithm in enumerate(PLAIN)]
    key = limiter.keys.bucket(A)
    for _ in range(100):
        head = b"\x02" + clock_us(limiter).to_bytes(7, "little")
        limiter.client.set(key, head + chance.randbytes(chance.randint(1, 90)))
        for general in (False, True):
            checked(limiter, targets, general=general)
    limiter.client.delete(key)
    assert limiter.check(targets).allowed


def test_a_limit_that_blocks_no_longer_decides_alike_alone_and_beside_others(limiter):
    limit = rule(quota=5)
    now_us = clock_us(limiter)
    block = {limit.id * 4 + BLOCK: (0, now_us + 60_000_000, 0, 0)}
    limiter.client.set(limiter.keys.bucket(A), pack_bucket(now_us, block))
    alone, beside = (
        checked(limiter, [Target(limit, A)], general=general)[0] for general in (False, True)
    )
    assert alone == beside


@pytest.mark.parametrize("general", [False, True], ids=["quick", "general"])
def test_a_remainder_of_another_rate_is_less_than_a_microsecond(limiter, general):
    """An edit that keeps what is counted changes what a remainder is measured in."""
    before = Rate(Algorithm.TOKEN_BUCKET, 1_000_003, 10_000_000, 10)
    after = Rate(Algorithm.TOKEN_BUCKET, 1_000, 10_000_000, 100)
    assert (before.denominator, after.denominator) == (1_000_003, 1)
    now_us = clock_us(limiter)
    model = Model()
    model.buckets[A] = (now_us, {4: (0, now_us + 500_000, 1_000_002, 0)})
    store(limiter, model, A)
    target = Target(Rule(id=1, name="edited", rate=after), A)
    reply = checked(limiter, [target], general=general)
    assert reply == model.check([target], reply[1], not general)
