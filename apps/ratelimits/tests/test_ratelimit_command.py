"""``manage.py ratelimit``: the way back without the admin."""

from __future__ import annotations

import json
import shlex

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.ratelimits.models import RateLimit, RulesetVersion

from .test_admin_lockout import configured


@pytest.fixture
def limits(engine):
    for name, mode in (("login", "enforce"), ("api", "shadow"), ("old", "off")):
        RateLimit.objects.create(name=name, quota=5, mode=mode, path_kind="prefix", path="/api/")


@pytest.fixture
def run(capsys):
    def call(text: str) -> str:
        call_command("ratelimit", *shlex.split(text))
        return capsys.readouterr().out

    return call


def modes() -> dict[str, str]:
    return dict(RateLimit.objects.values_list("name", "mode"))


BEFORE = {"login": "enforce", "api": "shadow", "old": "off"}
ALL_OFF = dict.fromkeys(BEFORE, "off")


def test_all_limits_are_off_and_the_way_back_is_told(limits, run, engine):
    version = RulesetVersion.current()
    said = run("disable --all")
    assert modes() == ALL_OFF
    assert "2 limits switched off (1 already); in force in every process within 1 s." in said
    assert RulesetVersion.current() > version
    assert engine.store.version() == RulesetVersion.current()
    engine.refresh()
    assert engine.index.rules == ()
    # The line that it printed restores just what was.
    (restore,) = [line for line in said.splitlines() if "manage.py ratelimit enable" in line]
    run(restore.strip().removeprefix("manage.py ratelimit "))
    assert modes() == BEFORE
    engine.refresh()
    assert {compiled.rule.name for compiled in engine.index.rules} == {"login", "api"}


def test_the_history_tells_of_it_with_nobody_as_its_author(limits, run):
    run("disable --all")
    login = RateLimit.objects.get(name="login")
    entry, before = login.history.all()[:2]
    assert (entry.mode, before.mode) == ("off", "enforce")
    assert entry.history_change_reason == "manage.py ratelimit disable: was enforce"
    assert entry.history_user is None
    assert entry.updated_at == login.updated_at > before.updated_at
    assert RateLimit.objects.get(name="old").history.count() == 1
    run("enable login")
    assert login.history.first().history_change_reason == "manage.py ratelimit enable"


def test_a_reason_is_in_the_history_and_does_not_hide_the_mode_of_before(limits, run):
    run('disable login --reason "partners. locked  out"')
    login = RateLimit.objects.get(name="login")
    said = "manage.py ratelimit disable: was enforce. partners. locked out"
    assert login.history.first().history_change_reason == said
    assert "1 limit switched on" in run('enable --all --reason "mended"')
    assert modes() == BEFORE
    assert login.history.first().history_change_reason == "manage.py ratelimit enable. mended"


def test_a_reason_that_is_too_long_is_refused(limits, run):
    with pytest.raises(
        CommandError, match="--reason has 141 characters: write 140 at most"
    ) as error:
        run(f"disable --all --reason {'x' * 141}")
    assert error.value.returncode == 2
    assert modes() == BEFORE
    run(f"disable --all --reason {'x' * 140}")
    assert "x" * 140 in RateLimit.history.first().history_change_reason


def test_one_limit_is_named(limits, run):
    assert "1 limit switched off;" in run("disable login")
    assert modes() == {**BEFORE, "login": "off"}


def test_a_second_time_nothing_changes(limits, run):
    run("disable --all")
    version = RulesetVersion.current()
    assert "0 limits switched off (3 already)." in run("disable --all")
    assert RulesetVersion.current() == version
    assert RateLimit.objects.get(name="login").history.count() == 2


def test_a_dry_run_changes_nothing(limits, run, engine):
    version = RulesetVersion.current()
    said = run("disable --all --dry-run")
    assert "2 limits would be switched off (1 already)." in said
    assert "login: enforce -> off" in said
    assert (modes(), RulesetVersion.current()) == (BEFORE, version)
    assert RateLimit.history.count() == 3


def test_a_name_that_no_limit_has_changes_nothing(limits, run):
    with pytest.raises(CommandError, match=r"called logn; nothing.* Did you mean login\?") as error:
        run("disable logn api")
    assert error.value.returncode == 1
    assert modes() == BEFORE


def test_nothing_to_switch_is_an_error(engine, run):
    for text in ("disable --all", "list", "list --json"):
        with pytest.raises(CommandError, match="There is no limit"):
            run(text)


@pytest.mark.parametrize("text", ["disable", "disable --all login", "enable", "enable login:on"])
def test_what_is_not_clear_is_refused(limits, run, text):
    with pytest.raises(CommandError) as error:
        run(text)
    assert error.value.returncode == 2
    assert modes() == BEFORE


