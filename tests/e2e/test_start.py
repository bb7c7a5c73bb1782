"""The admin's start page in a browser: what real traffic and a real edit make of it."""

from __future__ import annotations

import time

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, signed_in

TOGETHER = "/admin/ratelimits/ratelimit/2/change/"
ROLLED_UP_S = 150
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def page(demo, browser, password):  # noqa: F811
    """After some denials, once they are rolled up, and an edit."""
    answers = [requests.get(f"{demo.url}/api/test", timeout=5).status_code for _ in range(130)]
    page = signed_in(browser, demo.url, password, viewport={"width": 1280, "height": 900})
    page.goto(demo.url + TOGETHER)
    page.fill("#id_quota", "90000")
    page.fill("#id_change_reason", "room for partners")
    page.click('button[name="_save"], input[name="_save"]')
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    page.denied = answers.count(429)
    until_s = time.monotonic() + ROLLED_UP_S
    while time.monotonic() < until_s:
        page.goto(f"{demo.url}/admin/")
        if "of 130" in page.inner_text("#start-deniers >> .."):
            break
        page.wait_for_timeout(2_000)
    return page


def test_it_says_what_happens_now_and_what_denies_most(page):
    page.reload()
    numbers = page.locator(".start-number")
    expect(numbers).to_have_count(4)
    expect(numbers.nth(0)).to_contain_text("Allowed")
    expect(numbers.nth(3)).to_contain_text("round trip")
    said = numbers.nth(3).locator("svg").get_attribute("aria-label")
    assert said.startswith("The last hour: ")
    (row,) = page.locator('section[aria-labelledby="start-deniers"] tr').all()
    expect(row).to_contain_text("api-per-address")
    expect(row).to_contain_text(f"{page.denied}")
    expect(row).to_contain_text("of 130")


def test_the_last_edit_says_who_and_why(page):
    page.reload()
    first = page.locator('section[aria-labelledby="start-edits"] li').first
    expect(first).to_contain_text("api-together edited: quota")
    expect(first).to_contain_text("staff")
    expect(first).to_contain_text("room for partners")


def test_each_part_leads_to_where_it_is_looked_into(page, demo):  # noqa: F811
    start = f"{demo.url}/admin/"
    for chosen, title in (
        (".start-number >> nth=0", "Health"),
        (".start-card >> nth=0", "Alerts"),
        ('section[aria-labelledby="start-deniers"] a', "Usage over the last hour"),
        ('section[aria-labelledby="start-edits"] li a >> nth=0', "api-together"),
        ("#start-edits a", "Recent edits"),
    ):
        page.goto(start)
        page.locator(chosen).focus()
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: url != start)
        expect(page.locator("body")).to_contain_text(title)
    page.goto(start)
    picture(page, "start")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, demo, password, page, scheme):  # noqa: F811
    narrow = signed_in(
        browser, demo.url, password, viewport={"width": 375, "height": 800}, color_scheme=scheme
    )
    narrow.goto(f"{demo.url}/admin/")
    expect(narrow.locator(".start-panel")).to_have_count(2)
    assert fits(narrow)
    narrow.context.close()
