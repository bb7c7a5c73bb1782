"""Regressions in the admin: the worst first, and what staff decide."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.benchmarks.models import Baseline, BenchmarkRun, Regression
from apps.benchmarks.tests import history

LIST = "/admin/benchmarks/regression/"


@pytest.fixture
def staff(engine, admin_client):
    return admin_client


def regression(name: str, ratio: float, **changes) -> Regression:
    (run,) = history.runs(1)
    metric = history.metric(name)
    history.measure(metric, [run], [100.0 * ratio])
    values = {
        "state": "confirmed",
        "run": run,
        "machine": run.machine,
        "branch": "main",
        "better": ratio < 1,
        "p_value": 0.00002,
        "evidence": {
            "new_median": 100.0 * ratio,
            "new_n": 5,
            "beyond": 5,
            "baseline_median": 100.0,
            "mad": 1.5,
            "n": 20,
        },
        **changes,
    }
    return Regression.objects.create(metric=metric, ratio=ratio, **values)


def text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def decide(staff, found: Regression, decision: str, reason: str = "") -> str:
    data = {"decision": decision, "reason": reason, "next": LIST}
    return text(staff.post(f"{LIST}{found.pk}/decide/", data, follow=True))


def test_empty_it_says_what_will_be_here(staff):
    assert "No run yet: what has become slower will be here" in text(staff.get(LIST))
    history.runs(1)
    assert "Nothing to do: no figure has become worse." in text(staff.get(LIST))


def test_the_worst_is_first_with_its_evidence(staff):
    regression("some", 1.2)
    regression("most", 1.5)
    regression("improved", 0.5)
    response = staff.get(LIST)
    said = text(response)
    assert "2 open, the worst 50 % slower." in said
    assert said.index("most time: 50 % slower") < said.index("some time: 20 % slower")
    assert "Improved" in said
    assert "improved time: 50 % faster" in said
    assert "150 us" in said
    assert "100 us ± 1.50" in said
    assert "p &lt; 0.001" in said
    assert "5 of 5 over the threshold" in said


def test_a_suspect_shows_how_far_its_reruns_are(staff):
    found = regression("check", 1.3, state="suspected", p_value=None)
    for state in ("done", "running", "queued", "queued"):
        BenchmarkRun.objects.create(state=state, trigger="rerun", rerun_of=found.run)
    said = text(staff.get(LIST))
    assert "1 of 4 reruns done" in said
    assert "not tested yet" in said
    assert 'value="acknowledge"' not in said


def test_it_is_acknowledged_without_a_reason(staff):
    found = regression("check", 1.3)
    assert "Acknowledged: it stays open" in decide(staff, found, "acknowledge")
    found.refresh_from_db()
    assert (found.state, found.handled_by.username) == ("acknowledged", "admin")
    assert f'id="regression-{found.pk}"' in text(staff.get(LIST))


def test_accepting_and_ignoring_need_a_reason(staff):
    found = regression("check", 1.3)
    for decision in ("accept", "ignore"):
        assert "needs a reason" in decide(staff, found, decision, "  ")
    found.refresh_from_db()
    assert found.state == "confirmed"


def test_the_new_level_is_accepted_with_a_reason(staff):
    found = regression("check", 1.3)
    said = decide(staff, found, "accept", "It does more now.")
    assert "Accepted: the series begins anew" in said
    assert "It does more now." in said
    assert "Accepted as the new baseline" in said
    assert Baseline.objects.get().since == found.run.started_at
    # Twice, from another tab.
    assert "is closed already" in decide(staff, found, "ignore", "noise")


def test_it_is_ignored_with_a_reason(staff):
    found = regression("check", 1.3)
    decide(staff, found, "ignore", "A noisy neighbour.")
    found.refresh_from_db()
    assert (found.state, found.reason) == ("ignored", "A noisy neighbour.")


def test_its_benchmark_is_measured_again(staff):
    found = regression("check", 1.3)
    said = text(staff.post(f"{LIST}{found.pk}/measure/", {"next": LIST}, follow=True))
    assert "check waits for a worker." in said
    run = BenchmarkRun.objects.get(state="queued")
    assert (run.chosen, run.trigger, run.rerun_of) == (["check"], "staff", None)


def test_an_unknown_decision_is_refused(staff):
    found = regression("check", 1.3)
    assert "Choose one of" in decide(staff, found, "forget", "x")
    found.refresh_from_db()
    assert found.state == "confirmed"


def test_what_is_over_comes_in_pages(staff):
    now = timezone.now()
    for number in range(30):
        regression(
            f"closed-{number}", 1.3, state="refuted", closed_at=now - timedelta(hours=number)
        )
    first, second = text(staff.get(LIST)), text(staff.get(f"{LIST}?p=2"))
    assert "closed-0 " in first
    assert "closed-29 " not in first
    assert "closed-29 " in second
    assert "Page 2 of 2" in second


def test_a_link_to_one_leads_to_its_place(staff):
    found = regression("check", 1.3)
    where = staff.get(f"{LIST}{found.pk}/change/").headers["Location"]
    assert where == f"{LIST}#regression-{found.pk}"


def test_evidence_may_be_missing(staff):
    regression("check", 1.3, evidence={}, run=None, p_value=None)
    assert "1.30 times as bad" in text(staff.get(LIST))
