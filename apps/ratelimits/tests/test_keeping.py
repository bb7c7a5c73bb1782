"""What the form says of keeping what is counted, or starting afresh: the words and the numbers."""

from __future__ import annotations

from apps.ratelimits.keeping import missing, told
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.canary import is_within
from apps.ratelimits.policy.kept import Kept
from apps.ratelimits.storage.counted import Sample, _Found

from .test_kept import MINUTE_US, NOW_US

END_US = NOW_US - NOW_US % MINUTE_US + MINUTE_US


def limit(**changes) -> RateLimit:
    return RateLimit(
        **{"pk": 1, "name": "one", "quota": 10, "algorithm": "fixed_window", **changes}
    )


def of(*used: int, walked: int = 100, keys: int = 100) -> Sample:
    """Clients that have used so many units of the minute."""
    kept = tuple(Kept(END_US, units, digest=str(place)) for place, units in enumerate(used))
    return Sample((_Found(kept, NOW_US, walked, keys, walked >= keys),))


def test_how_things_stand():
    found = told(limit(), limit(), of(1, 5, 10))
    assert found.now == "3 clients have something counted; 1 of them is over the quota right now."
    assert found.kept == "Nothing changes: all go on with what they have used."
    assert found.afresh == "Everyone begins with a full quota, the 1 over it too."
    assert found.source == "Counted just now, all keys looked at"


def test_overrides_are_left_aside_and_that_is_said():
    found = told(limit(), limit(quota=5), of(1, 5, 10), overrides=2)
    assert found.source == (
        "Counted just now, all keys looked at; as if there were no override (2 may be about some "
        "of them)"
    )


def test_with_nobody_counted_nobody_notices():
    found = told(limit(), limit(quota=1), of())
    assert found.now == "Nobody has anything counted right now: kept or afresh makes no difference."
    assert found.kept == found.afresh == ""


def test_a_smaller_quota_denies_who_has_used_more():
    found = told(limit(), limit(quota=5), of(1, 4, 5, 6, 10))
    assert found.kept == (
        "With the new rate 3 of 5 would be denied at once, 2 of them are not over it now."
    )
    shadow = told(limit(), limit(quota=5, mode="shadow"), of(1, 4, 5, 6, 10))
    assert "3 of 5 are over it at once" in shadow.kept


def test_of_a_canary_only_those_in_it_would_be_denied():
    after = limit(quota=5, mode="canary", canary_percent=40)
    found = told(limit(), after, of(*[6] * 1_000))
    inside = sum(is_within(400, 1, str(place)) for place in range(1_000))
    assert 330 < inside < 470
    assert f"1,000 of 1,000 are over it at once, of whom the {inside} in the canary" in found.kept


def test_a_larger_quota_lets_go_on_who_was_denied():
    found = told(limit(), limit(quota=11), of(10, 10, 3))
    assert found.kept == (
        "With the new rate nobody is over it: all 3 go on. 2 who are over the quota now may go on."
    )


def test_another_window_begins_most_counts_afresh():
    found = told(limit(), limit(window_unit=3_600), of(10, 3))
    assert "Of another window only those counts stay" in found.kept
    assert "So 0 of 2 keep something." in found.kept


def test_another_algorithm_or_other_identities_cannot_keep_it():
    for changes in ({"algorithm": "token_bucket"}, {"counted_by": "user"}):
        found = told(limit(), limit(**changes), of(10, 3))
        assert found.kept.startswith("Not possible:")
        assert found.kept.endswith("everyone begins afresh.")


def test_of_a_part_of_the_keys_the_numbers_are_estimates_and_say_so():
    found = told(limit(), limit(quota=5), of(1, 5, walked=1_000, keys=10_000))
    assert found.now == "About 20 clients have something counted."
    assert "10 of 20 would be denied at once" in found.kept
    assert found.source == ("Estimated just now: 2 found among 1,000 of 10,000 keys in Redis")
    none = told(limit(), limit(), of(walked=1_000, keys=10_000))
    assert none.now.startswith("Estimated just now: 0 found among 1,000 of 10,000 keys in Redis:")


def test_a_form_that_lacks_a_part_of_the_rate_is_not_told_of():
    whole = ["algorithm", "quota", "window_amount", "window_unit", "cost", "counted_by", "name"]
    assert not missing(whole)
    assert missing(whole[1:])
