"""What the docs say that the code knows, they say as it is now."""

from __future__ import annotations

import argparse
import re
import shlex
from fractions import Fraction
from pathlib import Path

import pytest
from django.core.management.base import CommandParser

from apps.ratelimits.policy.algorithms import EMPTY, decide, standing
from apps.ratelimits.policy.rules import Algorithm
from iota.handbook import commands, drawings, endpoints, models, pages, signals, sizing, tasks
from iota.handbook import timelines as lines
from iota.handbook.__main__ import main
from iota.handbook.svg import SCHEMES

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_no_page_is_out_of_date():
    assert pages.stale(DOCS) == {}, "run `make docs`, and commit what it wrote"


def test_a_page_that_was_edited_by_hand_is_out_of_date(tmp_path, monkeypatch, capsys):
    for name in (*pages.WHOLE, *pages.PARTS):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text((DOCS / name).read_text())
    signals_page, scaling = tmp_path / "reference/signals.md", tmp_path / "overview/scaling.md"
    signals_page.write_text("by hand")
    scaling.write_text(scaling.read_text().replace("1,000,000", "2,000,000", 1))
    monkeypatch.setattr("iota.handbook.__main__.DOCS", tmp_path)
    assert main(["--check"]) == 1
    assert set(pages.stale(tmp_path)) == {signals_page, scaling}
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert signals_page.read_text() == (DOCS / "reference/signals.md").read_text()
    assert "make docs" in capsys.readouterr().err


def test_a_page_without_a_place_for_what_is_made_says_so():
    with pytest.raises(ValueError, match="the page has no <!-- sizes: made by"):
        pages.with_parts("nothing", {"sizes": str})


# --- the reference


def test_every_command_says_what_it_is_for_how_it_ends_and_shows_examples():
    found = list(commands.parsers())
    assert {"doctor", "sweep", "ratelimit explain", "benchmark run"} <= {name for name, *_ in found}
    for name, parser, says in found:
        assert says, name
        assert "exit codes:" in (parser.epilog or ""), name
        assert "examples:" in (parser.epilog or ""), name


def test_every_example_of_a_commands_help_is_understood_by_its_parser():
    by_name = {name: parser for name, parser, _ in commands.parsers()}
    tried = 0
    for parser in by_name.values():
        text = (parser.epilog or "").replace("\\\n", " ")
        examples = text.partition("examples:")[2].partition("\n\n")[0]
        for line in re.findall(r"manage\.py (.+)", examples):
            words = shlex.split(re.split(r" {2,}(?!-)| [|>&]", line)[0])
            name = max((one for one in by_name if _begins(words, one)), key=len)
            try:
                by_name[name].parse_args(words[len(name.split()) :])
            except (SystemExit, argparse.ArgumentError) as error:
                raise AssertionError(line) from error
            tried += 1
    assert tried > 40


def _begins(words: list[str], name: str) -> bool:
    return words[: len(name.split())] == name.split()


def test_exit_codes_are_listed_one_by_one():
    parser = CommandParser(epilog="exit codes: 0 done; 1 it failed, 2 wrong. It waits a second.")
    (listed,) = commands._epilog(parser.epilog or "")
    assert listed == (
        "Exit codes:\n- `0`: done\n- `1`: it failed\n- `2`: wrong\n\nIt waits a second."
    )


def test_every_model_every_task_and_every_signal_says_what_it_is():
    text = models.page()
    for model in models.models():
        assert f"### {model.__name__}\n" in text
        assert not (model.__doc__ or "").startswith(f"{model.__name__}("), model
    for name, task in tasks.tasks().items():
        assert tasks._says(task), name
        assert tasks.queue_of(name), name
    assert all(says for _, says in signals.signals())


def test_every_endpoint_says_what_it_answers():
    site, inner = endpoints.ours()
    assert {"/", "/healthz", "/readyz", "/metrics", "/api/test", "/api/check"} <= {
        one.path for one in site
    }
    assert len(inner) > 20
    assert [one.path for one in (*site, *inner) if not endpoints._row(one)[2]] == []


# --- the algorithms


@pytest.mark.parametrize("name", lines.RATES)
def test_what_is_drawn_is_what_the_arithmetic_says_remains(name):
    rate, state = lines.RATES[name], EMPTY
    for at_s in sorted({*lines.AT_S, *(tenth / 10 for tenth in range(240))}):
        now = round(at_s * lines.S)
        allowed, idle, counted = decide(rate, state, now)
        said = standing(rate, 1, idle.a, idle.b, idle.c, now)
        free = lines.free_units(rate, idle, now)
        assert int(free) == said.remaining
        # A request of one unit is allowed just where a whole one is free.
        assert allowed == (free >= 1)
        state = counted if at_s in lines.AT_S else state


