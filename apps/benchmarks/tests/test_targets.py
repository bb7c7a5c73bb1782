from __future__ import annotations

import pytest

from apps.benchmarks.records import Direction, Result
from apps.benchmarks.targets import FASTEST_PEER, FLOOR, OURS, Outcome, Sense, Target, judge

PEERS = ("slow", "quick")


def outcome(direction=Direction.LOWER, absent=(), **samples):
    results = {
        name: Result("suite", "metric", "us", direction, tuple(taken))
        for name, taken in samples.items()
    }
    return Outcome(results, dict(absent))


def ask(target, found):
    return judge("row", target, found, PEERS)


@pytest.mark.parametrize(("ours", "met"), [(74, True), (75, True), (76, False)])
def test_a_cost_is_met_up_to_its_bound(ours, met):
    row = ask(Target("1 limit", FLOOR, Sense.AT_MOST, 0.75), outcome(iota=[ours], floor=[100]))
    assert (row.met, row.ratio) == (met, ours / 100)
    assert row.target == "<= 0.75 x"


@pytest.mark.parametrize(("ours", "met"), [(50, True), (51, False)])
def test_to_be_so_many_times_as_fast_is_the_others_time_over_ours(ours, met):
    row = ask(Target("1 limit", "slow", Sense.AT_LEAST, 2), outcome(iota=[ours], slow=[100]))
    assert (row.met, row.ratio) == (met, 100 / ours)


def test_more_than_does_not_take_as_fast_for_faster():
    row = ask(Target("1 limit", "slow", Sense.MORE_THAN, 1), outcome(iota=[100], slow=[100]))
    assert row.met is False


def test_where_more_is_better_the_ratio_is_ours_over_the_others():
    found = outcome(Direction.HIGHER, iota=[80], floor=[100])
    row = ask(Target("requests", FLOOR, Sense.AT_LEAST, 0.8), found)
    assert (row.met, row.ratio) == (True, 0.8)


@pytest.mark.parametrize(
    ("direction", "fastest"), [(Direction.LOWER, "quick"), (Direction.HIGHER, "slow")]
)
def test_the_fastest_peer_is_named_by_the_row(direction, fastest):
    found = outcome(direction, iota=[10], slow=[90], quick=[40])
    row = ask(Target("1 limit", FASTEST_PEER, Sense.AT_LEAST, 1), found)
    assert row.against == fastest


def test_a_floor_that_is_faster_still_is_no_peer():
    found = outcome(iota=[10], floor=[1], slow=[90], quick=[40])
    assert ask(Target("1 limit", FASTEST_PEER, Sense.AT_LEAST, 1), found).against == "quick"


def test_a_machine_that_slows_down_in_the_middle_moves_the_figures_and_not_the_ratio():
    found = outcome(iota=[10, 20, 30], floor=[20, 40, 60])
    row = ask(Target("1 limit", FLOOR, Sense.AT_MOST, 0.5), found)
    assert (row.ratio, row.ratio_quartiles, row.met) == (0.5, (0.5, 0.5), True)
    assert (row.measured, row.other) == (20, 40)


def test_a_peer_that_is_not_installed_is_no_pass_and_the_row_says_so():
    found = outcome(iota=[1], slow=[90], absent={"quick": "not installed"})
    row = ask(Target("1 limit", FASTEST_PEER, Sense.AT_LEAST, 2), found)
    assert (row.met, row.ratio, row.note) == (False, 90, "quick: not installed")


def test_no_peer_at_all_is_no_pass():
    found = outcome(iota=[1], absent=dict.fromkeys(PEERS, "not installed"))
    row = ask(Target("1 limit", FASTEST_PEER, Sense.AT_LEAST, 2), found)
    assert (row.met, row.measured) == (False, 1)
    assert row.note == "slow: not installed; quick: not installed"


def test_a_benchmark_that_failed_misses_its_targets_and_says_why():
    row = ask(Target("1 limit", FLOOR, Sense.AT_MOST, 1), Outcome(error="OSError: gone"))
    assert (row.met, row.note) == (False, "OSError: gone")


def test_without_a_bound_nothing_is_missed():
    found = outcome(iota=[3])
    assert ask(Target("in the server"), found).met is None
    assert ask(Target("in the server", "slow"), found).met is None
    assert ask(Target("in the server"), Outcome(error="OSError: gone")).met is None


def test_another_than_ours_can_be_measured():
    found = outcome(token_bucket=[3], slow=[6])
    row = ask(Target("bytes", "slow", Sense.AT_MOST, 0.5, of="token_bucket"), found)
    assert (row.met, row.measured, row.other) == (True, 3, 6)
    assert OURS not in found.results
