"""What a limit may know of a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserFacts:
    """Who asks, after the session or credential was validated. ``pk`` None: anonymous.

    ``session`` is empty without a session that the site knows. ``keys`` holds, per header in
    lower case, whose key it is; a key that nobody knows is not in it.
    """

    pk: str | None = None
    is_staff: bool = False
    groups: frozenset[str] = frozenset()
    session: str = ""
    keys: tuple[tuple[str, str], ...] = ()


ANONYMOUS = UserFacts()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """``path`` is what the URL resolver sees: decoded, without the script prefix.

    ``address`` is the client's, derived from trusted proxies only, with IPv6 already
    reduced to its network. ``route`` is the view's name, empty where none matches, and
    ``arguments`` are its named arguments.
    """

    method: str
    path: str
    address: str
    host: str = ""
    route: str = ""
    arguments: tuple[tuple[str, str], ...] = ()
