"""Loading, environment, cache, start and system checks, each in its trouble."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import replace

import pytest
from django.apps import apps

from apps.monitoring.hooks import ruleset as hook
from apps.monitoring.hooks import start_up, variables
from apps.ratelimits.policy.rules import Ruleset
from apps.ratelimits.storage.heartbeat import Heartbeat
from apps.ratelimits.storage.server_findings import Level
from apps.ratelimits.tests.limiters import rule
from tests.servers import RedisProcess, free_port

from .looking import codes, find, looking


def limit() -> None:
    apps.get_model("ratelimits", "RateLimit").objects.create(name="api", quota=3)


def test_limits_that_are_published_and_in_force_everywhere(engine):
    limit()
    engine.publish()
    engine.start()
    found = {one.code: one for one in find("configuration", engine.config.redis_url)}
    assert {one.level for one in found.values()} == {Level.INFO}
    assert "1 limit: fetched and read in" in found["load"].evidence
    assert "publishing 1 limit reads for" in found["published"].evidence
    assert found["version"].evidence.startswith("1 process, 0 behind")


def test_an_edit_that_was_not_published_is_told(engine):
    limit()
    # As if its publication was lost, and Redis had what was in force before.
    engine.limiter.client.delete(engine.limiter.keys.ruleset)
    engine.store.publish(Ruleset(1))
    found = {one.code: one for one in find("configuration", engine.config.redis_url)}
    assert found["not-published"].level is Level.WARNING
    assert "1 in Redis" in found["not-published"].evidence


def test_a_process_that_stays_behind_is_told(redis_server, redis_client, transactional_db):
    newest = int((time.time() - 60) * 1e6)
    with looking(redis_server.url) as look:
        engine = look.engine
        engine.store.publish(Ruleset(newest, (rule(),)))
        for version in (newest, newest - 1):
            heart = Heartbeat(engine.processes, engine.limiter, lambda v=version: v, host_key=b"h")
            heart.beat()
        found = {one.code: one for one in hook.configuration(look)}
    assert found["version-behind"].level is Level.WARNING
    assert found["version-behind"].evidence.startswith("2 processes, 1 behind version")


def test_limits_that_load_slowly_are_told():
    found = hook.judge_load(Ruleset(1, (rule(),)), 0.2, "here")
    assert (found.level, found.code) == (Level.WARNING, "load-slow")
    assert "fetched and read in 200.0 ms" in found.evidence


def test_a_configuration_that_loads_slowly_somewhere_is_told():
    (slow,) = hook.judge_starts([20_000, 130_000])
    assert (slow.level, slow.code) == (Level.WARNING, "configuration-slow")
    assert slow.evidence == "130.0 ms at most in 2 processes; bound 100.0 ms"
    (fine,) = hook.judge_starts([20_000, 0])
    assert fine.level is Level.INFO
    assert list(hook.judge_starts([0])) == []


def test_variables_are_counted_and_timed_and_no_value_is_shown(monkeypatch):
    monkeypatch.setenv("IOTA_MAIL_FROM", "hunter2@example.com")
    found = variables.judge(os.environ)
    assert (found.level, found.code) == (Level.INFO, "variables")
    assert "known variables are set" in found.evidence
    assert "ms (" in found.evidence
    fewer = {name: value for name, value in os.environ.items() if name != "IOTA_MAIL_FROM"}
    known = [int(variables.judge(env).evidence.split()[0]) for env in (os.environ, fewer)]
    assert known[0] == known[1] + 1


def test_an_environment_that_became_wrong_is_an_error_without_its_values():
    wrong = {**os.environ, "IOTA_REDIS_TIMEOUT_MS": "hunter2", "IOTA_NO_SUCH": "hunter3"}
    found = variables.judge(wrong)
    assert (found.level, found.code) == (Level.ERROR, "variables-wrong")
    assert found.evidence == "2 wrong: IOTA_NO_SUCH, IOTA_REDIS_TIMEOUT_MS"


def test_a_slow_file_of_a_variable_is_told(tmp_path, monkeypatch):
    real = variables.create_settings

    def slow(environ):
        time.sleep(0.12)  # as a disk that has to wake up
        return real(environ)

    monkeypatch.setattr(variables, "create_settings", slow)
    assert variables.judge(os.environ).code == "variables-slow"


@pytest.fixture
def cache_at(settings):
    """Django's cache at a URL, as the hook meets it."""
    before = settings.CACHES

    def use(url: str, **more) -> None:
        own = {**before["default"], "LOCATION": [url], **more}
        settings.CACHES = {"default": own}

    return use


def test_a_cache_that_answers_and_one_that_is_away(cache_at, redis_server):
    cache_at(redis_server.url)
    (found,) = find("cache", redis_server.url)
    assert found.code in ("cache", "cache-slow")  # how fast, a busy machine decides
    assert "a PING takes" in found.evidence
    cache_at(f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    (found,) = find("cache", redis_server.url)
    assert (found.level, found.code) == (Level.ERROR, "cache-away")
    assert "hunter2" not in found.evidence


def test_a_cache_that_is_frozen_is_told_in_time(cache_at, redis_server):
    server = RedisProcess().start()
    cache_at(server.url)
    server.pause()
    began_s = time.monotonic()
    (found,) = find("cache", redis_server.url)
    took_s = time.monotonic() - began_s
    server.stop()
    assert found.code == "cache-away"
    assert took_s < 5


def test_a_cache_that_each_process_has_alone_and_debug_are_told(cache_at, settings, redis_server):
    cache_at(redis_server.url, BACKEND="django.core.cache.backends.locmem.LocMemCache")
    settings.DEBUG = True
    assert codes(find("cache", redis_server.url)) == ["debug", "cache-of-one-process"]


def test_a_fresh_process_is_started_and_its_largest_imports_are_named(redis_server):
    (found,) = find("start-up", redis_server.url)
    assert found.code in ("start-up", "start-up-slow")
    for words in ("django.setup()", "variables alone", "the largest imports: ", "django "):
        assert words in found.evidence, found.evidence


def test_a_process_that_cannot_start_is_unknown_and_no_value_is_shown(redis_server, monkeypatch):
    monkeypatch.setenv("IOTA_REDIS_TIMEOUT_MS", "hunter2")
    (found,) = find("start-up", redis_server.url)
    assert (found.level, found.code) == (Level.UNKNOWN, "not-known")
    assert "ended with 1" in found.evidence
    assert "hunter2" not in found.evidence


def test_a_start_that_takes_too_long_is_given_up(redis_server, monkeypatch):
    monkeypatch.setattr(start_up, "WAIT_S", 0.01)
    (found,) = find("start-up", redis_server.url)
    assert (found.level, found.code) == (Level.WARNING, "start-up-slow")


def test_imports_are_summed_by_package():
    said = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       120 |        120 |     django.utils\n"
        "import time:        30 |        150 |   django\n"
        "import time:       500 |        650 | redis.client\n"
        "a warning\n"
    )
    assert start_up.packages(said) == Counter({"redis": 500, "django": 150})
    slow = start_up.judge({"setup": 6.0, "urls": 0.1, "variables": 0.04}, Counter(redis=500))
    assert (slow.level, slow.code) == (Level.WARNING, "start-up-slow")


def test_what_the_system_checks_say_is_told(redis_server, settings):
    assert codes(find("system-checks", redis_server.url)) == ["system-checks"]
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, key_validator="no.such")
    (found,) = find("system-checks", redis_server.url)
    assert (found.level, found.evidence) == (Level.ERROR, "ratelimits.E003")
    assert "dotted path" in found.to_do
