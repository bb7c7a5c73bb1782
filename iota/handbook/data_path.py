"""The way of a request, and beside it the way of an edit."""

from __future__ import annotations

from .svg import Colours, Drawing

WIDTH, HEIGHT = 720, 372
STEP_W, STEP_H, GAP = 104, 62, 16
STEPS = (
    ("facts", "method, path,", "address, user"),
    ("match", "which limits,", "of thousands"),
    ("identity", "a keyed digest", "of each client"),
    ("check", "all limits in", "one EVALSHA"),
    ("decision", "all charged,", "or none is"),
    ("answer", "headers, or", "429 and when"),
)
"""Title, and two lines; the numbers are those of ``apps/ratelimits/__init__.py``."""


def drawn(colours: Colours) -> str:
    drawing = Drawing(WIDTH, HEIGHT, "The way of a request, and of an edit", colours)
    drawing.text(8, 20, "A request", bold=True, size=14)
    top = 34
    for number, (title, first, second) in enumerate(STEPS):
        x = 8 + number * (STEP_W + GAP)
        here = number == 3
        drawing.box(
            x,
            top,
            STEP_W,
            STEP_H,
            stroke=colours.accent if here else colours.grid,
            fill=colours.panel,
        )
        drawing.text(x + 10, top + 20, f"{number + 1} {title}", bold=True, size=13)
        drawing.text(x + 10, top + 38, first, colours.muted, size=12)
        drawing.text(x + 10, top + 53, second, colours.muted, size=12)
        if number:
            between = [(x - GAP + 2, top + STEP_H / 2), (x - 2, top + STEP_H / 2)]
            drawing.path(between, stroke=colours.muted, width=1.6, arrow=True)
    check_x = 8 + 3 * (STEP_W + GAP) + STEP_W / 2
    redis_top, redis_bottom = 158, 228
    drawing.path(
        [(check_x - 8, top + STEP_H + 3), (check_x - 8, redis_top - 3)],
        stroke=colours.accent,
        arrow=True,
    )
    drawing.path(
        [(check_x + 8, redis_top - 3), (check_x + 8, top + STEP_H + 3)],
        stroke=colours.accent,
        arrow=True,
    )
    drawing.text(check_x + 20, 132, "one trip, 50 ms at most", colours.muted, size=12)
    drawing.text(check_x - 20, 132, "nothing else is asked", colours.muted, size=12, anchor="end")

    drawing.box(
        204, redis_top, 508, redis_bottom - redis_top, stroke=colours.accent, fill=colours.panel
    )
    drawing.text(220, redis_top + 27, "Redis or Valkey", bold=True, size=14)
    drawing.text(
        220,
        redis_top + 50,
        "one key for each identity; the limits, compiled; counts of use",
        colours.muted,
        size=12.5,
    )

    below = 288
    for x, width, title, said in (
        (8, 150, "admin", "staff save a limit"),
        (186, 150, "database", "the source of truth"),
        (364, 160, "background thread", "of every process"),
        (552, 160, "Celery", "watch, clean-up"),
    ):
        drawing.box(x, below, width, 56, stroke=colours.grid, fill=colours.panel)
        drawing.text(x + 12, below + 23, title, bold=True, size=13)
        drawing.text(x + 12, below + 42, said, colours.muted, size=12)
    drawing.text(8, below - 14, "An edit", bold=True, size=14)
    drawing.path(
        [(160, below + 28), (184, below + 28)], stroke=colours.muted, width=1.6, arrow=True
    )
    for x, up, said in (
        (261, True, "after commit"),
        (444, False, "every 250 ms"),
        (632, True, "all the time"),
    ):
        ends = [(x, below - 2), (x, redis_bottom + 3)]
        drawing.path(ends if up else ends[::-1], stroke=colours.muted, width=1.6, arrow=True)
        drawing.text(x + 10, 262, said, colours.muted, size=12)
    drawing.text(
        8,
        below + 76,
        "In force in every process within a second; no request ever waits for it.",
        colours.muted,
        size=12,
    )
    return str(drawing)
