"""A limit as staff edit it, and what is said of one that cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from ..policy import rules
from ..policy.errors import PolicyError
from ..policy.paths import compile_path
from ..validators import (
    split_lines,
    validate_argument,
    validate_counted_by,
    validate_header,
    validate_methods,
    validate_name,
    validate_networks,
    validate_statuses,
)
from .entries import records
from .override import Override
from .published import PublishedModel


class WindowUnit(models.IntegerChoices):
    SECOND = 1, "seconds"
    MINUTE = 60, "minutes"
    HOUR = 3_600, "hours"
    DAY = 86_400, "days"


class RateLimit(PublishedModel):
    """One limit: which requests, who, how much, and what happens then."""

    class Mode(models.TextChoices):
        DRAFT = rules.Mode.DRAFT, "Draft"
        OFF = rules.Mode.OFF, "Off"
        SHADOW = rules.Mode.SHADOW, "Shadow"
        CANARY = rules.Mode.CANARY, "Canary"
        ENFORCE = rules.Mode.ENFORCE, "Enforce"

    class PathKind(models.TextChoices):
        ANY = rules.PathKind.ANY, "Every path"
        EXACT = rules.PathKind.EXACT, "Exactly"
        PREFIX = rules.PathKind.PREFIX, "Begins with"
        GLOB = rules.PathKind.GLOB, "Glob (* within a segment, ** across)"
        REGEX = rules.PathKind.REGEX, "RE2 pattern, whole path"
        VIEW = rules.PathKind.VIEW, "Django view name"
        NAMED = rules.PathKind.NAMED, "Only where code asks for it by name"

    class Audience(models.TextChoices):
        EVERYONE = rules.Audience.EVERYONE, "Everyone"
        ANONYMOUS = rules.Audience.ANONYMOUS, "Anonymous visitors"
        SIGNED_IN = rules.Audience.SIGNED_IN, "Signed-in users"
        STAFF = rules.Audience.STAFF, "Staff"

    class CountedBy(models.TextChoices):
        ADDRESS = rules.CountedBy.ADDRESS, "Client address"
        USER = rules.CountedBy.USER, "User"
        SESSION = rules.CountedBy.SESSION, "Session"
        HEADER = rules.CountedBy.HEADER, "API key in a header"
        VIEW_ARGUMENT = rules.CountedBy.VIEW_ARGUMENT, "Argument of the view"
        EVERYONE = rules.CountedBy.EVERYONE, "Everyone together"

    class Algorithm(models.TextChoices):
        TOKEN_BUCKET = rules.Algorithm.TOKEN_BUCKET, "Token bucket"
        FIXED_WINDOW = rules.Algorithm.FIXED_WINDOW, "Fixed window"
        SLIDING_WINDOW = rules.Algorithm.SLIDING_WINDOW, "Sliding window"
        SLIDING_LOG = rules.Algorithm.SLIDING_LOG, "Sliding log"
        CONCURRENCY = rules.Algorithm.CONCURRENCY, "Concurrency"

    class Counts(models.TextChoices):
        EVERY = rules.Counts.EVERY, "Every request"
        STATUS = rules.Counts.STATUS, "Only where the response has one of these statuses"
        SIGNAL = rules.Counts.SIGNAL, "Only where the request raised a signal"

    class OnFailure(models.TextChoices):
        LOCAL = rules.FailurePolicy.LOCAL, "Count in each process alone"
        ALLOW = rules.FailurePolicy.ALLOW, "Let requests pass"
        DENY = rules.FailurePolicy.DENY, "Answer 503"

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[validate_name],
        help_text="Stable: clients see it in the RateLimit fields.",
    )
    methods = models.CharField(
        max_length=100, blank=True, validators=[validate_methods], help_text="Empty: every method."
    )
    path_kind = models.CharField("path", max_length=10, choices=PathKind, default=PathKind.ANY)
    path = models.CharField(
        "path value", max_length=500, blank=True, help_text="As the URL resolver sees it: decoded."
    )
    host = models.CharField(
        max_length=253, blank=True, help_text="Such as *.example.com. Empty: every host."
    )
    audience = models.CharField(max_length=10, choices=Audience, default=Audience.EVERYONE)
    groups = models.ManyToManyField(
        "auth.Group", blank=True, help_text="Only users in one of these. Empty: no matter."
    )
    networks = models.TextField(
        blank=True,
        validators=[validate_networks],
        help_text="Only clients in these networks, one per line. Empty: no matter.",
    )
    networks_excluded = models.TextField(
        blank=True, validators=[validate_networks], help_text="Never clients in these."
    )
    counted_by = models.CharField(
        max_length=100,
        default=CountedBy.ADDRESS,
        validators=[validate_counted_by],
        help_text="Several together: each combination has its own quota.",
    )
    header = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_header],
        help_text="Such as X-Api-Key. Only keys that IOTA_KEY_VALIDATOR knows count apart.",
    )
    view_argument = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_argument],
        help_text="Its name in the URL pattern, such as pk.",
    )
    identities = models.PositiveIntegerField(
        "most counted apart",
        null=True,
        blank=True,
        validators=[MaxValueValidator(rules.MAX_IDENTITIES)],
        help_text="So many different clients per window have a count of their own; further new "
        "ones share one. Empty: the site's usual number. 0: no bound.",
    )
    algorithm = models.CharField(
        max_length=20,
        choices=Algorithm,
        default=Algorithm.TOKEN_BUCKET,
        help_text="Token bucket: a steady pace, with bursts. Fixed window: per clock minute or "
        "day, twice as much across an edge. Sliding window: the same without most of the edge. "
        "Sliding log: exact, an entry per request. Concurrency: requests at the same time.",
    )
    quota = models.PositiveBigIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(rules.MAX_QUOTA)],
        help_text="Units per window; for concurrency, requests at the same time.",
    )
    window_amount = models.PositiveIntegerField("per", default=1, validators=[MinValueValidator(1)])
    window_unit = models.PositiveIntegerField(
        "unit",
        choices=WindowUnit,
        default=WindowUnit.MINUTE,
        help_text="For concurrency: after this a slot that nobody released is free again.",
    )
    burst = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Token bucket only: how many may come at once. Empty: the quota.",
    )
    cost = models.PositiveBigIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text="Units that one request uses."
    )
    counts = models.CharField(
        max_length=10,
        choices=Counts,
        default=Counts.EVERY,
        help_text="By response: every request is counted when it comes and given back when its "
        "response does not count, so requests under way count too.",
    )
    statuses = models.CharField(
        max_length=100,
        blank=True,
        validators=[validate_statuses],
        help_text="Such as 401, 403, 5xx or 420-429.",
    )
    signal = models.CharField(
        max_length=200,
        blank=True,
        help_text="user_login_failed: a failed login of the admin answers 200.",
    )
    lease = models.PositiveIntegerField(
        "take ahead",
        default=0,
        blank=True,
        help_text="Fixed window only: units that a process may take in one trip to Redis. Fewer "
        "trips; may deny a little early, never late. 0: none.",
    )
    charge_denied = models.BooleanField(
        "count denied requests too",
        default=False,
        help_text="Asking again then uses up what has come free: only a pause helps.",
    )
    block_amount = models.PositiveIntegerField(
        "block for",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="After the first denied request. Empty: only until there is quota again.",
    )
    block_unit = models.PositiveIntegerField(
        "unit of the block", choices=WindowUnit, default=WindowUnit.MINUTE
    )
    mode = models.CharField(
        max_length=10,
        choices=Mode,
        default=Mode.ENFORCE,
        help_text="Draft: being written, not in force. Shadow counts and never blocks: the way to "
        "try a limit out. Canary: enforced for a part of the clients, shadow for the others.",
    )
    canary_percent = models.DecimalField(
        "percentage of clients",
        max_digits=4,
        decimal_places=1,
        default=Decimal("10.0"),
        blank=True,
        validators=[MinValueValidator(Decimal("0.1")), MaxValueValidator(Decimal("99.9"))],
        help_text="For whom the canary is enforced: always the same ones, and a larger number only "
        "adds to them. 0.1 to 99.9.",
    )
    on_failure = models.CharField(
        "when Redis fails", max_length=10, choices=OnFailure, default=OnFailure.LOCAL
    )
    message = models.CharField(
        max_length=300, blank=True, help_text="Shown to a client that is denied."
    )
    active_from = models.DateTimeField(null=True, blank=True)
    active_until = models.DateTimeField(null=True, blank=True)
    epoch = models.PositiveIntegerField(
        default=0, editable=False, help_text="Raised to start counting afresh."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    history = records(m2m_fields=["groups"])

    quota_overrides: Iterable[Override] | None = None
    """Overrides with a quota that are about this limit, where somebody who checks many limits has
    read them; None: each check does."""

    class Meta:
        ordering = ["name"]
        permissions = [
            ("publish_ratelimit", "Can enforce limits, and change what is enforced"),
            ("reset_identity", "Can reset what is counted of somebody"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def window_s(self) -> int:
        return self.window_amount * self.window_unit

    @property
    def effective_burst(self) -> int:
        return self.burst or self.quota

    def as_rate(self) -> rules.Rate:
        """Raises PolicyError where the rate cannot be enforced."""
        return rules.Rate(
            algorithm=rules.Algorithm(self.algorithm),
            quota=self.quota,
            window_us=self.window_s * 1_000_000,
            burst=self.effective_burst,
            cost=self.cost,
            charge_denied=self.charge_denied,
            block_us=(self.block_amount or 0) * self.block_unit * 1_000_000,
        )

    @property
    def canary_permille(self) -> int:
        return int(Decimal(str(self.canary_percent or 0)) * 10)

    def check_mode(self, mode: str) -> None:
        """Raises PolicyError where the limit cannot be in this mode as it is otherwise."""
        if mode == self.Mode.CANARY:
            rules.check_canary(self.as_counted_by())

    def as_path(self) -> rules.PathPattern:
        return rules.PathPattern(rules.PathKind(self.path_kind), self.path)

    def as_counted_by(self) -> tuple[rules.CountedBy, ...]:
        chosen = split_lines(self.counted_by)
        return tuple(part for part in rules.CountedBy if part in chosen)

    def clean(self) -> None:
        self.lease = self.lease or 0  # An emptied field.
        errors = {
            **self._clean_counted_by(),
            **self._clean_counts(),
            **self._clean_rate(),
            **self._clean_canary(),
        }
        if self.path_kind in (self.PathKind.ANY, self.PathKind.NAMED):
            self.path = ""
        if self.path_kind == self.PathKind.REGEX and not self.path:
            errors["path"] = "An empty pattern matches no path: write one, or choose every path."
        try:
            compile_path(self.as_path())
        except PolicyError as error:
            errors["path"] = str(error)
        if self.burst is not None and self.algorithm != self.Algorithm.TOKEN_BUCKET:
            errors["burst"] = "Only a token bucket has a burst: leave it empty."
        if self.active_from and self.active_until and self.active_from >= self.active_until:
            errors["active_until"] = "Ends before it begins: choose a later time."
        if errors:
            raise ValidationError(errors)

    def _clean_counts(self) -> dict[str, str]:
        if self.counts != self.Counts.STATUS:
            self.statuses = ""
        elif not self.statuses.strip():
            return {"statuses": "Name the statuses that count, such as 401."}
        if self.counts != self.Counts.SIGNAL:
            self.signal = ""
        elif not self.signal:
            return {"signal": "Choose the signal that counts, such as user_login_failed."}
        if self.algorithm == self.Algorithm.CONCURRENCY:
            if self.counts != self.Counts.EVERY:
                return {"counts": "A slot is taken before there is a response: every request."}
            if self.charge_denied:
                return {"charge_denied": "A denied request holds no slot: leave it unticked."}
        return {}

    def _clean_counted_by(self) -> dict[str, str]:
        chosen = self.as_counted_by()
        self.counted_by = ",".join(chosen)
        if rules.CountedBy.HEADER not in chosen:
            self.header = ""
        elif not self.header:
            return {"header": "Name the header that is counted by, such as X-Api-Key."}
        if rules.CountedBy.VIEW_ARGUMENT not in chosen:
            self.view_argument = ""
        elif not self.view_argument:
            return {"view_argument": "Name the argument that is counted by, such as pk."}
        if rules.CountedBy.EVERYONE in chosen:
            self.identities = None
        if not chosen:
            return {"counted_by": "Choose by what requests are counted."}
        if rules.CountedBy.EVERYONE in chosen and len(chosen) > 1:
            return {"counted_by": "Everyone together is one count: choose it alone, or not at all."}
        return {}

    def _clean_canary(self) -> dict[str, str]:
        if self.mode != self.Mode.CANARY:
            if self.canary_percent is None:  # An emptied field.
                self.canary_percent = self._meta.get_field("canary_percent").get_default()
            return {}
        if self.canary_percent is None:
            return {"canary_percent": "Say for what percentage of clients it is enforced."}
        try:
            self.check_mode(self.mode)
        except PolicyError as error:
            return {"mode": str(error)}
        return {}

    def _clean_rate(self) -> dict[str, str]:
        if None in (self.quota, self.window_amount, self.cost):
            return {}
        try:
            rate = self.as_rate()
            self._check_overrides(rate)
        except PolicyError as error:
            return {"quota": str(error)}
        try:
            rules.check_lease(self.lease, rate, rules.Counts(self.counts))
        except PolicyError as error:
            return {"lease": str(error)}
        return {}

    def _check_overrides(self, rate: rules.Rate) -> None:
        """Raises PolicyError where the rate would make an override's quota impossible."""
        overrides = self.quota_overrides
        if overrides is None:
            about = Q(limit=None) | Q(limit=self.pk)
            overrides = Override.objects.filter(about, action=Override.Action.QUOTA)
        for override in overrides:
            try:
                rules.with_quota(rate, override.quota or 0)
            except PolicyError as error:
                raise PolicyError(f"With the override '{override}': {error}") from error
