"""Tries a limit on the record of recent requests: at once, or where that is long in a worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from django.utils import timezone

from . import ruleset
from .engine import Engine, get_engine
from .models import Override, PreviewRun, RateLimit
from .policy.errors import PolicyError
from .policy.judging import Judge
from .policy.preview import Preview, preview
from .policy.replay import Stopped
from .policy.rules import Rule, Ruleset
from .policy.traffic import Batch
from .storage import ruleset_store
from .storage.errors import Unavailable

logger = logging.getLogger(__name__)

DIRECT = 100_000
"""Records that a page waits for: about a second."""
KEEP = timedelta(days=1)
LOST_AFTER = timedelta(seconds=60)
REPORT_S = 0.5

State = PreviewRun.State


def as_it_is(pk: int | None) -> Rule | None:
    """The stored limit; None of a new one, and of one that cannot be enforced."""
    limit = RateLimit.objects.prefetch_related("groups").filter(pk=pk).first() if pk else None
    if limit is None:
        return None
    try:
        return ruleset.with_overrides(limit, Override.objects.all())
    except PolicyError:
        return None


def recorded() -> Batch:
    """All that is kept. Raises Unavailable."""
    return get_engine().traffic.read()


def previewed(
    traffic: Batch,
    draft: Rule,
    now: Rule | None,
    report: Callable[[int], bool] = lambda done: True,
) -> Preview:
    """Raises PolicyError where the draft cannot be tried, and Stopped where ``report`` ends it."""
    engine = get_engine()
    return preview(
        traffic,
        judge_of(engine, draft),
        None if now is None else judge_of(engine, now),
        report=report,
    )


def judge_of(engine: Engine, rule: Rule) -> Judge:
    """Overrides name users and keys as the record does, by digests."""
    recorder = engine.recorder
    overrides = tuple(
        replace(override, value=recorder.override_value(override.target, override.value))
        for override in rule.overrides
    )
    return Judge(
        replace(rule, overrides=overrides),
        recorder.masked,
        recorder.masked_host,
        now_us=time.time_ns() // 1000,
        keys_known=not engine.config.key_validator,
    )


def begin(draft: Rule, now: Rule | None, records: int, user_pk: int | None) -> PreviewRun:
    """A run for a worker (``carry_out``); those of yesterday go."""
    PreviewRun.objects.filter(created_at__lt=timezone.now() - KEEP).delete()
    rules = tuple(rule for rule in (draft, now) if rule is not None)
    return PreviewRun.objects.create(
        requested_by_id=user_pk,
        rules=ruleset_store.encode(Ruleset(0, rules)).decode(),
        of=records * len(rules),
    )


def rules_of(run: PreviewRun) -> tuple[Rule, Rule | None]:
    """The draft, and the limit as it was stored then."""
    draft, *now = ruleset_store.decode(run.rules.encode()).rules
    return draft, now[0] if now else None


def carry_out(pk: int) -> bool:
    """Whether there was a run that waited."""
    if not PreviewRun.objects.filter(pk=pk, state=State.WAITING).update(
        state=State.RUNNING, seen_at=timezone.now()
    ):
        return False
    run = PreviewRun.objects.get(pk=pk)
    told_s = time.monotonic()

    def report(done: int) -> bool:
        nonlocal told_s
        if time.monotonic() - told_s < REPORT_S:
            return True
        told_s = time.monotonic()
        own = PreviewRun.objects.filter(pk=pk, state=State.RUNNING)
        return bool(own.update(done=done, seen_at=timezone.now()))

    try:
        found = previewed(recorded(), *rules_of(run), report)
    except Stopped:
        return True
    except (PolicyError, Unavailable) as error:
        _end(pk, State.FAILED, error=str(error)[:300])
    except Exception as error:
        # Whoever waits for it hears of it, whatever it was.
        _end(pk, State.FAILED, error=f"{type(error).__name__}: {error}"[:300])
        raise
    else:
        _end(pk, State.DONE, result=found.as_json(), done=run.of)
    return True


def stop(pk: int, user_pk: int | None) -> bool:
    """The worker looks twice a second."""
    own = PreviewRun.objects.filter(
        pk=pk, requested_by=user_pk, state__in=(State.WAITING, State.RUNNING)
    )
    return bool(own.update(state=State.STOPPED))


def mark_lost() -> None:
    """Runs whose worker is no more."""
    dead = PreviewRun.objects.filter(state=State.RUNNING, seen_at__lt=timezone.now() - LOST_AFTER)
    dead.update(state=State.FAILED, error="Its worker has ended.")


def _end(pk: int, state: str, **values: object) -> None:
    PreviewRun.objects.filter(pk=pk, state=State.RUNNING).update(
        state=state, seen_at=timezone.now(), **values
    )


def with_quota(rule: Rule, quota: int) -> Rule:
    """The same limit with another quota, and its burst where that was the quota. Raises
    PolicyError."""
    burst = quota if rule.rate.burst == rule.rate.quota else rule.rate.burst
    return replace(rule, rate=replace(rule.rate, quota=quota, burst=burst), lease=0)
