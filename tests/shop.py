"""The site with code that asks for limits by name, as a developer of a site would write it."""

from django.http import HttpResponse
from django.urls import include, path

from apps.ratelimits.use import rate_limit


@rate_limit("exports")
def export(request):
    return HttpResponse("ready")


@rate_limit("exports", "reports-of-the-whole-year-for-every-shop")
def report(request):
    return HttpResponse("ready")


urlpatterns = [
    path("shop/export", export),
    path("shop/report", report),
    path("", include("iota.urls")),
]
