"""Rate limits that staff edit and a middleware enforces.

The data path, step by step:

1. ``middleware``: a request comes in as ``policy.facts.RequestFacts``;
2. ``policy.matching``: the current ruleset names the limits that match;
3. ``policy.identity``: each limit names whom it counts, as a keyed digest;
4. ``storage.limiter``: one call to Redis decides and charges all of them, or none;
5. ``policy.decision``: the verdicts become one ``Decision``;
6. ``policy.headers``: the decision becomes response fields and, where denied, a body;
7. ``storage.tally``: what was decided and answered is counted, for ``storage.usage``.

``engine`` joins 2 to 5 and holds the version of the ruleset that is in force; ``planning`` is what
then is asked of whom.
"""
