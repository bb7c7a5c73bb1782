"""Exceptions from limits, as staff edit them."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from ..policy import rules
from ..policy.errors import PolicyError
from ..policy.matching import parse_networks
from ..validators import validate_header
from .entries import records
from .published import PublishedModel


class Override(PublishedModel):
    """Another quota, none, or a block for one user, group, network or API key."""

    class Action(models.TextChoices):
        QUOTA = rules.OverrideAction.QUOTA, "Another quota"
        UNLIMITED = rules.OverrideAction.UNLIMITED, "Unlimited"
        BLOCKED = rules.OverrideAction.BLOCKED, "Blocked"

    limit = models.ForeignKey(
        "RateLimit",
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

    history = records()

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
        for limit in [self.limit] if self.limit else Override.limit.get_queryset(instance=self):
            try:
                rules.with_quota(limit.as_rate(), quota)
            except PolicyError as error:
                raise ValidationError({"quota": f"For limit {limit.name}: {error}"}) from error
