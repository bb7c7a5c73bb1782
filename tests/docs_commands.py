"""The commands of the docs, and which of them no test runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

NOT_RUN = {
    "make ": "starts this suite, a server, or minutes of work: CI runs each target by itself",
    "docker ": "there is no daemon here: tests/topology runs the same as plain processes",
    "sh deploy/": "writes into the clone; tests/test_deployment.py runs it elsewhere",
    "echo ALLOWED_HOSTS=": "writes into the clone, for docker",
    "git clone ": "it is how one comes to be here",
    "git worktree ": "makes a second environment; performance.yml does it",
    "pip install ": "installs into the environment of this suite; make installs the same",
    "python -m tests.performance.against_base ": "half an hour; performance.yml does it",
    "python -m pytest tests/performance ": "loads both cores; test_foreign.py reads such files",
    "manage.py benchmark run --set quick": "a minute of both cores; performance.yml does it",
    "manage.py benchmark targets ": "minutes of both cores; test_benchmark.py does it, cut short",
    "python -m locust ": "load on a site that is not there; loadtests/tests have the rest",
    "locust ": "a minute of load; test_foreign.py reads such files",
    "redis-benchmark ": "loads a server that is not there; test_foreign.py reads such files",
}
"""Beginnings of commands, and why."""

NOT_RUN_HERE = {
    "docs/guides/first-limit.md": "tests/test_first_limit.py follows it in a fresh clone",
    "docs/guides/your-own-site.md": "tests/test_own_site.py follows it in a fresh site",
    "docs/guides/postgresql.md": "tests/test_move_to_postgres.py does it with a PostgreSQL",
    "docs/guides/deploying.md": "tests/topology starts what it starts, by the same entry point",
}
"""Pages whose commands only make sense together, elsewhere, and what runs them."""


class Command(NamedTuple):
    page: str
    text: str
    line: int

    @property
    def why_not_run(self) -> str:
        """Empty where it is."""
        of_it = (why for start, why in NOT_RUN.items() if self.text.startswith(start))
        return NOT_RUN_HERE.get(self.page) or next(of_it, "")


def commands(page: Path) -> list[Command]:
    """Of its fences marked ``sh``: one a line, unless the line ends with a backslash, or a loop
    goes on."""
    found: list[Command] = []
    name = str(page.relative_to(ROOT))
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
                found.append(Command(name, pending.strip().removeprefix("$ "), began))
            pending = ""
    return found


def _goes_on(text: str) -> bool:
    return bool(re.search(r"^(for|while) ", text)) and not re.search(r"\bdone\b", text)


def pages() -> list[Path]:
    """What people read; the CHANGELOG tells of the past."""
    return sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
