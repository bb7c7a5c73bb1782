"""The peers, used as their documentation says, at the settings that suit them best.

Each is imported only when it is asked for: the site itself needs none of them. All count with a
fixed window, which every one of them does fastest; several limits are as many checks. The one that
offers to send them in one pipeline takes part with that too (SMART_BATCH).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from django.core.cache import caches
from django.test.utils import override_settings

from .ours import Check
from .race import Maker, NotInstalled

LIMITS = "limits"
LIMITS_VALKEY = "limits, valkey-py"
THROTTLED = "throttled-py"
SMART = "django-smart-ratelimit"
SMART_BATCH = "django-smart-ratelimit, batch"
DJANGO_RATELIMIT = "django-ratelimit"
DRF = "DRF"
NAMES = (LIMITS, LIMITS_VALKEY, THROTTLED, SMART, DJANGO_RATELIMIT, DRF)

CACHE = "benchmark-peers"
DAY_S = 86_400


def django_settings(url: str) -> dict[str, Any]:
    """What those that are Django apps read. django-redis serves both users of the cache faster
    than Django's own Redis cache: it increments in one trip where that takes two.

    django-smart-ratelimit is given host and port: with a URL its async backend (4.12.1) denies
    every request ("from_url() got multiple values for argument 'url'").
    """
    parts = urlsplit(url)
    return {
        "CACHES": {
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url},
            CACHE: {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url},
        },
        "RATELIMIT_USE_CACHE": CACHE,
        "RATELIMIT_BACKEND": "redis",
        "RATELIMIT_REDIS": {
            "host": parts.hostname,
            "port": parts.port,
            "db": int(parts.path.removeprefix("/")),
        },
        "RATELIMIT_ALGORITHM": "fixed_window",
    }


@contextmanager
def settings_of_peers(url: str) -> Iterator[None]:
    """While it lasts, django-smart-ratelimit does not tell the log that it started."""
    logger = logging.getLogger("django_smart_ratelimit")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with override_settings(**django_settings(url)):
            yield
    finally:
        logger.setLevel(before)


def makers(url: str) -> dict[str, Maker]:
    """By name; a maker raises NotInstalled where its peer is missing."""
    made: dict[str, Callable[[str, Sequence[int]], Check]] = {
        LIMITS: _limits,
        LIMITS_VALKEY: _limits_valkey,
        THROTTLED: _throttled,
        SMART: _smart,
        DJANGO_RATELIMIT: _django_ratelimit,
        DRF: _drf,
    }
    return {name: partial(_installed, maker, url) for name, maker in made.items()}


def _installed(
    maker: Callable[[str, Sequence[int]], Check], url: str, quotas: Sequence[int]
) -> Check:
    try:
        return maker(url, quotas)
    except ImportError as error:
        raise NotInstalled(f"not installed ({error}); see requirements-dev.txt") from error


def all_of(checks: Sequence[Check]) -> Check:
    """Every check is made, as for a request that all of them allow."""
    if len(checks) == 1:
        return checks[0]

    def check(identity: str) -> bool:
        allowed = True
        for one in checks:
            allowed = one(identity) and allowed
        return allowed

    return check


def _limits(url: str, quotas: Sequence[int], key_prefix: str = "limits") -> Check:
    from limits import RateLimitItemPerDay
    from limits.storage import RedisStorage
    from limits.strategies import FixedWindowRateLimiter

    hit = FixedWindowRateLimiter(RedisStorage(url, key_prefix=key_prefix)).hit
    return all_of([partial(hit, RateLimitItemPerDay(quota)) for quota in quotas])


def _limits_valkey(url: str, quotas: Sequence[int]) -> Check:
    import libvalkey  # noqa: F401  (valkey-py's parser, as hiredis is redis-py's)

    return _limits(url.replace("redis://", "valkey://"), quotas, "limits-valkey")


def _throttled(url: str, quotas: Sequence[int]) -> Check:
    """Its fixed window is a bare INCRBY, and faster than its scripts."""
    from throttled import Throttled
    from throttled.store import RedisStore

    store = RedisStore(server=url)

    def one(number: int, quota: int) -> Check:
        throttle = Throttled(
            using="fixed_window", quota=f"{quota}/d", store=store, key_prefix=f"throttled{quota}"
        )
        return lambda identity: not throttle.limit(identity).limited

    return all_of([one(number, quota) for number, quota in enumerate(quotas)])


def _smart(url: str, quotas: Sequence[int]) -> Check:
    """Without its circuit breaker, which costs it a lock."""
    from django_smart_ratelimit.backends.redis_backend import RedisBackend

    backend = RedisBackend(enable_circuit_breaker=False)

    def one(number: int, quota: int) -> Check:
        return lambda identity: bool(
            backend.check_rate_limit(f"{number}:{identity}", quota, DAY_S)[0]
        )

    return all_of([one(number, quota) for number, quota in enumerate(quotas)])


def smart_batch(quotas: Sequence[int]) -> Check:
    """Its several limits in one pipeline: one trip, and each is charged whatever the others say."""
    try:
        from django_smart_ratelimit.backends.redis_backend import RedisBackend
    except ImportError as error:
        raise NotInstalled(f"not installed ({error}); see requirements-dev.txt") from error

    backend = RedisBackend(enable_circuit_breaker=False)
    numbered = list(enumerate(quotas))

    def check(identity: str) -> bool:
        asked = [
            {"key": f"batch:{number}:{identity}", "limit": quota, "period": DAY_S}
            for number, quota in numbered
        ]
        return all(allowed for allowed, _ in backend.check_batch(asked))

    return check


def _django_ratelimit(url: str, quotas: Sequence[int]) -> Check:
    from django_ratelimit.core import is_ratelimited

    request = SimpleNamespace(method="GET")

    def one(number: int, quota: int) -> Check:
        group, rate = f"group-{number}", f"{quota}/d"

        def check(identity: str) -> bool:
            limited = is_ratelimited(
                request, group, key=lambda group, request: identity, rate=rate, increment=True
            )
            return not limited

        return check

    return all_of([one(number, quota) for number, quota in enumerate(quotas)])


def _drf(url: str, quotas: Sequence[int]) -> Check:
    """An object per request, as its views make them."""
    from rest_framework.throttling import SimpleRateThrottle

    def one(number: int, quota: int) -> Check:
        class Throttle(SimpleRateThrottle):  # type: ignore[misc, unused-ignore]
            scope = f"scope-{number}"
            rate = f"{quota}/d"
            cache = caches[CACHE]

            def get_cache_key(self, request: str, view: None) -> str:
                return str(self.cache_format % {"scope": self.scope, "ident": request})

        return lambda identity: bool(Throttle().allow_request(identity, None))

    return all_of([one(number, quota) for number, quota in enumerate(quotas)])
