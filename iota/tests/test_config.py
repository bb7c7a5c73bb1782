"""The environment: read whole, or refused whole."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from iota.config import ConfigurationError, create_settings
from iota.variables import VARIABLES, as_markdown
from tests import redis_files

ROOT = Path(__file__).resolve().parents[2]

PRODUCTION = {
    "SECRET_KEY": "aB3$" * 15,
    "IOTA_IDENTITY_KEY": "k" * 40,
    "ALLOWED_HOSTS": "example.com",
}

WRONG = {
    "SECRET_KEY": "short-secret",
    "DEBUG": "perhaps",
    "ALLOWED_HOSTS": "*",
    "CSRF_TRUSTED_ORIGINS": "example.com",
    "DATABASE_URL": "mongodb://u:hunter2@h/x",
    "REDIS_URL": "http://u:hunter2@h",
    "CELERY_BROKER_URL": "kafka://u:hunter2@h",
    "IOTA_DEMO": "maybe",
    "IOTA_DISABLED": "2",
    "IOTA_KEY_PREFIX": "no spaces",
    "IOTA_IDENTITY_KEY": "also-too-short",
    "IOTA_REDIS_TIMEOUT_MS": "0",
    "IOTA_REDIS_MAX_CONNECTIONS": "many",
    "IOTA_BREAKER_FAILURES": "-1",
    "IOTA_BREAKER_OPEN_MS": "1",
    "IOTA_RULESET_POLL_MS": "5000",
    "IOTA_TRUSTED_PROXIES": "10.0.0.0/33",
    "IOTA_IPV6_PREFIX": "16",
    "IOTA_EXEMPT_PATHS": "healthz",
    "IOTA_LOG_LEVEL": "LOUD",
}


def test_defaults_need_only_what_has_none():
    settings = create_settings(PRODUCTION)
    assert settings.debug is False
    assert settings.allowed_hosts == ("example.com",)
    assert settings.celery_broker.url == settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.rate_limit_config.redis_timeout_ms == 50
    assert settings.rate_limit_config.identity_key == b"k" * 40
    with pytest.raises(FrozenInstanceError):
        settings.debug = True  # type: ignore[misc]


def test_nothing_is_open_by_default():
    with pytest.raises(ConfigurationError) as caught:
        create_settings({})
    text = str(caught.value)
    assert all(name in text for name in ("SECRET_KEY", "IOTA_IDENTITY_KEY", "ALLOWED_HOSTS"))


def test_twenty_wrong_variables_are_named_in_one_error():
    assert len(WRONG) == 20
    with pytest.raises(ConfigurationError) as caught:
        create_settings(WRONG)
    assert [problem.partition("=")[0] for problem in caught.value.problems] == [
        variable.name for variable in VARIABLES if variable.name in WRONG
    ]
    text = str(caught.value)
    assert "use a whole number from 1 to 5,000" in text
    assert not any(secret in text for secret in ("hunter2", "short-secret", "also-too-short"))


def test_a_secret_is_read_from_a_file(tmp_path):
    (tmp_path / "key").write_text("from-a-file-" * 5 + "\n")
    environment = {**PRODUCTION, "SECRET_KEY_FILE": str(tmp_path / "key")}
    del environment["SECRET_KEY"]
    assert create_settings(environment).secret_key == "from-a-file-" * 5


def test_a_file_that_cannot_be_read_or_comes_twice_is_an_error(tmp_path):
    environment = {
        **PRODUCTION,
        "SECRET_KEY_FILE": "x",
        "REDIS_URL_FILE": str(tmp_path / "absent"),
    }
    with pytest.raises(ConfigurationError) as caught:
        create_settings(environment)
    assert "keep one of them" in caught.value.problems[0]
    assert "No such file" in caught.value.problems[1]


def test_a_misspelt_variable_is_an_error():
    with pytest.raises(ConfigurationError, match="did you mean IOTA_DISABLED"):
        create_settings({**PRODUCTION, "IOTA_DISABLE": "1"})


@pytest.mark.parametrize("value", ["$" + "x" * 50, "$DEBUG" + "x" * 50, "a\\$b" + "x" * 50])
def test_a_secret_is_kept_as_it_was_given(value):
    settings = create_settings(
        {**PRODUCTION, "SECRET_KEY": value, "IOTA_IDENTITY_KEY": value + "i"}
    )
    assert settings.secret_key == value
    assert settings.rate_limit_config.identity_key == f"{value}i".encode()


def test_an_empty_variable_is_not_set():
    names = ("REDIS_URL", "DATABASE_URL", "IOTA_IPV6_PREFIX", "IOTA_LOG_LEVEL", "REDIS_URL_FILE")
    environment = {**PRODUCTION, **dict.fromkeys(names, "")}
    assert create_settings(environment) == create_settings(PRODUCTION)
    emptied = create_settings({**PRODUCTION, "IOTA_EXEMPT_PATHS": ""})
    assert emptied.rate_limit_config.exempt_paths == ()


def test_lists_may_have_blanks_behind_their_commas():
    settings = create_settings({**PRODUCTION, "ALLOWED_HOSTS": "a.example, b.example"})
    assert settings.allowed_hosts == ("a.example", "b.example")


def test_every_host_is_allowed_in_debug_mode_only():
    environment = {**PRODUCTION, "ALLOWED_HOSTS": "*"}
    with pytest.raises(ConfigurationError, match="for DEBUG only"):
        create_settings(environment)
    assert create_settings({**environment, "DEBUG": "1"}).allowed_hosts == ("*",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "redis://h/abc"),
        ("REDIS_URL", "redis://h/0?socket_timeout=abc"),
        ("REDIS_URL", "redis://h:99999/0"),
        ("REDIS_URL", "unix://"),
        ("IOTA_REDIS_OPERATOR_URL", "http://h"),
        ("REDIS_URL", "redis://h/0?no_such_option=1"),
        ("REDIS_URL", "redis+sentinel://h"),
        ("REDIS_URL", "redis+cluster://h/1"),
        ("CELERY_BROKER_URL", "redis+cluster://h"),
        ("CELERY_BROKER_URL", "redis+sentinel://h"),
        ("CELERY_BROKER_URL", "rediss+sentinel://h/main"),
        ("DATABASE_URL", "sqlite://var/iota.sqlite3"),
        ("DATABASE_URL", "postgres://h"),
        ("IOTA_LANGUAGE_CODE", "xx"),
        ("SECRET_KEY_FILE", "nul\0"),
    ],
)
def test_what_would_fail_later_is_refused_now(name, value):
    environment = {**PRODUCTION, name: value}
    if name.endswith("_FILE"):
        del environment[name.removesuffix("_FILE")]
    with pytest.raises(ConfigurationError) as caught:
        create_settings(environment)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{name}=")


@pytest.mark.parametrize(
    "value",
    [
        "redis:u:hunter2@h/0",
        "http://u:hunt hunter2@h",
        "http://u:a@hunter2@h",
        "http://h/0?password=hunter2",
        "redis+sentinel://h/main/x?sentinel_password=hunter2",
        "redis+sentinel://:hunter2@a,b:hunter2@c/main",
        "redis+cluster://u:hunter2@a:7000,b:7001/9",
        "redis+cluster://a,u:hunter2@b,c:0",
        "redis://default:hunter2",
        "redis://:hunter2/0",
    ],
)
def test_a_password_is_masked_wherever_it_stands(value):
    with pytest.raises(ConfigurationError) as caught:
        create_settings({**PRODUCTION, "REDIS_URL": value})
    assert "hunter2" not in str(caught.value)


def test_a_wrong_url_of_redis_is_refused_with_the_reason():
    with pytest.raises(ConfigurationError, match=r"only database 0; write it as redis\+cluster"):
        create_settings({**PRODUCTION, "REDIS_URL": "redis+cluster://h/1"})
    with pytest.raises(ConfigurationError, match=r"use a URL of redis, rediss, unix, redis\+sent"):
        create_settings({**PRODUCTION, "REDIS_URL": "http://h"})


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://u:p@h:7/3?ssl_ca_certs=/ca.pem",
        "unix:///run/r.sock",
        "redis+sentinel://:p@a,b:7/main/2?sentinel_password=x",
        "redis+cluster://a:7000,b:7001",
        "rediss+cluster://a,b?ssl_check_hostname=no",
    ],
)
def test_every_kind_of_server_can_be_named(url):
    environment = {**PRODUCTION, "REDIS_URL": url, "CELERY_BROKER_URL": "redis://broker"}
    settings = create_settings(environment)
    assert settings.redis_url == settings.rate_limit_config.redis_url == url
    assert settings.celery_broker.url == "redis://broker"


@pytest.mark.parametrize("url", ["redis+cluster://h", "rediss+sentinel://h/main"])
def test_who_has_no_server_for_celery_is_told(url):
    with pytest.raises(ConfigurationError) as caught:
        create_settings({**PRODUCTION, "REDIS_URL": url})
    (problem,) = caught.value.problems
    assert problem.startswith("CELERY_BROKER_URL: not set")
    assert "such as redis://host:6379/0" in problem


def test_sentinels_stand_in_for_the_broker():
    settings = create_settings({**PRODUCTION, "REDIS_URL": "redis+sentinel://a,b/main/2"})
    assert settings.celery_broker.url == "sentinel://a:26379/2;sentinel://b:26379/2"
    assert settings.celery_broker.options == {"master_name": "main"}


def test_no_secret_is_in_the_repr():
    urls = {
        "REDIS_URL": "redis+sentinel://:hunter2@h/main?sentinel_password=hunter2",
        "DATABASE_URL": "postgres://u:hunter2@h/d",
    }
    shown = repr(create_settings({**PRODUCTION, **urls}))
    secret = (PRODUCTION["SECRET_KEY"], PRODUCTION["IOTA_IDENTITY_KEY"], "hunter2")
    assert not any(text in shown for text in secret)


def test_celery_is_told_of_a_unix_socket_in_its_own_words():
    settings = create_settings({**PRODUCTION, "REDIS_URL": "unix:///run/r.sock?db=1"})
    assert settings.celery_broker.url == "redis+socket:///run/r.sock?virtual_host=1"


@pytest.mark.parametrize(("text", "meant"), [("1", True), ("TRUE", True), ("off", False)])
def test_truth_is_spelt_in_many_ways(text, meant):
    assert create_settings({**PRODUCTION, "DEBUG": text}).debug is meant


def test_the_documented_table_is_the_declared_one():
    documented = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    assert as_markdown() in documented


def test_production_passes_djangos_deployment_check(request):
    """The limiter's own part of it asks the server."""
    server = redis_files.with_file("valkey", redis_files.SINGLE)
    request.addfinalizer(server.stop)
    environment = {
        **PRODUCTION,
        "PATH": os.environ["PATH"],
        "SECRET_KEY": os.urandom(40).hex(),
        "REDIS_URL": server.start().url,
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"IOTA_IDENTITY_KEY": PRODUCTION["SECRET_KEY"]}, "the same as SECRET_KEY"),
        ({"IOTA_EXEMPT_PATHS": "/healthz,/"}, "begin with '/' and go on"),
        ({"IOTA_TLS_ENDS_AT_PROXY": "true"}, "name that proxy in IOTA_TRUSTED_PROXIES"),
    ],
)
def test_what_would_undo_a_setting_is_refused(changes, said):
    with pytest.raises(ConfigurationError) as caught:
        create_settings({**PRODUCTION, **changes})
    (problem,) = caught.value.problems
    assert said in problem
    assert PRODUCTION["SECRET_KEY"] not in problem


def test_every_byte_of_a_long_identity_key_counts():
    keys = {
        create_settings(
            {**PRODUCTION, "IOTA_IDENTITY_KEY": "k" * 64 + end}
        ).rate_limit_config.identity_key
        for end in ("", "a", "b")
    }
    assert len(keys) == 3
    assert {len(key) for key in keys} == {64}


def test_a_proxy_that_ends_tls_is_believed_only_where_the_site_says_so():
    code = "from iota import settings; print(getattr(settings, 'SECURE_PROXY_SSL_HEADER', None))"
    said = []
    proxies = {"IOTA_TRUSTED_PROXIES": "10.0.0.0/8", "IOTA_TLS_ENDS_AT_PROXY": "true"}
    for changes in ({}, proxies):
        ran = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **PRODUCTION, **changes},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(ran.stdout.strip())
    assert said == ["None", "('HTTP_X_FORWARDED_PROTO', 'https')"]


def test_how_long_it_took_is_known_and_makes_no_two_settings_differ():
    one, two = create_settings(PRODUCTION), create_settings(PRODUCTION)
    assert one.rate_limit_config.load_us > 0
    assert one == two
