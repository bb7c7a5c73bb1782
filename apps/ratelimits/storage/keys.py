"""The only place where a key is built.

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

The braces are a cluster's hash tag: what belongs to one identity, or to the
identities of one limit, lies in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..policy.rules import Algorithm, Rule

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


def tagged(key: str, tag: str) -> str:
    """The same on a cluster, in the slot of a tag."""
    return f"{key}:{{{tag}}}"


def tag_of(key: str) -> str:
    """The hash tag: the digest of whom a bucket, a log or slots belong to."""
    return key.partition("{")[2].partition("}")[0]
