"""Replicas that a primary lost. Pure.

INFO tells only of those that are there: one that left is missed against the most that were online
at once within a day. It lags by as long as it has been missing, at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .taken import Said

REMEMBERED_S = 24 * 3600.0


def missed(
    kept: Mapping[str, Any], replicas: Mapping[str, bool] | None, lag_s: float | None, now_s: float
) -> tuple[Said, dict[str, float]]:
    """``kept`` is what the look before returned; ``lag_s`` of those that are online.

    Returns what is to be said, and what is to be kept for the next look.
    """
    if replicas is None:
        return Said(), {}
    most, whole_at_s = int(kept.get("most", 0)), float(kept.get("whole_at_s", now_s))
    if now_s - whole_at_s > REMEMBERED_S:
        most = 0
    online = sum(replicas.values())
    most = max(most, online)
    if not most and not replicas:
        return Said(), {}
    lost = max(most, len(replicas)) - online
    if not lost:
        return Said({"replicas_lost": 0.0}), {"most": most, "whole_at_s": now_s}
    missing_s = now_s - whole_at_s
    note = f"{lost} of {max(most, len(replicas))} missing or not online"
    said = Said(
        {"replicas_lost": float(lost), "replication_lag_s": max(lag_s or 0.0, missing_s)},
        notes={"replicas_lost": note},
    )
    return said, {"most": most, "whole_at_s": whole_at_s}
