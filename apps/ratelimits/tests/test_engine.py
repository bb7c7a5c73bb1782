"""Edits in the database, and when they are in force."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from apps.ratelimits import conf, ruleset
from apps.ratelimits.engine import forget_engine, get_engine
from apps.ratelimits.models import Override, RateLimit, RulesetVersion
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts, UserFacts
from apps.ratelimits.policy.rules import Rule, Ruleset
from apps.ratelimits.storage.limiter import DEFAULT_RULE
from apps.ratelimits.storage.ruleset_store import decode, encode
from apps.ratelimits.tasks import reconcile_ruleset


def make(name="one", **changes) -> RateLimit:
    values = {"quota": 3, "path_kind": "exact", "path": "/api/test", **changes}
    return RateLimit.objects.create(name=name, **values)


def names(engine) -> list[str]:
    engine.refresh()
    return [compiled.rule.name for compiled in engine.index.rules]


def test_every_way_of_writing_is_published(engine):
    limit = make()
    assert names(engine) == ["one"]
    limit.quota = 5
    limit.save()
    engine.refresh()
    assert engine.index.rules[0].rule.rate.quota == 5
    RateLimit.objects.update(mode="off")
    assert names(engine) == []
    RateLimit.objects.bulk_create(
        [RateLimit(name="two", quota=1), RateLimit(name="three", quota=1)]
    )
    assert names(engine) == ["three", "two"]
    RateLimit.objects.filter(name="two").delete()
    assert names(engine) == ["three"]
    two = RateLimit.objects.get(name="three")
    two.mode = "off"
    RateLimit.objects.bulk_update([two], ["mode"])
    assert names(engine) == []


def test_a_fixture_is_published(engine, tmp_path):
    make()
    dumped = io.StringIO()
    call_command("dumpdata", "ratelimits.ratelimit", stdout=dumped)
    RateLimit.objects.all().delete()
    assert names(engine) == []
    fixture = tmp_path / "limits.json"
    fixture.write_text(json.dumps(json.loads(dumped.getvalue())))
    call_command("loaddata", str(fixture), verbosity=0)
    assert names(engine) == ["one"]


def test_an_edit_that_is_rolled_back_is_never_published(engine):
    before = RulesetVersion.current()
    with transaction.atomic():
        make()
        transaction.set_rollback(True)
    assert names(engine) == []
    assert RulesetVersion.current() == before


def test_groups_and_overrides_are_published(engine, django_user_model):
    from django.contrib.auth.models import Group

    limit, group = make(), Group.objects.create(name="partners")
    limit.groups.add(group)
    Override.objects.create(limit=limit, network="10.0.0.0/8", action="unlimited")
    engine.refresh()
    (compiled,) = engine.index.rules
    assert compiled.rule.groups == {str(group.pk)}
    assert [override.value for override in compiled.rule.overrides] == ["10.0.0.0/8"]


def test_an_older_publisher_does_not_win(engine):
    make()
    newest = ruleset.load()
    assert not engine.store.publish(Ruleset(newest.version - 1))
    assert engine.store.fetch() == newest


def test_a_lost_publication_is_reconciled(engine, monkeypatch):
    monkeypatch.setattr("apps.ratelimits.engine.Engine.publish", lambda self: 0)
    make()
    assert names(engine) in ([], ["one"])
    monkeypatch.undo()
    reconcile_ruleset()
    assert names(engine) == ["one"]
    assert engine.store.version() == RulesetVersion.current()
    assert reconcile_ruleset() is False


def test_an_emptied_redis_gets_the_ruleset_back(engine, redis_client):
    make()
    engine.refresh()
    redis_client.flushall()
    engine.refresh()
    assert engine.store.version() == RulesetVersion.current()


def test_a_save_without_redis_succeeds_and_is_published_later(engine, redis_server):
    engine.start()
    redis_server.pause()
    try:
        make()
    finally:
        redis_server.resume()
    engine.limiter.client.connection_pool.disconnect()
    reconcile_ruleset()
    assert names(engine) == ["one"]


def test_the_poller_brings_an_edit_into_force_within_a_second(engine):
    import time

    engine.start()
    make()
    deadline = time.monotonic() + 1
    while not engine.index.rules and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [compiled.rule.name for compiled in engine.index.rules] == ["one"]


def test_a_ruleset_survives_being_stored():
    rules = (DEFAULT_RULE, Rule(7, "x", DEFAULT_RULE.rate, methods=frozenset({"GET", "PUT"})))
    assert decode(encode(Ruleset(3, rules))) == Ruleset(3, rules)


def test_a_row_that_cannot_be_enforced_keeps_no_other_from_it(engine, caplog):
    make()
    make("two", path="/two")
    make("three", path="/three", path_kind="prefix")
    RateLimit.objects.filter(name="two").update(cost=1_000)
    RateLimit.objects.filter(name="three").update(path_kind="regex", path="(")
    assert names(engine) == ["one"]
    assert "Limit two is not enforced" in caplog.text
    assert "Limit three is not enforced" in caplog.text


def test_an_override_that_a_dearer_request_made_impossible_is_left_out(engine, caplog):
    limit = make(quota=9)
    Override.objects.create(limit=limit, network="10.0.0.0/8", action="quota", quota=2)
    RateLimit.objects.update(cost=5)
    engine.refresh()
    assert engine.index.rules[0].rule.overrides == ()
    assert "is not applied" in caplog.text


def test_an_overridden_client_gets_the_same_rule_every_time(engine):
    Override.objects.create(limit=make(), network="10.0.0.0/8", action="quota", quota=2)
    engine.refresh()
    first, second = (planned(engine, "10.1.2.3") for _ in range(2))
    assert first is second
    assert first.rate.quota == 2
    assert planned(engine, "203.0.113.9") is engine.index.rules[0].rule


def test_the_most_particular_override_that_is_not_over_wins(engine, django_user_model):
    limit, ada = make(), django_user_model.objects.create_user("ada")
    past = timezone.now() - timedelta(seconds=1)
    for whom, quota in (
        ({"network": "0.0.0.0/0"}, 5),
        ({"user": ada}, 7),
        ({"network": "10.0.0.0/8"}, 9),
        ({"user": ada, "until": past}, 11),
    ):
        Override.objects.create(limit=limit, action="quota", quota=quota, **whom)
    engine.refresh()
    assert planned(engine, "10.1.2.3", UserFacts(str(ada.pk))).rate.quota == 7
    assert planned(engine, "10.1.2.3").rate.quota == 5  # Of two alike, the first.
    assert planned(engine, "203.0.113.9").rate.quota == 5


def planned(engine, address, user=ANONYMOUS) -> Rule:
    facts = RequestFacts("GET", "/api/test", address)
    (rule,) = engine.plan(engine.candidates(facts), facts, user).rules
    return rule


def test_a_ruleset_that_cannot_be_read_fails_no_request(engine, redis_client):
    make()
    engine.publish()
    unknown = b'{"version": 9e15, "rules": [{"of another": "version"}]}'
    redis_client.hset(engine.limiter.keys.ruleset, "data", unknown)
    engine.start()
    assert [compiled.rule.name for compiled in engine.index.rules] == ["one"]


def test_threads_that_ask_first_at_once_get_the_same_engine(engine, monkeypatch):
    current = conf.current()

    def slowly():
        time.sleep(0.05)
        return current

    monkeypatch.setattr(conf, "current", slowly)
    forget_engine()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get_engine(), range(8)))
    assert len({id(made) for made in found}) == 1
    found[0].limiter.close()
    forget_engine()
