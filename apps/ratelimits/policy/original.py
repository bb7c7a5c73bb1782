"""The path of a request that another server got, as limits know paths."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

MAX_URI_CHARS = 8_192
"""A longer one is refused: what it leads to could hide behind its beginning."""
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def request_path(uri: str) -> str:
    """``/a/b`` of ``/a/%62?c=d``, ``//a/./b``, ``/x/../a/b`` and ``http://host/a/b``.

    As a proxy reads it when it chooses where a request goes: decoded, without dot segments and
    doubled slashes. Else those would be the way around a limit. ``uri`` is a header's text, of
    which each character is a byte.
    """
    return normal_path(decoded_path(uri))


def decoded_path(uri: str) -> str:
    """The path as it came, decoded: a service that takes dots and slashes as they are sees this."""
    text = uri
    if not text.startswith("/"):
        text = _ABSOLUTE.sub("", text, count=1)
    raw = re.split("[?#]", text, maxsplit=1)[0].encode("latin-1", "replace")
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def normal_path(path: str) -> str:
    """Of a path that is decoded: without dot segments and doubled slashes."""
    segments: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            del segments[-1:]
        elif part not in ("", "."):
            segments.append(part)
    ends = "/" if segments and parts[-1] in ("", ".", "..") else ""
    return "/" + "/".join(segments) + ends
