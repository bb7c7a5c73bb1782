"""A load test from the admin, in a browser: started, watched to its verdict, another stopped."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

LIST = "/admin/benchmarks/loadtest/"
VERDICTS = re.compile("Met|Missed|Invalid")
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


def test_a_load_test_is_started_and_watched_to_its_verdict(demo, browser, password):  # noqa: F811
    page = signed_in(browser, demo.url, password, viewport={"width": 1600, "height": 1000})
    page.goto(demo.url + LIST)
    expect(page.get_by_text("No load test yet.")).to_be_visible()
    page.get_by_label("Users", exact=True).fill("5")
    page.get_by_label("Seconds").fill("8")
    focused_by_tab(page, "Start")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The load test waits for a worker.")).to_be_visible()
    test = page.url
    expect(page.get_by_role("progressbar")).to_be_visible(timeout=60_000)
    expect(page.locator("#progress")).to_contain_text("of the last 10 s", timeout=20_000)
    picture(page, "load-test-running")
    expect(page.locator("#state")).to_contain_text(VERDICTS, timeout=60_000)
    # The demo's own limits were checked: 100 in a minute for one address, which all users share.
    expect(page.locator("#lines")).to_contain_text("api-per-address:")
    expect(page.locator("#lines")).to_contain_text("1 identity")
    picture(page, "load-test")
    page.goto(demo.url + LIST)
    expect(page.locator("#result_list")).to_contain_text("5 users for 8 s")
    picture(page, "load-tests")
    page.context.close()

    plain = {
        "java_script_enabled": False,
        "viewport": {"width": 375, "height": 800},
        "color_scheme": "dark",
    }
    page = signed_in(browser, demo.url, password, **plain)
    for address in (test, demo.url + LIST):
        page.goto(address)
        assert fits(page)
        picture(page, f"load-test-small-{address == test}")
    page.get_by_label("Users", exact=True).fill("3")
    page.get_by_label("Seconds").fill("300")
    page.get_by_role("button", name="Start", exact=True).press("Enter")
    page.get_by_role("button", name="Stop it").press("Enter")
    expect(page.get_by_text("is to stop.")).to_be_visible()
    expect(page.locator("#state")).to_contain_text("stopped before its time", timeout=60_000)
    page.context.close()
