"""What the hooks share, on a cluster too: each node is asked by itself."""

from __future__ import annotations

import pytest

from apps.monitoring.look import NotSaid
from tests import redis_files
from tests.servers import free_port

from .looking import codes, find, looking


@pytest.mark.parametrize("name", ["latency", "slow-commands", "memory", "expiry"])
def test_each_node_of_a_cluster_is_looked_at(cluster, name):
    found = find(name, cluster.url)
    assert len({one.where for one in found}) == 6
    assert {"hook-late", "hook-failed", "not-known"}.isdisjoint(codes(found))


def test_keys_of_replicas_are_not_counted_twice(cluster):
    assert codes(find("keys", cluster.url)) == ["keys"] * 3


def test_a_cluster_of_which_no_node_answers_is_unknown():
    url = f"redis+cluster://:hunter2@127.0.0.1:{free_port()}"
    for name in ("latency", "memory", "keys"):
        (found,) = find(name, url)
        assert (found.code, found.where) == ("not-known", "the cluster")
        assert "hunter2" not in found.evidence


def test_who_does_not_answer_is_waited_for_once(redis_server):
    with looking(redis_server.url) as look:
        (node,) = look.nodes
        assert look.ask(node, "PING") in (True, b"PONG", "PONG")
        redis_server.pause()
        try:
            with pytest.raises(NotSaid, match="Timeout"):
                look.ask(node, "PING")
        finally:
            redis_server.resume()
        # It would answer now, but a diagnosis has one opinion of it.
        with pytest.raises(NotSaid, match="Timeout"):
            look.ask(node, "PING")


def test_what_is_refused_is_said_without_the_password_and_others_are_asked_on(request):
    server = redis_files.with_users("valkey")
    request.addfinalizer(server.stop)
    server.start()
    with looking(redis_files.url("iota", f"127.0.0.1:{server.port}")) as look:
        (node,) = look.nodes
        with pytest.raises(NotSaid, match="INFO: NoPermissionError") as refused:
            look.info(node)
        assert "secret" not in str(refused.value)
        assert look.ask(node, "PING")
    wrong = f"redis://iota:hunter2@127.0.0.1:{server.port}"
    with looking(wrong) as look:
        (node,) = look.nodes
        with pytest.raises(NotSaid, match="AuthenticationError") as refused:
            look.info(node)
        assert "hunter2" not in str(refused.value)
