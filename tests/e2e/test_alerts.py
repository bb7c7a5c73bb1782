"""The alerts' pages in a browser: a silence in two clicks, a rule's sentence kept true."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.test_demo import CHROMIUM, CHROMIUM_FLAGS, needs_chromium
from tests.e2e.test_lockout import fits
from tests.sites import manage, running

pytestmark = needs_chromium
ROOT = "/admin/monitoring/"
PASSWORD = "a long one for tests"
FILL = f"""
from django.contrib.auth.models import User
from django.utils import timezone
from apps.monitoring import alerting
from apps.monitoring.models import AlertRule, Sample, Source
User.objects.create_superuser("staff", password={PASSWORD!r})
AlertRule.objects.update(for_s=0)
now = timezone.now()
seen = dict(first_seen_at=now, looked_at=now, answered_at=now)
node = Source.objects.create(kind="node", address="10.0.0.1:6379", **seen)
Sample.objects.create(source=node, at=now, values=dict(memory_percent=95.5, evicted_per_s=12))
alerting.evaluate_all(now)
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with running(tmp_path_factory.mktemp("alerts")) as (site, _), sync_playwright() as playwright:
        manage(site.environment, "shell", "-v", "0", "-c", FILL)
        site.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        made = browser.new_context(
            base_url=site.url, viewport={"width": 375, "height": 800}, color_scheme="dark"
        ).new_page()
        made.goto("/admin/login/")
        made.fill("input[name=username]", "staff")
        made.fill("input[name=password]", PASSWORD)
        made.press("input[name=password]", "Enter")
        made.wait_for_url("**/admin/")
        yield made
        browser.close()


def test_a_silence_takes_two_clicks(page):
    page.goto(f"{ROOT}alert/")
    expect(page.locator("#verdict")).to_contain_text("1 firing.")
    expect(page.locator(".open-alert")).to_contain_text("Keys evicted 12/s")
    assert fits(page)
    page.get_by_text("Silence…").click()
    page.get_by_role("button", name="4 h", exact=True).click()
    expect(page.locator(".open-alert")).to_contain_text("Silenced until in 3 hours by staff")
    page.get_by_role("button", name="End", exact=True).press("Enter")
    expect(page.get_by_text("Ended: what still fires")).to_be_visible()


def test_the_cure_is_one_click_away(page):
    page.goto(f"{ROOT}alert/")
    page.get_by_role("link", name="What to do").click()
    page.wait_for_url("**/guide/alerts/#redis-memory")
    expect(page.locator("#redis-memory")).to_be_in_viewport()
    assert fits(page)


def test_the_sentence_of_a_rule_is_kept_true(page):
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{ROOT}alertrule/add/")
    sentence = page.locator("#rule-sentence")
    expect(sentence).to_contain_text("Choose a metric and a threshold")
    page.select_option("#id_metric", "check_p99_us")
    page.fill("#id_threshold", "25000")
    page.fill("#id_for_s", "90")
    page.fill("#id_at_least", "1500")
    said = "Warning: Check, p99 above 25 ms for 90 s, where at least 1,500 checks are behind it."
    expect(sentence).to_have_text(f"{said} Over at 25 ms.")
    page.fill("#id_clear", "12300")
    expect(sentence).to_have_text(f"{said} Over at 12.3 ms.")
    # What is saved says the same without the script.
    page.fill("#id_name", "Slow checks")
    page.locator("button[name=_continue], input[name=_continue]").first.click()
    page.wait_for_url("**/change/")
    expect(sentence).to_have_text(f"{said} Over at 12.3 ms.")
    assert errors == []
    assert fits(page)
