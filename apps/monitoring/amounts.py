"""Amounts in words."""

from __future__ import annotations


def in_bytes(count: float) -> str:
    """``512 bytes``, ``1.5 MiB``."""
    amount, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def counted(number: float, name: str) -> str:
    """``1 key``, ``2,000 keys``, ``3 processes``."""
    plural = "es" if name.endswith("s") else "s"
    return f"{number:,.0f} {name}{'' if round(number) == 1 else plural}"


def in_time(seconds: float) -> str:
    """``3 us``, ``12.5 ms``, ``4.2 s``, ``5 min``, ``3 h``, ``2 days``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3_600:.0f} h"
    return f"{seconds / 86_400:.0f} days"
