from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core import mail
from django.test import RequestFactory
from django.utils import timezone

from apps.monitoring import alerting, delivery, guide, sealing
from apps.monitoring.admin.alert_rules import sentence
from apps.monitoring.metrics import Kind
from apps.monitoring.models import Alert, AlertRule, Channel, RuleState, Sample, Silence, Source
from iota.navigation import sidebar
from tests.receivers import webhook

pytestmark = pytest.mark.django_db
ROOT = "/admin/monitoring/"
MODELS = ("alert", "alertrule", "silence", "channel")
NAME = "A rule whose name is as long as a name may be and which is about the queue "


@pytest.fixture
def alert(engine, monkeypatch) -> Alert:
    """One that fires, one that is pending, one that is over, and a silence."""
    monkeypatch.setattr(delivery, "hand_over", lambda now: None)
    import_module("apps.monitoring.migrations.0004_alert_rules").rows(apps, None)
    now = timezone.now()
    seen = {"first_seen_at": now, "looked_at": now, "answered_at": now}
    node = Source.objects.create(kind=Kind.NODE, address="10.0.0.1:6379", **seen)
    other = Source.objects.create(kind=Kind.NODE, address="10.0.0.2:6379", **seen)
    AlertRule.objects.filter(metric="memory_percent").update(for_s=0)
    values = {"memory_percent": 95.5, "evicted_per_s": 12.0, "clients_percent": 85.0}
    Sample.objects.create(source=node, at=now, values=values)
    quiet = {"memory_percent": 91.0, "cpu_percent": None}
    Sample.objects.create(source=other, at=now - timedelta(seconds=15), values=quiet)
    alerting.evaluate_all(now - timedelta(seconds=10))
    Sample.objects.create(source=other, at=now, values={"memory_percent": 20.0})
    alerting.evaluate_all(now)
    return Alert.objects.get(state="firing")


