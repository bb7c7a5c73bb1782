"""Two runs, or a run and its baseline, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import judging, statistics
from . import regression as rule
from .models import BenchmarkRun, Measurement, Metric
from .records import Direction
from .series import change

SAME = 0.02
"""As a part: what is nearer than this to 1 is not called better or worse."""


class NotComparable(ValueError):
    """Says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """``ratio`` is how many times as bad: over 1 is worse, whichever way the metric goes."""

    metric: Metric
    old: float
    new: float
    ratio: float
    old_n: int

    @property
    def verdict(self) -> str:
        if abs(self.ratio - 1) <= SAME:
            return "same"
        return "worse" if self.ratio > 1 else "better"

    @property
    def far(self) -> bool:
        """Over the metric's threshold."""
        beyond = 1 + judging.threshold(self.metric)
        return self.ratio > beyond or self.ratio * beyond < 1

    @property
    def words(self) -> str:
        return change(self.new, self.old, self.metric)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The worst first; ``only_old`` and ``only_new`` have nothing to be held against."""

    lines: tuple[Line, ...]
    only_old: tuple[Metric, ...] = ()
    only_new: tuple[Metric, ...] = ()

    def number(self, verdict: str) -> int:
        return sum(line.verdict == verdict for line in self.lines)

    @property
    def sentence(self) -> str:
        if not self.lines:
            return "They have no metric in common."
        worse, better = self.number("worse"), self.number("better")
        return f"{worse} worse, {better} better, {self.number('same')} the same within 2 %."


def compare(new: BenchmarkRun, old: BenchmarkRun) -> Comparison:
    """Raises NotComparable where the two ran on different machines."""
    if new.machine_id is None or old.machine_id is None:
        which = new if new.machine_id is None else old
        raise NotComparable(f"{which} has no machine: it has measured nothing.".capitalize())
    if new.machine_id != old.machine_id:
        differing = differences(new.machine.fields, old.machine.fields)  # type: ignore[union-attr]
        raise NotComparable(
            f"They ran on different machines ({differing or 'of different fingerprints'}): a "
            "difference between them would say nothing of the code."
        )
    of_new, of_old = _measured(new), _measured(old)
    lines = [
        _line(taken.metric, of_old[key].p50, taken.p50, of_old[key].n)
        for key, taken in of_new.items()
        if key in of_old
    ]
    return Comparison(
        _worst_first(lines),
        only_old=tuple(one.metric for key, one in of_old.items() if key not in of_new),
        only_new=tuple(one.metric for key, one in of_new.items() if key not in of_old),
    )


def against_baseline(run: BenchmarkRun) -> Comparison:
    """With the median of the last 20 runs of each metric; of fewer than 10, nothing is said."""
    lines, without = [], []
    for taken in _measured(run).values():
        past = judging.baseline(taken.metric, taken.machine, taken.branch, taken.taken_at)
        if len(past) < rule.LEAST:
            without.append(taken.metric)
        else:
            lines.append(_line(taken.metric, statistics.median(past), taken.p50, len(past)))
    return Comparison(_worst_first(lines), only_new=tuple(without))


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> str:
    """``cores: 2 and 8``."""
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return "; ".join(
        f"{name}: {one.get(name, 'none')} and {other.get(name, 'none')}" for name in names
    )


def _measured(run: BenchmarkRun) -> dict[int, Measurement]:
    rows = run.measurements.select_related("metric", "machine").defer("samples")
    return {taken.metric_id: taken for taken in rows}


def _line(metric: Metric, old: float, new: float, old_n: int) -> Line:
    return Line(metric, old, new, rule.badness(new, old, Direction(metric.direction)), old_n)


def _worst_first(lines: list[Line]) -> tuple[Line, ...]:
    return tuple(sorted(lines, key=lambda line: -line.ratio))
