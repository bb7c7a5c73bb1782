"""Records of recent requests in Redis: one capped stream, to which each process adds a packed batch
once a second. What is in a batch: policy/traffic.py."""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

import redis

from ..policy.traffic import Batch, Outcome, What, Who, together
from . import scripts
from .failures import as_unavailable
from .keys import Keys
from .topology import Client

VERSION = 2
MOST_IN_BATCH = 20_000
"""Of one process and flush; what is more is lost, and counted."""
BYTES_PER_RECORD = 40
"""That a record may take in the store, on the whole: where records are larger, fewer are kept."""
ENTRY_BYTES = 120
"""Of the store's own for each batch, about."""
MOST_UNPACKED_BYTES = 64 << 20
PAGE = 64
"""Batches of one reply: a long one would stop Redis for others."""

_COLUMNS = (("at_us", "I"), ("took_us", "I"), ("what", "I"), ("who", "I"), ("outcome", "H"))


def pack(batch: Batch) -> bytes:
    """What it is as JSON, the tables as lines of JSON, then column by column; compressed."""
    base_us = min(batch.at_us, default=0)
    lines = b"\n".join([*map(_line, batch.whats), *map(_line, batch.whos)])
    head = {
        "n": len(batch),
        "base": base_us,
        "sample": batch.sample,
        "lost": batch.lost,
        "whats": len(batch.whats),
        "whos": len(batch.whos),
        "lines": len(lines),
        "outcomes": batch.outcomes,
    }
    text = json.dumps(head, separators=(",", ":")).encode()
    parts = [len(text).to_bytes(4, "little"), text, lines]
    for name, code in _COLUMNS:
        values = getattr(batch, name)
        column = array(code, (at - base_us for at in values) if name == "at_us" else values)
        if sys.byteorder == "big":
            column.byteswap()
        parts.append(column.tobytes())
    return bytes([VERSION]) + zlib.compress(b"".join(parts), 1)


def unpack(data: bytes) -> Batch | None:
    """The inverse of ``pack``; None of another version's, or of what is damaged."""
    raw = _raw(data)
    return None if raw is None else _understood(raw)


def joined(packed: Iterable[bytes]) -> Batch:
    """All of them as one, in order of time; what cannot be read is passed over.

    Most of what a batch names others name too: what is equal as a line is looked at once.
    """
    return _understood(together(raw for data in packed if (raw := _raw(data)) is not None))


def _raw(data: bytes) -> Batch | None:
    try:
        return _columns(data)
    except (ValueError, TypeError, KeyError, IndexError, zlib.error):
        return None


def _columns(data: bytes) -> Batch:
    """With the lines of What and Who in their place."""
    if data[0] != VERSION:
        raise ValueError("of another version")
    raw = zlib.decompressobj().decompress(data[1:], MOST_UNPACKED_BYTES)
    at = 4 + int.from_bytes(raw[:4], "little")
    head = json.loads(raw[4:at])
    lines = raw[at : at + head["lines"]].split(b"\n")
    whats, whos = lines[: head["whats"]], lines[head["whats"] :] if head["whos"] else []
    if len(whats) != head["whats"] or len(whos) != head["whos"]:
        raise ValueError("cut off")
    at += head["lines"]
    columns: dict[str, array[int]] = {}
    for name, code in _COLUMNS:
        column = array(code)
        end = at + head["n"] * column.itemsize
        column.frombytes(raw[at:end])
        if len(column) != head["n"]:
            raise ValueError("cut off")
        if sys.byteorder == "big":
            column.byteswap()
        columns[name] = column
        at = end
    base_us = head["base"]
    columns["at_us"] = array("Q", map(base_us.__add__, columns["at_us"]))
    columns["outcome"] = array("I", columns["outcome"])
    return Batch(
        cast(list[What], whats),
        cast(list[Who], whos),
        [Outcome(status, tuple(numbers)) for status, numbers in head["outcomes"]],
        sample=head["sample"],
        lost=head["lost"],
        **columns,
    )


def _understood(raw: Batch) -> Batch:
    whats: list[Any] = list(raw.whats)
    whos: list[Any] = list(raw.whos)
    raw.whats = [_what(*json.loads(line)) for line in whats]
    raw.whos = [_who(*json.loads(line)) for line in whos]
    return raw


@lru_cache(maxsize=20_000)
def _line(entry: What | Who) -> bytes:
    """Remembered: what asked and was asked now is most of what is in the next batch."""
    return json.dumps(entry, separators=(",", ":")).encode()


def _what(method: str, path: str, host: str, route: Any, arguments: Any) -> What:
    return What(method, path, host, route, _pairs(arguments))


def _who(
    address: str, network: str, user: Any, is_staff: bool, groups: Any, session: Any, *known: Any
) -> Who:
    keys, headers = known
    held = None if groups is None else tuple(groups)
    return Who(address, network, user, is_staff, held, session, _pairs(keys), tuple(headers))


def _pairs(raw: Any) -> tuple[tuple[str, str], ...]:
    return tuple(map(tuple, raw)) if raw else ()


class TrafficStore:
    """``most``: records that are kept, ``kept_s`` for how long. Every method raises
    storage.errors.Unavailable where Redis does not answer."""

    def __init__(self, client: Client, keys: Keys, most: int, kept_s: int) -> None:
        self._client = client
        self._keys = keys
        self._most = most
        self._kept_ms = kept_s * 1000

    def add(self, batch: Batch) -> None:
        """One call, which is never sent again: what is lost is lost."""
        data = pack(batch)
        weight = max(len(batch), -(-(len(data) + ENTRY_BYTES) // BYTES_PER_RECORD))
        words = (weight, self._most, self._kept_ms, len(batch), data)
        source = scripts.load("traffic").source
        self._ask("eval", source, 2, self._keys.traffic, self._keys.traffic_upto, *words)

    def read(self) -> Batch:
        """What is kept, as one batch in order of time."""
        return joined(self.packed())

    def packed(self) -> Iterator[bytes]:
        """What is kept, batch by batch."""
        last = b"-"
        while True:
            rows = self._ask("xrange", self._keys.traffic, last, "+", PAGE)
            for number, row in rows:
                last = b"(" + number
                yield row.get(b"data", b"")
            if len(rows) < PAGE:
                return

    def _ask(self, command: str, *args: Any) -> Any:
        try:
            return getattr(self._client, command)(*args)
        except (redis.RedisError, OSError) as error:
            raise as_unavailable(error) or error from error
