"""What code that asks for limits by name has to expect.

RateLimitError
|-- RateLimited     a limit said no; ``decision`` says which, and for how long
|-- UnknownLimit    no limit has this name, and IOTA_UNKNOWN_LIMIT says that this is an error
"""

from __future__ import annotations

from .policy.decision import Decision
from .policy.headers import retry_after_s


class RateLimitError(Exception):
    """Root of what asking by name raises."""


class RateLimited(RateLimitError):
    """A view may let it pass: the middleware answers it as any denial."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.status_code = 503 if decision.unavailable else 429
        names = ", ".join(rule.name for rule in decision.violated) or "the limits"
        super().__init__(f"denied by {names}: try again in {retry_after_s(decision)} s")


class UnknownLimit(RateLimitError, LookupError):
    """``name`` is what the code asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"No limit is named {name!r}. Make it in the admin, whose list of limits has a button "
            "for it, or correct the name in the code. IOTA_UNKNOWN_LIMIT=allow lets such requests "
            "pass."
        )
