"""A key says whose it is, and nobody else's key is taken for one of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ratelimits.policy.identity import digest
from apps.ratelimits.policy.rules import MAX_RULE_ID, Algorithm
from apps.ratelimits.storage.keys import KeyKind, Keys, Parsed, tagged

from .limiters import A, rule

prefixes = st.from_regex(r"[A-Za-z0-9:_-]{1,32}", fullmatch=True)
digests = st.text(max_size=10).map(lambda who: digest(b"key", who))
numbers = st.integers(0, MAX_RULE_ID)


@given(prefixes, digests, numbers, numbers, st.integers(0, 10**9))
def test_parsing_is_the_inverse_of_building(prefix, who, limit, epoch, period):
    keys = Keys(prefix)
    log = rule(Algorithm.SLIDING_LOG, number=limit, epoch=epoch)
    slots = rule(Algorithm.CONCURRENCY, number=limit, epoch=epoch)
    of_limit = Parsed(KeyKind.IDENTITIES, "", limit, epoch)
    for key, said in (
        (keys.bucket(who), Parsed(KeyKind.BUCKET, who)),
        (keys.sidecar(log, who), Parsed(KeyKind.LOG, who, limit, epoch)),
        (keys.sidecar(slots, who), Parsed(KeyKind.SLOTS, who, limit, epoch)),
        (keys.identities_came(log, period), of_limit),
        (keys.identities_own(log, period), of_limit),
        (keys.identities_known(log, period), of_limit),
        (keys.identities_over(log), of_limit),
        (keys.denied_most(limit, period), Parsed(KeyKind.DENIED, "", limit)),
    ):
        assert keys.parse(key.encode()) == said


@given(prefixes, prefixes, digests)
def test_another_sites_key_is_not_ours(ours, theirs, who):
    log = rule(Algorithm.SLIDING_LOG)
    for key in (Keys(theirs).bucket(who), Keys(theirs).sidecar(log, who)):
        assert (Keys(ours).parse(key.encode()) is not None) == (ours == theirs)


@given(st.binary(max_size=60))
def test_any_bytes_are_somebody_elses(key):
    assert Keys("iota:").parse(key) is None


STAYS = [
    *(
        getattr(Keys("iota:"), name)
        for name in ("ruleset", "ruleset_lock", "resets", "processes", "denied")
    ),
    tagged(Keys("iota:").probe, "x"),
    "iota:usage",
    "celery",
    "_kombu.binding.celery",
    "unacked",
    "celery-task-meta-1",
    "iota-cache:1:b:{" + A + "}",
    "iota:b:{" + A[1:] + "}",
    "iota:b:{" + A + "a}",
    "iota:b:{" + A + "}:1:0",
    "iota:b:{" + A + "}\n",
    "xiota:b:{" + A + "}",
    "iota:l:{" + A + "}",
    "iota:l:{" + A + "}:01:0",
    "iota:l:{" + A + "}:1:0:",
    "iota:i:{1:0}:came",
    "iota:i:{1:0}:over:1",
    "iota:i:{1:0}:else:1",
    "iota:denied",
    "iota:d:{1}",
    "iota:d:{1:0}:1",
    "iota:d:{01}:1",
    "iota:d:{1}:1:1",
]


@pytest.mark.parametrize("key", STAYS)
def test_what_stays_is_not_parsed(key):
    assert Keys("iota:").parse(key.encode()) is None
