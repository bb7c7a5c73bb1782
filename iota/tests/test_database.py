"""What Django is told of the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from environ import Env

from iota.config import ConfigurationError, create_settings
from iota.database import ASGI_POOL, database, pooled

BASE = Path("/srv/iota")
POSTGRES = "postgres://iota:secret@db.example.com:5432/iota"


def told(url: str) -> dict:
    return database(Env.db_url_config(url), BASE)


def test_a_file_is_one_of_the_project_wherever_a_process_starts():
    assert told("sqlite:///var/iota.sqlite3")["NAME"] == "/srv/iota/var/iota.sqlite3"
    assert told("sqlite:////data/iota.sqlite3")["NAME"] == "/data/iota.sqlite3"
    assert told("sqlite://:memory:")["NAME"] == ":memory:"
    assert told("sqlite:///x")["OPTIONS"]["transaction_mode"] == "IMMEDIATE"


def test_connections_to_postgresql_are_kept_checked_and_bounded():
    made = told(POSTGRES)
    assert made["ENGINE"] == "django.db.backends.postgresql"
    assert (made["CONN_MAX_AGE"], made["CONN_HEALTH_CHECKS"]) == (60, True)
    options = made["OPTIONS"]
    assert (options["connect_timeout"], options["application_name"]) == (5, "iota")
    assert "statement_timeout=60s" in options["options"]
    assert "pool" not in options


def test_what_the_url_says_wins():
    said = "CONN_MAX_AGE=0&connect_timeout=1&sslmode=require&options=-c%20statement_timeout%3D0"
    made = told(f"{POSTGRES}?{said}")
    assert made["CONN_MAX_AGE"] == 0
    options = made["OPTIONS"]
    assert (options["connect_timeout"], options["sslmode"]) == (1, "require")
    assert options["options"] == "-c statement_timeout=0"


def test_a_pooler_between_that_takes_no_options_gets_none():
    assert "options" not in told(f"{POSTGRES}?options=+")["OPTIONS"]


def test_a_pool_lends_connections_and_keeps_them_itself():
    made = told(f"{POSTGRES}?pool=8")
    assert made["CONN_MAX_AGE"] == 0
    assert made["OPTIONS"]["pool"]["max_size"] == 8


def test_under_asgi_there_is_one_unless_the_url_says_how_large():
    own = told(f"{POSTGRES}?pool=8")
    assert pooled(own) == own
    made = pooled(told(POSTGRES))
    assert made["OPTIONS"]["pool"]["max_size"] == ASGI_POOL
    assert made["CONN_MAX_AGE"] == 0
    file = told("sqlite:///x")
    assert pooled(file) == file


@pytest.mark.parametrize("pool", ["0", "1001", "many", "-1", "1.5", "²"])
def test_a_pool_of_no_number_is_refused(pool):
    with pytest.raises(ConfigurationError) as refused:
        create_settings({"DATABASE_URL": f"{POSTGRES}?pool={pool}", "IOTA_DEMO": "1"})
    (problem,) = [one for one in refused.value.problems if one.startswith("DATABASE_URL")]
    assert "use a number of connections from 1 to 1,000" in problem
    assert "secret" not in problem
