"""The identity budget in a limit's form, and how the limit stands against it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.ratelimits import ruleset, wording
from apps.ratelimits.models import RateLimit
from apps.ratelimits.policy.facts import RequestFacts
from apps.ratelimits.storage.cardinality import IdentityCount
from apps.ratelimits.storage.ruleset_store import decode, encode

from .test_admin import LIST, SENTENCE, errors, form, staff  # noqa: F401  (a fixture)


@pytest.mark.parametrize(("given", "kept"), [("", None), ("0", 0), ("5000", 5_000)])
def test_a_budget_is_saved_and_published(staff, engine, given, kept):  # noqa: F811
    assert staff.post(f"{LIST}add/", form(identities=given)).status_code == 302
    assert RateLimit.objects.get().identities == kept
    loaded = ruleset.load()
    assert [rule.identities for rule in loaded.rules] == [kept]
    assert decode(encode(loaded)) == loaded
    engine.refresh()
    assert engine.identities.budget(engine.index.rules[0].rule) == {None: 1_000_000}.get(kept, kept)


@pytest.mark.parametrize("given", ["-1", "10000001", "many"])
def test_a_budget_that_cannot_be_is_refused_at_its_field(staff, given):  # noqa: F811
    assert list(errors(staff.post(f"{LIST}add/", form(identities=given)))) == ["identities"]


def test_everyone_together_needs_no_budget(staff):  # noqa: F811
    staff.post(f"{LIST}add/", form(counted_by="everyone", identities="5"))
    limit = RateLimit.objects.get()
    assert limit.identities is None
    assert "Everyone is one count" in staff.get(f"{LIST}{limit.pk}/change/").content.decode()


def test_the_sentence_says_it(staff):  # noqa: F811
    said = staff.post(SENTENCE, form(identities="5000")).content.decode()
    assert said.endswith(
        "Where more than 5,000 different ones come per minute, further new ones share one count."
    )
    assert "further new" not in staff.post(SENTENCE, form()).content.decode()


def test_the_form_says_how_the_limit_stands(staff, engine):  # noqa: F811
    staff.post(f"{LIST}add/", form(identities="2", path="/api/", window_unit="86400"))
    limit = RateLimit.objects.get()
    page = f"{LIST}{limit.pk}/change/"
    assert "Nobody yet" in staff.get(f"{LIST}add/").content.decode()
    engine.refresh()

    def come(number: int) -> None:
        facts = RequestFacts("GET", "/api/test", f"2001:db8:{number:x}::/64")
        engine.check(engine.plan(engine.candidates(facts), facts))
        engine.count_identities()

    come(1)
    assert "About 1 in the current day, of 2 that may be." in staff.get(page).content.decode()
    for number in range(2, 6):
        come(number)
    said = staff.get(page).content.decode()
    assert "About 5 in the current day, over the 2 that may be: new ones share one count" in said


def test_the_form_says_so_where_redis_is_away(staff, engine, redis_server):  # noqa: F811
    limit = RateLimit.objects.create(name="one", quota=1)
    redis_server.pause()
    try:
        said = staff.get(f"{LIST}{limit.pk}/change/").content.decode()
    finally:
        redis_server.resume()
    assert "Not known: Redis does not answer." in said


NOW = datetime(2026, 11, 25, 14, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, "As many as come: no bound."),
        (
            IdentityCount(1_234, 1_000_000, 60, None),
            "About 1,234 in the current minute, of 1,000,000 that may be.",
        ),
        (
            IdentityCount(1_204_331, 1_000_000, 3_600, int(NOW.timestamp())),
            "About 1,204,331 in the current hour, over the 1,000,000 that may be: new ones share "
            "one count since Nov. 25, 2026, 2:02 p.m., 5\xa0minutes ago.",
        ),
        (
            IdentityCount(9, 2, 7_200, None),
            "About 9 in the current 2 hours, over the 2 that may be: new ones share one count.",
        ),
        (IdentityCount(1, 2, 90, None), "About 1 in the current 90 seconds, of 2 that may be."),
    ],
)
def test_the_count_in_words(count, said):
    assert wording.identities(count, NOW + timedelta(minutes=5)) == said
