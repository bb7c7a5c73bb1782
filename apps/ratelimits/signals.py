"""What the limiter tells whoever listens."""

from django.dispatch import Signal

limits_changing = Signal()
"""Limits are about to change in a way that no model signal tells; inside the transaction of the
change, before it. ``sender`` is the model."""

limits_changed = Signal()
"""Limits changed in a way that no model signal tells; inside the transaction of the change.
``sender`` is the model."""

request_denied = Signal()
"""A request is answered 429 or 503: ``request`` and ``decision``. Receivers are sync and quick;
what one raises is logged and changes nothing."""
