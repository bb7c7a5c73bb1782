"""Whom limits denied: the last denials, and of each limit and hour those whom it denied most.

Both are bounded however many clients attack from however many addresses: a stream of
``MOST_RECENT`` entries, and hashes of ``MOST_PER_HOUR`` digests that end after ``KEPT_S``
(lua/denied.lua). Processes note denials (storage/denied_notes.py) and send them once a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from . import scripts
from .failures import as_unavailable
from .keys import Keys
from .topology import Client

HOUR_S = 3_600
KEPT_S = 26 * HOUR_S
"""A day, the hour under way, and the one that a clock may be off."""
MOST_PER_HOUR = 100
MOST_RECENT = 300
Names = tuple[tuple[str, str], ...]
"""Kinds and values of an identity, such as ``("address", "203.0.113.9")``."""


@dataclass(frozen=True, slots=True)
class Denial:
    """One request that was denied, or ``times`` alike within a second.

    ``at_ms``: of the newest of them, since 1970, by the process's clock. ``path`` has digests in
    place of what was captured from it or is known to nobody (then it is not ``whole``);
    ``view``: the name of its view. ``address``: the digest of the client's alone. ``counted``: the
    limits that matched, each with the digest of whom it counts, and ``denied`` those that said no.
    ``why``: ``limit``, ``override`` (a block) or ``redis`` (away, and the policy is to deny).
    ``names`` by limit, where the site keeps them. ``id``: of the stream, empty before it is there.
    """

    at_ms: int
    method: str
    path: str
    address: str
    counted: tuple[tuple[int, str], ...]
    denied: tuple[int, ...]
    view: str = ""
    whole: bool = True
    why: str = "limit"
    times: int = 1
    names: Mapping[int, Names] = field(default_factory=dict)
    id: str = ""

    def digest(self, limit: int) -> str:
        """Of whom the limit counts; empty where that was not noted."""
        return dict(self.counted).get(limit, "")


@dataclass(frozen=True, slots=True)
class DeniedMost:
    """An identity that a limit denied about ``times``, and ``at_least`` so often for certain."""

    digest: str
    times: int
    at_least: int
    names: Names = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process sends: denials, and by limit and hour, by digest, times, of which may be
    another's, and names."""

    recent: Sequence[Denial]
    most: Mapping[tuple[int, int], Mapping[str, tuple[int, int, Names]]]


class Sent(NamedTuple):
    """What Redis has of a batch: limits and hours of ``most``, and ``recent``. ``failed``: why it
    has not the rest, as where a part of a cluster is away; None where it has all."""

    most: frozenset[tuple[int, int]]
    recent: bool
    failed: Exception | None


