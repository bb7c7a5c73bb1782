"""What joins locust and the checks: options, messages from workers, how late locust is, the end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.runners import STATE_CLEANUP, STATE_STOPPED, MasterRunner, WorkerRunner

from . import promises
from .accounts import Accounts
from .answers import Answers
from .criteria import Criteria, Exit, Load, Step, judge
from .promises import Unreadable
from .record import Record
from .shapes import SHAPES, Stage, stage_at
from .users import PATH

logger = logging.getLogger(__name__)

LAG_EVERY_S = 0.05
GUIDE = Criteria()
MESSAGE = "checked"
KIND_LENGTH = 160


@events.init_command_line_parser.add_listener
def options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("What is promised, and what must be met")
    add = group.add_argument
    add("--limits", default="", help="the site's limits: a file of `ratelimit export`")
    add("--accounts", default="", help="a file of sessions and keys: loadtests/accounts.py")
    add(
        "--own-addresses",
        action="store_true",
        help="each user has an address of its own, in X-Forwarded-For: where the site has the "
        "load's machine in IOTA_TRUSTED_PROXIES",
    )
    add(
        "--not-alone",
        action="store_true",
        help="others ask the site too, or have just done so: denials of what users share are not "
        "judged",
    )
    add("--edited", default="", help="the limit that staff edit during the load")
    add("--clock-skew-ms", type=float, default=10.0, help="between this machine and Redis' (10)")
    add("--p99-ms", type=float, default=GUIDE.p99_ms, help="criterion, ms (100)")
    add("--error-percent", type=float, default=GUIDE.error_percent, help="criterion (0.1)")
    add("--lag-ms", type=float, default=GUIDE.lag_ms, help="locust's own lateness, p99 (25)")
    add("--progress-file", default="", help="where each second what is known goes, as JSON")
    add("--verdict-file", default="", help="where the verdict goes, as JSON")


@events.init.add_listener
def begin(environment: Any, runner: Any, **kwargs: Any) -> None:
    given = environment.parsed_options
    try:
        read = promises.read(Path(given.limits)) if given.limits else {}
        environment.accounts = Accounts.read(Path(given.accounts)) if given.accounts else Accounts()
    except Unreadable as error:
        print(f"loadtests: {error}", file=sys.stderr, flush=True)
        sys.exit(Exit.USAGE)
    edited = (given.edited,) if given.edited else ()
    environment.answers = Answers(read, skew_s=given.clock_skew_ms / 1_000, edited=edited)
    environment.user_classes = [one for one in environment.user_classes if _tagged(given, one)]
    environment.whole = Record()
    environment.most_users = 0
    environment.steps = []
    gevent.spawn(_watch, environment)
    if given.progress_file and not isinstance(runner, WorkerRunner):
        gevent.spawn(_tell, environment, Path(given.progress_file))


def _tagged(given: Any, user_class: Any) -> bool:
    """Whether --tags and --exclude-tags leave it a task. Without one it would be a user that asks
    nothing."""
    wanted, unwanted = set(given.tags or ()), set(given.exclude_tags or ())
    tags: list[set[str]] = [getattr(one, "locust_tag_set", set()) for one in user_class.tasks]
    return any((not wanted or one & wanted) and not one & unwanted for one in tags)


def _tell(environment: Any, path: Path) -> None:
    """Whole files only: another process reads them meanwhile."""
    while True:
        gevent.sleep(1.0)
        total, runner = environment.runner.stats.total, environment.runner
        p99_ms = total.get_current_response_time_percentile(0.99)
        told = {
            "users": runner.user_count,
            "requests": total.num_requests,
            "errors": total.num_failures,
            "requests_per_s": round(total.current_rps, 1),
            "p99_ms": p99_ms,
        }
        half = path.with_suffix(".half")
        half.write_text(json.dumps(told), encoding="utf-8")
        half.replace(path)


def _watch(environment: Any) -> None:
    """How late locust comes to its own work, and how many users there were at most."""
    while True:
        due_s = time.monotonic() + LAG_EVERY_S
        gevent.sleep(LAG_EVERY_S)
        runner = environment.runner
        if runner is None or runner.state in (STATE_STOPPED, STATE_CLEANUP):
            continue
        environment.most_users = max(environment.most_users, runner.user_count)
        if runner.user_count and not isinstance(runner, MasterRunner):
            ms = max(0, round((time.monotonic() - due_s) * 1_000))
            lags = environment.answers.record.lags_ms
            lags[ms] = lags.get(ms, 0) + 1


@events.init.add_listener
def messages(environment: Any, **kwargs: Any) -> None:
    @environment.events.report_to_master.add_listener
    def report(client_id: str, data: dict[str, Any]) -> None:
        data[MESSAGE] = environment.answers.taken().message()

    @environment.events.worker_report.add_listener
    def reported(client_id: str, data: dict[str, Any]) -> None:
        if MESSAGE in data:
            environment.whole.add(data[MESSAGE])


@events.quitting.add_listener
def end(environment: Any, **kwargs: Any) -> None:
    """The verdict, where all is known: in the master, or in the only process."""
    if isinstance(environment.runner, WorkerRunner) or environment.runner is None:
        return
    # What follows may fail, and locust goes on then: that is no success.
    environment.process_exit_code = int(Exit.INVALID)
    given, record = environment.parsed_options, environment.whole
    record.add(environment.answers.taken().message())
    answers = environment.answers
    record.judge_shared(answers.promises, answers.skew_s, alone=not given.not_alone)
    criteria = Criteria(given.p99_ms, given.error_percent, given.lag_ms)
    load = measured(environment)
    verdict = judge(load, record, criteria, environment.steps)
    environment.process_exit_code = int(verdict.exit_code)
    for line in verdict.lines:
        print(f"loadtests: {line}", flush=True)
    for reason in verdict.reasons:
        print(f"loadtests: {reason}", flush=True)
    print(f"loadtests: {verdict.word}", flush=True)
    if given.verdict_file:
        told = {
            "verdict": verdict.word,
            "exit_code": int(verdict.exit_code),
            "reasons": list(verdict.reasons),
            "lines": list(verdict.lines),
            "users": load.users,
            "p99_ms": load.p99_ms,
        }
        Path(given.verdict_file).write_text(json.dumps(told), encoding="utf-8")


def measured(environment: Any) -> Load:
    """The criteria are about the limited endpoint; pages of staff are slower by nature."""
    stats = environment.runner.stats
    entries = [entry for (name, _), entry in stats.entries.items() if name == PATH]
    total = stats.total
    entry = entries[0] if entries else None
    return Load(
        requests=entry.num_requests if entry else 0,
        errors=total.num_failures,
        all_requests=total.num_requests,
        p50_ms=entry.get_response_time_percentile(0.5) if entry else 0.0,
        p99_ms=entry.get_response_time_percentile(0.99) if entry else 0.0,
        longest_ms=entry.max_response_time if entry else 0.0,
        requests_per_s=entry.total_rps if entry else 0.0,
        users=environment.most_users,
        kinds=kinds(stats.errors.values()),
    )


def kinds(errors: Iterable[Any]) -> tuple[tuple[str, int], ...]:
    """Of locust's, which has an entry for each request's name; the site's words are bounded."""
    told = Counter[str]()
    for error in errors:
        text = " ".join(str(error.error).split())[:KIND_LENGTH]
        told[f"{error.method} {error.name}: {text}"] += error.occurrences
    return tuple(told.most_common())


