"""The history as JSON lines, out and in: one line a run.

A line has the guide's ``timestamp``, ``git_commit`` and ``results`` (name to figure: what
``regression.check_regression`` takes), and beside them all that is known of the run. A line with
the guide's three alone can be read as well.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from .models import BenchmarkRun, Measurement, Metric
from .recording import (
    FIGURES,
    MAX_SAMPLES,
    METRIC_COLUMNS,
    figures,
    machine_of,
    measurement,
    metric_row,
)
from .records import Direction, Result

IMPORTED = uuid.UUID("6f0f7f0e-3f2b-4f0e-9f5a-5f3c1d1f7a10")
"""Names in this space are the contents of what was read: read again, it is the same run."""

MOST_N = 2**31 - 1

RUN_FIELDS = ("set_name", "chosen", "dirty", "branch", "load_average", "loop_us", "ping_us")
TEXTS = ("errors", "note")


class Malformed(ValueError):
    """What cannot be read; says where and why."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A metric's columns and a measurement's figures, as FIGURES names them."""

    metric: Mapping[str, Any]
    figures: Mapping[str, Any]
    ignored: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A run that was measured elsewhere. ``run`` are fields of a BenchmarkRun."""

    uid: uuid.UUID
    started_at: datetime
    ended_at: datetime
    commit: str
    machine: dict[str, Any]
    taken: Sequence[Taken]
    run: Mapping[str, Any] = field(default_factory=dict)


def export(runs: Iterable[BenchmarkRun]) -> Iterator[str]:
    """A line for each; of runs that are DONE."""
    for run in runs:
        rows = run.measurements.select_related("metric").order_by("metric__benchmark", "metric")
        yield json.dumps(as_line(run, list(rows)), sort_keys=True)


def as_line(run: BenchmarkRun, rows: Sequence[Measurement]) -> dict[str, Any]:
    started, ended = run.started_at or run.queued_at, run.ended_at or run.queued_at
    return {
        "timestamp": started.timestamp(),
        "git_commit": run.commit,
        "results": {_label(row.metric): row.p50 for row in rows},
        "uid": str(run.uid),
        "ended": ended.timestamp(),
        "trigger": run.trigger,
        "machine": run.machine.fields if run.machine else {},
        **{name: getattr(run, name) for name in (*RUN_FIELDS, *TEXTS)},
        "measurements": [
            {
                **{name: getattr(row.metric, name) for name in METRIC_COLUMNS},
                "ignored": row.metric.ignored,
                **{name: getattr(row, name) for name in FIGURES},
            }
            for row in rows
        ],
    }


def _label(metric: Metric) -> str:
    """Of the text and the parameters, so that no two are the same."""
    parameters = " ".join(f"{name}={value}" for name, value in sorted(metric.parameters.items()))
    return f"{metric} ({parameters})" if parameters else str(metric)


def read(text: str, machine: dict[str, Any]) -> list[Found]:
    """``machine`` is of lines that name none. Raises Malformed."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_found(json.loads(line, parse_constant=_no_number), machine))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise Malformed(f"line {number}: {what}") from error
    return found


def store(found: Sequence[Found]) -> tuple[int, int]:
    """All of it or nothing. Returns how many are new, and how many were there already. Raises
    Malformed where a database could not keep it."""
    for one in found:
        _check_kept(one)
    known = set(
        BenchmarkRun.objects.filter(uid__in=[one.uid for one in found]).values_list(
            "uid", flat=True
        )
    )
    new = {one.uid: one for one in found if one.uid not in known}
    with transaction.atomic():
        for one in new.values():
            _store(one)
    return len(new), len(found) - len(new)


def _check_kept(one: Found) -> None:
    """Anything may stand in a file of another tool's; PostgreSQL has no NUL in texts and JSON."""
    try:
        for taken in one.taken:
            if taken.figures["n"] > MOST_N:
                raise ValueError(f"n is {taken.figures['n']}: {MOST_N} at most")
        _check_json([one.commit, one.machine, one.run])
        _check_json([[taken.metric, taken.figures] for taken in one.taken])
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the run of {one.started_at:%Y-%m-%d %H:%M:%S}: {error}") from error


