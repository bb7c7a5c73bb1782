"""What staff are told of a replay."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from apps.ratelimits.policy.judging import Judge
from apps.ratelimits.policy.preview import from_json, preview
from apps.ratelimits.policy.quotas import rounded_up
from apps.ratelimits.policy.replay import Said, Stopped, replay
from apps.ratelimits.policy.rules import (
    Algorithm,
    CountedBy,
    Counts,
    Override,
    OverrideAction,
    PathKind,
    PathPattern,
)
from apps.ratelimits.policy.traffic import TOOK_UNKNOWN, Batch, Outcome, What

from .limiters import rule
from .test_replay import WHAT, batch, said, who

MINUTE_US = 60_000_000
START_US = 1_800_000_000 * 1_000_000


def tried(traffic: Batch, one, now=None):
    judges = [each and Judge(each, str, now_us=0) for each in (one, now)]
    return preview(traffic, *judges)


def test_it_says_how_many_who_when_and_where():
    rows = [(START_US + n * 1_000_000, "a" if n < 8 else "b", 0, 0, n % 2) for n in range(12)]
    whats = (WHAT, What("POST", "/users/{d1}", "", "u", ()))
    found = tried(batch(rows, whats=whats), rule(quota=3), rule(quota=6))
    assert (found.draft.denied, found.draft.matched) == (6, 12)
    assert (found.draft.people_denied, found.draft.people) == (2, 2)
    assert (found.now.denied, found.now.people_denied) == (2, 1)
    assert [(row.name, row.denied, row.matched) for row in found.identities] == [
        ("a", 5, 8),
        ("b", 1, 4),
    ]
    assert {(row.kind, row.name): row.matched for row in found.paths} == {
        ("GET", "/"): 6,
        ("POST", "/users/{…}"): 6,
    }
    assert found.step_us == 1_000_000
    assert sum(step.denied for step in found.series) == 6
    assert [step.was_denied for step in found.series] == [0] * 6 + [1, 1] + [0] * 4
    assert from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    ("now", "alike"),
    [
        (rule(quota=2), True),
        (rule(quota=9, window_us=2 * MINUTE_US, algorithm=Algorithm.FIXED_WINDOW), True),
        (rule(quota=3, counts=Counts.STATUS, statuses=((429, 429),)), True),
        (rule(quota=2, path=PathPattern(PathKind.EXACT, "/users/{d1}")), False),
        (rule(quota=2, counted_by=(CountedBy.EVERYONE,)), False),
    ],
)
def test_the_limit_as_it_is_is_told_as_if_it_were_tried_alone(now, alike):
    """What both have in common is found out once."""
    draft = rule(quota=3)
    rows = [(START_US + n * 1_000_000, "abc"[n % 3], n % 2, 0, n % 2) for n in range(30)]
    whats = (WHAT, What("POST", "/users/{d1}", "", "u", ()))
    traffic = batch(rows, whats=whats, outcomes=(Outcome(200, ()), Outcome(429, (2,))))
    judges = [Judge(each, str, now_us=0) for each in (draft, now)]
    assert judges[0].groups_as(judges[1]) is alike
    assert tried(traffic, draft, now).now == tried(traffic, now).draft
    assert tried(traffic, draft, now).draft == tried(traffic, draft).draft


def test_an_override_with_a_quota_of_its_own_is_not_taken_for_the_limits_own():
    """Its rate may be that of the draft, and does not change with it."""
    own = Override("network", "10.0.0.0/8", OverrideAction.QUOTA, quota=3)
    draft, now = (rule(quota=quota, overrides=(own,)) for quota in (3, 9))
    judges = [Judge(each, str, now_us=0) for each in (draft, now)]
    assert not judges[0].groups_as(judges[1])
    blocked = replace(own, action=OverrideAction.BLOCKED, quota=0)
    judges = [Judge(replace(each, overrides=(blocked,)), str, now_us=0) for each in (draft, now)]
    assert judges[0].groups_as(judges[1])


def test_of_nothing_it_says_nothing():
    found = tried(Batch(), rule(), rule())
    assert (found.records, found.series, found.use.suggested) == (0, (), None)
    assert from_json(json.loads(json.dumps(found.as_json()))) == found


def test_what_others_denied_is_not_charged():
    """Number 2 denied every other request: so this one has half as much to do."""
    rows = [(START_US + n, "a", n % 2) for n in range(8)]
    traffic = batch(rows, outcomes=(Outcome(200, ()), Outcome(429, (2,))))
    assert said(traffic, rule(quota=3)) == [
        Said.ALLOWED, Said.OTHERS, Said.ALLOWED, Said.OTHERS,
        Said.ALLOWED, Said.BOTH, Said.DENIED, Said.BOTH,
    ]  # fmt: skip
    found = tried(traffic, rule(quota=3))
    assert (found.draft.matched, found.draft.denied, found.draft.others) == (4, 1, 4)


def test_what_it_denied_itself_is_tried_again():
    rows = [(START_US + n, "a", int(n > 1)) for n in range(4)]
    traffic = batch(rows, outcomes=(Outcome(200, ()), Outcome(429, (1,))))
    assert said(traffic, rule(quota=9)) == [Said.ALLOWED] * 4


def test_slots_are_held_for_as_long_as_requests_took():
    rows = [(START_US, "a", 0, 100), (START_US + 50, "a", 0, 10), (START_US + 100, "a", 0, 10)]
    limited = rule(Algorithm.CONCURRENCY, quota=1)
    assert said(batch(rows), limited) == [Said.ALLOWED, Said.DENIED, Said.ALLOWED]
    streamed = [(START_US, "a", 0, TOOK_UNKNOWN)]
    found = tried(batch(streamed), limited)
    assert (found.draft.untold, found.draft.matched) == ({"duration": 1}, 0)


def test_what_does_not_count_by_its_response_is_given_back_when_it_ended():
    limited = rule(quota=1, counts=Counts.STATUS, statuses=((400, 499),))
    rows = [
        (START_US, "a", 0, 100),
        (START_US + 50, "a", 0, 10),  # While the first is under way.
        (START_US + 100, "a", 1, 10),
        (START_US + 200, "a", 0, 10),
    ]
    outcomes = (Outcome(200, ()), Outcome(404, ()))
    assert said(batch(rows, outcomes=outcomes), limited) == [
        Said.ALLOWED, Said.DENIED, Said.ALLOWED, Said.DENIED,
    ]  # fmt: skip


def test_a_sample_of_everyone_together_is_scaled():
    rows = [(START_US + n, f"n{n}") for n in range(30)]
    limited = rule(quota=100, counted_by=(CountedBy.EVERYONE,))
    found = tried(batch(rows, sample=10), limited)
    assert (found.draft.denied, found.draft.scaled) == (20, 10)
    assert found.use.most == 300


def test_the_suggestion_leaves_99_of_100_alone():
    rows = [
        (START_US + i * 400_000 + n, f"n{n}") for n in range(200) for i in range(1 + n // 4 % 40)
    ]
    rows += [(START_US + i, "greedy") for i in range(5_000)]
    for algorithm in (Algorithm.TOKEN_BUCKET, Algorithm.FIXED_WINDOW, Algorithm.SLIDING_LOG):
        found = tried(batch(sorted(rows)), rule(algorithm, quota=10)).use
        assert (found.identities, found.most) == (201, 5_000)
        assert found.p50 <= found.p95 <= found.p99 == 40
        assert found.suggested == 40
        kept = tried(batch(sorted(rows)), rule(algorithm, quota=found.suggested)).draft
        assert kept.people_denied == 1


def test_of_few_it_leaves_out_nobody():
    rows = [(START_US + i, name) for name, number in (("a", 3), ("b", 37)) for i in range(number)]
    found = tried(batch(sorted(rows)), rule(quota=1, cost=1)).use
    assert (found.identities, found.most, found.suggested) == (2, 37, 37)


def test_slots_are_suggested_by_how_many_there_were_at_once():
    rows = [(START_US + n * 10, "a", 0, 35) for n in range(20)]
    assert tried(batch(rows), rule(Algorithm.CONCURRENCY, quota=1)).use.suggested == 4


@pytest.mark.parametrize(("number", "rounded"), [(1, 1), (37, 37), (137, 140), (1_234, 1_300)])
def test_it_is_rounded_up_to_two_figures(number, rounded):
    assert rounded_up(number) == rounded


def test_it_can_be_stopped():
    traffic = batch([(START_US + n, f"n{n % 3}") for n in range(60_000)])
    judge = Judge(rule(), str, now_us=0)
    heard = []
    with pytest.raises(Stopped):
        replay(traffic, judge, report=lambda done: heard.append(done) or len(heard) < 2)
    assert len(heard) == 2


def test_a_hundred_thousand_take_about_a_second():
    """A million in under ten: of that only a tenth, so that a busy machine does not fail it."""
    names = [f"n{n}" for n in range(5_000)]
    rows = [(START_US + n * 997, n % 5_000) for n in range(100_000)]
    traffic = batch([(at, names[who]) for at, who in rows[:5_000]], whos=list(map(who, names)))
    for at, place in rows[5_000:]:
        for column, value in zip(
            (traffic.at_us, traffic.took_us, traffic.what, traffic.who, traffic.outcome),
            (at, 1_000, 0, place, 0),
            strict=True,
        ):
            column.append(value)
    limited = rule(Algorithm.TOKEN_BUCKET, quota=10, path=PathPattern(PathKind.PREFIX, "/"))
    began_s = time.process_time()
    found = tried(traffic, limited, limited)
    assert time.process_time() - began_s < 3
    assert found.draft.matched == 100_000
