"""The limiter on its own: a wheel, in a Django site that knows nothing of IOTA."""

from __future__ import annotations

import re
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from . import wheels

PROJECT = tomllib.loads((wheels.ROOT / "pyproject.toml").read_text())["project"]
METADATA = f"iota_ratelimits-{PROJECT['version']}.dist-info"

SITE = """
import sys

if "files" not in sys.argv:
    sys.modules["import_export"] = None  # A site need not have it.

import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("x", lambda request: HttpResponse("ok"))]
settings.configure(
    STATIC_URL="static/",
    SECRET_KEY="x" * 50,
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "simple_history",
        *(["import_export"] if "files" in sys.argv else []),
        "iota_ratelimits",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": [
            "django.template.context_processors.request",
            "django.contrib.auth.context_processors.auth",
            "django.contrib.messages.context_processors.messages",
        ]},
    }],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "iota_ratelimits.middleware.RateLimitMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    IOTA_RATELIMITS={
        "REDIS_URL": sys.argv[1], "KEY_PREFIX": "bare:", "IDENTITY_KEY": "k" * 32,
        "REDIS_TIMEOUT_MS": 1_000, "UNKNOWN_LIMIT": "raise", "TRAFFIC_RECORDS": 1_000,
    },
)
django.setup()
from django.core.management import CommandError, call_command
from django.test import Client

call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)

from iota_ratelimits.engine import get_engine
from iota_ratelimits.models import RateLimit

RateLimit.objects.create(name="two", quota=2)
get_engine().refresh()
statuses = [Client().get("/x").status_code for _ in range(3)]
page = Client().get("/x", headers={"accept": "text/html"})
call_command("ratelimit", "disable", "--all")
get_engine().refresh()
statuses.append(Client().get("/x").status_code)
# The stock admin asks as the theme does.
from django.contrib import admin
from django.contrib.auth.models import User

urlpatterns.append(path("admin/", admin.site.urls))
staff = Client()
staff.force_login(User.objects.create_superuser("ada"))
chosen = {"action": "enforce", "_selected_action": [RateLimit.objects.get().pk]}
asked = staff.post("/admin/ratelimits/ratelimit/", chosen)
assert b"Nothing has been changed yet" in asked.content, asked.content
assert b"takes 2 requests in a row" in asked.content
# So does it explain a request, and show an identity.
root = "/admin/ratelimits/ratelimit/"
typed = {"method": "GET", "path": "/x", "address": "127.0.0.1"}
assert b"no limit matches it" in staff.post(f"{root}explain/", typed).content
assert b"no limit has anything counted" in staff.post(f"{root}identity/", typed).content
# The history, the way back and its question too.
limit = RateLimit.objects.get()
limit.quota = 5
limit.save()
root = "/admin/ratelimits/ratelimit/"
back = f"{root}{limit.pk}/history/{limit.history.all()[1].pk}/"
assert b"Roll back to this" in staff.get(f"{root}{limit.pk}/history/").content
assert b"Recent edits" in staff.get(f"{root}edits/").content
assert b"Reason" in staff.get(f"{root}{limit.pk}/delete/").content
assert b"Now: " in staff.get(back).content
assert b"two" in staff.get(root).content
answer = staff.post(back, {"told": limit.history.first().pk})
assert (answer.status_code, RateLimit.objects.get().quota) == (302, 2), answer.content
from django.contrib.auth.models import Group
rows = Group.objects.get(name="Rate limit publishers").permissions.all()
held = {row.codename for row in rows}
assert "publish_ratelimit" in held and "run_doctor" not in held, held
# The clean-up works without the theme, and without django-celery-beat.
call_command("sweep", "--dry-run")
assert b'value="Preview"' in staff.get("/admin/ratelimits/ratelimit/add/").content
get_engine().flush_traffic()
form = {
    "name": "tried", "mode": "enforce", "path_kind": "any", "audience": "everyone",
    "counted_by": ["address"], "algorithm": "fixed_window", "quota": "2", "window_amount": "1",
    "window_unit": "60", "cost": "1", "lease": "0", "counts": "every", "block_unit": "60",
    "on_failure": "local",
}
tried = staff.post("/admin/ratelimits/ratelimit/add/preview/", form).content
assert b"Would have denied" in tried, tried
sweeps = staff.get("/admin/ratelimits/sweeprun/")
assert b"keys would be removed" in sweeps.content, sweeps.content
# So does usage: rolled up by whatever calls the task, and shown as a table.
from iota_ratelimits.tasks import roll_up_usage
get_engine().flush_usage()
assert roll_up_usage()
usage = staff.get(f"/admin/ratelimits/ratelimit/{RateLimit.objects.get().pk}/usage/")
assert b"The same as a table" in usage.content, usage.content
assert b"<canvas" not in usage.content
assert b"us-spark" in staff.get("/admin/ratelimits/ratelimit/?denied=hour").content
# So does the list, without import and export; the command says what is missing.
assert b"/export/" not in staff.get("/admin/ratelimits/ratelimit/").content
try:
    call_command("ratelimit", "export")
except CommandError as error:
    assert "pip install django-import-export" in str(error)
else:
    raise AssertionError("exported without what it needs")
print(statuses, b"Try again" in page.content, "apps" in sys.modules, "unfold" in sys.modules)
get_engine().stop()
"""

