from __future__ import annotations

import pytest
from django.core import mail

from apps.benchmarks import telling
from apps.benchmarks.models import BenchmarkRun, Machine, Metric, Regression
from apps.benchmarks.records import Direction
from apps.benchmarks.regression import Suspicion, confirm

pytestmark = pytest.mark.django_db

STEADY = [1_000 + place for place in range(20)]


@pytest.fixture(autouse=True)
def _admins(settings):
    settings.ADMINS = [("Ada", "ada@example.com")]


def make_confirmed(name: str, factor: float = 1.25, **fields) -> Regression:
    metric = Metric.objects.create(
        digest=name, suite="limiter", benchmark=name, metric="time", unit="us", direction="lower"
    )
    machine, _ = Machine.objects.get_or_create(fingerprint="m1", fields={}, name="lab")
    new = [factor * value for value in STEADY[8:13]]
    (verdict,) = confirm([Suspicion(new, STEADY, Direction.LOWER, better=factor < 1)])
    run = BenchmarkRun.objects.create(trigger="staff", machine=machine, commit="abc" * 13 + "d")
    return Regression.objects.create(
        **{
            "metric": metric, "machine": machine, "branch": "main", "state": "confirmed",
            "better": factor < 1, "ratio": factor, "evidence": verdict.evidence("us"), "run": run,
            **fields,
        }
    )  # fmt: skip


def test_one_is_told_with_its_numbers_and_where_to_look():
    found = make_confirmed("check")
    assert telling.tell() == 1
    (message,) = mail.outbox
    assert message.to == ["ada@example.com"]
    assert message.subject.endswith(
        "Benchmark check time: 25 % slower than the last 20 runs, confirmed"
    )
    assert "1,010 us -> 1,262 us (lab, branch main)" in message.body
    assert "medians of 5 runs against 20, p = 1.9e-05" in message.body
    assert f"run {found.run_id}, commit abcabcabcabc" in message.body
    assert telling.path(found) in message.body
    found.refresh_from_db()
    assert found.told_at is not None


def test_several_are_told_in_one_mail_and_none_twice():
    make_confirmed("check")
    make_confirmed("fetch", 0.8)
    assert telling.tell() == 2
    assert telling.tell() == 0
    (message,) = mail.outbox
    assert message.subject.endswith("Benchmarks: 1 worse, 1 better, confirmed")
    assert "fetch time: 20 % faster" in message.body


@pytest.mark.parametrize("state", ["suspected", "refuted", "acknowledged", "ignored"])
def test_nothing_but_the_confirmed_is_told(state):
    make_confirmed("check", state=state)
    assert telling.tell() == 0
    assert mail.outbox == []


def test_one_whose_run_was_deleted_is_told_all_the_same():
    make_confirmed("check", run=None)
    assert telling.tell() == 1


def test_a_mail_that_cannot_be_sent_is_sent_later(settings, caplog):
    make_confirmed("check")
    working = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1  # nobody listens there
    assert telling.tell() == 0
    assert "could not be mailed" in caplog.text
    settings.EMAIL_BACKEND = working
    assert telling.tell() == 1
    assert len(mail.outbox) == 1
