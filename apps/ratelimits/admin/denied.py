"""Who was denied: the last requests, and those whom a limit denied most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from ..engine import get_engine
from ..explained import SHORT_CHARS
from ..models import RateLimit
from ..policy.explaining import counted_text
from ..storage.denied import Denial, Names
from ..storage.errors import Unavailable

DAY_S = 86_400
MOST = 10
MOST_RECENT = 25


@dataclass(frozen=True, slots=True)
class TopDenied:
    """Of one identity. ``name`` is empty where the site keeps none; ``exact``: no other client can
    be among its ``times``."""

    digest: str
    name: str
    times: int
    at_least: int

    @property
    def short(self) -> str:
        return self.digest[:SHORT_CHARS]

    @property
    def exact(self) -> bool:
        return self.times == self.at_least


@dataclass(frozen=True, slots=True)
class Recent:
    """A denial, in words."""

    id: str
    at: datetime
    request: str
    limits: str
    whom: str
    times: int


def top_denied(limit_id: int, hours: int = 24, most: int = MOST) -> list[TopDenied] | None:
    """Those whom a limit denied most in the last hours, for ``ratelimits/top_denied.html``; None
    where Redis does not answer."""
    until_s = timezone.now().timestamp()
    try:
        found = get_engine().denied.top(limit_id, until_s - hours * 3_600, until_s, most)
    except Unavailable:
        return None
    return [TopDenied(one.digest, _name(one.names), one.times, one.at_least) for one in found]


def recent(most: int = MOST_RECENT) -> list[Recent] | None:
    """The last denials, the newest first; None where Redis does not answer."""
    try:
        found = get_engine().denied.recent(most)
    except Unavailable:
        return None
    names = dict(RateLimit.objects.values_list("pk", "name"))
    return [_recent(one, names) for one in found]


def _recent(denial: Denial, limits: dict[int, str]) -> Recent:
    named = [limits.get(number, f"limit {number}, which is gone") for number in denial.denied]
    whom = next((text for own in denial.names.values() if (text := _name(own))), "")
    digests: Sequence[str] = [who for number, who in denial.counted if number in denial.denied]
    return Recent(
        id=denial.id,
        at=datetime.fromtimestamp(denial.at_ms / 1000, UTC),
        request=f"{denial.method} {denial.path}",
        limits=", ".join(named),
        whom=whom or " ".join(dict.fromkeys(who[:SHORT_CHARS] for who in digests)),
        times=denial.times,
    )


def _name(names: Names) -> str:
    return counted_text(tuple(part for pair in names for part in pair))
