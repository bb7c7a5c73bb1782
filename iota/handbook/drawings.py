"""The algorithms, drawn from what the reference arithmetic decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from . import data_path, timelines
from .svg import SCHEMES, Colours, Drawing, picture

WIDTH, HEIGHT = 600, 254
LEFT, RIGHT, TOP, BOTTOM = 34, 588, 34, 170
ASKED_Y = 194
TICK_S = 2

SAYS = {
    "token_bucket": "Units come back one by one, a quarter of the quota every 2.5 s",
    "fixed_window": "All units come back at once, at each edge of the clock",
    "sliding_window": "The last window's use weighs less and less, as this one goes on",
    "sliding_log": "Each unit comes back a window after it was used",
    "concurrency": "Two slots: a bar is one in use; D never gave its back",
}
FOLDER = "images/drawn"


def x_of(at_s: float) -> float:
    return LEFT + (RIGHT - LEFT) * at_s / timelines.END_S


def y_of(units: float, most: int) -> float:
    return BOTTOM - (BOTTOM - TOP) * units / most


def algorithm(name: str, colours: Colours) -> str:
    curve = timelines.replay(timelines.RATES[name])
    most = timelines.QUOTA
    drawing = Drawing(WIDTH, HEIGHT, f"{name}: {SAYS[name]}", colours)
    drawing.text(LEFT, 16, SAYS[name], size=13.5, bold=True)
    for units in range(most + 1):
        drawing.line(LEFT, y_of(units, most), RIGHT, y_of(units, most), colours.grid)
        drawing.text(LEFT - 8, y_of(units, most) + 4.5, str(units), colours.muted, anchor="end")
    if "window" in name:
        for edge_s in timelines.edges_s()[1:]:
            drawing.line(
                x_of(edge_s), TOP - 8, x_of(edge_s), ASKED_Y + 8, colours.muted, dash="3 4"
            )
    placed = [(x_of(at_s), y_of(free, most)) for at_s, free in timelines.joined(curve.points)]
    area = [(LEFT, BOTTOM), *placed, (RIGHT, BOTTOM)]
    drawing.path(area, fill=colours.accent, opacity=0.16)
    drawing.path(placed, stroke=colours.accent)
    for step in curve.steps:
        mark = drawing.allowed if step.allowed else drawing.denied
        mark(x_of(step.at_s), ASKED_Y)
    _below(drawing)
    return str(drawing)


def concurrency(colours: Colours) -> str:
    drawing = Drawing(WIDTH, HEIGHT, f"concurrency: {SAYS['concurrency']}", colours)
    drawing.text(LEFT, 16, SAYS["concurrency"], size=13.5, bold=True)
    visits = timelines.visits()
    lanes_end_s = [0.0] * timelines.SLOTS.quota
    height = (BOTTOM - TOP) / len(lanes_end_s)
    for lane in range(len(lanes_end_s) + 1):
        drawing.line(LEFT, TOP + lane * height, RIGHT, TOP + lane * height, colours.grid)
    for lane in range(len(lanes_end_s)):
        drawing.text(
            LEFT - 8, TOP + (lane + 0.5) * height + 4.5, str(lane + 1), colours.muted, anchor="end"
        )
    for one in visits:
        mark = drawing.allowed if one.allowed else drawing.denied
        mark(x_of(one.at_s), ASKED_Y)
        if not one.allowed:
            continue
        lane = next(number for number, end_s in enumerate(lanes_end_s) if end_s <= one.at_s)
        lanes_end_s[lane] = one.end_s
        x, y = x_of(one.at_s), TOP + lane * height + 10
        width = x_of(one.end_s) - x - 2
        stroke = colours.accent if one.given_back else colours.denied
        drawing.box(x, y, width, height - 20, stroke=stroke, fill=colours.panel)
        drawing.text(x + 8, y + height / 2 - 5, one.name, bold=True)
        if not one.given_back:
            drawing.text(x + 26, y + height / 2 - 5, "until its lease ends", colours.muted, size=12)
    _below(drawing)
    return str(drawing)


def _below(drawing: Drawing) -> None:
    """The scale of time, and what the marks mean."""
    colours = drawing.colours
    for at_s in range(0, int(timelines.END_S) + 1, TICK_S):
        drawing.text(
            x_of(at_s),
            222,
            f"{at_s} s" if at_s == 0 else str(at_s),
            colours.muted,
            size=12,
            anchor="middle",
        )
    drawing.allowed(LEFT + 5, 242)
    drawing.text(LEFT + 15, 246, "allowed", colours.muted, size=12)
    drawing.denied(LEFT + 83, 242)
    drawing.text(LEFT + 93, 246, "denied", colours.muted, size=12)


def pictures() -> Mapping[str, Callable[[], str]]:
    """File below docs/ -> what makes it."""
    made: dict[str, Callable[[], str]] = {}
    for scheme, colours in SCHEMES.items():
        for name in timelines.RATES:
            made[f"{FOLDER}/{name}-{scheme}.svg"] = partial(algorithm, name, colours)
        made[f"{FOLDER}/concurrency-{scheme}.svg"] = partial(concurrency, colours)
        made[f"{FOLDER}/data-path-{scheme}.svg"] = partial(data_path.drawn, colours)
    return made


def shown(name: str) -> str:
    return picture(f"../{FOLDER}/{name}", f"{name} over {timelines.END_S:g} seconds: {SAYS[name]}")
