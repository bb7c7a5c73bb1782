"""A site that starts while Redis, or Redis and the database, are away."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import RedisProcess

from .answers import Times, exact_after_s, sequences
from .faults import Fault
from .load import Load
from .report import Row
from .scenario import AFTER_S, Stage, judge, measure, missed
from .site import Site, start_sites

pytestmark = pytest.mark.faults

WITHOUT_S = 1.5
DATABASE_WITHIN_S = 5.0
"""A database that fails is asked again ever more rarely: after so short a time within this."""


@pytest.fixture
def absent(flavour: str) -> Iterator[RedisProcess]:
    """A server that does not run yet. It is known where it will."""
    server = RedisProcess(flavour).start()
    server.kill()
    yield server
    server.stop()


def test_redis_away_at_the_start(
    near: Stage, absent: RedisProcess, template: Path, tmp_path: Path, rows: list[Row]
) -> None:
    begins_s = time.monotonic()
    sites = start_sites(tmp_path, template, absent.url)
    try:
        load = _load(sites)
        time.sleep(WITHOUT_S)
        ends_s = time.monotonic()
        absent.start()
        ended_s = time.monotonic()
        time.sleep(AFTER_S)
        answers = load.stop()
    finally:
        _stop(sites)
    fault = Fault("away at the site's start", _nothing, keeps=False)
    times = Times(begins_s, begins_s, ends_s, ended_s)
    outcome = judge(replace(near, sites=sites), fault, times, answers)
    rows += outcome.rows
    assert not outcome.missed, "\n".join(outcome.missed)


@pytest.mark.parametrize(("policy", "status"), [("allow", 200), ("deny", 503)])
def test_redis_and_database_away_at_the_start(
    policy: str,
    status: int,
    near: Stage,
    absent: RedisProcess,
    template: Path,
    tmp_path: Path,
    rows: list[Row],
) -> None:
    sites = start_sites(tmp_path, tmp_path / "no database", absent.url, IOTA_NO_RULESET=policy)
    try:
        load = _load(sites)
        time.sleep(WITHOUT_S)
        without = load.stop()
        for site in sites:
            assert "limits" in site.log.read_text(), "it says nowhere that it has no limits"
            copied = site.database.with_suffix(".copy")
            shutil.copy(template, copied)
            copied.replace(site.database)
        load = _load(sites)
        absent.start()
        ended_s = time.monotonic()
        time.sleep(DATABASE_WITHIN_S + 1.0)
        answers = load.stop()
    finally:
        _stop(sites)
    assert {answer.status for answer in without} == {status}
    assert all(answer.explained for answer in without)
    # Before the limits are known there is nothing to judge; after, every answer is to be exact.
    times = Times(*[ended_s] * 4, within_s=DATABASE_WITHIN_S)
    fault = Fault(f"both away at the start: {policy}", _nothing, lasts_s=0)
    for site in sites:
        own = [answer for answer in answers if answer.site == site.interface]
        begun = sequences(own).values()
        known = [
            answer for of_one in begun if of_one[0].sent_s > times.exact_from_s for answer in of_one
        ]
        row, wrong = measure(known, fault, times, near.base[site.interface])
        row = replace(row, exact_after_s=exact_after_s(own, times))
        rows.append(row)
        assert not missed(row, wrong, near.base[site.interface], times)


def _nothing(ground: object) -> None: ...


def _load(sites: list[Site]) -> Load:
    return Load([site.target for site in sites]).start()


def _stop(sites: list[Site]) -> None:
    for site in sites:
        site.stop()
