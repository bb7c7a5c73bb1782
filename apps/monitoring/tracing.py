"""Whether spans are made: only where an endpoint for them is configured.

Where none is, nothing of OpenTelemetry is imported, and no call of the limiter is one longer:
what is traced is wrapped at start (``spans.py``), or left as it is.
"""

from __future__ import annotations

import logging
import os

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

logger = logging.getLogger(__name__)

STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Of OpenTelemetry itself: what a platform sets for all that runs on it."""


def wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(settings.IOTA_OTEL_ENDPOINT or any(os.environ.get(name) for name in STANDARD))


def start() -> None:
    """Once in a process, before the limiter is used. Raises ImproperlyConfigured where spans were
    asked of IOTA and cannot be made."""
    if not wanted():
        return
    try:
        from . import spans
    except ImportError as error:
        said = f"Spans need OpenTelemetry ({error}): pip install -r requirements-otel.txt"
        if settings.IOTA_OTEL_ENDPOINT:
            raise ImproperlyConfigured(f"IOTA_OTEL_ENDPOINT: {said}") from error
        logger.warning("%s", said)
        return
    spans.wrap(settings.IOTA_OTEL_ENDPOINT)
