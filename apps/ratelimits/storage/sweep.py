"""Removes what no longer matters from the servers of the counters, beside live traffic.

Every primary is gone through by SCAN, page by page, in turn. A pass may take many runs: each run
has a budget, and says where it stopped, so that the next goes on there. Memory is that of a page,
however many keys there are. After each page the sweeper rests at least as long as the page took,
and longer where it would be faster than its rate, so that checks find the server free.

What is removed, and why that is safe: sweep_page.py, living.py. Everything else stays: the
ruleset, resets and traffic (streams that every write caps), processes, usage, and whatever is not
ours.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.cluster import RedisCluster

from .errors import Unavailable
from .keys import Keys
from .living import GRACE_S, Known, Living
from .packing import command
from .ruleset_store import RulesetStore
from .server_facts import address_of
from .sweep_page import Act, Page, Read, Swept, questions
from .topology import Client

PAGE = 25
"""Keys of one page: what a check may have to wait behind, some 50 us."""
RATE_PER_S = 10_000
REST = 1.0
"""Times what a page took."""
REPORT_S = 0.5
TIMEOUT_MS = 2_000
MOST_ERROR_CHARS = 200

Reply = Any


@dataclass(slots=True)
class Place:
    """Where on a server a pass is. A cursor means nothing to another process of that server, which
    ``run_id`` tells; ``keys``: all that it holds, whoever's. ``error``: why it was given up."""

    address: str
    run_id: str = ""
    cursor: int = 0
    done: bool = False
    keys: int = 0
    seen: int = 0
    error: str = ""


class Sweeper:
    """``report`` hears how far it is, twice a second, and ends the run by returning False.

    ``database`` is Living's. Raises Unavailable where not even the servers' names can be had;
    a server that fails on the way is given up for this run, and the others are finished.
    """

    def __init__(
        self,
        client: Client,
        keys: Keys,
        database: Callable[[Known | None], Known],
        *,
        dry_run: bool = False,
        rate_per_s: float = RATE_PER_S,
        page: int = PAGE,
        grace_s: float = GRACE_S,
        report: Callable[[Sweeper], bool] = lambda sweeper: True,
    ) -> None:
        self.places: list[Place] = []
        self.tally = Swept()
        self.living = Living(RulesetStore(client, keys), database, grace_s=grace_s)
        self._client = client
        self._keys = keys
        self._dry_run = dry_run
        self._rate_per_s = rate_per_s
        self._count = page
        self._report = report
        self._page = Page(keys, self.living, self.tally)

    @property
    def is_done(self) -> bool:
        """Every server to its end."""
        return all(place.done for place in self.places)

    def run(self, budget_s: float | None = None, places: Sequence[Place] = ()) -> bool:
        """Go on at ``places``, or begin; False where ``report`` ended it. ``is_done`` says whether
        the budget was enough."""
        ends_s = float("inf") if budget_s is None else time.monotonic() + budget_s
        self.living.learn()
        nodes = self._begin(places)
        active = deque(node for node in nodes if not node.place.done)
        reported_s = time.monotonic()
        try:
            while active and time.monotonic() < ends_s:
                node = active.popleft()
                began_s = time.monotonic()
                try:
                    walked = self._turn(node)
                except (redis.RedisError, OSError) as error:
                    node.place.error = f"{type(error).__name__}: {error}"[:MOST_ERROR_CHARS]
                    node.close()
                    continue
                if not node.place.done:
                    active.append(node)
                if time.monotonic() - reported_s >= REPORT_S:
                    reported_s = time.monotonic()
                    self._learn()
                    if not self._report(self):
                        return False
                took_s = time.monotonic() - began_s
                rest_s = max(took_s * REST, walked / self._rate_per_s - took_s)
                time.sleep(min(rest_s, max(0.0, ends_s - time.monotonic())))
        finally:
            for node in nodes:
                node.close()
        return self._report(self)

    def _begin(self, places: Sequence[Place]) -> list[_Node]:
        known = {place.address: place for place in places}
        nodes = []
        for address, client in primaries(self._client).items():
            place = known.get(address) or Place(address)
            place.error = ""
            self.places.append(place)
            node = _Node(client, place)
            try:
                node.begin()
            except (redis.RedisError, OSError) as error:
                place.error = f"{type(error).__name__}: {error}"[:MOST_ERROR_CHARS]
                continue
            nodes.append(node)
        return nodes

    def _turn(self, node: _Node) -> int:
        """One page. Returns how many keys the server walked past, at least."""
        scanned, now = node.ask(
            [
                command(
                    "SCAN", node.place.cursor, "MATCH", self._keys.pattern, "COUNT", self._count
                ),
                command("TIME"),
            ]
        )
        _raise_errors([scanned, now])
        cursor, names = scanned
        now_us = int(now[0]) * 1_000_000 + int(now[1])
        before = self.tally.seen
        # A server may give more than it was asked for.
        for start in range(0, len(names), self._count):
            self._sweep(node, names[start : start + self._count], now_us)
        # Only now: what was not swept is found again.
        node.place.seen += self.tally.seen - before
        node.place.cursor = int(cursor)
        node.place.done = not node.place.cursor
        return max(self._count, len(names))

    def _sweep(self, node: _Node, names: Sequence[bytes], now_us: int) -> None:
        parsed = [(name, known) for name in names if (known := self._keys.parse(name)) is not None]
        asked = [questions(name, known, now_us) for name, known in parsed]
        replies = iter(node.ask([question for each in asked for question in each]))
        found = [
            Read(name, known, [next(replies) for _ in each])
            for (name, known), each in zip(parsed, asked, strict=True)
        ]
        self._page.count(found, now_us)
        acts = self._page.judge(found, now_us)
        if not acts:
            return
        # What is known of the limits has to be as new as what was read.
        learnt = self._learn()
        if learnt is None:
            self.tally.left += len(acts)
            return
        self._carry_out(node, self._page.judge(found, now_us) if learnt else acts)

    def _carry_out(self, node: _Node, acts: Sequence[Act]) -> None:
        replies = [1] * len(acts) if self._dry_run else node.ask([act.sent for act in acts])
        for act, reply in zip(acts, replies, strict=True):
            self._page.note(act, reply)

    def _learn(self) -> bool | None:
        """None: it could not be asked, and nothing is to be removed."""
        try:
            return self.living.learn()
        except Unavailable:
            return None


