from __future__ import annotations

import gc
from itertools import groupby

import pytest

from apps.benchmarks import rounds
from apps.benchmarks.rounds import Contestant, measure


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(rounds, "ROUND_S", 0.001)
    monkeypatch.setattr(rounds, "WARM_UP_S", 0.001)


def test_everyone_is_measured_in_every_round_in_an_order_that_turns_round():
    order = []
    contestants = [Contestant(name, abs, [1]) for name in ("a", "b", "c")]
    taken = measure(contestants, 4, between=lambda contestant: order.append(contestant.name))
    assert "".join(order) == "cbaabccbaabc"
    assert {name: len(samples) for name, samples in taken.items()} == {"a": 4, "b": 4, "c": 4}


def test_rounds_are_interleaved():
    asked = []
    contestants = [Contestant(name, asked.append, [name]) for name in ("a", "b")]
    measure(contestants, 3)
    # The warm-up ab, and the rounds ba, ab, ba.
    assert "".join(name for name, _ in groupby(asked)) == "ababa"


def test_every_subject_is_asked_before_the_first_round():
    asked = []
    measure([Contestant("a", asked.append, list(range(50)))], 1)
    assert asked[:50] == list(range(50))


def test_a_round_goes_on_with_the_subjects_where_the_one_before_ended(monkeypatch):
    monkeypatch.setattr(rounds, "_block_size", lambda call_us: 2)
    asked = []
    contestant = Contestant("a", asked.append, list(range(1000)))
    measure([contestant], 2, between=lambda contestant: asked.append("end of round"))
    timed = asked[-2 * (2 * rounds.BLOCKS + 1) :]
    assert timed == [*range(20), "end of round", *range(20, 40), "end of round"]


def test_a_call_of_many_checks_costs_each_its_share(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr(rounds.time, "perf_counter", lambda: float(next(clock)))
    taken = measure([Contestant("one", abs, [1]), Contestant("ten", abs, [1], checks=10)], 1)
    assert taken["one"][0] == pytest.approx(10 * taken["ten"][0])


def test_without_subjects_there_is_nothing_to_measure():
    with pytest.raises(ValueError, match="a: no subjects"):
        measure([Contestant("a", abs, [])], 1)


def test_the_collector_is_left_as_it_was():
    before = gc.get_freeze_count()
    measure([Contestant("a", abs, [1])], 1)
    assert gc.get_freeze_count() == before == 0
    assert gc.isenabled()
