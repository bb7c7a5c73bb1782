"""Runs as tables for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from ...exchange import as_line
from ...models import BenchmarkRun, Measurement
from ...report import figure, markdown
from . import exits


def run_of(number: int) -> BenchmarkRun:
    """Raises CommandError."""
    try:
        return BenchmarkRun.objects.select_related("machine").get(pk=number)
    except BenchmarkRun.DoesNotExist:
        raise CommandError(
            f"There is no run {number}; `manage.py benchmark list` shows them.",
            returncode=exits.USAGE,
        ) from None


def measured(run: BenchmarkRun) -> list[Measurement]:
    rows = run.measurements.select_related("metric")
    return list(rows.order_by("metric__suite", "metric__benchmark", "metric__contestant"))


def run_json(run: BenchmarkRun) -> dict[str, Any]:
    """The line of ``export``, with what is of this database only."""
    return {"run": run.pk, "state": run.state, **as_line(run, measured(run))}


def run_text(run: BenchmarkRun) -> str:
    lines = [f"{name}: {value}" for name, value in about(run) if value not in ("", None)]
    rows = measured(run)
    if rows:
        header = ("suite", "benchmark", "what", "contestant", "median", "p95", "p99", "n")
        lines += ["", markdown(header, [_cells(row) for row in rows])]
    return "\n".join(lines) + "\n"


def about(run: BenchmarkRun) -> list[tuple[str, object]]:
    machine = run.machine.fields if run.machine else {}
    return [
        ("run", run.pk),
        ("state", run.get_state_display()),
        ("what", what(run)),
        ("trigger", run.get_trigger_display()),
        ("commit", f"{run.commit}{' and edited files' if run.dirty else ''}"),
        ("branch", run.branch),
        ("started", _time(run.started_at)),
        ("ended", _time(run.ended_at)),
        ("machine", ", ".join(f"{name} {value}" for name, value in machine.items())),
        ("load average", run.load_average),
        ("loop", figure(run.loop_us, "us")),
        ("ping", figure(run.ping_us, "us")),
        ("note", run.note),
        *(("error", error) for error in run.errors),
    ]


def runs_table(runs: Sequence[BenchmarkRun]) -> str:
    header = ("run", "state", "what", "trigger", "commit", "branch", "machine", "asked for")
    return markdown(
        header,
        [
            (
                str(run.pk),
                run.state,
                what(run),
                run.trigger,
                run.commit[:8] + ("+" if run.dirty else ""),
                run.branch,
                str(run.machine or ""),
                _time(run.queued_at),
            )
            for run in runs
        ],
    )


def what(run: BenchmarkRun) -> str:
    return run.set_name or ", ".join(str(name) for name in run.chosen[:3])


def _cells(row: Measurement) -> tuple[str, ...]:
    metric = row.metric
    figures = (figure(value, metric.unit) for value in (row.p50, row.p95, row.p99))
    return (
        metric.suite,
        metric.benchmark,
        metric.metric,
        metric.contestant,
        *figures,
        str(row.n),
    )


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S %Z}" if moment else ""
