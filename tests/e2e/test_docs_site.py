"""The site of the docs in a browser, from its files alone."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.pictures import picture
from tests.e2e.test_demo import CHROMIUM, CHROMIUM_FLAGS, needs_chromium  # noqa: F401
from tests.e2e.test_start import browser  # noqa: F401  (a fixture)
from tests.test_docs_site import site  # noqa: F401  (a fixture)

pytestmark = needs_chromium
WIDE, PHONE = {"width": 1600, "height": 1000}, {"width": 375, "height": 800}


@pytest.fixture
def opened(browser, site):  # noqa: F811
    """(page, size, colour scheme) -> the page; each loads files of the site and nothing else."""
    contexts = []

    def open_page(name, viewport=WIDE, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.asked.append(f"error: {error}"))
        page.goto(f"file://{site}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize(
    "name", ["index", "overview/algorithms", "overview/scaling", "reference/models"]
)
def test_a_page_fits_and_loads_nothing_from_elsewhere(opened, name, viewport):
    page = opened(f"{name}.html", viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth)") == []


def test_drawings_follow_the_readers_scheme_and_the_pages_switch(opened):
    page = opened("overview/algorithms.html", scheme="dark")
    light, dark = (page.locator(f"img.only-{scheme}").first for scheme in ("light", "dark"))
    expect(dark).to_be_visible()
    expect(light).to_be_hidden()
    picture(page, "docs-algorithms-dark")
    page.locator(".theme-toggle:visible").first.click()
    expect(page.locator("body")).to_have_attribute("data-theme", "light")
    expect(light).to_be_visible()
    expect(dark).to_be_hidden()


def test_the_search_finds_a_page_without_a_server(opened):
    page = opened("index.html")
    page.get_by_placeholder("Search").first.fill("scaling")
    page.keyboard.press("Enter")
    found = page.locator("#search-results")
    expect(found).to_contain_text("matching the search query")
    expect(found.get_by_role("link", name="Scaling: beyond one machine")).to_be_visible()
    picture(page, "docs-search")


def test_the_home_leads_to_the_reference_and_back(opened):
    page = opened("index.html")
    picture(page, "docs-home")
    page.get_by_role("link", name="commands", exact=True).first.click()
    expect(page.locator("h1")).to_contain_text("Commands")
    expect(page.locator(".sidebar-tree .current").first).to_contain_text("Commands")
    page.locator(".sidebar-brand").click()
    expect(page.locator("h1")).to_contain_text("IOTA")
