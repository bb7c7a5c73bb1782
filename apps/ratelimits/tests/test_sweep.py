"""What a sweep removes and what it leaves, on real servers."""

from __future__ import annotations

import random
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm, Ruleset
from apps.ratelimits.storage import packing
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.living import Known
from apps.ratelimits.storage.ruleset_store import RulesetStore
from apps.ratelimits.storage.sweep import Place, Sweeper

from .buckets import clock_us, foreign, pack_bucket
from .limiters import A, B, make_limiter, rule

HOUR_US = 3_600_000_000
EACH = list(Algorithm)


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def known(*rules, highest=1_000) -> Known:
    """What a database with these limits says: others up to ``highest`` it had once."""
    return Known(
        1,
        {limit.id: limit.epoch for limit in rules},
        {limit.id: limit.rate.window_us for limit in rules},
        highest,
    )


def sweeper(limiter, *rules, highest=1_000, **options) -> Sweeper:
    facts = known(*rules, highest=highest)
    options.setdefault("rate_per_s", 1_000_000)
    return Sweeper(limiter.client, limiter.keys, lambda last: facts, **options)


def swept(limiter, *rules, **options) -> Sweeper:
    made = sweeper(limiter, *rules, **options)
    assert made.run()
    assert made.is_done
    return made


def keys_of(limiter) -> set[str]:
    return {key.decode() for key in limiter.client.scan_iter()}


@pytest.mark.parametrize("algorithm", EACH)
def test_all_of_a_deleted_limit_goes_and_all_of_another_stays(limiter, algorithm):
    gone, lives = rule(algorithm, number=5), rule(algorithm, number=6)
    limiter.check([Target(gone, A), Target(lives, A), Target(gone, B)])
    before = limiter.client.get(limiter.keys.bucket(A))
    made = swept(limiter, lives)
    assert limiter.peek([Target(gone, A)]).remaining == 3
    assert limiter.peek([Target(lives, A)]).remaining == 2
    assert limiter.keys.bucket(B) not in keys_of(limiter)
    beside = {limiter.keys.sidecar(lives, A)} - {None}
    in_bucket = {limiter.keys.bucket(A)} if algorithm is not Algorithm.CONCURRENCY else set()
    assert keys_of(limiter) == beside | in_bucket
    assert made.tally.seen == 2 * len(in_bucket) + 3 * len(beside)
    assert made.tally.freed_bytes > 0
    assert made.tally.left == 0
    if before:
        # What stays is what it was, to the byte.
        after = limiter.client.get(limiter.keys.bucket(A))
        assert made.tally.records == 1
        assert after[:8] == before[:8]
        assert before.endswith(after[8:])


@pytest.mark.parametrize("algorithm", EACH)
def test_an_epoch_that_is_over_goes(limiter, algorithm):
    old, new = rule(algorithm), rule(algorithm, epoch=1)
    limiter.check([Target(old, A), Target(new, B), Target(old, B)])
    limiter.check([Target(new, B)])
    swept(limiter, new)
    assert limiter.peek([Target(new, B)]).remaining <= 2
    assert not [key for key in keys_of(limiter) if A in key or key.endswith(":1:0")]


@pytest.mark.parametrize("algorithm", EACH)
def test_a_newer_epoch_and_a_limit_beyond_what_was_ever_given_stay(limiter, algorithm):
    newer, beyond, code = (
        rule(algorithm, epoch=2),
        rule(algorithm, number=1_001),
        rule(algorithm, number=0),
    )
    limiter.check([Target(limit, A) for limit in (newer, beyond, code)])
    before = {key: limiter.client.dump(key) for key in keys_of(limiter)}
    made = swept(limiter, rule(algorithm, epoch=1))
    assert {key: limiter.client.dump(key) for key in keys_of(limiter)} == before
    assert made.tally.keys_removed == made.tally.records == 0


def test_what_is_published_stays_whatever_the_database_says(limiter):
    limit = rule(number=5)
    limiter.check([Target(limit, A)])
    RulesetStore(limiter.client, limiter.keys).publish(Ruleset(1, (limit,)))
    swept(limiter)
    assert limiter.peek([Target(limit, A)]).remaining == 2


