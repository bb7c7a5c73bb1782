"""The limiter on its own: a wheel, in a Django site that knows nothing of IOTA."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SITE = """
import sys
from types import SimpleNamespace

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
        "iota_ratelimits.apps.RatelimitsConfig",
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
    IOTA_RATELIMITS=SimpleNamespace(
        redis_url=sys.argv[1], key_prefix="bare:", identity_key=b"k" * 32, disabled=False,
        redis_timeout_ms=1000, redis_max_connections=5, breaker_failures=5, breaker_open_ms=1000,
        ruleset_poll_ms=250, trusted_proxies=(), ipv6_prefix=64, exempt_paths=("/static/",),
        health_paths=("/healthz",),
        exempt_preflight=True, key_validator="", counted_signals=(), local_processes=1,
        no_ruleset="allow", identity_budget=0,
        traffic_records=1000, traffic_minutes=60, traffic_sample=1,
        redis_operator_url="", redis_sweeper_url="",
    ),
)
django.setup()
from django.core.management import call_command
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
print(statuses, b"Try again" in page.content, "apps" in sys.modules, "unfold" in sys.modules)
get_engine().stop()
"""


def test_the_wheel_limits_a_bare_site(tmp_path, redis_server, redis_client):
    source = tmp_path / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("tests", "__pycache__")
    shutil.copytree(ROOT / "apps" / "ratelimits", source / "apps" / "ratelimits", ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    run(["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)], ROOT)
    (wheel,) = tmp_path.glob("iota_ratelimits-*.whl")
    folder = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    run([*install, "--target", str(folder), str(wheel)], ROOT)
    (folder / "site_of_ours.py").write_text(SITE)
    said = run(["site_of_ours.py", redis_server.url], folder)
    assert said.splitlines()[-1] == "[200, 200, 429, 200] True False False"


def run(arguments: list[str], folder: Path) -> str:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