class Shape(LoadTestShape):
    """One of ``shapes``, by users, rate and run time of the command line."""

    abstract = True
    use_common_options = True
    name = ""

    def __init__(self) -> None:
        super().__init__()
        self._stages: list[Stage] = []
        self._stage: Stage | None = None

    def tick(self) -> tuple[int, float] | None:
        if self.runner is None:
            return None
        given: Any = self.runner.environment.parsed_options
        if not self._stages:
            users, per_s = given.num_users or 100, given.spawn_rate or 10
            self._stages = SHAPES[self.name](users, per_s, float(given.run_time or 60))
        stage = stage_at(self._stages, self.get_run_time())
        if self.name == "steps" and self._stage is not None and stage is not self._stage:
            self._end_of_step(self._stage)
        self._stage = stage
        return (stage.users, stage.per_s) if stage else None

    def _end_of_step(self, stage: Stage) -> None:
        """What the last ten seconds were like."""
        runner: Any = self.runner
        total = runner.stats.total
        p99_ms = total.get_current_response_time_percentile(0.99)
        rate = total.current_rps
        failed = 100 * total.current_fail_per_sec / rate if rate else 0.0
        step = Step(stage.users, float(p99_ms or 0), float(rate), float(failed))
        runner.environment.steps.append(step)
        logger.info("step of %s users: p99 %s ms", step.users, step.p99_ms)
