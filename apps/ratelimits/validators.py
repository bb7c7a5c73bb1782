"""Field validators; what they refuse, they say how to mend."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from .policy.errors import PolicyError
from .policy.matching import parse_networks
from .policy.rules import CountedBy, parse_statuses

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

validate_name = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?\Z",
    "Use 1 to 64 lower-case letters, digits, '-' and '_'; begin and end with a letter or digit.",
)


validate_header = RegexValidator(
    r"\A[A-Za-z0-9-]{1,64}\Z", "Use letters, digits and '-', such as X-Api-Key."
)
validate_argument = RegexValidator(
    r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z", "Use the argument's name in the URL pattern, such as pk."
)


def split_lines(text: str) -> tuple[str, ...]:
    """The entries of a text that holds one per line, or separated by commas."""
    return tuple(part.strip() for part in text.replace(",", "\n").splitlines() if part.strip())


def validate_networks(text: str) -> None:
    try:
        parse_networks(split_lines(text))
    except PolicyError as error:
        raise ValidationError(
            f"{error}. Write one network per line, such as 203.0.113.0/24."
        ) from error


def validate_counted_by(text: str) -> None:
    unknown = [part for part in split_lines(text) if part not in list(CountedBy)]
    if unknown:
        raise ValidationError(
            f"{', '.join(unknown)}: nothing to count by. Use {', '.join(CountedBy)}."
        )


def validate_statuses(text: str) -> None:
    try:
        parse_statuses(text)
    except PolicyError as error:
        raise ValidationError(f"{error}.") from error


def validate_methods(text: str) -> None:
    unknown = [method for method in split_lines(text) if method not in METHODS]
    if unknown:
        raise ValidationError(
            f"{', '.join(unknown)}: unknown method. Use {', '.join(METHODS)}, or leave it empty."
        )
