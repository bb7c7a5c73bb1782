"""The sync transport where servers fail over, restart, forget or stay silent."""

from __future__ import annotations

import time

import pytest
import redis
import redis.sentinel

from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.storage import connections
from apps.ratelimits.storage.limiter import Target
from apps.ratelimits.storage.packing import command

from .connecting import (
    PING,
    clients,
    demoted,
    echo,
    evals,
    eventually,
    in_threads,
    keep,
    limiter,
    lose,
    make,
    observer,
    opened,
    proxy,
    replicated,
    server,
    talk,
)
from .limiters import A, make_limiter, rule

__all__ = ["demoted", "limiter", "make", "observer", "opened", "proxy", "replicated", "server"]


def test_after_a_failover_the_limiter_talks_to_the_new_primary(replicated):
    """The old one is silent, not closed: its connections look as good as ever."""
    primary, replica, watcher = replicated
    sentinels = redis.sentinel.Sentinel([("127.0.0.1", watcher.port)], socket_timeout=1)
    url = f"redis+sentinel://127.0.0.1:{watcher.port}/main"
    limiter = make_limiter(url, redis_timeout_ms=300)
    target = Target(rule(quota=100), A)
    assert limiter.check([target]).remaining == 99
    keep(limiter.redis.connections, 4)

    lose(primary, replica, sentinels)
    with replica.client() as direct:
        decisions = [limiter.check([target]) for _ in range(6)]
        assert [d.verdicts[0].degraded for d in decisions] == [True] + [False] * 5
        assert direct.exists(limiter.keys.bucket(A))
    limiter.close()
    for each in sentinels.sentinels:
        each.close()


def test_a_demoted_primarys_refusal_leads_to_a_new_connection(server, demoted, make, proxy):
    """As where a name or an address moves to the new primary."""
    proxy.upstream = demoted.port
    made = make(url=proxy.url)
    keep(made, 2)
    proxy.upstream = server.port
    with pytest.raises(redis.exceptions.ReadOnlyError):
        made.ask(command("INCR", "count"))
    assert in_threads(2, lambda: made.ask(command("INCR", "count"))) in ([1, 2], [2, 1])


def test_a_restart_while_connections_lie_idle_costs_no_check(server, observer, limiter, long_idle):
    target = Target(rule(quota=5), A)
    limiter.check([target])
    keep(limiter.redis.connections, 3)
    server.kill()
    server.start()
    assert [limiter.check([target]).remaining for _ in range(3)] == [4, 3, 2]
    assert limiter.redis.breaker.failed_total == 0


@pytest.fixture
def long_idle(monkeypatch):
    """Whatever is free has been so for long."""
    monkeypatch.setattr(connections, "IDLE_S", -1.0)


def test_a_restart_in_full_use_costs_one_failure_and_no_more(server, observer, make):
    made = make()
    keep(made, 5)
    server.kill()
    server.start()
    with pytest.raises((redis.ConnectionError, OSError)):
        made.ask(PING)
    assert [made.ask(PING) for _ in range(5)] == [b"PONG"] * 5


def test_where_one_stayed_silent_the_older_ones_are_not_asked(make, proxy):
    """The host is gone without a word: nothing shows it but that nobody answers."""
    made = make(timeout_s=0.6, url=proxy.url)
    keep(made, 5)
    proxy.freeze()
    with pytest.raises((redis.TimeoutError, TimeoutError)):
        made.ask(PING)
    began_s = time.monotonic()
    assert in_threads(5, lambda: made.ask(PING)) == [b"PONG"] * 5
    assert time.monotonic() - began_s < 0.6


def test_a_connection_that_is_looked_at_is_kept_where_it_is_well(make, opened, long_idle):
    made = make()
    assert [made.ask(PING) for _ in range(5)] == [b"PONG"] * 5
    assert opened() == 1


def test_a_byte_that_nobody_asked_for_answers_nobody(make, proxy, long_idle):
    made = make(url=proxy.url)
    assert made.ask(PING) == b"PONG"
    proxy.inject(b"+STRAY\r\n")
    assert made.ask(echo("mine")) == b"mine"
    assert proxy.accepted == 2


def test_a_command_without_reply_is_not_sent_again_and_its_late_reply_answers_nobody(
    server, observer, make
):
    made = make(1, timeout_s=0.1)
    made.ask(PING)
    server.pause()
    try:
        with pytest.raises((redis.TimeoutError, TimeoutError)):
            made.ask(command("INCR", "count"))
    finally:
        server.resume()
    assert talk(made, "next", 20)
    assert observer.get("count") == b"1"
    eventually(lambda: clients(observer) == 1)


def test_a_check_without_reply_is_charged_once(server, observer):
    limiter = make_limiter(server.url, redis_timeout_ms=100)
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=10, window_us=600_000_000), A)
    assert limiter.check([target]).remaining == 9
    server.pause()
    try:
        assert limiter.check([target]).verdicts[0].degraded
    finally:
        server.resume()
    assert limiter.peek([target]).remaining == 8
    limiter.close()


def test_an_error_reply_keeps_the_connection(observer, make, opened):
    made = make()
    observer.set("text", "x")
    for _ in range(5):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            made.ask(command("RPUSH", "text", "y"))
        assert made.ask(PING) == b"PONG"
    assert opened() == 1


def test_a_lost_script_is_loaded_once(observer, limiter, opened):
    target = Target(rule(Algorithm.TOKEN_BUCKET, quota=50), A)
    limiter.check([target])
    for _ in range(2):
        observer.script_flush()
        observer.config_resetstat()
        assert [limiter.check([target]).allowed for _ in range(4)] == [True] * 4
        assert evals(observer) == 1
    assert limiter.redis.breaker.failed_total == 0


def test_a_restarted_server_is_given_the_script_again(server, limiter, long_idle):
    target = Target(rule(quota=50), A)
    limiter.check([target])
    server.kill()
    server.start()
    assert [limiter.check([target]).remaining for _ in range(3)] == [49, 48, 47]
    with server.client() as observer:
        assert evals(observer) == 1
    assert limiter.redis.breaker.failed_total == 0


def test_a_server_that_cannot_be_reached_takes_no_place_of_the_bound(server, observer, make):
    made = make(2, timeout_s=0.2)
    server.kill()
    for _ in range(5):
        with pytest.raises(redis.ConnectionError):
            made.ask(PING)
    server.start()
    assert made.ask(PING) == b"PONG"
