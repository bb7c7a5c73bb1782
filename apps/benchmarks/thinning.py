"""Fewer points of a long series, such that nothing that matters is missing. No I/O.

From each stretch of equally many runs the smallest, the middle and the largest are kept: the level
and the spread look as they did, and a single wild run does not vanish, as it would in an average.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

MOST = 450
"""Points that are drawn, beside those that are kept in any case."""


def thin(values: Sequence[float], keep: Collection[int] = (), most: int = MOST) -> list[int]:
    """The places of what is drawn, in order: all of them where there are no more than ``most``.

    The first, the last and those of ``keep`` always are.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = most // 3
    edges = [len(values) * number // stretches for number in range(stretches + 1)]
    chosen = {0, len(values) - 1, *keep}
    for start, end in pairwise(edges):
        ordered = sorted(range(start, end), key=values.__getitem__)
        chosen.update((ordered[0], ordered[len(ordered) // 2], ordered[-1]))
    return sorted(place for place in chosen if 0 <= place < len(values))
