"""The command, on real servers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from apps.monitoring.registry import load_hooks
from apps.ratelimits import conf
from apps.ratelimits.engine import forget_engine, get_engine
from apps.ratelimits.policy.rules import Ruleset
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.ruleset_store import RulesetStore
from tests import redis_files
from tests.servers import RedisProcess, flavours, free_port

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(params=flavours())
def flavour(request):
    return request.param


@pytest.fixture
def start(request):
    def start(server: RedisProcess) -> RedisProcess:
        request.addfinalizer(server.stop)
        return server.start()

    return start


@pytest.fixture
def doctor(settings):
    """Runs the command on servers: the exit code, and what it wrote."""

    def run(url: str, *options: str, **changes):
        settings.IOTA_RATELIMITS = replace(
            conf.current(), **{"redis_operator_url": "", "redis_url": url, **changes}
        )
        forget_engine()
        output = io.StringIO()
        if not any(option.startswith("--only") for option in options):
            options = (*options, "--only=servers,ruleset")
        try:
            call_command("doctor", *options, stdout=output)
            code = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            get_engine().limiter.close()
            forget_engine()
        return code, output.getvalue()

    return run


def levels(text: str) -> dict[str, str]:
    return {one["code"]: one["level"] for one in json.loads(text)["findings"]}


def test_a_server_of_the_shipped_files_is_fine(flavour, start, doctor):
    server = start(redis_files.with_users(flavour))
    with server.client() as admin:
        RulesetStore(admin, Keys("iota:")).publish(Ruleset(7))
    site, operator = (
        redis_files.url(name, f"127.0.0.1:{server.port}") for name in ("iota", "iota-operator")
    )
    code, output = doctor(site, redis_operator_url=operator)
    assert code == 0, output
    assert output.endswith("error: 0, warning: 0, unknown: 0, info: 3\n")
    assert "evidence: version 7" in output
    assert "maxmemory-policy noeviction, maxmemory 2.0 GiB" in output
    code, output = doctor(site, "--json")
    assert code == 1
    assert levels(output) == {"unknown": "unknown", "ruleset": "info"}


def test_the_guides_policy_is_a_warning(flavour, start, doctor):
    options = ["--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"]
    code, output = doctor(start(RedisProcess(flavour, options)).url)
    assert code == 1
    first = output.split("\n\n")[0]
    assert first.startswith("WARNING  Full memory makes it delete live counters")
    assert "evidence: maxmemory-policy allkeys-lru, maxmemory 1.0 GiB; keys deleted" in first
    assert "to do:    Set maxmemory-policy noeviction" in first


def test_no_ruleset_and_a_site_that_is_switched_off_are_warnings(flavour, start, doctor):
    server = start(redis_files.with_file(flavour, redis_files.SINGLE))
    code, output = doctor(server.url, "--json", disabled=True)
    assert code == 1
    assert levels(output)["no-ruleset"] == levels(output)["disabled"] == "warning"


def test_a_prefix_that_the_users_do_not_know_is_an_error(flavour, start, doctor):
    server = start(redis_files.with_users(flavour))
    url = redis_files.url("iota", f"127.0.0.1:{server.port}")
    code, output = doctor(url, "--json", key_prefix="shop:")
    assert code == 2
    assert json.loads(output)["worst"] == "error"
    (keys,) = [one for one in json.loads(output)["findings"] if one["code"] == "keys"]
    assert keys["where"] == "shop:ruleset"
    assert "~shop:*" in keys["to_do"]


def test_nobody_there_is_an_error_and_no_password_is_shown(doctor):
    code, output = doctor(f"redis://iota:hunter2@127.0.0.1:{free_port()}/0")
    assert code == 2
    assert output.startswith("ERROR    The server does not answer")
    assert "hunter2" not in output


def test_a_frozen_server_is_told_in_bounded_time(flavour, start, doctor):
    server = start(RedisProcess(flavour))
    server.pause()
    code, output = doctor(server.url, "--json", redis_timeout_ms=100)
    server.resume()
    assert (code, levels(output)) == (2, {"unreachable": "error"})


def test_help_shows_examples_and_the_process_exits_with_the_code():
    environment = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    base = [sys.executable, "manage.py", "doctor", "--only", "servers,ruleset"]

    def run(*options):
        return subprocess.run(
            [*base, *options], cwd=ROOT, env=environment, capture_output=True, text=True
        )

    shown = run("--help").stdout
    assert "manage.py doctor --json > findings.json" in shown
    assert "exit codes: 0 nothing worse than information" in shown
    ran = run("--json")
    assert (ran.returncode, ran.stderr) == (2, "")
    assert levels(ran.stdout) == {"unreachable": "error"}


def test_the_parts_are_listed_and_an_unknown_one_is_refused(doctor, redis_server):
    code, output = doctor(redis_server.url, "--list")
    assert code == 0
    assert "High Redis latency\n  servers " in output
    assert "  slow-commands   Slow log and latency events" in output
    code, output = doctor(redis_server.url, "--list", "--json")
    assert {"name": "keys", "topic": "Rate limiter performance", "title": "Keys by limit"} in (
        json.loads(output)
    )
    with pytest.raises(CommandError, match="no part is named 'latencies'; there are servers"):
        doctor(redis_server.url, "--only=latencies")


def test_each_finding_says_of_which_part_it_is(doctor, redis_server):
    _, output = doctor(redis_server.url, "--json", "--only=memory,variables")
    told = json.loads(output)
    assert {(one["part"], one["topic"]) for one in told["findings"]} == {
        ("memory", "High Redis latency"),
        ("variables", "Configuration performance"),
    }
    assert set(told["took_s"]) == {"memory", "variables"}


def test_a_server_that_is_away_costs_all_parts_together_seconds_and_none_is_fine(
    flavour, start, doctor, transactional_db
):
    """Frozen: each of the parts that ask it would wait for a second, were it not remembered."""
    server = start(RedisProcess(flavour))
    server.pause()
    began_s = time.monotonic()
    parts = "servers,latency,slow-commands,memory,expiry,pool,keys,requests,configuration"
    _, output = doctor(server.url, "--json", f"--only={parts}", redis_timeout_ms=100)
    took_s = time.monotonic() - began_s
    server.resume()
    findings = json.loads(output)["findings"]
    assert {one["level"] for one in findings} == {"error", "unknown"}
    assert {one["part"] for one in findings} == set(parts.split(","))
    assert took_s < 15


def test_nothing_is_written_into_the_counters_server(flavour, start, doctor, transactional_db):
    server = start(RedisProcess(flavour))
    with server.client() as admin:
        RulesetStore(admin, Keys("iota:")).publish(Ruleset(7))
        admin.mset({f"iota:b:{{{number:020d}}}": "x" for number in range(50)})
        before = admin.info("persistence")["rdb_changes_since_last_save"], sorted(admin.keys())
        _, output = doctor(server.url, "--json", "--only=" + ",".join(all_parts()))
        assert {one["part"] for one in json.loads(output)["findings"]} == set(all_parts())
        after = admin.info("persistence")["rdb_changes_since_last_save"], sorted(admin.keys())
    assert before == after


def all_parts() -> list[str]:
    return [entry.name for entry in load_hooks()]
