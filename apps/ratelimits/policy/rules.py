"""The frozen values a ruleset is made of."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from .errors import PolicyError

MAX_EXACT = 2**53
"""Lua's numbers are doubles: every integer that a script holds stays below this."""

MAX_QUOTA = 10**11
MAX_LOG_QUOTA = 10_000
MAX_SLOTS = 100_000
MAX_WINDOW_US = 366 * 86_400 * 1_000_000
MAX_RULE_ID = 2**30 - 1
MAX_LEASE = 10_000
MAX_IDENTITIES = 10_000_000


class Algorithm(StrEnum):
    TOKEN_BUCKET = "token_bucket"  # noqa: S105  (no password)
    FIXED_WINDOW = "fixed_window"
    SLIDING_WINDOW = "sliding_window"
    SLIDING_LOG = "sliding_log"
    CONCURRENCY = "concurrency"


class Mode(StrEnum):
    """In the order of a limit's life, but for off. Canary: enforced for a stated share of
    identities, in shadow for the others."""

    DRAFT = "draft"
    OFF = "off"
    SHADOW = "shadow"
    CANARY = "canary"
    ENFORCE = "enforce"


IN_FORCE = frozenset({Mode.SHADOW, Mode.CANARY, Mode.ENFORCE})
"""The modes of limits that are published."""
BLOCKING = frozenset({Mode.CANARY, Mode.ENFORCE})
"""The modes in which a limit may deny somebody."""


