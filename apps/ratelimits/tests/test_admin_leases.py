"""Units that processes may take ahead: the field in the form, and its way into the ruleset."""

from __future__ import annotations

import pytest

from apps.ratelimits import ruleset, wording
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.storage.ruleset_store import decode, encode

from .test_admin import LIST, SENTENCE, errors, form, staff  # noqa: F401  (a fixture)

LEASED = {"algorithm": "fixed_window", "lease": "50"}
AHEAD = "Each server process takes up to"


def test_a_lease_is_saved_kept_in_the_history_and_shown(staff):  # noqa: F811
    assert staff.post(f"{LIST}add/", form(**LEASED)).status_code == 302
    limit = RateLimit.objects.get()
    assert staff.post(f"{LIST}{limit.pk}/change/", form(**LEASED | {"lease": "20"}))
    assert list(limit.history.values_list("lease", flat=True)) == [20, 50]
    page = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    assert f"{AHEAD} 20 requests ahead" in page
    assert "take ahead" in staff.get(f"{LIST}{limit.pk}/history/").content.decode()


@pytest.mark.parametrize("left_out", ["", "0", None])
def test_without_a_lease_each_request_is_counted_by_itself(staff, left_out):  # noqa: F811
    values = form() if left_out is None else form(lease=left_out)
    assert staff.post(f"{LIST}add/", values).status_code == 302
    assert RateLimit.objects.get().lease == 0


WRONG = [
    ({"lease": "101"}, "take at least 1, which one request costs, and at most 100; or 0"),
    ({"lease": "4", "cost": "5"}, "take at least 5"),
    ({"lease": "10001", "quota": "1000000"}, "and at most 10,000"),
    ({"lease": "-1"}, "greater than or equal to 0"),
    ({"charge_denied": "on"}, "neither counted denials"),
    ({"block_amount": "5"}, "nor a block"),
    ({"counts": "status", "statuses": "401"}, "nor counting by response"),
    *(
        ({"algorithm": algorithm}, "of a fixed window only")
        for algorithm in ("token_bucket", "sliding_window", "sliding_log", "concurrency")
    ),
]


@pytest.mark.parametrize(("changes", "said"), WRONG)
def test_a_lease_that_cannot_be_is_refused_at_its_field(staff, changes, said):  # noqa: F811
    values = form(**LEASED | changes)
    assert said in errors(staff.post(f"{LIST}add/", values))["lease"][0]
    assert not RateLimit.objects.exists()
    # So does the sentence, while one edits.
    assert staff.post(SENTENCE, values).content.decode().startswith("Take ahead: ")


def test_an_edit_of_the_algorithm_does_not_drop_the_lease(staff):  # noqa: F811
    limit = RateLimit.objects.create(name="one", quota=100, algorithm="fixed_window", lease=50)
    for changes in ({"algorithm": "token_bucket"}, {"quota": "49"}):
        response = staff.post(f"{LIST}{limit.pk}/change/", form(**LEASED | changes))
        assert list(errors(response)) == ["lease"]
    limit.refresh_from_db()
    assert (limit.algorithm, limit.quota, limit.lease) == ("fixed_window", 100, 50)


def test_an_impossible_quota_is_said_at_the_quota_alone(staff):  # noqa: F811
    response = staff.post(f"{LIST}add/", form(**LEASED | {"cost": "101"}))
    assert list(errors(response)) == ["quota"]


def test_a_lease_is_published_and_survives_being_stored(staff, engine):  # noqa: F811
    staff.post(f"{LIST}add/", form(**LEASED))
    Override.objects.create(network="10.0.0.0/8", action="quota", quota=10)
    loaded = ruleset.load()
    assert [rule.lease for rule in loaded.rules] == [50]
    assert decode(encode(loaded)) == loaded
    engine.refresh()
    (compiled,) = engine.index.rules
    assert (compiled.rule.lease, compiled.overrides[0].rule.lease) == (50, 10)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"lease": 1_000},
            f"{AHEAD} 1,000 requests ahead, so that a denial may come a little early",
        ),
        ({"lease": 20, "cost": 5}, f"{AHEAD} 20 units ahead"),
        ({"lease": 20, "mode": "shadow"}, "Shadow, which never blocks; enforced it would say: "),
        ({}, "the next request waits."),
    ],
)
def test_a_lease_is_put_in_words(changes, said):
    limit = RateLimit(name="one", quota=10_000, algorithm="fixed_window", **changes)
    text = wording.sentence(limit, ())
    assert said in text
    assert (AHEAD in text) is bool(limit.lease)
