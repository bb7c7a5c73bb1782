"""A person about to lock themselves out: asked first, on a page that needs no script or mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)

LIMITS = "/admin/ratelimits/ratelimit/"
pytestmark = needs_chromium


def signed_in(browser, url: str, password: str, **options) -> Page:  # noqa: F811
    page = browser.new_context(**options).new_page()
    page.goto(f"{url}/admin/login/")
    page.fill("input[name=username]", "staff")
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{url}/admin/")
    return page


def fits(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def focused_by_tab(page: Page, text: str) -> None:
    """Tab until the control with this text has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == text:
            return
    raise AssertionError(f"{text!r} cannot be reached by keyboard")


def test_a_tight_limit_is_asked_for_in_the_form_and_in_the_list(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
        page = signed_in(browser, demo.url, password, **plain)
        page.goto(f"{demo.url}{LIMITS}add/")
        page.fill("input[name=name]", "tight")
        page.select_option("select[name=path_kind]", "prefix")
        page.fill("input[name=path]", "/admin/")
        page.fill("input[name=quota]", "3")
        page.click("button[name=_continue]")
        expect(
            page.get_by_text("takes 3 requests in a row, where a few pages need 20")
        ).to_be_visible()
        expect(page.get_by_text("manage.py ratelimit disable")).to_be_visible()
        assert page.input_value("input[name=quota]") == "3"
        # Not confirmed, but tried in shadow first, as the text advises.
        page.select_option("select[name=mode]", "shadow")
        page.click("button[name=_continue]")
        page.wait_for_url("**/change/**")

        page.goto(f"{demo.url}{LIMITS}")
        for row in ("tight", "api-together"):
            page.press(f"tr:has-text('{row}') input[name=_selected_action]", "Space")
        page.select_option("select[name=action]", "enforce")
        page.locator("button[name=index]").press("Enter")
        expect(page.get_by_text("Enforce 2 limits? One of them could lock you out")).to_be_visible()
        said = "Each address may call 3 times per minute, any method on /admin/"
        expect(page.get_by_text(said)).to_be_visible()
        expect(page.get_by_text("takes 3 requests in a row")).to_be_visible()
        assert fits(page)
        # Back out, by keyboard.
        page.get_by_text("No, take me back").press("Enter")
        expect(page.locator("tr:has-text('tight')")).to_contain_text("Shadow")

        page = signed_in(browser, demo.url, password, viewport={"width": 1280, "height": 900})
        page.goto(f"{demo.url}{LIMITS}")
        for row in ("tight", "api-together"):
            page.press(f"tr:has-text('{row}') input[name=_selected_action]", "Space")
        page.select_option("select[name=action]", "enforce")
        page.locator("button[name=index]").press("Enter")
        expect(page.get_by_text("Nothing has been changed yet")).to_be_visible()
        focused_by_tab(page, "Enforce only the 1 without objection")
        page.keyboard.press("Enter")
        expect(page.get_by_text("1 of 2 changed to enforce.")).to_be_visible()
        expect(page.locator("tr:has-text('tight')")).to_contain_text("Shadow")
        expect(page.locator("tr:has-text('api-together')")).to_contain_text("Enforce")
        browser.close()


def test_an_override_that_blocks_oneself_is_asked_for(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = signed_in(browser, demo.url, password, viewport={"width": 375, "height": 800})
        page.goto(f"{demo.url}/admin/ratelimits/override/add/")
        page.fill("input[name=network]", "127.0.0.0/8")
        page.select_option("select[name=action]", "blocked")
        page.click("button[name=_continue]")
        expect(page.get_by_text("login: It blocks you at /admin/login/ (POST)")).to_be_visible()
        assert fits(page)
        assert page.input_value("input[name=network]") == "127.0.0.0/8"
        page.click("input[name=lock_out]")
        page.click("button[name=_continue]")
        page.wait_for_url("**/change/**")
        # A limit of the log-in page alone: whoever is in stays in, and takes it back.
        page.goto(page.url.replace("/change/", "/delete/"))
        page.click("button:has-text('Yes, I'), input[value^='Yes, I']")
        page.wait_for_url("**/override/")
        browser.close()
