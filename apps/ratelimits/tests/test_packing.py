"""Commands as bytes: what redis-py would send, and what comes back read as the oracle says."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from apps.ratelimits.policy.decision import Decision
from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import (
    MAX_RULE_ID,
    MAX_WINDOW_US,
    Algorithm,
    Counts,
    Mode,
    Rate,
    Rule,
)
from apps.ratelimits.storage import packing, scripts
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import MEMBER_BYTES, PackedLimits

from .buckets import PLAIN, Model, checked, clock_us, store
from .limiters import A, B, asked, by_status, charges_of, make_limiter, rule

KEYS = Keys("iota:")
C = "c" * DIGEST_CHARS
MEMBER = "m" * MEMBER_BYTES


def as_redis_py_packs(*words) -> bytes:
    return b"".join(Connection().pack_command(*words))


WORDS = st.one_of(st.binary(max_size=80), st.text(max_size=40), st.integers(-(2**53), 2**53))


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_a_command_is_what_redis_py_would_send(words):
    # redis-py sends the words of a first one with spaces apart: the name of a command.
    assert packing.command("EVALSHA", *words) == as_redis_py_packs("EVALSHA", *words)


def keys_of(keys: Keys, packed: PackedLimits, whom) -> list[str]:
    named = [keys.bucket(who) for who in whom]
    for limit, place in zip(packed.rules, packed.places, strict=True):
        sidecar = keys.sidecar(limit, whom[place])
        if sidecar:
            named.append(sidecar)
    return named


@st.composite
def some_limits(draw):
    count = draw(st.integers(1, 5))
    places = [draw(st.integers(0, 2)) for _ in range(count)]
    places = [sorted(set(places)).index(place) for place in places]
    rules = [
        rule(draw(st.sampled_from(Algorithm)), number=number)
        for number in draw(
            st.lists(st.integers(0, MAX_RULE_ID), min_size=count, max_size=count, unique=True)
        )
    ]
    return rules, places


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), some_limits(), st.booleans())
def test_a_check_is_what_redis_py_would_send_whatever_the_prefix(prefix, limits, charge):
    """'%' and characters of several bytes too; identities in any order."""
    keys = Keys(prefix)
    packed = PackedLimits(keys, *limits)
    for whom in ((A, B, C), (C, B, A)):
        whom = whom[: max(packed.places) + 1]
        named = keys_of(keys, packed, whom)
        members = [MEMBER] if packed.slots else []
        plan = packed.plan(charge=charge)
        sent = packed.check(whom, charge=charge, member=MEMBER if packed.slots else "")
        sha = scripts.load("check").sha
        words = (len(named), *named, plan, *members)
        assert sent == as_redis_py_packs("EVALSHA", sha, *words)
        source = scripts.load("check").source
        assert packing.with_source("check", sent) == as_redis_py_packs("EVAL", source, *words)
        if packed.plain and charge:
            assert packed.quick(whom) == sent


MISFITS = [("a" * 19,), ("a" * 21,), ("",), ("ä" * 20,), ("a" * 20, "b" * 19)]


@pytest.mark.parametrize("whom", MISFITS)
@pytest.mark.parametrize("algorithm", [Algorithm.FIXED_WINDOW, Algorithm.SLIDING_LOG])
def test_a_digest_of_another_length_is_refused(algorithm, whom):
    packed = PackedLimits(
        KEYS, [rule(algorithm, number=n) for n, _ in enumerate(whom)], list(range(len(whom)))
    )
    with pytest.raises(ValueError, match="a digest has 20 characters"):
        packed.check(whom)
    if packed.plain:
        with pytest.raises(ValueError, match="a digest has 20 characters"):
            packed.quick(whom)


@pytest.mark.parametrize("quick", [True, False])
def test_two_digests_that_are_too_long_and_too_short_by_the_same_are_refused(quick):
    packed = PackedLimits(KEYS, [rule(number=1), rule(number=2)], [0, 1])
    whom = ("a" * 21, "b" * 19)
    with pytest.raises(ValueError, match="a digest has 20 characters"):
        packed.quick(whom) if quick else packed.check(whom)


def test_a_member_of_another_length_is_refused():
    packed = PackedLimits(KEYS, [rule(Algorithm.CONCURRENCY)], [0])
    with pytest.raises(ValueError, match="a member 24"):
        packed.check((A,), member="m" * 23)


# What is told of limits.


def test_the_plan_is_as_check_lua_reads_it():
    """Written down a second time: buckets, how, then limits by bucket and tag, then zeros."""
    rules = [
        rule(Algorithm.SLIDING_LOG, quota=9, number=7, charge_denied=True, block_us=5),
        rule(Algorithm.TOKEN_BUCKET, 7, 60_000_000, number=MAX_RULE_ID, burst=2, epoch=65_537),
        rule(Algorithm.SLIDING_WINDOW, quota=4, number=6, mode=Mode.SHADOW),
        rule(Algorithm.CONCURRENCY, quota=3, number=5),
    ]
    packed = PackedLimits(KEYS, rules, [1, 0, 0, 1])
    assert [r.id for r in packed.rules] == [6, MAX_RULE_ID, 5, 7]
    assert packed.places == (0, 0, 1, 1)

    def limit(*head, numbers):
        return struct.pack("<BBBBIH", *head) + struct.pack(f"<{len(numbers)}d", *numbers)

    assert packed.plan() == b"".join(
        [
            bytes([2, 1]),
            limit(3, 1, 0, 0, 24, 0, numbers=[1, 4, 60_000_000, 1]),
            limit(1, 1, 0, 1, MAX_RULE_ID * 4, 1, numbers=[8_571_428, 4, 7, 17_142_857, 1]),
            limit(5, 2, 3, 1, 20, 0, numbers=[1, 3, 60_000_000]),
            limit(4, 2, 4, 7, 28, 0, numbers=[1, 9, 60_000_000, 5]),
            bytes(50),
        ]
    )
    assert packed.plan(charge=False)[1] == 0
    assert PackedLimits(KEYS, rules[1:3], [0, 0]).plan()[:2] == bytes([1, 2])


def test_the_plan_of_a_lease_says_how_much_and_of_which_share():
    leased = rule(quota=1_000, lease=100, cost=3)
    packed = PackedLimits(KEYS, [leased], [0])
    numbers = struct.pack("<5d", 3, 1_000, 60_000_000, 33, 8)
    assert packed.plan(lease=50, share=8)[2:] == (
        struct.pack("<BBBBIH", 2, 1, 0, 9, 4, 0) + numbers + bytes(50)
    )
    assert packed.plan(lease=20, share=8)[2 + 10 + 24 :][:8] == struct.pack("<d", 20)


@pytest.mark.parametrize(
    ("changes", "plain", "remembered", "leased"),
    [
        ({}, True, True, False),
        ({"algorithm": Algorithm.SLIDING_LOG}, False, True, False),
        ({"algorithm": Algorithm.CONCURRENCY}, False, False, False),
        ({"mode": Mode.SHADOW}, True, False, False),
        ({"charge_denied": True}, True, False, False),
        ({"block_us": 1}, False, True, False),
        ({"counts": Counts.STATUS, "statuses": ((400, 499),)}, False, False, False),
        ({"lease": 2}, False, True, True),
        ({"lease": 2, "mode": Mode.SHADOW}, True, False, False),
    ],
)
def test_what_one_limit_rules_out_is_ruled_out_for_all(changes, plain, remembered, leased):
    one = rule(number=1, quota=9, **changes)
    also = rule(number=2, lease=2) if leased else rule(number=2)
    packed = PackedLimits(KEYS, [also, one], [0, 0])
    assert (packed.plain, packed.remembered, packed.leased) == (plain, remembered, leased)


# With a server.


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def test_nothing_is_sent_of_a_command_that_does_not_fit(limiter):
    limiter.check([Target(rule(), A)])
    before = asked(limiter)
    with pytest.raises(ValueError, match="a digest has 20 characters"):
        limiter.check([Target(rule(), "a" * 19)])
    assert asked(limiter) == before
    assert limiter.check([Target(rule(), A)]).remaining == 1


@pytest.mark.parametrize("prefix", ["", "100%:", "%b%s%%", "größe:", "日本:", "a b\r\n:", "{x}"])
def test_any_prefix_counts(each_redis, prefix):
    limiter = make_limiter(each_redis.url, key_prefix=prefix)
    limiter.client.flushdb()
    targets = [
        Target(rule(Algorithm.SLIDING_LOG, number=1), A),
        Target(rule(number=2), A),
        Target(rule(Algorithm.CONCURRENCY, number=3), B),
    ]
    assert limiter.check(targets).allowed
    assert {key.decode() for key in limiter.client.scan_iter()} == {
        f"{prefix}b:{{{A}}}",
        f"{prefix}l:{{{A}}}:1:0",
        f"{prefix}c:{{{B}}}:3:0",
    }
    limiter.client.script_flush()
    assert limiter.check(targets[1:2]).remaining == 1
    charges = charges_of(limiter, Target(by_status(rule(number=2)), A))
    limiter.client.script_flush()
    assert limiter.refund(charges) == 1
    limiter.close()


EPOCHS = [0, 63, 64, 65_535, 65_536, 65_599, 65_600]
IDS = [0, 1, 16_383, 16_384, MAX_RULE_ID]


@pytest.mark.parametrize("algorithm", PLAIN)
def test_a_bucket_is_read_as_it_was_counted_whatever_its_records_width(limiter, algorithm):
    """Numbers, epochs, counts and times at the borders of each form."""
    quota = 200_000 if algorithm is not Algorithm.TOKEN_BUCKET else 999_983
    for window_us in (60_000_000, 7_000_001, 5_000_000_000, MAX_WINDOW_US):
        if algorithm is Algorithm.SLIDING_WINDOW and window_us == 7_000_001:
            window_us = 7_001_000
        for number, epoch in [*((n, 0) for n in IDS), *((1, e) for e in EPOCHS)]:
            model = Model()
            for cost in (1, 254, 1, 65_535 - 256, 1, 3):
                rate = Rate(algorithm, quota, window_us, 9_000, 1)
                if cost <= (9_000 if algorithm is Algorithm.TOKEN_BUCKET else quota):
                    rate = Rate(algorithm, quota, window_us, 9_000, cost)
                target = Target(Rule(id=number, name="one", rate=rate, epoch=epoch), A)
                reply = checked(limiter, [target])
                assert reply == model.check([target], reply[1], True)
            limiter.client.flushdb()


@pytest.mark.parametrize("before", [1, 255, 256, 65_535, 65_536])
def test_a_sliding_window_is_read_with_the_window_before_it(limiter, before):
    limit = rule(Algorithm.SLIDING_WINDOW, quota=100_000, window_us=MAX_WINDOW_US, number=1)
    model, now_us = Model(), clock_us(limiter)
    start_us = now_us - now_us % MAX_WINDOW_US
    model.buckets[A] = (now_us, {4: (0, start_us + MAX_WINDOW_US, before, 0)})
    store(limiter, model, A)
    for _ in range(3):
        reply = checked(limiter, [Target(limit, A)])
        assert reply[5] == before
        assert reply == model.check([Target(limit, A)], reply[1], True)


@pytest.mark.parametrize("seed", range(3))
def test_limits_in_any_order_over_several_identities_are_each_read_as_their_own(limiter, seed):
    chance = random.Random(seed)
    numbers = chance.sample([*range(20), 16_384, MAX_RULE_ID], 12)
    targets = [
        Target(rule(chance.choice(PLAIN), 50 + n % 50, number=n), chance.choice([A, B, C]))
        for n in numbers
    ]
    for turn in range(1, 4):
        chance.shuffle(targets)
        decision = limiter.check(targets)
        said = {verdict.rule.id: verdict.standing.remaining for verdict in decision.verdicts}
        assert said == {n: 50 + n % 50 - turn for n in numbers}


def test_what_a_lease_has_not_used_is_not_counted_yet():
    packed = PackedLimits(KEYS, [rule(quota=100, cost=2), rule(quota=50, number=2)], [0, 0])
    reply = [1, 61_000_000, 1, 60_000_000, 40, 20, 1, 60_000_000, 15, 10]
    decision = Decision.from_reply(True, packed, (reply, 7))
    assert [v.standing.remaining for v in decision.verdicts] == [74, 42]
    assert reply[4] == 40
