"""For the tests of a site that is limited: ``pytest_plugins = ["iota_ratelimits.testing"]``.

``no_rate_limits`` switches limits off for one test; in ``conftest.py`` of a site,
``@pytest.fixture(autouse=True)`` over it does so for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from . import conf


class _Disabled:
    """A configuration as it is, but that no limit is enforced."""

    disabled = True

    def __init__(self, config: conf.RateLimitConfig) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)


@pytest.fixture
def no_rate_limits() -> Iterator[None]:
    """No limit is enforced for clients (``Client``, ``AsyncClient``) that first ask in this test:
    Django builds the middleware at a client's first request."""
    with override_settings(IOTA_RATELIMITS=_Disabled(conf.current())):
        yield
