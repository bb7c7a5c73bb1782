"""The only place where a key is built or parsed.

``<prefix>b:{<digest>}``                    bucket: every limit's state of one identity
``<prefix>l:{<digest>}:<limit>:<epoch>``    exact log of one limit
``<prefix>c:{<digest>}:<limit>:<epoch>``    concurrency slots of one limit
``<prefix>i:{<limit>:<epoch>}:<kind>``      identities of one limit: ``over``, since when;
                                            ``came:<period>``, ``own:<period>``, how many;
                                            ``known:<period>``, who (storage/cardinality.py)
``<prefix>ruleset``                         hash: version, data
``<prefix>resets``                          stream, capped: digests of identities that were reset
``<prefix>probe``                           string: whether a server that failed takes writes again
``<prefix>processes``                       hash: process -> when it was last seen, and its status
``<prefix>usage``                           hash: totals of what the limiter did (lua/usage.lua)
``<prefix>d:{<limit>}:<hour>``              hash: whom a limit denied most, hourly (lua/denied.lua)
``<prefix>denied``                          stream, capped: the last denials (storage/denied.py)
``<prefix>{traffic}``                       stream, capped: records of recent requests, packed
``<prefix>{traffic}:upto``                  string: how much was ever put there (lua/traffic.lua)

The braces are a cluster's hash tag: what belongs to one identity, or to the
identities of one limit, lies in one slot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from ..policy.identity import DIGEST_CHARS
from ..policy.rules import Algorithm, Rule


class KeyKind(StrEnum):
    """Of the keys that come and go with clients."""

    BUCKET = "bucket"
    LOG = "log"
    SLOTS = "slots"
    IDENTITIES = "identities"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a key says. ``digest`` is empty for a limit's identities; limit and epoch are -1 for a
    bucket, whose records name their own, and epoch for whom a limit denied, in whichever."""

    kind: KeyKind
    digest: str = ""
    limit: int = -1
    epoch: int = -1


_SIDECAR = {Algorithm.SLIDING_LOG: "l", Algorithm.CONCURRENCY: "c"}


@dataclass(frozen=True, slots=True)
class Keys:
    prefix: str

    def bucket(self, digest: str) -> str:
        return f"{self.prefix}b:{{{digest}}}"

    def sidecar(self, rule: Rule, digest: str) -> str | None:
        """The key beside the bucket, for the algorithms that keep a log or a set."""
        kind = _SIDECAR.get(rule.rate.algorithm)
        return kind and f"{self.prefix}{kind}:{{{digest}}}:{rule.id}:{rule.epoch}"

    def identities_came(self, rule: Rule, period: int) -> str:
        return f"{self.prefix}i:{{{rule.id}:{rule.epoch}}}:came:{period}"

    def identities_own(self, rule: Rule, period: int) -> str:
        return f"{self.prefix}i:{{{rule.id}:{rule.epoch}}}:own:{period}"

    def identities_known(self, rule: Rule, period: int) -> str:
        return f"{self.prefix}i:{{{rule.id}:{rule.epoch}}}:known:{period}"

    def identities_over(self, rule: Rule) -> str:
        return f"{self.prefix}i:{{{rule.id}:{rule.epoch}}}:over"

    def denied_most(self, limit: int, hour: int) -> str:
        """``hour``: whole hours since 1970."""
        return f"{self.prefix}d:{{{limit}}}:{hour}"

    @property
    def pattern(self) -> str:
        """For SCAN: all that ``parse`` may know, and some that it does not."""
        return f"{self.prefix}[blcid]:{{*"

    def parse(self, key: bytes) -> Parsed | None:
        """The inverse of the builders of keys that come and go; None for every other key, be it
        another site's, Celery's, the cache's, or one of ours that stays."""
        found = _form(self.prefix).fullmatch(key)
        if found is None:
            return None
        bucket, kind, digest, limit, epoch, limit_of_all, epoch_of_all, denied_by = found.groups()
        if bucket is not None:
            return Parsed(KeyKind.BUCKET, bucket.decode())
        if kind is not None:
            sort = KeyKind.LOG if kind == b"l" else KeyKind.SLOTS
            return Parsed(sort, digest.decode(), int(limit), int(epoch))
        if denied_by is not None:
            return Parsed(KeyKind.DENIED, "", int(denied_by))
        return Parsed(KeyKind.IDENTITIES, "", int(limit_of_all), int(epoch_of_all))

    @property
    def ruleset(self) -> str:
        return f"{self.prefix}ruleset"

    @property
    def ruleset_lock(self) -> str:
        return f"{self.prefix}ruleset:lock"

    @property
    def probe(self) -> str:
        return f"{self.prefix}probe"

    @property
    def resets(self) -> str:
        return f"{self.prefix}resets"

    @property
    def processes(self) -> str:
        return f"{self.prefix}processes"

    @property
    def usage(self) -> str:
        return f"{self.prefix}usage"

    @property
    def denied(self) -> str:
        return f"{self.prefix}denied"

    @property
    def traffic(self) -> str:
        return f"{self.prefix}{{traffic}}"

    @property
    def traffic_upto(self) -> str:
        return f"{self.prefix}{{traffic}}:upto"


@cache
def _form(prefix: str) -> re.Pattern[bytes]:
    """Prefixes have no braces, so that two sites' keys are never of one form."""
    who, number = rf"[\w-]{{{DIGEST_CHARS}}}", r"(0|[1-9]\d{0,9})"
    forms = (
        rf"b:\{{({who})\}}",
        rf"([lc]):\{{({who})\}}:{number}:{number}",
        rf"i:\{{{number}:{number}\}}:(?:over|(?:came|own|known):\d{{1,12}})",
        rf"d:\{{{number}\}}:\d{{1,12}}",
    )
    return re.compile(f"{re.escape(prefix)}(?:{'|'.join(forms)})".encode())


def tagged(key: str, tag: str) -> str:
    """The same on a cluster, in the slot of a tag."""
    return f"{key}:{{{tag}}}"


def tag_of(key: str) -> str:
    """The hash tag: the digest of whom a bucket, a log or slots belong to."""
    return key.partition("{")[2].partition("}")[0]
