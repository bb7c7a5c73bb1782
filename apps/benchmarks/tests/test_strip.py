from __future__ import annotations

from apps.benchmarks.strip import MOST, WIDTH, strip


def test_no_samples_no_strip():
    assert strip([], 1.0) is None


def test_from_the_smallest_to_the_largest():
    made = strip([3.0, 1.0, 2.0], 2.0)
    assert made is not None
    assert made.marks == (0, WIDTH / 2, WIDTH)
    assert (made.low, made.high, made.median) == (1.0, 3.0, WIDTH / 2)


def test_equal_samples_lie_in_the_middle():
    made = strip([5.0, 5.0], 5.0)
    assert made is not None
    assert made.marks == (WIDTH / 2, WIDTH / 2)


def test_many_samples_are_thinned_but_for_the_extremes():
    made = strip([float(value) for value in range(10_000)], 5_000.0)
    assert made is not None
    assert len(made.marks) == MOST
    assert (made.marks[0], made.marks[-1]) == (0, WIDTH)
