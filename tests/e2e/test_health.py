"""The health page in a browser: drawn, read from its tables, by keyboard, and without a script."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.test_benchmarks import table
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    ROOT,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

PAGE = "/admin/monitoring/source/health/"
PAUSE = """
import time
from django_celery_beat.models import PeriodicTask, PeriodicTasks
for row in PeriodicTask.objects.filter(task__startswith="monitoring."):
    row.enabled = False
    row.save()
time.sleep(12)
"""
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def watched(demo, browser, password):  # noqa: F811
    """The demo with a week of samples in place of its own. Before that, its own are seen."""
    page = signed_in(browser, demo.url, password, viewport={"width": 1280, "height": 900})
    page.goto(demo.url + PAGE)
    # By itself, within two rounds of the demo's worker.
    for _ in range(30):
        if page.locator("#nodes tbody tr").count() and "just now" in page.inner_text("#verdict"):
            break
        page.wait_for_timeout(1_000)
        page.reload()
    assert table(page, "nodes")[0][0].startswith("127.0.0.1:")
    page.context.close()
    pause = [sys.executable, "manage.py", "shell", "-v", "0", "-c", PAUSE]
    for command in (pause, [sys.executable, "-m", "tests.e2e.watch_history"]):
        subprocess.run(command, cwd=ROOT, env=demo.environment, check=True)
    return demo.url


def test_each_server_is_told_and_drawn(watched, browser, password):  # noqa: F811
    page = signed_in(browser, watched, password, viewport={"width": 1600, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{watched}{PAGE}")
    rows = {row[0].split("\n")[0]: row for row in table(page, "nodes")}
    assert rows["10.0.0.6:6379"][1] == "▲ does not answer"
    assert rows["10.0.0.5:6379"][1] == "? gone"
    assert rows["10.0.0.4:6379"][3] == "? unknown"
    assert "93 %" in rows["10.0.0.1:6379"][3]
    why = [row[2] for row in table(page, "unknown") if row[0] == "10.0.0.4:6379"]
    assert why
    assert "no permissions to run the 'info' command" in why[0]
    page.get_by_role("link", name="10.0.0.1:6379").click()
    page.wait_for_url("**source=**")
    # The chart has the table's figures, and says of a point what the table says.
    newest = table(page, "points")[0]
    assert "93 %" in newest[1]  # alone, or the highest of the two samples of a point
    drawn = page.evaluate(
        """() => {
          const chart = Chart.getChart(document.querySelector("#charts canvas"));
          const dots = chart.data.datasets[0].data.filter((one) => one.y !== null);
          const box = chart.canvas.getBoundingClientRect();
          return [dots.length, dots.at(-1).said[0], box.width, box.height];
        }"""
    )
    assert drawn[0] > 100
    assert drawn[1] == newest[1]
    assert min(drawn[2:]) > 100
    assert errors == []
    assert fits(page)
    page.context.close()


def test_a_period_is_chosen_by_keyboard_and_without_a_script(watched, browser, password):  # noqa: F811
    plain = {
        "java_script_enabled": False,
        "viewport": {"width": 375, "height": 800},
        "color_scheme": "dark",
    }
    page = signed_in(browser, watched, password, **plain)
    page.goto(watched + PAGE)
    assert fits(page)
    page.select_option("select[name=source]", label="10.0.0.3:6379")
    page.select_option("select[name=period]", "week")
    page.get_by_role("button", name="Show").press("Enter")
    page.wait_for_url("**period=week**")
    expect(page.get_by_role("heading", name="Over a week")).to_be_visible()
    assert len(table(page, "points")) == 60
    assert fits(page)
    page.context.close()
    page = signed_in(browser, watched, password, viewport={"width": 1280, "height": 900})
    page.goto(watched + PAGE)
    focused_by_tab(page, "Show")
    page.context.close()
