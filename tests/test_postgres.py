"""The PostgreSQL that tests start."""

from __future__ import annotations

import psycopg
import pytest

from . import postgres


def _missing() -> str:
    try:
        postgres.binary("initdb")
    except postgres.NoPostgres as missing:
        return str(missing)
    return ""


needs_postgres = pytest.mark.skipif(bool(_missing()), reason=_missing() or "it is there")


@pytest.fixture
def server(tmp_path):
    with postgres.start(tmp_path) as started:
        yield started


@needs_postgres
def test_databases_are_made_copied_and_dropped(server):
    assert server.url == server.url_of("iota")
    server.create("first")
    with server.connect("first") as connection:
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    server.create("second", template="first")
    with server.connect("second") as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(7,)]
        server.drop("second")
    assert {"iota", "first"} <= server.databases()
    assert "second" not in server.databases()


@needs_postgres
def test_started_again_it_has_its_data(server):
    server.create("kept")
    server.stop(remove=False)
    with pytest.raises(psycopg.OperationalError):
        server.connect()
    server.start()
    assert "kept" in server.databases()


@needs_postgres
def test_nobody_comes_in_without_the_password(server):
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace(f":{server._password}@", ":wrong@"))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=str(server._folder), port=server.port, user="iota", password="wrong")


@needs_postgres
def test_stopped_nothing_is_left(server):
    folder = server._folder
    assert folder.exists()
    server.stop()
    assert not folder.exists()
    assert server._process.poll() is not None


def test_a_machine_without_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(postgres.Path, "glob", lambda *_: [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(postgres.NoPostgres, match="apt-get install postgresql"):
        postgres.binary("initdb")
