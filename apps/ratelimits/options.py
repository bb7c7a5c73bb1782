"""The settings of the limiter: name, default, what is allowed, what each does; one place.

A site of its own writes them as keys of the dictionary ``IOTA_RATELIMITS`` (``conf.py``); the
project that the limiter comes with reads them from its environment (``iota/variables.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from .policy.rules import MAX_IDENTITIES
from .storage.topology import SCHEMES as REDIS_SCHEMES
from .storage.topology import Topology

MASK = "********"
MAX_SHOWN_CHARS = 100
MIN_SECRET_CHARS = 32
TRUE = ("true", "on", "yes", "y", "ok", "1")
FALSE = ("false", "off", "no", "0", "")


class Refused(ValueError):
    """A value that is not allowed. Its text, if any, says why and what to write instead."""


@dataclass(frozen=True, slots=True)
class Option:
    """``check`` takes a value of ``kind`` (a tuple's items are texts), and returns what is kept.

    ``allowed`` is of one item where ``kind`` is tuple.
    """

    name: str
    kind: type
    default: Any
    help: str
    allowed: str
    check: Callable[[Any], Any] = lambda value: value
    secret: bool = False
    required: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment of the project."""
        return self.name if self.name == "REDIS_URL" else f"IOTA_{self.name}"

    @property
    def field(self) -> str:
        """Its name in RateLimitConfig."""
        return self.name.lower()


def between(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not low <= value <= high:
            raise Refused
        return int(value)

    return check


def matching(pattern: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not re.fullmatch(pattern, value):
            raise Refused
        return str(value)

    return check


def one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise Refused
        return str(value)

    return check


def networks(values: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(value) for value in values)


def secret(value: Any) -> str:
    if value and len(value) < MIN_SECRET_CHARS:
        raise Refused
    return str(value)


def truth(text: str) -> bool:
    """Every unknown word is refused: "flase" must not switch anything."""
    word = text.strip().lower()
    if word not in (*TRUE, *FALSE):
        raise Refused
    return word in TRUE


def redis_url(value: Any) -> str:
    if value.partition("://")[0] not in REDIS_SCHEMES:
        raise Refused
    try:
        Topology.parse(value, timeout_ms=1_000, max_connections=1)
    except ValueError as error:
        raise Refused(str(error)) from error
    return str(value)


def shown(value: Any, *, is_secret: bool) -> str:
    """A refused value for a message, without what is secret in it."""
    if is_secret:
        return MASK
    if isinstance(value, str):
        return repr(masked(value)[:MAX_SHOWN_CHARS])
    if isinstance(value, Mapping):
        return f"a {type(value).__name__}"  # It may hold a password by any name.
    return masked(repr(value))[:MAX_SHOWN_CHARS]


def masked(text: str) -> str:
    """A password inside a URL is a secret too, even where the URL cannot be parsed: all that
    stands before the last "@" goes, what stands for a port and is none, and so do passwords among
    the options."""
    text = re.sub(r"(?s)^([a-z+]+:/*)?.*@", rf"\1{MASK}@", text)
    # Where the host was forgotten: what stands in the place of a port and is none.
    text = re.sub(r"(://[^/@:\s]*:)(?!\d+(?:[/?,]|$))[^/@\s]+", rf"\1{MASK}", text)
    return re.sub(r"(?i)(pass\w*=)[^&\s]*", rf"\1{MASK}", text)


def _url_or_none(value: Any) -> str:
    return redis_url(value) if value else ""


def _paths(values: Any) -> tuple[str, ...]:
    # "/" alone would exempt the whole site: DISABLED says that plainly.
    if not all(value.startswith("/") and value.strip("/") for value in values):
        raise Refused
    return tuple(values)


def _dotted_paths(values: Any) -> tuple[str, ...]:
    if not all(re.fullmatch(r"(?!\d)\w+(\.(?!\d)\w+)+", value) for value in values):
        raise Refused
    return tuple(values)


def _integer(name: str, default: int, low: int, high: int, text: str) -> Option:
    allowed = f"a whole number from {low:,} to {high:,}"
    return Option(name, int, default, text, allowed, between(low, high))


def _boolean(name: str, default: bool, text: str) -> Option:
    return Option(name, bool, default, text, "true or false")


SECRET = f"at least {MIN_SECRET_CHARS} characters"
REDIS = "a URL of " + ", ".join(REDIS_SCHEMES)

REDIS_URL = Option(
    "REDIS_URL",
    str,
    "",
    "Redis or Valkey: the counters and the cache; `docs/guides/topologies.md`.",
    REDIS,
    redis_url,
    required=True,
)

OPTIONS = (
    REDIS_URL,
    _boolean("DISABLED", False, "Enforce nothing: the way back in after a wrong limit."),
    Option(
        "KEY_PREFIX",
        str,
        "iota:",
        "Begins every key of the limiter, so that sites can share a server.",
        "1 to 32 of letters, digits, ':', '_' and '-'",
        matching(r"[A-Za-z0-9:_-]{1,32}"),
    ),
    Option(
        "IDENTITY_KEY",
        str,
        "",
        "Key of the digests that stand for clients in Redis.",
        SECRET,
        secret,
        secret=True,
        required=True,
    ),
    Option(
        "REDIS_OPERATOR_URL",
        str,
        "",
        "The same server, as a user who may read INFO and CONFIG: for `doctor` and "
        "`check --deploy`. Empty: REDIS_URL.",
        REDIS,
        _url_or_none,
    ),
    Option(
        "REDIS_SWEEPER_URL",
        str,
        "",
        "The same server, as a user who may SCAN: for the clean-up. Empty: REDIS_URL.",
        REDIS,
        _url_or_none,
    ),
    _integer("REDIS_TIMEOUT_MS", 50, 1, 5_000, "How long a check waits for Redis, all in all."),
    _integer("REDIS_MAX_CONNECTIONS", 50, 1, 10_000, "Of one process, for sync checks."),
    _integer("BREAKER_FAILURES", 5, 1, 1_000, "Failures in a row before Redis is left alone."),
    _integer(
        "BREAKER_OPEN_MS",
        1_000,
        10,
        60_000,
        "So long at most, and half as long at least, between two probes in the background.",
    ),
    _integer("RULESET_POLL_MS", 250, 50, 900, "How often a process looks for edits."),
    Option(
        "NO_RULESET",
        str,
        "allow",
        "What requests get of a process that could read the limits neither from Redis nor from "
        "the database: pass, or 503.",
        "allow or deny",
        one_of(("allow", "deny")),
    ),
    Option(
        "TRUSTED_PROXIES",
        tuple,
        (),
        "Proxies whose X-Forwarded-For is believed.",
        "networks such as 10.0.0.0/8",
        networks,
    ),
    _integer("IPV6_PREFIX", 64, 32, 128, "Length of the IPv6 network that counts as one."),
    Option(
        "EXEMPT_PATHS",
        tuple,
        ("/healthz", "/readyz", "/metrics", "/static/"),
        "Beginnings of paths that are never limited.",
        "paths that begin with '/' and go on",
        _paths,
    ),
    Option(
        "HEALTH_PATHS",
        tuple,
        ("/healthz", "/readyz"),
        "What load balancers ask: the admin warns of a limit that covers one of them.",
        "paths that begin with '/' and go on",
        _paths,
    ),
    _boolean("EXEMPT_PREFLIGHT", True, "CORS preflights are never limited."),
    Option(
        "KEY_VALIDATOR",
        str,
        "",
        "Function (header, value) that says whose API key it is, or None. Empty: no key is known.",
        "the dotted path of a function, such as accounts.keys.whose_key",
        matching(r"(?!\d)\w+(\.(?!\d)\w+)+|"),
    ),
    Option(
        "COUNTED_SIGNALS",
        tuple,
        (),
        "Signals of the site's own that a limit can count by, beside those of a login.",
        "dotted paths such as shop.signals.voucher_refused",
        _dotted_paths,
    ),
    _integer(
        "LOCAL_PROCESSES",
        1,
        1,
        10_000,
        "Processes that serve the site, at least: while Redis is away each counts its part of a "
        "quota, and it never takes more than its part ahead. Those that live are counted while "
        "Redis answers, and the larger number holds.",
    ),
    _integer(
        "IDENTITY_BUDGET",
        1_000_000,
        0,
        MAX_IDENTITIES,
        "How many clients a limit that does not say counts apart in its window; further new ones "
        "share one count. 0: no bound.",
    ),
    _boolean(
        "REASON_REQUIRED",
        False,
        "The admin asks why before it saves what is enforced, or comes into force by it: "
        "`docs/guides/history.md`.",
    ),
    Option(
        "UNKNOWN_LIMIT",
        str,
        "",
        "What code gets that asks for a limit by a name which nobody has made: pass, 503, or an "
        "exception. Empty: raise with DEBUG, else allow; `docs/guides/in-code.md`.",
        "allow, deny or raise",
        one_of(("", "allow", "deny", "raise")),
    ),
    Option(
        "CHECK_TOKEN",
        str,
        "",
        "Who bears it may ask `/api/check`: `docs/guides/other-services.md`.",
        SECRET,
        secret,
        secret=True,
    ),
    Option(
        "CHECK_NETWORKS",
        tuple,
        ("127.0.0.0/8", "::1/128"),
        "Proxies that may ask `/api/check` without it. One of IOTA_TRUSTED_PROXIES needs the "
        "token: it passes on what anybody sends.",
        "networks such as 10.0.0.0/8",
        networks,
    ),
    _boolean(
        "DENIED_NAMES",
        False,
        "Addresses, users and owners of API keys are kept beside the digests of those who were "
        "denied, for 26 hours. False: digests only.",
    ),
    _integer(
        "TRAFFIC_RECORDS",
        200_000,
        0,
        1_000_000,
        "Recent requests that are kept, without names, for previews of limits; 40 bytes each in "
        "Redis at most. 0: none, no preview (docs/guides/preview.md).",
    ),
    _integer("TRAFFIC_MINUTES", 60, 1, 1_440, "How long they are kept."),
    _integer(
        "TRAFFIC_SAMPLE",
        1,
        1,
        10_000,
        "Requests of one in so many client addresses are kept; 1: of all.",
    ),
)
