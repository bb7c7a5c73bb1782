"""What a server of the site is to be; handed to it in its environment."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

VARIABLE = "BENCHMARK_SITE"
PLENTY = (10_000_000, 20_000_000)
"""The quotas of the two limits of ``/``: no run uses them up."""
FEW = (3, 4)
"""The quotas of ``/denied``, which shows that the limiter limits."""
NO_LIMITER = "no limiter"


@dataclass(frozen=True, slots=True)
class Choice:
    """``limiter`` is ours, a peer, or NO_LIMITER; ``peers_url`` the Redis that peers use."""

    limiter: str
    stock: bool
    is_async: bool
    peers_url: str

    @property
    def name(self) -> str:
        return f"{self.limiter}, {'stock' if self.stock else 'bare'}"

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def chosen() -> Choice:
    """This server's. Raises KeyError where nobody started it for a benchmark."""
    return Choice(**json.loads(os.environ[VARIABLE]))
