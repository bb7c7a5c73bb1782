"""The clean-up's page in a browser: counted, swept by the demo's worker, and told."""

from __future__ import annotations

from playwright.sync_api import expect, sync_playwright

from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

PAGE = "/admin/ratelimits/sweeprun/"
pytestmark = needs_chromium


def test_staff_count_and_then_sweep(demo, password):  # noqa: F811
    """Without scripts, on a phone, by keyboard."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
        page = signed_in(browser, demo.url, password, **plain)
        page.goto(demo.url + PAGE)
        assert fits(page)
        focused = signed_in(browser, demo.url, password, viewport={"width": 375, "height": 800})
        focused.goto(demo.url + PAGE)
        focused_by_tab(focused, "Count only")
        for number, button in enumerate(("Count only", "Run now"), 1):
            page.get_by_role("button", name=button).click()
            expect(page.get_by_text("begins when a worker takes it")).to_be_visible()
            for _ in range(60):
                page.wait_for_timeout(500)
                page.goto(demo.url + PAGE)
                going = page.locator("#running").count()
                if not going and page.locator("#runs tbody tr").count() >= number:
                    break
            expect(page.locator("#runs")).to_contain_text("Done, only counted")
            expect(page.locator("#run-now")).to_contain_text("keys would be removed")
        expect(page.locator("#keeps-up")).to_contain_text("The last pass went through all keys")
        assert fits(page)
        browser.close()
