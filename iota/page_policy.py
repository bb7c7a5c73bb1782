"""What a page of HTML may load and run: its Content-Security-Policy.

Scripts and styles of public pages are files of ours, or bear the page's nonce. The admin's theme
needs more: Alpine compiles what stands in attributes of its templates, and colours, widths and
charts are styled by attribute. What is no page (JSON, text) runs nothing, and gets no policy, so
that answering a client of an API costs nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from csp.constants import NONCE, NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

ADMIN_PATH = "/admin/"
_EVERYWHERE = {
    "default-src": [NONE],
    "base-uri": [NONE],
    "connect-src": [SELF],
    "font-src": [SELF],
    "form-action": [SELF],
    "frame-ancestors": [NONE],
}
PUBLIC: dict[str, Any] = {
    **_EVERYWHERE,
    "img-src": [SELF],
    "script-src": [SELF, NONCE],
    "style-src": [SELF, NONCE],
}
ADMIN: dict[str, Any] = {
    **_EVERYWHERE,
    "img-src": [SELF, "data:"],
    "script-src": [SELF, UNSAFE_EVAL, NONCE],
    "style-src": [SELF, UNSAFE_INLINE],
}


class PagePolicyMiddleware(CSPMiddleware):
    def __call__(self, request: HttpRequest) -> Any:
        # What both do waits for nothing: Django would send each to a thread under ASGI.
        if self.async_mode:
            return self.__acall__(request)
        self.process_request(request)
        return self.process_response(request, cast(HttpResponseBase, self.get_response(request)))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        answer = cast(Awaitable[HttpResponseBase], self.get_response(request))
        return self.process_response(request, await answer)

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if not response.get("Content-Type", "").startswith("text/html"):
            return response
        if request.path_info.startswith(ADMIN_PATH):
            response._csp_config = ADMIN  # type: ignore[attr-defined]
        return super().process_response(request, response)


def nonce(request: HttpRequest) -> dict[str, Any]:
    """``csp_nonce`` for templates, by the name that Django 6 has for it."""
    return {"csp_nonce": getattr(request, "csp_nonce", "")}
