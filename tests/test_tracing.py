"""Spans by a real receiver, from every kind of process; and nothing of it where it is off."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import requests

from tests.databases import migrate
from tests.otlp import receiving
from tests.servers import RedisProcess, free_port
from tests.sites import ROOT, environment, manage, running

ADDRESS = "203.0.113.77"
LIMITS = """
from apps.ratelimits.models import RateLimit
RateLimit.objects.create(
    name="few", quota=2, window_unit=3600, path_kind="exact", path="/api/test", on_failure="allow"
)
RateLimit.objects.create(name="many", quota=1000, window_unit=3600)
"""
RECONCILE = """
import redis
from django.conf import settings
from apps.ratelimits.tasks import reconcile_ruleset
redis.Redis.from_url(settings.IOTA_RATELIMITS.redis_url).delete("iota:ruleset")
print(reconcile_ruleset.delay().id)
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
FIELDS = {
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "X-Forwarded-For": ADDRESS,
    "X-Api-Key": "key-of-ada",
}


@pytest.fixture(autouse=True)
def _no_limits(redis_client):
    """Those of a test before would be in force here."""


@pytest.mark.parametrize("interface", ["wsgi", "asginl"])
def test_a_site_sends_spans_of_checks_and_of_its_limits(interface, tmp_path):
    with receiving() as receiver:
        variables = {
            "IOTA_OTEL_ENDPOINT": receiver.url,
            "IOTA_TRUSTED_PROXIES": "127.0.0.0/8",
            "IOTA_REDIS_TIMEOUT_MS": "500",
        }
        with running(tmp_path, variables, interface=interface) as (site, redis):
            manage(site.environment, "shell", "-v", "0", "-c", LIMITS)
            site.start()
            for status in (200, 200, 429):
                answer = requests.get(f"{site.url}/api/test", headers=FIELDS, timeout=20)
                assert answer.status_code == status
            checks = receiver.wait("ratelimits.check", 3)
            redis.kill()
            assert requests.get(f"{site.url}/api/test", timeout=20).status_code in (200, 429)
            last = receiver.wait("ratelimits.check", 4)[3]
    for check in checks:
        assert check.service == "iota"
        assert (check.trace_id, check.parent_id) == (TRACE, "b7ad6b7169203331")
        assert check.attributes["iota.limits"] == 2
        assert check.attributes["iota.degraded"] is False
        assert (check.error, check.events) == (None, 0)
    said = [(c.attributes["iota.allowed"], c.attributes["iota.violated"]) for c in checks]
    assert said == [(True, []), (True, []), (False, ["few"])]
    assert last.attributes["iota.degraded"] is True
    assert last.trace_id != TRACE
    compiled = receiver.named("ratelimits.ruleset.compile")
    assert {span.attributes["iota.limits"] for span in compiled} - {0} == {2}
    assert receiver.named("ratelimits.ruleset.fetch") or receiver.named("ratelimits.ruleset.load")
    for body in receiver.bodies:
        for hidden in (ADDRESS, "key-of-ada", "127.0.0.1"):
            assert hidden.encode() not in body


def test_a_worker_sends_spans_of_tasks_with_what_they_did(tmp_path):
    redis = RedisProcess().start()
    with receiving() as receiver:
        variables = environment(
            tmp_path, redis.url,
            DJANGO_SETTINGS_MODULE="iota.settings",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_SERVICE_NAME="iota-worker",
        )  # fmt: skip
        migrate(variables)
        command = [sys.executable, "-m", "celery", "--app", "iota", "worker", "--concurrency", "1"]
        with (tmp_path / "log").open("wb") as log:
            worker = subprocess.Popen(
                command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                # Its own spans are not those of this command.
                quiet = {**variables, "OTEL_SDK_DISABLED": "true"}
                task_id = manage(quiet, "shell", "-v", "0", "-c", RECONCILE).strip()
                (task,) = receiver.wait("ratelimits.reconcile_ruleset", seconds=60)
                (published,) = receiver.wait("ratelimits.ruleset.publish")
            finally:
                worker.terminate()
                worker.wait(30)
                redis.stop()
    assert task.attributes == {"celery.task_id": task_id, "celery.state": "SUCCESS"}
    assert task.service == "iota-worker"
    assert published.trace_id == task.trace_id
    assert published.parent_id == task.span_id


def run(code: str, before: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "iota.settings", **variables}
    code = f"{before}\nimport django; django.setup()\n{code}"
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:No directory at:UserWarning", "-c", code],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


FORKS = """
import os, time
from apps.monitoring.spans import Tracing
tracing = Tracing({url!r})
with tracing.span("of-parent"):
    pass
time.sleep(1.5)  # sent: its connection is open
if os.fork() == 0:
    for _ in range(3):
        with tracing.span("of-child"):
            pass
    time.sleep(2.5)
    os._exit(0)
with tracing.span("of-parent"):
    pass
os.wait()
"""


def test_a_forked_child_sends_its_own_spans():
    with receiving() as receiver:
        # Python 3.12 warns of a fork beside threads, which is what this is about.
        quiet = "import warnings; warnings.simplefilter('ignore')\n"
        done = run(quiet + FORKS.format(url=receiver.url))
        assert done.returncode == 0, done.stderr
        assert len(receiver.named("of-parent")) == 2
        assert len(receiver.named("of-child")) == 3
        assert len({span.span_id for span in receiver.spans}) == 5


ERROR = """
from apps.monitoring.spans import Tracing
try:
    with Tracing({url!r}).span("failed"):
        raise ValueError("redis://:password-7f3a@h")
except ValueError:
    pass
"""


def test_an_error_is_told_by_its_class_alone():
    with receiving() as receiver:
        assert run(ERROR.format(url=receiver.url)).returncode == 0
        (span,) = receiver.wait("failed")
    assert (span.error, span.events) == ("ValueError", 0)
    assert b"password-7f3a" not in b"".join(receiver.bodies)


REQUEST = """
from django.test import Client
from apps.ratelimits.engine import Engine
assert Client().get("/api/test").status_code == 200
print(hasattr(Engine.check, "__wrapped__"))
"""
WHO_ASKS = """
import importlib.abc, sys
asked = set()

class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] != "opentelemetry":
            return None
        frame = sys._getframe(1)
        while frame.f_globals["__name__"].startswith("importlib"):
            frame = frame.f_back
        asked.add(frame.f_globals["__name__"].split(".")[0])
        raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    "variables", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1", "OTEL_SDK_DISABLED": "true"}]
)
def test_where_it_is_off_nothing_is_imported_and_no_call_is_wrapped(variables):
    """redis-py itself looks whether OpenTelemetry is installed: nobody else may."""
    done = run(f"{REQUEST}print(asked)", WHO_ASKS, **variables)
    assert done.stdout == "False\n{'redis'}\n", done.stderr


ABSENT = """
import sys
sys.modules["opentelemetry"] = None
import django
django.setup()
print("up")
"""


@pytest.mark.parametrize(
    ("name", "starts"), [("IOTA_OTEL_ENDPOINT", False), ("OTEL_EXPORTER_OTLP_ENDPOINT", True)]
)
def test_without_its_packages_who_asked_iota_for_spans_is_told(name, starts):
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "iota.settings", name: "http://h:4318"}
    command = [sys.executable, "-c", ABSENT]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert "pip install -r requirements-otel.txt" in done.stderr
    assert (done.returncode == 0, done.stdout == "up\n") == (starts, starts)


def test_a_collector_that_is_away_keeps_nobody_waiting():
    began_s = time.monotonic()
    done = run(REQUEST, IOTA_OTEL_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began_s < 20
