"""Every variable of the environment, read once into a frozen object.

``iota/variables.py`` declares them; ``python -m iota.config`` prints them as the docs' table.
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from apps.ratelimits.conf import RateLimitConfig
from apps.ratelimits.options import Refused, shown

from .broker import Broker
from .mail import MailServer
from .variables import VARIABLES, Variable, as_markdown


class ConfigurationError(ImproperlyConfigured):
    """All that is wrong with the environment; ``problems`` has one text per variable."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{len(problems)} wrong in the environment:\n{lines}")


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``iota/settings.py`` is told."""

    secret_key: str = field(repr=False)
    debug: bool
    demo: bool
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    database: Mapping[str, Any] = field(repr=False)
    redis_url: str = field(repr=False)
    celery_broker: Broker
    otel_endpoint: str
    metrics_token: str = field(repr=False)
    metrics_networks: tuple[IPv4Network | IPv6Network, ...]
    loadtest_targets: tuple[str, ...]
    loadtest_max_users: int
    loadtest_max_seconds: int
    admins: tuple[str, ...]
    mail_server: MailServer
    mail_from: str
    time_zone: str
    language_code: str
    log_level: str
    log_format: str
    hsts_seconds: int
    secure_ssl_redirect: bool
    tls_ends_at_proxy: bool
    rate_limit_config: RateLimitConfig


def create_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment (``os.environ`` where none is given).

    Raises ConfigurationError, which names everything that is wrong at once.
    """
    began_ns = time.perf_counter_ns()
    source = dict(os.environ if environ is None else environ)
    problems: list[str] = []
    _drop_empty(source)
    _read_files(source, problems)
    _drop_empty(source)
    values = {variable.name: _read(variable, source, problems) for variable in VARIABLES}
    _refuse_unknown(source, problems)
    _require(values, source, problems)
    if problems:
        raise ConfigurationError(sorted(problems, key=_declared_place))
    settings = _settings(values)
    load_us = (time.perf_counter_ns() - began_ns) // 1000
    return replace(settings, rate_limit_config=replace(settings.rate_limit_config, load_us=load_us))


def _drop_empty(source: dict[str, str]) -> None:
    """``NAME=`` is how compose files say "not set"; an empty list can be meant."""
    for variable in VARIABLES:
        names = [f"{variable.name}_FILE"]
        if variable.kind != "list":
            names.append(variable.name)
        for name in names:
            if source.get(name) == "":
                del source[name]


