"""``manage.py ratelimit export`` and ``import``: limits in version control."""

from __future__ import annotations

import io
import json
import shlex
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from apps.ratelimits import exchange
from apps.ratelimits.models import Override, RateLimit, RulesetVersion
from apps.ratelimits.storage.errors import Unavailable


@pytest.fixture
def limits(engine):
    for name, mode in (("login", "enforce"), ("api", "shadow")):
        RateLimit.objects.create(name=name, quota=5, mode=mode, path_kind="prefix", path="/api/")


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(text: str, **options) -> str:
        call_command("ratelimit", *shlex.split(text), **options)
        return capsys.readouterr().out

    return call


def test_an_export_is_a_file_that_changes_nothing(limits, run, tmp_path):
    assert run("export --output limits.yaml") == "2 limits in limits.yaml\n"
    first = (tmp_path / "limits.yaml").read_bytes()
    version, entries = RulesetVersion.current(), RateLimit.history.count()
    assert run("import limits.yaml") == "Nothing to do: 2 unchanged.\n"
    assert run("import limits.yaml --dry-run --prune") == "Nothing to do: 2 unchanged.\n"
    assert (RulesetVersion.current(), RateLimit.history.count()) == (version, entries)
    run("export --output limits.yaml")
    assert (tmp_path / "limits.yaml").read_bytes() == first
    assert run("export").encode() == first


def test_the_diff_names_each_field_before_anything_is_changed(
    limits, run, tmp_path, engine, capsys
):
    rows = [
        {"name": "login", "quota": 9, "message": "a\nb\x1b[31m"},
        {"name": "search", "quota": 3, "path_kind": "any"},
    ]
    (tmp_path / "new.json").write_text(json.dumps(rows))
    with pytest.raises(SystemExit) as changes:
        run("import new.json --dry-run --prune")
    assert changes.value.code == 2
    assert "Would be done: 1 new, 1 changed, 1 switched off" in capsys.readouterr().out
    assert RateLimit.objects.count() == 2
    said = run("import new.json --prune")
    assert said.splitlines() == [
        "~ login",
        "    quota: 5 -> 9",
        '    message: (empty) -> "a\\nb\\u001b[31m"',
        "+ search (new)",
        "    quota: 3",
        "- api (not in the file)",
        "    mode: shadow -> off",
        "Done: 1 new, 1 changed, 1 switched off, 0 unchanged; "
        "in force in every process within 1 s.",
    ]
    assert engine.store.version() == RulesetVersion.current()
    entry = RateLimit.objects.get(name="login").history.first()
    assert (entry.history_change_reason, entry.history_user) == ("imported from new.json", None)


def test_colours_are_for_terminals(limits, run, tmp_path):
    (tmp_path / "new.json").write_text('[{"name": "login", "quota": 9}]')
    with pytest.raises(SystemExit):
        run("import new.json --dry-run")
    assert "\x1b[" not in run("import new.json")
    (tmp_path / "new.json").write_text('[{"name": "login", "quota": 8}]')
    assert "\x1b[" in run("import new.json", force_color=True)


def test_what_is_read_from_stdin_is_told_by_its_text(limits, run, monkeypatch):
    texts = (b'[{"name": "api", "quota": 6}]', b"- {name: api, quota: 7}", b"name;quota\napi;8")
    for data in texts:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        assert "~ api" in run("import -")
    assert RateLimit.objects.get(name="api").quota == 8
    assert RateLimit.objects.get(name="api").history.first().history_change_reason == (
        "imported from stdin"
    )


def test_json_is_for_programs(limits, run, tmp_path):
    (tmp_path / "new.json").write_text('[{"name": "login", "quota": 9}]')
    said = json.loads(run("import new.json --json"))
    assert said == {
        "changes": [
            {"name": "login", "what": "changed", "fields": {"quota": {"before": 5, "after": 9}}}
        ],
        "unchanged": 0,
        "dry_run": False,
        "published": True,
        "refused": [],
    }
    assert [row["name"] for row in json.loads(run("export --json"))] == ["api", "login"]


def test_a_file_that_cannot_be_changes_nothing_and_says_where(limits, run, tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("name,quota\nlogin,9\napi,many\n")
    with pytest.raises(CommandError, match=r"bad\.csv cannot be imported: nothing was changed"):
        run("import bad.csv")
    assert "row 2 (api), quota: 'many' is no whole number" in capsys.readouterr().err
    assert set(RateLimit.objects.values_list("quota", flat=True)) == {5}
    with pytest.raises(CommandError):
        run("import bad.csv --dry-run --json")
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert (refused["row"], refused["name"], refused["field"]) == (2, "api", "quota")
    for text, said in (
        ("import gone.yaml", "gone.yaml: No such file"),
        ("export --output gone/limits.yaml", "No such file"),
        ("export logn", "No limit is called logn; nothing was written. Did you mean login?"),
    ):
        with pytest.raises(CommandError, match=said):
            run(text)


def test_overrides_are_a_file_of_their_own(limits, run, tmp_path):
    Override.objects.create(network="10.0.0.0/8", action="unlimited")
    login = RateLimit.objects.get(name="login")
    Override.objects.create(limit=login, network="10.0.0.0/8", action="quota", quota=7)
    assert run("export --overrides --output all.csv") == "2 overrides in all.csv\n"
    assert run("export --overrides login --format csv").count("\r\n") == 2
    Override.objects.all().delete()
    assert "Done: 2 new, 0 unchanged" in run("import all.csv")
    assert Override.objects.get(limit=login).quota == 7
    assert "Nothing to do: 2 unchanged." in run("import all.csv")


def test_some_limits_can_be_named(limits, run):
    assert run("export login --format csv").splitlines()[1].startswith("login,")
    assert run("export login --format csv").count("\r\n") == 2


def test_it_fails_where_redis_did_not_hear_of_it(limits, run, tmp_path, engine, monkeypatch):
    (tmp_path / "new.json").write_text('[{"name": "login", "quota": 9}]')

    def away() -> None:
        raise Unavailable("away")

    monkeypatch.setattr(engine, "reconcile", away)
    with pytest.raises(CommandError, match="Redis does not answer"):
        run("import new.json")
    assert RateLimit.objects.get(name="login").quota == 9


def test_without_the_library_it_says_what_to_install(limits, run, monkeypatch):
    monkeypatch.setattr(exchange, "is_available", lambda: False)
    for text in ("export", "import limits.yaml"):
        with pytest.raises(CommandError, match="pip install django-import-export PyYAML"):
            run(text)
