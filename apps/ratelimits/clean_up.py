"""Runs of the sweeper, one at a time, each recorded; and what the database itself need not keep.

    RUNNING -> DONE     to the end of its budget, or of the pass
            -> STOPPED  by staff, who set the state; or interrupted
            -> FAILED   the limits could not be read, or no server answered
            -> LOST     its process was killed: seen by the next run

Whatever became of a run, the next one goes on where it was last seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connections, router, transaction
from django.db.models import Max
from django.utils import timezone

from . import conf
from .models import Override, RateLimit, RulesetVersion, SweepRun
from .storage.background import in_background
from .storage.errors import Unavailable
from .storage.keys import Keys
from .storage.living import Known
from .storage.sweep import RATE_PER_S, TIMEOUT_MS, Place, Sweeper
from .storage.topology import Topology
from .storage.usage import UsageStore

logger = logging.getLogger(__name__)

LOST_AFTER = timedelta(seconds=60)
"""A run says twice a second that it lives."""
KEEP_RUNS = 1_000
KEEP = timedelta(days=90)
OVERRIDES_GRACE = timedelta(days=30)
MOST_OVERRIDES = 50
"""Of one run: each is published by itself."""
MOST_LIMITS = 1_000
READ_ATTEMPTS = 5

State = SweepRun.State


class Busy(Exception):
    """Another run is under way; ``args[0]`` says which."""


def sweep(
    trigger: str,
    *,
    budget_s: float | None = None,
    rate_per_s: float = RATE_PER_S,
    dry_run: bool = False,
    requested_by: int | None = None,
    report: Callable[[SweepRun], object] = lambda run: None,
) -> SweepRun:
    """One run, as it ended. Raises Busy while there is another."""
    run = _begin(trigger, dry_run, budget_s, requested_by)
    try:
        in_background(lambda: _carry_out(run, rate_per_s, report), connections.close_all)
    except Exception as error:
        # Whatever it was, no run may stay RUNNING: it would keep all others waiting.
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        logger.log(level, "%s failed: %r", run, error, exc_info=level == logging.ERROR)
        _end(run, State.FAILED, error=f"{type(error).__name__}: {error}"[:300])
    except BaseException:
        # The thread that sweeps hears of it at its next report.
        _end(run, State.STOPPED, error="Interrupted.")
        raise
    forget_old_runs()
    run.refresh_from_db()
    return run


def is_due(every_s: float) -> bool:
    """Whether a pass is under way, or the last whole one began so long ago."""
    last = SweepRun.objects.filter(dry_run=False).first()
    if last is None or not last.is_last:
        return True
    first = SweepRun.objects.filter(dry_run=False, pass_number=last.pass_number).last()
    return timezone.now() - (first or last).started_at >= timedelta(seconds=every_s)


def mark_lost() -> int:
    """Runs whose process is no more. How many they were."""
    now = timezone.now()
    dead = SweepRun.objects.filter(state=State.RUNNING, seen_at__lt=now - LOST_AFTER)
    return dead.update(state=State.LOST, ended_at=now)


def forget_old_runs() -> int:
    """All but the newest, of the last while. How many went."""
    ended = SweepRun.objects.exclude(state=State.RUNNING)
    kept = list(ended.values_list("pk", flat=True)[:KEEP_RUNS])
    recent = timezone.now() - KEEP
    old = ended.exclude(pk__in=kept) | ended.filter(started_at__lt=recent)
    # The newest says where the next one goes on.
    return old.exclude(pk__in=kept[:1]).delete()[0]


def expired_overrides(now: datetime) -> Any:
    return Override.objects.filter(until__lt=now - OVERRIDES_GRACE).order_by("until")


def forget_overrides() -> int:
    """Those that ended a month ago; their history stays. How many went."""
    pks = list(expired_overrides(timezone.now()).values_list("pk", flat=True)[:MOST_OVERRIDES])
    if pks:
        with transaction.atomic():
            Override.objects.filter(pk__in=pks).delete()
    return len(pks)


def known_limits(last: Known | None = None) -> Known:
    """The limits of the database, for storage/living.py; ``last`` where nothing has changed.

    Asked of the database that is written to: a replica may not have heard of a limit yet.
    """
    using = router.db_for_write(RateLimit)
    version = _version(using)
    if last is not None and version == last.version:
        return last
    known = _read(using, version)
    for _ in range(READ_ATTEMPTS):
        seen, version = version, _version(using)
        if seen == version:
            return known
        known = _read(using, version)
    raise Unavailable("The limits are edited faster than they can be read.")


def _version(using: str) -> int:
    row = RulesetVersion.objects.using(using).filter(pk=RulesetVersion.ROW)
    return row.values_list("version", flat=True).first() or 0


def _read(using: str, version: int) -> Known:
    epochs, windows_us = {}, {}
    columns = "pk", "epoch", "window_amount", "window_unit"
    for pk, epoch, amount, unit in RateLimit.objects.using(using).values_list(*columns):
        epochs[pk] = epoch
        windows_us[pk] = amount * unit * 1_000_000
    # The change history names those that are deleted.
    once = RateLimit.history.using(using).aggregate(highest=Max("id"))["highest"] or 0
    return Known(version, epochs, windows_us, max([once, *epochs]))


def _begin(
    trigger: str, dry_run: bool, budget_s: float | None, requested_by: int | None
) -> SweepRun:
    mark_lost()
    last = SweepRun.objects.filter(dry_run=dry_run).exclude(state=State.RUNNING).first()
    number, places = 1, []
    if last is not None and last.is_last:
        number = last.pass_number + 1
    elif last is not None:
        number, places = last.pass_number, last.places
    try:
        with transaction.atomic():
            return SweepRun.objects.create(
                trigger=trigger,
                dry_run=dry_run,
                budget_s=budget_s,
                requested_by_id=requested_by,
                pass_number=number,
                places=places,
            )
    except IntegrityError as error:
        other = SweepRun.objects.filter(state=State.RUNNING).first()
        if other is None:
            raise
        raise Busy(f"{other} is under way.") from error


def _carry_out(run: SweepRun, rate_per_s: float, report: Callable[[SweepRun], object]) -> None:
    config = conf.current()
    topology = Topology.parse(
        config.redis_sweeper_url or config.redis_url, timeout_ms=TIMEOUT_MS, max_connections=2
    )

    def progress(made: Sweeper) -> bool:
        ours = _save(run, made)
        report(run)
        return ours

    client = topology.client()
    try:
        sweeper = Sweeper(
            client,
            Keys(config.key_prefix),
            known_limits,
            dry_run=run.dry_run,
            rate_per_s=rate_per_s,
            report=progress,
        )
        if not sweeper.run(run.budget_s, _places(run.places)):
            return
        if sweeper.is_done and not run.dry_run:
            usage = UsageStore(client, Keys(config.key_prefix))
            usage.forget(sweeper.living.deleted(usage.read().limits))
    finally:
        client.close()
    if sweeper.places and all(place.error for place in sweeper.places):
        _end(run, State.FAILED, error=_why(sweeper.places[0].error))
        return
    if sweeper.is_done:
        run.overrides = (
            expired_overrides(timezone.now()).count() if run.dry_run else forget_overrides()
        )
    _end(run, State.DONE, is_last=sweeper.is_done, overrides=run.overrides)


def _why(error: str) -> str:
    hint = ""
    if error.startswith("NoPermissionError"):
        hint = ". Name a user who may SCAN in IOTA_REDIS_SWEEPER_URL (docs/guides/clean-up.md)."
    return f"No server could be swept: {error[:200]}{hint}"


def _places(raw: Sequence[dict[str, Any]]) -> list[Place]:
    """A cursor has up to 64 bits, more than a number of JSON."""
    return [Place(**{**place, "cursor": int(place["cursor"])}) for place in raw]


def _save(run: SweepRun, made: Sweeper) -> bool:
    """How far it is; False where the run is no longer ours."""
    tally = made.tally
    values: dict[str, Any] = {
        "seen_at": timezone.now(),
        "places": [{**asdict(place), "cursor": str(place.cursor)} for place in made.places],
        "seen": tally.seen,
        "removed": dict(tally.removed),
        "records": tally.records,
        "entries": tally.entries,
        "abandoned": tally.abandoned,
        "bounded": tally.bounded,
        "left": tally.left,
        "freed_bytes": tally.freed_bytes,
        "identities": {str(n): count for n, count in tally.identities.most_common(MOST_LIMITS)},
    }
    for name, value in values.items():
        setattr(run, name, value)
    return bool(SweepRun.objects.filter(pk=run.pk, state=State.RUNNING).update(**values))


def _end(run: SweepRun, state: str, **values: Any) -> None:
    SweepRun.objects.filter(pk=run.pk, state=State.RUNNING).update(
        state=state, ended_at=timezone.now(), **values
    )
