"""What a recorded run says beside the runs before it: suspects, and what their reruns say.

Called by whoever records a run, after each run and each rerun, whatever became of it. The rule is
``regression``'s; here is which runs it is asked about. A run is compared with earlier ones

- of the same metric, machine and branch: another machine is another series;
- since the last ``Baseline``: what was before it was accepted as past;
- of committed code: a run of edited files is judged, and is nobody's past;
- that were not picked: reruns are of suspects, all in one hour, and count for their suspect only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from . import regression as rule
from .models import Baseline, BenchmarkRun, Machine, Measurement, Metric, Regression
from .records import Direction
from .telling import tell

RERUNS = rule.REPEATS - 1
BATCH = 100
LEFT_UNJUDGED = timedelta(minutes=2)

State = Regression.State
Rerun = Callable[[BenchmarkRun, int], object]
"""Makes that many rows of reruns of ``names_to_rerun(run)``; called in a transaction, so that it
starts them on commit."""

Trigger = BenchmarkRun.Trigger
JUDGED = (Trigger.STAFF, Trigger.SCHEDULE, Trigger.COMMAND, Trigger.CI)
"""What can be rerun here and now: nothing imported, and no load test."""

WAITING = BenchmarkRun.WAITING


def judge_run(run: BenchmarkRun, rerun: Rerun) -> list[Regression]:
    """Opens a suspected regression for each series that the run is far out of, and has the run
    repeated, once. For a rerun: settles the suspects of its run, once no rerun is awaited.

    Returns what was opened or settled; a second call for the same run finds nothing to do.
    """
    if run.rerun_of is not None:
        return settle(run.rerun_of)
    if run.state != BenchmarkRun.State.DONE or run.trigger not in JUDGED:
        return []
    with transaction.atomic():
        _lock(run)
        measurements = run.measurements.filter(metric__ignored=False).exclude(
            metric__in=run.regressions.values("metric")
        )
        found = [_opened(measurement) for measurement in measurements.select_related("metric")]
        opened = [regression for regression in found if regression is not None]
        if opened and not BenchmarkRun.objects.filter(rerun_of=run).exists():
            rerun(run, RERUNS)
        BenchmarkRun.objects.filter(pk=run.pk).update(judged_at=timezone.now())
    return opened


def names_to_rerun(run: BenchmarkRun) -> list[str]:
    """The benchmarks whose metrics the run made suspect."""
    suspects = run.regressions.filter(state=State.SUSPECTED)
    return sorted(set(suspects.values_list("metric__benchmark", flat=True)))


def settle(run: BenchmarkRun) -> list[Regression]:
    """Confirms or refutes what the run made suspect, all of it together, once each rerun has ended.

    Reruns of another machine or another commit say nothing of the suspect and are left out; fewer
    than four that count refute it as not repeated, and the next run may be suspected anew.
    """
    with transaction.atomic():
        _lock(run)
        suspects = list(run.regressions.filter(state=State.SUSPECTED).select_related("metric"))
        reruns = BenchmarkRun.objects.filter(rerun_of=run)
        if not suspects or not reruns.exists() or reruns.filter(state__in=WAITING).exists():
            return []
        new = _new_medians(run, reruns)
        asked = [_suspicion(suspect, run, new[suspect.metric_id]) for suspect in suspects]
        now = timezone.now()
        for suspect, question, verdict in zip(suspects, asked, rule.confirm(asked), strict=True):
            if verdict.outcome is rule.Outcome.CONFIRMED:
                suspect.state, suspect.confirmed_at = State.CONFIRMED, now
            else:
                suspect.state, suspect.closed_at = State.REFUTED, now
            suspect.ratio = suspect.ratio if verdict.ratio is None else verdict.ratio
            suspect.p_value = verdict.adjusted_p
            suspect.evidence = _evidence(verdict, suspect.metric, question.new, question.baseline)
            suspect.save()
        if any(suspect.state == State.CONFIRMED for suspect in suspects):
            transaction.on_commit(tell)
    return suspects


def judge_waiting(rerun: Rerun) -> list[Regression]:
    """What nobody judged, for a periodic task: a worker may die between a run's end and
    ``judge_run``. Whoever lives does so at once, and is not forestalled."""
    ended = timezone.now() - LEFT_UNJUDGED
    runs = BenchmarkRun.objects.filter(
        state=BenchmarkRun.State.DONE, judged_at=None, ended_at__lt=ended, trigger__in=JUDGED
    )
    return [opened for run in runs.order_by("ended_at")[:BATCH] for opened in judge_run(run, rerun)]


def settle_waiting() -> list[Regression]:
    """What nobody settled, for the same task: a worker may die between a rerun and ``judge_run``.

    A suspect whose run was deleted cannot be repeated, and is closed.
    """
    suspects = Regression.objects.filter(state=State.SUSPECTED)
    suspects.filter(run=None).update(state=State.REFUTED, closed_at=timezone.now())
    runs = BenchmarkRun.objects.filter(pk__in=suspects.order_by().values("run"))
    return [settled for run in runs.order_by("pk")[:BATCH] for settled in settle(run)]


def baseline(
    metric: Metric, machine: Machine, branch: str, before: datetime | None = None
) -> list[float]:
    """The medians that a run of this series is compared with, oldest first: 20 at most."""
    return [median for _, median in _history(metric.pk, machine.pk, branch, before)]


def threshold(metric: Metric) -> float:
    """As a part: 0.1 unless staff said otherwise."""
    percent = metric.threshold_percent
    return rule.THRESHOLD if percent is None else percent / 100


def _lock(run: BenchmarkRun) -> None:
    """Two workers that judge the same run do so one after the other."""
    BenchmarkRun.objects.select_for_update().get(pk=run.pk)


def _history(
    metric: int, machine: int, branch: str, before: datetime | None
) -> list[tuple[datetime, float]]:
    series = {"metric": metric, "machine": machine, "branch": branch}
    rows = Measurement.objects.filter(
        **series, run__state=BenchmarkRun.State.DONE, run__dirty=False
    ).exclude(run__trigger=Trigger.RERUN)
    since = Baseline.objects.filter(**series).values_list("since", flat=True).first()
    if since is not None:
        rows = rows.filter(taken_at__gte=since)
    if before is not None:
        rows = rows.filter(taken_at__lt=before)
    newest = rows.order_by("-taken_at").values_list("taken_at", "p50")[: rule.WINDOW]
    return list(newest)[::-1]


def _opened(measurement: Measurement) -> Regression | None:
    """None unless the measurement is suspect, and nothing is open for its series already."""
    metric = measurement.metric
    series = (measurement.metric_id, measurement.machine_id, measurement.branch)
    history = _history(*series, measurement.taken_at)
    medians = [median for _, median in history]
    verdict = rule.suspect(measurement.p50, medians, Direction(metric.direction), threshold(metric))
    if verdict.outcome is not rule.Outcome.SUSPECTED or verdict.ratio is None:
        return None
    alike = Regression.objects.filter(
        metric=metric,
        machine=measurement.machine_id,
        branch=measurement.branch,
        better=verdict.better,
    )
    if alike.filter(state__in=Regression.OPEN).exists():
        return None
    # What was ignored counts while the baseline reaches back before it.
    ignored = alike.filter(state=State.IGNORED, opened_at__gte=history[0][0]).first()
    if ignored is not None and not _goes_further(measurement, ignored):
        return None
    try:
        with transaction.atomic():
            return Regression.objects.create(
                metric=metric,
                machine_id=measurement.machine_id,
                branch=measurement.branch,
                better=verdict.better,
                run_id=measurement.run_id,
                ratio=verdict.ratio,
                evidence=_evidence(verdict, metric, [measurement.p50], medians),
            )
    except IntegrityError:  # another run of the series was judged at the same time
        return None


def _goes_further(measurement: Measurement, ignored: Regression) -> bool:
    """Is it past the level that staff have seen and ignored?"""
    metric = measurement.metric
    level = ignored.evidence["new_median"]
    ratio = rule.badness(measurement.p50, level, Direction(metric.direction))
    return (1 / ratio if ignored.better else ratio) > 1 + threshold(metric)


def _new_medians(
    run: BenchmarkRun, reruns: models.QuerySet[BenchmarkRun]
) -> dict[int, list[float]]:
    """By metric, of the run and then of its reruns."""
    alike = reruns.filter(
        state=BenchmarkRun.State.DONE, machine=run.machine_id, commit=run.commit, dirty=run.dirty
    )
    rows = Measurement.objects.filter(models.Q(run=run) | models.Q(run__in=alike))
    medians: dict[int, list[float]] = defaultdict(list)
    for metric, median in rows.order_by("taken_at", "pk").values_list("metric", "p50"):
        medians[metric].append(median)
    return medians


def _suspicion(suspect: Regression, run: BenchmarkRun, new: list[float]) -> rule.Suspicion:
    metric = suspect.metric
    taken = run.measurements.filter(metric=metric).values_list("taken_at", flat=True).first()
    return rule.Suspicion(
        new=new,
        baseline=baseline(metric, suspect.machine, suspect.branch, taken),
        direction=Direction(metric.direction),
        better=suspect.better,
        threshold=threshold(metric),
    )


def _evidence(
    verdict: rule.Verdict, metric: Metric, new: Iterable[float], medians: Iterable[float]
) -> dict[str, Any]:
    return {
        **verdict.evidence(metric.unit),
        "threshold": threshold(metric),
        "new_medians": list(new),
        "baseline_medians": list(medians),
    }
