"""What one server says, on real servers of both flavours."""

from __future__ import annotations

import time

import pytest
import redis

from apps.monitoring.collecting import addresses, everything, node
from apps.monitoring.collecting.rates import Counted, since
from apps.monitoring.collecting.taken import Taken
from tests import redis_files
from tests.clusters import ClusterProcesses
from tests.servers import RedisProcess, flavours, free_port, sentinel
from tests.topologies import KINDS, serving

OFTEN = {"round_trip_us", "memory_bytes", "memory_percent", "clients", "clients_percent", "keys"}


@pytest.fixture(params=flavours())
def flavour(request):
    return request.param


@pytest.fixture
def start(request):
    def start(server):
        request.addfinalizer(server.stop)
        return server.start()

    return start


def looked(url: str, operator_url: str = "") -> list[Taken]:
    site = addresses.bounded(url)
    operator = addresses.bounded(operator_url) if operator_url else None
    found = addresses.servers(operator or site)
    assert found is not None
    return [node.look(site, operator, one) for one in found]


def counted(taken: Taken) -> Counted:
    return Counted(taken.run_id, taken.clock_s, taken.said.counters)


def wait_for(condition, within_s: float = 15.0):
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def test_a_server_says_all_there_is(flavour, start):
    server = start(RedisProcess(flavour, ["--maxmemory", "100mb"]))
    (taken,) = looked(server.url)
    assert taken.error == ""
    assert taken.address == f"127.0.0.1:{server.port}"
    assert (taken.role, len(taken.run_id)) == ("primary", 40)
    assert taken.server.startswith(flavour.title())
    said = taken.said
    assert said.values.keys() >= OFTEN
    assert 0 < said.values["memory_percent"] < 20
    assert said.notes["memory_percent"] == "of maxmemory, 100 MiB, policy noeviction"
    assert said.values["clients"] >= 1
    # A primary without replicas has nothing to lag.
    assert "replication_lag_s" not in said.values
    assert set(said.unknown) == {"latency_event_us"}


def test_rates_are_of_what_happened_between_two_looks(flavour, start):
    server = start(RedisProcess(flavour, ["--slowlog-log-slower-than", "1000"]))
    (before,) = looked(server.url)
    with server.client() as client:
        sha = client.script_load("local n = 0 for i = 1, ARGV[1] do n = n + i end return n")
        for _ in range(20):
            client.evalsha(sha, 0, 1000)
        for _ in range(2):
            client.evalsha(sha, 0, 3_000_000)  # some tens of ms
        for n in range(50):
            client.set(f"k{n}", 1, px=1)
        time.sleep(0.5)
    (after,) = looked(server.url)
    made = since(counted(before), counted(after)).values
    took_s = after.clock_s - before.clock_s
    assert made["ops_per_s"] * took_s >= 72
    assert made["slow_per_s"] * took_s == pytest.approx(2, abs=1.1)  # and perhaps a loaded script
    assert 0 < made["cpu_percent"] < 110
    assert made["command_us"] > 100
    assert made["command_p99_us"] > 1_000
    assert made["command_p99_us"] >= made["command_us"] / 2
    assert made["evicted_per_s"] == 0


def test_the_main_thread_is_what_counts(flavour, start):
    """Busy for most of the time, by a script."""
    server = start(RedisProcess(flavour))
    with server.client() as client:
        (before,) = looked(server.url)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            client.eval("for i = 1, 2000000 do end", 0)
        (after,) = looked(server.url)
    made = since(counted(before), counted(after)).values
    # Its CPU time where others run beside it, the time it was at work where it tells that.
    assert made["cpu_percent"] > 25
    note = after.said.notes["cpu_percent"]
    assert note.startswith("time that" if flavour == "valkey" else "CPU time of its main")


def test_a_restart_makes_no_rate_of_what_was_before(flavour, start):
    server = start(RedisProcess(flavour))
    with server.client() as client:
        for _ in range(500):
            client.ping()
    (before,) = looked(server.url)
    server.stop(remove=False)
    server.start()
    (after,) = looked(server.url)
    assert before.run_id != after.run_id
    made = since(counted(before), counted(after))
    assert {made.values[name] for name in ("ops_per_s", "cpu_percent", "slow_per_s")} == {None}
    assert set(made.unknown.values()) == {"known from the second look on"}


