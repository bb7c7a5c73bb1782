"""Explain and identities in a browser: from a denial to a person who is helped."""

from __future__ import annotations

import re

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
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

LIMITS = "/admin/ratelimits/ratelimit/"
EXPLAIN = f"{LIMITS}explain/"
IDENTITY = f"{LIMITS}identity/"
pytestmark = needs_chromium
PHONE = {"width": 375, "height": 800}
WIDE = {"width": 1600, "height": 1000}


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


@pytest.fixture(scope="module")
def denied(demo):  # noqa: F811
    """A visitor who has used up what they may, and asked on."""
    for _ in range(130):
        last = requests.get(f"{demo.url}/api/test", timeout=5).status_code
    assert last == 429


def test_a_denial_is_picked_explained_and_reset(demo, browser, password, denied):  # noqa: F811
    page = signed_in(browser, demo.url, password, viewport=WIDE)
    page.get_by_role("link", name="Explain").first.click()
    expect(page.locator("#recent")).to_contain_text("Denied last")
    for _ in range(20):
        if page.locator("#recent li").count():
            break
        page.wait_for_timeout(250)
        page.reload()
    row = page.locator("#recent li", has_text="api-per-address").first
    expect(row).not_to_contain_text("127.0.0.1")
    row.get_by_role("link", name="GET /api/test").click()
    expect(page.locator("#verdict h2")).to_contain_text("by api-per-address")
    expect(page.locator("#limits")).to_contain_text("of 100 used")
    expect(page.locator("#missed")).to_contain_text("login")
    expect(page.locator("#verdict")).to_contain_text("known by digests alone")
    picture(page, "explain")
    page.get_by_role("link", name="Look at this identity: reset").click()
    expect(page.locator("#standing")).to_contain_text("api-per-address")
    expect(page.locator("#help")).to_contain_text("It can be reset, and not blocked or exempt")
    typed = signed_in(browser, demo.url, password, viewport=WIDE)
    typed.goto(demo.url + IDENTITY)
    typed.fill("input[name=address]", "127.0.0.1")
    typed.get_by_role("button", name="Look", exact=True).click()
    expect(typed.locator("#standing")).to_contain_text("of 100 used; all free again in")
    picture(typed, "identity")
    typed.context.close()
    page.get_by_role("button", name="Reset…").click()
    expect(page.locator("#asked")).to_contain_text("begins with a full quota, in 2 processes")
    page.get_by_role("button", name="Yes, reset").click()
    expect(page.get_by_text("are forgotten, in every process within 1 s")).to_be_visible()
    # In force in both processes of the site, whichever answers.
    page.wait_for_timeout(1_000)
    answers = {requests.get(f"{demo.url}/api/test", timeout=5).status_code for _ in range(10)}
    assert answers == {200}
    page.context.close()


def test_a_typed_request_without_scripts_on_a_phone(demo, browser, password):  # noqa: F811
    page = signed_in(browser, demo.url, password, viewport=PHONE, java_script_enabled=False)
    page.goto(demo.url + EXPLAIN)
    assert fits(page)
    page.select_option("select[name=method]", "POST")
    page.fill("input[name=path]", "/admin/login/")
    page.fill("input[name=address]", "203.0.113.9")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#verdict h2")).to_contain_text("Allowed: one limit counts it")
    expect(page.locator("#limits")).to_contain_text("login")
    expect(page.locator("#address")).to_contain_text("that is the client")
    assert page.input_value("input[name=path]") == "/admin/login/"
    assert fits(page)
    page.fill("input[name=path]", "no-path")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("A path begins with '/'")).to_be_visible()
    page.context.close()


def test_blocked_in_two_clicks_and_exempt_in_two_more(demo, browser, password):  # noqa: F811
    """From what is typed to the identity, by keyboard at the end; nobody is left blocked."""
    page = signed_in(browser, demo.url, password, viewport=WIDE)
    page.goto(demo.url + IDENTITY)
    expect(page.locator("#empty")).to_contain_text("a bar for every limit")
    page.fill("input[name=address]", "198.51.100.7")
    page.get_by_role("button", name="Look", exact=True).click()
    expect(page.locator("#standing")).to_contain_text("api-per-address")
    page.get_by_role("button", name="Block 198.51.100.7…").click()
    expect(page.locator("#asked h2")).to_contain_text("Block 198.51.100.7 until")
    expect(page.locator("#asked")).to_contain_text(
        re.compile(r"is answered with 429, in \d process(es)? within a second")
    )
    picture(page, "identity-block")
    page.fill("input[name=reason]", "a scraper")
    page.get_by_role("button", name="Yes, block").click()
    expect(page.get_by_text("Blocked: 198.51.100.7, until")).to_be_visible()
    expect(page.locator("#overrides")).to_contain_text("a scraper")

    page.goto(demo.url + EXPLAIN)
    page.fill("input[name=path]", "/api/test")
    page.fill("input[name=address]", "198.51.100.7")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#verdict h2")).to_contain_text("Denied by an override of api-per-address")
    page.get_by_role("button", name="Look at this identity").click()
    expect(page.locator("#standing")).to_contain_text("198.51.100.7")

    page.get_by_label("for a week").check()
    focused_by_tab(page, "Exempt 198.51.100.7…")
    page.keyboard.press("Enter")
    expect(page.locator("#asked")).to_contain_text("The override that is there for it already")
    focused_by_tab(page, "Yes, exempt")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Exempt: 198.51.100.7, until")).to_be_visible()
    page.context.close()


def test_light_dark_narrow_and_wide(demo, browser, password, denied):  # noqa: F811
    for viewport, scheme in ((PHONE, "dark"), (WIDE, "dark"), (PHONE, "light")):
        page = signed_in(browser, demo.url, password, viewport=viewport, color_scheme=scheme)
        page.goto(demo.url + EXPLAIN)
        page.fill("input[name=path]", "/api/test")
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#limits")).to_contain_text("api-per-address")
        assert fits(page)
        page.get_by_role("button", name="Look at this identity").click()
        expect(page.locator("#standing")).to_contain_text("api-per-address")
        assert fits(page)
        page.context.close()
