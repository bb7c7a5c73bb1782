"""Celery's broker, told in kombu's words what REDIS_URL says in ours."""

from __future__ import annotations

import kombu
import pytest

from iota.broker import Broker
from tests.servers import flavours, on_unix_socket, plain, with_password
from tests.topologies import guarded, running, watched


@pytest.mark.parametrize("url", ["redis://:p@h:7/3", "rediss://h", "amqp://u:p@h//", ""])
def test_what_celery_understands_is_left_alone(url):
    assert Broker.of(url) == Broker(url)


def test_sentinels_are_named_in_kombus_words():
    url = "redis+sentinel://u%3A1:p%40@a,[::1]:7/main/2?sentinel_password=w%26"
    assert Broker.of(url) == Broker(
        "sentinel://u%3A1:p%40@a:26379/2;sentinel://u%3A1:p%40@[::1]:7/2",
        {"master_name": "main", "sentinel_kwargs": {"password": "w&"}},
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+cluster://h", "cannot use a cluster"),
        ("rediss+cluster://h", "cannot use a cluster"),
        ("rediss+sentinel://h/main", "TLS"),
        ("redis+sentinel://h/main?client_name=x", "options"),
    ],
)
def test_what_celery_cannot_use_is_refused(url, reason):
    with pytest.raises(ValueError, match=reason):
        Broker.of(url)


def test_no_password_is_in_the_repr():
    assert "hunter2" not in repr(Broker.of("redis+sentinel://:hunter2@h/main"))


def carry(url: str) -> None:
    """A message there and back."""
    broker = Broker.of(url)
    with kombu.Connection(broker.url, transport_options=dict(broker.options)) as connection:
        queue = connection.SimpleQueue("tests")
        queue.put({"n": 1})
        assert queue.get(timeout=10).payload == {"n": 1}
        queue.close()


def test_a_unix_socket_carries_messages():
    with running(on_unix_socket("valkey")) as server:
        carry(f"{server.url}?db=1")
        with server.client() as client:
            assert "db1" in client.info("keyspace")


@pytest.mark.parametrize("flavour", flavours())
def test_what_sentinels_name_carries_messages(flavour):
    with running(plain(flavour)) as server:
        with watched(server) as url:
            carry(url)
        with server.client() as client:
            assert "db2" in client.info("keyspace")
    with running(with_password(flavour)) as server, guarded(server) as url:
        carry(url)
