from __future__ import annotations

from apps.ratelimits.noting import noted
from apps.ratelimits.planning import Plan
from apps.ratelimits.policy.algorithms import Standing
from apps.ratelimits.policy.decision import Verdict, decide_all
from apps.ratelimits.policy.facts import ANONYMOUS, RequestFacts
from apps.ratelimits.policy.identity import Digests
from apps.ratelimits.storage.keys import Keys
from apps.ratelimits.storage.packing import PackedLimits

from .limiters import rule

FACTS = RequestFacts("GET", "/api/test", "203.0.113.9")
OF = Digests(b"key").of
OWN = OF(("address", FACTS.address))


def test_whoever_is_counted_with_all_new_clients_is_not_named_for_them():
    """A limit over its identity budget counts them as one; another limit knows this client."""
    over, own = rule(number=1), rule(number=2)
    plan = Plan(PackedLimits(Keys("t:"), [over, own], (0, 1)), (OF(("overflow", "1")), OWN))
    denied = decide_all([Verdict(one, False, Standing(0, 1, 1, 1)) for one in (over, own)])
    found = noted(plan, denied, FACTS, ANONYMOUS, OF, with_names=True)
    assert found.denied == (1, 2)
    assert found.names == ((2, (("address", "203.0.113.9"),)),)
    assert noted(plan, denied, FACTS, ANONYMOUS, OF, with_names=False).names == ()
