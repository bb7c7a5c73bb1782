"""Who the users of the load may be: sessions and API keys of the site, from a file.

Signing in costs a server a good part of a second, on purpose, so that hundreds of log-ins would
be what is measured. The file is made beforehand, ``python -m iota.loadtest`` makes its own::

    {"cookie": "sessionid", "users": [["7", "<session>"], ...], "keys": ["demo-1", ...],
     "staff": ["1", "<session>"]}
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .promises import Unreadable


@dataclass(frozen=True, slots=True)
class Accounts:
    cookie: str = "sessionid"
    users: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    staff: tuple[str, str] | None = None

    @classmethod
    def read(cls, path: Path) -> Accounts:
        """Raises Unreadable."""
        try:
            return cls.of(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise Unreadable(
                f"{path}: no accounts as loadtests/accounts.py shows: {error}"
            ) from error

    @classmethod
    def of(cls, found: Any) -> Accounts:
        staff = found.get("staff")
        return cls(
            str(found.get("cookie", "sessionid")),
            [(str(name), str(session)) for name, session in found.get("users", [])],
            [str(key) for key in found.get("keys", [])],
            (str(staff[0]), str(staff[1])) if staff else None,
        )
