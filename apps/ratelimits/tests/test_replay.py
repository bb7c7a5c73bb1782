"""What a replay says is what really happened: on a real server, and through the whole site."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from apps.ratelimits import previewing
from apps.ratelimits.engine import forget_engine, get_engine
from apps.ratelimits.models import Override, RateLimit
from apps.ratelimits.policy.judging import Judge
from apps.ratelimits.policy.replay import Said, replay
from apps.ratelimits.policy.rules import Algorithm
from apps.ratelimits.policy.traffic import TOOK_UNKNOWN, Batch, Outcome, What, Who
from apps.ratelimits.storage.limiter import Target

from .limiters import limiter, rule
from .test_middleware import limit

__all__ = ["limit", "limiter"]

WHAT = What("GET", "/", "", "", ())
OK = Outcome(200, ())


def who(name: str, **changes) -> Who:
    known = Who(name, "203.0.113.0/24", "", False, (), "", (), ())
    return known._replace(**changes)


def batch(rows, *, whos=None, outcomes=(OK,), whats=(WHAT,), **changes) -> Batch:
    """Rows of time, name and, where they differ, outcome, duration and what was asked (places)."""
    rows = [(*row, *(0, 0, 0)[len(row) - 2 :]) for row in rows]
    names = list(dict.fromkeys(row[1] for row in rows))
    made = Batch(
        list(whats), whos or [who(name) for name in names], list(outcomes),
        array("Q", [row[0] for row in rows]), array("I", [row[3] for row in rows]),
        array("I", [row[4] for row in rows]), array("I", [names.index(row[1]) for row in rows]),
        array("I", [row[2] for row in rows]),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def said(traffic: Batch, one, **options) -> list[Said]:
    judge = Judge(one, lambda path: path, now_us=0, **options)
    return [Said(each) for each in replay(traffic, judge).said]


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "changes", [{}, {"cost": 2}, {"charge_denied": True}, {"block_us": 20_000}], ids=str
)
def test_it_denies_what_a_real_server_denies(limiter, algorithm, changes):
    """At the server's own times, within windows that go by meanwhile."""
    if algorithm is Algorithm.CONCURRENCY and ("cost" in changes or "charge_denied" in changes):
        pytest.skip("a slot is one, and a denial takes none")
    limited = rule(algorithm, quota=4, window_us=30_000, **changes)
    chance = random.Random(7)
    rows, happened = [], []
    for _ in range(1_500):
        name = chance.choice("aab") * 20
        reply, decision = limiter.traced_check([Target(limited, name)])
        # Nobody releases a slot here: its lease ends it.
        rows.append((reply[1], name, 0, TOOK_UNKNOWN - 1))
        happened.append(Said.ALLOWED if decision.allowed else Said.DENIED)
    assert said(batch(rows), limited) == happened
    assert {Said.ALLOWED, Said.DENIED} == set(happened)


def ok(request, **arguments):
    return HttpResponse(request.user.is_authenticated)


def teapot(request):
    return HttpResponse(status=418)


urlpatterns = [
    path("api/test", ok, name="api-test"),
    path("api/teapot", teapot, name="teapot"),
    path("users/<slug:name>", ok, name="user"),
    path("healthz", ok),
]
VALIDATOR = f"{__name__}.whose_key"


def whose_key(header: str, value: str) -> str | None:
    return value.removesuffix("-key") if value.endswith("-key") else None


@pytest.fixture
def clients(db):
    """Anonymous ones of several addresses, users, staff, with keys and without."""
    group = Group.objects.create(name="few")
    made = []
    for number in range(12):
        extra = {"REMOTE_ADDR": f"203.0.{number % 4}.{number}"}
        if number % 3 == 2:
            extra["HTTP_X_API_KEY"] = f"k{number % 2}-key"
        client = Client(**extra)
        if number % 2:
            user = User.objects.create(username=f"user{number}", is_staff=number % 4 == 1)
            if number % 3 == 0:
                user.groups.add(group)
            client.force_login(user)
        made.append(client)
    return made


def send(clients) -> list[int]:
    """The same trace each time: who asks for what, in the same order."""
    chance = random.Random(11)
    found = []
    for _ in range(90):
        client = clients[min(int(chance.expovariate(0.4)), len(clients) - 1)]
        url = chance.choice(
            ["/api/test", "/api/test", "/api/teapot", "/users/ada", "/users/bob", "/nowhere/x"]
        )
        method = client.post if chance.random() < 0.2 else client.get
        found.append(method(url).status_code)
    return found


