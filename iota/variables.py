"""The variables of the environment: name, default, what is allowed, what each does.

The limiter's own are those of ``apps/ratelimits/options.py``. The docs' table is made from all of
them: ``python -m iota.config``. Reading them: ``iota/config.py``.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf.global_settings import LANGUAGES

from apps.ratelimits.options import (
    OPTIONS,
    REDIS_URL,
    SECRET,
    Option,
    Refused,
    between,
    matching,
    networks,
    one_of,
    secret,
    truth,
)

from .broker import Broker
from .logs import FORMATS as LOG_FORMATS
from .mail import PORTS as MAIL_SCHEMES
from .mail import MailServer

DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql", "psql")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "redis+sentinel", "amqp", "amqps", "pyamqp")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_POOL = 1_000


@dataclass(frozen=True, slots=True)
class Variable:
    """``kind`` is the reader of django-environ's Env; ``check`` returns what is kept."""

    name: str
    kind: str
    default: Any
    help: str
    allowed: str
    check: Callable[[Any], Any] = lambda value: value
    secret: bool = False
    option: str = ""
    """Its name in the limiter's options, where it is one of them."""


def _broker_url(value: Any) -> str:
    if not value:
        return ""
    parts = urlsplit(value)
    if parts.scheme not in BROKER_SCHEMES:
        raise Refused
    if parts.scheme == "redis+sentinel":
        try:
            Broker.of(value)
        except ValueError as error:
            raise Refused(str(error)) from error
        return str(value)
    if parts.scheme != "redis+socket" and (not parts.hostname or parts.port == 0):
        raise Refused
    return str(value)


def database_url(value: Any) -> str:
    if value in ("sqlite://", "sqlite://:memory:"):
        return str(value)
    parts = urlsplit(value)
    if parts.scheme not in DATABASE_SCHEMES or not parts.path.strip("/") or parts.port == 0:
        raise Refused
    # Two slashes make the first folder a host, which Django would drop without a word.
    if parts.scheme == "sqlite" and parts.netloc:
        raise Refused
    pool = dict(parse_qsl(parts.query)).get("pool", "1")
    if not pool.isdecimal() or not 1 <= int(pool) <= MAX_POOL:
        raise Refused(f"pool={pool!r}: use a number of connections from 1 to {MAX_POOL:,}")
    return str(value)


def _hosts(values: Any) -> tuple[str, ...]:
    allowed = r"\*|\.?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]"
    if not all(re.fullmatch(allowed, value) for value in values):
        raise Refused
    return tuple(values)


def _origins(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"https?://[^/\s]+", value) for value in values):
        raise Refused
    return tuple(values)


def _targets(values: Any) -> tuple[str, ...]:
    origins = [value.rstrip("/") for value in values]
    # A name and a password would be in every list, and in a command line.
    if not all(re.fullmatch(r"https?://[^/\s@?#]{1,190}", origin) for origin in origins):
        raise Refused
    return tuple(origins)


def _addresses(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"[^@\s<>,]+@[^@\s<>,]+", value) for value in values):
        raise Refused
    return tuple(values)


def _mail_url(value: Any) -> str:
    try:
        MailServer.of(value)
    except ValueError as error:
        raise Refused from error
    return str(value)


def _time_zone(value: Any) -> str:
    if value not in zoneinfo.available_timezones():
        raise Refused
    return str(value)


def _integer(name: str, default: int, low: int, high: int, text: str) -> Variable:
    allowed = f"a whole number from {low:,} to {high:,}"
    return Variable(name, "int", default, text, allowed, between(low, high))


def _boolean(name: str, default: bool, text: str) -> Variable:
    return Variable(name, "str", str(default).lower(), text, "true or false", truth)


def _of_limiter(option: Option) -> Variable:
    default, allowed = option.default, option.allowed
    if option.kind is tuple:
        default, allowed = list(default), f"{allowed}, separated by commas"
    elif option.kind is bool:
        default = str(default).lower()
    return Variable(
        option.variable,
        {tuple: "list", int: "int"}.get(option.kind, "str"),
        default,
        option.help,
        allowed,
        truth if option.kind is bool else option.check,
        option.secret,
        option.name,
    )


