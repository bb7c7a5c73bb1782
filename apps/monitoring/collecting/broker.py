"""Celery's queues, whatever the broker is: kombu asks it, and declares nothing.

On Redis a queue is a list, and one more for each priority; kombu sums them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import ChannelError, KombuError

from ..metrics import Kind
from .taken import Said, Taken

LOOK_S = 1.0
MAX_ADDRESS_CHARS = 255


def address_of(url: str) -> str:
    """Without user and password."""
    found = []
    for one in url.split(";"):
        parts = urlsplit(one)
        at = (parts.netloc or parts.path).rpartition("@")[2]
        found.append(at or parts.path or parts.scheme)
    return ", ".join(found)[:MAX_ADDRESS_CHARS]


def queues_of(app: Celery, scheduled: Iterable[str | None]) -> list[str]:
    """Those that something is sent to: by default, by a route, or by the schedule."""
    names = [app.conf.task_default_queue]
    routes = app.conf.task_routes or {}
    if isinstance(routes, dict):
        found = [route.get("queue") for route in routes.values() if isinstance(route, dict)]
        names += [getattr(one, "name", one) for one in found]
    names += [queue.name for queue in app.conf.task_queues or ()]
    names += scheduled
    return list(dict.fromkeys(str(name) for name in names if name))


def look(app: Celery, queues: Iterable[str]) -> Taken:
    """How many messages wait. Raises nothing of kombu's or the broker's."""
    url = str(app.conf.broker_read_url or app.conf.broker_url)
    where = address_of(url)
    timeouts = {"socket_timeout": LOOK_S, "socket_connect_timeout": LOOK_S, "read_timeout": LOOK_S}
    options = {**(app.conf.broker_transport_options or {}), **timeouts}
    try:
        with app.connection_for_read(connect_timeout=LOOK_S, transport_options=options) as broker:
            lengths = {name: _length(broker, name) for name in queues}
            unacked = _unacked(broker)
            server = str(broker.transport.driver_type)[:40]
    except _failures(app) as error:
        return Taken(Kind.BROKER, where, error=f"{type(error).__name__}: {error}"[:500])
    noted = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
    said = Said({"queue_length": float(sum(lengths.values()))}, notes={"queue_length": noted[:500]})
    if unacked is None:
        said |= Said.nothing(["unacked"], "this kind of broker does not tell it")
    else:
        said |= Said({"unacked": float(unacked)})
    return Taken(Kind.BROKER, where, said, server=server)


def _failures(app: Celery) -> tuple[type[BaseException], ...]:
    """What the broker's own client raises."""
    broker: Any = app.connection_for_read()
    return (KombuError, OSError, *broker.connection_errors, *broker.channel_errors)


def _length(broker: Any, name: str) -> int:
    """A queue that does not exist, since nothing was ever sent to it, is empty. A broker of AMQP
    closes the channel to say so: each is asked on one of its own."""
    with broker.channel() as channel:
        try:
            return int(channel.queue_declare(queue=name, passive=True).message_count)
        except ChannelError as error:
            if error.reply_code in (404, "404") or "NOT_FOUND" in str(error):
                return 0
            raise


def _unacked(broker: Any) -> int | None:
    """Taken by a worker and not done; of Redis, where that is a hash of all queues."""
    with broker.channel() as channel:
        if not hasattr(channel, "unacked_key"):
            return None
        with channel.conn_or_acquire() as client:
            return int(client.hlen(channel.unacked_key))
