"""What can go wrong between us and Redis.

StorageError
|-- Unavailable    Redis did not answer in time, refused, or cannot serve: a failure policy decides
    |-- BreakerOpen    it failed so often just now that it was not asked
"""

from __future__ import annotations

import redis

# Replies that say "not now" or "not I", as opposed to "your script is wrong".
_UNAVAILABLE_REPLIES = (
    "LOADING",
    "READONLY",
    "OOM",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "MISCONF",
    "BUSY",
    "NOAUTH",
    "WRONGPASS",
    "NOREPLICAS",
    "max number of clients",
    "ERR max number of clients",
    "-OOM",
    "command not allowed when used memory",
    "Script killed",
    "UNKILLABLE",
)
_UNAVAILABLE_ERRORS = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


class StorageError(Exception):
    """Root of the storage's errors."""


class Unavailable(StorageError):
    """Redis gave no usable answer. The call is not sent again: it may have been carried out."""


class BreakerOpen(Unavailable):
    """Not asked, since the last calls failed."""


def as_unavailable(error: Exception) -> Unavailable | None:
    """The error as Unavailable, or None where it is a mistake of ours and must surface."""
    if isinstance(error, redis.ResponseError) and not isinstance(error, _UNAVAILABLE_ERRORS):
        text = str(error)
        if not any(reply in text[:200] for reply in _UNAVAILABLE_REPLIES):
            return None
    return Unavailable(f"{type(error).__name__}: {error}")