def staff(client, *permissions: str) -> User:
    user = User.objects.create_user("ada", password="a long one for tests", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return user


def everything(verb: str) -> list[str]:
    return [f"{verb}_{model}" for model in MODELS]


def pages() -> list[str]:
    rule, channel = AlertRule.objects.first(), Channel.objects.first()
    made = Silence.objects.create(until=timezone.now() + timedelta(hours=1), reason="why")
    return [
        f"{ROOT}alert/",
        f"{ROOT}alert/?all=1",
        f"{ROOT}alert/guide/alerts/",
        f"{ROOT}alertrule/",
        f"{ROOT}alertrule/{rule.pk}/change/",
        f"{ROOT}silence/",
        f"{ROOT}silence/{made.pk}/change/",
        f"{ROOT}channel/",
        f"{ROOT}channel/{channel.pk}/change/",
    ]


def posts(alert: Alert) -> list[tuple[str, dict[str, str]]]:
    silence, channel = Silence.objects.first(), Channel.objects.first()
    return [
        (f"{ROOT}alert/{alert.pk}/silence/", {"hours": "4", "reason": "We know."}),
        (f"{ROOT}silence/{silence.pk}/end/", {}),
        (f"{ROOT}channel/{channel.pk}/test/", {}),
        (f"{ROOT}channel/add/", {"name": "n", "url": "json://example.com", "severity": "warning"}),
    ]


def test_permissions(client, alert):
    paths = pages()
    calls = posts(alert)
    for path in paths:
        assert client.get(path).headers["Location"].startswith("/admin/login/"), path
    user = staff(client)
    for path in paths:
        assert client.get(path).status_code == 403, path
    for path, data in calls:
        assert client.post(path, data).status_code == 403, path
    user.user_permissions.set(Permission.objects.filter(codename__in=everything("view")))
    for path in paths:
        response = client.get(path)
        assert response.status_code == 200, path
        for button in ("/silence/", "/end/", "/test/"):
            assert f'{button}"' not in response.content.decode().replace(f'"{ROOT}silence/"', "")
    for path, data in calls:
        assert client.post(path, data).status_code == 403, path
    assert Silence.objects.count() == Channel.objects.count() == 1
    for path, _ in calls[:3]:
        assert client.get(path).status_code == 405, path


def test_what_fires_is_first_with_its_cure(client, alert):
    staff(client, *everything("view"))
    page = client.get(f"{ROOT}alert/").content.decode()
    assert "1 firing, 1 pending." in page
    first, second = page.split('class="bm-card bm-pad al-')[1:3]
    assert first.startswith("firing")
    assert second.startswith("pending")
    for text in ("Redis: memory: 10.0.0.1:6379", "95.5 %", "above 90 %", "Keys evicted 12/s"):
        assert text in first
    assert f'href="{ROOT}alert/guide/alerts/#redis-memory"' in first
    assert "Redis: connections" in second
    over = page.split('id="over"')[1]
    assert "10.0.0.2:6379" in over
    assert "91 %" in over
    assert "No data" in page.split('id="states"')[1]


def test_a_silence_takes_two_clicks_and_is_ended_in_one(client, alert):
    user = staff(client, *everything("view"), "add_silence", "change_silence")
    page = client.get(f"{ROOT}alert/").content.decode()
    assert f'action="{ROOT}alert/{alert.pk}/silence/"' in page
    data = {"hours": "4", "reason": "We know.", "next": f"{ROOT}alert/"}
    page = client.post(f"{ROOT}alert/{alert.pk}/silence/", data, follow=True).content.decode()
    assert "Silenced for 4 h" in page
    made = Silence.objects.get()
    assert (made.rule, made.source, made.made_by) == (alert.rule, alert.source, user)
    assert 3.9 < (made.until - timezone.now()).total_seconds() / 3_600 <= 4
    assert "Silenced until" in page
    client.post(f"{ROOT}silence/{made.pk}/end/", {"next": "https://example.com/"})
    made.refresh_from_db()
    assert not made.is_active
    page = client.post(f"{ROOT}silence/{made.pk}/end/", follow=True).content.decode()
    assert "That silence is over already." in page
    for hours in ("0", "", "5", "x", "99999999999"):
        client.post(f"{ROOT}alert/{alert.pk}/silence/", {"hours": hours})
    assert Silence.objects.count() == 1


def test_empty_late_and_calm_are_told_apart(client, alert):
    staff(client, *everything("view"))
    Alert.objects.filter(state__in=Alert.OPEN).delete()
    assert "Nothing to do: nothing fires." in client.get(f"{ROOT}alert/").content.decode()
    RuleState.objects.update(evaluated_at=timezone.now() - timedelta(minutes=5))
    page = client.get(f"{ROOT}alert/").content.decode()
    assert "Nobody judges the rules" in page
    assert "Nothing to do" not in page
    RuleState.objects.all().delete()
    page = client.get(f"{ROOT}alert/").content.decode()
    assert "Nothing has been judged yet." in page
    assert "or set IOTA_ADMINS" in page


def test_an_address_is_typed_in_and_never_seen_again(client, alert):
    staff(client, *everything("view"), *everything("change"), *everything("add"))
    secret = "very-secret-token"
    data = {
        "name": "Ours", "url": f"json://example.com/{secret}", "severity": "warning",
        "enabled": "on",
    }  # fmt: skip
    client.post(f"{ROOT}channel/add/", data)
    made = Channel.objects.get(name="Ours")
    assert made.receiver == "webhook: example.com"
    assert sealing.unseal(made.sealed).endswith(secret)
    for path in ("", f"{made.pk}/change/", f"{made.pk}/history/"):
        assert secret not in client.get(f"{ROOT}channel/{path}").content.decode()
    # An empty field keeps it.
    client.post(f"{ROOT}channel/{made.pk}/change/", {**data, "url": "", "name": "Theirs"})
    made.refresh_from_db()
    assert made.name == "Theirs"
    assert sealing.unseal(made.sealed).endswith(secret)
    refused = client.post(f"{ROOT}channel/add/", {**data, "url": f"file:///{secret}", "name": "x"})
    assert "It begins with one of" in refused.content.decode()
    assert secret not in refused.content.decode()
    assert "Where is it to go?" in client.post(
        f"{ROOT}channel/add/", {**data, "url": "", "name": "x"}
    ).content.decode()  # fmt: skip


def test_a_test_is_sent_and_its_failure_said(client, alert):
    staff(client, *everything("view"), "test_channel")
    with webhook() as hook:
        made = Channel.objects.create(name="h", sealed=sealing.seal(hook.url), receiver="webhook")
        assert "Send a test" in client.get(f"{ROOT}channel/{made.pk}/change/").content.decode()
        page = client.post(f"{ROOT}channel/{made.pk}/test/", follow=True).content.decode()
        assert "A test was sent" in page
        assert hook.titles == ["[IOTA] Test"]
        hook.answers = [500]
        page = client.post(f"{ROOT}channel/{made.pk}/test/", follow=True).content.decode()
        assert "The test was not taken: answered 500." in page


def test_a_test_to_the_admins(client, alert, settings):
    settings.ADMINS = [("Ada", "ada@example.com")]
    staff(client, *everything("view"), "test_channel")
    client.post(f"{ROOT}channel/{Channel.objects.get().pk}/test/")
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]


