"""``check --deploy`` asks the servers; plain ``check`` does not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from django.core import checks

from apps.ratelimits import conf, deploy_checks
from apps.ratelimits.tests import test_server_findings
from tests import redis_files
from tests.servers import RedisProcess, free_port

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def start(request):
    def start(server: RedisProcess) -> RedisProcess:
        request.addfinalizer(server.stop)
        return server.start()

    return start


def found(settings, url: str, **changes) -> dict[str, checks.CheckMessage]:
    settings.IOTA_RATELIMITS = replace(
        conf.current(), **{"redis_operator_url": "", "redis_url": url, **changes}
    )
    messages = deploy_checks.check_servers(None)
    assert all(message.msg and message.hint for message in messages)
    return {message.id: message for message in messages}


def test_a_server_of_the_shipped_file_and_users_is_fine(settings, start):
    server = start(redis_files.with_users("valkey"))
    site, operator = (
        redis_files.url(name, f"127.0.0.1:{server.port}") for name in ("iota", "iota-operator")
    )
    assert found(settings, site, redis_operator_url=operator) == {}
    assert set(found(settings, site)) == {"ratelimits.I020"}


def test_a_server_that_evicts_is_a_warning_with_a_hint(settings, start):
    options = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"]
    messages = found(settings, start(RedisProcess("valkey", options)).url)
    assert set(messages) == {"ratelimits.W012"}
    assert "maxmemory-policy allkeys-lru" in messages["ratelimits.W012"].msg
    assert "noeviction" in messages["ratelimits.W012"].hint


def test_what_keeps_checks_from_running_is_an_error(settings, start):
    options = ["--maxmemory", "1gb", "--rename-command", "EVALSHA", ""]
    assert set(found(settings, start(RedisProcess("valkey", options)).url)) == {"ratelimits.E019"}


def test_a_server_that_is_away_is_a_warning_and_no_crash(settings):
    messages = found(settings, f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    assert set(messages) == {"ratelimits.W010"}
    assert "hunter2" not in str(messages)


def test_a_site_that_limits_nothing_is_not_asked(settings):
    assert found(settings, f"redis://127.0.0.1:{free_port()}/0", disabled=True) == {}


def test_every_finding_that_is_worse_than_information_has_a_number():
    (levels,) = [
        mark.args[1]
        for mark in test_server_findings.test_what_is_wrong_is_said_with_its_level.pytestmark
        if mark.name == "parametrize"
    ]
    assert {code for _, code, _ in levels} | {"unreachable"} == set(deploy_checks.IDS)
    assert len(set(deploy_checks.IDS.values())) == len(deploy_checks.IDS)


def test_only_check_with_deploy_asks():
    ours = deploy_checks.check_servers
    registry = checks.registry.registry
    assert ours in registry.deployment_checks
    assert ours not in registry.registered_checks


def test_the_command_names_it():
    """In a process of its own, as an operator runs it, against nobody."""
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    for options, asked in (([], False), (["--deploy"], True)):
        ran = subprocess.run(
            [sys.executable, "manage.py", "check", *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ("ratelimits.W010" in ran.stderr) is asked, ran.stderr
        assert ran.returncode == 0


@pytest.mark.parametrize(
    ("header", "networks", "proxies", "warned"),
    [
        (("HTTP_X_FORWARDED_PROTO", "https"), ["127.0.0.0/8", "::1/128"], [], ["127.0.0.1", "::1"]),
        (("HTTP_X_FORWARDED_PROTO", "https"), ["127.0.0.0/8", "::1/128"], ["127.0.0.1"], ["::1"]),
        (("HTTP_X_FORWARDED_PROTO", "https"), ["10.0.0.0/8"], [], []),
        (None, ["127.0.0.0/8"], [], []),
    ],
)
def test_a_proxy_beside_the_site_may_not_ask_for_everybody(
    settings, header, networks, proxies, warned
):
    settings.SECURE_PROXY_SSL_HEADER = header
    settings.IOTA_RATELIMITS = replace(
        conf.current(),
        check_networks=tuple(map(ip_network, networks)),
        trusted_proxies=tuple(map(ip_network, proxies)),
    )
    messages = deploy_checks.check_who_may_ask(None)
    assert [message.id for message in messages] == ["ratelimits.W022"] * bool(warned)
    for message in messages:
        assert f"proxy at {' or '.join(warned)} lets" in message.msg
        assert "IOTA_TRUSTED_PROXIES" in message.hint
