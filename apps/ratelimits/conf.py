"""The app's one setting, ``IOTA_RATELIMITS``: a RateLimitConfig (``iota/config.py`` makes it)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Protocol, cast

from django.conf import settings

from .storage.limiter import Config


class RateLimitConfig(Config, Protocol):
    """All that the app reads of its configuration."""

    @property
    def redis_operator_url(self) -> str: ...
    @property
    def redis_sweeper_url(self) -> str: ...
    @property
    def disabled(self) -> bool: ...
    @property
    def ruleset_poll_ms(self) -> int: ...
    @property
    def no_ruleset(self) -> str: ...
    @property
    def trusted_proxies(self) -> tuple[IPv4Network | IPv6Network, ...]: ...
    @property
    def ipv6_prefix(self) -> int: ...
    @property
    def exempt_paths(self) -> tuple[str, ...]: ...
    @property
    def health_paths(self) -> tuple[str, ...]: ...
    @property
    def key_validator(self) -> str: ...
    @property
    def counted_signals(self) -> tuple[str, ...]: ...
    @property
    def exempt_preflight(self) -> bool: ...
    @property
    def identity_budget(self) -> int: ...
    @property
    def traffic_records(self) -> int: ...
    @property
    def traffic_minutes(self) -> int: ...
    @property
    def traffic_sample(self) -> int: ...


def load_us(config: RateLimitConfig) -> int:
    """How long the site took to load it; 0 where it does not say."""
    return int(getattr(config, "load_us", 0))


def current() -> RateLimitConfig:
    """Read at call time, so that tests can override it."""
    return cast(RateLimitConfig, settings.IOTA_RATELIMITS)
