"""What staff edit, and the version that tells processes of it."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Greatest
from simple_history.models import HistoricalRecords

from .policy import rules
from .policy.errors import PolicyError
from .policy.matching import parse_networks
from .policy.paths import compile_path
from .querysets import PublishedQuerySet
from .validators import (
    split_lines,
    validate_argument,
    validate_counted_by,
    validate_header,
    validate_methods,
    validate_name,
    validate_networks,
    validate_statuses,
)


class WindowUnit(models.IntegerChoices):
    SECOND = 1, "seconds"
    MINUTE = 60, "minutes"
    HOUR = 3_600, "hours"
    DAY = 86_400, "days"


class PublishedModel(models.Model):
    """Saved and deleted in a transaction, in which ``receivers`` raise the ruleset's version."""

    objects = PublishedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            return super().delete(*args, **kwargs)


class RateLimit(PublishedModel):
    """One limit: which requests, who, how much, and what happens then."""

    class Mode(models.TextChoices):
        OFF = rules.Mode.OFF, "Off"
        SHADOW = rules.Mode.SHADOW, "Shadow"
        ENFORCE = rules.Mode.ENFORCE, "Enforce"

    class PathKind(models.TextChoices):
        ANY = rules.PathKind.ANY, "Every path"
        EXACT = rules.PathKind.EXACT, "Exactly"
        PREFIX = rules.PathKind.PREFIX, "Begins with"
        GLOB = rules.PathKind.GLOB, "Glob (* within a segment, ** across)"
        REGEX = rules.PathKind.REGEX, "RE2 pattern, whole path"
        VIEW = rules.PathKind.VIEW, "Django view name"

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
        help_text="Shadow counts and never blocks: the way to try a limit out.",
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

    history = HistoricalRecords()

    class Meta:
        ordering = ["name"]

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

    def as_path(self) -> rules.PathPattern:
        return rules.PathPattern(rules.PathKind(self.path_kind), self.path)

    def as_counted_by(self) -> tuple[rules.CountedBy, ...]:
        chosen = split_lines(self.counted_by)
        return tuple(part for part in rules.CountedBy if part in chosen)

    def clean(self) -> None:
        errors = {**self._clean_counted_by(), **self._clean_counts()}
        if self.path_kind == self.PathKind.ANY:
            self.path = ""
        if self.path_kind == self.PathKind.REGEX and not self.path:
            errors["path"] = "An empty pattern matches no path: write one, or choose every path."
        try:
            compile_path(self.as_path())
        except PolicyError as error:
            errors["path"] = str(error)
        if None not in (self.quota, self.window_amount, self.cost):
            try:
                self._check_overrides(self.as_rate())
            except PolicyError as error:
                errors["quota"] = str(error)
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
        if not chosen:
            return {"counted_by": "Choose by what requests are counted."}
        if rules.CountedBy.EVERYONE in chosen and len(chosen) > 1:
            return {"counted_by": "Everyone together is one count: choose it alone, or not at all."}
        return {}

    def _check_overrides(self, rate: rules.Rate) -> None:
        """Raises PolicyError where the rate would make an override's quota impossible."""
        overrides = Override.objects.filter(action=Override.Action.QUOTA)
        for override in overrides.filter(Q(limit=None) | Q(limit=self.pk)):
            try:
                rules.with_quota(rate, override.quota or 0)
            except PolicyError as error:
                raise PolicyError(f"With the override '{override}': {error}") from error


class Override(PublishedModel):
    """Another quota, none, or a block for one user, group, network or API key."""

    class Action(models.TextChoices):
        QUOTA = rules.OverrideAction.QUOTA, "Another quota"
        UNLIMITED = rules.OverrideAction.UNLIMITED, "Unlimited"
        BLOCKED = rules.OverrideAction.BLOCKED, "Blocked"

    limit = models.ForeignKey(
        RateLimit,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="overrides",
        help_text="Empty: every limit.",
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE
    )
    group = models.ForeignKey("auth.Group", null=True, blank=True, on_delete=models.CASCADE)
    network = models.CharField(max_length=43, blank=True, help_text="Such as 203.0.113.0/24.")
    header = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_header],
        help_text="That holds an API key, such as X-Api-Key.",
    )
    key_of = models.CharField(
        "whose key",
        max_length=200,
        blank=True,
        help_text="As IOTA_KEY_VALIDATOR names it: never the key itself.",
    )
    action = models.CharField(max_length=10, choices=Action)
    quota = models.PositiveBigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(rules.MAX_QUOTA)]
    )
    until = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is deleted.")
    reason = models.CharField(max_length=300, blank=True)

    history = HistoricalRecords()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.get_action_display()} for {self._whom()}"

    def _whom(self) -> str:
        return str(self.user or self.group or self.network or f"{self.header} of {self.key_of}")

    def clean(self) -> None:
        targets = (self.user_id, self.group_id, self.network, self.header or self.key_of)
        if len([target for target in targets if target]) != 1:
            raise ValidationError("Name one of user, group, network and key: whom this is about.")
        if bool(self.header) != bool(self.key_of):
            raise ValidationError({"key_of": "Goes with the header that holds the key."})
        if self.network:
            try:
                parse_networks((self.network,))
            except PolicyError as error:
                raise ValidationError({"network": str(error)}) from error
        if (self.action == self.Action.QUOTA) != (self.quota is not None):
            raise ValidationError({"quota": "Goes with 'Another quota', and only with it."})
        if self.quota is not None:
            self._check_quota(self.quota)
        same = Override.objects.filter(
            limit=self.limit,
            user=self.user,
            group=self.group,
            network=self.network,
            header__iexact=self.header,
            key_of=self.key_of,
        ).exclude(pk=self.pk)
        if self.until is not None:
            same = same.exclude(until__lt=self.until, until__isnull=False)
        if same.exists():
            raise ValidationError("There is an override for the same limit and target: edit that.")

    def _check_quota(self, quota: int) -> None:
        limits = [self.limit] if self.limit else list(RateLimit.objects.all())
        for limit in limits:
            try:
                rules.with_quota(limit.as_rate(), quota)
            except PolicyError as error:
                raise ValidationError({"quota": f"For limit {limit.name}: {error}"}) from error


class RulesetVersion(models.Model):
    """One row: raised in the transaction of each edit.

    At least the clock's microseconds, so that a database made anew, beside a Redis that still
    holds the old one's limits, is the newer.
    """

    ROW = 1

    version = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="ratelimits_one_version")]

    def __str__(self) -> str:
        return str(self.version)

    @classmethod
    def raise_version(cls) -> None:
        """Inside the transaction of the edit that it announces."""
        cls.objects.get_or_create(pk=cls.ROW)
        now_us = time.time_ns() // 1000
        cls.objects.filter(pk=cls.ROW).update(version=Greatest(F("version") + 1, Value(now_us)))

    @classmethod
    def current(cls) -> int:
        return cls.objects.filter(pk=cls.ROW).values_list("version", flat=True).first() or 0
