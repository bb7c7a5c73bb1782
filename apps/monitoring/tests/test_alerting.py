from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction

from apps.monitoring import alerting, delivery
from apps.monitoring.metrics import METRICS, Kind
from apps.monitoring.models import Alert, AlertRule, Notification, RuleState, Silence, Source, Told
from apps.monitoring.tests.watched import START, at, only, sample, source, watch

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _admins(settings, monkeypatch):
    settings.ADMINS = [("Ada", "ada@example.com")]
    # What a worker does, in this process.
    monkeypatch.setattr(delivery, "hand_over", lambda now: None)


def tell() -> list[str]:
    """All that is due, and the subjects of what came of it."""
    while delivery.deliver_one():
        pass
    subjects = [message.subject for message in mail.outbox]
    mail.outbox.clear()
    return subjects


GUIDE = [
    ("cpu_percent", 80, 300), ("memory_percent", 90, 60), ("replication_lag_s", 10, 20),
    ("clients_percent", 80, 60), ("check_p99_us", 10_000, 60), ("config_load_us", 100_000, 30),
    ("error_percent", 1, 60), ("queue_length", 1_000, 60),
]  # fmt: skip


def test_the_guides_rules_are_there_and_sound():
    for metric, threshold, for_s in GUIDE:
        rule = AlertRule.objects.get(metric=metric)
        assert (rule.threshold, rule.for_s, rule.enabled) == (threshold, for_s, True)
    for rule in AlertRule.objects.all():
        rule.full_clean()
        assert METRICS[rule.metric].kinds
        assert rule.guide.startswith("#")
        assert rule.words
    assert {rule.metric for rule in AlertRule.objects.filter(at_least__gte=100)} == {
        "check_p99_us",
        "error_percent",
    }


def test_an_alert_from_pending_to_its_end():
    only("memory_percent")
    node = source()
    end = watch(node, "memory_percent", 50, *[95] * 4)
    (alert,) = Alert.objects.all()
    assert (alert.state, alert.pending_since, alert.pending_value) == ("pending", at(10), 95)
    assert tell() == []
    end = watch(node, "memory_percent", 93, 97, 92, 92, start=end + 10)
    alert.refresh_from_db()
    assert (alert.state, alert.fired_at, alert.fired_value) == ("firing", at(70), 92)
    assert (alert.value, alert.worst, alert.threshold) == (92, 97, 90)
    assert tell() == ["[IOTA] Firing, critical: Redis: memory: 10.0.0.1:6379"]
    # Between where it is over and the threshold it goes on.
    end = watch(node, "memory_percent", 88, 91, 95, 87, start=end + 10)
    assert tell() == []
    watch(node, "memory_percent", 60, 61, start=end + 10)
    alert.refresh_from_db()
    assert (alert.state, alert.resolved_at, alert.resolved_value) == ("resolved", at(130), 60)
    assert alert.worst == 97
    assert tell() == ["[IOTA] Resolved: Redis: memory: 10.0.0.1:6379"]
    assert Alert.objects.count() == 1


def test_what_passes_before_its_time_is_told_nobody():
    only("memory_percent")
    watch(source(), "memory_percent", 95, 95, 50, 95, 50)
    assert [alert.state for alert in Alert.objects.all()] == ["resolved", "resolved"]
    assert not Alert.objects.exclude(fired_at=None).exists()
    assert tell() == []


def test_each_source_has_its_own_state_and_one_message_tells_of_all():
    only("queue_length")
    limiter, broker = source(Kind.LIMITER, ""), source(Kind.BROKER, "10.0.0.9:6379")
    node = source()
    for second in range(0, 70, 10):
        sample(limiter, second, queue_length=1_500)
        sample(broker, second, queue_length=2_000)
        sample(node, second, cpu_percent=3)
        alerting.evaluate_all(at(second))
    assert {alert.of for alert in Alert.objects.all()} == {"limiter", "10.0.0.9:6379"}
    assert not RuleState.objects.filter(source=node).exists()
    subject = "[IOTA] Firing, warning: Queue length (2 sources)"
    while delivery.deliver_one():
        pass
    (message,) = mail.outbox
    assert message.subject == subject
    assert "limiter: 1,500, above 1,000, since 01 Mar 12:00:00 UTC" in message.body
    assert "10.0.0.9:6379: 2,000, above 1,000" in message.body
    assert "More comes in" in message.body


