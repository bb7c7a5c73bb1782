"""The staff's pages; one module per page."""

from . import lists, load_tests, regressions, runs, trends

__all__ = ["lists", "load_tests", "regressions", "runs", "trends"]
