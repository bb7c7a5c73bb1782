"""The doctor's page in a browser: run by its button, without a script, by keyboard, on a small
screen."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.databases import rows
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    ROOT,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import fits, focused_by_tab, signed_in

PAGE = "/admin/monitoring/diagnosis/"
DONE_MS = 60_000
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def _never_asked(demo):  # noqa: F811
    rows(demo.environment["DATABASE_URL"], "DELETE FROM monitoring_diagnosis")


def test_a_diagnosis_without_a_script_on_a_small_screen(demo, browser, password):  # noqa: F811
    plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
    page = signed_in(browser, demo.url, password, **plain)
    page.goto(demo.url + PAGE)
    expect(page.locator("#verdict")).to_contain_text("the doctor has not looked")
    assert fits(page)
    page.get_by_role("button", name="Run", exact=True).press("Enter")
    # The page reloads by itself until it is done.
    expect(page.locator("#verdict")).to_contain_text("it took", timeout=DONE_MS)
    expect(page.locator("#progress")).to_have_count(0)
    headings = ["High Redis latency", "Rate limiter performance", "Configuration performance"]
    shown = page.locator("section h2").all_inner_texts()
    assert [text for text in headings if not any(one.startswith(text) for one in shown)] == []
    for wrong in page.locator(".doctor-finding.doctor-error, .doctor-finding.doctor-warning").all():
        for part in ("Where", "Evidence", "To do", "Code"):
            expect(wrong.locator("dt", has_text=part)).to_be_visible()
    # Its workers and beat are seen, and so is this one.
    for details in page.locator("details:not([open]) > summary").all()[::-1]:
        details.press("Enter")
    for queue in ("celery", "benchmarks", "monitoring"):
        expect(page.locator("dd", has_text=f"queue {queue}").first).to_be_visible()
    assert page.locator("dd code", has_text="hook-failed").count() == 0
    assert fits(page)
    page.context.close()


def test_it_is_run_again_by_keyboard_and_the_earlier_one_stays(demo, browser, password):  # noqa: F811
    wide = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"}
    page = signed_in(browser, demo.url, password, **wide)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(demo.url + PAGE)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#verdict")).to_contain_text("it took", timeout=DONE_MS)
    before = page.locator("#earlier tbody tr").count()
    focused_by_tab(page, "Run again")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{PAGE}")
    expect(page.locator("#earlier tbody tr")).to_have_count(before + 1, timeout=DONE_MS)
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    page.locator("#earlier tbody a").last.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("An earlier one")
    assert errors == []
    page.context.close()
