"""What the Dockerfile makes, as a folder: the files that .dockerignore lets in, its variables, and
what its RUN line makes of them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from .compose import ROOT

BIN = Path(sys.executable).parent
DOCKERFILE = ROOT / "Dockerfile"


def ignored() -> tuple[list[str], list[str]]:
    """What .dockerignore lets in, and the names that it leaves out everywhere. It leaves out
    everything else."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule.removeprefix("**/") for rule in rules[1:] if rule.startswith("**/")]
    assert len(let_in) + len(left_out) == len(rules) - 1, "a rule that this does not know"
    return let_in, left_out


def instructions() -> list[tuple[str, str]]:
    """Each as its word and the rest, lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def variables() -> dict[str, str]:
    """ENV, but for the PATH of the image."""
    found: dict[str, str] = {}
    for word, rest in instructions():
        if word == "ENV":
            for pair in shlex.split(rest):
                name, _, found[name] = pair.partition("=")
    found.pop("PATH")
    return found


def build(folder: Path) -> Path:
    """The image's /app."""
    app = folder / "app"
    app.mkdir()
    let_in, left_out = ignored()
    for name in let_in:
        source, target = ROOT / name, app / name
        if source.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*left_out))
        else:
            shutil.copy2(source, target)
    (line,) = [rest for word, rest in instructions() if word == "RUN" and "collectstatic" in rest]
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    command = line.replace("/venv/bin/python", sys.executable)
    done = subprocess.run(
        ["sh", "-c", command], cwd=app, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return app
