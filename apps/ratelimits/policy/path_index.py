"""Which of many path patterns a path can match, without trying each of them.

A lookup costs what the path has of segments, and what limits lie on its way; limits for other
paths cost nothing, however many there are. Exact paths and view names are keys of a dict; all
else is a trie of segments. What cannot be told from its beginning (``.*\\.php``) lies at the
trie's root: every request has to try it.
"""

from __future__ import annotations

from collections.abc import Iterable

from .paths import ExactPath, Place, Segments, ViewName


class _Node:
    """A path so far: the segments of the nodes above it."""

    __slots__ = ("any_segment", "ends", "head_lengths", "heads", "literal")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.any_segment: _Node | None = None
        self.heads: dict[str, list[int]] = {}
        self.head_lengths: list[int] = []
        """Of the keys of ``heads``, each once and rising."""
        self.ends: list[int] = []

    def below(self, segment: str | None) -> _Node:
        if segment is not None:
            return self.literal.setdefault(segment, _Node())
        if self.any_segment is None:
            self.any_segment = _Node()
        return self.any_segment

    def add_head(self, head: str, position: int) -> None:
        self.heads.setdefault(head, []).append(position)
        if len(head) not in self.head_lengths:
            self.head_lengths = sorted([*self.head_lengths, len(head)])


class PathIndex:
    """Places by their position in the sequence they were given in."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._views: dict[str, list[int]] = {}
        self._root = _Node()
        self._depth = 0
        for position, place in enumerate(places):
            match place:
                case ExactPath(path):
                    self._exact.setdefault(path, []).append(position)
                case ViewName(route):
                    self._views.setdefault(route, []).append(position)
                case Segments():
                    self._add(place, position)

    def _add(self, place: Segments, position: int) -> None:
        node = self._root
        for segment in place.segments:
            node = node.below(segment)
        if place.head is None:
            node.ends.append(position)
        else:
            node.add_head(place.head, position)
        self._depth = max(self._depth, len(place.segments))

    def find(self, path: str, route: str) -> list[int]:
        """The positions of the places that let the request through, rising."""
        found = [*self._exact.get(path, ()), *self._views.get(route, ())]
        nodes = [self._root]
        # What lies deeper than any place can be is left in one piece.
        for segment in path.split("/", self._depth):
            below = []
            for node in nodes:
                for length in node.head_lengths:
                    if length > len(segment):
                        break
                    found += node.heads.get(segment[:length], ())
                if (literal := node.literal.get(segment)) is not None:
                    below.append(literal)
                if node.any_segment is not None:
                    below.append(node.any_segment)
            nodes = below
            if not nodes:
                break
        for node in nodes:
            found += node.ends
        found.sort()
        return found
