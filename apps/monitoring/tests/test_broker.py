"""Celery's queues on a real broker of Redis; in memory for what any broker of kombu does."""

from __future__ import annotations

import time

import pytest
from celery import Celery

from apps.monitoring.collecting import broker
from tests.servers import RedisProcess, flavours, free_port


@pytest.fixture(params=flavours())
def server(request):
    made = RedisProcess(request.param).start()
    yield made
    made.stop()


def app_of(url: str, **conf) -> Celery:
    made = Celery("tests", broker=url, set_as_current=False)
    made.conf.update(conf)
    return made


def test_messages_of_all_queues_and_priorities_are_summed(server):
    app = app_of(server.url)
    for queue, priority in [("celery", 0), ("celery", 3), ("celery", 9), ("slow", 6)]:
        for _ in range(10):
            app.send_task("nothing", queue=queue, priority=priority)
    with server.client() as client:
        assert client.llen("celery") == 10
        assert client.llen("celery\x06\x163") == 10
        client.hset("unacked", "tag", "x")
    taken = broker.look(app, ["celery", "slow", "never-used"])
    assert (taken.error, taken.server) == ("", "redis")
    assert taken.said.values == {"queue_length": 40.0, "unacked": 1.0}
    assert taken.said.notes["queue_length"] == "celery 30, slow 10, never-used 0"
    assert taken.address == f"127.0.0.1:{server.port}/0".removesuffix("/0")
    with server.client() as client:  # asked, and not made
        assert not client.exists("_kombu.binding.never-used")


def test_a_broker_that_is_no_redis_is_asked_too():
    app = app_of("memory://")
    app.send_task("nothing", queue="celery")
    taken = broker.look(app, ["celery", "never-used"])
    assert taken.said.values == {"queue_length": 1.0, "unacked": None}
    assert taken.said.unknown == {"unacked": "this kind of broker does not tell it"}


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_said_so_in_bounded_time_and_without_its_password(scheme):
    began_s = time.monotonic()
    taken = broker.look(app_of(f"{scheme}://ada:hunter2@127.0.0.1:{free_port()}//"), ["celery"])
    assert time.monotonic() - began_s < 5
    assert taken.error
    assert taken.said.values == {}
    assert "hunter2" not in repr(taken)
    assert "ada" not in taken.address


def test_a_frozen_broker_is_given_up_in_bounded_time(server):
    server.pause()
    began_s = time.monotonic()
    taken = broker.look(app_of(server.url), ["celery"])
    server.resume()
    assert taken.error
    assert time.monotonic() - began_s < 5


def test_the_queues_are_those_that_something_is_sent_to():
    app = app_of(
        "memory://",
        task_routes={"a": {"queue": "benchmarks"}, "b": {"queue": "monitoring"}, "c": {}},
    )
    names = broker.queues_of(app, ["nightly", None, "", "celery"])
    assert names == ["celery", "benchmarks", "monitoring", "nightly"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@host:6379/0", "host:6379"),
        ("sentinel://u:p@a:26379/0;sentinel://u:p@b:26379/0", "a:26379, b:26379"),
        ("redis+socket://u:p@/run/redis.sock?virtual_host=0", "/run/redis.sock"),
        ("amqp://u:p@host//", "host"),
    ],
)
def test_an_address_has_no_user(url, shown):
    assert broker.address_of(url) == shown
