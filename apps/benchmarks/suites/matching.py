"""Finding the limits that match among many that do not."""

from __future__ import annotations

import time
from functools import partial

from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.policy.matching import Index, compile_ruleset
from apps.ratelimits.policy.rules import Algorithm, PathKind, PathPattern, Rate, Rule, Ruleset

from .. import rounds
from ..records import Direction
from ..registry import Run, Samples, benchmark
from ..targets import OURS, Sense, Target
from .ours import DAY_US
from .race import WrongAnswer

MANY = 10_000
ALONE = "those 10 alone"
PATH = "/api/v1/orders/17"
FACTS = RequestFacts("GET", PATH, "203.0.113.9", "shop.example", "orders:detail")
NOW_US = 1_800_000_000_000_000
COMPILES = 5
SCALED = (1, 10, 100, 1_000, 10_000)

MATCHING = (
    PathPattern(),
    PathPattern(PathKind.EXACT, PATH),
    PathPattern(PathKind.EXACT, PATH),
    PathPattern(PathKind.PREFIX, "/"),
    PathPattern(PathKind.PREFIX, "/api/"),
    PathPattern(PathKind.PREFIX, "/api/v1/orders/"),
    PathPattern(PathKind.GLOB, "/api/*/orders/*"),
    PathPattern(PathKind.GLOB, "/api/**"),
    PathPattern(PathKind.REGEX, r"/api/v1/orders/\d+"),
    PathPattern(PathKind.VIEW, "orders:detail"),
)


def other_pattern(number: int) -> PathPattern:
    """One that does not match, of each kind in turns; many begin as the path does."""
    match number % 5:
        case 0:
            return PathPattern(PathKind.EXACT, f"/api/v1/orders/{number}00")
        case 1:
            return PathPattern(PathKind.PREFIX, f"/api/v1/customers/{number}/")
        case 2:
            return PathPattern(PathKind.GLOB, f"/api/*/shops/{number}/*")
        case 3:
            return PathPattern(PathKind.REGEX, rf"/api/v1/parts-{number}/\d+")
        case _:
            return PathPattern(PathKind.VIEW, f"app-{number}:detail")


def _rule(number: int, path: PathPattern) -> Rule:
    rate = Rate(Algorithm.TOKEN_BUCKET, 100, DAY_US, burst=100)
    return Rule(number, f"limit-{number}", rate, path=path)


def rulesets() -> tuple[Ruleset, Ruleset]:
    """MANY rules, of which those of MATCHING match, spread out among them; and those alone."""
    step = MANY // len(MATCHING)
    rules = [
        _rule(n, MATCHING[n // step] if n % step == 0 else other_pattern(n)) for n in range(MANY)
    ]
    return Ruleset(1, tuple(rules)), Ruleset(1, tuple(rules[::step]))


def _names(index: Index) -> list[str]:
    return [compiled.rule.name for compiled in index.candidates(FACTS, NOW_US)]


@benchmark(
    "matching",
    suite="limiter",
    metric="time per match",
    unit="us",
    direction=Direction.LOWER,
    parameters={"limits": MANY, "matching": len(MATCHING)},
    targets=(Target("10,000 limits of which 10 match", ALONE, Sense.AT_MOST, 1.5),),
    sets=("quick", "full"),
)
def matching(run: Run) -> Samples:
    many, alone = (compile_ruleset(ruleset) for ruleset in rulesets())
    if not len(_names(many)) == len(MATCHING) == len(_names(alone)):
        raise WrongAnswer(f"{_names(many)} match among {MANY}, and alone {_names(alone)}")
    contestants = [
        rounds.Contestant(OURS, lambda facts: many.candidates(facts, NOW_US), [FACTS]),
        rounds.Contestant(ALONE, lambda facts: alone.candidates(facts, NOW_US), [FACTS]),
    ]
    return Samples(rounds.measure(contestants, run.rounds))


@benchmark(
    "compile",
    suite="limiter",
    metric="time per ruleset",
    unit="s",
    direction=Direction.LOWER,
    parameters={"limits": MANY},
    targets=(Target("compiling 10,000 limits"),),
    sets=("quick", "full"),
)
def compiling(run: Run) -> Samples:
    many, _ = rulesets()
    took_s = []
    for _ in range(min(run.rounds, COMPILES)):
        started = time.perf_counter()
        compile_ruleset(many)
        took_s.append(time.perf_counter() - started)
    return Samples({OURS: tuple(took_s)})


@benchmark(
    "scaling-limits",
    suite="limiter",
    metric="time per match",
    unit="us",
    direction=Direction.LOWER,
    parameters={"matching": 1},
    sets=("analysis",),
)
def scaling_limits(run: Run) -> Samples:
    """One that matches, among so many."""
    contestants = []
    for number in SCALED:
        others = [_rule(n, other_pattern(n)) for n in range(1, number)]
        index = compile_ruleset(Ruleset(1, (_rule(0, MATCHING[1]), *others)))
        if _names(index) != ["limit-0"]:
            raise WrongAnswer(f"{_names(index)} match among {number}")
        match = partial(_match, index)
        contestants.append(rounds.Contestant(f"{number:,} limits", match, [FACTS]))
    return Samples(rounds.measure(contestants, run.rounds))


def _match(index: Index, facts: RequestFacts) -> object:
    return index.candidates(facts, NOW_US)
