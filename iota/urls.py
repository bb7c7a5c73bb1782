"""The site's addresses."""

from django.contrib import admin
from django.urls import include, path

from apps.monitoring.views import metrics

from . import accounts as accounts  # replaces the stock pages of users and groups
from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("api/test", views.api_test, name="api-test"),
    path("api/check", include("apps.ratelimits.check_urls")),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
]
