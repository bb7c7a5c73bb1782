"""Preview beside Save in a browser: in place, without scripts, with errors, and by keyboard."""

from __future__ import annotations

import requests
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, signed_in

ADD = "/admin/ratelimits/ratelimit/add/"
pytestmark = needs_chromium


def describe(page: Page, url: str, quota: str) -> None:
    page.goto(url + ADD)
    page.fill("input[name=name]", "tried")
    page.select_option("select[name=path_kind]", "prefix")
    page.fill("input[name=path]", "/nowhere/")
    page.fill("input[name=quota]", quota)
    page.select_option("select[name=window_unit]", "86400")


def test_a_draft_is_tried_before_it_is_saved(demo, password):  # noqa: F811
    for number in range(40):
        requests.get(f"{demo.url}/nowhere/{number % 3}", timeout=10)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = signed_in(browser, demo.url, password, viewport={"width": 1600, "height": 1000})
        describe(page, demo.url, "10")
        # What was served is recorded a second later.
        page.wait_for_timeout(1_500)
        focus_preview(page)
        page.keyboard.press("Enter")
        verdict = page.locator("#limit-preview .pv-verdict")
        expect(verdict).to_have_text("Would have denied 30 of 40 requests, 1 of 1 client.")
        expect(verdict).to_be_in_viewport()
        assert page.url == demo.url + ADD
        picture(page, "preview")
        page.get_by_role("button", name="Use 40").click()
        assert page.input_value("input[name=quota]") == "40"
        expect(page.locator("#limit-sentence")).to_contain_text("40 times per day")
        page.click("#preview-button")
        expect(verdict).to_contain_text("denied 0 of 40 requests")
        # An error is told by the form, field by field, and nothing that was typed in is lost.
        page.fill("input[name=path]", "nowhere")
        page.click("#preview-button")
        page.wait_for_url("**/preview/")
        expect(page.get_by_text("must begin with '/'")).to_be_visible()
        page.fill("input[name=path]", "/nowhere/")
        page.click("#preview-button")
        expect(verdict).to_contain_text("denied 0 of 40 requests")
        page.click("button[name=_save]")
        page.wait_for_url("**/ratelimit/")
        expect(page.locator("tr:has-text('tried')")).to_contain_text("40 per day")

        plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
        page = signed_in(browser, demo.url, password, **plain)
        describe(page, demo.url, "5")
        page.fill("input[name=name]", "another")
        page.click("#preview-button")
        page.wait_for_url("**/add/preview/")
        expect(page.locator(".pv-verdict")).to_contain_text("Would have denied 35 of 40 requests")
        expect(page.locator("#limit-sentence")).to_contain_text("5 times per day")
        assert page.input_value("input[name=quota]") == "5"
        assert fits(page)
        page.click("button[name=_continue]")
        page.wait_for_url("**/change/")
        assert page.input_value("input[name=quota]") == "5"
        browser.close()


def focus_preview(page: Page) -> None:
    """Its words are its value: it has no text of its own."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "preview-button":
            return
    raise AssertionError("Preview cannot be reached by keyboard")
