from __future__ import annotations

import json

import pytest

from apps.benchmarks import report
from apps.benchmarks.records import Direction, Result
from apps.benchmarks.registry import Run
from apps.benchmarks.servers import Server
from apps.benchmarks.targets import Row

MET = Row("one", "1 limit", "<= 0.75 x", True, "us", 31.25, "floor", 44.5, 0.702, (0.69, 0.71))
MISSED = Row("two", "10 limits", ">= 7 x", False, "us", 1234.5, note="limits: not installed")
ALSO_MISSED = Row("two", "10 limits more", ">= 7 x", False, note="limits: not installed")
INFORMS = Row("three", "in the server", "", None, "us", 5.0)
ROWS = [MET, MISSED, ALSO_MISSED, INFORMS]


def run(core=0, load_core=1):
    return Run(Server("redis://127.0.0.1:1/0", "9.1.2"), None, 5, core, load_core)


def test_the_table_says_what_was_measured_beside_what_and_whether_it_met_its_target():
    lines = report.rows_table(ROWS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
    assert cells[0] == [
        "one",
        "1 limit",
        "31.2 us",
        "floor 44.5 us",
        "0.70 (0.69 to 0.71)",
        "<= 0.75 x",
        "yes",
    ]
    assert cells[1][2:] == ["1,234 us", "", "", ">= 7 x", "NO [1]"]
    assert cells[3] == ["three", "in the server", "5.00 us", "", "", "", ""]


def test_what_there_is_to_say_stands_once_below_the_table():
    assert report.rows_table(ROWS).splitlines()[6:] == ["[1] limits: not installed"]


def test_columns_stand_below_each_other():
    lines = report.rows_table([MET, INFORMS]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_every_contestant_is_listed_with_its_spread():
    result = Result(
        "limiter",
        "time",
        "us",
        Direction.LOWER,
        (3.0, 1.0, 2.0),
        {"benchmark": "one", "contestant": "limits"},
    )
    line = report.results_table([result]).splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["one", "limits", "2.00 us", "1.50 to 2.50", "1.00", "3"]


def test_what_is_missed_is_counted_and_what_only_informs_is_not():
    assert report.summary(ROWS) == (1, [MISSED, ALSO_MISSED])


def test_json_holds_rows_results_and_the_machine():
    found = json.loads(json.dumps(report.as_json(ROWS, [], {"python": "3.11"})))
    assert (found["met"], found["missed"], found["results"]) == (1, 2, [])
    assert found["machine"] == {"python": "3.11"}
    assert found["rows"][0]["ratio_quartiles"] == [0.69, 0.71]
    assert [row["met"] for row in found["rows"]] == [True, False, False, None]


@pytest.mark.parametrize(
    ("core", "load_core", "said"),
    [(0, 1, "client and server on core 0"), (3, 3, "the only one"), (None, None, "NOT PINNED")],
)
def test_it_says_on_which_cores_it_ran(core, load_core, said):
    assert said in report.cores(run(core, load_core))


def test_the_machine_names_the_versions_a_figure_depends_on():
    found = report.machine(run(), "wrk")
    assert found["valkey-server"] == "9.1.2"
    assert {"redis", "hiredis", "python", "load generator"} <= set(found)
