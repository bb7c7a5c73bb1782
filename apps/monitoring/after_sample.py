"""What is done with each round of samples, once they are kept."""

from __future__ import annotations

import logging
from datetime import datetime
from importlib.util import find_spec

from django.utils.module_loading import import_string

logger = logging.getLogger(__name__)

HOOKS = ("apps.monitoring.alerting.evaluate_all",)
"""Functions that take the time of the samples."""


def run(now: datetime) -> None:
    """One that fails keeps no other from being called, nor the next round."""
    for name in HOOKS:
        module = name.rpartition(".")[0]
        if find_spec(module) is None:  # a part of the watch that is not there
            continue
        try:
            import_string(name)(now)
        except Exception:
            logger.exception("%s failed; it is called again after the next samples", name)
