"""A limit from a draft to its end in a browser: its steps, its canary, its schedule, and what an
edit does to those who have something counted."""

from __future__ import annotations

import http.client
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import LIMITS, fits, signed_in

pytestmark = needs_chromium
CLIENTS = [f"127.0.7.{number}" for number in range(1, 41)]


def asked(url: str, client: str) -> int:
    """As that client: all of 127.0.0.0/8 is this machine."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(
        where.hostname, where.port, timeout=10, source_address=(client, 0)
    )
    try:
        connection.request("GET", "/api/test")
        return connection.getresponse().status
    finally:
        connection.close()


def denied(url: str) -> set[str]:
    """Who is, of three requests of each client."""
    return {client for client in CLIENTS if 429 in [asked(url, client) for _ in range(3)]}


def here(page: Page):
    return page.locator("#limit-life [aria-current=step]")


def test_from_a_draft_to_everyone(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = signed_in(browser, demo.url, password, viewport={"width": 1600, "height": 1000})
        page.goto(f"{demo.url}{LIMITS}add/")
        page.fill("input[name=name]", "tried")
        page.select_option("select[name=mode]", "draft")
        page.select_option("select[name=path_kind]", "exact")
        page.fill("input[name=path]", "/api/test")
        page.select_option("select[name=algorithm]", "fixed_window")
        page.fill("input[name=quota]", "2")
        page.select_option("select[name=window_unit]", "86400")
        expect(here(page)).to_contain_text("Draft")
        expect(page.locator("#limit-sentence")).to_contain_text("Draft, which is not in force")
        expect(page.locator("#limit-life")).to_contain_text("Next: shadow")
        expect(page.locator(".field-canary_percent")).to_be_hidden()
        page.click("button[name=_continue]")
        page.wait_for_url("**/change/**")
        assert denied(demo.url) == set()

        # Everyone as one count has no part that could be tried: the form says so, and the steps.
        page.select_option("select[name=mode]", "canary")
        expect(page.locator(".field-canary_percent")).to_be_visible()
        page.fill("input[name=canary_percent]", "50")
        expect(here(page)).to_contain_text("denies for 50 %")
        expect(page.locator("#limit-sentence")).to_contain_text(
            "Canary, enforced for 50 % of clients"
        )
        page.fill("input[name=canary_percent]", "100")
        page.click("button[name=_continue]")
        expect(page.get_by_text("less than or equal to 99.9").first).to_be_visible()
        page.fill("input[name=canary_percent]", "50")
        page.click("button[name=_continue]")
        expect(page.get_by_text("was changed successfully")).to_be_visible()
        wait_in_force(demo.url)

        some = denied(demo.url)
        assert 7 <= len(some) <= 33  # 20, within 4 standard deviations.
        assert denied(demo.url) == some
        page.reload()
        keeping = page.locator("#limit-keeping")
        now = keeping.locator("p").first
        expect(now).to_contain_text("clients have something counted")
        counted = int(re.match(r"(\d+) clients", now.inner_text())[1])
        assert counted >= len(CLIENTS)
        expect(keeping).to_contain_text("Counted just now, all keys looked at.")
        # What an edit does is said while it is typed.
        page.fill("input[name=quota]", "50")
        expect(keeping).to_contain_text(f"nobody is over it: all {counted} go on")
        page.fill("input[name=quota]", "1")
        over = f"{counted} of {counted} are over it at once"
        expect(keeping).to_contain_text(f"{over}, of whom the {len(some)} in the canary would be")
        page.evaluate("scrollTo(0, 0)")
        picture(page, "life-cycle")
        keeping.scroll_into_view_if_needed()
        picture(page, "keep-or-afresh")
        page.fill("input[name=quota]", "3")
        page.check("input[name=start_afresh]")
        page.click("button[name=_continue]")
        expect(page.get_by_text("was changed successfully")).to_be_visible()
        expect(keeping).to_contain_text("Nobody has anything counted right now")

        page.goto(f"{demo.url}{LIMITS}")
        expect(page.locator("tr:has-text('tried')")).to_contain_text(
            re.compile("Canary 50 %", re.I)
        )
        picture(page, "limits")
        page.check("tr:has-text('tried') input[name=_selected_action]")
        page.select_option("select[name=action]", "enforce")
        page.locator("button[name=index]").click()
        expect(page.get_by_text("1 of 1 changed to enforce.")).to_be_visible()
        browser.close()


def wait_in_force(url: str) -> None:
    """Within a second in every process; asked for by this machine's own address."""
    deadline = datetime.now(UTC) + timedelta(seconds=1.2)
    while datetime.now(UTC) < deadline:
        pass


def test_without_scripts_on_a_phone(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
        page = signed_in(browser, demo.url, password, **plain)
        page.goto(f"{demo.url}{LIMITS}?q=api-per-address")
        page.get_by_role("link", name="api-per-address").click()
        page.wait_for_url("**/change/**")
        assert fits(page)
        expect(here(page)).to_contain_text("Enforce")
        page.fill("input[name=quota]", "99")
        for _ in range(80):
            asked(demo.url, CLIENTS[0])
        with page.expect_popup() as opened:
            page.get_by_role("button", name="Work it out for this edit").click()
        told = opened.value
        # Chromium reads another tab's <noscript> as if it had scripts: the theme hides that page.
        expect(told.locator("#content")).to_contain_text("Nothing has been saved")
        expect(told.locator("#limit-keeping")).to_contain_text("Kept:")

        # A schedule, saved without a script, and found again in the list.
        at = datetime.now(UTC) + timedelta(hours=3, minutes=30)
        page.fill("input[name=active_from_0]", at.strftime("%Y-%m-%d"))
        page.fill("input[name=active_from_1]", at.strftime("%H:%M:%S"))
        page.click("button[name=_continue]")
        expect(page.locator("#limit-life")).to_contain_text(re.compile("Starts in 3.hours"))
        page.goto(f"{demo.url}{LIMITS}?schedule=scheduled")
        expect(page.locator("#result_list")).to_contain_text(re.compile("starts in 3.hours"))
        expect(page.locator("#result_list")).to_contain_text("api-per-address")
        expect(page.locator("#result_list")).not_to_contain_text("login")
        assert fits(page)
        page.goto(f"{demo.url}{LIMITS}?schedule=ended")
        expect(page.get_by_text("api-per-address")).to_have_count(0)
        browser.close()