def test_counters_that_were_set_back_make_none_either(flavour, start):
    server = start(RedisProcess(flavour))
    with server.client() as client:
        for _ in range(500):
            client.ping()
        (before,) = looked(server.url)
        client.config_resetstat()
    (after,) = looked(server.url)
    made = since(counted(before), counted(after))
    assert made.values["ops_per_s"] is None
    assert made.unknown["ops_per_s"] == "its counter began anew since the look before"
    # Valkey sets back the time at work as well.
    assert (made.values["cpu_percent"] is None) == (flavour == "valkey")


def test_without_maxmemory_the_machine_is_the_bound_and_that_is_said(flavour, start):
    (taken,) = looked(start(RedisProcess(flavour)).url)
    assert "machine" in taken.said.notes["memory_percent"]
    assert 0 < taken.said.values["memory_percent"] < 50


def test_what_an_acl_forbids_is_unknown_with_the_servers_words(flavour, start):
    server = start(redis_files.with_users(flavour))
    site, operator = (
        redis_files.url(name, f"127.0.0.1:{server.port}") for name in ("iota", "iota-operator")
    )
    (taken,) = looked(site)
    assert taken.error == ""
    assert taken.said.values.pop("round_trip_us") > 0
    assert set(taken.said.values.values()) == {None}
    assert taken.said.unknown.keys() == taken.said.values.keys()
    assert {"cpu_percent", "memory_percent", "replication_lag_s", "slow_per_s"} <= (
        taken.said.unknown.keys()
    )
    assert "permission" in taken.said.unknown["memory_percent"].lower()
    # The operator of the shipped file may read all of it.
    (taken,) = looked(site, operator)
    assert (taken.error, taken.said.unknown) == ("", {})
    assert taken.said.values["latency_event_us"] == 0


def test_an_operator_who_is_not_let_in_is_said_so_and_the_site_tells_what_it_may(flavour, start):
    server = start(redis_files.with_users(flavour))
    site = redis_files.url("iota", f"127.0.0.1:{server.port}")
    (taken,) = looked(site, site.replace("secret-of", "wrong"))
    assert taken.said.values["round_trip_us"] > 0
    assert "as the operator: AuthenticationError" in taken.said.unknown["cpu_percent"]
    assert "wrong-iota" not in repr(taken)


def test_a_part_that_is_forbidden_leaves_the_others(flavour, start):
    server = start(RedisProcess(flavour))
    with server.client() as admin:
        admin.execute_command(
            "ACL SETUSER", "some", "on", ">pw", "-@all", "+info", "+ping", "+hello"
        )
    (taken,) = looked(f"redis://some:pw@127.0.0.1:{server.port}/0")
    assert taken.said.values.keys() >= OFTEN
    assert set(taken.said.unknown) == {
        "command_p99_us",
        "slow_per_s",
        "latency_event_us",
        "output_bytes",
    }
    assert taken.run_id


def test_a_spike_of_the_latency_monitor_is_told_once(flavour, start):
    server = start(RedisProcess(flavour, ["--latency-monitor-threshold", "20"]))
    with server.client() as client:
        client.eval("for i = 1, 20000000 do end", 0)
    (taken,) = looked(server.url)
    assert taken.said.values["latency_event_us"] >= 20_000
    assert taken.said.notes["latency_event_us"]


def test_lag_is_of_the_replica_that_froze_and_it_is_lost_once_it_is_missing(flavour, start):
    primary = start(
        RedisProcess(flavour, ["--repl-timeout", "4", "--repl-diskless-sync-delay", "0"])
    )
    of = ["--replicaof", f"127.0.0.1 {primary.port}"]
    replica = start(RedisProcess(flavour, of))

    def online() -> bool:
        (taken,) = looked(primary.url)
        return list((taken.replicas or {}).values()) == [True]

    wait_for(online)
    (of_replica,) = looked(replica.url)
    assert of_replica.role == "replica"
    assert of_replica.said.values["replication_lag_s"] <= 2
    assert f"of 127.0.0.1:{primary.port}" in of_replica.said.notes["replication_lag_s"]
    replica.pause()
    try:
        lagging = wait_for(
            lambda: [t for t in looked(primary.url) if (t.said.values["replication_lag_s"]) >= 2]
        )
        assert "bytes behind" in lagging[0].said.notes["replication_lag_s"]
        wait_for(lambda: looked(primary.url)[0].replicas == {})
    finally:
        replica.resume()
    wait_for(online)
    primary.kill()
    down = wait_for(
        lambda: [t for t in looked(replica.url) if t.said.values["replication_lag_s"] >= 1]
    )
    assert "the link is down" in down[0].said.notes["replication_lag_s"]