VARIABLES = (
    Variable("SECRET_KEY", "str", "", "Django's key.", SECRET, secret, secret=True),
    _boolean("DEBUG", False, "Django's debug mode."),
    Variable(
        "ALLOWED_HOSTS",
        "list",
        [],
        "Host names that the site answers to.",
        "host names, separated by commas; '*' only with DEBUG",
        _hosts,
    ),
    Variable(
        "CSRF_TRUSTED_ORIGINS",
        "list",
        [],
        "Origins whose forms are accepted.",
        "origins such as https://example.com, separated by commas",
        _origins,
    ),
    Variable(
        "DATABASE_URL",
        "str",
        "sqlite:///var/iota.sqlite3",
        "The database: a file, or PostgreSQL (`docs/guides/postgresql.md`).",
        "a URL of " + ", ".join(DATABASE_SCHEMES) + ", with the database's name",
        database_url,
    ),
    replace(_of_limiter(REDIS_URL), default="redis://127.0.0.1:6379/0"),
    Variable(
        "CELERY_BROKER_URL",
        "str",
        "",
        "Celery's broker; in production a server apart, and never a cluster. Empty: REDIS_URL.",
        "a URL of " + ", ".join(BROKER_SCHEMES),
        _broker_url,
    ),
    _boolean("IOTA_DEMO", False, "Plain HTTP on this machine, for `make demo` and tests."),
    *(_of_limiter(option) for option in OPTIONS if option is not REDIS_URL),
    Variable(
        "IOTA_METRICS_TOKEN",
        "str",
        "",
        "Who bears it may read `/metrics`: `docs/guides/metrics.md`. Empty: nobody does.",
        SECRET,
        secret,
        secret=True,
    ),
    Variable(
        "IOTA_METRICS_NETWORKS",
        "list",
        [],
        "Who comes from one of them may read `/metrics`, too.",
        "networks such as 10.0.0.0/8, separated by commas",
        networks,
    ),
    Variable(
        "IOTA_LOADTEST_TARGETS",
        "list",
        [],
        "Sites that staff may start a load test against: `docs/guides/load-tests.md`. Empty: none.",
        "origins such as https://staging.example.com, separated by commas",
        _targets,
    ),
    _integer("IOTA_LOADTEST_MAX_USERS", 200, 1, 100_000, "Of a load test that staff start."),
    _integer("IOTA_LOADTEST_MAX_SECONDS", 600, 1, 86_400, "How long one may last, s."),
    Variable(
        "IOTA_OTEL_ENDPOINT",
        "str",
        "",
        "Where spans go, by OTLP over HTTP; needs `requirements-otel.txt`. Empty: where "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere.",
        "a URL such as http://collector:4318",
        matching(r"(https?://[^\s/@?#]+(/[^\s@?#]*)?)?"),
    ),
    Variable(
        "IOTA_ADMINS",
        "list",
        [],
        "Who gets mail of alerts and of confirmed regressions of benchmarks. Empty: nobody.",
        "addresses such as ada@example.com, separated by commas",
        _addresses,
    ),
    Variable(
        "IOTA_MAIL_URL",
        "str",
        "smtp://localhost",
        "The server that mail leaves by.",
        f"a URL of {', '.join(MAIL_SCHEMES)}, such as smtp+tls://user:password@mail.example.com",
        _mail_url,
    ),
    Variable(
        "IOTA_MAIL_FROM",
        "str",
        "iota@localhost",
        "The sender of mail.",
        "an address such as iota@example.com",
        lambda value: _addresses([value])[0],
    ),
    Variable(
        "IOTA_TIME_ZONE", "str", "UTC", "Of the admin.", "a zone such as Europe/Paris", _time_zone
    ),
    Variable(
        "IOTA_LANGUAGE_CODE",
        "str",
        "en",
        "Of the admin.",
        "a language of Django, such as en or pt-br",
        one_of(tuple(code for code, _ in LANGUAGES)),
    ),
    Variable(
        "IOTA_LOG_LEVEL",
        "str",
        "INFO",
        "What is logged to stderr.",
        "one of " + ", ".join(LOG_LEVELS),
        one_of(LOG_LEVELS),
    ),
    Variable(
        "IOTA_LOG_FORMAT",
        "str",
        "line",
        "How: lines for people, or JSON, an object a line.",
        "one of " + ", ".join(LOG_FORMATS),
        one_of(LOG_FORMATS),
    ),
    _integer(
        "IOTA_HSTS_SECONDS", 31_536_000, 0, 63_072_000, "Strict-Transport-Security; 0: not sent."
    ),
    _boolean("IOTA_SECURE_SSL_REDIRECT", True, "Plain HTTP is redirected to HTTPS."),
    _boolean(
        "IOTA_TLS_ENDS_AT_PROXY",
        False,
        "X-Forwarded-Proto is believed: only where a proxy sets it on every request.",
    ),
)


def as_markdown() -> str:
    """The table of docs/reference/configuration.md."""
    rows = [
        "| variable | key of `IOTA_RATELIMITS` | default | allowed | what it does |",
        "| --- | --- | --- | --- | --- |",
    ]
    for variable in VARIABLES:
        default = variable.default
        if isinstance(default, list):
            default = ",".join(default)
        shown = f"`{default}`" if str(default) else ""
        key = f"`{variable.option}`" if variable.option else ""
        cells = (f"`{variable.name}`", key, shown, variable.allowed, variable.help)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
