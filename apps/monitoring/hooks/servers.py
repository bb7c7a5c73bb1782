"""The servers of the counters: version, memory, eviction, connections, scripts."""

from __future__ import annotations

from collections.abc import Iterator

from apps.ratelimits.engine import get_engine
from apps.ratelimits.storage.server_facts import read_urls
from apps.ratelimits.storage.server_findings import Finding, judge

from ..registry import finding


@finding("servers")
def servers() -> Iterator[Finding]:
    config = get_engine().config
    for facts in read_urls(config.redis_url, config.redis_operator_url):
        yield from judge(facts, check_timeout_us=config.redis_timeout_ms * 1_000)
