"""A page's form as a browser would send it. No I/O."""

from __future__ import annotations

from html.parser import HTMLParser

Fields = list[tuple[str, str]]


def fields_of(page: str, form_id: str) -> Fields:
    """Names and values of the form with this id, without its buttons."""
    parser = _Form(form_id)
    parser.feed(page)
    return parser.fields


def changed(fields: Fields, **values: str) -> Fields:
    """Each once, with these values instead of its own."""
    return [pair for pair in fields if pair[0] not in values] + list(values.items())


class _Form(HTMLParser):
    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.fields: Fields = []
        self._form_id = form_id
        self._inside = False
        self._select: str | None = None
        self._multiple = False
        self._first: str | None = None
        self._chosen: list[str] = []
        self._textarea: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        if tag == "form":
            self._inside = given.get("id") == self._form_id
        if not self._inside or "disabled" in given:
            return
        name = given.get("name")
        if tag == "input" and name:
            kind = given.get("type", "text").lower()
            if kind in ("submit", "button", "image", "file", "reset"):
                return
            if kind not in ("checkbox", "radio") or "checked" in given:
                self.fields.append((name, given.get("value", "on" if kind == "checkbox" else "")))
        elif tag == "select" and name:
            self._select, self._multiple = name, "multiple" in given
            self._first, self._chosen = None, []
        elif tag == "option" and self._select:
            value = given.get("value", "")
            self._first = value if self._first is None else self._first
            if "selected" in given:
                self._chosen.append(value)
        elif tag == "textarea" and name:
            self._textarea, self._text = name, ""

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "select" and self._select is not None:
            if not self._chosen and not self._multiple and self._first is not None:
                self._chosen = [self._first]
            self.fields += [(self._select, value) for value in self._chosen]
            self._select = None
        elif tag == "textarea" and self._textarea is not None:
            # The first line break after the tag is the markup's.
            self.fields.append((self._textarea, self._text.removeprefix("\n")))
            self._textarea = None
