"""Blocks that processes take of a quota, by a clock passed in: never one request over it."""

from __future__ import annotations

import os
import signal
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.rules import Algorithm, Rate, Rule
from apps.ratelimits.storage import leases as leases_module
from apps.ratelimits.storage.leases import FAST_S, LOST_S, SLOW_S, Leases

from .leasing import START_US, Clock, Count, Process, grow, leased, packed_of
from .limiters import A


@st.composite
def leased_rules(draw):
    rules = []
    for number in range(1, draw(st.integers(1, 3)) + 1):
        quota = draw(st.integers(1, 60))
        cost = draw(st.integers(1, min(3, quota)))
        window_us = draw(st.sampled_from([50_000, 70_000, 300_000]))
        rate = Rate(Algorithm.FIXED_WINDOW, quota, window_us, quota, cost)
        lease = draw(st.integers(cost, quota))
        rules.append(Rule(id=number, name=f"limit-{number}", rate=rate, lease=lease))
    return rules


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["request"] * 4 + ["reach"] * 2 + ["fetch"] * 2),
        st.integers(0, 3),
        st.integers(0, 9),
        st.sampled_from([0, 0, 0, 1, 700, 9_000, 45_000]),
    ),
    min_size=50,
    max_size=150,
)


@given(leased_rules(), st.sampled_from([1, 2, 8]), STEPS)
def test_no_window_of_any_limit_admits_one_request_too_many(rules, share, steps):
    """Requests are sent, reach the server and are answered in any order, late or at once."""
    packed, clock, count = packed_of(*rules), Clock(), Count(share)
    processes = [Process(packed, count, clock) for _ in range(4)]
    admitted: Counter[tuple[int, int]] = Counter()
    for what, who, index, pause_us in steps:
        clock.now_us += pause_us
        process = processes[who]
        served = False
        if what == "request":
            served = process.request()
        elif what == "reach" and process.sent:
            served = process.reach(index)
        elif what == "fetch" and process.come:
            process.fetch(index)
        if served:
            for r in rules:
                place = (r.id, clock.now_us - clock.now_us % r.rate.window_us)
                admitted[place] += r.rate.cost
                assert admitted[place] <= min(r.rate.quota, count.used[place])


