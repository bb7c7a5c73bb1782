"""Loads ``lua/`` and packs what its scripts take."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..policy.decision import Charge
from ..policy.rules import Algorithm, Mode, Rule

ALGORITHM_CODES = {
    Algorithm.TOKEN_BUCKET: 1,
    Algorithm.FIXED_WINDOW: 2,
    Algorithm.SLIDING_WINDOW: 3,
    Algorithm.SLIDING_LOG: 4,
    Algorithm.CONCURRENCY: 5,
}

_LIMIT = struct.Struct("<BBBBII9d")
_CHARGE = struct.Struct("<BBBxII8d")


@dataclass(frozen=True, slots=True)
class Script:
    source: str
    sha: str


@cache
def load(name: str, *, prelude: bool = True) -> Script:
    """The script ``lua/<name>.lua``, behind the bucket prelude where it reads buckets."""
    folder = files(__package__) / "lua"
    source = (folder / f"{name}.lua").read_text()
    if prelude:
        source = (folder / "bucket.lua").read_text() + source
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def pack_limit(rule: Rule, bucket_index: int, sidecar_index: int, cost: int) -> bytes:
    """One limit of check.lua's plan; indices count from 1, sidecar 0 is none."""
    rate = rule.rate
    parameters: tuple[int, ...] = (0, 0, 0, 0, 0)
    if rate.algorithm is Algorithm.TOKEN_BUCKET:
        parameters = (*rate.emission(cost), rate.denominator, *rate.emission(rate.burst))
    elif rate.algorithm is Algorithm.SLIDING_WINDOW:
        parameters = (rate.resolution_us, 0, 0, 0, 0)
    return _LIMIT.pack(
        bucket_index,
        sidecar_index,
        ALGORITHM_CODES[rate.algorithm],
        (rule.mode is Mode.ENFORCE) + 2 * rate.charge_denied,
        rule.id,
        rule.epoch,
        cost,
        rate.quota,
        rate.window_us,
        rate.block_us,
        *parameters,
    )


def pack_charge(charge: Charge, bucket_index: int, sidecar_index: int) -> bytes:
    """One charge of refund.lua's plan; indices as in ``pack_limit``."""
    rule, rate = charge.rule, charge.rule.rate
    token_bucket = rate.algorithm is Algorithm.TOKEN_BUCKET
    return _CHARGE.pack(
        bucket_index,
        sidecar_index,
        ALGORITHM_CODES[rate.algorithm],
        rule.id,
        rule.epoch,
        rate.cost,
        rate.window_us,
        charge.at_us if rate.algorithm is Algorithm.SLIDING_LOG else charge.state.a,
        *(rate.emission(rate.cost) if token_bucket else (0, 0)),
        rate.denominator,
        charge.state.c,
        charge.at_us,
    )
