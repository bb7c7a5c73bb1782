"""What staff decide about a regression or a metric: one function each, and an entry in the log."""

from __future__ import annotations

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import AbstractBaseUser
from django.db import models, transaction
from django.utils import timezone

from .models import Baseline, Measurement, Metric, Regression

State = Regression.State


def accept_as_baseline(regression: Regression, user: AbstractBaseUser, reason: str) -> Baseline:
    """The new level is as it should be: the series begins with the run that was suspected.

    Until it has 10 runs again, nothing is judged. Raises ValueError without a reason, or where the
    regression is closed.
    """
    reason = _required(reason, "accept it as the baseline")
    with transaction.atomic():
        found = _open(regression)
        taken = Measurement.objects.filter(run=found.run_id, metric=found.metric_id)
        made = Baseline.objects.create(
            metric=found.metric,
            machine=found.machine,
            branch=found.branch,
            since=taken.values_list("taken_at", flat=True).first() or found.opened_at,
            reason=reason,
            accepted_by_id=user.pk,
        )
        _decide(found, State.ACCEPTED, user, reason)
        # The other direction is of the same level, and so of the past as well.
        for other in _series(found).filter(state__in=Regression.OPEN).select_for_update():
            _decide(other, State.ACCEPTED, user, reason)
    regression.refresh_from_db()
    return made


def acknowledge(regression: Regression, user: AbstractBaseUser, reason: str = "") -> None:
    """Somebody is at it: it stays open, and is not told again.

    Raises ValueError unless it is confirmed: a suspect is still being rerun.
    """
    with transaction.atomic():
        found = _open(regression)
        if found.state == State.SUSPECTED:
            raise ValueError(f"{found.metric} is only suspected: wait for its reruns.")
        _decide(found, State.ACKNOWLEDGED, user, reason.strip())
    regression.refresh_from_db()


def ignore(regression: Regression, user: AbstractBaseUser, reason: str) -> None:
    """Closed, and not opened again at this level while the baseline reaches back before it.

    Raises ValueError without a reason, or where it is closed.
    """
    reason = _required(reason, "ignore it")
    with transaction.atomic():
        _decide(_open(regression), State.IGNORED, user, reason)
    regression.refresh_from_db()


def ignore_metric(metric: Metric, user: AbstractBaseUser, reason: str) -> None:
    """Measured and shown from now on, never judged; what is open of it is closed."""
    reason = _required(reason, "ignore a metric")
    with transaction.atomic():
        Metric.objects.filter(pk=metric.pk).update(ignored=True)
        for found in metric.regression_set.filter(state__in=Regression.OPEN).select_for_update():
            _decide(found, State.IGNORED, user, reason)
        _log(user, metric, f"Ignored: {reason}")
    metric.refresh_from_db()


def judge_metric(metric: Metric, user: AbstractBaseUser) -> None:
    """No longer ignored."""
    with transaction.atomic():
        Metric.objects.filter(pk=metric.pk).update(ignored=False)
        _log(user, metric, "Judged again.")
    metric.refresh_from_db()


def set_threshold(metric: Metric, user: AbstractBaseUser, percent: float | None) -> None:
    """For judgements from now on; None is the guide's 10. Raises ValueError beyond 1 to 1,000."""
    if percent is not None and not 1 <= percent <= 1_000:
        raise ValueError(f"A threshold of {percent:g} % is not between 1 and 1,000.")
    with transaction.atomic():
        Metric.objects.filter(pk=metric.pk).update(threshold_percent=percent)
        text = "Threshold: the default" if percent is None else f"Threshold: {percent:g} %"
        _log(user, metric, f"{text}.")
    metric.refresh_from_db()


def _required(reason: str, what: str) -> str:
    if not reason.strip():
        raise ValueError(f"Say why: to {what} needs a reason.")
    return reason.strip()


def _open(regression: Regression) -> Regression:
    found = Regression.objects.select_for_update().get(pk=regression.pk)
    if found.state not in Regression.OPEN:
        label = State(found.state).label.lower()
        raise ValueError(f"{found.metric} is closed already: {label}.")
    return found


def _series(found: Regression) -> models.QuerySet[Regression]:
    return Regression.objects.filter(
        metric=found.metric_id, machine=found.machine_id, branch=found.branch
    )


def _decide(found: Regression, state: State, user: AbstractBaseUser, reason: str) -> None:
    found.state, found.reason, found.handled_by_id = state, reason, user.pk
    if state not in Regression.OPEN:
        found.closed_at = timezone.now()
    found.save(update_fields=["state", "reason", "handled_by", "closed_at"])
    _log(user, found, f"{state.label}: {reason}" if reason else f"{state.label}.")


def _log(user: AbstractBaseUser, changed: models.Model, message: str) -> None:
    LogEntry.objects.log_actions(user.pk, [changed], CHANGE, message, single_object=True)
