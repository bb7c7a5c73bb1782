"""A path as it may be kept: without what a person may have put into it.

What a URL pattern captured becomes the name of the argument and a digest; a path that no view
knows, its beginning as far as a pattern has the same, and a digest of all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from django.conf import settings
from django.urls import Resolver404, get_resolver, get_urlconf, resolve
from django.urls.resolvers import RoutePattern

from .policy.identity import Digests

SHOWN_CHARS = 8
"""Of a digest, where it is only to be told from others."""
_REGULAR = re.compile(r"[\\^$*+?()|]")
_ARGUMENT = re.compile(r"<(?:[^<>:]+:)?([^<>]+)>")


def kept_path(path: str, digests: Digests) -> tuple[str, str, bool]:
    """The path as it may be kept, the name of its view, and whether that is all of it."""
    try:
        match = resolve(path)
    except Resolver404:
        head = path.split("/")[1] if path.startswith("/") else ""
        segments = _first_segments(get_urlconf() or settings.ROOT_URLCONF)
        kept = f"/{head}/" if head in segments else "/"
        return f"{kept}~{_digest(digests, path)}", "", False
    route = f"/{match.route}"
    if route == path:
        return path, match.view_name, True
    if _REGULAR.search(route):  # It matches more than what it captures.
        return f"{route} ~{_digest(digests, path)}", match.view_name, False

    def named(found: re.Match[str]) -> str:
        value = str(match.kwargs.get(found[1], ""))
        return f"<{found[1]} ~{_digest(digests, value)}>"

    return _ARGUMENT.sub(named, route), match.view_name, False


def _digest(digests: Digests, text: str) -> str:
    return digests.of(("path", text))[:SHOWN_CHARS]


@lru_cache(maxsize=8)
def _first_segments(urlconf: str) -> frozenset[str]:
    """Of the site's own patterns, as far as they are plain text."""
    patterns = (one.pattern for one in get_resolver(urlconf).url_patterns)
    routes = (str(one) for one in patterns if isinstance(one, RoutePattern))
    return frozenset(route.split("/")[0] for route in routes if route and "<" not in route)
