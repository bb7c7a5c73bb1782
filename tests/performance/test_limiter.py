"""The guide's basic checks, by pytest-benchmark: ``python -m pytest tests/performance``.

A few of each kind, short, so that they run with the suite; what they measure can be kept by
``--benchmark-json`` and ``manage.py benchmark import``. The history's own benchmarks are in
``apps/benchmarks/suites``.
"""

from __future__ import annotations

from itertools import cycle

import pytest
import redis

from apps.benchmarks.suites import matching
from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage.limiter import RateLimiter
from iota.config import create_settings

pytestmark = pytest.mark.benchmark(min_time=0.000_01, max_time=0.2, min_rounds=5, warmup=False)
DAY_US = 86_400_000_000
USERS = [f"user-{number}" for number in range(50)]


@pytest.fixture
def limiter(redis_server, redis_client):
    def make(limits: int) -> RateLimiter:
        quotas = [1_000_000 * number for number in range(1, limits + 1)]
        rules = tuple(
            Rule(
                number, f"limit-{number}", Rate(Algorithm.TOKEN_BUCKET, quota, DAY_US, burst=quota)
            )
            for number, quota in enumerate(quotas, 1)
        )
        config = create_settings().rate_limit_config
        made.append(RateLimiter(config, redis.Redis.from_url(redis_server.url), rules=rules))
        return made[-1]

    made: list[RateLimiter] = []
    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("limits", [1, 10])
def test_a_check(benchmark, limiter, limits):
    check, users = limiter(limits).check_rate_limit, cycle(USERS)
    assert benchmark(lambda: check(next(users))).allowed


def test_reading_the_configuration(benchmark):
    assert benchmark(create_settings).rate_limit_config.redis_url


def test_finding_the_limits_that_match_among_ten_thousand(benchmark):
    index = compile_ruleset(matching.rulesets()[0])
    found = benchmark(index.candidates, matching.FACTS, matching.NOW_US)
    assert len(found) == len(matching.MATCHING)


def test_a_round_trip(benchmark, redis_client):
    assert benchmark(redis_client.ping)