def _check_json(value: Any) -> None:
    """Raises ValueError; UnicodeEncodeError is one."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"{value[:80]!r} has a NUL in it")
        value.encode()
    elif isinstance(value, float):
        finite(value)
    elif isinstance(value, Mapping):
        _check_json([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for one in value:
            _check_json(one)


def _store(one: Found) -> None:
    run = BenchmarkRun.objects.create(
        uid=one.uid,
        state=BenchmarkRun.State.DONE,
        machine=machine_of(one.machine),
        commit=one.commit,
        queued_at=one.started_at,
        started_at=one.started_at,
        ended_at=one.ended_at,
        **{"trigger": BenchmarkRun.Trigger.IMPORT, **one.run},
    )
    Measurement.objects.bulk_create(
        measurement(run, metric_row(taken.metric, ignored=taken.ignored), taken.figures)
        for taken in one.taken
    )


def identity(content: str) -> uuid.UUID:
    """Of what has no name of its own."""
    return uuid.uuid5(IMPORTED, content)


def moment(timestamp: object) -> datetime:
    """Raises ValueError, TypeError or OverflowError where it is none."""
    return datetime.fromtimestamp(finite(timestamp), UTC)


def finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def of_samples(metric: Mapping[str, Any], samples: Sequence[object]) -> Taken:
    """``metric`` has METRIC_COLUMNS. Raises ValueError without samples."""
    numbers = tuple(finite(sample) for sample in samples)
    direction = Direction(metric["direction"])
    result = Result(metric["suite"], metric["metric"], metric["unit"], direction, numbers)
    return Taken(metric, figures(result))


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _found(line: Any, machine: dict[str, Any]) -> Found:
    if not isinstance(line, dict) or not isinstance(line["results"], dict):
        raise ValueError("not an object with timestamp, git_commit and results")
    started = moment(line["timestamp"])
    commit = line.get("git_commit") or ""
    if "measurements" not in line:
        return Found(
            identity(json.dumps([line, machine], sort_keys=True)),
            started,
            started,
            _text(commit, 40),
            machine,
            [_figure(name, value) for name, value in line["results"].items()],
        )
    return Found(
        uuid.UUID(line["uid"]),
        started,
        moment(line["ended"]),
        _text(commit, 40),
        _object(line["machine"]) or machine,
        [_taken(row) for row in line["measurements"]],
        _run(line),
    )


def _figure(name: str, value: object) -> Taken:
    """One of the guide's results: it does not say of what; its threshold is on what grows."""
    metric = {
        "suite": "imported",
        "benchmark": _text(name, 80),
        "metric": "figure",
        "contestant": "",
        "parameters": {},
        "unit": "",
        "direction": "lower",
    }
    return of_samples(metric, [value])


def _taken(row: dict[str, Any]) -> Taken:
    limits = {"suite": 60, "benchmark": 80, "metric": 80, "contestant": 80, "unit": 20}
    metric: dict[str, Any] = {name: _text(row[name], most) for name, most in limits.items()}
    metric["parameters"] = _object(row["parameters"])
    metric["direction"] = str(Direction(row["direction"]))
    taken = {name: finite(row[name]) for name in FIGURES if name not in ("n", "samples")}
    if not isinstance(row["n"], int) or row["n"] < 1:
        raise ValueError(f"n is {row['n']!r}")
    samples = [finite(sample) for sample in row["samples"]]
    if len(samples) > MAX_SAMPLES:
        raise ValueError(f"{len(samples)} samples: {MAX_SAMPLES} at most")
    return Taken(metric, {**taken, "n": row["n"], "samples": samples}, row.get("ignored") is True)


def _run(line: dict[str, Any]) -> dict[str, Any]:
    """A rerun stays one, lest it count as history; the others were measured elsewhere."""
    trigger = BenchmarkRun.Trigger
    found: dict[str, Any] = {
        "trigger": trigger.RERUN if line["trigger"] == trigger.RERUN else trigger.IMPORT,
        "set_name": _text(line["set_name"], 20),
        "branch": _text(line["branch"], 200),
        "note": _text(line["note"], 10_000),
        "dirty": line["dirty"] is True,
        "chosen": [_text(name, 80) for name in line["chosen"]],
        "errors": [_text(error, 1_000) for error in line["errors"]],
        "done": len(line["measurements"]),
        "total": len(line["measurements"]),
    }
    for name in ("load_average", "loop_us", "ping_us"):
        found[name] = None if line[name] is None else finite(line[name])
    return found


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise ValueError(f"{str(value)[:80]!r} is no text of at most {most} characters")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:80]!r} is no object")
    return value
