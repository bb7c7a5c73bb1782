"""A run, from its row that waits to its measurements: all of them at its end, or none.

    QUEUED -> RUNNING -> DONE      measured; ``errors`` has what single benchmarks ended with
                      -> FAILED    nothing could be measured
                      -> STOPPED   asked for by staff (``stop_asked``); seen between two benchmarks
                      -> LOST      its worker gave no sign of life (``mark_lost``)

One run is RUNNING at a time, which the database sees to: two would measure each other. One that
is to stop is RUNNING until its worker has let go of it, or is lost.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from . import fingerprint, revision
from .load_test import LoadTest
from .models import BenchmarkRun, Machine, Measurement, Metric
from .prepared import prepared
from .records import Direction, Result
from .registry import Benchmark, Run, UnknownBenchmark, load_suites
from .sets import SETS
from .targets import Outcome

logger = logging.getLogger(__name__)

MAX_SAMPLES = 200
MAX_ERROR_CHARS = 500
HEARTBEAT_S = 10.0
LOST_AFTER_S = 90.0
"""Several heartbeats: the database may be busy, and the machine is on purpose."""
NEVER_STARTED_AFTER = timedelta(days=2)
DEFAULT_SET = SETS["full"]
METRIC_COLUMNS = (
    "suite",
    "benchmark",
    "metric",
    "contestant",
    "parameters",
    "unit",
    "direction",
)
"""What makes a metric another one; its digest is of them."""
FIGURES = ("n", "minimum", "p50", "p95", "p99", "maximum", "mean", "deviation", "mad", "samples")
NOT_METRICS = ("benchmark", "contestant")
"""Among a result's parameters, but columns of their own here."""

State = BenchmarkRun.State
Report = Callable[[int, int, str], object]
"""Told how many benchmarks are done, of how many, and which one is measured now."""


class Busy(Exception):
    """Another run is being measured; ``args[0]`` says which."""


class Stopped(Exception):
    """The run is to stop, or is no longer ours: it was taken for lost."""


def chosen_benchmarks(run: BenchmarkRun) -> list[Benchmark]:
    """Those of its set, or those that it names. Raises UnknownBenchmark, also for none."""
    registry = load_suites()
    if run.set_name:
        return registry.in_set(run.set_name)
    if not run.chosen:
        raise UnknownBenchmark("neither a set nor a benchmark is named")
    return registry.named([str(name) for name in run.chosen])


def rounds_of(run: BenchmarkRun) -> int:
    """A rerun is as long as what it repeats."""
    first = run.rerun_of or run
    return SETS.get(first.set_name, DEFAULT_SET).rounds


def record(
    run: BenchmarkRun,
    benchmarks: Sequence[Benchmark] | None = None,
    rounds: int | None = None,
    *,
    report: Report = lambda done, total, current: None,
) -> BenchmarkRun:
    """Measure a run that is QUEUED, and return it as it ended; one that is not is left alone.

    Raises Busy, with the run as it was, where another is RUNNING.
    """
    if not _claim(run):
        run.refresh_from_db()
        return run
    try:
        with _heartbeat(run.pk):
            if benchmarks is None:
                benchmarks = chosen_benchmarks(run)
            _measure(run, benchmarks, rounds or rounds_of(run), report)
    except Stopped:
        logger.info("%s was stopped", run)
        _end(run, State.STOPPED)
    except Exception as error:
        # Whatever it was, no run may stay RUNNING: it would keep all others waiting.
        logger.exception("%s failed", run)
        _end(run, State.FAILED, errors=[*run.errors, told(error)])
    except BaseException:
        _end(run, State.STOPPED, note=f"{run.note}\nInterrupted.".strip())
        raise
    run.refresh_from_db()
    return run


def mark_lost() -> int:
    """Runs whose worker is no more, and those that nobody ever took. How many they were."""
    now = timezone.now()
    dead = BenchmarkRun.objects.filter(
        state=State.RUNNING, seen_at__lt=now - timedelta(seconds=LOST_AFTER_S)
    )
    lost = dead.update(state=State.LOST, ended_at=now, current="")
    old = BenchmarkRun.objects.filter(state=State.QUEUED, queued_at__lt=now - NEVER_STARTED_AFTER)
    return lost + old.update(state=State.LOST, ended_at=now)


def told(error: Exception, name: str = "") -> str:
    """An error in bounded text, with the benchmark that it ended."""
    text = f"{name}: " if name else ""
    return f"{text}{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]


def _claim(run: BenchmarkRun) -> bool:
    """Raises Busy."""
    now = timezone.now()
    try:
        with transaction.atomic():
            claimed = BenchmarkRun.objects.filter(pk=run.pk, state=State.QUEUED).update(
                state=State.RUNNING, started_at=now, seen_at=now
            )
            if LoadTest.objects.filter(state=LoadTest.State.RUNNING).exists():
                raise Busy("a load test is running")
            return bool(claimed)
    except IntegrityError:
        other = BenchmarkRun.objects.filter(state=State.RUNNING).first()
        raise Busy(f"{other or 'another run'} is being measured") from None


