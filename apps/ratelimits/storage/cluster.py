"""A cluster: which node holds a slot, and what a node says of another.

Commands go straight to the node that holds their slot. Where it says that another one does
(MOVED, ASK), that one is asked within what is left of the time: the command was not carried out,
so that nobody is charged twice. The map of slots is read in the background, once a node has said
so or has failed, and again until all nodes that hold slots are well.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import itertools
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import redis
from redis.exceptions import AskError, MovedError, TryAgainError

from . import packing
from .connections import Sent
from .errors import Unavailable
from .forks import BeginsAnew
from .keys import tagged
from .node import Ask, Node, at_once

logger = logging.getLogger(__name__)

Address = tuple[str, int]

SLOTS = 16_384
MOST_HOPS = 16
TRY_AGAIN_S = 0.005
"""While a slot moves, a command with some of its keys on either side is tried again so soon."""
LATELY_S = 3.0
READ_EVERY_S = 0.1
"""The map is read so often while a node that holds slots does not answer, or did not lately."""

ASKING = packing.command("ASKING")
CLUSTER_SLOTS = packing.command("CLUSTER", "SLOTS")


def slot_of(tag: str) -> int:
    """Of a key with this hash tag: CRC16/XMODEM modulo 16,384 (the Redis cluster specification)."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


class ClusterNode(Node):
    """A node whose pointing elsewhere is no failure of its own."""

    def __init__(self, address: Address, *args: Any, **options: Any) -> None:
        self.address = address
        self._probed_slot = -1
        super().__init__(f"{address[0]}:{address[1]}", *args, **options)

    def probe_in(self, slots: range) -> None:
        """Probe it by a key that it holds: that another node holds one it says in any state."""
        if self._probed_slot not in slots:
            tag = next(tag for tag in map(str, itertools.count()) if slot_of(tag) in slots)
            self._probed_slot = slot_of(tag)
            self._probe.write_to(tagged(self._probe_key, tag))

    def failure(self, error: Exception) -> Exception:
        if isinstance(error, (AskError, TryAgainError)):
            return error
        return super().failure(error)


class _Hop(NamedTuple):
    """Where to ask next: after a wait, and as a node that does not hold the slot yet."""

    node: ClusterNode
    asking: bool = False
    wait_s: float = 0.0


