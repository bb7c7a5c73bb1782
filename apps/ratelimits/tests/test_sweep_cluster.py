"""A sweep goes through every primary; one that is lost on the way keeps no other waiting."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.sweep import Sweeper
from tests.clusters import ClusterProcesses
from tests.servers import flavours

from .limiters import make_limiter, rule
from .test_sweep import known

PEOPLE = 300
GONE, LIVES = rule(number=5, window_us=3_600_000_000), rule(number=6, window_us=3_600_000_000)
LOG = rule(Algorithm.SLIDING_LOG, number=7, window_us=3_600_000_000)


@pytest.fixture(params=flavours())
def cluster(request):
    started = ClusterProcesses(request.param, replicas=0).start()
    yield started
    started.stop()


@pytest.fixture
def limiter(cluster):
    made = make_limiter(cluster.url, redis_timeout_ms=2_000)
    for number in range(PEOPLE):
        who = digest(b"key", str(number))
        limits = [GONE, LIVES, LOG] if number % 3 else [GONE]
        assert made.check([Target(limit, who) for limit in limits]).allowed
    yield made
    made.close()


def sweeper(limiter, **options) -> Sweeper:
    return Sweeper(
        limiter.client,
        limiter.keys,
        lambda last: last or known(LIVES),
        rate_per_s=10**6,
        page=10,
        **options,
    )


def addresses(cluster) -> set[str]:
    return {f"127.0.0.1:{node.port}" for node in cluster.primaries()}


def remaining(limiter, *limits) -> set[tuple[int, ...]]:
    people = [digest(b"key", str(number)) for number in range(PEOPLE) if number % 3]
    return {
        tuple(limiter.peek([Target(limit, who)]).remaining for limit in limits) for who in people
    }


def test_every_primary_is_swept(cluster, limiter):
    made = sweeper(limiter)
    assert made.run()
    assert made.is_done
    assert {place.address for place in made.places} == addresses(cluster)
    assert all(place.seen > 0 and not place.error for place in made.places)
    assert made.tally.seen == PEOPLE + 200
    assert made.tally.removed == {"bucket": 100, "log": 200}
    assert made.tally.records == 2 * 200
    assert remaining(limiter, GONE, LIVES, LOG) == {(3, 2, 3)}


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_a_primary_that_is_lost_on_the_way_is_given_up_and_the_others_are_finished(
    cluster, limiter, how
):
    """Not the one that holds the ruleset: without it nothing is known to be gone."""
    holder = cluster.owner_of(limiter.client.keyslot(limiter.keys.ruleset))
    lost = next(node for node in cluster.primaries() if node is not holder)
    wanted = addresses(cluster)
    turns = []

    class Losing(Sweeper):
        def _turn(self, node):
            turns.append(node.place.address)
            if len(turns) == 5:
                getattr(cluster if how == "kill" else lost, how)(*[lost] * (how == "kill"))
            return super()._turn(node)

    client = make_limiter(cluster.url, redis_timeout_ms=500)
    made = Losing(
        client.client, limiter.keys, lambda last: last or known(LIVES), rate_per_s=10**6, page=10
    )
    try:
        assert made.run()
    finally:
        lost.resume()
        client.close()
    assert not made.is_done
    by_address = {place.address: place for place in made.places}
    assert set(by_address) == wanted
    place = by_address.pop(f"127.0.0.1:{lost.port}")
    assert (place.done, bool(place.error)) == (False, True)
    assert all(place.done and not place.error for place in by_address.values())
    assert 0 < place.seen < PEOPLE
    if how == "kill":
        cluster.restart(lost)
        cluster.wait_until_healthy()
    again = sweeper(limiter)
    assert again.run(None, made.places)
    assert again.is_done
    # The others had been finished: only the one that was lost is gone on with.
    swept_now = {place.address for place in again.places if place.seen > 0}
    assert again.tally.seen < PEOPLE
    assert swept_now >= set(by_address)
    if how == "pause":
        assert remaining(limiter, GONE, LIVES, LOG) == {(3, 2, 3)}
    else:
        assert again.places[0].run_id


def test_where_the_ruleset_cannot_be_read_nothing_is_removed(cluster, limiter):
    holder = cluster.owner_of(limiter.client.keyslot(limiter.keys.ruleset))

    class Losing(Sweeper):
        def _turn(self, node):
            if not holder_is_lost:
                cluster.kill(holder)
                holder_is_lost.append(True)
            return super()._turn(node)

    holder_is_lost: list[bool] = []
    made = Losing(
        limiter.client, limiter.keys, lambda last: last or known(LIVES), rate_per_s=10**6, page=10
    )
    assert made.run()
    assert made.tally.keys_removed == made.tally.records == 0
    assert made.tally.left > 0