def test_a_rule_says_what_it_does(alert):
    rule = AlertRule.objects.get(metric="check_p99_us")
    assert sentence(rule) == (
        "Warning: Check, p99 above 10 ms for 1 min, where at least 100 checks are behind it. "
        "Over at 8 ms."
    )


def test_a_rule_that_cannot_be_is_refused_with_its_reason(client, alert):
    staff(client, *everything("view"), *everything("change"), *everything("add"))
    good = {
        "name": "Mine", "metric": "cpu_percent", "direction": "above", "threshold": "50",
        "for_s": "60", "clear": "", "at_least": "0", "severity": "warning", "enabled": "on",
        "words": "", "guide": "",
    }  # fmt: skip
    for wrong, words in (
        ({"clear": "60"}, "above the threshold"),
        ({"direction": "below", "clear": "40"}, "below the threshold"),
        ({"at_least": "5"}, "not made of events"),
        ({"metric": "nonsense"}, "No metric of that name"),
        ({"threshold": "nan"}, "Enter a number"),
        ({"guide": "javascript:alert(1)"}, "A heading of the guide"),
        ({"for_s": "90000"}, "less than or equal"),
    ):
        page = client.post(f"{ROOT}alertrule/add/", {**good, **wrong}).content.decode()
        assert words in page, wrong
    assert not AlertRule.objects.filter(name="Mine").exists()
    assert client.post(f"{ROOT}alertrule/add/", good).status_code == 302
    made = AlertRule.objects.get(name="Mine")
    # What its states and alerts are of is not changed.
    data = {**good, "metric": "clients", "direction": "below", "threshold": "55"}
    assert client.post(f"{ROOT}alertrule/{made.pk}/change/", data).status_code == 302
    made.refresh_from_db()
    assert (made.metric, made.direction, made.threshold) == ("cpu_percent", "above", 55)


def test_every_cure_is_written(client, alert):
    staff(client, *everything("view"))
    page = client.get(f"{ROOT}alert/guide/alerts/").content.decode()
    for rule in AlertRule.objects.all():
        assert f'id="{rule.guide[1:]}"' in page, rule.guide
    assert f'href="{ROOT}alert/guide/leases/"' in page
    for name in ("nothing", "0001"):
        assert client.get(f"{ROOT}alert/guide/{name}/").status_code == 404
    assert guide.link("https://example.com/x") == "https://example.com/x"


def test_the_sidebar_counts_what_fires(admin_user, alert):
    request = RequestFactory().get("/admin/")
    request.user = admin_user
    items = {item["title"]: item for group in sidebar(request) for item in group["items"]}
    assert items["Alerts"]["badge"] == "1"
    Alert.objects.update(state="resolved")
    items = {item["title"]: item for group in sidebar(request) for item in group["items"]}
    assert "badge" not in items["Alerts"]


def test_the_page_costs_few_queries(client, alert, django_assert_max_num_queries):
    staff(client, *everything("view"))
    client.get(f"{ROOT}alert/")
    with django_assert_max_num_queries(40):
        client.get(f"{ROOT}alert/")
