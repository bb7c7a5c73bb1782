"""What the requirements bring with them: ``make audit``, and its offline part in ``make lint``.

Offline: every line pins one version, and what is installed is that version and fits together. With
the package index: no pinned version was withdrawn. With pip-audit's service: nothing that is
installed has a known vulnerability. pip-audit reports "no known vulnerabilities" also where its
service knew none of the packages; here that is "not checked".
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILES = tuple(
    ROOT / name for name in ("requirements.txt", "requirements-otel.txt", "requirements-dev.txt")
)
PINNED = re.compile(r"(?P<name>\w[\w.-]*)==(?P<version>[\w.!+]+)", re.ASCII)
YANKED = re.compile(r"candidate selected .*?is a yanked version: (.*)")
"""As pip warns of one."""
TIMEOUT_S = 180
SHOWN = 3

EXIT_CODES = """exit codes: 0 nothing is wrong (what could not be checked is said), 1 something is,
or with --strict something could not be checked
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``wrong``: what was found. ``unchecked``: why something is not known."""

    wrong: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def pins(paths: Sequence[Path] = FILES) -> Outcome:
    """Of every line of the files, against what is installed here."""
    wrong = []
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            line = line.partition(" #")[0].strip()
            if not line or line.startswith(("#", "-r ")):
                continue
            place, pinned = f"{path.name}:{number}", PINNED.fullmatch(line)
            if pinned is None:
                wrong.append(f"{place}: {line!r} pins no version: write name==version")
            elif (version := _installed(pinned["name"])) != pinned["version"]:
                wrong.append(f"{place}: {line} is pinned, installed is {version or 'nothing'}")
    return Outcome(tuple(wrong))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def fits() -> Outcome:
    """Whether what is installed has what it asks for."""
    ran = _run("pip", "check")
    return Outcome(() if ran.returncode == 0 else tuple(ran.stdout.splitlines()))


def withdrawn(path: Path = FILES[-1]) -> Outcome:
    """Versions that their authors have taken back ("yanked"): pip warns of them."""
    options = ("--dry-run", "--ignore-installed", "--no-deps", "--disable-pip-version-check")
    try:
        ran = _run("pip", "install", *options, "-r", str(path))
    except subprocess.TimeoutExpired:
        return Outcome(unchecked=(f"withdrawn versions: no answer within {TIMEOUT_S} s",))
    if ran.returncode:
        why = (ran.stderr.strip().splitlines() or ["pip failed"])[-1]
        return Outcome(unchecked=(f"withdrawn versions: {why}",))
    return Outcome(tuple(f"withdrawn: {what}" for what in YANKED.findall(ran.stderr)))


def vulnerable() -> Outcome:
    """Known vulnerabilities of all that is installed, what the requirements bring included."""
    options = ("--local", "--format", "json", "--progress-spinner", "off")
    try:
        ran = _run("pip_audit", *options)
    except subprocess.TimeoutExpired:
        return Outcome(unchecked=(f"vulnerabilities: no answer within {TIMEOUT_S} s",))
    try:
        return read_report(json.loads(ran.stdout))
    except ValueError:
        why = (ran.stderr.strip().splitlines() or ["pip-audit failed"])[-1]
        return Outcome(unchecked=(f"vulnerabilities: {why}",))


def read_report(report: dict[str, Any]) -> Outcome:
    """What pip-audit's JSON says, and what it left out."""
    wrong, left_out = [], []
    for package in report["dependencies"]:
        if "skip_reason" in package:
            left_out.append(package["name"])
        for found in package.get("vulns", []):
            names = ", ".join([found["id"], *found.get("aliases", [])])
            mended = ", ".join(found.get("fix_versions", [])) or "none yet"
            wrong.append(f"{package['name']} {package['version']}: {names}; mended in: {mended}")
    if not left_out:
        return Outcome(tuple(wrong))
    names = ", ".join(left_out[:SHOWN]) + (", ..." if len(left_out) > SHOWN else "")
    count = f"{len(left_out)} of {len(report['dependencies'])} packages"
    why = f"vulnerabilities: the service does not know {count} ({names}), or was not reached"
    return Outcome(tuple(wrong), (why,))


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make audit",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--offline", action="store_true", help="only what needs no network")
    parser.add_argument("--strict", action="store_true", help="what is not checked fails too")
    options = parser.parse_args(arguments)
    outcomes = [pins(), fits()]
    if not options.offline:
        outcomes += [withdrawn(), vulnerable()]
    wrong = [one for outcome in outcomes for one in outcome.wrong]
    unchecked = [one for outcome in outcomes for one in outcome.unchecked]
    for text in wrong:
        print(f"audit: WRONG: {text}", file=sys.stderr)
    for text in unchecked:
        print(f"audit: NOT CHECKED: {text}", file=sys.stderr)
    done = "the pins" if options.offline else "pins, withdrawn versions, vulnerabilities"
    print(f"audit: {done}: {len(wrong)} wrong, {len(unchecked)} not checked")
    return int(bool(wrong or (options.strict and unchecked)))


if __name__ == "__main__":
    sys.exit(main())
