"""What a refund gives back: what the charge still takes, once, searched for counterexamples."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from apps.ratelimits.policy.algorithms import EMPTY, decide, refund, standing
from apps.ratelimits.policy.rules import Algorithm, Rate

from .drawn_rates import T0, gaps, rates, run


@given(rates(), gaps())
def test_a_refund_gives_back_what_was_taken_and_no_more(rate, waits):
    state, now, _ = run(rate, waits)
    ok, idle, charged = decide(rate, state, now)
    assume(ok)
    returned = refund(rate, charged, charged, rate.cost)
    again, _, charged_again = decide(rate, returned, now)
    assert again
    assert (charged_again.a, charged_again.b) == (charged.a, charged.b)
    if rate.algorithm is not Algorithm.TOKEN_BUCKET:  # there c is what was given back
        assert charged_again.c == charged.c
    assert not returned.entries or returned.entries == idle.entries


@given(rates(), gaps())
def test_a_refund_leaves_the_state_as_if_nothing_was_charged(rate, waits):
    state, now, _ = run(rate, waits)
    ok, idle, charged = decide(rate, state, now)
    assume(ok)
    returned = refund(rate, charged, charged, rate.cost, now_us=now)
    assert (returned.a, returned.b, returned.entries) == (idle.a, idle.b, idle.entries)
    stood = [standing(rate, True, s.a, s.b, s.c, now) for s in (returned, idle)]
    assert stood[0] == stood[1]


@settings(max_examples=400)
@example(Rate(Algorithm.TOKEN_BUCKET, 1, 7, 1), [], [7])
@given(rates(), gaps(40), gaps(40))
def test_a_late_refund_frees_no_more_than_its_charge_still_takes(rate, waits, later):
    """With the charge refunded, never more is free than if it had not been made."""
    state, now, _ = run(rate, waits)
    ok, without, charged = decide(rate, state, now)
    assume(ok)
    state = charged
    for wait in later:
        now += wait
        ok, idle, after = decide(rate, state, now)
        state = after if ok else idle
        if ok:  # Whoever is admitted beside the charge is admitted without it.
            allowed, _, without = decide(rate, without, now)
            assert allowed
    state = refund(rate, state, charged, rate.cost, now_us=now)
    ok, idle, _ = decide(rate, state, now, 1)
    ok_without, idle_without, _ = decide(rate, without, now, 1)
    left = standing(rate, ok, idle.a, idle.b, idle.c, now, 1).remaining
    w = idle_without
    assert left <= standing(rate, ok_without, w.a, w.b, w.c, now, 1).remaining


def free(rate, state, now):
    ok, idle, _ = decide(rate, state, now, 1)
    return standing(rate, ok, idle.a, idle.b, idle.c, now, 1).remaining


@settings(max_examples=400)
@example(
    Rate(Algorithm.TOKEN_BUCKET, 2, 20, 2), [(0, False), (0, False), (0, 0), (5, False), (9, 0)]
)
@given(
    rates(),
    st.lists(
        st.tuples(st.integers(0, 40), st.just(False) | st.integers(0, 5)), min_size=4, max_size=40
    ),
)
def test_refunds_in_any_order_free_no_more_than_was_taken(rate, events):
    """Against a twin in which what is refunded was never charged: never is more free."""
    state, now, charges, log = EMPTY, T0, [], []
    for wait, back in events:
        now += wait
        if back is False:
            ok, idle, after = decide(rate, state, now)
            state = after if ok else idle
            if ok:
                charges.append((len(log), after))
                log.append(now)
        elif charges:
            number, charged = charges.pop(back % len(charges))
            state = refund(rate, state, charged, rate.cost, now_us=now)
            log[number] = None
    twin = EMPTY
    for at in log:
        if at is not None:
            ok, _, twin = decide(rate, twin, at)
            assert ok
    assert free(rate, state, now) <= free(rate, twin, now)


def test_a_charge_that_has_refilled_by_itself_is_not_given_back_again():
    rate = Rate(Algorithm.TOKEN_BUCKET, 1, 10, burst=1)
    _, _, charged = decide(rate, EMPTY, T0)
    _, _, later = decide(rate, charged, T0 + 20)
    returned = refund(rate, later, charged, 1, now_us=T0 + 20)
    assert returned == later
    assert not decide(rate, returned, T0 + 20)[0]


def test_of_a_charge_that_has_half_refilled_half_is_given_back():
    rate = Rate(Algorithm.TOKEN_BUCKET, 1, 10, burst=2)
    _, _, charged = decide(rate, EMPTY, T0)
    _, _, later = decide(rate, charged, T0 + 5)
    _, _, alone = decide(rate, EMPTY, T0 + 5)
    assert refund(rate, later, charged, 1, now_us=T0 + 5) == replace(alone, c=5)


def test_a_fixed_windows_charge_is_not_given_back_to_the_next_window():
    rate = Rate(Algorithm.FIXED_WINDOW, 2, 1_000, 2)
    _, _, charged = decide(rate, EMPTY, T0)
    _, _, later = decide(rate, charged, T0 + 1_000)
    assert refund(rate, later, charged, 1) == later


def test_a_sliding_windows_charge_is_given_back_to_the_window_before():
    rate = Rate(Algorithm.SLIDING_WINDOW, 2, 1_000, 2)
    _, _, charged = decide(rate, EMPTY, T0)
    _, _, next_window = decide(rate, charged, T0 + 1_500)
    assert (next_window.b, next_window.c) == (1, 1)
    returned = refund(rate, next_window, charged, 1)
    assert (returned.b, returned.c) == (1, 0)
    _, _, much_later = decide(rate, charged, T0 + 5_000)
    assert refund(rate, much_later, charged, 1) == much_later


def test_a_log_entry_is_given_back_once():
    rate = Rate(Algorithm.SLIDING_LOG, 3, 1_000, 3)
    _, _, first = decide(rate, EMPTY, T0)
    _, _, second = decide(rate, first, T0 + 1)
    once = refund(rate, second, first, 1)
    assert (once.a, once.entries) == (1, ((T0 + 1, 1),))
    assert refund(rate, once, first, 1) == once


def test_a_released_slot_is_free_and_a_stranger_releases_nothing():
    rate = Rate(Algorithm.CONCURRENCY, 2, 1_000, 2)
    _, _, one = decide(rate, EMPTY, T0, member="a")
    _, _, two = decide(rate, one, T0 + 1, member="b")
    assert refund(rate, two, two, 1, "stranger") == two
    released = refund(rate, two, two, 1, "a")
    assert (released.a, released.b) == (1, T0 + 1_001)
    assert standing(rate, True, released.a, released.b, released.c, T0 + 1).remaining == 1
    assert decide(rate, released, T0 + 1, member="c")[0]
    assert refund(rate, released, released, 1, "b") == EMPTY
