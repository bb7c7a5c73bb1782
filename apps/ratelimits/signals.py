"""Sent when limits changed in a way that no model signal tells."""

from django.dispatch import Signal

limits_changed = Signal()
"""Inside the transaction of the change; ``sender`` is the model."""
