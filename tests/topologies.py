"""A real server, or several, for every kind of REDIS_URL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

from .clusters import ClusterProcesses, TlsCluster
from .clusters import with_password as cluster_with_password
from .servers import (
    RedisProcess,
    flavours,
    on_unix_socket,
    over_tls,
    plain,
    sentinel,
    with_password,
)

Server = TypeVar("Server", RedisProcess, ClusterProcesses)

KINDS = [
    (kind, flavour)
    for kind in ("plain", "password", "unix", "sentinel", "cluster", "cluster with password")
    for flavour in flavours()
]
if "redis" in flavours():
    KINDS += [
        ("tls", "redis"),
        ("sentinel with passwords", "redis"),
        ("cluster over tls", "redis"),
    ]


@contextlib.contextmanager
def serving(kind: str, flavour: str) -> Iterator[str]:
    """What is to be written as REDIS_URL."""
    clusters = {"cluster": ClusterProcesses, "cluster with password": cluster_with_password}
    singles = {"plain": plain, "password": with_password, "unix": on_unix_socket, "tls": over_tls}
    if kind == "cluster over tls":
        with running(TlsCluster()) as cluster:
            yield cluster.url
    elif kind in clusters:
        with running(clusters[kind](flavour)) as cluster:
            yield cluster.url
    elif kind in singles:
        with running(singles[kind](flavour)) as server:
            yield server.url
    elif kind == "sentinel":
        with running(plain(flavour)) as server, watched(server) as url:
            yield url
    else:
        with running(with_password(flavour)) as server, guarded(server) as url:
            yield url


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def watched(primary: RedisProcess) -> Iterator[str]:
    """By a Sentinel, in database 2."""
    with running(sentinel(primary.flavour, primary)) as watcher:
        yield f"redis+sentinel://127.0.0.1:{watcher.port}/main/2"


@contextlib.contextmanager
def guarded(primary: RedisProcess) -> Iterator[str]:
    """``watched``, where the Sentinel has another password than the primary has."""
    watcher = sentinel(primary.flavour, primary)
    watcher._url = "redis://:watch%3Fman@127.0.0.1:{port}/0"
    with (watcher.folder / "sentinel.conf").open("a") as config:
        config.write("sentinel auth-pass main secret\nrequirepass watch?man\n")
    with running(watcher):
        query = "?sentinel_password=watch%3Fman"
        yield f"redis+sentinel://:secret@127.0.0.1:{watcher.port}/main/2{query}"
