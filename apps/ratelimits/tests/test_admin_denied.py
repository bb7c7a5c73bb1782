"""Whom a limit denied most, as its page shows it; and the last denials."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from django.template.loader import render_to_string

from apps.ratelimits import conf
from apps.ratelimits.admin.denied import TopDenied, recent, top_denied
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts
from apps.ratelimits.storage.denied import Batch
from apps.ratelimits.storage.errors import Unavailable

from .test_denied import denial, who


@pytest.fixture
def limit(engine):
    made = RateLimit.objects.create(name="api", quota=1, window_unit=3600)
    engine.refresh()
    return made


def deny(engine, address: str, times: int) -> str:
    facts = RequestFacts("GET", "/api/test", address)
    for _ in range(times + 1):
        engine.decide(engine.candidates(facts), facts, ANONYMOUS)
    engine.flush_denied()
    return engine.limiter.digests.of(("address", address))


def shown(rows) -> str:
    return " ".join(render_to_string("ratelimits/top_denied.html", {"top_denied": rows}).split())


def test_the_most_denied_first_as_digests(engine, limit):
    few, many = deny(engine, "203.0.113.9", 2), deny(engine, "203.0.113.10", 5)
    rows = top_denied(limit.pk)
    assert rows == [TopDenied(many, "", 5, 5), TopDenied(few, "", 2, 2)]
    said = shown(rows)
    assert f'href="/admin/ratelimits/ratelimit/identity/?digest={many}"' in said
    assert f">{many[:8]}</a>" in said
    assert "203.0.113" not in said
    assert "about" not in said
    assert top_denied(limit.pk, most=1) == rows[:1]


def test_names_where_the_site_keeps_them(engine, limit):
    engine.config = replace(conf.current(), denied_names=True)
    deny(engine, "203.0.113.9", 2)
    assert "address 203.0.113.9" in shown(top_denied(limit.pk))
    assert [one.whom for one in recent()] == ["address 203.0.113.9"]


def test_what_may_be_anothers_is_said(engine, limit):
    hour = int(time.time()) // 3_600
    engine.denied.add(Batch([], {(limit.pk, hour): {who("a"): (1_234, 1_000, ())}}))
    said = shown(top_denied(limit.pk))
    assert "about 1,234" in said
    assert "at least 234" in said


def test_of_nobody_and_without_redis(engine, limit, monkeypatch):
    assert "It has denied nobody in the last 24 hours." in shown(top_denied(limit.pk))

    def away(*args):
        raise Unavailable("away")

    monkeypatch.setattr(engine.denied, "top", away)
    monkeypatch.setattr(engine.denied, "recent", away)
    assert "Redis does not answer" in shown(top_denied(limit.pk))
    assert recent() is None


def test_a_denial_by_a_limit_that_is_gone(engine, limit):
    engine.denied.add(Batch([denial(counted=((987, who("x")),), denied=(987,))], {}))
    (one,) = recent()
    assert one.limits == "limit 987, which is gone"
