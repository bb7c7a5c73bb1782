"""Who asks, and how. Each user of the load has an address of its own, where the site trusts the
load's machine as a proxy (``--own-addresses``), and waits as the guide's test does."""

from __future__ import annotations

import random
import time
from itertools import count
from typing import Any
from urllib.parse import urlencode

import gevent
from locust import between, constant_throughput, tag, task
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopUser
from locust.runners import WorkerRunner

from .accounts import Accounts
from .answers import Answer, Answers
from .edits import Edit
from .forms import changed, fields_of
from .promises import Who

PATH = "/api/test"
LIMITS_PAGE = "/admin/ratelimits/ratelimit/"
KEY_HEADER = "X-Api-Key"
TIMEOUT_S = 10.0
EDIT_EVERY_S = 2.0


class Numbers:
    """Of the users of one class, in this process: 0, 1, 2..., and over all processes apart."""

    def __init__(self) -> None:
        self._counts: dict[str, count[int]] = {}

    def next(self, kind: str, environment: Any) -> int:
        number = next(self._counts.setdefault(kind, count()))
        runner = environment.runner
        if not isinstance(runner, WorkerRunner):
            return number
        workers = environment.parsed_options.expect_workers
        if workers <= 1:  # Started by hand: nobody has said how many there will be.
            workers = MOST_WORKERS
        return number * int(workers) + int(runner.worker_index)


MOST_WORKERS = 16
"""Their users take turns in the pools of accounts."""
numbers = Numbers()


def new_network() -> str:
    """An IPv6 subscriber's, by chance out of four billion: nobody of another worker has it, nor
    anybody of the load test before, of whose requests the site still knows."""
    bits = random.getrandbits(32)
    return f"2001:db8:{bits >> 16:x}:{bits & 0xFFFF:x}"


class Asking(FastHttpUser):
    """Sends requests and shows each answer to the checks."""

    abstract = True
    network_timeout = TIMEOUT_S
    connection_timeout = TIMEOUT_S
    wait_time = between(0.1, 1.0)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        agent: Any = self.client.client
        # Cookies are sent as fields of our own; a jar looks through all of its own each time.
        agent.cookiejar = None
        # Else each denial were an exception, with all that was said written down for it.
        agent.valid_response_codes = agent.valid_response_codes | {429}

    def on_start(self) -> None:
        self.answers: Answers = self.environment.answers
        self.accounts: Accounts = self.environment.accounts
        self.own = bool(self.environment.parsed_options.own_addresses)
        self.number = numbers.next(type(self).__name__, self.environment)
        self.headers: dict[str, str] = {"Accept": "application/json"}
        self.network = new_network() if self.own else ""
        if self.own:
            self.headers["X-Forwarded-For"] = f"{self.network}::1"
        self.who = self.identified(f"{self.network}::/64" if self.own else "the load's")

    def identified(self, address: str) -> Who:
        return Who(address, self.own)

    def account(self, pool: list[Any], what: str) -> Any:
        """Of the pool, one that no other user has. Raises StopUser."""
        if self.number >= len(pool):
            self.answers.record.note(f"not enough {what} in the file of accounts")
            raise StopUser
        return pool[self.number]

    def ask(
        self, path: str = PATH, method: str = "GET", name: str | None = None, **headers: str
    ) -> int:
        """One request; its status, 0 without an answer."""
        sent_s = time.time()
        answered = False
        try:
            with self.client.request(
                method,
                path,
                name=name,
                headers={**self.headers, **headers},
                catch_response=True,
                allow_redirects=False,
            ) as response:
                answered_s = time.time()
                status = response.status_code
                if not status:
                    response.failure(response.error)
                    return 0
                answered = True
                fields = response.headers
                denied = status == 429
                answer = Answer(
                    method,
                    path,
                    sent_s,
                    answered_s,
                    status,
                    fields.get("ratelimit-policy", ""),
                    fields.get("ratelimit", ""),
                    response.content if denied else b"",
                )
                wrong = self.answers.answered(self.who, answer)
                if wrong:
                    response.failure(wrong)
                elif denied:
                    response.success()
                return int(status)
        finally:
            # Also where the load ends while it is under way.
            if not answered:
                self.answers.unanswered(self.who, method, path, sent_s, time.time())


class Anonymous(Asking):
    """The guide's basic test."""

    weight = 60

    @tag("basic", "anonymous")
    @task
    def test_endpoint(self) -> None:
        self.ask()


class SignedIn(Asking):
    weight = 20

    def identified(self, address: str) -> Who:
        user, session = self.account(self.accounts.users, "sessions")
        self.headers["Cookie"] = f"{self.accounts.cookie}={session}"
        return Who(address, self.own, user=user)

    @tag("signed-in")
    @task
    def test_endpoint(self) -> None:
        self.ask()