FILES = (
    SITE.partition("from iota_ratelimits.engine")[0]
    + """
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.utils import setup_test_environment
from iota_ratelimits.models import RateLimit

LIST = "/admin/ratelimits/ratelimit/"
setup_test_environment()
urlpatterns.append(path("admin/", admin.site.urls))
staff = Client()
staff.force_login(User.objects.create_superuser("ada"))
listed = staff.get(LIST).content
assert b"ratelimit/import/" in listed and b"ratelimit/export/" in listed, listed
assert b'name="import_file"' in staff.get(LIST + "import/").content
file = SimpleUploadedFile("limits.yaml", b"- {name: one, quota: 5, path_kind: exact, path: /x}")
shown = staff.post(LIST + "import/", {"import_file": file, "resource": "0", "prune": ""})
assert b"limits.yaml: 1 new, 0 unchanged" in shown.content, shown.content
form = shown.context["confirm"]
posted = {field.name: field.value() or "" for field in form.hidden_fields()}
assert staff.post(LIST + "process_import/", posted).status_code == 302
assert RateLimit.objects.get().quota == 5
assert RateLimit.history.get().history_user.username == "ada"
exported = staff.post(LIST + "export/", {"format": "0", "resource": "0"})
assert exported.content.startswith(b"- name: one"), exported.content
from iota_ratelimits.engine import get_engine
print("files", "unfold" in sys.modules)
get_engine().stop()
"""
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    return wheels.build(tmp_path_factory.mktemp("built"))


def test_the_wheel_limits_a_bare_site(tmp_path, built, redis_server, redis_client):
    folder = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    run([*install, "--target", str(folder), str(built[0])], wheels.ROOT)
    (folder / "site_of_ours.py").write_text(SITE)
    said = run(["site_of_ours.py", redis_server.url], folder)
    assert said.splitlines()[-1] == "[200, 200, 429, 200] True False False"
    # The stock admin imports and exports, where the site has what that needs.
    (folder / "site.sqlite3").unlink()
    (folder / "site_of_files.py").write_text(FILES)
    said = run(["site_of_files.py", redis_server.url, "files"], folder)
    assert said.splitlines()[-1] == "files False"


def run(arguments: list[str], folder: Path) -> str:
    return wheels.run([sys.executable, *arguments], folder)


def test_the_wheel_holds_all_of_the_limiter_and_nothing_else(built):
    source = wheels.ROOT / "apps" / "ratelimits"
    ours = {
        str(path.relative_to(source))
        for path in source.rglob("*")
        if path.is_file() and not {"tests", "__pycache__"} & set(path.parts)
    } - {"README.md"}
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        top_level = wheel.read(f"{METADATA}/top_level.txt").decode().split()
    assert {name for name in names if not name.startswith(METADATA)} == {
        f"iota_ratelimits/{name}" for name in ours
    }
    assert top_level == ["iota_ratelimits"]
    kinds = {Path(name).suffix for name in ours}
    assert kinds == {".py", ".typed", ".lua", ".html", ".css", ".js", ".json"}
    assert built[0].stat().st_size < 600_000


def test_the_sdist_has_no_tests_and_makes_the_same_wheel(built):
    """The wheel was made of it."""
    with tarfile.open(built[1]) as sdist:
        names = sdist.getnames()
    assert any(name.endswith("apps/ratelimits/storage/lua/check.lua") for name in names)
    assert [name for name in names if "test" in name.rpartition("/")[2]] == [
        name for name in names if name.endswith("ratelimits/testing.py")
    ]


def test_the_metadata_says_what_it_needs_and_shows_on_an_index(built):
    with zipfile.ZipFile(built[0]) as wheel:
        said = message_from_string(wheel.read(f"{METADATA}/METADATA").decode())
    needed = [name for name in said.get_all("Requires-Dist", []) if "extra ==" not in name]
    assert [re.split(r"[^\w-]", name)[0].lower() for name in needed] == [
        "django",
        "celery",
        "django-simple-history",
        "google-re2",
        "redis",
    ]
    assert said["Requires-Python"] == ">=3.11"
    assert {"Framework :: Django :: 5.2", "Typing :: Typed"} <= set(said.get_all("Classifier", []))
    assert said["Description-Content-Type"] == "text/markdown"
    page = said.get_payload()
    assert page == (wheels.ROOT / "apps" / "ratelimits" / "README.md").read_text()
    # An index has none of our files.
    assert re.findall(r"\]\((?!https:)", page) == []