class DeniedStore:
    """Every method is one pipeline, and raises storage.errors.Unavailable where Redis does not
    answer."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def add(self, batch: Batch) -> Sent:
        source = scripts.load("denied").source

        def fill(pipeline: Any) -> None:
            for (limit, hour), rows in batch.most.items():
                words: list[str | int] = []
                for who, (times, other, names) in rows.items():
                    words += (who, times, other, _names_text(names))
                key = self._keys.denied_most(limit, hour)
                # A cluster's pipeline has no ``eval``, but sends one to where its key is.
                pipeline.execute_command("EVAL", source, 1, key, MOST_PER_HOUR, KEPT_S, *words)
            for denial in batch.recent:
                row = {"of": encode(denial)}
                pipeline.xadd(self._keys.denied, row, maxlen=MOST_RECENT, approximate=False)
            if batch.recent:
                pipeline.expire(self._keys.denied, KEPT_S)

        replies = self._piped(fill, raise_on_error=False)
        failed = [isinstance(reply, Exception) for reply in replies]
        most = frozenset(place for place, lost in zip(batch.most, failed, strict=False) if not lost)
        # These are of one key: what little of them may be lost is not told twice.
        first = len(batch.most)
        recent = not all(failed[first : first + len(batch.recent)])
        error = next((reply for reply in replies if isinstance(reply, Exception)), None)
        return Sent(most, recent, error and (as_unavailable(error) or error))

    def recent(self, most: int = MOST_RECENT) -> list[Denial]:
        """The last denials, the newest first."""
        (rows,) = self._piped(lambda pipeline: pipeline.xrange(self._keys.denied))
        return _denials(rows)[-most:][::-1]

    def get(self, entry: str) -> Denial | None:
        """One of them by its ``id``; None where it has been replaced by newer ones."""
        (rows,) = self._piped(
            lambda pipeline: pipeline.xrange(self._keys.denied, min=entry, max=entry)
        )
        return next(iter(_denials(rows)), None)

    def top(self, limit: int, since_s: float, until_s: float, most: int) -> list[DeniedMost]:
        """Those whom the limit denied most, in the hours that the times since 1970 lie in and
        between them: whole hours, the last 26 at most."""
        last = int(until_s) // HOUR_S
        hours = range(max(int(since_s) // HOUR_S, last - KEPT_S // HOUR_S), last + 1)
        keys = [self._keys.denied_most(limit, hour) for hour in hours]
        found: dict[str, DeniedMost] = {}
        for row in self._piped(lambda pipeline: [pipeline.hgetall(key) for key in keys]):
            for who, value in row.items():
                digest = _text(who)
                one = _most(digest, _text(value))
                if one is None:
                    continue
                was = found.get(digest, DeniedMost(digest, 0, 0))
                times, at_least = was.times + one.times, was.at_least + one.at_least
                found[digest] = DeniedMost(digest, times, at_least, one.names or was.names)
        return sorted(found.values(), key=lambda one: (-one.times, one.digest))[:most]

    def _piped(self, fill: Callable[[Any], object], *, raise_on_error: bool = True) -> list[Any]:
        try:
            pipeline = self._client.pipeline(transaction=False)
            fill(pipeline)
            return list(pipeline.execute(raise_on_error=raise_on_error))
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error


def encode(denial: Denial) -> str:
    """As JSON, of a bounded size: every part of it is."""
    said: dict[str, Any] = {
        "t": denial.at_ms,
        "m": denial.method,
        "p": denial.path,
        "a": denial.address,
        "c": denial.counted,
        "d": denial.denied,
        "v": denial.view,
        "h": denial.whole,
        "w": denial.why,
        "n": denial.times,
    }
    if denial.names:
        said["k"] = {str(limit): names for limit, names in denial.names.items()}
    return json.dumps(said, separators=(",", ":"))


def decode(text: str, entry: str = "") -> Denial | None:
    """The inverse of ``encode``; None where another version of this code wrote another form."""
    try:
        said = json.loads(text)
        return Denial(
            at_ms=int(said["t"]),
            method=str(said["m"]),
            path=str(said["p"]),
            address=str(said["a"]),
            counted=tuple((int(limit), str(who)) for limit, who in said["c"]),
            denied=tuple(int(limit) for limit in said["d"]),
            view=str(said["v"]),
            whole=bool(said["h"]),
            why=str(said["w"]),
            times=int(said["n"]),
            names={int(limit): _names(names) for limit, names in said.get("k", {}).items()},
            id=entry,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _denials(rows: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Denial]:
    found = [decode(_text(row.get(b"of", b"")), _text(entry)) for entry, row in rows]
    return [denial for denial in found if denial is not None]


def _most(digest: str, value: str) -> DeniedMost | None:
    times, _, rest = value.partition(" ")
    other, _, names = rest.partition(" ")
    if not (times.isdecimal() and other.isdecimal()):
        return None
    try:
        known = _names(json.loads(names)) if names else ()
    except (ValueError, TypeError):
        known = ()
    return DeniedMost(digest, int(times), max(0, int(times) - int(other)), known)


def _names(raw: Iterable[Sequence[str]]) -> Names:
    return tuple((str(kind), str(value)) for kind, value in raw)


def _names_text(names: Names) -> str:
    return json.dumps(names, separators=(",", ":")) if names else ""


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
