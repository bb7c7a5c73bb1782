"""Files as rows and back: the same rows give the same bytes.

A row names the fields that it is about: one that it leaves out is ``MISSING`` in the dataset, and
stays as it is. In JSON and YAML a file is a list of such rows; of YAML's scalars only ``null`` is
more than a text, since the field decides what it means (``mode: off`` is no "false").
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import tablib
import yaml
from import_export.formats import base_formats

from .widgets import shown

UNICODE_BREAK = re.compile("[\x85\u2028\u2029]")
MAX_FIELDS = 100
MAX_FILE_BYTES = 20_000_000
MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()
FORMULA = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""A spreadsheet takes a cell that begins so for a formula, or may."""
QUOTE = "'"
"""Before it, the cell is text to a spreadsheet. One that the text itself begins with is doubled."""
DELIMITERS = ",;\t"
HEADER = re.compile(r'sep=|"?\w+"?(?:[,;\t]"?\w+"?)+\s*$', re.ASCII | re.MULTILINE)


class Unreadable(ValueError):
    """What is wrong with a file as a whole, and how it is mended."""


def text_of(data: bytes | str) -> str:
    """As spreadsheets and editors save it. Raises Unreadable."""
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(f"The file is larger than {MAX_FILE_BYTES:,} bytes: split it.")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"Byte {error.start:,} is no UTF-8: save the file as UTF-8 "
            "(in a spreadsheet: 'CSV UTF-8')."
        ) from None


class Rows(base_formats.TextFormat):  # type: ignore[misc]
    """What the three have in common; ``read`` and ``write`` are theirs."""

    EXTENSIONS: tuple[str, ...] = ()

    def create_dataset(self, in_stream: bytes | str, **kwargs: Any) -> tablib.Dataset:
        """Raises Unreadable."""
        try:
            return dataset(self.read(text_of(in_stream)))
        except Unreadable:
            raise
        except RecursionError:
            raise Unreadable("Lists within lists: a file is one list of rows.") from None
        except ValueError as error:
            raise Unreadable(f"A value cannot be read: {shown(str(error))}.") from None

    def export_data(self, dataset: tablib.Dataset, **kwargs: Any) -> str:
        return self.write(dataset.headers or [], dataset.dict)

    def get_extension(self) -> str:
        return self.EXTENSIONS[0]

    def read(self, text: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    def write(self, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
        raise NotImplementedError


def dataset(rows: Sequence[Mapping[str, Any]]) -> tablib.Dataset:
    fields = list(dict.fromkeys(name for row in rows for name in row))
    if len(fields) > MAX_FIELDS:
        # Each row has a cell of each: of many names it would be more than the memory holds.
        raise Unreadable(
            f"The rows name {len(fields):,} different fields: a limit has fewer than {MAX_FIELDS}."
        )
    made = tablib.Dataset(headers=fields)
    for row in rows:
        made.append([row.get(name, MISSING) for name in fields])
    return made


class Json(Rows):
    TABLIB_MODULE = "tablib.formats._json"
    CONTENT_TYPE = "application/json"
    EXTENSIONS = ("json",)

    def read(self, text: str) -> list[dict[str, Any]]:
        try:
            read = json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise Unreadable(f"Line {error.lineno}: this is no JSON: {error.msg}.") from None
        return _mappings(read)

    def write(self, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
        return json.dumps(list(rows), indent=2, ensure_ascii=False) + "\n"


class Yaml(Rows):
    TABLIB_MODULE = "tablib.formats._yaml"
    CONTENT_TYPE = "application/yaml"
    EXTENSIONS = ("yaml", "yml")

    def read(self, text: str) -> list[dict[str, Any]]:
        try:
            # Its constructors are those of the safe loader.
            read = yaml.load(text, _Loader)  # noqa: S506
        except yaml.MarkedYAMLError as error:
            line = f"Line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            said = error.problem or error.context
            raise Unreadable(f"{line}this is no YAML that can be read: {said}.") from None
        except yaml.YAMLError as error:
            raise Unreadable(f"This is no YAML that can be read: {error}.") from None
        return _mappings([] if read is None else read)

    def write(self, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
        # A row at a time: a blank line between them is what a diff and a reader hold on to.
        form: Any = {"allow_unicode": True, "sort_keys": False, "width": 1_000}
        written = [yaml.dump([dict(row)], Dumper=_Dumper, **form) for row in rows]
        return "\n".join(written) or "[]\n"


class _Dumper(yaml.SafeDumper):
    """Line breaks of Unicode as escapes: as they are, between quotes, they are read as spaces."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if UNICODE_BREAK.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Of plain scalars only null has a type; a field that is named twice is refused."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag == "tag:yaml.org,2002:null"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            _unique([(key, None) for key in keys if isinstance(key, str)])
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class Csv(Rows):
    TABLIB_MODULE = "tablib.formats._csv"
    CONTENT_TYPE = "text/csv"
    EXTENSIONS = ("csv", "tsv")

    def read(self, text: str) -> list[dict[str, Any]]:
        first, _, rest = text.partition("\n")
        if first.strip().lower().startswith("sep="):
            text, first = rest, rest.partition("\n")[0]
        delimiter = max(DELIMITERS, key=first.count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            filled = [line for line in lines if any(line)]
        except csv.Error as error:
            raise Unreadable(f"Line {lines.line_num:,}: this is no CSV: {error}.") from None
        if not filled:
            return []
        fields = [name.strip() for name in filled[0]]
        _unique([(name, None) for name in fields])
        rows = []
        for number, line in enumerate(filled[1:], 1):
            if len(line) != len(fields):
                raise Unreadable(
                    f"Row {number:,} has {len(line):,} cells, the first line {len(fields):,}: "
                    "mend the row, or quote what holds a separator."
                )
            rows.append(dict(zip(fields, map(_from_cell, line), strict=True)))
        return rows

    def write(self, fields: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(fields)
        writer.writerows([_cell(row[name]) for name in fields] for row in rows)
        return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, list):
        if any(part.splitlines() != [part] for part in value):
            raise Unreadable("A group's name has a line break, which CSV cannot list: use JSON.")
        value = "\n".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    return QUOTE + text if text.startswith((*FORMULA, QUOTE)) else text


def _from_cell(text: str) -> str:
    return text[1:] if text[:1] == QUOTE and text[1:].startswith((*FORMULA, QUOTE)) else text


FORMATS: tuple[type[Rows], ...] = (Yaml, Json, Csv)
BY_NAME = {"yaml": Yaml, "json": Json, "csv": Csv}


def format_of(name: str, data: bytes | str = b"") -> type[Rows]:
    """By the file's name; where that does not tell, by how its text begins. Raises Unreadable."""
    extension = PurePath(name).suffix.removeprefix(".").lower()
    for known in FORMATS:
        if extension in known.EXTENSIONS:
            return known
    begin = text_of(data).lstrip()
    if begin.startswith(("[", "{")):
        return Json
    return Csv if HEADER.match(begin) else Yaml


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises Unreadable where a field is named twice: the last would win unseen."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise Unreadable(f"The field {shown(name)} is there twice in a row: leave one.")
        made[name] = value
    return made


def _mappings(read: Any) -> list[dict[str, Any]]:
    """Raises Unreadable where it is not a list of rows."""
    if not isinstance(read, list):
        raise Unreadable("A file is a list of rows: begin each with '- name: ...', or [ in JSON.")
    for number, row in enumerate(read, 1):
        if not isinstance(row, dict) or not all(isinstance(name, str) for name in row):
            raise Unreadable(f"Row {number:,} is no group of fields: write such as 'quota: 100'.")
    return read
