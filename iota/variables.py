"""The variables of the environment: name, default, what is allowed, what each does.

The docs' table is made from them: ``python -m iota.config``. Reading them: ``iota/config.py``.
"""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import environ
from django.conf.global_settings import LANGUAGES

from apps.ratelimits.policy.rules import MAX_IDENTITIES
from apps.ratelimits.storage.topology import SCHEMES as REDIS_SCHEMES
from apps.ratelimits.storage.topology import Topology

from .broker import Broker
from .logs import FORMATS as LOG_FORMATS
from .mail import PORTS as MAIL_SCHEMES
from .mail import MailServer

DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql", "psql")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "redis+sentinel", "amqp", "amqps", "pyamqp")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_SECRET_CHARS = 32
MAX_POOL = 1_000


class Refused(ValueError):
    """A value that is not allowed. Its text, if any, says why and what to write instead."""


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


def _between(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not low <= value <= high:
            raise Refused
        return int(value)

    return check


def _matching(pattern: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not re.fullmatch(pattern, value):
            raise Refused
        return str(value)

    return check


def _redis_url(value: Any) -> str:
    if value.partition("://")[0] not in REDIS_SCHEMES:
        raise Refused
    try:
        Topology.parse(value, timeout_ms=1_000, max_connections=1)
    except ValueError as error:
        raise Refused(str(error)) from error
    return str(value)


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


def _networks(values: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(value) for value in values)


def _paths(values: Any) -> tuple[str, ...]:
    # "/" alone would exempt the whole site: IOTA_DISABLED says that plainly.
    if not all(value.startswith("/") and value.strip("/") for value in values):
        raise Refused
    return tuple(values)


def _dotted_paths(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"(?!\d)\w+(\.(?!\d)\w+)+", value) for value in values):
        raise Refused
    return tuple(values)


def _hosts(values: Any) -> tuple[str, ...]:
    allowed = r"\*|\.?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]"
    if not all(re.fullmatch(allowed, value) for value in values):
        raise Refused
    return tuple(values)


def _origins(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"https?://[^/\s]+", value) for value in values):
        raise Refused
    return tuple(values)


def _secret(value: Any) -> str:
    if value and len(value) < MIN_SECRET_CHARS:
        raise Refused
    return str(value)


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise Refused
        return str(value)

    return check


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
    return Variable(name, "int", default, text, allowed, _between(low, high))


def _boolean(name: str, default: bool, text: str) -> Variable:
    return Variable(name, "str", str(default).lower(), text, "true or false", _truth)


def _truth(value: Any) -> bool:
    # Env.bool takes every unknown word for False: "flase" must not switch anything.
    text = value.strip().lower()
    if text not in (*environ.Env.BOOLEAN_TRUE_STRINGS, "false", "no", "off", "0", ""):
        raise Refused
    return text in environ.Env.BOOLEAN_TRUE_STRINGS


SECRET = f"at least {MIN_SECRET_CHARS} characters"

