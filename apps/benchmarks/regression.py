"""Whether a figure became worse: the guide's quick look, and a rule in two stages.

The unit is the run. Samples of one run share its machine's mood, so that a hundred of them say as
much of another day as one: every number here is the median of a run.

1. ``suspect``: one run is far from the runs before it. Cheap, and wrong now and then.
2. ``confirm``: the run and its reruns together, tested. Only this is told to anyone.

No I/O, nothing of Django's. scipy and ruptures are imported where they are used, for their weight
alone: together 0.9 s of CPU and 95 MB, which each process of a site would pay to answer requests
that never judge anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from math import inf, log
from typing import Any

from . import statistics
from .records import Direction

THRESHOLD = 0.10
"""As a part of the baseline: the guide's 10 %."""

LEAST = 10
"""Runs before a baseline says anything."""

WINDOW = 20
"""Runs that a baseline consists of: the last ones."""

REPEATS = 5
"""Runs that are tested: the suspect and its reruns."""

ALPHA = 0.01
MADS = 3

STEP = 0.05
"""A change of level that is smaller is not drawn."""

SEGMENT = 5
"""Runs that make a level."""

LONGEST = 2_000
"""Runs in which change points are looked for: the work grows with their square."""


class PerformanceRegression(Exception):
    """``ratios``: how many times as bad each degraded metric is; 1.25 is a quarter worse."""

    def __init__(self, ratios: Mapping[str, float]) -> None:
        self.ratios = dict(ratios)
        super().__init__(
            "; ".join(f"{name}: {ratio:.2f} times as bad" for name, ratio in self.ratios.items())
        )


def check_regression(
    current: Mapping[str, float],
    baseline: Mapping[str, float],
    *,
    directions: Mapping[str, Direction] | None = None,
    threshold: float = THRESHOLD,
) -> None:
    """Two sets of figures, compared one by one. A metric that only one of them has is left out.

    Lower is better unless ``directions`` says otherwise. Raises PerformanceRegression with all
    that degraded by more than the threshold. Of noise it knows nothing: see ``suspect``.
    """
    directions = directions or {}
    ratios = {
        name: badness(value, baseline[name], directions.get(name, Direction.LOWER))
        for name, value in current.items()
        if name in baseline
    }
    degraded = {name: ratio for name, ratio in ratios.items() if ratio > 1 + threshold}
    if degraded:
        raise PerformanceRegression(degraded)


def badness(new: float, old: float, direction: Direction) -> float:
    """How many times as bad ``new`` is: over 1 is worse, whichever way the metric goes."""
    above, below = (new, old) if direction == Direction.LOWER else (old, new)
    if below > 0:
        return above / below
    return inf if above > below else 1.0


class Outcome(StrEnum):
    INSUFFICIENT = "insufficient data"
    STEADY = "steady"
    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"
    REFUTED = "not confirmed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, and on what grounds.

    ``ratio`` is ``badness``: below 1 for an improvement. ``p`` is of the one-sided test in the
    direction that ``better`` names, ``adjusted_p`` for all that were judged with it.
    """

    outcome: Outcome
    better: bool = False
    ratio: float | None = None
    new_median: float | None = None
    new_n: int = 0
    baseline_median: float | None = None
    mad: float | None = None
    n: int = 0
    beyond: int = 0
    p: float | None = None
    adjusted_p: float | None = None

    def sentence(self, unit: str = "") -> str:
        """For people: the change is that of the figure itself, as they would work it out."""
        if self.new_median is None or self.baseline_median is None:
            if self.n < LEAST:
                return f"Insufficient data: {self.n} of {LEAST} runs to compare with"
            if self.new_n == 0:
                return "Insufficient data: the figure is not above 0"
            return f"Insufficient data: {self.new_n} of {REPEATS} runs repeated it"
        change = self.new_median / self.baseline_median - 1
        words = f"{abs(change):.0%}".replace("%", " %")
        text = f"{words} {_word(change, self.better, unit)} than the last {self.n} runs"
        return text if self.outcome is Outcome.STEADY else f"{text}, {self.outcome}"

    def evidence(self, unit: str = "") -> dict[str, Any]:
        """For JSON."""
        return {
            "outcome": str(self.outcome),
            "ratio": self.ratio,
            "new_median": self.new_median,
            "new_n": self.new_n,
            "baseline_median": self.baseline_median,
            "mad": self.mad,
            "n": self.n,
            "beyond": self.beyond,
            "p": self.p,
            "adjusted_p": self.adjusted_p,
            "sentence": self.sentence(unit),
        }


def _word(change: float, better: bool, unit: str) -> str:
    if unit in {"ns", "us", "ms", "s"} or unit.endswith("/s"):
        return "faster" if better else "slower"
    return "more" if change > 0 else "less"


@dataclass(frozen=True, slots=True)
class Band:
    """Where a run is no suspect, in the metric's unit."""

    median: float
    low: float
    high: float


