"""After each round of samples: every rule for every source, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Max, Q

from . import delivery, history, telling
from .evaluation import Event, Phase, Reading, State, step
from .metrics import METRICS, Metric
from .models import Alert, AlertRule, RuleState, Source

SILENT = "silent_s"
GONE = timedelta(minutes=10)
"""A source that nobody has looked at for so long, while others were, is not watched any more."""
LATE = timedelta(seconds=60)
"""So long without an evaluation: there is no evaluator."""
PASSED_KEEP = timedelta(days=7)
"""Alerts that never fired are many, and soon of no interest."""


def evaluate_all(now: datetime) -> None:
    """Two at once do it one after the other, and the second finds no news: each sample counts
    once. What is to be told is noted in the same transaction, and handed over after it."""
    with transaction.atomic():
        # The lock: on PostgreSQL these rows, on SQLite the database, taken when this begins.
        rules = list(
            AlertRule.objects.select_for_update(no_key=True).filter(enabled=True).order_by("pk")
        )
        ended = _close_orphans(rules, now)
        sources, gone = _watched(Source.objects.all())
        left = Alert.objects.filter(state__in=Alert.OPEN, source__in=gone)
        ended += _close(left, "no longer watched", now)
        RuleState.objects.filter(source__in=gone).delete()
        ended += _evaluate(rules, sources, now)
        telling.note(ended, now)
    delivery.hand_over(now)


def open_alerts() -> list[Alert]:
    """Firing first, the critical before the others, the oldest first; then what is pending."""
    found = Alert.objects.filter(state__in=Alert.OPEN).select_related("rule", "source")
    return sorted(found, key=_urgency)


def firing_count() -> int:
    return Alert.objects.filter(state=Alert.State.FIRING).count()


def last_evaluated() -> datetime | None:
    at: datetime | None = RuleState.objects.aggregate(at=Max("evaluated_at"))["at"]
    return at


def is_late(now: datetime) -> bool:
    """Whether nobody evaluates, so that no alert means nothing."""
    at = last_evaluated()
    return at is None or now - at > LATE


def phases() -> Mapping[str, int]:
    """Over all rules and sources."""
    rows = RuleState.objects.filter(rule__enabled=True).values("phase")
    return {row["phase"]: row["n"] for row in rows.annotate(n=Count("pk"))}


def forget(keep: timedelta, now: datetime) -> int:
    """Alerts that ended longer ago. Returns how many."""
    old = Q(resolved_at__lt=now - keep)
    passed = Q(fired_at=None, resolved_at__lt=now - min(keep, PASSED_KEEP))
    found = Alert.objects.filter(old | passed, state=Alert.State.RESOLVED)
    number = found.count()
    found.delete()
    delivery.forget(now - keep)
    return number


def _urgency(alert: Alert) -> tuple[bool, bool, datetime]:
    begun = alert.fired_at or alert.pending_since
    return alert.state != Alert.State.FIRING, alert.severity != "critical", begun


def _watched(sources: Iterable[Source]) -> tuple[list[Source], list[Source]]:
    found = list(sources)
    newest = max((source.looked_at for source in found), default=None)
    gone = [source for source in found if newest is not None and newest - source.looked_at > GONE]
    return [source for source in found if source not in gone], gone


def _close_orphans(rules: list[AlertRule], now: datetime) -> list[Alert]:
    """Nobody judges them any more: they must not burn for ever."""
    opened = Alert.objects.filter(state__in=Alert.OPEN)
    orphans = opened.exclude(rule__in=rules)
    ended = _close(orphans, "the rule was switched off or deleted", now)
    ended += _close(opened.filter(source=None), "no longer watched", now)
    RuleState.objects.exclude(rule__in=rules).delete()
    return ended


def _close(alerts: Iterable[Alert], reason: str, now: datetime) -> list[Alert]:
    ended = list(alerts)
    for alert in ended:
        alert.state, alert.resolved_at, alert.reason = Alert.State.RESOLVED, now, reason
        alert.save(update_fields=["state", "resolved_at", "reason"])
    return ended


def _evaluate(rules: list[AlertRule], sources: list[Source], now: datetime) -> list[Alert]:
    """Returns the alerts that ended."""
    states = {(state.rule_id, state.source_id): state for state in RuleState.objects.all()}
    opened = Alert.objects.filter(state__in=Alert.OPEN)
    alerts = {(alert.rule_id, alert.source_id): alert for alert in opened}
    ended: list[Alert] = []
    made, changed = [], []
    for source in sources:
        found = history.latest(source)
        for rule in rules:
            metric = METRICS.get(rule.metric)
            if metric is None or source.kind not in metric.kinds:
                continue
            row = states.get((rule.pk, source.pk))
            reading: Reading | None
            if metric.name == SILENT:
                reading = _silence(source)
            else:
                reading = _reading(found, metric)
                # The metric does not apply to it, or it has said nothing yet: no row for that.
                if reading is None and row is None and found is not None:
                    continue
            if row is None:
                row = RuleState(rule=rule, source=source)
                made.append(row)
            else:
                changed.append(row)
            before = row.as_state()
            after, events = step(before, rule.as_rule(), reading, now)
            row.take(after)
            row.evaluated_at = now
            alert = alerts.get((rule.pk, source.pk))
            ended += _follow(alert, rule, source, after, events, now)
    RuleState.objects.bulk_create(made)
    RuleState.objects.bulk_update(
        changed,
        ["phase", "since", "pending_since", "read_at", "known_at", "quiet_since", "value",
         "evaluated_at"],
    )  # fmt: skip
    return ended


def _reading(found: history.Reading | None, metric: Metric) -> Reading | None:
    """Where nothing happened there is no value, but it is known that nothing did."""
    if found is None:
        return None
    evidence = found.values.get(metric.evidence) if metric.evidence else None
    if metric.name not in found.values and evidence is None:
        return None
    return Reading(found.at, found.values.get(metric.name), evidence)


def _silence(source: Source) -> Reading:
    """That it does not answer is known as often as it is asked."""
    since = source.answered_at or source.first_seen_at
    return Reading(source.looked_at, max(0.0, (source.looked_at - since).total_seconds()))


def _follow(
    alert: Alert | None,
    rule: AlertRule,
    source: Source,
    state: State,
    events: list[Event],
    now: datetime,
) -> list[Alert]:
    """Write what has happened into the alert; returns those that ended."""
    ended = []
    for event in events:
        if event is Event.PENDING:
            alert = alert or _opened(rule, source, state, now)
        elif alert is None:  # deleted by hand
            continue
        elif event is Event.FIRING:
            alert.see(state.value)
            alert.state, alert.fired_at, alert.fired_value = Alert.State.FIRING, now, state.value
            alert.threshold, alert.severity = rule.threshold, rule.severity
            alert.save()
        else:
            if event is Event.RESOLVED or state.phase is Phase.OK:
                alert.see(state.value)
            alert.state, alert.resolved_at = Alert.State.RESOLVED, now
            alert.resolved_value = state.value
            if state.phase is not Phase.OK:
                quiet = event is Event.RESOLVED
                alert.reason = "too few events to tell" if quiet else "no data any more"
            alert.save()
            ended.append(alert)
            alert = None
    if alert is not None and not events and alert.value != state.value:
        alert.see(state.value)
        alert.save(update_fields=["value", "worst"])
    return ended


def _opened(rule: AlertRule, source: Source, state: State, now: datetime) -> Alert:
    alert = Alert(
        rule=rule,
        source=source,
        name=rule.name,
        of=str(source),
        metric=rule.metric,
        severity=rule.severity,
        direction=rule.direction,
        threshold=rule.threshold,
        words=rule.words,
        guide=rule.guide,
        pending_since=state.pending_since or state.since or now,
        pending_value=state.value,
    )
    alert.see(state.value)
    alert.save()
    return alert
