from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from apps.benchmarks.records import Direction, Result


def result(*samples, direction=Direction.LOWER):
    return Result("limiter", "time per check", "us", direction, samples, {"limits": 1})


def test_the_figures_are_derived_from_the_samples():
    found = result(4.0, 1.0, 3.0, 2.0)
    assert (found.n, found.minimum, found.p50, found.maximum, found.mean) == (4, 1, 2.5, 4, 2.5)
    assert found.quartiles == (1.75, 3.25)
    assert found.mad == 1
    assert found.deviation == pytest.approx(1.29, abs=0.01)


def test_the_best_is_the_lowest_time_and_the_highest_throughput():
    assert result(4.0, 1.0).best == 1
    assert result(4.0, 1.0, direction=Direction.HIGHER).best == 4


def test_it_becomes_json_with_its_samples():
    found = json.loads(json.dumps(result(4.0, 1.0).as_dict()))
    assert found["samples"] == [4, 1]
    assert (found["n"], found["p50"], found["direction"]) == (2, 2.5, "lower")
    assert found["parameters"] == {"limits": 1}


def test_a_result_without_samples_is_refused():
    with pytest.raises(ValueError, match="limiter/time per check: no samples"):
        result()


def test_it_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        result(1.0).unit = "s"
