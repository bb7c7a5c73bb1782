"""The staff's pages; one module per page."""

from . import limits, overrides

__all__ = ["limits", "overrides"]
