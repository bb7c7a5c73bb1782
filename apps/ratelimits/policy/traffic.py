"""What is kept of recent requests, so that a limit can be tried on them: facts, and nobody's name.

A record is five numbers: when the decision was made and how long the answer took after it (us),
and places in three tables of what was asked, who asked, and how it ended.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from itertools import islice
from operator import itemgetter, le
from typing import NamedTuple

from .client_ip import UNKNOWN

TOOK_UNKNOWN = 2**32 - 1
"""A streamed response, or one that took over an hour."""
IPV4_BITS, IPV6_BITS = 24, 48
ALL_KNOWN = "*"
"""Instead of a header's name: whatever the header, nobody's key was shown."""


class What(NamedTuple):
    """``path`` as ``masking.masked_path`` gives it; ``host`` plain, masked, or empty where none
    that the site answers to was named; ``route`` the view's name, empty where there is none, and
    None where that is not known. Values of arguments are digests."""

    method: str
    path: str
    host: str
    route: str | None
    arguments: tuple[tuple[str, str], ...]


class Who(NamedTuple):
    """Digests. ``network``: what is kept of the address itself. ``user`` is empty for an anonymous
    visitor, and None where nobody looked; ``groups``, ``session`` likewise None. ``keys`` by
    header, of those ``headers`` that somebody looked at."""

    address: str
    network: str
    user: str | None
    is_staff: bool
    groups: tuple[str, ...] | None
    session: str | None
    keys: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]


class Outcome(NamedTuple):
    """``denied_by``: ids of the limits that denied it; -1 where none did by name, as where Redis
    was away."""

    status: int
    denied_by: tuple[int, ...]


@dataclass(slots=True)
class Batch:
    """Records in any order; ``lost``: requests that should have been among them and are not."""

    whats: list[What] = field(default_factory=list)
    whos: list[Who] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    at_us: array[int] = field(default_factory=lambda: array("Q"))
    took_us: array[int] = field(default_factory=lambda: array("I"))
    what: array[int] = field(default_factory=lambda: array("I"))
    who: array[int] = field(default_factory=lambda: array("I"))
    outcome: array[int] = field(default_factory=lambda: array("I"))
    sample: int = 1
    """One in so many addresses is recorded."""
    lost: int = 0

    def __len__(self) -> int:
        return len(self.at_us)


def together(batches: Iterable[Batch]) -> Batch:
    """One batch of all, in order of time."""
    whole = Batch()
    whats: dict[What, int] = {}
    whos: dict[Who, int] = {}
    outcomes: dict[Outcome, int] = {}
    for batch in batches:
        whole.at_us += batch.at_us
        whole.took_us += batch.took_us
        whole.what += _moved(batch.what, [whats.setdefault(w, len(whats)) for w in batch.whats])
        whole.who += _moved(batch.who, [whos.setdefault(w, len(whos)) for w in batch.whos])
        places = [outcomes.setdefault(o, len(outcomes)) for o in batch.outcomes]
        whole.outcome += _moved(batch.outcome, places)
        whole.lost += batch.lost
        whole.sample = max(whole.sample, batch.sample)
    whole.whats, whole.whos, whole.outcomes = list(whats), list(whos), list(outcomes)
    times = whole.at_us
    if all(map(le, times, islice(times, 1, None))):
        return whole
    # Lists: an array makes its numbers anew whenever they are asked for.
    reordered = itemgetter(*sorted(range(len(times)), key=times.tolist().__getitem__))
    for name in ("at_us", "took_us", "what", "who", "outcome"):
        column: array[int] = getattr(whole, name)
        setattr(whole, name, array(column.typecode, reordered(column.tolist())))
    return whole


def _moved(column: array[int], places: Sequence[int]) -> array[int]:
    return array("I", map(places.__getitem__, column))


def coarse_network(address: str) -> str:
    """What may be kept of a client's address (as ``client_address`` gives it): the network of many
    clients that it lies in."""
    if address == UNKNOWN:
        return UNKNOWN
    if "/" in address:
        network = ip_network(address)
        bits = IPV4_BITS if network.version == 4 else IPV6_BITS
        return str(network.supernet(new_prefix=bits) if network.prefixlen > bits else network)
    bits = IPV4_BITS if ip_address(address).version == 4 else IPV6_BITS
    return str(ip_network((address, bits), strict=False))
