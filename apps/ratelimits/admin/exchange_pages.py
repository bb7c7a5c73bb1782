"""The pages of import and export: a file, what it would do field by field, and the doing.

The file that is looked at travels in the page that shows what it would do, signed: it is what is
imported then, whichever server answers, and nothing is left behind where nobody confirms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.apps import apps
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST
from import_export.admin import ImportExportMixin
from import_export.tmp_storages import BaseStorage

from .. import rights
from ..exchange.changes import Change, Changes, Kind
from ..exchange.formats import FORMATS, Rows, Unreadable, format_of
from ..exchange.importing import Imported
from ..exchange.resources import LimitResource, OverrideResource
from ..models import Override
from .base import CheckboxInput
from .lockout import LockOut

if apps.is_installed("unfold.contrib.import_export"):
    from unfold.contrib.import_export.forms import ExportForm, ImportForm
else:
    from import_export.forms import ExportForm, ImportForm

MAX_UPLOAD_BYTES = 1_000_000
"""So that it fits, signed, below Django's DATA_UPLOAD_MAX_MEMORY_SIZE as it comes."""
SALT = "ratelimits.exchange"
VALID_S = 3_600
WAY_BACK = (
    "The way back is a command on the server, manage.py ratelimit disable, or a restart with "
    "IOTA_DISABLED=1."
)


class InThePage(BaseStorage):  # type: ignore[misc]
    """Where the library keeps an upload until it is confirmed: its name is the file."""

    def save(self, data: bytes) -> None:
        self.name = signing.dumps(data.decode("latin-1"), salt=SALT, compress=True)

    def read(self) -> bytes:
        """Raises signing.BadSignature where it is not ours, or older than an hour."""
        return str(signing.loads(self.name, salt=SALT, max_age=VALID_S)).encode("latin-1")

    def remove(self) -> None:
        pass


class FileForm(ImportForm):  # type: ignore[misc]
    """A file says itself what it is: nobody chooses a format."""

    def __init__(self, formats: Any, resources: Any, **kwargs: Any) -> None:
        super().__init__(formats, resources, **kwargs)
        self.fields["format"].required = False
        self.fields["format"].widget = forms.HiddenInput()
        self.fields["import_file"].label = "File"
        self.fields["import_file"].help_text = (
            f"JSON, YAML or CSV, up to {MAX_UPLOAD_BYTES // 1_000:,} kB. What it would change is "
            "shown first, and nothing is changed before you say so."
        )
        self.fields["import_file"].widget.attrs["accept"] = ",".join(
            f".{extension}" for known in FORMATS for extension in known.EXTENSIONS
        )

    @property
    def media(self) -> forms.Media:
        return forms.Media()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        file = cleaned.get("import_file")
        if file is None:
            return cleaned
        if file.size > MAX_UPLOAD_BYTES:
            self.add_error(
                "import_file",
                f"The file has {file.size:,} bytes, this page takes {MAX_UPLOAD_BYTES:,}: split "
                "it, or use manage.py ratelimit import on the server.",
            )
            return cleaned
        try:
            chosen = format_of(file.name, file.read())
            file.seek(0)
            cleaned["format"] = str(FORMATS.index(chosen))
        except Unreadable as error:
            self.add_error("import_file", str(error))
        return cleaned


class PruneForm(FileForm):
    prune = forms.BooleanField(
        label="Switch off limits that are not in the file",
        required=False,
        widget=CheckboxInput(),
        help_text="Without it they stay as they are. None is ever deleted.",
    )

    field_order = ("import_file", "prune", "format", "resource")


class ConfirmForm(forms.Form):
    """``told``: what was shown; where it would be something else by now, it is shown again."""

    import_file_name = forms.CharField(widget=forms.HiddenInput)
    original_file_name = forms.CharField(widget=forms.HiddenInput, max_length=255)
    format = forms.TypedChoiceField(
        widget=forms.HiddenInput,
        choices=[(number, number) for number in range(len(FORMATS))],
        coerce=int,
    )
    resource = forms.CharField(widget=forms.HiddenInput, required=False)
    prune = forms.BooleanField(widget=forms.HiddenInput, required=False)
    told = forms.CharField(widget=forms.HiddenInput, max_length=64)
    CARRIED = ("import_file_name", "original_file_name", "format")
    lock_out = forms.BooleanField(
        label="Import it all the same", required=False, help_text=WAY_BACK, widget=CheckboxInput()
    )

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if not self.errors:
            try:
                data = InThePage(name=cleaned["import_file_name"]).read()
                cleaned["dataset"] = FORMATS[cleaned["format"]]().create_dataset(data)
            except (signing.BadSignature, Unreadable):
                raise forms.ValidationError(
                    "The page was older than an hour, or not as it was sent: choose the file again."
                ) from None
        return cleaned


