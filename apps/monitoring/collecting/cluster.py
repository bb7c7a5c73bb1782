"""What a cluster's node says of the others -> figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .taken import Said

METRICS = ("pong_age_s", "links_lost")
LINK_METRICS = ("link_bytes",)
NOT_THERE = {"myself", "noaddr", "handshake"}


def of_nodes(nodes: Mapping[str, Mapping[str, Any]], now_s: float) -> Said:
    """CLUSTER NODES, as redis-py reads it. ``now_s``: the node's own clock, as the ages are by it.

    Nodes talk to each other without being asked, so that the oldest answer says how well they do:
    half of cluster-node-timeout is usual, more than all of it is a node that fails.
    """
    ages: dict[str, float] = {}
    lost = 0
    for address, node in nodes.items():
        if flags_of(node) & NOT_THERE:
            continue
        pong_s = int(node["last_pong_rcvd"]) / 1000
        if pong_s and now_s:
            ages[address] = max(0.0, now_s - pong_s)
        lost += not node["connected"]
    values: dict[str, float | None] = {"links_lost": float(lost)}
    if not ages:
        return Said(values)
    oldest = max(ages, key=lambda address: ages[address])
    return Said({**values, "pong_age_s": ages[oldest]}, notes={"pong_age_s": f"of {oldest}"})


def flags_of(node: Mapping[str, Any]) -> set[str]:
    return set(str(node["flags"]).split(","))


def of_links(links: Iterable[Any]) -> Said:
    """CLUSTER LINKS: what waits to be sent to other nodes."""
    waiting = 0
    for link in links:
        said = pairs(link)
        waiting += int(said.get("send-buffer-used", 0))
    return Said({"link_bytes": float(waiting)})


def pairs(reply: Any) -> dict[str, Any]:
    """A map, whether the server sent it as one (RESP3) or as a list."""
    items = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2])  # noqa: B905
    return {_text(name): value for name, value in items}


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
