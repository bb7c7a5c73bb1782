"""docker-compose.yml as its services, with the variables of an environment put in. No I/O but to
read the file.

Only what the file uses of Compose's language is known here; whether it is right by all of it,
``make lint`` asks the specification's own schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")


class NotSet(ValueError):
    """A variable that the file asks for."""


@dataclass(frozen=True)
class Service:
    """``secrets`` and ``volumes`` are the path within -> that of this machine."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, Path]
    volumes: Mapping[str, Path]
    healthcheck: Mapping[str, Any]
    after: Mapping[str, str]
    profiles: tuple[str, ...]
    stop_grace_s: float
    address: str
    told: Mapping[str, Any]
    """As it stands in the file."""

    @property
    def ours(self) -> bool:
        return self.image.startswith("iota:")


def filled_in(text: str, variables: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}``, ``${NAME:?what is missing}`` and ``$$``."""

    def value(found: re.Match[str]) -> str:
        dollar, name, how, other = found.groups()
        if dollar:
            return "$"
        said = variables.get(name, "")
        if said or not how:
            return said
        if how == ":?":
            raise NotSet(f"{name}: {other}")
        return str(other)

    return _VARIABLE.sub(value, text)


def variables_of(file: Path = FILE) -> set[str]:
    """The names of all that it lets a site choose."""
    return {found[2] for found in _VARIABLE.finditer(file.read_text()) if found[2]}


def services(
    variables: Mapping[str, str], profiles: Sequence[str] = (), file: Path = FILE
) -> dict[str, Service]:
    """Of the profiles, by name. Raises NotSet."""
    told = _filled(yaml.safe_load(file.read_text()), variables)
    paths = {name: file.parent / one["file"] for name, one in told["secrets"].items()}
    made = {name: _service(name, one, paths, file.parent) for name, one in told["services"].items()}
    return {
        name: one
        for name, one in made.items()
        if not one.profiles or set(one.profiles) & set(profiles)
    }


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled_in(value, variables)
    if isinstance(value, list):
        return [_filled(one, variables) for one in value]
    if isinstance(value, dict):
        return {name: _filled(one, variables) for name, one in value.items()}
    return value


def _service(name: str, told: Mapping[str, Any], paths: Mapping[str, Path], at: Path) -> Service:
    secrets: dict[str, Path] = {}
    for secret in told.get("secrets", ()):
        long: dict[str, str] = secret if isinstance(secret, dict) else {"source": secret}
        target = long.get("target") or long["source"]
        within = target if target.startswith("/") else f"/run/secrets/{target}"
        secrets[within] = paths[long["source"]]
    volumes = {}
    for volume in told.get("volumes", ()):
        here, within, *_ = volume.split(":")
        if here.startswith("."):
            volumes[within] = at / here
    return Service(
        name=name,
        image=told["image"],
        command=tuple(told.get("command", ())),
        environment={key: str(value) for key, value in told.get("environment", {}).items()},
        secrets=secrets,
        volumes=volumes,
        healthcheck=told.get("healthcheck", {}),
        after={key: one["condition"] for key, one in told.get("depends_on", {}).items()},
        profiles=tuple(told.get("profiles", ())),
        stop_grace_s=float(str(told.get("stop_grace_period", "10s")).rstrip("s")),
        address=(told.get("networks") or {}).get("default", {}).get("ipv4_address", ""),
        told=told,
    )
