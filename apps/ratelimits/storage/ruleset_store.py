"""The compiled ruleset in Redis: one hash of version and data, replaced as a whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, cast

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
from .connection import as_unavailable
from .keys import Keys

LOCK_MS = 5_000


def encode(ruleset: Ruleset) -> bytes:
    """A ruleset as JSON; sets are sorted so that equal rulesets are equal bytes."""
    return json.dumps(asdict(ruleset), default=sorted, separators=(",", ":")).encode()


def decode(data: bytes) -> Ruleset:
    """The inverse of ``encode``."""
    raw = json.loads(data)
    return Ruleset(raw["version"], tuple(_rule(rule) for rule in raw["rules"]))


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


class RulesetStore:
    """Every method raises storage.errors.Unavailable where Redis does not answer."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def publish(self, ruleset: Ruleset) -> bool:
        """Install a ruleset; False where the same or a newer version is there already."""
        script = scripts.load("publish", prelude=False)
        arguments = (script.source, 1, self._keys.ruleset, ruleset.version, encode(ruleset))
        return bool(self._ask("eval", *arguments))

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
