"""What an import is: all rows of a file or none, checked as the admin's form checks.

A row that changes nothing is not saved: it makes no entry in the history and no new version. What
the file does not have stays as it is; with ``prune``, such limits are switched off.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, cast

import tablib
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from import_export.fields import Field
from import_export.resources import ModelResource
from import_export.results import Error, Result, RowResult

from ..models.entries import REASON_CHARS, EntriesAtOnce
from ..models.published import one_edit
from .changes import Change, Changes, Kind, Refused, Words, compared
from .formats import MISSING, Unreadable
from .widgets import Name, Names, shown, widget_of

Objections = Callable[["Imported"], Sequence[str]]


class WordsField(Field):  # type: ignore[misc]
    """Sets what reads otherwise in a file, and leaves alone what was only written otherwise."""

    def save(self, instance: Any, row: Any, is_m2m: bool = False, **kwargs: Any) -> None:
        cleaned = self.clean(row)
        if self.widget.render(cleaned) == self.export(instance):
            return
        if is_m2m:
            getattr(instance, self.attribute).set(cleaned)
        else:
            setattr(instance, self.attribute, cleaned)


class Imported(Result):  # type: ignore[misc]
    """The library's result, with the changes in words and the rows that they are of.

    ``before``: what the table held, for ``objections`` that compare.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told = Changes()
        self.saved: list[tuple[Change, Any]] = []
        self.before: list[Any] = []

    @property
    def is_refused(self) -> bool:
        return bool(self.has_errors() or self.has_validation_errors())


class Asked(Exception):
    """Nothing was imported: what would be done is not what was agreed to."""


