"""A month of usage, put into the demo's database: ``python -m`` with its environment. The first
limit denies in the evenings, the second is in shadow, the last has a long name and no usage."""

from __future__ import annotations

import math

import django

django.setup()

from datetime import datetime, timedelta  # noqa: E402

from django.contrib.auth import get_user_model  # noqa: E402
from django.utils import timezone  # noqa: E402
from django_celery_beat.models import PeriodicTask, PeriodicTasks  # noqa: E402

from apps.ratelimits import usage_rolling as rolling  # noqa: E402
from apps.ratelimits.models import LimitRollUp, RateLimit, RolledUp  # noqa: E402
from apps.ratelimits.models.usage import KEPT  # noqa: E402
from apps.ratelimits.storage.usage import Usage  # noqa: E402

LONG = "partners-of-the-catalogue-who-ask-for-prices-and-stock-every-few-sec"


def row(limit: RateLimit, resolution_s: int, at: datetime, *, shadow: bool) -> LimitRollUp:
    """By the hour of the day and by chance that is no chance."""
    hour = timezone.localtime(at).hour + timezone.localtime(at).minute / 60
    busy = 1.2 - math.cos(math.tau * (hour - 4) / 24)
    uneven = 1 + 0.25 * math.sin(at.timestamp() / 251) * math.cos(at.timestamp() / 97)
    allowed = round(40 * busy * uneven * resolution_s / 60)
    over = round(max(0.0, busy - 1.5) * 9 * uneven * resolution_s / 60)
    return LimitRollUp(
        limit_id=limit.pk,
        resolution_s=resolution_s,
        at=at,
        allowed=allowed,
        denied=0 if shadow else over,
        would_deny=over if shadow else 0,
        degraded=round(allowed / 9_000),
        sum_us=(allowed + over) * 214,
    )


def main() -> None:
    PeriodicTask.objects.filter(task="ratelimits.roll_up_usage").update(enabled=False)
    PeriodicTasks.update_changed()
    RateLimit.objects.create(name=LONG[:64], quota=500, path_kind="prefix", path="/partners/")
    first, second = RateLimit.objects.order_by("pk")[:2]
    RateLimit.objects.filter(pk=second.pk).update(mode=RateLimit.Mode.SHADOW)
    LimitRollUp.objects.all().delete()
    now = timezone.now()
    rows = []
    for resolution, kept in KEPT.items():
        at = rolling.start(now - min(kept, timedelta(days=31)), resolution)
        while at < now:
            rows += [row(one, resolution, at, shadow=one == second) for one in (first, second)]
            at += timedelta(seconds=resolution)
    LimitRollUp.objects.bulk_create(rows, batch_size=500)
    first.refresh_from_db()
    first.burst = first.quota // 2
    first.save()
    made, edited = first.history.order_by("history_id")
    first.history.filter(pk=made.pk).update(history_date=now - timedelta(days=40))
    staff = get_user_model().objects.get(username="staff")
    first.history.filter(pk=edited.pk).update(
        history_date=now - timedelta(hours=5), history_user=staff
    )
    RolledUp.objects.update_or_create(
        pk=RolledUp.ROW,
        defaults={
            "began_at": now - timedelta(days=31),
            "read_at": now,
            "counted": rolling.encode(Usage(1.0), [first.pk, second.pk]),
        },
    )


main()
