"""The setting of a site of its own: read whole, or refused whole."""

from __future__ import annotations

import json
from io import StringIO
from ipaddress import ip_network

import pytest
from django.core.management import CommandError, call_command

from apps.ratelimits import checks, conf
from apps.ratelimits.conf import ConfigurationError, read
from apps.ratelimits.options import OPTIONS
from iota.config import create_settings

NEEDED = {"REDIS_URL": "redis://127.0.0.1:6379/0", "IDENTITY_KEY": "k" * 40}

WRONG = {
    "REDIS_URL": "http://u:hunter2@h",
    "IDENTITY_KEY": "too-short-a-secret",
    "KEY_PREFIX": "no spaces",
    "DISABLED": "false",
    "REDIS_TIMEOUT_MS": "50",
    "REDIS_MAX_CONNECTIONS": True,
    "BREAKER_FAILURES": 0,
    "NO_RULESET": "perhaps",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "CHECK_NETWORKS": ["10.0.0.0/33"],
    "EXEMPT_PATHS": ["/"],
    "COUNTED_SIGNALS": [7],
    "KEY_VALIDATOR": None,
}


@pytest.fixture(autouse=True)
def _no_way_back(monkeypatch):
    monkeypatch.delenv(conf.WAY_BACK, raising=False)


def test_two_keys_are_enough_and_mean_what_they_mean_in_the_environment():
    from_environment = create_settings(
        {"SECRET_KEY": "s" * 40, "ALLOWED_HOSTS": "h", "IOTA_IDENTITY_KEY": "k" * 40}
    ).rate_limit_config
    assert read(NEEDED) == from_environment


def test_what_is_set_is_kept():
    config = read(
        {
            **NEEDED,
            "TRUSTED_PROXIES": ["10.0.0.0/8"],
            "EXEMPT_PATHS": ("/up",),
            "REDIS_TIMEOUT_MS": 20,
            "EXEMPT_PREFLIGHT": False,
            "CHECK_NETWORKS": [],
        }
    )
    assert config.trusted_proxies == (ip_network("10.0.0.0/8"),)
    assert (config.exempt_paths, config.redis_timeout_ms) == (("/up",), 20)
    assert (config.exempt_preflight, config.check_networks) == (False, ())


def test_everything_wrong_is_named_at_once_with_what_to_write():
    with pytest.raises(ConfigurationError) as caught:
        read(WRONG)
    places = [problem.partition(" = ")[0] for problem in caught.value.problems]
    assert sorted(places) == sorted(f'IOTA_RATELIMITS["{name}"]' for name in WRONG)
    text = str(caught.value)
    for advice in (
        "'50': use a whole number from 1 to 5,000",
        "'false': use True or False",
        "'10.0.0.0/8': use a list of networks such as 10.0.0.0/8",
        "use a list of paths that begin with '/' and go on",
    ):
        assert advice in text
    assert not any(secret in text for secret in ("hunter2", "too-short"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, 'IOTA_RATELIMITS: not set; use {"REDIS_URL": ..., "IDENTITY_KEY": ...}'),
        ({"REDIS_URL": NEEDED["REDIS_URL"]}, 'IOTA_RATELIMITS["IDENTITY_KEY"]: not set; use at'),
        ({**NEEDED, "REDIS_URL": ""}, "IOTA_RATELIMITS[\"REDIS_URL\"] = '': use a URL of redis"),
        ({**NEEDED, "IOTA_TRUSTED_PROXY": []}, "no such key; did you mean 'TRUSTED_PROXIES'?"),
        ({**NEEDED, "redis_timeout_ms": 1}, "no such key; did you mean 'REDIS_TIMEOUT_MS'?"),
        ({**NEEDED, "XYZZY": 1}, "no such key; remove it"),
        ({**NEEDED, "REDIS_URL": "redis+cluster://h/1"}, "only database 0"),
    ],
)
def test_what_is_missing_or_misspelt_is_named(given, said):
    with pytest.raises(ConfigurationError) as caught:
        read(given)
    (problem,) = caught.value.problems
    assert said in problem