class _Node:
    """One server, on a connection of its own."""

    def __init__(self, client: redis.Redis, place: Place) -> None:
        self.place = place
        self._pool: Any = client.connection_pool
        self._connection: Any = None

    def begin(self) -> None:
        self._connection = self._pool.get_connection()
        info, keys = self.ask([command("INFO", "server"), command("DBSIZE")])
        run_id = ""
        if isinstance(info, bytes):  # Who may not ask goes on without.
            lines = info.decode(errors="replace").splitlines()
            run_id = next((line[7:] for line in lines if line.startswith("run_id:")), "")
        place = self.place
        if run_id != place.run_id:
            # Another process is there now: what the last one said of its keys is no good here.
            place.run_id, place.cursor, place.done, place.seen = run_id, 0, False, 0
        place.keys = keys if isinstance(keys, int) else 0

    def ask(self, commands: Sequence[bytes]) -> list[Reply]:
        """All at once. An error of one is its reply."""
        connection = self._connection
        if commands:
            connection.send_packed_command([b"".join(commands)])
        replies: list[Reply] = []
        for _ in commands:
            try:
                replies.append(connection.read_response())
            except redis.ResponseError as error:
                replies.append(error)
        return replies

    def close(self) -> None:
        if self._connection is not None:
            # What was not read yet would be the next one's.
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


def _raise_errors(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


def primaries(client: Client) -> dict[str, redis.Redis]:
    """By address. Raises Unavailable where a cluster cannot be asked."""
    if not isinstance(client, RedisCluster):
        return {address_of(client): client}
    try:
        return {
            f"{node.host}:{node.port}": client.get_redis_connection(node)
            for node in client.get_primaries()  # type: ignore[no-untyped-call]
        }
    except (redis.RedisError, OSError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error
