"""Every model of ours: its fields as staff meet them."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db.models import Field, ForeignKey, ManyToManyField, Model
from django.db.models.fields import NOT_PROVIDED

from .markdown import code, first_paragraph, table

APPS = ("ratelimits", "benchmarks", "monitoring")

HEAD = """\
# Models

What the database holds, app by app. `RateLimit`, `Override` and `AlertRule` are what staff edit;
each edit of a limit or an override is kept in a table of its history
([what was changed](../guides/history.md)), with the same fields.
"""


def models() -> Iterator[type[Model]]:
    """Without those that keep the history of another, which have its fields."""
    for label in APPS:
        for model in apps.get_app_config(label).get_models():
            if not model.__name__.startswith("Historical"):
                yield model


def page() -> str:
    parts = [
        HEAD,
    ]
    app = ""
    for model in models():
        if model._meta.app_label != app:
            app = model._meta.app_label
            parts.append(f"## {apps.get_app_config(app).verbose_name}: `apps.{app}.models`")
        doc = model.__doc__ or ""
        told = "" if doc.startswith(f"{model.__name__}(") else first_paragraph(doc)
        parts += [f"### {model.__name__}", told, _fields(model)]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _fields(model: type[Model]) -> str:
    own = [one for one in model._meta.get_fields() if isinstance(one, Field) and one.editable]
    rest = [one for one in model._meta.get_fields() if isinstance(one, Field) and not one.editable]
    kept = [one for one in (*own, *rest) if not one.primary_key or one.help_text]
    return table(
        ("field", "kind", "default", "what it says"),
        [(code(one.name), _kind(one), _default(one), _says(one)) for one in kept],
    )


def _kind(field: Field) -> str:  # type: ignore[type-arg]
    kind = type(field).__name__.removesuffix("Field")
    if isinstance(field, ForeignKey | ManyToManyField):
        kind = f"{kind} to {field.related_model.__name__}"
    elif field.max_length and not field.choices:
        kind = f"{kind}, {field.max_length:,} at most"
    return kind + (", or nothing" if field.null else "")


def _default(field: Field) -> str:  # type: ignore[type-arg]
    default = field.default
    if default is NOT_PROVIDED or default in ("", None):
        return ""
    if callable(default):
        return "now" if default.__name__ == "now" else code(f"{default.__name__}()")
    return code(str(getattr(default, "value", default)))


def _says(field: Field) -> str:  # type: ignore[type-arg]
    said = str(field.help_text or "")
    if not said and str(field.verbose_name) != field.name.replace("_", " "):
        said = f"{str(field.verbose_name)[:1].upper()}{str(field.verbose_name)[1:]}."
    values = ", ".join(code(str(value)) if value else "nothing" for value, _ in field.flatchoices)
    return f"{said} One of {values}.".strip() if values else said
