"""Paths that are never limited: those that the site names, and the endpoint where other services
ask, whose requests count as those that it is asked about."""

from __future__ import annotations

from . import conf
from .check_urls import path_of_site


class ExemptPaths:
    """Made once there are addresses: it loads the site's."""

    def __init__(self, config: conf.RateLimitConfig) -> None:
        self._named = config.exempt_paths
        self._check = path_of_site()
        own = () if self._check is None else (self._check,)
        # One look for the many paths that begin with none of them.
        self._beginnings = (*self._named, *own)

    def __contains__(self, path: str) -> bool:
        return path.startswith(self._beginnings) and (
            path.startswith(self._named) or self._is_check(path)
        )

    def why(self, path: str) -> str:
        """In a sentence; empty where it is limited."""
        for beginning in self._named:
            if path.startswith(beginning):
                return f"paths that begin with {beginning} are never limited (IOTA_EXEMPT_PATHS)"
        if self._is_check(path):
            return "what other services ask here counts for the requests that they ask about"
        return ""

    def _is_check(self, path: str) -> bool:
        return path == self._check or path.startswith(f"{self._check}/")
