"""``path("api/check", include("apps.ratelimits.check_urls"))``: the endpoint for other services."""

from django.urls import path

from .check_endpoint import check

CHECK = "ratelimits-check"

urlpatterns = [
    path("", check, name=CHECK),
    path("/nginx", check, {"proxy": "nginx"}),
    path("/traefik", check, {"proxy": "traefik"}),
    path("/envoy<path:rest>", check, {"proxy": "envoy"}),
]
