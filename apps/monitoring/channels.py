"""Where messages go: which addresses are allowed, and one attempt to send to one of them.

One receiver per channel, and no retries in the library: who was told how often is ours to know.
Redirects are not followed. Hosts are not restricted, since receivers inside one's own network are
usual: who may enter a channel may make this site POST to a host, and never sees its answer.
"""

from __future__ import annotations

import logging
import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.core.mail import mail_admins

from .witness import watching

SCHEMES = {
    "mailto": "mail",
    "mailtos": "mail, encrypted",
    "json": "webhook",
    "jsons": "webhook, HTTPS",
    "slack": "Slack",
    "discord": "Discord",
    "workflows": "Microsoft Teams",
    "gchat": "Google Chat",
    "mmost": "Mattermost",
    "mmosts": "Mattermost, HTTPS",
    "ntfy": "ntfy",
    "ntfys": "ntfy, HTTPS",
    "tgram": "Telegram",
    "pagerduty": "PagerDuty",
}
OPTIONS = frozenset(("to", "from", "name", "user", "pass", "smtp", "mode", "method", "verify"))
"""None that names a file, sends twice, follows redirects or waits longer."""
CONNECT_S, READ_S = 4.0, 6.0
_ANSWERED = re.compile(r"error=\d{3}\b|Socket Exception: \(\d{3}, ")
"""What the library logs where the other side answered, and refused."""


class Outcome(StrEnum):
    SENT = "sent"
    REFUSED = "refused"
    """It was not taken: it can be sent again."""
    UNCLEAR = "unclear"
    """Perhaps it was."""


@dataclass(frozen=True, slots=True)
class Sending:
    outcome: Outcome
    why: str = ""


def parse(url: str) -> Any:
    """The library's sender. Raises ValueError, whose text never repeats the address."""
    scheme = url.partition("://")[0].strip().lower()
    if scheme not in SCHEMES:
        raise ValueError(f"It begins with one of {', '.join(f'{name}://' for name in SCHEMES)}.")
    try:
        query = urlsplit(url).query
    except ValueError as error:
        raise ValueError("It is no address.") from error
    for option, _ in parse_qsl(query, keep_blank_values=True):
        # A webhook's own headers, parameters and fields begin so.
        if option[:1] not in ("+", "-", ":", " ") and option.lower() not in OPTIONS:
            raise ValueError(f"The option {option[:20]!r} is not allowed here.")
    with _library_log():
        library = _library()
        found = library.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    if not isinstance(found, library.NotifyBase):
        raise ValueError(f"It is no complete address of {SCHEMES[scheme]}.")
    if len(found) != 1:
        raise ValueError("One receiver per channel: make a channel for each.")
    found.retry, found.redirects = 0, False
    found.socket_connect_timeout, found.socket_read_timeout = CONNECT_S, READ_S
    found.overflow_mode = library.OverflowMode.TRUNCATE
    return found


def receiver(url: str) -> str:
    """What may be shown of it: its kind, and for a webhook or mail the host. Raises ValueError."""
    found = parse(url)
    scheme = url.partition("://")[0].strip().lower()
    kind = SCHEMES[scheme]
    if scheme in ("json", "jsons", "mailto", "mailtos", "mmost", "mmosts"):
        port = f":{found.port}" if found.port else ""
        return f"{kind}: {found.host}{port}"[:255]
    return kind


def send(url: str, title: str, body: str, *, bad: bool) -> Sending:
    """One attempt, of some ten seconds at most. Raises ValueError for an address that is wrong."""
    found = parse(url)
    kinds = _library().NotifyType
    kind = kinds.FAILURE if bad else kinds.SUCCESS
    with _library_log() as log, watching() as witness:
        try:
            sent = found.notify(body=body, title=title, notify_type=kind)
        except Exception as error:  # of a service's own; nothing of it may stop the others
            return _failed(witness.handed_over, "", f"{type(error).__name__}")
    if sent:
        return Sending(Outcome.SENT)
    said = "\n".join(log)
    return _failed(witness.handed_over, said, _why(said))


def mail(title: str, body: str) -> Sending:
    """To IOTA_ADMINS, as everything else of this site is mailed."""
    with watching() as witness:
        try:
            mail_admins(title, body)
        except smtplib.SMTPResponseException as error:
            return Sending(Outcome.REFUSED, f"the mail server answered {error.smtp_code}")
        except smtplib.SMTPRecipientsRefused:
            return Sending(Outcome.REFUSED, "the mail server refused every receiver")
        except OSError as error:  # smtplib's other errors are such, too
            return _failed(witness.handed_over, "", type(error).__name__)
    return Sending(Outcome.SENT)


def _failed(handed_over: bool, said: str, why: str) -> Sending:
    if handed_over and not _ANSWERED.search(said):
        return Sending(Outcome.UNCLEAR, f"no answer came ({why or 'connection lost'})")
    return Sending(Outcome.REFUSED, why)


def _why(said: str) -> str:
    """Only codes: texts of the other side, and addresses, stay out."""
    status = re.search(r"error=(\d{3})\b", said)
    if status:
        return f"answered {status[1]}"
    code = re.search(r"Socket Exception: \((\d{3}), ", said)
    if code:
        return f"the mail server answered {code[1]}"
    for words in ("Connection refused", "timed out", "Name or service not known", "certificate"):
        if words.lower() in said.lower():
            return words.lower()
    return "no connection"


def _library() -> Any:
    """Half a second and 40 MB, which no process pays that sends nothing."""
    return import_module("apprise")


@cache
def _asset() -> Any:
    return _library().AppriseAsset(
        app_id="IOTA", app_desc="IOTA", http_redirects=False, async_mode=False,
        interpret_escapes=False, pgp_autogen=False, pem_autogen=False,
    )  # fmt: skip


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage()[:500])


@contextmanager
def _library_log() -> Iterator[list[str]]:
    """What the library logs, which holds addresses: kept here, and out of the site's log."""
    logger = logging.getLogger("apprise")
    handler = _Kept()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
        logger.setLevel(before[0])
