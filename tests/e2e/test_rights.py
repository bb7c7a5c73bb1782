"""An editor is told what is not theirs; a limit goes back to what it was. In a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import CHROMIUM, CHROMIUM_FLAGS, needs_chromium
from tests.e2e.test_lockout import fits, focused_by_tab
from tests.sites import SiteProcess, manage, running

LIMITS = "/admin/ratelimits/ratelimit/"
PASSWORD = "a long one for tests"
ROWS = f"""
from django.contrib.auth.models import Group, User
from apps.ratelimits.models import RateLimit
User.objects.create_superuser("grace", password="{PASSWORD}")
edith = User.objects.create_user("edith", password="{PASSWORD}", is_staff=True)
edith.groups.add(Group.objects.get(name="Rate limit editors"))
steps = (
    ({{}}, "Scrapers since Monday"),
    ({{"quota": 60, "burst": 20}}, "Partners say that pages are slow"),
    ({{"mode": "enforce", "message": "Slow down, please."}}, "Shadow denied nobody for a week"),
)
for name in ("api-per-address", "search"):
    limit = RateLimit(name=name, quota=100, path_kind="prefix", path="/api/", mode="shadow")
    for changes, why in steps:
        for field, value in changes.items():
            setattr(limit, field, value)
        limit._history_user, limit._change_reason = edith, why
        limit.save()
"""
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    variables = {"IOTA_DEMO": "1", "SECRET_KEY": "s" * 40, "IOTA_IDENTITY_KEY": "i" * 40}
    with running(tmp_path_factory.mktemp("site"), variables) as (process, _):
        manage(process.environment, "shell", "-v", "0", "-c", ROWS)
        yield process.start()


def signed_in(browser, site: SiteProcess, name: str, **options) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(f"{site.url}/admin/login/")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", PASSWORD)
    page.press("input[name=password]", "Enter")
    page.wait_for_url(f"{site.url}/admin/")
    return page


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield made
        made.close()


WIDE = {"viewport": {"width": 1280, "height": 800}}


def test_an_editor_cannot_enforce_and_is_told_before(browser, site):
    page = signed_in(browser, site, "edith", **WIDE)
    page.goto(f"{site.url}{LIMITS}add/")
    expect(page.locator("select[name=mode] option[value=enforce]")).to_be_disabled()
    assert page.input_value("select[name=mode]") == "shadow"
    told = page.get_by_text("Enforce: only with the right “Can enforce limits")
    expect(told).to_be_visible()
    page.fill("input[name=name]", "tried-out")
    page.fill("input[name=quota]", "50")
    expect(page.locator("#limit-sentence")).to_contain_text("call 50 times per minute")
    page.evaluate("scrollTo(0, 0)")
    picture(page, "editor-form")
    page.fill("input[name=change_reason]", "To see who comes")
    page.click("button[name=_continue]")
    page.wait_for_url("**/change/**")

    # Whatever the browser is made to send, the server says it in the form.
    page.evaluate("document.querySelector('option[value=enforce]').disabled = false")
    page.select_option("select[name=mode]", "enforce")
    page.click("button[name=_continue]")
    expect(page.locator(".field-mode .errorlist, .field-mode.errors").first).to_contain_text(
        "Only with the right"
    )

    # What is in force is there to be read, and its sentence stays.
    page.goto(f"{site.url}{LIMITS}")
    page.get_by_role("link", name="api-per-address").click()
    expect(page.get_by_text("This is in force, and shown read only")).to_be_visible()
    expect(page.locator("input[name=quota]")).to_have_count(0)
    page.wait_for_timeout(500)
    expect(page.locator("#limit-sentence")).to_contain_text("call 60 times per minute")
    page.goto(f"{site.url}{LIMITS}")
    expect(page.locator("select[name=action] option[value=enforce]")).to_have_count(0)


def test_a_limit_goes_back_to_what_it_was_without_scripts_on_a_phone(browser, site):
    plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
    page = signed_in(browser, site, "grace", **plain)
    page.goto(f"{site.url}{LIMITS}2/history/")
    newest = page.locator("ol.entries > li").first
    expect(newest).to_contain_text("by edith")
    expect(newest).to_contain_text("“Shadow denied nobody for a week”")
    expect(newest.locator("tr:has-text('Mode')")).to_contain_text("ShadowEnforce")
    assert fits(page)
    page.get_by_role("link", name="Roll back to this").last.press("Enter")
    expect(page.locator("#then-sentence")).to_contain_text("may call 100 times per minute")
    expect(page.locator("#now-sentence")).to_contain_text("may call 60 times per minute")
    expect(page.locator("tr:has-text('Quota')")).to_contain_text("60100")
    assert fits(page)
    page.fill("input[name=reason]", "It was better")
    page.get_by_role("button", name="Roll back").press("Enter")
    page.wait_for_url("**/2/change/")
    assert page.input_value("input[name=quota]") == "100"
    assert page.input_value("select[name=mode]") == "shadow"
    page.goto(f"{site.url}{LIMITS}2/history/")
    newest = page.locator("ol.entries > li").first
    expect(newest).to_contain_text("by grace")
    expect(newest).to_contain_text("Rolled back to the change of")
    expect(newest).to_contain_text("It was better")


def test_what_was_deleted_comes_back_by_keyboard(browser, site):
    page = signed_in(browser, site, "grace", **WIDE)
    page.goto(f"{site.url}{LIMITS}1/history/")
    picture(page, "history")
    page.get_by_role("link", name="Roll back to this").first.click()
    expect(page.locator("#then-sentence")).to_be_visible()
    picture(page, "roll-back")
    page.goto(f"{site.url}{LIMITS}add/")
    page.fill("input[name=name]", "short-lived")
    page.fill("input[name=quota]", "5000")
    page.click("button[name=_continue]")
    page.wait_for_url("**/change/**")
    page.goto(page.url.replace("/change/", "/delete/"))
    page.fill("input[name=reason]", "Not needed")
    page.get_by_role("button", name="Yes, I").click()
    page.wait_for_url(f"**{LIMITS}")
    page.get_by_role("link", name="Recent edits").click()
    expect(page.locator("ol.entries > li").first).to_contain_text("short-lived deleted")
    expect(page.locator("ol.entries > li").first).to_contain_text("“Not needed”")
    page.select_option("select[name=kind]", "deleted")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("ol.entries > li")).to_have_count(1)
    page.get_by_role("link", name="Bring it back").press("Enter")
    expect(page.get_by_text("It comes back under its old number")).to_be_visible()
    focused_by_tab(page, "Bring it back")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/")
    assert page.input_value("input[name=name]") == "short-lived"


def test_the_pages_fit_in_the_dark(browser, site):
    page = signed_in(
        browser, site, "grace", color_scheme="dark", viewport={"width": 375, "height": 800}
    )
    for path in ("1/history/", "1/history/1/", "edits/", "1/delete/"):
        page.goto(f"{site.url}{LIMITS}{path}")
        expect(page.locator(".hs")).to_be_visible()
        assert fits(page), path
