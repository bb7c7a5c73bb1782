"""The limiter's own tests on the newest Django, in an environment of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import wheels
from .test_own_site import UNFOLD_WARNS, newest_python

TESTS = (
    "test_admin",
    "test_checks",
    "test_conf",
    "test_drf",
    "test_middleware",
    "test_use",
    "test_use_afterwards",
    "test_use_counted",
)
"""Where Django's own interfaces are used: requests, views, models, the admin."""
NOT_THERE = re.compile(
    r"Django=|django-celery-beat=|-r |scipy|numpy|ruptures|locust|playwright|mypy|django-stubs"
    r"|celery-types|ruff|pip-audit|import-linter|build|setuptools|gevent|valkey=|libvalkey|limits"
    r"|throttled-py|django-smart|django-ratelimit|opentelemetry|pytest-cov|pytest-benchmark|aiosmtpd"
)
"""What these tests do not need, or what is pinned to another Django."""
UNCLOSED = "ignore:unclosed database:ResourceWarning"


@pytest.mark.newest
def test_the_limiters_own_tests_pass_on_the_newest_django(tmp_path):
    python = str(tmp_path / "venv" / "bin" / "python")
    wheels.run([newest_python(), "-m", "venv", str(tmp_path / "venv")], tmp_path)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheels.run([*install, *requirements(), "Django>=6.1"], tmp_path)
    # It says that it is not for Django 6.1 yet. The site's settings name it; nothing here runs it.
    beat = ["django-celery-beat", "django-timezone-field", "python-crontab", "cron-descriptor"]
    wheels.run([*install, "--no-deps", *beat], tmp_path)
    files = [f"apps/ratelimits/tests/{name}.py" for name in TESTS]
    pytest_of_it = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
    # Python 3.13 began to tell of the connections that a test's threads leave to be collected.
    settings = ["--ds", "tests.newest_settings", "-W", UNFOLD_WARNS, "-W", UNCLOSED]
    said = wheels.run([*pytest_of_it, "--dist", "loadfile", *settings, *files], wheels.ROOT)
    assert re.search(r"\d{3,} passed", said), said
    print(said.splitlines()[-1])


def requirements() -> list[str]:
    files = [wheels.ROOT / name for name in ("requirements.txt", "requirements-dev.txt")]
    lines = [line for file in files for line in Path(file).read_text().splitlines()]
    return [line for line in lines if line[:1] not in ("", "#") and not NOT_THERE.match(line)]
