"""System checks that ask the server of the counters, or the database: with ``check --deploy`` only.

Plain ``check``, ``runserver`` and ``migrate`` never wait for Redis.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.db import DatabaseError

from . import conf, used_in_code
from .check_urls import path_of_site
from .models import RateLimit
from .policy.client_ip import in_networks, parse_span
from .storage.server_facts import read_urls
from .storage.server_findings import Finding, Level, judge

IDS = {
    "unreachable": "010",
    "slow": "011",
    "eviction": "012",
    "no-maxmemory": "013",
    "memory-full": "014",
    "timeout": "015",
    "clients": "016",
    "version": "017",
    "replica": "018",
    "scripts": "019",
    "unknown": "020",
}
"""For SILENCED_SYSTEM_CHECKS: a number is a kind of finding and is not used again."""

LOOPBACK = ("127.0.0.1", "::1")

KINDS: dict[Level, type[Error | Warning | Info]] = {
    Level.ERROR: Error,
    Level.WARNING: Warning,
    Level.UNKNOWN: Info,
}


@register(deploy=True)
def check_servers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if conf.problems() or (config := conf.current()).disabled:
        return []
    servers = read_urls(config.redis_url, config.redis_operator_url)
    return [
        _message(finding)
        for facts in servers
        for finding in judge(facts, check_timeout_us=config.redis_timeout_ms * 1_000)
        if finding.level is not Level.INFO
    ]


@register(deploy=True)
def check_names(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Of the code that this process loads: views, but no worker's tasks."""
    uses = used_in_code.uses()
    try:
        made = set(RateLimit.objects.filter(name__in=uses).values_list("name", flat=True))
    except DatabaseError:
        return []  # This machine has none (it builds, say), or it is not migrated yet.
    return [
        Warning(
            f"{places[0]} asks for the limit {name!r}, which nobody has made.",
            hint="Make it in the admin, or correct the name in the code.",
            id="ratelimits.W021",
        )
        for name, places in uses.items()
        if name not in made
    ]


@register(deploy=True)
def check_who_may_ask(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Of the endpoint for other services. A proxy on the same machine comes from loopback, as a
    service does that may ask."""
    if conf.problems():
        return []
    config, at = conf.current(), path_of_site()
    behind_proxy = bool(settings.SECURE_PROXY_SSL_HEADER or settings.USE_X_FORWARDED_HOST)
    if at is None or not behind_proxy:
        return []
    networks = [parse_span(str(network)) for network in config.check_networks]
    proxies = [parse_span(str(network)) for network in config.trusted_proxies]
    asking = [one for one in LOOPBACK if in_networks(one, networks)]
    open_ = [one for one in asking if not in_networks(one, proxies)]
    if not open_:
        return []
    return [
        Warning(
            f"Whoever a proxy at {' or '.join(open_)} lets through may ask {at}, charge any "
            "client and learn where it stands.",
            hint="Name the proxy in IOTA_TRUSTED_PROXIES, or take loopback out of "
            "IOTA_CHECK_NETWORKS (docs/guides/other-services.md).",
            id="ratelimits.W022",
        )
    ]


def _message(finding: Finding) -> CheckMessage:
    kind = KINDS[finding.level]
    # This machine may not reach Redis (it builds, say) where those that serve do.
    if finding.code in ("unreachable", "slow"):
        kind = Warning
    return kind(
        f"{finding.where}: {finding.what} ({finding.evidence})",
        hint=finding.to_do,
        id=f"ratelimits.{kind.__name__[0]}{IDS[finding.code]}",
    )
