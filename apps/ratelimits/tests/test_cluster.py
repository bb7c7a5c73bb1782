"""A limiter on a real cluster: which node it asks, and what is given back where one denies."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import Algorithm, Counts, FailurePolicy, Mode
from apps.ratelimits.storage.cluster import SLOTS, slot_of
from apps.ratelimits.storage.limiter import RateLimiter, Target
from apps.ratelimits.storage.packing import PLAIN_ALGORITHMS, command
from tests.clusters import ClusterProcesses
from tests.servers import flavours

from .connecting import eventually
from .limiters import make_limiter, rule
from .test_breaker import no_threads

QUOTA = 1_000
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module", params=flavours())
def cluster(request):
    started = ClusterProcesses(request.param, replicas=0).start()
    yield started
    started.stop()


@pytest.fixture
def make(cluster):
    made = []

    def make(**changes) -> RateLimiter:
        made.append(make_limiter(cluster.url, **{"redis_timeout_ms": 2_000, **changes}))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.fixture
def limiter(make):
    return make()


_numbers = itertools.count()


def somebody(cluster, node=None) -> str:
    """A digest that no test has seen, in a slot of ``node``."""
    while True:
        who = digest(b"key", str(next(_numbers)))
        if node is None or cluster.owner_of(slot_of(who)) is node:
            return who


def two_people(cluster) -> tuple[str, str]:
    """On different nodes."""
    first, second = cluster.primaries()[:2]
    return somebody(cluster, first), somebody(cluster, second)


def limit(algorithm, quota, number=1, **changes):
    return rule(algorithm, quota=quota, window_us=HOUR_US, number=number, **changes)


def ways(limiter):
    async def acheck(targets):
        try:
            return await limiter.acheck(targets)
        finally:
            await limiter.aclose()

    return {"sync": limiter.check, "async": lambda targets: asyncio.run(acheck(targets))}


def remaining(limiter, *targets) -> list[int]:
    return [verdict.standing.remaining for verdict in limiter.peek(targets).verdicts]


def degraded(decision) -> bool:
    return any(verdict.degraded for verdict in decision.verdicts)


def failures(limiter) -> int:
    return sum(node.breaker.failed_total for node in limiter.redis.nodes)


def test_slots_are_those_of_the_specification():
    assert slot_of("123456789") == 0x31C3 % SLOTS  # its example
    assert slot_of("") == 0


def test_a_limiter_finds_every_node_from_one(make, cluster):
    one = f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"
    limiter = make_limiter(one, redis_timeout_ms=2_000)
    for node in cluster.primaries():
        decision = limiter.check(
            [Target(limit(Algorithm.FIXED_WINDOW, 5), somebody(cluster, node))]
        )
        assert decision.allowed
        assert not degraded(decision)
    eventually(lambda: limiter.redis.is_well)
    assert len(limiter.redis.nodes) == 3
    limiter.close()


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("denying", Algorithm)
@pytest.mark.parametrize("charged", Algorithm)
def test_where_one_denies_what_others_charged_is_given_back(
    limiter, cluster, charged, denying, way
):
    many, few = two_people(cluster)
    check = ways(limiter)[way]
    targets = [Target(limit(charged, QUOTA), many), Target(limit(denying, 2, 2), few)]
    decisions = [check(targets) for _ in range(4)]
    assert [d.allowed for d in decisions] == [True, True, False, False]
    assert not any(map(degraded, decisions))
    assert remaining(limiter, targets[0]) == [QUOTA - 2]
    assert remaining(limiter, targets[1]) == [0]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_however_often_one_denies_all_is_given_back(limiter, cluster, algorithm):
    many, few = two_people(cluster)
    none_left = Target(limit(Algorithm.FIXED_WINDOW, 1, 2), few)
    targets = [Target(limit(algorithm, QUOTA), many), none_left]
    limiter.check(targets)
    for _ in range(12):
        limiter.denials.forget(None)
        assert not limiter.check(targets).allowed
    assert remaining(limiter, targets[0]) == [QUOTA - 1]


def test_a_denied_checks_answer_is_as_if_nothing_had_been_charged(limiter, cluster):
    many, few = two_people(cluster)
    for algorithm in Algorithm:
        targets = [Target(limit(algorithm, QUOTA, 7), many), Target(limit(algorithm, 1, 8), few)]
        limiter.check(targets)
        limiter.denials.forget(None)
        said = [v.standing.remaining for v in limiter.check(targets).verdicts]
        assert said == [QUOTA - 1, 0]


def test_a_shadow_limit_neither_denies_nor_keeps_what_a_denied_request_charged(limiter, cluster):
    many, few = two_people(cluster)
    shadow = limit(Algorithm.FIXED_WINDOW, 1, 3, mode=Mode.SHADOW)
    targets = [
        Target(limit(Algorithm.FIXED_WINDOW, QUOTA), many),
        Target(shadow, many),
        Target(limit(Algorithm.FIXED_WINDOW, 2, 2), few),
    ]
    assert [limiter.check(targets).allowed for _ in range(3)] == [True, True, False]
    assert remaining(limiter, *targets) == [QUOTA - 2, 0, 0]


def test_many_identities_on_the_same_node_are_one_check_too(limiter, cluster):
    node = cluster.primaries()[0]
    targets = [
        Target(limit(Algorithm.TOKEN_BUCKET, 3, n), somebody(cluster, node)) for n in range(1, 6)
    ]
    assert [limiter.check(targets).allowed for _ in range(4)] == [True] * 3 + [False]


def test_counting_by_response_gives_back_in_every_slot(limiter, cluster):
    people = two_people(cluster)
    counting = [
        limit(Algorithm.SLIDING_WINDOW, 10, n, counts=Counts.STATUS, statuses=((500, 599),))
        for n in (1, 2)
    ]
    targets = [Target(*pair) for pair in zip(counting, people, strict=True)]
    decision = limiter.check(targets)
    assert remaining(limiter, *targets) == [9, 9]
    assert limiter.refund(decision.uncounted(200, set())) == 2
    assert remaining(limiter, *targets) == [10, 10]


def test_slots_in_every_node_are_released_and_people_reset(limiter, cluster):
    people = two_people(cluster)
    limits = [limit(Algorithm.CONCURRENCY, 1, n) for n in (1, 2)]
    targets = [Target(*pair) for pair in zip(limits, people, strict=True)]
    decision = limiter.check(targets)
    assert not limiter.check(targets).allowed
    limiter.release(decision.held)
    assert limiter.check(targets).allowed
    assert limiter.reset(people, limits) == 2
    assert limiter.check(targets).allowed


def test_a_leased_limit_is_leased_where_it_is_asked_alone(limiter, cluster):
    many, few = two_people(cluster)
    leased = Target(limit(Algorithm.FIXED_WINDOW, QUOTA, lease=50), many)
    other = Target(limit(Algorithm.FIXED_WINDOW, 3, 2), few)
    assert all(limiter.check([leased]).allowed for _ in range(100))
    assert len(limiter.leases) == 1
    assert [limiter.check([leased, other]).allowed for _ in range(4)] == [True] * 3 + [False]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_limit_that_charges_denials_hears_of_each_while_another_is_known_to_deny(
    limiter, cluster, way
):
    """As it does on a single server."""
    one, other = two_people(cluster)
    denying = Target(limit(Algorithm.FIXED_WINDOW, 1), one)
    charging = limit(Algorithm.TOKEN_BUCKET, 2, 2)
    rate = replace(charging.rate, window_us=2_000_000, charge_denied=True)
    charging = Target(replace(charging, rate=rate), other)
    check = ways(limiter)[way]
    limiter.check([denying])
    limiter.check([charging])
    limiter.check([charging])
    for _ in range(4):
        time.sleep(0.4)
        assert not check([denying, charging]).allowed
    assert remaining(limiter, charging) == [0]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_nodes_that_do_not_answer_cost_one_timeout_together(make, cluster, way):
    limiter = make(redis_timeout_ms=600)
    people = two_people(cluster)
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 5, n), who) for n, who in enumerate(people, 1)]
    limiter.check(targets)
    silent = cluster.primaries()[:2]
    for node in silent:
        node.pause()
    try:
        began_s = time.monotonic()
        decision = ways(limiter)[way](targets)
        cost_s = time.monotonic() - began_s
    finally:
        for node in silent:
            node.resume()
    assert degraded(decision)
    assert 0.55 < cost_s < 1.1
    cluster.wait_until_healthy()


def test_so_they_do_where_nothing_is_connected_yet_and_one_that_answers_is_heard(make, cluster):
    limiter = make(redis_timeout_ms=600)
    people = [somebody(cluster, node) for node in cluster.primaries()]
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 5, n), who) for n, who in enumerate(people, 1)]
    limiter.check(targets)
    eventually(lambda: limiter.redis.is_well)
    eventually(lambda: "ratelimits-slots" not in {each.name for each in threading.enumerate()})
    first, second, answers = (limiter.redis._holder(who) for who in people)
    first.connections.close()
    second.connections.close()
    silent = cluster.primaries()[:2]
    for node in silent:
        node.pause()
    try:
        began_s = time.monotonic()
        decision = limiter.check(targets)
        cost_s = time.monotonic() - began_s
    finally:
        for node in silent:
            node.resume()
    assert cost_s < 1.1
    assert [verdict.degraded for verdict in decision.verdicts] == [True, True, False]
    assert answers.breaker.failed_total == 0
    cluster.wait_until_healthy()


@pytest.mark.parametrize("policy", FailurePolicy)
def test_where_one_node_is_silent_its_limits_policy_decides_and_the_others_count(
    make, cluster, policy
):
    limiter = make(redis_timeout_ms=1_000)
    first, second = two_people(cluster)
    counted = Target(limit(Algorithm.FIXED_WINDOW, QUOTA), second)
    lost = Target(limit(Algorithm.FIXED_WINDOW, 1, 2, on_failure=policy), first)
    limiter.check([counted])
    node = cluster.owner_of(slot_of(first))
    node.pause()
    try:
        decisions = [limiter.check([counted, lost]) for _ in range(2)]
    finally:
        node.resume()
    cluster.wait_until_healthy()
    allowed = {
        FailurePolicy.ALLOW: [True, True],
        FailurePolicy.DENY: [False, False],
        FailurePolicy.LOCAL: [True, False],
    }[policy]
    assert [d.allowed for d in decisions] == allowed
    assert [d.unavailable for d in decisions] == [policy is FailurePolicy.DENY] * 2
    # What was denied for the silent node's sake is charged nowhere.
    assert remaining(limiter, counted) == [QUOTA - 1 - sum(allowed)]


def test_a_part_that_was_counted_here_is_given_back_where_another_denies(make, cluster):
    limiter = make(redis_timeout_ms=300)
    first, second = two_people(cluster)
    none_left = Target(limit(Algorithm.FIXED_WINDOW, 1, mode=Mode.ENFORCE), second)
    lost = Target(limit(Algorithm.TOKEN_BUCKET, 2, 2), first)
    limiter.check([none_left])
    node = cluster.owner_of(slot_of(first))
    node.pause()
    try:
        for _ in range(5):
            assert not limiter.check([none_left, lost]).allowed
            limiter.denials.forget(None)
        assert [limiter.check([lost]).allowed for _ in range(3)] == [True, True, False]
    finally:
        node.resume()
    cluster.wait_until_healthy()


@pytest.mark.parametrize("at", range(3))
def test_a_full_node_is_not_taken_for_well_whichever_it_is(make, cluster, at):
    """It says of another node's key where that lies, full or not."""
    full = cluster.primaries()[at]
    who = somebody(cluster, full)
    limiter = make(breaker_failures=2, breaker_open_ms=100)
    target = Target(limit(Algorithm.FIXED_WINDOW, QUOTA), who)
    limiter.check([target])
    eventually(lambda: limiter.redis.is_well)
    breaker = limiter.redis._holder(who).breaker
    with full.client() as client:
        client.set(f"{{{who}}}fill", "x" * 3_000_000)
        client.config_set("maxmemory", "1mb")
        try:
            assert degraded(limiter.check([target]))
            limiter.check([target])
            failed = breaker.failed_total
            for _ in range(60):
                limiter.check([target])
                time.sleep(0.01)
            assert breaker.failed_total == failed
        finally:
            client.config_set("maxmemory", "0")
            client.delete(f"{{{who}}}fill")
    eventually(lambda: not degraded(limiter.check([target])))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_slot_that_has_moved_is_followed(limiter, cluster, way):
    source, target = cluster.primaries()[:2]
    who = somebody(cluster, source)
    targets = [Target(limit(algorithm, 10, n), who) for n, algorithm in enumerate(Algorithm, 1)]
    check = ways(limiter)[way]
    check(targets)
    cluster.move_slots([slot_of(who)], target)
    decision = check(targets)
    assert not degraded(decision)
    assert [v.standing.remaining for v in decision.verdicts] == [8] * 5
    assert failures(limiter) == 0
    assert limiter.redis._holders[slot_of(who)].address[1] == target.port


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_slot_that_moves_is_asked_on_both_sides(limiter, cluster, way):
    source, target = cluster.primaries()[:2]
    known = somebody(cluster, source)
    targets = [Target(limit(Algorithm.TOKEN_BUCKET, 10), known)]
    check = ways(limiter)[way]
    check(targets)
    slot = slot_of(known)
    cluster.begin_move(slot, source, target)
    try:
        # Its bucket has not left yet; then it has; somebody new begins at once on the other side.
        assert check(targets).remaining == 8
        cluster.move_keys(slot, source, target)
        assert check(targets).remaining == 7
        while slot_of(new := somebody(cluster)) != slot:
            pass
        assert check([Target(limit(Algorithm.FIXED_WINDOW, 10), new)]).remaining == 9
        for n, algorithm in enumerate(PLAIN_ALGORITHMS, 2):
            assert check([Target(limit(algorithm, 10, n), new)]).remaining == 9
        assert failures(limiter) == 0
        # Two keys: the cluster looks at them once both have arrived, and until then their policy
        # decides.
        assert degraded(check([Target(limit(Algorithm.SLIDING_LOG, 10, 7), new)]))
    finally:
        cluster.end_move(slot, source, target)
    assert check(targets).remaining == 6
    assert not degraded(check([Target(limit(Algorithm.SLIDING_LOG, 10, 7), new)]))


