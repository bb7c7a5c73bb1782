"""In a process of its own: what is frozen stays frozen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import gc, json, importlib
importlib.import_module("iota.{interface}")
from django.urls import get_resolver
print(json.dumps({{
    "frozen": gc.get_freeze_count(),
    "watched": sum(gc.get_count()) + len(gc.get_objects()),
    "addresses": "url_patterns" in vars(get_resolver()),
}}))
"""


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_collections_do_not_look_at_what_the_site_is_made_of(interface):
    environment = {
        "PATH": os.environ["PATH"],
        "IOTA_DEMO": "1",
        "SECRET_KEY": "s" * 60,
        "IOTA_IDENTITY_KEY": "k" * 60,
    }
    command = [sys.executable, "-c", LOOK.format(interface=interface)]
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    found = json.loads(ran.stdout)
    assert found["frozen"] > 50_000
    assert found["watched"] < 5_000
    assert found["addresses"]
