"""The limits as the processes of the site see them: published, readable by the site's user, in
force everywhere, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from django.db import DatabaseError
from redis.exceptions import NoPermissionError

from apps.ratelimits import reading
from apps.ratelimits.policy.matching import compile_ruleset
from apps.ratelimits.policy.rules import Ruleset
from apps.ratelimits.storage.errors import Unavailable
from apps.ratelimits.storage.server_findings import GUIDE, Finding, Level

from ..amounts import counted, in_bytes, in_time
from ..look import Look, NotSaid, unknown
from ..registry import Topic, finding

MOST_LOAD_S = 0.1
"""The guide's bound for loading the configuration."""
GRACE_US = 5_000_000
"""So young an edit may not have been seen by every process yet."""


@finding("ruleset", Topic.CONFIGURATION, "Limits that are published")
def ruleset(look: Look) -> Iterator[Finding]:
    engine = look.engine
    key = engine.limiter.keys.ruleset
    if look.config.disabled:
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
                f"Let it use ~{look.config.key_prefix}* and the commands of "
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


@finding("configuration", Topic.CONFIGURATION, "Loading the limits, and versions in force")
def configuration(look: Look) -> Iterator[Finding]:
    where = look.engine.limiter.keys.ruleset
    try:
        began_s = time.perf_counter()
        published = look.engine.store.fetch()
        fetched_s = time.perf_counter() - began_s
    except Unavailable as error:
        why = NotSaid(str(error.__cause__ or error), "See what the servers say.")
        yield unknown("which limits are in force, and how long they take to load", where, why)
        return
    if published is None:
        return  # As ``ruleset`` tells.
    yield judge_load(published, fetched_s, where)
    newest = published.version
    try:
        saved = reading.load()
    except DatabaseError as error:
        said = f"{type(error).__name__}: the database does not say"
        yield unknown("whether the newest limits are published", where, said, "Run `migrate`.")
    else:
        newest = max(newest, saved.version)
        yield judge_saved(saved, published.version, where)
    yield from _in_force(look, newest)


def judge_load(published: Ruleset, fetched_s: float, where: str) -> Finding:
    began_s = time.perf_counter()
    compile_ruleset(published)
    compiled_s = time.perf_counter() - began_s
    slow = fetched_s + compiled_s > MOST_LOAD_S
    return Finding(
        Level.WARNING if slow else Level.INFO,
        "load-slow" if slow else "load",
        where,
        "Loading the limits takes long: so long an edit is not in force."
        if slow
        else "The limits load in time.",
        f"{counted(len(published.rules), 'limit')}: fetched and read in {in_time(fetched_s)}, "
        f"compiled in {in_time(compiled_s)}; bound {in_time(MOST_LOAD_S)}",
        "Delete limits and overrides that nobody needs, and prefer paths of the kinds exact and "
        "prefix. Requests never wait for it."
        if slow
        else "",
    )


def judge_saved(saved: reading.Loaded, published: int, where: str) -> Finding:
    evidence = (
        f"version {saved.version} in the database, {published} in Redis; publishing "
        f"{counted(saved.limits, 'limit')} reads for {in_time(saved.read_s)}, packs for "
        f"{in_time(saved.packed_s)} and sends {in_bytes(saved.size_bytes)}"
    )
    if published < saved.version:
        return Finding(
            Level.WARNING,
            "not-published",
            where,
            "The newest edit is not published, and in force nowhere.",
            evidence,
            "A worker with beat publishes it within 10 s: `manage.py doctor --only workers`.",
        )
    return Finding(Level.INFO, "published", where, "The newest edit is published.", evidence)


def _in_force(look: Look, newest: int) -> Iterator[Finding]:
    """What each process that serves says of itself."""
    where = "the processes that serve"
    try:
        alive = look.engine.processes.alive()
    except Unavailable:
        return  # Who cannot be asked was told above.
    if not alive:
        yield unknown(
            "which version is in force",
            where,
            "no process has said lately that it serves",
            "Start the site; each process says so once it has answered a request.",
        )
        return
    behind = [status for status in alive if status.version < newest]
    evidence = f"{counted(len(alive), 'process')}, {len(behind)} behind version {newest}"
    compiled_us = max(status.ruleset_compile_us for status in alive)
    if compiled_us:
        evidence += f", which took {in_time(compiled_us / 1e6)} at most to compile there"
    yield from judge_starts([status.config_load_us for status in alive])
    old = newest < time.time() * 1e6 - GRACE_US
    if behind and old:
        yield Finding(
            Level.WARNING,
            "version-behind",
            where,
            "Some processes enforce older limits.",
            evidence,
            "See in their log why they cannot load the newest; the list of limits in the admin "
            "names them.",
        )
    else:
        yield Finding(Level.INFO, "version", where, "The limits are in force.", evidence)


def judge_starts(loads_us: Sequence[int]) -> Iterator[Finding]:
    """How long the site's configuration took to load in each process; 0: it does not say."""
    worst_s = max(loads_us, default=0) / 1e6
    if not worst_s:
        return
    slow = worst_s > MOST_LOAD_S
    yield Finding(
        Level.WARNING if slow else Level.INFO,
        "configuration-slow" if slow else "configuration",
        "the processes that serve",
        "The site's configuration takes long to load."
        if slow
        else "The site's configuration loads in time.",
        f"{in_time(worst_s)} at most in {counted(len(loads_us), 'process')}; bound "
        f"{in_time(MOST_LOAD_S)}",
        "See `manage.py doctor --only variables,start-up`, and whether the machine was busy."
        if slow
        else "",
    )
