"""Whom a limit counts, as a digest of fixed size."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b

from .facts import RequestFacts, UserFacts
from .rules import CountedBy

DIGEST_BYTES = 16


def identity_parts(
    counted_by: CountedBy, facts: RequestFacts, user: UserFacts
) -> tuple[str, str] | None:
    """The kind and value of the identity; None where the limit has nobody to count.

    A limit per user counts an anonymous request by its address: without that, leaving
    the cookie out would be the way around the limit.
    """
    match counted_by:
        case CountedBy.EVERYONE:
            return ("everyone", "")
        case CountedBy.ADDRESS:
            return ("address", facts.address)
        case CountedBy.USER | CountedBy.USER_OR_ADDRESS:
            if user.pk is not None:
                return ("user", user.pk)
            return ("address", facts.address)


def digest(key: bytes, *parts: str) -> str:
    """22 characters of base64url: keyed BLAKE2b over length-prefixed parts.

    The lengths keep ``("a", "b:c")`` and ``("a:b", "c")`` apart; the key keeps whoever
    reads Redis from guessing addresses.
    """
    state = blake2b(digest_size=DIGEST_BYTES, key=key[:64])
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(4, "big"))
        state.update(encoded)
    return urlsafe_b64encode(state.digest())[:22].decode("ascii")
