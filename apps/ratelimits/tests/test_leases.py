"""Blocks that processes take of a quota: never one request over it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.identity import DIGEST_CHARS
from apps.ratelimits.policy.rules import MAX_WINDOW_US, Algorithm, Mode, Rate, Rule
from apps.ratelimits.storage import leases as leases_module
from apps.ratelimits.storage import limiter as limiter_module
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.leases import FAST_S, LOST_S, SLOW_S, Leases
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import PackedLimits

from .elsewhere import Elsewhere, check, digests, make
from .limiters import A, B, asked, make_limiter, rule, url_of

KEYS = Keys("iota:")
START_US = 60_000_000_000


def leased(quota=100, lease=10, window_us=MAX_WINDOW_US, **changes) -> Rule:
    """The longest window, of which none ends while the tests run."""
    return rule(Algorithm.FIXED_WINDOW, quota, window_us, lease=lease, **changes)


def packed_of(*rules: Rule) -> PackedLimits:
    return PackedLimits(KEYS, rules, [0] * len(rules))


class Clock:
    def __init__(self, now_us: int = START_US) -> None:
        self.now_us = now_us

    def __call__(self) -> float:
        return self.now_us / 1_000_000


class Count:
    """What check.lua does for leased limits of one identity."""

    def __init__(self, share: int) -> None:
        self.share = share
        self.used: Counter[tuple[int, int]] = Counter()

    def ask(self, packed: PackedLimits, size: int, now_us: int) -> list[int]:
        places = [(r.id, now_us - now_us % r.rate.window_us) for r in packed.rules]
        requests = max(1, min(map(self._requests, packed.rules, places, [size] * len(places))))
        fits = [
            self.used[place] + r.rate.cost * requests <= r.rate.quota
            for r, place in zip(packed.rules, places, strict=True)
        ]
        reply = [int(all(fits)), now_us]
        for r, place, fit in zip(packed.rules, places, fits, strict=True):
            taken = r.rate.cost * requests if reply[0] else 0
            self.used[place] += taken
            reply += [int(fit), place[1], self.used[place], taken]
        return reply

    def _requests(self, r: Rule, place: tuple[int, int], size: int) -> int:
        free = r.rate.quota - self.used[place]
        return min(size, r.lease // r.rate.cost, free // self.share // r.rate.cost)


class Process:
    """One that asks ``count``; its replies come when they are fetched."""

    def __init__(self, packed: PackedLimits, count: Count, clock: Clock) -> None:
        self.packed, self.count, self.clock = packed, count, clock
        self.leases = Leases(clock)
        self.sent: list[tuple[int, float]] = []
        self.come: list[tuple[list[int], int, float]] = []

    def request(self) -> bool:
        """Whether it was served at once; else it is on its way."""
        if self.leases.serve(self.packed, (A,)) is not None:
            return True
        self.sent.append((self.leases.next_size(self.packed, (A,)), self.clock()))
        return False

    def reach(self, index: int) -> bool:
        """One that was sent reaches the server. Whether it was allowed."""
        size, asked_s = self.sent.pop(index % len(self.sent))
        reply = self.count.ask(self.packed, size, self.clock.now_us)
        self.come.append((reply, size, asked_s))
        return bool(reply[0])

    def fetch(self, index: int) -> None:
        reply, size, asked_s = self.come.pop(index % len(self.come))
        if reply[0]:
            self.leases.keep(self.packed, (A,), reply, size, asked_s)

    def held(self) -> int:
        lease = self.leases._held.get((self.packed.key, (A,)))
        return len(lease.uses) if lease else 0


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


def grow(process: Process) -> None:
    """Use up what is held and take the next block."""
    while process.request():
        pass
    process.reach(0)
    process.fetch(0)


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


# With a server.


@pytest.fixture
def limiter(each_redis):
    made = make_limiter(each_redis.url)
    made.client.flushdb()
    yield made
    made.close()


def held(limiter) -> int:
    return sum(len(lease.uses) for lease in limiter.leases._held.values())


def take_block(limiter, targets) -> None:
    while not held(limiter):
        assert limiter.check(targets).allowed


@pytest.mark.parametrize(("quota", "cost", "lease"), [(500, 1, 64), (500, 3, 64), (7, 1, 7)])
def test_one_process_admits_exactly_the_quota(limiter, quota, cost, lease):
    targets = [Target(leased(quota, lease, cost=cost), A)]
    before = asked(limiter)
    admitted = 0
    while (decision := limiter.check(targets)).allowed:
        admitted += 1
        assert decision.remaining == quota - admitted * cost
    assert admitted == quota // cost
    assert quota < 100 or asked(limiter) - before < admitted / 4
    assert not limiter.check(targets).allowed


async def test_the_event_loop_admits_exactly_the_quota(limiter):
    import asyncio

    targets = [Target(leased(500, 64), A)]
    admitted = 0
    for _ in range(12):
        decisions = await asyncio.gather(*(limiter.acheck(targets) for _ in range(50)))
        admitted += sum(decision.allowed for decision in decisions)
    assert admitted == 500
    await limiter.aclose()


def test_threads_of_one_process_admit_exactly_the_quota(limiter):
    targets = [Target(leased(3_000, 50), A)]
    admitted = Counter()

    def count(number: int) -> None:
        while True:
            if limiter.check(targets).allowed:
                admitted[number] += 1
            elif not held(limiter):
                return

    threads = [threading.Thread(target=count, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted.values()) == 3_000


def test_blocks_are_at_most_the_lease_and_the_share_of_what_is_left(each_redis):
    limiter = make_limiter(each_redis.url, local_processes=4)
    limiter.client.flushdb()
    limits = [leased(100, 50, cost=2), leased(1_000, 20, number=2)]
    used, largest = [0, 0], 0
    while True:
        packed, whom = limiter._pack([Target(limit, A) for limit in limits])
        for _ in range(4):  # It wants as much as it can get.
            limiter.leases._held.pop((packed.key, whom), None)
        command = packed.check(whom, lease=25, share=limiter._share)
        reply = limiter.redis.ask(command, "check")
        if not reply[0]:
            break
        requests = reply[5] // 2
        assert reply[9] == requests  # Of all limits the same number of requests.
        shares = [(100 - used[0]) // 8 // 2, (1_000 - used[1]) // 8]
        assert requests == max(1, min(25, 20, *shares))
        used = [used[0] + 2 * requests, used[1] + requests]
        assert [reply[4], reply[8]] == used
        largest = max(largest, requests)
    assert used == [100, 50]
    assert largest == 6
    limiter.close()


def test_a_lease_takes_no_more_than_its_limits_smallest_block(limiter):
    packed, whom = limiter._pack([Target(leased(1_000, 9, cost=2), A)])
    assert packed.most_leased == 4
    reply = limiter.redis.ask(packed.check(whom, lease=1_000, share=1), "check")
    assert reply[5] == 8


@pytest.mark.parametrize(
    "beside",
    [rule(quota=1_000, number=2), leased(1_000, number=2, mode=Mode.SHADOW)],
    ids=["is not leased", "is shadow"],
)
def test_no_block_is_taken_where_another_matching_limit(limiter, beside):
    targets = [Target(leased(1_000, 50), A), Target(beside, B)]
    limiter.peek(targets)  # A server that lacks the script is asked twice.
    before = asked(limiter)
    for _ in range(30):
        assert limiter.check(targets).allowed
    assert asked(limiter) == before + 30
    assert held(limiter) == 0
    assert limiter.peek(targets[1:]).verdicts[0].standing.remaining == 970


def test_a_look_takes_no_block(limiter):
    targets = [Target(leased(1_000, 50), A)]
    take_block(limiter, targets)
    other = make_limiter(url_of(limiter))
    before = other.peek(targets).remaining
    assert other.peek(targets).remaining == before
    assert limiter.peek(targets).remaining == before
    other.close()


def test_a_reset_in_this_process_drops_its_blocks_at_once(limiter):
    targets, others = [Target(leased(), A)], [Target(leased(), B)]
    take_block(limiter, targets)
    limiter.reset([A])
    assert held(limiter) == 0
    assert limiter.check(targets).remaining == 99
    take_block(limiter, others)
    limiter.reset([A])
    assert held(limiter)


def test_a_block_that_was_on_its_way_during_a_reset_is_not_kept(limiter, monkeypatch):
    targets = [Target(leased(), A)]
    take_block(limiter, targets)
    while held(limiter):
        limiter.check(targets)
    ask, others = limiter.redis.connections.ask, []

    def slow(command, *more):
        reply = ask(command, *more)
        if not others:
            others.append(command)
            limiter.reset([A])  # Another thread's, while the block travels.
        return reply

    monkeypatch.setattr(limiter.redis.connections, "ask", slow)
    assert limiter.check(targets).allowed
    assert others
    assert held(limiter) == 0


def test_a_block_that_is_kept_while_another_thread_resets_does_not_stay(limiter, monkeypatch):
    targets = [Target(leased(), A)]
    take_block(limiter, targets)
    while held(limiter):
        limiter.check(targets)
    keep = limiter.leases.keep

    def slow(*arguments):
        limiter.reset([A])  # Another thread's turn comes between the comparison and this.
        return keep(*arguments)

    monkeypatch.setattr(limiter.leases, "keep", slow)
    assert limiter.check(targets).allowed
    assert held(limiter) == 0


def test_an_edit_of_another_limit_keeps_the_block_and_one_of_this_does_not(limiter):
    limit = leased(1_000, 50)
    take_block(limiter, [Target(limit, A)])
    limiter.forget_rules()
    before = asked(limiter)
    assert limiter.check([Target(replace(limit, message="Slower, please."), A)]).allowed
    assert asked(limiter) == before
    for edited in (
        replace(limit, epoch=1),
        leased(900, 50),
        leased(1_000, 50, cost=2),
        leased(1_000, 50, window_us=MAX_WINDOW_US // 2),
        replace(limit, lease=0),
        replace(limit, mode=Mode.SHADOW),
        replace(limit, id=2),
    ):
        take_block(limiter, [Target(limit, A)])
        before = asked(limiter)
        limiter.check([Target(edited, A)])
        assert asked(limiter) == before + 1, edited


def test_a_late_reply_does_not_prolong_a_block(limiter, monkeypatch):
    window_us = 400_000
    targets = [Target(leased(10_000, 50, window_us=window_us), A)]
    take_block(limiter, targets)
    ask = limiter.redis.connections.ask

    def late(command, *more):
        reply = ask(command, *more)
        time.sleep(0.15)
        return reply

    while held(limiter):
        limiter.check(targets)
    monkeypatch.setattr(limiter.redis.connections, "ask", late)
    sent_s = time.monotonic()
    limiter.check(targets)
    (lease,) = limiter.leases._held.values()
    reply, asked_s, ends_s = lease.taken
    assert sent_s <= asked_s < sent_s + 0.05
    assert ends_s - asked_s == pytest.approx((reply[3] + window_us - reply[1]) / 1e6, abs=1e-4)
    assert ends_s < time.monotonic() + window_us / 1e6 - 0.14 or reply[1] - reply[3] < 150_000


def test_a_bucket_ahead_of_the_servers_clock_gives_no_block_beyond_its_window(limiter):
    """As where the clock was set back: the bucket's time stands still until it is reached."""
    limit = leased(1_000, 50, window_us=60_000_000)
    targets = [Target(limit, A)]
    ahead_us = 3_600_000_000
    seconds, micros = limiter.client.time()
    seen_us = (seconds * 1_000_000 + micros + ahead_us) // 60_000_000 * 60_000_000 + 20_000_000
    head = b"\x02" + seen_us.to_bytes(7, "little")
    limiter.client.set(limiter.keys.bucket(A), head)
    take_block(limiter, targets)
    (lease,) = limiter.leases._held.values()
    reply, asked_s, ends_s = lease.taken
    assert (reply[1], reply[3]) == (seen_us, seen_us - 20_000_000)
    assert ends_s - asked_s == pytest.approx(40, abs=1e-3)
    # All that is used so is counted in that one window.
    assert limiter.peek(targets).remaining == 1_000 - reply[4]
    assert limiter.client.pttl(limiter.keys.bucket(A)) <= 40_001