def band(baseline: Sequence[float], threshold: float = THRESHOLD) -> Band | None:
    """None where ``suspect`` says nothing either: below ``LEAST`` runs, or with figures of 0.

    Downwards it is reckoned in reciprocals: four fifths are as far from 1 as five fourths. In plain
    distances, a quarter less throughput would be found less often than a quarter more time.
    """
    if len(baseline) < LEAST:
        return None
    if min(baseline) <= 0:
        return None
    middle = statistics.median(baseline)
    down = MADS * statistics.mad([1 / value for value in baseline])
    return Band(
        middle,
        low=min(middle / (1 + threshold), 1 / (1 / middle + down)),
        high=max(middle * (1 + threshold), middle + MADS * statistics.mad(baseline)),
    )


def suspect(
    run_median: float,
    baseline: Sequence[float],
    direction: Direction,
    threshold: float = THRESHOLD,
) -> Verdict:
    """The first stage: is this run both over the threshold and over 3 MAD from the median of the
    runs before it? ``baseline`` are those runs' medians, of which at least 10 are needed.

    The MAD is unscaled, some two thirds of a standard deviation. Worse and better are found alike.
    """
    around = band(baseline, threshold)
    if around is None or run_median <= 0:
        return Verdict(Outcome.INSUFFICIENT, n=len(baseline))
    ratio = badness(run_median, around.median, direction)
    far = not around.low <= run_median <= around.high
    return Verdict(
        Outcome.SUSPECTED if far else Outcome.STEADY,
        better=ratio < 1,
        ratio=ratio,
        new_median=run_median,
        new_n=1,
        baseline_median=around.median,
        mad=statistics.mad(baseline),
        n=len(baseline),
        beyond=int(far),
    )


def _over(ratio: float, better: bool, threshold: float) -> bool:
    return (1 / ratio if better else ratio) > 1 + threshold


@dataclass(frozen=True, slots=True)
class Suspicion:
    """``new``: the medians of the suspect and of its reruns. ``baseline``: of the runs before."""

    new: Sequence[float]
    baseline: Sequence[float]
    direction: Direction
    better: bool = False
    threshold: float = THRESHOLD


def confirm(suspicions: Sequence[Suspicion]) -> list[Verdict]:
    """The second stage, over all that one run made suspect: in the order given.

    Confirmed is what holds in all three respects:

    - the adjusted p of a one-sided Mann-Whitney test, 5 new runs against the last 20, is below 1 %;
    - the ratio of the medians is over the threshold;
    - so is every new run but one. The suspect was picked for being far out; without this, it and
      two reruns of luck are a majority of five, and false alarms are twice as many.
    """
    found = [_tested(suspicion) for suspicion in suspicions]
    tested = [verdict.p for verdict in found if verdict.p is not None]
    corrected = iter(adjusted(tested))
    return [
        verdict if verdict.p is None else _settled(verdict, suspicion.threshold, next(corrected))
        for verdict, suspicion in zip(found, suspicions, strict=True)
    ]