class FailurePolicy(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    LOCAL = "local"


class Audience(StrEnum):
    EVERYONE = "everyone"
    ANONYMOUS = "anonymous"
    SIGNED_IN = "signed_in"
    STAFF = "staff"


class CountedBy(StrEnum):
    """A part of an identity. What a request does not have, or what was not validated, counts by
    address: without that, leaving it out or making it up would be the way around the limit."""

    ADDRESS = "address"
    USER = "user"
    SESSION = "session"
    HEADER = "header"
    VIEW_ARGUMENT = "view_argument"
    EVERYONE = "everyone"


class PathKind(StrEnum):
    ANY = "any"
    EXACT = "exact"
    PREFIX = "prefix"
    GLOB = "glob"
    REGEX = "regex"
    VIEW = "view"
    NAMED = "named"  # Only where code asks for the limit by its name.


class Counts(StrEnum):
    """Which requests count. By response: each is charged when it comes, and gets its charge
    back when its response turns out not to count; so requests in flight count too."""

    EVERY = "every"
    STATUS = "status"
    SIGNAL = "signal"


class OverrideAction(StrEnum):
    QUOTA = "quota"
    UNLIMITED = "unlimited"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Rate:
    """How much, in units of cost per window.

    ``burst`` is the capacity of a token bucket and is ignored elsewhere. For
    ``concurrency`` the quota is the number of slots and the window is the lease
    after which a slot that nobody released is free again.

    Raises PolicyError where the integers of the scripts could not hold the rate.
    """

    algorithm: Algorithm
    quota: int
    window_us: int
    burst: int
    cost: int = 1
    charge_denied: bool = False
    """Whether a denied request takes what is left, so that only a pause helps."""
    block_us: int = 0
    """After the first denial, deny everything for so long."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("quota", self.quota, MAX_QUOTA),
            ("burst", self.burst, MAX_QUOTA),
            ("window_us", self.window_us, MAX_WINDOW_US),
            ("cost", self.cost, MAX_QUOTA),
        ):
            if not 1 <= value <= most:
                raise PolicyError(f"{name} is {value:,}: use 1 to {most:,}")
        if not 0 <= self.block_us <= MAX_WINDOW_US:
            raise PolicyError(f"block_us is {self.block_us:,}: use 0 to {MAX_WINDOW_US:,}")
        if self.charge_denied and self.algorithm is Algorithm.CONCURRENCY:
            raise PolicyError("a request that is denied holds no slot: it cannot be charged")
        capacity = self.burst if self.algorithm is Algorithm.TOKEN_BUCKET else self.quota
        if self.cost > capacity:
            raise PolicyError(
                f"a request costs {self.cost:,}, more than the {capacity:,} that can ever be "
                "free: every request would be denied; lower the cost or raise the quota"
            )
        match self.algorithm:
            case Algorithm.TOKEN_BUCKET:
                self._check_token_bucket()
            case Algorithm.SLIDING_WINDOW:
                _ = self.resolution_us
            case Algorithm.SLIDING_LOG if self.quota > MAX_LOG_QUOTA:
                raise PolicyError(
                    f"an exact log keeps an entry per request: quota {self.quota:,} is over "
                    f"{MAX_LOG_QUOTA:,}; use sliding_window or token_bucket"
                )
            case Algorithm.CONCURRENCY if self.quota > MAX_SLOTS or self.cost != 1:
                raise PolicyError(
                    f"concurrency takes up to {MAX_SLOTS:,} slots and a cost of 1 "
                    f"(got {self.quota:,} and {self.cost:,})"
                )
            case _:
                pass

    def _check_token_bucket(self) -> None:
        # The largest products and sums that check.lua forms.
        if self.burst * self.denominator >= MAX_EXACT:
            raise PolicyError(
                f"burst {self.burst:,} at {self.quota:,} per {self.window_us:,} us is finer than "
                "the arithmetic can hold; use a quota that divides the window, or a smaller burst"
            )
        if self.burst * self.window_us // self.quota >= MAX_EXACT // 4:
            raise PolicyError(
                f"a burst of {self.burst:,} takes over 70 years to refill at this rate; lower it"
            )

    @property
    def fraction(self) -> tuple[int, int]:
        """window/quota in lowest terms: the time that one unit takes to refill, us."""
        return _lowest_terms(self.window_us, self.quota)

    @property
    def denominator(self) -> int:
        """Of ``fraction``: the unit of a GCRA remainder."""
        return self.fraction[1]

    def emission(self, units: int) -> tuple[int, int]:
        """The time that ``units`` take to refill: whole us, and a remainder over denominator."""
        numerator, denominator = self.fraction
        return divmod(units * numerator, denominator)

    @property
    def resolution_us(self) -> int:
        """The step in which a sliding window ages, so that quota times window stays exact."""
        for step_us in (1, 1_000, 1_000_000):
            if (
                self.window_us % step_us == 0
                and self.quota * (self.window_us // step_us) < MAX_EXACT
            ):
                return step_us
        raise PolicyError(
            f"{self.quota:,} in {self.window_us:,} us is more than a sliding window can weigh "
            "exactly; use token_bucket or fixed_window"
        )


@lru_cache(maxsize=4_096)
def _lowest_terms(numerator: int, denominator: int) -> tuple[int, int]:
    divisor = math.gcd(numerator, denominator)
    return numerator // divisor, denominator // divisor


def with_quota(rate: Rate, quota: int) -> Rate:
    """The rate of an override: its burst is its quota. Raises PolicyError as a Rate does."""
    return replace(rate, quota=quota, burst=quota)


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """``401, 403, 5xx, 420-429`` as inclusive ranges. Raises PolicyError."""
    ranges = []
    for part in text.replace(",", " ").split():
        if found := re.fullmatch(r"([1-5])xx", part.lower()):
            low = int(found[1]) * 100
            high = low + 99
        elif found := re.fullmatch(r"([1-5]\d\d)(?:-([1-5]\d\d))?", part):
            low, high = int(found[1]), int(found[2] or found[1])
        else:
            raise PolicyError(f"{part!r} is no status: write 404, 5xx or 400-428")
        if low > high:
            raise PolicyError(f"{part!r} is empty: write {high}-{low}")
        ranges.append((low, high))
    return tuple(ranges)


def check_canary(counted_by: Collection[CountedBy]) -> None:
    """Raises PolicyError where a limit that counts so cannot be tried out with some clients."""
    if CountedBy.EVERYONE in counted_by:
        raise PolicyError(
            "everyone together is one count, of which no part can be tried out: choose shadow, or "
            "count by something else"
        )


def check_lease(lease: int, rate: Rate, counts: Counts) -> None:
    """Raises PolicyError where processes cannot take so many units ahead of use; 0 is none."""
    if not lease:
        return
    if rate.algorithm is not Algorithm.FIXED_WINDOW:
        raise PolicyError(
            "units can be taken ahead of a fixed window only, since of others they could be used "
            "late: choose 0, or a fixed window"
        )
    most = min(rate.quota, MAX_LEASE)
    if not rate.cost <= lease <= most:
        raise PolicyError(
            f"{lease:,} units at a time: take at least {rate.cost:,}, which one request costs, "
            f"and at most {most:,}; or 0 for none"
        )
    if rate.charge_denied or rate.block_us or counts is not Counts.EVERY:
        raise PolicyError(
            "units that were taken ahead are used without asking Redis, which goes with neither "
            "counted denials, nor a block, nor counting by response: choose 0, or leave those out"
        )


@dataclass(frozen=True, slots=True)
class PathPattern:
    kind: PathKind = PathKind.ANY
    value: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """Another quota, none, or a block, for one user, group, network or API key."""

    target: str
    """``user``, ``group``, ``network`` or ``key``; a key's value is ``header:whose``."""
    value: str
    action: OverrideAction
    quota: int = 0
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit as it is enforced."""

    id: int
    name: str
    rate: Rate
    epoch: int = 0
    mode: Mode = Mode.ENFORCE
    """What is checked, policy/matching.py has made: enforced or in shadow, never a canary."""
    canary_permille: int = 0
    """Of identities, for which a canary is enforced."""
    methods: frozenset[str] = frozenset()
    path: PathPattern = field(default_factory=PathPattern)
    host: str = ""
    audience: Audience = Audience.EVERYONE
    groups: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()
    networks_excluded: tuple[str, ...] = ()
    counted_by: tuple[CountedBy, ...] = (CountedBy.ADDRESS,)
    """The parts of the identity together, in the order of the enumeration."""
    header: str = ""
    """In lower case, where counted by header."""
    view_argument: str = ""
    counts: Counts = Counts.EVERY
    statuses: tuple[tuple[int, int], ...] = ()
    """Inclusive ranges, where it counts by status."""
    signal: str = ""
    lease: int = 0
    """Units that a process may take at a time and serve from memory; 0: each request is counted
    in Redis by itself."""
    identities: int | None = None
    """So many are counted apart in one window, further new ones together; 0: no bound, None: as
    the site's configuration says."""
    on_failure: FailurePolicy = FailurePolicy.LOCAL
    message: str = ""
    active_from_us: int | None = None
    active_until_us: int | None = None
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.id <= MAX_RULE_ID:
            raise PolicyError(f"the limit's number {self.id:,} is over {MAX_RULE_ID:,}")
        check_lease(self.lease, self.rate, self.counts)
        if not 0 <= (self.identities or 0) <= MAX_IDENTITIES:
            raise PolicyError(f"{self.identities:,} identities: use 0 to {MAX_IDENTITIES:,}")
        self._check_canary()
        if not self.counted_by:
            raise PolicyError("nobody is counted: choose by what, such as the client's address")
        if CountedBy.EVERYONE in self.counted_by and len(self.counted_by) > 1:
            raise PolicyError("everyone together is one count: choose it alone, or not at all")
        if CountedBy.HEADER in self.counted_by and not self.header:
            raise PolicyError("counted by a header: name it, such as X-Api-Key")
        if CountedBy.VIEW_ARGUMENT in self.counted_by and not self.view_argument:
            raise PolicyError("counted by a view's argument: name it, such as pk")
        if self.counts is Counts.STATUS and not self.statuses:
            raise PolicyError("counts by status: name at least one, such as 401")
        if self.counts is Counts.SIGNAL and not self.signal:
            raise PolicyError("counts by signal: name it, such as user_login_failed")
        if self.counts is not Counts.EVERY and self.rate.algorithm is Algorithm.CONCURRENCY:
            raise PolicyError("a slot is taken before there is a response: count every request")

    def _check_canary(self) -> None:
        if self.mode is not Mode.CANARY:
            return
        if not 1 <= self.canary_permille <= 999:
            raise PolicyError(
                f"a canary for {self.canary_permille / 10:g} % of clients: use 0.1 to 99.9; for "
                "nobody there is shadow, for everyone enforce"
            )
        check_canary(self.counted_by)

    def counts_response(self, status: int, raised: AbstractSet[str]) -> bool:
        """Whether a request that was answered so, and raised these signals, counts."""
        match self.counts:
            case Counts.STATUS:
                return any(low <= status <= high for low, high in self.statuses)
            case Counts.SIGNAL:
                return self.signal in raised
            case _:
                return True

    @property
    def needs_user(self) -> bool:
        return (
            self.audience is not Audience.EVERYONE
            or bool(self.groups)
            or CountedBy.USER in self.counted_by
            or any(override.target in ("user", "group") for override in self.overrides)
        )

    @property
    def needs_groups(self) -> bool:
        return bool(self.groups) or any(o.target == "group" for o in self.overrides)

    @property
    def needs_session(self) -> bool:
        return CountedBy.SESSION in self.counted_by

    @property
    def needs_route(self) -> bool:
        return self.path.kind is PathKind.VIEW or CountedBy.VIEW_ARGUMENT in self.counted_by

    @property
    def headers(self) -> frozenset[str]:
        """The headers whose value says who asks."""
        named = {o.value.partition(":")[0] for o in self.overrides if o.target == "key"}
        return frozenset(named | ({self.header} if CountedBy.HEADER in self.counted_by else set()))


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Every limit that is in force, at one version of the database."""

    version: int
    rules: tuple[Rule, ...] = ()
    off: tuple[str, ...] = ()
    """Names of the limits that are off: code may ask for them all the same."""
