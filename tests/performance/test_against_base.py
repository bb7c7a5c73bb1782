"""Two trees whose runs are told, not measured; everything else is real."""

from __future__ import annotations

import sys

import pytest

from tests.performance.against_base import main

MANAGE = """
import json, pathlib, sys
if sys.argv[1] == "migrate":
    sys.exit({migrate})
path = pathlib.Path("calls")
n = int(path.read_text()) if path.exists() else 0
path.write_text(str(n + 1))
noise = 1 + (n * 7 % 5 - 2) / 100
row = dict(suite="limiter", benchmark="check", metric="time", contestant="iota",
           parameters={{}}, unit="us", direction="lower", ignored=False, p50={us} * noise)
other = {{**row, "benchmark": "other", "metric": "rate", "unit": "requests/s",
          "direction": "higher", "p50": {rate} * noise}}
peer = {{**row, "contestant": "peer", "ignored": True, "p50": 1.0 + 9 * n}}
print(json.dumps({{"measurements": [row, other, peer]}}))
"""


@pytest.fixture
def tree(tmp_path):
    def make(name, us=100.0, rate=1000.0, migrate=0):
        root = tmp_path / name
        (root / ".venv" / "bin").mkdir(parents=True)
        (root / ".venv" / "bin" / "python").symlink_to(sys.executable)
        (root / "manage.py").write_text(MANAGE.format(us=us, rate=rate, migrate=migrate))
        return root

    return make


def compared(base, head, tmp_path):
    path = tmp_path / "summary.md"
    status = main([str(base), "--head", str(head), "--summary", str(path)])
    return status, path.read_text()


def test_the_same_speed_is_no_regression_and_both_were_run_in_turns(tree, tmp_path):
    base, head = tree("base"), tree("head")
    status, text = compared(base, head, tmp_path)
    assert (status, "## Nothing became worse" in text) == (0, True)
    assert ((base / "calls").read_text(), (head / "calls").read_text()) == ("10", "5")
    assert "peer" not in text


@pytest.mark.parametrize("change", [{"us": 125.0}, {"rate": 800.0}])
def test_a_quarter_slower_is_confirmed_and_fails(tree, tmp_path, change):
    status, text = compared(tree("base"), tree("head", **change), tmp_path)
    assert status == 1
    assert "## 1 of 2 metrics became worse" in text
    assert "| 1.25 " in text
    assert "confirmed |" in text


def test_an_improvement_fails_nothing(tree, tmp_path):
    status, text = compared(tree("base"), tree("head", us=70.0), tmp_path)
    assert (status, "faster than the last 10 runs, confirmed" in text) == (0, True)


def test_a_base_that_cannot_be_measured_is_said_and_fails_nothing(tree, tmp_path):
    status, text = compared(tree("base", migrate=1), tree("head"), tmp_path)
    assert (status, "## Not compared" in text) == (0, True)


def test_a_head_that_cannot_be_measured_fails(tree, tmp_path):
    status, text = compared(tree("base"), tree("head", migrate=1), tmp_path)
    assert (status, "manage.py migrate" in text) == (2, True)