def test_firing_at_another_time_is_another_message():
    only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    assert len(tell()) == 1
    other = source(address="10.0.0.2:6379")
    sample(other, 10, memory_percent=95)
    alerting.evaluate_all(at(10))
    assert tell() == ["[IOTA] Firing, critical: Redis: memory: 10.0.0.2:6379"]


def test_no_data_is_no_state_of_calm():
    only("memory_percent")
    node = source()
    watch(node, "memory_percent", 50)
    assert RuleState.objects.get().phase == "ok"
    alerting.evaluate_all(at(50))
    assert RuleState.objects.get().phase == "no data"
    sample(node, 60, memory_percent=None)
    alerting.evaluate_all(at(60))
    assert RuleState.objects.get().phase == "no data"
    assert Alert.objects.count() == 0


def test_a_server_that_does_not_answer_is_an_alert():
    (rule,) = only("silent_s")
    node = source()
    sample(node, 0, memory_percent=5)
    alerting.evaluate_all(at(0))
    for second in range(10, 60, 10):
        Source.objects.update(looked_at=at(second), error="Timeout")
        alerting.evaluate_all(at(second))
    assert Alert.objects.get(rule=rule).state == "firing"
    assert tell() == ["[IOTA] Firing, critical: No answer: 10.0.0.1:6379"]
    sample(node, 60, memory_percent=5)
    alerting.evaluate_all(at(60))
    assert tell() == ["[IOTA] Resolved: No answer: 10.0.0.1:6379"]


def test_where_nobody_looks_silence_says_nothing():
    only("silent_s")
    watch(source(), "memory_percent", 5)
    alerting.evaluate_all(at(100))
    assert RuleState.objects.get().phase == "no data"


def test_a_percentile_of_few_checks_does_not_fire():
    only("check_p99_us")
    limiter = source(Kind.LIMITER, "")
    watch(limiter, "check_p99_us", *[50_000] * 10, checks=99)
    assert RuleState.objects.get().phase == "no data"
    watch(limiter, "check_p99_us", *[50_000] * 7, start=100, checks=100)
    assert Alert.objects.get().state == "firing"


def test_a_site_that_falls_idle_burns_no_longer_than_a_quarter_of_an_hour():
    only("check_p99_us", for_s=0)
    limiter = source(Kind.LIMITER, "")
    watch(limiter, "check_p99_us", 50_000, checks=100)
    assert Alert.objects.get().state == "firing"
    # Without a check the collector has no percentile.
    watch(limiter, "checks", *[0] * 92, start=10)
    alert = Alert.objects.get()
    assert (alert.state, alert.reason) == ("resolved", "too few events to tell")


def test_the_same_time_twice_changes_and_tells_nothing():
    only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    for _ in range(3):
        alerting.evaluate_all(at(0))
    assert Alert.objects.count() == Notification.objects.count() == Told.objects.count() == 1


def test_told_twice_is_refused_by_the_database():
    only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    told = Told.objects.get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Told.objects.create(
            notification=told.notification, channel=told.channel, alert=told.alert, event="firing"
        )
    alert = Alert.objects.get()
    alert.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        alert.save(force_insert=True)


def test_silenced_alerts_are_told_when_the_silence_ends_and_they_still_fire():
    (rule,) = only("memory_percent", for_s=0)
    Silence.objects.create(rule=rule, until=at(25), reason="We fill it on purpose.")
    node = source()
    watch(node, "memory_percent", 95, 95, 95)
    assert Alert.objects.get().state == "firing"
    assert tell() == []
    watch(node, "memory_percent", 95, start=30)
    assert tell() == ["[IOTA] Firing, critical: Redis: memory: 10.0.0.1:6379"]


def test_a_silence_of_another_source_silences_nothing_here():
    (rule,) = only("memory_percent", for_s=0)
    Silence.objects.create(rule=rule, source=source(address="other"), until=at(100), reason="x")
    ended = Silence.objects.create(until=at(100), reason="x", ended_at=at(0))
    assert not ended.is_active
    watch(source(), "memory_percent", 95)
    assert len(tell()) == 1


