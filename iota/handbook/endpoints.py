"""Every address of ours, from the URL patterns."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver

from .markdown import code, first_paragraph, table

OURS = ("apps.", "iota.")
STOCK = re.compile(r"_(add|change|changelist|delete|history|import|export|process_import)$")
"""Names of the pages that every list of the admin has."""


class Address(NamedTuple):
    path: str
    name: str
    view: Callable[..., Any]
    """As it was written, without decorators."""


HEAD = """\
# Endpoints

## The site
Every path may also answer 429 or 503 for a limit that denies, unless `IOTA_EXEMPT_PATHS` names it
([what a request meets](../overview/failure.md)).
"""


def addresses() -> Iterator[Address]:
    yield from _below("/", get_resolver().url_patterns)


def _below(start: str, patterns: list[Any]) -> Iterator[Address]:
    for one in patterns:
        path = start + re.sub(r"\\Z|\^|\$", "", str(one.pattern))
        if isinstance(one, URLResolver):
            yield from _below(path, one.url_patterns)
        elif isinstance(one, URLPattern):
            view = inspect.unwrap(one.callback)
            yield Address(path, one.name or "", getattr(view, "view_class", view))


def ours() -> tuple[list[Address], list[Address]]:
    """(of the site, of the admin beyond what every list has)."""
    every = {(one.path, one.name): one for one in addresses()}.values()
    found = [one for one in every if one.view.__module__.startswith(OURS)]
    site = [one for one in found if not one.path.startswith("/admin/")]
    inner = [one for one in found if one.path.startswith("/admin/") and not STOCK.search(one.name)]
    return site, inner


def page() -> str:
    site, inner = ours()
    return "\n".join(
        [
            HEAD,
            table(("path", "name", "what it answers"), map(_row, site)),
            "## Lists in the admin",
            "Each has the pages that the admin knows, as far as a user may see them "
            "([who may do what](../guides/permissions.md)): the list, `add/`, `<id>/change/`, "
            "`<id>/delete/` and `<id>/history/`.",
            "",
            table(("path", "what is listed"), _lists()),
            "## Other pages of the admin",
            "For staff who are signed in and may do what the page does.",
            "",
            table(("path", "what it answers"), (_row(one)[::2] for one in inner)),
        ]
    )


def _row(one: Address) -> tuple[str, str, str]:
    return code(one.path), code(one.name), first_paragraph(one.view.__doc__)


def _lists() -> Iterator[tuple[str, str]]:
    for model, shown in sorted(admin.site._registry.items(), key=lambda item: str(item[0]._meta)):
        if type(shown).__module__.startswith("apps."):
            meta = model._meta
            yield code(f"/admin/{meta.app_label}/{meta.model_name}/"), str(meta.verbose_name_plural)
