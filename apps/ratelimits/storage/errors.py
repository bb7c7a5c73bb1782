"""What can go wrong between us and Redis.

StorageError
|-- Unavailable    Redis did not answer in time, refused, or cannot serve: a failure policy decides
    |-- BreakerOpen    it failed so often just now that it was not asked
"""

from __future__ import annotations


class StorageError(Exception):
    """Root of the storage's errors."""


class Unavailable(StorageError):
    """Redis gave no usable answer. The call is not sent again: it may have been carried out."""


class BreakerOpen(Unavailable):
    """Not asked, since the last calls failed."""
