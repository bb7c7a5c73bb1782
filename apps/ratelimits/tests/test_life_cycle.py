"""Where in its life a limit is: by its mode, its schedule and a clock that is passed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.ratelimits import life_cycle, ruleset
from apps.ratelimits.engine import Engine
from apps.ratelimits.life_cycle import Phase, life, phase, schedule
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import RequestFacts

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FACTS = RequestFacts("GET", "/api/test", "203.0.113.9")


def limit(**changes) -> RateLimit:
    return RateLimit(**{"name": "one", "quota": 3, **changes})


SCHEDULES = [
    ({}, Phase.RUNNING, ""),
    ({"active_from": NOW + 3 * HOUR}, Phase.SCHEDULED, "starts in 3 hours"),
    (
        {"active_from": NOW + 3 * HOUR, "active_until": NOW + 3 * HOUR + 2 * DAY},
        Phase.SCHEDULED,
        "starts in 3 hours, for 2 days",
    ),
    ({"active_from": NOW}, Phase.RUNNING, "started less than a minute ago"),
    ({"active_from": NOW - 5 * DAY}, Phase.RUNNING, "started 5 days ago"),
    ({"active_until": NOW + timedelta(seconds=5)}, Phase.RUNNING, "ends in less than a minute"),
    ({"active_from": NOW - DAY, "active_until": NOW + DAY}, Phase.RUNNING, "ends in 1 day"),
    ({"active_until": NOW}, Phase.ENDED, "ended less than a minute ago"),
    (
        {"active_from": NOW - 5 * DAY, "active_until": NOW - 2 * DAY},
        Phase.ENDED,
        "ended 2 days ago",
    ),
]


@pytest.mark.parametrize(("values", "expected", "words"), SCHEDULES)
def test_a_schedule_in_words(values, expected, words):
    one = limit(**values)
    assert phase(one, NOW) is expected
    assert schedule(one, NOW).replace("\xa0", " ") == words


@pytest.mark.parametrize("mode", ["draft", "off"])
def test_what_is_not_in_force_has_no_phase_and_says_so_of_its_schedule(mode):
    one = limit(mode=mode, active_from=NOW + HOUR)
    assert phase(one, NOW) is None
    assert life_cycle.in_words(one, NOW) == (
        "Scheduled from Nov. 26, 2026, 3 p.m., once it is in force by its mode."
    )
    assert life_cycle.in_words(limit(mode=mode), NOW) == ""


def test_the_exact_moments_are_said_too():
    one = limit(active_from=NOW - HOUR, active_until=NOW + DAY)
    assert life_cycle.in_words(one, NOW).replace("\xa0", " ") == (
        "Ends in 1 day (from Nov. 26, 2026, 1 p.m. until Nov. 27, 2026, 2 p.m.)."
    )


@pytest.mark.django_db
def test_the_filter_finds_what_the_words_say():
    for number, (values, _, _) in enumerate(SCHEDULES):
        limit(name=f"on-{number}", mode="canary", **values).save()
        limit(name=f"off-{number}", mode="off", **values).save()
    for chosen in Phase:
        found = {one.name for one in RateLimit.objects.filter(life_cycle.in_phase(chosen, NOW))}
        assert found == {
            f"on-{number}" for number, (_, is_, _) in enumerate(SCHEDULES) if is_ is chosen
        }


def test_a_limit_begins_and_ends_at_its_moment_in_every_process_without_an_edit(engine):
    """The same version in two processes; only the clock goes on."""
    begin, end = NOW + HOUR, NOW + 2 * HOUR
    limit(active_from=begin, active_until=end, path_kind="exact", path="/api/test").save()
    other = Engine(engine.config)
    for one in (engine, other):
        one.refresh()
    version = engine.version
    assert other.version == version
    second = timedelta(microseconds=1)
    for at, is_in_force in (
        (NOW, False),
        (begin - second, False),
        (begin, True),
        (end - second, True),
        (end, False),
        (end + DAY, False),
    ):
        now_us = round((at - datetime(1970, 1, 1, tzinfo=UTC)) / second)
        for one in (engine, other):
            assert bool(one.index.candidates(FACTS, now_us)) is is_in_force, at
        saved = RateLimit.objects.get()
        assert (phase(saved, at) is Phase.RUNNING) is is_in_force
    assert engine.version == other.version == ruleset.load().version == version
    other.limiter.close()


STEPS = [
    ("draft", "Draft:here Shadow:next Canary:later Enforce:later", "Next: shadow."),
    ("off", "Draft:done Shadow:next Canary:later Enforce:later", "Switched off."),
    ("shadow", "Draft:done Shadow:here Canary:next Enforce:later", "Next: canary,"),
    ("canary", "Draft:done Shadow:done Canary:here Enforce:next", "larger percentage than 10 %"),
    ("enforce", "Draft:done Shadow:done Canary:done Enforce:here", "It is enforced for everyone."),
]


@pytest.mark.parametrize(("mode", "steps", "words"), STEPS)
def test_the_strip_says_where_it_is_and_what_comes_next(mode, steps, words):
    found = life(limit(mode=mode), NOW)
    assert " ".join(f"{step.label}:{step.place}" for step in found.steps) == steps
    assert words in found.next
    # Not by colour alone.
    assert len({(step.sign, step.said) for step in found.steps}) == len(
        {step.place for step in found.steps}
    )


def test_everyone_together_has_no_canary_among_its_steps():
    found = life(limit(mode="shadow", counted_by="everyone"), NOW)
    assert [step.label for step in found.steps] == ["Draft", "Shadow", "Enforce"]
    assert "Next: enforce" in found.next


def test_what_is_over_says_so_whatever_its_mode():
    assert "It is over" in life(limit(active_until=NOW), NOW).next
    assert "It is over" not in life(limit(active_until=NOW, mode="off"), NOW).next
