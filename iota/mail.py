"""The server that mail leaves by, from one URL."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class MailServer:
    """``smtp+tls`` begins in plain and goes on encrypted (STARTTLS); ``smtps`` is never plain."""

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> MailServer:
        """Raises ValueError, whose text says what is wrong."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS:
            raise ValueError(f"no scheme of {', '.join(PORTS)}")
        if not parts.hostname or parts.port == 0 or parts.path.strip("/") or parts.query:
            raise ValueError("a host, and nothing after its port")
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=parts.port or PORTS[parts.scheme],
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )
