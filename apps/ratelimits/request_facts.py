"""A Django request, and its user, as what limits may know of them."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from . import conf
from .policy.client_ip import client_address
from .policy.facts import RequestFacts, UserFacts


def request_facts(
    request: HttpRequest,
    config: conf.RateLimitConfig,
    *,
    with_route: bool = False,
    with_host: bool = True,
    address_of: Callable[[str, str], str] | None = None,
) -> RequestFacts:
    """What limits may know of a request; the path is what the URL resolver sees. Route and host
    are looked up only where one of the limits asks for them. ``address_of``: what finds the
    address, where it is kept from one request to the next (``client_ip.remembering``)."""
    meta = request.META
    peer, forwarded_for = meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", "")
    route, arguments = _route(request) if with_route else ("", ())
    return RequestFacts(
        method=request.method or "",
        path=request.path_info,
        address=address_of(peer, forwarded_for)
        if address_of
        else client_address(peer, forwarded_for, config.trusted_proxies, config.ipv6_prefix),
        host=_host(request) if with_host else "",
        route=route,
        arguments=arguments,
    )


def user_facts(user: AbstractUser) -> UserFacts:
    """Of a signed-in user, read anew: for pages; the middleware remembers groups for a while."""
    groups = frozenset(str(pk) for pk in user.groups.values_list("pk", flat=True))
    return UserFacts(str(user.pk), user.is_staff, groups)


def _host(request: HttpRequest) -> str:
    try:
        host = request.get_host().rpartition("@")[2].lower()
    except DisallowedHost:
        return ""  # Django answers 400 further on; the limits without a host count it.
    return host if host.startswith("[") else host.partition(":")[0]


def _route(request: HttpRequest) -> tuple[str, tuple[tuple[str, str], ...]]:
    try:
        match = resolve(request.path_info, getattr(request, "urlconf", None))
    except Resolver404:
        return "", ()
    return match.view_name, tuple((name, str(value)) for name, value in match.kwargs.items())
