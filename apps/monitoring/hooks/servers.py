"""The servers of the counters: version, memory, eviction, connections, scripts."""

from __future__ import annotations

from collections.abc import Iterator

from apps.ratelimits.storage.server_facts import read_urls
from apps.ratelimits.storage.server_findings import Finding, judge

from ..look import Look
from ..registry import Topic, finding


@finding("servers", Topic.REDIS, "Servers and what they are set to", limit_s=5)
def servers(look: Look) -> Iterator[Finding]:
    config = look.config
    for facts in read_urls(config.redis_url, config.redis_operator_url):
        yield from judge(facts, check_timeout_us=config.redis_timeout_ms * 1_000)
