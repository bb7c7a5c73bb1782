"""A cluster that loses nodes and moves slots under load: nobody is told a wrong answer."""

from __future__ import annotations

import pytest

from tests.servers import flavours

from .judging import Row
from .scenarios import SCENARIOS, Scenario, run

EXACT_WITHIN_S = 2.0

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("flavour", flavours())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_scenario(scenario: Scenario, flavour: str, rows: list[Row]) -> None:
    row = run(scenario, flavour)
    rows.append(row)
    assert row.said == (), "\n".join(row.said[:10])
    assert not scenario.harmless or row.by_policy == 0
    assert row.exact_after_s is None or row.exact_after_s < EXACT_WITHIN_S
