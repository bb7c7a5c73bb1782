"""Memory of the servers, and how soon they let go of what has expired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from apps.ratelimits.storage.server_findings import GUIDE, NEARLY_FULL, Finding, Level

from ..amounts import in_bytes
from ..look import Look, Node, each_node
from ..registry import Topic, finding

MIB = 1 << 20
FRAGMENTED, WASTED = 1.5, 100 * MIB
SWAPPED, MUCH = 0.9, 64 * MIB
"""A small server is always fragmented: its own code and buffers are more than its keys."""
MOST_STALE_PERCENT = 10
LEAST_HZ = 10
SETTINGS = ("hz", "active-expire-effort", "lazyfree-lazy-expire", "maxmemory")


@finding("memory", Topic.REDIS, "Memory")
def memory(look: Look) -> Iterator[Finding]:
    def of_node(node: Node) -> Iterator[Finding]:
        return judge_memory(look.info(node), node.address)

    yield from each_node(look, "the use of memory", of_node)


@finding("expiry", Topic.REDIS, "Expiry of keys")
def expiry(look: Look) -> Iterator[Finding]:
    def of_node(node: Node) -> Iterator[Finding]:
        said = {name: look.config_of(node, name) for name in SETTINGS}
        return judge_expiry(look.info(node), said, node.address)

    yield from each_node(look, "how soon expired keys go", of_node)


def judge_memory(info: Mapping[str, Any], where: str) -> Iterator[Finding]:
    """From INFO alone. That ``maxmemory`` is missing or nearly used, ``servers`` says."""
    used, resident = int(info.get("used_memory", 0)), int(info.get("used_memory_rss", 0))
    machine, most = int(info.get("total_system_memory", 0)), int(info.get("maxmemory", 0))
    ratio = resident / used if used and resident else None
    shown = "not known" if ratio is None else f"{ratio:.2f}"
    bound = f"maxmemory {in_bytes(most)}" if most else "no maxmemory: the machine is the bound"
    whole = most or machine
    share = f" ({100 * used / whole:.1f} %)" if whole else ""
    evidence = (
        f"{in_bytes(used)} of {in_bytes(whole)} in use{share}, {bound}; resident "
        f"{in_bytes(resident)}, fragmentation {shown}; "
        f"machine {in_bytes(machine) if machine else 'not known'}; keys evicted since the start: "
        f"{int(info.get('evicted_keys', 0)):,}"
    )
    wrong = False
    if machine and max(used, most) > NEARLY_FULL * machine:
        wrong = True
        yield Finding(
            Level.WARNING,
            "memory-machine",
            where,
            "It may take nearly all memory of its machine: the system ends it before it is full."
            if most
            else "It has taken nearly all memory of its machine.",
            evidence,
            f"Set maxmemory to what the machine can spare, with room for a fork ({GUIDE}).",
        )
    if ratio is not None and ratio > FRAGMENTED and resident - used > WASTED:
        wrong = True
        yield Finding(
            Level.WARNING,
            "fragmentation",
            where,
            "It holds much more memory than its keys use.",
            evidence,
            "`CONFIG SET activedefrag yes` where the server has it (MEMORY PURGE gives some back), "
            "or restart it in a quiet hour.",
        )
    if ratio is not None and ratio < SWAPPED and used > MUCH:
        wrong = True
        yield Finding(
            Level.WARNING,
            "swapped",
            where,
            "A part of its memory is swapped out: checks wait for the disk.",
            evidence,
            "Give the machine more memory, or take something else off it.",
        )
    if not wrong:
        yield Finding(Level.INFO, "memory", where, "Memory is in order.", evidence)


def judge_expiry(
    info: Mapping[str, Any], said: Mapping[str, str | None], where: str
) -> Iterator[Finding]:
    """A bucket's key is dead weight from its end until the server deletes it."""
    stale = info.get("expired_stale_perc")
    evidence = "; ".join(
        [
            f"expired keys still held: {'not known' if stale is None else f'{stale} %'}",
            f"expired since the start: {int(info.get('expired_keys', 0)):,}",
            f"times that deleting them reached its bound: "
            f"{int(info.get('expired_time_cap_reached_count', 0)):,}",
            *(f"{name} {said.get(name) or 'not known'}" for name in SETTINGS[:3]),
        ]
    )
    hz = said.get("hz")
    if stale is not None and float(stale) > MOST_STALE_PERCENT:
        yield Finding(
            Level.WARNING,
            "expiry",
            where,
            "It deletes expired keys later than they come: memory holds what no longer counts.",
            evidence,
            "`CONFIG SET active-expire-effort 4` or more, and see that the server is not busy.",
        )
    elif hz is not None and int(hz) < LEAST_HZ:
        yield Finding(
            Level.WARNING,
            "expiry",
            where,
            "It looks for expired keys so rarely that memory holds what no longer counts.",
            evidence,
            f"`CONFIG SET hz {LEAST_HZ}`",
        )
    else:
        yield Finding(Level.INFO, "expiry", where, "Expired keys are deleted in time.", evidence)