@given(
    st.integers(1, 200),
    st.integers(1, 40),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20)), max_size=40),
)
def test_what_processes_hold_when_the_quota_is_used_up_is_less_than_a_block_each(
    quota, lease, cost, bursts
):
    lease, quota = max(lease, cost), max(quota, lease, cost)
    packed, clock = packed_of(leased(quota, lease, cost=cost)), Clock()
    count = Count(1)
    processes = [Process(packed, count, clock) for _ in range(4)]
    admitted = 0

    def requests(process: Process, at_once: int) -> int:
        served = sum(process.request() for _ in range(at_once))
        while process.sent:
            served += process.reach(0)
        while process.come:
            process.fetch(0)
        return served

    for who, at_once in bursts:
        clock.now_us += 100
        admitted += requests(processes[who], at_once)
        assert all(process.held() < max(1, lease // cost) for process in processes)
    # And then one process alone is asked.
    while more := requests(processes[0], 1):
        admitted += more
    unused = quota // cost - admitted
    assert unused == sum(process.held() for process in processes[1:])
    assert unused <= 3 * (lease // cost - 1)


def test_one_of_many_threads_asks_for_a_block_and_the_others_for_their_own_request():
    clock, packed, count = Clock(), packed_of(leased(10_000, 64)), Count(2)
    process = Process(packed, count, clock)
    for _ in range(7):
        grow(process)
    while process.held():
        process.request()
    assert not any(process.request() for _ in range(50))
    assert sorted(size for size, _ in process.sent) == [1] * 49 + [64]
    for _ in range(50):
        process.reach(0)
    for _ in range(50):
        process.fetch(0)
    assert process.held() == 63


def test_a_block_that_never_came_is_asked_for_again():
    clock, packed = Clock(), packed_of(leased(10_000, 64))
    process = Process(packed, Count(2), clock)
    grow(process)
    assert not process.request()
    assert process.sent.pop()[0] == 2
    assert process.leases.next_size(packed, (A,)) == 1
    clock.now_us += int(LOST_S * 1e6)
    assert [process.leases.next_size(packed, (A,)) for _ in range(2)] == [1, 1]
    clock.now_us += int(LOST_S * 1e6)
    grow(process)
    grow(process)
    assert process.held() == 1


def test_blocks_follow_the_demand():
    clock, packed, count = Clock(), packed_of(leased(10**6, 100)), Count(1)
    process = Process(packed, count, clock)
    sizes = []

    def block(lasts_s: float) -> None:
        process.request()
        sizes.append(process.sent[0][0])
        process.reach(0)
        process.fetch(0)
        while process.held():
            process.request()
        clock.now_us += int(lasts_s * 1e6)

    for _ in range(9):
        block(FAST_S / 2)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    block((FAST_S + SLOW_S) / 2)
    block(SLOW_S + 0.01)
    assert sizes[-2:] == [100, 100]
    for _ in range(8):
        block(SLOW_S + 0.01)
    assert sizes[11:] == [50, 25, 12, 6, 3, 1, 1, 1]


def test_a_lower_lease_makes_blocks_smaller_at_once():
    clock, count = Clock(), Count(1)
    process = Process(packed_of(leased(10**6, 100)), count, clock)
    for _ in range(9):
        grow(process)
    process.packed = packed_of(leased(10**6, 10))
    clock.now_us += int(1e6 * (FAST_S + SLOW_S) / 2)
    while process.request():
        pass
    assert process.sent[0][0] == 10


def test_a_block_is_of_the_window_in_which_it_was_taken():
    clock = Clock(START_US + 59_000_000)
    packed = packed_of(leased(100, 10, 60_000_000))
    process = Process(packed, Count(1), clock)
    for _ in range(4):
        grow(process)
    assert process.held()
    clock.now_us = START_US + 59_999_999
    assert process.request()
    clock.now_us = START_US + 60_000_000
    assert process.held()
    assert not process.request()
    process.reach(0)
    process.fetch(0)
    starts = process.leases._held[packed.key, (A,)].taken.starts
    assert starts == [START_US + 60_000_000]


def test_a_block_ends_with_the_shortest_of_its_windows():
    clock = Clock(START_US + 900_000)
    packed = packed_of(leased(100, 10, 1_000_000), leased(100, 10, 60_000_000, number=2))
    process = Process(packed, Count(1), clock)
    for _ in range(4):
        grow(process)
    held = process.held()
    assert held
    clock.now_us = START_US + 1_000_000
    assert not process.request()
    process.reach(0)
    process.fetch(0)
    assert process.held() < held + 10
    # Of the longer window those units are lost: it counts more than was admitted.
    assert process.count.used[1, START_US + 1_000_000] < process.count.used[2, START_US]


def test_a_blocks_age_counts_from_when_it_was_asked_for():
    clock = Clock(START_US + 58_000_000)
    packed = packed_of(leased(100, 10, 60_000_000))
    leases, count = Leases(clock), Count(1)
    reply = count.ask(packed, 10, START_US + 58_000_000)
    asked_s = clock()
    clock.now_us += 1_500_000  # So long the reply was on its way.
    leases.keep(packed, (A,), reply, 10, asked_s)
    clock.now_us = START_US + 59_999_999
    assert leases.serve(packed, (A,)) is not None
    clock.now_us += 1
    assert leases.serve(packed, (A,)) is None


def test_a_block_of_the_last_window_that_comes_late_replaces_none_of_this_one():
    clock = Clock(START_US + 59_900_000)
    packed = packed_of(leased(100, 10, 60_000_000))
    leases, count = Leases(clock), Count(1)
    first, first_s = count.ask(packed, 10, clock.now_us), clock()
    clock.now_us += 200_000
    leases.keep(packed, (A,), count.ask(packed, 10, clock.now_us), 10, clock())
    leases.keep(packed, (A,), first, 10, first_s)
    assert sum(leases.serve(packed, (A,)) is not None for _ in range(20)) == 9


def test_a_server_whose_clock_was_set_back_gives_blocks_that_are_used():
    """Its buckets are gone, else they would keep its time from running backwards."""
    clock = Clock(START_US + 100_000)
    packed = packed_of(leased(100, 10, 60_000_000))
    leases = Leases(clock)
    leases.keep(packed, (A,), Count(1).ask(packed, 10, clock.now_us), 10, clock())
    clock.now_us += 100_000
    leases.keep(packed, (A,), Count(1).ask(packed, 10, START_US - 5_000_000), 10, clock())
    assert sum(leases.serve(packed, (A,)) is not None for _ in range(20)) == 9
    leases.keep(packed, (A,), Count(1).ask(packed, 10, START_US - 5_000_000), 10, clock())
    clock.now_us += 5_000_000
    assert leases.serve(packed, (A,)) is None


def test_each_served_request_is_told_as_if_it_had_been_counted_by_itself():
    clock, packed = Clock(), packed_of(leased(100, 10, cost=2, window_us=60_000_000))
    leases, count = Leases(clock), Count(1)
    clock.now_us += 1_000_000
    first = leases.keep(packed, (A,), count.ask(packed, 5, clock.now_us), 5, clock())
    assert (first.allowed, first.remaining) == (True, 98)
    clock.now_us += 2_000_000
    later = [leases.serve(packed, (A,)) for _ in range(4)]
    assert [decision.remaining for decision in later] == [96, 94, 92, 90]
    assert later[0].reset_us == 57_000_000


def test_the_lease_that_was_begun_first_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(leases_module, "MOST_LEASES", 3)
    clock = Clock(START_US + 59_900_000)
    packed, count = packed_of(leased(1_000, 10, 60_000_000)), Count(1)
    leases = Leases(clock)

    def take(who: str) -> None:
        leases.keep(packed, (who,), count.ask(packed, 10, clock.now_us), 10, clock())

    take("a")
    take("b")
    clock.now_us += 200_000
    for who in "acd":  # Of the next window.
        take(who)
    assert len(leases) == 3
    assert [leases.serve(packed, (who,)) is not None for who in "acd"] == [True] * 3


def test_a_child_process_serves_nothing_of_its_parents_block():
    packed = packed_of(leased(1_000, 10, 60_000_000))
    leases = Leases(Clock())
    leases.keep(packed, (A,), Count(1).ask(packed, 10, START_US), 10, START_US / 1e6)
    with leases._lock:  # As where another thread of the parent is at it.
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(5)  # Where it waits for a thread that it does not have.
                served = leases.serve(packed, (A,)) is not None
                leases.forget([A])
                os._exit(served)
            except BaseException:
                os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert leases.serve(packed, (A,)) is not None
