"""Never the reason the site is down: each fault in the middle of a load on two real sites."""

from __future__ import annotations

import pytest

from .faults import NETWORK_FAULTS, SERVER_FAULTS, Fault
from .report import Row
from .scenario import Stage, play

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("fault", SERVER_FAULTS, ids=str)
def test_fault_of_the_server(near: Stage, fault: Fault, rows: list[Row]) -> None:
    _hold(near, fault, rows)


@pytest.mark.parametrize("fault", NETWORK_FAULTS, ids=str)
def test_fault_of_the_network(far: Stage, fault: Fault, rows: list[Row]) -> None:
    _hold(far, fault, rows)


def _hold(stage: Stage, fault: Fault, rows: list[Row]) -> None:
    outcome = play(stage, fault)
    rows += outcome.rows
    assert not outcome.missed, "\n".join(outcome.missed)
