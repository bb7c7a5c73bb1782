"""How many clients a limit has counted: a bounded look at the keys of real servers."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.kept import is_counted, is_denied
from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.counted import sample
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.limiter import Target

from .limiters import limiter, make_limiter, rule
from .test_cluster import cluster

__all__ = ["cluster", "limiter"]

HOUR_US = 3_600_000_000


def anybody(number: int) -> str:
    return digest(b"key", str(number))


def counted_by(one):
    return lambda kept, now_us: is_counted(one.rate, kept, now_us)


def over(one):
    return lambda kept, now_us: is_denied(one.rate, kept, now_us)


def use(limiter, one, clients: int, times=1) -> None:
    for number in range(clients):
        for _ in range(times(number) if callable(times) else times):
            limiter.check([Target(one, anybody(number))])


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_where_all_keys_are_looked_at_the_numbers_are_exact(limiter, algorithm):
    one = rule(algorithm, quota=3, window_us=24 * HOUR_US)
    other = rule(algorithm, quota=9, window_us=24 * HOUR_US, number=2)
    use(limiter, one, 40, lambda number: 1 + number % 3)
    use(limiter, other, 70)
    found = sample(limiter.client, limiter.keys, one)
    assert found.is_whole
    assert found.number(counted_by(one)) == 40
    assert found.number(over(one)) == 13  # Every third has used all three.
    assert found.walked == found.keys == limiter.client.dbsize()
    assert sample(limiter.client, limiter.keys, other).number(counted_by(other)) == 70


def test_of_many_keys_a_part_is_looked_at_and_the_number_estimated(limiter):
    """A tenth of the keys: within 4 standard deviations of that draw, as for any tenth."""
    one = rule(quota=3, window_us=24 * HOUR_US)
    use(limiter, one, 1_000)
    pipeline = limiter.client.pipeline(transaction=False)
    for number in range(4_000):
        pipeline.set(f"another site's:{number}", 1)
    pipeline.execute()
    found = sample(limiter.client, limiter.keys, one, most_keys=1_000)
    assert not found.is_whole
    assert 1_000 <= found.walked < 1_600
    assert found.keys == 5_000
    assert 770 <= found.number(counted_by(one)) <= 1_230
    assert found.found(counted_by(one)) < 400


def test_no_more_time_is_spent_than_a_page_needs(limiter):
    one = rule(quota=3)
    use(limiter, one, 600)
    found = sample(limiter.client, limiter.keys, one, most_s=0)
    assert 0 < found.walked < 600
    assert not found.is_whole


def test_what_was_counted_before_a_fresh_start_is_nobodys(limiter):
    one = rule(quota=3, window_us=24 * HOUR_US)
    use(limiter, one, 20)
    for algorithm in Algorithm:
        again = rule(algorithm, quota=3, window_us=24 * HOUR_US, epoch=1)
        assert sample(limiter.client, limiter.keys, again).number(counted_by(again)) == 0


def test_nothing_is_written(limiter):
    one = rule(Algorithm.SLIDING_LOG, quota=3)
    use(limiter, one, 20)
    before = {key: limiter.client.dump(key) for key in limiter.client.scan_iter()}
    sample(limiter.client, limiter.keys, one)
    assert {key: limiter.client.dump(key) for key in limiter.client.scan_iter()} == before


def test_a_cluster_is_looked_at_node_by_node(cluster):
    made = make_limiter(cluster.url, redis_timeout_ms=2_000)
    try:
        one = rule(Algorithm.FIXED_WINDOW, quota=3, window_us=24 * HOUR_US, number=77)
        use(made, one, 60)
        found = sample(made.client, made.keys, one)
        assert len(found.servers) == 3
        assert all(server.kept for server in found.servers)
        assert found.number(counted_by(one)) == 60
    finally:
        made.close()


def test_without_redis_it_is_not_known(redis_server):
    made = make_limiter(redis_server.url, redis_timeout_ms=50)
    redis_server.pause()
    try:
        with pytest.raises(Unavailable):
            sample(made.client, made.keys, rule())
    finally:
        redis_server.resume()
        made.close()
