"""Django's settings of the site; what the limiter reads comes from the environment, as always."""

from __future__ import annotations

from typing import Any

from apps.benchmarks.suites import peers
from apps.benchmarks.targets import OURS
from iota.config import create_settings

from .choice import chosen

CHOICE = chosen()
CONFIG = create_settings()
SECRET_KEY = CONFIG.secret_key
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "apps.benchmarks.site.urls"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "simple_history",
    "apps.ratelimits.apps.RatelimitsConfig",
]
DATABASES: dict[str, dict[str, Any]] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# As `django-admin startproject` writes it.
STOCK = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
BEHIND = STOCK.index("django.contrib.auth.middleware.AuthenticationMiddleware") + 1
OURS_MIDDLEWARE = ["apps.ratelimits.middleware.RateLimitMiddleware"]

MIDDLEWARE = STOCK if CHOICE.stock else []
if CHOICE.limiter == OURS:
    MIDDLEWARE = [*MIDDLEWARE[:BEHIND], *OURS_MIDDLEWARE, *MIDDLEWARE[BEHIND:]]
if CHOICE.limiter == peers.DRF:
    REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    }
globals().update(peers.django_settings(CHOICE.peers_url))

IOTA_RATELIMITS = CONFIG.rate_limit_config
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # Denied on purpose, to see that the limiter limits.
    "loggers": {"django.request": {"level": "ERROR"}},
}
