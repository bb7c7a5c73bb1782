"""What a button on a page of the admin does, and where it leads: for the pages of every app."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme


def attempt(request: HttpRequest, work: Callable[[], object], success: str) -> None:
    """What cannot be done is said on the next page, in the words of whoever refused."""
    try:
        work()
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, success)


def back(request: HttpRequest, default: str) -> HttpResponse:
    """To the page of the button, where that is one of ours."""
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return HttpResponseRedirect(wanted if ours else default)
