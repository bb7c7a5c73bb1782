"""The files of deploy/redis, as tests start servers with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .servers import RedisProcess

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "redis"
SINGLE, CLUSTER, SENTINEL = (FOLDER / f"{name}.conf" for name in ("single", "cluster", "sentinel"))
USERS = FOLDER / "users.acl"
NAMES = ("iota", "iota-operator", "iota-replica", "iota-sentinel", "iota-admin")


def settings_of(path: Path) -> dict[str, str]:
    """What a file sets; of a name that stands there several times, the last."""
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    return {words[0]: words[1] for words in lines if words and not words[0].startswith("#")}


def secret(name: str) -> str:
    return f"secret-of-{name}"


def switched_on(path: Path, names: Sequence[str] = NAMES) -> Path:
    """users.acl, written to a path, with passwords as the guide has them filled in."""
    text = USERS.read_text()
    for name in names:
        before = f"user {name} off "
        if before not in text:
            raise AssertionError(f"users.acl has no line that begins with {before!r}")
        text = text.replace(before, f"user {name} on >{secret(name)} ")
    path.write_text(text)
    return path


def url(name: str, address: str = "127.0.0.1:{port}/0") -> str:
    return f"redis://{name}:{secret(name)}@{address}"


def with_users(flavour: str, folder: Path, *options: str, conf: Path = SINGLE) -> RedisProcess:
    """A server with users.acl, whose own client is the administrator's."""
    users = switched_on(folder / "users.acl")
    return RedisProcess(flavour, [str(conf), "--aclfile", str(users), *options], url("iota-admin"))
