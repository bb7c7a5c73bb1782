"""Import and export beside the lists, where ``import_export`` is installed."""

from __future__ import annotations

from django.apps import apps

from .. import exchange

if apps.is_installed("import_export") and exchange.is_available():
    from .exchange_pages import ExchangesLimits, ExchangesOverrides
else:

    class ExchangesLimits:  # type: ignore[no-redef]
        """The lists do without."""

    class ExchangesOverrides:  # type: ignore[no-redef]
        """The lists do without."""


__all__ = ["ExchangesLimits", "ExchangesOverrides"]
