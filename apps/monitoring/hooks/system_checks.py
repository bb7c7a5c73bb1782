"""What ``manage.py check`` says, without the checks that ask servers: ``servers`` does."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks

from apps.ratelimits.storage.server_findings import Finding, Level

from ..look import Look
from ..registry import Topic, finding

WHERE = "manage.py check"


@finding("system-checks", Topic.CONFIGURATION, "System checks")
def system_checks(look: Look) -> Iterator[Finding]:
    messages = [message for message in checks.run_checks() if not message.is_silenced()]
    for message in messages:
        if message.level >= checks.WARNING:
            yield Finding(
                Level.ERROR if message.level >= checks.ERROR else Level.WARNING,
                "system-check",
                WHERE,
                str(message.msg),
                str(message.id),
                str(message.hint or ""),
            )
    if not any(message.level >= checks.WARNING for message in messages):
        yield Finding(Level.INFO, "system-checks", WHERE, "No system check objects.", "0 findings")
