"""Which file holds what, and which of them are out of date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from . import commands, drawings, endpoints, metrics, models, signals, sizing, tasks, timelines

WHOLE: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/endpoints.md": endpoints.page,
    "reference/metrics.md": metrics.page,
    "reference/models.md": models.page,
    "reference/signals.md": signals.page,
    "reference/tasks.md": tasks.page,
    **drawings.pictures(),
}
"""Files that are made as a whole."""

PARTS: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "overview/algorithms.md": {"requests": timelines.as_table, "visits": timelines.visits_table},
    "overview/scaling.md": {
        "inputs": sizing.inputs_table,
        "sizes": sizing.sizes_table,
        "memory": sizing.memory_table,
    },
}
"""Pages that are written by hand around what is made; each part stands between two comments."""

MADE = "<!-- made by python -m iota.handbook -->\n"


def stale(docs: Path) -> dict[Path, str]:
    """File -> what it should hold, of those that hold something else."""
    wanted = {docs / name: _with_note(make()) for name, make in WHOLE.items()}
    for name, parts in PARTS.items():
        wanted[docs / name] = with_parts((docs / name).read_text(), parts)
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text
    }


def _with_note(text: str) -> str:
    return text if text.startswith("<svg") else text.rstrip("\n") + "\n\n" + MADE


def with_parts(page: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Raises ValueError where the page has no place for a part."""
    for name, make in parts.items():
        begin, end = f"<!-- {name}: made by python -m iota.handbook -->", f"<!-- {name} ends -->"
        if begin not in page or end not in page:
            raise ValueError(f"the page has no {begin} and {end}")
        before, _, rest = page.partition(begin)
        after = rest.partition(end)[2]
        page = f"{before}{begin}\n\n{make().strip()}\n\n{end}{after}"
    return page
