"""``make demo`` as a newcomer meets it: real processes, a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, Playwright, expect, sync_playwright

from iota import demo as iota_demo
from tests import databases
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "demo.out"
        self.database = databases.url_of(folder) if databases.server else ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        more = ["--database", self.database] if self.database else []
        return [sys.executable, "-m", "iota.demo", "--var", str(self.folder / "var"), *more]

    @property
    def environment(self) -> dict[str, str]:
        """For commands beside it, without its Valkey."""
        made = iota_demo.environment(self.folder / "var", 1, self.database)
        return {**os.environ, **made}

    def start(self) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, "PORT": str(self.port)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.wait_for("Ctrl-C stops everything")

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + 90
        while text not in (said := self.output.read_text()):
            assert self.process is not None
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        return said

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


class Elsewhere:
    """A site that somebody else started, as ``tests/topology/test_e2e.py`` does: its address and
    the password of its user ``staff``."""

    def __init__(self, told: str) -> None:
        self.url, self.password = told.split()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    if told := os.environ.get("SITE_UNDER_TEST"):
        yield Elsewhere(told)
        return
    made = Demo(tmp_path_factory.mktemp("demo"))
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


@pytest.fixture(scope="module")
def password(demo) -> str:
    if isinstance(demo, Elsewhere):
        return demo.password
    found = re.search(r"password '([^']+)'", demo.output.read_text())
    assert found
    return found[1]


def eventually(status: int, url: str, within_s: float = 1.0) -> None:
    """Every server process answers so within the time that an edit may take to be in force.

    Each request is a connection of its own, which either process may take: ten alike in a row
    come from one process alone once in a thousand times.
    """
    deadline = time.monotonic() + within_s
    alike = 0
    while alike < 10:
        before = time.monotonic()
        got = requests.get(url, timeout=5).status_code
        alike = alike + 1 if got == status else 0
        assert alike or before < deadline, f"{got} instead of {status} after {within_s} s"


SOMETIMES = ("header", "view_argument", "burst", "lease", "statuses", "signal", "block_unit")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)"
)


def signed_in(playwright: Playwright, demo: Demo, password: str) -> Page:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(f"{demo.url}/admin/login/")
    page.fill("input[name=username]", "staff")
    page.fill("input[name=password]", password)
    page.click("button[type=submit]")
    page.wait_for_url(f"{demo.url}/admin/")
    return page


@needs_chromium
def test_the_form_shows_the_fields_that_apply(demo, password):
    with sync_playwright() as playwright:
        page = signed_in(playwright, demo, password)
        page.goto(f"{demo.url}/admin/ratelimits/ratelimit/add/")

        def shown() -> set[str]:
            return {name for name in SOMETIMES if page.locator(f"[name={name}]").is_visible()}

        assert shown() == {"burst"}
        page.check("input[name=counted_by][value=header]")
        page.select_option("select[name=counts]", "status")
        page.fill("input[name=block_amount]", "5")
        page.select_option("select[name=algorithm]", "fixed_window")
        assert shown() == {"header", "lease", "statuses", "block_unit"}
        # What would be refused elsewhere stays in sight.
        page.fill("input[name=lease]", "50")
        page.select_option("select[name=algorithm]", "sliding_log")
        assert "lease" in shown()
        page.fill("input[name=lease]", "")
        page.uncheck("input[name=counted_by][value=header]")
        page.select_option("select[name=counts]", "signal")
        page.fill("input[name=block_amount]", "")
        assert shown() == {"signal"}
        # So does what was refused, and the choice of before.
        page.fill("input[name=name]", "refused")
        page.fill("input[name=quota]", "3")
        page.select_option("select[name=counts]", "status")
        page.click("button[name=_continue]")
        expect(page.get_by_text("Name the statuses that count")).to_be_visible()
        page.select_option("select[name=counts]", "every")
        assert shown() == {"statuses"}
        # Everyone together is one count: there is nothing to bound.
        budget = page.locator("[name=identities]")
        assert budget.is_visible()
        page.check("input[name=counted_by][value=everyone]")
        assert not budget.is_visible()
        page.context.browser.close()


@needs_chromium
def test_an_edit_in_the_admin_is_law_within_a_second(demo, password):
    with sync_playwright() as playwright:
        page = signed_in(playwright, demo, password)
        page.goto(f"{demo.url}/admin/ratelimits/ratelimit/add/")
        assert not page.get_by_text("Save it although").is_visible()
        page.fill("input[name=name]", "three-per-minute")
        page.select_option("select[name=path_kind]", "exact")
        page.fill("input[name=path]", "/api/test")
        page.select_option("select[name=algorithm]", "sliding_log")
        expect(page.locator("#limit-sentence")).to_contain_text("Still to fill in: quota.")
        page.fill("input[name=quota]", "3")
        said = "Each address may call 3 times per minute, any method on /api/test; the next"
        expect(page.locator("#limit-sentence")).to_contain_text(said)
        page.click("button[name=_continue]")
        page.wait_for_url("**/change/**")
        edit = page.url
        # A second client, right after the save: it is denied once three have passed.
        eventually(429, f"{demo.url}/api/test")
        denied = requests.get(f"{demo.url}/api/test", timeout=5)
        assert denied.status_code == 429
        assert '"three-per-minute";q=3;w=60' in denied.headers["RateLimit-Policy"]
        assert 0 < int(denied.headers["Retry-After"]) <= 60
        assert denied.json()["violated-policies"] == ["three-per-minute"]
        page.goto(f"{demo.url}/api/test")
        waits = page.inner_text("h1")
        assert waits.startswith("Try again in ")
        page.wait_for_function("was => document.querySelector('h1').innerText !== was", arg=waits)

        page.goto(edit)
        page.select_option("select[name=mode]", "shadow")
        page.click("button[name=_continue]")
        page.wait_for_load_state()
        eventually(200, f"{demo.url}/api/test")

        page.goto(edit)
        page.select_option("select[name=mode]", "enforce")
        page.click("button[name=_continue]")
        page.wait_for_load_state()
        eventually(429, f"{demo.url}/api/test")

        page.goto(edit.replace("/change/", "/delete/"))
        page.click("button:has-text('Yes, I'), input[value^='Yes, I']")
        page.wait_for_url("**/ratelimit/")
        eventually(200, f"{demo.url}/api/test")

        page.goto(f"{demo.url}/admin/ratelimits/ratelimit/")
        assert "api-per-address" in page.content()

        page.goto(f"{demo.url}/")
        page.evaluate("document.body.dataset.kept = 'the same page'")
        shown = page.inner_text("main")
        requests.get(f"{demo.url}/api/test", timeout=5)
        page.wait_for_function("was => document.querySelector('main').innerText !== was", arg=shown)
        assert page.evaluate("document.body.dataset.kept") == "the same page"
        page.context.browser.close()


def test_a_taken_port_is_one_clear_line(demo, tmp_path):
    command = [sys.executable, "-m", "iota.demo", "--var", str(tmp_path)]
    environment = {**os.environ, "PORT": str(demo.port)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert f":{demo.port}" in ran.stderr


def test_ctrl_c_stops_all_and_a_second_run_keeps_the_data(tmp_path):
    demo = Demo(tmp_path)
    demo.start()
    first = demo.output.read_text()
    assert "made the staff user" in first
    assert requests.get(f"{demo.url}/readyz", timeout=5).status_code == 200
    assert demo.stop() == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{demo.url}/healthz", timeout=5)
    started = time.monotonic()
    demo.start()
    assert time.monotonic() - started < 60
    assert "made the staff user" not in demo.output.read_text()
    assert (
        '"api-per-address"' in requests.get(f"{demo.url}/api/test", timeout=5).headers["RateLimit"]
    )
    assert demo.stop() == 0
