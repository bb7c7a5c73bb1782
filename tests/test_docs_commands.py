"""Each command that a page shows is run as it stands, beside a site, its broker and its database.

A page has a copy of the database and a prefix of keys of its own: what it changes, no other sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .docs_commands import NOT_RUN, NOT_RUN_HERE, ROOT, Command, commands, pages
from .servers import RedisProcess
from .sites import SiteProcess, environment, manage

PAGES = [page for page in pages() if any(not one.why_not_run for one in commands(page))]
TOKEN = "token-of-the-tests-of-the-docs-0123456789"
ADDRESS = re.compile(r"https?://(iota\.example\.com|127\.0\.0\.1:8000|localhost:8000)")
NAMES = {"NAME": "api-per-address"}
"""What stands in a page's command for what the reader has."""

CODES = {
    "manage.py doctor": {0, 1, 2},
    "manage.py ratelimit explain": {0, 3},
    "manage.py ratelimit import limits.yaml --dry-run": {0, 2},
}
"""Beginning -> exit codes, where they say what was found."""

STARTS = ("celery ",)
"""Goes on until it is ended; it has said by then that it is ready."""
READY = re.compile(rb"ready\.|beat: Starting")
READY_S = 60.0
MOST_S = 300.0

FILES = {
    "limits.yaml": "- name: api-per-address\n  path_kind: prefix\n  path: /api/\n  quota: 50\n",
}
"""That a page takes for granted, where its commands have not made them."""

SEEN = {
    "docs/index.md": {"for i in 1 2 3 4": "200 200 200 429 "},
}
"""Page -> beginning of a command -> what it prints."""


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisProcess]:
    """Of Redis and of Celery, apart from the suite's own."""
    server = RedisProcess().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def database(tmp_path_factory, broker) -> Path:
    """Migrated, with the demo's limits and a user."""
    folder = tmp_path_factory.mktemp("docs")
    outer = environment(folder, broker.url, DATABASE_URL=f"sqlite:///{folder}/site.sqlite3")
    manage(outer, "migrate", "--verbosity", "0")
    manage(outer, "loaddata", "demo_limits", "--verbosity", "0")
    manage(outer, "shell", "-c", "User.objects.create_user('ada')")
    return folder / "site.sqlite3"


@pytest.fixture
def place(tmp_path, database, broker, request) -> dict[str, str]:
    """The environment of a page: as an operator's, with what the pages call by its name."""
    for suffix in ("", "-wal", "-shm"):
        if (kept := Path(f"{database}{suffix}")).exists():
            shutil.copy(kept, tmp_path / f"site.sqlite3{suffix}")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "manage.py").write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/manage.py "$@"\n')
    (programs / "manage.py").chmod(0o755)
    for name in FILES:
        (tmp_path / name).write_text(FILES[name])
    number = PAGES.index(request.node.callspec.params["page"])
    return environment(
        tmp_path,
        broker.url,
        DATABASE_URL=f"sqlite:///{tmp_path}/site.sqlite3",
        CELERY_BROKER_URL=f"{broker.url.rsplit('/', 1)[0]}/1",
        IOTA_KEY_PREFIX=f"page-{number}:",
        IOTA_METRICS_TOKEN=TOKEN,
        ALLOWED_HOSTS="127.0.0.1",
        PATH=os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        PYTHONPATH=str(ROOT),
        DJANGO_SETTINGS_MODULE="iota.settings",
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page, place, tmp_path):
    chosen = [one for one in commands(page) if not one.why_not_run]
    site = None
    if any(ADDRESS.search(one.text) for one in chosen):
        limits = tmp_path / "first.yaml"
        limits.write_text("- {name: first, path_kind: exact, path: /api/test, quota: 3}\n")
        manage(place, "ratelimit", "import", str(limits))
        site = SiteProcess(tmp_path, place)
        site.start()
    try:
        for one in chosen:
            _run(one, place, tmp_path, site)
    finally:
        if site:
            site.stop()


def _run(one: Command, place: dict[str, str], folder: Path, site: SiteProcess | None) -> None:
    text, where = one.text, f"{one.page}:{one.line}: {one.text}"
    for name, meant in NAMES.items():
        text = re.sub(rf"\b{name}\b", meant, text)
    if site:
        text = ADDRESS.sub(site.url, text)
    program = text.split()[0]
    if shutil.which(program, path=place["PATH"]) is None and program not in {"for", "export", "cd"}:
        # What the machine lacks, a page may still show; the suite's own programs it has.
        assert program in {"promtool", "curl"}, where
        return
    if text.startswith(STARTS):
        _start(text, where, place, folder)
        return
    ran = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", text],
        cwd=folder,
        env=place,
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    allowed = next((codes for start, codes in CODES.items() if text.startswith(start)), {0})
    assert ran.returncode in allowed, f"{where}\n{ran.stdout}{ran.stderr}"
    assert "Traceback" not in ran.stderr, f"{where}\n{ran.stderr}"
    assert ran.stdout or re.search(r"[>]|--output|^export |curl .*-o", text), (
        f"{where}\nsaid nothing"
    )
    for start, seen in SEEN.get(one.page, {}).items():
        if one.text.startswith(start):
            assert ran.stdout == seen, where


def _start(text: str, where: str, place: dict[str, str], folder: Path) -> None:
    """Until it says that it is ready."""
    log = folder / "started.log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            ["bash", "-c", f"exec {text} --loglevel info"],  # At less it does not say so.
            cwd=folder,
            env=place,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + READY_S
        while not READY.search(log.read_bytes()):
            assert started.poll() is None, f"{where}\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{where}\n{log.read_text()}"
            time.sleep(0.1)
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


COMING_AND_GOING = (
    "docker ",
    "sh deploy/",
    "echo ALLOWED_HOSTS=",
    "git clone ",
    "python -m locust ",
)
"""Of pages that come with other changes."""


def test_every_exception_is_of_use_and_has_a_reason():
    shown = [one for page in pages() for one in commands(page)]
    for start, why in NOT_RUN.items():
        assert len(why) > 20, start
        used = any(one.text.startswith(start) for one in shown)
        assert used or start in COMING_AND_GOING, start
    for page, why in NOT_RUN_HERE.items():
        assert (ROOT / why.split()[0]).exists() or not (ROOT / page).exists(), page
    assert len([one for one in shown if not one.why_not_run]) >= 30
