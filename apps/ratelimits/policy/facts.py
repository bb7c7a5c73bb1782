"""What a limit may know of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserFacts:
    """Who asks, after the session or credential was validated. ``pk`` None: anonymous."""

    pk: str | None = None
    is_staff: bool = False
    groups: frozenset[str] = frozenset()


ANONYMOUS = UserFacts()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """``path`` is what the URL resolver sees: decoded, without the script prefix.

    ``address`` is the client's, derived from trusted proxies only, with IPv6 already
    reduced to its network. ``route`` is the view's name, empty where none matches.
    """

    method: str
    path: str
    address: str
    host: str = ""
    route: str = ""
