"""``check``, ``peek`` and ``concurrency``: limits without a request."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.http import HttpResponse
from django.urls import path

from apps.ratelimits import conf, used_in_code
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.testing import no_rate_limits  # noqa: F401  (a fixture)
from apps.ratelimits.use import (
    RateLimited,
    UnknownLimit,
    acheck,
    check,
    concurrency,
    peek,
    rate_limit,
)

from .making import maker


def leaking(request):
    with concurrency("slots", "one"):
        return HttpResponse("ok")


async def aleaking(request):
    async with concurrency("slots", "one"):
        return HttpResponse("ok")


urlpatterns = [path("leaking", leaking), path("aleaking", aleaking)]


@pytest.fixture
def limit(engine):
    return maker(engine, name="named", quota=2, path_kind="named")


def allowed(identity=None, count=3, name="named", **options):
    return [check(name, identity, **options).allowed for _ in range(count)]


def test_each_identity_is_counted_by_itself(limit):
    limit()
    assert allowed("ada") == allowed(7) == [True, True, False]
    assert allowed("7", 1) == [False]
    decision = check("named", "ada")
    assert (decision.limit, decision.remaining) == (2, 0)
    assert 0 < decision.retry_after_us <= 3_600_000_000
    assert [rule.name for rule in decision.violated] == ["named"]


async def test_the_same_on_an_event_loop(limit):
    await asyncio.to_thread(limit)
    assert [(await acheck("named", "ada")).allowed for _ in range(3)] == [True, True, False]


def test_without_an_identity_all_calls_are_one(limit):
    limit()
    assert allowed(None) == [True, True, False]


def test_several_limits_are_charged_together_or_not_at_all(limit):
    limit(quota=5)
    limit(name="second", quota=1)
    assert allowed("ada", 3, ["named", "second"]) == [True, False, False]
    assert check("named", "ada").remaining == 3


def test_peeking_charges_nobody(limit, engine):
    limit()
    assert [peek("named", "ada").remaining for _ in range(3)] == [2, 2, 2]
    allowed("ada")
    assert not peek("named", "ada").allowed
    engine.flush_usage()
    (counted,) = engine.usage.read().limits.values()
    assert (counted.allowed, counted.denied) == (2, 1)


def test_a_call_costs_what_it_says(limit):
    limit(quota=10)
    assert check("named", "ada", cost=9).remaining == 1
    assert not check("named", "ada", cost=2).allowed
    assert check("named", "ada", cost=0).allowed
    never = check("named", "ada", cost=11)
    assert not never.allowed
    assert "never more than 10" in never.violated[0].message
    assert check("named", "ada").remaining == 0
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="a cost of"):
            check("named", "ada", cost=wrong)


@pytest.mark.parametrize(
    "algorithm", ["token_bucket", "fixed_window", "sliding_window", "sliding_log"]
)
def test_every_algorithm_weighs(limit, algorithm):
    limit(quota=100, algorithm=algorithm)
    assert check("named", "ada", cost=60).remaining == 40
    assert not check("named", "ada", cost=41).allowed
    assert check("named", "ada", cost=40).remaining == 0


def test_costs_that_vary_are_forgotten_and_the_count_stays(limit, monkeypatch):
    monkeypatch.setattr("apps.ratelimits.named.MOST_COSTS", 3)
    limit(quota=1_000)
    assert [check("named", "ada", cost=cost).allowed for cost in range(1, 21)] == [True] * 20
    assert check("named", "ada").remaining == 1_000 - sum(range(1, 21)) - 1


def test_parts_share_their_count_with_requests(limit, rf):
    limit(counted_by="user")

    @rate_limit("named")
    def view(request):
        return HttpResponse("ok")

    assert check("named", {"address": "2001:db8::1"}).remaining == 1
    request = rf.get("/", REMOTE_ADDR="2001:db8::2")
    assert view(request)["RateLimit"].startswith('"named";r=0')
    ada = User.objects.create_user("ada")
    assert check("named", {"user": ada}).remaining == 1
    assert check("named", {"user": ada.pk, "address": "203.0.113.1"}).remaining == 0
    assert check("named", {"user": AnonymousUser(), "address": "203.0.113.1"}).remaining == 1


def test_parts_that_the_limit_does_not_count_by_are_one_identity_together(limit):
    """Staff may change by what a limit counts: code goes on."""
    limit(counted_by="address")
    assert allowed({"user": 7}) == [True, True, False]
    assert allowed({"user": 8}, 1) == [True]
    assert allowed({"user": 7, "session": "s"}, 1) == [True]
    assert allowed({"session": "s", "user": 7}, 2) == [True, False]
    with pytest.raises(ValueError, match="an identity with userid"):
        check("named", {"userid": 7})
    with pytest.raises(ValueError, match="without parts"):
        check("named", {})


def test_keys_sessions_and_arguments_can_be_named(limit):
    limit(counted_by="header,view_argument", header="X-Api-Key", view_argument="pk")
    assert allowed({"key": "acme", "argument": 1}) == [True, True, False]
    assert allowed({"key": "acme", "argument": 2}, 1) == [True]
    limit(name="by-session", counted_by="session")
    assert allowed({"session": "s"}, 3, "by-session") == [True, True, False]


def test_audience_and_groups_are_asked_where_a_user_is_named(limit, django_assert_num_queries):
    made = limit(quota=1, counted_by="user", audience="staff")
    ada = User.objects.create_user("ada", is_staff=True)
    bob = User.objects.create_user("bob")
    assert allowed({"user": bob}, 2) == allowed({"user": bob.pk}, 2) == [True, True]
    assert allowed({"user": ada.pk}, 2) == [True, False]
    assert allowed("somebody", 2) == [True, False]
    RateLimit.objects.filter(pk=made.pk).update(audience="everyone")
    made.groups.add(Group.objects.create(name="partners"))
    from apps.ratelimits.engine import get_engine

    get_engine().refresh()
    bob.groups.set(made.groups.all())
    assert allowed({"user": bob.pk}, 2) == [True, False]
    with django_assert_num_queries(0):
        assert allowed({"address": "203.0.113.1"}, 2) == [True, False]


async def test_audience_is_asked_on_an_event_loop_too(limit):
    await asyncio.to_thread(limit, quota=1, counted_by="user", audience="staff")
    ada = await User.objects.acreate_user("ada", is_staff=True)
    assert [(await acheck("named", {"user": ada.pk})).allowed for _ in range(2)] == [True, False]


def test_overrides_of_whom_code_names_hold(limit, engine):
    limit(quota=1, counted_by="user")
    ada = User.objects.create_user("ada")
    Override.objects.create(user=ada, action="unlimited")
    Override.objects.create(network="203.0.113.0/24", action="blocked")
    engine.refresh()
    assert allowed({"user": ada}) == [True] * 3
    assert allowed({"user": 99, "address": "203.0.113.9"}, 1) == [False]


def test_networks_are_asked_where_an_address_is_named(limit):
    limit(quota=1, networks="203.0.113.0/24")
    assert allowed({"address": "198.51.100.1"}) == [True] * 3
    assert allowed({"address": "203.0.113.1"}, 2) == [True, False]
    assert allowed("somebody", 2) == [True, False]


def configured(engine, **changes):
    engine.config = replace(engine.config, **changes)


def test_a_name_that_nobody_has_made_is_let_pass_and_said_once(engine, caplog):
    engine.start()
    configured(engine, unknown_limit="allow")
    used_in_code._unknown.discard("nobody-s")
    assert allowed("ada", 3, "nobody-s") == [True] * 3
    said = [record for record in caplog.records if "nobody-s" in record.message]
    assert len(said) == 1
    assert "Make it in the admin" in said[0].message


def test_a_name_that_nobody_has_made_is_an_error_or_denied_where_the_site_says_so(engine, limit):
    limit()
    configured(engine, unknown_limit="raise")
    with pytest.raises(UnknownLimit, match="No limit is named 'nobody-s'"):
        check("nobody-s", "ada")
    configured(engine, unknown_limit="deny")
    denied = check(["named", "nobody-s"], "ada")
    assert (denied.allowed, denied.unavailable) == (False, True)
    assert check("named", "ada").remaining == 1


def test_a_limit_that_is_off_is_not_unknown(limit, engine):
    limit(quota=1, mode="off")
    configured(engine, unknown_limit="raise")
    assert allowed("ada") == [True] * 3


@pytest.mark.parametrize(("no_ruleset", "expected"), [("allow", True), ("deny", False)])
def test_before_there_are_limits_the_site_s_policy_decides(
    engine, monkeypatch, no_ruleset, expected
):
    monkeypatch.setattr(type(engine), "version", -1)
    monkeypatch.setattr(type(engine), "start", lambda self: None)
    configured(engine, unknown_limit="raise", no_ruleset=no_ruleset)
    assert check("named", "ada").allowed is expected


def test_a_switched_off_limiter_lets_all_pass(limit, no_rate_limits):  # noqa: F811
    limit(quota=1)
    assert conf.current().disabled
    assert allowed("ada") == [True] * 3


def test_a_slot_is_held_as_long_as_the_block(limit):
    limit(algorithm="concurrency", quota=1)
    slot = concurrency("named", "ada")
    with slot as decision:
        assert decision.remaining == 0
        with pytest.raises(RateLimited, match="denied by named") as raised, slot:
            pass
        assert not raised.value.decision.allowed
        with concurrency("named", "bob"):
            pass
    with pytest.raises(KeyError), slot:
        raise KeyError
    with slot:
        pass


async def test_a_slot_is_free_again_when_its_task_is_cancelled(limit):
    await asyncio.to_thread(limit, algorithm="concurrency", quota=1)

    async def work():
        async with concurrency("named", "ada"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    while peek_in_thread := (await asyncio.to_thread(peek, "named", "ada")).allowed:
        await asyncio.sleep(0.01)
    assert peek_in_thread is False
    with pytest.raises(RateLimited):
        async with concurrency("named", "ada"):
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with concurrency("named", "ada"):
        pass


def test_a_limit_that_is_none_of_concurrency_counts_each_block(limit):
    limit()
    for _ in range(2):
        with concurrency("named", "ada"):
            pass
    with pytest.raises(RateLimited), concurrency("named", "ada"):
        pass


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("url", ["/leaking", "/aleaking"])
def test_what_a_view_lets_pass_is_answered_as_any_denial(limit, client, url):
    limit(name="slots", algorithm="concurrency", quota=1)
    with concurrency("slots", "one"):
        denied = client.get(url)
    assert denied.status_code == 429
    assert denied["Retry-After"]
    assert client.get(url).status_code == 200


def test_where_code_asks_is_known_once_it_has_asked(limit, monkeypatch):
    limit()
    known = used_in_code._used
    others = {name: places for name, places in known.items() if name != "named"}
    monkeypatch.setattr(used_in_code, "_used", type(known)(dict, others))
    check("named", "ada")
    where = f"{__name__}.test_where_code_asks_is_known_once_it_has_asked"
    asks = [use for use in used_in_code.uses()["named"] if use.how == "check"]
    assert asks
    with concurrency("named", "bob"):
        pass
    assert [
        (use.where, use.how) for use in used_in_code.uses()["named"] if use.how != "rate_limit"
    ] == [
        (where, "check"),
        (where, "concurrency"),
    ]


def test_a_canary_counts_each_whom_code_names_apart(limit):
    limit(mode="canary", canary_percent=50, quota=1)
    verdicts = {name: allowed(name, 2) for name in map(str, range(40))}
    # Of everyone the first passes: nobody uses up another's.
    assert {first for first, _ in verdicts.values()} == {True}
    assert {second for _, second in verdicts.values()} == {True, False}