def test_a_block_is_served_while_redis_is_away(limiter, monkeypatch):
    targets = [Target(leased(1_000, 50), A)]
    for _ in range(40):
        limiter.check(targets)
    left = held(limiter)
    assert left

    def away(command, *more):
        raise ConnectionError("away")

    monkeypatch.setattr(limiter.redis.connections, "ask", away)
    decisions = [limiter.check(targets) for _ in range(left + 1)]
    degraded = [decision.verdicts[0].degraded for decision in decisions]
    assert degraded == [False] * left + [True]


def used(limiter, target) -> int:
    """Units that Redis has counted, blocks that are held included."""
    other = make_limiter(url_of(limiter))
    remaining = other.peek([target]).remaining
    other.close()
    return target.rule.rate.quota - remaining


@pytest.mark.parametrize("cost", [1, 3])
def test_what_a_process_took_and_did_not_use_is_given_back_at_its_end(limiter, cost):
    targets = [
        Target(leased(1_000, 30, cost=cost), A),
        Target(leased(5_000, 60, cost=2, number=2), B),
    ]
    for _ in range(40):
        assert limiter.check(targets).allowed
    left = held(limiter)
    assert left
    assert used(limiter, targets[0]) == (40 + left) * cost
    assert limiter.give_back_leases() == 2
    assert [used(limiter, target) for target in targets] == [40 * cost, 40 * 2]
    assert held(limiter) == 0
    # Nothing is given back twice, and what is asked from now on is counted.
    assert limiter.give_back_leases() == 0
    assert limiter.check(targets).allowed
    assert used(limiter, targets[0]) - held(limiter) * cost == 41 * cost


