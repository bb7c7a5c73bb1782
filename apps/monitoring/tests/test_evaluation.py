from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring.evaluation import (
    QUIET_S,
    STALE_S,
    Direction,
    Event,
    Phase,
    Reading,
    Rule,
    State,
    step,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNSEEN = State()
BUSY = Rule(threshold=80, for_s=60, clear=70)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def run(rule: Rule, readings, state: State = UNSEEN):
    """Each of ``readings``: (seconds, value) or (seconds, value, evidence), seen as it is taken."""
    happened = []
    for seconds, value, *evidence in readings:
        reading = Reading(at(seconds), value, *evidence)
        state, events = step(state, rule, reading, at(seconds))
        happened += [(seconds, event) for event in events]
    return state, happened


def every_10_s(*values, start=0):
    return [(start + 10 * place, value) for place, value in enumerate(values)]


def test_pending_then_firing_then_resolved():
    series = every_10_s(50, *[90] * 7, 50)
    state, happened = run(BUSY, series)
    assert happened == [(10, Event.PENDING), (70, Event.FIRING), (80, Event.RESOLVED)]
    assert (state.phase, state.since) == (Phase.OK, at(80))


def test_a_rule_without_a_duration_fires_at_once():
    state, happened = run(Rule(threshold=80), [(0, 81)])
    assert happened == [(0, Event.PENDING), (0, Event.FIRING)]
    assert state.phase is Phase.FIRING


def test_the_threshold_itself_is_no_breach():
    assert run(Rule(threshold=80), [(0, 80)])[0].phase is Phase.OK
    below = Rule(threshold=80, direction=Direction.BELOW)
    assert run(below, [(0, 80)])[0].phase is Phase.OK
    assert run(below, [(0, 79)])[0].phase is Phase.FIRING


def test_the_duration_is_of_time_and_not_of_samples():
    # Many samples in a short time do not fire; few that span it do.
    _, happened = run(BUSY, [(second / 2, 90) for second in range(100)])
    assert happened == [(0, Event.PENDING)]
    _, happened = run(BUSY, [(0, 90), (35, 90), (60, 90)])
    assert happened == [(0, Event.PENDING), (60, Event.FIRING)]


def test_one_fine_sample_begins_it_anew():
    _, happened = run(BUSY, every_10_s(*[90] * 6, 80, *[90] * 6))
    assert [event for _, event in happened] == [Event.PENDING, Event.PASSED, Event.PENDING]


def test_between_clear_and_threshold_it_stays_what_it_was():
    assert run(BUSY, every_10_s(75))[0].phase is Phase.OK
    state, happened = run(BUSY, every_10_s(*[90] * 7, 75, 79, 75))
    assert state.phase is Phase.FIRING
    assert happened[-1] == (60, Event.FIRING)
    state, happened = run(BUSY, every_10_s(*[90] * 7, 75, 70))
    assert happened[-1] == (80, Event.RESOLVED)


@pytest.mark.parametrize("reading", [None, Reading(at(0), None), Reading(at(-STALE_S - 1), 50.0)])
def test_nothing_known_is_no_data_and_never_ok(reading):
    state, events = step(State(), BUSY, reading, at(0))
    assert (state.phase, events) == (Phase.NO_DATA, [])


def test_ok_becomes_no_data_once_its_value_is_old():
    state, _ = run(BUSY, [(0, 50)])
    assert step(state, BUSY, None, at(STALE_S))[0].phase is Phase.OK
    gone, events = step(state, BUSY, None, at(STALE_S + 1))
    assert (gone.phase, gone.value, events) == (Phase.NO_DATA, None, [])
    # The same old sample again is no news.
    again, _ = step(state, BUSY, Reading(at(0), 50), at(STALE_S + 1))
    assert again == gone


def test_unknown_values_are_no_news():
    state, happened = run(BUSY, every_10_s(90, None, None, 90, None, None, 90))
    assert happened == [(0, Event.PENDING), (60, Event.FIRING)]
    state, happened = run(BUSY, every_10_s(90, *[None] * 5))
    assert happened == [(0, Event.PENDING), (50, Event.PASSED)]
    assert state.phase is Phase.NO_DATA


def test_a_gap_is_not_time_that_the_condition_held():
    _, happened = run(BUSY, [(0, 90), (STALE_S + 30, 90)])
    assert [event for _, event in happened] == [Event.PENDING, Event.PASSED, Event.PENDING]


def test_firing_outlives_the_data():
    state, _ = run(BUSY, every_10_s(*[90] * 7))
    state, events = step(state, BUSY, None, at(100_000))
    assert (state.phase, events, state.known_at) == (Phase.FIRING, [], at(60))
    state, events = step(state, BUSY, Reading(at(100_010), 50), at(100_010))
    assert (state.phase, events) == (Phase.OK, [Event.RESOLVED])


LATE = Rule(threshold=10_000, for_s=30, at_least=100)


def test_a_percentile_of_too_few_checks_changes_nothing():
    state, happened = run(LATE, [(0, 99_000, 3), (10, 99_000, 99)])
    assert (state.phase, happened) == (Phase.NO_DATA, [])
    state, happened = run(
        LATE, [(0, 99_000, 100), (10, 50, 3), (20, 99_000, 100), (30, 99_000, 500)]
    )
    assert happened == [(0, Event.PENDING), (30, Event.FIRING)]
    state, happened = run(LATE, [(40, 50, 3), (50, 50, 99)], state)
    assert (state.phase, happened) == (Phase.FIRING, [])
    assert run(LATE, [(60, 50, 100)], state)[1] == [(60, Event.RESOLVED)]


def test_too_few_for_long_is_the_end_of_a_fire():
    state, _ = run(LATE, [(second, 99_000, 500) for second in range(0, 40, 10)])
    quiet = [(second, 99_000, 2) for second in range(40, 2_000, 10)]
    state, happened = run(LATE, quiet, state)
    assert happened == [(40 + QUIET_S, Event.RESOLVED)]
    assert state.phase is Phase.NO_DATA


def test_where_nothing_happens_a_fire_ends_as_well():
    state, _ = run(LATE, [(second, 99_000, 500) for second in range(0, 40, 10)])
    idle = [(second, None, 0) for second in range(40, 2_000, 10)]
    assert run(LATE, idle, state)[1] == [(40 + QUIET_S, Event.RESOLVED)]
    assert run(replace(LATE, at_least=0), idle, state)[1] == [(40 + QUIET_S, Event.RESOLVED)]


def test_unknown_evidence_is_not_quiet():
    state, _ = run(LATE, [(second, 99_000, 500) for second in range(0, 40, 10)])
    state, happened = run(LATE, [(s, 99_000, None) for s in range(40, 2_000, 10)], state)
    assert (state.phase, happened) == (Phase.FIRING, [])


def test_the_same_reading_twice_is_one():
    state, _ = run(BUSY, [(0, 90)])
    again, events = step(state, BUSY, Reading(at(0), 10), at(5))
    assert (again.phase, events) == (Phase.PENDING, [])


def test_a_clock_set_back_keeps_the_duration_honest_and_goes_on():
    state, _ = run(BUSY, every_10_s(*[90] * 6))
    # An hour back: what the table's newest sample says lies in the future now.
    state, events = step(state, BUSY, Reading(at(50), 90), at(-3_600))
    assert (state.phase, events, state.pending_since) == (Phase.PENDING, [], at(-3_600))
    _, happened = run(BUSY, every_10_s(*[90] * 8, start=-3_590), state)
    assert happened == [(-3_540, Event.FIRING)]


def test_a_clock_set_forward_does_not_fire_early():
    state, _ = run(BUSY, every_10_s(90, 90))
    _, happened = run(BUSY, [(3_600, 90), (3_610, 90)], state)
    assert [event for _, event in happened] == [Event.PASSED, Event.PENDING]


# The oracle: for each moment, what the whole series of readings until then says, found anew from
# its beginning by going through intervals instead of remembering a state.


def oracle(rule: Rule, series) -> list[str]:
    """The phase after each reading, from all readings up to it."""
    phases = []
    fired = None  # index at which it fired
    for place in range(len(series)):
        known = [
            (when, value)
            for when, value, evidence in series[: place + 1]
            if value is not None and (not rule.at_least or (evidence or 0) >= rule.at_least)
        ]
        when = series[place][0]
        if fired is not None:
            after = [value for moment, value in known if moment > fired]
            if any(rule.cleared(value) for value in after):
                fired = None
                phases.append("ok")
                continue
            phases.append("firing")
            continue
        if not known or when - known[-1][0] > STALE_S:
            phases.append("no data")
            continue
        if not rule.breached(known[-1][1]):
            phases.append("ok")
            continue
        # How long has it held: back to the first reading of the unbroken run that reaches here.
        began = known[-1][0]
        later = began
        for moment, value in reversed(known):
            over = last_resolved(phases, series)
            if not rule.breached(value) or later - moment > STALE_S or moment <= over:
                break
            began = later = moment
        if known[-1][0] == when and when - began >= rule.for_s:
            fired = when
            phases.append("firing")
        else:
            phases.append("pending")
    return phases


def last_resolved(phases, series) -> float:
    """When the newest firing ended: nothing before it counts for the next."""
    for place in range(len(phases) - 1, 0, -1):
        if phases[place] != "firing" and phases[place - 1] == "firing":
            return series[place][0]
    return float("-inf")


gaps = st.lists(
    st.sampled_from([1, 5, 10, 10, 10, 10, 20, 35, 40, 41, 90]), min_size=1, max_size=40
)
values = st.sampled_from([None, 50, 70, 71, 75, 80, 80.5, 90, 90, 90, 90])
rules = st.builds(
    Rule,
    threshold=st.just(80),
    for_s=st.sampled_from([0, 10, 30, 60]),
    clear=st.sampled_from([None, 70, 80]),
    at_least=st.sampled_from([0, 100]),
)


@st.composite
def histories(draw):
    when, series = 0, []
    for gap in draw(gaps):
        when += gap
        series.append((when, draw(values), draw(st.sampled_from([None, 100, 150, 150, 150]))))
    return series


@given(rules, histories())
def test_as_the_whole_series_says(rule, series):
    state, phases = State(), []
    for when, value, evidence in series:
        state, _ = step(state, rule, Reading(at(when), value, evidence), at(when))
        phases.append(state.phase.value)
    assert phases == oracle(rule, series)


@given(rules, histories())
def test_below_is_above_in_the_mirror(rule, series):
    def mirrored(value):
        return None if value is None else -value

    other = replace(rule, threshold=-80, direction=Direction.BELOW, clear=mirrored(rule.clear))
    one = run(rule, series)[1]
    two = run(other, [(when, mirrored(value), evidence) for when, value, evidence in series])[1]
    assert one == two


@given(rules, histories(), st.lists(st.integers(-100, 100), min_size=40, max_size=40))
def test_events_alternate_whatever_the_clock_does(rule, series, jumps):
    """No firing without pending, no end without a beginning, never two of one kind in a row."""
    state, before = State(), None
    allowed = {
        Event.PENDING: {None, Event.RESOLVED, Event.PASSED},
        Event.FIRING: {Event.PENDING},
        Event.RESOLVED: {Event.FIRING},
        Event.PASSED: {Event.PENDING},
    }
    clock = 0
    for (when, value, evidence), jump in zip(series, jumps, strict=False):
        clock += jump
        now = at(when + clock)
        state, events = step(state, rule, Reading(now, value, evidence), now)
        for event in events:
            assert before in allowed[event]
            before = event
        for moment in (state.since, state.pending_since, state.known_at, state.read_at):
            assert moment is None or moment <= now
        # What is not firing rests on a value that is not old.
        if state.phase in (Phase.OK, Phase.PENDING):
            assert (now - state.known_at).total_seconds() <= STALE_S


@given(rules, histories(), st.integers(1, 5))
def test_asking_more_often_changes_nothing(rule, series, times):
    once, happened = State(), []
    for when, value, evidence in series:
        once, events = step(once, rule, Reading(at(when), value, evidence), at(when))
        happened += events
    often, seen = State(), []
    for when, value, evidence in series:
        for _ in range(times):
            often, events = step(often, rule, Reading(at(when), value, evidence), at(when))
            seen += events
    assert (often, seen) == (once, happened)
