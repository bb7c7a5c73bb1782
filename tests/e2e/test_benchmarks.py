"""The benchmarks' pages in a browser: each is opened, and its numbers are read from its table."""

from __future__ import annotations

import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    ROOT,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

PAGES = "/admin/benchmarks"
TRENDS = f"{PAGES}/metric/trends/"
RUNS = f"{PAGES}/benchmarkrun/"
REGRESSIONS = f"{PAGES}/regression/"
pytestmark = needs_chromium


@pytest.fixture
def site(demo):  # noqa: F811
    """The demo, after two and a half days of runs: anew, whatever the test before decided."""
    command = [sys.executable, "-m", "tests.e2e.benchmark_history"]
    subprocess.run(command, cwd=ROOT, env=demo.environment, check=True)
    return demo.url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


def table(page: Page, name: str) -> list[list[str]]:
    """Its rows as they are read; a table that lies out of sight is read too."""
    rows = page.locator(f"#{name} tbody tr")
    return [row.locator("th, td").all_inner_texts() for row in rows.all()]


def test_trends_are_drawn_and_told(site, browser, password):  # noqa: F811
    page = signed_in(browser, site, password, viewport={"width": 1600, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site + TRENDS)
    expect(page.locator("#verdict")).to_have_text("25 % slower since 0000032, confirmed.")
    rows = table(page, "points")
    assert len(rows) == 60
    newest, flagged = rows[0], next(row for row in rows if "worse" in row[-1])
    assert newest[1:3] == ["127", "2.54"]
    assert flagged[4:] == ["0000032", "▲ worse: confirmed ■ another level begins"]
    (level,) = table(page, "levels")
    assert level[1:] == ["0000032", f"Run {flagged[0]}", "100 us", "125 us", "26 % slower"]
    assert "Release 1.4" in [row[2] for row in table(page, "happened")]
    # The chart has the table's points, and says of the one below the mouse what the table says.
    drawn = page.evaluate(
        """() => {
          const chart = Chart.getChart(document.querySelector("#trend canvas"));
          const index = chart.data.datasets.findIndex((one) => one.label === "Median of a run");
          const { x, y } = chart.getDatasetMeta(index).data.at(-1);
          return [chart.data.datasets[index].data.length, x, y];
        }"""
    )
    assert drawn[0] == len(rows)
    page.locator("#trend canvas").hover(position={"x": drawn[1], "y": drawn[2]})
    said = "() => Chart.getChart(document.querySelector('#trend canvas')).tooltip.body[0]?.lines"
    page.wait_for_function(said)
    assert page.evaluate(said)[:2] == ["127 us ± 2.54", f"Run {newest[0]} of 000003b"]
    # A click on a point opens its run.
    page.locator("#trend canvas").click(position={"x": drawn[1], "y": drawn[2]})
    page.wait_for_url(f"**/benchmarkrun/{newest[0]}/change/")
    assert errors == []
    page.context.close()


def test_a_run_a_comparison_and_what_is_open_without_a_script(site, browser, password):  # noqa: F811
    plain = {
        "java_script_enabled": False,
        "viewport": {"width": 375, "height": 800},
        "color_scheme": "dark",
    }
    page = signed_in(browser, site, password, **plain)
    page.goto(site + TRENDS)
    assert fits(page)
    page.select_option("select[name=metric]", label="http requests")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page.locator("#metric")).to_have_text("http requests")
    rows = table(page, "points")
    assert rows[0][1] == "19,851"

    page.goto(site + TRENDS)
    page.locator("#points tbody a").first.press("Enter")
    page.wait_for_url("**/change/")
    measured = {row[0]: row[1:6] for row in table(page, "measurements")}
    assert measured["check time ours"] == ["127 us", "2.54", "153", "165", "5"]
    assert measured["http requests"][0] == "19,851 requests/s"
    expect(page.locator("#environment")).to_contain_text("1,234 us")
    assert fits(page)
    run = page.url

    page.get_by_role("link", name="Compare with its baseline").press("Enter")
    expect(page.locator("#comparison tbody tr")).to_have_count(2)
    compared = table(page, "comparison")
    assert [row[0] for row in compared] == ["check time ours", "http requests"]
    assert fits(page)
    page.goto(run)
    page.get_by_role("button", name="Compare", exact=True).press("Enter")
    expect(page.locator("#verdict")).to_contain_text("Two runs say little")
    assert table(page, "comparison")[0][2] in ("127 us", "19,851 requests/s", "123,456,000 bytes")

    page.goto(site + REGRESSIONS)
    expect(page.locator("#verdict")).to_contain_text("2 open, the worst 25 % slower.")
    first = page.locator(".open-regression").first
    for text in ("125 us", "100 us ± 1.50", "p < 0.001", "5 of 5 over the threshold"):
        expect(first).to_contain_text(text)
    assert table(page, "closed")[0][1:3] == ["30 % faster", "Accepted as the new baseline"]
    assert fits(page)

    page.goto(site + RUNS)
    expect(page.get_by_text("Running: 3 of 12, now check-3")).to_be_visible()
    assert fits(page)
    page.context.close()


def test_a_regression_is_handled_by_keyboard(site, browser, password):  # noqa: F811
    page = signed_in(browser, site, password, viewport={"width": 1280, "height": 900})
    page.goto(site + REGRESSIONS)
    focused_by_tab(page, "Acknowledge")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Acknowledged: it stays open")).to_be_visible()
    page.goto(site + TRENDS)
    expect(page.locator("#verdict")).to_contain_text("confirmed, and acknowledged")
    page.goto(site + REGRESSIONS)
    # Without a reason the browser does not even send it.
    first = page.locator(".open-regression").first
    first.get_by_role("button", name="Accept as baseline").press("Enter")
    assert page.evaluate("document.activeElement.name") == "reason"
    first.get_by_label("Reason").fill("Each check does more since then.")
    first.get_by_role("button", name="Accept as baseline").press("Enter")
    expect(page.get_by_text("Accepted: the series begins anew")).to_be_visible()
    assert table(page, "closed")[0][-1] == "Each check does more since then."
    page.context.close()


def test_a_set_is_asked_for_and_stopped(site, browser, password):  # noqa: F811
    """The run that the history left running keeps it waiting: nothing is measured here."""
    page = signed_in(browser, site, password, viewport={"width": 1280, "height": 900})
    page.goto(site + RUNS)
    page.get_by_label("Run now").select_option("quick")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("The quick set waits for a worker.")).to_be_visible()
    newest = table(page, "result_list")[0]
    assert [text.strip() for text in newest if "quick" in text] == ["quick set"]
    page.get_by_role("button", name="Stop run").last.click()
    expect(page.get_by_text("is to stop: nothing of it is kept.")).to_be_visible()
    assert "STOPPED" in " ".join(table(page, "result_list")[0])
    page.context.close()
