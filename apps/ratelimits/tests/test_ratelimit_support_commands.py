"""``manage.py ratelimit explain``, ``inspect`` and ``reset``: the same as the admin's pages."""

from __future__ import annotations

import json
import shlex

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts

ADDRESS = "203.0.113.9"


@pytest.fixture
def run(capsys):
    """What a command writes, and with ``code`` how it exits."""

    def call(text: str, code: int = 0) -> str:
        words = shlex.split(text)
        if code:
            with pytest.raises(CommandError) as raised:
                call_command("ratelimit", *words)
            assert raised.value.returncode == code
            return capsys.readouterr().out + str(raised.value)
        call_command("ratelimit", *words)
        return capsys.readouterr().out

    return call


@pytest.fixture
def limits(engine):
    make = RateLimit.objects.create
    api = {"path_kind": "prefix", "path": "/api/", "window_unit": 3600}
    make(name="api", quota=2, **api)
    make(name="per-user", quota=5, counted_by="address,user", **api)
    make(name="posts", quota=5, methods="POST", **api)
    engine.refresh()


def charge(engine, times=1, user=ANONYMOUS) -> None:
    facts = RequestFacts("GET", "/api/test", ADDRESS)
    for _ in range(times):
        engine.decide(engine.candidates(facts), facts, user)


def test_explain_says_what_the_page_says(run, limits, engine):
    User.objects.create_user("ada")
    command = f'explain --method get --path /api/test --ip {ADDRESS} --user ada --header "A: b"'
    said = run(command)
    assert f"GET /api/test, from {ADDRESS}, user ada" in said
    assert "Allowed: 2 limits count it." in said
    assert "posts (enforce): It is about POST; this is GET." in said
    charge(engine, 3)
    said = run(command, code=3)
    assert "Denied by api: 2 of 2 used; the next in" in said
    assert "It would be denied." in said


def test_explain_for_programs(run, limits, engine):
    charge(engine, 2)
    found = json.loads(
        run(f"explain --path /api/test --ip {ADDRESS} --json", code=3).split("It w")[0]
    )
    assert found["allowed"] is False
    (api,) = [one for one in found["limits"] if one["name"] == "api"]
    assert api["denies"]
    assert api["counter"]["used"] == api["counter"]["capacity"] == 2
    assert api["bucket"].endswith(f"b:{{{api['digest']}}}")
    posts = [one for one in found["limits"] if one["name"] == "posts"]
    assert posts[0]["outcome"] == "misses"


def test_explain_reads_urls_and_proxies(run, limits):
    said = run(
        f"explain --path 'https://localhost/api/a%20b?x=1' --ip {ADDRESS} --forwarded-for 1.1.1.1"
    )
    assert "GET /api/a b, from 203.0.113.9, anonymous" in said
    assert "1 entry left of it: the client's own word, not read." in said


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("explain --ip x", "'x' is no address"),
        ("explain --path api", "a path begins with '/'"),
        ("explain --user nobody", "No user is called 'nobody'."),
        ("explain --header X", "'X' is no header"),
        ("inspect", "Say who"),
        ("inspect --digest x", "A digest has 20"),
        (f"inspect --digest {'a' * 20} --ip 1.1.1.1", "A digest stands alone."),
        ("reset", "Say who"),
    ],
)
def test_wrong_options_are_told(run, limits, text, error):
    assert error in run(text, code=2)


def test_inspect_shows_a_bar_for_each_limit(run, limits, engine):
    ada = User.objects.create_user("ada")
    charge(engine, 2, UserFacts(str(ada.pk)))
    said = run(f"inspect --ip {ADDRESS} --user ada")
    assert "2 of 2 used; the next in" in said
    assert "2 of 5 used; all free again in" in said
    found = json.loads(run(f"inspect --ip {ADDRESS} --user ada --json"))
    assert {one["name"]: one["counter"]["used"] for one in found["limits"]} == {
        "api": 2, "per-user": 2, "posts": 0,
    }  # fmt: skip
    digest = found["limits"][0]["digest"]
    assert "2 of 2 used" in run(f"inspect --digest {digest}")
    assert "No limit counts them." in run(f"inspect --digest {'a' * 20}", code=1)


def test_reset_says_what_it_will_do_and_does_it(run, limits, engine, caplog):
    charge(engine, 2)
    said = run(f"reset --ip {ADDRESS} --dry-run")
    assert "Would forget 4 used units in 2 limits." in said
    assert "2 of 2 used" in run(f"inspect --ip {ADDRESS}")
    with caplog.at_level("INFO"):
        found = json.loads(run(f"reset --ip {ADDRESS} --json"))
    assert found["keys_removed"] == 1
    assert "Reset by command" in caplog.text
    assert ADDRESS not in caplog.text
    assert "0 of 2 used" in run(f"inspect --ip {ADDRESS}")
    assert "Forgotten: 0 used units in 0 limits" in run(f"reset --ip {ADDRESS}")


def test_a_key_is_shown_to_the_validator_and_not_repeated(run, engine, settings):
    from dataclasses import replace

    validator = "apps.ratelimits.tests.test_ratelimit_support_commands.whose_key"
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, key_validator=validator)
    RateLimit.objects.create(name="keys", quota=5, counted_by="header", header="X-Api-Key")
    engine.refresh()
    for command in ("inspect", f"explain --ip {ADDRESS}"):
        said = run(f'{command} --header "X-Api-Key: raw-key-of-acme"')
        assert "acme" in said
        assert "raw-key" not in said
    assert "the key of acme" in run('inspect --header "X-Api-Key: acme"')
    said = run('explain --header "X-Api-Key: other"')
    assert "holds no key that the site knows" in said
    assert "its address counts instead" in said


def whose_key(header: str, value: str) -> str | None:
    return "acme" if value == "raw-key-of-acme" else None


def test_help_has_examples(run, capsys):
    for name in ("explain", "inspect", "reset"):
        with pytest.raises(SystemExit):
            call_command("ratelimit", name, "--help")
        said = capsys.readouterr().out
        assert f"manage.py ratelimit {name}" in said
        assert "exit codes" in said
