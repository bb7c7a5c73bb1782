"""Log lines: what they are about, and what they never say."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iota import logs
from iota.celery import app
from iota.request_id import request_id
from tests.databases import migrate
from tests.servers import RedisProcess
from tests.sites import ROOT, SiteProcess, environment, manage

PASSWORD = "hunter2-7f3a"


def record(text: str, *args: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("apps.x", logging.INFO, "x.py", 1, text, args, more.get("exc_info"))
    made.stack_info = more.get("stack_info")
    return made


def failed(text: str):
    try:
        raise RuntimeError(text)
    except RuntimeError:
        return sys.exc_info()


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{PASSWORD}@h:6379/0",
        f"Cannot connect to redis+sentinel://u:{PASSWORD}@a,b:26379/main: refused",
        f"sentinel://:{PASSWORD}@a:1/0;sentinel://:{PASSWORD}@b:1/0",
        f"amqp://u:p@{PASSWORD}@h//",
        f"slack://{PASSWORD}@channel/x",
        f"unix:///run/r.sock?password={PASSWORD}&db=1",
        f"{{'url': 'postgres://u:{PASSWORD}@h/d', 'sentinel_password': 1}}",
        f"connect(host=h, password={PASSWORD}, db=0)",
        f"Authorization: Bearer {PASSWORD}",
    ],
)
@pytest.mark.parametrize("form", [logs.LineFormatter, logs.JsonFormatter])
def test_no_password_leaves_in_a_line(text, form):
    made = [
        form().format(record(text)),
        form().format(record("%s", text)),
        form().format(record("it failed", exc_info=failed(text))),
        form().format(record("it failed", stack_info=text)),
    ]
    for line in made:
        assert PASSWORD not in line
        assert logs.MASK in line


@pytest.mark.parametrize(
    "text", ["GET http://h/a?b=c", "mail to ada@example.com", "a://b c@d", "passed=3", "token"]
)
def test_what_holds_no_password_is_left_as_it_is(text):
    assert logs.masked(text) == text


def test_a_line_says_which_request_or_task_it_is_about():
    form = logs.LineFormatter().format
    assert form(record("a %s", "b")).endswith(" INFO apps.x a b")
    token = request_id.set("mine")
    try:
        assert form(record("a")).endswith(" INFO apps.x [mine] a")
        assert json.loads(logs.JsonFormatter().format(record("a")))["request_id"] == "mine"
    finally:
        request_id.reset(token)


def test_json_is_an_object_a_line_whatever_was_said():
    said = 'two\nlines, "quotes", \x00, \ud800'
    line = logs.JsonFormatter().format(record(said, exc_info=failed("why")))
    assert "\n" not in line
    found = json.loads(line)
    assert found["message"] == said
    assert "RuntimeError: why" in found["exception"]
    assert found.keys() == {"time", "level", "logger", "message", "exception"}
    assert found["time"].endswith("+00:00")


def test_a_task_within_a_task_is_told_from_it():
    seen = []

    @app.task(name="tests.inner", shared=False)
    def inner():
        seen.append(logs.task.get())

    @app.task(name="tests.outer", shared=False)
    def outer():
        seen.append(logs.task.get())
        inner.apply(task_id="2")
        seen.append(logs.task.get())

    outer.apply(task_id="1")
    assert [tuple(one) for one in seen] == [
        ("tests.outer", "1"), ("tests.inner", "2"), ("tests.outer", "1"),
    ]  # fmt: skip
    assert logs.task.get() is None


@pytest.fixture
def site(tmp_path):
    redis = RedisProcess().start()
    variables = environment(tmp_path, redis.url, IOTA_LOG_FORMAT="json", IOTA_LOG_LEVEL="INFO")
    made = SiteProcess(tmp_path, variables, settings="tests.site_settings")
    try:
        migrate(made.environment)
        yield made
    finally:
        made.stop()
        redis.stop()


def lines(path: Path) -> list[dict]:
    """Of those that are ours: the server's own have another form."""
    return [json.loads(one) for one in path.read_text().splitlines() if one.startswith("{")]


def test_a_site_and_a_worker_log_json(site, tmp_path):
    import requests

    site.start()
    answer = requests.get(
        f"{site.url}/api/broken", headers={"X-Request-Id": "of-a-test"}, timeout=20
    )
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (500, "of-a-test")
    (error,) = [one for one in lines(site.log) if one["logger"] == "django.request"]
    assert (error["request_id"], error["level"]) == ("of-a-test", "ERROR")
    assert "the view's own mistake" in error["exception"]
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "--app", "iota", "worker", "--concurrency", "1"]
    with log.open("wb") as file:
        worker = subprocess.Popen(
            [*command, "--loglevel", "info"],
            cwd=ROOT, env=site.environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            ask = "from apps.ratelimits.tasks import reconcile_ruleset as r; print(r.delay().id)"
            task_id = manage(site.environment, "shell", "-v", "0", "-c", ask).strip()
            deadline = time.monotonic() + 60
            while not (found := [one for one in lines(log) if one.get("task_id") == task_id]):
                assert time.monotonic() < deadline, log.read_text()
                assert worker.poll() is None, log.read_text()
                time.sleep(0.1)
        finally:
            worker.terminate()
            worker.wait(30)
    assert {one["task"] for one in found} == {"ratelimits.reconcile_ruleset"}