class PublishedResource(ModelResource):  # type: ignore[misc]
    """What limits and overrides have in common."""

    class Meta:
        abstract = True
        clean_model_instances = True
        skip_diff = True
        store_instance = True
        use_transactions = True

    ASKS_FOR: tuple[str, ...] = ()
    """Fields without which a file is of something else."""
    RELATED: tuple[str, ...] = ()

    @classmethod
    def field_from_django_field(cls, field_name: str, django_field: Any, readonly: bool) -> Field:
        return WordsField(
            attribute=field_name, column_name=field_name, widget=widget_of(django_field)
        )

    @classmethod
    def get_result_class(cls) -> type[Imported]:
        return Imported

    @cached_property
    def labels(self) -> dict[str, str]:
        meta = self._meta.model._meta
        return {name: str(meta.get_field(name).verbose_name) for name in self.fields}

    @cached_property
    def unique(self) -> list[str]:
        """Fields that tell one from another: one that stays as it was needs no query."""
        meta = self._meta.model._meta
        return [name for name in self.fields if meta.get_field(name).unique]

    def words(self, instance: Any) -> dict[str, Any]:
        """The row that a file has of it."""
        return {name: field.export(instance) for name, field in self.fields.items()}

    def filter_export(self, queryset: Any, **kwargs: Any) -> list[Any]:
        """Sorted here: databases sort text in different ways."""
        rows = list(queryset)
        models.prefetch_related_objects(rows, *self.RELATED)
        return sorted(rows, key=self.sort_key)

    def sort_key(self, instance: Any) -> Any:
        raise NotImplementedError

    def import_data(
        self,
        dataset: tablib.Dataset,
        dry_run: bool = False,
        raise_errors: bool = False,
        **kwargs: Any,
    ) -> Imported:
        """All rows or none, one version, published once. ``told``: the ``Changes.told`` that was
        agreed to, ``despite``: whether with its objections; where by now it is something else,
        nothing is imported, and the only error is Asked."""
        self._row_of: dict[Any, int] = {}
        self._entries = EntriesAtOnce(self._meta.model)
        for field in self.fields.values():
            if isinstance(field.widget, (Name, Names)):
                field.widget.forget()
        kwargs["use_transactions"] = kwargs["rollback_on_validation_errors"] = True
        with one_edit() as edits:
            result = cast(Imported, super().import_data(dataset, dry_run, raise_errors, **kwargs))
            if dry_run or result.is_refused:
                edits.clear()
        result.told.refused = list(self._refusals(result))
        return result

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        if dataset.headers and set(self.ASKS_FOR).isdisjoint(dataset.headers):
            raise Unreadable(
                f"No row has the field {self.ASKS_FOR[0]!r}: this is no file of "
                f"{self._meta.model._meta.verbose_name_plural}."
            )
        if kwargs.get("prune") and not len(dataset):
            raise Unreadable(
                "The file has no row, so pruning would switch every limit off. Where you mean "
                "that: manage.py ratelimit disable --all."
            )

    def before_import_row(self, row: dict[str, Any], **kwargs: Any) -> None:
        for name in [name for name, value in row.items() if value is MISSING]:
            del row[name]
        errors = {}
        for name in row:
            if name not in self.fields:
                close = difflib.get_close_matches(name, self.fields, 1)
                hint = f" Did you mean {close[0]}?" if close else ""
                errors[shown(name)] = f"There is no such field.{hint}"
        if errors:
            raise ValidationError(errors)

    def get_or_init_instance(self, loader: Any, row: dict[str, Any]) -> tuple[Any, bool]:
        found = self.find(row)
        return (found, False) if found is not None else (self.init_instance(row), True)

    def find(self, row: dict[str, Any]) -> Any:
        """The stored one that the row is about, or None."""
        raise NotImplementedError

    def after_init_instance(self, instance: Any, new: bool, row: Any, **kwargs: Any) -> None:
        if not new and (other := self._row_of.get(instance.pk)):
            raise ValidationError(f"Row {other:,} is about the same: leave one of them.")
        self._was = self.words(instance)
        self._is_checked = False
        self._algorithm = getattr(instance, "algorithm", None)

    def import_instance(self, instance: Any, row: dict[str, Any], **kwargs: Any) -> None:
        """Also of what is saved later, so that a wrong name is a row's error like any other."""
        errors: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name not in row:
                continue
            try:
                if isinstance(field.widget, Names):
                    field.clean(row)
                else:
                    field.save(instance, row)
            except ValueError as error:
                errors[name] = ValidationError(str(error), code="invalid")
        if errors:
            raise ValidationError(errors)

    def skip_row(
        self, instance: Any, original: Any, row: Any, import_validation_errors: Any = None
    ) -> bool:
        if import_validation_errors or (instance.pk is None):
            return False
        becomes = self._becomes(instance, row)
        if becomes == self._was:
            return True
        try:
            # It puts some values right, and what is left may be what there was.
            instance.full_clean(
                validate_unique=any(becomes[name] != self._was[name] for name in self.unique)
            )
        except ValidationError:
            return False
        self._is_checked = True
        return self._becomes(instance, row) == self._was

    def _becomes(self, instance: Any, row: dict[str, Any]) -> Words:
        later = {
            name: field.widget.render(field.clean(row))
            for name, field in self.fields.items()
            if isinstance(field.widget, Names) and name in row
        }
        return {**self.words(instance), **later}

    def validate_instance(self, instance: Any, *args: Any, **kwargs: Any) -> None:
        if not self._is_checked:
            super().validate_instance(instance, *args, **kwargs)

    def before_save_instance(self, instance: Any, row: Any, **kwargs: Any) -> None:
        self._sign(instance, **kwargs)

    def do_instance_save(self, instance: Any, is_create: bool) -> None:
        self._entries.save(instance)

    def _sign(self, instance: Any, note: str = "", **kwargs: Any) -> None:
        """Who and why, for the history."""
        reason = f"imported from {kwargs.get('file_name') or 'a file'}{note}"
        instance._change_reason = reason[:REASON_CHARS]
        if kwargs.get("user") is not None:
            instance._history_user = kwargs["user"]

    def after_import_row(self, row: Any, row_result: RowResult, **kwargs: Any) -> None:
        self._row_of[row_result.instance.pk] = kwargs["row_number"]
        if row_result.import_type == RowResult.IMPORT_TYPE_SKIP:
            return
        models.prefetch_related_objects([row_result.instance], *self.RELATED)
        new = row_result.import_type == RowResult.IMPORT_TYPE_NEW
        kind = Kind.NEW if new else Kind.CHANGED
        row_result.change = self._change(kind, row_result.instance, self._was, kwargs["row_number"])

    def _change(self, kind: Kind, instance: Any, was: Words, number: int | None = None) -> Change:
        found = compared(was, self.words(instance), self.labels)
        # What is new says its name once.
        fields = tuple(one for one in found if kind is not Kind.NEW or one.name != "name")
        return Change(kind, self.name_of(instance), number, fields)

    def name_of(self, instance: Any) -> str:
        return str(instance)

    def after_import(self, dataset: tablib.Dataset, result: Imported, **kwargs: Any) -> None:
        result.saved = [(row.change, row.instance) for row in result.rows if hasattr(row, "change")]
        result.told.same = result.totals[RowResult.IMPORT_TYPE_SKIP]
        if kwargs.get("prune") and not result.is_refused:
            result.saved += self._prune(**kwargs)
        result.told.changes = [change for change, _ in result.saved]
        objections: Objections | None = kwargs.get("objections")
        if result.is_refused:
            return
        if objections is not None:
            result.told.objections = tuple(objections(result))
        agreed = kwargs.get("told")
        if agreed is not None:
            unheard = result.told.objections and not kwargs.get("despite")
            if unheard or agreed != result.told.told:
                raise Asked
        self._entries.write()

    def _prune(self, **kwargs: Any) -> list[tuple[Change, Any]]:
        raise NotImplementedError

    def _refusals(self, result: Imported) -> Iterable[Refused]:
        if result.base_errors:
            # Of the whole file: its rows are then wrong for that reason alone.
            wrong = [error.error for error in result.base_errors]
            yield from (Refused(str(one)) for one in wrong if not isinstance(one, Asked))
            return
        for failed in result.error_rows:
            yield from (self._refused(error, failed.number) for error in failed.errors)
        for row in result.invalid_rows:
            name = self._named(row.values)
            for field, texts in row.error_dict.items():
                where = "" if field == NON_FIELD_ERRORS else field
                for text in texts:
                    yield Refused(text, row.number, name, where)

    def _refused(self, error: Error, number: int) -> Refused:
        return Refused(f"{type(error.error).__name__}: {error.error}", number)

    def _named(self, values: Sequence[Any]) -> str:
        """Of a row that was refused, as far as it says."""
        named = dict(zip(self.fields, values, strict=False)).get("name")
        return named if isinstance(named, str) and len(named) <= 64 and named != "---" else ""