def test_replicas_count_as_connections(flavour, start):
    primary = start(
        RedisProcess(flavour, ["--maxclients", "50", "--repl-diskless-sync-delay", "0"])
    )
    start(RedisProcess(flavour, ["--replicaof", f"127.0.0.1 {primary.port}"]))
    taken = wait_for(
        lambda: next((t for t in looked(primary.url) if (t.replicas or {}).values()), None)
    )
    with primary.client() as client:
        clients = client.info("clients")["connected_clients"]
    assert taken.said.values["clients"] >= clients
    assert "1 replicas" in taken.said.notes["clients"]
    percent = taken.said.values["clients_percent"]
    assert percent == pytest.approx(taken.said.values["clients"] * 2)


def test_sentinels_name_the_primary_and_its_replicas(flavour, start):
    primary = start(RedisProcess(flavour, ["--repl-diskless-sync-delay", "0"]))
    replica = start(RedisProcess(flavour, ["--replicaof", f"127.0.0.1 {primary.port}"]))
    watcher = start(sentinel(flavour, primary))
    url = f"redis+sentinel://127.0.0.1:{watcher.port},127.0.0.1:{free_port()}/main/0"
    topology = addresses.bounded(url)
    places = [("127.0.0.1", primary.port), ("127.0.0.1", replica.port)]
    wait_for(lambda: addresses.servers(topology) == places)
    taken = looked(url)
    assert [one.role for one in taken] == ["primary", "replica"]
    watcher.kill()
    assert addresses.servers(topology) is None


def test_every_node_of_a_cluster_says_how_it_hears_the_others(flavour):
    cluster = ClusterProcesses(flavour).start()
    try:
        taken = looked(cluster.url)
        ports = {f"127.0.0.1:{one.port}" for one in cluster.nodes}
        assert {one.address for one in taken} == ports
        assert sorted(one.role for one in taken) == ["primary"] * 3 + ["replica"] * 3
        for one in taken:
            assert one.said.values["links_lost"] == 0
            assert 0 <= one.said.values["pong_age_s"] < 3
            assert one.said.values["link_bytes"] >= 0
            assert "links of the cluster" in one.said.notes["clients"]
        lost = cluster.primaries()[0]
        cluster.kill(lost)

        def missed():
            found = looked(cluster.url)
            return [t for t in found if not t.error and t.said.values["links_lost"]] and found

        found = wait_for(missed)
        errors = {one.address: bool(one.error) for one in found}
        assert errors == {port: port.endswith(f":{lost.port}") for port in ports}
    finally:
        cluster.stop()


def test_a_silent_server_is_given_up_in_bounded_time_and_keeps_no_other(flavour, start, settings):
    server = start(RedisProcess(flavour))
    server.pause()
    try:
        began_s = time.monotonic()
        site = addresses.bounded(server.url + "?socket_timeout=60")
        taken = node.look(site, None, ("127.0.0.1", server.port))
        assert time.monotonic() - began_s < 3
    finally:
        server.resume()
    assert "Timeout" in taken.error
    assert taken.said.values == {}


def test_no_password_is_in_an_error():
    (taken,) = looked(f"redis://ada:hunter2@127.0.0.1:{free_port()}/0")
    assert taken.error
    assert "hunter2" not in repr(taken)


def test_a_slow_server_is_cut_short(start):
    """Each answer takes a while: what was not asked in time is unknown, the rest is known."""
    server = start(RedisProcess())
    with server.client() as client:
        ask = node.Asking(client, deadline_s=time.monotonic() - 1)
        with pytest.raises(node.Refused, match="took more than"):
            ask("INFO")
        assert isinstance(client.ping(), bool)
    assert everything.WITHIN_S > node.WHOLE_S + addresses.LOOK_S
    assert issubclass(redis.TimeoutError, redis.RedisError)


@pytest.mark.parametrize(("kind", "flavour"), KINDS)
def test_every_kind_of_redis_url_is_read(kind, flavour):
    with serving(kind, flavour) as url:
        found = wait_for(lambda: not any(one.error for one in looked(url)) and looked(url))
        assert len(found) == (6 if "cluster" in kind else 1)
        for taken in found:
            assert taken.said.values["memory_bytes"] > 0
            assert "secret" not in taken.address
            assert taken.address