VARIABLES = (
    Variable("SECRET_KEY", "str", "", "Django's key.", SECRET, _secret, secret=True),
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
    Variable(
        "REDIS_URL",
        "str",
        "redis://127.0.0.1:6379/0",
        "Redis or Valkey: the counters and the cache; `docs/guides/topologies.md`.",
        "a URL of " + ", ".join(REDIS_SCHEMES),
        _redis_url,
    ),
    Variable(
        "CELERY_BROKER_URL",
        "str",
        "",
        "Celery's broker; in production a server apart, and never a cluster. Empty: REDIS_URL.",
        "a URL of " + ", ".join(BROKER_SCHEMES),
        _broker_url,
    ),
    _boolean("IOTA_DEMO", False, "Plain HTTP on this machine, for `make demo` and tests."),
    _boolean("IOTA_DISABLED", False, "Enforce nothing: the way back in after a wrong limit."),
    Variable(
        "IOTA_KEY_PREFIX",
        "str",
        "iota:",
        "Begins every key of the limiter, so that sites can share a server.",
        "1 to 32 of letters, digits, ':', '_' and '-'",
        _matching(r"[A-Za-z0-9:_-]{1,32}"),
    ),
    Variable(
        "IOTA_IDENTITY_KEY",
        "str",
        "",
        "Key of the digests that stand for clients in Redis.",
        SECRET,
        _secret,
        secret=True,
    ),
    Variable(
        "IOTA_REDIS_OPERATOR_URL",
        "str",
        "",
        "The same server, as a user who may read INFO and CONFIG: for `doctor` and "
        "`check --deploy`. Empty: REDIS_URL.",
        "a URL of " + ", ".join(REDIS_SCHEMES),
        lambda value: _redis_url(value) if value else "",
    ),
    Variable(
        "IOTA_REDIS_SWEEPER_URL",
        "str",
        "",
        "The same server, as a user who may SCAN: for the clean-up. Empty: REDIS_URL.",
        "a URL of " + ", ".join(REDIS_SCHEMES),
        lambda value: _redis_url(value) if value else "",
    ),
    _integer(
        "IOTA_REDIS_TIMEOUT_MS", 50, 1, 5_000, "How long a check waits for Redis, all in all."
    ),
    _integer("IOTA_REDIS_MAX_CONNECTIONS", 50, 1, 10_000, "Of one process, for sync checks."),
    _integer("IOTA_BREAKER_FAILURES", 5, 1, 1_000, "Failures in a row before Redis is left alone."),
    _integer(
        "IOTA_BREAKER_OPEN_MS",
        1_000,
        10,
        60_000,
        "So long at most, and half as long at least, between two probes in the background.",
    ),
    _integer("IOTA_RULESET_POLL_MS", 250, 50, 900, "How often a process looks for edits."),
    Variable(
        "IOTA_NO_RULESET",
        "str",
        "allow",
        "What requests get of a process that could read the limits neither from Redis nor from "
        "the database: pass, or 503.",
        "allow or deny",
        _one_of(("allow", "deny")),
    ),
    Variable(
        "IOTA_TRUSTED_PROXIES",
        "list",
        [],
        "Proxies whose X-Forwarded-For is believed.",
        "networks such as 10.0.0.0/8, separated by commas",
        _networks,
    ),
    _integer("IOTA_IPV6_PREFIX", 64, 32, 128, "Length of the IPv6 network that counts as one."),
    Variable(
        "IOTA_EXEMPT_PATHS",
        "list",
        ["/healthz", "/readyz", "/metrics", "/static/"],
        "Beginnings of paths that are never limited.",
        "paths that begin with '/' and go on, separated by commas",
        _paths,
    ),
    Variable(
        "IOTA_HEALTH_PATHS",
        "list",
        ["/healthz", "/readyz"],
        "What load balancers ask: the admin warns of a limit that covers one of them.",
        "paths that begin with '/' and go on, separated by commas",
        _paths,
    ),
    _boolean("IOTA_EXEMPT_PREFLIGHT", True, "CORS preflights are never limited."),
    Variable(
        "IOTA_KEY_VALIDATOR",
        "str",
        "",
        "Function (header, value) that says whose API key it is, or None. Empty: no key is known.",
        "the dotted path of a function, such as accounts.keys.whose_key",
        _matching(r"(?!\d)\w+(\.(?!\d)\w+)+|"),
    ),
    Variable(
        "IOTA_COUNTED_SIGNALS",
        "list",
        [],
        "Signals of the site's own that a limit can count by, beside those of a login.",
        "dotted paths such as shop.signals.voucher_refused, separated by commas",
        _dotted_paths,
    ),
    _integer(
        "IOTA_LOCAL_PROCESSES",
        1,
        1,
        10_000,
        "Processes that serve the site, at least: while Redis is away each counts its part of a "
        "quota, and it never takes more than its part ahead. Those that live are counted while "
        "Redis answers, and the larger number holds.",
    ),
    _integer(
        "IOTA_IDENTITY_BUDGET",
        1_000_000,
        0,
        MAX_IDENTITIES,
        "How many clients a limit that does not say counts apart in its window; further new ones "
        "share one count. 0: no bound.",
    ),
    _boolean(
        "IOTA_REASON_REQUIRED",
        False,
        "The admin asks why before it saves what is enforced, or comes into force by it: "
        "`docs/guides/history.md`.",
    ),
    Variable(
        "IOTA_UNKNOWN_LIMIT",
        "str",
        "",
        "What code gets that asks for a limit by a name which nobody has made: pass, 503, or an "
        "exception. Empty: raise with DEBUG, else allow; `docs/guides/in-code.md`.",
        "allow, deny or raise",
        _one_of(("", "allow", "deny", "raise")),
    ),
    Variable(
        "IOTA_CHECK_TOKEN",
        "str",
        "",
        "Who bears it may ask `/api/check`: `docs/guides/other-services.md`.",
        SECRET,
        _secret,
        secret=True,
    ),
    Variable(
        "IOTA_CHECK_NETWORKS",
        "list",
        ["127.0.0.0/8", "::1/128"],
        "Proxies that may ask `/api/check` without it. One of IOTA_TRUSTED_PROXIES needs the "
        "token: it passes on what anybody sends.",
        "networks such as 10.0.0.0/8, separated by commas",
        _networks,
    ),
    _boolean(
        "IOTA_DENIED_NAMES",
        False,
        "Addresses, users and owners of API keys are kept beside the digests of those who were "
        "denied, for 26 hours. False: digests only.",
    ),
    _integer(
        "IOTA_TRAFFIC_RECORDS",
        200_000,
        0,
        1_000_000,
        "Recent requests that are kept, without names, for previews of limits; 40 bytes each in "
        "Redis at most. 0: none, no preview (docs/guides/preview.md).",
    ),
    _integer("IOTA_TRAFFIC_MINUTES", 60, 1, 1_440, "How long they are kept."),
    _integer(
        "IOTA_TRAFFIC_SAMPLE",
        1,
        1,
        10_000,
        "Requests of one in so many client addresses are kept; 1: of all.",
    ),
    Variable(
        "IOTA_METRICS_TOKEN",
        "str",
        "",
        "Who bears it may read `/metrics`: `docs/guides/metrics.md`. Empty: nobody does.",
        SECRET,
        _secret,
        secret=True,
    ),
    Variable(
        "IOTA_METRICS_NETWORKS",
        "list",
        [],
        "Who comes from one of them may read `/metrics`, too.",
        "networks such as 10.0.0.0/8, separated by commas",
        _networks,
    ),
    Variable(
        "IOTA_OTEL_ENDPOINT",
        "str",
        "",
        "Where spans go, by OTLP over HTTP; needs `requirements-otel.txt`. Empty: where "
        "OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere.",
        "a URL such as http://collector:4318",
        _matching(r"(https?://[^\s/@?#]+(/[^\s@?#]*)?)?"),
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
        _one_of(tuple(code for code, _ in LANGUAGES)),
    ),
    Variable(
        "IOTA_LOG_LEVEL",
        "str",
        "INFO",
        "What is logged to stderr.",
        "one of " + ", ".join(LOG_LEVELS),
        _one_of(LOG_LEVELS),
    ),
    Variable(
        "IOTA_LOG_FORMAT",
        "str",
        "line",
        "How: lines for people, or JSON, an object a line.",
        "one of " + ", ".join(LOG_FORMATS),
        _one_of(LOG_FORMATS),
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
    rows = ["| variable | default | allowed | what it does |", "| --- | --- | --- | --- |"]
    for variable in VARIABLES:
        default = variable.default
        if isinstance(default, list):
            default = ",".join(default)
        shown = f"`{default}`" if str(default) else ""
        rows.append(f"| `{variable.name}` | {shown} | {variable.allowed} | {variable.help} |")
    return "\n".join(rows) + "\n"