def test_blocks_of_many_clients_are_given_back_in_parts(limiter, monkeypatch):
    monkeypatch.setattr(limiter_module, "MOST_GIVEN_BACK", 3)
    targets = [Target(leased(1_000, 30), name * DIGEST_CHARS) for name in "abcdefgh"]
    for target in targets:
        for _ in range(9):
            assert limiter.check([target]).allowed
    blocks = sum(bool(lease.uses) for lease in limiter.leases._held.values())
    assert blocks > 3
    assert limiter.give_back_leases() == blocks
    assert [used(limiter, target) for target in targets] == [9] * 8


def test_a_block_of_a_window_that_is_over_is_not_given_back_to_the_next():
    clock = Clock()
    packed = packed_of(leased(100, 10, 1_000_000))
    leases = Leases(clock)
    leases.keep(packed, (A,), [1, clock.now_us, 1, clock.now_us, 5, 5], 5, clock())
    clock.now_us += 1_000_000
    assert leases.give_up() == []
    assert len(leases) == 0


def test_where_redis_is_away_the_rest_is_lost_and_the_end_is_not_held_up(limiter, monkeypatch):
    take_block(limiter, [Target(leased(), A)])

    def away(command, *more):
        raise ConnectionError("away")

    monkeypatch.setattr(limiter.redis.connections, "ask", away)
    with pytest.raises(Unavailable):
        limiter.give_back_leases()
    assert held(limiter) == 0


def test_an_engine_that_stops_gives_back_what_it_took(engine):
    make(quota=100_000, lease=1_000, window_unit=86_400)
    engine.start()
    engine.refresh()
    for _ in range(50):
        assert check(engine, "192.0.2.1").allowed
    assert held(engine.limiter)
    engine.stop()
    assert held(engine.limiter) == 0
    engine.start()
    assert check(engine, "192.0.2.1").remaining == 100_000 - 51


def test_a_reset_in_one_process_drops_the_blocks_of_another_within_a_second(engine):
    make(quota=100_000, lease=1_000, window_unit=86_400)
    engine.refresh()
    elsewhere = Elsewhere()
    try:
        units = 0
        while units < 100:
            _, _, units = elsewhere.check("192.0.2.1")
        engine.reset(digests(engine, "192.0.2.1"))
        began, served = time.monotonic(), 0
        while elsewhere.check("192.0.2.1")[2]:
            served += 1
            assert time.monotonic() < began + 1
            time.sleep(0.02)
        assert served < units - 20
        assert check(engine, "192.0.2.1").remaining >= 100_000 - 3
    finally:
        elsewhere.stop()
