"""Commands to Redis, as the bytes that go over the wire.

What does not change from one check to the next is packed once per set of limits: a check then
only puts its identities in. redis-py would pack all of it anew, which costs more than the trip.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, cast

from ..policy.decision import Charge
from ..policy.identity import DIGEST_CHARS
from ..policy.rules import Algorithm, Counts, Mode, Rule
from . import scripts
from .keys import Keys

ALGORITHM_CODES = {
    Algorithm.TOKEN_BUCKET: 1,
    Algorithm.FIXED_WINDOW: 2,
    Algorithm.SLIDING_WINDOW: 3,
    Algorithm.SLIDING_LOG: 4,
    Algorithm.CONCURRENCY: 5,
}
ENFORCE, CHARGE_DENIED, BLOCK, LEASE = 1, 2, 4, 8
MEMBER_BYTES = 24

PLAIN_ALGORITHMS = {Algorithm.TOKEN_BUCKET, Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW}
# For so many windows a record of a window that began at a goes on to matter.
_LASTS = {Algorithm.TOKEN_BUCKET: 0, Algorithm.FIXED_WINDOW: 1, Algorithm.SLIDING_WINDOW: 2}

# Of a record's first byte modulo 4: tag, ends, n1, n2. Of odd widths, as bytes.
_FORMS = tuple(struct.Struct(form) for form in ("<HIB", "<H5sH", "<2xI5s5s5s", "<2xI7s7s5s"))
_LIMIT = struct.Struct("<BBBBIH")
_CHARGE = struct.Struct("<BBBxIH8d")
_ANYBODY = "\0" * DIGEST_CHARS


def command(*words: bytes | str | int) -> bytes:
    """One command in RESP, the protocol of Redis."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class PackedLimits:
    """The limits of a check, ready to be sent for whomever they count.

    ``places`` says for each rule which of the check's identities it counts. Rules are in the
    order of places and ids, in which buckets hold their records.

    ``plain``: quick.lua can do it. ``remembered``: a denial holds until its time is over, whatever
    else happens meanwhile. ``leased``: a process may serve all of them from memory.
    """

    __slots__ = (
        "_keys",
        "_shapes",
        "by_response",
        "key",
        "leased",
        "most_leased",
        "places",
        "plain",
        "remembered",
        "rules",
        "slots",
    )

    def __init__(self, keys: Keys, rules: Sequence[Rule], places: Sequence[int]) -> None:
        order = sorted(range(len(rules)), key=lambda i: (places[i], rules[i].id))
        self.rules = tuple(rules[i] for i in order)
        self.places = tuple(places[i] for i in order)
        self._keys = keys
        self._shapes: dict[tuple[bool, int], _Shape] = {}
        self.slots = any(rule.rate.algorithm is Algorithm.CONCURRENCY for rule in rules)
        self.by_response = any(rule.counts is not Counts.EVERY for rule in rules)
        self.plain = not self.by_response and all(
            rule.rate.algorithm in PLAIN_ALGORITHMS and not rule.rate.block_us for rule in rules
        )
        self.remembered = not self.by_response and all(
            rule.mode is Mode.ENFORCE
            and not rule.rate.charge_denied
            and rule.rate.algorithm is not Algorithm.CONCURRENCY
            for rule in rules
        )
        self.most_leased = min((rule.lease // rule.rate.cost for rule in rules), default=0)
        self.leased = self.most_leased > 0 and all(rule.mode is Mode.ENFORCE for rule in rules)
        self.key = self.plan()

    def plan(self, *, charge: bool = True, lease: int = 0, share: int = 1) -> bytes:
        """The limits as check.lua reads them."""
        sidecar = max(self.places, default=-1) + 1
        how = 0 if not charge else 2 if self.plain and not lease else 1
        parts = [bytes([sidecar, how])]
        for rule, place in zip(self.rules, self.places, strict=True):
            beside = self._keys.sidecar(rule, "") is not None
            sidecar += beside
            parts.append(pack_limit(rule, place + 1, beside and sidecar, lease, share))
        return b"".join(parts) + b"\0" * 50

    def read(self, reply: Any) -> Sequence[int]:
        """Of any reply of check.lua: allowed, now, and ok, a, b, c of each rule."""
        if isinstance(reply, bytes):
            reply = [reply]
        elif not isinstance(reply[0], bytes):
            return cast(Sequence[int], reply)
        buckets = [dict(_records(raw)) for raw in reply]
        numbers = [1, max(int.from_bytes(raw[1:8], "little") for raw in reply)]
        for rule, place in zip(self.rules, self.places, strict=True):
            ends_us, n1, n2 = buckets[place][rule.id * 4]
            numbers += [1, ends_us - _LASTS[rule.rate.algorithm] * rule.rate.window_us, n1, n2]
        return numbers

    def check(
        self,
        identities: tuple[bytes, ...],
        *,
        charge: bool = True,
        lease: int = 0,
        share: int = 1,
        member: bytes = b"",
    ) -> bytes:
        """EVALSHA of check.lua for these digests. ``lease``: for how many requests, at most."""
        shape = self._shapes.get((charge, lease))
        if shape is None:
            shape = _Shape(self, scripts.load("check").sha, charge, lease, share)
            self._shapes[charge, lease] = shape
        return shape.fill(identities, member)

    def check_with_source(self, sent: bytes) -> bytes:
        """The same command as EVAL: for a server that does not have the script."""
        script = scripts.load("check")
        source = script.source.encode()
        by_name = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % script.sha.encode()
        return sent.replace(by_name, b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(source), source), 1)


class _Shape:
    """The bytes of a command with gaps for the identities."""

    __slots__ = ("_order", "_size", "_template")

    def __init__(
        self, packed: PackedLimits, sha: str, charge: bool, lease: int, share: int
    ) -> None:
        order = sorted(set(packed.places))
        keys = [packed._keys.bucket(_ANYBODY) for _ in order]
        for rule, place in zip(packed.rules, packed.places, strict=True):
            sidecar = packed._keys.sidecar(rule, _ANYBODY)
            if sidecar is not None:
                keys.append(sidecar)
                order.append(place)
        plan = packed.plan(charge=charge, lease=lease, share=share)
        member = [b"?" * MEMBER_BYTES] if packed.slots else []
        head = command("EVALSHA", sha, len(keys), *keys)
        count = 3 + len(keys) + 1 + len(member)
        head = b"*%d\r\n" % count + head.partition(b"\r\n")[2]
        tail = command(plan, *member).partition(b"\r\n")[2]
        gap = _ANYBODY.encode()
        self._template = head.replace(b"%", b"%%").replace(gap, b"%b") + tail.replace(b"%", b"%%")
        if packed.slots:
            cut = len(self._template) - MEMBER_BYTES - 2
            self._template = self._template[:cut] + b"%b\r\n"
        self._order = tuple(order) if order != list(range(len(order))) else None
        self._size = len(head) + len(tail)

    def fill(self, identities: tuple[bytes, ...], member: bytes) -> bytes:
        """Raises ValueError where a digest or member is not as long as it must be: the server
        would read the rest of the command as another."""
        gaps = identities if self._order is None else tuple([identities[i] for i in self._order])
        filled = self._template % ((*gaps, member) if member else gaps)
        if len(filled) != self._size:
            raise ValueError(f"{identities!r}: a digest has {DIGEST_CHARS} characters")
        return filled


def _records(raw: bytes) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Tag -> ends, n1, n2 of each record of a bucket (lua/records.lua)."""
    seen_us = int.from_bytes(raw[1:8], "little")
    at = 8
    while at < len(raw):
        form = _FORMS[raw[at] % 4]
        tag, *numbers = form.unpack_from(raw, at + 1)
        ends, n1, n2 = [_number(n) for n in (*numbers, 0)][:3]
        yield tag, (seen_us + ends, n1, n2)
        at += 1 + form.size


def _number(field: bytes | int) -> int:
    return field if isinstance(field, int) else int.from_bytes(field, "little")


def pack_limit(rule: Rule, bucket: int, sidecar: int, lease: int = 0, share: int = 1) -> bytes:
    """One limit of check.lua's plan; bucket and sidecar count KEYS from 1, sidecar 0 is none."""
    rate = rule.rate
    flags = ENFORCE * (rule.mode is Mode.ENFORCE) + CHARGE_DENIED * rate.charge_denied
    numbers: list[int]
    if rate.algorithm is Algorithm.TOKEN_BUCKET:
        numbers = [*rate.emission(rate.cost), rate.denominator, *rate.emission(rate.burst)]
    else:
        numbers = [rate.cost, rate.quota, rate.window_us]
        if rate.algorithm is Algorithm.SLIDING_WINDOW:
            numbers.append(rate.resolution_us)
    if lease:
        flags += LEASE
        numbers += [min(lease, rule.lease // rate.cost), share]
    if rate.block_us:
        flags += BLOCK
        numbers.append(rate.block_us)
    head = _LIMIT.pack(
        ALGORITHM_CODES[rate.algorithm], bucket, sidecar, flags, rule.id * 4, rule.epoch % 65536
    )
    return head + struct.pack(f"<{len(numbers)}d", *numbers)


def refund(keys: Keys, charges: Sequence[Charge]) -> list[bytes | str | int]:
    """Keys and arguments of refund.lua."""
    places: dict[str, int] = {}
    for charge in charges:
        places.setdefault(charge.digest, len(places) + 1)
    names = [keys.bucket(who) for who in places]
    plan = [bytes([len(places)])]
    for charge in charges:
        sidecar = keys.sidecar(charge.rule, charge.digest)
        if sidecar is not None:
            names.append(sidecar)
        plan.append(_pack_charge(charge, places[charge.digest], len(names) if sidecar else 0))
    return [len(names), *names, b"".join(plan)]


def _pack_charge(charge: Charge, bucket: int, sidecar: int) -> bytes:
    rule, rate = charge.rule, charge.rule.rate
    token_bucket = rate.algorithm is Algorithm.TOKEN_BUCKET
    return _CHARGE.pack(
        ALGORITHM_CODES[rate.algorithm],
        bucket,
        sidecar,
        rule.id * 4,
        rule.epoch % 65536,
        rate.cost,
        rate.window_us,
        charge.at_us if rate.algorithm is Algorithm.SLIDING_LOG else charge.state.a,
        *(rate.emission(rate.cost) if token_bucket else (0, 0)),
        rate.denominator,
        charge.state.c,
        charge.at_us,
    )
