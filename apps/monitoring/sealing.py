"""Secrets that the site must be able to read again, such as a webhook's address, as they are kept.

Sealed with a key made of ``SECRET_KEY``: a copy of the database alone does not open them. Where
``SECRET_KEY`` changes, its last ones belong in ``SECRET_KEY_FALLBACKS``, or each is entered anew.
"""

from __future__ import annotations

import base64
from hashlib import blake2b

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CannotOpen(Exception):
    """Sealed with a key that is not there any more."""


def seal(secret: str) -> str:
    return _box().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises CannotOpen."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise CannotOpen("sealed with another SECRET_KEY: enter it again") from error


def _box() -> MultiFernet:
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return MultiFernet([Fernet(_derived(str(key))) for key in keys])


def _derived(secret_key: str) -> bytes:
    digest = blake2b(secret_key.encode(), digest_size=32, person=b"iota-sealed-1")
    return base64.urlsafe_b64encode(digest.digest())
