"""All sources at once, each in a thread of its own: a slow or silent one keeps no other waiting.

Who is not done when the time is up is told as such; its thread ends by its own timeouts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from celery import Celery

from apps.ratelimits.engine import get_engine
from apps.ratelimits.storage.topology import Address

from ..metrics import Kind
from . import addresses, broker, limiter, node
from .taken import Taken

WITHIN_S = 6.0
MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Everything:
    """``all_nodes``: whether ``taken`` has every server that there is; else some could not be
    asked for, and one that is missing is not gone."""

    taken: Sequence[Taken]
    all_nodes: bool


def look(app: Celery, queues: Sequence[str], known: Sequence[str]) -> Everything:
    """``known``: the addresses of the servers seen before, asked where nobody names them now."""
    deadline_s = time.monotonic() + WITHIN_S
    engine = get_engine()
    url, operator_url = engine.config.redis_url, engine.config.redis_operator_url
    site = addresses.bounded(url)
    operator = addresses.bounded(operator_url) if operator_url else None
    threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="watch")
    try:
        others = [
            _Begun(Kind.LIMITER, "", threads.submit(limiter.look, engine)),
            _Begun(
                Kind.BROKER,
                broker.address_of(str(app.conf.broker_read_url or app.conf.broker_url)),
                threads.submit(broker.look, app, queues),
            ),
        ]
        named = threads.submit(addresses.servers, operator or site)
        found = _within(named, deadline_s)
        asked = found if found is not None else [_address(one) for one in known]
        asked = asked or list((operator or site).addresses)
        nodes = [
            _Begun(
                Kind.NODE, _shown(one) or site.path, threads.submit(node.look, site, operator, one)
            )
            for one in asked
        ]
        return Everything(
            [begun.taken(deadline_s) for begun in (*nodes, *others)], found is not None
        )
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Begun:
    kind: Kind
    address: str
    future: Future[Taken]

    def taken(self, deadline_s: float) -> Taken:
        try:
            return self.future.result(max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            return Taken(self.kind, self.address, error=f"not read within {WITHIN_S:g} s")
        except Exception as error:  # A mistake of ours at one source; the others are still read.
            return Taken(self.kind, self.address, error=f"{type(error).__name__}: {error}"[:500])


def _within(future: Future[list[Address] | None], deadline_s: float) -> list[Address] | None:
    try:
        return future.result(max(0.0, deadline_s - time.monotonic() - node.WHOLE_S))
    except TimeoutError:
        return None


def _address(shown: str) -> Address:
    host, _, port = shown.rpartition(":")
    return (host, int(port)) if port.isdecimal() else ("", 0)


def _shown(address: Address) -> str:
    host, port = address
    return f"{host}:{port}" if host else ""