def _measure(
    run: BenchmarkRun, benchmarks: Sequence[Benchmark], rounds: int, report: Report
) -> None:
    code = revision.current()
    run.commit, run.dirty, run.branch = code.commit, code.dirty, code.branch
    measured: list[tuple[Benchmark, Outcome]] = []
    with prepared(rounds) as given:
        _describe(run, given, len(benchmarks))
        for number, one in enumerate(benchmarks):
            _progress(run, done=number, current=one.name)
            report(number, len(benchmarks), one.name)
            try:
                measured.append((one, one.measure(given)))
            except Exception as error:
                # It ends this benchmark, not the others.
                logger.exception("%s: benchmark %s failed", run, one.name)
                run.errors.append(told(error, one.name))
    report(len(benchmarks), len(benchmarks), "")
    _keep(run, measured, done=len(benchmarks))


def _describe(run: BenchmarkRun, given: Run, total: int) -> None:
    """Where and when it is measured, and how fast the machine was before."""
    fields = fingerprint.fields(given.server, given.client)
    run.machine = machine_of(fields)
    read = fingerprint.readings(given.client)
    _progress(
        run,
        machine=run.machine,
        commit=run.commit,
        dirty=run.dirty,
        branch=run.branch,
        load_average=read.load_average,
        loop_us=read.loop_us,
        ping_us=read.ping_us,
        total=total,
    )


def machine_of(fields: dict[str, Any]) -> Machine:
    found, _ = Machine.objects.get_or_create(
        fingerprint=fingerprint.digest(fields), defaults={"fields": fields}
    )
    return found


def _progress(run: BenchmarkRun, **values: Any) -> None:
    """Raises Stopped where the run is RUNNING no longer, or is not to be."""
    values["seen_at"] = timezone.now()
    if not _ours(run).filter(stop_asked=False).update(**values):
        raise Stopped


def _keep(run: BenchmarkRun, measured: list[tuple[Benchmark, Outcome]], done: int) -> None:
    """All there is of a run becomes visible at once, and only if the run is still ours."""
    results = [
        (one, contestant, result)
        for one, outcome in measured
        for contestant, result in outcome.results.items()
    ]
    if not results:
        _end(run, State.FAILED, errors=run.errors or ["Nothing was measured."], done=done)
        return
    run.refresh_from_db(fields=["started_at"])
    with transaction.atomic():
        # Asked again, in the transaction: a stop during the last benchmark counts too.
        _progress(run)
        _end(run, State.DONE, errors=run.errors, done=done)
        Measurement.objects.bulk_create(
            measurement(run, metric_of(result, contestant in one.references), figures(result))
            for one, contestant, result in results
        )


def _end(run: BenchmarkRun, state: str, **values: Any) -> int:
    return _ours(run).update(state=state, ended_at=timezone.now(), current="", **values)


def _ours(run: BenchmarkRun) -> models.QuerySet[BenchmarkRun]:
    return BenchmarkRun.objects.filter(pk=run.pk, state=State.RUNNING)


def metric_of(result: Result, reference: bool = False) -> Metric:
    """Of a peer or a floor (``reference``) everything is kept, and nothing is judged."""
    parameters = {
        name: value for name, value in result.parameters.items() if name not in NOT_METRICS
    }
    columns = {
        "suite": result.suite,
        "benchmark": str(result.parameters.get("benchmark", result.metric)),
        "metric": result.metric,
        "contestant": str(result.parameters.get("contestant", "")),
        "parameters": parameters,
        "unit": result.unit,
        "direction": str(Direction(result.direction)),
    }
    return metric_row(columns, ignored=reference)


def metric_row(columns: Mapping[str, Any], *, ignored: bool = False) -> Metric:
    """The one of these METRIC_COLUMNS, made where there is none. ``ignored`` is of a new one."""
    text = json.dumps(columns, sort_keys=True, separators=(",", ":"))
    found, _ = Metric.objects.get_or_create(
        digest=hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
        defaults={**columns, "ignored": ignored},
    )
    return found


def figures(result: Result) -> dict[str, Any]:
    """Of all samples, of which some are kept: the columns of FIGURES."""
    return {
        "n": result.n,
        "minimum": result.minimum,
        "p50": result.p50,
        "p95": result.percentile(95),
        "p99": result.percentile(99),
        "maximum": result.maximum,
        "mean": result.mean,
        "deviation": result.deviation,
        "mad": result.mad,
        "samples": bounded(result.samples),
    }


def measurement(run: BenchmarkRun, metric: Metric, figures: Mapping[str, Any]) -> Measurement:
    """``run`` has a machine and has started."""
    if run.machine is None or run.started_at is None:
        raise ValueError(f"{run} has not started")
    return Measurement(
        run=run,
        metric=metric,
        machine=run.machine,
        branch=run.branch,
        taken_at=run.started_at,
        **figures,
    )


def bounded(samples: Sequence[float]) -> list[float]:
    """At most MAX_SAMPLES, spread evenly over the run, the first and the last among them."""
    if len(samples) <= MAX_SAMPLES:
        return list(samples)
    step = (len(samples) - 1) / (MAX_SAMPLES - 1)
    return [samples[round(place * step)] for place in range(MAX_SAMPLES)]


@contextmanager
def _heartbeat(pk: int) -> Iterator[None]:
    """Says every HEARTBEAT_S that the run's process lives, also during a long benchmark."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(HEARTBEAT_S):
                try:
                    BenchmarkRun.objects.filter(pk=pk, state=State.RUNNING).update(
                        seen_at=timezone.now()
                    )
                except DatabaseFailure:
                    # Away it is no reason to stop: the run may end without it. The next beat is
                    # over a new connection.
                    connection.close()
        finally:
            connection.close()

    thread = threading.Thread(target=beat, name="benchmark-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
