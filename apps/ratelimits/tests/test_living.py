"""When a limit is gone for certain, and when not yet."""

from __future__ import annotations

import pytest

from apps.ratelimits.policy.rules import Algorithm, Ruleset
from apps.ratelimits.storage.living import GRACE_S, Known, Living
from apps.ratelimits.storage.ruleset_store import RulesetStore

from .limiters import make_limiter, rule

NOW_S = 1_700_000_000.0
LONG_AGO = int((NOW_S - 3_600) * 1_000_000)


class Site:
    """What the database has, what is published, and the time."""

    def __init__(self, limiter) -> None:
        self.store = RulesetStore(limiter.client, limiter.keys)
        self.known = Known(LONG_AGO, {1: 0, 2: 3}, {1: 60_000_000, 2: 60_000_000}, highest=9)
        self.now_s = 100.0
        self.living = Living(
            self.store,
            lambda last: last if last == self.known else self.known,
            clock_s=lambda: self.now_s,
            wall_s=lambda: NOW_S,
        )

    def publish(self, *rules, version=LONG_AGO) -> None:
        assert self.store.publish(Ruleset(version, tuple(rules)))


@pytest.fixture
def site(each_redis):
    limiter = make_limiter(each_redis.url)
    limiter.client.flushdb()
    yield Site(limiter)
    limiter.close()


def test_gone_is_what_neither_the_database_nor_the_published_ruleset_has(site):
    site.publish(rule(number=4))
    assert site.living.learn()
    gone = [limit for limit in range(1, 12) if site.living.is_gone(limit, 0)]
    # 2 has another epoch by now; 4 is published still; 10 and 11 were never given.
    assert gone == [2, 3, 5, 6, 7, 8, 9]
    assert not site.living.is_gone(2, 3)
    assert site.living.deleted(range(12)) == [3, 5, 6, 7, 8, 9]


def test_what_code_checks_by_without_a_database_lives(site):
    site.living.learn()
    assert not site.living.is_gone(0, 0)
    assert site.living.deleted([0]) == []


def test_an_epoch_is_over_once_it_is_over_in_both(site):
    site.publish(rule(number=2, epoch=2))
    site.living.learn()
    assert site.living.is_gone(2, 1)
    assert not site.living.is_gone(2, 2)
    assert not site.living.is_gone(2, 4)  # Newer than what is known here.
    site.publish(rule(number=2, epoch=3), version=LONG_AGO + 1)
    assert site.living.learn()
    site.now_s += GRACE_S
    site.living.learn()
    assert site.living.is_gone(2, 2)
    assert not site.living.is_gone(2, 3)


def test_a_records_epoch_goes_round(site):
    site.known = Known(LONG_AGO, {1: 65_537}, {}, highest=1)
    site.living.learn()
    gone = {epoch: site.living.is_record_gone(1, epoch) for epoch in (65_535, 0, 1, 2, 32_000)}
    assert gone == {65_535: True, 0: True, 1: False, 2: False, 32_000: False}


def test_who_is_gone_just_now_is_left_for_the_processes_that_have_not_heard(site):
    site.living.learn()
    site.known = Known(int(NOW_S * 1_000_000), {2: 4}, {}, highest=9)
    assert site.living.learn()
    assert not site.living.is_gone(1, 0)
    assert not site.living.is_gone(2, 3)
    assert site.living.is_gone(3, 0)  # It was gone before.
    site.now_s += GRACE_S
    assert not site.living.learn()
    assert site.living.is_gone(1, 0)
    assert site.living.is_gone(2, 3)


def test_where_the_last_edit_is_of_just_now_nothing_is_gone_at_first(site):
    site.known = Known(int(NOW_S * 1_000_000), {1: 1}, {}, highest=9)
    site.living.learn()
    assert not site.living.is_gone(3, 0)
    site.now_s += GRACE_S
    assert site.living.is_gone(3, 0)
    assert site.living.is_gone(1, 0)


def test_a_limit_that_is_back_lives(site):
    site.living.learn()
    assert site.living.is_gone(3, 0)
    site.publish(rule(number=3))
    site.living.learn()
    assert not site.living.is_gone(3, 0)


def test_redis_without_a_ruleset_leaves_the_database_to_decide(site):
    site.publish(rule(number=4))
    site.living.learn()
    site.store._client.flushall()
    assert site.living.learn()
    site.now_s += GRACE_S
    site.living.learn()
    assert site.living.is_gone(4, 0)
    assert not site.living.is_gone(10, 0)


def test_of_two_windows_the_longer_decides(site):
    site.publish(rule(Algorithm.SLIDING_LOG, window_us=90_000_000, number=1))
    site.living.learn()
    assert site.living.window_us(1) == 90_000_000
    assert site.living.window_us(7) is None
