"""Benchmarks by name, registered with a decorator where they are written (``suites/``)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import redis

from . import suites
from .records import Direction, Parameter, Result
from .servers import Server
from .sets import SETS
from .targets import Outcome, Target


@dataclass(frozen=True, slots=True)
class Run:
    """What a benchmark is given: a server of this run's own, and how much to do.

    ``core`` holds client and server, None where they could not be pinned; ``load_core`` is
    another one for a load generator, the same where the machine has but one.
    """

    server: Server
    client: redis.Redis
    rounds: int
    core: int | None
    load_core: int | None


@dataclass(frozen=True, slots=True)
class Samples:
    """What a benchmark hands back: samples per contestant, and who could not take part, and why."""

    taken: Mapping[str, tuple[float, ...]]
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """``peers`` are those that must take part for the fastest of them to be known; ``sets`` those
    of SETS that the benchmark is part of."""

    name: str
    suite: str
    metric: str
    unit: str
    direction: Direction
    run: Callable[[Run], Samples]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    peers: tuple[str, ...] = ()
    sets: tuple[str, ...] = ("full",)

    @property
    def references(self) -> frozenset[str]:
        """Contestants that ours are measured beside: they are nobody's regression."""
        ours = {target.of for target in self.targets}
        return frozenset({target.against for target in self.targets} - {""} - ours) | {*self.peers}

    def measure(self, run: Run) -> Outcome:
        samples = self.run(run)
        results = {
            contestant: Result(
                self.suite,
                self.metric,
                self.unit,
                self.direction,
                taken,
                {**self.parameters, "benchmark": self.name, "contestant": contestant},
            )
            for contestant, taken in samples.taken.items()
        }
        return Outcome(results, samples.absent)


class UnknownBenchmark(LookupError):
    """A name that nobody registered; says which there are."""


class Registry:
    """In the order of registration."""

    def __init__(self) -> None:
        self._benchmarks: dict[str, Benchmark] = {}

    def __call__(
        self,
        name: str,
        *,
        suite: str,
        metric: str,
        unit: str,
        direction: Direction,
        parameters: Mapping[str, Parameter] | None = None,
        targets: tuple[Target, ...] = (),
        peers: tuple[str, ...] = (),
        sets: tuple[str, ...] = ("full",),
    ) -> Callable[[Callable[[Run], Samples]], Callable[[Run], Samples]]:
        """Decorate a function that measures. Raises ValueError where the name is taken, or a set
        is none of SETS."""
        unknown = [name for name in sets if name not in SETS]
        if unknown:
            raise ValueError(f"{name!r} is in no such set: {', '.join(unknown)}")

        def register(run: Callable[[Run], Samples]) -> Callable[[Run], Samples]:
            if name in self._benchmarks:
                raise ValueError(f"two benchmarks are named {name!r}: rename one")
            self._benchmarks[name] = Benchmark(
                name, suite, metric, unit, direction, run, parameters or {}, targets, peers, sets
            )
            return run

        return register

    def named(self, names: list[str]) -> list[Benchmark]:
        """Those of the names, in the order of registration; all where no name is given.

        Raises UnknownBenchmark.
        """
        unknown = [name for name in names if name not in self._benchmarks]
        if unknown:
            known = ", ".join(self._benchmarks)
            raise UnknownBenchmark(f"no row is named {', '.join(unknown)}; there are: {known}")
        return [one for one in self._benchmarks.values() if not names or one.name in names]

    def in_set(self, name: str) -> list[Benchmark]:
        """Raises UnknownBenchmark."""
        if name not in SETS:
            raise UnknownBenchmark(f"no set is named {name!r}; there are: {', '.join(SETS)}")
        return [one for one in self._benchmarks.values() if name in one.sets]


benchmark = Registry()


def load_suites() -> Registry:
    """All benchmarks, after their modules were imported."""
    for module in suites.MODULES:
        importlib.import_module(f"{suites.__name__}.{module}")
    return benchmark
