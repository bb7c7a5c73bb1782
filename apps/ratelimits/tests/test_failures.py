"""Every way in which Redis can fail, on servers that do fail so, and how it is counted and told."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from contextlib import contextmanager, suppress

import pytest
import redis

from apps.ratelimits.policy.rules import FailurePolicy
from apps.ratelimits.storage.errors import BreakerOpen, Unavailable
from apps.ratelimits.storage.failures import (
    QUIET_S,
    REMARK_S,
    Failures,
    Kind,
    kind_of,
)
from apps.ratelimits.storage.limiter import Target
from tests.servers import RedisProcess, flavours

from .limiters import A, make_limiter, rule


@contextmanager
def server(flavour, *options, url="redis://127.0.0.1:{port}/0"):
    made = RedisProcess(flavour, options, url)
    try:
        yield made.start()
    finally:
        made.stop()


@contextmanager
def frozen(flavour):
    with server(flavour) as made:
        made.pause()
        yield made.url


@contextmanager
def gone(flavour):
    with server(flavour) as made:
        made.kill()
        yield made.url


@contextmanager
def loading(flavour):
    with server(flavour) as made, made.client() as client:
        client.mset({f"key:{number}": "x" * 2_000 for number in range(2_000)})
        client.save()
        made.kill()
        # Each key takes so long to load, us, and requests are looked at after so many bytes.
        made._options = ["--key-load-delay", "10000"]
        made._options += ["--loading-process-events-interval-bytes", "1024"]
        yield made.start().url


@contextmanager
def replica(flavour):
    with server(flavour) as primary:
        of = ["--replicaof", "127.0.0.1", str(primary.port)]
        with server(flavour, *of) as made, made.client() as client:
            deadline = time.monotonic() + 10
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield made.url


@contextmanager
def full(flavour):
    with server(flavour, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction") as made:
        yield made.url


@contextmanager
def without_slots(flavour):
    with server(flavour, "--cluster-enabled", "yes") as made:
        yield made.url


@contextmanager
def with_password(flavour):
    url = "redis://:secret@127.0.0.1:{port}/0"
    with server(flavour, "--requirepass", "secret", url=url) as made:
        yield f"redis://127.0.0.1:{made.port}/0"


@contextmanager
def another_password(flavour):
    with with_password(flavour) as url:
        yield url.replace("//", "//:guess@")


@contextmanager
def without_rights(flavour):
    with server(flavour) as made, made.client() as client:
        client.execute_command("ACL", "SETUSER", "ada", "on", ">secret", "~*", "+ping", "+client")
        yield f"redis://ada:secret@127.0.0.1:{made.port}/0"


@contextmanager
def crowded(flavour):
    with server(flavour, "--maxclients", "1") as made, made.client() as client:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with suppress(redis.ConnectionError):  # Until the client of before has left.
                client.ping()
                break
        yield made.url


@contextmanager
def busy(flavour):
    with server(flavour, "--lua-time-limit", "10") as made, made.client() as client:
        loop = threading.Thread(target=run_until_killed, args=(made, "while true do end"))
        loop.start()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.ResponseError:
                break
        try:
            yield made.url
        finally:
            client.script_kill()
            loop.join()


def run_until_killed(made, script):
    with made.client() as client, suppress(redis.ResponseError):
        client.eval(script, 0)


@contextmanager
def with_a_strangers_key(flavour):
    with server(flavour) as made, made.client() as client:
        client.rpush(f"iota:b:{{{A}}}", "not a bucket")
        yield made.url


FAULTS = {
    frozen: Kind.TIMEOUT,
    gone: Kind.CONNECTION,
    loading: Kind.LOADING,
    replica: Kind.READONLY,
    full: Kind.OOM,
    without_slots: Kind.CLUSTERDOWN,
    with_password: Kind.AUTH,
    another_password: Kind.AUTH,
    without_rights: Kind.AUTH,
    crowded: Kind.MAX_CLIENTS,
    busy: Kind.BUSY,
    with_a_strangers_key: Kind.WRONG_KEY,
}


@pytest.mark.parametrize("flavour", flavours())
@pytest.mark.parametrize(
    ("fault", "kind"), FAULTS.items(), ids=lambda it: getattr(it, "__name__", it)
)
def test_each_failed_call_is_counted_once_and_decided_by_policy(flavour, fault, kind):
    with fault(flavour) as url:
        limiter = make_limiter(url, redis_timeout_ms=2_000)
        targets = [Target(rule(quota=9, on_failure=FailurePolicy.DENY), A)]
        assert limiter.check(targets).unavailable

        async def ask():
            assert (await limiter.acheck(targets)).unavailable
            await limiter.aclose()

        asyncio.run(ask())
        limiter.close()
    assert limiter.failures.total == 2
    # The server says that it takes no more, and hangs up: that can be all that is heard.
    told = {kind, Kind.CONNECTION} if kind is Kind.MAX_CLIENTS else {kind}
    assert set(limiter.failures.by_kind) <= told
    assert limiter.failures.by_policy == {FailurePolicy.DENY: 2}
    assert limiter.failures.failing
    assert limiter.failures.outage.kind in told
    assert limiter.failures.outage.decided == 2


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (redis.exceptions.MaxConnectionsError("all 50 in use"), Kind.POOL),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), Kind.READONLY),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), Kind.READONLY),
        (redis.ResponseError("UNKILLABLE Sorry the script already executed writes"), Kind.BUSY),
        (redis.ResponseError("ERR Error running script: -OOM command not allowed when used memory"),
         Kind.OOM),
        (redis.exceptions.MovedError("7 127.0.0.1:7001"), Kind.CLUSTERDOWN),
        (redis.exceptions.MasterDownError("Link with MASTER is down"), Kind.CLUSTERDOWN),
        (redis.exceptions.InvalidResponse("Protocol Error"), Kind.OTHER),
        (TimeoutError(), Kind.TIMEOUT),
        (ConnectionResetError(), Kind.CONNECTION),
        (BreakerOpen(), Kind.OTHER),
        (redis.DataError("Invalid input"), None),
        (redis.ResponseError("ERR user_script:7: attempt to index a nil value (BUSY)"), None),
        (redis.exceptions.ClusterCrossSlotError("Keys in request"), None),
        (ZeroDivisionError(), None),
    ],
)  # fmt: skip
def test_errors_by_kind(error, kind):
    assert kind_of(error) is kind


def test_an_unavailable_is_of_its_causes_kind():
    error = Unavailable("Redis is away")
    error.__cause__ = redis.TimeoutError("no reply in time")
    assert kind_of(error) is Kind.TIMEOUT


def test_every_kind_can_be_told():
    assert all(kind.words for kind in Kind)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("redis://ada:se%40cret@10.0.0.1:6379/0?client_name=x", ["10.0.0.1:6379"]),
        ("unix://ada:secret@/run/redis.sock?db=1", ["/run/redis.sock"]),
        ("redis+sentinel://:secret@10.0.0.1,10.0.0.2/main", ["main"]),
    ],
)
def test_a_nodes_name_holds_no_password(url, names):
    limiter = make_limiter(url)
    assert [node.name for node in limiter.redis.nodes] == names


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def failures(clock):
    return Failures(clock, clock)


TIMEOUT = redis.TimeoutError("no reply in time")


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_outage_is_two_lines_in_the_log(failures, clock, caplog):
    for _ in range(500):
        failures.note(TIMEOUT, "10.0.0.1:6379")
        failures.decided(FailurePolicy.LOCAL)
        clock.now_s += 0.01
    clock.now_s += QUIET_S
    failures.answered()
    failures.answered()
    assert said(caplog) == [
        "Redis at 10.0.0.1:6379 fails (no answer in time): each limit's policy decides",
        "Redis serves the limits again after 7 s: 500 requests were decided by policy meanwhile",
    ]
    assert not failures.failing
    assert failures.outage.until_s == clock.now_s
    assert failures.outage.decided == 500


def test_a_long_outage_is_remarked_once_a_minute(failures, clock, caplog):
    for _ in range(6_000):
        failures.note(TIMEOUT, "10.0.0.1:6379")
        clock.now_s += 0.05
    lines = said(caplog)
    assert len(lines) == 5
    assert "has been failing for 62 s (no answer in time)" in lines[1]


def test_a_server_that_fails_now_and_then_is_one_outage(failures, clock, caplog):
    for _ in range(100):
        failures.note(TIMEOUT, "10.0.0.1:6379")
        clock.now_s += QUIET_S / 2
        failures.answered()
    assert failures.failing
    assert len(said(caplog)) == 2  # Over 60 s.


def test_many_short_outages_do_not_fill_the_log_and_none_is_lost(failures, clock, caplog):
    for _ in range(100):
        failures.note(TIMEOUT)
        failures.decided(FailurePolicy.ALLOW)
        clock.now_s += QUIET_S
        failures.answered()
        assert not failures.failing
    clock.now_s += REMARK_S
    failures.answered()
    lines = said(caplog)
    assert len(lines) <= 2 * (100 * QUIET_S / REMARK_S + 2)
    told = sum("serves the limits again" in line for line in lines)
    more = [int(line.split()[2]) for line in lines if "more times" in line]
    assert told + sum(more) == 100


def test_a_failure_that_cost_nothing_is_counted_and_not_remarked_on(failures, clock, caplog):
    failures.note(TIMEOUT)
    clock.now_s += QUIET_S
    failures.answered()
    assert said(caplog) == []
    assert failures.total == 1
    # Nor does it keep the next one from being told.
    failures.note(TIMEOUT)
    failures.decided(FailurePolicy.ALLOW)
    assert len(said(caplog)) == 1


def test_requests_decided_while_redis_is_left_alone_keep_the_outage_open(failures, clock):
    failures.note(TIMEOUT, "10.0.0.1:6379")
    for _ in range(10):
        clock.now_s += 0.9 * QUIET_S
        failures.decided(FailurePolicy.ALLOW)
        failures.answered()
    assert failures.failing
    assert failures.outage.decided == 10
    assert failures.by_kind == {Kind.TIMEOUT: 1}


def test_every_failure_of_many_threads_is_counted(failures):
    def fail():
        for _ in range(1_000):
            failures.note(TIMEOUT, "10.0.0.1:6379")
            failures.decided(FailurePolicy.LOCAL)

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures.total == failures.outage.decided == 8_000


def test_a_forked_child_counts_its_own(failures):
    failures.note(TIMEOUT, "10.0.0.1:6379")
    with failures._lock:  # As another thread may hold it at that moment.
        child = os.fork()
        if child == 0:
            before = failures.total
            failures.note(TIMEOUT, "10.0.0.1:6379")
            os._exit(10 * before + failures.total)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert failures.total == 1


def test_what_is_logged_of_a_failure_names_no_secret(caplog):
    caplog.set_level(logging.DEBUG)
    with with_password("valkey") as url:
        limiter = make_limiter(url.replace("//", "//:guessed-wrong@"))
        limiter.check([Target(rule(), A)])
        limiter.close()
    assert "guessed-wrong" not in caplog.text
    assert "not permitted" in caplog.text
