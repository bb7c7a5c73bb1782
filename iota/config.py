"""Every variable of the environment, read once into a frozen object.

``VARIABLES`` declares them; the docs' table is made from it: ``python -m iota.config``.
"""

from __future__ import annotations

import difflib
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import environ
from django.conf.global_settings import LANGUAGES
from django.core.exceptions import ImproperlyConfigured
from redis.connection import parse_url

MASK = "********"
MAX_SHOWN_CHARS = 100
REDIS_SCHEMES = ("redis", "rediss", "unix")
DATABASE_SCHEMES = ("sqlite", "postgres", "postgresql", "psql")
BROKER_SCHEMES = ("redis", "rediss", "redis+socket", "amqp", "amqps", "pyamqp")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MIN_SECRET_CHARS = 32


class ConfigurationError(ImproperlyConfigured):
    """All that is wrong with the environment; ``problems`` has one text per variable."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{len(problems)} wrong in the environment:\n{lines}")


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """What the limiter is told; see VARIABLES for each part's meaning.

    What can hold a secret is left out of the repr, which ends up in logs and error pages.
    """

    redis_url: str = field(repr=False)
    key_prefix: str
    identity_key: bytes = field(repr=False)
    disabled: bool
    redis_timeout_ms: int
    redis_max_connections: int
    breaker_failures: int
    breaker_open_ms: int
    ruleset_poll_ms: int
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    ipv6_prefix: int
    exempt_paths: tuple[str, ...]
    exempt_preflight: bool
    local_processes: int


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
    celery_broker_url: str = field(repr=False)
    time_zone: str
    language_code: str
    log_level: str
    hsts_seconds: int
    secure_ssl_redirect: bool
    rate_limit_config: RateLimitConfig


class _Refused(ValueError):
    """A value that is not allowed; the text says what is."""


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
            raise _Refused
        return int(value)

    return check


def _matching(pattern: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not re.fullmatch(pattern, value):
            raise _Refused
        return str(value)

    return check


def _redis_url(value: Any) -> str:
    parts = urlsplit(value)
    if parts.scheme == "unix":
        if not parts.path:
            raise _Refused
    # redis-py takes a database that is no number for database 0.
    elif not parts.hostname or not re.fullmatch(r"/?[0-9]*", parts.path):
        raise _Refused
    if parts.scheme not in REDIS_SCHEMES:
        raise _Refused
    parse_url(value)  # type: ignore[no-untyped-call]  # ValueError: the port, an option
    return str(value)


def _broker_url(value: Any) -> str:
    if not value:
        return ""
    parts = urlsplit(value)
    if parts.scheme not in BROKER_SCHEMES:
        raise _Refused
    if parts.scheme != "redis+socket" and (not parts.hostname or parts.port == 0):
        raise _Refused
    return str(value)


def _database(value: Any) -> str:
    if value in ("sqlite://", "sqlite://:memory:"):
        return str(value)
    parts = urlsplit(value)
    if parts.scheme not in DATABASE_SCHEMES or not parts.path.strip("/") or parts.port == 0:
        raise _Refused
    # Two slashes make the first folder a host, which Django would drop without a word.
    if parts.scheme == "sqlite" and parts.netloc:
        raise _Refused
    return str(value)


def _networks(values: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(value) for value in values)


def _paths(values: Any) -> tuple[str, ...]:
    if not all(value.startswith("/") for value in values):
        raise _Refused
    return tuple(values)


def _hosts(values: Any) -> tuple[str, ...]:
    allowed = r"\*|\.?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]"
    if not all(re.fullmatch(allowed, value) for value in values):
        raise _Refused
    return tuple(values)


def _origins(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"https?://[^/\s]+", value) for value in values):
        raise _Refused
    return tuple(values)


def _secret(value: Any) -> str:
    if value and len(value) < MIN_SECRET_CHARS:
        raise _Refused
    return str(value)


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise _Refused
        return str(value)

    return check


def _time_zone(value: Any) -> str:
    if value not in zoneinfo.available_timezones():
        raise _Refused
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
        raise _Refused
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
        "The database.",
        "a URL of " + ", ".join(DATABASE_SCHEMES) + ", with the database's name",
        _database,
    ),
    Variable(
        "REDIS_URL",
        "str",
        "redis://127.0.0.1:6379/0",
        "Redis or Valkey: the counters and the cache.",
        "a URL of " + ", ".join(REDIS_SCHEMES),
        _redis_url,
    ),
    Variable(
        "CELERY_BROKER_URL",
        "str",
        "",
        "Celery's broker; in production a server apart. Empty: REDIS_URL.",
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
    _integer("IOTA_REDIS_TIMEOUT_MS", 50, 1, 5_000, "How long a check waits for Redis."),
    _integer("IOTA_REDIS_MAX_CONNECTIONS", 50, 1, 10_000, "Connections of one process."),
    _integer("IOTA_BREAKER_FAILURES", 5, 1, 1_000, "Failures in a row before Redis is left alone."),
    _integer("IOTA_BREAKER_OPEN_MS", 1_000, 10, 60_000, "How long it is left alone."),
    _integer("IOTA_RULESET_POLL_MS", 250, 50, 1_000, "How often a process looks for edits."),
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
        ["/healthz", "/readyz", "/static/"],
        "Beginnings of paths that are never limited.",
        "paths that begin with '/', separated by commas",
        _paths,
    ),
    _boolean("IOTA_EXEMPT_PREFLIGHT", True, "CORS preflights are never limited."),
    _integer(
        "IOTA_LOCAL_PROCESSES", 1, 1, 10_000, "Processes that share a quota while Redis is away."
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
    _integer(
        "IOTA_HSTS_SECONDS", 31_536_000, 0, 63_072_000, "Strict-Transport-Security; 0: not sent."
    ),
    _boolean("IOTA_SECURE_SSL_REDIRECT", True, "Plain HTTP is redirected to HTTPS."),
)


def create_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment (``os.environ`` where none is given).

    Raises ConfigurationError, which names everything that is wrong at once.
    """
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
    return _settings(values)


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
    except (ValueError, TypeError):
        shown = _shown(variable, source[variable.name])
        problems.append(f"{variable.name}={shown}: use {variable.allowed}")
        return variable.default


