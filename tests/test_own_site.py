"""The limiter in somebody else's Django site: docs/guides/your-own-site.md, followed to the letter.

On Django 5.2 with every run of the tests; on the newest Django by `make test-django`.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
import requests

from . import wheels
from .staff import WITHIN_S, denied_in_time, signed_in, status, write_limit

GUIDE = wheels.ROOT / "docs" / "guides" / "your-own-site.md"
README = wheels.ROOT / "apps" / "ratelimits" / "README.md"
PASSWORD = "a-password-of-staff-83"

PAGES = """
import io
import re
from django.contrib import admin
from django.core.management import call_command
from django.urls import URLResolver, get_resolver
from iota_ratelimits.models import Override, RateLimit, SweepRun

call_command("ratelimit", "upkeep", stdout=io.StringIO())  # A run of the clean-up.
Override.objects.create(network="192.0.2.0/24", action=Override.Action.UNLIMITED)
rows = {"ratelimit": RateLimit, "override": Override, "sweeprun": SweepRun}
models = {model._meta.model_name for model in admin.site._registry
          if model._meta.app_label == "ratelimits"}
assert models == set(rows), models


def routes(resolver, before):
    for pattern in resolver.url_patterns:
        route = before + str(pattern.pattern).lstrip("^").rstrip("$")
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        else:
            yield route


for route in routes(get_resolver(), ""):
    found = re.match(r"admin/ratelimits/(\\w+)/", route)
    if not found:
        continue
    row = rows[found[1]].objects.first()
    newest = row.history.first().pk if hasattr(row, "history") else ""
    # Converters, and the groups of django-simple-history's patterns: the row's, then an entry's.
    whose = iter([row.pk, newest])
    print("/" + re.sub(r"<[^>]+>|\\([^)]+\\)", lambda argument: str(next(whose)), route))
"""

COMMANDS = """
from django.core.management import execute_from_command_line

for words in {}:
    print("$", *words)
    execute_from_command_line(["manage.py", *words])
"""

MORE = """
INSTALLED_APPS = ["unfold", "unfold.contrib.import_export", *INSTALLED_APPS]
INSTALLED_APPS += ["import_export", "rest_framework"]
CELERY_BROKER_URL = os.environ["REDIS_URL"]
STATIC_ROOT = BASE_DIR / "collected"
"""

CELERY = """
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""