class ApiKey(Asking):
    weight = 15

    def identified(self, address: str) -> Who:
        key = self.account(self.accounts.keys, "API keys")
        self.headers[KEY_HEADER] = key
        return Who(address, self.own, key=key)

    @tag("api-key")
    @task
    def test_endpoint(self) -> None:
        self.ask()


class Attacker(Asking):
    """Asks ten times a second and claims to be somebody else each time. It must get no more than
    one client does: an IPv6 subscriber's addresses are one, what is forged left of the proxy's own
    word is nobody's, and an API key that the site does not know counts by address."""

    weight = 5
    wait_time = constant_throughput(10)

    def on_start(self) -> None:
        super().on_start()
        self.turn = 0

    @tag("attacker")
    @task
    def rotate(self) -> None:
        self.turn += 1
        forged = f"198.51.{self.turn // 250 % 250}.{self.turn % 250}"
        fields = {KEY_HEADER: f"forged-{self.turn}"}
        if self.own:
            fields["X-Forwarded-For"] = f"{forged}, {self.network}::{self.turn % 65_536:x}"
        self.ask(**fields)


class Edge(Asking):
    """A burst right before a fixed window ends, and one right after: the most that it may admit."""

    weight = 0
    fixed_count = 4
    wait_time = between(0.05, 0.1)
    before_s = 0.25

    @tag("edge")
    @task
    def burst(self) -> None:
        windows = [
            promise
            for promise in self.answers.promises.values()
            if promise.algorithm == "fixed_window" and promise.expected_of(self.who, "GET", PATH)
        ]
        if not windows:
            self.answers.record.note("not enough limits: no fixed window counts " + PATH)
            raise StopUser
        shortest = min(windows, key=lambda promise: promise.window_s)
        now_s = time.time()
        edge_s = (now_s // shortest.window_s + 1) * shortest.window_s
        gevent.sleep(max(0.0, edge_s - self.before_s - now_s))
        for _ in range(2):
            while time.time() < edge_s and self.ask() != 429:
                pass
            gevent.sleep(max(0.0, edge_s - time.time()))
            edge_s += self.before_s


class Editor(Asking):
    """One of the staff, who edits a limit in the admin all the time."""

    weight = 0
    fixed_count = 1
    wait_time = between(EDIT_EVERY_S, EDIT_EVERY_S)

    def on_start(self) -> None:
        super().on_start()
        self.name = self.environment.parsed_options.edited
        self.page = ""
        if self.name not in self.answers.promises:
            self.answers.record.note("not enough limits: staff edit none (--edited)")
            raise StopUser

    def identified(self, address: str) -> Who:
        if self.accounts.staff is None:
            self.answers.record.note("not enough sessions in the file of accounts: none of staff")
            raise StopUser
        user, session = self.accounts.staff
        self.headers["Cookie"] = f"{self.accounts.cookie}={session}"
        self.headers["Accept"] = "text/html"
        return Who("staff's", self.own, user=user, staff=True)

    @tag("editor")
    @task
    def edit(self) -> None:
        if not self.page and not self._find():
            return
        page = self._page(self.page, "admin: open a limit")
        fields = fields_of(page, "ratelimit_form")
        if not fields:
            return
        first = int(self.answers.promises[self.name].quota)
        now = int(dict(fields).get("quota", first))
        quota = first if now != first else 2 * first
        token = dict(fields).get("csrfmiddlewaretoken", "")
        sent = changed(fields, quota=str(quota), reason="a load test", _save="Save")
        began_s = time.time()
        # Before the answer: the edit may be law before it is told.
        with self.client.post(
            self.page,
            name="admin: edit a limit",
            data=urlencode(sent),
            headers={
                **self.headers,
                "Content-Type": "application/x-www-form-urlencoded",
                "Referer": f"{self.host}{self.page}",
                "Cookie": f"{self.headers['Cookie']}; csrftoken={self._csrf or token}",
            },
            catch_response=True,
            allow_redirects=False,
        ) as response:
            if response.status_code != 302:
                response.failure(f"the limit was not saved: {response.status_code}")
                return
        self.answers.edit(self.name, Edit(quota, began_s, time.time()))

    _csrf = ""

    def _find(self) -> bool:
        page = self._page(f"{LIMITS_PAGE}?q={self.name}", "admin: list of limits")
        for part in page.split(LIMITS_PAGE)[1:]:
            pk, _, rest = part.partition("/")
            if pk.isdecimal() and rest.startswith("change/"):
                self.page = f"{LIMITS_PAGE}{pk}/change/"
                return True
        return False

    def _page(self, path: str, name: str) -> str:
        with self.client.get(
            path, name=name, headers=self.headers, catch_response=True, allow_redirects=False
        ) as response:
            if response.status_code != 200:
                response.failure(f"no page for staff: {response.status_code}")
                return ""
            for field, value in response.headers.items():
                if field.lower() == "set-cookie" and value.startswith("csrftoken="):
                    self._csrf = value.partition("=")[2].partition(";")[0]
            return str(response.text)
