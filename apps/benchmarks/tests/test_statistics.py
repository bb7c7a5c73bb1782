from __future__ import annotations

import statistics as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.benchmarks import statistics

SAMPLES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


def test_a_percentile_between_two_samples_is_interpolated():
    assert statistics.percentile([10, 20, 30, 40], 50) == 25
    assert statistics.percentile([10, 20, 30, 40], 95) == pytest.approx(38.5)
    assert statistics.percentile([7], 99) == 7


@given(SAMPLES)
def test_the_middle_agrees_with_the_standard_library(samples):
    assert statistics.median(samples) == pytest.approx(stdlib.median(samples))
    assert statistics.mean(samples) == pytest.approx(stdlib.fmean(samples), abs=1e-3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50))
def test_spread_agrees_with_the_standard_library(samples):
    assert statistics.deviation(samples) == pytest.approx(stdlib.stdev(samples), abs=1e-3)


@given(SAMPLES, st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_in_order_and_within_the_samples(samples, one, other):
    low, high = (statistics.percentile(samples, p) for p in sorted((one, other)))
    tolerance = 1e-6
    assert min(samples) - tolerance <= low <= high + tolerance <= max(samples) + 2 * tolerance


def test_one_outlier_moves_neither_the_median_nor_the_deviation_from_it():
    assert statistics.median([10, 11, 12, 13, 1000]) == 12
    assert statistics.mad([10, 11, 12, 13, 1000]) == 1


def test_one_sample_tells_nothing_of_spread():
    assert statistics.deviation([5.0]) == 0
    assert statistics.quartiles([5.0]) == (5, 5)


def test_ratios_are_taken_round_by_round():
    assert statistics.paired_ratios([1, 2, 30], [2, 4, 60, 7]) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("ask", [statistics.median, statistics.mean, statistics.mad])
def test_no_samples_are_refused(ask):
    with pytest.raises(ValueError, match="no samples"):
        ask([])


def test_a_percentile_beyond_100_is_refused():
    with pytest.raises(ValueError, match="use 0 to 100"):
        statistics.percentile([1], 101)
