"""Limits and overrides to files and back: all or nothing, and nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from apps.ratelimits import raised
from apps.ratelimits.exchange.formats import BY_NAME, FORMATS, dataset
from apps.ratelimits.exchange.resources import (
    NOT_EXPORTED,
    LimitResource,
    OverrideResource,
    resource_of,
)
from apps.ratelimits.exchange.widgets import widget_of
from apps.ratelimits.models import Override, RateLimit, RulesetVersion, WindowUnit
from apps.ratelimits.validators import METHODS

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
LINE = TEXT.filter(lambda text: text.splitlines() == [text])
MOMENT = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2040, 1, 1), timezones=st.just(UTC)
)
NETWORKS = st.lists(
    st.sampled_from(["10.0.0.0/8", "203.0.113.7", "2001:db8::/32"]), max_size=3
).map("\n".join)


def limit(name: str = "one", **changes) -> RateLimit:
    return RateLimit.objects.create(name=name, quota=changes.pop("quota", 100), **changes)


def load(rows, resource=None, **options):
    return (resource or LimitResource()).import_data(dataset(rows), **options)


def dump(known, resource=None) -> bytes:
    resource = resource or LimitResource()
    return known().export_data(resource.export()).encode()


def read(known, data: bytes, **options):
    made = known().create_dataset(data)
    return resource_of(made).import_data(made, **options)


def stored(model) -> list[dict[str, object]]:
    """All that a file is to bring back."""
    names = [field.name for field in model._meta.fields if field.name not in NOT_EXPORTED[model]]
    rows = [{name: getattr(row, name) for name in names} for row in model.objects.all()]
    if model is RateLimit:
        for values, row in zip(rows, model.objects.all(), strict=True):
            values["groups"] = {group.name for group in row.groups.all()}
    return sorted(rows, key=str)


@pytest.mark.parametrize("resource", [LimitResource, OverrideResource])
def test_every_field_of_the_model_is_in_the_file_or_says_why_not(resource):
    model = resource._meta.model
    known = {field.name for field in (*model._meta.fields, *model._meta.many_to_many)}
    assert {*resource().fields, *NOT_EXPORTED[model]} == known
    assert not set(resource().fields).intersection(NOT_EXPORTED[model])
    for name in resource().fields:
        widget_of(model._meta.get_field(name))  # Raises TypeError for a kind without words.


def test_a_kind_of_field_without_words_is_no_text_by_accident():
    with pytest.raises(TypeError, match=r"no widget in exchange/widgets\.py for a JSON"):
        widget_of(models.JSONField())


@st.composite
def limits(draw) -> dict[str, object]:
    """What a limit could be; whether it is one, its own checks say."""
    algorithm = draw(st.sampled_from(list(RateLimit.Algorithm)))
    counted = draw(
        st.just("everyone")
        | st.lists(st.sampled_from(["address", "user", "session", "header", "view_argument"]),
                   min_size=1, unique=True).map(",".join)
    )  # fmt: skip
    kind, path = draw(st.sampled_from([
        ("any", ""), ("exact", "/a"), ("prefix", "/api/"), ("glob", "/a/*"), ("regex", "/a.*"),
        ("view", "app:name"),
    ]))  # fmt: skip
    counts = draw(st.sampled_from(list(RateLimit.Counts)))
    begin = draw(st.none() | MOMENT)
    return {
        "methods": ",".join(method for method in METHODS if draw(st.booleans())),
        "path_kind": kind,
        "path": path,
        "host": draw(st.sampled_from(["", "*.example.com", "EXAMPLE.org"])),
        "audience": draw(st.sampled_from(list(RateLimit.Audience))),
        "networks": draw(NETWORKS),
        "networks_excluded": draw(NETWORKS),
        "counted_by": counted,
        "header": "X-Api-Key" if "header" in counted else "",
        "view_argument": "pk" if "view_argument" in counted else "",
        "identities": draw(st.none() | st.integers(0, 1_000)),
        "algorithm": algorithm,
        "quota": draw(st.integers(1, 1_000)),
        "window_amount": draw(st.integers(1, 60)),
        "window_unit": draw(st.sampled_from(list(WindowUnit))),
        "burst": draw(st.none() | st.integers(1, 50)) if algorithm == "token_bucket" else None,
        "cost": draw(st.sampled_from([1, 1, 2])),
        "counts": counts,
        "statuses": draw(st.sampled_from(["401", "5xx, 420-429"])) if counts == "status" else "",
        "signal": draw(st.sampled_from(list(raised.known()))) if counts == "signal" else "",
        "lease": draw(st.sampled_from([0, 0, 5])),
        "charge_denied": draw(st.booleans()),
        "block_amount": draw(st.none() | st.integers(1, 60)),
        "block_unit": draw(st.sampled_from(list(WindowUnit))),
        "mode": draw(st.sampled_from(list(RateLimit.Mode))),
        "on_failure": draw(st.sampled_from(list(RateLimit.OnFailure))),
        "message": draw(TEXT),
        "active_from": begin,
        "active_until": draw(st.none() | st.just(begin and begin + timedelta(microseconds=1))),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("known", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.from_regex(r"\A[a-z0-9]([a-z0-9_-]{0,5}[a-z0-9])?\Z"), limits(), max_size=3),
    st.lists(LINE, unique=True, max_size=3),
)
def test_any_limits_come_back_from_a_file_as_they_were(known, made, groups):
    with transaction.atomic():
        rows = [Group.objects.create(name=name) for name in groups]
        for name, values in made.items():
            one = RateLimit(name=name, **values)
            try:
                one.full_clean()
            except ValidationError:
                assume(False)
            one.save()
            one.groups.set(rows[: len(name) % 3])
        before, written = stored(RateLimit), dump(known)
        version, entries = RulesetVersion.current(), RateLimit.history.count()

        again = read(known, written)
        assert (again.told.changes, again.told.refused) == ([], [])
        assert again.told.same == len(made)
        assert (RulesetVersion.current(), RateLimit.history.count()) == (version, entries)

        RateLimit.objects.all().delete()
        assert read(known, written).told.refused == []
        assert stored(RateLimit) == before
        assert dump(known) == written
        transaction.set_rollback(True)


@st.composite
def overrides(draw) -> dict[str, object]:
    kind = draw(st.sampled_from(["user", "group", "network", "key"]))
    action = draw(st.sampled_from(list(Override.Action)))
    return {
        "kind": kind,
        "whom": draw(st.integers(0, 1)),
        "of_limit": draw(st.booleans()),
        "action": action,
        "quota": draw(st.integers(1, 50)) if action == "quota" else None,
        "until": draw(st.none() | MOMENT),
        "reason": draw(TEXT),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("known", FORMATS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(overrides(), max_size=5), st.lists(LINE, min_size=2, max_size=2, unique=True))
def test_any_overrides_come_back_from_a_file_as_they_were(known, made, names):
    with transaction.atomic():
        one = limit()
        users = [User.objects.create(username=name) for name in names]
        groups = [Group.objects.create(name=name) for name in names]
        for values in made:
            kind, whom = values.pop("kind"), values.pop("whom")
            target = {
                "user": {"user": users[whom]},
                "group": {"group": groups[whom]},
                "network": {"network": ("10.0.0.0/8", "2001:db8::/32")[whom]},
                "key": {"header": ("X-Key", "x-other")[whom], "key_of": "=ada"},
            }[kind]
            override = Override(limit=one if values.pop("of_limit") else None, **target, **values)
            try:
                override.full_clean()
            except ValidationError:
                continue
            override.save()
        before, written = stored(Override), dump(known, OverrideResource())
        entries = Override.history.count()

        again = read(known, written)
        assert (again.told.changes, again.told.refused) == ([], [])
        assert Override.history.count() == entries

        Override.objects.all().delete()
        assert read(known, written).told.refused == []
        assert stored(Override) == before
        assert dump(known, OverrideResource()) == written
        transaction.set_rollback(True)


def test_an_import_is_one_version_and_one_publish(engine, monkeypatch):
    limit("a", quota=1)
    published = []
    monkeypatch.setattr(engine, "publish", lambda: published.append(RulesetVersion.current()))
    raised_before = RulesetVersion.current()
    group = Group.objects.create(name="editors")
    result = load(
        [
            {"name": "a", "quota": 2, "groups": ["editors"]},
            {"name": "b", "quota": 3},
            {"name": "c", "quota": 4},
        ]
    )
    assert result.told.summary == "2 new, 1 changed, 0 unchanged"
    assert published == [RulesetVersion.current()]
    assert RulesetVersion.current() > raised_before
    assert list(RateLimit.objects.get(name="a").groups.all()) == [group]


def test_nothing_is_announced_of_what_was_not_imported(engine, monkeypatch):
    limit("a", quota=1)
    version = RulesetVersion.current()
    published = []
    monkeypatch.setattr(engine, "publish", lambda: published.append(1))
    load([{"name": "a", "quota": 2}], dry_run=True)
    refused = load([{"name": "a", "quota": 2}, {"name": "b", "quota": 0}])
    assert [str(one) for one in refused.told.refused] == [
        "row 2 (b), quota: Ensure this value is greater than or equal to 1.",
        "row 2 (b), quota: quota is 0: use 1 to 100,000,000,000",
    ]
    assert (RateLimit.objects.get().quota, RulesetVersion.current()) == (1, version)
    assert (published, RateLimit.history.count()) == ([], 1)


@pytest.mark.django_db
def test_a_field_that_a_row_leaves_out_stays_as_it_is_and_an_empty_one_is_emptied():
    limit("a", message="Slow down", host="example.com", burst=5)
    load([{"name": "a", "message": "", "burst": None}, {"name": "b", "quota": 1, "host": "x.org"}])
    a, b = RateLimit.objects.all()
    assert (a.message, a.host, a.burst, a.quota) == ("", "example.com", None, 100)
    assert (b.host, b.mode) == ("x.org", "enforce")


@pytest.mark.django_db
def test_a_change_says_each_field_that_it_changes_and_no_other():
    limit("a", networks="10.0.0.0/8, 10.1.0.0/16", counted_by="user,address", methods="POST,GET")
    same = {
        "name": "a",
        "networks": ["10.0.0.0/8", "10.1.0.0/16"],
        "counted_by": ["user", "address"],
        "methods": "get, post",
        "window_unit": "Minutes",
        "path": "/where/every/path/is/meant",
    }
    result = load([same])
    assert (result.told.changes, result.told.same) == ([], 1)
    (change,) = load([{**same, "quota": 50, "mode": "Shadow"}]).told.changes
    assert [(one.label, one.before, one.after) for one in change.fields] == [
        ("quota", 100, 50),
        ("mode", "enforce", "shadow"),
    ]
    # What was only written otherwise is left alone.
    assert RateLimit.objects.get().networks == "10.0.0.0/8, 10.1.0.0/16"


@pytest.mark.django_db
def test_another_algorithm_begins_to_count_afresh():
    limit("a")
    load([{"name": "a", "algorithm": "fixed_window"}])
    load([{"name": "a", "quota": 7}])
    assert RateLimit.objects.get().epoch == 1


@pytest.mark.django_db
def test_pruning_switches_off_what_does_something_and_deletes_nothing():
    limit("kept")
    limit("off", mode="off")
    limit("left")
    result = load([{"name": "kept"}], prune=True)
    (change,) = result.told.changes
    assert (change.kind, change.name, change.row) == ("switched off", "left", None)
    assert dict(RateLimit.objects.values_list("name", "mode")) == {
        "kept": "enforce",
        "off": "off",
        "left": "off",
    }
    assert load([{"name": "kept"}], prune=True).told.changes == []
    (refused,) = load([], prune=True).told.refused
    assert "would switch every limit off" in refused.text
    rows = [{"network": "10.0.0.0/8", "action": "blocked"}]
    (refused,) = load(rows, OverrideResource(), prune=True).told.refused
    assert "Overrides cannot be pruned" in refused.text
    assert not Override.objects.exists()


@pytest.mark.django_db
def test_several_overrides_of_one_target_are_told_by_their_ends():
    early = datetime(2030, 1, 1, tzinfo=UTC)
    one = limit()
    for until, quota in ((early, 1), (early + timedelta(days=9), 2)):
        Override.objects.create(
            limit=one, network="10.0.0.0/8", action="quota", quota=quota, until=until
        )
    row = {"limit": "one", "network": "10.0.0.0/8", "action": "quota"}
    end = (early + timedelta(days=9)).astimezone(timezone(timedelta(hours=2))).isoformat()
    load([{**row, "quota": 7, "until": end}], OverrideResource())
    assert [override.quota for override in Override.objects.all()] == [1, 7]
    # As in the form: while there is a later one, that is the one to edit.
    first = {**row, "quota": 8, "until": early.isoformat()}
    assert "edit that" in str(load([first], OverrideResource()).told.refused)
    # Another end: of the last one.
    load([{**row, "quota": 8, "until": "2031-01-01T00:00:00Z"}], OverrideResource())
    assert [override.quota for override in Override.objects.all()] == [1, 8]
    last = {**row, "quota": 9, "until": "2031-01-01T00:00:00Z"}
    (refused,) = load([{**first, "quota": 1}, last, last], OverrideResource()).told.refused
    assert str(refused) == "row 3: Row 2 is about the same: leave one of them."


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"quota": True}, "quota", "True is no whole number"),
        ({"quota": 5.5}, "quota", "5.5 is no whole number"),
        ({"quota": "1e9"}, "quota", "'1e9' is no whole number"),
        ({"quota": "٣"}, "quota", "is no whole number"),
        ({"quota": 10**19}, "quota", "less than or equal to"),
        ({"mode": "on"}, "mode", "'on' is none of draft, off, shadow, canary, enforce"),
        ({"mode": None}, "mode", "None is none of draft, off"),
        ({"charge_denied": "yes"}, "charge_denied", "write true or false"),
        ({"active_from": "2026-01-31T08:00:00"}, "active_from", "is no time with its zone"),
        ({"active_from": "31.01.2026 08:00"}, "active_from", "is no time with its zone"),
        ({"active_from": "0001-01-01T00:00:00+14:00"}, "active_from", "is no time with its zone"),
        ({"host": 5}, "host", "5 is no text"),
        ({"host": "a\0b"}, "host", "holds a character that is no text"),
        ({"host": "\ud800"}, "host", "holds a character that is no text"),
        ({"host": "x" * 254}, "host", "at most 253 characters"),
        ({"networks": {"a": 1}}, "networks", "a group of fields is no text"),
        ({"networks": [["10.0.0.0/8"]]}, "networks", "a list is no text"),
        ({"networks": ["10.0.0.0/33"]}, "networks", "is no network"),
        ({"methods": ["FETCH"]}, "methods", "unknown method"),
        ({"counted_by": ["cookie"]}, "counted_by", "nothing to count by"),
        ({"groups": ["nobody"]}, "groups", "No group is called 'nobody'"),
        ({"groups": 5}, "groups", "5 is no text"),
        ({"path_kind": "regex", "path": "("}, "path", "RE2 does not accept"),
        ({"counts": "signal", "signal": "nothing"}, "signal", "No such signal is counted here"),
        ({"x" * 500: 1}, None, "There is no such field"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_field(row, field, said):
    result = load([{"name": "fine", "quota": 5}, {"name": "wrong", "quota": 5, **row}])
    texts = [one.text for one in result.told.refused if field in (None, one.field)]
    assert [one.row for one in result.told.refused] == [2] * len(result.told.refused)
    assert any(said in text for text in texts), result.told.refused
    assert all(len(str(one)) < 400 for one in result.told.refused)
    assert not RateLimit.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"user": "nobody"}, "row 1, user: No user is called 'nobody'"),
        ({"limit": "gone", "network": "10.0.0.0/8"}, "limit: No rate limit is called 'gone'"),
        ({}, "row 1: Name one of user, group, network and key"),
        ({"network": "10.0.0.0/8", "group": "g"}, "Name one of user, group, network and key"),
        ({"network": "10.0.0.0/8", "name": "x"}, "'name': There is no such field"),
        ({"header": "X-Key"}, "key_of: Goes with the header"),
    ],
)
def test_a_wrong_override_is_refused(row, said):
    Group.objects.create(name="g")
    result = load([{"action": "blocked", **row}], OverrideResource())
    assert any(said in str(one) for one in result.told.refused), result.told.refused
    assert not Override.objects.exists()


@pytest.mark.django_db
def test_the_same_limits_are_the_same_bytes_whatever_the_database_sorts_by():
    for name in ("b", "a-b", "a_b", "a", "ab", "0"):
        limit(name)
    for known in BY_NAME.values():
        first = dump(known)
        rows = list(RateLimit.objects.order_by("-pk"))
        assert known().export_data(LimitResource().export(queryset=rows)).encode() == first
    assert dump(BY_NAME["yaml"]).startswith(b"- name: '0'\n")


@pytest.mark.django_db
@pytest.mark.parametrize("known", FORMATS)
@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\u2029", "a\x85b: c # d"])
def test_line_breaks_of_unicode_stay_what_they_are(known, text):
    Override.objects.create(limit=limit(), network="10.0.0.0/8", action="unlimited", reason=text)
    again = read(known, dump(known, OverrideResource()))
    assert (again.told.changes, again.told.refused) == ([], [])


@pytest.mark.django_db
def test_a_row_more_is_a_handful_of_queries_more():
    """Twenty-three of each row were ten seconds of a thousand limits."""
    group = Group.objects.create(name="partners")
    for number in range(40):
        limit(f"limit-{number}").groups.add(group)
    rows = [
        {"name": one.name, "quota": one.quota + 1, "groups": ["partners"]}
        for one in RateLimit.objects.all()
    ]
    with CaptureQueriesContext(connection) as few:
        assert len(load(rows[:20]).told.changes) == 20
    with CaptureQueriesContext(connection) as many:
        assert len(load([{**row, "quota": row["quota"] + 1} for row in rows]).told.changes) == 40
    assert (len(many) - len(few)) / 20 <= 6


@pytest.mark.django_db
def test_a_row_is_one_entry_of_the_history_with_its_groups():
    for name in ("beta", "partners"):
        Group.objects.create(name=name)
    limit("old").groups.add(Group.objects.get(name="beta"))
    before = RateLimit.history.count()
    load(
        [
            {"name": "old", "quota": 7, "groups": ["partners"]},
            {"name": "new", "quota": 5, "groups": ["beta", "partners"]},
        ]
    )
    assert RateLimit.history.count() == before + 2
    for name, kind, groups in (("old", "~", ["partners"]), ("new", "+", ["beta", "partners"])):
        entry = RateLimit.objects.get(name=name).history.first()
        assert entry.history_type == kind
        assert sorted(kept.group.name for kept in entry.groups.all()) == groups