def test_other_keys_are_not_touched(limiter):
    client = limiter.client
    others = ["celery", "iota-cache:1:x", f"other:b:{{{A}}}", "iota:usage", "iota:processes"]
    for key in others:
        client.set(key, "x")
    client.xadd("iota:resets", {"of": A})
    client.hset("iota:ruleset", "version", 1)
    client.hset("iota:ruleset", "data", b'{"version":1,"rules":[]}')
    before = {key: client.dump(key) for key in keys_of(limiter)}
    made = swept(limiter)
    assert {key: client.dump(key) for key in keys_of(limiter)} == before
    assert made.tally.seen == 0


@pytest.mark.parametrize("seed", range(5))
def test_of_any_bucket_what_lives_is_left_to_the_byte(limiter, seed):
    """Of every width; against the form written down a second time."""
    chance = random.Random(seed)
    now_us = clock_us(limiter)
    for number in range(40):
        who = digest(b"k", f"{seed} {number}")
        records = foreign(chance, now_us + 60_000_000, range(50, 60))
        limiter.client.set(limiter.keys.bucket(who), pack_bucket(now_us, records))
        living = [rule(number=limit) for limit in chance.sample(range(50, 60), 5)]
        living = [replace(limit, epoch=chance.choice([0, 1, 63])) for limit in living]
        made = sweeper(limiter, *living, highest=16_383)
        assert made.run()
        epochs = {limit.id: limit.epoch for limit in living}
        stays = {
            tag: record
            for tag, record in records.items()
            if tag // 4 > 16_383
            or (tag // 4 in epochs and not 0 < (epochs[tag // 4] - record[0]) % 65_536 < 32_768)
        }
        raw = limiter.client.get(limiter.keys.bucket(who))
        assert raw == (pack_bucket(now_us, stays) if stays else None)
        if raw:
            last_ms = max(record[1] for record in stays.values()) // 1_000
            left_ms = last_ms - now_us // 1_000
            assert abs(limiter.client.pttl(limiter.keys.bucket(who)) - left_ms) < 2_000
        limiter.client.unlink(limiter.keys.bucket(who))


def test_a_bucket_that_would_stay_for_ever_goes_with_its_last_record(limiter):
    client, key = limiter.client, limiter.keys.bucket(A)
    limit = rule(Algorithm.TOKEN_BUCKET, quota=6, window_us=60_000_000)
    limiter.check([Target(limit, A)])
    client.persist(key)
    value = client.get(key)
    assert swept(limiter, limit).tally.bounded == 1
    assert client.get(key) == value
    assert 9_000 < client.pttl(key) <= 10_002
    now_us = clock_us(limiter)
    ended = {4: (0, now_us - 1_000, 3, 0)}
    client.set(key, pack_bucket(now_us - 2_000_000, ended))
    assert swept(limiter, limit).tally.removed == {"bucket": 1}
    assert not client.exists(key)


@pytest.mark.parametrize("algorithm", [Algorithm.SLIDING_LOG, Algorithm.CONCURRENCY])
def test_a_log_or_slots_that_would_stay_for_ever_get_their_window(limiter, algorithm):
    limit = rule(algorithm)
    limiter.check([Target(limit, A)])
    key = limiter.keys.sidecar(limit, A)
    limiter.client.persist(key)
    assert swept(limiter, limit).tally.bounded == 1
    assert 59_000 < limiter.client.pttl(key) <= 60_001
    assert swept(limiter, limit).tally.bounded == 0
    assert limiter.peek([Target(limit, A)]).remaining == 2


def test_whom_a_deleted_limit_denied_goes_and_others_get_an_end(limiter):
    lives, client, keys = rule(Algorithm.TOKEN_BUCKET, number=1), limiter.client, limiter.keys
    for number in (1, 2):
        client.hset(keys.denied_most(number, 5), A, "1 0 ")
    client.hset(keys.denied_most(1, 6), A, "1 0 ")
    client.expire(keys.denied_most(1, 6), 60)
    client.xadd(keys.denied, {"of": "x"})
    made = swept(limiter, lives)
    assert made.tally.removed == {"denied": 1}
    assert made.tally.bounded == 1
    assert keys_of(limiter) == {keys.denied_most(1, 5), keys.denied_most(1, 6), keys.denied}
    assert 0 < client.ttl(keys.denied_most(1, 5)) <= 26 * 3_600 + 1
    assert client.ttl(keys.denied_most(1, 6)) <= 60


def test_identities_of_a_deleted_limit_go_and_others_get_an_end(limiter):
    client, keys = limiter.client, limiter.keys
    gone, lives = rule(number=5), rule(number=6)
    for limit in (gone, lives):
        client.pfadd(keys.identities_came(limit, 1), "x")
        client.set(keys.identities_over(limit), 1)
    made = swept(limiter, lives)
    assert made.tally.removed == {"identities": 2}
    assert keys_of(limiter) == {keys.identities_came(lives, 1), keys.identities_over(lives)}
    assert all(client.ttl(key) > 86_400 for key in keys_of(limiter))


def test_stale_entries_leave_a_log_and_its_sum(limiter):
    client = limiter.client
    limit = rule(Algorithm.SLIDING_LOG, quota=5, window_us=300_000, cost=2)
    longer = replace(limit, rate=replace(limit.rate, window_us=HOUR_US))
    limiter.check([Target(limit, A)])
    client.pexpire(limiter.keys.sidecar(limit, A), 60_000)
    time.sleep(0.2)
    limiter.check([Target(longer, A)])
    assert limiter.peek([Target(longer, A)]).remaining == 1
    time.sleep(0.15)
    made = swept(limiter, limit)
    assert (made.tally.entries, made.tally.left) == (1, 0)
    assert client.llen(limiter.keys.sidecar(limit, A)) == 1
    # The sum has gone along: what the log says anew is what the bucket says.
    assert limiter.peek([Target(longer, A)]).remaining == 3
    client.unlink(limiter.keys.bucket(A))
    assert limiter.peek([Target(longer, A)]).remaining == 3


def test_abandoned_slots_are_freed_and_leases_stay(limiter):
    limit = rule(Algorithm.CONCURRENCY, window_us=HOUR_US)
    key = limiter.keys.sidecar(limit, A)
    limiter.check([Target(limit, A)])
    limiter.client.zadd(key, {"x" * 24: clock_us(limiter) - 1, "y" * 24: 5})
    made = swept(limiter, limit)
    assert made.tally.abandoned == 2
    assert limiter.client.zcard(key) == 1
    assert made.tally.identities == {1: 1}


def test_what_is_not_of_our_form_stays(limiter):
    client, keys = limiter.client, limiter.keys
    client.set(keys.bucket(A), b"\x03" + b"from a newer version")
    client.rpush(keys.bucket(B), "x")
    client.set(keys.sidecar(rule(Algorithm.SLIDING_LOG, number=5), A), "x")
    client.rpush(keys.sidecar(rule(Algorithm.SLIDING_LOG, number=6), A), "no time")
    before = {key: client.dump(key) for key in keys_of(limiter)}
    made = swept(limiter, rule(number=6))
    assert {key: client.dump(key) for key in keys_of(limiter)} == before
    assert made.tally.left == 3


def test_a_dry_run_says_what_a_run_then_does(limiter):
    limits = [rule(algorithm, number=n) for n, algorithm in enumerate(EACH, 1)]
    for who in (A, B):
        limiter.check([Target(limit, who) for limit in limits])
    before = {key: limiter.client.dump(key) for key in keys_of(limiter)}
    dry = swept(limiter, *limits[:2], dry_run=True)
    assert {key: limiter.client.dump(key) for key in keys_of(limiter)} == before
    wet = swept(limiter, *limits[:2])
    assert wet.tally == dry.tally
    assert wet.tally.removed == {"log": 2, "slots": 2}
    assert wet.tally.records == 4
    assert wet.tally.identities == dict.fromkeys(range(1, 6), 2)


class Written(Sweeper):
    """Somebody checks between what the sweeper reads and what it does."""

    meanwhile = staticmethod(lambda: None)

    def _carry_out(self, node, acts):
        self.meanwhile()
        super()._carry_out(node, acts)


@pytest.mark.parametrize("algorithm", EACH)
def test_a_charge_that_comes_between_reading_and_removing_is_not_lost(limiter, algorithm):
    """Be it of the limit that lives, or of the one that is back."""
    gone, lives = rule(algorithm, number=5), rule(algorithm, number=6)
    both = [Target(gone, A), Target(lives, A)]
    limiter.check(both)
    made = Written(limiter.client, limiter.keys, lambda last: known(lives))
    made.meanwhile = lambda: limiter.check(both)
    assert made.run()
    assert made.tally.left >= 1
    assert [limiter.peek([target]).remaining for target in both] == [1, 1]


def test_a_limit_that_is_back_before_anything_was_removed_keeps_all(limiter):
    gone = rule(number=5)
    limiter.check([Target(gone, A)])
    store = RulesetStore(limiter.client, limiter.keys)

    class Back(Sweeper):
        def _learn(self):
            store.publish(Ruleset(1, (gone,)))
            return super()._learn()

    made = Back(limiter.client, limiter.keys, lambda last: last or known())
    assert made.run()
    assert made.tally.keys_removed == 0
    assert limiter.peek([Target(gone, A)]).remaining == 2


def fill(limiter, number: int, limit_of=lambda n: 5) -> None:
    now_us = clock_us(limiter)
    pipeline = limiter.client.pipeline(transaction=False)
    for n in range(number):
        records = {limit_of(n) * 4: (0, now_us + HOUR_US, 1, 0)}
        key = limiter.keys.bucket(digest(b"k", str(n)))
        pipeline.set(key, pack_bucket(now_us, records), px=3_600_000)
        if n % 1_000 == 999:
            pipeline.execute()
    pipeline.execute()


def test_a_run_goes_on_where_the_budget_of_the_last_one_ended(limiter):
    fill(limiter, 3_000, lambda n: 5 + n % 2)
    places: list[Place] = []
    runs, removed, counted = 0, 0, 0
    while True:
        made = sweeper(limiter, rule(number=5), rate_per_s=5_000)
        assert made.run(0.05, places)
        places, runs = made.places, runs + 1
        removed += made.tally.keys_removed
        counted += made.tally.seen
        if made.is_done:
            break
        assert runs < 100
    assert runs > 2
    assert removed == 1_500
    assert 3_000 <= counted <= 3_400  # SCAN may give a key twice while the table grows.
    assert limiter.client.dbsize() == 1_500


def test_a_place_of_another_process_of_the_server_is_begun_anew(limiter):
    fill(limiter, 300)
    made = sweeper(limiter)
    assert made.run(0, [])
    stale = replace(made.places[0], run_id="another", cursor=77, seen=5)
    again = sweeper(limiter)
    assert again.run(None, [stale])
    assert again.tally.seen == again.places[0].seen == 300


def test_it_stops_when_it_is_told_to(limiter):
    fill(limiter, 5_000)
    heard = []

    def report(made):
        heard.append(made.tally.seen)
        return False

    made = sweeper(limiter, rate_per_s=2_000, report=report)
    assert made.run() is False
    assert heard == [made.tally.seen]
    assert 0 < made.tally.seen < 5_000
    assert not made.is_done


def test_it_is_no_faster_than_its_rate(limiter):
    fill(limiter, 1_000)
    began_s = time.monotonic()
    swept(limiter, rate_per_s=2_000)
    assert time.monotonic() - began_s > 0.4


def test_what_a_record_says_is_read_as_it_was_written(limiter):
    chance = random.Random(3)
    now_us = clock_us(limiter)
    for _ in range(200):
        records = foreign(chance, now_us, range(50, 9_000))
        seen_us, found = packing.stored(pack_bucket(now_us, records))
        assert seen_us == now_us
        assert {r.tag: (r.epoch, r.ends_us) for r in found} == {
            tag: record[:2] for tag, record in records.items()
        }
    cut = pack_bucket(now_us, records)[:-1]
    assert packing.stored(cut) is None


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how large a process is")
def test_however_many_keys_memory_is_that_of_a_page(limiter):
    """200,000 keys: half of them go, each other one stays to the byte."""
    fill(limiter, 200_000, lambda n: 5 + n % 2)
    sizes = []

    def report(made):
        sizes.append(resident_bytes())
        return True

    made = sweeper(limiter, rule(number=5), rate_per_s=10**9, report=report)
    assert made.run()
    assert len(sizes) > 4
    # Of the names alone there were 20 MB.
    assert max(sizes) - sizes[0] < 8 * 2**20
    assert made.is_done
    assert 200_000 <= made.tally.seen < 220_000
    assert made.tally.removed == {"bucket": 100_000}
    assert made.tally.left == 0
    assert limiter.client.dbsize() == 100_000
    for n in random.Random(1).sample(range(200_000), 500):
        raw = limiter.client.get(limiter.keys.bucket(digest(b"k", str(n))))
        assert (raw is not None) == (n % 2 == 0)
        assert raw is None or packing.stored(raw)[1][0].tag == 20
