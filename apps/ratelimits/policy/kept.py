"""What a limit makes of what was counted at another rate: an edit that keeps the usage.

An edit rewrites nothing that is stored. The next check reads what is there at the new rate:

==============  ==================================================================================
algorithm       what stays
==============  ==================================================================================
token_bucket    how long it takes until all has refilled. So what a client has used is, in units,
                that time at the new pace: at half the quota half as many. The new burst is the
                longest debt that is let in.
fixed_window    the units used, where the window that they are of ends when one of the new length
                does; else nothing. Another quota alone changes no window.
sliding_window  likewise, where it ended with one, or is the one before.
sliding_log     the entries that are no older than the new window. What a shorter one has dropped
                does not come back.
concurrency     the slots that are held, each until it is released or its own lease ends.
==============  ==================================================================================

A block stays while the limit blocks at all. Another algorithm begins afresh.
"""

from __future__ import annotations

from typing import NamedTuple

from .algorithms import State, decide
from .rules import Algorithm, Rate


class Kept(NamedTuple):
    """What is stored of one identity: a record of its bucket (lua/records.lua), its log's
    ``entries`` as (us, units), or in ``n1`` how many slots it holds."""

    ends_us: int = 0
    n1: int = 0
    n2: int = 0
    entries: tuple[tuple[int, int | str], ...] = ()
    blocked_until_us: int = 0
    digest: str = ""
    """Of the identity."""


def state(rate: Rate, kept: Kept) -> State:
    """As ``algorithms.decide`` takes it; of concurrency, blocks alone."""
    blocked_until_us = kept.blocked_until_us
    match rate.algorithm:
        case Algorithm.TOKEN_BUCKET:
            return State(kept.ends_us, kept.n1, blocked_until_us=blocked_until_us)
        case Algorithm.FIXED_WINDOW:
            begin_us = kept.ends_us - rate.window_us
            return State(begin_us, kept.n1, blocked_until_us=blocked_until_us)
        case Algorithm.SLIDING_WINDOW:
            begin_us = kept.ends_us - 2 * rate.window_us
            return State(begin_us, kept.n1, kept.n2, blocked_until_us=blocked_until_us)
        case _:
            return State(entries=kept.entries, blocked_until_us=blocked_until_us)


def is_denied(rate: Rate, kept: Kept, now_us: int) -> bool:
    """Whether the client's next request would be."""
    if rate.algorithm is Algorithm.CONCURRENCY and kept.n1 >= rate.quota:
        return True
    return not decide(rate, state(rate, kept), now_us)[0]


def is_counted(rate: Rate, kept: Kept, now_us: int) -> bool:
    """Whether anything stands against the client: less than a full quota, or a block."""
    if rate.block_us and kept.blocked_until_us > now_us:
        return True
    if rate.algorithm is Algorithm.CONCURRENCY:
        return kept.n1 > 0
    idle = decide(rate, state(rate, kept), now_us)[1]
    if rate.algorithm is Algorithm.TOKEN_BUCKET:
        return idle.a > now_us
    if rate.algorithm is Algorithm.SLIDING_LOG:
        return idle.a > 0
    return idle.b + idle.c > 0