def test_the_worked_time_line_by_hand():
    """Quota 4 per 10 s, worked out on paper."""

    def allowed(name: str) -> list[float]:
        return [step.at_s for step in lines.replay(lines.RATES[name]).steps if step.allowed]

    # A unit each 2.5 s: full at 3.5; 8.5 takes the last whole one, 10.5 what came since.
    assert allowed("token_bucket") == [1, 7, 7.5, 8, 8.5, 10.5, 12, 16, 18, 22]
    # Four in each of [0, 10), [10, 20), [20, 30).
    assert allowed("fixed_window") == [1, 7, 7.5, 8, 10.5, 11, 11.5, 12, 22]
    # At 12 the last window's 4 weigh 3.2; at 16 they weigh 1.6.
    assert allowed("sliding_window") == [1, 7, 7.5, 8, 16, 18, 18.5, 22]
    # At 11 the first has left; at 18 those of 7 to 8 have.
    assert allowed("sliding_log") == [1, 7, 7.5, 8, 11, 18, 18.5, 22]


def test_the_most_in_any_window_is_as_promised():
    worst = {name: lines.most_in_a_window(lines.replay(rate)) for name, rate in lines.RATES.items()}
    assert worst["token_bucket"] <= 2 * lines.QUOTA
    assert lines.QUOTA < worst["fixed_window"] <= 2 * lines.QUOTA
    assert worst["sliding_log"] == lines.QUOTA


def test_the_worked_time_line_of_slots_by_hand():
    found = {one.name: one for one in lines.visits()}
    assert [name for name, one in found.items() if not one.allowed] == ["C", "E", "H"]
    # Nobody gave D's slot back: it is free when its lease of 10 s is over, at 16.
    assert (found["D"].end_s, found["D"].given_back) == (16.0, False)
    assert found["B"].end_s == 8.0


def test_each_drawing_is_of_the_arithmetic_and_in_both_schemes(monkeypatch):
    made = drawings.pictures()
    names = {file.rsplit("/", 1)[1] for file in made}
    for algorithm in Algorithm:
        assert {f"{algorithm}-{scheme}.svg" for scheme in SCHEMES} <= names
    before = made["images/drawn/token_bucket-light.svg"]()
    monkeypatch.setattr(lines, "free_units", lambda *_: Fraction(1))
    assert made["images/drawn/token_bucket-light.svg"]() != before


# --- sizes


def measured(**changes: object) -> sizing.Measured:
    by_limits = {1: 10.0, 3: 20.0, 10: 40.0}
    made: dict[str, object] = {
        "date": "2026-11-26",
        "commit": "abc",
        "about": {},
        "load_average": None,
        "server_cpu_us": by_limits,
        "script_us": by_limits,
        "wire_in_bytes": {1: 200.0, 3: 250.0, 10: 600.0},
        "wire_out_bytes": {1: 20.0, 3: 25.0, 10: 100.0},
        "identity_bytes": by_limits,
        "check_us": 30.0,
        "denied_us": 1.0,
        "leased_us": 1.5,
        "stock_per_s": 2_000.0,
        "stock_without_per_s": 4_000.0,
        "compile_s": 0.3,
    }
    return sizing.Measured(**{**made, **changes})  # type: ignore[arg-type]


def test_a_million_requests_a_second_by_hand():
    needed = sizing.size(measured(), 1_000_000)
    # 20 us each are 20 s of work a second, at half busy 40 threads.
    assert (needed.server_cores, needed.primaries) == (20.0, 40)
    # 250 bytes are 2,000 bits, 25 are 200.
    assert (needed.in_mbit_s, needed.out_mbit_s) == (2_000.0, 200.0)
    # 1,000 each at half busy; without a limiter 2,000.
    assert (needed.web_processes, needed.web_processes_without) == (1_000, 500)
    assert needed.connections_per_node == 2_000
    assert needed.background_per_s == 8_000


def test_leases_make_of_nine_tenths_a_hundredth():
    needed = sizing.size(measured(), 1_000_000, leased_share=0.9)
    assert needed.trips_per_s == pytest.approx(109_000)
    assert needed.primaries == 5


def test_the_recorded_run_has_all_that_the_tables_read():
    found = sizing.read()
    assert found.date
    assert found.commit
    assert found.about["machine"]
    assert sizing.ceiling_per_s(found, 1) > sizing.ceiling_per_s(found, 10) > 1_000
    with pytest.raises(KeyError):
        sizing.read('{"date": "", "commit": "", "machine": {}, "load_average": 1, "results": []}')
    page = (DOCS / "overview/scaling.md").read_text()
    # Every row that is read stands in the command that records it anew.
    assert all(f"--row {row} " in page for row in sizing.ROWS)
