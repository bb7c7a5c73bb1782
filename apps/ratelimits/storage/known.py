"""Identities as bits: whether one was among them, in 4 bytes each.

A Bloom filter that grows: layers in one string, each four times the one before it, of which the
last is written to. lua/identities.lua writes it in Redis, and knows the same numbers; a process
reads it as a whole and asks it from memory. Full, a layer takes one stranger in 40,000 for one of
its own; filled twice over, one in 1,000.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode
from collections.abc import Iterable

FIRST_LAYER = 4_096
"""Identities; and the least memory, 16 KB, that a limit uses."""
GROWTH = 4
BITS = 32
PROBES = 6

_HASHES = struct.Struct("<II")


def packed(digests: Iterable[str]) -> bytes:
    """15 bytes each: 20 characters of base64 are 15 bytes without a rest."""
    return urlsafe_b64decode("".join(digests))


class Known:
    """The filter as it was when it was read; without bits, of nobody."""

    __slots__ = ("_bits", "_layers")

    def __init__(self, bits: bytes = b"") -> None:
        self._bits = bits
        self._layers: list[tuple[int, int]] = []
        begin, size = 0, FIRST_LAYER * BITS
        while begin < 8 * len(bits):
            self._layers.insert(0, (begin, size))  # The largest first: most are there.
            begin, size = begin + size, size * GROWTH

    def __bool__(self) -> bool:
        return bool(self._bits)

    def __contains__(self, digest: str) -> bool:
        bits = self._bits
        first, step = _HASHES.unpack_from(urlsafe_b64decode(digest))
        step |= 1
        for begin, size in self._layers:
            for i in range(PROBES):
                at = begin + (first + i * step) % size
                if at >= 8 * len(bits) or not bits[at >> 3] & 128 >> (at & 7):
                    break
            else:
                return True
        return False