class _Env(environ.Env):  # type: ignore[misc]
    """django-environ's reader over a mapping instead of the process's environment."""

    def __init__(self, source: Mapping[str, str]) -> None:
        super().__init__()
        # django-environ takes "$NAME" for a reference to NAME: a generated secret that begins
        # with "$" came out empty. Escaped, every value is what was given.
        self.escape_proxy = True
        self.ENVIRON = {name: value.replace("$", r"\$") for name, value in source.items()}


def _shown(variable: Variable, value: str) -> str:
    if variable.secret:
        return MASK
    # A password inside a URL is a secret too, even where the URL cannot be parsed: all that
    # stands before the last "@" goes, and so do passwords among the options.
    masked = re.sub(r"(?s)^([a-z+]+:/*)?.*@", rf"\1{MASK}@", value)
    masked = re.sub(r"(?i)(pass\w*=)[^&\s]*", rf"\1{MASK}", masked)
    return repr(masked[:MAX_SHOWN_CHARS])


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
        celery_broker_url=values["CELERY_BROKER_URL"] or _as_broker(values["REDIS_URL"]),
        time_zone=values["IOTA_TIME_ZONE"],
        language_code=values["IOTA_LANGUAGE_CODE"],
        log_level=values["IOTA_LOG_LEVEL"],
        hsts_seconds=values["IOTA_HSTS_SECONDS"],
        secure_ssl_redirect=values["IOTA_SECURE_SSL_REDIRECT"],
        rate_limit_config=RateLimitConfig(
            redis_url=values["REDIS_URL"],
            key_prefix=values["IOTA_KEY_PREFIX"],
            identity_key=values["IOTA_IDENTITY_KEY"].encode(),
            disabled=values["IOTA_DISABLED"],
            redis_timeout_ms=values["IOTA_REDIS_TIMEOUT_MS"],
            redis_max_connections=values["IOTA_REDIS_MAX_CONNECTIONS"],
            breaker_failures=values["IOTA_BREAKER_FAILURES"],
            breaker_open_ms=values["IOTA_BREAKER_OPEN_MS"],
            ruleset_poll_ms=values["IOTA_RULESET_POLL_MS"],
            trusted_proxies=values["IOTA_TRUSTED_PROXIES"],
            ipv6_prefix=values["IOTA_IPV6_PREFIX"],
            exempt_paths=values["IOTA_EXEMPT_PATHS"],
            exempt_preflight=values["IOTA_EXEMPT_PREFLIGHT"],
            local_processes=values["IOTA_LOCAL_PROCESSES"],
        ),
    )


def _as_broker(redis_url: str) -> str:
    """kombu spells ``unix:///path?db=1`` as ``redis+socket:///path?virtual_host=1``."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    number = parse_qs(parts.query).get("db", ["0"])[0]
    userinfo = parts.netloc.rpartition("@")
    return f"redis+socket://{userinfo[0]}{userinfo[1]}{parts.path}?virtual_host={number}"


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


if __name__ == "__main__":
    print(as_markdown(), end="")
