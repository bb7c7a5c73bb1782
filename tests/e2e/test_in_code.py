"""A name in code becomes a limit, in a browser."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import CHROMIUM, CHROMIUM_FLAGS, needs_chromium
from tests.sites import manage, running

pytestmark = needs_chromium
LIST = "/admin/ratelimits/ratelimit/"
PASSWORD = "a-password-of-this-test"
LONG = "reports-of-the-whole-year-for-every-shop"


@pytest.fixture
def site(tmp_path):
    with running(tmp_path, {}, settings="tests.shop_settings") as (site, _):
        make = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("ada", password="{PASSWORD}")
"""
        manage(site.environment, "shell", "--verbosity", "0", "-c", make)
        yield site.start()


def opened(browser, url, **options):
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/admin/")
    page.fill("#id_username", "ada")
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    expect(page).to_have_url(f"{url}/admin/", timeout=60_000)
    return page


def fits(page) -> bool:
    """Nothing makes the page scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_a_name_in_code_becomes_a_limit(site):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        phone = {"width": 375, "height": 800}
        dark = opened(browser, site.url, color_scheme="dark", viewport=phone)
        dark.goto(site.url + LIST)
        expect(dark.locator("#wanted")).to_contain_text(LONG)
        assert fits(dark)
        picture(dark, "in-code-phone")

        page = opened(browser, site.url, viewport={"width": 1280, "height": 700})
        page.goto(site.url + LIST)
        wanted = page.locator("#wanted")
        expect(wanted).to_contain_text("tests.shop.export (rate_limit) at /shop/export")
        picture(page, "in-code")
        page.get_by_role("link", name="Make this limit: exports").press("Enter")
        expect(page.locator("#id_name")).to_have_value("exports")
        expect(page.locator("#id_path_kind")).to_have_value("named")
        expect(page.locator("#id_path")).to_be_hidden()
        page.fill("#id_quota", "1")
        page.select_option("#id_window_unit", "3600")
        expect(page.locator("#limit-sentence")).to_contain_text(
            "once per hour, any method where code asks for this name"
        )
        page.get_by_role("button", name="Save and continue editing").click()
        used = page.get_by_text("tests.shop.report (rate_limit) at /shop/report")
        expect(used).to_be_visible()
        used.scroll_into_view_if_needed()
        picture(page, "used-in-code")

        for _ in range(50):
            denied = requests.get(f"{site.url}/shop/export", timeout=5)
            if denied.status_code == 429:
                break
            page.wait_for_timeout(100)
        assert denied.json()["violated-policies"] == ["exports"]

        plain = opened(browser, site.url, java_script_enabled=False, viewport=phone)
        plain.goto(site.url + LIST)
        wanted = plain.locator("#wanted")
        expect(wanted).to_contain_text(LONG)
        expect(wanted.get_by_role("link")).to_have_count(1)
        wanted.get_by_role("link").click()
        expect(plain.locator("#id_name")).to_have_value(LONG)
        assert fits(plain)
        browser.close()
