"""Where the limits come from while Redis, the database or both are away."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import connection
from django.test import AsyncClient

from apps.ratelimits import conf
from apps.ratelimits import engine as engine_module
from apps.ratelimits.engine import Engine, get_engine
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.rules import Ruleset
from tests import databases
from tests.servers import RedisProcess

ROOT = Path(__file__).resolve().parents[3]
START_WAIT_S = engine_module.START_WAIT_S
SOON_S = 10.0
"""However slow this machine is just now."""


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setattr(engine_module, "START_WAIT_S", SOON_S)


@pytest.fixture
def server():
    made = RedisProcess().start()
    yield made
    made.stop()


@pytest.fixture
def make_engine(server, transactional_db):
    made = []

    def make(**changes) -> Engine:
        config = replace(
            conf.current(), redis_url=server.url, **{"redis_timeout_ms": 200, **changes}
        )
        made.append(Engine(config))
        made[-1].loads = count_loads(made[-1])
        return made[-1]

    yield make
    for engine in made:
        engine.stop()
        engine.limiter.close()


def count_loads(engine) -> list[float]:
    """When the database was read, from now on."""
    times: list[float] = []
    load = engine._follower._load

    def counted():
        times.append(time.monotonic())
        return load()

    engine._follower._load = counted
    return times


@pytest.fixture
def limit(transactional_db, engine):
    """``engine`` is the site's, which publishes to another server."""
    return RateLimit.objects.create(name="one", quota=3, path_kind="prefix", path="/api/")


def in_force(engine) -> list[str]:
    return [compiled.rule.name for compiled in engine.index.rules]


def eventually(condition, within_s=10.0):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def table_away():
    table = RateLimit._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    put_back = f"ALTER TABLE elsewhere RENAME TO {table}"
    try:
        yield lambda: connection.cursor().execute(put_back)
    finally:
        if "elsewhere" in connection.introspection.table_names():
            connection.cursor().execute(put_back)


def lines(caplog, word) -> list[str]:
    return [text for record in caplog.records if word in (text := record.getMessage())]


@pytest.mark.parametrize("fault", ["pause", "kill"])
def test_a_start_without_redis_takes_the_limits_from_the_database(
    make_engine, limit, server, fault, caplog
):
    engine = make_engine()
    getattr(server, fault)()
    began_s = time.monotonic()
    engine.start()
    assert in_force(engine) == ["one"]
    assert time.monotonic() - began_s < SOON_S / 2
    time.sleep(1)
    assert len(engine.loads) == 1
    assert len(lines(caplog, "The limits come from the database")) == 1


def test_limits_in_force_outlast_redis_without_a_word_to_the_database(
    make_engine, limit, server, caplog
):
    engine = make_engine()
    engine.publish()
    engine.start()
    assert in_force(engine) == ["one"]
    del caplog.records[:]
    server.kill()
    eventually(lambda: lines(caplog, "Redis"))
    assert in_force(engine) == ["one"]
    assert engine.loads == []
    assert len(lines(caplog, "Redis")) == len(caplog.records) == 1


def test_with_neither_the_policy_of_the_setting_is_told_once_and_the_database_left_alone(
    make_engine, limit, server, caplog
):
    engine = make_engine(ruleset_poll_ms=50)
    server.kill()
    with table_away() as put_back:
        began_s = time.monotonic()
        engine.start()
        assert time.monotonic() - began_s < SOON_S / 2  # It is known at once.
        assert engine.version == -1
        time.sleep(3)
        # After 0, some 0.4, 1.2 and 2.7 s: some 60 looks were taken meanwhile.
        assert 2 <= len(engine.loads) <= 5
        assert len(lines(caplog, "The limits cannot be had")) == 1
        put_back()
        eventually(lambda: in_force(engine) == ["one"])


def test_pauses_differ_between_processes(make_engine, limit, server):
    server.kill()
    pauses = set()
    with table_away():
        for _ in range(4):
            engine = make_engine()
            engine._follower.turn()
            pauses.add(round(engine._follower._next_read_s - time.monotonic(), 4))
    assert len(pauses) == 4
    assert max(pauses) <= 0.5


def test_redis_that_returns_is_in_force_though_the_database_is_not_to_be_asked(
    make_engine, limit, server
):
    engine = make_engine()
    server.kill()
    with table_away():
        engine.start()
        for _ in range(4):  # Until the next reading is seconds away.
            engine._follower._next_read_s = 0.0
            engine._follower.turn()
        server.start()
        assert engine.store.publish(Ruleset(77))
        eventually(lambda: engine.version == 77, within_s=2)


