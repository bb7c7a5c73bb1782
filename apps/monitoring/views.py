"""What machines read of the watch."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .prometheus.access import may_read
from .prometheus.collector import exposition
from .prometheus.reading import read_state

CLOSED = (
    "Nobody may read this until IOTA_METRICS_TOKEN or IOTA_METRICS_NETWORKS says who, "
    "or a member of staff signs in: docs/guides/metrics.md.\n"
)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus. Of all processes: it does not matter which of them answers."""
    if not may_read(request):
        return _refused()
    body, content_type = exposition(read_state(), request.META.get("HTTP_ACCEPT", ""))
    return HttpResponse(body, content_type=content_type)


def _refused() -> HttpResponse:
    response = HttpResponse(CLOSED, status=403, content_type="text/plain")
    if settings.IOTA_METRICS_TOKEN:
        response.status_code = 401
        response["WWW-Authenticate"] = "Bearer"
    return response