def test_the_key_must_not_be_the_sites_own(settings):
    with pytest.raises(ConfigurationError, match="the same as SECRET_KEY") as caught:
        read({**NEEDED, "IDENTITY_KEY": settings.SECRET_KEY})
    assert settings.SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize(("word", "disabled"), [("1", True), ("false", False)])
def test_the_environment_is_the_way_back_of_a_dictionary_too(monkeypatch, word, disabled):
    monkeypatch.setenv(conf.WAY_BACK, word)
    assert read(NEEDED).disabled is disabled
    assert read({**NEEDED, "DISABLED": not disabled}).disabled is not disabled


def test_a_misspelt_way_back_is_refused(monkeypatch):
    monkeypatch.setenv(conf.WAY_BACK, "flase")
    with pytest.raises(ConfigurationError, match="IOTA_DISABLED='flase' in the environment"):
        read(NEEDED)


def test_a_name_that_nobody_has_made_raises_while_one_develops(settings):
    settings.DEBUG = True
    assert read(NEEDED).unknown_limit == "raise"
    settings.DEBUG = False
    assert read(NEEDED).unknown_limit == "allow"


def test_a_dictionary_is_read_once_until_there_is_another(settings):
    settings.IOTA_RATELIMITS = {**NEEDED, "IPV6_PREFIX": 48}
    first = conf.current()
    assert conf.current() is first
    settings.IOTA_RATELIMITS = {**NEEDED, "IPV6_PREFIX": 56}
    assert (first.ipv6_prefix, conf.current().ipv6_prefix) == (48, 56)


def test_a_check_names_each_mistake_and_the_others_do_not_fall_over(settings):
    settings.IOTA_RATELIMITS = {"IDENTITY_KEY": "k" * 40, "KEY_VALIDATER": "no.such"}
    found = checks.check_configuration(None)
    assert [message.id for message in found] == ["ratelimits.E005"] * 2
    assert all(message.hint for message in found)
    assert checks.check_key_validator(None) == checks.check_counted_signals(None) == []
    settings.IOTA_RATELIMITS = dict(NEEDED)
    assert checks.check_configuration(None) == []


def test_no_secret_is_in_the_repr():
    url = "redis://u:hunter2@h/0"
    config = read({**NEEDED, "REDIS_URL": url, "REDIS_SWEEPER_URL": url, "CHECK_TOKEN": "t" * 40})
    assert not any(secret in repr(config) for secret in ("hunter2", "k" * 40, "t" * 40))


def test_the_command_shows_what_is_in_force_without_secrets(settings):
    url = "redis://u:hunter2@h/0"
    settings.IOTA_RATELIMITS = {**NEEDED, "REDIS_URL": url, "TRUSTED_PROXIES": ["10.0.0.0/8"]}
    said, as_json = StringIO(), StringIO()
    call_command("ratelimit", "settings", stdout=said)
    call_command("ratelimit", "settings", "--json", stdout=as_json)
    assert "REDIS_URL = 'redis://********@h/0'  (required)" in said.getvalue()
    assert "TRUSTED_PROXIES = ['10.0.0.0/8']  (default [])" in said.getvalue()
    rows = json.loads(as_json.getvalue())["settings"]
    assert [row["name"] for row in rows] == [option.name for option in OPTIONS]
    both = said.getvalue() + as_json.getvalue()
    assert not any(secret in both for secret in ("hunter2", NEEDED["IDENTITY_KEY"]))


def test_the_command_says_what_is_wrong(settings):
    settings.IOTA_RATELIMITS = {**NEEDED, "IPV6_PREFIX": 16}
    with pytest.raises(CommandError, match="use a whole number from 32 to 128"):
        call_command("ratelimit", "settings", stdout=StringIO())


def test_every_option_is_documented_and_its_default_is_allowed():
    for option in OPTIONS:
        assert option.help.endswith("."), option.name
        if not option.required:
            option.check(option.default)
