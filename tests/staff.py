"""Staff who write a limit over HTTP, in the admin's own form, and clients whom it denies."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

import requests

from .forms import fields

WITHIN_S = 1.0
ANOTHER = "127.0.0.2"
"""An address of this machine that the guides' own commands do not come from."""


def signed_in(url: str, user: str, password: str) -> requests.Session:
    staff = requests.Session()
    login = f"{url}/admin/login/?next=/admin/"
    sent = {**fields(staff.get(login).text), "username": user, "password": password}
    answer = staff.post(login, sent)
    assert answer.url == f"{url}/admin/", answer.text
    return staff


def write_limit(staff: requests.Session, url: str, **typed: str) -> float:
    """In the admin's form, as it comes; when it was saved, by time.monotonic()."""
    add = f"{url}/admin/ratelimits/ratelimit/add/"
    answer = staff.post(add, {**fields(staff.get(add).text), **typed, "_save": "Save"})
    assert answer.url == f"{url}/admin/ratelimits/ratelimit/", answer.text
    return time.monotonic()


def status(url: str, source: str = ANOTHER) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        str(parts.hostname), parts.port, timeout=10, source_address=(source, 0)
    )
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status
    finally:
        connection.close()


def denied_in_time(url: str, saved_s: float, quota: int) -> None:
    """A limit of so many requests is in force in time, in every process: only so many pass."""
    time.sleep(max(0.0, saved_s + WITHIN_S - time.monotonic()))
    answers = [status(url) for _ in range(4 * quota)]
    assert answers.count(200) <= quota, f"{answers} from {WITHIN_S} s after it was saved"
    assert answers[-1] == 429