def test_an_alert_that_fired_and_ended_under_a_silence_is_told_nobody():
    only("memory_percent", for_s=0)
    Silence.objects.create(until=at(100), reason="Maintenance.")
    watch(source(), "memory_percent", 95, 50)
    assert Alert.objects.get().state == "resolved"
    alerting.evaluate_all(at(110))
    assert tell() == []


@pytest.mark.parametrize("how", ["off", "deleted"])
def test_a_rule_that_is_no_more_leaves_nothing_burning(how):
    (rule,) = only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    tell()
    if how == "off":
        AlertRule.objects.update(enabled=False)
    else:
        rule.delete()
    alerting.evaluate_all(at(10))
    alert = Alert.objects.get()
    assert (alert.state, alert.name) == ("resolved", "Redis: memory")
    assert alert.reason == "the rule was switched off or deleted"
    assert tell() == ["[IOTA] Resolved: Redis: memory: 10.0.0.1:6379"]
    assert not RuleState.objects.exists()


def test_a_source_that_left_is_not_watched_any_more():
    only("memory_percent", for_s=0)
    left, node = source(address="left"), source()
    watch(left, "memory_percent", 95)
    for minute in range(1, 12):
        sample(node, 60 * minute, memory_percent=5)
        alerting.evaluate_all(at(60 * minute))
    assert Alert.objects.get().reason == "no longer watched"
    assert [state.source for state in RuleState.objects.all()] == [node]


def test_a_collector_that_stands_still_leaves_every_source_watched():
    only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    alerting.evaluate_all(at(10_000))
    assert Alert.objects.get().state == "firing"


def test_a_channel_for_the_critical_is_spared_the_rest():
    from apps.monitoring.models import Channel

    Channel.objects.update(severity="critical")
    only("queue_length", for_s=0)
    watch(source(Kind.BROKER, "b"), "queue_length", 5_000, 0)
    assert tell() == []
    only("memory_percent", for_s=0, enabled=True)
    watch(source(), "memory_percent", 95, start=20)
    assert len(tell()) == 1


def test_without_admins_and_channels_nothing_waits(settings):
    settings.ADMINS = []
    only("memory_percent", for_s=0)
    watch(source(), "memory_percent", 95)
    assert Alert.objects.get().state == "firing"
    assert not Notification.objects.exists()


def test_open_alerts_are_the_firing_ones_first():
    only("memory_percent", "clients_percent", "evicted_per_s", for_s=0)
    AlertRule.objects.filter(metric="clients_percent").update(severity="warning")
    AlertRule.objects.create(name="Slow", metric="slow_per_s", threshold=1, for_s=600)
    node = source()
    watch(node, "slow_per_s", 5, memory_percent=95, clients_percent=95)
    found = [(alert.name, alert.state) for alert in alerting.open_alerts()]
    assert found == [
        ("Redis: memory", "firing"),
        ("Redis: connections", "firing"),
        ("Slow", "pending"),
    ]
    assert alerting.firing_count() == 2
    assert alerting.phases() == {"firing": 2, "pending": 1}


def test_an_evaluator_that_stopped_is_seen():
    assert alerting.is_late(START)
    only("memory_percent")
    watch(source(), "memory_percent", 5)
    assert not alerting.is_late(at(30))
    assert alerting.is_late(at(90))


def test_old_alerts_are_forgotten_and_open_ones_never():
    only("memory_percent", for_s=30)
    watch(source(), "memory_percent", *[95] * 5, 5, 95, 5, 95)
    assert Alert.objects.count() == 3
    day = timedelta(days=1)
    assert alerting.forget(400 * day, START + 2 * day) == 0
    # One that never fired goes after a week.
    assert alerting.forget(400 * day, START + 8 * day) == 1
    assert alerting.forget(400 * day, START + 500 * day) == 1
    assert Alert.objects.get().state == "pending"


@pytest.mark.django_db(transaction=True)
def test_two_evaluators_at_once_make_one_alert_and_one_message():
    only("memory_percent", for_s=0)
    node = source()
    sample(node, 0, memory_percent=95)
    barrier = threading.Barrier(4)
    errors = []

    def evaluate() -> None:
        try:
            barrier.wait(10)
            alerting.evaluate_all(at(1))
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=evaluate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert Alert.objects.count() == Told.objects.count() == Notification.objects.count() == 1
