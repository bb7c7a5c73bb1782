"""What other tools measured: pytest-benchmark's JSON, redis-benchmark's CSV, locust's JSON.

Nothing of it says where it was measured but pytest-benchmark's; the others get the machine that
the caller names. Figures that a tool does not tell are 0 where there is no spread to tell of.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from . import exchange
from .exchange import Found, Malformed, Taken, finite, identity, of_samples
from .fingerprint import two_numbers, without_clock
from .models import BenchmarkRun

Reader = Callable[[str, dict[str, Any], datetime], list[Found]]
"""Of a file's text, the machine where the file names none, and the time where it has none."""

LATENCIES = {"avg": "mean", "min": "minimum", "p50": "p50", "p95": "p95", "p99": "p99"}


def lines(text: str, machine: dict[str, Any], when: datetime) -> list[Found]:
    return exchange.read(text, machine)


def pytest_benchmark(text: str, machine: dict[str, Any], when: datetime) -> list[Found]:
    """A file of ``--benchmark-json``: one run, seconds per call."""
    read = _json(text)
    about = read.get("commit_info") or {}
    at = datetime.fromisoformat(read["datetime"])
    return [
        Found(
            identity(text),
            at,
            at,
            str(about.get("id") or "")[:40],
            _pytest_machine(read.get("machine_info")) or machine,
            [_pytest_row(row) for row in read["benchmarks"]],
            {"branch": str(about.get("branch") or "")[:200], "dirty": about.get("dirty") is True},
        )
    ]


def _pytest_machine(info: Any) -> dict[str, Any]:
    if not info:
        return {}
    cpu = info.get("cpu") or {}
    return {
        "cpu": without_clock(str(cpu.get("brand_raw") or info.get("processor") or "")),
        "cores": cpu.get("count") or 0,
        "os": str(info.get("system") or ""),
        "kernel": two_numbers(str(info.get("release") or "")),
        "python": two_numbers(str(info.get("python_version") or "")),
        "measured by": "pytest-benchmark",
    }


def _pytest_row(row: Mapping[str, Any]) -> Taken:
    metric = _metric("pytest-benchmark", row["name"], "time per call", "s", row.get("params"))
    stats = row["stats"]
    if stats.get("data"):
        return of_samples(metric, stats["data"])
    # Saved without its data, as is the default of --benchmark-json in some versions.
    median = finite(stats["median"])
    high = finite(stats["max"])
    return Taken(
        metric,
        {
            "n": max(1, int(stats["rounds"])),
            "minimum": finite(stats["min"]),
            "p50": median,
            "p95": high,
            "p99": high,
            "maximum": high,
            "mean": finite(stats["mean"]),
            "deviation": finite(stats["stddev"]),
            "mad": finite(stats["iqr"]) / 2,
            "samples": [],
        },
    )


def redis_benchmark(text: str, machine: dict[str, Any], when: datetime) -> list[Found]:
    """``redis-benchmark --csv``: a line for each command, with requests/s and latencies in ms."""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise ValueError("no line of figures")
    taken = []
    for row in rows:
        name = row["test"]
        taken.append(
            of_samples(
                _metric("redis-benchmark", name, "requests per second", "requests/s"),
                [float(row["rps"])],
            )
        )
        if row.get("p50_latency_ms"):
            figures = {to: float(row[f"{of}_latency_ms"]) for of, to in LATENCIES.items()}
            figures["maximum"] = float(row["max_latency_ms"])
            metric = _metric("redis-benchmark", name, "latency", "ms")
            taken.append(Taken(metric, {**_alone(figures), "n": 1}))
    return [Found(identity(f"{machine}{text}"), when, when, "", machine, taken)]


def locust(text: str, machine: dict[str, Any], when: datetime) -> list[Found]:
    """``locust --json``: a row for each request name, milliseconds, with a histogram."""
    rows = json.loads(text)
    taken: list[Taken] = []
    for row in rows:
        name = f"{row['method']} {row['name']}".strip()
        spent_s = finite(row["last_request_timestamp"]) - finite(row["start_time"])
        number = int(row["num_requests"])
        if number < 1:
            continue
        metric = _metric("locust", name, "response time", "ms")
        taken.append(Taken(metric, _histogram(row)))
        if spent_s > 0:
            rate = _metric("locust", name, "requests per second", "requests/s")
            taken.append(of_samples(rate, [number / spent_s]))
        failed = _metric("locust", name, "failures", "%")
        taken.append(of_samples(failed, [100 * finite(row["num_failures"]) / number]))
    if not taken:
        raise ValueError("no requests")
    at = exchange.moment(min(finite(row["start_time"]) for row in rows))
    end = exchange.moment(max(finite(row["last_request_timestamp"]) for row in rows))
    run = {"trigger": BenchmarkRun.Trigger.LOCUST}
    return [Found(identity(f"{machine}{text}"), at, max(at, end), "", machine, taken, run)]


def _histogram(row: Mapping[str, Any]) -> dict[str, Any]:
    """Percentiles by nearest rank, as locust has them."""
    times = sorted((float(ms), int(number)) for ms, number in row["response_times"].items())
    total = sum(number for _, number in times)
    if not total:
        raise ValueError(f"{row['name']}: no response times")
    mean = finite(row["total_response_time"]) / int(row["num_requests"])
    square = sum(number * (ms - mean) ** 2 for ms, number in times)
    middle = _ranked(times, total, 50)
    away = sorted((abs(ms - middle), number) for ms, number in times)
    return {
        "n": total,
        "minimum": finite(row["min_response_time"]),
        "p50": middle,
        "p95": _ranked(times, total, 95),
        "p99": _ranked(times, total, 99),
        "maximum": finite(row["max_response_time"]),
        "mean": mean,
        "deviation": (square / (total - 1)) ** 0.5 if total > 1 else 0.0,
        "mad": _ranked(away, total, 50),
        "samples": [],
    }


def _ranked(times: list[tuple[float, int]], total: int, percent: float) -> float:
    seen = 0
    for ms, number in times:
        seen += number
        if seen * 100 >= total * percent:
            return ms
    return times[-1][0]


READERS: Mapping[str, Reader] = {
    "lines": lines,
    "pytest-benchmark": pytest_benchmark,
    "redis-benchmark": redis_benchmark,
    "locust": locust,
}


def guess(text: str) -> str:
    """Which of READERS it is for. Raises Malformed."""
    start = text.lstrip()
    if start.startswith('"test"'):
        return "redis-benchmark"
    if start.startswith("["):
        return "locust"
    if start.startswith("{"):
        first = start.splitlines()[0]
        return "lines" if '"results"' in first else "pytest-benchmark"
    raise Malformed("neither JSON lines nor of a tool that is known: " + ", ".join(READERS))


def read(text: str, kind: str, machine: dict[str, Any], when: datetime) -> list[Found]:
    """Raises Malformed."""
    try:
        return READERS[kind](text, machine, when)
    except Malformed:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise Malformed(f"not a file of {kind}: {what}") from error


def _json(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _metric(
    suite: str, name: str, metric: str, unit: str, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "suite": suite,
        "benchmark": str(name)[:80],
        "metric": metric,
        "contestant": "",
        "parameters": dict(parameters or {}),
        "unit": unit,
        "direction": "higher" if unit == "requests/s" else "lower",
    }


def _alone(figures: dict[str, float]) -> dict[str, Any]:
    for value in figures.values():
        finite(value)
    return {**figures, "deviation": 0.0, "mad": 0.0, "samples": []}
