"""Whether a change made something slower than the commit it began from, on this machine, now.

Run it: ``python -m tests.performance.against_base BASE``, where BASE is a checkout of that commit
with a ``.venv`` of its own. Both measure the quick set in turns, base, head, base, five times: what
slows the machine down for a while slows both down. Each has a database of its own, thrown away.

The rule is the history's (docs/guides/benchmarks.md): the five runs of the head against the ten of
the base. Exit codes: 0 nothing is confirmed to be slower, or the base cannot be measured; 1 a
regression is confirmed; 2 the head cannot be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.benchmarks import statistics
from apps.benchmarks.records import Direction
from apps.benchmarks.regression import LEAST, REPEATS, Outcome, Suspicion, Verdict, confirm, suspect
from apps.benchmarks.report import figure, markdown

HEAD = Path(__file__).resolve().parents[2]
RUN_TIMEOUT_S = 600
COLUMNS = ("suite", "benchmark", "metric", "contestant", "parameters", "unit", "direction")
CONFIRMED = 1
UNMEASURED = 2

Medians = Mapping[str, Sequence[float]]


class Unmeasurable(Exception):
    """A tree in which no run came about; says why."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout with its own ``.venv`` and, for as long as this lasts, its own database."""

    root: Path
    database: Path
    set_name: str

    def prepare(self) -> None:
        self._manage("migrate", "--verbosity", "0")

    def measure(self) -> dict[str, float]:
        """The medians of one run. Raises Unmeasurable."""
        words = ("benchmark", "run", "--set", self.set_name, "--no-rerun", "--json")
        said = self._manage(*words, allowed=(0, 1))
        try:
            rows = json.loads(said)["measurements"]
        except (ValueError, KeyError) as error:
            raise Unmeasurable(f"{self.root}: no run: {said[-500:]}") from error
        return {_key(row): row["p50"] for row in rows if not row["ignored"]}

    def _manage(self, *words: str, allowed: tuple[int, ...] = (0,)) -> str:
        ran = subprocess.run(
            [str(self.root / ".venv" / "bin" / "python"), "manage.py", *words],
            cwd=self.root,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        if ran.returncode not in allowed:
            raise Unmeasurable(f"{self.root}: manage.py {' '.join(words)}: {ran.stderr[-500:]}")
        return ran.stdout

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "iota.settings",
            "IOTA_DEMO": "1",
            "SECRET_KEY": "only-to-compare-two-commits-on-this-machine",
            "IOTA_IDENTITY_KEY": "another-only-to-compare-two-commits-on-this-machine",
            "DATABASE_URL": f"sqlite:///{self.database}",
        }


def _key(row: Mapping[str, Any]) -> str:
    return json.dumps([row[name] for name in COLUMNS], sort_keys=True)


def in_turns(base: Tree, head: Tree) -> tuple[Medians, Medians]:
    """Ten runs of the base around five of the head."""
    base.prepare()
    head.prepare()
    taken: dict[Path, dict[str, list[float]]] = {
        base.root: defaultdict(list),
        head.root: defaultdict(list),
    }
    order = [base, head, base] * REPEATS
    for number, tree in enumerate(order, 1):
        which = "head" if tree is head else "base"
        print(f"{number} of {len(order)}: {which}", file=sys.stderr, flush=True)
        for key, median in tree.measure().items():
            taken[tree.root][key].append(median)
    return taken[base.root], taken[head.root]


def judge(base: Medians, head: Medians) -> dict[str, Verdict]:
    """Of each metric that both have measured every time."""
    found: dict[str, Verdict] = {}
    suspicions: dict[str, Suspicion] = {}
    for key, new in head.items():
        old = base.get(key, ())
        if len(new) < REPEATS or len(old) < LEAST:
            continue
        direction = Direction(json.loads(key)[-1])
        found[key] = suspect(statistics.median(new), old, direction)
        if found[key].outcome is Outcome.SUSPECTED:
            suspicions[key] = Suspicion(new, old, direction, found[key].better)
    return found | dict(zip(suspicions, confirm(list(suspicions.values())), strict=True))


def summary(found: Mapping[str, Verdict]) -> str:
    """Markdown, the worst first."""
    rows = []
    for key, verdict in sorted(found.items(), key=lambda item: -(item[1].ratio or 0)):
        _, benchmark, metric, contestant, _, unit, _ = json.loads(key)
        if verdict.ratio is None:
            continue
        rows.append(
            (
                benchmark,
                metric,
                contestant,
                figure(verdict.baseline_median, unit),
                figure(verdict.new_median, unit),
                f"{verdict.ratio:.2f}",
                "" if verdict.outcome is Outcome.STEADY else verdict.sentence(unit),
            )
        )
    header = ("benchmark", "what", "contestant", "base", "head", "times as bad", "verdict")
    bad = len(slower(found))
    title = f"{bad} of {len(found)} metrics became worse" if bad else "Nothing became worse"
    return f"## {title}\n\n{markdown(header, rows)}\n" if rows else f"## {title}\n"


def slower(found: Mapping[str, Verdict]) -> list[str]:
    return [
        key
        for key, verdict in found.items()
        if verdict.outcome is Outcome.CONFIRMED and not verdict.better
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("base", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--head", type=Path, default=HEAD, help="another than this one")
    parser.add_argument("--set", default="quick", dest="set_name")
    parser.add_argument("--summary", type=Path, help="a file that the table is added to")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="iota-against-base-") as folder:
        trees = [
            Tree(root.resolve(), Path(folder) / f"{name}.sqlite3", options.set_name)
            for name, root in (("base", options.base), ("head", options.head))
        ]
        try:
            found = judge(*in_turns(*trees))
        except Unmeasurable as error:
            base_only = str(error).startswith(f"{trees[0].root}: ")
            text = f"## Not compared\n\n{error}\n"
            _tell(text, options.summary)
            return 0 if base_only else UNMEASURED
    _tell(summary(found), options.summary)
    return CONFIRMED if slower(found) else 0


def _tell(text: str, path: Path | None) -> None:
    print(text)
    if path:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
