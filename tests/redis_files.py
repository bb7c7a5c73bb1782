"""The files of deploy/redis, as tests start servers with them."""

from __future__ import annotations

import shutil
from pathlib import Path

from .servers import RedisProcess

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "redis"
SINGLE, CLUSTER, SENTINEL = (FOLDER / f"{name}.conf" for name in ("single", "cluster", "sentinel"))
USERS = FOLDER / "users.acl"
NAMES = ("iota", "iota-operator", "iota-sweeper", "iota-replica", "iota-sentinel", "iota-admin")


def settings_of(path: Path) -> dict[str, str]:
    """What a file sets; of a name that stands there several times, the last."""
    lines = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    return {words[0]: words[1] for words in lines if words and not words[0].startswith("#")}


def with_file(
    flavour: str, conf: Path, *options: str, url: str = "redis://127.0.0.1:{port}/0"
) -> RedisProcess:
    """A server with a copy of the file: Sentinel makes a server write into its own."""
    server = RedisProcess(flavour, ["{folder}/" + conf.name, *options], url)
    shutil.copy(conf, server.folder)
    return server


def with_users(flavour: str, *options: str, conf: Path = SINGLE) -> RedisProcess:
    """A server with users.acl, filled in as the guide says; its client is the administrator's."""
    server = with_file(
        flavour, conf, "--aclfile", "{folder}/users.acl", *options, url=url("iota-admin")
    )
    text = USERS.read_text()
    for name in NAMES:
        before = f"user {name} off "
        if before not in text:
            raise AssertionError(f"users.acl has no line that begins with {before!r}")
        text = text.replace(before, f"user {name} on >{secret(name)} ")
    (server.folder / USERS.name).write_text(text)
    return server


def secret(name: str) -> str:
    return f"secret-of-{name}"


def url(name: str, address: str = "127.0.0.1:{port}/0") -> str:
    return f"redis://{name}:{secret(name)}@{address}"
