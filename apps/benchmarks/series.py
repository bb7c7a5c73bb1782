"""One metric on one machine and branch over time: runs, baseline, changes of level."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.core.cache import cache

from . import judging, statistics
from . import regression as rule
from .models import Baseline, BenchmarkRun, Machine, Measurement, Metric, Regression
from .records import Direction

REMEMBERED_S = 30 * 86_400

Trigger = BenchmarkRun.Trigger


@dataclass(frozen=True, slots=True)
class Point:
    """A run's median; half of its samples lie within ``mad`` of it."""

    at: datetime
    run: int
    median: float
    mad: float
    commit: str
    dirty: bool
    trigger: str

    @property
    def counts(self) -> bool:
        """As a part of a baseline: reruns were picked, and edited files are nobody's past."""
        return not self.dirty and self.trigger != Trigger.RERUN

    @property
    def note(self) -> str:
        notes = ["edited files"] if self.dirty else []
        if self.trigger == Trigger.RERUN:
            notes.append("rerun of a suspect")
        return ", ".join(notes)


@dataclass(frozen=True)
class Series:
    """``since`` None: all there is. A handful of queries, however long it is."""

    metric: Metric
    machine: Machine
    branch: str
    since: datetime | None = None

    @cached_property
    def points(self) -> list[Point]:
        """Of runs that came to their end, the oldest first."""
        rows = Measurement.objects.filter(**self._where, run__state=BenchmarkRun.State.DONE)
        if self.since is not None:
            rows = rows.filter(taken_at__gte=self.since)
        found = rows.order_by("taken_at", "pk").values_list(
            "taken_at", "run_id", "p50", "mad", "run__commit", "run__dirty", "run__trigger"
        )
        return [Point(*row) for row in found]

    @cached_property
    def open(self) -> list[Regression]:
        """What is thought of it and not settled by staff: the worst first."""
        found = Regression.objects.filter(**self._where, state__in=Regression.OPEN)
        return sorted(found, key=lambda one: -badness(one))

    @cached_property
    def flagged(self) -> dict[int, Regression]:
        """By run: those that were suspected, and what became of them."""
        found = Regression.objects.filter(**self._where, run__isnull=False).order_by("opened_at")
        return {one.run_id: one for one in found if one.run_id is not None}

    @cached_property
    def accepted(self) -> Baseline | None:
        return Baseline.objects.filter(**self._where).select_related("accepted_by").first()

    @cached_property
    def baseline(self) -> list[float]:
        """What the run in question is compared with: the one that opened a regression, or the
        newest one."""
        return judging.baseline(self.metric, self.machine, self.branch, self.judged_at)

    @property
    def judged_at(self) -> datetime | None:
        for regression in self.open:
            for point in self.points:
                if point.run == regression.run_id:
                    return point.at
            taken = Measurement.objects.filter(run=regression.run_id, metric=self.metric)
            return taken.values_list("taken_at", flat=True).first() or regression.opened_at
        return self.points[-1].at if self.points else None

    @cached_property
    def band(self) -> rule.Band | None:
        """Where a run is no suspect; None while there are too few runs to say."""
        return rule.band(self.baseline, judging.threshold(self.metric))

    @cached_property
    def change_points(self) -> list[int]:
        """The places in ``points`` at which another level begins."""
        counted = [point.run for point in self.points if point.counts]
        if not counted:
            return []
        begins = set(self.level_starts(newest=counted[-1]))
        return [place for place, point in enumerate(self.points) if place and point.run in begins]

    def level_starts(self, newest: int) -> list[int]:
        """The runs that begin a level, of all up to ``newest``: the same whatever the period.

        Remembered, since what finds them takes a second to load in a process that never did.
        """
        key = f"benchmarks-levels:{self.metric.pk}:{newest}"
        begins: list[int] | None = cache.get(key)
        if begins is None:
            rows = Measurement.objects.filter(
                **self._where, run__state=BenchmarkRun.State.DONE, run__dirty=False
            ).exclude(run__trigger=Trigger.RERUN)
            last = rows.order_by("-taken_at", "-pk").values_list("run_id", "p50")[: rule.LONGEST]
            series = list(last)[::-1]
            begins = [series[at][0] for at in rule.change_points([value for _, value in series])]
            cache.set(key, begins, REMEMBERED_S)
        return begins

    def levels(self, place: int) -> tuple[float, float]:
        """The medians before and after a change point."""
        places = [0, *self.change_points, len(self.points)]
        at = places.index(place, 1)
        return (
            self._level(places[at - 1], place),
            self._level(place, places[at + 1]),
        )

    def _level(self, start: int, end: int) -> float:
        return statistics.median([one.median for one in self.points[start:end] if one.counts])

    @property
    def _where(self) -> dict[str, Any]:
        return {"metric": self.metric, "machine": self.machine, "branch": self.branch}


def remember_levels(run: BenchmarkRun) -> None:
    """For the worker, after a run: no page then has to look for changes of level itself."""
    if run.dirty or run.trigger == Trigger.RERUN:
        return
    for taken in run.measurements.select_related("metric", "machine").defer("samples"):
        Series(taken.metric, taken.machine, taken.branch).level_starts(newest=run.pk)


def badness(regression: Regression) -> float:
    """How far it went, whichever way: an improvement is no less far for being one."""
    ratio = regression.ratio
    return 1 / ratio if 0 < ratio < 1 else ratio


def change(new: float, old: float, metric: Metric) -> str:
    """``7 % slower``: the figure itself, as people would work it out."""
    if old == 0:
        return "not to be compared with 0"
    part = new / old - 1
    if round(abs(part) * 100) == 0:
        return "unchanged"
    return f"{abs(part) * 100:,.0f} % {_word(new > old, metric)}"


def _word(above: bool, metric: Metric) -> str:
    if metric.unit in {"ns", "us", "ms", "s"}:
        return "slower" if above else "faster"
    if metric.unit.endswith("/s"):
        return "faster" if above else "slower"
    return "more" if above else "less"


def is_worse(new: float, old: float, metric: Metric) -> bool:
    return rule.badness(new, old, Direction(metric.direction)) > 1
