from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.benchmarks import regression, statistics
from apps.benchmarks.records import Direction
from apps.benchmarks.regression import (
    Outcome,
    PerformanceRegression,
    Suspicion,
    check_regression,
    confirm,
    suspect,
)

LOWER, HIGHER = Direction.LOWER, Direction.HIGHER
AROUND_100 = [100 + (place - 9.5) / 5 for place in range(20)]


# The guide's quick look


def test_more_than_ten_percent_worse_is_raised_with_every_metric_that_is():
    with pytest.raises(PerformanceRegression, match=r"check: 1\.20 times as bad; set: 1\.50") as e:
        check_regression({"check": 12, "get": 11, "set": 15}, {"check": 10, "get": 10, "set": 10})
    assert e.value.ratios == {"check": 1.2, "set": 1.5}


def test_fewer_requests_per_second_are_worse_and_more_are_not():
    directions = {"rps": HIGHER}
    check_regression({"rps": 2_000}, {"rps": 1_000}, directions=directions)
    with pytest.raises(PerformanceRegression):
        check_regression({"rps": 800}, {"rps": 1_000}, directions=directions)


def test_a_metric_without_a_baseline_is_left_out_and_one_that_left_zero_is_not():
    check_regression({"new": 5, "zero": 0}, {"old": 1, "zero": 0})
    with pytest.raises(PerformanceRegression, match="inf"):
        check_regression({"errors": 1}, {"errors": 0})


# The first stage


def test_a_quarter_more_is_suspected_and_five_percent_are_not():
    worse = suspect(125, AROUND_100, LOWER)
    assert (worse.outcome, worse.better, worse.ratio) == (Outcome.SUSPECTED, False, 1.25)
    assert (worse.baseline_median, worse.n) == (100, 20)
    assert worse.mad == pytest.approx(1)
    assert suspect(105, AROUND_100, LOWER).outcome is Outcome.STEADY


def test_over_ten_percent_within_the_noise_is_steady():
    noisy = [80.0, 120.0, 90.0, 110.0, 100.0] * 4
    assert suspect(125, noisy, LOWER).outcome is Outcome.STEADY
    assert suspect(135, noisy, LOWER).outcome is Outcome.SUSPECTED


@pytest.mark.parametrize(
    ("value", "direction", "better"),
    [(80, LOWER, True), (125, LOWER, False), (80, HIGHER, False), (125, HIGHER, True)],
)
def test_worse_and_better_follow_the_direction(value, direction, better):
    verdict = suspect(value, AROUND_100, direction)
    assert (verdict.outcome, verdict.better) == (Outcome.SUSPECTED, better)
    assert (verdict.ratio < 1) is better


def test_nine_runs_are_insufficient():
    verdict = suspect(500, AROUND_100[:9], LOWER)
    assert verdict.outcome is Outcome.INSUFFICIENT
    assert verdict.sentence() == "Insufficient data: 9 of 10 runs to compare with"


def test_a_figure_of_zero_has_no_ratio():
    assert suspect(1, [0.0] * 20, LOWER).outcome is Outcome.INSUFFICIENT
    assert suspect(0, AROUND_100, LOWER).sentence().endswith("the figure is not above 0")


@given(st.lists(st.floats(1, 1e6), min_size=10, max_size=20), st.floats(1, 1e6))
def test_a_suspect_is_over_the_threshold_and_over_three_mad(baseline, value):
    middle, mad = statistics.median(baseline), statistics.mad(baseline)
    up = suspect(value, baseline, LOWER)
    if value > middle:
        far = value - middle > 3 * mad and value > 1.1 * middle
        assert (up.outcome is Outcome.SUSPECTED) is far or value == pytest.approx(middle + 3 * mad)


@given(st.lists(st.floats(1, 1e3), min_size=11, max_size=11), st.floats(1, 1e3))
def test_a_time_and_its_rate_are_judged_alike(times, time):
    rates = [1_000 / value for value in times]
    one, other = suspect(time, times, LOWER), suspect(1_000 / time, rates, HIGHER)
    band = regression.band(times)
    if time not in (pytest.approx(band.low), pytest.approx(band.high), pytest.approx(band.median)):
        assert (one.outcome, one.better) == (other.outcome, other.better)


def test_without_enough_runs_there_is_no_band():
    assert regression.band(AROUND_100[:9]) is None
    assert regression.band([0.0] * 20) is None


# The test


