"""The end-to-end tests, in a browser, on the topology instead of the demo."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .compose import ROOT
from .conftest import PASSWORD

pytestmark = pytest.mark.topology
ON_A_SITE = (
    "tests/e2e/test_demo.py::test_the_form_shows_the_fields_that_apply",
    "tests/e2e/test_demo.py::test_an_edit_in_the_admin_is_law_within_a_second",
    "tests/e2e/test_lockout.py",
    "tests/e2e/test_explain.py",
    "tests/e2e/test_exchange.py",
    "tests/e2e/test_life_cycle.py",
    "tests/e2e/test_preview.py",
    "tests/e2e/test_in_code.py",
    "tests/e2e/test_rights.py",
    "tests/e2e/test_page_policy.py",
)
"""Of the others each wants a past of its own in the database, or is about ``make demo``."""
AFRESH = """
from django.core.management import call_command
from apps.ratelimits.engine import get_engine
from apps.ratelimits.models import Override, RateLimit
Override.objects.all().delete()
RateLimit.objects.all().delete()
call_command("loaddata", "demo_limits", verbosity=0)
call_command("populate_history", auto=True, verbosity=0)
get_engine().publish()
"""


@pytest.mark.parametrize("module", ON_A_SITE)
def test_on_the_topology(topology, counters, module):
    # What the tests before had made and counted is not to be met in these.
    counters.flushall()
    topology.manage("shell", "--verbosity", "0", "-c", AFRESH)
    environment = {**os.environ, "SITE_UNDER_TEST": f"{topology.url} {PASSWORD}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "--no-header", module]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5_000:]
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout
