"""The client's address, as far as it can be trusted.

``X-Forwarded-For`` is a list that each proxy appends to. Only what a trusted proxy
appended is believed: the list is walked from the right, past trusted proxies, and the
first address that is not one of them is the client. What stands left of it is the
client's own invention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Network = IPv4Network | IPv6Network

UNKNOWN = "unknown"
"""The identity of a peer without an address (a Unix socket): all of them count together."""

MAX_FORWARDED_CHARS = 4_096
MAX_HOPS = 32
MAX_REMEMBERED_CHARS = 200
MAX_ADDRESS_CHARS = 80
"""With brackets, zone and port; what stands behind is not read."""


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An address from a header or peer: brackets, port and zone dropped, IPv4-mapped unwrapped."""
    return _parse_address(text.strip().strip('"')[:MAX_ADDRESS_CHARS])


@lru_cache(maxsize=4_096)
def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.partition("%")[0]
    if len(text) > 45:
        return None
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _trusted(address: IPv4Address | IPv6Address, proxies: Sequence[Network]) -> bool:
    return any(address.version == net.version and address in net for net in proxies)


class Hop(NamedTuple):
    """An address on the way to the client's. ``address`` None: it is none."""

    text: str
    address: str | None
    trusted: bool


class Derivation(NamedTuple):
    """How the client's address was found: the peer, then what the header says, from the right.
    ``unread``: so many entries further left are the client's own word, and were not looked at."""

    address: str
    hops: tuple[Hop, ...]
    unread: int


def client_address(
    peer: str,
    forwarded_for: str,
    proxies: Sequence[Network],
    ipv6_prefix: int = 64,
    told: list[Hop] | None = None,
) -> str:
    """The text that identifies the client: an IPv4 address, or an IPv6 network such as
    ``2001:db8::/64``, since one subscriber owns all of it. ``told`` gets each step."""
    if told is None and (not proxies or not forwarded_for):
        return _peer_address(peer[:MAX_ADDRESS_CHARS], ipv6_prefix)
    address = parse_address(peer)
    trusted = address is not None and _trusted(address, proxies)
    if told is not None:
        told.append(_hop(peer, address, trusted))
    if address is None:
        return UNKNOWN
    if trusted:
        for hop in reversed(_hops(forwarded_for)):
            parsed = parse_address(hop)
            trusted = parsed is not None and _trusted(parsed, proxies)
            if told is not None:
                told.append(_hop(hop, parsed, trusted))
            if parsed is None:
                break
            address = parsed
            if not trusted:
                break
    return _identified(address, ipv6_prefix)


def remembering(proxies: Sequence[Network], ipv6_prefix: int) -> Callable[[str, str], str]:
    """``client_address`` of peer and field behind these proxies. It remembers short fields: the
    next request of the same client mostly comes soon, and to look at each hop takes ten times as
    long as all else that is found out of a request."""

    @lru_cache(maxsize=4_096)
    def remembered(peer: str, forwarded_for: str) -> str:
        return client_address(peer, forwarded_for, proxies, ipv6_prefix)

    def address_of(peer: str, forwarded_for: str) -> str:
        if not proxies or len(forwarded_for) > MAX_REMEMBERED_CHARS:
            return client_address(peer, forwarded_for, proxies, ipv6_prefix)
        return remembered(peer, forwarded_for)

    return address_of


def derivation(
    peer: str, forwarded_for: str, proxies: Sequence[Network], ipv6_prefix: int = 64
) -> Derivation:
    """``client_address``, and how it came about."""
    told: list[Hop] = []
    address = client_address(peer, forwarded_for, proxies, ipv6_prefix, told)
    named = len(_hops(forwarded_for)) if forwarded_for else 0
    return Derivation(address, tuple(told), max(0, named - (len(told) - 1)))


def _hops(forwarded_for: str) -> list[str]:
    if not forwarded_for:
        return []
    return forwarded_for[-MAX_FORWARDED_CHARS:].split(",")[-MAX_HOPS:]


def _hop(text: str, address: IPv4Address | IPv6Address | None, trusted: bool) -> Hop:
    return Hop(text.strip()[:MAX_ADDRESS_CHARS], None if address is None else str(address), trusted)


@lru_cache(maxsize=4_096)
def _peer_address(peer: str, ipv6_prefix: int) -> str:
    """Remembered: the next request of the same client mostly comes soon."""
    address = parse_address(peer)
    return UNKNOWN if address is None else _identified(address, ipv6_prefix)


def _identified(address: IPv4Address | IPv6Address, ipv6_prefix: int) -> str:
    if isinstance(address, IPv6Address):
        return str(ip_network((address, ipv6_prefix), strict=False))
    return str(address)


class Span(NamedTuple):
    """A network as a limit names it: its addresses as numbers, which are quick to compare."""

    version: int
    first: int
    last: int


@lru_cache(maxsize=4_096)
def parse_span(text: str) -> Span:
    """Remembered, since every limit with networks asks the same address. Raises ValueError."""
    network = ip_network(text)
    return Span(network.version, int(network.network_address), int(network.broadcast_address))


def in_networks(address: str, networks: Sequence[Span]) -> bool:
    """Whether the client (as ``client_address`` gives it) lies in one of the networks.

    A network narrower than an IPv6 client's own means all of the client's.
    """
    if not networks or address == UNKNOWN:
        return False
    version, first, last = parse_span(address)
    for other in networks:
        if other.version == version and other.first <= last and first <= other.last:
            return True
    return False