class Exchanges(ImportExportMixin):  # type: ignore[misc]
    """For the admin of a model; subclasses say what speaks against an import."""

    import_template_name = "ratelimits/import.html"
    import_form_class = FileForm
    export_form_class = ExportForm
    confirm_form_class = ConfirmForm
    tmp_storage_class = InThePage
    from_encoding = None
    to_encoding = "utf-8"

    def is_skip_import_confirm_enabled(self) -> bool:
        return False  # Whatever the site's settings say of other pages.

    def has_import_permission(self, request: HttpRequest) -> bool:
        """A publisher's: a file may enforce what it brings."""
        may_edit = self.has_add_permission(request) and self.has_change_permission(request)
        return bool(may_edit and rights.may_publish(request.user))

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_view_permission(request))

    def get_import_formats(self) -> list[type[Rows]]:
        return list(FORMATS)

    def get_export_formats(self) -> list[type[Rows]]:
        return list(FORMATS)

    def get_export_filename(self, request: HttpRequest, queryset: Any, file_format: Any) -> str:
        """Always the same: it is a file's name in version control."""
        return f"{self.opts.verbose_name_plural.replace(' ', '-')}.{file_format.get_extension()}"

    def init_request_context_data(self, request: HttpRequest, form: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().init_request_context_data(request, form)
        # All fields, always: their names would be half the page.
        return {**context, "title": f"Export {self.opts.verbose_name_plural}", "fields_list": []}

    def objections(self, request: HttpRequest, result: Imported) -> Sequence[str]:
        """What speaks against it. Within the import's transaction: the tables are as after it."""
        raise NotImplementedError

    def get_import_data_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        request, form = kwargs["request"], kwargs["form"]
        asked = form.cleaned_data
        return {
            "prune": asked.get("prune", False),
            "told": asked.get("told"),
            "despite": asked.get("lock_out"),
            "objections": lambda result: self.objections(request, result),
        }

    def add_data_read_fail_error_to_form(self, form: Any, e: Exception) -> None:
        if not isinstance(e, Unreadable):
            raise e
        form.add_error("import_file", str(e))

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_confirm_form_initial(request, import_form)
        return {**initial, "prune": import_form.cleaned_data.get("prune", False)}

    def import_action(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """The file, and then what it would do."""
        response: TemplateResponse = super().import_action(request, **kwargs)
        context = response.context_data or {}
        result: Imported | None = context.pop("result", None)
        context["title"] = f"Import {self.opts.verbose_name_plural}"
        context["fields_list"] = []
        if result is not None:
            form = context.pop("confirm_form", None)
            name = context["form"].cleaned_data["import_file"].name
            context.update(self._shown(result.told, form, name))
        return response

    def _shown(self, told: Changes, form: ConfirmForm | None, name: str) -> dict[str, Any]:
        if form is None or not told:
            return {"told": told, "file_name": name}
        form.initial["told"] = told.told
        if not told.objections:
            form.fields["lock_out"].widget = forms.HiddenInput()
        return {"told": told, "file_name": name, "confirm": form}

    @method_decorator(require_POST)
    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """What was shown, if it is that still; else it is shown once more."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        form = ConfirmForm(request.POST)
        if not form.is_valid():
            for texts in form.errors.values():
                messages.error(request, " ".join(map(str, texts)))
            name = f"admin:{self.opts.app_label}_{self.opts.model_name}_import"
            return HttpResponseRedirect(reverse(name, current_app=self.admin_site.name))
        asked = form.cleaned_data
        with transaction.atomic():
            result: Imported = self.process_dataset(asked["dataset"], form, request)
            done = None if result.is_refused else self.process_result(result, request)
        if done is not None:
            return self._published(request, done)  # type: ignore[no-any-return]
        return self._asked_again(request, asked, result)

    def _asked_again(
        self, request: HttpRequest, asked: dict[str, Any], result: Imported
    ) -> HttpResponseBase:
        if result.told.told != asked["told"]:
            text = "Limits or overrides were edited meanwhile: please look once more."
            self.message_user(request, text, messages.WARNING)
        again = None
        if not result.told.refused:
            posted = {name: request.POST[name] for name in ConfirmForm.CARRIED}
            again = ConfirmForm(initial={**posted, "prune": asked["prune"]})
        classes = self.get_import_resource_classes(request)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Import {self.opts.verbose_name_plural}",
            "opts": self.opts,
            "media": self.media,
            "form": self.get_import_form_class(request)(self.get_import_formats(), classes),
            **self._shown(result.told, again, asked["original_file_name"]),
            "unticked": result.told.told == asked["told"],
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, [self.import_template_name], context)

    def generate_log_entries(self, result: Imported, request: HttpRequest) -> None:
        name = request.POST["original_file_name"]
        kind = get_content_type_for_model(self.model)
        LogEntry.objects.bulk_create(
            LogEntry(
                user_id=cast(int, request.user.pk),
                content_type=kind,
                object_id=row.pk,
                object_repr=str(row)[:200],
                action_flag=ADDITION if change.kind is Kind.NEW else CHANGE,
                change_message=_message(change, name),
            )
            for change, row in result.saved
        )

    def add_success_message(self, result: Imported, request: HttpRequest) -> None:
        name = request.POST["original_file_name"]
        self.message_user(request, f"Imported from {name}: {result.told.summary}.")


def _message(change: Change, name: str) -> str:
    if change.kind is Kind.NEW:
        return f"Imported from {name}."
    fields = ", ".join(one.label for one in change.fields)
    why = ": not in it" if change.kind is Kind.OFF else ""
    return f"Changed {fields}; imported from {name}{why}."


class ExchangesLimits(Exchanges):
    resource_classes = [LimitResource]
    import_form_class = PruneForm

    def objections(self, request: HttpRequest, result: Imported) -> Sequence[str]:
        return LockOut(request).reasons_of_limits(limit for _, limit in result.saved)


class ExchangesOverrides(Exchanges):
    resource_classes = [OverrideResource]

    def objections(self, request: HttpRequest, result: Imported) -> Sequence[str]:
        return LockOut(request).reasons_of_overrides(
            result.before, list(Override.objects.all()), [row for _, row in result.saved]
        )