def test_one_slot_of_several_that_moves_is_followed_within_one_check(limiter, cluster):
    source, target = cluster.primaries()[:2]
    moved, stays = somebody(cluster, source), somebody(cluster, source)
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 10, n), w) for n, w in ((1, moved), (2, stays))]
    limiter.check(targets)
    cluster.move_slots([slot_of(moved)], target)
    decision = limiter.check(targets)
    assert not degraded(decision)
    assert [v.standing.remaining for v in decision.verdicts] == [8, 8]


def test_a_script_that_a_node_has_lost_is_given_to_it_again(limiter, cluster):
    people = two_people(cluster)
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 10, n), w) for n, w in enumerate(people, 1)]
    limiter.check(targets)
    for node in cluster.primaries():
        with node.client() as client:
            client.script_flush()
    decision = limiter.check(targets)
    assert [v.standing.remaining for v in decision.verdicts] == [8, 8]
    assert failures(limiter) == 0


def test_a_reply_that_nobody_waits_for_answers_nobody(limiter, cluster, monkeypatch):
    """As where an exception comes between sending and receiving."""
    people = two_people(cluster)
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 10, n), w) for n, w in enumerate(people, 1)]
    limiter.check(targets)
    eventually(lambda: limiter.redis.is_well)  # The slots are known: each ask goes to its holder.
    eventually(lambda: "ratelimits-slots" not in {each.name for each in threading.enumerate()})
    with monkeypatch.context() as patched:
        patched.setattr(limiter.redis, "_received", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            limiter.check(targets)
    for node in limiter.redis.nodes:
        for n in range(5):
            assert node.ask(command("ECHO", str(n))) == str(n).encode()
    assert remaining(limiter, *targets) == [8, 8]


def test_a_lost_primary_is_replaced_by_its_replica(request):
    """Requests go on by policy meanwhile, and are exact again with the new one."""
    cluster = ClusterProcesses().start()
    request.addfinalizer(cluster.stop)
    limiter = make_limiter(cluster.url, redis_timeout_ms=100, breaker_open_ms=500)
    request.addfinalizer(limiter.close)
    lost = cluster.primaries()[0]
    gone, other = somebody(cluster, lost), somebody(cluster, cluster.primaries()[1])
    first, second = (
        Target(limit(Algorithm.FIXED_WINDOW, QUOTA), gone),
        Target(limit(Algorithm.FIXED_WINDOW, QUOTA, 2), other),
    )
    limiter.check([first, second])
    replica = cluster.replica_of(lost)
    with replica.client() as client:
        eventually(lambda: client.dbsize() == 1)
    cluster.kill(lost)
    assert degraded(limiter.check([first]))
    for _ in range(20):
        decision = limiter.check([second])
        assert decision.allowed
        assert not degraded(decision)
    eventually(lambda: not degraded(limiter.check([first])), 10)
    assert limiter.redis._holders[slot_of(gone)].address[1] == replica.port
    eventually(lambda: lost.port not in [node.address[1] for node in limiter.redis.nodes])


def test_where_no_thread_can_be_started_the_map_is_read_after_the_next_check(
    make, cluster, monkeypatch
):
    limiter = make()
    with monkeypatch.context() as patched:
        no_threads(patched)
        limiter.check([Target(limit(Algorithm.FIXED_WINDOW, 5), somebody(cluster))])
    limiter.check([Target(limit(Algorithm.FIXED_WINDOW, 5), somebody(cluster))])
    eventually(lambda: limiter.redis.is_well)


def test_one_given_node_may_be_away_at_the_start(cluster):
    away = "127.0.0.1:9"
    limiter = make_limiter(
        f"redis+cluster://{away},127.0.0.1:{cluster.nodes[0].port}", breaker_failures=100
    )
    target = Target(limit(Algorithm.FIXED_WINDOW, 100), somebody(cluster))
    eventually(lambda: not degraded(limiter.check([target])), 2)
    eventually(lambda: limiter.redis.is_well, 6)
    assert not any(degraded(limiter.check([target])) for _ in range(20))
    limiter.close()


def test_a_cluster_that_is_away_leaves_it_to_the_policies(make):
    limiter = make_limiter("redis+cluster://127.0.0.1:9,127.0.0.1:10", breaker_failures=2)
    targets = [Target(limit(Algorithm.FIXED_WINDOW, 2, n), digest(b"k", str(n))) for n in (1, 2)]
    assert [limiter.check(targets).allowed for _ in range(3)] == [True, True, False]
    assert not limiter.check([replace_policy(targets[0])]).allowed
    limiter.close()


def replace_policy(target: Target) -> Target:
    return target._replace(rule=replace(target.rule, on_failure=FailurePolicy.DENY))
