"""Who may do what: what denies requests is a publisher's to change, the rest an editor's.

The whole table is in ``docs/guides/permissions.md``.
"""

from __future__ import annotations

from typing import Protocol

from . import conf, used_in_code
from .models import Override, RateLimit
from .policy.rules import BLOCKING, Mode

PUBLISH = "ratelimits.publish_ratelimit"
NEVER_DENY = frozenset(Mode) - BLOCKING
"""A mode that is not among them may deny, and so needs the right to publish."""


class _User(Protocol):
    @property
    def is_active(self) -> bool: ...
    def has_perm(self, perm: str) -> bool: ...


def denies(mode: str) -> bool:
    """Whether a limit in this mode can keep anybody out."""
    return mode not in NEVER_DENY


def in_force(row: RateLimit | Override) -> bool:
    """Whether editing it changes who is denied now, or when it is active next. An override of
    every limit is in force, whatever limits there are."""
    if isinstance(row, RateLimit):
        return denies(row.mode)
    if row.limit_id is None:
        return True
    mode = RateLimit.objects.filter(pk=row.limit_id).values_list("mode", flat=True).first()
    # Of a limit that is gone, nothing.
    return mode is not None and denies(mode)


def code_depends_on(name: str) -> bool:
    """Whether requests are denied, or fail, where a limit of this name is gone: the site's code
    asks for it, and IOTA_UNKNOWN_LIMIT says so."""
    return conf.current().unknown_limit != "allow" and name in used_in_code.uses()


def may_publish(user: _User) -> bool:
    return bool(user.is_active and user.has_perm(PUBLISH))
