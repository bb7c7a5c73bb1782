"""A limit's usage in a browser: of real traffic, drawn, read from its table, without a script."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    ROOT,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

LIST = "/admin/ratelimits/ratelimit/"
PAGE = f"{LIST}1/usage/"
DRAWN = """() => [...document.querySelectorAll(".us-charts canvas")].map((canvas) => {
  const chart = Chart.getChart(canvas);
  const box = canvas.getBoundingClientRect();
  return {
    said: chart.data.datasets[0].data.filter((dot) => dot.said).map((dot) => dot.said[0]),
    edits: chart.data.datasets.at(-1).data.filter((dot) => dot.said).length,
    height: box.height,
    width: box.width,
  };
})"""
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def counted(demo, browser, password):  # noqa: F811
    """The demo with a month of usage in place of its own. Before that, its own is seen."""
    page = signed_in(browser, demo.url, password, viewport={"width": 1280, "height": 900})
    page.goto(demo.url + PAGE)
    expect(page.get_by_text("This limit was asked about no request in this time.")).to_be_visible()
    answers = [requests.get(f"{demo.url}/api/test", timeout=5).status_code for _ in range(130)]
    denied = answers.count(429)
    assert denied
    for _ in range(20):
        page.goto(demo.url + PAGE)
        if f"\n{denied} " in page.inner_text("#numbers"):
            break
        page.wait_for_timeout(500)
    expect(page.locator("#numbers")).to_contain_text(f"Denied{denied} ")
    page.context.close()
    command = [sys.executable, "-m", "tests.e2e.usage_history"]
    subprocess.run(command, cwd=ROOT, env=demo.environment, check=True)
    return demo.url


def table(page) -> list[list[str]]:
    rows = page.locator("#points tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def test_what_a_limit_did_is_drawn_and_in_a_table(counted, browser, password):  # noqa: F811
    page = signed_in(browser, counted, password, viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(counted + LIST)
    spark = page.locator("tr:has-text('api-per-address') .us-spark")
    expect(spark.locator(".us-said")).to_contain_text("denied in 24 hours, most from")
    assert spark.locator("rect").count() > 3
    for _ in range(20):
        if "In force in" in page.inner_text("#in-force"):
            break
        page.wait_for_timeout(250)
        page.reload()
    picture(page, "limits")
    page.get_by_role("link", name="api-per-address").first.click()
    page.wait_for_url("**/change/**")
    page.get_by_role("link", name="Usage").click()
    page.wait_for_url("**/usage/")
    page.get_by_role("link", name="Last day").click()
    page.wait_for_url("**period=day**")
    expect(page.get_by_role("heading", name="Each 15 minutes")).to_be_visible()
    rows = table(page)
    assert len(rows) == 97
    assert rows[0][0].endswith("so far")
    allowed, denied = page.evaluate(DRAWN)
    # The chart has the table's figures, without the time that is under way.
    assert allowed["said"] == [f"{row[1]} allowed" for row in rows[:0:-1]]
    assert denied["said"] == [f"{row[2]} denied" for row in rows[:0:-1]]
    assert len({row[2] for row in rows}) > 10
    assert allowed["edits"] == denied["edits"] == 1
    assert min(allowed["height"], allowed["width"], denied["height"], denied["width"]) > 150
    expect(page.locator("#edits")).to_contain_text("api-per-address edited: burst")
    expect(page.locator("#edits")).to_contain_text("staff")
    expect(page.locator("#in-force")).to_contain_text("In force in")
    assert fits(page)
    picture(page, "usage")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert download.value.suggested_filename == "usage-api-per-address-day.csv"
    assert [line.split(",")[1] for line in lines[1:]] == [
        row[1].replace(",", "") for row in reversed(rows)
    ]
    assert errors == []
    page.context.close()


def test_a_phone_in_the_dark_without_a_script(counted, browser, password):  # noqa: F811
    plain = {
        "java_script_enabled": False,
        "viewport": {"width": 375, "height": 800},
        "color_scheme": "dark",
    }
    page = signed_in(browser, counted, password, **plain)
    page.goto(f"{counted}{LIST}?denied=day")  # In the last hour nobody is by night.
    expect(page.get_by_text("api-per-address").first).to_be_visible()
    assert page.get_by_text("api-together").count() == 0
    assert fits(page)
    page.goto(f"{counted}{LIST}2/usage/")
    assert fits(page)
    expect(page.get_by_text("Shadow, which never blocks")).to_be_visible()
    page.get_by_role("link", name="Last month").press("Enter")
    page.wait_for_url("**period=month**")
    assert len(table(page)) in (120, 121, 122)
    assert fits(page)
    page.context.close()
    page = signed_in(browser, counted, password, viewport={"width": 1280, "height": 900})
    page.goto(f"{counted}{LIST}2/usage/")
    focused_by_tab(page, "Last month")
    page.context.close()


def test_a_long_name_and_nothing_to_tell(counted, browser, password):  # noqa: F811
    page = signed_in(browser, counted, password, viewport={"width": 375, "height": 800})
    page.goto(f"{counted}{LIST}?q=partners")
    page.locator(".us-spark").first.click()
    page.wait_for_url("**/usage/?period=day")
    expect(page.get_by_text("This limit was asked about no request in this time.")).to_be_visible()
    assert page.locator("#points").count() == 0
    assert fits(page)
    page.context.close()
