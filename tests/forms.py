"""A form as a browser would send it, read from its page."""

from __future__ import annotations

from html.parser import HTMLParser


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[str]] = {}
        self._select = ""
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name, value = found.get("name") or "", found.get("value") or ""
        if tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in found:
            self.values.setdefault(self._select, []).append(value)
        elif tag == "textarea" and name:
            self._area = name
            self.values[name] = [""]
        elif tag == "input" and name and _is_sent(found):
            self.values.setdefault(name, []).append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        if tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.values[self._area] = [self.values[self._area][0] + data.lstrip("\n")]


def _is_sent(found: dict[str, str | None]) -> bool:
    kind = found.get("type") or "text"
    if kind in ("checkbox", "radio"):
        return "checked" in found
    return kind not in ("submit", "button", "image", "reset", "file")


def fields(page: str) -> dict[str, list[str]]:
    """Each field's values where nobody types anything."""
    reader = _Fields()
    reader.feed(page)
    return reader.values
