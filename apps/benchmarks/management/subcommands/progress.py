"""A bar on a terminal, plain lines elsewhere, on stderr: stdout is for what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import BaseCommand
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ...recording import Report


@contextmanager
def shown(command: BaseCommand, title: str) -> Iterator[Report]:
    """To be called with how many are done, of how many, and what is measured now."""
    if not command.stderr.isatty():
        yield _lines(command)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    # Redrawn rarely: what draws is a thread beside what is measured.
    with Progress(*columns, TimeElapsedColumn(), console=console, refresh_per_second=1) as bar:
        task = bar.add_task(title, total=None)

        def report(done: int, total: int, current: str) -> None:
            bar.update(task, completed=done, total=total, description=current or title)
            bar.refresh()

        yield report


def _lines(command: BaseCommand) -> Report:
    def report(done: int, total: int, current: str) -> None:
        if current:
            command.stderr.write(f"{done + 1} of {total}: {current}", ending="\n")

    return report
