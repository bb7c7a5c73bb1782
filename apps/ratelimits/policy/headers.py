"""A decision as response fields and as problem details.

Fields: draft-ietf-httpapi-ratelimit-headers-11, both Lists of Strings (RFC 9651) with
parameters ``q`` (quota), ``w`` (window, s), ``r`` (remaining), ``t`` (effective window, s).
Bodies: RFC 9457. Names are slugs, so that quoting them needs no escapes.
"""

from __future__ import annotations

from .decision import Decision
from .rules import Algorithm, Mode, Rate

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
REDUCED_CAPACITY = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
MAX_RETRY_AFTER_S = 366 * 86_400


def retry_after_s(decision: Decision) -> int:
    """Whole seconds, rounded up: a client that waits so long is never early."""
    return min(MAX_RETRY_AFTER_S, max(1, -(-decision.retry_after_us // 1_000_000)))


def fields(decision: Decision) -> dict[str, str]:
    """The response fields; none where no enforcing limit matched."""
    policies: list[str] = []
    standings: list[str] = []
    for rule, _, standing, _ in decision.verdicts:
        if rule.mode is not Mode.ENFORCE:
            continue
        policies.append(_policy(rule.name, rule.rate))
        # Floored: within fewer seconds still no more than r can be used.
        steady_s = standing.steady_us // 1_000_000
        effective = f";t={steady_s}" if steady_s else ""
        standings.append(f'"{rule.name}";r={standing.remaining}{effective}')
    if not policies:
        return {}
    result = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(standings)}
    if not decision.allowed:
        result["Retry-After"] = str(retry_after_s(decision))
    return result


def _policy(name: str, rate: Rate) -> str:
    # Left out where it is no whole number of seconds: floored it would promise too much.
    window_s, rest_us = divmod(rate.window_us, 1_000_000)
    if rest_us or rate.algorithm is Algorithm.CONCURRENCY:
        return f'"{name}";q={rate.quota}'
    return f'"{name}";q={rate.quota};w={window_s}'


def problem(decision: Decision) -> dict[str, object]:
    """The problem details of a denied request."""
    wait_s = retry_after_s(decision)
    if decision.unavailable:
        return {
            "type": REDUCED_CAPACITY,
            "title": "Temporarily reduced capacity",
            "status": 503,
            "detail": f"Requests cannot be counted right now. Try again in {wait_s} s.",
        }
    messages = [rule.message for rule in decision.violated if rule.message]
    return {
        "type": QUOTA_EXCEEDED,
        "title": "Too many requests",
        "status": 429,
        "detail": " ".join(messages) or f"Try again in {wait_s} s.",
        "violated-policies": [rule.name for rule in decision.violated],
    }
