"""What limits promise, from a file as ``manage.py ratelimit export`` writes it. No I/O but for
``read``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADDRESS, USER, HEADER, EVERYONE = "address", "user", "header", "everyone"
KNOWN_PARTS = frozenset({ADDRESS, USER, HEADER, EVERYONE})
KNOWN_ALGORITHMS = frozenset({"token_bucket", "fixed_window", "sliding_window", "sliding_log"})
UNITS_S = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
KNOWN_PATHS = frozenset({"any", "exact", "prefix"})


class Unreadable(ValueError):
    """What is wrong with a file, and where."""


@dataclass(frozen=True, slots=True)
class Promise:
    """An enforced limit. ``quota`` and ``burst`` are in requests: units over the cost of one.

    ``exact``: a denial is due only where the quota is used up. Not so where denials are charged or
    block, where responses decide what counts, and where processes take units ahead.
    """

    name: str
    algorithm: str
    quota: float
    window_s: float
    burst: float
    counted_by: tuple[str, ...]
    methods: frozenset[str] = frozenset()
    path_kind: str = "any"
    path: str = ""
    audience: str = "everyone"
    exact: bool = True
    certain: bool = True
    """Whether the file alone says which requests it counts."""

    @property
    def checked(self) -> bool:
        """Whether the counts of its identities can be seen from outside."""
        return self.algorithm in KNOWN_ALGORITHMS and KNOWN_PARTS.issuperset(self.counted_by)

    def possible_of(self, method: str, path: str) -> bool:
        """Whether it may count such a request."""
        if self.methods and method not in self.methods:
            return False
        if self.path_kind == "exact":
            return path == self.path
        return self.path_kind != "prefix" or path.startswith(self.path)

    def expected_of(self, who: Who, method: str, path: str) -> bool:
        """Whether it certainly counts such a request."""
        if not self.certain or not self.possible_of(method, path):
            return False
        return self.audience == "everyone" or self.audience in who.audiences


@dataclass(frozen=True, slots=True)
class Who:
    """One user of the load. ``own_address``: nobody else asks from it."""

    address: str
    own_address: bool = True
    user: str = ""
    key: str = ""
    staff: bool = False

    @property
    def audiences(self) -> tuple[str, ...]:
        if not self.user:
            return ("anonymous",)
        return ("signed_in", "staff") if self.staff else ("signed_in",)

    def identity(self, parts: Sequence[str]) -> tuple[str, bool]:
        """By what the parts count, and whether nobody else counts by it: what a request does not
        have counts by its address."""
        words, own = [], False
        for part in parts:
            if part == EVERYONE:
                words.append(EVERYONE)
            elif part == USER and self.user:
                words.append(f"user {self.user}")
                own = True
            elif part == HEADER and self.key:
                words.append(f"key {self.key}")
                own = True
            else:
                words.append(f"address {self.address}")
                own = own or self.own_address
        return ", ".join(words), own


def read(path: Path) -> dict[str, Promise]:
    """By name. Raises Unreadable."""
    try:
        return promises(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Unreadable(
            f"{path}: {error}; write it with: manage.py ratelimit export --output limits.json"
        ) from error


def promises(rows: Any) -> dict[str, Promise]:
    """Of the limits that are enforced. Raises ValueError."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("not a list of limits")
    found = {}
    for number, row in enumerate(rows, 1):
        if row.get("mode", "enforce") != "enforce" or row.get("path_kind") == "named":
            continue
        try:
            one = _promise(row)
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"limit {number}: {what}") from error
        found[one.name] = one
    return found


def _promise(row: Mapping[str, Any]) -> Promise:
    cost = int(row.get("cost") or 1)
    quota = int(row["quota"])
    path_kind = str(row.get("path_kind") or "any")
    narrowed = ("host", "groups", "networks", "networks_excluded", "active_from", "active_until")
    charged_otherwise = ("charge_denied", "block_amount", "lease")
    counts, amount = str(row.get("counts") or "every"), int(row.get("window_amount") or 1)
    unit_s = UNITS_S[row.get("window_unit") or "minutes"]
    return Promise(
        name=str(row["name"]),
        algorithm=str(row.get("algorithm") or "token_bucket"),
        quota=quota / cost,
        # The admin's load tests say it so.
        window_s=float(row.get("window_s") or amount * unit_s),
        burst=int(row.get("burst") or quota) / cost,
        counted_by=tuple(sorted(_words(row.get("counted_by") or ADDRESS))),
        methods=frozenset(_words(row.get("methods") or "")),
        path_kind=path_kind,
        path=str(row.get("path") or ""),
        audience=str(row.get("audience") or "everyone"),
        exact=counts == "every" and not any(_given(row, name) for name in charged_otherwise),
        certain=path_kind in KNOWN_PATHS and not any(_given(row, name) for name in narrowed),
    )


def _given(row: Mapping[str, Any], name: str) -> bool:
    return str(row.get(name) or "").lower() not in ("", "0", "false", "none", "[]")


def _words(value: Any) -> Iterable[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    return str(value).replace(",", " ").split()
