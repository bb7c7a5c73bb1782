from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry

from apps.benchmarks import handling
from apps.benchmarks.models import Baseline, Machine, Metric, Regression

pytestmark = pytest.mark.django_db

State = Regression.State


@pytest.fixture
def machine() -> Machine:
    return Machine.objects.create(fingerprint="m1", fields={})


@pytest.fixture
def metric() -> Metric:
    return Metric.objects.create(
        digest="check", suite="limiter", benchmark="check", metric="time", unit="us",
        direction="lower",
    )  # fmt: skip


def make_regression(metric: Metric, machine: Machine, state: State, **fields) -> Regression:
    return Regression.objects.create(
        metric=metric, machine=machine, branch="main", state=state, ratio=1.25, **fields
    )


@pytest.fixture
def confirmed(metric, machine) -> Regression:
    return make_regression(metric, machine, State.CONFIRMED)


def test_accepting_begins_the_series_anew_and_says_who_and_why(confirmed, admin_user):
    made = handling.accept_as_baseline(confirmed, admin_user, " a feature ")
    assert (confirmed.state, confirmed.reason) == (State.ACCEPTED, "a feature")
    assert confirmed.handled_by == admin_user
    assert confirmed.closed_at is not None
    assert Baseline.objects.get() == made
    assert (made.reason, made.accepted_by, made.branch) == ("a feature", admin_user, "main")
    # Its run was deleted: the series begins where it was opened.
    assert made.since == confirmed.opened_at
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (admin_user, str(confirmed.pk))
    assert entry.change_message == "Accepted as the new baseline: a feature"


def test_accepting_closes_the_other_direction_of_the_series_too(
    confirmed, metric, machine, admin_user
):
    other = make_regression(metric, machine, State.SUSPECTED, better=True)
    elsewhere = Machine.objects.create(fingerprint="m2", fields={})
    untouched = make_regression(metric, elsewhere, State.CONFIRMED)
    handling.accept_as_baseline(confirmed, admin_user, "a feature")
    other.refresh_from_db()
    untouched.refresh_from_db()
    assert (other.state, untouched.state) == (State.ACCEPTED, State.CONFIRMED)


def test_an_acknowledged_regression_stays_open(confirmed, admin_user):
    handling.acknowledge(confirmed, admin_user)
    assert confirmed.state == State.ACKNOWLEDGED
    assert confirmed.closed_at is None
    handling.ignore(confirmed, admin_user, "will not fix")
    assert (confirmed.state, confirmed.reason) == (State.IGNORED, "will not fix")
    assert confirmed.closed_at is not None
    messages = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(messages) == ["Acknowledged.", "Ignored: will not fix"]


def test_a_suspect_is_not_acknowledged(metric, machine, admin_user):
    suspect = make_regression(metric, machine, State.SUSPECTED)
    with pytest.raises(ValueError, match="check time is only suspected: wait for its reruns"):
        handling.acknowledge(suspect, admin_user)


@pytest.mark.parametrize("decide", [handling.accept_as_baseline, handling.ignore])
def test_a_decision_needs_a_reason(confirmed, admin_user, decide):
    with pytest.raises(ValueError, match="Say why"):
        decide(confirmed, admin_user, "  ")
    confirmed.refresh_from_db()
    assert confirmed.state == State.CONFIRMED
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    "decide", [handling.accept_as_baseline, handling.ignore, handling.acknowledge]
)
def test_what_is_closed_stays_closed(confirmed, admin_user, decide):
    stale = Regression.objects.get(pk=confirmed.pk)
    handling.ignore(confirmed, admin_user, "first")
    with pytest.raises(ValueError, match="check time is closed already: ignored"):
        decide(stale, admin_user, "second")
    assert Regression.objects.get().reason == "first"
    assert not Baseline.objects.exists()


def test_ignoring_a_metric_closes_what_is_open_of_it(confirmed, metric, admin_user):
    handling.ignore_metric(metric, admin_user, "too noisy")
    confirmed.refresh_from_db()
    assert metric.ignored
    assert confirmed.state == State.IGNORED
    handling.judge_metric(metric, admin_user)
    assert not metric.ignored
    assert LogEntry.objects.count() == 3


def test_a_threshold_is_set_and_taken_back(metric, admin_user):
    handling.set_threshold(metric, admin_user, 25)
    assert metric.threshold_percent == 25
    handling.set_threshold(metric, admin_user, None)
    assert metric.threshold_percent is None
    messages = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert list(messages) == ["Threshold: 25 %.", "Threshold: the default."]
    for percent in (0, -5, 2_000, float("nan")):
        with pytest.raises(ValueError, match="is not between 1 and 1,000"):
            handling.set_threshold(metric, admin_user, percent)
