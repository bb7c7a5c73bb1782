"""The app's one setting, ``IOTA_RATELIMITS``: a dictionary, or a RateLimitConfig made of it.

A site writes what has no default, and what it wants otherwise; ``options.py`` declares each key::

    IOTA_RATELIMITS = {
        "REDIS_URL": "redis://127.0.0.1:6379/0",
        "IDENTITY_KEY": os.environ["IDENTITY_KEY"],
    }

It is checked whole: system checks (``ratelimits.E005``) name everything that is wrong at once, and
a site that serves without having been checked refuses to start.
"""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Network
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .options import OPTIONS, Option, Refused, shown, truth

NAME = "IOTA_RATELIMITS"
WAY_BACK = "IOTA_DISABLED"
"""Of the environment, for a dictionary that does not say: a restart needs no edit of settings."""


class ConfigurationError(ImproperlyConfigured):
    """All that is wrong with the setting; ``problems`` has one text per key."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{len(problems)} wrong in the settings:\n{lines}")


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """What the limiter is told; see ``options.OPTIONS`` for each part's meaning.

    What can hold a secret is left out of the repr, which ends up in logs and error pages.
    """

    redis_url: str = field(repr=False)
    redis_operator_url: str = field(repr=False)
    redis_sweeper_url: str = field(repr=False)
    key_prefix: str
    identity_key: bytes = field(repr=False)
    disabled: bool
    redis_timeout_ms: int
    redis_max_connections: int
    breaker_failures: int
    breaker_open_ms: int
    ruleset_poll_ms: int
    no_ruleset: str
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    ipv6_prefix: int
    exempt_paths: tuple[str, ...]
    health_paths: tuple[str, ...]
    exempt_preflight: bool
    key_validator: str
    counted_signals: tuple[str, ...]
    local_processes: int
    identity_budget: int
    reason_required: bool
    unknown_limit: str
    check_token: str = field(repr=False)
    check_networks: tuple[IPv4Network | IPv6Network, ...]
    denied_names: bool
    traffic_records: int
    traffic_minutes: int
    traffic_sample: int
    load_us: int = field(default=0, compare=False)
    """How long reading it took, for staff to see."""

    @classmethod
    def of(cls, values: Mapping[str, Any], *, debug: bool) -> RateLimitConfig:
        """``values``: what each option's check has returned, by the option's name."""
        made = {option.field: values[option.name] for option in OPTIONS}
        made["identity_key"] = _key(values["IDENTITY_KEY"])
        made["unknown_limit"] = values["UNKNOWN_LIMIT"] or ("raise" if debug else "allow")
        return cls(**made)


def load_us(config: RateLimitConfig) -> int:
    """How long the site took to load it; 0 where it does not say."""
    return int(getattr(config, "load_us", 0))


def current() -> RateLimitConfig:
    """Looked up at call time, so that tests can override it. Raises ConfigurationError."""
    try:
        given: RateLimitConfig | dict[str, Any] | None = settings.IOTA_RATELIMITS
    except AttributeError:
        given = None
    if given is None or isinstance(given, dict):
        return _last.read(given)
    return given


def problems() -> tuple[str, ...]:
    """What ``current`` would raise."""
    try:
        current()
    except ConfigurationError as error:
        return error.problems
    return ()


def read(given: Mapping[str, Any] | None) -> RateLimitConfig:
    """Raises ConfigurationError, which names everything that is wrong at once."""
    began_ns = time.perf_counter_ns()
    wrong: list[str] = []
    if given is None:
        needed = ", ".join(f'"{option.name}": ...' for option in OPTIONS if option.required)
        raise ConfigurationError([f"{NAME}: not set; use {{{needed}}}"])
    values = {option.name: _value(option, given, wrong) for option in OPTIONS}
    _refuse_unknown(given, wrong)
    if values["IDENTITY_KEY"] and values["IDENTITY_KEY"] == settings.SECRET_KEY:
        wrong.append(
            f"{_place('IDENTITY_KEY')}: the same as SECRET_KEY; use another, so that changing one "
            "changes nothing of the other"
        )
    if wrong:
        raise ConfigurationError(wrong)
    config = RateLimitConfig.of(values, debug=settings.DEBUG)
    return replace(config, load_us=(time.perf_counter_ns() - began_ns) // 1000)


class _Last:
    """The last dictionary and what was read from it: current() is asked on every request."""

    def __init__(self) -> None:
        self._read: tuple[object, RateLimitConfig] = (self, cast(RateLimitConfig, None))

    def read(self, given: Mapping[str, Any] | None) -> RateLimitConfig:
        whose, config = self._read
        if whose is not given:
            config = read(given)
            self._read = (given, config)
        return config


_last = _Last()


def _value(option: Option, given: Mapping[str, Any], wrong: list[str]) -> Any:
    if option.name not in given:
        return _without(option, wrong)
    value = given[option.name]
    try:
        return option.check(_typed(option, value))
    except (ValueError, TypeError) as error:
        reason = str(error) if isinstance(error, Refused) else ""
        what = shown(value, is_secret=option.secret)
        wrong.append(f"{_place(option.name)} = {what}: {reason or f'use {_allowed(option)}'}")
        return option.default


def _without(option: Option, wrong: list[str]) -> Any:
    if option.required:
        wrong.append(f"{_place(option.name)}: not set; use {_allowed(option)}")
        return option.default
    if option.name == "DISABLED" and (word := os.environ.get(WAY_BACK)):
        try:
            return truth(word)
        except Refused:
            what = shown(word, is_secret=False)
            wrong.append(f"{WAY_BACK}={what} in the environment: use true or false")
    return option.check(option.default)


def _typed(option: Option, value: Any) -> Any:
    """A text is no list of its letters, "false" is not False, and True is no number."""
    if option.kind is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise Refused
        return tuple(value)
    if type(value) is not option.kind or (option.required and not value):
        raise Refused
    return value


def _allowed(option: Option) -> str:
    if option.kind is bool:
        return "True or False"
    return f"a list of {option.allowed}" if option.kind is tuple else option.allowed


def _refuse_unknown(given: Mapping[str, Any], wrong: list[str]) -> None:
    known = [option.name for option in OPTIONS]
    for name in given:
        if name not in known:
            bare = str(name).upper().removeprefix("IOTA_")
            close = difflib.get_close_matches(bare, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else "remove it"
            wrong.append(f"{_place(str(name))}: no such key; {hint}")


def _place(name: str) -> str:
    return f'{NAME}["{name}"]'


def _key(text: str) -> bytes:
    """All of a secret counts: BLAKE2b takes 64 bytes at most, so a longer one is hashed."""
    key = text.encode()
    return key if len(key) <= blake2b.MAX_KEY_SIZE else blake2b(key).digest()
