"""Limits from a file, as a person brings them: choose it, see what it does, confirm, in force."""

from __future__ import annotations

import json

import requests
from playwright.sync_api import expect, sync_playwright

from tests.e2e.pictures import picture
from tests.e2e.test_demo import (  # noqa: F401  (fixtures)
    CHROMIUM,
    CHROMIUM_FLAGS,
    demo,
    eventually,
    needs_chromium,
    password,
)
from tests.e2e.test_lockout import LIMITS, fits, focused_by_tab, signed_in

pytestmark = needs_chromium

FILE = """\
# What production enforces; reviewed like code.
- name: api-together
  mode: enforce
  quota: 50000
  message: All together are too fast. Wait a moment.
- name: api-test-twice
  path_kind: exact
  path: /api/test
  quota: 2
  window_unit: hours
  methods: [GET]
"""


def choose(page, name: str, text: str) -> None:
    file = {"name": name, "mimeType": "text/plain", "buffer": text.encode()}
    page.set_input_files("input[name=import_file]", files=[file])


def test_a_file_is_looked_at_confirmed_and_in_force(demo, password):  # noqa: F811
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        plain = {"java_script_enabled": False, "viewport": {"width": 375, "height": 800}}
        page = signed_in(browser, demo.url, password, **plain)
        page.goto(f"{demo.url}{LIMITS}import/")
        # A file that cannot be is refused with its row and field, and nothing happens.
        choose(page, "limits.yaml", FILE.replace("quota: 2", "qouta: 2"))
        page.click("button[type=submit]:has-text('Show what it would change')")
        expect(page.get_by_text("Row 2 (api-test-twice), 'qouta':")).to_be_visible()
        expect(page.get_by_text("Did you mean quota?")).to_be_visible()
        assert fits(page)
        choose(page, "limits.yaml", FILE)
        page.click("button[type=submit]:has-text('Show what it would change')")
        expect(page.get_by_text("limits.yaml: 1 new, 1 changed, 0 unchanged")).to_be_visible()
        expect(page.locator("section.change.changed del").first).to_have_text("100,000")
        assert fits(page)
        picture(page, "import-narrow")

        page = signed_in(browser, demo.url, password, viewport={"width": 1280, "height": 900})
        page.goto(f"{demo.url}{LIMITS}")
        page.click("a[href$='/import/']")
        picture(page, "import-file")
        choose(page, "limits.yaml", FILE)
        page.click("button[type=submit]:has-text('Show what it would change')")
        expect(page.get_by_text("Nothing has been changed yet")).to_be_visible()
        picture(page, "import")
        focused_by_tab(page, "Import")
        page.keyboard.press("Enter")
        expect(page.get_by_text("Imported from limits.yaml: 1 new, 1 changed")).to_be_visible()
        expect(page.locator("tr:has-text('api-together')")).to_contain_text("Enforce")

        # In force in every process, within the second that is promised.
        eventually(429, f"{demo.url}/api/test")
        denied = requests.get(f"{demo.url}/api/test", timeout=5)
        assert denied.json()["violated-policies"] == ["api-test-twice"]

        # The file that the page gives is the file that it takes: nothing to do.
        page.goto(f"{demo.url}{LIMITS}export/")
        picture(page, "export")
        page.select_option("select[name=format]", label="json")
        with page.expect_download() as download:
            page.click("button[type=submit]:has-text('Download')")
        assert download.value.suggested_filename == "rate-limits.json"
        text = download.value.path().read_text()
        assert "api-test-twice" in [row["name"] for row in json.loads(text)]
        page.goto(f"{demo.url}{LIMITS}import/")
        choose(page, "rate-limits.json", text)
        page.click("button[type=submit]:has-text('Show what it would change')")
        expect(page.get_by_role("heading", name="Nothing to do")).to_be_visible()
        browser.close()


def test_a_file_that_would_lock_its_importer_out_asks_for_a_tick(demo, password):  # noqa: F811
    tight = json.dumps([{"name": "shut", "path_kind": "prefix", "path": "/admin/", "quota": 3}])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        options = {"viewport": {"width": 375, "height": 800}, "color_scheme": "dark"}
        page = signed_in(browser, demo.url, password, **options)
        page.goto(f"{demo.url}{LIMITS}import/")
        choose(page, "shut.json", tight)
        page.click("button[type=submit]:has-text('Show what it would change')")
        expect(page.get_by_text("shut: It covers the admin")).to_be_visible()
        picture(page, "import-lockout-dark")
        page.get_by_role("button", name="Import").click()
        expect(page.get_by_text("Tick below that you mean it")).to_be_visible()
        assert fits(page)
        page.goto(f"{demo.url}{LIMITS}")
        expect(page.locator("tr:has-text('login')").first).to_be_visible()
        expect(page.locator("tr:has-text('shut')")).to_have_count(0)
        browser.close()
