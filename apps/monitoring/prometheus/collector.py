"""The state as families of prometheus-client, made anew for each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from apps.ratelimits.storage.processes import ProcessStatus
from apps.ratelimits.storage.usage import CHECK_BOUNDS_US, LimitUsage, Usage

from ..metrics import METRICS
from .families import (
    COUNTER,
    FAMILIES,
    MOST_LIMITS,
    OTHER,
    SAMPLED,
    sampled_name,
    scaled,
)
from .reading import SourceState, State

MAX_ACCEPT_CHARS = 1_000

Values = Iterable[tuple[tuple[str, ...], float]]
"""Labels, in the family's order, and the value."""


def exposition(state: State, accept: str) -> tuple[bytes, str]:
    """The body, and its media type: OpenMetrics, or Prometheus' text where that is not asked for.

    A registry of its own: the global one also tells of the one process that happens to answer.
    """
    registry = CollectorRegistry()
    registry.register(StateCollector(state))
    encode, content_type = choose_encoder(accept[:MAX_ACCEPT_CHARS])
    return encode(registry), content_type


class StateCollector(Collector):
    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield _one("iota_up", state.usage is not None)
        yield _one("iota_database_up", state.sources is not None)
        yield _one("iota_enforcing", state.enforcing)
        if state.usage is not None:
            yield from _usage(state.usage)
            yield from _limits(state.usage.limits, state.names)
        if state.names or state.enforcing:
            yield _one("iota_limits", len(state.names))
        if state.ruleset_version is not None:
            yield _one("iota_ruleset_version", state.ruleset_version)
        if state.processes is not None:
            yield from _processes(state.processes, state.ruleset_version)
        if state.watch_age_s is not None:
            yield _one("iota_watch_age_seconds", state.watch_age_s)
        yield from _sources(state.sources or ())
        open_now = (
            ((alert.rule, alert.severity, alert.state, alert.source), 1.0) for alert in state.alerts
        )
        yield _family("iota_alerts", dict(open_now).items())


def _one(name: str, value: float) -> Metric:
    return _family(name, [((), float(value))])


def _family(name: str, values: Values) -> Metric:
    family = FAMILIES[name]
    made: CounterMetricFamily | GaugeMetricFamily
    if family.kind == COUNTER:
        made = CounterMetricFamily(name.removesuffix("_total"), family.help, labels=family.labels)
    else:
        made = GaugeMetricFamily(name, family.help, labels=family.labels)
    for labels, value in values:
        made.add_metric(labels, value)
    return made


def _usage(usage: Usage) -> Iterator[Metric]:
    if usage.since_s:
        yield _one("iota_counting_since_timestamp_seconds", usage.since_s)
    yield _one("iota_requests_total", usage.requests)
    yield _one("iota_request_errors_total", usage.errors)
    decided = [(("allowed",), float(usage.allowed)), (("denied",), float(usage.denied))]
    yield _family("iota_decisions_total", decided)
    yield _one("iota_decisions_degraded_total", usage.degraded)
    name = "iota_check_duration_seconds"
    bounds = [*(str(bound / 1_000_000) for bound in CHECK_BOUNDS_US), "+Inf"]
    buckets = list(zip(bounds, map(float, accumulate(usage.checks)), strict=True))
    made = HistogramMetricFamily(name, FAMILIES[name].help)
    made.add_metric([], buckets, usage.checks_sum_us / 1_000_000)
    yield made
    yield _one("iota_pool_waits_total", usage.pool_waits)


def _limits(counted: Mapping[int, LimitUsage], names: Mapping[int, str]) -> Iterator[Metric]:
    """Of the limits in force. What was counted of one that is switched off or deleted is left out:
    among OTHER's it would look like a sudden rush."""
    sums: dict[str, LimitUsage] = {}
    for place, number in enumerate(sorted(names)):
        own = counted.get(number, LimitUsage())
        if place < MOST_LIMITS:
            sums[names[number]] = own
            continue
        rest = sums.get(OTHER, LimitUsage())
        sums[OTHER] = LimitUsage(
            allowed=rest.allowed + own.allowed,
            denied=rest.denied + own.denied,
            would_deny=rest.would_deny + own.would_deny,
            degraded=rest.degraded + own.degraded,
        )
    verdicts = [
        ((name, verdict), float(getattr(own, verdict)))
        for name, own in sums.items()
        for verdict in ("allowed", "denied", "would_deny")
    ]
    yield _family("iota_limit_verdicts_total", verdicts)
    degraded = [((name,), float(own.degraded)) for name, own in sums.items()]
    yield _family("iota_limit_degraded_total", degraded)


def _processes(processes: Iterable[ProcessStatus], version: int | None) -> Iterator[Metric]:
    alive = list(processes)
    yield _one("iota_processes", len(alive))
    yield _one("iota_processes_failing", sum(one.failing for one in alive))
    if version is not None:
        yield _one("iota_processes_behind", sum(one.version < version for one in alive))
    yield _one("iota_requests_in_flight", sum(one.in_flight for one in alive))
    yield _one("iota_pool_in_use", sum(one.pool_in_use for one in alive))
    if alive:
        slowest_us = max(one.config_load_us for one in alive)
        yield _one("iota_config_load_seconds", slowest_us / 1_000_000)


def _sources(sources: Iterable[SourceState]) -> Iterator[Metric]:
    found = list(sources)
    up = [((one.kind.value, one.address), float(one.up)) for one in found]
    yield _family("iota_source_up", up)
    ages = [((o.kind.value, o.address), o.age_s) for o in found if o.age_s is not None]
    yield _family("iota_source_age_seconds", ages)
    nodes = [one for one in found if one.kind == "node"]
    info = [((one.address, one.role, one.server), 1.0) for one in nodes]
    yield _family("iota_node_info", info)
    for kind in SAMPLED:
        for metric in METRICS.values():
            if kind in metric.kinds:
                known = [
                    ((one.address,), scaled(metric, one.values[metric.name]))
                    for one in found
                    if one.kind is kind and metric.name in one.values
                ]
                yield _family(sampled_name(kind, metric), known)
