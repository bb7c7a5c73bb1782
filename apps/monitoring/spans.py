"""Spans of checks, of the limits' way into force, and of Celery's tasks, by OTLP over HTTP.

=============================  =================================================================
``ratelimits.check``           ``iota.limits`` (how many), ``iota.allowed``, ``iota.degraded``,
                               ``iota.violated`` (names of limits)
``ratelimits.ruleset.load``    from the database; ``iota.version``, ``iota.limits``
``ratelimits.ruleset.fetch``   from Redis
``ratelimits.ruleset.compile`` into what is asked at each request
``ratelimits.ruleset.publish`` to Redis
the name of a task             ``celery.task_id``, ``celery.state``
=============================  =================================================================

No span says who was counted, and no text of an error is sent: it may hold a URL with a password.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery.signals import task_postrun, task_prerun
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from apps.ratelimits import engine
from apps.ratelimits.engine import Engine
from apps.ratelimits.planning import Plan
from apps.ratelimits.policy.decision import Decision
from apps.ratelimits.storage.forks import BeginsAnew
from apps.ratelimits.storage.ruleset_store import RulesetStore

SEND_EVERY_MS = 1_000
"""Unless OTEL_BSP_SCHEDULE_DELAY says otherwise: so much is lost where a process is killed."""
SEND_TIMEOUT_S = 3.0
"""Unless OTEL_EXPORTER_OTLP_TIMEOUT does: nobody waits for it, but a process that ends."""


class Tracing(BeginsAnew):
    """Made where the first span is: what sends them is a thread and a connection, and neither
    outlives a fork."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        super().__init__()

    def _begin(self) -> None:
        self._making = threading.Lock()
        self._tracer: Tracer | None = None

    @property
    def tracer(self) -> Tracer:
        if self._tracer is None:
            with self._making:
                if self._tracer is None:
                    self._tracer = self._provider().get_tracer("iota")
        return self._tracer

    def _provider(self) -> TracerProvider:
        # Who traces all of the process already (`opentelemetry-instrument`) gets ours as well.
        found = trace.get_tracer_provider()
        if isinstance(found, TracerProvider):
            return found
        named = "OTEL_SERVICE_NAME" in os.environ
        provider = TracerProvider(
            resource=Resource.create({} if named else {"service.name": "iota"})
        )
        exporter = OTLPSpanExporter(
            endpoint=f"{self._endpoint.rstrip('/')}/v1/traces" if self._endpoint else None,
            timeout=None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else SEND_TIMEOUT_S,
        )
        delay_ms = None if "OTEL_BSP_SCHEDULE_DELAY" in os.environ else SEND_EVERY_MS
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=delay_ms))
        return provider

    @contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Span]:
        with self.tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise


def wrap(endpoint: str) -> None:
    """``endpoint`` empty: as OpenTelemetry's own variables say."""
    tracing = Tracing(endpoint)
    _wrap_checks(tracing)
    _wrap(tracing, engine.ruleset, "load", "ratelimits.ruleset.load", _of_ruleset)  # type: ignore[attr-defined]
    _wrap(tracing, RulesetStore, "fetch", "ratelimits.ruleset.fetch", _of_ruleset)
    _wrap(tracing, engine, "compile_ruleset", "ratelimits.ruleset.compile", _of_ruleset)
    _wrap(tracing, Engine, "publish", "ratelimits.ruleset.publish", _of_version)
    _follow_tasks(tracing)


def _wrap(
    tracing: Tracing,
    owner: Any,
    name: str,
    named: str,
    say: Callable[[Span, Any], None],
) -> None:
    wrapped = getattr(owner, name)

    @functools.wraps(wrapped)
    def call(*args: Any, **kwargs: Any) -> Any:
        with tracing.span(named) as span:
            result = wrapped(*args, **kwargs)
            say(span, result)
            return result

    setattr(owner, name, call)


def _of_ruleset(span: Span, found: Any) -> None:
    """A ruleset, the index of one, or None where Redis has none."""
    if found is not None:
        span.set_attributes({"iota.version": found.version, "iota.limits": len(found.rules)})


def _of_version(span: Span, version: int) -> None:
    span.set_attribute("iota.version", version)


def _wrap_checks(tracing: Tracing) -> None:
    check, acheck = Engine.check, Engine.acheck

    @functools.wraps(check)
    def traced(self: Engine, plan: Plan, *, charge: bool = True) -> Decision:
        if not (plan.limits or plan.blocked):
            return check(self, plan, charge=charge)
        with tracing.span("ratelimits.check", **{"iota.charged": charge}) as span:
            decision = check(self, plan, charge=charge)
            _say(span, plan, decision)
            return decision

    @functools.wraps(acheck)
    async def atraced(self: Engine, plan: Plan) -> Decision:
        if not (plan.limits or plan.blocked):
            return await acheck(self, plan)
        with tracing.span("ratelimits.check", **{"iota.charged": True}) as span:
            decision = await acheck(self, plan)
            _say(span, plan, decision)
            return decision

    Engine.check = traced  # type: ignore[method-assign]
    Engine.acheck = atraced  # type: ignore[method-assign]


def _say(span: Span, plan: Plan, decision: Decision) -> None:
    if not span.is_recording():
        return
    span.set_attributes(
        {
            "iota.limits": len(plan.rules) or len(decision.verdicts),
            "iota.allowed": decision.allowed,
            "iota.degraded": any(verdict.degraded for verdict in decision.verdicts),
            "iota.violated": [rule.name for rule in decision.violated],
        }
    )


def _follow_tasks(tracing: Tracing) -> None:
    def begin(task_id: str, task: Any, **kwargs: Any) -> None:
        span = tracing.tracer.start_span(
            task.name, kind=SpanKind.CONSUMER, attributes={"celery.task_id": task_id}
        )
        task.request.traced = span, context.attach(trace.set_span_in_context(span))

    def end(task: Any, state: str | None = None, **kwargs: Any) -> None:
        traced = getattr(task.request, "traced", None)
        if traced is None:
            return
        span, token = traced
        context.detach(token)
        span.set_attribute("celery.state", state or "")
        if state == "FAILURE":
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    task_prerun.connect(begin, weak=False)
    task_postrun.connect(end, weak=False)
