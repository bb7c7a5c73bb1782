from __future__ import annotations

import os

import pytest

from apps.benchmarks import cores

pytestmark = pytest.mark.skipif(not cores.usable(), reason="this system does not pin processes")


def test_a_process_is_pinned_for_a_while():
    before = os.sched_getaffinity(0)
    with cores.pinned(min(before)):
        assert cores.usable() == [min(before)]
    assert os.sched_getaffinity(0) == before


def test_where_there_is_no_core_nothing_is_pinned():
    before = os.sched_getaffinity(0)
    with cores.pinned(None):
        assert os.sched_getaffinity(0) == before
