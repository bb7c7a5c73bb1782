"""Django's settings; everything that differs between machines comes from ``config``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import create_settings
from .database import database
from .mail import TIMEOUT_S
from .page_policy import PUBLIC

BASE_DIR = Path(__file__).resolve().parent.parent
CONFIG = create_settings()

SECRET_KEY = CONFIG.secret_key
DEBUG = CONFIG.debug
ALLOWED_HOSTS = list(CONFIG.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(CONFIG.csrf_trusted_origins)

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "unfold.contrib.import_export",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "simple_history",
    "import_export",
    "django_celery_beat",
    "apps.ratelimits.apps.RatelimitsConfig",
    "apps.benchmarks.apps.BenchmarksConfig",
    "apps.monitoring.apps.MonitoringConfig",
]

MIDDLEWARE = [
    "iota.request_id.RequestIdMiddleware",
    "apps.monitoring.trace_context.TraceContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "iota.page_policy.PagePolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.ratelimits.middleware.RateLimitMiddleware",
    "iota.for_admin.AdminMessages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "iota.for_admin.admin_history",
]

ROOT_URLCONF = "iota.urls"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
WSGI_APPLICATION = "iota.wsgi.application"
ASGI_APPLICATION = "iota.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "iota.page_policy.nonce",
            ]
        },
    }
]

DATABASES: dict[str, dict[str, Any]] = {"default": database(CONFIG.database, BASE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        # A list: django-redis would take the commas of one text for those between servers.
        "LOCATION": [CONFIG.redis_url],
        "KEY_PREFIX": "iota-cache",
        "OPTIONS": {
            "CLIENT_CLASS": "iota.cache.CacheClient",
            "CONNECTION_FACTORY": "iota.cache.ConnectionFactory",
            "SOCKET_TIMEOUT": 0.5,
            # A cache that is away is a slow page, never an error page.
            "IGNORE_EXCEPTIONS": True,
        },
    }
}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = CONFIG.language_code
TIME_ZONE = CONFIG.time_zone
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "iota" / "static"]
STATIC_ROOT = BASE_DIR / "var" / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # A name of its own for each content, so that browsers keep files for good; `collectstatic`
    # gives the names.
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"
        if CONFIG.demo
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = CONFIG.demo
WHITENOISE_AUTOREFRESH = False

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not CONFIG.demo
SECURE_SSL_REDIRECT = CONFIG.secure_ssl_redirect and not CONFIG.demo
if CONFIG.tls_ends_at_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# What asks these is a neighbour, over plain HTTP: load balancers, Prometheus, proxies.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$", r"^api/check(/|$)"]
SECURE_HSTS_SECONDS = 0 if CONFIG.demo else CONFIG.hsts_seconds
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not CONFIG.demo
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {"DIRECTIVES": PUBLIC}

IOTA_RATELIMITS = CONFIG.rate_limit_config
IOTA_OTEL_ENDPOINT = CONFIG.otel_endpoint
IOTA_METRICS_TOKEN = CONFIG.metrics_token
IOTA_METRICS_NETWORKS = CONFIG.metrics_networks
IOTA_LOADTEST_TARGETS = CONFIG.loadtest_targets
IOTA_LOADTEST_MAX_USERS = CONFIG.loadtest_max_users
IOTA_LOADTEST_MAX_SECONDS = CONFIG.loadtest_max_seconds

CELERY_BROKER_URL = CONFIG.celery_broker.url
CELERY_BROKER_TRANSPORT_OPTIONS = dict(CONFIG.celery_broker.options)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = CONFIG.time_zone
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SCHEDULE = {
    "ratelimits-reconcile-ruleset": {"task": "ratelimits.reconcile_ruleset", "schedule": 10.0},
}
# What measures needs a worker of its own: `celery --app iota worker -Q benchmarks -c 1`.
CELERY_TASK_ROUTES = {
    "benchmarks.record_benchmark_history": {"queue": "benchmarks"},
    "benchmarks.run_load_test": {"queue": "loadtests"},
    # So does what watches: it must not wait behind what it is to see.
    "monitoring.sample": {"queue": "monitoring"},
    "monitoring.roll_up": {"queue": "monitoring"},
    "monitoring.notify": {"queue": "monitoring"},
    "monitoring.forget_alerts": {"queue": "monitoring"},
    "monitoring.diagnose": {"queue": "monitoring"},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

ADMINS = [("", address) for address in CONFIG.admins]
SERVER_EMAIL = DEFAULT_FROM_EMAIL = CONFIG.mail_from
EMAIL_SUBJECT_PREFIX = "[IOTA] "
EMAIL_HOST, EMAIL_PORT = CONFIG.mail_server.host, CONFIG.mail_server.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = CONFIG.mail_server.user, CONFIG.mail_server.password
EMAIL_USE_TLS = CONFIG.mail_server.scheme == "smtp+tls"
EMAIL_USE_SSL = CONFIG.mail_server.scheme == "smtps"
EMAIL_TIMEOUT = TIMEOUT_S

UNFOLD = {
    "SITE_TITLE": "IOTA",
    "SITE_HEADER": "IOTA",
    "SITE_SUBHEADER": "Rate limits",
    "SIDEBAR": {"navigation": "iota.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "iota.start.start_page",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "iota.logs.LineFormatter"},
        "json": {"()": "iota.logs.JsonFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": CONFIG.log_format}},
    "root": {"handlers": ["stderr"], "level": CONFIG.log_level},
    # A denied request is news to its client, not to the log; nor is a host that is not ours, which
    # would fill the log with a traceback and the client's own text for each request.
    "loggers": {
        # Without Django's handlers: one of them mails each error to ADMINS while its request waits.
        "django": {"handlers": [], "level": "INFO"},
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        # They log the addresses that they call, and a webhook's is its secret.
        "apprise": {"level": "CRITICAL"},
        "urllib3": {"level": "INFO"},
    },
}
