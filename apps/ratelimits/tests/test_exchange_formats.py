"""Files as rows, as people and spreadsheets write them."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.exchange.formats import (
    FORMULA,
    MAX_FILE_BYTES,
    MISSING,
    Csv,
    Json,
    Unreadable,
    Yaml,
    format_of,
    text_of,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


def rows(format_class, data) -> list[dict[str, object]]:
    return format_class().create_dataset(data).dict


@pytest.mark.parametrize("known", [Json, Yaml])
@given(values=st.lists(st.fixed_dictionaries({
    "text": TEXT,
    "number": st.none() | st.integers(0, 2**53),
    "flag": st.booleans(),
    "list": st.lists(TEXT, max_size=3),
}), max_size=4))  # fmt: skip
def test_what_is_written_is_read(known, values):
    made = known()
    read = rows(known, made.write(["text", "number", "flag", "list"], values).encode())
    if known is Yaml:  # What a text means, the field decides.
        for row in values:
            row["flag"] = "true" if row["flag"] else "false"
            row["number"] = None if row["number"] is None else str(row["number"])
    assert read == values


@given(values=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_every_text_comes_back_from_csv_and_none_is_a_formula(values):
    given_rows = [{"name": f"n{n}", "a": a, "b": b} for n, (a, b) in enumerate(values)]
    written = Csv().write(["name", "a", "b"], given_rows)
    assert rows(Csv, written.encode()) == given_rows
    for line in csv.reader(io.StringIO(written, newline="")):
        assert not any(cell.startswith(tuple(FORMULA)) for cell in line)


def test_a_formula_is_text_to_a_spreadsheet():
    written = Csv().write(["name", "message"], [{"name": "one", "message": "=HYPERLINK(1)"}])
    assert written == "name,message\r\none,'=HYPERLINK(1)\r\n"


def test_yaml_takes_words_as_they_are_written():
    """Its own types would make off false, 010 eight, 1:30 ninety, and a date of a date."""
    text = "- {name: on, mode: off, key: 010, time: 1:30, until: 2026-01-31, path: null, host: ~}"
    (row,) = rows(Yaml, text)
    assert row == {
        "name": "on", "mode": "off", "key": "010", "time": "1:30", "until": "2026-01-31",
        "path": None, "host": None,
    }  # fmt: skip


def test_what_a_row_leaves_out_is_missing_and_not_empty():
    first, second = rows(Json, '[{"name": "a", "quota": 1}, {"mode": "off", "name": "b"}]')
    assert first == {"name": "a", "quota": 1, "mode": MISSING}
    assert second == {"name": "b", "quota": MISSING, "mode": "off"}


@pytest.mark.parametrize(
    "data",
    [
        b"name,quota\none,5\n",
        b"\xef\xbb\xbfname;quota\r\none;5\r\n",
        b"name\tquota\r\none\t5\r\n\r\n",
        "\ufeffname\tquota\r\none\t5\r\n".encode("utf-16-le"),
        b"sep=;\r\nname;quota\r\none;5\r\n;\r\n",
    ],
)
def test_csv_as_spreadsheets_save_it(data):
    assert rows(Csv, data) == [{"name": "one", "quota": "5"}]


@pytest.mark.parametrize(
    ("known", "data", "said"),
    [
        (Json, "[1]", "Row 1 is no group of fields"),
        (Json, '{"name": "a"}', "A file is a list of rows"),
        (Json, '[\n{"a": 1 "b"}]', "Line 2: this is no JSON"),
        (Json, '[{"a": 1, "a": 2}]', "The field 'a' is there twice in a row"),
        (Json, "[" * 100_000, "Lists within lists"),
        (Json, '[{"a": ' + "9" * 5_000 + "}]", "A value cannot be read"),
        (Yaml, "- a: 1\n  a: 2\n", "The field 'a' is there twice in a row"),
        (Yaml, "- a: [1\n", "this is no YAML that can be read"),
        (Yaml, "- !!python/object/apply:os.system [id]\n", "this is no YAML that can be read"),
        (Yaml, "- a: !!int x\n", "A value cannot be read"),
        (Yaml, "- &a [*a]\n", "Row 1 is no group of fields"),
        (Yaml, "- {1: {a: b}, ? [x] : y}\n", "YAML"),
        (Yaml, "name: a\n", "A file is a list of rows"),
        (Csv, "name,quota\none,5,6\n", "Row 1 has 3 cells, the first line 2"),
        (Csv, "name,name\none,5\n", "The field 'name' is there twice"),
        (Csv, 'name,a\n"one"x,5\n', "Line 2: this is no CSV"),
        (Csv, b"name\n\xff\xfa", "is no UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(known, data, said):
    with pytest.raises(Unreadable) as refused:
        known().create_dataset(data)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_file_has_a_largest_size():
    with pytest.raises(Unreadable, match="larger than 20,000,000 bytes"):
        text_of(b" " * (MAX_FILE_BYTES + 1))


def test_a_group_whose_name_has_a_line_break_is_no_list_in_a_cell():
    with pytest.raises(Unreadable, match="use JSON"):
        Csv().write(["groups"], [{"groups": ["a\nb"]}])


@pytest.mark.parametrize(
    ("name", "data", "known"),
    [
        ("limits.yaml", b"", Yaml),
        ("limits.YML", b"", Yaml),
        ("limits.json", b"", Json),
        ("limits.csv", b"", Csv),
        ("-", b' [{"name": "a"}]', Json),
        ("-", b"- name: a, b\n", Yaml),
        ("-", b"\xef\xbb\xbfname;quota\n", Csv),
        ("-", b"limit,user,action\n", Csv),
        ("-", b"# ours\n- name: a\n", Yaml),
    ],
)
def test_what_a_file_is_tells_its_name_or_its_beginning(name, data, known):
    assert format_of(name, data) is known


@pytest.mark.parametrize("known", [Json, Yaml])
def test_rows_of_ever_other_fields_are_refused_before_they_are_laid_out(known):
    data = "[" + ", ".join(f'{{"a{number}": 0}}' for number in range(20_000)) + "]"
    with pytest.raises(Unreadable, match="20,000 different fields"):
        known().create_dataset(data.encode())
