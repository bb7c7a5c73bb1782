"""Who is in a limit's canary: a stated share of identities, always the same ones.

It follows from the identity's digest and the limit's id alone, so that a client is in or out in
every process, on every node and after every restart. Each identity has a place on a line for each
limit; those before the stated share of it are in. So a larger share only adds identities, and one
limit's canary says nothing of another's. The digests are keyed: nobody can choose to be in or out.
"""

from __future__ import annotations

from hashlib import blake2b

from .rules import Rule

PLACE_BYTES = 8
PLACES = 1 << 8 * PLACE_BYTES


def place(rule_id: int, digest: str) -> int:
    """Of an identity on the limit's line: below ``PLACES``."""
    data = f"{rule_id} {digest}".encode()
    return int.from_bytes(blake2b(data, digest_size=PLACE_BYTES, person=b"canary").digest(), "big")


def is_in(rule: Rule, digest: str) -> bool:
    """Whether a canary is enforced for this identity."""
    return is_within(rule.canary_permille, rule.id, digest)


def is_within(permille: int, rule_id: int, digest: str) -> bool:
    return place(rule_id, digest) * 1000 < permille * PLACES