class Cluster(BeginsAnew):
    """Asks the node that holds the slot of ``tag``. Raises as Node does.

    ``make_node`` is called once for each node that is heard of; ``starts`` are those to begin with.
    """

    apart = True
    """Identities lie in slots of their own: one command asks for one of them."""

    def __init__(
        self,
        starts: Sequence[Address],
        make_node: Callable[[Address], ClusterNode],
        *,
        timeout_s: float,
    ) -> None:
        self.timeout_s = timeout_s
        self._starts = tuple(starts)
        self._make_node = make_node
        self._by_address: dict[Address, ClusterNode] = {}
        self._holders: dict[int, ClusterNode] = {}
        super().__init__()

    def _begin(self) -> None:
        """Also in a forked child, which has no thread that reads the map."""
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None
        self._closed = False

    @property
    def nodes(self) -> list[Node]:
        return [*self._by_address.values()]

    def ask(self, command: bytes, script: str = "", tag: str = "") -> Any:
        return self._follow(_Hop(self._holder(tag)), Ask(command, script, tag))

    def _follow(self, hop: _Hop, ask: Ask, deadline_s: float = 0.0) -> Any:
        """From node to node, until one answers. Without a deadline the first is asked as usual."""
        within_s = deadline_s - time.monotonic() if deadline_s else None
        deadline_s = deadline_s or time.monotonic() + self.timeout_s
        for _ in range(MOST_HOPS):
            if within_s is not None and within_s <= 0:
                break
            try:
                return hop.node.ask(*ask, within_s, ASKING if hop.asking else b"")
            except (AskError, TryAgainError) as error:
                hop = self._next(hop, error)
            except Unavailable:
                self.read_soon()
                raise
            if hop.wait_s:
                time.sleep(hop.wait_s)
            within_s = deadline_s - time.monotonic()
        raise Unavailable("the slot moves: no node answered for it in time")

    async def aask(self, command: bytes, script: str = "", tag: str = "") -> Any:
        """``ask`` on the running event loop."""
        ask, hop, within_s = Ask(command, script, tag), _Hop(self._holder(tag)), None
        deadline_s = time.monotonic() + self.timeout_s
        for _ in range(MOST_HOPS):
            try:
                return await hop.node.aask(*ask, within_s, ASKING if hop.asking else b"")
            except (AskError, TryAgainError) as error:
                hop = self._next(hop, error)
            except Unavailable:
                self.read_soon()
                raise
            if hop.wait_s:
                await asyncio.sleep(hop.wait_s)
            within_s = deadline_s - time.monotonic()
            if within_s <= 0:
                break
        raise Unavailable("the slot moves: no node answered for it in time")

    def ask_each(self, asks: Sequence[Ask]) -> list[Any]:
        """The replies, each of them or the Unavailable in its place. All commands leave before
        the first reply is waited for, and all have the same time."""
        deadline_s = time.monotonic() + self.timeout_s
        nodes = [self._holder(ask.tag) for ask in asks]
        on_their_way: dict[int, Sent | Unavailable] = {}
        try:
            # Who has to connect first may use up all of the time, and the others need not wait.
            for at in sorted(range(len(asks)), key=lambda at: not nodes[at].is_ready()):
                try:
                    on_their_way[at] = nodes[at].send(asks[at].command, deadline_s)
                except Unavailable as error:
                    self.read_soon()
                    on_their_way[at] = error.with_traceback(None)  # It would keep this frame.
            return [
                self._received(nodes[at], asks[at], on_their_way.pop(at)) for at in range(len(asks))
            ]
        finally:
            for at, sent in on_their_way.items():
                if isinstance(sent, Sent):
                    nodes[at].connections.abandon(sent)

    def _received(self, node: ClusterNode, ask: Ask, sent: Sent | Unavailable) -> Any:
        if isinstance(sent, Unavailable):
            return sent
        try:
            return node.receive(sent, ask.command, ask.script)
        except (AskError, TryAgainError) as error:
            try:
                return self._follow(self._next(_Hop(node), error), ask, sent.deadline_s)
            except Unavailable as lost:
                return lost
        except Unavailable as error:
            self.read_soon()
            return error

    async def aask_each(self, asks: Sequence[Ask]) -> list[Any]:
        """``ask_each`` on the running event loop."""
        return await at_once(self.aask, asks)

    def _holder(self, tag: str) -> ClusterNode:
        node = self._holders.get(slot_of(tag))
        if node is not None:
            return node
        self.read_soon()
        return self._any_node()

    def _any_node(self) -> ClusterNode:
        """One that is well, where there is one: it says which node to ask."""
        # A copy: another thread may hear of a node meanwhile.
        known = [node for node in [*self._by_address.values()] if not node.breaker.is_open]
        if known:
            return random.choice(known)
        return self._node(random.choice(self._starts))

    def _node(self, address: Address) -> ClusterNode:
        node = self._by_address.get(address)
        if node is None:
            with self._lock:
                node = self._by_address.get(address)
                if node is None:
                    node = self._by_address[address] = self._make_node(address)
        return node

    def _next(self, hop: _Hop, error: AskError | TryAgainError) -> _Hop:
        """Where to ask after such a reply of the last one."""
        if isinstance(error, TryAgainError):
            return hop._replace(wait_s=TRY_AGAIN_S)
        # An empty host is that of the node that said so.
        node = self._node((error.host or hop.node.address[0], error.port))
        if isinstance(error, MovedError):
            self._holders[error.slot_id] = node
            self.read_soon()
        return _Hop(node, asking=not isinstance(error, MovedError))

    def read_soon(self) -> None:
        """The map may be another by now: read it in the background."""
        with self._lock:
            # One that has died, or could never start, reads nothing.
            if self._closed or (self._reading is not None and self._reading.is_alive()):
                return
            self._reading = threading.Thread(
                target=_read_until_well,
                args=(weakref.ref(self),),
                name="ratelimits-slots",
                daemon=True,
            )
            with contextlib.suppress(RuntimeError):  # Out of threads, or at the interpreter's end.
                self._reading.start()

    def read(self) -> None:
        """Read the map from a node that has one. Raises Unavailable where none has."""
        known = [*self._by_address.values()]
        random.shuffle(known)
        known.sort(key=lambda node: node.breaker.is_open)
        others = [self._node(start) for start in self._starts if start not in self._by_address]
        for node in [*known, *others]:
            try:
                ranges = node.connections.ask(CLUSTER_SLOTS)
            except (redis.RedisError, OSError):
                continue
            if ranges:
                self._take(node, ranges)
                return
        raise Unavailable("no node says where the slots are")

    def _take(self, asked: ClusterNode, ranges: Iterable[Sequence[Any]]) -> None:
        """Of CLUSTER SLOTS: first and last slot, the primary's host and port, its replicas."""
        holders: dict[int, ClusterNode] = {}
        in_slots: dict[ClusterNode, range] = {}
        for first, last, (host, port, *_), *_ in ranges:
            address = (host.decode() if host else asked.address[0], port)
            node = self._node(address)
            slots = range(first, last + 1)
            holders.update(dict.fromkeys(slots, node))
            in_slots.setdefault(node, slots)
        for node, slots in in_slots.items():
            node.probe_in(slots)
        self._holders = holders
        with self._lock:
            gone = [a for a, node in self._by_address.items() if node not in in_slots]
            retired = [self._by_address.pop(address) for address in gone]
        for node in retired:
            node.retire()

    @property
    def is_well(self) -> bool:
        """Whether every slot has a holder, and none of them has failed lately."""
        lately_s = time.monotonic() - LATELY_S
        holders = set(self._holders.values())
        return len(self._holders) == SLOTS and not any(
            node.breaker.is_open or node.breaker.failed_s > lately_s for node in holders
        )

    def leave_alone(self) -> None:
        """Of several nodes some may be well: each is found to be away by itself."""

    def close(self) -> None:
        self._closed = True
        for node in [*self._by_address.values()]:
            node.close()

    async def aclose(self) -> None:
        for node in [*self._by_address.values()]:
            await node.aclose()


def _read_until_well(of: weakref.ref[Cluster]) -> None:
    """Keeps no cluster alive that nobody else holds."""
    while True:
        cluster = of()
        if cluster is None:
            return
        try:
            cluster.read()
            well = cluster.is_well
        except Unavailable:
            well = False
        except Exception:
            logger.exception("The map of the cluster's slots cannot be read")
            well = True
        if well or cluster._closed:
            with cluster._lock:
                cluster._reading = None
            return
        del cluster
        time.sleep(READ_EVERY_S * random.uniform(0.5, 1.5))
