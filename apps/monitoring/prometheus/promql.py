"""Each metric of the watch as a query over what ``/metrics`` exposes: pure.

What is sampled is asked for as it is. What the limiter counts is made of its counters, over
WINDOW: two scrapes must lie in it. No query sums over what was scraped: each address of the site
tells of all its processes, and two of them are the same truth twice.
"""

from __future__ import annotations

from ..metrics import METRICS, Kind
from .families import SAMPLED, sampled_name

WINDOW = "1m"

_OF_LIMITER = {
    "requests_per_s": f"rate(iota_requests_total[{WINDOW}])",
    "requests": f"increase(iota_requests_total[{WINDOW}])",
    "error_percent": (
        f"rate(iota_request_errors_total[{WINDOW}]) / rate(iota_requests_total[{WINDOW}])"
    ),
    "checks": f"increase(iota_check_duration_seconds_count[{WINDOW}])",
    "check_p50_us": (
        f"histogram_quantile(0.5, rate(iota_check_duration_seconds_bucket[{WINDOW}]))"
    ),
    "check_p99_us": (
        f"histogram_quantile(0.99, rate(iota_check_duration_seconds_bucket[{WINDOW}]))"
    ),
    "allowed_per_s": f'rate(iota_decisions_total{{decision="allowed"}}[{WINDOW}])',
    "denied_per_s": f'rate(iota_decisions_total{{decision="denied"}}[{WINDOW}])',
    "degraded_per_s": f"rate(iota_decisions_degraded_total[{WINDOW}])",
    "processes": "iota_processes",
    "processes_failing": "iota_processes_failing",
    "config_load_us": "iota_config_load_seconds",
    "pool_in_use": "iota_pool_in_use",
    "pool_waits_per_s": f"rate(iota_pool_waits_total[{WINDOW}])",
    "queue_length": "iota_requests_in_flight",
}


def query(name: str) -> str:
    """In base units. Raises KeyError where there is no such metric, or no query for it."""
    metric = METRICS[name]
    parts = [_OF_LIMITER[name]] if name in _OF_LIMITER else []
    parts += [sampled_name(kind, metric) for kind in SAMPLED if kind in metric.kinds]
    if not parts:
        raise KeyError(name)
    return " or ".join(parts)


def queryable(kind: Kind) -> list[str]:
    """The metrics of a kind of source that a query can be made of."""
    names = [name for name, metric in METRICS.items() if kind in metric.kinds]
    return [name for name in names if kind in SAMPLED or name in _OF_LIMITER]
