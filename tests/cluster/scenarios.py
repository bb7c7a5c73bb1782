"""What happens to a cluster in the middle of a load."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from apps.ratelimits.storage.cluster import SLOTS
from apps.ratelimits.storage.limiter import RateLimiter
from iota.config import create_settings
from tests.clusters import ClusterProcesses
from tests.servers import RedisProcess

from .judging import Happened, Row, judge
from .load import Load, People, everybody, use_up

BEFORE_S = 1.5
AFTER_S = 3.0
ELECTED_WITHIN_S = 15.0
LAG_SAMPLES = 50
BEHIND_S = 0.2
SLOTS_MOVED = 30
USUAL_MS, PATIENT_MS = 50, 1_000


@dataclass(slots=True)
class Stage:
    cluster: ClusterProcesses
    people: Sequence[People]
    lag_s: float = 0.0
    """How long the primary that will be lost took to have a write acknowledged by its replica."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """``harmless``: every request is decided by Redis. What proves that has time for a busy
    machine; the others have what a site has."""

    name: str
    play: Callable[[Stage], Happened]
    harmless: bool = False

    def __str__(self) -> str:
        return self.name


def run(scenario: Scenario, flavour: str) -> Row:
    cluster = ClusterProcesses(flavour).start()
    key = secrets.token_hex(32)
    try:
        stage = Stage(cluster, everybody(cluster))
        limiter = _limiter(cluster.url, key, PATIENT_MS if scenario.harmless else USUAL_MS)
        load = Load(limiter, stage.people).start()
        try:
            time.sleep(BEFORE_S)
            stage.lag_s = _lag_s(cluster.primaries()[0])
            happened = scenario.play(stage)
            time.sleep(AFTER_S)
        finally:
            under_load = load.stop()
            limiter.close()
        cluster.wait_until_healthy()
        # Another process: it remembers no denial.
        other = _limiter(cluster.url, key, PATIENT_MS)
        used_up = use_up(other, stage.people)
        other.close()
        return judge(scenario.name, happened, under_load, used_up)
    finally:
        cluster.stop()


def _limiter(url: str, key: str, timeout_ms: int) -> RateLimiter:
    """As a site's that sets nothing else."""
    environment = {"IOTA_DEMO": "1", "SECRET_KEY": secrets.token_hex(32), "IOTA_IDENTITY_KEY": key}
    environment |= {"REDIS_URL": url, "CELERY_BROKER_URL": "redis://nowhere"}
    environment["IOTA_REDIS_TIMEOUT_MS"] = str(timeout_ms)
    return RateLimiter(create_settings(environment).rate_limit_config)


def nothing(stage: Stage) -> Happened:
    time.sleep(2)
    return _over(time.monotonic())


def a_primary_is_killed(stage: Stage) -> Happened:
    return _lose(stage, stage.cluster.kill)


def a_primary_is_killed_with_its_replica_behind(stage: Stage) -> Happened:
    """The replica gets nothing any more, and then the primary is gone."""

    def lose(primary: RedisProcess) -> None:
        began_s = time.monotonic()
        replica.pause()
        # What is on its way to the replica would still arrive: there must be no connection.
        with primary.client() as client:
            client.client_kill_filter(_type="replica")
        time.sleep(BEHIND_S)
        stage.cluster.kill(primary)
        replica.resume()
        stage.lag_s += time.monotonic() - began_s

    replica = stage.cluster.replica_of(stage.cluster.primaries()[0])
    return _lose(stage, lose)


def a_primary_is_frozen(stage: Stage) -> Happened:
    """It comes back when another has taken its place, and does what it was asked meanwhile."""
    frozen = stage.cluster.primaries()[0]
    happened = _lose(stage, RedisProcess.pause)
    frozen.resume()
    return happened


def the_killed_primary_comes_back(stage: Stage) -> Happened:
    """As a replica, while the load goes on."""
    killed = stage.cluster.primaries()[0]
    happened = _lose(stage, stage.cluster.kill)
    time.sleep(1)
    stage.cluster.restart(killed)
    stage.cluster.wait_until_healthy()
    return happened


def a_replica_is_killed(stage: Stage) -> Happened:
    cluster = stage.cluster
    cluster.kill(cluster.replica_of(cluster.primaries()[0]))
    at_s = time.monotonic()
    time.sleep(2)
    return _over(at_s)


def a_replica_takes_over_as_planned(stage: Stage) -> Happened:
    """CLUSTER FAILOVER: the primary waits for it."""
    replica = stage.cluster.replica_of(stage.cluster.primaries()[0])
    with replica.client() as client:
        client.execute_command("CLUSTER FAILOVER")
        at_s = time.monotonic()
        _until_primary(replica)
    return _over(at_s)


def slots_move(stage: Stage) -> Happened:
    """To another primary and back again, those of the people first."""
    cluster = stage.cluster
    source, target = cluster.primaries()[:2]
    theirs = {person.slot for whom in stage.people for person in whom}
    theirs = {slot for slot in theirs if cluster.owner_of(slot) is source}
    slots = [*theirs, *(set(_slots_of(cluster, source)) - theirs)][:SLOTS_MOVED]
    at_s = time.monotonic()
    cluster.move_slots(slots, target)
    cluster.move_slots(slots, source)
    return Happened(at_s, time.monotonic())


SCENARIOS = (
    Scenario("nothing happens", nothing, harmless=True),
    Scenario("a primary is killed", a_primary_is_killed),
    Scenario("the same, replica 200 ms behind", a_primary_is_killed_with_its_replica_behind),
    Scenario("a primary is frozen", a_primary_is_frozen),
    Scenario("the killed primary comes back", the_killed_primary_comes_back),
    Scenario("a replica is killed", a_replica_is_killed, harmless=True),
    Scenario("a replica takes over as planned", a_replica_takes_over_as_planned, harmless=True),
    Scenario(f"{SLOTS_MOVED} slots move, and back", slots_move, harmless=True),
)


def _lose(stage: Stage, lose: Callable[[RedisProcess], None]) -> Happened:
    """Until the replica says that it is the primary now."""
    primary = stage.cluster.primaries()[0]
    replica = stage.cluster.replica_of(primary)
    slots = frozenset(_slots_of(stage.cluster, primary))
    lose(primary)
    at_s = time.monotonic()
    _until_primary(replica)
    return Happened(at_s, time.monotonic(), slots, stage.lag_s)


def _over(at_s: float) -> Happened:
    return Happened(at_s, at_s)


def _slots_of(cluster: ClusterProcesses, node: RedisProcess) -> list[int]:
    return [slot for first, last in cluster.slots_of(node) for slot in range(first, last + 1)]


def _until_primary(replica: RedisProcess) -> None:
    deadline_s = time.monotonic() + ELECTED_WITHIN_S
    with replica.client() as client:
        while True:
            role: Sequence[bytes] = client.execute_command("ROLE")
            if role[0] == b"master":
                return
            assert time.monotonic() < deadline_s, "no replica took over"
            time.sleep(0.005)


def _lag_s(primary: RedisProcess) -> float:
    """Of 50 writes, how long the slowest took until the replica had it."""
    took = []
    with primary.client() as client:
        for number in range(SLOTS):
            try:
                client.set(f"lag:{number}", 1)
                name = f"lag:{number}"
                break
            except redis.exceptions.MovedError:
                continue
        for _ in range(LAG_SAMPLES):
            began_s = time.monotonic()
            client.set(name, 1)
            if client.execute_command("WAIT", 1, 1_000) < 1:
                raise AssertionError("the replica does not follow")
            took.append(time.monotonic() - began_s)
        client.delete(name)
    return max(took)
