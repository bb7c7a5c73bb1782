"""The limits as the processes of the site see them: published, and readable by the site's user."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import NoPermissionError

from apps.ratelimits.engine import get_engine
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.server_findings import GUIDE, Finding, Level

from ..registry import finding


@finding("ruleset")
def ruleset() -> Iterator[Finding]:
    engine = get_engine()
    key = engine.limiter.keys.ruleset
    if engine.config.disabled:
        yield Finding(
            Level.WARNING,
            "disabled",
            "this site",
            "No limit is enforced.",
            "IOTA_DISABLED is true",
            "Mend the limit that was wrong, then restart without IOTA_DISABLED.",
        )
    try:
        version = engine.store.version()
    except Unavailable as error:
        if isinstance(error.__cause__, NoPermissionError):
            yield Finding(
                Level.ERROR,
                "keys",
                key,
                "The site's user may not use the limiter's keys: every check fails.",
                str(error.__cause__),
                f"Let it use ~{engine.config.key_prefix}* and the commands of "
                f"deploy/redis/users.acl ({GUIDE}).",
            )
        return  # Otherwise the servers say why.
    if version is None:
        yield Finding(
            Level.WARNING,
            "no-ruleset",
            key,
            "No limits are published: none is enforced until the first process of the site starts.",
            "the key does not exist",
            "Run `migrate`, and start the site or a Celery worker with beat.",
        )
    else:
        yield Finding(
            Level.INFO,
            "ruleset",
            key,
            "The limits are published.",
            f"version {version}",
        )
