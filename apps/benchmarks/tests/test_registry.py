from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

from apps.benchmarks import suites
from apps.benchmarks.records import Direction
from apps.benchmarks.registry import Registry, Samples, UnknownBenchmark, load_suites
from apps.benchmarks.targets import Target

NOT_SUITES = {"ours", "peers", "race"}


@pytest.fixture
def registry():
    made = Registry()

    @made(
        "first",
        suite="limiter",
        metric="time",
        unit="us",
        direction=Direction.LOWER,
        parameters={"limits": 3},
        targets=(Target("what"),),
    )
    def first(run):
        return Samples({"iota": (1.0, 2.0)}, {"other": "away"})

    @made(
        "second",
        suite="limiter",
        metric="time",
        unit="us",
        direction=Direction.LOWER,
        sets=("quick", "full"),
    )
    def second(run):
        return Samples({})

    return made


def test_what_is_registered_is_found_by_name_in_the_order_of_registration(registry):
    assert [one.name for one in registry.named([])] == ["first", "second"]
    assert [one.name for one in registry.named(["second", "first"])] == ["first", "second"]
    assert [one.name for one in registry.named(["second"])] == ["second"]


def test_samples_become_results_with_the_parameters_that_were_registered(registry):
    (first,) = registry.named(["first"])
    outcome = first.measure(None)
    result = outcome.results["iota"]
    assert (result.metric, result.unit, result.samples) == ("time", "us", (1.0, 2.0))
    assert result.parameters == {"limits": 3, "benchmark": "first", "contestant": "iota"}
    assert outcome.absent == {"other": "away"}


def test_an_unknown_name_is_answered_with_those_there_are(registry):
    with pytest.raises(UnknownBenchmark, match="named third; there are: first, second"):
        registry.named(["first", "third"])


def test_a_name_is_taken_once(registry):
    with pytest.raises(ValueError, match="two benchmarks are named 'first'"):
        registry("first", suite="", metric="", unit="", direction=Direction.LOWER)(print)


def test_every_module_of_the_suites_is_loaded():
    (folder,) = suites.__path__
    found = {module.name for module in pkgutil.iter_modules([str(Path(folder))])}
    assert found == {*suites.MODULES, *NOT_SUITES}


def test_every_row_of_the_designs_table_is_registered():
    names = {one.name for one in load_suites().named([]) if one.targets}
    assert names == {
        "one-limit",
        "three-limits",
        "fixed-window",
        "ten-limits",
        "server-time",
        "denied",
        "leased",
        "in-flight",
        "matching",
        "compile",
        "memory",
        "http-stock-sync",
        "http-stock-async",
        "http-bare-sync",
        "http-bare-async",
    }


def test_a_benchmark_is_in_the_sets_that_it_names_and_in_full_where_it_names_none(registry):
    assert [one.name for one in registry.in_set("full")] == ["first", "second"]
    assert [one.name for one in registry.in_set("quick")] == ["second"]
    assert registry.in_set("analysis") == []
    with pytest.raises(UnknownBenchmark, match="'slow'; there are: quick, full, analysis"):
        registry.in_set("slow")
    words = {"suite": "limiter", "metric": "time", "unit": "us", "direction": Direction.LOWER}
    with pytest.raises(ValueError, match="in no such set: daily"):
        registry("third", **words, sets=("daily",))


def test_what_ours_is_measured_beside_are_references():
    found = {one.name: one.references for one in load_suites().named([])}
    assert {"floor"} == found["one-limit"]
    assert {"limits", "django-ratelimit", "the fastest peer"} <= found["fixed-window"]
    assert found["server-time"] == {"limits, 1", "limits, 3", "limits, 10"}
    assert found["redis-ping"] == frozenset()


def test_each_set_has_what_it_is_for():
    registry = load_suites()
    assert {one.suite for one in registry.in_set("quick")} == {"limiter", "redis", "configuration"}
    assert {one.name for one in registry.in_set("quick")} < {
        one.name for one in registry.in_set("full")
    }
    assert {one.name for one in registry.in_set("analysis")} == {
        "scaling-keys",
        "scaling-limits",
        "scaling-threads",
    }