def by_counting(new: list[float], last: list[float]) -> float:
    """Every way to choose the new ones among all: what an exact test is, ties and all."""

    def pairs(chosen, rest):
        return sum((a > b) + (a == b) / 2 for a in chosen for b in rest)

    everything = [*new, *last]
    places = range(len(everything))
    observed = pairs(new, last)
    counts = [
        pairs([everything[i] for i in chosen], [everything[i] for i in places if i not in chosen])
        >= observed
        for chosen in itertools.combinations(places, len(new))
    ]
    return sum(counts) / len(counts)


@pytest.mark.parametrize(
    "new",
    [[6.5, 7.5, 8.5], [1.5, 6.5, 8.5], [5.0, 6.0, 7.0], [7.0, 7.0, 7.0], [0.5, 1.5, 2.5]],
)
def test_p_is_exact_with_and_without_equal_values(new):
    last = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert regression.p_value(new, last, LOWER) == pytest.approx(by_counting(new, last))


def test_five_runs_beyond_all_twenty_have_the_least_p():
    least = 1 / math.comb(25, 5)
    assert regression.p_value([110, 111, 112, 113, 114], [*range(80, 100)], LOWER) == least
    assert regression.p_value([130] * 5, [100] * 20, LOWER) == pytest.approx(least)
    assert regression.p_value([70] * 5, [100] * 20, HIGHER) == pytest.approx(least)
    assert regression.p_value([70] * 5, [100] * 20, LOWER, better=True) == pytest.approx(least)
    assert regression.p_value([70] * 5, [100] * 20, LOWER) == 1


def test_p_values_are_adjusted_for_their_number_in_the_order_given():
    assert regression.adjusted([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.03])
    assert regression.adjusted([]) == []


# The second stage


def test_five_runs_that_are_slower_confirm():
    (verdict,) = confirm([Suspicion([124, 125, 126, 127, 123], AROUND_100, LOWER)])
    assert verdict.outcome is Outcome.CONFIRMED
    assert verdict.p < 0.01
    assert verdict.adjusted_p < 0.01
    assert verdict.sentence("us") == "25 % slower than the last 20 runs, confirmed"
    assert verdict.evidence("us")["sentence"] == verdict.sentence("us")


def test_reruns_that_are_as_ever_refute():
    (verdict,) = confirm([Suspicion([125, 99.03, 101.03, 98.03, 107], AROUND_100, LOWER)])
    assert verdict.outcome is Outcome.REFUTED
    assert verdict.sentence("us") == "1 % slower than the last 20 runs, not confirmed"


def test_a_sure_but_small_change_is_refuted():
    (verdict,) = confirm([Suspicion([107.1, 107.2, 107.3, 107.4, 112], AROUND_100, LOWER)])
    assert verdict.p < 0.01
    assert verdict.sentence("us") == "7 % slower than the last 20 runs, not confirmed"


def test_a_suspect_and_two_of_four_reruns_are_not_enough():
    (verdict,) = confirm([Suspicion([125, 115, 112, 108, 107], AROUND_100, LOWER)])
    assert verdict.adjusted_p < 0.01
    assert verdict.ratio > 1.1
    assert (verdict.outcome, verdict.beyond) == (Outcome.REFUTED, 3)


def test_an_improvement_is_confirmed_likewise():
    better = Suspicion([80, 81, 79, 82, 78], AROUND_100, LOWER, better=True)
    (verdict,) = confirm([better])
    assert verdict.outcome is Outcome.CONFIRMED
    assert verdict.ratio == 0.8
    assert verdict.sentence("s") == "20 % faster than the last 20 runs, confirmed"
    (verdict,) = confirm([Suspicion([80, 81, 79, 82, 78], AROUND_100, HIGHER)])
    assert verdict.sentence("requests/s") == "20 % slower than the last 20 runs, confirmed"
    assert confirm([better])[0].sentence("bytes").startswith("20 % less")


def test_a_metric_may_have_a_threshold_of_its_own():
    new = [124.0, 125.0, 126.0, 127.0, 123.0]
    assert confirm([Suspicion(new, AROUND_100, LOWER, threshold=0.3)])[0].outcome is Outcome.REFUTED
    assert suspect(125, AROUND_100, LOWER, 0.3).outcome is Outcome.STEADY


def test_among_many_doubtful_ones_a_doubtful_one_is_not_confirmed():
    doubtful = Suspicion([112, 113, 114, 111, 90], [*AROUND_100[:18], 113.5, 111.5], LOWER)
    hopeless = Suspicion([112, 95, 96, 97, 94], AROUND_100, LOWER)
    assert confirm([doubtful])[0].p == confirm([doubtful, hopeless])[0].p
    (alone,), together = confirm([doubtful]), confirm([doubtful, *[hopeless] * 9])
    assert together[0].adjusted_p > alone.adjusted_p


