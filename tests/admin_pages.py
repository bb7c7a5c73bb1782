"""Every page of the admin and who may do what on it, a line each: ``tests/test_admin_rights.py``
asks each of them as each of these people.

A new model's pages are one line in MODELS, any other new page is one line in PAGES: ``see`` is the
least right with which its GET is answered, ``do`` the least with which a POST is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Who(IntEnum):
    """From the least rights to the most; whoever has more may all that these may."""

    STRANGER = 0
    STAFF = 1
    """Signed in, without any right."""
    VIEWER = 2
    EDITOR = 3
    PUBLISHER = 4
    SUPERUSER = 5
    NOBODY = 6


STRANGER, STAFF, VIEWER, EDITOR, PUBLISHER, SUPERUSER, NOBODY = Who


@dataclass(frozen=True)
class Page:
    """``get`` and ``post`` are the answers to those who may; 405 is that of a button to GET. ``of``
    names the model whose row the address has, where its name does not; ``signed_in`` are the
    answers to those who are, where they are others."""

    see: Who
    do: Who
    get: int = 200
    post: int = 200
    data: Mapping[str, str] = field(default_factory=dict)
    of: str = ""
    signed_in: tuple[int, int] | None = None
    refused: int = 403


def button(do: Who, *, of: str = "", post: int = 302, **data: str) -> Page:
    """What is only pressed."""
    return Page(see=STAFF, do=do, get=405, post=post, data=data, of=of)


@dataclass(frozen=True)
class Model:
    """``changed`` is the answer to an empty form of a change: 200 where something is missing in it,
    302 where it can be empty. ``shown``: of the page of one row."""

    see: Who
    add: Who = SUPERUSER
    change: Who = SUPERUSER
    delete: Who = SUPERUSER
    changed: int = 200
    shown: int = 200

    def pages(self) -> dict[str, Page]:
        return {
            "changelist": Page(self.see, self.see),
            "add": Page(self.add, self.add),
            "change": Page(self.see, self.change, get=self.shown, post=self.changed),
            "delete": Page(self.delete, self.delete, post=302, data={"post": "yes"}),
            "history": Page(self.see, self.see),
        }


MODELS = {
    # What is not enforced; of what is: apps/ratelimits/tests/test_admin_publishing.py.
    "ratelimits_ratelimit": Model(see=VIEWER, add=EDITOR, change=EDITOR, delete=EDITOR),
    "ratelimits_override": Model(see=VIEWER, add=EDITOR, change=EDITOR, delete=EDITOR),
    "ratelimits_sweeprun": Model(VIEWER, NOBODY, VIEWER, NOBODY, changed=302, shown=302),
    "monitoring_alert": Model(VIEWER, NOBODY, VIEWER, NOBODY, changed=302, shown=302),
    "monitoring_alertrule": Model(VIEWER),
    "monitoring_channel": Model(SUPERUSER),
    "monitoring_diagnosis": Model(VIEWER, NOBODY, VIEWER, NOBODY, changed=302, shown=302),
    "monitoring_sample": Model(VIEWER, NOBODY, NOBODY, NOBODY),
    "monitoring_source": Model(VIEWER, NOBODY, NOBODY, NOBODY),
    "monitoring_silence": Model(VIEWER, delete=NOBODY),
    "benchmarks_annotation": Model(VIEWER),
    # A page and no form: a POST is answered with it.
    "benchmarks_benchmarkrun": Model(VIEWER, NOBODY, VIEWER, NOBODY),
    "benchmarks_loadtest": Model(SUPERUSER, NOBODY, SUPERUSER, NOBODY),
    "benchmarks_machine": Model(VIEWER, NOBODY, SUPERUSER, NOBODY, changed=302),
    "benchmarks_metric": Model(VIEWER, NOBODY, SUPERUSER, NOBODY, changed=302),
    "benchmarks_regression": Model(VIEWER, NOBODY, VIEWER, NOBODY, changed=302, shown=302),
    "django_celery_beat_periodictask": Model(SUPERUSER),
    "django_celery_beat_clockedschedule": Model(SUPERUSER),
    "django_celery_beat_crontabschedule": Model(SUPERUSER),
    "django_celery_beat_intervalschedule": Model(SUPERUSER),
    "django_celery_beat_solarschedule": Model(SUPERUSER),
    "auth_user": Model(SUPERUSER),
    # Editors choose the groups that a limit is about.
    "auth_group": Model(EDITOR),
}

PAGES = {
    "index": Page(STAFF, STAFF),
    "app_list": Page(VIEWER, VIEWER, refused=404),
    "search": Page(STAFF, STAFF),
    "login": Page(STRANGER, STRANGER, signed_in=(302, 200)),
    "logout": Page(STRANGER, STRANGER, get=302, post=302, signed_in=(405, 200)),
    "password_change": Page(STAFF, STAFF),
    "password_change_done": Page(STAFF, STAFF, post=405),
    "autocomplete": Page(NOBODY, STAFF, post=405),
    "jsi18n": Page(STAFF, STAFF, post=405),
    "view_on_site": Page(STAFF, STAFF, get=404, post=404),
    "ratelimits_sentence": button(EDITOR, post=200),
    "ratelimits_edits": Page(VIEWER, VIEWER),
    "ratelimits_explain": Page(VIEWER, VIEWER),
    "ratelimits_identity": Page(VIEWER, VIEWER),
    "ratelimits_ratelimit_usage": Page(VIEWER, VIEWER, of="ratelimits_ratelimit"),
    "ratelimits_life": button(EDITOR, post=204),
    "ratelimits_keeping": button(EDITOR, of="ratelimits_ratelimit", post=200),
    "ratelimits_preview": Page(EDITOR, EDITOR, get=302, of="ratelimits_ratelimit"),
    "ratelimits_preview_add": Page(EDITOR, EDITOR, get=302),
    "ratelimits_ratelimit_export": Page(VIEWER, VIEWER),
    "ratelimits_override_export": Page(VIEWER, VIEWER),
    "ratelimits_ratelimit_import": Page(PUBLISHER, PUBLISHER),
    "ratelimits_override_import": Page(PUBLISHER, PUBLISHER),
    "ratelimits_ratelimit_process_import": button(PUBLISHER),
    "ratelimits_override_process_import": button(PUBLISHER),
    "ratelimits_ratelimit_simple_history": Page(VIEWER, EDITOR, of="ratelimits_ratelimit"),
    "ratelimits_override_simple_history": Page(VIEWER, EDITOR, of="ratelimits_override"),
    "ratelimits_sweep_now": button(PUBLISHER),
    "ratelimits_sweep_stop": button(PUBLISHER, of="ratelimits_sweeprun"),
    "benchmarks_trends": Page(VIEWER, VIEWER),
    "benchmarks_compare": Page(VIEWER, VIEWER),
    "benchmarks_run_now": button(SUPERUSER),
    "benchmarks_again": button(SUPERUSER, of="benchmarks_benchmarkrun"),
    "benchmarks_stop": button(SUPERUSER, of="benchmarks_benchmarkrun"),
    "benchmarks_load_start": button(SUPERUSER),
    "benchmarks_load_stop": button(SUPERUSER, of="benchmarks_loadtest"),
    "benchmarks_decide": button(SUPERUSER, of="benchmarks_regression"),
    "benchmarks_measure": button(SUPERUSER, of="benchmarks_regression"),
    "monitoring_health": Page(VIEWER, VIEWER),
    "monitoring_guide": Page(VIEWER, VIEWER),
    "monitoring_alert_silence": button(SUPERUSER, of="monitoring_alert"),
    "monitoring_silence_end": button(SUPERUSER, of="monitoring_silence"),
    "monitoring_channel_test": button(SUPERUSER, of="monitoring_channel"),
    "monitoring_run_doctor": button(PUBLISHER),
    "auth_user_password_change": Page(SUPERUSER, SUPERUSER, of="auth_user"),
}

EVERY = {
    **{
        f"{model}_{page}": line for model, of in MODELS.items() for page, line in of.pages().items()
    },
    **PAGES,
}
