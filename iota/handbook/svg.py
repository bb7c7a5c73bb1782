"""As much of SVG as the drawings need, in the colours of a light and of a dark page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', Helvetica, Arial, sans-serif"


class Colours(NamedTuple):
    ink: str
    muted: str
    grid: str
    panel: str
    accent: str
    allowed: str
    denied: str


SCHEMES = {
    "light": Colours("#1f2328", "#59636e", "#d1d9e0", "#f6f8fa", "#0969da", "#1a7f37", "#cf222e"),
    "dark": Colours("#e6edf3", "#9198a1", "#3d444d", "#1c2128", "#4493f8", "#3fb950", "#f85149"),
}


class Drawing:
    def __init__(self, width: int, height: int, title: str, colours: Colours) -> None:
        self.colours = colours
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" font-family="{escape(FONT)}">',
            f"<title>{escape(title)}</title>",
        ]

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str,
        *,
        width: float = 1,
        dash: str = "",
    ) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<line x1="{n(x1)}" y1="{n(y1)}" x2="{n(x2)}" y2="{n(y2)}" stroke="{colour}" '
            f'stroke-width="{width:g}"{dashed}/>'
        )

    def path(
        self,
        points: Iterable[Sequence[float]],
        *,
        stroke: str = "none",
        fill: str = "none",
        opacity: float = 1,
        width: float = 2,
        arrow: bool = False,
    ) -> None:
        placed = [(point[0], point[1]) for point in points]
        drawn = "M" + "L".join(f"{n(x)} {n(y)}" for x, y in placed)
        self._parts.append(
            f'<path d="{drawn}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}" '
            f'stroke-linejoin="round" stroke-linecap="round" opacity="{opacity:g}"/>'
        )
        if arrow:
            (x1, y1), (x2, y2) = placed[-2:]
            length = max(1e-9, ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5)
            dx, dy = (x2 - x1) / length * 7, (y2 - y1) / length * 7
            head = [
                (x2 - dx - dy / 2, y2 - dy + dx / 2),
                (x2, y2),
                (x2 - dx + dy / 2, y2 - dy - dx / 2),
            ]
            self.path(head, stroke=stroke, width=width)

    def text(
        self,
        x: float,
        y: float,
        said: str,
        colour: str = "",
        *,
        size: float = 13,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{n(x)}" y="{n(y)}" font-size="{size:g}" fill="{colour or self.colours.ink}" '
            f'text-anchor="{anchor}"{weight}>{escape(said)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        stroke: str,
        fill: str,
        radius: float = 6,
    ) -> None:
        self._parts.append(
            f'<rect x="{n(x)}" y="{n(y)}" width="{n(width)}" height="{n(height)}" rx="{radius:g}" '
            f'fill="{fill}" stroke="{stroke}"/>'
        )

    def allowed(self, x: float, y: float) -> None:
        """A filled disc: told from a denial by its form too."""
        self._parts.append(
            f'<circle cx="{n(x)}" cy="{n(y)}" r="4.5" fill="{self.colours.allowed}"/>'
        )

    def denied(self, x: float, y: float) -> None:
        for up in (-4, 4):
            self.line(x - 4, y - up, x + 4, y + up, self.colours.denied, width=2.2)

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def picture(file: str, says: str) -> str:
    """In Markdown: GitHub chooses by the reader's colour scheme, docs/conf.py by the page's."""
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{file}-dark.svg">\n'
        f'  <img src="{file}-light.svg" alt={quoteattr(says)}>\n'
        "</picture>"
    )