def test_four_runs_or_a_short_baseline_settle_nothing():
    few, short = confirm(
        [Suspicion([125] * 4, AROUND_100, LOWER), Suspicion([125] * 5, AROUND_100[:9], LOWER)]
    )
    assert few.sentence() == "Insufficient data: 4 of 5 runs repeated it"
    assert short.sentence() == "Insufficient data: 9 of 10 runs to compare with"


# The rates: docs/guides/benchmarks.md states them


def noise(chance: random.Random, size: float) -> float:
    """Of one run beside another: lognormal."""
    return math.exp(chance.gauss(0, size))


def alarm(chance: random.Random, size: float, factor: float, runs: int) -> str | None:
    """What is confirmed first in ``runs`` runs, each ``factor`` times as slow as the history."""
    history = [noise(chance, size) for _ in range(regression.WINDOW)]
    for _ in range(runs):
        run, *reruns = (factor * noise(chance, size) for _ in range(regression.REPEATS))
        first = suspect(run, history, LOWER)
        if first.outcome is Outcome.SUSPECTED:
            (last,) = confirm([Suspicion([run, *reruns], history, LOWER, first.better)])
            if last.outcome is Outcome.CONFIRMED:
                return "better" if last.better else "worse"
        history = [*history[1:], run]
    return None


def rate(wanted: set[str], size: float, factor: float, runs: int, series: int = 800) -> float:
    chance = random.Random(f"{size} {factor} {runs}")
    return sum(alarm(chance, size, factor, runs) in wanted for _ in range(series)) / series


@pytest.mark.parametrize(("size", "most"), [(0.03, 0.0), (0.08, 0.02)])
def test_without_a_change_ten_runs_raise_a_false_alarm_in_at_most_two_percent_of_series(size, most):
    found = rate({"worse", "better"}, size, 1, runs=10)
    print(f"noise {size:.0%}: a false alarm within 10 runs in {found:.2%} of series")
    assert found <= most


def test_a_fifth_less_time_is_found_as_a_quarter_more_is():
    assert rate({"better"}, 0.08, 0.8, runs=3) >= 0.95


@pytest.mark.parametrize(
    ("size", "runs", "least"), [(0.03, 1, 0.99), (0.08, 1, 0.75), (0.08, 2, 0.90), (0.08, 3, 0.95)]
)
def test_a_quarter_slower_is_found(size, runs, least):
    found = rate({"worse"}, size, 1.25, runs)
    print(f"noise {size:.0%}: +25 % found within {runs} runs in {found:.1%} of series")
    assert found >= least


# Change points


def series(seed: int, *levels: tuple[int, float], size: float = 0.05) -> list[float]:
    chance = random.Random(seed)
    return [level * noise(chance, size) for n, level in levels for _ in range(n)]


def test_a_step_is_found_where_it_was_taken():
    found = regression.change_points(series(1, (40, 100.0), (30, 125.0), (30, 80.0)))
    assert len(found) == 2
    assert found == pytest.approx([40, 70], abs=2)


def test_a_steady_series_has_none_nor_has_one_with_wild_runs():
    for seed in range(20):
        steady = series(seed, (100, 50.0))
        assert regression.change_points(steady) == []
        steady[30] *= 3
        steady[71] *= 2
        assert regression.change_points(steady) == []


def test_a_step_of_less_than_five_percent_is_not_drawn():
    assert regression.change_points(series(2, (50, 100.0), (50, 103.0), size=0.001)) == []
    assert regression.change_points(series(2, (50, 100.0), (50, 108.0), size=0.001)) == [50]


def test_short_constant_and_impossible_series_have_no_change_points():
    for values in ([], [1.0] * 5, [100.0] * 50, [0.0, 1.0] * 20):
        assert regression.change_points(values) == []


def test_of_a_long_series_the_end_is_looked_at():
    long = series(3, (8_500, 100.0), (1_500, 130.0))
    assert regression.change_points(long) == pytest.approx([8_500], abs=2)


def test_a_site_that_judges_nothing_does_not_load_scipy():
    code = (
        "import sys, apps.benchmarks.regression;"
        "sys.exit(any(name in sys.modules for name in ('scipy', 'numpy', 'ruptures')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