THROTTLED = """
from iota_ratelimits.drf import RateLimitThrottle
from iota_ratelimits.use import rate_limit
from rest_framework.response import Response
from rest_framework.views import APIView


class Exports(APIView):
    throttle_classes = [RateLimitThrottle]
    throttle_limits = ["exports"]

    def get(self, request):
        return Response({"ready": True})


@rate_limit("reports")
def reports(request):
    return HttpResponse("ready")


urlpatterns += [path("exports/", Exports.as_view()), path("reports/", reports)]
"""
UNFOLD_WARNS = "ignore:Overriding get_action_choices:PendingDeprecationWarning"
"""unfold 0.91 does so under Django 6.1."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return wheels.build(tmp_path_factory.mktemp("wheel"))[0]


def new_site(tmp_path: Path, wheel: Path, python: str, redis_url: str, django: str) -> wheels.Site:
    site = wheels.Site(tmp_path, python, redis_url)
    site.install(f"Django{django}")
    site.start_project()
    (site.folder / "dist").mkdir()
    shutil.copy(wheel, site.folder / "dist")
    return site


def follow_the_guide(site: wheels.Site, settings: str) -> None:
    install, check, _, _ = blocks(GUIDE, "sh")
    site.shell(install)
    site.environment["PYTHONWARNINGS"] = wheels.DEPRECATED  # pip has some of its own.
    site.configure(settings)
    said = site.shell(check)
    assert "System check identified no issues (0 silenced)." in said
    assert f"REDIS_URL = '{site.redis_url}'" in said
    site.environment["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    site.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "a@example.com")


def limited_by_staff(site: wheels.Site, url: str) -> requests.Session:
    staff = signed_in(url, "ada", PASSWORD)
    typed = {"name": "first", "quota": "3", "path_kind": "exact", "path": "/hello/"}
    saved_s = write_limit(staff, url, **typed, mode="enforce")
    denied_in_time(f"{url}/hello/", saved_s, 3)
    _, _, four, _ = blocks(GUIDE, "sh")
    (shown,) = re.findall(r"```\n(200\n.*?)```", GUIDE.read_text(), re.DOTALL)
    if shutil.which("curl"):
        assert site.shell(four.replace("http://127.0.0.1:8000", url)) == shown
    return staff


def every_page_opens(site: wheels.Site, url: str, staff: requests.Session) -> None:
    paths = site.script(PAGES).split()
    assert len(paths) >= 25, paths
    answers = {path: staff.get(url + path, timeout=60).status_code for path in paths}
    # Buttons are no pages, and nobody adds or deletes a run of the clean-up.
    wrong = {
        path: got
        for path, got in answers.items()
        if got not in (200, 405) and (got, "sweeprun") != (403, path.split("/")[3])
    }
    assert wrong == {}


def switched_off(site: wheels.Site, url: str) -> None:
    site.manage("ratelimit", "disable", "--all")
    off_s = time.monotonic()
    while status(f"{url}/hello/") == 429:
        assert time.monotonic() - off_s < WITHIN_S + 5


def what_a_bare_site_can(site: wheels.Site, django: str, settings: str) -> None:
    follow_the_guide(site, settings)
    assert site.python("-m", "django", "--version").startswith(django)
    with site.serving() as url:
        staff = limited_by_staff(site, url)
        commands_work(site)
        every_page_opens(site, url, staff)
        switched_off(site, url)
    loaded = site.script(
        "import sys; print([name for name in sys.modules if name in ('apps', 'iota')])"
    )
    assert loaded == "[]\n"
    site.manage("migrate", "ratelimits", "zero")


def commands_work(site: wheels.Site) -> None:
    words = ["explain", "--method", "GET", "--path", "/hello/", "--ip", "127.0.0.3"]
    said = site.script(
        COMMANDS.format(
            [
                ["ratelimit", *words],
                ["ratelimit", "inspect", "--ip", "127.0.0.1"],
                ["ratelimit", "preview", "first", "--quota", "2"],
                ["ratelimit", "reset", "--ip", "127.0.0.1"],
                ["sweep", "--dry-run"],
                ["makemigrations", "--check", "--dry-run"],
                # A fresh project is not fit for deployment; the checks run all the same.
                ["check", "--deploy", "--fail-level", "CRITICAL"],
            ]
        )
    )
    assert "recorded requests" in said
    assert "No changes detected" in said
    assert re.search(r"^first\s+enforce\s+3 per minute", site.manage("ratelimit", "list"), re.M)
    assert "rows of usage" in site.shell(blocks(GUIDE, "sh")[3])


def test_the_guide_makes_a_site_of_django_5_2_limited(tmp_path, wheel, redis_server, redis_client):
    python = wheels.python_from((3, 11))
    site = new_site(tmp_path, wheel, python, redis_server.url, "~=5.2.0")
    what_a_bare_site_can(site, "5.2", blocks(GUIDE, "python")[0])
    # Beat may come later, and then knows what is due.
    site.manage("migrate")
    site.install("django-celery-beat>=2.8", "Django~=5.2.0")
    site.configure('INSTALLED_APPS += ["django_celery_beat"]', blocks(GUIDE, "python")[1])
    site.manage("migrate")


@pytest.mark.newest
def test_the_packages_own_page_makes_a_site_of_the_newest_django_limited(
    tmp_path, wheel, redis_server, redis_client
):
    site = new_site(tmp_path, wheel, newest_python(), redis_server.url, ">=6.1")
    (settings,) = blocks(README, "python")
    settings = settings.replace("redis://127.0.0.1:6379/0", redis_server.url)
    what_a_bare_site_can(site, "6.", settings)


@pytest.mark.newest
def test_what_else_a_site_has_is_used_on_the_newest_django(
    tmp_path, wheel, redis_server, redis_client
):
    site = new_site(tmp_path, wheel, newest_python(), redis_server.url, ">=6.1")
    follow_the_guide(site, blocks(GUIDE, "python")[0])
    more = ("django-unfold", "djangorestframework", "granian", "packaging")
    site.install(f"{site.folder / 'dist' / wheel.name}[exchange]", *more)
    site.environment["PYTHONWARNINGS"] += f",{UNFOLD_WARNS}"
    site.configure(MORE, blocks(GUIDE, "python")[1])
    (site.folder / "mysite" / "celery.py").write_text(CELERY)
    (site.folder / "mysite" / "__init__.py").write_text("from .celery import app as celery_app\n")
    with (site.folder / "mysite" / "urls.py").open("a") as urls:
        urls.write(THROTTLED)
    site.manage("check")
    site.manage("migrate")
    site.manage("collectstatic", "--noinput")

    server = ("-m", "granian", "--interface", "wsgi", "--workers", "2", "--port", "{port}")
    with site.serving(*server, "mysite.wsgi:application") as url:
        staff = limited_by_staff(site, url)
        for name in ("exports", "reports"):
            saved_s = write_limit(staff, url, name=name, quota="2", path_kind="named")
            denied_in_time(f"{url}/{name}/", saved_s, 2)
        every_page_opens(site, url, staff)
    assert "- name: exports" in site.manage("ratelimit", "export")
    worker = ("-m", "celery", "-A", "mysite", "worker", "--beat", "--pool", "solo", "-l", "info")
    with site.started(*worker) as log:
        done = re.compile(r"Task ratelimits.reconcile_ruleset\[[\w-]+\] succeeded")
        deadline = time.monotonic() + 60
        while not done.search(said := log.read_text()):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
    assert "ratelimits.sweep" in said


def newest_python() -> str:
    found = wheels.python_from((3, 12))
    if found is None:
        pytest.skip("needs Python 3.12 or newer, on the PATH or by pyenv")
    return found
