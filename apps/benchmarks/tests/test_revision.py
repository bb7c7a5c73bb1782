from __future__ import annotations

import subprocess

from apps.benchmarks import revision
from apps.benchmarks.revision import Revision


def git(folder, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder):
    git(folder, "init", "--initial-branch", "work")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "-m", "First")
    return git(folder, "rev-parse", "HEAD")


def test_commit_branch_and_edited_files(tmp_path):
    commit = repository(tmp_path)
    assert revision.current(tmp_path, {}) == Revision(commit, False, "work")
    (tmp_path / "new").write_text("git does not know it")
    assert not revision.current(tmp_path, {}).dirty
    (tmp_path / "file").write_text("two")
    assert revision.current(tmp_path, {}) == Revision(commit, True, "work")


def test_a_checkout_without_a_branch_has_the_one_of_the_ci(tmp_path):
    commit = repository(tmp_path)
    git(tmp_path, "checkout", "--detach")
    variables = {"GITHUB_SHA": "f" * 40, "GITHUB_HEAD_REF": "topic", "GITHUB_REF_NAME": "7/merge"}
    assert revision.current(tmp_path, variables) == Revision(commit, False, "topic")
    assert revision.current(tmp_path, {}) == Revision(commit, False, "")


def test_without_a_repository_the_ci_knows(tmp_path):
    variables = {"CI_COMMIT_SHA": "a" * 40, "CI_COMMIT_REF_NAME": "main"}
    assert revision.current(tmp_path, variables) == Revision("a" * 40, False, "main")


def test_without_anything_it_is_empty(tmp_path, monkeypatch):
    assert revision.current(tmp_path, {}) == Revision()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision.current(tmp_path, {}) == Revision()
