"""The commands of the docs, and which of them no test runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

NOT_RUN = {
    "make ": "starts this suite, a server, or minutes of work: CI runs each target by itself",
    "docker ": "there is no daemon here: its files are checked in tests of their own",
    "git clone ": "it is how one comes to be here",
    "git worktree ": "makes a second environment; the workflow that compares commits does it",
    "pip install ": "installs into the environment that this suite runs in; make installs the same",
    "python -m tests.performance.against_base ": "half an hour; the workflow that compares commits",
    "python -m pytest tests/performance ": "minutes of measuring; the import is tested with its file",
    "manage.py benchmark run --set quick": "a minute of both cores; test_running has it, cut short",
    "manage.py benchmark targets ": "minutes of both cores; test_targets has it, cut short",
    "locust ": "a minute of load; the import is tested with its file",
    "redis-benchmark ": "loads a server that others test on; the import is tested with its file",
}
"""Beginnings of commands, and why."""


class Command(NamedTuple):
    text: str
    line: int

    @property
    def why_not_run(self) -> str:
        return next((why for start, why in NOT_RUN.items() if self.text.startswith(start)), "")


def commands(page: Path) -> list[Command]:
    """Of its fences marked ``sh``: one a line, unless the line ends with a backslash, or a loop
    goes on."""
    found: list[Command] = []
    for block in re.finditer(r"^( *)```sh\n(.*?)^ *```$", page.read_text(), re.S | re.M):
        first = page.read_text()[: block.start(2)].count("\n") + 1
        pending, began = "", first
        for number, raw in enumerate(block[2].splitlines(), first):
            line = raw.removeprefix(block[1])
            began = began if pending else number
            pending = f"{pending}\n{line}" if pending else line
            if line.endswith("\\") or _goes_on(pending):
                continue
            if pending.strip() and not pending.lstrip().startswith("#"):
                found.append(Command(pending.strip().removeprefix("$ "), began))
            pending = ""
    return found


def _goes_on(text: str) -> bool:
    return bool(re.search(r"^(for|while) ", text)) and not re.search(r"\bdone\b", text)


def pages() -> list[Path]:
    """What people read; the CHANGELOG tells of the past."""
    return sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
