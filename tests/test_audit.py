"""The audit, on pip and on what pip-audit is known to say."""

from __future__ import annotations

import zipfile
from importlib import metadata

import pytest

from . import audit

VULNERABLE = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [
        {
            "id": "PYSEC-2014-8",
            "fix_versions": ["2.7.2"],
            "aliases": ["CVE-2014-1402"],
            "description": "...",
        }
    ],
}
FINE = {"name": "redis", "version": "8.1.0", "vulns": []}
# As pip-audit 2.10.1 says it, with exit code 0 and "No known vulnerabilities found".
LEFT_OUT = {
    "name": "django",
    "skip_reason": "Dependency not found on PyPI and could not be audited: django (5.2.19)",
}


def test_our_own_requirements_are_pinned_installed_and_fit():
    assert audit.main(["--offline"]) == 0


def test_a_line_without_a_version_and_one_that_is_not_installed_are_wrong(tmp_path):
    path = tmp_path / "requirements.txt"
    installed = metadata.version("redis")
    path.write_text(
        f"# a comment\n-r other.txt\nredis=={installed}  # why\nDjango>=5\n"
        "redis==0.0.1\nno-such-package==1.0\nhttps://example.com/x.whl\n"
    )
    wrong = audit.pins([path]).wrong
    assert [text.partition(": ")[0] for text in wrong] == [
        f"requirements.txt:{number}" for number in (4, 5, 6, 7)
    ]
    assert "write name==version" in wrong[0]
    assert f"installed is {installed}" in wrong[1]
    assert "installed is nothing" in wrong[2]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of our own with one version of one package; pip asks no other."""

    def make(attributes: str):
        name = "iota_audit_sample-1.0-py3-none-any.whl"
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            info = "iota_audit_sample-1.0.dist-info"
            about = "Metadata-Version: 2.1\nName: iota-audit-sample\nVersion: 1.0\n"
            wheel.writestr(f"{info}/METADATA", about)
            tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            wheel.writestr(f"{info}/WHEEL", tag)
            wheel.writestr(f"{info}/RECORD", "")
        page = tmp_path / "simple" / "iota-audit-sample"
        page.mkdir(parents=True)
        link = f'<a href="../../{name}" {attributes}>{name}</a>'
        (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
        path = tmp_path / "requirements.txt"
        path.write_text("iota-audit-sample==1.0\n")
        return path

    return make


def test_a_version_that_was_withdrawn_is_wrong(index):
    (text,) = audit.withdrawn(index('data-yanked="broken"')).wrong
    assert "iota-audit-sample" in text


def test_a_version_that_was_not_is_fine(index):
    assert audit.withdrawn(index("")) == audit.Outcome()


def test_an_index_that_has_it_not_leaves_it_unchecked(index):
    path = index("")
    path.write_text("iota-audit-other==1.0\n")
    outcome = audit.withdrawn(path)
    assert outcome.wrong == ()
    assert "withdrawn versions: " in outcome.unchecked[0]


def test_a_vulnerability_is_named_with_what_mends_it():
    outcome = audit.read_report({"dependencies": [FINE, VULNERABLE]})
    assert outcome == audit.Outcome(
        ("jinja2 2.4.1: PYSEC-2014-8, CVE-2014-1402; mended in: 2.7.2",)
    )


def test_what_the_service_does_not_know_is_not_taken_for_safe():
    outcome = audit.read_report({"dependencies": [FINE, LEFT_OUT]})
    assert outcome.wrong == ()
    assert "does not know 1 of 2 packages (django)" in outcome.unchecked[0]


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_what_is_not_checked_fails_where_that_is_asked_for(monkeypatch, capsys, strict, code):
    unknown = audit.read_report({"dependencies": [LEFT_OUT]})
    monkeypatch.setattr(audit, "withdrawn", audit.Outcome)
    monkeypatch.setattr(audit, "vulnerable", lambda: unknown)
    assert audit.main(strict) == code
    assert "audit: NOT CHECKED: vulnerabilities" in capsys.readouterr().err


def test_a_vulnerability_fails(monkeypatch, capsys):
    found = audit.read_report({"dependencies": [VULNERABLE]})
    monkeypatch.setattr(audit, "withdrawn", audit.Outcome)
    monkeypatch.setattr(audit, "vulnerable", lambda: found)
    assert audit.main([]) == 1
    assert "audit: WRONG: jinja2 2.4.1" in capsys.readouterr().err
