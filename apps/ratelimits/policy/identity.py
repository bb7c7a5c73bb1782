"""Whom a limit counts, as a digest of fixed size."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import blake2b
from itertools import chain

from .facts import RequestFacts, UserFacts
from .rules import CountedBy, Rule

DIGEST_BYTES = 15
DIGEST_CHARS = 20


def identity_parts(rule: Rule, facts: RequestFacts, user: UserFacts) -> tuple[str, ...]:
    """Kinds and values, of each part that the limit counts by.

    A part that the request lacks, or that was not validated, is its address instead.
    """
    parts: dict[tuple[str, str], None] = {}
    for counted_by in rule.counted_by:
        parts[_part(counted_by, rule, facts, user) or ("address", facts.address)] = None
    return tuple(chain.from_iterable(parts))


def _part(
    counted_by: CountedBy, rule: Rule, facts: RequestFacts, user: UserFacts
) -> tuple[str, str] | None:
    match counted_by:
        case CountedBy.EVERYONE:
            return ("everyone", "")
        case CountedBy.USER if user.pk is not None:
            return ("user", user.pk)
        case CountedBy.SESSION if user.session:
            return ("session", user.session)
        case CountedBy.HEADER:
            return _named("header", rule.header, user.keys)
        case CountedBy.VIEW_ARGUMENT:
            return _named("argument", rule.view_argument, facts.arguments)
    return None


def _named(kind: str, name: str, pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    return next(((f"{kind} {name}", value) for known, value in pairs if known == name), None)


def digest(key: bytes, *parts: str) -> str:
    """20 characters of base64url: keyed BLAKE2b over length-prefixed parts.

    The lengths keep ``("a", "b:c")`` and ``("a:b", "c")`` apart; the key keeps whoever
    reads Redis from guessing addresses. 120 bits: among a billion identities the chance that
    any two share a digest is below 10^-18.
    """
    data = b"".join([_prefixed(part) for part in parts])
    state = blake2b(data, digest_size=DIGEST_BYTES, key=key[:64])
    return urlsafe_b64encode(state.digest()).decode("ascii")


def _prefixed(part: str) -> bytes:
    encoded = part.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(4, "big") + encoded


class Digests:
    """``digest`` under one key, which remembers the parts that it saw last."""

    MAX_REMEMBERED = 10_000

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[tuple[str, ...], str] = {}

    def of(self, parts: tuple[str, ...]) -> str:
        known = self._known.get(parts)
        if known is None:
            known = digest(self._key, *parts)
            # What a client sends is bounded before it gets here; a long one is not kept.
            if sum(map(len, parts)) <= 200:
                if len(self._known) >= self.MAX_REMEMBERED:
                    self._known.clear()
                self._known[parts] = known
        return known
