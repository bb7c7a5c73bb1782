"""Commands of manage.py in one process, and what the demo asks of its database before."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from iota.demo import ROOT, has_rows


def ran(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/site.sqlite3"}
    command = [sys.executable, "-m", "iota.commands", json.dumps(commands)]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


def test_one_after_the_other_until_one_fails(tmp_path):
    done = ran(
        tmp_path,
        ["migrate", "auth", "--verbosity", "0"],
        ["loaddata", "nowhere"],
        ["migrate", "sessions", "--verbosity", "0"],
    )
    assert done.returncode == 1
    assert done.stderr.strip().startswith("manage.py loaddata failed: No fixture named 'nowhere'")
    tables = "SELECT name FROM sqlite_master"
    with sqlite3.connect(tmp_path / "site.sqlite3") as connection:
        found = {name for (name,) in connection.execute(tables)}
    assert "auth_user" in found
    assert "django_session" not in found


def test_a_table_that_is_not_there_has_no_rows(tmp_path):
    url = f"sqlite:///{tmp_path}/site.sqlite3"
    assert not has_rows(url, "auth_user")
    with sqlite3.connect(tmp_path / "site.sqlite3") as connection:
        connection.execute("CREATE TABLE auth_user (id INTEGER)")
        assert not has_rows(url, "auth_user")
        connection.execute("INSERT INTO auth_user VALUES (1)")
        connection.commit()
    assert has_rows(url, "auth_user")


def test_a_database_that_cannot_be_asked_is_not_taken_for_an_empty_one(tmp_path):
    """Its limits would be overwritten."""
    (tmp_path / "site.sqlite3").mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        has_rows(f"sqlite:///{tmp_path}/site.sqlite3", "auth_user")
