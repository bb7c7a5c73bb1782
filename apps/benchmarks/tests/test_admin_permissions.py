"""Who sees the benchmarks' pages, and whose buttons do anything."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User

from apps.benchmarks.models import BenchmarkRun, Metric, Regression
from apps.benchmarks.tests import history

pytestmark = pytest.mark.django_db

ROOT = "/admin/benchmarks/"
MODELS = ("benchmarkrun", "metric", "machine", "annotation", "regression")


@pytest.fixture
def paths(_engine_free) -> list[str]:
    run, other = history.runs(2)
    metric = history.metric()
    history.measure(metric, [run, other], [100.0, 101.0])
    Regression.objects.create(metric=metric, machine=run.machine, run=run, ratio=1.2)
    return [
        f"{ROOT}metric/trends/",
        f"{ROOT}metric/trends/?format=csv",
        f"{ROOT}metric/",
        f"{ROOT}metric/{metric.pk}/change/",
        f"{ROOT}benchmarkrun/",
        f"{ROOT}benchmarkrun/{run.pk}/change/",
        f"{ROOT}benchmarkrun/compare/?run={run.pk}",
        f"{ROOT}benchmarkrun/compare/?run={run.pk}&with={other.pk}",
        f"{ROOT}regression/",
        f"{ROOT}machine/",
        f"{ROOT}annotation/",
    ]


@pytest.fixture
def _engine_free(engine):
    """The middleware's engine, on an empty server."""


def staff(client, *verbs: str) -> User:
    user = User.objects.create_user("ada", password="a long one for tests", is_staff=True)
    names = [f"{verb}_{model}" for verb in verbs for model in MODELS]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    return user


def posts() -> list[tuple[str, dict[str, str]]]:
    run, regression = BenchmarkRun.objects.all()[0], Regression.objects.get()
    return [
        (f"{ROOT}benchmarkrun/run-now/", {"set": "quick"}),
        (f"{ROOT}benchmarkrun/{run.pk}/again/", {}),
        (f"{ROOT}benchmarkrun/{run.pk}/stop/", {}),
        (f"{ROOT}regression/{regression.pk}/decide/", {"decision": "ignore", "reason": "noise"}),
        (f"{ROOT}regression/{regression.pk}/measure/", {}),
        (f"{ROOT}metric/{Metric.objects.get().pk}/change/", {"threshold_percent": "20"}),
    ]


def test_a_stranger_is_sent_to_the_log_in(client, paths):
    for path in paths:
        assert client.get(path).headers["Location"].startswith("/admin/login/"), path
    for path, data in posts():
        assert client.post(path, data).headers["Location"].startswith("/admin/login/"), path
    assert BenchmarkRun.objects.count() == 2


def test_staff_without_permission_see_nothing(client, paths):
    staff(client)
    for path in paths:
        assert client.get(path).status_code == 403, path
    for path, data in posts():
        assert client.post(path, data).status_code == 403, path


def test_a_viewer_sees_all_and_has_no_button(client, paths):
    staff(client, "view")
    for path in paths:
        response = client.get(path)
        assert response.status_code == 200, path
        content = response.content.decode()
        for button in ("run-now/", "/again/", "/stop/", "/decide/", "/measure/"):
            assert f'{button}"' not in content, path
    for path, data in posts():
        assert client.post(path, data).status_code == 403, path
    assert Regression.objects.get().state == "suspected"
    assert Metric.objects.get().threshold_percent is None


def test_an_editor_has_them(client, paths):
    staff(client, "view", "change", "add")
    for path in paths:
        assert client.get(path).status_code == 200, path
    assert 'run-now/"' in client.get(f"{ROOT}benchmarkrun/").content.decode()
    assert '/decide/"' in client.get(f"{ROOT}regression/").content.decode()
    for path, data in posts():
        assert client.post(path, data).status_code == 302, path
    assert Regression.objects.get().state == "ignored"
    assert Metric.objects.get().threshold_percent == 20


def test_buttons_are_posts(client, paths):
    staff(client, "view", "change", "add")
    for path, _ in posts()[:-1]:
        assert client.get(path).status_code == 405, path


def test_a_page_of_what_is_not_there_is_404(client, paths):
    staff(client, "view")
    for path in ("benchmarkrun/compare/", "benchmarkrun/compare/?run=x"):
        assert client.get(ROOT + path).status_code == 404
    assert client.get(f"{ROOT}benchmarkrun/compare/?run=999999").status_code == 404
