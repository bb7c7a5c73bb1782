"""Real locust on a real site: what the limits promise is proved, and a limiter that gives more, or
less, fails the load test. The limiter is the honest one; it is the promise that is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .servers import free_port
from .sites import ROOT, manage, running

LOCUSTFILE = ROOT / "loadtests" / "locustfile.py"
MET, MISSED, USAGE, INVALID = 0, 1, 2, 3
PATIENT = {"p99-ms": "5000", "lag-ms": "5000"}
"""How fast this busy machine is, is not what is tested here."""
LIMITS = [
    {"name": "own", "path_kind": "prefix", "path": "/api/", "quota": 4, "window_amount": 10,
     "window_unit": "seconds"},
    {"name": "key", "path_kind": "prefix", "path": "/api/", "counted_by": "header",
     "header": "X-Api-Key", "algorithm": "sliding_log", "quota": 6, "window_amount": 20,
     "window_unit": "seconds"},
    {"name": "together", "path_kind": "prefix", "path": "/api/", "counted_by": "everyone",
     "algorithm": "fixed_window", "quota": 60, "window_amount": 2, "window_unit": "seconds"},
    {"name": "edited", "path_kind": "prefix", "path": "/api/", "counted_by": "everyone",
     "quota": 100_000, "mode": "enforce"},
]  # fmt: skip
ACCOUNTS = "from pathlib import Path; from iota.load_accounts import write; write(Path({!r}), 10)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loadtests")
    variables = {
        "IOTA_TRUSTED_PROXIES": "127.0.0.0/8",
        "IOTA_KEY_VALIDATOR": "iota.demo_keys.whose_key",
    }
    with running(folder, variables, threads=2) as (site, _):
        (folder / "site.json").write_text(json.dumps(LIMITS))
        manage(site.environment, "ratelimit", "import", str(folder / "site.json"))
        accounts = folder / "accounts.json"
        manage(site.environment, "shell", "-v", "0", "-c", ACCOUNTS.format(str(accounts)))
        site.start()
        yield site, accounts


def locust(site, folder: Path, *words: str, limits=LIMITS, **options: str) -> tuple[int, dict]:
    """Its exit code and verdict."""
    url, accounts = site[0].url, site[1]
    (folder / "limits.json").write_text(json.dumps(limits))
    given = {
        "host": url,
        "users": "12",
        "spawn-rate": "50",
        "run-time": "4s",
        "stop-timeout": "5",
        "limits": str(folder / "limits.json"),
        "accounts": str(accounts),
        "verdict-file": str(folder / "verdict.json"),
        "json-file": str(folder / "stats"),
        **PATIENT,
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(LOCUSTFILE),
        "--headless",
        "--own-addresses",
    ]
    command += [word for name, value in given.items() for word in (f"--{name}", value)]
    # None of the test run's own variables: locust knows the site by HTTP alone.
    environ = {"PATH": os.environ["PATH"], "LOAD_SHAPE": ""}
    ran = subprocess.run(
        [*command, *words], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=90
    )
    path = folder / "verdict.json"
    assert path.exists(), ran.stdout + ran.stderr
    return ran.returncode, json.loads(path.read_text())


def changed(name: str, **values) -> list[dict]:
    return [{**row, **values} if row["name"] == name else row for row in LIMITS]


def test_what_every_limit_promises_is_proved_with_workers_and_an_editor(site, tmp_path):
    classes = ["Anonymous", "SignedIn", "ApiKey", "Attacker", "Editor"]
    port = str(free_port())
    workers = {"processes": "2", "master_bind_port": port, "master_port": port}
    code, told = locust(
        site, tmp_path, *classes, edited="edited", run_time="8s", users="20", **workers
    )
    assert code == MET, told
    counts = {line.partition(":")[0]: line for line in told["lines"]}
    for name in ("own", "key", "together", "edited"):
        assert "0 admitted" not in counts[name].split(":")[1][:12], told
    assert "0 denied" not in counts["own"], told


def test_a_limiter_that_admits_more_than_is_promised_fails_it(site, tmp_path):
    code, told = locust(site, tmp_path, "Anonymous", limits=changed("own", quota=3))
    assert code == MISSED
    assert any(
        "3 are promised at most" in reason or "said that" in reason for reason in told["reasons"]
    )


def test_an_undue_denial_fails_it(site, tmp_path):
    code, told = locust(site, tmp_path, "Anonymous", limits=changed("own", quota=8, burst=8))
    assert code == MISSED
    assert any("denied a request that was due to be admitted" in one for one in told["reasons"])


def test_what_everyone_shares_is_judged_too(site, tmp_path):
    limits = changed("together", quota=20)
    code, told = locust(site, tmp_path, "Anonymous", limits=limits, users="40")
    assert code == MISSED
    assert any(one.startswith("together, everyone") for one in told["reasons"]), told


def test_a_limit_that_does_not_count_fails_it(site, tmp_path):
    code, told = locust(site, tmp_path, "Anonymous", limits=[*LIMITS, {"name": "gone", "quota": 5}])
    assert code == MISSED
    assert any(one.startswith("gone did not count") for one in told["reasons"]), told


def test_no_answer_at_all_is_a_failure(site, tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    code, told = locust(site, tmp_path, "Anonymous", host=url, run_time="2s")
    assert code == MISSED
    assert any("errors 100" in one for one in told["reasons"]), told


def test_a_generator_that_is_too_busy_is_invalid(site, tmp_path):
    code, told = locust(site, tmp_path, "Anonymous", lag_ms="-1", run_time="2s")
    assert (code, told["verdict"]) == (INVALID, "INVALID")
    assert "locust itself was late" in told["reasons"][0]


def test_a_burst_at_the_edge_of_a_window(site, tmp_path):
    code, told = locust(site, tmp_path, "Edge", run_time="5s", users="4")
    assert code == MET, told


def test_tags_choose_the_users(site, tmp_path):
    code, told = locust(site, tmp_path, "--tags", "basic", run_time="2s")
    assert code == MET, told
    assert not any("admin:" in key for key in (tmp_path / "stats.json").read_text().split('"'))