@pytest.fixture
def locked(limit, tmp_path, monkeypatch):
    """New connections are to a copy of the database that another program lets nobody else in; or
    with PostgreSQL, to tables that it lets nobody read."""
    if databases.server is not None:

        @contextmanager
        def kept():
            with databases.server.connect(connection.settings_dict["NAME"]) as other:
                other.execute("BEGIN")
                other.execute("LOCK TABLE ratelimits_rulesetversion IN ACCESS EXCLUSIVE MODE")
                yield
                other.execute("ROLLBACK")

        yield kept
        return
    copy = str(tmp_path / "copy.sqlite3")
    connection.cursor().execute("VACUUM INTO %s", [copy])

    @contextmanager
    def held():
        monkeypatch.setitem(connection.settings_dict, "NAME", copy)
        with closing(sqlite3.connect(copy, timeout=20, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")

    yield held
    monkeypatch.undo()


@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_a_database_that_hangs_holds_up_a_start_for_a_second(
    make_engine, locked, server, policy, monkeypatch
):
    monkeypatch.setattr(engine_module, "START_WAIT_S", START_WAIT_S)
    engine = make_engine(no_ruleset=policy)
    server.kill()
    with locked():
        began_s = time.monotonic()
        engine.start()
        took_s = time.monotonic() - began_s
        assert START_WAIT_S <= took_s < START_WAIT_S + 3
        assert (engine.without_limits() is None) is (policy == "allow")
        began_s = time.monotonic()
        engine.start()
        assert time.monotonic() - began_s < 0.1
        time.sleep(0.5)
        assert len(engine.loads) == 1  # The one that hangs.
    eventually(lambda: in_force(engine) == ["one"], within_s=25)
    assert engine.without_limits() is None


def test_a_database_that_hangs_keeps_nobody_from_being_counted(
    make_engine, locked, server, monkeypatch
):
    monkeypatch.setattr(engine_module, "START_WAIT_S", 0.0)
    engine = make_engine()
    with locked():
        engine.start()
        eventually(lambda: len(engine.processes.alive()) == 1, within_s=3)


def test_limits_of_another_form_are_replaced_by_the_databases_once(
    make_engine, limit, server, caplog
):
    engine = make_engine(ruleset_poll_ms=50)
    with server.client() as client:
        keys = engine.limiter.keys
        rows = {"version": 9 * 10**15, "data": b'{"version": 9e15, "rules": [{"of another": 1}]}'}
        client.hset(keys.ruleset, mapping=rows)
        engine.start()
        assert in_force(engine) == ["one"]
        time.sleep(0.5)
        assert len(engine.loads) == 1
        assert len(lines(caplog, "cannot be used")) <= 2
        client.hset(keys.ruleset, mapping={**rows, "version": 9 * 10**15 + 1, "data": b"\xff{"})
        eventually(lambda: len(engine.loads) == 2)
        time.sleep(0.3)
        assert len(engine.loads) == 2


def test_limits_of_another_form_are_replaced_when_the_database_is_back(make_engine, limit, server):
    engine = make_engine()
    with server.client() as client, table_away() as put_back:
        client.hset(engine.limiter.keys.ruleset, mapping={"version": 5, "data": b"[]"})
        engine.start()
        assert engine.version == -1
        put_back()
        eventually(lambda: in_force(engine) == ["one"])


def test_who_does_not_get_the_lock_waits_a_little_and_reads_the_database(
    make_engine, limit, server
):
    engine = make_engine()
    assert engine.store.try_lock()  # As a process that died then.
    engine.start()
    assert in_force(engine) == ["one"]
    assert len(engine.loads) == 1
    assert engine.store.version() is None


def test_a_key_of_a_strangers_where_the_limits_should_be_fails_no_start(make_engine, limit, server):
    engine = make_engine()
    with server.client() as client:
        client.set(engine.limiter.keys.ruleset, "x")
    engine.start()
    assert in_force(engine) == ["one"]
    assert engine.limiter.failures.by_kind["wrong_key"] >= 1


def test_a_process_that_stops_leaves_at_once_and_can_start_again(make_engine, limit, server):
    engine, other = make_engine(), make_engine()
    for _ in range(2):
        engine.start()
        eventually(lambda: len(other.processes.alive()) == 1)
        engine.stop()
        assert other.processes.alive() == []
        assert not engine.started


PROCESS = """
import sys, time
import django
django.setup()
from apps.ratelimits import conf, engine, following, ruleset

# However slow this machine is just now, nobody is to lose patience.
engine.START_WAIT_S, following.REBUILD_WAIT_S = 20.0, 10.0
loads, publishes = [], []
made = engine.get_engine()
follower = made._follower
load, publish = follower._load, made.store.publish
follower._load = lambda: loads.append(1) or load()
made.store.publish = lambda newest: publishes.append(1) or publish(newest)
print("ready", flush=True)
for line in sys.stdin:
    began_s = time.monotonic()
    if line == "start\\n":
        made.start()
    print(made.version, len(loads), len(publishes), len(made.index.rules), flush=True)
"""


CREATE = """
from apps.ratelimits.models import RateLimit
RateLimit.objects.create(name="one", quota=9)
"""


class Process:
    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=ROOT,
            env={"DJANGO_SETTINGS_MODULE": "iota.settings", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        return self.process.stdout.readline()

    def stop(self) -> int:
        """Its end, as a server's worker ends that runs ``atexit``."""
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def processes(number, environment):
    started = [Process(environment) for _ in range(number)]
    try:
        assert [one.hear() for one in started] == ["ready\n"] * number
        yield started
    finally:
        for one in started:
            if one.process.poll() is None:
                one.process.kill()
                one.process.communicate()


@pytest.fixture
def site(tmp_path, server):
    """The environment of a site with a limit of its own."""
    environment = {
        **os.environ,
        "DATABASE_URL": databases.url_of(tmp_path),
        "REDIS_URL": server.url,
    }
    databases.migrate(environment)
    create = (
        "from apps.ratelimits.models import RateLimit; RateLimit.objects.create(name='x', quota=9)"
    )
    command = [sys.executable, "manage.py", "shell", "-c", create, "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return environment


def totals(said) -> tuple[set[str], int, int]:
    rows = [line.split() for line in said]
    return (
        {row[0] for row in rows},
        sum(int(row[1]) for row in rows),
        sum(int(row[2]) for row in rows),
    )


def test_processes_that_start_at_once_on_an_empty_redis_read_the_database_once(site, server):
    with server.client() as client, processes(4, site) as started:
        for round_ in (1, 2, 3):
            client.flushall()  # Where they run already, each of them sees that it is empty.
            for one in started:
                one.say("start")
            for one in started:
                one.hear()
            eventually(lambda: client.exists("iota:ruleset"))
            time.sleep(0.6)
            for one in started:
                one.say("how are you")
            versions, loads, publishes = totals([one.hear() for one in started])
            assert len(versions) == 1
            assert "-1" not in versions
            assert (loads, publishes) == (round_, round_)
        for one in started:
            assert one.stop() == 0
        assert client.hkeys("iota:processes") in ([], [b"swept"])  # Each left when it ended.


def test_a_database_that_was_moved_away_is_found_when_it_is_back(site, server, tmp_path):
    server.kill()
    url = site["DATABASE_URL"]
    with processes(1, site) as (one,):
        databases.rename(url, url + "-away")
        one.say("start")
        assert one.hear().split()[0] == "-1"
        databases.rename(url + "-away", url)

        def limits() -> str:
            one.say("how are you")
            return one.hear().split()[3]

        eventually(lambda: limits() == "1")


@pytest.fixture
def nothing(engine, redis_server):
    """The site's engine, with limits nowhere to be had."""

    @contextmanager
    def started(policy):
        engine.config = replace(engine.config, no_ruleset=policy)
        redis_server.pause()
        try:
            with table_away():
                engine.start()
                yield
        finally:
            redis_server.resume()

    return started


def test_without_limits_requests_pass_or_hear_to_come_again(nothing, client):
    with nothing("allow"):
        assert client.get("/api/test").status_code == 200
        get_engine().config = replace(get_engine().config, no_ruleset="deny")
        denied = client.get("/api/test")
        assert denied.status_code == 503
        assert denied["Retry-After"] == "1"
        assert denied["Content-Type"] == "application/problem+json"
        assert denied.json()["type"].endswith("#temporary-reduced-capacity")
        assert client.get("/healthz").status_code == 200


async def test_without_limits_an_async_request_hears_the_same(engine):
    engine.config = replace(engine.config, no_ruleset="deny")
    engine._started_pid = os.getpid()
    denied = await AsyncClient().get("/api/test")
    assert denied.status_code == 503
    assert (await AsyncClient().get("/healthz")).status_code == 200