def _read_files(source: dict[str, str], problems: list[str]) -> None:
    """``NAME_FILE`` holds the path of a file with the value of ``NAME``."""
    for variable in VARIABLES:
        path = source.pop(f"{variable.name}_FILE", None)
        if path is None:
            continue
        if variable.name in source:
            problems.append(f"{variable.name}: set as {variable.name}_FILE too; keep one of them")
            continue
        try:
            source[variable.name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:  # not UTF-8, or a NUL in the path
            reason = getattr(error, "strerror", None) or "not a file of text"
            problems.append(f"{variable.name}_FILE={path!r}: {reason}; name a readable file")


def _read(variable: Variable, source: Mapping[str, str], problems: list[str]) -> Any:
    env = _Env(source)
    try:
        value = getattr(env, variable.kind)(variable.name, default=variable.default)
        if isinstance(value, list):
            value = [item for item in map(str.strip, value) if item]
        return variable.check(value)
    except (ValueError, TypeError) as error:
        given = shown(source[variable.name], is_secret=variable.secret)
        reason = str(error) if isinstance(error, Refused) else ""
        problems.append(f"{variable.name}={given}: {reason or f'use {variable.allowed}'}")
        return variable.default


class _Env(environ.Env):  # type: ignore[misc]
    """django-environ's reader over a mapping instead of the process's environment."""

    def __init__(self, source: Mapping[str, str]) -> None:
        super().__init__()
        # django-environ takes "$NAME" for a reference to NAME: a generated secret that begins
        # with "$" came out empty. Escaped, every value is what was given.
        self.escape_proxy = True
        self.ENVIRON = {name: value.replace("$", r"\$") for name, value in source.items()}


def _refuse_unknown(source: Mapping[str, str], problems: list[str]) -> None:
    known = [variable.name for variable in VARIABLES]
    for name in sorted(source):
        if name.startswith("IOTA_") and name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            problems.append(f"{name}: no such variable; {hint}")


def _require(values: dict[str, Any], source: Mapping[str, str], problems: list[str]) -> None:
    """What has no default outside the demo."""
    required = ["SECRET_KEY", "IOTA_IDENTITY_KEY"]
    if values["IOTA_DEMO"] is not True:
        required.append("ALLOWED_HOSTS")
    elif not values["ALLOWED_HOSTS"]:
        values["ALLOWED_HOSTS"] = ("localhost", "127.0.0.1", "[::1]")
    if "*" in values["ALLOWED_HOSTS"] and values["DEBUG"] is not True:
        problems.append("ALLOWED_HOSTS='*': use host names; '*' is for DEBUG only")
    if values["SECRET_KEY"] and values["SECRET_KEY"] == values["IOTA_IDENTITY_KEY"]:
        problems.append(
            "IOTA_IDENTITY_KEY: the same as SECRET_KEY; use another, so that changing one "
            "changes nothing of the other"
        )
    if values["IOTA_TLS_ENDS_AT_PROXY"] is True and not source.get("IOTA_TRUSTED_PROXIES"):
        problems.append(
            "IOTA_TLS_ENDS_AT_PROXY='true': name that proxy in IOTA_TRUSTED_PROXIES, else every "
            "visitor counts as the proxy's address"
        )
    if not values["CELERY_BROKER_URL"] and not source.get("CELERY_BROKER_URL"):
        try:
            Broker.of(values["REDIS_URL"])
        except ValueError as error:
            problems.append(
                f"CELERY_BROKER_URL: not set, and REDIS_URL cannot stand in for it ({error}); "
                "use a server apart, such as redis://host:6379/0"
            )
    declared = {variable.name: variable for variable in VARIABLES}
    named = {_name_in(problem) for problem in problems}
    for name in required:
        if not values[name] and not source.get(name) and name not in named:
            problems.append(f"{name}: not set; use {declared[name].allowed}")


def _name_in(problem: str) -> str:
    return re.split("[=:]", problem, maxsplit=1)[0].removesuffix("_FILE")


def _declared_place(problem: str) -> int:
    """Unknown variables come last."""
    names = [variable.name for variable in VARIABLES]
    name = _name_in(problem)
    return names.index(name) if name in names else len(names)


def _settings(values: dict[str, Any]) -> Settings:
    database = dict(environ.Env.db_url_config(values["DATABASE_URL"]))
    return Settings(
        secret_key=values["SECRET_KEY"],
        debug=values["DEBUG"],
        demo=values["IOTA_DEMO"],
        allowed_hosts=tuple(values["ALLOWED_HOSTS"]),
        csrf_trusted_origins=values["CSRF_TRUSTED_ORIGINS"],
        database=database,
        redis_url=values["REDIS_URL"],
        celery_broker=Broker.of(values["CELERY_BROKER_URL"] or values["REDIS_URL"]),
        otel_endpoint=values["IOTA_OTEL_ENDPOINT"],
        metrics_token=values["IOTA_METRICS_TOKEN"],
        metrics_networks=tuple(values["IOTA_METRICS_NETWORKS"]),
        loadtest_targets=tuple(values["IOTA_LOADTEST_TARGETS"]),
        loadtest_max_users=values["IOTA_LOADTEST_MAX_USERS"],
        loadtest_max_seconds=values["IOTA_LOADTEST_MAX_SECONDS"],
        admins=values["IOTA_ADMINS"],
        mail_server=MailServer.of(values["IOTA_MAIL_URL"]),
        mail_from=values["IOTA_MAIL_FROM"],
        time_zone=values["IOTA_TIME_ZONE"],
        language_code=values["IOTA_LANGUAGE_CODE"],
        log_level=values["IOTA_LOG_LEVEL"],
        log_format=values["IOTA_LOG_FORMAT"],
        hsts_seconds=values["IOTA_HSTS_SECONDS"],
        secure_ssl_redirect=values["IOTA_SECURE_SSL_REDIRECT"],
        tls_ends_at_proxy=values["IOTA_TLS_ENDS_AT_PROXY"],
        rate_limit_config=RateLimitConfig.of(
            {variable.option: values[variable.name] for variable in VARIABLES if variable.option},
            debug=values["DEBUG"],
        ),
    )


if __name__ == "__main__":
    print(as_markdown(), end="")
