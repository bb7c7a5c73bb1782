"""The compiled ruleset in Redis: one hash of version and data, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import redis

from ..policy.rules import (
    Algorithm,
    Audience,
    CountedBy,
    Counts,
    FailurePolicy,
    Mode,
    Override,
    OverrideAction,
    PathKind,
    PathPattern,
    Rate,
    Rule,
    Ruleset,
)
from . import scripts
from .failures import as_unavailable
from .keys import Keys
from .topology import Client

LOCK_MS = 5_000
MOST_RESETS = 1_000
"""So many resets are kept; every process looks several times a second."""


def encode(ruleset: Ruleset) -> bytes:
    """A ruleset as JSON; sets are sorted so that equal rulesets are equal bytes."""
    return json.dumps(asdict(ruleset), default=sorted, separators=(",", ":")).encode()


def decode(data: bytes) -> Ruleset:
    """The inverse of ``encode``."""
    raw = json.loads(data)
    # One that was published by an older version does not say what is off.
    off = tuple(raw.get("off", ()))
    return Ruleset(raw["version"], tuple(_rule(rule) for rule in raw["rules"]), off)


def _rule(raw: dict[str, Any]) -> Rule:
    rate = raw["rate"]
    return Rule(
        **{
            **raw,
            "rate": Rate(**{**rate, "algorithm": Algorithm(rate["algorithm"])}),
            "mode": Mode(raw["mode"]),
            "methods": frozenset(raw["methods"]),
            "path": PathPattern(PathKind(raw["path"]["kind"]), raw["path"]["value"]),
            "audience": Audience(raw["audience"]),
            "groups": frozenset(raw["groups"]),
            "networks": tuple(raw["networks"]),
            "networks_excluded": tuple(raw["networks_excluded"]),
            "counted_by": tuple(CountedBy(part) for part in raw["counted_by"]),
            "counts": Counts(raw["counts"]),
            "statuses": tuple((low, high) for low, high in raw["statuses"]),
            "on_failure": FailurePolicy(raw["on_failure"]),
            "overrides": tuple(
                Override(**{**override, "action": OverrideAction(override["action"])})
                for override in raw["overrides"]
            ),
        }
    )


class Look(NamedTuple):
    """``version`` None: Redis holds no ruleset. ``reset``: who was reset since the last look; None:
    more than are kept, or Redis has lost what it knew (``born`` differs), so it may be anybody.
    ``seen`` and ``born`` are for the next look."""

    version: int | None
    reset: frozenset[str] | None
    seen: str
    born: bytes | None


FIRST_LOOK = Look(None, None, "-", None)


class RulesetStore:
    """Every method raises storage.errors.Unavailable where Redis does not answer."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def publish(self, ruleset: Ruleset) -> bool:
        """Install a ruleset; False where the same or a newer version is there already."""
        script = scripts.load("publish")
        arguments = (script.source, 1, self._keys.ruleset, ruleset.version, encode(ruleset))
        return bool(self._ask("eval", *arguments))

    def look(self, last: Look) -> Look:
        """The version, and who was reset since the last look."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hmget(self._keys.ruleset, "version", "born")
            pipeline.xrange(self._keys.resets, min=last.seen)
            (version, born), resets = pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error
        if version is None or born != last.born:
            return FIRST_LOOK._replace(version=version and int(version), born=born)
        digests: frozenset[str] | None = None
        if len(resets) < MOST_RESETS:
            digests = frozenset(who for _, row in resets for who in row[b"of"].decode().split())
        seen = f"({resets[-1][0].decode()}" if resets else last.seen
        return Look(int(version), digests, seen, born)

    def tell_reset(self, digests: Sequence[str]) -> None:
        """To every process that looks."""
        row = {"of": " ".join(digests)}
        self._ask("xadd", self._keys.resets, row, maxlen=MOST_RESETS, approximate=False)

    def version(self) -> int | None:
        """The version in Redis, None where it holds no ruleset."""
        version = self._ask("hget", self._keys.ruleset, "version")
        return None if version is None else int(version)

    def fetch(self) -> Ruleset | None:
        data = self._ask("hget", self._keys.ruleset, "data")
        return None if data is None else decode(cast(bytes, data))

    def try_lock(self) -> bool:
        """Whether this process is the one to rebuild what Redis has lost."""
        return bool(self._ask("set", self._keys.ruleset_lock, "1", nx=True, px=LOCK_MS))

    def _ask(self, command: str, *args: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, command)(*args, **options)
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error
