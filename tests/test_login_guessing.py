"""Guessing passwords at the admin of a real server, against the sample limit of the demo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.sites import SiteProcess, manage, running

QUOTA = 20
# Hashing a password takes half a second on purpose: not what is tested here.
SETTINGS = "tests.site_settings"


@pytest.fixture(scope="module", params=["wsgi", "asginl"])
def site(request, tmp_path_factory) -> Iterator[SiteProcess]:
    variables = {"IOTA_TRUSTED_PROXIES": "127.0.0.0/8", "DJANGO_SUPERUSER_PASSWORD": "right"}
    options = {"interface": request.param, "settings": SETTINGS}
    with running(tmp_path_factory.mktemp("site"), variables, **options) as (made, _):
        manage(made.environment, "loaddata", "demo_limits", "--verbosity", "0")
        superuser = ("createsuperuser", "--noinput", "--username", "ada", "--email", "")
        manage(made.environment, *superuser)
        yield made.start()


class Client:
    """Comes from an address of its own, behind a proxy that is trusted."""

    def __init__(self, site: SiteProcess, address: str) -> None:
        self.session = requests.Session()
        self.session.headers["X-Forwarded-For"] = address
        self._login = f"{site.url}/admin/login/"
        self.session.get(self._login, timeout=30)

    def log_in(self, password: str, username: str = "ada") -> requests.Response:
        token = self.session.cookies.get("csrftoken")
        return self.session.post(
            self._login,
            {"username": username, "password": password, "csrfmiddlewaretoken": token},
            timeout=30,
            allow_redirects=False,
        )


def test_twenty_failures_then_no_more(site):
    editor = Client(site, "203.0.113.1")
    assert editor.log_in("right").status_code == 302
    guesser = Client(site, "203.0.113.1")
    statuses = [guesser.log_in(f"wrong {n}").status_code for n in range(QUOTA - 1)]
    # A success in between is not counted, nor does it wipe out what was.
    statuses.append(Client(site, "203.0.113.1").log_in("right").status_code)
    # Another user name is no way around: it is the address that counts.
    statuses.append(guesser.log_in("wrong", username="bob").status_code)
    assert Counter(statuses) == {200: QUOTA, 302: 1}
    denied = guesser.log_in("wrong")
    assert denied.status_code == 429
    assert 0 < int(denied.headers["Retry-After"]) <= 300
    assert "Too many failed log-ins." in denied.text
    # Even the right password: else the answer would tell which one it is.
    assert guesser.log_in("right").status_code == 429
    # Who is in at the same address stays in; another address is not hit.
    page = editor.session.get(f"{site.url}/admin/", timeout=30)
    assert page.status_code == 200
    assert "ratelimits" in page.text
    assert Client(site, "203.0.113.2").log_in("right").status_code == 302


def test_guesses_at_the_same_time_are_no_way_around(site):
    """Each is charged when it comes and given back only when it did not fail."""
    clients = [Client(site, "203.0.113.9") for _ in range(16)]

    def guess(number: int) -> int:
        return clients[number % 16].log_in(f"wrong {number}").status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = Counter(pool.map(guess, range(4 * QUOTA)))
    assert statuses == {200: QUOTA, 429: 3 * QUOTA}


def test_many_people_who_log_in_at_once_leave_the_quota_whole(site):
    clients = [Client(site, "203.0.113.17") for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        for _ in range(3):
            statuses = list(pool.map(lambda client: client.log_in("right").status_code, clients))
            assert set(statuses) == {302}
    answers = [clients[0].log_in("wrong").status_code for _ in range(QUOTA + 1)]
    assert answers == [200] * QUOTA + [429]