FEW = [{"action": "quota", "quota": 1}, {"action": "unlimited"}, {"action": "blocked"}]
LIMITS = [
    {},
    {"algorithm": "token_bucket", "burst": 1},
    {"algorithm": "sliding_window"},
    {"algorithm": "sliding_log", "cost": 2, "quota": 7},
    {"charge_denied": True, "block_amount": 5},
    {"methods": "POST"},
    {"path_kind": "view", "path": "user"},
    {"path_kind": "glob", "path": "/users/*"},
    {"path_kind": "exact", "path": "/users/ada"},
    {"path_kind": "prefix", "path": "/nowhere/"},
    {"host": "testserver"},
    {"host": "*.example.com"},
    {"networks": "203.0.1.0/24\n203.0.2.0/23"},
    {"networks_excluded": "203.0.0.0/23"},
    {"audience": "anonymous"},
    {"audience": "signed_in", "counted_by": "user"},
    {"audience": "staff"},
    {"groups": "few"},
    {"counted_by": "user"},
    {"counted_by": "session"},
    {"counted_by": "header", "header": "X-Api-Key"},
    {"counted_by": "address,header", "header": "X-Api-Key"},
    {"counted_by": "view_argument", "view_argument": "name"},
    {"counted_by": "address,view_argument", "view_argument": "name"},
    {"counted_by": "everyone", "quota": 40},
    {"counts": "status", "statuses": "418"},
    {"counts": "status", "statuses": "418", "algorithm": "token_bucket"},
]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("changes", LIMITS, ids=str)
def test_it_says_what_then_happens(limit, clients, settings, changes):
    """Recorded while the limit does nothing; then the same is sent with it enforced."""
    _traced(limit, clients, settings, changes, "off")


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("override", FEW, ids=str)
@pytest.mark.parametrize("target", ["user", "group", "network", "key"])
def test_it_says_what_then_happens_with_exceptions(limit, clients, settings, override, target):
    whom = {
        "user": {"user": User.objects.order_by("pk").first()},
        "group": {"group": Group.objects.get(name="few")},
        "network": {"network": "203.0.1.0/24"},
        "key": {"header": "X-Api-Key", "key_of": "k0"},
    }[target]
    _traced(limit, clients, settings, {}, "shadow", {**override, **whom})


def _traced(limit, clients, settings, changes, mode, override=None) -> None:
    settings.IOTA_RATELIMITS = replace(settings.IOTA_RATELIMITS, key_validator=VALIDATOR)
    get_engine().stop()
    forget_engine()
    engine = get_engine()
    try:
        _compare(engine, clients, changes, mode, override)
    finally:
        engine.stop()
        engine.limiter.close()


def _compare(engine, clients, changes, mode, override) -> None:
    # What a limit has to know is known because another asks for it: off means that nobody does.
    of_all = {"name": "asks", "quota": 100_000, "mode": "shadow", "path_kind": "any", "path": ""}
    changes = dict(changes)
    groups = changes.pop("groups", "")
    made = {"path_kind": "any", "path": "", "window_unit": 86_400, "mode": mode, **changes}
    asking = RateLimit(algorithm="fixed_window", counted_by="user,session,header",
                       header="X-Api-Key", **of_all)  # fmt: skip
    asking.save()
    asking.groups.add(Group.objects.get(name="few"))
    # Whoever is in no group is not asked about otherwise.
    RateLimit(**{**of_all, "name": "asks-all"}, algorithm="fixed_window",
              counted_by="user,session,header", header="X-Api-Key").save()  # fmt: skip
    draft = RateLimit(**{"name": "draft", "algorithm": "fixed_window", "quota": 2, **made})
    draft.full_clean()
    draft.save()
    if groups:
        draft.groups.add(Group.objects.get(name=groups))
    if override:
        Override.objects.create(limit=draft, **override)
    engine.refresh()
    engine.recorder.take()
    seen = send(clients)
    assert 429 not in seen
    engine.flush_traffic()
    traffic = engine.traffic.read()
    assert len(traffic) == len(seen)
    found = previewing.judge_of(engine, previewing.as_it_is(draft.pk))
    result = replay(traffic, found)
    assert not result.untold
    predicted = [each in (Said.DENIED, Said.BOTH) for each in result.said]

    draft.mode = "enforce"
    draft.epoch += 1
    draft.save()
    engine.refresh()
    happened = [status == 429 for status in send(clients)]
    assert predicted == happened
    if changes.get("host") != "*.example.com" and "'action': 'unlimited'" not in str(override):
        assert True in happened


@pytest.mark.parametrize("algorithm", [one for one in Algorithm if one != "concurrency"])
@pytest.mark.parametrize("cost", [1, 2])
def test_who_asks_no_more_than_is_granted_at_once_is_not_denied(algorithm, cost):
    """They are not reckoned one by one; whoever asks once more is."""
    one = rule(algorithm, quota=6, burst=6, cost=cost)
    granted = 6 // cost
    for number in (granted, granted + 1):
        told = said(batch([(10**15, "a")] * number), one)
        assert told == [Said.ALLOWED] * granted + [Said.DENIED] * (number - granted)
