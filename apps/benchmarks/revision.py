"""Which code is measured: of git where there is a repository, else of the CI's variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GIT_TIMEOUT_S = 10.0
COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA")
BRANCH_VARIABLES = ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME")
MAX_BRANCH_CHARS = 200


@dataclass(frozen=True, slots=True)
class Revision:
    """Empty where nobody knows. ``dirty``: files that git knows were edited since the commit."""

    commit: str = ""
    dirty: bool = False
    branch: str = ""


def current(root: Path = ROOT, environ: Mapping[str, str] | None = None) -> Revision:
    """A CI checks a commit out by itself, without a branch: the branch is then the variable's."""
    environ = os.environ if environ is None else environ
    commit = _git(root, "rev-parse", "--verify", "HEAD") or _first(environ, COMMIT_VARIABLES)
    branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD")
    return Revision(
        commit[:40],
        bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        (branch or _first(environ, BRANCH_VARIABLES))[:MAX_BRANCH_CHARS],
    )


def _git(root: Path, *words: str) -> str:
    """Empty where there is no git, no repository, or no answer."""
    command = ["git", "--no-optional-locks", "-C", str(root), *words]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")