def _tested(suspicion: Suspicion) -> Verdict:
    new, last = list(suspicion.new), list(suspicion.baseline)[-WINDOW:]
    if len(last) < LEAST or len(new) < REPEATS or min(*new, *last) <= 0:
        return Verdict(
            Outcome.INSUFFICIENT,
            better=suspicion.better,
            n=len(last),
            new_n=0 if len(new) >= REPEATS else len(new),
        )
    middle = statistics.median(last)
    ratios = [badness(value, middle, suspicion.direction) for value in new]
    return Verdict(
        Outcome.REFUTED,
        better=suspicion.better,
        ratio=badness(statistics.median(new), middle, suspicion.direction),
        new_median=statistics.median(new),
        new_n=len(new),
        baseline_median=middle,
        mad=statistics.mad(last),
        n=len(last),
        beyond=sum(_over(ratio, suspicion.better, suspicion.threshold) for ratio in ratios),
        p=p_value(new, last, suspicion.direction, better=suspicion.better),
    )


def _settled(verdict: Verdict, threshold: float, adjusted_p: float) -> Verdict:
    sure = (
        adjusted_p < ALPHA
        and verdict.ratio is not None
        and _over(verdict.ratio, verdict.better, threshold)
        and verdict.beyond >= verdict.new_n - 1
    )
    return replace(
        verdict,
        outcome=Outcome.CONFIRMED if sure else Outcome.REFUTED,
        adjusted_p=adjusted_p,
    )


def p_value(
    new: Sequence[float], last: Sequence[float], direction: Direction, *, better: bool = False
) -> float:
    """One-sided Mann-Whitney: how likely is it by chance that ``new`` is so much worse (better)?

    Exact, since 5 runs against 20 are too few for a normal approximation. Where values are equal,
    as bytes often are, scipy's exact distribution does not hold: then all 53,130 ways to choose 5
    of 25 are counted, in half a second.
    """
    from scipy import stats

    higher = (direction == Direction.LOWER) != better
    values = [*new, *last]
    tied = len(set(values)) < len(values)
    method = stats.PermutationMethod(n_resamples=60_000, rng=0) if tied else "exact"
    test = stats.mannwhitneyu(new, last, alternative="greater" if higher else "less", method=method)
    return float(test.pvalue)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's, for all that are judged together, in the order given."""
    if not p_values:
        return []
    from scipy import stats

    return [float(p) for p in stats.false_discovery_control(p_values, method="bh")]


def change_points(values: Sequence[float]) -> list[int]:
    """Where a series went to another level: the places at which each new level begins.

    ``values`` are medians of runs in the order of time; of more than 2,000 the last are looked at.
    Distances are those of logarithms, measured in the series' own noise (of the differences between
    neighbours, which a step leaves alone). The kernel is ruptures' "rbf", in which one wild run
    weighs no more than a far one; its penalty of 0.8 log n was set by simulation.
    """
    start = max(0, len(values) - LONGEST)
    logs = [log(value) for value in values[start:] if value > 0]
    if len(logs) != len(values) - start or len(logs) < 2 * SEGMENT or len(set(logs)) < 2:
        return []
    import numpy
    from ruptures import KernelCPD

    steps = [after - before for before, after in pairwise(logs)]
    # 1.48 MAD is a standard deviation, of a difference between two: and never below 1 %.
    noise = max(0.01, 1.4826 * statistics.mad(steps) / 2**0.5)
    middle = statistics.median(logs)
    signal = numpy.array([[(value - middle) / noise] for value in logs])
    search = KernelCPD(kernel="rbf", params={"gamma": 0.5}, min_size=SEGMENT).fit(signal)
    places: list[int] = search.predict(pen=0.8 * log(len(logs)))[:-1]
    return [start + place for place in _steps(logs, places)]


def _steps(logs: Sequence[float], places: Sequence[int]) -> list[int]:
    """Without those between levels that differ by less than ``STEP``, the smallest first."""
    kept = list(places)
    while kept:
        edges = [0, *kept, len(logs)]
        levels = [statistics.median(logs[a:b]) for a, b in pairwise(edges)]
        sizes = [abs(b - a) for a, b in pairwise(levels)]
        smallest = min(range(len(sizes)), key=sizes.__getitem__)
        if sizes[smallest] >= log(1 + STEP):
            return kept
        del kept[smallest]
    return kept
