from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.monitoring import alerting, channels, delivery, sealing
from apps.monitoring.metrics import Kind
from apps.monitoring.models import Alert, Channel, Notification, Told
from apps.monitoring.tests.watched import at, only, source, watch
from tests.receivers import webhook
from tests.servers import free_port

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def hook():
    with webhook() as made:
        yield made


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch):
    monkeypatch.setattr(delivery, "hand_over", lambda now: None)


def channel(url: str, name: str = "hook") -> Channel:
    return Channel.objects.create(name=name, sealed=sealing.seal(url))


def fire(metric: str = "memory_percent", start: float = 0, of=None) -> None:
    only(metric, for_s=0, enabled=True)
    watch(of or source(), metric, 10_000, start=start)


def later() -> None:
    """The pauses are over."""
    Notification.objects.filter(state="queued").update(next_try_at=timezone.now() - MINUTE)


def test_a_receiver_that_fails_first_gets_it_once(hook):
    channel(hook.url)
    hook.answers = [500, 503]
    fire()
    assert delivery.deliver_one()
    found = Notification.objects.get()
    assert (found.state, found.attempts, found.error) == ("queued", 1, "answered 500")
    assert 8 < (found.next_try_at - timezone.now()).total_seconds() <= 10
    assert not delivery.deliver_one()  # its pause is not over
    later()
    assert delivery.deliver_one()
    later()
    assert delivery.deliver_one()
    found.refresh_from_db()
    assert (found.state, found.attempts, found.error) == ("sent", 3, "")
    later()
    assert not delivery.deliver_one()
    alerting.evaluate_all(at(5))
    assert not delivery.deliver_one()
    assert len(hook.taken) == 3  # two of which it refused


def test_pauses_grow_and_it_is_given_up_in_the_end():
    channel(f"json://127.0.0.1:{free_port()}")
    fire()
    for _ in range(delivery.MAX_ATTEMPTS):
        later()
        assert delivery.deliver_one()
    found = Notification.objects.get()
    assert (found.state, found.error) == ("failed", "connection refused")
    later()
    assert not delivery.deliver_one()
    assert [delivery.pause_s(n) for n in range(1, 9)] == [10, 20, 40, 80, 160, 320, 600, 600]


def test_what_perhaps_arrived_is_not_sent_again(hook):
    channel(hook.url)
    hook.answers = [0]
    fire()
    delivery.deliver_one()
    assert Notification.objects.get().state == "unclear"
    later()
    assert not delivery.deliver_one()
    assert len(hook.taken) == 1


def test_a_claim_whose_sender_died_is_not_sent_again(hook, caplog):
    channel(hook.url)
    fire()
    now = timezone.now()
    claimed = delivery._claim(now)
    assert claimed is not None
    assert not delivery.deliver_one(now + timedelta(seconds=30))
    assert not delivery.deliver_one(now + timedelta(seconds=61))
    found = Notification.objects.get()
    assert (found.state, found.error) == ("unclear", "the sender died meanwhile")
    assert "they are not sent again" in caplog.text
    # The dead come back: what they settle is not theirs any more.
    delivery._settle(claimed, channels.Sending(channels.Outcome.REFUSED, "late"))
    found.refresh_from_db()
    assert found.state == "unclear"
    assert hook.taken == []


def test_messages_of_a_channel_keep_their_order(hook):
    channel(hook.url)
    hook.answers = [500]
    node = source()
    fire(of=node)
    delivery.deliver_one()
    watch(node, "memory_percent", 5, start=10)
    assert Alert.objects.get().state == "resolved"
    # The end waits for the beginning.
    assert not delivery.deliver_one()
    later()
    while delivery.deliver_one():
        pass
    assert [title.split()[1].rstrip(":,") for title in hook.titles] == [
        "Firing", "Firing", "Resolved"
    ]  # fmt: skip


def test_a_dead_channel_delays_no_other(hook):
    channel(f"json://127.0.0.1:{free_port()}", "dead")
    channel(hook.url, "alive")
    fire()
    while delivery.deliver_one():
        pass
    assert len(hook.taken) == 1
    states = {one.channel.name: one.state for one in Notification.objects.all()}
    assert states == {"dead": "queued", "alive": "sent"}


def test_sources_that_fire_while_one_waits_join_it(hook):
    channel(hook.url)
    hook.answers = [500]
    fire()
    delivery.deliver_one()
    fire(start=10, of=source(Kind.NODE, "10.0.0.2:6379"))
    later()
    while delivery.deliver_one():
        pass
    assert hook.titles[-1].endswith("Redis: memory (2 sources)")
    assert Notification.objects.count() == 1
    assert Told.objects.count() == 2


def test_a_channel_that_was_switched_off_is_not_called(hook):
    made = channel(hook.url)
    fire()
    made.enabled = False
    made.save()
    assert delivery.deliver_one()
    assert Notification.objects.get().state == "failed"
    assert hook.taken == []


def test_an_address_sealed_with_another_key_says_so(hook, settings):
    channel(hook.url)
    fire()
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-secret-key-of-enough-characters"
    delivery.deliver_one()
    assert "enter it again" in Notification.objects.get().error
    settings.SECRET_KEY_FALLBACKS = [old]
    later()
    delivery.deliver_one()
    assert Notification.objects.get().state == "sent"


def test_the_database_holds_no_address(hook):
    made = channel(hook.url + "/very-secret")
    assert "secret" not in made.sealed
    assert sealing.unseal(made.sealed).endswith("very-secret")
    assert sealing.seal("x") != sealing.seal("x")


def test_a_pause_set_by_another_clock_is_over():
    channel(f"json://127.0.0.1:{free_port()}")
    fire()
    Notification.objects.update(next_try_at=timezone.now() + timedelta(hours=5))
    assert delivery.deliver_one()


@pytest.mark.django_db(transaction=True)
def test_two_senders_at_once_send_it_once(hook):
    channel(hook.url)
    hook.hang_s = 0.3
    fire()
    barrier = threading.Barrier(4)

    def send() -> None:
        barrier.wait(10)
        try:
            while delivery.deliver_one():
                pass
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(hook.taken) == 1
    assert Notification.objects.get().state == "sent"


def test_without_a_broker_it_is_sent_from_here(hook, settings, monkeypatch):
    monkeypatch.undo()
    channel(hook.url)
    broker = f"redis://127.0.0.1:{free_port()}/0"
    # In this order: unset, the one for writing is what the other is, and would stay so.
    monkeypatch.setattr(delivery.current_app.conf, "broker_write_url", broker)
    monkeypatch.setattr(delivery.current_app.conf, "broker_url", broker)
    fire()
    assert len(hook.taken) == 1
