"""The staff's pages; one module per page."""

from . import limits, overrides, sweeps

__all__ = ["limits", "overrides", "sweeps"]
