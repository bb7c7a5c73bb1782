"""Every page in a browser that enforces its policy: nothing of it is refused."""

from __future__ import annotations

import pytest
import requests
from django.urls import NoReverseMatch, reverse
from playwright.sync_api import expect, sync_playwright

from tests.admin_pages import EVERY, STRANGER
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import signed_in

pytestmark = needs_chromium
ROWS = (
    "ratelimits_ratelimit",
    "monitoring_alertrule",
    "django_celery_beat_periodictask",
    "auth_user",
    "auth_group",
)
"""Models of which the demo has a first row."""
NO_PAGES = {"logout", "jsi18n", "autocomplete", "view_on_site"}


class Watched:
    """What the browser refused, of every page that is opened."""

    def __init__(self, context) -> None:
        self.refused: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.refused.append(str(error.error)))

    def _heard(self, message) -> None:
        if "Content Security Policy" in message.text:
            self.refused.append(message.text)


@pytest.fixture(scope="module")
def page(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        page = signed_in(browser, demo.url, password)
        yield page
        browser.close()


@pytest.fixture
def watched(page):
    made = Watched(page.context)
    yield made
    page.context.remove_listener("console", made._heard)


def admin_pages() -> list[str]:
    """The addresses of all pages that can be opened in the demo."""
    found = []
    for name, about in EVERY.items():
        if about.get != 200 or about.see is STRANGER or name in NO_PAGES:
            continue
        has_row = (about.of or name).startswith(ROWS)
        for arguments in ((), (1,), ("ratelimits",)):
            try:
                path = reverse(f"admin:{name}", args=arguments)
            except NoReverseMatch:
                continue
            if has_row or arguments != (1,):
                found.append(path)
            break
    return found


def test_no_page_of_the_admin_asks_for_what_its_policy_refuses(demo, page, watched):  # noqa: F811
    paths = admin_pages()
    assert len(paths) > 50
    refused = {}
    for path in paths:
        answer = page.goto(demo.url + path)
        assert answer.status < 500, path
        assert "unsafe-eval" in answer.headers["content-security-policy"], path
        page.wait_for_load_state("load")
        if watched.refused:
            refused[path] = watched.refused[:]
            watched.refused.clear()
    assert refused == {}


def test_the_admins_theme_still_works(demo, page, watched):  # noqa: F811
    page.goto(f"{demo.url}/admin/ratelimits/ratelimit/add/")
    page.check("input[name=counted_by][value=header]")
    expect(page.locator("[name=header]")).to_be_visible()
    page.goto(f"{demo.url}/admin/")
    page.keyboard.press("Control+k")
    expect(page.locator("#search-input-command, input[name=s]").first).to_be_visible()
    assert watched.refused == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_public_page_does(demo, page, scheme):  # noqa: F811
    context = page.context.browser.new_context(color_scheme=scheme)
    watched = Watched(context)
    visitor = context.new_page()
    for path in ("/", "/admin/login/", "/healthz", "/readyz", "/api/test", "/nowhere", "/metrics"):
        visitor.goto(demo.url + path)
        visitor.wait_for_load_state("load")
    while requests.get(f"{demo.url}/api/test", timeout=5).status_code != 429:
        pass
    visitor.goto(f"{demo.url}/api/test")
    waits = visitor.inner_text("h1")
    assert waits.startswith("Try again in")
    visitor.wait_for_function("was => document.querySelector('h1').innerText !== was", arg=waits)
    visitor.goto(f"{demo.url}/")
    bar = visitor.locator(".rail rect").first
    shown = bar.get_attribute("width")
    visitor.wait_for_function(
        "was => document.querySelector('.rail rect').getAttribute('width') !== was", arg=shown
    )
    assert watched.refused == []
    context.close()


def test_what_is_smuggled_into_a_page_does_not_run(demo, page):  # noqa: F811
    """The browser does enforce it: else these tests would prove nothing."""
    context = page.context.browser.new_context()
    watched = Watched(context)
    visitor = context.new_page()
    visitor.goto(f"{demo.url}/")
    visitor.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = true";
            document.body.append(script);
        }"""
    )
    assert visitor.evaluate("window.smuggled") is None
    assert len(watched.refused) == 1
    context.close()
