"""Import and export beside the list of limits and of overrides, where ``import_export`` is installed.

The file that is looked at travels in the page that shows what it would do, signed: it is what is
imported then, whichever server answers, and nothing is left behind where nobody confirms.
"""

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
