"""The site: settings, addresses, start pages, Celery."""

from .celery import app as celery_app

__all__ = ["celery_app"]
