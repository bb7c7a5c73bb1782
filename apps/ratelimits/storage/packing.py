"""Commands to Redis, as the bytes that go over the wire.

What does not change from one check to the next is packed once per set of limits: a check then
only puts its identities in. redis-py would pack all of it anew, which costs more than the trip.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

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

# Of a record's first byte modulo 4: tag, ends, n1; the widest, epoch, tag, ends, n1, n2. What has
# an odd width, as bytes.
_SMALL = struct.Struct("<BHIB")
_FORMS = tuple(struct.Struct(form) for form in ("<HIB", "<H3sH", "<H5sH", "<HI7s7s5s"))
_IN_SECONDS, _WIDEST = 1, 3
BUCKET_VERSION = 2
"""A bucket's first byte."""
_GIVEN_BACK = 2
"""Beside a token bucket's tag, that of what was given back to it."""
_LIMIT = struct.Struct("<BBBBIH")
_CHARGE = struct.Struct("<BBBxIH8d")
_ANYBODY = "\0" * DIGEST_CHARS
_NO_MEMBER = b"?" * MEMBER_BYTES


def new_member() -> str:
    """Stands for one request in a set of slots; of ``MEMBER_BYTES``."""
    return os.urandom(MEMBER_BYTES // 2).hex()


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
    else happens meanwhile. ``leased``: a process may serve all of them from memory, which it may
    not where they are one ``part`` of a check.
    """

    __slots__ = (
        "_keys",
        "_parts",
        "_quick",
        "_records",
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

    def __init__(
        self, keys: Keys, rules: Sequence[Rule], places: Sequence[int], *, part: bool = False
    ) -> None:
        order = sorted(range(len(rules)), key=lambda i: (places[i], rules[i].id))
        self.rules = tuple(rules[i] for i in order)
        self.places = tuple(places[i] for i in order)
        self._keys = keys
        self._shapes: dict[tuple[bool, int], _Shape] = {}
        self.slots = any(rule.rate.algorithm is Algorithm.CONCURRENCY for rule in rules)
        self.by_response = any(rule.counts is not Counts.EVERY for rule in rules)
        self.remembered = not self.by_response and all(
            rule.mode is Mode.ENFORCE
            and not rule.rate.charge_denied
            and rule.rate.algorithm is not Algorithm.CONCURRENCY
            for rule in rules
        )
        self.most_leased = min((rule.lease // rule.rate.cost for rule in rules), default=0)
        self.leased = (
            not part and self.most_leased > 0 and all(rule.mode is Mode.ENFORCE for rule in rules)
        )
        self.plain = (
            not self.by_response
            and not self.leased
            and all(r.rate.algorithm in PLAIN_ALGORITHMS and not r.rate.block_us for r in rules)
        )
        self.key = self.plan()
        self._parts: tuple[tuple[int, PackedLimits], ...] | None = None
        self._quick: _Shape | None = None
        # Where a bucket holds what of each rule, and for how long after its window's start.
        self._records = [
            (
                rule.id * 4,
                place,
                _LASTS.get(rule.rate.algorithm, 0) * rule.rate.window_us,
                rule.epoch % 65536,
            )
            for rule, place in zip(self.rules, self.places, strict=True)
        ]

    def plan(self, *, charge: bool = True, lease: int = 0, share: int = 1) -> bytes:
        """The limits as check.lua reads them."""
        sidecar = max(self.places, default=-1) + 1
        how = 0 if not charge else 2 if self.plain else 1
        parts = [bytes([sidecar, how])]
        for rule, place in zip(self.rules, self.places, strict=True):
            beside = self._keys.sidecar(rule, "") is not None
            sidecar += beside
            parts.append(pack_limit(rule, place + 1, beside and sidecar, lease, share))
        return b"".join(parts) + b"\0" * 50

    @property
    def parts(self) -> tuple[tuple[int, PackedLimits], ...]:
        """Place and limits of each identity, for a cluster: they lie in slots of their own."""
        if self._parts is None:
            self._parts = tuple((place, self._part(place)) for place in sorted(set(self.places)))
        return self._parts

    def _part(self, place: int) -> PackedLimits:
        mine = [r for r, at in zip(self.rules, self.places, strict=True) if at == place]
        part = PackedLimits(self._keys, mine, (0,) * len(mine), part=True)
        # Where one of them is to hear of every request, it is not answered from another's memory.
        part.remembered = self.remembered
        return part

    def read(self, reply: Any) -> Sequence[int]:
        """Of any reply of check.lua: allowed, now, and ok, a, b, c of each rule.

        With a number of requests, that of which a lease is not used yet: as if each request had
        been counted by itself.
        """
        if reply.__class__ is bytes:
            reply = [reply]
        elif isinstance(reply, tuple):
            counted, unused = reply
            costs = [rule.rate.cost for rule in self.rules]
            return [
                number - unused * costs[at // 4 - 1] if at % 4 == 0 and at else number
                for at, number in enumerate(counted)
            ]
        elif not isinstance(reply[0], bytes):
            return cast(Sequence[int], reply)
        # quick.lua gives all buckets the same time.
        now_us = int.from_bytes(reply[0][1:8], "little")
        buckets = [_records(raw, now_us) for raw in reply]
        numbers = [1, now_us]
        for tag, place, lasts_us, epoch in self._records:
            records = buckets[place]
            ends_us, n1, n2, _ = records[tag]
            if not lasts_us and tag + _GIVEN_BACK in records:
                given_until_us, given, _, given_epoch = records[tag + _GIVEN_BACK]
                n2 = given if given_epoch == epoch and given_until_us > now_us else 0
            numbers += (1, ends_us - lasts_us, n1, n2)
        return numbers

    def quick(self, whom: tuple[str, ...]) -> bytes:
        """``check`` of plain limits: what most checks send."""
        shape = self._quick
        if shape is None:
            shape = self._quick = _Shape(self, True, 0, 1)
        if len(whom) == 1:
            filled = shape.template % whom[0].encode()
        else:
            filled = shape.template % tuple([who.encode() for who in whom])
            if {*map(len, whom)} != {DIGEST_CHARS}:
                raise _misfit(whom)
        if len(filled) != shape.size:
            raise _misfit(whom)
        return filled

    def check(
        self,
        whom: Sequence[str],
        *,
        charge: bool = True,
        lease: int = 0,
        share: int = 1,
        member: str = "",
    ) -> bytes:
        """EVALSHA of check.lua for these digests. ``lease``: for how many requests, at most.

        Raises ValueError where a digest or the member is not as long as it must be.
        """
        shape = self._shapes.get((charge, lease))
        if shape is None:
            shape = self._shapes[charge, lease] = _Shape(self, charge, lease, share)
        return shape.fill(whom, member)


def with_source(name: str, sent: bytes) -> bytes:
    """An EVALSHA of a script as EVAL: for a server that does not have it."""
    script = scripts.load(name)
    source = script.source.encode()
    by_name = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % script.sha.encode()
    return sent.replace(by_name, b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(source), source), 1)


class _Shape:
    """The bytes of a command with gaps for the identities."""

    __slots__ = ("_order", "size", "template")

    def __init__(self, packed: PackedLimits, charge: bool, lease: int, share: int) -> None:
        order = sorted(set(packed.places))
        keys = [packed._keys.bucket(_ANYBODY) for _ in order]
        for rule, place in zip(packed.rules, packed.places, strict=True):
            sidecar = packed._keys.sidecar(rule, _ANYBODY)
            if sidecar is not None:
                keys.append(sidecar)
                order.append(place)
        plan = packed.plan(charge=charge, lease=lease, share=share)
        member = [_NO_MEMBER] if packed.slots else []
        words = command("EVALSHA", scripts.load("check").sha, len(keys), *keys, plan, *member)
        head, separator, tail = words.rpartition(plan)
        # Only keys and the member have gaps: a plan may hold any bytes.
        self.template = b"".join(
            [
                head.replace(b"%", b"%%").replace(_ANYBODY.encode(), b"%b"),
                separator.replace(b"%", b"%%"),
                tail.replace(_NO_MEMBER, b"%b"),
            ]
        )
        self._order = tuple(order) if order != list(range(len(order))) else None
        self.size = len(words)

    def fill(self, whom: Sequence[str], member: str) -> bytes:
        """Raises ValueError where a gap is not filled exactly."""
        gaps = [who.encode() for who in whom]
        if self._order is not None:
            gaps = [gaps[i] for i in self._order]
        if member:
            gaps.append(member.encode())
        filled = self.template % tuple(gaps)
        if len(filled) != self.size or (len(whom) > 1 and {*map(len, whom)} != {DIGEST_CHARS}):
            raise _misfit(whom)
        return filled


def _misfit(whom: Sequence[str]) -> ValueError:
    """The server would read the rest of such a command as another."""
    return ValueError(f"{whom!r}: a digest has {DIGEST_CHARS} characters, a member {MEMBER_BYTES}")


def _records(raw: bytes, seen_us: int) -> dict[int, tuple[int, int, int, int]]:
    """Tag -> ends, n1, n2 and epoch of each record of a bucket (lua/records.lua)."""
    found = {}
    at, size = 8, len(raw)
    while at < size:
        widths, tag, ends, n1 = _SMALL.unpack_from(raw, at)
        kind = widths & 3
        if kind == 0:
            found[tag] = (seen_us + ends, n1, 0, widths >> 2)
            at += 8
            continue
        form = _FORMS[kind]
        tag, *fields = form.unpack_from(raw, at + 1)
        epoch = widths >> 2
        if kind == _WIDEST:
            epoch, tag, fields = tag, fields[0], fields[1:]
        ends, n1, n2 = [_number(field) for field in (*fields, 0)][:3]
        ends_us = seen_us + ends
        if kind == _IN_SECONDS:
            ends_us = (seen_us // 1_000_000 + ends) * 1_000_000
        found[tag] = (ends_us, n1, n2, epoch)
        at += 1 + form.size
    return found


class Stored(NamedTuple):
    """A record in a bucket, and where in it: ``raw[start:after]``."""

    tag: int
    epoch: int
    ends_us: int
    start: int
    after: int


def stored(raw: bytes) -> tuple[int, list[Stored]] | None:
    """The latest time that a bucket has seen, us, and its records; None for what another version
    of this code wrote, or nobody of us."""
    if len(raw) < 8 or raw[0] != BUCKET_VERSION:
        return None
    seen_us = int.from_bytes(raw[1:8], "little")
    found, at, size = [], 8, len(raw)
    while at < size:
        kind, epoch = raw[at] & 3, raw[at] >> 2
        form = _FORMS[kind]
        after = at + 1 + form.size
        if after > size:
            return None
        tag, *fields = form.unpack_from(raw, at + 1)
        if kind == _WIDEST:
            epoch, tag, fields = tag, fields[0], fields[1:]
        ends_us = seen_us + _number(fields[0])
        if kind == _IN_SECONDS:
            ends_us = (seen_us // 1_000_000 + _number(fields[0])) * 1_000_000
        found.append(Stored(tag, epoch, ends_us, at, after))
        at = after
    return seen_us, found


def records(raw: bytes) -> dict[int, tuple[int, int, int, int]]:
    """Tag -> ends, n1, n2 and epoch of each record of a bucket; none of what is no bucket of this
    version."""
    if stored(raw) is None:
        return {}
    return _records(raw, int.from_bytes(raw[1:8], "little"))


def limits_in(bucket: bytes) -> frozenset[int]:
    """The ids of the limits that a bucket holds something of. Raises ValueError for what is no
    bucket."""
    found = stored(bucket)
    if found is None:
        raise ValueError("no bucket, or one of another version, or cut short")
    return frozenset(record.tag // 4 for record in found[1])


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
