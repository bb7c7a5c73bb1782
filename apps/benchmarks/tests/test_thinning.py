from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from apps.benchmarks.thinning import thin


def test_a_short_series_is_left_alone():
    assert thin([3.0, 1.0, 2.0], most=3) == [0, 1, 2]


@given(
    st.lists(st.floats(0, 1e6), min_size=31, max_size=400),
    st.sets(st.integers(0, 30), max_size=5),
)
def test_what_matters_is_kept(values, keep):
    drawn = thin(values, keep, most=30)
    assert drawn == sorted(set(drawn))
    assert {0, len(values) - 1, *keep} <= set(drawn)
    kept = [values[place] for place in drawn]
    assert min(kept) == min(values)
    assert max(kept) == max(values)
    assert len(drawn) <= 30 + len(keep) + 2


def test_a_single_wild_run_stays():
    values = [100.0] * 5000
    values[3210] = 300.0
    drawn = thin(values, most=90)
    assert 3210 in drawn
    assert len(drawn) <= 92
