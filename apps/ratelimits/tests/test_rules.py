"""Which rates can be held, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.errors import PolicyError
from apps.ratelimits.policy.rules import (
    MAX_EXACT,
    MAX_LOG_QUOTA,
    MAX_QUOTA,
    MAX_SLOTS,
    MAX_WINDOW_US,
    Algorithm,
    Audience,
    CountedBy,
    Counts,
    Override,
    OverrideAction,
    Rate,
    Rule,
    parse_statuses,
)

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
NOW_US = 4_102_444_800 * SECOND_US  # The year 2100.


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("quota", 0, r"quota is 0: use 1 to 100,000,000,000"),
        ("quota", -1, r"quota is -1"),
        ("quota", MAX_QUOTA + 1, r"quota is 100,000,000,001"),
        ("burst", 0, r"burst is 0"),
        ("burst", MAX_QUOTA + 1, r"burst is 100,000,000,001"),
        ("window_us", 0, r"window_us is 0"),
        ("window_us", MAX_WINDOW_US + 1, r"window_us is 31,622,400,000,001"),
        ("cost", 0, r"cost is 0"),
        ("cost", 11, r"costs 11, more than the 10 .* lower the cost or raise the quota"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_range(algorithm, field, value, said):
    sane = Rate(algorithm, 10, SECOND_US, 10)
    with pytest.raises(PolicyError, match=said):
        replace(sane, **{field: value})


def test_a_token_buckets_cost_is_bounded_by_its_burst_and_others_by_their_quota():
    assert Rate(Algorithm.TOKEN_BUCKET, 1, SECOND_US, burst=5, cost=5).cost == 5
    with pytest.raises(PolicyError, match="more than the 2 that"):
        Rate(Algorithm.TOKEN_BUCKET, 100, SECOND_US, burst=2, cost=3)
    with pytest.raises(PolicyError, match="more than the 1 that"):
        Rate(Algorithm.FIXED_WINDOW, 1, SECOND_US, burst=5, cost=5)


@pytest.mark.parametrize(
    ("quota", "window_us", "burst"),
    [
        (94_906_267, SECOND_US, 94_906_267),
        (99_999_999_977, 60 * SECOND_US, 100_000),
    ],
)
def test_a_fraction_too_fine_for_a_double_is_refused(quota, window_us, burst):
    with pytest.raises(PolicyError, match="use a quota that divides the window, or a smaller"):
        Rate(Algorithm.TOKEN_BUCKET, quota, window_us, burst)
    assert Rate(Algorithm.TOKEN_BUCKET, quota, window_us, burst=1).burst == 1


def test_a_burst_that_never_refills_is_refused():
    with pytest.raises(PolicyError, match="over 70 years to refill"):
        Rate(Algorithm.TOKEN_BUCKET, 1, MAX_WINDOW_US, burst=72)
    assert Rate(Algorithm.TOKEN_BUCKET, 1, MAX_WINDOW_US, burst=71).burst == 71


def test_a_sliding_window_too_large_to_weigh_is_refused():
    with pytest.raises(PolicyError, match="use token_bucket or fixed_window"):
        Rate(Algorithm.SLIDING_WINDOW, 10**9, 10 * DAY_US + 1, 1)
    with pytest.raises(PolicyError, match="use token_bucket or fixed_window"):
        Rate(Algorithm.SLIDING_WINDOW, MAX_QUOTA, 366 * DAY_US, 1)


@pytest.mark.parametrize(
    ("quota", "window_us", "step_us"),
    [
        (100, 60 * SECOND_US, 1),
        (700_000, SECOND_US, 1),
        (10**9, 60 * SECOND_US, 1_000),
        (10**8, 366 * DAY_US, 1_000_000),
    ],
)
def test_a_sliding_window_ages_in_the_finest_step_that_is_exact(quota, window_us, step_us):
    rate = Rate(Algorithm.SLIDING_WINDOW, quota, window_us, 1)
    assert rate.resolution_us == step_us
    assert quota * (window_us // step_us) < MAX_EXACT


def test_a_log_holds_at_most_ten_thousand():
    assert Rate(Algorithm.SLIDING_LOG, MAX_LOG_QUOTA, SECOND_US, 1).quota == 10_000
    with pytest.raises(PolicyError, match=r"10,001 is over 10,000; use sliding_window"):
        Rate(Algorithm.SLIDING_LOG, MAX_LOG_QUOTA + 1, SECOND_US, 1)


def test_slots_are_bounded_and_cost_one():
    assert Rate(Algorithm.CONCURRENCY, MAX_SLOTS, SECOND_US, 1).quota == MAX_SLOTS
    with pytest.raises(PolicyError, match=r"up to 100,000 slots and a cost of 1 \(got 100,001"):
        Rate(Algorithm.CONCURRENCY, MAX_SLOTS + 1, SECOND_US, 1)
    with pytest.raises(PolicyError, match="a cost of 1"):
        Rate(Algorithm.CONCURRENCY, 5, SECOND_US, 5, cost=2)


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("quota", [1, 3, 7, 60, 100, 999, 1_000, 5_000, 10_000])
@pytest.mark.parametrize("window_s", [1, 7, 60, 3_600, 86_400, 7 * 86_400, 31 * 86_400])
def test_a_sane_rate_is_accepted(algorithm, quota, window_s):
    assert Rate(algorithm, quota, window_s * SECOND_US, quota).quota == quota


@given(st.integers(1, MAX_QUOTA), st.integers(1, MAX_WINDOW_US), st.integers(1, MAX_QUOTA))
def test_all_that_a_token_buckets_script_adds_up_stays_exact(quota, window_us, burst):
    try:
        rate = Rate(Algorithm.TOKEN_BUCKET, quota, window_us, burst)
    except PolicyError:
        return
    whole, part = rate.emission(burst)
    assert whole + Fraction(part, rate.denominator) == Fraction(burst * window_us, quota)
    assert part + part < MAX_EXACT
    assert NOW_US + 2 * whole + 1 < MAX_EXACT


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, False),
        ({"counted_by": (CountedBy.EVERYONE,)}, False),
        ({"counted_by": (CountedBy.USER,)}, True),
        ({"counted_by": (CountedBy.ADDRESS, CountedBy.USER)}, True),
        ({"counted_by": (CountedBy.SESSION,)}, False),
        ({"audience": Audience.ANONYMOUS}, True),
        ({"groups": frozenset({"beta"})}, True),
        ({"overrides": (Override("user", "7", OverrideAction.UNLIMITED),)}, True),
        ({"overrides": (Override("group", "beta", OverrideAction.BLOCKED),)}, True),
        ({"overrides": (Override("network", "10.0.0.0/8", OverrideAction.BLOCKED),)}, False),
    ],
)
def test_the_user_is_asked_for_only_where_a_limit_needs_it(changes, needed):
    rule = Rule(1, "one", Rate(Algorithm.FIXED_WINDOW, 5, SECOND_US, 5), **changes)
    assert rule.needs_user is needed


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("401", ((401, 401),)),
        ("401, 403,5XX", ((401, 401), (403, 403), (500, 599))),
        ("400-428 499", ((400, 428), (499, 499))),
        ("", ()),
    ],
)
def test_statuses_are_ranges(text, ranges):
    assert parse_statuses(text) == ranges


@pytest.mark.parametrize("text", ["600", "4x", "99", "429-400", "200;404", "4011"])
def test_what_is_no_status_is_refused(text):
    with pytest.raises(PolicyError):
        parse_statuses(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": Counts.STATUS},
        {"counts": Counts.SIGNAL},
        {
            "counts": Counts.SIGNAL,
            "signal": "user_login_failed",
            "rate": Rate(Algorithm.CONCURRENCY, 1, 1_000_000, 1),
        },
    ],
)
def test_a_rule_that_could_never_count_is_refused(changes):
    rate = Rate(Algorithm.FIXED_WINDOW, 1, 1_000_000, 1)
    with pytest.raises(PolicyError):
        Rule(**{"id": 1, "name": "one", "rate": rate, **changes})


LEASABLE = Rate(Algorithm.FIXED_WINDOW, 20_000, SECOND_US, 1, cost=5)


@pytest.mark.parametrize(
    ("lease", "changes", "counts", "said"),
    [
        (4, {}, Counts.EVERY, "4 units at a time: take at least 5, .* at most 10,000"),
        (10_001, {}, Counts.EVERY, "10,001 units at a time"),
        (31, {"quota": 30}, Counts.EVERY, "at most 30"),
        (-1, {}, Counts.EVERY, "-1 units"),
        (50, {"algorithm": Algorithm.TOKEN_BUCKET, "burst": 50}, Counts.EVERY, "fixed window only"),
        (50, {"charge_denied": True}, Counts.EVERY, "counted denials"),
        (50, {"block_us": 1}, Counts.EVERY, "nor a block"),
        (50, {}, Counts.STATUS, "nor counting by response"),
    ],
)
def test_a_lease_that_could_not_be_kept_to_is_refused(lease, changes, counts, said):
    rate = replace(LEASABLE, **changes)
    with pytest.raises(PolicyError, match=said):
        Rule(1, "one", rate, counts=counts, statuses=((401, 401),), lease=lease)
    assert Rule(1, "one", rate, counts=counts, statuses=((401, 401),)).lease == 0


@pytest.mark.parametrize("lease", [5, 10_000])
def test_a_lease_of_a_fixed_window_is_one_request_to_ten_thousand_units(lease):
    assert Rule(1, "one", LEASABLE, lease=lease).lease == lease
