"""Middleware that only the admin's pages need: other requests pass it by.

Messages and the history's author cost an eighth of all that a request to an API costs this site,
and under ASGI a thread each.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.messages.middleware import MessageMiddleware
from django.http import HttpRequest
from django.utils.decorators import sync_and_async_middleware
from simple_history.middleware import HistoryRequestMiddleware

from .page_policy import ADMIN_PATH


class AdminMessages(MessageMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(ADMIN_PATH):
            return super().__call__(request)
        return self.get_response(request)


@sync_and_async_middleware
def admin_history(get_response: Any) -> Any:
    with_author = HistoryRequestMiddleware(get_response)

    def middleware(request: HttpRequest) -> Any:
        if request.path_info.startswith(ADMIN_PATH):
            return with_author(request)
        return get_response(request)

    return markcoroutinefunction(middleware) if iscoroutinefunction(get_response) else middleware
