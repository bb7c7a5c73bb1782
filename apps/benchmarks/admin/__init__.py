"""The staff's pages; one module per page."""

from . import lists, regressions, runs, trends

__all__ = ["lists", "regressions", "runs", "trends"]