def test_the_modes_of_before_are_remembered(limits, run):
    run("disable --all")
    listed = run("list")
    assert "manage.py ratelimit enable api:shadow login:enforce" in listed
    # Whom somebody edited since, it leaves alone.
    login = RateLimit.objects.get(name="login")
    login.quota = 9
    login.save()
    assert "1 limit switched on; in force" in run("enable --all")
    assert modes() == {**ALL_OFF, "api": "shadow"}
    with pytest.raises(CommandError, match=r"which mode login had is not known: write login:shado"):
        run("enable login")
    run("enable login:shadow")
    assert modes()["login"] == "shadow"
    with pytest.raises(CommandError, match="No limit is off because of"):
        run("enable --all")


def test_programs_get_json(limits, run):
    said = json.loads(run("disable --all --json"))
    assert said["published"] is True
    assert {"name": "login", "before": "enforce", "after": "off"} in said["changed"]
    assert said["restore"] == "manage.py ratelimit enable api:shadow login:enforce"
    listed = json.loads(run("list --json"))
    assert listed["restorable"] == {"login": "enforce", "api": "shadow"}
    assert {
        "name": "old",
        "mode": "off",
        "rate": "5 per minute",
        "covers": "every method on /api/…, per address",
    } in listed["limits"]


def test_the_list_is_a_table(limits, run):
    lines = run("list").splitlines()
    assert lines[0].split() == ["name", "mode", "rate", "covers"]
    assert lines[2].startswith("login  enforce  5 per minute  every method on /api/…, per address")
    assert "IOTA_DISABLED" not in "".join(lines)
    with configured(disabled=True):
        assert "IOTA_DISABLED is set: nothing is enforced." in run("list")


def test_redis_away_is_said_with_what_to_do(limits, run, redis_server, engine, capsys):
    redis_server.pause()
    try:
        with pytest.raises(CommandError, match="restart the site with IOTA_DISABLED=1") as error:
            run("disable --all")
    finally:
        redis_server.resume()
    assert error.value.returncode == 1
    assert "2 limits switched off (1 already) in the database." in capsys.readouterr().out
    assert modes() == ALL_OFF
    # Asked again once Redis is back, it is published without waiting for the task.
    run("disable --all")
    assert engine.store.version() == RulesetVersion.current()


def test_the_database_away_is_said_with_what_to_do(limits, run):
    RateLimit.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ratelimits_ratelimit RENAME TO gone")
    try:
        with pytest.raises(CommandError, match=r"database does not answer .* IOTA_DISABLED=1"):
            run("disable --all")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO ratelimits_ratelimit")


def test_a_thousand_limits_are_a_few_statements_and_one_publication(engine, run):
    RateLimit.objects.bulk_create(RateLimit(name=f"l-{n}", quota=5) for n in range(1000))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        run("disable --all")
    assert modes() == {f"l-{n}": "off" for n in range(1000)}
    assert len(queries) < 80


def test_a_limit_is_tried_at_several_quotas(limits, run, engine, client):
    engine.refresh()
    RateLimit.objects.filter(name="login").update(mode="off")
    engine.refresh()
    for _ in range(12):
        client.get("/api/nowhere", REMOTE_ADDR="203.0.113.9")
    engine.flush_traffic()
    said = run("preview api --quota 10 --quota 20")
    assert "quota 5: would have denied 7 of 12 requests, 1 of 1 identities" in said
    assert "quota 10: would have denied 2 of 12 requests" in said
    assert "quota 20: would have denied 0 of 12 requests" in said
    assert "Suggested quota: 12" in said
    found = json.loads(run("preview api --json"))
    assert [each["quota"] for each in found["tried"]] == [5]
    assert found["tried"][0]["draft"]["denied"] == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("preview apis", "There are: api, login, old"),
        ("preview api", "No request has been recorded yet"),
    ],
)
def test_what_cannot_be_tried_is_said(limits, run, engine, text, why):
    with pytest.raises(CommandError, match=why):
        run(text)


def test_a_quota_that_cannot_be_is_said(limits, run, engine, client):
    engine.refresh()
    client.get("/api/nowhere")
    engine.flush_traffic()
    with pytest.raises(CommandError, match="quota is 0"):
        run("preview api --quota 0")


def test_drafts_stay_what_they_are(limits, run):
    RateLimit.objects.filter(name="login").update(mode="draft")
    assert "login" not in run("disable --all")
    assert "(1 already)" in run("disable login")
    assert RateLimit.objects.get(name="login").mode == "draft"


def test_a_limit_becomes_a_canary_where_it_can(limits, run):
    run("enable login:canary")
    assert RateLimit.objects.get(name="login").mode == "canary"
    RateLimit.objects.filter(name="api").update(counted_by="everyone")
    with pytest.raises(CommandError, match=r"api cannot be a canary: everyone together .* Nothing"):
        run("enable api:canary login:enforce")
    assert RateLimit.objects.get(name="login").mode == "canary"
    with pytest.raises(CommandError, match="'draft' is no mode"):
        run("enable login:draft")
